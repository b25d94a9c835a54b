// Package act does what a tenant's rules ask for outside: it starts a GHL
// workflow for a contact, puts one into a campaign, or calls a webhook. The
// transform has decided that a rule fired, and the contact's event says so;
// nothing is decided here.
//
// Each action has a record of its own in EFFECTS, under the firing's key: intent,
// call, outcome. The intent is also the fence, so that of two instances one
// calls. What is done is never done again, however often the event comes.
//
// No system shows who is in a workflow or a campaign, so a call whose end
// nobody knows can't be looked up: it is not made again, and a dead letter says
// so. A webhook is called again: its receiver knows the call by webhook-id, which
// is the action's key.
package act

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/goccy/go-json"
	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/rule"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/effect"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

// Stage names the stage of the dead letters.
const Stage = "actions"

// Hooks is the system of what is recorded about webhooks.
const Hooks canonical.System = "webhook"

// Enroller puts contacts into workflows and campaigns. Its errors are classed
// by [apierr.ClassOf].
type Enroller interface {
	AddToWorkflow(ctx context.Context, lane budget.Lane, contactID, workflowID string, start time.Time) error
	AddToCampaign(ctx context.Context, lane budget.Lane, contactID, campaignID string) error
}

// Config is what an Actor needs.
type Config struct {
	Bus    bus.Bus
	Clock  clock.Clock
	Logger zerolog.Logger
	Tenant canonical.Tenant
	Rules  rule.Set
	GHL    Enroller
	// Hold, if set, says that GHL can't be called now.
	Hold func() bool
	// HTTP calls webhooks. It has to follow no redirect.
	HTTP *http.Client
	// Secret returns what a reference refers to.
	Secret func(reference string) (string, error)
}

// Actor does it for one tenant.
type Actor struct{ cfg Config }

// New returns an Actor.
func New(cfg Config) *Actor { return &Actor{cfg} }

// tries is how often an action is tried before a person has to look. With the
// longest wait between them being an hour, that takes half a day.
const tries = 20

// Run works until ctx is done, then finishes what it has begun.
func (a *Actor) Run(ctx context.Context) error {
	consumer := streams.Actions(a.cfg.Tenant)
	if err := a.cfg.Bus.EnsureConsumer(ctx, consumer); err != nil {
		return fmt.Errorf("consumer %s: %w", consumer.Durable, err)
	}
	sub := bus.Subscription{Stream: consumer.Stream, Durable: consumer.Durable, Group: streams.PinnedGroup, Stage: Stage}
	return bus.Coalesce(ctx, a.cfg.Bus, a.cfg.Clock, sub, 8, key, a.handle)
}

// key is what may not be worked on twice at once: a firing. An event that is
// none has a key of its own.
func key(m bus.Stored) string {
	var e struct {
		Cause canonical.Cause `json:"cause"`
	}
	if json.Unmarshal(m.Data, &e) != nil || e.Cause.Firing == nil {
		return strconv.FormatUint(m.Seq, 10)
	}
	return e.Cause.Firing.Key
}

func (a *Actor) handle(ctx context.Context, m bus.Stored, count int) error {
	e, err := canonical.DecodeEvent(m.Data)
	if err != nil {
		return bus.Terminate(fmt.Errorf("decode contact event: %w", err))
	}
	f := e.Cause.Firing
	if e.Cause.Via != string(observation.FromRule) || f == nil || !f.Outside {
		return nil
	}
	r, ok := a.cfg.Rules.Get(f.Rule)
	if !ok {
		return nil // it was taken away since
	}
	// One that waits keeps the others from nothing.
	var wait error
	for _, action := range r.Outside() {
		t := &task{Actor: a, Action: action, firing: *f, contact: e.ID(), event: m, count: count, key: f.Key + "-" + strconv.Itoa(action.N)}
		if err := t.run(ctx); err != nil && wait == nil {
			wait = err
		}
	}
	return wait
}

// task is one action of one firing.
type task struct {
	*Actor
	rule.Action
	firing  canonical.Firing
	contact canonical.CanonicalID
	event   bus.Stored
	count   int
	key     string
	last    effect.Effect
	seq     uint64
}

func (t *task) system() canonical.System {
	if t.Do == rule.Webhook {
		return Hooks
	}
	return canonical.GHL
}

func (t *task) subject() string {
	return streams.FiringEffect(t.system(), t.cfg.Tenant, t.contact, t.key)
}

// run returns an error if it has to be tried again.
func (t *task) run(ctx context.Context) error {
	m, err := t.cfg.Bus.Last(ctx, streams.EFFECTS, t.subject())
	switch {
	case errors.Is(err, bus.ErrNotFound):
	case err != nil:
		return fmt.Errorf("load effect of action %s: %w", t.key, err)
	default:
		if err := json.Unmarshal(m.Data, &t.last); err != nil {
			return bus.Terminate(fmt.Errorf("decode effect of action %s: %w", t.key, err))
		}
		t.seq = m.Seq
	}
	switch {
	case t.last.State == effect.Done, t.last.State == effect.Failed && t.last.Refused != 0:
		return nil
	case t.Do == rule.Webhook:
		return t.hook(ctx)
	case t.last.State == effect.Intent, t.last.State == effect.Ambiguous:
		return t.giveUp(ctx, envelope.Outage, fmt.Errorf("nobody knows whether the contact was added to %s %s, and GHL doesn't show it: look there, and redrive if it was not", t.Do, t.ID))
	}
	return t.enrol(ctx)
}

// enrol adds the contact's primary record in GHL.
func (t *task) enrol(ctx context.Context) error {
	if t.cfg.Hold != nil && t.cfg.Hold() {
		return bus.Later(errors.New("ghl is not called now"), 5*time.Second)
	}
	record, err := t.record(ctx)
	switch {
	case err != nil:
		return err
	case record == "" && t.count >= tries:
		return t.giveUp(ctx, envelope.Data, fmt.Errorf("the contact has no record in ghl that could be added to %s %s", t.Do, t.ID))
	case record == "":
		return bus.Later(errors.New("the contact has no record in ghl yet"), min(time.Second<<min(t.count-1, 12), 10*time.Minute))
	}
	out, err := t.intend(ctx)
	if err != nil {
		return err
	}
	if t.Do == rule.Workflow {
		err = t.cfg.GHL.AddToWorkflow(ctx, budget.Live, record, t.ID, time.Time{})
	} else {
		err = t.cfg.GHL.AddToCampaign(ctx, budget.Live, record, t.ID)
	}
	var api *apierr.Error
	switch errors.As(err, &api); {
	case err == nil:
		return t.finish(ctx, out, effect.Done, nil)
	case apierr.ClassOf(err) == apierr.Ambiguous, apierr.ClassOf(err) == apierr.Unknown:
		if err := t.finish(ctx, out, effect.Ambiguous, err); err != nil {
			return err
		}
		return t.run(ctx)
	case api.Class == apierr.Retry, api.Class == apierr.Wait, api.Class == apierr.Refresh:
		return t.again(ctx, out, envelope.Outage, err, api.RetryAfter)
	case api.Class == apierr.Forbidden:
		return t.refused(ctx, out, envelope.Credentials, err, api.Status)
	default:
		return t.refused(ctx, out, envelope.Mapping, err, api.Status)
	}
}

// record returns the contact's record in GHL, or "".
func (t *task) record(ctx context.Context) (string, error) {
	for id := t.contact; ; {
		m, err := t.cfg.Bus.Last(ctx, streams.CANONICAL, streams.Entity(canonical.KindContact, t.cfg.Tenant, id))
		if errors.Is(err, bus.ErrNotFound) {
			return "", nil
		}
		if err != nil {
			return "", fmt.Errorf("load contact %s: %w", id, err)
		}
		e, err := canonical.DecodeEvent(m.Data)
		if err != nil {
			return "", bus.Terminate(fmt.Errorf("decode contact %s: %w", id, err))
		}
		if e.MergedInto != "" {
			id = e.MergedInto
			continue
		}
		if b := e.Sync.Base[canonical.GHL]; b.External != "" && !b.Gone {
			return string(b.External), nil
		}
		return "", nil
	}
}

// intend says that the call is about to be made.
func (t *task) intend(ctx context.Context) (effect.Effect, error) {
	out := effect.Effect{System: t.system(), Tenant: t.cfg.Tenant, Kind: canonical.Kind(canonical.Rule), ID: t.contact, Action: t.key,
		State: effect.Intent, Version: t.firing.Version, Attempt: t.last.Attempt + 1, At: t.cfg.Clock.Now().UTC()}
	return out, t.put(ctx, out)
}

// finish says how the call ended.
func (t *task) finish(ctx context.Context, out effect.Effect, state effect.State, cause error) error {
	if out.State, out.At = state, t.cfg.Clock.Now().UTC(); cause != nil {
		out.Reason = cause.Error()
	}
	return t.put(ctx, out)
}

func (t *task) put(ctx context.Context, e effect.Effect) error {
	data, err := json.Marshal(e)
	if err != nil {
		return bus.Terminate(fmt.Errorf("encode effect of action %s: %w", t.key, err))
	}
	ack, err := t.cfg.Bus.Publish(ctx, bus.Message{Subject: t.subject(), Data: data, Expect: &bus.Expect{Subject: t.subject(), LastSeq: t.seq}})
	if errors.Is(err, bus.ErrWrongSequence) {
		return bus.Later(fmt.Errorf("action %s is another instance's: %w", t.key, err), time.Second)
	}
	if err != nil {
		return fmt.Errorf("record action %s: %w", t.key, err)
	}
	t.last, t.seq = e, ack.Seq
	return nil
}

// again notes that nothing was done, and says when to try again.
func (t *task) again(ctx context.Context, out effect.Effect, class envelope.Class, cause error, after time.Duration) error {
	if err := t.finish(ctx, out, effect.Failed, cause); err != nil {
		return err
	}
	if out.Attempt >= tries {
		return t.giveUp(ctx, class, cause)
	}
	return bus.Later(cause, max(after, min(5*time.Second<<min(out.Attempt-1, 12), time.Hour)))
}

// refused notes that it won't be done, and asks for a person.
func (t *task) refused(ctx context.Context, out effect.Effect, class envelope.Class, cause error, status int) error {
	out.Refused = max(status, 1)
	if err := t.finish(ctx, out, effect.Failed, cause); err != nil {
		return err
	}
	return t.giveUp(ctx, class, cause)
}

// giveUp sets the action aside for a person. The rule's other actions go on.
func (t *task) giveUp(ctx context.Context, class envelope.Class, cause error) error {
	reason := fmt.Sprintf("rule %s: %s: %v", t.firing.Rule, t.Do, cause)
	data, err := json.Marshal(envelope.DeadLetter{Stage: Stage, Tenant: t.cfg.Tenant, Kind: canonical.Kind(canonical.Rule), ID: t.key, Class: class, Reason: reason,
		At: t.cfg.Clock.Now().UTC(), Deliveries: t.count, Stream: t.event.Stream, Sequence: t.event.Seq, Subject: t.event.Subject})
	if err == nil {
		_, err = t.cfg.Bus.Publish(ctx, bus.Message{Subject: streams.Dead(Stage, t.cfg.Tenant, canonical.Kind(canonical.Rule), t.key), Data: data})
	}
	if err != nil {
		return fmt.Errorf("dead letter of action %s: %w", t.key, err)
	}
	t.cfg.Logger.Error().Str("tenant", string(t.cfg.Tenant)).Str("id", string(t.contact)).Uint64("seq", t.event.Seq).Str("reason", reason).Msg("dead letter")
	return nil
}
