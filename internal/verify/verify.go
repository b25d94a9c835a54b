package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/ghlapi"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/internal/noviapi"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/streams"
)

// Stream reads CANONICAL; a [bus.Conn] is one.
type Stream interface {
	Last(ctx context.Context, stream, subject string) (bus.Stored, error)
	Scan(ctx context.Context, stream, filter string, since time.Time, each func(bus.Stored) error) error
	ScanLast(ctx context.Context, stream, filter string, each func(bus.Stored) error) error
}

// Config says what to compare. The zero value of what comes after Lens is
// usable.
type Config struct {
	Stream Stream
	Clock  clock.Clock
	Tenant canonical.Tenant
	Lens   *mapping.Lens
	// Policy says which kinds are carried where; nil switches nothing off.
	Policy *mapping.Policy
	// GHL and Novi read the two systems; nil means that the tenant has none.
	GHL  *ghlapi.Client
	Novi *noviapi.Client
	// CreateGHL and CreateNovi say whether what the system has no record of
	// is to be made there.
	CreateGHL, CreateNovi bool
	// One says that an entity is to have one record in a system at most: the
	// policy about duplicates is to delete them. Else it may have several, of
	// which the primary one is compared.
	One bool
	// FetchAll fetches every contact by id, instead of those only of which the
	// list does not show enough, and reads the notes and appointments of all in
	// GHL, instead of those only who are known to have any.
	FetchAll bool
	// Values puts the values that differ into the report. They are personal.
	Values bool
	// Settle is how long to wait before what was found is looked at once more;
	// 0 means 10 s, in which GHL's search index catches up.
	Settle time.Duration
	// Most is how many findings are enough; 0 means 1,000. What else seems
	// wrong is then counted and not looked at.
	Most int
	// Workers is how many entities are looked at side by side; 0 means 8.
	Workers int
}

// Kind says what is wrong.
type Kind string

// The kinds of findings.
const (
	Differs  Kind = "differs"   // the record shows other values than it ought to
	Missing  Kind = "missing"   // the entity has no record in a system where it is to have one
	Unlinked Kind = "unlinked"  // the record belongs to no entity
	DeadLink Kind = "dead_link" // the entity is linked to a record that is not there, or no person
	Doubled  Kind = "doubled"   // the entity is linked to several records of one system
	Shared   Kind = "shared"    // the record is linked to by several entities
)

// Finding is one thing that is wrong.
type Finding struct {
	Kind   Kind                                        `json:"kind"`
	Of     canonical.Kind                              `json:"of,omitempty"` // task, note or appointment; "" is a contact
	System canonical.System                            `json:"system"`
	Record canonical.ExternalID                        `json:"record,omitempty"`
	Entity canonical.CanonicalID                       `json:"entity,omitempty"`
	Links  map[canonical.System][]canonical.ExternalID `json:"links,omitempty"` // the entity's
	Fields []Field                                     `json:"fields,omitempty"`
}

// Field is one field that differs. The values are there if they were asked
// for.
type Field struct {
	Name  string `json:"name"`
	Want  string `json:"want,omitempty"`
	Shown string `json:"shown,omitempty"`
}

// Report is what a comparison came to.
type Report struct {
	Tenant   canonical.Tenant         `json:"tenant"`
	Entities int                      `json:"entities"` // those that are not deleted
	Records  map[canonical.System]int `json:"records"`  // people; other kinds of customers are not compared
	// Items counts the tasks, notes and appointments that were compared.
	Items    map[canonical.System]int `json:"items,omitempty"`
	Findings []Finding                `json:"findings"`
	// Unlooked counts what seems wrong and was not looked at because there
	// were findings enough.
	Unlooked int `json:"unlooked,omitempty"`
	// NotShown counts, by field, the records that say nothing of a field that
	// has a value, since the system or the API key does not have it. They are
	// no findings.
	NotShown map[canonical.System]map[string]int `json:"not_shown,omitempty"`
}

// Good reports whether nothing is wrong.
func (r Report) Good() bool { return len(r.Findings) == 0 && r.Unlooked == 0 }

// Converged compares a tenant's two systems with what the canonical state
// says that each ought to show.
func Converged(ctx context.Context, cfg Config) (Report, error) {
	if cfg.Settle == 0 {
		cfg.Settle = 10 * time.Second
	}
	if cfg.Most == 0 {
		cfg.Most = 1000
	}
	if cfg.Workers == 0 {
		cfg.Workers = 8
	}
	if cfg.Policy == nil {
		cfg.Policy = &mapping.Policy{}
	}
	v := &view{cfg: cfg, entities: map[canonical.CanonicalID]*entity{}, owners: map[ref]*owner{}, suspects: map[suspect]bool{},
		report: Report{Tenant: cfg.Tenant, Findings: []Finding{}, Records: map[canonical.System]int{}, NotShown: map[canonical.System]map[string]int{}},
	}
	v.comparer = comparer{lens: cfg.Lens, seed: maphash.MakeSeed(), unlisted: map[canonical.System][]string{}}
	if cfg.GHL != nil {
		s, unlisted, err := cfg.ghl(ctx)
		if err != nil {
			return Report{}, err
		}
		v.sides, v.unlisted[canonical.GHL] = append(v.sides, s), unlisted
	}
	if cfg.Novi != nil {
		v.sides = append(v.sides, cfg.novi())
	}
	if err := v.load(ctx); err != nil {
		return Report{}, err
	}
	if err := v.walk(ctx); err != nil {
		return Report{}, err
	}
	v.count()
	if err := v.loadItems(ctx); err != nil {
		return Report{}, err
	}
	entities, records, err := v.walkItems(ctx)
	if err != nil {
		return Report{}, err
	}
	found := map[suspect][]Finding{}
	for s := range v.suspects {
		found[s] = nil
	}
	var items []Finding
	for again := range 2 {
		if again > 0 {
			if len(found)+len(items) == 0 {
				break
			}
			if err := clock.Sleep(ctx, cfg.Clock, cfg.Settle); err != nil {
				return Report{}, err
			}
		}
		if found, err = v.look(ctx, slices.Collect(maps.Keys(found))); err != nil {
			return Report{}, err
		}
		if items, entities, records, err = v.lookItems(ctx, entities, records); err != nil {
			return Report{}, err
		}
	}
	v.report.Findings = append(v.report.Findings, items...)
	for _, f := range found {
		v.report.Findings = append(v.report.Findings, f...)
	}
	slices.SortFunc(v.report.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Entity, b.Entity), cmp.Compare(a.System, b.System), cmp.Compare(a.Record, b.Record), cmp.Compare(a.Kind, b.Kind))
	})
	return v.report, nil
}

// ref names a record.
type ref struct {
	system canonical.System
	id     canonical.ExternalID
}

// owner is the entity that a record is linked to, the first if several are.
type owner struct {
	id   canonical.CanonicalID
	seen bool // a list has shown the record
}

// entity is what is kept of an entity while the lists are read.
type entity struct {
	seq     uint64
	deleted bool
	at      []kept // by index in the view's sides
}

// kept is what is kept of an entity at one side.
type kept struct {
	links []canonical.ExternalID
	gone  bool
	want  want
}

// suspect is what seems wrong: an entity, or a record that has none.
type suspect struct {
	entity canonical.CanonicalID
	record ref
}

type view struct {
	comparer
	cfg   Config
	sides []*side
	since time.Time // of the newest event that was read, in the broker's time

	mu       sync.Mutex
	entities map[canonical.CanonicalID]*entity
	owners   map[ref]*owner
	suspects map[suspect]bool
	report   Report

	items      map[canonical.CanonicalID]*item
	itemOwners map[itemRef]canonical.CanonicalID // by reference without parent
}

// load reads the last state of every entity, or of those that have changed
// since the load before.
func (v *view) load(ctx context.Context) error {
	each := func(m bus.Stored) error {
		subject, err := streams.Parse(m.Subject)
		if err != nil {
			return err
		}
		state, err := canonical.DecodeEvent(m.Data)
		if err != nil {
			return fmt.Errorf("decode message %d of %s: %w", m.Seq, m.Stream, err)
		}
		if m.Time.After(v.since) {
			v.since = m.Time
		}
		v.keep(canonical.CanonicalID(subject.ID), m.Seq, state)
		return nil
	}
	if v.since.IsZero() {
		return v.cfg.Stream.ScanLast(ctx, streams.CANONICAL, streams.Contacts(v.cfg.Tenant), each)
	}
	return v.cfg.Stream.Scan(ctx, streams.CANONICAL, streams.Contacts(v.cfg.Tenant), v.since, each)
}

// keep notes an entity's state, unless a later one has been noted.
func (v *view) keep(id canonical.CanonicalID, seq uint64, state canonical.Event) {
	old := v.entities[id]
	if old != nil && old.seq >= seq {
		return
	}
	e := &entity{seq: seq, deleted: state.Contact.Deleted || state.MergedInto != ""}
	v.entities[id] = e
	for i, s := range v.sides {
		e.at = append(e.at, kept{links: state.Links[s.system], gone: state.Sync.Base[s.system].Gone, want: v.want(state, s.system)})
		if old != nil {
			for _, x := range old.at[i].links {
				if o := v.owners[ref{s.system, x}]; o != nil && o.id == id && !slices.Contains(e.at[i].links, x) {
					delete(v.owners, ref{s.system, x})
				}
			}
		}
		for _, x := range e.at[i].links {
			switch o := v.owners[ref{s.system, x}]; {
			case o == nil:
				v.owners[ref{s.system, x}] = &owner{id: id}
			case o.id != id:
				v.suspects[suspect{entity: id}] = true
			}
		}
	}
}

// walk reads both lists and notes what seems wrong.
func (v *view) walk(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	for i, s := range v.sides {
		g.Go(func() error { return s.list(gctx, func(r record) { v.row(i, r) }) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for id, e := range v.entities {
		for i, s := range v.sides {
			here := e.at[i]
			wrong := len(here.links) > 1 && v.cfg.One || len(here.links) == 0 && s.create && !here.gone
			for _, x := range here.links {
				o := v.owners[ref{s.system, x}]
				wrong = wrong || o == nil || !o.seen
			}
			if wrong && !e.deleted {
				v.suspects[suspect{entity: id}] = true
			}
		}
	}
	return nil
}

// row notes what the i-th side's list shows.
func (v *view) row(i int, r record) {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.sides[i]
	o := v.owners[ref{s.system, r.id}]
	switch {
	case o == nil && (r.shown.Skip != "" || r.shown.Inactive):
		return // what is inactive and linked to by nobody was removed
	case o == nil:
		v.suspects[suspect{record: ref{s.system, r.id}}] = true
		return
	case o.seen:
		return // pages overlap
	case r.shown.Skip != "":
		return // not the person that it is linked as
	}
	o.seen = true
	v.report.Records[s.system]++
	e := v.entities[o.id]
	if e.deleted {
		return
	}
	w := e.at[i].want
	differ, hidden := v.compare(w, s.system, r.shown)
	for _, f := range hidden {
		if slices.Contains(v.unlisted[s.system], f) {
			continue
		}
		if v.report.NotShown[s.system] == nil {
			v.report.NotShown[s.system] = map[string]int{}
		}
		v.report.NotShown[s.system][f]++
	}
	if len(differ) > 0 || v.cfg.FetchAll || !v.enough(w, s.system, r.shown, r.modified) {
		v.suspects[suspect{entity: o.id}] = true
	}
}

// count completes the report's numbers, once the lists are read.
func (v *view) count() {
	for _, e := range v.entities {
		if !e.deleted {
			v.report.Entities++
		}
	}
	for s := range v.suspects {
		if s.entity == "" {
			v.report.Records[s.record.system]++
		}
	}
}

// look fetches the records of suspects and returns what is wrong.
func (v *view) look(ctx context.Context, suspects []suspect) (map[suspect][]Finding, error) {
	if err := v.load(ctx); err != nil {
		return nil, err
	}
	for i, s := range suspects {
		if o := v.owners[s.record]; o != nil {
			suspects[i] = suspect{entity: o.id} // it has been linked since
		}
	}
	slices.SortFunc(suspects, func(a, b suspect) int {
		return cmp.Or(cmp.Compare(a.entity, b.entity), cmp.Compare(a.record.system, b.record.system), cmp.Compare(a.record.id, b.record.id))
	})
	suspects = slices.Compact(suspects)
	found, n := map[suspect][]Finding{}, 0
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(v.cfg.Workers)
	for _, s := range suspects {
		g.Go(func() error {
			v.mu.Lock()
			enough := n >= v.cfg.Most
			if enough {
				v.report.Unlooked++
			}
			v.mu.Unlock()
			if enough {
				return nil
			}
			list, err := v.lookAt(gctx, s)
			v.mu.Lock()
			defer v.mu.Unlock()
			if len(list) > 0 {
				found[s] = list
				n += len(list)
			}
			return err
		})
	}
	return found, g.Wait()
}

func (v *view) lookAt(ctx context.Context, s suspect) ([]Finding, error) {
	if s.entity != "" {
		return v.entity(ctx, s.entity)
	}
	i := slices.IndexFunc(v.sides, func(x *side) bool { return x.system == s.record.system })
	r, err := v.sides[i].get(ctx, s.record.id)
	switch {
	case apierr.ClassOf(err) == apierr.Gone:
		return nil, nil
	case err != nil:
		return nil, err
	case r.shown.Skip != "" || r.shown.Inactive:
		return nil, nil
	}
	return []Finding{{Kind: Unlinked, System: s.record.system, Record: s.record.id}}, nil
}

// entity compares an entity as it is now with its records as they are now.
func (v *view) entity(ctx context.Context, id canonical.CanonicalID) ([]Finding, error) {
	m, err := v.cfg.Stream.Last(ctx, streams.CANONICAL, streams.Entity(canonical.KindContact, v.cfg.Tenant, id))
	switch {
	case errors.Is(err, bus.ErrNotFound):
		return nil, nil // erased since
	case err != nil:
		return nil, fmt.Errorf("load entity %s: %w", id, err)
	}
	state, err := canonical.DecodeEvent(m.Data)
	if err != nil {
		return nil, fmt.Errorf("decode entity %s: %w", id, err)
	}
	if state.Contact.Deleted || state.MergedInto != "" {
		return nil, nil
	}
	var out []Finding
	for _, s := range v.sides {
		links := state.Links[s.system]
		base := state.Sync.Base[s.system]
		finding := func(kind Kind, x canonical.ExternalID, fields []Field) {
			out = append(out, Finding{Kind: kind, System: s.system, Record: x, Entity: id, Links: state.Links, Fields: fields})
		}
		switch {
		case len(links) == 0 && s.create && !base.Gone:
			finding(Missing, "", nil)
		case len(links) > 1 && v.cfg.One:
			finding(Doubled, "", nil)
		}
		for _, x := range links {
			if o := v.owners[ref{s.system, x}]; o != nil && o.id != id {
				finding(Shared, x, nil)
			}
			r, err := s.get(ctx, x)
			switch {
			case apierr.ClassOf(err) == apierr.Gone, err == nil && r.shown.Skip != "":
				finding(DeadLink, x, nil)
				continue
			case err != nil:
				return nil, err
			case len(links) > 1 && x != base.External:
				continue // the other one is kept up to date
			}
			if differ, _ := Compare(v.lens, state, s.system, r.shown); len(differ) > 0 {
				finding(Differs, x, v.fields(state, s.system, differ, r.shown))
			}
		}
	}
	return out, nil
}

func (v *view) fields(state canonical.Event, system canonical.System, names []string, shown mapping.Shown) []Field {
	wanted := v.wanted(state, system)
	var out []Field
	for _, name := range names {
		f := Field{Name: name}
		switch {
		case !v.cfg.Values:
		case name == tagsField:
			f.Want, f.Shown = fmt.Sprint(state.Contact.Tags), fmt.Sprint(shown.Tags)
		default:
			f.Want, f.Shown = wanted[name], shown.Fields[name]
		}
		out = append(out, f)
	}
	return out
}
