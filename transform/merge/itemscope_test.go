package merge_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/transform/merge"
)

// itemScope walks through everything that can happen to two edits on either
// side of a task.
type itemScope struct {
	t     *testing.T
	edits []itemEdit
	runs  int
	// inOrder has the sights of a side arrive in order, and the sink work in
	// between only when half of the edits have been made and have arrived.
	inOrder bool
}

type itemEdit struct {
	side canonical.System
	what string // title, completed or delete
}

type itemStep struct {
	*world
	made  int
	sunk  bool
	title []given
	path  string
}

// TestItemScope plays every history of a task that both systems have: two
// edits on either side, interleaved in every way, the second possibly a
// delete; the sight of each arrives at any time after, in every order; the
// sink works at any one time in between or only in the end.
func TestItemScope(t *testing.T) {
	s := &itemScope{t: t}
	sides := [][]string{{"title", "completed"}, {"title", "delete"}, {"completed", "delete"}}
	s.play(sides, sides)
	if s.runs < 40_000 {
		t.Errorf("only %d runs", s.runs)
	}
}

// TestItemScopeOfThree plays three edits on either side, interleaved in every
// way. All orders in which the sights can arrive
// would be hundreds of millions of runs: here those of one side arrive in order.
func TestItemScopeOfThree(t *testing.T) {
	s := &itemScope{t: t, inOrder: true}
	three := [][]string{{"title", "completed", "title"}}
	s.play(three, three)
	if s.runs < 25_000 {
		t.Errorf("only %d runs", s.runs)
	}
}

// play walks through all histories in which ghl's people make one of its lists
// of edits, and novi's one of theirs.
func (s *itemScope) play(ghl, novi [][]string) {
	t := s.t
	start := newItems(t, merge.Policy{Lens: lens}, canonical.KindTask, []string{"title", "completed"}, canonical.GHL)
	start.side[canonical.GHL].fields["title"] = "the first"
	start.linked = map[canonical.System]bool{canonical.GHL: true, canonical.Novi: true}
	if !start.settle() || !start.side[canonical.Novi].there() {
		t.Fatal("the task is not in both systems")
	}
	start.edits, start.writes = 0, 0
	for _, a := range ghl {
		for _, b := range novi {
			for order := range 1 << (len(a) + len(b)) { // which side's turn it is
				s.edits = nil
				turn := map[canonical.System]int{}
				for bit := range len(a) + len(b) {
					side := systems[order>>bit&1]
					what := map[canonical.System][]string{canonical.GHL: a, canonical.Novi: b}[side]
					if n := turn[side]; n < len(what) {
						s.edits = append(s.edits, itemEdit{side, what[n]})
					}
					turn[side]++
				}
				if len(s.edits) == len(a)+len(b) {
					s.walk(itemStep{world: start, title: []given{{value: "the first", shown: [2]bool{true, true}}}})
				}
			}
		}
	}
	t.Logf("%d runs", s.runs)
}

func (w itemStep) fork(path string) itemStep {
	w.world = w.world.fork()
	w.path += path
	return w
}

// walk takes every way on from w.
func (s *itemScope) walk(w itemStep) {
	if s.t.Failed() {
		return
	}
	if w.made == len(s.edits) && len(w.flight) == 0 {
		s.runs++
		s.finish(w.fork(""))
		return
	}
	if w.made < len(s.edits) {
		next := w.fork("")
		if !next.edit(s.edits[w.made]) {
			return // it can't be made: a shorter history
		}
		s.walk(next)
	}
	for i, seen := range w.flight {
		if s.inOrder && slices.ContainsFunc(w.flight[:i], func(o merge.Seen) bool { return o.System == seen.System }) {
			continue
		}
		next := w.fork(fmt.Sprint(" deliver ", i))
		next.deliver(i, false)
		s.walk(next)
	}
	if w.sunk || w.made == 0 || s.inOrder && (len(w.flight) > 0 || w.made != len(s.edits)/2) {
		return
	}
	next := w.fork(" sink")
	next.sunk = true
	wrote := false
	for i, system := range systems {
		if next.write(system) {
			wrote = true
			next.title = slices.Clone(next.title)
			for k, g := range next.title {
				next.title[k].shown[i] = g.value == next.side[system].fields["title"]
			}
		}
	}
	if wrote {
		s.walk(next)
	}
}

// edit makes the next edit, sends its sight on the way, and reports whether it
// could be made.
func (w *itemStep) edit(e itemEdit) bool {
	w.now += 1000
	w.made++
	if !w.side[e.side].there() {
		return false // the sink has deleted it
	}
	i := slices.Index(systems, e.side)
	switch e.what {
	case "delete":
		w.remove(e.side)
	case "completed":
		is := w.side[e.side].fields["completed"]
		// As in the other scope: nobody goes back to what the sink has just
		// written, or to what was there before, until its writeback has come.
		if _, writing := w.state.Sync.Writing[e.side].Fields["completed"]; writing {
			return false
		}
		w.set(e.side, "completed", map[string]string{"": "true"}[is], false)
	default:
		v := fmt.Sprint("title ", w.made)
		w.set(e.side, "title", v, false)
		w.title = slices.DeleteFunc(slices.Clone(w.title), func(g given) bool { return g.shown[i] })
		w.title = append(w.title, given{value: v, shown: [2]bool{i == 0, i == 1}})
	}
	w.path += fmt.Sprintf(" %s in %s", e.what, e.side)
	w.observe(e.side)
	return true
}

// finish holds the end of a run against the laws.
func (s *itemScope) finish(w itemStep) {
	quiet := w.settle()
	what, same := w.same()
	ghl, novi := w.side[canonical.GHL].there(), w.side[canonical.Novi].there()
	deleted := slices.ContainsFunc(s.edits, func(e itemEdit) bool { return e.what == "delete" })
	switch {
	case !quiet:
		s.t.Errorf("it does not become quiet:%s", w.path)
	case ghl == deleted || novi == deleted || w.state.Deleted() != deleted:
		s.t.Errorf("in ghl %t, in novi %t, deleted %t:%s", ghl, novi, w.state.Deleted(), w.path)
	case !same:
		s.t.Errorf("%s differs in the end:%s", what, w.path)
	case !deleted && !slices.ContainsFunc(w.title, func(g given) bool { return g.value == w.state.Field("title") }):
		s.t.Errorf("the title is %q, which somebody replaced or nobody gave:%s", w.state.Field("title"), w.path)
	case w.writes > w.edits+1, w.creates > 1:
		s.t.Errorf("%d writes for %d edits:%s", w.writes, w.edits, w.path)
	}
}
