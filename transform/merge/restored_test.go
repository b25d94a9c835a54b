package merge_test

import (
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
)

// TestRestored: a system that was restored from a backup of any time, and whose
// every record is then read as restored, changes no field of the canonical
// record; the sink then writes there what is canonical, and what people change
// from then on travels as ever.
func TestRestored(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newRun(t)
		s := rapid.SampledFrom(systems).Draw(t, "system")
		var backup record
		for range rapid.IntRange(1, 20).Draw(t, "edits") {
			if backup.fields == nil || rapid.IntRange(0, 3).Draw(t, "backup") == 0 {
				backup = r.side[s]
			}
			r.edit(rapid.SampledFrom(systems).Draw(t, "where"))
			r.settleOrFail()
		}
		r.quiesce()
		want := r.state.Contact
		// What is Novi's to decide can't be written there, so that it stays as the
		// backup has it.
		backup.fields = maps.Clone(backup.fields)
		backup.fields["membership.status"] = r.side[s].fields["membership.status"]
		r.now += minute
		r.side[s] = backup
		if r.state.Sync.Base[s].At.Modified > backup.modified {
			r.observe(s) // a poll may see it first
			r.deliver(0, false)
		}
		r.now += minute
		seen := r.look(s, observation.Reconcile)
		seen.Restored = true
		r.merge(seen)
		if d := cmp.Diff(want, r.state.Contact); d != "" {
			t.Fatalf("it changed what is true:\n%s", d)
		}
		r.settleOrFail()
		if what, ok := r.same(); !ok {
			t.Errorf("%s differs: %v in %s, %v is canonical", what, r.side[s], s, want)
		}
		if d := cmp.Diff(want, r.state.Contact); d != "" {
			t.Errorf("once it was written there, something else is true:\n%s", d)
		}
		r.now += minute
		r.set(s, "website", "by hand", false)
		r.settleOrFail()
		if authority := r.policy.Lens.Authority("website"); authority == mapping.Newest && r.state.Contact.Website != "by hand" {
			t.Errorf("website is %q", r.state.Contact.Website)
		}
	})
}

// TestRestoredAbsence: a record that a backup doesn't have takes nothing away.
func TestRestoredAbsence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newRun(t)
		s := rapid.SampledFrom(systems).Draw(t, "system")
		r.settleOrFail()
		want := r.state.Contact
		r.now += minute
		seen := r.look(s, observation.Reconcile)
		seen.Restored, seen.Absent, seen.Shown, seen.At.Modified = true, true, r.look(s.Other(), observation.Fetch).Shown, 0
		if out := r.merge(seen); out.Op != canonical.OpObserved {
			t.Fatalf("it led to %q", out.Op)
		}
		if d := cmp.Diff(want, r.state.Contact); d != "" {
			t.Errorf("it changed what is true:\n%s", d)
		}
		if len(r.state.Links[s]) > 0 || len(r.state.Links[s.Other()]) != 1 {
			t.Errorf("links are %v", r.state.Links)
		}
	})
}
