package e2e_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/circuit"
	"github.com/causeway-sync/causeway/internal/dev"
	"github.com/causeway-sync/causeway/internal/ghlsim"
	"github.com/causeway-sync/causeway/internal/novisim"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/streams"
)

// TestASystemIsAway: while one system fails its sink begins no work, so that no
// delivery is burnt however long that lasts, and the other system is written
// to; when it answers again, it catches up.
func TestASystemIsAway(t *testing.T) {
	const people = 30
	tests := []struct {
		system canonical.System
		fail   func(w *dev.World, chance float64)
		asked  func(w *dev.World) int // calls of the system so far
	}{
		{canonical.GHL, func(w *dev.World, p float64) { w.GHL.SetFaults(ghlsim.Faults{API5xx: p}) },
			func(w *dev.World) int { s := w.GHL.Stats(); return s.Reads + s.Writes }},
		{canonical.Novi, func(w *dev.World, p float64) { w.Novi.SetFaults(novisim.Faults{API5xx: p}) },
			func(w *dev.World) int { s := w.Novi.Stats(); return s.Reads + s.Writes }},
	}
	for _, tt := range tests {
		t.Run(string(tt.system), func(t *testing.T) {
			t.Parallel()
			w := world(t, dev.Options{})
			here(t, w)
			c := connect(t, w)
			if err := w.Quiet(t.Context(), c, time.Second); err != nil {
				t.Fatal(err)
			}
			tt.fail(w, 1)
			add := func(system canonical.System, i int) error {
				name, email := fmt.Sprintf("Nr %d", i), fmt.Sprintf("ada.%d@example.org", i)
				var err error
				if system == canonical.GHL {
					_, err = w.GHL.Edit(ghlsim.Edit{Kind: ghlsim.EditCreate, LocationID: dev.Location, Fields: map[string]any{"firstName": "Ada", "lastName": name, "email": email}})
				} else {
					_, err = w.Novi.Edit(novisim.Edit{Fields: map[string]any{"FirstName": "Ada", "LastName": name, "Name": "Ada " + name, "Email": email}})
				}
				return err
			}
			for i := range people {
				if err := add(tt.system.Other(), i); err != nil {
					t.Fatal(err)
				}
			}
			stays := func() streams.Circuit { return open(t, c, tt.system, "sink") }
			bustest.Until(t, func() bool { return stays().Cause == circuit.Away })
			deliveries := func() uint64 {
				consumer, err := c.JetStream().Consumer(t.Context(), streams.CANONICAL, streams.Sink(tt.system, dev.Tenant).Durable)
				if err != nil {
					t.Fatal(err)
				}
				return consumer.CachedInfo().Delivered.Consumer
			}
			// Each call that is let through to see may cost a delivery; nothing else.
			before, calls := deliveries(), tt.asked(w)
			bustest.Until(t, func() bool {
				return tt.asked(w) >= calls+2 || !stays().Since.IsZero() && time.Since(stays().Since) > 12*time.Second
			})
			if got := deliveries() - before; got > people {
				t.Errorf("%d deliveries while it was away", got)
			}
			tt.fail(w, 0)
			bustest.Until(t, func() bool { return len(w.GHL.Dump(dev.Location)) == people && len(w.Novi.Dump()) == people })
			bustest.Until(t, func() bool { return stays().State == "" })
			if err := w.Quiet(t.Context(), c, time.Second); err != nil {
				t.Fatal(err)
			}
			if n, err := c.Subjects(t.Context(), streams.DEAD, "dead.>"); err != nil || n > 0 {
				t.Errorf("%d dead letters: %v", n, err)
			}
		})
	}
}

// open is what a stage says of a system's circuit, the zero value if it is
// closed.
func open(t *testing.T, c *bus.Conn, system canonical.System, stage string) (now streams.Circuit) {
	t.Helper()
	kv, err := c.Bucket(t.Context(), streams.BUDGETS)
	if err != nil {
		t.Fatal(err)
	}
	value, _, err := kv.Get(t.Context(), streams.CircuitKey(system, dev.Tenant, stage))
	if err != nil {
		return now // it says nothing
	}
	if err := json.Unmarshal(value, &now); err != nil {
		t.Fatal(err)
	}
	return now
}
