package merge

import (
	"maps"
	"slices"

	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
)

// deletedField and contactField are the names under which Changes speak of a
// tombstone and of the contact that an item hangs on.
const (
	deletedField = "deleted"
	contactField = "contact_id"
)

// absent merges the word that the record is not there: it is unlinked, and
// not made again. What that means for the other system's record is policy;
// an item that went with its contact takes nothing with it. An entity that no
// system shows any more is a tombstone.
func (m *merger) absent() (canonical.Event, Outcome) {
	base, ours := m.base, m.seen.Via == observation.Writeback
	switch {
	case !m.known && ours && m.seen.Creates:
		// Made for this entity, and somebody took it away unread.
		w := m.next.Sync.Writing[m.seen.System]
		base, ours = canonical.Base{External: m.seen.External, Parent: w.Parent}, false
		m.next.Sync.Writing = cloneMap(m.next.Sync.Writing)
		m.next.Sync.Writing[m.seen.System] = canonical.Writing{Seq: w.Seq}
	case !m.known, m.base.Gone:
		return m.old, Outcome{}
	}
	m.next.Changes = nil
	base.Gone, base.At, base.Inactive, base.Writing = true, m.seen.At, false, nil
	base.Removed = m.other && ours
	base.Orphaned = m.seen.ParentGone && m.next.Kind() != canonical.KindContact
	m.setBase(base)
	all := cloneMap(m.old.Links)
	left := slices.DeleteFunc(slices.Clone(all[m.seen.System]), func(x canonical.ExternalID) bool { return x == m.seen.External })
	if len(left) == 0 {
		delete(all, m.seen.System)
	} else {
		all[m.seen.System] = left
	}
	m.next.Links = all
	if m.seen.ParentReplaced && !m.other {
		// It went with a record that nobody misses, and is made again under the
		// contact's other one.
		m.setOther(base)
		delete(m.next.Sync.Base, m.seen.System) // setBase has made the map anew
		return m.publish()
	}
	if len(left) > 0 {
		// The person is still there: another record is the primary one now.
		if !m.other {
			m.promote(left)
			m.follow()
			m.followGroups()
		}
		return m.publish()
	}
	var rules mapping.Delete
	if m.policy.Rules != nil {
		rules = m.policy.Rules.Delete(m.next.Kind(), m.seen.System)
	} else if m.next.Kind() != canonical.KindContact {
		rules.Action = mapping.Propagate
	}
	switch {
	case m.old.Deleted() || ours || m.seen.Twin:
	case len(all) == 0, rules.Action == mapping.Propagate && !m.seen.ParentGone:
		m.setDeleted(true)
	case rules.Action == mapping.TagRecord && m.next.Kind() == canonical.KindContact:
		m.addTag(mapping.NormalizeTag(rules.Tag))
	}
	return m.publish()
}

// promote puts the first of links that is known in the place of the primary
// record, which is gone.
func (m *merger) promote(links []canonical.ExternalID) {
	for _, x := range links {
		next, known := m.next.Sync.Others[m.seen.System][x]
		if !known || next.Gone {
			continue
		}
		m.setOther(m.next.Sync.Base[m.seen.System])
		m.dropOther(x)
		m.next.Sync.Writing = cloneMap(m.next.Sync.Writing)
		if delete(m.next.Sync.Writing, m.seen.System); next.Writing != nil {
			m.next.Sync.Writing[m.seen.System] = *next.Writing
		}
		next.Writing = nil
		m.next.Sync.Base = cloneMap(m.next.Sync.Base)
		m.next.Sync.Base[m.seen.System] = next
		m.next.Sync.Linked = []canonical.System{m.seen.System}
		return
	}
}

// follow takes over what the record that is the primary one now shows of the
// fields that its system decides alone.
func (m *merger) follow() {
	base := m.next.Sync.Base[m.seen.System]
	for _, b := range m.policy.Lens.BindingsOf(m.next.Kind()) {
		shown, has := base.Fields[b.Field]
		value, current := m.valueOf(b.Field, shown), m.next.Field(b.Field)
		if !has || !m.readOnly(b.Field, m.seen.System) || m.next.Sync.Stamps[b.Field].Origin != m.seen.System || m.same(b.Field, value, current) {
			continue
		}
		m.next.SetField(b.Field, value)
		m.stamp(b.Field)
		m.next.Changes = append(m.next.Changes, canonical.Change{Field: b.Field, From: current, To: value, Origin: m.seen.System, At: micros(m.changedAt())})
	}
}

// followGroups takes over which groups Novi's primary record is in. What
// another record of the person is in is of no account: nobody could bring the
// primary one to show it.
func (m *merger) followGroups() {
	base := m.next.Sync.Base[canonical.Novi]
	if !showsGroups(m.next) {
		return
	}
	set, changed := cloneMap(m.next.Sync.Tags), false
	all := slices.AppendSeq(slices.Clone(base.Tags), maps.Keys(set))
	slices.Sort(all)
	for _, tag := range slices.Compact(all) {
		have, shown := set[tag], slices.Contains(base.Tags, tag)
		if !m.policy.Lens.FromGroup(tag) || have.Present == shown {
			continue
		}
		have.Present, have.Stamp = shown, canonical.Stamp{At: max(m.changedAt(), have.At), Seq: m.seen.At.Seq, Origin: canonical.Novi}
		set[tag], changed = have, true
		c := canonical.Change{Field: tagsField, Origin: canonical.Novi, At: micros(m.changedAt())}
		if shown {
			c.To = tag
		} else {
			c.From = tag
		}
		m.next.Changes = append(m.next.Changes, c)
	}
	if changed {
		m.next.Sync.Tags, m.next.Contact.Tags, m.dirty = set, present(set), true
	}
}

// showsGroups reports whether Novi's primary record of e says which groups it
// is in.
func showsGroups(e canonical.Event) bool {
	base := e.Sync.Base[canonical.Novi]
	return base.External != "" && !base.Gone && !base.Inactive && base.Grouped
}

func (m *merger) setDeleted(deleted bool) {
	text := map[bool]string{true: "true"}
	m.next.SetDeleted(deleted)
	m.at = max(m.at, m.changedAt())
	m.next.Changes = append(m.next.Changes, canonical.Change{Field: deletedField, From: text[!deleted], To: text[deleted],
		Origin: m.seen.System, At: micros(m.changedAt())})
	m.dirty = true
}

// addTag gives the contact a tag that stands for what happened at the system.
func (m *merger) addTag(tag string) {
	have := m.old.Sync.Tags[tag]
	if tag == "" || have.Present {
		return
	}
	stamp := canonical.Stamp{At: max(m.changedAt(), have.At), Seq: m.seen.At.Seq, Origin: m.seen.System}
	m.next.Sync.Tags = cloneMap(m.old.Sync.Tags)
	m.next.Sync.Tags[tag] = canonical.TagStamp{Stamp: stamp, Present: true}
	m.next.Contact.Tags = append(slices.Clone(m.old.Contact.Tags), tag)
	slices.Sort(m.next.Contact.Tags)
	m.at = max(m.at, m.changedAt())
	m.next.Changes = append(m.next.Changes, canonical.Change{Field: tagsField, To: tag, Origin: m.seen.System, At: micros(m.changedAt())})
}

// revive makes a tombstone live again whose record is there after all: its
// system had said that it was gone, and a later read shows it, or another. So
// does a contact that a system shows for the first time: whoever made it there
// did not delete it. One that we made is to go with the tombstone.
func (m *merger) revive() {
	primary, shown := m.old.Sync.Base[m.seen.System]
	appeared := !shown && m.next.Kind() == canonical.KindContact && m.seen.Via != observation.Writeback && m.seen.Shown.Ref != m.old.ID()
	if m.old.Deleted() && (m.base.Gone || primary.Gone && !m.other || appeared) {
		m.setDeleted(false)
	}
}

// parent hangs an item on the contact that its record hangs on, the first time
// that one is known, and when the record has been moved.
func (m *merger) parent() {
	if m.next.Kind() == canonical.KindContact || m.seen.Contact == "" {
		return
	}
	if m.old.ContactID() == "" || m.known && m.base.Parent != m.newBase.Parent {
		m.hang()
	}
}

func (m *merger) hang() {
	from := m.old.ContactID()
	if from == m.seen.Contact {
		return
	}
	m.next.SetContactID(m.seen.Contact)
	m.next.Changes = append(m.next.Changes, canonical.Change{Field: contactField, From: string(from), To: string(m.seen.Contact),
		Origin: m.seen.System, At: micros(m.changedAt())})
	m.dirty = true
}

// relink hears that the contact which a record hangs on has become known, has
// got a record at another system, or is another one. It is an event even if
// nothing changes, for those who wait for it.
func (m *merger) relink() (canonical.Event, Outcome) {
	hangs := m.known && m.base.Parent == m.seen.Shown.Parent
	if m.seen.System == canonical.Rule { // which made it, and hung it on the contact itself
		hangs = m.old.ContactID() == canonical.CanonicalID(m.seen.Shown.Parent)
	}
	if m.old.Version == 0 || m.seen.At.Seq <= m.old.Cause.Sequence || !hangs {
		return m.old, Outcome{}
	}
	m.next.Changes = nil
	m.hang()
	m.adopted()
	return m.publish()
}

// adopted forgets the records of an item that went with the contact's, so that
// they are made again where the contact has another by now.
func (m *merger) adopted() {
	for system, base := range m.old.Sync.Base {
		if !base.Gone || !base.Orphaned || m.old.Deleted() {
			continue
		}
		m.setOtherOf(system, base)
		m.next.Sync.Base = cloneMap(m.next.Sync.Base)
		delete(m.next.Sync.Base, system)
	}
}

// wake is an event although nothing changes, so that the sinks look again.
func (m *merger) wake() (canonical.Event, Outcome) {
	if m.old.Version == 0 || m.seen.At.Seq <= m.old.Cause.Sequence {
		return m.old, Outcome{}
	}
	m.next.Changes = nil
	return m.publish()
}

// keep makes a tombstone live again that a record is left of: it is then what
// it would be if its delete had been to unlink.
func (m *merger) keep() (canonical.Event, Outcome) {
	if !m.old.Deleted() || len(m.old.Links) == 0 || m.seen.At.Seq <= m.old.Cause.Sequence {
		return m.old, Outcome{}
	}
	m.next.Changes = nil
	m.setDeleted(false)
	return m.publish()
}
