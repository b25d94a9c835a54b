package merge_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/transform/merge"
)

// newItems is a world of one item that was made at s, and whose contact nobody
// knows yet. No system says when an item was changed.
func newItems(t tester, policy merge.Policy, kind canonical.Kind, fields []string, s canonical.System) *world {
	w := newWorld(t, policy, fields, nil)
	w.state = canonical.NewEvent(kind, canonical.NewID(tenant, kind, s, external(s)))
	w.side[s] = record{fields: map[string]string{}}
	w.side[s.Other()] = record{fields: map[string]string{}, missing: true}
	return w
}

// link tells the item that its contact is known at s.
func (w *world) link(s canonical.System) {
	w.linked[s] = true
	if w.state.Version > 0 {
		w.flight = append(w.flight, merge.Seen{System: s, Via: observation.Relink, Contact: "c",
			Shown: mapping.Shown{Parent: "p-" + external(s)}, At: canonical.Read{AsOf: w.now}})
	}
}

// itemRun is one random history of an item.
type itemRun struct {
	*world
	t       *rapid.T
	last    map[canonical.System]map[string]string // the last value that a person gave
	deleted map[canonical.System]bool              // by a person
	first   canonical.System
}

func newItemRun(t *rapid.T) *itemRun {
	kind := rapid.SampledFrom([]canonical.Kind{canonical.KindTask, canonical.KindNote}).Draw(t, "kind")
	policy := merge.Policy{Lens: lens, Rules: &mapping.Policy{Deletes: map[mapping.Flow]mapping.Delete{}}}
	for _, s := range systems {
		action := rapid.SampledFrom([]mapping.DeleteAction{mapping.Propagate, mapping.Unlink}).Draw(t, "a delete in "+string(s))
		policy.Rules.Deletes[mapping.Flow{Kind: kind, System: s}] = mapping.Delete{Action: action}
	}
	fields := map[canonical.Kind][]string{canonical.KindTask: {"title", "body", "completed"}, canonical.KindNote: {"body"}}[kind]
	s := rapid.SampledFrom(systems).Draw(t, "made in")
	r := &itemRun{world: newItems(t, policy, kind, fields, s), t: t, first: s, deleted: map[canonical.System]bool{},
		last: map[canonical.System]map[string]string{canonical.GHL: {}, canonical.Novi: {}}}
	for _, f := range fields {
		if f != "completed" {
			v := "the first " + f
			r.side[s].fields[f], r.last[s][f] = v, v
		}
	}
	r.observe(s)
	r.deliver(0, false)
	r.edits = 1
	return r
}

func (r *itemRun) tick() { r.now += rapid.Int64Range(1, minute/2).Draw(r.t, "time") }

// unsettled reports whether the sink is writing something there whose
// writeback hasn't come.
func (r *itemRun) unsettled(s canonical.System) bool {
	return slices.ContainsFunc(r.flight, func(o merge.Seen) bool { return o.System == s && o.Via == observation.Writeback })
}

func (r *itemRun) edit(s canonical.System) {
	base, known := r.state.Sync.Base[s]
	if !r.side[s].there() || !known {
		return // one that we have just made is nobody's to change until its writeback has come
	}
	r.tick()
	f := rapid.SampledFrom(r.fields).Draw(r.t, "field")
	was := r.side[s].fields[f]
	v := fmt.Sprintf("%s %d", s, r.edits)
	// As for contacts: nobody takes a value back that hasn't been seen.
	back := base.Fields[f] == was && !r.unsettled(s)
	switch {
	case f == "completed" && !back:
		return
	case f == "completed":
		v = map[string]string{"": "true"}[was]
	case back && f == "body" && r.state.Kind() == canonical.KindTask && rapid.IntRange(0, 4).Draw(r.t, "clear") == 0:
		v = ""
	}
	r.last[s][f] = v
	r.set(s, f, v, false)
}

// delete is a person's, of what is known. What somebody changed there before
// it was seen is gone with it.
func (r *itemRun) delete(s canonical.System) {
	base, known := r.state.Sync.Base[s]
	for _, f := range r.fields {
		known = known && base.Fields[f] == r.side[s].fields[f]
	}
	if !known || !r.side[s].there() || len(r.deleted) > 0 || r.contactGone[s] || rapid.IntRange(0, 3).Draw(r.t, "really") > 0 {
		return
	}
	r.tick()
	r.deleted[s] = true
	r.remove(s)
}

// deleteContact takes the contact away at s, and the item with it.
func (r *itemRun) deleteContact(s canonical.System) {
	base, known := r.state.Sync.Base[s]
	for _, f := range r.fields {
		known = known && base.Fields[f] == r.side[s].fields[f]
	}
	// One whose counterpart is being made at that moment is a tombstone first.
	_, both := r.state.Sync.Base[s.Other()]
	if !known || !both || !r.side[s].there() || !r.linked[s] || r.contactGone[canonical.GHL] || r.contactGone[canonical.Novi] || len(r.deleted) > 0 || rapid.IntRange(0, 5).Draw(r.t, "really") > 0 {
		return
	}
	r.tick()
	r.contactGone[s] = true
	r.remove(s)
}

func (r *itemRun) some(i int) {
	if len(r.flight) > 0 {
		r.deliver(i, rapid.IntRange(0, 4).Draw(r.t, "twice") == 0)
	}
}

func TestItemLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newItemRun(t)
		any := func() int { return rapid.IntRange(0, max(len(r.flight)-1, 0)).Draw(t, "which") }
		actions := map[string]func(*rapid.T){
			"deliver newest": func(*rapid.T) { r.some(len(r.flight) - 1) },
			"deliver any":    func(*rapid.T) { r.some(any()) },
			"lose any": func(*rapid.T) {
				if i := any(); len(r.flight) > 0 && r.flight[i].Via == observation.Fetch {
					r.flight = slices.Delete(r.flight, i, i+1)
				}
			},
			"deliver a stale": func(*rapid.T) {
				// Whose the item is may be news all the same.
				if len(r.past) > 0 && r.state.ContactID() != "" {
					if out := r.merge(r.past[rapid.IntRange(0, len(r.past)-1).Draw(t, "which")]); out.Op != "" {
						t.Fatalf("a stale observation led to %s", out.Op)
					}
				}
			},
		}
		for _, s := range systems {
			actions["edit in "+string(s)] = func(*rapid.T) { r.edit(s) }
			actions["delete in "+string(s)] = func(*rapid.T) { r.delete(s) }
			actions["delete the contact in "+string(s)] = func(*rapid.T) { r.deleteContact(s) }
			actions["observe "+string(s)] = func(*rapid.T) { r.tick(); r.observe(s) }
			actions["write "+string(s)] = func(*rapid.T) { r.write(s) }
			actions["link in "+string(s)] = func(*rapid.T) {
				if !r.linked[s] {
					r.link(s)
				}
			}
		}
		t.Repeat(actions)
		for _, s := range systems {
			if !r.linked[s] {
				r.link(s)
			}
		}
		before := r.writes
		for range 2 { // what was held has been quiet long enough
			if !r.settle() {
				t.Fatal("it does not become quiet")
			}
			r.now += 11 * minute
		}
		r.check(before)
	})
}

// check holds the end of a run against the laws.
func (r *itemRun) check(writesBefore int) {
	if what, ok := r.same(); !ok {
		r.t.Errorf("%s differs: %v in ghl, %v in novi", what, r.side[canonical.GHL], r.side[canonical.Novi])
	}
	if want := map[bool]int{true: 0, false: 1}[r.side[r.first.Other()].missing]; r.creates != want {
		r.t.Errorf("%d records were made", r.creates)
	}
	if n := r.writes - writesBefore; n > 6 {
		r.t.Errorf("%d writes to become quiet", n)
	}
	if r.writes > r.edits+4 {
		r.t.Errorf("%d writes for %d edits", r.writes, r.edits)
	}
	for _, s := range systems {
		other := r.side[s.Other()]
		switch action := r.policy.Rules.Delete(r.state.Kind(), s).Action; {
		case r.deleted[s] && action == mapping.Propagate:
			if other.there() || !r.state.Deleted() || !r.says("deleted", "true") {
				r.t.Errorf("deleted in %s, the other record is there: %t, deleted is %t", s, other.there(), r.state.Deleted())
			}
			return
		case (r.deleted[s] || r.contactGone[s]) && other.gone && !r.deleted[s.Other()] && !r.contactGone[s.Other()]:
			r.t.Errorf("%s in %s took the other record along", action, s)
		case !r.deleted[s] && !r.contactGone[s] && !r.side[s].there() && !r.deleted[s.Other()] && !r.contactGone[s.Other()]:
			r.t.Errorf("it is not in %s, and nobody deleted it", s)
		}
	}
	for _, f := range r.fields {
		got := r.state.Field(f)
		var candidates []string
		for _, s := range systems {
			v, edited := r.last[s][f]
			if !edited {
				continue
			}
			candidates = append(candidates, v)
			if v != "" && !r.lensSame(f, v, got) && !r.says(f, v) {
				r.t.Errorf("%s: %q of %s is gone, and no event speaks of it", f, v, s)
			}
		}
		held := slices.ContainsFunc(r.versions, func(e canonical.Event) bool { return e.Sync.Held(f) })
		if len(candidates) > 0 && !held && !slices.ContainsFunc(candidates, func(v string) bool { return r.lensSame(f, v, got) }) {
			r.t.Errorf("%s is %q, but people last made it one of %q", f, got, candidates)
		}
	}
}

func (r *itemRun) lensSame(f, a, b string) bool { return r.policy.Lens.Same(r.state.Kind(), f, a, b) }

// says reports whether an event speaks of the value.
func (r *itemRun) says(f, v string) bool {
	return slices.ContainsFunc(r.versions, func(e canonical.Event) bool {
		return slices.ContainsFunc(e.Changes, func(c canonical.Change) bool {
			return c.Field == f && (c.From == v || c.To == v || c.Conflict != nil && c.Conflict.Lost == v)
		})
	})
}

// TestLateSight: a task doesn't say when it was changed. A sight from before
// the newest one, delivered after it because a transform was killed, is no
// change, though the newest one had shown nothing new.
func TestLateSight(t *testing.T) {
	show := func(at int64, completed string) merge.Seen {
		return merge.Seen{System: canonical.GHL, External: "t1", Via: observation.Fetch, At: canonical.Read{AsOf: at, Seq: uint64(at)},
			Shown: mapping.Shown{Fields: map[string]string{"title": "Call", "completed": completed}}}
	}
	state := canonical.NewEvent(canonical.KindTask, "e1")
	for _, seen := range []merge.Seen{show(1, ""), show(3, ""), show(2, "true")} {
		state, _ = merge.Apply(state, seen, merge.Policy{Lens: lens})
	}
	if state.Task.Completed {
		t.Error("the task was completed by a sight from before it was opened again")
	}
}
