package ingest_test

import (
	"context"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/goccy/go-json"
	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/ingest/novi"
	"github.com/causeway-sync/causeway/ingest/poll"
	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/internal/noviapi"
	"github.com/causeway-sync/causeway/internal/novisim"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

// TestGroupsAreSwept: a group is joined and left without any member being
// edited, and the members concerned are noticed, nobody else.
func TestGroupsAreSwept(t *testing.T) {
	const board = "7a3b0000-0000-4000-8000-000000000001"
	c := bustest.Start(t)
	sim, err := novisim.New(novisim.Config{Keys: []string{secret}, Seed: 1, PerSecond: 10_000, PerMinute: 100_000, Groups: []novisim.Group{{UniqueID: board, Name: "Board"}}})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(sim.Handler())
	t.Cleanup(srv.Close)
	links, err := c.Bucket(t.Context(), streams.IDENTITY)
	if err != nil {
		t.Fatal(err)
	}
	lens := mapping.Association("US")
	tag := mapping.NormalizeTag(lens.Tags.GroupPrefix + "Board")
	member := func(name string, tags ...string) canonical.ExternalID {
		t.Helper()
		x, err := sim.Edit(novisim.Edit{Fields: map[string]any{"Name": name}})
		if err != nil {
			t.Fatal(err)
		}
		external := canonical.ExternalID(x)
		id := canonical.NewID("a", canonical.KindContact, canonical.Novi, external)
		e := canonical.Event{Version: 1, Contact: canonical.Contact{ID: id}, Links: map[canonical.System][]canonical.ExternalID{canonical.Novi: {external}},
			Sync: canonical.Sync{Base: map[canonical.System]canonical.Base{canonical.Novi: {External: external, Tags: tags, Tagged: true, Grouped: true}}}}
		data, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Publish(t.Context(), bus.Message{Subject: streams.Canonical(canonical.KindContact, "a", id, canonical.OpCreated), Data: data}); err != nil {
			t.Fatal(err)
		}
		if _, err := links.Put(t.Context(), streams.LinkKey("a", canonical.KindContact, canonical.Novi, external), []byte(id)); err != nil {
			t.Fatal(err)
		}
		return external
	}
	pick := func(x canonical.ExternalID) {
		t.Helper()
		if err := sim.Pick(string(x), board, true); err != nil {
			t.Fatal(err)
		}
	}
	joined, left, still, never := member("Ada", "donor"), member("Eva", "donor", tag), member("Kim", tag), member("Lou", "donor")
	pick(joined)
	pick(still)
	r := novi.NewReader(noviapi.New(noviapi.Config{BaseURL: srv.URL, Clock: clock.System{}, HTTP: srv.Client(), Key: func(context.Context) (string, error) { return secret, nil }}), clock.System{})
	bustest.Go(t, func(ctx context.Context) error {
		return poll.RunGroups(ctx, poll.GroupConfig{Bus: c, Clock: clock.System{}, Logger: zerolog.Nop(), System: canonical.Novi, Tenant: "a", Lens: lens, Grouper: r, Every: 10 * time.Millisecond})
	})
	noticed := func() map[canonical.ExternalID]int {
		out := map[canonical.ExternalID]int{}
		for _, m := range bustest.All(t, c, streams.RAW) {
			o, err := observation.Decode(m.Data)
			if err != nil || o.Via != observation.Notice || o.Kind != canonical.KindContact {
				t.Fatalf("got %+v, %v", o, err)
			}
			out[o.ExternalID]++
		}
		return out
	}
	bustest.Until(t, func() bool { return len(noticed()) == 2 })
	pick(never)
	bustest.Until(t, func() bool { return len(noticed()) == 3 })
	got := noticed()
	for _, x := range []canonical.ExternalID{joined, left, never} {
		if got[x] != 1 {
			t.Errorf("got %v", got)
		}
	}
	if got[still] != 0 {
		t.Error("one whose groups are as they were is noticed")
	}
}
