package derive

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

// Child is an item that hangs on a record.
type Child struct {
	Kind canonical.Kind
	ID   canonical.CanonicalID
}

// ChildrenOf returns the items that were seen to hang on a record.
type ChildrenOf func(ctx context.Context, tenant canonical.Tenant, system canonical.System, parent canonical.ExternalID) ([]Child, error)

// Children tells, until ctx is done, each task, note and appointment that its
// contact has got a record at a system, or is another one now: by a relink on RAW, which the
// transform makes an event of the item's. Some wait to learn whose they are,
// others to be written where the contact wasn't.
func Children(ctx context.Context, b bus.Bus, of ChildrenOf) error {
	return b.Consume(ctx, bus.Subscription{Stream: streams.CANONICAL, Durable: streams.Children().Durable, Stage: "children", Concurrency: 8}, func(ctx context.Context, d *bus.Delivery) {
		d.Done(children(ctx, b, of, d.Stored))
	})
}

// ofChildren are what the body of an event holds, one of them, that items are
// to hear of: most hold neither, and needn't be decoded to find out.
var ofChildren = [][]byte{[]byte(`"linked":`), []byte(`"merged_into":`)}

func children(ctx context.Context, p bus.Publisher, of ChildrenOf, m bus.Stored) error {
	if !slices.ContainsFunc(ofChildren, func(of []byte) bool { return bytes.Contains(m.Data, of) }) {
		return nil
	}
	subject, err := streams.Parse(m.Subject)
	if err != nil {
		return bus.Terminate(err)
	}
	e, err := canonical.DecodeEvent(m.Data)
	if err != nil {
		return bus.Terminate(fmt.Errorf("decode contact event: %w", err))
	}
	contact, links := e.ID(), e.Links
	switch {
	case e.MergedInto != "":
		// All that ever hung on its records, also on those that are gone.
		contact, links = e.MergedInto, map[canonical.System][]canonical.ExternalID{}
		for system, base := range e.Sync.Base {
			links[system] = append(slices.Collect(maps.Keys(e.Sync.Others[system])), base.External)
		}
	case len(e.Sync.Linked) == 0:
		return nil
	}
	links = maps.Clone(links)
	links[canonical.Rule] = []canonical.ExternalID{canonical.ExternalID(e.ID())} // what rules made hangs on the contact itself
	// First what hangs on records that the contact has only now: then what hung
	// on it before finds its like, and isn't made a second time.
	all := slices.SortedFunc(maps.Keys(links), func(a, b canonical.System) int {
		if x, y := slices.Contains(e.Sync.Linked, a), slices.Contains(e.Sync.Linked, b); x != y {
			return map[bool]int{true: -1, false: 1}[x]
		}
		return strings.Compare(string(a), string(b))
	})
	for _, system := range all {
		for _, record := range links[system] {
			list, err := of(ctx, subject.Tenant, system, record)
			if err != nil {
				return fmt.Errorf("items of contact %s: %w", e.ID(), err)
			}
			for _, c := range list {
				o := observation.Observation{System: system, Tenant: subject.Tenant, Kind: c.Kind, ExternalID: canonical.ExternalID(c.ID),
					Via: observation.Relink, Entity: c.ID, Parent: record, Contact: contact, ReadBegan: m.Time}
				body, err := o.Encode()
				if err != nil {
					return bus.Terminate(err)
				}
				id := "relink-" + string(c.ID) + "-" + string(system) + "-" + string(e.ID()) + "-" + strconv.FormatUint(e.Version, 10)
				if _, err := p.Publish(ctx, bus.Message{Subject: streams.Raw(o), ID: id, Data: body}); err != nil {
					return fmt.Errorf("publish relink of %s %s: %w", c.Kind, c.ID, err)
				}
			}
		}
	}
	return nil
}
