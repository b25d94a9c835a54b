package poll_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/goccy/go-json"
	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/ingest/poll"
	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

// office is a system of contacts with a first name each, ten to a page, in
// order of their ids. Its list may be behind.
type office struct {
	mu     sync.Mutex
	names  map[canonical.ExternalID]string
	listed map[canonical.ExternalID]string // what the list shows; nil for names
	fail   error
	lists  int
	gets   int
	during func() // called in each fetch
}

func (o *office) observe(id canonical.ExternalID, name, endpoint string) observation.Observation {
	return observation.Observation{ExternalID: id, Endpoint: endpoint, ReadBegan: time.Now(), Record: []byte(`{"id":"` + string(id) + `","firstName":"` + name + `"}`)}
}

func (o *office) List(_ context.Context, q poll.Query) (poll.Page, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lists++
	if o.fail != nil {
		return poll.Page{}, o.fail
	}
	start := 0
	if q.Cursor != nil {
		if err := json.Unmarshal(q.Cursor, &start); err != nil {
			return poll.Page{}, err
		}
	}
	listed := o.names
	if o.listed != nil {
		listed = o.listed
	}
	ids := slices.Sorted(maps.Keys(listed))
	page := poll.Page{Total: len(ids)}
	for _, id := range ids[start:min(start+10, len(ids))] {
		page.Observations = append(page.Observations, o.observe(id, listed[id], observation.GHLContactSearch))
	}
	if start+10 < len(ids) {
		page.Next, _ = json.Marshal(start + 10)
	}
	return page, nil
}

func (o *office) Fetch(_ context.Context, about observation.Observation) (observation.Observation, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.gets++
	if o.during != nil {
		o.during()
	}
	name, ok := o.names[about.ExternalID]
	if !ok {
		return observation.Observation{}, &apierr.Error{System: "ghl", Op: "get contact", Class: apierr.Gone}
	}
	return o.observe(about.ExternalID, name, observation.GHLContactGet), nil
}

func (o *office) do(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f()
}

// known makes n contacts that are known just as the office shows them.
func known(t *testing.T, c *bus.Conn, n int) *office {
	t.Helper()
	o := &office{names: map[canonical.ExternalID]string{}}
	links, err := c.Bucket(t.Context(), streams.IDENTITY)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		x, name := canonical.ExternalID(fmt.Sprintf("r%03d", i)), fmt.Sprintf("Ada%d", i)
		o.names[x] = name
		id := canonical.NewID("a", canonical.KindContact, canonical.GHL, x)
		e := canonical.Event{Version: 1, Contact: canonical.Contact{ID: id, FirstName: name}, Links: map[canonical.System][]canonical.ExternalID{canonical.GHL: {x}},
			Sync: canonical.Sync{Base: map[canonical.System]canonical.Base{canonical.GHL: {External: x, Fields: map[string]string{"first_name": name}, Tagged: true, Grouped: true}}}}
		data, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Publish(t.Context(), bus.Message{Subject: streams.Canonical(canonical.KindContact, "a", id, canonical.OpCreated), Data: data}); err != nil {
			t.Fatal(err)
		}
		if _, err := links.Put(t.Context(), streams.LinkKey("a", canonical.KindContact, canonical.GHL, x), []byte(id)); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

func reconciles(c *bus.Conn, o *office) poll.ReconcileConfig {
	return poll.ReconcileConfig{Bus: c, Clock: clock.System{}, Logger: zerolog.Nop(), System: canonical.GHL, Tenant: "a", Lens: mapping.Association("US"), Reader: o}
}

func goReconcile(t *testing.T, cfg poll.ReconcileConfig) (stop func()) {
	return bustest.Go(t, func(ctx context.Context) error { return poll.RunReconcile(ctx, cfg) })
}

func cursors(t *testing.T, c *bus.Conn) bus.KV {
	t.Helper()
	kv, err := c.Bucket(t.Context(), streams.CURSORS)
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

func put(t *testing.T, c *bus.Conn, r streams.Reconcile) {
	t.Helper()
	value, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cursors(t, c).Put(t.Context(), streams.ReconcileKey(canonical.GHL, "a"), value); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, c *bus.Conn) (r streams.Reconcile) {
	t.Helper()
	value, _, err := cursors(t, c).Get(t.Context(), streams.ReconcileKey(canonical.GHL, "a"))
	if err != nil {
		return r
	}
	if err := json.Unmarshal(value, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// ask asks for a reconcile and waits for its end.
func ask(t *testing.T, c *bus.Conn, r streams.Reconcile) streams.Reconcile {
	t.Helper()
	r.State = streams.ReconcileAsked
	put(t, c, r)
	var got streams.Reconcile
	bustest.Until(t, func() bool { got = get(t, c); return !got.Open() })
	return got
}

func TestReconcile(t *testing.T) {
	spoil := func(o *office) {
		o.names["r003"] = "Eva"    // changed, and nobody told us
		o.names["x001"] = "Nobody" // made
		delete(o.names, "r007")    // gone
		o.listed = maps.Clone(o.names)
		delete(o.listed, "r009") // the list is behind: it is there
		o.listed["r011"] = "Old" // and shows what was
		o.listed["x002"] = "Was" // and who is gone
	}
	tests := []struct {
		name  string
		ask   streams.Reconcile
		state streams.ReconcileState
		want  map[string]int // what RAW is told
	}{
		{"repaired", streams.Reconcile{ID: "1", Max: 10}, streams.ReconcileDone, map[string]int{"reconcile": 3, "reconcile r003": 1, "reconcile x001": 1, "reconcile r007": 1}},
		{"only looked at", streams.Reconcile{ID: "1", Max: 10, DryRun: true}, streams.ReconcileDone, map[string]int{}},
		{"too many", streams.Reconcile{ID: "1", Max: 2}, streams.ReconcileHeld, map[string]int{}},
		{"another kind", streams.Reconcile{ID: "1", Max: 10, Kinds: []canonical.Kind{canonical.KindTask}}, streams.ReconcileDone, map[string]int{}},
		{"after a restore", streams.Reconcile{ID: "1", Max: 10, Restored: true}, streams.ReconcileDone, map[string]int{"reconcile": 3, "reconcile r003": 1, "reconcile x001": 1, "reconcile r007": 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := bustest.Start(t)
			o := known(t, c, 25)
			spoil(o)
			goReconcile(t, reconciles(c, o))
			got := ask(t, c, tt.ask)
			if raw := count(t, c); got.State != tt.state || !maps.Equal(raw, tt.want) {
				t.Errorf("it is %s, and RAW was told %v, want %s and %v", got.State, raw, tt.state, tt.want)
			}
			d := got.Drift[canonical.KindContact]
			if tt.name == "another kind" {
				if d != (streams.Drift{}) {
					t.Errorf("contacts were read: %+v", d)
				}
				return
			}
			want := streams.Drift{Total: 25, Read: 25, Same: 23, Differing: 1, MissingHere: 1, MissingThere: 1, Repaired: tt.want["reconcile"]}
			if tt.name == "too many" {
				want.Same, want.Unlooked = d.Same, d.Unlooked // it is not looked further
			}
			if d != want {
				t.Errorf("got %+v, want %+v", d, want)
			}
			for _, x := range got.Differences {
				if x.Record == "r003" && (!slices.Equal(x.Fields, []string{"first_name"}) || x.What != streams.Differing || x.Entity == "") {
					t.Errorf("got %+v", x)
				}
			}
			for _, m := range bustest.All(t, c, streams.RAW) {
				seen, err := observation.Decode(m.Data)
				if err != nil || seen.Restored != tt.ask.Restored || seen.Absent != (seen.ExternalID == "r007") {
					t.Errorf("got %+v, %v", seen, err)
				}
			}
		})
	}
}

func TestAReconcileIsStopped(t *testing.T) {
	c := bustest.Start(t)
	o := known(t, c, 5)
	o.fail = &apierr.Error{System: "ghl", Op: "search contacts", Class: apierr.Forbidden, Message: "the scope is gone"}
	goReconcile(t, reconciles(c, o))
	put(t, c, streams.Reconcile{ID: "1", Max: 10, State: streams.ReconcileAsked})
	var doc streams.Reconcile
	bustest.Until(t, func() bool { doc = get(t, c); return doc.Trouble != "" })
	doc.Stop = true
	put(t, c, doc)
	bustest.Until(t, func() bool { return get(t, c).State == streams.ReconcileStopped })
	o.do(func() { o.fail = nil })
	if got := ask(t, c, streams.Reconcile{ID: "2", Max: 10}); got.State != streams.ReconcileDone || got.Drift[canonical.KindContact].Same != 5 {
		t.Errorf("the next one: %+v", got)
	}
}

// TestAReconcileIsTakenOver: an instance that stops in the middle leaves the
// work to another, which begins anew.
func TestAReconcileIsTakenOver(t *testing.T) {
	c := bustest.Start(t)
	o := known(t, c, 25)
	away := &apierr.Error{System: "ghl", Op: "search contacts", Class: apierr.Retry}
	o.fail = away
	stop := goReconcile(t, reconciles(c, o))
	put(t, c, streams.Reconcile{ID: "1", Max: 10, State: streams.ReconcileAsked})
	bustest.Until(t, func() bool { return get(t, c).Trouble != "" })
	stop()
	if got := get(t, c); got.State != streams.ReconcileRunning {
		t.Fatalf("it was left as %s", got.State)
	}
	o.do(func() { o.fail = nil; o.names["r003"] = "Eva" })
	goReconcile(t, reconciles(c, o))
	bustest.Until(t, func() bool { return get(t, c).State == streams.ReconcileDone })
	if got := get(t, c).Drift[canonical.KindContact]; got.Read != 25 || got.Repaired != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestAReconcileBySchedule(t *testing.T) {
	c := bustest.Start(t)
	o := known(t, c, 5)
	o.names["r003"] = "Eva"
	cfg := reconciles(c, o)
	cfg.Every, cfg.Max = 10*time.Millisecond, 3
	ended := make(chan streams.Reconcile, 10)
	cfg.Report = func(r streams.Reconcile) { ended <- r }
	goReconcile(t, cfg)
	r := <-ended
	if !r.Scheduled || r.State != streams.ReconcileDone || r.Drift[canonical.KindContact].Repaired != 1 {
		t.Errorf("got %+v", r)
	}
	if next := get(t, c).Next; !next.After(r.Ended) {
		t.Errorf("the next is at %s, after %s", next, r.Ended)
	}
}

// TestARestoredSystemIsNotPolled until it is reconciled.
func TestARestoredSystemIsNotPolled(t *testing.T) {
	c, l := bustest.Start(t), records(5)
	put(t, c, streams.Reconcile{ID: "1", State: streams.ReconcileAsked, Restored: true})
	held := &clockCount{}
	cfg := config(c, l)
	cfg.Clock = held
	bustest.Go(t, func(ctx context.Context) error { return poll.Run(ctx, cfg) })
	bustest.Until(t, func() bool { return held.waits() > 2 })
	if got := l.asked(); got > 0 {
		t.Errorf("it was asked %d times", got)
	}
	put(t, c, streams.Reconcile{ID: "1", State: streams.ReconcileDone, Restored: true})
	bustest.Until(t, func() bool { return count(t, c)["backfill"] == 5 })
}

// clockCount never waits long, and counts how often it was asked to.
type clockCount struct {
	clock.System
	mu sync.Mutex
	n  int
}

func (c *clockCount) After(time.Duration) <-chan time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	return c.System.After(time.Millisecond)
}

func (c *clockCount) waits() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// TestReconcileIsTakenUp: one whose process dies is not begun anew.
func TestReconcileIsTakenUp(t *testing.T) {
	c := bustest.Start(t)
	const contacts, page = 60, 10
	o := known(t, c, contacts)
	o.names["r005"], o.names["r055"] = "Eve", "Eve" // one on a page before it dies, one after
	delete(o.names, "r015")
	kv := cursors(t, c)
	put(t, c, streams.Reconcile{ID: "asked", Max: contacts, State: streams.ReconcileAsked})
	first := reconciles(c, o)
	stops := &stopsAfter{office: o, pages: 3, reached: make(chan struct{})}
	first.Reader = stops
	stop := goReconcile(t, first)
	<-stops.reached
	stop()

	parts, err := kv.Keys(t.Context(), streams.ReconcileParts(canonical.GHL, "a"))
	if err != nil || len(parts) != 3 {
		t.Fatalf("%d pages are kept, want 3: %v", len(parts), err)
	}
	o.do(func() { o.lists = 0 })
	stop = goReconcile(t, reconciles(c, o))
	defer stop()
	var doc streams.Reconcile
	bustest.Until(t, func() bool { doc = get(t, c); return !doc.Open() })
	if d := doc.Drift[canonical.KindContact]; doc.State != streams.ReconcileDone || d.Read != contacts-1 || d.Differing != 2 || d.MissingThere != 1 || d.Repaired != 3 {
		t.Errorf("%s, %+v", doc.State, d)
	}
	o.do(func() {
		if want := (contacts+page-1)/page - 3; o.lists != want {
			t.Errorf("%d pages were read after it had died, want %d", o.lists, want)
		}
	})
	bustest.Until(t, func() bool {
		parts, err := kv.Keys(t.Context(), streams.ReconcileParts(canonical.GHL, "a"))
		return err == nil && len(parts) == 0
	})
}

// stopsAfter is an office whose list gives no answer after some pages.
type stopsAfter struct {
	*office
	pages   int
	reached chan struct{}
}

func (s *stopsAfter) List(ctx context.Context, q poll.Query) (poll.Page, error) {
	if s.pages == 0 {
		close(s.reached)
		<-ctx.Done()
		return poll.Page{}, context.Cause(ctx)
	}
	s.pages--
	return s.office.List(ctx, q)
}
