package e2e_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/dev"
)

// world starts the two simulated systems, with room in their call limits.
func world(t *testing.T, o dev.Options) *dev.World {
	t.Helper()
	o.Dir, o.Limits = t.TempDir(), 20
	if o.Seed == 0 {
		o.Seed = 1
	}
	w, err := dev.NewWorld(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// here starts the stages in this process.
func here(t *testing.T, w *dev.World) *dev.Here {
	t.Helper()
	h, err := w.StartHere(t.Context(), zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.ErrorLevel))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Stop(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func connect(t *testing.T, w *dev.World) *bus.Conn {
	t.Helper()
	c, err := w.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func good(t *testing.T, r dev.Report, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if !r.Good() {
		t.Errorf("the run is not good: %+v", r)
	}
	if r.CanonicalEvents == 0 || r.Writes.GHL == 0 || r.Writes.Novi == 0 {
		t.Errorf("nothing travelled: %+v", r)
	}
}

// everything reads all of a stream's messages, as far as they go now.
func everything(ctx context.Context, t *testing.T, c *bus.Conn, stream string, each func(jetstream.Msg)) {
	t.Helper()
	consumer, err := c.JetStream().CreateConsumer(ctx, stream, jetstream.ConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy, AckPolicy: jetstream.AckNonePolicy})
	if err != nil {
		t.Fatal(err)
	}
	info, err := consumer.Info(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for left := int(info.NumPending); left > 0; {
		batch, err := consumer.Fetch(min(left, 500), jetstream.FetchMaxWait(5*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		for m := range batch.Messages() {
			got++
			each(m)
		}
		if err := batch.Error(); err != nil && !errors.Is(err, jetstream.ErrNoMessages) {
			t.Fatal(err)
		}
		if got == 0 {
			t.Fatalf("%s: %d messages are missing", stream, left)
		}
		left -= got
	}
}

// root is the module's folder.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		t.Fatal(err)
	}
	return dir
}
