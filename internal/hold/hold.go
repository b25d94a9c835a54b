// Package hold is the mass-delete hold: so many deletes in so short a time
// that an empty page, a revoked scope or a wrong mapping may be behind them
// wait for a person. What was deleted stays so in CANONICAL; what is held is
// that it is carried on.
//
// A tenant's state is one key in HOLDS that every sink changes by
// compare-and-set, so that all of them, of both destinations and in any number
// of processes, count together and agree; and each delete that is held is a
// key beside it, there before the sink acks. Memory holds none of it.
package hold

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

// Delete is a delete of a record at a destination.
type Delete struct {
	Tenant   canonical.Tenant      `json:"tenant"`
	System   canonical.System      `json:"system"`
	Kind     canonical.Kind        `json:"kind"`
	ID       canonical.CanonicalID `json:"id"`
	External canonical.ExternalID  `json:"external_id"`
	Version  uint64                `json:"version"` // of the entity, when it was held
	At       time.Time             `json:"at"`      // when it was held
	// Released says that a person has let it go on.
	Released bool `json:"released,omitempty"`
}

func (d Delete) key() string { return streams.HeldKey(d.Tenant, d.System, d.Kind, d.ID, d.External) }

// state is what HOLDS has under a tenant's name.
type state struct {
	Held bool `json:"held"`
	// Since is when it was held, after that many Deletes, when the tenant had
	// that many Entities.
	Since    time.Time `json:"since,omitzero"`
	Deletes  int       `json:"deletes,omitempty"`
	Entities uint64    `json:"entities,omitempty"`
	// Told says that the dead letter is there.
	Told bool `json:"told,omitempty"`
	// Changes counts what was held, so that whoever releases knows that
	// nothing has come since it looked.
	Changes uint64 `json:"changes,omitempty"`
	// Recent are the deletes that were let through, by when.
	Recent []slot `json:"recent,omitempty"`
}

// slot is a short time in which so many deletes were let through.
type slot struct {
	Began time.Time `json:"began"`
	N     int       `json:"n"`
}

// slots is how many a hold's time is divided into: a delete counts a little
// longer than it has to, and the state stays small.
const slots = 60

// count adds a delete at now and returns how many there were.
func (s *state) count(now time.Time, within time.Duration) int {
	each := within / slots
	s.Recent = slices.DeleteFunc(s.Recent, func(x slot) bool { return now.Sub(x.Began) > within+each })
	if last := len(s.Recent) - 1; last >= 0 && now.Sub(s.Recent[last].Began) < each {
		s.Recent[last].N++
	} else {
		s.Recent = append(s.Recent, slot{now, 1})
	}
	n := 0
	for _, x := range s.Recent {
		n += x.N
	}
	return n
}

func letterSubject(tenant canonical.Tenant) string {
	return streams.Dead(stage, tenant, "", letterID)
}

// The dead letter of a hold: the stage that holds, and the id.
const (
	stage    = "sink"
	letterID = "mass-delete"
)

func load(ctx context.Context, kv bus.KV, tenant canonical.Tenant) (s state, rev uint64, err error) {
	value, rev, err := kv.Get(ctx, streams.Token(string(tenant)))
	switch {
	case errors.Is(err, bus.ErrNotFound):
		return state{}, 0, nil
	case err != nil:
		return state{}, 0, fmt.Errorf("hold of tenant %s: %w", tenant, err)
	}
	if err := json.Unmarshal(value, &s); err != nil {
		return state{}, 0, fmt.Errorf("hold of tenant %s: %w", tenant, err)
	}
	return s, rev, nil
}

// save stores s if the revision is still rev and returns the next one, or
// bus.ErrWrongSequence.
func save(ctx context.Context, kv bus.KV, tenant canonical.Tenant, s state, rev uint64) (uint64, error) {
	value, err := json.Marshal(s)
	if err != nil {
		return 0, fmt.Errorf("hold of tenant %s: %w", tenant, err)
	}
	if rev == 0 {
		rev, err = kv.Create(ctx, streams.Token(string(tenant)), value)
	} else {
		rev, err = kv.Update(ctx, streams.Token(string(tenant)), value, rev)
	}
	if errors.Is(err, bus.ErrExists) {
		err = bus.ErrWrongSequence
	}
	if err != nil {
		return 0, fmt.Errorf("hold of tenant %s: %w", tenant, err)
	}
	return rev, nil
}

// find returns the held deletes under a pattern of keys, the oldest first.
func find(ctx context.Context, kv bus.KV, pattern string) ([]Delete, error) {
	keys, err := kv.Keys(ctx, pattern)
	if err != nil {
		return nil, fmt.Errorf("held deletes: %w", err)
	}
	out := make([]Delete, 0, len(keys))
	for _, key := range keys {
		d, _, err := entry(ctx, kv, key)
		if errors.Is(err, bus.ErrNotFound) {
			continue // settled meanwhile
		}
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b Delete) int {
		if c := a.At.Compare(b.At); c != 0 {
			return c
		}
		return strings.Compare(a.key(), b.key())
	})
	return out, nil
}

func entry(ctx context.Context, kv bus.KV, key string) (d Delete, rev uint64, err error) {
	value, rev, err := kv.Get(ctx, key)
	if err == nil {
		err = json.Unmarshal(value, &d)
	}
	if err != nil {
		return Delete{}, 0, fmt.Errorf("held delete %s: %w", key, err)
	}
	return d, rev, nil
}

// Tenant is a tenant whose deletes are held, or of whom released ones have not
// been looked at yet.
type Tenant struct {
	Tenant   canonical.Tenant `json:"tenant"`
	Held     bool             `json:"held"`
	Since    time.Time        `json:"since,omitzero"`
	Deletes  int              `json:"deletes"`  // that were too many
	Entities uint64           `json:"entities"` // that the tenant had then
	Waiting  int              `json:"waiting"`  // deletes that are held, or released and not done
}

// List returns the tenants that have a hold, sorted.
func List(ctx context.Context, b Broker) ([]Tenant, error) {
	kv, err := b.Bucket(ctx, streams.HOLDS)
	if err != nil {
		return nil, err
	}
	keys, err := kv.Keys(ctx, "*")
	if err != nil {
		return nil, fmt.Errorf("holds: %w", err)
	}
	slices.Sort(keys)
	var out []Tenant
	for _, key := range keys {
		name, err := streams.ParseToken(key)
		if err != nil {
			return nil, fmt.Errorf("holds: %w", err)
		}
		t := Tenant{Tenant: canonical.Tenant(name)}
		s, _, err := load(ctx, kv, t.Tenant)
		if err != nil {
			return nil, err
		}
		waiting, err := kv.Keys(ctx, streams.HeldKeys(t.Tenant))
		if err != nil {
			return nil, fmt.Errorf("held deletes: %w", err)
		}
		if t.Held, t.Waiting = s.Held, len(waiting); !t.Held && t.Waiting == 0 {
			continue
		}
		if s.Held {
			t.Since, t.Deletes, t.Entities = s.Since, s.Deletes, s.Entities
		}
		out = append(out, t)
	}
	return out, nil
}

// Show returns the deletes of a tenant that wait, the oldest first.
func Show(ctx context.Context, b Broker, tenant canonical.Tenant) ([]Delete, error) {
	kv, err := b.Bucket(ctx, streams.HOLDS)
	if err != nil {
		return nil, err
	}
	return find(ctx, kv, streams.HeldKeys(tenant))
}

// Broker is what a person's word needs of the broker.
type Broker interface {
	bus.Publisher
	Bucket(ctx context.Context, name string) (bus.KV, error)
	Purge(ctx context.Context, stream, subject string, below uint64) error
}

// ErrNotHeld is returned, wrapped, for a tenant that has no hold.
var ErrNotHeld = errors.New("nothing is held")

// Release ends a tenant's hold at now, and returns how many deletes it was
// about. Each entity is looked at again: what is deleted still is deleted
// everywhere, and doesn't count towards the next hold. With drop the records
// that are left stay instead, and their entities are deleted no more.
//
// One that was interrupted is finished by calling it again.
func Release(ctx context.Context, b Broker, tenant canonical.Tenant, drop bool, now time.Time) (int, error) {
	kv, err := b.Bucket(ctx, streams.HOLDS)
	if err != nil {
		return 0, err
	}
	var released []Delete
	n := 0
	for {
		s, rev, err := load(ctx, kv, tenant)
		if err != nil {
			return 0, err
		}
		listed, err := find(ctx, kv, streams.HeldKeys(tenant))
		if err != nil {
			return 0, err
		}
		if !s.Held && len(listed)+n == 0 {
			return 0, fmt.Errorf("tenant %s: %w", tenant, ErrNotHeld)
		}
		// While it is held nothing is sent, so each can be settled in peace.
		for _, d := range listed {
			if err := settle(ctx, b, kv, d, drop, now); err != nil {
				return 0, err
			}
		}
		if drop {
			n += len(listed)
		} else {
			n, released = len(listed), listed
		}
		if s.Held {
			_, err = save(ctx, kv, tenant, state{}, rev) // the counter starts anew
		}
		if err == nil {
			break
		}
		if !errors.Is(err, bus.ErrWrongSequence) { // else more was held meanwhile
			return 0, err
		}
	}
	if err := b.Purge(ctx, streams.DEAD, letterSubject(tenant), 0); err != nil {
		return 0, err
	}
	// Only now: a sink that looked before would have held it again.
	for _, d := range released {
		if err := publish(ctx, b, d, observation.Wake, now); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// settle lets d go on, or with drop tells the transform that its record stays.
func settle(ctx context.Context, p bus.Publisher, kv bus.KV, d Delete, drop bool, now time.Time) error {
	if drop {
		if err := publish(ctx, p, d, observation.Keep, now); err != nil {
			return err
		}
		if err := kv.Delete(ctx, d.key(), 0); err != nil {
			return fmt.Errorf("drop delete of %s %s: %w", d.Kind, d.ID, err)
		}
		return nil
	}
	if d.Released {
		return nil
	}
	d.Released = true
	value, err := json.Marshal(d)
	if err == nil {
		_, err = kv.Put(ctx, d.key(), value)
	}
	if err != nil {
		return fmt.Errorf("release delete of %s %s: %w", d.Kind, d.ID, err)
	}
	return nil
}

// publish tells the transform something about the delete's entity.
func publish(ctx context.Context, p bus.Publisher, d Delete, via observation.Via, now time.Time) error {
	o := observation.Observation{System: d.System, Tenant: d.Tenant, Kind: d.Kind, ExternalID: canonical.ExternalID(d.ID), Via: via, Entity: d.ID, ReadBegan: now}
	body, err := o.Encode()
	if err == nil {
		_, err = p.Publish(ctx, bus.Message{Subject: streams.Raw(o), ID: o.Key(), Data: body})
	}
	if err != nil {
		return fmt.Errorf("publish %s of %s %s: %w", via, d.Kind, d.ID, err)
	}
	return nil
}
