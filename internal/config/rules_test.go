package config_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/causeway-sync/causeway/internal/config"
)

// TestCookbook: every rule of the documentation loads.
func TestCookbook(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "automations.md"))
	if err != nil {
		t.Fatal(err)
	}
	snippets := regexp.MustCompile("(?s)```yaml\n(rules:.*?)```").FindAllStringSubmatch(string(text), -1)
	rules := 0
	for _, s := range snippets {
		indented := "    " + strings.ReplaceAll(strings.TrimSpace(s[1]), "\n", "\n    ") + "\n"
		f, err := config.Load(write(t, good+indented))
		if err != nil {
			t.Errorf("%v\n%s", err, s[1])
			continue
		}
		rules += len(f.Tenants[0].Automations())
	}
	if rules < 8 {
		t.Errorf("only %d rules were found", rules)
	}
}

func TestRuleErrors(t *testing.T) {
	rules := func(s string) string { return good + "    rules:\n      - name: a\n" + s }
	tests := []struct{ name, text, want string }{
		{"a condition", rules("        when: \"after.shoe\"\n        do: [{add_tag: x}]\n"), ":12: tenants[0] (alpine-guild).rules[0].when: at 6: undefined field 'shoe'"},
		{"an action", rules("        when: \"true\"\n        do:\n          - add_tag: x\n          - note: {title: y}\n"), ":15: tenants[0] (alpine-guild).rules[0].do[1].note.body: is missing"},
		{"an unknown key", rules("        wen: \"true\"\n"), "wen"},
		{"a secret in plain", rules("        when: \"true\"\n        do: [{webhook: {url: 'https://h.example.org', secret: whsec_0123456789}}]\n"), "rules[0].do[0].webhook.secret"},
		{"no URL", rules("        when: \"true\"\n        do: [{webhook: {url: 'h.example.org', secret: env:X}}]\n"), "rules[0].do[0].webhook.url"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := config.Load(write(t, tt.text))
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "0123456789") {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	if _, err := config.Load(write(t, strings.Replace(good, "    ghl:\n      location: loc1\n      token: env:GHL_TOKEN\n", "", 1)+
		"    rules: [{name: a, when: 'true', do: [{workflow: w}]}]\n")); err == nil || !strings.Contains(err.Error(), "the tenant has no ghl") {
		t.Errorf("a workflow without ghl: %v", err)
	}
}
