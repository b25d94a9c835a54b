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
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/goccy/go-json"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/erase"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/internal/rule"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
	"github.com/causeway-sync/causeway/transform/derive"
	"github.com/causeway-sync/causeway/transform/gap"
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
	// Doubt is how long a record that looks like somebody else's is looked at
	// again before a person is asked, since the sight that shows that the other
	// one has moved on may be on its way; 0 means 30 s.
	Doubt time.Duration
	// Clock is for the days that rules wait for and for looking for gaps in RAW,
	// which is not done without one; nothing else asks for the time.
	Clock clock.Clock
	// Metrics takes what is counted; nil keeps none.
	Metrics prometheus.Registerer
}

// Policy is a tenant's merge policy.
type Policy struct {
	Lens *mapping.Lens
	// Rules are what the tenant has decided beside where fields live; nil
	// means the defaults.
	Rules *mapping.Policy
	// Automations are the tenant's rules, and Zone is where a day of theirs
	// begins; nil means UTC.
	Automations rule.Set
	Zone        *time.Location
}

func (p Policy) merge() merge.Policy {
	m := merge.Policy{Lens: p.Lens, Rules: p.Rules}
	if p.Rules != nil {
		m.Skew = p.Rules.ClockSkew
	}
	return m
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
	if cfg.Doubt == 0 {
		cfg.Doubt = 30 * time.Second
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
	for _, c := range []streams.Consumer{streams.Transform(), streams.Tags(), streams.Children()} {
		if err := cfg.Bus.EnsureConsumer(ctx, c); err != nil {
			return fmt.Errorf("consumer %s: %w", c.Durable, err)
		}
	}
	firings, err := derive.NewFirings(cfg.Metrics)
	if err != nil {
		return err
	}
	var rules []*derive.Rules
	for _, tenant := range slices.Sorted(maps.Keys(cfg.Tenants)) {
		if p := cfg.Tenants[tenant]; len(p.Automations) > 0 {
			r, err := derive.NewRules(ctx, derive.RulesConfig{Bus: cfg.Bus, Clock: cfg.Clock, Logger: cfg.Logger, Tenant: tenant, Rules: p.Automations, Zone: p.Zone, Firings: firings})
			if err != nil {
				return fmt.Errorf("rules of tenant %s: %w", tenant, err)
			}
			rules = append(rules, r)
		}
	}
	resolver, err := identity.New(claims, func(ctx context.Context, tenant canonical.Tenant, kind canonical.Kind, id canonical.CanonicalID) (canonical.Event, bool, error) {
		state, _, err := load(ctx, cfg.Bus, tenant, kind, id)
		return state, state.Version > 0, err
	}, 1<<16)
	if err != nil {
		return err
	}
	d := &dispatcher{cfg: cfg, resolver: resolver, seed: maphash.MakeSeed(), in: make(chan *bus.Delivery, row)}
	work, finish := context.WithCancel(context.WithoutCancel(ctx))
	defer finish()
	var shards errgroup.Group
	for range cfg.Shards {
		s, err := newShard(cfg, resolver)
		if err != nil {
			return err
		}
		s.erased = erase.NewTombstones(claims)
		d.shards = append(d.shards, s)
		shards.Go(func() error { s.run(work); return nil })
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(d.in)
		return cfg.Bus.Consume(gctx, bus.Subscription{Stream: streams.RAW, Durable: streams.Transform().Durable, Stage: "transform", Batch: 1000}, d.take)
	})
	g.Go(func() error {
		defer func() {
			for _, s := range d.shards {
				close(s.in)
			}
		}()
		d.run(work)
		return nil
	})
	g.Go(func() error { return derive.Tags(gctx, cfg.Bus) })
	if log, ok := cfg.Bus.(gap.Bus); ok && cfg.Clock != nil {
		g.Go(func() error {
			return gap.Run(gctx, gap.Config{Bus: log, Clock: cfg.Clock, Logger: cfg.Logger, Metrics: cfg.Metrics})
		})
	}
	for _, r := range rules {
		g.Go(func() error { return r.Run(gctx) })
	}
	g.Go(func() error {
		return derive.Children(gctx, cfg.Bus, func(ctx context.Context, tenant canonical.Tenant, system canonical.System, parent canonical.ExternalID) ([]derive.Child, error) {
			found, err := resolver.Children(ctx, tenant, system, parent)
			var out []derive.Child
			for _, id := range slices.Sorted(maps.Keys(found)) {
				out = append(out, derive.Child{Kind: found[id], ID: id})
			}
			return out, err
		})
	})
	err = g.Wait()
	_ = shards.Wait() // a shard has no errors of its own
	return err
}

// job is one observation on its way.
type job struct {
	delivery *bus.Delivery
	tenant   canonical.Tenant
	kind     canonical.Kind
	id       canonical.CanonicalID
	seen     merge.Seen
	policy   Policy
	// by is the entity that id was found under, if that was merged into it.
	by canonical.CanonicalID
	// fresh says that the entity was given its id for this job, so that there is
	// no state of it to load.
	fresh bool
	// doubt says why a record's keys don't say whose it is besides.
	doubt error
	// with is set for what is about two entities: the job is in the queues of
	// both, and is worked on when it is the next in either.
	with *joint
}

// read decodes an observation and puts it in canonical terms. A sight without
// a tenant is nothing to do anything about.
func (d *dispatcher) read(m *bus.Delivery) (sight, error) {
	o, err := observation.Decode(m.Data)
	if err != nil {
		return sight{}, bus.Terminate(err)
	}
	policy, ok := d.cfg.Tenants[o.Tenant]
	switch {
	case !ok:
		return sight{}, yours(envelope.Mapping, fmt.Errorf("observation of tenant %s, which is not configured", o.Tenant))
	case o.Kind != canonical.KindContact && !slices.Contains(canonical.Items(), o.Kind):
		return sight{}, bus.Terminate(fmt.Errorf("observation of kind %q, which is not handled", o.Kind))
	}
	s := sight{o: o, job: job{delivery: m, tenant: o.Tenant, kind: o.Kind, policy: policy, seen: merge.Seen{
		System: o.System, External: o.ExternalID, Via: o.Via, Absent: o.Absent, ParentGone: o.ParentGone, Wrote: o.Wrote, Atomic: o.Atomic, Target: o.Target, Creates: o.Creates, Reason: o.Reason, Firing: o.Firing, Restored: o.Restored,
		At: canonical.Read{AsOf: o.ReadBegan.UnixMicro(), Seq: m.Seq},
	}}}
	if of := m.Header[observation.ReplayOf]; len(of) > 0 {
		if err := replayed(&s.job, o, of[0]); err != nil {
			return sight{}, err
		}
	}
	if !o.Modified.IsZero() {
		s.job.seen.At.Modified = o.Modified.UnixMicro()
	}
	if o.Via == observation.Relink && o.System != canonical.Rule {
		s.record = identity.Record{Tenant: o.Tenant, Kind: o.Kind, Entity: o.Entity, Contact: o.Contact}
	}
	if !o.Via.Shows() || o.Via == observation.FromRule {
		return s, nil
	}
	if !o.Absent {
		if s.job.seen.Shown, err = policy.Lens.Show(o); err != nil {
			return sight{}, yours(envelope.Mapping, err)
		}
		if s.job.seen.Shown.Skip != "" {
			return sight{}, nil
		}
	}
	s.record = identity.Record{
		Tenant: o.Tenant, Kind: o.Kind, System: o.System, External: o.ExternalID, Shown: s.job.seen.Shown, Entity: o.Entity, Absent: o.Absent, Made: o.Creates && o.Entity != "", Policy: policy.Rules,
	}
	return s, nil
}

// resolve says which entity a sight is of. A job without an id is one that
// there is nothing to do about.
func (d *dispatcher) resolve(ctx context.Context, s sight) (job, error) {
	j, o := s.job, s.o
	var err error
	switch o.Via {
	case observation.Intent:
		j.id, j.by = d.resolver.Follow(o.Entity)
		j.seen.Shown.Parent = o.Parent
		return j, d.resolver.Creating(ctx, o.Tenant, o.Kind, o.System, creates(o), o.Entity)
	case observation.Relink:
		return d.relink(ctx, s)
	case observation.FromRule:
		return d.prepareRule(ctx, j, o)
	case observation.Unmerge:
		if o.Entity == "" || o.Contact == "" || o.Entity == o.Contact {
			return job{}, bus.Terminate(errors.New("unmerge: it doesn't say which entity is merged into which"))
		}
		j.id, j.with = o.Entity, newJoint(o.Entity, o.Contact)
		return j, nil
	case observation.Wake, observation.Keep:
		j.id, j.by = d.resolver.Follow(o.Entity)
		return j, nil
	case observation.Writeback:
		if j.seen.Again {
			break // another may be under way by now
		}
		if err := d.resolver.Creating(ctx, o.Tenant, o.Kind, o.System, "", o.Entity); err != nil {
			return job{}, err
		}
	}
	if o.Kind != canonical.KindContact {
		return d.resolveItem(ctx, j, s.record)
	}
	whose, err := d.resolver.Resolve(ctx, s.record)
	if errors.Is(err, identity.ErrAmbiguous) {
		return job{}, yours(envelope.Data, err)
	}
	if j.id, j.by, j.doubt, j.fresh = whose.ID, whose.By, whose.Doubt, whose.New; whose.With != "" {
		j.with = newJoint(whose.ID, whose.With)
		j.with.wroteFor, _ = d.resolver.Follow(o.Entity)
	}
	return j, err
}

// replayed says of a job that it is one once more: what the record showed is as
// old as when it was stored first.
func replayed(j *job, o observation.Observation, of string) error {
	seq, err := strconv.ParseUint(of, 10, 64)
	if err != nil {
		return bus.Terminate(fmt.Errorf("header %s: %w", observation.ReplayOf, err))
	}
	j.seen.Again = true
	if o.Via.Shows() {
		j.seen.At.Seq = seq
	}
	return nil
}

// prepareRule resolves what a rule asks for: a new record, whose id follows from
// the firing, or something of the contact.
func (d *dispatcher) prepareRule(ctx context.Context, j job, o observation.Observation) (job, error) {
	if o.Firing == nil {
		return job{}, bus.Terminate(errors.New("observation of a rule that doesn't say which"))
	}
	if o.Kind == canonical.KindContact {
		j.id, j.by = d.resolver.Follow(o.Entity)
		return j, nil
	}
	var err error
	if j.seen.Contact, err = d.resolver.Now(ctx, o.Tenant, o.Contact); err != nil {
		return job{}, err
	}
	contact, _, err := load(ctx, d.cfg.Bus, o.Tenant, canonical.KindContact, j.seen.Contact)
	if err != nil || contact.Version == 0 {
		return job{}, err // erased since
	}
	j.id = canonical.NewID(o.Tenant, o.Kind, canonical.Rule, o.ExternalID)
	return j, d.hang(ctx, j)
}

// relink resolves what tells an item of its contact. Another item of that
// contact may be the same one.
func (d *dispatcher) relink(ctx context.Context, s sight) (job, error) {
	j, o := s.job, s.o
	j.id, j.by = d.resolver.Follow(o.Entity)
	j.seen.Shown.Parent = o.Parent
	var err error
	if j.seen.Contact, err = d.resolver.Now(ctx, o.Tenant, o.Contact); err != nil {
		return job{}, err
	}
	if o.System == canonical.Rule {
		return j, d.hang(ctx, j)
	}
	s.record.Contact = j.seen.Contact
	twin, known, err := d.resolver.Twin(ctx, s.record)
	switch {
	case err != nil:
		return job{}, err
	case !known && j.delivery.Count < doubts:
		return job{}, bus.Later(fmt.Errorf("%s %s is on its way", o.Kind, o.Entity), 250*time.Millisecond)
	case twin != "":
		j.with = newJoint(j.id, twin)
	}
	return j, nil
}

// hang notes that what a rule made hangs on its contact, and not on a record of
// his, so that it hears when the contact gets one.
func (d *dispatcher) hang(ctx context.Context, j job) error {
	on := identity.Record{Tenant: j.tenant, Kind: j.kind, System: canonical.Rule, Contact: j.seen.Contact, Shown: mapping.Shown{Parent: canonical.ExternalID(j.seen.Contact)}}
	return d.resolver.Hang(ctx, on, j.id)
}

// yours says never again to what somebody else has to put right.
func yours(class envelope.Class, err error) error {
	return bus.Explain(bus.Terminate(err), envelope.DeadLetter{Class: class})
}

// creates returns the record under which an intent makes another, or "".
func creates(o observation.Observation) canonical.ExternalID {
	if o.Creates {
		return o.Parent
	}
	return ""
}

// expected is how often a record is put off because it may be one that we are
// making; then it is taken for what it looks like.
const expected = 40

// resolveItem resolves a task, a note or an appointment, and the contact that
// it hangs on.
func (d *dispatcher) resolveItem(ctx context.Context, j job, r identity.Record) (job, error) {
	if wait, err := d.resolver.Expecting(ctx, r); err != nil {
		return job{}, err
	} else if wait && j.delivery.Count < expected {
		return job{}, bus.Later(fmt.Errorf("%s record %s may be one that is being made", r.System, r.External), 250*time.Millisecond)
	}
	parent := r.Shown.Parent
	var err error
	if r.Contact = ""; parent != "" {
		if r.Contact, err = d.resolver.Contact(ctx, r.Tenant, r.System, parent); err != nil {
			return job{}, err
		}
	}
	whose, err := d.resolver.Resolve(ctx, r)
	if errors.Is(err, identity.ErrAmbiguous) {
		return job{}, yours(envelope.Data, err)
	}
	j.id, j.by, j.fresh = whose.ID, whose.By, whose.New
	if wrote, _ := d.resolver.Follow(r.Entity); wrote != j.id {
		// It was made for an entity that has got another record there meanwhile,
		// and is one of its own. What it shows was not in the merge yet.
		j.seen.Wrote = nil
	}
	if err != nil || j.id == "" || parent == "" {
		return j, err
	}
	if err := d.resolver.Hang(ctx, r, j.id); err != nil {
		return job{}, err
	}
	if r.Contact == "" {
		if r.Contact, err = d.resolver.Contact(ctx, r.Tenant, r.System, parent); err != nil {
			return job{}, err
		}
	}
	j.seen.Contact = r.Contact
	return j, nil
}

// load returns an entity's last state and its sequence, or zeros.
func load(ctx context.Context, r bus.Reader, tenant canonical.Tenant, kind canonical.Kind, id canonical.CanonicalID) (canonical.Event, uint64, error) {
	m, err := r.Last(ctx, streams.CANONICAL, streams.Entity(kind, tenant, id))
	switch {
	case errors.Is(err, bus.ErrNotFound):
		return canonical.Event{}, 0, nil
	case err != nil:
		return canonical.Event{}, 0, fmt.Errorf("load entity %s: %w", id, err)
	}
	state, err := canonical.DecodeEvent(m.Data)
	if err != nil {
		return canonical.Event{}, 0, fmt.Errorf("load entity %s: %w", id, err)
	}
	return state, m.Seq, nil
}

// event renders a transition as the message to publish.
func event(tenant canonical.Tenant, next canonical.Event, out merge.Outcome, expect uint64) (bus.Message, error) {
	data, err := json.Marshal(next)
	if err != nil {
		return bus.Message{}, fmt.Errorf("encode entity %s: %w", next.ID(), err)
	}
	return bus.Message{
		Subject: streams.Canonical(next.Kind(), tenant, next.ID(), out.Op),
		Header:  bus.Header(envelope.EventAttributes(tenant, out.Op, next, out.Origin, out.At).Header()),
		Data:    data,
		Expect:  &bus.Expect{Subject: streams.Entity(next.Kind(), tenant, next.ID()), LastSeq: expect},
	}, nil
}
