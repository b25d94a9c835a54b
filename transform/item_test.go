package transform_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goccy/go-json"
	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
	"github.com/causeway-sync/causeway/transform"
)

const guild = "alpine-guild"

// house is a transform that runs on a broker.
type house struct {
	t *testing.T
	*bus.Conn
	policy  transform.Policy
	minutes int
	stop    func()
}

func newHouse(t *testing.T) *house {
	return houseOf(t, transform.Policy{Lens: mapping.Association("US")})
}

func houseOf(t *testing.T, policy transform.Policy) *house {
	h := &house{t: t, Conn: bustest.Start(t), policy: policy}
	t.Cleanup(func() {
		if t.Failed() {
			for _, m := range append(bustest.All(t, h.Conn, streams.CANONICAL), bustest.All(t, h.Conn, streams.DEAD)...) {
				t.Logf("%s %s", m.Subject, m.Data)
			}
		}
	})
	h.start()
	return h
}

func (h *house) start() {
	h.t.Helper()
	h.stop = bustest.Go(h.t, func(ctx context.Context) error {
		return transform.Run(ctx, transform.Config{Bus: h, Clock: clock.System{}, Logger: zerolog.Nop(),
			Tenants: map[canonical.Tenant]transform.Policy{guild: h.policy}})
	})
}

// see publishes an observation, a minute after the one before.
func (h *house) see(o observation.Observation) {
	h.t.Helper()
	h.minutes++
	o.Tenant, o.ReadBegan = guild, time.Date(2026, 11, 1, 10, h.minutes, 0, 0, time.UTC)
	if o.Via == "" {
		o.Via = observation.Fetch
	}
	data, err := o.Encode()
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := h.Publish(h.t.Context(), bus.Message{Subject: streams.Raw(o), Data: data}); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) contact(system canonical.System, id canonical.ExternalID, email string) {
	record := map[canonical.System]string{canonical.GHL: `{"id":"x","email":"` + email + `"}`, canonical.Novi: `{"UniqueID":"x","CustomerType":"Person","Email":"` + email + `"}`}[system]
	endpoint := map[canonical.System]string{canonical.GHL: observation.GHLContactGet, canonical.Novi: observation.NoviMemberGet}[system]
	h.see(observation.Observation{System: system, Kind: canonical.KindContact, ExternalID: id, Endpoint: endpoint, Record: json.RawMessage(record)})
}

func task(system canonical.System, id, parent canonical.ExternalID, title string) observation.Observation {
	record := map[canonical.System]string{canonical.GHL: `{"title":"` + title + `"}`, canonical.Novi: `{"Subject":"` + title + `","Notes":null,"Date":null}`}[system]
	return observation.Observation{System: system, Kind: canonical.KindTask, ExternalID: id, Parent: parent, Record: json.RawMessage(record)}
}

// tasks returns the last state of every task.
func (h *house) tasks() map[canonical.CanonicalID]canonical.Event {
	h.t.Helper()
	out := map[canonical.CanonicalID]canonical.Event{}
	for _, m := range bustest.All(h.t, h.Conn, streams.CANONICAL) {
		if e, err := canonical.DecodeEvent(m.Data); err != nil {
			h.t.Fatal(err)
		} else if e.Task != nil {
			out[e.ID()] = e
		}
	}
	return out
}

func TestATaskWaitsForItsContact(t *testing.T) {
	h := newHouse(t)
	id := canonical.NewID(guild, canonical.KindTask, canonical.GHL, "t1")
	h.see(task(canonical.GHL, "t1", "c1", "Call"))
	bustest.Until(t, func() bool { return h.tasks()[id].Version == 1 })
	if got := h.tasks()[id]; got.ContactID() != "" || got.Task.Title != "Call" {
		t.Fatalf("before its contact is known: %+v", got.Task)
	}
	h.contact(canonical.GHL, "c1", "ada@example.org")
	person := canonical.NewID(guild, canonical.KindContact, canonical.GHL, "c1")
	bustest.Until(t, func() bool { e := h.tasks()[id]; return e.ContactID() == person })
	// The other side's record of the person wakes it once more, so that it can
	// be written there.
	before := h.tasks()[id].Version
	h.contact(canonical.Novi, "m1", "ada@example.org")
	bustest.Until(t, func() bool { return h.tasks()[id].Version > before })
	if dead := bustest.All(t, h.Conn, streams.DEAD); len(dead) > 0 {
		t.Errorf("a dead letter: %s", dead[0].Data)
	}
}

// TestWhatIsBeingMadeIsPutOff sees a record that we are making before its
// writeback, beside one that somebody made that says the same. The transform
// may be another one by then.
func TestWhatIsBeingMadeIsPutOff(t *testing.T) {
	t.Run("by the same transform", func(t *testing.T) { putOff(t, func(*house) {}) })
	t.Run("by one that was started since", func(t *testing.T) { putOff(t, func(h *house) { h.stop(); h.start() }) })
}

func putOff(t *testing.T, between func(*house)) {
	h := newHouse(t)
	h.contact(canonical.GHL, "c1", "ada@example.org")
	h.contact(canonical.Novi, "m1", "ada@example.org")
	h.see(task(canonical.GHL, "t1", "c1", "Call"))
	id := canonical.NewID(guild, canonical.KindTask, canonical.GHL, "t1")
	bustest.Until(t, func() bool { return h.tasks()[id].Version > 0 })
	h.see(observation.Observation{System: canonical.Novi, Kind: canonical.KindTask, ExternalID: canonical.ExternalID(id), Via: observation.Intent, Entity: id,
		Creates: true, Parent: "m1", Wrote: map[string]string{"title": "Call"}})
	bustest.Until(t, func() bool { return h.tasks()[id].Sync.Writing[canonical.Novi].Creates })
	between(h)
	h.see(task(canonical.Novi, "a2", "m1", "Call")) // somebody's own
	h.see(task(canonical.Novi, "a1", "m1", "Call")) // ours
	made := task(canonical.Novi, "a1", "m1", "Call")
	made.Via, made.Entity, made.Wrote = observation.Writeback, id, map[string]string{"title": "Call"}
	h.see(made)
	other := canonical.NewID(guild, canonical.KindTask, canonical.Novi, "a2")
	bustest.Until(t, func() bool { return h.tasks()[other].Version > 0 })
	bustest.Settled(t, h.Conn, streams.RAW, streams.Transform().Durable)
	all := h.tasks()
	if links := all[id].Links[canonical.Novi]; len(all) != 2 || len(links) != 1 || links[0] != "a1" || all[id].Sync.Writing[canonical.Novi].Creates {
		t.Errorf("%d tasks; ours is linked to %v", len(all), links)
	}
}

// TestTheSameTaskInBoth: both systems had it before we came; a second one like
// it is another.
func TestTheSameTaskInBoth(t *testing.T) {
	h := newHouse(t)
	h.contact(canonical.GHL, "c1", "ada@example.org")
	h.contact(canonical.Novi, "m1", "ada@example.org")
	for _, o := range []observation.Observation{task(canonical.GHL, "t1", "c1", "Call"), task(canonical.GHL, "t2", "c1", "Call"), task(canonical.Novi, "a1", "m1", "Call")} {
		h.see(o)
	}
	bustest.Settled(t, h.Conn, streams.RAW, streams.Transform().Durable)
	bustest.Until(t, func() bool {
		e := h.tasks()[canonical.NewID(guild, canonical.KindTask, canonical.GHL, "t1")]
		return len(e.Links[canonical.Novi]) == 1
	})
	if all := h.tasks(); len(all) != 2 {
		t.Errorf("%d tasks, want 2: %v", len(all), all)
	}
}

// TestWhatWasMadeForALinkedTask: while we made it, somebody's own record was
// taken for the task's. It becomes a task of its own that says what it says,
// and isn't emptied.
func TestWhatWasMadeForALinkedTask(t *testing.T) {
	h := newHouse(t)
	h.contact(canonical.GHL, "c1", "ada@example.org")
	h.contact(canonical.Novi, "m1", "ada@example.org")
	h.see(task(canonical.GHL, "t1", "c1", "Call"))
	h.see(task(canonical.Novi, "a1", "m1", "Call"))
	first, second := canonical.NewID(guild, canonical.KindTask, canonical.GHL, "t1"), canonical.NewID(guild, canonical.KindTask, canonical.Novi, "a2")
	made := task(canonical.Novi, "a2", "m1", "Call")
	made.Via, made.Entity, made.Wrote = observation.Writeback, first, map[string]string{"title": "Call"}
	h.see(made)
	// The two are different entities: either may be published first.
	bustest.Until(t, func() bool {
		all := h.tasks()
		return all[second].Version > 0 && len(all[first].Links[canonical.Novi]) > 0
	})
	if all := h.tasks(); all[second].Task.Title != "Call" || len(all[first].Links[canonical.Novi]) != 1 {
		t.Errorf("it says %+v, and the other has the records %v", all[second].Task, all[first].Links)
	}
}

// live returns the tasks that are there, and fails if one has two records in a
// system.
func (h *house) live() []canonical.Event {
	h.t.Helper()
	var out []canonical.Event
	for _, e := range h.tasks() {
		if e.MergedInto != "" || e.Deleted() {
			continue
		}
		for system, links := range e.Links {
			if len(links) > 1 {
				h.t.Errorf("task %s has the %s records %v", e.ID(), system, links)
			}
		}
		out = append(out, e)
	}
	return out
}

// TestAlikeBeforeTheirContactIsLinked: both systems have tasks that say the
// same; only then it shows that they are of the same contact.
func TestAlikeBeforeTheirContactIsLinked(t *testing.T) {
	const ghl, novi = canonical.GHL, canonical.Novi
	call := func(h *house, system canonical.System, ids ...canonical.ExternalID) {
		for _, id := range ids {
			h.see(task(system, id, map[canonical.System]canonical.ExternalID{ghl: "c1", novi: "m1"}[system], "Call"))
		}
	}
	strangers := func(h *house) {
		h.contact(ghl, "c1", "ada@example.org")
		h.contact(novi, "m1", "office@example.org")
	}
	found := func(h *house) { h.contact(novi, "m1", "ada@example.org") }
	tests := []struct {
		name  string
		play  func(h *house)
		whole int // tasks that both systems have
		all   int
	}{
		{"nobody knew the contact", func(h *house) {
			call(h, ghl, "t1")
			call(h, novi, "a1")
			strangers(h)
			found(h)
		}, 1, 1},
		{"nobody knew the contact in one system", func(h *house) {
			h.contact(novi, "m1", "ada@example.org")
			call(h, novi, "a1")
			call(h, ghl, "t1")
			h.settled()
			h.contact(ghl, "c1", "ada@example.org")
		}, 1, 1},
		{"the other system's is seen only after", func(h *house) {
			call(h, ghl, "t1")
			h.contact(ghl, "c1", "ada@example.org")
			h.settled()
			found(h)
			h.settled()
			call(h, novi, "a1")
		}, 1, 1},
		{"the contact turns out to be one", func(h *house) {
			strangers(h)
			call(h, novi, "a1")
			call(h, ghl, "t1")
			h.settled()
			found(h)
		}, 1, 1},
		{"two of each", func(h *house) {
			strangers(h)
			call(h, ghl, "t1", "t2")
			call(h, novi, "a1", "a2")
			h.settled()
			found(h)
		}, 2, 2},
		{"three and one", func(h *house) {
			strangers(h)
			call(h, ghl, "t1", "t2", "t3")
			call(h, novi, "a1")
			h.settled()
			found(h)
		}, 1, 3},
		{"one is being made in the other system", func(h *house) {
			strangers(h)
			call(h, ghl, "t1")
			call(h, novi, "a1")
			id := canonical.NewID(guild, canonical.KindTask, ghl, "t1")
			h.see(observation.Observation{System: novi, Kind: canonical.KindTask, ExternalID: canonical.ExternalID(id), Via: observation.Intent, Entity: id,
				Creates: true, Parent: "m1", Wrote: map[string]string{"title": "Call"}})
			h.settled()
			found(h)
		}, 0, 2},
		{"they say something else", func(h *house) {
			strangers(h)
			call(h, ghl, "t1")
			h.see(task(novi, "a1", "m1", "Write"))
			h.settled()
			found(h)
		}, 0, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			tt.play(h)
			h.settled()
			all, whole := h.live(), 0
			for _, e := range all {
				if len(e.Links) == 2 {
					whole++
				}
			}
			if whole != tt.whole || len(all) != tt.all {
				t.Errorf("%d tasks, %d of them in both systems; want %d, %d", len(all), whole, tt.all, tt.whole)
			}
			if dead := bustest.All(t, h.Conn, streams.DEAD); len(dead) > 0 {
				t.Errorf("a dead letter: %s", dead[0].Data)
			}
		})
	}
}

// TestAfterItemsWereFolded: what comes of either record, and what is said of
// the one that was folded in, is the other's; nothing that was done before is
// lost.
func TestAfterItemsWereFolded(t *testing.T) {
	h := newHouse(t)
	h.contact(canonical.GHL, "c1", "ada@example.org")
	h.contact(canonical.Novi, "m1", "office@example.org")
	h.see(task(canonical.GHL, "t1", "c1", "Call"))
	done := task(canonical.Novi, "a1", "m1", "Call")
	done.Record = json.RawMessage(`{"Subject":"Call","Notes":null,"Date":null,"TaskComplete":true}`)
	h.see(done)
	h.settled()
	h.contact(canonical.Novi, "m1", "ada@example.org")
	h.settled()
	first, second := canonical.NewID(guild, canonical.KindTask, canonical.GHL, "t1"), canonical.NewID(guild, canonical.KindTask, canonical.Novi, "a1")
	one, other := h.tasks()[first], h.tasks()[second]
	if other.MergedInto != first || !one.Task.Completed || one.ContactID() != contactID("c1") {
		t.Fatalf("the first is %+v, the second is merged into %q", one.Task, other.MergedInto)
	}
	h.stop() // another transform, which has to find out
	h.start()
	back := task(canonical.Novi, "a1", "m1", "Call again")
	back.Via, back.Entity, back.Wrote = observation.Writeback, second, map[string]string{"title": "Call again"}
	h.see(back)
	h.settled()
	if got := h.tasks()[first]; got.Task.Title != "Call" || got.Sync.Base[canonical.Novi].Fields["title"] != "Call again" {
		t.Errorf("after a writeback for the one that was folded in: %+v, Novi shows %v", got.Task, got.Sync.Base[canonical.Novi].Fields)
	}
	h.see(task(canonical.Novi, "a1", "m1", "Write"))
	h.settled()
	if got := h.tasks()[first].Task.Title; got != "Write" {
		t.Errorf("after an edit at the record of the one that was folded in the title is %q", got)
	}
	if dead := bustest.All(t, h.Conn, streams.DEAD); len(dead) > 0 {
		t.Errorf("a dead letter: %s", dead[0].Data)
	}
}

// TestItemsAreFoldedAfterACrash: the broker is away after the first of the two
// publishes, whichever of the items hears of the contact first.
func TestItemsAreFoldedAfterACrash(t *testing.T) {
	for _, late := range []canonical.System{canonical.GHL, canonical.Novi} {
		t.Run("linked later in "+string(late), func(t *testing.T) {
			h := &house{t: t, Conn: bustest.Start(t)}
			var away atomic.Int32
			stop := runOn(t, &flaky{h.Conn, func(m bus.Message) bool { return strings.HasSuffix(m.Subject, ".merged") && away.Add(1) <= 2 }}, nil)
			h.see(task(canonical.GHL, "t1", "c1", "Call"))
			h.see(task(canonical.Novi, "a1", "m1", "Call"))
			record := map[canonical.System]canonical.ExternalID{canonical.GHL: "c1", canonical.Novi: "m1"}
			h.contact(late.Other(), record[late.Other()], "ada@example.org")
			h.settled()
			h.contact(late, record[late], "ada@example.org")
			bustest.Until(t, func() bool { return away.Load() > 0 })
			stop()
			runOn(t, h.Conn, nil)
			h.settled()
			if all := h.live(); len(all) != 1 || len(all[0].Links) != 2 {
				t.Errorf("%d tasks: %+v", len(all), all)
			}
		})
	}
}

// TestMadeAndTakenAway: somebody took away what was made for a task before
// anybody had read it. The task is deleted, and a late sight of the record is
// of nobody else.
func TestMadeAndTakenAway(t *testing.T) {
	h := newHouse(t)
	h.contact(canonical.GHL, "c1", "ada@example.org")
	h.contact(canonical.Novi, "m1", "ada@example.org")
	h.see(task(canonical.GHL, "t1", "c1", "Call"))
	id := canonical.NewID(guild, canonical.KindTask, canonical.GHL, "t1")
	h.see(observation.Observation{System: canonical.Novi, Kind: canonical.KindTask, ExternalID: canonical.ExternalID(id), Via: observation.Intent, Entity: id, Parent: "m1", Creates: true, Wrote: map[string]string{"title": "Call"}})
	late := task(canonical.Novi, "a1", "m1", "Call")
	h.minutes++
	h.see(observation.Observation{System: canonical.Novi, Kind: canonical.KindTask, ExternalID: "a1", Via: observation.Writeback, Entity: id, Parent: "m1", Creates: true, Absent: true})
	bustest.Until(t, func() bool { e := h.tasks()[id]; return e.Deleted() && e.Sync.Base[canonical.Novi].Gone })
	h.minutes -= 2
	h.see(late)
	bustest.Settled(t, h.Conn, streams.RAW, streams.Transform().Durable)
	got := h.tasks()
	if e := got[id]; len(got) != 1 || !e.Deleted() {
		t.Errorf("the tasks are %+v", got)
	}
}
