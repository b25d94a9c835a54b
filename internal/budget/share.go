package budget

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/goccy/go-json"
	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/schemas/canonical"
)

const (
	// tick is how often a process with work reads and renews its leases; an
	// idle one whose slots still rest does so half as often.
	tick = 500 * time.Millisecond
	// urgentWait is for how long a slot has to be away for an urgent call not to
	// wait for the tick; gap is the least time between two renewals then.
	urgentWait = 300 * time.Millisecond
	gap        = 150 * time.Millisecond
	// patience is how long an idle process keeps what has rested.
	patience = time.Second
	// exchange is how long one exchange with the broker may take.
	exchange = 2 * time.Second
)

// Key is where the ledger of a tenant's budget at a system is in bucket
// BUDGETS.
func Key(system canonical.System, tenant canonical.Tenant) string {
	return string(system) + "." + string(tenant)
}

// ReadLedger returns the ledger at key, or the zero value if there is none.
func ReadLedger(ctx context.Context, kv bus.KV, key string) (Ledger, error) {
	l, _, err := readLedger(ctx, kv, key)
	return l, err
}

func readLedger(ctx context.Context, kv bus.KV, key string) (l Ledger, rev uint64, err error) {
	value, rev, err := kv.Get(ctx, key)
	switch {
	case errors.Is(err, bus.ErrNotFound):
		return Ledger{}, 0, nil
	case err != nil:
		return Ledger{}, 0, fmt.Errorf("read budget %s: %w", key, err)
	}
	if err := json.Unmarshal(value, &l); err != nil {
		return Ledger{}, 0, fmt.Errorf("decode budget %s: %w", key, err)
	}
	return l, rev, nil
}

// Options are what the budgets of a process have in common.
type Options struct {
	Clock clock.Clock
	// Bucket opens bucket BUDGETS.
	Bucket func(context.Context) (bus.KV, error)
	// Name says to people which process it is.
	Name    string
	Logger  zerolog.Logger
	Metrics *Metrics // nil keeps none
}

// Group is the budgets of one process.
type Group struct {
	options Options
	ctx     context.Context
	stop    context.CancelFunc
	running sync.WaitGroup

	mu     sync.Mutex
	closed bool
	bucket bus.KV
}

// NewGroup returns a Group. It does nothing until somebody calls Acquire.
func NewGroup(o Options) *Group {
	g := &Group{options: o}
	g.ctx, g.stop = context.WithCancel(context.Background())
	return g
}

// Close gives back what is held and makes Acquire wait for ever. It waits
// until the broker has been told, a few seconds at most.
func (g *Group) Close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.stop()
	g.running.Wait()
}

// Budget returns the process's part in a tenant's budget at a system.
func (g *Group) Budget(system canonical.System, tenant canonical.Tenant, l Limits) (*Budget, error) {
	s := &share{group: g, key: Key(system, tenant), id: crand.Text(), kick: make(chan struct{}, 1)}
	b, err := newBudget(g.options.Clock, l, s)
	if err != nil {
		return nil, err
	}
	if g.options.Metrics != nil {
		b.meter = g.options.Metrics.of(system, tenant, l)
	}
	return b, nil
}

func (g *Group) open(ctx context.Context) (bus.KV, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.bucket != nil {
		return g.bucket, nil
	}
	kv, err := g.options.Bucket(ctx)
	if err == nil {
		g.bucket = kv
	}
	return kv, err
}

// share is a Budget's part in the ledger. The Budget's mu guards it.
type share struct {
	group   *Group
	key     string
	id      string
	watcher watcher
	kick    chan struct{}

	running bool
	joined  bool      // the ledger has us, as far as we know
	renewed time.Time // when the last renewal that was stored began
	active  time.Time // when there was work last
	pausing bool      // the others don't know of the pause yet
}

// since is how long ago t was at the least favourable: a machine that sleeps
// stops one of the two clocks.
func since(t, now time.Time) time.Duration {
	return max(now.Sub(t), now.Round(0).Sub(t.Round(0)))
}

// leased reports whether calls may begin.
func (s *share) leased(now time.Time) bool { return s.joined && since(s.renewed, now) < lease }

// wake sees to it that the ledger is looked at: soon, if it is urgent. The
// caller holds the Budget's mu.
func (s *share) wake(b *Budget, urgent bool) {
	if !s.running {
		s.group.mu.Lock()
		if !s.group.closed {
			s.running = true
			s.group.running.Add(1)
			go s.run(b)
		}
		s.group.mu.Unlock()
		return
	}
	if urgent {
		select {
		case s.kick <- struct{}{}:
		default:
		}
	}
}

// run keeps the lease as long as there is work.
func (s *share) run(b *Budget) {
	defer s.group.running.Done()
	clk, ctx, logger := s.group.options.Clock, s.group.ctx, s.group.options.Logger
	failing := false
	for {
		began := clk.Now()
		idle, err := s.renew(ctx, b)
		if ctx.Err() != nil {
			s.end(b)
			return
		}
		if idle {
			return
		}
		if err != nil && !failing {
			logger.Warn().Err(err).Str("budget", s.key).Msg("the call budget can't be leased; calls wait once the lease has ended")
		}
		if failing && err == nil {
			logger.Info().Str("budget", s.key).Msg("the call budget is leased again")
		}
		failing = err != nil
		next := tick
		b.mu.Lock()
		if since(s.active, clk.Now()) > patience {
			next = 2 * tick
		}
		b.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-clk.After(next - clk.Now().Sub(began)):
		case <-s.kick:
			_ = clock.Sleep(ctx, clk, gap-clk.Now().Sub(began)) // ctx is looked at above
		}
	}
}

// renew is one turn: read, step, compare and swap. idle says that there was
// nothing to do and that the ledger knows us no more.
func (s *share) renew(ctx context.Context, b *Budget) (idle bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, exchange)
	defer cancel()
	kv, err := s.group.open(ctx)
	if err != nil {
		return false, err
	}
	for {
		l, rev, err := readLedger(ctx, kv, s.key)
		if err != nil {
			return false, err
		}
		b.mu.Lock()
		now := b.clock.Now()
		if _, there := l.Members[s.id]; s.joined && (!there || !s.leased(now)) {
			s.lapse(b)
		}
		me := s.self(b, now)
		leaving := since(s.active, now) > patience && !busy(me)
		var next Ledger
		var g grant
		if leaving {
			next = s.watcher.leave(l, me, now)
			s.joined = false
			b.drop(now)
			b.day.held = 0
		} else {
			next, g = s.watcher.step(l, me, now)
			s.pausing, b.day.spent = false, -1
			// What is given up is given up before anybody can know of it.
			kept := make([]int, len(g.held))
			for j, w := range b.slots.windows {
				kept[j] = min(w.held, g.held[j])
			}
			b.hold(now, kept, g.cap, g.pace)
			if g.pause > 0 {
				b.paused = later(b.paused, now.Add(g.pause))
			}
		}
		b.mu.Unlock()
		err = write(ctx, kv, s.key, next, rev)
		if errors.Is(err, bus.ErrWrongSequence) || errors.Is(err, bus.ErrExists) {
			continue // another was faster, and what we wrote isn't there
		}
		b.mu.Lock()
		if leaving {
			// Whatever became of it: who comes back is somebody new.
			s.id = crand.Text()
			s.running = b.waiting() > 0
			idle = !s.running
		} else if err == nil {
			s.joined, s.renewed = true, now
			b.hold(now, g.held, g.cap, g.pace)
			if g.day.number == b.day.number {
				b.day.held += g.day.held - me.day.held
			} else if g.day.number > b.day.number {
				b.day.number, b.day.held = g.day.number, g.day.held
			}
			b.left = g.left
			b.signal()
		}
		b.mu.Unlock()
		return idle, err
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func write(ctx context.Context, kv bus.KV, key string, l Ledger, rev uint64) error {
	data, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("encode budget %s: %w", key, err)
	}
	if rev == 0 {
		_, err = kv.Create(ctx, key, data)
	} else {
		_, err = kv.Update(ctx, key, data, rev)
	}
	if err != nil {
		return fmt.Errorf("write budget %s: %w", key, err)
	}
	return nil
}

// lapse forgets a lease that has ended: what was held may be another's by
// now. Who comes back is somebody new, and the one who was rests in the
// ledger.
func (s *share) lapse(b *Budget) {
	s.joined, s.id = false, crand.Text()
	b.epoch++
	b.drop(b.clock.Now())
	for _, w := range b.slots.windows {
		w.forget()
	}
	b.prepaid, b.day.held = nil, 0
}

// end is the last turn of a process that stops.
func (s *share) end(b *Budget) {
	ctx, cancel := context.WithTimeout(context.Background(), exchange)
	defer cancel()
	b.mu.Lock()
	joined := s.joined
	s.joined = false // no call begins any more
	me := s.self(b, b.clock.Now())
	b.mu.Unlock()
	kv, err := s.group.open(ctx)
	for joined && err == nil {
		l, rev, readErr := readLedger(ctx, kv, s.key)
		if _, there := l.Members[s.id]; readErr != nil || !there {
			return
		}
		if err = write(ctx, kv, s.key, s.watcher.leave(l, me, b.clock.Now()), rev); err == nil {
			return
		}
		if errors.Is(err, bus.ErrWrongSequence) {
			err = nil
		}
	}
}

func busy(me self) bool {
	for _, n := range me.busy {
		if n > 0 {
			return true
		}
	}
	return false
}

// self is what we say of ourselves now. The caller holds the Budget's mu.
func (s *share) self(b *Budget, now time.Time) self {
	b.roll(now)
	b.expire(now)
	me := self{id: s.id, name: s.group.options.Name, share: b.limits.Share, day: b.day, waiting: make([]int, lanes), used: make([]int, lanes)}
	urgent := 0
	for lane, q := range b.queues {
		for _, w := range q {
			me.waiting[lane] += w.n
		}
		if Lane(lane).urgent() {
			urgent += me.waiting[lane]
		}
	}
	for j, w := range b.slots.windows {
		w.settle(now)
		want := make([]int, lanes)
		for lane := range want {
			used := w.open[lane] + w.restBy[lane]
			switch {
			case me.waiting[lane] > 0:
				// More, but no more at a time than others can give.
				want[lane] = min(w.Calls, used+me.waiting[lane]+max(2, w.Calls/20, used/8))
			case used > 0:
				want[lane] = min(w.Calls, used+max(2, used/33))
			}
			if j == 0 {
				me.used[lane] = used
			}
		}
		need := 0
		if b.lacking > urgentWait {
			need = min(urgent, 2)
		}
		me.windows = append(me.windows, w.Window)
		me.held, me.busy, me.rests = append(me.held, w.held), append(me.busy, w.busy()), append(me.rests, w.rests(now))
		me.want, me.need = append(me.want, want), append(me.need, need)
	}
	if b.waiting() > 0 || busy(me) {
		s.active = now
	}
	me.day.want = me.day.held
	if chunk := max(b.day.limit/500, b.waiting()); b.day.held < (chunk+1)/2 {
		me.day.want = chunk
	}
	if s.pausing {
		me.pause = max(b.paused.Sub(now), 0)
	}
	return me
}
