package e2e_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/causeway-sync/causeway/internal/dev"
	"github.com/causeway-sync/causeway/internal/doctest"
	"github.com/causeway-sync/causeway/schemas/canonical"
)

// reads are the commands that change nothing, at the broker or elsewhere.
var reads = regexp.MustCompile(`^(--help|status|doctor|budget|catalog|conflicts|merges|probe|plan|verify|snapshot|completions|(contact (show|blame)|trace) \S+|(dead|hold|replay) list|` +
	`mapping (show|check)|rules (list|test)|schema \S+|replay check|replay raw .*--plan|erase \S+|streams (manifests|apply --dry-run))( |$)`)

// goesOn are those that don't end by themselves, act after all, or are about
// something that isn't there.
var goesOn = regexp.MustCompile(`--follow|--after|--yes|--write|--at |WEBHOOK-ID|RAW:`)

// documented runs what the documents show, as far as it only reads, in a world
// with one contact of that address.
func documented(t *testing.T, w *dev.World, id canonical.CanonicalID, address string) {
	t.Helper()
	commands, err := doctest.Commands(root(t))
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{"FILE": w.ConfigPath, "causeway.yaml": w.ConfigPath, "ID": string(id), "SLUG": dev.Tenant, "TENANT": dev.Tenant, "SEQ": "1", "ada@example.org": address}
	ran := map[string]bool{}
	for _, c := range commands {
		if line := strings.Join(c.Args, " "); c.Program != "causeway" || !reads.MatchString(line) || goesOn.MatchString(line) || ran[line] {
			continue
		} else {
			ran[line] = true
		}
		args := slices.Clone(c.Args)
		for i, a := range args {
			if v := values[a]; v != "" {
				args[i] = v
			}
		}
		env := []string{"CAUSEWAY_NATS_URL=" + "nats://" + w.NATSAddr, "CAUSEWAY_CONFIG=" + w.ConfigPath}
		if code, out, errs := program(t, env, "causeway", args...); code != 0 {
			t.Errorf("%s: causeway %s: exit code %d\n%s%s", c.Where, strings.Join(args, " "), code, out, errs)
		}
	}
	if len(ran) < 30 {
		t.Errorf("only %s were run", fmt.Sprint(len(ran)))
	}
}
