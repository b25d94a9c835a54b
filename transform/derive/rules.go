package derive

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/goccy/go-json"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/rule"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/streams"
)

// RulesConfig is what a tenant's rules need.
type RulesConfig struct {
	Bus    bus.Bus
	Clock  clock.Clock // for the dates that rules wait for, and nothing else
	Logger zerolog.Logger
	Tenant canonical.Tenant
	Rules  rule.Set
	Zone   *time.Location // in which a day begins; nil means UTC
	// Every is how often it is looked whether a day has begun; 0 means 15 m.
	Every time.Duration
	// Firings counts them, see [NewFirings]; nil counts none.
	Firings *prometheus.CounterVec
}

// The ends of a firing, as they are counted.
const (
	carried = "carried"
	stopped = "stopped" // it would have fed itself
)

// NewFirings returns the count of the firings of all tenants' rules, and has r
// export it; nil exports nothing. A rule's name is one of the configuration's.
func NewFirings(r prometheus.Registerer) (*prometheus.CounterVec, error) {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "causeway_rule_firings_total", Help: "Firings of automations by what became of them: carried, or stopped because the rule would feed itself.",
	}, []string{"tenant", "rule", "result"})
	if r == nil {
		return c, nil
	}
	if err := r.Register(c); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return c, nil
}

// rulesStage names the stage of the dead letters.
const rulesStage = "rules"

// Rules looks whether a tenant's rules fire.
type Rules struct {
	cfg   RulesConfig
	kv    bus.KV
	after map[string]uint64 // by rule: what was stored up to there is from before it was known
}

// NewRules notes which of the tenant's rules are new: a rule counts from when a
// transform has first known of it, and what was stored before doesn't make it
// fire.
func NewRules(ctx context.Context, cfg RulesConfig) (*Rules, error) {
	if cfg.Every == 0 {
		cfg.Every = 15 * time.Minute
	}
	if cfg.Zone == nil {
		cfg.Zone = time.UTC
	}
	kv, err := cfg.Bus.Bucket(ctx, streams.CURSORS)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", streams.CURSORS, err)
	}
	consumer := streams.Rules(cfg.Tenant)
	if err := cfg.Bus.EnsureConsumer(ctx, consumer); err != nil {
		return nil, fmt.Errorf("consumer %s: %w", consumer.Durable, err)
	}
	r := &Rules{cfg: cfg, kv: kv, after: map[string]uint64{}}
	return r, r.begin(ctx)
}

// Run publishes on RAW what the rules ask for, until ctx is done. It acks an
// event after RAW has all that follows from it. What a firing asks for is the
// same however often it is derived, so any number of instances may.
func (r *Rules) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		sub := bus.Subscription{Stream: streams.CANONICAL, Durable: streams.Rules(r.cfg.Tenant).Durable, Stage: rulesStage, Concurrency: 4}
		return r.cfg.Bus.Consume(ctx, sub, func(ctx context.Context, d *bus.Delivery) { d.Done(r.event(ctx, d.Stored)) })
	})
	if r.cfg.Rules.Dated() {
		g.Go(func() error {
			for ctx.Err() == nil {
				if err := r.dates(ctx); err != nil && ctx.Err() == nil {
					r.cfg.Logger.Warn().Err(err).Str("tenant", string(r.cfg.Tenant)).Msg("rules that wait for a date could not be looked at; tried again")
				}
				if clock.Sleep(ctx, r.cfg.Clock, r.cfg.Every) != nil {
					break
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// known is what is remembered of a rule, by its name, in CURSORS.
type known struct {
	// After is the last sequence of CANONICAL from before it was known.
	After uint64 `json:"after"`
	// Day is the last for which the dates were looked at.
	Day string `json:"day,omitempty"`
}

// begin notes which rules are new, and forgets those that are gone: one that
// comes back counts from then.
func (r *Rules) begin(ctx context.Context) error {
	last, err := r.cfg.Bus.Last(ctx, streams.CANONICAL, streams.Entities(""))
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		return fmt.Errorf("last event: %w", err)
	}
	all, err := r.change(ctx, func(all map[string]known) {
		maps.DeleteFunc(all, func(name string, _ known) bool { _, is := r.cfg.Rules.Get(name); return !is })
		for _, x := range r.cfg.Rules {
			if _, is := all[x.Name]; !is {
				all[x.Name] = known{After: last.Seq}
			}
		}
	})
	for name, k := range all {
		r.after[name] = k.After
	}
	return err
}

// change changes what is remembered, whoever else does at that time, and
// returns it. Without change it only reads.
func (r *Rules) change(ctx context.Context, change func(map[string]known)) (map[string]known, error) {
	key := streams.RulesKey(r.cfg.Tenant)
	for {
		all := map[string]known{}
		was, rev, err := r.kv.Get(ctx, key)
		if err == nil {
			err = json.Unmarshal(was, &all)
		}
		if err != nil && !errors.Is(err, bus.ErrNotFound) {
			return nil, fmt.Errorf("read %s: %w", key, err)
		}
		if change == nil {
			return all, nil
		}
		change(all)
		now, err := json.Marshal(all)
		switch {
		case err != nil:
		case rev == 0:
			_, err = r.kv.Create(ctx, key, now)
		default:
			_, err = r.kv.Update(ctx, key, now, rev)
		}
		if errors.Is(err, bus.ErrExists) || errors.Is(err, bus.ErrWrongSequence) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", key, err)
		}
		return all, nil
	}
}

// event publishes what follows from an event.
func (r *Rules) event(ctx context.Context, m bus.Stored) error {
	if p, err := streams.Parse(m.Subject); err != nil || p.Kind == canonical.KindTag {
		return err // a tag's event follows from its contact's
	}
	e, err := canonical.DecodeEvent(m.Data)
	if err != nil {
		return bus.Terminate(fmt.Errorf("decode event: %w", err))
	}
	for _, f := range r.cfg.Rules.Fire(e, m.Seq, m.Time) {
		if m.Seq <= r.after[f.Rule] {
			continue
		}
		if err := r.carry(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

// carry publishes what a firing asks for, or sets it aside for a person.
func (r *Rules) carry(ctx context.Context, f rule.Firing) error {
	if f.Stopped != "" {
		return r.bury(ctx, f)
	}
	fresh := false
	for _, o := range f.Observations(r.cfg.Tenant) {
		if f.Date != "" { // it is due for some days, and RAW knows whether it was asked for
			_, err := r.cfg.Bus.Last(ctx, streams.RAW, streams.Raw(o))
			if err == nil {
				continue
			}
			if !errors.Is(err, bus.ErrNotFound) {
				return fmt.Errorf("look for firing %s: %w", f.Key, err)
			}
		}
		body, err := o.Encode()
		if err != nil {
			return bus.Terminate(err)
		}
		ack, err := r.cfg.Bus.Publish(ctx, bus.Message{Subject: streams.Raw(o), ID: "rule-" + string(o.ExternalID), Data: body})
		if err != nil {
			return fmt.Errorf("publish firing %s: %w", f.Key, err)
		}
		fresh = fresh || !ack.Duplicate
	}
	if fresh {
		r.count(f, carried)
	}
	return nil
}

// count counts a firing, which happens once however often it is delivered.
func (r *Rules) count(f rule.Firing, result string) {
	if r.cfg.Firings != nil {
		r.cfg.Firings.WithLabelValues(string(r.cfg.Tenant), f.Rule, result).Inc()
	}
}

func (r *Rules) bury(ctx context.Context, f rule.Firing) error {
	id := f.Rule + "-" + string(f.Entity)
	data, err := json.Marshal(envelope.DeadLetter{Stage: rulesStage, Tenant: r.cfg.Tenant, Kind: f.Kind, ID: id, Class: envelope.Mapping, Reason: f.Stopped, At: f.At.UTC(),
		Stream: streams.CANONICAL, Sequence: f.Sequence, Subject: streams.Entity(f.Kind, r.cfg.Tenant, f.Entity)})
	var ack bus.Ack
	if err == nil {
		ack, err = r.cfg.Bus.Publish(ctx, bus.Message{Subject: streams.Dead(rulesStage, r.cfg.Tenant, f.Kind, id), ID: "dead-" + f.Key, Data: data})
	}
	if err != nil {
		return fmt.Errorf("dead letter of firing %s: %w", f.Key, err)
	}
	if ack.Duplicate {
		return nil
	}
	r.count(f, stopped)
	r.cfg.Logger.Error().Str("tenant", string(r.cfg.Tenant)).Str("id", string(f.Entity)).Uint64("seq", f.Sequence).Str("reason", f.Stopped).Msg("dead letter")
	return nil
}

// dates lets the rules fire that wait for a date, if a day has begun since they
// were looked at. It goes through the last states, so that a rule or a date
// that was changed counts as it is now; a firing's key has the date, so that
// looking twice does no harm.
func (r *Rules) dates(ctx context.Context) error {
	today := r.cfg.Clock.Now().In(r.cfg.Zone)
	day := today.Format(time.DateOnly)
	all, err := r.change(ctx, nil)
	if err != nil {
		return err
	}
	kinds := map[canonical.Kind]rule.Set{}
	for _, x := range r.cfg.Rules {
		if x.Date != nil && all[x.Name].Day != day {
			kinds[x.Kind] = append(kinds[x.Kind], x)
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		if err := r.scan(ctx, kind, kinds[kind], today); err != nil {
			return err
		}
	}
	if len(kinds) == 0 {
		return nil
	}
	_, err = r.change(ctx, func(all map[string]known) {
		for _, set := range kinds {
			for _, x := range set {
				k := all[x.Name]
				k.Day = day
				all[x.Name] = k
			}
		}
	})
	return err
}

func (r *Rules) scan(ctx context.Context, kind canonical.Kind, set rule.Set, today time.Time) error {
	type last struct {
		seq uint64
		due []rule.Firing
	}
	states := map[canonical.CanonicalID]last{} // the last of each subject is not yet that of the entity
	err := r.cfg.Bus.ScanLast(ctx, streams.CANONICAL, streams.EntitiesOf(kind, r.cfg.Tenant), func(m bus.Stored) error {
		e, err := canonical.DecodeEvent(m.Data)
		if err != nil {
			return fmt.Errorf("decode message %d of %s: %w", m.Seq, m.Stream, err)
		}
		if states[e.ID()].seq < m.Seq {
			states[e.ID()] = last{m.Seq, set.Due(e, m.Seq, today)}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(states)) {
		for _, f := range states[id].due {
			if err := r.carry(ctx, f); err != nil {
				return err
			}
		}
	}
	return nil
}
