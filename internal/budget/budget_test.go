package budget_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/causeway-sync/causeway/internal/budget"
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

// TestNeverOverTheLimit: in no window, wherever it begins, are there more
// calls than allowed; and when there is always work, most of them are used.
func TestNeverOverTheLimit(t *testing.T) {
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
			if err := b.Acquire(context.Background(), budget.Live, n); err != nil {
				t.Fatal(err)
			}
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

func TestUsesWhatThereIs(t *testing.T) {
	c := &stepped{now: time.Unix(1_800_000_000, 0)}
	b, err := budget.New(c, budget.Limits{Windows: []budget.Window{{Calls: 100, Per: 10 * time.Second}}})
	if err != nil {
		t.Fatal(err)
	}
	began, n := c.Now(), 0
	for c.Now().Sub(began) < 100*time.Second {
		if err := b.Acquire(context.Background(), budget.Live, 1); err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n < 850 || n > 1000 {
		t.Errorf("%d of 1000 calls were made", n)
	}
}

func TestDailyAndPause(t *testing.T) {
	c := &stepped{now: time.Unix(1_800_000_000, 0).UTC().Truncate(24 * time.Hour)}
	b, err := budget.New(c, budget.Limits{Windows: []budget.Window{{Calls: 100, Per: time.Second}}, Daily: 10, Share: 0.5})
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if err := b.Acquire(t.Context(), budget.Poll, 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Acquire(t.Context(), budget.Poll, 1); !errors.Is(err, budget.ErrDailySpent) {
		t.Errorf("the share of the day is used up: %v", err)
	}
	c.After(24 * time.Hour)
	until := c.Now().Add(7 * time.Second)
	b.Pause(until)
	if err := b.Acquire(t.Context(), budget.Poll, 1); err != nil || c.Now().Before(until) || b.Spent() != 1 {
		t.Errorf("%v at %s, %d spent", err, c.Now(), b.Spent())
	}
}

func TestBadLimits(t *testing.T) {
	for _, l := range []budget.Limits{{Share: 2}, {Share: -1}, {Windows: []budget.Window{{Calls: 0, Per: time.Second}}}, {Windows: []budget.Window{{Calls: 1}}}} {
		if _, err := budget.New(&stepped{}, l); err == nil {
			t.Errorf("%+v was taken", l)
		}
	}
}
