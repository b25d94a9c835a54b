package merge

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
)

// compete decides between value, which a user of the seen system gave, and
// current, which that user had not seen: base is what that user changed, or
// "" if this is the first sight.
func (m *merger) compete(f, value, current, base string, authority mapping.Authority) {
	if authority == mapping.Union {
		switch joined := m.join(f, value, current, base); joined {
		case current:
			m.lose(f, value, current, canonical.ReasonUnion)
		default:
			m.win(f, joined, current, canonical.ReasonUnion)
		}
		return
	}
	won, reason := m.wins(f, value, current, authority)
	if won {
		m.win(f, value, current, reason)
	} else {
		m.lose(f, value, current, reason)
	}
}

// wins reports whether value stays, and by which reason one of the two does.
// The answer is the same when the two come in the other order.
//
// Where the clocks can't tell (see [Policy.Skew]) and the field's authority
// doesn't either, Novi's value stays: then nothing has to be written to Novi,
// whose PUT replaces the whole record and may overwrite somebody's edit, while
// GHL is written field by field.
func (m *merger) wins(f, value, current string, authority mapping.Authority) (bool, string) {
	have := m.next.Sync.Stamps[f]
	mine := canonical.Stamp{At: m.changedAt(), Seq: m.seen.At.Seq}
	switch {
	case authority == mapping.OptOut, authority == mapping.ByGHL, authority == mapping.ByNovi:
		return true, canonical.ReasonAuthority // allowed has said yes
	case have.Origin == m.seen.System || have.Origin == "":
		return mine.Newer(have), canonical.ReasonNewer // one clock
	case authority == mapping.Longest:
		if by := cmp.Compare(utf8.RuneCountInString(value), utf8.RuneCountInString(current)); by != 0 {
			return by > 0, canonical.ReasonLongest
		}
	}
	if apart := mine.At - have.At; max(apart, -apart) <= m.policy.Skew.Microseconds() {
		return m.seen.System == canonical.Novi || m.seen.System == canonical.GHL && have.Origin != canonical.Novi, canonical.ReasonSkew
	}
	return mine.Newer(have), canonical.ReasonNewer
}

// join returns current with what value added to base, and without what it took
// out of base: the elements of both lists, each once, sorted, so that the
// order in which the two are seen doesn't matter.
func (m *merger) join(f, value, current, base string) string {
	b, _ := m.policy.Lens.Binding(f)
	separator := cmp.Or(b.Separator, "; ")
	was, is := elements(base, separator), elements(value, separator)
	all := slices.DeleteFunc(elements(current, separator), func(e string) bool { return slices.Contains(was, e) && !slices.Contains(is, e) })
	for _, e := range is {
		if !slices.Contains(was, e) {
			all = append(all, e)
		}
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), separator)
}

func elements(list, separator string) []string {
	var all []string
	// A person may leave out the space after a semicolon.
	for e := range strings.SplitSeq(list, cmp.Or(strings.TrimSpace(separator), separator)) {
		if e = strings.TrimSpace(e); e != "" {
			all = append(all, e)
		}
	}
	return all
}
