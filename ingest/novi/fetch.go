package novi

import (
	"context"

	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/noviapi"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
)

// Reader reads one site's members.
type Reader struct{ client *noviapi.Client }

// NewReader returns a Reader of the site that client speaks to.
func NewReader(client *noviapi.Client) *Reader { return &Reader{client} }

// Fetch returns a member as it is now.
func (r *Reader) Fetch(ctx context.Context, id canonical.ExternalID) (observation.Observation, error) {
	rec, err := r.client.GetMember(ctx, budget.Hydrate, string(id))
	if err != nil {
		return observation.Observation{}, err
	}
	return observe(rec, observation.NoviMemberGet), nil
}

func observe(rec noviapi.Record, endpoint string) observation.Observation {
	return observation.Observation{
		System: canonical.Novi, ExternalID: canonical.ExternalID(rec.ID), Endpoint: endpoint,
		ReadBegan: rec.ReadBegan, Modified: rec.Modified, Record: rec.Raw,
	}
}
