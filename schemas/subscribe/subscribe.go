// Package subscribe is for services that want to know what Causeway holds for
// true: first the state of every record, then each change, with nothing left
// out between the two and nothing twice.
//
// A [Subscription] reads the stream CANONICAL. [Subscription.Run] hands over
// the last event of every entity, then those that follow, in the order of the
// stream; it lives through the loss of the connection and of the server, and
// goes on where it was. An event with a version that was handed over already is
// not handed over again, so that who handles one may simply store it by id. Who
// keeps [Event.Sequence] with what it stores goes on there after a restart:
// [Subscription.After].
//
// It needs no write permission on any stream: the role "subscriber" of
// `causeway streams permissions` is enough. The package is under the same promise
// as the schemas: see README.md of the folder above.
package subscribe

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/envelope"
)

// Stream is the stream that is read.
const Stream = "CANONICAL"

// Subscription says what is read. The zero value is everything but tag events.
type Subscription struct {
	// Tenant and Kinds restrict it; none means all. Tag events are derived from
	// contact events, which have all that they say, and are not handed over.
	Tenant canonical.Tenant
	Kinds  []canonical.Kind
	// After is the sequence up to which everything was handed over before: then
	// there is no snapshot, and what follows on it is. 0 begins with the
	// snapshot.
	After uint64
	// Bookkeeping also hands over events of op observed, which change no public
	// field.
	Bookkeeping bool
}

// Event is one event, or in the snapshot the last of an entity.
type Event struct {
	Tenant canonical.Tenant
	Kind   canonical.Kind
	Op     canonical.Op
	// Event is the record as it is from then on, and what changed.
	canonical.Event
	// Attributes are the CloudEvents attributes: its id is <entity>.<version>.
	Attributes envelope.Attributes
	// Sequence is that of the stream.
	Sequence uint64
	// Snapshot says that it is an entity's state, as it was when Run began, and
	// Changes are only those of its last step.
	Snapshot bool
}

// ErrLost is returned, wrapped, if the stream has lost what followed on After:
// begin anew with the snapshot.
var ErrLost = errors.New("the stream no longer has what follows")

// Run hands over the snapshot, then calls live, if it isn't nil, then hands over
// what follows, until ctx is done, when it returns nil, or handle or live
// returns an error, which it returns. handle is called by one goroutine, one
// event at a time.
func (s Subscription) Run(ctx context.Context, js jetstream.JetStream, handle func(Event) error, live func() error) error {
	stream, err := js.Stream(ctx, Stream)
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", Stream, err)
	}
	// All that the snapshot has to hold is there up to this sequence; what comes
	// while it is being read is found after it.
	state := stream.CachedInfo().State
	r := &reader{s: s, handle: handle, versions: map[canonical.CanonicalID]uint64{}}
	switch {
	case s.After == 0:
		if err := r.snapshot(ctx, stream, state.LastSeq); err != nil {
			return done(ctx, err)
		}
		r.at = state.LastSeq
	case s.After > state.LastSeq:
		return fmt.Errorf("subscribe after message %d of %s, whose last is %d: %w", s.After, Stream, state.LastSeq, ErrLost)
	default:
		r.at = s.After
	}
	if live != nil {
		if err := live(); err != nil {
			return err
		}
	}
	for ctx.Err() == nil {
		if err := r.follow(ctx, stream); err != nil {
			return done(ctx, err)
		}
	}
	return nil
}

// done returns nil for what went wrong because ctx is done.
func done(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

type reader struct {
	s        Subscription
	handle   func(Event) error
	versions map[canonical.CanonicalID]uint64 // handed over, by entity
	at       uint64                           // handed over, of the stream
}

func (s Subscription) filters() []string {
	tenant, kinds := string(s.Tenant), s.Kinds
	if tenant == "" {
		tenant = "*" // a tenant is a slug, and its own subject token
	}
	if len(kinds) == 0 {
		kinds = append([]canonical.Kind{canonical.KindContact}, canonical.Items()...)
	}
	var out []string
	for _, kind := range kinds {
		out = append(out, "canonical."+string(kind)+"."+tenant+".>")
	}
	return out
}

// snapshot hands over the last event of every entity. Of an entity the stream
// keeps a last message for each op, of which only the newest is its state: the
// first walk finds out which. An entity that changes meanwhile is found, as it
// is then, or by what follows.
func (r *reader) snapshot(ctx context.Context, stream jetstream.Stream, upTo uint64) error {
	if upTo == 0 {
		return nil
	}
	newest := map[string]uint64{}
	err := r.lasts(ctx, stream, func(_ jetstream.Msg, entity string, seq uint64) error {
		newest[entity] = max(newest[entity], seq)
		return nil
	})
	if err != nil {
		return err
	}
	return r.lasts(ctx, stream, func(m jetstream.Msg, entity string, seq uint64) error {
		if seq > upTo || seq < newest[entity] {
			return nil // it is found by what follows, or is not the state
		}
		return r.give(m, seq, true)
	})
}

// lasts calls each with the last message of every subject.
func (r *reader) lasts(ctx context.Context, stream jetstream.Stream, each func(m jetstream.Msg, entity string, seq uint64) error) error {
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{FilterSubjects: r.s.filters(), DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy})
	if err != nil {
		return fmt.Errorf("snapshot of %s: %w", Stream, err)
	}
	info, err := consumer.Info(ctx)
	if err != nil {
		return fmt.Errorf("snapshot of %s: %w", Stream, err)
	}
	if info.NumPending == 0 {
		return nil
	}
	return read(ctx, consumer, func(m jetstream.Msg, meta *jetstream.MsgMetadata) (bool, error) {
		entity, _, _ := about(m.Subject())
		return meta.NumPending == 0, each(m, entity, meta.Sequence.Stream)
	})
}

// follow hands over what comes after r.at, until it can't be read any more: then
// it is to be called again.
func (r *reader) follow(ctx context.Context, stream jetstream.Stream) error {
	info, err := stream.Info(ctx)
	if err != nil {
		return rest(ctx) // the server is away; the connection sees to it
	}
	if info.State.LastSeq < r.at {
		return fmt.Errorf("%s ends at message %d, and %d was handed over: %w", Stream, info.State.LastSeq, r.at, ErrLost)
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{FilterSubjects: r.s.filters(), DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: r.at + 1})
	if err != nil {
		return rest(ctx)
	}
	var handled error
	err = read(ctx, consumer, func(m jetstream.Msg, meta *jetstream.MsgMetadata) (bool, error) {
		if meta.Sequence.Stream > r.at {
			handled = r.give(m, meta.Sequence.Stream, false)
		}
		return handled != nil, handled
	})
	if err != nil && handled == nil {
		return rest(ctx)
	}
	return handled
}

// rest waits a moment before the next try.
func rest(ctx context.Context) error {
	moment, cancel := context.WithTimeout(ctx, 250*time.Millisecond)
	defer cancel()
	<-moment.Done()
	return nil
}

// read calls each until it says that it is done, or returns an error, or nothing
// can be read.
func read(ctx context.Context, consumer jetstream.Consumer, each func(jetstream.Msg, *jetstream.MsgMetadata) (done bool, err error)) error {
	it, err := consumer.Messages()
	if err != nil {
		return fmt.Errorf("read %s: %w", Stream, err)
	}
	defer it.Stop()
	defer context.AfterFunc(ctx, it.Stop)()
	for {
		m, err := it.Next()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", Stream, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("read %s: %w", Stream, err)
		}
		if done, err := each(m, meta); done || err != nil {
			return err
		}
	}
}

// give hands over one event, unless it was.
func (r *reader) give(m jetstream.Msg, seq uint64, snapshot bool) error {
	attributes, err := envelope.Parse(m.Headers())
	if err != nil {
		return fmt.Errorf("message %d of %s: %w", seq, Stream, err)
	}
	e := Event{Attributes: attributes, Sequence: seq, Snapshot: snapshot}
	_, e.Tenant, e.Op = about(m.Subject())
	if e.Event, err = canonical.DecodeEvent(m.Data()); err != nil {
		return fmt.Errorf("message %d of %s: %w", seq, Stream, err)
	}
	e.Kind = e.Event.Kind()
	id := e.ID()
	was, known := r.versions[id]
	r.versions[id] = e.Version
	if !snapshot {
		r.at = seq
		// A version that is less than the last is of an entity that was erased and
		// has begun anew.
		if known && was == e.Version || e.Op == canonical.OpObserved && !r.s.Bookkeeping && (known || r.s.After > 0) {
			return nil
		}
	}
	return r.handle(e)
}

// about reads a subject: canonical.<kind>.<tenant>.<id>.<op>.
func about(subject string) (entity string, tenant canonical.Tenant, op canonical.Op) {
	end := strings.LastIndexByte(subject, '.')
	entity, op = subject[:max(end, 0)], canonical.Op(subject[end+1:])
	if tokens := strings.Split(entity, "."); len(tokens) == 4 {
		tenant = canonical.Tenant(tokens[2])
	}
	return entity, tenant, op
}
