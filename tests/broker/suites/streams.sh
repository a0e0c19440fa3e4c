# The smoke test of Kafka Streams, from its test jar: a driver produces numbers for 90 seconds and checks what becomes of them, while
# three instances of an application follow one another. In the cases that end in "crash" each is killed, else it ends in order.
version=4.3.0
libs=$cache/kafka-streams-$version

prepare() {
  install mvn maven || return
  if [ ! -f "$libs/.complete" ]; then
    mkdir -p "$libs" && cat > "$libs/pom.xml" << POM || return
<project><modelVersion>4.0.0</modelVersion><groupId>duramen</groupId><artifactId>streams</artifactId><version>1</version>
<dependencies>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-streams</artifactId><version>$version</version></dependency>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-streams</artifactId><version>$version</version><classifier>test</classifier></dependency>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-clients</artifactId><version>$version</version><classifier>test</classifier></dependency>
<dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
</dependencies></project>
POM
    mvn -q -B -f "$libs/pom.xml" dependency:copy-dependencies -DoutputDirectory="$libs" >&2 && touch "$libs/.complete" || return
  fi
}

smoke=org.apache.kafka.streams.tests.StreamsSmokeTest
java=(java -Xmx500m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dorg.slf4j.simpleLogger.defaultLogLevel="${LEVEL:-warn}"
  -cp "$libs/*")

tests() { echo at_least_once at_least_once_crash exactly_once_v2 exactly_once_v2_crash; }

run_test() {
  work=$(mktemp -d) running=
  trap 'kill -9 $running 2> /dev/null; rm -rf "$work"' EXIT
  local guarantee=${1%_crash} signal=TERM n driver
  [ "$guarantee" = "$1" ] || signal=KILL
  cat > "$work/properties" << PROPERTIES
bootstrap.servers=$address
application.id=smoke-$1-$$
state.dir=$work/state
processing.guarantee=$guarantee
num.stream.threads=3
replication.factor=1
commit.interval.ms=1000
buffered.records.per.partition=100
acceptable.recovery.lag=9223372036854775807
auto.offset.reset=earliest
session.timeout.ms=10000
acks=all
PROPERTIES
  timeout 60 "${java[@]}" "$here/StreamsTopics.java" "$address" || return
  for n in 1 2 3; do
    "${java[@]}" "$smoke" "$work/properties" process > "$work/application-$n" 2>&1 &
    local application=$!
    running="$running $application"
    wait_for 'REBALANCING -> RUNNING' "$work/application-$n" 120 || return
    if [ $n = 1 ]; then
      "${java[@]}" "$smoke" "$work/properties" run > "$work/driver" 2>&1 &
      driver=$!
      running="$running $driver"
    fi
    wait_for processed "$work/application-$n" 60 || return
    # The driver is to be at it still: otherwise this proves nothing.
    ! grep -q 'Result Verification' "$work/driver" || { echo "all was done before application $n"; return 1; }
    [ $n = 3 ] || { kill -$signal $application; wait $application; }
  done
  wait $driver
  cat "$work/driver"
  kill -TERM $application
  wait $application
  cat "$work"/application-* | grep -E 'SMOKE-TEST-CLIENT|FATAL' | tail -n 20
  ! grep -q SMOKE-TEST-CLIENT-EXCEPTION "$work"/application-* || return
  # Whoever is killed and promises no more than "at least once" may do things twice.
  grep -q '^SUCCESS' "$work/driver" || { [ "$1" = at_least_once_crash ] && grep -q '^PROCESSED-MORE-THAN-GENERATED' "$work/driver"; }
}

# wait_for TEXT FILE SECONDS: until the file has the text.
wait_for() {
  local _
  for _ in $(seq $((10 * $3))); do
    ! grep -q -- "$1" "$2" || return 0
    sleep 0.1
  done
  echo "no \"$1\" after $3 seconds:" && tail -n 50 "$2"
  return 1
}
