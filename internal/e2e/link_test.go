package e2e_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/dev"
	"github.com/causeway-sync/causeway/internal/ghlapi"
	"github.com/causeway-sync/causeway/internal/ghlsim"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/internal/novisim"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/streams"
)

// TestFirstLink brings two databases together that were never kept the same:
// 500 people in each, 300 of them in both, some with tasks and notes, of which
// again some are in both.
func TestFirstLink(t *testing.T) {
	t.Parallel()
	const each, same = 500, 300
	w := world(t, dev.Options{PollGHL: time.Second, PollNovi: time.Second, NoWebhooks: true}) // what is old sends none
	pairs, err := dev.NewPeople(w, w.Seed).Overlap(each, same)
	if err != nil {
		t.Fatal(err)
	}
	show := func(system canonical.System, id string) map[string]string {
		t.Helper()
		shown, err := w.Show(system, id)
		if err != nil {
			t.Fatal(err)
		}
		return shown
	}
	said := theirItems(t, w, pairs)
	indexed(t, w)
	type look struct{ ghl, novi map[string]string }
	before := make([]look, len(pairs))
	for i, p := range pairs {
		before[i] = look{show(canonical.GHL, p.GHL), show(canonical.Novi, p.Novi)}
	}

	h := here(t, w)
	c := connect(t, w)
	if err := w.Quiet(t.Context(), c, 4*time.Second); err != nil {
		t.Fatal(err)
	}
	status, err := streams.Status(t.Context(), c.JetStream())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range status {
		if s.Name == streams.DEAD && s.Messages > 0 {
			t.Errorf("%d dead letters", s.Messages)
		}
	}
	if g, n := len(w.GHL.Dump(dev.Location)), len(w.Novi.Dump()); g != len(pairs) || n != len(pairs) {
		t.Errorf("%d people have %d records in ghl and %d in novi", len(pairs), g, n)
	}

	// Each record's entity, and each entity's records.
	owner, links := map[string]canonical.CanonicalID{}, map[canonical.CanonicalID]map[canonical.System][]canonical.ExternalID{}
	if err := c.Scan(t.Context(), streams.CANONICAL, streams.Contacts(dev.Tenant), time.Time{}, func(m bus.Stored) error {
		e, err := canonical.DecodeEvent(m.Data)
		links[e.Contact.ID] = e.Links
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for id, l := range links {
		for system, list := range l {
			for _, x := range list {
				if other := owner[string(x)]; other != "" {
					t.Errorf("%s record %s is linked to by %s and %s", system, x, other, id)
				}
				owner[string(x)] = id
			}
		}
	}
	if len(links) != len(pairs) {
		t.Errorf("%d people are %d entities", len(pairs), len(links))
	}
	problems := 0
	for i, p := range pairs {
		id := owner[p.GHL+p.Novi] // of whom there is one record
		if p.GHL != "" && p.Novi != "" {
			if id = owner[p.GHL]; id != owner[p.Novi] {
				t.Errorf("person %d is entity %q in ghl and %q in novi", i, id, owner[p.Novi])
				continue
			}
		}
		l := links[id]
		if len(l[canonical.GHL]) != 1 || len(l[canonical.Novi]) != 1 {
			t.Errorf("person %d, entity %q, has the records %v", i, id, l)
			continue
		}
		after := look{show(canonical.GHL, string(l[canonical.GHL][0])), show(canonical.Novi, string(l[canonical.Novi][0]))}
		for _, wrong := range worse(w.Lens, before[i].ghl, before[i].novi, after.ghl, after.novi) {
			if problems++; problems <= 10 {
				t.Errorf("person %d, entity %s: %s", i, id, wrong)
			}
		}
	}

	for system, shown := range map[canonical.System]map[string]int{canonical.GHL: ghlItems(w), canonical.Novi: noviItems(w)} {
		for text := range said {
			if shown[text] != 1 {
				t.Errorf("%s has %q %d times", system, text, shown[text])
			}
		}
		for text := range shown {
			if !said[text] {
				t.Errorf("%s has %q, which nobody said", system, text)
			}
		}
	}

	t.Run("verify agrees", func(t *testing.T) {
		code, out, errs := program(t, nil, "causeway", "verify", "--converged", "--config", w.ConfigPath, "--settle", "3s")
		want := fmt.Sprintf("%s: %d contacts, %d records in ghl, %d records in novi, %d items in ghl, %d items in novi, no difference\n", dev.Tenant, len(pairs), len(pairs), len(pairs), len(said), len(said))
		if code != 0 || out != want {
			t.Errorf("got %d %q %q, want %q", code, out, errs, want)
		}
	})
	t.Run("verify names what nobody has carried over", func(t *testing.T) {
		if err := h.StopStage("ingest"); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Novi.Edit(novisim.Edit{MemberID: pairs[0].Novi, Fields: map[string]any{"BillingAddress.City": "Nowhere"}}); err != nil {
			t.Fatal(err)
		}
		code, out, _ := program(t, nil, "causeway", "verify", "--converged", "--config", w.ConfigPath, "--settle", "1s")
		if code != 1 || !strings.Contains(out, "differs: novi record "+pairs[0].Novi) || !strings.Contains(out, ": address.city\n") || strings.Contains(out, "Nowhere") || strings.Count(out, "!") != 1 {
			t.Errorf("got %d %q", code, out)
		}
	})
}

// theirItems gives some people a task and a note: every fourth pair the same
// ones on both sides, others one on one side. It returns what they say.
func theirItems(t *testing.T, w *dev.World, pairs []dev.Pair) map[string]bool {
	t.Helper()
	said := map[string]bool{}
	edit := func(_ string, err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	for i, p := range pairs {
		due := fmt.Sprintf("2027-03-01T09:%02d:00Z", i%60)
		task, note := fmt.Sprintf("Call back %d", i), fmt.Sprintf("She said %d.", i)
		if p.GHL != "" && i%4 < 2 {
			edit(w.GHL.EditItem(ghlsim.ItemEdit{Op: ghlsim.OpCreate, Kind: "task", LocationID: dev.Location, ContactID: p.GHL, Fields: map[string]any{"title": task, "dueDate": due, "completed": false}}))
			said[task+" "+due] = true
		}
		if p.GHL != "" && i%4 == 0 {
			edit(w.GHL.EditItem(ghlsim.ItemEdit{Op: ghlsim.OpCreate, Kind: "note", LocationID: dev.Location, ContactID: p.GHL, Fields: map[string]any{"body": note}}))
			said[note] = true
		}
		if p.Novi != "" && i%4 == 0 {
			edit(w.Novi.EditItem(novisim.ItemEdit{Op: novisim.OpCreate, MemberID: p.Novi, Fields: map[string]any{"ActivityType": "Task", "Subject": task, "Date": due}}))
			said[task+" "+due] = true
		}
		if p.Novi != "" && i%2 == 0 {
			edit(w.Novi.EditItem(novisim.ItemEdit{Op: novisim.OpCreate, MemberID: p.Novi, Fields: map[string]any{"ActivityType": "Note", "Notes": "<p>" + note + "</p>"}}))
			said[note] = true
		}
	}
	return said
}

// indexed waits until GHL's search, which is behind, shows every task, as it
// does in a database that isn't new.
func indexed(t *testing.T, w *dev.World) {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(w.Dir, "secrets", "ghl-token"))
	if err != nil {
		t.Fatal(err)
	}
	client := ghlapi.New(ghlapi.Config{BaseURL: w.GHLURL, HTTP: http.DefaultClient, Clock: clock.System{}, LocationID: dev.Location,
		Token: func(context.Context) (string, error) { return strings.TrimSpace(string(token)), nil }})
	last := len(w.GHL.Items(dev.Location, "task")) - 1
	bustest.Until(t, func() bool {
		found, err := client.SearchTasks(t.Context(), budget.Poll, ghlapi.TaskSearch{Limit: 1, Skip: last})
		if err != nil {
			t.Fatal(err)
		}
		return len(found) == 1
	})
}

// ghlItems and noviItems return what tasks and notes say, and how often: a
// task its title and when it is due.
func ghlItems(w *dev.World) map[string]int {
	out := map[string]int{}
	for _, i := range w.GHL.Items(dev.Location, "task") {
		out[fmt.Sprint(i.Fields["title"])+" "+instant(i.Fields["dueDate"])]++
	}
	for _, i := range w.GHL.Items(dev.Location, "note") {
		out[mapping.Reads(fmt.Sprint(i.Fields["body"]))]++
	}
	return out
}

func noviItems(w *dev.World) map[string]int {
	out := map[string]int{}
	for _, a := range w.Novi.Activities() {
		if a.Fields["ActivityType"] == "Note" {
			out[mapping.Reads(fmt.Sprint(a.Fields["Notes"]))]++
		} else {
			out[fmt.Sprint(a.Fields["Subject"])+" "+instant(a.Fields["Date"])]++
		}
	}
	return out
}

// instant is a time as either system shows it, in UTC.
func instant(v any) string {
	for _, form := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999"} {
		if at, err := time.Parse(form, fmt.Sprint(v)); err == nil {
			return at.UTC().Format(time.RFC3339)
		}
	}
	return fmt.Sprint(v)
}

// worse says which fields had a value before, on either side, and show none
// or another now.
func worse(lens *mapping.Lens, ghl, novi, ghlNow, noviNow map[string]string) []string {
	var out []string
	fields := maps.Clone(ghl)
	if fields == nil {
		fields = map[string]string{}
	}
	maps.Copy(fields, novi)
	for _, f := range slices.Sorted(maps.Keys(fields)) {
		b, bound := lens.Binding(f)
		for _, side := range []struct {
			system      canonical.System
			before, now map[string]string
		}{{canonical.GHL, ghl, ghlNow}, {canonical.Novi, novi, noviNow}} {
			written := !bound || b.Side(side.system).Write == mapping.Always // tags are not bound
			if system := side.system; !bound && system == canonical.Novi && lens.FromGroup(strings.TrimPrefix(f, "tag:")) {
				written = false
			}
			now := side.now[f]
			switch {
			case !written && side.before[f] == "":
			case now == "":
				out = append(out, fmt.Sprintf("%s has no %s any more (ghl %q, novi %q before)", side.system, f, ghl[f], novi[f]))
			case now != ghl[f] && now != novi[f]:
				out = append(out, fmt.Sprintf("%s shows the %s %q, which nobody gave (ghl %q, novi %q before)", side.system, f, now, ghl[f], novi[f]))
			}
		}
	}
	return out
}
