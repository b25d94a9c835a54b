// Package poll walks a system's records: once through all of them (the
// backfill), and from then on, at an interval, through those that were
// modified since a watermark, with overlap. It is what a deployment without
// webhooks runs on, and what heals one whose webhooks were lost.
//
// Progress is kept in CURSORS after every page, behind a compare-and-set that
// is also the lease: of several instances one walks, and one that dies is
// relieved when its lease has run out. A page is published before the
// progress past it is kept, so nothing is skipped.
package poll

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"time"

	"github.com/goccy/go-json"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

// Query asks a Lister for one page.
type Query struct {
	// Since asks for what was modified then or later; zero for everything.
	Since time.Time
	// Cursor is Page.Next of the page before; nil for the first page.
	Cursor json.RawMessage
	Lane   budget.Lane
}

// Page is one page, oldest modification first where the system can sort.
type Page struct {
	// Observations lack Tenant, Kind and Via, which are the walk's to set.
	Observations []observation.Observation
	// Partial says that rows lack fields that only a fetch shows. Then a notice
	// follows each row that is new, so that the record is fetched as well.
	Partial bool
	// Next is where the next page begins; nil if this was the last.
	Next json.RawMessage
	// Total is how many records the system says that there are, 0 if it doesn't,
	// and Position how many of them have been shown with this page.
	Total, Position int
}

// Lister pages through one system's records.
type Lister interface {
	List(ctx context.Context, q Query) (Page, error)
}

// Config is what walking one system of one tenant needs.
type Config struct {
	Bus    bus.Bus
	Clock  clock.Clock
	Logger zerolog.Logger
	System canonical.System
	Tenant canonical.Tenant
	Lister Lister
	// Backfill says that the first walk goes through everything; else it
	// begins at what is modified from now on.
	Backfill bool
	// Every is the interval between polls; 0 means that nothing is polled
	// after the backfill.
	Every time.Duration
	// Overlap is how far before the watermark a poll begins.
	Overlap time.Duration
}

const (
	// lease is how long an instance that has died keeps others from walking.
	lease = 30 * time.Second
	// remembered is how many records' contents are known, so that an overlap
	// is not published again.
	remembered = 1 << 16
	// contacts is what a walk goes through, in CURSORS.
	contacts = "contact"
)

// progress is what CURSORS holds.
type progress struct {
	streams.Walk
	Since  time.Time       `json:"since,omitzero"` // the watermark: what was modified before has been seen
	Began  time.Time       `json:"began,omitzero"` // when the pass under way began
	Newest time.Time       `json:"newest,omitzero"`
	Cursor json.RawMessage `json:"cursor,omitempty"`
	Due    time.Time       `json:"due,omitzero"` // nobody works on it before
}

type walker struct {
	Config
	cursor
	seen *lru.Cache[canonical.ExternalID, uint64]
	seed maphash.Seed
	errs int       // in a row
	at   time.Time // when the page before was done, zero if none was by this instance
}

// cursor is the progress and where it is kept.
type cursor struct {
	kv    bus.KV
	key   string
	clock clock.Clock
	rev   uint64
	p     progress
}

func cursorKey(tenant canonical.Tenant, system canonical.System, what string) string {
	return streams.SweepKey(system, tenant, what)
}

// errLost says that another instance has taken over.
var errLost = errors.New("another instance walks")

// Run walks until ctx is done.
func Run(ctx context.Context, cfg Config) error {
	if !cfg.Backfill && cfg.Every == 0 {
		return nil
	}
	kv, err := cfg.Bus.Bucket(ctx, streams.CURSORS)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", streams.CURSORS, err)
	}
	seen, err := lru.New[canonical.ExternalID, uint64](remembered)
	if err != nil {
		return fmt.Errorf("walk %s: %w", cfg.System, err)
	}
	w := &walker{Config: cfg, seen: seen, seed: maphash.MakeSeed(),
		cursor: cursor{kv: kv, key: cursorKey(cfg.Tenant, cfg.System, contacts), clock: cfg.Clock}}
	for ctx.Err() == nil {
		wait, err := w.pass(ctx)
		if err != nil && ctx.Err() == nil && !errors.Is(err, errLost) {
			w.errs++
			wait = again(err, w.errs)
			cfg.Logger.Warn().Err(err).Str("system", string(cfg.System)).Str("tenant", string(cfg.Tenant)).Dur("again_in", wait).Msg("walk interrupted")
		}
		if wait < 0 || clock.Sleep(ctx, cfg.Clock, wait) != nil {
			break
		}
	}
	w.release()
	return nil
}

// again is how long to wait after the errs-th error in a row.
func again(err error, errs int) time.Duration {
	var after time.Duration
	var api *apierr.Error
	if errors.As(err, &api) {
		after = api.RetryAfter
	}
	return min(max(after, time.Second<<min(errs-1, 6)), time.Minute)
}

// pass works on what is due and returns how long to wait, or a negative
// duration if nothing will ever be due again.
func (w *walker) pass(ctx context.Context) (time.Duration, error) {
	if wait, err := restoring(ctx, w.kv, w.System, w.Tenant); err != nil || wait {
		return watch, err
	}
	if err := w.load(ctx); err != nil {
		return 0, err
	}
	now := w.Clock.Now()
	if wait := w.p.Due.Sub(now); wait > 0 {
		return min(wait, lease), nil
	}
	if w.p.Backfilled && w.Every == 0 {
		return -1, nil
	}
	if w.p.Began.IsZero() {
		w.p.Began = now
	}
	if err := w.save(ctx, now.Add(lease)); err != nil {
		return 0, err
	}
	for {
		more, err := w.page(ctx)
		if err != nil {
			return 0, err
		}
		if !more {
			return w.Every, nil
		}
	}
}

func (w *walker) load(ctx context.Context) error {
	fresh := progress{Walk: streams.Walk{Backfilled: !w.Backfill}}
	if !w.Backfill {
		fresh.Since = w.Clock.Now()
	}
	return w.cursor.load(ctx, fresh)
}

// load reads the progress; it is fresh if none has been kept.
func (c *cursor) load(ctx context.Context, fresh progress) error {
	value, rev, err := c.kv.Get(ctx, c.key)
	switch {
	case errors.Is(err, bus.ErrNotFound):
		c.p, c.rev = fresh, 0
		return nil
	case err != nil:
		return fmt.Errorf("load cursor: %w", err)
	}
	c.rev, c.p = rev, progress{}
	if err := json.Unmarshal(value, &c.p); err != nil {
		return fmt.Errorf("load cursor %s: %w", c.key, err)
	}
	return nil
}

// save keeps the progress and the lease until due.
func (c *cursor) save(ctx context.Context, due time.Time) error {
	c.p.Due = due
	value, err := json.Marshal(c.p)
	if err != nil {
		return fmt.Errorf("encode cursor: %w", err)
	}
	c.rev, err = put(ctx, c.kv, c.key, value, c.rev)
	return err
}

// put stores value if the key's revision is still rev, 0 for none; else it
// returns errLost.
func put(ctx context.Context, kv bus.KV, key string, value []byte, rev uint64) (uint64, error) {
	var err error
	if rev == 0 {
		rev, err = kv.Create(ctx, key, value)
	} else {
		rev, err = kv.Update(ctx, key, value, rev)
	}
	switch {
	case errors.Is(err, bus.ErrExists), errors.Is(err, bus.ErrWrongSequence):
		return 0, errLost
	case err != nil:
		return 0, fmt.Errorf("save cursor %s: %w", key, err)
	}
	return rev, nil
}

// release gives the lease back, so that a restart need not wait for it.
func (c *cursor) release() {
	if c.rev == 0 || c.p.Began.IsZero() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = c.save(ctx, c.clock.Now()) // should it fail, the lease runs out
}

// page reads and publishes one page and keeps the progress.
func (w *walker) page(ctx context.Context) (more bool, err error) {
	q := Query{Cursor: w.p.Cursor, Lane: budget.Backfill}
	via := observation.Backfill
	if w.p.Backfilled {
		q.Since, q.Lane, via = w.p.Since.Add(-w.Overlap), budget.Poll, observation.Poll
	}
	page, err := w.Lister.List(ctx, q)
	if err != nil {
		return false, fmt.Errorf("list %s contacts: %w", w.System, err)
	}
	if err := w.publish(ctx, page, via); err != nil {
		return false, err
	}
	w.errs = 0
	w.advance(page)
	for _, o := range page.Observations {
		if o.Modified.After(w.p.Newest) {
			w.p.Newest = o.Modified
		}
	}
	if w.p.Cursor = page.Next; page.Next != nil {
		return true, w.save(ctx, w.Clock.Now().Add(lease))
	}
	switch {
	case !w.p.Backfilled:
		// What changed while the walk went on is the first poll's.
		w.p.Backfilled, w.p.Since = true, w.p.Began
		w.Logger.Info().Str("system", string(w.System)).Str("tenant", string(w.Tenant)).Msg("backfill is complete")
	case w.p.Newest.After(w.p.Since):
		w.p.Since = w.p.Newest
	}
	w.p.Began, w.p.Newest = time.Time{}, time.Time{}
	return false, w.save(ctx, w.Clock.Now().Add(w.Every))
}

// recent is how much of the rate is the last page's.
const recent = 0.2

// advance notes how far the backfill is and how fast it goes. The time in which
// nobody worked on it doesn't count.
func (w *walker) advance(page Page) {
	if w.p.Backfilled {
		return
	}
	now := w.Clock.Now()
	before := w.p.Shown
	if w.p.Shown, w.p.Total = page.Position, page.Total; page.Position == 0 {
		w.p.Shown = before + len(page.Observations)
	}
	if took := now.Sub(w.at).Seconds(); !w.at.IsZero() && took > 0 {
		rate := float64(max(w.p.Shown-before, 0)) / took
		if w.p.Rate > 0 {
			rate = recent*rate + (1-recent)*w.p.Rate
		}
		w.p.Rate = rate
	}
	w.at, w.p.At = now, now
}

// publish stores what has not been seen just so, and waits for every PubAck.
func (w *walker) publish(ctx context.Context, page Page, via observation.Via) error {
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		first error
		last  uint64
	)
	fail := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		if first == nil && err != nil {
			first = fmt.Errorf("publish %s contact: %w", w.System, err)
		}
	}
	send := func(o observation.Observation, id string) bool {
		body, err := o.Encode()
		if err != nil {
			fail(err)
			return false
		}
		wg.Add(1)
		err = w.Bus.PublishAsync(ctx, bus.Message{Subject: streams.Raw(o), ID: id, Data: body}, func(a bus.Ack, err error) {
			fail(err)
			mu.Lock()
			last = max(last, a.Seq)
			mu.Unlock()
			wg.Done()
		})
		if err != nil {
			wg.Done()
			fail(err)
		}
		return err == nil
	}
	sums := make([]uint64, len(page.Observations))
	for i, o := range page.Observations {
		o.System, o.Tenant, o.Kind, o.Via = w.System, w.Tenant, canonical.KindContact, via
		sums[i] = maphash.Bytes(w.seed, o.Record)
		if was, ok := w.seen.Get(o.ExternalID); ok && was == sums[i] {
			continue
		}
		key := o.Key()
		ok := send(o, key)
		if ok && page.Partial {
			ok = send(observation.Observation{System: o.System, Tenant: o.Tenant, Kind: o.Kind, ExternalID: o.ExternalID,
				Via: observation.Notice, Modified: o.Modified}, key+"-notice")
		}
		if !ok {
			break
		}
	}
	wg.Wait()
	if !w.p.Backfilled {
		w.p.Last = max(w.p.Last, last)
	}
	if first == nil {
		for i, o := range page.Observations {
			w.seen.Add(o.ExternalID, sums[i])
		}
	}
	return first
}
