// Package observation is what RAW holds: notices ("something about record X
// may have changed") and observations ("system S showed record X, whole, as
// follows"). It does no I/O.
//
// The system's own bytes are kept as they came: [Observation.Encode] splices
// them in and [Decode] hands them out, never re-encoded.
package observation

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/schemas/canonical"
)

// Via says how something came to be seen. The zero value is unknown.
type Via string

// The ways. Only Notice is a hint; the others show a record whole.
const (
	Notice    Via = "notice"
	Fetch     Via = "fetch"
	Poll      Via = "poll"
	Backfill  Via = "backfill"
	Reconcile Via = "reconcile"
	Writeback Via = "writeback"
	// FromRule shows nothing: a rule asks for Wrote, as values of a new task or
	// note of Contact, or as tags of the contact Entity.
	FromRule Via = "rule"
	// Intent shows nothing: the sink is about to write Wrote. It comes before
	// the call, so that whoever sees the written values before their writeback
	// arrives doesn't take them for a user's change.
	Intent Via = "intent"
	// Relink shows nothing: the contact that a record hangs on has become
	// known, or another one.
	Relink Via = "relink"
	// Unmerge shows nothing: a person says that Entity, which was merged into
	// another, is not that other.
	Unmerge Via = "unmerge"
	// Wake shows nothing: an entity is to be looked at again, because what
	// stood in its way is gone. It changes nothing but the version.
	Wake Via = "wake"
	// Keep shows nothing: a person has decided that what is left of a deleted
	// entity's records stays, so that it is deleted no more.
	Keep Via = "keep"
)

// Shows reports whether an observation of v shows a record, or its absence.
func (v Via) Shows() bool {
	return v != Notice && v != FromRule && v != Intent && v != Relink && v != Unmerge && v != Wake && v != Keep
}

// The endpoints that records come from. An endpoint decides which fields a
// record covers.
const (
	GHLContactGet    = "ghl.contact.get"    // also the answers to create and update
	GHLContactSearch = "ghl.contact.search" // no dndSettings, and behind by the index lag
	GHLContactTags   = "ghl.contact.tags"   // {"tags": […]} and nothing else
	NoviMemberGet    = "novi.member.get"
	NoviMemberList   = "novi.member.list" // Groups may be null

	GHLTaskGet        = "ghl.task.get"    // also the answers to create, update and complete
	GHLTaskSearch     = "ghl.task.search" // a location's tasks
	GHLNoteGet        = "ghl.note.get"    // also a contact's notes, and the answers to create and update
	GHLAppointmentGet = "ghl.appointment.get"
	NoviActivityGet   = "novi.activity.get"
	NoviActivityList  = "novi.activity.list"
)

// ReplayOf is the header of a message of RAW that is there for a second time,
// so that it is read again. It has the sequence of the first: what it shows is
// as old as that. (On one that shows nothing it says only that it is part
// of a replay.)
const ReplayOf = "Causeway-Replay-Of"

// Count is the header of a message of RAW that says who has published it and
// which number it has among that publisher's messages about the same system,
// tenant and kind: <publisher>.<number>. A number is used once, for a copy too.
const Count = "Causeway-Count"

// Observation is the body of a RAW message. A notice has neither ReadBegan
// nor Endpoint; its Record is the webhook's body. An intent has no Record.
type Observation struct {
	System     canonical.System     `json:"system"`
	Tenant     canonical.Tenant     `json:"tenant"`
	Kind       canonical.Kind       `json:"kind"`
	ExternalID canonical.ExternalID `json:"external_id"`
	Via        Via                  `json:"via"`
	Endpoint   string               `json:"endpoint,omitempty"`
	// ReadBegan is when the read that showed the record began; for a page of
	// a lagging index it is that much earlier.
	ReadBegan time.Time `json:"read_began,omitzero"`
	// Modified is the record's own modified time, if it has one.
	Modified time.Time `json:"modified,omitzero"`
	// Absent says that the system answered that there is no such record.
	Absent bool `json:"absent,omitempty"`
	// ParentGone says of an absent item that the contact it hung on is not
	// there either: it was not deleted by itself.
	ParentGone bool `json:"parent_gone,omitempty"`
	// Parent is the record, at the same system, that this one hangs on: of a
	// task, a note or an appointment its contact. An intent to create has it
	// too, a relink the record whose contact became known.
	Parent canonical.ExternalID `json:"parent,omitempty"`
	// Contact is a relink's: the entity that Parent belongs to; or a rule's: the
	// one that the new record hangs on.
	Contact canonical.CanonicalID `json:"contact,omitempty"`
	// Creates says, of an intent, that a record is about to be made; of the
	// writeback of an absence, that it was made, and somebody else took it away
	// before anybody had read it.
	Creates bool `json:"creates,omitempty"`
	// Target is the record that an intent is about; "" if it is yet to be made.
	Target canonical.ExternalID `json:"target,omitempty"`
	// Reason is a person's, for an unmerge.
	Reason string `json:"reason,omitempty"`
	// Firing is a rule's.
	Firing *canonical.Firing `json:"firing,omitempty"`
	// Names gives the keys of the ids that the record uses for its custom
	// fields, so that a replay needs no look-up.
	Names map[string]string `json:"names,omitempty"`
	// Entity is the entity that a writeback was written for, or that an intent,
	// a relink, an unmerge, a wake, a keep or a rule is about.
	Entity canonical.CanonicalID `json:"entity,omitempty"`
	// Wrote holds, for a writeback, the canonical values that were written,
	// for an intent those that are about to be, for a rule those that it asks
	// for; tags as canonical.TagField has them.
	Wrote map[string]string `json:"wrote,omitempty"`
	// Atomic says, of a writeback, that the record is the answer to the write
	// itself, so that nobody can have come between.
	Atomic bool `json:"atomic,omitempty"`
	// Restored says that the system was restored from a backup: what it shows is
	// no user's change, and is brought forward to the canonical record.
	Restored bool `json:"restored,omitempty"`
	// Record is the system's own JSON, byte for byte. Empty when Absent.
	Record json.RawMessage `json:"record,omitempty"`
}

// Encode returns o as JSON with Record spliced in untouched. Record must be
// valid JSON or empty.
func (o Observation) Encode() ([]byte, error) {
	record := bytes.TrimSpace(o.Record)
	o.Record = nil
	head, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("encode observation of %s %s: %w", o.System, o.Kind, err)
	}
	if len(record) == 0 {
		return head, nil
	}
	out := make([]byte, 0, len(head)+len(record)+len(`,"record":`))
	out = append(out, head[:len(head)-1]...)
	out = append(out, `,"record":`...)
	out = append(out, record...)
	return append(out, '}'), nil
}

// Decode reads an observation and checks that it names what it saw. The
// returned Record shares no memory with data.
func Decode(data []byte) (Observation, error) {
	var o Observation
	if err := json.Unmarshal(data, &o); err != nil {
		return Observation{}, fmt.Errorf("decode observation: %w", err)
	}
	switch {
	case o.System == "", o.Kind == "", o.Via == "", o.ExternalID == "":
		return Observation{}, fmt.Errorf("decode observation: system, kind, via or external_id is missing")
	case !canonical.ValidTenant(o.Tenant):
		return Observation{}, fmt.Errorf("decode observation: tenant %q is not a slug", o.Tenant)
	case o.Via.Shows() && !o.Absent && len(o.Record) == 0:
		return Observation{}, fmt.Errorf("decode observation: record is missing and it is not absent")
	}
	return o, nil
}

// Key is the idempotency key of the observation: the same sight of the same
// record gives the same key, whoever saw it.
func (o Observation) Key() string {
	h := sha256.New()
	fmt.Fprintf(h, "%s\x00%s\x00%s\x00%s\x00%s\x00%s\x00%t\x00%d\x00", o.System, o.Tenant, o.Kind, o.ExternalID, o.Via, o.Endpoint, o.Absent, o.ReadBegan.UnixMicro())
	h.Write(o.Record)
	return hex.EncodeToString(h.Sum(nil)[:16])
}
