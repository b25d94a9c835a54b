package identity

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/streams"
)

// Resolving one record after another asks the broker up to five times for
// each, and what the next record asks may depend on the answers. Looking ahead
// asks for what a row of records will need at once ([Resolver.Warm]), and takes
// claims that were not there without waiting ([Resolver.Take]). The records are
// still resolved one after the other, each seeing what those before it claimed.
// Should another instance have been first with a claim, [Resolver.Confirm] says
// so, and the row is to be resolved again. On a broker that always waits all of
// this does nothing.

// taking is the claims that were taken and are not confirmed.
type taking struct {
	under sync.WaitGroup

	mu   sync.Mutex
	lost []string // keys
	err  error    // of one of them
}

func (t *taking) done(key string, err error) {
	if err != nil {
		t.mu.Lock()
		t.lost, t.err = append(t.lost, key), err
		t.mu.Unlock()
	}
	t.under.Done()
}

// sight is a look-up of a state.
type sight struct {
	tenant canonical.Tenant
	kind   canonical.Kind
	id     canonical.CanonicalID

	found bus.Stored
	err   error // bus.ErrNotFound if there is none
}

// Lookup asks for an entity's last state, as [bus.Looker] does; nil is one that
// can't.
type Lookup func(ctx context.Context, tenant canonical.Tenant, kind canonical.Kind, id canonical.CanonicalID, done func(bus.Stored, error)) error

// Warm looks up what resolving the records will ask for, in three round trips
// at most. What it could not find out is asked for when it is needed.
func (v *Resolver) Warm(ctx context.Context, records []Record, lookup Lookup) {
	v.Forget()
	var names []string
	var moved []*sight
	for _, r := range records {
		if r.relinks() {
			moved = append(moved, &sight{tenant: r.Tenant, kind: r.Kind, id: r.Entity})
			continue
		}
		names = append(names, streams.LinkKey(r.Tenant, r.Kind, r.System, r.External))
		if r.Kind != canonical.KindContact {
			if p := r.Shown.Parent; p != "" {
				names = append(names, streams.LinkKey(r.Tenant, canonical.KindContact, r.System, p))
			}
			continue
		}
		for _, k := range keys(r) {
			names = append(names, k.name)
		}
		for _, address := range r.Shown.Also {
			names = append(names, streams.ClaimKey(r.Tenant, alsoKey, address), streams.ClaimKey(r.Tenant, "email", address))
		}
	}
	v.lookUp(ctx, names)
	v.lookAt(ctx, moved, lookup)
	v.warmItems(ctx, records, lookup)
	var states []*sight
	for _, r := range records {
		id := v.known(streams.LinkKey(r.Tenant, r.Kind, r.System, r.External))
		if r.Absent {
			if id != "" && r.Kind == canonical.KindContact {
				states = append(states, &sight{tenant: r.Tenant, kind: r.Kind, id: id})
			}
			continue
		}
		for _, k := range v.firstKeys(r) {
			// Whoever holds a key rightly shows it.
			if holder := v.known(k.name); holder != "" && holder != id {
				states = append(states, &sight{tenant: r.Tenant, kind: r.Kind, id: holder})
			}
		}
	}
	v.lookAt(ctx, states, lookup)
}

// warmItems looks up, of what hangs on a contact, the contact's state and, now
// that the contact is known, the item's keys.
func (v *Resolver) warmItems(ctx context.Context, records []Record, lookup Lookup) {
	var names []string
	var states []*sight
	for i, r := range records {
		if r.relinks() {
			if state, ok, err := v.state(ctx, r.Tenant, r.Kind, r.Entity); err == nil && ok {
				records[i].Shown = saying(state)
				names = append(names, v.itemKey(records[i], 0).name)
			}
			continue
		}
		if r.Kind == canonical.KindContact || r.Shown.Parent == "" {
			continue
		}
		id := v.known(streams.LinkKey(r.Tenant, r.Kind, r.System, r.External))
		if id == "" {
			id = canonical.NewID(r.Tenant, r.Kind, r.System, r.External)
		}
		names = append(names, childOf(r, id))
		contact := v.known(streams.LinkKey(r.Tenant, canonical.KindContact, r.System, r.Shown.Parent))
		if contact == "" {
			continue
		}
		if !v.itself.Contains(contact) {
			states = append(states, &sight{tenant: r.Tenant, kind: canonical.KindContact, id: contact})
		}
		records[i].Contact = contact
		names = append(names, v.itemKey(records[i], 0).name)
	}
	v.lookAt(ctx, states, lookup)
	v.lookUp(ctx, names)
}

// firstKeys are the keys that r is looked for by in any case.
func (v *Resolver) firstKeys(r Record) []identityKey {
	switch {
	case r.Kind == canonical.KindContact:
		return keys(r)
	case r.Contact == "":
		return nil
	}
	return []identityKey{v.itemKey(r, 0)}
}

// known is what the key points to, as far as has been looked up.
func (v *Resolver) known(key string) canonical.CanonicalID {
	id, _ := v.cache.Peek(key)
	now, _ := v.follow(id)
	return now
}

// lookUp looks up claims.
func (v *Resolver) lookUp(ctx context.Context, names []string) {
	if v.async == nil {
		return
	}
	names = slices.DeleteFunc(names, func(n string) bool { return v.cache.Contains(n) || v.absences[n] })
	slices.Sort(names)
	names = slices.Compact(names)
	found := make([]struct {
		value []byte
		err   error
	}, len(names))
	var under sync.WaitGroup
	for i, name := range names {
		under.Add(1)
		err := v.async.GetAsync(ctx, name, func(value []byte, _ uint64, err error) {
			found[i].value, found[i].err = value, err
			under.Done()
		})
		if err != nil {
			found[i].err = err
			under.Done()
		}
	}
	under.Wait()
	for i, name := range names {
		switch {
		case found[i].err == nil:
			v.cache.Add(name, canonical.CanonicalID(found[i].value))
		case errors.Is(found[i].err, bus.ErrNotFound):
			v.absences[name] = true
		}
	}
}

// lookAt looks up states.
func (v *Resolver) lookAt(ctx context.Context, states []*sight, lookup Lookup) {
	if lookup == nil {
		return
	}
	var under sync.WaitGroup
	for _, s := range states {
		if _, there := v.states[s.id]; there {
			continue
		}
		v.states[s.id] = s
		under.Add(1)
		err := lookup(ctx, s.tenant, s.kind, s.id, func(m bus.Stored, err error) {
			s.found, s.err = m, err
			under.Done()
		})
		if err != nil {
			s.err = err
			under.Done()
		}
	}
	under.Wait()
}

// state returns an entity's last state, from what was looked up ahead if it is
// among that.
func (v *Resolver) state(ctx context.Context, tenant canonical.Tenant, kind canonical.Kind, id canonical.CanonicalID) (canonical.Event, bool, error) {
	s, ahead := v.states[id]
	switch {
	case !ahead || s.err != nil && !errors.Is(s.err, bus.ErrNotFound):
		return v.entities(ctx, tenant, kind, id)
	case s.err != nil:
		return canonical.Event{}, false, nil
	}
	state, err := canonical.DecodeEvent(s.found.Data)
	if err != nil {
		return canonical.Event{}, false, fmt.Errorf("load entity %s: %w", id, err)
	}
	return state, state.Version > 0, nil
}

// Forget forgets what Warm found but for the claims that are there: it is as of
// then.
func (v *Resolver) Forget() {
	v.absences, v.states = map[string]bool{}, map[canonical.CanonicalID]*sight{}
}

// Take lets claims that Warm did not find be taken without waiting, until
// Confirm is called.
func (v *Resolver) Take() { v.taking = &taking{} }

// take takes key for id, if that needn't be waited for.
func (v *Resolver) take(ctx context.Context, key string, id canonical.CanonicalID) bool {
	t := v.taking
	if t == nil || v.async == nil {
		return false
	}
	t.under.Add(1)
	if err := v.async.CreateAsync(ctx, key, []byte(id), func(_ uint64, err error) { t.done(key, err) }); err != nil {
		t.under.Done()
		return false
	}
	delete(v.absences, key)
	v.cache.Add(key, id)
	return true
}

// Confirm waits until the broker has all claims that were taken since Take. If
// it says no, whatever was resolved since then is void and has to be resolved
// again: then the claims of others count. It returns why.
func (v *Resolver) Confirm() (ok bool, why error) {
	t := v.taking
	if v.taking = nil; t == nil {
		return true, nil
	}
	t.under.Wait()
	for _, key := range t.lost {
		v.cache.Remove(key)
	}
	return len(t.lost) == 0, t.err
}

// Void says that what was resolved since Take does not count.
func (v *Resolver) Void(system canonical.System, id canonical.CanonicalID) {
	v.linked.Remove(string(system) + "." + string(id))
}
