package main

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// readers is the group, which reads what is committed of the orders and the transfers.
const readers = "readers"

// place is where a record is.
type place struct {
	topic     string
	partition int32
	offset    int64
}

// group is what it has read.
type group struct {
	read   map[place]bool
	next   map[string]int64 // by partition
	values []string
}

// consumeHalf has the group read half of what there is. The open transaction was begun after all others have ended, so
// nothing that is committed lies behind its beginning.
func (h *handover) consumeHalf(ctx context.Context) error {
	return h.consume(ctx, (len(h.committed)-len(h.group.values)+1)/2)
}

// consume has the group go on from its offsets, read so many records, commit them, and leave.
func (h *handover) consume(ctx context.Context, count int) error {
	client := h.client(
		kgo.ConsumerGroup(readers),
		kgo.ConsumeTopics(orders, transfers),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.DisableAutoCommit(),
	)
	defer client.Close()
	for count > 0 {
		fetches := client.PollRecords(ctx, count)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("%d records are missing: %w", count, err)
		}
		records := fetches.Records()
		for _, record := range records {
			if err := h.group.take(record); err != nil {
				return err
			}
		}
		if err := client.CommitRecords(ctx, records...); err != nil {
			return fmt.Errorf("commit: %w", err)
		}
		count -= len(records)
	}
	return client.LeaveGroupContext(ctx)
}

// take notes a record: none comes twice, and those of a partition come in order.
func (g *group) take(record *kgo.Record) error {
	at := place{record.Topic, record.Partition, record.Offset}
	partition := fmt.Sprintf("%s-%d", record.Topic, record.Partition)
	if g.read[at] || record.Offset < g.next[partition] {
		return fmt.Errorf("%s at %d was read again", partition, record.Offset)
	}
	g.read[at] = true
	g.next[partition] = record.Offset + 1
	g.values = append(g.values, string(record.Value))
	return nil
}

// drain lets the group read all that is left. It has then read what was committed, each once.
func (h *handover) drain(ctx context.Context) (any, error) {
	if err := h.endOpen(ctx); err != nil {
		return nil, err
	}
	if err := h.consume(ctx, len(h.committed)-len(h.group.values)); err != nil {
		return nil, err
	}
	for _, value := range h.group.values {
		if !h.committed[value] {
			return nil, fmt.Errorf("%q was read, and not committed", value)
		}
		delete(h.committed, value)
	}
	for value := range h.committed {
		return nil, fmt.Errorf("%q was committed, and not read; and %d more", value, len(h.committed)-1)
	}
	// What would be read now is more than was committed.
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if h.consume(short, 1) == nil {
		return nil, fmt.Errorf("%q is too much", h.group.values[len(h.group.values)-1])
	}
	return map[string]int{"read": len(h.group.read)}, nil
}
