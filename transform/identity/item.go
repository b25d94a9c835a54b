package identity

import (
	"context"
	"fmt"
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

// itemKeys is what an item is known by that both systems had before we came:
// its contact and what it says.
func itemKeys(r Record) []identityKey {
	if r.Contact == "" {
		return nil
	}
	print := func(field func(string) string) string {
		if r.Kind == canonical.KindNote {
			return mapping.Reads(field("body"))
		}
		return field("title") + "\x00" + mapping.Reads(field("body")) + "\x00" + field("due") + field("start")
	}
	mine := print(func(f string) string { return r.Shown.Fields[f] })
	return []identityKey{{name: streams.ClaimKey(r.Tenant, string(r.Kind), string(r.Contact), mine), holds: func(s canonical.Event) bool {
		if s.ContactID() != r.Contact || s.Deleted() {
			return false
		}
		if print(s.Field) == mine {
			return true
		}
		for _, b := range s.Sync.Base {
			if !b.Gone && print(func(f string) string { return b.Fields[f] }) == mine {
				return true
			}
		}
		return false
	}}}
}
