// Package rehearse says what rules would have fired for, by what CANONICAL
// holds, and does nothing: it is what a person looks at before a rule counts.
package rehearse

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/rule"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/streams"
)

// year is how far back dates are looked at.
const year = 366

// Run reads what a tenant's rules would have fired for since then, oldest
// first. The firings by a date are of the records as they are now, by the days
// of zone, at most those of the last year.
func Run(ctx context.Context, r bus.Reader, tenant canonical.Tenant, set rule.Set, zone *time.Location, since, now time.Time) ([]rule.Firing, error) {
	var out []rule.Firing
	states := map[canonical.CanonicalID]canonical.Event{}
	seqs := map[canonical.CanonicalID]uint64{}
	read := func(each func(canonical.Event, bus.Stored)) func(bus.Stored) error {
		return func(m bus.Stored) error {
			e, err := canonical.DecodeEvent(m.Data)
			if err != nil {
				return fmt.Errorf("decode message %d of %s: %w", m.Seq, m.Stream, err)
			}
			each(e, m)
			return nil
		}
	}
	for _, kind := range rule.Kinds() {
		if !slices.ContainsFunc(set, func(r *rule.Rule) bool { return r.Kind == kind }) {
			continue
		}
		subjects := streams.EntitiesOf(kind, tenant)
		if err := r.Scan(ctx, streams.CANONICAL, subjects, since, read(func(e canonical.Event, m bus.Stored) { out = append(out, set.Fire(e, m.Seq, m.Time)...) })); err != nil {
			return nil, err
		}
		if !set.Dated() {
			continue
		}
		if err := r.ScanLast(ctx, streams.CANONICAL, subjects, read(func(e canonical.Event, m bus.Stored) {
			if seqs[e.ID()] < m.Seq {
				states[e.ID()], seqs[e.ID()] = e, m.Seq
			}
		})); err != nil {
			return nil, err
		}
	}
	first := now.AddDate(0, 0, -year)
	if since.After(first) {
		first = since
	}
	seen := map[string]bool{}
	for _, id := range slices.Sorted(maps.Keys(states)) {
		for day := first; !day.After(now); day = day.AddDate(0, 0, 1) {
			for _, f := range set.Due(states[id], seqs[id], day.In(zone)) {
				if !seen[f.Key] && !f.At.Before(first.Truncate(24*time.Hour)) {
					seen[f.Key] = true
					out = append(out, f)
				}
			}
		}
	}
	slices.SortStableFunc(out, func(a, b rule.Firing) int { return a.At.Compare(b.At) })
	return out, nil
}
