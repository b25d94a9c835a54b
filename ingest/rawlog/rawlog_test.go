package rawlog_test

import (
	"testing"
	"time"

	"github.com/causeway-sync/causeway/ingest/rawlog"
	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

func TestPublish(t *testing.T) {
	c, began := bustest.Start(t), time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	steps := []struct {
		name   string
		via    observation.Via
		parent canonical.ExternalID
		record string // "" is absent
		stored bool
	}{
		{"first seen", observation.Poll, "c1", `{"id":"t1","title":"a"}`, true},
		{"the same", observation.Poll, "c1", `{"id":"t1","title":"a"}`, false},
		{"the same, spelled otherwise", observation.Fetch, "c1", `{"title":"a", "id":"t1"}`, false},
		{"changed, seen by another reader", observation.Fetch, "c1", `{"id":"t1","title":"b"}`, true},
		{"changed back", observation.Poll, "c1", `{"id":"t1","title":"a"}`, true},
		{"moved", observation.Poll, "c2", `{"id":"t1","title":"a"}`, true},
		{"gone", observation.Poll, "c2", "", true},
		{"still gone", observation.Poll, "c2", "", false},
		{"back", observation.Poll, "c2", `{"id":"t1","title":"a"}`, true},
	}
	for i, s := range steps {
		before := len(bustest.All(t, c, streams.RAW))
		o := observation.Observation{System: canonical.GHL, Tenant: "a", Kind: canonical.KindTask, ExternalID: "t1", Via: s.via, Parent: s.parent,
			ReadBegan: began.Add(time.Duration(i) * time.Second), Absent: s.record == "", Record: []byte(s.record)}
		if _, _, err := rawlog.Publish(t.Context(), c, o, 0); err != nil {
			t.Fatal(err)
		}
		if got := len(bustest.All(t, c, streams.RAW)) > before; got != s.stored {
			t.Errorf("%s: stored %t, want %t", s.name, got, s.stored)
		}
	}
}

// TestStoredLate: a sight that was stored after a later one is not what the
// record shows, though it came last.
func TestStoredLate(t *testing.T) {
	c, began := bustest.Start(t), time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	sight := func(via observation.Via, title string, second int) observation.Observation {
		return observation.Observation{System: canonical.Novi, Tenant: "a", Kind: canonical.KindTask, ExternalID: "t1", Via: via,
			ReadBegan: began.Add(time.Duration(second) * time.Second), Record: []byte(`{"Subject":"` + title + `"}`)}
	}
	var seq uint64
	for _, o := range []observation.Observation{sight(observation.Writeback, "new", 2), sight(observation.Poll, "old", 1)} {
		body, err := o.Encode()
		if err != nil {
			t.Fatal(err)
		}
		ack, err := c.Publish(t.Context(), bus.Message{Subject: streams.Raw(o), ID: o.Key(), Data: body})
		if err != nil {
			t.Fatal(err)
		}
		seq = ack.Seq
	}
	// Somebody makes it old again.
	shown, stored, err := rawlog.Publish(t.Context(), c, sight(observation.Poll, "old", 3), 0)
	if err != nil || shown || stored == seq {
		t.Errorf("it is taken for known: %d, %v", stored, err)
	}
	for second, via := range []observation.Via{observation.Poll, observation.Fetch} {
		if shown, again, err := rawlog.Publish(t.Context(), c, sight(via, "old", 4+second), 0); err != nil || !shown || again != stored {
			t.Errorf("the same by %s is stored as %d, %v", via, again, err)
		}
	}
}

func TestParent(t *testing.T) {
	c := bustest.Start(t)
	add := func(via observation.Via, parent canonical.ExternalID) observation.Observation {
		o := observation.Observation{System: canonical.GHL, Tenant: "a", Kind: canonical.KindTask, ExternalID: "t1", Via: via, Parent: parent, Record: []byte(`{}`)}
		body, err := o.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Publish(t.Context(), bus.Message{Subject: streams.Raw(o), Data: body}); err != nil {
			t.Fatal(err)
		}
		return o
	}
	steps := []struct {
		name   string
		via    observation.Via
		parent canonical.ExternalID
		want   canonical.ExternalID
	}{
		{"never said", observation.Notice, "", ""},
		{"seen", observation.Poll, "c1", "c1"},
		{"a notice after it says nothing", observation.Notice, "", "c1"},
		{"moved", observation.Fetch, "c2", "c2"},
		{"moved back", observation.Poll, "c3", "c3"},
	}
	for _, s := range steps {
		if got, err := rawlog.Parent(t.Context(), c, add(s.via, s.parent)); err != nil || got != s.want {
			t.Errorf("%s: got %q, %v; want %q", s.name, got, err, s.want)
		}
	}
}
