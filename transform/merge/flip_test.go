package merge_test

import (
	"slices"
	"testing"

	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/sink/plan"
	"github.com/causeway-sync/causeway/transform/merge"
)

// TestHeldIsLeftAlone has a tag and a title flip until they are held: then the
// sink writes neither, not even with a tag that is written in the same list,
// until somebody releases them.
func TestHeldIsLeftAlone(t *testing.T) {
	w := newWorld(t, merge.Policy{Lens: lens}, []string{"job_title"}, []string{"board", "vip"})
	w.set(canonical.Novi, "job_title", "Guide", false)
	w.tag(canonical.Novi, "board", true, false)
	w.settle()
	for i := range 5 {
		w.now += minute
		w.set(canonical.Novi, "job_title", []string{"Ranger", "Guide"}[i%2], false)
		w.tag(canonical.Novi, "board", i%2 == 1, false)
		w.observe(canonical.Novi)
		w.deliver(0, false)
	}
	if !slices.Equal(w.fighting, []string{"job_title, tags"}) {
		t.Fatalf("fighting: %q", w.fighting)
	}
	w.tag(canonical.GHL, "vip", true, false)
	w.observe(canonical.GHL)
	w.deliver(0, false)
	next := func(state canonical.Event) plan.Plan {
		return plan.For(state, canonical.Novi, lens, plan.Expect(state, canonical.Novi, w.last[canonical.Novi]), false, nil)
	}
	p := next(w.state)
	if len(p.Fields) > 0 || !slices.Equal(p.AddTags, []string{"vip"}) || len(p.RemoveTags) > 0 || !slices.Equal(*p.Tags, []string{"vip"}) {
		t.Errorf("held: Novi is to be written %+v with tags %v", p, *p.Tags)
	}
	held := w.state
	p = next(merge.Release(held))
	if p.Fields["job_title"] != "Guide" || !slices.Equal(*p.Tags, []string{"board", "vip"}) {
		t.Errorf("released: Novi is to be written %+v with tags %v", p, *p.Tags)
	}
	if !held.Sync.Held("job_title") {
		t.Error("Release has changed the state that it was given")
	}
}
