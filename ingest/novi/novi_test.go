package novi_test

import (
	"context"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/causeway-sync/causeway/ingest/ingesttest"
	"github.com/causeway-sync/causeway/ingest/novi"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/noviapi"
	"github.com/causeway-sync/causeway/internal/novisim"
	"github.com/causeway-sync/causeway/schemas/canonical"
)

func TestReader(t *testing.T) {
	ingesttest.Run(t, func(t *testing.T) ingesttest.System {
		sim, err := novisim.New(novisim.Config{Keys: []string{ingesttest.Secret}, Seed: 1, PerSecond: 10_000, PerMinute: 100_000, Timezone: time.UTC})
		if err != nil {
			t.Fatal(err)
		}
		edit := func(e novisim.Edit) canonical.ExternalID {
			id, err := sim.Edit(e)
			if err != nil {
				t.Fatal(err)
			}
			return canonical.ExternalID(id)
		}
		return ingesttest.System{Name: canonical.Novi, Handler: sim.Handler(), Path: "/api/members", Empty: `{"TotalCount":%d,"Results":[]}`,
			Connect: func(url string) ingesttest.Reader {
				return novi.NewReader(noviapi.New(noviapi.Config{BaseURL: url, Clock: clock.System{}, HTTP: &http.Client{Timeout: 10 * time.Second},
					Key: func(context.Context) (string, error) { return ingesttest.Secret, nil }}), clock.System{})
			},
			Add: func(i int) canonical.ExternalID {
				return edit(novisim.Edit{Fields: map[string]any{"Name": "P" + strconv.Itoa(i), "Email": "p" + strconv.Itoa(i) + "@example.org"}})
			},
			Touch: func(id canonical.ExternalID) {
				edit(novisim.Edit{MemberID: string(id), Fields: map[string]any{"JobTitle": "Guide"}})
			},
			Remove: func(id canonical.ExternalID) { edit(novisim.Edit{MemberID: string(id), Remove: true}) },
		}
	})
}

// FuzzRead: whatever is sent, the source doesn't fall over, and what it takes
// for a notice names a kind and a record.
func FuzzRead(f *testing.F) {
	for _, s := range []string{`{"event":"customer.updated","entityUniqueId":"a"}`, `{"event":1}`, `{`, `null`, `[]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if n, err := (novi.Source{Tenant: "alpine-guild"}).Read(raw); err == nil && (n.Tenant == "" || n.Kind == "" || n.External == "") {
			t.Errorf("%s is a notice of %+v", raw, n)
		}
	})
}
