package asyncapi_test

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-json"
	"github.com/goccy/go-yaml"

	"github.com/causeway-sync/causeway/internal/asyncapi"
	"github.com/causeway-sync/causeway/schemas"
	"github.com/causeway-sync/causeway/streams"
)

var update = flag.Bool("update", false, "write schemas/asyncapi.yaml")

const dir = "../../schemas"

func TestDocumentIsFresh(t *testing.T) {
	want, err := asyncapi.Document()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "asyncapi.yaml")
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Error("schemas/asyncapi.yaml is stale: go test ./internal/asyncapi -update")
	}
}

// TestReferencesLead follows every $ref, inside the document and to the
// schemas.
func TestReferencesLead(t *testing.T) {
	text, err := asyncapi.Document()
	if err != nil {
		t.Fatal(err)
	}
	var doc any
	if err := yaml.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	refs := regexp.MustCompile(`\$ref: "?'?([^"'\n]+)`).FindAllStringSubmatch(string(text), -1)
	if len(refs) < 40 {
		t.Fatalf("only %d references", len(refs))
	}
	for _, r := range refs {
		file, pointer, _ := strings.Cut(r[1], "#")
		at := doc
		if file != "" {
			raw, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				t.Error(err)
				continue
			}
			at = nil
			if err := json.Unmarshal(raw, &at); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
		for _, step := range strings.Split(strings.Trim(pointer, "/"), "/") {
			if step == "" {
				continue
			}
			m, _ := at.(map[string]any)
			if at = m[step]; at == nil {
				t.Errorf("%s leads nowhere at %s", r[1], step)
				break
			}
		}
	}
}

// TestEveryTypeIsOnAChannel: nothing is published that the document lacks, and
// each address is a subject of ours.
func TestEveryTypeIsOnAChannel(t *testing.T) {
	var got []string
	for _, c := range asyncapi.Channels() {
		got = append(got, c.Types...)
		subject := regexp.MustCompile(`\{[a-z]+\}`).ReplaceAllString(c.Address, "x")
		parsed, err := streams.Parse(subject)
		if err != nil || !strings.EqualFold(parsed.Stream, c.Stream) {
			t.Errorf("%s: %s is on %q, %v", c.Name, c.Address, parsed.Stream, err)
		}
		if strings.Contains(c.Address, "hole") {
			t.Errorf("%s: %s", c.Name, c.Address)
		}
	}
	slices.Sort(got)
	want := slices.DeleteFunc(schemas.Types(), func(s string) bool { return s == "causeway.attributes.v1" }) // the headers
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
