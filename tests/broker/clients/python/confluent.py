"""Produce, consume, groups, transactions, headers, timestamps and compaction with confluent-kafka, which is librdkafka.

    confluent.py ADDRESS [CASE ...]     runs these cases, or all
"""

import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

PATIENCE_S = 30


def topic_of(address, partitions=1, **config):
    """A new topic; its configurations with _ for the dots."""
    name = f"confluent-{uuid.uuid4().hex[:12]}"
    config = {key.replace("_", "."): value for key, value in config.items()}
    admin = AdminClient({"bootstrap.servers": address})
    admin.create_topics([NewTopic(name, partitions, 1, config=config)])[name].result(PATIENCE_S)
    return name


def producer(address, **config):
    config = {key.replace("_", "."): value for key, value in config.items()}
    return Producer({"bootstrap.servers": address, "linger.ms": 5, **config})


def consumer(address, group=None, **config):
    config = {key.replace("_", "."): value for key, value in config.items()}
    return Consumer({
        "bootstrap.servers": address, "group.id": group or uuid.uuid4().hex, "auto.offset.reset": "earliest",
        "enable.auto.commit": False, "fetch.wait.max.ms": 100, **config,
    })


def send(address, topic, values, **config):
    """Produces values and gives what was acknowledged: {(partition, offset): value}."""
    acknowledged = {}

    def delivered(error, message):
        assert error is None, error
        acknowledged[message.partition(), message.offset()] = message.value()

    p = producer(address, **config)
    for value in values:
        p.produce(topic, value, on_delivery=delivered)
        p.poll(0)
    assert p.flush(PATIENCE_S) == 0
    return acknowledged


def take(c, count, patience_s=PATIENCE_S):
    """The next messages of a consumer."""
    messages, until = [], time.monotonic() + patience_s
    while len(messages) < count and time.monotonic() < until:
        for message in c.consume(count - len(messages), 0.2):
            if message.error() is None:
                messages.append(message)
            elif message.error().code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise KafkaException(message.error())
    return messages


def read_all(address, topic, isolation="read_committed"):
    """Everything up to the end of a topic's only partition, as {offset: (key, value)}."""
    c = consumer(address, isolation_level=isolation, enable_partition_eof=True)
    c.assign([TopicPartition(topic, 0, 0)])
    found, until = {}, time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        message = c.poll(1)
        if message is None:
            continue
        if message.error() is not None and message.error().code() == KafkaError._PARTITION_EOF:
            c.close()
            return found
        assert message.error() is None, message.error()
        found[message.offset()] = (message.key(), message.value())
    raise AssertionError("the end of the partition never came")


def wait_until(condition, c=(), patience_s=PATIENCE_S):
    """Polls consumers until something is so."""
    until = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < until, "it never came to be so"
        for one in c:
            one.poll(0.05)
        if not c:
            time.sleep(0.05)


def codecs(address):
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        for settings in ({"acks": "1"}, {"enable_idempotence": True}):
            topic = topic_of(address, partitions=3)
            values = [f"{codec} {n}".encode() for n in range(3000)]
            acknowledged = send(address, topic, values, compression_type=codec, **settings)
            c = consumer(address)
            c.subscribe([topic])
            messages = take(c, len(values))
            c.close()
            assert {(m.partition(), m.offset()): m.value() for m in messages} == acknowledged
            assert sorted(acknowledged.values()) == sorted(values) and len(messages) == len(values)


def acks_0(address):
    topic = topic_of(address)
    p = producer(address, acks=0)
    for n in range(1000):
        p.produce(topic, str(n))
    assert p.flush(PATIENCE_S) == 0
    c = consumer(address)
    c.subscribe([topic])
    assert [int(m.value()) for m in take(c, 1000)] == list(range(1000))
    c.close()


def sizes(address):
    topic = topic_of(address)
    large = b"x" * 900_000
    send(address, topic, [b"", large], message_max_bytes=5_000_000)
    assert [value for _, value in read_all(address, topic).values()] == [b"", large]
    errors = []
    p = producer(address, message_max_bytes=5_000_000)
    p.produce(topic, b"x" * 2_000_000, on_delivery=lambda error, _: errors.append(error.code()))
    assert p.flush(PATIENCE_S) == 0 and errors == [KafkaError.MSG_SIZE_TOO_LARGE], errors


def headers(address):
    topic = topic_of(address)
    sent = [("one", b"1"), ("one", b"again"), ("null", None), ("empty", b""), ("bytes", bytes(range(256)))]
    p = producer(address)
    p.produce(topic, b"value", b"key", headers=sent)
    p.produce(topic, None, None)
    assert p.flush(PATIENCE_S) == 0
    c = consumer(address)
    c.subscribe([topic])
    first, second = take(c, 2)
    c.close()
    assert (first.headers(), first.key(), first.value()) == (sent, b"key", b"value")
    assert (second.headers(), second.key(), second.value()) == (None, None, None)


def timestamps(address):
    created, appended = topic_of(address), topic_of(address, message_timestamp_type="LogAppendTime")
    base, before = int(time.time() * 1000) - 100_000, int(time.time() * 1000)
    p = producer(address)
    for topic in (created, appended):
        for n in range(10):
            p.produce(topic, str(n), timestamp=base + n * 1000)
            assert p.flush(PATIENCE_S) == 0
    c = consumer(address)
    c.assign([TopicPartition(created, 0, 0)])
    assert [m.timestamp() for m in take(c, 10)] == [(1, base + n * 1000) for n in range(10)]
    c.assign([TopicPartition(appended, 0, 0)])
    for kind, at in (m.timestamp() for m in take(c, 10)):
        assert kind == 2 and before <= at <= time.time() * 1000, (kind, at)
    for at, offset in ((0, 0), (base, 0), (base + 1, 1), (base + 5000, 5), (base + 9000, 9), (base + 9001, -1)):
        found = c.offsets_for_times([TopicPartition(created, 0, at)], PATIENCE_S)[0].offset
        assert found == offset, (at, found, offset)
    assert c.get_watermark_offsets(TopicPartition(created, 0), PATIENCE_S) == (0, 10)
    c.close()


def groups(address, **config):
    topic, group = topic_of(address, partitions=4), uuid.uuid4().hex
    values = [str(n).encode() for n in range(2000)]
    send(address, topic, values[:1000])
    first, second = consumer(address, group, **config), consumer(address, group, **config)
    first.subscribe([topic])
    wait_until(lambda: len(first.assignment()) == 4, [first])
    first.close()

    first = consumer(address, group, **config)
    first.subscribe([topic])
    messages = take(first, 1000)
    first.commit(asynchronous=False)
    second.subscribe([topic])
    wait_until(lambda: len(first.assignment()) == 2 and len(second.assignment()) == 2, [first, second])
    mine, theirs = ({p.partition for p in c.assignment()} for c in (first, second))
    assert mine | theirs == {0, 1, 2, 3} and not mine & theirs
    second.close()
    wait_until(lambda: len(first.assignment()) == 4, [first])
    first.close()

    # What was committed is where the next one begins.
    send(address, topic, values[1000:])
    third = consumer(address, group, **config)
    third.subscribe([topic])
    messages += take(third, 1000)
    assert sorted(m.value() for m in messages) == sorted(values)
    third.commit(asynchronous=False)
    committed = third.committed([TopicPartition(topic, p) for p in range(4)], PATIENCE_S)
    assert sum(p.offset for p in committed) == 2000, committed
    third.close()


def cooperative_groups(address):
    groups(address, partition_assignment_strategy="cooperative-sticky")


def static_members(address):
    topic, group = topic_of(address, partitions=4), uuid.uuid4().hex
    rebalances = []

    def member(name):
        c = consumer(address, group, group_instance_id=name, session_timeout_ms=10_000)
        c.subscribe([topic], on_assign=lambda _, partitions: rebalances.append(name))
        return c

    one, two = member("one"), member("two")
    wait_until(lambda: len(one.assignment()) == 2 and len(two.assignment()) == 2, [one, two])
    before, kept = len(rebalances), {p.partition for p in two.assignment()}
    two.close()  # a static member that comes back within its session time-out is the same one
    two = member("two")
    wait_until(lambda: len(two.assignment()) == 2, [one, two])
    assert {p.partition for p in two.assignment()} == kept
    assert rebalances[before:] == ["two"], rebalances
    one.close()
    two.close()


def transactions(address):
    source, target, group = topic_of(address), topic_of(address), uuid.uuid4().hex
    send(address, source, [str(n).encode() for n in range(100)])
    p = producer(address, transactional_id=uuid.uuid4().hex)
    p.init_transactions(PATIENCE_S)
    c = consumer(address, group, isolation_level="read_committed")
    c.subscribe([source])
    for transaction in range(10):
        p.begin_transaction()
        if transaction % 2 == 1:
            p.produce(target, f"aborted {transaction}")
            p.flush(PATIENCE_S)
            p.abort_transaction(PATIENCE_S)
            continue
        for message in take(c, 20):
            p.produce(target, message.value())
        p.send_offsets_to_transaction(c.position(c.assignment()), c.consumer_group_metadata(), PATIENCE_S)
        p.commit_transaction(PATIENCE_S)
    assert c.committed(c.assignment(), PATIENCE_S)[0].offset == 100
    c.close()
    assert [int(value) for _, value in read_all(address, target).values()] == list(range(100))
    assert len(read_all(address, target, "read_uncommitted")) == 105


def fencing(address):
    topic, name = topic_of(address), uuid.uuid4().hex
    old, new = producer(address, transactional_id=name), producer(address, transactional_id=name)
    old.init_transactions(PATIENCE_S)
    old.begin_transaction()
    old.produce(topic, "of the old one")
    old.flush(PATIENCE_S)
    new.init_transactions(PATIENCE_S)
    new.begin_transaction()
    new.produce(topic, "of the new one")
    new.commit_transaction(PATIENCE_S)
    try:
        old.commit_transaction(PATIENCE_S)
        raise AssertionError("a fenced producer has committed")
    except KafkaException as error:
        assert error.args[0].code() in (KafkaError._FENCED, KafkaError._STATE), error
    assert [value for _, value in read_all(address, topic).values()] == [b"of the new one"]


def compaction(address):
    topic = topic_of(
        address, cleanup_policy="compact", segment_ms="100", min_cleanable_dirty_ratio="0.01", delete_retention_ms="100",
    )
    p, latest = producer(address), {}
    for n in range(500):
        key, value = f"key {n % 10}".encode(), f"value {n}".encode()
        p.produce(topic, value, key)
        latest[key] = value
    for key in (b"key 0", b"key 1"):
        p.produce(topic, None, key)  # a tombstone
        del latest[key]
    assert p.flush(PATIENCE_S) == 0

    def compacted():
        # A record makes the segment roll once it is old enough, so that all before it may be cleaned.
        p.produce(topic, "beat", "beat")
        assert p.flush(PATIENCE_S) == 0
        kept = read_all(address, topic)
        offsets = list(kept)
        assert offsets == sorted(offsets)
        values = dict(kept.values())
        assert {key: value for key, value in values.items() if value is not None and key != b"beat"} == latest
        keys = [key for key, _ in kept.values() if key != b"beat"]
        return sorted(keys) == sorted(latest)

    wait_until(compacted, patience_s=60)


CASES = [
    codecs, acks_0, sizes, headers, timestamps, groups, cooperative_groups, static_members, transactions, fencing, compaction,
]

def run(case):
    begun = time.monotonic()
    case(sys.argv[1])
    print(f"ok {case.__name__} {time.monotonic() - begun:.1f} s", flush=True)


if __name__ == "__main__":
    chosen = sys.argv[2:] or [case.__name__ for case in CASES]
    # Some at once: most of their time they wait.
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, [case for case in CASES if case.__name__ in chosen]))
