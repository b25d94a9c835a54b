package sink

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/goccy/go-json"
	"golang.org/x/sync/errgroup"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/streams"
)

// look is how often it is asked whether a backfill is complete.
const look = 500 * time.Millisecond

// backfilled waits until everything that system has at first was read, and
// the transform has seen it. Before that nobody knows who is there already:
// neither system can be asked for a person by all that makes two records the
// same person to the transform.
func backfilled(ctx context.Context, cfg Config, system canonical.System, tenant canonical.Tenant) error {
	return await(ctx, cfg, system, tenant, streams.WalkKey(system, tenant, canonical.KindContact), "nothing is written before the backfill is complete")
}

// early holds the kinds of items of which not all that a system has were read
// yet. Until then one that both systems have would be made a second time. It
// waits for each kind by itself, and for the contacts not at all: to read the
// notes of many takes a while.
type early map[canonical.Kind]*atomic.Bool

func newEarly(system canonical.System) early {
	e := early{}
	for _, kind := range canonical.Items() {
		if system == canonical.GHL && kind == canonical.KindAppointment {
			continue // none is written there
		}
		e[kind] = &atomic.Bool{}
		e[kind].Store(true)
	}
	return e
}

func (e early) is(kind canonical.Kind) bool {
	early := e[kind]
	return early != nil && early.Load()
}

// watch waits, until ctx is done, for the first sweeps through system to be
// complete.
func (e early) watch(ctx context.Context, cfg Config, system canonical.System, tenant canonical.Tenant) {
	var g errgroup.Group
	for kind, early := range e {
		g.Go(func() error {
			for _, sweep := range streams.SweepsOf(system, kind) {
				if err := await(ctx, cfg, system, tenant, streams.SweepKey(system, tenant, sweep), "no "+string(kind)+" is written before all were read"); err != nil {
					return err
				}
			}
			early.Store(false)
			return nil
		})
	}
	_ = g.Wait() // stopped before they were complete
}

// await waits until CURSORS says under key that everything was read once, and
// the transform has seen it.
func await(ctx context.Context, cfg Config, system canonical.System, tenant canonical.Tenant, key, why string) error {
	log := cfg.Logger.With().Str("system", string(system)).Str("tenant", string(tenant)).Logger()
	for waits := 0; ; waits++ {
		done, err := known(ctx, cfg.Bus, key)
		switch {
		case done:
			return nil
		case err != nil && ctx.Err() == nil:
			log.Warn().Err(err).Str("cursor", key).Msg("can't tell whether everything was read")
		case waits == 0:
			log.Info().Msg(why)
		}
		if err := clock.Sleep(ctx, cfg.Clock, look); err != nil {
			return err
		}
	}
}

func known(ctx context.Context, b bus.Bus, key string) (bool, error) {
	cursors, err := b.Bucket(ctx, streams.CURSORS)
	if err != nil {
		return false, err
	}
	value, _, err := cursors.Get(ctx, key)
	switch {
	case errors.Is(err, bus.ErrNotFound):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("load cursor: %w", err)
	}
	var walk streams.Walk
	if err := json.Unmarshal(value, &walk); err != nil {
		return false, fmt.Errorf("load cursor: %w", err)
	}
	if !walk.Backfilled {
		return false, nil
	}
	last := walk.Last
	if log, ok := b.(bus.Log); ok {
		st, err := log.State(ctx, streams.RAW)
		if err != nil {
			return false, err
		}
		last = min(last, st.Last) // what RAW has lost since is waited for by nobody
	}
	return b.Passed(ctx, streams.Transform(), last)
}
