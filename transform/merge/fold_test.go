package merge_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	"pgregory.net/rapid"

	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/transform/merge"
)

// two are two entities of a story, a and b, that what is seen may show to be
// one; then what is seen of the one is told of the other.
type two struct {
	policy merge.Policy
	states map[canonical.CanonicalID]canonical.Event
}

func newTwo(policy merge.Policy) *two {
	w := &two{policy: policy, states: map[canonical.CanonicalID]canonical.Event{}}
	for _, id := range []canonical.CanonicalID{"a", "b"} {
		w.states[id] = canonical.NewEvent(canonical.KindContact, id)
	}
	return w
}

func (w *two) see(id canonical.CanonicalID, seen merge.Seen) ([]merge.Step, merge.Likeness) {
	other := map[canonical.CanonicalID]canonical.CanonicalID{"a": "b", "b": "a"}[id]
	if w.states[id].MergedInto != "" {
		id, other = other, id
	}
	var steps []merge.Step
	likeness := merge.Strangers
	if o := w.states[other]; o.Version == 0 || o.MergedInto != "" {
		if next, out := merge.Apply(w.states[id], seen, w.policy); out.Op != "" {
			steps = []merge.Step{{State: next, Outcome: out}}
		}
	} else {
		steps, likeness = merge.Join(w.states[id], o, seen, w.policy)
	}
	w.publish(steps)
	return steps, likeness
}

func (w *two) publish(steps []merge.Step) {
	for _, s := range steps {
		if was := w.states[s.State.ID()]; s.State.Version != was.Version+1 {
			panic(fmt.Sprintf("version %d of %s follows %d", s.State.Version, s.State.ID(), was.Version))
		}
		w.states[s.State.ID()] = s.State
	}
}

func (w *two) unmerge(id canonical.CanonicalID, at canonical.Read) ([]merge.Step, string) {
	merged := w.states[id]
	into := merged.MergedInto
	if into == "" {
		into = merged.Sync.Apart[0]
	}
	steps, why := merge.Unmerge(w.states[into], merged, merge.Seen{System: canonical.Person, Via: observation.Unmerge, At: at}, w.policy)
	w.publish(steps)
	return steps, why
}

// TestFoldStories plays the stories of testdata/fold: like those of
// TestStories, but each sight says of which entity it is.
func TestFoldStories(t *testing.T) {
	files, err := filepath.Glob("testdata/fold/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			w := newTwo(foldPolicy(t, archive))
			seq := 0
			lines := bufio.NewScanner(bytes.NewReader(section(t, archive, "observations")))
			for lines.Scan() {
				if len(bytes.TrimSpace(lines.Bytes())) == 0 {
					continue
				}
				var s struct {
					sight
					Entity  canonical.CanonicalID `json:"entity"`
					Also    []string              `json:"also"`
					Unmerge canonical.CanonicalID `json:"unmerge"`
				}
				d := json.NewDecoder(bytes.NewReader(lines.Bytes()))
				d.DisallowUnknownFields()
				if err := d.Decode(&s); err != nil {
					t.Fatalf("%s: %v", lines.Text(), err)
				}
				seq++
				seen := s.seen(t, seq)
				seen.Shown.Also = s.Also
				if s.Unmerge != "" {
					steps, why := w.unmerge(s.Unmerge, seen.At)
					if why != "" {
						fmt.Fprintf(&got, "%d: %s\n", seq, why)
					}
					tellSteps(&got, seq, steps)
					continue
				}
				steps, likeness := w.see(s.Entity, seen)
				tellSteps(&got, seq, steps)
				if likeness == merge.Doubtful {
					fmt.Fprintln(&got, "   a person has to say whether the two are one")
				}
			}
			for _, id := range []canonical.CanonicalID{"a", "b"} {
				e := w.states[id]
				switch {
				case e.Version == 0:
					continue
				case e.MergedInto != "":
					fmt.Fprintf(&got, "%s is %s now\n", id, e.MergedInto)
					continue
				}
				fmt.Fprintf(&got, "%s: ", id)
				end(&got, e, lens)
				for _, s := range systems {
					if len(e.Links[s]) > 0 {
						fmt.Fprintf(&got, "%s records: %v, the first is %s\n", s, e.Links[s], e.Sync.Base[s].External)
					}
				}
			}
			if *update {
				for i := range archive.Files {
					if archive.Files[i].Name == "want" {
						archive.Files[i].Data = got.Bytes()
					}
				}
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if d := cmp.Diff(string(section(t, archive, "want")), got.String()); d != "" {
				t.Errorf("%s%s", archive.Comment, d)
			}
		})
	}
}

func tellSteps(w *bytes.Buffer, seq int, steps []merge.Step) {
	if len(steps) == 0 {
		fmt.Fprintf(w, "%d: nothing\n", seq)
	}
	for _, s := range steps {
		fmt.Fprintf(w, "%s ", s.State.ID())
		tell(w, seq, s.State, s.Outcome)
	}
}

// foldPolicy is the story's, with what it says of rules.
func foldPolicy(t *testing.T, a *txtar.Archive) merge.Policy {
	t.Helper()
	p := merge.Policy{Lens: lens}
	for _, f := range a.Files {
		if f.Name == "rules" {
			p.Rules = &mapping.Policy{Deletes: map[mapping.Flow]mapping.Delete{}}
			var says struct {
				OnMatch   mapping.OnMatch `json:"on_match"`
				Keys      []string        `json:"keys"`
				Propagate bool            `json:"propagate"`
				Tag       string          `json:"duplicates_tag"`
			}
			if err := json.Unmarshal(f.Data, &says); err != nil {
				t.Fatal(err)
			}
			p.Rules.OnMatch, p.Rules.IdentityKeys, p.Rules.DuplicatesTag = says.OnMatch, says.Keys, says.Tag
			for _, s := range systems {
				if says.Propagate {
					p.Rules.Deletes[mapping.Flow{Kind: canonical.KindContact, System: s}] = mapping.Delete{Action: mapping.Propagate}
				}
			}
		}
	}
	return p
}

// couple draws two entities with random values in both systems, whose
// addresses are the same or not.
func couple(t *rapid.T, policy merge.Policy) *two {
	w := newTwo(policy)
	seq := uint64(0)
	for _, id := range []canonical.CanonicalID{"a", "b"} {
		some := false
		for _, s := range systems {
			if !rapid.Bool().Draw(t, "has a record") && (some || s == canonical.GHL) {
				continue
			}
			some = true
			for range rapid.IntRange(1, 3).Draw(t, "sights") {
				seq++
				seen := merge.Seen{System: s, External: canonical.ExternalID(string(s) + "-" + string(id)), Via: observation.Fetch,
					Shown: mapping.Shown{Fields: map[string]string{"email": string(id) + "@example.org"}, Tagged: true, Grouped: true},
					At:    canonical.Read{Modified: rapid.Int64Range(1, 30).Draw(t, "modified"), AsOf: int64(seq), Seq: seq}}
				for _, f := range fields {
					seen.Shown.Fields[f] = rapid.SampledFrom([]string{"", "x", "yy", "zzz"}).Draw(t, f)
				}
				seen.Shown.Fields["opt_outs.email"] = rapid.SampledFrom([]string{"", "true"}).Draw(t, "opt-out")
				for _, tag := range tags {
					if rapid.Bool().Draw(t, tag) {
						seen.Shown.Tags = append(seen.Shown.Tags, tag)
					}
				}
				next, out := merge.Apply(w.states[id], seen, policy)
				if out.Op != "" {
					w.states[id] = next
				}
			}
		}
	}
	return w
}

func drawnPolicy(t *rapid.T) merge.Policy {
	l := *lens
	l.Bindings = slices.Clone(lens.Bindings)
	for i, b := range l.Bindings {
		if slices.Contains(free, b.Field) {
			l.Bindings[i].Authority = rapid.SampledFrom([]mapping.Authority{mapping.Newest, mapping.ByGHL, mapping.ByNovi, mapping.Longest, mapping.Union}).Draw(t, "authority of "+b.Field)
		}
	}
	return merge.Policy{Lens: &l}
}

var now = merge.Seen{System: canonical.GHL, Via: observation.Fetch, At: canonical.Read{AsOf: 1000, Seq: 1000}}

// TestFoldLaws: folding twice is folding once; nothing that somebody gave is
// lost without a word; all records are there; and taking the two apart gives
// both as they were.
func TestFoldLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy := drawnPolicy(t)
		w := couple(t, policy)
		a, b := w.states["a"], w.states["b"]
		if !merge.Older(a, b) {
			a, b = b, a
		}
		steps := merge.Fold(a, b, now, policy)
		if len(steps) != 2 || steps[0].State.ID() != a.ID() || steps[1].Op != canonical.OpMerged || steps[1].State.MergedInto != a.ID() {
			t.Fatalf("got %+v", steps)
		}
		survivor, loser := steps[0].State, steps[1].State
		if again := merge.Fold(survivor, b, now, policy); len(again) != 1 || !reflect.DeepEqual(again[0].State, loser) {
			t.Errorf("folded again after a crash: %s", cmp.Diff(loser, again[0].State))
		}
		said := map[string]bool{}
		for _, c := range survivor.Changes {
			said[c.Field+"="+c.From] = true
			if c.Conflict != nil {
				said[c.Field+"="+c.Conflict.Lost] = true
			}
		}
		for _, e := range []canonical.Event{a, b} {
			for _, f := range append(canonical.ContactFields(), "email") {
				v := e.Contact.Field(f)
				if v != "" && v != survivor.Contact.Field(f) && !said[f+"="+v] {
					t.Errorf("%s %q of %s is gone, and no event speaks of it", f, v, e.ID())
				}
			}
			for _, tag := range e.Contact.Tags {
				if !slices.Contains(survivor.Contact.Tags, tag) && !said["tags="+tag] {
					t.Errorf("tag %s of %s is gone, and no event speaks of it", tag, e.ID())
				}
			}
			for s, links := range e.Links {
				for _, x := range links {
					if base, known := survivor.Record(s, x); !known || !slices.Contains(survivor.Links[s], x) || base.External != x {
						t.Errorf("%s record %s is not among %v, or nothing is known of it", s, x, survivor.Links)
					}
				}
				if len(a.Links[s]) > 0 && survivor.Sync.Base[s].External != a.Sync.Base[s].External {
					t.Errorf("the primary %s record is %s", s, survivor.Sync.Base[s].External)
				}
			}
		}
		if a.Contact.OptOuts.Email || b.Contact.OptOuts.Email {
			if !survivor.Contact.OptOuts.Email {
				t.Error("an opt-out is gone")
			}
		}

		apart, why := merge.Unmerge(survivor, loser, now, policy)
		if why != "" || len(apart) != 2 || apart[0].State.ID() != b.ID() {
			t.Fatalf("unmerge: %q %+v", why, apart)
		}
		for _, pair := range [][2]canonical.Event{{b, apart[0].State}, {a, apart[1].State}} {
			was, is := pair[0], pair[1]
			if d := cmp.Diff(was.Contact, is.Contact); d != "" {
				t.Errorf("taken apart, %s is not what it was:\n%s", was.ID(), d)
			}
			if d := cmp.Diff(was.Links, is.Links); d != "" {
				t.Errorf("taken apart, %s has other records:\n%s", was.ID(), d)
			}
			if d := cmp.Diff(was.Sync.Base, is.Sync.Base); d != "" {
				t.Errorf("taken apart, %s knows something else of its records:\n%s", was.ID(), d)
			}
			for s := range was.Links {
				if got, want := policy.Lens.Project(is.Contact, s, false), policy.Lens.Project(was.Contact, s, false); !reflect.DeepEqual(got, want) {
					t.Errorf("taken apart, %s of %s is to show %v, want %v", s, was.ID(), got, want)
				}
			}
		}
		if again, why := merge.Unmerge(apart[1].State, apart[0].State, now, policy); len(again) != 0 || why != "" {
			t.Errorf("taken apart again: %q %+v", why, again)
		}
		if half, why := merge.Unmerge(survivor, apart[0].State, now, policy); why != "" || len(half) != 1 || !reflect.DeepEqual(half[0].State, apart[1].State) {
			t.Errorf("taken apart after a crash: %q %+v", why, half)
		}
	})
}

// TestFoldOrder: whichever of two records is seen first, the person is the
// same in the end, but for which id and which record is the first.
func TestFoldOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy := drawnPolicy(t)
		var sights [2]merge.Seen
		for i, id := range []canonical.CanonicalID{"a", "b"} {
			sights[i] = merge.Seen{System: canonical.GHL, External: canonical.ExternalID("g-" + id), Via: observation.Fetch,
				Shown: mapping.Shown{Fields: map[string]string{"email": "ada@example.org"}, Tagged: true, Grouped: true},
				At:    canonical.Read{Modified: int64(10 + rapid.IntRange(0, 5).Draw(t, "modified")*2 + i), AsOf: 50}}
			for _, f := range fields {
				sights[i].Shown.Fields[f] = rapid.SampledFrom([]string{"", "x", "yy"}).Draw(t, f)
			}
			sights[i].Shown.Fields["first_name"] = "Ada"
			sights[i].Shown.Fields["opt_outs.email"] = ""
			sights[i].Shown.Tags = []string{rapid.SampledFrom(tags).Draw(t, "tag")}
		}
		var got [2]canonical.Contact
		for order := range 2 {
			w := newTwo(policy)
			for n, i := range []int{order, 1 - order} {
				seen := sights[i]
				seen.At.Seq = uint64(n + 1)
				if _, like := w.see([]canonical.CanonicalID{"a", "b"}[i], seen); n == 1 && like != merge.Same {
					t.Fatalf("the two are %v", like)
				}
			}
			for _, e := range w.states {
				if e.MergedInto == "" {
					got[order] = e.Contact
				}
			}
			if want := []canonical.CanonicalID{"a", "b"}[order]; got[order].ID != want {
				t.Errorf("%s stays, but %s was seen first", got[order].ID, want)
			}
			got[order].ID = ""
		}
		if d := cmp.Diff(got[0], got[1]); d != "" {
			t.Errorf("the order matters:\n%s", d)
		}
	})
}

// TestCompare: who is the same.
func TestCompare(t *testing.T) {
	ada := map[string]string{"email": "ada@example.org", "first_name": "Ada", "last_name": "Imhof", "phone": "+12025550143"}
	with := func(more ...string) map[string]string {
		out := maps.Clone(ada)
		for i := 0; i < len(more); i += 2 {
			out[more[i]] = more[i+1]
		}
		return out
	}
	gone := func(e *canonical.Event) {
		base := e.Sync.Base[canonical.GHL]
		base.Gone = true
		e.Sync.Base, e.Links = map[canonical.System]canonical.Base{canonical.GHL: base}, nil
	}
	also := func(e *canonical.Event) {
		base := e.Sync.Base[canonical.GHL]
		base.Also = []string{"old@example.org"}
		e.Sync.Base = map[canonical.System]canonical.Base{canonical.GHL: base}
	}
	flag := &mapping.Policy{OnMatch: mapping.FlagMatch}
	byNumber := &mapping.Policy{IdentityKeys: []string{"custom.member_no"}}
	tests := []struct {
		name    string
		a, b    map[string]string
		at      canonical.System // b's record
		changeA func(*canonical.Event)
		changeB func(*canonical.Event)
		rules   *mapping.Policy
		want    merge.Likeness
	}{
		{name: "the same address", a: ada, b: with("phone", "", "last_name", ""), want: merge.Same},
		{name: "nothing in common", a: ada, b: with("email", "b@example.org", "phone", ""), want: merge.Strangers},
		{name: "the same address, and the policy is to flag", a: ada, b: ada, rules: flag, want: merge.Doubtful},
		{name: "another last name, as after a marriage", a: ada, b: with("last_name", "Berg"), want: merge.Same},
		{name: "a short first name", a: with("first_name", "Adelheid"), b: ada, want: merge.Doubtful},
		{name: "the beginning of a first name", a: with("first_name", "Jonathan"), b: with("first_name", "jon"), want: merge.Same},
		{name: "another first name in the same system", a: ada, b: with("first_name", "Bruno"), want: merge.Doubtful},
		{name: "another first name in the other system", a: ada, b: with("first_name", "Bruno"), at: canonical.Novi, want: merge.Same},
		{name: "another first name, of somebody who was deleted there", a: ada, b: with("first_name", "Bruno"), changeB: gone, want: merge.Doubtful},
		{name: "the same number and name, one without an address", a: ada, b: with("email", ""), want: merge.Same},
		{name: "the same number and name, with another address", a: ada, b: with("email", "b@example.org"), want: merge.Strangers},
		{name: "the same number and name, with another address, after a delete", a: ada, b: with("email", "b@example.org"), changeB: gone, want: merge.Same},
		{name: "a further address of a record that is there", a: ada, b: with("email", "old@example.org", "phone", ""), changeA: also, want: merge.Strangers},
		{name: "a further address after a delete", a: ada, b: with("email", "old@example.org", "phone", ""), changeA: also, changeB: gone, want: merge.Same},
		{name: "said to be apart", a: ada, b: ada, changeA: func(e *canonical.Event) { e.Sync.Apart = []canonical.CanonicalID{"b"} }, want: merge.Strangers},
		{name: "a key of the tenant's own", a: with("custom.member_no", "7"), b: map[string]string{"custom.member_no": "7"}, rules: byNumber, want: merge.Same},
		{name: "no key of the tenant's", a: ada, b: ada, rules: byNumber, want: merge.Strangers},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			policy := merge.Policy{Lens: lens, Rules: tt.rules}
			if tt.at == "" {
				tt.at = canonical.GHL
			}
			w := newTwo(policy)
			for id, f := range map[canonical.CanonicalID]map[string]string{"a": tt.a, "b": tt.b} {
				s := map[canonical.CanonicalID]canonical.System{"a": canonical.GHL, "b": tt.at}[id]
				next, _ := merge.Apply(w.states[id], merge.Seen{System: s, External: canonical.ExternalID(id), Via: observation.Fetch, Shown: mapping.Shown{Fields: f}, At: canonical.Read{AsOf: 1, Seq: 1}}, policy)
				w.states[id] = next
			}
			a, b := w.states["a"], w.states["b"]
			if tt.changeA != nil {
				tt.changeA(&a)
			}
			if tt.changeB != nil {
				tt.changeB(&b)
			}
			if got, back := merge.Compare(a, b, policy), merge.Compare(b, a, policy); got != tt.want || back != tt.want {
				t.Errorf("got %v and %v, want %v", got, back, tt.want)
			}
		})
	}
}
