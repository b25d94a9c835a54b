package merge_test

import (
	"strings"
	"testing"

	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/transform/merge"
)

const rounds = 60

// TestGuards plays an hour in which nobody, or nearly nobody, edits anything,
// with all guards and then with one of them off. Without it there is a loop,
// seen by the number of writes, or damage: somebody's edit is undone.
func TestGuards(t *testing.T) {
	tests := []struct {
		name  string // the guard
		story string
		play  func(w *world)
		want  string // what is the title in the end
		bound int    // of writes, with the guard
	}{
		{"renderings", "each system spells the title in its own way", func(w *world) {
			w.spell = func(s canonical.System, _, v string) string {
				if s == canonical.GHL {
					return strings.ToUpper(v)
				}
				return strings.ToLower(v)
			}
			w.set(canonical.GHL, "job_title", "Ranger", false)
			for range rounds {
				w.round(nil)
			}
		}, "Ranger", 1},
		{"stale", "a first sight comes again and again, late", func(w *world) {
			old := w.look(canonical.GHL, observation.Fetch)
			w.now += minute
			w.set(canonical.GHL, "job_title", "Ranger", false)
			for range rounds {
				w.round(nil)
				w.merge(old)
				w.write(canonical.Novi)
			}
		}, "Ranger", 1},
		{"equal", "Novi's record is touched without a change, between the sight of an edit and its write", func(w *world) {
			w.set(canonical.GHL, "job_title", "Ranger", false)
			for range rounds {
				w.round(func() {
					w.now++
					w.touch(canonical.Novi, w.side[canonical.Novi], false)
					w.edits--
					w.observe(canonical.Novi)
					w.deliver(len(w.flight)-1, false)
				})
			}
		}, "Ranger", 1},
		{"intents", "a write is seen before its writeback, when the title has moved on", func(w *world) {
			w.set(canonical.GHL, "job_title", "Apprentice", false)
			w.observe(canonical.GHL)
			w.deliver(0, false)
			w.now++
			w.set(canonical.GHL, "job_title", "Ranger", false) // unseen yet
			w.now++
			w.write(canonical.Novi)
			w.observe(canonical.GHL)
			w.deliver(len(w.flight)-1, false)
			w.observe(canonical.Novi) // the echo
			w.deliver(len(w.flight)-1, false)
			for range rounds {
				w.round(nil)
			}
		}, "Ranger", 2},
		{"flips", "a tool in each system insists on its own title", func(w *world) {
			for range rounds {
				w.round(func() {
					for i, insists := range []string{"Ranger", "Baker"} {
						if s := systems[i]; w.side[s].fields["job_title"] != insists {
							w.set(s, "job_title", insists, false)
						}
					}
				})
			}
		}, "", rounds / 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			play := func() *world {
				w := newWorld(t, merge.Policy{Lens: lens}, []string{"job_title"}, []string{"board"})
				for _, s := range systems {
					w.set(s, "job_title", "Guide", false)
				}
				w.tag(canonical.GHL, "board", true, false)
				w.tag(canonical.Novi, "board", true, false)
				w.round(nil)
				w.writes = 0
				tt.play(w)
				return w
			}
			with := play()
			if got := with.state.Contact.JobTitle; with.writes > tt.bound || tt.want != "" && got != tt.want {
				t.Errorf("with the guard, when %s: %d writes, at most %d wanted, and the title is %q, want %q", tt.story, with.writes, tt.bound, got, tt.want)
			}
			var without *world
			merge.Without(tt.name, func() { without = play() })
			t.Logf("%s: %d writes, without the guard %d, and the title %q", tt.story, with.writes, without.writes, without.state.Contact.JobTitle)
			if without.writes <= tt.bound && (tt.want == "" || without.state.Contact.JobTitle == tt.want) {
				t.Errorf("without the guard, when %s: %d writes and the title as it should be: it prevents nothing", tt.story, without.writes)
			}
			if fought := len(with.fighting) > 0; fought != (tt.name == "flips") {
				t.Errorf("when %s, a fight was seen: %t", tt.story, fought)
			}
		})
	}
}

// round is a minute: both records are read, and again because of the echoes of
// what was written; one notice is lost, the others come in reverse order and
// doubled; then the sink works. between happens while the sights are in.
func (w *world) round(between func()) {
	w.now += minute
	for _, s := range systems {
		w.observe(s)
		w.now++
		w.observe(s)
	}
	w.flight = w.flight[:len(w.flight)-1]
	for len(w.flight) > 0 {
		w.deliver(len(w.flight)-1, true)
		w.deliver(len(w.flight)-1, false)
	}
	if between != nil {
		between()
	}
	for _, s := range systems {
		if w.write(s) {
			w.observe(s) // the webhook of our own write
		}
	}
}
