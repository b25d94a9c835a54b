package merge_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/transform/merge"
)

var (
	lens = mapping.Association("US")
	// free are fields that both sides may write; their authority is drawn.
	free = []string{"first_name", "job_title", "address.city", "website", "last_name"}
	// membership.status is Novi's to change.
	fields = append([]string{"membership.status", "opt_outs.email"}, free...)
	tags   = []string{"board", "donor", "vip"}
	// derived are tags that follow membership.status; people and tools touch
	// the first of them too.
	derived = []string{"member", "status: {value}"}
)

const minute = int64(time.Minute / time.Microsecond)

// run is one random history in a world.
type run struct {
	*world
	t       *rapid.T
	last    map[canonical.System]map[string]string // the last value that a person gave
	lastTag map[canonical.System]map[string]bool
	given   map[string]bool // elements of lists
	taken   map[string]bool // those that somebody took out again
	lifted  bool            // somebody lifted an opt-out in GHL
	deleted []canonical.System
}

func newRun(t *rapid.T) *run {
	l := *lens
	l.Bindings = slices.Clone(lens.Bindings)
	for i, b := range l.Bindings {
		if slices.Contains(free, b.Field) {
			l.Bindings[i].Authority = rapid.SampledFrom([]mapping.Authority{mapping.Newest, mapping.ByGHL, mapping.ByNovi, mapping.Longest, mapping.Union}).Draw(t, "authority of "+b.Field)
		}
	}
	policy := merge.Policy{Lens: &l, Skew: time.Duration(rapid.SampledFrom([]int{0, 2}).Draw(t, "tolerance")) * time.Minute,
		Rules: &mapping.Policy{Deletes: map[mapping.Flow]mapping.Delete{}}}
	for _, s := range systems {
		action := rapid.SampledFrom([]mapping.DeleteAction{mapping.Unlink, mapping.Propagate, mapping.TagRecord}).Draw(t, "a delete in "+string(s))
		policy.Rules.Deletes[mapping.Flow{Kind: canonical.KindContact, System: s}] = mapping.Delete{Action: action, Tag: "left " + string(s)}
	}
	touched := tags
	if rapid.Bool().Draw(t, "derives tags") {
		touched = append(slices.Clone(tags), derived[0])
		for _, tag := range derived {
			d, err := mapping.NewDerivedTag(tag, "membership.status", "")
			if err != nil {
				t.Fatal(err)
			}
			l.Tags.Derive = append(l.Tags.Derive, d)
		}
	}
	r := &run{world: newWorld(t, policy, fields, touched), t: t, last: map[canonical.System]map[string]string{}, lastTag: map[canonical.System]map[string]bool{},
		given: map[string]bool{}, taken: map[string]bool{}}
	for _, s := range systems {
		r.skew[s] = rapid.Int64Range(-3*minute, 3*minute).Draw(t, "skew of "+string(s))
		rec := record{fields: map[string]string{}, modified: r.now + r.skew[s]}
		r.last[s], r.lastTag[s] = map[string]string{}, map[string]bool{}
		for _, f := range fields {
			// A member always has a status: what Novi shows empty on first sight
			// says nothing, and we can't write it there.
			has := rapid.Bool().Draw(t, "has "+f) || s == canonical.Novi && f == "membership.status"
			if has && f != "opt_outs.email" {
				v := fmt.Sprintf("%s first %s", s, f)
				rec.fields[f], r.last[s][f], r.given[v] = v, v, true
			}
		}
		r.side[s] = rec
	}
	return r
}

func (r *run) tick() { r.now += rapid.Int64Range(1, minute/2).Draw(r.t, "time") }

// delete is a person's delete. At most one side's is deleted: what no system
// shows any more is a tombstone, and nothing else is left to compare.
func (r *run) delete(s canonical.System) {
	base, known := r.state.Sync.Base[s]
	if _, linked := r.state.Sync.Base[s.Other()]; !linked {
		return
	}
	// What somebody changed and deleted before it was seen is gone with it.
	for _, f := range r.fields {
		known = known && base.Fields[f] == r.side[s].fields[f]
	}
	if !known || !slices.Equal(base.Tags, r.side[s].tags) || len(r.deleted) > 0 || rapid.IntRange(0, 3).Draw(r.t, "really") > 0 {
		return
	}
	r.tick()
	r.deleted = append(r.deleted, s)
	r.remove(s)
}

// edit is a person's change of one field or tag.
func (r *run) edit(s canonical.System) {
	if !r.side[s].there() {
		return
	}
	r.tick()
	base, known := r.state.Sync.Base[s]
	quiet := rapid.IntRange(0, 9).Draw(r.t, "quiet") == 0 // some changes don't touch the modified time
	if rapid.IntRange(0, 3).Draw(r.t, "what") == 0 {
		tag := rapid.SampledFrom(r.tags).Draw(r.t, "tag")
		if known && slices.Contains(base.Tags, tag) != r.has(s, tag) {
			return // as for fields that are cleared
		}
		r.lastTag[s][tag] = !r.has(s, tag)
		r.tag(s, tag, !r.has(s, tag), quiet)
		return
	}
	f := rapid.SampledFrom(fields).Draw(r.t, "field")
	was := r.side[s].fields[f]
	v := fmt.Sprintf("%s %d%s", s, r.edits, strings.Repeat("!", rapid.IntRange(0, 3).Draw(r.t, "length")))
	// Nobody takes a value back before anybody has seen it: then a late sight of
	// it can't be told from a change; nor goes back to what the sink wrote before
	// its writeback has come: that can't be told from the write.
	clear := rapid.IntRange(0, 4).Draw(r.t, "clear") == 0 && base.Fields[f] == was && r.state.Sync.Writing[s].Fields[f] == "" && (s != canonical.Novi || f != "membership.status")
	switch {
	case f == "opt_outs.email":
		v = rapid.SampledFrom([]string{"true", ""}).Draw(r.t, "opt-out")
		r.lifted = r.lifted || s == canonical.GHL && v == "" && was == "true"
	case r.policy.Lens.Authority(f) == mapping.Union:
		var list []string
		if was != "" {
			list = strings.Split(was, "; ")
		}
		if clear && len(list) > 0 {
			i := rapid.IntRange(0, len(list)-1).Draw(r.t, "element")
			r.taken[list[i]] = true
			list = slices.Delete(list, i, i+1)
		} else {
			r.given[v] = true
			list = append(list, v)
		}
		v = strings.Join(list, "; ")
	case clear:
		v = ""
	}
	if was != v {
		r.last[s][f] = v
		r.set(s, f, v, quiet)
	}
}

// churn is a tool that adds a tag and removes it again, seen each time.
func (r *run) churn(s canonical.System) {
	tag := rapid.SampledFrom(r.tags).Draw(r.t, "tag")
	if !r.side[s].there() {
		return
	}
	for range rapid.IntRange(2, 7).Draw(r.t, "times") {
		r.now++
		if base, known := r.state.Sync.Base[s]; known && slices.Contains(base.Tags, tag) != r.has(s, tag) {
			return
		}
		r.lastTag[s][tag] = !r.has(s, tag)
		r.tag(s, tag, !r.has(s, tag), false)
		r.observe(s)
		r.deliver(len(r.flight)-1, false)
	}
}

func (r *run) sight(s canonical.System) {
	r.tick()
	r.observe(s)
}

// some delivers one that is under way, twice at times.
func (r *run) some(i int) {
	if len(r.flight) > 0 {
		r.deliver(i, rapid.IntRange(0, 4).Draw(r.t, "twice") == 0)
	}
}

// lose drops a sight that is under way. What the sink says is never lost.
func (r *run) lose(i int) {
	if len(r.flight) > 0 && r.flight[i].Via == observation.Fetch {
		r.flight = slices.Delete(r.flight, i, i+1)
	}
}

// stale merges again what was merged before: nothing may change.
func (r *run) stale() {
	if len(r.past) == 0 {
		return
	}
	old := r.past[rapid.IntRange(0, len(r.past)-1).Draw(r.t, "which")]
	if out := r.merge(old); out.Op != "" {
		r.t.Fatalf("a stale observation led to %s", out.Op)
	}
}

func TestLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newRun(t)
		any := func() int { return rapid.IntRange(0, max(len(r.flight)-1, 0)).Draw(t, "which") }
		t.Repeat(map[string]func(*rapid.T){
			"edit in ghl":     func(*rapid.T) { r.edit(canonical.GHL) },
			"edit in novi":    func(*rapid.T) { r.edit(canonical.Novi) },
			"delete in ghl":   func(*rapid.T) { r.delete(canonical.GHL) },
			"delete in novi":  func(*rapid.T) { r.delete(canonical.Novi) },
			"churn in ghl":    func(*rapid.T) { r.churn(canonical.GHL) },
			"churn in novi":   func(*rapid.T) { r.churn(canonical.Novi) },
			"observe ghl":     func(*rapid.T) { r.sight(canonical.GHL) },
			"observe novi":    func(*rapid.T) { r.sight(canonical.Novi) },
			"write ghl":       func(*rapid.T) { r.write(canonical.GHL) },
			"write novi":      func(*rapid.T) { r.write(canonical.Novi) },
			"deliver newest":  func(*rapid.T) { r.some(len(r.flight) - 1) },
			"deliver any":     func(*rapid.T) { r.some(any()) },
			"lose any":        func(*rapid.T) { r.lose(any()) },
			"deliver a stale": func(*rapid.T) { r.stale() },
		})
		// The final sweep comes when what was held has been quiet long enough.
		before := r.writes
		r.quiesce()
		r.check(before)
	})
}

func (r *run) quiesce() {
	r.settleOrFail()
	r.now += 11 * minute
	r.settleOrFail()
}

func (r *run) settleOrFail() {
	if !r.settle() {
		r.t.Fatal("it does not become quiet")
	}
}

// check holds the end of a run against the laws.
func (r *run) check(writesBefore int) {
	for _, s := range r.deleted {
		if !r.checkDelete(s) {
			return // nothing is left
		}
	}
	if what, ok := r.same(); !ok {
		r.t.Errorf("%s differs: %v in ghl, %v in novi, %v is canonical", what, r.side[canonical.GHL], r.side[canonical.Novi], r.state.Contact)
	}
	decided := map[string]bool{} // field and value that an event speaks of
	held := map[string]bool{}
	for _, e := range r.versions {
		for _, c := range e.Changes {
			decided[c.Field+"="+c.From], decided[c.Field+"="+c.To] = true, true
			switch {
			case c.Conflict == nil && c.From == c.To:
				r.t.Errorf("version %d: a change of %s that changes nothing", e.Version, c.Field)
			case c.Conflict != nil:
				decided[c.Field+"="+c.Conflict.Lost] = true
				if c.Conflict.Reason == canonical.ReasonFlip {
					held[c.Field] = true
				}
			}
		}
	}
	for _, f := range free {
		r.checkField(f, decided, held[f])
	}
	if v := r.last[canonical.Novi]["membership.status"]; v != "" && r.state.Contact.Membership.Status != v {
		r.t.Errorf("membership.status is %q, Novi's people made it %q", r.state.Contact.Membership.Status, v)
	}
	for _, tag := range tags {
		present := slices.Contains(r.state.Contact.Tags, tag)
		a, byGHL := r.lastTag[canonical.GHL][tag]
		b, byNovi := r.lastTag[canonical.Novi][tag]
		if asMade := byGHL && a == present || byNovi && b == present || !byGHL && !byNovi && !present; !asMade && !held["tags"] {
			r.t.Errorf("tag %s: present is %t, people made it %t (%t) in ghl, %t (%t) in novi", tag, present, a, byGHL, b, byNovi)
		}
	}
	if out := r.last[canonical.Novi]["opt_outs.email"] == "true" || r.last[canonical.GHL]["opt_outs.email"] == "true"; out && !r.lifted && !r.state.Contact.OptOuts.Email {
		r.t.Error("an opt-out is gone, and nobody lifted it in ghl")
	}
	if n := r.writes - writesBefore; n > 6 {
		r.t.Errorf("%d writes to become quiet", n)
	}
	if r.writes > r.edits+4 {
		r.t.Errorf("%d writes for %d edits", r.writes, r.edits)
	}
}

// checkDelete holds what became of the other record against the policy, and
// reports whether it is there still.
func (r *run) checkDelete(s canonical.System) (there bool) {
	rule := r.policy.Rules.Delete(canonical.KindContact, s)
	there = r.side[s.Other()].there()
	propagated := rule.Action == mapping.Propagate
	if r.state.Deleted() != propagated || there == propagated {
		r.t.Errorf("%s after a delete in %s: deleted is %t, the other record is there: %t", rule.Action, s, r.state.Deleted(), there)
	}
	if !r.state.Sync.Base[s].Gone || len(r.state.Links[s]) > 0 {
		r.t.Errorf("a delete in %s: the links are %v", s, r.state.Links)
	}
	if tagged := r.has(s.Other(), rule.Tag); there && tagged != (rule.Action == mapping.TagRecord) {
		r.t.Errorf("%s after a delete in %s: the other record has the tags %v", rule.Action, s, r.side[s.Other()].tags)
	}
	told := slices.ContainsFunc(r.versions, func(e canonical.Event) bool {
		return slices.ContainsFunc(e.Changes, func(c canonical.Change) bool { return c.Field == "deleted" && c.To == "true" && c.Origin == s })
	})
	if told != propagated {
		r.t.Errorf("%s after a delete in %s: an event speaks of it: %t", rule.Action, s, told)
	}
	return there
}

func (r *run) checkField(f string, decided map[string]bool, held bool) {
	got, authority := r.state.Contact.Field(f), r.policy.Lens.Authority(f)
	var candidates []string
	for _, s := range systems {
		v, edited := r.last[s][f]
		if !edited {
			continue
		}
		candidates = append(candidates, v)
		if v != "" && v != got && !decided[f+"="+v] {
			r.t.Errorf("%s: %q of %s is gone, and no event speaks of it", f, v, s)
		}
		if owner := map[mapping.Authority]canonical.System{mapping.ByGHL: canonical.GHL, mapping.ByNovi: canonical.Novi}[authority]; owner == s && v != "" && v != got && !held {
			r.t.Errorf("%s is %q, but its authority %s made it %q", f, got, s, v)
		}
	}
	if authority == mapping.Union {
		for e := range strings.SplitSeq(got, "; ") {
			if e != "" && (!r.given[e] || r.taken[e]) && !held {
				r.t.Errorf("%s has %q, which nobody gave or somebody took out", f, e)
			}
		}
		for _, s := range systems {
			for e := range strings.SplitSeq(r.last[s][f], "; ") {
				if e != "" && !r.taken[e] && !slices.Contains(strings.Split(got, "; "), e) && !held {
					r.t.Errorf("%s is %q, which has lost %q of %s", f, got, e, s)
				}
			}
		}
		return
	}
	if authority == mapping.ByGHL || authority == mapping.ByNovi {
		return // what the owner leaves empty is the other's first value, or nothing
	}
	// What stays is the last that somebody made of it, on one side or the other.
	if len(candidates) == 0 {
		candidates = append(candidates, "")
	}
	if !slices.Contains(candidates, got) && !held {
		r.t.Errorf("%s is %q, but people last made it one of %q", f, got, candidates)
	}
}
