package merge_test

import (
	"testing"

	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/transform/merge"
)

// seenTask is the state of a task that was seen once.
func seenTask(id canonical.CanonicalID, seq uint64, s canonical.System, contact canonical.CanonicalID, fields map[string]string) canonical.Event {
	e, _ := merge.Apply(canonical.NewEvent(canonical.KindTask, id), merge.Seen{System: s, External: external(s), Via: observation.Fetch, Contact: contact,
		Shown: mapping.Shown{Fields: fields, Parent: "p-" + external(s)}, At: canonical.Read{AsOf: int64(seq), Seq: seq}}, merge.Policy{Lens: lens})
	return e
}

func TestAlike(t *testing.T) {
	call := map[string]string{"title": "Call", "body": "The dues"}
	pair := func(change func(a, b *canonical.Event)) [2]canonical.Event {
		a, b := seenTask("a", 1, canonical.GHL, "c", call), seenTask("b", 2, canonical.Novi, "c", map[string]string{"title": "Call", "body": "<p>The dues</p>"})
		if change != nil {
			change(&a, &b)
		}
		return [2]canonical.Event{a, b}
	}
	tests := []struct {
		name string
		pair [2]canonical.Event
		on   canonical.CanonicalID // the contact of the second
		want merge.Likeness
	}{
		{"say the same of one contact", pair(nil), "c", merge.Same},
		{"say the same of two contacts", pair(nil), "d", merge.Strangers},
		{"nobody knows whose the second is", pair(nil), "", merge.Strangers},
		{"say something else", pair(func(_, b *canonical.Event) { b.SetField("title", "Write") }), "c", merge.Strangers},
		{"are due at other times", pair(func(_, b *canonical.Event) { b.SetField("due", "2027-01-01T09:00:00Z") }), "c", merge.Strangers},
		{"one is deleted", pair(func(a, _ *canonical.Event) { a.SetDeleted(true) }), "c", merge.Strangers},
		{"one is another already", pair(func(_, b *canonical.Event) { b.MergedInto = "x" }), "c", merge.Strangers},
		{"both are of one system", pair(func(a, b *canonical.Event) { *b = seenTask("b", 2, canonical.GHL, "c", call) }), "c", merge.Strangers},
		{"one has had a record there", pair(func(a, _ *canonical.Event) {
			a.Sync.Base[canonical.Novi] = canonical.Base{External: "n9", Gone: true}
		}), "c", merge.Strangers},
		{"one is being made there", pair(func(a, _ *canonical.Event) {
			a.Sync.Writing = map[canonical.System]canonical.Writing{canonical.Novi: {Creates: true}}
		}), "c", merge.Strangers},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := merge.Alike(tt.pair[0], tt.pair[1], tt.on); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

// TestJoinItems folds two tasks of which each knows something that the other
// doesn't; what they disagree about is kept.
func TestJoinItems(t *testing.T) {
	a := seenTask("a", 1, canonical.GHL, "", map[string]string{"title": "Call", "completed": "true", "assignee": "Ruth"})
	b := seenTask("b", 2, canonical.Novi, "c", map[string]string{"title": "Call", "completed": "", "assignee": "Otto"})
	relink := merge.Seen{System: canonical.GHL, Via: observation.Relink, Contact: "c", OtherContact: "c", Shown: mapping.Shown{Parent: "p-g1"}, At: canonical.Read{AsOf: 3, Seq: 3}}
	steps, likeness := merge.Join(a, b, relink, merge.Policy{Lens: lens})
	if likeness != merge.Same || len(steps) != 2 {
		t.Fatalf("likeness %d, %d steps", likeness, len(steps))
	}
	kept, folded := steps[0].State, steps[1].State
	if kept.ID() != "a" || kept.ContactID() != "c" || len(kept.Links) != 2 || kept.Version != a.Version+1 || folded.MergedInto != "a" || len(folded.Links) != 0 {
		t.Errorf("kept %s of %s with %v, folded %s into %q with %v", kept.ID(), kept.ContactID(), kept.Links, folded.ID(), folded.MergedInto, folded.Links)
	}
	lost := ""
	for _, c := range kept.Changes {
		if c.Field == "assignee" && c.Conflict != nil {
			lost = c.Conflict.Lost
		}
	}
	if !kept.Task.Completed || kept.Task.Assignee != "Otto" || lost != "Ruth" {
		t.Errorf("the task is %+v, and %q was lost", kept.Task, lost)
	}
	// Again, after a crash between the two: only the second is left to say.
	for _, mine := range []canonical.Event{kept, b} {
		other := map[canonical.CanonicalID]canonical.Event{"a": b, "b": kept}[mine.ID()]
		if again, _ := merge.Join(mine, other, relink, merge.Policy{Lens: lens}); len(again) != 1 || again[0].State.ID() != "b" || again[0].State.MergedInto != "a" {
			t.Errorf("joined again as %s: %+v", mine.ID(), again)
		}
	}
}
