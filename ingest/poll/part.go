package poll

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

// part is what a page of a reconcile came to. A reconcile whose process dies is
// taken up after its last one.
type part struct {
	ID   string          `json:"id"`             // of the reconcile
	Walk int             `json:"walk"`           // which of its walks it belongs to
	Next json.RawMessage `json:"next,omitempty"` // where that goes on; none at its end
	// Seen are the records that no page before it had, by kind, and Suspects
	// those of them that seem to differ, without what they showed.
	Seen     map[canonical.Kind][]canonical.ExternalID `json:"seen,omitempty"`
	Suspects []observation.Observation                 `json:"suspects,omitempty"`
	// Drift is what has been counted by then.
	Drift map[canonical.Kind]streams.Drift `json:"drift,omitempty"`
}

// keepPart stores what the page came to that has just been read.
func (r *reconciler) keepPart(ctx context.Context, p part) error {
	p.ID, p.Drift = r.doc.ID, r.doc.Drift
	value, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encode part of reconcile: %w", err)
	}
	r.parts++
	_, err = r.kv.Create(ctx, streams.ReconcilePartKey(r.System, r.Tenant, r.parts), value)
	switch {
	case errors.Is(err, bus.ErrExists):
		return errLost
	case err != nil:
		return fmt.Errorf("keep part of reconcile: %w", err)
	}
	return nil
}

// takeUp goes on where the reconcile was when its process died.
func (r *reconciler) takeUp(ctx context.Context) error {
	keys, err := r.partKeys(ctx)
	if err != nil {
		return err
	}
	for _, key := range keys {
		value, _, err := r.kv.Get(ctx, key)
		if err != nil {
			return fmt.Errorf("load part of reconcile: %w", err)
		}
		var p part
		if err := json.Unmarshal(value, &p); err != nil {
			return fmt.Errorf("load part of reconcile %s: %w", key, err)
		}
		if p.ID != r.doc.ID {
			return r.dropParts(ctx) // of another one: it begins anew
		}
		r.parts++
		for kind, ids := range p.Seen {
			for _, id := range ids {
				r.seen[itemKey{kind, id}] = true
			}
		}
		r.suspects = append(r.suspects, p.Suspects...)
		r.doc.Drift = maps.Clone(p.Drift)
		if r.from.Walk, r.from.Next = p.Walk, p.Next; p.Next == nil {
			r.from.Walk++
		}
	}
	if r.doc.Drift == nil {
		r.doc.Drift = map[canonical.Kind]streams.Drift{}
	}
	return nil
}

// dropParts forgets all pages.
func (r *reconciler) dropParts(ctx context.Context) error {
	keys, err := r.partKeys(ctx)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if err := r.kv.Delete(ctx, key, 0); err != nil {
			return fmt.Errorf("drop part of reconcile: %w", err)
		}
	}
	r.parts, r.from = 0, part{}
	return nil
}

func (r *reconciler) partKeys(ctx context.Context) ([]string, error) {
	keys, err := r.kv.Keys(ctx, streams.ReconcileParts(r.System, r.Tenant))
	if err != nil {
		return nil, fmt.Errorf("parts of reconcile: %w", err)
	}
	slices.Sort(keys)
	return keys, nil
}
