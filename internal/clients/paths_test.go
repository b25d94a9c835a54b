package clients_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-sync/causeway/internal/config"
	"github.com/causeway-sync/causeway/internal/noviapi"
)

// What a tenant may say of paths is what the client asks for.
func TestPathNames(t *testing.T) {
	var want []string
	for _, e := range noviapi.Endpoints() {
		want = append(want, e.Key)
	}
	slices.Sort(want)
	got := slices.Clone(config.PathNames)
	slices.Sort(got)
	if diff := cmp.Diff(slices.Compact(want), got); diff != "" {
		t.Errorf("config.PathNames (-endpoints +names):\n%s", diff)
	}
}
