package mapping_test

import (
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-json"
	"pgregory.net/rapid"

	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
)

// userLens knows two people at both systems.
func userLens(t testing.TB) *mapping.Lens {
	spec, err := mapping.Template("association")
	if err != nil {
		t.Fatal(err)
	}
	spec.Users = []mapping.Row{{Name: "ada", GHL: "u1", Novi: "n1"}, {Name: "bo", GHL: "u2", Novi: "n2"}}
	spec.Contact.CreateWhen.Novi = "never"
	l, _, err := spec.Build("US")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestWhatIsPutIsGot writes every field of tasks and notes at both systems and
// reads it back.
func TestWhatIsPutIsGot(t *testing.T) {
	l := userLens(t)
	text := rapid.StringMatching(`[A-Za-z][a-z <>&;"]{0,12}[a-z]`)
	values := map[string]*rapid.Generator[string]{
		"title": text, "body": text,
		"due": rapid.SampledFrom([]string{"2027-02-01T17:00:00Z", "2026-12-31T23:59:59Z"}), "written": rapid.Just("2026-11-01T08:00:00Z"),
		"completed": rapid.SampledFrom([]string{"", "true"}), "assignee": rapid.SampledFrom([]string{"ada", "bo"}), "author": rapid.SampledFrom([]string{"ada", "bo"}),
	}
	rapid.Check(t, func(t *rapid.T) {
		for _, kind := range []canonical.Kind{canonical.KindTask, canonical.KindNote} {
			e := canonical.NewEvent(kind, "e")
			for _, f := range canonical.Fields(kind) {
				e.SetField(f, values[f].Draw(t, f))
			}
			for _, system := range []canonical.System{canonical.GHL, canonical.Novi} {
				want := l.ProjectEvent(e, system, true).Fields
				body, err := l.GHLItemBody(kind, want)
				if err != nil {
					t.Fatal(err)
				}
				raw, err := json.Marshal(body)
				if system == canonical.Novi {
					raw, err = l.NoviItemOverlay(kind, json.RawMessage(`{"Kept":7,"MemberUniqueId":"m1"}`), want)
				}
				if err != nil {
					t.Fatal(err)
				}
				shown, err := l.Show(observation.Observation{System: system, Kind: kind, Record: raw})
				if err != nil {
					t.Fatal(err)
				}
				for f, v := range want {
					if got := shown.Fields[f]; got != v {
						t.Fatalf("%s.%s at %s: wrote %q, read %q", kind, f, system, v, got)
					}
				}
				if system == canonical.Novi && shown.Parent != "m1" {
					t.Fatalf("parent %q", shown.Parent)
				}
			}
		}
	})
}

// TestZones reads times without a zone at and around the changes of clocks, and
// writes times to both systems and reads them back.
func TestZones(t *testing.T) {
	zone, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	l := userLens(t)
	before := l.Readings(canonical.KindTask, canonical.Novi)["due"]
	l.InZones(zone, zone)
	if l.Readings(canonical.KindTask, canonical.Novi)["due"] == before {
		t.Error("another zone reads the same")
	}
	tests := []struct{ name, shown, want string }{
		{"winter", "2026-01-15T12:00:00", "2026-01-15T17:00:00Z"},
		{"summer, with a space", "2026-07-15 12:00:00", "2026-07-15T16:00:00Z"},
		{"a date is its midnight", "2026-07-15", "2026-07-15T04:00:00Z"},
		{"before clocks go forward", "2026-03-08T01:59:59", "2026-03-08T06:59:59Z"},
		{"after it", "2026-03-08T03:00:00", "2026-03-08T07:00:00Z"},
		{"before the hour that comes twice", "2026-11-01T00:59:59", "2026-11-01T04:59:59Z"},
		{"after it", "2026-11-01T02:00:00", "2026-11-01T07:00:00Z"},
		{"a zone that is named counts", "2026-07-15T12:00:00Z", "2026-07-15T12:00:00Z"},
		{"no time", "next week", "next week"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for system, key := range map[canonical.System]string{canonical.GHL: "dueDate", canonical.Novi: "Date"} {
				shown, err := l.Show(observation.Observation{System: system, Kind: canonical.KindTask, Record: json.RawMessage(`{"` + key + `":"` + tt.shown + `"}`)})
				if err != nil || shown.Fields["due"] != tt.want {
					t.Errorf("%s: got %q, %v, want %q", system, shown.Fields["due"], err, tt.want)
				}
			}
		})
	}
	rapid.Check(t, func(t *rapid.T) {
		// Around a change of clocks, every second.
		edge := rapid.SampledFrom([]int64{time.Date(2026, 3, 8, 7, 0, 0, 0, time.UTC).Unix(), time.Date(2026, 11, 1, 6, 0, 0, 0, time.UTC).Unix()}).Draw(t, "edge")
		due := time.Unix(edge+rapid.Int64Range(-7200, 7200).Draw(t, "seconds"), 0).UTC().Format(time.RFC3339)
		raw, err := l.NoviItemOverlay(canonical.KindTask, json.RawMessage(`{}`), map[string]string{"due": due})
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(raw), "Z") {
			t.Errorf("written without the site's offset: %s", raw)
		}
		shown, err := l.Show(observation.Observation{System: canonical.Novi, Kind: canonical.KindTask, Record: raw})
		if err != nil || shown.Fields["due"] != due {
			t.Errorf("wrote %s, read %s, %v", due, shown.Fields["due"], err)
		}
		body, err := l.GHLItemBody(canonical.KindTask, map[string]string{"due": due})
		if err != nil || body["dueDate"] != due {
			t.Errorf("GHL is written %v, %v, want %s", body["dueDate"], err, due)
		}
	})
}

func TestItemsRead(t *testing.T) {
	l := userLens(t)
	tests := []struct {
		name   string
		system canonical.System
		kind   canonical.Kind
		record string
		want   map[string]string // "-": not covered
	}{
		{"times come to UTC", canonical.Novi, canonical.KindTask, `{"Date":"2027-02-01T12:00:00.5-05:00"}`, map[string]string{"due": "2027-02-01T17:00:00Z", "title": "-"}},
		{"a title that is the type's name is none", canonical.Novi, canonical.KindNote, `{"Subject":"Note","Notes":" x "}`, map[string]string{"title": "", "body": "x"}},
		{"an unknown user says nothing", canonical.GHL, canonical.KindTask, `{"assignedTo":"u9"}`, map[string]string{"assignee": "-"}},
		{"a known one does", canonical.GHL, canonical.KindTask, `{"assignedTo":"u2"}`, map[string]string{"assignee": "bo"}},
		{"nobody is nobody", canonical.GHL, canonical.KindTask, `{"assignedTo":null}`, map[string]string{"assignee": ""}},
		{"GHL leaves out what is empty", canonical.GHL, canonical.KindTask, `{"title":"x"}`, map[string]string{"body": "", "completed": ""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			shown, err := l.Show(observation.Observation{System: tt.system, Kind: tt.kind, Record: json.RawMessage(tt.record)})
			if err != nil {
				t.Fatal(err)
			}
			for f, want := range tt.want {
				got, covered := shown.Fields[f]
				if covered == (want == "-") || covered && got != want {
					t.Errorf("%s: got %q, covered %t, want %q", f, got, covered, want)
				}
			}
		})
	}
	if _, err := l.Show(observation.Observation{System: canonical.GHL, Kind: "letter", Record: json.RawMessage(`{}`)}); err == nil {
		t.Error("a kind that is not known was read")
	}
}

func TestOverlayKeepsWhatIsNotMapped(t *testing.T) {
	raw, err := userLens(t).NoviItemOverlay(canonical.KindTask, json.RawMessage(`{"Own":1.50,"TaskComplete":true,"TaskCompletedDate":"2026-01-01T00:00:00"}`), map[string]string{"completed": ""})
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]json.RawMessage
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	if string(got["Own"]) != "1.50" || string(got["TaskComplete"]) != "false" || string(got["TaskCompletedDate"]) != "null" {
		t.Errorf("got %s", raw)
	}
}

func TestAppointmentInWords(t *testing.T) {
	e := canonical.NewEvent(canonical.KindAppointment, "e")
	for f, v := range map[string]string{"title": "Visit", "notes": "bring forms", "start": "2027-02-01T17:00:00Z", "end": "2027-02-01T17:30:00Z", "status": "cancelled"} {
		e.SetField(f, v)
	}
	p := userLens(t).ProjectEvent(e, canonical.Novi, true)
	if got, want := p.Fields["summary"], "bring forms\nEnds: 2027-02-01T17:30:00Z\nStatus: cancelled"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if len(userLens(t).ProjectEvent(e, canonical.GHL, true).Fields) != 0 {
		t.Error("an appointment is written to GHL")
	}
}

// TestOwnItemFields lays a tenant's own fields over the template's.
func TestOwnItemFields(t *testing.T) {
	l := mustBuild(t, `{users: [{name: ada, ghl: u1, novi: n1}], task: {fields: {
title: {ghl: title, novi: {path: Subject, read: "value.replace('[GHL] ', '')", write: "'[GHL] ' + value"}},
body: {ghl: body, novi: Notes, convert: html, html: novi, authority: longest}, assignee: null, due: {ghl: dueDate, convert: instant, ghl_write: create}}}}`)
	e := canonical.NewEvent(canonical.KindTask, "e")
	for f, v := range map[string]string{"title": "Call", "body": "a\n<b", "due": "2027-02-01T17:00:00Z", "assignee": "ada"} {
		e.SetField(f, v)
	}
	fields := l.ProjectEvent(e, canonical.Novi, true).Fields
	raw, err := l.NoviItemOverlay(canonical.KindTask, json.RawMessage(`{}`), fields)
	if want := `{"Notes":"a\u003cbr\u003e\u0026lt;b","Subject":"[GHL] Call","TaskComplete":false,"TaskCompletedDate":null}`; err != nil || string(raw) != want {
		t.Errorf("got %s, %v, want %s", raw, err, want)
	}
	shown, err := l.Show(observation.Observation{System: canonical.Novi, Kind: canonical.KindTask, Record: raw})
	if err != nil || shown.Fields["title"] != "Call" || shown.Fields["body"] != "a\n<b" {
		t.Errorf("got %+v, %v", shown, err)
	}
	if _, bound := l.BindingOf(canonical.KindTask, "assignee"); bound {
		t.Error("a field that was taken away is there")
	}
	if l.AuthorityOf(canonical.KindTask, "body") != mapping.Longest || l.AuthorityOf(canonical.KindAppointment, "title") != mapping.ByGHL {
		t.Error("the authority is not what was said")
	}
	if update := l.ProjectEvent(e, canonical.GHL, false).Fields; update["title"] != "Call" || len(update) != 3 {
		t.Errorf("an update of GHL has %v", update)
	}
}

// TestWhatStandsForNothing: a title that a system would read as none is written
// as none, and somebody who has left the table of users as nobody.
func TestWhatStandsForNothing(t *testing.T) {
	e := canonical.NewEvent(canonical.KindTask, "e")
	e.SetField("title", "Task")
	e.SetField("assignee", "zoe")
	p := userLens(t).ProjectEvent(e, canonical.Novi, true)
	if title, ok := p.Fields["title"]; title != "" || !ok {
		t.Errorf("got title %q", title)
	}
	if who, ok := p.Fields["assignee"]; ok {
		t.Errorf("got assignee %q", who)
	}
	if p := userLens(t).ProjectEvent(e, canonical.GHL, true); p.Fields["title"] != "Task" {
		t.Errorf("at GHL: got title %q", p.Fields["title"])
	}
}

func TestAValueWithoutASpelling(t *testing.T) {
	l := mustBuild(t, `task: {fields: {title: {ghl: {path: title, write: "value.split(' ')[1]"}, novi: {path: Subject, write: "value.split(' ')[1]"}}}}`)
	fields := map[string]string{"title": "secret"}
	_, ghlErr := l.GHLItemBody(canonical.KindTask, fields)
	_, noviErr := l.NoviItemOverlay(canonical.KindTask, json.RawMessage(`{}`), fields)
	for _, err := range []error{ghlErr, noviErr} {
		if err == nil || !strings.Contains(err.Error(), "write title to ") || strings.Contains(err.Error(), "secret") {
			t.Errorf("got %v", err)
		}
	}
}

func BenchmarkShowItem(b *testing.B) {
	o := observation.Observation{System: canonical.Novi, Kind: canonical.KindTask, Record: []byte(`{"UniqueID":"a1","ActivityType":"Task","Subject":"Call about dues","Notes":"She asked for <b>two</b> forms.","Date":"2027-02-01T17:00:00Z","TaskComplete":false,"TaskCompletedDate":null,"AssignedToMemberUniqueId":"n1","MemberUniqueId":"m1","LastUpdatedDate":"2026-11-01T08:00:00Z"}`)}
	l := userLens(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.Show(o); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkProjectItem(b *testing.B) {
	e := canonical.NewEvent(canonical.KindTask, "e")
	for f, v := range map[string]string{"title": "Call", "body": "x", "due": "2027-02-01T17:00:00Z", "assignee": "ada"} {
		e.SetField(f, v)
	}
	l := userLens(b)
	b.ReportAllocs()
	for b.Loop() {
		l.ProjectEvent(e, canonical.Novi, true)
	}
}
