package transform

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/goccy/go-json"
	lru "github.com/hashicorp/golang-lru/v2"
	"go.opentelemetry.io/otel/attribute"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/erase"
	"github.com/causeway-sync/causeway/internal/trace"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/streams"
	"github.com/causeway-sync/causeway/transform/identity"
	"github.com/causeway-sync/causeway/transform/merge"
)

// shard works on its share of the entities in one goroutine. An entity has at
// most one publish under way, because the next one needs its sequence; what
// comes for it meanwhile waits, and the other entities go on.
type shard struct {
	cfg Config
	who *identity.Resolver
	// erased are the records of people who are to be forgotten.
	erased *erase.Tombstones
	in     chan job
	busy   map[canonical.CanonicalID]*entity
	idle   *lru.Cache[canonical.CanonicalID, *entity]

	mu     sync.Mutex
	acks   []ack
	signal chan struct{}
}

type entity struct {
	id      canonical.CanonicalID
	state   canonical.Event
	seq     uint64
	loaded  bool
	next    canonical.Event // being published for current
	current job
	waiting []job
}

type ack struct {
	e     *entity
	seq   uint64
	err   error
	joint bool // a joint job is done, and has settled its delivery
	// found says that this is no answer to a publish but the state that was
	// looked up, or the reason why not.
	found bool
	state bus.Stored
}

func newShard(cfg Config, who *identity.Resolver) (*shard, error) {
	idle, err := lru.New[canonical.CanonicalID, *entity](cfg.Cache)
	if err != nil {
		return nil, fmt.Errorf("entity cache: %w", err)
	}
	return &shard{cfg: cfg, who: who, in: make(chan job, row), busy: map[canonical.CanonicalID]*entity{}, idle: idle, signal: make(chan struct{}, 1)}, nil
}

// run works until in is closed and nothing is under way.
func (s *shard) run(ctx context.Context) {
	in := s.in
	for in != nil || len(s.busy) > 0 {
		select {
		case j, ok := <-in:
			if !ok {
				in = nil
				continue
			}
			s.take(ctx, j)
		case <-s.signal:
			s.mu.Lock()
			acks := s.acks
			s.acks = nil
			s.mu.Unlock()
			for _, a := range acks {
				s.published(ctx, a)
			}
		}
	}
}

func (s *shard) take(ctx context.Context, j job) {
	if e, ok := s.busy[j.id]; ok {
		e.waiting = append(e.waiting, j) // bounded by the consumer's unacked limit
		return
	}
	e, ok := s.idle.Get(j.id)
	if !ok {
		e = &entity{id: j.id}
	}
	e.waiting = append(e.waiting, j)
	s.step(ctx, e)
}

// step works on what waits for e until a publish is under way or nothing is
// left.
func (s *shard) step(ctx context.Context, e *entity) {
	for len(e.waiting) > 0 {
		if s.fetch(ctx, e, e.waiting[0]) {
			s.busy[e.id] = e
			s.idle.Remove(e.id)
			return
		}
		e.current = e.waiting[0]
		e.waiting = e.waiting[1:]
		if with := e.current.with; with != nil {
			s.busy[e.id] = e
			s.idle.Remove(e.id)
			with.arrive(ctx, s, e)
			return
		}
		started, err := s.merge(ctx, e)
		if started {
			s.busy[e.id] = e
			s.idle.Remove(e.id)
			return
		}
		e.current.delivery.Done(err)
	}
	e.waiting, e.current, e.next = nil, job{}, canonical.Event{}
	delete(s.busy, e.id)
	s.idle.Add(e.id, e)
}

func (s *shard) merge(ctx context.Context, e *entity) (started bool, err error) {
	j := e.current
	if err := s.load(ctx, j, e); err != nil {
		return false, err
	}
	if err := s.followed(j, e); err != nil {
		return false, err
	}
	if j.seen.Absent && e.state.Version == 0 {
		return false, nil
	}
	if forgotten, err := s.forgotten(ctx, j, e); err != nil || forgotten {
		return false, err
	}
	if parent := e.state.ContactID(); j.seen.Absent && parent != "" {
		gone, replaced, err := s.parentGone(ctx, j, e, parent)
		if err != nil {
			return false, err
		}
		// Whoever saw that it is gone may know of the contact before we do.
		j.seen.ParentGone, j.seen.ParentReplaced = j.seen.ParentGone || gone, replaced
	}
	if j.seen.Before, err = Before(ctx, s.cfg.Bus, j.tenant, e.state, j.seen, j.policy.Lens); err != nil {
		return false, err
	}
	next, out := merge.Apply(e.state, j.seen, j.policy.merge())
	if out.Op == "" {
		return false, nil
	}
	if err := s.letters(ctx, j, next, out, j.doubt); err != nil {
		return false, err
	}
	m, err := event(j.tenant, next, out, e.seq)
	if err != nil {
		return false, bus.Terminate(err)
	}
	e.next = next
	done := func(error) {}
	if trace.Traced(j.delivery.Header) {
		var span trace.Span
		ctx, span = trace.Start(trace.From(ctx, j.delivery.Header), "merge", attribute.String("causeway.tenant", string(j.tenant)),
			attribute.String("causeway.kind", string(j.kind)), attribute.String("causeway.op", string(out.Op)))
		done = span.End
	}
	err = s.cfg.Bus.PublishAsync(ctx, m, func(a bus.Ack, err error) {
		done(err)
		s.ack(ack{e: e, seq: a.Seq, err: err})
	})
	return err == nil, err
}

// forgotten reports whether what j is about was erased: no entity is made of it
// again. Only one that there is not has to be asked about.
func (s *shard) forgotten(ctx context.Context, j job, e *entity) (bool, error) {
	if e.state.Version > 0 || !j.seen.Via.Shows() {
		return false, nil
	}
	r := erase.Record{Tenant: j.tenant, Kind: j.kind, System: j.seen.System, External: j.seen.External}
	if is, err := s.erased.Has(ctx, r); err != nil || is || j.kind == canonical.KindContact || j.seen.Shown.Parent == "" {
		return is, err
	}
	r.Kind, r.External = canonical.KindContact, j.seen.Shown.Parent // what hangs on somebody goes with them
	return s.erased.Has(ctx, r)
}

// ack wakes the shard; it may be called from any goroutine.
func (s *shard) ack(a ack) {
	s.mu.Lock()
	s.acks = append(s.acks, a)
	s.mu.Unlock()
	select {
	case s.signal <- struct{}{}:
	default:
	}
}

// fetch looks up e's state for j, if it isn't there, and reports whether there
// is something to wait for. Other entities go on meanwhile.
func (s *shard) fetch(ctx context.Context, e *entity, j job) bool {
	switch {
	case e.loaded || j.with != nil:
		return false
	case j.fresh:
		e.state, e.seq, e.loaded = canonical.NewEvent(j.kind, e.id), 0, true // should there be one, the publish is refused
		return false
	}
	looker, ok := s.cfg.Bus.(bus.Looker)
	if !ok {
		return false
	}
	err := looker.LastAsync(ctx, streams.CANONICAL, streams.Entity(j.kind, j.tenant, e.id), func(m bus.Stored, err error) {
		s.ack(ack{e: e, found: true, state: m, err: err})
	})
	return err == nil // else load says why not
}

// fetched takes what was looked up.
func (s *shard) fetched(e *entity, m bus.Stored, err error) {
	switch j := e.waiting[0]; {
	case errors.Is(err, bus.ErrNotFound):
		e.state, e.seq, e.loaded = canonical.NewEvent(j.kind, e.id), 0, true
		return
	case err == nil:
		if e.state, err = canonical.DecodeEvent(m.Data); err == nil {
			e.seq, e.loaded = m.Seq, true
			return
		}
	}
	j := e.waiting[0]
	e.waiting = e.waiting[1:]
	j.delivery.Done(fmt.Errorf("load entity %s: %w", e.id, err))
}

// load sees to it that e's state is there.
func (s *shard) load(ctx context.Context, j job, e *entity) (err error) {
	if e.loaded {
		return nil
	}
	if e.state, e.seq, err = load(ctx, s.cfg.Bus, j.tenant, j.kind, e.id); err != nil {
		return err
	}
	if e.state.Version == 0 {
		e.state = canonical.NewEvent(j.kind, e.id)
	}
	e.loaded = true
	return nil
}

// followed sends j back if e isn't the entity that it is about: e was merged
// into another, or isn't the one any more that j's was merged into. Resolving
// it again then finds that one.
func (s *shard) followed(j job, e *entity) error {
	switch {
	case e.state.MergedInto != "":
		s.who.Merged(e.id, e.state.MergedInto)
	case j.by != "" && !slices.ContainsFunc(e.state.Sync.Folded, func(f canonical.Folded) bool { return f.ID == j.by }):
		s.who.Merged(j.by, "")
	default:
		return nil
	}
	return bus.Later(fmt.Errorf("entity %s is another one now", e.id), 20*time.Millisecond)
}

// parentGone reports whether the contact's record on which the item's record
// hangs is gone too, and whether the contact has another instead: we took that
// one away, or people merged the two.
func (s *shard) parentGone(ctx context.Context, j job, e *entity, parent canonical.CanonicalID) (gone, replaced bool, err error) {
	contact, err := s.contact(ctx, j.tenant, parent)
	if err != nil {
		return false, false, err
	}
	record, known := contact.Record(j.seen.System, e.state.Sync.Base[j.seen.System].Parent)
	if !known {
		record = contact.Sync.Base[j.seen.System]
	}
	primary := contact.Sync.Base[j.seen.System]
	replaced = record.Gone && primary.External != "" && !primary.Gone && !contact.Deleted()
	return contact.Deleted() || record.Gone, replaced, nil
}

// contact returns the state of a contact, or of the one that it was merged into.
func (s *shard) contact(ctx context.Context, tenant canonical.Tenant, id canonical.CanonicalID) (canonical.Event, error) {
	contact, _, err := load(ctx, s.cfg.Bus, tenant, canonical.KindContact, id)
	for err == nil && contact.MergedInto != "" {
		contact, _, err = load(ctx, s.cfg.Bus, tenant, canonical.KindContact, contact.MergedInto)
	}
	return contact, err
}

// letters sets aside for a person what an event leaves open. They come before
// the event: once that is there, a redelivery finds nothing to say. One letter
// too many, should the event lose the race, does no harm.
func (s *shard) letters(ctx context.Context, j job, next canonical.Event, out merge.Outcome, doubt error) error {
	if out.Fighting != "" {
		if err := s.bury(ctx, j, "field "+out.Fighting+" flips between values and is held"); err != nil {
			return err
		}
	}
	if doubt == nil || !slices.ContainsFunc(next.Changes, func(c canonical.Change) bool { return c.From != c.To && slices.Contains(known(j), c.Field) }) {
		return nil // said when the keys met
	}
	return s.bury(ctx, j, doubt.Error())
}

// bury sets an entity aside for a person although its observation is handled.
func (s *shard) bury(ctx context.Context, j job, reason string) error {
	d := j.delivery
	data, err := json.Marshal(envelope.DeadLetter{Stage: "transform", Tenant: j.tenant, Kind: j.kind, ID: string(j.id), Class: envelope.Data, Reason: reason,
		At: d.Time.UTC(), Stream: d.Stream, Sequence: d.Seq, Subject: d.Subject})
	if err == nil {
		_, err = s.cfg.Bus.Publish(ctx, bus.Message{Subject: streams.Dead("transform", j.tenant, j.kind, string(j.id)), Data: data})
	}
	if err != nil {
		return fmt.Errorf("dead letter of entity %s: %w", j.id, err)
	}
	s.cfg.Logger.Error().Str("tenant", string(j.tenant)).Str("id", string(j.id)).Uint64("seq", d.Seq).Str("reason", reason).Msg("dead letter")
	return nil
}

func (s *shard) published(ctx context.Context, a ack) {
	e := a.e
	switch {
	case a.joint:
	case a.found:
		s.fetched(e, a.state, a.err)
	case a.err == nil:
		e.state, e.seq = e.next, a.seq
		e.current.delivery.Done(nil)
	case errors.Is(a.err, bus.ErrWrongSequence):
		// Another instance was first: load and merge again.
		e.loaded = false
		e.waiting = append([]job{e.current}, e.waiting...)
	default:
		// Nobody knows whether it is there; what is loaded next will tell.
		e.loaded = false
		e.current.delivery.Done(a.err)
	}
	s.step(ctx, e)
}
