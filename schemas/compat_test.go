package schemas_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	gojson "github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/schemas"
)

var freeze = flag.Bool("freeze", false, "freeze samples and schemas that testdata/released does not have yet")

const (
	samples  = "testdata/released/samples" // <type>.json: a body as it was once published
	released = "testdata/released/schemas" // the schemas of the last release
)

// TestFreeze adds what is missing to testdata/released; it never changes what
// is there.
func TestFreeze(t *testing.T) {
	if !*freeze {
		t.Skip("only with -freeze, at a release")
	}
	keep := func(path string, data []byte) {
		if _, err := os.Stat(path); err == nil {
			return
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, v := range full() {
		data, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		keep(filepath.Join(samples, name+".json"), append(data, '\n'))
	}
	for _, name := range schemas.Types() {
		path, _ := schemas.Path(name)
		text, err := schemas.Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		keep(filepath.Join(released, path), text)
	}
}

func TestReleasedSamplesStillDecode(t *testing.T) {
	entries, err := filepath.Glob(samples + "/*.json")
	if err != nil || len(entries) < len(full()) {
		t.Fatalf("%d released samples, want one for each of %d types at least (%v)", len(entries), len(full()), err)
	}
	for _, file := range entries {
		// What a type has gained since has a sample of its own after a plus sign.
		name, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(file), ".json"), "+")
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := schemas.Validate(name, data); err != nil {
				t.Error(err)
			}
			path, err := schemas.Path(name)
			if err != nil {
				t.Fatal(err)
			}
			v := reflect.New(structs[path])
			if err := gojson.Unmarshal(data, v.Interface()); err != nil {
				t.Fatal(err)
			}
			again, err := gojson.Marshal(v.Interface())
			if err != nil {
				t.Fatal(err)
			}
			var before, after any
			if err := json.Unmarshal(data, &before); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(again, &after); err != nil {
				t.Fatal(err)
			}
			if path := missing("", before, after); path != "" {
				t.Errorf("%s is lost in decoding", path)
			}
		})
	}
}

// missing returns the path of a value of a that is not in b.
func missing(path string, a, b any) string {
	switch a := a.(type) {
	case map[string]any:
		m, ok := b.(map[string]any)
		if !ok {
			return path
		}
		for k, v := range a {
			if p := missing(path+"."+k, v, m[k]); p != "" {
				return p
			}
		}
		return ""
	default:
		if !reflect.DeepEqual(a, b) {
			return path
		}
		return ""
	}
}

func TestSchemasKeepTheirPromise(t *testing.T) {
	for _, name := range schemas.Types() {
		path, _ := schemas.Path(name)
		old, err := os.ReadFile(filepath.Join(released, path))
		if err != nil {
			t.Errorf("%s was never frozen: %v", path, err)
			continue
		}
		text, err := schemas.Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range breaks(path, parse(t, old), parse(t, text)) {
			t.Errorf("%s: needs the next version", b)
		}
	}
}

// breaks names what a reader or a stored message of the old schema would trip
// over in the new one.
func breaks(at string, old, now *schema) []string {
	if now == nil {
		return []string{at + ": removed"}
	}
	if old == nil {
		return nil
	}
	var found []string
	if old.Type != now.Type || old.Format != now.Format || old.Ref != now.Ref {
		found = append(found, at+": retyped")
	}
	for _, r := range now.Required {
		if !slices.Contains(old.Required, r) {
			found = append(found, at+"."+r+": newly required")
		}
	}
	for _, r := range old.Required {
		if !slices.Contains(now.Required, r) {
			found = append(found, at+"."+r+": no longer required")
		}
	}
	for k, p := range old.Properties {
		found = append(found, breaks(at+"."+k, p, now.Properties[k])...)
	}
	for k, p := range old.Defs {
		found = append(found, breaks(at+"#"+k, p, now.Defs[k])...)
	}
	if old.Items != nil {
		found = append(found, breaks(at+"[]", old.Items, now.Items)...)
	}
	return found
}

func TestBreaksAreSeen(t *testing.T) {
	old := func() *schema {
		return &schema{Type: "object", Required: []string{"a"}, Properties: map[string]*schema{"a": {Type: "string"}, "b": {Type: "array", Items: &schema{Type: "string"}}}}
	}
	tests := []struct {
		name   string
		change func(*schema)
		want   int
	}{
		{"nothing", func(*schema) {}, 0},
		{"an optional field more", func(s *schema) { s.Properties["c"] = &schema{Type: "string"} }, 0},
		{"removed", func(s *schema) { delete(s.Properties, "b") }, 1},
		{"retyped", func(s *schema) { s.Properties["a"].Type = "integer" }, 1},
		{"retyped inside", func(s *schema) { s.Properties["b"].Items.Type = "integer" }, 1},
		{"newly required", func(s *schema) { s.Required = append(s.Required, "b") }, 1},
		{"no longer required", func(s *schema) { s.Required = nil }, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			now := old()
			tt.change(now)
			if got := breaks("", old(), now); len(got) != tt.want {
				t.Errorf("got %v, want %d", got, tt.want)
			}
		})
	}
}
