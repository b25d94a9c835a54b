package ghlsim

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// companyID is the agency that all locations belong to.
const companyID = "simcompany"

// own says why a request about a location is refused, if it is: it must be the
// token's.
func (q *request) own(id string) (reply, bool) {
	if id != q.loc.conf.ID {
		return forbidden(), false
	}
	return reply{}, true
}

// only lists the keys of a body that are not allowed, as a 422 does.
func only(body map[string]any, allowed ...string) []string {
	var wrong []string
	for _, k := range slices.Sorted(maps.Keys(body)) {
		if !slices.Contains(allowed, k) {
			wrong = append(wrong, "property "+k+" should not exist")
		}
	}
	return wrong
}

// text reads a required text of a body.
func text(body map[string]any, key string, wrong *[]string) string {
	v, ok := body[key].(string)
	if !ok {
		*wrong = append(*wrong, key+" must be a string")
	}
	if v == "" {
		*wrong = append(*wrong, key+" should not be empty")
	}
	return v
}

// pageOf is a page of a list by the texts limit and skip of the query.
func pageOf[T any](all []T, q *request, standard, most int) []T {
	limit, err := strconv.Atoi(q.query.Get("limit"))
	if err != nil || limit < 1 {
		limit = standard
	}
	skip, err := strconv.Atoi(q.query.Get("skip"))
	if err != nil || skip < 0 {
		skip = 0
	}
	skip = min(skip, len(all))
	return all[skip:min(skip+min(limit, most), len(all))]
}

// rewrite changes every contact that edit says it has changed, without an
// event and without moving dateUpdated (invented, pessimistic). The caller
// holds mu.
func (s *Server) rewrite(loc *location, edit func(*snapshot) bool) {
	for _, id := range slices.Sorted(maps.Keys(loc.contacts)) {
		old := loc.current(id)
		if old == nil {
			continue
		}
		if next := old.clone(); edit(next) {
			s.commit(change{loc: loc, old: old, next: next, actor: ActorAPI, silent: true})
		}
	}
}

// The tags that a location knows (dossier §3.12).

func (s *Server) knowTag(loc *location, name string) {
	if _, ok := loc.tags[name]; !ok {
		loc.tags[name] = s.rng.id()
	}
}

func (l *location) renderTag(name string) map[string]any {
	return map[string]any{"id": l.tags[name], "name": name, "locationId": l.conf.ID}
}

// tagName finds a tag by id.
func (l *location) tagName(id string) (string, bool) {
	for name, have := range l.tags {
		if have == id {
			return name, true
		}
	}
	return "", false
}

// withTag does something with the tag that a request names.
func (s *Server) withTag(q *request, do func(loc *location, name string) reply) reply {
	if r, ok := q.own(q.id); !ok {
		return r
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	loc := s.locations[q.id]
	name, ok := loc.tagName(q.item)
	if !ok {
		return failure(400, "Tag with id "+q.item+" not found")
	}
	return do(loc, name)
}

func (s *Server) getTag(q *request) reply {
	return s.withTag(q, func(loc *location, name string) reply {
		return reply{status: 200, body: map[string]any{"tag": loc.renderTag(name)}}
	})
}

// tagBodyName reads {"name"}; names are lower-case, as tags are.
func tagBodyName(q *request) (string, []string) {
	wrong := only(q.body, "name")
	name := strings.ToLower(strings.TrimSpace(text(q.body, "name", &wrong)))
	return name, wrong
}

func (s *Server) createTag(q *request) reply {
	name, wrong := tagBodyName(q)
	if len(wrong) > 0 {
		return unprocessable(wrong)
	}
	if r, ok := q.own(q.id); !ok {
		return r
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	loc := s.locations[q.id]
	if _, taken := loc.tags[name]; taken {
		return failure(400, "The tag name is already exist.")
	}
	s.knowTag(loc, name)
	return reply{status: 200, body: map[string]any{"tag": loc.renderTag(name)}, committed: true}
}

func (s *Server) renameTag(q *request) reply {
	next, wrong := tagBodyName(q)
	if len(wrong) > 0 {
		return unprocessable(wrong)
	}
	return s.withTag(q, func(loc *location, name string) reply {
		if _, taken := loc.tags[next]; taken && next != name {
			return failure(400, "The tag name is already exist.")
		}
		id := loc.tags[name]
		delete(loc.tags, name)
		loc.tags[next] = id
		s.rewrite(loc, func(c *snapshot) bool {
			i := slices.Index(c.tags, name)
			if i >= 0 {
				c.tags[i] = next
			}
			return i >= 0
		})
		return reply{status: 200, body: map[string]any{"tag": loc.renderTag(next)}, committed: true}
	})
}

func (s *Server) removeTag(q *request) reply {
	return s.withTag(q, func(loc *location, name string) reply {
		delete(loc.tags, name)
		s.rewrite(loc, func(c *snapshot) bool {
			n := len(c.tags)
			c.tags = without(c.tags, []string{name})
			return len(c.tags) < n
		})
		return reply{status: 200, body: map[string]any{"succeded": true}, committed: true}
	})
}

// The custom fields of contacts (dossier §3.12).

var dataTypes = []string{"TEXT", "LARGE_TEXT", "NUMERICAL", "PHONE", "MONETORY", "CHECKBOX", "SINGLE_OPTIONS", "MULTIPLE_OPTIONS", "DATE",
	"TEXTBOX_LIST", "FILE_UPLOAD", "RADIO", "EMAIL"}

// renderField is a definition as the API shows it; i is its place in the list.
func (l *location) renderField(f CustomField, i int) map[string]any {
	return map[string]any{"id": f.ID, "name": f.Name, "fieldKey": f.Key, "dataType": f.DataType, "model": "contact",
		"position": i * 50, "placeholder": "", "locationId": l.conf.ID}
}

// withField does something with the field that a request names by id or key.
func (s *Server) withField(q *request, do func(loc *location, i int) reply) reply {
	if r, ok := q.own(q.id); !ok {
		return r
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	loc := s.locations[q.id]
	i := slices.IndexFunc(loc.customFields(), func(f CustomField) bool { return f.ID == q.item || f.Key == q.item })
	if i < 0 {
		return failure(400, "Custom field with id "+q.item+" not found")
	}
	return do(loc, i)
}

func (s *Server) getField(q *request) reply {
	return s.withField(q, func(loc *location, i int) reply {
		return reply{status: 200, body: map[string]any{"customField": loc.renderField(loc.customFields()[i], i)}}
	})
}

// fieldKeys are what a body may have; all but name and dataType are checked
// and forgotten (invented).
var fieldKeys = []string{"name", "dataType", "placeholder", "acceptedFormat", "isMultipleFile", "maxNumberOfFiles", "textBoxListOptions", "position", "model",
	"parentId", "fieldKey", "description"}

func (s *Server) createField(q *request) reply {
	wrong := only(q.body, fieldKeys...)
	name, kind := text(q.body, "name", &wrong), text(q.body, "dataType", &wrong)
	if kind != "" && !slices.Contains(dataTypes, kind) {
		wrong = append(wrong, "dataType must be one of the following values: "+strings.Join(dataTypes, ", "))
	}
	if model, sent := q.body["model"]; sent && model != "contact" {
		wrong = append(wrong, "model must be one of the following values: contact")
	}
	if len(wrong) > 0 {
		return unprocessable(wrong)
	}
	if r, ok := q.own(q.id); !ok {
		return r
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	loc := s.locations[q.id]
	key := "contact." + fieldSlug(name)
	if own, _ := q.body["fieldKey"].(string); own != "" {
		key = own
	}
	if slices.ContainsFunc(loc.customFields(), func(f CustomField) bool { return f.Key == key }) {
		return failure(400, "A custom field with this key already exists")
	}
	fields := append(slices.Clone(loc.customFields()), CustomField{ID: s.rng.id(), Name: name, Key: key, DataType: kind})
	loc.fields.Store(&fields)
	return reply{status: 201, body: map[string]any{"customField": loc.renderField(fields[len(fields)-1], len(fields)-1)}, committed: true}
}

// fieldSlug makes a key of a name (invented in detail).
func fieldSlug(name string) string {
	return strings.Join(strings.FieldsFunc(strings.ToLower(name), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	}), "_")
}

func (s *Server) renameField(q *request) reply {
	wrong := only(q.body, slices.DeleteFunc(slices.Clone(fieldKeys), func(k string) bool { return k == "dataType" })...)
	name := text(q.body, "name", &wrong)
	if len(wrong) > 0 {
		return unprocessable(wrong)
	}
	return s.withField(q, func(loc *location, i int) reply {
		fields := slices.Clone(loc.customFields())
		fields[i].Name = name
		loc.fields.Store(&fields)
		return reply{status: 200, body: map[string]any{"customField": loc.renderField(fields[i], i)}, committed: true}
	})
}

func (s *Server) removeField(q *request) reply {
	return s.withField(q, func(loc *location, i int) reply {
		id := loc.customFields()[i].ID
		s.rewrite(loc, func(c *snapshot) bool {
			_, had := c.custom[id]
			delete(c.custom, id)
			return had
		})
		fields := slices.Delete(slices.Clone(loc.customFields()), i, i+1)
		loc.fields.Store(&fields)
		return reply{status: 200, body: map[string]any{"succeded": true}, committed: true}
	})
}

// The businesses (dossier §3.13).

type business struct {
	id             string
	fields         map[string]any
	added, updated int64
}

var businessKeys = []string{"name", "phone", "email", "website", "address", "city", "state", "postalCode", "country", "description"}

func (b business) render(loc *location) map[string]any {
	out := maps.Clone(b.fields)
	maps.Copy(out, map[string]any{"id": b.id, "locationId": loc.conf.ID, "createdAt": stamp(b.added), "updatedAt": stamp(b.updated)})
	return out
}

func (l *location) business(id string) int {
	return slices.IndexFunc(l.firms, func(b business) bool { return b.id == id })
}

// businessName is what a search shows; nil if there is none.
func (l *location) businessName(id string) any {
	if i := l.business(id); i >= 0 {
		return l.firms[i].fields["name"]
	}
	return nil
}

func (s *Server) businesses(q *request) reply {
	if r, ok := q.located(); !ok {
		return r
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	loc := s.locations[q.loc.conf.ID]
	list := []any{}
	for _, b := range pageOf(loc.firms, q, 100, 100) {
		list = append(list, b.render(loc))
	}
	return reply{status: 200, body: map[string]any{"businesses": list}}
}

// located checks the locationId of a query.
func (q *request) located() (reply, bool) {
	id := q.query.Get("locationId")
	if id == "" {
		return unprocessable([]string{"locationId must be a string", "locationId should not be empty"}), false
	}
	return q.own(id)
}

// withBusiness does something with the business that a request names.
func (s *Server) withBusiness(q *request, do func(loc *location, i int) reply) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	loc := s.locations[q.loc.conf.ID]
	i := loc.business(q.item)
	if i < 0 {
		return failure(400, "Business with id "+q.item+" not found")
	}
	return do(loc, i)
}

func (s *Server) getBusiness(q *request) reply {
	return s.withBusiness(q, func(loc *location, i int) reply {
		return reply{status: 200, body: map[string]any{"business": loc.firms[i].render(loc)}}
	})
}

// lay writes a body onto the fields of a business.
func layBusiness(fields, body map[string]any) (wrong []string) {
	for _, k := range businessKeys {
		v, sent := body[k]
		if !sent {
			continue
		}
		if _, ok := v.(string); !ok {
			wrong = append(wrong, k+" must be a string")
			continue
		}
		setOrClear(fields, k, v)
	}
	return wrong
}

func (s *Server) createBusiness(q *request) reply {
	wrong := only(q.body, append([]string{"locationId"}, businessKeys...)...)
	text(q.body, "name", &wrong)
	id := text(q.body, "locationId", &wrong)
	b := business{fields: map[string]any{}}
	if wrong = append(wrong, layBusiness(b.fields, q.body)...); len(wrong) > 0 {
		return unprocessable(wrong)
	}
	if r, ok := q.own(id); !ok {
		return r
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	loc := s.locations[id]
	b.id, b.added = s.rng.id(), s.conf.Now().UnixMilli()
	b.updated = b.added
	loc.firms = append(loc.firms, b)
	return reply{status: 201, body: map[string]any{"success": true, "buiseness": b.render(loc)}, committed: true}
}

func (s *Server) updateBusiness(q *request) reply {
	wrong := only(q.body, businessKeys...)
	return s.withBusiness(q, func(loc *location, i int) reply {
		b := loc.firms[i]
		b.fields = maps.Clone(b.fields)
		if wrong = append(wrong, layBusiness(b.fields, q.body)...); b.fields["name"] == nil {
			wrong = append(wrong, "name should not be empty")
		}
		if len(wrong) > 0 {
			return unprocessable(wrong)
		}
		b.updated = max(s.conf.Now().UnixMilli(), b.updated+1)
		loc.firms[i] = b
		return reply{status: 200, body: map[string]any{"success": true, "buiseness": b.render(loc)}, committed: true}
	})
}

// removeBusiness also unlinks its contacts (invented).
func (s *Server) removeBusiness(q *request) reply {
	return s.withBusiness(q, func(loc *location, i int) reply {
		loc.firms = slices.Delete(loc.firms, i, i+1)
		s.rewrite(loc, func(c *snapshot) bool {
			linked := c.str("businessId") == q.item
			if linked {
				c.set("businessId", nil)
			}
			return linked
		})
		return reply{status: 200, body: map[string]any{"success": true}, committed: true}
	})
}

// The company's users (dossier §3.13). A location's token sees those of its
// location only (invented).

func (s *Server) searchUsers(q *request) reply {
	if r, ok := company(q.query.Get("companyId")); !ok {
		return r
	}
	if id := q.query.Get("locationId"); id != "" && id != q.loc.conf.ID {
		return forbidden()
	}
	query := strings.ToLower(q.query.Get("query"))
	found := slices.DeleteFunc(slices.Clone(q.loc.conf.Users), func(u User) bool {
		return !strings.Contains(strings.ToLower(u.Name+"\n"+u.Email), query)
	})
	return q.loc.renderUsers(pageOf(found, q, 25, 100), len(found))
}

func (s *Server) usersByEmail(q *request) reply {
	wrong := only(q.body, "companyId", "emails", "deleted", "skip", "limit", "projection")
	id := text(q.body, "companyId", &wrong)
	emails := strings.Split(strings.ToLower(text(q.body, "emails", &wrong)), ",")
	if len(wrong) > 0 {
		return unprocessable(wrong)
	}
	if r, ok := company(id); !ok {
		return r
	}
	found := slices.DeleteFunc(slices.Clone(q.loc.conf.Users), func(u User) bool {
		return u.Email == "" || !slices.Contains(emails, strings.ToLower(u.Email))
	})
	return q.loc.renderUsers(found, len(found))
}

func company(id string) (reply, bool) {
	switch id {
	case "":
		return unprocessable([]string{"companyId must be a string", "companyId should not be empty"}), false
	case companyID:
		return reply{}, true
	}
	return forbidden(), false
}

func (l *location) renderUsers(users []User, count int) reply {
	list := []any{}
	for _, u := range users {
		list = append(list, l.renderUser(u))
	}
	return reply{status: 200, body: map[string]any{"users": list, "count": count}}
}

// calendarEvents is GET /calendars/events (dossier §3.11): the appointments of
// a calendar or a user that begin within a time, which a group has none of
// (invented).
func (s *Server) calendarEvents(q *request) reply {
	if r, ok := q.located(); !ok {
		return r
	}
	bounds := [2]int64{}
	var wrong []string
	for i, key := range []string{"startTime", "endTime"} {
		var err error
		if bounds[i], err = strconv.ParseInt(q.query.Get(key), 10, 64); err != nil {
			wrong = append(wrong, key+" must be a number string")
		}
	}
	calendar, user, group := q.query.Get("calendarId"), q.query.Get("userId"), q.query.Get("groupId")
	if cmp.Or(calendar, user, group) == "" {
		wrong = append(wrong, "Either of userId, calendarId or groupId is required")
	}
	if len(wrong) > 0 {
		return unprocessable(wrong)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	loc := s.locations[q.loc.conf.ID]
	var found []*item
	for _, h := range loc.items {
		x := h.current()
		if x == nil || x.kind != KindAppointment || group != "" || calendar != "" && x.str("calendarId") != calendar || user != "" && x.str("assignedUserId") != user {
			continue
		}
		if at, ok := millis(x.str("startTime")); ok && at >= bounds[0] && at <= bounds[1] {
			found = append(found, x)
		}
	}
	slices.SortFunc(found, func(a, b *item) int { return cmp.Compare(a.order, b.order) })
	list := []any{}
	for _, x := range found {
		list = append(list, appointments.render(loc, x))
	}
	return reply{status: 200, body: map[string]any{"events": list}}
}
