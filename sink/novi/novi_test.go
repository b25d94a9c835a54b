package novi_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/internal/noviapi"
	"github.com/causeway-sync/causeway/internal/novisim"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/sink/apply"
	"github.com/causeway-sync/causeway/sink/novi"
	"github.com/causeway-sync/causeway/sink/sinktest"
)

func TestDestination(t *testing.T) {
	sinktest.Run(t, func(t *testing.T) sinktest.System {
		sim, err := novisim.New(novisim.Config{Keys: []string{sinktest.Secret}, Seed: 1, PerSecond: 10_000, PerMinute: 100_000, Timezone: time.UTC,
			CustomFields: []novisim.CustomField{{UniqueID: "a", Name: "GHL Tags"}, {UniqueID: "b", Name: "Own"}}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if n := sim.Stats().NulledActivities; n != 0 {
				t.Errorf("%d updates of activities lost what they did not name", n)
			}
		})
		lens := mapping.Association("US")
		return sinktest.System{Name: canonical.Novi, Handler: sim.Handler(), Lens: lens,
			Connect: func(url string) apply.Destination {
				return novi.New(noviapi.New(noviapi.Config{BaseURL: url, Clock: clock.System{}, HTTP: &http.Client{Timeout: 10 * time.Second},
					Key: func(context.Context) (string, error) { return sinktest.Secret, nil }}), lens)
			},
			LoseAnswers: func(on bool) {
				f := novisim.Faults{}
				if on {
					f.ResetAfterCommit = 1
				}
				sim.SetFaults(f)
			},
			Clobber: func(id canonical.ExternalID) {
				if _, err := sim.Edit(novisim.Edit{MemberID: string(id), Fields: map[string]any{"Notes": "likes tea", "CustomFields.Own": "x"}}); err != nil {
					t.Fatal(err)
				}
			},
			Kept: func(id canonical.ExternalID) bool {
				m, _ := sim.Member(string(id))
				own, _ := m.Fields["CustomFields"].(map[string]any)["Own"].(map[string]any)
				return m.Fields["Notes"] == "likes tea" && own["Value"] == "x" && sim.Stats().NulledUnmapped == 0
			},
			Count: func() int { return len(sim.Dump()) },
			Items: func() int { return len(sim.Activities()) },
			Retired: func(id canonical.ExternalID) bool {
				m, there := sim.Member(string(id))
				return there && m.Fields["Active"] == false && m.Fields["Notes"] == "likes tea" && sim.Stats().NulledUnmapped == 0
			},
		}
	})
}
