package merge_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/transform/merge"
)

// change is one edit of the small scope. A tag has two values too: there or
// not.
type change struct {
	side  canonical.System
	tag   bool
	value int
}

// scope walks through everything that can happen to three edits.
type scope struct {
	t     *testing.T
	edits []change
	runs  int
}

// step is a world and how far its history has come.
type step struct {
	*world
	made          int  // edits
	sunk, doubled bool // the sink has worked once in between; one sight has come twice
	text, tag     []given
	path          string
}

// given is a value that somebody gave and that nobody has replaced: it is
// replaced by an edit on a side that shows it.
type given struct {
	value string
	shown [2]bool // by side
}

// TestSmallScope plays every history of three edits, two sides, one text and
// one tag with two values each: each edit is seen right after it, the sights
// arrive in every order, one of them possibly twice, at any time after, and
// the sink works at any one time in between or only in the end. That is a good
// 100,000 runs.
func TestSmallScope(t *testing.T) {
	l := &mapping.Lens{Region: "US", Tags: mapping.TagRules{NoviField: "GHL Tags", Separator: "; "}, Bindings: []mapping.Binding{
		{Field: "job_title", Convert: mapping.Text, GHL: mapping.Side{Path: "title", Write: mapping.Always}, Novi: mapping.Side{Path: "JobTitle", Write: mapping.Always}}}}
	var all []change
	for _, s := range systems {
		for value := range 2 {
			all = append(all, change{s, false, value}, change{s, true, value})
		}
	}
	start := newWorld(t, merge.Policy{Lens: l}, []string{"job_title"}, []string{"board"})
	for _, s := range systems {
		start.observe(s)
		start.deliver(0, false)
	}
	start.edits = 0
	s := &scope{t: t}
	for _, a := range all {
		for _, b := range all {
			for _, c := range all {
				s.edits = []change{a, b, c}
				// The values have no order: the first text is value 0.
				if i := slices.IndexFunc(s.edits, func(c change) bool { return !c.tag }); i >= 0 && s.edits[i].value == 1 {
					continue
				}
				nothing := []given{{shown: [2]bool{true, true}}}
				s.walk(step{world: start, text: nothing, tag: nothing})
			}
		}
	}
	t.Logf("%d runs", s.runs)
	if s.runs < 100_000 {
		t.Errorf("only %d runs", s.runs)
	}
}

// walk takes every way on from w.
func (s *scope) walk(w step) {
	if s.t.Failed() {
		return
	}
	left := false
	if w.made < len(s.edits) {
		left = true
		next := w
		next.world = w.fork()
		if !next.edit(s.edits[w.made]) {
			return // it changes nothing: a shorter history
		}
		s.walk(next)
	}
	for i := range w.flight {
		left = true
		next := w
		next.world = w.fork()
		next.path += fmt.Sprintf(" deliver %d", i)
		next.deliver(i, false)
		s.walk(next)
		if !w.doubled {
			next := w
			next.world = w.fork()
			next.path += fmt.Sprintf(" deliver %d doubled", i)
			next.doubled = true
			next.deliver(i, true)
			s.walk(next)
		}
	}
	if !left {
		s.runs++
		w.world = w.fork()
		s.finish(w)
		return
	}
	if !w.sunk && w.made > 0 {
		next := w
		next.world = w.fork()
		next.sunk = true
		next.path += " sink"
		wrote := false
		for i, system := range systems {
			if next.write(system) {
				wrote = true
				next.arrived(i)
			}
		}
		if wrote {
			s.walk(next)
		}
	}
}

// edit makes the next edit, sends its sight on the way, and reports whether it
// changed anything.
func (w *step) edit(c change) bool {
	w.now += 1000
	w.made++
	i := slices.Index(systems, c.side)
	list, value := &w.text, fmt.Sprint("value ", c.value)
	if c.tag {
		list, value = &w.tag, []string{"", "true"}[c.value]
	}
	if shows(w.world, i, c.tag) == value {
		return false
	}
	// Nobody goes back to what the sink has just written, or to what was there
	// before, until its writeback has come: that can't be told from a sight of the
	// write, or from before it.
	base := w.state.Sync.Base[c.side]
	field, before := "job_title", base.Fields["job_title"]
	if c.tag {
		field, before = canonical.TagField("board"), map[bool]string{true: "true"}[slices.Contains(base.Tags, "board")]
	}
	if writing, ok := w.state.Sync.Writing[c.side].Fields[field]; ok && (writing == value || before == value) {
		return false
	}
	if c.tag {
		w.world.tag(c.side, "board", c.value == 1, false)
	} else {
		w.set(c.side, "job_title", value, false)
	}
	*list = slices.DeleteFunc(slices.Clone(*list), func(g given) bool { return g.shown[i] })
	*list = append(*list, given{value: value, shown: [2]bool{i == 0, i == 1}})
	w.path += fmt.Sprintf(" %s makes it %q", c.side, value)
	w.observe(c.side)
	return true
}

// arrived notes what the i-th side shows after a write.
func (w *step) arrived(i int) {
	for list, tag := range map[*[]given]bool{&w.text: false, &w.tag: true} {
		*list = slices.Clone(*list)
		for k, g := range *list {
			(*list)[k].shown[i] = g.value == shows(w.world, i, tag)
		}
	}
}

func shows(w *world, i int, tag bool) string {
	if r := w.side[systems[i]]; !tag {
		return r.fields["job_title"]
	}
	if w.has(systems[i], "board") {
		return "true"
	}
	return ""
}

// finish holds the end of a run against the laws.
func (s *scope) finish(w step) {
	quiet := w.settle()
	what, same := w.same()
	title, board := w.state.Contact.JobTitle, map[bool]string{true: "true"}[slices.Contains(w.state.Contact.Tags, "board")]
	is := func(value string) func(given) bool { return func(g given) bool { return g.value == value } }
	switch {
	case !quiet:
		s.t.Errorf("it does not become quiet:%s", w.path)
	case !same:
		s.t.Errorf("%s differs in the end:%s", what, w.path)
	case !slices.ContainsFunc(w.text, is(title)):
		s.t.Errorf("the title is %q, which somebody replaced or nobody gave:%s", title, w.path)
	case !slices.ContainsFunc(w.tag, is(board)):
		s.t.Errorf("the tag is %q, which somebody replaced or nobody gave:%s", board, w.path)
	case w.writes > w.edits+1:
		s.t.Errorf("%d writes for %d edits:%s", w.writes, w.edits, w.path)
	}
}
