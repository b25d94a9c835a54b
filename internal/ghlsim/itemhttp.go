package ghlsim

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// The API of tasks and notes, which are alike (dossier §3.7, §3.9).

func (k *itemKind) list(s *Server, q *request) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	loc, contact, r := s.find(q)
	if contact == nil {
		return r
	}
	list := []any{}
	for _, x := range loc.itemsOf(family{q.id, k.name}) {
		list = append(list, k.render(loc, x))
	}
	return reply{status: 200, body: map[string]any{k.many: list}}
}

// find returns the item of a request, or the reply that says why not. The
// caller holds mu.
func (k *itemKind) find(s *Server, q *request) (*location, *item, reply) {
	loc, contact, r := s.find(q)
	if contact == nil {
		return nil, nil, r
	}
	if x := loc.item(q.item); x != nil && x.kind == k.name && x.contact == q.id {
		return loc, x, reply{}
	}
	return nil, nil, s.missing(k, q.item)
}

// missing says that an item is not there: whether with 404 or 400 is UNK, the
// text is invented.
func (s *Server) missing(k *itemKind, id string) reply {
	status := 404
	if s.conf.Quirks.MissingItem400 {
		status = 400
	}
	return failure(status, k.title+" with id "+id+" not found")
}

func (k *itemKind) get(s *Server, q *request) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	loc, x, r := k.find(s, q)
	if x == nil {
		return r
	}
	return reply{status: 200, body: map[string]any{k.one: k.render(loc, x)}}
}

func (k *itemKind) create(s *Server, q *request) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	loc, contact, r := s.find(q)
	if contact == nil {
		return r
	}
	x, bad := k.write(s, loc, nil, &item{kind: k.name, contact: q.id, fields: map[string]any{}}, q.body, k.rules)
	if x == nil {
		return bad
	}
	return reply{status: 201, body: map[string]any{k.one: k.render(loc, x)}, committed: true}
}

func (k *itemKind) update(s *Server, q *request) reply { return k.change(s, q, k.rules) }

// complete is PUT …/completed.
func (s *Server) complete(q *request) reply { return tasks.change(s, q, completedRules) }

func (k *itemKind) change(s *Server, q *request, rules itemRules) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	loc, old, r := k.find(s, q)
	if old == nil {
		return r
	}
	x, bad := k.write(s, loc, old, old.clone(), q.body, rules)
	if x == nil {
		return bad
	}
	return reply{status: 200, body: map[string]any{k.one: k.render(loc, x)}, committed: true}
}

// write commits what body makes of next, or returns nil and what is wrong.
// Milliseconds in the dueDate of an update are refused [OBS n8n].
func (k *itemKind) write(s *Server, loc *location, old, next *item, body map[string]any, rules itemRules) (*item, reply) {
	fields, wrong := rules.parse(loc, body, parsing{whole: old == nil || len(rules) == 1, noDues: old != nil && !s.conf.Quirks.TaskDueMillis})
	if len(wrong) == 0 {
		wrong = k.put(next, fields)
	}
	if len(wrong) > 0 {
		return nil, unprocessable(wrong)
	}
	return s.commitItem(itemChange{loc: loc, old: old, next: next, actor: ActorAPI, force: !s.conf.Quirks.QuietUnchangedPut}), reply{}
}

func (k *itemKind) remove(s *Server, q *request) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	loc, x, r := k.find(s, q)
	if x == nil {
		return r
	}
	s.commitItem(itemChange{loc: loc, old: x, actor: ActorAPI})
	return reply{status: 200, body: map[string]any{"succeded": true}, committed: true}
}

// maxTaskLimit of a task search; what the real one allows is UNK.
const maxTaskLimit = 100

// searchTasks is POST /locations/{id}/tasks/search (dossier §3.8). Like the
// contact search it shows the state of IndexLag ago (invented). No order is
// promised; it is the newest first (invented), so that a new task shifts pages.
func (s *Server) searchTasks(q *request) reply {
	var wrong []string
	list := func(key string) []string {
		v, sent := q.body[key]
		out, ok := stringList(v)
		if sent && !ok {
			wrong = append(wrong, "each value in "+key+" must be a string", key+" must be an array")
		}
		return out
	}
	text := func(key string) string {
		v, sent := q.body[key]
		out, ok := v.(string)
		if sent && !ok {
			wrong = append(wrong, key+" must be a string")
		}
		return out
	}
	number := func(key string, standard, least, most int) int {
		v, sent := q.body[key]
		if !sent {
			return standard
		}
		n, ok := wholeNumber(v)
		if !ok || n < least || most > 0 && n > most {
			wrong = append(wrong, key+" must be a number in range")
		}
		return n
	}
	for key := range q.body {
		if !slices.Contains([]string{"contactId", "completed", "assignedTo", "query", "limit", "skip", "businessId"}, key) {
			wrong = append(wrong, "property "+key+" should not exist")
		}
	}
	slices.Sort(wrong)
	contacts, assigned, query, business := list("contactId"), list("assignedTo"), strings.ToLower(text("query")), text("businessId")
	limit, skip := number("limit", 25, 1, maxTaskLimit), number("skip", 0, 0, 0)
	completed, filtered := q.body["completed"]
	if _, ok := completed.(bool); filtered && !ok {
		wrong = append(wrong, "completed must be a boolean value")
	}
	switch {
	case len(wrong) > 0:
		return unprocessable(wrong)
	case q.id != q.loc.conf.ID:
		return forbidden()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	loc, at := s.locations[q.id], s.indexTime()
	loc.bury(at)
	var found []*item
	look := func(h *history[item]) {
		x := h.asOf(at)
		if x == nil || x.kind != KindTask || len(contacts) > 0 && !slices.Contains(contacts, x.contact) ||
			filtered && x.fields["completed"] != completed || len(assigned) > 0 && !slices.Contains(assigned, x.str("assignedTo")) ||
			!strings.Contains(strings.ToLower(x.str("title")+"\n"+x.str("body")), query) {
			return
		}
		if c := loc.current(x.contact); business != "" && (c == nil || c.str("businessId") != business) {
			return
		}
		found = append(found, x)
	}
	if len(contacts) > 0 {
		slices.Sort(contacts)
		for _, c := range slices.Compact(contacts) {
			for _, id := range loc.byContact[family{c, KindTask}] {
				look(loc.items[id])
			}
		}
	} else {
		for _, h := range loc.items {
			look(h)
		}
	}
	slices.SortFunc(found, func(a, b *item) int { return cmp.Compare(b.order, a.order) })
	items := []any{}
	for _, x := range found[min(skip, len(found)):min(skip+limit, len(found))] {
		shown := tasks.render(loc, x)
		if s.conf.Quirks.TaskSearchUnderscoreID {
			shown["_id"] = shown["id"]
			delete(shown, "id")
		}
		items = append(items, shown)
	}
	return reply{status: 200, body: map[string]any{"tasks": items}}
}

// The API of appointments (dossier §3.11).

// showAppointment is what GET of one adds to what is stored.
func showAppointment(loc *location, x *item) map[string]any {
	out := map[string]any{
		"locationId": loc.conf.ID, "isRecurring": x.str("rrule") != "", "users": []any{}, "assignedResources": []any{},
		"dateAdded": stamp(x.added), "dateUpdated": stamp(x.updated),
	}
	setOrClear(out, "notes", x.fields["description"]) // whether both is INF
	return out
}

// contactAppointments shows times without zone, in the location's [INF].
func (s *Server) contactAppointments(q *request) reply {
	r := appointments.list(s, q)
	list, _ := r.body["events"].([]any)
	for _, v := range list {
		shown, _ := v.(map[string]any)
		for _, key := range []string{"startTime", "endTime", "dateAdded", "dateUpdated"} {
			s, _ := shown[key].(string)
			if t, err := time.Parse(time.RFC3339, s); err == nil {
				shown[key] = t.In(q.loc.zone).Format(time.DateTime)
			}
		}
		for _, key := range []string{"description", "isRecurring", "rrule", "meetingLocationType", "meetingLocationId"} {
			delete(shown, key)
		}
		shown["status"] = "booked"
	}
	return r
}

// bare is the reply of a create and an update: no wrapper, no stamps (#246).
func bare(loc *location, x *item) reply {
	out := appointments.render(loc, x)
	for _, key := range []string{"dateAdded", "dateUpdated", "users", "assignedResources", "notes", "description"} {
		delete(out, key)
	}
	return reply{status: 200, body: out, committed: true}
}

func (s *Server) createAppointment(q *request) reply {
	ids := map[string]string{}
	var wrong []string
	for _, key := range []string{"contactId", "locationId"} {
		if ids[key], _ = q.body[key].(string); ids[key] == "" {
			wrong = append(wrong, key+" must be a string", key+" should not be empty")
		}
		delete(q.body, key)
	}
	switch {
	case len(wrong) > 0:
		return unprocessable(wrong)
	case ids["locationId"] != q.loc.conf.ID:
		return forbidden()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q.id = ids["contactId"]
	loc, contact, r := s.find(q)
	if contact == nil {
		return r
	}
	x, bad := appointments.write(s, loc, nil, &item{kind: KindAppointment, contact: q.id, fields: map[string]any{}}, q.body, appointmentRules)
	if x == nil {
		return bad
	}
	return bare(loc, x)
}

// findAppointment is find for a path that does not name the contact.
func (s *Server) findAppointment(q *request) (*location, *item, reply) {
	where, ok := s.itemAt[q.item]
	if ok && where != q.loc.conf.ID {
		return nil, nil, forbidden()
	}
	loc := s.locations[q.loc.conf.ID]
	if x := loc.item(q.item); x != nil && x.kind == KindAppointment {
		return loc, x, reply{}
	}
	return nil, nil, s.missing(appointments, q.item)
}

func (s *Server) getAppointment(q *request) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	loc, x, r := s.findAppointment(q)
	if x == nil {
		return r
	}
	return reply{status: 200, body: map[string]any{"event": appointments.render(loc, x)}}
}

func (s *Server) updateAppointment(q *request) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	loc, old, r := s.findAppointment(q)
	if old == nil {
		return r
	}
	x, bad := appointments.write(s, loc, old, old.clone(), q.body, appointmentRules)
	if x == nil {
		return bad
	}
	return bare(loc, x)
}

func (s *Server) removeAppointment(q *request) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	loc, x, r := s.findAppointment(q)
	if x == nil {
		return r
	}
	s.commitItem(itemChange{loc: loc, old: x, actor: ActorAPI})
	return reply{status: 201, body: map[string]any{"succeeded": true}, committed: true}
}

// The users (dossier §3.13).

func (l *location) renderUser(u User) map[string]any {
	first, last, _ := strings.Cut(u.Name, " ")
	return map[string]any{
		"id": u.ID, "name": u.Name, "firstName": first, "lastName": last, "email": u.Email, "deleted": false,
		"roles": map[string]any{"type": "account", "role": "user", "locationIds": []string{l.conf.ID}},
	}
}

func (s *Server) users(q *request) reply {
	switch id := q.query.Get("locationId"); id {
	case "":
		return unprocessable([]string{"locationId must be a string", "locationId should not be empty"})
	case q.loc.conf.ID:
	default:
		return forbidden()
	}
	list := make([]any, len(q.loc.conf.Users))
	for i, u := range q.loc.conf.Users {
		list[i] = q.loc.renderUser(u)
	}
	return reply{status: 200, body: map[string]any{"users": list}}
}

// user is unwrapped; an unknown one is 401 (#205), also one of another
// location (INF).
func (s *Server) user(q *request) reply {
	for _, u := range q.loc.conf.Users {
		if u.ID == q.id {
			return reply{status: 200, body: q.loc.renderUser(u)}
		}
	}
	return unauthorized("The user does not exist.")
}
