// Package bus is how a stage speaks to the broker: publish and wait, the
// consume loop, and the one place where a handler's verdict becomes an ack, a
// nak, a term or a dead letter.
//
// Stages are written against the interfaces here, so that the whole pipeline
// can run on another broker than [Conn], which is NATS JetStream.
//
// The rule it serves: the left side is acked after the right side has it.
// Every step can run twice, and is written as if it will.
package bus

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/streams"
)

// Errors that callers decide on, matched with errors.Is.
var (
	// ErrWrongSequence: another writer was first; load and try again.
	ErrWrongSequence = errors.New("wrong last sequence")
	// ErrNotFound: there is no such message or key.
	ErrNotFound = errors.New("not found")
	// ErrExists: the key is there already.
	ErrExists = errors.New("key exists")
	// ErrNotStored: the broker did not confirm; the message may or may not be
	// there.
	ErrNotStored = errors.New("not confirmed by the broker")
	// ErrTooOld: the server lacks what the pipeline needs; 2.12 has it.
	ErrTooOld = errors.New("nats-server 2.12 or newer is needed")
	// ErrStopping is the cause of a context that ends because the process is
	// stopping; a handler that returns it is given its message again.
	ErrStopping = errors.New("stopping")
)

// Header is a message's headers. Keys are kept as they are spelled.
type Header map[string][]string

// Message is something to publish.
type Message struct {
	Subject string
	Header  Header
	Data    []byte
	// ID is the idempotency key: within the stream's duplicate window a second
	// message with it is dropped. It must not be set together with Expect: the
	// server looks at the id first, so that the loser of a race would be told
	// that it had won.
	ID string
	// Expect makes the publish conditional.
	Expect *Expect
}

// Expect says that the last message on Subject (which may hold wildcards) has
// sequence LastSeq, 0 for none. If it doesn't: ErrWrongSequence.
type Expect struct {
	Subject string
	LastSeq uint64
}

// Ack is the broker's word that it has a message.
type Ack struct {
	Stream    string
	Seq       uint64
	Duplicate bool // the id was seen before; Seq is that of the first
}

// Stored is a message as a stream holds it.
type Stored struct {
	Stream  string
	Subject string
	Header  Header
	Data    []byte
	Seq     uint64
	Time    time.Time
}

// Publisher stores messages.
type Publisher interface {
	// Publish stores m and waits for the PubAck. Errors: ErrWrongSequence,
	// ErrNotStored, or the context's cause.
	Publish(ctx context.Context, m Message) (Ack, error)
	// PublishAsync stores m and calls done exactly once, from the broker's
	// reading goroutine: done must not block. It blocks while the window of
	// unconfirmed messages is full, and returns an error (and never calls
	// done) only if m was not sent.
	PublishAsync(ctx context.Context, m Message, done func(Ack, error)) error
}

// Reader looks things up in streams.
type Reader interface {
	// Last returns the last message on subject, which may hold wildcards, or
	// ErrNotFound.
	Last(ctx context.Context, stream, subject string) (Stored, error)
	// Message returns the message of that sequence, or ErrNotFound.
	Message(ctx context.Context, stream string, seq uint64) (Stored, error)
	// Scan calls each with the messages of a stream under filter that are there
	// now, stored at since or later, from the oldest. It stops at each's error
	// and returns it; ErrNotFound says that there is no such stream.
	Scan(ctx context.Context, stream, filter string, since time.Time, each func(Stored) error) error
	// ScanLast is Scan of the last message of each subject only.
	ScanLast(ctx context.Context, stream, filter string, each func(Stored) error) error
	// Subjects returns how many subjects under filter hold messages.
	Subjects(ctx context.Context, stream, filter string) (uint64, error)
	// Passed reports whether a durable consumer is done with all messages up
	// to seq. One that is not there has not begun.
	Passed(ctx context.Context, c streams.Consumer, seq uint64) (bool, error)
	// Behind returns how many messages a durable consumer has yet to be done
	// with; 0 if it is not there.
	Behind(ctx context.Context, c streams.Consumer) (uint64, error)
}

// KV is a key-value bucket. Keys are subject tokens joined by dots.
type KV interface {
	// Get returns the value and its revision, or ErrNotFound.
	Get(ctx context.Context, key string) ([]byte, uint64, error)
	// Create stores value if the key is not there, or returns ErrExists.
	Create(ctx context.Context, key string, value []byte) (uint64, error)
	// Update stores value if the revision is still rev, or returns
	// ErrWrongSequence.
	Update(ctx context.Context, key string, value []byte, rev uint64) (uint64, error)
	// Put stores value.
	Put(ctx context.Context, key string, value []byte) (uint64, error)
	// Keys returns the keys that match pattern, which may hold wildcards as a
	// subject does.
	Keys(ctx context.Context, pattern string) ([]string, error)
	// Delete removes the key if its revision is still rev, or returns
	// ErrWrongSequence; rev 0 removes it in any case.
	Delete(ctx context.Context, key string, rev uint64) error
}

// Looker is what a [Reader] may be besides: one that looks up without waiting.
type Looker interface {
	// LastAsync looks up what Last does and calls done exactly once, from a
	// goroutine that others wait for too or before it returns: done must not
	// block. It returns an error (and never calls done) only if it could not ask.
	LastAsync(ctx context.Context, stream, subject string, done func(Stored, error)) error
}

// Log is what a [Reader] may be besides: one that shows a stream as it is kept.
type Log interface {
	// State returns what a stream holds, or ErrNotFound.
	State(ctx context.Context, stream string) (streams.State, error)
	// Headers calls each with the messages of a stream from the sequence from to
	// to that are there, without their bodies, as Scan does.
	Headers(ctx context.Context, stream string, from, to uint64, each func(Stored) error) error
	// Settled returns the sequence up to which a durable consumer is done with
	// everything that it is to be handed; 0 for one that is not there.
	Settled(ctx context.Context, c streams.Consumer) (uint64, error)
}

// AsyncKV is what a [KV] may be besides. Its methods are Get and Create that
// call done exactly once, as [Looker] does, and return an error only if they
// could not ask. A CreateAsync of a key that was deleted is ErrExists; Create
// knows better.
type AsyncKV interface {
	GetAsync(ctx context.Context, key string, done func([]byte, uint64, error)) error
	CreateAsync(ctx context.Context, key string, value []byte, done func(uint64, error)) error
}

// Delivery is a message handed out by a durable consumer. It must be settled
// exactly once with Done, from any goroutine.
type Delivery struct {
	Stored
	hint bool // handed out by Tail; there is nothing to settle
	run  *run // the work on it, unless somebody else counts that
	// Count is how often it has been delivered, from 1.
	Count int
	// Done turns the verdict on the work into an answer to the broker:
	//
	//	nil                      ack
	//	Later(err, d)            nak, delivered again after d
	//	Terminate(err)           dead letter, PubAck, term
	//	cause is ErrStopping     nak; no failure counted
	//	any other error          nak, delivered again after the back-off of Count;
	//	                         a dead letter once Count reaches the limit
	Done func(error)
	// InProgress tells the broker that the work goes on, which restarts the
	// consumer's ack wait.
	InProgress func()
}

// Subscription attaches to a durable consumer that package streams declares.
type Subscription struct {
	Stream  string
	Durable string
	// Group is the pinned priority group, for consumers that have one: any
	// number of instances attach, the server lets one work.
	Group string
	// Batch is how many messages are asked for at a time; 0 means 256.
	Batch int
	// Concurrency is how many handlers run at once; 0 means 1. The handler of
	// a Subscription with Concurrency 1 sees messages in stream order.
	Concurrency int
	// Urgent, for Coalesce, says which messages overtake: those that are stored
	// under Filters from now on and are urgent have their key worked on next,
	// also when the consumer has yet to hand out many that came before.
	Urgent  func(Stored) bool
	Filters []string
	// MaxDeliveries turns an ordinary error into a dead letter when reached;
	// 0 means 10.
	MaxDeliveries int
	// Hold, if set, says that the work on a delivery is not to begin now. Only
	// [Coalesce] asks; what is held stays delivered, and is asked about again.
	Hold func(Stored) bool
	// Class, for Coalesce, says which keys share workers: those of one class
	// don't wait for those of another. The messages of a key are of one class.
	Class func(Stored) string
	// Stage names the stage in a dead letter.
	Stage string
	// Describe says, for a dead letter, what a delivery was about. Nil means:
	// what its subject says.
	Describe func(Stored) envelope.DeadLetter
}

// Grace is for how long a stage that stops goes on with what it has been
// handed; what has not begun then is given back. What has begun gets as long
// again from [Coalesce].
const Grace = 10 * time.Second

// Consumer hands out deliveries.
type Consumer interface {
	// Consume attaches to sub and calls handle for each delivery until ctx is
	// done; then it takes no more, lets what it has been handed be worked on for
	// [Grace], gives back what is left, waits for the handlers that run, and
	// returns nil. handle must see to it that
	// every delivery is settled, but may return before it is: that is how a
	// caller pipelines. While paused (see Pause) nothing is asked for.
	Consume(ctx context.Context, sub Subscription, handle func(context.Context, *Delivery)) error
	// Tail calls each with what is stored under filters from now on, until ctx
	// is done. It is a hint: what comes while the broker is away may be missed.
	Tail(ctx context.Context, stream string, filters []string, each func(Stored))
}

// Bus is everything a stage needs of the broker.
type Bus interface {
	Publisher
	Reader
	Consumer
	// Purge takes the messages of a subject, which may hold wildcards, off a
	// stream: those before the sequence below, or all if it is 0.
	Purge(ctx context.Context, stream, subject string, below uint64) error
	// Bucket opens a key-value bucket that package streams declares.
	Bucket(ctx context.Context, name string) (KV, error)
	// EnsureConsumer creates a declared per-tenant durable consumer if it is
	// missing. It never changes one that exists in an incompatible way.
	EnsureConsumer(ctx context.Context, c streams.Consumer) error
}

type verdict struct {
	err       error
	delay     time.Duration
	terminate bool
}

func (v *verdict) Error() string { return v.err.Error() }
func (v *verdict) Unwrap() error { return v.err }

// Later says: not now, not a failure of the work; deliver it again after d.
func Later(err error, d time.Duration) error {
	return &verdict{err: err, delay: max(d, time.Millisecond)}
}

type explained struct {
	err   error
	about envelope.DeadLetter
}

func (e *explained) Error() string { return e.err.Error() }
func (e *explained) Unwrap() error { return e.err }

// Explain adds to err what its dead letter, should it become one, is to say
// beside the reason: the class, the request, the answer, and the sequence of
// what was looked at, as far as about has them. What is inside says it first.
func Explain(err error, about envelope.DeadLetter) error {
	if err == nil {
		return nil
	}
	return &explained{err, about}
}

// explain puts into letter what err says of it.
func explain(letter *envelope.DeadLetter, err error) {
	var e *explained
	if !errors.As(err, &e) {
		return
	}
	explain(letter, e.err)
	letter.Class = cmp.Or(letter.Class, e.about.Class)
	letter.Request = cmp.Or(letter.Request, e.about.Request)
	letter.Answer = cmp.Or(letter.Answer, e.about.Answer)
	letter.Sequence = cmp.Or(letter.Sequence, e.about.Sequence)
}

// Again returns what a verdict comes to where there is no broker: whether the
// delivery is to be made again, and after what time.
func Again(err error) (after time.Duration, again bool) {
	var v *verdict
	switch {
	case err == nil:
		return 0, false
	case !errors.As(err, &v):
		return backoffs[0], true
	}
	return v.delay, !v.terminate
}

// Terminate says: never again. The message becomes a dead letter with err,
// which must be redacted, as its reason.
func Terminate(err error) error { return &verdict{err: err, terminate: true} }
