package rule_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/internal/rule"
	"github.com/causeway-sync/causeway/schemas/canonical"
)

var (
	noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	ada  = canonical.NewID("guild", canonical.KindContact, canonical.GHL, "g1")
	lens = mapping.Association("US")
)

func set(t *testing.T, specs ...rule.Definition) rule.Set {
	t.Helper()
	for i := range specs {
		if specs[i].Name == "" {
			specs[i].Name = "r"
		}
		if specs[i].Do == nil {
			specs[i].Do = []rule.ActionSpec{{AddTag: "x"}}
		}
	}
	s, err := rule.Compile(specs, lens)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// event is the version of ada to which changes lead from was.
func event(version uint64, was canonical.Contact, changes ...canonical.Change) canonical.Event {
	e := canonical.Event{Version: version, Contact: was, Changes: changes, Cause: canonical.Cause{Stream: "RAW", Sequence: 10 * version, Via: "fetch", System: canonical.Novi}}
	e.Contact.ID = ada
	for _, c := range changes {
		switch {
		case c.Field == "tags" && c.To != "":
			e.Contact.Tags = append(slices.Clone(e.Contact.Tags), c.To)
		case c.Field == "tags":
			e.Contact.Tags = slices.DeleteFunc(slices.Clone(e.Contact.Tags), func(t string) bool { return t == c.From })
		default:
			e.SetField(c.Field, c.To)
		}
	}
	return e
}

func change(field, from, to string) canonical.Change {
	return canonical.Change{Field: field, From: from, To: to, Origin: canonical.Novi, At: noon}
}

func TestTurnsTrue(t *testing.T) {
	member := canonical.Contact{FirstName: "Ada", Membership: canonical.Membership{Status: "current", Active: true}}
	tests := []struct {
		name, when string
		e          canonical.Event
		want       bool
	}{
		{"from the first", "after.membership.active", event(1, canonical.Contact{}, change("membership.active", "", "true")), true},
		{"what the empty record meets, from the first", "!after.membership.active", event(1, canonical.Contact{}, change("first_name", "", "Ada")), true},
		{"turns true", "after.membership.active", event(2, canonical.Contact{}, change("membership.active", "", "true")), true},
		{"is true already", "after.membership.active", event(3, member, change("first_name", "Ada", "Eda")), false},
		{"turns false", "after.membership.active", event(3, member, change("membership.active", "true", "")), false},
		{"a step", "before.membership.status == 'current' && after.membership.status == 'expired'", event(3, member, change("membership.status", "current", "expired")), true},
		{"another step", "before.membership.status == 'current' && after.membership.status == 'expired'", event(3, member, change("membership.status", "current", "grace_period")), false},
		{"a tag came", "'board' in after.tags", event(3, member, change("tags", "", "board")), true},
		{"a tag went", "'board' in before.tags && !('board' in after.tags)", event(3, canonical.Contact{Tags: []string{"board"}}, change("tags", "board", "")), true},
		{"whenever it changes", "'email' in changed", event(3, member, change("email", "", "a@example.org")), true},
		{"something else changes", "'email' in changed", event(3, member, change("phone", "", "+12025550101")), false},
		{"who changed it", "changes.exists(c, c.field == 'email' && c.origin == 'novi')", event(3, member, change("email", "", "a@example.org")), true},
		{"a conflict is no change", "'email' in changed", event(3, member, canonical.Change{Field: "email", Conflict: &canonical.Conflict{Lost: "b@example.org"}}), false},
		{"what isn't there doesn't hold", "after.custom['shirt'] == 'L'", event(3, member, change("first_name", "Ada", "Eda")), false},
		{"a custom value", "after.custom['shirt'] == 'L'", event(3, member, change("custom.shirt", "", "L")), true},
		{"ids are texts", "after.id == '" + string(ada) + "' && 'city' in changed", event(3, member, change("city", "", "x")), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := set(t, rule.Definition{When: tt.when}).Fire(tt.e, 7, noon)
			if (len(got) == 1) != tt.want {
				t.Fatalf("got %+v", got)
			}
		})
	}
}

func TestWhatFires(t *testing.T) {
	s := set(t, rule.Definition{Name: "welcome", When: "after.membership.active", Do: []rule.ActionSpec{
		{Task: &rule.TaskSpec{Title: "Welcome {after.first_name} {{now}}", DueIn: 48 * time.Hour}}, {Note: &rule.NoteSpec{Body: "since {after.membership.since}"}},
		{AddTag: "Member: {after.membership.type}"}, {RemoveTag: "lead"}, {Workflow: "w1"}}})
	e := event(4, canonical.Contact{FirstName: "Ada", Membership: canonical.Membership{Since: "2026-11-01", Type: "Gold"}}, change("membership.active", "", "true"))
	got := s.Fire(e, 7, noon)
	if len(got) != 1 || got[0].Stopped != "" {
		t.Fatalf("got %+v", got)
	}
	key := "welcome-" + string(ada) + "-4"
	want := canonical.Firing{Rule: "welcome", Key: key, Kind: canonical.KindContact, Entity: ada, Version: 4, Sequence: 7, Seen: 40, Chain: []string{"welcome"}, Outside: true}
	if d := cmp.Diff(want, got[0].Firing); d != "" {
		t.Error(d)
	}
	type seen struct {
		Subject string
		Entity  canonical.CanonicalID
		Wrote   map[string]string
	}
	var list []seen
	for _, o := range got[0].Observations("guild") {
		list = append(list, seen{string(o.Kind) + " " + string(o.ExternalID), o.Entity + o.Contact, o.Wrote})
	}
	if d := cmp.Diff([]seen{
		{"task " + key + "-1", ada, map[string]string{"title": "Welcome Ada {now}", "due": "2026-11-26T12:00:00Z"}},
		{"note " + key + "-2", ada, map[string]string{"body": "since 2026-11-01"}},
		{"contact " + key, ada, map[string]string{"tag:member: gold": "true", "tag:lead": ""}},
	}, list); d != "" {
		t.Error(d)
	}
	gone := event(5, e.Contact, change("membership.active", "", "true"))
	gone.Contact.Deleted = true
	if got := s.Fire(gone, 8, noon); len(got) != 1 || len(got[0].Actions) != 0 {
		t.Errorf("of a contact that is deleted: %+v", got)
	}
}

func TestWhatDoesNotFire(t *testing.T) {
	turned := func() canonical.Event {
		return event(2, canonical.Contact{}, change("membership.active", "", "true"))
	}
	tests := []struct {
		name string
		of   func(*canonical.Event)
		want int
	}{
		{"as it is", func(*canonical.Event) {}, 2},
		{"a backfill", func(e *canonical.Event) { e.Cause.Via = "backfill" }, 1},
		{"taken apart by a person", func(e *canonical.Event) { e.Cause.Via = "unmerge" }, 0},
		{"folded: the other one had it", func(e *canonical.Event) { e.Sync.Joined = true }, 0},
		{"a replay", func(e *canonical.Event) { e.Cause.Replay = true }, 0},
		{"merged into another", func(e *canonical.Event) { e.MergedInto = "o" }, 0},
	}
	s := set(t, rule.Definition{Name: "a", When: "after.membership.active"}, rule.Definition{Name: "b", When: "after.membership.active", OnBackfill: true})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := turned()
			tt.of(&e)
			if got := s.Fire(e, 7, noon); len(got) != tt.want {
				t.Errorf("%d fire, want %d", len(got), tt.want)
			}
		})
	}
}

func TestItems(t *testing.T) {
	s := set(t, rule.Definition{Kind: canonical.KindTask, When: "after.completed"})
	e := canonical.NewEvent(canonical.KindTask, "t")
	e.Version, e.Task.Completed = 1, true
	if got := s.Fire(e, 1, noon); len(got) > 0 {
		t.Errorf("it fires before the contact is known: %+v", got)
	}
	e.Version, e.Task.ContactID, e.Changes = 2, ada, []canonical.Change{change("contact_id", "", string(ada))}
	got := s.Fire(e, 2, noon)
	if len(got) != 1 || got[0].Contact != ada || got[0].Entity != "t" {
		t.Fatalf("when it is: %+v", got)
	}
	if o := got[0].Observations("guild"); len(o) != 1 || o[0].Kind != canonical.KindContact || o[0].Entity != ada {
		t.Errorf("the tag is asked for of %+v", o)
	}
}

func TestLoops(t *testing.T) {
	e := event(2, canonical.Contact{}, change("membership.active", "", "true"))
	e.Cause.Via = "rule"
	stopped := func(chain ...string) string {
		e.Cause.Firing = &canonical.Firing{Chain: chain}
		got := set(t, rule.Definition{Name: "b", When: "after.membership.active"}).Fire(e, 7, noon)
		if len(got) != 1 || (got[0].Stopped != "") != (got[0].Observations("guild") == nil) {
			t.Fatalf("after %v: %+v", chain, got)
		}
		return got[0].Stopped
	}
	if s := stopped("a"); s != "" {
		t.Errorf("after another it is stopped: %s", s)
	}
	if s := stopped("b", "a"); s != "rule b would feed itself, by b, a, b" {
		t.Errorf("after itself: %q", s)
	}
	if s := stopped("c", "d", "e", "f"); !strings.Contains(s, "follows from 4 others") {
		t.Errorf("after four: %q", s)
	}
}

func TestTextsThatFail(t *testing.T) {
	s := set(t, rule.Definition{When: "after.membership.active", Do: []rule.ActionSpec{{Note: &rule.NoteSpec{Body: "{after.custom['secret value']}"}}}},
		rule.Definition{Name: "due", When: "after.membership.active", Do: []rule.ActionSpec{{Task: &rule.TaskSpec{Title: "x", Due: "{after.first_name}"}}}},
		rule.Definition{Name: "tag", When: "after.membership.active", Do: []rule.ActionSpec{{AddTag: "{after.company}"}}})
	got := s.Fire(event(2, canonical.Contact{FirstName: "Ada"}, change("membership.active", "", "true")), 7, noon)
	if len(got) != 3 {
		t.Fatalf("got %+v", got)
	}
	for i, want := range []string{"can't be evaluated", "neither a date", "the tag is empty"} {
		if s := got[i].Stopped; !strings.Contains(s, want) || strings.Contains(s, "Ada") {
			t.Errorf("%s: %q, want %q", got[i].Rule, s, want)
		}
	}
}

func TestDue(t *testing.T) {
	s := set(t, rule.Definition{Name: "renewal", When: "after.membership.active", Date: &rule.DateSpec{Field: "membership.expires", DaysBefore: 30}})
	e := event(2, canonical.Contact{Membership: canonical.Membership{Active: true, Expires: "2026-12-24"}})
	if got := s.Fire(e, 7, noon); len(got) > 0 {
		t.Errorf("an event makes it fire: %+v", got)
	}
	for day, want := range map[string]int{"2026-11-23": 0, "2026-11-24": 1, "2026-11-30": 1, "2026-12-01": 0} {
		today, err := time.Parse(time.DateOnly, day)
		if err != nil {
			t.Fatal(err)
		}
		got := s.Due(e, 7, today)
		if len(got) != want {
			t.Errorf("on %s %d fire, want %d", day, len(got), want)
		}
		for _, f := range got {
			if f.Key != "renewal-"+string(ada)+"-2026-12-24" || !f.At.Equal(time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)) {
				t.Errorf("on %s: %s at %s", day, f.Key, f.At)
			}
		}
	}
	e.Contact.Membership.Active = false
	if got := s.Due(e, 7, noon); len(got) > 0 {
		t.Errorf("of one who is no member: %+v", got)
	}
}

func TestErrors(t *testing.T) {
	do := []rule.ActionSpec{{AddTag: "x"}}
	tests := []struct {
		name string
		d    rule.Definition
		want string
	}{
		{"no name", rule.Definition{When: "true", Do: do}, "[0].name: "},
		{"no slug", rule.Definition{Name: "A b", When: "true", Do: do}, "[0].name: "},
		{"no condition", rule.Definition{Name: "a", Do: do}, "[0].when: is missing"},
		{"no field", rule.Definition{Name: "a", When: "after.shoe == ''", Do: do}, "[0].when: at 6: undefined field 'shoe'"},
		{"no yes or no", rule.Definition{Name: "a", When: "after.email", Do: do}, "[0].when: gives string"},
		{"a field of another kind", rule.Definition{Name: "a", Kind: "task", When: "after.email == ''", Do: do}, "[0].when: "},
		{"no kind", rule.Definition{Name: "a", Kind: "tag", When: "true", Do: do}, "[0].kind: "},
		{"nothing to do", rule.Definition{Name: "a", When: "true"}, "[0].do: "},
		{"two things in one", rule.Definition{Name: "a", When: "true", Do: []rule.ActionSpec{{AddTag: "x", Workflow: "w"}}}, "[0].do[0].task, "},
		{"a task of no title", rule.Definition{Name: "a", When: "true", Do: []rule.ActionSpec{{Task: &rule.TaskSpec{}}}}, "[0].do[0].task.title: "},
		{"a text that isn't", rule.Definition{Name: "a", When: "true", Do: []rule.ActionSpec{{Note: &rule.NoteSpec{Body: "{after.tags}"}}}}, "[0].do[0].note.body: within {…}: gives list"},
		{"an open brace", rule.Definition{Name: "a", When: "true", Do: []rule.ActionSpec{{Note: &rule.NoteSpec{Body: "{after"}}}}, "[0].do[0].note.body: a brace is not closed"},
		{"a stranger's task", rule.Definition{Name: "a", When: "true", Do: []rule.ActionSpec{{Task: &rule.TaskSpec{Title: "x", Assignee: "nobody"}}}}, "[0].do[0].task.assignee: "},
		{"a group's tag", rule.Definition{Name: "a", When: "true", Do: []rule.ActionSpec{{AddTag: "novi:board"}}}, "[0].do[0].add_tag: "},
		{"a date that isn't", rule.Definition{Name: "a", Date: &rule.DateSpec{Field: "expires"}, Do: do}, "[0].date.field: "},
		{"both ways", rule.Definition{Name: "a", Date: &rule.DateSpec{Field: "membership.expires", DaysBefore: 1, DaysAfter: 1}, Do: do}, "[0].date.days_before: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := rule.Compile([]rule.Definition{tt.d}, lens); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	if _, err := rule.Compile([]rule.Definition{{Name: "a", When: "true", Do: do}, {Name: "a", When: "true", Do: do}}, lens); err == nil || !strings.HasPrefix(err.Error(), "[1].name: ") {
		t.Errorf("a name twice: %v", err)
	}
}

// TestLaw: whatever happens to a contact, a rule on a state fires exactly when
// that begins, and its key is of that version and no other.
func TestLaw(t *testing.T) {
	s := set(t, rule.Definition{When: "after.membership.active && 'board' in after.tags"})
	rapid.Check(t, func(rt *rapid.T) {
		c, was := canonical.Contact{}, false
		keys := map[string]bool{}
		for version := uint64(1); version <= 20; version++ {
			var changes []canonical.Change
			if rapid.Bool().Draw(rt, "active moves") {
				from, to := "true", ""
				if !c.Membership.Active {
					from, to = to, from
				}
				changes = append(changes, change("membership.active", from, to))
			}
			if rapid.Bool().Draw(rt, "tag moves") {
				from, to := "board", ""
				if !slices.Contains(c.Tags, "board") {
					from, to = to, from
				}
				changes = append(changes, change("tags", from, to))
			}
			e := event(version, c, changes...)
			is := e.Contact.Membership.Active && slices.Contains(e.Contact.Tags, "board")
			got := s.Fire(e, version, noon)
			if (len(got) == 1) != (is && !was) {
				rt.Fatalf("version %d: was %v, is %v, %d fire", version, was, is, len(got))
			}
			for _, f := range got {
				if keys[f.Key] {
					rt.Fatalf("key %s twice", f.Key)
				}
				keys[f.Key] = true
			}
			c, was = e.Contact, is
		}
	})
}
