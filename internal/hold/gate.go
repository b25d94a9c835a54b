package hold

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/goccy/go-json"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/streams"
)

// Config is what a Gate needs.
type Config struct {
	Bus    bus.Bus
	Clock  clock.Clock
	Logger zerolog.Logger
	Tenant canonical.Tenant
	Limit  mapping.Hold
}

// Gate is what every delete of a tenant goes through. It may be used from any
// goroutine; Gates of other processes count with it.
type Gate struct {
	Config
	held prometheus.Gauge

	mu       sync.Mutex
	kv       bus.KV
	entities uint64
	counted  time.Time // when entities was
}

const (
	// fresh is how long the number of a tenant's entities is believed.
	fresh = time.Minute
	// look is how often the gauge looks at HOLDS.
	look = 5 * time.Second
)

// New returns a Gate.
func New(cfg Config) *Gate {
	return &Gate{Config: cfg, held: prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "causeway_holds", Help: "1 while a tenant's deletes are held until a person releases them.",
		ConstLabels: prometheus.Labels{"tenant": string(cfg.Tenant)},
	})}
}

// Metric is the gauge that says whether the tenant's deletes are held.
func (g *Gate) Metric() prometheus.Collector { return g.held }

// Watch keeps the gauge until ctx is done.
func (g *Gate) Watch(ctx context.Context) error {
	for ctx.Err() == nil {
		if kv, err := g.bucket(ctx); err == nil {
			if s, _, err := load(ctx, kv, g.Tenant); err == nil {
				g.show(s.Held)
			}
		}
		if clock.Sleep(ctx, g.Clock, look) != nil {
			break
		}
	}
	return nil
}

func (g *Gate) show(held bool) {
	if held {
		g.held.Set(1)
	} else {
		g.held.Set(0)
	}
}

func (g *Gate) bucket(ctx context.Context) (bus.KV, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.kv == nil {
		kv, err := g.Bus.Bucket(ctx, streams.HOLDS)
		if err != nil {
			return nil, err
		}
		g.kv = kv
	}
	return g.kv, nil
}

// Admit reports whether d may be sent. If not, it is held: it is in HOLDS, and
// its entity will be woken when a person has released it, so there is nothing
// more to do now. again says that it was admitted before and didn't come
// about, so that it isn't counted twice.
func (g *Gate) Admit(ctx context.Context, d Delete, again bool) (bool, error) {
	kv, err := g.bucket(ctx)
	if err != nil {
		return false, err
	}
	d.Tenant, d.At = g.Tenant, g.Clock.Now().UTC()
	for {
		admitted, err := g.admit(ctx, kv, d, again)
		if errors.Is(err, bus.ErrWrongSequence) {
			continue // another delete came between
		}
		return admitted, err
	}
}

func (g *Gate) admit(ctx context.Context, kv bus.KV, d Delete, again bool) (bool, error) {
	s, rev, err := load(ctx, kv, g.Tenant)
	if err != nil {
		return false, err
	}
	g.show(s.Held)
	if s.Held {
		return false, g.hold(ctx, kv, d, s, rev)
	}
	was, _, err := entry(ctx, kv, d.key())
	listed := err == nil
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		return false, err
	}
	if !again && !was.Released && g.Limit.Count > 0 {
		n := s.count(d.At, g.Limit.Within)
		if n > g.Limit.Count {
			entities, err := g.count(ctx)
			if err != nil {
				return false, err
			}
			if float64(n) > g.Limit.Percent/100*float64(entities) {
				s.Held, s.Since, s.Deletes, s.Entities, s.Recent = true, d.At, n, entities, nil
				return false, g.hold(ctx, kv, d, s, rev)
			}
		}
		if _, err := save(ctx, kv, g.Tenant, s, rev); err != nil {
			return false, err
		}
	}
	if listed {
		if err := kv.Delete(ctx, d.key(), 0); err != nil {
			return false, fmt.Errorf("held delete of %s %s: %w", d.Kind, d.ID, err)
		}
	}
	return true, nil
}

// hold lists d and then confirms the hold: should a person have released it
// meanwhile, the list may have been read before d was on it.
func (g *Gate) hold(ctx context.Context, kv bus.KV, d Delete, s state, rev uint64) error {
	was, _, err := entry(ctx, kv, d.key())
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		return err
	}
	if err != nil || was.Released { // what an earlier hold let go is held by this one
		value, err := json.Marshal(d)
		if err == nil {
			_, err = kv.Put(ctx, d.key(), value)
		}
		if err != nil {
			return fmt.Errorf("hold delete of %s %s: %w", d.Kind, d.ID, err)
		}
	}
	s.Changes++
	if rev, err = save(ctx, kv, g.Tenant, s, rev); err != nil {
		return err
	}
	g.show(true)
	if s.Changes == 1 {
		g.Logger.Error().Str("tenant", string(g.Tenant)).Int("deletes", s.Deletes).Uint64("entities", s.Entities).Msg("so many deletes at once are held until a person releases them")
	}
	if s.Told {
		return nil
	}
	if err := g.tell(ctx, s); err != nil {
		return err // whoever comes next tells it
	}
	s.Told = true
	if _, err := save(ctx, kv, g.Tenant, s, rev); err != nil && !errors.Is(err, bus.ErrWrongSequence) {
		return err
	}
	return nil
}

// tell publishes the dead letter, which is one for the whole hold.
func (g *Gate) tell(ctx context.Context, s state) error {
	letter := envelope.DeadLetter{Stage: stage, Tenant: g.Tenant, ID: letterID, Class: envelope.Data, At: s.Since, Reason: fmt.Sprintf(
		"%d deletes within %s, of %d entities, are more than %d and %g %%: no delete is sent until `causeway hold release %s`",
		s.Deletes, g.Limit.Within, s.Entities, g.Limit.Count, g.Limit.Percent, g.Tenant)}
	data, err := json.Marshal(letter)
	if err == nil {
		_, err = g.Bus.Publish(ctx, bus.Message{Subject: letterSubject(g.Tenant), Data: data})
	}
	if err != nil {
		return fmt.Errorf("dead letter of the hold of tenant %s: %w", g.Tenant, err)
	}
	return nil
}

// count returns how many entities the tenant has: all that were created less
// all that were deleted or merged into others. One that came back isn't
// counted, so that the number is too low rather than too high.
func (g *Gate) count(ctx context.Context) (uint64, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.Clock.Now()
	if now.Sub(g.counted) < fresh {
		return g.entities, nil
	}
	n := map[canonical.Op]uint64{}
	for _, op := range []canonical.Op{canonical.OpCreated, canonical.OpDeleted, canonical.OpMerged} {
		var err error
		if n[op], err = g.Bus.Subjects(ctx, streams.CANONICAL, streams.Events(g.Tenant, op)); err != nil {
			return 0, fmt.Errorf("entities of tenant %s: %w", g.Tenant, err)
		}
	}
	gone := n[canonical.OpDeleted] + n[canonical.OpMerged]
	g.entities, g.counted = n[canonical.OpCreated]-min(gone, n[canonical.OpCreated]), now
	return g.entities, nil
}

// Forget takes an entity's released deletes at a system off the list: it was
// looked at, and what is still there is not to be deleted any more.
func (g *Gate) Forget(ctx context.Context, system canonical.System, kind canonical.Kind, id canonical.CanonicalID) error {
	kv, err := g.bucket(ctx)
	if err != nil {
		return err
	}
	listed, err := find(ctx, kv, streams.HeldOf(g.Tenant, system, kind, id))
	if err != nil {
		return err
	}
	for _, d := range listed {
		if !d.Released {
			continue
		}
		if err := kv.Delete(ctx, d.key(), 0); err != nil {
			return fmt.Errorf("held delete of %s %s: %w", kind, id, err)
		}
	}
	return nil
}
