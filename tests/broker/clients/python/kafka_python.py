"""Produce, consume, groups, transactions, headers, timestamps and compaction with kafka-python, which is Python alone.

    kafka_python.py ADDRESS [CASE ...]     runs these cases, or all
"""

import sys
import threading
import time
import uuid

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import MessageSizeTooLargeError

PATIENCE_S = 30


def topic_of(address, partitions=1, **config):
    """A new topic; its configurations with _ for the dots."""
    name = f"kafka-python-{uuid.uuid4().hex[:12]}"
    config = {key.replace("_", "."): value for key, value in config.items()}
    admin = KafkaAdminClient(bootstrap_servers=address)
    admin.create_topics([NewTopic(name=name, num_partitions=partitions, replication_factor=1, topic_configs=config)])
    admin.close()
    return name


def producer(address, **config):
    return KafkaProducer(bootstrap_servers=address, **config)


def consumer(address, *topics, group=None, **config):
    return KafkaConsumer(
        *topics, bootstrap_servers=address, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False,
        fetch_max_wait_ms=100, **config,
    )


def take(c, count, patience_s=PATIENCE_S):
    """The next records of a consumer."""
    records, until = [], time.monotonic() + patience_s
    while len(records) < count and time.monotonic() < until:
        for some in c.poll(timeout_ms=200, max_records=count - len(records)).values():
            records += some
    return records


def read_all(address, topic, isolation="read_committed"):
    """Everything up to the end of a topic's only partition."""
    c, partition = consumer(address, isolation_level=isolation), TopicPartition(topic, 0)
    c.assign([partition])
    c.seek_to_beginning(partition)
    end, records, until = c.end_offsets([partition])[partition], [], time.monotonic() + PATIENCE_S
    while c.position(partition) < end:
        assert time.monotonic() < until, "the end of the partition never came"
        for some in c.poll(timeout_ms=200).values():
            records += some
    c.close()
    return records


def codecs(address):
    for codec in (None, "gzip", "snappy", "lz4", "zstd"):
        topic = topic_of(address, partitions=3)
        p = producer(address, compression_type=codec, linger_ms=5)
        values = [f"{codec} {n}".encode() for n in range(2000)]
        futures = [p.send(topic, value, key=value) for value in values]
        acknowledged = {(m.partition, m.offset) for m in (future.get(PATIENCE_S) for future in futures)}
        p.close()
        c = consumer(address, topic)
        records = take(c, len(values))
        c.close()
        assert {(r.partition, r.offset) for r in records} == acknowledged
        assert sorted(r.value for r in records) == sorted(values)


def sizes(address):
    topic = topic_of(address)
    p = producer(address, max_request_size=5_000_000)
    for value in (b"", b"x" * 900_000):
        p.send(topic, value).get(PATIENCE_S)
    try:
        p.send(topic, b"x" * 2_000_000).get(PATIENCE_S)
        raise AssertionError("a message larger than max.message.bytes was taken")
    except MessageSizeTooLargeError:
        pass
    p.close()
    assert [len(r.value) for r in read_all(address, topic)] == [0, 900_000]


def headers(address):
    topic = topic_of(address)
    sent = [("one", b"1"), ("one", b"again"), ("empty", b""), ("bytes", bytes(range(256)))]
    p = producer(address)
    p.send(topic, b"value", key=b"key", headers=sent).get(PATIENCE_S)
    p.send(topic, None, key=b"key").get(PATIENCE_S)
    p.close()
    first, second = read_all(address, topic)
    assert (list(first.headers), first.key, first.value) == (sent, b"key", b"value")
    assert (list(second.headers), second.key, second.value) == ([], b"key", None)


def timestamps(address):
    created, appended = topic_of(address), topic_of(address, message_timestamp_type="LogAppendTime")
    base, before = int(time.time() * 1000) - 100_000, int(time.time() * 1000)
    p = producer(address)
    for topic in (created, appended):
        for n in range(10):
            p.send(topic, b"value", timestamp_ms=base + n * 1000).get(PATIENCE_S)
    p.close()
    assert [(r.timestamp_type, r.timestamp) for r in read_all(address, created)] == [(0, base + n * 1000) for n in range(10)]
    for record in read_all(address, appended):
        assert record.timestamp_type == 1 and before <= record.timestamp <= time.time() * 1000, record
    c, partition = consumer(address), TopicPartition(created, 0)
    for at, offset in ((0, 0), (base, 0), (base + 1, 1), (base + 5000, 5), (base + 9000, 9), (base + 9001, None)):
        found = c.offsets_for_times({partition: at})[partition]
        assert (found and found.offset) == offset, (at, found, offset)
    assert (c.beginning_offsets([partition])[partition], c.end_offsets([partition])[partition]) == (0, 10)
    c.close()


def groups(address):
    topic, group, values = topic_of(address, partitions=4), uuid.uuid4().hex, [str(n).encode() for n in range(1000)]
    p = producer(address)
    for value in values:
        p.send(topic, value)
    p.flush(PATIENCE_S)
    p.close()

    found, lock, stop = {"one": set(), "two": set()}, threading.Lock(), threading.Event()
    assigned = {}

    def member(name):
        c, idle_since = consumer(address, topic, group=group), time.monotonic()
        while not stop.is_set():
            # This client now and then takes no notice of an assignment that the broker has given it, and waits for ever.
            if c.assignment():
                idle_since = time.monotonic()
            elif time.monotonic() > idle_since + 5:
                c.close()
                c, idle_since = consumer(address, topic, group=group), time.monotonic()
            for some in c.poll(timeout_ms=100).values():
                with lock:
                    found[name].update(r.value for r in some)
            with lock:
                assigned[name] = {p.partition for p in c.assignment()}
        c.commit()
        c.close()

    threads = [threading.Thread(target=member, args=[name]) for name in found]
    until = time.monotonic() + PATIENCE_S
    for thread in threads:
        thread.start()
        # One after the other, so that the second finds a group at work.
        while not assigned.get("one") and time.monotonic() < until:
            time.sleep(0.05)

    def done():
        with lock:
            split = sorted(len(partitions) for partitions in assigned.values()) == [2, 2]
            return split and set.union(*assigned.values()) == {0, 1, 2, 3} and set.union(*found.values()) == set(values)

    try:
        while not done():
            assert time.monotonic() < until, ({name: len(some) for name, some in found.items()}, assigned)
            time.sleep(0.05)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    admin = KafkaAdminClient(bootstrap_servers=address)
    c = consumer(address, group=group)
    assert sum(c.committed(TopicPartition(topic, partition)) for partition in range(4)) == 1000
    c.close()
    admin.close()


def transactions(address):
    source, target, group = topic_of(address), topic_of(address), uuid.uuid4().hex
    p = producer(address)
    for n in range(100):
        p.send(source, str(n).encode())
    p.flush(PATIENCE_S)
    p.close()
    p = producer(address, transactional_id=uuid.uuid4().hex)
    p.init_transactions()
    c = consumer(address, source, group=group, isolation_level="read_committed")
    for transaction in range(10):
        p.begin_transaction()
        if transaction % 2 == 1:
            p.send(target, b"aborted").get(PATIENCE_S)
            p.abort_transaction()
            continue
        records = take(c, 20)
        for record in records:
            p.send(target, record.value)
        offsets = {TopicPartition(source, 0): OffsetAndMetadata(records[-1].offset + 1, "", -1)}
        p.send_offsets_to_transaction(offsets, c.group_metadata())
        p.commit_transaction()
    p.close()
    assert c.committed(TopicPartition(source, 0)) == 100
    c.close()
    assert [int(r.value) for r in read_all(address, target)] == list(range(100))
    assert len(read_all(address, target, "read_uncommitted")) == 105


def compaction(address):
    topic = topic_of(
        address, cleanup_policy="compact", segment_ms="100", min_cleanable_dirty_ratio="0.01", delete_retention_ms="100",
    )
    p, latest = producer(address), {}
    for n in range(500):
        latest[n % 10] = n
        p.send(topic, str(n).encode(), key=str(n % 10).encode())
    p.send(topic, None, key=b"0")
    del latest[0]
    p.flush(PATIENCE_S)
    until = time.monotonic() + 60
    while True:
        # A record makes the segment roll once it is old enough, so that all before it may be cleaned.
        p.send(topic, b"beat", key=b"beat").get(PATIENCE_S)
        kept = [(int(r.key), r.value) for r in read_all(address, topic) if r.key != b"beat"]
        assert {key: int(value) for key, value in dict(kept).items() if value is not None} == latest
        if sorted(key for key, _ in kept) == sorted(latest):
            break
        assert time.monotonic() < until, "never compacted"
        time.sleep(0.1)
    p.close()


CASES = [codecs, sizes, headers, timestamps, groups, transactions, compaction]

if __name__ == "__main__":
    chosen = sys.argv[2:]
    for case in CASES:
        if not chosen or case.__name__ in chosen:
            begun = time.monotonic()
            case(sys.argv[1])
            print(f"ok {case.__name__} {time.monotonic() - begun:.1f} s", flush=True)
