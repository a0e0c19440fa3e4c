// Command consumer-group is one member of a consumer group: it marks every message that it receives, and prints
// "running: name" with its generation and its partitions each time that it joins.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/IBM/sarama"

	"clients/ledger"
	"clients/settings"
)

// member handles what the group's session gives it.
type member struct {
	name     string
	topic    string
	limit    int64
	pace     time.Duration
	entries  *ledger.Writer
	received atomic.Int64
	enough   context.CancelFunc
}

// Setup runs at each (re)join, before the first message of the session.
func (m *member) Setup(session sarama.ConsumerGroupSession) error {
	fmt.Printf("running: %s generation %d partitions %v\n", m.name, session.GenerationID(), session.Claims()[m.topic])
	return nil
}

// Cleanup runs when the session is over.
func (m *member) Cleanup(sarama.ConsumerGroupSession) error { return nil }

// ConsumeClaim receives the messages of one partition until the session ends.
func (m *member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			received := m.received.Add(1)
			if m.limit > 0 && received > m.limit {
				return nil // neither written down nor marked: the next member gets it
			}
			m.entries.Add(ledger.Entry{Partition: message.Partition, Offset: message.Offset, Value: string(message.Value)})
			session.MarkMessage(message, "")
			if received == m.limit {
				m.enough()
			}
			time.Sleep(m.pace)
		case <-session.Context().Done():
			return nil
		}
	}
}

func main() {
	var asked settings.Consuming
	asked.Register()
	pace := flag.Duration("pace", 0, "how long to work on a message")
	flag.Parse()

	entries, err := ledger.Create(asked.Ledger)
	settings.Must(err)
	group, err := sarama.NewConsumerGroup(asked.Brokers(), asked.Group, asked.Config())
	settings.Must(err)
	go func() {
		for err := range group.Errors() {
			fmt.Fprintln(os.Stderr, asked.Name, err)
		}
	}()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, enough := context.WithCancel(ctx)
	one := &member{name: asked.Name, topic: asked.Topic, limit: int64(asked.Limit), pace: *pace, entries: entries, enough: enough}
	for ctx.Err() == nil {
		// A session ends with every rebalance; then the member joins anew.
		if err := group.Consume(ctx, []string{asked.Topic}, one); err != nil && !errors.Is(err, context.Canceled) {
			fmt.Fprintln(os.Stderr, asked.Name, err)
			time.Sleep(100 * time.Millisecond)
		}
	}
	settings.Must(group.Close())
	settings.Must(entries.Close())
	received := one.received.Load()
	if one.limit > 0 {
		received = min(received, one.limit)
	}
	settings.Must(json.NewEncoder(os.Stdout).Encode(map[string]int64{"received": received}))
}
