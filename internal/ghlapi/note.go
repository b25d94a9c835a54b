package ghlapi

import (
	"context"
	"net/http"

	"github.com/causeway-sync/causeway/internal/budget"
)

// NoteKeys are the keys that a note's body may have, at its creation (which
// needs body) and later (§3.9).
var NoteKeys = []string{"body", "userId", "title", "color", "pinned"}

// Notes returns all notes of a contact; Gone if there is no such contact.
func (c *Client) Notes(ctx context.Context, lane budget.Lane, contactID string) ([]Record, error) {
	return c.list(ctx, lane, "list notes", http.MethodGet, below(contactID, "notes"), "notes", nil)
}

// GetNote returns a note; Gone if there is none, or no such contact. A note
// has no dateUpdated, so Modified is zero.
func (c *Client) GetNote(ctx context.Context, lane budget.Lane, contactID, id string) (Record, error) {
	return c.call(ctx, lane, "get note", http.MethodGet, below(contactID, "notes", id), "note", nil, false)
}

// CreateNote makes a note with the given keys, which must be of NoteKeys.
func (c *Client) CreateNote(ctx context.Context, lane budget.Lane, contactID string, body map[string]any) (Record, error) {
	const op = "create note"
	if err := check(op, body, NoteKeys); err != nil {
		return Record{}, err
	}
	return c.call(ctx, lane, op, http.MethodPost, below(contactID, "notes"), "note", body, true)
}

// UpdateNote sets the given keys, which must be of NoteKeys; absent keys keep
// their values.
func (c *Client) UpdateNote(ctx context.Context, lane budget.Lane, contactID, id string, body map[string]any) (Record, error) {
	const op = "update note"
	if err := check(op, body, NoteKeys); err != nil {
		return Record{}, err
	}
	return c.call(ctx, lane, op, http.MethodPut, below(contactID, "notes", id), "note", body, true)
}

// DeleteNote deletes a note; Gone if there is none.
func (c *Client) DeleteNote(ctx context.Context, lane budget.Lane, contactID, id string) error {
	_, err := c.do(ctx, lane, "delete note", http.MethodDelete, below(contactID, "notes", id), nil, true)
	return err
}
