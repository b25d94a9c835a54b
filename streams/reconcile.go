package streams

import (
	"fmt"
	"time"

	"github.com/causeway-sync/causeway/schemas/canonical"
)

// Reconcile asks that everything which a system shows is compared with what is
// known of it, and says how far that has come. It is the value of
// [ReconcileKey] in CURSORS: whoever asks writes it, and the ingest that works
// on it keeps it up to date. It holds ids and names of fields, never a value.
type Reconcile struct {
	ID string `json:"id"` // of the request
	// Kinds to read; none means all that the system has.
	Kinds []canonical.Kind `json:"kinds,omitempty"`
	// Restored says that the system was restored from a backup: what it shows
	// is nobody's change, and is brought forward.
	Restored bool `json:"restored,omitempty"`
	// DryRun only reports.
	DryRun bool `json:"dry_run,omitempty"`
	// Max is how many differences may be repaired without a person's word; when
	// there are more, none is.
	Max int `json:"max"`
	// Scheduled says that nobody but the configuration has asked.
	Scheduled bool      `json:"scheduled,omitempty"`
	Asked     time.Time `json:"asked,omitzero"`
	// Stop asks that the work ends.
	Stop bool `json:"stop,omitempty"`

	State ReconcileState `json:"state,omitempty"`
	Began time.Time      `json:"began,omitzero"`
	Ended time.Time      `json:"ended,omitzero"`
	// Trouble is why it does not get on at the moment, or why it failed.
	Trouble string                   `json:"trouble,omitempty"`
	Drift   map[canonical.Kind]Drift `json:"drift,omitempty"`
	// Differences are the first of them.
	Differences []DriftedRecord `json:"differences,omitempty"`

	// Due is when another instance may take it over: the one at work says so
	// again and again.
	Due time.Time `json:"due,omitzero"`
	// Next is when the configuration asks for the next one.
	Next time.Time `json:"next,omitzero"`
}

// ReconcileState says how far a reconcile is. The zero value is that none was
// ever asked for.
type ReconcileState string

// The states.
const (
	ReconcileAsked   ReconcileState = "asked"
	ReconcileRunning ReconcileState = "running"
	ReconcileDone    ReconcileState = "done"
	ReconcileHeld    ReconcileState = "held" // more than Max differences: nothing was repaired
	ReconcileStopped ReconcileState = "stopped"
)

// Open reports whether there is work to do.
func (r Reconcile) Open() bool { return r.State == ReconcileAsked || r.State == ReconcileRunning }

// Drift counts the records of one kind.
type Drift struct {
	Total        int `json:"total,omitempty"` // that the system says it has, if it says so
	Read         int `json:"read"`            // that the system showed
	Same         int `json:"same"`
	Differing    int `json:"differing"`
	MissingHere  int `json:"missing_here"`  // the system has it, and we don't know it or hold it for gone
	MissingThere int `json:"missing_there"` // we know it, and the system says that it is gone
	Other        int `json:"other"`         // that are not kept, such as companies
	Repaired     int `json:"repaired"`      // differences that were published
	Unlooked     int `json:"unlooked"`      // that seem to differ and were not fetched, because there were too many
}

// Add counts n more of what.
func (d *Drift) Add(what DriftKind, n int) {
	switch what {
	case Differing:
		d.Differing += n
	case MissingHere:
		d.MissingHere += n
	case MissingThere:
		d.MissingThere += n
	}
}

// Found is how many differences there are.
func (d Drift) Found() int { return d.Differing + d.MissingHere + d.MissingThere }

// DriftKind says what differs.
type DriftKind string

// The kinds of differences.
const (
	Differing    DriftKind = "differing"
	MissingHere  DriftKind = "missing_here"
	MissingThere DriftKind = "missing_there"
)

// DriftedRecord is one record that differs.
type DriftedRecord struct {
	Kind   canonical.Kind        `json:"kind"`
	Record canonical.ExternalID  `json:"record"`
	Entity canonical.CanonicalID `json:"entity,omitempty"`
	What   DriftKind             `json:"what"`
	Fields []string              `json:"fields,omitempty"`
}

// ReconcileKey returns the key in CURSORS of a tenant's reconcile of a system.
func ReconcileKey(system canonical.System, tenant canonical.Tenant) string {
	return "reconcile." + string(tenant) + "." + string(system) // a walk's key begins with the tenant
}

// ReconcilePartKey returns the key in CURSORS of the nth page that a reconcile
// has read, until it ends; ReconcileParts matches those of all its pages.
func ReconcilePartKey(system canonical.System, tenant canonical.Tenant, n int) string {
	return fmt.Sprintf("%s.part.%07d", ReconcileKey(system, tenant), n)
}

// ReconcileParts is explained at [ReconcilePartKey].
func ReconcileParts(system canonical.System, tenant canonical.Tenant) string {
	return ReconcileKey(system, tenant) + ".part.*"
}
