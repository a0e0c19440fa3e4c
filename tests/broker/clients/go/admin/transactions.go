package main

import (
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"clients/settings"
)

func (a *administrator) pause() { time.Sleep(25 * time.Millisecond) }

// transactions looks at a transaction while it is open, and after its end.
func (a *administrator) transactions(brokers string) {
	const id, topic = "admin-transaction", "admin-transactions"
	a.fill(topic)
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers), kgo.TransactionalID(id), kgo.TransactionTimeout(time.Minute))
	settings.Must(err)
	defer client.Close()
	for _, end := range []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit} {
		settings.Must(client.BeginTransaction())
		settings.Must(client.ProduceSync(a.ctx, &kgo.Record{Topic: topic, Value: []byte("in a transaction")}).FirstErr())
		a.describeTransactions("an open transaction", id)
		a.listTransactions("open transactions", "Ongoing")
		a.producers("producers in a transaction", topic)
		a.stable("last stable offset in a transaction", topic)
		settings.Must(client.EndTransaction(a.ctx, end))
		// The answer to the client comes first, the markers and the state after it.
		for range 200 {
			request := kmsg.NewPtrDescribeTransactionsRequest()
			request.TransactionalIDs = []string{id}
			answer, err := a.broker.Request(a.ctx, request)
			settings.Must(err)
			if state := answer.(*kmsg.DescribeTransactionsResponse).TransactionStates[0].State; state == "CompleteAbort" || state == "CompleteCommit" {
				break
			}
			a.pause()
		}
		a.describeTransactions("a transaction that has ended", id)
		a.listTransactions("open transactions after the end", "Ongoing")
		a.listTransactions("all transactions")
		a.producers("producers after the end", topic)
		a.stable("last stable offset after the end", topic)
	}
	a.describeTransactions("an unknown transaction", "admin-none")
	a.listTransactions("transactions of an unknown state", "Sleeping")

	start := kmsg.NewPtrInitProducerIDRequest()
	start.TransactionTimeoutMillis = 60_000
	a.ask("a producer id without transactions", start)
	start.TransactionalID = kmsg.StringPtr("")
	a.ask("a producer id with an empty transactional id", start)
	start.TransactionalID, start.TransactionTimeoutMillis = kmsg.StringPtr("admin-long"), 2_000_000_000
	a.ask("a time-out that is too long", start)
	start.TransactionTimeoutMillis = 0
	a.ask("no time-out", start)
	end := kmsg.NewPtrEndTxnRequest()
	end.TransactionalID, end.ProducerID, end.ProducerEpoch, end.Commit = "admin-none", 7, 0, true
	a.ask("end of an unknown transaction", end)
	end.TransactionalID, end.ProducerID = id, 987_654
	a.ask("end by another producer", end)
	add := kmsg.NewPtrAddOffsetsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.Group = "admin-none", 7, "admin-group"
	a.ask("offsets to an unknown transaction", add)
}

func (a *administrator) describeTransactions(step, id string) {
	request := kmsg.NewPtrDescribeTransactionsRequest()
	request.TransactionalIDs = []string{id}
	a.ask(step, request)
}

func (a *administrator) listTransactions(step string, states ...string) {
	request := kmsg.NewPtrListTransactionsRequest()
	request.StateFilters = states
	answer, err := a.broker.RetriableRequest(a.ctx, request)
	settings.Must(err)
	fields := comparable(answer).(map[string]any)
	fields["TransactionStates"] = only(fields["TransactionStates"], "TransactionalID")
	a.say(step, fields)
}

func (a *administrator) producers(step, topic string) {
	request := kmsg.NewPtrDescribeProducersRequest()
	one := kmsg.NewDescribeProducersRequestTopic()
	one.Topic, one.Partitions = topic, []int32{0}
	request.Topics = append(request.Topics, one)
	a.ask(step, request)
}

// stable is where readers of committed records are at the end.
func (a *administrator) stable(step, topic string) {
	request := kmsg.NewPtrListOffsetsRequest()
	request.ReplicaID, request.IsolationLevel = -1, 1
	one := kmsg.NewListOffsetsRequestTopic()
	one.Topic = topic
	asked := kmsg.NewListOffsetsRequestTopicPartition()
	asked.Timestamp = -1
	one.Partitions = append(one.Partitions, asked)
	request.Topics = append(request.Topics, one)
	a.ask(step, request)
}

// cluster asks about the node itself.
func (a *administrator) cluster() {
	a.ask("cluster", kmsg.NewPtrDescribeClusterRequest())
	directories := kmsg.NewPtrDescribeLogDirsRequest()
	for _, name := range []string{"admin-a", "admin-unknown"} {
		one := kmsg.NewDescribeLogDirsRequestTopic()
		one.Topic, one.Partitions = name, []int32{0, 1}
		directories.Topics = append(directories.Topics, one)
	}
	a.ask("log directories", directories)
	elect := kmsg.NewPtrElectLeadersRequest()
	one := kmsg.NewElectLeadersRequestTopic()
	one.Topic, one.Partitions = "admin-a", []int32{0, 77}
	elect.Topics = append(elect.Topics, one)
	a.ask("elect leaders", elect)
	a.ask("reassignments", kmsg.NewPtrListPartitionReassignmentsRequest())
}
