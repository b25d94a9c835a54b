package novi

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/ingest/poll"
	"github.com/causeway-sync/causeway/internal/noviapi"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
)

const (
	day = 24 * time.Hour
	// past and future are the window's: a task's date is when it is due (§7).
	past, future = 30 * day, 365 * day
	// typesFor is how long the activity types are believed.
	typesFor = time.Hour
)

type activities struct {
	*Reader
	window bool
}

// Activities sweeps the site's tasks, notes and meetings: all of them, or
// those whose date is in a window around now, which is where most changes are.
func (r *Reader) Activities(window bool) poll.Sweeper { return activities{r, window} }

// Kinds are all that activities are.
func (a activities) Kinds() []canonical.Kind { return canonical.Items() }

// Covers says that the sweep of all activities has each of them; what leaves
// the window may just have another date.
func (a activities) Covers(observation.Observation) bool { return !a.window }

// Sweep returns one page by offset. Activities of other types are left out.
func (a activities) Sweep(ctx context.Context, at json.RawMessage) (poll.Page, error) {
	c := cursor{Total: -1}
	if at != nil {
		if err := json.Unmarshal(at, &c); err != nil {
			return poll.Page{}, fmt.Errorf("list activities: cursor: %w", err)
		}
	}
	kinds, err := a.kindsOf(ctx)
	if err != nil {
		return poll.Page{}, err
	}
	req := noviapi.ActivityRequest{Offset: c.Offset, PageSize: pageSize}
	if a.window {
		now := a.clock.Now()
		req.From, req.To = now.Add(-past), now.Add(future)
	}
	found, err := a.client.ListActivities(ctx, a.sweeping, req)
	if err != nil {
		return poll.Page{}, err
	}
	var page poll.Page
	for _, rec := range found.Activities {
		if kind := kinds[strings.ToLower(rec.Type)]; kind != "" {
			page.Observations = append(page.Observations, item(kind, rec, observation.NoviActivityList))
		}
	}
	page.Next, err = c.next(len(found.Activities), found.TotalCount)
	page.Total, page.Position = max(found.TotalCount, 0), c.Offset+len(found.Activities)
	return page, err
}

// kindsOf returns the kinds by activity type, in lower case, by name and by
// slug: which of them an activity says is unknown (§5.2).
func (r *Reader) kindsOf(ctx context.Context) (map[string]canonical.Kind, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock.Now()
	if r.kinds != nil && now.Sub(r.asked) < typesFor {
		return r.kinds, nil
	}
	types, err := r.client.ActivityTypes(ctx, r.sweeping)
	if err != nil {
		return nil, err
	}
	kinds := map[string]canonical.Kind{}
	for _, t := range types {
		var kind canonical.Kind
		switch name := strings.ToLower(t.Name); {
		case t.Task:
			kind = canonical.KindTask
		case name == "note":
			kind = canonical.KindNote
		case name == "meeting":
			kind = canonical.KindAppointment
		default:
			continue
		}
		for _, name := range []string{t.Name, t.Slug} {
			if name != "" {
				kinds[strings.ToLower(name)] = kind
			}
		}
	}
	r.kinds, r.asked = kinds, now
	return kinds, nil
}
