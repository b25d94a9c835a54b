package ingest_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/ingest/ghl"
	"github.com/causeway-sync/causeway/ingest/novi"
	"github.com/causeway-sync/causeway/ingest/poll"
	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/ghlapi"
	"github.com/causeway-sync/causeway/internal/ghlsim"
	"github.com/causeway-sync/causeway/internal/noviapi"
	"github.com/causeway-sync/causeway/internal/novisim"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

const secret = "pit-5ec2e7-0123456789"

// shown returns what RAW was shown last of each contact.
func shown(t *testing.T, c *bus.Conn) map[canonical.ExternalID]string {
	t.Helper()
	out := map[canonical.ExternalID]string{}
	for _, m := range bustest.All(t, c, streams.RAW) {
		o, err := observation.Decode(m.Data)
		if err != nil {
			t.Fatal(err)
		}
		if o.Via != observation.Notice {
			out[o.ExternalID] = string(o.Record)
		}
	}
	return out
}

func location(t *testing.T, lag time.Duration) (*ghlsim.Server, *ghl.Reader) {
	t.Helper()
	sim, err := ghlsim.New(ghlsim.Config{Seed: 1, IndexLag: lag, Burst: 10_000, Locations: []ghlsim.Location{{ID: "loc1"}}, Tokens: tokens(ghlsim.AllScopes())})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(sim.Handler())
	t.Cleanup(srv.Close)
	return sim, ghl.NewReader(ghlapi.New(ghlapi.Config{BaseURL: srv.URL, LocationID: "loc1", Clock: clock.System{}, HTTP: srv.Client(),
		Token: func(context.Context) (string, error) { return secret, nil }}))
}

func tokens(scopes []string) []ghlsim.Token {
	return []ghlsim.Token{{Value: secret, LocationID: "loc1", Scopes: scopes}}
}

func contact(t *testing.T, sim *ghlsim.Server, i int) canonical.ExternalID {
	t.Helper()
	id, err := sim.Edit(ghlsim.Edit{Kind: ghlsim.EditCreate, LocationID: "loc1", Fields: map[string]any{"firstName": "P", "email": "p" + strconv.Itoa(i) + "@example.org"}})
	if err != nil {
		t.Fatal(err)
	}
	return canonical.ExternalID(id)
}

func walks(t *testing.T, c *bus.Conn, system canonical.System, l poll.Lister, every, overlap time.Duration) {
	t.Helper()
	bustest.Go(t, func(ctx context.Context) error {
		return poll.Run(ctx, poll.Config{Bus: c, Clock: clock.System{}, Logger: zerolog.Nop(), System: system, Tenant: "a", Lister: l, Backfill: true, Every: every, Overlap: overlap})
	})
}

// lister counts the pages and does something between them.
type lister struct {
	poll.Lister
	pages   int
	between func(pages int)
}

func (l *lister) List(ctx context.Context, q poll.Query) (poll.Page, error) {
	page, err := l.Lister.List(ctx, q)
	if l.pages++; l.between != nil {
		l.between(l.pages)
	}
	return page, err
}

// TestAScopeIsRevokedInMidWalk: a walk stands still while the credentials don't
// allow it, and then goes on where it was.
func TestAScopeIsRevokedInMidWalk(t *testing.T) {
	t.Run("ghl", func(t *testing.T) {
		t.Parallel()
		c := bustest.Start(t)
		sim, r := location(t, -1)
		for i := range 250 {
			contact(t, sim, i)
		}
		l := &lister{Lister: r, between: func(pages int) {
			switch pages {
			case 1:
				sim.SetTokens(tokens([]string{"contacts.write"}))
			case 3:
				sim.SetTokens(tokens(ghlsim.AllScopes()))
			}
		}}
		walks(t, c, canonical.GHL, l, 0, 0)
		bustest.Until(t, func() bool { return len(shown(t, c)) == 250 })
	})
	t.Run("novi", func(t *testing.T) {
		t.Parallel()
		c := bustest.Start(t)
		sim, err := novisim.New(novisim.Config{Keys: []string{secret}, Seed: 1, PerSecond: 10_000, PerMinute: 100_000})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 450 {
			if _, err := sim.Edit(novisim.Edit{Fields: map[string]any{"Name": "P" + strconv.Itoa(i)}}); err != nil {
				t.Fatal(err)
			}
		}
		revoked := false
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if revoked {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			sim.Handler().ServeHTTP(w, r)
		}))
		t.Cleanup(srv.Close)
		r := novi.NewReader(noviapi.New(noviapi.Config{BaseURL: srv.URL, Clock: clock.System{}, HTTP: srv.Client(), Key: func(context.Context) (string, error) { return secret, nil }}), clock.System{})
		walks(t, c, canonical.Novi, &lister{Lister: r, between: func(pages int) { revoked = pages < 3 }}, 0, 0)
		bustest.Until(t, func() bool { return len(shown(t, c)) == 450 })
	})
}

// TestAnIndexThatLagsSkipsNothing: contacts are changed all the time while a
// search that is behind is polled; the last state of each is seen.
func TestAnIndexThatLagsSkipsNothing(t *testing.T) {
	c := bustest.Start(t)
	sim, r := location(t, 300*time.Millisecond)
	var ids []canonical.ExternalID
	for i := range 40 {
		ids = append(ids, contact(t, sim, i))
	}
	edits := 0
	l := &lister{Lister: r, between: func(int) {
		if edits == 200 {
			return
		}
		edits++
		if _, err := sim.Edit(ghlsim.Edit{Kind: ghlsim.EditUpdate, LocationID: "loc1", ContactID: string(ids[edits*7%len(ids)]), Fields: map[string]any{"city": "City " + strconv.Itoa(edits)}}); err != nil {
			t.Error(err)
		}
	}}
	walks(t, c, canonical.GHL, l, 5*time.Millisecond, 2*time.Second)
	want := map[canonical.ExternalID]string{}
	for n := 1; n <= 200; n++ {
		want[ids[n*7%len(ids)]] = `"city":"City ` + strconv.Itoa(n) + `"`
	}
	bustest.Until(t, func() bool {
		got := shown(t, c)
		for id, city := range want {
			if !strings.Contains(got[id], city) {
				return false
			}
		}
		return true
	})
}
