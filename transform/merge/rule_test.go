package merge_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/internal/rule"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/transform/merge"
)

// TestRuleLaw: events come to the rules once or several times, in any order, and
// so does what they ask for come to the merge, between other observations, as
// after crashes, restarts and replays. Each firing makes its task once, and adds
// its tag at most once: what a person has taken away since stays away.
func TestRuleLaw(t *testing.T) {
	lens := mapping.Association("US")
	set, err := rule.Compile([]rule.Definition{{Name: "board", When: "'board' in after.tags", Do: []rule.ActionSpec{
		{Task: &rule.TaskSpec{Title: "Invite"}}, {AddTag: "invited"}}}}, lens)
	if err != nil {
		t.Fatal(err)
	}
	policy := merge.Policy{Lens: lens}
	start := time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)
	rapid.Check(t, func(rt *rapid.T) {
		contact := canonical.NewEvent(canonical.KindContact, "ada")
		tasks, made := map[canonical.CanonicalID]canonical.Event{}, map[canonical.CanonicalID]int{}
		var events []canonical.Event
		var asked []observation.Observation
		shown := map[string]bool{}
		seq, added, wanted := uint64(0), 0, map[string]bool{}
		apply := func(s merge.Seen) {
			next, out := merge.Apply(contact, s, policy)
			if out.Op == "" {
				return
			}
			if !slices.Contains(contact.Contact.Tags, "invited") && slices.Contains(next.Contact.Tags, "invited") && s.System == canonical.Rule {
				added++
			}
			contact = next
			events = append(events, next)
			for _, f := range set.Fire(next, uint64(len(events)), start) {
				wanted[f.Key] = true
			}
		}
		// At most one gap is left between steps: the systems are read in order.
		read := func() {
			seq++
			tags := slices.Sorted(maps.Keys(shown))
			at := start.Add(time.Duration(seq) * time.Hour)
			apply(merge.Seen{System: canonical.GHL, External: "g1", Via: observation.Fetch, At: canonical.Read{AsOf: at.UnixMicro(), Seq: seq},
				Shown: mapping.Shown{Fields: map[string]string{}, Tags: tags, Tagged: true}})
		}
		fire := func(e canonical.Event, n int) {
			for _, f := range set.Fire(e, uint64(n), start) {
				asked = append(asked, f.Observations("guild")...)
			}
		}
		ask := func(o observation.Observation) {
			seq++
			s := merge.Seen{System: o.System, External: o.ExternalID, Via: o.Via, Wrote: o.Wrote, Firing: o.Firing, Contact: o.Contact,
				At: canonical.Read{AsOf: o.ReadBegan.UnixMicro(), Seq: seq}}
			if o.Kind == canonical.KindContact {
				apply(s)
				return
			}
			id := canonical.NewID("guild", o.Kind, o.System, o.ExternalID)
			was, there := tasks[id]
			if !there {
				was = canonical.NewEvent(o.Kind, id)
			}
			if next, out := merge.Apply(was, s, policy); out.Op != "" {
				tasks[id] = next
				made[id]++
			}
		}
		toggle := func(tag string) {
			if shown[tag] {
				delete(shown, tag)
			} else {
				shown[tag] = true
			}
		}
		read()
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			switch rapid.SampledFrom([]string{"board", "written", "removed", "fire", "ask"}).Draw(rt, "step") {
			case "board":
				toggle("board")
				read()
			case "written": // the sink has brought GHL to what is canonical
				shown = map[string]bool{}
				for _, tag := range contact.Contact.Tags {
					shown[tag] = true
				}
				read()
			case "removed": // by a person
				delete(shown, "invited")
				read()
			case "fire":
				if n := len(events); n > 0 {
					i := rapid.IntRange(0, n-1).Draw(rt, "event")
					fire(events[i], i+1)
				}
			case "ask":
				if n := len(asked); n > 0 {
					ask(asked[rapid.IntRange(0, n-1).Draw(rt, "asked")])
				}
			}
		}
		for i, e := range events { // in the end every event and every wish has come
			fire(e, i+1)
		}
		for _, o := range asked {
			ask(o)
		}
		for _, o := range asked {
			ask(o)
		}
		if len(tasks) != len(wanted) || added > len(wanted) {
			rt.Fatalf("%d firings made %d tasks and added %d tags", len(wanted), len(tasks), added)
		}
		for id, n := range made {
			task := tasks[id]
			if n != 1 || task.ContactID() != "ada" || task.Task.Title != "Invite" {
				rt.Fatalf("task %s was made %d times: %+v", id, n, task.Task)
			}
		}
	})
}

// TestRuleAndPerson: a tag that somebody changed after the event that made the
// rule fire is theirs.
func TestRuleAndPerson(t *testing.T) {
	policy := merge.Policy{Lens: mapping.Association("US")}
	see := func(e canonical.Event, seq uint64, tags ...string) canonical.Event {
		e, _ = merge.Apply(e, merge.Seen{System: canonical.GHL, External: "g1", Via: observation.Fetch, At: canonical.Read{AsOf: int64(seq), Seq: seq},
			Shown: mapping.Shown{Fields: map[string]string{}, Tags: tags, Tagged: true}}, policy)
		return e
	}
	for _, tt := range []struct {
		seen uint64
		want string
	}{{3, "[board invited]"}, {2, "[board]"}} {
		e := see(see(see(canonical.NewEvent(canonical.KindContact, "ada"), 1, "board"), 2, "board", "invited"), 3, "board")
		e, _ = merge.Apply(e, merge.Seen{System: canonical.Rule, External: "k", Via: observation.FromRule, Wrote: map[string]string{"tag:invited": "true"},
			Firing: &canonical.Firing{Rule: "r", Key: "k", Seen: tt.seen}, At: canonical.Read{AsOf: 1, Seq: 4}}, policy)
		if got := fmt.Sprint(e.Contact.Tags); got != tt.want {
			t.Errorf("having seen %d: %s, want %s", tt.seen, got, tt.want)
		}
		if e.Contact.ID != "ada" || len(e.Links[canonical.Rule]) > 0 {
			t.Errorf("the rule is a system that shows the contact: %v", e.Links)
		}
	}
}
