package e2e_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestEveryPromiseHasATest: every guarantee in the README is in the table of
// docs/reliability.md, and every test that the document names is there.
func TestEveryPromiseHasATest(t *testing.T) {
	read := func(path ...string) string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(append([]string{root(t)}, path...)...))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	doc, readme := read("docs", "reliability.md"), read("README.md")
	_, table, _ := strings.Cut(doc, "## Which test shows it")
	table, _, _ = strings.Cut(table, "\n## ")
	_, guarantees, _ := strings.Cut(readme, "## What is guaranteed")
	guarantees, _, _ = strings.Cut(guarantees, "\n## ")
	promised := regexp.MustCompile(`(?m)^- \*\*(.+?)\*\*`).FindAllStringSubmatch(guarantees, -1)
	for _, p := range promised {
		if !regexp.MustCompile(`(?m)^\| ` + regexp.QuoteMeta(p[1]) + ` \| .*Test`).MatchString(table) {
			t.Errorf("%q has no test in the table", p[1])
		}
	}
	if len(promised) < 6 {
		t.Errorf("only %d guarantees were found", len(promised))
	}
	named := regexp.MustCompile("`([a-z][a-z0-9/]*)` `((?:Test|Fuzz)[A-Za-z0-9]+)`").FindAllStringSubmatch(doc, -1)
	for _, n := range named {
		files, err := filepath.Glob(filepath.Join(root(t), filepath.FromSlash(n[1]), "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			found = found || strings.Contains(string(text), "\nfunc "+n[2]+"(")
		}
		if !found {
			t.Errorf("%s has no %s", n[1], n[2])
		}
	}
	if len(named) < 40 {
		t.Errorf("only %d tests are named", len(named))
	}
}
