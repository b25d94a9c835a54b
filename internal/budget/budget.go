// Package budget keeps the calls of one process to one system for one tenant
// within the system's limits. It is a token bucket per window
// (golang.org/x/time/rate) whose burst and refill together never exceed the
// limit in any sliding window, corrected by what the system's headers say.
//
// Calls wait in lanes: while a live write waits, a backfill does not go.
//
// Each process is given a share of the limit by configuration; shares that
// processes lease from one another are not part of this package.
package budget

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/causeway-sync/causeway/internal/clock"
)

// Lane is what a call is for. A lower lane is served first.
type Lane int

// The lanes, most urgent first.
const (
	Live Lane = iota
	Hydrate
	Poll
	Backfill
	lanes
)

// Window is a limit of Calls in any span of Per.
type Window struct {
	Calls int
	Per   time.Duration
}

// Limits are a system's limits and this process's share of them.
type Limits struct {
	Windows []Window
	// Daily is how many calls a day; 0 means no limit.
	Daily int
	// Share is this process's part, above 0 up to 1; 0 means 1.
	Share float64
}

// ErrDailySpent is returned when the day's calls are used up.
var ErrDailySpent = errors.New("the day's call budget is spent")

// Budget is safe for concurrent use.
type Budget struct {
	clock clock.Clock

	mu       sync.Mutex
	buckets  []*rate.Limiter
	paused   time.Time
	day      int64
	spent    int
	daily    int
	waiting  [lanes]int
	released chan struct{} // closed and replaced when a more urgent wait ends
}

// New returns a full budget.
func New(c clock.Clock, l Limits) (*Budget, error) {
	if l.Share == 0 {
		l.Share = 1
	}
	if l.Share < 0 || l.Share > 1 {
		return nil, fmt.Errorf("budget: share %g is not above 0 and up to 1", l.Share)
	}
	b := &Budget{clock: c, daily: int(float64(l.Daily) * l.Share), released: make(chan struct{})}
	for _, w := range l.Windows {
		if w.Calls < 1 || w.Per <= 0 {
			return nil, fmt.Errorf("budget: a limit of %d calls in %s is none", w.Calls, w.Per)
		}
		calls := max(1, int(float64(w.Calls)*l.Share))
		// What has been saved up plus what comes in within the window must not
		// exceed the limit, so the burst is taken off the refill.
		burst := max(1, min(calls-1, max(2, calls/10)))
		refill := max(1, calls-burst)
		b.buckets = append(b.buckets, rate.NewLimiter(rate.Limit(float64(refill)/w.Per.Seconds()), burst))
	}
	return b, nil
}

// Acquire waits until n calls may be made in lane, one after the other and
// without waiting in between; n is at most 2. It returns ErrDailySpent, or the
// context's cause when ctx is done first.
func (b *Budget) Acquire(ctx context.Context, lane Lane, n int) error {
	b.mu.Lock()
	b.waiting[lane]++
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		b.waiting[lane]--
		close(b.released)
		b.released = make(chan struct{})
		b.mu.Unlock()
	}()
	for {
		b.mu.Lock()
		yield := false
		for l := range lane {
			yield = yield || b.waiting[l] > 0
		}
		if yield {
			released := b.released
			b.mu.Unlock()
			select {
			case <-released:
				continue
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		delay, err := b.take(n)
		b.mu.Unlock()
		if err != nil || delay == 0 {
			return err
		}
		if err := clock.Sleep(ctx, b.clock, delay); err != nil {
			return err
		}
	}
}

// take takes n tokens of every bucket, or none and says how long to wait. A
// bucket that never holds n gives what it holds: only a share of two calls or
// fewer in a window is that small, and then its refill is half the share.
func (b *Budget) take(n int) (time.Duration, error) {
	now := b.clock.Now()
	if wait := b.paused.Sub(now); wait > 0 {
		return wait, nil
	}
	if day := now.UTC().Unix() / 86400; day != b.day {
		b.day, b.spent = day, 0
	}
	if b.daily > 0 && b.spent+n > b.daily {
		return 0, ErrDailySpent
	}
	var wait time.Duration
	var taken []*rate.Reservation
	for _, l := range b.buckets {
		r := l.ReserveN(now, min(n, l.Burst()))
		wait = max(wait, r.DelayFrom(now))
		taken = append(taken, r)
	}
	if wait > 0 {
		for _, r := range taken {
			r.CancelAt(now)
		}
		return wait, nil
	}
	b.spent += n
	return 0, nil
}

// Correct takes the system's word that remaining calls are left in its
// window: when that is very few, calls wait until a part of it has passed.
func (b *Budget) Correct(remaining int, window time.Duration) {
	if remaining > 1 || window <= 0 {
		return
	}
	b.Pause(b.clock.Now().Add(window / 10))
}

// Pause lets no call go before until.
func (b *Budget) Pause(until time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if until.After(b.paused) {
		b.paused = until
	}
}

// Spent returns how many calls have been made today.
func (b *Budget) Spent() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.spent
}
