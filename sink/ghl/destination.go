package ghl

import (
	"context"
	"sync"

	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/ghlapi"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/sink/apply"
	"github.com/causeway-sync/causeway/sink/plan"
)

// Destination is one GHL location.
type Destination struct {
	client *ghlapi.Client
	lens   *mapping.Lens
	clock  clock.Clock

	mu  sync.Mutex
	ids map[string]string // custom field key → id
}

// New returns the location that client speaks to.
func New(client *ghlapi.Client, lens *mapping.Lens, c clock.Clock) *Destination {
	return &Destination{client: client, lens: lens, clock: c}
}

// ReadsFirst is true for tasks only, whose PUT has to say the title and the due
// date again (dossier GHL §3.7): they must be the ones that were just read. Any
// other PUT is partial, so a fresh base is enough.
func (d *Destination) ReadsFirst(kind canonical.Kind) bool { return kind == canonical.KindTask }

// records are what one kind needs; see [apply.Destination].
type records interface {
	read(ctx context.Context, ref apply.Ref) (apply.Reading, error)
	find(ctx context.Context, e canonical.Event, parent canonical.ExternalID) (apply.Reading, bool, error)
	create(ctx context.Context, e canonical.Event, parent canonical.ExternalID, p plan.Plan) ([]apply.Reading, error)
	update(ctx context.Context, e canonical.Event, ref apply.Ref, p plan.Plan, now apply.Reading) ([]apply.Reading, error)
	remove(ctx context.Context, ref apply.Ref) error
}

func (d *Destination) of(kind canonical.Kind) records {
	switch kind {
	case canonical.KindTask:
		return tasks{d}
	case canonical.KindNote:
		return notes{d}
	case canonical.KindAppointment:
		return appointments{d}
	}
	return contacts{d}
}

// Read returns the record as it is now.
func (d *Destination) Read(ctx context.Context, ref apply.Ref) (apply.Reading, error) {
	return d.of(ref.Kind).read(ctx, ref)
}

// ReadToUpdate is Read: GHL's writes name the fields that they change.
func (d *Destination) ReadToUpdate(ctx context.Context, ref apply.Ref) (apply.Reading, error) {
	return d.Read(ctx, ref)
}

// Find looks for a record that was made for e.
func (d *Destination) Find(ctx context.Context, e canonical.Event, parent canonical.ExternalID) (apply.Reading, bool, error) {
	return d.of(e.Kind()).find(ctx, e, parent)
}

// Create makes a record of e.
func (d *Destination) Create(ctx context.Context, e canonical.Event, parent canonical.ExternalID, p plan.Plan) ([]apply.Reading, error) {
	return d.of(e.Kind()).create(ctx, e, parent, p)
}

// Update writes p to the record of e.
func (d *Destination) Update(ctx context.Context, e canonical.Event, ref apply.Ref, p plan.Plan, now apply.Reading) ([]apply.Reading, error) {
	return d.of(ref.Kind).update(ctx, e, ref, p, now)
}

// Delete takes the record away.
func (d *Destination) Delete(ctx context.Context, ref apply.Ref) error {
	return d.of(ref.Kind).remove(ctx, ref)
}
