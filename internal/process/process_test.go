package process_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/config"
	"github.com/causeway-sync/causeway/internal/natsembed"
	"github.com/causeway-sync/causeway/internal/process"
	"github.com/causeway-sync/causeway/streams"
)

// TestUnansweredAtTheStart: a broker that is too busy to answer while a stage
// begins doesn't end it, and any other error does.
func TestUnansweredAtTheStart(t *testing.T) {
	broker, err := natsembed.Start(natsembed.Options{StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Shutdown()
	path := filepath.Join(t.TempDir(), "causeway.yaml")
	if err := os.WriteFile(path, fmt.Appendf(nil, "nats: {url: %q}\ntenants: [{name: a, ghl: {location: l, token: \"env:T\"}}]\n", broker.URL()), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	began, want := 0, errors.New("no such thing")
	err = process.Run(t.Context(), "stage", file, "", zerolog.Nop(), func(context.Context, process.Env) error {
		if began++; began == 1 {
			return fmt.Errorf("consumer transform: %w", context.DeadlineExceeded)
		}
		return want
	})
	if !errors.Is(err, want) || began != 2 {
		t.Errorf("begun %d times, ended with %v; want twice and %v", began, err, want)
	}
}

// TestReload changes the file under a running stage: to another that loads, to
// one that doesn't, to one that the stage refuses, and back.
func TestReload(t *testing.T) {
	broker, err := natsembed.Start(natsembed.Options{StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Shutdown()
	path := filepath.Join(t.TempDir(), "causeway.yaml")
	write := func(region, more string) {
		text := fmt.Sprintf("nats: {url: %q}\ntenants:\n  - name: a\n    region: %s\n    ghl: {location: l, token: \"env:T\"}\n%s", broker.URL(), region, more)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("US", "")
	file, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	began := make(chan string, 8)
	bustest.Go(t, func(ctx context.Context) error {
		return process.Run(ctx, "stage", file, "", zerolog.Nop(), func(ctx context.Context, e process.Env) error {
			if err := e.Metrics.Register(prometheus.NewCounter(prometheus.CounterOpts{Name: "stage_total"})); err != nil {
				return err
			}
			began <- e.File.Tenants[0].Region
			if e.File.Tenants[0].Region == "DE" {
				return errors.New("nobody speaks it")
			}
			<-ctx.Done()
			return nil
		})
	})
	next := func(want string) {
		t.Helper()
		if got := <-began; got != want {
			t.Fatalf("it runs with %s, want %s", got, want)
		}
	}
	next("US")
	write("CH", "")
	next("CH")
	write("AT", "    typo: 1\n") // not taken: the next that is begun is another
	write("DE", "")
	next("DE")
	next("CH") // refused by the stage
	write("FR", "")
	next("FR")
}

// TestReady asks a stage whether it is ready: while it has nothing to do, while
// what it does is stuck, and when it goes on.
func TestReady(t *testing.T) {
	t.Parallel()
	c := bustest.Start(t)
	path := filepath.Join(t.TempDir(), "causeway.yaml")
	text := fmt.Appendf(nil, "nats: {url: %q}\ntenants:\n  - name: a\n    ghl: {location: l, token: \"env:T\"}\n", c.JetStream().Conn().ConnectedUrl())
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	said := make(chan string, 100)
	logger := zerolog.New(lines(said))
	begun, release := make(chan bool), make(chan bool)
	spec := streams.Hydrate("a")
	bustest.Go(t, func(ctx context.Context) error {
		return process.Run(ctx, "stage", file, "127.0.0.1:0", logger, func(ctx context.Context, e process.Env) error {
			if err := e.Bus.EnsureConsumer(ctx, spec); err != nil {
				return err
			}
			return e.Bus.Consume(ctx, bus.Subscription{Stream: spec.Stream, Durable: spec.Durable, Group: streams.PinnedGroup}, func(_ context.Context, d *bus.Delivery) {
				begun <- true
				<-release
				d.Done(nil)
			})
		})
	})
	var listens struct {
		HTTP string `json:"http"`
	}
	for listens.HTTP == "" {
		if err := json.Unmarshal([]byte(<-said), &listens); err != nil {
			t.Fatal(err)
		}
	}
	ask := func() (int, string) {
		t.Helper()
		res, err := http.Get("http://" + listens.HTTP + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(body)
	}
	is := func(want int) func() bool {
		return func() bool { got, _ := ask(); return got == want }
	}
	bustest.Until(t, is(http.StatusOK))
	if _, err := c.Publish(t.Context(), bus.Message{Subject: "raw.ghl.a.contact.x.notice", Data: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	<-begun
	bustest.Until(t, is(http.StatusServiceUnavailable))
	if _, got := ask(); !strings.Contains(got, "consumer hydrate-a: nothing was finished for") {
		t.Errorf("readyz says %q", got)
	}
	release <- true
	bustest.Until(t, is(http.StatusOK))
}

// lines is a log that is read line by line.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}
