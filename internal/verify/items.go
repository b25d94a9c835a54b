package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/ghlapi"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/internal/noviapi"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

// contactField is the name under which a finding says that an item hangs on
// somebody else's record.
const contactField = "contact"

const (
	taskPage = 100 // the most that GHL gives (dossier GHL §3.8)
	// taskOverlap is how many rows pages share: no order is promised.
	taskOverlap = 10
	// maxTasks bounds the walk, should the search pay no heed to skip.
	maxTasks = 1_000_000
)

// item is what is kept of a task, a note or an appointment.
type item struct {
	kind    canonical.Kind
	seq     uint64
	contact canonical.CanonicalID
	live    bool
	seen    []bool // by index in the view's sides: a list has shown its record
	links   [][]canonical.ExternalID
	parents []canonical.ExternalID // the record that it hangs on there
	wants   [][]uint64             // by index in the kind's bindings, 0 for what is not compared
}

// itemRef names an item's record.
type itemRef struct {
	kind   canonical.Kind
	side   int
	parent canonical.ExternalID
	id     canonical.ExternalID
}

// loadItems reads the last state of every item.
func (v *view) loadItems(ctx context.Context) error {
	v.items, v.itemOwners = map[canonical.CanonicalID]*item{}, map[itemRef]canonical.CanonicalID{}
	for _, kind := range canonical.Items() {
		if err := v.cfg.Stream.ScanLast(ctx, streams.CANONICAL, streams.EntitiesOf(kind, v.cfg.Tenant), func(m bus.Stored) error {
			state, err := canonical.DecodeEvent(m.Data)
			if err != nil {
				return fmt.Errorf("decode message %d of %s: %w", m.Seq, m.Stream, err)
			}
			v.keepItem(m.Seq, state)
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

func (v *view) keepItem(seq uint64, state canonical.Event) {
	if old := v.items[state.ID()]; old != nil && old.seq >= seq {
		return
	}
	x := &item{kind: state.Kind(), seq: seq, contact: state.ContactID(), live: !state.Deleted() && state.MergedInto == "", seen: make([]bool, len(v.sides))}
	v.items[state.ID()] = x
	for i, s := range v.sides {
		x.links, x.parents = append(x.links, state.Links[s.system]), append(x.parents, state.Sync.Base[s.system].Parent)
		for _, id := range state.Links[s.system] {
			v.itemOwners[itemRef{kind: x.kind, side: i, id: id}] = state.ID()
		}
		wanted := v.cfg.Lens.ProjectEvent(state, s.system, false).Fields
		bindings := v.cfg.Lens.BindingsOf(x.kind)
		hashes := make([]uint64, len(bindings))
		for b, binding := range bindings {
			if value, compared := wanted[binding.Field]; compared {
				hashes[b] = v.hashItem(binding, value) + 1
			}
		}
		x.wants = append(x.wants, hashes)
	}
}

func (v *view) hashItem(b mapping.Binding, value string) uint64 {
	if b.Convert == mapping.Rich {
		value = mapping.Reads(value)
	}
	return min(v.hash(value), uncompared-1)
}

// walkItems reads what both systems list of items, and returns the entities
// and the records that seem wrong. GHL lists notes and appointments by contact
// only: those of contacts that are known to have any are read, or of all with
// FetchAll.
func (v *view) walkItems(ctx context.Context) (entities map[canonical.CanonicalID]bool, records map[itemRef]bool, err error) {
	entities, records = map[canonical.CanonicalID]bool{}, map[itemRef]bool{}
	row := func(r itemRef, shown mapping.Shown) {
		v.mu.Lock()
		defer v.mu.Unlock()
		id := v.itemOwners[itemRef{kind: r.kind, side: r.side, id: r.id}]
		x := v.items[id]
		switch {
		case x == nil:
			records[r] = true
			return
		case x.seen[r.side]:
			return // pages overlap
		}
		x.seen[r.side] = true
		if v.report.Items == nil {
			v.report.Items = map[canonical.System]int{}
		}
		v.report.Items[v.sides[r.side].system]++
		if !x.live {
			return
		}
		owner := v.owners[ref{v.sides[r.side].system, shown.Parent}]
		wrong := owner == nil || owner.id != x.contact
		for b, binding := range v.cfg.Lens.BindingsOf(r.kind) {
			value, covered := shown.Fields[binding.Field]
			want := x.wants[r.side][b]
			wrong = wrong || covered && want != 0 && want != v.hashItem(binding, value)+1
		}
		if wrong {
			entities[id] = true
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	for i, s := range v.sides {
		g.Go(func() error {
			if s.system == canonical.GHL {
				return v.listGHL(gctx, i, row)
			}
			return v.listNovi(gctx, i, row)
		})
	}
	if err := g.Wait(); err != nil {
		return nil, nil, err
	}
	for id, x := range v.items {
		for i := range v.sides {
			if x.live && (len(x.links[i]) > 0 && !x.seen[i] || len(x.links[i]) == 0 && v.due(x, i)) {
				entities[id] = true
			}
		}
	}
	return entities, records, nil
}

// due reports whether an item that has no record at a side is to have one.
func (v *view) due(x *item, side int) bool {
	contact := v.entities[x.contact]
	return contact != nil && !contact.deleted && len(contact.at[side].links) > 0 && v.cfg.Policy.Syncs(x.kind, v.sides[side].system)
}

func (v *view) listGHL(ctx context.Context, side int, row func(itemRef, mapping.Shown)) error {
	for skip := 0; skip < maxTasks; skip += taskPage - taskOverlap {
		found, err := try(ctx, v.cfg.Clock, func() ([]ghlapi.Record, error) {
			return v.cfg.GHL.SearchTasks(ctx, lane, ghlapi.TaskSearch{Limit: taskPage, Skip: skip})
		})
		if err != nil {
			return err
		}
		if err := v.ghlRows(canonical.KindTask, observation.GHLTaskSearch, "", side, found, row); err != nil {
			return err
		}
		if len(found) < taskPage {
			break
		}
	}
	for _, kind := range []canonical.Kind{canonical.KindNote, canonical.KindAppointment} {
		for _, contact := range v.having(kind, side) {
			list, endpoint := v.cfg.GHL.Notes, observation.GHLNoteGet
			if kind == canonical.KindAppointment {
				list, endpoint = v.cfg.GHL.ContactAppointments, observation.GHLAppointmentGet
			}
			found, err := try(ctx, v.cfg.Clock, func() ([]ghlapi.Record, error) { return list(ctx, lane, string(contact)) })
			if apierr.ClassOf(err) == apierr.Gone {
				continue // which the contact's own finding says
			}
			if err != nil {
				return err
			}
			if err := v.ghlRows(kind, endpoint, contact, side, found, row); err != nil {
				return err
			}
		}
	}
	return nil
}

// having returns the records at a side of contacts that have items of kind, or
// of all.
func (v *view) having(kind canonical.Kind, side int) []canonical.ExternalID {
	contacts := map[canonical.CanonicalID]bool{}
	for _, x := range v.items {
		if x.kind == kind && x.live {
			contacts[x.contact] = true
		}
	}
	var out []canonical.ExternalID
	for id, e := range v.entities {
		if !e.deleted && (v.cfg.FetchAll || contacts[id]) {
			out = append(out, e.at[side].links...)
		}
	}
	return out
}

func (v *view) ghlRows(kind canonical.Kind, endpoint string, contact canonical.ExternalID, side int, found []ghlapi.Record, row func(itemRef, mapping.Shown)) error {
	for _, r := range found {
		parent := cmp.Or(canonical.ExternalID(r.ContactID), contact)
		shown, err := v.cfg.Lens.Show(observation.Observation{System: canonical.GHL, Kind: kind, ExternalID: canonical.ExternalID(r.ID), Endpoint: endpoint, Parent: parent, Record: r.Raw})
		if err != nil {
			return err
		}
		row(itemRef{kind, side, shown.Parent, canonical.ExternalID(r.ID)}, shown)
	}
	return nil
}

func (v *view) listNovi(ctx context.Context, side int, row func(itemRef, mapping.Shown)) error {
	types, err := try(ctx, v.cfg.Clock, func() ([]noviapi.ActivityType, error) { return v.cfg.Novi.ActivityTypes(ctx, lane) })
	if err != nil {
		return err
	}
	kinds := map[string]canonical.Kind{}
	for _, t := range types {
		for _, kind := range canonical.Items() {
			if strings.EqualFold(t.Name, mapping.ActivityTypes[kind]) || t.Task && kind == canonical.KindTask {
				kinds[strings.ToLower(t.Name)], kinds[strings.ToLower(t.Slug)] = kind, kind
			}
		}
	}
	delete(kinds, "")
	for offset, walks, total := 0, 1, -1; ; {
		page, err := try(ctx, v.cfg.Clock, func() (noviapi.ActivityPage, error) {
			return v.cfg.Novi.ListActivities(ctx, lane, noviapi.ActivityRequest{Offset: offset, PageSize: noviPage})
		})
		if err != nil {
			return err
		}
		for _, r := range page.Activities {
			kind := kinds[strings.ToLower(r.Type)]
			if kind == "" {
				continue
			}
			shown, err := v.noviShow(kind, observation.NoviActivityList, r)
			if err != nil {
				return err
			}
			row(itemRef{kind, side, shown.Parent, canonical.ExternalID(r.ID)}, shown)
		}
		moved := offset > 0 && page.TotalCount != total
		total = page.TotalCount
		switch {
		case moved && walks < noviWalks:
			walks++
			offset = 0
		case len(page.Activities) < noviPage:
			return nil
		default:
			offset += noviPage - noviOverlap
		}
	}
}

func (v *view) noviShow(kind canonical.Kind, endpoint string, r noviapi.Record) (mapping.Shown, error) {
	return v.cfg.Lens.Show(observation.Observation{System: canonical.Novi, Kind: kind, ExternalID: canonical.ExternalID(r.ID), Endpoint: endpoint,
		Parent: canonical.ExternalID(r.MemberID), Record: r.Raw})
}

// getItem returns an item's record as it is now; the class of its error is
// Gone if it is not there.
func (v *view) getItem(ctx context.Context, r itemRef) (mapping.Shown, error) {
	if v.sides[r.side].system == canonical.Novi {
		rec, err := try(ctx, v.cfg.Clock, func() (noviapi.Record, error) { return v.cfg.Novi.GetActivity(ctx, lane, string(r.id)) })
		if err != nil {
			return mapping.Shown{}, err
		}
		return v.noviShow(r.kind, observation.NoviActivityGet, rec)
	}
	endpoint := observation.GHLNoteGet
	rec, err := try(ctx, v.cfg.Clock, func() (ghlapi.Record, error) {
		switch r.kind {
		case canonical.KindTask:
			endpoint = observation.GHLTaskGet
			return v.cfg.GHL.GetTask(ctx, lane, string(r.parent), string(r.id))
		case canonical.KindAppointment:
			endpoint = observation.GHLAppointmentGet
			return v.cfg.GHL.GetAppointment(ctx, lane, string(r.id))
		}
		return v.cfg.GHL.GetNote(ctx, lane, string(r.parent), string(r.id))
	})
	if err != nil {
		return mapping.Shown{}, err
	}
	return v.cfg.Lens.Show(observation.Observation{System: canonical.GHL, Kind: r.kind, ExternalID: r.id, Endpoint: endpoint,
		Parent: cmp.Or(canonical.ExternalID(rec.ContactID), r.parent), Record: rec.Raw})
}

// lookItems fetches what seems wrong and returns what is.
func (v *view) lookItems(ctx context.Context, entities map[canonical.CanonicalID]bool, records map[itemRef]bool) ([]Finding, map[canonical.CanonicalID]bool, map[itemRef]bool, error) {
	stillE, stillR := map[canonical.CanonicalID]bool{}, map[itemRef]bool{}
	var out []Finding
	if len(entities)+len(records) == 0 {
		return nil, stillE, stillR, nil
	}
	if err := v.loadItems(ctx); err != nil {
		return nil, nil, nil, err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(v.cfg.Workers)
	look := func(found func() ([]Finding, error), note func()) {
		g.Go(func() error {
			v.mu.Lock()
			enough := len(out) >= v.cfg.Most
			if enough {
				v.report.Unlooked++
			}
			v.mu.Unlock()
			if enough {
				return nil
			}
			list, err := found()
			v.mu.Lock()
			defer v.mu.Unlock()
			if len(list) > 0 {
				note()
				out = append(out, list...)
			}
			return err
		})
	}
	for r := range records {
		owner, linked := v.itemOwners[itemRef{kind: r.kind, side: r.side, id: r.id}]
		if linked {
			entities[owner] = true // since the list was read
			continue
		}
		look(func() ([]Finding, error) { return v.unlinkedItem(gctx, r) }, func() { stillR[r] = true })
	}
	for id := range entities {
		look(func() ([]Finding, error) { return v.lookAtItem(gctx, id) }, func() { stillE[id] = true })
	}
	return out, stillE, stillR, g.Wait()
}

// unlinkedItem says that a record belongs to no entity, if it is of a kind
// that is carried over to the other system.
func (v *view) unlinkedItem(ctx context.Context, r itemRef) ([]Finding, error) {
	system := v.sides[r.side].system
	if !v.cfg.Policy.Syncs(r.kind, system.Other()) {
		return nil, nil
	}
	_, err := v.getItem(ctx, r)
	switch {
	case apierr.ClassOf(err) == apierr.Gone:
		return nil, nil
	case err != nil:
		return nil, err
	}
	return []Finding{{Kind: Unlinked, Of: r.kind, System: system, Record: r.id}}, nil
}

// lookAtItem compares an item as it is now with its records as they are now.
func (v *view) lookAtItem(ctx context.Context, id canonical.CanonicalID) ([]Finding, error) {
	kept := v.items[id]
	if kept == nil {
		return nil, nil // erased since
	}
	m, err := v.cfg.Stream.Last(ctx, streams.CANONICAL, streams.Entity(kept.kind, v.cfg.Tenant, id))
	switch {
	case errors.Is(err, bus.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("load %s %s: %w", kept.kind, id, err)
	}
	state, err := canonical.DecodeEvent(m.Data)
	if err != nil {
		return nil, fmt.Errorf("decode %s %s: %w", kept.kind, id, err)
	}
	if state.Deleted() || state.MergedInto != "" {
		return nil, nil
	}
	var out []Finding
	for i, s := range v.sides {
		finding := func(kind Kind, x canonical.ExternalID, fields []Field) {
			out = append(out, Finding{Kind: kind, Of: kept.kind, System: s.system, Record: x, Entity: id, Links: state.Links, Fields: fields})
		}
		links, base := state.Links[s.system], state.Sync.Base[s.system]
		if len(links) == 0 && !base.Gone && v.due(kept, i) {
			finding(Missing, "", nil)
		}
		for _, x := range links {
			shown, err := v.getItem(ctx, itemRef{kept.kind, i, base.Parent, x})
			switch {
			case apierr.ClassOf(err) == apierr.Gone:
				finding(DeadLink, x, nil)
				continue
			case err != nil:
				return nil, err
			}
			if fields := v.itemFields(state, s.system, shown); len(fields) > 0 {
				finding(Differs, x, fields)
			}
		}
	}
	return out, nil
}

// itemFields returns the fields that an item's record shows other than it
// ought to.
func (v *view) itemFields(state canonical.Event, system canonical.System, shown mapping.Shown) []Field {
	var out []Field
	add := func(name, want, got string) {
		f := Field{Name: name}
		if v.cfg.Values {
			f.Want, f.Shown = want, got
		}
		out = append(out, f)
	}
	if o := v.owners[ref{system, shown.Parent}]; state.ContactID() != "" && (o == nil || o.id != state.ContactID()) {
		add(contactField, string(state.ContactID()), string(shown.Parent))
	}
	wanted := v.cfg.Lens.ProjectEvent(state, system, false).Fields
	for _, b := range v.cfg.Lens.BindingsOf(state.Kind()) {
		want, compared := wanted[b.Field]
		got, covered := shown.Fields[b.Field]
		if !compared || !covered || v.cfg.Lens.Same(state.Kind(), b.Field, want, got) {
			continue
		}
		if r, ok := state.Sync.Rendered[system][b.Field]; ok && r.Value == want && r.Shown == got {
			continue
		}
		add(b.Field, want, got)
	}
	return slices.Clip(out)
}
