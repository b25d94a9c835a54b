package dev

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/ghlsim"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/internal/novisim"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
)

// tagPrefix names a tag among the fields of a look: its value is "yes" or "".
const tagPrefix = "tag:"

// derivedTag begins the tags that the configuration derives.
const derivedTag = "status: "

// look is a record in canonical terms: what the mapping says that it shows.
type look map[string]string

// seen turns a record into a look.
func seen(lens *mapping.Lens, o observation.Observation) (look, error) {
	s, err := lens.Show(o)
	if err != nil {
		return nil, err
	}
	l := look{}
	for f, v := range s.Fields {
		if v != "" {
			l[f] = v
		}
	}
	var c canonical.Contact
	for f, v := range s.Fields {
		c.SetField(f, v)
	}
	for _, t := range s.Tags {
		l[tagPrefix+t] = "yes"
	}
	if o.System == canonical.Novi {
		// What Novi's fields say is said in GHL by tags, too.
		for _, t := range lens.Derived(c) {
			l[tagPrefix+t] = "yes"
		}
	}
	return l, nil
}

// names gives the keys of the location's custom fields by id.
func names() map[string]string {
	out := map[string]string{}
	for _, f := range customFields {
		out[f.ID] = f.Key
	}
	return out
}

func (w *World) ghlLook(fields map[string]any, tags []string) (look, error) {
	record := maps.Clone(fields)
	record["tags"] = tags
	raw, err := json.Marshal(record)
	if err != nil {
		return nil, err
	}
	return seen(w.Lens, observation.Observation{System: canonical.GHL, Endpoint: observation.GHLContactGet, Names: names(), Record: raw})
}

func (w *World) noviLook(fields map[string]any) (look, error) {
	raw, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	return seen(w.Lens, observation.Observation{System: canonical.Novi, Endpoint: observation.NoviMemberGet, Record: raw})
}

// Show returns what a record shows in canonical terms: by field what has a
// value, and "tag:" with each tag. It is empty if the record is not there.
func (w *World) Show(system canonical.System, id string) (map[string]string, error) {
	if system == canonical.GHL {
		if c, ok := w.GHL.Contact(Location, id); ok {
			return w.ghlLook(c.Fields, c.Tags)
		}
	} else if m, ok := w.Novi.Member(id); ok {
		return w.noviLook(m.Fields)
	}
	return nil, nil
}

// person is who a record shows: everybody has an address of their own, and
// somebody without one a number.
func (l look) person() string { return cmp.Or(l["email"], l["phone"]) }

// entry is one line of either ledger: who changed what, in canonical terms.
type entry struct {
	system  canonical.System
	record  string
	at      time.Time
	human   bool
	gone    bool              // the record is taken away
	person  string            // whom the record shows then, or "" if it is taken away
	unseen  bool              // it is a person's at Novi, and overwritten before the API had shown it
	changes map[string]string // by field, the value it took
}

// ghlEntries replays what GHL's ledger says of contacts.
func (w *World) ghlEntries() ([]entry, error) {
	type state struct {
		fields, custom map[string]any
		tags           []string
		look           look
	}
	states := map[string]*state{}
	var out []entry
	for _, e := range w.GHL.Ledger() {
		if e.Kind != ghlsim.KindContact {
			continue
		}
		s := states[e.ContactID]
		if s == nil {
			s = &state{fields: map[string]any{}, custom: map[string]any{}}
			states[e.ContactID] = s
		}
		for _, c := range e.Changes {
			if id, ok := strings.CutPrefix(c.Field, "customFields."); ok {
				s.custom[id] = c.To
			} else {
				s.fields[c.Field] = c.To
			}
		}
		s.tags = slices.DeleteFunc(s.tags, func(t string) bool { return slices.Contains(e.TagsRemoved, t) })
		s.tags = append(s.tags, e.TagsAdded...)
		var list []map[string]any
		for id, v := range s.custom {
			list = append(list, map[string]any{"id": id, "value": v})
		}
		record := maps.Clone(s.fields)
		record["customFields"] = list
		now, err := w.ghlLook(record, s.tags)
		if err != nil {
			return nil, fmt.Errorf("ledger of ghl: %w", err)
		}
		out = append(out, entry{system: canonical.GHL, record: e.ContactID, at: e.At, human: e.Actor == "human", gone: e.Op == ghlsim.OpDelete, person: now.person(), changes: difference(s.look, now)})
		s.look = now
	}
	return out, nil
}

// noviEntries replays Novi's ledger.
func (w *World) noviEntries() ([]entry, error) {
	type state struct {
		fields map[string]any
		look   look
	}
	states := map[string]*state{}
	var out []entry
	unseen := w.unseen()
	for _, e := range w.Novi.Ledger() {
		if e.Kind != novisim.KindMember {
			continue
		}
		s := states[e.MemberID]
		if s == nil {
			s = &state{fields: map[string]any{"CustomerType": "Person", "CustomFields": map[string]any{}}}
			states[e.MemberID] = s
		}
		for _, c := range e.Changes {
			top, inner, nested := strings.Cut(c.Field, ".")
			if !nested {
				s.fields[top] = c.To
				continue
			}
			object, _ := s.fields[top].(map[string]any)
			if object == nil {
				object = map[string]any{}
				s.fields[top] = object
			}
			if top == "CustomFields" {
				object[inner] = map[string]any{"Value": c.To}
			} else {
				object[inner] = c.To
			}
		}
		now, err := w.noviLook(s.fields)
		if err != nil {
			return nil, fmt.Errorf("ledger of novi: %w", err)
		}
		out = append(out, entry{system: canonical.Novi, record: e.MemberID, at: e.At, human: e.Actor == "human", gone: e.Op == novisim.OpDelete, person: now.person(), unseen: unseen[e.Seq], changes: difference(s.look, now)})
		s.look = now
	}
	return out, nil
}

// unseen returns the entries of Novi's ledger that are a person's and came
// between the last time that the API showed the record and a PUT, which
// replaced the whole of it. No client can know of them: Novi has no version
// check, no history, and its notices say only which record.
func (w *World) unseen() map[int64]bool {
	out := map[int64]bool{}
	pending := map[string][]int64{} // by record, the people's entries since the last write through the API
	for _, e := range w.Novi.Ledger() {
		if e.Actor == novisim.ActorHuman {
			pending[e.RecordID] = append(pending[e.RecordID], e.Seq)
			continue
		}
		for _, seq := range pending[e.RecordID] {
			if e.Op == novisim.OpUpdate && e.Actor == novisim.ActorAPI && seq > e.ReadAt {
				out[seq] = true
			}
		}
		delete(pending, e.RecordID)
	}
	return out
}

func difference(from, to look) map[string]string {
	out := map[string]string{}
	for f, v := range to {
		if from[f] != v {
			out[f] = v
		}
	}
	for f := range from {
		if _, ok := to[f]; !ok {
			out[f] = ""
		}
	}
	return out
}

// Verdict is what the simulators' own ledgers and records say.
type Verdict struct {
	Contacts    int
	Items       int // tasks and notes that people wrote
	Converged   bool
	Duplicates  int
	LostChanges int
	// Overwritten are the fields that are not as a person made them at Novi in
	// the instant between our read of the record and our PUT; see [World.unseen].
	Overwritten int
	// Conflicts are the fields that two people changed without having seen the
	// other's value, so that only one of the two could stay.
	Conflicts int
	// Unseen are the changes that people took back, and the records that they
	// removed, before any read could have shown them; see [reads].
	Unseen int
	// NoopWrites are the writes through an API that changed nothing.
	NoopWrites int
	// Problems say in words what is wrong, at most twenty.
	Problems []string
}

func (v *Verdict) problem(format string, args ...any) {
	if len(v.Problems) < 20 {
		v.Problems = append(v.Problems, fmt.Sprintf(format, args...))
	}
}

// Judge compares both systems field by field under the mapping, and each
// field with what people made of it.
func (w *World) Judge(reads reads) (Verdict, error) {
	var v Verdict
	ghl, novi := map[string]look{}, map[string]look{}
	for _, c := range w.GHL.Dump(Location) {
		l, err := w.ghlLook(c.Fields, c.Tags)
		if err != nil {
			return v, err
		}
		ghl[c.ID] = l
	}
	for _, m := range w.Novi.Dump() {
		if m.Fields["Active"] == false {
			continue // what Novi keeps of a record that was deleted
		}
		l, err := w.noviLook(m.Fields)
		if err != nil {
			return v, err
		}
		novi[m.UniqueID] = l
	}
	byEmail := map[string][2][]string{}
	for i, side := range []map[string]look{ghl, novi} {
		for _, id := range slices.Sorted(maps.Keys(side)) {
			p := byEmail[side[id].person()]
			p[i] = append(p[i], id)
			byEmail[side[id].person()] = p
		}
	}
	v.Converged, v.Contacts = true, len(byEmail)
	compared := w.comparedFields()
	other := map[string]string{} // record → person
	for _, email := range slices.Sorted(maps.Keys(byEmail)) {
		p := byEmail[email]
		v.Duplicates += max(0, len(p[0])-1) + max(0, len(p[1])-1)
		if len(p[0]) != 1 || len(p[1]) != 1 {
			v.Converged = false
			v.problem("%s: %d records in ghl, %d in novi", email, len(p[0]), len(p[1]))
		}
		for _, id := range append(slices.Clone(p[0]), p[1]...) {
			other[id] = email
		}
		if len(p[0]) == 0 || len(p[1]) == 0 {
			continue
		}
		a, b := ghl[p[0][0]], novi[p[1][0]]
		for f, values := range differing(a, b) {
			if !compared(f) {
				continue
			}
			v.Converged = false
			v.problem("%s: %s is %q in ghl and %q in novi", email, f, values[0], values[1])
		}
	}
	if v.Duplicates > 0 {
		v.Converged = false
	}
	if err := w.judgeEdits(&v, reads, other, ghl, novi, compared); err != nil {
		return v, err
	}
	return v, w.judgeItems(&v, reads, other)
}

// comparedFields returns which fields both systems have to show alike: those
// that are kept at both and written at one at least.
func (w *World) comparedFields() func(string) bool {
	fields := map[string]bool{}
	for _, b := range w.Lens.Bindings {
		fields[b.Field] = b.GHL.Path != "" && b.Novi.Path != "" && (b.GHL.Write == mapping.Always || b.Novi.Write == mapping.Always)
	}
	return func(f string) bool { return fields[f] || strings.HasPrefix(f, tagPrefix) }
}

func differing(a, b look) map[string][2]string {
	out := map[string][2]string{}
	for f := range a {
		if a[f] != b[f] {
			out[f] = [2]string{a[f], b[f]}
		}
	}
	for f := range b {
		if a[f] != b[f] {
			out[f] = [2]string{a[f], b[f]}
		}
	}
	return out
}

// judgeEdits asks of every field that people changed whether its value now is
// one that nobody has replaced. An edit is replaced by a later one on the same
// record, and by one on another that was made after its value had
// arrived there. Edits that are left over are in conflict: neither person had
// seen the other's value. A field that shows none of them has lost them.
// What people made of a record that is not there any more, because Causeway
// took it away or they merged it into another, counts as the person's whom it
// showed last.
func (w *World) judgeEdits(v *Verdict, reads reads, who map[string]string, ghl, novi map[string]look, compared func(string) bool) error {
	entries, err := w.ghlEntries()
	if err != nil {
		return err
	}
	more, err := w.noviEntries()
	if err != nil {
		return err
	}
	entries = append(entries, more...)
	slices.SortStableFunc(entries, func(a, b entry) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.system, b.system)) })

	now := who
	who = formerly(who, entries)
	type key struct{ person, field string }
	histories := map[key][]step{}
	removed := map[string]time.Time{} // by record that people took away
	for _, e := range entries {
		if e.human && e.gone {
			removed[e.record] = e.at
		}
	}
	for _, e := range entries {
		if !e.human && len(e.changes) == 0 {
			v.NoopWrites++
		}
		if e.person == "" {
			continue // the record is taken away, and nobody is made to show nothing
		}
		for f, value := range e.changes {
			if _, here := now[e.record]; !here && w.alone(e.system, f) {
				continue
			}
			if e.human && w.alone(e.system.Other(), f) {
				continue // it has no say in it, as one who merges records and so copies it
			}
			if compared(f) && who[e.record] != "" {
				k := key{who[e.record], f}
				histories[k] = append(histories[k], step{e.system, e.record, e.human, value, e.at, e.unseen, removed[e.record]})
			}
		}
	}
	final := map[string][2]look{}
	for id, email := range who {
		f := final[email]
		if l, ok := ghl[id]; ok {
			f[0] = l
		} else if l, ok := novi[id]; ok {
			f[1] = l
		}
		final[email] = f
	}
	keys := slices.SortedFunc(maps.Keys(histories), func(a, b key) int { return cmp.Or(cmp.Compare(a.person, b.person), cmp.Compare(a.field, b.field)) })
	for _, k := range keys {
		standing := unreplaced(histories[k])
		if len(standing) == 0 {
			continue
		}
		if len(standing) > 1 {
			v.Conflicts++
		}
		now := final[k.person]
		switch shown := slices.Contains(standing, now[0][k.field]) || slices.Contains(standing, now[1][k.field]); {
		case shown:
		case overwritten(histories[k], standing):
			v.Overwritten++
		case reads.takenBack(histories[k], standing):
			v.Unseen++
		default:
			v.LostChanges++
			v.problem("%s: %s was last made %q by people, and is %q in ghl and %q in novi; its history: %s", k.person, k.field, standing, now[0][k.field], now[1][k.field], tell(histories[k]))
		}
	}
	return nil
}

// formerly adds to who the records that are not there any more, if the person
// whom they showed last is.
func formerly(who map[string]string, entries []entry) map[string]string {
	people := map[string]bool{}
	for _, person := range who {
		people[person] = true
	}
	out, last := maps.Clone(who), map[string]string{}
	for _, e := range entries {
		last[e.record] = cmp.Or(e.person, last[e.record])
	}
	for record, person := range last {
		if _, here := who[record]; !here && people[person] {
			out[record] = person
		}
	}
	return out
}

// alone reports whether a system decides a field alone: nobody writes it
// there, so what a record showed of it goes with the record.
func (w *World) alone(system canonical.System, f string) bool {
	if tag, is := strings.CutPrefix(f, tagPrefix); is {
		return system == canonical.Novi && (w.Lens.FromGroup(tag) || strings.HasPrefix(tag, derivedTag))
	}
	b, bound := w.Lens.Binding(f)
	return bound && b.Side(system).Write != mapping.Always
}

// step is one change of one field of one person.
type step struct {
	system canonical.System
	record string
	human  bool
	value  string
	at     time.Time
	unseen bool
	// removed is when people took the record away, or zero.
	removed time.Time
}

// overwritten reports whether each of the values was given unseen.
func overwritten(history []step, values []string) bool {
	for _, v := range values {
		if !slices.ContainsFunc(history, func(s step) bool { return s.human && s.unseen && s.value == v }) {
			return false
		}
	}
	return true
}

// tell says a history in words, its last eight steps.
func tell(history []step) string {
	var out []string
	for _, s := range history[max(0, len(history)-8):] {
		by := "Causeway"
		if s.human {
			by = "a person"
		}
		out = append(out, fmt.Sprintf("%s %s by %s %q", s.at.Format("04:05.000000"), s.system, by, s.value))
	}
	return strings.Join(out, ", ")
}

// unreplaced returns the values that people gave and nobody replaced, each
// once.
func unreplaced(history []step) []string {
	var out []string
	for i, e := range history {
		if !e.human {
			continue
		}
		shown := map[string]string{} // what each record shows as time goes on
		for _, s := range history[:i+1] {
			shown[s.record] = s.value
		}
		replaced := false
		for _, s := range history[i+1:] {
			if s.human && (s.record == e.record || shown[s.record] == e.value) {
				replaced = true
				break
			}
			shown[s.record] = s.value
		}
		if !replaced && !slices.Contains(out, e.value) {
			out = append(out, e.value)
		}
	}
	return out
}
