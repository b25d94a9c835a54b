package mapping

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
)

// Shown is what a record shows, in canonical terms.
type Shown struct {
	// Fields holds every field that the endpoint covers, the empty ones too.
	Fields map[string]string
	Tags   []string // sorted, each once
	// Tagged and Grouped say whether the tags, and those of them that come
	// from Novi groups, are covered.
	Tagged, Grouped bool
	// Ref is the entity that the record says it was made for.
	Ref canonical.CanonicalID
	// Fold says that names may have lost their case on the way.
	Fold bool
	// Also are further addresses by which the system knows the person, sorted.
	Also []string
	// Parent is the record that this one hangs on, at the same system.
	Parent canonical.ExternalID
	// Inactive says that the record is one that Novi keeps of somebody who was
	// removed: its API deletes no member.
	Inactive bool
	// Skip says why the record is none that is kept; then all else is empty.
	Skip string
}

// Show reads the record of o. A record that is not JSON of the expected shape
// is an error that names the endpoint, never the content.
func (l *Lens) Show(o observation.Observation) (Shown, error) {
	var record map[string]json.RawMessage
	if err := json.Unmarshal(o.Record, &record); err != nil || record == nil {
		return Shown{}, fmt.Errorf("read %s record: not a JSON object", o.Endpoint)
	}
	switch {
	case o.Kind != canonical.KindContact && o.Kind != "":
		return l.showItem(o, record)
	}
	switch o.System {
	case canonical.GHL:
		return l.showGHL(o, record)
	case canonical.Novi:
		return l.showNovi(record)
	}
	return Shown{}, fmt.Errorf("read record: no mapping for system %q", o.System)
}

func (l *Lens) showGHL(o observation.Observation, record map[string]json.RawMessage) (Shown, error) {
	s := Shown{Fields: make(map[string]string, len(l.Bindings))}
	if o.Endpoint == observation.GHLContactTags {
		s.Tags, s.Tagged, s.Grouped = tags(record["tags"]), true, true
		return s, nil
	}
	search := o.Endpoint == observation.GHLContactSearch
	s.Fold = search
	custom := map[string]json.RawMessage{}
	var items []struct {
		ID    string          `json:"id"`
		Value json.RawMessage `json:"value"`
	}
	_ = json.Unmarshal(record["customFields"], &items) // a shape that we don't know shows nothing
	for _, it := range items {
		custom[o.Names[it.ID]] = it.Value
	}
	in := opened{record: record}
	for _, b := range l.Bindings {
		path := b.GHL.Path
		var value json.RawMessage
		switch {
		case path == "":
			continue
		case strings.HasPrefix(path, CustomPath):
			key := strings.TrimPrefix(path, CustomPath)
			if !named(o.Names, key) {
				continue // the location has no such field, so it says nothing of it
			}
			value = custom[key]
		case strings.HasPrefix(path, "dndSettings."):
			if search {
				continue // not part of search results (dossier GHL §3.3, #43)
			}
			value = in.dig(path + ".status")
		case search && path == "address1":
			value = record["address"]
		case search && (path == "firstName" || path == "lastName"):
			value = record[path]
			if raw := record[path+"Raw"]; text(raw) != "" {
				value = raw
			}
		default:
			value = in.dig(path)
		}
		var err error
		if s.Fields[b.Field], err = l.read(b, canonical.GHL, value); err != nil {
			return Shown{}, err
		}
	}
	s.Tags, s.Tagged, s.Grouped = tags(record["tags"]), true, true
	s.Also = l.addresses(record["additionalEmails"])
	if l.GHLRef != "" {
		s.Ref = canonical.CanonicalID(text(custom[l.GHLRef]))
	}
	return s, nil
}

// read turns what b's side at system shows into the canonical value. The
// error names the field and the direction, never the value.
func (l *Lens) read(b Binding, system canonical.System, raw json.RawMessage) (string, error) {
	side := b.Side(system)
	if b.Convert == List {
		return JoinList(items(raw, side.Separator)), nil
	}
	value := strings.TrimSpace(text(raw))
	if value == "" {
		return "", nil
	}
	value, err := side.ReadExpr.eval(value, nil)
	if err != nil {
		return "", fmt.Errorf("read %s from %s: %w", b.Field, system, err)
	}
	if side.values != nil {
		value = side.values.read(strings.TrimSpace(value))
	}
	if side.HTML {
		value = HTMLToText(value)
	}
	if b.Convert == Instant {
		return instant(value, l.zone(system)), nil
	}
	return l.Normalize(b.Convert, value), nil
}

// items reads a list: a JSON array, or a text with separators in it.
func items(raw json.RawMessage, separator string) []string {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		if separator == "" {
			separator = ListSeparator
		}
		return splitAt(text(raw), separator)
	}
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = text(v)
	}
	return out
}

func named(names map[string]string, key string) bool {
	for _, k := range names {
		if k == key {
			return true
		}
	}
	return false
}

func (l *Lens) showNovi(record map[string]json.RawMessage) (Shown, error) {
	if kind := text(record["CustomerType"]); kind != "Person" && kind != "" {
		return Shown{Skip: "customer type is not Person"}, nil
	}
	s := Shown{Fields: make(map[string]string, len(l.Bindings)), Inactive: text(record["Active"]) == "false"}
	var custom map[string]struct {
		Value json.RawMessage `json:"Value"`
	}
	_, haveCustom := record["CustomFields"]
	haveCustom = haveCustom && json.Unmarshal(record["CustomFields"], &custom) == nil
	in := opened{record: record}
	for _, b := range l.Bindings {
		path := b.Novi.Path
		if path == "" {
			continue
		}
		var value json.RawMessage
		if name, ok := strings.CutPrefix(path, CustomPath); ok {
			if !haveCustom {
				continue
			}
			value = custom[name].Value
		} else {
			top, _, _ := strings.Cut(path, ".")
			if _, ok := record[top]; !ok {
				continue // hidden from this key, or unknown to this site: it says nothing
			}
			value = in.dig(path)
		}
		var err error
		if s.Fields[b.Field], err = l.read(b, canonical.Novi, value); err != nil {
			return Shown{}, err
		}
	}
	if l.Tags.NoviField != "" && haveCustom {
		s.Tagged = true
		s.Tags = l.Tags.splitTags(text(custom[l.Tags.NoviField].Value))
		// The field is for tags that are not a group's.
		s.Tags = slices.DeleteFunc(s.Tags, l.FromGroup)
	}
	if groups := record["Groups"]; l.Tags.GroupPrefix != "" && len(groups) > 0 && !bytes.Equal(bytes.TrimSpace(groups), []byte("null")) {
		var list []struct {
			GroupName string
		}
		if json.Unmarshal(groups, &list) == nil {
			s.Grouped = true
			for _, g := range list {
				s.Tags = append(s.Tags, NormalizeTag(l.Tags.GroupPrefix+g.GroupName))
			}
		}
	}
	slices.Sort(s.Tags)
	s.Tags = slices.Compact(s.Tags)
	if l.NoviRef != "" {
		s.Ref = canonical.CanonicalID(text(record[l.NoviRef]))
	}
	return s, nil
}

// addresses reads GHL's additional e-mail addresses: objects with an email, or
// the addresses themselves (dossier GHL §3.1).
func (l *Lens) addresses(raw json.RawMessage) []string {
	var list []json.RawMessage
	_ = json.Unmarshal(raw, &list) // a shape that we don't know shows nothing
	var out []string
	for _, one := range list {
		var object struct {
			Email json.RawMessage `json:"email"`
		}
		if json.Unmarshal(one, &object) == nil {
			one = object.Email
		}
		if a := l.Normalize(Email, strings.TrimSpace(text(one))); a != "" {
			out = append(out, a)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func tags(raw json.RawMessage) []string {
	var list []string
	_ = json.Unmarshal(raw, &list)
	for i := range list {
		list[i] = NormalizeTag(list[i])
	}
	list = slices.DeleteFunc(list, func(t string) bool { return t == "" })
	slices.Sort(list)
	return slices.Compact(list)
}

// opened is a record whose inner objects are read once, however many fields
// lie in them.
type opened struct {
	record map[string]json.RawMessage
	inner  map[string]map[string]json.RawMessage
}

// dig follows a dotted path through objects.
func (o *opened) dig(path string) json.RawMessage {
	head, rest, more := strings.Cut(path, ".")
	if !more {
		return o.record[head]
	}
	inner, read := o.inner[head]
	if !read {
		_ = json.Unmarshal(o.record[head], &inner) // what is no object has no fields
		if o.inner == nil {
			o.inner = map[string]map[string]json.RawMessage{}
		}
		o.inner[head] = inner
	}
	return (&opened{record: inner}).dig(rest)
}

// text reads a JSON value as text: "" for null and absent, a list joined by
// commas, true and false by their names, numbers as they are written.
func text(raw json.RawMessage) string {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || bytes.Equal(raw, []byte("null")) {
		return ""
	}
	switch raw[0] {
	case '"':
		var s string
		if json.Unmarshal(raw, &s) != nil {
			return ""
		}
		return s
	case '[':
		var list []json.RawMessage
		if json.Unmarshal(raw, &list) != nil {
			return ""
		}
		parts := make([]string, len(list))
		for i, v := range list {
			parts[i] = text(v)
		}
		return strings.Join(parts, ",")
	case '{':
		return string(raw)
	}
	if b, err := strconv.ParseBool(string(raw)); err == nil && len(raw) > 1 {
		return strconv.FormatBool(b)
	}
	return string(raw)
}
