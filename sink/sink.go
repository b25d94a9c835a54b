// Package sink writes to the outside world. It never decides what is true: it
// makes each destination look like the canonical record, and reports what it
// did as one more observation.
package sink

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/circuit"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/dead"
	"github.com/causeway-sync/causeway/internal/ghlapi"
	"github.com/causeway-sync/causeway/internal/hold"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/internal/noviapi"
	"github.com/causeway-sync/causeway/internal/rule"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/sink/act"
	"github.com/causeway-sync/causeway/sink/apply"
	"github.com/causeway-sync/causeway/sink/ghl"
	"github.com/causeway-sync/causeway/sink/novi"
)

// Config is what a sink needs.
type Config struct {
	Bus     bus.Bus
	Clock   clock.Clock
	Rand    rand.Source // for back-off; each controller gets its own, seeded from it
	Logger  zerolog.Logger
	Metrics prometheus.Registerer // nil keeps none
	Tenants []Tenant
	// Close, if set, is called when Run has ended.
	Close func()
	// HTTP calls the webhooks of rules; nil means one that waits 15 s for an answer
	// and follows no redirect.
	HTTP *http.Client
	// Secret returns what a reference of a rule refers to.
	Secret func(reference string) (string, error)
	// Circuits stop the work at a system that fails; nil stops none.
	Circuits *circuit.Set
}

// Tenant is one association's two destinations.
type Tenant struct {
	Name canonical.Tenant
	Lens *mapping.Lens
	// GHL and Novi write to the two systems; nil means that the tenant has
	// none, and nothing is written there.
	GHL  *ghlapi.Client
	Novi *noviapi.Client
	// Protect are the keys without which a Novi member is not written to.
	Protect []string
	// CreateGHL and CreateNovi say which contacts are made there that the
	// system has no record of. A Novi member is a QuickBooks customer.
	CreateGHL, CreateNovi mapping.Condition
	// Backfill says that ingest reads each system whole at first. Nothing is
	// written to a system before: what is not known yet would be made twice.
	Backfill bool
	// SweptGHL and SweptNovi say that ingest sweeps through all tasks and notes,
	// or activities, of the system. With Backfill none is written there before
	// each was seen once.
	SweptGHL, SweptNovi bool
	// Policy says which flows are switched off and what a delete does; nil
	// means the defaults.
	Policy *mapping.Policy
	// Rules are the tenant's automations, of which the sink does what is to be
	// done outside.
	Rules rule.Set
	// Workers is how many entities are written at once at each destination; 0
	// means 8.
	Workers int
}

// sweep is how often dead letters are looked through for those whose entity
// has succeeded since.
const sweep = 5 * time.Second

// Run works until ctx is done, then finishes the writes that it has begun and
// returns nil.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Close != nil {
		defer cfg.Close()
	}
	put, err := newPuts(cfg.Metrics)
	if err != nil {
		return err
	}
	crossed, err := latency(cfg.Metrics)
	if err != nil {
		return err
	}
	if cfg.HTTP == nil {
		cfg.HTTP = &http.Client{Timeout: 15 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return cfg.Circuits.Report(ctx, cfg.Bus, "sink") })
	g.Go(func() error {
		return dead.Run(ctx, cfg.Bus, cfg.Clock, sweep, func(err error) { cfg.Logger.Warn().Err(err).Msg("dead letters could not be looked through") })
	})
	for _, t := range cfg.Tenants {
		if err := t.Lens.Check(); err != nil {
			return fmt.Errorf("tenant %s: %w", t.Name, err)
		}
		gate := hold.New(hold.Config{Bus: cfg.Bus, Clock: cfg.Clock, Logger: cfg.Logger, Tenant: t.Name, Limit: t.Policy.Hold()})
		if cfg.Metrics != nil {
			if err := cfg.Metrics.Register(gate.Metric()); err != nil {
				return fmt.Errorf("metrics: %w", err)
			}
		}
		g.Go(func() error { return gate.Watch(ctx) })
		start := func(system canonical.System, d apply.Destination, create mapping.Condition, swept bool) {
			var items early
			if t.Backfill && swept {
				items = newEarly(system)
			}
			ready := func(ctx context.Context) error {
				if system == canonical.GHL {
					if err := t.GHL.Ready(ctx); err != nil {
						return err
					}
				}
				if t.Backfill {
					return backfilled(ctx, cfg, system, t.Name)
				}
				return nil
			}
			c := apply.New(apply.Config{Ready: ready, Hold: cfg.Circuits.Of(system, t.Name).Holds, Early: items.is,
				Bus: cfg.Bus, Clock: cfg.Clock, Rand: rand.New(rand.NewPCG(cfg.Rand.Uint64(), cfg.Rand.Uint64())), Logger: cfg.Logger,
				System: system, Tenant: t.Name, Lens: t.Lens, Destination: d, Create: create, Policy: t.Policy, Gate: gate, Workers: t.Workers,
				Restored: func() { put.restored.WithLabelValues(string(system), string(t.Name)).Inc() },
				Crossed: func(kind canonical.Kind, took time.Duration) {
					crossed.WithLabelValues(string(system), string(t.Name), string(kind)).Observe(took.Seconds())
				},
			})
			g.Go(func() error { items.watch(ctx, cfg, system, t.Name); return nil })
			g.Go(func() error { return c.Run(ctx) })
		}
		if t.Rules.Outside() {
			actor := act.New(act.Config{Bus: cfg.Bus, Clock: cfg.Clock, Logger: cfg.Logger, Tenant: t.Name, Rules: t.Rules, GHL: t.GHL,
				Hold: cfg.Circuits.Of(canonical.GHL, t.Name).Holds, HTTP: cfg.HTTP, Secret: cfg.Secret})
			g.Go(func() error { return actor.Run(ctx) })
		}
		if t.GHL != nil {
			start(canonical.GHL, ghl.New(t.GHL, t.Lens, cfg.Clock), t.CreateGHL, t.SweptGHL)
		}
		if t.Novi != nil {
			d := novi.New(t.Novi, t.Lens, t.Protect...)
			d.Replaced = func(kind canonical.Kind, began time.Time) {
				put.window.WithLabelValues(string(canonical.Novi), string(t.Name), string(kind)).Observe(cfg.Clock.Now().Sub(began).Seconds())
			}
			start(canonical.Novi, d, t.CreateNovi, t.SweptNovi)
		}
	}
	return g.Wait()
}

// puts are the metrics of writes that replace a record whole.
type puts struct {
	window   *prometheus.HistogramVec
	restored *prometheus.CounterVec
}

func newPuts(metrics prometheus.Registerer) (puts, error) {
	p := puts{
		window: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "causeway_put_window_seconds", Help: "Time from the beginning of a read to the answer of the PUT that replaced what it showed: what a person saves in between is overwritten.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}, []string{"system", "tenant", "kind"}),
		restored: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "causeway_put_restored_total", Help: "Edits that a PUT overwrote, that a read had shown, and that were given back.",
		}, []string{"system", "tenant"}),
	}
	if metrics == nil {
		return p, nil
	}
	for _, c := range []prometheus.Collector{p.window, p.restored} {
		if err := metrics.Register(c); err != nil {
			return p, fmt.Errorf("metrics: %w", err)
		}
	}
	return p, nil
}

// latency counts how long changes take from one system to the other.
func latency(metrics prometheus.Registerer) (*prometheus.HistogramVec, error) {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "causeway_sync_latency_seconds",
		Help:    "Time from a change at its source, by the source's clock, until the system named here had it; none of changes older than a day.",
		Buckets: []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200},
	}, []string{"system", "tenant", "kind"})
	if metrics != nil {
		if err := metrics.Register(h); err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
	}
	return h, nil
}
