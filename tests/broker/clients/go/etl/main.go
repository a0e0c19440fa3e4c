// Command etl moves the messages of one topic into another with franz-go, each exactly once: it consumes in a group,
// transforms, produces, and commits its offsets in the same transaction.
//
//	etl load   fills the source with numbered messages
//	etl run    is one member of the group; it ends when all of the source is moved
//	etl watch  reads the target as it fills, as a reader of committed messages, and says what is wrong with it at its end
//	etl check  reads the target as a reader of committed messages and says what is wrong with it
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"clients/ledger"
	"clients/settings"
)

// etl is what was asked for.
type etl struct {
	brokers, from, to, group, id string
	count, batch, abortEvery     int
	pace                         time.Duration
	commits, aborts, restarts    int
}

func main() {
	if len(os.Args) < 2 {
		settings.Must(fmt.Errorf("etl load|run|check [flags]"))
	}
	var e etl
	flags := flag.NewFlagSet("etl "+os.Args[1], flag.ExitOnError)
	flags.StringVar(&e.brokers, "brokers", "127.0.0.1:9092", "addresses of brokers, with commas between them")
	flags.StringVar(&e.from, "from", "source", "topic to read")
	flags.StringVar(&e.to, "to", "target", "topic to write; as many partitions as the source")
	flags.StringVar(&e.group, "group", "etl", "the group")
	flags.StringVar(&e.id, "id", "etl", "transactional id, another one for each member")
	flags.IntVar(&e.count, "count", 10000, "how many messages there are in all")
	flags.IntVar(&e.batch, "batch", 500, "how many messages a transaction moves at most")
	flags.DurationVar(&e.pace, "pace", 0, "how long a member waits after each transaction")
	flags.IntVar(&e.abortEvery, "abort-every", 0, "abort each so many-th transaction on purpose")
	settings.Must(flags.Parse(os.Args[2:]))

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch os.Args[1] {
	case "load":
		settings.Must(e.load(ctx))
	case "run":
		e.run(ctx)
	case "watch":
		e.watch(ctx)
	case "check":
		e.check(ctx)
	default:
		settings.Must(fmt.Errorf("there is no etl %s", os.Args[1]))
	}
}

func (e *etl) client(options ...kgo.Opt) *kgo.Client {
	client, err := kgo.NewClient(append(options, e.seeds())...)
	settings.Must(err)
	return client
}

func (e *etl) seeds() kgo.Opt { return kgo.SeedBrokers(strings.Split(e.brokers, ",")...) }

// partitions is how many there are of the source.
func (e *etl) partitions(ctx context.Context, client *kgo.Client) (int, error) {
	topics, err := kadm.NewClient(client).ListTopics(ctx, e.from)
	if err == nil {
		err = topics.Error()
	}
	return len(topics[e.from].Partitions), err
}

func (e *etl) load(ctx context.Context) error {
	client := e.client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer client.Close()
	partitions, err := e.partitions(ctx, client)
	if err != nil {
		return err
	}
	var failed kgo.FirstErrPromise
	for n := range e.count {
		record := &kgo.Record{Topic: e.from, Partition: int32(n % partitions), Value: fmt.Appendf(nil, "message %d", n)}
		client.Produce(ctx, record, failed.Promise())
	}
	if err := client.Flush(ctx); err != nil {
		return err
	}
	return failed.Err()
}

// run moves until nothing is left. After an error it begins with a new session and with what is committed: that is
// all that there is to do, whatever happened to the transaction.
func (e *etl) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := e.session(ctx)
		if err == nil {
			break
		}
		fmt.Fprintln(os.Stderr, e.id, "begins anew:", err)
		e.restarts++
		time.Sleep(200 * time.Millisecond)
	}
	settings.Must(json.NewEncoder(os.Stdout).Encode(map[string]int{"commits": e.commits, "aborts": e.aborts, "restarts": e.restarts}))
}

func (e *etl) session(ctx context.Context) error {
	session, err := kgo.NewGroupTransactSession(
		e.seeds(),
		kgo.TransactionalID(e.id),
		kgo.TransactionTimeout(20*time.Second),
		kgo.ConsumerGroup(e.group),
		kgo.ConsumeTopics(e.from),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.RequireStableFetchOffsets(),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
	)
	if err != nil {
		return err
	}
	defer session.Close()
	for ctx.Err() == nil {
		poll, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		fetches := session.PollRecords(poll, e.batch)
		cancel()
		if fetches.NumRecords() > 0 {
			if err := e.transaction(session, fetches.Records()); err != nil {
				return err
			}
			time.Sleep(e.pace)
		} else if e.moved(ctx, session.Client()) {
			return nil
		}
	}
	return nil
}

// transaction moves these messages, or none of them. Its end is never interrupted: a signal waits for it.
func (e *etl) transaction(session *kgo.GroupTransactSession, records []*kgo.Record) error {
	if err := session.Begin(); err != nil {
		return err
	}
	ctx := context.Background()
	failed := kgo.AbortingFirstErrPromise(session.Client())
	for _, record := range records {
		_, number, _ := strings.Cut(string(record.Value), " ")
		moved := &kgo.Record{Topic: e.to, Partition: record.Partition, Key: record.Key, Value: []byte("moved " + number)}
		session.Produce(ctx, moved, failed.Promise())
	}
	wanted := e.abortEvery == 0 || (e.commits+e.aborts)%e.abortEvery != e.abortEvery-1
	committed, err := session.End(ctx, kgo.TransactionEndTry(failed.Err() == nil && wanted))
	if committed {
		e.commits++
	} else {
		e.aborts++
	}
	return err
}

// moved is whether the group has committed all that was to come; while nobody answers it has not.
func (e *etl) moved(ctx context.Context, client *kgo.Client) bool {
	admin := kadm.NewClient(client)
	ends, err := admin.ListEndOffsets(ctx, e.from)
	if err != nil {
		return false
	}
	committed, err := admin.FetchOffsets(ctx, e.group)
	if err != nil {
		return false
	}
	var all int64
	done := true
	ends.Each(func(end kadm.ListedOffset) {
		all += end.Offset
		at, known := committed.Lookup(end.Topic, end.Partition)
		done = done && (end.Offset == 0 || known && at.At >= end.Offset)
	})
	return done && all >= int64(e.count)
}

// reader reads the target from its start, and what it reads is reported.
func (e *etl) reader(options ...kgo.Opt) (*kgo.Client, *report) {
	client := e.client(append(options,
		kgo.ConsumeTopics(e.to),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
	)...)
	return client, &report{Wrong: []string{}, at: make([][2]int, e.count), last: map[int32]int{}}
}

// watch reads until it has all messages, or is told to end.
func (e *etl) watch(ctx context.Context) {
	client, result := e.reader()
	defer client.Close()
	for result.Messages < e.count && ctx.Err() == nil {
		client.PollFetches(ctx).EachRecord(result.read)
	}
	result.end()
}

// check reads the target up to its end. The last record of each partition is a marker, so that markers are read too.
func (e *etl) check(ctx context.Context) {
	client, result := e.reader(kgo.KeepControlRecords())
	defer client.Close()
	left := e.ends(ctx, client, result)
	deadline, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for len(left) > 0 && deadline.Err() == nil {
		client.PollFetches(deadline).EachRecord(func(record *kgo.Record) {
			if record.Offset+1 >= left[record.Partition] {
				delete(left, record.Partition)
			}
			if !record.Attrs.IsControl() {
				result.read(record)
			}
		})
	}
	for partition, end := range left {
		result.wrong("partition %d ends before offset %d", partition, end)
	}
	result.end()
}

// ends is where each partition ends that holds something; no transaction may be open any more.
func (e *etl) ends(ctx context.Context, client *kgo.Client, result *report) map[int32]int64 {
	admin := kadm.NewClient(client)
	ends, err := admin.ListEndOffsets(ctx, e.to)
	settings.Must(err)
	stable, err := admin.ListCommittedOffsets(ctx, e.to)
	settings.Must(err)
	left := map[int32]int64{}
	ends.Each(func(end kadm.ListedOffset) {
		if end.Offset > 0 {
			left[end.Partition] = end.Offset
		}
		if at, _ := stable.Lookup(end.Topic, end.Partition); at.Offset != end.Offset {
			result.wrong("partition %d: a transaction is open at offset %d of %d", end.Partition, at.Offset, end.Offset)
		}
	})
	return left
}

// report is what was read and what is wrong with it.
type report struct {
	Messages int      `json:"messages"`
	Wrong    []string `json:"wrong"`
	at       [][2]int // by number of a message: its offset, and how often it was read
	last     map[int32]int
}

func (r *report) wrong(format string, args ...any) {
	if len(r.Wrong) < 20 {
		r.Wrong = append(r.Wrong, fmt.Sprintf(format, args...))
	}
}

// end looks for what is missing and tells the report; if anything is wrong, it ends the program.
func (r *report) end() {
	for n, at := range r.at {
		if at[1] == 0 {
			r.wrong("message %d is lost", n)
		}
	}
	settings.Must(json.NewEncoder(os.Stdout).Encode(r))
	if len(r.Wrong) > 0 {
		os.Exit(1)
	}
}

func (r *report) read(record *kgo.Record) {
	r.Messages++
	number, err := ledger.Number(string(record.Value))
	if err != nil || number < 0 || number >= len(r.at) {
		r.wrong("partition %d, offset %d: what is %q?", record.Partition, record.Offset, record.Value)
		return
	}
	if r.at[number][1] > 0 {
		r.wrong("message %d is twice in partition %d: at %d and at %d", number, record.Partition, r.at[number][0], record.Offset)
	}
	r.at[number] = [2]int{int(record.Offset), r.at[number][1] + 1}
	if last, seen := r.last[record.Partition]; seen && number < last {
		r.wrong("partition %d, offset %d: message %d after %d", record.Partition, record.Offset, number, last)
	}
	r.last[record.Partition] = number
}
