package main

import (
	"testing"
	"time"

	"github.com/causeway-sync/causeway/streams"
)

func TestBackfillLine(t *testing.T) {
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	tests := []struct {
		name string
		walk streams.Walk
		want string
	}{
		{"just begun", streams.Walk{}, "0"},
		{"under way", streams.Walk{Shown: 1200, Total: 20000, Rate: 40, At: now.Add(-time.Second)}, "1200 of 20000, 40.0/s, about 7m50s left"},
		{"the system tells no total", streams.Walk{Shown: 1200, Rate: 40, At: now}, "1200, 40.0/s"},
		{"nobody works on it", streams.Walk{Shown: 1200, Total: 20000, Rate: 40, At: now.Add(-5 * time.Minute)}, "1200 of 20000, stands still for 5m0s"},
		{"over", streams.Walk{Backfilled: true, Shown: 20000, Total: 20000, Rate: 40, At: now}, "complete"},
	}
	for _, tt := range tests {
		if got := backfill(tt.walk, now); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}
