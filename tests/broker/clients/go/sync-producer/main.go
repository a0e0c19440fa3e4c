// Command sync-producer sends one message after the other with sarama's SyncProducer and prints where each went.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/IBM/sarama"

	"clients/ledger"
	"clients/settings"
)

func main() {
	var asked settings.Producing
	asked.Register()
	flag.Parse()

	entries, err := ledger.Create(asked.Ledger)
	settings.Must(err)
	producer, err := sarama.NewSyncProducer(asked.Brokers(), asked.Config())
	settings.Must(err)
	for n := 0; n < asked.Limit; n++ {
		message := asked.Message(n)
		partition, offset, err := producer.SendMessage(message)
		if err != nil {
			fmt.Printf("SendMessage:%d err:%v\n", n, err)
			os.Exit(1)
		}
		value, _ := message.Value.Encode() // a StringEncoder never fails
		fmt.Printf("[Producer] partitionid: %d; offset:%d, value: %s\n", partition, offset, value)
		entries.Add(ledger.Entry{Partition: partition, Offset: offset, Value: string(value)})
	}
	settings.Must(producer.Close())
	settings.Must(entries.Close())
}
