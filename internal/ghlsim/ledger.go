package ghlsim

import (
	"slices"
	"time"
)

// Who made a change.
const (
	ActorHuman = "human"
	ActorAPI   = "api"
)

// What a change was.
const (
	OpCreate = "create"
	OpUpdate = "update"
	OpDelete = "delete"
	OpTags   = "tags"
)

// What a record is.
const (
	KindContact     = "contact"
	KindTask        = "task"
	KindNote        = "note"
	KindAppointment = "appointment"
)

// FieldChange is one field before and after; nil means empty. A custom field
// is named "customFields." and its id.
type FieldChange struct {
	Field string `json:"field"`
	From  any    `json:"from"`
	To    any    `json:"to"`
}

// LedgerEntry is one committed change of a contact or of what belongs to one.
// An update without changes is a PUT that wrote what was there already, which
// still moves a contact's dateUpdated.
type LedgerEntry struct {
	// Seq starts at 1 and has no gaps.
	Seq int64     `json:"seq"`
	At  time.Time `json:"at"`
	// Actor is ActorHuman or ActorAPI, Op one of the Op constants. An update
	// may also change tags; OpTags changes nothing else.
	Actor      string `json:"actor"`
	Op         string `json:"op"`
	LocationID string `json:"locationId"`
	// Kind and RecordID say of what; ContactID is the contact itself, or the
	// one that the record belongs to after the change. A move to another
	// contact is also the change "contactId".
	Kind      string `json:"kind"`
	RecordID  string `json:"recordId"`
	ContactID string `json:"contactId"`
	// DateUpdated of the record after the change, epoch ms; of a deletion,
	// before it. The API does not show those of tasks and notes.
	DateUpdated int64 `json:"dateUpdated"`
	// Changes are sorted by field and cover what is stored: no computed
	// fields, no tags, no stamps.
	Changes     []FieldChange `json:"changes,omitempty"`
	TagsAdded   []string      `json:"tagsAdded,omitempty"`
	TagsRemoved []string      `json:"tagsRemoved,omitempty"`
}

// Ledger returns a copy of every committed change, oldest first, but for those
// that Config.LedgerMax made it forget.
func (s *Server) Ledger() []LedgerEntry { return s.LedgerAfter(0) }

// LedgerAfter returns the entries with a Seq above seq.
func (s *Server) LedgerAfter(seq int64) []LedgerEntry {
	s.mu.Lock()
	defer s.mu.Unlock()
	skip := 0
	if len(s.ledger) > 0 {
		skip = int(min(max(seq-s.ledger[0].Seq+1, 0), int64(len(s.ledger))))
	}
	out := slices.Clone(s.ledger[skip:])
	for i := range out {
		e := &out[i]
		e.Changes = slices.Clone(e.Changes)
		for j := range e.Changes {
			e.Changes[j].From = deepCopy(e.Changes[j].From)
			e.Changes[j].To = deepCopy(e.Changes[j].To)
		}
		e.TagsAdded = slices.Clone(e.TagsAdded)
		e.TagsRemoved = slices.Clone(e.TagsRemoved)
	}
	return out
}

// record appends an entry. The caller holds mu.
func (s *Server) record(e LedgerEntry) {
	s.seq++
	e.Seq = s.seq
	if len(s.ledger) >= s.conf.LedgerMax {
		half := (len(s.ledger) + 1) / 2
		s.ledger = slices.Clone(s.ledger[half:])
		s.stats.LedgerForgotten += int64(half)
	}
	s.ledger = append(s.ledger, e)
}
