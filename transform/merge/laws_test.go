package merge_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/transform/merge"
)

var (
	lens    = mapping.Association("US")
	systems = []canonical.System{canonical.GHL, canonical.Novi}
	// newest are fields that both sides may change; membership.status is
	// Novi's to change.
	newest = []string{"first_name", "job_title", "address.city", "website"}
	fields = append([]string{"membership.status", "opt_outs.email"}, newest...)
	tags   = []string{"board", "donor", "vip"}
)

const tenant = "alpine-guild"

// record is what one system shows of the person.
type record struct {
	fields   map[string]string
	tags     map[string]bool
	modified int64
}

func (r record) tagList() []string {
	var out []string
	for _, t := range tags {
		if r.tags[t] {
			out = append(out, t)
		}
	}
	return out
}

// run is one history: two systems, people who edit, observations on their
// way in any order, and a sink that writes.
type run struct {
	t        *rapid.T
	now      int64
	skew     map[canonical.System]int64
	side     map[canonical.System]*record
	flight   []merge.Seen
	seq      uint64
	state    canonical.ContactEvent
	last     map[canonical.System]map[string]string // the last value that a person gave
	lastTag  map[canonical.System]map[string]bool
	lifted   bool // somebody lifted an opt-out in GHL
	past     []merge.Seen
	versions []canonical.ContactEvent
	writes   int
	edits    int
}

func newRun(t *rapid.T) *run {
	r := &run{t: t, now: 1_000_000, skew: map[canonical.System]int64{}, side: map[canonical.System]*record{},
		last: map[canonical.System]map[string]string{}, lastTag: map[canonical.System]map[string]bool{}}
	r.state.Contact.ID = canonical.NewID(tenant, canonical.KindContact, canonical.GHL, "g1")
	for _, s := range systems {
		r.skew[s] = int64(rapid.IntRange(-50_000, 50_000).Draw(t, "skew of "+string(s)))
		r.side[s] = &record{fields: map[string]string{}, tags: map[string]bool{}, modified: r.now + r.skew[s]}
		r.last[s], r.lastTag[s] = map[string]string{}, map[string]bool{}
		for _, f := range fields {
			// A member always has a status: what Novi shows empty on first sight
			// says nothing, and we can't write it there.
			has := rapid.Bool().Draw(t, "has "+f) || s == canonical.Novi && f == "membership.status"
			if has && f != "opt_outs.email" {
				v := fmt.Sprintf("%s first %s", s, f)
				r.side[s].fields[f], r.last[s][f] = v, v
			}
		}
	}
	return r
}

func (r *run) tick() { r.now += int64(rapid.IntRange(1, 30_000).Draw(r.t, "time")) }

// edit is a person's change of one field or tag.
func (r *run) edit(s canonical.System) {
	r.tick()
	r.edits++
	rec := r.side[s]
	if rapid.IntRange(0, 3).Draw(r.t, "what") == 0 {
		tag := rapid.SampledFrom(tags).Draw(r.t, "tag")
		if base, known := r.state.Sync.Base[s]; known && slices.Contains(base.Tags, tag) != rec.tags[tag] {
			return // as for fields that are cleared
		}
		rec.tags[tag] = !rec.tags[tag]
		r.lastTag[s][tag] = rec.tags[tag]
	} else {
		f := rapid.SampledFrom(fields).Draw(r.t, "field")
		v := fmt.Sprintf("%s %d", s, r.edits)
		switch {
		case f == "opt_outs.email":
			v = rapid.SampledFrom([]string{"true", ""}).Draw(r.t, "opt-out")
			r.lifted = r.lifted || s == canonical.GHL && v == "" && rec.fields[f] == "true"
		// Nobody takes a value back before anybody has seen it: then a late sight
		// of it can't be told from a change.
		case rapid.IntRange(0, 4).Draw(r.t, "clear") == 0 && r.state.Sync.Base[s].Fields[f] == rec.fields[f] && (s != canonical.Novi || f != "membership.status"):
			v = ""
		}
		if rec.fields[f] == v {
			return
		}
		rec.fields[f], r.last[s][f] = v, v
	}
	if rapid.IntRange(0, 9).Draw(r.t, "quiet") != 0 { // some changes don't touch the modified time
		rec.modified = max(rec.modified+1, r.now+r.skew[s])
	}
}

func (r *run) look(s canonical.System, via observation.Via) merge.Seen {
	rec := r.side[s]
	shown := mapping.Shown{Fields: maps.Clone(rec.fields), Tagged: true, Grouped: true, Tags: rec.tagList()}
	for _, f := range fields {
		if _, ok := shown.Fields[f]; !ok {
			shown.Fields[f] = "" // covered, and empty
		}
	}
	external := canonical.ExternalID(string(s[:1]) + "1")
	return merge.Seen{System: s, External: external, Via: via, Shown: shown, At: canonical.Read{Modified: rec.modified, AsOf: r.now}}
}

func (r *run) observe(s canonical.System) {
	r.tick()
	r.flight = append(r.flight, r.look(s, observation.Fetch))
}

// deliver merges one of the observations under way, and keeps some to be
// delivered a second time.
func (r *run) deliver(i int) {
	seen := r.flight[i]
	if rapid.IntRange(0, 4).Draw(r.t, "twice") != 0 {
		r.flight = slices.Delete(r.flight, i, i+1)
	}
	r.merge(seen)
}

func (r *run) merge(seen merge.Seen) merge.Outcome {
	// The sink's own come again as redeliveries only; a sight may be published
	// twice.
	if r.seq++; seen.At.Seq == 0 || seen.Via == observation.Fetch {
		seen.At.Seq = r.seq
	}
	before := r.state
	next, out := merge.Contact(r.state, seen, merge.Policy{Lens: lens})
	if out.Op == "" {
		if !cmp.Equal(next, before) {
			r.t.Fatalf("nothing is to be published, and the state changed:\n%s", cmp.Diff(before, next))
		}
		return out
	}
	if next.Version != before.Version+1 {
		r.t.Fatalf("version %d follows %d", next.Version, before.Version)
	}
	again, second := merge.Contact(next, seen, merge.Policy{Lens: lens})
	if second.Op != "" {
		r.t.Fatalf("merged twice, it changes something again: %s\n%s", second.Op, cmp.Diff(next, again))
	}
	r.state = next
	r.past = append(r.past, seen)
	r.versions = append(r.versions, next)
	return out
}

// write makes the side show its projection, as the sink does: it reads first,
// and if the record is not what is known of it, it lets the merge speak.
func (r *run) write(s canonical.System) bool {
	base, known := r.state.Sync.Base[s]
	if !known {
		return false
	}
	rec := r.side[s]
	moved := !slices.Equal(base.Tags, rec.tagList())
	for _, f := range fields {
		moved = moved || base.Fields[f] != rec.fields[f]
	}
	if moved {
		r.observe(s)
		return false
	}
	want := lens.Project(r.state.Contact, s, false)
	wrote := map[string]string{}
	for f, v := range want.Fields {
		if slices.Contains(fields, f) && rec.fields[f] != v {
			wrote[f] = v
		}
	}
	retag := !slices.Equal(want.Tags, rec.tagList())
	if len(wrote) == 0 && !retag {
		return false
	}
	// The sink says what it is about to write, and has ended its last write.
	for i := 0; i < len(r.flight); i++ {
		if r.flight[i].System == s && r.flight[i].Via == observation.Writeback {
			r.merge(r.flight[i])
			r.flight = slices.Delete(r.flight, i, i+1)
			i--
		}
	}
	intent := merge.Seen{System: s, Via: observation.Intent, Wrote: maps.Clone(wrote), At: canonical.Read{AsOf: r.now}}
	for _, tag := range tags {
		if had, has := rec.tags[tag], slices.Contains(want.Tags, tag); had != has {
			intent.Wrote[canonical.TagField(tag)] = map[bool]string{true: "true"}[has]
		}
	}
	r.merge(intent)
	r.tick()
	for f, v := range wrote {
		rec.fields[f] = v
	}
	rec.tags = map[string]bool{}
	for _, t := range want.Tags {
		rec.tags[t] = true
	}
	rec.modified = max(rec.modified+1, r.now+r.skew[s])
	r.writes++
	back := r.look(s, observation.Writeback)
	back.Wrote, back.Atomic = intent.Wrote, true
	r.flight = append(r.flight, back)
	return true
}

// settle lets everything arrive and be written, without further edits.
func (r *run) settle() {
	for range 20 {
		for _, s := range systems {
			r.observe(s)
		}
		for len(r.flight) > 0 {
			seen := r.flight[0]
			r.flight = r.flight[1:]
			r.merge(seen)
		}
		if a, b := r.write(canonical.GHL), r.write(canonical.Novi); !a && !b && len(r.flight) == 0 {
			return
		}
	}
	r.t.Fatal("it does not become quiet")
}

func TestLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newRun(t)
		t.Repeat(map[string]func(*rapid.T){
			"edit in ghl":     func(*rapid.T) { r.edit(canonical.GHL) },
			"edit in novi":    func(*rapid.T) { r.edit(canonical.Novi) },
			"observe ghl":     func(*rapid.T) { r.observe(canonical.GHL) },
			"observe novi":    func(*rapid.T) { r.observe(canonical.Novi) },
			"write ghl":       func(*rapid.T) { r.write(canonical.GHL) },
			"write novi":      func(*rapid.T) { r.write(canonical.Novi) },
			"deliver newest":  func(*rapid.T) { r.some(len(r.flight) - 1) },
			"deliver any":     func(t *rapid.T) { r.some(rapid.IntRange(0, max(len(r.flight)-1, 0)).Draw(t, "which")) },
			"deliver a stale": func(t *rapid.T) { r.stale(t) },
		})
		before := r.writes
		r.settle()
		r.check(before)
	})
}

func (r *run) some(i int) {
	if len(r.flight) > 0 {
		r.deliver(i)
	}
}

// stale merges again what was merged before: nothing may change.
func (r *run) stale(t *rapid.T) {
	if len(r.past) == 0 {
		return
	}
	old := r.past[rapid.IntRange(0, len(r.past)-1).Draw(t, "which")]
	if out := r.merge(old); out.Op != "" {
		t.Fatalf("a stale observation led to %s", out.Op)
	}
}

// check holds the end of a run against the laws.
func (r *run) check(writesBefore int) {
	ghl, novi := r.side[canonical.GHL], r.side[canonical.Novi]
	for _, f := range fields {
		if ghl.fields[f] != novi.fields[f] || ghl.fields[f] != r.state.Contact.Field(f) {
			r.t.Errorf("%s: %q in ghl, %q in novi, %q is canonical", f, ghl.fields[f], novi.fields[f], r.state.Contact.Field(f))
		}
	}
	if !slices.Equal(ghl.tagList(), novi.tagList()) || !slices.Equal(ghl.tagList(), slices.Concat(r.state.Contact.Tags)) {
		r.t.Errorf("tags: %v in ghl, %v in novi, %v are canonical", ghl.tagList(), novi.tagList(), r.state.Contact.Tags)
	}
	// What stays is the last that somebody made of it, on one side or the other.
	for _, f := range newest {
		got := r.state.Contact.Field(f)
		candidates := []string{}
		for _, s := range systems {
			if v, edited := r.last[s][f]; edited {
				candidates = append(candidates, v)
			}
		}
		if len(candidates) == 0 {
			candidates = []string{""}
		}
		if !slices.Contains(candidates, got) {
			r.t.Errorf("%s is %q, but people last made it one of %q", f, got, candidates)
		}
	}
	if v, edited := r.last[canonical.Novi]["membership.status"]; edited && v != "" && r.state.Contact.Membership.Status != v {
		r.t.Errorf("membership.status is %q, Novi's people made it %q", r.state.Contact.Membership.Status, v)
	}
	for _, tag := range tags {
		present := slices.Contains(r.state.Contact.Tags, tag)
		a, byGHL := r.lastTag[canonical.GHL][tag]
		b, byNovi := r.lastTag[canonical.Novi][tag]
		if present && !(byGHL && a || byNovi && b) || !present && (byGHL || byNovi) && !(byGHL && !a || byNovi && !b) {
			r.t.Errorf("tag %s: present is %t, people made it %t (%t) in ghl, %t (%t) in novi", tag, present, a, byGHL, b, byNovi)
		}
	}
	if out := r.last[canonical.Novi]["opt_outs.email"] == "true" || r.last[canonical.GHL]["opt_outs.email"] == "true"; out && !r.lifted && !r.state.Contact.OptOuts.Email {
		r.t.Error("an opt-out is gone, and nobody lifted it in ghl")
	}
	if r.writes-writesBefore > 6 {
		r.t.Errorf("%d writes to become quiet", r.writes-writesBefore)
	}
	// A loser is kept in the event that decided.
	for _, e := range r.versions {
		for _, c := range e.Changes {
			if c.Conflict == nil && c.From == c.To {
				r.t.Errorf("version %d: a change of %s that changes nothing", e.Version, c.Field)
			}
		}
	}
}
