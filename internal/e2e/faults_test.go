//go:build campaign

package e2e_test

import (
	"flag"
	"testing"
	"time"

	"github.com/causeway-sync/causeway/internal/dev"
	"github.com/causeway-sync/causeway/internal/ghlsim"
	"github.com/causeway-sync/causeway/internal/novisim"
)

var seed = flag.Int64("seed", 7, "what the people's whims and the faults follow from")

// TestFaults: webhooks are dropped, doubled, late and out of order, and both
// APIs fail in every way that the simulators know.
func TestFaults(t *testing.T) {
	w := world(t, dev.Options{PollGHL: time.Second, PollNovi: time.Second, Seed: *seed, Items: true})
	// A 429 that no budget explains pauses a system's calls for 10 s.
	r, err := w.Run(t.Context(), dev.Play{Contacts: 30, Changes: 80, Pace: 20 * time.Millisecond, Settle: 15 * time.Second, Start: func() error {
		w.GHL.SetFaults(ghlsim.Faults{WebhookDrop: 0.2, WebhookDuplicate: 0.3, WebhookDelay: 0.3, WebhookDelayMax: time.Second,
			API429: 0.02, API5xx: 0.03, ResetAfterCommit: 0.03, CreatedBut422: 0.1})
		w.Novi.SetFaults(novisim.Faults{WebhookDrop: 0.2, WebhookDuplicate: 0.3, WebhookDelay: 0.3, WebhookDelayMax: time.Second,
			API429: 0.02, API5xx: 0.03, APIPage: 0.02, ResetAfterCommit: 0.03})
		here(t, w)
		return nil
	}})
	good(t, r, err)
}
