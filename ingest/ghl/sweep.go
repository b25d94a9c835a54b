package ghl

import (
	"context"
	"fmt"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/ingest/poll"
	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/ghlapi"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
)

const (
	// taskOverlap is how many rows pages share, for tasks that moved (§3.8).
	taskOverlap = 10
	// maxTasks bounds a sweep, should the search pay no heed to skip.
	maxTasks = 200_000
	// noteContacts is how many contacts' notes are a page of the sweep.
	noteContacts = 20
)

type tasks struct {
	*Reader
	completed bool
}

// Tasks sweeps the location's tasks, the open or the completed ones.
func (r *Reader) Tasks(completed bool) poll.Sweeper { return tasks{r, completed} }

// Kinds is task.
func (t tasks) Kinds() []canonical.Kind { return []canonical.Kind{canonical.KindTask} }

// Covers reports whether the task was open, or was done.
func (t tasks) Covers(last observation.Observation) bool {
	var record struct {
		Completed bool `json:"completed"`
	}
	return json.Unmarshal(last.Record, &record) == nil && record.Completed == t.completed
}

// Sweep returns one page of the location's search.
func (t tasks) Sweep(ctx context.Context, cursor json.RawMessage) (poll.Page, error) {
	skip := 0
	if cursor != nil {
		if err := json.Unmarshal(cursor, &skip); err != nil {
			return poll.Page{}, fmt.Errorf("search tasks: cursor: %w", err)
		}
	}
	if skip > maxTasks {
		return poll.Page{}, &apierr.Error{System: "ghl", Op: "search tasks", Class: apierr.Retry, Message: "the search has no end"}
	}
	found, err := t.client.SearchTasks(ctx, t.sweeping, ghlapi.TaskSearch{Completed: &t.completed, Limit: taskPage, Skip: skip})
	if err != nil {
		return poll.Page{}, err
	}
	page := poll.Page{Partial: true}
	for _, rec := range found {
		rec.ReadBegan = rec.ReadBegan.Add(-indexLag)
		page.Observations = append(page.Observations, item(canonical.KindTask, "", rec, observation.GHLTaskSearch))
	}
	if len(found) == taskPage {
		page.Next, err = json.Marshal(skip + taskPage - taskOverlap)
	}
	return page, err
}

// perContact sweeps what GHL lists by contact only: it takes a call for each.
type perContact struct {
	*Reader
	kind canonical.Kind
	list func(context.Context, budget.Lane, canonical.ExternalID) ([]observation.Observation, error)
	// summary says that the lists show less than the record itself.
	summary bool
}

// Notes sweeps the notes of all contacts (§3.9).
func (r *Reader) Notes() poll.Sweeper {
	return perContact{Reader: r, kind: canonical.KindNote, list: r.notes}
}

// Appointments sweeps the appointments of all contacts, whose times the lists
// show without a zone (§3.11).
func (r *Reader) Appointments() poll.Sweeper {
	return perContact{Reader: r, kind: canonical.KindAppointment, list: r.appointments, summary: true}
}

// Kinds is the kind of what is listed.
func (n perContact) Kinds() []canonical.Kind { return []canonical.Kind{n.kind} }

// Covers is true: all contacts are gone through.
func (n perContact) Covers(observation.Observation) bool { return true }

// Sweep returns what one page of contacts has.
func (n perContact) Sweep(ctx context.Context, cursor json.RawMessage) (poll.Page, error) {
	found, err := n.client.SearchContacts(ctx, n.sweeping, ghlapi.SearchRequest{PageLimit: noteContacts, SearchAfter: cursor,
		Sort: []ghlapi.Sort{{Field: "dateAdded", Direction: "asc"}}})
	if err != nil {
		return poll.Page{}, err
	}
	page := poll.Page{Partial: n.summary}
	for _, contact := range found.Contacts {
		of, err := n.list(ctx, n.sweeping, canonical.ExternalID(contact.ID))
		if apierr.ClassOf(err) == apierr.Gone {
			continue
		}
		if err != nil {
			return poll.Page{}, err
		}
		page.Observations = append(page.Observations, of...)
	}
	if len(found.Contacts) == noteContacts {
		page.Next = found.SearchAfter
	}
	return page, nil
}
