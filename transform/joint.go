package transform

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/transform/identity"
	"github.com/causeway-sync/causeway/transform/merge"
)

// joint is what a job about two entities waits for: both, each with all that
// came for it before. Then both are held until it is done, and the dispatcher
// waits too, so that within a process a merge is decided at its place in RAW. Against other instances
// each publish expects the entity's last sequence: who loses loads both and
// decides again.
type joint struct {
	// mine is the entity that the job is about, other the one that it may be
	// too. Of an unmerge mine is the one that was merged into other.
	mine, other canonical.CanonicalID
	// wroteFor is the entity that a writeback was written for.
	wroteFor canonical.CanonicalID

	mu      sync.Mutex
	parties []party
	done    chan struct{}
}

func newJoint(mine, other canonical.CanonicalID) *joint {
	return &joint{mine: mine, other: other, done: make(chan struct{})}
}

type party struct {
	s *shard
	e *entity
}

const (
	// joins is how often a merge that loses a race is decided again at once.
	joins = 8
	// doubts is how often a record that looks like somebody else's is looked
	// at before it becomes a dead letter; see [Config.Doubt].
	doubts = 8
)

// arrive says that the job is the next one for e. The second to arrive sets to
// work; both shards go on with other entities meanwhile.
func (w *joint) arrive(ctx context.Context, s *shard, e *entity) {
	w.mu.Lock()
	w.parties = append(w.parties, party{s, e})
	both := len(w.parties) == 2
	w.mu.Unlock()
	if both {
		go w.work(ctx)
	}
}

func (w *joint) work(ctx context.Context) {
	mine, other := w.parties[0], w.parties[1]
	if mine.e.id != w.mine {
		mine, other = other, mine
	}
	j := mine.e.current
	j.delivery.Done(mine.s.join(ctx, j, mine.e, other.e))
	close(w.done)
	for _, p := range w.parties {
		p.s.ack(ack{e: p.e, joint: true})
	}
}

// join merges what j saw into mine, and folds mine and other if that shows
// them to be one, or takes the two apart.
func (s *shard) join(ctx context.Context, j job, mine, other *entity) error {
	for range joins {
		for _, e := range []*entity{mine, other} {
			if err := s.load(ctx, j, e); err != nil {
				return err
			}
		}
		steps, again, err := s.decide(ctx, j, mine, other)
		if err != nil {
			return err
		}
		if err = s.publish(ctx, j, steps, mine, other); err == nil {
			return again
		} else if !errors.Is(err, bus.ErrWrongSequence) {
			return err
		}
	}
	return bus.Later(fmt.Errorf("entities %s and %s are being changed", mine.id, other.id), 100*time.Millisecond)
}

// decide returns what is to be published, in that order, and whether j is to be
// looked at again after that, or nil.
func (s *shard) decide(ctx context.Context, j job, mine, other *entity) (steps []merge.Step, again, err error) {
	if j.seen.Via == observation.Unmerge {
		if into := other.state.MergedInto; into != "" {
			return nil, nil, yours(envelope.Data, fmt.Errorf("unmerge entity %s: entity %s was merged into %s since, and has to be taken out before", mine.id, other.id, into))
		}
		steps, why := merge.Unmerge(other.state, mine.state, j.seen, j.policy.merge())
		if why != "" {
			return nil, nil, yours(envelope.Data, fmt.Errorf("unmerge entity %s: %s", mine.id, why))
		}
		return steps, nil, nil
	}
	for _, e := range []*entity{mine, other} {
		of := j
		if e == other {
			of.by = ""
		}
		if err := s.followed(of, e); err != nil {
			return nil, nil, err
		}
	}
	if forgotten, err := s.forgotten(ctx, j, mine); err != nil || forgotten {
		return nil, nil, err
	}
	switch {
	case j.seen.Absent && mine.state.Version == 0:
		return nil, nil, nil
	case other.state.Version == 0 && j.delivery.Count < doubts:
		// Another instance works on what made it claim the key.
		return nil, nil, bus.Later(fmt.Errorf("entity %s is on its way", other.id), 250*time.Millisecond)
	}
	if j.seen.Before, err = Before(ctx, s.cfg.Bus, j.tenant, mine.state, j.seen, j.policy.Lens); err != nil {
		return nil, nil, err
	}
	if on := other.state.ContactID(); on != "" {
		contact, err := s.contact(ctx, j.tenant, on)
		if err != nil {
			return nil, nil, err
		}
		j.seen.OtherContact = contact.ID()
	}
	steps, likeness := merge.Join(mine.state, other.state, j.seen, j.policy.merge())
	doubt := fmt.Errorf("%s record %s shows an identity key of entity %s: %w", j.seen.System, j.seen.External, other.id, identity.ErrAmbiguous)
	switch {
	case likeness != merge.Same && other.id == j.with.wroteFor:
		return nil, nil, yours(envelope.Data, fmt.Errorf("%s record %s was written for entity %s and is linked to %s: %w", j.seen.System, j.seen.External, other.id, mine.id, identity.ErrAmbiguous))
	case likeness != merge.Doubtful:
		doubt = j.doubt
	case j.delivery.Count < doubts && mine.state.Version == 0:
		return nil, nil, bus.Later(doubt, s.cfg.Doubt/doubts)
	case mine.state.Version == 0:
		return nil, nil, yours(envelope.Data, doubt)
	case j.delivery.Count < doubts:
		if raises(j, mine.state, steps) {
			again = bus.Later(doubt, s.cfg.Doubt/doubts)
		}
		doubt = nil
	case raises(j, mine.state, steps):
		if err := s.bury(ctx, j, doubt.Error()); err != nil {
			return nil, nil, err
		}
		doubt = nil
	}
	for _, step := range steps {
		if step.State.ID() == mine.id {
			if err := s.letters(ctx, j, step.State, step.Outcome, doubt); err != nil {
				return nil, nil, err
			}
		}
	}
	return steps, again, nil
}

// raises reports whether what j saw raises a doubt about who somebody is, and
// not what was seen before: it has given, now or when it was looked at before,
// a name or an identity key.
func raises(j job, mine canonical.Event, steps []merge.Step) bool {
	if len(steps) == 0 && j.delivery.Count == 1 {
		return false
	}
	for _, step := range steps {
		if step.State.ID() == mine.ID() {
			mine = step.State
		}
	}
	return slices.ContainsFunc(known(j), func(f string) bool { return mine.Sync.Stamps[f].Seq == j.seen.At.Seq })
}

// known are the fields by which the tenant knows a person.
func known(j job) []string {
	return append([]string{"first_name", "last_name"}, j.policy.Rules.Keys()...)
}

// publish publishes the steps one after the other. What has been published when
// one fails stays: deciding again goes on from there.
func (s *shard) publish(ctx context.Context, j job, steps []merge.Step, mine, other *entity) error {
	for _, step := range steps {
		e := mine
		if step.State.ID() == other.id {
			e = other
		}
		m, err := event(j.tenant, step.State, step.Outcome, e.seq)
		if err != nil {
			return bus.Terminate(err)
		}
		a, err := s.cfg.Bus.Publish(ctx, m)
		if err != nil {
			mine.loaded, other.loaded = false, false
			return err
		}
		was := e.state
		e.state, e.seq = step.State, a.Seq
		if was.MergedInto != step.State.MergedInto {
			s.who.Merged(e.id, step.State.MergedInto)
		}
	}
	if i := slices.IndexFunc(steps, func(step merge.Step) bool { return step.Op == canonical.OpMerged }); i >= 0 {
		s.cfg.Logger.Info().Str("tenant", string(j.tenant)).Str("id", string(steps[i].State.ID())).Str("into", string(steps[i].State.MergedInto)).
			Uint64("seq", j.delivery.Seq).Msg("merged")
	}
	return nil
}
