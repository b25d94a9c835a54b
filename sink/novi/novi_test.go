package novi_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/internal/noviapi"
	"github.com/causeway-sync/causeway/internal/novisim"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/sink/apply"
	"github.com/causeway-sync/causeway/sink/novi"
	"github.com/causeway-sync/causeway/sink/plan"
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

// TestLimitedKey: a key that hides fields of members can't make us empty them.
func TestLimitedKey(t *testing.T) {
	const key = "limited"
	tests := []struct {
		name   string
		hidden []string
		want   string // what the error names; "" means that it is written
	}{
		{"nothing hidden", nil, ""},
		{"what nobody writes or protects", []string{"FacebookUrl"}, ""},
		{"what the mapping writes", []string{"BillingAddress", "JobTitle"}, "BillingAddress, JobTitle"},
		{"what is protected", []string{"Notes"}, "Notes"},
		{"where custom fields are", []string{"CustomFields"}, "CustomFields"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sim, err := novisim.New(novisim.Config{Keys: []string{key}, Timezone: time.UTC, CustomFields: []novisim.CustomField{{UniqueID: "a", Name: "GHL Tags"}}})
			if err != nil {
				t.Fatal(err)
			}
			id, err := sim.Edit(novisim.Edit{Fields: map[string]any{"Name": "Ada", "FirstName": "Ada", "Notes": "likes tea", "JobTitle": "Guide", "BillingAddress.City": "Ouray"}})
			if err != nil {
				t.Fatal(err)
			}
			sim.Hide(key, tt.hidden...)
			srv := httptest.NewServer(sim.Handler())
			t.Cleanup(srv.Close)
			d := novi.New(noviapi.New(noviapi.Config{BaseURL: srv.URL, Clock: clock.System{}, HTTP: srv.Client(),
				Key: func(context.Context) (string, error) { return key, nil }}), mapping.Association("US"), "Notes")
			ref := apply.Ref{Kind: canonical.KindContact, ID: canonical.ExternalID(id)}
			now, err := d.ReadToUpdate(t.Context(), ref)
			if err != nil {
				t.Fatal(err)
			}
			_, updateErr := d.Update(t.Context(), canonical.Event{}, ref, plan.Plan{External: ref.ID, Fields: map[string]string{"first_name": "Adele"}}, now)
			for op, err := range map[string]error{"update": updateErr, "delete": d.Delete(t.Context(), ref)} {
				switch {
				case tt.want == "" && err != nil:
					t.Errorf("%s: %v", op, err)
				case tt.want != "" && (apierr.ClassOf(err) != apierr.Forbidden || !strings.Contains(err.Error(), "doesn't show "+tt.want+";")):
					t.Errorf("%s: got %v, want %q", op, err, tt.want)
				}
			}
			m, _ := sim.Member(id)
			if written := m.Fields["FirstName"] == "Adele" && m.Fields["Active"] == false; written != (tt.want == "") || sim.Stats().NulledUnmapped != 0 {
				t.Errorf("got %v, %d values were nulled", m.Fields, sim.Stats().NulledUnmapped)
			}
		})
	}
}

// among is a site with one member and, if not "", one task of hers, where
// somebody acts right after a call with the method has been answered.
func among(t *testing.T, task map[string]any, method string, act func(*novisim.Server)) (d *novi.Destination, member, id string) {
	t.Helper()
	sim, err := novisim.New(novisim.Config{Keys: []string{"key"}, Seed: 1, Timezone: time.UTC})
	if err != nil {
		t.Fatal(err)
	}
	if member, err = sim.Edit(novisim.Edit{Fields: map[string]any{"Name": "Ada", "FirstName": "Ada"}}); err != nil {
		t.Fatal(err)
	}
	if task != nil {
		if id, err = sim.EditItem(novisim.ItemEdit{Op: novisim.OpCreate, MemberID: member, Fields: task}); err != nil {
			t.Fatal(err)
		}
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sim.Handler().ServeHTTP(w, r)
		if r.Method == method {
			act(sim)
		}
	}))
	t.Cleanup(srv.Close)
	return novi.New(noviapi.New(noviapi.Config{BaseURL: srv.URL, Clock: clock.System{}, HTTP: srv.Client(),
		Key: func(context.Context) (string, error) { return "key", nil }}), mapping.Association("US")), member, id
}

// TestSomebodyPutsItBack: what a person puts back between a PUT and the read
// after it can be told from a record that never took the PUT.
func TestSomebodyPutsItBack(t *testing.T) {
	var id string
	tests := []struct {
		name string
		act  func(*novisim.Server)
		want []string // what the readings show
	}{
		{"nobody", func(*novisim.Server) {}, []string{""}},
		{"somebody", func(s *novisim.Server) {
			if _, err := s.EditItem(novisim.ItemEdit{Op: novisim.OpUpdate, ID: id, Fields: map[string]any{"TaskComplete": true}}); err != nil {
				t.Error(err)
			}
		}, []string{"", "true"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var d *novi.Destination
			d, _, id = among(t, map[string]any{"ActivityType": "Task", "Subject": "Call", "TaskComplete": true}, http.MethodPut, tt.act)
			ref := apply.Ref{Kind: canonical.KindTask, ID: canonical.ExternalID(id)}
			now, err := d.ReadToUpdate(t.Context(), ref)
			if err != nil {
				t.Fatal(err)
			}
			readings, err := d.Update(t.Context(), canonical.NewEvent(canonical.KindTask, "e"), ref, plan.Plan{External: ref.ID, Fields: map[string]string{"completed": ""}}, now)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for i, r := range readings {
				shown, err := mapping.Association("US").Show(observation.Observation{System: canonical.Novi, Kind: canonical.KindTask, Endpoint: r.Endpoint, Record: r.Record})
				if err != nil {
					t.Fatal(err)
				}
				if last := i == len(readings)-1; r.Atomic == last {
					t.Errorf("reading %d of %d is atomic: %t", i, len(readings), r.Atomic)
				}
				got = append(got, shown.Fields["completed"])
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("completed is shown as %q, want %q", got, tt.want)
			}
		})
	}
}

// TestMadeAndNotRead: of a record that can't be read after it was made, it is
// known which one it is.
func TestMadeAndNotRead(t *testing.T) {
	for _, kind := range []canonical.Kind{canonical.KindTask, canonical.KindContact} {
		var made canonical.ExternalID
		d, member, _ := among(t, nil, http.MethodPost, func(s *novisim.Server) {
			if kind == canonical.KindContact {
				made = canonical.ExternalID(s.Dump()[1].UniqueID)
				s.SetFaults(novisim.Faults{API5xx: 1})
				return
			}
			id := s.Activities()[0].UniqueID
			made = canonical.ExternalID(id)
			if _, err := s.EditItem(novisim.ItemEdit{Op: novisim.OpDelete, ID: id}); err != nil {
				t.Error(err)
			}
		})
		e := canonical.NewEvent(kind, "entity")
		fields := map[string]string{"title": "Call"}
		if kind == canonical.KindContact {
			member, e.Contact.FirstName, e.Contact.Email, fields = "", "Bea", "bea@example.org", map[string]string{"first_name": "Bea", "email": "bea@example.org"}
		}
		readings, err := d.Create(t.Context(), e, canonical.ExternalID(member), plan.Plan{Create: true, Fields: fields})
		if apierr.ClassOf(err) != apierr.Ambiguous || len(readings) != 1 || readings[0].External != made || readings[0].Record != nil {
			t.Errorf("%s: got %+v, %v, want %s and nothing read", kind, readings, err, made)
		}
	}
}
