package transform

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/goccy/go-json"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/streams"
	"github.com/causeway-sync/causeway/transform/merge"
)

// shard works on its share of the entities in one goroutine. An entity has at
// most one publish under way, because the next one needs its sequence; what
// comes for it meanwhile waits, and the other entities go on.
type shard struct {
	cfg  Config
	in   chan job
	busy map[canonical.CanonicalID]*entity
	idle *lru.Cache[canonical.CanonicalID, *entity]

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
	e   *entity
	seq uint64
	err error
}

func newShard(cfg Config) (*shard, error) {
	idle, err := lru.New[canonical.CanonicalID, *entity](cfg.Cache)
	if err != nil {
		return nil, fmt.Errorf("entity cache: %w", err)
	}
	return &shard{cfg: cfg, in: make(chan job, 64), busy: map[canonical.CanonicalID]*entity{}, idle: idle, signal: make(chan struct{}, 1)}, nil
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
		e.current = e.waiting[0]
		e.waiting = e.waiting[1:]
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
	if !e.loaded {
		if e.state, e.seq, err = load(ctx, s.cfg.Bus, j.tenant, j.kind, e.id); err != nil {
			return false, err
		}
		if e.state.Version == 0 {
			e.state = canonical.NewEvent(j.kind, e.id)
		}
		e.loaded = true
	}
	if j.seen.Absent && e.state.Version == 0 {
		return false, nil
	}
	if parent := e.state.ContactID(); j.seen.Absent && parent != "" {
		contact, _, err := load(ctx, s.cfg.Bus, j.tenant, canonical.KindContact, parent)
		if err != nil {
			return false, err
		}
		j.seen.ParentGone = contact.Deleted() || contact.Sync.Base[j.seen.System].Gone
	}
	next, out := merge.Apply(e.state, j.seen, j.policy.merge())
	if out.Op == "" {
		return false, nil
	}
	if out.Fighting != "" {
		// Before the event: once that is there, a redelivery finds no fight. One
		// letter too many, should the event lose the race, does no harm.
		if err := s.bury(ctx, j, "field "+out.Fighting+" flips between values and is held"); err != nil {
			return false, err
		}
	}
	m, err := event(j.tenant, next, out, e.seq)
	if err != nil {
		return false, bus.Terminate(err)
	}
	e.next = next
	err = s.cfg.Bus.PublishAsync(ctx, m, func(a bus.Ack, err error) {
		s.mu.Lock()
		s.acks = append(s.acks, ack{e, a.Seq, err})
		s.mu.Unlock()
		select {
		case s.signal <- struct{}{}:
		default:
		}
	})
	return err == nil, err
}

// bury sets an entity aside for a person although its observation is handled.
func (s *shard) bury(ctx context.Context, j job, reason string) error {
	d := j.delivery
	data, err := json.Marshal(envelope.DeadLetter{Stage: "transform", Tenant: j.tenant, Kind: j.kind, ID: string(j.id), Reason: reason,
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
