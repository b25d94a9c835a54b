package sink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/goccy/go-json"

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
	log := cfg.Logger.With().Str("system", string(system)).Str("tenant", string(tenant)).Logger()
	for waits := 0; ; waits++ {
		done, err := known(ctx, cfg.Bus, system, tenant)
		switch {
		case done:
			return nil
		case err != nil && ctx.Err() == nil:
			log.Warn().Err(err).Msg("can't tell whether the backfill is complete")
		case waits == 0:
			log.Info().Msg("nothing is written before the backfill is complete")
		}
		if err := clock.Sleep(ctx, cfg.Clock, look); err != nil {
			return err
		}
	}
}

func known(ctx context.Context, b bus.Bus, system canonical.System, tenant canonical.Tenant) (bool, error) {
	cursors, err := b.Bucket(ctx, streams.CURSORS)
	if err != nil {
		return false, err
	}
	value, _, err := cursors.Get(ctx, streams.WalkKey(system, tenant, canonical.KindContact))
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
	return b.Passed(ctx, streams.Transform(), walk.Last)
}
