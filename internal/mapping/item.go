package mapping

import (
	"fmt"
	"strings"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
)

// ActivityTypes are the Novi activity types that tasks, notes and appointments
// are kept as (dossier Novi §12.2, §12.3 and §12.5).
var ActivityTypes = map[canonical.Kind]string{
	canonical.KindTask: "Task", canonical.KindNote: "Note", canonical.KindAppointment: "Meeting",
}

// BindingsOf returns the bindings of a kind, sorted by field.
func (l *Lens) BindingsOf(kind canonical.Kind) []Binding {
	if kind == canonical.KindContact {
		return l.Bindings
	}
	return l.Items[kind]
}

// ActivityType returns the Novi activity type that kind is kept as.
func (l *Lens) ActivityType(kind canonical.Kind) string {
	if l.Activities != nil {
		return l.Activities[kind]
	}
	return ActivityTypes[kind]
}

// BindingOf returns the binding of a kind's field.
func (l *Lens) BindingOf(kind canonical.Kind, field string) (Binding, bool) {
	if kind == canonical.KindContact {
		return l.Binding(field)
	}
	for _, b := range l.BindingsOf(kind) {
		if b.Field == field {
			return b, true
		}
	}
	return Binding{}, false
}

// AuthorityOf returns whose value wins for a kind's field.
func (l *Lens) AuthorityOf(kind canonical.Kind, field string) Authority {
	if b, ok := l.BindingOf(kind, field); ok && b.Authority != "" {
		return b.Authority
	}
	return Newest
}

// Same reports whether two values of a kind's field are the same to a reader:
// of text that may be HTML what it says counts, and not its markup.
func (l *Lens) Same(kind canonical.Kind, field, a, b string) bool {
	if a == b {
		return true
	}
	binding, ok := l.BindingOf(kind, field)
	return ok && binding.Convert == Rich && Reads(a) == Reads(b)
}

// Reads returns what a text that may be HTML says, without its markup.
func Reads(s string) string {
	if strings.Contains(s, "<") && strings.Contains(s, ">") {
		s = HTMLToText(s)
	}
	return plainText(s)
}

// Says returns what an item of a kind says to a reader, for comparing only: two
// that hang on the same contact and say the same may be one.
func Says(kind canonical.Kind, field func(string) string) string {
	if kind == canonical.KindNote {
		return Reads(field("body"))
	}
	return field("title") + "\x00" + Reads(field("body")) + "\x00" + field("due") + field("start")
}

// ProjectEvent returns what system ought to show of the record of e. Fields
// that are written on create only are part of it if create is set.
func (l *Lens) ProjectEvent(e canonical.Event, system canonical.System, create bool) Projection {
	kind := e.Kind()
	if kind == canonical.KindContact {
		return l.Project(e.Contact, system, create)
	}
	p := Projection{Fields: map[string]string{}}
	for _, b := range l.BindingsOf(kind) {
		w := b.Side(system).Write
		if w != Always && (!create || w != OnCreate) {
			continue
		}
		value := e.Field(b.Field)
		if b.Convert == User {
			if _, known := l.userAt(system, value); !known && value != "" {
				continue // somebody whom the system doesn't know stays unnamed
			}
		}
		if l.noTitle(b, system, kind, value) {
			value = "" // spelled so, it would be read as none
		}
		p.Fields[b.Field] = value
	}
	return p
}

// userAt returns what system calls the user of our name, if it knows them.
func (l *Lens) userAt(system canonical.System, name string) (theirs string, known bool) {
	if l.Users == nil {
		return "", false
	}
	theirs, known = l.Users.at(system).theirs[name]
	return theirs, known
}

// userOf returns our name of the user whom system calls theirs, if it is in
// the table.
func (l *Lens) userOf(system canonical.System, theirs string) (name string, known bool) {
	if l.Users == nil {
		return "", false
	}
	name, known = l.Users.at(system).ours[theirs]
	return name, known
}

// noSubject is what Novi's required Subject holds for an item without a title:
// the name of its type, which Novi's pages fill in too (dossier Novi §5.2).
func (l *Lens) noSubject(kind canonical.Kind) string { return l.ActivityType(kind) }

// noTitle reports whether value is what b's side shows for an item that has no
// title.
func (l *Lens) noTitle(b Binding, system canonical.System, kind canonical.Kind, value string) bool {
	return system == canonical.Novi && b.Novi.Path == "Subject" && value == l.noSubject(kind)
}

func (l *Lens) showItem(o observation.Observation, record map[string]json.RawMessage) (Shown, error) {
	s := Shown{Fields: map[string]string{}, Parent: o.Parent}
	if s.Parent == "" {
		for _, key := range []string{"contactId", "MemberUniqueId", "MemberUniqueID"} {
			if v := text(record[key]); v != "" {
				s.Parent = canonical.ExternalID(v)
			}
		}
	}
	bindings := l.BindingsOf(o.Kind)
	if bindings == nil {
		return Shown{}, fmt.Errorf("read %s record: no mapping for kind %q", o.Endpoint, o.Kind)
	}
	in := opened{record: record}
	for _, b := range bindings {
		path := b.Side(o.System).Path
		if path == "" {
			continue
		}
		top, _, _ := strings.Cut(path, ".")
		if _, there := record[top]; o.System == canonical.Novi && !there {
			continue // hidden from this key: it says nothing
		}
		raw := in.dig(path)
		if b.Convert == User {
			theirs := text(raw)
			name, known := l.userOf(o.System, theirs)
			if known || theirs == "" { // of somebody else it doesn't say who it is to us
				s.Fields[b.Field] = name
			}
			continue
		}
		value, err := l.read(b, o.System, raw)
		if err != nil {
			return Shown{}, err
		}
		if l.noTitle(b, o.System, o.Kind, value) {
			value = ""
		}
		s.Fields[b.Field] = value
	}
	return s, nil
}

// instant is a time in UTC to the second. A time without a zone is one of zone:
// one that a change of clocks leaves out is an hour off, and of one that it
// brings twice nobody knows which is meant. What is no time stays as it is.
func instant(s string, zone *time.Location) string {
	s = strings.TrimSpace(s)
	for _, form := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05", time.DateOnly} {
		if t, err := time.ParseInLocation(form, s, zone); err == nil {
			return t.UTC().Truncate(time.Second).Format(time.RFC3339)
		}
	}
	return s
}

// wall spells a canonical time as Novi's own are spelled, in the site's zone and
// with its offset (dossier Novi §3.3): what drops the offset shows the right time
// still.
func wall(s string, zone *time.Location) string {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return s
	}
	return t.In(zone).Format(time.RFC3339)
}

// GHLItemBody returns the body of a GHL create or update of a task or a note
// that sets the given fields. A value that has no spelling here (an expression
// fails on it, or a table gives it another meaning) is an error that names the
// field.
func (l *Lens) GHLItemBody(kind canonical.Kind, fields map[string]string) (map[string]any, error) {
	body := map[string]any{}
	for _, b := range l.BindingsOf(kind) {
		value, ok := fields[b.Field]
		if !ok || b.GHL.Path == "" || b.GHL.Write == Never {
			continue
		}
		switch {
		case b.Convert == Bool:
			body[b.GHL.Path] = value == "true"
		case b.Convert == User:
			body[b.GHL.Path] = nil
			if theirs, known := l.userAt(canonical.GHL, value); known {
				body[b.GHL.Path] = theirs
			}
		case b.Convert == Instant && value == "":
			// GHL wants a due date; that there is none is not written.
		default:
			spelled, err := l.spell(b, canonical.GHL, value)
			if err != nil {
				return nil, err
			}
			body[b.GHL.Path] = spelled
		}
	}
	return body, nil
}

// NoviItemOverlay returns raw, a whole activity as it was just read (or the
// beginning of a new one), with the given fields set. Every other key is kept
// verbatim: a PUT replaces the whole activity (dossier Novi §3.4). A value that
// has no spelling here is an error that names the field.
func (l *Lens) NoviItemOverlay(kind canonical.Kind, raw json.RawMessage, fields map[string]string) (json.RawMessage, error) {
	var record map[string]json.RawMessage
	if err := json.Unmarshal(raw, &record); err != nil || record == nil {
		return nil, fmt.Errorf("overlay novi activity: not a JSON object")
	}
	for _, b := range l.BindingsOf(kind) {
		value, ok := fields[b.Field]
		if !ok || b.Novi.Path == "" || b.Novi.Write == Never {
			continue
		}
		switch {
		case b.Convert == Bool:
			record[b.Novi.Path] = json.RawMessage("false")
			if value == "true" {
				record[b.Novi.Path] = json.RawMessage("true")
			} else if b.Field == "completed" {
				record["TaskCompletedDate"] = json.RawMessage("null")
			}
		case b.Convert == User:
			theirs, _ := l.userAt(canonical.Novi, value)
			record[b.Novi.Path] = jsonText(theirs)
		case b.Novi.Path == "Subject" && value == "":
			record[b.Novi.Path] = jsonText(l.noSubject(kind))
		default:
			spelled, err := l.spell(b, canonical.Novi, value)
			if err != nil {
				return nil, fmt.Errorf("overlay novi activity: %w", err)
			}
			record[b.Novi.Path] = jsonText(spelled)
		}
	}
	return json.Marshal(record)
}
