// Package budget keeps the calls of all processes to one system for one
// tenant within the system's limits.
//
// A limit of n calls in a window is n slots (see slots.go). Each process
// leases slots through a [Ledger] in bucket BUDGETS, as many as it has use
// for, and gives back what it doesn't need; what it holds it uses by itself,
// at a pace (golang.org/x/time/rate) that spreads the calls over the window.
// The day's quota is taken from the same ledger, in portions.
//
// Callers wait in lanes. Each lane has a part of the calls by its weight,
// within a process and among all; what a lane doesn't use the others may.
//
// A process that can't reach the broker goes on until its lease ends, a few
// seconds later, and then waits: what it may use then, others may have taken.
// A budget that is shared with nobody ([New]) needs no broker.
package budget

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/causeway-sync/causeway/internal/clock"
)

// Lane is what a call is for.
type Lane int

// The lanes, most urgent first.
const (
	Live      Lane = iota // a write of what somebody has just changed
	Hydrate               // a read of what somebody has just changed
	Poll                  // looking for changes that no notice told of
	Backfill              // reading everything once, and writing what came of that
	Reconcile             // comparing everything
	lanes
)

// weight is each lane's part while there isn't enough for all.
var weight = [lanes]int{Live: 16, Hydrate: 8, Poll: 2, Backfill: 2, Reconcile: 1}

var laneNames = [lanes]string{"live", "hydrate", "poll", "backfill", "reconcile"}

// String is the lane's name in metrics and reports.
func (l Lane) String() string { return laneNames[l] }

// Lanes returns all lanes, most urgent first.
func Lanes() []Lane { return []Lane{Live, Hydrate, Poll, Backfill, Reconcile} }

// urgent lanes are those that somebody is waiting for.
func (l Lane) urgent() bool { return l <= Hydrate }

// laneKey is where a context has the lane of the calls made with it.
type laneKey struct{}

// WithLane returns a context whose calls go in lane, whatever lane the caller
// of Acquire names.
func WithLane(ctx context.Context, lane Lane) context.Context {
	return context.WithValue(ctx, laneKey{}, lane)
}

// Window is a limit of Calls in any span of Per.
type Window struct {
	Calls int
	Per   time.Duration
}

// Limits are a system's limits.
type Limits struct {
	Windows []Window
	// Daily is how many calls a day (of UTC); 0 means no limit. The urgent
	// lanes have the last twentieth to themselves.
	Daily int
	// Share is the most of each window that this process takes, above 0 up to
	// 1; 0 means 1.
	Share float64
}

// ErrDailySpent is returned when the day's calls are used up.
var ErrDailySpent = errors.New("the day's call budget is spent")

// Budget is safe for concurrent use.
type Budget struct {
	clock  clock.Clock
	limits Limits
	share  *share // nil: nobody shares it

	mu      sync.Mutex
	slots   *slots
	epoch   int // counts the leases that have lapsed
	queues  [lanes][]*waiter
	pass    [lanes]int // whose turn it is: the least
	turn    int
	prepaid []*Permit // by deadline
	paused  time.Time
	day     dayClaim
	left    int // of the day, as far as known, taken by nobody
	spent   int // today, by this process
	serving bool
	changed chan struct{}
	lacking time.Duration // how long who is next has to wait for a slot
	meter   *meter        // nil counts nothing
}

type waiter struct {
	lane    Lane
	n       int
	settled chan struct{}
	permit  *Permit
	err     error
}

// Permit is the leave to make calls.
type Permit struct {
	b        *Budget
	lane     Lane
	epoch    int
	n        int // calls not answered yet
	name     string
	deadline time.Time
}

// New returns a budget that is shared with nobody.
func New(c clock.Clock, l Limits) (*Budget, error) { return newBudget(c, l, nil) }

func newBudget(c clock.Clock, l Limits, s *share) (*Budget, error) {
	if l.Share == 0 {
		l.Share = 1
	}
	if !(l.Share > 0 && l.Share <= 1) {
		return nil, fmt.Errorf("budget: share %g is not above 0 and up to 1", l.Share)
	}
	for _, w := range l.Windows {
		if w.Calls < 1 || w.Per <= 0 {
			return nil, fmt.Errorf("budget: a limit of %d calls in %s is none", w.Calls, w.Per)
		}
	}
	l.Windows = slices.Clone(l.Windows)
	b := &Budget{clock: c, limits: l, share: s, slots: newSlots(l.Windows), changed: make(chan struct{})}
	b.day = dayClaim{number: -1, limit: l.Daily, spent: -1}
	if s == nil {
		for _, w := range b.slots.windows {
			own := max(1, int(l.Share*float64(w.Calls)))
			w.hold(c.Now(), own, own, own)
		}
	}
	return b, nil
}

// Acquire waits until n calls may be made in lane, one after the other and
// without waiting in between; n is at most 2. Each call is reported to the
// Permit when it has been answered. It returns ErrDailySpent, or the context's
// cause when ctx is done first.
func (b *Budget) Acquire(ctx context.Context, lane Lane, n int) (*Permit, error) {
	if l, ok := ctx.Value(laneKey{}).(Lane); ok {
		lane = l
	}
	w := &waiter{lane: lane, n: n, settled: make(chan struct{})}
	b.mu.Lock()
	if len(b.queues[lane]) == 0 {
		b.pass[lane] = max(b.pass[lane], b.turn)
	}
	b.queues[lane] = append(b.queues[lane], w)
	b.count(w, 1)
	b.serve()
	b.mu.Unlock()
	select {
	case <-w.settled:
		return w.permit, w.err
	default:
	}
	select {
	case <-w.settled:
		return w.permit, w.err
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.Index(b.queues[lane], w); i >= 0 {
		b.queues[lane] = slices.Delete(b.queues[lane], i, i+1)
		b.count(w, -1)
		b.signal()
		return nil, context.Cause(ctx)
	}
	return w.permit, w.err // it was its turn at the same moment
}

// serve lets go whom it can, and sees to it that the others have their turn
// later. The caller holds mu.
func (b *Budget) serve() {
	delay := b.pump(b.clock.Now())
	switch {
	case delay == 0:
	case b.serving:
		b.signal()
	default:
		b.serving = true
		go b.wait(delay, b.changed)
	}
}

// wait serves as long as somebody waits.
func (b *Budget) wait(delay time.Duration, changed <-chan struct{}) {
	for delay > 0 {
		var after <-chan time.Time
		if delay < never {
			after = b.clock.After(delay)
		}
		select {
		case <-changed:
		case <-after:
		}
		b.mu.Lock()
		delay, changed = b.pump(b.clock.Now()), b.changed
		b.serving = delay > 0
		b.mu.Unlock()
	}
}

// signal wakes wait. The caller holds mu.
func (b *Budget) signal() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// pump lets go whom it can and returns how long the next has to wait, 0 if
// nobody waits. The caller holds mu.
func (b *Budget) pump(now time.Time) time.Duration {
	b.lacking = 0
	for {
		order := slices.DeleteFunc(Lanes(), func(l Lane) bool { return len(b.queues[l]) == 0 })
		if len(order) == 0 {
			return 0
		}
		if wait := b.paused.Sub(now); wait > 0 {
			return wait
		}
		b.expire(now)
		if b.share != nil && !b.share.leased(now) {
			b.lacking = never
			b.share.wake(b, true)
			return never
		}
		slices.SortStableFunc(order, func(x, y Lane) int { return b.pass[x] - b.pass[y] })
		delay, went := never, false
		for _, lane := range order {
			w := b.queues[lane][0]
			ok, err := b.today(now, lane, w.n)
			if err != nil {
				b.settle(w, nil, err)
				went = true
				break
			}
			if !ok {
				b.lacking = never
				b.share.wake(b, true)
				continue
			}
			wait, slot := b.slots.take(now, lane, w.n)
			if wait == 0 {
				b.day.held -= w.n
				b.spent += w.n
				b.turn = b.pass[lane]
				b.pass[lane] += 1 + 64*w.n/weight[lane]
				if b.meter != nil {
					b.meter.calls[lane].Add(float64(w.n))
				}
				b.settle(w, &Permit{b: b, lane: lane, epoch: b.epoch, n: w.n}, nil)
				went = true
				break
			}
			delay = min(delay, wait)
			if slot {
				// Who is next waits for the next slot; nobody else is let past.
				if b.share != nil {
					b.lacking = wait
					b.share.wake(b, lane.urgent() && wait > urgentWait)
				}
				break
			}
		}
		if !went && len(b.prepaid) > 0 {
			delay = min(delay, b.prepaid[0].deadline.Sub(now))
		}
		if !went {
			return delay
		}
	}
}

// settle ends a wait. The caller holds mu.
func (b *Budget) settle(w *waiter, p *Permit, err error) {
	q := b.queues[w.lane]
	b.queues[w.lane] = slices.Delete(q, 0, 1)
	b.count(w, -1)
	w.permit, w.err = p, err
	close(w.settled)
}

func (b *Budget) count(w *waiter, by int) {
	if b.meter != nil {
		b.meter.waiting[w.lane].Add(float64(by * w.n))
	}
}

// waiting is how many calls wait. The caller holds mu.
func (b *Budget) waiting() int {
	n := 0
	for _, q := range b.queues {
		for _, w := range q {
			n += w.n
		}
	}
	return n
}

// hold sets what is held and meant to be used of each window. The caller
// holds mu.
func (b *Budget) hold(now time.Time, held, use, pace []int) {
	for j, w := range b.slots.windows {
		if b.meter != nil {
			b.meter.slots[j].Add(float64(held[j] - w.held))
			b.meter.limit[j].Set(float64(w.Calls))
			b.meter.day.Set(float64(b.left))
		}
		w.hold(now, held[j], use[j], pace[j])
	}
}

// drop holds nothing any more. The caller holds mu.
func (b *Budget) drop(now time.Time) {
	none := make([]int, len(b.slots.windows))
	b.hold(now, none, none, none)
}

// roll begins a new day. The caller holds mu.
func (b *Budget) roll(now time.Time) {
	if number := now.UTC().Unix() / 86400; number > b.day.number {
		b.day.number, b.day.held, b.day.spent, b.spent = number, 0, -1, 0
		b.left = b.day.limit
	}
}

// today reports whether n more calls may be made today in lane; false means
// that they have to be taken from the ledger first. The caller holds mu.
func (b *Budget) today(now time.Time, lane Lane, n int) (bool, error) {
	b.roll(now)
	if b.day.limit == 0 {
		return true, nil
	}
	if b.share == nil && b.left > 0 {
		b.day.held, b.left = max(1, int(b.limits.Share*float64(b.day.limit))), 0
	}
	if !lane.urgent() && b.day.held+b.left <= b.day.limit/20 {
		return false, fmt.Errorf("%w: the rest is kept for live changes", ErrDailySpent)
	}
	if b.day.held < n && b.left <= 0 {
		return false, ErrDailySpent
	}
	return b.day.held >= n, nil
}

// expire ends the permits whose calls were not made. The caller holds mu.
func (b *Budget) expire(now time.Time) {
	for len(b.prepaid) > 0 && !b.prepaid[0].deadline.After(now) {
		p := b.prepaid[0]
		b.prepaid = b.prepaid[1:]
		if p.epoch == b.epoch && p.n > 0 {
			b.slots.done(now, p.lane, p.n)
			p.n = 0
		}
	}
}

// Done says that one call of p has been answered, or never will be. It may be
// called on nil.
func (p *Permit) Done() {
	if p == nil {
		return
	}
	b := p.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if p.n == 0 {
		return
	}
	p.n--
	if p.epoch == b.epoch {
		b.slots.done(b.clock.Now(), p.lane, 1)
	}
	if b.serving {
		b.signal()
	}
}

// keep is how long Keep keeps a call.
const keep = 5 * time.Second

// Keep puts what is left of p aside for a call on what is named, which begins
// within 5 s or not at all.
func (p *Permit) Keep(name string) {
	if p == nil {
		return
	}
	b := p.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if p.n > 0 {
		p.name, p.deadline = name, b.clock.Now().Add(keep)
		b.prepaid = append(b.prepaid, p)
	}
}

// Kept returns the permit that was kept for what is named, or nil.
func (b *Budget) Kept(name string) *Permit {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expire(b.clock.Now())
	i := slices.IndexFunc(b.prepaid, func(p *Permit) bool { return p.name == name })
	if i < 0 {
		return nil
	}
	p := b.prepaid[i]
	b.prepaid = slices.Delete(b.prepaid, i, i+1)
	return p
}

// Report is what an answer says of the limits; -1 stands for what it doesn't.
type Report struct {
	// Per is the window that Calls and Remaining are about.
	Per                        time.Duration
	Calls, Remaining           int
	DailyCalls, DailyRemaining int
}

// Correct takes the system's word. A lower limit than the configured one
// counts; calls that somebody else must have made are taken off; the day's
// count is the system's.
func (b *Budget) Correct(r Report) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.clock.Now()
	for j, w := range b.slots.windows {
		if w.Per != r.Per {
			continue
		}
		if calls := min(r.Calls, b.limits.Windows[j].Calls); r.Calls > 0 && calls != w.Calls {
			w.Calls = calls
			if b.share == nil {
				own := max(1, int(b.limits.Share*float64(calls)))
				w.hold(now, own, own, own)
			}
		}
		if r.Remaining >= 0 {
			w.settle(now)
			// Nobody but us can use the slots that we hold, so that many calls are
			// left at least; less a few, as the answer is a moment old.
			if n := w.free() - r.Remaining - 2 - w.Calls/50; n > 0 {
				b.slots.burn(now, Reconcile, w.Per, n)
			}
		}
	}
	if r.DailyCalls > 0 && b.limits.Daily > 0 {
		b.day.limit = min(r.DailyCalls, b.limits.Daily)
		if r.DailyRemaining >= 0 {
			b.day.spent = max(0, r.DailyCalls-r.DailyRemaining)
			if b.share == nil {
				b.day.held = min(b.day.held, max(0, b.day.limit-b.day.spent))
			}
		}
	}
}

// Pause lets no call go before until, in any process.
func (b *Budget) Pause(until time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if until.After(b.paused) {
		b.paused = until
		if b.share != nil {
			b.share.pausing = true
			b.share.wake(b, true)
		}
	}
}

// Spent returns how many calls this process has been given today.
func (b *Budget) Spent() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.spent
}
