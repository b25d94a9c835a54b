package configschema_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-json"
	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/causeway-sync/causeway/internal/config"
	"github.com/causeway-sync/causeway/internal/configschema"
	"github.com/causeway-sync/causeway/internal/mapping"
)

func compile(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	text, err := configschema.Make(name)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// check validates YAML.
func check(t *testing.T, s *jsonschema.Schema, text string) error {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	encoded, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(encoded))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(doc)
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{"..", ".."}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// optional are the keys that a shipped file has behind a "#".
var optional = regexp.MustCompile(`(?m)^( *)# (\s*(?:- )?[a-z_.]+:(?:\s|$))`)

func TestShippedFilesAreValid(t *testing.T) {
	tests := []struct{ name, schema, text string }{
		{"the example", "config", read(t, "deploy", "causeway.example.yaml")},
		{"the example with all that is optional", "config", optional.ReplaceAllString(read(t, "deploy", "causeway.example.yaml"), "$1$2")},
		{"the first configuration", "config", read(t, "cmd", "causeway", "init", "causeway.yaml")},
		{"the first tenant", "tenant", read(t, "cmd", "causeway", "init", "tenant.yaml")},
		{"the template", "mapping", read(t, "internal", "mapping", "templates", "association.yaml")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := check(t, compile(t, tt.schema), tt.text); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestInvalidFiles(t *testing.T) {
	tenant := func(more string) string {
		return "tenants:\n  - name: guild\n    ghl: {location: l, token: env:T}\n    " + more + "\n"
	}
	tests := []struct{ name, schema, text string }{
		{"an unknown key", "config", tenant("colour: red")},
		{"an unknown key at the top", "config", "natz: {}"},
		{"a tenant without a name", "config", "tenants: [{ghl: {location: l}}]"},
		{"a tenant's file with a name", "tenant", "name: guild"},
		{"a number for a text", "config", tenant("region: 7")},
		{"a text for a number", "config", tenant("workers: many")},
		{"no duration", "config", tenant("mapping: {clock_skew: soon}")},
		{"a secret in plain", "tenant", "ghl: {location: l, token: pit-0123}"},
		{"an unknown template", "tenant", "template: club"},
		{"an unknown path", "tenant", "novi: {paths: {moons: /moons}}"},
		{"a path without a slash", "tenant", "novi: {paths: {members: api/members}}"},
		{"an unknown field", "mapping", "contact: {fields: {nose: {ghl: nose}}}"},
		{"an unknown field of a task", "mapping", "task: {fields: {email: {ghl: email}}}"},
		{"a custom field of a task", "mapping", "task: {fields: {custom.x: {ghl: x}}}"},
		{"an unknown key of a field", "mapping", "contact: {fields: {email: {gohighlevel: email}}}"},
		{"an unknown key of a side", "mapping", "contact: {fields: {email: {ghl: {path: email, reed: value}}}}"},
		{"an unknown converter", "mapping", "contact: {fields: {email: {ghl: email, convert: shout}}}"},
		{"an unknown authority", "mapping", "contact: {fields: {email: {ghl: email, authority: pope}}}"},
		{"an unknown write", "mapping", "contact: {fields: {email: {ghl: email, ghl_write: sometimes}}}"},
		{"an unknown delete", "mapping", "deletes: {task: {ghl: shred}}"},
		{"derived tags that are no list", "mapping", "contact: {tags: {derive: {tag: x}}}"},
		{"an unknown kind", "mapping", "letter: {fields: {}}"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := check(t, compile(t, tt.schema), tt.text); err == nil {
				t.Error("it passes")
			}
		})
	}
}

func TestValidMappings(t *testing.T) {
	for name, text := range map[string]string{
		"a field that is taken away": "contact: {fields: {company: null, custom.shirt_size: {ghl: {path: a, read: value}, novi: b}}}",
		"items":                      "task: {fields: {title: {ghl: title, convert: html, html: both}}}\nappointment: {fields: {summary: null}}",
		"the rest":                   "clock_skew: 1m30s\nsync: {note: {to_ghl: false}}\nusers: [{name: a, ghl: b}]\ntables: {x: [{name: a}]}\ncontact: {create_when: {novi: never}, tags: {derive: [{tag: a, when: always}]}}",
	} {
		t.Run(name, func(t *testing.T) {
			if err := check(t, compile(t, "mapping"), text); err != nil {
				t.Error(err)
			}
			var s mapping.Spec
			if err := yaml.UnmarshalWithOptions([]byte(text), &s, yaml.Strict()); err != nil {
				t.Errorf("the loader doesn't take it: %v", err)
			}
		})
	}
}

// TestKeysAreThoseOfTheTypes walks the types by itself: each key that the loader
// takes is in the schema, and the schema has no other.
func TestKeysAreThoseOfTheTypes(t *testing.T) {
	text, err := configschema.Make("config")
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Properties map[string]any
		Defs       map[string]struct {
			Description string
			Properties  map[string]struct{ Description string }
		} `json:"$defs"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	seen, described := 0, 0
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		switch typ.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			walk(typ.Elem())
			return
		case reflect.Struct:
		default:
			return
		}
		var want []string
		for i := range typ.NumField() {
			f := typ.Field(i)
			if key, _, _ := strings.Cut(f.Tag.Get("yaml"), ","); f.IsExported() && key != "" {
				want = append(want, key)
				walk(f.Type)
			}
		}
		var got []string
		if typ == reflect.TypeFor[config.File]() {
			for key := range doc.Properties {
				got = append(got, key)
			}
		}
		for key, p := range doc.Defs[typ.Name()].Properties {
			got = append(got, key)
			if p.Description != "" {
				described++
			}
		}
		slices.Sort(want)
		slices.Sort(got)
		if typ != reflect.TypeFor[mapping.ItemSpec]() && !slices.Equal(got, want) { // an item's is made for its kind
			t.Errorf("%s: the schema has %v, the type %v", typ.Name(), got, want)
		}
		seen += len(want)
	}
	walk(reflect.TypeFor[config.File]())
	if seen < 60 || described < 40 {
		t.Errorf("%d keys, %d of them described: that can't be all", seen, described)
	}
	if d := doc.Defs["GHL"].Properties["poll"].Description; !strings.HasPrefix(d, "poll is the interval") {
		t.Errorf("the description of poll is %q", d)
	}
}

func TestUnknownSchema(t *testing.T) {
	if _, err := configschema.Make("moon"); !errors.Is(err, configschema.ErrUnknown) {
		t.Errorf("got %v", err)
	}
}
