package merge_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/effect"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/sink/plan"
	"github.com/causeway-sync/causeway/transform/merge"
)

// lifetime is an entity that both systems show, and what is seen of it.
type lifetime struct {
	t      *testing.T
	state  canonical.Event
	policy merge.Policy
	seq    uint64
}

func live(t *testing.T, kind canonical.Kind, rules *mapping.Policy) *lifetime {
	l := &lifetime{t: t, state: canonical.NewEvent(kind, "e"), policy: merge.Policy{Lens: lens, Rules: rules}}
	for _, s := range []canonical.System{canonical.GHL, canonical.Novi} {
		if op := l.see(l.shows(s)); op == "" {
			t.Fatalf("%s is nothing new", s)
		}
	}
	return l
}

// shows is a sight of the record at s.
func (l *lifetime) shows(s canonical.System) merge.Seen {
	field := map[canonical.Kind]string{canonical.KindContact: "first_name", canonical.KindTask: "title"}[l.state.Kind()]
	return merge.Seen{System: s, External: canonical.ExternalID(s), Via: observation.Fetch, Contact: "c",
		Shown: mapping.Shown{Fields: map[string]string{field: "Ada"}, Parent: "p-" + canonical.ExternalID(s)}}
}

// gone is the word of s that the record is not there.
func (l *lifetime) gone(s canonical.System) merge.Seen {
	return merge.Seen{System: s, External: canonical.ExternalID(s), Via: observation.Fetch, Absent: true}
}

// see merges seen, a minute after what was seen before, and then once more,
// which must change nothing.
func (l *lifetime) see(seen merge.Seen) canonical.Op {
	l.t.Helper()
	l.seq++
	seen.At = canonical.Read{AsOf: int64(l.seq) * minute, Seq: l.seq}
	next, out := merge.Apply(l.state, seen, l.policy)
	l.state = next
	if _, again := merge.Apply(next, seen, l.policy); again.Op != "" {
		l.t.Errorf("the same again is %s", again.Op)
	}
	return out.Op
}

func TestDeletes(t *testing.T) {
	rules := func(kind canonical.Kind, d mapping.Delete) *mapping.Policy {
		return &mapping.Policy{Deletes: map[mapping.Flow]mapping.Delete{{Kind: kind, System: canonical.GHL}: d}}
	}
	tests := []struct {
		name       string
		kind       canonical.Kind
		rules      *mapping.Policy
		parentGone bool
		op         canonical.Op
		deleted    bool
		tags       int
	}{
		{name: "a contact is unlinked", kind: canonical.KindContact, op: canonical.OpObserved},
		{name: "a contact takes its counterpart along", kind: canonical.KindContact, rules: rules(canonical.KindContact, mapping.Delete{Action: mapping.Propagate}), op: canonical.OpDeleted, deleted: true},
		{name: "a contact leaves a tag", kind: canonical.KindContact, rules: rules(canonical.KindContact, mapping.Delete{Action: mapping.TagRecord, Tag: "Left"}), op: canonical.OpUpdated, tags: 1},
		{name: "a task takes its counterpart along", kind: canonical.KindTask, op: canonical.OpDeleted, deleted: true},
		{name: "a task is unlinked", kind: canonical.KindTask, rules: rules(canonical.KindTask, mapping.Delete{Action: mapping.Unlink}), op: canonical.OpObserved},
		{name: "a task went with its contact", kind: canonical.KindTask, parentGone: true, op: canonical.OpObserved},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := live(t, tt.kind, tt.rules)
			seen := l.gone(canonical.GHL)
			seen.ParentGone = tt.parentGone
			if op := l.see(seen); op != tt.op || l.state.Deleted() != tt.deleted || len(l.state.Contact.Tags) != tt.tags {
				t.Errorf("got %s, deleted %t, tags %v", op, l.state.Deleted(), l.state.Contact.Tags)
			}
			if len(l.state.Links[canonical.GHL]) != 0 || len(l.state.Links[canonical.Novi]) != 1 {
				t.Errorf("links: %v", l.state.Links)
			}
			// What no system shows any more is a tombstone, whatever the policy.
			l.see(l.gone(canonical.Novi))
			if !l.state.Deleted() || len(l.state.Links) != 0 {
				t.Errorf("in the end deleted %t, links %v", l.state.Deleted(), l.state.Links)
			}
		})
	}
}

// TestAnItemOfARemovedDuplicate went with a record that we took away: it is
// made again under the contact's other one, and a late sight doesn't stop that.
func TestAnItemOfARemovedDuplicate(t *testing.T) {
	l := live(t, canonical.KindTask, nil)
	late := l.shows(canonical.GHL)
	seen := l.gone(canonical.GHL)
	seen.ParentGone, seen.ParentReplaced = true, true
	if op := l.see(seen); op != canonical.OpObserved || l.state.Deleted() || len(l.state.Links[canonical.GHL]) != 0 {
		t.Fatalf("got %s, deleted %t, links %v", op, l.state.Deleted(), l.state.Links)
	}
	p := plan.For(l.state, canonical.GHL, lens, plan.Expect(l.state, canonical.GHL, effect.Effect{State: effect.Done, External: "ghl", At: time.UnixMicro(1)}), true, nil)
	if !p.Create || p.Fields["title"] != "Ada" {
		t.Errorf("the plan is %+v", p)
	}
	late.At = canonical.Read{AsOf: 1, Seq: 99}
	if _, out := merge.Apply(l.state, late, l.policy); out.Op != "" {
		t.Errorf("a late sight: %s", out.Op)
	}
	again := l.shows(canonical.GHL)
	again.External = "ghl-2"
	again.Via = observation.Writeback
	if l.see(again); len(l.state.Links[canonical.GHL]) != 1 || l.state.Sync.Base[canonical.GHL].External != "ghl-2" {
		t.Errorf("made again: links %v", l.state.Links)
	}
}

// TestAnItemOfAMergedContact went with the contact's record before that was known
// to have another: it is made again once the item hears of that one.
func TestAnItemOfAMergedContact(t *testing.T) {
	l := live(t, canonical.KindTask, nil)
	seen := l.gone(canonical.Novi)
	seen.ParentGone = true
	l.see(seen)
	made := func() bool {
		return plan.For(l.state, canonical.Novi, lens, plan.Expect(l.state, canonical.Novi, effect.Effect{}), true, nil).Create
	}
	if l.state.Deleted() || made() {
		t.Fatalf("deleted %t, made again %t before anything is known of the contact", l.state.Deleted(), made())
	}
	relink := merge.Seen{System: canonical.GHL, External: canonical.ExternalID(l.state.ID()), Via: observation.Relink, Contact: l.state.ContactID(),
		Shown: mapping.Shown{Parent: l.state.Sync.Base[canonical.GHL].Parent}, At: canonical.Read{AsOf: seen.At.AsOf + 1, Seq: seen.At.Seq + 1}}
	if l.see(relink); !made() {
		t.Errorf("it isn't made again: base %+v", l.state.Sync.Base[canonical.Novi])
	}
}

func TestTombstone(t *testing.T) {
	all := &mapping.Policy{Deletes: map[mapping.Flow]mapping.Delete{{Kind: canonical.KindContact, System: canonical.GHL}: {Action: mapping.Propagate}}}
	late := func(l *lifetime) merge.Seen {
		seen := l.shows(canonical.GHL)
		seen.At = canonical.Read{AsOf: 1, Seq: 99}
		return seen
	}
	t.Run("a late sight does not revive it", func(t *testing.T) {
		l := live(t, canonical.KindTask, nil)
		l.see(l.gone(canonical.GHL))
		if _, out := merge.Apply(l.state, late(l), l.policy); out.Op != "" {
			t.Errorf("got %s", out.Op)
		}
	})
	t.Run("the other system's record does not revive it", func(t *testing.T) {
		l := live(t, canonical.KindTask, nil)
		l.see(l.gone(canonical.GHL))
		l.see(l.shows(canonical.Novi))
		if !l.state.Deleted() {
			t.Error("it lives")
		}
	})
	t.Run("its own record, seen again, does", func(t *testing.T) {
		l := live(t, canonical.KindTask, nil)
		l.see(l.gone(canonical.GHL))
		if op := l.see(l.shows(canonical.GHL)); op != canonical.OpUpdated || l.state.Deleted() {
			t.Errorf("got %s, deleted %t", op, l.state.Deleted())
		}
	})
	t.Run("a contact that a system shows for the first time does", func(t *testing.T) {
		for _, tt := range []struct {
			name string
			ours bool
			via  observation.Via
			live bool
		}{{"a person made it", false, observation.Fetch, true}, {"we made it", true, observation.Fetch, false}, {"we have just made it", false, observation.Writeback, false}} {
			l := &lifetime{t: t, state: canonical.NewEvent(canonical.KindContact, "e"), policy: merge.Policy{Lens: lens}}
			l.see(l.shows(canonical.Novi))
			l.see(l.gone(canonical.Novi))
			seen := l.shows(canonical.GHL)
			if seen.Via = tt.via; tt.ours {
				seen.Shown.Ref = "e"
			}
			l.see(seen)
			if l.state.Deleted() == tt.live {
				t.Errorf("%s: deleted is %t", tt.name, l.state.Deleted())
			}
		}
	})
	t.Run("a member that was made inactive is as good as gone", func(t *testing.T) {
		l := live(t, canonical.KindContact, all)
		l.see(l.gone(canonical.GHL))
		inactive := l.shows(canonical.Novi)
		inactive.Shown.Inactive = true
		l.see(inactive)
		if !l.state.Deleted() || !l.state.Sync.Base[canonical.Novi].Gone {
			t.Errorf("deleted %t, base %+v", l.state.Deleted(), l.state.Sync.Base[canonical.Novi])
		}
		if op := l.see(inactive); op != "" {
			t.Errorf("seen again: %s", op)
		}
		l.see(l.shows(canonical.Novi))
		if l.state.Deleted() {
			t.Error("made active again, it is still deleted")
		}
	})
}

func TestRelink(t *testing.T) {
	l := live(t, canonical.KindTask, nil)
	relink := func(parent canonical.ExternalID, contact canonical.CanonicalID) merge.Seen {
		return merge.Seen{System: canonical.GHL, Via: observation.Relink, Contact: contact, Shown: mapping.Shown{Parent: parent}}
	}
	if op := l.see(relink("p-ghl", "c")); op != canonical.OpObserved {
		t.Errorf("to the contact that it hangs on: %s", op)
	}
	if op := l.see(relink("elsewhere", "d")); op != "" || l.state.ContactID() != "c" {
		t.Errorf("of another record: %s, contact %s", op, l.state.ContactID())
	}
	if op := l.see(relink("p-ghl", "d")); op != canonical.OpUpdated || l.state.ContactID() != "d" {
		t.Errorf("to another contact: %s, contact %s", op, l.state.ContactID())
	}
}

func TestWakeChangesNothing(t *testing.T) {
	wake := merge.Seen{System: canonical.Novi, Via: observation.Wake}
	l := &lifetime{t: t, state: canonical.NewEvent(canonical.KindTask, "e"), policy: merge.Policy{Lens: lens}}
	if op := l.see(wake); op != "" {
		t.Errorf("of an entity that nobody knows: %s", op)
	}
	l = live(t, canonical.KindTask, nil)
	l.see(l.gone(canonical.GHL))
	was := l.state
	if op := l.see(wake); op != canonical.OpObserved {
		t.Errorf("of a tombstone: %s", op)
	}
	was.Version, was.Cause, was.Changes = l.state.Version, l.state.Cause, l.state.Changes
	if d := cmp.Diff(was, l.state); d != "" || len(l.state.Changes) > 0 || l.state.Cause.Via != string(observation.Wake) {
		t.Errorf("it changed %s, and its cause is %+v", d, l.state.Cause)
	}
}

// TestKeep: what is left of a deleted entity stays, as if its delete had been
// to unlink.
func TestKeep(t *testing.T) {
	keep := merge.Seen{System: canonical.Novi, Via: observation.Keep}
	for _, kind := range []canonical.Kind{canonical.KindContact, canonical.KindTask} {
		propagate := &mapping.Policy{Deletes: map[mapping.Flow]mapping.Delete{{Kind: kind, System: canonical.GHL}: {Action: mapping.Propagate}}}
		unlink := &mapping.Policy{Deletes: map[mapping.Flow]mapping.Delete{{Kind: kind, System: canonical.GHL}: {Action: mapping.Unlink}}}
		l, unlinked := live(t, kind, propagate), live(t, kind, unlink)
		if op := l.see(keep); op != "" {
			t.Errorf("of a %s that is there: %s", kind, op)
		}
		l.see(l.gone(canonical.GHL))
		if op := l.see(keep); op != canonical.OpUpdated || l.state.Deleted() {
			t.Errorf("of a deleted %s: %s", kind, op)
		}
		unlinked.seq++ // the keep that said nothing
		unlinked.see(unlinked.gone(canonical.GHL))
		got, want := l.state, unlinked.state
		got.Version, got.Cause, got.Changes = want.Version, want.Cause, want.Changes
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("a kept %s is not what an unlinked one is: %s", kind, d)
		}
		// The record that was left can be deleted in its turn, for good.
		l.see(l.gone(canonical.Novi))
		if op := l.see(keep); op != "" || !l.state.Deleted() {
			t.Errorf("of a %s that has no record any more: %s", kind, op)
		}
	}
}

func TestMarkupIsNoChange(t *testing.T) {
	l := &lifetime{t: t, state: canonical.NewEvent(canonical.KindNote, "e"), policy: merge.Policy{Lens: lens}}
	note := func(s canonical.System, body string) merge.Seen {
		return merge.Seen{System: s, External: canonical.ExternalID(s), Via: observation.Fetch, Shown: mapping.Shown{Fields: map[string]string{"body": body}}}
	}
	l.see(note(canonical.GHL, "<p>Called <b>her</b></p>"))
	l.see(note(canonical.Novi, "Called her"))
	if got := l.state.Note.Body; got != "<p>Called <b>her</b></p>" || len(l.state.Changes) != 0 {
		t.Errorf("body %q, changes %+v", got, l.state.Changes)
	}
	l.see(note(canonical.Novi, "Called her twice"))
	if got := l.state.Note.Body; got != "Called her twice" {
		t.Errorf("after an edit: %q", got)
	}
}

// TestMadeAndTakenAway: a record that we made and that somebody took away before
// anybody had read it is theirs to delete: it is not made again, and takes its
// counterpart along unless it went with its contact.
func TestMadeAndTakenAway(t *testing.T) {
	for _, tt := range []struct {
		name       string
		rules      *mapping.Policy
		parentGone bool
		deleted    bool
	}{
		{"by itself", nil, false, true},
		{"with its contact", nil, true, false},
		{"deletes stay", &mapping.Policy{Deletes: map[mapping.Flow]mapping.Delete{{Kind: canonical.KindTask, System: canonical.Novi}: {Action: mapping.Unlink}}}, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := &lifetime{t: t, state: canonical.NewEvent(canonical.KindTask, "e"), policy: merge.Policy{Lens: lens, Rules: tt.rules}}
			l.see(l.shows(canonical.GHL))
			l.see(merge.Seen{System: canonical.Novi, Via: observation.Intent, Creates: true, Wrote: map[string]string{"title": "Ada"}, Shown: mapping.Shown{Parent: "p-novi"}})
			gone := l.gone(canonical.Novi)
			gone.Via, gone.Creates, gone.ParentGone = observation.Writeback, true, tt.parentGone
			if op := l.see(gone); op == "" {
				t.Fatal("it is nothing new")
			}
			base := l.state.Sync.Base[canonical.Novi]
			if l.state.Deleted() != tt.deleted || !base.Gone || base.Removed || base.External != "novi" || base.Parent != "p-novi" || l.state.Sync.Writing[canonical.Novi].Creates {
				t.Errorf("deleted %t, want %t; base %+v, writing %+v", l.state.Deleted(), tt.deleted, base, l.state.Sync.Writing)
			}
			x := plan.Expect(l.state, canonical.Novi, effect.Effect{System: canonical.Novi, State: effect.Done, Create: true, External: "novi", At: time.UnixMicro(int64(l.seq) * minute)})
			if p := plan.For(l.state, canonical.Novi, lens, x, true, tt.rules); !p.Empty() {
				t.Errorf("the plan is %+v", p)
			}
		})
	}
}
