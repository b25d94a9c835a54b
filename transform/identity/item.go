package identity

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/streams"
)

// Contact returns the contact that a record of system is linked to, or "".
func (v *Resolver) Contact(ctx context.Context, tenant canonical.Tenant, system canonical.System, record canonical.ExternalID) (canonical.CanonicalID, error) {
	id, err := v.get(ctx, streams.LinkKey(tenant, canonical.KindContact, system, record))
	if err != nil || id == "" {
		return "", err
	}
	return v.Now(ctx, tenant, id)
}

// Now follows a contact that was merged to the one that it is now. One that
// has been looked up once is known to be itself, until this instance hears
// that it was merged.
func (v *Resolver) Now(ctx context.Context, tenant canonical.Tenant, id canonical.CanonicalID) (canonical.CanonicalID, error) {
	now, _ := v.follow(id)
	if v.itself.Contains(now) {
		return now, nil
	}
	state, ok, err := v.entity(ctx, Record{Tenant: tenant, Kind: canonical.KindContact}, id)
	if err != nil || !ok {
		return now, err
	}
	v.itself.Add(state.ID(), true)
	return state.ID(), nil
}

// Hang notes that an item hangs on a record, so that it can be told when that
// record is linked. The note has to be there before a contact that isn't known
// is looked up once more: then whoever links it sees the note, or the look sees
// the link. So for such a one Hang waits, and forgets that it wasn't there.
func (v *Resolver) Hang(ctx context.Context, r Record, id canonical.CanonicalID) error {
	if r.Contact == "" {
		taking := v.taking
		v.taking = nil
		defer func() { v.taking = taking }()
		delete(v.absences, streams.LinkKey(r.Tenant, canonical.KindContact, r.System, r.Shown.Parent))
	}
	_, err := v.claim(ctx, childOf(r, id), id)
	return err
}

func childOf(r Record, id canonical.CanonicalID) string {
	return childrenOf(r.Tenant, r.System, r.Shown.Parent) + "." + string(r.Kind) + "." + string(id)
}

func childrenOf(tenant canonical.Tenant, system canonical.System, parent canonical.ExternalID) string {
	return string(tenant) + ".child." + string(system) + "." + streams.Token(string(parent))
}

// Children returns the items that were seen to hang on a record, by kind and
// id. It may be called from any goroutine.
func (v *Resolver) Children(ctx context.Context, tenant canonical.Tenant, system canonical.System, parent canonical.ExternalID) (map[canonical.CanonicalID]canonical.Kind, error) {
	keys, err := v.claims.Keys(ctx, childrenOf(tenant, system, parent)+".*.*")
	if err != nil {
		return nil, fmt.Errorf("list children: %w", err)
	}
	out := make(map[canonical.CanonicalID]canonical.Kind, len(keys))
	for _, key := range keys {
		parts := strings.Split(key, ".")
		out[canonical.CanonicalID(parts[len(parts)-1])] = canonical.Kind(parts[len(parts)-2])
	}
	return out, nil
}

// Creating notes that a record of entity is about to be made under parent, or,
// if parent is "", that it has been made, or won't be. Until then a record
// that appears there may be that one; see [Resolver.Expecting]. What is about
// to be made hangs there from then on, so that other instances find it.
func (v *Resolver) Creating(ctx context.Context, tenant canonical.Tenant, kind canonical.Kind, system canonical.System, parent canonical.ExternalID, entity canonical.CanonicalID) error {
	who := string(system) + "." + string(entity)
	if at, ok := v.creatingAt[who]; ok {
		delete(v.creating[at], entity)
		if len(v.creating[at]) == 0 {
			delete(v.creating, at)
		}
		delete(v.creatingAt, who)
	}
	if parent == "" {
		return nil
	}
	at := creatingKey(tenant, kind, system, parent)
	if v.creating[at] == nil {
		v.creating[at] = map[canonical.CanonicalID]bool{}
	}
	v.creating[at][entity] = true
	v.creatingAt[who] = at
	return v.Hang(ctx, Record{Tenant: tenant, Kind: kind, System: system, Shown: mapping.Shown{Parent: parent}}, entity)
}

func creatingKey(tenant canonical.Tenant, kind canonical.Kind, system canonical.System, parent canonical.ExternalID) string {
	return string(tenant) + "." + string(kind) + "." + string(system) + "." + string(parent)
}

// Expecting reports whether r is linked to nobody while a record like it is
// being made by us: whose it is will be known when that is done. What this
// instance hasn't heard of, because it was started since or another heard it,
// is in the states of what hangs on the record's parent.
func (v *Resolver) Expecting(ctx context.Context, r Record) (bool, error) {
	parent := r.Shown.Parent
	if r.Entity != "" || r.Absent || parent == "" {
		return false, nil
	}
	if id, err := v.get(ctx, streams.LinkKey(r.Tenant, r.Kind, r.System, r.External)); err != nil || id != "" {
		return false, err
	}
	if len(v.creating[creatingKey(r.Tenant, r.Kind, r.System, parent)]) > 0 {
		return true, nil
	}
	children, err := v.Children(ctx, r.Tenant, r.System, parent)
	if err != nil {
		return false, err
	}
	for id, kind := range children {
		if kind != r.Kind || v.linked.Contains(string(r.System)+"."+string(id)) {
			continue // of another kind, or made already
		}
		state, ok, err := v.entities(ctx, r.Tenant, kind, id)
		if err != nil {
			return false, err
		}
		if w := state.Sync.Writing[r.System]; ok && w.Creates && w.Parent == parent && len(state.Links[r.System]) == 0 {
			return true, nil
		}
	}
	return false, nil
}

// twins is how many items that hang on one contact and say the same are told
// apart. Each holds a key of its own, in the order in which they were seen, so
// that as many of the other system's find one each.
const twins = 8

// itemKey is the n-th key of what an item is known by that both systems had
// before we came: its contact and what it says.
func (v *Resolver) itemKey(r Record, n int) identityKey {
	says := mapping.Says(r.Kind, func(f string) string { return r.Shown.Fields[f] })
	values := []string{string(r.Contact), says}
	if n > 0 {
		values = append(values, strconv.Itoa(n))
	}
	return identityKey{name: streams.ClaimKey(r.Tenant, string(r.Kind), values...), holds: func(s canonical.Event) bool {
		if s.Deleted() || !v.hangsOn(s, r.Contact) {
			return false
		}
		if mapping.Says(r.Kind, s.Field) == says {
			return true
		}
		for _, b := range s.Sync.Base {
			if !b.Gone && mapping.Says(r.Kind, func(f string) string { return b.Fields[f] }) == says {
				return true
			}
		}
		return false
	}}
}

// hangsOn reports whether an item hangs on the contact, by its state, or since,
// by what was resolved here and isn't in the state yet.
func (v *Resolver) hangsOn(s canonical.Event, contact canonical.CanonicalID) bool {
	on := s.ContactID()
	if since, is := v.hangs.Get(s.ID()); is {
		on = since
	}
	now, _ := v.follow(on)
	return now == contact
}

// findItem looks for an item that says what r says and has no record in r's
// system.
func (v *Resolver) findItem(ctx context.Context, r Record) (canonical.CanonicalID, error) {
	for n := range twins {
		if r.Contact == "" {
			break
		}
		key := v.itemKey(r, n)
		holder, err := v.get(ctx, key.name)
		if err != nil || holder == "" {
			return "", err
		}
		who, state, ok, err := v.holder(ctx, r, key, holder)
		if err != nil {
			return "", err
		}
		if who == "" || ok && !key.holds(state) || v.linkedElsewhere(r, who, state) {
			continue
		}
		return who, nil // also if it is claimed by an observation that is on its way
	}
	return "", nil
}

// holder returns who holds a key now, with its state if there is one yet, or ""
// if that was erased.
func (v *Resolver) holder(ctx context.Context, r Record, key identityKey, id canonical.CanonicalID) (who canonical.CanonicalID, state canonical.Event, ok bool, err error) {
	if state, ok, err = v.entity(ctx, r, id); err != nil || ok {
		return state.ID(), state, ok, err
	}
	if gone, err := v.erased(ctx, key.name, id); err != nil || gone {
		return "", state, false, err
	}
	who, _ = v.follow(id)
	return who, state, false, nil
}

// claimItem claims what an item is known by: a record that is linked already
// the first key if nobody else does, a new one the first that is free.
func (v *Resolver) claimItem(ctx context.Context, r Record, id canonical.CanonicalID, linked bool) error {
	if r.Contact == "" {
		return nil
	}
	v.hangs.Add(id, r.Contact)
	for n := range twins {
		holder, err := v.hold(ctx, r, v.itemKey(r, n), id)
		if err != nil {
			return err
		}
		if now, _ := v.follow(holder); linked || now == "" || now == id {
			return nil
		}
	}
	return nil
}

// saying is what a record would show that says what the item does.
func saying(state canonical.Event) mapping.Shown {
	shown := mapping.Shown{Fields: map[string]string{}}
	for _, f := range canonical.Fields(state.Kind()) {
		shown.Fields[f] = state.Field(f)
	}
	return shown
}

// Twin hears that the item r.Entity hangs on r.Contact from now on, claims what it is
// known by there, and returns another that says the same and has its record in
// another system, or "": the two may be one. known is false while there is no
// state of the item.
func (v *Resolver) Twin(ctx context.Context, r Record) (twin canonical.CanonicalID, known bool, err error) {
	id, _ := v.follow(r.Entity)
	state, known, err := v.entity(ctx, r, id)
	if err != nil || !known {
		return "", false, err
	}
	v.hangs.Add(id, r.Contact)
	for _, f := range state.Sync.Folded {
		if of, ok, err := v.state(ctx, r.Tenant, r.Kind, f.ID); err != nil || ok && of.MergedInto == "" {
			return f.ID, true, err // a crash came before it said so
		}
	}
	if state.Deleted() || len(state.Links) != 1 {
		return "", true, nil
	}
	for r.System = range state.Links {
		if v.linkedElsewhere(Record{System: r.System.Other()}, id, state) {
			return "", true, nil
		}
	}
	r.Shown = saying(state)
	mine := false
	for n := range twins {
		key := v.itemKey(r, n)
		holder, err := v.get(ctx, key.name)
		if err == nil && holder == "" {
			if mine {
				break
			}
			holder, err = v.claim(ctx, key.name, id)
		}
		if err != nil {
			return "", true, err
		}
		who, of, ok, err := v.holder(ctx, r, key, holder)
		switch {
		case err != nil:
			return "", true, err
		case who == id:
			mine = true
		case who == "" || ok && !key.holds(of):
			if !mine {
				if err := v.move(ctx, key.name, id); err != nil {
					return "", true, err
				}
				mine = true
			}
		case !v.linkedElsewhere(Record{System: r.System}, who, of), slices.ContainsFunc(of.Sync.Folded, func(f canonical.Folded) bool { return f.ID == id }):
			return who, true, nil
		}
	}
	return "", true, nil
}
