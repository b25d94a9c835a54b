package merge_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/transform/merge"
)

var update = flag.Bool("update", false, "rewrite what the stories end with")

// sight is one line of a story's observations. Times are hh:mm of one day.
type sight struct {
	System   canonical.System  `json:"system"`
	Via      observation.Via   `json:"via"`      // default fetch
	Modified string            `json:"modified"` // the record's own time; none if empty
	Read     string            `json:"read"`     // when the read began
	Fields   map[string]string `json:"fields"`   // what is covered
	Tags     *[]string         `json:"tags"`     // not covered if missing
	Grouped  bool              `json:"grouped"`  // the tags that come from groups are covered
	Fold     bool              `json:"fold"`     // the index may fold case
	Wrote    map[string]string `json:"wrote"`
	Atomic   bool              `json:"atomic"`
	Absent   bool              `json:"absent"`
	Restored bool              `json:"restored"` // the system was restored from a backup
	Ours     bool              `json:"ours"`     // the record says that we made it
	External string            `json:"id"`       // default: the system's first letter and 1
	// Reread are the fields that the mapping reads in another way from here on,
	// Before what it reads then in the sight before, if that is still in RAW.
	Reread     []string          `json:"reread"`
	Before     map[string]string `json:"before"`
	BeforeTags []string          `json:"before_tags"`
}

func clockTime(t *testing.T, s string) int64 {
	t.Helper()
	if s == "" {
		return 0
	}
	at, err := time.Parse("2006-01-02 15:04", "2026-11-01 "+s)
	if err != nil {
		t.Fatal(err)
	}
	return at.UnixMicro()
}

func (s sight) seen(t *testing.T, seq int) merge.Seen {
	t.Helper()
	out := merge.Seen{System: s.System, External: canonical.ExternalID(s.External), Via: s.Via, Absent: s.Absent, Wrote: s.Wrote, Atomic: s.Atomic, Restored: s.Restored,
		Before: mapping.Shown{Fields: s.Before, Tags: s.BeforeTags, Tagged: s.BeforeTags != nil},
		Shown:  mapping.Shown{Fields: s.Fields, Fold: s.Fold, Grouped: s.Grouped, Tagged: s.Tags != nil},
		At:     canonical.Read{Modified: clockTime(t, s.Modified), AsOf: clockTime(t, s.Read), Seq: uint64(seq)}}
	if s.Tags != nil {
		out.Shown.Tags = *s.Tags
	}
	if s.Ours {
		out.Shown.Ref = canonical.NewID(tenant, canonical.KindContact, canonical.GHL, "g1")
	}
	if out.Via == "" {
		out.Via = observation.Fetch
	}
	if out.External == "" {
		out.External = canonical.ExternalID(s.System[:1] + "1")
	}
	return out
}

// TestStories plays each story of testdata: the observations of a person, in
// the order of RAW, and for each what it led to; then what is true in the end
// and what each system would have to be written.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
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
			state := canonical.Event{}
			state.Contact.ID = canonical.NewID(tenant, canonical.KindContact, canonical.GHL, "g1")
			policy := storyPolicy(t, archive)
			seq := 0
			lines := bufio.NewScanner(bytes.NewReader(section(t, archive, "observations")))
			for lines.Scan() {
				if len(bytes.TrimSpace(lines.Bytes())) == 0 {
					continue
				}
				var s sight
				d := json.NewDecoder(bytes.NewReader(lines.Bytes()))
				d.DisallowUnknownFields()
				if err := d.Decode(&s); err != nil {
					t.Fatalf("%s: %v", lines.Text(), err)
				}
				seq++
				if s.Reread != nil {
					policy.Lens = reread(t, policy.Lens, s.Reread)
				}
				next, out := merge.Apply(state, s.seen(t, seq), policy)
				tell(&got, seq, next, out)
				state = next
			}
			end(&got, state, policy.Lens)
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

// storyPolicy is the default one, or what the story says.
func storyPolicy(t *testing.T, a *txtar.Archive) merge.Policy {
	t.Helper()
	i := slices.IndexFunc(a.Files, func(f txtar.File) bool { return f.Name == "policy" })
	if i < 0 {
		return merge.Policy{Lens: lens}
	}
	var says struct {
		Skew      string                       `json:"skew"`
		Authority map[string]mapping.Authority `json:"authority"`
		Separator map[string]string            `json:"separator"`
		Derive    map[string]string            `json:"derive"` // tag: field
	}
	if err := json.Unmarshal(a.Files[i].Data, &says); err != nil {
		t.Fatal(err)
	}
	l := *lens
	l.Bindings = slices.Clone(lens.Bindings)
	for i, b := range l.Bindings {
		if authority, ok := says.Authority[b.Field]; ok {
			l.Bindings[i].Authority, l.Bindings[i].Separator = authority, says.Separator[b.Field]
		}
	}
	for _, tag := range slices.Sorted(maps.Keys(says.Derive)) {
		d, err := mapping.NewDerivedTag(tag, says.Derive[tag], "")
		if err != nil {
			t.Fatal(err)
		}
		l.Tags.Derive = append(l.Tags.Derive, d)
	}
	if err := l.Check(); err != nil {
		t.Fatal(err)
	}
	policy := merge.Policy{Lens: &l}
	if says.Skew != "" {
		var err error
		if policy.Skew, err = time.ParseDuration(says.Skew); err != nil {
			t.Fatal(err)
		}
	}
	return policy
}

// reread is old as it would be if it read some fields, or the tags, in another
// way.
func reread(t *testing.T, old *mapping.Lens, fields []string) *mapping.Lens {
	t.Helper()
	spec, err := mapping.Template("association")
	if err != nil {
		t.Fatal(err)
	}
	own := map[string]*mapping.FieldSpec{}
	for _, f := range fields {
		if f == canonical.TagsReading {
			other := " | "
			spec.Contact.Tags.Separator = &other
			continue
		}
		b := *spec.Contact.Fields[f]
		b.GHL.Read, b.Novi.Read = "value.trim()", "value.trim()"
		own[f] = &b
	}
	l, _, err := spec.With(mapping.Spec{Contact: mapping.ContactSpec{Fields: own}}).Build("US")
	if err != nil {
		t.Fatal(err)
	}
	for i, b := range l.Bindings {
		was, _ := old.Binding(b.Field)
		l.Bindings[i].Authority, l.Bindings[i].Separator = was.Authority, was.Separator
	}
	return l
}

func section(t *testing.T, a *txtar.Archive, name string) []byte {
	t.Helper()
	for _, f := range a.Files {
		if f.Name == name {
			return f.Data
		}
	}
	t.Fatalf("the story has no %s", name)
	return nil
}

func tell(w *bytes.Buffer, seq int, e canonical.Event, out merge.Outcome) {
	if out.Op == "" {
		fmt.Fprintf(w, "%d: nothing\n", seq)
		return
	}
	fmt.Fprintf(w, "%d: %s, version %d, from %s\n", seq, out.Op, e.Version, out.Origin)
	for _, c := range e.Changes {
		fmt.Fprintf(w, "   %s: %q → %q by %s at %s", c.Field, c.From, c.To, c.Origin, c.At.Format("15:04"))
		if c.Conflict != nil {
			fmt.Fprintf(w, "; %q of %s lost (%s)", c.Conflict.Lost, c.Conflict.Origin, c.Conflict.Reason)
		}
		fmt.Fprintln(w)
	}
	if out.Fighting != "" {
		fmt.Fprintf(w, "   %s is held from now on\n", out.Fighting)
	}
}

// end tells what is true and what the systems don't show yet.
func end(w *bytes.Buffer, e canonical.Event, lens *mapping.Lens) {
	fmt.Fprintln(w, "in the end:")
	for _, f := range canonical.ContactFields() {
		if v := e.Contact.Field(f); v != "" {
			fmt.Fprintf(w, "   %s: %s\n", f, v)
		}
	}
	if len(e.Contact.Tags) > 0 {
		fmt.Fprintf(w, "   tags: %s\n", strings.Join(e.Contact.Tags, ", "))
	}
	for _, f := range slices.Sorted(maps.Keys(e.Sync.Flips)) {
		if e.Sync.Held(f) {
			fmt.Fprintf(w, "   %s is held\n", f)
		}
	}
	for _, s := range systems {
		base, known := e.Sync.Base[s]
		if !known || base.Gone {
			fmt.Fprintf(w, "%s has no record\n", s)
			continue
		}
		want := lens.Project(e.Contact, s, false)
		for _, f := range slices.Sorted(maps.Keys(want.Fields)) {
			shown := base.Fields[f]
			if r, ok := e.Sync.Rendered[s][f]; ok && r.Shown == shown {
				shown = r.Value
			}
			if shown != want.Fields[f] && !e.Sync.Held(f) {
				fmt.Fprintf(w, "%s is to show %s: %q\n", s, f, want.Fields[f])
			}
		}
		shown := slices.DeleteFunc(slices.Clone(base.Tags), func(tag string) bool { return s == canonical.Novi && lens.FromGroup(tag) })
		held := func(tag string) bool { return e.Sync.Held(canonical.TagField(tag)) }
		shown, want.Tags = slices.DeleteFunc(shown, held), slices.DeleteFunc(want.Tags, held)
		if !slices.Equal(shown, want.Tags) && base.Tagged {
			fmt.Fprintf(w, "%s is to show tags: %s\n", s, strings.Join(want.Tags, ", "))
		}
	}
}
