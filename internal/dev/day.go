package dev

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/ghlsim"
	"github.com/causeway-sync/causeway/internal/novisim"
	"github.com/causeway-sync/causeway/schemas/canonical"
)

// Day is a small association's day, for a person to watch: people arrive, an
// hour's worth of edits is made on both sides within a minute, and then
// whoever watches may edit too, until the context is done.
type Day struct {
	Out      io.Writer
	Contacts int
	// Changes are random ones after those that are told, Pace apart.
	Changes int
	Pace    time.Duration
	// Start starts the stages. It may set Console.
	Start func() error
	// Console is the URL of the console, if there is one.
	Console string
}

// Day plays d until ctx is done.
func (w *World) Day(ctx context.Context, d *Day) error {
	people := NewPeople(w, w.Seed)
	if err := people.Arrive(d.Contacts); err != nil {
		return err
	}
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(d.Out, format+"\n", args...) } // nobody may be watching
	say("Starting a broker, ingest, transform and sink; %d people are in one of the two systems, some in both.", d.Contacts)
	if err := d.Start(); err != nil {
		return err
	}
	say(`
  simulated GoHighLevel   %s   (GET %s/_sim/dump)
  simulated Novi AMS      %s   (GET %s/_sim/dump)
  front door              %s
  health, metrics         http://%s/metrics
  NATS                    nats://%s   (subscribe to canonical.contact.>)
  configuration, streams  %s
`, w.GHLURL, w.GHLURL, w.NoviURL, w.NoviURL, w.HookURL, w.http["ingest"], w.NATSAddr, w.Dir)
	if d.Console != "" {
		say("  console                 %s   (open it in a browser)\n", d.Console)
	}
	if w.rules {
		say("The automations of docs/automations.md are on: watch what happens when Otto joins.\n")
	}
	say("What travels. A line with a ◆ is a person's edit; one with a → is Causeway writing it at the other side.\n")
	account := &account{w: w, out: d.Out, edited: map[string]time.Time{}}
	done := make(chan error, 1)
	go func() { done <- account.follow(ctx) }()

	tell := func(wait time.Duration, act func() error) error {
		if err := clock.Sleep(ctx, clock.System{}, wait); err != nil {
			return err
		}
		return act()
	}
	err := w.story(ctx, d, people, tell)
	if err == nil {
		say("\nThat was the day. Edit as a person would, and watch it travel; Ctrl-C stops. For example:\n")
		if id, ok := first(w.GHL.Dump(Location)); ok {
			say(`  curl -X POST %s/_sim/edit -d '{"kind":"update","locationId":"%s","contactId":"%s","fields":{"city":"Zermatt"}}'`+"\n", w.GHLURL, Location, id)
		}
		<-ctx.Done()
	}
	if ctx.Err() != nil {
		err = nil // Ctrl-C is how a day ends
	}
	if followErr := <-done; err == nil {
		err = followErr
	}
	say("\nStopping.")
	return err
}

func first(list []ghlsim.Contact) (string, bool) {
	if len(list) == 0 {
		return "", false
	}
	return list[0].ID, true
}

// story is what happens on that day.
func (w *World) story(ctx context.Context, d *Day, people *People, tell func(time.Duration, func() error) error) error {
	if len(people.ghl) == 0 || len(people.members) == 0 {
		<-ctx.Done()
		return nil
	}
	lead, member := people.ghl[0], people.members[0]
	ghl := func(e ghlsim.Edit) func() error {
		return func() error {
			e.LocationID = Location
			_, err := w.GHL.Edit(e)
			return err
		}
	}
	novi := func(e novisim.Edit) func() error {
		return func() error {
			_, err := w.Novi.Edit(e)
			return err
		}
	}
	const beat = 2500 * time.Millisecond
	scenes := []struct {
		wait time.Duration
		act  func() error
	}{
		{5 * time.Second, ghl(ghlsim.Edit{Kind: ghlsim.EditCreate, Tags: []string{"newsletter"}, Fields: map[string]any{
			"firstName": "Heidi", "lastName": "Amstutz", "email": "heidi.amstutz@example.org", "phone": "+12025550143", "city": "Leadville"}})},
		{beat, novi(novisim.Edit{MemberID: member, Fields: map[string]any{"Mobile": "(202) 555-0187", "JobTitle": "President"}})},
		{beat, ghl(ghlsim.Edit{Kind: ghlsim.EditAddTags, ContactID: lead, Tags: []string{"Board", "Volunteer"}})},
		{beat, novi(novisim.Edit{Fields: map[string]any{"Name": "Otto Zurbriggen", "FirstName": "Otto", "LastName": "Zurbriggen",
			"Email": "otto.zurbriggen@example.org", "Mobile": "(202) 555-0122", "MemberStatus": "current", "MemberSince": "2026-11-01T00:00:00"}})},
		{beat, ghl(ghlsim.Edit{Kind: ghlsim.EditUpdate, ContactID: lead, Fields: map[string]any{"address1": "7 Summit Road", "city": "Ouray", "postalCode": "81427"}})},
		{beat, novi(novisim.Edit{MemberID: member, Fields: map[string]any{"MemberStatus": "grace_period", "UnsubscribeFromEmails": true}})},
		{beat, ghl(ghlsim.Edit{Kind: ghlsim.EditRemoveTags, ContactID: lead, Tags: []string{"volunteer"}})},
		{beat, ghl(ghlsim.Edit{Kind: ghlsim.EditUpdate, ContactID: lead, Fields: map[string]any{"website": "https://example.org/ouray"}})},
	}
	for _, s := range scenes {
		if err := tell(s.wait, s.act); err != nil {
			return err
		}
	}
	for range d.Changes {
		if err := tell(d.Pace, people.Act); err != nil {
			return err
		}
	}
	return tell(beat, func() error { return nil })
}

// account prints what the simulators' ledgers say, as it happens.
type account struct {
	w         *World
	out       io.Writer
	ghl, novi int                  // entries told
	ghlSeq    int64                // seen of GHL's ledger, which also holds what is no entry
	noviSeq   int64                // and of Novi's
	edited    map[string]time.Time // by e-mail address: when a person last edited
}

func (a *account) follow(ctx context.Context) error {
	// The people who were there before the stages began are not news.
	if _, err := a.lines(); err != nil {
		return err
	}
	for {
		if clock.Sleep(ctx, clock.System{}, 100*time.Millisecond) != nil {
			return nil
		}
		news, err := a.lines()
		if err != nil {
			return err
		}
		for _, e := range news {
			a.print(e)
		}
	}
}

// lines returns what is new in both ledgers, in canonical terms.
func (a *account) lines() ([]entry, error) {
	fresh, also := a.w.GHL.LedgerAfter(a.ghlSeq), a.w.Novi.LedgerAfter(a.noviSeq)
	if len(fresh)+len(also) == 0 {
		return nil, nil
	}
	if len(fresh) > 0 {
		a.ghlSeq = fresh[len(fresh)-1].Seq
	}
	a.noviSeq += int64(len(also))
	ghl, err := a.w.ghlEntries()
	if err != nil {
		return nil, err
	}
	novi, err := a.w.noviEntries()
	if err != nil {
		return nil, err
	}
	out := append(slices.Clone(ghl[a.ghl:]), novi[a.novi:]...)
	a.ghl, a.novi = len(ghl), len(novi)
	out = append(out, written(fresh, also)...)
	slices.SortStableFunc(out, func(x, y entry) int { return x.at.Compare(y.at) })
	return out, nil
}

// written returns the tasks and notes that ledgers say were made, as entries of
// the records that they hang on.
func written(ghl []ghlsim.LedgerEntry, novi []novisim.LedgerEntry) []entry {
	var out []entry
	for _, l := range ghl {
		if l.Op != ghlsim.OpCreate || l.Kind != ghlsim.KindTask && l.Kind != ghlsim.KindNote {
			continue
		}
		e := entry{system: canonical.GHL, record: l.ContactID, at: l.At, human: l.Actor == ghlsim.ActorHuman, changes: map[string]string{l.Kind: ""}}
		for _, c := range l.Changes {
			if text, ok := c.To.(string); ok && c.Field == map[string]string{ghlsim.KindTask: "title", ghlsim.KindNote: "body"}[l.Kind] {
				e.changes[l.Kind] = text
			}
		}
		out = append(out, e)
	}
	for _, l := range novi {
		if l.Op != novisim.OpCreate || l.Kind != novisim.KindActivity {
			continue
		}
		made := map[string]string{}
		for _, c := range l.Changes {
			made[c.Field], _ = c.To.(string)
		}
		for kind, what := range itemKinds {
			if what == made["ActivityType"] {
				out = append(out, entry{system: canonical.Novi, record: l.MemberID, at: l.At, human: l.Actor == novisim.ActorHuman,
					changes: map[string]string{string(kind): cmp.Or(made["Subject"], made["Notes"])}})
			}
		}
	}
	return out
}

func (a *account) print(e entry) {
	name, email := a.who(e)
	var what []string
	for _, f := range sortedFields(e.changes) {
		v := e.changes[f]
		if tag, ok := strings.CutPrefix(f, tagPrefix); ok {
			sign := "+"
			if v == "" {
				sign = "−"
			}
			what = append(what, "tag "+sign+tag)
			continue
		}
		if v == "" {
			v = "—"
		}
		what = append(what, f+" "+v)
	}
	system := map[canonical.System]string{canonical.GHL: "GHL ", canonical.Novi: "Novi"}[e.system]
	mark, after := "◆", ""
	if e.human {
		a.edited[email] = e.at
	} else {
		mark = "→"
		if at, ok := a.edited[email]; ok && e.at.Sub(at) < time.Minute {
			after = fmt.Sprintf("  (after %d ms)", e.at.Sub(at).Milliseconds())
		}
	}
	text := strings.Join(what, ", ")
	if len(text) > 150 {
		text = strings.ToValidUTF8(text[:150], "") + "…"
	}
	if text == "" {
		text = "written again, nothing changed"
	}
	_, _ = fmt.Fprintf(a.out, "%s  %s %s  %-20s %s%s\n", e.at.Local().Format(time.TimeOnly), mark, system, name, text, after)
}

// who returns the name and address that a record shows now.
func (a *account) who(e entry) (name, email string) {
	var l look
	if e.system == canonical.GHL {
		if c, ok := a.w.GHL.Contact(Location, e.record); ok {
			l, _ = a.w.ghlLook(c.Fields, c.Tags) // a record that can't be read has no name
		}
	} else if m, ok := a.w.Novi.Member(e.record); ok {
		l, _ = a.w.noviLook(m.Fields)
	}
	return strings.TrimSpace(l["first_name"] + " " + l["last_name"]), l["email"]
}

func sortedFields(m map[string]string) []string {
	out := make([]string, 0, len(m))
	for f := range m {
		out = append(out, f)
	}
	slices.Sort(out)
	return out
}
