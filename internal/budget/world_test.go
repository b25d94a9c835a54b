package budget_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/schemas/canonical"
)

// world is a system, a broker and some processes, in a synctest bubble: real
// code on a time that goes on by itself.
type world struct {
	mu       sync.Mutex
	rng      *rand.Rand
	windows  []budget.Window
	arrivals []time.Time
	values   map[string][]byte
	revs     map[string]uint64
	rev      uint64
	writes   int
	away     bool    // nobody reaches the broker
	lossy    float64 // the chance that the broker's answer is lost
	latency  time.Duration
	done     chan struct{}
}

func newWorld(seed uint64, windows ...budget.Window) *world {
	return &world{rng: rand.New(rand.NewPCG(seed, 1)), windows: windows, values: map[string][]byte{}, revs: map[string]uint64{}, latency: 100 * time.Millisecond, done: make(chan struct{})}
}

func (w *world) chance(p float64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rng.Float64() < p
}

func (w *world) upTo(d time.Duration) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Duration(w.rng.Int64N(int64(d)))
}

// over says which window held more calls than its limit, "" if none did.
func (w *world) over() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, limit := range w.windows {
		for i := range w.arrivals {
			if j := i + limit.Calls; j < len(w.arrivals) && w.arrivals[j].Sub(w.arrivals[i]) < limit.Per {
				return fmt.Sprintf("%d calls within %s at %s", limit.Calls+1, w.arrivals[j].Sub(w.arrivals[i]), w.arrivals[j].Format(time.TimeOnly))
			}
		}
	}
	return ""
}

// between counts the calls that arrived in a span.
func (w *world) between(from, to time.Time) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, at := range w.arrivals {
		if !at.Before(from) && at.Before(to) {
			n++
		}
	}
	return n
}

// process is one that calls the system.
type process struct {
	w      *world
	offset time.Duration // of its clock
	group  *budget.Group
	b      *budget.Budget
	ctx    context.Context
	stop   context.CancelFunc
	work   sync.WaitGroup

	mu    sync.Mutex
	dead  bool
	going chan struct{} // closed unless it is frozen
}

func (w *world) start(name string, offset time.Duration, l budget.Limits) *process {
	p := &process{w: w, offset: offset, going: make(chan struct{})}
	close(p.going)
	p.ctx, p.stop = context.WithCancel(context.Background())
	p.group = budget.NewGroup(budget.Options{Clock: p, Name: name, Logger: zerolog.Nop(), Bucket: func(context.Context) (bus.KV, error) { return bucket{p}, nil }})
	l.Windows = w.windows
	var err error
	if p.b, err = p.group.Budget(canonical.GHL, "alpine-guild", l); err != nil {
		panic(err)
	}
	return p
}

// run returns when the process is not frozen.
func (p *process) run() {
	p.mu.Lock()
	going := p.going
	p.mu.Unlock()
	<-going
}

func (p *process) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.going = make(chan struct{})
}

func (p *process) thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.going)
}

// kill ends it as SIGKILL does.
func (p *process) kill() {
	p.mu.Lock()
	p.dead = true
	p.mu.Unlock()
	p.stop()
	p.work.Wait()
	p.group.Close()
}

// end ends it in good order.
func (p *process) end() {
	p.stop()
	p.work.Wait()
	p.group.Close()
}

// Now and After make it a clock.
func (p *process) Now() time.Time { return time.Now().Add(p.offset) }

func (p *process) After(d time.Duration) <-chan time.Time {
	out := make(chan time.Time, 1)
	go func() {
		select {
		case at := <-time.After(d):
			p.run()
			out <- at
		case <-p.w.done:
		}
	}()
	return out
}

// call makes one call. The system sees it somewhere between its beginning and
// the answer.
func (p *process) call(lane budget.Lane) error {
	permit, err := p.b.Acquire(p.ctx, lane, 1)
	if err != nil {
		return err
	}
	w := p.w
	there, back := w.upTo(w.latency/2), w.upTo(w.latency/2)
	_ = clock.Sleep(context.Background(), clock.System{}, there)
	w.mu.Lock()
	w.arrivals = append(w.arrivals, time.Now())
	w.mu.Unlock()
	_ = clock.Sleep(context.Background(), clock.System{}, back)
	p.run()
	permit.Done()
	return nil
}

// saturate makes calls with n workers until ctx is done.
func (p *process) saturate(ctx context.Context, lane budget.Lane, n int) {
	for range n {
		p.work.Go(func() {
			for ctx.Err() == nil {
				p.run()
				if p.call(lane) != nil {
					return
				}
			}
		})
	}
}

// bucket is bucket BUDGETS as a process reaches it.
type bucket struct{ p *process }

var errAway = errors.New("no broker")

func (b bucket) exchange(ctx context.Context) error {
	b.p.run()
	if err := clock.Sleep(ctx, clock.System{}, time.Millisecond+b.p.w.upTo(10*time.Millisecond)); err != nil {
		return err
	}
	b.p.mu.Lock()
	defer b.p.mu.Unlock()
	b.p.w.mu.Lock()
	defer b.p.w.mu.Unlock()
	if b.p.dead || b.p.w.away {
		return errAway
	}
	return nil
}

func (b bucket) Get(ctx context.Context, key string) ([]byte, uint64, error) {
	if err := b.exchange(ctx); err != nil {
		return nil, 0, err
	}
	w := b.p.w
	w.mu.Lock()
	rev, value := w.revs[key], w.values[key]
	w.mu.Unlock()
	b.p.run()
	if rev == 0 {
		return nil, 0, bus.ErrNotFound
	}
	return value, rev, nil
}

func (b bucket) Create(ctx context.Context, key string, value []byte) (uint64, error) {
	rev, err := b.Update(ctx, key, value, 0)
	if errors.Is(err, bus.ErrWrongSequence) {
		err = bus.ErrExists
	}
	return rev, err
}

func (b bucket) Update(ctx context.Context, key string, value []byte, rev uint64) (uint64, error) {
	if err := b.exchange(ctx); err != nil {
		return 0, err
	}
	w := b.p.w
	w.mu.Lock()
	if w.revs[key] != rev {
		w.mu.Unlock()
		return 0, bus.ErrWrongSequence
	}
	w.rev++
	w.writes++
	w.revs[key], w.values[key] = w.rev, value
	stored := w.rev
	w.mu.Unlock()
	b.p.run()
	if w.chance(w.lossy) {
		return 0, errAway
	}
	return stored, nil
}

func (b bucket) Put(context.Context, string, []byte) (uint64, error) { return 0, errors.ErrUnsupported }
func (b bucket) Keys(context.Context, string) ([]string, error)      { return nil, errors.ErrUnsupported }
func (b bucket) Delete(context.Context, string, uint64) error        { return errors.ErrUnsupported }
