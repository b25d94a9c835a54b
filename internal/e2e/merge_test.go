package e2e_test

import (
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/dev"
	"github.com/causeway-sync/causeway/internal/ghlsim"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/internal/novisim"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/streams"
)

// guild is a world whose people are looked at one by one.
type guild struct {
	*dev.World
	t *testing.T
	c *bus.Conn
}

func newGuild(t *testing.T, o dev.Options) *guild {
	o.PollGHL, o.PollNovi = time.Second, time.Second
	g := &guild{World: world(t, o), t: t}
	here(t, g.World)
	g.c = connect(t, g.World)
	return g
}

func (g *guild) contact(fields map[string]any) canonical.ExternalID {
	g.t.Helper()
	id, err := g.GHL.Edit(ghlsim.Edit{Kind: ghlsim.EditCreate, LocationID: dev.Location, Fields: fields})
	if err != nil {
		g.t.Fatal(err)
	}
	return canonical.ExternalID(id)
}

func (g *guild) member(id canonical.ExternalID, fields map[string]any) canonical.ExternalID {
	g.t.Helper()
	made, err := g.Novi.Edit(novisim.Edit{MemberID: string(id), Fields: fields})
	if err != nil {
		g.t.Fatal(err)
	}
	return canonical.ExternalID(made)
}

// state returns the last state of a contact.
func (g *guild) state(id canonical.CanonicalID) canonical.Event {
	g.t.Helper()
	m, err := g.c.Last(g.t.Context(), streams.CANONICAL, streams.Entity(canonical.KindContact, dev.Tenant, id))
	if errors.Is(err, bus.ErrNotFound) {
		return canonical.Event{}
	}
	if err != nil {
		g.t.Fatal(err)
	}
	e, err := canonical.DecodeEvent(m.Data)
	if err != nil {
		g.t.Fatal(err)
	}
	return e
}

// of waits until whoever was first seen as a record has one in both systems.
func (g *guild) of(system canonical.System, x canonical.ExternalID) canonical.Event {
	g.t.Helper()
	var e canonical.Event
	bustest.Until(g.t, func() bool {
		e = g.state(canonical.NewID(dev.Tenant, canonical.KindContact, system, x))
		return len(e.Links[canonical.GHL]) > 0 && len(e.Links[canonical.Novi]) > 0
	})
	return e
}

// active returns the members that are, by address.
func (g *guild) active() map[any]int {
	out := map[any]int{}
	for _, m := range g.Novi.Dump() {
		if m.Fields["Active"] != false {
			out[m.Fields["Email"]]++
		}
	}
	return out
}

func (g *guild) noLetters() {
	g.t.Helper()
	for _, m := range bustest.All(g.t, g.c, streams.DEAD) {
		g.t.Errorf("a dead letter: %s %s", m.Subject, m.Data)
	}
}

// TestMerges: people are merged in GHL, in Novi, and by a typo that somebody
// corrects. Each has one record in either system in the end, and nothing that
// the other one had is missing.
func TestMerges(t *testing.T) {
	g := newGuild(t, dev.Options{Duplicates: mapping.DeleteDuplicates, Seed: 4})
	ada := g.contact(map[string]any{"firstName": "Ada", "lastName": "Imhof", "email": "ada@example.org"})
	typo := g.member("", map[string]any{"Name": "Ada Imhof (2)", "FirstName": "Ada", "LastName": "Imhof", "Email": "ada@exmaple.org", "JobTitle": "Baker"})
	winner := g.contact(map[string]any{"firstName": "Bruno", "lastName": "Berg", "phone": "+12015550101"})
	loser := g.contact(map[string]any{"firstName": "Bruno", "lastName": "Berg", "email": "bruno@example.org", "city": "Denver"})
	kept := g.member("", map[string]any{"Name": "Chiara Castell", "FirstName": "Chiara", "LastName": "Castell", "Email": "chiara@example.org"})
	gone := g.member("", map[string]any{"Name": "Chiara Castell (2)", "FirstName": "Chiara", "LastName": "Castell", "Mobile": "+12015550102", "Website": "https://example.org/c"})
	before := map[canonical.ExternalID]canonical.Event{}
	for x, system := range map[canonical.ExternalID]canonical.System{ada: canonical.GHL, winner: canonical.GHL, loser: canonical.GHL, typo: canonical.Novi, kept: canonical.Novi, gone: canonical.Novi} {
		before[x] = g.of(system, x)
	}
	g.member(typo, map[string]any{"Email": "ada@example.org"})
	if err := g.GHL.Merge(dev.Location, string(winner), string(loser)); err != nil {
		t.Fatal(err)
	}
	if err := g.Novi.Merge(string(kept), string(gone)); err != nil {
		t.Fatal(err)
	}
	bustest.Until(t, func() bool {
		n := 0
		for _, e := range before {
			if now := g.state(e.ID()); now.MergedInto != "" {
				n++
			}
		}
		return n == 3 && len(g.GHL.Dump(dev.Location)) == 3
	})
	if err := g.Quiet(t.Context(), g.c, 3*time.Second); err != nil {
		t.Fatal(err)
	}
	if got, want := g.active(), map[any]int{"ada@example.org": 1, "bruno@example.org": 1, "chiara@example.org": 1}; !maps.Equal(got, want) {
		t.Errorf("members: %v, want %v", got, want)
	}
	for _, was := range before {
		e := g.state(was.ID())
		if e.MergedInto == "" && (len(e.Links[canonical.GHL]) != 1 || len(e.Links[canonical.Novi]) != 1) {
			t.Errorf("%s has the records %v", e.ID(), e.Links)
		}
	}
	for _, c := range g.GHL.Dump(dev.Location) {
		shown, err := g.Show(canonical.GHL, c.ID)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"Ada": "job_title=Baker", "Bruno": "address.city=Denver", "Chiara": "phone=+12015550102"}[shown["first_name"]]
		if field, value, _ := strings.Cut(want, "="); shown[field] != value || shown["email"] == "" {
			t.Errorf("%s shows %v, want %s", c.ID, shown, want)
		}
	}
	g.noLetters()
	code, out, errs := program(t, nil, "causeway", "verify", "--converged", "--config", g.ConfigPath, "--settle", "3s")
	if code != 0 {
		t.Errorf("verify: %d %q %q", code, out, errs)
	}
	code, out, errs = program(t, nil, "causeway", "merges", "--nats", "nats://"+g.NATSAddr)
	if code != 0 || strings.Count(out, "\n") != 4 {
		t.Errorf("merges: %d %q %q", code, out, errs)
	}
	rebuilt(t, g.World)
}

// TestUnmerge: two people of one address were folded; one of the records gets
// another one, and a person takes them apart.
func TestUnmerge(t *testing.T) {
	t.Parallel()
	g := newGuild(t, dev.Options{Seed: 5})
	ada := g.contact(map[string]any{"firstName": "Ada", "lastName": "Imhof", "email": "ada@example.org", "city": "Denver"})
	sister := g.member("", map[string]any{"Name": "Ada Imhof (2)", "FirstName": "Ada", "LastName": "Imhof", "Email": "a.imhof@example.org", "JobTitle": "Baker"})
	a, b := g.of(canonical.GHL, ada), g.of(canonical.Novi, sister)
	g.member(sister, map[string]any{"Email": "ada@example.org"})
	var into canonical.CanonicalID
	var id canonical.CanonicalID
	bustest.Until(t, func() bool {
		for _, was := range []canonical.Event{a, b} {
			if e := g.state(was.ID()); e.MergedInto != "" {
				id, into = e.ID(), e.MergedInto
			}
		}
		return id != ""
	})
	if both := []canonical.CanonicalID{a.ID(), b.ID()}; !slices.Contains(both, id) || !slices.Contains(both, into) {
		t.Fatalf("%s was merged into %s, not %v", id, into, both)
	}
	if err := g.Quiet(t.Context(), g.c, 3*time.Second); err != nil {
		t.Fatal(err)
	}
	g.member(sister, map[string]any{"Email": "adele@example.org"})
	bustest.Until(t, func() bool { return g.state(into).Contact.Email == "adele@example.org" })
	if err := g.Quiet(t.Context(), g.c, 3*time.Second); err != nil {
		t.Fatal(err)
	}
	code, out, errs := program(t, nil, "causeway", "unmerge", string(id), "--tenant", dev.Tenant, "--reason", "sisters", "--nats", "nats://"+g.NATSAddr)
	if code != 0 || !strings.Contains(out, "lives again") {
		t.Fatalf("unmerge: %d %q %q", code, out, errs)
	}
	if err := g.Quiet(t.Context(), g.c, 3*time.Second); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		was         canonical.Event
		email, city string
		job         string
	}{{a, "ada@example.org", "Denver", ""}, {b, "adele@example.org", "", "Baker"}} {
		e := g.state(tt.was.ID())
		if e.MergedInto != "" || !maps.EqualFunc(e.Links, tt.was.Links, slices.Equal[[]canonical.ExternalID]) {
			t.Errorf("%s is merged into %q and has the records %v, want %v", e.ID(), e.MergedInto, e.Links, tt.was.Links)
			continue
		}
		for s, links := range e.Links {
			shown, err := g.Show(s, string(links[0]))
			if err != nil || shown["email"] != tt.email || shown["address.city"] != tt.city || shown["job_title"] != tt.job {
				t.Errorf("%s record %s shows %v, %v", s, links[0], shown, err)
			}
		}
	}
	g.noLetters()
	code, _, errs = program(t, nil, "causeway", "unmerge", string(id), "--tenant", dev.Tenant, "--nats", "nats://"+g.NATSAddr)
	if code != 1 || !strings.Contains(errs, "is not merged into another") {
		t.Errorf("unmerged again: %d %q", code, errs)
	}
}

// TestItemsOfTwoWhoAreOne: two people, of whom neither is made in the other
// system, have tasks and a note that say the same. When they turn out to be
// one, so do those; nothing is made twice, and an edit travels.
func TestItemsOfTwoWhoAreOne(t *testing.T) {
	w := world(t, dev.Options{CreateNovi: "never", PollGHL: time.Second, PollNovi: time.Second, Seed: 6})
	text, err := os.ReadFile(w.ConfigPath)
	if err != nil {
		t.Fatal(err)
	}
	text = []byte(strings.Replace(string(text), "      location:", "      create: never\n      location:", 1))
	if err := os.WriteFile(w.ConfigPath, text, 0o600); err != nil {
		t.Fatal(err)
	}
	g := &guild{World: w, t: t}
	here(t, w)
	g.c = connect(t, w)
	ada := g.contact(map[string]any{"firstName": "Ada", "lastName": "Imhof", "email": "ada@exmaple.org"})
	also := g.member("", map[string]any{"Name": "Ada Imhof", "FirstName": "Ada", "LastName": "Imhof", "Email": "ada@example.org"})
	const due = "2027-03-01T09:00:00Z"
	var first string
	for range 2 {
		if first, err = w.GHL.EditItem(ghlsim.ItemEdit{Op: ghlsim.OpCreate, Kind: "task", LocationID: dev.Location, ContactID: string(ada), Fields: map[string]any{"title": "Call", "dueDate": due, "completed": false}}); err != nil {
			t.Fatal(err)
		}
		if _, err = w.Novi.EditItem(novisim.ItemEdit{Op: novisim.OpCreate, MemberID: string(also), Fields: map[string]any{"ActivityType": "Task", "Subject": "Call", "Date": due}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err = w.GHL.EditItem(ghlsim.ItemEdit{Op: ghlsim.OpCreate, Kind: "note", LocationID: dev.Location, ContactID: string(ada), Fields: map[string]any{"body": "She said."}}); err != nil {
		t.Fatal(err)
	}
	if _, err = w.Novi.EditItem(novisim.ItemEdit{Op: novisim.OpCreate, MemberID: string(also), Fields: map[string]any{"ActivityType": "Note", "Notes": "<p>She said.</p>"}}); err != nil {
		t.Fatal(err)
	}
	items := func() (linked, whole int) {
		last := map[canonical.CanonicalID]canonical.Event{}
		for _, m := range bustest.All(t, g.c, streams.CANONICAL) {
			if e, err := canonical.DecodeEvent(m.Data); err != nil {
				t.Fatal(err)
			} else if e.Kind() != canonical.KindContact {
				last[e.ID()] = e
			}
		}
		for _, e := range last {
			linked += len(e.Links)
			if len(e.Links) == 2 {
				whole++
			}
		}
		return linked, whole
	}
	bustest.Until(t, func() bool { linked, _ := items(); return linked == 6 })
	if _, err := w.GHL.Edit(ghlsim.Edit{Kind: ghlsim.EditUpdate, LocationID: dev.Location, ContactID: string(ada), Fields: map[string]any{"email": "ada@example.org"}}); err != nil {
		t.Fatal(err)
	}
	bustest.Until(t, func() bool { _, whole := items(); return whole == 3 })
	if _, err := w.GHL.EditItem(ghlsim.ItemEdit{Op: ghlsim.OpUpdate, Kind: "task", LocationID: dev.Location, ContactID: string(ada), ID: first, Fields: map[string]any{"title": "Write"}}); err != nil {
		t.Fatal(err)
	}
	want := map[string]int{"Call " + due: 1, "Write " + due: 1, "She said.": 1}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("ghl has %v, novi has %v, want %v", ghlItems(w), noviItems(w), want)
		}
	})
	bustest.Until(t, func() bool { return maps.Equal(noviItems(w), want) })
	if err := g.Quiet(t.Context(), g.c, 3*time.Second); err != nil {
		t.Fatal(err)
	}
	if ghl, novi := ghlItems(w), noviItems(w); !maps.Equal(ghl, want) || !maps.Equal(novi, want) {
		t.Errorf("ghl has %v, novi has %v, want %v", ghl, novi, want)
	}
	g.noLetters()
	code, out, errs := program(t, nil, "causeway", "verify", "--converged", "--config", g.ConfigPath, "--settle", "3s")
	if code != 0 {
		t.Errorf("verify: %d %q %q", code, out, errs)
	}
	rebuilt(t, w)
}
