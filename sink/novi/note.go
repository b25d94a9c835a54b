package novi

import (
	"context"

	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/sink/apply"
)

// notes are activities of the note type (dossier Novi §12.3).
type notes struct{ activity }

func (d notes) find(ctx context.Context, e canonical.Event, parent canonical.ExternalID) (apply.Reading, bool, error) {
	return d.findBy(ctx, e, parent, "written", []string{"title", "body", "written"})
}
