package novi

import (
	"context"

	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/sink/apply"
)

// tasks are activities of a task type (dossier Novi §12.2).
type tasks struct{ activity }

func (d tasks) find(ctx context.Context, e canonical.Event, parent canonical.ExternalID) (apply.Reading, bool, error) {
	return d.findBy(ctx, e, parent, "due", []string{"title", "body", "due"})
}
