package transform

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

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
		m, err := r.Message(ctx, streams.RAW, seq)
		if errors.Is(err, bus.ErrNotFound) {
			continue
		}
		if err != nil {
			return before, fmt.Errorf("read entity %s again: %w", state.ID(), err)
		}
		o, err := observation.Decode(m.Data)
		if err != nil || o.Absent || o.Tenant != tenant || o.Kind != state.Kind() || o.System != seen.System || o.ExternalID != seen.External {
			continue // RAW was set up anew
		}
		shown, err := lens.Show(o)
		if err != nil || shown.Skip != "" {
			continue // as the mapping is now, it couldn't have been read
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
