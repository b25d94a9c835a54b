// Package identity says which entity a record belongs to. Claims (identity
// keys pointing to canonical ids) are kept in the IDENTITY bucket, taken with
// create-only writes, and are hints: each is validated against the entity
// that it names. No key holds an e-mail address, a phone number or a name:
// they are hashed.
//
// What more than one entity could be is never guessed: [ErrAmbiguous].
package identity

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/streams"
)

// ErrAmbiguous is returned, wrapped, for a record that needs a person to say
// whose it is.
var ErrAmbiguous = errors.New("ambiguous identity")

// Entities looks up an entity's last state; the second result says whether
// there is one.
type Entities func(ctx context.Context, tenant canonical.Tenant, kind canonical.Kind, id canonical.CanonicalID) (canonical.Event, bool, error)

// Resolver resolves records to entities. It is for one goroutine, which sees
// records in RAW order, so that a rebuild from RAW gives the same ids.
type Resolver struct {
	claims   bus.KV
	async    bus.AsyncKV // claims, if they can be asked without waiting; else nil
	entities Entities
	cache    *lru.Cache[string, canonical.CanonicalID]
	// linked is who was linked last, for entities whose first event is on its
	// way: the system and the entity, to the record.
	linked *lru.Cache[string, canonical.ExternalID]
	// hangs is whom an item hangs on, for those whose next event is on its way.
	hangs *lru.Cache[canonical.CanonicalID, canonical.CanonicalID]
	// itself holds contacts that were looked up and had not been merged.
	itself *lru.Cache[canonical.CanonicalID, bool]
	// creating holds, by system, kind and parent, the entities whose record is
	// being made there; creatingAt where an entity is among them.
	creating   map[string]map[canonical.CanonicalID]bool
	creatingAt map[string]string

	// What Warm found: the claims that are not there, and states. See ahead.go.
	absences map[string]bool
	states   map[canonical.CanonicalID]*sight
	taking   *taking

	mu     sync.Mutex
	merged map[canonical.CanonicalID]canonical.CanonicalID // entities that are others now
}

// New returns a Resolver that remembers up to size claims.
func New(claims bus.KV, entities Entities, size int) (*Resolver, error) {
	cache, err := lru.New[string, canonical.CanonicalID](size)
	if err != nil {
		return nil, fmt.Errorf("identity cache: %w", err)
	}
	linked, err := lru.New[string, canonical.ExternalID](size)
	if err != nil {
		return nil, fmt.Errorf("identity cache: %w", err)
	}
	hangs, err := lru.New[canonical.CanonicalID, canonical.CanonicalID](size)
	if err != nil {
		return nil, fmt.Errorf("identity cache: %w", err)
	}
	itself, err := lru.New[canonical.CanonicalID, bool](size)
	if err != nil {
		return nil, fmt.Errorf("identity cache: %w", err)
	}
	async, _ := claims.(bus.AsyncKV)
	return &Resolver{claims: claims, async: async, entities: entities, cache: cache, linked: linked, hangs: hangs, itself: itself,
		creating: map[string]map[canonical.CanonicalID]bool{}, creatingAt: map[string]string{}, merged: map[canonical.CanonicalID]canonical.CanonicalID{}}, nil
}

// Record is what is known of the record to resolve.
type Record struct {
	Tenant   canonical.Tenant
	Kind     canonical.Kind
	System   canonical.System
	External canonical.ExternalID
	Shown    mapping.Shown
	// Entity is what a writeback says that it was written for, or, with no
	// External, the item that hears of its contact ([Resolver.Twin]).
	Entity canonical.CanonicalID
	Absent bool
	// Made says of an absence that the record had been made for Entity.
	Made bool
	// Contact is the entity that an item hangs on, or "" while nobody knows.
	Contact canonical.CanonicalID
	// Policy says by what a person is known; nil means the defaults.
	Policy *mapping.Policy
}

// relinks reports whether r is no record but an item that hears of its contact.
func (r Record) relinks() bool { return r.External == "" && r.Entity != "" }

// Resolved is whose a record is.
type Resolved struct {
	// ID is its entity, or "" for an absent record that nobody knows.
	ID canonical.CanonicalID
	// With is another entity that shows an identity key of r, so that the two
	// may be one; or "".
	With canonical.CanonicalID
	// By is the entity that the record was found under, if that has been merged
	// into ID.
	By canonical.CanonicalID
	// Doubt says, of a linked record, why its keys don't decide.
	Doubt error
	// New says that ID was given to the record just now, so that there is no
	// state of it yet, as long as the claims are confirmed.
	New bool
}

// Resolve returns the entity of r: the one that its external id is linked to;
// else the one that a write of ours was for; else the one that its identity
// keys name; else a new one, whose id is derived from r. It claims the keys
// that r shows. A second record of one system that shows the keys of an entity
// gets an entity of its own, and With names the other: whether the two are one
// is for the merge to say, which sees what both are by then.
//
// Entities that were merged are followed to the one they are now, as far as
// this instance knows of it; see [Resolver.Merged].
func (v *Resolver) Resolve(ctx context.Context, r Record) (Resolved, error) {
	link := streams.LinkKey(r.Tenant, r.Kind, r.System, r.External)
	id, err := v.get(ctx, link)
	if err != nil {
		return Resolved{}, err
	}
	if r.Absent {
		if id == "" && r.Made { // a late sight of it is to find the entity, too
			if id, err = v.claim(ctx, link, r.Entity); err != nil {
				return Resolved{}, err
			}
		}
		return v.absent(ctx, r, id)
	}
	var out Resolved
	var other canonical.CanonicalID
	linked := id != ""
	if !linked {
		if id, other, err = v.find(ctx, r); err != nil {
			return Resolved{}, err
		}
		if id == "" {
			id = canonical.NewID(r.Tenant, r.Kind, r.System, r.External)
			out.New = v.taking != nil && v.absences[link]
		}
		// Another instance may have been first: then its word counts.
		if id, err = v.claim(ctx, link, id); err != nil {
			return Resolved{}, err
		}
	}
	out.ID, out.By = v.follow(id)
	if wrote, _ := v.follow(r.Entity); linked && wrote != "" && wrote != out.ID {
		// What stands in the place of a record that was to be made for another:
		// the two may be one.
		if r.Kind != canonical.KindContact {
			return Resolved{}, fmt.Errorf("%s record %s was written for entity %s and is linked to %s: %w", r.System, r.External, r.Entity, id, ErrAmbiguous)
		}
		other = wrote
	}
	v.linked.Add(string(r.System)+"."+string(out.ID), r.External)
	if r.Kind != canonical.KindContact {
		return out, v.claimItem(ctx, r, out.ID, linked)
	}
	holders := []canonical.CanonicalID{}
	for _, key := range keys(r) {
		holder, err := v.hold(ctx, r, key, id)
		if err != nil {
			return Resolved{}, err
		}
		if holder, _ = v.follow(holder); holder != "" {
			holders = append(holders, holder)
		}
	}
	also, err := v.also(ctx, r, id)
	if err != nil {
		return Resolved{}, err
	}
	holders = slices.DeleteFunc(append(holders, append(also, other)...), func(h canonical.CanonicalID) bool { return h == "" || h == out.ID })
	slices.Sort(holders)
	switch holders = slices.Compact(holders); len(holders) {
	case 0:
	case 1:
		out.With = holders[0]
	default:
		err := fmt.Errorf("%s record %s shows identity keys of %d other entities, %s and %s among them: %w", r.System, r.External, len(holders), holders[0], holders[1], ErrAmbiguous)
		if !linked {
			return Resolved{}, err
		}
		out.Doubt = err
	}
	return out, nil
}

// absent finds the entity of a record that is gone, and who shows the keys of
// that entity: the record may have been merged into one of theirs.
func (v *Resolver) absent(ctx context.Context, r Record, id canonical.CanonicalID) (Resolved, error) {
	out := Resolved{}
	if out.ID, out.By = v.follow(id); id == "" || r.Kind != canonical.KindContact {
		return out, nil
	}
	if x, is := v.linked.Get(string(r.System) + "." + string(out.ID)); is && x == r.External {
		v.linked.Remove(string(r.System) + "." + string(out.ID))
	}
	state, ok, err := v.state(ctx, r.Tenant, r.Kind, out.ID)
	if err != nil || !ok {
		return out, err
	}
	names := []string{}
	if was, _ := state.Record(r.System, r.External); was.Fields["email"] != "" {
		names = append(names, streams.ClaimKey(r.Tenant, alsoKey, was.Fields["email"]))
	}
	for _, k := range r.Policy.Identify(state.Field) {
		names = append(names, streams.ClaimKey(r.Tenant, k.Field, k.Values...))
	}
	if email := state.Field("email"); email != "" {
		names = append(names, streams.ClaimKey(r.Tenant, alsoKey, email))
	}
	for _, name := range names {
		holder, err := v.get(ctx, name)
		if err != nil {
			return Resolved{}, err
		}
		if holder, _ = v.follow(holder); holder != "" && holder != out.ID {
			out.With = holder // the merge looks whether it is so
			return out, nil
		}
	}
	return out, nil
}

// also claims the further addresses that a record shows, and returns who shows
// them as their own.
func (v *Resolver) also(ctx context.Context, r Record, id canonical.CanonicalID) ([]canonical.CanonicalID, error) {
	var out []canonical.CanonicalID
	for _, address := range r.Shown.Also {
		if err := v.showsAlso(ctx, r, address, id); err != nil {
			return nil, err
		}
		holder, err := v.get(ctx, streams.ClaimKey(r.Tenant, "email", address))
		if err != nil {
			return nil, err
		}
		if holder, _ = v.follow(holder); holder != "" && holder != id {
			out = append(out, holder)
		}
	}
	return out, nil
}

// showsAlso notes that id shows an address, whoever else has it for their own.
func (v *Resolver) showsAlso(ctx context.Context, r Record, address string, id canonical.CanonicalID) error {
	name := streams.ClaimKey(r.Tenant, alsoKey, address)
	if holder, err := v.claim(ctx, name, id); err != nil || holder == id {
		return err
	}
	return v.move(ctx, name, id)
}

// find looks for an existing entity that an unlinked record belongs to, or
// that is the same person and has another record in that system.
func (v *Resolver) find(ctx context.Context, r Record) (id, other canonical.CanonicalID, err error) {
	for _, ref := range []canonical.CanonicalID{r.Entity, r.Shown.Ref} {
		if ref == "" {
			continue
		}
		state, ok, err := v.entity(ctx, r, ref)
		switch {
		case err != nil:
			return "", "", err
		case !ok:
		case r.Kind == canonical.KindContact && state.ID() != ref:
			return ref, "", nil // it was merged since, and what was made for it is another record of that one
		case !v.linkedElsewhere(r, state.ID(), state):
			return ref, "", nil
		}
	}
	if r.Kind != canonical.KindContact {
		id, err := v.findItem(ctx, r)
		return id, "", err
	}
	found := map[canonical.CanonicalID]bool{}
	for _, key := range keys(r) {
		holder, err := v.get(ctx, key.name)
		if err != nil {
			return "", "", err
		}
		if now, _ := v.follow(holder); holder == "" || found[now] {
			continue
		}
		state, ok, err := v.entity(ctx, r, holder)
		if err != nil {
			return "", "", err
		}
		who := holder
		if ok {
			who = state.ID()
		} else if gone, err := v.erased(ctx, key.name, holder); err != nil {
			return "", "", err
		} else if gone {
			continue
		}
		elsewhere := v.linkedElsewhere(r, who, state)
		switch {
		case ok && !key.holds(state):
			continue // the value has gone; the claim is let go when it is taken
		case elsewhere:
			found[who] = true
			other = who
		default: // also if it is claimed by an observation that is on its way
			found[who] = true
			if id == "" {
				id = who
			}
		}
	}
	if len(found) > 1 {
		return "", "", fmt.Errorf("%s record %s shows identity keys of %d entities: %w", r.System, r.External, len(found), ErrAmbiguous)
	}
	return id, other, nil
}

// entity returns the state of an entity, or of the one that it was merged into.
func (v *Resolver) entity(ctx context.Context, r Record, id canonical.CanonicalID) (canonical.Event, bool, error) {
	for {
		id, _ = v.follow(id)
		state, ok, err := v.state(ctx, r.Tenant, r.Kind, id)
		if err != nil || !ok || state.MergedInto == "" {
			return state, ok, err
		}
		v.Merged(id, state.MergedInto)
	}
}

// Merged notes that an entity is another one from now on, or, if into is "",
// that it is itself again. What is found under it is looked for under that
// one. It may be called from any goroutine.
func (v *Resolver) Merged(id, into canonical.CanonicalID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if into == "" {
		delete(v.merged, id)
		return
	}
	v.merged[id] = into
	v.itself.Remove(id)
}

// follow returns the entity that id is now, and the last one before it on the
// way there, or "" if there is none.
func (v *Resolver) follow(id canonical.CanonicalID) (now, by canonical.CanonicalID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for range len(v.merged) + 1 {
		next, merged := v.merged[id]
		if !merged {
			break
		}
		id, by = next, id
	}
	return id, by
}

// Follow returns the entity that id is now, and the last one before it on the
// way there, as far as this instance knows; see [Resolver.Merged].
func (v *Resolver) Follow(id canonical.CanonicalID) (now, by canonical.CanonicalID) {
	return v.follow(id)
}

// linkedElsewhere reports whether entity id is linked to another record of r's
// system: by its state, or since, by what was resolved here and isn't in the
// state yet.
func (v *Resolver) linkedElsewhere(r Record, id canonical.CanonicalID, state canonical.Event) bool {
	if x, is := v.linked.Get(string(r.System) + "." + string(id)); is && x != r.External {
		if was, known := state.Record(r.System, x); !known || !was.Gone {
			return true
		}
	}
	for _, x := range state.Links[r.System] {
		if x != r.External {
			return true
		}
	}
	return false
}

// hold sees to it that key points to id. A claim that another entity holds
// rightly stays with it: both then show the value, and the first, which is
// returned, keeps it.
func (v *Resolver) hold(ctx context.Context, r Record, key identityKey, id canonical.CanonicalID) (canonical.CanonicalID, error) {
	holder, err := v.claim(ctx, key.name, id)
	if err != nil || holder == id {
		return holder, err
	}
	state, ok, err := v.entity(ctx, r, holder)
	if err == nil && !ok {
		if gone, err := v.erased(ctx, key.name, holder); err != nil || !gone {
			return holder, err
		}
		return v.claim(ctx, key.name, id)
	}
	if now, _ := v.follow(id); err != nil || state.ID() == now {
		return holder, err
	}
	if key.holds(state) {
		if key.email == "" {
			return holder, nil
		}
		return holder, v.showsAlso(ctx, r, key.email, id)
	}
	return "", v.move(ctx, key.name, id)
}

// erased reports whether the claim of an entity that isn't there is only
// remembered: it has gone with the entity. Else that is on its way.
func (v *Resolver) erased(ctx context.Context, name string, holder canonical.CanonicalID) (bool, error) {
	v.cache.Remove(name)
	now, err := v.get(ctx, name)
	return now != holder, err
}

// move takes a claim from one who doesn't hold it rightly any more.
func (v *Resolver) move(ctx context.Context, name string, id canonical.CanonicalID) error {
	_, rev, err := v.claims.Get(ctx, name)
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		return fmt.Errorf("look up claim: %w", err)
	}
	if _, err := v.claims.Update(ctx, name, []byte(id), rev); err != nil && !errors.Is(err, bus.ErrWrongSequence) {
		return fmt.Errorf("move claim: %w", err)
	}
	v.cache.Remove(name)
	return nil
}

func (v *Resolver) get(ctx context.Context, key string) (canonical.CanonicalID, error) {
	if id, ok := v.cache.Get(key); ok || v.absences[key] {
		return id, nil
	}
	value, _, err := v.claims.Get(ctx, key)
	switch {
	case errors.Is(err, bus.ErrNotFound):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("look up claim: %w", err)
	}
	v.cache.Add(key, canonical.CanonicalID(value))
	return canonical.CanonicalID(value), nil
}

// claim takes key for id and returns who holds it.
func (v *Resolver) claim(ctx context.Context, key string, id canonical.CanonicalID) (canonical.CanonicalID, error) {
	if holder, ok := v.cache.Get(key); ok {
		return holder, nil
	}
	if v.absences[key] && v.take(ctx, key, id) {
		return id, nil
	}
	_, err := v.claims.Create(ctx, key, []byte(id))
	switch {
	case errors.Is(err, bus.ErrExists):
		return v.get(ctx, key)
	case err != nil:
		return "", fmt.Errorf("take claim: %w", err)
	}
	v.cache.Add(key, id)
	return id, nil
}

// identityKey is a value that is meant to name one person.
type identityKey struct {
	name  string
	email string // if it is one
	holds func(canonical.Event) bool
}

// alsoKey is what the claims of further addresses are of, and of addresses that
// somebody else holds.
const alsoKey = "also"

// keys returns the identity keys that a contact's record shows, strongest first. A phone holds
// only where the names agree and the e-mails don't differ.
func keys(r Record) []identityKey {
	email := r.Shown.Fields["email"]
	var out []identityKey
	for _, k := range r.Policy.Identify(func(f string) string { return r.Shown.Fields[f] }) {
		field, value := k.Field, k.Values[0]
		key := identityKey{name: streams.ClaimKey(r.Tenant, field, k.Values...)}
		if field == "email" {
			key.email = value
		}
		key.holds = func(s canonical.Event) bool {
			return key.email != "" && lost(s, r, value) || shows(s, field, value) && (field != "phone" || email == "" || s.Contact.Email == "" || shows(s, "email", email))
		}
		out = append(out, key)
	}
	return out
}

// lost reports whether the entity has lost its record in r's system, which
// showed the address last and the name that r has: it may have been merged into
// r there.
func lost(s canonical.Event, r Record, address string) bool {
	b := s.Sync.Base[r.System]
	return b.Gone && b.Fields["email"] == address && mapping.Namesakes(s.Field, func(f string) string { return r.Shown.Fields[f] })
}

// shows reports whether the entity, or a record of it, has the value.
func shows(s canonical.Event, field, value string) bool {
	if s.Contact.Field(field) == value {
		return true
	}
	for _, b := range s.Sync.Base {
		if !b.Gone && b.Fields[field] == value {
			return true
		}
	}
	for _, of := range s.Sync.Others {
		for _, b := range of {
			if !b.Gone && b.Fields[field] == value {
				return true
			}
		}
	}
	return false
}
