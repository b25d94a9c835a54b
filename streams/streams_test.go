package streams_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/causeway-sync/causeway/internal/natsembed"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/streams"
)

var update = flag.Bool("update", false, "rewrite the golden file")

func broker(t *testing.T) jetstream.JetStream {
	t.Helper()
	s, err := natsembed.Start(natsembed.Options{StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close(); s.Shutdown() })
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

const golden = "testdata/topology.json"

// TestGolden renders the table as the nats command would read it, so that a
// change of the topology is seen in review.
func TestGolden(t *testing.T) {
	var consumers []jetstream.ConsumerConfig
	for _, c := range []streams.Consumer{streams.Transform(), streams.Tags(), streams.Hydrate("tenant"), streams.Sink(canonical.GHL, "tenant"), streams.Sink(canonical.Novi, "tenant")} {
		consumers = append(consumers, c.Config())
	}
	got, err := json.MarshalIndent(map[string]any{"revision": streams.Revision, "streams": streams.Streams(), "buckets": streams.Buckets(), "consumers": consumers}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("the topology changed (raise Revision, and run with -update):\n%s", d)
	}
}

func TestSubjectsDoNotOverlap(t *testing.T) {
	seen := map[string]string{}
	for _, s := range streams.Streams() {
		for _, subject := range s.Subjects {
			first, rest, _ := strings.Cut(subject, ".")
			if rest != ">" || seen[first] != "" {
				t.Errorf("%s: %s overlaps with %s, or is no whole tree", s.Name, subject, seen[first])
			}
			seen[first] = s.Name
		}
	}
}

func TestApply(t *testing.T) {
	js, ctx := broker(t), t.Context()
	dry, err := streams.Apply(ctx, js, true)
	if err != nil || len(dry) != len(streams.Streams())+len(streams.Buckets()) {
		t.Fatalf("dry run on an empty server: %v, %v", dry, err)
	}
	if again, _ := streams.Diff(ctx, js); len(again) != len(dry) {
		t.Fatal("the dry run changed something")
	}
	if _, err := streams.Apply(ctx, js, false); err != nil {
		t.Fatal(err)
	}
	if d, err := streams.Apply(ctx, js, false); err != nil || len(d) != 0 {
		t.Errorf("applied twice: %v, %v", d, err)
	}

	change := func(t *testing.T, f func(*jetstream.StreamConfig)) {
		t.Helper()
		s, err := js.Stream(ctx, streams.RAW)
		if err != nil {
			t.Fatal(err)
		}
		cfg := s.CachedInfo().Config
		f(&cfg)
		if _, err := js.UpdateStream(ctx, cfg); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("a harmless difference is explained and applied", func(t *testing.T) {
		change(t, func(c *jetstream.StreamConfig) { c.MaxAge, c.Description = time.Hour*24, "other" })
		d, err := streams.Apply(ctx, js, false)
		if err != nil || len(d) != 2 {
			t.Fatalf("got %v, %v", d, err)
		}
		if got, want := d[1].String(), "stream RAW: max_age is 24h0m0s, want 720h0m0s"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if d, err := streams.Diff(ctx, js); err != nil || len(d) != 0 {
			t.Errorf("left over: %v, %v", d, err)
		}
	})
	t.Run("a destructive one is refused, and nothing is changed", func(t *testing.T) {
		change(t, func(c *jetstream.StreamConfig) { c.MaxAge, c.Description = 0, "other" })
		d, err := streams.Apply(ctx, js, false)
		if !errors.Is(err, streams.ErrDestructive) || len(d) != 2 {
			t.Fatalf("got %v, %v", d, err)
		}
		s, err := js.Stream(ctx, streams.RAW)
		if err != nil || s.CachedInfo().Config.Description != "other" {
			t.Error("something was changed all the same")
		}
		change(t, func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour })
		if _, err := streams.Apply(ctx, js, false); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("what is the operator's stays", func(t *testing.T) {
		change(t, func(c *jetstream.StreamConfig) { c.MaxBytes, c.Description = 1<<30, "other" })
		if _, err := streams.Apply(ctx, js, false); err != nil {
			t.Fatal(err)
		}
		s, err := js.Stream(ctx, streams.RAW)
		if err != nil || s.CachedInfo().Config.MaxBytes != 1<<30 {
			t.Error("the size limit was undone")
		}
	})
	t.Run("what a newer revision set is left alone", func(t *testing.T) {
		change(t, func(c *jetstream.StreamConfig) {
			c.Metadata["causeway-revision"], c.MaxAge = "99", time.Hour
		})
		d, err := streams.Apply(ctx, js, false)
		if err != nil || len(d) != 1 || !d[0].Newer {
			t.Fatalf("got %v, %v", d, err)
		}
		if left, err := streams.Ensure(ctx, js); err != nil || len(left) != 1 {
			t.Errorf("a binary does not start: %v, %v", left, err)
		}
		s, err := js.Stream(ctx, streams.RAW)
		if err != nil || s.CachedInfo().Config.MaxAge != time.Hour {
			t.Error("it was undone")
		}
	})
}

func TestEnsure(t *testing.T) {
	js, ctx := broker(t), t.Context()
	// Two binaries that start together.
	errs := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := streams.Ensure(ctx, js)
			errs <- err
		}()
	}
	for range 2 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if d, err := streams.Diff(ctx, js); err != nil || len(d) != 0 {
		t.Errorf("left over: %v, %v", d, err)
	}
	if err := js.DeleteStream(ctx, streams.RAW); err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: streams.RAW, Subjects: []string{"raw.ghl.>"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := streams.Ensure(ctx, js); !errors.Is(err, streams.ErrIncompatible) {
		t.Errorf("subjects are missing, and it starts: %v", err)
	}
}

func TestEnsureConsumer(t *testing.T) {
	js, ctx := broker(t), t.Context()
	if _, err := streams.Ensure(ctx, js); err != nil {
		t.Fatal(err)
	}
	c := streams.Sink(canonical.GHL, "alpine-guild")
	all := c.Filters
	c.Filters = all[:1]
	for range 2 {
		if err := streams.EnsureConsumer(ctx, js, c); err != nil {
			t.Fatal(err)
		}
	}
	c.Filters = all
	if err := streams.EnsureConsumer(ctx, js, c); err != nil {
		t.Errorf("filters that were added: %v", err)
	}
	if have, err := js.Consumer(ctx, c.Stream, c.Durable); err != nil || len(have.CachedInfo().Config.FilterSubjects) != len(all) {
		t.Errorf("the filters are not there: %v", err)
	}
	c.Filters = []string{"canonical.>"}
	if err := streams.EnsureConsumer(ctx, js, c); err != nil {
		t.Errorf("one filter in place of all: %v", err)
	}
	if have, err := js.Consumer(ctx, c.Stream, c.Durable); err != nil || !slices.Equal(have.CachedInfo().Config.FilterSubjects, c.Filters) {
		t.Errorf("the wide filter is not there: %v", err)
	}
	c.Filters = []string{"canonical.contact.other.*.*"}
	if err := streams.EnsureConsumer(ctx, js, c); err == nil {
		t.Error("a consumer with other filters was taken for ours")
	}
	c.Stream = "NONE"
	if err := streams.EnsureConsumer(ctx, js, c); err == nil {
		t.Error("a consumer on no stream")
	}
}

func TestStatus(t *testing.T) {
	js, ctx := broker(t), t.Context()
	if got, err := streams.Status(ctx, js); err != nil || len(got) != 0 {
		t.Fatalf("without streams: %v, %v", got, err)
	}
	if _, err := streams.Ensure(ctx, js); err != nil {
		t.Fatal(err)
	}
	if err := streams.EnsureConsumer(ctx, js, streams.Transform()); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := js.Publish(ctx, "raw.ghl.a.contact.x.fetch", []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	// A consumer counts a message a moment after the publisher has its answer.
	var got []streams.StreamStatus
	for {
		var err error
		if got, err = streams.Status(ctx, js); err != nil || len(got) != len(streams.Streams()) {
			t.Fatalf("got %v, %v", got, err)
		}
		if c := got[0].Consumers; len(c) != 1 || c[0].Pending == 3 {
			break
		}
	}
	raw := got[0]
	if raw.Messages != 3 || raw.Last != 3 || raw.LastTime.IsZero() || len(raw.Consumers) != 1 {
		t.Errorf("got %+v", raw)
	}
	dead, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := streams.Status(dead, js); err == nil {
		t.Error("a status without an answer")
	}
}

func TestReplicate(t *testing.T) {
	c, err := natsembed.StartCluster(t.TempDir(), 3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Shutdown)
	nc, err := nats.Connect(c.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if _, err := streams.Ensure(ctx, js); err != nil {
		t.Fatal(err)
	}
	all := len(streams.Streams()) + len(streams.Buckets())
	if d, err := streams.Replicate(ctx, js, 3, true); err != nil || len(d) != all {
		t.Fatalf("dry run: %v, %v", d, err)
	}
	d, err := streams.Replicate(ctx, js, 3, false)
	if err != nil || len(d) != all {
		t.Fatalf("got %v, %v", d, err)
	}
	if got, want := d[len(d)-1].String(), "stream RAW: replicas is 1, want 3"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if d, err := streams.Replicate(ctx, js, 3, true); err != nil || len(d) != 0 {
		t.Errorf("left over: %v, %v", d, err)
	}
	if d, err := streams.Apply(ctx, js, false); err != nil || len(d) != 0 {
		t.Errorf("apply undoes it: %v, %v", d, err)
	}
	if _, err := streams.Replicate(ctx, js, 5, false); err == nil {
		t.Error("more replicas than servers")
	}
}
