package noviapi

import (
	"context"
	"net/url"
	"time"

	"github.com/goccy/go-json"

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
	activities, total, err := c.page(ctx, lane, listActivities, c.window(r))
	return ActivityPage{Activities: activities, TotalCount: total}, err
}

func (c *Client) window(r ActivityRequest) url.Values {
	q := paging(r.Offset, r.PageSize)
	c.setDate(q, "dateFrom", r.From)
	c.setDate(q, "dateTo", r.To)
	return q
}

// setDate sets a filter, unless the time is zero.
func (c *Client) setDate(q url.Values, key string, t time.Time) {
	if !t.IsZero() {
		q.Set(key, c.date(t))
	}
}

// GetActivity returns an activity; Gone if there is none.
func (c *Client) GetActivity(ctx context.Context, lane budget.Lane, id string) (Record, error) {
	return c.get(ctx, lane, getActivity, 1, id)
}

// GetActivityToPut is GetActivity for a PutActivity that follows at once: the
// call budget of both is taken before.
func (c *Client) GetActivityToPut(ctx context.Context, lane budget.Lane, id string) (Record, error) {
	return c.get(ctx, lane, getActivityToPut, 2, id)
}

// PutActivity replaces the whole activity, which GetActivityToPut has just
// read: what body lacks becomes null (§3.4). Its call is paid for.
func (c *Client) PutActivity(ctx context.Context, lane budget.Lane, id string, body json.RawMessage) (Record, error) {
	return c.put(ctx, lane, putActivity, body, id)
}

// CreateActivity makes an activity. The record may hold its id only.
func (c *Client) CreateActivity(ctx context.Context, lane budget.Lane, body json.RawMessage) (Record, error) {
	return c.create(ctx, lane, createActivity, body)
}

// DeleteActivity deletes an activity; Gone if there is none.
func (c *Client) DeleteActivity(ctx context.Context, lane budget.Lane, id string) error {
	_, err := c.do(ctx, lane, deleteActivity, []string{id}, nil, nil, 1)
	return err
}

// ActivityType is a type that activities may have. Task marks those of
// something to do (§5.3).
type ActivityType struct {
	UniqueID, Name, Slug     string
	Active, SystemType, Task bool
}

// ActivityTypes returns all types.
func (c *Client) ActivityTypes(ctx context.Context, lane budget.Lane) ([]ActivityType, error) {
	return lookup(c, ctx, lane, activityTypes, nil, func(t ActivityType) string {
		if t.Name == "" {
			return ""
		}
		return t.UniqueID + t.Name
	})
}

// UnmarshalJSON reads a type, which is active unless it says otherwise.
func (t *ActivityType) UnmarshalJSON(raw []byte) error {
	type plain ActivityType
	p := plain{Active: true}
	err := json.Unmarshal(raw, &p)
	*t = ActivityType(p)
	return err
}

// CreateActivityType makes a type of activities; its id and slug are Novi's to
// give, so the record may hold its id only.
func (c *Client) CreateActivityType(ctx context.Context, lane budget.Lane, name string, task bool) (Record, error) {
	body, err := encode(createActivityType, map[string]any{"Name": name, "Task": task, "Active": true})
	if err != nil {
		return Record{}, err
	}
	return c.create(ctx, lane, createActivityType, body)
}

// UpdateActivityType sets the given keys of a type; this is the one PUT that
// keeps what it is not given (§3.4).
func (c *Client) UpdateActivityType(ctx context.Context, lane budget.Lane, id string, fields map[string]any) error {
	body, err := encode(updateActivityType, fields)
	if err != nil {
		return err
	}
	_, err = c.do(ctx, lane, updateActivityType, []string{id}, nil, body, 1)
	return err
}

// MembershipActivities returns one page of the log of membership changes: who
// joined, lapsed or changed type, and when. They can't be written.
func (c *Client) MembershipActivities(ctx context.Context, lane budget.Lane, r ActivityRequest) (ActivityPage, error) {
	activities, total, err := c.page(ctx, lane, listMembershipActivities, c.window(r))
	return ActivityPage{Activities: activities, TotalCount: total}, err
}

// GetMembershipActivity returns an entry of that log; Gone if there is none.
func (c *Client) GetMembershipActivity(ctx context.Context, lane budget.Lane, id string) (Record, error) {
	return c.get(ctx, lane, getMembershipActivity, 1, id)
}
