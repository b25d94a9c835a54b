package ghl_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/ghlapi"
	"github.com/causeway-sync/causeway/internal/ghlsim"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/sink/apply"
	"github.com/causeway-sync/causeway/sink/ghl"
	"github.com/causeway-sync/causeway/sink/sinktest"
)

func TestDestination(t *testing.T) {
	sinktest.Run(t, func(t *testing.T) sinktest.System {
		sim, err := ghlsim.New(ghlsim.Config{Seed: 1, IndexLag: -1, Burst: 10_000,
			Tokens: []ghlsim.Token{{Value: sinktest.Secret, LocationID: "loc1", Scopes: ghlsim.AllScopes()}},
			Locations: []ghlsim.Location{{ID: "loc1", Name: "Simulated", CustomFields: []ghlsim.CustomField{
				{ID: "cf1", Name: "Job Title", Key: "contact.job_title"}, {ID: "cf6", Name: "Causeway ID", Key: "contact.causeway_id"}, {ID: "cf9", Name: "Own", Key: "contact.own"}}}}})
		if err != nil {
			t.Fatal(err)
		}
		lens := mapping.Association("US")
		return sinktest.System{Name: canonical.GHL, Handler: sim.Handler(), Lens: lens,
			Connect: func(url string) apply.Destination {
				return ghl.New(ghlapi.New(ghlapi.Config{BaseURL: url, LocationID: "loc1", Clock: clock.System{},
					HTTP: &http.Client{Timeout: 10 * time.Second}, Token: func(context.Context) (string, error) { return sinktest.Secret, nil }}), lens, clock.System{})
			},
			LoseAnswers: func(on bool) {
				f := ghlsim.Faults{}
				if on {
					f.ResetAfterCommit = 1
				}
				sim.SetFaults(f)
			},
			Clobber: func(id canonical.ExternalID) {
				if _, err := sim.Edit(ghlsim.Edit{Kind: ghlsim.EditUpdate, LocationID: "loc1", ContactID: string(id), Fields: map[string]any{"source": "fair", "customFields.contact.own": "x"}}); err != nil {
					t.Fatal(err)
				}
			},
			Kept: func(id canonical.ExternalID) bool {
				for _, c := range sim.Dump("loc1") {
					if c.ID == string(id) {
						return c.Fields["source"] == "fair" && strings.Contains(fmt.Sprint(c.Fields["customFields"]), "id:cf9 value:x")
					}
				}
				return false
			},
			Count:   func() int { return len(sim.Dump("loc1")) },
			Items:   func() int { return len(sim.Items("loc1", "")) },
			Retired: func(canonical.ExternalID) bool { return len(sim.Dump("loc1")) == 0 },
		}
	})
}
