package hold_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goccy/go-json"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/hold"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

const tenant = canonical.Tenant("alpine-guild")

// watch is a clock that the test moves.
type watch struct {
	mu sync.Mutex
	at time.Time
}

func newWatch() *watch { return &watch{at: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)} }

func (w *watch) Now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at
}

func (w *watch) After(time.Duration) <-chan time.Time { return nil }

func (w *watch) move(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at = w.at.Add(d)
}

func gate(c *bus.Conn, w *watch, limit mapping.Hold) *hold.Gate {
	return hold.New(hold.Config{Bus: c, Clock: w, Logger: zerolog.Nop(), Tenant: tenant, Limit: limit})
}

// gauge is what causeway_holds says.
func gauge(t *testing.T, g *hold.Gate) float64 {
	t.Helper()
	r := prometheus.NewRegistry()
	if err := r.Register(g.Metric()); err != nil {
		t.Fatal(err)
	}
	got, err := r.Gather()
	if err != nil || len(got) != 1 || got[0].GetName() != "causeway_holds" {
		t.Fatalf("gather: %v %v", got, err)
	}
	return got[0].GetMetric()[0].GetGauge().GetValue()
}

func usual() mapping.Hold { return (*mapping.Policy)(nil).Hold() }

// entities makes n of them on CANONICAL.
func entities(t *testing.T, c *bus.Conn, from, n int, op canonical.Op) {
	t.Helper()
	for i := from; i < from+n; i++ {
		id := canonical.CanonicalID(fmt.Sprintf("e%d", i))
		if _, err := c.Publish(t.Context(), bus.Message{Subject: streams.Canonical(canonical.KindTask, tenant, id, op), Data: []byte("{}")}); err != nil {
			t.Fatal(err)
		}
	}
}

func number(i int) hold.Delete {
	return hold.Delete{System: canonical.Novi, Kind: canonical.KindTask, ID: canonical.CanonicalID(fmt.Sprintf("e%d", i)), External: canonical.ExternalID(fmt.Sprintf("n%d", i)), Version: 7}
}

func admit(t *testing.T, g *hold.Gate, d hold.Delete) bool {
	t.Helper()
	ok, err := g.Admit(t.Context(), d, false)
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

// admitted tries n deletes and returns how many may be sent.
func admitted(t *testing.T, g *hold.Gate, n int) (count int) {
	t.Helper()
	for i := range n {
		if admit(t, g, number(i)) {
			count++
		}
	}
	return count
}

func list(t *testing.T, c *bus.Conn) []hold.Tenant {
	t.Helper()
	out, err := hold.List(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func show(t *testing.T, c *bus.Conn) []hold.Delete {
	t.Helper()
	out, err := hold.Show(t.Context(), c, tenant)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func release(t *testing.T, c *bus.Conn, w *watch, drop bool) int {
	t.Helper()
	n, err := hold.Release(t.Context(), c, tenant, drop, w.Now())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// said returns the entities that RAW has something about, by via.
func said(t *testing.T, c *bus.Conn) map[observation.Via]map[canonical.CanonicalID]int {
	t.Helper()
	out := map[observation.Via]map[canonical.CanonicalID]int{observation.Wake: {}, observation.Keep: {}}
	for _, m := range bustest.All(t, c, streams.RAW) {
		o, err := observation.Decode(m.Data)
		if err != nil {
			t.Fatal(err)
		}
		out[o.Via][o.Entity]++
	}
	return out
}

func TestBothHaveToBeExceeded(t *testing.T) {
	tests := []struct {
		name     string
		limit    mapping.Hold
		entities int
		gone     int // of them, that were deleted or merged
		deletes  int
		want     int
	}{
		{"few of few", usual(), 10, 0, 20, 20},
		{"many of few", usual(), 100, 0, 30, 20},
		{"many, and few of all", usual(), 1000, 0, 50, 50},
		{"many of all", usual(), 1000, 0, 60, 50},
		{"what is gone doesn't count", usual(), 1000, 500, 60, 25},
		{"of none", usual(), 0, 0, 30, 20},
		{"the count alone", mapping.Hold{Count: 3, Within: time.Minute}, 1000, 0, 5, 3},
		{"another percentage", mapping.Hold{Count: 1, Percent: 1, Within: time.Minute}, 1000, 0, 20, 10},
		{"switched off", mapping.Hold{Percent: 5, Within: time.Minute}, 0, 0, 60, 60},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, w := bustest.Start(t), newWatch()
			entities(t, c, 0, tt.entities, canonical.OpCreated)
			entities(t, c, 0, tt.gone/2, canonical.OpDeleted)
			entities(t, c, tt.gone/2, tt.gone-tt.gone/2, canonical.OpMerged)
			if got := admitted(t, gate(c, w, tt.limit), tt.deletes); got != tt.want {
				t.Errorf("%d of %d may be sent, want %d", got, tt.deletes, tt.want)
			}
			if got := len(show(t, c)); got != tt.deletes-tt.want {
				t.Errorf("%d are held, want %d", got, tt.deletes-tt.want)
			}
		})
	}
}

func TestOnlyWithinTheTime(t *testing.T) {
	c, w := bustest.Start(t), newWatch()
	g := gate(c, w, usual())
	for i := range 60 { // one each half minute and a little: never more than 20 within 10 minutes
		if !admit(t, g, number(i)) {
			t.Fatalf("the %dth is held", i+1)
		}
		w.move(31 * time.Second)
	}
	for i := range 2 {
		w.move(-15 * time.Second)
		admit(t, g, number(100+i))
	}
	if len(list(t, c)) != 1 {
		t.Error("two more in between are not held")
	}
}

func TestATryThatComesAgainCountsOnce(t *testing.T) {
	c, w := bustest.Start(t), newWatch()
	g := gate(c, w, usual())
	admitted(t, g, 20)
	for range 30 {
		if ok, err := g.Admit(t.Context(), number(3), true); !ok || err != nil {
			t.Fatalf("got %v %v", ok, err)
		}
	}
	if admit(t, g, number(20)) {
		t.Error("the 21st may be sent")
	}
	if ok, err := g.Admit(t.Context(), number(3), true); ok || err != nil {
		t.Errorf("while it is held one that was admitted before may be sent: %v %v", ok, err)
	}
}

func TestTheHoldIsToldOnce(t *testing.T) {
	c, w := bustest.Start(t), newWatch()
	entities(t, c, 0, 50, canonical.OpCreated)
	g := gate(c, w, usual())
	admitted(t, g, 30)
	if got := gauge(t, g); got != 1 {
		t.Errorf("causeway_holds is %v", got)
	}
	letters := bustest.All(t, c, streams.DEAD)
	if len(letters) != 1 || letters[0].Seq != 1 {
		t.Fatalf("%d letters", len(letters))
	}
	var letter envelope.DeadLetter
	if err := json.Unmarshal(letters[0].Data, &letter); err != nil {
		t.Fatal(err)
	}
	if letter.Stage != "sink" || letter.Tenant != tenant || !strings.Contains(letter.Reason, "21 deletes within 10m0s, of 50 entities") || !letter.At.Equal(w.Now()) {
		t.Errorf("got %+v", letter)
	}
	want := hold.Tenant{Tenant: tenant, Held: true, Since: w.Now(), Deletes: 21, Entities: 50, Waiting: 10}
	if got := list(t, c); len(got) != 1 || got[0] != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	release(t, c, w, false)
	if len(bustest.All(t, c, streams.DEAD)) > 0 {
		t.Error("the letter stays")
	}
}

// TestTwoSinksRace: of the deletes of two processes and both destinations
// together no more go than the limit.
func TestTwoSinksRace(t *testing.T) {
	c, w := bustest.Start(t), newWatch()
	var wg sync.WaitGroup
	var mu sync.Mutex
	sent := 0
	for _, system := range []canonical.System{canonical.GHL, canonical.Novi} {
		g := gate(bustest.Again(t, c), w, usual())
		for worker := range 4 {
			wg.Go(func() {
				for i := range 10 {
					d := number(10*worker + i)
					d.System = system
					ok, err := g.Admit(t.Context(), d, false)
					if err != nil {
						t.Error(err)
					}
					if ok {
						mu.Lock()
						sent++
						mu.Unlock()
					}
				}
			})
		}
	}
	wg.Wait()
	if sent != 20 || len(show(t, c)) != 60 {
		t.Errorf("%d may be sent and %d are held", sent, len(show(t, c)))
	}
}

func TestARestartRemembers(t *testing.T) {
	c, w := bustest.Start(t), newWatch()
	if got := admitted(t, gate(c, w, usual()), 15); got != 15 {
		t.Fatalf("%d may be sent", got)
	}
	if got := admitted(t, gate(c, w, usual()), 15); got != 5 {
		t.Errorf("after a restart %d may be sent", got)
	}
	w.move(24 * time.Hour)
	g := gate(c, w, usual())
	if admit(t, g, number(99)) {
		t.Error("a day later it is held no more")
	}
	stop := bustest.Go(t, g.Watch)
	bustest.Until(t, func() bool { return gauge(t, g) == 1 })
	stop()
}

func TestRelease(t *testing.T) {
	c, w := bustest.Start(t), newWatch()
	g := gate(c, w, usual())
	admitted(t, g, 60)
	if n := release(t, c, w, false); n != 40 {
		t.Errorf("%d are released", n)
	}
	woken := said(t, c)[observation.Wake]
	if len(woken) != 40 || woken["e20"] != 1 || woken["e19"] != 0 {
		t.Errorf("woken: %v", woken)
	}
	if got := list(t, c); len(got) != 1 || got[0].Held || got[0].Waiting != 40 {
		t.Errorf("got %+v", got)
	}
	// One came back; the others go on, and leave room for as many as ever.
	if err := g.Forget(t.Context(), canonical.Novi, canonical.KindTask, "e33"); err != nil {
		t.Fatal(err)
	}
	for i := 20; i < 60; i++ {
		if i != 33 && !admit(t, g, number(i)) {
			t.Fatalf("the %dth is held again", i)
		}
	}
	if got := list(t, c); len(got) > 0 {
		t.Errorf("got %+v", got)
	}
	for i := 100; i < 121; i++ {
		if got, want := admit(t, g, number(i)), i < 120; got != want {
			t.Errorf("delete %d after the release: %v", i, got)
		}
	}
	if err := g.Forget(t.Context(), canonical.Novi, canonical.KindTask, "e120"); err != nil || len(show(t, c)) != 1 {
		t.Errorf("what nobody has released was forgotten: %v", err)
	}
}

func TestDrop(t *testing.T) {
	c, w := bustest.Start(t), newWatch()
	g := gate(c, w, usual())
	admitted(t, g, 30)
	if n := release(t, c, w, true); n != 10 {
		t.Errorf("%d are dropped", n)
	}
	if got := said(t, c); len(got[observation.Keep]) != 10 || len(got[observation.Wake]) != 0 {
		t.Errorf("got %v", got)
	}
	if got := list(t, c); len(got) > 0 {
		t.Errorf("got %+v", got)
	}
	if got := admitted(t, g, 30); got != 20 {
		t.Errorf("after it %d may be sent", got)
	}
}

func TestNothingToRelease(t *testing.T) {
	c, w := bustest.Start(t), newWatch()
	admitted(t, gate(c, w, usual()), 3)
	if _, err := hold.Release(t.Context(), c, tenant, false, w.Now()); !errors.Is(err, hold.ErrNotHeld) {
		t.Errorf("got %v", err)
	}
}

// TestAnInterruptedRelease is finished by the next.
func TestAnInterruptedRelease(t *testing.T) {
	c, w := bustest.Start(t), newWatch()
	admitted(t, gate(c, w, usual()), 25)
	release(t, c, w, false)
	// As if it had ended before the wakes: nobody has looked.
	w.move(time.Second)
	if n := release(t, c, w, false); n != 5 {
		t.Errorf("%d are released", n)
	}
	if got := said(t, c)[observation.Wake]; got["e24"] != 2 {
		t.Errorf("woken: %v", got)
	}
}

// between is a broker on which something happens before a held delete is
// listed.
type between struct {
	*bus.Conn
	happens func()
}

func (b between) Bucket(ctx context.Context, name string) (bus.KV, error) {
	kv, err := b.Conn.Bucket(ctx, name)
	return hooked{kv, b.happens}, err
}

type hooked struct {
	bus.KV
	happens func()
}

func (h hooked) Put(ctx context.Context, key string, value []byte) (uint64, error) {
	h.happens()
	return h.KV.Put(ctx, key, value)
}

// TestReleasedBeforeItIsListed: a release that comes between the look at the
// hold and the entry on its list has not seen the entry. The delete goes.
func TestReleasedBeforeItIsListed(t *testing.T) {
	c, w := bustest.Start(t), newWatch()
	admitted(t, gate(c, w, usual()), 21)
	once := sync.OnceFunc(func() { release(t, c, w, false) })
	g := hold.New(hold.Config{Bus: between{c, once}, Clock: w, Logger: zerolog.Nop(), Tenant: tenant, Limit: usual()})
	if !admit(t, g, number(50)) {
		t.Error("it is held, and nobody will wake it")
	}
	if got := show(t, c); len(got) != 1 || got[0].ID != "e20" || !got[0].Released {
		t.Errorf("left: %+v", got)
	}
}

// TestReleasedWhileMoreIsHeld: whatever comes between, each delete may be sent
// or its entity is woken.
func TestReleasedWhileMoreIsHeld(t *testing.T) {
	c, w := bustest.Start(t), newWatch()
	sent := map[canonical.CanonicalID]bool{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for worker := range 4 {
		g := gate(bustest.Again(t, c), w, mapping.Hold{Count: 2, Within: time.Minute})
		wg.Go(func() {
			for i := range 40 {
				d := number(100*worker + i)
				ok, err := g.Admit(t.Context(), d, false)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				sent[d.ID] = ok
				mu.Unlock()
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for over := false; !over; {
		select {
		case <-done:
			over = true
		default:
		}
		if _, err := hold.Release(t.Context(), c, tenant, false, w.Now()); err != nil && !errors.Is(err, hold.ErrNotHeld) {
			t.Fatal(err)
		}
	}
	woken := said(t, c)[observation.Wake]
	for id, ok := range sent {
		if !ok && woken[id] == 0 {
			t.Errorf("%s was held, and nobody has woken it", id)
		}
	}
	if len(sent) != 160 {
		t.Errorf("%d deletes", len(sent))
	}
}
