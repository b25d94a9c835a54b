package dev_test

import (
	"os"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/causeway-sync/causeway/internal/dev"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/internal/rule"
)

// TestAutomations: what dev switches on is what the document recommends, and
// can be used.
func TestAutomations(t *testing.T) {
	doc, err := os.ReadFile("../../docs/automations.md")
	if err != nil {
		t.Fatal(err)
	}
	if text := strings.ReplaceAll("\n"+dev.Automations, "\n    ", "\n"); !strings.Contains(string(doc), text) {
		t.Errorf("docs/automations.md doesn't hold these recipes:\n%s", text)
	}
	var rules []rule.Definition
	if err := yaml.Unmarshal([]byte(dev.Automations), &rules); err != nil {
		t.Fatal(err)
	}
	set, err := rule.Compile(rules, mapping.Association("US"))
	if err != nil || len(set) < 4 {
		t.Errorf("got %d automations: %v", len(set), err)
	}
}
