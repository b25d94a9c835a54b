package ghl_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/ingest/ghl"
	"github.com/causeway-sync/causeway/ingest/hydrate"
	"github.com/causeway-sync/causeway/ingest/ingesttest"
	"github.com/causeway-sync/causeway/ingest/poll"
	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/ghlapi"
	"github.com/causeway-sync/causeway/internal/ghlsim"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
)

var (
	_ hydrate.Locator    = (*ghl.Reader)(nil)
	_ hydrate.ItemLister = (*ghl.Reader)(nil)
)

type site struct {
	t   *testing.T
	sim *ghlsim.Server
	*ghl.Reader
}

func newSite(t *testing.T) site {
	t.Helper()
	sim, err := ghlsim.New(ghlsim.Config{Seed: 1, IndexLag: -1, Burst: 10_000, Locations: []ghlsim.Location{{ID: "loc1", Name: "Simulated"}},
		Tokens: []ghlsim.Token{{Value: ingesttest.Secret, LocationID: "loc1", Scopes: ghlsim.AllScopes()}}})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(sim.Handler())
	t.Cleanup(srv.Close)
	return site{t, sim, ghl.NewReader(ghlapi.New(ghlapi.Config{BaseURL: srv.URL, LocationID: "loc1", Clock: clock.System{}, HTTP: srv.Client(),
		Token: func(context.Context) (string, error) { return ingesttest.Secret, nil }}))}
}

func (s site) contact(i int) string {
	s.t.Helper()
	id, err := s.sim.Edit(ghlsim.Edit{LocationID: "loc1", Kind: ghlsim.EditCreate, Fields: map[string]any{"firstName": "P", "email": "p" + strconv.Itoa(i) + "@example.org"}})
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

func (s site) item(e ghlsim.ItemEdit) string {
	s.t.Helper()
	e.LocationID = "loc1"
	id, err := s.sim.EditItem(e)
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

func (s site) task(contact, title string) string {
	s.t.Helper()
	return s.item(ghlsim.ItemEdit{Kind: ghlsim.KindTask, Op: ghlsim.OpCreate, ContactID: contact,
		Fields: map[string]any{"title": title, "dueDate": "2026-12-01T17:00:00Z"}})
}

// sweep returns what a sweep shows, by id.
func (s site) sweep(sw poll.Sweeper) map[canonical.ExternalID]observation.Observation {
	s.t.Helper()
	seen := map[canonical.ExternalID]observation.Observation{}
	var cursor json.RawMessage
	for range 100 {
		page, err := sw.Sweep(s.t.Context(), cursor)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, o := range page.Observations {
			if o.Kind == "" || o.Parent == "" || o.Endpoint == "" || o.ReadBegan.IsZero() || !o.Modified.IsZero() {
				s.t.Errorf("got %+v", o)
			}
			seen[o.ExternalID] = o
		}
		if cursor = page.Next; cursor == nil {
			return seen
		}
	}
	s.t.Fatal("the sweep has no end")
	return nil
}

func TestSweeps(t *testing.T) {
	s := newSite(t)
	var tasks, notes int
	for i := range 45 {
		c := s.contact(i)
		for n := range 5 {
			s.task(c, "task "+strconv.Itoa(n))
			tasks++
		}
		s.item(ghlsim.ItemEdit{Kind: ghlsim.KindNote, Op: ghlsim.OpCreate, ContactID: c, Fields: map[string]any{"body": "called"}})
		notes++
	}
	done := s.task(s.contact(45), "done")
	s.item(ghlsim.ItemEdit{Kind: ghlsim.KindTask, Op: ghlsim.OpUpdate, ID: done, Fields: map[string]any{"completed": true}})
	if got := s.sweep(s.Tasks(false)); len(got) != tasks {
		t.Errorf("%d open tasks, want %d", len(got), tasks)
	}
	if got := s.sweep(s.Tasks(true)); len(got) != 1 || got[canonical.ExternalID(done)].Kind != canonical.KindTask {
		t.Errorf("completed: %v", got)
	}
	if got := s.sweep(s.Notes()); len(got) != notes {
		t.Errorf("%d notes, want %d", len(got), notes)
	}
}

func TestItems(t *testing.T) {
	s := newSite(t)
	c := s.contact(1)
	id := s.task(c, "call")
	deleted := s.task(c, "never mind")
	s.item(ghlsim.ItemEdit{Kind: ghlsim.KindTask, Op: ghlsim.OpDelete, ID: deleted})
	note := s.item(ghlsim.ItemEdit{Kind: ghlsim.KindNote, Op: ghlsim.OpCreate, ContactID: c, Fields: map[string]any{"body": "called"}})
	about := func(kind canonical.Kind, id, body string) observation.Observation {
		return observation.Observation{Kind: kind, ExternalID: canonical.ExternalID(id), Record: []byte(body)}
	}
	tests := []struct {
		name  string
		about observation.Observation
		want  string
		err   error
	}{
		{"by its title", about(canonical.KindTask, id, `{"type":"TaskCreate","title":"call"}`), c, nil},
		{"its title has been edited", about(canonical.KindTask, id, `{"type":"TaskCreate","title":"phone"}`), c, nil},
		{"without a title", about(canonical.KindTask, id, `{}`), c, nil},
		{"not in the index yet", about(canonical.KindTask, "nobody", `{"type":"TaskCreate","title":"call"}`), "", nil},
		{"deleted", about(canonical.KindTask, deleted, `{"type":"TaskDelete","title":"never mind"}`), "", hydrate.ErrDeleted},
		{"a deleted note", about(canonical.KindNote, "n1", `{"data":{"type":"NoteDelete"}}`), "", hydrate.ErrDeleted},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := s.Locate(t.Context(), tt.about)
			if string(got) != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("got %q, %v; want %q, %v", got, err, tt.want, tt.err)
			}
		})
	}
	for _, o := range []observation.Observation{about(canonical.KindTask, id, ""), about(canonical.KindNote, note, "")} {
		o.Parent = canonical.ExternalID(c)
		got, err := s.Fetch(t.Context(), o)
		if err != nil || got.Kind != o.Kind || got.ExternalID != o.ExternalID || got.Parent != o.Parent || len(got.Record) == 0 || time.Since(got.ReadBegan) > time.Minute {
			t.Errorf("got %+v, %v", got, err)
		}
	}
	gone := about(canonical.KindTask, deleted, "")
	gone.Parent = canonical.ExternalID(c)
	if _, err := s.Fetch(t.Context(), gone); apierr.ClassOf(err) != apierr.Gone {
		t.Errorf("got %v", err)
	}
	if got, err := s.Items(t.Context(), canonical.ExternalID(c)); err != nil || len(got) != 1 || string(got[0].ExternalID) != note {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestNoticesSayWhose(t *testing.T) {
	source := ghl.Source{Tenants: map[string]canonical.Tenant{"loc1": "alpine-guild"}}
	tests := []struct {
		name, body string
		want       canonical.ExternalID
	}{
		{"a note", `{"type":"NoteUpdate","locationId":"loc1","id":"n1","contactId":"c1"}`, "c1"},
		{"wrapped", `{"data":{"type":"TaskComplete","locationId":"loc1","id":"t1","contactId":"c1"}}`, "c1"},
		{"an appointment", `{"type":"AppointmentCreate","locationId":"loc1","appointment":{"id":"a1","contactId":"c1"}}`, "c1"},
		{"a task as GHL sends it", `{"type":"TaskCreate","locationId":"loc1","id":"t1","title":"call"}`, ""},
		{"a contact hangs on nothing", `{"type":"ContactUpdate","locationId":"loc1","id":"c1","contactId":"c1"}`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := source.Read([]byte(tt.body)); err != nil || got.Parent != tt.want {
				t.Errorf("got %q, %v; want %q", got.Parent, err, tt.want)
			}
		})
	}
}
