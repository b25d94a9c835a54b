package dev

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/ghlsim"
	"github.com/causeway-sync/causeway/internal/novisim"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
)

// Tasks and notes: people write them on both sides, and make appointments in
// GHL, each with a number of its
// own in its text, by which the judge knows it again.

var (
	chores   = []string{"Call back", "Send the invoice", "Ask about the talk", "Renew the badge", "Book a room"}
	remarks  = []string{"met at the fair", "prefers mail", "asked for the minutes", "wants to volunteer", "will bring a guest"}
	numbered = regexp.MustCompile(`#\d+`)
)

// itemKinds are the kinds that people write, and the Novi activity types that
// they are kept as.
var itemKinds = map[canonical.Kind]string{canonical.KindTask: "Task", canonical.KindNote: "Note", canonical.KindAppointment: "Meeting"}

// actItem makes one random change of a task or a note.
func (p *People) actItem() error {
	kind := pick(p.r, []canonical.Kind{canonical.KindTask, canonical.KindNote, canonical.KindTask, canonical.KindNote, canonical.KindAppointment})
	if kind == canonical.KindAppointment || p.r.IntN(2) == 0 { // appointments are made in GHL
		return p.itemGHL(kind)
	}
	return p.itemNovi(kind)
}

// text is what somebody writes: it keeps the number that it had.
func (p *People) text(kind canonical.Kind, before string) string {
	number := numbered.FindString(before)
	if number == "" {
		p.n++
		number = fmt.Sprintf("#%d", p.n)
	}
	switch kind {
	case canonical.KindTask:
		return pick(p.r, chores) + " " + number
	case canonical.KindAppointment:
		return "Visit " + number
	}
	return "She " + pick(p.r, remarks) + ". " + number
}

func (p *People) hour() time.Time {
	return time.Date(2027, 1, 1+p.r.IntN(300), 9+p.r.IntN(8), 0, 0, 0, time.UTC)
}

func (p *People) due() string { return p.hour().Format(time.RFC3339) }

// visit returns the two ends of half an hour.
func (p *People) visit() (start, end string) {
	at := p.hour()
	return at.Format(time.RFC3339), at.Add(30 * time.Minute).Format(time.RFC3339)
}

func (p *People) itemGHL(kind canonical.Kind) error {
	e := ghlsim.ItemEdit{Kind: string(kind), LocationID: Location, Fields: map[string]any{}}
	named := map[canonical.Kind]string{canonical.KindTask: "title", canonical.KindNote: "body", canonical.KindAppointment: "title"}[kind]
	items := p.w.GHL.Items(Location, string(kind))
	switch what := p.r.IntN(10); {
	case len(items) == 0 || what < 5:
		e.Op, e.ContactID = ghlsim.OpCreate, pick(p.r, p.ghl)
		e.Fields[named] = p.text(kind, "")
		switch kind {
		case canonical.KindTask:
			e.Fields["dueDate"], e.Fields["completed"] = p.due(), false
		case canonical.KindAppointment:
			e.Fields["startTime"], e.Fields["endTime"] = p.visit()
			e.Fields["calendarId"] = calendar
		}
	case what == 9:
		e.Op, e.ID = ghlsim.OpDelete, pick(p.r, items).ID
	default:
		was := pick(p.r, items)
		e.Op, e.ID = ghlsim.OpUpdate, was.ID
		switch {
		case kind == canonical.KindTask && what < 7:
			e.Fields["completed"] = was.Fields["completed"] != true
		case kind == canonical.KindTask && what == 7:
			e.Fields["dueDate"] = p.due()
		case kind == canonical.KindAppointment && what < 7:
			e.Fields["startTime"], e.Fields["endTime"] = p.visit()
		case kind == canonical.KindAppointment:
			e.Fields["appointmentStatus"] = pick(p.r, []string{"confirmed", "cancelled", "showed"})
		default:
			before, _ := was.Fields[named].(string)
			e.Fields[named] = p.text(kind, before)
		}
	}
	if _, err := p.w.GHL.EditItem(e); err != nil && !errors.Is(err, ghlsim.ErrNotFound) {
		return fmt.Errorf("%s in ghl: %w", kind, err)
	}
	return nil
}

func (p *People) itemNovi(kind canonical.Kind) error {
	e := novisim.ItemEdit{Fields: map[string]any{}}
	named := map[canonical.Kind]string{canonical.KindTask: "Subject", canonical.KindNote: "Notes"}[kind]
	items := slices.DeleteFunc(p.w.Novi.Activities(), func(a novisim.Activity) bool { return a.Fields["ActivityType"] != itemKinds[kind] })
	switch what := p.r.IntN(10); {
	case len(items) == 0 || what < 5:
		e.Op, e.MemberID = novisim.OpCreate, pick(p.r, p.members)
		e.Fields["ActivityType"], e.Fields[named] = itemKinds[kind], p.text(kind, "")
		if kind == canonical.KindTask {
			e.Fields["Date"] = p.due()
		}
	case what == 9:
		e.Op, e.ID = novisim.OpDelete, pick(p.r, items).UniqueID
	default:
		was := pick(p.r, items)
		e.Op, e.ID = novisim.OpUpdate, was.UniqueID
		switch {
		case kind == canonical.KindTask && what < 7:
			e.Fields["TaskComplete"] = was.Fields["TaskComplete"] != true
		case kind == canonical.KindTask && what == 7:
			e.Fields["Date"] = p.due()
		default:
			before, _ := was.Fields[named].(string)
			e.Fields[named] = p.text(kind, before)
		}
	}
	if _, err := p.w.Novi.EditItem(e); err != nil && !errors.Is(err, novisim.ErrNotFound) {
		return fmt.Errorf("%s in novi: %w", kind, err)
	}
	return nil
}

// itemFields are compared on both sides.
var itemFields = map[canonical.Kind][]string{
	canonical.KindTask: {"title", "body", "due", "completed"},
	canonical.KindNote: {"body"},
	// What else an appointment holds is one text in Novi.
	canonical.KindAppointment: {"title", "start"},
}

// itemLook is an item in canonical terms, and the record that it hangs on.
func (w *World) itemLook(system canonical.System, kind canonical.Kind, parent string, fields map[string]any) (look, error) {
	endpoint := map[canonical.System]string{canonical.GHL: observation.GHLTaskGet, canonical.Novi: observation.NoviActivityGet}[system]
	raw, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	s, err := w.Lens.Show(observation.Observation{System: system, Kind: kind, Endpoint: endpoint, Parent: canonical.ExternalID(parent), Record: raw})
	if err != nil {
		return nil, err
	}
	l := look{}
	for _, f := range itemFields[kind] {
		if v := s.Fields[f]; v != "" {
			l[f] = v
		}
	}
	return l, nil
}

// number is what an item is known by.
func (l look) number() string {
	return cmp.Or(numbered.FindString(l["title"]), numbered.FindString(l["body"]))
}

// sighted is an item at one system.
type sighted struct {
	look   look
	person string
}

// itemsNow returns the items of a kind at a system, by number.
func (w *World) itemsNow(system canonical.System, kind canonical.Kind, who map[string]string) (map[string][]sighted, error) {
	out := map[string][]sighted{}
	add := func(parent string, fields map[string]any) error {
		l, err := w.itemLook(system, kind, parent, fields)
		if err == nil {
			out[l.number()] = append(out[l.number()], sighted{l, who[parent]})
		}
		return err
	}
	if system == canonical.GHL {
		for _, i := range w.GHL.Items(Location, string(kind)) {
			if err := add(i.ContactID, i.Fields); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	for _, a := range w.Novi.Activities() {
		if a.Fields["ActivityType"] == itemKinds[kind] {
			if err := add(a.MemberID, a.Fields); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// judgeItems compares the tasks and notes of both systems, and each with what
// people made of it. who is the person behind each record.
func (w *World) judgeItems(v *Verdict, reads reads, who map[string]string) error {
	for _, kind := range canonical.Items() {
		histories, deleted, err := w.itemHistories(kind, reads)
		if err != nil {
			return err
		}
		ghl, err := w.itemsNow(canonical.GHL, kind, who)
		if err != nil {
			return err
		}
		novi, err := w.itemsNow(canonical.Novi, kind, who)
		if err != nil {
			return err
		}
		numbers := slices.Sorted(maps.Keys(histories))
		for n := range ghl {
			numbers = append(numbers, n)
		}
		for n := range novi {
			numbers = append(numbers, n)
		}
		slices.Sort(numbers)
		for _, n := range slices.Compact(numbers) {
			w.judgeItem(v, reads, kind, n, ghl[n], novi[n], histories[n], deleted[n])
		}
	}
	return nil
}

func (w *World) judgeItem(v *Verdict, reads reads, kind canonical.Kind, number string, ghl, novi []sighted, history map[string][]step, deleted removal) {
	v.Items++
	v.Duplicates += max(0, len(ghl)-1) + max(0, len(novi)-1)
	want := 1
	if deleted.unseen && !deleted.seen && len(ghl) == 1 && len(novi) == 1 {
		v.Unseen++ // it was made again
	}
	if deleted.seen {
		want = 0
	}
	if len(ghl) != want || len(novi) != want {
		v.Converged = false
		v.problem("%s %s: %d in ghl, %d in novi, want %d", kind, number, len(ghl), len(novi), want)
		if !deleted.seen && len(ghl)+len(novi) == 0 {
			v.LostChanges++
		}
		return
	}
	if deleted.seen {
		return
	}
	if ghl[0].person != novi[0].person {
		v.Converged = false
		v.problem("%s %s: hangs on different people", kind, number)
	}
	for _, f := range itemFields[kind] {
		a, b := ghl[0].look[f], novi[0].look[f]
		if !w.Lens.Same(kind, f, a, b) {
			v.Converged = false
			v.problem("%s %s: %s is %q in ghl and %q in novi", kind, number, f, a, b)
		}
		standing := unreplaced(history[f])
		if len(standing) > 1 {
			v.Conflicts++
		}
		switch {
		case len(standing) == 0, slices.Contains(standing, a), slices.Contains(standing, b):
		case overwritten(history[f], standing):
			v.Overwritten++
		case reads.takenBack(history[f], standing):
			v.Unseen++
		default:
			v.LostChanges++
			v.problem("%s %s: %s was last made %q by people, and is %q in ghl and %q in novi; its history: %s", kind, number, f, standing, a, b, tell(history[f]))
		}
	}
}

// removal says that people have deleted an item: seen, or a record of it that
// no read had ever shown, because it was made an instant before, or that none
// has shown under the contact into which people had merged its own, so that it
// might have gone with that one.
type removal struct{ seen, unseen bool }

// itemHistories replays both ledgers: by number and field the steps, and which
// items people have deleted.
func (w *World) itemHistories(kind canonical.Kind, reads reads) (map[string]map[string][]step, map[string]removal, error) {
	type change struct {
		system canonical.System
		record string
		parent string
		at     time.Time
		human  bool
		unseen bool
		gone   bool
		fields map[string]any
	}
	var all []change
	unseen := w.unseen()
	for _, e := range w.GHL.Ledger() {
		if e.Kind != string(kind) {
			continue
		}
		c := change{canonical.GHL, e.RecordID, e.ContactID, e.At, e.Actor == ghlsim.ActorHuman, false, e.Op == ghlsim.OpDelete, map[string]any{}}
		for _, f := range e.Changes {
			c.fields[f.Field] = f.To
		}
		all = append(all, c)
	}
	for _, e := range w.Novi.Ledger() {
		if e.Kind != novisim.KindActivity {
			continue
		}
		c := change{canonical.Novi, e.RecordID, e.MemberID, e.At, e.Actor == novisim.ActorHuman, unseen[e.Seq], e.Op == novisim.OpDelete, map[string]any{}}
		for _, f := range e.Changes {
			c.fields[f.Field] = f.To
		}
		all = append(all, c)
	}
	slices.SortStableFunc(all, func(a, b change) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.system, b.system)) })
	records, looks, made := map[string]map[string]any{}, map[string]look{}, map[string]bool{} // made by Causeway
	parents, moved := map[string]string{}, map[string]time.Time{}                             // when people merged its contact into another
	histories, deleted := map[string]map[string][]step{}, map[string]removal{}
	for _, c := range all {
		if c.gone {
			if n := looks[c.record].number(); n != "" && c.human {
				d := deleted[n]
				at, with := moved[c.record]
				if len(reads[c.record]) == 0 && made[c.record] || with && !reads.between(c.record, at, c.at) {
					d.unseen = true
				} else {
					d.seen = true
				}
				deleted[n] = d
			}
			continue
		}
		if was := parents[c.record]; was != "" && was != c.parent && c.human {
			moved[c.record] = c.at
		}
		parents[c.record] = c.parent
		if records[c.record] == nil {
			records[c.record], made[c.record] = map[string]any{}, !c.human
		}
		maps.Copy(records[c.record], c.fields)
		if typ, ok := records[c.record]["ActivityType"]; c.system == canonical.Novi && (!ok || typ != itemKinds[kind]) {
			continue
		}
		now, err := w.itemLook(c.system, kind, c.parent, records[c.record])
		if err != nil {
			return nil, nil, fmt.Errorf("ledger of %s: %w", c.system, err)
		}
		n := now.number()
		if histories[n] == nil {
			histories[n] = map[string][]step{}
		}
		for f, value := range difference(looks[c.record], now) {
			histories[n][f] = append(histories[n][f], step{c.system, c.record, c.human, value, c.at, c.unseen, time.Time{}})
		}
		looks[c.record] = now
	}
	return histories, deleted, nil
}
