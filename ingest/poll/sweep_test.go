package poll_test

import (
	"context"
	"errors"
	"strconv"
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
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

// shelf is a Sweeper of tasks in slots, ten to a page.
type shelf struct {
	mu     sync.Mutex
	titles []string // "" is deleted
	empty  bool     // shows nothing, though it is there
	fail   int      // the page that fails; 0 is none
	refuse bool     // the credentials allow no page but the first, and no fetch
	sweeps int      // that were read to the end
	gets   int
	got    int // how many sweeps there were at the first of these
	failed int
	// contactGone says that the contact of all is not there.
	contactGone bool
}

func (s *shelf) observe(n int, endpoint string) observation.Observation {
	return observation.Observation{Kind: canonical.KindTask, ExternalID: canonical.ExternalID("t" + strconv.Itoa(n)), Parent: "c1", Endpoint: endpoint,
		ReadBegan: time.Now(), Record: []byte(`{"title":"` + s.titles[n] + `"}`)}
}

func (s *shelf) Kinds() []canonical.Kind { return []canonical.Kind{canonical.KindTask} }

func (s *shelf) Covers(observation.Observation) bool { return true }

func (s *shelf) Sweep(_ context.Context, cursor json.RawMessage) (poll.Page, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	start := 0
	if cursor != nil {
		if err := json.Unmarshal(cursor, &start); err != nil {
			return poll.Page{}, err
		}
	}
	if s.refuse && start > 0 {
		s.failed++
		return poll.Page{}, refused
	}
	if s.fail > 0 && start == 10*s.fail {
		s.failed++
		return poll.Page{}, errors.New("the site is away")
	}
	var page poll.Page
	n := start
	for ; n < len(s.titles) && n < start+10; n++ {
		if s.titles[n] != "" && !s.empty {
			page.Observations = append(page.Observations, s.observe(n, observation.GHLTaskSearch))
		}
	}
	if n < len(s.titles) {
		page.Next, _ = json.Marshal(n)
	} else {
		s.sweeps++
	}
	return page, nil
}

// refused is what a system answers whose token has lost a scope.
var refused = &apierr.Error{System: "ghl", Op: "get task", Status: 403, Class: apierr.Forbidden}

func (s *shelf) Fetch(_ context.Context, about observation.Observation) (observation.Observation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse {
		s.gets++
		return observation.Observation{}, refused
	}
	if about.Kind == canonical.KindContact {
		if s.contactGone {
			return observation.Observation{}, &apierr.Error{System: "ghl", Op: "get contact", Class: apierr.Gone}
		}
		return observation.Observation{Kind: about.Kind, ExternalID: about.ExternalID, Record: []byte(`{}`)}, nil
	}
	if s.gets++; s.gets == 1 {
		s.got = s.sweeps
	}
	n, err := strconv.Atoi(string(about.ExternalID[1:]))
	if err != nil || s.titles[n] == "" || about.Parent != "c1" {
		return observation.Observation{}, &apierr.Error{System: "ghl", Op: "get task", Class: apierr.Gone}
	}
	return s.observe(n, observation.GHLTaskGet), nil
}

// change changes the shelf, and returns how many sweeps there were before.
func (s *shelf) change(f func()) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	return s.sweeps
}

// more waits until n more sweeps have begun after the one that may be under way.
func (s *shelf) more(t *testing.T, n int) {
	t.Helper()
	before := s.change(func() {})
	bustest.Until(t, func() bool { return s.change(func() {}) > before+n })
}

func newShelf(n int) *shelf {
	s := &shelf{}
	for i := range n {
		s.titles = append(s.titles, "task "+strconv.Itoa(i))
	}
	return s
}

func sweeps(c *bus.Conn, s *shelf) poll.SweepConfig {
	return poll.SweepConfig{Bus: c, Clock: clock.System{}, Logger: zerolog.Nop(), System: canonical.GHL, Tenant: "a", Name: "task", Sweeper: s, Every: 10 * time.Millisecond}
}

func goSweep(t *testing.T, cfg poll.SweepConfig) (stop func()) {
	return bustest.Go(t, func(ctx context.Context) error { return poll.RunSweep(ctx, cfg) })
}

func absences(t *testing.T, c *bus.Conn) (ids []canonical.ExternalID) {
	t.Helper()
	for _, m := range bustest.All(t, c, streams.RAW) {
		o, err := observation.Decode(m.Data)
		if err != nil {
			t.Fatal(err)
		}
		if o.Via == observation.Notice {
			continue
		}
		if o.Parent != "c1" || o.ReadBegan.IsZero() {
			t.Errorf("got %+v", o)
		}
		if o.Absent {
			ids = append(ids, o.ExternalID)
		}
	}
	return ids
}

func TestASweepPublishesWhatChangedOnce(t *testing.T) {
	c, s := bustest.Start(t), newShelf(25)
	goSweep(t, sweeps(c, s))
	s.more(t, 2)
	if got := count(t, c); got["poll"] != 25 {
		t.Errorf("got %v", got)
	}
	s.change(func() { s.titles[7] = "edited" })
	s.more(t, 2)
	if got := count(t, c); got["poll t7"] != 2 || got["poll"] != 26 {
		t.Errorf("after an edit: %v", got)
	}
}

func TestAbsenceTakesTwoSweepsAndTheSystemsWord(t *testing.T) {
	c, s := bustest.Start(t), newShelf(25)
	goSweep(t, sweeps(c, s))
	s.more(t, 1)
	at := s.change(func() { s.titles[3] = "" })
	bustest.Until(t, func() bool { return len(absences(t, c)) == 1 })
	s.more(t, 3)
	if got := absences(t, c); len(got) != 1 || got[0] != "t3" {
		t.Errorf("absent: %v", got)
	}
	s.change(func() {
		if s.gets != 1 || s.got < at+2 {
			t.Errorf("asked for %d times, first after %d sweeps", s.gets, s.got-at)
		}
	})
}

func TestAbsenceWithItsContact(t *testing.T) {
	for _, gone := range []bool{false, true} {
		c, s := bustest.Start(t), newShelf(3)
		s.contactGone = gone
		goSweep(t, sweeps(c, s))
		s.more(t, 1)
		s.change(func() { s.titles[1] = "" })
		bustest.Until(t, func() bool { return len(absences(t, c)) == 1 })
		all := bustest.All(t, c, streams.RAW)
		if o, err := observation.Decode(all[len(all)-1].Data); err != nil || o.ParentGone != gone {
			t.Errorf("the contact is gone: %t, and the absence says %t, %v", gone, o.ParentGone, err)
		}
	}
}

// TestAbsenceWhileNobodySwept: a new instance misses what the transform has
// linked and what was there when it was seen last, though RAW holds a notice of
// it since.
func TestAbsenceWhileNobodySwept(t *testing.T) {
	c, s := bustest.Start(t), newShelf(25)
	cfg := sweeps(c, s)
	stop := goSweep(t, cfg)
	s.more(t, 1)
	stop()
	links, err := c.Bucket(t.Context(), streams.IDENTITY)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []canonical.ExternalID{"t3", "t4", "never seen"} {
		if _, err := links.Create(t.Context(), streams.LinkKey(cfg.Tenant, canonical.KindTask, cfg.System, id), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	s.change(func() { s.titles[3] = "" })
	notice := observation.Observation{System: cfg.System, Tenant: cfg.Tenant, Kind: canonical.KindTask, ExternalID: "t3", Via: observation.Notice, Record: []byte(`{}`)}
	body, err := notice.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Publish(t.Context(), bus.Message{Subject: streams.Raw(notice), Data: body}); err != nil {
		t.Fatal(err)
	}
	goSweep(t, cfg)
	bustest.Until(t, func() bool { return len(absences(t, c)) == 1 })
	s.more(t, 3)
	if got := absences(t, c); len(got) != 1 || got[0] != "t3" {
		t.Errorf("absent: %v", got)
	}
}

func TestNoAbsenceWithoutTheSystemsWord(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(*shelf)
		mend  func(*shelf)
	}{
		{"pages are empty", func(s *shelf) { s.empty = true }, func(s *shelf) { s.empty = false }},
		{"a page fails", func(s *shelf) { s.fail = 1 }, func(s *shelf) { s.fail = 0 }},
		{"a scope is revoked in mid-walk", func(s *shelf) { s.refuse = true }, func(s *shelf) { s.refuse = false }},
		{"pages are empty, and a scope is revoked", func(s *shelf) { s.empty, s.titles = true, s.titles[:10]; s.refuse = true },
			func(s *shelf) { s.empty, s.refuse = false, false; s.titles = newShelf(25).titles }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, s := bustest.Start(t), newShelf(25)
			goSweep(t, sweeps(c, s))
			s.more(t, 1)
			s.change(func() { tt.spoil(s) })
			bustest.Until(t, func() bool {
				var hurt bool
				s.change(func() { hurt = s.gets >= 25 || s.failed > 1 })
				return hurt
			})
			s.change(func() { tt.mend(s) })
			s.more(t, 3)
			if got := absences(t, c); len(got) > 0 {
				t.Errorf("absent: %v", got)
			}
		})
	}
}

func TestASweepGoesOnWhereItWas(t *testing.T) {
	c, s := bustest.Start(t), newShelf(45)
	cfg := sweeps(c, s)
	cfg.Pages, cfg.Every = 2, time.Hour
	cursors, err := c.Bucket(t.Context(), streams.CURSORS)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cursors.Create(t.Context(), streams.SweepKey(cfg.System, cfg.Tenant, cfg.Name), []byte(`{"backfilled":true}`)); err != nil {
		t.Fatal(err)
	}
	stop := goSweep(t, cfg)
	bustest.Until(t, func() bool { return count(t, c)["poll"] == 20 })
	stop()
	s.change(func() { s.titles[2] = "edited while nobody swept" })
	for _, want := range []int{40, 45} {
		stop := goSweep(t, cfg)
		bustest.Until(t, func() bool { return count(t, c)["poll"] == want })
		stop()
	}
	cfg.Pages, cfg.Every, cfg.Name = 0, 10*time.Millisecond, "again"
	goSweep(t, cfg)
	bustest.Until(t, func() bool { return count(t, c)["poll t2"] == 2 })
	s.more(t, 1)
	if got := count(t, c); got["poll"] != 46 {
		t.Errorf("a new instance published what RAW has: %v", got)
	}
}

// TestTheFirstSweepReadsOn, and says when it is through, and what it showed.
func TestTheFirstSweepReadsOn(t *testing.T) {
	c, s := bustest.Start(t), newShelf(45)
	cfg := sweeps(c, s)
	cfg.Pages, cfg.Every = 2, time.Hour
	goSweep(t, cfg)
	cursors, err := c.Bucket(t.Context(), streams.CURSORS)
	if err != nil {
		t.Fatal(err)
	}
	var walk streams.Walk
	bustest.Until(t, func() bool {
		value, _, err := cursors.Get(t.Context(), streams.SweepKey(cfg.System, cfg.Tenant, cfg.Name))
		return err == nil && json.Unmarshal(value, &walk) == nil && walk.Backfilled
	})
	all := bustest.All(t, c, streams.RAW)
	if last := all[len(all)-1].Seq; len(all) != 45 || walk.Last != last {
		t.Errorf("%d of 45 were seen, the last as %d; it says %d", len(all), last, walk.Last)
	}
}

func TestContactsComeFirst(t *testing.T) {
	c, s, l := bustest.Start(t), newShelf(5), records(25)
	l.fail = func(page int) error {
		if s.change(func() {}) > 0 {
			t.Error("items were swept before the contacts were there")
		}
		return nil
	}
	cfg := sweeps(c, s)
	cfg.AfterContacts = true
	goSweep(t, cfg)
	walk := config(c, l)
	walk.Every = 0
	bustest.Go(t, func(ctx context.Context) error { return poll.Run(ctx, walk) })
	bustest.Until(t, func() bool { return count(t, c)["poll"] == 5 })
}
