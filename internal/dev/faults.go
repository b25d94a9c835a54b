package dev

import (
	"fmt"
	"time"

	"github.com/causeway-sync/causeway/internal/ghlsim"
	"github.com/causeway-sync/causeway/internal/novisim"
)

// Faults say how much goes wrong at both systems.
type Faults string

// The degrees of faults.
const (
	NoFaults      Faults = ""
	WebhookFaults Faults = "webhooks" // webhooks are dropped, doubled, late and out of order
	AllFaults     Faults = "all"      // and both APIs fail in every way that the simulators know
)

// ParseFaults returns the degree that is called name.
func ParseFaults(name string) (Faults, error) {
	switch f := Faults(name); f {
	case NoFaults, WebhookFaults, AllFaults:
		return f, nil
	}
	return NoFaults, fmt.Errorf("faults %q are not known, but %s and %s are", name, WebhookFaults, AllFaults)
}

// SetFaults changes how much goes wrong from now on.
func (w *World) SetFaults(f Faults) { w.setFaults(f) }

func (w *World) setFaults(f Faults) {
	var ghl ghlsim.Faults
	var novi novisim.Faults
	if f != NoFaults {
		// A late delivery is overtaken by those after it.
		ghl.WebhookDrop, ghl.WebhookDuplicate, ghl.WebhookDelay, ghl.WebhookDelayMax = 0.2, 0.3, 0.3, 2*time.Second
		novi.WebhookDrop, novi.WebhookDuplicate, novi.WebhookDelay, novi.WebhookDelayMax = 0.2, 0.3, 0.3, 2*time.Second
	}
	if f == AllFaults {
		ghl.API429, ghl.API5xx, ghl.ResetAfterCommit, ghl.CreatedBut422 = 0.02, 0.03, 0.03, 0.1
		novi.API429, novi.API5xx, novi.APIPage, novi.ResetAfterCommit = 0.02, 0.03, 0.02, 0.03
	}
	w.GHL.SetFaults(ghl)
	w.Novi.SetFaults(novi)
}
