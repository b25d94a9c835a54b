package e2e_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/natsembed"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/streams"
)

// TestSubscribers: state, changes, a server that goes away, and a subscriber
// that does: each version is told once.
func TestSubscribers(t *testing.T) {
	folder := os.Getenv("CAUSEWAY_EXAMPLES")
	tests := []struct {
		name string
		has  []string // has to succeed, or the test is skipped
		run  []string
		env  string
	}{
		{"typescript", []string{"node", filepath.Join(folder, "node_modules/tsx/dist/cli.mjs"), "--version"},
			[]string{"node", "--import", filepath.Join(folder, "node_modules/tsx/dist/loader.mjs"), filepath.Join(folder, "subscriber.mts")}, ""},
		{"python", []string{"python3", "-c", "import nats"}, []string{"python3", "../../deploy/examples/subscriber.py"}, "PYTHONPATH=" + filepath.Join(folder, "py")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			start := func(args ...string) *exec.Cmd {
				cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
				cmd.Env = append(os.Environ(), tt.env)
				cmd.WaitDelay = 5 * time.Second
				return cmd
			}
			if folder == "" || start(tt.has...).Run() != nil {
				t.Skip("the runtime or its packages are not there: README.md says which, and CAUSEWAY_EXAMPLES where")
			}
			if tt.name == "typescript" { // modules are looked for beside it
				text, err := os.ReadFile("../../deploy/examples/subscriber.mts")
				if err == nil {
					err = os.WriteFile(filepath.Join(folder, "subscriber.mts"), text, 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			subscribed(t, func(url, state string) *exec.Cmd { return start(append(tt.run, url, state)...) })
		})
	}
}

func subscribed(t *testing.T, subscriber func(url, state string) *exec.Cmd) {
	dir := t.TempDir()
	s, err := natsembed.Start(natsembed.Options{StoreDir: filepath.Join(dir, "nats")})
	if err != nil {
		t.Fatal(err)
	}
	url := s.URL()
	open := func() *bus.Conn {
		c, err := bus.Connect(context.Background(), bus.Options{URL: url})
		if err == nil {
			_, err = streams.Ensure(context.Background(), c.JetStream())
		}
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := open()
	put := func(id canonical.CanonicalID, op canonical.Op, version uint64) {
		t.Helper()
		e := canonical.Event{Version: version, Contact: canonical.Contact{ID: id, Deleted: op == canonical.OpDeleted}, Changes: []canonical.Change{}}
		data, err := json.Marshal(e)
		if err == nil {
			_, err = c.Publish(t.Context(), bus.Message{Subject: streams.Canonical(canonical.KindContact, "guild", id, op), Data: data,
				Header: bus.Header(envelope.EventAttributes("guild", op, e, canonical.GHL, time.Unix(1_800_000_000, 0)).Header())})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var out shared
	state := filepath.Join(dir, "state.json")
	run := func() (stop func()) {
		cmd := subscriber(url, state)
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return func() {
			_ = cmd.Process.Kill() // it is to lose its process
			_ = cmd.Wait()
		}
	}
	has := func(line string) {
		t.Helper()
		end := time.Now().Add(time.Minute)
		bustest.Until(t, func() bool { return strings.Contains(out.String(), line) || time.Now().After(end) })
		if !strings.Contains(out.String(), line) {
			t.Fatalf("it never said %q:\n%s", line, out.String())
		}
	}
	put("ada", canonical.OpCreated, 1)
	put("bruno", canonical.OpCreated, 1)
	put("ada", canonical.OpUpdated, 2)
	stop := run()
	has("ada.2 causeway.contact.updated.v1 snapshot")
	has("live after 3")
	put("ada", canonical.OpUpdated, 3)
	has("ada.3 causeway.contact.updated.v1\n")
	c.Close()
	s.Shutdown()
	if s, err = natsembed.Start(natsembed.Options{StoreDir: filepath.Join(dir, "nats"), Listen: strings.TrimPrefix(url, "nats://")}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	c = open()
	t.Cleanup(c.Close)
	put("ada", canonical.OpUpdated, 4)
	has("ada.4 causeway.contact.updated.v1\n")
	stop()
	put("bruno", canonical.OpDeleted, 2)
	stop = run()
	defer stop()
	has("bruno.2 causeway.contact.deleted.v1\n")
	for _, once := range []string{"ada.2 ", "ada.3 ", "ada.4 ", "bruno.1 ", "bruno.2 "} {
		if n := strings.Count(out.String(), once); n != 1 {
			t.Errorf("%q was told %d times:\n%s", once, n, out.String())
		}
	}
}
