package main

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// codecs by name; every one of them has a producer of its own in each turn.
var codecs = []struct {
	name  string
	codec kgo.CompressionCodec
}{
	{"none", kgo.NoCompression()}, {"gzip", kgo.GzipCompression()}, {"snappy", kgo.SnappyCompression()},
	{"lz4", kgo.Lz4Compression()}, {"zstd", kgo.ZstdCompression()},
}

// work is one turn.
func (h *handover) work(ctx context.Context) (any, error) {
	for _, step := range []func(context.Context) error{
		h.produce, h.transact, h.compact, h.consumeHalf, h.administer, h.trim,
	} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	h.turn++
	return map[string]int{"turns": h.turn, "sent": h.sent, "read": len(h.group.read)}, nil
}

// record is the next one, of a value that nothing else has; its key, headers and time are such that all kinds come by.
func (h *handover) record(topic string, partition int32) *kgo.Record {
	n := h.sent
	h.sent++
	record := &kgo.Record{Topic: topic, Partition: partition, Value: fmt.Appendf(nil, "%s %d of turn %d", topic, n, h.turn)}
	record.Timestamp = time.Now().Add(time.Duration(n%7-3) * time.Second)
	if n%3 > 0 {
		record.Key = fmt.Appendf(nil, "key %d", n%11)
	}
	for header := range n % 4 {
		value := []byte(fmt.Sprint(n))[:header%2]
		record.Headers = append(record.Headers, kgo.RecordHeader{Key: fmt.Sprint("header ", header), Value: value})
	}
	return record
}

// send hands over a few records for each partition, one after the other.
func (h *handover) send(ctx context.Context, client *kgo.Client, topic string, partitions, each int) ([]string, error) {
	var values []string
	var failed kgo.FirstErrPromise
	for n := range partitions * each {
		record := h.record(topic, int32(n%partitions))
		values = append(values, string(record.Value))
		client.Produce(ctx, record, failed.Promise())
	}
	if err := client.Flush(ctx); err != nil {
		return nil, err
	}
	return values, failed.Err()
}

// produce fills the orders: with every codec, idempotently or not, and by the producer that outlives brokers.
func (h *handover) produce(ctx context.Context) error {
	keep := func(values []string, err error) error {
		for _, value := range values {
			h.committed[value] = true
		}
		return err
	}
	for n, codec := range codecs {
		options := []kgo.Opt{kgo.ProducerBatchCompression(codec.codec)}
		if (n+h.turn)%2 == 0 {
			options = append(options, kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.LeaderAck()))
		}
		client := h.client(options...)
		err := keep(h.send(ctx, client, orders, 3, 20))
		client.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", codec.name, err)
		}
	}
	if err := keep(h.send(ctx, h.lasting, orders, 3, 10)); err != nil {
		return fmt.Errorf("the idempotent producer: %w", err)
	}
	return nil
}

// transaction begins one, fills it, and ends it. What it has written before counts, too.
func (h *handover) transaction(ctx context.Context, client *kgo.Client, end kgo.TransactionEndTry) error {
	if err := client.BeginTransaction(); err != nil {
		return err
	}
	values, err := h.send(ctx, client, transfers, 2, 8)
	if err != nil {
		return err
	}
	return h.end(ctx, client, values, end)
}

func (h *handover) end(ctx context.Context, client *kgo.Client, values []string, end kgo.TransactionEndTry) error {
	if err := client.EndTransaction(ctx, end); err != nil {
		return err
	}
	if end == kgo.TryCommit {
		for _, value := range values {
			h.committed[value] = true
		}
	}
	return nil
}

// endOpen ends the transaction that another broker has begun, if there is one: it commits two, and aborts two.
func (h *handover) endOpen(ctx context.Context) error {
	if h.pending == nil {
		return nil
	}
	more, err := h.send(ctx, h.open, transfers, 2, 3)
	if err != nil {
		return fmt.Errorf("the open transaction: %w", err)
	}
	how := kgo.TransactionEndTry(h.turn%4 < 2)
	if err := h.end(ctx, h.open, append(h.pending, more...), how); err != nil {
		return fmt.Errorf("end of the open transaction: %w", err)
	}
	h.pending = nil
	return nil
}

// transact ends what is open, commits and aborts with a producer that comes again each turn, and leaves one open.
func (h *handover) transact(ctx context.Context) error {
	if err := h.endOpen(ctx); err != nil {
		return err
	}
	returning := h.client(kgo.TransactionalID("returning"))
	defer returning.Close()
	for _, end := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit} {
		if err := h.transaction(ctx, returning, end); err != nil {
			return fmt.Errorf("the returning producer: %w", err)
		}
	}
	if err := h.open.BeginTransaction(); err != nil {
		return err
	}
	var err error
	h.pending, err = h.send(ctx, h.open, transfers, 2, 5)
	return err
}

// compact writes few keys often, takes some of them away, and waits for the broker's cleaner.
func (h *handover) compact(ctx context.Context) error {
	// Ten segments, then, of which the active one is not cleaned.
	client := h.client(kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerBatchMaxBytes(4000))
	defer client.Close()
	const keys, records = 40, 1000
	filler := string(make([]byte, 120))
	var failed kgo.FirstErrPromise
	for n := range records {
		key := fmt.Sprint("key ", (n*7+h.turn)%keys)
		record := &kgo.Record{Topic: compacted, Key: []byte(key)}
		if n%9 == h.turn%9 {
			delete(h.latest, key)
		} else {
			h.latest[key] = fmt.Sprintf("%d of turn %d%s", n, h.turn, filler)
			record.Value = []byte(h.latest[key])
		}
		client.Produce(ctx, record, failed.Promise())
	}
	if err := client.Flush(ctx); err != nil {
		return err
	}
	if failed.Err() != nil {
		return failed.Err()
	}
	for {
		found, err := h.readAll(ctx, compacted, 0, uncommitted)
		if err != nil {
			return err
		}
		if len(found) < records/2 {
			return h.checkLatest(found)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// checkLatest compares the compacted topic with what was written, whatever was taken away on the way.
func (h *handover) checkLatest(found []*kgo.Record) error {
	latest := latestByKey(found)
	for key, value := range h.latest {
		if record := latest[key]; record == nil || string(record.Value) != value {
			return fmt.Errorf("%s holds %v, and not %.30q", key, record, value)
		}
	}
	if len(latest) != len(h.latest) {
		return fmt.Errorf("%d keys are left, and not %d", len(latest), len(h.latest))
	}
	return nil
}

// latestByKey is what a compacted topic holds; a key that was taken away is not there.
func latestByKey(records []*kgo.Record) map[string]*kgo.Record {
	latest := map[string]*kgo.Record{}
	for _, record := range records {
		if record.Value == nil {
			delete(latest, string(record.Key))
		} else {
			latest[string(record.Key)] = record
		}
	}
	return latest
}

// administer makes a topic, lets that of the last turn grow, deletes that of the turn before, and changes configurations.
func (h *handover) administer(ctx context.Context) error {
	name := func(turn int) string { return fmt.Sprint("turn-", turn) }
	retention := fmt.Sprint(10_000_000_000 + h.turn)
	if _, err := h.admin.CreateTopic(ctx, 2, 1, map[string]*string{"retention.ms": &retention}, name(h.turn)); err != nil {
		return fmt.Errorf("creation: %w", err)
	}
	if _, err := h.send(ctx, h.lasting, name(h.turn), 2, 3); err != nil {
		return fmt.Errorf("a new topic: %w", err)
	}
	if h.turn >= 1 {
		grown, err := h.admin.UpdatePartitions(ctx, 4, name(h.turn-1))
		if err == nil {
			err = grown.Error()
		}
		if err != nil {
			return fmt.Errorf("more partitions: %w", err)
		}
	}
	if h.turn >= 2 {
		if _, err := h.admin.DeleteTopic(ctx, name(h.turn-2)); err != nil {
			return fmt.Errorf("deletion: %w", err)
		}
	}
	alter := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: &retention}}
	if h.turn%2 == 0 {
		alter = append(alter, kadm.AlterConfig{Op: kadm.DeleteConfig, Name: "max.message.bytes"})
	} else {
		size := fmt.Sprint(800_000 + h.turn)
		alter = append(alter, kadm.AlterConfig{Op: kadm.SetConfig, Name: "max.message.bytes", Value: &size})
	}
	altered, err := h.admin.AlterTopicConfigs(ctx, alter, orders)
	if err != nil {
		return err
	}
	_, err = altered.On(orders, nil)
	return err
}

// trim deletes all but the last few records of a partition.
func (h *handover) trim(ctx context.Context) error {
	if _, err := h.send(ctx, h.lasting, trimmed, 1, 30); err != nil {
		return err
	}
	ends, err := h.admin.ListEndOffsets(ctx, trimmed)
	if err != nil {
		return err
	}
	to := kadm.Offsets{}
	to.Add(kadm.Offset{Topic: trimmed, At: ends[trimmed][0].Offset - 13})
	deleted, err := h.admin.DeleteRecords(ctx, to)
	if err != nil {
		return err
	}
	return deleted.Error()
}
