package ghl_test

import (
	"context"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/causeway-sync/causeway/ingest/ghl"
	"github.com/causeway-sync/causeway/ingest/ingesttest"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/ghlapi"
	"github.com/causeway-sync/causeway/internal/ghlsim"
	"github.com/causeway-sync/causeway/schemas/canonical"
)

func TestReader(t *testing.T) {
	ingesttest.Run(t, func(t *testing.T) ingesttest.System {
		sim, err := ghlsim.New(ghlsim.Config{Seed: 1, IndexLag: -1, Burst: 10_000, Locations: []ghlsim.Location{{ID: "loc1", Name: "Simulated"}},
			Tokens: []ghlsim.Token{{Value: ingesttest.Secret, LocationID: "loc1", Scopes: ghlsim.AllScopes()}}})
		if err != nil {
			t.Fatal(err)
		}
		edit := func(e ghlsim.Edit) canonical.ExternalID {
			e.LocationID = "loc1"
			id, err := sim.Edit(e)
			if err != nil {
				t.Fatal(err)
			}
			return canonical.ExternalID(id)
		}
		return ingesttest.System{Name: canonical.GHL, Handler: sim.Handler(), Path: "/contacts/search", Empty: `{"contacts":[],"total":%d}`,
			Connect: func(url string) ingesttest.Reader {
				return ghl.NewReader(ghlapi.New(ghlapi.Config{BaseURL: url, LocationID: "loc1", Clock: clock.System{}, HTTP: &http.Client{Timeout: 10 * time.Second},
					Token: func(context.Context) (string, error) { return ingesttest.Secret, nil }}))
			},
			Add: func(i int) canonical.ExternalID {
				return edit(ghlsim.Edit{Kind: ghlsim.EditCreate, Fields: map[string]any{"firstName": "P", "email": "p" + strconv.Itoa(i) + "@example.org"}})
			},
			Touch: func(id canonical.ExternalID) {
				edit(ghlsim.Edit{Kind: ghlsim.EditUpdate, ContactID: string(id), Fields: map[string]any{"city": "Ouray"}})
			},
			Remove: func(id canonical.ExternalID) { edit(ghlsim.Edit{Kind: ghlsim.EditDelete, ContactID: string(id)}) },
		}
	})
}

// FuzzRead: whatever is sent, the source doesn't fall over, and what it takes
// for a notice names a tenant, a kind and a record.
func FuzzRead(f *testing.F) {
	for _, s := range []string{`{"type":"ContactUpdate","locationId":"loc1","id":"a"}`, `{"data":{"type":"TaskCreate"}}`, `{"type":1}`, `{`, `null`} {
		f.Add([]byte(s))
	}
	source := ghl.Source{Tenants: map[string]canonical.Tenant{"loc1": "alpine-guild"}}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if n, err := source.Read(raw); err == nil && (n.Tenant == "" || n.Kind == "" || n.External == "" || n.ID == "") {
			t.Errorf("%s is a notice of %+v", raw, n)
		}
	})
}
