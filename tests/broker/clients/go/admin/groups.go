package main

import (
	"github.com/twmb/franz-go/pkg/kmsg"
)

// topicID is the id that a topic has, which newer requests have in the place of its name.
func (a *administrator) topicID(topic string) [16]byte {
	request := kmsg.NewPtrMetadataRequest()
	one := kmsg.NewMetadataRequestTopic()
	one.Topic = &topic
	request.Topics = append(request.Topics, one)
	answer, err := request.RequestWith(a.ctx, a.client)
	if err != nil || len(answer.Topics) != 1 {
		return [16]byte{}
	}
	return answer.Topics[0].TopicID
}

// coordinators asks who coordinates, which makes the internal topics: until they are there, the answer is an error that says
// to come again.
func (a *administrator) coordinators() {
	for kind, step := range []string{"coordinator of groups", "coordinator of transactions"} {
		request := kmsg.NewPtrFindCoordinatorRequest()
		request.CoordinatorType, request.CoordinatorKeys = int8(kind), []string{"admin-group"}
		for range 200 {
			answer, err := request.RequestWith(a.ctx, a.broker)
			if err == nil && len(answer.Coordinators) == 1 && answer.Coordinators[0].ErrorCode == 0 {
				break
			}
			a.pause()
		}
		a.ask(step, request)
	}
}

// groups commits offsets as somebody who is no member, and asks about groups.
func (a *administrator) groups() {
	const topic = "admin-records"
	commit := func(step, group, member string, generation int32, id [16]byte, partitions ...int32) {
		request := kmsg.NewPtrOffsetCommitRequest()
		request.Group, request.MemberID, request.Generation = group, member, generation
		one := kmsg.NewOffsetCommitRequestTopic()
		one.Topic, one.TopicID = topic, id
		for _, partition := range partitions {
			offset := kmsg.NewOffsetCommitRequestTopicPartition()
			offset.Partition, offset.Offset, offset.LeaderEpoch, offset.Metadata = partition, 5, 0, kmsg.StringPtr("note")
			one.Partitions = append(one.Partitions, offset)
		}
		request.Topics = append(request.Topics, one)
		a.ask(step, request)
	}
	fetch := func(step, group string, all bool, id [16]byte) {
		request := kmsg.NewPtrOffsetFetchRequest()
		one := kmsg.NewOffsetFetchRequestGroup()
		one.Group = group
		if !all {
			asked := kmsg.NewOffsetFetchRequestGroupTopic()
			asked.Topic, asked.TopicID, asked.Partitions = topic, id, []int32{0, 1}
			one.Topics = append(one.Topics, asked)
		}
		request.Groups = append(request.Groups, one)
		a.ask(step, request)
	}
	known, unknown := a.topicID(topic), [16]byte{1, 2, 3}
	commit("commit", "admin-group", "", -1, known, 0)
	commit("commit of an unknown partition", "admin-group", "", -1, known, 7)
	commit("commit of an unknown topic", "admin-group", "", -1, unknown, 0)
	commit("commit of no member", "admin-group", "somebody", 3, known, 0)
	commit("commit of no group", "", "", -1, known, 0)
	fetch("committed offsets", "admin-group", false, known)
	fetch("all committed offsets", "admin-group", true, known)
	fetch("committed offsets of an unknown group", "admin-none", false, known)
	fetch("committed offsets of an unknown topic", "admin-group", false, unknown)

	describe := kmsg.NewPtrDescribeGroupsRequest()
	describe.Groups, describe.IncludeAuthorizedOperations = []string{"admin-group", "admin-none"}, true
	a.ask("groups described", describe)
	a.listGroups("groups")
	a.listGroups("empty groups", "Empty")
	a.listGroups("stable groups", "Stable")

	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis, join.ProtocolType = "admin-member", 30_000, 30_000, "consumer"
	protocol := kmsg.NewJoinGroupRequestProtocol()
	protocol.Name = "range"
	join.Protocols = append(join.Protocols, protocol)
	a.ask("join without a member id", join)
	join.MemberID = "somebody"
	a.ask("join with an unknown member id", join)
	join.MemberID, join.SessionTimeoutMillis = "", 1
	a.ask("join with a session time-out that is too short", join)
	heartbeat := kmsg.NewPtrHeartbeatRequest()
	heartbeat.Group, heartbeat.MemberID, heartbeat.Generation = "admin-member", "somebody", 1
	a.ask("heartbeat of no member", heartbeat)
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Group, sync.MemberID, sync.Generation = "admin-member", "somebody", 1
	a.ask("sync of no member", sync)
	leave := kmsg.NewPtrLeaveGroupRequest()
	leave.Group = "admin-member"
	gone := kmsg.NewLeaveGroupRequestMember()
	gone.MemberID = "somebody"
	leave.Members = append(leave.Members, gone)
	a.ask("leave of no member", leave)

	forget := kmsg.NewPtrOffsetDeleteRequest()
	forget.Group = "admin-group"
	one := kmsg.NewOffsetDeleteRequestTopic()
	one.Topic = topic
	partition := kmsg.NewOffsetDeleteRequestTopicPartition()
	one.Partitions = append(one.Partitions, partition)
	forget.Topics = append(forget.Topics, one)
	commit("commit once more", "admin-group", "", -1, known, 0)
	a.ask("delete offsets", forget)
	fetch("committed offsets that were deleted", "admin-group", false, known)
	forget.Group = "admin-none"
	a.ask("delete offsets of an unknown group", forget)

	remove := kmsg.NewPtrDeleteGroupsRequest()
	commit("commit for the last time", "admin-group", "", -1, known, 0)
	remove.Groups = []string{"admin-group", "admin-none"}
	a.ask("delete groups", remove)
	a.listGroups("groups after one was deleted")
}

func (a *administrator) listGroups(step string, states ...string) {
	request := kmsg.NewPtrListGroupsRequest()
	request.StatesFilter = states
	answer, err := a.broker.RetriableRequest(a.ctx, request)
	if err != nil {
		a.say(step, err.Error())
		return
	}
	fields := comparable(answer).(map[string]any)
	fields["Groups"] = only(fields["Groups"], "Group")
	a.say(step, fields)
}
