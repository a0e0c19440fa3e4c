# Kafka's own command line tools, as clients/java/tools has them: a test is a case.
prepare() { KAFKA_LIBS=$("$here/../../kafka/get") && export KAFKA_LIBS; }
tests() { "$here/../clients/java/tools" --list; }
run_test() { "$here/../clients/java/tools" "$address" "$1"; }
