//go:build campaign

package e2e_test

import (
	"flag"
	"testing"
	"time"

	"github.com/causeway-sync/causeway/internal/dev"
)

var seed = flag.Int64("seed", 7, "what the people's whims and the faults follow from")

// TestFaults: webhooks are dropped, doubled, late and out of order, and both
// APIs fail in every way that the simulators know.
func TestFaults(t *testing.T) {
	w := world(t, dev.Options{PollGHL: time.Second, PollNovi: time.Second, Seed: *seed, Items: true, Faults: dev.AllFaults})
	r, err := w.Run(t.Context(), dev.Play{Contacts: 30, Changes: 80, Pace: 20 * time.Millisecond, Start: func() error { here(t, w); return nil }})
	good(t, r, err)
}
