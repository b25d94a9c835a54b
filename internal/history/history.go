// Package history tells, from the streams alone, how a record came to be what
// it is: what was seen, decided and written, when, by whom and why.
//
// [Find] says which entities somebody means; [Show] is one at a time that has
// passed; [BlameField] is where a field has its value from; [Read] is all that
// happened, [Story] that and what is, and [Trace] what followed from one message. They only read, and
// what they return holds personal data: it is for a person who asks, never for
// a log.
//
// What is told reaches as far as the streams do: RAW keeps thirty days, and
// CANONICAL and EFFECTS 64 messages of a subject.
package history

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/effect"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

// Broker is what the package reads by; a [bus.Conn] is one.
type Broker interface {
	bus.Reader
	Bucket(ctx context.Context, name string) (bus.KV, error)
}

// Ref names an entity.
type Ref struct {
	Tenant canonical.Tenant      `json:"tenant"`
	Kind   canonical.Kind        `json:"kind"`
	ID     canonical.CanonicalID `json:"id"`
}

// ErrUnknown is returned, wrapped, for what the streams know nothing of.
var ErrUnknown = errors.New("nothing is known of it")

// Find returns the entities that key names, which may be a canonical id, a
// system's id of a record, or the e-mail address of a contact. An address is
// looked up by the claims of IDENTITY in each of the tenants, and only counts
// if the contact, or a record of it, shows it now. It returns [ErrUnknown] if
// there is none.
func Find(ctx context.Context, b Broker, tenants []canonical.Tenant, key string) ([]Ref, error) {
	claims, err := b.Bucket(ctx, streams.IDENTITY)
	if err != nil {
		return nil, err
	}
	var out []Ref
	if strings.Contains(key, "@") {
		out, err = byEmail(ctx, b, claims, tenants, strings.ToLower(strings.TrimSpace(key)))
	} else {
		out, err = byID(ctx, b, claims, key)
		if len(tenants) > 0 {
			out = slices.DeleteFunc(out, func(r Ref) bool { return !slices.Contains(tenants, r.Tenant) })
		}
	}
	if err == nil && len(out) == 0 {
		err = fmt.Errorf("%s: %w", key, ErrUnknown)
	}
	return out, err
}

func byEmail(ctx context.Context, b Broker, claims bus.KV, tenants []canonical.Tenant, email string) ([]Ref, error) {
	var out []Ref
	for _, tenant := range tenants {
		for _, what := range []string{"email", "also"} {
			id, _, err := claims.Get(ctx, streams.ClaimKey(tenant, what, email))
			if errors.Is(err, bus.ErrNotFound) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("look up a claim of tenant %s: %w", tenant, err)
			}
			ref := Ref{tenant, canonical.KindContact, canonical.CanonicalID(id)}
			e, now, err := current(ctx, b, ref)
			if errors.Is(err, ErrUnknown) {
				continue
			}
			if err != nil {
				return nil, err
			}
			if shows(e, email) && !slices.Contains(out, now) {
				out = append(out, now)
			}
		}
	}
	return out, nil
}

func shows(e canonical.Event, email string) bool {
	if e.Contact.Email == email {
		return true
	}
	records := []canonical.Base{}
	for system, base := range e.Sync.Base {
		records = append(records, base)
		for _, other := range e.Sync.Others[system] {
			records = append(records, other)
		}
	}
	return slices.ContainsFunc(records, func(r canonical.Base) bool { return r.Fields["email"] == email || slices.Contains(r.Also, email) })
}

func byID(ctx context.Context, b Broker, claims bus.KV, key string) ([]Ref, error) {
	var out []Ref
	for _, kind := range kinds() {
		m, err := b.Last(ctx, streams.CANONICAL, streams.CanonicalWhere(kind, "", canonical.CanonicalID(key), ""))
		if errors.Is(err, bus.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		p, err := streams.Parse(m.Subject)
		if err != nil {
			return nil, err
		}
		out = append(out, Ref{p.Tenant, kind, canonical.CanonicalID(key)})
	}
	for _, system := range systems() {
		keys, err := claims.Keys(ctx, streams.LinkWhere("", "", system, canonical.ExternalID(key)))
		if err != nil {
			return nil, fmt.Errorf("look up links: %w", err)
		}
		slices.Sort(keys)
		for _, k := range keys {
			tokens := strings.Split(k, ".")
			id, _, err := claims.Get(ctx, k)
			if err != nil {
				return nil, fmt.Errorf("look up links: %w", err)
			}
			ref := Ref{canonical.Tenant(tokens[0]), canonical.Kind(tokens[1]), canonical.CanonicalID(id)}
			if _, now, err := current(ctx, b, ref); err == nil {
				ref = now
			} else if !errors.Is(err, ErrUnknown) {
				return nil, err
			}
			if !slices.Contains(out, ref) {
				out = append(out, ref)
			}
		}
	}
	return out, nil
}

func kinds() []canonical.Kind {
	return append([]canonical.Kind{canonical.KindContact}, canonical.Items()...)
}
func systems() []canonical.System { return []canonical.System{canonical.GHL, canonical.Novi} }

// current returns the last state of an entity, or of the one that it was
// merged into.
func current(ctx context.Context, b Broker, ref Ref) (canonical.Event, Ref, error) {
	for seen := map[canonical.CanonicalID]bool{}; ; {
		m, err := b.Last(ctx, streams.CANONICAL, streams.Entity(ref.Kind, ref.Tenant, ref.ID))
		if errors.Is(err, bus.ErrNotFound) {
			return canonical.Event{}, ref, fmt.Errorf("%s %s of tenant %s: %w", ref.Kind, ref.ID, ref.Tenant, ErrUnknown)
		}
		if err != nil {
			return canonical.Event{}, ref, err
		}
		e, err := canonical.DecodeEvent(m.Data)
		if err != nil {
			return canonical.Event{}, ref, fmt.Errorf("decode message %d of %s: %w", m.Seq, m.Stream, err)
		}
		if e.MergedInto == "" || seen[ref.ID] {
			return e, ref, nil
		}
		seen[ref.ID] = true
		ref.ID = e.MergedInto
	}
}

// Step says what an [Entry] is about.
type Step string

// The steps, in the order in which a change takes them.
const (
	StepNotice    Step = "notice"    // a system said that something may have changed
	StepSeen      Step = "seen"      // a system showed the record, or that it is gone
	StepSaid      Step = "said"      // a person, or the pipeline itself, asked for something
	StepVersion   Step = "version"   // what is true changed
	StepIntent    Step = "intent"    // a sink is about to write
	StepOutcome   Step = "outcome"   // what became of it
	StepWriteback Step = "writeback" // what the system showed after the write
	StepDead      Step = "dead"      // it was set aside for a person
)

// Entry is one thing that happened to an entity, as one message tells it.
type Entry struct {
	At     time.Time `json:"at"` // when the stream had it
	Step   Step      `json:"step"`
	Stream string    `json:"stream"`
	Seq    uint64    `json:"sequence"`
	// System is where it was seen, or is being written.
	System canonical.System     `json:"system,omitempty"`
	Record canonical.ExternalID `json:"record,omitempty"`

	// Of what was seen: how, at which endpoint, when the read began, and what the
	// record says of when it was modified. MessageID of a webhook has its id.
	Via       observation.Via `json:"via,omitempty"`
	Endpoint  string          `json:"endpoint,omitempty"`
	ReadBegan time.Time       `json:"read_began,omitzero"`
	Modified  time.Time       `json:"modified,omitzero"`
	Absent    bool            `json:"absent,omitempty"`
	MessageID string          `json:"message_id,omitempty"`

	// Of a version: which, what it says happened and why, and what changed.
	Version    uint64                `json:"version,omitempty"` // of a write that of the entity that is written
	Op         canonical.Op          `json:"op,omitempty"`
	Changes    []canonical.Change    `json:"changes,omitempty"`
	Cause      *canonical.Cause      `json:"cause,omitempty"`
	MergedInto canonical.CanonicalID `json:"merged_into,omitempty"`

	// Of a write: how far it is, which try, and the values, by field (tags as
	// canonical.TagField has them).
	State   effect.State      `json:"state,omitempty"`
	Attempt int               `json:"attempt,omitempty"`
	Create  bool              `json:"create,omitempty"`
	Delete  bool              `json:"delete,omitempty"`
	Wrote   map[string]string `json:"wrote,omitempty"`

	// Reason of a failure or a dead letter, redacted, or a person's.
	Reason string         `json:"reason,omitempty"`
	Class  envelope.Class `json:"class,omitempty"`
}

// Timeline is what the streams know of an entity, in order of time.
type Timeline struct {
	Ref
	// Records are all that were ever seen of it, by system.
	Records map[canonical.System][]canonical.ExternalID `json:"records"`
	Entries []Entry                                     `json:"entries"`
	// Missing are the versions that are no longer kept.
	Missing []Range `json:"missing,omitempty"`
}

// Range is from one version to another, both included.
type Range struct {
	From uint64 `json:"from"`
	To   uint64 `json:"to"`
}

// Read returns an entity's timeline. It returns [ErrUnknown] if there is no such
// entity.
func Read(ctx context.Context, b Broker, ref Ref) (Timeline, error) {
	all, err := versions(ctx, b, ref)
	if err != nil {
		return Timeline{}, err
	}
	return read(ctx, b, ref, all)
}

// Story returns an entity as it is and its timeline. It returns [ErrUnknown] if
// there is no such entity.
func Story(ctx context.Context, b Broker, ref Ref) (State, Timeline, error) {
	all, err := versions(ctx, b, ref)
	if err != nil {
		return State{}, Timeline{}, err
	}
	t, err := read(ctx, b, ref, all)
	if err != nil {
		return State{}, Timeline{}, err
	}
	s, err := show(ref, all, time.Time{})
	return s, t, err
}

func read(ctx context.Context, b Broker, ref Ref, versions []version) (Timeline, error) {
	t := Timeline{Ref: ref, Records: map[canonical.System][]canonical.ExternalID{}}
	for i, v := range versions {
		t.Entries = append(t.Entries, v.entry())
		if before := previous(versions, i); before+1 < v.event.Version {
			t.Missing = append(t.Missing, Range{before + 1, v.event.Version - 1})
		}
		for system, ids := range records(v.event) {
			for _, id := range ids {
				if !slices.Contains(t.Records[system], id) {
					t.Records[system] = append(t.Records[system], id)
				}
			}
		}
	}
	ids := []string{string(ref.ID)} // what is said of the entity itself
	for _, system := range systems() {
		for _, id := range t.Records[system] {
			ids = append(ids, string(id))
		}
	}
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		entries, err := seen(ctx, b, t, id)
		if err != nil {
			return t, err
		}
		letters, err := letters(ctx, b, ref, id)
		if err != nil {
			return t, err
		}
		t.Entries = slices.Concat(t.Entries, entries, letters)
	}
	writes, err := writes(ctx, b, ref)
	if err != nil {
		return t, err
	}
	t.Entries = append(t.Entries, writes...)
	slices.SortStableFunc(t.Entries, func(a, b Entry) int { return a.At.Compare(b.At) })
	return t, nil
}

// version is one kept version of an entity.
type version struct {
	stored bus.Stored
	op     canonical.Op
	event  canonical.Event
}

func (v version) entry() Entry {
	cause := v.event.Cause
	return Entry{At: v.stored.Time.UTC(), Step: StepVersion, Stream: v.stored.Stream, Seq: v.stored.Seq, System: cause.System, Version: v.event.Version, Op: v.op,
		Changes: v.event.Changes, Cause: &cause, MergedInto: v.event.MergedInto, Reason: cause.Reason}
}

// versions returns those that are kept, the oldest first. It returns
// [ErrUnknown] if there are none.
func versions(ctx context.Context, b Broker, ref Ref) ([]version, error) {
	var out []version
	err := b.Scan(ctx, streams.CANONICAL, streams.Entity(ref.Kind, ref.Tenant, ref.ID), time.Time{}, func(m bus.Stored) error {
		e, err := canonical.DecodeEvent(m.Data)
		if err != nil {
			return fmt.Errorf("decode message %d of %s: %w", m.Seq, m.Stream, err)
		}
		p, err := streams.Parse(m.Subject)
		if err != nil {
			return err
		}
		out = append(out, version{m, p.Op, e})
		return nil
	})
	if err == nil && len(out) == 0 {
		err = fmt.Errorf("%s %s of tenant %s: %w", ref.Kind, ref.ID, ref.Tenant, ErrUnknown)
	}
	return out, err
}

func previous(versions []version, i int) uint64 {
	if i == 0 {
		return 0
	}
	return versions[i-1].event.Version
}

// records returns all records that an event knows of, those that are gone too.
func records(e canonical.Event) map[canonical.System][]canonical.ExternalID {
	out := map[canonical.System][]canonical.ExternalID{}
	for _, system := range systems() {
		if base := e.Sync.Base[system]; base.External != "" {
			out[system] = append(out[system], base.External)
		}
		for id := range e.Sync.Others[system] {
			out[system] = append(out[system], id)
		}
		out[system] = append(out[system], e.Links[system]...)
		slices.Sort(out[system])
		out[system] = slices.Compact(out[system])
	}
	return out
}

// seen returns what RAW has under an id of the entity's.
func seen(ctx context.Context, b Broker, t Timeline, id string) ([]Entry, error) {
	var out []Entry
	err := b.Scan(ctx, streams.RAW, streams.RawWhere("", t.Tenant, t.Kind, canonical.ExternalID(id), ""), time.Time{}, func(m bus.Stored) error {
		o, err := observation.Decode(m.Data)
		if err != nil {
			return nil //nolint:nilerr // a dead letter tells of it
		}
		if id != string(t.ID) && !slices.Contains(t.Records[o.System], o.ExternalID) || o.Entity != "" && o.Entity != t.ID && o.Via != observation.Writeback {
			return nil
		}
		out = append(out, sight(m, o))
		return nil
	})
	return out, err
}

func sight(m bus.Stored, o observation.Observation) Entry {
	e := Entry{At: m.Time.UTC(), Step: StepSeen, Stream: m.Stream, Seq: m.Seq, System: o.System, Record: o.ExternalID, Via: o.Via, Endpoint: o.Endpoint,
		ReadBegan: o.ReadBegan, Modified: o.Modified, Absent: o.Absent, Reason: o.Reason}
	if id := m.Header["Nats-Msg-Id"]; len(id) > 0 {
		e.MessageID = id[0]
	}
	switch {
	case o.Via == observation.Notice:
		e.Step = StepNotice
	case o.Via == observation.Writeback:
		e.Step, e.Wrote = StepWriteback, o.Wrote
	case o.Via == observation.Intent:
		e.Step, e.Record, e.Wrote = StepSaid, o.Target, o.Wrote
	case !o.Via.Shows():
		e.Step, e.Record = StepSaid, ""
	}
	return e
}

func letters(ctx context.Context, b Broker, ref Ref, id string) ([]Entry, error) {
	var out []Entry
	err := b.Scan(ctx, streams.DEAD, streams.DeadWhere("", ref.Tenant, ref.Kind, id), time.Time{}, func(m bus.Stored) error {
		var l envelope.DeadLetter
		if err := json.Unmarshal(m.Data, &l); err != nil {
			return fmt.Errorf("decode message %d of %s: %w", m.Seq, m.Stream, err)
		}
		e := Entry{At: m.Time.UTC(), Step: StepDead, Stream: m.Stream, Seq: m.Seq, Reason: l.Stage + ": " + l.Reason, Class: l.Class}
		if p, err := streams.Parse(l.Subject); err == nil {
			e.System = p.System
		}
		out = append(out, e)
		return nil
	})
	return out, err
}

func writes(ctx context.Context, b Broker, ref Ref) ([]Entry, error) {
	var out []Entry
	err := b.Scan(ctx, streams.EFFECTS, streams.EffectsWhere("", ref.Tenant, ref.Kind, ref.ID), time.Time{}, func(m bus.Stored) error {
		var w effect.Effect
		if err := json.Unmarshal(m.Data, &w); err != nil {
			return fmt.Errorf("decode message %d of %s: %w", m.Seq, m.Stream, err)
		}
		e := Entry{At: m.Time.UTC(), Step: StepOutcome, Stream: m.Stream, Seq: m.Seq, System: w.System, Record: w.External, Version: w.Version,
			State: w.State, Attempt: w.Attempt, Create: w.Create, Delete: w.Delete, Wrote: map[string]string{}, Reason: w.Reason}
		if w.State == effect.Intent {
			e.Step = StepIntent
		}
		for f, v := range w.Wrote {
			e.Wrote[f] = v
		}
		for _, tag := range w.TagsAdded {
			e.Wrote[canonical.TagField(tag)] = "true"
		}
		for _, tag := range w.TagsRemoved {
			e.Wrote[canonical.TagField(tag)] = ""
		}
		out = append(out, e)
		return nil
	})
	return out, err
}
