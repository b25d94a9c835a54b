package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/causeway-sync/causeway/internal/config"
)

func TestREADMESnippetsCompile(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	snippets := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllSubmatch(text, -1)
	if len(snippets) == 0 {
		t.Fatal("the README shows no Go")
	}
	for _, s := range snippets {
		file := filepath.Join(t.TempDir(), "main.go")
		if err := os.WriteFile(file, s[1], 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "go", "vet", file)
		cmd.Dir = root(t)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v:\n%s", err, out)
		}
	}
}

// TestREADMELinks follows the links to files of ours.
func TestREADMELinks(t *testing.T) {
	for _, doc := range []string{"README.md", "docs/ARCHITECTURE.md", "schemas/README.md", "CHANGELOG.md"} {
		text, err := os.ReadFile(filepath.Join(root(t), doc))
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range regexp.MustCompile(`\]\(([^)#]+)(#[^)]*)?\)`).FindAllSubmatch(text, -1) {
			to := string(link[1])
			if strings.HasPrefix(to, "http") {
				continue
			}
			if _, err := os.Stat(filepath.Join(root(t), filepath.Dir(doc), to)); err != nil {
				t.Errorf("%s links to %s, which is not there", doc, to)
			}
		}
	}
}

func TestShippedConfigurationsAreValid(t *testing.T) {
	if _, err := config.Load(filepath.Join(root(t), "deploy", "causeway.example.yaml")); err != nil {
		t.Error(err)
	}
	options, err := server.ProcessConfigFile(filepath.Join(root(t), "deploy", "nats.conf"))
	if err != nil {
		t.Fatal(err)
	}
	if !options.JetStream || !options.SyncAlways {
		t.Errorf("the shipped server has JetStream %t, sync always %t", options.JetStream, options.SyncAlways)
	}
}

// TestExampleShowsEveryKey uncomments the example, so that what it explains
// exists.
func TestExampleShowsEveryKey(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root(t), "deploy", "causeway.example.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	key := regexp.MustCompile(`^(\s*)# (\s*(?:- )?[{a-z_]+:? ?.*)$`)
	began := false
	for i, line := range lines {
		began = began || line == "nats:"
		if m := key.FindStringSubmatch(line); began && m != nil && (strings.Contains(m[2], ":")) && !strings.HasPrefix(m[2], "What") {
			lines[i] = m[1] + m[2]
		}
	}
	file := filepath.Join(t.TempDir(), "causeway.yaml")
	if err := os.Mkdir(filepath.Join(filepath.Dir(file), "tenants"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(file); err != nil {
		t.Errorf("%v:\n%s", err, strings.Join(lines, "\n"))
	}
}
