package check_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/nats-io/jsm.go"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/causeway-sync/causeway/internal/natsembed"
	"github.com/causeway-sync/causeway/streams"
)

func connect(t *testing.T, url string) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return nc, js
}

// TestBackupAndRestore backs every stream and bucket of one server up as `nats
// account backup` does, restores them on an empty cluster as `nats account
// restore` does, puts them on all three of its servers, and finds the same
// messages under the same sequences, and the consumer where it was.
func TestBackupAndRestore(t *testing.T) {
	ctx := context.Background()
	one, err := natsembed.Start(natsembed.Options{StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(one.Shutdown)
	from, js := connect(t, one.URL())
	if _, err := streams.Apply(ctx, js, false); err != nil {
		t.Fatal(err)
	}
	consumer := streams.Transform()
	if err := streams.EnsureConsumer(ctx, js, consumer); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		for _, subject := range []string{"raw.ghl.alpine-guild.contact.c%d.fetch", "canonical.contact.alpine-guild.e%d.updated", "effects.novi.alpine-guild.contact.e%d"} {
			if _, err := js.Publish(ctx, fmt.Sprintf(subject, i%7), fmt.Appendf(nil, "%d", i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	kv, err := js.KeyValue(ctx, streams.CURSORS)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.PutString(ctx, "alpine-guild.ghl.contact", "page 7"); err != nil {
		t.Fatal(err)
	}
	c, err := js.Consumer(ctx, consumer.Stream, consumer.Durable)
	if err != nil {
		t.Fatal(err)
	}
	batch, err := c.Fetch(5)
	if err != nil {
		t.Fatal(err)
	}
	for m := range batch.Messages() {
		if err := m.DoubleAck(ctx); err != nil {
			t.Fatal(err)
		}
	}

	dir := t.TempDir()
	manager, err := jsm.New(from)
	if err != nil {
		t.Fatal(err)
	}
	all, _, _, err := manager.Streams(nil)
	if err != nil {
		t.Fatal(err)
	}
	want := len(streams.Streams()) + len(streams.Buckets())
	if len(all) != want {
		t.Fatalf("%d streams to back up, want %d", len(all), want)
	}
	for _, s := range all {
		if _, err := s.SnapshotToDirectory(ctx, filepath.Join(dir, s.Name()), jsm.SnapshotConsumers()); err != nil {
			t.Fatalf("back up %s: %v", s.Name(), err)
		}
	}

	three, err := natsembed.StartCluster(t.TempDir(), 3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(three.Shutdown)
	to, restored := connect(t, three.Servers[0].URL())
	manager, err = jsm.New(to)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if _, _, err := manager.RestoreSnapshotFromDirectory(ctx, s.Name(), filepath.Join(dir, s.Name())); err != nil {
			t.Fatalf("restore %s: %v", s.Name(), err)
		}
	}
	if _, err := streams.Replicate(ctx, restored, 3, false); err != nil {
		t.Fatal(err)
	}
	differences, err := streams.Diff(ctx, restored)
	if err != nil || len(differences) > 0 {
		t.Errorf("the restored topology differs: %v, %v", differences, err)
	}
	for _, name := range []string{streams.RAW, streams.CANONICAL, streams.EFFECTS} {
		a, err := js.Stream(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		b, err := restored.Stream(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		for seq := uint64(1); seq <= 20; seq++ {
			x, err := a.GetMsg(ctx, seq)
			if err != nil {
				t.Fatal(err)
			}
			y, err := b.GetMsg(ctx, seq)
			if err != nil {
				t.Fatalf("message %d of %s: %v", seq, name, err)
			}
			if x.Subject != y.Subject || string(x.Data) != string(y.Data) || !x.Time.Equal(y.Time) {
				t.Errorf("message %d of %s is %s %q, was %s %q", seq, name, y.Subject, y.Data, x.Subject, x.Data)
			}
		}
	}
	kv, err = restored.KeyValue(ctx, streams.CURSORS)
	if err != nil {
		t.Fatal(err)
	}
	if e, err := kv.Get(ctx, "alpine-guild.ghl.contact"); err != nil || string(e.Value()) != "page 7" {
		t.Errorf("the cursor is %v, %v", e, err)
	}
	c, err = restored.Consumer(ctx, consumer.Stream, consumer.Durable)
	if err != nil {
		t.Fatal(err)
	}
	if floor := c.CachedInfo().AckFloor.Stream; floor != 5 {
		t.Errorf("the consumer is at %d, was at 5", floor)
	}
}
