package ghl

import (
	"context"
	"time"

	"github.com/causeway-sync/causeway/ingest/poll"
	"github.com/causeway-sync/causeway/internal/ghlapi"
	"github.com/causeway-sync/causeway/schemas/observation"
)

const (
	pageLimit = 100 // of at most 500 (§3.3)
	taskPage  = 100 // the most that is known to be allowed (§3.8)
	// indexLag is how far the search index may be behind: "seconds" (§4.7). A
	// row shows the record as it was up to that long ago.
	indexLag = 10 * time.Second
)

// List returns one page of the search, by date of modification or, for all of
// them, by date of creation (§3.3). Rows lack dndSettings (#31), and with them
// the opt-outs, so they are partial.
func (r *Reader) List(ctx context.Context, q poll.Query) (poll.Page, error) {
	req := ghlapi.SearchRequest{PageLimit: pageLimit, SearchAfter: q.Cursor, Sort: []ghlapi.Sort{{Field: "dateAdded", Direction: "asc"}}}
	if !q.Since.IsZero() {
		req.Sort = []ghlapi.Sort{{Field: "dateUpdated", Direction: "asc"}}
		req.Filters = []ghlapi.Filter{{Field: "dateUpdated", Operator: "range",
			Value: map[string]string{"gte": q.Since.UTC().Format("2006-01-02T15:04:05.000Z")}}}
	}
	found, err := r.client.SearchContacts(ctx, q.Lane, req)
	if err != nil {
		return poll.Page{}, err
	}
	page := poll.Page{Partial: true}
	for _, rec := range found.Contacts {
		rec.ReadBegan = rec.ReadBegan.Add(-indexLag)
		o, err := r.observe(ctx, rec, observation.GHLContactSearch, q.Lane)
		if err != nil {
			return poll.Page{}, err
		}
		page.Observations = append(page.Observations, o)
	}
	if len(found.Contacts) == pageLimit {
		page.Next = found.SearchAfter
	}
	return page, nil
}
