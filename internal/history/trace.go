package history

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/effect"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

// Path is what followed from one message, in order of time.
type Path struct {
	Ref
	Entries []Entry `json:"entries"`
	// End says in a sentence how far it has come.
	End string `json:"end"`
}

// Notices returns the notices whose message id is, or ends with, webhook: the
// id that the system gave its delivery. They are looked for among those that
// were stored at since or later, as there is no index of them.
func Notices(ctx context.Context, b Broker, webhook string, since time.Time) ([]Entry, error) {
	var out []Entry
	err := b.Scan(ctx, streams.RAW, streams.RawWhere("", "", "", "", observation.Notice), since, func(m bus.Stored) error {
		id := m.Header["Nats-Msg-Id"]
		if len(id) == 0 || id[0] != webhook && !strings.HasSuffix(id[0], "-"+webhook) {
			return nil
		}
		o, err := observation.Decode(m.Data)
		if err == nil {
			out = append(out, sight(m, o))
		}
		return err
	})
	return out, err
}

// Message returns a message of RAW as an Entry, and the entity that it is
// about; [ErrUnknown] says that RAW doesn't hold it. The entity's id is empty if
// the record belongs to none.
func Message(ctx context.Context, b Broker, seq uint64) (Entry, Ref, error) {
	m, err := b.Message(ctx, streams.RAW, seq)
	if errors.Is(err, bus.ErrNotFound) {
		return Entry{}, Ref{}, fmt.Errorf("message %d of RAW: %w", seq, ErrUnknown)
	}
	if err != nil {
		return Entry{}, Ref{}, err
	}
	o, err := observation.Decode(m.Data)
	if err != nil {
		return Entry{}, Ref{}, err
	}
	ref := Ref{Tenant: o.Tenant, Kind: o.Kind, ID: o.Entity}
	if o.Via.Shows() || o.Via == observation.Notice {
		claims, err := b.Bucket(ctx, streams.IDENTITY)
		if err != nil {
			return Entry{}, Ref{}, err
		}
		id, _, err := claims.Get(ctx, streams.LinkKey(o.Tenant, o.Kind, o.System, o.ExternalID))
		if err != nil && !errors.Is(err, bus.ErrNotFound) {
			return Entry{}, Ref{}, fmt.Errorf("look up a link: %w", err)
		}
		ref.ID = canonical.CanonicalID(id)
	}
	if ref.ID != "" {
		if _, now, err := current(ctx, b, ref); err == nil {
			ref = now
		} else if !errors.Is(err, ErrUnknown) {
			return Entry{}, Ref{}, err
		}
	}
	return sight(m, o), ref, nil
}

// Trace returns what followed from a message of RAW: from a notice the fetch,
// the version, and at each system the intent, the outcome and the writeback.
func Trace(ctx context.Context, b Broker, seq uint64) (Path, error) {
	first, ref, err := Message(ctx, b, seq)
	if err != nil {
		return Path{}, err
	}
	t, err := Read(ctx, b, ref)
	if errors.Is(err, ErrUnknown) {
		p := Path{Ref: ref, Entries: []Entry{first}, End: "its record belongs to no entity"}
		letters, err := letters(ctx, b, ref, string(first.Record))
		if len(letters) > 0 {
			p.Entries, p.End = append(p.Entries, letters...), "it was set aside for a person"
		}
		return p, err
	}
	if err != nil {
		return Path{}, err
	}
	return t.follow(first), nil
}

// follow returns what followed from first.
func (t Timeline) follow(first Entry) Path {
	p := Path{Ref: t.Ref, Entries: []Entry{first}}
	sight := first
	if first.Step == StepNotice {
		next := t.fetchAfter(first)
		if next == nil {
			p.End = "nothing has been fetched for it yet"
			return p
		}
		sight = *next
		p.Entries = append(p.Entries, sight)
	}
	i := slices.IndexFunc(t.Entries, func(e Entry) bool { return e.Step == StepVersion && e.Cause.Sequence == sight.Seq })
	if i < 0 {
		p.End = "what was seen changed nothing"
		if letter := slices.IndexFunc(t.Entries, func(e Entry) bool { return e.Step == StepDead && !e.At.Before(sight.At) }); letter >= 0 {
			p.Entries, p.End = append(p.Entries, t.Entries[letter]), "it was set aside for a person"
		}
		return p
	}
	version := t.Entries[i]
	p.Entries = append(p.Entries, version)
	var ends []string
	for _, system := range systems() {
		entries, end := t.write(system, version)
		p.Entries = append(p.Entries, entries...)
		if end != "" {
			ends = append(ends, end)
		}
	}
	slices.SortStableFunc(p.Entries[1:], func(a, b Entry) int { return a.At.Compare(b.At) })
	if p.End = strings.Join(ends, "; "); p.End == "" {
		p.End = "nothing was to be written"
	}
	return p
}

// fetchAfter returns the first read that began when the notice was there; one
// that had begun may not show what it is about.
func (t Timeline) fetchAfter(notice Entry) *Entry {
	for i, e := range t.Entries {
		if (e.Step == StepSeen || e.Step == StepWriteback) && e.System == notice.System && e.Record == notice.Record && e.Seq > notice.Seq && !e.ReadBegan.Before(notice.At) {
			return &t.Entries[i]
		}
	}
	return nil
}

// write returns the first write to a system of an entity's version, or of a
// later one that it went with, up to its writebacks and what came of them.
func (t Timeline) write(system canonical.System, version Entry) (out []Entry, end string) {
	open, done := false, false
	var answers []uint64
	for _, e := range t.Entries {
		of := e.System == system && (e.Step == StepIntent || e.Step == StepOutcome) && e.Version >= version.Version
		switch {
		case of && done && e.Step == StepIntent:
			return out, end // the next one
		case of:
			out = append(out, e)
			open, done = true, e.State == effect.Done
			switch e.State {
			case effect.Done:
				end = fmt.Sprintf("%s has it", system)
			case effect.Intent:
				end = fmt.Sprintf("a write to %s is under way", system)
			case effect.Ambiguous:
				end = fmt.Sprintf("nobody knows whether %s has it; it will be looked up", system)
			default:
				end = fmt.Sprintf("a write to %s failed: %s", system, e.Reason)
			}
		case open && e.Step == StepWriteback && e.System == system:
			out = append(out, e)
			answers = append(answers, e.Seq)
		case e.Step == StepVersion && slices.Contains(answers, e.Cause.Sequence):
			out = append(out, e)
		case e.Step == StepDead && open && !done && strings.HasPrefix(e.Reason, "sink-"+string(system)):
			out, end = append(out, e), "it was set aside for a person"
		}
	}
	return out, end
}
