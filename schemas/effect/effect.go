// Package effect is what EFFECTS holds: the sink's record of what it did to
// one entity at one destination. The last message is the record; the ones
// before it are its history. It does no I/O.
package effect

import (
	"time"

	"github.com/causeway-sync/causeway/schemas/canonical"
)

// State is how far a write has come. The zero value is unknown.
type State string

// The states. After Intent the call may or may not have reached the system;
// Done and Failed say how it ended; Ambiguous says that nobody knows, and
// that the record must be looked up before anything else is written.
const (
	Intent    State = "intent"
	Done      State = "done"
	Failed    State = "failed"
	Ambiguous State = "ambiguous"
)

// Effect is the body of a message under effects.<system>.<tenant>.<kind>.<id>.
// Its type is causeway.effect.v1.
type Effect struct {
	System   canonical.System      `json:"system"`
	Tenant   canonical.Tenant      `json:"tenant"`
	Kind     canonical.Kind        `json:"kind"`
	ID       canonical.CanonicalID `json:"id"`
	State    State                 `json:"state"`
	Version  uint64                `json:"version"` // of the entity that was being written
	Attempt  int                   `json:"attempt"` // from 1, for this version
	Create   bool                  `json:"create,omitempty"`
	Delete   bool                  `json:"delete,omitempty"`
	External canonical.ExternalID  `json:"external_id,omitempty"`
	At       time.Time             `json:"at"`
	// Wrote holds the canonical values that the write carries, by field.
	Wrote       map[string]string `json:"wrote,omitempty"`
	TagsAdded   []string          `json:"tags_added,omitempty"`
	TagsRemoved []string          `json:"tags_removed,omitempty"`
	// Writebacks are the RAW bodies that tell the transform what the system
	// answered; kept so that they can be published again after a crash.
	Writebacks [][]byte `json:"writebacks,omitempty"`
	// Refused is the HTTP status of a refusal for good; such a write is not
	// tried again while it would be the same.
	Refused int `json:"refused,omitempty"`
	// Action is what a rule's firing asks for outside: the firing's key and the
	// number of the action. Kind is then rule, and ID the contact.
	Action string `json:"action,omitempty"`
	// Reason says, redacted, why a write failed.
	Reason string `json:"reason,omitempty"`
}
