package bus_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/natsembed"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/streams"
)

func publish(t *testing.T, c *bus.Conn, m bus.Message) bus.Ack {
	t.Helper()
	a, err := c.Publish(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

const subject = "raw.ghl.a.contact.x.fetch"

func TestPublish(t *testing.T) {
	c := bustest.Start(t)
	t.Run("an id that was seen is told so", func(t *testing.T) {
		a := publish(t, c, bus.Message{Subject: subject, Data: []byte("1"), ID: "k"})
		b := publish(t, c, bus.Message{Subject: subject, Data: []byte("2"), ID: "k"})
		if a.Duplicate || !b.Duplicate || a.Seq != b.Seq || a.Stream != streams.RAW {
			t.Errorf("got %+v, then %+v", a, b)
		}
	})
	t.Run("of two writers with one expectation one wins", func(t *testing.T) {
		entity := streams.Entity(canonical.KindContact, "a", "e")
		m := func(op canonical.Op, last uint64) bus.Message {
			return bus.Message{Subject: streams.Canonical(canonical.KindContact, "a", "e", op), Data: []byte("{}"), Expect: &bus.Expect{Subject: entity, LastSeq: last}}
		}
		first := publish(t, c, m(canonical.OpCreated, 0))
		// The second publishes on another subject of the entity; the wildcard sees it.
		if _, err := c.Publish(t.Context(), m(canonical.OpUpdated, 0)); !errors.Is(err, bus.ErrWrongSequence) {
			t.Errorf("the loser got %v", err)
		}
		publish(t, c, m(canonical.OpUpdated, first.Seq))
		last, err := c.Last(t.Context(), streams.CANONICAL, entity)
		if err != nil || last.Subject != m(canonical.OpUpdated, 0).Subject {
			t.Errorf("the last is %+v, %v", last, err)
		}
	})
	t.Run("an id and an expectation exclude one another", func(t *testing.T) {
		if _, err := c.Publish(t.Context(), bus.Message{Subject: subject, ID: "k", Expect: &bus.Expect{Subject: subject}}); err == nil {
			t.Error("both were taken")
		}
	})
	t.Run("a subject of no stream is not stored", func(t *testing.T) {
		if _, err := c.Publish(t.Context(), bus.Message{Subject: "nowhere.x"}); !errors.Is(err, bus.ErrNotStored) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("nothing there", func(t *testing.T) {
		if _, err := c.Last(t.Context(), streams.EFFECTS, "effects.>"); !errors.Is(err, bus.ErrNotFound) {
			t.Errorf("got %v", err)
		}
	})
}

func TestConnectAgainWithTheSameMetrics(t *testing.T) {
	r := prometheus.NewRegistry()
	if _, err := bus.Connect(t.Context(), bus.Options{URL: "nats://127.0.0.1:1", Metrics: r}); err == nil {
		t.Fatal("nobody listens there")
	}
	c, err := bus.Connect(t.Context(), bus.Options{URL: bustest.Start(t).JetStream().Conn().ConnectedUrl(), Metrics: r})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if c.Healthy() == nil {
		t.Error("a closed connection is healthy")
	}
}

// consume runs handle on RAW until it has been called often enough.
func consume(t *testing.T, c *bus.Conn, sub bus.Subscription, handle func(*bus.Delivery)) (stop func()) {
	t.Helper()
	spec := streams.Transform()
	if err := c.EnsureConsumer(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	sub.Stream, sub.Durable, sub.Stage = spec.Stream, spec.Durable, "transform"
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Consume(ctx, sub, func(_ context.Context, d *bus.Delivery) { handle(d) }) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestVerdicts(t *testing.T) {
	tests := []struct {
		name    string
		sub     bus.Subscription
		verdict func(count int) error
		counts  int // how often it is delivered
		dead    string
		class   envelope.Class
	}{
		{"done", bus.Subscription{}, func(int) error { return nil }, 1, "", ""},
		{"later", bus.Subscription{}, func(n int) error {
			if n < 3 {
				return bus.Later(errors.New("not now"), time.Millisecond)
			}
			return nil
		}, 3, "", ""},
		{"later never becomes a dead letter", bus.Subscription{MaxDeliveries: 2}, func(n int) error {
			if n < 5 {
				return bus.Later(errors.New("not now"), time.Millisecond)
			}
			return nil
		}, 5, "", ""},
		{"an error is tried again", bus.Subscription{}, func(n int) error {
			if n < 2 {
				return errors.New("broken")
			}
			return nil
		}, 2, "", ""},
		{"too many errors", bus.Subscription{MaxDeliveries: 2}, func(int) error { return errors.New("broken") }, 2, "broken", envelope.Outage},
		{"never again", bus.Subscription{}, func(int) error { return bus.Terminate(errors.New("it makes no sense")) }, 1, "it makes no sense", envelope.Defect},
		{"a wrapped verdict", bus.Subscription{}, func(int) error { return fmt.Errorf("while: %w", bus.Terminate(errors.New("no"))) }, 1, "while: no", envelope.Defect},
		{"explained", bus.Subscription{}, func(int) error {
			inner := bus.Explain(bus.Terminate(errors.New("no")), envelope.DeadLetter{Class: envelope.Data, Answer: &envelope.Answer{Status: 400}})
			return bus.Explain(fmt.Errorf("while: %w", inner), envelope.DeadLetter{Class: envelope.Mapping, Request: &envelope.Request{Operation: "create"}})
		}, 1, "while: no", envelope.Data},
		{"stopping is no failure", bus.Subscription{MaxDeliveries: 1}, func(n int) error {
			if n < 3 {
				return bus.ErrStopping
			}
			return nil
		}, 3, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := bustest.Start(t)
			seq := publish(t, c, bus.Message{Subject: subject, Data: []byte("{}")}).Seq
			var count atomic.Int64
			stop := consume(t, c, tt.sub, func(d *bus.Delivery) { count.Store(int64(d.Count)); d.Done(tt.verdict(d.Count)) })
			bustest.Settled(t, c, streams.RAW, "transform")
			stop()
			if got := int(count.Load()); got != tt.counts {
				t.Errorf("delivered %d times, want %d", got, tt.counts)
			}
			m, err := c.Last(t.Context(), streams.DEAD, "dead.>")
			if tt.dead == "" {
				if !errors.Is(err, bus.ErrNotFound) {
					t.Errorf("there is a dead letter: %s %v", m.Data, err)
				}
				return
			}
			var letter envelope.DeadLetter
			if err != nil || json.Unmarshal(m.Data, &letter) != nil {
				t.Fatalf("no dead letter: %v", err)
			}
			if letter.Reason != tt.dead || letter.Sequence != seq || letter.Subject != subject || letter.Stage != "transform" || letter.Tenant != "a" || letter.ID != "x" {
				t.Errorf("got %+v", letter)
			}
			if letter.Class != tt.class || letter.Deliveries != tt.counts || tt.name == "explained" && (letter.Answer.Status != 400 || letter.Request.Operation != "create") {
				t.Errorf("got %+v", letter)
			}
		})
	}
}

// TestCrashBetweenPublishAndAck: a delivery that is never settled comes again
// when its consumer is gone, and the second publish of the same thing is told
// apart by its expectation.
func TestCrashBetweenPublishAndAck(t *testing.T) {
	c := bustest.Start(t)
	publish(t, c, bus.Message{Subject: subject, Data: []byte("{}")})
	work := func(c *bus.Conn, d *bus.Delivery) error {
		_, err := c.Publish(context.Background(), bus.Message{Subject: "effects.ghl.a.contact.x", Data: d.Data, Expect: &bus.Expect{Subject: "effects.ghl.a.contact.x"}})
		if errors.Is(err, bus.ErrWrongSequence) {
			return nil // done before
		}
		return err
	}
	crashed := bustest.Again(t, c)
	done := make(chan struct{})
	stop := consume(t, crashed, bus.Subscription{}, func(d *bus.Delivery) {
		if d.Count == 1 {
			if err := work(crashed, d); err != nil {
				t.Error(err)
			}
			close(done) // and never answers
		}
	})
	<-done
	crashed.Close()
	defer stop()
	// The server would wait for 30 s; here it is told that the ack is late.
	consumer, err := c.JetStream().Consumer(t.Context(), streams.RAW, "transform")
	if err != nil {
		t.Fatal(err)
	}
	cfg := consumer.CachedInfo().Config
	cfg.AckWait = 50 * time.Millisecond
	if _, err := c.JetStream().UpdateConsumer(t.Context(), streams.RAW, cfg); err != nil {
		t.Fatal(err)
	}
	var count atomic.Int64
	again := consume(t, c, bus.Subscription{}, func(d *bus.Delivery) { count.Store(int64(d.Count)); d.Done(work(c, d)) })
	bustest.Settled(t, c, streams.RAW, "transform")
	again()
	if count.Load() < 2 {
		t.Error("it did not come again")
	}
	info, err := c.JetStream().Stream(t.Context(), streams.EFFECTS)
	if err != nil || info.CachedInfo().State.Msgs != 1 {
		t.Errorf("it was done twice: %v", err)
	}
}

// TestPinned: of two instances one works; the other takes over.
func TestPinned(t *testing.T) {
	a := bustest.Start(t)
	b := bustest.Again(t, a)
	spec := streams.Hydrate("a")
	cfg := spec.Config()
	cfg.PinnedTTL = time.Second
	if _, err := a.JetStream().CreateConsumer(t.Context(), spec.Stream, cfg); err != nil {
		t.Fatal(err)
	}
	var byA, byB atomic.Int64
	run := func(c *bus.Conn, n *atomic.Int64) func() {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- c.Consume(ctx, bus.Subscription{Stream: spec.Stream, Durable: spec.Durable, Group: streams.PinnedGroup, Stage: "hydrate"},
				func(_ context.Context, d *bus.Delivery) { n.Add(1); d.Done(nil) })
		}()
		return func() { cancel(); <-done }
	}
	stopA := run(a, &byA)
	notice := func() { publish(t, a, bus.Message{Subject: "raw.ghl.a.contact.x.notice", Data: []byte("{}")}) }
	notice()
	bustest.Until(t, func() bool { return byA.Load() == 1 })
	stopB := run(b, &byB)
	defer stopB()
	for range 20 {
		notice()
	}
	bustest.Until(t, func() bool { return byA.Load()+byB.Load() == 21 })
	if byB.Load() != 0 {
		t.Errorf("the second instance worked on %d while the first was there", byB.Load())
	}
	stopA()
	publish(t, b, bus.Message{Subject: "raw.ghl.a.contact.x.notice", Data: []byte("{}")})
	bustest.Until(t, func() bool { return byB.Load() == 1 })
}

func TestScan(t *testing.T) {
	c := bustest.Start(t)
	var seen []uint64
	scan := func(filter string, since time.Time, each func(bus.Stored) error) error {
		seen = nil
		return c.Scan(t.Context(), streams.RAW, filter, since, func(m bus.Stored) error { seen = append(seen, m.Seq); return each(m) })
	}
	none := func(bus.Stored) error { return nil }
	if err := scan("raw.>", time.Time{}, none); err != nil || len(seen) != 0 {
		t.Errorf("of an empty stream: %v %v", seen, err)
	}
	for i := range 600 {
		publish(t, c, bus.Message{Subject: fmt.Sprintf("raw.ghl.a.contact.r%d.fetch", i%3), Data: []byte("{}")})
	}
	if err := scan("raw.>", time.Time{}, none); err != nil || len(seen) != 600 || seen[0] != 1 || seen[599] != 600 {
		t.Errorf("of all: %d, %v", len(seen), err)
	}
	if err := scan("raw.ghl.a.contact.r1.>", time.Time{}, none); err != nil || len(seen) != 200 || seen[0] != 2 {
		t.Errorf("of one: %d, %v", len(seen), err)
	}
	if err := scan("raw.>", time.Now().Add(time.Hour), none); err != nil || len(seen) != 0 {
		t.Errorf("of the future: %v %v", seen, err)
	}
	enough := errors.New("enough")
	if err := scan("raw.>", time.Time{}, func(bus.Stored) error { return enough }); !errors.Is(err, enough) || len(seen) != 1 {
		t.Errorf("stopped by its caller: %d, %v", len(seen), err)
	}
	if err := c.Scan(t.Context(), "NONE", "x", time.Time{}, none); err == nil {
		t.Error("of no stream")
	}
	seen = nil
	if err := c.ScanLast(t.Context(), streams.RAW, "raw.>", func(m bus.Stored) error { seen = append(seen, m.Seq); return nil }); err != nil || !slices.Equal(seen, []uint64{598, 599, 600}) {
		t.Errorf("of the last of each subject: %v, %v", seen, err)
	}
}

func TestPassed(t *testing.T) {
	c := bustest.Start(t)
	passed := func(seq uint64) bool {
		t.Helper()
		ok, err := c.Passed(t.Context(), streams.Transform(), seq)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	if passed(1) || !passed(0) {
		t.Error("a consumer that is not there has passed something, or has not passed nothing")
	}
	if err := c.EnsureConsumer(t.Context(), streams.Transform()); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		publish(t, c, bus.Message{Subject: "raw.ghl.a.contact.x.fetch", Data: []byte("{}")})
	}
	held := make(chan *bus.Delivery, 3)
	bustest.Go(t, func(ctx context.Context) error {
		return c.Consume(ctx, bus.Subscription{Stream: streams.RAW, Durable: streams.Transform().Durable}, func(_ context.Context, d *bus.Delivery) { held <- d })
	})
	first, second, third := <-held, <-held, <-held
	second.Done(nil)
	third.Done(nil)
	bustest.Until(t, func() bool {
		consumer, err := c.JetStream().Consumer(t.Context(), streams.RAW, streams.Transform().Durable)
		return err == nil && consumer.CachedInfo().NumAckPending == 1
	})
	if passed(1) || passed(3) {
		t.Error("what is under way has been passed")
	}
	first.Done(nil)
	bustest.Until(t, func() bool { return passed(3) })
	if passed(4) {
		t.Error("what is not there has been passed")
	}
}

func TestBuckets(t *testing.T) {
	c := bustest.Start(t)
	if _, err := c.Bucket(t.Context(), "NONE"); err == nil {
		t.Error("a bucket that is not there was opened")
	}
	kv, err := c.Bucket(t.Context(), streams.CURSORS)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if _, _, err := kv.Get(ctx, "k"); !errors.Is(err, bus.ErrNotFound) {
		t.Errorf("get: %v", err)
	}
	rev, err := kv.Create(ctx, "k", []byte("1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Create(ctx, "k", []byte("2")); !errors.Is(err, bus.ErrExists) {
		t.Errorf("create: %v", err)
	}
	if _, err := kv.Update(ctx, "k", []byte("3"), rev+7); !errors.Is(err, bus.ErrWrongSequence) {
		t.Errorf("update: %v", err)
	}
	if rev, err = kv.Update(ctx, "k", []byte("3"), rev); err != nil {
		t.Errorf("update: %v", err)
	}
	if err := kv.Delete(ctx, "k", rev+7); !errors.Is(err, bus.ErrWrongSequence) {
		t.Errorf("delete: %v", err)
	}
	if err := kv.Delete(ctx, "k", rev); err != nil {
		t.Errorf("delete: %v", err)
	}
	if _, err := kv.Create(ctx, "k", []byte("4")); err != nil {
		t.Errorf("create after delete: %v", err)
	}
}

func TestKeys(t *testing.T) {
	c := bustest.Start(t)
	kv, err := c.Bucket(t.Context(), streams.IDENTITY)
	if err != nil {
		t.Fatal(err)
	}
	const many = 1100 // more than the server gives at once
	var few, all []string
	for i := range many {
		key := fmt.Sprintf("a.child.ghl.p%d.note.n%d", i/3, i)
		if _, err := kv.Create(t.Context(), key, []byte("1")); err != nil {
			t.Fatal(err)
		}
		all = append(all, key)
		if i/3 == 7 {
			few = append(few, key)
		}
	}
	tests := []struct {
		name, pattern string
		want          []string
	}{
		{"none", "a.child.ghl.p9999.*.*", nil},
		{"those of one", "a.child.ghl.p7.*.*", few},
		{"one by its name", few[0], few[:1]},
		{"more than are given at once", "a.child.>", all},
		{"everything", ">", all},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := kv.Keys(t.Context(), tt.pattern)
			if slices.Sort(got); err != nil || !slices.Equal(got, slices.Sorted(slices.Values(tt.want))) {
				t.Errorf("got %d keys, %v; want %d", len(got), err, len(tt.want))
			}
		})
	}
	t.Run("not one that was deleted", func(t *testing.T) {
		if err := kv.Delete(t.Context(), few[1], 0); err != nil {
			t.Fatal(err)
		}
		got, err := kv.Keys(t.Context(), "a.child.ghl.p7.*.*")
		if slices.Sort(got); err != nil || !slices.Equal(got, []string{few[0], few[2]}) {
			t.Errorf("got %v, %v", got, err)
		}
	})
	t.Run("a caller that is gone is told so", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := kv.Keys(ctx, ">"); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

// BenchmarkKeys lists three keys of 3,000, as is done for each contact that is
// linked.
func BenchmarkKeys(b *testing.B) {
	c := bustest.Start(b)
	kv, err := c.Bucket(b.Context(), streams.IDENTITY)
	if err != nil {
		b.Fatal(err)
	}
	const n = 3000
	for i := range n {
		if _, err := kv.Create(b.Context(), fmt.Sprintf("a.child.ghl.p%d.note.n%d", i/3, i), []byte("1")); err != nil {
			b.Fatal(err)
		}
	}
	i := 0
	for b.Loop() {
		i++
		keys, err := kv.Keys(b.Context(), fmt.Sprintf("a.child.ghl.p%d.*.*", i%(n/3)))
		if err != nil || len(keys) != 3 {
			b.Fatal(len(keys), err)
		}
	}
}

func TestCoalesce(t *testing.T) {
	c := bustest.Start(t)
	spec := streams.Transform()
	if err := c.EnsureConsumer(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	const n = 200
	var last uint64
	for i := range n {
		last = publish(t, c, bus.Message{Subject: fmt.Sprintf("raw.ghl.a.contact.r%d.fetch", i%2), Data: []byte("{}")}).Seq
	}
	var runs atomic.Int64
	var mu sync.Mutex
	active, newest := map[string]bool{}, map[string]uint64{}
	release := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- bus.Coalesce(ctx, c, clock.System{}, bus.Subscription{Stream: spec.Stream, Durable: spec.Durable, Stage: "transform"}, 4,
			func(m bus.Stored) string { return m.Subject },
			func(_ context.Context, m bus.Stored, _ int) error {
				mu.Lock()
				if active[m.Subject] {
					t.Error("one key is worked on twice at once")
				}
				active[m.Subject] = true
				mu.Unlock()
				if runs.Add(1) <= 2 {
					<-release // meanwhile the others pile up
				}
				mu.Lock()
				active[m.Subject], newest[m.Subject] = false, max(newest[m.Subject], m.Seq)
				mu.Unlock()
				return nil
			})
	}()
	bustest.Until(t, func() bool { return runs.Load() == 2 })
	bustest.Until(t, func() bool {
		consumer, err := c.JetStream().Consumer(t.Context(), spec.Stream, spec.Durable)
		if err != nil {
			return false
		}
		info, err := consumer.Info(t.Context())
		return err == nil && info.NumPending == 0
	})
	close(release)
	bustest.Settled(t, c, spec.Stream, spec.Durable)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := runs.Load(); got > 40 { // a few, on a busy machine
		t.Errorf("%d messages of two keys took %d runs", n, got)
	}
	if got := max(newest["raw.ghl.a.contact.r0.fetch"], newest["raw.ghl.a.contact.r1.fetch"]); got != last {
		t.Errorf("the newest seen is %d, want %d", got, last)
	}
}

// TestUrgentOvertakes: of many keys that wait, the one that somebody has just
// changed is worked on next, whether it has been handed out or not.
func TestUrgentOvertakes(t *testing.T) {
	c := bustest.Start(t)
	spec := streams.Transform()
	if err := c.EnsureConsumer(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	const n = 100
	for i := range n {
		publish(t, c, bus.Message{Subject: fmt.Sprintf("raw.ghl.a.contact.r%d.backfill", i), Data: []byte("{}")})
	}
	release := make(chan struct{})
	var mu sync.Mutex
	var order []string
	worked := func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(order)
	}
	var listens, marked atomic.Bool
	var held atomic.Int32
	bustest.Go(t, func(ctx context.Context) error {
		return bus.Coalesce(ctx, c, clock.System{}, bus.Subscription{Stream: spec.Stream, Durable: spec.Durable, Stage: "transform",
			Class:   func(bus.Stored) string { held.Add(1); return "" }, // asked of each key that waits
			Filters: []string{"raw.>"}, Urgent: func(m bus.Stored) bool {
				listens.Store(true)
				marked.Store(strings.HasSuffix(m.Subject, ".poll"))
				return strings.HasSuffix(m.Subject, ".fetch")
			}}, 2,
			func(m bus.Stored) string { return strings.Split(m.Subject, ".")[4] },
			func(_ context.Context, m bus.Stored, _ int) error {
				mu.Lock()
				order = append(order, strings.Split(m.Subject, ".")[4])
				mu.Unlock()
				<-release
				return nil
			})
	})
	bustest.Until(t, func() bool { return len(worked()) == 2 && held.Load() == n }) // there is something to overtake
	// Until it listens, nothing is asked for.
	bustest.Until(t, func() bool {
		publish(t, c, bus.Message{Subject: "raw.ghl.a.contact.r0.backfill", Data: []byte("{}")})
		return listens.Load()
	})
	for _, key := range []string{"r99", "new"} {
		publish(t, c, bus.Message{Subject: "raw.ghl.a.contact." + key + ".fetch", Data: []byte("{}")})
	}
	publish(t, c, bus.Message{Subject: "raw.ghl.a.contact.r0.poll", Data: []byte("{}")})
	bustest.Until(t, marked.Load)
	release <- struct{}{}
	release <- struct{}{}
	bustest.Until(t, func() bool { return len(worked()) == 4 })
	next := worked()[2:]
	close(release)
	bustest.Settled(t, c, spec.Stream, spec.Durable)
	if !slices.Contains(next, "r99") || !slices.Contains(next, "new") {
		t.Errorf("after the first two come %v", next)
	}
	if all := worked(); len(all) < n+1 {
		t.Errorf("%d of %d keys were worked on", len(all), n+1)
	}
}

// TestClasses: what waits for one system keeps nothing of another's waiting.
func TestClasses(t *testing.T) {
	c := bustest.Start(t)
	spec := streams.Transform()
	if err := c.EnsureConsumer(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	const workers = 2
	for i := range 5 * workers {
		publish(t, c, bus.Message{Subject: fmt.Sprintf("raw.ghl.a.contact.r%d.fetch", i), Data: []byte("{}")})
	}
	publish(t, c, bus.Message{Subject: "raw.novi.a.contact.last.fetch", Data: []byte("{}")})
	var slow, most atomic.Int64
	novi, release := make(chan struct{}), make(chan struct{})
	bustest.Go(t, func(ctx context.Context) error {
		return bus.Coalesce(ctx, c, clock.System{}, bus.Subscription{Stream: spec.Stream, Durable: spec.Durable, Stage: "transform",
			Class: func(m bus.Stored) string { return strings.Split(m.Subject, ".")[1] }}, workers,
			func(m bus.Stored) string { return m.Subject },
			func(_ context.Context, m bus.Stored, _ int) error {
				if strings.HasPrefix(m.Subject, "raw.novi") {
					close(novi)
					return nil
				}
				if n := slow.Add(1); n > most.Load() {
					most.Store(n)
				}
				<-release
				slow.Add(-1)
				return nil
			})
	})
	bustest.Until(t, func() bool { return slow.Load() == workers })
	<-novi
	close(release)
	bustest.Settled(t, c, spec.Stream, spec.Durable)
	if got := most.Load(); got > workers {
		t.Errorf("%d of one class were worked on at once, want %d", got, workers)
	}
}

func BenchmarkPublishAsync(b *testing.B) {
	s, err := natsembed.Start(natsembed.Options{StoreDir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Shutdown()
	c, err := bus.Connect(b.Context(), bus.Options{URL: s.URL()})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	if _, err := c.JetStream().CreateStream(b.Context(), jetstream.StreamConfig{Name: "RAW", Subjects: []string{"raw.>"}}); err != nil {
		b.Fatal(err)
	}
	data := make([]byte, 1500)
	b.SetBytes(int64(len(data)))
	var wg sync.WaitGroup
	for b.Loop() {
		wg.Add(1)
		if err := c.PublishAsync(b.Context(), bus.Message{Subject: subject, Data: data}, func(_ bus.Ack, err error) {
			if err != nil {
				b.Error(err)
			}
			wg.Done()
		}); err != nil {
			b.Fatal(err)
		}
	}
	wg.Wait()
}
