package merge_test

import (
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/effect"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/sink/plan"
	"github.com/causeway-sync/causeway/transform/merge"
)

const tenant = "alpine-guild"

var systems = []canonical.System{canonical.GHL, canonical.Novi}

// tester is what the model needs of a test, whoever plays it.
type tester interface {
	Fatalf(format string, args ...any)
}

// record is what one system shows of the person, or of an item.
type record struct {
	fields   map[string]string
	tags     []string // sorted
	modified int64    // 0 where the system doesn't say
	missing  bool     // nobody has made it yet
	gone     bool     // it was deleted
}

func (r record) there() bool { return !r.missing && !r.gone }

// world is two systems as small states, sights of them on their way in any
// order, the real merge, and a sink that writes what the real plan says.
// Whoever plays it decides what happens next.
type world struct {
	t      tester
	policy merge.Policy
	fields []string // what the systems have
	// only says what each has, where that isn't the same.
	only map[canonical.System][]string
	tags []string
	// spell is how a system stores what it is told.
	spell func(s canonical.System, field, value string) string

	now  int64
	skew map[canonical.System]int64 // of the system's clock
	side map[canonical.System]record
	last map[canonical.System]effect.Effect
	// linked says where the contact of an item is known, contactGone where it
	// was deleted.
	linked, contactGone map[canonical.System]bool

	flight []merge.Seen
	seq    uint64
	state  canonical.Event

	past     []merge.Seen
	versions []canonical.Event
	fighting []string
	writes   int
	edits    int
	creates  int
}

func newWorld(t tester, policy merge.Policy, fields, tags []string) *world {
	w := &world{t: t, policy: policy, fields: fields, tags: tags, now: 1_000_000_000, skew: map[canonical.System]int64{},
		side: map[canonical.System]record{}, last: map[canonical.System]effect.Effect{},
		linked: map[canonical.System]bool{}, contactGone: map[canonical.System]bool{}}
	w.state.Contact.ID = canonical.NewID(tenant, canonical.KindContact, canonical.GHL, "g1")
	for _, s := range systems {
		w.side[s] = record{fields: map[string]string{}, modified: w.now}
	}
	return w
}

// fork returns a world that goes its own way from here. What is in the maps'
// values is never changed in place.
func (w *world) fork() *world {
	f := *w
	f.side, f.last = maps.Clone(w.side), maps.Clone(w.last)
	f.linked, f.contactGone = maps.Clone(w.linked), maps.Clone(w.contactGone)
	f.flight, f.versions, f.past = slices.Clone(w.flight), slices.Clip(w.versions), slices.Clip(w.past)
	return &f
}

func (w *world) fieldsOf(s canonical.System) []string {
	if only, differs := w.only[s]; differs {
		return only
	}
	return w.fields
}

func (w *world) has(s canonical.System, tag string) bool {
	return slices.Contains(w.side[s].tags, tag)
}

// set is a person's change of a field. One that is quiet doesn't touch the
// record's modified time.
func (w *world) set(s canonical.System, field, value string, quiet bool) {
	r := w.side[s]
	r.fields = maps.Clone(r.fields)
	r.fields[field] = value
	w.touch(s, r, quiet)
}

// tag is a person's change of a tag.
func (w *world) tag(s canonical.System, tag string, present, quiet bool) {
	r := w.side[s]
	r.tags = slices.DeleteFunc(slices.Clone(r.tags), func(x string) bool { return x == tag })
	if present {
		r.tags = append(r.tags, tag)
		slices.Sort(r.tags)
	}
	w.touch(s, r, quiet)
}

// remove is a person's delete.
func (w *world) remove(s canonical.System) {
	r := w.side[s]
	r.gone = true
	w.touch(s, r, true)
}

func (w *world) touch(s canonical.System, r record, quiet bool) {
	w.edits++
	if !quiet && w.state.Kind() == canonical.KindContact {
		r.modified = max(r.modified+1, w.now+w.skew[s])
	}
	w.side[s] = r
}

func external(s canonical.System) canonical.ExternalID { return canonical.ExternalID(s[:1] + "1") }

func (w *world) look(s canonical.System, via observation.Via) merge.Seen {
	r := w.side[s]
	if r.gone {
		return merge.Seen{System: s, External: external(s), Via: via, Absent: true, ParentGone: w.contactGone[s], At: canonical.Read{AsOf: w.now}}
	}
	shown := mapping.Shown{Fields: make(map[string]string, len(w.fields))}
	if w.state.Kind() == canonical.KindContact {
		shown.Tagged, shown.Grouped, shown.Tags = true, true, r.tags
	} else {
		shown.Parent = "p-" + external(s)
	}
	for _, f := range w.fieldsOf(s) {
		shown.Fields[f] = r.fields[f] // covered, though it be empty
	}
	return merge.Seen{System: s, External: external(s), Via: via, Shown: shown, At: canonical.Read{Modified: r.modified, AsOf: w.now}}
}

// observe sends a sight of the system on its way.
func (w *world) observe(s canonical.System) {
	if w.side[s].missing {
		return
	}
	w.flight = append(w.flight, w.look(s, observation.Fetch))
}

// deliver merges one of the sights under way; one that is doubled stays.
func (w *world) deliver(i int, doubled bool) {
	seen := w.flight[i]
	if !doubled {
		w.flight = slices.Delete(slices.Clone(w.flight), i, i+1)
	}
	w.merge(seen)
}

// merge merges seen, and holds the laws that hold at every step.
func (w *world) merge(seen merge.Seen) merge.Outcome {
	if w.linked[seen.System] && !seen.Absent {
		seen.Contact = "c"
	}
	// The sink's own come again as redeliveries only; a sight may be published
	// twice.
	if w.seq++; seen.At.Seq == 0 || seen.Via == observation.Fetch {
		seen.At.Seq = w.seq
	}
	before := w.state
	next, out := merge.Apply(before, seen, w.policy)
	if out.Op == "" {
		if !reflect.DeepEqual(next, before) {
			w.t.Fatalf("nothing is to be published, and the state changed:\n%s", cmp.Diff(before, next))
		}
		return out
	}
	if next.Version != before.Version+1 {
		w.t.Fatalf("version %d follows %d", next.Version, before.Version)
	}
	if again, second := merge.Apply(next, seen, w.policy); second.Op != "" && !merge.Unguarded() {
		w.t.Fatalf("merged twice, it changes something again: %s\n%s", second.Op, cmp.Diff(next, again))
	}
	if out.Fighting != "" {
		w.fighting = append(w.fighting, out.Fighting)
	}
	w.state = next
	w.past = append(w.past, seen)
	w.versions = append(w.versions, next)
	return out
}

// write does what the sink does: it reads first, and if the record is not what
// is known of it, it lets the merge speak. It reports whether it wrote.
func (w *world) write(s canonical.System) bool {
	kind := w.state.Kind()
	item := kind != canonical.KindContact
	if _, known := w.state.Sync.Base[s]; !known && !item || item && (w.state.ContactID() == "" || !w.linked[s] || w.contactGone[s]) {
		return false
	}
	x := plan.Expect(w.state, s, w.last[s])
	p := plan.For(w.state, s, w.policy.Lens, x, item, w.policy.Rules)
	switch {
	case p.Empty():
		return false
	case p.Delete, p.Create:
	case w.side[s].gone, plan.Moved(kind, w.policy.Lens, x, w.look(s, observation.Fetch).Shown):
		w.observe(s)
		return false
	}
	// The sink has ended its last write before it says what it writes next.
	for i := 0; i < len(w.flight); {
		if w.flight[i].System == s && w.flight[i].Via == observation.Writeback {
			w.deliver(i, false)
			continue
		}
		i++
	}
	r := w.side[s]
	w.writes++
	if p.Delete {
		w.now++ // after what was read a moment ago
		r.gone = true
		w.side[s] = r
		w.last[s] = effect.Effect{System: s, State: effect.Done, External: external(s), Delete: true, At: time.UnixMicro(w.now)}
		w.flight = append(w.flight, w.look(s, observation.Writeback))
		return true
	}
	if p.Create {
		w.creates++
		r.missing = false
	}
	wrote := maps.Clone(p.Fields)
	r.fields = maps.Clone(r.fields)
	for f, v := range p.Fields {
		if r.fields[f] = v; w.spell != nil {
			r.fields[f] = w.spell(s, f, v)
		}
	}
	for _, tag := range p.AddTags {
		wrote[canonical.TagField(tag)] = "true"
	}
	for _, tag := range p.RemoveTags {
		wrote[canonical.TagField(tag)] = ""
	}
	if p.Tags != nil {
		r.tags = slices.Sorted(slices.Values(*p.Tags))
	}
	w.merge(merge.Seen{System: s, Via: observation.Intent, Wrote: wrote, At: canonical.Read{AsOf: w.now}})
	w.now++
	if !item {
		r.modified = max(r.modified+1, w.now+w.skew[s])
	}
	w.side[s] = r
	w.last[s] = effect.Effect{System: s, State: effect.Done, External: external(s), Wrote: p.Fields, TagsAdded: p.AddTags, TagsRemoved: p.RemoveTags,
		At: time.UnixMicro(w.now)}
	w.now++
	back := w.look(s, observation.Writeback)
	back.Wrote, back.Atomic = wrote, true
	w.flight = append(w.flight, back)
	return true
}

// settle lets everything arrive and be written, without further edits, and
// reports whether it became quiet.
func (w *world) settle() bool {
	for range 20 {
		for _, s := range systems {
			w.now++
			w.observe(s)
		}
		for len(w.flight) > 0 {
			w.deliver(0, false)
		}
		if a, b := w.write(canonical.GHL), w.write(canonical.Novi); !a && !b && len(w.flight) == 0 {
			return true
		}
	}
	return false
}

// same reports whether both systems show what is canonical, or names what
// differs. A record that is not there shows nothing.
func (w *world) same() (string, bool) {
	for _, s := range systems {
		r := w.side[s]
		if !r.there() {
			continue
		}
		for _, f := range w.fieldsOf(s) {
			if !w.policy.Lens.Same(w.state.Kind(), f, r.fields[f], w.state.Field(f)) {
				return f, false
			}
		}
		if !slices.Equal(r.tags, w.policy.Lens.Project(w.state.Contact, s, false).Tags) {
			return "tags", false
		}
	}
	if slices.ContainsFunc(w.state.Contact.Tags, w.policy.Lens.Derives) {
		return "derived tags", false
	}
	return "", true
}
