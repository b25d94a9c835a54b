package transform_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-json"
	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
	"github.com/causeway-sync/causeway/transform"
)

// TestFightIsADeadLetter plays a tool that sets a title to and fro.
func TestFightIsADeadLetter(t *testing.T) {
	const tenant = "alpine-guild"
	b := bustest.Start(t)
	bustest.Go(t, func(ctx context.Context) error {
		return transform.Run(ctx, transform.Config{Bus: b, Logger: zerolog.Nop(),
			Tenants: map[canonical.Tenant]transform.Policy{tenant: {Lens: mapping.Association("US")}}})
	})
	start := time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)
	for i := range 8 {
		at := start.Add(time.Duration(i) * time.Minute)
		o := observation.Observation{System: canonical.GHL, Tenant: tenant, Kind: canonical.KindContact, ExternalID: "g1", Via: observation.Fetch,
			Endpoint: observation.GHLContactGet, ReadBegan: at, Modified: at,
			Record: json.RawMessage(fmt.Sprintf(`{"id":"g1","city":%q}`, []string{"Bern", "Thun"}[i%2]))}
		data, err := o.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Publish(t.Context(), bus.Message{Subject: streams.Raw(o), Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	bustest.Settled(t, b, streams.RAW, streams.Transform().Durable)
	letters := bustest.All(t, b, streams.DEAD)
	if len(letters) != 1 {
		t.Fatalf("got %d dead letters, want 1", len(letters))
	}
	var letter envelope.DeadLetter
	if err := json.Unmarshal(letters[0].Data, &letter); err != nil {
		t.Fatal(err)
	}
	id := canonical.NewID(tenant, canonical.KindContact, canonical.GHL, "g1")
	if letter.Reason != "field address.city flips between values and is held" || letter.ID != string(id) || letter.Sequence != 6 || strings.Contains(string(letters[0].Data), "Bern") {
		t.Errorf("got %s", letters[0].Data)
	}
	m, err := b.Last(t.Context(), streams.CANONICAL, streams.Entity(canonical.KindContact, tenant, id))
	if err != nil {
		t.Fatal(err)
	}
	state, err := canonical.DecodeEvent(m.Data)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := state.Contact.Address.City, "Bern"; got != want || !state.Sync.Held("address.city") {
		t.Errorf("city is %q, want %q, held", got, want)
	}
}
