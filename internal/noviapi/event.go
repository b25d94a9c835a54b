package noviapi

import (
	"context"
	"net/url"
	"strconv"
	"time"

	"github.com/causeway-sync/causeway/internal/budget"
)

// Novi's events are public, ticketed and may post to QuickBooks: they are read
// only (§12.5). Reading them needs a key with event access.

// Events returns all events. They have no date of change.
func (c *Client) Events(ctx context.Context, lane budget.Lane) ([]Record, error) {
	events, _, err := c.page(ctx, lane, listEvents, nil)
	return events, err
}

// GetEvent returns an event; Gone if there is none.
func (c *Client) GetEvent(ctx context.Context, lane budget.Lane, id string) (Record, error) {
	return c.get(ctx, lane, getEvent, 1, id)
}

// EventCategory is what events are filed under.
type EventCategory struct {
	ID     int
	Name   string
	Active bool
}

// EventCategories returns all categories of events.
func (c *Client) EventCategories(ctx context.Context, lane budget.Lane) ([]EventCategory, error) {
	return lookup(c, ctx, lane, eventCategories, nil, func(k EventCategory) string { return strconv.Itoa(k.ID) })
}

// Registrations returns one page of registrations, and how many there are, -1
// if the site does not say.
func (c *Client) Registrations(ctx context.Context, lane budget.Lane, offset, size int) ([]Record, int, error) {
	return c.page(ctx, lane, listRegistrations, paging(offset, size))
}

// GetRegistration returns a registration; Gone if there is none.
func (c *Client) GetRegistration(ctx context.Context, lane budget.Lane, id string) (Record, error) {
	return c.get(ctx, lane, getRegistration, 1, id)
}

// AttendeesRequest says which attendees; a zero time does not filter.
type AttendeesRequest struct {
	RegisteredSince, ModifiedSince time.Time
}

// Attendees returns the attendees of all events.
func (c *Client) Attendees(ctx context.Context, lane budget.Lane, r AttendeesRequest) ([]Record, error) {
	q := url.Values{}
	c.setDate(q, "registrationDate", r.RegisteredSince)
	c.setDate(q, "lastModifiedDate", r.ModifiedSince)
	attendees, _, err := c.page(ctx, lane, listAttendees, q)
	return attendees, err
}
