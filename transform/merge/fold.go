package merge

import (
	"maps"
	"slices"
	"strings"

	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
)

// mergedField is the name under which Changes speak of a merge.
const mergedField = "merged_into"

// Likeness is what two entities are to one another.
type Likeness int

// What there is. The zero value is that nothing says that they are one.
const (
	Strangers Likeness = iota
	// Same: an identity key is the same, so they are one person.
	Same
	// Doubtful: an identity key is the same, and a person has to say.
	Doubtful
)

// Compare says whether two contacts are one. Their keys have to meet in what
// is canonical: a value that only one system still shows has moved on. It
// doesn't depend on their order.
//
// People share an e-mail address, as families and offices do. Two records of
// one system with first names that differ are then taken for two people; a
// last name may change with a marriage, and Jon may be Jonathan. A phone
// names nobody without both names, and not two who have different addresses,
// but that one of them was merged away at its system (see mergedAway).
func Compare(a, b canonical.Event, policy Policy) Likeness {
	if a.Kind() != canonical.KindContact || a.ID() == b.ID() || slices.Contains(a.Sync.Apart, b.ID()) || slices.Contains(b.Sync.Apart, a.ID()) {
		return Strangers
	}
	met := meet(a, b, policy.Rules) || mergedAway(a, b, policy.Rules) || mergedAway(b, a, policy.Rules)
	switch {
	case !met:
		return Strangers
	case together(a, b) && mapping.Unlike(a.Contact.FirstName, b.Contact.FirstName),
		policy.Rules != nil && policy.Rules.OnMatch == mapping.FlagMatch:
		return Doubtful
	}
	return Same
}

// Alike says whether two items are one: they hang on the same contact and say the
// same, and each has a record in one system that the other has never had one
// in. So nobody's second task is taken for the first, nor one for its copy that
// is being made. on is the contact that b hangs on, as it is known now.
func Alike(a, b canonical.Event, on canonical.CanonicalID) Likeness {
	kind := a.Kind()
	if kind != canonical.KindContact && a.MergedInto == "" && b.MergedInto == "" && (hasFolded(a, b) || hasFolded(b, a)) {
		return Same // it is done by half
	}
	if kind == canonical.KindContact || kind != b.Kind() || a.ID() == b.ID() || on == "" || a.ContactID() != on || a.Deleted() || b.Deleted() ||
		a.MergedInto != "" || b.MergedInto != "" || mapping.Says(kind, a.Field) != mapping.Says(kind, b.Field) {
		return Strangers
	}
	for _, e := range []canonical.Event{a, b} {
		making := false
		for _, w := range e.Sync.Writing {
			making = making || w.Creates
		}
		if making || len(e.Sync.Base) != 1 || len(e.Links) != 1 {
			return Strangers
		}
	}
	if together(a, b) {
		return Strangers
	}
	return Same
}

func hasFolded(e, other canonical.Event) bool {
	return slices.ContainsFunc(e.Sync.Folded, func(f canonical.Folded) bool { return f.ID == other.ID() })
}

// meet reports whether a and b share an identity key.
func meet(a, b canonical.Event, rules *mapping.Policy) bool {
	others := rules.Identify(b.Field)
	return slices.ContainsFunc(rules.Identify(a.Field), func(k mapping.IdentityKey) bool {
		if !slices.ContainsFunc(others, k.Same) {
			return false
		}
		return k.Field != "phone" || a.Contact.Email == "" || b.Contact.Email == "" || a.Contact.Email == b.Contact.Email
	})
}

// mergedAway reports whether gone's record was merged into one of kept's, at a
// system that tells of it by a delete and an update only: gone has lost its
// record there, and kept, which has one, shows gone's address as a further one
// of its own, or its number under the same name; or, under the same name, the
// address that gone's record showed last, which may not have heard of another
// that the person has by now.
func mergedAway(gone, kept canonical.Event, rules *mapping.Policy) bool {
	for s, is := range lost(gone, kept) {
		if !is {
			continue
		}
		if gone.Contact.Email != "" && slices.Contains(kept.Sync.Base[s].Also, gone.Contact.Email) {
			return true
		}
		if last := gone.Sync.Base[s].Fields["email"]; last != "" && last == kept.Sync.Base[s].Fields["email"] && mapping.Namesakes(gone.Field, kept.Field) {
			return true
		}
		for _, k := range rules.Identify(gone.Field) {
			if k.Field == "phone" && slices.ContainsFunc(rules.Identify(kept.Field), k.Same) {
				return true
			}
		}
	}
	return false
}

// together reports whether both have, or had, a record in one system.
func together(a, b canonical.Event) bool {
	for s, base := range a.Sync.Base {
		if base.External != "" && b.Sync.Base[s].External != "" {
			return true
		}
	}
	return false
}

// Older reports whether a is to be kept when a and b are folded: the one that
// lives, else the one that was seen first in RAW, else the smaller id.
func Older(a, b canonical.Event) bool {
	switch {
	case a.Deleted() != b.Deleted():
		return b.Deleted()
	case a.Sync.Born != b.Sync.Born:
		return a.Sync.Born < b.Sync.Born
	}
	return a.ID() < b.ID()
}

// Step is a next state to publish. Its entity is State's.
type Step struct {
	State canonical.Event
	Outcome
}

// Join merges seen into mine, as [Apply] does, and folds mine and other if
// they are one person then. It returns what is to be published, in that order,
// and what the two are to one another.
//
// A record that is gone although nobody was removed, because it was merged at
// its system, is told from one that was deleted by what other shows.
func Join(mine, other canonical.Event, seen Seen, policy Policy) ([]Step, Likeness) {
	if seen.Absent {
		twin := seen
		twin.Twin = true
		if next, out := Apply(mine, twin, policy); Compare(next, other, policy) == Same {
			return fold(mine, next, out, other, seen, policy), Same
		}
	}
	next, out := Apply(mine, seen, policy)
	likeness := Compare(next, other, policy)
	if next.Kind() != canonical.KindContact {
		likeness = Alike(next, other, seen.OtherContact)
	}
	switch {
	case likeness == Same:
		return fold(mine, next, out, other, seen, policy), Same
	case out.Op == "":
		return nil, likeness
	}
	return []Step{{next, out}}, likeness
}

// fold is Fold of next, which seen has made of mine and nobody has published,
// and other.
func fold(mine, next canonical.Event, out Outcome, other canonical.Event, seen Seen, policy Policy) []Step {
	older, younger := next, other
	if Older(other, next) {
		older, younger = other, next
	}
	steps := Fold(older, younger, seen, policy)
	i := slices.IndexFunc(steps, func(s Step) bool { return s.State.ID() == mine.ID() })
	switch {
	case out.Op == "":
	case i < 0: // it has the other's already
		return append([]Step{{next, out}}, steps...)
	default:
		// One event says what seen has changed, and the merge.
		s := &steps[i]
		s.State.Version = mine.Version + 1
		s.State.Changes = append(slices.Clone(next.Changes), s.State.Changes...)
		if s.Op == canonical.OpMerged {
			break
		}
		for _, system := range next.Sync.Linked {
			if !slices.Contains(s.State.Sync.Linked, system) {
				s.State.Sync.Linked = append(s.State.Sync.Linked, system)
			}
		}
		if out.Op != canonical.OpObserved {
			s.Op = out.Op
		}
	}
	return steps
}

// Fold folds younger into older, because of seen, and returns what is to be
// published: first the survivor, then the other, which says merged. Fields and
// tags are decided by their stamps as if both had always been one, but that
// empty says nothing; what loses is kept in the changes. Records are united:
// what was older's stays the primary one of its system.
//
// Folding again, after a crash between the two, leaves a survivor alone that
// has everything already.
func Fold(older, younger canonical.Event, seen Seen, policy Policy) []Step {
	var steps []Step
	if survivor, out := take(older, younger, seen, policy); out.Op != "" {
		steps = append(steps, Step{survivor, out})
	}
	m := merger{policy: policy, seen: seen, old: younger, next: younger}
	m.next.MergedInto, m.next.Links, m.next.Sync.Linked = older.ID(), map[canonical.System][]canonical.ExternalID{}, nil
	m.next.Changes = []canonical.Change{{Field: mergedField, To: string(older.ID()), Origin: seen.System, At: micros(m.changedAt())}}
	loser, out := m.publish()
	out.Op = canonical.OpMerged
	return append(steps, Step{loser, out})
}

// take is Fold's survivor.
func take(older, younger canonical.Event, seen Seen, policy Policy) (canonical.Event, Outcome) {
	entry := canonical.Folded{ID: younger.ID(), Version: younger.Version, Contact: older.Contact, Stamps: older.Sync.Stamps, Tags: older.Sync.Tags}
	all := slices.Clone(older.Sync.Folded)
	if i := slices.IndexFunc(all, func(f canonical.Folded) bool { return f.ID == younger.ID() }); i < 0 {
		all = append(all, entry)
	} else if all[i].Version == younger.Version {
		return older, Outcome{}
	} else {
		all[i].Version = younger.Version
	}
	m := &merger{policy: policy, seen: seen, old: older, next: older, folding: true}
	m.next.Changes, m.next.Sync.Linked = nil, nil
	m.next.Sync.Stamps = cloneMap(older.Sync.Stamps)
	m.next.Sync.Folded, m.next.Sync.Joined = all, true
	away := [2]map[canonical.System]bool{lost(older, younger), lost(younger, older)}
	for _, f := range fieldsOf(older, younger) {
		m.takeField(f, younger, away)
	}
	if m.next.Kind() == canonical.KindContact {
		m.takeTags(younger, away)
	}
	for _, s := range slices.Sorted(maps.Keys(younger.Sync.Base)) {
		m.takeRecords(younger, s)
	}
	for s, records := range younger.Sync.Later {
		for x, of := range records {
			for f, e := range of {
				m.later(s, x, f, e)
			}
		}
	}
	for _, id := range younger.Sync.Apart {
		if !slices.Contains(m.next.Sync.Apart, id) {
			m.next.Sync.Apart = append(slices.Clone(m.next.Sync.Apart), id)
		}
	}
	for f, flip := range younger.Sync.Flips {
		if _, has := m.next.Sync.Flips[f]; !has {
			m.next.Sync.Flips = cloneMap(m.next.Sync.Flips)
			m.next.Sync.Flips[f] = flip
		}
	}
	m.seen = seen
	if m.next.Kind() == canonical.KindContact {
		m.followGroups()
	} else {
		m.hang()
	}
	return m.publish()
}

// fieldsOf returns the fields that either may have a value for.
func fieldsOf(a, b canonical.Event) []string {
	all := canonical.Fields(a.Kind())
	for _, c := range []canonical.Contact{a.Contact, b.Contact} {
		for name := range c.Custom {
			all = append(all, canonical.CustomPrefix+name)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// lost returns the systems where e has lost its record and other has one.
func lost(e, other canonical.Event) map[canonical.System]bool {
	out := map[canonical.System]bool{}
	for s, base := range e.Sync.Base {
		has := other.Sync.Base[s]
		out[s] = (base.Gone || base.Inactive) && has.External != "" && !has.Gone && !has.Inactive
	}
	return out
}

// takeField lets a value of the other entity compete as if its record were
// seen for the first time. Where a record was merged away, of ours or of
// theirs, its system has decided already: what came from there and is not
// shown any more fills a gap at most. And what it has handed down to the other
// is nobody's change.
func (m *merger) takeField(f string, younger canonical.Event, away [2]map[canonical.System]bool) {
	value, stamp := younger.Field(f), younger.Sync.Stamps[f]
	current, have := m.next.Field(f), m.next.Sync.Stamps[f]
	shown := func(e canonical.Event, s canonical.System, value string) bool {
		was, has := e.Sync.Base[s].Fields[f]
		return has && m.same(f, was, value)
	}
	m.seen = Seen{System: stamp.Origin, At: canonical.Read{AsOf: stamp.At, Seq: stamp.Seq}}
	if m.same(f, value, current) {
		if value != "" && stamp.Seq != 0 && (have.Seq == 0 || have.Newer(stamp)) {
			m.next.Sync.Stamps[f] = stamp
		}
		return
	}
	authority := m.policy.Lens.AuthorityOf(m.next.Kind(), f)
	if have.Origin == stamp.Origin && (authority == mapping.ByGHL || authority == mapping.ByNovi) {
		authority = mapping.Newest // both are that system's, or neither is
	}
	primary := m.next.Sync.Base[stamp.Origin]
	switch competes := value != "" && current != ""; {
	case have.Origin == stamp.Origin && m.readOnly(f, stamp.Origin) && primary.External != "" && !primary.Gone && !primary.Inactive:
		if value != "" { // and the primary record goes on showing its own
			m.lose(f, value, current, canonical.ReasonMerged)
		}
	case competes && away[1][stamp.Origin]:
		m.lose(f, value, current, canonical.ReasonMerged)
	case competes && away[0][have.Origin]:
		m.win(f, value, current, canonical.ReasonMerged)
	case competes && have.Origin != stamp.Origin && away[0][stamp.Origin] && shown(m.old, stamp.Origin, value):
		m.lose(f, value, current, canonical.ReasonMerged)
	case competes && have.Origin != stamp.Origin && away[1][have.Origin] && shown(younger, have.Origin, current):
		m.win(f, value, current, canonical.ReasonMerged)
	default:
		m.firstSight(f, value, current, authority)
	}
}

// takeTags joins the tags, each by its stamp.
func (m *merger) takeTags(younger canonical.Event, away [2]map[canonical.System]bool) {
	handedDown := func(ts canonical.TagStamp, tag string, to int, from canonical.Event) bool {
		return ts.Present && away[to][ts.Origin] && slices.Contains(from.Sync.Base[ts.Origin].Tags, tag)
	}
	set := cloneMap(m.next.Sync.Tags)
	for _, tag := range slices.Sorted(maps.Keys(younger.Sync.Tags)) {
		if m.policy.Lens.FromGroup(tag) && (showsGroups(m.old) || showsGroups(younger)) {
			continue // see followGroups
		}
		have, theirs := set[tag], younger.Sync.Tags[tag]
		m.seen = Seen{System: theirs.Origin, At: canonical.Read{AsOf: theirs.At, Seq: theirs.Seq}}
		switch {
		case have.Present == theirs.Present && have.Seq != 0:
			if have.Newer(theirs.Stamp) {
				set[tag] = theirs
			}
		case have.Seq != 0 && !handedDown(have, tag, 1, younger) && (!theirs.Newer(have.Stamp) || handedDown(theirs, tag, 0, m.old)):
			m.loseTag(tag, theirs.Present)
		default:
			if set[tag] = theirs; have.Present == theirs.Present {
				continue
			}
			c := canonical.Change{Field: tagsField, Origin: theirs.Origin, At: micros(theirs.At)}
			if theirs.Present {
				c.To = tag
			} else {
				c.From = tag
			}
			m.next.Changes = append(m.next.Changes, c)
		}
	}
	m.next.Sync.Tags = set
	m.next.Contact.Tags = present(set)
}

func present(set map[string]canonical.TagStamp) []string {
	list := make([]string, 0, len(set))
	for tag, ts := range set {
		if ts.Present {
			list = append(list, tag)
		}
	}
	slices.Sort(list)
	return list
}

// takeRecords unites what both have at a system.
func (m *merger) takeRecords(younger canonical.Event, s canonical.System) {
	m.seen.System = s
	theirs := younger.Sync.Base[s]
	if w, writing := younger.Sync.Writing[s]; writing {
		theirs.Writing = &w
	}
	ours, has := m.next.Sync.Base[s]
	switch {
	case !has, ours.Gone && !theirs.Gone:
		if m.dropOther(theirs.External); has {
			m.setOther(ours)
		}
		m.put(theirs)
		m.next.Sync.Rendered = cloneMap(m.next.Sync.Rendered)
		m.next.Sync.Rendered[s] = younger.Sync.Rendered[s]
	case ours.External == theirs.External:
		if theirs.At.Newer(ours.At) {
			m.put(theirs)
		}
	default:
		m.takeOther(theirs)
	}
	for _, x := range slices.Sorted(maps.Keys(younger.Sync.Others[s])) {
		if x != m.next.Sync.Base[s].External {
			m.takeOther(younger.Sync.Others[s][x])
		}
	}
	links := slices.Clone(m.next.Links[s])
	for _, x := range younger.Links[s] {
		if base, _ := m.next.Record(s, x); !slices.Contains(links, x) && !base.Gone {
			links = append(links, x)
			m.next.Sync.Linked = append(slices.DeleteFunc(m.next.Sync.Linked, func(l canonical.System) bool { return l == s }), s)
		}
	}
	if len(links) > 0 {
		m.next.Links = cloneMap(m.next.Links)
		m.next.Links[s] = links
	}
}

func (m *merger) takeOther(theirs canonical.Base) {
	theirs.Gone = theirs.Gone || theirs.Inactive // no more is left of it
	if ours, has := m.next.Sync.Others[m.seen.System][theirs.External]; !has || theirs.At.Newer(ours.At) {
		m.setOther(theirs)
	}
}

// put makes a record its system's primary one.
func (m *merger) put(base canonical.Base) {
	s := m.seen.System
	m.next.Sync.Writing = cloneMap(m.next.Sync.Writing)
	if delete(m.next.Sync.Writing, s); base.Writing != nil {
		m.next.Sync.Writing[s] = *base.Writing
	}
	base.Writing = nil
	m.next.Sync.Base = cloneMap(m.next.Sync.Base)
	m.next.Sync.Base[s] = base
}

func (m *merger) later(s canonical.System, x canonical.ExternalID, f string, e canonical.Edit) {
	all := cloneMap(m.next.Sync.Later)
	at := cloneMap(all[s])
	of := cloneMap(at[x])
	of[f] = e
	at[x], all[s] = of, at
	m.next.Sync.Later = all
}

// Unmerge takes apart what [Fold] has put together, because a person says so,
// and returns what is to be published, in that order. merged lives again, with
// its records and as it was, but for what has been made of it at its records
// since; survivor is as if it had never been, but for what has been made of it
// at its own. Neither is folded into the other again.
//
// Only the entity that was folded in last can be taken out: why says why it
// can't be. What has been done already is done no second time.
func Unmerge(survivor, merged canonical.Event, seen Seen, policy Policy) (steps []Step, why string) {
	n := len(survivor.Sync.Folded)
	i := slices.IndexFunc(survivor.Sync.Folded, func(f canonical.Folded) bool { return f.ID == merged.ID() })
	switch {
	case i < 0 && slices.Contains(merged.Sync.Apart, survivor.ID()):
		return nil, "" // it is done
	case i < 0:
		return nil, "it was not merged"
	case i < n-1:
		return nil, "entity " + string(survivor.Sync.Folded[n-1].ID) + " was merged into the same one since, and has to be taken out before"
	}
	theirs := func(s canonical.System, x canonical.ExternalID) bool {
		_, is := merged.Record(s, x)
		return is
	}
	if merged.MergedInto != "" {
		steps = append(steps, free(survivor, merged, seen, policy, theirs))
	}
	before := survivor.Sync.Folded[i]
	m := &merger{policy: policy, seen: seen, old: survivor, next: survivor}
	m.next.Changes, m.next.Sync.Linked = nil, nil
	m.next.Sync.Folded = slices.Clone(survivor.Sync.Folded[:i])
	m.next.Sync.Apart = append(slices.Clone(survivor.Sync.Apart), merged.ID())
	for _, s := range []canonical.System{canonical.GHL, canonical.Novi} {
		m.cede(s, theirs)
	}
	m.seen = seen
	was := before.Contact
	was.Deleted = survivor.Contact.Deleted
	m.overlay(was, before.Stamps, before.Tags, survivor.Sync.Later, func(s canonical.System, x canonical.ExternalID) bool { return !theirs(s, x) })
	m.next.Sync.Later = nil
	for s, records := range survivor.Sync.Later {
		for x, of := range records {
			for f, e := range of {
				if i > 0 && !theirs(s, x) {
					m.later(s, x, f, e)
				}
			}
		}
	}
	kept, out := m.publish()
	return append(steps, Step{kept, out}), ""
}

// free is Unmerge's merged.
func free(survivor, merged canonical.Event, seen Seen, policy Policy, theirs func(canonical.System, canonical.ExternalID) bool) Step {
	m := &merger{policy: policy, seen: seen, old: merged, next: merged}
	m.next.MergedInto = ""
	m.next.Sync.Apart = append(slices.Clone(merged.Sync.Apart), survivor.ID())
	m.next.Changes = []canonical.Change{{Field: mergedField, From: string(survivor.ID()), Origin: seen.System, At: micros(m.changedAt())}}
	m.next.Links = map[canonical.System][]canonical.ExternalID{}
	for _, s := range []canonical.System{canonical.GHL, canonical.Novi} {
		m.recover(survivor, s)
	}
	m.seen = seen
	m.overlay(merged.Contact, merged.Sync.Stamps, merged.Sync.Tags, survivor.Sync.Later, theirs)
	m.next.SetDeleted(len(m.next.Links) == 0)
	freed, out := m.publish()
	out.Op = canonical.OpUpdated
	return Step{freed, out}
}

// recover gives the entity its records back as they show now.
func (m *merger) recover(survivor canonical.Event, s canonical.System) {
	m.seen.System = s
	base, has := m.next.Sync.Base[s]
	if !has {
		return
	}
	now := func(b canonical.Base) canonical.Base {
		if held, known := survivor.Record(s, b.External); known {
			if w, writing := survivor.Sync.Writing[s]; writing && survivor.Sync.Base[s].External == b.External {
				held.Writing = &w
			}
			return held
		}
		return b
	}
	var links []canonical.ExternalID
	all := m.next.Sync.Others[s]
	m.next.Sync.Others = cloneMap(m.next.Sync.Others)
	delete(m.next.Sync.Others, s)
	m.put(now(base))
	if !m.next.Sync.Base[s].Gone {
		links = append(links, base.External)
	}
	for _, x := range slices.Sorted(maps.Keys(all)) {
		if m.setOther(now(all[x])); !m.next.Sync.Others[s][x].Gone {
			links = append(links, x)
		}
	}
	if len(links) == 0 {
		return
	}
	m.next.Links[s] = links
	m.next.Sync.Linked = append(m.next.Sync.Linked, s)
	if m.next.Sync.Base[s].Gone {
		m.promote(links)
	}
}

// cede takes the other entity's records away.
func (m *merger) cede(s canonical.System, theirs func(canonical.System, canonical.ExternalID) bool) {
	m.seen.System = s
	for x := range m.next.Sync.Others[s] {
		if theirs(s, x) {
			m.dropOther(x)
		}
	}
	links := slices.DeleteFunc(slices.Clone(m.next.Links[s]), func(x canonical.ExternalID) bool { return theirs(s, x) })
	m.next.Links = cloneMap(m.next.Links)
	if m.next.Links[s] = links; len(links) == 0 {
		delete(m.next.Links, s)
	}
	if base, has := m.next.Sync.Base[s]; !has || !theirs(s, base.External) {
		return
	}
	if m.promote(links); !theirs(s, m.next.Sync.Base[s].External) {
		for x := range m.next.Sync.Others[s] {
			if theirs(s, x) {
				m.dropOther(x) // promote has put it there
			}
		}
		return
	}
	m.next.Sync.Base, m.next.Sync.Writing, m.next.Sync.Rendered = cloneMap(m.next.Sync.Base), cloneMap(m.next.Sync.Writing), cloneMap(m.next.Sync.Rendered)
	delete(m.next.Sync.Base, s)
	delete(m.next.Sync.Writing, s)
	delete(m.next.Sync.Rendered, s)
	for _, x := range slices.Sorted(maps.Keys(m.next.Sync.Others[s])) { // those that are gone
		base := m.next.Sync.Others[s][x]
		m.dropOther(x)
		m.put(base)
		return
	}
}

// overlay makes the contact what it was, and then what people have made of it
// since at the records that are its own. What differs from the state so far
// is a change.
func (m *merger) overlay(was canonical.Contact, stamps map[string]canonical.Stamp, tags map[string]canonical.TagStamp, since map[canonical.System]map[canonical.ExternalID]map[string]canonical.Edit, own func(canonical.System, canonical.ExternalID) bool) {
	edits := map[string]canonical.Edit{}
	for s, records := range since {
		for x, of := range records {
			for f, e := range of {
				if have, has := edits[f]; own(s, x) && (!has || e.Newer(have.Stamp)) {
					edits[f] = e
				}
			}
		}
	}
	now := m.old
	m.next.Contact = was
	m.next.Sync.Stamps, m.next.Sync.Tags = cloneMap(stamps), cloneMap(tags)
	for _, f := range slices.Sorted(maps.Keys(edits)) {
		if tag, is := strings.CutPrefix(f, canonical.TagField("")); is {
			m.next.Sync.Tags[tag] = canonical.TagStamp{Stamp: edits[f].Stamp, Present: edits[f].Value != ""}
			continue
		}
		m.next.SetField(f, edits[f].Value)
		m.next.Sync.Stamps[f] = edits[f].Stamp
	}
	m.next.Contact.Tags = present(m.next.Sync.Tags)
	at := micros(m.changedAt())
	for _, f := range fieldsOf(now, m.next) {
		if from, to := now.Field(f), m.next.Field(f); from != to {
			m.next.Changes = append(m.next.Changes, canonical.Change{Field: f, From: from, To: to, Origin: canonical.Person, At: at})
		}
	}
	for _, t := range now.Contact.Tags {
		if !slices.Contains(m.next.Contact.Tags, t) {
			m.next.Changes = append(m.next.Changes, canonical.Change{Field: tagsField, From: t, Origin: canonical.Person, At: at})
		}
	}
	for _, t := range m.next.Contact.Tags {
		if !slices.Contains(now.Contact.Tags, t) {
			m.next.Changes = append(m.next.Changes, canonical.Change{Field: tagsField, To: t, Origin: canonical.Person, At: at})
		}
	}
}
