package poll

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/goccy/go-json"
	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

// Reader lists a system's contacts and fetches any of its records.
type Reader interface {
	Lister
	// Fetch returns the record that about names by its Kind, ExternalID and, of
	// an item, its Parent; an error of class Gone says that there is none.
	Fetch(ctx context.Context, about observation.Observation) (observation.Observation, error)
}

// ReconcileConfig is what reconciling one system of one tenant needs.
type ReconcileConfig struct {
	Bus    bus.Bus
	Clock  clock.Clock
	Logger zerolog.Logger
	System canonical.System
	Tenant canonical.Tenant
	Lens   *mapping.Lens
	// Reader and Items read in a lane of their own. Items are all the parts
	// of the sweeps that together show every item of their kinds.
	Reader Reader
	Items  []Sweeper
	Lane   budget.Lane
	// Every is the interval at which the contacts are reconciled without being
	// asked to; 0 means never. Max is how many differences are repaired then.
	Every time.Duration
	Max   int
	// Report, if set, hears of each reconcile that has ended.
	Report func(streams.Reconcile)
}

const (
	// watch is how often it is looked whether somebody asks for a reconcile.
	watch = 2 * time.Second
	// mostKept is how many differences the report names.
	mostKept = 500
)

// errStopped says that somebody has asked that the work ends.
var errStopped = errors.New("stopped")

// RunReconcile waits for requests, which are in CURSORS under
// [streams.ReconcileKey], and carries them out until ctx is done. A reconcile
// reads everything, compares it with what the system is last known to show,
// and asks for what seems to differ, and for what it has not seen, record by
// record: only what a fetch shows counts. What differs then is published, and
// takes the ordinary path. One that dies is taken up by another instance after
// the last page that it has read; what it had fetched by then is fetched again.
func RunReconcile(ctx context.Context, cfg ReconcileConfig) error {
	kv, err := cfg.Bus.Bucket(ctx, streams.CURSORS)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", streams.CURSORS, err)
	}
	links, err := cfg.Bus.Bucket(ctx, streams.IDENTITY)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", streams.IDENTITY, err)
	}
	r := &reconciler{ReconcileConfig: cfg, kv: kv, links: links, comparer: comparer{reader: cfg.Bus, links: links, lens: cfg.Lens}}
	log := cfg.Logger.With().Str("system", string(cfg.System)).Str("tenant", string(cfg.Tenant)).Logger()
	for ctx.Err() == nil {
		err := r.pass(ctx)
		if err != nil && ctx.Err() == nil && !errors.Is(err, errLost) {
			log.Warn().Err(err).Msg("reconcile interrupted")
		}
		if clock.Sleep(ctx, cfg.Clock, watch) != nil {
			break
		}
	}
	r.leave()
	return nil
}

type reconciler struct {
	ReconcileConfig
	comparer
	kv    bus.KV
	links bus.KV
	doc   streams.Reconcile
	rev   uint64
	mine  bool
	kept  time.Time

	from  part // where it goes on
	parts int  // pages that are kept

	seen     map[itemKey]bool
	suspects []observation.Observation // without their records
	found    []observation.Observation // to be published
}

// pass carries out what is asked for, if anything is.
func (r *reconciler) pass(ctx context.Context) error {
	if err := r.load(ctx); err != nil {
		return err
	}
	r.mine = false
	now := r.Clock.Now()
	switch {
	case r.doc.Open():
		if r.doc.State == streams.ReconcileRunning && now.Before(r.doc.Due) {
			return nil // another instance is at it
		}
	case r.Every == 0:
		return nil
	case r.doc.Next.IsZero() || r.doc.Next.After(now.Add(r.Every)):
		r.doc.Next = now.Add(r.Every)
		return r.save(ctx)
	case now.Before(r.doc.Next):
		return nil
	default:
		r.doc = streams.Reconcile{ID: "scheduled-" + now.UTC().Format(time.RFC3339), Kinds: []canonical.Kind{canonical.KindContact}, Max: r.Max, Scheduled: true, Asked: now}
	}
	died := r.doc.State == streams.ReconcileRunning
	r.doc.State, r.doc.Drift, r.doc.Differences = streams.ReconcileRunning, map[canonical.Kind]streams.Drift{}, nil
	r.seen, r.suspects, r.found, r.from, r.parts = map[itemKey]bool{}, nil, nil, part{}, 0
	if !died {
		r.doc.Began = now
	}
	if err := r.keep(ctx); err != nil {
		return err
	}
	r.mine = true
	// From here on no other instance has it.
	begin := r.dropParts
	if died {
		begin = r.takeUp
	}
	if err := begin(ctx); err != nil {
		return err
	}
	err := r.run(ctx)
	switch {
	case errors.Is(err, errStopped):
		r.doc.State = streams.ReconcileStopped
	case err != nil:
		return err
	}
	return r.end(ctx)
}

func (r *reconciler) end(ctx context.Context) error {
	r.doc.Ended, r.doc.Trouble = r.Clock.Now(), ""
	if r.Every > 0 {
		r.doc.Next = r.doc.Ended.Add(r.Every)
	}
	if err := r.save(ctx); err != nil {
		return err
	}
	r.mine = false
	if err := r.dropParts(ctx); err != nil {
		return err // the next one drops them
	}
	log := r.Logger.Info()
	if r.doc.State == streams.ReconcileHeld {
		log = r.Logger.Error()
	}
	for kind, d := range r.doc.Drift {
		log = log.Dict(string(kind), zerolog.Dict().Int("read", d.Read).Int("same", d.Same).Int("differing", d.Differing).
			Int("missing_here", d.MissingHere).Int("missing_there", d.MissingThere).Int("repaired", d.Repaired))
	}
	log.Str("system", string(r.System)).Str("tenant", string(r.Tenant)).Str("state", string(r.doc.State)).Bool("restored", r.doc.Restored).Msg("reconcile has ended")
	if r.Report != nil {
		r.Report(r.doc)
	}
	return nil
}

func (r *reconciler) load(ctx context.Context) error {
	var err error
	r.doc, r.rev, err = loadReconcile(ctx, r.kv, r.System, r.Tenant)
	return err
}

func loadReconcile(ctx context.Context, kv bus.KV, system canonical.System, tenant canonical.Tenant) (doc streams.Reconcile, rev uint64, err error) {
	key := streams.ReconcileKey(system, tenant)
	value, rev, err := kv.Get(ctx, key)
	switch {
	case errors.Is(err, bus.ErrNotFound):
		return doc, 0, nil
	case err != nil:
		return doc, 0, fmt.Errorf("load reconcile: %w", err)
	}
	if err := json.Unmarshal(value, &doc); err != nil {
		return doc, 0, fmt.Errorf("load reconcile %s: %w", key, err)
	}
	return doc, rev, nil
}

// restoring reports whether a system is being reconciled after a restore. Until
// that is done nothing else is to read it: what it shows would look like
// changes.
func restoring(ctx context.Context, kv bus.KV, system canonical.System, tenant canonical.Tenant) (bool, error) {
	doc, _, err := loadReconcile(ctx, kv, system, tenant)
	return doc.Restored && doc.Open(), err
}

func (r *reconciler) save(ctx context.Context) error {
	value, err := json.Marshal(r.doc)
	if err != nil {
		return fmt.Errorf("encode reconcile: %w", err)
	}
	rev, err := put(ctx, r.kv, streams.ReconcileKey(r.System, r.Tenant), value, r.rev)
	if err == nil {
		r.rev = rev
	}
	return err
}

// tick keeps once a second.
func (r *reconciler) tick(ctx context.Context) error {
	if r.Clock.Now().Sub(r.kept) < time.Second {
		return nil
	}
	return r.keep(ctx)
}

// keep says how far it has come and that it goes on. It returns errStopped if
// somebody asks that it doesn't.
func (r *reconciler) keep(ctx context.Context) error {
	r.kept = r.Clock.Now()
	r.doc.Due = r.kept.Add(lease)
	err := r.save(ctx)
	if !errors.Is(err, errLost) || !r.mine {
		return err
	}
	now, rev, err := loadReconcile(ctx, r.kv, r.System, r.Tenant)
	if err != nil {
		return err
	}
	if now.ID != r.doc.ID || !now.Stop {
		return errLost
	}
	r.rev = rev
	return errStopped
}

// leave lets another instance take over at once.
func (r *reconciler) leave() {
	if !r.mine {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	r.doc.Due = r.Clock.Now()
	_ = r.save(ctx) // should it fail, the lease runs out
}

func (r *reconciler) run(ctx context.Context) error {
	kinds := map[canonical.Kind]bool{}
	var walks []func(json.RawMessage) (Page, error)
	if r.asked(canonical.KindContact) {
		kinds[canonical.KindContact] = true
		walks = append(walks, func(cursor json.RawMessage) (Page, error) {
			return r.Reader.List(ctx, Query{Cursor: cursor, Lane: r.Lane})
		})
	}
	for _, s := range r.Items {
		if !slices.ContainsFunc(s.Kinds(), r.asked) {
			continue
		}
		for _, kind := range s.Kinds() {
			kinds[kind] = r.asked(kind)
		}
		walks = append(walks, func(cursor json.RawMessage) (Page, error) { return s.Sweep(ctx, cursor) })
	}
	for i := r.from.Walk; i < len(walks); i++ {
		if err := r.walk(ctx, i, walks[i]); err != nil {
			return err
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		if err := r.missing(ctx, kind); err != nil {
			return err
		}
	}
	if err := r.settle(ctx); err != nil {
		return err
	}
	for i, about := range r.suspects {
		if r.tooMany() {
			for _, left := range r.suspects[i:] {
				r.count(left.Kind, func(d *streams.Drift) { d.Unlooked++ })
			}
			break
		}
		if err := r.look(ctx, about); err != nil {
			return err
		}
	}
	return r.repair(ctx)
}

// settle waits until the transform has seen all that RAW holds: what is on its
// way is no drift.
func (r *reconciler) settle(ctx context.Context) error {
	m, err := r.Bus.Last(ctx, streams.RAW, streams.RawOfTenant(r.Tenant))
	if errors.Is(err, bus.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("last of %s: %w", streams.RAW, err)
	}
	for {
		passed, err := r.Bus.Passed(ctx, streams.Transform(), m.Seq)
		if err != nil || passed {
			r.doc.Trouble = ""
			return err
		}
		r.doc.Trouble = "the transform is behind"
		if err := r.tick(ctx); err != nil {
			return err
		}
		if err := clock.Sleep(ctx, r.Clock, lease/60); err != nil {
			return err
		}
	}
}

func (r *reconciler) asked(kind canonical.Kind) bool {
	return len(r.doc.Kinds) == 0 || slices.Contains(r.doc.Kinds, kind)
}

func (r *reconciler) count(kind canonical.Kind, f func(*streams.Drift)) {
	d := r.doc.Drift[kind]
	f(&d)
	r.doc.Drift[kind] = d
}

// tooMany reports whether there are more differences than may be repaired.
func (r *reconciler) tooMany() bool {
	n := 0
	for _, d := range r.doc.Drift {
		n += d.Found()
	}
	return n > r.doc.Max && !r.doc.DryRun
}

// try does what a system may refuse for a while, until it doesn't; that the
// record is gone is an answer.
func (r *reconciler) try(ctx context.Context, f func() error) error {
	for errs := 1; ; errs++ {
		err := f()
		if err == nil || apierr.ClassOf(err) == apierr.Gone || ctx.Err() != nil {
			r.doc.Trouble = ""
			return err
		}
		r.doc.Trouble = err.Error()
		for wait := again(err, errs); wait > 0; wait -= lease / 3 {
			if err := r.keep(ctx); err != nil {
				return err
			}
			if err := clock.Sleep(ctx, r.Clock, min(wait, lease/3)); err != nil {
				return err
			}
		}
	}
}

// walk reads all pages of the ith walk that have not been read, and notes what
// seems to differ.
func (r *reconciler) walk(ctx context.Context, i int, list func(json.RawMessage) (Page, error)) error {
	var cursor json.RawMessage
	if i == r.from.Walk {
		cursor = r.from.Next
	}
	for {
		var page Page
		err := r.try(ctx, func() (err error) {
			page, err = list(cursor)
			return err
		})
		if err != nil {
			return fmt.Errorf("reconcile %s: %w", r.System, err)
		}
		read, suspects := part{Walk: i, Next: page.Next, Seen: map[canonical.Kind][]canonical.ExternalID{}}, len(r.suspects)
		for _, o := range page.Observations {
			if o.Kind == "" {
				o.Kind = canonical.KindContact
			}
			if !r.seen[itemKey{o.Kind, o.ExternalID}] {
				read.Seen[o.Kind] = append(read.Seen[o.Kind], o.ExternalID)
			}
			if page.Total > 0 {
				r.count(o.Kind, func(d *streams.Drift) { d.Total = page.Total })
			}
			if err := r.row(ctx, o); err != nil {
				return err
			}
		}
		read.Suspects = r.suspects[suspects:]
		if err := r.keepPart(ctx, read); err != nil {
			return err
		}
		if err := r.tick(ctx); err != nil {
			return err
		}
		if cursor = page.Next; cursor == nil {
			return nil
		}
	}
}

func (r *reconciler) about(o observation.Observation) observation.Observation {
	return observation.Observation{System: r.System, Tenant: r.Tenant, Kind: o.Kind, ExternalID: o.ExternalID, Parent: o.Parent}
}

func (r *reconciler) row(ctx context.Context, o observation.Observation) error {
	key := itemKey{o.Kind, o.ExternalID}
	if r.seen[key] || !r.asked(o.Kind) {
		return nil // pages overlap
	}
	r.seen[key] = true
	o.System, o.Tenant = r.System, r.Tenant
	f, err := r.compare(ctx, o)
	if err != nil {
		return err
	}
	switch {
	case f.other:
		r.count(o.Kind, func(d *streams.Drift) { d.Other++ })
	case f.same && !f.touched:
		r.count(o.Kind, func(d *streams.Drift) { d.Read++; d.Same++ })
	default:
		r.count(o.Kind, func(d *streams.Drift) { d.Read++ })
		r.suspects = append(r.suspects, r.about(o))
	}
	return nil
}

// missing adds to the suspects what is linked and was not shown.
func (r *reconciler) missing(ctx context.Context, kind canonical.Kind) error {
	keys, err := r.links.Keys(ctx, streams.LinkKeys(r.Tenant, kind, r.System))
	if err != nil {
		return fmt.Errorf("linked %s %s: %w", r.System, kind, err)
	}
	for _, key := range keys {
		external, err := streams.ParseLinkKey(key)
		if err != nil {
			return fmt.Errorf("linked %s %s: %w", r.System, kind, err)
		}
		if r.seen[itemKey{kind, external}] {
			continue
		}
		about := r.about(observation.Observation{Kind: kind, ExternalID: external})
		h, err := r.hold(ctx, about)
		if err != nil {
			return err
		}
		if h.live {
			about.Parent = h.base.Parent
			r.suspects = append(r.suspects, about)
		}
		if err := r.tick(ctx); err != nil {
			return err
		}
	}
	return nil
}

// look fetches a suspect and counts what it shows.
func (r *reconciler) look(ctx context.Context, about observation.Observation) error {
	began := r.Clock.Now()
	var o observation.Observation
	err := r.try(ctx, func() (err error) {
		o, err = r.Reader.Fetch(ctx, about)
		return err
	})
	var f finding
	switch {
	case apierr.ClassOf(err) == apierr.Gone:
		h, err := r.hold(ctx, about)
		if err != nil || !h.live {
			return err // the list is behind
		}
		o = observation.Observation{Parent: about.Parent, ReadBegan: began, Absent: true}
		f = finding{what: streams.MissingThere, entity: h.entity}
	case err != nil:
		return fmt.Errorf("reconcile %s %s: %w", r.System, about.Kind, err)
	}
	o.System, o.Tenant, o.Kind, o.ExternalID, o.Via, o.Restored = r.System, r.Tenant, about.Kind, about.ExternalID, observation.Reconcile, r.doc.Restored
	if !o.Absent {
		if f, err = r.compare(ctx, o); err != nil {
			return err
		}
	}
	switch {
	case f.other:
	case f.same:
		r.count(o.Kind, func(d *streams.Drift) { d.Same++ })
	default:
		r.count(o.Kind, func(d *streams.Drift) { d.Add(f.what, 1) })
		if len(r.doc.Differences) < mostKept {
			r.doc.Differences = append(r.doc.Differences, streams.DriftedRecord{Kind: o.Kind, Record: o.ExternalID, Entity: f.entity, What: f.what, Fields: f.fields})
		}
		if !r.doc.DryRun {
			r.found = append(r.found, o)
		}
	}
	return r.tick(ctx)
}

// repair publishes what was found, unless it is too much.
func (r *reconciler) repair(ctx context.Context) error {
	if r.tooMany() {
		r.doc.State = streams.ReconcileHeld
		return nil
	}
	for _, o := range r.found {
		body, err := o.Encode()
		if err != nil {
			return err
		}
		if _, err := r.Bus.Publish(ctx, bus.Message{Subject: streams.Raw(o), ID: o.Key(), Data: body}); err != nil {
			return fmt.Errorf("publish %s %s: %w", o.System, o.Kind, err)
		}
		r.count(o.Kind, func(d *streams.Drift) { d.Repaired++ })
		if err := r.tick(ctx); err != nil {
			return err
		}
	}
	r.doc.State = streams.ReconcileDone
	return nil
}
