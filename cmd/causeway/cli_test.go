package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/willabides/kongplete"

	"github.com/causeway-sync/causeway/internal/doctest"
	"github.com/causeway-sync/causeway/internal/process"
)

// leaves are the verbs that do something, by how they are written.
func leaves(t *testing.T) map[string]*kong.Node {
	t.Helper()
	out := map[string]*kong.Node{}
	var walk func(*kong.Node)
	walk = func(n *kong.Node) {
		if n.Hidden {
			return
		}
		if n.Leaf() {
			out[strings.TrimPrefix(n.Path(), "causeway ")] = n
		}
		for _, c := range n.Children {
			walk(c)
		}
	}
	walk(newParser(t.Context()).Model.Node)
	return out
}

// tells are verbs whose answer programs read, too.
var tells = regexp.MustCompile(`^(status|conflicts|merges|reconcile|catalog|probe|budget|plan|doctor|verify|streams apply|events tail|rules test|mapping (check|show)|hold show|.* list)( |$)`)

// TestOneVocabulary: what is called the same is the same everywhere.
func TestOneVocabulary(t *testing.T) {
	flag := []reflect.Type{reflect.TypeFor[bool]()}
	words := map[string][]reflect.Type{"since": {reflect.TypeFor[time.Duration](), reflect.TypeFor[at]()}, "json": flag, "show-values": flag, "dry-run": flag}
	all := leaves(t)
	if len(all) < 30 {
		t.Fatalf("only %d verbs were found", len(all))
	}
	for name, n := range all {
		has := map[string]bool{}
		for _, f := range n.Flags {
			has[f.Name] = true
			if want := words[f.Name]; want != nil && !slices.Contains(want, f.Target.Type()) {
				t.Errorf("%s: --%s is a %s, and elsewhere %v", name, f.Name, f.Target.Type(), want)
			}
			if f.Help == "" && f.Name != "uninstall" {
				t.Errorf("%s: --%s has no help", name, f.Name)
			}
		}
		if n.Help == "" {
			t.Errorf("%s has no help", name)
		}
		if !has["json"] && tells.MatchString(name) {
			t.Errorf("%s has no --json", name)
		}
	}
}

// TestCommandsOfTheDocuments: every command that a document shows is there, with
// its flags, and every target of make with its variables. (The e2e tests run
// those that only read.)
func TestCommandsOfTheDocuments(t *testing.T) {
	root := filepath.Join("..", "..")
	commands, err := doctest.Commands(root)
	if err != nil {
		t.Fatal(err)
	}
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	example := filepath.Join(root, "deploy", "causeway.example.yaml")
	values := map[string]string{"FILE": example, "causeway.yaml": example, "SEQ": "1"} // for what stands in their place
	seen := map[string]int{}
	for _, c := range commands {
		seen[c.Program]++
		args := slices.Clone(c.Args)
		for i := range args {
			args[i] = cmp.Or(values[args[i]], args[i])
		}
		switch c.Program {
		case "causeway":
			parser := newParser(t.Context())
			if c.Whole {
				_, err = parser.Parse(args)
			} else if words, traceErr := kong.Trace(parser, args); traceErr != nil {
				err = traceErr
			} else {
				err = words.Error
			}
		case "make":
			err = made(string(makefile), args)
		default:
			_, err = kong.Must(&process.Flags{}, kong.Name(c.Program), kong.Exit(func(int) {})).Parse(args)
		}
		if err != nil {
			t.Errorf("%s: %s: %v", c.Where, c, err)
		}
	}
	if seen["causeway"] < 80 || seen["make"] < 10 || seen["ingest"] == 0 {
		t.Errorf("only these were found: %v", seen)
	}
}

// made says what a Makefile lacks of what make is told.
func made(makefile string, args []string) error {
	for _, arg := range args {
		name, _, variable := strings.Cut(arg, "=")
		if variable && !strings.Contains(makefile, "$("+name+")") {
			return fmt.Errorf("it has no variable %s", name)
		}
		if !variable && !strings.Contains(makefile, "\n"+arg+": ") {
			return fmt.Errorf("it has no target %s", arg)
		}
	}
	return nil
}

func TestCompletions(t *testing.T) {
	c, err := kongplete.Command(newParser(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := c.Sub["doctor"]; !ok {
		t.Error("doctor is not completed")
	}
	if _, ok := c.Sub["events"].Sub["tail"].GlobalFlags["--show-values"]; !ok {
		t.Error("the flags of events tail are not completed")
	}
}

func TestDaysOnTheCommandLine(t *testing.T) {
	for arg, fine := range map[string]bool{"7d": true, "1d12h": true, "90m": true, "soon": false, "-1h": false} {
		if _, err := newParser(t.Context()).Parse([]string{"conflicts", "--since=" + arg}); (err == nil) != fine {
			t.Errorf("--since=%s: %v", arg, err)
		}
	}
}

func TestMeter(t *testing.T) {
	var pipe, terminal strings.Builder
	for _, m := range []*meter{{out: &pipe}, {out: &terminal, terminal: true}} {
		m.say("contact: 5 read", 5, 10)
		m.say("contact: 5 read", 5, 10)
		m.say("done", 0, 0)
		m.end()
	}
	if got, want := pipe.String(), "contact: 5 read\ndone\n"; got != want {
		t.Errorf("piped: %q", got)
	}
	if got, want := terminal.String(), "\r\x1b[K[############............]  50 %  contact: 5 read\r\x1b[Kdone\n"; got != want {
		t.Errorf("on a terminal: %q", got)
	}
}
