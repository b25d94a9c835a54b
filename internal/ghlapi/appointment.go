package ghlapi

import (
	"context"
	"net/http"
	"net/url"

	"github.com/causeway-sync/causeway/internal/budget"
)

// ContactAppointments returns all appointments of a contact; Gone if there is
// no such contact. Its times have no zone: they are the location's, while
// GetAppointment's have an offset (§3.11).
func (c *Client) ContactAppointments(ctx context.Context, lane budget.Lane, contactID string) ([]Record, error) {
	return c.list(ctx, lane, "list appointments", http.MethodGet, below(contactID, "appointments"), "events", nil)
}

// GetAppointment returns an appointment; Gone if there is none.
func (c *Client) GetAppointment(ctx context.Context, lane budget.Lane, id string) (Record, error) {
	return c.call(ctx, lane, "get appointment", http.MethodGet, "/calendars/events/appointments/"+url.PathEscape(id), "event", nil, false)
}
