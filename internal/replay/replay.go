package replay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

// Choice says what is replayed; the zero value of a field is everything.
type Choice struct {
	Stream string                `json:"stream"` // RAW or CANONICAL
	Tenant canonical.Tenant      `json:"tenant,omitempty"`
	System canonical.System      `json:"system,omitempty"` // of RAW
	Kind   canonical.Kind        `json:"kind,omitempty"`
	Record canonical.ExternalID  `json:"record,omitempty"` // of RAW
	Entity canonical.CanonicalID `json:"entity,omitempty"` // of CANONICAL
	Since  time.Time             `json:"since,omitzero"`   // stored then or later
	Until  time.Time             `json:"until,omitzero"`   // stored before
	From   uint64                `json:"from,omitempty"`   // that sequence or later
	To     uint64                `json:"to,omitempty"`     // that sequence or earlier
}

func (c Choice) takes(m bus.Stored) bool {
	return !m.Time.Before(c.Since) && (c.Until.IsZero() || m.Time.Before(c.Until)) && m.Seq >= c.From && (c.To == 0 || m.Seq <= c.To)
}

// State says how far a replay is. The zero value is that there is none.
type State string

// The states.
const (
	Running   State = "running"
	Paused    State = "paused"
	Cancelled State = "cancelled"
	Done      State = "done"
)

// Replay is a replay and how far it has come: the value of its key in CURSORS.
type Replay struct {
	ID string `json:"id"`
	Choice
	// Rate is how many messages are published in a second at most.
	Rate  int       `json:"rate"`
	State State     `json:"state"`
	Asked time.Time `json:"asked"`
	Ended time.Time `json:"ended,omitzero"`
	// Total is how many messages are to be published, Told how many have been,
	// in order of their sequences, the last of which is At. Older are those of the
	// choice that are left out, because there is a newer sight of the record.
	Total int    `json:"total"`
	Older int    `json:"older,omitempty"`
	Told  int    `json:"told"`
	At    uint64 `json:"at,omitempty"`
	// Beat is when who works on it said so last.
	Beat time.Time `json:"beat,omitzero"`
}

// Open reports whether there is something left to do.
func (r Replay) Open() bool { return r.State == Running || r.State == Paused }

// Broker is what a replay needs of the broker.
type Broker interface {
	bus.Publisher
	bus.Reader
	Bucket(ctx context.Context, name string) (bus.KV, error)
}

const prefix = "replay."

// ErrNone is returned, wrapped, for a replay that nobody asked for.
var ErrNone = errors.New("there is no such replay")

// ErrBusy is returned, wrapped, for a replay that somebody else works on.
var ErrBusy = errors.New("another process works on it")

// stale is how long nobody has to have said that he works on a replay before
// somebody else may.
const stale = 10 * time.Second

// New writes down a replay, for [Run].
func New(ctx context.Context, b Broker, r Replay) error {
	kv, err := b.Bucket(ctx, streams.CURSORS)
	if err != nil {
		return err
	}
	r.State = Running
	value, err := json.Marshal(r)
	if err == nil {
		_, err = kv.Create(ctx, prefix+r.ID, value)
	}
	if err != nil {
		return fmt.Errorf("replay %s: %w", r.ID, err)
	}
	return nil
}

// Get returns a replay, and its revision in CURSORS.
func Get(ctx context.Context, b Broker, id string) (Replay, uint64, error) {
	kv, err := b.Bucket(ctx, streams.CURSORS)
	if err != nil {
		return Replay{}, 0, err
	}
	return get(ctx, kv, id)
}

func get(ctx context.Context, kv bus.KV, id string) (r Replay, rev uint64, err error) {
	value, rev, err := kv.Get(ctx, prefix+streams.Token(id))
	if errors.Is(err, bus.ErrNotFound) {
		return r, 0, fmt.Errorf("replay %s: %w", id, ErrNone)
	}
	if err == nil {
		err = json.Unmarshal(value, &r)
	}
	if err != nil {
		return r, 0, fmt.Errorf("replay %s: %w", id, err)
	}
	return r, rev, nil
}

// List returns all replays that were asked for, the oldest first.
func List(ctx context.Context, b Broker) ([]Replay, error) {
	kv, err := b.Bucket(ctx, streams.CURSORS)
	if err != nil {
		return nil, err
	}
	keys, err := kv.Keys(ctx, prefix+"*")
	if err != nil {
		return nil, fmt.Errorf("list replays: %w", err)
	}
	var out []Replay
	for _, key := range keys {
		r, _, err := get(ctx, kv, strings.TrimPrefix(key, prefix))
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b Replay) int { return a.Asked.Compare(b.Asked) })
	return out, nil
}

// Ask says of an open replay that it is to rest, to end, or to go on. Who works
// on it hears of it within a second. To go on somebody has to [Run] it.
func Ask(ctx context.Context, b Broker, id string, s State, now time.Time) (Replay, error) {
	kv, err := b.Bucket(ctx, streams.CURSORS)
	if err != nil {
		return Replay{}, err
	}
	return change(ctx, kv, id, func(r *Replay) error {
		if !r.Open() {
			return fmt.Errorf("replay %s is %s already", id, r.State)
		}
		if r.State = s; s == Cancelled {
			r.Ended = now
		}
		return nil
	})
}

// change changes what is written of a replay, also if others do.
func change(ctx context.Context, kv bus.KV, id string, f func(*Replay) error) (Replay, error) {
	for {
		r, rev, err := get(ctx, kv, id)
		if err != nil {
			return r, err
		}
		if err := f(&r); err != nil {
			return r, err
		}
		value, err := json.Marshal(r)
		if err == nil {
			_, err = kv.Update(ctx, prefix+streams.Token(id), value, rev)
		}
		if errors.Is(err, bus.ErrWrongSequence) {
			continue
		}
		if err != nil {
			return r, fmt.Errorf("replay %s: %w", id, err)
		}
		return r, nil
	}
}

// sight is one message that is to be told again.
type sight struct {
	seq uint64
	of  uint64 // the first that said it; of CANONICAL the same
}

// ahead is how many messages the transform may have before it that are told
// again: as many may come before what has just changed.
const ahead = 256

// Run works on a replay until it is done, cancelled or paused, or ctx is done,
// and tells each how far it is, once a second and at the end. It goes on where
// it was left. It returns what is written of it then; [ErrBusy] says that
// somebody else works on it.
func Run(ctx context.Context, b Broker, clk clock.Clock, id string, each func(Replay)) (Replay, error) {
	kv, err := b.Bucket(ctx, streams.CURSORS)
	if err != nil {
		return Replay{}, err
	}
	r, err := change(ctx, kv, id, func(r *Replay) error {
		now := clk.Now()
		switch {
		case !r.Open():
			return fmt.Errorf("replay %s is %s already", id, r.State)
		case r.State == Running && now.Sub(r.Beat) < stale:
			return fmt.Errorf("replay %s: %w", id, ErrBusy)
		}
		r.State, r.Beat = Running, now
		return nil
	})
	if err != nil {
		return r, err
	}
	list, older, err := r.list(ctx, b)
	if err != nil {
		return r, err
	}
	left := slices.IndexFunc(list, func(s sight) bool { return s.seq > r.At })
	if left < 0 {
		left = len(list)
	}
	told, at := left, r.At
	var last uint64 // that was published, on RAW
	// say writes down how far it is, and returns what others want of it.
	say := func(done bool) (Replay, error) {
		now := clk.Now()
		r, err := change(context.WithoutCancel(ctx), kv, id, func(r *Replay) error {
			r.Total, r.Older, r.Told, r.At, r.Beat = len(list), older, told, at, now
			switch {
			case done && r.Open():
				r.State, r.Ended = Done, now
			case ctx.Err() != nil && r.State == Running:
				r.Beat = time.Time{} // whoever comes next need not wait
			}
			return nil
		})
		if err == nil {
			each(r)
		}
		return r, err
	}
	said := clk.Now()
	for i := left; i < len(list); i++ {
		if ctx.Err() != nil {
			return say(false)
		}
		if now := clk.Now(); now.Sub(said) >= time.Second {
			said = now
			if r, err = say(false); err != nil || r.State != Running {
				return r, err
			}
		}
		published, err := r.tell(ctx, b, list[i])
		switch {
		case err != nil && ctx.Err() != nil:
			return say(false)
		case err != nil:
			return r, err
		}
		told, at, last = i+1, list[i].seq, max(last, published)
		if (i+1)%(ahead/2) == 0 || i+1 == len(list) {
			for ok := false; !ok && ctx.Err() == nil; {
				if ok, err = b.Passed(ctx, streams.Transform(), last); err != nil && ctx.Err() == nil {
					return r, err
				}
				if now := clk.Now(); !ok && now.Sub(said) >= time.Second {
					said = now
					if r, err = say(false); err != nil || r.State != Running {
						return r, err
					}
				}
				if !ok {
					_ = clock.Sleep(ctx, clk, 20*time.Millisecond) // ctx is looked at
				}
			}
		}
		if r.Rate > 0 {
			_ = clock.Sleep(ctx, clk, time.Second/time.Duration(r.Rate)) // ctx is looked at
		}
	}
	return say(ctx.Err() == nil)
}

// list returns what is to be told again, in order, and how many of the choice
// are left out because there is a newer sight of the record.
func (r Replay) list(ctx context.Context, b Broker) (out []sight, older int, err error) {
	if r.Stream == streams.CANONICAL {
		out, err = r.entities(ctx, b)
		return out, 0, err
	}
	return r.sights(ctx, b)
}

type seenBy struct {
	system   canonical.System
	tenant   canonical.Tenant
	kind     canonical.Kind
	external canonical.ExternalID
	endpoint string
}

// sights returns the newest of each record by each endpoint: the older ones
// would change nothing. What a system said to be gone is not looked at as it
// was before.
func (r Replay) sights(ctx context.Context, b Broker) (out []sight, older int, err error) {
	type read struct {
		sight
		at canonical.Read
	}
	newest := map[seenBy]read{}
	gone := map[seenBy]read{} // without endpoint
	n := 0
	err = b.Scan(ctx, streams.RAW, streams.RawWhere(r.System, r.Tenant, r.Kind, r.Record, ""), r.Since, func(m bus.Stored) error {
		if !r.takes(m) {
			return nil
		}
		o, err := observation.Decode(m.Data)
		if err != nil || !o.Via.Shows() || o.Via == observation.FromRule {
			return nil //nolint:nilerr // what can't be read can't be read again
		}
		if First(m) == m.Seq {
			n++
		}
		x := read{sight{m.Seq, First(m)}, At(o, First(m))}
		key := seenBy{o.System, o.Tenant, o.Kind, o.ExternalID, o.Endpoint}
		if was, ok := newest[key]; !ok || x.at.Newer(was.at) {
			newest[key] = x
		}
		if key.endpoint = ""; o.Absent {
			gone[key] = x
		}
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	for key, x := range newest {
		key.endpoint = ""
		if last, is := gone[key]; is && last.at.Newer(x.at) {
			continue
		}
		out = append(out, x.sight)
	}
	slices.SortFunc(out, func(a, b sight) int { return compare(a.seq, b.seq) })
	return out, max(0, n-len(out)), nil
}

func compare(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// At is which state of a record o shows, as the merge orders them.
func At(o observation.Observation, seq uint64) canonical.Read {
	at := canonical.Read{AsOf: o.ReadBegan.UnixMicro(), Seq: seq}
	if !o.Modified.IsZero() {
		at.Modified = o.Modified.UnixMicro()
	}
	return at
}

// First returns the sequence under which what m says was stored first.
func First(m bus.Stored) uint64 {
	if of := m.Header[observation.ReplayOf]; len(of) > 0 {
		if seq, err := strconv.ParseUint(of[0], 10, 64); err == nil {
			return seq
		}
	}
	return m.Seq
}

// entities returns the last event of each entity that has one in the choice.
func (r Replay) entities(ctx context.Context, b Broker) ([]sight, error) {
	last := map[string]uint64{}
	err := b.Scan(ctx, streams.CANONICAL, streams.CanonicalWhere(r.Kind, r.Tenant, r.Entity, ""), r.Since, func(m bus.Stored) error {
		p, err := streams.Parse(m.Subject)
		if err == nil && p.Kind != canonical.KindTag && r.takes(m) {
			last[streams.Entity(p.Kind, p.Tenant, canonical.CanonicalID(p.ID))] = m.Seq
		}
		return err
	})
	out := make([]sight, 0, len(last))
	for _, seq := range slices.Sorted(maps.Values(last)) {
		out = append(out, sight{seq, seq})
	}
	return out, err
}

// tell publishes one again and returns its sequence on RAW; 0 if what it was
// about has gone meanwhile. Telling it twice, after a crash, changes nothing.
func (r Replay) tell(ctx context.Context, b Broker, s sight) (uint64, error) {
	m, err := b.Message(ctx, r.Stream, s.seq)
	if errors.Is(err, bus.ErrNotFound) {
		return 0, nil // too old, or erased
	}
	if err != nil {
		return 0, err
	}
	out := bus.Message{Subject: m.Subject, Data: m.Data}
	if r.Stream == streams.CANONICAL {
		if out, err = wake(m, r.Asked); err != nil {
			return 0, err
		}
	}
	out.ID = prefix + r.ID + "-" + strconv.FormatUint(s.seq, 10)
	out.Header = bus.Header{observation.ReplayOf: {strconv.FormatUint(s.of, 10)}}
	ack, err := b.Publish(ctx, out)
	if err != nil {
		return 0, fmt.Errorf("replay message %d of %s: %w", s.seq, r.Stream, err)
	}
	return ack.Seq, nil
}

// wake asks that the sinks look at the entity of an event.
func wake(m bus.Stored, now time.Time) (bus.Message, error) {
	p, err := streams.Parse(m.Subject)
	if err != nil {
		return bus.Message{}, err
	}
	o := observation.Observation{System: canonical.Person, Tenant: p.Tenant, Kind: p.Kind, ExternalID: canonical.ExternalID(p.ID), Via: observation.Wake,
		Entity: canonical.CanonicalID(p.ID), ReadBegan: now}
	body, err := o.Encode()
	return bus.Message{Subject: streams.Raw(o), Data: body}, err
}
