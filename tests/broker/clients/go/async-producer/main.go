// Command async-producer hands messages over to sarama's AsyncProducer without waiting for their acknowledgements, and
// reads both Successes and Errors. A message that is not taken within the time to hand over is counted and left out.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/IBM/sarama"

	"clients/ledger"
	"clients/settings"
)

// report is what happened to the messages: enqueued = successes + errors, limit = enqueued + timeouts.
type report struct {
	Enqueued  int `json:"enqueued"`
	Successes int `json:"successes"`
	Errors    int `json:"errors"`
	Timeouts  int `json:"timeouts"`
	Moved     int `json:"moved"` // acknowledged in another partition than the one that was asked for
}

func main() {
	var asked settings.Producing
	asked.Register()
	handOver := flag.Duration("hand-over", 10*time.Millisecond, "how long a message may wait to be taken")
	pace := flag.Duration("pace", 0, "how long to wait after each message")
	flag.Parse()

	entries, err := ledger.Create(asked.Ledger)
	settings.Must(err)
	producer, err := sarama.NewAsyncProducer(asked.Brokers(), asked.Config())
	settings.Must(err)

	var done report
	var readers sync.WaitGroup
	readers.Add(2)
	go func() {
		defer readers.Done()
		for message := range producer.Successes() {
			done.Successes++
			if asked.Partitioner == "manual" && message.Partition != asked.Message(message.Metadata.(int)).Partition {
				done.Moved++
			}
			value, _ := message.Value.Encode() // a StringEncoder never fails
			entries.Add(ledger.Entry{Partition: message.Partition, Offset: message.Offset, Value: string(value)})
		}
	}()
	go func() {
		defer readers.Done()
		for failed := range producer.Errors() {
			done.Errors++
			fmt.Fprintln(os.Stderr, "not produced:", failed.Err)
		}
	}()

	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
sending:
	for n := 0; n < asked.Limit; n++ {
		select {
		case producer.Input() <- asked.Message(n):
			done.Enqueued++
			time.Sleep(*pace)
		case <-time.After(*handOver):
			done.Timeouts++
		case <-signals:
			break sending
		}
	}
	producer.AsyncClose()
	readers.Wait()
	settings.Must(entries.Close())
	settings.Must(json.NewEncoder(os.Stdout).Encode(done))
}
