package mapping_test

import (
	"testing"

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
				raw, err := json.Marshal(l.GHLItemBody(kind, want))
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
