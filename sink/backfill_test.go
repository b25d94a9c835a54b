package sink_test

import (
	"context"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/goccy/go-json"
	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/internal/noviapi"
	"github.com/causeway-sync/causeway/internal/novisim"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/sink"
	"github.com/causeway-sync/causeway/streams"
)

// asking says each time that it is waited for.
type asking struct {
	clock.System
	waits chan struct{}
}

func (a asking) After(time.Duration) <-chan time.Time {
	select {
	case a.waits <- struct{}{}:
	default:
	}
	return a.System.After(5 * time.Millisecond)
}

// TestNothingIsWrittenBeforeTheBackfill: two databases that are linked for the
// first time hold the same people, and what the transform has not seen yet
// would be made a second time.
func TestNothingIsWrittenBeforeTheBackfill(t *testing.T) {
	c := bustest.Start(t)
	sim, err := novisim.New(novisim.Config{Keys: []string{"k"}, CustomFields: []novisim.CustomField{{UniqueID: "c1", Name: "GHL Tags"}}})
	if err != nil {
		t.Fatal(err)
	}
	site := httptest.NewServer(sim.Handler())
	t.Cleanup(site.Close)
	client := noviapi.New(noviapi.Config{BaseURL: site.URL, HTTP: http.DefaultClient, Clock: clock.System{},
		Key: func(context.Context) (string, error) { return "k", nil }})

	id := canonical.NewID("a", canonical.KindContact, canonical.GHL, "x")
	state, err := json.Marshal(canonical.Event{Version: 1, Contact: canonical.Contact{ID: id, FirstName: "Ada", Email: "ada@example.org"},
		Links: map[canonical.System][]canonical.ExternalID{canonical.GHL: {"x"}}})
	if err != nil {
		t.Fatal(err)
	}
	publish := func(subject string, data []byte) uint64 {
		t.Helper()
		ack, err := c.Publish(t.Context(), bus.Message{Subject: subject, Data: data})
		if err != nil {
			t.Fatal(err)
		}
		return ack.Seq
	}
	publish(streams.Canonical(canonical.KindContact, "a", id, canonical.OpCreated), state)
	last := publish("raw.novi.a.contact.y.backfill", []byte("{}"))
	if err := c.EnsureConsumer(t.Context(), streams.Transform()); err != nil {
		t.Fatal(err)
	}

	always, err := mapping.NewCondition("always")
	if err != nil {
		t.Fatal(err)
	}
	clk := asking{waits: make(chan struct{})}
	bustest.Go(t, func(ctx context.Context) error {
		return sink.Run(ctx, sink.Config{Bus: c, Clock: clk, Rand: rand.NewPCG(1, 1), Logger: zerolog.Nop(),
			Tenants: []sink.Tenant{{Name: "a", Lens: mapping.Association("US"), Novi: client, CreateNovi: always, Backfill: true}}})
	})
	cursors, err := c.Bucket(t.Context(), streams.CURSORS)
	if err != nil {
		t.Fatal(err)
	}
	walked := func(w streams.Walk) {
		t.Helper()
		value, err := json.Marshal(w)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cursors.Put(t.Context(), streams.WalkKey(canonical.Novi, "a", canonical.KindContact), value); err != nil {
			t.Fatal(err)
		}
	}
	nothing := func(when string) {
		t.Helper()
		for range 3 { // whole rounds of asking
			<-clk.waits
		}
		if calls := sim.Stats(); calls.Reads+calls.Writes > 0 {
			t.Errorf("%s: %d reads and %d writes", when, calls.Reads, calls.Writes)
		}
	}
	nothing("no backfill has begun")
	walked(streams.Walk{Last: last})
	nothing("the backfill is under way")
	walked(streams.Walk{Backfilled: true, Last: last})
	nothing("the transform has not seen it")
	walked(streams.Walk{Backfilled: true, Last: last + 1000}) // which RAW has lost since
	nothing("the transform has not seen what is left of it")
	bustest.Go(t, func(ctx context.Context) error {
		return c.Consume(ctx, bus.Subscription{Stream: streams.RAW, Durable: streams.Transform().Durable}, func(_ context.Context, d *bus.Delivery) { d.Done(nil) })
	})
	bustest.Until(t, func() bool { return len(sim.Dump()) == 1 })
}

// TestNoTaskIsWrittenBeforeAllWereRead: one that both databases have would be
// made a second time. The contacts don't wait for that.
func TestNoTaskIsWrittenBeforeAllWereRead(t *testing.T) {
	c := bustest.Start(t)
	sim, err := novisim.New(novisim.Config{Keys: []string{"k"}})
	if err != nil {
		t.Fatal(err)
	}
	site := httptest.NewServer(sim.Handler())
	t.Cleanup(site.Close)
	client := noviapi.New(noviapi.Config{BaseURL: site.URL, HTTP: http.DefaultClient, Clock: clock.System{},
		Key: func(context.Context) (string, error) { return "k", nil }})
	always, err := mapping.NewCondition("always")
	if err != nil {
		t.Fatal(err)
	}
	publish := func(e canonical.Event) {
		t.Helper()
		data, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Publish(t.Context(), bus.Message{Subject: streams.Canonical(e.Kind(), "a", e.ID(), canonical.OpCreated), Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	person := canonical.NewEvent(canonical.KindContact, canonical.NewID("a", canonical.KindContact, canonical.GHL, "x"))
	task := canonical.NewEvent(canonical.KindTask, canonical.NewID("a", canonical.KindTask, canonical.GHL, "t"))
	task.Version, task.Task.Title, task.Task.ContactID = 1, "Call", person.ID()
	publish(task)
	person.Version, person.Contact.FirstName = 1, "Ada"
	publish(person)
	if err := c.EnsureConsumer(t.Context(), streams.Transform()); err != nil {
		t.Fatal(err)
	}
	cursors, err := c.Bucket(t.Context(), streams.CURSORS)
	if err != nil {
		t.Fatal(err)
	}
	read := func(sweep string) {
		t.Helper()
		if _, err := cursors.Put(t.Context(), streams.SweepKey(canonical.Novi, "a", sweep), []byte(`{"backfilled":true}`)); err != nil {
			t.Fatal(err)
		}
	}
	read(string(canonical.KindContact))
	clk := asking{waits: make(chan struct{})}
	bustest.Go(t, func(ctx context.Context) error {
		return sink.Run(ctx, sink.Config{Bus: c, Clock: clk, Rand: rand.NewPCG(1, 1), Logger: zerolog.Nop(),
			Tenants: []sink.Tenant{{Name: "a", Lens: mapping.Association("US"), Novi: client, CreateNovi: always, Backfill: true, SweptNovi: true}}})
	})
	bustest.Until(t, func() bool { return len(sim.Dump()) == 1 })
	person.Version, person.Links = 2, map[canonical.System][]canonical.ExternalID{canonical.Novi: {canonical.ExternalID(sim.Dump()[0].UniqueID)}}
	publish(person)
	task.Version = 2
	publish(task)
	for range 5 { // whole rounds of asking
		<-clk.waits
	}
	if n := len(sim.Activities()); n > 0 {
		t.Errorf("%d activities before all were read", n)
	}
	read(streams.SweepActivities)
	bustest.Until(t, func() bool { return len(sim.Activities()) == 1 })
}
