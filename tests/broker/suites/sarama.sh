# sarama's functional tests, as its module has them, one process for each. They want toxiproxy between them and five brokers; all
# five of its proxies lead to the one broker here, so it has to advertise the first of them: 127.0.0.1:29091.
wants=(auto.create.topics.enable=false) advertise=127.0.0.1:29091
sarama=v1.61.1 toxiproxy=v2.5.0
source=$cache/sarama-$sarama-$(sha256sum "$here/sarama.sh" | cut -c 1-12)

prepare() {
  command -v go > /dev/null && install curl curl || return
  if [ ! -x "$source/sarama.test" ]; then
    local module
    module=$(cd "$here/../clients/go" && go mod download -json "github.com/IBM/sarama@$sarama" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p') || return
    rm -rf "$source" && cp -r "$module" "$source" && chmod -R u+w "$source" || return
    # One node has one replica of everything.
    sed -i 's/ReplicationFactor: 3,/ReplicationFactor: 1,/' "$source/functional_test.go"
    # Kafka names a leader before that one takes messages: AFTER_TOPICS=3s gives it the time.
    sed -i '/timed out waiting for test topics to be created/,/return nil/ s/\treturn nil/\tif pause, err := time.ParseDuration(os.Getenv("AFTER_TOPICS")); err == nil {\n\t\ttime.Sleep(pause)\n\t}\n\treturn nil/' \
      "$source/functional_test.go" || return
    # sarama-docker stands for the container that the tests with Java's tools want.
    sed -i 's/if FunctionalTestEnv.UsingExisting {/if false {/' "$source/functional_test.go"
    (cd "$source" && CGO_ENABLED=0 go test -c -tags functional -o sarama.test .) || return
  fi
  [ -x "$cache/bin/server" ] || GOBIN=$cache/bin CGO_ENABLED=0 go install "github.com/Shopify/toxiproxy/v2/cmd/server@$toxiproxy" || return
  "$cache/bin/server" -host 127.0.0.1 -port 8474 > "$logs/toxiproxy.log" 2>&1 &
  trap "kill $!" EXIT
  local n name
  curl -sf --retry 20 --retry-connrefused --retry-delay 1 http://127.0.0.1:8474/version > /dev/null || return
  for n in 1 2 3 4 5; do
    curl -sf -o /dev/null -d "{\"name\": \"kafka$n\", \"listen\": \"127.0.0.1:$((29090 + n))\", \"upstream\": \"$address\", \"enabled\": true}" \
      http://127.0.0.1:8474/proxies || return
  done
  for name in docker kafka-console-producer.sh kafka-console-consumer.sh kafka-verifiable-consumer.sh; do
    ln -sf "$here/sarama-docker" "$cache/bin/$name"
  done
  KAFKA_LIBS=$("$here/../../kafka/get") || return
  PATH=$cache/bin:$PATH
  export TOXIPROXY_ADDR=http://127.0.0.1:8474 KAFKA_VERSION=4.3.0 KAFKA_LIBS ADDRESS=$address
}

# Those that want several brokers, or a cluster of sarama's own, are left out.
tests() {
  (cd "$source" && grep -l '^//go:build functional' ./*_test.go | xargs grep -ho '^func Test[A-Za-z0-9_]*') | sed 's/^func //' | sort -u |
    grep -Ev '^TestMain$|FetchFollowerFailover|AlterPartitionReassignments|DescribeLogDirs|AdminListConsumerGroupOffsets$|TxnProduceWithBrokerFailure|ReadOnlyAndAll'
}

run_test() {
  cd "$source" && timeout 180 ./sarama.test -test.run "^$1\$" -test.v | tee "$logs/out" || return
  ! grep -q "^--- SKIP: $1 " "$logs/out" || return 77
}
