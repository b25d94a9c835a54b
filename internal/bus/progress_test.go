package bus_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/streams"
)

// leaping is a clock that a test sets forward, and whose waits are short.
type leaping struct{ by atomic.Int64 }

func (l *leaping) Now() time.Time { return time.Now().Add(time.Duration(l.by.Load())) }

func (l *leaping) After(d time.Duration) <-chan time.Time { return time.After(d / 200) }

// leap lets d pass.
func (l *leaping) leap(d time.Duration) { l.by.Add(int64(d)) }

// watched returns a connection to a server of its own whose clock leaps.
func watched(t *testing.T) (*bus.Conn, *leaping, *prometheus.Registry) {
	t.Helper()
	return watchedOn(t, bustest.Start(t))
}

// watchedOn is [watched] on the server of another connection.
func watchedOn(t *testing.T, other *bus.Conn) (*bus.Conn, *leaping, *prometheus.Registry) {
	t.Helper()
	clk, metrics := new(leaping), prometheus.NewRegistry()
	c, err := bus.Connect(t.Context(), bus.Options{URL: other.JetStream().Conn().ConnectedUrl(), Clock: clk, Logger: zerolog.Nop(), Metrics: metrics})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, clk, metrics
}

// attach lets handle work on spec's consumer until the test ends.
func attach(t *testing.T, c *bus.Conn, spec streams.Consumer, group string, handle func(context.Context, *bus.Delivery)) {
	t.Helper()
	if err := c.EnsureConsumer(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	bustest.Go(t, func(ctx context.Context) error {
		return c.Consume(ctx, bus.Subscription{Stream: spec.Stream, Durable: spec.Durable, Group: group, Stage: "stage"}, handle)
	})
}

// unready fails the test unless c says that it isn't well, with these words.
func unready(t *testing.T, c *bus.Conn, words ...string) {
	t.Helper()
	err := c.Healthy()
	for _, w := range words {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("healthy says %v, want something about %q", err, w)
		}
	}
}

func ready(t *testing.T, c *bus.Conn, when string) {
	t.Helper()
	if err := c.Healthy(); err != nil {
		t.Errorf("%s: %v", when, err)
	}
}

func TestProgress(t *testing.T) {
	notice := bus.Message{Subject: "raw.ghl.a.contact.x.notice", Data: []byte("{}")}
	t.Run("a handler that blocks", func(t *testing.T) {
		t.Parallel()
		c, clk, metrics := watched(t)
		begun, release := make(chan bool), make(chan bool)
		attach(t, c, streams.Hydrate("a"), streams.PinnedGroup, func(_ context.Context, d *bus.Delivery) {
			begun <- true
			<-release
			d.Done(nil)
		})
		clk.leap(time.Hour)
		ready(t, c, "after an hour without work")
		publish(t, c, notice)
		<-begun
		clk.leap(7 * time.Second)
		ready(t, c, "after seven seconds")
		clk.leap(2 * time.Second)
		unready(t, c, "consumer hydrate-a: nothing was finished for 9s: 1 under way")
		bustest.Until(t, func() bool { return gauge(t, metrics, "causeway_consumer_unacked") == 1 })
		if got := gauge(t, metrics, "causeway_consumer_stalled_seconds"); got < 9 || got > 60 {
			t.Errorf("stalled for %v s, want a little over 9", got)
		}
		release <- true
		bustest.Until(t, func() bool { return c.Healthy() == nil && gauge(t, metrics, "causeway_consumer_unacked") == 0 })
		clk.leap(time.Hour)
		ready(t, c, "after another hour without work")
		if got := gauge(t, metrics, "causeway_consumer_stalled_seconds"); got != 0 {
			t.Errorf("stalled for %v s without work", got)
		}
	})
	t.Run("a handler that waits for somebody else", func(t *testing.T) {
		t.Parallel()
		c, clk, _ := watched(t)
		begun, release := make(chan bool), make(chan bool)
		attach(t, c, streams.Transform(), "", func(ctx context.Context, d *bus.Delivery) {
			over := clock.Waits(ctx)
			begun <- true
			<-release
			over()
			begun <- true
			<-release
			d.Done(nil)
		})
		publish(t, c, notice)
		<-begun
		clk.leap(time.Hour)
		ready(t, c, "while it waits")
		release <- true
		<-begun
		ready(t, c, "just after it waited")
		clk.leap(9 * time.Second)
		unready(t, c, "consumer transform: nothing was finished for 9s")
		release <- true
	})
	t.Run("keys that wait for a worker, or are held", func(t *testing.T) {
		t.Parallel()
		c, clk, metrics := watched(t)
		begun, release := make(chan bool, 2), make(chan bool)
		spec := streams.Hydrate("a")
		if err := c.EnsureConsumer(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		var held atomic.Bool
		held.Store(true)
		bustest.Go(t, func(ctx context.Context) error {
			sub := bus.Subscription{Stream: spec.Stream, Durable: spec.Durable, Group: streams.PinnedGroup, Hold: func(bus.Stored) bool { return held.Load() }}
			return bus.Coalesce(ctx, c, clk, sub, 1, func(m bus.Stored) string { return m.Subject }, func(ctx context.Context, _ bus.Stored, _ int) error {
				over := clock.Waits(ctx)
				begun <- true
				<-release
				over()
				<-release
				return nil
			})
		})
		publish(t, c, notice)
		publish(t, c, bus.Message{Subject: "raw.ghl.a.contact.y.notice", Data: []byte("{}")})
		bustest.Until(t, func() bool { return gauge(t, metrics, "causeway_consumer_unacked") == 2 })
		clk.leap(time.Hour)
		ready(t, c, "while a circuit is open")
		held.Store(false)
		<-begun
		clk.leap(time.Hour)
		ready(t, c, "while its one worker waits")
		release <- true
		bustest.Until(t, func() bool { clk.leap(9 * time.Second); return c.Healthy() != nil })
		unready(t, c, "consumer hydrate-a: nothing was finished for", "1 under way")
		close(release)
		<-begun
		bustest.Settled(t, c, spec.Stream, spec.Durable)
		ready(t, c, "at the end")
	})
	t.Run("nothing is handed out", func(t *testing.T) {
		t.Parallel()
		c, clk, _ := watched(t)
		// Without the name of its group the server hands nothing to it.
		attach(t, c, streams.Hydrate("a"), "", func(_ context.Context, d *bus.Delivery) { d.Done(nil) })
		clk.leap(time.Hour)
		ready(t, c, "without work")
		publish(t, c, notice)
		bustest.Until(t, func() bool { clk.leap(time.Second); return c.Healthy() != nil })
		unready(t, c, "consumer hydrate-a: nothing was handed out for", "1 wait at the broker")
	})
	t.Run("another instance is pinned", func(t *testing.T) {
		t.Parallel()
		c, clk, metrics := watched(t)
		first := bustest.Again(t, c)
		begun, done := make(chan bool, 1000), make(chan bool)
		attach(t, first, streams.Hydrate("a"), streams.PinnedGroup, func(_ context.Context, d *bus.Delivery) {
			begun <- true
			<-done
			d.Done(nil)
		})
		publish(t, c, notice)
		<-begun
		attach(t, c, streams.Hydrate("a"), streams.PinnedGroup, func(_ context.Context, d *bus.Delivery) { d.Done(nil) })
		for range 300 { // more than one asks for at a time
			publish(t, c, notice)
		}
		bustest.Until(t, func() bool { return gauge(t, metrics, "causeway_consumer_pending") > 0 })
		for range 20 {
			clk.leap(time.Second)
			<-clk.After(4 * time.Second) // the broker is asked meanwhile
			ready(t, c, "standing by")
		}
		close(done)
	})
	t.Run("the consumer is deleted", func(t *testing.T) {
		t.Parallel()
		c, _, _ := watched(t)
		attach(t, c, streams.Transform(), "", func(_ context.Context, d *bus.Delivery) { d.Done(nil) })
		ready(t, c, "at first")
		if err := c.JetStream().DeleteConsumer(t.Context(), streams.RAW, streams.Transform().Durable); err != nil {
			t.Fatal(err)
		}
		bustest.Until(t, func() bool { return c.Healthy() != nil })
		unready(t, c, "consumer transform: there is no such consumer on RAW")
	})
	t.Run("a stream at its limit", func(t *testing.T) {
		t.Parallel()
		c, clk, _ := watched(t)
		s, err := c.JetStream().Stream(t.Context(), streams.RAW)
		if err != nil {
			t.Fatal(err)
		}
		cfg := s.CachedInfo().Config
		cfg.MaxBytes, cfg.Discard = 1000, jetstream.DiscardNew
		if _, err := c.JetStream().UpdateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		large := notice
		large.Data = make([]byte, 900)
		publish(t, c, large)
		if _, err := c.Publish(t.Context(), large); err == nil {
			t.Fatal("it was stored")
		}
		unready(t, c, "publish to raw:", "maximum bytes exceeded")
		if err := s.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
		publish(t, c, large)
		ready(t, c, "once one was stored")
		if _, err := c.Publish(t.Context(), large); err == nil {
			t.Fatal("it was stored")
		}
		clk.leap(time.Minute)
		ready(t, c, "when nothing was published for a minute")
	})
}

// gauge returns the value of the one series of a name.
func gauge(t *testing.T, g prometheus.Gatherer, name string) float64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name && len(f.GetMetric()) == 1 {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	return -1
}
