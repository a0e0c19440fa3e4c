package main

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// names are the configurations of topics that have a meaning for a log: those of tiered storage, of replication's speed and
// of share groups are left out.
var names = []string{
	"cleanup.policy", "compression.gzip.level", "compression.lz4.level", "compression.type", "compression.zstd.level",
	"delete.retention.ms", "file.delete.delay.ms", "flush.messages", "flush.ms", "index.interval.bytes", "max.compaction.lag.ms",
	"max.message.bytes", "message.timestamp.after.max.ms", "message.timestamp.before.max.ms", "message.timestamp.type",
	"min.cleanable.dirty.ratio", "min.compaction.lag.ms", "min.insync.replicas", "preallocate", "retention.bytes", "retention.ms",
	"segment.bytes", "segment.index.bytes", "segment.jitter.ms", "segment.ms", "unclean.leader.election.enable",
}

// change is one of a configuration; kmsg names its kinds.
type change struct {
	name  string
	kind  kmsg.IncrementalAlterConfigOp
	value string
}

const (
	set      = kmsg.IncrementalAlterConfigOpSet
	reset    = kmsg.IncrementalAlterConfigOpDelete
	include  = kmsg.IncrementalAlterConfigOpAppend
	takeAway = kmsg.IncrementalAlterConfigOpSubtract
)

func (a *administrator) describe(step string, kind kmsg.ConfigResourceType, resource string, synonyms bool, names ...string) {
	request := kmsg.NewPtrDescribeConfigsRequest()
	request.IncludeSynonyms = synonyms
	one := kmsg.NewDescribeConfigsRequestResource()
	one.ResourceType, one.ResourceName, one.ConfigNames = kind, resource, names
	request.Resources = append(request.Resources, one)
	a.ask(step, request)
}

func (a *administrator) alter(step string, only bool, kind kmsg.ConfigResourceType, resource string, changes ...change) {
	request := kmsg.NewPtrIncrementalAlterConfigsRequest()
	request.ValidateOnly = only
	one := kmsg.NewIncrementalAlterConfigsRequestResource()
	one.ResourceType, one.ResourceName = kind, resource
	for _, change := range changes {
		config := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		config.Name, config.Op, config.Value = change.name, change.kind, &change.value
		if change.kind == reset {
			config.Value = nil
		}
		one.Configs = append(one.Configs, config)
	}
	request.Resources = append(request.Resources, one)
	a.ask(step, request)
	time.Sleep(300 * time.Millisecond) // Kafka answers before its own broker knows of the change
}

func (a *administrator) configurations(broker string) {
	const topic = kmsg.ConfigResourceTypeTopic
	a.describe("configurations", topic, "admin-a", false, names...)
	a.describe("configurations with synonyms", topic, "admin-a", true, "retention.ms", "segment.bytes", "cleanup.policy", "flush.ms")
	a.describe("an unknown configuration", topic, "admin-a", false, "no.such")
	a.describe("configurations of an unknown topic", topic, "admin-unknown", false, "retention.ms")
	a.describe("configurations of a bad name", topic, "admin a", false, "retention.ms")

	a.alter("set", false, topic, "admin-a", change{"retention.bytes", set, "1000000"}, change{"segment.bytes", set, "2097152"})
	a.alter("append", false, topic, "admin-a", change{"cleanup.policy", include, "compact"})
	a.describe("configurations that were set", topic, "admin-a", false, "retention.bytes", "segment.bytes", "cleanup.policy")
	a.alter("subtract and delete", false, topic, "admin-a", change{"cleanup.policy", takeAway, "delete"}, change{"retention.bytes", reset, ""})
	a.describe("configurations that were changed again", topic, "admin-a", false, "retention.bytes", "segment.bytes", "cleanup.policy")
	a.alter("delete what is not set", false, topic, "admin-a", change{"flush.ms", reset, ""})
	a.alter("try", true, topic, "admin-a", change{"retention.ms", set, "7"})
	a.alter("try what cannot be", true, topic, "admin-a", change{"retention.ms", set, "seven"})
	a.alter("set a bad value", false, topic, "admin-a", change{"retention.ms", set, "-2"})
	a.alter("set an unknown configuration", false, topic, "admin-a", change{"no.such", set, "1"})
	a.alter("append to what is no list", false, topic, "admin-a", change{"retention.ms", include, "1"})
	a.alter("set twice at once", false, topic, "admin-a", change{"retention.ms", set, "1"}, change{"retention.ms", set, "2"})
	a.alter("set one good, one bad", false, topic, "admin-a", change{"retention.bytes", set, "5"}, change{"segment.bytes", set, "no"})
	a.alter("set of an unknown topic", false, topic, "admin-unknown", change{"retention.ms", set, "1"})
	a.describe("configurations after what was refused", topic, "admin-a", false, names...)

	replace := kmsg.NewPtrAlterConfigsRequest()
	one := kmsg.NewAlterConfigsRequestResource()
	one.ResourceType, one.ResourceName = topic, "admin-a"
	config := kmsg.NewAlterConfigsRequestResourceConfig()
	config.Name, config.Value = "retention.ms", kmsg.StringPtr("5000000")
	one.Configs = append(one.Configs, config)
	replace.Resources = append(replace.Resources, one)
	a.ask("replace all configurations", replace)
	a.describe("configurations after all were replaced", topic, "admin-a", false, names...)

	id := kmsg.StringPtr("1")
	a.describe("configurations of the broker", kmsg.ConfigResourceTypeBroker, *id, true, "log.retention.ms", "num.partitions", "message.max.bytes")
	a.alter("set of the broker", false, kmsg.ConfigResourceTypeBroker, *id, change{"log.retention.ms", set, "77777777777"})
	a.describe("configurations of the broker that were set", kmsg.ConfigResourceTypeBroker, *id, true, "log.retention.ms")
	a.describe("what a topic has of the broker", topic, "admin-default", true, "retention.ms")
	a.alter("set what cannot change", false, kmsg.ConfigResourceTypeBroker, *id, change{"node.id", set, "7"})
	a.alter("set back", false, kmsg.ConfigResourceTypeBroker, *id, change{"log.retention.ms", reset, ""})
	a.describe("configurations of another broker", kmsg.ConfigResourceTypeBroker, "777", false, "log.retention.ms")
}
