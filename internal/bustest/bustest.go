// Package bustest gives a test a JetStream server of its own with the whole
// topology on it, and ways to look at what is there.
package bustest

import (
	"cmp"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/natsembed"
	"github.com/causeway-sync/causeway/streams"
)

// Start starts a server and returns a connection to it.
func Start(t testing.TB) *bus.Conn {
	t.Helper()
	s, err := natsembed.Start(natsembed.Options{StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	c := connect(t, s.URL())
	if _, err := streams.Ensure(context.Background(), c.JetStream()); err != nil {
		t.Fatal(err)
	}
	return c
}

// Again returns another connection to c's server.
func Again(t testing.TB, c *bus.Conn) *bus.Conn {
	t.Helper()
	return connect(t, c.JetStream().Conn().ConnectedUrl())
}

func connect(t testing.TB, url string) *bus.Conn {
	t.Helper()
	c, err := bus.Connect(context.Background(), bus.Options{URL: url, Name: t.Name(), Logger: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// All returns a stream's messages, from the oldest.
func All(t testing.TB, c *bus.Conn, stream string) []bus.Stored {
	t.Helper()
	ctx := context.Background()
	s, err := c.JetStream().Stream(ctx, stream)
	if err != nil {
		t.Fatal(err)
	}
	state := s.CachedInfo().State
	var out []bus.Stored
	for seq := state.FirstSeq; seq <= state.LastSeq && seq > 0; seq++ {
		m, err := s.GetMsg(ctx, seq)
		if err != nil {
			continue // purged, or one of more than its subject may keep
		}
		out = append(out, bus.Stored{Stream: stream, Subject: m.Subject, Header: bus.Header(m.Header), Data: m.Data, Seq: m.Sequence, Time: m.Time})
	}
	return out
}

// Until waits until ok, at most five minutes.
func Until(t testing.TB, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	for !ok() {
		if clock.Sleep(ctx, clock.System{}, 5*time.Millisecond) != nil {
			t.Fatal("it never came to be")
		}
	}
}

// Settled waits until everything that the stream holds now for a durable
// consumer has been handed out and acked, or given up. What a consumer says is
// pending it may hear of a little after a publish is confirmed; how far it has
// come it always knows.
func Settled(t testing.TB, c *bus.Conn, stream, durable string) {
	t.Helper()
	Until(t, func() bool {
		ctx := context.Background()
		consumer, err := c.JetStream().Consumer(ctx, stream, durable)
		if err != nil {
			return false
		}
		info, err := consumer.Info(ctx)
		if err != nil || info.NumAckPending > 0 || info.NumPending > 0 {
			return false
		}
		filters := info.Config.FilterSubjects
		if len(filters) == 0 {
			filters = []string{cmp.Or(info.Config.FilterSubject, ">")}
		}
		for _, filter := range filters {
			last, err := c.Last(ctx, stream, filter)
			if errors.Is(err, bus.ErrNotFound) {
				continue
			}
			if err != nil || info.AckFloor.Stream < last.Seq {
				return false
			}
		}
		return true
	})
}

// Go runs f until the test ends, or stop is called, and fails the test with
// its error.
func Go(t testing.TB, f func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return stop
}
