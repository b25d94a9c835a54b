package canonical

import (
	"time"

	"github.com/goccy/go-json"
)

// Event is what a message under canonical.contact.…, canonical.task.…,
// canonical.note.… and canonical.appointment.… carries: the whole new state of
// one record, of which exactly one kind is set, and what this transition
// changed. The last one under an entity's subjects is the entity's state.
//
// Its type is causeway.<kind>.<op>.v1.
type Event struct {
	Version     uint64                  `json:"version"` // 1 for the first, one more for each that follows
	Contact     Contact                 `json:"contact,omitzero"`
	Task        *Task                   `json:"task,omitempty"`
	Note        *Note                   `json:"note,omitempty"`
	Appointment *Appointment            `json:"appointment,omitempty"`
	Changes     []Change                `json:"changes"` // what differs from the version before; empty for op observed, but for conflicts
	Links       map[System][]ExternalID `json:"links"`   // the records that show this entity
	// MergedInto is set on the last event of an entity, op merged, that turned
	// out to be another one: what was said of it is now said of that one. It is
	// empty again if the two were taken apart (see causeway unmerge).
	MergedInto CanonicalID `json:"merged_into,omitempty"`
	Cause      Cause       `json:"cause"`
	Sync       Sync        `json:"sync"` // the transform's own: subscribers must not read it
}

// NewEvent returns the state of an entity that nothing is known of yet.
func NewEvent(kind Kind, id CanonicalID) Event {
	switch kind {
	case KindTask:
		return Event{Task: &Task{ID: id}}
	case KindNote:
		return Event{Note: &Note{ID: id}}
	case KindAppointment:
		return Event{Appointment: &Appointment{ID: id}}
	}
	return Event{Contact: Contact{ID: id}}
}

// Kind returns the kind of the record.
func (e *Event) Kind() Kind {
	switch {
	case e.Task != nil:
		return KindTask
	case e.Note != nil:
		return KindNote
	case e.Appointment != nil:
		return KindAppointment
	}
	return KindContact
}

// ID returns the entity's id.
func (e *Event) ID() CanonicalID {
	switch {
	case e.Task != nil:
		return e.Task.ID
	case e.Note != nil:
		return e.Note.ID
	case e.Appointment != nil:
		return e.Appointment.ID
	}
	return e.Contact.ID
}

// ContactID returns the contact that a task, a note or an appointment hangs
// on; "" for a contact, and until the contact is known.
func (e *Event) ContactID() CanonicalID {
	switch {
	case e.Task != nil:
		return e.Task.ContactID
	case e.Note != nil:
		return e.Note.ContactID
	case e.Appointment != nil:
		return e.Appointment.ContactID
	}
	return ""
}

// SetContactID hangs the item on a contact. The record is replaced by a copy.
func (e *Event) SetContactID(id CanonicalID) {
	switch {
	case e.Task != nil:
		c := *e.Task
		c.ContactID, e.Task = id, &c
	case e.Note != nil:
		c := *e.Note
		c.ContactID, e.Note = id, &c
	case e.Appointment != nil:
		c := *e.Appointment
		c.ContactID, e.Appointment = id, &c
	}
}

// Deleted reports whether the entity is a tombstone.
func (e *Event) Deleted() bool {
	switch {
	case e.Task != nil:
		return e.Task.Deleted
	case e.Note != nil:
		return e.Note.Deleted
	case e.Appointment != nil:
		return e.Appointment.Deleted
	}
	return e.Contact.Deleted
}

// SetDeleted makes the entity a tombstone, or a live one again. The record is
// replaced by a copy.
func (e *Event) SetDeleted(deleted bool) {
	switch {
	case e.Task != nil:
		c := *e.Task
		c.Deleted, e.Task = deleted, &c
	case e.Note != nil:
		c := *e.Note
		c.Deleted, e.Note = deleted, &c
	case e.Appointment != nil:
		c := *e.Appointment
		c.Deleted, e.Appointment = deleted, &c
	default:
		e.Contact.Deleted = deleted
	}
}

// Field returns the named field of the record as text; see [Contact.Field].
func (e *Event) Field(name string) string {
	switch {
	case e.Task != nil:
		return get(taskFields, e.Task, name)
	case e.Note != nil:
		return get(noteFields, e.Note, name)
	case e.Appointment != nil && name == "summary":
		return e.Appointment.Summary()
	case e.Appointment != nil:
		return get(appointmentFields, e.Appointment, name)
	}
	return e.Contact.Field(name)
}

// SetField sets the named field from text and reports whether the kind has
// it. The record is replaced by a copy, so that an Event that was copied by
// assignment is not changed through its copy.
func (e *Event) SetField(name, value string) (known bool) {
	switch {
	case e.Task != nil:
		e.Task, known = set(taskFields, e.Task, name, value)
	case e.Note != nil:
		e.Note, known = set(noteFields, e.Note, name, value)
	case e.Appointment != nil:
		e.Appointment, known = set(appointmentFields, e.Appointment, name, value)
	default:
		known = e.Contact.SetField(name, value)
	}
	return known
}

// Change is one field that took another value, or a conflict that it won. A
// tag that was added is a change of field "tags" from "" to the tag, one that
// was removed a change from the tag to "".
type Change struct {
	Field  string    `json:"field"` // a field of the contact, or "tags"
	From   string    `json:"from"`
	To     string    `json:"to"`
	Origin System    `json:"origin"` // the system whose user made the change
	At     time.Time `json:"at"`
	// Conflict is set when two values competed for the field.
	Conflict *Conflict `json:"conflict,omitempty"`
}

// Conflict keeps the value that lost.
type Conflict struct {
	Lost   string `json:"lost"`
	Origin System `json:"origin"` // whose value lost
	Reason string `json:"reason"` // see the Reason constants; an open set
}

// Why a value lost.
const (
	ReasonNewer     = "newer"     // the other is newer
	ReasonAuthority = "authority" // the field is the other system's, or it is an opt-out
	ReasonSkew      = "skew"      // the two are too close in time for the clocks to tell
	ReasonLongest   = "longest"   // the other is longer
	// ReasonUnion: nothing is lost. Lost is the list that Origin's user gave, as
	// it was given; the other is in From, and To has the elements of both, but
	// for those that one side had taken out.
	ReasonUnion = "union"
	// ReasonFlip: the field changed to and fro too often and is held as it is.
	ReasonFlip = "flip"
	// ReasonMerged: the record that had it was merged into another at its system.
	ReasonMerged = "merged"
	// ReasonReading: the mapping reads the record in another way than before;
	// nobody changed it.
	ReasonReading = "reading"
)

// Cause says which RAW message led to the transition.
type Cause struct {
	Stream   string `json:"stream"`
	Sequence uint64 `json:"sequence"`
	Via      string `json:"via"`
	System   System `json:"system"`
	Reason   string `json:"reason,omitempty"` // what a person gave as the reason
	Replay   bool   `json:"replay,omitempty"` // the message was read again: what it shows is not new
	// Firing is the rule whose firing it was, via rule.
	Firing *Firing `json:"firing,omitempty"`
}

// Firing is a rule that fired, and what made it.
type Firing struct {
	Rule string `json:"rule"`
	// Key is the same however often the firing is derived.
	Key string `json:"key"`
	// Kind, Entity and Version say which event made it fire, and Sequence where
	// that is in CANONICAL.
	Kind     Kind        `json:"kind"`
	Entity   CanonicalID `json:"entity"`
	Version  uint64      `json:"version"`
	Sequence uint64      `json:"sequence"`
	// Seen is the RAW sequence that had led to that event: the rule has not seen
	// what came after it.
	Seen uint64 `json:"seen"`
	// Date is the one that the rule waited for, if it was one.
	Date string `json:"date,omitempty"`
	// Chain are the rules that led to one another, this one last.
	Chain []string `json:"chain"`
	// Outside says that something is to be done that no record shows.
	Outside bool `json:"outside,omitempty"`
}

// TagEvent says that a contact gained or lost a tag. It is derived from the
// contact's events; its id is that of the contact's version and the tag, so
// that it is the same however often it is derived.
//
// Its type is causeway.tag.added.v1 or causeway.tag.removed.v1.
type TagEvent struct {
	Tag            string      `json:"tag"`
	ContactID      CanonicalID `json:"contact_id"`
	ContactVersion uint64      `json:"contact_version"`
	Origin         System      `json:"origin"`
	At             time.Time   `json:"at"`
}

// Sync is what the transform keeps beside a contact to tell a user's change
// from an echo. It may change without notice.
type Sync struct {
	Stamps   map[string]Stamp                `json:"stamps,omitempty"`   // by field
	Tags     map[string]TagStamp             `json:"tags,omitempty"`     // by tag, the removed ones too
	Base     map[System]Base                 `json:"base,omitempty"`     // what each system is last known to show
	Rendered map[System]map[string]Rendering `json:"rendered,omitempty"` // by system and field
	Writing  map[System]Writing              `json:"writing,omitempty"`
	// Linked are the systems that this transition linked: what hangs on the
	// contact may be waiting for it.
	Linked []System        `json:"linked,omitempty"`
	Flips  map[string]Flip `json:"flips,omitempty"` // by field, tags as in TagField; only what changed lately
	// Born is the RAW sequence of the first sight: the lower, the older.
	Born uint64 `json:"born,omitempty"`
	// Others are the records of a system beside the one in Base, which is the
	// primary: the one that is written. Those that are gone are here too.
	Others map[System]map[ExternalID]Base `json:"others,omitempty"`
	// Folded are the entities that were folded into this one, in that order,
	// and Later what people have made of fields since the first of them was, by
	// record and field (tags as in TagField): taking them apart again needs it.
	Folded []Folded                                  `json:"folded,omitempty"`
	Later  map[System]map[ExternalID]map[string]Edit `json:"later,omitempty"`
	// Apart are entities that a person has said are not this one.
	Apart []CanonicalID `json:"apart,omitempty"`
	// Joined says that this transition folded an entity into this one: what it
	// brought along is no news.
	Joined bool `json:"joined,omitempty"`
}

// Folded is an entity that was folded into another, and what that other was
// before.
type Folded struct {
	ID      CanonicalID         `json:"id"`
	Version uint64              `json:"v"`                // of the one that was folded in, before it says merged
	Contact Contact             `json:"contact,omitzero"` // of a contact
	Stamps  map[string]Stamp    `json:"stamps,omitempty"`
	Tags    map[string]TagStamp `json:"tags,omitempty"`
}

// Edit is the last value that people gave a field at one record.
type Edit struct {
	Stamp
	Value string `json:"x,omitempty"`
}

// Record returns what a record is last known to show, whether it is the
// primary one of its system or another.
func (e *Event) Record(system System, id ExternalID) (Base, bool) {
	if b, ok := e.Sync.Base[system]; ok && b.External == id {
		return b, true
	}
	b, ok := e.Sync.Others[system][id]
	return b, ok
}

// Held reports whether field (a tag as in [TagField]) flips between values and
// is held as it is: what the systems show of it is left alone.
func (s Sync) Held(field string) bool { return s.Flips[field].Held != 0 }

// Flip is what is remembered of a field that changed lately, to notice when it
// goes to and fro.
type Flip struct {
	Left []Left `json:"left,omitempty"` // oldest first
	Held int64  `json:"held,omitempty"` // when somebody last touched it since it is held, as Read.AsOf; 0 if it isn't
}

// Left is a value that a field had, and when it was left.
type Left struct {
	Value uint64 `json:"v"`           // a hash of it
	At    int64  `json:"t"`           // as Read.AsOf
	Back  bool   `json:"b,omitempty"` // it was left for a value that the field had left before
}

// Writing is what the sink is about to write to a system, until the writeback
// has said what came of it.
type Writing struct {
	Seq    uint64            `json:"q"`                // of the intent that said so
	Fields map[string]string `json:"fields,omitempty"` // tags as in TagField
	// Creates says that it is a record that is being made, of an item under
	// Parent.
	Creates bool       `json:"c,omitempty"`
	Parent  ExternalID `json:"p,omitempty"`
}

// TagField names a tag among the fields of a Writing: its value is "true" if
// the tag is being added, "" if it is being removed.
func TagField(tag string) string { return "tag:" + tag }

// Stamp says when a field took its value, and where.
type Stamp struct {
	At     int64  `json:"t"` // microseconds since 1970 in the time of the system that changed it
	Seq    uint64 `json:"q"` // the RAW sequence that showed it
	Origin System `json:"o,omitempty"`
}

// Newer reports whether s is later than t: by time, then by RAW sequence.
func (s Stamp) Newer(t Stamp) bool {
	if s.At != t.At {
		return s.At > t.At
	}
	return s.Seq > t.Seq
}

// TagStamp is one element of the tags, which are a last-writer-wins set.
type TagStamp struct {
	Stamp
	Present bool `json:"p,omitempty"`
}

// Read says which state of a record an observation showed.
type Read struct {
	Modified int64  `json:"m,omitempty"` // the record's own modified time in microseconds, or 0
	AsOf     int64  `json:"r"`           // our time when the read began, in microseconds
	Seq      uint64 `json:"q"`
}

// Newer reports whether r shows a later state than o. The record's own time
// decides where both have one; a record can change without it, so equal times
// leave it to when the read began.
func (r Read) Newer(o Read) bool {
	if r.Modified != o.Modified && r.Modified != 0 && o.Modified != 0 {
		return r.Modified > o.Modified
	}
	if r.AsOf != o.AsOf {
		return r.AsOf > o.AsOf
	}
	return r.Seq > o.Seq
}

// Base is what a system is last known to show of an entity, in canonical
// terms. A field that no observation has covered is not in Fields; one that
// is shown empty is there, empty.
type Base struct {
	External ExternalID        `json:"id"`
	At       Read              `json:"at"`
	FieldAt  map[string]Read   `json:"field_at,omitempty"` // where a field was last shown earlier than At
	Fields   map[string]string `json:"fields"`
	Tags     []string          `json:"tags,omitempty"`     // sorted
	Tagged   bool              `json:"tagged,omitempty"`   // an observation has covered the tags
	Grouped  bool              `json:"grouped,omitempty"`  // an observation has covered the tags that come from groups
	Gone     bool              `json:"gone,omitempty"`     // the system says that the record is not there
	Inactive bool              `json:"inactive,omitempty"` // it is what Novi keeps of somebody who was removed
	Removed  bool              `json:"removed,omitempty"`  // we took it away, because the person had another
	Orphaned bool              `json:"orphaned,omitempty"` // it is an item's, and went with the record that it hung on
	Also     []string          `json:"also,omitempty"`     // further addresses that the system knows the person by
	Writing  *Writing          `json:"writing,omitempty"`  // of a record in Others; of a primary one see Sync.Writing
	Parent   ExternalID        `json:"parent,omitempty"`   // the record that it hangs on there
	Reading  string            `json:"reading,omitempty"`  // how the mapping read tags and Fields, a word of ReadingLen letters each; see Reread
}

// Rendering is how a system shows a value that we wrote.
type Rendering struct {
	Shown string `json:"shown"`
	Value string `json:"value"`
}

// DecodeEvent reads the data of an event of any kind but tag. Unknown keys are
// ignored, as the schema's promise asks of every reader.
func DecodeEvent(data []byte) (Event, error) {
	var e Event
	err := json.Unmarshal(data, &e)
	return e, err
}
