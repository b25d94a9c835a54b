package main

import (
	"strings"
	"testing"
	"time"

	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/schemas/canonical"
)

func TestPrintAccount(t *testing.T) {
	limits := budget.Limits{Windows: []budget.Window{{Calls: 20, Per: time.Second}, {Calls: 600, Per: time.Minute}}, Daily: 100_000}
	ledger := budget.Ledger{Members: map[string]budget.Member{"x": {Name: "sink@one/7", At: time.Now().UnixMilli(), Slots: []int{3, 90}, Waiting: []int{2}, Used: []int{1}}}}
	a := account{Tenant: "alpine-guild", System: canonical.Novi, Standing: ledger.Standing(limits, time.Now()), Contacts: 20_000,
		Forecast: forecast(canonical.Novi, limits, 100_000, 20_000)}
	var out strings.Builder
	if err := printAccount(&out, a); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"alpine-guild novi",
		"in 1s 20 calls 3 leased 0 used",
		"in 1m0s 600 calls 90 leased 0 used",
		"today (UTC) 100000 calls 0 held 0 used 100000 left",
		"sink@one/7 leased 3 90 used live 1 waiting live 2",
		"a backfill of 20000 contacts",
		"reading the contacts 100 calls 10s",
		"writing, if every contact has to be made or changed here 60000 calls 1h42m2s",
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Fatalf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}
