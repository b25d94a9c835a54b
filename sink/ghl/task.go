package ghl

import (
	"context"
	"strings"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/ghlapi"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/sink/apply"
	"github.com/causeway-sync/causeway/sink/plan"
)

// tasks are the tasks of the location's contacts.
type tasks struct{ *Destination }

// noDue is how far off the due date is of a task that has none: GHL requires
// one (dossier GHL §3.7).
const noDue = 7 * 24 * time.Hour

func itemReading(r ghlapi.Record, endpoint string, parent canonical.ExternalID, atomic bool) apply.Reading {
	return apply.Reading{External: canonical.ExternalID(r.ID), Parent: parent, Endpoint: endpoint, Record: r.Raw,
		ReadBegan: r.ReadBegan, Modified: r.Modified, Atomic: atomic}
}

func (d tasks) read(ctx context.Context, ref apply.Ref) (apply.Reading, error) {
	r, err := d.client.GetTask(ctx, budget.Live, string(ref.Parent), string(ref.ID))
	if err != nil {
		return apply.Reading{}, err
	}
	return itemReading(r, observation.GHLTaskGet, ref.Parent, false), nil
}

// find takes the first of the contact's tasks that says the same as e.
func (d tasks) find(ctx context.Context, e canonical.Event, parent canonical.ExternalID) (apply.Reading, bool, error) {
	list, err := d.client.Tasks(ctx, budget.Live, string(parent))
	if err != nil {
		return apply.Reading{}, false, err
	}
	e.SetField("title", title(e))
	fields := []string{"title", "body"}
	if e.Field("due") != "" {
		fields = append(fields, "due")
	}
	return d.first(list, e, observation.GHLTaskGet, parent, fields)
}

// first returns the first of list that shows e's values of the given fields.
func (d *Destination) first(list []ghlapi.Record, e canonical.Event, endpoint string, parent canonical.ExternalID, fields []string) (apply.Reading, bool, error) {
	for _, r := range list {
		shown, err := d.lens.Show(observation.Observation{System: canonical.GHL, Kind: e.Kind(), Endpoint: endpoint, Parent: parent, Record: r.Raw})
		if err != nil {
			return apply.Reading{}, false, err
		}
		same := true
		for _, f := range fields {
			same = same && d.lens.Same(e.Kind(), f, shown.Fields[f], e.Field(f))
		}
		if same {
			return itemReading(r, endpoint, parent, false), true, nil
		}
	}
	return apply.Reading{}, false, nil
}

// title is the title of a task, which GHL requires (dossier GHL §3.7): of one
// without, the first line of its body.
func title(e canonical.Event) string {
	if t := e.Field("title"); t != "" {
		return t
	}
	line, _, _ := strings.Cut(strings.TrimSpace(mapping.HTMLToText(e.Field("body"))), "\n")
	if line = strings.TrimSpace(line); line != "" {
		return line
	}
	return "Task"
}

// body returns the fields of p as an item's.
func (d *Destination) body(op string, kind canonical.Kind, p plan.Plan) (map[string]any, error) {
	body, err := d.lens.GHLItemBody(kind, p.Fields)
	if err != nil {
		return nil, &apierr.Error{System: "ghl", Op: op, Class: apierr.Invalid, Message: err.Error(), Err: err}
	}
	return body, nil
}

func (d tasks) create(ctx context.Context, e canonical.Event, parent canonical.ExternalID, p plan.Plan) ([]apply.Reading, error) {
	body, err := d.body("create task", canonical.KindTask, p)
	if err != nil {
		return nil, err
	}
	body["title"] = title(e)
	body["completed"] = e.Field("completed") == "true"
	if body["dueDate"] == nil {
		body["dueDate"] = d.clock.Now().Add(noDue).UTC().Format(time.RFC3339)
	}
	if body["assignedTo"] == nil {
		delete(body, "assignedTo") // GHL's document of this call knows no null
	}
	r, err := d.client.CreateTask(ctx, budget.Live, string(parent), body)
	if err != nil {
		return nil, err
	}
	// It is the answer to the write, so that the merge learns what GHL shows in
	// the place of an empty title and due date.
	return []apply.Reading{itemReading(r, observation.GHLTaskGet, parent, true)}, nil
}

func (d tasks) update(ctx context.Context, e canonical.Event, ref apply.Ref, p plan.Plan, now apply.Reading) ([]apply.Reading, error) {
	completed, only := p.Fields["completed"]
	if only = only && len(p.Fields) == 1; only {
		r, err := d.client.CompleteTask(ctx, budget.Live, string(ref.Parent), string(ref.ID), completed == "true")
		if err != nil {
			return nil, err
		}
		return []apply.Reading{itemReading(r, observation.GHLTaskGet, ref.Parent, true)}, nil
	}
	body, err := d.body("update task", canonical.KindTask, p)
	if err != nil {
		return nil, err
	}
	var shown struct {
		Title   string    `json:"title"`
		DueDate time.Time `json:"dueDate"`
	}
	if err := json.Unmarshal(now.Record, &shown); err != nil {
		return nil, &apierr.Error{System: "ghl", Op: "update task", Class: apierr.Invalid, Message: "the task as read is not of the expected shape", Err: err}
	}
	if _, changes := body["title"]; !changes {
		body["title"] = shown.Title
	}
	if body["title"] == "" {
		body["title"] = title(e)
	}
	if body["dueDate"] == nil { // it stays, also where there is to be none
		if shown.DueDate.IsZero() {
			shown.DueDate = d.clock.Now().Add(noDue)
		}
		body["dueDate"] = shown.DueDate.UTC().Format(time.RFC3339) // without fractions of a second (dossier GHL §3.7)
	}
	r, err := d.client.UpdateTask(ctx, budget.Live, string(ref.Parent), string(ref.ID), body)
	if err != nil {
		return nil, err
	}
	return []apply.Reading{itemReading(r, observation.GHLTaskGet, ref.Parent, true)}, nil
}

func (d tasks) remove(ctx context.Context, ref apply.Ref) error {
	return d.client.DeleteTask(ctx, budget.Live, string(ref.Parent), string(ref.ID))
}
