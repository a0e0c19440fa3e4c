// Command handover works on a broker that is taken away and replaced by another one on the same files, and tells what the
// files hold as clients see it.
//
// It lives through all replacements, and so do two of its producers: an idempotent one, and one whose transaction is open
// whenever the broker changes. It reads commands, one a line, and answers each with a line of JSON:
//
//	prepare   makes the topics
//	turn      does a turn's work: production, compaction, a group, topics, configurations, deleted records
//	digest    everything that clients can see; the digests of two brokers on the same files can be compared as they are
//	drain     ends the open transaction, lets the group read all that is left, and checks what it has read in all
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"clients/settings"
)

// The topics of all turns. Beside them each turn makes one of its own.
const (
	orders    = "orders"    // every codec, keys and headers
	transfers = "transfers" // transactions
	compacted = "compacted"
	trimmed   = "trimmed" // records are deleted from its front
)

// handover is what lives through the turns.
type handover struct {
	address string
	asking  *kgo.Client
	admin   *kadm.Client
	// lasting is an idempotent producer, open one with a transaction that is open between turns.
	lasting, open *kgo.Client
	turn, sent    int
	// pending are the values of the open transaction; committed those that the group has to read.
	pending   []string
	committed map[string]bool
	group     group
	// latest is what the compacted topic holds, by key.
	latest map[string]string
}

func main() {
	address := flag.String("brokers", "127.0.0.1:9092", "address of the broker, which stays")
	flag.Parse()
	h := &handover{address: *address, committed: map[string]bool{}, latest: map[string]string{}}
	h.group.read = map[place]bool{}
	h.group.next = map[string]int64{}
	commands := map[string]func(context.Context) (any, error){
		"prepare": h.prepare, "turn": h.work, "digest": h.settledDigest, "drain": h.drain,
	}
	answers := json.NewEncoder(os.Stdout)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		command, known := commands[lines.Text()]
		if !known {
			settings.Must(fmt.Errorf("there is no %s", lines.Text()))
		}
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Second)
		h.askAnew()
		answer, err := command(ctx)
		cancel()
		if err != nil {
			settings.Must(fmt.Errorf("turn %d, %s: %w", h.turn, lines.Text(), err))
		}
		settings.Must(answers.Encode(answer))
	}
}

// askAnew begins with a new administrator: for a while they remember what topics there were.
func (h *handover) askAnew() {
	if h.asking != nil {
		h.asking.Close()
	}
	h.asking = h.client()
	h.admin = kadm.NewClient(h.asking)
}

func (h *handover) client(options ...kgo.Opt) *kgo.Client {
	all := append(options, kgo.SeedBrokers(h.address), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	client, err := kgo.NewClient(all...)
	settings.Must(err)
	return client
}

func (h *handover) prepare(ctx context.Context) (any, error) {
	for _, topic := range []struct {
		name       string
		partitions int32
		configs    map[string]string
	}{
		{orders, 3, map[string]string{"max.message.bytes": "900000"}},
		{transfers, 2, nil},
		{compacted, 1, map[string]string{
			"cleanup.policy": "compact", "internal.segment.bytes": "20000", "segment.index.bytes": "4096",
			"min.cleanable.dirty.ratio": "0.01", "delete.retention.ms": "100",
		}},
		{trimmed, 1, map[string]string{"message.timestamp.type": "LogAppendTime"}},
	} {
		configs := map[string]*string{}
		for name, value := range topic.configs {
			configs[name] = &value
		}
		if _, err := h.admin.CreateTopic(ctx, topic.partitions, 1, configs, topic.name); err != nil {
			return nil, fmt.Errorf("%s: %w", topic.name, err)
		}
	}
	// As long as any hand-over may take.
	timeout := kgo.TransactionTimeout(5 * time.Minute)
	h.lasting = h.client()
	h.open = h.client(kgo.TransactionalID("open"), timeout)
	return true, nil
}
