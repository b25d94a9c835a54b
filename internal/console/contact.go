package console

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/dead"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/effect"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

type contactsPage struct {
	Tenant  canonical.Tenant
	Query   string
	Gone    bool
	People  []person
	Pager   pager
	Total   int
	Reading bool
}

func (c *Console) contacts(w http.ResponseWriter, r *http.Request) error {
	name := canonical.Tenant(r.PathValue("tenant"))
	p := contactsPage{Tenant: name, Query: strings.TrimSpace(r.FormValue("q")), Gone: r.FormValue("gone") != ""}
	offset := pageOf(r) * rows
	c.world.mu.Lock() // listing may sort
	t := c.world.tenants[name]
	if t != nil {
		p.People, p.Total = t.people.page(p.Query, p.Gone, offset, rows)
	}
	p.Reading = !c.world.read
	c.world.mu.Unlock()
	if t == nil {
		return notFound("there is no tenant %s", name)
	}
	if p.Total == 0 && p.Query != "" {
		// Somebody whom the console doesn't know by name, or by another id.
		if id, err := c.known(r.Context(), name, p.Query); err != nil {
			return err
		} else if id != "" {
			http.Redirect(w, r, contactPath(name, id), http.StatusSeeOther)
			return nil
		}
	}
	p.Pager, _, _ = paged(r, p.Total)
	return c.show(w, r, "contacts", "Contacts of "+string(name), []string{"t/" + string(name)}, p)
}

func contactPath(t canonical.Tenant, id canonical.CanonicalID) string {
	return "/t/" + string(t) + "/contacts/" + string(id)
}

// known returns the contact with that canonical id, or that a record with that
// external id belongs to; "" for none.
func (c *Console) known(ctx context.Context, t canonical.Tenant, q string) (canonical.CanonicalID, error) {
	_, err := c.bus.Last(ctx, streams.CANONICAL, streams.Entity(canonical.KindContact, t, canonical.CanonicalID(q)))
	if err == nil {
		return canonical.CanonicalID(q), nil
	}
	if !errors.Is(err, bus.ErrNotFound) {
		return "", err
	}
	kv, err := c.bus.Bucket(ctx, streams.IDENTITY)
	if err != nil {
		return "", err
	}
	for _, system := range []canonical.System{canonical.GHL, canonical.Novi} {
		id, _, err := kv.Get(ctx, streams.LinkKey(t, canonical.KindContact, system, canonical.ExternalID(q)))
		if err == nil {
			return canonical.CanonicalID(id), nil
		}
		if !errors.Is(err, bus.ErrNotFound) {
			return "", err
		}
	}
	return "", nil
}

// side is what one system shows of a contact.
type side struct {
	System canonical.System
	Links  []canonical.ExternalID
	Gone   bool
	Seen   time.Time // when the last read began
	State  state
	Why    string
	Letter string // the dead letter of what could not be written
}

// fieldRow is a field, as it is and as the two systems show it.
type fieldRow struct {
	Field  string
	Value  string
	GHL    shownValue
	Novi   shownValue
	Origin origin
	Held   bool // it flips, and is left alone
}

type shownValue struct {
	Value  string
	Known  bool // the system has shown the field, empty or not
	Differ bool
}

// origin is why a field has its value.
type origin struct {
	System  canonical.System
	At      time.Time
	Seq     uint64
	Version uint64 // of the entity that brought it; 0 if it is no longer kept
	Via     string
}

// happened is one line of a contact's time line.
type happened struct {
	At      time.Time
	What    string // seen, decided, written or refused
	System  canonical.System
	Title   string
	By      string
	Changes []canonical.Change
	Fields  []string // that were written
	Version uint64
	Stream  string
	Seq     uint64
	Problem string
}

type contactPage struct {
	Tenant   canonical.Tenant
	ID       canonical.CanonicalID
	Name     string
	Contact  canonical.Contact
	Version  uint64
	Merged   canonical.CanonicalID
	Sides    []side
	Fields   []fieldRow
	Tags     []tagRow
	Timeline []happened
	Field    string // the one that is asked about, if any
	Folded   []canonical.CanonicalID
}

type tagRow struct {
	Tag    string
	Origin origin
	GHL    bool
	Novi   bool
}

func (c *Console) contact(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	name, id := canonical.Tenant(r.PathValue("tenant")), canonical.CanonicalID(r.PathValue("id"))
	versions, err := c.versions(ctx, name, id)
	if err != nil {
		return err
	}
	if len(versions) == 0 {
		return notFound("tenant %s has no contact %s", name, id)
	}
	last := versions[len(versions)-1].Event
	p := contactPage{Tenant: name, ID: id, Contact: last.Contact, Version: last.Version, Merged: last.MergedInto, Field: r.FormValue("field"),
		Name: cmp.Or(strings.TrimSpace(last.Contact.FirstName+" "+last.Contact.LastName), last.Contact.Email, string(id))}
	for _, f := range last.Sync.Folded {
		p.Folded = append(p.Folded, f.ID)
	}
	if p.Sides, err = c.sides(ctx, name, last, versions[len(versions)-1].seq); err != nil {
		return err
	}
	p.Fields, p.Tags = fieldRows(versions)
	if p.Timeline, err = c.timeline(ctx, name, last, versions); err != nil {
		return err
	}
	if p.Field != "" {
		p.Timeline = about(p.Timeline, p.Field)
	}
	return c.show(w, r, "contact", p.Name, []string{contactTopic(name, id), "dead", "holds"}, p)
}

// version is one state of a contact.
type version struct {
	canonical.Event
	op  canonical.Op
	at  time.Time
	seq uint64
}

// versions returns a contact's states that CANONICAL still has, the oldest
// first.
func (c *Console) versions(ctx context.Context, t canonical.Tenant, id canonical.CanonicalID) ([]version, error) {
	var out []version
	err := c.bus.Scan(ctx, streams.CANONICAL, streams.Entity(canonical.KindContact, t, id), time.Time{}, func(m bus.Stored) error {
		s, err := streams.Parse(m.Subject)
		if err != nil {
			return err
		}
		e, err := canonical.DecodeEvent(m.Data)
		if err != nil {
			return fmt.Errorf("decode message %d of %s: %w", m.Seq, m.Stream, err)
		}
		out = append(out, version{Event: e, op: s.Op, at: m.Time, seq: m.Seq})
		return nil
	})
	return out, err
}

// sides says of each system what it shows, and whether what is to be there is.
func (c *Console) sides(ctx context.Context, t canonical.Tenant, e canonical.Event, seq uint64) ([]side, error) {
	var out []side
	for _, system := range []canonical.System{canonical.GHL, canonical.Novi} {
		base := e.Sync.Base[system]
		s := side{System: system, Links: e.Links[system], Gone: base.Gone}
		if base.At.AsOf > 0 {
			s.Seen = time.UnixMicro(base.At.AsOf)
		}
		passed, err := c.bus.Passed(ctx, streams.Sink(system, t), seq)
		if err != nil {
			return nil, err
		}
		if !passed {
			s.State, s.Why = behind, "the last change waits to be written"
		}
		c.world.mu.RLock()
		for key := range c.world.buckets[streams.HOLDS] {
			if strings.HasPrefix(key, strings.TrimSuffix(streams.HeldOf(t, system, canonical.KindContact, e.ID()), "*")) {
				s.State, s.Why = held, "its delete waits for a person"
			}
		}
		c.world.mu.RUnlock()
		letter, err := dead.Get(ctx, c.bus, streams.Dead("sink-"+string(system), t, canonical.KindContact, string(e.ID())))
		if err == nil && letter.Dropped.IsZero() {
			s.State, s.Why, s.Letter = failing, letter.Reason, letter.Key
		} else if err != nil && !errors.Is(err, bus.ErrNotFound) {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// fieldRows puts what is true beside what each system shows.
func fieldRows(versions []version) ([]fieldRow, []tagRow) {
	e := versions[len(versions)-1].Event
	names := map[string]bool{}
	for _, f := range canonical.ContactFields() {
		names[f] = e.Contact.Field(f) != ""
	}
	for f := range e.Contact.Custom {
		names[canonical.CustomPrefix+f] = true
	}
	for _, b := range e.Sync.Base {
		for f, v := range b.Fields {
			names[f] = names[f] || v != ""
		}
	}
	shown := func(system canonical.System, f, value string) shownValue {
		b, ok := e.Sync.Base[system]
		v, known := b.Fields[f]
		if !ok || !known || b.Gone {
			return shownValue{}
		}
		if r, ok := e.Sync.Rendered[system][f]; ok && r.Shown == v && r.Value == value {
			return shownValue{Value: v, Known: true}
		}
		return shownValue{Value: v, Known: true, Differ: v != value}
	}
	var out []fieldRow
	for _, f := range slices.SortedFunc(maps.Keys(names), byField) {
		if !names[f] {
			continue
		}
		value := e.Contact.Field(f)
		out = append(out, fieldRow{Field: f, Value: value, GHL: shown(canonical.GHL, f, value), Novi: shown(canonical.Novi, f, value), Origin: originOf(e.Sync.Stamps[f], versions), Held: e.Sync.Held(f)})
	}
	var tags []tagRow
	for _, tag := range e.Contact.Tags {
		tags = append(tags, tagRow{tag, originOf(e.Sync.Tags[tag].Stamp, versions), slices.Contains(e.Sync.Base[canonical.GHL].Tags, tag), slices.Contains(e.Sync.Base[canonical.Novi].Tags, tag)})
	}
	return out, tags
}

// order is how people read a contact; the other fields follow by name.
var order = []string{"first_name", "last_name", "email", "phone", "company", "job_title", "website", "date_of_birth", "address.line1", "address.line2", "address.city", "address.state", "address.postal_code", "address.country"}

func byField(a, b string) int {
	at := func(f string) int {
		if i := slices.Index(order, f); i >= 0 {
			return i
		}
		return len(order)
	}
	return cmp.Or(cmp.Compare(at(a), at(b)), strings.Compare(a, b))
}

// originOf finds the version that a field's stamp came with.
func originOf(s canonical.Stamp, versions []version) origin {
	if s == (canonical.Stamp{}) {
		return origin{}
	}
	o := origin{System: s.Origin, At: time.UnixMicro(s.At), Seq: s.Seq}
	for _, v := range versions {
		if v.Cause.Sequence == s.Seq {
			o.Version, o.Via = v.Version, v.Cause.Via
		}
	}
	return o
}

// most is how many lines of each kind a time line has.
const most = 200

// timeline is what was seen, decided and written, the newest first.
func (c *Console) timeline(ctx context.Context, t canonical.Tenant, e canonical.Event, versions []version) ([]happened, error) {
	var out []happened
	for _, v := range versions {
		h := happened{At: v.at, What: "decided", System: v.Cause.System, Version: v.Version, Stream: streams.CANONICAL, Seq: v.seq, Changes: v.Changes, Title: decided(v), By: by(v)}
		out = append(out, h)
	}
	for _, system := range []canonical.System{canonical.GHL, canonical.Novi} {
		written, err := c.written(ctx, t, e.ID(), system)
		if err != nil {
			return nil, err
		}
		out = append(out, written...)
		for _, external := range e.Links[system] {
			seen, err := c.sights(ctx, observation.Observation{System: system, Tenant: t, Kind: canonical.KindContact, ExternalID: external})
			if err != nil {
				return nil, err
			}
			out = append(out, seen...)
		}
	}
	slices.SortStableFunc(out, func(a, b happened) int { return b.At.Compare(a.At) })
	return out, nil
}

func decided(v version) string {
	switch v.op {
	case canonical.OpCreated:
		return "became known"
	case canonical.OpDeleted:
		return "deleted"
	case canonical.OpMerged:
		return "merged into another contact"
	case canonical.OpObserved:
		return "looked at: nothing public changed"
	}
	return count(len(v.Changes), "field") + " changed"
}

// by says who made a version's changes.
func by(v version) string {
	var who []string
	for _, x := range v.Changes {
		if n := userOf(x.Origin); !slices.Contains(who, n) {
			who = append(who, n)
		}
	}
	return strings.Join(who, " and ")
}

// userOf says whose change something of a system is.
func userOf(s canonical.System) string {
	switch s {
	case canonical.GHL, canonical.Novi:
		return "somebody in " + systemName(s)
	case canonical.Rule:
		return "an automation"
	case canonical.Person:
		return "a person by hand"
	}
	return ""
}

// written is what EFFECTS has of a contact at a system: of each write its end,
// or that it has begun.
func (c *Console) written(ctx context.Context, t canonical.Tenant, id canonical.CanonicalID, system canonical.System) ([]happened, error) {
	var out []happened
	err := c.bus.Scan(ctx, streams.EFFECTS, streams.Effect(system, t, canonical.KindContact, id), time.Time{}, func(m bus.Stored) error {
		var x effect.Effect
		if err := json.Unmarshal(m.Data, &x); err != nil {
			return fmt.Errorf("decode message %d of %s: %w", m.Seq, m.Stream, err)
		}
		h := happened{At: m.Time, What: "written", System: system, Version: x.Version, Stream: streams.EFFECTS, Seq: m.Seq, Fields: slices.SortedFunc(maps.Keys(x.Wrote), byField), Problem: x.Reason}
		for _, tag := range x.TagsAdded {
			h.Fields = append(h.Fields, "tag +"+tag)
		}
		for _, tag := range x.TagsRemoved {
			h.Fields = append(h.Fields, "tag −"+tag)
		}
		what := "update"
		switch {
		case x.Create:
			what = "create"
		case x.Delete:
			what = "delete"
		}
		switch x.State {
		case effect.Intent:
			h.Title = what + " begun"
		case effect.Done:
			h.Title = what + " done"
			if n := len(out); n > 0 && strings.HasSuffix(out[n-1].Title, " begun") {
				if len(h.Fields) == 0 {
					h.Fields = out[n-1].Fields
				}
				out = out[:n-1] // its end says it all
			}
		case effect.Failed:
			h.What, h.Title = "refused", what+" failed"
		case effect.Ambiguous:
			h.What, h.Title = "refused", what+" without an answer: it is looked up"
		}
		out = append(out, h)
		return nil
	})
	return out[max(0, len(out)-most):], err
}

// sights is what RAW has of a record.
func (c *Console) sights(ctx context.Context, o observation.Observation) ([]happened, error) {
	var out []happened
	err := c.bus.Scan(ctx, streams.RAW, streams.RawOf(o), time.Time{}, func(m bus.Stored) error {
		s, err := streams.Parse(m.Subject)
		if err != nil {
			return err
		}
		title, ok := viaTitles[s.Via]
		if !ok {
			return nil // what the stages tell one another
		}
		var x struct {
			Absent   bool      `json:"absent"`
			Modified time.Time `json:"modified"`
		}
		if json.Unmarshal(m.Data, &x) == nil && x.Absent {
			title += ": it is not there"
		}
		out = append(out, happened{At: m.Time, What: "seen", System: o.System, Title: title, Stream: streams.RAW, Seq: m.Seq})
		return nil
	})
	return out[max(0, len(out)-most):], err
}

var viaTitles = map[observation.Via]string{
	observation.Notice: "a webhook came", observation.Fetch: "the record was fetched", observation.Poll: "found by a poll", observation.Backfill: "read for the first time",
	observation.Reconcile: "found by a reconcile", observation.Writeback: "read back after our write", observation.FromRule: "an automation asked",
}

// about keeps what concerns a field: the versions that changed it, and the
// writes that carried it.
func about(all []happened, field string) []happened {
	var out []happened
	for _, h := range all {
		h.Changes = slices.DeleteFunc(slices.Clone(h.Changes), func(x canonical.Change) bool { return x.Field != field })
		if len(h.Changes) > 0 || slices.Contains(h.Fields, field) {
			out = append(out, h)
		}
	}
	return out
}
