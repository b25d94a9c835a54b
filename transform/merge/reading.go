package merge

import (
	"cmp"
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
)

// Reread returns what of the record that seen shows the mapping reads in
// another way than when the state's base was read: fields, and "tags", by the
// RAW sequence of the sight that the base has them from. Whoever can, reads
// those again and says in [Seen.Before] what they show; then what a user has
// changed since can be told from what is only read anew.
func Reread(state canonical.Event, seen Seen, lens *mapping.Lens) map[uint64][]string {
	m := &merger{seen: seen, old: state}
	if m.find(); !m.known {
		return nil
	}
	var out map[uint64][]string
	for _, f := range m.base.Reread(lens.Readings(state.Kind(), seen.System)) {
		if out == nil {
			out = map[uint64][]string{}
		}
		at := m.shownAt(f).Seq
		out[at] = append(out[at], f)
	}
	return out
}

// read brings the base of what the mapping reads in another way than before to
// the new reading. That is nobody's edit. Where it isn't known any more what
// the record showed then, it is taken to be what it shows now.
func (m *merger) read() {
	if !m.known {
		return
	}
	m.changed = m.base.Reread(m.policy.Lens.Readings(m.next.Kind(), m.seen.System))
	slices.Sort(m.changed)
	for _, f := range m.changed {
		if !off.stale && !m.seen.Restored && !m.seen.At.Newer(m.shownAt(f)) {
			continue // it stays as it was read
		}
		if f == canonical.TagsReading {
			m.rereadTags()
			continue
		}
		before, known := m.seen.Before.Fields[f]
		shown, covered := m.seen.Shown.Fields[f]
		if !covered {
			continue
		}
		if !known {
			before = shown
		}
		m.reread(f, before)
	}
}

// reread makes before the base of f. A value that the system gave us is read
// anew where it was read in another way, and keeps its stamp. One that isn't
// from there competes as on a first link, but that nothing is known of when it
// was made: empty says nothing, the authority decides, and without one the
// canonical value stays.
func (m *merger) reread(f, before string) {
	was := m.base.Fields[f]
	m.base.Fields = maps.Clone(m.base.Fields)
	m.base.Fields[f] = before
	current, have := m.next.Field(f), m.next.Sync.Stamps[f]
	if r, ok := m.old.Sync.Rendered[m.seen.System][f]; ok && r.Shown == was && resembles(r.Value, before) {
		m.render(f, canonical.Rendering{Shown: before, Value: r.Value})
		m.old.Sync.Rendered = m.next.Sync.Rendered // the rules look there
		return
	}
	if m.seen.Restored || before == "" || m.same(f, was, before) || m.same(f, before, current) || m.next.Sync.Held(f) {
		return
	}
	authority := m.policy.Lens.AuthorityOf(m.next.Kind(), f)
	theirs := canonical.Stamp{At: max(have.At, cmp.Or(m.shownAt(f).Modified, m.shownAt(f).AsOf)), Seq: m.shownAt(f).Seq, Origin: m.seen.System}
	switch {
	case have.Origin == m.seen.System && m.valueOf(f, was) == current:
		m.takeReading(f, before, current, have)
	case current == "":
		m.takeReading(f, before, current, theirs)
	case !m.allowed(f, authority, before):
		m.loseReading(f, before, current)
	case authority == mapping.Union:
		if joined := m.join(f, before, current, ""); joined != current {
			m.takeReading(f, joined, current, theirs)
		}
	case authority == mapping.OptOut, authority == mapping.ByGHL, authority == mapping.ByNovi,
		authority == mapping.Longest && utf8.RuneCountInString(before) > utf8.RuneCountInString(current):
		m.takeReading(f, before, current, theirs)
	default:
		m.loseReading(f, before, current)
	}
}

func (m *merger) takeReading(f, value, current string, stamp canonical.Stamp) {
	m.next.SetField(f, value)
	m.next.Sync.Stamps[f] = stamp
	c := canonical.Change{Field: f, From: current, To: value, Origin: m.seen.System, At: micros(stamp.At)}
	if current != "" {
		c.Conflict = &canonical.Conflict{Lost: current, Origin: m.old.Sync.Stamps[f].Origin, Reason: canonical.ReasonReading}
	}
	m.next.Changes = append(m.next.Changes, c)
}

func (m *merger) loseReading(f, value, current string) {
	have := m.next.Sync.Stamps[f]
	m.next.Changes = append(m.next.Changes, canonical.Change{Field: f, From: current, To: current, Origin: have.Origin, At: micros(have.At),
		Conflict: &canonical.Conflict{Lost: value, Origin: m.seen.System, Reason: canonical.ReasonReading}})
}

// rereadTags makes the tags that are read today the base. One that wasn't read
// before is added, unless somebody has taken it away; one that isn't read any
// more stays, since nobody took it away.
func (m *merger) rereadTags() {
	from := m.seen.Before
	if !from.Tagged && !from.Grouped {
		from = m.seen.Shown
	}
	if !from.Tagged && !from.Grouped {
		return
	}
	m.fresh = map[string]bool{}
	all := slices.Clone(from.Tags)
	for _, tag := range from.Tags {
		m.fresh[tag] = !slices.Contains(m.base.Tags, tag)
	}
	for _, tag := range m.base.Tags {
		if covered := m.policy.Lens.FromGroup(tag) && from.Grouped || !m.policy.Lens.FromGroup(tag) && from.Tagged; !covered {
			all = append(all, tag)
		}
	}
	m.base.Tags = all
}

// noteReading notes how what the sight covers has been read.
func (m *merger) noteReading() {
	readings := m.policy.Lens.Readings(m.next.Kind(), m.seen.System)
	if len(readings) == 0 || len(m.changed) == 0 && len(m.newBase.Fields) == len(m.base.Fields) && m.base.ReadWhole() {
		return
	}
	m.newBase.SetReadings(m.base, readings, func(f string) bool {
		covered := m.seen.Shown.Tagged || m.seen.Shown.Grouped
		if f != canonical.TagsReading {
			_, covered = m.seen.Shown.Fields[f]
		}
		return covered && (!m.known || off.stale || m.seen.Restored || m.seen.At.Newer(m.shownAt(f)))
	})
	m.dirty = m.dirty || len(m.changed) > len(m.newBase.Reread(readings))
}
