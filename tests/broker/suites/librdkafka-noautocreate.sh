# Those of librdkafka's tests that want a broker which creates no topics by itself.
. "$here/librdkafka.sh"
scenario=noautocreate
wants+=(auto.create.topics.enable=false)
