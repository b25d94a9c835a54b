// Package plan says what it would take to make a destination match: the
// difference between an entity's projection and what the destination is known
// to show. It is pure.
package plan

import (
	"slices"

	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/effect"
)

// Plan is what to write to one record. The zero value is nothing.
type Plan struct {
	// Create says that the record has to be made first; then External is "".
	Create bool
	// Delete says that the record External has to go; then there is no more.
	Delete   bool
	External canonical.ExternalID
	// Fields are the canonical values to write; "" clears.
	Fields     map[string]string
	AddTags    []string
	RemoveTags []string
	// Tags is all that the record's tags come to, for a destination that keeps
	// them in one field; nil if they don't change.
	Tags *[]string
}

// Empty reports whether there is nothing to do.
func (p Plan) Empty() bool {
	return !p.Create && !p.Delete && len(p.Fields) == 0 && len(p.AddTags) == 0 && len(p.RemoveTags) == 0
}

// Expected is what the destination ought to show now, in canonical terms: its
// base, overlaid with what was written since.
type Expected struct {
	External canonical.ExternalID
	Gone     bool
	Fields   map[string]string
	Tags     []string
}

// Expect returns what system is expected to show of state, given the sink's
// last effect there (the zero Effect if there is none).
func Expect(state canonical.Event, system canonical.System, last effect.Effect) Expected {
	base, known := state.Sync.Base[system]
	x := Expected{External: base.External, Gone: known && base.Gone, Fields: base.Fields, Tags: base.Tags}
	if links := state.Links[system]; len(links) > 0 && !known {
		x.External = links[0]
	}
	if last.External == "" || (known && base.At.AsOf >= last.At.UnixMicro()) {
		return x
	}
	if gone, known := state.Record(system, last.External); x.External == "" && !(known && gone.Gone) {
		// Also after a write that came to nothing the record is there, and must
		// not be made a second time because the merge is late.
		x.External = last.External
	}
	if last.State != effect.Done || x.External != last.External {
		return x
	}
	if last.Delete {
		x.Gone = true
		return x
	}
	x.Fields = make(map[string]string, len(base.Fields)+len(last.Wrote))
	for f, v := range base.Fields {
		x.Fields[f] = v
	}
	for f, v := range last.Wrote {
		x.Fields[f] = v
	}
	x.Tags = slices.DeleteFunc(slices.Clone(base.Tags), func(t string) bool { return slices.Contains(last.TagsRemoved, t) })
	x.Tags = append(x.Tags, last.TagsAdded...)
	slices.Sort(x.Tags)
	x.Tags = slices.Compact(x.Tags)
	return x
}

// For returns what would make system show state. create says whether a record
// is to be made where system has none; a nil policy switches nothing off.
func For(state canonical.Event, system canonical.System, lens *mapping.Lens, x Expected, create bool, policy *mapping.Policy) Plan {
	if policy == nil {
		policy = &mapping.Policy{}
	}
	kind := state.Kind()
	if state.Version == 0 || state.MergedInto != "" || x.Gone || !policy.Syncs(kind, system) {
		return Plan{}
	}
	if state.Deleted() {
		// A delete can't be taken back, so it has to be what the tenant asked
		// for: a record that is to stay is not touched, whatever else is known.
		if x.External == "" || policy.Delete(kind, system.Other()).Action != mapping.Propagate {
			return Plan{}
		}
		return Plan{Delete: true, External: x.External}
	}
	if x.External == "" {
		if !create {
			return Plan{}
		}
		want := lens.ProjectEvent(state, system, true)
		p := Plan{Create: true, Fields: map[string]string{}}
		for f, v := range want.Fields {
			// Of an item all is said, so that it can be found again by it.
			if v != "" || kind != canonical.KindContact {
				p.Fields[f] = v
			}
		}
		if want.Tagged && len(want.Tags) > 0 {
			p.AddTags = want.Tags
			p.Tags = &want.Tags
		}
		return p
	}
	want := lens.ProjectEvent(state, system, false)
	p := Plan{External: x.External, Fields: map[string]string{}}
	for f, v := range want.Fields {
		shown, known := x.Fields[f]
		if (!known && v == "") || known && lens.Same(kind, f, shown, v) || state.Sync.Held(f) {
			continue
		}
		if r, ok := state.Sync.Rendered[system][f]; ok && r.Shown == shown && r.Value == v {
			continue
		}
		p.Fields[f] = v
	}
	if !want.Tagged {
		return p
	}
	// What flips is left as it is, though the list be written for another tag.
	want.Tags = slices.DeleteFunc(want.Tags, func(t string) bool {
		return state.Sync.Held(canonical.TagField(t)) && !slices.Contains(x.Tags, t)
	})
	for _, t := range x.Tags {
		if state.Sync.Held(canonical.TagField(t)) && !slices.Contains(want.Tags, t) && (system != canonical.Novi || !lens.FromGroup(t)) {
			want.Tags = append(want.Tags, t)
		}
	}
	for _, t := range want.Tags {
		if !slices.Contains(x.Tags, t) {
			p.AddTags = append(p.AddTags, t)
		}
	}
	for _, t := range x.Tags {
		// A group's tag is shown by Novi and never written there.
		if !slices.Contains(want.Tags, t) && (system != canonical.Novi || !lens.FromGroup(t)) {
			p.RemoveTags = append(p.RemoveTags, t)
		}
	}
	if len(p.AddTags)+len(p.RemoveTags) > 0 {
		p.Tags = &want.Tags
	}
	return p
}

// Duplicate is what is to be done about one of a contact's other records, and
// what that is expected to show.
type Duplicate struct {
	Plan
	Expected Expected
}

// Duplicates returns what is to be done about a contact's other records at
// system that aren't as the policy wants them: each is taken away, or gets the
// tag. All that they showed is canonical by then.
func Duplicates(state canonical.Event, system canonical.System, lens *mapping.Lens, policy *mapping.Policy) []Duplicate {
	primary := state.Sync.Base[system]
	if policy == nil || state.Kind() != canonical.KindContact || state.MergedInto != "" || state.Deleted() || primary.External == "" || primary.Gone || !policy.Syncs(canonical.KindContact, system) {
		return nil
	}
	var out []Duplicate
	for _, id := range state.Links[system] {
		base, known := state.Record(system, id)
		if id == primary.External || !known || base.Gone || base.Inactive {
			continue
		}
		switch x := (Expected{External: id, Fields: base.Fields, Tags: base.Tags}); {
		case policy.Duplicates == mapping.DeleteDuplicates:
			out = append(out, Duplicate{Plan{Delete: true, External: id}, x})
		case policy.Duplicates != mapping.TagDuplicates, !base.Tagged, system == canonical.Novi && lens.Tags.NoviField == "":
		case !slices.Contains(base.Tags, policy.DuplicatesTag):
			tags := append(slices.DeleteFunc(slices.Clone(base.Tags), func(t string) bool { return system == canonical.Novi && lens.FromGroup(t) }), policy.DuplicatesTag)
			slices.Sort(tags)
			out = append(out, Duplicate{Plan{External: id, AddTags: []string{policy.DuplicatesTag}, Tags: &tags}, x})
		}
	}
	return out
}

// Moved reports whether a record as it was just read differs from what was
// expected of it: somebody has changed it, and what they did has to be merged
// before anything is written.
func Moved(kind canonical.Kind, lens *mapping.Lens, x Expected, shown mapping.Shown) bool {
	for f, v := range shown.Fields {
		if have, known := x.Fields[f]; !known && v != "" || known && !lens.Same(kind, f, have, v) {
			return true
		}
	}
	return shown.Tagged && shown.Grouped && !slices.Equal(x.Tags, shown.Tags)
}
