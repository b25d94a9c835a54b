package dead_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/dead"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/effect"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

const tenant = canonical.Tenant("alpine-guild")

var noon = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// bench is a broker, and stages that the test plays.
type bench struct {
	*bus.Conn
	t *testing.T
}

func setup(t *testing.T) bench {
	t.Helper()
	return bench{bustest.Start(t), t}
}

func (b bench) publish(m bus.Message) bus.Ack {
	b.t.Helper()
	ack, err := b.Publish(b.t.Context(), m)
	if err != nil {
		b.t.Fatal(err)
	}
	return ack
}

func (b bench) bury(l envelope.DeadLetter) dead.Letter {
	b.t.Helper()
	data, err := json.Marshal(l)
	if err != nil {
		b.t.Fatal(err)
	}
	key := streams.Dead(l.Stage, l.Tenant, l.Kind, l.ID)
	b.publish(bus.Message{Subject: key, Data: data})
	out, err := dead.Get(b.t.Context(), b, key)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// see publishes an observation of contact x.
func (b bench) see(via observation.Via, record string) bus.Ack {
	b.t.Helper()
	o := observation.Observation{System: canonical.GHL, Tenant: tenant, Kind: canonical.KindContact, ExternalID: "x", Via: via, Record: []byte(record)}
	data, err := o.Encode()
	if err != nil {
		b.t.Fatal(err)
	}
	return b.publish(bus.Message{Subject: streams.Raw(o), Data: data})
}

func rawLetter(stage string, via observation.Via, seq uint64) envelope.DeadLetter {
	return envelope.DeadLetter{Stage: stage, Tenant: tenant, Kind: canonical.KindContact, ID: "x", Reason: "no", At: noon, Stream: streams.RAW, Sequence: seq,
		Subject: "raw.ghl.alpine-guild.contact.x." + string(via)}
}

func sinkLetter(seq uint64) envelope.DeadLetter {
	return envelope.DeadLetter{Stage: "sink-novi", Tenant: tenant, Kind: canonical.KindContact, ID: "e", Class: envelope.Data, Reason: "no", At: noon, Stream: streams.CANONICAL, Sequence: seq,
		Subject: streams.Canonical(canonical.KindContact, tenant, "e", canonical.OpUpdated)}
}

func (b bench) redrive(l dead.Letter) (string, error) {
	return dead.Redrive(b.t.Context(), b, l, noon)
}

// lastRaw is the last observation.
func (b bench) lastRaw() (bus.Stored, observation.Observation) {
	b.t.Helper()
	m, err := b.Last(b.t.Context(), streams.RAW, "raw.>")
	if err != nil {
		b.t.Fatal(err)
	}
	o, err := observation.Decode(m.Data)
	if err != nil {
		b.t.Fatal(err)
	}
	return m, o
}

func TestFind(t *testing.T) {
	b := setup(t)
	b.bury(sinkLetter(1))
	b.bury(rawLetter("transform", observation.Fetch, 1))
	late := rawLetter("hydrate", observation.Notice, 1)
	late.Tenant, late.At, late.Kind = "other", noon.Add(time.Hour), canonical.KindTask
	b.bury(late)
	tests := []struct {
		name   string
		filter dead.Filter
		want   string
	}{
		{"all", dead.Filter{}, "sink-novi transform hydrate"},
		{"a stage", dead.Filter{Stage: "transform"}, "transform"},
		{"both sinks", dead.Filter{Stage: "sink"}, "sink-novi"},
		{"one sink", dead.Filter{Stage: "sink-ghl"}, ""},
		{"a tenant", dead.Filter{Tenant: tenant}, "sink-novi transform"},
		{"a kind", dead.Filter{Kind: canonical.KindTask}, "hydrate"},
		{"a class", dead.Filter{Class: envelope.Data}, "sink-novi"},
		{"since", dead.Filter{Since: noon.Add(time.Minute)}, "hydrate"},
		{"dropped", dead.Filter{Dropped: true}, ""},
	}
	for _, tt := range tests {
		found, err := dead.Find(t.Context(), b, tt.filter)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, l := range found {
			got = append(got, l.Stage)
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: got %v, want %s", tt.name, got, tt.want)
		}
	}
}

func TestRedriveASink(t *testing.T) {
	b := setup(t)
	if _, err := b.redrive(b.bury(sinkLetter(1))); err != nil {
		t.Fatal(err)
	}
	if _, o := b.lastRaw(); o.Via != observation.Wake || o.System != canonical.Novi || o.Entity != "e" || o.Kind != canonical.KindContact {
		t.Errorf("got %+v", o)
	}
}

func TestRedriveWhatCameFromRAW(t *testing.T) {
	for stage, via := range map[string]observation.Via{"transform": observation.Fetch, "hydrate": observation.Notice} {
		b := setup(t)
		first := b.see(via, `{"n":1}`)
		l := b.bury(rawLetter(stage, via, first.Seq))
		for range 2 { // the second is no copy of the first
			if _, err := b.redrive(l); err != nil {
				t.Fatal(err)
			}
			l = b.bury(l.DeadLetter) // it fails again
		}
		m, o := b.lastRaw()
		if m.Seq != first.Seq+2 || m.Subject != l.Subject || string(o.Record) != `{"n":1}` {
			t.Errorf("%s: got %d %s %s", stage, m.Seq, m.Subject, o.Record)
		}
	}
}

func TestRedriveWhatIsGone(t *testing.T) {
	b := setup(t)
	b.see(observation.Poll, `{}`) // takes sequence 1, and is another's
	for _, seq := range []uint64{1, 700} {
		done, err := b.redrive(b.bury(rawLetter("transform", observation.Fetch, seq)))
		if _, o := b.lastRaw(); err != nil || !strings.Contains(done, "anew") || o.Via != observation.Notice || o.ExternalID != "x" {
			t.Errorf("got %q %v %+v", done, err, o)
		}
	}
}

func TestWhatCantBeRedriven(t *testing.T) {
	b := setup(t)
	door := envelope.DeadLetter{Stage: "ingest", Tenant: tenant, ID: "hash", Reason: "not for any tenant", At: noon, Body: []byte(`{}`)}
	fight := rawLetter("transform", observation.Fetch, 1)
	fight.ID = "e"
	for _, l := range []envelope.DeadLetter{door, fight} {
		if _, err := b.redrive(b.bury(l)); !errors.Is(err, dead.ErrFinal) {
			t.Errorf("%s: got %v", l.Reason, err)
		}
	}
	if n := len(bustest.All(t, b.Conn, streams.RAW)); n > 0 {
		t.Errorf("%d observations", n)
	}
	// What says nothing of a record is not said again: its entity is looked at.
	intent := rawLetter("transform", observation.Intent, 1)
	if _, err := b.redrive(b.bury(intent)); err != nil {
		t.Fatal(err)
	}
	if _, o := b.lastRaw(); o.Via != observation.Wake || o.Entity != "x" {
		t.Errorf("got %+v", o)
	}
}

func TestDropAndUndo(t *testing.T) {
	b := setup(t)
	l := b.bury(sinkLetter(1))
	if err := dead.Drop(t.Context(), b, l, noon); err != nil {
		t.Fatal(err)
	}
	dropped, err := dead.Find(t.Context(), b, dead.Filter{Dropped: true})
	if err != nil || len(dropped) != 1 || !dropped[0].Dropped.Equal(noon) {
		t.Fatalf("dropped: %v %v", dropped, err)
	}
	if err := dead.Drop(t.Context(), b, l, noon); !errors.Is(err, bus.ErrWrongSequence) {
		t.Errorf("a letter that isn't there any more was dropped: %v", err)
	}
	if err := dead.Undrop(t.Context(), b, dropped[0]); err != nil {
		t.Fatal(err)
	}
	again, err := dead.Find(t.Context(), b, dead.Filter{})
	if err != nil || len(again) != 1 || again[0].Reason != l.Reason || again[0].Sequence != l.Sequence || again[0].Class != l.Class {
		t.Errorf("got %+v %v", again, err)
	}
}

// consume settles everything on a consumer's stream until stop.
func (b bench) consume(c streams.Consumer, verdict func(*bus.Delivery) error) (stop func()) {
	b.t.Helper()
	if err := b.EnsureConsumer(b.t.Context(), c); err != nil {
		b.t.Fatal(err)
	}
	sub := bus.Subscription{Stream: c.Stream, Durable: c.Durable, Stage: "transform"}
	if c.Pinned {
		sub.Group = streams.PinnedGroup
	}
	return bustest.Go(b.t, func(ctx context.Context) error {
		return b.Consume(ctx, sub, func(_ context.Context, d *bus.Delivery) { d.Done(verdict(d)) })
	})
}

func (b bench) sweep() int {
	b.t.Helper()
	n, err := dead.Sweep(b.t.Context(), b)
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

func (b bench) event() uint64 {
	b.t.Helper()
	return b.publish(bus.Message{Subject: streams.Canonical(canonical.KindContact, tenant, "e", canonical.OpUpdated), Data: []byte("{}")}).Seq
}

func TestANewerSuccessClearsASinksLetter(t *testing.T) {
	b := setup(t)
	letter := b.bury(sinkLetter(b.event()))
	other := sinkLetter(1)
	other.Stage = "sink-ghl"
	b.bury(other)
	novi := streams.Sink(canonical.Novi, tenant)
	stop := b.consume(novi, func(*bus.Delivery) error { return nil })
	bustest.Settled(t, b.Conn, novi.Stream, novi.Durable)
	if n := b.sweep(); n != 0 {
		t.Fatal("the letter went though nothing is newer")
	}
	stop()
	b.event()
	if n := b.sweep(); n != 0 {
		t.Fatal("the letter went before what is newer was settled")
	}
	if err := dead.Drop(t.Context(), b, letter, noon); err != nil {
		t.Fatal(err)
	}
	b.consume(novi, func(*bus.Delivery) error { return nil })
	bustest.Settled(t, b.Conn, novi.Stream, novi.Durable)
	bustest.Until(t, func() bool { return b.sweep() == 1 })
	left := bustest.All(t, b.Conn, streams.DEAD)
	if len(left) != 1 || !strings.HasPrefix(left[0].Subject, "dead.sink-ghl.") {
		t.Errorf("left: %v", left)
	}
}

// TestALetterOfALaterFailureStays: what is newer was settled, by a letter.
func TestALetterOfALaterFailureStays(t *testing.T) {
	b := setup(t)
	var refuse atomic.Bool
	refuse.Store(true)
	b.consume(streams.Transform(), func(*bus.Delivery) error {
		if refuse.Load() {
			return bus.Terminate(errors.New("no"))
		}
		return nil
	})
	settled := func() { bustest.Settled(t, b.Conn, streams.RAW, streams.Transform().Durable) }
	b.see(observation.Fetch, `{"n":1}`)
	settled()
	b.see(observation.Fetch, `{"n":2}`)
	settled()
	b.see(observation.Notice, `{}`) // which is not the transform's to settle
	if n := b.sweep(); n != 0 {
		t.Error("the letter went after a second failure")
	}
	refuse.Store(false)
	b.see(observation.Poll, `{"n":3}`)
	settled()
	bustest.Until(t, func() bool { return b.sweep() == 1 })
}

func TestANewerNoticeClearsAHydratesLetter(t *testing.T) {
	b := setup(t)
	b.bury(rawLetter("hydrate", observation.Notice, b.see(observation.Notice, `{}`).Seq))
	b.see(observation.Fetch, `{}`)
	b.consume(streams.Hydrate(tenant), func(*bus.Delivery) error { return nil })
	bustest.Settled(t, b.Conn, streams.RAW, streams.Hydrate(tenant).Durable)
	if n := b.sweep(); n != 0 {
		t.Error("a fetch counted as a notice")
	}
	b.see(observation.Notice, `{"again":true}`)
	bustest.Settled(t, b.Conn, streams.RAW, streams.Hydrate(tenant).Durable)
	bustest.Until(t, func() bool { return b.sweep() == 1 })
}

func TestHistory(t *testing.T) {
	b := setup(t)
	for _, e := range []effect.Effect{{State: effect.Intent}, {State: effect.Failed, Reason: "away"}, {State: effect.Done}, {State: effect.Failed, Reason: "no"}} {
		data, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		b.publish(bus.Message{Subject: streams.Effect(canonical.Novi, tenant, canonical.KindContact, "e"), Data: data})
	}
	got, err := dead.History(t.Context(), b, b.bury(sinkLetter(1)))
	if err != nil || len(got) != 1 || got[0].Error != "away" || got[0].At.IsZero() {
		t.Errorf("got %+v %v", got, err)
	}
	if got, err := dead.History(t.Context(), b, b.bury(rawLetter("transform", observation.Fetch, 1))); err != nil || len(got) > 0 {
		t.Errorf("of another stage: %+v %v", got, err)
	}
}
