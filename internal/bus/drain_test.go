package bus_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/streams"
)

// TestDraining: when it stops, what it has been handed is finished and acked,
// so that nothing of it is delivered twice. What takes too long is given back.
func TestDraining(t *testing.T) {
	const n = 300
	spec := streams.Transform()
	type consume func(ctx context.Context, c *bus.Conn, clk clock.Clock, work func(context.Context, bus.Stored) error) error
	sub := bus.Subscription{Stream: spec.Stream, Durable: spec.Durable, Stage: "transform"}
	plain := func(ctx context.Context, c *bus.Conn, _ clock.Clock, work func(context.Context, bus.Stored) error) error {
		return c.Consume(ctx, sub, func(ctx context.Context, d *bus.Delivery) { d.Done(work(ctx, d.Stored)) })
	}
	coalesced := func(hold func(bus.Stored) bool) consume {
		return func(ctx context.Context, c *bus.Conn, clk clock.Clock, work func(context.Context, bus.Stored) error) error {
			sub := sub
			sub.Hold = hold
			return bus.Coalesce(ctx, c, clk, sub, 2, func(m bus.Stored) string { return m.Subject }, func(ctx context.Context, m bus.Stored, _ int) error { return work(ctx, m) })
		}
	}
	var held atomic.Bool // once the first has begun
	tests := []struct {
		name    string
		consume consume
		blocks  bool // the first never ends by itself
		again   bool // some are delivered twice
	}{
		{"each handed on", plain, false, false},
		{"each key", coalesced(nil), false, false},
		{"one that never ends", coalesced(nil), true, true},
		{"what is held", coalesced(func(bus.Stored) bool { return held.Load() }), false, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			held.Store(false)
			next := bustest.Start(t)
			c := bustest.Again(t, next)
			var clk clock.Clock = clock.System{}
			if tt.blocks { // no need to wait that long
				c, clk, _ = watchedOn(t, next)
			}
			if err := c.EnsureConsumer(t.Context(), spec); err != nil {
				t.Fatal(err)
			}
			for i := range n {
				publish(t, c, bus.Message{Subject: fmt.Sprintf("raw.ghl.a.contact.r%d.fetch", i), Data: []byte("{}")})
			}
			began, release := make(chan struct{}), make(chan struct{})
			var once sync.Once
			var handled atomic.Int64
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() {
				done <- tt.consume(ctx, c, clk, func(ctx context.Context, _ bus.Stored) (err error) {
					once.Do(func() {
						close(began)
						if <-release; tt.blocks {
							<-ctx.Done()
							err = context.Cause(ctx)
						}
					})
					if err == nil {
						handled.Add(1)
					}
					return err
				})
			}()
			<-began
			held.Store(true)
			cancel()
			close(release)
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			c.Close()
			consumer, err := next.JetStream().Consumer(t.Context(), spec.Stream, spec.Durable)
			if err != nil {
				t.Fatal(err)
			}
			info := consumer.CachedInfo()
			t.Logf("%d were handed out, %d handled", info.Delivered.Consumer, handled.Load())
			// What the broker was about to send when it was told to stop never got
			// here, and comes again to whoever is next when its ack wait is over.
			missed := int64(info.NumAckPending)
			if !tt.again && int64(info.Delivered.Consumer) != handled.Load()+missed {
				t.Errorf("%d were handed out and %d handled; %d are not settled", info.Delivered.Consumer, handled.Load(), missed)
			}
			var twice atomic.Int64
			bustest.Go(t, func(ctx context.Context) error {
				return next.Consume(ctx, sub, func(_ context.Context, d *bus.Delivery) {
					if d.Count > 1 {
						twice.Add(1)
					}
					handled.Add(1)
					d.Done(nil)
				})
			})
			bustest.Settled(t, next, spec.Stream, spec.Durable)
			if got := handled.Load(); got != n {
				t.Errorf("%d were handled, want each of %d once", got, n)
			}
			if got := twice.Load(); tt.again && got == 0 || !tt.again && got != missed {
				t.Errorf("%d were delivered twice, want the %d that had not arrived", got, missed)
			}
		})
	}
}
