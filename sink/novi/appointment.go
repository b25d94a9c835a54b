package novi

import (
	"context"

	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/sink/apply"
)

// appointments are mirrored as activities (dossier Novi §12.5).
type appointments struct{ activity }

func (d appointments) find(ctx context.Context, e canonical.Event, parent canonical.ExternalID) (apply.Reading, bool, error) {
	return d.findBy(ctx, e, parent, "start", []string{"title", "summary", "start"})
}
