package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/causeway-sync/causeway/internal/clock"
)

const (
	// asking is how often the broker is asked how far a consumer has come, and
	// doubting how often while it seems to hand out nothing.
	asking, doubting = 5 * time.Second, time.Second
	// patience is how long a consumer may have work without finishing any, and
	// starved how long it may be handed none of what is there. What begins
	// between two questions is so known within 10 s.
	patience, starved = 8 * time.Second, 4 * time.Second
	// grudge is for how long a publish that was not stored is held against the
	// broker, unless one has been stored since.
	grudge = 30 * time.Second
	// tooLarge is the code of what is refused for its own size.
	tooLarge = jetstream.ErrorCode(10054)
)

// progress is what is known of the work on a subscription. A nil progress is
// that of a consumer which keeps none.
type progress struct {
	sub   Subscription
	clock clock.Clock

	mu      sync.Mutex
	held    int // deliveries that are not settled
	working int // runs that have begun and neither ended nor wait
	// since is when something was finished last, or when work began that found
	// nothing else under way.
	since time.Time
	pin   string // as which the server knows this instance, if it has been handed anything

	// What the broker said last.
	pending, unacked uint64
	delivered        uint64    // how often anything was handed out to anybody
	hungry           time.Time // since when there is something and nobody is handed it; zero: that isn't so
	err              error     // why it can't be asked
}

// run is one piece of work: a handler's, or that on a key that [Coalesce] has
// begun. A nil run is watched by nobody.
type run struct {
	of    *progress
	waits int // how many things it waits for
	ended bool
}

// begin starts a run.
func (p *progress) begin() *run {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.start()
}

func (p *progress) start() *run {
	if p.working == 0 {
		p.since = p.clock.Now()
	}
	p.working++
	return &run{of: p}
}

// handed starts the run of a delivery.
func (p *progress) handed(pin string) *run {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held++
	p.hungry = time.Time{}
	if pin != "" {
		p.pin = pin
	}
	return p.start()
}

func (p *progress) settled() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held--
	p.since = p.clock.Now()
}

// end says that the work is done, with whatever result.
func (r *run) end() { r.stop(true) }

// leave says that the work is not to be counted here.
func (r *run) leave() { r.stop(false) }

func (r *run) stop(done bool) {
	if r == nil {
		return
	}
	r.of.mu.Lock()
	defer r.of.mu.Unlock()
	if r.ended {
		return
	}
	r.ended = true
	if r.waits == 0 {
		r.of.working--
	}
	if done {
		r.of.since = r.of.clock.Now()
	}
}

// watched returns a context under which the run's waits are noted.
func (r *run) watched(ctx context.Context) context.Context {
	if r == nil {
		return ctx
	}
	return clock.Watched(ctx, func() (over func()) {
		r.wait(1)
		return func() { r.wait(-1) }
	})
}

func (r *run) wait(by int) {
	p := r.of
	p.mu.Lock()
	defer p.mu.Unlock()
	was := r.waits > 0
	r.waits += by
	switch now := r.waits > 0; {
	case r.ended || now == was:
	case now:
		p.working--
	default:
		p.working++
		p.since = p.clock.Now()
	}
}

// stalled returns for how long there has been work and none was finished, and
// why that is too long, if it is.
func (p *progress) stalled() (time.Duration, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock.Now()
	switch {
	case p.err != nil:
		return 0, p.err
	case p.working > 0:
		d := now.Sub(p.since)
		if d > patience {
			return d, fmt.Errorf("nothing was finished for %s: %d under way, %d wait at the broker", d.Round(time.Second), p.working, p.pending)
		}
		return d, nil
	case !p.hungry.IsZero():
		d := now.Sub(p.hungry)
		if d > starved {
			return d, fmt.Errorf("nothing was handed out for %s: %d wait at the broker", d.Round(time.Second), p.pending)
		}
		return d, nil
	}
	return 0, nil
}

// told takes in what the broker says.
func (p *progress) told(info *jetstream.ConsumerInfo, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err = err; err != nil {
		p.hungry = time.Time{}
		return
	}
	p.pending, p.unacked = info.NumPending, uint64(info.NumAckPending)
	// Another instance that is pinned works, or will be found out; so does one
	// that has been handed something meanwhile.
	stands := slices.ContainsFunc(info.PriorityGroups, func(g jetstream.PriorityGroupState) bool {
		return g.PinnedClientID != "" && g.PinnedClientID != p.pin
	})
	full := info.Config.MaxAckPending > 0 && info.NumAckPending >= info.Config.MaxAckPending
	moved := info.Delivered.Consumer != p.delivered
	p.delivered = info.Delivered.Consumer
	switch {
	case p.pending == 0, p.held > 0, stands, full, info.Paused, moved:
		p.hungry = time.Time{}
	case p.hungry.IsZero():
		p.hungry = p.clock.Now()
	}
}

// next returns when the broker is to be asked again.
func (p *progress) next() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hungry.IsZero() && p.err == nil {
		return asking
	}
	return doubting
}

func (c *Conn) attend(sub Subscription) *progress {
	p := &progress{sub: sub, clock: c.clock}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all[p] = true
	return p
}

func (c *Conn) leave(p *progress) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.all, p)
}

// watch asks the broker about p's consumer until ctx is done.
func (c *Conn) watch(ctx context.Context, p *progress) {
	for ctx.Err() == nil {
		info, err := c.consumerInfo(ctx, p.sub)
		if ctx.Err() != nil {
			return
		}
		p.told(info, err)
		_ = clock.Sleep(ctx, c.clock, p.next()) // ctx is looked at above
	}
}

func (c *Conn) consumerInfo(ctx context.Context, sub Subscription) (*jetstream.ConsumerInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	consumer, err := c.js.Consumer(ctx, sub.Stream, sub.Durable)
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound):
		return nil, errors.New("there is no such consumer on " + sub.Stream)
	case err != nil:
		return nil, fmt.Errorf("the broker doesn't say how far it is: %w", err)
	}
	return consumer.CachedInfo(), nil
}

// failure is that of a publish.
type failure struct {
	at  time.Time
	err error
}

// noteStore notes whether the broker stores what is published under to.
func (c *Conn) noteStore(to string, err error) {
	var api *jetstream.APIError
	switch {
	case errors.Is(err, ErrWrongSequence), errors.As(err, &api) && api.ErrorCode == tooLarge:
	case err != nil:
		c.failed.Store(to, failure{c.clock.Now(), err})
	default:
		if _, ok := c.failed.Load(to); ok {
			c.failed.Delete(to)
		}
	}
}

// Healthy returns an error that says why the work can't be done now, nil if it
// is done or there is none: the broker is away, it doesn't store what is
// published (a full disk, a stream at its limit), a consumer is not there, or a
// consumer has had work for eight seconds and none of it was finished. Work
// that waits (see [clock.Waits]) or is held, and what another instance is
// pinned for, is no reason.
func (c *Conn) Healthy() error {
	if !c.connected() {
		return fmt.Errorf("nats connection is %s", strings.ToLower(c.nc.Status().String()))
	}
	var reasons []error
	now := c.clock.Now()
	c.failed.Range(func(to, f any) bool {
		if f := f.(failure); now.Sub(f.at) < grudge {
			reasons = append(reasons, fmt.Errorf("publish to %s: %w", to, f.err))
		}
		return true
	})
	for _, p := range c.attended() {
		if _, err := p.stalled(); err != nil {
			reasons = append(reasons, fmt.Errorf("consumer %s: %w", p.sub.Durable, err))
		}
	}
	return errors.Join(reasons...)
}

// connected reports whether the connection is there now.
func (c *Conn) connected() bool { return c.nc.Status() == nats.CONNECTED }

// attended returns the progress of all subscriptions, by consumer.
func (c *Conn) attended() []*progress {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]*progress, 0, len(c.all))
	for p := range c.all {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b *progress) int { return strings.Compare(a.sub.Durable, b.sub.Durable) })
	return out
}

// consumers are the gauges of what is attached to.
type consumers struct{ c *Conn }

var (
	pendingDesc = prometheus.NewDesc("causeway_consumer_pending", "Messages that a durable consumer has not handed out yet, as the broker said at most 5 s ago.", []string{"consumer"}, nil)
	unackedDesc = prometheus.NewDesc("causeway_consumer_unacked", "Messages that a durable consumer has handed out and that are not settled, as the broker said at most 5 s ago.", []string{"consumer"}, nil)
	stalledDesc = prometheus.NewDesc("causeway_consumer_stalled_seconds", "For how long a durable consumer has had work here without finishing any; 0 when it is idle, waits or goes on.", []string{"consumer"}, nil)
)

// Describe implements [prometheus.Collector].
func (consumers) Describe(out chan<- *prometheus.Desc) {
	out <- pendingDesc
	out <- unackedDesc
	out <- stalledDesc
}

// Collect implements [prometheus.Collector].
func (s consumers) Collect(out chan<- prometheus.Metric) {
	type values struct{ pending, unacked, stalled float64 }
	all := map[string]values{}
	for _, p := range s.c.attended() {
		d, _ := p.stalled()
		if d < time.Second {
			d = 0 // it goes on
		}
		p.mu.Lock()
		v := all[p.sub.Durable] // two subscriptions of one process are one consumer
		all[p.sub.Durable] = values{max(v.pending, float64(p.pending)), max(v.unacked, float64(p.unacked)), max(v.stalled, d.Seconds())}
		p.mu.Unlock()
	}
	for name, v := range all {
		out <- prometheus.MustNewConstMetric(pendingDesc, prometheus.GaugeValue, v.pending, name)
		out <- prometheus.MustNewConstMetric(unackedDesc, prometheus.GaugeValue, v.unacked, name)
		out <- prometheus.MustNewConstMetric(stalledDesc, prometheus.GaugeValue, v.stalled, name)
	}
}
