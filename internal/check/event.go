package check

import (
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

// perSubject is how many messages a subject of CANONICAL and EFFECTS keeps.
const perSubject = 64

// both are the systems that are written to.
var both = []canonical.System{canonical.GHL, canonical.Novi}

// entity is what is kept of an entity.
type entity struct {
	tenant  canonical.Tenant
	kind    canonical.Kind
	id      canonical.CanonicalID
	version uint64
	last    bus.Stored // without its data
	deleted bool
	merged  canonical.CanonicalID
	folded  int
	contact canonical.CanonicalID
	at      [2]side // by index in both
	records []shownRecord

	versions []version
	missing  uint64               // the newest version that isn't there
	before   bus.Stored           // the message after that gap
	since    map[canonical.Op]int // how many messages came after it, by operation
	apart    bool                 // it was taken apart from another
	tags     map[tagged]bus.Stored
	tagsKept map[canonical.Op]int
}

// side is what is known of an entity at one system.
type side struct {
	linked  bool
	gone    bool
	creates bool   // a record is to be made where there is none
	differs string // the first field that is not as it ought to be
}

// shownRecord is a record of an entity, and what is known of it.
type shownRecord struct {
	system canonical.System
	id     canonical.ExternalID
	linked bool
	known  bool
	gone   bool
	at     canonical.Read
}

// version is one of an entity's.
type version struct {
	n     uint32
	shows [2]uint32 // a hash of what each system was known to show
	cause uint64
	via   byte
}

var seed = maphash.MakeSeed()

// event checks one message of CANONICAL against those before it.
func (c *checker) event(m bus.Stored) error {
	s, err := streams.Parse(m.Subject)
	if err != nil {
		c.unreadable(m, "%s", err)
		return nil
	}
	if s.Kind == canonical.KindTag {
		c.tagEvent(m, s)
		return nil
	}
	state, err := canonical.DecodeEvent(m.Data)
	switch {
	case err != nil:
		c.unreadable(m, "decode event: %s", err)
		return nil
	case state.Kind() != s.Kind || string(state.ID()) != s.ID || state.Version == 0:
		c.unreadable(m, "it is version %d of %s %s", state.Version, state.Kind(), state.ID())
		return nil
	}
	e := c.entities[state.ID()]
	if e == nil {
		e = &entity{tenant: s.Tenant, kind: s.Kind, id: state.ID(), since: map[canonical.Op]int{}}
		c.entities[e.id] = e
	}
	wrong := func(invariant Invariant, format string, args ...any) {
		where := []Place{place(m)}
		if e.version > 0 {
			where = append(where, place(e.last))
		}
		c.wrong(Violation{Invariant: invariant, What: fmt.Sprintf(format, args...), Kind: e.kind, Entity: e.id, Where: where, At: m.Time})
	}
	if a, err := envelope.Parse(m.Header); err != nil || a.ID != string(e.id)+"."+strconv.FormatUint(state.Version, 10) || a.Type != envelope.Type(s.Kind, s.Op) {
		wrong(HistoryLinear, "version %d says that it is %q of type %q", state.Version, a.ID, a.Type)
	}
	expected, conditional := expect(m)
	switch {
	case state.Version <= e.version:
		wrong(HistoryLinear, "version %d comes after version %d", state.Version, e.version)
	case !conditional:
		wrong(HistoryLinear, "version %d was published without an expected sequence", state.Version)
	case state.Version == e.version+1 && expected != e.last.Seq:
		wrong(HistoryLinear, "version %d expected sequence %d before it, and version %d is %d", state.Version, expected, e.version, e.last.Seq)
	case state.Version > e.version+1 && expected <= e.last.Seq:
		wrong(HistoryLinear, "version %d expected sequence %d before it, and versions are missing", state.Version, expected)
	case state.Version > e.version+1:
		e.missing, e.before = state.Version-1, bus.Stored{Stream: m.Stream, Subject: m.Subject, Seq: m.Seq, Time: m.Time}
		clear(e.since)
	}
	e.since[s.Op]++
	c.cause(m, e, state)
	joined := state.MergedInto != e.merged || len(state.Sync.Folded) != e.folded || state.Cause.Via == string(observation.Unmerge)
	if i := slices.IndexFunc(e.versions, func(v version) bool { return v.cause == state.Cause.Sequence }); i >= 0 && !joined {
		wrong(MergedOnce, "versions %d and %d both follow from message %d of RAW", e.versions[i].n, state.Version, state.Cause.Sequence)
	}
	e.apart = e.apart || state.Cause.Via == string(observation.Unmerge)
	v := version{n: uint32(state.Version), cause: state.Cause.Sequence, via: code(state.Cause.System, observation.Via(state.Cause.Via))}
	for i, system := range both {
		v.shows[i] = hashBase(state.Sync.Base[system])
	}
	e.versions = append(e.versions, v)
	if s.Kind == canonical.KindContact {
		e.expectTags(m, state)
	}
	c.take(e, m, state)
	return nil
}

// expect returns the sequence that a message was published against.
func expect(m bus.Stored) (seq uint64, conditional bool) {
	values := m.Header["Nats-Expected-Last-Subject-Sequence"]
	if len(values) == 0 {
		return 0, false
	}
	seq, err := strconv.ParseUint(values[0], 10, 64)
	return seq, err == nil
}

// cause checks that a version follows from what RAW has.
func (c *checker) cause(m bus.Stored, e *entity, state canonical.Event) {
	cause := state.Cause
	wrong := func(what string) {
		c.wrong(Violation{Invariant: EventCaused, What: fmt.Sprintf("version %d %s", state.Version, what), Kind: e.kind, Entity: e.id, Where: []Place{place(m), {Stream: cause.Stream, Sequence: cause.Sequence}}, At: m.Time})
	}
	switch {
	case cause.Stream != streams.RAW || cause.Sequence == 0:
		wrong("names no message of RAW as its cause")
	case cause.Sequence > c.ends[streams.RAW]:
		wrong(fmt.Sprintf("follows from a message that RAW, which ends at %d, does not have", c.ends[streams.RAW]))
	case c.firstRaw == 0 || cause.Sequence < c.firstRaw:
		return // expired
	}
	i := int(cause.Sequence - c.firstRaw)
	if c.firstRaw == 0 || cause.Sequence < c.firstRaw || i >= len(c.via) || c.via[i] == 0 {
		return // erased
	}
	if got := c.via[i]; got != code(cause.System, observation.Via(cause.Via)) {
		wrong(fmt.Sprintf("says that it follows from a %s of %s, and the message is another", cause.Via, cause.System))
	}
}

// take keeps what an entity's last event says.
func (c *checker) take(e *entity, m bus.Stored, state canonical.Event) {
	e.version, e.deleted, e.merged, e.folded, e.contact = state.Version, state.Deleted(), state.MergedInto, len(state.Sync.Folded), state.ContactID()
	e.last = bus.Stored{Stream: m.Stream, Subject: m.Subject, Seq: m.Seq, Time: m.Time}
	e.records = e.records[:0]
	add := func(system canonical.System, id canonical.ExternalID) {
		base, known := state.Record(system, id)
		e.records = append(e.records, shownRecord{system, id, slices.Contains(state.Links[system], id), known, base.Gone || base.Inactive, base.At})
	}
	for _, system := range both {
		known := slices.Collect(maps.Keys(state.Sync.Others[system]))
		if base := state.Sync.Base[system].External; base != "" {
			known = append(known, base)
		}
		known = append(known, state.Links[system]...)
		slices.Sort(known)
		for _, x := range slices.Compact(known) {
			add(system, x)
		}
	}
	tenant := c.Tenants[e.tenant]
	for i, system := range both {
		base, known := state.Sync.Base[system]
		s := side{linked: len(state.Links[system]) > 0, gone: known && base.Gone}
		if tenant.Lens != nil && tenant.Policy != nil && !e.deleted && e.merged == "" && slices.Contains(tenant.Systems, system) && tenant.Policy.Syncs(e.kind, system) {
			switch {
			case s.gone:
			case s.linked && known:
				s.differs = differs(state, system, tenant.Lens)
			case s.linked:
			case e.kind == canonical.KindContact:
				s.creates, _ = tenant.Policy.Create(system).Holds(state.Contact) // an error is a dead letter
			default:
				s.creates = true
			}
		}
		e.at[i] = s
	}
}

// differs returns the first field of which system shows something else than it
// ought to, as it was last seen; tags are the last.
func differs(state canonical.Event, system canonical.System, lens *mapping.Lens) string {
	base, want := state.Sync.Base[system], lens.ProjectEvent(state, system, false)
	for _, f := range slices.Sorted(maps.Keys(want.Fields)) {
		v := want.Fields[f]
		shown, known := base.Fields[f]
		rendering, spelled := state.Sync.Rendered[system][f]
		switch {
		case !known && v == "", known && lens.Same(state.Kind(), f, shown, v), state.Sync.Held(f):
		case spelled && rendering.Shown == shown && rendering.Value == v:
		default:
			return f
		}
	}
	if !want.Tagged || state.Kind() != canonical.KindContact {
		return ""
	}
	for _, t := range slices.Concat(want.Tags, base.Tags) {
		groups := system == canonical.Novi && lens.FromGroup(t)
		if slices.Contains(want.Tags, t) != slices.Contains(base.Tags, t) && !groups && !state.Sync.Held(canonical.TagField(t)) {
			return "tags"
		}
	}
	return ""
}

// hashBase stands for what a system is known to show: values, not times.
func hashBase(b canonical.Base) uint32 {
	var h maphash.Hash
	h.SetSeed(seed)
	add := func(s string) {
		_, _ = h.WriteString(s) // it never fails
		_ = h.WriteByte(0)
	}
	add(string(b.External))
	add(strconv.FormatBool(b.Gone))
	for _, f := range slices.Sorted(maps.Keys(b.Fields)) {
		add(f)
		add(b.Fields[f])
	}
	for _, t := range b.Tags {
		add(t)
	}
	return uint32(h.Sum64())
}

// expectTags notes which tag events follow from a version.
func (e *entity) expectTags(m bus.Stored, state canonical.Event) {
	for _, change := range state.Changes {
		if change.Field != "tags" || change.From == change.To {
			continue
		}
		tag, op := change.To, canonical.OpAdded
		if tag == "" {
			tag, op = change.From, canonical.OpRemoved
		}
		if e.tags == nil {
			e.tags = map[tagged]bus.Stored{}
		}
		e.tags[tagged{state.Version, tag, op}] = bus.Stored{Stream: m.Stream, Subject: m.Subject, Seq: m.Seq, Time: m.Time}
	}
}

// tagged is what a tag event is about.
type tagged struct {
	version uint64
	tag     string
	op      canonical.Op
}

// tagEvent checks that a tag event follows from a contact's version, which it
// may do more than once.
func (c *checker) tagEvent(m bus.Stored, s streams.Parsed) {
	var t canonical.TagEvent
	if err := json.Unmarshal(m.Data, &t); err != nil || string(t.ContactID) != s.ID {
		c.unreadable(m, "it is no tag event of contact %s", s.ID)
		return
	}
	e := c.entities[t.ContactID]
	if e == nil || t.ContactVersion > e.version { // it may be that CANONICAL has kept newer versions only
		c.early = append(c.early, early{t.ContactID, t.ContactVersion, s.Op, bus.Stored{Stream: m.Stream, Subject: m.Subject, Seq: m.Seq, Time: m.Time}})
		return
	}
	e.keptTag(s.Op)
	delete(e.tags, tagged{t.ContactVersion, t.Tag, s.Op})
}

func (e *entity) keptTag(op canonical.Op) {
	if e.tagsKept == nil {
		e.tagsKept = map[canonical.Op]int{}
	}
	e.tagsKept[op]++
}

// early is a tag event that came before any version that it could follow from.
type early struct {
	id      canonical.CanonicalID
	version uint64
	op      canonical.Op
	at      bus.Stored
}

// histories judges each entity's history as a whole, and what it says of
// records.
func (c *checker) histories() {
	for _, t := range c.early {
		if e := c.entities[t.id]; e != nil {
			e.keptTag(t.op)
		}
	}
	for _, e := range c.entities {
		// What is forgotten is older than all that its subject keeps.
		full := false
		for _, n := range e.since {
			full = full || n >= perSubject
		}
		if e.missing > 0 && !full {
			c.wrong(Violation{Invariant: HistoryLinear, What: fmt.Sprintf("version %d is missing, and no subject of the entity is full", e.missing),
				Kind: e.kind, Entity: e.id, Where: []Place{place(e.before)}, At: e.before.Time})
		}
		for key, m := range e.tags {
			if e.tagsKept[key.op] < perSubject && m.Seq <= c.floor(streams.Tags()) {
				c.wrong(Violation{Invariant: TagsDerived, What: "a tag was " + string(key.op) + ", and there is no tag event", Kind: e.kind, Entity: e.id, Where: []Place{place(m)}, At: m.Time})
			}
		}
		if e.merged != "" {
			continue
		}
		for _, x := range e.records {
			r := c.record(e.tenant, e.kind, x.system, x.id)
			if x.known && (!r.hasBase || x.at.Newer(r.base)) {
				r.hasBase, r.base, r.baseGone = true, x.at, x.gone
			}
			if x.linked && !x.known {
				c.wrong(Violation{Invariant: LinkShown, What: "it is linked, and nothing is known of what it shows", System: x.system, Kind: e.kind, Entity: e.id, Record: x.id, Where: []Place{place(e.last)}, At: e.last.Time})
			}
			switch {
			case !x.linked || e.deleted:
			case r.owner != nil && r.owner != e:
				c.wrong(Violation{Invariant: RecordOwned, What: fmt.Sprintf("entity %s links it too", r.owner.id), System: x.system, Kind: e.kind, Entity: e.id, Record: x.id,
					Where: []Place{place(e.last), place(r.owner.last)}, At: later(e.last.Time, r.owner.last.Time)})
			default:
				r.owner = e
			}
		}
	}
	for _, t := range c.early {
		if e := c.entities[t.id]; e == nil || t.version > e.version {
			c.wrong(Violation{Invariant: TagsDerived, What: fmt.Sprintf("a tag event of version %d, which is not there", t.version), Kind: canonical.KindTag, Entity: t.id, Where: []Place{place(t.at)}, At: t.at.Time})
		}
	}
	c.sights()
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// newer reports whether RAW has a newer state of a record than its entity knows
// of. A sight of a contact that shows no change makes no event, but of an item,
// which doesn't say when it was changed, each newer one does.
func (r *record) newer() bool {
	if r.kind != canonical.KindContact && r.shown.Modified == 0 {
		return r.shown.AsOf > r.base.AsOf
	}
	return r.shown.Modified > r.base.Modified && r.shown.Newer(r.base)
}

// sights judges whether what systems showed has reached the entities.
func (c *checker) sights() {
	settled := c.floor(streams.Transform())
	for _, r := range c.records {
		wrong := func(format string, args ...any) {
			v := Violation{Invariant: SightMerged, What: fmt.Sprintf(format, args...), System: r.system, Kind: r.kind, Record: r.external, Where: []Place{place(r.at)}, At: r.at.Time}
			if r.owner != nil {
				v.Entity = r.owner.id
				v.Where = append(v.Where, place(r.owner.last))
			}
			c.wrong(v)
		}
		if r.hasBase && !r.baseGone && r.owner != nil && r.goneAsOf > r.base.AsOf && r.goneAt.Seq <= settled {
			r.at = r.goneAt
			wrong("the transform has settled that it is gone, and its entity holds an older sight of it")
			continue
		}
		switch {
		case r.first == 0 || r.at.Seq > settled || r.at.Seq < r.gone:
		case c.buried("transform", r.tenant, r.kind, string(r.external)):
		case r.hasBase && !r.baseGone && r.newer():
			wrong("the transform has settled a newer state than its entity knows of")
		case !r.hasBase && !r.skipped && c.Tenants[r.tenant].Lens != nil:
			wrong("the transform has settled it, and no entity knows of the record")
		}
	}
}
