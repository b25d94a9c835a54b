package identity_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/effect"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/sink/plan"
	"github.com/causeway-sync/causeway/streams"
	"github.com/causeway-sync/causeway/transform/identity"
	"github.com/causeway-sync/causeway/transform/merge"
)

var lens = mapping.Association("US")

// ref names a record.
type ref struct {
	system canonical.System
	id     canonical.ExternalID
}

// member is a record of one of several people: who of them, and what it shows.
type member struct {
	who         int
	email, name string
	modified    int64
}

// town is people with a record in each system whose addresses change and change
// hands, sights of them on their way in any order, the real resolver and merge,
// and a sink that writes what the real plan says.
type town struct {
	t *rapid.T
	*identity.Resolver
	*bucket
	states  map[canonical.CanonicalID]canonical.Event
	records map[ref]member
	last    map[ref]effect.Effect
	flight  []merge.Seen
	given   map[int][]string // the addresses that somebody has given a person, in that order
	free    []string         // those that were given up
	now     int64
	seq     uint64
}

const people = 3

func newTown(t *rapid.T) *town {
	w := &town{t: t, bucket: &bucket{values: map[string]string{}, revs: map[string]uint64{}}, states: map[canonical.CanonicalID]canonical.Event{},
		records: map[ref]member{}, last: map[ref]effect.Effect{}, given: map[int][]string{}, now: 1_000_000}
	var err error
	if w.Resolver, err = identity.New(w.bucket, func(_ context.Context, _ canonical.Tenant, _ canonical.Kind, id canonical.CanonicalID) (canonical.Event, bool, error) {
		s, ok := w.states[id]
		return s, ok, nil
	}, 100); err != nil {
		t.Fatal(err)
	}
	for i := range people {
		first := fmt.Sprintf("p%d@example.org", i)
		w.given[i] = []string{first}
		for _, s := range []canonical.System{canonical.GHL, canonical.Novi} {
			r := ref{s, canonical.ExternalID(fmt.Sprintf("%s%d", s, i))}
			w.records[r] = member{who: i, email: first, name: []string{"Ada", "Bruno", "Chiara"}[i], modified: w.now}
			w.look(r)
			w.deliver(len(w.flight)-1, false)
		}
	}
	return w
}

func (w *town) all() []ref {
	return slices.SortedFunc(maps.Keys(w.records), func(a, b ref) int { return slices.Compare([]byte(a.id), []byte(b.id)) })
}

func (w *town) look(r ref) {
	w.now++
	rec := w.records[r]
	w.flight = append(w.flight, merge.Seen{System: r.system, External: r.id, Via: observation.Fetch, At: canonical.Read{Modified: rec.modified, AsOf: w.now},
		Shown: mapping.Shown{Fields: map[string]string{"email": rec.email, "first_name": rec.name}}})
}

// deliver resolves and merges a sight that is under way.
func (w *town) deliver(i int, doubled bool) {
	seen := w.flight[i]
	if !doubled {
		w.flight = slices.Delete(slices.Clone(w.flight), i, i+1)
	}
	w.seq++
	seen.At.Seq = w.seq
	whose, err := w.Resolve(w.t.Context(), identity.Record{Tenant: tenant, Kind: canonical.KindContact, System: seen.System, External: seen.External, Shown: seen.Shown})
	if errors.Is(err, identity.ErrAmbiguous) {
		return // a dead letter
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.merge(whose, seen)
}

func (w *town) merge(whose identity.Resolved, seen merge.Seen) {
	policy := merge.Policy{Lens: lens}
	state, known := w.states[whose.ID]
	if !known {
		state = canonical.NewEvent(canonical.KindContact, whose.ID)
	}
	var steps []merge.Step
	if other, there := w.states[whose.With]; there {
		steps, _ = merge.Join(state, other, seen, policy)
	} else if next, out := merge.Apply(state, seen, policy); out.Op != "" {
		steps = []merge.Step{{State: next, Outcome: out}}
	}
	for _, s := range steps {
		w.states[s.State.ID()] = s.State
		if s.State.MergedInto != "" {
			w.t.Fatalf("%s was merged into %s", s.State.ID(), s.State.MergedInto)
		}
	}
}

// edit gives a record another address: a new one, or one that somebody else has
// given up.
func (w *town) edit(r ref, email string) {
	rec := w.records[r]
	w.now += rapid.Int64Range(1, 1000).Draw(w.t, "time")
	if !slices.ContainsFunc(w.all(), func(o ref) bool { return o != r && w.records[o].email == rec.email && w.records[o].who != rec.who }) {
		w.free = append(w.free, rec.email)
	}
	rec.email, rec.modified = email, max(rec.modified+1, w.now)
	w.records[r] = rec
	w.given[rec.who] = append(w.given[rec.who], email)
	w.free = slices.DeleteFunc(w.free, func(e string) bool { return e == email })
}

func (w *town) rename() {
	r := rapid.SampledFrom(w.all()).Draw(w.t, "record")
	w.edit(r, fmt.Sprintf("new%d@example.org", w.now))
}

// hand gives an address that a person has given up to another one.
func (w *town) hand() {
	r := rapid.SampledFrom(w.all()).Draw(w.t, "record")
	mine := w.given[w.records[r].who]
	theirs := slices.DeleteFunc(slices.Clone(w.free), func(e string) bool { return slices.Contains(mine, e) })
	if len(theirs) > 0 {
		w.edit(r, rapid.SampledFrom(theirs).Draw(w.t, "address"))
	}
}

// write is the sink's look at a record, and reports whether it wrote.
func (w *town) write(r ref) bool {
	id, _, err := w.Get(w.t.Context(), streams.LinkKey(tenant, canonical.KindContact, r.system, r.id))
	if err != nil {
		w.t.Fatal(err)
	}
	state, rec := w.states[canonical.CanonicalID(id)], w.records[r]
	x := plan.Expect(state, r.system, w.last[r])
	p := plan.For(state, r.system, lens, x, false, nil)
	email, writes := p.Fields["email"]
	if !writes {
		return false
	}
	if plan.Moved(canonical.KindContact, lens, x, mapping.Shown{Fields: map[string]string{"email": rec.email}}) {
		w.look(r)
		return false
	}
	wrote := map[string]string{"email": email}
	w.seq++
	w.merge(identity.Resolved{ID: state.ID()}, merge.Seen{System: r.system, Via: observation.Intent, Target: r.id, Wrote: wrote, At: canonical.Read{AsOf: w.now, Seq: w.seq}})
	w.now++
	rec.email, rec.modified = email, max(rec.modified+1, w.now)
	w.records[r] = rec
	w.last[r] = effect.Effect{System: r.system, State: effect.Done, External: r.id, Wrote: wrote, At: time.UnixMicro(w.now)}
	w.look(r)
	back := &w.flight[len(w.flight)-1]
	back.Via, back.Wrote, back.Atomic = observation.Writeback, wrote, true
	w.deliver(len(w.flight)-1, false)
	return true
}

// TestRenames: a contact that changes its address stays who it is, and an
// address that goes from one person to another takes its claim along, whatever
// the order in which both are seen, also where sights are lost or come twice.
func TestRenames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newTown(t)
		any := func() int { return rapid.IntRange(0, max(len(w.flight)-1, 0)).Draw(t, "which") }
		some := func(i int) {
			if len(w.flight) > 0 {
				w.deliver(i, rapid.IntRange(0, 4).Draw(t, "twice") == 0)
			}
		}
		record := func(t *rapid.T) ref { return rapid.SampledFrom(w.all()).Draw(t, "record") }
		t.Repeat(map[string]func(*rapid.T){
			"rename":         func(*rapid.T) { w.rename() },
			"hand on":        func(*rapid.T) { w.hand() },
			"look":           func(t *rapid.T) { w.look(record(t)) },
			"write":          func(t *rapid.T) { w.write(record(t)) },
			"deliver newest": func(*rapid.T) { some(len(w.flight) - 1) },
			"deliver any":    func(*rapid.T) { some(any()) },
			"lose any": func(*rapid.T) {
				if i := any(); len(w.flight) > 0 {
					w.flight = slices.Delete(w.flight, i, i+1)
				}
			},
		})
		quiet := false
		for range 20 {
			for _, r := range w.all() {
				w.look(r)
			}
			for len(w.flight) > 0 {
				w.deliver(0, false)
			}
			wrote := false
			for _, r := range w.all() {
				wrote = w.write(r) || wrote
			}
			if quiet = !wrote && len(w.flight) == 0; quiet {
				break
			}
		}
		if !quiet {
			t.Fatal("it does not become quiet")
		}
		w.check()
	})
}

// check holds the end of a run against the laws.
func (w *town) check() {
	if len(w.states) != people {
		w.t.Errorf("%d people are %d entities", people, len(w.states))
	}
	holders := map[string]int{} // of an address
	for i := range people {
		id := canonical.NewID(tenant, canonical.KindContact, canonical.GHL, canonical.ExternalID(fmt.Sprintf("ghl%d", i)))
		e := w.states[id]
		for _, s := range []canonical.System{canonical.GHL, canonical.Novi} {
			r := ref{s, canonical.ExternalID(fmt.Sprintf("%s%d", s, i))}
			if !slices.Equal(e.Links[s], []canonical.ExternalID{r.id}) {
				w.t.Errorf("person %d has the %s records %v", i, s, e.Links[s])
			}
			if w.records[r].email != e.Contact.Email {
				w.t.Errorf("%s shows %q, want %q", r.id, w.records[r].email, e.Contact.Email)
			}
		}
		if !slices.Contains(w.given[i], e.Contact.Email) {
			w.t.Errorf("person %d has the address %q, which nobody gave them: %q", i, e.Contact.Email, w.given[i])
		}
		holders[e.Contact.Email]++
	}
	for _, e := range w.states {
		holder := w.values[streams.ClaimKey(tenant, "email", e.Contact.Email)]
		if holders[e.Contact.Email] == 1 && holder != string(e.ID()) {
			w.t.Errorf("the address of %s is claimed by %q", e.ID(), holder)
		}
	}
}
