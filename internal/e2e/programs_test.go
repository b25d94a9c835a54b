package e2e_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/natsembed"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/streams"
)

// program runs a built program to its end and returns its exit code, output
// and errors.
func program(t *testing.T, env []string, name string, args ...string) (code int, out, errs string) {
	t.Helper()
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, name), args...)
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "CAUSEWAY_") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(cmd.Env, env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

func TestBadConfigurationIsOneLine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "causeway.yaml")
	if err := os.WriteFile(file, []byte("tenants:\n  - name: a\n    ghl: {locaton: x}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	example := filepath.Join(root(t), "deploy", "causeway.example.yaml")
	tests := []struct {
		name string
		env  []string
		args []string
		code int
		want []string
	}{
		{"an unknown key", nil, []string{"--config", file}, 2, []string{file + ":3", "locaton"}},
		{"no file", nil, []string{"--config", "/nowhere.yaml"}, 2, []string{"/nowhere.yaml", "no such file"}},
		{"an unknown variable", []string{"CAUSEWAY_NTAS_URL=x"}, []string{"--config", example}, 2, []string{"CAUSEWAY_NTAS_URL"}},
		{"an unknown flag", nil, []string{"--confg", file}, 2, []string{"--confg"}},
		{"fine", []string{"CAUSEWAY_CONFIG=" + example}, []string{"--check"}, 0, nil},
	}
	for _, stage := range []string{"ingest", "transform", "sink"} {
		for _, tt := range tests {
			t.Run(stage+" "+tt.name, func(t *testing.T) {
				code, _, errs := program(t, tt.env, stage, tt.args...)
				if code != tt.code {
					t.Errorf("exit code %d, want %d: %s", code, tt.code, errs)
				}
				if tt.want != nil && strings.Count(errs, "\n") != 1 {
					t.Errorf("not one line: %q", errs)
				}
				for _, want := range tt.want {
					if !strings.Contains(errs, want) {
						t.Errorf("%q does not name %q", errs, want)
					}
				}
			})
		}
	}
}

func TestHelpAndVersion(t *testing.T) {
	for _, name := range []string{"ingest", "transform", "sink", "causeway"} {
		code, out, _ := program(t, nil, name, "--help")
		if code != 0 || !strings.Contains(out, "Usage: "+name) {
			t.Errorf("%s --help: %d %q", name, code, out)
		}
	}
	if code, out, _ := program(t, nil, "causeway", "version"); code != 0 || !strings.HasPrefix(out, "causeway ") {
		t.Errorf("version: %d %q", code, out)
	}
}

func TestStreamsApplyAndStatus(t *testing.T) {
	s, err := natsembed.Start(natsembed.Options{StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Shutdown()
	steps := []struct {
		args []string
		want string
	}{
		{[]string{"status"}, "there are no streams yet"},
		{[]string{"streams", "apply", "--dry-run"}, "stream RAW: missing"},
		{[]string{"status"}, "there are no streams yet"},
		{[]string{"streams", "apply"}, "bucket IDENTITY: missing"},
		{[]string{"streams", "apply"}, "nothing differs"},
		{[]string{"status"}, "CANONICAL"},
	}
	for _, step := range steps {
		code, out, errs := program(t, nil, "causeway", append(step.args, "--nats", s.URL())...)
		if code != 0 || !strings.Contains(out, step.want) {
			t.Errorf("%v: %d %q %q, want %q", step.args, code, out, errs, step.want)
		}
	}
	if code, _, errs := program(t, nil, "causeway", "status", "--nats", "nats://127.0.0.1:1"); code != 1 || strings.Count(errs, "\n") != 1 {
		t.Errorf("without a server: %d %q", code, errs)
	}
}

func TestConflicts(t *testing.T) {
	c := bustest.Start(t)
	at := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	e := canonical.Event{Version: 1, Contact: canonical.Contact{ID: canonical.NewID("a", canonical.KindContact, canonical.GHL, "g1"), JobTitle: "Baker", Tags: []string{}},
		Changes: []canonical.Change{{Field: "job_title", From: "Guide", To: "Baker", Origin: canonical.Novi, At: at, Conflict: &canonical.Conflict{Lost: "Guide", Origin: canonical.GHL, Reason: "newer"}}}}
	data, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	url := c.JetStream().Conn().ConnectedUrl()
	steps := []struct {
		args []string
		want []string
	}{
		{nil, []string{"there are none"}},
		{nil, []string{string(e.Contact.ID), "job_title", `"Baker"`, "novi", `"Guide"`, "ghl", "newer"}},
		{[]string{"--tenant", "other"}, []string{"there are none"}},
		{[]string{"--since", "1h", "--json"}, []string{`"field":"job_title"`, `"lost":"Guide"`}},
	}
	for i, step := range steps {
		if i == 1 {
			if _, err := c.Publish(t.Context(), bus.Message{Subject: streams.Canonical(canonical.KindContact, "a", e.Contact.ID, canonical.OpCreated), Data: data}); err != nil {
				t.Fatal(err)
			}
		}
		code, out, errs := program(t, nil, "causeway", append([]string{"conflicts", "--nats", url}, step.args...)...)
		for _, want := range step.want {
			if code != 0 || !strings.Contains(out, want) {
				t.Errorf("%v: %d %q %q, want %q", step.args, code, out, errs, want)
			}
		}
	}
}

func TestDeadLetters(t *testing.T) {
	c := bustest.Start(t)
	url := c.JetStream().Conn().ConnectedUrl()
	letter := envelope.DeadLetter{Stage: "sink-novi", Tenant: "a", Kind: canonical.KindContact, ID: "x", Class: envelope.Data, Reason: "the value was refused", At: time.Now(), Stream: streams.CANONICAL, Sequence: 7}
	data, err := json.Marshal(letter)
	if err != nil {
		t.Fatal(err)
	}
	subject := streams.Dead("sink-novi", "a", canonical.KindContact, "x")
	steps := []struct {
		args []string
		code int
		want string
	}{
		{[]string{"list"}, 0, "there are none"},
		{[]string{"list"}, 0, subject},
		{[]string{"list", "--stage", "sink", "--tenant", "a"}, 0, "the value was refused"},
		{[]string{"list", "--stage", "transform"}, 0, "there are none"},
		{[]string{"show", subject}, 0, `"sequence": 7`},
		{[]string{"show", "dead.sink.a.contact.y"}, 1, "there is no dead letter"},
		{[]string{"show", "raw.>"}, 1, "no dead letter's subject"},
		{[]string{"list", "--class", "data", "--kind", "contact", "--since", "1h"}, 0, subject},
		{[]string{"list", "--class", "outage"}, 0, "there are none"},
		{[]string{"list", "--json"}, 0, `{"letter":"` + subject + `","stage":"sink-novi"`},
		{[]string{"redrive"}, 1, "say which letters"},
		{[]string{"redrive", "--all", subject}, 1, "not both"},
		{[]string{"redrive", "--all", "--dry-run"}, 0, subject + ": would be redriven"},
		{[]string{"redrive", "--stage", "sink"}, 0, subject + ": its entity is looked at again"},
		{[]string{"drop", subject, "--dry-run"}, 0, "would be dropped"},
		{[]string{"drop", "--class", "data"}, 0, subject + ": dropped"},
		{[]string{"list"}, 0, "there are none"},
		{[]string{"redrive", "--all"}, 0, "there are none"},
		{[]string{"list", "--dropped"}, 0, subject},
		{[]string{"drop", "--all", "--undo"}, 0, subject + ": dropped no more"},
		{[]string{"list"}, 0, "data"},
	}
	for i, step := range steps {
		if i == 1 {
			if _, err := c.Publish(t.Context(), bus.Message{Subject: subject, Data: data}); err != nil {
				t.Fatal(err)
			}
		}
		code, out, errs := program(t, nil, "causeway", append([]string{"dead"}, append(step.args, "--nats", url)...)...)
		if code != step.code || !strings.Contains(out+errs, step.want) {
			t.Errorf("%v: %d %q %q, want %d %q", step.args, code, out, errs, step.code, step.want)
		}
	}
}

// TestAddressTaken: a stage that can't listen says so and ends.
func TestAddressTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	code, _, errs := program(t, nil, "transform", "--config", filepath.Join(root(t), "deploy", "causeway.example.yaml"), "--http", l.Addr().String())
	if code != 1 || !strings.Contains(errs, "listen for health checks") {
		t.Errorf("%d %q", code, errs)
	}
}
