package budget_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-sync/causeway/internal/budget"
)

func TestStanding(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	at := func(ago time.Duration) int64 { return now.Add(-ago).UnixMilli() }
	l := budget.Ledger{
		Limits: []budget.Limit{{Calls: 25, MS: 10_000}},
		Members: map[string]budget.Member{
			"a": {Name: "sink@one/1", At: at(time.Second), Slots: []int{15}, Rests: [][]budget.Rest{{{Slots: 4, MS: 500}, {Slots: 6, MS: 8000}}},
				Waiting: []int{3, 0, 0, 0, 0}, Used: []int{10, 0, 0, 2, 0}, Day: 40},
			"b": {Name: "ingest@two/2", At: at(10 * time.Second), Slots: []int{5}, Day: 10},
			"c": {Name: "ingest@two/3", At: at(time.Hour), Slots: []int{5}},
		},
		Day: budget.Day{Number: now.Unix() / 86400, Taken: 1000, Limit: 10_000},
	}
	got := l.Standing(budget.Limits{Windows: ghlWindows, Daily: 200_000}, now)
	want := budget.Standing{
		Windows: []budget.WindowStanding{{Per: "10s", Calls: 25, Leased: 20, Used: 6}},
		Members: []budget.MemberStanding{
			{Name: "sink@one/1", Leased: []int{15}, Waiting: map[string]int{"live": 3}, Used: map[string]int{"live": 10, "backfill": 2}},
			{Name: "ingest@two/2", Leased: []int{5}, Waiting: map[string]int{}, Used: map[string]int{}, Gone: true},
		},
		Day: budget.DayStanding{Limit: 10_000, Used: 960, Held: 40, Left: 9000},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if next := l.Standing(budget.Limits{Daily: 200_000}, now.Add(24*time.Hour)); next.Day != (budget.DayStanding{Limit: 10_000, Left: 10_000}) {
		t.Errorf("the next day: %+v", next.Day)
	}
}

func TestLasts(t *testing.T) {
	l := budget.Limits{Windows: noviWindows, Daily: 100_000}
	for _, tt := range []struct {
		calls, left int
		want        time.Duration
	}{
		{588, 100_000, time.Minute},
		{100, 100_000, 10 * time.Second},
		{95_000, 100_000, 9694 * time.Second},
		{95_001, 100_000, 24 * time.Hour},
		{588, 5000, 24*time.Hour + time.Minute},
		{2*95_000 + 588, 5000, 3*24*time.Hour + time.Minute},
	} {
		if got := l.Lasts(tt.calls, tt.left); got.Round(time.Second) != tt.want {
			t.Errorf("%d calls with %d left last %s, want %s", tt.calls, tt.left, got, tt.want)
		}
	}
}
