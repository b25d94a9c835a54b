package novisim

import (
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-json"
)

const maxBody = 4 << 20

// Handler serves the API under /api and the simulator's own admin API, which
// asks for no key, under /_sim.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	api := func(pattern string, write bool, h func(http.ResponseWriter, *http.Request, []byte)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, write, h) })
	}
	api("GET /api/members", false, s.list)
	api("GET /api/members/simple-list", false, s.simpleList)
	api("GET /api/members/{id}", false, s.get)
	api("POST /api/members", true, s.create)
	api("PUT /api/members/{id}", true, s.put)
	api("GET /api/custom-fields", false, func(w http.ResponseWriter, _ *http.Request, _ []byte) { reply(w, http.StatusOK, s.conf.CustomFields) })
	api("PUT /api/customer-custom-fields", true, s.putCustom)
	api("GET /api/customer-custom-fields/{member}", false, s.listFieldValues)
	api("GET /api/customer-custom-fields/{member}/{id}", false, s.getFieldValue)
	api("GET /api/member-types", false, s.listTypes)
	api("GET /api/membership-activities", false, s.listMembership)
	api("GET /api/membership-activities/{id}", false, s.getMembership)
	api("GET /api/groups", false, s.listGroups)
	api("GET /api/groups/{id}", false, s.getGroup)
	api("GET /api/groups/{id}/members", false, s.groupMembers)
	api("POST /api/groups/{id}/members/{member}", true, s.pickMember)
	api("DELETE /api/groups/{id}/members/{member}", true, s.pickMember)
	api("GET /api/group-categories", false, s.listGroupCategories)
	api("GET /api/committees", false, s.listCommittees)
	api("GET /api/committees/{id}", false, s.getCommittee)
	api("GET /api/committees/{id}/members", false, s.listSeats)
	api("POST /api/committees/{id}/members", true, s.createSeat)
	api("GET /api/committees/{id}/members/{seat}", false, s.getSeat)
	api("PUT /api/committees/{id}/members/{seat}", true, s.putSeat)
	api("DELETE /api/committees/{id}/members/{seat}", true, s.removeSeat)
	api("GET /api/committee-roles", false, func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		reply(w, http.StatusOK, append([]Category{}, s.conf.CommitteeRoles...))
	})
	api("GET /api/events", false, s.eventsFor(s.listEvents))
	api("GET /api/events/{id}", false, s.eventsFor(s.getEvent))
	api("GET /api/event-categories", false, s.eventsFor(s.listEventCategories))
	api("GET /api/registrations", false, s.eventsFor(s.listRegistrations))
	api("GET /api/registrations/{id}", false, s.eventsFor(s.getRegistration))
	api("GET /api/attendees", false, s.eventsFor(s.listAttendees))
	api("GET /api/activities", false, s.listActivities)
	api("GET /api/activities/{id}", false, s.getActivity)
	api("POST /api/activities", true, s.createActivity)
	api("PUT /api/activities/{id}", true, s.putActivity)
	api("DELETE /api/activities/{id}", true, s.removeActivity)
	api("GET /api/custom-activity-types", false, s.listActivityTypes)
	api("POST /api/custom-activity-types", true, s.createActivityType)
	api("PUT /api/custom-activity-types/{id}", true, s.putActivityType)
	api("GET /api/webhooks", false, s.listWebhooks)
	api("GET /api/webhooks/{id}", false, s.getWebhook)
	api("POST /api/webhooks", true, s.createWebhook)
	api("PUT /api/webhooks/{id}", true, s.putWebhook)
	api("DELETE /api/webhooks/{id}", true, s.removeWebhook)
	api("/api/", false, func(w http.ResponseWriter, r *http.Request, _ []byte) {
		if r.Method != http.MethodGet {
			message(w, http.StatusMethodNotAllowed, "The requested resource does not support http method '"+r.Method+"'.")
			return
		}
		message(w, http.StatusNotFound, "Not found.")
	})
	s.admin(mux)
	return mux
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client has gone
}

func message(w http.ResponseWriter, status int, text string) {
	reply(w, status, map[string]string{"Message": text})
}

// serve checks the key and the limits, has the faults happen, and hands on.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, write bool, h func(http.ResponseWriter, *http.Request, []byte)) {
	key, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Basic ")
	s.mu.Lock()
	if !ok || !slices.Contains(s.keys, key) {
		s.mu.Unlock()
		message(w, http.StatusUnauthorized, "Authorization has been denied for this request.")
		return
	}
	if hidden := s.hidden[key]; len(hidden) > 0 && strings.HasPrefix(r.URL.Path, "/api/members") {
		limited := &limitedWriter{ResponseWriter: w, hidden: hidden}
		defer limited.flush()
		w = limited
	}
	wait := s.limit(s.conf.Now())
	f := s.faults
	roll := func(p float64) bool { return p > 0 && s.rng.Float64() < p }
	limited, failed, page, reset := wait > 0 || roll(f.API429), roll(f.API5xx), roll(f.APIPage), write && roll(f.ResetAfterCommit)
	half := !write && roll(f.APITruncated)
	status := []int{http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable}[s.rng.IntN(3)]
	switch {
	case limited:
		s.stats.HTTP429++
	case write:
		s.stats.Writes++
	default:
		s.stats.Reads++
	}
	s.mu.Unlock()
	if f.Latency > 0 {
		select {
		case <-time.After(f.Latency):
		case <-r.Context().Done():
			return
		}
	}
	switch {
	case limited:
		w.Header().Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(wait.Seconds())))))
		message(w, http.StatusTooManyRequests, "API calls quota exceeded.")
		return
	case failed:
		message(w, status, "An error has occurred.")
		return
	case page:
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<!DOCTYPE html><html><body>We'll be right back.</body></html>")
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		message(w, http.StatusBadRequest, "The request is too large.")
		return
	}
	if reset {
		h(&swallow{header: http.Header{}}, r, body)
		panic(http.ErrAbortHandler) // closes the connection without an answer
	}
	if half {
		h(halved{w}, r, body)
		return
	}
	h(w, r, body)
}

// halved passes on half of what is written.
type halved struct{ http.ResponseWriter }

func (h halved) Write(p []byte) (int, error) {
	_, err := h.ResponseWriter.Write(p[:len(p)/2])
	return len(p), err
}

// swallow takes an answer that nobody gets.
type swallow struct{ header http.Header }

func (s *swallow) Header() http.Header         { return s.header }
func (s *swallow) Write(p []byte) (int, error) { return len(p), nil }
func (s *swallow) WriteHeader(int)             {}

// limit counts one call in the sliding windows, or says how long to wait.
// Rejected calls do not count. The caller holds mu.
func (s *Server) limit(now time.Time) time.Duration {
	if day := now.UTC().Unix() / 86400; day != s.day {
		s.day, s.today = day, 0
	}
	n := 0
	for n < len(s.hits) && now.Sub(s.hits[n]) >= time.Minute {
		n++
	}
	s.hits = append(s.hits[:0], s.hits[n:]...)
	if s.today >= s.conf.PerDay {
		return time.Hour
	}
	if len(s.hits) >= s.conf.PerMinute {
		return time.Minute - now.Sub(s.hits[len(s.hits)-s.conf.PerMinute])
	}
	if k := len(s.hits) - s.conf.PerSecond; k >= 0 {
		if wait := time.Second - now.Sub(s.hits[k]); wait > 0 {
			return wait
		}
	}
	s.hits = append(s.hits, now)
	s.today++
	return 0
}

func number(r *http.Request, name string, fallback int) int {
	n, err := strconv.Atoi(r.URL.Query().Get(name))
	if err != nil || n < 0 {
		return fallback
	}
	return n
}

// paged answers with the page of all that r asks for.
func paged[T any](w http.ResponseWriter, r *http.Request, all []T, show func(T) any) {
	results := []any{}
	rest := all[min(number(r, "offset", 0), len(all)):]
	for _, x := range rest[:min(number(r, "pageSize", 50), 1000, len(rest))] {
		results = append(results, show(x))
	}
	reply(w, http.StatusOK, map[string]any{"TotalCount": len(all), "Results": results})
}

// time reads a date as it may be sent (§3.2, §3.3); without a zone it is in
// the tenant's.
func (s *Server) time(v string) (time.Time, bool) {
	for _, form := range []string{"1/2/2006", "2006-01-02", "2006-01-02T15:04:05", time.RFC3339Nano} {
		if t, err := time.ParseInLocation(form, v, s.conf.Timezone); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// midnight begins the day that t is in.
func (s *Server) midnight(t time.Time) time.Time {
	y, m, d := t.In(s.conf.Timezone).Date()
	return time.Date(y, m, d, 0, 0, 0, 0, s.conf.Timezone)
}

func (s *Server) list(w http.ResponseWriter, r *http.Request, _ []byte) {
	q := r.URL.Query()
	var since time.Time
	if v := q.Get("lastModifiedDate"); v != "" {
		var ok bool
		if since, ok = s.time(v); !ok {
			message(w, http.StatusBadRequest, "The request is invalid.")
			return
		}
		if !s.conf.Quirks.ExactModifiedFilter {
			since = s.midnight(since)
		}
	}
	total, results := s.page(map[string]string{"Email": q.Get("email"), "Name": q.Get("name"), "parent": q.Get("parentName")}, since, number(r, "offset", 0), min(number(r, "pageSize", 50), 1000))
	reply(w, http.StatusOK, map[string]any{"TotalCount": total, "Results": results})
}

// page returns how many members meet the filters, and size of them from
// offset on, by internal id.
func (s *Server) page(want map[string]string, since time.Time, offset, size int) (total int, results []any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	meets := func(m *member) bool {
		for field, v := range want {
			have, _ := m.values[field].(string)
			if field == "parent" {
				parent, _ := m.values["ParentCustomerUniqueID"].(string)
				have = s.text(parent, "Name")
			}
			if v != "" && !strings.EqualFold(have, v) {
				return false
			}
		}
		return true
	}
	results = []any{}
	for _, id := range s.order {
		m := s.members[id]
		if m.modified.Before(since) || !meets(m) {
			continue
		}
		if total >= offset && len(results) < size {
			results = append(results, s.render(m))
			s.shown[m.id] = s.seq
		}
		total++
	}
	return total, results
}

func (s *Server) simpleList(w http.ResponseWriter, _ *http.Request, _ []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []any{}
	for _, id := range s.order {
		out = append(out, map[string]any{"UniqueID": id, "Name": s.members[id].values["Name"]})
	}
	reply(w, http.StatusOK, out)
}

func (s *Server) get(w http.ResponseWriter, r *http.Request, _ []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.members[r.PathValue("id")]
	if m == nil {
		message(w, http.StatusNotFound, "Not found.")
		return
	}
	s.shown[m.id] = s.seq
	reply(w, http.StatusOK, s.render(m))
}

// apply lays a body over m; with replace, what the body lacks becomes null.
// It returns how many values were nulled for their key's absence, or the name
// of a field that can't be used.
func (s *Server) apply(m *member, body map[string]any, replace bool) (nulled int, bad string) {
	before := m.flat()
	for key := range writable {
		v, ok := body[key]
		if !ok && !replace {
			continue
		}
		s.set(m, key, v)
		if !ok && before[key] != nil && before[key] != false {
			nulled++
		}
	}
	for _, a := range addresses {
		v, ok := body[a].(map[string]any)
		if !ok && !replace {
			continue
		}
		for _, k := range addressKeys {
			_, has := v[k]
			s.set(m, a+"."+k, v[k])
			if !has && before[a+"."+k] != nil {
				nulled++
			}
		}
	}
	custom, ok := body["CustomFields"].(map[string]any)
	if !ok && !replace {
		return nulled, ""
	}
	for name, entry := range custom {
		e, _ := entry.(map[string]any)
		if !s.set(m, "CustomFields."+name, e["Value"]) {
			return nulled, "CustomFields." + name
		}
	}
	for name := range before {
		if f, isCustom := strings.CutPrefix(name, "CustomFields."); isCustom {
			if _, kept := custom[f]; !kept {
				s.set(m, name, nil)
				nulled++
			}
		}
	}
	return nulled, ""
}

func invalid(w http.ResponseWriter, field, why string) {
	reply(w, http.StatusBadRequest, map[string]any{"Message": "The request is invalid.", "ModelState": map[string]any{field: []string{why}}})
}

// check returns the field that makes m unacceptable, or "".
func (s *Server) check(m *member) (field, why string) {
	name, _ := m.values["Name"].(string)
	if strings.TrimSpace(name) == "" {
		return "Name", "The Name field is required."
	}
	if email, ok := m.values["Email"].(string); ok && !strings.Contains(email, "@") {
		return "Email", "The Email field is not a valid e-mail address."
	}
	for _, f := range s.conf.RequiredFields {
		if v := m.flat()[f]; v == nil || v == "" {
			return f, "The " + f + " field is required."
		}
	}
	return "", ""
}

func (s *Server) create(w http.ResponseWriter, _ *http.Request, raw []byte) {
	var body map[string]any
	if json.Unmarshal(raw, &body) != nil || body == nil {
		message(w, http.StatusBadRequest, "The request is invalid.")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.fresh()
	if _, bad := s.apply(m, body, false); bad != "" {
		invalid(w, bad, "Unknown custom field.")
		return
	}
	if field, why := s.check(m); field != "" {
		invalid(w, field, why)
		return
	}
	// A member is a QuickBooks customer, whose name is unique (invented body).
	for _, id := range s.order {
		if s.members[id].values["Name"] == m.values["Name"] {
			invalid(w, "Name", "A customer with this name already exists.")
			return
		}
	}
	s.commit(ActorAPI, OpCreate, nil, m, true)
	reply(w, http.StatusCreated, s.render(m))
}

func (s *Server) put(w http.ResponseWriter, r *http.Request, raw []byte) {
	var body map[string]any
	if json.Unmarshal(raw, &body) != nil || body == nil {
		message(w, http.StatusBadRequest, "The request is invalid.")
		return
	}
	s.mu.Lock()
	before := s.beforePut
	s.mu.Unlock()
	if before != nil {
		before(r.PathValue("id"))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.members[r.PathValue("id")]
	if old == nil {
		message(w, http.StatusNotFound, "Not found.")
		return
	}
	next := old.clone()
	nulled, bad := s.apply(next, body, true)
	if bad != "" {
		invalid(w, bad, "Unknown custom field.")
		return
	}
	if field, why := s.check(next); field != "" {
		invalid(w, field, why)
		return
	}
	if nulled > 0 {
		s.stats.NulledUnmapped++
	}
	s.commit(ActorAPI, OpUpdate, old, next, true)
	reply(w, http.StatusOK, s.render(next))
}

func (s *Server) putCustom(w http.ResponseWriter, _ *http.Request, raw []byte) {
	var body struct {
		CustomerUniqueID, CustomFieldUniqueID string
		Value                                 any
	}
	if json.Unmarshal(raw, &body) != nil {
		message(w, http.StatusBadRequest, "The request is invalid.")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.conf.CustomFields, func(f CustomField) bool { return f.UniqueID == body.CustomFieldUniqueID })
	old := s.members[body.CustomerUniqueID]
	if old == nil || i < 0 {
		message(w, http.StatusNotFound, "Not found.")
		return
	}
	next := old.clone()
	s.set(next, "CustomFields."+s.conf.CustomFields[i].Name, body.Value)
	s.commit(ActorAPI, OpUpdate, old, next, true)
	reply(w, http.StatusOK, map[string]any{"CustomerUniqueID": old.id, "CustomFieldUniqueID": body.CustomFieldUniqueID, "Value": body.Value})
}

func (s *Server) listGroups(w http.ResponseWriter, r *http.Request, _ []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	paged(w, r, s.conf.Groups, func(g Group) any { return s.renderGroup(g) })
}

func (s *Server) inGroup(group string) []string {
	var ids []string
	for _, id := range s.order {
		if slices.Contains(s.groups(s.members[id]), group) {
			ids = append(ids, id)
		}
	}
	return ids
}

func (s *Server) groupMembers(w http.ResponseWriter, r *http.Request, _ []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if indexed(w, r, s.conf.Groups, func(g Group) string { return g.UniqueID }) < 0 {
		return
	}
	paged(w, r, s.inGroup(r.PathValue("id")), func(id string) any {
		return map[string]any{"UniqueID": id, "Name": s.members[id].values["Name"], "DuesPayerUniqueID": nil}
	})
}

// admin serves the simulator's own API.
func (s *Server) admin(mux *http.ServeMux) {
	mux.HandleFunc("GET /_sim/dump", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, s.Dump()) })
	mux.HandleFunc("GET /_sim/ledger", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, s.Ledger()) })
	mux.HandleFunc("GET /_sim/stats", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, s.Stats()) })
	mux.HandleFunc("GET /_sim/activities", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, s.Activities()) })
	act(mux, "POST /_sim/edit", func(e Edit) (any, error) {
		id, err := s.Edit(e)
		return map[string]string{"memberId": id}, err
	})
	act(mux, "POST /_sim/item", func(e ItemEdit) (any, error) {
		id, err := s.EditItem(e)
		return map[string]string{"id": id}, err
	})
	act(mux, "POST /_sim/merge", func(m struct {
		Winner string `json:"winner"`
		Loser  string `json:"loser"`
	}) (any, error) {
		return m, s.Merge(m.Winner, m.Loser)
	})
	act(mux, "POST /_sim/reset", func(struct{}) (any, error) {
		s.Reset()
		return struct{}{}, nil
	})
	act(mux, "POST /_sim/seed", func(edits []Edit) (any, error) {
		ids := []string{}
		for _, e := range edits {
			id, err := s.Edit(e)
			if err != nil {
				return nil, err
			}
			ids = append(ids, id)
		}
		return map[string]any{"memberIds": ids}, nil
	})
	act(mux, "POST /_sim/clock", func(c struct {
		Skew time.Duration `json:"skew"`
	}) (any, error) {
		s.SetSkew(c.Skew)
		return c, nil
	})
	act(mux, "POST /_sim/register", func(x struct {
		Event  string `json:"event"`
		Member string `json:"member"`
	}) (any, error) {
		id, err := s.Register(x.Event, x.Member)
		return map[string]string{"id": id}, err
	})
	act(mux, "POST /_sim/faults", func(f Faults) (any, error) {
		s.SetFaults(f)
		return f, nil
	})
}

// act serves a call of the admin API.
func act[T any](mux *http.ServeMux, pattern string, do func(T) (any, error)) {
	mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		var in T
		err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&in)
		var out any
		if err == nil {
			out, err = do(in)
		}
		if err != nil {
			message(w, http.StatusBadRequest, err.Error())
			return
		}
		reply(w, http.StatusOK, out)
	})
}
