package ghlapi

import (
	"context"
	"net/http"
	"net/url"

	"github.com/causeway-sync/causeway/internal/budget"
)

// TaskKeys are the keys that a task's body may have, at its creation (which
// needs title, dueDate and completed) and later (§3.7).
var TaskKeys = []string{"title", "body", "dueDate", "completed", "assignedTo"}

// below is the path of a contact's tasks, notes or appointments, or of one.
func below(contactID, kind string, id ...string) string {
	path := "/contacts/" + url.PathEscape(contactID) + "/" + kind
	for _, s := range id {
		path += "/" + url.PathEscape(s)
	}
	return path
}

// Tasks returns all tasks of a contact; Gone if there is no such contact.
func (c *Client) Tasks(ctx context.Context, lane budget.Lane, contactID string) ([]Record, error) {
	return c.list(ctx, lane, "list tasks", http.MethodGet, below(contactID, "tasks"), "tasks", nil)
}

// GetTask returns a task; Gone if there is none, or no such contact. A task
// has no stamps, so Modified is zero.
func (c *Client) GetTask(ctx context.Context, lane budget.Lane, contactID, id string) (Record, error) {
	return c.call(ctx, lane, "get task", http.MethodGet, below(contactID, "tasks", id), "task", nil, false)
}

// CreateTask makes a task with the given keys, which must be of TaskKeys.
func (c *Client) CreateTask(ctx context.Context, lane budget.Lane, contactID string, body map[string]any) (Record, error) {
	const op = "create task"
	if err := check(op, body, TaskKeys); err != nil {
		return Record{}, err
	}
	return c.call(ctx, lane, op, http.MethodPost, below(contactID, "tasks"), "task", body, true)
}

// UpdateTask sets the given keys, which must be of TaskKeys; absent keys keep
// their values. A dueDate must be without fractions of a second (§3.7).
func (c *Client) UpdateTask(ctx context.Context, lane budget.Lane, contactID, id string, body map[string]any) (Record, error) {
	const op = "update task"
	if err := check(op, body, TaskKeys); err != nil {
		return Record{}, err
	}
	return c.call(ctx, lane, op, http.MethodPut, below(contactID, "tasks", id), "task", body, true)
}

// CompleteTask says whether a task is done.
func (c *Client) CompleteTask(ctx context.Context, lane budget.Lane, contactID, id string, completed bool) (Record, error) {
	return c.call(ctx, lane, "complete task", http.MethodPut, below(contactID, "tasks", id, "completed"), "task", map[string]any{"completed": completed}, true)
}

// DeleteTask deletes a task; Gone if there is none.
func (c *Client) DeleteTask(ctx context.Context, lane budget.Lane, contactID, id string) error {
	_, err := c.do(ctx, lane, "delete task", http.MethodDelete, below(contactID, "tasks", id), nil, true)
	return err
}

// TaskSearch asks for tasks of the whole location; an empty field asks for
// any. No order is promised, so pages may overlap or miss tasks (§3.8).
type TaskSearch struct {
	ContactIDs []string `json:"contactId,omitempty"`
	Completed  *bool    `json:"completed,omitempty"`
	AssignedTo []string `json:"assignedTo,omitempty"` // user ids
	Query      string   `json:"query,omitempty"`
	Limit      int      `json:"limit,omitempty"` // at most 100; 0 is GHL's own, 25
	Skip       int      `json:"skip,omitempty"`
}

// SearchTasks returns one page; it is the last if it has fewer than Limit.
func (c *Client) SearchTasks(ctx context.Context, lane budget.Lane, s TaskSearch) ([]Record, error) {
	return c.list(ctx, lane, "search tasks", http.MethodPost, "/locations/"+url.PathEscape(c.cfg.LocationID)+"/tasks/search", "tasks", s)
}
