package check_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goccy/go-json"
	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/ingest/hydrate"
	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/check"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/sink/apply"
	"github.com/causeway-sync/causeway/sink/plan"
	"github.com/causeway-sync/causeway/streams"
	"github.com/causeway-sync/causeway/transform"
)

// office is a system in memory: its records as its API shows them, and what was
// done through the API.
type office struct {
	system canonical.System
	mu     *sync.Mutex // of both offices, so that their accounts are in order
	model  *pipeline   // whose way to write records is used
	calls  []check.Call
	made   int
	// flaky has every create done, and answered with an error that leaves it
	// open; so often.
	flaky int
}

func (o *office) reading(id canonical.ExternalID, atomic bool) apply.Reading {
	r := o.show(id)
	return apply.Reading{External: id, Endpoint: r.Endpoint, Record: r.Record, ReadBegan: r.ReadBegan, Modified: r.Modified, Atomic: atomic}
}

func (o *office) show(id canonical.ExternalID) observation.Observation {
	return o.model.look(o.system, id, observation.Fetch, time.Now())
}

func (o *office) key(id canonical.ExternalID) string { return string(o.system) + " " + string(id) }

func (o *office) Fetch(_ context.Context, about observation.Observation) (observation.Observation, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.model.records[o.key(about.ExternalID)] == nil {
		return observation.Observation{}, &apierr.Error{System: string(o.system), Op: "get contact", Class: apierr.Gone}
	}
	return o.show(about.ExternalID), nil
}

func (o *office) ReadsFirst(canonical.Kind) bool { return o.system == canonical.Novi }

func (o *office) Read(_ context.Context, ref apply.Ref) (apply.Reading, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.model.records[o.key(ref.ID)] == nil {
		return apply.Reading{}, &apierr.Error{System: string(o.system), Op: "get contact", Class: apierr.Gone}
	}
	return o.reading(ref.ID, false), nil
}

func (o *office) ReadToUpdate(ctx context.Context, ref apply.Ref) (apply.Reading, error) {
	return o.Read(ctx, ref)
}

func (o *office) Find(_ context.Context, e canonical.Event, _ canonical.ExternalID) (apply.Reading, bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for key, raw := range o.model.records {
		id, mine := strings.CutPrefix(key, string(o.system)+" ")
		if mine && e.Contact.Email != "" && strings.Contains(string(raw), `"`+e.Contact.Email+`"`) {
			return o.reading(canonical.ExternalID(id), false), true, nil
		}
	}
	return apply.Reading{}, false, nil
}

func (o *office) Create(_ context.Context, e canonical.Event, _ canonical.ExternalID, p plan.Plan) ([]apply.Reading, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.made++
	id := canonical.ExternalID(fmt.Sprintf("%s-made-%d", o.system, o.made))
	o.put(id, p, true)
	if o.flaky > 0 {
		o.flaky--
		return nil, &apierr.Error{System: string(o.system), Op: "create contact", Class: apierr.Ambiguous}
	}
	return []apply.Reading{o.reading(id, true)}, nil
}

func (o *office) Update(_ context.Context, _ canonical.Event, ref apply.Ref, p plan.Plan, _ apply.Reading) ([]apply.Reading, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.put(ref.ID, p, false)
	return []apply.Reading{o.reading(ref.ID, true)}, nil
}

func (o *office) Delete(context.Context, apply.Ref) error { return errors.New("nobody deletes here") }

func (o *office) put(id canonical.ExternalID, p plan.Plan, create bool) {
	var tags []string
	if p.Tags != nil {
		tags = *p.Tags
	}
	o.model.write(o.system, id, p.Fields, tags)
	o.calls = append(o.calls, check.Call{System: o.system, Record: id, Create: create, At: time.Now()})
}

// bend is a bus with a bug in it. Each hook may be nil.
type bend struct {
	bus.Bus
	// publish may change a message; true keeps it from being stored, and says
	// that it was.
	publish func(m *bus.Message) (drop bool)
	// copies has a message published once more.
	copies func(m bus.Message) bool
	// last may answer with something older.
	last func(stream string, m bus.Stored) bus.Stored
	// deliver is in the place of the handler; durable says whose it is.
	deliver func(durable string, d *bus.Delivery, handle func(*bus.Delivery))
	// claim may change what is claimed; true keeps it from being stored.
	claim func(value *[]byte) (drop bool)
}

func (b *bend) Publish(ctx context.Context, m bus.Message) (bus.Ack, error) {
	if b.publish != nil && b.publish(&m) {
		return lost(m), nil
	}
	if b.copies != nil && b.copies(m) {
		if a, err := b.Bus.Publish(ctx, m); err != nil {
			return a, err
		}
		m.Expect = nil
	}
	return b.Bus.Publish(ctx, m)
}

func (b *bend) PublishAsync(ctx context.Context, m bus.Message, done func(bus.Ack, error)) error {
	if b.publish != nil && b.publish(&m) {
		done(lost(m), nil)
		return nil
	}
	if b.copies != nil && b.copies(m) {
		return b.Bus.PublishAsync(ctx, m, func(a bus.Ack, err error) {
			m.Expect = nil
			_ = b.Bus.PublishAsync(ctx, m, func(bus.Ack, error) { done(a, err) })
		})
	}
	return b.Bus.PublishAsync(ctx, m, done)
}

// lost is the answer to what was not stored: as if it were the one before.
func lost(m bus.Message) bus.Ack {
	a := bus.Ack{}
	if m.Expect != nil {
		a.Seq = m.Expect.LastSeq
	}
	return a
}

func (b *bend) Last(ctx context.Context, stream, subject string) (bus.Stored, error) {
	m, err := b.Bus.Last(ctx, stream, subject)
	if err == nil && b.last != nil {
		m = b.last(stream, m)
	}
	return m, err
}

func (b *bend) Consume(ctx context.Context, sub bus.Subscription, handle func(context.Context, *bus.Delivery)) error {
	return b.Bus.Consume(ctx, sub, func(ctx context.Context, d *bus.Delivery) {
		if b.deliver == nil {
			handle(ctx, d)
			return
		}
		b.deliver(sub.Durable, d, func(d *bus.Delivery) { handle(ctx, d) })
	})
}

func (b *bend) Bucket(ctx context.Context, name string) (bus.KV, error) {
	kv, err := b.Bus.Bucket(ctx, name)
	return bentKV{kv, b}, err
}

type bentKV struct {
	bus.KV
	b *bend
}

func (k bentKV) Create(ctx context.Context, key string, value []byte) (uint64, error) {
	if k.b.claim != nil && k.b.claim(&value) {
		return 1, nil
	}
	return k.KV.Create(ctx, key, value)
}

// asyncKV is a bucket that can be written to without waiting.
type asyncKV interface {
	CreateAsync(ctx context.Context, key string, value []byte, done func(uint64, error)) error
}

func (k bentKV) CreateAsync(ctx context.Context, key string, value []byte, done func(uint64, error)) error {
	if k.b.claim != nil && k.b.claim(&value) {
		done(1, nil)
		return nil
	}
	return k.KV.(asyncKV).CreateAsync(ctx, key, value, done)
}

// world is hydrate, transform and both sinks, on a real broker, between two
// offices.
type world struct {
	t       testing.TB
	conn    *bus.Conn
	offices map[canonical.System]*office
	quiet   time.Time
}

// bug is what is wrong with a world. Each may be nil.
type bug struct {
	name string
	bend func(b *bend)
	// fetch is in the place of hydrate's reading.
	fetch func(real hydrate.Fetcher) hydrate.Fetcher
	// call is in the place of a sink's calls.
	call func(o *office) apply.Destination
	// after happens when all is quiet.
	after func(w *world)
	want  check.Invariant
}

func newWorld(t testing.TB, b bug) *world {
	t.Helper()
	conn := bustest.Start(t)
	w := &world{t: t, conn: conn, offices: map[canonical.System]*office{}}
	model := newPipeline(t)
	model.stamp = time.Now
	mu := &sync.Mutex{}
	bent := &bend{Bus: conn}
	if b.bend != nil {
		b.bend(bent)
	}
	fetchers := map[canonical.System]hydrate.Fetcher{}
	for _, system := range systems {
		o := &office{system: system, mu: mu, model: model}
		w.offices[system] = o
		if fetchers[system] = o; b.fetch != nil {
			fetchers[system] = b.fetch(o)
		}
	}
	w.offices[canonical.Novi].flaky = 1
	bustest.Go(t, func(ctx context.Context) error {
		return transform.Run(ctx, transform.Config{Bus: bent, Logger: zerolog.Nop(), Tenants: map[canonical.Tenant]transform.Policy{guild: {Lens: lens}}})
	})
	bustest.Go(t, func(ctx context.Context) error {
		return hydrate.Run(ctx, hydrate.Config{Bus: bent, Clock: clock.System{}, Logger: zerolog.Nop(), Tenant: guild, Fetchers: fetchers})
	})
	for i, system := range systems {
		var site apply.Destination = w.offices[system]
		if b.call != nil {
			site = b.call(w.offices[system])
		}
		bustest.Go(t, apply.New(apply.Config{Bus: bent, Clock: clock.System{}, Rand: rand.New(rand.NewPCG(7, uint64(i))), Logger: zerolog.Nop(), System: system, Tenant: guild,
			Lens: lens, Policy: &mapping.Policy{}, Destination: site, Create: mapping.ForAll}).Run)
	}
	return w
}

// edit has somebody edit a record, and the system tell us.
func (w *world) edit(system canonical.System, id canonical.ExternalID, fields map[string]string, tags ...string) {
	w.t.Helper()
	o := w.offices[system]
	o.mu.Lock()
	o.model.write(system, id, fields, tags)
	o.mu.Unlock()
	n := observation.Observation{System: system, Tenant: guild, Kind: canonical.KindContact, ExternalID: id, Via: observation.Notice, Record: json.RawMessage(`{}`)}
	body, err := n.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.conn.Publish(w.t.Context(), bus.Message{Subject: streams.Raw(n), Data: body}); err != nil {
		w.t.Fatal(err)
	}
}

// play has five people edited at one system and at the other, each round when
// the one before has been carried over, as far as it ever is.
func (w *world) play() {
	w.t.Helper()
	for round := range 3 {
		for i := range 5 {
			system := systems[i%2]
			id := canonical.ExternalID(fmt.Sprintf("%s%d", system, i))
			fields := map[string]string{"first_name": fmt.Sprintf("Ada %d", round), "last_name": "L", "email": fmt.Sprintf("ada.%d@example.org", i)}
			w.edit(system, id, fields, fmt.Sprintf("round %d", round))
		}
		w.settle()
	}
}

// settle waits until nothing moves, or so much was written that it never will.
func (w *world) settle() {
	w.t.Helper()
	calls, still, before := 0, 0, uint64(0)
	bustest.Until(w.t, func() bool {
		if calls++; calls%8 > 0 {
			return false // to ask costs more than to wait
		}
		moved := uint64(0)
		for _, c := range w.consumers() {
			floor, err := w.conn.Settled(w.t.Context(), c)
			last, errLast := w.conn.LastSequence(w.t.Context(), c.Stream)
			if err != nil || errLast != nil {
				return false
			}
			moved += floor + last
		}
		effects, err := w.conn.LastSequence(w.t.Context(), streams.EFFECTS)
		if err != nil {
			return false
		}
		if still++; moved != before {
			still, before = 0, moved
		}
		return still > 3 && w.settled() || still > 60 || effects > 400
	})
	w.quiet = time.Now()
}

func (w *world) consumers() []streams.Consumer {
	return []streams.Consumer{streams.Hydrate(guild), streams.Transform(), streams.Tags(), streams.Sink(canonical.GHL, guild), streams.Sink(canonical.Novi, guild)}
}

func (w *world) settled() bool {
	for _, c := range w.consumers() {
		floor, err := w.conn.Settled(w.t.Context(), c)
		last, errLast := w.conn.LastSequence(w.t.Context(), c.Stream)
		if err != nil || errLast != nil || floor < last {
			return false
		}
	}
	return true
}

func (w *world) check() check.Report {
	w.t.Helper()
	var calls []check.Call
	for _, o := range w.offices {
		o.mu.Lock()
		calls = append(calls, o.calls...)
		o.mu.Unlock()
	}
	r, err := check.Run(w.t.Context(), check.Config{Source: w.conn, Calls: slices.Clip(calls), Quiet: w.quiet, Skew: time.Millisecond,
		Tenants: map[canonical.Tenant]check.Tenant{guild: {Systems: systems, Lens: lens, Policy: policy}}})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// operations is how many messages and calls there were up to at.
func (w *world) operations(at time.Time) int {
	w.t.Helper()
	n := 0
	for _, o := range w.offices {
		for _, c := range o.calls {
			if !c.At.After(at) {
				n++
			}
		}
	}
	for _, stream := range []string{streams.RAW, streams.CANONICAL, streams.EFFECTS} {
		for _, m := range bustest.All(w.t, w.conn, stream) {
			if !m.Time.After(at) {
				n++
			}
		}
	}
	return n
}
