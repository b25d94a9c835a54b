package doctest_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/causeway-sync/causeway/internal/doctest"
)

func TestCommands(t *testing.T) {
	dir := t.TempDir()
	text := strings.ReplaceAll("# `causeway status`\n\nSay 'causeway schema config|tenant > file' or 'make it N=1'; 'causeway' alone is nothing, and 'nats sub x' not ours.\n\n"+
		"```sh\ngo run ./cmd/causeway dev --exit\nbin/ingest --check\nls\n```\n\n```text\nbin/sink --check\n```\n", "'", "`")
	if err := os.WriteFile(filepath.Join(dir, "a.md"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := doctest.Commands(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"a.md:1 causeway status false", "a.md:3 causeway schema config false", "a.md:3 make it N=1 false", "a.md:6 causeway dev --exit true", "a.md:7 ingest --check true"}
	if len(got) != len(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	for i, c := range got {
		whole := " false"
		if c.Whole {
			whole = " true"
		}
		if s := c.Where + " " + c.String() + whole; s != want[i] {
			t.Errorf("got %q, want %q", s, want[i])
		}
	}
}
