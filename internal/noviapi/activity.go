package noviapi

import (
	"context"
	"net/http"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/budget"
)

// ActivityRequest asks for one page of activities: tasks, notes, meetings and
// whatever else is on the members' timelines. Zero times don't filter.
type ActivityRequest struct {
	Offset   int
	PageSize int
	// From and To are inclusive and most likely about the activity's own date,
	// not about when it was changed; the site may read the days only (§3.2).
	From, To time.Time
}

// ActivityPage is one page.
type ActivityPage struct {
	Activities []Record
	TotalCount int // -1 if the site does not say
}

// ListActivities returns one page.
func (c *Client) ListActivities(ctx context.Context, lane budget.Lane, r ActivityRequest) (ActivityPage, error) {
	q := paging(r.Offset, r.PageSize)
	if !r.From.IsZero() {
		q.Set("dateFrom", c.date(r.From))
	}
	if !r.To.IsZero() {
		q.Set("dateTo", c.date(r.To))
	}
	activities, total, err := c.page(ctx, lane, "list activities", c.cfg.Paths.Activities, q)
	return ActivityPage{Activities: activities, TotalCount: total}, err
}

// GetActivity returns an activity; Gone if there is none.
func (c *Client) GetActivity(ctx context.Context, lane budget.Lane, id string) (Record, error) {
	return c.get(ctx, lane, "get activity", c.cfg.Paths.Activity, id, 1)
}

// GetActivityToPut is GetActivity for a PutActivity that follows at once: the
// call budget of both is taken before.
func (c *Client) GetActivityToPut(ctx context.Context, lane budget.Lane, id string) (Record, error) {
	return c.get(ctx, lane, "get activity", c.cfg.Paths.Activity, id, 2)
}

// PutActivity replaces the whole activity, which GetActivityToPut has just
// read: what body lacks becomes null (§3.4). Its call is paid for.
func (c *Client) PutActivity(ctx context.Context, lane budget.Lane, id string, body json.RawMessage) (Record, error) {
	return c.put(ctx, lane, "put activity", c.cfg.Paths.Activity, id, body)
}

// CreateActivity makes an activity. The record may hold its id only.
func (c *Client) CreateActivity(ctx context.Context, lane budget.Lane, body json.RawMessage) (Record, error) {
	return c.create(ctx, lane, "create activity", c.cfg.Paths.Activities, body)
}

// DeleteActivity deletes an activity; Gone if there is none.
func (c *Client) DeleteActivity(ctx context.Context, lane budget.Lane, id string) error {
	_, err := c.do(ctx, lane, "delete activity", http.MethodDelete, c.cfg.Paths.Activity, id, nil, nil, true, 1)
	return err
}

// ActivityType is a type that activities may have. Task marks those of
// something to do (§5.3).
type ActivityType struct {
	UniqueID, Name, Slug     string
	Active, SystemType, Task bool
}

// typePage is how many types are asked for at a time, the most that was seen
// in use (§3.1).
const typePage = 1000

// ActivityTypes returns all types.
func (c *Client) ActivityTypes(ctx context.Context, lane budget.Lane) ([]ActivityType, error) {
	const op = "list activity types"
	var types []ActivityType
	seen := map[string]bool{}
	for {
		a, err := c.do(ctx, lane, op, http.MethodGet, c.cfg.Paths.ActivityTypes, "", paging(len(types), typePage), nil, false, 1)
		if err != nil {
			return nil, err
		}
		elements, total, err := c.results(op, a)
		if err != nil {
			return nil, err
		}
		known := len(types)
		for _, raw := range elements {
			t := ActivityType{Active: true} // unless it says otherwise
			if json.Unmarshal(raw, &t) != nil || t.Name == "" {
				return nil, &apierr.Error{System: "novi", Op: op, Status: a.Status, Class: apierr.Retry, Message: "a type has no name"}
			}
			if !seen[t.UniqueID+t.Name] {
				seen[t.UniqueID+t.Name] = true
				types = append(types, t)
			}
		}
		// A site that pays no heed to the offset shows the same ones again.
		if len(types) >= total || len(types) == known {
			return types, nil
		}
	}
}
