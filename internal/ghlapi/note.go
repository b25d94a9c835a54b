package ghlapi

import (
	"context"

	"github.com/causeway-sync/causeway/internal/budget"
)

// NoteKeys are the keys that a note's body may have, at its creation (which
// needs body) and later (§3.9).
var NoteKeys = []string{"body", "userId", "title", "color", "pinned"}

// Notes returns all notes of a contact; Gone if there is no such contact.
func (c *Client) Notes(ctx context.Context, lane budget.Lane, contactID string) ([]Record, error) {
	return c.list(ctx, lane, listNotes, listNotes.At(contactID), "notes", nil)
}

// GetNote returns a note; Gone if there is none, or no such contact. A note
// has no dateUpdated, so Modified is zero.
func (c *Client) GetNote(ctx context.Context, lane budget.Lane, contactID, id string) (Record, error) {
	return c.call(ctx, lane, getNote, getNote.At(contactID, id), "note", nil)
}

// CreateNote makes a note with the given keys, which must be of NoteKeys.
func (c *Client) CreateNote(ctx context.Context, lane budget.Lane, contactID string, body map[string]any) (Record, error) {
	if err := check(createNote.Op, body, NoteKeys); err != nil {
		return Record{}, err
	}
	return c.call(ctx, lane, createNote, createNote.At(contactID), "note", body)
}

// UpdateNote sets the given keys, which must be of NoteKeys; absent keys keep
// their values.
func (c *Client) UpdateNote(ctx context.Context, lane budget.Lane, contactID, id string, body map[string]any) (Record, error) {
	if err := check(updateNote.Op, body, NoteKeys); err != nil {
		return Record{}, err
	}
	return c.call(ctx, lane, updateNote, updateNote.At(contactID, id), "note", body)
}

// DeleteNote deletes a note; Gone if there is none.
func (c *Client) DeleteNote(ctx context.Context, lane budget.Lane, contactID, id string) error {
	return c.done(ctx, lane, deleteNote, deleteNote.At(contactID, id), nil)
}
