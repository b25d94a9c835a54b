package gap

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/goccy/go-json"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/streams"
)

const (
	// repairs is how many differences a sweep may repair without a person's
	// word, beside as many as messages are missing.
	repairs = 1000
	// skew is how much later than the gap a reconcile that somebody else has
	// asked for has to have begun, so that it counts.
	skew = time.Minute
)

// found is what was noticed about a lane.
type found struct {
	wentBack bool
	missing  uint64
	after    uint64
}

// about is a gap, and the sequence of its last message.
type about struct {
	envelope.Gap
	seq uint64
}

func subject(g envelope.Gap) string { return streams.Gap(g.System, g.Tenant, g.Kind) }

// raise says that there is a gap, or that one has grown.
func (w *watch) raise(ctx context.Context, lane string, f found) error {
	system, tenant, kind, err := streams.ParseLane(lane)
	if err != nil {
		return fmt.Errorf("gap: %w", err)
	}
	was, err := last(ctx, w.Bus, streams.Gap(system, tenant, kind))
	if err != nil {
		return err
	}
	now := about{Gap: envelope.Gap{System: system, Tenant: tenant, Kind: kind, State: envelope.GapOpen, Reason: envelope.GapMissing,
		Missing: f.missing, After: f.after, Detected: w.Clock.Now().UTC()}, seq: was.seq}
	if f.wentBack {
		now.Reason = envelope.GapWentBack
	}
	if was.State == envelope.GapOpen {
		now.Missing += was.Missing
		now.After = cmp.Or(min(now.After, was.After), now.After, was.After)
		if was.Reason == envelope.GapWentBack {
			now.Reason = was.Reason
		}
	}
	if err := now.say(ctx, w.Bus); err != nil {
		return err
	}
	w.open = true
	w.metrics.lost.WithLabelValues(string(system), string(tenant), string(kind)).Add(float64(f.missing))
	w.Logger.Error().Str("system", string(system)).Str("tenant", string(tenant)).Str("kind", string(kind)).Str("reason", string(now.Reason)).
		Uint64("missing", f.missing).Msg("RAW has a gap")
	return nil
}

// last returns a gap as it stands; zero if there never was one.
func last(ctx context.Context, r bus.Reader, subject string) (about, error) {
	m, err := r.Last(ctx, streams.GAPS, subject)
	if errors.Is(err, bus.ErrNotFound) {
		return about{}, nil
	}
	if err != nil {
		return about{}, err
	}
	return decode(m)
}

func decode(m bus.Stored) (about, error) {
	a := about{seq: m.Seq}
	if err := json.Unmarshal(m.Data, &a.Gap); err != nil {
		return about{}, fmt.Errorf("decode gap %s: %w", m.Subject, err)
	}
	return a, nil
}

// say publishes how a gap stands.
func (a *about) say(ctx context.Context, p bus.Publisher) error {
	data, err := json.Marshal(a.Gap)
	if err != nil {
		return fmt.Errorf("encode gap: %w", err)
	}
	subject := subject(a.Gap)
	ack, err := p.Publish(ctx, bus.Message{Subject: subject, Data: data, Expect: &bus.Expect{Subject: subject, LastSeq: a.seq}})
	if err != nil {
		return fmt.Errorf("publish gap: %w", err)
	}
	a.seq = ack.Seq
	return nil
}

// Open returns the gaps that are open, by subject.
func Open(ctx context.Context, r bus.Reader) ([]envelope.Gap, error) {
	all, err := All(ctx, r)
	return slices.DeleteFunc(all, func(g envelope.Gap) bool { return g.State != envelope.GapOpen }), err
}

// All returns how each gap that there ever was stands, by subject.
func All(ctx context.Context, r bus.Reader) ([]envelope.Gap, error) {
	all, err := stand(ctx, r)
	out := make([]envelope.Gap, 0, len(all))
	for _, a := range all {
		out = append(out, a.Gap)
	}
	return out, err
}

func stand(ctx context.Context, r bus.Reader) ([]about, error) {
	var out []about
	err := r.ScanLast(ctx, streams.GAPS, streams.AllGaps, func(m bus.Stored) error {
		a, err := decode(m)
		out = append(out, a)
		return err
	})
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		return nil, fmt.Errorf("gaps: %w", err)
	}
	slices.SortFunc(out, func(a, b about) int { return cmp.Compare(subject(a.Gap), subject(b.Gap)) })
	return out, nil
}

// ErrNotOpen is returned for a gap that isn't open.
var ErrNotOpen = errors.New("there is no open gap")

// Close closes a gap by a person's word.
func Close(ctx context.Context, b bus.Bus, system canonical.System, tenant canonical.Tenant, kind canonical.Kind, now time.Time) error {
	g, err := last(ctx, b, streams.Gap(system, tenant, kind))
	if err != nil {
		return err
	}
	if g.State != envelope.GapOpen {
		return fmt.Errorf("%s %s of tenant %s: %w", system, kind, tenant, ErrNotOpen)
	}
	g.State, g.Closed = envelope.GapClosed, now.UTC()
	return g.say(ctx, b)
}

// heal has everything read anew of which something was lost, and closes the
// gaps for which that is done.
func (w *watch) heal(ctx context.Context) error {
	if !w.open {
		return nil
	}
	gaps, err := stand(ctx, w.Bus)
	if err != nil {
		return err
	}
	gaps = slices.DeleteFunc(gaps, func(g about) bool { return g.State != envelope.GapOpen })
	w.open = len(gaps) > 0
	w.metrics.open.Reset()
	of := map[string][]*about{}
	for i, g := range gaps {
		w.metrics.open.WithLabelValues(string(g.System), string(g.Tenant), string(g.Kind)).Set(1)
		key := streams.ReconcileKey(g.System, g.Tenant)
		of[key] = append(of[key], &gaps[i])
	}
	for key, gaps := range of {
		if err := w.sweep(ctx, key, gaps); err != nil {
			return err
		}
	}
	return nil
}

// sweep sees to the gaps of one system and tenant.
func (w *watch) sweep(ctx context.Context, key string, gaps []*about) error {
	if system := gaps[0].System; system != canonical.GHL && system != canonical.Novi {
		for _, g := range gaps {
			if err := w.trouble(ctx, g, "it was said by nobody but the pipeline, and nothing says it again"); err != nil {
				return err
			}
		}
		return nil
	}
	var doc streams.Reconcile
	value, rev, err := w.cursors.Get(ctx, key)
	if err == nil {
		err = json.Unmarshal(value, &doc)
	}
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		return fmt.Errorf("load %s: %w", key, err)
	}
	var ask []*about
	for _, g := range gaps {
		switch {
		case done(doc, g.Gap):
			g.State, g.Closed, g.Trouble = envelope.GapClosed, w.Clock.Now().UTC(), ""
			if err := g.say(ctx, w.Bus); err != nil {
				return err
			}
			w.metrics.open.DeleteLabelValues(string(g.System), string(g.Tenant), string(g.Kind))
			w.Logger.Info().Str("system", string(g.System)).Str("tenant", string(g.Tenant)).Str("kind", string(g.Kind)).Msg("everything was read anew; the gap is closed")
		case doc.Open():
			// Its own, or one after which it can be asked for.
		case g.Sweep != "" && g.Sweep == doc.ID:
			if err := w.trouble(ctx, g, "the reconcile "+doc.ID+" is "+string(doc.State)+" and has repaired nothing"); err != nil {
				return err
			}
		case g.Trouble == "":
			ask = append(ask, g)
		}
	}
	return w.ask(ctx, key, doc, rev, ask)
}

// done reports whether all that a gap may have hidden has been read anew.
func done(doc streams.Reconcile, g envelope.Gap) bool {
	if doc.State != streams.ReconcileDone || doc.DryRun || len(doc.Kinds) > 0 && !slices.Contains(doc.Kinds, g.Kind) {
		return false
	}
	return g.Sweep != "" && doc.ID == g.Sweep || doc.Began.After(g.Detected.Add(skew))
}

func (w *watch) trouble(ctx context.Context, g *about, what string) error {
	if g.Trouble == what {
		return nil
	}
	g.Trouble = what
	w.Logger.Error().Str("system", string(g.System)).Str("tenant", string(g.Tenant)).Str("kind", string(g.Kind)).Str("trouble", what).Msg("a gap can't be closed without a person")
	return g.say(ctx, w.Bus)
}

// ask asks for a reconcile of just the kinds that gaps are about.
func (w *watch) ask(ctx context.Context, key string, was streams.Reconcile, rev uint64, gaps []*about) error {
	if len(gaps) == 0 {
		return nil
	}
	now := w.Clock.Now().UTC()
	doc := streams.Reconcile{ID: "gap-" + now.Format(time.RFC3339Nano), Max: repairs, Asked: now, State: streams.ReconcileAsked, Next: was.Next}
	for _, g := range gaps {
		doc.Kinds = append(doc.Kinds, g.Kind)
		doc.Max += int(min(g.Missing, 1<<30))
	}
	value, err := json.Marshal(doc)
	if err != nil {
		return fmt.Errorf("encode %s: %w", key, err)
	}
	// The gaps name the reconcile before it is asked for: should that not be
	// done, another is.
	for _, g := range gaps {
		g.Sweep = doc.ID
		if err := g.say(ctx, w.Bus); err != nil {
			return err
		}
	}
	if rev == 0 {
		_, err = w.cursors.Create(ctx, key, value)
	} else {
		_, err = w.cursors.Update(ctx, key, value, rev)
	}
	if errors.Is(err, bus.ErrExists) || errors.Is(err, bus.ErrWrongSequence) {
		return nil // somebody else has asked for one; it is looked at again
	}
	if err != nil {
		return fmt.Errorf("ask for %s: %w", key, err)
	}
	return nil
}

type metrics struct {
	open *prometheus.GaugeVec
	lost *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) (metrics, error) {
	labels := []string{"system", "tenant", "kind"}
	m := metrics{
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "causeway_gap_open", Help: "1 while something that RAW has lost is not read anew yet."}, labels),
		lost: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "causeway_gap_messages_total", Help: "Messages that the broker has acknowledged and RAW doesn't hold."}, labels),
	}
	if r == nil {
		return m, nil
	}
	if err := errors.Join(r.Register(m.open), r.Register(m.lost)); err != nil {
		return m, fmt.Errorf("metrics: %w", err)
	}
	return m, nil
}
