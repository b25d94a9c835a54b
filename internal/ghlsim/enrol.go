package ghlsim

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// enrolment is a contact's being in a campaign or a workflow. The API does not
// show it, and it is not in the ledger.
type enrolment struct{ kind, id string }

// Enrolled returns the campaigns and workflows that a contact is in, as
// "campaign:id" and "workflow:id", sorted.
func (s *Server) Enrolled(locationID, contactID string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []string{}
	if loc := s.locations[locationID]; loc != nil {
		for e := range loc.enrolled[contactID] {
			out = append(out, e.kind+":"+e.id)
		}
	}
	slices.Sort(out)
	return out
}

// enrol puts a contact into a campaign or workflow, or takes it out; both may
// be done twice (invented).
func enrol(kind string, in bool, status int) func(*Server, *request) reply {
	return func(s *Server, q *request) reply {
		if wrong := wrongStart(kind, q.body); len(wrong) > 0 {
			return unprocessable(wrong)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		loc, contact, r := s.find(q)
		if contact == nil {
			return r
		}
		known, title := loc.conf.Campaigns, "Campaign"
		if kind == "workflow" {
			known, title = loc.conf.Workflows, "Workflow"
		}
		if !slices.Contains(known, q.item) {
			return failure(400, title+" with id "+q.item+" not found")
		}
		e := enrolment{kind, q.item}
		if !in {
			delete(loc.enrolled[q.id], e)
		} else if loc.enrolled[q.id] == nil {
			loc.enrolled[q.id] = map[enrolment]bool{e: true}
		} else {
			loc.enrolled[q.id][e] = true
		}
		return reply{status: status, body: map[string]any{"succeded": true}, committed: true}
	}
}

// wrongStart checks {"eventStartTime"?} of a workflow and {} of a campaign.
func wrongStart(kind string, body map[string]any) []string {
	if kind != "workflow" {
		return only(body)
	}
	wrong := only(body, "eventStartTime")
	if v, sent := body["eventStartTime"]; sent {
		s, _ := v.(string)
		if _, err := time.Parse(time.RFC3339, s); err != nil {
			wrong = append(wrong, "eventStartTime must be a valid ISO 8601 date string")
		}
	}
	return wrong
}

func (s *Server) leaveCampaigns(q *request) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	loc, contact, r := s.find(q)
	if contact == nil {
		return r
	}
	maps.DeleteFunc(loc.enrolled[q.id], func(e enrolment, _ bool) bool { return e.kind == "campaign" })
	return reply{status: 200, body: map[string]any{"succeded": true}, committed: true}
}

func (s *Server) addFollowers(q *request) reply {
	return s.follow(q, 201, "followersAdded", func(have, users []string) []string { return append(have, without(users, have)...) })
}

func (s *Server) removeFollowers(q *request) reply {
	return s.follow(q, 200, "followersRemoved", without)
}

// follow changes who follows a contact, which is a change like any other
// (invented).
func (s *Server) follow(q *request, status int, told string, edit func(have, users []string) []string) reply {
	wrong := only(q.body, "followers")
	users, ok := stringList(q.body["followers"])
	if !ok {
		wrong = append(wrong, "each value in followers must be a string", "followers must be an array")
	}
	for _, u := range users {
		if _, must := isUser(q.loc, u); must != "" || u == "" {
			wrong = append(wrong, "each value in followers must be a user of the location")
		}
	}
	if len(wrong) > 0 {
		return unprocessable(wrong)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	loc, old, r := s.find(q)
	if old == nil {
		return r
	}
	before, _ := stringList(orNone(old.fields["followers"]))
	after := edit(slices.Clone(before), slices.Compact(slices.Sorted(slices.Values(users))))
	next := old.clone()
	list := make([]any, len(after))
	for i, u := range after {
		list[i] = u
	}
	next.set("followers", list)
	s.commit(change{loc: loc, old: old, next: next, actor: ActorAPI})
	moved := append(without(after, before), without(before, after)...)
	return reply{status: status, body: map[string]any{"followers": orEmpty(after), told: orEmpty(moved)}, committed: true}
}

// orNone is a list, empty for nil.
func orNone(v any) any {
	if v == nil {
		return []any{}
	}
	return v
}

// maxBulk is how many contacts a bulk call may name; for tags it is invented
// (UNK, #315).
const maxBulk = 50

// bulkHead checks what both bulk calls have in common.
func bulkHead(q *request, contactsKey string, wrong []string) ([]string, reply, bool) {
	ids, ok := stringList(q.body[contactsKey])
	if !ok {
		wrong = append(wrong, "each value in "+contactsKey+" must be a string", contactsKey+" must be an array")
	}
	if len(ids) > maxBulk {
		wrong = append(wrong, contactsKey+" must contain no more than 50 elements")
	}
	location := text(q.body, "locationId", &wrong)
	if len(wrong) > 0 {
		return nil, unprocessable(wrong), false
	}
	r, ok := q.own(location)
	return ids, r, ok
}

// bulkTags is POST /contacts/bulk/tags/update/{type} (dossier §3.6). It may
// succeed in part.
func (s *Server) bulkTags(q *request) reply {
	if q.item != "add" && q.item != "remove" {
		return unprocessable([]string{"type must be one of the following values: add, remove"})
	}
	wrong := only(q.body, "contacts", "tags", "locationId", "removeAllTags")
	tags, ok := stringList(q.body["tags"])
	if !ok {
		wrong = append(wrong, "each value in tags must be a string", "tags must be an array")
	}
	all, isBool := q.body["removeAllTags"].(bool)
	if _, sent := q.body["removeAllTags"]; sent && (!isBool || q.item == "add") {
		wrong = append(wrong, "removeAllTags must be a boolean value, for remove only")
	}
	ids, r, ok := bulkHead(q, "contacts", wrong)
	if !ok {
		return r
	}
	tags = normalTags(tags)
	s.mu.Lock()
	defer s.mu.Unlock()
	loc := s.locations[q.loc.conf.ID]
	responses, failed := []any{}, 0
	for _, id := range ids {
		old := loc.current(id)
		if old == nil {
			failed++
			responses = append(responses, map[string]any{"contactId": id, "message": "Contact with id " + id + " not found", "type": "error"})
			continue
		}
		next := old.clone()
		switch {
		case q.item == "add":
			next.tags = normalTags(append(next.tags, tags...))
		case all:
			next.tags = nil
		default:
			next.tags = without(next.tags, tags)
		}
		s.commit(change{loc: loc, old: old, next: next, actor: ActorAPI})
		responses = append(responses, map[string]any{"contactId": id, "message": "Tags updated", "type": "success", "oldTags": orEmpty(old.tags),
			"tagsAdded": orEmpty(without(next.tags, old.tags)), "tagsRemoved": orEmpty(without(old.tags, next.tags))})
	}
	return reply{status: 201, body: map[string]any{"succeded": true, "errorCount": failed, "responses": responses}, committed: true}
}

// bulkBusiness is POST /contacts/bulk/business (dossier §3.6); contacts that
// are not there are left out of the answer (invented).
func (s *Server) bulkBusiness(q *request) reply {
	wrong := only(q.body, "locationId", "ids", "businessId")
	v, sent := q.body["businessId"]
	firm, ok := v.(string)
	if !sent || v != nil && !ok {
		wrong = append(wrong, "businessId must be a string")
	}
	ids, r, ok := bulkHead(q, "ids", wrong)
	if !ok {
		return r
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	loc := s.locations[q.loc.conf.ID]
	if firm != "" && loc.business(firm) < 0 {
		return failure(400, "Business with id "+firm+" not found")
	}
	done := []string{}
	for _, id := range ids {
		old := loc.current(id)
		if old == nil {
			continue
		}
		next := old.clone()
		next.set("businessId", firm)
		s.commit(change{loc: loc, old: old, next: next, actor: ActorAPI})
		done = append(done, id)
	}
	return reply{status: 200, body: map[string]any{"success": true, "ids": done}, committed: true}
}

// businessContacts is GET /contacts/business/{businessId} (dossier §3.5),
// oldest first (invented).
func (s *Server) businessContacts(q *request) reply {
	if r, ok := q.located(); !ok {
		return r
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	loc := s.locations[q.loc.conf.ID]
	found := loc.listed(func(c *snapshot) bool { return c.str("businessId") == q.item && c.says(q.query.Get("query")) })
	list := []any{}
	for _, c := range pageOf(found, q, 25, 100) {
		list = append(list, render(loc, c))
	}
	return reply{status: 200, body: map[string]any{"contacts": list, "count": len(found)}}
}

// listed returns the live contacts that keep says, oldest first.
func (l *location) listed(keep func(*snapshot) bool) []*snapshot {
	var found []*snapshot
	for id := range l.contacts {
		if c := l.current(id); c != nil && keep(c) {
			found = append(found, c)
		}
	}
	slices.SortFunc(found, func(a, b *snapshot) int { return cmp.Or(cmp.Compare(a.added, b.added), cmp.Compare(a.id, b.id)) })
	return found
}

// says looks for a text in what a list is searched by (invented).
func (s *snapshot) says(query string) bool {
	return strings.Contains(strings.ToLower(s.name()+"\n"+s.str("email")+"\n"+s.str("phone")), strings.ToLower(query))
}

// list is the deprecated GET /contacts/ (dossier §3.4): oldest first unless
// order is desc (invented), after the contact that startAfter and startAfterId
// name together. It is not behind, as the search index is (invented).
func (s *Server) list(q *request) reply {
	if r, ok := q.located(); !ok {
		return r
	}
	var wrong []string
	limit, err := strconv.Atoi(cmp.Or(q.query.Get("limit"), "20"))
	if err != nil || limit < 1 || limit > 100 {
		wrong = append(wrong, "limit must not be greater than 100")
	}
	byUpdate := q.query.Get("sortBy") == "date_updated"
	desc := q.query.Get("order") == "desc"
	after, afterID := q.query.Get("startAfter"), q.query.Get("startAfterId")
	from, err := strconv.ParseInt(cmp.Or(after, "0"), 10, 64)
	if err != nil || (after == "") != (afterID == "") {
		wrong = append(wrong, "startAfter and startAfterId must be given together")
	}
	if len(wrong) > 0 {
		return unprocessable(wrong)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	loc := s.locations[q.loc.conf.ID]
	at := func(c *snapshot) int64 {
		if byUpdate {
			return c.updated
		}
		return c.added
	}
	compare := func(at1 int64, id1 string, at2 int64, id2 string) int {
		n := cmp.Or(cmp.Compare(at1, at2), cmp.Compare(id1, id2))
		if desc {
			return -n
		}
		return n
	}
	all := loc.listed(func(c *snapshot) bool { return c.says(q.query.Get("query")) })
	slices.SortFunc(all, func(a, b *snapshot) int { return compare(at(a), a.id, at(b), b.id) })
	rest := slices.DeleteFunc(slices.Clone(all), func(c *snapshot) bool { return afterID != "" && compare(at(c), c.id, from, afterID) <= 0 })
	page := rest[:min(limit, len(rest))]
	list := []any{}
	meta := map[string]any{"total": len(all), "currentPage": 1, "nextPage": nil, "prevPage": nil, "nextPageUrl": nil, "startAfter": nil, "startAfterId": nil}
	for _, c := range page {
		shown := render(loc, c)
		shown["contactName"] = c.name()
		list = append(list, shown)
	}
	if len(rest) > len(page) {
		last := page[len(page)-1]
		meta["startAfter"], meta["startAfterId"], meta["nextPage"] = at(last), last.id, 2
		// The token has no access to what this URL asks for (n8n#11353): it
		// lacks the location.
		meta["nextPageUrl"] = "https://services.leadconnectorhq.com/contacts/?startAfterId=" + last.id
	}
	return reply{status: 200, body: map[string]any{"contacts": list, "count": len(list), "meta": meta}}
}
