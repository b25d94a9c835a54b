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
	k := lawCheck{lens: l, values: map[string]map[string]bool{}, seen: map[Violation]bool{}}
	for _, c := range s.Contacts {
		for _, b := range l.Bindings {
			k.value(b, c.Field(b.Field))
		}
	}
	for _, o := range s.Records {
		shown, err := l.Show(o)
		if err != nil {
			k.add(Violation{System: o.System, Law: Readable, Class: "a record of " + o.Endpoint, Problem: err.Error()})
			continue
		}
		if shown.Skip != "" {
			continue
		}
		for f, v := range shown.Fields {
			if b, ok := l.Binding(f); ok {
				k.value(b, v)
			}
		}
		k.getPut(o, shown)
	}
	for _, b := range l.Bindings {
		for _, v := range awkward {
			k.value(b, l.Normalize(b.Convert, v))
		}
		for _, p := range []*pairs{b.GHL.values, b.Novi.values} {
			if p != nil {
				for our, their := range p.theirs {
					k.value(b, our)
					k.value(b, their)
				}
			}
		}
		// The shortest first: it says most as a counterexample.
		byLength := func(a, b string) int { return cmp.Or(len(a)-len(b), strings.Compare(a, b)) }
		for _, v := range slices.SortedFunc(maps.Keys(k.values[b.Field]), byLength) {
			for _, system := range []canonical.System{canonical.GHL, canonical.Novi} {
				if b.Side(system).Write != Never {
					k.putGet(b, system, v)
				}
			}
		}
	}
	k.tags()
	return k.found
}

type lawCheck struct {
	lens   *Lens
	values map[string]map[string]bool // by field
	found  []Violation
	seen   map[Violation]bool
}

func (k *lawCheck) value(b Binding, v string) {
	if k.values[b.Field] == nil {
		k.values[b.Field] = map[string]bool{}
	}
	k.values[b.Field][v] = true
}

func (k *lawCheck) add(v Violation) {
	key := Violation{Field: v.Field, System: v.System, Law: v.Law}
	if v.Law == Readable {
		key.Problem = v.Problem
	}
	if !k.seen[key] {
		k.seen[key] = true
		k.found = append(k.found, v)
	}
}

// putGet writes v to an empty record and reads it back.
func (k *lawCheck) putGet(b Binding, system canonical.System, v string) {
	out := Violation{Field: b.Field, System: system, Law: PutGet, Class: class(v), Put: v}
	if _, err := k.lens.spell(b, system, v); err != nil {
		if side := b.Side(system); side.values == nil || side.WriteExpr != nil {
			out.Law, out.Problem = Writable, err.Error()
			k.add(out)
		}
		return
	}
	shown, err := k.put(k.empty(system), map[string]string{b.Field: v}, nil)
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
		if b, _ := k.lens.Binding(f); b.Side(o.System).Write != Never {
			fields[f] = v
		}
	}
	var tags *[]string
	if before.Tagged {
		tags = &before.Tags
	}
	after, err := k.put(o, fields, tags)
	if err != nil {
		k.add(Violation{System: o.System, Law: GetPut, Class: "a record of " + o.Endpoint, Problem: err.Error()})
		return
	}
	for _, f := range slices.Sorted(maps.Keys(before.Fields)) {
		if was, is := before.Fields[f], after.Fields[f]; was != is {
			k.add(Violation{Field: f, System: o.System, Law: GetPut, Class: class(was), Put: was, Got: is})
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
	shown, err := k.put(k.empty(canonical.Novi), nil, &tags)
	if err != nil || !slices.Equal(shown.Tags, tags) {
		k.add(Violation{Field: "tags", System: canonical.Novi, Law: PutGet, Class: "tags", Put: JoinList(tags), Got: JoinList(shown.Tags)})
	}
}

// empty is a record that shows every field that the lens has a path for.
func (k *lawCheck) empty(system canonical.System) observation.Observation {
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
	if o.System == canonical.GHL {
		o.Record, err = k.putGHL(o, fields)
	} else {
		o.Record, err = k.lens.NoviOverlay(o.Record, fields, tags)
	}
	if err != nil {
		return Shown{}, err
	}
	return k.lens.Show(o)
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
