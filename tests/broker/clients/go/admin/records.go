package main

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"clients/settings"
)

// firstMs is the timestamp of the first record; each later one is a second older than the one after it.
const firstMs = 1_700_000_000_000

// fill makes a topic with one partition and ten records in it, in batches of their own.
func (a *administrator) fill(topic string) {
	_, err := kadm.NewClient(a.client).CreateTopic(a.ctx, 1, 1, map[string]*string{"retention.ms": kmsg.StringPtr("-1")}, topic)
	settings.Must(err)
	a.settled(topic, 1)
	for n := range 10 {
		record := &kgo.Record{Topic: topic, Timestamp: time.UnixMilli(firstMs + int64(n)*1000), Value: fmt.Appendf(nil, "record %d", n)}
		settings.Must(a.client.ProduceSync(a.ctx, record).FirstErr())
	}
}

// records asks where records are, and has some of them deleted.
func (a *administrator) records() {
	const topic = "admin-records"
	a.fill(topic)
	list := func(step, topic string, partition, epoch int32, at int64) {
		request := kmsg.NewPtrListOffsetsRequest()
		request.ReplicaID = -1
		one := kmsg.NewListOffsetsRequestTopic()
		one.Topic = topic
		asked := kmsg.NewListOffsetsRequestTopicPartition()
		asked.Partition, asked.CurrentLeaderEpoch, asked.Timestamp = partition, epoch, at
		one.Partitions = append(one.Partitions, asked)
		request.Topics = append(request.Topics, one)
		a.ask(step, request)
	}
	list("latest", topic, 0, -1, -1)
	list("earliest", topic, 0, -1, -2)
	list("largest timestamp", topic, 0, -1, -3)
	list("earliest local", topic, 0, -1, -4)
	list("latest tiered", topic, 0, -1, -5)
	list("at the first time", topic, 0, -1, firstMs)
	list("between two times", topic, 0, -1, firstMs+2500)
	list("after the last time", topic, 0, -1, firstMs+9001)
	list("of this epoch", topic, 0, 0, -1)
	list("of a later epoch", topic, 0, 7, -1)
	list("of an unknown partition", topic, 7, -1, -1)
	list("of an unknown topic", "admin-unknown", 0, -1, -1)

	epochs := func(step string, partition, current, epoch int32) {
		request := kmsg.NewPtrOffsetForLeaderEpochRequest()
		request.ReplicaID = -1
		one := kmsg.NewOffsetForLeaderEpochRequestTopic()
		one.Topic = topic
		asked := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
		asked.Partition, asked.CurrentLeaderEpoch, asked.LeaderEpoch = partition, current, epoch
		one.Partitions = append(one.Partitions, asked)
		request.Topics = append(request.Topics, one)
		a.ask(step, request)
	}
	epochs("end of epoch 0", 0, -1, 0)
	epochs("end of epoch 7", 0, -1, 7)
	epochs("end of an epoch, asked too late", 0, 7, 0)
	epochs("end of an epoch of an unknown partition", 9, -1, 0)

	remove := func(step, topic string, partition int32, before int64) {
		request := kmsg.NewPtrDeleteRecordsRequest()
		one := kmsg.NewDeleteRecordsRequestTopic()
		one.Topic = topic
		asked := kmsg.NewDeleteRecordsRequestTopicPartition()
		asked.Partition, asked.Offset = partition, before
		one.Partitions = append(one.Partitions, asked)
		request.Topics = append(request.Topics, one)
		a.ask(step, request)
	}
	remove("delete records", topic, 0, 4)
	remove("delete records again", topic, 0, 3)
	remove("delete records beyond the end", topic, 0, 11)
	remove("delete records before 0", topic, 0, -2)
	remove("delete records of an unknown partition", topic, 7, 1)
	remove("delete records of an unknown topic", "admin-unknown", 0, 1)
	remove("delete records of an internal topic", "__consumer_offsets", 0, 0)
	list("earliest after records were deleted", topic, 0, -1, -2)
	list("at the first time, which was deleted", topic, 0, -1, firstMs)
	remove("delete all records", topic, 0, -1)
	list("earliest after all records were deleted", topic, 0, -1, -2)

	producers := kmsg.NewPtrDescribeProducersRequest()
	one := kmsg.NewDescribeProducersRequestTopic()
	one.Topic, one.Partitions = topic, []int32{0, 7}
	producers.Topics = append(producers.Topics, one)
	a.ask("producers", producers)
}
