package ghlsim

import (
	"errors"
	"io"
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
	id    string    // path parameter
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

// route is one operation of the API.
type route struct {
	class string // for Stats, such as "/contacts/{id}"
	scope string
	write bool
	id    string
	do    func(*Server, *request) reply
}

// findRoute returns the route of a request, or one whose do is nil.
func findRoute(method, path string) route {
	seg := strings.Split(strings.Trim(path, "/"), "/")
	root, rest := seg[0], seg[1:]
	switch {
	case root == "contacts" && len(rest) == 0:
		if method == http.MethodPost {
			return route{"/contacts", scopeContactsWrite, true, "", (*Server).create}
		}
		return route{class: "/contacts"}
	case root == "contacts" && rest[0] == "search" && len(rest) == 1:
		if method == http.MethodPost {
			return route{"/contacts/search", scopeContactsRead, false, "", (*Server).search}
		}
		return route{class: "/contacts/search"}
	case root == "contacts" && rest[0] == "search" && len(rest) == 2 && rest[1] == "duplicate":
		if method == http.MethodGet {
			return route{"/contacts/search/duplicate", scopeContactsRead, false, "", (*Server).lookup}
		}
		return route{class: "/contacts/search/duplicate"}
	case root == "contacts" && rest[0] == "upsert" && len(rest) == 1:
		if method == http.MethodPost {
			return route{"/contacts/upsert", scopeContactsWrite, true, "", (*Server).upsert}
		}
		return route{class: "/contacts/upsert"}
	case root == "contacts" && len(rest) == 1:
		const class = "/contacts/{id}"
		switch method {
		case http.MethodGet:
			return route{class, scopeContactsRead, false, rest[0], (*Server).get}
		case http.MethodPut:
			return route{class, scopeContactsWrite, true, rest[0], (*Server).update}
		case http.MethodDelete:
			return route{class, scopeContactsWrite, true, rest[0], (*Server).remove}
		}
		return route{class: class}
	case root == "contacts" && len(rest) == 2 && rest[1] == "tags":
		const class = "/contacts/{id}/tags"
		switch method {
		case http.MethodPost:
			return route{class, scopeContactsWrite, true, rest[0], (*Server).addTags}
		case http.MethodDelete:
			return route{class, scopeContactsWrite, true, rest[0], (*Server).removeTags}
		}
		return route{class: class} // PUT does not exist (dossier §0.4)
	case root == "locations" && len(rest) > 0 && method == http.MethodGet:
		switch {
		case len(rest) == 1:
			return route{"/locations/{id}", scopeLocationsRead, false, rest[0], (*Server).location}
		case len(rest) == 2 && rest[1] == "tags":
			return route{"/locations/{id}/tags", scopeTagsRead, false, rest[0], (*Server).locationTags}
		case len(rest) == 2 && rest[1] == "customFields":
			return route{"/locations/{id}/customFields", scopeFieldsRead, false, rest[0], (*Server).customFields}
		}
	}
	return route{class: "other"}
}

// Handler answers the API and, under /_sim/, the admin API of README.md. The
// admin API has no authentication.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	s.admin(mux)
	mux.HandleFunc("/", s.serveAPI)
	return mux
}

// serveAPI is every API request: latency, authentication, limits, injected
// failures, the operation, the reply.
func (s *Server) serveAPI(w http.ResponseWriter, r *http.Request) {
	rt := findRoute(r.Method, r.URL.Path)
	s.mu.Lock()
	s.stats.Requests[r.Method+" "+rt.class]++
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
	rep := s.answer(w.Header(), r, rt, faults)
	if rep.committed && s.rng.chance(faults.ResetAfterCommit) {
		// The one way to close the connection without a reply.
		panic(http.ErrAbortHandler)
	}
	if rep.created && s.rng.chance(faults.CreatedBut422) {
		rep = unprocessable([]string{"contact could not be validated"})
	}
	s.conf.Logger.Debug().Str("method", r.Method).Str("route", rt.class).Int("status", rep.status).Msg("simulated GHL request")
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
func (s *Server) answer(h http.Header, r *http.Request, rt route, faults Faults) reply {
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
	q := &request{loc: loc, id: rt.id, query: r.URL.Query()}
	if r.Method != http.MethodGet {
		var bad reply
		if q.body, bad = readBody(r); bad.status != 0 {
			return bad
		}
	}
	return rt.do(s, q)
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
		"id": l.ID, "companyId": "simcompany", "name": l.Name, "country": l.Country, "timezone": l.Timezone,
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
	tags := s.locations[q.id].tags
	names := make([]string, 0, len(tags))
	for name := range tags {
		names = append(names, name)
	}
	slices.Sort(names)
	list := make([]any, len(names))
	for i, name := range names {
		list[i] = map[string]any{"id": tags[name], "name": name, "locationId": q.id}
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
		for i, f := range l.CustomFields {
			list = append(list, map[string]any{
				"id": f.ID, "name": f.Name, "fieldKey": f.Key, "dataType": f.DataType, "model": "contact",
				"position": i * 50, "placeholder": "", "locationId": l.ID,
			})
		}
	case "opportunity":
	default:
		return unprocessable([]string{"model must be one of the following values: contact, opportunity, all"})
	}
	return reply{status: 200, body: map[string]any{"customFields": list}}
}
