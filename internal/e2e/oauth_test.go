package e2e_test

import (
	"testing"
	"time"

	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/dev"
	"github.com/causeway-sync/causeway/internal/ghlsim"
	"github.com/causeway-sync/causeway/internal/novisim"
)

// TestOAuth: a location that is reached through a marketplace app, from its
// installation to its end.
func TestOAuth(t *testing.T) {
	w := world(t, dev.Options{OAuth: true, PollGHL: time.Second, PollNovi: time.Second})
	w.GHL.SetLifetime(4 * time.Second)
	here(t, w)
	c := connect(t, w)
	state := func() (state string, generation int) {
		t.Helper()
		state, _, generation, err := w.Grant(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return state, generation
	}
	// travels adds a member with a first name, and waits until GHL has it.
	travels := func(name string) {
		t.Helper()
		if _, err := w.Novi.Edit(novisim.Edit{Fields: map[string]any{"Name": name + " Imhof", "FirstName": name, "LastName": "Imhof", "Email": name + "@example.org"}}); err != nil {
			t.Fatal(err)
		}
		bustest.Until(t, func() bool {
			for _, contact := range w.GHL.Dump(dev.Location) {
				if contact.Fields["firstName"] == name {
					return true
				}
			}
			return false
		})
	}

	if s, _ := state(); s != "" {
		t.Fatalf("before the installation: %q", s)
	}
	if err := w.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	travels("ada")
	if _, err := w.GHL.Edit(ghlsim.Edit{Kind: "create", LocationID: dev.Location, Fields: map[string]any{"firstName": "bea", "email": "bea@example.org"}}); err != nil {
		t.Fatal(err)
	}
	bustest.Until(t, func() bool {
		for _, m := range w.Novi.Dump() {
			if m.Fields["FirstName"] == "bea" {
				return true
			}
		}
		return false
	})
	bustest.Until(t, func() bool { _, generation := state(); return generation >= 4 }) // ahead of the expiry, each

	w.GHL.SetLifetime(time.Hour)
	bustest.Until(t, func() bool { return w.GHL.Stats().TokensIssued >= 5 })
	_, before := state()
	w.GHL.ExpireTokens() // nobody here knows
	travels("cleo")
	if _, after := state(); after <= before {
		t.Errorf("a refused token was not refreshed: generation %d, then %d", before, after)
	}
	if err := w.RotateKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	travels("dora")
	if err := w.Uninstall(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s, _ := state(); s != "uninstalled" {
		t.Errorf("after the end: %q", s)
	}
	if err := w.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	travels("eve")
	if n := w.GHL.Stats().RefreshReused; n != 0 {
		t.Errorf("refresh tokens were presented again %d times", n)
	}
	for _, d := range bustest.All(t, c, "DEAD") {
		t.Errorf("dead letter %s", d.Subject)
	}
}
