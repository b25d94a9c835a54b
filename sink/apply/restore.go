package apply

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

// Restorer is a Destination whose updates replace the whole record. What a
// person saves between an update's read and its write is overwritten.
type Restorer interface {
	// Restore gives the record back what before, which an update was laid over,
	// and lost, which showed a later state that the update overwrote, differ in,
	// as long as the record still has it as in before. It returns the record as
	// it read it first and what it came to in the end; neither if there was
	// nothing to give back.
	Restore(ctx context.Context, ref Ref, before, lost Reading) (now Reading, after []Reading, err error)
}

// restores bounds how often an update's own repair is repaired.
const restores = 3

// restore gives back what the update of a record that was read as before has
// overwritten, as far as anybody has seen it: a fetch, say for the notice of
// what a person has just saved. RAW has that; what nobody read is lost.
//
// Times are the system's own, so that no two clocks are compared: what was seen
// is of a time after the state that was read and before the write. A record
// without a time of change is left as it is.
func (t *task) restore(ctx context.Context, ref Ref, before Reading, readings []Reading) ([]Reading, error) {
	r, ok := t.cfg.Destination.(Restorer)
	for range restores {
		if !ok || len(readings) == 0 || before.Modified.IsZero() {
			break
		}
		lost, found, err := t.overwritten(ctx, before, readings[len(readings)-1].Written)
		if err != nil {
			return readings, err
		}
		if !found {
			break
		}
		var now Reading
		var after []Reading
		for try := 1; ; try++ {
			if now, after, err = r.Restore(ctx, ref, before, lost); err == nil || try == restores {
				break
			}
			// Nobody will know later what was lost, so it is not left to the next
			// delivery. It is read anew each time, so that nothing is done twice.
			if err := clock.Sleep(ctx, t.cfg.Clock, t.backoff()); err != nil {
				return readings, err
			}
		}
		if err != nil || after == nil {
			return readings, err
		}
		t.cfg.Logger.Warn().Str("system", string(t.cfg.System)).Str("tenant", string(t.cfg.Tenant)).Str("kind", string(t.kind)).Str("id", string(ref.ID)).
			Msg("an update overwrote what somebody saved at that moment; it is given back")
		if t.cfg.Restored != nil {
			t.cfg.Restored()
		}
		before, readings = now, after
	}
	return readings, nil
}

// overwritten returns the last sight of a state of the record that came after
// before and not after the write, which the system says was at written.
func (t *task) overwritten(ctx context.Context, before Reading, written time.Time) (lost Reading, found bool, err error) {
	for _, via := range []observation.Via{observation.Fetch, observation.Poll, observation.Reconcile} {
		m, err := t.cfg.Bus.Last(ctx, streams.RAW, streams.Raw(t.observed(before, via)))
		if errors.Is(err, bus.ErrNotFound) {
			continue
		}
		if err != nil {
			return Reading{}, false, fmt.Errorf("last of %s %s %s: %w", t.cfg.System, t.kind, before.External, err)
		}
		o, err := observation.Decode(m.Data)
		if err != nil || o.Absent || !o.Modified.After(before.Modified) || !o.Modified.Before(written) || found && !o.Modified.After(lost.Modified) {
			continue // what can't be read has shown nothing
		}
		lost, found = Reading{External: o.ExternalID, Parent: o.Parent, Endpoint: o.Endpoint, Record: o.Record, ReadBegan: o.ReadBegan, Modified: o.Modified}, true
	}
	return lost, found, nil
}
