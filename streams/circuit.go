package streams

import (
	"time"

	"github.com/causeway-sync/causeway/schemas/canonical"
)

// Circuit says that a stage doesn't call a tenant's system at the moment. It is
// the value of [CircuitKey] in BUDGETS; there is none while all is well.
type Circuit struct {
	State  string    `json:"state"` // open, or half-open while a call is let through to see
	Cause  string    `json:"cause"` // away: the system fails; refused: it refuses our credentials
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
	// At is when it was last said; a stage says it again and again.
	At time.Time `json:"at"`
}

// CircuitKey returns the key in BUDGETS of a stage's circuit.
func CircuitKey(system canonical.System, tenant canonical.Tenant, stage string) string {
	return "circuit." + string(tenant) + "." + string(system) + "." + stage
}
