package erase

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/effect"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

// Broker is what an erasure needs of the broker.
type Broker interface {
	bus.Publisher
	bus.Reader
	Bucket(ctx context.Context, name string) (bus.KV, error)
	Purge(ctx context.Context, stream, subject string, below uint64) error
	// Remove takes one message off a stream and overwrites it where it was stored.
	Remove(ctx context.Context, stream string, seq uint64) error
}

// Entity is one entity of the person's: a contact, or what hangs on it.
type Entity struct {
	Kind canonical.Kind        `json:"kind"`
	ID   canonical.CanonicalID `json:"id"`
}

// Person is all that is to be erased.
type Person struct {
	Tenant   canonical.Tenant `json:"tenant"`
	Entities []Entity         `json:"entities"`
	Records  []Record         `json:"records"`
	// Words are what the person is looked for by afterwards: addresses, numbers
	// and ids. What another contact shows as well is in Shared, and not looked for.
	Words  []string `json:"words"`
	Shared []string `json:"shared,omitempty"`
}

// Found is a message in which one of a person's words was found.
type Found struct {
	Stream  string `json:"stream"`
	Seq     uint64 `json:"sequence"`
	Subject string `json:"subject"`
}

// Report says what was done, or would be.
type Report struct {
	Person
	// Messages is how many there are in each stream, and Keys how many in each
	// bucket.
	Messages map[string]int `json:"messages"`
	// Others are messages about something else that named the person, and were
	// removed.
	Others []Found `json:"others,omitempty"`
	// Left are those that name the person still: an erasure has failed unless
	// there is none.
	Left []Found `json:"left,omitempty"`
}

// Collect finds all that belongs to a contact: what it was merged with, what
// hangs on it, and every record that ever showed one of those.
func Collect(ctx context.Context, b Broker, tenant canonical.Tenant, id canonical.CanonicalID) (Person, error) {
	p := Person{Tenant: tenant}
	c := &collector{b: b, p: &p, records: map[Record]bool{}, words: map[string]bool{}, entities: map[Entity]bool{}}
	if err := c.contact(ctx, id); err != nil {
		return p, err
	}
	if err := c.items(ctx); err != nil {
		return p, err
	}
	for r := range c.records {
		p.Records = append(p.Records, r)
		c.words[string(r.External)] = true
	}
	slices.SortFunc(p.Records, func(a, b Record) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	for e := range c.entities {
		p.Entities = append(p.Entities, e)
	}
	slices.SortFunc(p.Entities, func(a, b Entity) int {
		return strings.Compare(string(a.Kind+" ")+string(a.ID), string(b.Kind+" ")+string(b.ID))
	})
	if err := c.shared(ctx); err != nil {
		return p, err
	}
	p.Words = slices.Sorted(maps.Keys(c.words))
	return p, nil
}

type collector struct {
	b        Broker
	p        *Person
	entities map[Entity]bool
	records  map[Record]bool
	words    map[string]bool
}

// contact takes in a contact, whatever it was merged into, and what was merged
// into it.
func (c *collector) contact(ctx context.Context, id canonical.CanonicalID) error {
	if c.entities[Entity{canonical.KindContact, id}] {
		return nil
	}
	next, err := c.entity(ctx, canonical.KindContact, id)
	if err != nil {
		return err
	}
	for _, id := range next {
		if err := c.contact(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// entity takes in an entity and returns the contacts that it is one with now.
func (c *collector) entity(ctx context.Context, kind canonical.Kind, id canonical.CanonicalID) (one []canonical.CanonicalID, err error) {
	c.entities[Entity{kind, id}] = true
	err = c.b.Scan(ctx, streams.CANONICAL, streams.Entity(kind, c.p.Tenant, id), time.Time{}, func(m bus.Stored) error {
		e, err := canonical.DecodeEvent(m.Data)
		if err != nil {
			return fmt.Errorf("decode message %d of %s: %w", m.Seq, m.Stream, err)
		}
		one = nil // of the last one
		for _, f := range e.Sync.Folded {
			one = append(one, f.ID)
		}
		if e.MergedInto != "" {
			one = append(one, e.MergedInto)
		}
		for system, ids := range e.Links {
			for _, x := range ids {
				c.records[Record{c.p.Tenant, kind, system, x}] = true
			}
		}
		bases := map[canonical.System][]canonical.Base{}
		for system, base := range e.Sync.Base {
			bases[system] = append(bases[system], base)
		}
		for system, others := range e.Sync.Others {
			bases[system] = slices.AppendSeq(bases[system], maps.Values(others))
		}
		for system, of := range bases {
			for _, base := range of {
				if base.External != "" {
					c.records[Record{c.p.Tenant, kind, system, base.External}] = true
				}
				if kind == canonical.KindContact {
					c.say(base.Fields["email"], base.Fields["phone"])
					c.say(base.Also...)
				}
			}
		}
		c.say(e.Contact.Email, e.Contact.Phone)
		return nil
	})
	return one, err
}

func (c *collector) say(words ...string) {
	for _, w := range words {
		if len(w) >= 5 { // less would be found everywhere
			c.words[w] = true
		}
	}
}

// items takes in what hangs on the contacts, or on one of their records.
func (c *collector) items(ctx context.Context) error {
	contacts := maps.Clone(c.entities)
	var found []Entity
	for _, kind := range canonical.Items() {
		err := c.b.Scan(ctx, streams.CANONICAL, streams.EntitiesOf(kind, c.p.Tenant), time.Time{}, func(m bus.Stored) error {
			e, err := canonical.DecodeEvent(m.Data)
			if err != nil {
				return fmt.Errorf("decode message %d of %s: %w", m.Seq, m.Stream, err)
			}
			mine := contacts[Entity{canonical.KindContact, e.ContactID()}]
			for system, base := range e.Sync.Base {
				mine = mine || base.Parent != "" && c.records[Record{c.p.Tenant, canonical.KindContact, system, base.Parent}]
			}
			if mine && !slices.Contains(found, Entity{kind, e.ID()}) {
				found = append(found, Entity{kind, e.ID()})
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, e := range found {
		if _, err := c.entity(ctx, e.Kind, e.ID); err != nil {
			return err
		}
	}
	return nil
}

// shared takes out of the words what another contact shows as its own.
func (c *collector) shared(ctx context.Context) error {
	last := map[string]canonical.Contact{}
	err := c.b.Scan(ctx, streams.CANONICAL, streams.CanonicalWhere(canonical.KindContact, "", "", ""), time.Time{}, func(m bus.Stored) error {
		s, err := streams.Parse(m.Subject)
		if err != nil {
			return err
		}
		if s.Tenant == c.p.Tenant && c.entities[Entity{canonical.KindContact, canonical.CanonicalID(s.ID)}] {
			return nil
		}
		e, err := canonical.DecodeEvent(m.Data)
		last[string(s.Tenant)+"."+s.ID] = e.Contact
		return err
	})
	shared := map[string]bool{}
	for _, contact := range last {
		for _, w := range []string{contact.Email, contact.Phone} {
			if c.words[w] {
				shared[w] = true
				delete(c.words, w)
			}
		}
	}
	c.p.Shared = slices.Sorted(maps.Keys(shared))
	return err
}

// places are the subjects that are all about the person, by stream.
func (p Person) places() map[string][]string {
	out := map[string][]string{}
	add := func(stream, subject string) {
		if !slices.Contains(out[stream], subject) {
			out[stream] = append(out[stream], subject)
		}
	}
	kv := func(bucket, pattern string) { add("KV_"+bucket, "$KV."+bucket+"."+pattern) }
	for _, e := range p.Entities {
		add(streams.RAW, streams.RawWhere("", p.Tenant, e.Kind, canonical.ExternalID(e.ID), ""))
		add(streams.CANONICAL, streams.Entity(e.Kind, p.Tenant, e.ID))
		add(streams.EFFECTS, streams.EffectsWhere("", p.Tenant, e.Kind, e.ID))
		add(streams.DEAD, streams.DeadWhere("", p.Tenant, e.Kind, string(e.ID)))
		if e.Kind == canonical.KindContact {
			add(streams.CANONICAL, streams.Entity(canonical.KindTag, p.Tenant, e.ID))
		}
		for _, system := range []canonical.System{canonical.GHL, canonical.Novi} {
			kv(streams.HOLDS, streams.HeldOf(p.Tenant, system, e.Kind, e.ID))
		}
	}
	for _, r := range p.Records {
		add(streams.RAW, streams.RawWhere(r.System, r.Tenant, r.Kind, r.External, ""))
		add(streams.DEAD, streams.DeadWhere("", r.Tenant, r.Kind, string(r.External)))
		kv(streams.IDENTITY, streams.LinkKey(r.Tenant, r.Kind, r.System, r.External))
		kv(streams.IDENTITY, string(r.Tenant)+".child."+string(r.System)+"."+streams.Token(string(r.External))+".*.*")
	}
	return out
}

// claims adds the keys of IDENTITY that point at one of the person's entities,
// whatever they are of.
func (p Person) claims(ctx context.Context, b Broker, places map[string][]string) error {
	ids := map[string]bool{}
	for _, e := range p.Entities {
		ids[string(e.ID)] = true
	}
	const stream = "KV_" + streams.IDENTITY
	return b.Scan(ctx, stream, "$KV."+streams.IDENTITY+"."+string(p.Tenant)+".>", time.Time{}, func(m bus.Stored) error {
		if ids[string(m.Data)] && !slices.Contains(places[stream], m.Subject) {
			places[stream] = append(places[stream], m.Subject)
		}
		return nil
	})
}

// firings adds what rules have asked for because of the person, or for them: its
// subjects hold an entity's id within the firing's key.
func (p Person) firings(ctx context.Context, b Broker, places map[string][]string) error {
	ids := map[canonical.CanonicalID]bool{}
	for _, e := range p.Entities {
		ids[e.ID] = true
		places[streams.EFFECTS] = append(places[streams.EFFECTS], streams.FiringEffectsOf(p.Tenant, e.ID))
	}
	add := func(m bus.Stored) {
		if !slices.Contains(places[m.Stream], m.Subject) {
			places[m.Stream] = append(places[m.Stream], m.Subject)
		}
	}
	err := b.Scan(ctx, streams.RAW, streams.RawWhere(canonical.Rule, p.Tenant, "", "", observation.FromRule), time.Time{}, func(m bus.Stored) error {
		o, err := observation.Decode(m.Data)
		if err == nil && (ids[o.Entity] || ids[o.Contact] || o.Firing != nil && ids[o.Firing.Entity]) {
			add(m)
		}
		return nil // one that can't be read is the transform's to report
	})
	for _, stage := range []string{"rules", "actions"} {
		if err == nil {
			err = b.Scan(ctx, streams.DEAD, streams.DeadWhere(stage, p.Tenant, "", ""), time.Time{}, func(m bus.Stored) error {
				for id := range ids {
					if strings.Contains(m.Subject, string(id)) {
						add(m)
					}
				}
				return nil
			})
		}
	}
	return err
}

// Plan says what an erasure would do, and does nothing.
func Plan(ctx context.Context, b Broker, tenant canonical.Tenant, id canonical.CanonicalID) (Report, error) {
	p, err := Collect(ctx, b, tenant, id)
	if err != nil {
		return Report{Person: p}, err
	}
	r := Report{Person: p, Messages: map[string]int{}}
	places := p.places()
	if err := errors.Join(p.claims(ctx, b, places), p.firings(ctx, b, places)); err != nil {
		return r, err
	}
	for stream, subjects := range places {
		for _, subject := range subjects {
			err := b.Scan(ctx, stream, subject, time.Time{}, func(bus.Stored) error {
				r.Messages[stream]++
				return nil
			})
			if err != nil {
				return r, err
			}
		}
	}
	return r, nil
}

// Wait is how long an ingest may take until it knows of a tombstone.
const Wait = refresh + time.Second

// Run erases a person: it leaves tombstones, waits until every ingest knows of
// them, purges what is about the person, removes what else names them, and looks
// through every stream and bucket for what is left. It may be run again, also
// for what came while it ran. Report.Left is what a person has to look at.
func Run(ctx context.Context, b Broker, clk clock.Clock, tenant canonical.Tenant, id canonical.CanonicalID) (Report, error) {
	r, err := Plan(ctx, b, tenant, id)
	if err != nil {
		return r, err
	}
	identity, err := b.Bucket(ctx, streams.IDENTITY)
	if err != nil {
		return r, err
	}
	if err := NewTombstones(identity).put(ctx, r.Records, clk.Now()); err != nil {
		return r, err
	}
	if err := clock.Sleep(ctx, clk, Wait); err != nil {
		return r, err
	}
	// What has come meanwhile is erased as well.
	if r, err = Plan(ctx, b, tenant, id); err != nil {
		return r, err
	}
	if err := NewTombstones(identity).put(ctx, r.Records, clk.Now()); err != nil {
		return r, err
	}
	places := r.places()
	if err := errors.Join(r.claims(ctx, b, places), r.firings(ctx, b, places)); err != nil {
		return r, err
	}
	// RAW first: nothing of it is to be merged any more when CANONICAL goes.
	for _, stream := range append([]string{streams.RAW}, slices.Sorted(maps.Keys(places))...) {
		for _, subject := range places[stream] {
			if err := wipe(ctx, b, stream, subject); err != nil {
				return r, err
			}
		}
	}
	found, err := r.Search(ctx, b)
	if err != nil {
		return r, err
	}
	if err := age(ctx, b, clk, found); err != nil {
		return r, err
	}
	for _, f := range found {
		if removable, err := f.removable(ctx, b); err != nil {
			return r, err
		} else if !removable {
			continue
		}
		if err := b.Remove(ctx, f.Stream, f.Seq); err != nil {
			return r, err
		}
		r.Others = append(r.Others, f)
	}
	r.Left, err = r.Search(ctx, b)
	return r, err
}

// wipe takes all messages of a subject off a stream. A purge alone would leave
// their bytes in the server's files until it has use for the room. Buckets allow
// no more than that: their keys and values are ids and hashes.
func wipe(ctx context.Context, b Broker, stream, subject string) error {
	if strings.HasPrefix(stream, "KV_") {
		return b.Purge(ctx, stream, subject, 0)
	}
	var all []uint64
	err := b.Scan(ctx, stream, subject, time.Time{}, func(m bus.Stored) error {
		all = append(all, m.Seq)
		return nil
	})
	if err != nil {
		return err
	}
	for _, seq := range all {
		if err := b.Remove(ctx, stream, seq); err != nil {
			return err
		}
	}
	return b.Purge(ctx, stream, subject, 0) // what has come meanwhile
}

// patience is how long the transform may take to say a thing again.
const patience = 10 * time.Second

// age has the transform publish a further version of other entities whose last
// one names the person, perhaps only by what changed then: that one is of the
// past afterwards.
func age(ctx context.Context, b Broker, clk clock.Clock, found []Found) error {
	var last uint64
	for _, f := range found {
		p, err := streams.Parse(f.Subject)
		if old, lastErr := f.removable(ctx, b); lastErr != nil || old || err != nil || f.Stream != streams.CANONICAL {
			if lastErr != nil {
				return lastErr
			}
			continue
		}
		o := observation.Observation{System: canonical.Person, Tenant: p.Tenant, Kind: p.Kind, ExternalID: canonical.ExternalID(p.ID), Via: observation.Wake,
			Entity: canonical.CanonicalID(p.ID), ReadBegan: clk.Now()}
		body, err := o.Encode()
		if err != nil {
			return err
		}
		a, err := b.Publish(ctx, bus.Message{Subject: streams.Raw(o), Data: body})
		if err != nil {
			return fmt.Errorf("wake entity %s: %w", p.ID, err)
		}
		last = a.Seq
	}
	for until := clk.Now().Add(patience); last > 0 && clk.Now().Before(until); {
		if passed, err := b.Passed(ctx, streams.Transform(), last); err != nil || passed {
			return err
		}
		if err := clock.Sleep(ctx, clk, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// removable reports whether a message that names the person may go: it is of the
// past. What another entity is now, and what a sink or a walk goes by, may not.
func (f Found) removable(ctx context.Context, b Broker) (bool, error) {
	p, err := streams.Parse(f.Subject)
	if err != nil {
		return false, nil //nolint:nilerr // a key of a bucket
	}
	last := ""
	switch f.Stream {
	case streams.RAW, streams.DEAD:
		return true, nil
	case streams.CANONICAL:
		last = streams.Entity(p.Kind, p.Tenant, canonical.CanonicalID(p.ID))
	case streams.EFFECTS:
		last = f.Subject
	}
	m, err := b.Last(ctx, f.Stream, last)
	if errors.Is(err, bus.ErrNotFound) {
		return true, nil
	}
	return m.Seq != f.Seq, err
}

// Search looks through every stream and bucket, subjects, headers and bodies,
// for a person's words.
func (p Person) Search(ctx context.Context, b Broker) ([]Found, error) {
	var words [][]byte
	for _, w := range p.Words {
		words = append(words, []byte(w))
		if token := streams.Token(w); token != w {
			words = append(words, []byte(token))
		}
		if quoted, err := json.Marshal(w); err == nil && string(quoted) != `"`+w+`"` {
			words = append(words, bytes.Trim(quoted, `"`))
		}
	}
	has := func(text []byte) bool {
		text = bytes.ToLower(text)
		return slices.ContainsFunc(words, func(w []byte) bool { return bytes.Contains(text, bytes.ToLower(w)) })
	}
	var names []string
	for _, s := range streams.Streams() {
		names = append(names, s.Name)
	}
	for _, b := range streams.Buckets() {
		names = append(names, "KV_"+b.Bucket)
	}
	var out []Found
	for _, stream := range names {
		err := b.Scan(ctx, stream, ">", time.Time{}, func(m bus.Stored) error {
			found := has([]byte(m.Subject)) || has(m.Data)
			for k, values := range m.Header {
				found = found || has([]byte(k+" "+strings.Join(values, " ")))
			}
			if stream == streams.EFFECTS && !found {
				var e effect.Effect
				if err := json.Unmarshal(m.Data, &e); err == nil {
					found = slices.ContainsFunc(e.Writebacks, has) // they are in base64
				}
			}
			if found {
				out = append(out, Found{stream, m.Seq, m.Subject})
			}
			return nil
		})
		if err != nil && !errors.Is(err, bus.ErrNotFound) { // a stream that isn't there holds nothing
			return nil, err
		}
	}
	return out, nil
}
