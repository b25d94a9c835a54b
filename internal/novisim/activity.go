package novisim

import (
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-json"
)

// systemType is the type of Novi's own activities, which isn't among the
// custom activity types (invented).
const systemType = "Membership Update"

// Activity is an activity as the API shows it.
type Activity struct {
	UniqueID string         `json:"uniqueId"`
	MemberID string         `json:"memberId"`
	Fields   map[string]any `json:"fields"`
}

// ItemEdit is what a person does with an activity in Novi.
type ItemEdit struct {
	Op       string `json:"op"`       // OpCreate, OpUpdate or OpDelete
	MemberID string `json:"memberId"` // for OpCreate: the member it is to sit on
	ID       string `json:"id"`       // for the others: the activity
	// Fields to set; nil clears. A new one needs an ActivityType; its Subject
	// starts as the type's name and its Date as now, as the form has them.
	Fields map[string]any `json:"fields"`
}

// activity is immutable once stored; a change stores a new one.
type activity struct {
	id     string
	system bool           // Novi's own: read-only
	values map[string]any // writable keys, all of them; dates as they are shown
}

func (a *activity) member() string {
	id, _ := a.values["MemberUniqueId"].(string)
	return id
}

func (a *activity) clone() *activity {
	c := *a
	c.values = maps.Clone(a.values)
	return &c
}

// activityFields are the writable keys of an activity (dossier Novi §5.2).
// PUT sets all of them: the absent ones to null.
var activityFields = []string{"ActivityType", "AssignedToMemberUniqueId", "CEUTypes", "ContactMemberUniqueId", "ContinuingEducationUnits",
	"CreditsPossible", "Date", "InstructorMemberUniqueIds", "MemberUniqueId", "Notes", "Subject", "TaskComplete", "TaskCompletedDate"}

// setItem sets one field of an activity; why is not "" if it refuses to.
func (s *Server) setItem(a *activity, field string, v any) (why string) {
	text, isText := v.(string)
	switch field {
	case "MemberUniqueId":
		if s.members[text] == nil {
			return "There is no such member."
		}
	case "ActivityType":
		i := slices.IndexFunc(s.types, func(t ActivityType) bool { return text == t.Name || text == t.Slug })
		if i < 0 {
			return "There is no such activity type."
		}
		v = s.types[i].Name
	case "Subject":
		if strings.TrimSpace(text) == "" {
			return "The Subject field is required."
		}
	case "Notes":
		if v != nil && !isText {
			return "The value is not a text."
		}
	case "ContactMemberUniqueId", "AssignedToMemberUniqueId":
		if v != nil && !isText {
			return "The value is not an id."
		}
		if text == "" {
			v = nil
		}
	case "Date", "TaskCompletedDate":
		if v == nil {
			break
		}
		at, ok := s.time(text)
		if !ok {
			return "The value is not a date."
		}
		v = s.stamp(at)
	case "TaskComplete":
		done, isBool := v.(bool)
		if v != nil && !isBool {
			return "The value is neither true nor false."
		}
		v = done
	default:
		if !slices.Contains(activityFields, field) {
			return "There is no such field."
		}
	}
	a.values[field] = v
	return ""
}

// lay sets all fields from a body, as a PUT and a POST do. It returns how many
// values went for their key's absence, or the field that it refuses.
func (s *Server) lay(a *activity, body map[string]any) (nulled int, field, why string) {
	before := maps.Clone(a.values)
	for _, f := range activityFields {
		if why := s.setItem(a, f, body[f]); why != "" {
			return 0, f, why
		}
	}
	s.settle(a)
	for _, f := range activityFields {
		had := before[f] != nil && before[f] != false
		if _, sent := body[f]; had && !sent && !reflect.DeepEqual(before[f], a.values[f]) {
			nulled++
		}
	}
	return nulled, "", ""
}

// settle makes the date of completion follow from the completion (invented).
func (s *Server) settle(a *activity) {
	if a.values["TaskComplete"] != true {
		a.values["TaskCompletedDate"] = nil
	} else if a.values["TaskCompletedDate"] == nil {
		a.values["TaskCompletedDate"] = s.stamp(s.conf.Now())
	}
}

// commitActivity stores next in the place of old (nil for a new one) and
// writes the ledger. No webhook is known for activities. The caller holds mu.
func (s *Server) commitActivity(actor string, old, next *activity) {
	op, before := OpUpdate, map[string]any{}
	if old != nil {
		before = old.values
	} else {
		op = OpCreate
		s.timeline = append(s.timeline, next.id)
	}
	s.activities[next.id] = next
	s.record(LedgerEntry{Actor: actor, Op: op, Kind: KindActivity, RecordID: next.id, MemberID: next.member(), Changes: difference(before, next.values)})
}

func (s *Server) deleteActivity(actor string, a *activity) {
	delete(s.activities, a.id)
	s.timeline = slices.DeleteFunc(s.timeline, func(id string) bool { return id == a.id })
	s.record(LedgerEntry{Actor: actor, Op: OpDelete, Kind: KindActivity, RecordID: a.id, MemberID: a.member()})
}

// activitiesOf returns what sits on a member.
func (s *Server) activitiesOf(memberID string) []*activity {
	var out []*activity
	for _, id := range s.timeline {
		if a := s.activities[id]; a.member() == memberID {
			out = append(out, a)
		}
	}
	return out
}

// repoint makes an activity that names one member name another one.
func (s *Server) repoint(old *activity, from, to string) {
	next := old.clone()
	named := false
	for _, f := range []string{"MemberUniqueId", "ContactMemberUniqueId", "AssignedToMemberUniqueId"} {
		if next.values[f] == from {
			next.values[f], named = to, true
		}
	}
	if named {
		s.commitActivity(ActorHuman, old, next)
	}
}

// systemActivity puts one of Novi's own activities on a member.
func (s *Server) systemActivity(memberID string) {
	a := &activity{id: s.guid(), system: true, values: map[string]any{}}
	for _, f := range activityFields {
		a.values[f] = nil
	}
	maps.Copy(a.values, map[string]any{"MemberUniqueId": memberID, "ActivityType": systemType, "Subject": "Record created",
		"Date": s.stamp(s.conf.Now()), "TaskComplete": false})
	s.commitActivity(ActorSystem, nil, a)
}

// EditItem acts as a person in Novi and returns the activity's id. Errors:
// ErrNotFound, ErrInvalid.
func (s *Server) EditItem(e ItemEdit) (id string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.Op == OpCreate {
		body := map[string]any{"Date": s.stamp(s.conf.Now()), "Subject": e.Fields["ActivityType"]}
		maps.Copy(body, e.Fields)
		body["MemberUniqueId"] = e.MemberID
		for f := range body {
			if !slices.Contains(activityFields, f) {
				return "", fmt.Errorf("create activity: %w: no field %q", ErrInvalid, f)
			}
		}
		if s.members[e.MemberID] == nil {
			return "", fmt.Errorf("create activity: %w: member %s", ErrNotFound, e.MemberID)
		}
		a := &activity{id: s.guid(), values: map[string]any{}}
		if _, field, why := s.lay(a, body); field != "" {
			return "", fmt.Errorf("create activity: %w: %s: %s", ErrInvalid, field, why)
		}
		s.commitActivity(ActorHuman, nil, a)
		return a.id, nil
	}
	old := s.activities[e.ID]
	switch {
	case old == nil:
		return "", fmt.Errorf("%s activity: %w: %s", e.Op, ErrNotFound, e.ID)
	case old.system:
		return "", fmt.Errorf("%s activity: %w: %s is Novi's own", e.Op, ErrInvalid, e.ID)
	case e.Op == OpDelete:
		s.deleteActivity(ActorHuman, old)
		return old.id, nil
	case e.Op != OpUpdate:
		return "", fmt.Errorf("edit activity: %w: no op %q", ErrInvalid, e.Op)
	}
	next := old.clone()
	for _, f := range slices.Sorted(maps.Keys(e.Fields)) {
		if why := s.setItem(next, f, e.Fields[f]); why != "" {
			return "", fmt.Errorf("update activity: %w: %s: %s", ErrInvalid, f, why)
		}
	}
	s.settle(next)
	s.commitActivity(ActorHuman, old, next)
	return next.id, nil
}

// Activities returns all activities by internal id.
func (s *Server) Activities() []Activity {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Activity, 0, len(s.timeline))
	for _, id := range s.timeline {
		a := s.activities[id]
		out = append(out, Activity{UniqueID: id, MemberID: a.member(), Fields: s.renderActivity(a)})
	}
	return out
}

// renderActivity is an activity as the API shows it. The caller holds mu.
func (s *Server) renderActivity(a *activity) map[string]any {
	out := maps.Clone(a.values)
	out["UniqueID"] = a.id
	for _, who := range []string{"Member", "ContactMember", "AssignedToMember"} {
		out[who+"Name"] = nil
		if id, ok := a.values[who+"UniqueId"].(string); ok && s.members[id] != nil {
			out[who+"Name"] = s.members[id].values["Name"]
		}
	}
	return out
}

// listActivities filters on the activity's own date, by the day and with both
// days included.
func (s *Server) listActivities(w http.ResponseWriter, r *http.Request, _ []byte) {
	bounds, ok := s.bounds(w, r, "dateFrom", "dateTo")
	if !ok {
		return
	}
	member := ""
	if s.conf.Quirks.ActivitiesByMember {
		member = r.URL.Query().Get("memberUniqueId")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []*activity
	for _, id := range s.timeline {
		if a := s.activities[id]; s.dated(a.values["Date"], bounds) && (member == "" || a.member() == member) {
			found = append(found, a)
		}
	}
	paged(w, r, found, func(a *activity) any {
		s.shown[a.id] = s.seq
		return s.renderActivity(a)
	})
}

// bounds reads the days from and to of a query, "" meaning none; a day that is
// not given is zero, and the second is the first instant after its day. It
// answers 400 for a day that can't be read.
func (s *Server) bounds(w http.ResponseWriter, r *http.Request, from, to string) (bounds [2]time.Time, ok bool) {
	for i, name := range []string{from, to} {
		v := r.URL.Query().Get(name)
		if name == "" || v == "" {
			continue
		}
		t, ok := s.time(v)
		if !ok {
			message(w, http.StatusBadRequest, "The request is invalid.")
			return bounds, false
		}
		bounds[i] = s.midnight(t).AddDate(0, 0, i)
	}
	return bounds, true
}

func within(t time.Time, bounds [2]time.Time) bool {
	return !t.Before(bounds[0]) && (bounds[1].IsZero() || t.Before(bounds[1]))
}

// dated says whether a date lies within bounds; what has none is in none.
func (s *Server) dated(date any, bounds [2]time.Time) bool {
	if bounds == ([2]time.Time{}) {
		return true
	}
	text, _ := date.(string)
	t, ok := s.time(text)
	return ok && within(t, bounds)
}

func (s *Server) getActivity(w http.ResponseWriter, r *http.Request, _ []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.activities[r.PathValue("id")]; a != nil {
		s.shown[a.id] = s.seq
		reply(w, http.StatusOK, s.renderActivity(a))
		return
	}
	message(w, http.StatusNotFound, "Not found.")
}

func (s *Server) createActivity(w http.ResponseWriter, _ *http.Request, raw []byte) {
	var body map[string]any
	if json.Unmarshal(raw, &body) != nil || body == nil {
		message(w, http.StatusBadRequest, "The request is invalid.")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a := &activity{id: s.guid(), values: map[string]any{}}
	if _, field, why := s.lay(a, body); field != "" {
		invalid(w, field, why)
		return
	}
	s.commitActivity(ActorAPI, nil, a)
	w.Header().Set("Location", "/api/activities/"+a.id)
	w.WriteHeader(http.StatusCreated)
}

// own returns the activity that r is about if it may be written.
func (s *Server) own(w http.ResponseWriter, r *http.Request) *activity {
	a := s.activities[r.PathValue("id")]
	switch {
	case a == nil:
		message(w, http.StatusNotFound, "Not found.")
	case a.system:
		message(w, http.StatusForbidden, "System activities are read-only.")
		return nil
	}
	return a
}

func (s *Server) putActivity(w http.ResponseWriter, r *http.Request, raw []byte) {
	var body map[string]any
	if json.Unmarshal(raw, &body) != nil || body == nil {
		message(w, http.StatusBadRequest, "The request is invalid.")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.own(w, r)
	if old == nil {
		return
	}
	next := old.clone()
	nulled, field, why := s.lay(next, body)
	if field != "" {
		invalid(w, field, why)
		return
	}
	if nulled > 0 {
		s.stats.NulledActivities++
	}
	s.commitActivity(ActorAPI, old, next)
	reply(w, http.StatusOK, s.renderActivity(next))
}

func (s *Server) removeActivity(w http.ResponseWriter, r *http.Request, _ []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.own(w, r); a != nil {
		s.deleteActivity(ActorAPI, a)
		w.WriteHeader(http.StatusNoContent)
	}
}
