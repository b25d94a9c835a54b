package main

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/config"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const tenantText = `ghl: {location: loc1, token: env:GHL_TOKEN}
novi: {base_url: "https://novi.example.org", key: env:NOVI_KEY}
mapping:
  contact:
    create_when: {novi: "'member' in contact.tags"}
    fields:
      company: null
      custom.chapter: {novi: {path: "custom:Chapter", read: "value.replace(' Chapter', '')", write: "value + ' Chapter'"}}
`

// tenant loads one tenant of the text.
func tenant(t *testing.T, text string) config.Tenant {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "tenants"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"causeway.yaml": "tenants_dir: tenants\n", "tenants/guild.yaml": text} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, tenants, err := configured{Config: filepath.Join(dir, "causeway.yaml"), Tenant: "guild"}.load()
	if err != nil {
		t.Fatal(err)
	}
	return tenants[0]
}

func TestMappingShow(t *testing.T) {
	tests := []struct {
		golden string
		kind   canonical.Kind
		asJSON bool
	}{
		{"show.golden", canonical.KindContact, false}, {"show-json.golden", canonical.KindContact, true},
		{"show-task.golden", canonical.KindTask, false}, {"show-note.golden", canonical.KindNote, false}, {"show-appointment.golden", canonical.KindAppointment, false},
	}
	for _, tt := range tests {
		var out strings.Builder
		if err := showMapping(&out, tenant(t, tenantText), tt.kind, tt.asJSON); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join("testdata", tt.golden)
		if *update {
			if err := os.WriteFile(file, []byte(out.String()), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), out.String()); d != "" {
			t.Error(d)
		}
	}
}

func sample(record string) observation.Observation {
	return observation.Observation{System: canonical.Novi, Tenant: "guild", Kind: canonical.KindContact, ExternalID: "m1", Via: observation.Fetch,
		Endpoint: observation.NoviMemberGet, ReadBegan: time.Unix(1, 0).UTC(), Record: []byte(record)}
}

func TestMappingCheck(t *testing.T) {
	body, err := sample(`{"CustomerType":"Person","CustomFields":{"Chapter":{"Value":"Jura"}}}`).Encode()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "samples.jsonl")
	if err := os.WriteFile(file, append(body, '\n', '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	samples, err := readSamples(file)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, write string
		values      bool
		want        string // a part of what is printed
		wantErr     bool
		asJSON      bool
	}{
		{"it holds", "value + ' Chapter'", false, "guild: 40 fields hold, on awkward values, 1 records and 0 entities", false, false},
		{"it does not", "value + ' Chap'", false, "guild: custom.chapter at novi: what is written is not what is read back: 1 characters: digits\n", true, false},
		{"with the values", "value + ' Chap'", true, `"0" gives "0 Chap"`, true, false},
		{"a task's", "value + ' Chapter'\"}}\n  task:\n    fields:\n      title: {ghl: title, novi: {path: Subject, read: \"value + '!'", false,
			"guild: task.title at novi: what is written is not what is read back: ", true, false},
		{"putting back", "value + ' Chap'", true, `custom.chapter at novi: putting back what was read changes it: 4 characters: letters: "Jura" gives "Jura Chap"`, true, false},
		{"as JSON", "value + ' Chapter'", false, `{"tenant":"guild","fields":40,"records":1,"entities":0,"broken":0}`, false, true},
		{"what does not, as JSON", "value + ' Chap'", false, `{"tenant":"guild","kind":"contact","field":"custom.chapter","system":"novi","law":"put_get","class":"1 characters: digits"}`, true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			err := checkMappings(&out, []config.Tenant{tenant(t, strings.Replace(tenantText, "value + ' Chapter'", tt.write, 1))}, samples, tt.values, tt.asJSON)
			if (err != nil) != tt.wantErr || !strings.Contains(out.String(), tt.want) {
				t.Errorf("got %v and %s", err, out.String())
			}
			if !tt.values && strings.Contains(out.String(), "Jura") {
				t.Errorf("it shows a value: %s", out.String())
			}
		})
	}
	if err := os.WriteFile(file, []byte("\n{\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readSamples(file); err == nil || !strings.HasPrefix(err.Error(), file+":2: ") {
		t.Errorf("got %v", err)
	}
}

func TestSamplesOf(t *testing.T) {
	b := bustest.Start(t)
	for _, o := range []observation.Observation{sample(`{"n":1}`), sample(`{"n":2}`), sample(`{"n":3}`)} {
		body, err := o.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Publish(t.Context(), bus.Message{Subject: streams.Raw(o), Data: body}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := samplesOf(t.Context(), b, "guild", time.Time{}, 2)
	if err != nil || len(got.Records) != 2 || len(got.Contacts) != 0 {
		t.Errorf("got %d, %d, %v", len(got.Records), len(got.Contacts), err)
	}
}

func TestInit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	var out strings.Builder
	if err := initialize(&out, dir); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "causeway.yaml")
	if _, err := config.Load(path); err == nil || !strings.Contains(err.Error(), "example.yaml:") || !strings.Contains(err.Error(), "ghl.location: is missing") {
		t.Errorf("what is not filled in: %v", err)
	}
	file := filepath.Join(dir, "tenants", "example.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	filled := strings.NewReplacer(`location: ""`, `location: loc1`, `base_url: ""`, `base_url: "https://novi.example.org"`, `novi: ""`, `novi: never`).Replace(string(text))
	if err := os.WriteFile(file, []byte(filled), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := config.Load(path)
	if err != nil || f.Tenants[0].Name != "example" {
		t.Fatalf("what is filled in: %v", err)
	}
	// Editors find the schemas where the files say they are.
	for _, f := range []string{path, file} {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		line, _, _ := strings.Cut(string(text), "\n")
		at, found := strings.CutPrefix(line, "# yaml-language-server: $schema=")
		schema, err := os.ReadFile(filepath.Join(filepath.Dir(f), at))
		if !found || err != nil || !strings.Contains(string(schema), "json-schema.org/draft/2020-12") {
			t.Errorf("%s: %q, %v", f, line, err)
		}
	}
	if err := initialize(&out, dir); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("a second time: %v", err)
	}
	if now, err := os.ReadFile(file); err != nil || string(now) != filled {
		t.Errorf("it was overwritten: %v", err)
	}
}
