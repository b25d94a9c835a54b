package check_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/causeway-sync/causeway/internal/check"
)

var (
	seed       = flag.Uint64("seed", 1, "what a history follows from")
	update     = flag.Bool("update", false, "write the table of bugs into docs/reliability.md")
	operations = flag.Int("operations", 20_000, "how many messages and calls a clean history has at least")
)

// TestClean: on a history in which nothing is wrong there is nothing to say,
// also when the streams have forgotten most of it.
func TestClean(t *testing.T) {
	p := newPipeline(t)
	random := rand.New(rand.NewPCG(*seed, 1))
	for people := 10; p.operations() < *operations; people += 10 {
		p.day(random, people, 1000)
	}
	quiet := p.now
	began := time.Now()
	r := p.check(t, quiet)
	if !r.Good() || r.Open > 0 {
		t.Errorf("%d violations, the first is %v; %d open", len(r.Violations), r.Violations[0], r.Open)
	}
	t.Logf("seed %d: %d operations, %d entities, %v; read in %s", *seed, p.operations(), r.Entities, r.Ends, time.Since(began).Round(time.Millisecond))
	n := p.operations()
	p.trim()
	if r := p.check(t, quiet); !r.Good() {
		t.Errorf("with %d of %d operations kept: %d violations, the first is %v", p.operations(), n, len(r.Violations), r.Violations[0])
	}
	if p.operations() == n && *operations >= 20_000 {
		t.Error("nothing was forgotten")
	}
}

// TestDocs: docs/reliability.md says what each invariant says.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "reliability.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range check.Invariants() {
		if row := fmt.Sprintf("| `%s` | %s |", m.Invariant, m.Says); !strings.Contains(string(text), row) {
			t.Errorf("docs/reliability.md lacks %s", row)
		}
	}
}
