package ghl

import (
	"context"
	"time"

	"github.com/goccy/go-json"

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

// maxShort bounds how often a page that ends before the total is asked for
// again.
const maxShort = 3

// cursor is where a walk is: After is the search's own cursor, and Shown counts
// the contacts before it.
type cursor struct {
	After json.RawMessage `json:"after,omitempty"`
	Shown int             `json:"shown"`
	Short int             `json:"short,omitempty"`
}

// List returns one page of the search, by date of modification or, for all of
// them, by date of creation (§3.3). Rows lack dndSettings (#31), and with them
// the opt-outs, so they are partial. A page that is not full ends the walk only
// if the total agrees: an empty page in the middle is asked for again.
func (r *Reader) List(ctx context.Context, q poll.Query) (poll.Page, error) {
	var c cursor
	if q.Cursor != nil {
		if err := json.Unmarshal(q.Cursor, &c); err != nil {
			c = cursor{After: q.Cursor} // kept by a version that had no more
		}
	}
	req := ghlapi.SearchRequest{PageLimit: pageLimit, SearchAfter: c.After, Sort: []ghlapi.Sort{{Field: "dateAdded", Direction: "asc"}}}
	if !q.Since.IsZero() {
		req.Sort = []ghlapi.Sort{{Field: "dateUpdated", Direction: "asc"}}
		req.Filters = []ghlapi.Filter{{Field: "dateUpdated", Operator: "range",
			Value: map[string]string{"gte": q.Since.UTC().Format("2006-01-02T15:04:05.000Z")}}}
	}
	found, err := r.client.SearchContacts(ctx, q.Lane, req)
	if err != nil {
		return poll.Page{}, err
	}
	n := len(found.Contacts)
	page := poll.Page{Partial: true, Total: found.Total, Position: c.Shown + n}
	for _, rec := range found.Contacts {
		rec.ReadBegan = rec.ReadBegan.Add(-indexLag)
		o, err := r.observe(ctx, rec, observation.GHLContactSearch, q.Lane)
		if err != nil {
			return poll.Page{}, err
		}
		page.Observations = append(page.Observations, o)
	}
	next := cursor{After: found.SearchAfter, Shown: c.Shown + n}
	switch {
	case n == pageLimit:
	case page.Position >= found.Total || c.Short == maxShort:
		return page, nil
	default:
		// What has come is passed, and what ought to follow is asked for.
		if next.Short = c.Short + 1; n == 0 {
			next.After = c.After
		}
	}
	page.Next, err = json.Marshal(next)
	return page, err
}
