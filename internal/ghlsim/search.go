package ghlsim

import (
	"cmp"
	"container/heap"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Limits of POST /contacts/search (dossier §3.3 [DOC]); the last two bound the
// simulator's work and are invented.
const (
	maxPageLimit  = 500
	maxPaged      = 10_000
	maxQueryChars = 75
	maxFilters    = 200
	maxDepth      = 5
)

// search is POST /contacts/search: it shows the state of IndexLag ago, without
// dndSettings, with address in place of address1.
func (s *Server) search(q *request) reply {
	sq, bad := readSearch(q)
	if bad.status != 0 {
		return bad
	}
	s.mu.Lock()
	loc := s.locations[sq.locationID]
	at := s.indexTime()
	loc.bury(at)
	top := &topK{sq: sq, k: sq.skip + sq.limit}
	total := 0
	for _, c := range loc.contacts {
		snap := c.asOf(at)
		if snap == nil || !sq.matches(snap) {
			continue
		}
		total++
		h := hit{snap: snap, keys: sq.keys(snap)}
		if sq.after != nil && sq.compare(h, *sq.after) <= 0 {
			continue
		}
		top.offer(h)
	}
	s.mu.Unlock()
	// The snapshots are immutable, so the rest needs no lock.
	slices.SortFunc(top.hits, sq.compare)
	items := []any{}
	for _, h := range top.hits[min(sq.skip, len(top.hits)):] {
		items = append(items, s.item(loc, sq, h))
	}
	return reply{status: 200, body: map[string]any{"contacts": items, "total": total}}
}

// searchQuery is a search body that was understood.
type searchQuery struct {
	locationID  string
	limit, skip int
	query       string
	filter      func(*snapshot) bool
	sort        []sortField
	after       *hit
}

type sortField struct {
	field string
	desc  bool
	get   func(*snapshot) any
}

// sortKey is a sort value; a missing one comes last in either direction
// (invented, as Elasticsearch does by default).
type sortKey struct {
	missing, number bool
	num             float64
	str             string
}

type hit struct {
	snap *snapshot
	id   string // of a cursor, which has no snap
	keys [2]sortKey
}

func (h hit) contactID() string {
	if h.snap != nil {
		return h.snap.id
	}
	return h.id
}

func readSearch(q *request) (*searchQuery, reply) {
	var wrong []string
	for k := range q.body {
		switch k {
		case "locationId", "pageLimit", "page", "searchAfter", "query", "filters", "sort":
		default:
			wrong = append(wrong, "property "+k+" should not exist")
		}
	}
	slices.Sort(wrong)
	sq := &searchQuery{}
	sq.locationID, _ = q.body["locationId"].(string)
	if sq.locationID == "" {
		wrong = append(wrong, "locationId must be a string", "locationId should not be empty")
	}
	limit, ok := wholeNumber(q.body["pageLimit"])
	switch {
	case !ok:
		wrong = append(wrong, "pageLimit must be a number", "pageLimit should not be empty")
	case limit < 1:
		wrong = append(wrong, "pageLimit must not be less than 1")
	case limit > maxPageLimit:
		wrong = append(wrong, "pageLimit must not be greater than "+strconv.Itoa(maxPageLimit))
	}
	page := 1
	v, paged := q.body["page"]
	if paged {
		if page, ok = wholeNumber(v); !ok || page < 1 {
			wrong = append(wrong, "page must not be less than 1")
		}
	}
	sq.query, ok = q.body["query"].(string)
	if _, sent := q.body["query"]; sent && !ok {
		wrong = append(wrong, "query must be a string")
	}
	if len(wrong) > 0 {
		return nil, unprocessable(wrong)
	}
	if sq.locationID != q.loc.conf.ID {
		return nil, forbidden()
	}
	sq.limit, sq.query = limit, strings.ToLower(strings.TrimSpace(sq.query))
	if len([]rune(sq.query)) > maxQueryChars {
		return nil, failure(400, "query must not be longer than 75 characters")
	}
	if page > maxPaged || page*limit > maxPaged {
		return nil, failure(400, "page * pageLimit must not be greater than 10000, use searchAfter")
	}
	sq.skip = (page - 1) * limit
	var message string
	left := maxFilters
	if sq.filter, message = compileList(q.loc, q.body["filters"], "AND", &left, 0); message != "" {
		return nil, failure(400, message)
	}
	if message = sq.readSort(q.loc, q.body["sort"]); message != "" {
		return nil, failure(400, message)
	}
	if cursor, sent := q.body["searchAfter"]; sent && cursor != nil {
		if list, ok := cursor.([]any); ok && len(list) == 0 {
			return sq, reply{}
		}
		if paged {
			return nil, failure(400, "page and searchAfter cannot be used together")
		}
		if sq.after = sq.readCursor(cursor); sq.after == nil {
			return nil, failure(400, "Invalid searchAfter")
		}
	}
	return sq, reply{}
}

func wholeNumber(v any) (int, bool) {
	f, ok := v.(float64)
	if !ok || f != math.Trunc(f) || math.Abs(f) > 1e9 {
		return 0, false
	}
	return int(f), true
}

var sortable = []string{
	"firstNameLowerCase", "lastNameLowerCase", "businessName", "dateAdded", "dateUpdated", "email", "dnd", "source",
}

// readSort reads at most two sort fields. Without any, newest first
// (invented).
func (sq *searchQuery) readSort(loc *location, v any) string {
	list, ok := v.([]any)
	if v != nil && !ok {
		return "sort must be an array"
	}
	if len(list) > 2 {
		return "sort must contain not more than 2 elements"
	}
	if len(list) == 0 {
		list = []any{map[string]any{"field": "dateAdded", "direction": "desc"}}
	}
	for _, x := range list {
		m, _ := x.(map[string]any)
		field, _ := m["field"].(string)
		if !slices.Contains(sortable, field) {
			return "Invalid field " + field
		}
		direction, _ := m["direction"].(string)
		if direction != "asc" && direction != "desc" {
			return "Invalid direction " + direction
		}
		get, _ := getter(loc, field)
		sq.sort = append(sq.sort, sortField{field, direction == "desc", get})
	}
	return ""
}

func (sq *searchQuery) keys(s *snapshot) (out [2]sortKey) {
	for i, f := range sq.sort {
		switch v := f.get(s).(type) {
		case int64:
			out[i] = sortKey{number: true, num: float64(v)}
		case bool:
			out[i] = sortKey{number: true}
			if v {
				out[i].num = 1
			}
		case string:
			out[i] = sortKey{str: v, missing: v == ""}
		default:
			out[i] = sortKey{missing: true}
		}
	}
	return out
}

// compare orders by the sort fields, then by id, so that a cursor names
// exactly one place.
func (sq *searchQuery) compare(a, b hit) int {
	for i, f := range sq.sort {
		x, y := a.keys[i], b.keys[i]
		switch {
		case x.missing && y.missing:
			continue
		case x.missing:
			return 1
		case y.missing:
			return -1
		}
		n := cmp.Or(cmp.Compare(x.num, y.num), cmp.Compare(x.str, y.str))
		if f.desc {
			n = -n
		}
		if n != 0 {
			return n
		}
	}
	return cmp.Compare(a.contactID(), b.contactID())
}

func (sq *searchQuery) cursor(h hit) []any {
	out := make([]any, 0, len(sq.sort)+1)
	for i := range sq.sort {
		switch k := h.keys[i]; {
		case k.missing:
			out = append(out, nil)
		case k.number:
			out = append(out, int64(k.num))
		default:
			out = append(out, k.str)
		}
	}
	return append(out, h.contactID())
}

// readCursor reads what cursor wrote; nil if it is of another sort.
func (sq *searchQuery) readCursor(v any) *hit {
	list, ok := v.([]any)
	if !ok || len(list) != len(sq.sort)+1 {
		return nil
	}
	var h hit
	for i, f := range sq.sort {
		numeric := f.field == "dateAdded" || f.field == "dateUpdated" || f.field == "dnd"
		switch x := list[i].(type) {
		case nil:
			h.keys[i] = sortKey{missing: true}
		case float64:
			if !numeric {
				return nil
			}
			h.keys[i] = sortKey{number: true, num: x}
		case string:
			if numeric {
				return nil
			}
			h.keys[i] = sortKey{str: x}
		default:
			return nil
		}
	}
	h.id, ok = list[len(list)-1].(string)
	if !ok {
		return nil
	}
	return &h
}

func (sq *searchQuery) matches(s *snapshot) bool {
	if !sq.filter(s) {
		return false
	}
	if sq.query == "" {
		return true
	}
	for _, v := range []string{s.name(), s.str("email"), s.str("phone"), s.str("companyName")} {
		if strings.Contains(strings.ToLower(v), sq.query) {
			return true
		}
	}
	return false
}

// topK keeps the first k hits of a query, so that one page out of many costs
// one pass and no full sort. It is a heap with the last hit on top.
type topK struct {
	sq   *searchQuery
	k    int
	hits []hit
}

func (t *topK) offer(h hit) {
	if len(t.hits) < t.k {
		heap.Push(t, h)
		return
	}
	if t.sq.compare(h, t.hits[0]) < 0 {
		t.hits[0] = h
		heap.Fix(t, 0)
	}
}

func (t *topK) Len() int           { return len(t.hits) }
func (t *topK) Less(i, j int) bool { return t.sq.compare(t.hits[i], t.hits[j]) > 0 }
func (t *topK) Swap(i, j int)      { t.hits[i], t.hits[j] = t.hits[j], t.hits[i] }
func (t *topK) Push(x any)         { t.hits = append(t.hits, x.(hit)) }
func (t *topK) Pop() any {
	h := t.hits[len(t.hits)-1]
	t.hits = t.hits[:len(t.hits)-1]
	return h
}

// item is one result, as the index shows it.
func (s *Server) item(loc *location, sq *searchQuery, h hit) map[string]any {
	snap := h.snap
	first, last := snap.str("firstName"), snap.str("lastName")
	out := map[string]any{
		"id": snap.id, "locationId": snap.location,
		"additionalEmails": []any{}, "additionalPhones": []any{}, "followers": orNone(snap.fields["followers"]), "opportunities": []any{},
		"businessId": nil, "businessName": loc.businessName(snap.str("businessId")), "phoneLabel": nil, "validEmail": nil,
		"dnd": snap.fields["dnd"] == true, "tags": orEmpty(snap.tags), "customFields": customList(loc, snap),
		"dateAdded": stamp(snap.added), "dateUpdated": stamp(snap.updated),
		"searchAfter": sq.cursor(h),
	}
	setOrClear(out, "firstName", first)
	setOrClear(out, "lastName", last)
	setOrClear(out, "firstNameLowerCase", strings.ToLower(first))
	setOrClear(out, "lastNameLowerCase", strings.ToLower(last))
	setOrClear(out, "address", snap.str("address1"))
	for _, f := range []string{
		"assignedTo", "businessId", "city", "companyName", "country", "dateOfBirth", "email", "phone", "postalCode",
		"source", "state", "type", "website",
	} {
		if v := snap.str(f); v != "" {
			out[f] = v
		}
	}
	if s.conf.Quirks.LowercaseNames {
		setOrClear(out, "firstName", strings.ToLower(first))
		setOrClear(out, "lastName", strings.ToLower(last))
		setOrClear(out, "contactName", strings.ToLower(snap.name()))
		setOrClear(out, "firstNameRaw", first)
		setOrClear(out, "lastNameRaw", last)
	}
	if ms, ok := millis(out["dateOfBirth"]); ok && s.conf.Quirks.SearchBirthMillis {
		out["dateOfBirth"] = ms
	}
	return out
}

// filterFields maps the filterable fields to what they read; "" means that
// the simulator holds no such value, so the field is always empty.
var filterFields = map[string]string{
	"address": "address1", "assignedTo": "assignedTo", "city": "city", "companyName": "companyName",
	"country": "country", "email": "email", "phone": "phone", "postalCode": "postalCode", "source": "source",
	"state": "state", "timezone": "timezone", "type": "type", "website": "website",
	"businessName": "", "followers": "", "isValidWhatsapp": "", "lastEmailClickedDate": "",
	"lastEmailOpenedDate": "", "validEmail": "", "lastAppointment": "", "activeWorkflows": "",
	"finishedWorkflows": "", "opportunities": "",
}

// getter returns how to read a filter or sort field, and whether it exists.
// Values are string, bool, []string, int64 (epoch ms), or a custom field's.
func getter(loc *location, field string) (func(*snapshot) any, bool) {
	switch field {
	case "id":
		return func(s *snapshot) any { return s.id }, true
	case "dateAdded":
		return func(s *snapshot) any { return s.added }, true
	case "dateUpdated":
		return func(s *snapshot) any { return s.updated }, true
	case "dnd":
		return func(s *snapshot) any { return s.fields["dnd"] == true }, true
	case "tags":
		return func(s *snapshot) any { return s.tags }, true
	case "firstNameLowerCase":
		return func(s *snapshot) any { return strings.ToLower(s.str("firstName")) }, true
	case "lastNameLowerCase":
		return func(s *snapshot) any { return strings.ToLower(s.str("lastName")) }, true
	}
	if id, ok := strings.CutPrefix(field, "customFields."); ok {
		// The filter wants the field's id, not its key (#42).
		for _, f := range loc.customFields() {
			if f.ID == id {
				return func(s *snapshot) any { return s.custom[id] }, true
			}
		}
		return nil, false
	}
	stored, ok := filterFields[field]
	if !ok {
		return nil, false
	}
	return func(s *snapshot) any { return s.str(stored) }, true
}

// compileList turns a list of filters into one test, or returns the message of
// a 400. left bounds their number.
func compileList(loc *location, v any, group string, left *int, depth int) (func(*snapshot) bool, string) {
	list, ok := v.([]any)
	if v != nil && !ok {
		return nil, "filters must be an array"
	}
	if depth > maxDepth {
		return nil, "filters are nested too deeply"
	}
	if group != "AND" && group != "OR" {
		return nil, "Invalid group " + group
	}
	tests := make([]func(*snapshot) bool, 0, len(list))
	for _, x := range list {
		m, ok := x.(map[string]any)
		if *left--; !ok || *left < 0 {
			return nil, "Invalid filters"
		}
		var test func(*snapshot) bool
		var message string
		if g, grouped := m["group"].(string); grouped {
			test, message = compileList(loc, m["filters"], g, left, depth+1)
		} else {
			test, message = compile(loc, m)
		}
		if message != "" {
			return nil, message
		}
		tests = append(tests, test)
	}
	if group == "OR" && len(tests) > 0 {
		return func(s *snapshot) bool {
			return slices.ContainsFunc(tests, func(t func(*snapshot) bool) bool { return t(s) })
		}, ""
	}
	return func(s *snapshot) bool {
		return !slices.ContainsFunc(tests, func(t func(*snapshot) bool) bool { return !t(s) })
	}, ""
}

// compile turns {field, operator, value} into a test.
func compile(loc *location, m map[string]any) (func(*snapshot) bool, string) {
	field, _ := m["field"].(string)
	operator, _ := m["operator"].(string)
	get, ok := getter(loc, field)
	if !ok {
		return nil, "Invalid field " + field
	}
	value := m["value"]
	if operator == "eq" || operator == "not_eq" || operator == "contains" || operator == "not_contains" {
		for _, w := range wanted(value) {
			if s, ok := w.(string); ok && len([]rune(s)) > maxQueryChars {
				return nil, "Value of field " + field + " must not be longer than 75 characters"
			}
		}
	}
	switch operator {
	case "eq", "not_eq":
		want := wanted(value)
		if len(want) == 0 {
			return nil, "Invalid value for field " + field
		}
		negate := operator == "not_eq"
		return func(s *snapshot) bool {
			v := get(s)
			return slices.ContainsFunc(want, func(w any) bool { return equals(v, w) }) != negate
		}, ""
	case "contains", "not_contains":
		part, ok := value.(string)
		switch {
		case field == "email":
			return nil, "Invalid operator " + operator + " for field email"
		case !ok || part == "" || strings.ContainsAny(part, "!@#$%^&*()+=[]{}|\\;:'\",<>?~`"):
			return nil, "Invalid value for field " + field
		}
		part = strings.ToLower(part)
		negate := operator == "not_contains"
		return func(s *snapshot) bool {
			return slices.ContainsFunc(texts(get(s)), func(t string) bool { return strings.Contains(t, part) }) != negate
		}, ""
	case "exists":
		return func(s *snapshot) bool { return present(get(s)) }, ""
	case "not_exists":
		return func(s *snapshot) bool { return !present(get(s)) }, ""
	case "range":
		test, ok := compileRange(value)
		if !ok {
			return nil, "Invalid value for field " + field
		}
		return func(s *snapshot) bool { return test(get(s)) }, ""
	case "nested":
		// Only opportunities nest, and the simulator has none.
		return func(*snapshot) bool { return false }, ""
	}
	return nil, "Invalid operator " + operator
}

// wanted makes a list of a value; a list means any of them (INF).
func wanted(v any) []any {
	switch v := v.(type) {
	case nil:
		return nil
	case []any:
		return v
	}
	return []any{v}
}

func present(v any) bool {
	switch v := v.(type) {
	case []string:
		return len(v) > 0
	case bool:
		return true
	}
	return !isEmpty(v)
}

// texts returns the lower-cased strings in a value.
func texts(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{strings.ToLower(v)}
	case []string:
		return v
	case []any:
		var out []string
		for _, x := range v {
			out = append(out, texts(x)...)
		}
		return out
	case float64:
		return []string{strconv.FormatFloat(v, 'f', -1, 64)}
	}
	return nil
}

// equals compares without regard to case (INF).
func equals(v, want any) bool {
	switch x := v.(type) {
	case bool:
		return x == want || strconv.FormatBool(x) == want
	case int64:
		ms, ok := millis(want)
		return ok && ms == x
	}
	w := texts(want)
	return len(w) == 1 && slices.Contains(texts(v), w[0])
}

// millis reads an instant: epoch ms or ISO-8601, both of which are used [OBS].
func millis(v any) (int64, bool) {
	switch v := v.(type) {
	case float64:
		return int64(v), true
	case string:
		for _, layout := range []string{time.RFC3339Nano, "2006-01-02"} {
			if t, err := time.Parse(layout, v); err == nil {
				return t.UnixMilli(), true
			}
		}
	}
	return 0, false
}

// compileRange reads {gte, lte, gt, lt}. Instants compare as such, numbers as
// numbers, other text as text.
func compileRange(value any) (func(any) bool, bool) {
	bounds, ok := value.(map[string]any)
	if !ok || len(bounds) == 0 {
		return nil, false
	}
	tests := map[string]func(int) bool{
		"gte": func(n int) bool { return n >= 0 }, "lte": func(n int) bool { return n <= 0 },
		"gt": func(n int) bool { return n > 0 }, "lt": func(n int) bool { return n < 0 },
	}
	for op, bound := range bounds {
		switch bound.(type) {
		case string, float64:
		default:
			return nil, false
		}
		if tests[op] == nil {
			return nil, false
		}
	}
	return func(v any) bool {
		if !present(v) {
			return false
		}
		for op, bound := range bounds {
			n, ok := compareValues(v, bound)
			if !ok || !tests[op](n) {
				return false
			}
		}
		return true
	}, true
}

func compareValues(v, bound any) (int, bool) {
	switch x := v.(type) {
	case int64:
		ms, ok := millis(bound)
		return cmp.Compare(x, ms), ok
	case float64:
		f, ok := bound.(float64)
		if s, text := bound.(string); text {
			var err error
			f, err = strconv.ParseFloat(s, 64)
			ok = err == nil
		}
		return cmp.Compare(x, f), ok
	case string:
		s, ok := bound.(string)
		return cmp.Compare(strings.ToLower(x), strings.ToLower(s)), ok
	}
	return 0, false
}
