package ghl

import (
	"context"
	"maps"

	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/sink/apply"
	"github.com/causeway-sync/causeway/sink/plan"
)

// notes are the notes of the location's contacts.
type notes struct{ *Destination }

func (d notes) read(ctx context.Context, ref apply.Ref) (apply.Reading, error) {
	r, err := d.client.GetNote(ctx, budget.Live, string(ref.Parent), string(ref.ID))
	if err != nil {
		return apply.Reading{}, err
	}
	return itemReading(r, observation.GHLNoteGet, ref.Parent, false), nil
}

// find takes the first of the contact's notes that says the same as e. When it
// was written is GHL's to say, so that it tells nothing.
func (d notes) find(ctx context.Context, e canonical.Event, parent canonical.ExternalID) (apply.Reading, bool, error) {
	list, err := d.client.Notes(ctx, budget.Live, string(parent))
	if err != nil {
		return apply.Reading{}, false, err
	}
	return d.first(list, e, observation.GHLNoteGet, parent, []string{"title", "body"})
}

// body returns what to write. GHL requires the text of a note (dossier GHL
// §3.9), so that an empty one is a space, which reads as empty again; a user
// that is nobody is not named.
func (d notes) body(op string, p plan.Plan) (map[string]any, error) {
	body, err := d.Destination.body(op, canonical.KindNote, p)
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(body, func(_ string, v any) bool { return v == nil })
	if body["body"] == "" {
		body["body"] = " "
	}
	return body, nil
}

func (d notes) create(ctx context.Context, _ canonical.Event, parent canonical.ExternalID, p plan.Plan) ([]apply.Reading, error) {
	body, err := d.body("create note", p)
	if err != nil {
		return nil, err
	}
	r, err := d.client.CreateNote(ctx, budget.Live, string(parent), body)
	if err != nil {
		return nil, err
	}
	return []apply.Reading{itemReading(r, observation.GHLNoteGet, parent, true)}, nil
}

func (d notes) update(ctx context.Context, _ canonical.Event, ref apply.Ref, p plan.Plan, _ apply.Reading) ([]apply.Reading, error) {
	body, err := d.body("update note", p)
	if err != nil {
		return nil, err
	}
	r, err := d.client.UpdateNote(ctx, budget.Live, string(ref.Parent), string(ref.ID), body)
	if err != nil {
		return nil, err
	}
	return []apply.Reading{itemReading(r, observation.GHLNoteGet, ref.Parent, true)}, nil
}

func (d notes) remove(ctx context.Context, ref apply.Ref) error {
	return d.client.DeleteNote(ctx, budget.Live, string(ref.Parent), string(ref.ID))
}
