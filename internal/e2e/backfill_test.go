//go:build campaign

package e2e_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/dev"
	"github.com/causeway-sync/causeway/internal/ghlsim"
	"github.com/causeway-sync/causeway/internal/novisim"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

var contacts = flag.Int("contacts", 20_000, "how many members a backfill brings over")

// TestBackfillAtTheLimit: Novi's members are made in GHL, at ten times the
// documented limits, by three ingests and three sinks; meanwhile people go on
// editing members. The simulators count.
func TestBackfillAtTheLimit(t *testing.T) {
	const times = 10
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	w, err := dev.NewWorld(t.Context(), dev.Options{Dir: t.TempDir(), Limits: times, Seed: *seed, NoWebhooks: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	var members []string
	for i := range *contacts {
		id, err := w.Novi.Edit(novisim.Edit{Fields: map[string]any{"FirstName": "Ada", "LastName": fmt.Sprintf("Nr %d", i), "Name": fmt.Sprintf("Ada Nr %d", i),
			"Email": fmt.Sprintf("ada.%d@example.org", i)}})
		if err != nil {
			t.Fatal(err)
		}
		members = append(members, id)
	}
	// Only from now on, so that there are no notices of them all.
	token, err := os.ReadFile(filepath.Join(w.Dir, "secrets", "novi-webhook-token"))
	if err != nil {
		t.Fatal(err)
	}
	w.GHL.SetWebhookURL(w.HookURL + "/hooks/ghl")
	w.Novi.SetWebhookURL(w.HookURL + "/hooks/novi/" + string(bytes.TrimSpace(token)))

	p, err := w.StartPrograms(t.Context(), bin, filepath.Join(bin, "causeway"), "broker")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	})
	more(t, w, bin, "ingest", "ingest", "sink", "sink")
	began := time.Now()
	wait(func() bool { return w.GHL.Stats().Contacts > 0 })
	t.Logf("the first contact was made after %s", time.Since(began).Round(time.Second))

	seen := make(chan string, 1000)
	stop := make(chan struct{})
	var work sync.WaitGroup
	work.Go(func() { follow(w, seen, stop) })
	began = time.Now()
	broker := connect(t, w)
	_ = clock.Sleep(t.Context(), clock.System{}, 10*time.Second)
	from, at, refused := callsMade(w), time.Now(), w.GHL.Stats().HTTP429+w.Novi.Stats().HTTP429
	var late []time.Duration
	var to, until = from, at
	for n := 0; w.GHL.Stats().Contacts < len(members)*95/100; n++ {
		value := fmt.Sprintf("probe %d", n)
		edited, member := time.Now(), members[n*7919%len(members)]
		if _, err := w.Novi.Edit(novisim.Edit{MemberID: member, Fields: map[string]any{"JobTitle": value}}); err != nil {
			t.Fatal(err)
		}
		shown, ok := arrives(seen, value)
		if !ok {
			t.Errorf("%s never came over", value)
		}
		late = append(late, time.Since(edited))
		if d := late[n]; d > 2*time.Second {
			t.Logf("%s, an edit %s after the first contact was made, took %s:%s", shown, edited.Sub(began).Round(time.Second), d.Round(time.Millisecond), trail(t, broker, member, edited))
		}
		_ = clock.Sleep(t.Context(), clock.System{}, time.Second-time.Since(edited))
		to, until = callsMade(w), time.Now()
	}
	close(stop)
	work.Wait()
	slices.Sort(late)
	if len(late) == 0 {
		t.Fatal("it was over before anything could be measured")
	}
	p99 := late[len(late)*99/100]
	used := 100 * float64(to-from) / (10 * times * until.Sub(at).Seconds())
	g, n := w.GHL.Stats(), w.Novi.Stats()
	t.Logf("%d contacts in %s; %.1f %% of GHL's budget used over %s; %d calls refused in all, %d before it was measured; %d live changes crossed in p50 %s, p99 %s, at most %s; GHL: %d reads, %d writes; Novi: %d reads, %d writes",
		g.Contacts, time.Since(began).Round(time.Second), used, until.Sub(at).Round(time.Second), g.HTTP429+n.HTTP429, refused, len(late),
		late[len(late)/2].Round(time.Millisecond), p99.Round(time.Millisecond), late[len(late)-1].Round(time.Millisecond), g.Reads, g.Writes, n.Reads, n.Writes)
	t.Logf("GHL: %v", g.Requests)
	if g.HTTP429+n.HTTP429 > refused {
		t.Errorf("%d calls were refused", g.HTTP429+n.HTTP429-refused)
	}
	if used < 95 {
		t.Errorf("%.1f %% of the budget were used", used)
	}
	if p99 > 5*time.Second {
		t.Errorf("a live change took %s at the 99th percentile", p99)
	}
}

// trail says what was stored about a member, and when, since it was edited.
func trail(t *testing.T, c *bus.Conn, member string, since time.Time) string {
	t.Helper()
	var b strings.Builder
	id := canonical.NewID(dev.Tenant, canonical.KindContact, canonical.Novi, canonical.ExternalID(member))
	for _, from := range []struct{ stream, filter string }{
		{streams.RAW, streams.RawOf(observation.Observation{System: canonical.Novi, Tenant: dev.Tenant, Kind: canonical.KindContact, ExternalID: canonical.ExternalID(member)})},
		{streams.CANONICAL, streams.Entity(canonical.KindContact, dev.Tenant, id)},
		{streams.EFFECTS, streams.Effect(canonical.GHL, dev.Tenant, canonical.KindContact, id)},
	} {
		err := c.Scan(t.Context(), from.stream, from.filter, since, func(m bus.Stored) error {
			p, err := streams.Parse(m.Subject)
			fmt.Fprintf(&b, " %s %s%s +%s;", from.stream, p.Via, p.Op, m.Time.Sub(since).Round(time.Millisecond))
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	return b.String()
}

func callsMade(w *dev.World) int {
	s := w.GHL.Stats()
	return s.Reads + s.Writes
}

func wait(ok func() bool) {
	for !ok() {
		<-time.After(100 * time.Millisecond)
	}
}

// follow says what the ledger of GHL shows of probes.
func follow(w *dev.World, seen chan<- string, stop <-chan struct{}) {
	var seq int64
	for {
		select {
		case <-stop:
			return
		case <-time.After(20 * time.Millisecond):
		}
		for _, e := range w.GHL.LedgerAfter(seq) {
			seq = e.Seq
			for _, c := range e.Changes {
				if v := fmt.Sprint(c.To); e.Actor == ghlsim.ActorAPI && strings.Contains(v, "probe ") {
					seen <- v + " " + e.Op
				}
			}
		}
	}
}

// arrives waits two minutes for value.
func arrives(seen <-chan string, value string) (op string, ok bool) {
	for deadline := time.After(2 * time.Minute); ; {
		select {
		case v := <-seen:
			if regexp.MustCompile(regexp.QuoteMeta(value) + `\b`).MatchString(v) {
				return v, true
			}
		case <-deadline:
			return "", false
		}
	}
}

// more starts further instances, without a front door.
func more(t *testing.T, w *dev.World, bin string, stages ...string) {
	t.Helper()
	text, err := os.ReadFile(w.ConfigPath)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(w.Dir, "more.yaml")
	text = regexp.MustCompile(`(?m)^  listen: .*$`).ReplaceAll(text, []byte(`  listen: ""`))
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for i, stage := range stages {
		log, err := os.Create(filepath.Join(w.Dir, "logs", fmt.Sprintf("%s-%d.log", stage, i)))
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(filepath.Join(bin, stage), "--config", path, "--http", "")
		cmd.Stdout, cmd.Stderr = log, log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Signal(syscall.SIGTERM)
			if err := cmd.Wait(); err != nil {
				t.Errorf("%s: %v", stage, err)
			}
			_ = log.Close()
		})
	}
}
