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

func run(t *testing.T, c *bus.Conn, f *fetcher) (stop func()) {
	t.Helper()
	return bustest.Go(t, func(ctx context.Context) error {
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

// TestARevokedScopeIsNoAbsence: what may not be read is not gone.
func TestARevokedScopeIsNoAbsence(t *testing.T) {
	for name, class := range map[string]apierr.Class{"scope": apierr.Forbidden, "token": apierr.Refresh} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := bustest.Start(t)
			f := &fetcher{answers: map[canonical.ExternalID][]error{"x": {&apierr.Error{System: "ghl", Op: "get contact", Status: 401, Class: class}}}, count: map[canonical.ExternalID]int{}}
			notice(t, c, canonical.KindContact, "x", time.Time{})
			stop := run(t, c, f)
			bustest.Until(t, func() bool { return f.fetched("x") > 0 })
			stop()
			for _, m := range bustest.All(t, c, streams.RAW) {
				if o, err := observation.Decode(m.Data); err != nil || o.Absent {
					t.Errorf("got %s %v", m.Data, err)
				}
			}
			if dead := bustest.All(t, c, streams.DEAD); len(dead) > 0 {
				t.Errorf("it is given up: %s", dead[0].Data)
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

// place is a system where items are found by their contact.
type place struct {
	mu     sync.Mutex
	there  map[canonical.ExternalID]canonical.ExternalID // item → contact
	index  map[canonical.ExternalID]canonical.ExternalID // what its search shows
	lag    int                                           // searches until the index is up to date
	delete bool                                          // a notice is of a delete
	calls  int
	alone  bool // there is no contact
}

func (p *place) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

func (p *place) record(kind canonical.Kind, id, contact canonical.ExternalID) observation.Observation {
	return observation.Observation{Kind: kind, ExternalID: id, Parent: contact, Endpoint: observation.GHLTaskGet, ReadBegan: time.Now(), Record: []byte(`{"id":"` + string(id) + `"}`)}
}

func (p *place) Fetch(_ context.Context, about observation.Observation) (observation.Observation, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if about.Kind == canonical.KindContact && p.alone {
		return observation.Observation{}, &apierr.Error{System: "ghl", Op: "get contact", Class: apierr.Gone}
	}
	if about.Kind == canonical.KindContact {
		return p.record(about.Kind, about.ExternalID, ""), nil
	}
	if about.Parent == "" {
		return observation.Observation{}, &apierr.Error{System: "ghl", Op: "get task", Class: apierr.Invalid}
	}
	if p.there[about.ExternalID] != about.Parent {
		return observation.Observation{}, &apierr.Error{System: "ghl", Op: "get task", Class: apierr.Gone}
	}
	return p.record(about.Kind, about.ExternalID, about.Parent), nil
}

func (p *place) Locate(_ context.Context, about observation.Observation) (canonical.ExternalID, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls++
	if p.calls <= p.lag || p.index[about.ExternalID] == "" {
		if p.delete {
			return "", hydrate.ErrDeleted
		}
		return "", nil
	}
	return p.index[about.ExternalID], nil
}

func (p *place) Items(_ context.Context, contact canonical.ExternalID) ([]observation.Observation, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []observation.Observation
	for id, of := range p.there {
		if of == contact {
			out = append(out, p.record(canonical.KindNote, id, contact))
		}
	}
	return out, nil
}

func goPlace(t *testing.T, c *bus.Conn, p *place) {
	t.Helper()
	bustest.Go(t, func(ctx context.Context) error {
		return hydrate.Run(ctx, hydrate.Config{Bus: c, Clock: clock.System{}, Logger: zerolog.Nop(), Tenant: "a", Fetchers: map[canonical.System]hydrate.Fetcher{canonical.GHL: p}})
	})
}

func shown(t *testing.T, c *bus.Conn, kind canonical.Kind) (out []observation.Observation) {
	t.Helper()
	for _, m := range bustest.All(t, c, streams.RAW) {
		if o, err := observation.Decode(m.Data); err != nil {
			t.Fatal(err)
		} else if o.Kind == kind && o.Via == observation.Fetch {
			out = append(out, o)
		}
	}
	return out
}

func about(t *testing.T, c *bus.Conn, via observation.Via, parent canonical.ExternalID) {
	t.Helper()
	o := observation.Observation{System: canonical.GHL, Tenant: "a", Kind: canonical.KindTask, ExternalID: "t1", Via: via, Parent: parent, Record: []byte(`{}`)}
	body, err := o.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Publish(t.Context(), bus.Message{Subject: streams.Raw(o), Data: body}); err != nil {
		t.Fatal(err)
	}
}

func TestWhoseItemItIs(t *testing.T) {
	type ids = map[canonical.ExternalID]canonical.ExternalID
	tests := []struct {
		name   string
		place  place
		seen   canonical.ExternalID // by a poll before
		said   canonical.ExternalID // by the notice
		want   canonical.ExternalID // the contact it is seen to hang on; "" is that nothing is seen
		absent bool
	}{
		{"the notice says it", place{there: ids{"t1": "c1"}}, "", "c1", "c1", false},
		{"it was seen before", place{there: ids{"t1": "c1"}}, "c1", "", "c1", false},
		{"the search finds it", place{there: ids{"t1": "c1"}, index: ids{"t1": "c1"}}, "", "", "c1", false},
		{"the search finds it later", place{there: ids{"t1": "c1"}, index: ids{"t1": "c1"}, lag: 2}, "", "", "c1", false},
		{"it has moved", place{there: ids{"t1": "c2"}, index: ids{"t1": "c2"}}, "c1", "", "c2", false},
		{"deleted, the notice says whose", place{delete: true}, "", "c1", "c1", true},
		{"deleted, it was seen before", place{delete: true}, "c1", "", "c1", true},
		{"deleted with its contact", place{delete: true, alone: true}, "", "c1", "c1", true},
		{"deleted, the index is behind", place{index: ids{"t1": "c1"}, delete: true}, "c1", "", "c1", true},
		{"deleted, nobody knows whose", place{delete: true}, "", "", "", false},
		{"made and deleted, and nobody told", place{}, "", "", "", false},
	}
	for i := range tests {
		tt := &tests[i]
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := bustest.Start(t)
			if tt.seen != "" {
				about(t, c, observation.Poll, tt.seen)
			}
			about(t, c, observation.Notice, tt.said)
			goPlace(t, c, &tt.place)
			bustest.Settled(t, c, streams.RAW, streams.Hydrate("a").Durable)
			got := shown(t, c, canonical.KindTask)
			if tt.want == "" && len(got) == 0 {
				if tt.place.calls < 2 {
					t.Error("it was looked for once only")
				}
			} else if len(got) != 1 || got[0].Parent != tt.want || got[0].Absent != tt.absent || got[0].ParentGone != tt.place.alone {
				t.Errorf("got %+v", got)
			}
			if dead := bustest.All(t, c, streams.DEAD); len(dead) > 0 {
				t.Errorf("dead letters: %v", dead)
			}
		})
	}
}

func TestAContactsNotes(t *testing.T) {
	c := bustest.Start(t)
	p := &place{there: map[canonical.ExternalID]canonical.ExternalID{"n1": "c1", "n2": "c1", "n3": "c2"}}
	goPlace(t, c, p)
	step := func(want, absent int) {
		t.Helper()
		notice(t, c, canonical.KindContact, "c1", time.Time{})
		bustest.Settled(t, c, streams.RAW, streams.Hydrate("a").Durable)
		got, gone := shown(t, c, canonical.KindNote), 0
		for _, o := range got {
			if o.Absent {
				gone++
			}
		}
		if len(got) != want || gone != absent {
			t.Errorf("got %+v", got)
		}
	}
	step(2, 0)
	step(2, 0) // the same again
	p.set(func() { delete(p.there, "n1") })
	step(3, 1)
	step(3, 1)
}

// herald is a fetcher whose notices of kind "made" say no more than that.
type herald struct{ *fetcher }

func (herald) Announces(n observation.Observation) bool {
	return strings.Contains(string(n.Record), "made")
}

func (herald) Adds(n, sight observation.Observation) bool {
	return strings.Contains(string(n.Record), "more") || string(sight.Record) != `{"id":"x"}`
}

// TestOurOwnCreate: the notice of a record that we made leads to no fetch; one
// that may say anything else does.
func TestOurOwnCreate(t *testing.T) {
	answered := observation.Observation{Via: observation.Writeback, Endpoint: observation.GHLContactGet, ReadBegan: noon, Modified: noon, Record: []byte(`{"id":"x"}`)}
	gone := observation.Observation{Via: observation.Fetch, ReadBegan: noon.Add(time.Minute), Absent: true}
	changed := observation.Observation{Via: observation.Fetch, ReadBegan: noon.Add(time.Minute), Record: []byte(`{"id":"x","a":1}`)}
	made, more, update := []byte(`{"type":"made"}`), []byte(`{"type":"made","more":1}`), []byte(`{"type":"update"}`)
	tests := []struct {
		name    string
		sights  []observation.Observation
		notices [][]byte
		polled  time.Time
		fetches int
	}{
		{"ours", []observation.Observation{answered}, [][]byte{made}, time.Time{}, 0},
		{"ours, twice", []observation.Observation{answered}, [][]byte{made, made}, time.Time{}, 0},
		{"somebody's", nil, [][]byte{made}, time.Time{}, 1},
		{"it shows more than was answered", []observation.Observation{answered}, [][]byte{more}, time.Time{}, 1},
		{"an update", []observation.Observation{answered}, [][]byte{update}, time.Time{}, 1},
		{"an update that came before it", []observation.Observation{answered}, [][]byte{update, made}, time.Time{}, 1},
		{"gone since", []observation.Observation{answered, gone}, [][]byte{made}, time.Time{}, 1},
		{"changed since", []observation.Observation{answered, changed}, [][]byte{made}, time.Time{}, 1},
		{"a poll that saw what was answered", []observation.Observation{answered}, [][]byte{nil}, noon, 0},
		{"a poll that saw something newer", []observation.Observation{answered}, [][]byte{nil}, noon.Add(time.Millisecond), 1},
		{"a poll that saw what nobody wrote", nil, [][]byte{nil}, noon, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := bustest.Start(t)
			publish := func(o observation.Observation) {
				o.System, o.Tenant, o.Kind, o.ExternalID = canonical.GHL, "a", canonical.KindContact, "x"
				body, err := o.Encode()
				if err != nil {
					t.Fatal(err)
				}
				if _, err := c.Publish(t.Context(), bus.Message{Subject: streams.Raw(o), Data: body}); err != nil {
					t.Fatal(err)
				}
			}
			for _, o := range tt.sights {
				publish(o)
			}
			for _, body := range tt.notices {
				publish(observation.Observation{Via: observation.Notice, Modified: tt.polled, Record: body})
			}
			f := &fetcher{count: map[canonical.ExternalID]int{}}
			bustest.Go(t, func(ctx context.Context) error {
				return hydrate.Run(ctx, hydrate.Config{Bus: c, Clock: clock.System{}, Logger: zerolog.Nop(), Tenant: "a", Fetchers: map[canonical.System]hydrate.Fetcher{canonical.GHL: herald{f}}})
			})
			bustest.Settled(t, c, streams.RAW, streams.Hydrate("a").Durable)
			if got := f.fetched("x"); got != tt.fetches {
				t.Errorf("fetched %d times, want %d", got, tt.fetches)
			}
		})
	}
}
