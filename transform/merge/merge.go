// Package merge decides what is true: (state, observation, policy) → (state',
// changes). It is pure: no clock, no I/O, no randomness, and it never changes
// the state that it is given.
//
// Its laws, held by property tests: an observation merged twice changes
// nothing the second time; one that is older than what the system is known to
// show changes nothing; a record that didn't change at its system never
// overrides one that did; and once the last observation of each side has been
// merged, writing each side's projection and observing it again changes
// nothing more.
package merge

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
)

// Policy is what a tenant has decided beforehand.
type Policy struct {
	// Lens gives each field's authority and says which tags are a group's.
	Lens *mapping.Lens
	// Skew is how far the systems' clocks may be apart. When two values compete
	// whose stamps differ by no more, the stamps don't decide: the field's
	// authority does, and where that is newest, Novi's value stays (see wins). 0
	// means that only equal times are too close.
	Skew time.Duration
	// Rules say what a delete does; nil means the defaults.
	Rules *mapping.Policy
}

// Seen is an observation in canonical terms.
type Seen struct {
	System   canonical.System
	External canonical.ExternalID
	Shown    mapping.Shown
	At       canonical.Read
	Via      observation.Via
	Absent   bool
	// Contact is the entity that Shown.Parent belongs to, or "" while nobody
	// knows; ParentGone says of an absence that the contact is gone with it.
	Contact    canonical.CanonicalID
	ParentGone bool
	// OtherContact is what the other entity of [Join], an item too, hangs on.
	OtherContact canonical.CanonicalID
	// ParentReplaced says of an absence that the contact's record on which the
	// record hung was taken away because the contact has another, by us or by
	// whoever merged the two at the system.
	ParentReplaced bool
	// Wrote and Atomic are a writeback's; see [observation.Observation].
	Wrote  map[string]string
	Atomic bool
	// Target is the record that an intent is about, "" for one that is yet to be
	// made, which Creates says. Of a writeback's absence that says that the record
	// was made, and somebody else took it away.
	Target  canonical.ExternalID
	Creates bool
	// Twin says of an absence that the record was merged into another of the
	// same person, so that nobody was removed.
	Twin bool
	// Reason is a person's; see [Unmerge].
	Reason string
	// Again says that it was merged before, under the same sequence, perhaps with
	// another mapping: what is as old as what is known counts, too.
	Again bool
	// Firing is a rule's; what it asks for is in Wrote.
	Firing *canonical.Firing
	// Restored says that the system was restored from a backup; see restored.
	Restored bool
	// Before is what the mapping reads today in the sights that the base is from,
	// of what it read in another way then; see [Reread].
	Before mapping.Shown
}

// Outcome says what a merge came to. The zero value is that nothing at all
// changed, not even the bookkeeping.
type Outcome struct {
	// Op is what the event to publish says, or "" if there is none to publish.
	Op canonical.Op
	// Origin is the system whose user made the changes.
	Origin canonical.System
	// At is the latest time at which something changed.
	At time.Time
	// Fighting names the field, or fields, that this observation has shown to
	// flip between values and that are held from now on; see [Release]. It never
	// holds a value.
	Fighting string
}

// Apply merges seen into state, the entity's last event, or for a new entity
// what [canonical.NewEvent] gives. It returns the next state with Changes
// filled; Version and Cause are set here too (Cause by the observation's RAW
// sequence).
func Apply(state canonical.Event, seen Seen, policy Policy) (canonical.Event, Outcome) {
	m := &merger{policy: policy, seen: seen, old: state, next: state}
	m.next.Sync.Linked, m.next.Sync.Joined = nil, false
	switch seen.Via {
	case observation.Intent:
		m.seen.External = seen.Target
		m.find()
		return m.intent()
	case observation.Relink:
		m.base, m.known = state.Sync.Base[seen.System]
		return m.relink()
	case observation.Wake:
		return m.wake()
	case observation.Keep:
		return m.keep()
	case observation.FromRule:
		return m.rule()
	}
	m.find()
	m.overtaken()
	switch {
	case m.seen.Restored && state.Version > 0:
		return m.restored()
	case m.known && !off.stale && !m.news(m.base.At) && (m.base.Gone || !m.hasNewerField()):
		if m.settle(); m.dirty { // stale, but it ends an intent
			if m.next.Changes = nil; m.other {
				m.setBase(m.newBase)
			}
			return m.publish()
		}
		return state, Outcome{} // stale, or the same thing again
	case seen.Absent, seen.Shown.Inactive && (state.Deleted() || m.other || m.spare()):
		// Of a tombstone's member, and of one that was merged into another, no
		// more is left than an inactive one.
		return m.absent()
	}
	m.thaw()
	m.next.Changes = nil
	m.next.Sync.Stamps = cloneMap(state.Sync.Stamps)
	m.read()
	m.fields()
	m.tags()
	m.parent()
	m.revive()
	return m.finish()
}

type merger struct {
	policy    Policy
	seen      Seen
	old, next canonical.Event
	base      canonical.Base // as it was
	known     bool           // the system has shown this record before
	other     bool           // it is not its system's primary one
	before    canonical.Base // the one that is gone, in whose place it is seen for the first time
	newBase   canonical.Base
	changed   []string        // what the mapping reads in another way than before
	fresh     map[string]bool // tags that the base has only because they are read now
	dirty     bool            // base, links, stamps or renderings changed
	at        int64
	fighting  []string
	folding   bool   // two entities, and no record
	cause     uint64 // the observation's sequence, if it isn't seen's
}

// find looks up what is known of the record. The first of its system is the
// primary one, and another takes its place when that is gone.
func (m *merger) find() {
	primary, there := m.old.Sync.Base[m.seen.System]
	if there && (primary.External == m.seen.External || m.seen.Via == observation.Intent && m.seen.External == "" && !(m.seen.Creates && !primary.Gone)) {
		m.base, m.known = primary, true
		return
	}
	m.base, m.known = m.old.Sync.Others[m.seen.System][m.seen.External]
	m.other = there && (!primary.Gone || m.seen.Absent)
	if !m.known && !m.other && m.next.Kind() == canonical.KindContact {
		m.before = primary
	}
}

// news reports whether what was seen may say more than what was read at.
func (m *merger) news(at canonical.Read) bool {
	return m.seen.At.Newer(at) || m.seen.Again && m.seen.At == at
}

// spare reports whether the system has another record of the person.
func (m *merger) spare() bool {
	for x, b := range m.old.Sync.Others[m.seen.System] {
		if x != m.seen.External && !b.Gone && !b.Inactive {
			return true
		}
	}
	return false
}

// hasNewerField reports whether an observation that is older than the newest
// one covers a field that was last shown even earlier.
func (m *merger) hasNewerField() bool {
	for f, at := range m.base.FieldAt {
		if _, covered := m.seen.Shown.Fields[f]; covered && m.news(at) {
			return true
		}
		if f == tagsField && m.seen.Shown.Tagged && m.news(at) {
			return true
		}
	}
	return false
}

// tagsField is the name under which FieldAt and Changes speak of tags.
const tagsField = "tags"

func (m *merger) shownAt(field string) canonical.Read {
	if at, ok := m.base.FieldAt[field]; ok {
		return at
	}
	return m.base.At
}

// changedAt is the time that a change seen now gets: the record's modified
// time if that has moved since the base, else when the read began, since
// records change without it.
func (m *merger) changedAt() int64 {
	if m.seen.At.Modified != 0 && (!m.known || m.seen.At.Modified > m.base.At.Modified) {
		return m.seen.At.Modified
	}
	return m.seen.At.AsOf
}

// intent notes what the sink is about to write, in place of what it said
// before. An empty one says that it won't write after all. One that comes
// again, late, is known by its sequence.
func (m *merger) intent() (canonical.Event, Outcome) {
	was := m.intended()
	if off.intents || m.old.Version == 0 || m.seen.At.Seq <= was.Seq || len(was.Fields)+len(m.seen.Wrote) == 0 || m.other && !m.known {
		return m.old, Outcome{}
	}
	w := canonical.Writing{Seq: m.seen.At.Seq, Fields: maps.Clone(m.seen.Wrote), Creates: m.seen.Creates}
	if w.Creates {
		w.Parent = m.seen.Shown.Parent
	}
	m.setWriting(w)
	m.next.Changes = nil
	if m.other {
		m.setBase(m.newBase)
	}
	return m.publish()
}

// settle ends, with a writeback, the intents that it answers.
func (m *merger) settle() {
	writing := m.intended()
	if m.seen.Via != observation.Writeback || len(writing.Fields) == 0 || m.seen.At.Seq <= writing.Seq {
		return
	}
	left := maps.Clone(writing.Fields)
	maps.DeleteFunc(left, func(f, v string) bool {
		_, covered := m.seen.Shown.Fields[f]
		covered = covered || m.seen.Shown.Tagged && strings.HasPrefix(f, canonical.TagField(""))
		wrote, ok := m.seen.Wrote[f]
		return covered && ok && wrote == v
	})
	if len(left) < len(writing.Fields) || writing.Creates {
		m.setWriting(canonical.Writing{Seq: writing.Seq, Fields: left})
		m.dirty = true
	}
}

// overtaken finds what somebody changed after a write of ours whose writeback
// comes only now, later than a sight of the change. Until then what was there
// before the write, and what somebody has put back since, could not be told
// apart; the record's own times tell. What the writeback shows becomes the base
// of these fields, and they are merged again as that sight showed them.
func (m *merger) overtaken() {
	writing := m.intended()
	if m.seen.Via != observation.Writeback || !m.known || m.other || m.base.Gone || m.seen.At.Seq <= writing.Seq || m.seen.At.Modified == 0 {
		return
	}
	later := func(f string) bool { return m.shownAt(f).Modified > m.seen.At.Modified }
	base, again := m.base, mapping.Shown{Fields: map[string]string{}}
	base.Fields, base.FieldAt, base.Tags = maps.Clone(base.Fields), cloneMap(base.FieldAt), slices.Clone(base.Tags)
	for _, f := range slices.Sorted(maps.Keys(writing.Fields)) {
		wrote := writing.Fields[f]
		if answered, ok := m.seen.Wrote[f]; !ok || answered != wrote {
			continue
		}
		if tag, ok := strings.CutPrefix(f, canonical.TagField("")); ok {
			want := wrote != ""
			if !m.base.Tagged || !m.seen.Shown.Tagged || !later(tagsField) || slices.Contains(m.seen.Shown.Tags, tag) != want || slices.Contains(m.base.Tags, tag) == want {
				continue
			}
			base.Tags = slices.DeleteFunc(base.Tags, func(t string) bool { return t == tag })
			if want {
				base.Tags = append(base.Tags, tag)
			}
			base.FieldAt[tagsField], again.Tagged, again.Tags = m.seen.At, true, m.base.Tags
			continue
		}
		was, shown := m.base.Fields[f]
		now, covered := m.seen.Shown.Fields[f]
		arrived := covered && (m.same(f, now, wrote) || m.seen.Atomic || resembles(wrote, now))
		if !shown || !arrived || !later(f) || was == now || m.same(f, m.valueOf(f, was), wrote) {
			continue
		}
		if now != wrote {
			m.render(f, canonical.Rendering{Shown: now, Value: wrote})
		}
		base.Fields[f], base.FieldAt[f], again.Fields[f] = now, m.seen.At, was
	}
	if len(again.Fields) == 0 && !again.Tagged {
		return
	}
	slices.Sort(base.Tags)
	m.settle()
	m.setBase(base)
	m.cause, m.old, m.base, m.dirty = m.seen.At.Seq, m.next, base, true
	m.seen.Shown, m.seen.At, m.seen.Wrote = again, base.At, nil
}

// arrived reports whether value is what the sink is writing to f. That it has
// been seen ends the intent: what is shown from now on is somebody's change.
func (m *merger) arrived(f, value string) bool {
	if wrote, ok := m.seen.Wrote[f]; ok && wrote == value {
		return true // the writeback itself, which ends its intents in settle
	}
	w := m.intended()
	if writing, ok := w.Fields[f]; !ok || writing != value {
		return false
	}
	fields := maps.Clone(w.Fields)
	delete(fields, f)
	m.setWriting(canonical.Writing{Seq: w.Seq, Fields: fields})
	m.dirty = true
	return true
}

// intended is what the sink is about to write to the record.
func (m *merger) intended() canonical.Writing {
	switch {
	case !m.other:
		return m.next.Sync.Writing[m.seen.System]
	case m.newBase.Writing != nil:
		return *m.newBase.Writing
	case m.base.Writing != nil:
		return *m.base.Writing
	}
	return canonical.Writing{}
}

func (m *merger) setWriting(w canonical.Writing) {
	if m.other {
		if m.newBase.External == "" { // nothing else is merged
			m.newBase = m.base
		}
		m.newBase.Writing = &w
		return
	}
	m.next.Sync.Writing = cloneMap(m.next.Sync.Writing)
	m.next.Sync.Writing[m.seen.System] = w
}

func (m *merger) fields() {
	m.newBase = canonical.Base{
		External: m.seen.External, At: m.base.At, Tags: m.base.Tags, Tagged: m.base.Tagged, Grouped: m.base.Grouped,
		Fields: maps.Clone(m.base.Fields), FieldAt: maps.Clone(m.base.FieldAt), Writing: m.base.Writing, Inactive: m.seen.Shown.Inactive, Also: m.seen.Shown.Also, Reading: m.base.Reading,
	}
	if m.newBase.Fields == nil {
		m.newBase.Fields = map[string]string{}
	}
	if m.newBase.FieldAt == nil {
		m.newBase.FieldAt = map[string]canonical.Read{}
	}
	if !m.known || m.base.Gone {
		m.dirty = true
		m.next.Sync.Linked = []canonical.System{m.seen.System}
	}
	m.dirty = m.dirty || m.base.Inactive != m.newBase.Inactive || !slices.Equal(m.base.Also, m.newBase.Also)
	m.newBase.Parent = cmp.Or(m.seen.Shown.Parent, m.base.Parent)
	newest := !m.known || m.seen.Restored || m.news(m.base.At)
	if newest {
		// What this observation does not cover keeps the time of its last sight.
		for f := range m.base.Fields {
			if _, covered := m.seen.Shown.Fields[f]; !covered {
				m.newBase.FieldAt[f] = m.shownAt(f)
			}
		}
		if m.base.Tagged && !m.seen.Shown.Tagged {
			m.newBase.FieldAt[tagsField] = m.shownAt(tagsField)
		}
		m.newBase.At = m.seen.At
		// The record was touched since, though it may look the same: a sight
		// from before the touch must not pass for a change after it. Where a
		// record doesn't say when it was touched, each sight may be after one;
		// what comes late is an older sight that was delivered again.
		m.dirty = m.dirty || m.seen.At.Modified > m.base.At.Modified || m.seen.At.Modified == 0 && m.seen.At.AsOf > m.base.At.AsOf && m.next.Kind() != canonical.KindContact
	}
	names := slices.Sorted(maps.Keys(m.seen.Shown.Fields))
	for _, f := range names {
		if m.known && !off.stale && !m.seen.Restored && !m.news(m.shownAt(f)) {
			if _, shown := m.base.Fields[f]; shown {
				continue // rule 1: older than the base
			}
		}
		m.field(f, m.seen.Shown.Fields[f])
		if newest || m.seen.At == m.base.At {
			delete(m.newBase.FieldAt, f)
		} else {
			m.newBase.FieldAt[f] = m.seen.At
		}
	}
	m.noteReading()
}

// field merges one covered field, shown as shown.
func (m *merger) field(f, shown string) {
	baseShown, inBase := m.base.Fields[f]
	if inBase && m.seen.Shown.Fold && strings.EqualFold(baseShown, shown) {
		shown = baseShown // a lagging index may fold case; that is no change
	}
	if !inBase || baseShown != shown {
		m.newBase.Fields[f] = shown
		m.dirty = true
	}
	if m.seen.Restored || m.other && m.readOnly(f, m.seen.System) {
		return
	}
	value := shown
	if wrote, ok := m.seen.Wrote[f]; ok && !off.renderings && wrote != shown && (m.seen.Atomic || resembles(wrote, shown)) {
		// The system's way of showing what we wrote.
		m.render(f, canonical.Rendering{Shown: shown, Value: wrote})
		value = wrote
	} else if r, ok := m.old.Sync.Rendered[m.seen.System][f]; ok && !off.renderings && r.Shown == shown {
		value = r.Value // rule 2
	} else if w := m.writing(f); w != "" && w != shown && bare(w) == bare(shown) && (!inBase || shown != baseShown) && !off.renderings {
		// What is being written, in the system's way, before its writeback has come.
		m.render(f, canonical.Rendering{Shown: shown, Value: w})
		value = w
	}
	current := m.next.Field(f)
	baseValue := m.valueOf(f, baseShown)
	if inBase && m.same(f, baseShown, shown) && !off.equal {
		return // rule 3: nothing changed at that system
	}
	// What the sink is writing, seen before its writeback has come.
	ours := m.arrived(f, value)
	if m.same(f, value, current) {
		// Equal: keep the earlier stamp, unless the field has none yet.
		if _, ok := m.next.Sync.Stamps[f]; !ok && value != "" {
			m.stamp(f)
		}
		return
	}
	if ours {
		return // and canonical has moved on
	}
	authority := m.policy.Lens.AuthorityOf(m.next.Kind(), f)
	if was, had := m.before.Fields[f]; had && m.same(f, was, shown) && m.next.Sync.Stamps[f].Seq != 0 && m.next.Sync.Stamps[f].Origin != m.seen.System {
		return // rule 3 holds of what the record has taken over
	}
	if !inBase {
		m.firstSight(f, value, current, authority)
		return
	}
	switch {
	case m.held(f, value, authority):
		m.lose(f, value, current, canonical.ReasonFlip)
	case !m.allowed(f, authority, value):
		m.lose(f, value, current, canonical.ReasonAuthority)
	case baseValue == current && (authority != mapping.Union || m.writing(f) == ""):
		m.win(f, value, current, "")
	default:
		m.compete(f, value, current, baseValue, authority)
	}
}

// readOnly reports whether a contact's field is read at a system and never
// written to a record that is there: what the primary record shows stays, so
// another record of the person has no say in it.
func (m *merger) readOnly(f string, s canonical.System) bool {
	b, bound := m.policy.Lens.BindingOf(m.next.Kind(), f)
	return bound && m.next.Kind() == canonical.KindContact && b.Side(s).Path != "" && b.Side(s).Write != mapping.Always
}

// same reports whether two values of f say the same.
func (m *merger) same(f, a, b string) bool { return m.policy.Lens.Same(m.next.Kind(), f, a, b) }

// valueOf translates what the system shows to the value it stands for.
func (m *merger) valueOf(f, shown string) string {
	if r, ok := m.old.Sync.Rendered[m.seen.System][f]; ok && r.Shown == shown {
		return r.Value
	}
	return shown
}

// allowed reports whether a user of the seen system may give f this value.
func (m *merger) allowed(f string, authority mapping.Authority, value string) bool {
	b, bound := m.policy.Lens.BindingOf(m.next.Kind(), f)
	other := b.Side(m.seen.System.Other()).Path
	if m.next.Kind() == canonical.KindAppointment && f == "summary" {
		return false // it follows from what GHL has fields for
	}
	switch authority {
	case mapping.ByGHL:
		return m.seen.System == canonical.GHL || !bound || other == ""
	case mapping.ByNovi:
		return m.seen.System == canonical.Novi || !bound || other == ""
	case mapping.OptOut:
		// An opt-out wins always; it is lifted where the person was asked, in
		// GHL, never from Novi (dossier GHL §4.5).
		return value == "true" || m.seen.System == canonical.GHL
	}
	return true
}

// firstSight merges a field that this system has never shown before. There is
// no base, so nobody knows who changed what: empty says nothing, and where
// both have a value the authority or the newer stamp decides.
func (m *merger) firstSight(f, value, current string, authority mapping.Authority) {
	switch {
	case value == "":
	case current != "" && m.made(f):
		// We made the record with an older value. Somebody who changed it before
		// its first sight can't be told from that.
	case m.held(f, value, authority):
		m.lose(f, value, current, canonical.ReasonFlip)
	case current == "":
		// A side without the authority still fills a gap: there is nothing to lose.
		m.win(f, value, current, "")
	case !m.allowed(f, authority, value):
		m.lose(f, value, current, canonical.ReasonAuthority)
	default:
		m.compete(f, value, current, "", authority)
	}
}

// made reports whether the record says that it was made for this entity, by
// us, and f is a field that we write there.
func (m *merger) made(f string) bool {
	b, bound := m.policy.Lens.BindingOf(m.next.Kind(), f)
	return bound && m.seen.Shown.Ref != "" && m.seen.Shown.Ref == m.old.ID() && b.Side(m.seen.System).Write != mapping.Never
}

// win makes value canonical. reason says why current lost, if the two competed.
func (m *merger) win(f, value, current, reason string) {
	m.edited(f, value)
	c := canonical.Change{Field: f, From: current, To: value, Origin: m.seen.System, At: micros(m.changedAt())}
	stamp, had := m.next.Sync.Stamps[f]
	if reason != "" {
		c.Conflict = &canonical.Conflict{Lost: current, Origin: stamp.Origin, Reason: reason}
	}
	if had {
		m.left(f, current, value)
	}
	m.next.SetField(f, value)
	m.stamp(f)
	m.next.Changes = append(m.next.Changes, c)
	m.dirty = true
}

// edited remembers, of an entity that others were folded into, what people do
// at which record.
func (m *merger) edited(f, value string) {
	if len(m.old.Sync.Folded) == 0 || m.folding || m.next.Kind() != canonical.KindContact {
		return
	}
	all := cloneMap(m.next.Sync.Later)
	at := cloneMap(all[m.seen.System])
	of := cloneMap(at[m.seen.External])
	of[f] = canonical.Edit{Stamp: canonical.Stamp{At: m.changedAt(), Seq: m.seen.At.Seq, Origin: m.seen.System}, Value: value}
	at[m.seen.External], all[m.seen.System] = of, at
	m.next.Sync.Later = all
}

func (m *merger) lose(f, value, current, reason string) {
	m.next.Changes = append(m.next.Changes, canonical.Change{
		Field: f, From: current, To: current, Origin: m.next.Sync.Stamps[f].Origin, At: micros(m.next.Sync.Stamps[f].At),
		Conflict: &canonical.Conflict{Lost: value, Origin: m.seen.System, Reason: reason},
	})
	m.left(f, value, value)
	m.dirty = true
}

// stamp notes that f took its value now, and never earlier than before: a
// change by somebody who saw the old value is later than it, whatever the
// clocks say.
func (m *merger) stamp(f string) {
	at := max(m.changedAt(), m.next.Sync.Stamps[f].At)
	m.next.Sync.Stamps[f] = canonical.Stamp{At: at, Seq: m.seen.At.Seq, Origin: m.seen.System}
	m.at = max(m.at, m.changedAt())
	m.dirty = true
}

func (m *merger) render(f string, r canonical.Rendering) {
	if m.old.Sync.Rendered[m.seen.System][f] == r {
		return
	}
	all := cloneMap(m.next.Sync.Rendered)
	mine := cloneMap(all[m.seen.System])
	mine[f] = r
	all[m.seen.System] = mine
	m.next.Sync.Rendered = all
	m.dirty = true
}

// tags merges the tags as a set whose elements each have their own stamp.
func (m *merger) tags() {
	s := m.seen.Shown
	covered := func(tag string) bool {
		if m.policy.Lens.FromGroup(tag) {
			return s.Grouped
		}
		return s.Tagged
	}
	if !s.Tagged && !s.Grouped {
		return
	}
	newest := !m.known || m.seen.Restored || m.news(m.base.At)
	if m.known && m.base.Tagged && !off.stale && !m.seen.Restored && !m.news(m.shownAt(tagsField)) {
		return
	}
	before := map[string]bool{}
	for _, t := range m.base.Tags {
		before[t] = true
	}
	now := map[string]bool{}
	for _, t := range s.Tags {
		now[t] = true
	}
	set := map[string]canonical.TagStamp{}
	changed := false
	current := func(tag string) canonical.TagStamp {
		if ts, ok := set[tag]; ok {
			return ts
		}
		return m.old.Sync.Tags[tag]
	}
	apply := func(tag string, present bool) {
		if m.seen.Restored {
			return
		}
		have := current(tag)
		if present && have.Seq != 0 && (m.fresh[tag] || slices.Contains(m.before.Tags, tag)) {
			return // somebody has decided about it
		}
		shown := ""
		if present {
			shown = "true"
		}
		ours := m.arrived(canonical.TagField(tag), shown)
		switch {
		case m.policy.Lens.Derives(tag):
			if !ours {
				m.derived(tag, present)
			}
			return
		case ours || have.Present == present:
			return
		}
		if m.policy.Lens.FromGroup(tag) && (m.seen.System != canonical.Novi || m.other) {
			return // the group's: Novi decides, by its primary record
		}
		if m.other && m.policy.Rules != nil && tag == m.policy.Rules.DuplicatesTag {
			return // it marks the record, not the person
		}
		stamp := canonical.Stamp{At: m.changedAt(), Seq: m.seen.At.Seq, Origin: m.seen.System}
		inSync := before[tag] == have.Present && m.known
		if have.Seq != 0 && !inSync && !stamp.Newer(have.Stamp) {
			return
		}
		f := canonical.TagField(tag)
		if m.held(f, shown, mapping.Newest) {
			m.loseTag(tag, present)
			return
		}
		if have.Seq != 0 {
			m.left(f, map[bool]string{true: "true"}[have.Present], shown)
		}
		stamp.At = max(stamp.At, have.At)
		m.edited(f, shown)
		set[tag] = canonical.TagStamp{Stamp: stamp, Present: present}
		m.at = max(m.at, m.changedAt())
		changed = true
	}
	baseTags := make([]string, 0, len(now))
	for _, tag := range slices.Sorted(maps.Keys(now)) {
		if covered(tag) {
			baseTags = append(baseTags, tag)
			if !before[tag] || m.fresh[tag] {
				apply(tag, true)
			}
		}
	}
	for _, tag := range m.base.Tags {
		switch {
		case now[tag]:
		case covered(tag):
			apply(tag, false)
		default:
			baseTags = append(baseTags, tag)
		}
	}
	slices.Sort(baseTags)
	baseTags = slices.Compact(baseTags)
	if !slices.Equal(baseTags, m.base.Tags) || m.base.Tagged != (m.base.Tagged || s.Tagged) || m.base.Grouped != (m.base.Grouped || s.Grouped) {
		m.dirty = true
	}
	m.newBase.Tags = baseTags
	m.newBase.Tagged = m.base.Tagged || s.Tagged
	m.newBase.Grouped = m.base.Grouped || s.Grouped
	if newest || m.seen.At == m.base.At {
		delete(m.newBase.FieldAt, tagsField)
	} else {
		m.newBase.FieldAt[tagsField] = m.seen.At
	}
	if !changed {
		return
	}
	all := cloneMap(m.old.Sync.Tags)
	maps.Copy(all, set)
	m.next.Sync.Tags = all
	list := make([]string, 0, len(all))
	for tag, ts := range all {
		if ts.Present {
			list = append(list, tag)
		}
	}
	slices.Sort(list)
	for _, tag := range slices.Sorted(maps.Keys(set)) {
		c := canonical.Change{Field: tagsField, Origin: m.seen.System, At: micros(m.changedAt())}
		if set[tag].Present {
			c.To = tag
		} else {
			c.From = tag
		}
		m.next.Changes = append(m.next.Changes, c)
	}
	m.next.Contact.Tags = list
	m.dirty = true
}

// loseTag keeps what somebody made of a tag that is held.
func (m *merger) loseTag(tag string, present bool) {
	c := canonical.Change{Field: tagsField, From: tag, To: tag, Origin: m.old.Sync.Tags[tag].Origin, At: micros(m.old.Sync.Tags[tag].At),
		Conflict: &canonical.Conflict{Origin: m.seen.System, Reason: canonical.ReasonFlip}}
	if present {
		c.From, c.To, c.Conflict.Lost = "", "", tag
	}
	m.next.Changes = append(m.next.Changes, c)
}

// derived sees to a derived tag that appeared or went at the system. It follows
// its source: the sink makes the system show it again, or not any more, and
// what somebody made of it is kept as a conflict.
func (m *merger) derived(tag string, present bool) {
	want := m.seen.System == canonical.GHL && slices.Contains(m.policy.Lens.Derived(m.next.Contact), tag)
	if !m.known || present == want {
		return
	}
	c := canonical.Change{Field: tagsField, Origin: canonical.Novi, At: micros(m.changedAt()), Conflict: &canonical.Conflict{Origin: m.seen.System, Reason: canonical.ReasonAuthority}}
	f, shown := canonical.TagField(tag), ""
	if want {
		c.From, c.To = tag, tag
	}
	if present {
		shown, c.Conflict.Lost = "true", tag
	}
	if m.held(f, shown, mapping.ByNovi) {
		c.Conflict.Reason = canonical.ReasonFlip
	}
	m.left(f, shown, shown)
	m.next.Changes = append(m.next.Changes, c)
}

func (m *merger) finish() (canonical.Event, Outcome) {
	m.settle()
	if !m.dirty {
		return m.old, Outcome{}
	}
	if len(m.newBase.FieldAt) == 0 {
		m.newBase.FieldAt = nil
	}
	if old, there := m.old.Sync.Base[m.seen.System]; there && !m.other && old.External != m.seen.External {
		m.setOther(old) // gone, and another record takes its place
		m.next.Sync.Writing = cloneMap(m.next.Sync.Writing)
		delete(m.next.Sync.Writing, m.seen.System)
	}
	if _, was := m.old.Sync.Others[m.seen.System][m.seen.External]; was && !m.other {
		m.dropOther(m.seen.External)
	}
	m.setBase(m.newBase)
	links := m.old.Links[m.seen.System]
	if !slices.Contains(links, m.seen.External) {
		all := cloneMap(m.old.Links)
		all[m.seen.System] = append(slices.Clone(links), m.seen.External)
		m.next.Links = all
	}
	if m.next.Kind() == canonical.KindContact && m.next.Contact.Tags == nil {
		m.next.Contact.Tags = []string{}
	}
	return m.publish()
}

// setBase notes what the record shows.
func (m *merger) setBase(base canonical.Base) {
	if m.other {
		m.setOther(base)
		return
	}
	base.Writing = nil
	m.next.Sync.Base = cloneMap(m.next.Sync.Base)
	m.next.Sync.Base[m.seen.System] = base
}

// setOther notes what a record shows that is not its system's primary one.
func (m *merger) setOther(base canonical.Base) { m.setOtherOf(m.seen.System, base) }

func (m *merger) setOtherOf(system canonical.System, base canonical.Base) {
	m.next.Sync.Others = cloneMap(m.next.Sync.Others)
	of := cloneMap(m.next.Sync.Others[system])
	of[base.External] = base
	m.next.Sync.Others[system] = of
}

func (m *merger) dropOther(x canonical.ExternalID) {
	of := cloneMap(m.next.Sync.Others[m.seen.System])
	delete(of, x)
	m.next.Sync.Others = cloneMap(m.next.Sync.Others)
	if m.next.Sync.Others[m.seen.System] = of; len(of) == 0 {
		delete(m.next.Sync.Others, m.seen.System)
	}
}

func (m *merger) publish() (canonical.Event, Outcome) {
	if m.next.Version = m.old.Version + 1; m.old.Version == 0 {
		m.next.Sync.Born = m.seen.At.Seq
	}
	m.next.Cause = canonical.Cause{Stream: "RAW", Sequence: cmp.Or(m.cause, m.seen.At.Seq), Via: string(m.seen.Via), System: m.seen.System, Reason: m.seen.Reason, Replay: m.seen.Again, Firing: m.seen.Firing}
	if m.next.Changes == nil {
		m.next.Changes = []canonical.Change{}
	}
	out := Outcome{Op: canonical.OpObserved, Origin: m.seen.System, At: micros(max(m.at, m.changedAt()))}
	for _, c := range m.next.Changes {
		if c.From != c.To {
			out.Op = canonical.OpUpdated
		}
	}
	if m.next.Deleted() && !m.old.Deleted() {
		out.Op = canonical.OpDeleted
	}
	if m.old.Version == 0 {
		out.Op = canonical.OpCreated
	}
	out.Fighting = strings.Join(m.fighting, ", ")
	return m.next, out
}

// resembles reports whether shown can be how a system shows wrote: the same
// letters and digits, or the beginning of them.
func resembles(wrote, shown string) bool {
	w, s := bare(wrote), bare(shown)
	return s != "" && (w == s || strings.HasPrefix(w, s) || strings.HasSuffix(w, s))
}

func bare(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r > 127:
			return r
		}
		return -1
	}, s)
}

func micros(t int64) time.Time { return time.UnixMicro(t).UTC() }

func cloneMap[K comparable, V any](m map[K]V) map[K]V {
	c := make(map[K]V, len(m)+1)
	maps.Copy(c, m)
	return c
}
