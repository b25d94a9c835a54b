package ghlapi

import (
	"context"

	"github.com/causeway-sync/causeway/internal/budget"
)

// TaskKeys are the keys that a task's body may have, at its creation (which
// needs title, dueDate and completed) and later (§3.7).
var TaskKeys = []string{"title", "body", "dueDate", "completed", "assignedTo"}

// Tasks returns all tasks of a contact; Gone if there is no such contact.
func (c *Client) Tasks(ctx context.Context, lane budget.Lane, contactID string) ([]Record, error) {
	return c.list(ctx, lane, listTasks, listTasks.At(contactID), "tasks", nil)
}

// GetTask returns a task; Gone if there is none, or no such contact. A task
// has no stamps, so Modified is zero.
func (c *Client) GetTask(ctx context.Context, lane budget.Lane, contactID, id string) (Record, error) {
	return c.call(ctx, lane, getTask, getTask.At(contactID, id), "task", nil)
}

// CreateTask makes a task with the given keys, which must be of TaskKeys.
func (c *Client) CreateTask(ctx context.Context, lane budget.Lane, contactID string, body map[string]any) (Record, error) {
	if err := check(createTask.Op, body, TaskKeys); err != nil {
		return Record{}, err
	}
	return c.call(ctx, lane, createTask, createTask.At(contactID), "task", body)
}

// UpdateTask sets the given keys, which must be of TaskKeys; absent keys keep
// their values. A dueDate must be without fractions of a second (§3.7).
func (c *Client) UpdateTask(ctx context.Context, lane budget.Lane, contactID, id string, body map[string]any) (Record, error) {
	if err := check(updateTask.Op, body, TaskKeys); err != nil {
		return Record{}, err
	}
	return c.call(ctx, lane, updateTask, updateTask.At(contactID, id), "task", body)
}

// CompleteTask says whether a task is done.
func (c *Client) CompleteTask(ctx context.Context, lane budget.Lane, contactID, id string, completed bool) (Record, error) {
	return c.call(ctx, lane, completeTask, completeTask.At(contactID, id), "task", map[string]any{"completed": completed})
}

// DeleteTask deletes a task; Gone if there is none.
func (c *Client) DeleteTask(ctx context.Context, lane budget.Lane, contactID, id string) error {
	return c.done(ctx, lane, deleteTask, deleteTask.At(contactID, id), nil)
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
	return c.list(ctx, lane, searchTasks, searchTasks.At(c.cfg.LocationID), "tasks", s)
}
