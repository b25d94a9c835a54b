// Package gap notices what RAW has lost, says so, has it read anew, and says
// when that is done.
//
// Who publishes to RAW numbers its messages and notes in COUNTS what of them
// the broker has acknowledged. Here the headers of RAW are read once the
// transform has passed them, and the numbers are compared with those receipts:
// what was acknowledged and isn't there is a gap. So is a stream that doesn't
// show any more what it has shown: one that was restored, cut short or made
// anew. A gap is a message on GAPS about a system, a tenant and a kind; a
// reconcile of just that is asked for, and when it is done the gap is closed.
//
// What is no gap: a number that was never stored (a copy, a publish that
// failed, a publisher that died before it sent it) and what age has removed.
// What is not noticed: what was acknowledged within the last seconds before the
// broker and all publishers died together, and a store that was restored whole,
// COUNTS with it, while nothing ran.
//
// One instance works at a time; what it knows is one key of COUNTS.
package gap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-json"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

// Bus is what looking for gaps needs of the broker.
type Bus interface {
	bus.Bus
	bus.Log
}

// Config is what looking for gaps needs.
type Config struct {
	Bus    Bus
	Clock  clock.Clock
	Logger zerolog.Logger
	// Every is how often it is looked; 0 means every 5 s.
	Every time.Duration
	// Metrics takes the gauges; nil keeps none.
	Metrics prometheus.Registerer
}

const (
	// lease is how long an instance that has died keeps others from looking.
	lease = 30 * time.Second
	// sure is after what time a stream that seems to hold less than it did is
	// looked at again, before that is believed.
	sure = time.Second
	// chunk is how many sequences are read before it is noted how far that is.
	chunk = 100_000
	// silent is after what time a publisher is taken for dead: it notes its
	// receipt once an hour at the least.
	silent = 3 * time.Hour
	// kept is for how long RAW keeps messages.
	kept = 30 * 24 * time.Hour
)

// errLost says that another instance has taken over.
var errLost = errors.New("another instance looks for gaps")

// Run looks for gaps until ctx is done.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Every == 0 {
		cfg.Every = 5 * time.Second
	}
	w := &watch{Config: cfg}
	var err error
	if w.counts, err = cfg.Bus.Bucket(ctx, streams.COUNTS); err != nil {
		return err
	}
	if w.cursors, err = cfg.Bus.Bucket(ctx, streams.CURSORS); err != nil {
		return err
	}
	if w.metrics, err = newMetrics(cfg.Metrics); err != nil {
		return err
	}
	for ctx.Err() == nil {
		if err := w.pass(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, errLost) {
			cfg.Logger.Warn().Err(err).Msg("RAW could not be looked through for gaps; trying again")
		}
		_ = clock.Sleep(ctx, cfg.Clock, cfg.Every) // ctx is looked at above
	}
	w.leave()
	return nil
}

type watch struct {
	Config
	counts, cursors bus.KV
	metrics         metrics

	a     audit
	rev   uint64 // under which this instance has kept a, 0 if it has not
	kept  []byte // a as it was kept, but for Due
	stale bool   // a is not what was kept
	// open says that there may be gaps to see to.
	open bool
}

// pass looks once, unless another instance does.
func (w *watch) pass(ctx context.Context) (err error) {
	defer func() { w.stale = err != nil }()
	if mine, err := w.load(ctx); err != nil || !mine {
		return err
	}
	receipts, err := w.receipts(ctx)
	if err != nil {
		return err
	}
	st, err := w.state(ctx, receipts)
	if errors.Is(err, bus.ErrNotFound) {
		return nil // who made it makes it again at the next start
	}
	if err != nil {
		return err
	}
	if w.a.Created.IsZero() && st.First <= 1 {
		w.a.Began = time.Time{} // age has removed nothing yet
	}
	ok, err := w.intact(ctx, st)
	if err == nil && !ok {
		err = w.wentBack(ctx, st)
	}
	if err != nil {
		return err
	}
	w.a.Created = st.Created
	if err := w.read(ctx, st); err != nil {
		return err
	}
	if err := w.compare(ctx, st, receipts); err != nil {
		return err
	}
	if err := w.keep(ctx); err != nil {
		return err
	}
	return w.heal(ctx)
}

// load takes up what is known, and reports whether it is this instance's turn.
func (w *watch) load(ctx context.Context) (bool, error) {
	now := w.Clock.Now()
	value, rev, err := w.counts.Get(ctx, streams.AuditKey)
	switch {
	case errors.Is(err, bus.ErrNotFound):
		w.a, w.rev, w.open = audit{Began: now.UTC()}, 0, true
	case err != nil:
		return false, fmt.Errorf("load %s: %w", streams.AuditKey, err)
	case rev != w.rev || w.stale:
		var a audit
		if err := json.Unmarshal(value, &a); err != nil {
			return false, fmt.Errorf("load %s: %w", streams.AuditKey, err)
		}
		if rev != w.rev && now.Before(a.Due) {
			w.metrics.open.Reset() // that one says it
			return false, nil
		}
		if now.Sub(a.Due) > kept {
			a = audit{Began: now.UTC()} // nobody has counted what age has removed since
		}
		w.a, w.rev, w.kept, w.open = a, rev, nil, true
	}
	if w.a.Lanes == nil {
		w.a.Lanes = map[string]mark{}
	}
	if w.a.Publishers == nil {
		w.a.Publishers = map[string]*publisher{}
	}
	return true, w.keep(ctx)
}

// keep stores what is known, if it is news, and says that this instance goes on,
// if it has not said so lately.
func (w *watch) keep(ctx context.Context) error {
	now, due := w.Clock.Now().UTC(), w.a.Due
	w.a.Due = time.Time{}
	value, err := json.Marshal(w.a)
	if w.a.Due = due; err != nil {
		return fmt.Errorf("encode %s: %w", streams.AuditKey, err)
	}
	if w.rev != 0 && bytes.Equal(value, w.kept) && due.Sub(now) > lease/2 {
		return nil
	}
	w.a.Due = now.Add(lease)
	if err := w.save(ctx); err != nil {
		return err
	}
	w.kept = value
	return nil
}

func (w *watch) save(ctx context.Context) error {
	value, err := json.Marshal(w.a)
	if err != nil {
		return fmt.Errorf("encode %s: %w", streams.AuditKey, err)
	}
	var rev uint64
	if w.rev == 0 {
		rev, err = w.counts.Create(ctx, streams.AuditKey, value)
	} else {
		rev, err = w.counts.Update(ctx, streams.AuditKey, value, w.rev)
	}
	switch {
	case errors.Is(err, bus.ErrExists), errors.Is(err, bus.ErrWrongSequence):
		w.rev = 0
		return errLost
	case err != nil:
		w.rev = 0 // nobody knows whether it is there; it is loaded anew
		return fmt.Errorf("save %s: %w", streams.AuditKey, err)
	}
	w.rev = rev
	return nil
}

// leave lets another instance begin at once.
func (w *watch) leave() {
	if w.rev == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	w.a.Due = w.Clock.Now().UTC()
	_ = w.save(ctx) // should it fail, the lease runs out
}

// receipts returns what the publishers have noted, by their names.
func (w *watch) receipts(ctx context.Context) (map[string]streams.Receipt, error) {
	keys, err := w.counts.Keys(ctx, streams.ReceiptKeys)
	if err != nil {
		return nil, fmt.Errorf("receipts: %w", err)
	}
	out := map[string]streams.Receipt{}
	for _, key := range keys {
		name, err := streams.ParseReceiptKey(key)
		if err != nil {
			return nil, fmt.Errorf("receipt %s: %w", key, err)
		}
		value, _, err := w.counts.Get(ctx, key)
		if errors.Is(err, bus.ErrNotFound) {
			continue
		}
		var r streams.Receipt
		if err == nil {
			err = json.Unmarshal(value, &r)
		}
		if err != nil {
			return nil, fmt.Errorf("receipt %s: %w", key, err)
		}
		out[name] = r
	}
	return out, nil
}

// state returns what RAW holds. If that is less than it was known to hold, it
// is asked twice: in a cluster the first to answer may not know everything.
func (w *watch) state(ctx context.Context, receipts map[string]streams.Receipt) (streams.State, error) {
	st, err := w.Bus.State(ctx, streams.RAW)
	if err != nil {
		return st, err
	}
	known := w.a.Seq
	for _, r := range receipts {
		for _, a := range r.Lanes {
			known = max(known, a.Last)
		}
	}
	if st.Last >= known {
		return st, nil
	}
	if err := clock.Sleep(ctx, w.Clock, sure); err != nil {
		return st, err
	}
	return w.Bus.State(ctx, streams.RAW)
}

// intact reports whether RAW is still the stream that it was when it was read
// last.
func (w *watch) intact(ctx context.Context, st streams.State) (bool, error) {
	switch {
	case w.a.Created.IsZero():
		return true, nil // it was never read
	case !w.a.Created.Equal(st.Created), w.a.Seq > st.Last:
		return false, nil
	case w.a.At.IsZero() || w.a.Seq < st.First:
		return true, nil
	}
	there, err := w.holds(ctx, mark{w.a.Seq, w.a.At})
	return there != differs, err
}

type presence int

const (
	holds presence = iota
	lacks
	differs
)

// holds says whether RAW has a message where it was.
func (w *watch) holds(ctx context.Context, at mark) (presence, error) {
	m, err := w.Bus.Message(ctx, streams.RAW, at.Seq)
	switch {
	case errors.Is(err, bus.ErrNotFound):
		return lacks, nil
	case err != nil:
		return lacks, err
	case !m.Time.Equal(at.At):
		return differs, nil
	}
	return holds, nil
}

// wentBack finds out whose messages a stream that is another one now has lost,
// those whose newest isn't where it was, and where it is to be read from.
func (w *watch) wentBack(ctx context.Context, st streams.State) error {
	var last mark
	var lost []string
	now := w.Clock.Now()
	for lane, m := range w.a.Lanes {
		switch {
		case now.Sub(m.At) > kept, m.Seq < st.First && w.a.Created.Equal(st.Created):
			delete(w.a.Lanes, lane) // age has removed it
			continue
		}
		there, err := w.holds(ctx, m)
		if err != nil {
			return err
		}
		if there != holds {
			lost = append(lost, lane)
		} else if m.Seq > last.Seq {
			last = m
		}
	}
	w.Logger.Error().Uint64("was", w.a.Seq).Uint64("is", st.Last).Uint64("same_up_to", last.Seq).Msg("RAW went back")
	for _, lane := range lost {
		if err := w.raise(ctx, lane, found{wentBack: true, after: last.Seq}); err != nil {
			return err
		}
		delete(w.a.Lanes, lane)
	}
	w.a.Seq, w.a.At = last.Seq, last.At
	return nil
}

// read notes the numbers of what the transform is done with.
func (w *watch) read(ctx context.Context, st streams.State) error {
	settled, err := w.Bus.Settled(ctx, streams.Transform())
	if err != nil {
		return err
	}
	for end := min(settled, st.Last); w.a.Seq < end; {
		to := min(end, max(w.a.Seq, st.First)+chunk)
		var last mark
		err := w.Bus.Headers(ctx, streams.RAW, w.a.Seq+1, to, func(m bus.Stored) error {
			last = mark{m.Seq, m.Time.UTC()}
			w.note(m)
			return nil
		})
		if err != nil {
			return err
		}
		if last.Seq != to {
			last.At = time.Time{} // there is none
		}
		w.a.Seq, w.a.At = to, last.At
		if w.a.Seq < end {
			if err := w.keep(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *watch) note(m bus.Stored) {
	lane := streams.RawLane(m.Subject)
	w.a.Lanes[lane] = mark{m.Seq, m.Time.UTC()}
	of := m.Header[observation.Count]
	if len(of) == 0 {
		return // of one who doesn't count
	}
	name, number, _ := strings.Cut(of[0], ".")
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return // not of ours
	}
	p := w.a.Publishers[name]
	if p == nil {
		p = &publisher{Lanes: map[string]*seen{}}
		w.a.Publishers[name] = p
	}
	p.Heard = m.Time.UTC()
	p.lane(lane).add(n)
}

// compare looks whether all is there that the publishers know to be stored.
func (w *watch) compare(ctx context.Context, st streams.State, receipts map[string]streams.Receipt) error {
	now := w.Clock.Now()
	missing := map[string]uint64{}
	var done []string
	for name, r := range receipts {
		p := w.a.Publishers[name]
		if p == nil {
			p = &publisher{Heard: r.At, Lanes: map[string]*seen{}}
			w.a.Publishers[name] = p
		}
		all := true
		for lane, a := range r.Lanes {
			switch s := p.lane(lane); {
			case w.a.Seq < min(a.Last, st.Last):
				all = false // not read yet
			case s.UpTo == 0 && r.Began.Before(w.a.Began):
				s.adopt(a)
			default:
				if n := s.compare(a); n > 0 {
					missing[lane] += n
				}
			}
		}
		if all && (r.Closed || now.Sub(r.At) > silent) {
			done = append(done, name)
		}
	}
	for lane, n := range missing {
		if err := w.raise(ctx, lane, found{missing: n}); err != nil {
			return err
		}
	}
	// A publisher is forgotten before that is kept: one that is known and has no
	// receipt is nothing, a receipt of one that isn't known would look like a gap.
	for _, name := range done {
		if err := w.counts.Delete(ctx, streams.ReceiptKey(name), 0); err != nil {
			return fmt.Errorf("forget publisher %s: %w", name, err)
		}
		delete(w.a.Publishers, name)
	}
	for name, p := range w.a.Publishers {
		if _, there := receipts[name]; !there && now.Sub(p.Heard) > silent {
			delete(w.a.Publishers, name)
		}
	}
	return nil
}
