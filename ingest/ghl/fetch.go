package ghl

import (
	"context"
	"sync"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/ghlapi"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
)

// Reader reads one location's contacts.
type Reader struct {
	client *ghlapi.Client

	mu    sync.Mutex
	names map[string]string // custom field id → key; replaced, never changed
}

// NewReader returns a Reader of the location that client speaks for.
func NewReader(client *ghlapi.Client) *Reader { return &Reader{client: client} }

// Fetch returns a contact as it is now.
func (r *Reader) Fetch(ctx context.Context, id canonical.ExternalID) (observation.Observation, error) {
	rec, err := r.client.GetContact(ctx, budget.Hydrate, string(id))
	if err != nil {
		return observation.Observation{}, err
	}
	return r.observe(ctx, rec, observation.GHLContactGet, budget.Hydrate)
}

func (r *Reader) observe(ctx context.Context, rec ghlapi.Record, endpoint string, lane budget.Lane) (observation.Observation, error) {
	names, err := r.namesFor(ctx, rec.Raw, lane)
	if err != nil {
		return observation.Observation{}, err
	}
	return observation.Observation{
		System: canonical.GHL, ExternalID: canonical.ExternalID(rec.ID), Endpoint: endpoint,
		ReadBegan: rec.ReadBegan, Modified: rec.Modified, Names: names, Record: rec.Raw,
	}, nil
}

// namesFor returns the keys of the location's custom fields. A record with an
// id that is not known makes it ask again: a field has been added.
func (r *Reader) namesFor(ctx context.Context, raw json.RawMessage, lane budget.Lane) (map[string]string, error) {
	var record struct {
		CustomFields []struct {
			ID string `json:"id"`
		} `json:"customFields"`
	}
	_ = json.Unmarshal(raw, &record) // another shape names no fields
	r.mu.Lock()
	defer r.mu.Unlock()
	stale := r.names == nil
	for _, f := range record.CustomFields {
		if _, ok := r.names[f.ID]; !ok {
			stale = true
		}
	}
	if !stale {
		return r.names, nil
	}
	fields, err := r.client.CustomFields(ctx, lane)
	if err != nil {
		return nil, err
	}
	names := make(map[string]string, len(fields))
	for _, f := range fields {
		names[f.ID] = f.FieldKey
	}
	for _, f := range record.CustomFields {
		if _, ok := names[f.ID]; !ok {
			names[f.ID] = "" // a field that was deleted; not asked for again
		}
	}
	r.names = names
	return names, nil
}
