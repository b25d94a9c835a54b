package schemas_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	gojson "github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/schemas"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/effect"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/schemas/observation"
)

// structs are the Go types of the schemas that have one. Attributes are
// headers; TestAttributes holds those.
var structs = map[string]reflect.Type{
	"canonical/v1/contact.json":       reflect.TypeFor[canonical.Event](),
	"canonical/v1/task.json":          reflect.TypeFor[canonical.Event](),
	"canonical/v1/note.json":          reflect.TypeFor[canonical.Event](),
	"canonical/v1/appointment.json":   reflect.TypeFor[canonical.Event](),
	"canonical/v1/tag.json":           reflect.TypeFor[canonical.TagEvent](),
	"observation/v1/observation.json": reflect.TypeFor[observation.Observation](),
	"effect/v1/effect.json":           reflect.TypeFor[effect.Effect](),
	"envelope/v1/dead_letter.json":    reflect.TypeFor[envelope.DeadLetter](),
	"envelope/v1/audit.json":          reflect.TypeFor[envelope.Audit](),
	"envelope/v1/gap.json":            reflect.TypeFor[envelope.Gap](),
}

const attributes = "envelope/v1/attributes.json"

// kinds are the keys of an event under which its record is.
var kinds = []string{"contact", "task", "note", "appointment"}

type schema struct {
	ID         string             `json:"$id"`
	Ref        string             `json:"$ref"`
	Type       string             `json:"type"`
	Format     string             `json:"format"`
	Required   []string           `json:"required"`
	Properties map[string]*schema `json:"properties"`
	Items      *schema            `json:"items"`
	Additional json.RawMessage    `json:"additionalProperties"`
	Defs       map[string]*schema `json:"$defs"`
	Private    bool               `json:"x-private"`
}

func parse(t *testing.T, text []byte) *schema {
	t.Helper()
	var s schema
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	return &s
}

func TestEveryFileHasATypeAndEveryTypeAFile(t *testing.T) {
	named := map[string]bool{}
	for _, name := range schemas.Types() {
		path, err := schemas.Path(name)
		if err != nil {
			t.Fatal(err)
		}
		text, err := schemas.Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := parse(t, text).ID, envelope.SchemaBase+path; got != want {
			t.Errorf("%s: $id is %q, want %q", name, got, want)
		}
		named[path] = true
	}
	for path := range named {
		if structs[path] == nil && path != attributes {
			t.Errorf("%s has no Go type", path)
		}
	}
	err := fs.WalkDir(os.DirFS("."), ".", func(path string, d fs.DirEntry, err error) error {
		if d.IsDir() && d.Name() == "testdata" {
			return fs.SkipDir
		}
		if strings.HasSuffix(path, ".json") && !named[path] {
			t.Errorf("%s belongs to no type", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := schemas.Lookup("causeway.nothing.v1"); !errors.Is(err, schemas.ErrUnknownType) {
		t.Errorf("an unknown type: got %v", err)
	}
	if err := schemas.Validate("causeway.nothing.v1", []byte("{}")); !errors.Is(err, schemas.ErrUnknownType) {
		t.Errorf("an unknown type: got %v", err)
	}
}

func TestStructsSayWhatTheSchemasSay(t *testing.T) {
	for path, typ := range structs {
		t.Run(path, func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			root := parse(t, text)
			compare(t, path, root, root, typ)
		})
	}
}

// compare holds a Go type against a schema, in both directions.
func compare(t *testing.T, at string, root, s *schema, typ reflect.Type) {
	t.Helper()
	if s.Ref != "" {
		s = root.Defs[strings.TrimPrefix(s.Ref, "#/$defs/")]
		if s == nil {
			t.Fatalf("%s: the $ref leads nowhere", at)
		}
	}
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	switch {
	case s.Private:
		if s.Properties != nil {
			t.Errorf("%s: what is private is not described", at)
		}
		return
	case typ == reflect.TypeFor[gojson.RawMessage]():
		if s.Type != "" {
			t.Errorf("%s: is any JSON in Go and %q in the schema", at, s.Type)
		}
		return
	case typ == reflect.TypeFor[time.Time]():
		if s.Type != "string" || s.Format != "date-time" {
			t.Errorf("%s: is a time in Go and %q %q in the schema", at, s.Type, s.Format)
		}
		return
	case typ == reflect.TypeFor[[]byte]():
		if s.Type != "string" {
			t.Errorf("%s: is bytes in Go and %q in the schema", at, s.Type)
		}
		return
	}
	want := map[reflect.Kind]string{reflect.String: "string", reflect.Bool: "boolean", reflect.Int: "integer", reflect.Uint64: "integer",
		reflect.Struct: "object", reflect.Map: "object", reflect.Slice: "array"}[typ.Kind()]
	if s.Type != want {
		t.Errorf("%s: is %s in Go and %q in the schema", at, typ, s.Type)
		return
	}
	switch typ.Kind() {
	case reflect.Slice:
		compare(t, at+"[]", root, s.Items, typ.Elem())
	case reflect.Map:
		var values schema
		if err := json.Unmarshal(s.Additional, &values); err != nil {
			t.Errorf("%s: the schema doesn't say what the map holds", at)
			return
		}
		compare(t, at+"{}", root, &values, typ.Elem())
	case reflect.Struct:
		if s.Additional != nil {
			t.Errorf("%s: additionalProperties would make every added field a break", at)
		}
		seen := map[string]bool{}
		for i := range typ.NumField() {
			name, options, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			seen[name] = true
			p := s.Properties[name]
			if typ == reflect.TypeFor[canonical.Event]() && slices.Contains(kinds, name) {
				// One Go type for all kinds: exactly the file's own is there.
				own := at == "canonical/v1/"+name+".json"
				if own != (p != nil) || own != slices.Contains(s.Required, name) {
					t.Errorf("%s.%s: an event has its own kind and no other", at, name)
				} else if own {
					compare(t, at+"."+name, root, p, typ.Field(i).Type)
				}
				continue
			}
			if p == nil {
				t.Errorf("%s.%s: is in Go and not in the schema", at, name)
				continue
			}
			optional := strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero")
			if slices.Contains(s.Required, name) == optional {
				t.Errorf("%s.%s: required in one and optional in the other", at, name)
			}
			compare(t, at+"."+name, root, p, typ.Field(i).Type)
		}
		for name := range s.Properties {
			if !seen[name] {
				t.Errorf("%s.%s: is in the schema and not in Go", at, name)
			}
		}
	}
}

var noon = time.Date(2026, 11, 1, 12, 0, 0, 123456000, time.UTC)

// full returns a value of every type with every field set.
func full() map[string]any {
	id := canonical.NewID("alpine-guild", canonical.KindContact, canonical.GHL, "nmFm")
	contact := canonical.Contact{ID: id, Tags: []string{"board"}, Custom: map[string]string{"shirt_size": "M"}, Deleted: true}
	for _, f := range canonical.ContactFields() {
		contact.SetField(f, "true")
	}
	event := canonical.Event{
		Version: 7, Contact: contact, Links: map[canonical.System][]canonical.ExternalID{canonical.GHL: {"nmFm"}},
		Changes: []canonical.Change{{Field: "first_name", From: "Ad", To: "Ada", Origin: canonical.Novi, At: noon, Conflict: &canonical.Conflict{Lost: "Adi", Origin: canonical.GHL, Reason: "newer"}}},
		Cause:   canonical.Cause{Stream: "RAW", Sequence: 12, Via: "fetch", System: canonical.Novi, Reason: "she is her sister"}, MergedInto: id,
		Sync: canonical.Sync{Stamps: map[string]canonical.Stamp{"first_name": {At: 1, Seq: 2, Origin: canonical.Novi}}},
	}
	all := map[string]any{
		"causeway.tag.added.v1":   canonical.TagEvent{Tag: "board", ContactID: id, ContactVersion: 7, Origin: canonical.GHL, At: noon},
		"causeway.tag.removed.v1": canonical.TagEvent{Tag: "board", ContactID: id, ContactVersion: 8, Origin: canonical.GHL, At: noon},
		"causeway.observation.v1": observation.Observation{System: canonical.GHL, Tenant: "alpine-guild", Kind: canonical.KindContact, ExternalID: "nmFm", Via: observation.Writeback,
			Endpoint: observation.GHLContactGet, ReadBegan: noon, Modified: noon, Absent: true, Names: map[string]string{"cf1": "contact.x"}, Entity: id,
			Parent: "c1", Contact: id, Creates: true, Target: "nmFm", Reason: "a sister", Wrote: map[string]string{"first_name": "Ada"}, Atomic: true, Record: gojson.RawMessage(`{"id":"nmFm"}`)},
		"causeway.effect.v1": effect.Effect{System: canonical.Novi, Tenant: "alpine-guild", Kind: canonical.KindContact, ID: id, State: effect.Done, Version: 7, Attempt: 1,
			Create: true, External: "9f1c", At: noon, Wrote: map[string]string{"first_name": "Ada"}, TagsAdded: []string{"a"}, TagsRemoved: []string{"b"}, Writebacks: [][]byte{[]byte("{}")}, Reason: "refused"},
		"causeway.audit.v1": envelope.Audit{At: noon, Who: "kim", Role: "operator", Action: "drop", Tenant: "alpine-guild", About: "dead.sink-novi.alpine-guild.contact.x", Result: "dropped", Error: "none"},
		"causeway.gap.v1": envelope.Gap{System: canonical.GHL, Tenant: "alpine-guild", Kind: canonical.KindTask, State: envelope.GapClosed, Reason: envelope.GapMissing,
			Missing: 3, After: 99120, Detected: noon, Sweep: "gap-x", Closed: noon, Trouble: "none"},
		"causeway.dead_letter.v1": envelope.DeadLetter{Stage: "sink", Tenant: "alpine-guild", Kind: canonical.KindContact, ID: string(id), Reason: "refused", At: noon,
			Attempts: []envelope.Attempt{{At: noon, Error: "refused"}}, Stream: "CANONICAL", Sequence: 9, Subject: "canonical.contact.a.b.updated", Body: gojson.RawMessage(`{}`),
			Class: envelope.Data, Deliveries: 3, Dropped: noon, Request: &envelope.Request{System: canonical.Novi, Operation: "update", External: "m1", Fields: []string{"email"}},
			Answer: &envelope.Answer{Status: 400, Message: "[value] is not valid", Trace: "t"}},
	}
	for _, kind := range append(canonical.Items(), canonical.KindContact) {
		e := event
		if kind != canonical.KindContact {
			e = canonical.NewEvent(kind, id)
			e.Version, e.Links, e.Changes, e.Cause, e.Sync, e.MergedInto = event.Version, event.Links, event.Changes, event.Cause, event.Sync, id
			e.SetContactID(id)
			e.SetDeleted(true)
			for _, f := range canonical.Fields(kind) {
				e.SetField(f, "true")
			}
		}
		for _, op := range []canonical.Op{canonical.OpCreated, canonical.OpUpdated, canonical.OpDeleted, canonical.OpMerged, canonical.OpObserved} {
			all[envelope.Type(kind, op)] = e
		}
	}
	return all
}

func TestWhatStructsWriteValidates(t *testing.T) {
	for name, v := range full() {
		for _, later := range []bool{false, true} {
			data, err := gojson.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			if later { // a key that nobody knows yet is no error
				data = append([]byte(`{"a_later_field":{"x":1},`), data[1:]...)
			}
			if err := schemas.Validate(name, data); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestValidateNamesThePlace(t *testing.T) {
	tests := []struct{ name, messageType, data, want string }{
		{"missing", "causeway.tag.added.v1", `{"tag":"x"}`, "contact_id"},
		{"wrong type", "causeway.dead_letter.v1", `{"stage":1,"tenant":"","kind":"","id":"","reason":"","at":"2026-11-01T12:00:00Z"}`, "/stage"},
		{"no time", "causeway.dead_letter.v1", `{"stage":"","tenant":"","kind":"","id":"","reason":"","at":"noon"}`, "/at"},
		{"no JSON", "causeway.tag.added.v1", `{`, "causeway.tag.added.v1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := schemas.Validate(tt.messageType, []byte(tt.data))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestAttributes(t *testing.T) {
	e := full()["causeway.contact.updated.v1"].(canonical.Event)
	a := envelope.EventAttributes("alpine-guild", canonical.OpUpdated, e, canonical.Novi, noon)
	a.TraceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	flat := map[string]string{}
	for k, v := range a.Header() {
		if name, ok := strings.CutPrefix(k, "ce-"); ok {
			flat[name] = v[0]
		}
	}
	data, err := json.Marshal(flat)
	if err != nil {
		t.Fatal(err)
	}
	if err := schemas.Validate("causeway.attributes.v1", data); err != nil {
		t.Error(err)
	}
	text, err := schemas.Lookup("causeway.attributes.v1")
	if err != nil {
		t.Fatal(err)
	}
	described := parse(t, text).Properties
	for name := range flat {
		if described[name] == nil {
			t.Errorf("ce-%s is written and not in the schema", name)
		}
	}
	for name := range described {
		if flat[name] == "" {
			t.Errorf("%s is in the schema and not written", name)
		}
	}
	path, err := schemas.Path(a.Type)
	if err != nil || a.DataSchema != envelope.SchemaBase+path {
		t.Errorf("dataschema is %q, the type's schema is at %q (%v)", a.DataSchema, path, err)
	}
	back, err := envelope.Parse(a.Header())
	if err != nil || back != a {
		t.Errorf("parse of header: got %+v, %v; want %+v", back, err, a)
	}
}
