package budget_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/clock"
)

// stepped is a clock that goes on only when somebody waits for it.
type stepped struct {
	mu  sync.Mutex
	now time.Time
}

func (c *stepped) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *stepped) After(d time.Duration) <-chan time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	ch := make(chan time.Time, 1)
	ch <- c.now
	return ch
}

func acquire(t interface{ Fatal(...any) }, b *budget.Budget, lane budget.Lane, n int) {
	p, err := b.Acquire(context.Background(), lane, n)
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		p.Done()
	}
}

// TestOneNeverOver: in no window, wherever it begins, are there more calls
// than allowed.
func TestOneNeverOver(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		windows := []budget.Window{{Calls: rapid.IntRange(3, 100).Draw(t, "calls"), Per: 10 * time.Second}, {Calls: rapid.IntRange(100, 400).Draw(t, "more calls"), Per: time.Minute}}
		c := &stepped{now: time.Unix(1_800_000_000, 0)}
		b, err := budget.New(c, budget.Limits{Windows: windows})
		if err != nil {
			t.Fatal(err)
		}
		began := c.Now()
		var calls []time.Time
		for c.Now().Sub(began) < 3*time.Minute {
			n := rapid.SampledFrom([]int{1, 1, 2}).Draw(t, "at once")
			lane := rapid.SampledFrom(budget.Lanes()).Draw(t, "lane")
			acquire(t, b, lane, n)
			for range n {
				calls = append(calls, c.Now())
			}
			if rapid.IntRange(0, 30).Draw(t, "idle") == 0 {
				c.After(time.Duration(rapid.IntRange(1, 15).Draw(t, "for")) * time.Second)
			}
		}
		for _, w := range windows {
			for i := range calls {
				if j := i + w.Calls; j < len(calls) && calls[j].Sub(calls[i]) < w.Per {
					t.Fatalf("%d calls within %s", w.Calls+1, calls[j].Sub(calls[i]))
				}
			}
		}
	})
}

func TestDailyAndPause(t *testing.T) {
	c := &stepped{now: time.Unix(1_800_000_000, 0).UTC().Truncate(24 * time.Hour)}
	b, err := budget.New(c, budget.Limits{Windows: []budget.Window{{Calls: 1000, Per: time.Second}}, Daily: 80, Share: 0.5})
	if err != nil {
		t.Fatal(err)
	}
	for range 36 {
		acquire(t, b, budget.Poll, 1)
	}
	if _, err := b.Acquire(t.Context(), budget.Backfill, 1); !errors.Is(err, budget.ErrDailySpent) {
		t.Errorf("the last twentieth of the day is not for backfills: %v", err)
	}
	for range 4 {
		acquire(t, b, budget.Live, 1)
	}
	if _, err := b.Acquire(t.Context(), budget.Live, 1); !errors.Is(err, budget.ErrDailySpent) {
		t.Errorf("the share of the day is used up: %v", err)
	}
	c.After(24 * time.Hour)
	until := c.Now().Add(7 * time.Second)
	b.Pause(until)
	acquire(t, b, budget.Poll, 1)
	if c.Now().Before(until) || b.Spent() != 1 {
		t.Errorf("at %s, %d spent", c.Now(), b.Spent())
	}
}

func TestBadLimits(t *testing.T) {
	for _, l := range []budget.Limits{{Share: 2}, {Share: -1}, {Windows: []budget.Window{{Calls: 0, Per: time.Second}}}, {Windows: []budget.Window{{Calls: 1}}}} {
		if _, err := budget.New(&stepped{}, l); err == nil {
			t.Errorf("%+v was taken", l)
		}
	}
}

// TestCorrect: the system's headers say less than the configuration, or that
// somebody else calls, too.
func TestCorrect(t *testing.T) {
	unsaid := budget.Report{Per: 10 * time.Second, Calls: -1, Remaining: -1, DailyCalls: -1, DailyRemaining: -1}
	for name, tt := range map[string]struct {
		say  func(*budget.Report)
		want int // calls that can be made at once
	}{
		"nothing":           {func(*budget.Report) {}, 10},
		"a lower limit":     {func(r *budget.Report) { r.Calls = 6 }, 6},
		"a higher limit":    {func(r *budget.Report) { r.Calls = 500 }, 10},
		"somebody else":     {func(r *budget.Report) { r.Remaining = 3 }, 3 + 2 + 100/50},
		"another's day":     {func(r *budget.Report) { r.DailyCalls, r.DailyRemaining = 1000, 4 }, 4},
		"a shorter day":     {func(r *budget.Report) { r.DailyCalls, r.DailyRemaining = 6, 6 }, 6},
		"of another window": {func(r *budget.Report) { r.Per, r.Remaining = time.Minute, 0 }, 10},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, err := budget.New(clock.System{}, budget.Limits{Windows: ghlWindows, Daily: 1000})
				if err != nil {
					t.Fatal(err)
				}
				acquire(t, b, budget.Live, 1)
				pass(20 * time.Second)
				r := unsaid
				tt.say(&r)
				b.Correct(r)
				ctx, cancel := context.WithTimeout(t.Context(), time.Microsecond)
				defer cancel()
				got := 0
				for {
					if _, err := b.Acquire(ctx, budget.Live, 1); err != nil {
						break
					}
					got++
				}
				if got != tt.want {
					t.Errorf("%d calls at once, want %d", got, tt.want)
				}
			})
		})
	}
}

// TestLanes: who is more urgent gets more, and nobody nothing.
func TestLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := budget.New(clock.System{}, budget.Limits{Windows: ghlWindows})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		got := make([]int, len(budget.Lanes()))
		var work sync.WaitGroup
		for _, lane := range budget.Lanes() {
			for range 4 {
				work.Go(func() {
					for {
						p, err := b.Acquire(ctx, lane, 1)
						if err != nil {
							return
						}
						got[lane]++
						p.Done()
					}
				})
			}
		}
		pass(5 * time.Minute)
		cancel()
		work.Wait()
		if !slices.IsSortedFunc(got, func(a, b int) int { return b - a }) || got[budget.Reconcile] == 0 || got[budget.Live] < 5*got[budget.Backfill] {
			t.Errorf("calls by lane: %v", got)
		}
	})
}

// TestKept: the second of two calls is there for whom it was kept, and its
// slot comes back when it isn't made.
func TestKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := budget.New(clock.System{}, budget.Limits{Windows: []budget.Window{{Calls: 2, Per: time.Second}}})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			p, err := b.Acquire(t.Context(), budget.Live, 2)
			if err != nil {
				t.Fatal(err)
			}
			p.Done()
			p.Keep("a member")
			if b.Kept("another") != nil {
				t.Fatal("it was kept for another")
			}
			kept := b.Kept("a member")
			if kept == nil || b.Kept("a member") != nil {
				t.Fatal("it was not kept once")
			}
			kept.Done()
		}
		p, err := b.Acquire(t.Context(), budget.Live, 2)
		if err != nil {
			t.Fatal(err)
		}
		p.Done()
		p.Keep("never called")
		began := time.Now()
		acquire(t, b, budget.Live, 2)
		if waited := time.Since(began); waited < 5*time.Second || waited > 8*time.Second {
			t.Errorf("a call that was kept and not made was away for %s", waited)
		}
	})
}
