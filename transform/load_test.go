package transform_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/goccy/go-json"
	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
	"github.com/causeway-sync/causeway/transform"
)

// TestOrderUnderLoad has two instances, which remember one entity in each shard
// and so look nearly everything up, share a backlog of which most is about one
// record. Each entity's history holds each change once, in order.
func TestOrderUnderLoad(t *testing.T) {
	t.Parallel()
	const guild, records, turns = "alpine-guild", 15, 4
	b := bustest.Start(t)
	when := time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)
	show := func(id string, turn int) {
		t.Helper()
		o := observation.Observation{System: canonical.GHL, Tenant: guild, Kind: canonical.KindContact, ExternalID: canonical.ExternalID(id), Via: observation.Fetch, Endpoint: observation.GHLContactGet,
			ReadBegan: when.Add(time.Duration(turn) * time.Hour), Modified: when.Add(time.Duration(turn) * time.Hour),
			Record: json.RawMessage(fmt.Sprintf(`{"id":%q,"email":"%s@example.org","city":"Ouray %d","tags":["t%d"]}`, id, id, turn, turn))}
		data, err := o.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Publish(t.Context(), bus.Message{Subject: streams.Raw(o), Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	for turn := range turns {
		for i := range records {
			show(fmt.Sprintf("g%d", i), turn)
			show("hot", turn*records+i)
		}
	}
	if _, err := b.Publish(t.Context(), bus.Message{Subject: "raw.ghl." + guild + ".contact.hot.notice", Data: []byte(`{}`)}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*bus.Conn{b, bustest.Again(t, b)} {
		bustest.Go(t, func(ctx context.Context) error {
			return transform.Run(ctx, transform.Config{Bus: c, Logger: zerolog.Nop(), Shards: 4, Cache: 1, Tenants: map[canonical.Tenant]transform.Policy{guild: {Lens: mapping.Association("US")}}})
		})
	}
	bustest.Settled(t, b, streams.RAW, streams.Transform().Durable)
	bustest.Settled(t, b, streams.CANONICAL, streams.Tags().Durable)
	if letters := bustest.All(t, b, streams.DEAD); len(letters) > 0 {
		t.Fatalf("%d dead letters, the first %s", len(letters), letters[0].Data)
	}
	version, last := map[canonical.CanonicalID]uint64{}, map[canonical.CanonicalID]string{}
	tags := map[string]bool{}
	for _, m := range bustest.All(t, b, streams.CANONICAL) {
		p, err := streams.Parse(m.Subject)
		if err != nil {
			t.Fatal(err)
		}
		if p.Kind == canonical.KindTag {
			tags[m.Header["ce-id"][0]] = true
			continue
		}
		e, err := canonical.DecodeEvent(m.Data)
		if err != nil {
			t.Fatal(err)
		}
		if had := version[e.ID()]; e.Version != had+1 {
			t.Errorf("entity %s: version %d after %d", e.ID(), e.Version, had)
		}
		version[e.ID()], last[e.ID()] = e.Version, e.Contact.Address.City
	}
	if len(version) != records+1 {
		t.Errorf("%d entities, want %d", len(version), records+1)
	}
	for id, v := range version {
		want, city := uint64(turns), fmt.Sprintf("Ouray %d", turns-1)
		if id == canonical.NewID(guild, canonical.KindContact, canonical.GHL, "hot") {
			want, city = turns*records, fmt.Sprintf("Ouray %d", turns*records-1)
		}
		// Two instances may see two changes of one record in either order: then
		// the later one makes the earlier one old, and that one is dropped.
		if v > want || last[id] != city {
			t.Errorf("entity %s ends at version %d with %q, want at most %d with %q", id, v, last[id], want, city)
		}
	}
	if len(tags) < records+1 {
		t.Errorf("%d tag events", len(tags))
	}
}
