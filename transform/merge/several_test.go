package merge_test

import (
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
	"github.com/causeway-sync/causeway/transform/merge"
)

// household is one person with several records in each system: people edit any
// of them, sights come in any order, and the sink writes the primary ones.
type household struct {
	*two
	t       *rapid.T
	records map[ref]record
	flight  []merge.Seen
	last    map[canonical.System]effect.Effect
	now     int64
	seq     uint64
	given   map[ref]map[string]string // what people last made of a field at a record
	wrote   map[ref]bool
	said    map[string]bool // field=value that an event speaks of
}

type ref struct {
	system canonical.System
	id     canonical.ExternalID
}

var severalFields = []string{"first_name", "job_title"}

func newHousehold(t *rapid.T) *household {
	h := &household{two: newTwo(merge.Policy{Lens: lens}), t: t, records: map[ref]record{}, last: map[canonical.System]effect.Effect{}, now: 1_000_000,
		given: map[ref]map[string]string{}, wrote: map[ref]bool{}, said: map[string]bool{}}
	for i, r := range []ref{{canonical.GHL, "g1"}, {canonical.GHL, "g2"}, {canonical.Novi, "n1"}, {canonical.Novi, "n2"}} {
		h.given[r] = map[string]string{}
		h.records[r] = record{fields: map[string]string{"email": "ada@example.org", "first_name": "", "job_title": ""}, modified: h.now}
		h.now++
		h.look(r)
		h.deliver(len(h.flight)-1, []canonical.CanonicalID{"a", "b", "a", "b"}[i])
	}
	return h
}

func (h *household) all() []ref {
	return slices.SortedFunc(maps.Keys(h.records), func(a, b ref) int { return slices.Compare([]byte(a.id), []byte(b.id)) })
}

func (h *household) look(r ref) {
	rec := h.records[r]
	h.flight = append(h.flight, merge.Seen{System: r.system, External: r.id, Via: observation.Fetch, Shown: mapping.Shown{Fields: maps.Clone(rec.fields)},
		At: canonical.Read{Modified: rec.modified, AsOf: h.now}})
}

// deliver merges a sight that is under way, as one of the entity that its
// record was first seen as.
func (h *household) deliver(i int, of canonical.CanonicalID) {
	if of == "" {
		of = map[bool]canonical.CanonicalID{true: "a", false: "b"}[h.flight[i].External[1] == '1']
	}
	seen := h.flight[i]
	h.flight = slices.Delete(h.flight, i, i+1)
	h.seq++
	seen.At.Seq = h.seq
	steps, _ := h.see(of, seen)
	for _, s := range steps {
		for _, c := range s.State.Changes {
			h.said[c.Field+"="+c.From], h.said[c.Field+"="+c.To] = true, true
			if c.Conflict != nil {
				h.said[c.Field+"="+c.Conflict.Lost] = true
			}
		}
	}
}

func (h *household) edit() {
	r := rapid.SampledFrom(h.all()).Draw(h.t, "record")
	f := rapid.SampledFrom(severalFields).Draw(h.t, "field")
	h.now++
	rec := h.records[r]
	rec.fields = maps.Clone(rec.fields)
	// Each value once: nobody goes back to what was there before.
	rec.fields[f] = fmt.Sprintf("A%d", h.now)
	h.given[r][f] = rec.fields[f]
	rec.modified = max(rec.modified+1, h.now)
	h.records[r] = rec
}

func (h *household) entity() canonical.Event {
	if a := h.states["a"]; a.MergedInto == "" {
		return a
	}
	return h.states["b"]
}

// write is the sink's look at a system.
func (h *household) write(s canonical.System) bool {
	state := h.entity()
	x := plan.Expect(state, s, h.last[s])
	p := plan.For(state, s, lens, x, false, nil)
	if p.Empty() {
		return false
	}
	r := ref{s, p.External}
	rec := h.records[r]
	if plan.Moved(canonical.KindContact, lens, x, mapping.Shown{Fields: rec.fields}) {
		h.look(r)
		return false
	}
	h.now++
	h.flight = append(h.flight, merge.Seen{System: s, Via: observation.Intent, Target: p.External, Wrote: p.Fields, At: canonical.Read{AsOf: h.now}})
	h.deliver(len(h.flight)-1, "a")
	rec.fields = maps.Clone(rec.fields)
	for f, v := range p.Fields {
		if _, kept := rec.fields[f]; kept {
			rec.fields[f] = v
		}
	}
	h.now++
	rec.modified = max(rec.modified+1, h.now)
	h.records[r], h.wrote[r] = rec, true
	h.last[s] = effect.Effect{System: s, State: effect.Done, External: p.External, Wrote: p.Fields, At: time.UnixMicro(h.now)}
	h.look(r)
	back := &h.flight[len(h.flight)-1]
	back.Via, back.Wrote, back.Atomic = observation.Writeback, p.Fields, true
	// The sink says what came of a write before it looks again.
	h.deliver(len(h.flight)-1, "a")
	return true
}

// TestSeveralRecords: an edit at any record of a person arrives everywhere
// where we write, or lost and is said to have; the other records are nobody's
// business but their people's.
func TestSeveralRecords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHousehold(t)
		if (h.states["a"].MergedInto == "") == (h.states["b"].MergedInto == "") {
			t.Fatal("the two were not folded")
		}
		t.Repeat(map[string]func(*rapid.T){
			"edit": func(*rapid.T) { h.edit() },
			"look": func(t *rapid.T) { h.now++; h.look(rapid.SampledFrom(h.all()).Draw(t, "record")) },
			"deliver": func(t *rapid.T) {
				if len(h.flight) > 0 {
					h.deliver(rapid.IntRange(0, len(h.flight)-1).Draw(t, "which"), "")
				}
			},
			"write ghl":  func(*rapid.T) { h.write(canonical.GHL) },
			"write novi": func(*rapid.T) { h.write(canonical.Novi) },
		})
		quiet := false
		for range 20 {
			for _, r := range h.all() {
				h.now++
				h.look(r)
			}
			for len(h.flight) > 0 {
				h.deliver(0, "")
			}
			if a, b := h.write(canonical.GHL), h.write(canonical.Novi); !a && !b && len(h.flight) == 0 {
				quiet = true
				break
			}
		}
		if !quiet {
			t.Fatal("it does not become quiet")
		}
		state := h.entity()
		for r, rec := range h.records {
			primary := state.Sync.Base[r.system].External == r.id
			if !primary && h.wrote[r] {
				t.Errorf("%s was written, the primary is %s", r.id, state.Sync.Base[r.system].External)
			}
			for _, f := range severalFields {
				v, edited := h.given[r][f]
				switch {
				case primary && rec.fields[f] != state.Contact.Field(f):
					t.Errorf("%s shows the %s %q, want %q", r.id, f, rec.fields[f], state.Contact.Field(f))
				case !primary && rec.fields[f] != v:
					t.Errorf("%s shows the %s %q, its people made it %q", r.id, f, rec.fields[f], v)
				case edited && v != state.Contact.Field(f) && !h.said[f+"="+v]:
					t.Errorf("the %s %q of %s is gone, and no event speaks of it", f, v, r.id)
				}
			}
		}
	})
}
