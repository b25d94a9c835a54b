package verify

import (
	"hash/maphash"
	"slices"
	"strings"

	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
)

// tagsField is the name under which findings and bases speak of tags.
const tagsField = "tags"

// comparer compares what records show with what they ought to show. It keeps
// hashes instead of values, which differ from run to run.
type comparer struct {
	lens *mapping.Lens
	seed maphash.Seed
	// unlisted are the compared fields that a system's list does not show,
	// but a fetch does.
	unlisted map[canonical.System][]string
}

// Compare returns the fields that a record shows other than system ought to
// show of state, and those that have a value and of which the record says
// nothing. It is pure.
func Compare(lens *mapping.Lens, state canonical.Event, system canonical.System, shown mapping.Shown) (differ, hidden []string) {
	c := comparer{lens: lens, seed: maphash.MakeSeed()}
	return c.compare(c.want(state, system), system, shown)
}

// want is what is kept of what a system ought to show of an entity.
type want struct {
	values  []uint64          // by index in the lens's bindings
	spelled map[string]uint64 // how the system spells a value that we wrote, by field
	tags    uint64
	groups  uint64
	tagged  bool // tags are compared
	grouped bool // tags that come from groups are compared
	// until is the modified time up to which what the list does not show is
	// known to be as wanted; 0 if it isn't.
	until int64
}

// uncompared stands for a value that a record is not compared with.
const uncompared = ^uint64(0)

// hash is 0 for the empty value only.
func (c *comparer) hash(s string) uint64 {
	if s == "" {
		return 0
	}
	return min(max(maphash.String(c.seed, s), 1), uncompared-1)
}

func (c *comparer) hashTags(tags []string) uint64 { return c.hash(strings.Join(tags, "\x00")) }

// split returns the tags that are written to a system and those that are only
// read there.
func (c *comparer) split(system canonical.System, tags []string) (own, groups []string) {
	for _, t := range tags {
		if system == canonical.Novi && c.lens.FromGroup(t) {
			groups = append(groups, t)
		} else {
			own = append(own, t)
		}
	}
	return own, groups
}

// wanted returns what system ought to show of an entity, as text: the
// projection; and of what is only read there but written at the other side,
// what it was last seen to show. A field that is in neither is not compared.
func (c *comparer) wanted(state canonical.Event, system canonical.System) map[string]string {
	fields := c.lens.Project(state.Contact, system, false).Fields
	for _, b := range c.lens.Bindings {
		if b.Side(system).Path == "" || b.Side(system).Write != mapping.Never || b.Side(system.Other()).Write != mapping.Always {
			continue
		}
		if v, seen := state.Sync.Base[system].Fields[b.Field]; seen {
			fields[b.Field] = v
		}
	}
	return fields
}

func (c *comparer) want(state canonical.Event, system canonical.System) want {
	w := want{values: make([]uint64, len(c.lens.Bindings))}
	base := state.Sync.Base[system]
	fields := c.wanted(state, system)
	for i, b := range c.lens.Bindings {
		v, compared := fields[b.Field]
		if w.values[i] = c.hash(v); !compared {
			w.values[i] = uncompared
		}
		if r, ok := state.Sync.Rendered[system][b.Field]; ok && compared && r.Value == v && r.Shown != v {
			if w.spelled == nil {
				w.spelled = map[string]uint64{}
			}
			w.spelled[b.Field] = c.hash(r.Shown)
		}
	}
	p := c.lens.Project(state.Contact, system, false)
	w.tagged, w.tags = p.Tagged, c.hashTags(p.Tags)
	if system == canonical.Novi && base.Grouped {
		_, groups := c.split(system, base.Tags)
		w.grouped, w.groups = true, c.hashTags(groups)
	}
	w.until = c.until(w, system, base)
	return w
}

// until is a want's until.
func (c *comparer) until(w want, system canonical.System, base canonical.Base) int64 {
	at := func(field string) int64 {
		if r, ok := base.FieldAt[field]; ok {
			return r.Modified
		}
		return base.At.Modified
	}
	until := base.At.Modified
	for _, f := range c.unlisted[system] {
		v, seen := base.Fields[f]
		if !seen || !c.equal(w, f, v) {
			return 0
		}
		until = min(until, at(f))
	}
	if w.grouped {
		until = min(until, at(tagsField))
	}
	return until
}

// equal reports whether a field that shows v shows what is wanted.
func (c *comparer) equal(w want, field, v string) bool {
	i := slices.IndexFunc(c.lens.Bindings, func(b mapping.Binding) bool { return b.Field == field })
	return i < 0 || c.equalAt(w, i, v)
}

func (c *comparer) equalAt(w want, i int, v string) bool {
	if w.values[i] == uncompared {
		return true
	}
	h := c.hash(v)
	if h == w.values[i] {
		return true
	}
	spelled, ok := w.spelled[c.lens.Bindings[i].Field]
	return ok && h == spelled
}

// compare returns the fields that a record shows other than is wanted, and
// those of which something is wanted and the record says nothing.
func (c *comparer) compare(w want, system canonical.System, shown mapping.Shown) (differ, hidden []string) {
	for i, b := range c.lens.Bindings {
		v, covered := shown.Fields[b.Field]
		switch {
		case !covered && w.values[i] != 0 && w.values[i] != uncompared:
			hidden = append(hidden, b.Field)
		case covered && !c.equalAt(w, i, v):
			differ = append(differ, b.Field)
		}
	}
	own, groups := c.split(system, shown.Tags)
	switch {
	case w.tagged && !shown.Tagged && w.tags != 0:
		hidden = append(hidden, tagsField)
	case w.tagged && shown.Tagged && c.hashTags(own) != w.tags, w.grouped && shown.Grouped && c.hashTags(groups) != w.groups:
		differ = append(differ, tagsField)
	}
	return differ, hidden
}

// enough reports whether a row of a list, modified at the given time, says
// all that a fetch would.
func (c *comparer) enough(w want, system canonical.System, shown mapping.Shown, modified int64) bool {
	if len(c.unlisted[system]) == 0 && (!w.grouped || shown.Grouped) {
		return true
	}
	return w.until != 0 && modified != 0 && modified <= w.until
}
