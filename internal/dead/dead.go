// Package dead is what can be done about dead letters: find them, try again,
// drop them, and take those off DEAD whose entity has succeeded since. To try
// again never does what was to be done then: the entity, or the record, is
// looked at as it is now.
package dead

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/effect"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

// Letter is a dead letter as DEAD holds it.
type Letter struct {
	Key    string // its subject on DEAD
	Seq    uint64
	Stored time.Time
	envelope.DeadLetter
}

// Filter says which letters; the zero value is all that are not dropped.
type Filter struct {
	Stage   string // sink is both of sink-ghl and sink-novi
	Tenant  canonical.Tenant
	Kind    canonical.Kind
	Class   envelope.Class
	Since   time.Time // of that time or later
	Dropped bool      // those that are dropped, and no others
}

func (f Filter) takes(l Letter) bool {
	return (f.Stage == "" || l.Stage == f.Stage || strings.HasPrefix(l.Stage, f.Stage+"-")) &&
		(f.Tenant == "" || l.Tenant == f.Tenant) && (f.Kind == "" || l.Kind == f.Kind) && (f.Class == "" || l.Class == f.Class) &&
		!l.At.Before(f.Since) && f.Dropped == !l.Dropped.IsZero()
}

// Broker is what the package needs of the broker.
type Broker interface {
	bus.Publisher
	bus.Reader
	Purge(ctx context.Context, stream, subject string, below uint64) error
}

// Find returns the letters that f takes, the oldest first.
func Find(ctx context.Context, b Broker, f Filter) ([]Letter, error) {
	var out []Letter
	err := b.Scan(ctx, streams.DEAD, streams.DeadLetters("", string(f.Tenant)), time.Time{}, func(m bus.Stored) error {
		l, err := letter(m)
		if err == nil && f.takes(l) {
			out = append(out, l)
		}
		return err
	})
	return out, err
}

// Get returns the letter of that subject, or bus.ErrNotFound.
func Get(ctx context.Context, b Broker, subject string) (Letter, error) {
	m, err := b.Last(ctx, streams.DEAD, subject)
	if err != nil {
		return Letter{}, fmt.Errorf("dead letter %s: %w", subject, err)
	}
	return letter(m)
}

func letter(m bus.Stored) (Letter, error) {
	l := Letter{Key: m.Subject, Seq: m.Seq, Stored: m.Time}
	if err := json.Unmarshal(m.Data, &l.DeadLetter); err != nil {
		return Letter{}, fmt.Errorf("decode message %d of %s: %w", m.Seq, m.Stream, err)
	}
	return l, nil
}

// History returns the failed writes of a sink's letter that EFFECTS still
// knows, the oldest first, without the last, which the letter has itself.
func History(ctx context.Context, b Broker, l Letter) ([]envelope.Attempt, error) {
	system, isSink := strings.CutPrefix(l.Stage, sinkStage)
	if !isSink {
		return nil, nil
	}
	var out []envelope.Attempt
	subject := streams.Effect(canonical.System(system), l.Tenant, l.Kind, canonical.CanonicalID(l.ID))
	err := b.Scan(ctx, streams.EFFECTS, subject, time.Time{}, func(m bus.Stored) error {
		var e effect.Effect
		if err := json.Unmarshal(m.Data, &e); err != nil {
			return fmt.Errorf("decode message %d of %s: %w", m.Seq, m.Stream, err)
		}
		if e.State == effect.Failed || e.State == effect.Ambiguous {
			out = append(out, envelope.Attempt{At: m.Time, Error: e.Reason})
		}
		return nil
	})
	if n := len(out); n > 0 && out[n-1].Error == l.Reason {
		out = out[:n-1]
	}
	return out, err
}

// ErrFinal is returned, wrapped, for a letter that can't be tried again.
var ErrFinal = errors.New("it can't be tried again")

// sinkStage begins the stages of the sinks' letters, each with its system.
const sinkStage = "sink-"

// Redrive tries again. A sink's entity is woken, and the sink looks at its
// latest state; what came from RAW is published there once more, and what is
// older than what is known changes nothing. The letter stays until that has
// succeeded ([Sweep]), or is replaced by the next. It returns what was done.
func Redrive(ctx context.Context, b Broker, l Letter, now time.Time) (string, error) {
	about, err := streams.Parse(l.Subject)
	system, isSink := strings.CutPrefix(l.Stage, sinkStage)
	switch {
	case l.Stage == actionsStage:
		return fire(ctx, b, l, now)
	case isSink:
		return wake(ctx, b, canonical.System(system), l.Tenant, l.Kind, l.ID, now)
	case l.Stream != streams.RAW || err != nil:
		return "", fmt.Errorf("%s: it came from no message of RAW: %w", l.Key, ErrFinal)
	case about.ID != l.ID:
		return "", fmt.Errorf("%s: its observation was merged, and what is held is let go when the fight is over: %w", l.Key, ErrFinal)
	case !about.Via.Shows() && about.Via != observation.Notice:
		return wake(ctx, b, about.System, l.Tenant, l.Kind, l.ID, now)
	}
	m, err := b.Message(ctx, streams.RAW, l.Sequence)
	if errors.Is(err, bus.ErrNotFound) || err == nil && m.Subject != l.Subject {
		o := observation.Observation{System: about.System, Tenant: l.Tenant, Kind: l.Kind, ExternalID: canonical.ExternalID(l.ID), Via: observation.Notice, ReadBegan: now}
		return "its message is gone; the record is fetched anew", tell(ctx, b, o)
	}
	if err != nil {
		return "", err
	}
	id := "redrive-" + strconv.FormatUint(l.Seq, 10) + "-" + strconv.FormatInt(now.UnixMicro(), 10)
	if _, err := b.Publish(ctx, bus.Message{Subject: m.Subject, Header: bus.Header{"Causeway-Redrive": {l.Key}}, ID: id, Data: m.Data}); err != nil {
		return "", fmt.Errorf("redrive %s: %w", l.Key, err)
	}
	return "its " + string(about.Via) + " is published again", nil
}

// actionsStage is the stage of the letters about what a rule asks for outside.
const actionsStage = "actions"

// fire has what a rule asks for outside done again, if it isn't done: what is
// recorded of the action is forgotten, and the firing is merged once more.
func fire(ctx context.Context, b Broker, l Letter, now time.Time) (string, error) {
	m, err := b.Message(ctx, streams.CANONICAL, l.Sequence)
	if errors.Is(err, bus.ErrNotFound) {
		return "", fmt.Errorf("%s: the event that says that the rule fired is gone: %w", l.Key, ErrFinal)
	}
	if err != nil {
		return "", err
	}
	e, err := canonical.DecodeEvent(m.Data)
	if err != nil || e.Cause.Firing == nil {
		return "", fmt.Errorf("%s: message %d of CANONICAL says of no rule that it fired: %w", l.Key, l.Sequence, ErrFinal)
	}
	if err := b.Purge(ctx, streams.EFFECTS, streams.FiringEffects(l.Tenant, l.ID), 0); err != nil {
		return "", err
	}
	o := observation.Observation{System: canonical.Rule, Tenant: l.Tenant, Kind: canonical.KindContact, ExternalID: canonical.ExternalID(e.Cause.Firing.Key),
		Via: observation.FromRule, Entity: e.ID(), Firing: e.Cause.Firing, ReadBegan: now}
	return "its rule's firing is published again", tell(ctx, b, o)
}

func wake(ctx context.Context, p bus.Publisher, system canonical.System, tenant canonical.Tenant, kind canonical.Kind, id string, now time.Time) (string, error) {
	o := observation.Observation{System: system, Tenant: tenant, Kind: kind, ExternalID: canonical.ExternalID(id), Via: observation.Wake, Entity: canonical.CanonicalID(id), ReadBegan: now}
	return "its entity is looked at again", tell(ctx, p, o)
}

func tell(ctx context.Context, p bus.Publisher, o observation.Observation) error {
	body, err := o.Encode()
	if err == nil {
		_, err = p.Publish(ctx, bus.Message{Subject: streams.Raw(o), ID: o.Key(), Data: body})
	}
	if err != nil {
		return fmt.Errorf("publish %s of %s %s: %w", o.Via, o.Kind, o.ExternalID, err)
	}
	return nil
}

// Drop says of a letter that nothing is to be done, and Undrop that it is
// after all. Neither changes one that was replaced meanwhile.
func Drop(ctx context.Context, b Broker, l Letter, now time.Time) error {
	l.Dropped = now.UTC()
	return put(ctx, b, l)
}

// Undrop is explained at [Drop].
func Undrop(ctx context.Context, b Broker, l Letter) error {
	l.Dropped = time.Time{}
	return put(ctx, b, l)
}

func put(ctx context.Context, b Broker, l Letter) error {
	data, err := json.Marshal(l.DeadLetter)
	if err == nil {
		_, err = b.Publish(ctx, bus.Message{Subject: l.Key, Data: data, Expect: &bus.Expect{Subject: l.Key, LastSeq: l.Seq}})
	}
	if err != nil {
		return fmt.Errorf("dead letter %s: %w", l.Key, err)
	}
	return nil
}

// Run sweeps every interval until ctx is done. Any number may.
func Run(ctx context.Context, b Broker, clk clock.Clock, every time.Duration, failed func(error)) error {
	for ctx.Err() == nil {
		if _, err := Sweep(ctx, b); err != nil && ctx.Err() == nil {
			failed(err)
		}
		if clock.Sleep(ctx, clk, every) != nil {
			break
		}
	}
	return nil
}

// Sweep takes the letters off DEAD whose entity, or record, has succeeded
// since, and returns how many. That is so if something newer about it was
// settled, and the letter is still the same: had that failed too, its letter
// would have come in the place of this one before it was settled.
func Sweep(ctx context.Context, b Broker) (int, error) {
	// Mostly there are none, and asking costs less than looking through them.
	if _, err := b.Last(ctx, streams.DEAD, streams.DeadLetters("", "")); errors.Is(err, bus.ErrNotFound) {
		return 0, nil
	}
	var all []Letter
	err := b.Scan(ctx, streams.DEAD, streams.DeadLetters("", ""), time.Time{}, func(m bus.Stored) error {
		l, err := letter(m)
		all = append(all, l)
		return err
	})
	if err != nil {
		return 0, err
	}
	n := 0
	for _, l := range all {
		over, err := succeeded(ctx, b, l)
		if err != nil {
			return n, err
		}
		if !over {
			continue
		}
		if err := b.Purge(ctx, streams.DEAD, l.Key, l.Seq+1); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

func succeeded(ctx context.Context, b Broker, l Letter) (bool, error) {
	about, err := streams.Parse(l.Subject)
	if err != nil {
		return false, nil // nothing says what it was about
	}
	var consumer streams.Consumer
	var subjects []string
	system, isSink := strings.CutPrefix(l.Stage, sinkStage)
	raw := observation.Observation{System: about.System, Tenant: l.Tenant, Kind: l.Kind, ExternalID: canonical.ExternalID(l.ID)}
	switch {
	case l.Stage == actionsStage:
		return done(ctx, b, l)
	case isSink:
		consumer = streams.Sink(canonical.System(system), l.Tenant)
		subjects = []string{streams.Entity(l.Kind, l.Tenant, canonical.CanonicalID(l.ID))}
	case about.ID != l.ID || about.Stream != "raw":
		return false, nil
	case l.Stage == "hydrate":
		consumer, raw.Via = streams.Hydrate(l.Tenant), observation.Notice
		subjects = []string{streams.Raw(raw)}
	case l.Stage == "transform":
		consumer = streams.Transform()
		for _, raw.Via = range []observation.Via{observation.Fetch, observation.Poll, observation.Backfill, observation.Reconcile, observation.Writeback} {
			subjects = append(subjects, streams.Raw(raw))
		}
	default:
		return false, nil
	}
	for _, subject := range subjects {
		m, err := b.Last(ctx, consumer.Stream, subject)
		if errors.Is(err, bus.ErrNotFound) {
			continue
		}
		if err != nil {
			return false, err
		}
		// A sink looks at the latest state, which its letter names. The others
		// look at what they are handed, which may be a newer one before this.
		if m.Seq <= l.Sequence || !isSink && !m.Time.After(l.Stored) {
			continue
		}
		if passed, err := b.Passed(ctx, consumer, m.Seq); err != nil || passed {
			return passed, err
		}
	}
	return false, nil
}

// done reports whether an action of a rule has been done since.
func done(ctx context.Context, b Broker, l Letter) (bool, error) {
	m, err := b.Last(ctx, streams.EFFECTS, streams.FiringEffects(l.Tenant, l.ID))
	if errors.Is(err, bus.ErrNotFound) {
		return false, nil
	}
	var e effect.Effect
	if err == nil {
		err = json.Unmarshal(m.Data, &e)
	}
	return err == nil && e.State == effect.Done, err
}
