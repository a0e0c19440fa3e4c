// Command check reads a topic back, partition by partition, and says what is wrong with it: messages lost, twice, out of
// order, with holes between their offsets, or others than the ledgers of their producers say.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/IBM/sarama"

	"clients/ledger"
	"clients/settings"
)

// patience is how long the next message may take before the topic counts as silent.
const patience = 20 * time.Second

// report is what was read and what is wrong with it.
type report struct {
	Messages   int      `json:"messages"`
	Partitions []int    `json:"partitions"` // messages of each
	Wrong      []string `json:"wrong"`
}

func (r *report) wrong(format string, args ...any) {
	if len(r.Wrong) < 20 {
		r.Wrong = append(r.Wrong, fmt.Sprintf(format, args...))
	}
}

func main() {
	var asked settings.Common
	asked.Register()
	ledgers := flag.String("ledgers", "", "ledgers of the producers, with commas between them: exactly these messages must be there")
	offsets := flag.Bool("offsets", true, "whether the ledgers know offsets: with acks 0 they do not")
	together := flag.Bool("keys-together", false, "whether all messages of a key must be in one partition")
	atLeast := flag.Bool("at-least", false, "whether other messages may be there too, also twice: after failures, what was not acknowledged may be")
	replays := flag.Int("replay", 0, "from how many offsets of each partition to read a second time")
	flag.Parse()

	client, err := sarama.NewClient(asked.Brokers(), asked.Config())
	settings.Must(err)
	consumer, err := sarama.NewConsumerFromClient(client)
	settings.Must(err)
	partitions, err := client.Partitions(asked.Topic)
	settings.Must(err)

	result := report{Wrong: []string{}}
	var messages []*sarama.ConsumerMessage
	for _, partition := range partitions {
		oldest, err := client.GetOffset(asked.Topic, partition, sarama.OffsetOldest)
		settings.Must(err)
		newest, err := client.GetOffset(asked.Topic, partition, sarama.OffsetNewest)
		settings.Must(err)
		read := readFrom(consumer, asked.Topic, partition, oldest, int(newest-oldest))
		result.whole(partition, oldest, int(newest-oldest), read)
		if !*atLeast {
			result.inOrder(partition, read)
		}
		for range *replays {
			if newest > oldest {
				from := oldest + rand.Int64N(newest-oldest)
				count := min(int(newest-from), 100)
				result.same(readFrom(consumer, asked.Topic, partition, from, count), read[from-oldest:])
			}
		}
		result.Partitions = append(result.Partitions, len(read))
		messages = append(messages, read...)
	}
	result.Messages = len(messages)
	if !*atLeast {
		result.once(messages)
	}
	if *together {
		result.keysTogether(messages)
	}
	if *ledgers != "" {
		result.asAcknowledged(messages, strings.Split(*ledgers, ","), *offsets, *atLeast)
	}
	settings.Must(json.NewEncoder(os.Stdout).Encode(result))
	if len(result.Wrong) > 0 {
		os.Exit(1)
	}
}

// readFrom gives the messages from an offset on, as many as there should be or as come in time.
func readFrom(consumer sarama.Consumer, topic string, partition int32, from int64, count int) []*sarama.ConsumerMessage {
	var read []*sarama.ConsumerMessage
	if count == 0 {
		return read
	}
	claim, err := consumer.ConsumePartition(topic, partition, from)
	settings.Must(err)
	// Not only asked to end: the partition may be read again at once.
	defer func() { settings.Must(claim.Close()) }()
	for len(read) < count {
		select {
		case message, open := <-claim.Messages():
			if !open {
				return read
			}
			read = append(read, message)
		case <-time.After(patience):
			return read
		}
	}
	return read
}

// whole looks for holes.
func (r *report) whole(partition int32, oldest int64, count int, read []*sarama.ConsumerMessage) {
	if len(read) != count {
		r.wrong("partition %d: %d messages are missing", partition, count-len(read))
	}
	for n, message := range read {
		if message.Offset != oldest+int64(n) {
			r.wrong("partition %d: offset %d where %d should be", partition, message.Offset, oldest+int64(n))
		}
	}
}

// inOrder looks for messages of one producer that have changed places.
func (r *report) inOrder(partition int32, read []*sarama.ConsumerMessage) {
	last := map[string]int{}
	for _, message := range read {
		name, number := named(r, message)
		if before, seen := last[name]; seen && number <= before {
			r.wrong("partition %d, offset %d: %s %d after %d", partition, message.Offset, name, number, before)
		}
		last[name] = number
	}
}

// once looks for messages that are there twice.
func (r *report) once(messages []*sarama.ConsumerMessage) {
	seen := map[string]*sarama.ConsumerMessage{}
	for _, message := range messages {
		name, number := named(r, message)
		key := fmt.Sprint(name, " ", number)
		if other, twice := seen[key]; twice {
			r.wrong("%s: at %d/%d and at %d/%d", key, other.Partition, other.Offset, message.Partition, message.Offset)
		}
		seen[key] = message
	}
}

func named(r *report, message *sarama.ConsumerMessage) (string, int) {
	number, err := ledger.Number(string(message.Value))
	if err != nil {
		r.wrong("partition %d, offset %d: %v", message.Partition, message.Offset, err)
	}
	name, _, _ := strings.Cut(string(message.Value), " ")
	return name, number
}

func (r *report) same(again, first []*sarama.ConsumerMessage) {
	for n, message := range again {
		if message.Offset != first[n].Offset || string(message.Value) != string(first[n].Value) {
			r.wrong("partition %d, offset %d: read a second time, it is another message", message.Partition, first[n].Offset)
		}
	}
}

func (r *report) keysTogether(messages []*sarama.ConsumerMessage) {
	partitions := map[string]int32{}
	for _, message := range messages {
		key := string(message.Key)
		if other, seen := partitions[key]; seen && other != message.Partition {
			r.wrong("%q is in partition %d and in partition %d", key, other, message.Partition)
		}
		partitions[key] = message.Partition
	}
}

// asAcknowledged compares with what the producers were told: each message is at the place that they were told, and, unless
// others may be there too, nowhere else.
func (r *report) asAcknowledged(messages []*sarama.ConsumerMessage, ledgers []string, offsets, atLeast bool) {
	place := func(partition int32, offset int64) string {
		if offsets {
			return fmt.Sprintf("%d/%d", partition, offset)
		}
		return fmt.Sprint(partition)
	}
	missing := map[string]string{}
	for _, path := range ledgers {
		entries, err := ledger.Read(path)
		settings.Must(err)
		for _, entry := range entries {
			missing[entry.Value] = place(entry.Partition, entry.Offset)
		}
	}
	for _, message := range messages {
		value, here := string(message.Value), place(message.Partition, message.Offset)
		if missing[value] == here {
			delete(missing, value)
		} else if !atLeast {
			r.wrong("%q is at %s, and was acknowledged at %q", value, here, missing[value])
		}
	}
	for value, at := range missing {
		r.wrong("%q, acknowledged at %s, is not there", value, at)
	}
}
