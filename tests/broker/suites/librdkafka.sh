# librdkafka's own tests that want a broker, as its sources have them, which a crate carries; one process for each. 0081 and 0113
# consist of many, so that their sub-tests count singly. All run in full: librdkafka's quick mode leaves out most of the sub-tests.
# PATIENCE times as long as they say (default: 2) do they wait, for a machine with few cores.
# Left out: what needs no broker; what is about TLS, SASL and ACLs (0097, 0115, 0119, 0126, 0135, 0142, and five sub-tests of 0081);
# 0101, which wants several brokers in racks; 0139 and 0150, which bring brokers of their own; and what librdkafka calls a known issue.
crate=rdkafka-sys version=4.10.0+2.12.1
source=$cache/librdkafka-${version#*+}
scenario=default
left_out='^(0097|0101|0115|0119|0126|0135|0139|0142|0150)$'
# l_unsubscribe of 0113 counts on two consumers that come to one generation.
wants=(num.partitions=4 group.initial.rebalance.delay.ms=1000)

prepare() {
  install gcc build-essential && install javac default-jdk-headless || return
  [ -d /usr/include/rapidjson ] || { apt-get update -qq && apt-get install -y -qq rapidjson-dev libssl-dev zlib1g-dev; } >&2 || return
  if [ ! -x "$source/tests/test-runner" ]; then
    get_sources && (cd "$source" && ./configure --disable-gssapi --disable-curl && make -j2 libs &&
      sed -i s/-O2/-O0/ Makefile.config && make -C tests -j2 build) >&2 || return
  fi
  kafka_programs || return
  printf '%s\n' "bootstrap.servers=$address" "test.timeout.multiplier=${PATIENCE:-2}" > "$logs/test.conf"
  export RDKAFKA_TEST_CONF=$logs/test.conf TEST_KAFKA_VERSION=${KAFKA_VERSION:-4.3.0} LD_LIBRARY_PATH=$source/src:$source/src-cpp
  export KAFKA_PATH=$source/kafka BROKERS=$address
}

# What the tests call of Kafka's distribution: a tool, and Java for clients of their own.
kafka_programs() {
  local libs java
  libs=$("$here/../../kafka/get") || return
  java="java -Xmx200m -XX:TieredStopAtLevel=1 -Dlog4j2.configurationFile=$here/../../kafka/log4j2.yaml"
  mkdir -p "$source/kafka/bin" && ln -sfn "$libs" "$source/kafka/libs" && chmod +x "$source/tests/java/run-class.sh" || return
  printf '#!/bin/sh\nexec %s -cp "$CLASSPATH:%s/*" "$@"\n' "$java" "$libs" > "$source/kafka/bin/kafka-run-class.sh"
  printf '#!/bin/sh\nexec "${0%%/*}/kafka-run-class.sh" org.apache.kafka.tools.TopicCommand "$@"\n' > "$source/kafka/bin/kafka-topics.sh"
  chmod +x "$source"/kafka/bin/*
}

get_sources() {
  local project=$source.crate
  rm -rf "$source" "$project" && mkdir -p "$project" && touch "$project/lib.rs" || return
  printf '%s\n' '[package]' 'name = "sources"' 'edition = "2021"' '[lib]' 'path = "lib.rs"' '[dependencies]' "$crate = \"=${version%+*}\"" \
    > "$project/Cargo.toml"
  (cd "$project" && cargo vendor -q) > /dev/null && mv "$project/vendor/$crate/librdkafka" "$source" && rm -rf "$project" || return
  chmod +x "$source/configure" "$source/lds-gen.py" || return
  (adapt)
}

# One node without ACLs: one replica of everything, and nothing is forbidden to anybody. Kafka takes segments below 1 MiB by the name
# that begins with "internal" only, since 4.0.
adapt() {
  cd "$source/tests" || return
  sed -i -E 's/(create_topic(_wait_exists)?\(.*, )3(, 5000\);|\);)/\11\3/' 0098-consumer-txn.cpp 0103-transactions.c \
    0107-topic_recreate.c 0111-delay_create_topics.cpp &&
    sed -i -E 's/(bool has_acl_cli = )/\1false \&\& /' 0109-auto_create_topics.cpp &&
    sed -i -E 's/([ "])segment\.bytes(=10000|", "20000)/\1internal.segment.bytes\2/' 0077-compaction.c 0129-fetch_aborted_msgs.c
}

# tests/test.c has a table of the tests: an entry may go over several lines, until its brackets are closed.
tests() {
  awk -v scenario="$scenario" '
    /^ *_TEST\(/ { entry = ""; depth = 0; within = 1 }
    within {
      entry = entry $0
      depth += gsub(/\(/, "(") - gsub(/\)/, ")")
      if (depth > 0) next
      within = 0
      if (entry ~ /LOCAL|KNOWN_ISSUE[ ,|)]|MANUAL/) next
      is_default = entry !~ /\.scenario/ || entry ~ /"default/
      if (is_default != (scenario == "default")) next
      match(entry, /[0-9][0-9][0-9][0-9]/)
      print substr(entry, RSTART, 4)
    }' "$source/tests/test.c" | sort -u | grep -Ev "$left_out" | while read -r number; do
    case $number in
      0081) sub_tests "$source/tests/0081-admin.c" none 0081 | grep -Ev 'Acls|Scram|authorized_ops' ;;
      0113) sub_tests "$source/tests/0113-cooperative_rebalance.cpp" main_0113_cooperative_rebalance_local 0113 ;;
      *) echo "$number" ;;
    esac
  done
}

# sub_tests FILE LOCAL NUMBER: the functions of the file that are sub-tests, but for those that the function LOCAL calls.
sub_tests() {
  awk -v within="$2" -v number="$3" '
    /^((static )?(void|int) )?[A-Za-z0-9_]+ *\(/ { name = $0; sub(/ *\(.*/, "", name); sub(/.* /, "", name) }
    /^ *SUB_TEST(_QUICK|0)?\(/ { if (!seen[name]++) names[++n] = name }
    name == within && match($0, /[a-z][a-z0-9_]+\(/) { local[substr($0, RSTART, RLENGTH - 1)] = 1 }
    END { for (i = 1; i <= n; i++) if (!(names[i] in local)) print number "/" names[i] }' "$1"
}

run_test() {
  cd "$source/tests" || return
  local number=${1%%/*} part=${1#*/} status
  [ "$part" = "$number" ] || export SUBTESTS=$part:
  TESTS=$number timeout 600 ./test-runner -p1 -L -s "$scenario" > "$logs/out" 2>&1
  status=$?
  cat "$logs/out"
  [ $status = 0 ] || return 1
  grep -q " ${number}_.* PASSED " "$logs/out" && [[ $part = "$number" || $(grep -c "$part:.*PASS" "$logs/out") -gt 0 ]] || return 77
}
