package apply_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/effect"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/sink/apply"
	"github.com/causeway-sync/causeway/sink/plan"
	"github.com/causeway-sync/causeway/streams"
)

// shelf is a Novi in memory that holds activities and notes every call.
type shelf struct {
	mu    sync.Mutex
	items map[canonical.ExternalID]apply.Ref
	title map[canonical.ExternalID]string
	calls []string
	after func(op string) error // called after a write was done
	// contactGone says that there is no contact.
	contactGone bool
}

func newShelf() *shelf {
	return &shelf{items: map[canonical.ExternalID]apply.Ref{}, title: map[canonical.ExternalID]string{}, after: func(string) error { return nil }}
}

func (s *shelf) ReadsFirst(canonical.Kind) bool { return true }

func (s *shelf) reading(ref apply.Ref) apply.Reading {
	record, _ := json.Marshal(map[string]any{"UniqueID": ref.ID, "MemberUniqueId": ref.Parent, "ActivityType": "Task", "Subject": s.title[ref.ID]})
	return apply.Reading{External: ref.ID, Parent: ref.Parent, Endpoint: observation.NoviActivityGet, Record: record, ReadBegan: time.Now()}
}

func (s *shelf) Read(_ context.Context, ref apply.Ref) (apply.Reading, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ref.Kind == canonical.KindContact && !s.contactGone {
		return apply.Reading{External: ref.ID}, nil
	}
	if _, there := s.items[ref.ID]; !there {
		return apply.Reading{}, broken(apierr.Gone)
	}
	return s.reading(s.items[ref.ID]), nil
}

func (s *shelf) ReadToUpdate(ctx context.Context, ref apply.Ref) (apply.Reading, error) {
	return s.Read(ctx, ref)
}

func (s *shelf) Find(_ context.Context, e canonical.Event, parent canonical.ExternalID) (apply.Reading, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ref := range s.items {
		if ref.Parent == parent && ref.Kind == e.Kind() && s.title[ref.ID] == e.Field("title") {
			return s.reading(ref), true, nil
		}
	}
	return apply.Reading{}, false, nil
}

func (s *shelf) Create(_ context.Context, e canonical.Event, parent canonical.ExternalID, p plan.Plan) ([]apply.Reading, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ref := apply.Ref{Kind: e.Kind(), Parent: parent, ID: canonical.ExternalID(fmt.Sprintf("a%d", len(s.items)+1))}
	s.items[ref.ID], s.title[ref.ID] = ref, p.Fields["title"]
	s.calls = append(s.calls, fmt.Sprint("create ", ref))
	err := s.after("create")
	if _, there := s.items[ref.ID]; !there {
		return []apply.Reading{{External: ref.ID}}, broken(apierr.Ambiguous)
	}
	return []apply.Reading{s.reading(ref)}, err
}

func (s *shelf) Update(_ context.Context, _ canonical.Event, ref apply.Ref, p plan.Plan, _ apply.Reading) ([]apply.Reading, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if title, ok := p.Fields["title"]; ok {
		s.title[ref.ID] = title
	}
	s.calls = append(s.calls, fmt.Sprint("update ", ref))
	return []apply.Reading{s.reading(ref)}, s.after("update")
}

func (s *shelf) Delete(_ context.Context, ref apply.Ref) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, fmt.Sprint("delete ", ref))
	if _, there := s.items[ref.ID]; !there {
		return broken(apierr.Gone)
	}
	delete(s.items, ref.ID)
	return s.after("delete")
}

// desk is a sink before a shelf, and no transform: the test says what is true.
type desk struct {
	*bus.Conn
	*shelf
	t             *testing.T
	contact, task canonical.Event
}

func newDesk(t *testing.T, policy *mapping.Policy) *desk {
	t.Helper()
	d := &desk{Conn: bustest.Start(t), shelf: newShelf(), t: t,
		contact: canonical.NewEvent(canonical.KindContact, canonical.NewID(tenant, canonical.KindContact, canonical.GHL, "g1")),
		task:    canonical.NewEvent(canonical.KindTask, canonical.NewID(tenant, canonical.KindTask, canonical.GHL, "t1"))}
	d.task.SetField("title", "Renewal call")
	d.task.SetContactID(d.contact.ID())
	if err := d.EnsureConsumer(t.Context(), streams.Transform()); err != nil {
		t.Fatal(err)
	}
	bustest.Go(t, apply.New(apply.Config{Bus: d.Conn, Clock: clock.System{}, Rand: rand.New(rand.NewPCG(1, 1)), Logger: zerolog.Nop(),
		System: canonical.Novi, Tenant: tenant, Lens: mapping.Association("US"), Destination: d.shelf, Policy: policy}).Run)
	return d
}

// says publishes e's next version and waits until the sink has done with it.
func (d *desk) says(e *canonical.Event) {
	d.t.Helper()
	seq := d.publish(e)
	bustest.Until(d.t, func() bool {
		c, err := d.JetStream().Consumer(d.t.Context(), streams.CANONICAL, streams.Sink(canonical.Novi, tenant).Durable)
		return err == nil && c.CachedInfo().AckFloor.Stream >= seq
	})
}

func (d *desk) publish(e *canonical.Event) uint64 {
	d.t.Helper()
	e.Version++
	data, err := json.Marshal(e)
	if err != nil {
		d.t.Fatal(err)
	}
	ack, err := d.Publish(d.t.Context(), bus.Message{Subject: streams.Canonical(e.Kind(), tenant, e.ID(), canonical.OpUpdated), Data: data})
	if err != nil {
		d.t.Fatal(err)
	}
	return ack.Seq
}

// delivered waits until the sink was handed events so many times beyond that
// of the contact.
func (d *desk) delivered(times uint64) {
	d.t.Helper()
	bustest.Until(d.t, func() bool {
		c, err := d.JetStream().Consumer(d.t.Context(), streams.CANONICAL, streams.Sink(canonical.Novi, tenant).Durable)
		return err == nil && c.CachedInfo().Delivered.Consumer > times
	})
}

// linked is e with the record that shows it at the destination.
func linked(e canonical.Event, id, parent canonical.ExternalID) canonical.Event {
	e.Links = map[canonical.System][]canonical.ExternalID{canonical.Novi: {id}}
	e.Sync.Base = map[canonical.System]canonical.Base{canonical.Novi: {External: id, Parent: parent, Fields: map[string]string{"title": e.Field("title")}}}
	return e
}

func (d *desk) did(want ...string) {
	d.t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Equal(d.calls, want) {
		d.t.Errorf("the calls are %q, want %q", d.calls, want)
	}
}

func (d *desk) observations() []observation.Observation {
	d.t.Helper()
	var out []observation.Observation
	for _, m := range bustest.All(d.t, d.Conn, streams.RAW) {
		o, err := observation.Decode(m.Data)
		if err != nil {
			d.t.Fatal(err)
		}
		out = append(out, o)
	}
	return out
}

// effect is the last one of the task.
func (d *desk) effect() effect.Effect {
	d.t.Helper()
	m, err := d.Last(d.t.Context(), streams.EFFECTS, streams.Effect(canonical.Novi, tenant, canonical.KindTask, d.task.ID()))
	if err != nil {
		d.t.Fatal(err)
	}
	var e effect.Effect
	if err := json.Unmarshal(m.Data, &e); err != nil {
		d.t.Fatal(err)
	}
	return e
}

func TestAnItemWaitsForItsParent(t *testing.T) {
	d := newDesk(t, nil)
	d.says(&d.task) // of a contact that nobody knows
	d.says(&d.contact)
	d.says(&d.task) // of one that has no record there
	d.contact = linked(d.contact, "m1", "")
	gone := d.contact
	gone.Sync.Base = map[canonical.System]canonical.Base{canonical.Novi: {External: "m1", Gone: true}}
	d.says(&gone)
	d.says(&d.task) // of one whose record is gone
	d.did()
	d.contact.Version = gone.Version
	d.says(&d.contact)
	d.says(&d.task)
	d.did("create {task m1 a1}")

	seen := d.observations()
	if len(seen) != 2 {
		t.Fatalf("%d observations: %+v", len(seen), seen)
	}
	intent, back := seen[0], seen[1]
	if intent.Via != observation.Intent || intent.Kind != canonical.KindTask || !intent.Creates || intent.Parent != "m1" || intent.Entity != d.task.ID() || intent.Wrote["title"] != "Renewal call" {
		t.Errorf("the intent: %+v", intent)
	}
	if _, said := intent.Wrote["body"]; !said {
		t.Error("the intent doesn't say what is empty")
	}
	if back.Via != observation.Writeback || back.Kind != canonical.KindTask || back.ExternalID != "a1" || back.Parent != "m1" || back.Entity != d.task.ID() {
		t.Errorf("the writeback: %+v", back)
	}
	// What comes after it is an update, which creates nothing.
	d.task = linked(d.task, "a1", "m1")
	d.task.SetField("title", "Second call")
	d.says(&d.task)
	d.did("create {task m1 a1}", "update {task m1 a1}")
	if o := d.observations()[2]; o.Via != observation.Intent || o.Creates || o.Wrote["title"] != "Second call" {
		t.Errorf("the second intent: %+v", o)
	}
}

func TestTheParentOfSeveral(t *testing.T) {
	d := newDesk(t, nil)
	d.contact = linked(d.contact, "m1", "")
	d.contact.Links[canonical.Novi] = []canonical.ExternalID{"m1", "m2"}
	d.says(&d.contact)
	d.items["a1"] = apply.Ref{Kind: canonical.KindTask, Parent: "m2", ID: "a1"}
	d.title["a1"] = "Renewal call"
	d.task = linked(d.task, "a1", "m2")
	d.task.SetField("title", "Second call")
	d.says(&d.task)
	d.did("update {task m2 a1}")
}

func TestDelete(t *testing.T) {
	flow := func(f mapping.Flow, action mapping.DeleteAction) *mapping.Policy {
		return &mapping.Policy{Deletes: map[mapping.Flow]mapping.Delete{f: {Action: action}}}
	}
	tests := []struct {
		name    string
		policy  *mapping.Policy
		there   bool
		after   func(string) error
		deletes bool
	}{
		{"it goes", nil, true, nil, true},
		{"it was gone already", nil, false, nil, true},
		{"the answer is lost", nil, true, once("delete", broken(apierr.Ambiguous)), true},
		{"it is to stay", flow(mapping.Flow{Kind: canonical.KindTask, System: canonical.GHL}, mapping.Unlink), true, nil, false},
		{"the flow is off", &mapping.Policy{Off: map[mapping.Flow]bool{{Kind: canonical.KindTask, System: canonical.Novi}: true}}, true, nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newDesk(t, tt.policy)
			if tt.after != nil {
				d.after = tt.after
			}
			if tt.there {
				d.items["a1"] = apply.Ref{Kind: canonical.KindTask, Parent: "m1", ID: "a1"}
			}
			d.contact = linked(d.contact, "m1", "")
			d.says(&d.contact)
			d.task = linked(d.task, "a1", "m1")
			d.task.SetDeleted(true)
			d.says(&d.task)
			if !tt.deletes {
				d.did()
				return
			}
			d.says(&d.task) // before what was done is merged
			d.did("delete {task m1 a1}")
			if e := d.effect(); e.State != effect.Done || !e.Delete || e.External != "a1" || len(e.Writebacks) != 1 {
				t.Errorf("the effect: %+v", e)
			}
			seen := d.observations()
			if o := seen[len(seen)-1]; !o.Absent || o.Via != observation.Writeback || o.Kind != canonical.KindTask || o.ExternalID != "a1" || o.Parent != "m1" || o.Entity != d.task.ID() {
				t.Errorf("the writeback: %+v", o)
			}
		})
	}
}

// TestNothingToDelete: a tombstone that the destination has no record of makes
// none, and one whose record is gone asks for nothing.
func TestNothingToDelete(t *testing.T) {
	d := newDesk(t, nil)
	d.contact = linked(d.contact, "m1", "")
	d.says(&d.contact)
	d.task.SetDeleted(true)
	d.says(&d.task)
	d.task.Sync.Base = map[canonical.System]canonical.Base{canonical.Novi: {External: "a1", Gone: true}}
	d.says(&d.task)
	d.did()
}

func TestLostCreateOfAnItem(t *testing.T) {
	d := newDesk(t, nil)
	d.after = once("create", broken(apierr.Ambiguous))
	d.contact = linked(d.contact, "m1", "")
	d.says(&d.contact)
	d.publish(&d.task)
	bustest.Until(t, func() bool {
		m, err := d.Last(t.Context(), streams.EFFECTS, streams.Effect(canonical.Novi, tenant, canonical.KindTask, d.task.ID()))
		var e effect.Effect
		return err == nil && json.Unmarshal(m.Data, &e) == nil && e.State == effect.Done
	})
	// The merge of what was looked up doesn't come, and there is no second create.
	d.delivered(4)
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.items) != 1 || d.calls[0] != "create {task m1 a1}" {
		t.Errorf("%d items after %q", len(d.items), d.calls)
	}
}

// TestSlowTransform: until the transform has spoken about what it was told,
// nothing is tried again, and nothing is given up.
func TestSlowTransform(t *testing.T) {
	settled := func(t *testing.T, d *desk, effects int, calls ...string) {
		t.Helper()
		d.delivered(4)
		if n := len(bustest.All(t, d.Conn, streams.EFFECTS)); n != effects {
			t.Errorf("%d effects, want %d", n, effects)
		}
		if dead := bustest.All(t, d.Conn, streams.DEAD); len(dead) > 0 {
			t.Errorf("a dead letter: %s", dead[0].Data)
		}
		d.did(calls...)
	}
	t.Run("another record stands in its place", func(t *testing.T) {
		d := newDesk(t, nil)
		d.contact = linked(d.contact, "m1", "")
		d.says(&d.contact)
		d.items["a0"] = apply.Ref{Kind: canonical.KindTask, Parent: "m1", ID: "a0"}
		d.after = func(string) error {
			return &apierr.Error{System: "novi", Op: "create", Class: apierr.Duplicate, ExistingID: "a0"}
		}
		d.publish(&d.task)
		settled(t, d, 2, "create {task m1 a2}")
	})
	t.Run("the record has moved", func(t *testing.T) {
		d := newDesk(t, nil)
		d.contact = linked(d.contact, "m1", "")
		d.says(&d.contact)
		d.items["a1"], d.title["a1"] = apply.Ref{Kind: canonical.KindTask, Parent: "m1", ID: "a1"}, "Somebody's call"
		d.task = linked(d.task, "a1", "m1")
		d.task.SetField("title", "Second call")
		d.publish(&d.task)
		settled(t, d, 2)
		// What was read is not of the write that was meant, and must not look so.
		if seen := d.observations(); len(seen) != 3 || seen[1].Via != observation.Intent || len(seen[1].Wrote) > 0 || seen[2].Via != observation.Fetch {
			t.Errorf("the transform was told %+v", seen)
		}
	})
}

func TestUpdateOfAnItemThatIsGone(t *testing.T) {
	for _, withContact := range []bool{false, true} {
		updateOfAnItemThatIsGone(t, withContact)
	}
}

func updateOfAnItemThatIsGone(t *testing.T, withContact bool) {
	d := newDesk(t, nil)
	d.contactGone = withContact
	d.contact = linked(d.contact, "m1", "")
	d.says(&d.contact)
	d.task = linked(d.task, "a1", "m1")
	d.task.SetField("title", "Second call")
	d.says(&d.task)
	d.did()
	seen := d.observations()
	if o := seen[len(seen)-1]; !o.Absent || o.Kind != canonical.KindTask || o.ExternalID != "a1" || o.Parent != "m1" || o.ParentGone != withContact {
		t.Errorf("the last observation: %+v", o)
	}
}

// TestMadeAndTakenAway: what somebody took away before it was read is not made
// a second time, and the transform hears that it was made and is gone.
func TestMadeAndTakenAway(t *testing.T) {
	t.Parallel()
	for _, withContact := range []bool{false, true} {
		d := newDesk(t, nil)
		d.contact = linked(d.contact, "m1", "")
		d.says(&d.contact)
		d.after = func(string) error {
			delete(d.items, "a1")
			d.contactGone = withContact
			return nil
		}
		d.publish(&d.task)
		bustest.Until(t, func() bool {
			seen := d.observations()
			return len(seen) > 0 && seen[len(seen)-1].Absent
		})
		seen := d.observations()
		if o := seen[len(seen)-1]; o.Via != observation.Writeback || !o.Creates || o.ExternalID != "a1" || o.Parent != "m1" || o.Entity != d.task.ID() || o.ParentGone != withContact {
			t.Errorf("the last observation: %+v", o)
		}
		if e := d.effect(); e.State != effect.Done || !e.Create || e.External != "a1" || len(e.Wrote) > 0 {
			t.Errorf("the effect: %+v", e)
		}
		d.publish(&d.task) // before that is merged
		d.delivered(4)
		d.did("create {task m1 a1}")
	}
}

// TestMadeAndReadLater: a record that was made and could not be read is read
// under its id, whatever it says by then.
func TestMadeAndReadLater(t *testing.T) {
	t.Parallel()
	d := newDesk(t, nil)
	d.contact = linked(d.contact, "m1", "")
	d.says(&d.contact)
	var hidden apply.Ref
	d.after = func(string) error {
		hidden = d.items["a1"]
		delete(d.items, "a1")
		return nil
	}
	d.publish(&d.task)
	bustest.Until(t, func() bool {
		m, err := d.Last(t.Context(), streams.EFFECTS, streams.Effect(canonical.Novi, tenant, canonical.KindTask, d.task.ID()))
		var e effect.Effect
		return err == nil && json.Unmarshal(m.Data, &e) == nil && e.State == effect.Ambiguous && e.External == "a1"
	})
	d.mu.Lock()
	d.items["a1"], d.title["a1"] = hidden, "Somebody's call"
	d.mu.Unlock()
	bustest.Until(t, func() bool { return d.effect().State == effect.Done })
	seen := d.observations()
	if o := seen[len(seen)-1]; o.Via != observation.Writeback || o.Absent || o.ExternalID != "a1" || o.Entity != d.task.ID() {
		t.Errorf("the last observation: %+v", o)
	}
	d.did("create {task m1 a1}")
}
