package novi_test

import (
	"context"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/ingest/ingesttest"
	"github.com/causeway-sync/causeway/ingest/novi"
	"github.com/causeway-sync/causeway/ingest/poll"
	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/noviapi"
	"github.com/causeway-sync/causeway/internal/novisim"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
)

func TestActivities(t *testing.T) {
	sim, err := novisim.New(novisim.Config{Keys: []string{ingesttest.Secret}, Seed: 1, PerSecond: 10_000, PerMinute: 100_000, Timezone: time.UTC})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(sim.Handler())
	t.Cleanup(srv.Close)
	r := novi.NewReader(noviapi.New(noviapi.Config{BaseURL: srv.URL, Clock: clock.System{}, HTTP: srv.Client(),
		Key: func(context.Context) (string, error) { return ingesttest.Secret, nil }}), clock.System{})
	member, err := sim.Edit(novisim.Edit{Fields: map[string]any{"Name": "P", "Email": "p@example.org"}})
	if err != nil {
		t.Fatal(err)
	}
	edit := func(e novisim.ItemEdit) canonical.ExternalID {
		t.Helper()
		id, err := sim.EditItem(e)
		if err != nil {
			t.Fatal(err)
		}
		return canonical.ExternalID(id)
	}
	add := func(typ string, in time.Duration) canonical.ExternalID {
		t.Helper()
		return edit(novisim.ItemEdit{Op: novisim.OpCreate, MemberID: member, Fields: map[string]any{"ActivityType": typ, "Date": time.Now().UTC().Add(in).Format(time.RFC3339)}})
	}
	sweep := func(sw poll.Sweeper) map[canonical.ExternalID]observation.Observation {
		t.Helper()
		seen := map[canonical.ExternalID]observation.Observation{}
		var cursor json.RawMessage
		for range 100 {
			page, err := sw.Sweep(t.Context(), cursor)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range page.Observations {
				if string(o.Parent) != member || o.Endpoint != observation.NoviActivityList || o.ReadBegan.IsZero() || !o.Modified.IsZero() {
					t.Errorf("got %+v", o)
				}
				seen[o.ExternalID] = o
			}
			if cursor = page.Next; cursor == nil {
				return seen
			}
		}
		t.Fatal("the sweep has no end")
		return nil
	}
	day := 24 * time.Hour
	tests := []struct {
		typ    string
		in     time.Duration
		kind   canonical.Kind // "" is left out
		window bool
	}{
		{"Note", 0, canonical.KindNote, true},
		{"Note", -90 * day, canonical.KindNote, false},
		{"Task", 200 * day, canonical.KindTask, true},
		{"Onboarding step", 0, canonical.KindTask, true},
		{"Meeting", 0, canonical.KindAppointment, true},
		{"Call", 0, "", true},
		{"Email", 0, "", true},
	}
	ids := make([]canonical.ExternalID, len(tests))
	for i, tt := range tests {
		ids[i] = add(tt.typ, tt.in)
	}
	for range 450 { // more than a page
		add("Note", 0)
	}
	window, whole := sweep(r.Activities(true)), sweep(r.Activities(false))
	for i, tt := range tests {
		if got := whole[ids[i]].Kind; got != tt.kind {
			t.Errorf("%s: %q in the whole, want %q", tt.typ, got, tt.kind)
		}
		if _, got := window[ids[i]]; got != (tt.window && tt.kind != "") {
			t.Errorf("%s in %v: in the window is %t", tt.typ, tt.in, got)
		}
	}
	if want := 450 + 5; len(whole) != want {
		t.Errorf("%d activities, want %d", len(whole), want)
	}
	old := ids[1]
	edit(novisim.ItemEdit{Op: novisim.OpUpdate, ID: string(old), Fields: map[string]any{"Notes": "edited"}})
	if got := sweep(r.Activities(false))[old]; string(got.Record) == string(whole[old].Record) {
		t.Error("the edit of an old note was not shown")
	}
	if got, err := r.Fetch(t.Context(), whole[old]); err != nil || got.Kind != canonical.KindNote || string(got.Parent) != member || got.Endpoint != observation.NoviActivityGet {
		t.Errorf("got %+v, %v", got, err)
	}
	edit(novisim.ItemEdit{Op: novisim.OpDelete, ID: string(old)})
	if _, err := r.Fetch(t.Context(), whole[old]); apierr.ClassOf(err) != apierr.Gone {
		t.Errorf("got %v", err)
	}
}
