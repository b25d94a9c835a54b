package ghlsim

import (
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-json"
)

// maxBody bounds a request body.
const maxBody = 1 << 20

// versions are the published values of the Version header (dossier §1.1). Any
// of them is accepted on every path [OBS].
var versions = []string{"legacy", "2021-04-15", "2021-07-28", "2023-02-21", "v3"}

// request is an authenticated API request.
type request struct {
	loc   *location // the token's; only its conf may be read without mu
	id    string    // first path parameter
	item  string    // second path parameter
	query url.Values
	body  map[string]any
}

// reply is an answer that has yet to be written.
type reply struct {
	status    int
	body      map[string]any
	committed bool // a write was committed
	created   bool // … and made a contact
}

// route is one operation of the API. Its path is also its class in Stats.
type route struct {
	method, path string
	scope        string
	write        bool
	do           func(*Server, *request) reply
}

// routes are all operations; of two paths that fit, the first one counts. PUT
// of a contact's tags does not exist (dossier §0.4).
var routes = []route{
	{"POST", "/contacts", scopeContactsWrite, true, (*Server).create},
	{"POST", "/contacts/search", scopeContactsRead, false, (*Server).search},
	{"GET", "/contacts/search/duplicate", scopeContactsRead, false, (*Server).lookup},
	{"POST", "/contacts/upsert", scopeContactsWrite, true, (*Server).upsert},
	{"GET", "/contacts", scopeContactsRead, false, (*Server).list},
	{"POST", "/contacts/bulk/business", scopeContactsWrite, true, (*Server).bulkBusiness},
	{"POST", "/contacts/bulk/tags/update/{item}", scopeContactsWrite, true, (*Server).bulkTags},
	{"GET", "/contacts/business/{item}", scopeContactsRead, false, (*Server).businessContacts},
	{"GET", "/contacts/{id}", scopeContactsRead, false, (*Server).get},
	{"PUT", "/contacts/{id}", scopeContactsWrite, true, (*Server).update},
	{"DELETE", "/contacts/{id}", scopeContactsWrite, true, (*Server).remove},
	{"POST", "/contacts/{id}/tags", scopeContactsWrite, true, (*Server).addTags},
	{"DELETE", "/contacts/{id}/tags", scopeContactsWrite, true, (*Server).removeTags},
	{"POST", "/contacts/{id}/followers", scopeContactsWrite, true, (*Server).addFollowers},
	{"DELETE", "/contacts/{id}/followers", scopeContactsWrite, true, (*Server).removeFollowers},
	{"DELETE", "/contacts/{id}/campaigns/removeAll", scopeContactsWrite, true, (*Server).leaveCampaigns},
	{"POST", "/contacts/{id}/campaigns/{item}", scopeContactsWrite, true, enrol("campaign", true, 201)},
	{"DELETE", "/contacts/{id}/campaigns/{item}", scopeContactsWrite, true, enrol("campaign", false, 200)},
	{"POST", "/contacts/{id}/workflow/{item}", scopeContactsWrite, true, enrol("workflow", true, 200)},
	{"DELETE", "/contacts/{id}/workflow/{item}", scopeContactsWrite, true, enrol("workflow", false, 200)},

	{"GET", "/contacts/{id}/tasks", scopeContactsRead, false, tasks.list},
	{"POST", "/contacts/{id}/tasks", scopeContactsWrite, true, tasks.create},
	{"GET", "/contacts/{id}/tasks/{item}", scopeContactsRead, false, tasks.get},
	{"PUT", "/contacts/{id}/tasks/{item}", scopeContactsWrite, true, tasks.update},
	{"DELETE", "/contacts/{id}/tasks/{item}", scopeContactsWrite, true, tasks.remove},
	{"PUT", "/contacts/{id}/tasks/{item}/completed", scopeContactsWrite, true, (*Server).complete},
	{"POST", "/locations/{id}/tasks/search", scopeTasksRead, false, (*Server).searchTasks},
	{"GET", "/contacts/{id}/notes", scopeContactsRead, false, notes.list},
	{"POST", "/contacts/{id}/notes", scopeContactsWrite, true, notes.create},
	{"GET", "/contacts/{id}/notes/{item}", scopeContactsRead, false, notes.get},
	{"PUT", "/contacts/{id}/notes/{item}", scopeContactsWrite, true, notes.update},
	{"DELETE", "/contacts/{id}/notes/{item}", scopeContactsWrite, true, notes.remove},
	{"GET", "/contacts/{id}/appointments", scopeContactsRead, false, (*Server).contactAppointments},
	{"POST", "/calendars/events/appointments", scopeEventsWrite, true, (*Server).createAppointment},
	{"GET", "/calendars/events/appointments/{item}", scopeEventsRead, false, (*Server).getAppointment},
	{"PUT", "/calendars/events/appointments/{item}", scopeEventsWrite, true, (*Server).updateAppointment},
	{"GET", "/calendars/events", scopeEventsRead, false, (*Server).calendarEvents},
	{"DELETE", "/calendars/events/{item}", scopeEventsWrite, true, (*Server).removeAppointment},

	{"GET", "/users", scopeUsersRead, false, (*Server).users},
	{"GET", "/users/search", scopeUsersRead, false, (*Server).searchUsers},
	{"POST", "/users/search/filter-by-email", scopeUsersRead, false, (*Server).usersByEmail},
	{"GET", "/users/{id}", scopeUsersRead, false, (*Server).user},
	{"GET", "/locations/{id}", scopeLocationsRead, false, (*Server).location},
	{"GET", "/locations/{id}/tags", scopeTagsRead, false, (*Server).locationTags},
	{"POST", "/locations/{id}/tags", scopeTagsWrite, true, (*Server).createTag},
	{"GET", "/locations/{id}/tags/{item}", scopeTagsRead, false, (*Server).getTag},
	{"PUT", "/locations/{id}/tags/{item}", scopeTagsWrite, true, (*Server).renameTag},
	{"DELETE", "/locations/{id}/tags/{item}", scopeTagsWrite, true, (*Server).removeTag},
	{"GET", "/locations/{id}/customFields", scopeFieldsRead, false, (*Server).customFields},
	{"POST", "/locations/{id}/customFields", scopeFieldsWrite, true, (*Server).createField},
	{"GET", "/locations/{id}/customFields/{item}", scopeFieldsRead, false, (*Server).getField},
	{"PUT", "/locations/{id}/customFields/{item}", scopeFieldsWrite, true, (*Server).renameField},
	{"DELETE", "/locations/{id}/customFields/{item}", scopeFieldsWrite, true, (*Server).removeField},

	{"GET", "/businesses", scopeBusinessesRead, false, (*Server).businesses},
	{"POST", "/businesses", scopeBusinessesWrite, true, (*Server).createBusiness},
	{"GET", "/businesses/{item}", scopeBusinessesRead, false, (*Server).getBusiness},
	{"PUT", "/businesses/{item}", scopeBusinessesWrite, true, (*Server).updateBusiness},
	{"DELETE", "/businesses/{item}", scopeBusinessesWrite, true, (*Server).removeBusiness},
}

// findRoute returns the route of a request and its path parameters, or a route
// whose do is nil.
func findRoute(method, path string) (route, request) {
	seg := strings.Split(strings.Trim(path, "/"), "/")
	found := route{path: "other"}
	for _, rt := range routes {
		q, ok := fits(strings.Split(rt.path[1:], "/"), seg)
		switch {
		case !ok || found.path != "other" && found.path != rt.path:
		case rt.method == method:
			return rt, q
		default:
			found = route{path: rt.path}
		}
	}
	return found, request{}
}

// fits compares a path with a pattern and reads its parameters.
func fits(pattern, seg []string) (request, bool) {
	var q request
	if len(pattern) != len(seg) {
		return q, false
	}
	for i, p := range pattern {
		switch p {
		case "{id}":
			q.id = seg[i]
		case "{item}":
			q.item = seg[i]
		default:
			if p != seg[i] {
				return q, false
			}
		}
	}
	return q, true
}

// Handler answers the API and, under /_sim/, the admin API of README.md. The
// admin API has no authentication.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	s.admin(mux)
	s.serveOAuth(mux)
	mux.HandleFunc("/", s.serveAPI)
	return mux
}

// serveAPI is every API request: latency, authentication, limits, injected
// failures, the operation, the reply.
func (s *Server) serveAPI(w http.ResponseWriter, r *http.Request) {
	rt, q := findRoute(r.Method, r.URL.Path)
	s.mu.Lock()
	s.stats.Requests[r.Method+" "+rt.path]++
	faults := s.faults
	s.mu.Unlock()
	if faults.Latency > 0 {
		t := time.NewTimer(faults.Latency)
		defer t.Stop()
		select {
		case <-t.C:
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
	rep := s.answer(w.Header(), r, rt, q, faults)
	if rep.committed && s.rng.chance(faults.ResetAfterCommit) {
		// The one way to close the connection without a reply.
		panic(http.ErrAbortHandler)
	}
	if rep.created && s.rng.chance(faults.CreatedBut422) {
		rep = unprocessable([]string{"contact could not be validated"})
	}
	s.conf.Logger.Debug().Str("method", r.Method).Str("route", rt.path).Int("status", rep.status).Msg("simulated GHL request")
	if rep.body == nil {
		w.WriteHeader(rep.status)
		return
	}
	rep.body["traceId"] = s.rng.uuid()
	writeJSON(w, rep.status, rep.body)
}

// answer does what a request asks for. The order of the checks is: token,
// version, rate limit, route, scope, body. It is INF. Everything with a good
// token spends from the rate limit.
func (s *Server) answer(h http.Header, r *http.Request, rt route, q request, faults Faults) reply {
	limitHeaders(h, s.conf, s.conf.Burst, s.conf.Daily)
	if s.conf.Quirks.StrictAccept && !strings.Contains(r.Header.Get("Accept"), "application/json") {
		return reply{status: 404}
	}
	tok, loc, message := s.authenticate(r.Header.Get("Authorization"))
	if message != "" {
		return unauthorized(message)
	}
	s.mu.Lock()
	ok, burst, daily, wait := loc.window.take(s.conf.Now(), s.conf)
	s.mu.Unlock()
	if s.rng.chance(faults.API429) {
		ok, burst = false, 0
	}
	limitHeaders(h, s.conf, burst, daily)
	version := r.Header.Get("Version")
	switch {
	case version == "":
		return unauthorized("version header was not found.")
	case !slices.Contains(versions, version):
		return unauthorized("version header is invalid")
	case !ok:
		s.mu.Lock()
		s.stats.HTTP429++
		s.mu.Unlock()
		if s.conf.Quirks.RetryAfter {
			h.Set("Retry-After", strconv.Itoa(int((wait+time.Second-1)/time.Second)))
		}
		return failure(429, "Too Many Requests")
	case s.rng.chance(faults.API5xx):
		return s.gatewayFailure()
	case rt.do == nil:
		rep := failure(404, "Cannot "+r.Method+" "+r.URL.Path)
		rep.body["error"] = "Not Found"
		return rep
	case !slices.Contains(tok.Scopes, rt.scope):
		return unauthorized("The token is not authorized for this scope.")
	}
	s.mu.Lock()
	if rt.write {
		s.stats.Writes++
	} else {
		s.stats.Reads++
	}
	s.mu.Unlock()
	q.loc, q.query = loc, r.URL.Query()
	if r.Method != http.MethodGet {
		var bad reply
		if q.body, bad = readBody(r); bad.status != 0 {
			return bad
		}
	}
	return rt.do(s, &q)
}

// authenticate returns the token and its location, or the message of a 401.
func (s *Server) authenticate(header string) (Token, *location, string) {
	value, found := strings.CutPrefix(header, "Bearer ")
	if !found || value == "" {
		return Token{}, nil, "Invalid JWT"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	tok, known := s.tokens[value]
	if tok.companyID != "" && s.conf.Now().Before(tok.ExpiresAt) {
		return Token{}, nil, wrongClass
	}
	loc := s.locations[tok.LocationID]
	if !known || loc == nil || !tok.ExpiresAt.IsZero() && !s.conf.Now().Before(tok.ExpiresAt) {
		if strings.HasPrefix(value, "pit-") {
			return Token{}, nil, "Invalid Private Integration token"
		}
		return Token{}, nil, "Invalid token: access token is invalid"
	}
	return tok, loc, ""
}

// readBody reads a JSON object. A body of another content type is not looked
// at, and an absent one is {} (both INF, as an Express server would).
func readBody(r *http.Request) (map[string]any, reply) {
	body := map[string]any{}
	if ct, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || ct != "application/json" {
		return body, reply{}
	}
	raw, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, failure(413, "request entity too large")
	case err != nil:
		panic(http.ErrAbortHandler)
	case len(raw) == 0:
		return body, reply{}
	}
	if err := json.Unmarshal(raw, &body); err != nil || body == nil {
		return nil, failure(400, "Unexpected token in JSON")
	}
	return body, reply{}
}

func failure(status int, message string) reply {
	return reply{status: status, body: map[string]any{"statusCode": status, "message": message}}
}

func unauthorized(message string) reply {
	r := failure(401, message)
	r.body["error"] = "Unauthorized"
	return r
}

func forbidden() reply { return failure(403, "The token does not have access to this location.") }

func unprocessable(messages []string) reply {
	return reply{status: 422, body: map[string]any{
		"statusCode": 422, "message": messages, "error": "Unprocessable Entity",
	}}
}

// gatewayFailure is an injected 5xx; gateway errors say status instead of
// statusCode [OBS].
func (s *Server) gatewayFailure() reply {
	status := 500
	for _, st := range []int{502, 503, 504} {
		if s.rng.chance(0.25) {
			status = st
		}
	}
	return reply{status: status, body: map[string]any{
		"status": status, "message": http.StatusText(status), "error": "Error",
	}}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	raw, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "reply cannot be encoded", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	// A client that went away is no news.
	_, _ = w.Write(raw)
}

// The reads.

func (s *Server) get(q *request) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	loc, snap, r := s.find(q)
	if snap == nil {
		return r
	}
	return reply{status: 200, body: map[string]any{"contact": render(loc, snap)}}
}

// lookup is GET /contacts/search/duplicate (dossier §3.2); it is not behind,
// as the search index is.
func (s *Server) lookup(q *request) reply {
	id := q.query.Get("locationId")
	switch {
	case id == "":
		return unprocessable([]string{"locationId must be a string", "locationId should not be empty"})
	case id != q.loc.conf.ID:
		return forbidden()
	}
	email := strings.ToLower(strings.TrimSpace(q.query.Get("email")))
	number := strings.TrimSpace(q.query.Get("number"))
	if email == "" && number == "" {
		return failure(400, "Pass at least one of number, email query parameter")
	}
	phone, _ := normalPhone(number, q.loc)
	s.mu.Lock()
	defer s.mu.Unlock()
	loc := s.locations[id]
	order := loc.conf.UniqueFields
	if loc.conf.AllowDuplicates {
		order = []string{"email", "phone"}
	}
	for _, f := range order {
		v := email
		if f == "phone" {
			v = phone
		}
		if snap := loc.owner(f, v, ""); snap != nil {
			return reply{status: 200, body: map[string]any{"contact": render(loc, snap)}}
		}
	}
	if s.conf.Quirks.DuplicateMissEmpty {
		return reply{status: 200, body: map[string]any{}}
	}
	return reply{status: 200, body: map[string]any{"contact": nil}}
}

func (s *Server) location(q *request) reply {
	l := q.loc.conf
	if q.id != l.ID {
		return forbidden()
	}
	return reply{status: 200, body: map[string]any{"location": map[string]any{
		"id": l.ID, "companyId": companyID, "name": l.Name, "country": l.Country, "timezone": l.Timezone,
		"business": map[string]any{"name": l.Name, "country": l.Country, "timezone": l.Timezone},
		"social":   map[string]any{},
		"settings": map[string]any{
			"allowDuplicateContact": l.AllowDuplicates, "allowDuplicateOpportunity": false,
			"allowFacebookNameMerge": false, "disableContactTimezone": false,
		},
	}}}
}

func (s *Server) locationTags(q *request) reply {
	if q.id != q.loc.conf.ID {
		return forbidden()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	loc := s.locations[q.id]
	list := []any{}
	for _, name := range slices.Sorted(maps.Keys(loc.tags)) {
		list = append(list, loc.renderTag(name))
	}
	return reply{status: 200, body: map[string]any{"tags": list}}
}

func (s *Server) customFields(q *request) reply {
	l := q.loc.conf
	if q.id != l.ID {
		return forbidden()
	}
	list := []any{}
	switch model := q.query.Get("model"); model {
	case "", "contact", "all":
		for i, f := range q.loc.customFields() {
			list = append(list, q.loc.renderField(f, i))
		}
	case "opportunity":
	default:
		return unprocessable([]string{"model must be one of the following values: contact, opportunity, all"})
	}
	return reply{status: 200, body: map[string]any{"customFields": list}}
}
