package main

import (
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

// TestCommandsOfTheDocument: every command in docs/cli.md is there, with its
// flags.
func TestCommandsOfTheDocument(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "cli.md"))
	if err != nil {
		t.Fatal(err)
	}
	all := leaves(t)
	commands := regexp.MustCompile("`causeway ([a-z][^`]*)`").FindAllStringSubmatch(string(text), -1)
	for _, c := range commands {
		words := strings.Fields(c[1])
		var node *kong.Node
		name := ""
		for i := range words {
			if n := all[strings.Join(words[:i+1], " ")]; n != nil {
				node, name = n, strings.Join(words[:i+1], " ")
			}
		}
		if node == nil {
			for verb, n := range all { // one that takes an argument
				if strings.HasPrefix(verb, words[0]+" ") {
					node, name = n, verb
				}
			}
		}
		if node == nil {
			t.Errorf("there is no `causeway %s`", c[1])
			continue
		}
		for _, w := range words {
			flag, is := strings.CutPrefix(w, "--")
			if is && !hasFlag(node, flag) {
				t.Errorf("%s has no --%s", name, flag)
			}
		}
	}
	if len(commands) < 10 {
		t.Errorf("only %d commands were found", len(commands))
	}
}

func hasFlag(n *kong.Node, name string) bool {
	for _, f := range n.Flags {
		if f.Name == name {
			return true
		}
	}
	return false
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
