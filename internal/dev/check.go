package dev

import (
	"context"
	"fmt"
	"time"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/check"
	"github.com/causeway-sync/causeway/internal/config"
	"github.com/causeway-sync/causeway/internal/ghlsim"
	"github.com/causeway-sync/causeway/internal/novisim"
	"github.com/causeway-sync/causeway/schemas/canonical"
)

// calls returns what the two ledgers say was done through the APIs. What goes
// with its contact is no call of its own.
func (w *World) calls() []check.Call {
	out := []check.Call{}
	gone := map[string]time.Time{}
	for _, e := range w.GHL.Ledger() {
		if e.Op == ghlsim.OpDelete && e.Kind == ghlsim.KindContact {
			gone[e.RecordID] = e.At
		}
	}
	for _, e := range w.GHL.Ledger() {
		with := e.Op == ghlsim.OpDelete && e.Kind != ghlsim.KindContact && gone[e.ContactID].Equal(e.At)
		if e.Actor == ghlsim.ActorAPI && !with {
			out = append(out, check.Call{System: canonical.GHL, Record: canonical.ExternalID(e.RecordID), Create: e.Op == ghlsim.OpCreate, At: e.At})
		}
	}
	for _, e := range w.Novi.Ledger() {
		if e.Actor == novisim.ActorAPI && e.Op != novisim.OpGroup {
			out = append(out, check.Call{System: canonical.Novi, Record: canonical.ExternalID(e.RecordID), Create: e.Op == novisim.OpCreate, At: e.At})
		}
	}
	return out
}

// Check checks the streams against the invariants, and against what both
// systems' ledgers say. It was to be quiet since then, if that is not zero.
func (w *World) Check(ctx context.Context, c *bus.Conn, quiet time.Time) (check.Report, error) {
	file, err := config.Load(w.ConfigPath)
	if err != nil {
		return check.Report{}, err
	}
	r, err := check.Run(ctx, check.Config{Source: c, Tenants: check.Tenants(file), Calls: w.calls(), Quiet: quiet, Skew: time.Millisecond})
	if err != nil {
		return check.Report{}, fmt.Errorf("check the streams: %w", err)
	}
	return r, nil
}
