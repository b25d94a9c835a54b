package novisim

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// registration is somebody's registration for an event, with one attendee. It
// is not in the ledger.
type registration struct {
	id, number, attendee, event, member string
	at, modified                        time.Time
	cancelled                           bool
}

// Register registers a member for an event, as a person does on the site, and
// returns the registration's id. Errors: ErrNotFound.
func (s *Server) Register(eventID, memberID string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.event(eventID) == nil {
		return "", fmt.Errorf("register: event: %w: %s", ErrNotFound, eventID)
	}
	if s.members[memberID] == nil {
		return "", fmt.Errorf("register: member: %w: %s", ErrNotFound, memberID)
	}
	n, now := len(s.registrations)+1, s.conf.Now()
	x := registration{id: fmt.Sprintf("72656769-0000-4000-8000-%012x", n), number: fmt.Sprintf("R%05d", n),
		attendee: fmt.Sprintf("61747465-0000-4000-8000-%012x", n), event: eventID, member: memberID, at: now, modified: now}
	s.registrations = append(s.registrations, x)
	return x.id, nil
}

// Unregister cancels a registration; its attendee shows it. Errors:
// ErrNotFound.
func (s *Server) Unregister(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.registrations {
		if x := &s.registrations[i]; x.id == id {
			x.cancelled, x.modified = true, s.conf.Now()
			return nil
		}
	}
	return fmt.Errorf("unregister: %w: %s", ErrNotFound, id)
}

func (s *Server) event(id string) *Event {
	for i := range s.conf.Events {
		if s.conf.Events[i].UniqueID == id {
			return &s.conf.Events[i]
		}
	}
	return nil
}

func (s *Server) renderEvent(e Event) map[string]any {
	category := any(nil)
	for _, k := range s.conf.EventCategories {
		if k.ID == e.Category {
			category = k
		}
	}
	return map[string]any{"EventUniqueId": e.UniqueID, "Name": e.Name, "Active": true, "Details": "", "Summary": nil,
		"StartDate": s.stamp(e.Start), "EndDate": s.stamp(e.End), "AllDayEvent": false, "TimeZone": s.conf.Timezone.String(), "Url": "/event/" + e.UniqueID,
		"LocationType": "InPerson", "LocationName": e.Place, "Address1": "", "Address2": nil, "City": "", "State": "", "ZipCode": "", "Country": nil,
		"OnlineLinkText": nil, "OnlineLinkUrl": nil, "EventCategory": category, "InternalNotes": ""}
}

func (s *Server) listEvents(w http.ResponseWriter, _ *http.Request, _ []byte) {
	out := []any{}
	for _, e := range s.conf.Events {
		out = append(out, s.renderEvent(e))
	}
	reply(w, http.StatusOK, out)
}

func (s *Server) getEvent(w http.ResponseWriter, r *http.Request, _ []byte) {
	if e := s.event(r.PathValue("id")); e != nil {
		reply(w, http.StatusOK, s.renderEvent(*e))
		return
	}
	message(w, http.StatusNotFound, "Not found.")
}

func (s *Server) listEventCategories(w http.ResponseWriter, _ *http.Request, _ []byte) {
	reply(w, http.StatusOK, append([]EventCategory{}, s.conf.EventCategories...))
}

// text is a member's text field; "" for null and for a member that is gone.
func (s *Server) text(memberID, field string) string {
	if m := s.members[memberID]; m != nil {
		v, _ := m.values[field].(string)
		return v
	}
	return ""
}

func (s *Server) renderRegistration(x registration) map[string]any {
	return map[string]any{"RegistrationUniqueID": x.id, "RegistrationNumber": x.number, "EventUniqueID": x.event, "EventName": s.event(x.event).Name,
		"PurchaserUniqueID": x.member, "BillablePartyUniqueID": nil, "GuestName": nil, "GuestEmail": nil, "GuestPhone": nil,
		"ConfirmationEmail": s.text(x.member, "Email"), "PaymentStatus": "Paid", "RegistrationDate": s.stamp(x.at)}
}

func (s *Server) listRegistrations(w http.ResponseWriter, r *http.Request, _ []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	paged(w, r, s.registrations, func(x registration) any { return s.renderRegistration(x) })
}

func (s *Server) getRegistration(w http.ResponseWriter, r *http.Request, _ []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := indexed(w, r, s.registrations, func(x registration) string { return x.id }); i >= 0 {
		reply(w, http.StatusOK, s.renderRegistration(s.registrations[i]))
	}
}

// listAttendees filters from the day of either date on, that day included
// (invented, as for members).
func (s *Server) listAttendees(w http.ResponseWriter, r *http.Request, _ []byte) {
	registered, ok := s.bounds(w, r, "registrationDate", "")
	if !ok {
		return
	}
	modified, ok := s.bounds(w, r, "lastModifiedDate", "")
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []any{}
	for _, x := range s.registrations {
		if !within(x.at, registered) || !within(x.modified, modified) {
			continue
		}
		cancelled := any(nil)
		if x.cancelled {
			cancelled = s.stamp(x.modified)
		}
		out = append(out, map[string]any{"AttendeeUniqueID": x.attendee, "RegistrationUniqueID": x.id, "EventUniqueId": x.event, "EventName": s.event(x.event).Name,
			"FullName": s.text(x.member, "Name"), "FirstName": s.text(x.member, "FirstName"), "LastName": s.text(x.member, "LastName"), "CompanyName": "",
			"Email": s.text(x.member, "Email"), "Phone": nil, "Cancelled": x.cancelled, "CancellationDate": cancelled, "Attended": false,
			"PaymentStatus": "Paid", "RegistrationDate": s.stamp(x.at), "AttendeeCustomerUniqueId": x.member, "TicketUniqueId": nil})
	}
	reply(w, http.StatusOK, out)
}

// eventsFor hands on to h if the key of r has event access.
func (s *Server) eventsFor(h func(http.ResponseWriter, *http.Request, []byte)) func(http.ResponseWriter, *http.Request, []byte) {
	return func(w http.ResponseWriter, r *http.Request, body []byte) {
		key := strings.TrimPrefix(r.Header.Get("Authorization"), "Basic ")
		for _, without := range s.conf.NoEvents {
			if key == without {
				message(w, http.StatusForbidden, "The key has no access to events.")
				return
			}
		}
		h(w, r, body)
	}
}
