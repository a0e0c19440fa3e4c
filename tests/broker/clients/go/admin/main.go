// Command admin sends requests of administrators with franz-go.
//
//	admin create TOPIC PARTITIONS   makes a topic
//	admin compare                   sends one request after the other and prints each answer as a line of JSON
//
// What differs from broker to broker (ids, addresses, sizes, times, texts of errors) is taken out of the answers, so that
// the lines of two brokers can be compared as they are. The broker should be a new one.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"clients/settings"
)

// administrator asks one broker.
type administrator struct {
	ctx     context.Context
	client  *kgo.Client
	broker  *kgo.Broker
	id      int32
	answers *json.Encoder
}

func main() {
	brokers := flag.String("brokers", "127.0.0.1:9092", "address of the broker")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(*brokers), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	settings.Must(err)
	defer client.Close()
	switch flag.Arg(0) {
	case "create":
		partitions, err := strconv.ParseInt(flag.Arg(2), 10, 32)
		settings.Must(err)
		_, err = kadm.NewClient(client).CreateTopic(ctx, int32(partitions), 1, nil, flag.Arg(1))
		settings.Must(err)
	case "compare":
		metadata, err := kadm.NewClient(client).BrokerMetadata(ctx)
		settings.Must(err)
		id := metadata.Brokers[0].NodeID
		a := &administrator{ctx, client, client.Broker(int(id)), id, json.NewEncoder(os.Stdout)}
		a.coordinators()
		a.topics()
		a.configurations(*brokers)
		a.records()
		a.groups()
		a.transactions(*brokers)
		a.cluster()
		a.deletion()
	default:
		settings.Must(fmt.Errorf("admin create TOPIC PARTITIONS | admin compare"))
	}
}

// ask sends a request and prints what can be compared of its answer.
func (a *administrator) ask(step string, request kmsg.Request) {
	answer, err := a.broker.RetriableRequest(a.ctx, request)
	if err != nil {
		a.say(step, err.Error())
		return
	}
	a.say(step, comparable(answer))
}

func (a *administrator) say(step string, what any) {
	settings.Must(a.answers.Encode(map[string]any{step: what}))
}

// settled waits until a new topic's partitions have their leader: Kafka answers before they do.
func (a *administrator) settled(topic string, partitions int) {
	for range 400 {
		ends, err := kadm.NewClient(a.client).ListEndOffsets(a.ctx, topic)
		if err == nil && ends.Error() == nil && len(ends[topic]) == partitions {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	settings.Must(fmt.Errorf("%s has no leaders", topic))
}

func (a *administrator) topics() {
	create := func(step, name string, change func(*kmsg.CreateTopicsRequest, *kmsg.CreateTopicsRequestTopic)) {
		request := kmsg.NewPtrCreateTopicsRequest()
		topic := kmsg.NewCreateTopicsRequestTopic()
		topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, 2, 1
		change(request, &topic)
		request.Topics = append(request.Topics, topic)
		a.ask(step, request)
	}
	config := func(name, value string) kmsg.CreateTopicsRequestTopicConfig {
		one := kmsg.NewCreateTopicsRequestTopicConfig()
		one.Name, one.Value = name, &value
		return one
	}
	type request = *kmsg.CreateTopicsRequest
	type topic = *kmsg.CreateTopicsRequestTopic
	create("create", "admin-a", func(_ request, t topic) {
		t.NumPartitions = 3
		t.Configs = append(t.Configs, config("retention.ms", "86400000000"), config("min.compaction.lag.ms", "5"))
	})
	a.settled("admin-a", 3)
	create("create again", "admin-a", func(request, topic) {})
	create("create what only is tried", "admin-tried", func(r request, t topic) { r.ValidateOnly = true })
	create("create with default partitions", "admin-default", func(_ request, t topic) { t.NumPartitions, t.ReplicationFactor = -1, -1 })
	create("create with no partitions", "admin-none", func(_ request, t topic) { t.NumPartitions = 0 })
	create("create with too many replicas", "admin-replicas", func(_ request, t topic) { t.ReplicationFactor = 2 })
	create("create with no replicas", "admin-replicas", func(_ request, t topic) { t.ReplicationFactor = 0 })
	create("create with a bad name", "admin a", func(request, topic) {})
	create("create with no name", "", func(request, topic) {})
	create("create with dots", "..", func(request, topic) {})
	create("create with an unknown configuration", "admin-config", func(_ request, t topic) { t.Configs = append(t.Configs, config("no.such", "1")) })
	create("create with a bad value", "admin-config", func(_ request, t topic) { t.Configs = append(t.Configs, config("retention.ms", "soon")) })
	create("create with a value out of bounds", "admin-config", func(_ request, t topic) { t.Configs = append(t.Configs, config("segment.bytes", "1")) })
	create("create with a null value", "admin-config", func(_ request, t topic) {
		null := config("retention.ms", "")
		null.Value = nil
		t.Configs = append(t.Configs, null)
	})
	create("create with assigned replicas", "admin-assigned", func(_ request, t topic) {
		t.NumPartitions, t.ReplicationFactor = -1, -1
		assignment := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
		assignment.Replicas = []int32{a.id}
		t.ReplicaAssignment = append(t.ReplicaAssignment, assignment)
	})
	create("create with unknown replicas", "admin-unknown", func(_ request, t topic) {
		t.NumPartitions, t.ReplicationFactor = -1, -1
		assignment := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
		assignment.Replicas = []int32{a.id + 100}
		t.ReplicaAssignment = append(t.ReplicaAssignment, assignment)
	})
	twice := kmsg.NewPtrCreateTopicsRequest()
	for range 2 {
		one := kmsg.NewCreateTopicsRequestTopic()
		one.Topic, one.NumPartitions, one.ReplicationFactor = "admin-twice", 1, 1
		twice.Topics = append(twice.Topics, one)
	}
	a.ask("create twice at once", twice)

	metadata := kmsg.NewPtrMetadataRequest()
	for _, name := range []string{"admin-a", "admin-unknown", "admin a"} {
		one := kmsg.NewMetadataRequestTopic()
		one.Topic = kmsg.StringPtr(name)
		metadata.Topics = append(metadata.Topics, one)
	}
	a.ask("metadata", metadata)
	byID := kmsg.NewPtrMetadataRequest()
	unknown := kmsg.NewMetadataRequestTopic()
	unknown.TopicID = [16]byte{1, 2, 3}
	byID.Topics = append(byID.Topics, unknown)
	a.ask("metadata of an unknown id", byID)

	partitions := func(step, name string, count int32, assignment ...int32) {
		request := kmsg.NewPtrCreatePartitionsRequest()
		topic := kmsg.NewCreatePartitionsRequestTopic()
		topic.Topic, topic.Count = name, count
		if len(assignment) > 0 {
			one := kmsg.NewCreatePartitionsRequestTopicAssignment()
			one.Replicas = assignment
			topic.Assignment = append(topic.Assignment, one)
		}
		request.Topics = append(request.Topics, topic)
		a.ask(step, request)
	}
	partitions("more partitions", "admin-a", 5)
	a.settled("admin-a", 5)
	partitions("as many partitions", "admin-a", 5)
	partitions("fewer partitions", "admin-a", 1)
	partitions("no partitions", "admin-a", 0)
	partitions("partitions of an unknown topic", "admin-unknown", 5)
	partitions("assigned partitions", "admin-a", 6, a.id)
	partitions("partitions assigned to nobody", "admin-a", 7, a.id+100)
	a.settled("admin-a", 6)
	describe := kmsg.NewPtrDescribeTopicPartitionsRequest()
	for _, name := range []string{"admin-a", "admin-unknown"} {
		one := kmsg.NewDescribeTopicPartitionsRequestTopic()
		one.Topic = name
		describe.Topics = append(describe.Topics, one)
	}
	describe.ResponsePartitionLimit = 4
	a.ask("topic partitions", describe)
}

func (a *administrator) deletion() {
	remove := func(step string, names ...string) {
		request := kmsg.NewPtrDeleteTopicsRequest()
		for _, name := range names {
			one := kmsg.NewDeleteTopicsRequestTopic()
			one.Topic = kmsg.StringPtr(name)
			request.Topics = append(request.Topics, one)
		}
		a.ask(step, request)
	}
	remove("delete", "admin-a", "admin-default", "admin-unknown")
	remove("delete again", "admin-a")
	remove("delete the others", "admin-assigned", "admin-records", "admin-transactions")
	byID := kmsg.NewPtrDeleteTopicsRequest()
	unknown := kmsg.NewDeleteTopicsRequestTopic()
	unknown.TopicID = [16]byte{1, 2, 3}
	byID.Topics = append(byID.Topics, unknown)
	a.ask("delete an unknown id", byID)
}
