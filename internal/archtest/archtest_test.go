package archtest_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/causeway-sync/causeway/"

// may says what each room may import of the project; "x/..." stands for x and
// all below it. Imports point right in the picture of docs/ARCHITECTURE.md:
// never left, never sideways, a stage never a stage. An adapter (ghl, novi)
// names the values that pass through the interface it satisfies, and so
// imports the room that owns it; never its parent, never the other adapter.
var may = map[string][]string{
	"schemas/canonical":   {},
	"schemas/observation": {"schemas/canonical"},
	"schemas/effect":      {"schemas/canonical"},
	"schemas/envelope":    {"schemas/canonical"},
	"schemas/subscribe":   {"schemas/canonical", "schemas/envelope"},
	"schemas":             {"schemas/..."},
	"streams":             {"schemas/..."},

	"internal/clock":        {},
	"internal/deploytest":   {},
	"internal/trace":        {},
	"internal/apierr":       {},
	"internal/endpoint":     {},
	"internal/budget":       {"internal/bus", "internal/clock", "schemas/..."},
	"internal/mapping":      {"schemas/..."},
	"internal/bus":          {"internal/clock", "streams", "schemas/...", "internal/trace"},
	"internal/natsembed":    {},
	"internal/ghlapi":       {"internal/apierr", "internal/budget", "internal/clock", "internal/endpoint"},
	"internal/noviapi":      {"internal/apierr", "internal/budget", "internal/clock", "internal/endpoint"},
	"internal/catalog":      {"internal/endpoint", "internal/ghlapi", "internal/noviapi"},
	"internal/config":       {"internal/mapping", "schemas/...", "internal/rule"},
	"internal/configschema": {"internal/config", "internal/mapping", "schemas/...", "internal/rule"},
	"internal/clients":      {"internal/budget", "internal/bus", "internal/clock", "internal/config", "internal/ghlapi", "internal/noviapi", "internal/tokens", "streams", "schemas/...", "internal/circuit", "internal/trace"},
	"internal/tokens":       {"internal/apierr", "internal/bus", "internal/clock", "streams", "schemas/..."},
	"internal/process":      {"internal/bus", "internal/clock", "internal/config", "streams"},
	"internal/hold":         {"internal/bus", "internal/clock", "internal/mapping", "streams", "schemas/..."},
	"internal/verify":       {"internal/apierr", "internal/budget", "internal/bus", "internal/clock", "internal/ghlapi", "internal/mapping", "internal/noviapi", "streams", "schemas/..."},
	"internal/check":        {"internal/bus", "internal/config", "internal/mapping", "streams", "schemas/..."},
	"internal/rule":         {"internal/mapping", "schemas/..."},
	"internal/rehearse":     {"internal/bus", "internal/rule", "streams", "schemas/..."},
	"internal/asyncapi":     {"streams", "schemas/..."},
	"internal/circuit":      {"internal/apierr", "internal/bus", "internal/clock", "streams", "schemas/..."},
	"internal/probe":        {"internal/apierr", "internal/budget", "internal/clock", "internal/ghlapi", "internal/mapping", "internal/noviapi", "schemas/..."},
	"internal/dead":         {"internal/bus", "internal/clock", "streams", "schemas/..."},
	"internal/replay":       {"internal/bus", "internal/clock", "streams", "schemas/..."},
	"internal/erase":        {"internal/bus", "internal/clock", "streams", "schemas/..."},
	"internal/history":      {"internal/bus", "streams", "schemas/..."},
	"internal/console":      {"internal/budget", "internal/bus", "internal/circuit", "internal/clock", "internal/config", "internal/dead", "internal/history", "internal/hold", "internal/mapping", "internal/noviapi", "internal/process", "internal/rehearse", "internal/rule", "sink/preview", "streams", "schemas/..."},

	"ingest/webhook": {"internal/bus", "internal/clock", "streams", "schemas/...", "internal/trace"},
	"ingest/install": {"internal/apierr", "internal/clock", "internal/ghlapi", "internal/tokens", "schemas/..."},
	"ingest/rawlog":  {"internal/bus", "streams", "schemas/..."},
	"ingest/hydrate": {"ingest/rawlog", "internal/apierr", "internal/bus", "internal/clock", "streams", "schemas/...", "internal/trace"},
	"ingest/poll":    {"ingest/rawlog", "internal/apierr", "internal/budget", "internal/bus", "internal/clock", "internal/mapping", "streams", "schemas/..."},
	"ingest/ghl":     {"ingest/webhook", "ingest/hydrate", "ingest/poll", "internal/apierr", "internal/budget", "internal/ghlapi", "schemas/..."},
	"ingest/novi":    {"ingest/webhook", "ingest/hydrate", "ingest/poll", "internal/apierr", "internal/budget", "internal/clock", "internal/noviapi", "schemas/..."},
	"ingest":         {"ingest/...", "internal/budget", "internal/bus", "internal/erase", "internal/clients", "internal/clock", "internal/config", "internal/ghlapi", "internal/mapping", "internal/noviapi", "internal/tokens", "streams", "schemas/...", "internal/circuit"},

	"transform/merge":    {"internal/mapping", "schemas/..."},
	"transform/identity": {"internal/bus", "internal/mapping", "streams", "schemas/..."},
	"transform/derive":   {"internal/bus", "streams", "schemas/...", "internal/clock", "internal/rule"},
	"transform/gap":      {"internal/bus", "internal/clock", "streams", "schemas/..."},
	"transform":          {"transform/...", "internal/bus", "internal/erase", "internal/config", "internal/mapping", "streams", "schemas/...", "internal/trace", "internal/clock", "internal/rule"},

	"sink/plan":    {"internal/mapping", "schemas/..."},
	"sink/apply":   {"sink/plan", "internal/apierr", "internal/budget", "internal/bus", "internal/clock", "internal/hold", "internal/mapping", "streams", "schemas/...", "internal/trace"},
	"sink/ghl":     {"sink/plan", "sink/apply", "internal/apierr", "internal/budget", "internal/clock", "internal/ghlapi", "internal/mapping", "schemas/..."},
	"sink/novi":    {"sink/plan", "sink/apply", "internal/apierr", "internal/budget", "internal/clock", "internal/noviapi", "internal/mapping", "schemas/..."},
	"sink/preview": {"sink/plan", "sink/apply", "sink/ghl", "sink/novi", "internal/apierr", "internal/bus", "internal/clock", "internal/ghlapi", "internal/mapping", "internal/noviapi", "streams", "schemas/..."},
	"sink/act":     {"internal/apierr", "internal/budget", "internal/bus", "internal/clock", "internal/rule", "streams", "schemas/..."},
	"sink":         {"sink/...", "internal/bus", "internal/rule", "internal/circuit", "internal/clients", "internal/clock", "internal/config", "internal/ghlapi", "internal/hold", "internal/mapping", "internal/noviapi", "streams", "schemas/...", "internal/dead"},

	"cmd/ingest":    {"ingest", "internal/process"},
	"cmd/transform": {"transform", "internal/process"},
	"cmd/sink":      {"sink", "internal/process"},

	"sink/sinktest":     {"sink/plan", "sink/apply", "internal/apierr", "internal/mapping", "schemas/..."},
	"ingest/ingesttest": {"ingest/webhook", "ingest/hydrate", "ingest/poll", "internal/apierr", "internal/budget", "schemas/..."},

	// For dev and tests only: nothing that a stage links.
	"internal/ghlsim":      {},
	"internal/novisim":     {},
	"internal/dev":         {"ingest", "transform", "sink", "internal/...", "streams", "schemas/..."},
	"internal/bustest":     {"internal/bus", "internal/clock", "internal/natsembed", "streams"},
	"internal/archtest":    {},
	"internal/catalogtest": {"internal/budget", "internal/clock", "internal/ghlapi", "internal/ghlsim", "internal/noviapi", "internal/novisim"},
	"internal/ghlspec":     {},
	"internal/chaos":       {},
	"internal/e2e":         {},
	"internal/doctest":     {},
	"cmd/causeway":         {"transform", "transform/gap", "sink/preview", "internal/...", "streams", "schemas/..."},
}

// pure rooms know no network, no files, no clock and no broker.
var pure = []string{"schemas/canonical", "schemas/observation", "schemas/effect", "schemas/envelope", "transform/merge", "sink/plan", "internal/mapping", "internal/rule"}

// seamed rooms are handed the time and randomness, never take them.
var seamed = []string{"ingest", "transform", "sink", "internal/bus", "internal/budget", "internal/ghlapi", "internal/noviapi", "internal/clients", "internal/mapping", "internal/rule", "internal/dead", "internal/erase", "internal/history", "internal/hold", "internal/rehearse", "internal/replay", "internal/tokens", "internal/verify", "internal/check", "schemas", "streams"}

type pkg struct {
	ImportPath, Dir, Doc, Name string
	Imports, Deps, GoFiles     []string
}

func list(t *testing.T) map[string]pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Dir,Doc,Name,Imports,Deps,GoFiles", "./...")
	cmd.Dir = filepath.Join("..", "..")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	all := map[string]pkg{}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimPrefix(p.ImportPath, module)] = p
	}
}

func matches(pattern, name string) bool {
	below, tree := strings.CutSuffix(pattern, "/...")
	return name == pattern || tree && (name == below || strings.HasPrefix(name, below+"/"))
}

func within(rooms []string, name string) bool {
	return slices.ContainsFunc(rooms, func(r string) bool { return matches(r+"/...", name) })
}

func TestImportsPointRight(t *testing.T) {
	packages := list(t)
	for name, p := range packages {
		allowed, known := may[name]
		if !known {
			t.Errorf("%s is not in the picture: say in archtest what it may import", name)
			continue
		}
		for _, imported := range p.Imports {
			room, ours := strings.CutPrefix(imported, module)
			if ours && !slices.ContainsFunc(allowed, func(a string) bool { return matches(a, room) }) {
				t.Errorf("%s imports %s, which lies to its left or at its side", name, room)
			}
			if room == name || ours && strings.HasPrefix(name, room+"/") && room != "schemas" {
				t.Errorf("%s imports its parent", name)
			}
		}
	}
	for name := range may {
		if _, there := packages[name]; !there {
			t.Errorf("the picture has a room %s, the house does not", name)
		}
	}
}

func TestWhoMayTouchWhat(t *testing.T) {
	packages := list(t)
	broker := []string{"schemas/subscribe", "streams", "internal/bus", "internal/natsembed"}
	for name, p := range packages {
		for _, imported := range p.Imports {
			switch {
			case strings.HasPrefix(imported, "github.com/nats-io/nats.go") && !slices.Contains(broker, name):
				t.Errorf("%s imports %s: only %v do", name, imported, broker)
			case within(pure, name) && (imported == "net" || imported == "os" || strings.HasPrefix(imported, "net/") || strings.HasPrefix(imported, "os/") || imported == "math/rand/v2"):
				t.Errorf("%s is pure and imports %s", name, imported)
			case matches("transform/...", name) && (imported == "net/http" || strings.HasSuffix(imported, "api")):
				t.Errorf("%s touches nothing but NATS and imports %s", name, imported)
			case imported == "testing" && !strings.HasSuffix(name, "test"):
				t.Errorf("%s imports testing outside of a test", name)
			}
		}
	}
	for _, stage := range []string{"cmd/ingest", "cmd/transform", "cmd/sink"} {
		for _, dep := range packages[stage].Deps {
			for _, never := range []string{module + "internal/ghlsim", module + "internal/novisim", module + "internal/natsembed", module + "internal/dev", "github.com/nats-io/nats-server/v2/server", "testing"} {
				if dep == never {
					t.Errorf("%s links %s", stage, dep)
				}
			}
		}
	}
	if slices.Contains(packages["cmd/transform"].Deps, module+"internal/ghlapi") || slices.Contains(packages["cmd/transform"].Deps, module+"internal/noviapi") {
		t.Error("cmd/transform links a system's client")
	}
}

func TestNamesAndComments(t *testing.T) {
	for name, p := range list(t) {
		if slices.Contains([]string{"util", "utils", "common", "helpers", "types", "pkg"}, path.Base(name)) {
			t.Errorf("%s: a function without a home tells of a missing room", name)
		}
		if p.Doc == "" {
			t.Errorf("%s has no package comment", name)
		}
	}
}

// TestSeams looks for clocks and dice that are taken instead of handed in.
func TestSeams(t *testing.T) {
	taken := map[string][]string{
		"time":         {"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"},
		"math/rand/v2": {"Int", "IntN", "Int64", "Int64N", "Float64", "Uint64", "Perm", "Shuffle", "N", "Uint32"},
	}
	for name, p := range list(t) {
		if !within(seamed, name) {
			continue
		}
		for _, file := range p.GoFiles {
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, filepath.Join(p.Dir, file), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			imports := map[string]string{}
			for _, i := range f.Imports {
				at := strings.Trim(i.Path.Value, `"`)
				local := path.Base(at)
				if at == "math/rand/v2" {
					local = "rand"
				}
				if i.Name != nil {
					local = i.Name.Name
				}
				imports[local] = at
			}
			ast.Inspect(f, func(n ast.Node) bool {
				s, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				if x, ok := s.X.(*ast.Ident); ok && slices.Contains(taken[imports[x.Name]], s.Sel.Name) {
					t.Errorf("%s: %s.%s is taken and not handed in", fset.Position(s.Pos()), x.Name, s.Sel.Name)
				}
				return true
			})
		}
	}
}
