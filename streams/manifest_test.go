package streams_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-sync/causeway/streams"
)

func TestManifestsAreTheTopologys(t *testing.T) {
	path := filepath.Join("..", "deploy", "nack", "streams.yaml")
	got, err := streams.Manifests(3)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s is stale; `causeway streams manifests > %s` writes it:\n%s", path, path, d)
	}
}
