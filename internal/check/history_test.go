package check_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/check"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/effect"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

// spoil is one way to spoil a clean history; quiet is when it was over.
type spoil struct {
	name string
	do   func(t *testing.T, p *pipeline)
	want check.Invariant
}

var spoils = []spoil{
	{"a message is not JSON", func(t *testing.T, p *pipeline) {
		p.last1(t, streams.CANONICAL, "canonical.contact.").Data = []byte("{")
	}, check.Readable},
	{"a body is another entity's", func(t *testing.T, p *pipeline) {
		m := p.last1(t, streams.EFFECTS, "effects.")
		m.Data = []byte(strings.Replace(string(m.Data), `"system":"`, `"system":"x`, 1))
	}, check.Readable},
	{"a fetch is lost", func(t *testing.T, p *pipeline) {
		p.drop(t, streams.RAW, ".fetch")
	}, check.NoticeAnswered},
	{"a fetch began before the notice that it answers", func(t *testing.T, p *pipeline) {
		m := p.last1(t, streams.RAW, ".fetch")
		var o observation.Observation
		decode(t, m.Data, &o)
		o.ReadBegan = o.ReadBegan.Add(-time.Second)
		m.Data = encode(t, o)
	}, check.NoticeAnswered},
	{"a newer state on RAW was settled and not merged", func(t *testing.T, p *pipeline) {
		k := p.any()
		id := k.state.Links[canonical.GHL][0]
		p.write(canonical.GHL, id, map[string]string{"last_name": "Lost"}, nil)
		p.raw(p.look(canonical.GHL, id, observation.Poll, p.now))
	}, check.SightMerged},
	{"a new record was settled and made nobody's", func(t *testing.T, p *pipeline) {
		p.write(canonical.GHL, "new", map[string]string{"last_name": "Lost", "email": "lost@example.org"}, nil)
		p.raw(p.look(canonical.GHL, "new", observation.Poll, p.now))
	}, check.SightMerged},
	{"a delete was settled, and an older sight merged after it", func(t *testing.T, p *pipeline) {
		id := p.any().state.Links[canonical.GHL][0]
		p.raw(observation.Observation{System: canonical.GHL, Tenant: guild, Kind: canonical.KindContact, ExternalID: id, Via: observation.Fetch, Absent: true, ReadBegan: p.now})
	}, check.SightMerged},
	{"RAW has lost its tail", func(t *testing.T, p *pipeline) {
		p.messages[streams.RAW] = p.messages[streams.RAW][:len(p.messages[streams.RAW])-1]
		p.last[streams.RAW]--
	}, check.EventCaused},
	{"an event names another cause", func(t *testing.T, p *pipeline) {
		p.event(t, func(e *canonical.Event) { e.Cause.Sequence-- })
	}, check.EventCaused},
	{"a version is lost", func(t *testing.T, p *pipeline) {
		m := p.last1(t, streams.CANONICAL, "canonical.contact.")
		i := slices.IndexFunc(p.messages[streams.CANONICAL], func(x bus.Stored) bool { return x.Seq != m.Seq && sameEntity(x, *m) && x.Seq+40 > m.Seq })
		p.messages[streams.CANONICAL] = slices.Delete(p.messages[streams.CANONICAL], i, i+1)
	}, check.HistoryLinear},
	{"a version was published without looking", func(t *testing.T, p *pipeline) {
		delete(p.last1(t, streams.CANONICAL, "canonical.contact.").Header, "Nats-Expected-Last-Subject-Sequence")
	}, check.HistoryLinear},
	{"two writers both won", func(t *testing.T, p *pipeline) {
		m := *p.last1(t, streams.CANONICAL, "canonical.contact.")
		p.last[m.Stream]++
		m.Seq = p.last[m.Stream]
		p.messages[m.Stream] = append(p.messages[m.Stream], m)
	}, check.HistoryLinear},
	{"a version has another's id", func(t *testing.T, p *pipeline) {
		p.last1(t, streams.CANONICAL, "canonical.contact.").Header["ce-id"] = []string{"other.1"}
	}, check.HistoryLinear},
	{"an observation was merged twice", func(t *testing.T, p *pipeline) { p.again(t) }, check.MergedOnce},
	{"a tag event is lost", func(t *testing.T, p *pipeline) { p.drop(t, streams.CANONICAL, "canonical.tag.") }, check.TagsDerived},
	{"a tag event of nothing", func(t *testing.T, p *pipeline) {
		m := p.last1(t, streams.CANONICAL, "canonical.tag.")
		var e canonical.TagEvent
		decode(t, m.Data, &e)
		e.ContactVersion += 1000
		m.Data = marshal(t, e)
	}, check.TagsDerived},
	{"two entities link one record", func(t *testing.T, p *pipeline) {
		other := p.any().state
		p.event(t, func(e *canonical.Event) {
			if e.ID() == other.ID() {
				t.Fatal("they are the same")
			}
			e.Links, e.Sync.Base = other.Links, other.Sync.Base
		})
	}, check.RecordOwned},
	{"a link without a base", func(t *testing.T, p *pipeline) {
		p.event(t, func(e *canonical.Event) { delete(e.Sync.Base, canonical.Novi) })
	}, check.LinkShown},
	{"a claim of nobody", func(t *testing.T, p *pipeline) { p.last1(t, "KV_IDENTITY", "$KV.").Data = []byte("nobody") }, check.ClaimHeld},
	{"a claim is lost", func(t *testing.T, p *pipeline) { p.drop(t, "KV_IDENTITY", "$KV.") }, check.ClaimHeld},
	{"an outcome is lost", func(t *testing.T, p *pipeline) { p.drop(t, streams.EFFECTS, "effects.") }, check.OutcomeRecorded},
	{"an intent is lost", func(t *testing.T, p *pipeline) {
		m := p.last1(t, streams.EFFECTS, "effects.")
		p.messages[streams.EFFECTS] = slices.DeleteFunc(p.messages[streams.EFFECTS], func(x bus.Stored) bool { return x.Seq == m.Seq-1 })
	}, check.EffectsLinear},
	{"an outcome is another version's", func(t *testing.T, p *pipeline) {
		p.effect(t, func(e *effect.Effect) { e.Version-- })
	}, check.IntentFirst},
	{"a write of a version that never was", func(t *testing.T, p *pipeline) {
		p.effects(t, func(e *effect.Effect) { e.Version += 1000 })
	}, check.WriteCaused},
	{"an older version is written after a newer one", func(t *testing.T, p *pipeline) {
		p.effects(t, func(e *effect.Effect) { e.Version = 1 })
	}, check.InOrder},
	{"a record is made twice", func(t *testing.T, p *pipeline) {
		p.effects(t, func(e *effect.Effect) { e.Create, e.External = true, e.External+"-2" })
	}, check.CreatedOnce},
	{"the same is written twice", func(t *testing.T, p *pipeline) {
		k := p.any()
		e := k.last[1]
		e.State, e.Version = effect.Intent, k.state.Version
		p.record(e)
		e.State = effect.Done
		p.record(e)
	}, check.NotAgain},
	{"no writeback", func(t *testing.T, p *pipeline) {
		k := p.any()
		e := k.last[1]
		e.State, e.Version, e.At, e.Wrote = effect.Intent, k.state.Version, p.now, map[string]string{"last_name": "Untold"}
		p.record(e)
		p.raw(observation.Observation{System: e.System, Tenant: guild, Kind: e.Kind, ExternalID: canonical.ExternalID(e.ID), Via: observation.Intent, Entity: e.ID, ReadBegan: p.now, Wrote: e.Wrote})
		e.State, e.At = effect.Done, p.now
		p.record(e)
	}, check.WriteTold},
	{"no intent on RAW", func(t *testing.T, p *pipeline) { p.drop(t, streams.RAW, ".intent") }, check.WriteTold},
	{"what was settled is not written", func(t *testing.T, p *pipeline) {
		k := p.any()
		id := k.state.Links[canonical.GHL][0]
		p.write(canonical.GHL, id, map[string]string{"last_name": "Unwritten"}, nil)
		o := p.look(canonical.GHL, id, observation.Poll, p.now)
		p.merge(o, p.raw(o))
	}, check.Written},
	{"a write after it was quiet", func(t *testing.T, p *pipeline) {
		k := p.any()
		p.edit(canonical.GHL, k.state.Links[canonical.GHL][0], map[string]string{"last_name": "Late"})
	}, check.StaysQuiet},
	{"a call of nobody's", func(t *testing.T, p *pipeline) {
		c := p.calls[len(p.calls)-1]
		c.At, c.Create = p.now, false
		p.calls = append(p.calls, c)
	}, check.CallIntended},
	{"a record of nobody's was made", func(t *testing.T, p *pipeline) {
		p.calls = append(p.calls, check.Call{System: canonical.Novi, Record: "orphan", Create: true, At: p.calls[len(p.calls)-1].At})
	}, check.OutcomeCalled},
	{"a write that no system knows of", func(t *testing.T, p *pipeline) { p.calls = p.calls[:len(p.calls)-1] }, check.OutcomeCalled},
}

// TestSpoiled: each way to spoil a history is noticed, and by the invariant
// that says so; and no invariant is without one.
func TestSpoiled(t *testing.T) {
	caught := map[check.Invariant]bool{}
	for _, tt := range spoils {
		t.Run(tt.name, func(t *testing.T) {
			p := newPipeline(t)
			p.day(rand.New(rand.NewPCG(3, 4)), 6, 60)
			quiet := p.now
			if r := p.check(t, quiet); !r.Good() {
				t.Fatalf("not clean to begin with: %v", r.Violations[0])
			}
			tt.do(t, p)
			r := p.check(t, quiet)
			i := slices.IndexFunc(r.Violations, func(v check.Violation) bool { return v.Invariant == tt.want })
			if i < 0 {
				t.Fatalf("%s was not noticed: %v", tt.want, r.Violations)
			}
			if v := r.Violations[i]; v.At.IsZero() || v.Where == nil && v.Record == "" {
				t.Errorf("it doesn't say where and when: %+v", v)
			}
			caught[tt.want] = true
		})
	}
	for _, m := range check.Invariants() {
		if !caught[m.Invariant] {
			t.Errorf("nothing spoils %s", m.Invariant)
		}
	}
}

// TestUnderWay: what a consumer has not settled is not held against it.
func TestUnderWay(t *testing.T) {
	p := newPipeline(t)
	p.day(rand.New(rand.NewPCG(5, 6)), 6, 30)
	for _, c := range []streams.Consumer{streams.Hydrate(guild), streams.Transform(), streams.Sink(canonical.Novi, guild), streams.Sink(canonical.GHL, guild), streams.Tags()} {
		p.floors[c.Durable] = p.last[c.Stream]
	}
	k := p.any()
	id := k.state.Links[canonical.GHL][0]
	p.write(canonical.GHL, id, map[string]string{"last_name": "Unwritten"}, nil)
	p.raw(observation.Observation{System: canonical.GHL, Tenant: guild, Kind: canonical.KindContact, ExternalID: id, Via: observation.Notice, Record: json.RawMessage(`{}`)})
	began := p.now
	if r := p.check(t, time.Time{}); !r.Good() || r.Open != 1 || r.Ends[check.Waiting] != 1 {
		t.Errorf("a notice that waits: %v, %v", r.Violations, r.Ends)
	}
	o := p.look(canonical.GHL, id, observation.Fetch, began)
	seq := p.raw(o)
	if r := p.check(t, time.Time{}); !r.Good() {
		t.Errorf("a fetch that waits to be merged: %v", r.Violations)
	}
	p.merge(o, seq)
	if r := p.check(t, time.Time{}); !r.Good() {
		t.Errorf("an event that waits to be written: %v", r.Violations)
	}
	e := k.last[1]
	e.State, e.Version, e.Wrote = effect.Intent, k.state.Version, map[string]string{"last_name": "Unwritten"}
	p.record(e)
	if r := p.check(t, time.Time{}); !r.Good() || r.Open != 1 {
		t.Errorf("a write under way: %v", r.Violations)
	}
	clear(p.floors)
	letter := envelope.DeadLetter{Stage: "sink-novi", Tenant: guild, Kind: canonical.KindContact, ID: string(k.state.ID())}
	p.publish(streams.DEAD, streams.Dead("sink-novi", guild, canonical.KindContact, string(k.state.ID())), "", nil, marshal(t, letter))
	if r := p.check(t, time.Time{}); !r.Good() {
		t.Errorf("a dead letter says why: %v", r.Violations)
	}
}

// any returns an entity.
func (p *pipeline) any() *known {
	return p.links["ghl ghl0"]
}

// last1 returns the last message whose subject holds part.
func (p *pipeline) last1(t *testing.T, stream, part string) *bus.Stored {
	t.Helper()
	list := p.messages[stream]
	for i := len(list) - 1; i >= 0; i-- {
		if strings.Contains(list[i].Subject, part) && !strings.Contains(list[i].Subject, string(p.any().state.ID())) {
			return &list[i]
		}
	}
	t.Fatalf("there is no %s on %s", part, stream)
	return nil
}

// drop takes the last message away whose subject holds part.
func (p *pipeline) drop(t *testing.T, stream, part string) {
	t.Helper()
	seq := p.last1(t, stream, part).Seq
	p.messages[stream] = slices.DeleteFunc(p.messages[stream], func(m bus.Stored) bool { return m.Seq == seq })
}

// event changes the last event.
func (p *pipeline) event(t *testing.T, change func(*canonical.Event)) {
	t.Helper()
	m := p.last1(t, streams.CANONICAL, "canonical.contact.")
	var e canonical.Event
	decode(t, m.Data, &e)
	change(&e)
	m.Data = marshal(t, e)
}

// effect changes the last effect.
func (p *pipeline) effect(t *testing.T, change func(*effect.Effect)) {
	t.Helper()
	m := p.last1(t, streams.EFFECTS, "effects.")
	var e effect.Effect
	decode(t, m.Data, &e)
	change(&e)
	m.Data = marshal(t, e)
}

// effects changes the last write, its intent and its outcome.
func (p *pipeline) effects(t *testing.T, change func(*effect.Effect)) {
	t.Helper()
	last := p.last1(t, streams.EFFECTS, "effects.").Seq
	for i := range p.messages[streams.EFFECTS] {
		if m := &p.messages[streams.EFFECTS][i]; m.Seq == last || m.Seq == last-1 {
			var e effect.Effect
			decode(t, m.Data, &e)
			change(&e)
			m.Data = marshal(t, e)
		}
	}
}

// again publishes the last event once more, as the version after it.
func (p *pipeline) again(t *testing.T) {
	t.Helper()
	m := *p.last1(t, streams.CANONICAL, "canonical.contact.")
	var e canonical.Event
	decode(t, m.Data, &e)
	e.Version++
	op := canonical.Op(m.Subject[strings.LastIndexByte(m.Subject, '.')+1:])
	p.publish(m.Stream, m.Subject, streams.Entity(canonical.KindContact, guild, e.ID()), bus.Header(envelope.EventAttributes(guild, op, e, canonical.GHL, p.now).Header()), marshal(t, e))
}

func sameEntity(a, b bus.Stored) bool {
	x, errX := streams.Parse(a.Subject)
	y, errY := streams.Parse(b.Subject)
	return errX == nil && errY == nil && x.Kind == y.Kind && x.ID == y.ID
}

func decode(t *testing.T, data []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatal(err)
	}
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func encode(t *testing.T, o observation.Observation) []byte {
	t.Helper()
	data, err := o.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}
