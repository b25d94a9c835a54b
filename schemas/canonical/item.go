package canonical

import (
	"slices"
	"strings"
)

// Task is something to do about a contact.
//
// Its events are causeway.task.<op>.v1.
type Task struct {
	ID        CanonicalID `json:"id"`
	ContactID CanonicalID `json:"contact_id,omitempty"` // empty until the contact is known
	Title     string      `json:"title,omitempty"`
	Body      string      `json:"body,omitempty"` // plain text or HTML, as its author wrote it
	Due       string      `json:"due,omitempty"`  // RFC 3339 in UTC, to the second
	Completed bool        `json:"completed,omitempty"`
	Assignee  string      `json:"assignee,omitempty"` // a name of the mapping's user table
	Deleted   bool        `json:"deleted,omitempty"`
}

// Note is something that was written about a contact.
//
// Its events are causeway.note.<op>.v1.
type Note struct {
	ID        CanonicalID `json:"id"`
	ContactID CanonicalID `json:"contact_id,omitempty"`
	Title     string      `json:"title,omitempty"`
	Body      string      `json:"body,omitempty"`    // plain text or HTML, as its author wrote it
	Author    string      `json:"author,omitempty"`  // a name of the mapping's user table
	Written   string      `json:"written,omitempty"` // RFC 3339 in UTC, to the second
	Deleted   bool        `json:"deleted,omitempty"`
}

// Appointment is a meeting with a contact. It is read from GHL and mirrored.
//
// Its events are causeway.appointment.<op>.v1.
type Appointment struct {
	ID        CanonicalID `json:"id"`
	ContactID CanonicalID `json:"contact_id,omitempty"`
	Title     string      `json:"title,omitempty"`
	Notes     string      `json:"notes,omitempty"`
	Start     string      `json:"start,omitempty"` // RFC 3339 in UTC, to the second
	End       string      `json:"end,omitempty"`
	Status    string      `json:"status,omitempty"` // as the calendar has it: confirmed, cancelled, …
	Place     string      `json:"place,omitempty"`
	Deleted   bool        `json:"deleted,omitempty"`
}

// value is how one named field of T is read and set as text.
type value[T any] struct {
	text func(*T) *string
	flag func(*T) *bool
}

var taskFields = map[string]value[Task]{
	"title":     {text: func(t *Task) *string { return &t.Title }},
	"body":      {text: func(t *Task) *string { return &t.Body }},
	"due":       {text: func(t *Task) *string { return &t.Due }},
	"completed": {flag: func(t *Task) *bool { return &t.Completed }},
	"assignee":  {text: func(t *Task) *string { return &t.Assignee }},
}

var noteFields = map[string]value[Note]{
	"title":   {text: func(n *Note) *string { return &n.Title }},
	"body":    {text: func(n *Note) *string { return &n.Body }},
	"author":  {text: func(n *Note) *string { return &n.Author }},
	"written": {text: func(n *Note) *string { return &n.Written }},
}

var appointmentFields = map[string]value[Appointment]{
	"title":  {text: func(a *Appointment) *string { return &a.Title }},
	"notes":  {text: func(a *Appointment) *string { return &a.Notes }},
	"start":  {text: func(a *Appointment) *string { return &a.Start }},
	"end":    {text: func(a *Appointment) *string { return &a.End }},
	"status": {text: func(a *Appointment) *string { return &a.Status }},
	"place":  {text: func(a *Appointment) *string { return &a.Place }},
}

// Summary is what an appointment comes to besides its title and its start, in
// words, for a system that has no fields for it.
func (a Appointment) Summary() string {
	var lines []string
	if a.Notes != "" {
		lines = append(lines, a.Notes)
	}
	for _, l := range [][2]string{{"Ends", a.End}, {"Status", a.Status}, {"Place", a.Place}} {
		if l[1] != "" {
			lines = append(lines, l[0]+": "+l[1])
		}
	}
	return strings.Join(lines, "\n")
}

func get[T any](fields map[string]value[T], record *T, name string) string {
	f, ok := fields[name]
	switch {
	case !ok || record == nil:
		return ""
	case f.text != nil:
		return *f.text(record)
	case *f.flag(record):
		return "true"
	}
	return ""
}

// set returns a copy of record with the named field set.
func set[T any](fields map[string]value[T], record *T, name, to string) (*T, bool) {
	f, ok := fields[name]
	if !ok || record == nil {
		return record, false
	}
	c := *record
	if f.text != nil {
		*f.text(&c) = to
	} else {
		*f.flag(&c) = to == "true"
	}
	return &c, true
}

func names[T any](fields map[string]value[T]) []string {
	out := make([]string, 0, len(fields))
	for name := range fields {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// Fields returns the names of the fields of a record of kind that have values
// of their own, sorted; for a contact see [ContactFields].
func Fields(kind Kind) []string {
	switch kind {
	case KindContact:
		return ContactFields()
	case KindTask:
		return names(taskFields)
	case KindNote:
		return names(noteFields)
	case KindAppointment:
		return names(appointmentFields)
	}
	return nil
}
