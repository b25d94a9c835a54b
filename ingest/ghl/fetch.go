package ghl

import (
	"cmp"
	"context"
	"strings"
	"sync"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/ingest/hydrate"
	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/ghlapi"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
)

// Reader reads one location's contacts and what hangs on them.
type Reader struct {
	client *ghlapi.Client
	// fetching and sweeping are the lanes of what has none of its own.
	fetching, sweeping budget.Lane

	mu    sync.Mutex
	names map[string]string // custom field id → key; replaced, never changed
}

// NewReader returns a Reader of the location that client speaks for.
func NewReader(client *ghlapi.Client) *Reader {
	return &Reader{client: client, fetching: budget.Hydrate, sweeping: budget.Poll}
}

// In returns a Reader of the same location, all of whose calls are in lane.
func (r *Reader) In(lane budget.Lane) *Reader {
	return &Reader{client: r.client, fetching: lane, sweeping: lane}
}

// Fetch returns a contact, a task, a note or an appointment as it is now.
func (r *Reader) Fetch(ctx context.Context, about observation.Observation) (observation.Observation, error) {
	contact, id := string(about.Parent), string(about.ExternalID)
	var rec ghlapi.Record
	var err error
	switch about.Kind {
	case canonical.KindTask:
		rec, err = r.client.GetTask(ctx, r.fetching, contact, id)
		return item(canonical.KindTask, about.Parent, rec, observation.GHLTaskGet), err
	case canonical.KindNote:
		rec, err = r.client.GetNote(ctx, r.fetching, contact, id)
		return item(canonical.KindNote, about.Parent, rec, observation.GHLNoteGet), err
	case canonical.KindAppointment:
		rec, err = r.client.GetAppointment(ctx, r.fetching, id)
		return item(canonical.KindAppointment, about.Parent, rec, observation.GHLAppointmentGet), err
	}
	if rec, err = r.client.GetContact(ctx, r.fetching, id); err != nil {
		return observation.Observation{}, err
	}
	return r.observe(ctx, rec, observation.GHLContactGet, r.fetching)
}

// Items returns a contact's notes, which can be read in no other way (§3.9).
func (r *Reader) Items(ctx context.Context, contact canonical.ExternalID) ([]observation.Observation, error) {
	return r.notes(ctx, r.fetching, contact)
}

func (r *Reader) notes(ctx context.Context, lane budget.Lane, contact canonical.ExternalID) ([]observation.Observation, error) {
	recs, err := r.client.Notes(ctx, lane, string(contact))
	out := make([]observation.Observation, 0, len(recs))
	for _, rec := range recs {
		out = append(out, item(canonical.KindNote, contact, rec, observation.GHLNoteGet))
	}
	return out, err
}

// appointments returns a contact's appointments.
func (r *Reader) appointments(ctx context.Context, lane budget.Lane, contact canonical.ExternalID) ([]observation.Observation, error) {
	recs, err := r.client.ContactAppointments(ctx, lane, string(contact))
	out := make([]observation.Observation, 0, len(recs))
	for _, rec := range recs {
		out = append(out, item(canonical.KindAppointment, contact, rec, observation.GHLAppointmentGet))
	}
	return out, err
}

// located bounds the pages that are read to find a task.
const located = 3

// Locate looks for a task in the location's search: TaskCreate does not say
// whose it is (#332). Its title finds it fast; should the search not find by
// titles as we think, so do the first pages.
func (r *Reader) Locate(ctx context.Context, notice observation.Observation) (canonical.ExternalID, error) {
	var body struct {
		Type  string `json:"type"`
		Title string `json:"title"`
		Data  struct {
			Type  string `json:"type"`
			Title string `json:"title"`
		} `json:"data"`
	}
	_ = json.Unmarshal(notice.Record, &body) // another shape has no title
	queries := []string{""}
	if title := cmp.Or(body.Title, body.Data.Title); title != "" {
		queries = []string{title, ""}
	}
	if notice.Kind == canonical.KindTask {
		for _, query := range queries {
			for skip := 0; skip < located*taskPage; skip += taskPage {
				found, err := r.client.SearchTasks(ctx, r.fetching, ghlapi.TaskSearch{Query: query, Limit: taskPage, Skip: skip})
				if err != nil {
					return "", err
				}
				for _, rec := range found {
					if rec.ID == string(notice.ExternalID) {
						return canonical.ExternalID(rec.ContactID), nil
					}
				}
				if len(found) < taskPage {
					break
				}
			}
		}
	}
	if strings.HasSuffix(cmp.Or(body.Type, body.Data.Type), "Delete") {
		return "", hydrate.ErrDeleted
	}
	return "", nil
}

// item is an observation of a task, a note or an appointment. The contact is
// the record's own word where it has one.
func item(kind canonical.Kind, contact canonical.ExternalID, rec ghlapi.Record, endpoint string) observation.Observation {
	return observation.Observation{System: canonical.GHL, Kind: kind, ExternalID: canonical.ExternalID(rec.ID), Endpoint: endpoint,
		Parent: cmp.Or(canonical.ExternalID(rec.ContactID), contact), ReadBegan: rec.ReadBegan, Modified: rec.Modified, Record: rec.Raw}
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
