package novisim

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/goccy/go-json"
)

// object reads a body that must be a JSON object, or answers 400.
func object(w http.ResponseWriter, raw []byte) (map[string]any, bool) {
	var body map[string]any
	if json.Unmarshal(raw, &body) != nil || body == nil {
		message(w, http.StatusBadRequest, "The request is invalid.")
		return nil, false
	}
	return body, true
}

// indexed returns the index of the entry with r's {id}, or answers 404 and
// returns -1.
func indexed[T any](w http.ResponseWriter, r *http.Request, all []T, id func(T) string) int {
	i := slices.IndexFunc(all, func(x T) bool { return id(x) == r.PathValue("id") })
	if i < 0 {
		message(w, http.StatusNotFound, "Not found.")
	}
	return i
}

func (s *Server) listTypes(w http.ResponseWriter, r *http.Request, _ []byte) {
	paged(w, r, s.conf.MemberTypes, func(t MemberType) any { return t })
}

// The custom activity types (dossier Novi §5.3).

func (s *Server) listActivityTypes(w http.ResponseWriter, r *http.Request, _ []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	paged(w, r, s.types, func(t ActivityType) any { return t })
}

// layType lays a body over a type; a key that is not sent stays, which no
// other PUT does (D3).
func (s *Server) layType(w http.ResponseWriter, body map[string]any, t ActivityType) (ActivityType, bool) {
	for _, f := range []struct {
		key string
		to  any
	}{{"Name", &t.Name}, {"Icon", &t.Icon}, {"Active", &t.Active}, {"Task", &t.Task}} {
		v, sent := body[f.key]
		switch to := f.to.(type) {
		case *string:
			if text, ok := v.(string); ok {
				*to = text
			} else if sent {
				invalid(w, f.key, "The value is not a text.")
				return t, false
			}
		case *bool:
			if yes, ok := v.(bool); ok {
				*to = yes
			} else if sent {
				invalid(w, f.key, "The value is neither true nor false.")
				return t, false
			}
		}
	}
	switch {
	case strings.TrimSpace(t.Name) == "":
		invalid(w, "Name", "The Name field is required.")
		return t, false
	case slices.ContainsFunc(s.types, func(other ActivityType) bool {
		return other.UniqueID != t.UniqueID && strings.EqualFold(other.Name, t.Name)
	}):
		invalid(w, "Name", "There is a type of this name.")
		return t, false
	}
	return t, true
}

func (s *Server) createActivityType(w http.ResponseWriter, _ *http.Request, raw []byte) {
	body, ok := object(w, raw)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.layType(w, body, ActivityType{UniqueID: s.guid(), Active: true})
	if !ok {
		return
	}
	t.Slug = strings.Join(strings.Fields(strings.ToLower(t.Name)), "-")
	s.types = append(slices.Clone(s.types), t)
	w.Header().Set("Location", "/api/custom-activity-types/"+t.UniqueID)
	w.WriteHeader(http.StatusCreated)
}

func (s *Server) putActivityType(w http.ResponseWriter, r *http.Request, raw []byte) {
	body, ok := object(w, raw)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i := indexed(w, r, s.types, func(t ActivityType) string { return t.UniqueID })
	if i < 0 {
		return
	}
	if s.types[i].SystemType {
		message(w, http.StatusForbidden, "System types are read-only.")
		return
	}
	t, ok := s.layType(w, body, s.types[i])
	if !ok {
		return
	}
	was := s.types[i].Name
	s.types = slices.Clone(s.types)
	s.types[i] = t
	if was != t.Name {
		s.renameActivities(was, t.Name)
	}
	reply(w, http.StatusOK, t)
}

// renameActivities gives the activities of a renamed type its new name.
func (s *Server) renameActivities(was, name string) {
	for _, id := range slices.Clone(s.timeline) {
		if old := s.activities[id]; old.values["ActivityType"] == was {
			next := old.clone()
			next.values["ActivityType"] = name
			s.commitActivity(ActorAPI, old, next)
		}
	}
}

// membershipChange is an entry of the log of membership changes.
type membershipChange struct {
	id, member string
	fields     map[string]any
}

// logMembership notes that a member's status or type changed.
func (s *Server) logMembership(old, next *member) {
	from := map[string]any{}
	if old != nil {
		from = old.values
	}
	same := func(field string) bool { return fmt.Sprint(from[field]) == fmt.Sprint(next.values[field]) }
	if old != nil && same("MemberStatus") && same("MemberType") {
		return
	}
	kind := "Status"
	switch {
	case old == nil:
		kind = "Created"
	case same("MemberStatus"):
		kind = "Type"
	}
	typeName := func(values map[string]any) any {
		t, _ := values["MemberType"].(map[string]any)
		return t["Name"]
	}
	s.changes++
	s.membership = append(s.membership, membershipChange{id: fmt.Sprintf("6d656d62-0000-4000-8000-%012x", s.changes), member: next.id, fields: map[string]any{
		"ChangeType": kind, "Date": s.stamp(s.conf.Now()),
		"OldMembershipStatus": from["MemberStatus"], "NewMembershipStatus": next.values["MemberStatus"],
		"OldMembershipSubStatus": from["MemberSubStatus"], "NewMembershipSubStatus": next.values["MemberSubStatus"],
		"OldMemberType": typeName(from), "NewMemberType": typeName(next.values),
	}})
}

func (s *Server) renderMembership(c membershipChange) map[string]any {
	out := maps.Clone(c.fields)
	out["UniqueId"], out["MemberUniqueId"], out["MemberName"] = c.id, c.member, nil
	if m := s.members[c.member]; m != nil {
		out["MemberName"] = m.values["Name"]
	}
	return out
}

func (s *Server) listMembership(w http.ResponseWriter, r *http.Request, _ []byte) {
	bounds, ok := s.bounds(w, r, "dateFrom", "dateTo")
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found := slices.DeleteFunc(slices.Clone(s.membership), func(c membershipChange) bool { return !s.dated(c.fields["Date"], bounds) })
	paged(w, r, found, func(c membershipChange) any { return s.renderMembership(c) })
}

func (s *Server) getMembership(w http.ResponseWriter, r *http.Request, _ []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := indexed(w, r, s.membership, func(c membershipChange) string { return c.id }); i >= 0 {
		reply(w, http.StatusOK, s.renderMembership(s.membership[i]))
	}
}

// The custom values of a member (dossier Novi §5.5).

func (s *Server) fieldValue(m *member, f CustomField) map[string]any {
	return map[string]any{"CustomerUniqueID": m.id, "CustomFieldUniqueID": f.UniqueID, "CustomFieldName": f.Name, "Value": m.custom[f.Name], "IsSumOfChildren": false}
}

func (s *Server) listFieldValues(w http.ResponseWriter, r *http.Request, _ []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.members[r.PathValue("member")]
	if m == nil {
		message(w, http.StatusNotFound, "Not found.")
		return
	}
	out := []any{}
	for _, f := range s.conf.CustomFields {
		out = append(out, s.fieldValue(m, f))
	}
	reply(w, http.StatusOK, out)
}

func (s *Server) getFieldValue(w http.ResponseWriter, r *http.Request, _ []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.members[r.PathValue("member")]
	i := indexed(w, r, s.conf.CustomFields, func(f CustomField) string { return f.UniqueID })
	switch {
	case i < 0:
	case m == nil:
		message(w, http.StatusNotFound, "Not found.")
	default:
		reply(w, http.StatusOK, s.fieldValue(m, s.conf.CustomFields[i]))
	}
}

// The groups (dossier Novi §5.4).

func (s *Server) renderGroup(g Group) map[string]any {
	n := len(s.inGroup(g.UniqueID))
	return map[string]any{"UniqueID": g.UniqueID, "Name": g.Name, "PrimaryMemberCount": n, "BeneficiaryMemberCount": 0, "TotalMemberCount": n,
		"SyncToMailChimp": false, "SyncToConstantContact": false, "SyncToMobilize": false, "SyncToHigherLogic": false, "Categories": []any{}}
}

func (s *Server) getGroup(w http.ResponseWriter, r *http.Request, _ []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := indexed(w, r, s.conf.Groups, func(g Group) string { return g.UniqueID }); i >= 0 {
		reply(w, http.StatusOK, s.renderGroup(s.conf.Groups[i]))
	}
}

func (s *Server) listGroupCategories(w http.ResponseWriter, r *http.Request, _ []byte) {
	paged(w, r, s.conf.GroupCategories, func(k Category) any { return k })
}

// pickMember is POST and DELETE of /groups/{id}/members/{member}, which is in
// no evidence: only Quirks.GroupWrites serves it.
func (s *Server) pickMember(w http.ResponseWriter, r *http.Request, _ []byte) {
	if !s.conf.Quirks.GroupWrites {
		message(w, http.StatusMethodNotAllowed, "The requested resource does not support http method '"+r.Method+"'.")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i := indexed(w, r, s.conf.Groups, func(g Group) string { return g.UniqueID })
	switch {
	case i < 0:
		return
	case s.conf.Groups[i].Condition != nil:
		invalid(w, "Group", "The group has conditions.")
		return
	case s.members[r.PathValue("member")] == nil:
		message(w, http.StatusNotFound, "Not found.")
		return
	}
	s.pick(ActorAPI, r.PathValue("member"), s.conf.Groups[i].UniqueID, r.Method == http.MethodPost)
	w.WriteHeader(http.StatusNoContent)
}
