package ghl

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/ghlapi"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/sink/apply"
	"github.com/causeway-sync/causeway/sink/plan"
)

// contacts are the location's contacts.
type contacts struct{ *Destination }

// fields returns the ids of the location's custom fields by key, asked for
// once.
func (d *Destination) fields(ctx context.Context) (map[string]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ids != nil {
		return d.ids, nil
	}
	list, err := d.client.CustomFields(ctx, budget.Live)
	if err != nil {
		return nil, err
	}
	ids := make(map[string]string, len(list))
	for _, f := range list {
		ids[f.FieldKey] = f.ID
	}
	d.ids = ids
	return ids, nil
}

func contactReading(r ghlapi.Record, ids map[string]string, atomic bool) apply.Reading {
	names := make(map[string]string, len(ids))
	for key, id := range ids {
		names[id] = key
	}
	return apply.Reading{External: canonical.ExternalID(r.ID), Endpoint: observation.GHLContactGet, Record: r.Raw, Names: names,
		ReadBegan: r.ReadBegan, Modified: r.Modified, Atomic: atomic}
}

func (d contacts) read(ctx context.Context, ref apply.Ref) (apply.Reading, error) {
	ids, err := d.fields(ctx)
	if err != nil {
		return apply.Reading{}, err
	}
	r, err := d.client.GetContact(ctx, budget.Live, string(ref.ID))
	if err != nil {
		return apply.Reading{}, err
	}
	return contactReading(r, ids, false), nil
}

// find looks the contact up by e-mail or phone, as the location's duplicate
// rule does, and where it has neither by the reference that create leaves.
func (d contacts) find(ctx context.Context, e canonical.Event, _ canonical.ExternalID) (apply.Reading, bool, error) {
	c := e.Contact
	if c.Email == "" && c.Phone == "" {
		return d.findByRef(ctx, c.ID)
	}
	r, err := d.client.FindDuplicate(ctx, budget.Live, c.Email, c.Phone)
	if err != nil || r == nil {
		return apply.Reading{}, false, err
	}
	found, err := d.read(ctx, apply.Ref{ID: canonical.ExternalID(r.ID)})
	return found, err == nil, err
}

// indexLag is how far the search index may be behind (dossier GHL §4.7 says
// seconds).
const indexLag = 5 * time.Second

func (d contacts) findByRef(ctx context.Context, id canonical.CanonicalID) (apply.Reading, bool, error) {
	ids, err := d.fields(ctx)
	if err != nil {
		return apply.Reading{}, false, err
	}
	field := ids[d.lens.GHLRef]
	if field == "" {
		return apply.Reading{}, false, fmt.Errorf("find ghl contact: the location has no custom field %s to find it by", d.lens.GHLRef)
	}
	// A contact that was made a moment ago is not in the index yet.
	if err := clock.Sleep(ctx, d.clock, indexLag); err != nil {
		return apply.Reading{}, false, err
	}
	page, err := d.client.SearchContacts(ctx, budget.Live, ghlapi.SearchRequest{PageLimit: 1,
		Filters: []ghlapi.Filter{{Field: "customFields." + field, Operator: "eq", Value: string(id)}}})
	if err != nil || len(page.Contacts) == 0 {
		return apply.Reading{}, false, err
	}
	found, err := d.read(ctx, apply.Ref{ID: canonical.ExternalID(page.Contacts[0].ID)})
	return found, err == nil, err
}

// create makes the contact with its tags, in one call.
func (d contacts) create(ctx context.Context, e canonical.Event, _ canonical.ExternalID, p plan.Plan) ([]apply.Reading, error) {
	ids, err := d.fields(ctx)
	if err != nil {
		return nil, err
	}
	body, _ := d.lens.Of(e.Contact).GHLBody(p.Fields, ids)
	if ref := d.lens.GHLRefField(e.Contact.ID, ids); ref != nil {
		custom, _ := body["customFields"].([]map[string]any)
		body["customFields"] = append(custom, ref)
	}
	if len(p.AddTags) > 0 {
		body["tags"] = p.AddTags
	}
	r, err := d.client.CreateContact(ctx, budget.Live, body)
	if err != nil {
		return nil, err
	}
	return []apply.Reading{contactReading(r, ids, true)}, nil
}

// update writes the fields with one PUT and the tags with one POST and one
// DELETE, as far as there are any. A field that can't be written is an error
// that names it, after the rest was written.
func (d contacts) update(ctx context.Context, e canonical.Event, ref apply.Ref, p plan.Plan, _ apply.Reading) ([]apply.Reading, error) {
	ids, err := d.fields(ctx)
	if err != nil {
		return nil, err
	}
	id := string(ref.ID)
	var out []apply.Reading
	body, skipped := d.lens.Of(e.Contact).GHLBody(p.Fields, ids)
	if len(body) > 0 {
		r, err := d.client.UpdateContact(ctx, budget.Live, id, body)
		if err != nil {
			return nil, err
		}
		out = append(out, contactReading(r, ids, true))
	}
	tags := func(change func(context.Context, budget.Lane, string, []string) ([]string, error), list []string) error {
		if len(list) == 0 {
			return nil
		}
		began := d.clock.Now()
		now, err := change(ctx, budget.Live, id, list)
		if err != nil {
			return err
		}
		slices.Sort(now)
		record, err := json.Marshal(map[string][]string{"tags": now})
		if err != nil {
			return err
		}
		out = append(out, apply.Reading{External: ref.ID, Endpoint: observation.GHLContactTags, Record: record, ReadBegan: began, Atomic: true})
		return nil
	}
	if err := errors.Join(tags(d.client.AddTags, p.AddTags), tags(d.client.RemoveTags, p.RemoveTags)); err != nil {
		return out, err
	}
	if len(skipped) > 0 {
		return out, &apierr.Error{System: "ghl", Op: "update contact", Class: apierr.Invalid,
			Message: fmt.Sprintf("the location lacks the custom fields of %v, or the mapping has no spelling for their values", skipped)}
	}
	return out, nil
}

func (d contacts) remove(ctx context.Context, ref apply.Ref) error {
	return d.client.DeleteContact(ctx, budget.Live, string(ref.ID))
}
