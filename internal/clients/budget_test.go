package clients_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/clients"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/config"
	"github.com/causeway-sync/causeway/internal/dev"
	"github.com/causeway-sync/causeway/internal/natsembed"
	"github.com/causeway-sync/causeway/internal/noviapi"
	"github.com/causeway-sync/causeway/streams"

	"github.com/causeway-sync/causeway/internal/ghlapi"
)

// caller is the role that this program plays when a test starts it: ingest or
// sink.
const caller = "BUDGET_TEST_CALLER"

var (
	duration = flag.Duration("duration", 6*time.Second, "how long the use of the budget is measured, and how long things go wrong")
	seed     = flag.Uint64("seed", 1, "what goes wrong follows from it")
)

func TestMain(m *testing.M) {
	if role := os.Getenv(caller); role != "" {
		if err := call(role, os.Getenv("BUDGET_TEST_CONFIG"), strings.Split(os.Getenv("BUDGET_TEST_RECORDS"), ",")); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, role, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// call calls both systems as much as it may until SIGTERM, and fails at the
// first 429.
func call(role, path string, records []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	file, err := config.Load(path)
	if err != nil {
		return err
	}
	conn, err := bus.Connect(ctx, bus.Options{URL: file.NATS.URL, Name: role})
	if err != nil {
		return err
	}
	defer conn.Close()
	maker, err := clients.New(file, clients.Options{Clock: clock.System{}, Bus: conn, Name: fmt.Sprintf("%s/%d", role, os.Getpid()), Logger: zerolog.New(os.Stderr)})
	if err != nil {
		return err
	}
	defer maker.Close()
	g, err := maker.GHL(file.Tenants[0])
	if err != nil {
		return err
	}
	n, err := maker.Novi(file.Tenants[0])
	if err != nil {
		return err
	}
	contact, member := records[0], records[1]
	var work sync.WaitGroup
	keepOn := func(workers int, f func() error) {
		for range workers {
			work.Go(func() {
				for ctx.Err() == nil {
					if err := f(); err != nil && ctx.Err() == nil {
						_, _ = fmt.Fprintln(os.Stderr, role, err)
					}
				}
			})
		}
	}
	if role == "ingest" {
		keepOn(6, func() error { _, err := g.GetContact(ctx, budget.Hydrate, contact); return err })
		keepOn(2, func() error {
			_, err := g.SearchContacts(ctx, budget.Backfill, ghlapi.SearchRequest{PageLimit: 1})
			return err
		})
		keepOn(4, func() error {
			_, err := n.ListMembers(ctx, budget.Backfill, noviapi.ListRequest{PageSize: 1})
			return err
		})
	} else {
		keepOn(8, func() error {
			_, err := g.UpdateContact(ctx, budget.Live, contact, map[string]any{"city": "Bern"})
			return err
		})
		keepOn(8, func() error {
			r, err := n.GetMemberToPut(ctx, budget.Live, member)
			if err == nil {
				_, err = n.PutMember(ctx, budget.Live, member, r.Raw)
			}
			return err
		})
	}
	work.Wait()
	return nil
}

// crew is the callers of a test.
type crew struct {
	t       testing.TB
	env     []string
	running []*exec.Cmd
}

func (c *crew) start(role string) {
	c.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), c.env...), caller+"="+role)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.running = append(c.running, cmd)
}

func (c *crew) signal(i int, s syscall.Signal) {
	if err := c.running[i].Process.Signal(s); err != nil {
		c.t.Error(err)
	}
}

// count is what the simulators counted.
type count struct {
	at                         time.Time
	ghl, novi, ghl429, novi429 int
}

func look(w *dev.World) count {
	g, n := w.GHL.Stats(), w.Novi.Stats()
	return count{time.Now(), g.Reads + g.Writes, n.Reads + n.Writes, g.HTTP429, n.HTTP429}
}

func pass(d time.Duration) { _ = clock.Sleep(context.Background(), clock.System{}, d) }

// TestOneBudget: three processes like ingest and three like sink have more to
// do than the limits allow, at real simulators and a real broker. They are
// killed and frozen, and never make a call too many.
func TestOneBudget(t *testing.T) {
	const times = 10
	w, err := dev.NewWorld(t.Context(), dev.Options{Dir: t.TempDir(), Limits: times, NoWebhooks: true, Seed: int64(*seed)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	broker, err := natsembed.Start(natsembed.Options{StoreDir: t.TempDir(), Listen: w.NATSAddr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Shutdown)
	conn, err := w.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	if _, err := streams.Ensure(t.Context(), conn.JetStream()); err != nil {
		t.Fatal(err)
	}
	pairs, err := dev.NewPeople(w, w.Seed).Overlap(1, 1)
	if err != nil {
		t.Fatal(err)
	}
	c := &crew{t: t, env: []string{"BUDGET_TEST_CONFIG=" + w.ConfigPath, "BUDGET_TEST_RECORDS=" + pairs[0].GHL + "," + pairs[0].Novi}}
	t.Cleanup(func() {
		for _, cmd := range c.running {
			_ = cmd.Process.Signal(syscall.SIGCONT) // it may be frozen
			_ = cmd.Process.Signal(syscall.SIGTERM)
		}
		for _, cmd := range c.running {
			if err := cmd.Wait(); err != nil {
				var exit *exec.ExitError
				if !errors.As(err, &exit) || exit.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
					t.Error(err)
				}
			}
		}
	})
	began := time.Now()
	for i := range 6 {
		c.start([]string{"ingest", "sink"}[i%2])
	}
	// Once each has had its first answer the budget is used.
	warm := 3 * time.Second
	if *duration >= time.Minute {
		warm = 70 * time.Second // the longest window has come round
	}
	pass(warm)
	from := look(w)
	pass(*duration)
	to := look(w)
	used := func(calls int, perSecond float64) float64 {
		return 100 * float64(calls) / (perSecond * to.at.Sub(from.at).Seconds())
	}
	ghl, novi := used(to.ghl-from.ghl, 10*times), used(to.novi-from.novi, 10*times)
	t.Logf("used over %s by 6 processes: %.1f %% of ghl, %.1f %% of novi", to.at.Sub(from.at).Round(time.Second), ghl, novi)
	least := 95.0
	if *duration < time.Minute {
		least = 70 // the machine may be busy with others; what counts here is the rest
	}
	if ghl < least || novi < least {
		t.Errorf("less than %.0f %% were used", least)
	}
	kv, err := conn.Bucket(t.Context(), streams.BUDGETS)
	if err != nil {
		t.Fatal(err)
	}
	ledger, err := budget.ReadLedger(t.Context(), kv, budget.Key("ghl", dev.Tenant))
	if err != nil {
		t.Fatal(err)
	}
	slots := 0
	for _, m := range ledger.Members {
		slots += m.Slots[0]
	}
	if len(ledger.Members) != 6 || slots > 100*times {
		shown, _ := json.Marshal(ledger) // for the message
		t.Errorf("%d slots are leased by %d processes: %s", slots, len(ledger.Members), shown)
	}

	random := rand.New(rand.NewPCG(*seed, 2))
	for round := 0; round == 0 || time.Since(began) < 2**duration+warm; round++ {
		i := random.IntN(len(c.running))
		dies, freezes := i, (i+1+random.IntN(len(c.running)-1))%len(c.running)
		c.signal(freezes, syscall.SIGSTOP)
		c.signal(dies, syscall.SIGKILL)
		pass(time.Second)
		c.start([]string{"ingest", "sink"}[round%2])
		// Some are frozen past their lease, some not.
		pass(time.Duration(2+random.IntN(7)) * time.Second)
		c.signal(freezes, syscall.SIGCONT)
		_ = c.running[dies].Wait() // it was killed
		c.running = append(c.running[:dies], c.running[dies+1:]...)
		pass(2 * time.Second)
	}
	end := look(w)
	if end.ghl429 > 0 || end.novi429 > 0 {
		t.Errorf("calls over the limit: %d at ghl, %d at novi", end.ghl429, end.novi429)
	}
	t.Logf("%d calls at ghl and %d at novi in %s, %d and %d of them refused", end.ghl, end.novi, time.Since(began).Round(time.Second), end.ghl429, end.novi429)
}
