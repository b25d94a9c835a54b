package novi

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/noviapi"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
)

// Reader reads one site's members and their activities.
type Reader struct {
	client *noviapi.Client
	clock  clock.Clock
	// fetching and sweeping are the lanes of what has none of its own.
	fetching, sweeping budget.Lane

	mu    sync.Mutex
	kinds map[string]canonical.Kind // by activity type; replaced, never changed
	asked time.Time                 // when the types were
}

// NewReader returns a Reader of the site that client speaks to.
func NewReader(client *noviapi.Client, clk clock.Clock) *Reader {
	return &Reader{client: client, clock: clk, fetching: budget.Hydrate, sweeping: budget.Poll}
}

// In returns a Reader of the same site, all of whose calls are in lane.
func (r *Reader) In(lane budget.Lane) *Reader {
	return &Reader{client: r.client, clock: r.clock, fetching: lane, sweeping: lane}
}

// Fetch returns a member or an activity as it is now. An activity is of the
// kind that is asked for, even if its type has become another: it is there.
func (r *Reader) Fetch(ctx context.Context, about observation.Observation) (observation.Observation, error) {
	if slices.Contains(canonical.Items(), about.Kind) {
		rec, err := r.client.GetActivity(ctx, r.fetching, string(about.ExternalID))
		if err != nil {
			return observation.Observation{}, err
		}
		return item(about.Kind, rec, observation.NoviActivityGet), nil
	}
	rec, err := r.client.GetMember(ctx, r.fetching, string(about.ExternalID))
	if err != nil {
		return observation.Observation{}, err
	}
	return observe(rec, observation.NoviMemberGet), nil
}

func item(kind canonical.Kind, rec noviapi.Record, endpoint string) observation.Observation {
	o := observe(rec, endpoint)
	o.Kind, o.Parent = kind, canonical.ExternalID(rec.MemberID)
	return o
}

func observe(rec noviapi.Record, endpoint string) observation.Observation {
	return observation.Observation{
		System: canonical.Novi, ExternalID: canonical.ExternalID(rec.ID), Endpoint: endpoint,
		ReadBegan: rec.ReadBegan, Modified: rec.Modified, Record: rec.Raw,
	}
}
