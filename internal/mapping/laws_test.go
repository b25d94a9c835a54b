package mapping_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
)

var (
	lens = mapping.Association("US", mapping.Custom{Name: "shirt_size", GHL: "contact.shirt_size", Novi: "Shirt size"})
	ids  = map[string]string{"contact.job_title": "cf1", "contact.membership_status": "cf2", "contact.membership_type": "cf3", "contact.member_since": "cf4",
		"contact.membership_expires": "cf5", "contact.causeway_id": "cf6", "contact.shirt_size": "cf7"}
	names = inverse(ids)
)

func inverse(m map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range m {
		out[v] = k
	}
	return out
}

// value draws a canonical value of a converter, the empty one too.
func value(t *rapid.T, b mapping.Binding) string {
	var v string
	switch b.Convert {
	case mapping.Bool, mapping.DND:
		v = rapid.SampledFrom([]string{"true", ""}).Draw(t, b.Field)
	case mapping.Phone:
		v = rapid.SampledFrom([]string{"", "+12025550143", "+442071838750", "+41446681800", "call me"}).Draw(t, b.Field)
	case mapping.Date:
		v = rapid.SampledFrom([]string{"", "2026-03-01", "1999-12-31"}).Draw(t, b.Field)
	case mapping.Country:
		v = rapid.SampledFrom([]string{"", "US", "CH", "Wakanda"}).Draw(t, b.Field)
	default:
		v = rapid.OneOf(rapid.Just(""), rapid.String()).Draw(t, b.Field)
	}
	return lens.Normalize(b.Convert, strings.ToValidUTF8(v, ""))
}

func tagSet(t *rapid.T) []string {
	list := rapid.SliceOfN(rapid.OneOf(rapid.SampledFrom([]string{"board", "a;b", "50%", "%3b", "; ", "novi:board", "ö"}), rapid.String()), 0, 4).Draw(t, "tags")
	out := []string{}
	for _, tag := range list {
		if tag = mapping.NormalizeTag(tag); tag != "" {
			out = append(out, tag)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// ghlRecord is what GHL shows after a body was written to an empty contact.
func ghlRecord(t *rapid.T, body map[string]any, tags []string) observation.Observation {
	record := maps.Clone(body)
	var custom []map[string]any
	if items, ok := body["customFields"].([]map[string]any); ok {
		for _, it := range items {
			custom = append(custom, map[string]any{"id": it["id"], "value": it["field_value"]})
		}
	}
	record["customFields"], record["tags"] = custom, tags
	raw, err := json.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	return observation.Observation{System: canonical.GHL, Endpoint: observation.GHLContactGet, Names: names, Record: raw}
}

// TestGHLPutGet: what you put you get.
func TestGHLPutGet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fields := map[string]string{}
		for _, b := range lens.Bindings {
			if b.GHL.Write == mapping.Always {
				fields[b.Field] = value(t, b)
			}
		}
		tags := tagSet(t)
		body, skipped := lens.GHLBody(fields, ids)
		if len(skipped) > 0 {
			t.Fatalf("skipped: %v", skipped)
		}
		shown, err := lens.Show(ghlRecord(t, body, tags))
		if err != nil {
			t.Fatal(err)
		}
		for f, v := range fields {
			if shown.Fields[f] != v {
				t.Errorf("%s: put %q, got %q", f, v, shown.Fields[f])
			}
		}
		if !cmp.Equal(shown.Tags, tags) && len(tags)+len(shown.Tags) > 0 {
			t.Errorf("tags: put %q, got %q", tags, shown.Tags)
		}
	})
}

// noviMember is a member with much that is not mapped.
func noviMember(t *rapid.T) json.RawMessage {
	text := func(name string) any {
		if v := rapid.OneOf(rapid.Just(""), rapid.SampledFrom([]string{"x", " (202) 555-0143 ", "Ada", "2026-03-01T00:00:00-05:00"})).Draw(t, name); v != "" {
			return v
		}
		return nil
	}
	record := map[string]any{
		"UniqueID": "m-1", "CustomerType": "Person", "Name": "Ada (1)", "ImportID": nil, "NewerThanUs": map[string]any{"deep": []any{1.50, nil, "x"}}, "OpenDuesBalance": 12.3400001,
		"BillingAddress": map[string]any{"Address1": text("line1"), "Address2": text("line2"), "City": text("city"), "ZipCode": nil, "StateProvince": nil, "Country": nil, "Unknown": "kept"},
		"CustomFields": map[string]any{
			"GHL Tags":   map[string]any{"CustomFieldUniqueID": "a", "Value": text("tags"), "IsSumOfChildren": false},
			"Shirt size": map[string]any{"Value": text("shirt"), "Extra": 1},
			"Other":      map[string]any{"Value": "kept"},
		},
		"Groups": nil, "MemberType": map[string]any{"Name": "Individual"}, "UnsubscribeFromEmails": rapid.Bool().Draw(t, "unsubscribed"), "Active": true,
	}
	for _, key := range []string{"FirstName", "LastName", "Email", "Mobile", "Website", "JobTitle", "ParentMemberName", "MemberStatus", "MemberSince", "MembershipExpires"} {
		record[key] = text(key)
	}
	raw, err := json.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func showNovi(t *rapid.T, raw json.RawMessage) mapping.Shown {
	s, err := lens.Show(observation.Observation{System: canonical.Novi, Endpoint: observation.NoviMemberGet, Record: []byte(raw)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestNoviLaws: what you put you get; putting back what you got changes
// nothing that is shown; and nothing that is not mapped is ever touched.
func TestNoviLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw := noviMember(t)
		before := showNovi(t, raw)

		got, err := lens.NoviOverlay([]byte(raw), map[string]string{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		same(t, raw, json.RawMessage(got), "overlaying nothing")

		back := map[string]string{}
		for _, b := range lens.Bindings {
			if b.Novi.Write == mapping.Always {
				back[b.Field] = before.Fields[b.Field]
			}
		}
		if got, err = lens.NoviOverlay([]byte(raw), back, &before.Tags); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(before, showNovi(t, json.RawMessage(got))); d != "" {
			t.Errorf("putting back what was got changes it:\n%s", d)
		}

		fields := map[string]string{}
		for _, b := range lens.Bindings {
			if b.Novi.Write == mapping.Always && rapid.Bool().Draw(t, "write "+b.Field) {
				fields[b.Field] = value(t, b)
			}
		}
		tags := slices.DeleteFunc(tagSet(t), lens.FromGroup)
		if got, err = lens.NoviOverlay([]byte(raw), fields, &tags); err != nil {
			t.Fatal(err)
		}
		after := showNovi(t, json.RawMessage(got))
		for f, v := range fields {
			if after.Fields[f] != v {
				t.Errorf("%s: put %q, got %q", f, v, after.Fields[f])
			}
		}
		for f, v := range before.Fields {
			if _, written := fields[f]; !written && after.Fields[f] != v {
				t.Errorf("%s was not written and went from %q to %q", f, v, after.Fields[f])
			}
		}
		if !cmp.Equal(after.Tags, tags) && len(tags)+len(after.Tags) > 0 {
			t.Errorf("tags: put %q, got %q", tags, after.Tags)
		}
		unmapped(t, raw, json.RawMessage(got))
	})
}

func decode(t *rapid.T, raw json.RawMessage) map[string]any {
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func same(t *rapid.T, a, b json.RawMessage, what string) {
	if d := cmp.Diff(decode(t, a), decode(t, b)); d != "" {
		t.Errorf("%s changes the record:\n%s", what, d)
	}
}

// unmapped checks that every key that no binding names is as it was.
func unmapped(t *rapid.T, a, b json.RawMessage) {
	x, y := decode(t, a), decode(t, b)
	for _, b := range lens.Bindings {
		top, inner, nested := strings.Cut(b.Novi.Path, ".")
		name, custom := strings.CutPrefix(b.Novi.Path, mapping.CustomPath)
		for _, m := range []map[string]any{x, y} {
			switch {
			case b.Novi.Write != mapping.Always:
			case custom:
				delete(m["CustomFields"].(map[string]any)[name].(map[string]any), "Value")
			case nested:
				delete(m[top].(map[string]any), inner)
			default:
				delete(m, top)
			}
		}
	}
	for _, m := range []map[string]any{x, y} {
		delete(m["CustomFields"].(map[string]any)["GHL Tags"].(map[string]any), "Value")
	}
	if d := cmp.Diff(x, y); d != "" {
		t.Errorf("what is not mapped was changed:\n%s", d)
	}
}

func TestNormalizeIsIdempotent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := rapid.SampledFrom([]mapping.Convert{mapping.Text, mapping.Email, mapping.Phone, mapping.Date, mapping.Bool, mapping.Country, mapping.DND}).Draw(t, "converter")
		s := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"(202) 555-0143", "2026-03-01T00:00:00-05:00", "1/2/2026", "TRUE", "us", "permanent"})).Draw(t, "text")
		once := lens.Normalize(c, s)
		if twice := lens.Normalize(c, once); twice != once {
			t.Errorf("%s of %q is %q, of that %q", c, s, once, twice)
		}
	})
}

func TestNormalize(t *testing.T) {
	tests := []struct {
		c        mapping.Convert
		in, want string
	}{
		{mapping.Email, " Ada@Example.ORG ", "ada@example.org"},
		{mapping.Phone, "(202) 555-0143", "+12025550143"},
		{mapping.Phone, "+44 20 7183 8750", "+442071838750"},
		{mapping.Phone, "ask Ada", "ask Ada"},
		{mapping.Date, "2027-01-01T00:00:00-05:00", "2027-01-01"},
		{mapping.Date, "01/02/2026", "2026-01-02"},
		{mapping.Date, "soon", "soon"},
		{mapping.Bool, "False", ""},
		{mapping.Country, "ch", "CH"},
		{mapping.DND, "inactive", ""},
		{mapping.DND, "permanent", "true"},
		{mapping.Text, "  x ", "x"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s of %s", tt.c, tt.in), func(t *testing.T) {
			if got := lens.Normalize(tt.c, tt.in); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestWhatIsHiddenIsNotWritten(t *testing.T) {
	if _, err := lens.NoviOverlay([]byte(`{"UniqueID":"m"}`), map[string]string{"email": "a@example.org"}, nil); err == nil || !strings.Contains(err.Error(), "Email") {
		t.Errorf("a key that the API key can't see was written: %v", err)
	}
	if _, err := lens.NoviOverlay([]byte(`[]`), nil, nil); err == nil {
		t.Error("a list was overlaid")
	}
}

func TestWhatRecordsDontSay(t *testing.T) {
	show := func(o observation.Observation) mapping.Shown {
		t.Helper()
		s, err := lens.Show(o)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	search := show(observation.Observation{System: canonical.GHL, Endpoint: observation.GHLContactSearch, Names: names, Record: []byte(`{"id":"c","address":"1 Road","dnd":true}`)})
	if _, covered := search.Fields["opt_outs.email"]; covered || search.Fields["address.line1"] != "1 Road" || search.Fields["opt_outs.all"] != "true" {
		t.Errorf("a search row: %+v", search.Fields)
	}
	tags := show(observation.Observation{System: canonical.GHL, Endpoint: observation.GHLContactTags, Record: []byte(`{"tags":["B ","a","b",""]}`)})
	if len(tags.Fields) != 0 || !cmp.Equal(tags.Tags, []string{"a", "b"}) {
		t.Errorf("a tags answer: %+v", tags)
	}
	hidden := show(observation.Observation{System: canonical.Novi, Record: []byte(`{"UniqueID":"m","CustomerType":"Person","FirstName":"Ada"}`)})
	if len(hidden.Fields) != 1 || hidden.Tagged || hidden.Grouped {
		t.Errorf("a member of which little is shown: %+v", hidden)
	}
	company := show(observation.Observation{System: canonical.Novi, Record: []byte(`{"UniqueID":"m","CustomerType":"Company"}`)})
	if company.Skip == "" {
		t.Error("a company was taken for a person")
	}
	for _, bad := range []string{`[]`, `null`, `"x"`, `{`} {
		if _, err := lens.Show(observation.Observation{System: canonical.GHL, Endpoint: "e", Record: []byte(bad)}); err == nil {
			t.Errorf("%s was read", bad)
		}
	}
}

func TestCheck(t *testing.T) {
	tests := []struct {
		name   string
		change func(*mapping.Lens)
		want   string
	}{
		{"fine", func(*mapping.Lens) {}, ""},
		{"unknown field", func(l *mapping.Lens) { l.Bindings[0].Field = "nose" }, "nose"},
		{"bound twice", func(l *mapping.Lens) { l.Bindings[1].Field = l.Bindings[0].Field }, "twice"},
		{"bound to nothing", func(l *mapping.Lens) { l.Bindings[0].GHL, l.Bindings[0].Novi = mapping.Side{}, mapping.Side{} }, "neither"},
		{"blank separator", func(l *mapping.Lens) { l.Tags.Separator = " " }, "separator"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := mapping.Association("US")
			tt.change(l)
			err := l.Check()
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func BenchmarkShowGHL(b *testing.B) {
	record := []byte(`{"id":"nmFm","firstName":"Ada","lastName":"Imhof","email":"ada@example.org","phone":"+12025550143","address1":"1 Summit Road","city":"Ouray","state":"CO","postalCode":"81427","country":"US","website":"https://example.org","tags":["board","vip"],"dateUpdated":"2026-11-01T10:00:00.000Z","dnd":false,"dndSettings":{"Email":{"status":"inactive"}},"customFields":[{"id":"cf1","value":"Guide"},{"id":"cf2","value":"current"}]}`)
	o := observation.Observation{System: canonical.GHL, Endpoint: observation.GHLContactGet, Names: names, Record: record}
	b.SetBytes(int64(len(record)))
	for b.Loop() {
		if _, err := lens.Show(o); err != nil {
			b.Fatal(err)
		}
	}
}

// TestAmericanNumbers: what is taken for E.164 at a glance is what the library
// makes of the same number with a space in it.
func TestAmericanNumbers(t *testing.T) {
	us, ch := mapping.Association("US"), mapping.Association("CH")
	rapid.Check(t, func(t *rapid.T) {
		number := rapid.StringMatching(`[2-9][0-9]{9}`).Draw(t, "number")
		for _, l := range []*mapping.Lens{us, ch} {
			if got, want := l.Normalize(mapping.Phone, "+1"+number), l.Normalize(mapping.Phone, "+1 "+number); got != want {
				t.Fatalf("got %s, want %s", got, want)
			}
		}
	})
	for _, s := range []string{"+1202555014", "+1102555014x", "+120255501431", "+1 2025550143", "12025550143"} {
		if got := us.Normalize(mapping.Phone, s); got == "" {
			t.Errorf("%s is nothing", s)
		}
	}
}
