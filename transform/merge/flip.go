package merge

import (
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
)

// The last line against loops. An echo changes nothing, so what goes to and
// fro all the same is somebody else's: a third tool that fights with us. When
// a field has come back flips times in quiet to a value that it had left in
// that time, its next return is refused and the field held as it is: what
// people or tools make of it is kept as a conflict and the sink doesn't write
// it, until nobody has touched it for quiet. Times are those of the reads, so
// that a replay decides the same.
const (
	flips  = 3
	quiet  = 10 * time.Minute
	recall = 8 // values that a field is remembered to have left
)

// Release returns state without the holds on its fields, for a person who has
// seen to the fight. What the systems show then counts again, and the sink
// writes what differs. Version, Changes and Cause are the caller's to set.
func Release(state canonical.Event) canonical.Event {
	state.Sync.Flips = nil
	return state
}

// held reports whether f stays as it is although somebody made it value. An
// opt-out is never refused, so a fight about one ends with it.
func (m *merger) held(f, value string, authority mapping.Authority) bool {
	if off.flips || authority == mapping.OptOut && value == "true" {
		return false
	}
	flip := m.next.Sync.Flips[f]
	if flip.Held == 0 {
		if !m.back(flip, value) || m.returns(flip) < flips {
			return false
		}
		m.fights(f)
	}
	m.setFlip(f, canonical.Flip{Held: max(flip.Held, m.seen.At.AsOf)})
	return true
}

// returns counts how often f has lately come back to a value.
func (m *merger) returns(flip canonical.Flip) int {
	n := 0
	for _, l := range flip.Left {
		if l.Back && m.recent(l.At) {
			n++
		}
	}
	return n
}

// fights notes for the outcome that f is held from now on.
func (m *merger) fights(f string) {
	if strings.HasPrefix(f, canonical.TagField("")) {
		f = tagsField // a tag's name is a value
	}
	if !slices.Contains(m.fighting, f) {
		m.fighting = append(m.fighting, f)
	}
}

// left notes that f was made value and left what it had: its own former value
// if value won, and value itself if that was put back.
func (m *merger) left(f, had, value string) {
	flip := m.next.Sync.Flips[f]
	if flip.Held != 0 {
		return
	}
	back := m.back(flip, value)
	flip.Left = slices.DeleteFunc(slices.Clone(flip.Left), func(l canonical.Left) bool { return !m.recent(l.At) })
	flip.Left = append(flip.Left, canonical.Left{Value: print(had), At: m.seen.At.AsOf, Back: back})
	flip.Left = flip.Left[max(0, len(flip.Left)-recall):]
	m.setFlip(f, flip)
	// What has become quiet is forgotten, so that the state stays small.
	maps.DeleteFunc(m.next.Sync.Flips, func(_ string, x canonical.Flip) bool {
		return x.Held == 0 && !slices.ContainsFunc(x.Left, func(l canonical.Left) bool { return m.recent(l.At) })
	})
}

// back reports whether f has left value lately.
func (m *merger) back(flip canonical.Flip, value string) bool {
	return slices.ContainsFunc(flip.Left, func(l canonical.Left) bool { return l.Value == print(value) && m.recent(l.At) })
}

func (m *merger) recent(at int64) bool { return m.seen.At.AsOf-at < quiet.Microseconds() }

// thaw ends the holds of the fields that nobody has touched for long enough.
func (m *merger) thaw() {
	for f, flip := range m.old.Sync.Flips {
		if flip.Held != 0 && !m.recent(flip.Held) {
			m.next.Sync.Flips = cloneMap(m.next.Sync.Flips)
			delete(m.next.Sync.Flips, f)
			m.dirty = true
		}
	}
}

func (m *merger) setFlip(f string, flip canonical.Flip) {
	m.next.Sync.Flips = cloneMap(m.next.Sync.Flips)
	m.next.Sync.Flips[f] = flip
	m.dirty = true
}

// print tells values apart without keeping long texts.
func print(value string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(value)) // never fails
	return h.Sum64()
}
