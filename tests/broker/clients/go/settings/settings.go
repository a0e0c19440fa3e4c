// Package settings turns flags into a configuration of sarama. Without flags that is sarama.NewConfig() itself.
package settings

import (
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/IBM/sarama"
)

// Common is what every program asks for.
type Common struct {
	Topic   string
	Limit   int
	Ledger  string
	brokers string
	version string
	verbose bool
}

// Brokers are the addresses to begin with.
func (c *Common) Brokers() []string { return strings.Split(c.brokers, ",") }

// Register adds the flags of all programs.
func (c *Common) Register() {
	flag.StringVar(&c.brokers, "brokers", "127.0.0.1:9092", "addresses of brokers, with commas between them")
	flag.StringVar(&c.Topic, "topic", "messages", "the topic")
	flag.IntVar(&c.Limit, "limit", 1000, "how many messages")
	flag.StringVar(&c.Ledger, "ledger", "", "file to write every acknowledged or received message to")
	flag.StringVar(&c.version, "version", "", "Kafka's version to speak like; sarama's default if not given")
	flag.BoolVar(&c.verbose, "verbose", false, "print what sarama logs")
}

// Config is sarama's own default, in the version that was asked for.
func (c *Common) Config() *sarama.Config {
	if c.verbose {
		sarama.Logger = log{}
	}
	config := sarama.NewConfig()
	if c.version != "" {
		version, err := sarama.ParseKafkaVersion(c.version)
		Must(err)
		config.Version = version
	}
	return config
}

// Producing is what producers ask for beside it.
type Producing struct {
	Common
	Name        string
	Bytes       int
	Keys        int
	Partitioner string
	acks        string
	codec       string
	idempotent  bool
}

var acks = map[string]sarama.RequiredAcks{"0": sarama.NoResponse, "1": sarama.WaitForLocal, "all": sarama.WaitForAll}

var codecs = map[string]sarama.CompressionCodec{
	"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy,
	"lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
}

var partitioners = map[string]sarama.PartitionerConstructor{
	"hash": sarama.NewHashPartitioner, "reference": sarama.NewReferenceHashPartitioner,
	"crc": sarama.NewConsistentCRCHashPartitioner, "random": sarama.NewRandomPartitioner,
	"roundrobin": sarama.NewRoundRobinPartitioner, "manual": sarama.NewManualPartitioner,
}

// Register adds the flags of producers.
func (p *Producing) Register() {
	p.Common.Register()
	flag.StringVar(&p.Name, "name", "message", "first word of every message")
	flag.IntVar(&p.Bytes, "bytes", 0, "fill messages up to so many bytes")
	flag.IntVar(&p.Keys, "keys", 0, "how many keys take turns; 0: no keys")
	flag.StringVar(&p.Partitioner, "partitioner", "", "hash, reference, crc, random, roundrobin, manual")
	flag.StringVar(&p.acks, "acks", "", "0, 1, all")
	flag.StringVar(&p.codec, "codec", "", "none, gzip, snappy, lz4, zstd")
	flag.BoolVar(&p.idempotent, "idempotent", false, "produce idempotently, which needs acks all")
}

// Config is sarama's default with both channels of a producer returned, and whatever was asked for.
func (p *Producing) Config() *sarama.Config {
	config := p.Common.Config()
	config.Producer.Return.Successes = true
	config.Producer.Return.Errors = true
	choose("acks", p.acks, acks, &config.Producer.RequiredAcks)
	choose("codec", p.codec, codecs, &config.Producer.Compression)
	choose("partitioner", p.Partitioner, partitioners, &config.Producer.Partitioner)
	if p.idempotent {
		config.Producer.Idempotent = true
		config.Producer.RequiredAcks = sarama.WaitForAll
		config.Net.MaxOpenRequests = 1
	}
	return config
}

// Message is the n-th message: its value says who sent it and which it is.
func (p *Producing) Message(n int) *sarama.ProducerMessage {
	value := fmt.Sprintf("%s %d", p.Name, n)
	if missing := p.Bytes - len(value); missing > 1 {
		value += " " + strings.Repeat("x", missing-1)
	}
	message := &sarama.ProducerMessage{Topic: p.Topic, Value: sarama.StringEncoder(value), Metadata: n}
	if p.Keys > 0 {
		message.Key = sarama.StringEncoder(fmt.Sprintf("key %d", n%p.Keys))
	}
	if p.Partitioner == "manual" {
		message.Partition = int32(n % 4)
	}
	return message
}

// Consuming is what members of a group ask for.
type Consuming struct {
	Common
	Group    string
	Name     string
	strategy string
	initial  string
}

var strategies = map[string]sarama.BalanceStrategy{
	"range": sarama.NewBalanceStrategyRange(), "roundrobin": sarama.NewBalanceStrategyRoundRobin(),
	"sticky": sarama.NewBalanceStrategySticky(),
}

var initials = map[string]int64{"oldest": sarama.OffsetOldest, "newest": sarama.OffsetNewest}

// Register adds the flags of consumers.
func (c *Consuming) Register() {
	c.Common.Register()
	flag.StringVar(&c.Group, "group", "group", "the group")
	flag.StringVar(&c.Name, "name", "consumer", "what this member calls itself")
	flag.StringVar(&c.strategy, "strategy", "", "range, roundrobin, sticky")
	flag.StringVar(&c.initial, "initial", "", "where to begin without a committed offset: oldest, newest")
}

// Config is sarama's default with the errors of a consumer returned, and whatever was asked for.
func (c *Consuming) Config() *sarama.Config {
	config := c.Common.Config()
	config.Consumer.Return.Errors = true
	choose("initial", c.initial, initials, &config.Consumer.Offsets.Initial)
	if c.strategy != "" {
		var strategy sarama.BalanceStrategy
		choose("strategy", c.strategy, strategies, &strategy)
		config.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{strategy}
	}
	return config
}

// choose sets what a flag names; a flag that was not given leaves sarama's default.
func choose[T any](flag, name string, choices map[string]T, into *T) {
	if name == "" {
		return
	}
	choice, known := choices[name]
	if !known {
		Must(fmt.Errorf("-%s: there is no %q", flag, name))
	}
	*into = choice
}

// Must ends the program with the error, if there is one.
func Must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type log struct{}

func (log) Print(v ...any)                 { fmt.Fprint(os.Stderr, v...) }
func (log) Printf(format string, v ...any) { fmt.Fprintf(os.Stderr, format, v...) }
func (log) Println(v ...any)               { fmt.Fprintln(os.Stderr, v...) }
