package check_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/ingest/hydrate"
	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/check"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/effect"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/sink/apply"
	"github.com/causeway-sync/causeway/sink/plan"
	"github.com/causeway-sync/causeway/streams"
)

// bugs are put into the running stages through their seams: the bus, the
// fetcher and the destination that they are handed.
var bugs = []bug{
	{name: "hydrate acks a notice before it has fetched, and dies", bend: early(streams.Hydrate(guild).Durable), want: check.NoticeAnswered},
	{name: "hydrate takes an older read for the answer", fetch: func(real hydrate.Fetcher) hydrate.Fetcher { return &stale{Fetcher: real} }, want: check.NoticeAnswered},
	{name: "the transform acks an observation before CANONICAL has the event, and dies", bend: early(streams.Transform().Durable), want: check.SightMerged},
	{name: "the transform does not wait for the PubAck, and an event is lost", bend: lose("canonical.contact.", 4), want: check.HistoryLinear},
	{name: "the transform publishes without an expected sequence", bend: unconditional("canonical."), want: check.HistoryLinear},
	{name: "the transform publishes an event twice", bend: twice("canonical.contact."), want: check.HistoryLinear},
	{name: "the transform skips a version", bend: events(func(e *canonical.Event) { e.Version++ }), want: check.HistoryLinear},
	{name: "a redelivered observation passes for a new one", bend: func(b *bend) {
		b.deliver = func(durable string, d *bus.Delivery, handle func(*bus.Delivery)) {
			if durable == streams.Transform().Durable && strings.HasSuffix(d.Subject, ".fetch") {
				again := *d
				again.Done = func(error) {}
				var o observation.Observation
				if json.Unmarshal(d.Data, &o) == nil {
					o.ReadBegan, o.Modified = o.ReadBegan.Add(time.Millisecond), o.Modified.Add(time.Millisecond)
					again.Data, _ = o.Encode()
				}
				defer handle(&again)
			}
			handle(d)
		}
	}, want: check.MergedOnce},
	{name: "an event says another cause", bend: events(func(e *canonical.Event) { e.Cause.Sequence += 1000 }), want: check.EventCaused},
	{name: "the base is not updated by a writeback", bend: events(func(e *canonical.Event) {
		if e.Cause.Via == string(observation.Writeback) && len(e.Sync.Base) == 2 {
			b := e.Sync.Base[e.Cause.System]
			b.Fields = map[string]string{"first_name": "stale"}
			e.Sync.Base[e.Cause.System] = b
		}
	}), want: check.NotAgain},
	{name: "a link is kept without a base", bend: events(func(e *canonical.Event) { delete(e.Sync.Base, canonical.Novi) }), want: check.LinkShown},
	{name: "tag events are lost", bend: lose("canonical.tag.", 1), want: check.TagsDerived},
	{name: "claims are not stored", bend: func(b *bend) { b.claim = func(*[]byte) bool { return true } }, want: check.ClaimHeld},
	{name: "claims name somebody else", bend: func(b *bend) {
		b.claim = func(value *[]byte) bool { *value = []byte("nobody"); return false }
	}, want: check.ClaimHeld},
	{name: "the sink acks an event before it has written it, and dies", bend: func(b *bend) {
		var n atomic.Int64
		b.deliver = func(of string, d *bus.Delivery, handle func(*bus.Delivery)) {
			if of == streams.Sink(canonical.Novi, guild).Durable && n.Add(1) > 20 {
				d.Done(nil)
				return
			}
			handle(d)
		}
	}, want: check.Written},
	{name: "the sink keeps no intent", bend: loseEffect(effect.Intent), want: check.IntentFirst},
	{name: "the sink keeps no outcome, and acks what it was to come back to", bend: func(b *bend) {
		loseEffect(effect.Done)(b)
		b.deliver = func(of string, d *bus.Delivery, handle func(*bus.Delivery)) {
			if strings.HasPrefix(of, "sink-") {
				done := d.Done
				d.Done = func(error) { done(nil) }
			}
			handle(d)
		}
	}, want: check.OutcomeRecorded},
	{name: "the sink's fence is off", bend: unconditional("effects."), want: check.EffectsLinear},
	{name: "the sink writes an older version after a newer one", bend: func(b *bend) {
		n := map[string]int{}
		b.publish = effects(func(e *effect.Effect) {
			if e.State == effect.Intent {
				n[string(e.System)+string(e.ID)]++
			}
			if n[string(e.System)+string(e.ID)] > 2 {
				e.Version = 1
			}
		})
	}, want: check.InOrder},
	{name: "the sink writes a state that nobody has published", bend: func(b *bend) {
		b.publish = effects(func(e *effect.Effect) { e.Version += 1000 })
	}, want: check.WriteCaused},
	{name: "the transform is not told before a write: no echo guard", bend: lose(".intent", 1), want: check.WriteTold},
	{name: "the transform is not told after a write", bend: lose(".writeback", 1), want: check.WriteTold},
	{name: "a create is tried again without a look-up", call: func(o *office) apply.Destination { return blind{o} }, want: check.OutcomeCalled},
	{name: "a create is made twice at once", call: func(o *office) apply.Destination { return eager{o} }, want: check.OutcomeCalled},
	{name: "a write is said to be done and was never sent", call: func(o *office) apply.Destination { return idle{o} }, want: check.OutcomeCalled},
	{name: "a write is sent again after its outcome", call: func(o *office) apply.Destination { return &echo{office: o} }, want: check.CallIntended},
	{name: "the sink reads a state that is behind, and writes it again", bend: func(b *bend) {
		var mu sync.Mutex
		first := map[string]bus.Stored{}
		b.last = func(stream string, m bus.Stored) bus.Stored {
			if stream != streams.EFFECTS {
				return m
			}
			mu.Lock()
			defer mu.Unlock()
			var e effect.Effect
			if json.Unmarshal(m.Data, &e) == nil && e.State == effect.Done {
				e.Wrote, e.TagsAdded, e.At = nil, nil, e.At.Add(-time.Hour)
				m.Data, _ = json.Marshal(e)
			}
			first[m.Subject] = m
			return m
		}
		b.publish = func(m *bus.Message) bool {
			// and what it is told of its writes never gets there
			return strings.HasPrefix(m.Subject, "raw.") && strings.HasSuffix(m.Subject, ".writeback")
		}
	}, want: check.NotAgain},
	{name: "something writes when all is quiet", after: func(w *world) {
		o := w.offices[canonical.Novi]
		o.mu.Lock()
		id := o.calls[0].Record
		o.mu.Unlock()
		w.edit(canonical.Novi, id, map[string]string{"first_name": "Late"})
	}, want: check.StaysQuiet},
}

// early has the n-th delivery of a consumer acked, and nothing done about it.
func early(durable string) func(*bend) {
	return func(b *bend) {
		var n atomic.Int64
		b.deliver = func(of string, d *bus.Delivery, handle func(*bus.Delivery)) {
			if of == durable && n.Add(1)%4 == 0 {
				d.Done(nil)
				return
			}
			handle(d)
		}
	}
}

// lose loses every n-th message whose subject holds part.
func lose(part string, every int64) func(*bend) {
	return func(b *bend) {
		var n atomic.Int64
		b.publish = func(m *bus.Message) bool { return strings.Contains(m.Subject, part) && n.Add(1)%every == 0 }
	}
}

func loseEffect(state effect.State) func(*bend) {
	return func(b *bend) {
		b.publish = func(m *bus.Message) bool {
			return strings.HasPrefix(m.Subject, "effects.") && strings.Contains(string(m.Data), `"state":"`+string(state)+`"`)
		}
	}
}

func unconditional(prefix string) func(*bend) {
	return func(b *bend) {
		b.publish = func(m *bus.Message) bool {
			if strings.HasPrefix(m.Subject, prefix) {
				m.Expect = nil
			}
			return false
		}
	}
}

func twice(prefix string) func(*bend) {
	return func(b *bend) {
		b.copies = func(m bus.Message) bool { return strings.HasPrefix(m.Subject, prefix) }
	}
}

// events changes what the transform publishes.
func events(change func(*canonical.Event)) func(*bend) {
	return func(b *bend) {
		b.publish = func(m *bus.Message) bool {
			if strings.HasPrefix(m.Subject, "canonical.contact.") {
				if e, err := canonical.DecodeEvent(m.Data); err == nil {
					change(&e)
					m.Data, _ = json.Marshal(e)
				}
			}
			return false
		}
	}
}

// effects changes what the sink records.
func effects(change func(*effect.Effect)) func(*bus.Message) bool {
	var mu sync.Mutex
	return func(m *bus.Message) bool {
		mu.Lock()
		defer mu.Unlock()
		var e effect.Effect
		if strings.HasPrefix(m.Subject, "effects.") && json.Unmarshal(m.Data, &e) == nil {
			change(&e)
			m.Data, _ = json.Marshal(e)
		}
		return false
	}
}

// stale answers with what it read the last time.
type stale struct {
	hydrate.Fetcher
	mu   sync.Mutex
	seen map[canonical.ExternalID]observation.Observation
}

func (s *stale) Fetch(ctx context.Context, about observation.Observation) (observation.Observation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o, ok := s.seen[about.ExternalID]; ok {
		o.ReadBegan = o.ReadBegan.Add(time.Microsecond) // it is not the same message
		s.seen[about.ExternalID] = o
		return o, nil
	}
	o, err := s.Fetcher.Fetch(ctx, about)
	if s.seen == nil {
		s.seen = map[canonical.ExternalID]observation.Observation{}
	}
	s.seen[about.ExternalID] = o
	return o, err
}

// blind never finds what was made before.
type blind struct{ *office }

func (blind) Find(context.Context, canonical.Event, canonical.ExternalID) (apply.Reading, bool, error) {
	return apply.Reading{}, false, nil
}

// eager sends a create twice.
type eager struct{ *office }

func (d eager) Create(ctx context.Context, e canonical.Event, parent canonical.ExternalID, p plan.Plan) ([]apply.Reading, error) {
	if _, err := d.office.Create(ctx, e, parent, p); err != nil {
		return nil, err
	}
	return d.office.Create(ctx, e, parent, p)
}

// idle says that updates are done and sends none.
type idle struct{ *office }

func (d idle) Update(_ context.Context, _ canonical.Event, ref apply.Ref, _ plan.Plan, _ apply.Reading) ([]apply.Reading, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return []apply.Reading{d.reading(ref.ID, true)}, nil
}

// echo sends the last update once more when the next record is read.
type echo struct {
	*office
	again func()
}

func (d *echo) ReadToUpdate(ctx context.Context, ref apply.Ref) (apply.Reading, error) {
	d.mu.Lock()
	if d.again != nil {
		d.again()
		d.again = nil
	}
	d.mu.Unlock()
	return d.office.ReadToUpdate(ctx, ref)
}

func (d *echo) Update(ctx context.Context, e canonical.Event, ref apply.Ref, p plan.Plan, now apply.Reading) ([]apply.Reading, error) {
	r, err := d.office.Update(ctx, e, ref, p, now)
	d.mu.Lock()
	d.again = func() { d.put(ref.ID, p, false) }
	d.mu.Unlock()
	return r, err
}

// TestBugs: each bug is caught, by the invariant that is meant for it, and a
// world without one is clean. -update writes the table into
// docs/reliability.md.
func TestBugs(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "reliability.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rows := make([]string, len(bugs))
	t.Run("bugs", func(t *testing.T) {
		t.Run("none", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, bug{})
			w.play()
			if r := w.check(); !r.Good() || r.Open > 0 || !w.settled() {
				t.Errorf("%d open, settled %t, %v", r.Open, w.settled(), r.Violations)
			}
		})
		for i, b := range bugs {
			t.Run(b.name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, b)
				w.play()
				if b.after != nil {
					quiet := w.quiet
					b.after(w)
					w.settle()
					w.quiet = quiet
				}
				r := w.check()
				n := slices.IndexFunc(r.Violations, func(v check.Violation) bool { return v.Invariant == b.want })
				if n < 0 {
					t.Fatalf("%s was not broken: %v", b.want, r.Violations)
				}
				rows[i] = fmt.Sprintf("| %s | `%s` | %d |", b.name, b.want, w.operations(r.Violations[n].At))
				if start := fmt.Sprintf("| %s | `%s` | ", b.name, b.want); !*update && !strings.Contains(string(text), start) {
					t.Errorf("docs/reliability.md lacks %q", start)
				}
			})
		}
	})
	if !*update || t.Failed() {
		return
	}
	const head = "| bug in the running stages | caught by | after operations |\n| --- | --- | --- |\n"
	before, after, ok := strings.Cut(string(text), head)
	if !ok {
		t.Fatal("docs/reliability.md has no table of bugs")
	}
	_, after, _ = strings.Cut(after, "\n\n")
	if err := os.WriteFile(path, []byte(before+head+strings.Join(rows, "\n")+"\n\n"+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
