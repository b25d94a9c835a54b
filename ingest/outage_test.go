package ingest_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/ingest/ghl"
	"github.com/causeway-sync/causeway/ingest/hydrate"
	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/circuit"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/ghlapi"
	"github.com/causeway-sync/causeway/internal/ghlsim"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

// again counts the deliveries that were not the first.
type again struct {
	bus.Bus
	n atomic.Int64
}

func (a *again) Consume(ctx context.Context, sub bus.Subscription, handle func(context.Context, *bus.Delivery)) error {
	return a.Bus.Consume(ctx, sub, func(ctx context.Context, d *bus.Delivery) {
		if d.Count > 1 {
			a.n.Add(1)
		}
		handle(ctx, d)
	})
}

// TestAnOutageBurnsNoDeliveries: while a system is away, or refuses our
// credentials, the notices wait; then all are fetched.
func TestAnOutageBurnsNoDeliveries(t *testing.T) {
	const people, trip, probes, workers = 40, 3, 6, 4
	tests := []struct {
		name string
		out  func(*ghlsim.Server)
		back func(*ghlsim.Server)
	}{
		{"away", func(s *ghlsim.Server) { s.SetFaults(ghlsim.Faults{API5xx: 1}) }, func(s *ghlsim.Server) { s.SetFaults(ghlsim.Faults{}) }},
		{"refused", func(s *ghlsim.Server) { s.SetTokens(nil) }, func(s *ghlsim.Server) { s.SetTokens(tokens(ghlsim.AllScopes())) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := &again{Bus: bustest.Start(t)}
			sim, err := ghlsim.New(ghlsim.Config{Seed: 1, Burst: 10_000, Locations: []ghlsim.Location{{ID: "loc1"}}, Tokens: tokens(ghlsim.AllScopes())})
			if err != nil {
				t.Fatal(err)
			}
			var calls atomic.Int64
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				calls.Add(1)
				sim.Handler().ServeHTTP(w, r)
			}))
			t.Cleanup(srv.Close)
			circuits, err := circuit.New(circuit.Config{Trip: trip, Pause: 100 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			b := circuits.Of(canonical.GHL, "a")
			r := ghl.NewReader(ghlapi.New(ghlapi.Config{BaseURL: srv.URL, LocationID: "loc1", Clock: clock.System{}, HTTP: &http.Client{Transport: b.Transport(srv.Client().Transport)},
				Token: func(context.Context) (string, error) { return secret, nil }}))
			tt.out(sim)
			for i := range people {
				id := contact(t, sim, i)
				o := observation.Observation{System: canonical.GHL, Tenant: "a", Kind: canonical.KindContact, ExternalID: id, Via: observation.Notice}
				body, err := o.Encode()
				if err != nil {
					t.Fatal(err)
				}
				if _, err := c.Publish(t.Context(), bus.Message{Subject: streams.Raw(o), ID: fmt.Sprint(i), Data: body}); err != nil {
					t.Fatal(err)
				}
			}
			bustest.Go(t, func(ctx context.Context) error {
				return hydrate.Run(ctx, hydrate.Config{Bus: c, Clock: clock.System{}, Logger: zerolog.Nop(), Tenant: "a", Workers: workers,
					Fetchers: map[canonical.System]hydrate.Fetcher{canonical.GHL: r}, Hold: func(canonical.System) bool { return b.Holds() }})
			})
			bustest.Until(t, func() bool { return calls.Load() >= trip+probes }) // the outage goes on and on
			// What was under way when it opened, and each probe.
			if burnt := c.n.Load(); burnt > trip+workers+calls.Load() || calls.Load() > people {
				t.Errorf("%d calls were made and %d deliveries were burnt", calls.Load(), burnt)
			}
			tt.back(sim)
			bustest.Until(t, func() bool {
				seen := map[canonical.ExternalID]bool{}
				for _, m := range bustest.All(t, c.Bus.(*bus.Conn), streams.RAW) {
					if o, err := observation.Decode(m.Data); err == nil && o.Via == observation.Fetch {
						seen[o.ExternalID] = true
					}
				}
				return len(seen) == people
			})
		})
	}
}
