// Package circuit stops calling a system that fails. There is one circuit for
// each tenant and system in a process. Several failures in a row (5xx, no
// answer) open it, and so do several refusals of our credentials (401, 403);
// then no call is made, until one is let through after a pause to see. Work
// that waits for an open circuit is not begun, so that no delivery is burnt.
//
// A refusal of one scope among calls that succeed opens nothing.
package circuit

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/goccy/go-json"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/sony/gobreaker/v2"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/streams"
)

// Config says what circuits are like. The zero value is usable.
type Config struct {
	Logger zerolog.Logger
	Clock  clock.Clock // nil means the machine's
	// Trip is how many failures in a row open a circuit; 0 means 5.
	Trip int
	// Pause is how long it stays open before a call is let through; 0 means 5 s.
	Pause time.Duration
	// Metrics takes causeway_circuit_state; nil keeps none.
	Metrics prometheus.Registerer
}

// Causes of an open circuit.
const (
	Away    = "away"
	Refused = "refused"
)

// Set is the circuits of a process. A nil Set has none.
type Set struct {
	cfg   Config
	state *prometheus.GaugeVec

	mu  sync.Mutex
	all map[string]*Breaker
}

// New returns an empty Set.
func New(cfg Config) (*Set, error) {
	if cfg.Trip == 0 {
		cfg.Trip = 5
	}
	if cfg.Pause == 0 {
		cfg.Pause = 5 * time.Second
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.System{}
	}
	s := &Set{cfg: cfg, all: map[string]*Breaker{}, state: prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "causeway_circuit_state", Help: "Circuit of a tenant's system: 0 closed, 1 half-open, 2 open because it fails, 3 open because it refuses our credentials.",
	}, []string{"system", "tenant"})}
	if cfg.Metrics != nil {
		if err := cfg.Metrics.Register(s.state); err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
	}
	return s, nil
}

// Of returns the circuit of a tenant's system, closed at first.
func (s *Set) Of(system canonical.System, tenant canonical.Tenant) *Breaker {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := string(tenant) + "." + string(system)
	if b := s.all[key]; b != nil {
		return b
	}
	b := &Breaker{set: s, system: system, tenant: tenant}
	b.two = gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{
		Name: key, Timeout: s.cfg.Pause,
		ReadyToTrip:   func(c gobreaker.Counts) bool { return int(c.ConsecutiveFailures) >= s.cfg.Trip },
		IsExcluded:    func(err error) bool { return errors.Is(err, errOff) },
		OnStateChange: func(_ string, _, to gobreaker.State) { b.changed(to) },
	})
	s.all[key] = b
	s.state.WithLabelValues(string(system), string(tenant)).Set(0)
	return b
}

func (s *Set) list() []*Breaker {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*Breaker, 0, len(s.all))
	for _, b := range s.all {
		out = append(out, b)
	}
	slices.SortFunc(out, func(a, b *Breaker) int { return strings.Compare(a.two.Name(), b.two.Name()) })
	return out
}

// Breaker is one circuit. A nil Breaker is always closed.
type Breaker struct {
	set    *Set
	system canonical.System
	tenant canonical.Tenant
	two    *gobreaker.TwoStepCircuitBreaker[any]

	mu     sync.Mutex
	now    streams.Circuit // the zero value while all is well
	cause  string          // of the last failure
	reason string
	logged time.Time
	probe  time.Time
}

// What a call came to, for gobreaker.
var (
	errOff    = errors.New("called off")
	errFailed = errors.New("failed")
)

// Transport makes base's calls through the circuit. While that is open they
// fail at once with [apierr.ErrHeld].
func (b *Breaker) Transport(base http.RoundTripper) http.RoundTripper { return transport{b, base} }

type transport struct {
	*Breaker
	base http.RoundTripper
}

// RoundTrip implements [http.RoundTripper].
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	done, err := t.two.Allow()
	if err != nil {
		return nil, apierr.ErrHeld
	}
	res, err := t.base.RoundTrip(r)
	done(t.judge(r, res, err))
	return res, err
}

func (b *Breaker) judge(r *http.Request, res *http.Response, err error) error {
	cause, reason := "", ""
	switch {
	case err != nil && errors.Is(r.Context().Err(), context.Canceled):
		return errOff
	case err != nil:
		cause, reason = Away, "no answer"
	case res.StatusCode >= 500:
		cause, reason = Away, fmt.Sprintf("status %d", res.StatusCode)
	case res.StatusCode == http.StatusUnauthorized, res.StatusCode == http.StatusForbidden:
		cause, reason = Refused, fmt.Sprintf("status %d", res.StatusCode)
	default:
		return nil
	}
	b.mu.Lock()
	b.cause, b.reason = cause, reason
	b.mu.Unlock()
	return errFailed
}

// quiet is how often an open circuit is logged.
const quiet = time.Minute

func (b *Breaker) changed(to gobreaker.State) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.set.cfg.Clock.Now()
	gauge := b.set.state.WithLabelValues(string(b.system), string(b.tenant))
	log := func(e *zerolog.Event) *zerolog.Event {
		return e.Str("system", string(b.system)).Str("tenant", string(b.tenant)).Str("reason", b.reason)
	}
	switch to {
	case gobreaker.StateClosed:
		gauge.Set(0)
		log(b.set.cfg.Logger.Info()).Dur("after", now.Sub(b.now.Since)).Msg("the system works again")
		b.now, b.logged = streams.Circuit{}, time.Time{}
		return
	case gobreaker.StateHalfOpen:
		gauge.Set(1)
		b.now.State, b.probe = "half-open", time.Time{}
		return
	}
	if b.now.Since.IsZero() || b.now.Cause != b.cause {
		b.now.Since, b.logged = now, time.Time{}
	}
	b.now.State, b.now.Cause, b.now.Reason = "open", b.cause, b.reason
	gauge.Set(map[string]float64{Away: 2, Refused: 3}[b.cause])
	if now.Sub(b.logged) < quiet {
		return
	}
	b.logged = now
	if b.cause == Refused {
		log(b.set.cfg.Logger.Error()).Msg("the system refuses our credentials: nothing is read or written there until it takes them again")
		return
	}
	log(b.set.cfg.Logger.Warn()).Msg("the system fails: nothing is read or written there until it answers again")
}

// Holds reports whether work for the system has to wait. Of the work that asks
// while a call may be let through, one is told to go.
func (b *Breaker) Holds() bool {
	if b == nil {
		return false
	}
	state := b.two.State() // which notices that a pause is over
	if state == gobreaker.StateClosed {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.set.cfg.Clock.Now()
	if state == gobreaker.StateOpen || now.Sub(b.probe) < b.set.cfg.Pause {
		return true
	}
	b.probe = now
	return false
}

// Now says how the circuit is; the zero value while all is well.
func (b *Breaker) Now() streams.Circuit {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

// report is how often the circuits are looked at, and again how often one that
// stays open is said to.
const (
	report = time.Second
	again  = 20 * time.Second
)

// Report tells BUDGETS which circuits of stage are open, until ctx is done.
func (s *Set) Report(ctx context.Context, b bus.Bus, stage string) error {
	if s == nil {
		return nil
	}
	kv, err := b.Bucket(ctx, streams.BUDGETS)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", streams.BUDGETS, err)
	}
	said := map[*Breaker]streams.Circuit{}
	for clock.Sleep(ctx, s.cfg.Clock, report) == nil {
		for _, b := range s.list() {
			now, was := b.Now(), said[b]
			at := was.At
			if was.At = (time.Time{}); now == was && (now.State == "" || s.cfg.Clock.Now().Sub(at) < again) {
				continue
			}
			key := streams.CircuitKey(b.system, b.tenant, stage)
			if now.State == "" {
				err = kv.Delete(ctx, key, 0)
			} else {
				now.At = s.cfg.Clock.Now()
				var value []byte
				if value, err = json.Marshal(now); err == nil {
					_, err = kv.Put(ctx, key, value)
				}
			}
			if err == nil {
				said[b] = now
			} // else it is said the next time
		}
	}
	return nil
}
