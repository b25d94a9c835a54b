package merge

import (
	"github.com/causeway-sync/causeway/schemas/canonical"
)

// restored merges what a system shows that was restored from a backup. It is
// what the system shows from now on, however old the record says that it is;
// none of it is anybody's change, so no field of the canonical record takes
// another value, and the sink writes there what is canonical. A record that
// the backup doesn't have is unlinked so that it may be made again.
//
// Which sight is later is decided by when the reads began: the records' own
// times have gone back.
func (m *merger) restored() (canonical.Event, Outcome) {
	if at := m.base.At; m.known && (m.seen.At.AsOf < at.AsOf || m.seen.At.AsOf == at.AsOf && m.seen.At.Seq <= at.Seq) {
		return m.old, Outcome{}
	}
	m.next.Changes = nil
	if m.seen.Absent {
		return m.lost()
	}
	m.read()
	m.fields()
	m.tags()
	return m.finish()
}

// lost forgets a record that went with the restore. Where the system has another
// one of the same person it is as if it had been deleted, see [merger.absent].
func (m *merger) lost() (canonical.Event, Outcome) {
	if !m.known || m.base.Gone {
		return m.old, Outcome{}
	}
	if len(m.old.Links[m.seen.System]) > 1 || m.other {
		return m.absent()
	}
	m.setBase(canonical.Base{At: m.seen.At, Fields: map[string]string{}})
	m.next.Links = cloneMap(m.old.Links)
	delete(m.next.Links, m.seen.System)
	return m.publish()
}
