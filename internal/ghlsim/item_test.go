package ghlsim_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/causeway-sync/causeway/internal/ghlsim"
)

const (
	aTask         = `{"title":"Renewal call","body":"About dues","dueDate":"2026-02-01T12:00:00-05:00","completed":false,"assignedTo":"u1"}`
	aNote         = `{"body":" <p>Spoke</p> ","userId":"u1","title":"Call","color":"#FFAA00","pinned":true}`
	anAppointment = `"calendarId":"cal1","locationId":"loc1","startTime":"2026-02-01T10:00:00-05:00","title":"Visit","description":"Bring forms","assignedUserId":"u2"`
)

// made makes a record and returns its id: what a reply holds under key, or the
// whole reply if key is empty.
func (s *sim) made(method, path, body, key string, status int) string {
	s.t.Helper()
	a := s.do(method, path, body)
	want(s.t, method+" "+path, a.status, status)
	var in any = a.body
	if key != "" {
		in = a.body[key]
	}
	id, _ := dig(in, "id").(string)
	return id
}

func (s *sim) task(contact string) string {
	s.t.Helper()
	return s.made("POST", "/contacts/"+contact+"/tasks", aTask, "task", 201)
}

func (s *sim) note(contact string) string {
	s.t.Helper()
	return s.made("POST", "/contacts/"+contact+"/notes", aNote, "note", 201)
}

func (s *sim) appointment(contact string) string {
	s.t.Helper()
	return s.made("POST", "/calendars/events/appointments", `{"contactId":"`+contact+`",`+anAppointment+`}`, "", 200)
}

func TestTasks(t *testing.T) {
	s := setup(t, nil)
	c := s.create(`{}`)
	id := s.task(c)
	path := "/contacts/" + c + "/tasks/" + id
	shown := func(more string) any {
		return parse(t, `{"id":"`+id+`","contactId":"`+c+`","title":"Renewal call","dueDate":"2026-02-01T17:00:00.000Z",`+more+`}`)
	}
	a := s.do("GET", path, "")
	want(t, "get", []any{a.status, a.body["task"]}, []any{200, shown(`"body":"About dues","assignedTo":"u1","completed":false`)})
	a = s.do("PUT", path, `{"body":"","assignedTo":null,"dueDate":"2026-02-01T17:00:00Z"}`)
	want(t, "put", []any{a.status, a.body["task"]}, []any{200, shown(`"completed":false`)})
	a = s.do("PUT", path+"/completed", `{"completed":true}`)
	want(t, "completed", []any{a.status, a.body["task"]}, []any{200, shown(`"completed":true`)})
	second := s.task(c)
	list, _ := s.do("GET", "/contacts/"+c+"/tasks", "").body["tasks"].([]any)
	want(t, "list", []any{len(list), list[0], dig(list[1], "id")}, []any{2, shown(`"completed":true`), second})
	a = s.do("DELETE", path, "")
	want(t, "delete", []any{a.status, a.body["succeded"]}, []any{200, true})
	want(t, "gone", s.do("GET", path, "").status, 404)
	list, _ = s.do("GET", "/contacts/"+c+"/tasks", "").body["tasks"].([]any)
	want(t, "list after", len(list), 1)
	want(t, "contact untouched", s.contact(c)["dateUpdated"], any("2026-01-05T10:00:00.000Z"))
}

func TestNotes(t *testing.T) {
	s := setup(t, nil)
	c := s.create(`{}`)
	id := s.note(c)
	path := "/contacts/" + c + "/notes/" + id
	s.clock.Advance(time.Hour)
	note := parse(t, `{"id":"`+id+`","contactId":"`+c+`","body":" <p>Spoke</p> ","userId":"u1","title":"Call","color":"#FFAA00","pinned":true,"dateAdded":"2026-01-05T10:00:00.000Z"}`)
	a := s.do("GET", path, "")
	want(t, "get", []any{a.status, a.body["note"]}, []any{200, note})
	a = s.do("PUT", path, `{"body":"New","title":"","color":"","userId":""}`)
	want(t, "put", []any{a.status, a.body["note"]}, []any{200, parse(t, `{"id":"`+id+`","contactId":"`+c+`","body":"New","pinned":true,"dateAdded":"2026-01-05T10:00:00.000Z"}`)})
	a = s.do("GET", "/contacts/"+c+"/notes", "")
	want(t, "list", []any{a.status, len(a.body["notes"].([]any))}, []any{200, 1})
	a = s.do("DELETE", path, "")
	want(t, "delete", []any{a.status, a.body["succeded"]}, []any{200, true})
	want(t, "gone", s.do("DELETE", path, "").status, 404)
}

func TestAppointments(t *testing.T) {
	s := setup(t, nil)
	c := s.create(`{}`)
	a := s.do("POST", "/calendars/events/appointments", `{"contactId":"`+c+`","toNotify":false,`+anAppointment+`}`)
	id, _ := a.body["id"].(string)
	delete(a.body, "traceId")
	want(t, "create", []any{a.status, any(a.body)}, []any{200, parse(t, `{"id":"`+id+`","contactId":"`+c+`","locationId":"loc1","calendarId":"cal1","title":"Visit","assignedUserId":"u2",
		"startTime":"2026-02-01T10:00:00-05:00","endTime":"2026-02-01T10:30:00-05:00","appointmentStatus":"confirmed","isRecurring":false}`)})
	s.clock.Advance(time.Minute)
	path := "/calendars/events/appointments/" + id
	a = s.do("PUT", path, `{"appointmentStatus":"showed","endTime":"2026-02-01T17:00:00Z"}`)
	want(t, "put", []any{a.status, a.body["appointmentStatus"], a.body["id"], a.body["dateUpdated"]}, []any{200, "showed", id, nil})
	a = s.do("GET", path, "")
	e := a.body["event"]
	want(t, "get", []any{a.status, dig(e, "startTime"), dig(e, "endTime"), dig(e, "description"), dig(e, "dateUpdated")},
		[]any{200, "2026-02-01T10:00:00-05:00", "2026-02-01T17:00:00Z", "Bring forms", "2026-01-05T10:01:00.000Z"})
	a = s.do("GET", "/contacts/"+c+"/appointments", "")
	want(t, "of the contact", []any{a.status, a.body["events"]}, []any{200, parse(t, `[{"id":"`+id+`","contactId":"`+c+`","locationId":"loc1","calendarId":"cal1","title":"Visit",
		"assignedUserId":"u2","notes":"Bring forms","status":"booked","appointmentStatus":"showed","startTime":"2026-02-01 10:00:00","endTime":"2026-02-01 12:00:00",
		"users":[],"assignedResources":[],"dateAdded":"2026-01-05 05:00:00","dateUpdated":"2026-01-05 05:01:00"}]`)})
	a = s.do("DELETE", "/calendars/events/"+id, "")
	want(t, "delete", []any{a.status, a.body["succeeded"]}, []any{201, true})
	want(t, "gone", s.do("GET", path, "").status, 404)
}

func TestItemStatus(t *testing.T) {
	const gone = `"Task with id none not found"`
	tests := []struct {
		name, token, method, path, body string
		quirks                          ghlsim.Quirks
		status                          int
		message                         string // JSON
	}{
		{"task of no contact", good, "GET", "/contacts/none/tasks", "", ghlsim.Quirks{}, 400, `"Contact with id none not found"`},
		{"task of another location", other, "GET", "/contacts/C/tasks/T", "", ghlsim.Quirks{}, 403, `"The token does not have access to this location."`},
		{"no task", good, "GET", "/contacts/C/tasks/none", "", ghlsim.Quirks{}, 404, gone},
		{"no task, 400", good, "DELETE", "/contacts/C/tasks/none", "", ghlsim.Quirks{MissingItem400: true}, 400, gone},
		{"no task to complete", good, "PUT", "/contacts/C/tasks/none/completed", `{"completed":true}`, ghlsim.Quirks{}, 404, gone},
		{"a note is no task", good, "GET", "/contacts/C/tasks/N", "", ghlsim.Quirks{}, 404, `"Task with id N not found"`},
		{"task of another contact", good, "GET", "/contacts/D/tasks/T", "", ghlsim.Quirks{}, 404, `"Task with id T not found"`},
		{"no note", good, "PUT", "/contacts/C/notes/none", `{"body":"x"}`, ghlsim.Quirks{}, 404, `"Note with id none not found"`},
		{"no appointment", good, "GET", "/calendars/events/appointments/none", "", ghlsim.Quirks{}, 404, `"Appointment with id none not found"`},
		{"appointment of another location", other, "GET", "/calendars/events/appointments/A", "", ghlsim.Quirks{}, 403, `"The token does not have access to this location."`},
		{"write without scope", readOnly, "POST", "/contacts/C/tasks", aTask, ghlsim.Quirks{}, 401, `"The token is not authorized for this scope."`},
		{"search without scope", readOnly, "POST", "/locations/loc1/tasks/search", `{}`, ghlsim.Quirks{}, 401, `"The token is not authorized for this scope."`},
		{"users without scope", readOnly, "GET", "/users/?locationId=loc1", "", ghlsim.Quirks{}, 401, `"The token is not authorized for this scope."`},
		{"calendar without scope", readOnly, "GET", "/calendars/events/appointments/A", "", ghlsim.Quirks{}, 401, `"The token is not authorized for this scope."`},
		{"no PATCH", good, "PATCH", "/contacts/C/tasks/T", `{}`, ghlsim.Quirks{}, 404, `"Cannot PATCH /contacts/C/tasks/T"`},

		{"task needs", good, "POST", "/contacts/C/tasks", `{}`, ghlsim.Quirks{}, 422, `["completed must be a boolean value","completed should not be empty",
			"dueDate must be a valid ISO 8601 date string","dueDate should not be empty","title must be a string","title should not be empty"]`},
		{"task with locationId", good, "POST", "/contacts/C/tasks", strings.Replace(aTask, "{", `{"locationId":"loc1",`, 1), ghlsim.Quirks{}, 422, `["property locationId should not exist"]`},
		{"task of wrong types", good, "PUT", "/contacts/C/tasks/T", `{"title":null,"completed":"no","dueDate":"tomorrow","body":1}`, ghlsim.Quirks{}, 422,
			`["body must be a string","completed must be a boolean value","dueDate must be a valid ISO 8601 date string","title must be a string"]`},
		{"task for a stranger", good, "PUT", "/contacts/C/tasks/T", `{"assignedTo":"u9"}`, ghlsim.Quirks{}, 422, `["assignedTo must be a user of the location"]`},
		{"task without title", good, "PUT", "/contacts/C/tasks/T", `{"title":""}`, ghlsim.Quirks{}, 422, `["title should not be empty"]`},
		{"task's own dueDate", good, "PUT", "/contacts/C/tasks/T", `{"dueDate":"2026-02-01T17:00:00.000Z"}`, ghlsim.Quirks{}, 422, `["dueDate must be a valid ISO 8601 date string"]`},
		{"task's own dueDate, accepted", good, "PUT", "/contacts/C/tasks/T", `{"dueDate":"2026-02-01T17:00:00.000Z"}`, ghlsim.Quirks{TaskDueMillis: true, QuietUnchangedPut: true}, 200, `null`},
		{"completed needs", good, "PUT", "/contacts/C/tasks/T/completed", `{"title":"x"}`, ghlsim.Quirks{}, 422, `["property title should not exist","completed must be a boolean value","completed should not be empty"]`},
		{"note needs", good, "POST", "/contacts/C/notes", `{"title":"x"}`, ghlsim.Quirks{}, 422, `["body must be a string","body should not be empty"]`},
		{"note of wrong types", good, "PUT", "/contacts/C/notes/N", `{"color":"red","pinned":1,"userId":"u9","body":"","contactId":"C"}`, ghlsim.Quirks{}, 422,
			`["property contactId should not exist","body should not be empty","color must be a hexadecimal color","pinned must be a boolean value","userId must be a user of the location"]`},
		{"appointment needs", good, "POST", "/calendars/events/appointments", `{}`, ghlsim.Quirks{}, 422,
			`["contactId must be a string","contactId should not be empty","locationId must be a string","locationId should not be empty"]`},
		{"appointment needs more", good, "POST", "/calendars/events/appointments", `{"contactId":"C","locationId":"loc1"}`, ghlsim.Quirks{}, 422,
			`["calendarId must be a string","calendarId should not be empty","startTime must be a valid ISO 8601 date string","startTime should not be empty"]`},
		{"appointment elsewhere", good, "POST", "/calendars/events/appointments", `{"contactId":"C","locationId":"loc2"}`, ghlsim.Quirks{}, 403, `"The token does not have access to this location."`},
		{"appointment of nobody", good, "POST", "/calendars/events/appointments", `{"contactId":"none","locationId":"loc1"}`, ghlsim.Quirks{}, 400, `"Contact with id none not found"`},
		{"appointment of wrong values", good, "PUT", "/calendars/events/appointments/A", `{"appointmentStatus":"done","calendarId":"cal9","contactId":"C"}`, ghlsim.Quirks{}, 422,
			`["property contactId should not exist","appointmentStatus must be one of the following values: new, confirmed, cancelled, showed, noshow, invalid","calendarId must be a calendar of the location"]`},
		{"appointment ends early", good, "PUT", "/calendars/events/appointments/A", `{"endTime":"2026-02-01T10:00:00-05:00"}`, ghlsim.Quirks{}, 422, `["endTime must be after startTime"]`},
		{"search refuses", good, "POST", "/locations/loc1/tasks/search", `{"limit":101,"skip":-1,"completed":1,"contactId":"C","query":1,"locationId":"loc1"}`, ghlsim.Quirks{}, 422,
			`["property locationId should not exist","each value in contactId must be a string","contactId must be an array","query must be a string","limit must be a number in range","skip must be a number in range","completed must be a boolean value"]`},
		{"search elsewhere", good, "POST", "/locations/loc2/tasks/search", `{}`, ghlsim.Quirks{}, 403, `"The token does not have access to this location."`},
		{"users of no location", good, "GET", "/users/", "", ghlsim.Quirks{}, 422, `["locationId must be a string","locationId should not be empty"]`},
		{"users elsewhere", good, "GET", "/users/?locationId=loc2", "", ghlsim.Quirks{}, 403, `"The token does not have access to this location."`},
		{"unknown user", good, "GET", "/users/u9", "", ghlsim.Quirks{}, 401, `"The user does not exist."`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := setup(t, func(c *ghlsim.Config) { c.Quirks = tt.quirks })
			c, d := s.create(`{}`), s.create(`{}`)
			task, note, appointment := s.task(c), s.note(c), s.appointment(c)
			before := len(s.Ledger())
			ids := strings.NewReplacer("/C", "/"+c, "/D", "/"+d, "/T", "/"+task, "/N", "/"+note, "/A", "/"+appointment,
				`"contactId":"C"`, `"contactId":"`+c+`"`, "id T ", "id "+task+" ", "id N ", "id "+note+" ")
			a := s.as(tt.token, tt.method, ids.Replace(tt.path), ids.Replace(tt.body))
			want(t, "status", a.status, tt.status)
			want(t, "message", a.body["message"], parse(t, ids.Replace(tt.message)))
			want(t, "changes", len(s.Ledger())-before, 0)
		})
	}
}

func TestUsers(t *testing.T) {
	s := setup(t, nil)
	list, _ := s.do("GET", "/users/?locationId=loc1", "").body["users"].([]any)
	want(t, "users", []any{len(list), dig(list[0], "id"), dig(list[0], "name"), dig(list[0], "email"), dig(list[1], "id")}, []any{2, "u1", "Uma Orr", "uma@x.org", "u2"})
	a := s.do("GET", "/users/u1", "")
	want(t, "user", []any{a.status, a.body["id"], a.body["lastName"]}, []any{200, "u1", "Orr"})
}

func TestSearchTasks(t *testing.T) {
	s := setup(t, nil)
	a, b := s.create(`{}`), s.create(`{}`)
	add := func(contact, title, rest string) {
		s.made("POST", "/contacts/"+contact+"/tasks", `{"title":"`+title+`","dueDate":"2026-02-01T17:00:00Z"`+rest+`}`, "task", 201)
	}
	add(a, "one", `,"completed":false,"assignedTo":"u1"`)
	add(b, "two", `,"completed":true,"assignedTo":"u2"`)
	add(a, "three", `,"completed":true,"body":"about One"`)
	s.note(a)
	tests := []struct{ name, body, want string }{
		{"all, the newest first", `{}`, "three two one"},
		{"open", `{"completed":false}`, "one"},
		{"done", `{"completed":true}`, "three two"},
		{"of a contact", `{"contactId":["A"]}`, "three one"},
		{"of contacts", `{"contactId":["A","B","A"]}`, "three two one"},
		{"assigned", `{"assignedTo":["u1","u2"]}`, "two one"},
		{"query", `{"query":"ONE"}`, "three one"},
		{"page", `{"limit":1,"skip":1}`, "two"},
		{"beyond", `{"skip":5}`, ""},
		{"of no business", `{"businessId":"b1"}`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := s.do("POST", "/locations/loc1/tasks/search", strings.NewReplacer(`"A"`, `"`+a+`"`, `"B"`, `"`+b+`"`).Replace(tt.body))
			var titles []string
			list, _ := got.body["tasks"].([]any)
			for _, x := range list {
				title, _ := dig(x, "title").(string)
				titles = append(titles, title)
			}
			want(t, "found", []any{got.status, strings.Join(titles, " ")}, []any{200, tt.want})
		})
	}
	t.Run("standard limit", func(t *testing.T) {
		for range 30 {
			add(b, "many", `,"completed":false`)
		}
		list, _ := s.do("POST", "/locations/loc1/tasks/search", `{}`).body["tasks"].([]any)
		want(t, "page", len(list), 25)
	})
}

func TestSearchTasksLags(t *testing.T) {
	s := setup(t, func(c *ghlsim.Config) { c.IndexLag, c.Quirks.TaskSearchUnderscoreID = 2*time.Second, true })
	c := s.create(`{}`)
	id := s.task(c)
	found := func(body string) []any {
		t.Helper()
		list, _ := s.do("POST", "/locations/loc1/tasks/search", body).body["tasks"].([]any)
		return list
	}
	want(t, "at once", len(found(`{}`)), 0)
	s.clock.Advance(2 * time.Second)
	list := found(`{"contactId":["` + c + `"]}`)
	want(t, "later", []any{len(list), dig(list[0], "_id"), dig(list[0], "id"), dig(list[0], "contactId")}, []any{1, id, nil, c})
	s.do("PUT", "/contacts/"+c+"/tasks/"+id, `{"title":"New"}`)
	want(t, "old title", dig(found(`{}`)[0], "title"), any("Renewal call"))
	s.do("DELETE", "/contacts/"+c+"/tasks/"+id, "")
	want(t, "deleted, still there", []int{len(found(`{}`)), len(found(`{"contactId":["` + c + `"]}`))}, []int{1, 1})
	want(t, "deleted for the contact", s.do("GET", "/contacts/"+c+"/tasks", "").body["tasks"], any([]any{}))
	s.clock.Advance(2 * time.Second)
	want(t, "and gone", []int{len(found(`{}`)), len(found(`{"contactId":["` + c + `"]}`))}, []int{0, 0})
}

func TestItemEvents(t *testing.T) {
	human := func(e ghlsim.ItemEdit) func(*sim, map[string]string) {
		return func(s *sim, id map[string]string) {
			e.LocationID, e.ID = "loc1", id[e.Kind]
			if _, err := s.EditItem(e); err != nil {
				s.t.Error(err)
			}
		}
	}
	call := func(method, path, body string) func(*sim, map[string]string) {
		return func(s *sim, id map[string]string) {
			s.do(method, strings.NewReplacer("/C", "/"+id["contact"], "/T", "/"+id["task"], "/N", "/"+id["note"], "/A", "/"+id["appointment"]).Replace(path), body)
		}
	}
	tests := []struct {
		name   string
		quirks ghlsim.Quirks
		call   func(s *sim, id map[string]string)
		want   []string
	}{
		{"task edited", ghlsim.Quirks{}, call("PUT", "/contacts/C/tasks/T", `{"title":"New"}`), nil},
		{"task completed", ghlsim.Quirks{}, call("PUT", "/contacts/C/tasks/T/completed", `{"completed":true}`), []string{"TaskComplete"}},
		{"task completed by update", ghlsim.Quirks{}, call("PUT", "/contacts/C/tasks/T", `{"completed":true}`), []string{"TaskComplete"}},
		{"task completed, reopened", ghlsim.Quirks{}, func(s *sim, id map[string]string) {
			human(ghlsim.ItemEdit{Kind: "task", Op: "update", Fields: map[string]any{"completed": true}})(s, id)
			human(ghlsim.ItemEdit{Kind: "task", Op: "update", Fields: map[string]any{"completed": false}})(s, id)
		}, []string{"TaskComplete"}},
		{"task deleted", ghlsim.Quirks{}, call("DELETE", "/contacts/C/tasks/T", ""), []string{"TaskDelete"}},
		{"note edited", ghlsim.Quirks{}, call("PUT", "/contacts/C/notes/N", `{"body":"New"}`), []string{"NoteUpdate"}},
		{"note written again", ghlsim.Quirks{}, call("PUT", "/contacts/C/notes/N", `{"pinned":true}`), []string{"NoteUpdate"}},
		{"note written again, quiet", ghlsim.Quirks{QuietUnchangedPut: true}, call("PUT", "/contacts/C/notes/N", `{"pinned":true}`), nil},
		{"note deleted", ghlsim.Quirks{}, call("DELETE", "/contacts/C/notes/N", ""), []string{"NoteDelete"}},
		{"note edited by a human", ghlsim.Quirks{}, human(ghlsim.ItemEdit{Kind: "note", Op: "update", Fields: map[string]any{"body": "New"}}), []string{"NoteUpdate"}},
		{"note left alone by a human", ghlsim.Quirks{}, human(ghlsim.ItemEdit{Kind: "note", Op: "update", Fields: map[string]any{"pinned": true}}), nil},
		{"appointment edited", ghlsim.Quirks{}, call("PUT", "/calendars/events/appointments/A", `{"title":"New"}`), []string{"AppointmentUpdate"}},
		{"appointment deleted", ghlsim.Quirks{}, human(ghlsim.ItemEdit{Kind: "appointment", Op: "delete"}), []string{"AppointmentDelete"}},
		{"contact deleted", ghlsim.Quirks{}, call("DELETE", "/contacts/C", ""), []string{"ContactDelete"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, r := hooked(t, func(c *ghlsim.Config) { c.Quirks = tt.quirks })
			c := s.create(`{}`)
			id := map[string]string{"contact": c, "task": s.task(c), "note": s.note(c), "appointment": s.appointment(c)}
			want(t, "creations", r.types(t, 4), map[string]int{"ContactCreate": 1, "TaskCreate": 1, "NoteCreate": 1, "AppointmentCreate": 1})
			tt.call(s, id)
			for _, typ := range tt.want {
				want(t, "event", r.next(t).body["type"], any(typ))
			}
			s.quiet()
			want(t, "sent in all", s.Stats().WebhooksSent, 4+len(tt.want))
		})
	}
}

func TestItemPayload(t *testing.T) {
	next := func(t *testing.T, r *receiver) any {
		h := r.next(t)
		delete(h.body, "webhookId")
		return h.body
	}
	const envelope = `"locationId":"loc1","appId":"app1","versionId":"app1","timestamp":"2026-01-05T10:00:00.000Z",`
	s, r := hooked(t, nil)
	c := s.create(`{}`)
	next(t, r)
	task := s.task(c)
	want(t, "TaskCreate", next(t, r), parse(t, `{"type":"TaskCreate",`+envelope+`"id":"`+task+`","assignedTo":"u1","title":"Renewal call",
		"dateAdded":"2026-01-05T10:00:00.000Z","dueDate":"2026-02-01T17:00:00.000Z"}`))
	s.do("DELETE", "/contacts/"+c+"/tasks/"+task, "")
	want(t, "TaskDelete", next(t, r), parse(t, `{"type":"TaskDelete",`+envelope+`"id":"`+task+`","assignedTo":"u1","title":"Renewal call","body":"About dues","contactId":"`+c+`",
		"dateAdded":"2026-01-05T10:00:00.000Z","dueDate":"2026-02-01T17:00:00.000Z"}`))
	note := s.note(c)
	want(t, "NoteCreate", next(t, r), parse(t, `{"type":"NoteCreate",`+envelope+`"id":"`+note+`","body":" <p>Spoke</p> ","contactId":"`+c+`","dateAdded":"2026-01-05T10:00:00.000Z"}`))
	appointment := s.appointment(c)
	want(t, "AppointmentCreate", next(t, r), parse(t, `{"type":"AppointmentCreate",`+envelope+`"appointment":{"id":"`+appointment+`","title":"Visit","calendarId":"cal1",
		"contactId":"`+c+`","appointmentStatus":"confirmed","assignedUserId":"u2","users":[],"notes":"Bring forms","startTime":"2026-02-01T10:00:00-05:00","endTime":"2026-02-01T10:30:00-05:00",
		"dateAdded":"2026-01-05T10:00:00.000Z","dateUpdated":"2026-01-05T10:00:00.000Z"}}`))

	s, r = hooked(t, func(c *ghlsim.Config) { c.Quirks = ghlsim.Quirks{FullTaskCreate: true, NullWebhookKeys: true} })
	c = s.create(`{}`)
	next(t, r)
	s.made("POST", "/contacts/"+c+"/tasks", `{"title":"x","body":"b","dueDate":"2026-02-01T17:00:00Z","completed":true}`, "task", 201)
	h := r.next(t).body
	_, sent := h["assignedTo"]
	want(t, "in full, with nulls", []any{h["type"], h["contactId"], h["body"], h["assignedTo"], sent}, []any{"TaskCreate", c, "b", nil, true})
}

func TestItemFaults(t *testing.T) {
	t.Run("reset after commit", func(t *testing.T) {
		s := setup(t, nil)
		c := s.create(`{}`)
		s.SetFaults(ghlsim.Faults{ResetAfterCommit: 1})
		for path, body := range map[string]string{
			"/contacts/" + c + "/tasks": aTask, "/contacts/" + c + "/notes": aNote,
			"/calendars/events/appointments": `{"contactId":"` + c + `",` + anAppointment + `}`,
		} {
			if _, err := s.send("POST", path, body, headers(good)); err == nil {
				t.Errorf("%s got a reply", path)
			}
		}
		want(t, "items", len(s.Items("loc1", "")), 3)
	})
	t.Run("422 but created is of contacts", func(t *testing.T) {
		s := setup(t, nil)
		c := s.create(`{}`)
		s.SetFaults(ghlsim.Faults{CreatedBut422: 1})
		s.task(c)
		s.note(c)
		s.appointment(c)
	})
	t.Run("webhook lost and doubled", func(t *testing.T) {
		s, r := hooked(t, nil)
		c := s.create(`{}`)
		r.next(t)
		s.SetFaults(ghlsim.Faults{WebhookDrop: 1})
		s.note(c)
		s.SetFaults(ghlsim.Faults{WebhookDuplicate: 1})
		s.task(c)
		want(t, "bytes", string(r.next(t).raw), string(r.next(t).raw))
		s.quiet()
		want(t, "dropped, sent", []int{s.Stats().WebhooksDropped, s.Stats().WebhooksSent}, []int{1, 3})
	})
}

func TestItemLedger(t *testing.T) {
	s := setup(t, nil)
	c := s.create(`{}`)
	task := s.task(c)
	if _, err := s.EditItem(ghlsim.ItemEdit{Kind: ghlsim.KindTask, Op: ghlsim.OpUpdate, LocationID: "loc1", ID: task, Fields: map[string]any{"completed": true, "body": nil}}); err != nil {
		t.Fatal(err)
	}
	s.do("PUT", "/contacts/"+c+"/tasks/"+task, `{"completed":true}`)
	s.do("DELETE", "/contacts/"+c, "")
	l := s.LedgerAfter(2)
	ms := s.clock.Now().UnixMilli()
	base := ghlsim.LedgerEntry{At: s.clock.Now(), LocationID: "loc1", Kind: ghlsim.KindTask, RecordID: task, ContactID: c}
	edit, put, orphaned := base, base, base
	edit.Seq, edit.Actor, edit.Op, edit.DateUpdated = 3, "human", "update", ms+1
	edit.Changes = []ghlsim.FieldChange{{Field: "body", From: "About dues"}, {Field: "completed", From: false, To: true}}
	put.Seq, put.Actor, put.Op, put.DateUpdated = 4, "api", "update", ms+2
	orphaned.Seq, orphaned.Actor, orphaned.Op, orphaned.DateUpdated = 5, "api", "delete", ms+2
	orphaned.Changes = []ghlsim.FieldChange{{Field: "assignedTo", From: "u1"}, {Field: "completed", From: true}, {Field: "dueDate", From: "2026-02-01T17:00:00.000Z"}, {Field: "title", From: "Renewal call"}}
	want(t, "ledger", l[:3], []ghlsim.LedgerEntry{edit, put, orphaned})
	want(t, "then the contact", []string{l[3].Kind, l[3].Op, l[3].RecordID}, []string{"contact", "delete", c})
	want(t, "items", s.Items("loc1", ""), []ghlsim.Item{})
}

func TestEditItemErrors(t *testing.T) {
	tests := []struct {
		name string
		edit ghlsim.ItemEdit
		want error
	}{
		{"no kind", ghlsim.ItemEdit{Kind: "deal", Op: "create", LocationID: "loc1", ContactID: "C"}, ghlsim.ErrInvalid},
		{"no op", ghlsim.ItemEdit{Kind: "task", Op: "tags", LocationID: "loc1", ID: "T"}, ghlsim.ErrInvalid},
		{"no location", ghlsim.ItemEdit{Kind: "task", Op: "create", LocationID: "x"}, ghlsim.ErrNotFound},
		{"no contact", ghlsim.ItemEdit{Kind: "task", Op: "create", LocationID: "loc1", ContactID: "x"}, ghlsim.ErrNotFound},
		{"no task", ghlsim.ItemEdit{Kind: "task", Op: "delete", LocationID: "loc1", ID: "x"}, ghlsim.ErrNotFound},
		{"another kind", ghlsim.ItemEdit{Kind: "note", Op: "delete", LocationID: "loc1", ID: "T"}, ghlsim.ErrNotFound},
		{"another contact", ghlsim.ItemEdit{Kind: "task", Op: "delete", LocationID: "loc1", ContactID: "x", ID: "T"}, ghlsim.ErrNotFound},
		{"needs a title", ghlsim.ItemEdit{Kind: "task", Op: "create", LocationID: "loc1", ContactID: "C", Fields: map[string]any{"dueDate": "2026-02-01T17:00:00Z"}}, ghlsim.ErrInvalid},
		{"keeps its title", ghlsim.ItemEdit{Kind: "task", Op: "update", LocationID: "loc1", ID: "T", Fields: map[string]any{"title": nil}}, ghlsim.ErrInvalid},
		{"unknown field", ghlsim.ItemEdit{Kind: "task", Op: "update", LocationID: "loc1", ID: "T", Fields: map[string]any{"zip": "1"}}, ghlsim.ErrInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := setup(t, nil)
			c := s.create(`{}`)
			task := s.task(c)
			if tt.edit.ContactID == "C" {
				tt.edit.ContactID = c
			}
			if tt.edit.ID == "T" {
				tt.edit.ID = task
			}
			before := len(s.Ledger())
			if _, err := s.EditItem(tt.edit); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			want(t, "changes", len(s.Ledger())-before, 0)
		})
	}
}

func TestMerge(t *testing.T) {
	s, r := hooked(t, nil)
	winner := s.create(`{"firstName":"Ana","city":"Waco","tags":["a"]}`)
	loser := s.create(`{"firstName":"Anna","email":"ana@x.org","tags":["b"],"customFields":[{"id":"cf1","field_value":"7"}]}`)
	task, note, appointment := s.task(loser), s.note(loser), s.appointment(loser)
	r.types(t, 5)
	if err := s.Merge("loc1", winner, loser); err != nil {
		t.Fatal(err)
	}
	want(t, "events", r.types(t, 3), map[string]int{"ContactDelete": 1, "ContactUpdate": 1, "ContactTagUpdate": 1})
	s.quiet()
	want(t, "sent in all", s.Stats().WebhooksSent, 8)
	got := s.contact(winner)
	want(t, "winner", []any{got["firstName"], got["city"], got["email"], got["tags"], got["customFields"]},
		[]any{"Ana", "Waco", "ana@x.org", []any{"a", "b"}, []any{map[string]any{"id": "cf1", "value": "7"}}})
	want(t, "loser", s.do("GET", "/contacts/"+loser, "").status, 400)
	want(t, "task", s.do("GET", "/contacts/"+winner+"/tasks/"+task, "").status, 200)
	want(t, "note", s.do("GET", "/contacts/"+winner+"/notes/"+note, "").status, 200)
	want(t, "appointment", dig(s.do("GET", "/calendars/events/appointments/"+appointment, "").body, "event", "contactId"), any(winner))
	list, _ := s.do("GET", "/contacts/"+winner+"/tasks", "").body["tasks"].([]any)
	want(t, "tasks", len(list), 1)
	moved := s.LedgerAfter(5)[0]
	want(t, "move", []any{moved.Actor, moved.Kind, moved.RecordID, moved.ContactID, moved.Changes},
		[]any{"human", "task", task, winner, []ghlsim.FieldChange{{Field: "contactId", From: loser, To: winner}}})

	want(t, "with itself", errors.Is(s.Merge("loc1", winner, winner), ghlsim.ErrInvalid), true)
	want(t, "with nobody", errors.Is(s.Merge("loc1", winner, loser), ghlsim.ErrNotFound), true)
	want(t, "nowhere", errors.Is(s.Merge("x", winner, loser), ghlsim.ErrNotFound), true)
}

func TestItemAdmin(t *testing.T) {
	s := setup(t, nil)
	a, b := s.create(`{}`), s.create(`{}`)
	call := func(method, path, body string) answer {
		t.Helper()
		got, err := s.send(method, "/_sim/"+path, body, nil)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	got := call("POST", "item", `{"kind":"note","op":"create","locationId":"loc1","contactId":"`+b+`","fields":{"body":"x"}}`)
	id, _ := got.body["id"].(string)
	want(t, "item", got.status, 200)
	want(t, "no item", call("POST", "item", `{"kind":"note","op":"delete","locationId":"loc1","id":"x"}`).status, 404)
	want(t, "bad item", call("POST", "item", `{"kind":"deal"}`).status, 422)
	want(t, "merge", call("POST", "merge", `{"locationId":"loc1","winner":"`+a+`","loser":"`+b+`"}`).status, 200)
	want(t, "no merge", call("POST", "merge", `{"locationId":"loc1","winner":"`+a+`","loser":"`+b+`"}`).status, 404)
	want(t, "items", call("GET", "items?kind=note", "").body["items"], any([]any{map[string]any{"kind": "note", "id": id, "contactId": a, "fields": map[string]any{"body": "x"}}}))
	want(t, "tasks", call("GET", "items?locationId=loc1&kind=task", "").body["items"], any([]any{}))
	entries, _ := call("GET", "ledger?after=2", "").body["entries"].([]any)
	want(t, "ledger", []any{dig(entries[0], "kind"), dig(entries[0], "recordId"), dig(entries[0], "contactId")}, []any{"note", id, b})
}
