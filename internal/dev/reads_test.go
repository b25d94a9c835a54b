package dev

import (
	"testing"
	"time"
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
