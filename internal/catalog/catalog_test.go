package catalog_test

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/catalog"
	"github.com/causeway-sync/causeway/internal/endpoint"
	"github.com/causeway-sync/causeway/internal/ghlapi"
	"github.com/causeway-sync/causeway/internal/noviapi"
)

var update = flag.Bool("update", false, "write docs/catalogue.md")

func TestEntries(t *testing.T) {
	seen := map[string]bool{}
	for _, e := range catalog.All() {
		if seen[e.ID] || !strings.HasPrefix(e.ID, e.System+".") {
			t.Errorf("%s: the id is taken, or not of the system", e.ID)
		}
		seen[e.ID] = true
		if e.Title == "" || !strings.HasPrefix(e.Source, "§") || e.Effect == "" {
			t.Errorf("%s: title %q, source %q, effect %q", e.ID, e.Title, e.Source, e.Effect)
		}
		if e.Kind == catalog.Trigger && e.Effect != endpoint.Read {
			t.Errorf("%s: a trigger that writes", e.ID)
		}
		if (e.How == catalog.Webhook) != (e.Event != "") || (e.Event == "") != (e.Func != "") || (e.Calls == 0) != (e.Event != "") {
			t.Errorf("%s: how %s, event %q, func %q, calls %d", e.ID, e.How, e.Event, e.Func, e.Calls)
		}
		if e.Mapped && e.Canonical == "" && e.Kind == catalog.Trigger {
			t.Errorf("%s: mapped to nothing", e.ID)
		}
	}
	if len(seen) < 126 {
		t.Errorf("%d entries are fewer than the 126 that were asked for", len(seen))
	}
}

// methods are the client's methods that make calls.
func methods(client any) []string {
	var names []string
	typ := reflect.TypeOf(client)
	for i := range typ.NumMethod() {
		m := typ.Method(i)
		if m.Type.NumIn() > 2 && m.Type.In(2) == reflect.TypeFor[budget.Lane]() {
			names = append(names, m.Name)
		}
	}
	slices.Sort(names)
	return names
}

// appMethods are the methods of an App that make a call.
func appMethods() (names []string) {
	typ := reflect.TypeFor[*ghlapi.App]()
	for i := range typ.NumMethod() {
		if m := typ.Method(i); m.Type.NumIn() > 1 && m.Type.In(1) == reflect.TypeFor[context.Context]() {
			names = append(names, m.Name)
		}
	}
	return names
}

// TestEveryMethodIsListed: nothing can be called that the table and the
// catalogue don't have, and neither has what can't be called.
func TestEveryMethodIsListed(t *testing.T) {
	for system, c := range map[string]struct {
		client any
		more   []string // what can be done beside it
		table  []endpoint.Endpoint
	}{catalog.GHL: {&ghlapi.Client{}, appMethods(), slices.Concat(ghlapi.Endpoints(), ghlapi.AppEndpoints())},
		catalog.Novi: {&noviapi.Client{}, nil, noviapi.Endpoints()}} {
		var table, actions []string
		for _, e := range c.table {
			table = append(table, e.Func)
		}
		for _, e := range catalog.Find(system, catalog.Action) {
			actions = append(actions, e.Func)
		}
		slices.Sort(table)
		slices.Sort(actions)
		want := append(methods(c.client), c.more...)
		slices.Sort(want)
		if len(want) < 40 {
			t.Fatalf("%s: %d methods", system, len(want))
		}
		if !slices.Equal(table, want) {
			t.Errorf("%s: the table of endpoints has %v, the client has %v", system, without(table, want), without(want, table))
		}
		if got := slices.Compact(actions); !slices.Equal(got, want) {
			t.Errorf("%s: the catalogue has %v, the client has %v", system, without(got, want), without(want, got))
		}
	}
}

func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}

// TestMappedIsUsed: what the catalogue says Causeway uses, its stages call.
func TestMappedIsUsed(t *testing.T) {
	var code strings.Builder
	for _, dir := range []string{"ingest", "sink", "internal/clients"} {
		err := filepath.WalkDir(filepath.Join("..", "..", dir), func(path string, _ os.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			raw, err := os.ReadFile(path)
			code.Write(raw)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range catalog.All() {
		if e.Mapped && e.Func != "" && !regexp.MustCompile(`\.`+e.Func+`\b`).MatchString(code.String()) {
			t.Errorf("%s: no stage calls %s", e.ID, e.Func)
		}
	}
}

func TestDocument(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "catalogue.md")
	want := catalog.Markdown()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("docs/catalogue.md is stale: go test ./internal/catalog -update")
	}
}
