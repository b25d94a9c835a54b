package dev

import (
	"context"
	"fmt"
	"time"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/check"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/hold"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/streams"
)

// Report is what `causeway dev --exit --json` prints.
type Report struct {
	Converged       bool   `json:"converged"`
	Contacts        int    `json:"contacts"`
	Items           int    `json:"items"`
	Changes         int    `json:"changes"`
	CanonicalEvents uint64 `json:"canonical_events"`
	Reads           Calls  `json:"reads"`
	Writes          Calls  `json:"writes"`
	Duplicates      int    `json:"duplicates"`
	EchoWrites      int    `json:"echo_writes"`
	LostChanges     int    `json:"lost_changes"`
	Dead            uint64 `json:"dead"`
	Holds           int    `json:"holds"`
	HTTP429         int    `json:"http_429"`
	DurationMS      int64  `json:"duration_ms"`
	// Beyond what was asked for:
	Seed      int64  `json:"seed"`
	Conflicts int    `json:"conflicts"`
	Merges    int    `json:"merges"` // entities that were folded into others
	Twins     Doings `json:"twins"`
	// Overwritten counts what Novi's API gives no means to keep: fields that a
	// person changed between our read of the record and our PUT. It is no lost
	// change, which we could have known of.
	Overwritten int `json:"overwritten_by_put"`
	// Nulled counts what PUTs took away at Novi that was none of their business:
	// the PUTs that left out the key of a value, as the simulator counts them,
	// and the values of fields that Causeway doesn't write; see [nulled]. What a
	// PUT took away by leaving it out counts in both.
	Nulled int `json:"nulled_by_put"`
	// Unseen counts what was over before anybody could have seen it: changes
	// that a person took back, and records that one removed, before any read.
	Unseen     int      `json:"unseen"`
	NoopWrites int      `json:"noop_writes"`
	Gaps       uint64   `json:"gaps"`   // messages that say that RAW has lost something
	Limits     int      `json:"limits"` // what the systems' call limits were multiplied by
	Faults     Faults   `json:"faults,omitempty"`
	Problems   []string `json:"problems,omitempty"`
	// Acknowledged counts the webhooks that the front door has answered with 2xx.
	Acknowledged int `json:"acknowledged"`
	// Violations are the promises that package check finds broken, and Checked
	// counts what it has read.
	Violations []check.Violation `json:"violations,omitempty"`
	Checked    int               `json:"checked"`
	// Kinds are what the canonical events say, by kind.
	Kinds map[canonical.Kind]*KindReport `json:"kinds"`
}

// KindReport counts what became of the records of one kind.
type KindReport struct {
	Entities  int                  `json:"entities"` // those that are not deleted
	Deleted   int                  `json:"deleted"`  // those that are
	Events    map[canonical.Op]int `json:"events"`
	Conflicts int                  `json:"conflicts"` // values that lost and are kept in the events' changes
}

// Calls are counted by the simulators.
type Calls struct {
	GHL  int `json:"ghl"`
	Novi int `json:"novi"`
}

// Good reports whether nothing is wrong.
func (r Report) Good() bool {
	return r.Converged && r.Duplicates == 0 && r.EchoWrites == 0 && r.LostChanges == 0 && r.Nulled == 0 && r.Dead == 0 && r.Gaps == 0 && len(r.Violations) == 0
}

// idle reports whether there is nothing left to do: every message of every
// durable consumer is settled, and no webhook waits.
func (w *World) idle(ctx context.Context, c *bus.Conn) (bool, error) {
	if w.GHL.PendingWebhooks()+w.Novi.PendingWebhooks() > 0 {
		return false, nil
	}
	status, err := streams.Status(ctx, c.JetStream())
	if err != nil {
		return false, err
	}
	for _, s := range status {
		for _, consumer := range s.Consumers {
			if consumer.Pending+consumer.Unacked > 0 {
				return false, nil
			}
		}
	}
	return true, nil
}

// Quiet waits until there has been nothing to do, and nothing was changed at
// either system, for as long as settle.
func (w *World) Quiet(ctx context.Context, c *bus.Conn, settle time.Duration) error {
	return w.quiet(ctx, c, settle, 0)
}

// quiet is Quiet, and waits until every walk and sweep has come round so often
// since the last change showed in GHL's search.
func (w *World) quiet(ctx context.Context, c *bus.Conn, settle time.Duration, rounds int) error {
	const step = 100 * time.Millisecond
	count, err := w.newRounds(ctx, c)
	if err != nil {
		return err
	}
	var changed, busy time.Time // the last time
	var before [2]int
	for {
		idle, err := w.idle(ctx, c)
		if err != nil && ctx.Err() == nil {
			idle = false // the broker is away
		}
		now := [2]int{len(w.GHL.LedgerAfter(int64(before[0]))), len(w.Novi.LedgerAfter(int64(before[1])))}
		moved := now[0]+now[1] > 0
		before = [2]int{before[0] + now[0], before[1] + now[1]}
		if moved || changed.IsZero() {
			changed = time.Now()
			count.reset()
		}
		if moved || !idle || busy.IsZero() {
			busy = time.Now()
		}
		done := rounds == 0
		if rounds > 0 && time.Since(changed) >= indexLag {
			n, err := count.look(ctx)
			done = err == nil && n >= rounds
		}
		if done && time.Since(busy) >= settle {
			return nil
		}
		if err := clock.Sleep(ctx, clock.System{}, step); err != nil {
			return fmt.Errorf("it has not become quiet: %w", err)
		}
	}
}

// apiWrites counts the changes through the APIs so far.
func (w *World) apiWrites() int {
	n := 0
	for _, e := range w.GHL.Ledger() {
		if e.Actor != "human" {
			n++
		}
	}
	for _, e := range w.Novi.Ledger() {
		if e.Actor != "human" {
			n++
		}
	}
	return n
}

// Report judges and counts. before is what apiWrites was when it had become
// quiet, and when that was.
func (w *World) report(ctx context.Context, c *bus.Conn, before int, quiet time.Time) (Report, error) {
	reads, err := newReads(ctx, c)
	if err != nil {
		return Report{}, err
	}
	v, err := w.Judge(reads)
	if err != nil {
		return Report{}, err
	}
	r := Report{Seed: w.Seed, Converged: v.Converged, Contacts: v.Contacts, Items: v.Items, Duplicates: v.Duplicates, LostChanges: v.LostChanges, Overwritten: v.Overwritten, Unseen: v.Unseen,
		Conflicts: v.Conflicts, NoopWrites: v.NoopWrites, Problems: v.Problems, EchoWrites: w.apiWrites() - before}
	g, n := w.GHL.Stats(), w.Novi.Stats()
	r.Acknowledged = g.WebhooksSent + n.WebhooksSent
	values, where := nulled(w.Lens, w.Novi.Ledger())
	r.Nulled = n.NulledUnmapped + n.NulledActivities + n.NulledSeats + values
	r.Problems = append(r.Problems, where...)
	r.Reads, r.Writes, r.HTTP429 = Calls{g.Reads, n.Reads}, Calls{g.Writes, n.Writes}, g.HTTP429+n.HTTP429
	if r.Kinds, err = kinds(ctx, c); err != nil {
		return Report{}, err
	}
	for _, k := range r.Kinds {
		r.Merges += k.Events["merged"]
	}
	status, err := streams.Status(ctx, c.JetStream())
	if err != nil {
		return Report{}, err
	}
	for _, s := range status {
		switch s.Name {
		case streams.CANONICAL:
			r.CanonicalEvents = s.Last
		case streams.DEAD:
			r.Dead = s.Messages
		case streams.GAPS:
			r.Gaps = s.Messages
		}
	}
	checked, err := w.Check(ctx, c, quiet)
	if err != nil {
		return Report{}, err
	}
	r.Violations, r.Checked = checked.Violations, checked.Calls
	for _, n := range checked.Messages {
		r.Checked += n
	}
	holds, err := hold.List(ctx, c)
	r.Holds = len(holds)
	return r, err
}

// kinds counts the events on CANONICAL.
func kinds(ctx context.Context, c *bus.Conn) (map[canonical.Kind]*KindReport, error) {
	out := map[canonical.Kind]*KindReport{}
	deleted := map[canonical.CanonicalID]bool{}
	kindOf := map[canonical.CanonicalID]canonical.Kind{}
	err := c.Scan(ctx, streams.CANONICAL, streams.Entities(Tenant), time.Time{}, func(m bus.Stored) error {
		subject, err := streams.Parse(m.Subject)
		if err != nil {
			return err
		}
		k := out[subject.Kind]
		if k == nil {
			k = &KindReport{Events: map[canonical.Op]int{}}
			out[subject.Kind] = k
		}
		k.Events[subject.Op]++
		if subject.Kind == canonical.KindTag {
			return nil
		}
		e, err := canonical.DecodeEvent(m.Data)
		if err != nil {
			return fmt.Errorf("decode message %d of %s: %w", m.Seq, m.Stream, err)
		}
		for _, change := range e.Changes {
			if change.Conflict != nil {
				k.Conflicts++
			}
		}
		deleted[e.ID()], kindOf[e.ID()] = e.Deleted(), subject.Kind
		return nil
	})
	for id, kind := range kindOf {
		if deleted[id] {
			out[kind].Deleted++
		} else {
			out[kind].Entities++
		}
	}
	return out, err
}

// Play is a run that ends: so many people arrive, the pipeline brings them
// together, so many random changes are made at a pace, and when it has become
// quiet the judge speaks.
type Play struct {
	Contacts, Changes int
	// Pace is the time between two changes.
	Pace time.Duration
	// Timeout bounds the whole; 0 means 10 minutes.
	Timeout time.Duration
	// Between, if set, is called before each change, with its number.
	Between func(i int) error
	// For, if set, has changes made until it is over, however many that are.
	For time.Duration
	// End, if set, is called after the last change.
	End func() error
	// Start starts the broker and the stages; how is the caller's.
	Start func() error
	// Limits is for the report.
	Limits int
}

// watch is how long echoes are waited for once it is quiet, in which both polls
// come round.
const watch = 4 * time.Second

// Run plays p and returns the report.
func (w *World) Run(ctx context.Context, p Play) (Report, error) {
	if p.Timeout == 0 {
		p.Timeout = 10 * time.Minute
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	people := NewPeople(w, w.Seed)
	if err := people.Arrive(p.Contacts); err != nil {
		return Report{}, err
	}
	if err := p.Start(); err != nil {
		return Report{}, err
	}
	c, err := w.Connect(ctx)
	if err != nil {
		return Report{}, err
	}
	defer c.Close()
	if err := w.Quiet(ctx, c, w.settle); err != nil {
		return Report{}, err
	}
	people.Meet()
	until := time.Now().Add(p.For)
	for i := 0; i < p.Changes || time.Now().Before(until); i++ {
		p.Changes = max(p.Changes, i+1)
		if p.Between != nil {
			if err := p.Between(i); err != nil {
				return Report{}, err
			}
		}
		if err := people.Act(); err != nil {
			return Report{}, fmt.Errorf("change %d: %w", i, err)
		}
		if err := clock.Sleep(ctx, clock.System{}, p.Pace); err != nil {
			return Report{}, err
		}
	}
	if p.End != nil {
		if err := p.End(); err != nil {
			return Report{}, err
		}
	}
	if err := w.quiet(ctx, c, w.settle, w.rounds); err != nil {
		return Report{}, err
	}
	writes, quiet := w.apiWrites(), time.Now()
	if err := clock.Sleep(ctx, clock.System{}, watch); err != nil {
		return Report{}, err
	}
	if err := w.Quiet(ctx, c, w.settle); err != nil {
		return Report{}, err
	}
	r, err := w.report(ctx, c, writes, quiet)
	r.Changes, r.Limits, r.Faults, r.Twins, r.DurationMS = p.Changes, p.Limits, w.faults, people.done, time.Since(began).Milliseconds()
	return r, err
}
