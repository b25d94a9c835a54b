package mapping_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-sync/causeway/internal/mapping"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestAssociation renders the template field by field. The golden file was
// first written from the table in Go that the template replaced.
func TestAssociation(t *testing.T) {
	l := mapping.Association("US", mapping.Custom{Name: "shirt_size", GHL: "contact.shirt_size", Novi: "Shirt size"})
	var out strings.Builder
	for _, b := range l.Bindings {
		fmt.Fprintf(&out, "%s convert=%s authority=%s ghl=%q write=%q novi=%q write=%q\n", b.Field, b.Convert, l.Authority(b.Field), b.GHL.Path, b.GHL.Write, b.Novi.Path, b.Novi.Write)
	}
	fmt.Fprintf(&out, "tags %+v\nregion=%q ghl_ref=%q novi_ref=%q\n", l.Tags, l.Region, l.GHLRef, l.NoviRef)
	const file = "testdata/association.golden"
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
