package apply_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
	"github.com/causeway-sync/causeway/transform"
)

// TestABackfillWaitsForTheTransform: while the transform is behind, what
// somebody has changed is written first, though a backfill's write was due
// before; and that one does not wait for ever.
func TestABackfillWaitsForTheTransform(t *testing.T) {
	t.Parallel()
	b := &bundle{Conn: bustest.Start(t), site: newSite(), t: t}
	stop := bustest.Go(t, func(ctx context.Context) error {
		return transform.Run(ctx, transform.Config{Bus: b.Conn, Logger: zerolog.Nop(), Tenants: map[canonical.Tenant]transform.Policy{tenant: {Lens: mapping.Association("US")}}})
	})
	for i, via := range []observation.Via{observation.Backfill, observation.Fetch} {
		o := observation.Observation{System: canonical.GHL, Tenant: tenant, Kind: canonical.KindContact, ExternalID: canonical.ExternalID(fmt.Sprintf("g%d", i)), Via: via,
			Endpoint: observation.GHLContactGet, ReadBegan: time.Now(), Modified: time.Now(), Record: fmt.Appendf(nil, `{"id":"g%d","firstName":%q,"email":"%d@example.org"}`, i, via, i)}
		body, err := o.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Publish(t.Context(), bus.Message{Subject: streams.Raw(o), Data: body}); err != nil {
			t.Fatal(err)
		}
	}
	bustest.Settled(t, b.Conn, streams.RAW, streams.Transform().Durable)
	stop()
	for i := range 200 {
		if _, err := b.Publish(t.Context(), bus.Message{Subject: fmt.Sprintf("raw.ghl.%s.contact.x%d.fetch", tenant, i), Data: []byte("{}")}); err != nil {
			t.Fatal(err)
		}
	}
	// What was on its way to the transform as it stopped is given back.
	bustest.Until(t, func() bool {
		n, err := b.Behind(t.Context(), streams.Transform())
		return err == nil && n >= 150
	})
	b.sink(1)
	bustest.Until(t, func() bool {
		made := 0
		b.look(func() { made = b.creates })
		return made == 2
	})
	b.look(func() {
		if got := b.members["m1"]["first_name"]; got != string(observation.Fetch) {
			t.Errorf("%s was written first", got)
		}
	})
}
