package catalog_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/causeway-sync/causeway/internal/catalog"
	"github.com/causeway-sync/causeway/internal/catalogtest"
	"github.com/causeway-sync/causeway/internal/endpoint"
)

// TestEveryEntryCanBeCalled does each entry of the catalogue at the simulators
// through the clients, and looks whether the request was the one that the
// catalogue names.
func TestEveryEntryCanBeCalled(t *testing.T) {
	var callable []string
	for _, e := range catalog.All() {
		if e.Event != "" {
			continue
		}
		callable = append(callable, e.ID)
		t.Run(e.ID, func(t *testing.T) {
			if !slices.Contains(catalogtest.IDs(), e.ID) {
				t.Fatal("no test calls it")
			}
			made := catalogtest.Run(t, e.ID, nil)
			path := e.Path
			if path == "" {
				path = catalogtest.GroupMember
			}
			of := endpoint.Endpoint{Method: e.Method, Path: path}
			if !slices.ContainsFunc(made, func(c string) bool {
				method, path, _ := strings.Cut(c, " ")
				return of.Fits(method, path)
			}) {
				t.Errorf("of %q none is %s %s", made, e.Method, path)
			}
		})
	}
	slices.Sort(callable)
	if got := catalogtest.IDs(); !slices.Equal(got, callable) {
		t.Errorf("called and not in the catalogue: %v", without(got, callable))
	}
}
