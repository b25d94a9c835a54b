// Package streams is the topology as data: the streams, the durable
// consumers and the key-value buckets, each choice with its reason, and what
// it takes to bring a server there.
package streams

import (
	"time"

	"github.com/causeway-sync/causeway/schemas/canonical"
)

// The streams.
const (
	RAW       = "RAW"
	CANONICAL = "CANONICAL"
	EFFECTS   = "EFFECTS"
	DEAD      = "DEAD"
	AUDIT     = "AUDIT"
	GAPS      = "GAPS"
)

// The key-value buckets.
const (
	IDENTITY = "IDENTITY"
	CURSORS  = "CURSORS"
	TOKENS   = "TOKENS"
	BUDGETS  = "BUDGETS"
	TENANTS  = "TENANTS"
	HOLDS    = "HOLDS"
	COUNTS   = "COUNTS"
)

// PinnedGroup is the name of the one priority group of a pinned consumer.
const PinnedGroup = "one"

// Consumer is a durable consumer as data.
type Consumer struct {
	Stream  string
	Durable string
	// Filters are the subjects that it is handed; never empty.
	Filters []string
	// Pinned says that of all attached instances the server lets one work.
	Pinned bool
	// New says that it begins with what is stored after it was made.
	New bool
}

// Transform is the durable consumer that all transform instances share. It is
// handed everything, the notices too, which it only acks: for a list of
// filters the server may look through all subjects of a block of the stream
// for each message that it hands out, which with records that change often
// costs many times what all else does.
func Transform() Consumer {
	return Consumer{Stream: RAW, Durable: "transform", Filters: []string{"raw.>"}}
}

// Hydrate is a tenant's durable consumer on RAW notices.
func Hydrate(tenant canonical.Tenant) Consumer {
	return Consumer{Stream: RAW, Durable: "hydrate-" + string(tenant), Pinned: true,
		Filters: []string{"raw.*." + Token(string(tenant)) + ".*.*.notice"}}
}

// Sink is a tenant's durable consumer on CANONICAL for one destination, so
// that a tenant's lag, pause and rate are its own: everything but tags, which
// are written with their contact.
func Sink(system canonical.System, tenant canonical.Tenant) Consumer {
	c := Consumer{Stream: CANONICAL, Durable: "sink-" + string(system) + "-" + string(tenant), Pinned: true}
	for _, kind := range []canonical.Kind{canonical.KindContact, canonical.KindTask, canonical.KindNote, canonical.KindAppointment} {
		c.Filters = append(c.Filters, "canonical."+string(kind)+"."+Token(string(tenant))+".*.*")
	}
	return c
}

// RawOfTenant returns the filter for all that was seen of a tenant.
func RawOfTenant(tenant canonical.Tenant) string { return "raw.*." + Token(string(tenant)) + ".>" }

// Notices returns the filter for the webhooks of a system and a tenant.
func Notices(system canonical.System, tenant canonical.Tenant) string {
	return "raw." + Token(string(system)) + "." + Token(string(tenant)) + ".*.*.notice"
}

// Contacts returns the filter for a tenant's contact events; "" is every
// tenant's.
func Contacts(tenant canonical.Tenant) string {
	if tenant == "" {
		return "canonical.contact.>"
	}
	return "canonical.contact." + Token(string(tenant)) + ".>"
}

// EntitiesOf returns the filter for the events of a tenant's entities of kind.
func EntitiesOf(kind canonical.Kind, tenant canonical.Tenant) string {
	return subject("canonical", string(kind), string(tenant)) + ".>"
}

// Entities returns the filter for a tenant's events of all kinds, tags too; ""
// is every tenant's.
func Entities(tenant canonical.Tenant) string {
	if tenant == "" {
		return "canonical.>"
	}
	return "canonical.*." + Token(string(tenant)) + ".>"
}

// Events returns the filter for a tenant's events with op, of entities of all
// kinds.
func Events(tenant canonical.Tenant, op canonical.Op) string {
	return "canonical.*." + Token(string(tenant)) + ".*." + Token(string(op))
}

// HeldKey returns the key in HOLDS of a record whose delete is held. That of
// the tenant's hold itself is its name.
func HeldKey(tenant canonical.Tenant, system canonical.System, kind canonical.Kind, id canonical.CanonicalID, external canonical.ExternalID) string {
	return subject(string(tenant), string(system), string(kind), string(id), string(external))
}

// HeldKeys returns the pattern of the keys of all records of a tenant whose
// delete is held, and HeldOf that of an entity's at a system.
func HeldKeys(tenant canonical.Tenant) string { return Token(string(tenant)) + ".*.*.*.*" }

// HeldOf is explained at [HeldKeys].
func HeldOf(tenant canonical.Tenant, system canonical.System, kind canonical.Kind, id canonical.CanonicalID) string {
	return subject(string(tenant), string(system), string(kind), string(id)) + ".*"
}

// Rules is the durable consumer that looks whether a tenant's rules fire. What
// happened before there were any doesn't make one fire.
func Rules(tenant canonical.Tenant) Consumer {
	return Consumer{Stream: CANONICAL, Durable: "rules-" + string(tenant), New: true, Filters: []string{Entities(tenant)}}
}

// RulesKey returns the key in CURSORS of what the transform remembers of a
// tenant's rules.
func RulesKey(tenant canonical.Tenant) string { return string(tenant) + ".rules" }

// Actions is the durable consumer that does what a tenant's rules ask for
// outside: the firings are events of contacts.
func Actions(tenant canonical.Tenant) Consumer {
	return Consumer{Stream: CANONICAL, Durable: "actions-" + string(tenant), Pinned: true, Filters: []string{Contacts(tenant)}}
}

// Children is the durable consumer that tells what hangs on a contact that the
// contact has been linked.
func Children() Consumer {
	return Consumer{Stream: CANONICAL, Durable: "children", Filters: []string{Contacts("")}}
}

// Walk is what a walk's progress in CURSORS tells the other stages.
type Walk struct {
	Backfilled bool `json:"backfilled"` // everything has been read once
	// Last is the RAW sequence of the last record that the backfill showed.
	Last uint64 `json:"last,omitempty"`
	// Shown is how many records the backfill has passed, and Total how many there
	// are, if the system says so. Rate is how many it passed in a second lately,
	// as of At.
	Shown int       `json:"shown,omitempty"`
	Total int       `json:"total,omitempty"`
	Rate  float64   `json:"rate,omitempty"`
	At    time.Time `json:"at,omitzero"`
}

// Left estimates how long a backfill will take from At on; 0 if that can't be
// said.
func (w Walk) Left() time.Duration {
	if w.Backfilled || w.Rate <= 0 || w.Total <= w.Shown {
		return 0
	}
	return time.Duration(float64(w.Total-w.Shown) / w.Rate * float64(time.Second))
}

// WalkKey returns the key in CURSORS of a tenant's walk through a system.
func WalkKey(system canonical.System, tenant canonical.Tenant, kind canonical.Kind) string {
	return SweepKey(system, tenant, string(kind))
}

// The sweeps through a system's items. Those of the done tasks and of all
// activities come round less often.
const (
	SweepTasks          = "task-open"
	SweepDoneTasks      = "task-completed"
	SweepNotes          = "note"
	SweepAppointments   = "appointment"
	SweepActivityWindow = "activity-window"
	SweepActivities     = "activity"
)

// SweepsOf returns the sweeps that together show all of a system's items of a
// kind.
func SweepsOf(system canonical.System, kind canonical.Kind) []string {
	switch {
	case system == canonical.Novi:
		return []string{SweepActivities}
	case kind == canonical.KindTask:
		return []string{SweepTasks, SweepDoneTasks}
	case kind == canonical.KindNote:
		return []string{SweepNotes}
	}
	return []string{SweepAppointments}
}

// SweepKey returns the key in CURSORS of a tenant's sweep through a system,
// which holds a [Walk]: Backfilled says that it has gone through everything
// once, and Last is the last that it showed of that.
func SweepKey(system canonical.System, tenant canonical.Tenant, sweep string) string {
	return string(tenant) + "." + string(system) + "." + sweep
}

// Tags is the durable consumer that derives tag events from contact events.
func Tags() Consumer {
	return Consumer{Stream: CANONICAL, Durable: "tags", Filters: []string{Contacts("")}}
}
