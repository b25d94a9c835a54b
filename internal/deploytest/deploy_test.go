package deploytest_test

import (
	"bufio"
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-json"
	"github.com/goccy/go-yaml"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/streams"
)

// shipped is the path of a file of deploy.
func shipped(path string) string { return filepath.Join("..", "..", "deploy", path) }

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(shipped(path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// metrics are the names that the programs give to what they export, by their
// source.
func metrics(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{"up": true} // Prometheus' own
	err := filepath.WalkDir(filepath.Join("..", ".."), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && len(call.Args) > 0 {
				fun, isSel := call.Fun.(*ast.SelectorExpr)
				if lit, isLit := call.Args[0].(*ast.BasicLit); isSel && isLit && fun.Sel.Name == "NewDesc" {
					if name, err := strconv.Unquote(lit.Value); err == nil {
						names[name] = true
					}
				}
			}
			opts, ok := n.(*ast.CompositeLit)
			if !ok {
				return true
			}
			typ, ok := opts.Type.(*ast.SelectorExpr)
			if !ok || !strings.HasSuffix(typ.Sel.Name, "Opts") {
				return true
			}
			for _, e := range opts.Elts {
				kv, ok := e.(*ast.KeyValueExpr)
				if !ok {
					continue
				}
				if key, ok := kv.Key.(*ast.Ident); !ok || key.Name != "Name" {
					continue
				}
				if lit, ok := kv.Value.(*ast.BasicLit); ok {
					if name, err := strconv.Unquote(lit.Value); err == nil {
						names[name] = true
						if typ.Sel.Name == "HistogramOpts" {
							names[name+"_bucket"], names[name+"_count"], names[name+"_sum"] = true, true, true
						}
					}
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

var named = regexp.MustCompile(`\bcauseway_[a-z0-9_]+`)

// TestMetricsAreExported: what a dashboard or an alert asks for is there.
func TestMetricsAreExported(t *testing.T) {
	exported := metrics(t)
	for _, path := range []string{"prometheus/alerts.yml", "prometheus/alerts.test.yml", "grafana/dashboards/causeway.json"} {
		found := named.FindAllString(read(t, path), -1)
		if len(found) == 0 {
			t.Errorf("%s names no metric", path)
		}
		for _, name := range found {
			if !exported[name] {
				t.Errorf("%s asks for %s, which nothing exports", path, name)
			}
		}
	}
}

// alert is one of alerts.yml.
type alert struct {
	Alert, Expr string
	Annotations map[string]string
}

func alerts(t *testing.T) []alert {
	t.Helper()
	var rules struct {
		Groups []struct{ Rules []alert }
	}
	if err := yaml.Unmarshal([]byte(read(t, "prometheus/alerts.yml")), &rules); err != nil {
		t.Fatal(err)
	}
	var out []alert
	for _, g := range rules.Groups {
		out = append(out, g.Rules...)
	}
	if len(out) == 0 {
		t.Fatal("there are no alerts")
	}
	return out
}

// TestAlertsAreTested: each alert has a page, a test in which it fires and one
// in which it doesn't.
func TestAlertsAreTested(t *testing.T) {
	var suite struct {
		Tests []struct {
			Checks []struct {
				Name     string `yaml:"alertname"`
				Expected []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, "prometheus/alerts.test.yml")), &suite); err != nil {
		t.Fatal(err)
	}
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, test := range suite.Tests {
		for _, c := range test.Checks {
			if len(c.Expected) > 0 {
				fires[c.Name] = true
			} else {
				silent[c.Name] = true
			}
		}
	}
	pages := read(t, "../docs/alerts.md")
	for _, a := range alerts(t) {
		if !fires[a.Alert] || !silent[a.Alert] {
			t.Errorf("%s: tested to fire %t, to be silent %t", a.Alert, fires[a.Alert], silent[a.Alert])
		}
		if !strings.Contains(pages, "\n## "+a.Alert+"\n") {
			t.Errorf("%s has no page in docs/alerts.md", a.Alert)
		}
		if want := "docs/alerts.md#" + strings.ToLower(a.Alert); a.Annotations["runbook"] != want {
			t.Errorf("%s: its runbook is %q, want %q", a.Alert, a.Annotations["runbook"], want)
		}
	}
}

// TestPromtool has Prometheus' own tool test the alerts.
func TestPromtool(t *testing.T) {
	tool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed (Debian: apt-get install prometheus)")
	}
	for _, args := range [][]string{{"check", "rules", shipped("prometheus/alerts.yml")}, {"test", "rules", shipped("prometheus/alerts.test.yml")}, {"check", "config", shipped("prometheus/prometheus.yml")}} {
		if out, err := exec.Command(tool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// TestDashboard: panels don't overlap and have queries.
func TestDashboard(t *testing.T) {
	var board struct {
		Panels []struct {
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(read(t, "grafana/dashboards/causeway.json")), &board); err != nil {
		t.Fatal(err)
	}
	taken := map[[2]int]string{}
	for _, p := range board.Panels {
		if len(p.Targets) == 0 {
			t.Errorf("panel %s asks for nothing", p.Title)
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("panel %s lies over %q or beyond the edge", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
}

// TestUnits has systemd check the units, with programs that are there.
func TestUnits(t *testing.T) {
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed (Debian: apt-get install systemd)")
	}
	units, err := filepath.Glob(shipped("systemd/*.service"))
	if err != nil || len(units) != 4 {
		t.Fatalf("units %v, %v; want four", units, err)
	}
	dir := t.TempDir()
	var copies []string
	start := regexp.MustCompile(`(?m)^ExecStart=(/usr/local/bin/\S+)`)
	for _, unit := range units {
		text := read(t, filepath.Join("systemd", filepath.Base(unit)))
		program := filepath.Base(start.FindStringSubmatch(text)[1])
		path := filepath.Join(dir, program)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		text = start.ReplaceAllString(text, "ExecStart="+path)
		text = regexp.MustCompile(`(?m)^User=.*$`).ReplaceAllString(text, "User=root") // whose users are made by who installs them
		name := filepath.Join(dir, filepath.Base(unit))
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		copies = append(copies, name)
	}
	out, err := exec.Command(tool, append([]string{"verify", "--man=no", "--recursive-errors=no"}, copies...)...).CombinedOutput()
	// Of units of the machine it speaks as well.
	var ours bytes.Buffer
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		if strings.Contains(lines.Text(), "causeway-") {
			fmt.Fprintln(&ours, lines.Text())
		}
	}
	if err != nil || ours.Len() > 0 {
		t.Errorf("%v\n%s", err, ours.String())
	}
}

// TestClusterConfiguration starts the three servers of nats-cluster.conf, and
// puts the streams on all of them.
func TestClusterConfiguration(t *testing.T) {
	names := []string{"nats-1", "nats-2", "nats-3"}
	ports := make([]int, len(names))
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		ports[i] = l.Addr().(*net.TCPAddr).Port
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	var routes []string
	for _, p := range ports {
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", p))
	}
	var url string
	for i, name := range names {
		t.Setenv("CAUSEWAY_NATS_NAME", name)
		o, err := server.ProcessConfigFile(shipped("nats-cluster.conf"))
		if err != nil {
			t.Fatal(err)
		}
		if o.ServerName != name || len(o.Routes) != len(names) || !o.SyncAlways || o.MaxPayload != 2<<20 {
			t.Errorf("server %s: %d routes, sync always %t, max payload %d", o.ServerName, len(o.Routes), o.SyncAlways, o.MaxPayload)
		}
		// The same three on this machine.
		o.Host, o.Port, o.HTTPPort, o.StoreDir, o.NoLog, o.NoSigs = "127.0.0.1", -1, 0, t.TempDir(), true, true
		o.Cluster.Host, o.Cluster.Port, o.Routes = "127.0.0.1", ports[i], server.RoutesFromStr(strings.Join(routes, ","))
		s, err := server.NewServer(o)
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		if !s.ReadyForConnections(30 * time.Second) {
			t.Fatalf("%s is not ready", name)
		}
		url = s.ClientURL()
	}
	deadline := time.Now().Add(2 * time.Minute)
	for {
		err := func() error {
			c, err := bus.Connect(t.Context(), bus.Options{URL: url, Name: "test"})
			if err != nil {
				return err
			}
			defer c.Close()
			if _, err := streams.Apply(t.Context(), c.JetStream(), false); err != nil {
				return err
			}
			_, err = streams.Replicate(t.Context(), c.JetStream(), len(names), false)
			return err
		}()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the streams are not on three servers: %v", err)
		}
		<-time.After(200 * time.Millisecond) // no leader yet
	}
}
