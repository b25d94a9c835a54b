package check

import (
	"fmt"
	"slices"
	"time"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/effect"
)

// ledger is where the systems' own accounts and EFFECTS meet, by time.
type ledger struct {
	calls []Call // that have not been looked at, the oldest first
	// made are the records that were made by a call which no outcome names yet.
	made map[recordKey]Call
	// owners are the entities that a record is known to be of, by what EFFECTS
	// says of it.
	owners map[recordKey]*dest
	// wrong are what seems wrong with calls; see forgotten.
	wrong []Violation
}

type recordKey struct {
	system canonical.System
	id     canonical.ExternalID
}

func newLedger(calls []Call) ledger {
	calls = slices.Clone(calls)
	slices.SortStableFunc(calls, func(a, b Call) int { return a.At.Compare(b.At) })
	return ledger{calls: calls, made: map[recordKey]Call{}, owners: map[recordKey]*dest{}}
}

// callsUntil looks at the calls before at, the zero time for all.
func (c *checker) callsUntil(at time.Time) {
	l := &c.ledger
	for len(l.calls) > 0 && (at.IsZero() || !l.calls[0].At.After(at)) {
		c.call(l.calls[0])
		l.calls = l.calls[1:]
	}
	if !at.IsZero() {
		return
	}
	for key, call := range l.made {
		if d := c.expecting(key); d != nil {
			c.report.Open++
			continue
		}
		l.wrong = append(l.wrong, Violation{Invariant: OutcomeCalled, What: "a record was made, and no outcome says so", System: key.system, Record: key.id, At: call.At})
	}
	for _, v := range l.wrong {
		if !c.forgotten(v) {
			c.wrong(v)
		}
	}
}

// forgotten reports whether a call is older than what EFFECTS has kept of its
// record's entity.
func (c *checker) forgotten(v Violation) bool {
	d := c.ledger.owners[recordKey{v.System, v.Record}]
	return d != nil && d.trimmed.Seq > 0 && !v.At.After(d.trimmed.Time)
}

// expecting returns a destination that is in the middle of a create.
func (c *checker) expecting(key recordKey) *dest {
	for _, d := range c.dests {
		if d.system == key.system && d.creates && (d.state == effect.Intent || d.state == effect.Ambiguous) {
			return d
		}
	}
	return nil
}

func (c *checker) call(call Call) {
	key := recordKey{call.System, call.Record}
	wrong := func(format string, args ...any) {
		c.ledger.wrong = append(c.ledger.wrong, Violation{Invariant: CallIntended, What: fmt.Sprintf(format, args...), System: call.System, Record: call.Record, At: call.At})
	}
	if !c.Quiet.IsZero() && call.At.After(c.Quiet) {
		c.wrong(Violation{Invariant: StaysQuiet, What: "a call changed something", System: call.System, Record: call.Record, At: call.At})
	}
	if call.Create {
		c.ledger.made[key] = call
		return
	}
	if _, made := c.ledger.made[key]; made {
		return // a further call of the same create
	}
	d := c.ledger.owners[key]
	switch {
	case d == nil:
		wrong("a call changed a record that nothing was intended of")
	case d.state != effect.Intent && d.state != effect.Ambiguous:
		wrong("a call changed it outside of a write: %s, message %d, was the last of EFFECTS", d.state, d.last.Seq)
	default:
		d.calls++
	}
}

// owns notes whose record an effect speaks of.
func (c *checker) owns(d *dest, id canonical.ExternalID) {
	if id != "" && c.Calls != nil {
		c.ledger.owners[recordKey{d.system, id}] = d
	}
}

// resolve takes note of the record that an outcome says was made.
func (c *checker) resolve(m bus.Stored, d *dest, e effect.Effect) {
	key := recordKey{d.system, e.External}
	call, made := c.ledger.made[key]
	if !made {
		return
	}
	delete(c.ledger.made, key)
	d.calls++
	if call.At.Before(d.began) {
		c.ledger.wrong = append(c.ledger.wrong, Violation{Invariant: CallIntended, What: "it was made before anything was intended of it", System: d.system, Kind: d.kind, Entity: d.id, Record: e.External, Where: []Place{place(m)}, At: call.At})
	}
}
