package apply

import (
	"context"
	"sync"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

const (
	// ahead is how many messages the transform may be behind when a write of a
	// backfill begins. Each write gives it two, and what somebody changes meanwhile
	// comes after them all.
	ahead = 128
	// longest is how long such a write waits for it: a transform that is away
	// delays it, and does not keep a sink from stopping.
	longest = 2 * time.Second
	// glance is how often the transform is looked at.
	glance = 100 * time.Millisecond
)

// pace keeps the writes of a backfill from running ahead of the transform,
// which merges in the order of RAW: what is live would wait behind all that
// they have said. It is safe for concurrent use.
type pace struct {
	bus   bus.Reader
	clock clock.Clock

	mu     sync.Mutex
	looked time.Time
	behind uint64
}

// wait returns when the transform has caught up, or after a while.
func (p *pace) wait(ctx context.Context) error {
	for began := p.clock.Now(); ; {
		behind, err := p.look(ctx)
		if err != nil || behind <= ahead || p.clock.Now().Sub(began) >= longest {
			return err
		}
		if err := clock.Sleep(ctx, p.clock, glance); err != nil {
			return err
		}
	}
}

func (p *pace) look(ctx context.Context) (behind uint64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := p.clock.Now(); p.looked.IsZero() || now.Sub(p.looked) >= glance {
		if p.behind, err = p.bus.Behind(ctx, streams.Transform()); err != nil {
			return 0, err
		}
		p.looked = now
	}
	return p.behind, nil
}

// bulk reports whether an event follows from a backfill, a reconcile or a
// replay.
func bulk(m bus.Stored) bool {
	cause := causeOf(m)
	via := observation.Via(cause.Via)
	return cause.Replay || via == observation.Backfill || via == observation.Reconcile
}

// causeOf returns what an event follows from, the zero value if it can't be
// read.
func causeOf(m bus.Stored) canonical.Cause {
	var e struct {
		Cause canonical.Cause `json:"cause"`
	}
	if json.Unmarshal(m.Data, &e) != nil {
		return canonical.Cause{}
	}
	return e.Cause
}
