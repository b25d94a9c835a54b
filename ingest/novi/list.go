package novi

import (
	"context"
	"fmt"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/ingest/poll"
	"github.com/causeway-sync/causeway/internal/noviapi"
	"github.com/causeway-sync/causeway/schemas/observation"
)

const (
	pageSize = 200
	// overlap is how many rows pages share, for members that moved (§7).
	overlap = 5
	// maxRestarts bounds how often a walk begins again because members came
	// or went under it; what it misses then is the next poll's.
	maxRestarts = 3
	// maxShort bounds how often a page that is shorter than it ought to be is
	// asked for again.
	maxShort = 3
)

// cursor is where a walk by offset is. Offsets are not stable under
// concurrent writes, so a total that changes makes it begin again (§7).
type cursor struct {
	Offset   int `json:"offset"`
	Total    int `json:"total"`
	Restarts int `json:"restarts"`
	// Short counts how often the page at Offset came with fewer rows than the
	// total says that there are.
	Short int `json:"short,omitempty"`
}

// List returns one page by offset.
func (r *Reader) List(ctx context.Context, q poll.Query) (poll.Page, error) {
	c := cursor{Total: -1}
	if q.Cursor != nil {
		if err := json.Unmarshal(q.Cursor, &c); err != nil {
			return poll.Page{}, fmt.Errorf("list members: cursor: %w", err)
		}
	}
	found, err := r.client.ListMembers(ctx, q.Lane, noviapi.ListRequest{Offset: c.Offset, PageSize: pageSize, ModifiedSince: q.Since})
	if err != nil {
		return poll.Page{}, err
	}
	page := poll.Page{Total: max(found.TotalCount, 0), Position: c.Offset + len(found.Members)}
	for _, rec := range found.Members {
		page.Observations = append(page.Observations, observe(rec, observation.NoviMemberList))
	}
	page.Next, err = c.next(len(found.Members), found.TotalCount)
	return page, err
}

// next is the cursor after a page of n rows, nil after the last. A page that
// is short although the total says that more follow is asked for again, and
// after some times passed over: an empty page in the middle is no end.
func (c cursor) next(n, total int) (json.RawMessage, error) {
	next := cursor{Offset: c.Offset + n - overlap, Total: total, Restarts: c.Restarts}
	if c.Total > total && total >= 0 {
		next.Offset = max(0, next.Offset-(c.Total-total)) // as many may have moved up
	}
	switch {
	case c.Total >= 0 && total >= 0 && c.Total != total && c.Restarts < maxRestarts:
		next = cursor{Total: total, Restarts: c.Restarts + 1}
	case n >= pageSize:
	case total < 0 || c.Offset+n >= total:
		return nil, nil
	case c.Short < maxShort:
		next.Offset, next.Short = c.Offset, c.Short+1
	case c.Offset+pageSize >= total:
		return nil, nil
	default:
		next.Offset = c.Offset + pageSize - overlap
	}
	return json.Marshal(next)
}
