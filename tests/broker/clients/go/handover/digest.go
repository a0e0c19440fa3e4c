package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// isolation is how a topic is read.
type isolation int

const (
	uncommitted isolation = iota
	committedOnly
)

// digest is what clients see of a broker. Lists and maps are in one order, so that equal digests are equal texts.
type digest struct {
	Topics       map[string]topicDigest
	Partitions   map[string]partitionDigest
	Compacted    string // its newest values: when they are cleaned is the broker's affair
	Groups       map[string]groupDigest
	Transactions map[string]string
	Producers    map[string]string
}

type topicDigest struct {
	ID      string
	Leaders []int32
	Configs map[string]string
}

type partitionDigest struct {
	Start, Stable, End     int64
	MaxTimestamp           string
	Records, RecordsStable string
}

type groupDigest struct {
	State, Kind string
	Members     int
	Offsets     map[string]string
}

// settledDigest takes digests until two are the same: brokers answer administrators before all is done.
func (h *handover) settledDigest(ctx context.Context) (any, error) {
	var last *digest
	for {
		next, err := h.digest(ctx)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("no two digests are the same; the last: %v, %w", last, errors.Join(err, ctx.Err()))
		}
		if err == nil && reflect.DeepEqual(last, next) {
			return next, nil
		}
		last = next
		time.Sleep(200 * time.Millisecond)
	}
}

func (h *handover) digest(ctx context.Context) (*digest, error) {
	h.askAnew()
	topics, err := h.admin.ListTopicsWithInternal(ctx)
	if err != nil {
		return nil, err
	}
	result := &digest{Topics: map[string]topicDigest{}, Partitions: map[string]partitionDigest{}}
	var names []string
	for name, topic := range topics {
		if topic.Err != nil {
			return nil, fmt.Errorf("%s: %w", name, topic.Err)
		}
		one := topicDigest{ID: topic.ID.String(), Configs: map[string]string{}}
		for _, partition := range topic.Partitions.Sorted() {
			one.Leaders = append(one.Leaders, partition.Leader)
		}
		result.Topics[name] = one
		if !topic.IsInternal {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, part := range []func(context.Context, *digest, []string) error{
		h.configs, h.partitions, h.compacted, h.groups, h.transactions, h.producers,
	} {
		if err := part(ctx, result, names); err != nil {
			return nil, err
		}
	}
	return result, nil
}

// configs are the configurations that topics have of their own.
func (h *handover) configs(ctx context.Context, into *digest, _ []string) error {
	described, err := h.admin.DescribeTopicConfigs(ctx, slices.Collect(maps.Keys(into.Topics))...)
	if err != nil {
		return err
	}
	for _, topic := range described {
		if topic.Err != nil {
			return topic.Err
		}
		for _, config := range topic.Configs {
			if config.Source == kmsg.ConfigSourceDynamicTopicConfig {
				into.Topics[topic.Name].Configs[config.Key] = config.MaybeValue()
			}
		}
	}
	return nil
}

// partitions are where each begins and ends, and its records as both kinds of readers see them.
func (h *handover) partitions(ctx context.Context, into *digest, names []string) error {
	starts, one := h.admin.ListStartOffsets(ctx, names...)
	ends, two := h.admin.ListEndOffsets(ctx, names...)
	stable, three := h.admin.ListCommittedOffsets(ctx, names...)
	newest, four := h.admin.ListMaxTimestampOffsets(ctx, names...)
	if err := errors.Join(one, two, three, four, starts.Error(), ends.Error(), stable.Error(), newest.Error()); err != nil {
		return err
	}
	for _, name := range names {
		for partition := range int32(len(into.Topics[name].Leaders)) {
			at := partitionDigest{
				Start:  starts[name][partition].Offset,
				Stable: stable[name][partition].Offset,
				End:    ends[name][partition].Offset,
			}
			if name != compacted {
				found := newest[name][partition]
				at.MaxTimestamp = fmt.Sprintf("%d at %d", found.Timestamp, found.Offset)
				for isolation, into := range map[isolation]*string{uncommitted: &at.Records, committedOnly: &at.RecordsStable} {
					records, err := h.readAll(ctx, name, partition, isolation)
					if err != nil {
						return err
					}
					*into = sum(records)
				}
			}
			into.Partitions[fmt.Sprintf("%s-%d", name, partition)] = at
		}
	}
	return nil
}

// readAll gives all records of a partition from its start to its end, markers too; of committed records, to where it is stable.
func (h *handover) readAll(ctx context.Context, topic string, partition int32, how isolation) ([]*kgo.Record, error) {
	list, level := h.admin.ListEndOffsets, kgo.ReadUncommitted()
	if how == committedOnly {
		list, level = h.admin.ListCommittedOffsets, kgo.ReadCommitted()
	}
	starts, one := h.admin.ListStartOffsets(ctx, topic)
	ends, two := list(ctx, topic)
	if err := errors.Join(one, two, starts.Error(), ends.Error()); err != nil {
		return nil, err
	}
	start, end := starts[topic][partition].Offset, ends[topic][partition].Offset
	if start == end {
		return nil, nil
	}
	client := h.client(
		kgo.FetchIsolationLevel(level), kgo.KeepControlRecords(), kgo.FetchMaxWait(100*time.Millisecond),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().At(start)}}),
	)
	defer client.Close()
	var records []*kgo.Record
	for len(records) == 0 || records[len(records)-1].Offset < end-1 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, fmt.Errorf("%s-%d has no record at %d: %w", topic, partition, end-1, err)
		}
		records = append(records, fetches.Records()...)
	}
	for n, record := range records {
		if record.Offset >= end {
			return records[:n], nil
		}
	}
	return records, nil
}

// sum is how many records there are, and a digest of all that a client sees of them.
func sum(records []*kgo.Record) string {
	all := sha256.New()
	for _, record := range records {
		number(all, record.Offset)
		number(all, record.Timestamp.UnixMilli())
		number(all, int64(record.ProducerID))
		number(all, int64(record.ProducerEpoch))
		io.WriteString(all, fmt.Sprint(record.Attrs.TimestampType(), record.Attrs.CompressionType(), record.Attrs.IsControl()))
		bytes(all, record.Key)
		bytes(all, record.Value)
		for _, header := range record.Headers {
			bytes(all, []byte(header.Key))
			bytes(all, header.Value)
		}
	}
	return fmt.Sprintf("%d: %x", len(records), all.Sum(nil)[:8])
}

func number(into hash.Hash, number int64) {
	into.Write(binary.BigEndian.AppendUint64(nil, uint64(number)))
}

// bytes tells none from empty ones.
func bytes(into hash.Hash, bytes []byte) {
	if bytes == nil {
		number(into, -1)
		return
	}
	number(into, int64(len(bytes)))
	into.Write(bytes)
}

// compacted is what the compacted topic holds by key, and whether that is what was written.
func (h *handover) compacted(ctx context.Context, into *digest, _ []string) error {
	records, err := h.readAll(ctx, compacted, 0, uncommitted)
	if err != nil {
		return err
	}
	if err := h.checkLatest(records); err != nil {
		return err
	}
	latest := slices.Collect(maps.Values(latestByKey(records)))
	slices.SortFunc(latest, func(a, b *kgo.Record) int { return int(a.Offset - b.Offset) })
	into.Compacted = sum(latest)
	return nil
}

func (h *handover) groups(ctx context.Context, into *digest, _ []string) error {
	described, err := h.admin.DescribeGroups(ctx)
	if err == nil {
		err = described.Error()
	}
	if err != nil {
		return err
	}
	into.Groups = map[string]groupDigest{}
	for _, group := range described {
		one := groupDigest{group.State, group.ProtocolType, len(group.Members), map[string]string{}}
		offsets, err := h.admin.FetchOffsets(ctx, group.Group)
		if err != nil {
			return err
		}
		offsets.Each(func(at kadm.OffsetResponse) {
			one.Offsets[fmt.Sprintf("%s-%d", at.Topic, at.Partition)] = fmt.Sprintf("%d %q", at.At, at.Metadata)
		})
		into.Groups[group.Group] = one
	}
	return nil
}

func (h *handover) transactions(ctx context.Context, into *digest, _ []string) error {
	described, err := h.admin.DescribeTransactions(ctx)
	if err != nil {
		return err
	}
	into.Transactions = map[string]string{}
	for _, one := range described.Sorted() {
		if one.Err != nil {
			return one.Err
		}
		into.Transactions[one.TxnID] = fmt.Sprint(
			one.State, " ", one.ProducerID, " ", one.ProducerEpoch, " ", one.TimeoutMillis, " ", one.StartTimestamp, " ", one.Topics.Sorted(),
		)
	}
	return nil
}

// producers are what partitions know of those who write to them.
func (h *handover) producers(ctx context.Context, into *digest, names []string) error {
	topics := kadm.TopicsSet{}
	for _, name := range names {
		for partition := range int32(len(into.Topics[name].Leaders)) {
			topics.Add(name, partition)
		}
	}
	described, err := h.admin.DescribeProducers(ctx, topics)
	if err != nil {
		return err
	}
	into.Producers = map[string]string{}
	described.EachProducer(func(one kadm.DescribedProducer) {
		key := fmt.Sprintf("%s-%d of %d", one.Topic, one.Partition, one.ProducerID)
		into.Producers[key] = fmt.Sprintf(
			"epoch %d, sequence %d at %d, coordinator %d, transaction %d",
			one.ProducerEpoch, one.LastSequence, one.LastTimestamp, one.CoordinatorEpoch, one.CurrentTxnStartOffset,
		)
	})
	for _, topic := range described {
		for _, partition := range topic.Partitions {
			if partition.Err != nil {
				return fmt.Errorf("producers of %s-%d: %w", partition.Topic, partition.Partition, partition.Err)
			}
		}
	}
	return nil
}
