package console

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/dead"
	"github.com/causeway-sync/causeway/internal/history"
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
	now, all, err := history.Story(ctx, c.bus, history.Ref{Tenant: name, Kind: canonical.KindContact, ID: id})
	if errors.Is(err, history.ErrUnknown) {
		return notFound("tenant %s has no contact %s", name, id)
	}
	if err != nil {
		return err
	}
	last := now.Event
	p := contactPage{Tenant: name, ID: id, Contact: last.Contact, Version: last.Version, Merged: last.MergedInto, Field: r.FormValue("field"),
		Name: cmp.Or(strings.TrimSpace(last.Contact.FirstName+" "+last.Contact.LastName), last.Contact.Email, string(id))}
	for _, f := range last.Sync.Folded {
		p.Folded = append(p.Folded, f.ID)
	}
	if p.Sides, err = c.sides(ctx, name, last, now.Seq); err != nil {
		return err
	}
	p.Fields, p.Tags = fieldRows(now, all)
	p.Timeline = timeline(all)
	if p.Field != "" {
		p.Timeline = about(p.Timeline, p.Field)
	}
	return c.show(w, r, "contact", p.Name, []string{contactTopic(name, id), "dead", "holds"}, p)
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
func fieldRows(now history.State, all history.Timeline) (fields []fieldRow, tags []tagRow) {
	for _, f := range now.Fields {
		o := originOf(f, all)
		if tag, is := strings.CutPrefix(f.Name, canonical.TagField("")); is {
			if f.Value != "" {
				tags = append(tags, tagRow{tag, o, f.Shown[canonical.GHL] != "", f.Shown[canonical.Novi] != ""})
			}
			continue
		}
		shown := func(system canonical.System) shownValue {
			v, known := f.Shown[system]
			r, rendered := now.Event.Sync.Rendered[system][f.Name]
			same := v == f.Value || rendered && r.Shown == v && r.Value == f.Value
			return shownValue{Value: v, Known: known, Differ: known && !same}
		}
		fields = append(fields, fieldRow{Field: f.Name, Value: f.Value, GHL: shown(canonical.GHL), Novi: shown(canonical.Novi), Origin: o, Held: f.Held})
	}
	slices.SortFunc(fields, func(a, b fieldRow) int { return byField(a.Field, b.Field) })
	return fields, tags
}

// order is how people read a contact, or what hangs on it; the other fields
// follow by name.
var order = []string{"title", "body", "notes", "start", "end", "due", "completed", "first_name", "last_name", "email", "phone", "company", "job_title", "website", "date_of_birth", "address.line1", "address.line2", "address.city", "address.state", "address.postal_code", "address.country"}

func byField(a, b string) int {
	at := func(f string) int {
		if i := slices.Index(order, f); i >= 0 {
			return i
		}
		return len(order)
	}
	return cmp.Or(cmp.Compare(at(a), at(b)), strings.Compare(a, b))
}

// originOf finds the version that a field's value came with.
func originOf(f history.Field, all history.Timeline) origin {
	o := origin{System: f.Origin, At: f.At, Seq: f.Seq}
	for _, e := range all.Entries {
		if e.Step == history.StepVersion && f.Seq > 0 && e.Cause.Sequence == f.Seq {
			o.Version, o.Via = e.Version, e.Cause.Via
		}
	}
	return o
}

// most is how many lines of what a system showed a time line has.
const most = 200

// timeline is what was seen, decided and written, the newest first.
func timeline(all history.Timeline) []happened {
	var out []happened
	seen := map[canonical.System]int{}
	last, ended := map[canonical.System]int{}, map[canonical.System]bool{} // by system, the write that came before this in out
	for _, e := range slices.Backward(all.Entries) {
		h := happened{At: e.At, System: e.System, Version: e.Version, Stream: e.Stream, Seq: e.Seq, Problem: e.Reason}
		switch e.Step {
		case history.StepVersion:
			h.What, h.Title, h.By, h.Changes, h.Problem = "decided", decided(e), by(e), e.Changes, ""
		case history.StepIntent, history.StepOutcome:
			if e.State == effect.Intent && ended[e.System] {
				ended[e.System] = false // its end says it all
				if end := last[e.System]; len(out[end].Fields) == 0 {
					out[end].Fields = wrote(e)
				}
				continue
			}
			last[e.System], ended[e.System] = len(out), e.State == effect.Done
			h.What, h.Title = ending(e)
			h.Fields = wrote(e)
		default:
			title, ok := viaTitles[e.Via]
			if !ok || seen[e.System] == most {
				continue // what the stages tell one another, and dead letters, which have their own place
			}
			seen[e.System]++
			if e.Absent {
				title += ": it is not there"
			}
			h.What, h.Title, h.Version, h.Problem = "seen", title, 0, ""
		}
		out = append(out, h)
	}
	return out
}

func decided(e history.Entry) string {
	switch e.Op {
	case canonical.OpCreated:
		return "became known"
	case canonical.OpDeleted:
		return "deleted"
	case canonical.OpMerged:
		return "merged into another contact"
	case canonical.OpObserved:
		return "looked at: nothing public changed"
	}
	return count(len(e.Changes), "field") + " changed"
}

// by says who made a version's changes.
func by(e history.Entry) string {
	var who []string
	for _, x := range e.Changes {
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

// ending says how far a write is.
func ending(e history.Entry) (what, title string) {
	did := "update"
	switch {
	case e.Create:
		did = "create"
	case e.Delete:
		did = "delete"
	}
	switch e.State {
	case effect.Intent:
		return "written", did + " begun"
	case effect.Done:
		return "written", did + " done"
	case effect.Failed:
		return "refused", did + " failed"
	}
	return "refused", did + " without an answer: it is looked up"
}

// wrote names the fields of a write, tags last.
func wrote(e history.Entry) []string {
	var fields, tags []string
	for _, f := range slices.SortedFunc(maps.Keys(e.Wrote), byField) {
		tag, is := strings.CutPrefix(f, canonical.TagField(""))
		switch {
		case !is:
			fields = append(fields, f)
		case e.Wrote[f] != "":
			tags = append(tags, "tag +"+tag)
		default:
			tags = append(tags, "tag −"+tag)
		}
	}
	return append(fields, tags...)
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
