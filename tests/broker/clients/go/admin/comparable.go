package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"clients/settings"
)

// dropped are fields that no two brokers share, or that are for people.
var dropped = []string{
	"Version", "UnknownTags", "ThrottleMillis", "ErrorMessage", "Host", "Port", "ClusterID", "Dir", "Size", "TotalBytes",
	"UsableBytes", "IsCordoned", "Documentation", "TxnStartTimestamp", "StartTimestamp", "LastTimestamp", "CoordinatorEpoch",
}

// opaque are fields of which it can be compared whether they are set.
var opaque = []string{"TopicID", "MemberID", "ProducerID"}

// comparable is an answer without what differs from broker to broker, with its errors by name, and its lists in an order.
func comparable(answer kmsg.Response) any {
	bytes, err := json.Marshal(answer)
	settings.Must(err)
	var value any
	settings.Must(json.Unmarshal(bytes, &value))
	return cleaned(value)
}

func cleaned(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for name, field := range value {
			switch {
			case slices.Contains(dropped, name):
				delete(value, name)
			case slices.Contains(opaque, name):
				value[name] = isSet(field)
			case name == "Configs":
				entries, _ := field.([]any)
				value[name] = cleaned(slices.DeleteFunc(entries, ofOthers))
			case name == "ErrorCode":
				value[name] = errorName(int16(field.(float64)))
			default:
				value[name] = cleaned(field)
			}
		}
	case []any:
		if len(value) == 0 {
			return nil // whether a list is null or empty is no difference for those who read it
		}
		for n := range value {
			value[n] = cleaned(value[n])
		}
		slices.SortFunc(value, func(a, b any) int { return cmp.Compare(text(a), text(b)) })
	}
	return value
}

// ofOthers is whether a configuration is one of tiered storage, of replication's speed, or of share groups.
func ofOthers(config any) bool {
	fields, _ := config.(map[string]any)
	name, _ := fields["Name"].(string)
	return slices.ContainsFunc([]string{"remote.", "local.", "leader.", "follower.", "errors."}, func(prefix string) bool {
		return strings.HasPrefix(name, prefix)
	})
}

func text(value any) string {
	bytes, err := json.Marshal(value)
	settings.Must(err)
	return string(bytes)
}

// isSet is whether an id of any type is one: a number from 0 on, a word, or a UUID that is not zero.
func isSet(id any) bool {
	switch id := id.(type) {
	case float64:
		return id >= 0
	case string:
		return id != ""
	case []any:
		return slices.ContainsFunc(id, func(one any) bool { return one != 0.0 })
	}
	return false
}

func errorName(code int16) string {
	var known *kerr.Error
	if errors.As(kerr.ErrorForCode(code), &known) {
		return known.Message
	}
	return "NONE"
}

// only keeps those of a list whose name begins with "admin-": others may be there that are not ours.
func only(list any, name string) any {
	entries, _ := list.([]any)
	return cleaned(slices.DeleteFunc(entries, func(entry any) bool {
		fields, _ := entry.(map[string]any)
		value, _ := fields[name].(string)
		return !strings.HasPrefix(value, "admin-")
	}))
}
