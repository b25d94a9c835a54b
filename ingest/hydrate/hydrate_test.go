package hydrate_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/ingest/hydrate"
	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

var noon = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// fetcher answers each fetch of a record with the next of its answers, the
// last one again and again.
type fetcher struct {
	mu      sync.Mutex
	answers map[canonical.ExternalID][]error // nil is the record
	count   map[canonical.ExternalID]int
}

func (f *fetcher) Fetch(_ context.Context, about observation.Observation) (observation.Observation, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	id := about.ExternalID
	f.count[id]++
	if a := f.answers[id]; len(a) > 0 {
		if len(a) > 1 {
			f.answers[id] = a[1:]
		}
		if a[0] != nil {
			return observation.Observation{}, a[0]
		}
	}
	return observation.Observation{System: canonical.GHL, ExternalID: id, Endpoint: observation.GHLContactGet, ReadBegan: noon.Add(time.Duration(f.count[id]) * time.Second), Modified: noon, Record: []byte(`{"id":"x"}`)}, nil
}

func (f *fetcher) fetched(id canonical.ExternalID) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count[id]
}

func run(t *testing.T, c *bus.Conn, f *fetcher) {
	t.Helper()
	bustest.Go(t, func(ctx context.Context) error {
		return hydrate.Run(ctx, hydrate.Config{Bus: c, Clock: clock.System{}, Logger: zerolog.Nop(), Tenant: "a", Fetchers: map[canonical.System]hydrate.Fetcher{canonical.GHL: f}})
	})
}

func notice(t *testing.T, c *bus.Conn, kind canonical.Kind, id canonical.ExternalID, modified time.Time) {
	t.Helper()
	o := observation.Observation{System: canonical.GHL, Tenant: "a", Kind: kind, ExternalID: id, Via: observation.Notice, Modified: modified}
	body, err := o.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Publish(t.Context(), bus.Message{Subject: streams.Raw(o), Data: body}); err != nil {
		t.Fatal(err)
	}
}

func TestAnswers(t *testing.T) {
	fail := func(class apierr.Class) error {
		return &apierr.Error{System: "ghl", Op: "get contact", Class: class, RetryAfter: time.Millisecond}
	}
	tests := []struct {
		name    string
		answers []error
		fetches int
		absent  bool
		dead    bool
	}{
		{"there", nil, 1, false, false},
		{"gone", []error{fail(apierr.Gone)}, 1, true, false},
		{"away for a while", []error{fail(apierr.Retry), fail(apierr.Retry), nil}, 3, false, false},
		{"too many calls", []error{fail(apierr.Wait), nil}, 2, false, false},
		{"refused for good", []error{fail(apierr.Invalid)}, 1, false, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := bustest.Start(t)
			f := &fetcher{answers: map[canonical.ExternalID][]error{"x": tt.answers}, count: map[canonical.ExternalID]int{}}
			notice(t, c, canonical.KindContact, "x", time.Time{})
			run(t, c, f)
			bustest.Settled(t, c, streams.RAW, streams.Hydrate("a").Durable)
			if got := f.fetched("x"); got != tt.fetches {
				t.Errorf("fetched %d times, want %d", got, tt.fetches)
			}
			var seen []observation.Observation
			for _, m := range bustest.All(t, c, streams.RAW) {
				o, err := observation.Decode(m.Data)
				if err != nil {
					t.Fatal(err)
				}
				if o.Via == observation.Fetch {
					seen = append(seen, o)
				}
			}
			dead := bustest.All(t, c, streams.DEAD)
			if (len(dead) == 1) != tt.dead || len(dead) == 1 && !strings.HasPrefix(dead[0].Subject, "dead.hydrate.a.contact.x") {
				t.Errorf("dead letters: %v", dead)
			}
			if !tt.dead && (len(seen) != 1 || seen[0].Absent != tt.absent || seen[0].Tenant != "a") {
				t.Errorf("saw %+v", seen)
			}
		})
	}
}

func TestNoticesCoalesce(t *testing.T) {
	c := bustest.Start(t)
	f := &fetcher{count: map[canonical.ExternalID]int{}}
	for range 50 {
		notice(t, c, canonical.KindContact, "x", time.Time{})
	}
	notice(t, c, "invoice", "t1", time.Time{}) // of a kind that is not fetched
	run(t, c, f)
	bustest.Settled(t, c, streams.RAW, streams.Hydrate("a").Durable)
	if got := f.fetched("x"); got < 1 || got > 10 {
		t.Errorf("50 notices of one record led to %d fetches", got)
	}
	if f.fetched("t1") != 0 {
		t.Error("an invoice was fetched")
	}
}

// TestPolledNotices: a poll's notice is left alone if a fetch has shown that
// state, a webhook's never is.
func TestPolledNotices(t *testing.T) {
	c := bustest.Start(t)
	f := &fetcher{count: map[canonical.ExternalID]int{}}
	run(t, c, f)
	step := func(modified time.Time, want int) {
		t.Helper()
		notice(t, c, canonical.KindContact, "x", modified)
		bustest.Settled(t, c, streams.RAW, streams.Hydrate("a").Durable)
		if got := f.fetched("x"); got != want {
			t.Errorf("fetched %d times, want %d", got, want)
		}
	}
	step(noon, 1)
	step(noon, 1)
	step(noon.Add(-time.Minute), 1)
	step(time.Time{}, 2)
	step(noon.Add(time.Second), 3)
}
