package poll

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"time"

	"github.com/goccy/go-json"
	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/ingest/rawlog"
	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

// Sweeper goes through items (tasks, notes, appointments), which no system can
// list by when they were changed.
type Sweeper interface {
	// Sweep returns one page, Partial if it shows an index that lags, so that
	// what is new is fetched as well. Its observations lack Tenant and Via, which are
	// the sweep's to set; an item may be on several pages.
	Sweep(ctx context.Context, cursor json.RawMessage) (Page, error)
	// Fetch returns the item that about names by its Kind, ExternalID and
	// Parent, or the contact; an error of class Gone says that there is none.
	Fetch(ctx context.Context, about observation.Observation) (observation.Observation, error)
	// Covers says whether an item, as it was seen last, is in this part of the
	// sweeps, of which the kinds are these.
	Covers(last observation.Observation) bool
	Kinds() []canonical.Kind
}

// SweepConfig is what sweeping one part of one system of one tenant needs.
type SweepConfig struct {
	Bus    bus.Bus
	Clock  clock.Clock
	Logger zerolog.Logger
	System canonical.System
	Tenant canonical.Tenant
	// Name is the part's, in CURSORS.
	Name    string
	Sweeper Sweeper
	// AfterContacts makes the first sweep wait until the backfill of the
	// contacts is complete, so that an item's contact is in RAW before it.
	AfterContacts bool
	// Every is the interval; 0 means never.
	Every time.Duration
	// Pages bounds how many pages are read at a time, so that a sweep takes
	// several intervals; 0 means that each reads all. The first one does so too,
	// because the sink waits for it.
	Pages int
}

const (
	// misses is how many complete sweeps in a row an item has to be missing
	// from before the system is asked whether it is gone.
	misses = 2
	// maxAsked bounds how many are asked for after one sweep; the others are
	// after the next.
	maxAsked = 100
)

// known is an item that has been seen.
type known struct {
	about   observation.Observation // without its record
	sum     uint64                  // of the row that showed it last
	shown   uint64                  // of the last thing that RAW held of it then, if that showed just this
	sweep   int                     // the last that has shown it
	missed  int                     // complete sweeps since
	counted int                     // the last of these
}

type itemKey struct {
	kind canonical.Kind
	id   canonical.ExternalID
}

type sweeper struct {
	SweepConfig
	cursor
	links bus.KV
	items map[itemKey]known
	// checked are the linked records that were looked at whether to know them.
	checked map[itemKey]bool
	seed    maphash.Seed
	sweep   int // counts from 1
	// whole says that this instance has read the sweep under way from its
	// beginning, so that what it hasn't seen is missing.
	whole bool
	// saved is the revision that this instance has kept last. While it is the
	// newest, nobody else has swept.
	saved uint64
	errs  int // in a row
}

// RunSweep sweeps until ctx is done. What differs from the last thing that RAW
// holds of it is published. An item is absent if it was missing from two
// complete sweeps and the system then says that there is none.
//
// How often it was missing is known to this instance only: one that takes over
// needs two sweeps of its own before it asks.
func RunSweep(ctx context.Context, cfg SweepConfig) error {
	if cfg.Every == 0 {
		return nil
	}
	kv, err := cfg.Bus.Bucket(ctx, streams.CURSORS)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", streams.CURSORS, err)
	}
	links, err := cfg.Bus.Bucket(ctx, streams.IDENTITY)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", streams.IDENTITY, err)
	}
	s := &sweeper{SweepConfig: cfg, links: links, items: map[itemKey]known{}, checked: map[itemKey]bool{}, seed: maphash.MakeSeed(),
		cursor: cursor{kv: kv, key: cursorKey(cfg.Tenant, cfg.System, cfg.Name), clock: cfg.Clock}}
	for ctx.Err() == nil {
		wait, err := s.pass(ctx)
		if err != nil && ctx.Err() == nil && !errors.Is(err, errLost) {
			s.errs++
			wait = again(err, s.errs)
			cfg.Logger.Warn().Err(err).Str("system", string(cfg.System)).Str("tenant", string(cfg.Tenant)).Str("sweep", cfg.Name).Dur("again_in", wait).Msg("sweep interrupted")
		}
		if errors.Is(err, errLost) {
			wait = lease
		}
		if clock.Sleep(ctx, cfg.Clock, wait) != nil {
			break
		}
	}
	s.leave()
	return nil
}

// leave tells the others that they need not wait for this instance: a sweep
// under way is due at once, the next one when it was.
func (s *sweeper) leave() {
	if s.saved == 0 || s.rev != s.saved {
		return
	}
	due := s.p.Due
	if !s.p.Began.IsZero() {
		due = s.Clock.Now()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = s.save(ctx, due.Add(-lease)) // should it fail, they wait
}

// pass works on what is due and returns how long to wait.
func (s *sweeper) pass(ctx context.Context) (time.Duration, error) {
	if ready, err := s.ready(ctx); err != nil || !ready {
		return min(s.Every, lease), err
	}
	if wait, err := restoring(ctx, s.kv, s.System, s.Tenant); err != nil || wait {
		return watch, err
	}
	if err := s.load(ctx, progress{}); err != nil {
		return 0, err
	}
	now, due := s.Clock.Now(), s.p.Due
	switch {
	case s.rev != s.saved:
		// What is known here is of another time. One that has lost to another
		// leaves it to go first from then on: were they to take turns, none would
		// see two sweeps.
		s.items, s.checked, s.whole = map[itemKey]known{}, map[itemKey]bool{}, false
		if s.saved != 0 {
			due = due.Add(lease)
		}
	case s.errs > 0:
		due = now // its own lease
	}
	if wait := due.Sub(now); wait > 0 {
		return min(wait, lease), nil
	}
	if s.p.Cursor == nil {
		s.p.Began, s.whole = now, true
		s.sweep++
		if err := s.recall(ctx); err != nil {
			return 0, err
		}
	}
	if err := s.keep(ctx, lease); err != nil {
		return 0, err
	}
	for n := 1; ; n++ {
		if err := s.page(ctx); err != nil {
			return 0, err
		}
		s.errs = 0
		switch {
		case s.p.Cursor == nil:
			if s.whole {
				if err := s.missing(ctx); err != nil {
					return 0, err
				}
			}
			s.whole, s.p.Began, s.p.Backfilled = false, time.Time{}, true
			return s.Every, s.keep(ctx, s.Every)
		case n == s.Pages && s.p.Backfilled:
			return s.Every, s.keep(ctx, s.Every)
		}
		if err := s.keep(ctx, lease); err != nil {
			return 0, err
		}
	}
}

// recall knows the items that the transform has linked and that were there when
// they were seen last: one that went while nobody swept, or between its making
// and the first sweep, is missed all the same.
func (s *sweeper) recall(ctx context.Context) error {
	for _, kind := range s.Sweeper.Kinds() {
		keys, err := s.links.Keys(ctx, streams.LinkKeys(s.Tenant, kind, s.System))
		if err != nil {
			return fmt.Errorf("linked %s %s: %w", s.System, kind, err)
		}
		for _, key := range keys {
			external, err := streams.ParseLinkKey(key)
			if err != nil {
				return fmt.Errorf("linked %s %s: %w", s.System, kind, err)
			}
			item := itemKey{kind, external}
			if _, known := s.items[item]; known || s.checked[item] {
				continue
			}
			about := observation.Observation{System: s.System, Tenant: s.Tenant, Kind: kind, ExternalID: external}
			last, err := rawlog.Sight(ctx, s.Bus, about)
			switch {
			case err != nil:
				return err
			case last == nil:
				continue // it will be seen yet
			}
			if s.checked[item] = true; last.Absent || !s.Sweeper.Covers(*last) {
				continue
			}
			about.Parent = last.Parent
			s.items[item] = known{about: about, sweep: s.sweep - 1, counted: s.sweep - 1}
		}
	}
	return nil
}

// ready reports whether the contacts are there.
func (s *sweeper) ready(ctx context.Context) (bool, error) {
	if !s.AfterContacts {
		return true, nil
	}
	walk := cursor{kv: s.kv, key: cursorKey(s.Tenant, s.System, contacts), clock: s.Clock}
	if err := walk.load(ctx, progress{}); err != nil {
		return false, err
	}
	s.AfterContacts = !walk.p.Backfilled // it stays so
	return walk.p.Backfilled, nil
}

// keep saves the progress and the lease for d.
func (s *sweeper) keep(ctx context.Context, d time.Duration) error {
	err := s.save(ctx, s.Clock.Now().Add(d))
	s.saved = s.rev
	return err
}

// page reads one page and publishes what has changed.
func (s *sweeper) page(ctx context.Context) error {
	page, err := s.Sweeper.Sweep(ctx, s.p.Cursor)
	if err != nil {
		return fmt.Errorf("sweep %s %s: %w", s.System, s.Name, err)
	}
	for _, o := range page.Observations {
		key, sum := itemKey{o.Kind, o.ExternalID}, maphash.Bytes(s.seed, o.Record)
		shown, seq, err := s.row(ctx, o, page.Partial, s.items[key], sum)
		if err != nil {
			return err
		}
		if !s.p.Backfilled {
			s.p.Last = max(s.p.Last, seq)
		}
		k := known{about: o, sum: sum, sweep: s.sweep}
		if k.about.Record = nil; shown {
			k.shown = seq
		}
		s.items[key] = k
	}
	s.p.Cursor = page.Next
	return nil
}

// row publishes what a row shows if it is new. A row of a lagging index says
// only that there may be something new: the record was so some time ago, and
// might be taken for older than what we know. So it is fetched. seq is that of
// the last thing that RAW holds of the record.
func (s *sweeper) row(ctx context.Context, o observation.Observation, lagging bool, was known, sum uint64) (shown bool, seq uint64, err error) {
	if !lagging {
		return s.publish(ctx, o, was.shown)
	}
	o.System, o.Tenant = s.System, s.Tenant
	shown, seq, err = rawlog.Shows(ctx, s.Bus, o, was.shown)
	if err != nil || shown || was.sum == sum && was.shown == seq && seq != 0 {
		return shown, seq, err
	}
	if err := s.keep(ctx, lease); err != nil {
		return false, 0, err
	}
	fetched, err := s.Sweeper.Fetch(ctx, o)
	switch {
	case apierr.ClassOf(err) == apierr.Gone:
		return false, seq, nil // its absence from the sweeps will tell
	case err != nil:
		return false, 0, fmt.Errorf("sweep %s %s: %w", s.System, s.Name, err)
	}
	return s.publish(ctx, fetched, was.shown)
}

func (s *sweeper) publish(ctx context.Context, o observation.Observation, known uint64) (shown bool, seq uint64, err error) {
	o.System, o.Tenant, o.Via = s.System, s.Tenant, observation.Poll
	return rawlog.Publish(ctx, s.Bus, o, known)
}

// missing asks for what two complete sweeps have not shown.
func (s *sweeper) missing(ctx context.Context) error {
	asked := 0
	for key, k := range s.items {
		if k.sweep == s.sweep {
			continue
		}
		if k.counted != s.sweep { // else it is done again after an error
			k.missed, k.counted = k.missed+1, s.sweep
			s.items[key] = k
		}
		if k.missed < misses || asked == maxAsked {
			continue
		}
		asked++
		if err := s.keep(ctx, lease); err != nil {
			return err
		}
		began := s.Clock.Now()
		o, err := s.Sweeper.Fetch(ctx, k.about)
		contactGone := false
		if apierr.ClassOf(err) == apierr.Gone && k.about.Parent != "" {
			// Did it go by itself, or with its contact?
			_, of := s.Sweeper.Fetch(ctx, observation.Observation{System: s.System, Tenant: s.Tenant, Kind: canonical.KindContact, ExternalID: k.about.Parent})
			if contactGone = apierr.ClassOf(of) == apierr.Gone; of != nil && !contactGone {
				err = of
			}
		}
		switch {
		case apierr.ClassOf(err) == apierr.Gone:
			o = observation.Observation{Kind: key.kind, ExternalID: key.id, Parent: k.about.Parent, ReadBegan: began, Absent: true, ParentGone: contactGone}
		case err != nil:
			// It stays missing and is asked for after the next sweep.
			s.Logger.Warn().Err(err).Str("system", string(s.System)).Str("tenant", string(s.Tenant)).Str("sweep", s.Name).Msg("a missing item could not be asked for")
			continue
		}
		if _, _, err := s.publish(ctx, o, k.shown); err != nil {
			return err
		}
		// What is there and not in this part any more is another part's.
		delete(s.items, key)
		delete(s.checked, key)
	}
	return nil
}
