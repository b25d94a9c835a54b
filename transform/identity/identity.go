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
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

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
	entities Entities
	cache    *lru.Cache[string, canonical.CanonicalID]
	// linked is who was linked last, for entities whose first event is on its
	// way: the system and the entity, to the record.
	linked *lru.Cache[string, canonical.ExternalID]
	// creating holds, by system, kind and parent, the entities whose record is
	// being made there; creatingAt where an entity is among them.
	creating   map[string]map[canonical.CanonicalID]bool
	creatingAt map[string]string
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
	return &Resolver{claims: claims, entities: entities, cache: cache, linked: linked,
		creating: map[string]map[canonical.CanonicalID]bool{}, creatingAt: map[string]string{}}, nil
}

// Record is what is known of the record to resolve.
type Record struct {
	Tenant   canonical.Tenant
	Kind     canonical.Kind
	System   canonical.System
	External canonical.ExternalID
	Shown    mapping.Shown
	// Entity is what a writeback says that it was written for.
	Entity canonical.CanonicalID
	Absent bool
	// Contact is the entity that an item hangs on, or "" while nobody knows.
	Contact canonical.CanonicalID
}

// Resolve returns the entity of r: the one that its external id is linked to;
// else the one that a write of ours was for; else the one that its identity
// keys name; else a new one, whose id is derived from r. It claims the keys
// that r shows. For an absent record that is not linked it returns "".
func (v *Resolver) Resolve(ctx context.Context, r Record) (canonical.CanonicalID, error) {
	link := streams.LinkKey(r.Tenant, r.Kind, r.System, r.External)
	id, err := v.get(ctx, link)
	if err != nil {
		return "", err
	}
	if r.Absent {
		return id, nil
	}
	if id == "" {
		if id, err = v.find(ctx, r); err != nil {
			return "", err
		}
		if id == "" {
			id = canonical.NewID(r.Tenant, r.Kind, r.System, r.External)
		}
		// Another instance may have been first: then its word counts.
		if id, err = v.claim(ctx, link, id); err != nil {
			return "", err
		}
	} else if r.Entity != "" && r.Entity != id {
		return "", fmt.Errorf("%s record %s was written for entity %s and is linked to %s: %w", r.System, r.External, r.Entity, id, ErrAmbiguous)
	}
	v.linked.Add(string(r.System)+"."+string(id), r.External)
	for _, key := range keys(r) {
		if err := v.hold(ctx, r, key, id); err != nil {
			return "", err
		}
	}
	return id, nil
}

// find looks for an existing entity that an unlinked record belongs to.
func (v *Resolver) find(ctx context.Context, r Record) (canonical.CanonicalID, error) {
	for _, ref := range []canonical.CanonicalID{r.Entity, r.Shown.Ref} {
		if ref == "" {
			continue
		}
		if state, ok, err := v.entities(ctx, r.Tenant, r.Kind, ref); err != nil {
			return "", err
		} else if ok && !linkedElsewhere(state, r) {
			return ref, nil
		}
	}
	for _, key := range keys(r) {
		id, err := v.get(ctx, key.name)
		if err != nil {
			return "", err
		}
		if id == "" {
			continue
		}
		state, ok, err := v.entities(ctx, r.Tenant, r.Kind, id)
		if x, was := v.linked.Get(string(r.System) + "." + string(id)); was && x != r.External && r.Kind != canonical.KindContact {
			continue // two items may well be alike
		}
		switch {
		case err != nil:
			return "", err
		case !ok:
			return id, nil // claimed by an observation that is on its way
		case !key.holds(state):
			continue // the value has gone; the claim is let go when it is taken
		case linkedElsewhere(state, r) && r.Kind != canonical.KindContact:
			continue
		case linkedElsewhere(state, r):
			return "", fmt.Errorf("%s record %s shows the same %s as entity %s, which is linked to another %s record: %w",
				r.System, r.External, key.what, id, r.System, ErrAmbiguous)
		}
		return id, nil
	}
	return "", nil
}

func linkedElsewhere(state canonical.Event, r Record) bool {
	for _, x := range state.Links[r.System] {
		if x != r.External {
			return true
		}
	}
	return false
}

// hold sees to it that key points to id. A claim that another entity holds
// rightly stays with it: both then show the value, and the first keeps it.
func (v *Resolver) hold(ctx context.Context, r Record, key identityKey, id canonical.CanonicalID) error {
	holder, err := v.claim(ctx, key.name, id)
	if err != nil || holder == id {
		return err
	}
	state, ok, err := v.entities(ctx, r.Tenant, r.Kind, holder)
	if err != nil || !ok || key.holds(state) {
		return err
	}
	_, rev, err := v.claims.Get(ctx, key.name)
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		return fmt.Errorf("look up claim: %w", err)
	}
	if _, err := v.claims.Update(ctx, key.name, []byte(id), rev); err != nil && !errors.Is(err, bus.ErrWrongSequence) {
		return fmt.Errorf("move claim: %w", err)
	}
	v.cache.Remove(key.name)
	return nil
}

func (v *Resolver) get(ctx context.Context, key string) (canonical.CanonicalID, error) {
	if id, ok := v.cache.Get(key); ok {
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
	what  string
	holds func(canonical.Event) bool
}

// keys returns the identity keys that r shows, strongest first: e-mail; then
// phone with last name, which families share, so that it holds only where the
// first names agree and the e-mails don't differ.
func keys(r Record) []identityKey {
	f := r.Shown.Fields
	if r.Kind != canonical.KindContact {
		return itemKeys(r)
	}
	var out []identityKey
	if email := f["email"]; email != "" {
		out = append(out, identityKey{name: hashKey(r.Tenant, "email", email), what: "email", holds: func(s canonical.Event) bool {
			return shows(s, "email", email)
		}})
	}
	phone, last, first := f["phone"], strings.ToLower(f["last_name"]), strings.ToLower(f["first_name"])
	if phone != "" && last != "" && first != "" {
		out = append(out, identityKey{name: hashKey(r.Tenant, "phone", phone, last, first), what: "phone and name", holds: func(s canonical.Event) bool {
			return shows(s, "phone", phone) && (f["email"] == "" || s.Contact.Email == "" || shows(s, "email", f["email"]))
		}})
	}
	return out
}

// shows reports whether the entity, or either system's record of it, has the
// value.
func shows(s canonical.Event, field, value string) bool {
	if s.Contact.Field(field) == value {
		return true
	}
	for _, b := range s.Sync.Base {
		if !b.Gone && b.Fields[field] == value {
			return true
		}
	}
	return false
}

func hashKey(tenant canonical.Tenant, what string, values ...string) string {
	h := sha256.Sum256([]byte(string(tenant) + "\x00" + what + "\x00" + strings.Join(values, "\x00")))
	return string(tenant) + ".contact." + what + "." + hex.EncodeToString(h[:16])
}
