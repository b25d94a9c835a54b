// Package apply makes a destination match: a level-triggered controller. An
// event is only a wake-up; what is written is the difference between the
// entity's latest state and what the destination is known to show.
//
// Each write is intent (EFFECTS), call, outcome (EFFECTS), writeback (RAW),
// ack. The intent is published against the sequence of the record before it,
// which is also the fence: of two instances one gets to write. After a crash
// or an answer that leaves it open what happened, the record is looked up
// before anything else is written; nothing is ever created on a guess.
package apply

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/goccy/go-json"
	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/hold"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/internal/trace"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/effect"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/sink/plan"
	"github.com/causeway-sync/causeway/streams"
)

// Ref names a record at a destination. Parent is the record that it hangs on,
// "" for a contact.
type Ref struct {
	Kind       canonical.Kind
	Parent, ID canonical.ExternalID
}

// Reading is a record as a destination showed it.
type Reading struct {
	External  canonical.ExternalID
	Parent    canonical.ExternalID // the record that it hangs on; "" for a contact
	Endpoint  string
	Record    json.RawMessage
	Names     map[string]string
	ReadBegan time.Time
	Modified  time.Time
	// Atomic says that it is the answer to a write itself.
	Atomic bool
	// Written is when, by the system's own time, the write was that it was read
	// after; the zero time if the system doesn't say.
	Written time.Time
}

// Destination writes records of every kind to one system. Its errors are
// classed by [apierr.ClassOf]; Gone means that the record is not there,
// Duplicate that another record, which the error names, stands in the way of a
// create. parent is the record that an item hangs on, "" for a contact.
type Destination interface {
	// Read returns the record as it is now.
	Read(ctx context.Context, ref Ref) (Reading, error)
	// ReadToUpdate is Read for an Update that follows at once: what an Update
	// would have to wait for has been waited for before the read, because a
	// change that comes between the two may be lost.
	ReadToUpdate(ctx context.Context, ref Ref) (Reading, error)
	// Find looks for a record that was made for e: a contact by the reference
	// that Create leaves, else by identity key; an item among its parent's by
	// what it says. False: there is none.
	Find(ctx context.Context, e canonical.Event, parent canonical.ExternalID) (Reading, bool, error)
	// Create makes a record of e with p's fields and tags. It returns what
	// the system showed, also beside an error if a part was done: of a record
	// that was made and could not be read a Reading without a Record.
	Create(ctx context.Context, e canonical.Event, parent canonical.ExternalID, p plan.Plan) ([]Reading, error)
	// Update writes p to the record of e, like Create. now is the record as
	// ReadToUpdate has just read it, or the zero value if what is known of it
	// is fresh enough.
	Update(ctx context.Context, e canonical.Event, ref Ref, p plan.Plan, now Reading) ([]Reading, error)
	// Delete takes the record away.
	Delete(ctx context.Context, ref Ref) error
	// ReadsFirst says that every update of kind has to begin with a read.
	ReadsFirst(kind canonical.Kind) bool
}

// Config is what a Controller needs.
type Config struct {
	Bus         bus.Bus
	Clock       clock.Clock
	Rand        *rand.Rand // for back-off; owned by the controller
	Logger      zerolog.Logger
	System      canonical.System
	Tenant      canonical.Tenant
	Lens        *mapping.Lens
	Destination Destination
	// Create says which contacts that the system has no record of are made.
	Create mapping.Condition
	// Ready, if set, returns when writing may begin, or with an error when ctx
	// is done.
	Ready func(ctx context.Context) error
	// Hold, if set, says that the system can't be called now: then no work is
	// begun.
	Hold func() bool
	// Early, if set, says that no record of kind is to be written yet.
	Early func(kind canonical.Kind) bool
	// Policy says which flows are switched off and what a delete does; nil
	// means the defaults.
	Policy *mapping.Policy
	// Gate is what every delete goes through; the tenant's two controllers share
	// one. Nil means one of its own.
	Gate *hold.Gate
	// Grace is how long a contact's record stays after its counterpart was
	// deleted, if deletes propagate; 0 means 30 s.
	Grace time.Duration
	// Fresh is how old a base may be for a write without a read before it; 0
	// means 30 s.
	Fresh time.Duration
	// Workers is how many entities are worked on at once; 0 means 8.
	Workers int
	// Restored, if set, is told of each update that overwrote what somebody had
	// just saved, and gave it back.
	Restored func()
	// Crossed, if set, is told how long a change of kind took from its source's
	// own time, or from the read that first showed it where the source says
	// none, until the destination had it.
	Crossed func(kind canonical.Kind, took time.Duration)
}

// Controller keeps one tenant's records at one destination as they ought to
// be.
type Controller struct {
	cfg  Config
	pace *pace
	mu   sync.Mutex // guards Rand and told
	told map[string]told
}

// told is the last that the transform was told of a record and has to speak
// about before anything else is written to it. A restart forgets it; then it
// is told once more.
type told struct {
	seq    uint64 // on RAW
	record string // what was seen, or "" if it was something else
}

// New returns a Controller.
func New(cfg Config) *Controller {
	if cfg.Fresh == 0 {
		cfg.Fresh = 30 * time.Second
	}
	if cfg.Grace == 0 {
		cfg.Grace = 30 * time.Second
	}
	if cfg.Workers == 0 {
		cfg.Workers = 8
	}
	if cfg.Gate == nil {
		cfg.Gate = hold.New(hold.Config{Bus: cfg.Bus, Clock: cfg.Clock, Logger: cfg.Logger, Tenant: cfg.Tenant, Limit: cfg.Policy.Hold()})
	}
	return &Controller{cfg: cfg, pace: &pace{bus: cfg.Bus, clock: cfg.Clock}, told: map[string]told{}}
}

// Run works until ctx is done, then finishes what it has begun.
func (c *Controller) Run(ctx context.Context) error {
	consumer := streams.Sink(c.cfg.System, c.cfg.Tenant)
	if err := c.cfg.Bus.EnsureConsumer(ctx, consumer); err != nil {
		return fmt.Errorf("consumer %s: %w", consumer.Durable, err)
	}
	if c.cfg.Ready != nil {
		if err := c.cfg.Ready(ctx); err != nil {
			return nil // stopped before it began
		}
	}
	sub := bus.Subscription{Stream: consumer.Stream, Durable: consumer.Durable, Group: streams.PinnedGroup, Stage: "sink-" + string(c.cfg.System), MaxDeliveries: 20,
		Urgent: urgent, Filters: consumer.Filters}
	sub.Hold = func(m bus.Stored) bool {
		return c.cfg.Hold != nil && c.cfg.Hold() || c.cfg.Early != nil && c.cfg.Early(kindOf(m))
	}
	return bus.Coalesce(ctx, c.cfg.Bus, c.cfg.Clock, sub, c.cfg.Workers, func(m bus.Stored) string {
		p, err := streams.Parse(m.Subject)
		if err != nil {
			return m.Subject
		}
		return p.ID
	}, c.handle)
}

// kindOf returns the kind of an event, "" if its subject is none of ours.
func kindOf(m bus.Stored) canonical.Kind {
	p, _ := streams.Parse(m.Subject) // handle sees to what can't be read
	return p.Kind
}

// urgent reports whether an event follows from what somebody has just changed,
// so that it is written before the rest of a backfill.
func urgent(m bus.Stored) bool {
	cause := causeOf(m)
	if cause.Replay {
		return false
	}
	switch observation.Via(cause.Via) { // what can't be read the consumer hands out as well, and sees to it
	case observation.Fetch, observation.Poll, observation.FromRule:
		return true
	}
	return false
}

// task is one look at one entity.
type task struct {
	*Controller
	state     canonical.Event
	kind      canonical.Kind
	id        canonical.CanonicalID
	parent    canonical.ExternalID // what an item hangs on at the destination
	last      effect.Effect
	effectSeq uint64
	count     int
	heard     told // what the transform has spoken about since
	waits     bool // for the transform
}

func (c *Controller) handle(ctx context.Context, m bus.Stored, count int) (err error) {
	ctx, span := trace.Start(ctx, "write to "+string(c.cfg.System))
	defer func() { span.End(err) }()
	subject, err := streams.Parse(m.Subject)
	if err != nil {
		return bus.Terminate(err)
	}
	if bulk(m) {
		if err := c.pace.wait(ctx); err != nil {
			return err
		}
	}
	t := &task{Controller: c, kind: subject.Kind, id: canonical.CanonicalID(subject.ID), count: count}
	if err := t.listen(ctx); err != nil {
		return err
	}
	defer t.forget()
	var seq uint64
	if t.state, seq, err = c.load(ctx, t.kind, t.id); err != nil || seq == 0 {
		return err // not known: erased since
	}
	if err := t.look(ctx); err != nil || t.state.Cause.Via != string(observation.Wake) {
		return bus.Explain(err, envelope.DeadLetter{Sequence: seq})
	}
	return t.cfg.Gate.Forget(ctx, t.cfg.System, t.kind, t.id)
}

func (t *task) look(ctx context.Context) (err error) {
	if t.kind != canonical.KindContact {
		if t.parent, err = t.findParent(ctx); err != nil || t.parent == "" {
			return err // once the contact is linked, the item's next event comes
		}
	}
	if via := observation.Via(t.state.Cause.Via); via == observation.Backfill || via == observation.Reconcile || t.state.Cause.Replay {
		ctx = budget.WithLane(ctx, budget.Backfill)
	}
	effects, err := t.cfg.Bus.Last(ctx, streams.EFFECTS, t.effectSubject())
	switch {
	case errors.Is(err, bus.ErrNotFound):
	case err != nil:
		return fmt.Errorf("load effect of entity %s: %w", t.id, err)
	default:
		if err := json.Unmarshal(effects.Data, &t.last); err != nil {
			return bus.Terminate(fmt.Errorf("decode effect of entity %s: %w", t.id, err))
		}
		t.effectSeq = effects.Seq
	}
	return t.run(ctx)
}

// listen returns an error until the transform has spoken about what it was
// told last.
func (t *task) listen(ctx context.Context) error {
	t.mu.Lock()
	last, told := t.told[t.effectSubject()]
	t.mu.Unlock()
	if !told {
		return nil
	}
	passed, err := t.cfg.Bus.Passed(ctx, streams.Transform(), last.seq)
	if err != nil {
		return err
	}
	if !passed {
		return t.wait()
	}
	t.heard = last
	return nil
}

// tell notes that nothing is to be written before the transform has merged
// what has been published as seq, and returns the error that says so.
func (t *task) tell(seq uint64, record string) error {
	t.mu.Lock()
	t.told[t.effectSubject()] = told{seq: seq, record: record}
	t.mu.Unlock()
	t.waits = true
	return t.wait()
}

// forget ends the waiting, unless it has begun anew.
func (t *task) forget() {
	if t.waits {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.told, t.effectSubject())
}

// wait is longer each time, since a transform with much to do may take minutes
// and the number of deliveries is bounded.
func (t *task) wait() error {
	return bus.Later(errors.New("waiting for the merge of what was seen"), min(100*time.Millisecond<<min(t.count, 10), 15*time.Second))
}

// load returns an entity's last state and its sequence, 0 if it has none.
func (c *Controller) load(ctx context.Context, kind canonical.Kind, id canonical.CanonicalID) (e canonical.Event, seq uint64, err error) {
	stored, err := c.cfg.Bus.Last(ctx, streams.CANONICAL, streams.Entity(kind, c.cfg.Tenant, id))
	switch {
	case errors.Is(err, bus.ErrNotFound):
		return e, 0, nil
	case err != nil:
		return e, 0, fmt.Errorf("load %s %s: %w", kind, id, err)
	}
	if e, err = canonical.DecodeEvent(stored.Data); err != nil {
		return e, 0, bus.Terminate(fmt.Errorf("decode %s %s: %w", kind, id, err))
	}
	return e, stored.Seq, nil
}

// findParent returns the record of the item's contact that the item hangs on,
// or is to hang on; "" if the contact has none at the destination.
func (t *task) findParent(ctx context.Context) (canonical.ExternalID, error) {
	id := t.state.ContactID()
	if id == "" {
		return "", nil
	}
	contact, seq, err := t.load(ctx, canonical.KindContact, id)
	for err == nil && seq > 0 && contact.MergedInto != "" {
		contact, seq, err = t.load(ctx, canonical.KindContact, contact.MergedInto)
	}
	links, primary := contact.Links[t.cfg.System], contact.Sync.Base[t.cfg.System]
	if err != nil || seq == 0 || len(links) == 0 || primary.Gone {
		return "", err
	}
	// Of a contact with several records the item may hang on any.
	if p := t.state.Sync.Base[t.cfg.System].Parent; slices.Contains(links, p) {
		return p, nil
	}
	if slices.Contains(links, primary.External) {
		return primary.External, nil
	}
	return links[0], nil
}

func (t *task) ref(id canonical.ExternalID) Ref { return Ref{Kind: t.kind, Parent: t.parent, ID: id} }

func (t *task) effectSubject() string {
	return streams.Effect(t.cfg.System, t.cfg.Tenant, t.kind, t.id)
}

func (t *task) run(ctx context.Context) error {
	switch t.last.State {
	case effect.Intent, effect.Ambiguous:
		if done, err := t.recover(ctx); done || err != nil {
			return err
		}
	case effect.Done:
		// A crash may have come between the outcome and its writebacks.
		if t.count > 1 && !t.merged() && t.heard.seq == 0 {
			seq, err := t.publishWritebacks(ctx, t.last.Writebacks)
			if err != nil {
				return err
			}
			if len(t.last.Wrote)+len(t.last.TagsAdded)+len(t.last.TagsRemoved) == 0 && seq > 0 && t.state.MergedInto == "" {
				return t.tell(seq, "") // it was looked up, and there is nothing to go by before it is merged
			}
		}
	}
	if t.state.MergedInto != "" {
		return nil // what was under way is another record of that one
	}
	for _, dup := range plan.Duplicates(t.state, t.cfg.System, t.cfg.Lens, t.cfg.Policy) {
		if done, err := t.duplicate(ctx, dup); done || err != nil {
			return err
		}
	}
	x := plan.Expect(t.state, t.cfg.System, t.last)
	create := t.kind != canonical.KindContact
	if !create && x.External == "" {
		var err error
		if create, err = t.cfg.Create.Holds(t.state.Contact); err != nil {
			return bus.Explain(bus.Terminate(fmt.Errorf("create %s contact: %w", t.cfg.System, err)), envelope.DeadLetter{Class: envelope.Mapping})
		}
	}
	p := plan.For(t.state, t.cfg.System, t.cfg.Lens, x, create, t.cfg.Policy)
	if err := t.refused(p); err != nil && !p.Empty() {
		return err
	}
	if wait := t.pause(p); wait > 0 {
		t.waits = t.heard.seq > 0 // what was heard holds for the next try, too
		return bus.Later(errors.New("the same was tried a moment ago, and failed"), wait)
	}
	switch {
	case p.Empty():
		return nil
	case p.Delete:
		if wait := t.grace(); wait > 0 {
			return bus.Later(errors.New("waiting whether the contact was merged into another"), wait)
		}
		_, err := t.remove(ctx, p)
		return err
	case p.Create:
		return t.create(ctx, p)
	}
	return t.update(ctx, p, x)
}

// duplicate does what the policy says about another record of the contact,
// once all that was written before has been merged: the sink remembers one
// write only. done says that there is nothing more to do until that is merged;
// a delete that is held keeps nothing up.
func (t *task) duplicate(ctx context.Context, p plan.Duplicate) (done bool, err error) {
	if t.last.State == effect.Done && !t.merged() && t.heard.seq == 0 {
		seq, err := t.publishWritebacks(ctx, t.last.Writebacks)
		if err != nil {
			return false, err
		}
		if seq > 0 {
			return false, t.tell(seq, "")
		}
	}
	if !p.Delete {
		return true, t.update(ctx, p.Plan, p.Expected)
	}
	// Never the last one: where two were merged at the system itself, the one
	// that we take for the primary may be the one that is gone.
	primary := t.state.Sync.Base[t.cfg.System].External
	r, err := t.cfg.Destination.Read(ctx, t.ref(primary))
	switch {
	case apierr.ClassOf(err) == apierr.Gone:
		err = t.gone(ctx, primary)
	case err != nil:
		return false, t.verdict(err)
	default:
		o := t.observed(r, observation.Fetch)
		shown, wrong := t.cfg.Lens.Show(o)
		if wrong != nil {
			return false, bus.Terminate(wrong)
		}
		if !shown.Inactive {
			return t.remove(ctx, p.Plan)
		}
		_, err = t.publish(ctx, o)
	}
	if err != nil {
		return false, err
	}
	return false, bus.Later(errors.New("the primary record is gone; waiting for the merge"), 200*time.Millisecond)
}

// grace is how long a contact's delete has to wait yet. A merge at the other
// system looks like a delete at first; what shows that it is one may come
// after it.
func (t *task) grace() time.Duration {
	if t.kind != canonical.KindContact {
		return 0
	}
	gone := t.state.Sync.Base[t.cfg.System.Other()].At.AsOf
	return t.cfg.Grace - t.cfg.Clock.Now().Sub(time.UnixMicro(gone))
}

// merged reports whether the transform has seen what the last effect showed.
func (t *task) merged() bool {
	base, ok := t.state.Record(t.cfg.System, t.last.External)
	if !ok {
		base, ok = t.state.Sync.Base[t.cfg.System]
	}
	return ok && base.At.AsOf >= t.last.At.UnixMicro()
}

// recover finds out what became of a write whose end nobody recorded. done
// means that there is nothing more to do until what it saw has been merged.
func (t *task) recover(ctx context.Context) (done bool, err error) {
	var r Reading
	switch {
	case t.last.Delete:
		_, err = t.cfg.Destination.Read(ctx, t.ref(t.last.External))
		switch {
		case apierr.ClassOf(err) == apierr.Gone:
			_, err := t.removed(ctx, t.last, false)
			return true, err
		case err != nil:
			return false, t.verdict(err)
		}
		return false, nil // it is there still
	case t.last.Create && t.last.External == "":
		// It was made as the record was then, which may have changed since.
		then, found := t.state, false
		for f, v := range t.last.Wrote {
			then.SetField(f, v)
		}
		r, found, err = t.cfg.Destination.Find(ctx, then, t.parent)
		if err == nil && !found && then.Contact.Email != t.state.Contact.Email {
			r, found, err = t.cfg.Destination.Find(ctx, t.state, t.parent)
		}
		if err != nil {
			return false, t.verdict(err)
		}
		if !found {
			return false, nil // it never arrived: go on as if it had not been tried
		}
	default:
		r, err = t.cfg.Destination.Read(ctx, t.ref(t.last.External))
		switch gone := apierr.ClassOf(err) == apierr.Gone; {
		case gone && t.last.Create:
			return true, t.vanished(ctx)
		case gone:
			return true, t.gone(ctx, t.last.External)
		case err != nil:
			return false, t.verdict(err)
		}
	}
	r.Atomic = false
	out := t.last
	out.State, out.External, out.Reason = effect.Done, r.External, "looked up after an unknown end"
	out.At = r.ReadBegan
	// What the record shows is known by reading it, so nothing is overlaid.
	wrote := written(out.Wrote, out.TagsAdded, out.TagsRemoved)
	out.Wrote, out.TagsAdded, out.TagsRemoved = nil, nil, nil
	seq, err := t.finish(ctx, out, []Reading{r}, wrote)
	if err != nil {
		return false, err
	}
	return true, t.tell(seq, "")
}

func (t *task) create(ctx context.Context, p plan.Plan) error {
	out, err := t.intend(ctx, p)
	if err != nil {
		return err
	}
	if err := t.announce(ctx, p); err != nil {
		return err
	}
	wrote := written(p.Fields, p.AddTags, p.RemoveTags)
	readings, err := t.cfg.Destination.Create(ctx, t.state, t.parent, p)
	if err == nil {
		_, err = t.finish(ctx, out, readings, wrote)
		return err
	}
	var api *apierr.Error
	if errors.As(err, &api) && api.Class == apierr.Duplicate && api.ExistingID != "" {
		return t.adopt(ctx, out, canonical.ExternalID(api.ExistingID), err)
	}
	return t.fail(ctx, out, readings, wrote, err)
}

// adopt links a record that was there already instead of making a second
// one. The transform has the last word: a record that it doesn't link belongs
// to another entity.
func (t *task) adopt(ctx context.Context, out effect.Effect, existing canonical.ExternalID, cause error) error {
	if t.heard.record == string(existing) {
		t.waits = true // what was heard holds for the next try, too
		return t.fail(ctx, out, nil, nil, fmt.Errorf("create %s %s: the record that is there belongs to another entity: %w", t.cfg.System, t.kind, cause))
	}
	r, err := t.cfg.Destination.Read(ctx, t.ref(existing))
	if err != nil {
		return t.fail(ctx, out, nil, nil, err)
	}
	r.Atomic = false
	seq, err := t.finish(ctx, failed(out, "another record stands in its place"), []Reading{r}, nil)
	if err != nil {
		return err
	}
	return t.tell(seq, string(existing))
}

func failed(e effect.Effect, reason string) effect.Effect {
	e.State, e.Reason = effect.Failed, reason
	return e
}

func (t *task) update(ctx context.Context, p plan.Plan, x plan.Expected) error {
	fresh := t.fresh(p.External)
	// The intent comes before the read, so that nothing but the read's own
	// answer lies between the read and the write.
	out, err := t.intend(ctx, p)
	if err != nil {
		return err
	}
	if err := t.announce(ctx, p); err != nil {
		return err
	}
	wrote := written(p.Fields, p.AddTags, p.RemoveTags)
	var now Reading
	if t.cfg.Destination.ReadsFirst(t.kind) || !fresh {
		now, err = t.cfg.Destination.ReadToUpdate(ctx, t.ref(p.External))
		if err == nil && t.moved(x, now) {
			return t.yield(ctx, out, now)
		}
	}
	var readings []Reading
	if err == nil {
		readings, err = t.cfg.Destination.Update(ctx, t.state, t.ref(p.External), p, now)
	}
	if err == nil {
		readings, err = t.restore(ctx, t.ref(p.External), now, readings)
	}
	if apierr.ClassOf(err) == apierr.Gone {
		if _, err := t.finish(ctx, failed(out, "the record is gone"), readings, wrote); err != nil {
			return err
		}
		return t.gone(ctx, p.External)
	}
	if err != nil {
		return t.fail(ctx, out, readings, wrote, err)
	}
	_, err = t.finish(ctx, out, readings, wrote)
	return err
}

// admitted reports whether the delete of a record may be sent. Every delete
// has to ask; one that may not is held, and the entity is woken in time.
func (t *task) admitted(ctx context.Context, id canonical.ExternalID) (bool, error) {
	return t.cfg.Gate.Admit(ctx, hold.Delete{System: t.cfg.System, Kind: t.kind, ID: t.id, External: id, Version: t.state.Version},
		t.last.Delete && t.last.External == id)
}

// remove takes the record away, if it may; that it is gone already is as good.
func (t *task) remove(ctx context.Context, p plan.Plan) (done bool, err error) {
	if ok, err := t.admitted(ctx, p.External); !ok {
		return false, err
	}
	out, err := t.intend(ctx, p)
	if err != nil {
		return false, err
	}
	err = t.cfg.Destination.Delete(ctx, t.ref(p.External))
	if err != nil && apierr.ClassOf(err) != apierr.Gone {
		return true, t.fail(ctx, out, nil, nil, err)
	}
	_, err = t.removed(ctx, out, false)
	return true, err
}

// removed records that the record is gone, and tells the transform; parentGone
// says of an item that somebody else took away that its contact is gone, too.
// seq is that of the writeback.
func (t *task) removed(ctx context.Context, e effect.Effect, parentGone bool) (seq uint64, err error) {
	e.State, e.At = effect.Done, t.cfg.Clock.Now()
	body, err := observation.Observation{
		System: t.cfg.System, Tenant: t.cfg.Tenant, Kind: t.kind, ExternalID: e.External, Parent: t.parent,
		Via: observation.Writeback, Entity: t.id, ReadBegan: e.At, Absent: true, Creates: e.Create, ParentGone: parentGone,
	}.Encode()
	if err != nil {
		return 0, bus.Terminate(err)
	}
	e.Writebacks = [][]byte{body}
	if err := t.record(ctx, e); err != nil {
		return 0, err
	}
	return t.publishWritebacks(ctx, e.Writebacks)
}

// appears is how long a system may take to show a record that it has made.
const appears = 3 * time.Second

// vanished records of a record that was made, and that nobody has read, that
// somebody took it away: it isn't made a second time.
func (t *task) vanished(ctx context.Context) error {
	if wait := t.last.At.Add(appears).Sub(t.cfg.Clock.Now()); wait > 0 {
		return bus.Later(fmt.Errorf("the %s that was made at %s doesn't show yet", t.kind, t.cfg.System), wait)
	}
	parentGone, err := t.parentGone(ctx)
	if err != nil {
		return err
	}
	e := t.last
	e.Reason = "it was made, and is gone"
	e.Wrote, e.TagsAdded, e.TagsRemoved = nil, nil, nil
	seq, err := t.removed(ctx, e, parentGone)
	if err != nil {
		return err
	}
	return t.tell(seq, "")
}

// moved reports whether somebody has changed the record: then the merge has
// to speak first. What it has spoken about is a difference that it does not
// take for a change.
func (t *task) moved(x plan.Expected, now Reading) bool {
	shown, err := t.cfg.Lens.Show(t.observed(now, observation.Fetch))
	return err == nil && plan.Moved(t.kind, t.cfg.Lens, x, shown) && t.heard.record != string(now.Record)
}

// yield writes nothing, tells the transform what it saw, and waits for it. The
// intent is taken back first: what was read before a write is not of it, though
// it show the same.
func (t *task) yield(ctx context.Context, out effect.Effect, now Reading) error {
	if err := t.announce(ctx, plan.Plan{External: out.External}); err != nil {
		return err
	}
	seq, err := t.publish(ctx, t.observed(now, observation.Fetch))
	if err != nil {
		return err
	}
	out = failed(out, "the record has moved; nothing was written")
	out.Wrote, out.TagsAdded, out.TagsRemoved = nil, nil, nil
	if err := t.record(ctx, out); err != nil {
		return err
	}
	return t.tell(seq, string(now.Record))
}

// fresh reports whether what is known of the record is young enough to write
// without reading it again.
func (t *task) fresh(record canonical.ExternalID) bool {
	base, known := t.state.Record(t.cfg.System, record)
	if !known {
		base = t.state.Sync.Base[t.cfg.System]
	}
	at := base.At.AsOf
	if t.last.State == effect.Done && (!known || t.last.External == record) {
		at = max(at, t.last.At.UnixMicro())
	}
	return t.cfg.Clock.Now().Sub(time.UnixMicro(at)) < t.cfg.Fresh
}

// intend records that p is about to be written.
func (t *task) intend(ctx context.Context, p plan.Plan) (effect.Effect, error) {
	e := effect.Effect{
		System: t.cfg.System, Tenant: t.cfg.Tenant, Kind: t.kind, ID: t.id,
		State: effect.Intent, Version: t.state.Version, Attempt: 1, Create: p.Create, Delete: p.Delete, External: p.External,
		At: t.cfg.Clock.Now(), Wrote: p.Fields, TagsAdded: p.AddTags, TagsRemoved: p.RemoveTags,
	}
	if t.last.Version == e.Version || t.last.State == effect.Ambiguous || t.failedLast(p) { // our own intents are versions, too
		e.Attempt = t.last.Attempt + 1
	}
	return e, t.record(ctx, e)
}

// written is how an observation says what was written.
func written(fields map[string]string, added, removed []string) map[string]string {
	out := make(map[string]string, len(fields)+len(added)+len(removed))
	maps.Copy(out, fields)
	for _, tag := range added {
		out[canonical.TagField(tag)] = "true"
	}
	for _, tag := range removed {
		out[canonical.TagField(tag)] = ""
	}
	return out
}

// announce tells the transform what is about to be written, before anybody
// else can see it. A Plan without any fields takes it back.
func (t *task) announce(ctx context.Context, p plan.Plan) error {
	o := observation.Observation{
		System: t.cfg.System, Tenant: t.cfg.Tenant, Kind: t.kind, ExternalID: canonical.ExternalID(t.id),
		Via: observation.Intent, Entity: t.id, Target: p.External, ReadBegan: t.cfg.Clock.Now(), Wrote: written(p.Fields, p.AddTags, p.RemoveTags),
	}
	if p.Create {
		o.Creates, o.Parent = true, t.parent
	}
	_, err := t.publish(ctx, o)
	return err
}

// record publishes e as the entity's effect, if it is still ours to say.
func (t *task) record(ctx context.Context, e effect.Effect) error {
	data, err := json.Marshal(e)
	if err != nil {
		return bus.Terminate(fmt.Errorf("encode effect of entity %s: %w", t.id, err))
	}
	ack, err := t.cfg.Bus.Publish(ctx, bus.Message{
		Subject: t.effectSubject(), Data: data,
		Expect: &bus.Expect{Subject: t.effectSubject(), LastSeq: t.effectSeq},
	})
	if errors.Is(err, bus.ErrWrongSequence) {
		return bus.Later(fmt.Errorf("another sink works on entity %s: %w", t.id, err), time.Second)
	}
	if err != nil {
		return fmt.Errorf("record effect of entity %s: %w", t.id, err)
	}
	t.effectSeq = ack.Seq
	return nil
}

// finish records the outcome, and then tells the transform what was seen. seq
// is that of the last writeback, 0 if there is none.
func (t *task) finish(ctx context.Context, e effect.Effect, readings []Reading, wrote map[string]string) (seq uint64, err error) {
	if e.State == effect.Intent {
		e.State = effect.Done
	}
	for i, r := range readings {
		if r.Record == nil {
			e.External = r.External // it was made, and could not be read
			continue
		}
		o := t.observed(r, observation.Writeback)
		o.Entity, o.Atomic, o.Wrote = t.id, r.Atomic, wrote
		body, err := o.Encode()
		if err != nil {
			return 0, bus.Terminate(err)
		}
		e.Writebacks = append(e.Writebacks, body)
		if i == 0 || r.ReadBegan.After(e.At) {
			e.At = r.ReadBegan
		}
		if wrote != nil { // else it is to be adopted, and may be another entity's
			e.External = r.External
		}
	}
	if err := t.record(ctx, e); err != nil {
		return 0, err
	}
	t.crossed(e)
	if seq, err = t.publishWritebacks(ctx, e.Writebacks); err != nil || e.State != effect.Failed {
		return seq, err
	}
	return seq, t.announce(ctx, plan.Plan{External: e.External}) // nothing is being written any more
}

// aged is how old a change may be to count for how long changes take: what a
// first link brings across was not waited for.
const aged = 24 * time.Hour

// crossed tells how long the oldest of the changes took that e has written.
func (t *task) crossed(e effect.Effect) {
	if t.cfg.Crossed == nil || e.State != effect.Done {
		return
	}
	var oldest int64
	note := func(s canonical.Stamp) {
		if s.At != 0 && s.Origin != t.cfg.System && (oldest == 0 || s.At < oldest) {
			oldest = s.At
		}
	}
	for f := range e.Wrote {
		note(t.state.Sync.Stamps[f])
	}
	for _, tag := range slices.Concat(e.TagsAdded, e.TagsRemoved) {
		note(t.state.Sync.Tags[tag].Stamp)
	}
	if took := t.cfg.Clock.Now().Sub(time.UnixMicro(oldest)); oldest != 0 && took < aged {
		t.cfg.Crossed(t.kind, max(took, 0))
	}
}

// fail records why a write did not come about, and what was done of it.
func (t *task) fail(ctx context.Context, e effect.Effect, readings []Reading, wrote map[string]string, cause error) error {
	e.State, e.Reason = effect.Failed, cause.Error()
	var api *apierr.Error
	if errors.As(cause, &api) {
		t.last = e
		switch class := t.class(api); {
		case class == apierr.Ambiguous:
			e.State = effect.Ambiguous
		case class == apierr.Invalid, class == apierr.Duplicate && e.Attempt >= handover:
			e.Refused = api.Status
		}
	}
	if _, err := t.finish(ctx, e, readings, wrote); err != nil {
		return err
	}
	return bus.Explain(t.verdict(cause), envelope.DeadLetter{Request: request(e)})
}

// request is how a dead letter says what was tried: names, and no values.
func request(e effect.Effect) *envelope.Request {
	r := &envelope.Request{System: e.System, Operation: "update", External: e.External, Fields: slices.Sorted(maps.Keys(e.Wrote))}
	switch {
	case e.Create:
		r.Operation = "create"
	case e.Delete:
		r.Operation = "delete"
	}
	if len(e.TagsAdded)+len(e.TagsRemoved) > 0 {
		r.Fields = append(r.Fields, "tags")
	}
	return r
}

// gone tells the transform that the record is not there.
func (t *task) gone(ctx context.Context, id canonical.ExternalID) error {
	o := observation.Observation{
		System: t.cfg.System, Tenant: t.cfg.Tenant, Kind: t.kind, ExternalID: id, Parent: t.parent,
		Via: observation.Fetch, ReadBegan: t.cfg.Clock.Now(), Absent: true,
	}
	var err error
	if o.ParentGone, err = t.parentGone(ctx); err != nil {
		return err
	}
	_, err = t.publish(ctx, o)
	return err
}

// parentGone asks of an item that is gone whether it went by itself, or with
// its contact.
func (t *task) parentGone(ctx context.Context) (bool, error) {
	if t.kind == canonical.KindContact {
		return false, nil
	}
	_, err := t.cfg.Destination.Read(ctx, Ref{Kind: canonical.KindContact, ID: t.parent})
	if gone := apierr.ClassOf(err) == apierr.Gone; gone || err == nil {
		return gone, nil
	}
	return false, t.verdict(err)
}

func (t *task) observed(r Reading, via observation.Via) observation.Observation {
	return observation.Observation{
		System: t.cfg.System, Tenant: t.cfg.Tenant, Kind: t.kind, ExternalID: r.External, Parent: r.Parent,
		Via: via, Endpoint: r.Endpoint, ReadBegan: r.ReadBegan, Modified: r.Modified, Names: r.Names, Record: r.Record,
	}
}

func (t *task) publish(ctx context.Context, o observation.Observation) (uint64, error) {
	body, err := o.Encode()
	if err != nil {
		return 0, bus.Terminate(err)
	}
	return t.publishRaw(ctx, o, body)
}

// publishRaw returns the sequence that o has on RAW, also if it is there
// already.
func (t *task) publishRaw(ctx context.Context, o observation.Observation, body []byte) (uint64, error) {
	ack, err := t.cfg.Bus.Publish(ctx, bus.Message{Subject: streams.Raw(o), ID: o.Key(), Data: body})
	if err != nil {
		return 0, fmt.Errorf("publish %s of entity %s: %w", o.Via, t.id, err)
	}
	return ack.Seq, nil
}

func (t *task) publishWritebacks(ctx context.Context, bodies [][]byte) (last uint64, err error) {
	for _, body := range bodies {
		o, err := observation.Decode(body)
		if err != nil {
			return 0, bus.Terminate(err)
		}
		seq, err := t.publishRaw(ctx, o, body)
		if err != nil {
			return 0, err
		}
		last = max(last, seq)
	}
	return last, nil
}

// class is what err comes to.
func (t *task) class(err *apierr.Error) apierr.Class {
	if err.Class == apierr.Ambiguous && err.Status/100 == 4 && t.last.Create && t.last.Attempt >= refusals {
		return apierr.Invalid // it was looked for each time, and isn't there
	}
	return err.Class
}

// refused says of a write that the system has refused for good, and that would
// be just the same, that it is refused. Without this our own word that we are
// about to write, which is an event, would make us write again.
func (t *task) refused(p plan.Plan) error {
	if t.last.Refused == 0 || !t.failedLast(p) || t.state.Cause.Via == string(observation.Wake) && !t.state.Cause.Replay {
		return nil
	}
	return bus.Explain(bus.Terminate(errors.New(t.last.Reason)), envelope.DeadLetter{Class: envelope.Data, Request: request(t.last),
		Answer: &envelope.Answer{Status: t.last.Refused}})
}

// failedLast reports whether p is what failed last.
func (t *task) failedLast(p plan.Plan) bool {
	return t.last.State == effect.Failed && t.last.Create == p.Create && t.last.Delete == p.Delete && (p.Create || t.last.External == p.External) &&
		maps.Equal(t.last.Wrote, p.Fields) && slices.Equal(t.last.TagsAdded, p.AddTags) && slices.Equal(t.last.TagsRemoved, p.RemoveTags)
}

// pause is how long to wait before p is tried again, if it is what failed last.
// Who hands it out doesn't matter: our own word that we were about to write is
// an event, too, and would have us write again at once, and for ever.
func (t *task) pause(p plan.Plan) time.Duration {
	if !t.failedLast(p) || p.Empty() || t.state.Cause.Via == string(observation.Wake) {
		return 0
	}
	return t.last.At.Add(min(100*time.Millisecond<<min(t.last.Attempt, 10), 30*time.Second)).Sub(t.cfg.Clock.Now())
}

// refusals is how often a refusal is tried again that may have been none.
const refusals = 5

// verdict turns an API error into what the bus is to do about the message.
func (t *task) verdict(err error) error {
	var api *apierr.Error
	if !errors.As(err, &api) {
		return err
	}
	switch t.class(api) {
	case apierr.Wait:
		return bus.Later(err, max(api.RetryAfter, time.Second))
	case apierr.Retry, apierr.Ambiguous, apierr.Refresh:
		return bus.Later(err, t.backoff())
	case apierr.Forbidden:
		t.cfg.Logger.Error().Str("system", string(t.cfg.System)).Str("tenant", string(t.cfg.Tenant)).Err(err).Msg("the credentials don't allow this")
		return bus.Later(err, 30*time.Second)
	case apierr.Duplicate, apierr.Invalid:
		// The value may be another record's that is just losing it: an address
		// that goes from one person to another.
		if api.Class == apierr.Duplicate && t.last.Attempt < handover {
			return bus.Later(err, t.backoff())
		}
		return bus.Explain(bus.Terminate(err), envelope.DeadLetter{Class: envelope.Data,
			Answer: &envelope.Answer{Status: api.Status, Message: apierr.Redact(api.Message), Trace: apierr.Redact(api.TraceID)}})
	}
	return err
}

// handover is how often a write is tried that another record stands in the
// way of.
const handover = 8

// backoff is exponential in the number of deliveries, with full jitter.
func (t *task) backoff() time.Duration {
	ceiling := min(200*time.Millisecond<<min(t.count, 10), 30*time.Second)
	t.mu.Lock()
	defer t.mu.Unlock()
	return 50*time.Millisecond + time.Duration(t.cfg.Rand.Int64N(int64(ceiling)))
}
