package ghl

import (
	"context"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/sink/apply"
	"github.com/causeway-sync/causeway/sink/plan"
)

// appointments are read from GHL and never written there: a plan never asks
// for it, and if one did it would be refused here.
type appointments struct{ *Destination }

func refused(op string) error {
	return &apierr.Error{System: "ghl", Op: op + " appointment", Class: apierr.Invalid, Message: "appointments are never written to this system"}
}

func (d appointments) read(ctx context.Context, ref apply.Ref) (apply.Reading, error) {
	r, err := d.client.GetAppointment(ctx, budget.Live, string(ref.ID))
	if err != nil {
		return apply.Reading{}, err
	}
	return itemReading(r, observation.GHLAppointmentGet, ref.Parent, false), nil
}

func (d appointments) find(context.Context, canonical.Event, canonical.ExternalID) (apply.Reading, bool, error) {
	return apply.Reading{}, false, nil // none was ever made
}

func (d appointments) create(context.Context, canonical.Event, canonical.ExternalID, plan.Plan) ([]apply.Reading, error) {
	return nil, refused("create")
}

func (d appointments) update(context.Context, canonical.Event, apply.Ref, plan.Plan, apply.Reading) ([]apply.Reading, error) {
	return nil, refused("update")
}

func (d appointments) remove(context.Context, apply.Ref) error { return refused("delete") }
