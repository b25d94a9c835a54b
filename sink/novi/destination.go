package novi

import (
	"context"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/internal/noviapi"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/sink/apply"
	"github.com/causeway-sync/causeway/sink/plan"
)

// Destination is one Novi site.
type Destination struct {
	client    *noviapi.Client
	lens      *mapping.Lens
	protected []string
	// Replaced, if set, is called when a PUT has been answered, with the time at
	// which the read began that it was laid over. What a person saves between the
	// two is overwritten.
	Replaced func(kind canonical.Kind, began time.Time)
}

// New returns the site that client speaks to. A member is not written to if it
// was read without one of the keys that lens writes, or without a protected
// one.
func New(client *noviapi.Client, lens *mapping.Lens, protected ...string) *Destination {
	return &Destination{client: client, lens: lens, protected: protected}
}

// ReadsFirst is true: a PUT needs the whole record.
func (d *Destination) ReadsFirst(canonical.Kind) bool { return true }

// records are what one kind needs; see [apply.Destination].
type records interface {
	read(ctx context.Context, ref apply.Ref) (apply.Reading, error)
	readToUpdate(ctx context.Context, ref apply.Ref) (apply.Reading, error)
	find(ctx context.Context, e canonical.Event, parent canonical.ExternalID) (apply.Reading, bool, error)
	create(ctx context.Context, e canonical.Event, parent canonical.ExternalID, p plan.Plan) ([]apply.Reading, error)
	update(ctx context.Context, e canonical.Event, ref apply.Ref, p plan.Plan, now apply.Reading) ([]apply.Reading, error)
	remove(ctx context.Context, ref apply.Ref) error
}

func (d *Destination) of(kind canonical.Kind) records {
	switch kind {
	case canonical.KindTask:
		return tasks{activity{d, kind}}
	case canonical.KindNote:
		return notes{activity{d, kind}}
	case canonical.KindAppointment:
		return appointments{activity{d, kind}}
	}
	return contacts{d}
}

// Read returns the record as it is now.
func (d *Destination) Read(ctx context.Context, ref apply.Ref) (apply.Reading, error) {
	return d.of(ref.Kind).read(ctx, ref)
}

// ReadToUpdate returns the record as it is now; the calls of the read and of
// the write are taken from the budget together.
func (d *Destination) ReadToUpdate(ctx context.Context, ref apply.Ref) (apply.Reading, error) {
	return d.of(ref.Kind).readToUpdate(ctx, ref)
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

// reread shows what a write came to. That the record can't be read after a
// write that was accepted leaves it open what it shows.
func reread(ctx context.Context, read func(context.Context, apply.Ref) (apply.Reading, error), ref apply.Ref) ([]apply.Reading, error) {
	r, err := read(ctx, ref)
	if err != nil {
		return nil, &apierr.Error{System: "novi", Op: "read after write", Class: apierr.Ambiguous, Err: err}
	}
	return []apply.Reading{r}, nil
}

// readMade is reread of a record that was just made: which one it is, is known
// even if it can't be read.
func readMade(ctx context.Context, read func(context.Context, apply.Ref) (apply.Reading, error), ref apply.Ref) ([]apply.Reading, error) {
	readings, err := reread(ctx, read, ref)
	if err != nil {
		readings = []apply.Reading{{External: ref.ID, Parent: ref.Parent}}
	}
	return readings, err
}

// answered puts the answer to a PUT before what was read after it, if the two
// differ: somebody has changed the record in between, and may have put back just
// what we had written over. Without the answer that would look as if the PUT had
// not been. Whether a site answers with the record is unknown (dossier Novi §3),
// so one that isn't whole says nothing.
func answered(answer apply.Reading, readings []apply.Reading) []apply.Reading {
	if len(readings) != 1 || answer.External != readings[0].External || same(answer.Record, readings[0].Record) || !whole(answer.Record, readings[0].Record) {
		return readings
	}
	answer.Atomic = true
	return []apply.Reading{answer, readings[0]}
}

// whole reports whether an answer has all keys of the record, and the lists and
// objects that it has.
func whole(answer, record json.RawMessage) bool {
	var a, r map[string]json.RawMessage
	if json.Unmarshal(answer, &a) != nil || json.Unmarshal(record, &r) != nil {
		return false
	}
	for key, v := range r {
		got, there := a[key]
		if nested := len(v) > 0 && (v[0] == '[' || v[0] == '{'); !there || nested && (len(got) == 0 || got[0] != v[0]) {
			return false
		}
	}
	return true
}
