package check_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/check"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/effect"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/sink/plan"
	"github.com/causeway-sync/causeway/streams"
	"github.com/causeway-sync/causeway/transform/merge"
)

const guild = canonical.Tenant("guild")

// history is a pipeline's streams in memory, with a broker's rules of retention
// and a clock of its own.
type history struct {
	messages map[string][]bus.Stored
	last     map[string]uint64 // sequence by stream
	subjects map[string]uint64 // the last sequence of a subject, or of an entity's
	floors   map[string]uint64 // by durable; all is settled where there is none
	calls    []check.Call
	now      time.Time
}

func newHistory() *history {
	return &history{messages: map[string][]bus.Stored{}, last: map[string]uint64{}, subjects: map[string]uint64{}, floors: map[string]uint64{}, now: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)}
}

// publish stores a message; of over, if it is not "", the last sequence is
// expected.
func (h *history) publish(stream, subject, over string, header bus.Header, data []byte) uint64 {
	h.now = h.now.Add(time.Millisecond)
	h.last[stream]++
	m := bus.Stored{Stream: stream, Subject: subject, Header: bus.Header{}, Data: data, Seq: h.last[stream], Time: h.now}
	for k, v := range header {
		m.Header[k] = v
	}
	if over != "" {
		m.Header["Nats-Expected-Last-Subject-Sequence"] = []string{strconv.FormatUint(h.subjects[over], 10)}
		h.subjects[over] = m.Seq
	}
	h.messages[stream] = append(h.messages[stream], m)
	return m.Seq
}

// trim forgets what a broker does not keep: more than 64 of a subject.
func (h *history) trim() {
	for _, stream := range []string{streams.CANONICAL, streams.EFFECTS} {
		left := map[string]int{}
		for i := len(h.messages[stream]) - 1; i >= 0; i-- {
			m := &h.messages[stream][i]
			if left[m.Subject]++; left[m.Subject] > 64 {
				m.Seq = 0
			}
		}
		h.messages[stream] = slices.DeleteFunc(h.messages[stream], func(m bus.Stored) bool { return m.Seq == 0 })
	}
}

func (h *history) Scan(_ context.Context, stream, _ string, _ time.Time, each func(bus.Stored) error) error {
	for _, m := range h.messages[stream] {
		if err := each(m); err != nil {
			return err
		}
	}
	return nil
}

func (h *history) LastSequence(_ context.Context, stream string) (uint64, error) {
	return h.last[stream], nil
}

func (h *history) Settled(_ context.Context, c streams.Consumer) (uint64, error) {
	if seq, ok := h.floors[c.Durable]; ok {
		return seq, nil
	}
	return h.last[c.Stream], nil
}

// check checks the history with the mapping that it was made with.
func (h *history) check(t testing.TB, quiet time.Time) check.Report {
	t.Helper()
	r, err := check.Run(t.Context(), check.Config{Source: h, Calls: h.calls, Quiet: quiet, Skew: time.Millisecond,
		Tenants: map[canonical.Tenant]check.Tenant{guild: {Systems: systems, Lens: lens, Policy: policy}}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var (
	systems = []canonical.System{canonical.GHL, canonical.Novi}
	lens    = mapping.Association("US")
	policy  = &mapping.Policy{CreateGHL: mapping.ForAll, CreateNovi: mapping.ForAll}
)

// pipeline is a model of the whole pipeline: the real mapping, merge and plan,
// and in place of the stages one after the other what they do.
type pipeline struct {
	*history
	t        testing.TB
	entities map[canonical.CanonicalID]*known
	links    map[string]*known
	records  map[string]json.RawMessage // by system and id
	stamp    func() time.Time           // when a record was changed; nil for the model's own clock
}

type known struct {
	state canonical.Event
	last  [2]effect.Effect
}

func newPipeline(t testing.TB) *pipeline {
	return &pipeline{history: newHistory(), t: t, entities: map[canonical.CanonicalID]*known{}, links: map[string]*known{}, records: map[string]json.RawMessage{}}
}

// edit has somebody set fields of a record, makes it if it is not there, and
// lets the pipeline carry it over.
func (p *pipeline) edit(system canonical.System, id canonical.ExternalID, fields map[string]string, tags ...string) {
	p.t.Helper()
	p.write(system, id, fields, tags)
	p.raw(observation.Observation{System: system, Tenant: guild, Kind: canonical.KindContact, ExternalID: id, Via: observation.Notice, Record: json.RawMessage(`{}`)})
	began := p.now
	p.see(p.look(system, id, observation.Fetch, began))
}

// write changes a record at its system.
func (p *pipeline) write(system canonical.System, id canonical.ExternalID, fields map[string]string, tags []string) {
	p.t.Helper()
	p.now = p.now.Add(2 * time.Second)
	now := p.now
	if p.stamp != nil {
		now = p.stamp()
	}
	key := string(system) + " " + string(id)
	raw := p.records[key]
	stamp := now.UTC().Format("2006-01-02T15:04:05.000000Z")
	if system == canonical.Novi {
		if raw == nil {
			raw = json.RawMessage(fmt.Sprintf(`{"UniqueID":%q,"CustomerType":"Person","FirstName":"","LastName":"","Email":"","Mobile":"","Website":"","JobTitle":"","ImportID":"","BillingAddress":{},"UnsubscribeFromEmails":false,"CustomFields":{"GHL Tags":{"Value":""}}}`, id))
		}
		all := &tags
		if tags == nil {
			all = nil
		}
		out, err := lens.NoviOverlay(raw, fields, all)
		if err != nil {
			p.t.Fatal(err)
		}
		p.records[key] = replace(p.t, out, "LastUpdatedDate", stamp)
		return
	}
	if raw == nil {
		raw = json.RawMessage(fmt.Sprintf(`{"id":%q,"tags":[]}`, id))
	}
	body, skipped := lens.GHLBody(fields, nil)
	if len(skipped) > 0 {
		p.t.Fatalf("fields %v can't be written", skipped)
	}
	for k, v := range body {
		raw = replace(p.t, raw, k, v)
	}
	if tags != nil {
		raw = replace(p.t, raw, "tags", tags)
	}
	p.records[key] = replace(p.t, raw, "dateUpdated", stamp)
}

func replace(t testing.TB, raw json.RawMessage, key string, value any) json.RawMessage {
	t.Helper()
	var record map[string]any
	if err := json.Unmarshal(raw, &record); err != nil {
		t.Fatal(err)
	}
	record[key] = value
	out, err := json.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// look reads a record.
func (p *pipeline) look(system canonical.System, id canonical.ExternalID, via observation.Via, began time.Time) observation.Observation {
	p.now = p.now.Add(time.Millisecond)
	o := observation.Observation{System: system, Tenant: guild, Kind: canonical.KindContact, ExternalID: id, Via: via, Endpoint: observation.GHLContactGet, ReadBegan: began, Record: p.records[string(system)+" "+string(id)]}
	field := "dateUpdated"
	if system == canonical.Novi {
		o.Endpoint, field = observation.NoviMemberGet, "LastUpdatedDate"
	}
	var record map[string]any
	if err := json.Unmarshal(o.Record, &record); err != nil {
		p.t.Fatal(err)
	}
	at, err := time.Parse(time.RFC3339, record[field].(string))
	if err != nil {
		p.t.Fatal(err)
	}
	o.Modified = at
	return o
}

func (p *pipeline) raw(o observation.Observation) uint64 {
	p.t.Helper()
	body, err := o.Encode()
	if err != nil {
		p.t.Fatal(err)
	}
	return p.publish(streams.RAW, streams.Raw(o), "", nil, body)
}

// see stores an observation, merges it, and lets both sinks work.
func (p *pipeline) see(o observation.Observation) {
	p.t.Helper()
	p.merge(o, p.raw(o))
	k := p.links[string(o.System)+" "+string(o.ExternalID)]
	for i, system := range systems {
		p.sink(k, i, system)
	}
}

// merge merges what RAW has as seq.
func (p *pipeline) merge(o observation.Observation, seq uint64) {
	p.t.Helper()
	seen := merge.Seen{System: o.System, External: o.ExternalID, Via: o.Via, Absent: o.Absent, Wrote: o.Wrote, Atomic: o.Atomic, Target: o.Target, Creates: o.Creates,
		At: canonical.Read{AsOf: o.ReadBegan.UnixMicro(), Seq: seq}}
	if !o.Modified.IsZero() {
		seen.At.Modified = o.Modified.UnixMicro()
	}
	key := string(o.System) + " " + string(o.ExternalID)
	k := p.entities[o.Entity]
	if o.Via != observation.Intent {
		var err error
		if seen.Shown, err = lens.Show(o); err != nil {
			p.t.Fatal(err)
		}
		if p.links[key] == nil {
			if k == nil {
				k = &known{state: canonical.NewEvent(canonical.KindContact, canonical.NewID(guild, canonical.KindContact, o.System, o.ExternalID))}
				p.entities[k.state.ID()] = k
			}
			p.links[key] = k
			p.publish("KV_IDENTITY", "$KV.IDENTITY."+streams.LinkKey(guild, canonical.KindContact, o.System, o.ExternalID), "", nil, []byte(k.state.ID()))
		}
		k = p.links[key]
	}
	next, out := merge.Apply(k.state, seen, merge.Policy{Lens: lens})
	if out.Op == "" {
		return
	}
	data, err := json.Marshal(next)
	if err != nil {
		p.t.Fatal(err)
	}
	p.publish(streams.CANONICAL, streams.Canonical(canonical.KindContact, guild, next.ID(), out.Op), streams.Entity(canonical.KindContact, guild, next.ID()),
		bus.Header(envelope.EventAttributes(guild, out.Op, next, out.Origin, out.At).Header()), data)
	k.state = next
	for _, c := range next.Changes {
		if c.Field != "tags" || c.From == c.To {
			continue
		}
		e, op := canonical.TagEvent{Tag: c.To, ContactID: next.ID(), ContactVersion: next.Version, Origin: c.Origin, At: c.At}, canonical.OpAdded
		if c.To == "" {
			e.Tag, op = c.From, canonical.OpRemoved
		}
		if data, err = json.Marshal(e); err != nil {
			p.t.Fatal(err)
		}
		p.publish(streams.CANONICAL, streams.Canonical(canonical.KindTag, guild, next.ID(), op), "", nil, data)
	}
}

// sink makes a system show what the entity says.
func (p *pipeline) sink(k *known, i int, system canonical.System) {
	p.t.Helper()
	w := plan.For(k.state, system, lens, plan.Expect(k.state, system, k.last[i]), true, policy)
	if w.Empty() {
		return
	}
	id := k.state.ID()
	e := effect.Effect{System: system, Tenant: guild, Kind: canonical.KindContact, ID: id, State: effect.Intent, Version: k.state.Version, Attempt: 1,
		Create: w.Create, External: w.External, At: p.now, Wrote: w.Fields, TagsAdded: w.AddTags, TagsRemoved: w.RemoveTags}
	p.record(e)
	wrote := map[string]string{}
	for f, v := range w.Fields {
		wrote[f] = v
	}
	for _, t := range w.AddTags {
		wrote[canonical.TagField(t)] = "true"
	}
	for _, t := range w.RemoveTags {
		wrote[canonical.TagField(t)] = ""
	}
	about := observation.Observation{System: system, Tenant: guild, Kind: canonical.KindContact, ExternalID: canonical.ExternalID(id), Via: observation.Intent,
		Entity: id, Target: w.External, Creates: w.Create, ReadBegan: p.now, Wrote: wrote}
	p.merge(about, p.raw(about))
	if w.Create {
		e.External = canonical.ExternalID(string(system) + "-" + string(id[:12]))
	}
	var tags []string
	if w.Tags != nil {
		tags = *w.Tags
	}
	p.write(system, e.External, w.Fields, tags)
	p.calls = append(p.calls, check.Call{System: system, Record: e.External, Create: w.Create, At: p.now})
	back := p.look(system, e.External, observation.Writeback, p.now)
	back.Entity, back.Wrote, back.Atomic = id, wrote, true
	body, err := back.Encode()
	if err != nil {
		p.t.Fatal(err)
	}
	e.State, e.At, e.Writebacks = effect.Done, back.ReadBegan, [][]byte{body}
	p.record(e)
	k.last[i] = e
	p.merge(back, p.raw(back))
}

func (p *pipeline) record(e effect.Effect) {
	p.t.Helper()
	data, err := json.Marshal(e)
	if err != nil {
		p.t.Fatal(err)
	}
	subject := streams.Effect(e.System, guild, e.Kind, e.ID)
	p.publish(streams.EFFECTS, subject, subject, nil, data)
}

// day has n edits made of up to people, at both systems.
func (p *pipeline) day(random *rand.Rand, people, n int) {
	p.t.Helper()
	for range n {
		i := random.IntN(people)
		system := systems[i%2]
		id := canonical.ExternalID(fmt.Sprintf("%s%d", system, i))
		k := p.links[string(system)+" "+string(id)]
		if k != nil && random.IntN(2) == 0 {
			system = system.Other()
			id = k.state.Links[system][0]
		}
		fields := map[string]string{"first_name": fmt.Sprintf("Ada %d", random.IntN(1000))}
		if k == nil {
			fields = map[string]string{"first_name": "Ada", "last_name": strings.ToUpper(strconv.Itoa(i)), "email": fmt.Sprintf("ada.%d@example.org", i)}
		}
		var tags []string
		if random.IntN(4) == 0 {
			tags = []string{[]string{"board", "speaker", "patron"}[random.IntN(3)]}
		}
		p.edit(system, id, fields, tags...)
	}
}

// operations is how many messages and calls there are.
func (h *history) operations() int {
	n := len(h.calls)
	for _, m := range h.messages {
		n += len(m)
	}
	return n
}
