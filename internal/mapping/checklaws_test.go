package mapping_test

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
)

// build lays a contact's fields, in flow style, over the template.
func build(t testing.TB, own string) (*mapping.Lens, *mapping.Policy, error) {
	t.Helper()
	var spec mapping.Spec
	if err := yaml.UnmarshalWithOptions([]byte(own), &spec, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	template, err := mapping.Template("")
	if err != nil {
		t.Fatal(err)
	}
	return template.With(spec).Build("US")
}

func mustBuild(t testing.TB, own string) *mapping.Lens {
	t.Helper()
	l, _, err := build(t, own)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func custom(options string) string {
	return `contact: {fields: {custom.x: {` + options + `}}}`
}

func TestTheTemplatesHoldTheLaws(t *testing.T) {
	for _, name := range mapping.Templates() {
		s, err := mapping.Template(name)
		if err != nil {
			t.Fatal(err)
		}
		l, _, err := s.Build("US")
		if err != nil {
			t.Fatal(err)
		}
		rapid.Check(t, func(t *rapid.T) {
			samples := mapping.Samples{Records: []observation.Observation{
				{System: canonical.Novi, Endpoint: observation.NoviMemberGet, Record: []byte(noviMember(t))},
				{System: canonical.GHL, Endpoint: observation.GHLContactGet, Names: names, Record: []byte(`{"firstName":" Ada","phone":"(202) 555-0143","customFields":[{"id":"cf1","value":["a","b"]}],"dndSettings":{"SMS":{"status":"permanent"}}}`)},
			}}
			c := canonical.Contact{}
			for _, b := range l.Bindings {
				c.SetField(b.Field, value(t, b))
			}
			samples.Contacts = append(samples.Contacts, c)
			if found := mapping.CheckLaws(l, samples); len(found) > 0 {
				t.Errorf("%s: %+v", name, found)
			}
		})
	}
}

// TestRandomBindings: whatever a binding is built of, it either is refused or
// holds the laws; expressions aside, which can say anything.
func TestRandomBindings(t *testing.T) {
	word := rapid.StringMatching(`[a-z<>&;,| %0-9]{0,6}`)
	rapid.Check(t, func(t *rapid.T) {
		f := mapping.FieldSpec{
			Convert: rapid.SampledFrom([]mapping.Convert{"", mapping.Text, mapping.Email, mapping.Phone, mapping.Date, mapping.Country, mapping.Bool, mapping.Enum, mapping.Lookup, mapping.List, mapping.HTML}).Draw(t, "convert"),
			GHL:     mapping.SideSpec{Path: rapid.SampledFrom([]string{"own", "custom:contact.own"}).Draw(t, "ghl")},
			Novi:    mapping.SideSpec{Path: rapid.SampledFrom([]string{"Own", "Own.Inner", "custom:Own"}).Draw(t, "novi")},
		}
		table := rapid.MapOf(word, word)
		s := mapping.Spec{Contact: mapping.ContactSpec{Fields: map[string]*mapping.FieldSpec{"custom.x": &f}}}
		switch f.Convert {
		case mapping.Enum:
			f.Enum = mapping.EnumSpec{GHL: table.Draw(t, "table for ghl"), Novi: table.Draw(t, "table for novi")}
		case mapping.Lookup:
			f.Lookup = "own"
			for our, their := range table.Draw(t, "table") {
				s.Tables = map[string][]mapping.Row{"own": append(s.Tables["own"], mapping.Row{Name: our, GHL: their, Novi: their})}
			}
		case mapping.List:
			f.Separator.Novi = rapid.SampledFrom([]string{"", ";", ", ", "|", "||", "\n", " ", " - "}).Draw(t, "separator")
			f.Separator.GHL = rapid.SampledFrom([]string{"", ";", ","}).Draw(t, "separator")
		case mapping.HTML:
			f.HTML = rapid.SampledFrom([]string{"ghl", "novi", "both"}).Draw(t, "html")
		}
		l, _, err := s.Build("US")
		if err != nil {
			t.Skip(err)
		}
		var c canonical.Contact
		c.SetField("custom.x", l.Normalize(l.Bindings[0].Convert, strings.ToValidUTF8(rapid.OneOf(rapid.String(), word).Draw(t, "value"), "")))
		if found := mapping.CheckLaws(l, mapping.Samples{Contacts: []canonical.Contact{c}}); len(found) > 0 {
			t.Errorf("%+v", found)
		}
	})
}

func TestCheckLawsFinds(t *testing.T) {
	both := `ghl: "custom:contact.x", novi: `
	tests := []struct {
		name, own string
		want      []string // field, system, law of each
	}{
		{"a pair of expressions that fit", custom(both + `{path: "custom:X", read: "value.substring(2)", write: "'x-' + value"}`), nil},
		{"a write without its read", custom(both + `{path: "custom:X", write: "'x-' + value"}`), []string{"custom.x novi put_get"}},
		{"a read that loses", custom(both + `{path: "custom:X", read: "value.lowerAscii()"}`), []string{"custom.x novi put_get"}},
		{"a write that fails", custom(both + `{path: "custom:X", write: "value.split(' ')[1]"}`), []string{"custom.x novi put_get", "custom.x novi writable"}},
		{"a task's write without its read", `task: {fields: {body: {ghl: body, novi: {path: Notes, write: "'- ' + value"}}}}`, []string{"task.body novi put_get"}},
		{"a note's read that fails", `note: {fields: {title: {ghl: {path: title, read: "value.split(' ')[1]"}, novi: Subject}}}`, []string{"note.title ghl put_get"}},
		{"a table refuses", custom(both + `"custom:X", convert: enum, enum: {ghl: {yes: "Y"}, novi: {yes: "no"}}`), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, v := range mapping.CheckLaws(mustBuild(t, tt.own), mapping.Samples{}) {
				field := v.Field
				if v.Kind != canonical.KindContact {
					field = string(v.Kind) + "." + field
				}
				got = append(got, fmt.Sprintf("%s %s %s", field, v.System, v.Law))
			}
			slices.Sort(got)
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
	t.Run("a record that can't be read or put back", func(t *testing.T) {
		l := mustBuild(t, custom(`ghl: {path: own, read: "value == 'Ada Imhof' ? value.split(' ')[7] : value + '!'"}`))
		got := mapping.CheckLaws(l, mapping.Samples{Records: []observation.Observation{
			{System: canonical.GHL, Endpoint: observation.GHLContactGet, Record: []byte(`{"own":"Ada Imhof"}`)},
			{System: canonical.GHL, Endpoint: observation.GHLContactGet, Record: []byte(`{"own":"Otto"}`)},
		}})
		laws := map[mapping.Law]mapping.Violation{}
		for _, v := range got {
			laws[v.Law] = v
		}
		if keys := slices.Sorted(maps.Keys(laws)); !slices.Equal(keys, []mapping.Law{mapping.GetPut, mapping.PutGet, mapping.Readable}) {
			t.Errorf("got %+v", got)
		}
		if v := laws[mapping.Readable]; !strings.Contains(v.Problem, "custom.x from ghl") || strings.Contains(v.Problem, "Ada") {
			t.Errorf("got %+v", v)
		}
		if v := laws[mapping.GetPut]; v.Class != "5 characters: letters, punctuation" || v.Put != "Otto!" || v.Got != "Otto!!" {
			t.Errorf("got %+v", v)
		}
	})
}

// TestCheckLawsReadsItems tries the values and the records of the samples.
func TestCheckLawsReadsItems(t *testing.T) {
	l := mustBuild(t, `task: {fields: {title: {ghl: {path: title, read: "value == 'again' ? 'and again' : value"}, novi: Subject}}}`)
	if got := mapping.CheckLaws(l, mapping.Samples{}); len(got) > 0 {
		t.Fatalf("got %+v", got)
	}
	e := canonical.NewEvent(canonical.KindTask, "e")
	e.SetField("title", "again")
	record := observation.Observation{System: canonical.GHL, Kind: canonical.KindTask, Endpoint: observation.GHLTaskGet, Record: []byte(`{"title":"again"}`)}
	for name, s := range map[string]mapping.Samples{"value": {Items: []canonical.Event{e}}, "record": {Records: []observation.Observation{record, {System: canonical.GHL, Kind: canonical.KindNote, Record: []byte(`[]`)}}}} {
		got := mapping.CheckLaws(l, s)
		if name == "value" && (len(got) != 1 || got[0].Law != mapping.PutGet || got[0].Kind != canonical.KindTask || got[0].Got != "and again") {
			t.Errorf("%s: got %+v", name, got)
		}
		if name == "record" && (len(got) != 1 || got[0].Law != mapping.Readable || got[0].Kind != canonical.KindNote) {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

func TestConverters(t *testing.T) {
	l := mustBuild(t, `{users: [{name: jo, ghl: jo@example.org, novi: guid-1}], contact: {fields: {
custom.kind: {ghl: "custom:contact.kind", novi: "custom:Kind", convert: enum, enum: {ghl: {full: Full member}, novi: {full: F}}},
custom.owner: {ghl: "custom:contact.owner", novi: "custom:Owner", convert: lookup, lookup: users},
custom.skills: {ghl: "custom:contact.skills", novi: "custom:Skills", convert: list, separator: {novi: ", "}},
custom.bio: {ghl: "custom:contact.bio", novi: "custom:Bio", convert: html, html: novi},
custom.full: {novi: {path: "custom:Full", read: "value.split(' ')[0]", write: "value + ' ' + contact.last_name"}}}}}`)
	keys := map[string]string{"contact.kind": "1", "contact.owner": "2", "contact.skills": "3", "contact.bio": "4"}
	fields := map[string]string{"custom.kind": "full", "custom.owner": "jo", "custom.skills": mapping.JoinList([]string{"b; c", "a", "a"}), "custom.bio": "a <b>\n  c", "custom.full": "Ada"}
	body, skipped := l.GHLBody(fields, keys)
	want := map[string]any{"customFields": []map[string]any{
		{"id": "4", "field_value": "a <b>\n  c"}, {"id": "1", "field_value": "Full member"}, {"id": "2", "field_value": "jo@example.org"}, {"id": "3", "field_value": []string{"a", "b; c"}}}}
	if d := cmp.Diff(want, body); d != "" || len(skipped) > 0 {
		t.Errorf("%v %s", skipped, d)
	}
	raw, err := l.Of(canonical.Contact{LastName: "Imhof"}).NoviOverlay([]byte(`{"CustomFields":{}}`), fields, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"F"`, `"guid-1"`, `"a, b; c"`, `a \u0026lt;b\u0026gt;\u003cbr\u003e\u0026nbsp;\u0026nbsp;c`, `"Ada Imhof"`} {
		if !strings.Contains(string(raw), part) {
			t.Errorf("%s is not in %s", part, raw)
		}
	}
	shown, err := l.Show(observation.Observation{System: canonical.Novi, Record: raw})
	if err != nil {
		t.Fatal(err)
	}
	for f, v := range fields {
		if shown.Fields[f] != v {
			t.Errorf("%s: got %q, want %q", f, shown.Fields[f], v)
		}
	}
	// "F" is how Novi says full: as a value of its own it can't be said there.
	if _, err := l.NoviOverlay([]byte(`{"CustomFields":{}}`), map[string]string{"custom.kind": "F"}, nil); err == nil || !strings.Contains(err.Error(), "custom.kind to novi") {
		t.Errorf("got %v", err)
	}
	if _, skipped := l.GHLBody(map[string]string{"custom.kind": "Full member"}, keys); !slices.Equal(skipped, []string{"custom.kind"}) {
		t.Errorf("got %v", skipped)
	}
}

func TestHTMLToText(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"plain", "a  b\nc", "a b c"},
		{"paragraphs", "<p>a</p>\n<p>b<br>c</p>", "a\nb\nc"},
		{"list", "<ul><li>one</li><li>two</li></ul>end", "- one\n- two\nend"},
		{"link", `see <a href="https://example.org/x">this</a>, <a href="https://example.org">example.org</a>`, "see this (https://example.org/x), example.org"},
		{"entities", "a &lt;b&gt; &amp;&nbsp; c&#39;s", "a <b> &  c's"},
		{"hidden", "<style>p{}</style><script>x()</script>a", "a"},
		{"broken", "a <b>c <i", "a c"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := mapping.HTMLToText(tt.in); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	rapid.Check(t, func(t *rapid.T) {
		once := mapping.HTMLToText(mapping.TextToHTML(rapid.OneOf(rapid.String(), rapid.StringMatching(`[a<>& \n\t]{0,20}`)).Draw(t, "text")))
		if twice := mapping.HTMLToText(mapping.TextToHTML(once)); twice != once {
			t.Errorf("%q became %q", once, twice)
		}
	})
}

// TestBuildErrors: each begins with the key that is wrong.
func TestBuildErrors(t *testing.T) {
	tests := []struct{ name, own, want string }{
		{"unknown field", `contact: {fields: {nose: {ghl: nose}}}`, `contact.fields.nose: "nose" is no canonical field`},
		{"nowhere", custom(``), "contact.fields.custom.x: it is bound to neither system"},
		{"unknown converter", custom(`ghl: a, convert: shout`), "contact.fields.custom.x: convert: "},
		{"unknown authority", custom(`ghl: a, authority: pope`), "contact.fields.custom.x: authority: "},
		{"union of numbers", custom(`ghl: a, convert: phone, authority: union`), "contact.fields.custom.x: authority: union"},
		{"opt-out of a text", custom(`ghl: a, authority: opt_out`), "contact.fields.custom.x: authority: opt_out"},
		{"a flag as text", `contact: {fields: {membership.active: {novi: Active}}}`, "contact.fields.membership.active: convert: "},
		{"dnd elsewhere", `contact: {fields: {opt_outs.sms: {ghl: sms, convert: dnd, authority: opt_out}}}`, "contact.fields.opt_outs.sms: convert: dnd"},
		{"unknown write", custom(`ghl: a, ghl_write: sometimes`), "contact.fields.custom.x.ghl_write: "},
		{"write without a path", custom(`novi: A, ghl_write: always`), "contact.fields.custom.x.ghl: has no path"},
		{"deep path", custom(`novi: A.B.C`), "contact.fields.custom.x: novi: "},
		{"dotted ghl path", custom(`ghl: a.b`), "contact.fields.custom.x: ghl: "},
		{"custom without a name", custom(`ghl: "custom:"`), "contact.fields.custom.x: ghl: "},
		{"unknown field of a task", `task: {fields: {nose: {ghl: nose}}}`, `task.fields.nose: "nose" is no field of a canonical task`},
		{"a task's field nowhere", `task: {fields: {title: {}}}`, "task.fields.title: it is bound to neither system"},
		{"a contact's converter", `note: {fields: {title: {ghl: title, convert: dnd}}}`, "note.fields.title: convert: "},
		{"done as text", `task: {fields: {completed: {ghl: completed}}}`, "task.fields.completed: convert: "},
		{"a title as a flag", `task: {fields: {title: {ghl: title, convert: bool}}}`, "task.fields.title: convert: "},
		{"an opt-out of a task", `task: {fields: {completed: {ghl: completed, convert: bool, authority: opt_out}}}`, "task.fields.completed: authority: "},
		{"a custom field of a task", `task: {fields: {title: {ghl: "custom:contact.x"}}}`, "task.fields.title: ghl: only contacts"},
		{"a task's dotted path", `task: {fields: {title: {ghl: a.b}}}`, "task.fields.title: ghl: "},
		{"two writers of a task", `task: {fields: {body: {novi: Subject}}}`, "task.fields.title: body writes there too"},
		{"the contact of a task", `task: {fields: {title: {ghl: {path: title, write: "value + contact.email"}}}}`, "task.fields.title.ghl.write: at "},
		{"CEL on a user", `task: {fields: {assignee: {ghl: {path: assignedTo, read: value}, convert: user}}}`, "task.fields.assignee: ghl: "},
		{"an appointment's field to GHL", `appointment: {fields: {title: {ghl: title, ghl_write: create}}}`, "appointment.fields.title.ghl_write: "},
		{"an appointment by Novi", `appointment: {fields: {title: {ghl: title, authority: newest}}}`, "appointment.fields.title.authority: "},
		{"a summary that is read", `appointment: {fields: {summary: {ghl: notes}}}`, "appointment.fields.summary: ghl: "},
		{"two writers", custom(`ghl: firstName`), "contact.fields.first_name: custom.x writes there too"},
		{"the tags' field", custom(`novi: "custom:GHL Tags"`), "contact.fields.custom.x: tags writes there too"},
		{"enum without a table", custom(`ghl: a, convert: enum`), "contact.fields.custom.x.enum: "},
		{"a table without enum", custom(`ghl: a, enum: {ghl: {a: b}}`), "contact.fields.custom.x.enum: "},
		{"a table that folds", custom(`ghl: a, convert: enum, enum: {ghl: {a: x, b: x}}`), "contact.fields.custom.x.enum.ghl: "},
		{"no such table", custom(`ghl: a, convert: lookup, lookup: moons`), "contact.fields.custom.x.lookup: "},
		{"html nowhere", custom(`ghl: a, convert: html, html: left`), "contact.fields.custom.x.html: "},
		{"letters separate", custom(`ghl: a, convert: list, separator: {ghl: and}`), "contact.fields.custom.x: separator.ghl: "},
		{"no CEL", custom(`ghl: {path: a, read: "value +"}`), "contact.fields.custom.x.ghl.read: at "},
		{"unknown variable", custom(`ghl: {path: a, read: "contact.email"}`), "contact.fields.custom.x.ghl.read: at "},
		{"unknown field of contact", custom(`ghl: {path: a, write: "value + contact.nose"}`), "contact.fields.custom.x.ghl.write: at "},
		{"no text", custom(`ghl: {path: a, write: "size(value)"}`), "contact.fields.custom.x.ghl.write: gives int"},
		{"CEL on a list", custom(`ghl: {path: a, read: "value"}, convert: list`), "contact.fields.custom.x: ghl: "},
		{"blank separator of tags", `contact: {tags: {separator: " "}}`, "contact.tags.separator: "},
		{"a derived tag of nothing", `contact: {tags: {derive: [{field: membership.status}]}}`, "contact.tags.derive[0].tag: "},
		{"a derived tag of a value alone", `contact: {tags: {derive: [{tag: "{value}", field: membership.status}]}}`, "contact.tags.derive[0].tag: "},
		{"a derived tag of two values", `contact: {tags: {derive: [{tag: "a {value}{value}", field: membership.status}]}}`, "contact.tags.derive[0].tag: "},
		{"a derived tag that is known by its end", `contact: {tags: {derive: [{tag: "{value} member", field: membership.status}]}}`, "contact.tags.derive[0].tag: "},
		{"a value of no field", `contact: {tags: {derive: [{tag: "a {value}", when: "true"}]}}`, "contact.tags.derive[0].tag: "},
		{"a derived tag of everybody", `contact: {tags: {derive: [{tag: a}]}}`, "contact.tags.derive[0].when: "},
		{"a derived tag of no field", `contact: {tags: {derive: [{tag: b, when: always}, {tag: a, field: nose}]}}`, "contact.tags.derive[1].field: "},
		{"a derived tag of no condition", `contact: {tags: {derive: [{tag: a, when: "contact.nose"}]}}`, "contact.tags.derive[0].when: "},
		{"a derived tag like a group's", `contact: {tags: {derive: [{tag: "novi: x", when: always}]}}`, "contact.tags.derive[0].tag: "},
		{"a derived tag that may be a group's", `contact: {tags: {derive: [{tag: "no{value}", field: phone}]}}`, "contact.tags.derive[0].tag: "},
		{"a derived tag for duplicates", `contact: {tags: {derive: [{tag: Twice, when: always}]}, duplicates: tag, duplicates_tag: twice}`, "contact.duplicates_tag: "},
		{"a derived tag for deletes", `{contact: {tags: {derive: [{tag: gone, when: always}]}}, deletes: {contact: {ghl: tag, tag: Gone}}}`, "deletes.contact.tag: "},
		{"no condition", `contact: {create_when: {ghl: perhaps}}`, "contact.create_when.ghl: "},
		{"duplicates", `contact: {duplicates: shred}`, "contact.duplicates: "},
		{"duplicates without a tag", `contact: {duplicates: tag}`, "contact.duplicates_tag: "},
		{"identity by what is not bound", `contact: {identity: {keys: [custom.x]}}`, "contact.identity.keys: "},
		{"on_match", `contact: {identity: {on_match: guess}}`, "contact.identity.on_match: "},
		{"negative skew", `clock_skew: -1s`, "clock_skew: "},
		{"appointments to GHL", `sync: {appointment: {to_ghl: true}}`, "sync.appointment.to_ghl: "},
		{"unknown delete", `deletes: {task: {ghl: shred}}`, "deletes.task.ghl: "},
		{"a tagged task", `deletes: {task: {ghl: tag, tag: x}}`, "deletes.task.ghl: "},
		{"a delete without its tag", `deletes: {contact: {ghl: tag}}`, "deletes.contact.tag: "},
		{"a tag for nothing", `deletes: {contact: {tag: x}}`, "deletes.contact.tag: "},
		{"appointments from Novi", `deletes: {appointment: {novi: propagate}}`, "deletes.appointment.novi: "},
		{"a negative hold", `deletes: {hold: {count: -1}}`, "deletes.hold.count: "},
		{"a hold at more than all", `deletes: {hold: {percent: 101}}`, "deletes.hold.percent: "},
		{"a hold of no time", `deletes: {hold: {within: -1m}}`, "deletes.hold.within: "},
		{"a user twice", `users: [{name: a, ghl: x}, {name: b, ghl: x}]`, "users: ghl: "},
		{"a user without a name", `users: [{ghl: x}]`, "users: row 1: "},
		{"a table named users", `tables: {users: []}`, "tables.users: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := build(t, tt.own)
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestConditions(t *testing.T) {
	c := canonical.Contact{Email: "a@example.org", Tags: []string{"member"}, Membership: canonical.Membership{Active: true}, Custom: map[string]string{"size": "L"}}
	tests := []struct {
		text    string
		want    bool
		problem string
	}{
		{"", false, ""},
		{"always", true, ""},
		{"never", false, ""},
		{`"member" in contact.tags && contact.membership.active`, true, ""},
		{`contact.custom["size"] == "S"`, false, ""},
		{`contact.email.endsWith("@example.org")`, true, ""},
		{`contact.custom["nothing"] == "S"`, false, "can't be evaluated"},
		{`contact.emial == ""`, false, "undefined field"},
		{`contact.email`, false, "has to give bool"},
		{`contact.email ==`, false, "at "},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			cond, err := mapping.NewCondition(tt.text)
			got := false
			if err == nil {
				got, err = cond.Holds(c)
			}
			if got != tt.want || (err == nil) != (tt.problem == "") || err != nil && !strings.Contains(err.Error(), tt.problem) {
				t.Errorf("got %t, %v", got, err)
			}
		})
	}
}

func TestHold(t *testing.T) {
	usual := mapping.Hold{Count: 20, Percent: 5, Within: 10 * time.Minute}
	if got := new(mapping.Policy).Hold(); got != usual {
		t.Errorf("of the zero policy: %+v", got)
	}
	tests := []struct {
		own  string
		want mapping.Hold
	}{
		{"{}", usual},
		{"deletes: {hold: {count: 50}}", mapping.Hold{Count: 50, Percent: 5, Within: 10 * time.Minute}},
		{"deletes: {hold: {percent: 0, within: 1h}}", mapping.Hold{Count: 20, Within: time.Hour}},
		{"deletes: {hold: {count: 0}}", mapping.Hold{Percent: 5, Within: 10 * time.Minute}},
	}
	for _, tt := range tests {
		if _, p, err := build(t, tt.own); err != nil || p.Hold() != tt.want {
			t.Errorf("%s: got %+v %v, want %+v", tt.own, p.Hold(), err, tt.want)
		}
	}
}

func TestExpressionsAreLimited(t *testing.T) {
	l := mustBuild(t, custom(`ghl: {path: own, read: "value.split('').map(a, value.split('').map(b, value.split('').map(c, a + b + c).join()).join()).join()"}`))
	_, err := l.Show(observation.Observation{System: canonical.GHL, Endpoint: observation.GHLContactGet, Record: []byte(`{"own":"` + strings.Repeat("x", 1000) + `"}`)})
	if err == nil || !strings.Contains(err.Error(), "custom.x from ghl") {
		t.Errorf("got %v", err)
	}
}

func TestPolicy(t *testing.T) {
	_, p, err := build(t, `{clock_skew: 2s, sync: {note: {to_ghl: false}}, deletes: {contact: {novi: tag, tag: Left}, note: {ghl: unlink}},
users: [{name: jo, ghl: g, novi: n}], contact: {duplicates: tag, duplicates_tag: dup, identity: {keys: [email], on_match: flag}, create_when: {novi: "contact.email != ''"}}}`)
	if err != nil {
		t.Fatal(err)
	}
	if p.Syncs("note", canonical.GHL) || !p.Syncs("note", canonical.Novi) || p.Syncs("appointment", canonical.GHL) || !p.Syncs("appointment", canonical.Novi) {
		t.Errorf("got %+v", p.Off)
	}
	for at, want := range map[mapping.Flow]mapping.Delete{
		{Kind: "contact", System: canonical.GHL}: {Action: mapping.Unlink}, {Kind: "contact", System: canonical.Novi}: {Action: mapping.TagRecord, Tag: "left"},
		{Kind: "note", System: canonical.GHL}: {Action: mapping.Unlink}, {Kind: "task", System: canonical.GHL}: {Action: mapping.Propagate},
		{Kind: "appointment", System: canonical.Novi}: {Action: mapping.Unlink},
	} {
		if got := p.Delete(at.Kind, at.System); got != want {
			t.Errorf("%v: got %v, want %v", at, got, want)
		}
	}
	if name, ok := p.User(canonical.Novi, "n"); !ok || name != "jo" {
		t.Errorf("got %q", name)
	}
	if id, ok := p.UserAt(canonical.GHL, "jo"); !ok || id != "g" {
		t.Errorf("got %q", id)
	}
	if p.ClockSkew.Seconds() != 2 || p.Duplicates != mapping.TagDuplicates || p.OnMatch != mapping.FlagMatch || !slices.Equal(p.IdentityKeys, []string{"email"}) {
		t.Errorf("got %+v", p)
	}
	var zero mapping.Policy
	if !zero.Syncs("task", canonical.GHL) || zero.Delete("task", canonical.GHL).Action != mapping.Propagate || zero.Delete("contact", canonical.GHL).Action != mapping.Unlink {
		t.Error("the zero policy is not the default")
	}
}

func TestTemplatesAreEmbedded(t *testing.T) {
	files, err := filepath.Glob("templates/*.yaml")
	if err != nil || len(files) != len(mapping.Templates()) {
		t.Errorf("%v: %v", files, err)
	}
	if _, err := mapping.Template("guild"); err == nil || !strings.Contains(err.Error(), "association") {
		t.Errorf("got %v", err)
	}
}
