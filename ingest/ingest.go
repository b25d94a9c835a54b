// Package ingest is everything that reads the outside world: webhooks,
// fetches, polls, backfills. It publishes observations and decides nothing.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/causeway-sync/causeway/ingest/ghl"
	"github.com/causeway-sync/causeway/ingest/hydrate"
	"github.com/causeway-sync/causeway/ingest/install"
	"github.com/causeway-sync/causeway/ingest/novi"
	"github.com/causeway-sync/causeway/ingest/poll"
	"github.com/causeway-sync/causeway/ingest/webhook"
	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/circuit"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/erase"
	"github.com/causeway-sync/causeway/internal/ghlapi"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/internal/noviapi"
	"github.com/causeway-sync/causeway/internal/tokens"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/streams"
)

// The routes of the front door.
const (
	GHLPath  = "/hooks/ghl"
	NoviPath = "/hooks/novi/" // followed by the tenant's secret token
)

// Config is what an ingest needs.
type Config struct {
	Bus    bus.Bus
	Clock  clock.Clock
	Logger zerolog.Logger
	// Metrics takes the counters; nil keeps none.
	Metrics prometheus.Registerer
	// Listener is where webhooks arrive; nil means that none do.
	Listener net.Listener
	// PerSecond limits the webhooks from one address; 0 means 1,000.
	PerSecond int
	// Install takes installations of the marketplace app; nil means that there
	// is none. Sources are refreshed ahead of their expiry.
	Install *install.Installer
	Sources []*tokens.Source
	// GHL says whose webhooks are taken; its Tenants are filled in from
	// Config.Tenants.
	GHL     ghl.Source
	Tenants []Tenant
	// Close, if set, is called when Run has ended.
	Close func()
	// Circuits stop the calls to a system that fails; nil stops none.
	Circuits *circuit.Set
}

// Tenant is one association's two sources.
type Tenant struct {
	Name canonical.Tenant
	// GHL and Novi read the two systems; nil means that the tenant has none.
	GHL      *ghlapi.Client
	Location string // the GHL location's id
	Novi     *noviapi.Client
	// NoviToken is the secret in the path of the tenant's webhooks; "" means
	// that it has none.
	NoviToken string
	NoviHook  novi.Source
	// Backfill walks everything once. PollGHL and PollNovi are intervals; 0
	// means never.
	Backfill          bool
	PollGHL, PollNovi time.Duration
	// SweepGHL and SweepNovi are the intervals of the sweeps through open tasks,
	// notes and the activities of the next year; 0 means never. SweepAllGHL and
	// SweepAllNovi are those of what changes rarely: done tasks, and all
	// activities.
	SweepGHL, SweepNovi       time.Duration
	SweepAllGHL, SweepAllNovi time.Duration
	// SweepGroups is the interval at which it is looked who is in which of the
	// Novi site's groups; 0 means never.
	SweepGroups time.Duration
	// HasActivities says that the Novi site has tasks, notes and meetings.
	HasActivities bool
	// Lens says what a record shows, for reconciles; without one there are none.
	Lens *mapping.Lens
	// ReconcileGHL and ReconcileNovi are the intervals of reconciles that nobody
	// asks for, 0 meaning never, and MaxRepairs is how many differences each may
	// repair.
	ReconcileGHL, ReconcileNovi time.Duration
	MaxRepairs                  int
	// Workers is how many records are fetched at once; 0 means 8.
	Workers int
}

// The overlaps of polls: GHL's index is behind, and Novi may ignore the time
// of day (dossiers GHL §3.3, Novi §7).
const (
	ghlOverlap  = 5 * time.Minute
	noviOverlap = 26 * time.Hour
)

// notePages is how many pages of contacts have their notes read at each
// interval.
const notePages = 5

// Run works until ctx is done, then stops taking, finishes what it has begun
// and returns nil.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Close != nil {
		defer cfg.Close()
	}
	cfg.Bus = erase.NewGuard(cfg.Bus, cfg.Clock)
	drift, err := newDrift(cfg.Metrics)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	if cfg.Listener != nil {
		handler, err := Handler(cfg)
		if err != nil {
			return err
		}
		g.Go(func() error { return serve(ctx, cfg.Listener, handler) })
	}
	if len(cfg.Sources) > 0 {
		g.Go(func() error { tokens.Keep(ctx, cfg.Clock, cfg.Sources); return nil })
	}
	g.Go(func() error { return cfg.Circuits.Report(ctx, cfg.Bus, "ingest") })
	for _, t := range cfg.Tenants {
		fetchers := map[canonical.System]hydrate.Fetcher{}
		// A location is read from once there are credentials for it.
		ready := func(ctx context.Context, system canonical.System) error {
			if system == canonical.GHL {
				return t.GHL.Ready(ctx)
			}
			return nil
		}
		walk := func(system canonical.System, l poll.Lister, every, overlap time.Duration) {
			g.Go(func() error {
				if ready(ctx, system) != nil {
					return nil // stopped before it began
				}
				return poll.Run(ctx, poll.Config{Bus: cfg.Bus, Clock: cfg.Clock, Logger: cfg.Logger, System: system, Tenant: t.Name,
					Lister: l, Backfill: t.Backfill, Every: every, Overlap: overlap})
			})
		}
		sweep := func(system canonical.System, name string, s poll.Sweeper, every, contacts time.Duration, pages int) {
			g.Go(func() error {
				if ready(ctx, system) != nil {
					return nil
				}
				return poll.RunSweep(ctx, poll.SweepConfig{Bus: cfg.Bus, Clock: cfg.Clock, Logger: cfg.Logger, System: system, Tenant: t.Name,
					Name: name, Sweeper: s, AfterContacts: t.Backfill || contacts > 0, Every: every, Pages: pages})
			})
		}
		reconcile := func(system canonical.System, r poll.Reader, every time.Duration, items ...poll.Sweeper) {
			if t.Lens == nil {
				return
			}
			g.Go(func() error {
				return poll.RunReconcile(ctx, poll.ReconcileConfig{Bus: cfg.Bus, Clock: cfg.Clock, Logger: cfg.Logger, System: system, Tenant: t.Name,
					Lens: t.Lens, Reader: r, Items: items, Lane: reconcileLane, Every: every, Max: t.MaxRepairs, Report: drift.report(system, t.Name)})
			})
		}
		if t.GHL != nil {
			r := ghl.NewReader(t.GHL)
			fetchers[canonical.GHL] = r
			walk(canonical.GHL, r, t.PollGHL, ghlOverlap)
			sweep(canonical.GHL, streams.SweepTasks, r.Tasks(false), t.SweepGHL, t.PollGHL, 0)
			sweep(canonical.GHL, streams.SweepDoneTasks, r.Tasks(true), t.SweepAllGHL, t.PollGHL, 0)
			sweep(canonical.GHL, streams.SweepNotes, r.Notes(), t.SweepGHL, t.PollGHL, notePages)
			sweep(canonical.GHL, streams.SweepAppointments, r.Appointments(), t.SweepAllGHL, t.PollGHL, notePages)
			slow := r.In(reconcileLane)
			reconcile(canonical.GHL, slow, t.ReconcileGHL, slow.Tasks(false), slow.Tasks(true), slow.Notes(), slow.Appointments())
		}
		if t.Novi != nil {
			r := novi.NewReader(t.Novi, cfg.Clock)
			fetchers[canonical.Novi] = r
			walk(canonical.Novi, r, t.PollNovi, noviOverlap)
			sweep(canonical.Novi, streams.SweepActivityWindow, r.Activities(true), t.SweepNovi, t.PollNovi, 0)
			sweep(canonical.Novi, streams.SweepActivities, r.Activities(false), t.SweepAllNovi, t.PollNovi, 0)
			if t.Lens != nil {
				g.Go(func() error {
					return poll.RunGroups(ctx, poll.GroupConfig{Bus: cfg.Bus, Clock: cfg.Clock, Logger: cfg.Logger, System: canonical.Novi, Tenant: t.Name,
						Lens: t.Lens, Grouper: r, Every: t.SweepGroups})
				})
			}
			slow := r.In(reconcileLane)
			var items []poll.Sweeper
			if t.HasActivities {
				items = append(items, slow.Activities(false))
			}
			reconcile(canonical.Novi, slow, t.ReconcileNovi, items...)
		}
		g.Go(func() error {
			return hydrate.Run(ctx, hydrate.Config{Bus: cfg.Bus, Clock: cfg.Clock, Logger: cfg.Logger, Tenant: t.Name, Fetchers: fetchers, Workers: t.Workers,
				Hold: func(s canonical.System) bool { return cfg.Circuits.Of(s, t.Name).Holds() }})
		})
	}
	return g.Wait()
}

// reconcileLane is what a reconcile may use: what nothing else wants.
const reconcileLane = budget.Reconcile

// drift counts what reconciles have found.
type drift struct{ found *prometheus.GaugeVec }

func newDrift(metrics prometheus.Registerer) (drift, error) {
	d := drift{prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "causeway_drift_records", Help: "Records that the last reconcile found to differ, by how.",
	}, []string{"system", "tenant", "kind", "what"})}
	if metrics == nil {
		return d, nil
	}
	if err := metrics.Register(d.found); err != nil {
		return d, fmt.Errorf("metrics: %w", err)
	}
	return d, nil
}

func (d drift) report(system canonical.System, tenant canonical.Tenant) func(streams.Reconcile) {
	return func(r streams.Reconcile) {
		for kind, n := range r.Drift {
			for what, n := range map[streams.DriftKind]int{streams.Differing: n.Differing, streams.MissingHere: n.MissingHere, streams.MissingThere: n.MissingThere} {
				d.found.WithLabelValues(string(system), string(tenant), string(kind), string(what)).Set(float64(n))
			}
		}
	}
}

// Handler is the front door for all tenants.
func Handler(cfg Config) (http.Handler, error) {
	door := webhook.Config{Publisher: cfg.Bus, Clock: cfg.Clock, Logger: cfg.Logger, PerSecond: cfg.PerSecond}
	if cfg.Metrics != nil {
		counter := prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "causeway_webhooks_total", Help: "Webhooks by system and what became of them.",
		}, []string{"system", "result"})
		if err := cfg.Metrics.Register(counter); err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
		door.Count = func(s canonical.System, result string) { counter.WithLabelValues(string(s), result).Inc() }
	}
	source := cfg.GHL
	source.Tenants = map[string]canonical.Tenant{}
	sites := map[string]http.Handler{}
	for _, t := range cfg.Tenants {
		if t.Location != "" {
			if other, taken := source.Tenants[t.Location]; taken {
				return nil, fmt.Errorf("tenants %s and %s have the same GHL location", other, t.Name)
			}
			source.Tenants[t.Location] = t.Name
		}
		if t.NoviToken == "" {
			continue
		}
		if sites[t.NoviToken] != nil {
			return nil, fmt.Errorf("tenant %s: another tenant has the same Novi webhook token", t.Name)
		}
		hook := t.NoviHook
		hook.Tenant = t.Name
		d, err := webhook.New(door, hook)
		if err != nil {
			return nil, err
		}
		sites[t.NoviToken] = d
	}
	mux := http.NewServeMux()
	if cfg.Install != nil {
		door.Events = cfg.Install.Event
		mux.Handle(install.StartPath, cfg.Install)
		mux.Handle(install.CallbackPath, cfg.Install)
	}
	d, err := webhook.New(door, source)
	if err != nil {
		return nil, err
	}
	mux.Handle(GHLPath, d)
	mux.HandleFunc(NoviPath+"{token}", func(w http.ResponseWriter, r *http.Request) {
		h := sites[r.PathValue("token")]
		if h == nil {
			// As if there were no such path: it says nothing of what tokens there are.
			http.NotFound(w, r)
			return
		}
		h.ServeHTTP(w, r)
	})
	return mux, nil
}

func serve(ctx context.Context, l net.Listener, h http.Handler) error {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: time.Minute,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		stopped <- srv.Shutdown(grace)
	})
	err := srv.Serve(l)
	if stop() {
		return fmt.Errorf("front door: %w", err)
	}
	if err := <-stopped; err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("front door: %w", err)
	}
	return nil
}
