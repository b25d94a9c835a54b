package rule

import (
	_ "embed" // for SpecSource
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"cel.dev/cel-go/cel"

	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
)

// Definition is a rule as it is written.
type Definition struct {
	// Name is a slug: a-z, 0-9 and '-', up to 40. It is part of the key of every
	// firing, so a rule of another name is another rule.
	Name string `yaml:"name"`
	// Kind of the records that it looks at: contact, task, note or appointment.
	// Default contact.
	Kind canonical.Kind `yaml:"kind"`
	// When is a CEL condition over before and after (the record), changes (what
	// differs: field, from, to, origin, at) and changed (the fields' names). It
	// fires when it turns true. With date it may be left out.
	When string `yaml:"when"`
	// Date makes it fire so many days before or after a date that the record has,
	// if when holds then.
	Date *DateSpec `yaml:"date"`
	// OnBackfill lets it fire for what a backfill shows, too. Default false.
	OnBackfill bool `yaml:"on_backfill"`
	// Do is what is done, all of it.
	Do []ActionSpec `yaml:"do"`
}

// DateSpec is a day, by a date that the record has.
type DateSpec struct {
	// Field of the record that holds the date: membership.expires, due, custom.…
	Field string `yaml:"field"`
	// DaysBefore and DaysAfter shift the day; one of them at most.
	DaysBefore int `yaml:"days_before"`
	DaysAfter  int `yaml:"days_after"`
}

// String says which day it is, for people; "" for none.
func (d *DateSpec) String() string {
	switch {
	case d == nil:
		return ""
	case d.DaysBefore > 0:
		return fmt.Sprintf("%d days before %s", d.DaysBefore, d.Field)
	case d.DaysAfter > 0:
		return fmt.Sprintf("%d days after %s", d.DaysAfter, d.Field)
	}
	return "on " + d.Field
}

// Does says what the rule does, in a few words each.
func (d Definition) Does() []string {
	var out []string
	for _, a := range d.Do {
		switch {
		case a.Task != nil:
			out = append(out, "task")
		case a.Note != nil:
			out = append(out, "note")
		case a.AddTag != "":
			out = append(out, "add tag "+a.AddTag)
		case a.RemoveTag != "":
			out = append(out, "remove tag "+a.RemoveTag)
		case a.Workflow != "":
			out = append(out, "workflow "+a.Workflow)
		case a.Campaign != "":
			out = append(out, "campaign "+a.Campaign)
		case a.Webhook != nil:
			out = append(out, "webhook")
		}
	}
	return out
}

// ActionSpec is one thing to do; exactly one key is set. In texts, {…} holds a
// CEL expression over before and after that gives a text, and {{ is a brace.
type ActionSpec struct {
	// Task is made for the contact, and travels to both systems.
	Task *TaskSpec `yaml:"task"`
	// Note is made for the contact, and travels to both systems.
	Note *NoteSpec `yaml:"note"`
	// AddTag and RemoveTag change the contact's tags.
	AddTag    string `yaml:"add_tag"`
	RemoveTag string `yaml:"remove_tag"`
	// Workflow is the id of a GHL workflow that is started for the contact.
	Workflow string `yaml:"workflow"`
	// Campaign is the id of a GHL campaign that the contact is put into.
	Campaign string `yaml:"campaign"`
	// Webhook is called, signed as Standard Webhooks says.
	Webhook *WebhookSpec `yaml:"webhook"`
}

// TaskSpec is a task to make.
type TaskSpec struct {
	Title string `yaml:"title"`
	Body  string `yaml:"body"`
	// Due is a date or an RFC 3339 time; DueIn counts from when the rule fires.
	Due   string        `yaml:"due"`
	DueIn time.Duration `yaml:"due_in"`
	// Assignee is a name of mapping.users.
	Assignee string `yaml:"assignee"`
}

// NoteSpec is a note to make.
type NoteSpec struct {
	Title string `yaml:"title"`
	Body  string `yaml:"body"`
}

// WebhookSpec is a receiver.
type WebhookSpec struct {
	// URL is called with POST.
	URL string `yaml:"url"`
	// Secret signs, as whsec_ and base64; a reference, env:NAME or file:PATH.
	Secret string `yaml:"secret"`
}

// SpecSource is this file, from whose comments the schema of a rule takes its
// descriptions.
//
//go:embed spec.go
var SpecSource string

// Kinds are the kinds of records that a rule may look at.
func Kinds() []canonical.Kind {
	return append([]canonical.Kind{canonical.KindContact}, canonical.Items()...)
}

// Compile makes the rules of a tenant. An error begins with the key that it is
// about, from the rules on: "[0].when: …". lens says which tags and users there
// are to speak of.
func Compile(specs []Definition, lens *mapping.Lens) (Set, error) {
	var set Set
	seen := map[string]bool{}
	for i, s := range specs {
		if seen[s.Name] {
			return nil, fmt.Errorf("[%d].name: %q is taken", i, s.Name)
		}
		seen[s.Name] = true
		r, err := compile(s, lens)
		if err != nil {
			return nil, fmt.Errorf("[%d].%w", i, err)
		}
		set = append(set, r)
	}
	return set, nil
}

func compile(s Definition, lens *mapping.Lens) (*Rule, error) {
	if s.Kind == "" {
		s.Kind = canonical.KindContact
	}
	r := &Rule{Definition: s}
	switch {
	case !canonical.ValidTenant(canonical.Tenant(s.Name)):
		return nil, fmt.Errorf("name: %q is not a slug of a-z, 0-9 and '-'", s.Name)
	case !slices.Contains(Kinds(), s.Kind):
		return nil, fmt.Errorf("kind: %q is none of %v", s.Kind, Kinds())
	case s.When == "" && s.Date == nil:
		return nil, errors.New("when: is missing")
	case len(s.Do) == 0:
		return nil, errors.New("do: there is nothing to do")
	}
	env, err := envOf(s.Kind)
	if err != nil {
		return nil, err
	}
	if s.When != "" {
		if r.when, err = mapping.Compile(env, s.When, cel.BoolType); err != nil {
			return nil, fmt.Errorf("when: %w", err)
		}
	}
	if err := s.Date.check(s.Kind); err != nil {
		return nil, fmt.Errorf("date.%w", err)
	}
	for i, d := range s.Do {
		a, err := newAction(env, d, lens)
		if err != nil {
			return nil, fmt.Errorf("do[%d].%w", i, err)
		}
		a.n = i + 1
		r.actions = append(r.actions, a)
	}
	return r, nil
}

func (d *DateSpec) check(kind canonical.Kind) error {
	if d == nil {
		return nil
	}
	custom := kind == canonical.KindContact && strings.HasPrefix(d.Field, canonical.CustomPrefix)
	switch {
	case !custom && !slices.Contains(canonical.Fields(kind), d.Field):
		return fmt.Errorf("field: %q is no field of a %s", d.Field, kind)
	case d.DaysBefore < 0, d.DaysAfter < 0, d.DaysBefore > 0 && d.DaysAfter > 0:
		return errors.New("days_before: a number of days before or after, not both, and not negative")
	}
	return nil
}

func newAction(env *cel.Env, s ActionSpec, lens *mapping.Lens) (a action, err error) {
	a.lens = lens
	text := func(key, s string) Text {
		t, wrong := newText(env, s)
		if wrong != nil && err == nil {
			err = fmt.Errorf("%s: %w", key, wrong)
		}
		return t
	}
	set := 0
	is := func(do Do, there bool) bool {
		if there {
			a.do = do
			set++
		}
		return there
	}
	if is(Task, s.Task != nil) {
		a.fields = map[string]Text{"title": text("task.title", s.Task.Title), "body": text("task.body", s.Task.Body), "due": text("task.due", s.Task.Due), "assignee": text("task.assignee", s.Task.Assignee)}
		a.dueIn = s.Task.DueIn
		switch {
		case s.Task.Title == "":
			return a, errors.New("task.title: is missing")
		case s.Task.DueIn < 0:
			return a, errors.New("task.due_in: is negative")
		case s.Task.Due != "" && s.Task.DueIn > 0:
			return a, errors.New("task.due_in: excludes due")
		case s.Task.Assignee != "" && a.fields["assignee"].plain() && !known(lens, s.Task.Assignee):
			return a, fmt.Errorf("task.assignee: %q is not in mapping.users", s.Task.Assignee)
		}
	}
	if is(Note, s.Note != nil) {
		a.fields = map[string]Text{"title": text("note.title", s.Note.Title), "body": text("note.body", s.Note.Body)}
		if s.Note.Body == "" {
			return a, errors.New("note.body: is missing")
		}
	}
	if is(AddTag, s.AddTag != "") {
		a.tag = text("add_tag", s.AddTag)
	}
	if is(RemoveTag, s.RemoveTag != "") {
		a.tag = text("remove_tag", s.RemoveTag)
	}
	if a.tag.plain() && err == nil {
		if err = owned(lens, mapping.NormalizeTag(s.AddTag+s.RemoveTag)); err != nil {
			err = fmt.Errorf("%s: %w", a.do, err)
		}
	}
	if is(Workflow, s.Workflow != "") {
		a.id = s.Workflow
	}
	if is(Campaign, s.Campaign != "") {
		a.id = s.Campaign
	}
	if is(Webhook, s.Webhook != nil) {
		a.webhook = *s.Webhook
	}
	if err == nil && set != 1 {
		return a, errors.New("task, note, add_tag, remove_tag, workflow, campaign, webhook: exactly one of them is needed")
	}
	return a, err
}

// known reports whether somebody is in the tenant's table of users.
func known(lens *mapping.Lens, name string) bool {
	return lens.Users != nil && slices.ContainsFunc(lens.Users.Rows, func(r mapping.Row) bool { return r.Name == name })
}

// owned says of a tag that it isn't a rule's to change.
func owned(lens *mapping.Lens, tag string) error {
	switch {
	case lens.Derives(tag):
		return fmt.Errorf("%q is a tag that mapping.contact.tags.derive makes", tag)
	case lens.FromGroup(tag):
		return fmt.Errorf("%q is the tag of a Novi group", tag)
	}
	return nil
}
