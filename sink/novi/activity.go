package novi

import (
	"context"
	"errors"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/noviapi"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/sink/apply"
	"github.com/causeway-sync/causeway/sink/plan"
)

// activity is what tasks, notes and appointments have in common: each is an
// activity of its type (dossier Novi §5.2).
type activity struct {
	*Destination
	kind canonical.Kind
}

func activityReading(r noviapi.Record) apply.Reading {
	return apply.Reading{External: canonical.ExternalID(r.ID), Parent: canonical.ExternalID(r.MemberID), Endpoint: observation.NoviActivityGet,
		Record: r.Raw, ReadBegan: r.ReadBegan, Modified: r.Modified}
}

func (a activity) read(ctx context.Context, ref apply.Ref) (apply.Reading, error) {
	r, err := a.client.GetActivity(ctx, budget.Live, string(ref.ID))
	if err != nil {
		return apply.Reading{}, err
	}
	return activityReading(r), nil
}

func (a activity) readToUpdate(ctx context.Context, ref apply.Ref) (apply.Reading, error) {
	r, err := a.client.GetActivityToPut(ctx, budget.Live, string(ref.ID))
	if err != nil {
		return apply.Reading{}, err
	}
	return activityReading(r), nil
}

const pageSize = 100

// findBy takes the first of the member's activities that shows e's values of
// the given fields. Activities can't be asked for by member, only by their own
// date (dossier Novi §3.2): those within a day of date, since the site may read
// days in a zone of its own, or all if there is no date.
func (a activity) findBy(ctx context.Context, e canonical.Event, parent canonical.ExternalID, date string, fields []string) (apply.Reading, bool, error) {
	request := noviapi.ActivityRequest{PageSize: pageSize}
	if at, err := time.Parse(time.RFC3339, e.Field(date)); err == nil {
		request.From, request.To = at.AddDate(0, 0, -1), at.AddDate(0, 0, 1)
	}
	for {
		page, err := a.client.ListActivities(ctx, budget.Live, request)
		if err != nil {
			return apply.Reading{}, false, err
		}
		for _, r := range page.Activities {
			if canonical.ExternalID(r.MemberID) != parent || !a.says(r, e, fields) {
				continue
			}
			found, err := a.read(ctx, apply.Ref{Kind: a.kind, ID: canonical.ExternalID(r.ID)})
			return found, err == nil, err
		}
		request.Offset += len(page.Activities)
		if len(page.Activities) == 0 || page.TotalCount >= 0 && request.Offset >= page.TotalCount {
			return apply.Reading{}, false, nil
		}
	}
}

// says reports whether an activity is of the kind's type and shows e's values
// of the given fields.
func (a activity) says(r noviapi.Record, e canonical.Event, fields []string) bool {
	shown, err := a.lens.Show(observation.Observation{System: canonical.Novi, Kind: a.kind, Endpoint: observation.NoviActivityList, Record: r.Raw})
	if err != nil || r.Type != a.lens.ActivityType(a.kind) {
		return false
	}
	for _, f := range fields {
		if v, there := shown.Fields[f]; there && !a.lens.Same(a.kind, f, v, e.Field(f)) {
			return false
		}
	}
	return true
}

func (a activity) create(ctx context.Context, _ canonical.Event, parent canonical.ExternalID, p plan.Plan) ([]apply.Reading, error) {
	raw, err := json.Marshal(map[string]any{
		"ActivityType": a.lens.ActivityType(a.kind), "MemberUniqueId": string(parent),
		"Subject": a.lens.ActivityType(a.kind), // required; the overlay says it better where there is a title
	})
	if err != nil {
		return nil, err
	}
	body, err := a.lens.NoviItemOverlay(a.kind, raw, p.Fields)
	if err != nil {
		return nil, &apierr.Error{System: "novi", Op: "create activity", Class: apierr.Invalid, Message: err.Error(), Err: err}
	}
	r, err := a.client.CreateActivity(ctx, budget.Live, body)
	if err != nil {
		return nil, err
	}
	return readMade(ctx, a.read, apply.Ref{Kind: a.kind, Parent: parent, ID: canonical.ExternalID(r.ID)})
}

func (a activity) update(ctx context.Context, _ canonical.Event, ref apply.Ref, p plan.Plan, now apply.Reading) ([]apply.Reading, error) {
	if len(now.Record) == 0 {
		return nil, errors.New("update novi activity: the activity was not read first")
	}
	body, err := a.lens.NoviItemOverlay(a.kind, now.Record, p.Fields)
	if err != nil {
		return nil, &apierr.Error{System: "novi", Op: "update activity", Class: apierr.Invalid, Message: err.Error(), Err: err}
	}
	answer, err := a.client.PutActivity(ctx, budget.Live, string(ref.ID), body)
	if err != nil {
		return nil, err
	}
	a.replaced(a.kind, now.ReadBegan)
	readings, err := reread(ctx, a.read, ref)
	return answered(activityReading(answer), readings), err
}

func (a activity) remove(ctx context.Context, ref apply.Ref) error {
	return a.client.DeleteActivity(ctx, budget.Live, string(ref.ID))
}
