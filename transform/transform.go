// Package transform decides: whose value wins, who is the same person, what
// is new. It touches nothing but the broker. Given the same RAW stream it
// reaches the same state.
//
// An entity's state is the last message under its subjects on CANONICAL. A
// transition is one publish of the whole new state that expects the sequence
// of the last, so that state and event are one atomic write, two instances
// can't both win, and there is nothing to reconcile after a crash. RAW is
// acked after CANONICAL has it.
package transform

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"

	"github.com/goccy/go-json"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
	"github.com/causeway-sync/causeway/transform/derive"
	"github.com/causeway-sync/causeway/transform/identity"
	"github.com/causeway-sync/causeway/transform/merge"
)

// Config is what a transform needs.
type Config struct {
	Bus    bus.Bus
	Logger zerolog.Logger
	// Tenants and their policies. An observation of another tenant becomes a
	// dead letter.
	Tenants map[canonical.Tenant]Policy
	// Shards is how many entities are worked on side by side; 0 means 16. One
	// entity is always worked on in order.
	Shards int
	// Cache is how many entities each shard remembers; 0 means 4,096. What is
	// remembered is validated by every publish.
	Cache int
}

// Policy is a tenant's merge policy.
type Policy struct {
	Lens *mapping.Lens
}

// Run works until ctx is done, then finishes what it has taken and returns
// nil. It returns an error if it can't start.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Shards == 0 {
		cfg.Shards = 16
	}
	if cfg.Cache == 0 {
		cfg.Cache = 4096
	}
	for tenant, p := range cfg.Tenants {
		if err := p.Lens.Check(); err != nil {
			return fmt.Errorf("tenant %s: %w", tenant, err)
		}
	}
	claims, err := cfg.Bus.Bucket(ctx, streams.IDENTITY)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", streams.IDENTITY, err)
	}
	for _, c := range []streams.Consumer{streams.Transform(), streams.Tags()} {
		if err := cfg.Bus.EnsureConsumer(ctx, c); err != nil {
			return fmt.Errorf("consumer %s: %w", c.Durable, err)
		}
	}
	resolver, err := identity.New(claims, func(ctx context.Context, tenant canonical.Tenant, id canonical.CanonicalID) (canonical.ContactEvent, bool, error) {
		state, _, err := load(ctx, cfg.Bus, tenant, id)
		return state, state.Version > 0, err
	}, 1<<16)
	if err != nil {
		return err
	}
	d := &dispatcher{cfg: cfg, resolver: resolver, seed: maphash.MakeSeed()}
	work, finish := context.WithCancel(context.WithoutCancel(ctx))
	defer finish()
	var shards errgroup.Group
	for range cfg.Shards {
		s, err := newShard(cfg)
		if err != nil {
			return err
		}
		d.shards = append(d.shards, s)
		shards.Go(func() error { s.run(work); return nil })
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer func() {
			for _, s := range d.shards {
				close(s.in)
			}
		}()
		return cfg.Bus.Consume(gctx, bus.Subscription{Stream: streams.RAW, Durable: streams.Transform().Durable, Stage: "transform", Batch: 500}, d.handle)
	})
	g.Go(func() error { return derive.Tags(gctx, cfg.Bus) })
	err = g.Wait()
	_ = shards.Wait() // a shard has no errors of its own
	return err
}

// dispatcher sees RAW in order: it decodes, resolves and hands on.
type dispatcher struct {
	cfg      Config
	resolver *identity.Resolver
	shards   []*shard
	seed     maphash.Seed
}

// job is one observation on its way.
type job struct {
	delivery *bus.Delivery
	tenant   canonical.Tenant
	id       canonical.CanonicalID
	seen     merge.Seen
	lens     *mapping.Lens
}

func (d *dispatcher) handle(ctx context.Context, m *bus.Delivery) {
	j, err := d.prepare(ctx, m)
	if err != nil || j.id == "" {
		m.Done(err)
		return
	}
	d.shards[maphash.String(d.seed, string(j.id))%uint64(len(d.shards))].in <- j
}

// prepare returns a job without an id for what there is nothing to do about.
func (d *dispatcher) prepare(ctx context.Context, m *bus.Delivery) (job, error) {
	o, err := observation.Decode(m.Data)
	if err != nil {
		return job{}, bus.Terminate(err)
	}
	policy, ok := d.cfg.Tenants[o.Tenant]
	switch {
	case !ok:
		return job{}, bus.Terminate(fmt.Errorf("observation of tenant %s, which is not configured", o.Tenant))
	case o.Kind != canonical.KindContact:
		return job{}, bus.Terminate(fmt.Errorf("observation of kind %q, which is not handled", o.Kind))
	}
	j := job{delivery: m, tenant: o.Tenant, lens: policy.Lens, seen: merge.Seen{
		System: o.System, External: o.ExternalID, Via: o.Via, Absent: o.Absent, Wrote: o.Wrote, Atomic: o.Atomic,
		At: canonical.Read{AsOf: o.ReadBegan.UnixMicro(), Seq: m.Seq},
	}}
	if !o.Modified.IsZero() {
		j.seen.At.Modified = o.Modified.UnixMicro()
	}
	if o.Via == observation.Intent {
		j.id = o.Entity
		return j, nil
	}
	if !o.Absent {
		if j.seen.Shown, err = policy.Lens.Show(o); err != nil {
			return job{}, bus.Terminate(err)
		}
		if j.seen.Shown.Skip != "" {
			return job{}, nil
		}
	}
	j.id, err = d.resolver.Resolve(ctx, identity.Record{
		Tenant: o.Tenant, System: o.System, External: o.ExternalID, Shown: j.seen.Shown, Entity: o.Entity, Absent: o.Absent,
	})
	if errors.Is(err, identity.ErrAmbiguous) {
		return job{}, bus.Terminate(err)
	}
	return j, err
}

// load returns an entity's last state and its sequence, or zeros.
func load(ctx context.Context, r bus.Reader, tenant canonical.Tenant, id canonical.CanonicalID) (canonical.ContactEvent, uint64, error) {
	m, err := r.Last(ctx, streams.CANONICAL, streams.Entity(canonical.KindContact, tenant, id))
	switch {
	case errors.Is(err, bus.ErrNotFound):
		return canonical.ContactEvent{}, 0, nil
	case err != nil:
		return canonical.ContactEvent{}, 0, fmt.Errorf("load entity %s: %w", id, err)
	}
	state, err := canonical.DecodeContactEvent(m.Data)
	if err != nil {
		return canonical.ContactEvent{}, 0, fmt.Errorf("load entity %s: %w", id, err)
	}
	return state, m.Seq, nil
}

// event renders a transition as the message to publish.
func event(tenant canonical.Tenant, next canonical.ContactEvent, out merge.Outcome, expect uint64) (bus.Message, error) {
	data, err := json.Marshal(next)
	if err != nil {
		return bus.Message{}, fmt.Errorf("encode entity %s: %w", next.Contact.ID, err)
	}
	return bus.Message{
		Subject: streams.Canonical(canonical.KindContact, tenant, next.Contact.ID, out.Op),
		Header:  bus.Header(envelope.EventAttributes(tenant, out.Op, next, out.Origin, out.At).Header()),
		Data:    data,
		Expect:  &bus.Expect{Subject: streams.Entity(canonical.KindContact, tenant, next.Contact.ID), LastSeq: expect},
	}, nil
}
