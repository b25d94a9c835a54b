package check

import (
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/effect"
	"github.com/causeway-sync/causeway/streams"
)

type destKey struct {
	system canonical.System
	id     canonical.CanonicalID
	action string
}

// dest is what is kept of an entity at a destination.
type dest struct {
	system canonical.System
	tenant canonical.Tenant
	kind   canonical.Kind
	id     canonical.CanonicalID
	action string // what a rule's firing asked for; "" for the entity's record

	announced int64 // when the last intent on RAW was said, in microseconds
	writeback int64 // when the read of the last writeback on RAW began

	n        int
	trimmed  bus.Stored // the first message after what EFFECTS has forgotten
	since    int        // how many messages came from there on
	last     bus.Stored // without its data
	state    effect.State
	version  uint64
	external canonical.ExternalID
	began    time.Time // when the write that has no outcome yet was first intended
	intended int64     // At of the last intent
	creates  bool
	calls    int // seen since the intent

	created   canonical.ExternalID
	createdAt bus.Stored
	wrote     uint64 // a hash of what was written last, 0 if it was looked up
	wroteAt   bus.Stored
	wroteV    uint64
	done      done
}

// trimmed is the state of what EFFECTS has before it keeps anything.
const trimmed effect.State = "trimmed"

// done is the last write that is said to be done.
type done struct {
	at        bus.Stored
	external  canonical.ExternalID
	intended  int64 // 0 if it was looked up
	writeback int64 // when the read of its last writeback began; 0 if it has none
}

func (c *checker) dest(system canonical.System, tenant canonical.Tenant, kind canonical.Kind, id canonical.CanonicalID, action string) *dest {
	key := destKey{system, id, action}
	d := c.dests[key]
	if d == nil {
		d = &dest{system: system, tenant: tenant, kind: kind, id: id, action: action}
		c.dests[key] = d
	}
	return d
}

// effect checks one message of EFFECTS against those before it.
func (c *checker) effect(m bus.Stored) error {
	s, err := streams.Parse(m.Subject)
	if err != nil {
		c.unreadable(m, "%s", err)
		return nil
	}
	var e effect.Effect
	if err := json.Unmarshal(m.Data, &e); err != nil || e.System != s.System || e.Tenant != s.Tenant || e.Kind != s.Kind || string(e.ID) != s.ID {
		c.unreadable(m, "it is no effect of %s %s at %s", s.Kind, s.ID, s.System)
		return nil
	}
	c.callsUntil(m.Time)
	d := c.dest(e.System, e.Tenant, e.Kind, e.ID, e.Action)
	d.n++
	wrong := func(invariant Invariant, format string, args ...any) {
		where := []Place{place(m)}
		if d.last.Seq > 0 {
			where = append(where, place(d.last))
		}
		c.wrong(Violation{Invariant: invariant, What: fmt.Sprintf(format, args...), System: e.System, Kind: e.Kind, Entity: e.ID, Record: e.External, Where: where, At: m.Time})
	}
	if expected, conditional := expect(m); !conditional || expected < d.last.Seq {
		wrong(EffectsLinear, "it was published against sequence %d, and the one before is %d", expected, d.last.Seq)
	} else if expected > d.last.Seq {
		d.trimmed, d.state, d.since, d.began = m, trimmed, 0, m.Time
		d.trimmed.Data = nil
		d.last = bus.Stored{Stream: m.Stream, Subject: m.Subject, Seq: expected}
	}
	d.since++
	switch e.State {
	case effect.Intent:
		c.intent(m, d, e, wrong)
	case effect.Done, effect.Failed, effect.Ambiguous:
		c.outcome(m, d, e, wrong)
	default:
		c.unreadable(m, "its state is %q", e.State)
	}
	d.state, d.version, d.last = e.State, e.Version, bus.Stored{Stream: m.Stream, Subject: m.Subject, Seq: m.Seq, Time: m.Time}
	if e.External != "" {
		d.external = e.External
		c.owns(d, e.External)
	}
	return nil
}

func (c *checker) intent(m bus.Stored, d *dest, e effect.Effect, wrong func(Invariant, string, ...any)) {
	of := c.entities[e.ID]
	switch {
	case of == nil:
		wrong(WriteCaused, "it writes version %d of an entity that CANONICAL does not have", e.Version)
	case e.Version == 0 || e.Version > of.version:
		wrong(WriteCaused, "it writes version %d, and the entity's last is %d", e.Version, of.version)
	}
	if e.Version < d.version {
		wrong(InOrder, "it writes version %d after version %d", e.Version, d.version)
	}
	if !c.Quiet.IsZero() && m.Time.After(c.Quiet) {
		wrong(StaysQuiet, "it was to be quiet since %s", c.Quiet.UTC().Format(time.RFC3339Nano))
	}
	if d.state != effect.Intent && d.state != effect.Ambiguous {
		d.began, d.calls = m.Time, 0
	}
	d.intended, d.creates, d.external = e.At.UnixMicro(), e.Create, e.External
}

func (c *checker) outcome(m bus.Stored, d *dest, e effect.Effect, wrong func(Invariant, string, ...any)) {
	switch d.state {
	case effect.Intent:
		if e.Version != d.version || !e.Create && e.External != d.external && e.State == effect.Done {
			wrong(IntentFirst, "the outcome of version %d follows the intent of version %d, of record %s", e.Version, d.version, d.external)
		}
	case effect.Ambiguous:
		if e.State != effect.Done || e.Version != d.version {
			wrong(IntentFirst, "after an unknown end there is an outcome that nobody looked up")
		}
	case trimmed:
	default:
		wrong(IntentFirst, "an outcome without an intent before it")
	}
	c.resolve(m, d, e)
	if e.State != effect.Done {
		return
	}
	content := contentOf(e)
	// A tag that somebody has added or removed before us is no change, and what
	// is gone can't be deleted.
	changes := len(e.Wrote) > 0 || content != 0 && e.System == canonical.Novi && !e.Delete
	if c.Calls != nil && changes && d.state == effect.Intent && d.calls == 0 && d.trimmed.Seq != d.last.Seq {
		wrong(OutcomeCalled, "it is said to be done, and the system knows of no call")
	}
	if e.Create {
		c.create(m, d, e, wrong)
	}
	if content != 0 {
		c.again(d, e, content, wrong)
	}
	at := bus.Stored{Stream: m.Stream, Subject: m.Subject, Seq: m.Seq, Time: m.Time}
	d.wrote, d.wroteAt, d.wroteV = content, at, e.Version
	d.done = done{at: at, external: e.External}
	if content != 0 && !e.Delete { // a delete is told by its writeback only
		d.done.intended = d.intended
	}
	if len(e.Writebacks) > 0 {
		d.done.writeback = e.At.UnixMicro()
	}
}

// create judges a second create.
func (c *checker) create(m bus.Stored, d *dest, e effect.Effect, wrong func(Invariant, string, ...any)) {
	if d.created != "" && d.created != e.External {
		first := c.record(e.Tenant, e.Kind, e.System, d.created)
		of := c.entities[e.ID]
		if first.gone == 0 && !(of != nil && of.apart) {
			wrong(CreatedOnce, "it was made as %s before, by message %d", d.created, d.createdAt.Seq)
		}
	}
	d.created, d.createdAt = e.External, bus.Stored{Stream: m.Stream, Subject: m.Subject, Seq: m.Seq, Time: m.Time}
}

// again judges a write that says the same as the one before it.
func (c *checker) again(d *dest, e effect.Effect, content uint64, wrong func(Invariant, string, ...any)) {
	of := c.entities[e.ID]
	if d.wrote != content || of == nil {
		return
	}
	i := slices.Index(both, d.system)
	from := slices.IndexFunc(of.versions, func(v version) bool { return uint64(v.n) == d.wroteV })
	to := slices.IndexFunc(of.versions, func(v version) bool { return uint64(v.n) == e.Version })
	if from < 0 || to < 0 || i < 0 {
		return // CANONICAL has forgotten them
	}
	told := uint32(0) // what the record was known to show once the first write had been merged
	for _, v := range of.versions[from : to+1] {
		if v.via == code(d.system, "writeback") {
			told = v.shows[i]
		}
	}
	shows := of.versions[to].shows[i]
	changed := slices.ContainsFunc(of.versions[from:to+1], func(v version) bool { return v.shows[i] != shows })
	if !changed || shows == told {
		wrong(NotAgain, "it writes again what message %d wrote, and nothing else was seen in between", d.wroteAt.Seq)
	}
}

// contentOf stands for what a write carries; 0 if nobody knows.
func contentOf(e effect.Effect) uint64 {
	if len(e.Wrote)+len(e.TagsAdded)+len(e.TagsRemoved) == 0 && !e.Delete {
		return 0
	}
	var h maphash.Hash
	h.SetSeed(seed)
	add := func(s string) {
		_, _ = h.WriteString(s) // it never fails
		_ = h.WriteByte(0)
	}
	add(string(e.External))
	for _, f := range slices.Sorted(maps.Keys(e.Wrote)) {
		add(f)
		add(e.Wrote[f])
	}
	for _, t := range e.TagsAdded {
		add("+" + t)
	}
	for _, t := range e.TagsRemoved {
		add("-" + t)
	}
	if e.Delete {
		add("delete")
	}
	return max(h.Sum64(), 1)
}

// outcomes judges what the destinations have come to.
func (c *checker) outcomes() {
	c.callsUntil(time.Time{})
	for _, d := range c.dests {
		if d.n == 0 {
			continue
		}
		wrong := func(invariant Invariant, at bus.Stored, what string) {
			c.wrong(Violation{Invariant: invariant, What: what, System: d.system, Kind: d.kind, Entity: d.id, Record: d.external, Where: []Place{place(at)}, At: at.Time})
		}
		if d.trimmed.Seq > 0 && d.since < perSubject {
			wrong(EffectsLinear, d.trimmed, "the one before it is missing, and its subject is not full")
		}
		of := c.entities[d.id]
		if of == nil {
			continue // said already
		}
		consumer, stage, about := streams.Sink(d.system, d.tenant), "sink-"+string(d.system), string(d.id)
		if d.action != "" {
			consumer, stage, about = streams.Actions(d.tenant), "actions", d.action
		}
		settled := of.last.Seq <= c.floor(consumer) && of.last.Seq > 0
		buried := c.buried(stage, d.tenant, d.kind, about)
		if open := d.state == effect.Intent || d.state == effect.Ambiguous; open && !settled {
			c.report.Open++
		} else if open && !buried && c.record(d.tenant, d.kind, d.system, d.external).gone == 0 && of.merged == "" {
			wrong(OutcomeRecorded, d.last, "the sink has settled it, and nobody knows what became of the write")
		}
		if d.done.intended > 0 && d.announced < d.done.intended {
			wrong(WriteTold, d.done.at, "the transform was not told before it was written")
		}
		// A crash may have come before the writeback, which is made up for
		// before the sink settles anything, but if a later read has said it.
		seen := c.record(d.tenant, d.kind, d.system, d.done.external).base.AsOf
		if settled && d.done.writeback > 0 && max(d.writeback, seen) < d.done.writeback {
			wrong(WriteTold, d.done.at, "there is no writeback of it on RAW")
		}
	}
	c.unwritten()
}

// unwritten judges whether everything that is settled is written.
func (c *checker) unwritten() {
	if c.floor(streams.Transform()) < c.ends[streams.RAW] {
		return // what the systems show may be on its way
	}
	for _, e := range c.entities {
		if e.deleted || e.merged != "" {
			continue
		}
		for i, system := range both {
			s := e.at[i]
			if s.creates && e.kind != canonical.KindContact {
				contact := c.entities[c.now(e.contact)]
				s.creates = contact != nil && contact.at[i].linked && !contact.at[i].gone && !contact.deleted
			}
			if s.differs == "" && !s.creates || e.last.Seq > c.floor(streams.Sink(system, e.tenant)) || c.buried("sink-"+string(system), e.tenant, e.kind, string(e.id)) {
				continue
			}
			what := "its record is still to be made"
			if s.differs != "" {
				what = "it does not show " + s.differs + " as the entity has it"
			}
			c.wrong(Violation{Invariant: Written, What: "the sink has settled it, and " + what, System: system, Kind: e.kind, Entity: e.id, Where: []Place{place(e.last)}, At: e.last.Time})
		}
	}
}

// now follows an entity that was merged to the one that it is now.
func (c *checker) now(id canonical.CanonicalID) canonical.CanonicalID {
	for range len(c.entities) {
		e := c.entities[id]
		if e == nil || e.merged == "" {
			break
		}
		id = e.merged
	}
	return id
}

// newest is when the last message of CANONICAL was stored, as far as it was
// kept.
func (c *checker) newest() (at time.Time) {
	for _, e := range c.entities {
		at = later(at, e.last.Time)
	}
	return at
}
