package preview_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-json"
	"github.com/google/go-cmp/cmp"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/internal/noviapi"
	"github.com/causeway-sync/causeway/internal/verify"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/effect"
	"github.com/causeway-sync/causeway/sink/preview"
	"github.com/causeway-sync/causeway/streams"
)

const tenant = "guild"

var _ preview.Stream = verify.Stream(nil)

// setup returns a stream to fill, and the previews of what it holds.
func setup(t testing.TB) (*bus.Conn, preview.Config) {
	t.Helper()
	spec, err := mapping.Template("")
	if err != nil {
		t.Fatal(err)
	}
	spec.Contact.CreateWhen.Novi = "contact.membership.active"
	lens, policy, err := spec.Build("US")
	if err != nil {
		t.Fatal(err)
	}
	conn, location := bustest.Start(t), "loc1"
	return conn, preview.Config{Stream: conn, Clock: clock.System{}, Tenant: tenant, Lens: lens, Policy: policy, Location: &location, Paths: &noviapi.Paths{}}
}

func publish(t testing.TB, b *bus.Conn, op canonical.Op, e canonical.Event) {
	t.Helper()
	data, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	subject := strings.TrimSuffix(streams.Entity(e.Kind(), tenant, e.ID()), "*") + string(op)
	if _, err := b.Publish(t.Context(), bus.Message{Subject: subject, Data: data}); err != nil {
		t.Fatal(err)
	}
}

// entity is a record that both systems show as it is, but for what they lack.
func entity(kind canonical.Kind, id string, fields map[string]string, linked ...canonical.System) canonical.Event {
	e := canonical.NewEvent(kind, canonical.CanonicalID(id))
	e.Version = 1
	e.Links, e.Sync.Base = map[canonical.System][]canonical.ExternalID{}, map[canonical.System]canonical.Base{}
	for f, v := range fields {
		e.SetField(f, v)
	}
	for _, s := range linked {
		x := canonical.ExternalID(string(s) + "-" + id)
		e.Links[s] = []canonical.ExternalID{x}
		shown := map[string]string{}
		for f, v := range fields {
			shown[f] = v
		}
		e.Sync.Base[s] = canonical.Base{External: x, Fields: shown, Tagged: true}
	}
	return e
}

func run(t *testing.T, cfg preview.Config) ([]string, preview.Summary) {
	t.Helper()
	got := []string{}
	s, err := preview.Run(t.Context(), cfg, func(o preview.Operation) error {
		if strings.HasSuffix(o.Path, "/customFields") {
			return nil // asked for once, for whichever is first
		}
		line := fmt.Sprintf("%s %s %s", o.System, o.Method, o.Path)
		if len(o.Fields) > 0 {
			line += " " + strings.Join(o.Fields, ",")
		}
		if o.MayFire != "" {
			line += " [" + o.MayFire + "]"
		}
		got = append(got, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got, s
}

func TestRun(t *testing.T) {
	both := []canonical.System{canonical.GHL, canonical.Novi}
	ada := map[string]string{"first_name": "Ada", "email": "ada@example.org", "job_title": "Guide"}
	differs := func(kind canonical.Kind, system canonical.System, field, shown string, fields map[string]string) canonical.Event {
		e := entity(kind, "a", fields, both...)
		e.Sync.Base[system].Fields[field] = shown
		return e
	}
	child := func(e canonical.Event) canonical.Event {
		e.SetContactID("c")
		return e
	}
	contact := entity(canonical.KindContact, "c", ada, both...)
	active := map[string]string{"first_name": "Bo", "email": "bo@example.org", "membership.active": "true"}
	call := map[string]string{"title": "Call", "due": "2027-02-01T17:00:00Z"}
	tagged := entity(canonical.KindContact, "a", ada, both...)
	tagged.Contact.Tags = []string{"board"}
	ghlBase := tagged.Sync.Base[canonical.GHL]
	ghlBase.Tags = []string{"vip"}
	tagged.Sync.Base[canonical.GHL] = ghlBase
	gone := entity(canonical.KindTask, "a", call, both...)
	gone.SetDeleted(true)
	tests := []struct {
		name   string
		events []canonical.Event
		want   []string
	}{
		{"nothing differs", []canonical.Event{contact}, []string{}},
		{"a field at GHL", []canonical.Event{differs(canonical.KindContact, canonical.GHL, "job_title", "Chair", ada)},
			[]string{"ghl GET /contacts/ghl-a", "ghl PUT /contacts/ghl-a custom:contact.job_title [contact changed]"}},
		{"a field at Novi", []canonical.Event{differs(canonical.KindContact, canonical.Novi, "first_name", "Ad", ada)},
			[]string{"novi GET /api/members/novi-a", "novi PUT /api/members/novi-a FirstName", "novi GET /api/members/novi-a"}},
		{"tags at both", []canonical.Event{tagged}, []string{"ghl GET /contacts/ghl-a", "ghl POST /contacts/ghl-a/tags tags [contact tag]", "ghl DELETE /contacts/ghl-a/tags tags [contact tag]",
			"novi GET /api/members/novi-a", "novi PUT /api/members/novi-a custom:GHL Tags", "novi GET /api/members/novi-a"}},
		{"one that is to be made, and one that isn't", []canonical.Event{entity(canonical.KindContact, "b", active, canonical.GHL), entity(canonical.KindContact, "d", ada, canonical.GHL)},
			[]string{"novi GET /api/members", "novi POST /api/members Email,FirstName [a member is a QuickBooks customer]", "novi GET /api/members/00000000-0000-4000-8000-000000000000"}},
		{"a task of one that is to be made", []canonical.Event{entity(canonical.KindContact, "c", active, canonical.Novi), child(entity(canonical.KindTask, "t", call, canonical.Novi))},
			[]string{"ghl POST /contacts/ custom:contact.causeway_id,email,firstName [contact created]", "ghl POST /contacts/new/tasks body,completed,dueDate,title [task created]"}},
		{"a task that waits for a contact that is not made", []canonical.Event{entity(canonical.KindContact, "c", ada, canonical.GHL), child(entity(canonical.KindTask, "t", call, canonical.GHL))}, []string{}},
		{"a task that is done", []canonical.Event{contact, child(differs(canonical.KindTask, canonical.GHL, "completed", "true", call))},
			[]string{"ghl GET /contacts/ghl-c/tasks/ghl-a", "ghl PUT /contacts/ghl-c/tasks/ghl-a/completed completed [task changed]"}},
		{"a task that is gone", []canonical.Event{contact, child(gone)}, []string{"ghl DELETE /contacts/ghl-c/tasks/ghl-a", "novi DELETE /api/activities/novi-a"}},
		{"a note at Novi", []canonical.Event{contact, child(differs(canonical.KindNote, canonical.Novi, "body", "old", map[string]string{"body": "new"}))},
			[]string{"novi GET /api/activities/novi-a", "novi PUT /api/activities/novi-a Notes", "novi GET /api/activities/novi-a"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, cfg := setup(t)
			for _, e := range tt.events {
				publish(t, b, canonical.OpCreated, e)
			}
			got, summary := run(t, cfg)
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
			if summary.Entities != len(tt.events) {
				t.Errorf("%d entities", summary.Entities)
			}
		})
	}
}

// TestLastStateOnly: of an entity's events the last one counts, whatever their
// ops, and what was written since.
func TestLastStateOnly(t *testing.T) {
	b, cfg := setup(t)
	e := entity(canonical.KindContact, "a", map[string]string{"first_name": "Ada"}, canonical.GHL)
	old := e
	old.Contact.FirstName = "Otto"
	publish(t, b, canonical.OpCreated, old)
	publish(t, b, canonical.OpUpdated, old)
	e.Contact.LastName = "Imhof"
	publish(t, b, canonical.OpObserved, e)
	got, summary := run(t, cfg)
	if want := []string{"ghl GET /contacts/ghl-a", "ghl PUT /contacts/ghl-a lastName [contact changed]"}; !slices.Equal(got, want) || summary.Entities != 1 {
		t.Errorf("got %q, %+v", got, summary)
	}
	note := func(f effect.Effect) {
		f.System, f.Tenant, f.Kind, f.ID, f.External, f.At = canonical.GHL, tenant, canonical.KindContact, "a", "ghl-a", time.Now()
		data, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Publish(t.Context(), bus.Message{Subject: streams.Effect(canonical.GHL, tenant, canonical.KindContact, "a"), Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	note(effect.Effect{State: effect.Intent, Version: 1})
	if got, summary := run(t, cfg); len(got) != 0 || summary.Systems[canonical.GHL].Pending != 1 {
		t.Errorf("a write under way: got %q, %+v", got, summary.Systems[canonical.GHL])
	}
	note(effect.Effect{State: effect.Done, Version: 1, Wrote: map[string]string{"last_name": "Imhof"}})
	if got, _ := run(t, cfg); len(got) != 0 {
		t.Errorf("what was written already: got %q", got)
	}
}

func TestValuesAndWhatHasNoSpelling(t *testing.T) {
	b, cfg := setup(t)
	e := entity(canonical.KindContact, "a", map[string]string{"first_name": "Ada"}, canonical.GHL, canonical.Novi)
	e.Sync.Base[canonical.GHL].Fields["job_title"], e.Contact.JobTitle = "", "Guide"
	e.Sync.Base[canonical.Novi].Fields["job_title"] = "Guide"
	e.Sync.Base[canonical.Novi].Fields["first_name"] = "A"
	publish(t, b, canonical.OpCreated, e)
	seen := func() (values []map[string]any) {
		_, err := preview.Run(t.Context(), cfg, func(o preview.Operation) error {
			if !o.Read {
				values = append(values, o.Values)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return values
	}
	if got := seen(); !reflect.DeepEqual(got, []map[string]any{nil, nil}) {
		t.Errorf("values that nobody asked for: %v", got)
	}
	cfg.Values = true
	if want := []map[string]any{{"custom:contact.job_title": "Guide"}, {"FirstName": "Ada"}}; !reflect.DeepEqual(seen(), want) {
		t.Errorf("got %v, want %v", seen(), want)
	}
	spec, err := mapping.Template("")
	if err != nil {
		t.Fatal(err)
	}
	spec.Contact.Fields["first_name"] = &mapping.FieldSpec{Novi: mapping.SideSpec{Path: "FirstName", Write: "value.split(' ')[1]"}}
	if cfg.Lens, _, err = spec.Build("US"); err != nil {
		t.Fatal(err)
	}
	if _, summary := run(t, cfg); summary.Systems[canonical.Novi].Refused != 1 || summary.Systems[canonical.Novi].Records != 0 {
		t.Errorf("got %+v", summary.Systems[canonical.Novi])
	}
	stop := errors.New("enough")
	if _, err := preview.Run(t.Context(), cfg, func(preview.Operation) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
}

func TestTakes(t *testing.T) {
	windows := []preview.Window{{Calls: 20, Per: time.Second}, {Calls: 600, Per: time.Minute}}
	tests := []struct {
		calls, daily int
		want         time.Duration
	}{{0, 0, 0}, {0, 500, 0}, {600, 0, time.Minute}, {500, 500, 50 * time.Second}, {1500, 500, 48 * time.Hour}}
	for _, tt := range tests {
		if got := preview.Takes(tt.calls, windows, tt.daily); got != tt.want {
			t.Errorf("%d calls, %d a day: got %s, want %s", tt.calls, tt.daily, got, tt.want)
		}
	}
}
