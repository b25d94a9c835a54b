package ghlapi

import (
	"context"
	"maps"
	"net/url"
	"strconv"
	"time"

	"github.com/causeway-sync/causeway/internal/budget"
)

// ContactAppointments returns all appointments of a contact; Gone if there is
// no such contact. Its times have no zone: they are the location's, while
// GetAppointment's have an offset (§3.11).
func (c *Client) ContactAppointments(ctx context.Context, lane budget.Lane, contactID string) ([]Record, error) {
	return c.list(ctx, lane, contactAppointments, contactAppointments.At(contactID), "events", nil)
}

// GetAppointment returns an appointment; Gone if there is none.
func (c *Client) GetAppointment(ctx context.Context, lane budget.Lane, id string) (Record, error) {
	return c.call(ctx, lane, getAppointment, getAppointment.At(id), "event", nil)
}

// AppointmentKeys are the keys that an appointment's body may have, at its
// creation (which needs calendarId and startTime) and later (§3.11).
var AppointmentKeys = []string{"calendarId", "startTime", "endTime", "title", "description", "address", "assignedUserId", "meetingLocationType",
	"meetingLocationId", "overrideLocationConfig", "appointmentStatus", "ignoreDateRange", "toNotify", "ignoreFreeSlotValidation", "rrule"}

// CreateAppointment makes an appointment of a contact with the given keys,
// which must be of AppointmentKeys. The record that it returns has no stamps
// (#246).
func (c *Client) CreateAppointment(ctx context.Context, lane budget.Lane, contactID string, body map[string]any) (Record, error) {
	if err := check(createAppointment.Op, body, AppointmentKeys); err != nil {
		return Record{}, err
	}
	whole := map[string]any{"contactId": contactID}
	maps.Copy(whole, body)
	return c.call(ctx, lane, createAppointment, createAppointment.Path, "", c.located(whole))
}

// UpdateAppointment sets the given keys, which must be of AppointmentKeys.
func (c *Client) UpdateAppointment(ctx context.Context, lane budget.Lane, id string, body map[string]any) (Record, error) {
	if err := check(updateAppointment.Op, body, AppointmentKeys); err != nil {
		return Record{}, err
	}
	return c.call(ctx, lane, updateAppointment, updateAppointment.At(id), "", body)
}

// DeleteAppointment deletes an appointment; Gone if there is none.
func (c *Client) DeleteAppointment(ctx context.Context, lane budget.Lane, id string) error {
	return c.done(ctx, lane, deleteAppointment, deleteAppointment.At(id), nothing{})
}

// EventsRequest asks for the appointments of one calendar, one user or one
// group of calendars that begin within a time.
type EventsRequest struct {
	CalendarID, UserID, GroupID string
	From, To                    time.Time
}

// CalendarEvents returns what is in a calendar.
func (c *Client) CalendarEvents(ctx context.Context, lane budget.Lane, r EventsRequest) ([]Record, error) {
	q := url.Values{"locationId": {c.cfg.LocationID}, "startTime": {strconv.FormatInt(r.From.UnixMilli(), 10)}, "endTime": {strconv.FormatInt(r.To.UnixMilli(), 10)}}
	setText(q, "calendarId", r.CalendarID)
	setText(q, "userId", r.UserID)
	setText(q, "groupId", r.GroupID)
	return c.list(ctx, lane, calendarEvents, calendarEvents.Path+"?"+q.Encode(), "events", nil)
}
