package gap_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goccy/go-json"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/natsembed"
	"github.com/causeway-sync/causeway/schemas"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
	"github.com/causeway-sync/causeway/transform/gap"
)

// fast is a clock on which what takes seconds takes hundredths.
type fast struct{ clock.System }

func (fast) After(d time.Duration) <-chan time.Time { return time.After(d / 50) }

// harness is a broker whose store a test can take hold of, a publisher that
// counts, what the transform does with RAW (acking it), and who looks for gaps.
type harness struct {
	t      *testing.T
	store  string
	addr   string
	server *natsembed.Server

	pub   *bus.Conn
	look  *bus.Conn
	taken atomic.Uint64 // the last sequence that the transform was handed
	stop  func()        // ends the looking
	n     int
}

func setup(t *testing.T) *harness {
	t.Helper()
	h := &harness{t: t, store: t.TempDir(), addr: "127.0.0.1:0"}
	h.start()
	t.Cleanup(func() { h.server.Shutdown() })
	h.pub, h.look = h.connect(), h.connect()
	if _, err := streams.Ensure(t.Context(), h.look.JetStream()); err != nil {
		t.Fatal(err)
	}
	if err := h.look.EnsureConsumer(t.Context(), streams.Transform()); err != nil {
		t.Fatal(err)
	}
	if err := h.pub.Count(t.Context()); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *harness) start() {
	h.t.Helper()
	var err error
	if h.server, err = natsembed.Start(natsembed.Options{StoreDir: h.store, Listen: h.addr}); err != nil {
		h.t.Fatal(err)
	}
	h.addr = strings.TrimPrefix(h.server.URL(), "nats://")
}

func (h *harness) connect() *bus.Conn {
	h.t.Helper()
	c, err := bus.Connect(h.t.Context(), bus.Options{URL: "nats://" + h.addr, Name: h.t.Name(), Clock: fast{}, Logger: zerolog.Nop()})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(c.Close)
	return c
}

// consume acks what is on RAW, as the transform does.
func (h *harness) consume() {
	bustest.Go(h.t, func(ctx context.Context) error {
		return h.look.Consume(ctx, bus.Subscription{Stream: streams.RAW, Durable: streams.Transform().Durable}, func(_ context.Context, d *bus.Delivery) {
			h.taken.Store(d.Seq)
			d.Done(nil)
		})
	})
}

// watch looks for gaps.
func (h *harness) watch(metrics prometheus.Registerer) {
	h.stop = bustest.Go(h.t, func(ctx context.Context) error {
		return gap.Run(ctx, gap.Config{Bus: h.look, Clock: fast{}, Logger: zerolog.Nop(), Every: time.Second, Metrics: metrics})
	})
}

// publish stores n notices about records of kind and returns the last sequence.
func (h *harness) publish(kind canonical.Kind, n, size int) uint64 {
	h.t.Helper()
	var last uint64
	for range n {
		h.n++
		last = h.put(h.pub, kind, fmt.Sprint("r", h.n), size).Seq
	}
	return last
}

func (h *harness) put(c *bus.Conn, kind canonical.Kind, id string, size int) bus.Ack {
	h.t.Helper()
	body := make([]byte, size)
	noise := rand.NewChaCha8([32]byte{byte(h.n), byte(h.n >> 8)})
	_, _ = noise.Read(body) // never fails
	o := observation.Observation{System: canonical.GHL, Tenant: "guild", Kind: kind, ExternalID: canonical.ExternalID(id), Via: observation.Notice}
	var ack bus.Ack
	bustest.Until(h.t, func() (ok bool) {
		var err error
		ack, err = c.Publish(h.t.Context(), bus.Message{Subject: streams.Raw(o), ID: id, Data: body})
		return err == nil // the broker may be on its way back
	})
	return ack
}

// counted waits until RAW has been counted up to seq, and every receipt has
// been compared.
func (h *harness) counted(seq uint64) {
	h.t.Helper()
	kv, err := h.look.Bucket(h.t.Context(), streams.COUNTS)
	if err != nil {
		h.t.Fatal(err)
	}
	bustest.Until(h.t, func() bool {
		var a struct {
			Seq        uint64
			Publishers map[string]struct {
				Lanes map[string]struct{ Above []streams.NumberRange }
			}
		}
		value, _, err := kv.Get(h.t.Context(), streams.AuditKey)
		if err != nil || json.Unmarshal(value, &a) != nil || a.Seq < seq {
			return false
		}
		for name, p := range a.Publishers {
			if _, _, err := kv.Get(h.t.Context(), streams.ReceiptKey(name)); err != nil {
				continue // it died before it noted anything
			}
			for _, l := range p.Lanes {
				if len(l.Above) > 0 {
					return false
				}
			}
		}
		return true
	})
}

// offline does something to the store while the broker is down.
func (h *harness) offline(f func(raw string)) {
	h.t.Helper()
	h.server.Shutdown()
	f(filepath.Join(h.store, "jetstream", "$G", "streams", streams.RAW))
	h.start()
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// gaps waits until as many are open as there are, and returns them.
func (h *harness) gaps(n int) []envelope.Gap {
	h.t.Helper()
	var open []envelope.Gap
	bustest.Until(h.t, func() bool {
		var err error
		open, err = gap.Open(h.t.Context(), h.look)
		return err == nil && len(open) == n
	})
	return open
}

// asked waits until a reconcile is asked for, and returns it.
func (h *harness) asked() streams.Reconcile {
	h.t.Helper()
	kv, err := h.look.Bucket(h.t.Context(), streams.CURSORS)
	if err != nil {
		h.t.Fatal(err)
	}
	var doc streams.Reconcile
	bustest.Until(h.t, func() bool {
		value, _, err := kv.Get(h.t.Context(), streams.ReconcileKey(canonical.GHL, "guild"))
		return err == nil && json.Unmarshal(value, &doc) == nil && doc.State == streams.ReconcileAsked
	})
	return doc
}

// end says of a reconcile that it has ended.
func (h *harness) end(doc streams.Reconcile, state streams.ReconcileState) {
	h.t.Helper()
	kv, err := h.look.Bucket(h.t.Context(), streams.CURSORS)
	if err != nil {
		h.t.Fatal(err)
	}
	doc.State = state
	value, err := json.Marshal(doc)
	if err == nil {
		_, err = kv.Put(h.t.Context(), streams.ReconcileKey(canonical.GHL, "guild"), value)
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// never fails the test if there ever was a gap.
func (h *harness) never() {
	h.t.Helper()
	for _, m := range bustest.All(h.t, h.look, streams.GAPS) {
		h.t.Errorf("there is a gap: %s", m.Data)
	}
}

func kinds(gaps []envelope.Gap) []canonical.Kind {
	out := make([]canonical.Kind, 0, len(gaps))
	for _, g := range gaps {
		out = append(out, g.Kind)
	}
	return out
}

// TestRestoredStream: RAW alone is put back to an hour ago.
func TestRestoredStream(t *testing.T) {
	t.Parallel()
	h := setup(t)
	h.consume()
	metrics := prometheus.NewRegistry()
	h.watch(metrics)
	h.counted(h.publish(canonical.KindContact, 20, 100))
	backup := t.TempDir()
	h.offline(func(raw string) { copyTree(t, raw, backup) })
	last := h.publish(canonical.KindTask, 10, 100)
	h.counted(last)
	h.never()
	h.offline(func(raw string) { copyTree(t, backup, raw) })

	got := h.gaps(1)[0]
	if got.Kind != canonical.KindTask || got.Reason != envelope.GapWentBack || got.After != 20 {
		t.Errorf("the gap is %+v, want what went back of the tasks after 20", got)
	}
	doc := h.asked()
	if !slices.Equal(doc.Kinds, []canonical.Kind{canonical.KindTask}) {
		t.Errorf("the kinds %v are to be read anew, want the tasks only", doc.Kinds)
	}
	families, err := metrics.Gather()
	if err != nil || !slices.ContainsFunc(families, func(f *dto.MetricFamily) bool { return f.GetName() == "causeway_gap_open" && len(f.GetMetric()) == 1 }) {
		t.Errorf("the metrics are %v, %v, want that a gap is open", families, err)
	}
	// What comes now has sequences that were there before, and is handed out and
	// counted all the same.
	again := h.publish(canonical.KindContact, 5, 100)
	if again > last {
		t.Fatalf("the stream did not go back: %d after %d", again, last)
	}
	bustest.Until(t, func() bool { return h.taken.Load() == again })
	h.end(doc, streams.ReconcileDone)
	h.gaps(0)
	h.counted(again)

	all := bustest.All(t, h.look, streams.GAPS)
	for _, m := range all {
		if err := schemas.Validate("causeway.gap.v1", m.Data); err != nil {
			t.Error(err)
		}
		if m.Subject != streams.Gap(canonical.GHL, "guild", canonical.KindTask) {
			t.Errorf("a gap on %s", m.Subject)
		}
	}
	var end envelope.Gap
	if err := json.Unmarshal(all[len(all)-1].Data, &end); err != nil || end.State != envelope.GapClosed || end.Closed.IsZero() {
		t.Errorf("the last word is %+v, %v, want that it is closed", end, err)
	}
}

// TestLostTail: the end of the newest file of RAW is not there any more, as
// after a power cut.
func TestLostTail(t *testing.T) {
	t.Parallel()
	h := setup(t)
	h.consume()
	h.watch(nil)
	h.publish(canonical.KindContact, 20, 100)
	h.counted(h.publish(canonical.KindNote, 3, 5000))
	h.offline(func(raw string) {
		blocks := blocks(t, raw)
		file := blocks[len(blocks)-1]
		info, err := os.Stat(file)
		if err == nil {
			err = os.Truncate(file, info.Size()-12_000) // within the second from the end
		}
		if err == nil {
			err = os.Remove(filepath.Join(raw, "msgs", "index.db"))
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	if got := h.gaps(1); got[0].Kind != canonical.KindNote || got[0].Reason != envelope.GapWentBack {
		t.Errorf("the gaps are %+v, want that of the notes", got)
	}
}

// blocks returns the files of RAW's messages, from the oldest.
func blocks(t *testing.T, raw string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(raw, "msgs", "*.blk"))
	if err != nil || len(all) == 0 {
		t.Fatalf("no blocks in %s: %v", raw, err)
	}
	slices.SortFunc(all, func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
	return all
}

// TestLostBlock: a file in the middle of RAW is lost before the transform has
// read it.
func TestLostBlock(t *testing.T) {
	t.Parallel()
	h := setup(t)
	h.publish(canonical.KindContact, 200, 100)
	h.publish(canonical.KindTask, 100, 200_000)
	last := h.publish(canonical.KindContact, 5, 100)
	var lost uint64
	h.offline(func(raw string) {
		all := blocks(t, raw)
		if len(all) < 3 {
			t.Fatalf("%d blocks, want three", len(all))
		}
		if err := os.Remove(all[1]); err != nil {
			t.Fatal(err)
		}
	})
	h.consume()
	h.watch(nil)
	got := h.gaps(1)[0]
	info, err := h.look.JetStream().Stream(t.Context(), streams.RAW)
	if err != nil {
		t.Fatal(err)
	}
	if lost = last - info.CachedInfo().State.Msgs; lost == 0 {
		t.Fatal("nothing is lost")
	}
	if got.Kind != canonical.KindTask || got.Reason != envelope.GapMissing || got.Missing != lost {
		t.Errorf("the gap is %+v, want %d missing tasks", got, lost)
	}
	if doc := h.asked(); doc.Max != 1000+int(lost) || !slices.Equal(doc.Kinds, []canonical.Kind{canonical.KindTask}) {
		t.Errorf("asked for %+v", doc)
	}
}

// TestRestoredBroker: the whole store, all that was counted with it, is put
// back; the publishers know better.
func TestRestoredBroker(t *testing.T) {
	t.Parallel()
	h := setup(t)
	h.consume()
	h.watch(nil)
	h.counted(h.publish(canonical.KindContact, 20, 100))
	backup, all := t.TempDir(), filepath.Join(h.store, "jetstream")
	h.offline(func(string) { copyTree(t, all, backup) })
	h.counted(h.publish(canonical.KindTask, 10, 100))
	h.publish(canonical.KindContact, 4, 100)
	h.offline(func(string) { copyTree(t, backup, all) })
	h.counted(h.publish(canonical.KindContact, 2, 100))

	got := h.gaps(2)
	if !slices.Equal(kinds(got), []canonical.Kind{canonical.KindContact, canonical.KindTask}) {
		t.Fatalf("the gaps are %+v, want those of the contacts and the tasks", got)
	}
	if got[0].Missing != 4 || got[1].Missing != 10 {
		t.Errorf("%d contacts and %d tasks are missing, want 4 and 10", got[0].Missing, got[1].Missing)
	}
}

// TestStreamMadeAnew: somebody has deleted RAW.
func TestStreamMadeAnew(t *testing.T) {
	t.Parallel()
	h := setup(t)
	h.consume()
	h.watch(nil)
	h.publish(canonical.KindTask, 3, 100)
	h.counted(h.publish(canonical.KindContact, 20, 100))
	if err := h.look.JetStream().DeleteStream(t.Context(), streams.RAW); err != nil {
		t.Fatal(err)
	}
	if _, err := streams.Ensure(t.Context(), h.look.JetStream()); err != nil {
		t.Fatal(err)
	}
	if err := h.look.EnsureConsumer(t.Context(), streams.Transform()); err != nil {
		t.Fatal(err)
	}
	for _, g := range h.gaps(2) {
		if g.Reason != envelope.GapWentBack {
			t.Errorf("the gap is %+v", g)
		}
	}
	h.counted(h.publish(canonical.KindContact, 3, 100))
}

// TestHeldSweep: a reconcile that a person has to look at closes nothing, and
// theirs does.
func TestHeldSweep(t *testing.T) {
	t.Parallel()
	h := setup(t)
	h.consume()
	h.watch(nil)
	h.counted(h.publish(canonical.KindContact, 5, 100))
	backup := t.TempDir()
	h.offline(func(raw string) { copyTree(t, raw, backup) })
	h.counted(h.publish(canonical.KindContact, 5, 100))
	h.offline(func(raw string) { copyTree(t, backup, raw) })
	doc := h.asked()
	h.end(doc, streams.ReconcileHeld)
	bustest.Until(t, func() bool {
		open, err := gap.Open(t.Context(), h.look)
		return err == nil && len(open) == 1 && strings.Contains(open[0].Trouble, doc.ID)
	})
	// Another one of other records, and one that only reports, are not it.
	began := time.Now().Add(2 * time.Minute)
	h.end(streams.Reconcile{ID: "other", Kinds: []canonical.Kind{canonical.KindTask}, Began: began}, streams.ReconcileDone)
	h.end(streams.Reconcile{ID: "dry", DryRun: true, Began: began}, streams.ReconcileDone)
	h.counted(h.publish(canonical.KindContact, 5, 100))
	if got := h.gaps(1)[0]; got.Trouble == "" {
		t.Errorf("the gap is %+v", got)
	}
	h.end(streams.Reconcile{ID: "theirs", Began: began}, streams.ReconcileDone)
	h.gaps(0)
}

// TestPipelinesOwnWord: what no system shows is for a person.
func TestPipelinesOwnWord(t *testing.T) {
	t.Parallel()
	h := setup(t)
	h.watch(nil)
	for i := range 5 {
		m := bus.Message{Subject: fmt.Sprintf("raw.rule.guild.task.f%d.rule", i), Data: []byte("{}")}
		if _, err := h.pub.Publish(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	s, err := h.look.JetStream().Stream(t.Context(), streams.RAW)
	if err == nil {
		err = s.DeleteMsg(t.Context(), 3)
	}
	if err != nil {
		t.Fatal(err)
	}
	h.consume()
	bustest.Until(t, func() bool { return h.gaps(1)[0].Trouble != "" })
	if err := gap.Close(t.Context(), h.look, canonical.Rule, "guild", canonical.KindTask, time.Now()); err != nil {
		t.Fatal(err)
	}
	h.gaps(0)
	if err := gap.Close(t.Context(), h.look, canonical.Rule, "guild", canonical.KindTask, time.Now()); !errors.Is(err, gap.ErrNotOpen) {
		t.Errorf("got %v, want that it is closed already", err)
	}
	if all, err := gap.All(t.Context(), h.look); err != nil || len(all) != 1 || all[0].Missing != 1 {
		t.Errorf("got %+v, %v, want the one that was", all, err)
	}
}

// TestNoGap: what looks like one and is none.
func TestNoGap(t *testing.T) {
	t.Parallel()
	h := setup(t)
	h.consume()
	h.watch(nil)
	// Copies, which take a number and are dropped.
	for i := range 10 {
		h.put(h.pub, canonical.KindContact, fmt.Sprint("copy", i), 100)
		if ack := h.put(h.pub, canonical.KindContact, fmt.Sprint("copy", i), 100); !ack.Duplicate {
			t.Fatal("the copy was stored")
		}
	}
	// What was refused.
	refused := bus.Message{Subject: "raw.ghl.guild.contact.refused.notice", Expect: &bus.Expect{Subject: "raw.ghl.guild.contact.refused.notice", LastSeq: 99}}
	if _, err := h.pub.Publish(t.Context(), refused); !errors.Is(err, bus.ErrWrongSequence) {
		t.Fatalf("got %v", err)
	}
	// Publishers that come and go, and one that dies before it notes anything.
	for range 3 {
		c := h.connect()
		if err := c.Count(t.Context()); err != nil {
			t.Fatal(err)
		}
		h.n++
		h.put(c, canonical.KindNote, fmt.Sprint("r", h.n), 100)
		c.Close()
	}
	dead := h.connect()
	if err := dead.Count(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.put(dead, canonical.KindNote, "last-words", 100)
	dead.JetStream().Conn().Close()
	h.counted(h.publish(canonical.KindContact, 10, 100))

	// Erased, and removed by age, after it was counted.
	s, err := h.look.JetStream().Stream(t.Context(), streams.RAW)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(t.Context(), jetstream.WithPurgeSubject("raw.ghl.guild.contact.copy3.*")); err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(t.Context(), jetstream.WithPurgeSequence(8)); err != nil {
		t.Fatal(err)
	}
	// A broker that is away while somebody publishes: the number is used again
	// and again, and nobody knows of those before.
	h.offline(func(string) {
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			_, err := h.pub.Publish(ctx, bus.Message{Subject: "raw.ghl.guild.contact.away.notice", ID: "away", Data: []byte("{}")})
			cancel()
			if err == nil {
				t.Error("there is no broker, and it has confirmed")
			}
		}
	})
	h.counted(h.publish(canonical.KindContact, 10, 100))
	// Another instance takes over.
	h.stop()
	last := h.publish(canonical.KindTask, 10, 100)
	h.look = h.connect()
	h.watch(nil)
	h.counted(last)
	h.never()

	// Of the publishers that have ended nothing is left.
	kv, err := h.look.Bucket(t.Context(), streams.COUNTS)
	if err != nil {
		t.Fatal(err)
	}
	bustest.Until(t, func() bool {
		keys, err := kv.Keys(t.Context(), streams.ReceiptKeys)
		return err == nil && len(keys) == 1
	})
}
