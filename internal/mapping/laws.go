package mapping

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
)

// Samples are what the laws are tried on, beside values that are awkward by
// nature.
type Samples struct {
	Contacts []canonical.Contact
	Items    []canonical.Event         // tasks, notes and appointments
	Records  []observation.Observation // those that show a record whole
}

// Law names what a binding has to hold.
type Law string

// The laws.
const (
	PutGet   Law = "put_get"  // what is written is read back
	GetPut   Law = "get_put"  // putting back what was read changes nothing
	Readable Law = "readable" // a record of the samples can be read
	Writable Law = "writable" // the expression takes the value
)

// Violation is a value for which a law doesn't hold.
type Violation struct {
	Kind   canonical.Kind   `json:"kind"`
	Field  string           `json:"field"`
	System canonical.System `json:"system"`
	Law    Law              `json:"law"`
	// Class describes Put without showing it.
	Class string `json:"class"`
	// Put and Got are the values: the written and the read one, or what was
	// shown before and after. They may be personal data.
	Put string `json:"put,omitempty"`
	Got string `json:"got,omitempty"`
	// Problem is what reading or writing said, without the value.
	Problem string `json:"problem,omitempty"`
}

// awkward are texts that mappings stumble over.
var awkward = []string{
	"", "x", "Ada", " spaced  out ", "two\nlines", "a;b; c", "a,b", "a|b", "50%", "%3B%25", "O'Hara \"Jo\" <x@y> & Söhne", "ẞß İı", "日本", "👩‍👩‍👧", "e\u0301",
	"\u00a0fixed\u00a0", "tab\there", "null", "true", "false", "0", "007", "-1", "1.50", "1e3", "2026-03-01", "01/02/2026", "2026-03-01T00:00:00-05:00",
	"(202) 555-0143", "+41 44 668 18 00", "Ada@Example.ORG", "US", "us", "<b>bold</b>", "&amp;", "https://example.org/?a=b&c=d", "active", "permanent", strings.Repeat("long ", 500),
}

// CheckLaws tries every binding that may be written on values that are awkward
// by nature and on those of the samples. It returns the first violation of
// each field, system and law, and nothing if all is well. A value that a table
// refuses is no violation: it is not written.
func CheckLaws(l *Lens, s Samples) []Violation {
	k := lawCheck{lens: l, values: map[kindField]map[string]bool{}, seen: map[Violation]bool{}}
	for _, c := range s.Contacts {
		for _, b := range l.Bindings {
			k.value(canonical.KindContact, b, c.Field(b.Field))
		}
	}
	for _, e := range s.Items {
		for _, b := range l.BindingsOf(e.Kind()) {
			k.value(e.Kind(), b, e.Field(b.Field))
		}
	}
	for _, o := range s.Records {
		shown, err := l.Show(o)
		if err != nil {
			k.add(Violation{Kind: o.Kind, System: o.System, Law: Readable, Class: "a record of " + o.Endpoint, Problem: err.Error()})
			continue
		}
		if shown.Skip != "" {
			continue
		}
		for f, v := range shown.Fields {
			if b, ok := l.BindingOf(kindOf(o), f); ok {
				k.value(kindOf(o), b, v)
			}
		}
		k.getPut(o, shown)
	}
	for _, kind := range append([]canonical.Kind{canonical.KindContact}, canonical.Items()...) {
		for _, b := range l.BindingsOf(kind) {
			k.binding(kind, b)
		}
	}
	k.tags()
	return k.found
}

// kindOf is o's kind; an observation that doesn't say it is of a contact.
func kindOf(o observation.Observation) canonical.Kind {
	return cmp.Or(o.Kind, canonical.KindContact)
}

// binding tries b on what there is for it.
func (k *lawCheck) binding(kind canonical.Kind, b Binding) {
	for _, v := range awkward {
		k.value(kind, b, k.lens.Normalize(b.Convert, v))
	}
	tables := []*pairs{b.GHL.values, b.Novi.values}
	if b.Convert == User && k.lens.Users != nil {
		tables = []*pairs{k.lens.Users.ghl, k.lens.Users.novi}
	}
	for _, p := range tables {
		if p != nil {
			for our, their := range p.theirs {
				k.value(kind, b, our)
				k.value(kind, b, their)
			}
		}
	}
	// The shortest first: it says most as a counterexample.
	byLength := func(a, b string) int { return cmp.Or(len(a)-len(b), strings.Compare(a, b)) }
	for _, v := range slices.SortedFunc(maps.Keys(k.values[kindField{kind, b.Field}]), byLength) {
		for _, system := range []canonical.System{canonical.GHL, canonical.Novi} {
			if b.Side(system).Write != Never && k.written(kind, b, system, v) {
				k.putGet(kind, b, system, v)
			}
		}
	}
}

// written reports whether a projection can hold v: somebody whom a system
// doesn't know is not named there, a title that stands for none is none, and a
// flag is yes or no.
func (k *lawCheck) written(kind canonical.Kind, b Binding, system canonical.System, v string) bool {
	switch {
	case b.Convert == User:
		_, known := k.lens.userAt(system, v)
		return known || v == ""
	case k.lens.noTitle(b, system, kind, v):
		return false
	case kind == canonical.KindAppointment && b.Field == "summary":
		return false // it is made of the others, and not read back
	}
	return true
}

// kindField names a field of a kind.
type kindField struct {
	kind  canonical.Kind
	field string
}

type lawCheck struct {
	lens   *Lens
	values map[kindField]map[string]bool
	found  []Violation
	seen   map[Violation]bool
}

func (k *lawCheck) value(kind canonical.Kind, b Binding, v string) {
	at := kindField{kind, b.Field}
	if k.values[at] == nil {
		k.values[at] = map[string]bool{}
	}
	k.values[at][v] = true
}

func (k *lawCheck) add(v Violation) {
	v.Kind = cmp.Or(v.Kind, canonical.KindContact)
	key := Violation{Kind: v.Kind, Field: v.Field, System: v.System, Law: v.Law}
	if v.Law == Readable {
		key.Problem = v.Problem
	}
	if !k.seen[key] {
		k.seen[key] = true
		k.found = append(k.found, v)
	}
}

// putGet writes v to an empty record and reads it back.
func (k *lawCheck) putGet(kind canonical.Kind, b Binding, system canonical.System, v string) {
	out := Violation{Kind: kind, Field: b.Field, System: system, Law: PutGet, Class: class(v), Put: v}
	if _, err := k.lens.spell(b, system, v); err != nil {
		if side := b.Side(system); side.values == nil || side.WriteExpr != nil {
			out.Law, out.Problem = Writable, err.Error()
			k.add(out)
		}
		return
	}
	shown, err := k.put(k.empty(kind, system), map[string]string{b.Field: v}, nil)
	if err != nil {
		out.Problem = err.Error()
		k.add(out)
		return
	}
	if out.Got = shown.Fields[b.Field]; out.Got != v {
		k.add(out)
	}
}

// getPut writes what o showed back to it.
func (k *lawCheck) getPut(o observation.Observation, before Shown) {
	fields := map[string]string{}
	for f, v := range before.Fields {
		if b, _ := k.lens.BindingOf(kindOf(o), f); b.Side(o.System).Write != Never {
			fields[f] = v
		}
	}
	var tags *[]string
	if before.Tagged {
		tags = &before.Tags
	}
	after, err := k.put(o, fields, tags)
	if err != nil {
		k.add(Violation{Kind: o.Kind, System: o.System, Law: GetPut, Class: "a record of " + o.Endpoint, Problem: err.Error()})
		return
	}
	for _, f := range slices.Sorted(maps.Keys(before.Fields)) {
		if was, is := before.Fields[f], after.Fields[f]; was != is {
			k.add(Violation{Kind: o.Kind, Field: f, System: o.System, Law: GetPut, Class: class(was), Put: was, Got: is})
		}
	}
	if before.Tagged && !slices.Equal(before.Tags, after.Tags) {
		k.add(Violation{Field: "tags", System: o.System, Law: GetPut, Class: "tags", Put: JoinList(before.Tags), Got: JoinList(after.Tags)})
	}
}

// tags tries the tags' own round trip, through the Novi field.
func (k *lawCheck) tags() {
	if k.lens.Tags.NoviField == "" {
		return
	}
	var tags []string
	for _, v := range awkward {
		if tag := NormalizeTag(v); tag != "" && !k.lens.FromGroup(tag) {
			tags = append(tags, tag)
		}
	}
	slices.Sort(tags)
	tags = slices.Compact(tags)
	shown, err := k.put(k.empty(canonical.KindContact, canonical.Novi), nil, &tags)
	if err != nil || !slices.Equal(shown.Tags, tags) {
		k.add(Violation{Field: "tags", System: canonical.Novi, Law: PutGet, Class: "tags", Put: JoinList(tags), Got: JoinList(shown.Tags)})
	}
}

// empty is a record that shows every field that the lens has a path for.
func (k *lawCheck) empty(kind canonical.Kind, system canonical.System) observation.Observation {
	if kind != canonical.KindContact {
		record := map[string]any{}
		for _, b := range k.lens.BindingsOf(kind) {
			if top, _, _ := strings.Cut(b.Side(system).Path, "."); top != "" {
				record[top] = nil
			}
		}
		encoded, _ := json.Marshal(record) // nulls encode
		return observation.Observation{System: system, Kind: kind, Record: encoded}
	}
	if system == canonical.GHL {
		names := map[string]string{}
		for _, b := range k.lens.Bindings {
			if key, ok := strings.CutPrefix(b.GHL.Path, CustomPath); ok {
				names["id "+key] = key
			}
		}
		return observation.Observation{System: system, Endpoint: observation.GHLContactGet, Names: names, Record: json.RawMessage(`{}`)}
	}
	record := map[string]any{"CustomerType": "Person", "CustomFields": map[string]any{}}
	for _, b := range k.lens.Bindings {
		top, _, _ := strings.Cut(b.Novi.Path, ".")
		if _, there := record[top]; !there && top != "" && !strings.HasPrefix(b.Novi.Path, CustomPath) {
			record[top] = nil
		}
	}
	encoded, _ := json.Marshal(record) // texts, nulls and an empty object encode
	return observation.Observation{System: system, Endpoint: observation.NoviMemberGet, Record: encoded}
}

// put is what a system that keeps what it is told would show of o after the
// fields and tags have been written to it.
func (k *lawCheck) put(o observation.Observation, fields map[string]string, tags *[]string) (Shown, error) {
	var err error
	switch kind := kindOf(o); {
	case kind != canonical.KindContact && o.System == canonical.GHL:
		o.Record, err = k.putGHLItem(o, fields)
	case kind != canonical.KindContact:
		o.Record, err = k.lens.NoviItemOverlay(kind, o.Record, fields)
	case o.System == canonical.GHL:
		o.Record, err = k.putGHL(o, fields)
	default:
		o.Record, err = k.lens.NoviOverlay(o.Record, fields, tags)
	}
	if err != nil {
		return Shown{}, err
	}
	return k.lens.Show(o)
}

func (k *lawCheck) putGHLItem(o observation.Observation, fields map[string]string) (json.RawMessage, error) {
	body, err := k.lens.GHLItemBody(o.Kind, fields)
	if err != nil {
		return nil, err
	}
	var record map[string]any
	if decodeNumbers(o.Record, &record) != nil {
		return nil, fmt.Errorf("not a JSON object")
	}
	maps.Copy(record, body)
	return json.Marshal(record)
}

func (k *lawCheck) putGHL(o observation.Observation, fields map[string]string) (json.RawMessage, error) {
	ids := map[string]string{}
	for id, key := range o.Names {
		ids[key] = id
	}
	body, _ := k.lens.GHLBody(fields, ids)
	encoded, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encode body: %w", err)
	}
	var record, set map[string]any
	if json.Unmarshal(encoded, &set) != nil || decodeNumbers(o.Record, &record) != nil {
		return nil, fmt.Errorf("not a JSON object")
	}
	custom, _ := record["customFields"].([]any)
	items, _ := set["customFields"].([]any)
	for _, it := range items {
		item, _ := it.(map[string]any)
		custom = slices.DeleteFunc(custom, func(c any) bool { m, _ := c.(map[string]any); return m["id"] == item["id"] })
		custom = append(custom, map[string]any{"id": item["id"], "value": item["field_value"]})
	}
	if settings, ok := set["dndSettings"].(map[string]any); ok {
		if was, ok := record["dndSettings"].(map[string]any); ok {
			maps.Copy(was, settings)
			set["dndSettings"] = was
		}
	}
	maps.Copy(record, set)
	record["customFields"] = custom
	return json.Marshal(record)
}

// decodeNumbers keeps numbers as they are written.
func decodeNumbers(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	return d.Decode(v)
}

// class says what a value is like, without showing it.
func class(v string) string {
	if v == "" {
		return "empty"
	}
	has := map[string]bool{}
	n := 0
	for _, r := range v {
		n++
		switch {
		case r > unicode.MaxASCII:
			has["beyond ASCII"] = true
		case unicode.IsLetter(r):
			has["letters"] = true
		case unicode.IsDigit(r):
			has["digits"] = true
		case r == '\n' || r == '\r':
			has["line breaks"] = true
		case unicode.IsSpace(r):
			has["spaces"] = true
		case unicode.IsControl(r):
			has["control"] = true
		default:
			has["punctuation"] = true
		}
	}
	return fmt.Sprintf("%d characters: %s", n, strings.Join(slices.Sorted(maps.Keys(has)), ", "))
}
