package poll_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goccy/go-json"
	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/ingest/poll"
	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

var noon = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// lister has records by number, ten to a page.
type lister struct {
	mu       sync.Mutex
	modified []time.Time
	queries  []poll.Query
	fail     func(page int) error
	partial  bool
}

func (l *lister) List(_ context.Context, q poll.Query) (poll.Page, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	start := 0
	if q.Cursor != nil {
		if err := json.Unmarshal(q.Cursor, &start); err != nil {
			return poll.Page{}, err
		}
	}
	if l.fail != nil {
		if err := l.fail(start / 10); err != nil {
			return poll.Page{}, err
		}
	}
	l.queries = append(l.queries, q)
	page := poll.Page{Partial: l.partial}
	n := start
	for ; n < len(l.modified) && n < start+10; n++ {
		if l.modified[n].Before(q.Since) {
			continue
		}
		page.Observations = append(page.Observations, observation.Observation{ExternalID: canonical.ExternalID("r" + strconv.Itoa(n)), Endpoint: observation.GHLContactSearch,
			ReadBegan: noon, Modified: l.modified[n], Record: []byte(fmt.Sprintf(`{"id":"r%d","m":%d}`, n, l.modified[n].Unix()))})
	}
	if n < len(l.modified) {
		page.Next, _ = json.Marshal(n)
	}
	return page, nil
}

func (l *lister) touch(n int, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.modified[n] = at
}

func (l *lister) asked() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queries)
}

func records(n int) *lister {
	l := &lister{}
	for range n {
		l.modified = append(l.modified, noon)
	}
	return l
}

func config(c *bus.Conn, l poll.Lister) poll.Config {
	return poll.Config{Bus: c, Clock: clock.System{}, Logger: zerolog.Nop(), System: canonical.GHL, Tenant: "a", Lister: l, Backfill: true, Every: 20 * time.Millisecond, Overlap: time.Minute}
}

// count returns how often each record was published, by via.
func count(t *testing.T, c *bus.Conn) map[string]int {
	t.Helper()
	out := map[string]int{}
	for _, m := range bustest.All(t, c, streams.RAW) {
		o, err := observation.Decode(m.Data)
		if err != nil {
			t.Fatal(err)
		}
		out[string(o.Via)+" "+string(o.ExternalID)]++
		out[string(o.Via)]++
	}
	return out
}

func TestBackfillThenPoll(t *testing.T) {
	c, l := bustest.Start(t), records(25)
	bustest.Go(t, func(ctx context.Context) error { return poll.Run(ctx, config(c, l)) })
	bustest.Until(t, func() bool { return l.asked() > 6 })
	if got := count(t, c); got["backfill"] != 25 || got["poll"] != 0 {
		t.Errorf("after the backfill: %v", got)
	}
	// The sink is told how far the transform has to be.
	walk := func() (w streams.Walk) {
		t.Helper()
		kv, err := c.Bucket(t.Context(), streams.CURSORS)
		if err != nil {
			t.Fatal(err)
		}
		value, _, err := kv.Get(t.Context(), streams.WalkKey(canonical.GHL, "a", canonical.KindContact))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(value, &w); err != nil {
			t.Fatal(err)
		}
		return w
	}
	if got := walk(); !got.Backfilled || got.Last != 25 || got.Shown != 25 || got.Rate <= 0 || got.Left() != 0 {
		t.Errorf("after the backfill CURSORS says %+v", got)
	}
	l.touch(7, time.Now().Add(time.Hour))
	bustest.Until(t, func() bool { return count(t, c)["poll r7"] == 1 })
	asked := l.asked()
	bustest.Until(t, func() bool { return l.asked() > asked+9 })
	if got := count(t, c); got["poll"] != 1 || got["backfill"] != 25 {
		t.Errorf("what is in the overlap was published again: %v", got)
	}
	if got := walk().Last; got != 25 {
		t.Errorf("the polls have moved the end of the backfill to %d", got)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, q := range l.queries[3:] {
		if q.Since.IsZero() {
			t.Error("a poll asked for everything")
		}
	}
}

func TestAWalkGoesOnWhereItWas(t *testing.T) {
	c, l := bustest.Start(t), records(45)
	broken := errors.New("the site is away")
	var failed atomic.Bool
	l.fail = func(page int) error {
		if page == 3 {
			failed.Store(true)
			return broken
		}
		return nil
	}
	stop := bustest.Go(t, func(ctx context.Context) error { return poll.Run(ctx, config(c, l)) })
	bustest.Until(t, failed.Load)
	stop()
	l.mu.Lock()
	l.fail = nil
	l.mu.Unlock()
	cfg := config(c, l)
	cfg.Every = 0
	bustest.Go(t, func(ctx context.Context) error { return poll.Run(ctx, cfg) })
	bustest.Until(t, func() bool { return count(t, c)["backfill"] == 45 })
	if got := l.asked(); got != 5 {
		t.Errorf("45 records in pages of ten took %d questions", got)
	}
}

// TestAKilledWalkIsTakenUp: one that could not give its lease back is relieved
// when that has run out, where it was.
func TestAKilledWalkIsTakenUp(t *testing.T) {
	c, l := bustest.Start(t), records(45)
	now := time.Now()
	left := fmt.Sprintf(`{"backfilled":false,"shown":20,"total":45,"rate":5,"cursor":20,"began":%q,"due":%q}`, now.Format(time.RFC3339Nano), now.Add(300*time.Millisecond).Format(time.RFC3339Nano))
	if _, err := cursors(t, c).Create(t.Context(), streams.WalkKey(canonical.GHL, "a", canonical.KindContact), []byte(left)); err != nil {
		t.Fatal(err)
	}
	cfg := config(c, l)
	cfg.Every = 0
	bustest.Go(t, func(ctx context.Context) error { return poll.Run(ctx, cfg) })
	bustest.Until(t, func() bool { return count(t, c)["backfill r44"] == 1 })
	if got := count(t, c); got["backfill"] != 25 || got["backfill r19"] != 0 || got["backfill r20"] != 1 {
		t.Errorf("it took up with %v", got)
	}
	if time.Since(now) < 300*time.Millisecond {
		t.Error("it did not wait for the lease")
	}
}

func TestHowLongABackfillTakes(t *testing.T) {
	tests := []struct {
		walk streams.Walk
		want time.Duration
	}{
		{streams.Walk{Shown: 100, Total: 400, Rate: 10}, 30 * time.Second},
		{streams.Walk{Shown: 100, Total: 0, Rate: 10}, 0},
		{streams.Walk{Shown: 100, Total: 400}, 0},
		{streams.Walk{Shown: 100, Total: 400, Rate: 10, Backfilled: true}, 0},
	}
	for _, tt := range tests {
		if got := tt.walk.Left(); got != tt.want {
			t.Errorf("%+v: got %s, want %s", tt.walk, got, tt.want)
		}
	}
}

// TestALateRowIsNotSkipped: the watermark is at the newest that was seen, and
// what an index shows later although it is older is within the overlap.
func TestALateRowIsNotSkipped(t *testing.T) {
	c, l := bustest.Start(t), records(15)
	bustest.Go(t, func(ctx context.Context) error { return poll.Run(ctx, config(c, l)) })
	later := time.Now().Add(time.Hour)
	bustest.Until(t, func() bool { return count(t, c)["backfill"] == 15 })
	l.touch(7, later)
	bustest.Until(t, func() bool { return count(t, c)["poll r7"] == 1 })
	asked := l.asked()
	bustest.Until(t, func() bool { return l.asked() > asked+3 }) // the watermark has moved
	l.touch(3, later.Add(-30*time.Second))
	bustest.Until(t, func() bool { return count(t, c)["poll r3"] == 1 })
}

// TestOneWalks: of several instances one walks at a time.
func TestOneWalks(t *testing.T) {
	c, l := bustest.Start(t), records(95)
	for range 3 {
		cfg := config(c, l)
		cfg.Every = 0
		bustest.Go(t, func(ctx context.Context) error { return poll.Run(ctx, cfg) })
	}
	bustest.Until(t, func() bool { return count(t, c)["backfill"] == 95 })
	if got := l.asked(); got != 10 {
		t.Errorf("95 records in pages of ten took %d questions", got)
	}
}

func TestPartialRowsAreFollowedByANotice(t *testing.T) {
	c, l := bustest.Start(t), records(3)
	l.partial = true
	bustest.Go(t, func(ctx context.Context) error { return poll.Run(ctx, config(c, l)) })
	bustest.Until(t, func() bool { return l.asked() > 5 })
	if got := count(t, c); got["backfill"] != 3 || got["notice"] != 3 || got["notice r1"] != 1 {
		t.Errorf("got %v", got)
	}
	l.touch(1, time.Now().Add(time.Hour))
	bustest.Until(t, func() bool { return count(t, c)["notice r1"] == 2 })
}

func TestWithoutBackfillOnlyWhatChangesFromNowOn(t *testing.T) {
	c, l := bustest.Start(t), records(5)
	cfg := config(c, l)
	cfg.Backfill = false
	bustest.Go(t, func(ctx context.Context) error { return poll.Run(ctx, cfg) })
	bustest.Until(t, func() bool { return l.asked() > 2 })
	l.touch(2, time.Now().Add(time.Hour))
	bustest.Until(t, func() bool { return count(t, c)["poll r2"] == 1 })
	if got := count(t, c); got["poll"] != 1 || got["backfill"] != 0 {
		t.Errorf("got %v", got)
	}
}
