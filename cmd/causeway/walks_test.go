package main

import (
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/schemas/canonical"
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

func TestOpenCircuitsAreShown(t *testing.T) {
	c := bustest.Start(t)
	kv, err := c.Bucket(t.Context(), streams.BUDGETS)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for stage, said := range map[string]streams.Circuit{
		"sink":   {State: "open", Cause: "refused", Reason: "status 401", Since: now, At: now},
		"ingest": {State: "open", Cause: "away", Reason: "status 503", Since: now, At: now.Add(-time.Hour)}, // of a process that is no more
	} {
		value, err := json.Marshal(said)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kv.Put(t.Context(), streams.CircuitKey(canonical.GHL, "alpine-guild", stage), value); err != nil {
			t.Fatal(err)
		}
	}
	open, err := openCircuits(t.Context(), c, now)
	if err != nil {
		t.Fatal(err)
	}
	if got := circuits(open); len(got) != 1 || got[0].Tenant != "alpine-guild" || !strings.HasPrefix(got[0].Detail, "sink does not call ghl since ") || !strings.HasSuffix(got[0].Detail, ": status 401") || !strings.Contains(got[0].Cure, "credential") {
		t.Errorf("got %+v", got)
	}
}
