package replay

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

// Dry is a broker for one transform, which reads RAW from another and whose
// events stay in memory: nothing is stored. It hands out one message after the
// other, and what is put off comes again when the messages' own times have
// got that far, so that the same messages come to the same.
type Dry struct {
	feed  func(ctx context.Context, each func(bus.Stored) error) error
	raw   bus.Reader
	under Broker // what is known already; nil for nothing
	done  func()

	mu      sync.Mutex
	seq     uint64
	last    map[string]bus.Stored // by entity, as streams.Entity has it
	buckets map[string]*dryKV
	letters int
}

// NewRebuild returns one that reads all of RAW into nothing. done is called once
// everything has been merged: the transform may stop then.
func NewRebuild(from Broker, tenant canonical.Tenant, done func()) *Dry {
	return newDry(from, nil, done, func(ctx context.Context, each func(bus.Stored) error) error {
		filter := streams.RawWhere("", tenant, "", "", "")
		return from.Scan(ctx, streams.RAW, filter, time.Time{}, func(m bus.Stored) error {
			if p, err := streams.Parse(m.Subject); err != nil || p.Via == observation.Notice {
				return err
			}
			return each(m)
		})
	})
}

// NewPlan returns one that does what a replay would, over what is known.
func NewPlan(from Broker, c Choice, done func()) *Dry {
	return newDry(from, from, done, func(ctx context.Context, each func(bus.Stored) error) error {
		list, _, err := Replay{Choice: c}.list(ctx, from)
		if err != nil {
			return err
		}
		for _, s := range list {
			m, err := from.Message(ctx, c.Stream, s.seq)
			if errors.Is(err, bus.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			if c.Stream == streams.CANONICAL {
				w, err := wake(m, m.Time)
				if err != nil {
					return err
				}
				m.Subject, m.Data, m.Seq = w.Subject, w.Data, 1<<62+m.Seq // later than anything else
			}
			if m.Header == nil {
				m.Header = bus.Header{}
			}
			m.Header[observation.ReplayOf] = []string{fmt.Sprint(s.of)}
			if err := each(m); err != nil {
				return err
			}
		}
		return nil
	})
}

func newDry(raw bus.Reader, under Broker, done func(), feed func(context.Context, func(bus.Stored) error) error) *Dry {
	// Whatever is published is later than what is known.
	return &Dry{feed: feed, raw: raw, under: under, done: done, seq: 1 << 60, last: map[string]bus.Stored{}, buckets: map[string]*dryKV{}}
}

// Letters is how many dead letters there would be.
func (d *Dry) Letters() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.letters
}

// Changed returns the last events of all entities that have got one.
func (d *Dry) Changed() []bus.Stored {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.SortedFunc(maps.Values(d.last), func(a, b bus.Stored) int { return compare(a.Seq, b.Seq) })
}

// Publish implements [bus.Publisher].
func (d *Dry) Publish(ctx context.Context, m bus.Message) (bus.Ack, error) {
	p, err := streams.Parse(m.Subject)
	if err != nil {
		return bus.Ack{}, err
	}
	switch p.Stream {
	case "dead":
		d.mu.Lock()
		d.letters++
		d.mu.Unlock()
		return bus.Ack{Stream: streams.DEAD}, nil
	case "canonical":
	default:
		return bus.Ack{Stream: streams.RAW}, nil // RAW has it, or would have
	}
	if m.Expect == nil {
		return bus.Ack{Stream: streams.CANONICAL}, nil // derived
	}
	at := m.Expect.Subject
	was, err := d.Last(ctx, streams.CANONICAL, at)
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		return bus.Ack{}, err
	}
	if was.Seq != m.Expect.LastSeq {
		return bus.Ack{}, bus.ErrWrongSequence
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seq++
	d.last[at] = bus.Stored{Stream: streams.CANONICAL, Subject: m.Subject, Header: m.Header, Data: m.Data, Seq: d.seq}
	return bus.Ack{Stream: streams.CANONICAL, Seq: d.seq}, nil
}

// PublishAsync implements [bus.Publisher].
func (d *Dry) PublishAsync(ctx context.Context, m bus.Message, done func(bus.Ack, error)) error {
	done(d.Publish(ctx, m))
	return nil
}

// Last implements [bus.Reader].
func (d *Dry) Last(ctx context.Context, stream, subject string) (bus.Stored, error) {
	d.mu.Lock()
	m, ok := d.last[subject]
	d.mu.Unlock()
	switch {
	case ok && stream == streams.CANONICAL:
		return m, nil
	case d.under == nil:
		return bus.Stored{}, bus.ErrNotFound
	}
	return d.under.Last(ctx, stream, subject)
}

// Message implements [bus.Reader].
func (d *Dry) Message(ctx context.Context, stream string, seq uint64) (bus.Stored, error) {
	if stream != streams.RAW && d.under == nil {
		return bus.Stored{}, bus.ErrNotFound
	}
	return d.raw.Message(ctx, stream, seq)
}

// Scan implements [bus.Reader]: there is nothing to see.
func (d *Dry) Scan(context.Context, string, string, time.Time, func(bus.Stored) error) error {
	return nil
}

// ScanLast hands out what [Dry.Changed] has under filter.
func (d *Dry) ScanLast(_ context.Context, stream, filter string, each func(bus.Stored) error) error {
	begin := strings.TrimSuffix(filter, ">")
	for _, m := range d.Changed() {
		if stream != streams.CANONICAL || !strings.HasPrefix(m.Subject, begin) {
			continue
		}
		if err := each(m); err != nil {
			return err
		}
	}
	return nil
}

// Subjects implements [bus.Reader].
func (d *Dry) Subjects(context.Context, string, string) (uint64, error) { return 0, nil }

// Passed implements [bus.Reader].
func (d *Dry) Passed(context.Context, streams.Consumer, uint64) (bool, error) { return true, nil }

// Behind implements [bus.Reader]: nobody is.
func (d *Dry) Behind(context.Context, streams.Consumer) (uint64, error) { return 0, nil }

// Tail implements [bus.Consumer]: nothing comes.
func (d *Dry) Tail(ctx context.Context, _ string, _ []string, _ func(bus.Stored)) { <-ctx.Done() }

// Purge implements [bus.Bus]: nothing is taken away.
func (d *Dry) Purge(context.Context, string, string, uint64) error { return nil }

// EnsureConsumer implements [bus.Bus].
func (d *Dry) EnsureConsumer(context.Context, streams.Consumer) error { return nil }

// Bucket implements [bus.Bus].
func (d *Dry) Bucket(ctx context.Context, name string) (bus.KV, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.buckets[name] == nil {
		kv := &dryKV{values: map[string]dryValue{}}
		if d.under != nil {
			var err error
			if kv.under, err = d.under.Bucket(ctx, name); err != nil {
				return nil, err
			}
		}
		d.buckets[name] = kv
	}
	return d.buckets[name], nil
}

// put is a delivery that comes again.
type put struct {
	m     bus.Stored
	count int
	due   time.Time // in the time of the messages
}

// Consume implements [bus.Consumer]: the transform is handed what is fed, one
// after the other; nobody else anything.
func (d *Dry) Consume(ctx context.Context, sub bus.Subscription, handle func(context.Context, *bus.Delivery)) error {
	if sub.Stream != streams.RAW {
		<-ctx.Done()
		return nil
	}
	defer d.done()
	var later []put
	give := func(m bus.Stored, count int, now time.Time) error {
		settled := make(chan error, 1)
		handle(ctx, &bus.Delivery{Stored: m, Count: count, Done: func(err error) { settled <- err }, InProgress: func() {}})
		select {
		case err := <-settled:
			wait, again := bus.Again(err)
			switch {
			case err == nil:
			case again && count < patience:
				later = append(later, put{m, count + 1, now.Add(wait)})
			default:
				d.mu.Lock()
				d.letters++
				d.mu.Unlock()
			}
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	// due hands out what has been put off until now.
	due := func(now time.Time) error {
		for i := 0; i < len(later); {
			x := later[i]
			if x.due.After(now) {
				i++
				continue
			}
			later = slices.Delete(later, i, i+1)
			if err := give(x.m, x.count, now); err != nil {
				return err
			}
			i = 0
		}
		return nil
	}
	var now time.Time
	err := d.feed(ctx, func(m bus.Stored) error {
		if now = m.Time; len(later) > 0 {
			if err := due(now); err != nil {
				return err
			}
		}
		return give(m, 1, now)
	})
	for err == nil && len(later) > 0 {
		for _, x := range later {
			if x.due.After(now) {
				now = x.due
			}
		}
		err = due(now)
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// patience is how often a message is handed out before it would be a dead
// letter.
const patience = 60

// dryKV keeps what is written in memory, over what is there.
type dryKV struct {
	mu     sync.Mutex
	under  bus.KV
	rev    uint64
	values map[string]dryValue
}

type dryValue struct {
	value []byte
	rev   uint64
	gone  bool
}

func (k *dryKV) Get(ctx context.Context, key string) ([]byte, uint64, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.get(ctx, key)
}

func (k *dryKV) get(ctx context.Context, key string) ([]byte, uint64, error) {
	if v, ok := k.values[key]; ok {
		if v.gone {
			return nil, 0, bus.ErrNotFound
		}
		return v.value, v.rev, nil
	}
	if k.under == nil {
		return nil, 0, bus.ErrNotFound
	}
	return k.under.Get(ctx, key)
}

func (k *dryKV) Create(ctx context.Context, key string, value []byte) (uint64, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, _, err := k.get(ctx, key); !errors.Is(err, bus.ErrNotFound) {
		if err == nil {
			err = bus.ErrExists
		}
		return 0, err
	}
	return k.set(key, value), nil
}

func (k *dryKV) set(key string, value []byte) uint64 {
	k.rev++
	k.values[key] = dryValue{value: slices.Clone(value), rev: 1<<60 + k.rev}
	return 1<<60 + k.rev
}

func (k *dryKV) Update(ctx context.Context, key string, value []byte, rev uint64) (uint64, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, is, err := k.get(ctx, key); err != nil && !errors.Is(err, bus.ErrNotFound) {
		return 0, err
	} else if is != rev {
		return 0, bus.ErrWrongSequence
	}
	return k.set(key, value), nil
}

func (k *dryKV) Put(_ context.Context, key string, value []byte) (uint64, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.set(key, value), nil
}

func (k *dryKV) Keys(ctx context.Context, pattern string) ([]string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	found := map[string]bool{}
	if k.under != nil {
		keys, err := k.under.Keys(ctx, pattern)
		if err != nil {
			return nil, err
		}
		for _, key := range keys {
			found[key] = true
		}
	}
	glob := strings.ReplaceAll(pattern, ".", "/") // * is one token in either
	for key, v := range k.values {
		if is, err := path.Match(glob, strings.ReplaceAll(key, ".", "/")); err != nil {
			return nil, fmt.Errorf("keys %s: %w", pattern, err)
		} else if is {
			found[key] = !v.gone
		}
	}
	maps.DeleteFunc(found, func(_ string, there bool) bool { return !there })
	return slices.Sorted(maps.Keys(found)), nil
}

func (k *dryKV) Delete(ctx context.Context, key string, rev uint64) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, is, err := k.get(ctx, key); err != nil && !errors.Is(err, bus.ErrNotFound) {
		return err
	} else if rev > 0 && is != rev {
		return bus.ErrWrongSequence
	}
	k.values[key] = dryValue{gone: true}
	return nil
}

// Hash is of what an event says is true: the record, its links, and whether it
// is another one now. How many steps led there, and what the transform keeps
// for itself, is not in it.
func Hash(e canonical.Event) (string, error) {
	e.Version, e.Changes, e.Cause, e.Sync = 0, nil, canonical.Cause{}, canonical.Sync{}
	links := map[canonical.System][]canonical.ExternalID{}
	for system, ids := range e.Links {
		if len(ids) > 0 {
			links[system] = slices.Sorted(slices.Values(ids))
		}
	}
	e.Links = links
	data, err := json.Marshal(e)
	if err != nil {
		return "", fmt.Errorf("hash entity %s: %w", e.ID(), err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

// Difference is an entity that a rebuild does not come to the same with.
type Difference struct {
	Tenant canonical.Tenant      `json:"tenant"`
	Kind   canonical.Kind        `json:"kind"`
	ID     canonical.CanonicalID `json:"id"`
	What   string                `json:"what"` // differs, missing (in the rebuild), or new
	Fields []string              `json:"fields,omitempty"`
}

// Comparison is what comes of a rebuild.
type Comparison struct {
	Entities int `json:"entities"` // in CANONICAL
	Same     int `json:"same"`
	// Hash is over the hashes of all entities of CANONICAL, Rebuilt over those of
	// the rebuild, each in order of their subjects.
	Hash        string       `json:"hash"`
	Rebuilt     string       `json:"rebuilt"`
	Differences []Difference `json:"differences,omitempty"`
	// Oldest is the sequence of the oldest message that RAW holds: beyond 1, what
	// was seen before can't be rebuilt.
	Oldest uint64 `json:"oldest"`
}

// Equal reports whether both are the same.
func (c Comparison) Equal() bool { return c.Hash == c.Rebuilt }

// Lasts hands out the last message of each subject; a [bus.Conn] does.
type Lasts interface {
	ScanLast(ctx context.Context, stream, filter string, each func(bus.Stored) error) error
}

// Compare compares a rebuild with what CANONICAL holds of a tenant; "" is every
// tenant.
func Compare(ctx context.Context, b Broker, c Lasts, d *Dry, tenant canonical.Tenant) (Comparison, error) {
	have, rebuilt := map[string]bus.Stored{}, map[string]bus.Stored{}
	into := func(all map[string]bus.Stored) func(bus.Stored) error {
		return func(m bus.Stored) error {
			p, err := streams.Parse(m.Subject)
			if err == nil && p.Kind != canonical.KindTag {
				if key := streams.Entity(p.Kind, p.Tenant, canonical.CanonicalID(p.ID)); all[key].Seq < m.Seq {
					all[key] = m
				}
			}
			return err
		}
	}
	out := Comparison{}
	if err := c.ScanLast(ctx, streams.CANONICAL, streams.Entities(tenant), into(have)); err != nil {
		return out, err
	}
	for _, m := range d.Changed() {
		if err := into(rebuilt)(m); err != nil {
			return out, err
		}
	}
	errOldest := errors.New("seen")
	err := b.Scan(ctx, streams.RAW, streams.RawWhere("", tenant, "", "", ""), time.Time{}, func(m bus.Stored) error {
		out.Oldest = m.Seq
		return errOldest
	})
	if err != nil && !errors.Is(err, errOldest) {
		return out, err
	}
	all, again := sha256.New(), sha256.New()
	keys := map[string]bool{}
	for key := range have {
		keys[key] = true
	}
	for key := range rebuilt {
		keys[key] = true
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		a, errA := state(have[key])
		b, errB := state(rebuilt[key])
		if err := errors.Join(errA, errB); err != nil {
			return out, err
		}
		if a.hash != "" {
			out.Entities++
			_, _ = fmt.Fprintln(all, key, a.hash) // a hash takes everything
		}
		if b.hash != "" {
			_, _ = fmt.Fprintln(again, key, b.hash)
		}
		if a.hash == b.hash {
			out.Same++
			continue
		}
		subject := have[key].Subject
		if subject == "" {
			subject = rebuilt[key].Subject
		}
		p, err := streams.Parse(subject)
		if err != nil {
			return out, err
		}
		x := Difference{Tenant: p.Tenant, Kind: p.Kind, ID: canonical.CanonicalID(p.ID), What: "differs"}
		switch {
		case a.hash == "":
			x.What = "new"
		case b.hash == "":
			x.What = "missing"
		default:
			x.Fields = differing(a.event, b.event)
		}
		out.Differences = append(out.Differences, x)
	}
	out.Hash, out.Rebuilt = hex.EncodeToString(all.Sum(nil)), hex.EncodeToString(again.Sum(nil))
	return out, nil
}

// known is a state with its hash, "" if there is none.
type known struct {
	event canonical.Event
	hash  string
}

func state(m bus.Stored) (k known, err error) {
	if m.Subject == "" {
		return k, nil
	}
	if k.event, err = canonical.DecodeEvent(m.Data); err != nil {
		return k, fmt.Errorf("decode message %d of %s: %w", m.Seq, m.Stream, err)
	}
	k.hash, err = Hash(k.event)
	return k, err
}

// differing names the fields in which two states differ.
func differing(a, b canonical.Event) []string {
	names := map[string]bool{}
	for _, e := range []canonical.Event{a, b} {
		for f := range e.Sync.Stamps {
			names[f] = true
		}
	}
	maps.DeleteFunc(names, func(f string, _ bool) bool { return a.Field(f) == b.Field(f) })
	for what, differ := range map[string]bool{
		"tags": !slices.Equal(a.Contact.Tags, b.Contact.Tags), "deleted": a.Deleted() != b.Deleted(), "contact_id": a.ContactID() != b.ContactID(), "merged_into": a.MergedInto != b.MergedInto,
		"links": !maps.EqualFunc(a.Links, b.Links, func(x, y []canonical.ExternalID) bool {
			return slices.Equal(slices.Sorted(slices.Values(x)), slices.Sorted(slices.Values(y)))
		}),
	} {
		if differ {
			names[what] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}
