package merge

import (
	"maps"
	"slices"
	"strings"

	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
)

// rule does what a rule's firing asks for: a task or a note is made, once, or
// the contact's tags change. No system has shown it, so it has no base and no
// link: the sinks see that both systems lack it. A firing that has something
// done outside is an event in any case, which tells the sink.
func (m *merger) rule() (canonical.Event, Outcome) {
	f := m.seen.Firing
	if f == nil || (m.old.Version == 0) != (m.next.Kind() != canonical.KindContact) {
		return m.old, Outcome{} // made already, or there is no such contact
	}
	m.next.Changes = nil
	m.next.Sync.Stamps = cloneMap(m.old.Sync.Stamps)
	if m.next.Kind() != canonical.KindContact {
		for _, field := range slices.Sorted(maps.Keys(m.seen.Wrote)) {
			m.win(field, m.seen.Wrote[field], "", "")
		}
		m.hang()
		return m.publish()
	}
	if !m.old.Deleted() {
		m.ruleTags(*f)
	}
	if len(m.next.Changes) == 0 && !f.Outside {
		return m.old, Outcome{}
	}
	return m.publish()
}

// ruleTags adds and removes the tags that a firing asks for, but for those that
// somebody has changed since the event that made it fire: that is newer.
func (m *merger) ruleTags(f canonical.Firing) {
	all := cloneMap(m.old.Sync.Tags)
	for _, field := range slices.Sorted(maps.Keys(m.seen.Wrote)) {
		tag, is := strings.CutPrefix(field, canonical.TagField(""))
		wanted := m.seen.Wrote[field]
		have := all[tag]
		if !is || have.Present == (wanted != "") || have.Seq > f.Seen {
			continue
		}
		if m.held(field, wanted, mapping.Newest) {
			m.loseTag(tag, wanted != "")
			continue
		}
		if have.Seq != 0 {
			m.left(field, map[bool]string{true: "true"}[have.Present], wanted)
		}
		m.edited(field, wanted)
		stamp := canonical.Stamp{At: max(m.changedAt(), have.At), Seq: m.seen.At.Seq, Origin: m.seen.System}
		all[tag] = canonical.TagStamp{Stamp: stamp, Present: wanted != ""}
		m.at = max(m.at, stamp.At)
		c := canonical.Change{Field: tagsField, To: tag, Origin: m.seen.System, At: micros(stamp.At)}
		if wanted == "" {
			c.From, c.To = tag, ""
		}
		m.next.Changes = append(m.next.Changes, c)
	}
	m.next.Sync.Tags = all
	m.next.Contact.Tags = present(all)
}
