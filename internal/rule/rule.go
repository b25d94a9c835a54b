// Package rule is a tenant's automations: what is to be done when something
// turns true of a record. It decides and does nothing: the transform publishes
// what a firing asks for as observations by system rule, and the sink does what
// is to be done outside. It is pure, and given the same event it says the same.
//
// A condition is asked twice of an event: of the step that the event is, and of
// standing still before it, where before and after are what was and nothing
// changes. It has turned true if the first holds and the second doesn't.
package rule

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/cel"

	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
)

// Do says what an action is.
type Do string

// The actions.
const (
	Task      Do = "task"
	Note      Do = "note"
	AddTag    Do = "add_tag"
	RemoveTag Do = "remove_tag"
	Workflow  Do = "workflow"
	Campaign  Do = "campaign"
	Webhook   Do = "webhook"
)

// Outside reports whether it is a call that leaves nothing to see in a record,
// and so the sink's to do.
func (d Do) Outside() bool { return d == Workflow || d == Campaign || d == Webhook }

// Set is a tenant's rules, in their order.
type Set []*Rule

// Rule is one of them.
type Rule struct {
	Definition
	when    cel.Program // nil: always
	actions []action
}

type action struct {
	n       int // its place, from 1
	do      Do
	fields  map[string]Text // of a task or a note
	dueIn   time.Duration
	tag     Text
	id      string
	webhook WebhookSpec
	lens    *mapping.Lens
}

// Action is one thing that a firing asks for.
type Action struct {
	N      int               `json:"n"` // its place in the rule, from 1
	Do     Do                `json:"do"`
	Fields map[string]string `json:"fields,omitempty"` // of a task or a note
	Tag    string            `json:"tag,omitempty"`
	ID     string            `json:"id,omitempty"` // of a workflow or a campaign
	// Webhook is whom to call.
	Webhook WebhookSpec `json:"-"`
}

// Firing is a rule that fired.
type Firing struct {
	canonical.Firing
	// Contact is whom it is about.
	Contact canonical.CanonicalID `json:"contact"`
	At      time.Time             `json:"at"`
	Actions []Action              `json:"actions"`
	// Stopped says why it is not carried out: then a person has to look. It holds
	// no personal data.
	Stopped string `json:"stopped,omitempty"`
}

// Does says what the firing asks for, in a few words, with the texts as they
// came out: personal data.
func (f Firing) Does() string {
	var out []string
	for _, a := range f.Actions {
		s := strings.ReplaceAll(string(a.Do), "_", " ")
		if more := cmp.Or(a.Tag, a.ID, a.Fields["title"], a.Fields["body"]); more != "" {
			s += fmt.Sprintf(" %q", more)
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}

// Get returns the rule of a name.
func (s Set) Get(name string) (*Rule, bool) {
	i := slices.IndexFunc(s, func(r *Rule) bool { return r.Name == name })
	if i < 0 {
		return nil, false
	}
	return s[i], true
}

// Outside returns what the sink is to do when r fires.
func (r *Rule) Outside() []Action {
	var out []Action
	for _, a := range r.actions {
		if a.do.Outside() {
			out = append(out, Action{N: a.n, Do: a.do, ID: a.id, Webhook: a.webhook})
		}
	}
	return out
}

// Outside reports whether any rule has something done outside.
func (s Set) Outside() bool {
	return slices.ContainsFunc(s, func(r *Rule) bool { return len(r.Outside()) > 0 })
}

// longest is how many rules may lead to one another.
const longest = 4

// Fire returns which rules an event makes fire. seq and at are its place in
// CANONICAL and when it was stored there.
func (s Set) Fire(e canonical.Event, seq uint64, at time.Time) []Firing {
	if len(s) == 0 || e.MergedInto != "" || e.Sync.Joined || e.Cause.Replay || person(e.Cause) {
		return nil
	}
	kind := e.Kind()
	now := step{before: before(e), after: e}
	for _, c := range e.Changes {
		if c.From != c.To { // the others are conflicts that changed nothing
			now.changes = append(now.changes, c)
		}
	}
	there := e.Version > 1
	if kind != canonical.KindContact {
		// An item that nobody knows the contact of isn't there yet: there is
		// nobody to do anything for.
		if e.ContactID() == "" {
			return nil
		}
		there = there && now.before.ContactID() != ""
	}
	still := step{before: now.before, after: now.before}
	var out []Firing
	for _, r := range s {
		if r.Kind != kind || r.Date != nil || e.Cause.Via == string(observation.Backfill) && !r.OnBackfill {
			continue
		}
		if !holds(r.when, now) || there && holds(r.when, still) {
			continue
		}
		key := r.Name + "-" + string(e.ID()) + "-" + strconv.FormatUint(e.Version, 10)
		out = append(out, r.fire(now, key, "", seq, at))
	}
	return out
}

// person reports whether an event is what a person has decided about entities,
// and nothing that happened to the record.
func person(c canonical.Cause) bool {
	return c.Via == string(observation.Unmerge) || c.Via == string(observation.Keep)
}

// late is for how many days a date is made up for that was missed.
const late = 7

// Due returns which rules fire on a day because of a date that the record has.
// Only the date of today counts, not its time.
func (s Set) Due(e canonical.Event, seq uint64, today time.Time) []Firing {
	if e.Deleted() || e.MergedInto != "" || e.Kind() != canonical.KindContact && e.ContactID() == "" {
		return nil
	}
	y, m, d := today.Date()
	today = time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
	var out []Firing
	for _, r := range s {
		if r.Date == nil || r.Kind != e.Kind() {
			continue
		}
		text, _, _ := strings.Cut(e.Field(r.Date.Field), "T")
		date, err := time.Parse(time.DateOnly, text)
		if err != nil {
			continue // none, or none that can be read
		}
		day := date.AddDate(0, 0, r.Date.DaysAfter-r.Date.DaysBefore)
		still := step{before: e, after: e}
		if today.Before(day) || !today.Before(day.AddDate(0, 0, late)) || !holds(r.when, still) {
			continue
		}
		f := r.fire(still, r.Name+"-"+string(e.ID())+"-"+text, text, seq, day)
		out = append(out, f)
	}
	return out
}

// Dated reports whether any rule waits for a date.
func (s Set) Dated() bool { return slices.ContainsFunc(s, func(r *Rule) bool { return r.Date != nil }) }

func (r *Rule) fire(now step, key, date string, seq uint64, at time.Time) Firing {
	e := now.after
	f := Firing{Contact: cmp.Or(e.ContactID(), e.ID()), At: at, Actions: []Action{},
		Firing: canonical.Firing{Rule: r.Name, Key: key, Kind: e.Kind(), Entity: e.ID(), Version: e.Version, Sequence: seq, Seen: e.Cause.Sequence, Date: date}}
	if led := e.Cause.Firing; led != nil && date == "" {
		f.Chain = led.Chain
	}
	switch {
	case slices.Contains(f.Chain, r.Name):
		f.Stopped = fmt.Sprintf("rule %s would feed itself, by %s", r.Name, strings.Join(append(slices.Clone(f.Chain), r.Name), ", "))
	case len(f.Chain) >= longest:
		f.Stopped = fmt.Sprintf("rule %s follows from %d others, and so many may be a loop: %s", r.Name, len(f.Chain), strings.Join(f.Chain, ", "))
	}
	f.Chain = append(slices.Clone(f.Chain), r.Name)
	for _, a := range r.actions {
		if e.Kind() == canonical.KindContact && e.Deleted() && a.do != Webhook {
			continue // there is nobody any more to do it for
		}
		done, err := a.of(now, at)
		if err != nil && f.Stopped == "" {
			f.Stopped = fmt.Sprintf("rule %s: do[%d]: %s", r.Name, a.n-1, err)
		}
		f.Actions = append(f.Actions, done)
		f.Outside = f.Outside || a.do.Outside()
	}
	return f
}

// of returns what an action comes to.
func (a action) of(s step, at time.Time) (Action, error) {
	out := Action{N: a.n, Do: a.do, ID: a.id, Webhook: a.webhook}
	var err error
	if out.Tag, err = a.tag.of(s); err != nil {
		return out, err
	}
	out.Tag = mapping.NormalizeTag(out.Tag)
	for name, text := range a.fields {
		v, err := text.of(s)
		if err != nil {
			return out, err
		}
		if name == "due" {
			if a.dueIn > 0 {
				v = at.Add(a.dueIn).UTC().Format(time.RFC3339)
			}
			if v, err = instant(v); err != nil {
				return out, err
			}
		}
		if v == "" {
			continue
		}
		if out.Fields == nil {
			out.Fields = map[string]string{}
		}
		out.Fields[name] = v
	}
	if a.do == AddTag || a.do == RemoveTag {
		if out.Tag == "" {
			return out, fmt.Errorf("%s: the tag is empty", a.do)
		}
		if owned(a.lens, out.Tag) != nil { // which names the tag
			return out, fmt.Errorf("%s: the tag is one that the mapping makes, or a Novi group's", a.do)
		}
	}
	return out, nil
}

// instant is a time as a task's due has it; "" is none.
func instant(s string) (string, error) {
	for _, form := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(form, s); err == nil {
			return t.UTC().Truncate(time.Second).Format(time.RFC3339), nil
		}
	}
	if s != "" {
		return "", errors.New("task.due: is neither a date nor an RFC 3339 time")
	}
	return "", nil
}

// Observations returns what is to be published on RAW so that f is carried out:
// one for each task and note, and one of the contact if its tags are to change
// or something is to be done outside. The same firing always gives the same.
func (f Firing) Observations(tenant canonical.Tenant) []observation.Observation {
	if f.Stopped != "" {
		return nil
	}
	about := observation.Observation{System: canonical.Rule, Tenant: tenant, Kind: canonical.KindContact, ExternalID: canonical.ExternalID(f.Key),
		Via: observation.FromRule, ReadBegan: f.At, Entity: f.Contact, Firing: &f.Firing}
	var out []observation.Observation
	tags := map[string]string{}
	for _, a := range f.Actions {
		switch a.Do {
		case Task, Note:
			o := about
			o.Kind, o.ExternalID = canonical.Kind(a.Do), canonical.ExternalID(f.Key+"-"+strconv.Itoa(a.N))
			o.Entity, o.Contact, o.Wrote = "", f.Contact, a.Fields
			out = append(out, o)
		case AddTag:
			tags[canonical.TagField(a.Tag)] = "true"
		case RemoveTag:
			tags[canonical.TagField(a.Tag)] = ""
		}
	}
	if len(tags) > 0 || f.Outside {
		about.Wrote = tags
		out = append(out, about)
	}
	return out
}

// before is the record as it was before the event, which its changes say.
func before(e canonical.Event) canonical.Event {
	b := e
	for _, c := range slices.Backward(e.Changes) {
		switch c.Field {
		case "tags":
			tags := slices.DeleteFunc(slices.Clone(b.Contact.Tags), func(t string) bool { return t == c.To })
			if c.From != "" && !slices.Contains(tags, c.From) {
				tags = append(tags, c.From)
			}
			slices.Sort(tags)
			b.Contact.Tags = tags
		case "deleted":
			b.SetDeleted(c.From == "true")
		case "contact_id":
			b.SetContactID(canonical.CanonicalID(c.From))
		default:
			b.SetField(c.Field, c.From)
		}
	}
	if e.Version == 1 {
		b = canonical.NewEvent(e.Kind(), "")
	}
	return b
}
