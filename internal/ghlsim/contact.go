package ghlsim

import (
	"maps"
	"reflect"
	"slices"
	"sort"
	"strings"
	"time"
)

// Contact is the state of one contact.
type Contact struct {
	ID         string `json:"id"`
	LocationID string `json:"locationId"`
	// Fields are what GET /contacts/{id} shows, less id, locationId and tags.
	// Empty fields are absent. The fields name, firstNameLowerCase,
	// lastNameLowerCase, fullNameLowerCase and emailLowerCase are computed
	// from others; type, dateAdded and dateUpdated are the simulator's.
	Fields map[string]any `json:"fields"`
	// Tags in the order in which they were added.
	Tags []string `json:"tags"`
}

// snapshot is one state of a contact. It is never changed after commit, so
// that replies, the search index and webhooks can share it.
type snapshot struct {
	id, location string
	fields       map[string]any // plain fields, never an empty value
	custom       map[string]any // by custom field id, never an empty value
	tags         []string
	added        int64 // epoch ms
	updated      int64 // epoch ms
}

// clone returns a copy whose maps and tags may be changed. The values in the
// maps are shared; they are replaced, never changed.
func (s *snapshot) clone() *snapshot {
	c := *s
	c.fields = maps.Clone(s.fields)
	c.custom = maps.Clone(s.custom)
	c.tags = slices.Clone(s.tags)
	return &c
}

func (s *snapshot) str(field string) string {
	v, _ := s.fields[field].(string)
	return v
}

func (s *snapshot) name() string {
	return strings.TrimSpace(s.str("firstName") + " " + s.str("lastName"))
}

// set stores v under field, or removes the field if v is empty.
func (s *snapshot) set(field string, v any) { setOrClear(s.fields, field, v) }

func setOrClear(m map[string]any, key string, v any) {
	if isEmpty(v) {
		delete(m, key)
		return
	}
	m[key] = v
}

func isEmpty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}

// version is a state and when it was committed; the search index needs the
// past ones. A nil snap means deleted.
type version[T any] struct {
	at   time.Time
	snap *T
}

// maxVersions bounds a history. A record that is written more often within the
// index lag appears in the index a little early.
const maxVersions = 64

// history is a record with as much of its past as the search index needs:
// oldest first, never empty once committed.
type history[T any] struct{ versions []version[T] }

// current returns the state now, nil if deleted.
func (h *history[T]) current() *T { return h.versions[len(h.versions)-1].snap }

// asOf returns the state at t, nil if there was none.
func (h *history[T]) asOf(t time.Time) *T {
	for i := len(h.versions) - 1; i >= 0; i-- {
		if v := h.versions[i]; !v.at.After(t) {
			return v.snap
		}
	}
	return nil
}

// push makes snap the current state and forgets versions that no search can
// see any more, those that another one had replaced by horizon.
func (h *history[T]) push(at time.Time, snap *T, horizon time.Time) {
	h.versions = append(h.versions, version[T]{at: at, snap: snap})
	first := 0
	for first+1 < len(h.versions) && !h.versions[first+1].at.After(horizon) {
		first++
	}
	first = max(first, len(h.versions)-maxVersions)
	if first > 0 {
		h.versions = slices.Clone(h.versions[first:])
	}
}

// stamp renders epoch ms as the API does: ISO-8601, UTC, milliseconds.
func stamp(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }

// customList renders custom field values in the order of the location's
// definitions.
func customList(loc *location, s *snapshot) []any {
	out := make([]any, 0, len(s.custom))
	for _, f := range loc.customFields() {
		if v, ok := s.custom[f.ID]; ok {
			out = append(out, map[string]any{"id": f.ID, "value": v})
		}
	}
	return out
}

// details renders s as GET shows it, less id, locationId and tags.
func details(loc *location, s *snapshot) map[string]any {
	out := maps.Clone(s.fields)
	name := s.name()
	setOrClear(out, "name", name)
	setOrClear(out, "fullNameLowerCase", strings.ToLower(name))
	setOrClear(out, "firstNameLowerCase", strings.ToLower(s.str("firstName")))
	setOrClear(out, "lastNameLowerCase", strings.ToLower(s.str("lastName")))
	setOrClear(out, "emailLowerCase", s.str("email"))
	setOrClear(out, "customFields", customList(loc, s))
	out["dateAdded"] = stamp(s.added)
	out["dateUpdated"] = stamp(s.updated)
	return out
}

// render is the Contact of GET, PUT and upsert: empty keys are left out [OBS].
func render(loc *location, s *snapshot) map[string]any {
	out := details(loc, s)
	out["id"] = s.id
	out["locationId"] = s.location
	if len(s.tags) > 0 {
		out["tags"] = s.tags
	}
	return out
}

// diff lists what differs between two states, sorted by field; either may be
// nil.
func diff(from, to *snapshot) (changes []FieldChange, added, removed []string) {
	var none snapshot
	if from == nil {
		from = &none
	}
	if to == nil {
		to = &none
	}
	changes = append(fieldChanges("", from.fields, to.fields), fieldChanges("customFields.", from.custom, to.custom)...)
	sort.Slice(changes, func(i, j int) bool { return changes[i].Field < changes[j].Field })
	return changes, without(to.tags, from.tags), without(from.tags, to.tags)
}

// fieldChanges lists what differs between two maps without empty values.
func fieldChanges(prefix string, from, to map[string]any) []FieldChange {
	var changes []FieldChange
	for k, v := range from {
		if w := to[k]; !reflect.DeepEqual(v, w) {
			changes = append(changes, FieldChange{Field: prefix + k, From: v, To: w})
		}
	}
	for k, w := range to {
		if _, ok := from[k]; !ok {
			changes = append(changes, FieldChange{Field: prefix + k, To: w})
		}
	}
	return changes
}

// without returns the elements of a that are not in b, in the order of a.
func without(a, b []string) []string {
	if len(a) == 0 {
		return nil
	}
	in := make(map[string]bool, len(b))
	for _, x := range b {
		in[x] = true
	}
	var out []string
	for _, x := range a {
		if !in[x] {
			out = append(out, x)
		}
	}
	return out
}

// deepCopy copies JSON-like values.
func deepCopy(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, x := range v {
			out[k] = deepCopy(x)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = deepCopy(x)
		}
		return out
	}
	return v
}
