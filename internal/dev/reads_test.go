package dev

import (
	"testing"
	"time"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

// TestTakenBack: what no read can have shown is told from what was lost.
func TestTakenBack(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(1000+s), 0) }
	did := func(record string, human bool, value string, s int) step {
		return step{record: record, human: human, value: value, at: at(s)}
	}
	toggled := []step{did("g", true, "true", 0), did("n", false, "true", 3), did("n", true, "", 15), did("g", true, "", 20), did("g", true, "true", 28), did("g", false, "", 35)}
	// gone is what a person gave a record that people took away later.
	gone := did("g", true, "true", 20)
	gone.removed = at(22)
	tests := []struct {
		name    string
		history []step
		read    []int // of record g
		want    bool
	}{
		{"opened and completed between two reads", toggled, []int{10, 30}, true},
		{"a read has shown it open", toggled, []int{10, 24, 30}, false},
		{"a read was under way when it was opened", toggled, []int{10, 19, 30}, true},
		{"it began within a second of it", []step{toggled[0], toggled[2], did("g", true, "", 20), did("g", true, "true", 28)}, []int{20}, false},
		{"never anything else", []step{did("g", true, "true", 0), did("n", true, "", 5)}, nil, false},
		{"the record was taken away before any read", []step{gone}, []int{10, 30}, true},
		{"a read has shown it before the record was taken away", []step{gone}, []int{10, 21}, false},
		{"Causeway wrote between", []step{did("g", true, "true", 0), did("g", false, "", 5), did("g", true, "true", 8)}, nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := reads{}
			for _, s := range tt.read {
				r["g"] = append(r["g"], at(s))
			}
			if got := r.takenBack(tt.history, []string{"true"}); got != tt.want {
				t.Errorf("taken back: %t, want %t", got, tt.want)
			}
		})
	}
}

// TestFoundGone: that we made a record and found it gone has shown it, an
// absence by itself shows nothing.
func TestFoundGone(t *testing.T) {
	c := bustest.Start(t)
	for id, made := range map[canonical.ExternalID]bool{"a1": true, "a2": false} {
		o := observation.Observation{System: canonical.Novi, Tenant: "guild", Kind: canonical.KindTask, ExternalID: id, Via: observation.Writeback, ReadBegan: time.Unix(1000, 0), Absent: true, Creates: made}
		body, err := o.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Publish(t.Context(), bus.Message{Subject: streams.Raw(o), Data: body}); err != nil {
			t.Fatal(err)
		}
	}
	r, err := newReads(t.Context(), c)
	if err != nil || len(r["a1"]) != 1 || len(r["a2"]) != 0 {
		t.Errorf("got %v, %v, want a read of a1", r, err)
	}
}
