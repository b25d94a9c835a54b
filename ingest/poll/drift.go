package poll

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

// tagsField and parentField are the names by which a difference speaks of the
// tags, and of the contact that an item hangs on.
const (
	tagsField   = "tags"
	parentField = "contact_id"
)

// comparer compares what a system shows with what it is last known to show.
type comparer struct {
	reader bus.Reader
	links  bus.KV
	lens   *mapping.Lens
}

// held is what is held of a record: the entity that it is linked to, and its
// base there.
type held struct {
	entity canonical.CanonicalID
	base   canonical.Base
	live   bool // the record is this entity's, and not known to be gone
}

// finding is what a comparison came to.
type finding struct {
	other   bool // the record is none that is kept
	same    bool
	touched bool // the record says that it was changed at another time than is known
	what    streams.DriftKind
	entity  canonical.CanonicalID
	fields  []string
}

// hold returns what is held of the record that o names.
func (c comparer) hold(ctx context.Context, o observation.Observation) (held, error) {
	id, _, err := c.links.Get(ctx, streams.LinkKey(o.Tenant, o.Kind, o.System, o.ExternalID))
	if errors.Is(err, bus.ErrNotFound) {
		return held{}, nil
	}
	if err != nil {
		return held{}, fmt.Errorf("link of %s %s %s: %w", o.System, o.Kind, o.ExternalID, err)
	}
	h := held{entity: canonical.CanonicalID(id)}
	m, err := c.reader.Last(ctx, streams.CANONICAL, streams.Entity(o.Kind, o.Tenant, h.entity))
	if errors.Is(err, bus.ErrNotFound) {
		return h, nil
	}
	if err != nil {
		return held{}, fmt.Errorf("load entity %s: %w", h.entity, err)
	}
	state, err := canonical.DecodeEvent(m.Data)
	if err != nil {
		return held{}, fmt.Errorf("load entity %s: %w", h.entity, err)
	}
	h.base, h.live = state.Record(o.System, o.ExternalID)
	h.live = h.live && !h.base.Gone
	return h, nil
}

// compare says how o differs from what is held of it.
func (c comparer) compare(ctx context.Context, o observation.Observation) (finding, error) {
	shown, err := c.lens.Show(o)
	if err != nil {
		return finding{}, err
	}
	h, err := c.hold(ctx, o)
	if err != nil {
		return finding{}, err
	}
	f := finding{entity: h.entity, touched: !o.Modified.IsZero() && o.Modified.UnixMicro() != h.base.At.Modified}
	switch {
	case shown.Skip != "", shown.Inactive && !h.live:
		f.other = true
	case !h.live:
		f.what = streams.MissingHere
	default:
		f.fields = c.differ(o.Kind, h.base, shown)
		if f.same = len(f.fields) == 0; !f.same {
			f.what = streams.Differing
		}
	}
	return f, nil
}

// differ names what shown shows otherwise than base; what it does not cover
// does not differ.
func (c comparer) differ(kind canonical.Kind, base canonical.Base, shown mapping.Shown) []string {
	var names []string
	for f, v := range shown.Fields {
		have, known := base.Fields[f]
		if !known && v != "" || known && !c.lens.Same(kind, f, have, v) && !(shown.Fold && strings.EqualFold(have, v)) {
			names = append(names, f)
		}
	}
	slices.Sort(names)
	covered := func(tags []string) []string {
		return slices.DeleteFunc(slices.Clone(tags), func(t string) bool {
			group := c.lens.FromGroup(t)
			return group && !shown.Grouped || !group && !shown.Tagged
		})
	}
	if !slices.Equal(covered(base.Tags), covered(shown.Tags)) {
		names = append(names, tagsField)
	}
	if shown.Parent != "" && base.Parent != "" && shown.Parent != base.Parent {
		names = append(names, parentField)
	}
	return names
}
