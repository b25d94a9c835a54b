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

// TestAppointmentLaws plays random histories of an appointment, which is GHL's:
// its people move, rename, cancel and delete it, Novi's change the meeting that
// mirrors it, and the sights come late, doubled, in any order or never. In the
// end Novi shows what GHL does, nothing was ever written to GHL, one meeting was
// made, and what Novi's people wrote is said to have lost.
func TestAppointmentLaws(t *testing.T) {
	const ghl, novi = canonical.GHL, canonical.Novi
	rapid.Check(t, func(t *rapid.T) {
		policy, err := mapping.Template("association")
		if err != nil {
			t.Fatal(err)
		}
		policy.Contact.CreateWhen.Novi = "always"
		_, rules, err := policy.Build("US")
		if err != nil {
			t.Fatal(err)
		}
		w := newItems(t, merge.Policy{Lens: lens, Rules: rules}, canonical.KindAppointment, nil, ghl)
		w.only = map[canonical.System][]string{ghl: {"title", "start", "notes", "status", "place"}, novi: {"title", "start", "summary"}}
		w.side[ghl].fields["title"] = "Coffee"
		w.linked[ghl], w.linked[novi] = true, rapid.Bool().Draw(t, "the contact is known in novi")
		w.observe(ghl)
		w.deliver(0, false)
		w.edits = 1
		theirs := map[string]string{} // what Novi's people made of it, and was seen
		touch := func(s canonical.System) {
			base, known := w.state.Sync.Base[s]
			f := rapid.SampledFrom(w.fieldsOf(s)).Draw(t, "field")
			if !known || !w.side[s].there() || base.Fields[f] != w.side[s].fields[f] {
				return // nobody changes what hasn't been seen
			}
			w.now += rapid.Int64Range(1, minute/2).Draw(t, "time")
			v := fmt.Sprintf("%s %d", s, w.edits)
			if f == "start" {
				v = fmt.Sprintf("2027-03-01T09:%02d:00Z", w.edits%60)
			}
			w.set(s, f, v, false)
			if s == novi && f != "start" {
				theirs[v] = f
			}
		}
		any := func() int { return rapid.IntRange(0, max(len(w.flight)-1, 0)).Draw(t, "which") }
		some := func(i int) {
			if len(w.flight) > 0 {
				w.deliver(i, rapid.IntRange(0, 4).Draw(t, "twice") == 0)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"edit in ghl":    func(*rapid.T) { touch(ghl) },
			"edit in novi":   func(*rapid.T) { touch(novi) },
			"observe ghl":    func(*rapid.T) { w.now++; w.observe(ghl) },
			"observe novi":   func(*rapid.T) { w.now++; w.observe(novi) },
			"deliver newest": func(*rapid.T) { some(len(w.flight) - 1) },
			"deliver any":    func(*rapid.T) { some(any()) },
			"write novi":     func(*rapid.T) { w.write(novi) },
			"write ghl": func(t *rapid.T) {
				if w.write(ghl) {
					t.Fatal("an appointment was written to ghl")
				}
			},
			"lose any": func(*rapid.T) {
				if i := any(); len(w.flight) > 0 && w.flight[i].Via == observation.Fetch {
					w.flight = slices.Delete(w.flight, i, i+1)
				}
			},
			"link in novi": func(*rapid.T) {
				if !w.linked[novi] {
					w.link(novi)
				}
			},
			"delete in ghl": func(t *rapid.T) {
				if w.side[ghl].there() && rapid.IntRange(0, 9).Draw(t, "really") == 0 {
					w.now++
					w.remove(ghl)
				}
			},
		})
		if !w.linked[novi] {
			w.link(novi)
		}
		shown := map[string]bool{} // what has been seen in Novi
		for range 2 {
			if !w.settle() {
				t.Fatal("it does not become quiet")
			}
			w.now += 11 * minute
		}
		for _, p := range w.past {
			if p.System == novi && p.Via == observation.Fetch {
				for _, v := range p.Shown.Fields {
					shown[v] = true
				}
			}
		}
		gone := w.side[ghl].gone
		if what, ok := w.same(); !ok {
			t.Errorf("%s differs: %v in ghl, %v in novi", what, w.side[ghl], w.side[novi])
		}
		if w.state.Deleted() != gone || w.side[novi].there() == gone || w.creates > 1 {
			t.Errorf("deleted in ghl %t, canonical %t; in novi %t; %d meetings were made", gone, w.state.Deleted(), w.side[novi].there(), w.creates)
		}
		for v, f := range theirs {
			if shown[v] && !slices.ContainsFunc(w.versions, func(e canonical.Event) bool {
				return slices.ContainsFunc(e.Changes, func(c canonical.Change) bool { return c.Conflict != nil && c.Conflict.Lost == v })
			}) {
				t.Errorf("the %s %q that somebody gave the meeting in novi is gone, and no event speaks of it", f, v)
			}
		}
	})
}
