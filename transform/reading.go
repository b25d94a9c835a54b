package transform

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
	"github.com/causeway-sync/causeway/transform/merge"
)

// Sights returns what RAW holds.
type Sights interface {
	// Message returns the message of that sequence, or bus.ErrNotFound.
	Message(ctx context.Context, stream string, seq uint64) (bus.Stored, error)
}

// Before returns what lens reads, in the sights that the base of seen's record
// is from, of what the mapping read in another way then. RAW keeps them for a
// while; what it doesn't hold any more is not in the answer.
func Before(ctx context.Context, r Sights, tenant canonical.Tenant, state canonical.Event, seen merge.Seen, lens *mapping.Lens) (mapping.Shown, error) {
	var before mapping.Shown
	if seen.Absent {
		return before, nil
	}
	at := merge.Reread(state, seen, lens)
	for _, seq := range slices.Sorted(maps.Keys(at)) {
		shown, known, err := sightOf(ctx, r, tenant, state.Kind(), seen, lens, seq)
		if err != nil {
			return before, fmt.Errorf("read entity %s again: %w", state.ID(), err)
		}
		if !known {
			continue
		}
		for _, f := range at[seq] {
			if f == canonical.TagsReading {
				before.Tags, before.Tagged, before.Grouped = shown.Tags, shown.Tagged, shown.Grouped
			} else if value, covered := shown.Fields[f]; covered {
				if before.Fields == nil {
					before.Fields = map[string]string{}
				}
				before.Fields[f] = value
			}
		}
	}
	return before, nil
}

// sightOf reads one sight of seen's record again; known is false if RAW doesn't
// hold it any more, or the mapping as it is now couldn't have read it.
func sightOf(ctx context.Context, r Sights, tenant canonical.Tenant, kind canonical.Kind, seen merge.Seen, lens *mapping.Lens, seq uint64) (shown mapping.Shown, known bool, err error) {
	m, err := r.Message(ctx, streams.RAW, seq)
	if errors.Is(err, bus.ErrNotFound) {
		return shown, false, nil
	}
	if err != nil {
		return shown, false, err
	}
	o, err := observation.Decode(m.Data)
	if err != nil || o.Absent || o.Tenant != tenant || o.Kind != kind || o.System != seen.System || o.ExternalID != seen.External {
		return shown, false, nil // RAW was set up anew
	}
	shown, err = lens.Show(o)
	return shown, err == nil && shown.Skip == "", nil
}

// Rereading is what becomes of an entity when its records are read again, as
// they are, by a mapping that reads them in another way than before.
type Rereading struct {
	State canonical.Event // the entity then
	// Records are those of which something is read in another way, and Changes
	// what comes of it, with what loses.
	Records []Reread
	Changes []canonical.Change
}

// Reread is a record of which some fields are read in another way, tags under
// [canonical.TagsReading]. Unknown says that RAW doesn't hold all of the sights
// any more: what the record shows is known when it is seen again.
type Reread struct {
	System  canonical.System
	Record  canonical.ExternalID
	Fields  []string
	Unknown bool
}

// Rehearse says what becomes of state when each of its records is seen again at
// now, and nobody has changed any. Whether an identity key that is read in
// another way makes it somebody else is not looked at.
func Rehearse(ctx context.Context, r Sights, tenant canonical.Tenant, state canonical.Event, policy Policy, now time.Time) (Rereading, error) {
	out := Rereading{State: state}
	if state.MergedInto != "" || state.Deleted() {
		return out, nil
	}
	for _, system := range []canonical.System{canonical.GHL, canonical.Novi} {
		for _, x := range state.Links[system] {
			base, known := state.Record(system, x)
			if !known || base.Gone {
				continue
			}
			seen, record, err := again(ctx, r, tenant, out.State, system, base, policy.Lens)
			if err != nil {
				return out, err
			}
			if len(record.Fields) == 0 {
				continue
			}
			out.Records = append(out.Records, record)
			seen.At.AsOf = max(now.UnixMicro(), seen.At.AsOf)
			next, _ := merge.Apply(out.State, seen, policy.merge())
			if next.Version != out.State.Version {
				out.Changes = append(out.Changes, next.Changes...)
			}
			out.State = next
		}
	}
	return out, nil
}

// again returns a sight of a record that shows what its base does, as the
// mapping reads it now.
func again(ctx context.Context, r Sights, tenant canonical.Tenant, state canonical.Event, system canonical.System, base canonical.Base, lens *mapping.Lens) (merge.Seen, Reread, error) {
	seen := merge.Seen{System: system, External: base.External, Via: observation.Fetch, At: canonical.Read{Modified: base.At.Modified, AsOf: base.At.AsOf + 1, Seq: math.MaxUint64},
		Shown: mapping.Shown{Fields: maps.Clone(base.Fields), Tags: base.Tags, Tagged: base.Tagged, Grouped: base.Grouped, Inactive: base.Inactive, Also: base.Also, Parent: base.Parent}}
	record := Reread{System: system, Record: base.External}
	readings := lens.Readings(state.Kind(), system)
	for _, fields := range merge.Reread(state, seen, lens) {
		record.Fields = append(record.Fields, fields...)
	}
	var err error
	if seen.Before, err = Before(ctx, r, tenant, state, seen, lens); err != nil {
		return seen, record, err
	}
	for _, f := range record.Fields {
		value, known := seen.Before.Fields[f]
		switch {
		case known:
			seen.Shown.Fields[f] = value
		case f == canonical.TagsReading && (seen.Before.Tagged || seen.Before.Grouped):
			seen.Shown.Tags, seen.Shown.Tagged, seen.Shown.Grouped = seen.Before.Tags, seen.Before.Tagged, seen.Before.Grouped
		default:
			record.Unknown = true
		}
	}
	// What wasn't read at all until now.
	unread := func(f string) bool {
		_, has := base.Fields[f]
		return !has && f != canonical.TagsReading
	}
	if slices.ContainsFunc(slices.Collect(maps.Keys(readings)), unread) {
		shown, _, err := sightOf(ctx, r, tenant, state.Kind(), seen, lens, base.At.Seq)
		if err != nil {
			return seen, record, fmt.Errorf("read entity %s again: %w", state.ID(), err)
		}
		for f, value := range shown.Fields {
			if unread(f) && readings[f] != "" && value != "" {
				seen.Shown.Fields[f] = value
				record.Fields = append(record.Fields, f)
			}
		}
	}
	slices.Sort(record.Fields)
	return seen, record, nil
}
