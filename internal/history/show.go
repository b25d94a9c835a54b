package history

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/causeway-sync/causeway/schemas/canonical"
)

// State is an entity as it was at a time.
type State struct {
	Ref
	Event   canonical.Event `json:"event"` // Changes are those of this version
	Op      canonical.Op    `json:"op"`
	Decided time.Time       `json:"decided"` // when it became so
	Seq     uint64          `json:"sequence"`
	Newest  uint64          `json:"newest"` // the entity's newest version
	// Until is when the next version that is kept took its place; zero if none
	// has. Between lies what Missing says: versions that are no longer kept, one
	// of which may have been the state at the time that was asked for.
	Until   time.Time `json:"until,omitzero"`
	Missing *Range    `json:"missing,omitempty"`
	Fields  []Field   `json:"fields"`
}

// Field is a field's value, where it is from, and what each system shows.
type Field struct {
	Name   string           `json:"name"` // a tag as canonical.TagField has it
	Value  string           `json:"value"`
	Origin canonical.System `json:"origin,omitempty"` // whose user gave it
	At     time.Time        `json:"at,omitzero"`      // when, in that system's time
	Seq    uint64           `json:"raw,omitempty"`    // the message of RAW that showed it
	// Shown is what each system is known to show; a system that isn't in it has
	// never shown the field.
	Shown map[canonical.System]string `json:"shown,omitempty"`
	// Held says that it flips between values and is held.
	Held bool `json:"held,omitempty"`
}

// ErrBeyond is returned, wrapped, for a time before the oldest version that is
// kept, or before there was the entity.
var ErrBeyond = errors.New("no version of that time is kept")

// Show returns an entity as it was at a time, or as it is if the time is zero.
// The time is that of the stream: what Causeway held for true then.
func Show(ctx context.Context, b Broker, ref Ref, at time.Time) (State, error) {
	all, err := versions(ctx, b, ref)
	if err != nil {
		return State{}, err
	}
	return show(ref, all, at)
}

func show(ref Ref, all []version, at time.Time) (State, error) {
	i := len(all) - 1
	for !at.IsZero() && i >= 0 && all[i].stored.Time.After(at) {
		i--
	}
	if i < 0 {
		oldest := all[0]
		if oldest.event.Version == 1 {
			return State{}, fmt.Errorf("%s %s is known since %s: %w", ref.Kind, ref.ID, oldest.stored.Time.UTC().Format(time.RFC3339), ErrBeyond)
		}
		return State{}, fmt.Errorf("the oldest version of %s %s that is kept is %d, of %s: %w", ref.Kind, ref.ID, oldest.event.Version, oldest.stored.Time.UTC().Format(time.RFC3339), ErrBeyond)
	}
	v := all[i]
	s := State{Ref: ref, Event: v.event, Op: v.op, Decided: v.stored.Time.UTC(), Seq: v.stored.Seq, Newest: all[len(all)-1].event.Version, Fields: fields(v.event)}
	if i+1 < len(all) {
		next := all[i+1]
		s.Until = next.stored.Time.UTC()
		if next.event.Version > v.event.Version+1 {
			s.Missing = &Range{v.event.Version + 1, next.event.Version - 1}
		}
	}
	return s, nil
}

// fields returns all that have a value, or have it at a system.
func fields(e canonical.Event) []Field {
	names := map[string]bool{}
	for f := range e.Sync.Stamps {
		names[f] = true
	}
	for _, base := range e.Sync.Base {
		for f := range base.Fields {
			names[f] = true
		}
	}
	if e.Kind() == canonical.KindContact {
		for _, f := range canonical.ContactFields() {
			names[f] = true
		}
		for f := range e.Contact.Custom {
			names[canonical.CustomPrefix+f] = true
		}
	}
	var out []Field
	for _, name := range slices.Sorted(maps.Keys(names)) {
		f := Field{Name: name, Value: e.Field(name), Held: e.Sync.Held(name)}
		if s, ok := e.Sync.Stamps[name]; ok {
			f.Origin, f.At, f.Seq = s.Origin, time.UnixMicro(s.At).UTC(), s.Seq
		}
		empty := f.Value == ""
		for system, base := range e.Sync.Base {
			if shown, ok := base.Fields[name]; ok && !base.Gone {
				f.show(system, shown)
				empty = empty && shown == ""
			}
		}
		if !empty {
			out = append(out, f)
		}
	}
	for _, tag := range slices.Sorted(maps.Keys(tagsOf(e))) {
		f := Field{Name: canonical.TagField(tag), Held: e.Sync.Held(canonical.TagField(tag))}
		if slices.Contains(e.Contact.Tags, tag) {
			f.Value = "true"
		}
		if s, ok := e.Sync.Tags[tag]; ok {
			f.Origin, f.At, f.Seq = s.Origin, time.UnixMicro(s.At).UTC(), s.Seq
		}
		for system, base := range e.Sync.Base {
			if base.Gone || !base.Tagged {
				continue
			}
			if slices.Contains(base.Tags, tag) {
				f.show(system, "true")
			} else {
				f.show(system, "")
			}
		}
		out = append(out, f)
	}
	return out
}

// tagsOf returns the tags that the contact has, or a system shows.
func tagsOf(e canonical.Event) map[string]bool {
	out := map[string]bool{}
	for _, tag := range e.Contact.Tags {
		out[tag] = true
	}
	for _, base := range e.Sync.Base {
		for _, tag := range base.Tags {
			out[tag] = !base.Gone || out[tag]
		}
	}
	maps.DeleteFunc(out, func(_ string, there bool) bool { return !there })
	return out
}

func (f *Field) show(system canonical.System, value string) {
	if f.Shown == nil {
		f.Shown = map[canonical.System]string{}
	}
	f.Shown[system] = value
}

// Blame is where a field has its value from.
type Blame struct {
	Ref
	Field
	// Of the version that gave the value: which it is, when it was decided, and
	// what the value was before. They are zero if it is no longer kept.
	Version uint64    `json:"version,omitempty"`
	Decided time.Time `json:"decided,omitzero"`
	From    string    `json:"from,omitempty"`
	// Why says it in a sentence.
	Why      string              `json:"why"`
	Conflict *canonical.Conflict `json:"conflict,omitempty"`
	// Answer is the message of RAW that showed the value, and Notice the webhook,
	// or the poll, that led to its being read. They are nil if RAW has them no
	// more, or has none.
	Answer *Entry `json:"answer,omitempty"`
	Notice *Entry `json:"notice,omitempty"`
	// Earlier are the changes before, the newest first, as far as they are kept.
	Earlier []Changed `json:"earlier,omitempty"`
}

// Changed is one change of a field.
type Changed struct {
	Version uint64    `json:"version"`
	Decided time.Time `json:"decided"`
	canonical.Change
}

// ErrNoField is returned, wrapped, for a field that the entity has never had.
var ErrNoField = errors.New("it never had a value")

// BlameField says where a field of an entity has its value from. The field is
// named as in events: "phone", "address.city", "custom.shirt_size"; a tag is
// "tag:board".
func BlameField(ctx context.Context, b Broker, ref Ref, field string) (Blame, error) {
	state, t, err := Story(ctx, b, ref)
	if err != nil {
		return Blame{}, err
	}
	return blame(t, state, field)
}

func blame(t Timeline, state State, field string) (Blame, error) {
	out := Blame{Ref: t.Ref, Field: Field{Name: field}}
	i := slices.IndexFunc(state.Fields, func(f Field) bool { return f.Name == field })
	if i >= 0 {
		out.Field = state.Fields[i]
	}
	for _, e := range slices.Backward(t.Entries) {
		for _, c := range e.Changes {
			if !about(c, field) {
				continue
			}
			out.Earlier = append(out.Earlier, Changed{e.Version, e.At, c})
		}
	}
	// The first that gave another value is what it is about.
	if at := slices.IndexFunc(out.Earlier, func(c Changed) bool { return c.From != c.To }); at >= 0 {
		c := out.Earlier[at]
		out.Earlier = slices.Delete(out.Earlier, at, at+1)
		out.Version, out.Decided, out.From, out.Conflict, out.Origin, out.Field.At = c.Version, c.Decided, c.From, c.Conflict, c.Origin, c.At
		if e := t.version(c.Version); e != nil && e.Cause != nil {
			out.Seq = e.Cause.Sequence
			out.Why = why(*e, c)
		}
	}
	if out.Version == 0 && i < 0 {
		return Blame{}, fmt.Errorf("field %s of %s %s: %w", field, t.Kind, t.ID, ErrNoField)
	}
	if out.Why == "" {
		out.Why = "the version that gave it is no longer kept"
		if out.Seq == 0 {
			out.Why = "nobody gave it a value that counts"
		}
	}
	for k := range t.Entries {
		if e := &t.Entries[k]; e.Stream == "RAW" && e.Seq == out.Seq {
			out.Answer, out.Notice = e, t.noticeBefore(e)
		}
	}
	return out, nil
}

func about(c canonical.Change, field string) bool {
	if tag, ok := strings.CutPrefix(field, canonical.TagField("")); ok {
		return c.Field == "tags" && (c.From == tag || c.To == tag)
	}
	return c.Field == field
}

func why(v Entry, c Changed) string {
	switch {
	case v.Reason != "":
		return "a person decided so: " + v.Reason
	case c.Conflict != nil && c.Conflict.Lost != "":
		return fmt.Sprintf("two values competed, and that of %s lost: %s", c.Conflict.Origin, reasons[c.Conflict.Reason])
	case v.Op == canonical.OpCreated:
		return fmt.Sprintf("%s showed it when the record was first seen", c.Origin)
	case v.Op == canonical.OpMerged || v.Cause.Via == "unmerge":
		return "two records turned out to be of one person"
	case c.To == "":
		return fmt.Sprintf("somebody took it out in %s", c.Origin)
	}
	return fmt.Sprintf("somebody changed it in %s", c.Origin)
}

var reasons = map[string]string{
	canonical.ReasonNewer: "this one is newer", canonical.ReasonAuthority: "the mapping gives this side the say, or it is an opt-out",
	canonical.ReasonSkew: "they are too close in time for the clocks to tell", canonical.ReasonLongest: "this one is longer",
	canonical.ReasonUnion: "both are kept", canonical.ReasonFlip: "the field changed to and fro and is held",
	canonical.ReasonMerged: "its record was merged into another at its system",
}

func (t *Timeline) version(n uint64) *Entry {
	for i := range t.Entries {
		if t.Entries[i].Step == StepVersion && t.Entries[i].Version == n {
			return &t.Entries[i]
		}
	}
	return nil
}

// noticeBefore returns the last notice that had come when the read of e began,
// if e was read because of one.
func (t *Timeline) noticeBefore(e *Entry) *Entry {
	var last *Entry
	for i := range t.Entries {
		n := &t.Entries[i]
		if n.Step == StepNotice && n.System == e.System && n.Record == e.Record && n.Seq < e.Seq && e.Via == "fetch" && !n.At.After(e.ReadBegan) {
			last = n
		}
	}
	return last
}
