// Package erase forgets a person who has asked for it: it purges what the
// streams and buckets hold of them, leaves a tombstone by which a late notice or
// poll is known, and looks through everything whether anything is left
// ([Run]).
//
// A tombstone is a key in IDENTITY that is a hash of a record's id at its
// system, keyed by a random word that is kept there too, and holds nothing but
// the day. It says nothing about anybody to who doesn't know the id already. The
// transform makes no entity of such a record ([Tombstones]), and ingest stores
// nothing of it ([Guard]). Somebody who is entered anew has a new record, and is
// a new person.
package erase

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

// Record names a record at a system.
type Record struct {
	Tenant   canonical.Tenant     `json:"tenant"`
	Kind     canonical.Kind       `json:"kind"`
	System   canonical.System     `json:"system"`
	External canonical.ExternalID `json:"external_id"`
}

const (
	saltKey = "erased.salt"
	inKey   = ".erased." // between the tenant and the hash
)

func key(salt []byte, r Record) string {
	h := hmac.New(sha256.New, salt)
	for _, part := range []string{string(r.Tenant), string(r.Kind), string(r.System), string(r.External)} {
		_, _ = fmt.Fprintf(h, "%d:%s", len(part), part) // a hash takes everything
	}
	return string(r.Tenant) + inKey + hex.EncodeToString(h.Sum(nil)[:20])
}

// Tombstones looks up those that there are. It may be used by any goroutine.
type Tombstones struct {
	kv   bus.KV
	mu   sync.Mutex
	salt []byte
}

// NewTombstones returns those in IDENTITY.
func NewTombstones(identity bus.KV) *Tombstones { return &Tombstones{kv: identity} }

// Has reports whether the record was erased.
func (t *Tombstones) Has(ctx context.Context, r Record) (bool, error) {
	salt, err := t.salted(ctx)
	if err != nil || salt == nil {
		return false, err
	}
	_, _, err = t.kv.Get(ctx, key(salt, r))
	switch {
	case errors.Is(err, bus.ErrNotFound):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look up a tombstone: %w", err)
	}
	return true, nil
}

// salted returns the word that the hashes are keyed by, nil before the first
// erasure.
func (t *Tombstones) salted(ctx context.Context) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.salt != nil {
		return t.salt, nil
	}
	salt, _, err := t.kv.Get(ctx, saltKey)
	if errors.Is(err, bus.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up a tombstone: %w", err)
	}
	t.salt = salt
	return salt, nil
}

// put leaves a tombstone for each record.
func (t *Tombstones) put(ctx context.Context, records []Record, day time.Time) error {
	salt := make([]byte, 32)
	_, _ = rand.Read(salt) // it never fails
	if _, err := t.kv.Create(ctx, saltKey, salt); err != nil && !errors.Is(err, bus.ErrExists) {
		return fmt.Errorf("leave a tombstone: %w", err)
	}
	salt, err := t.salted(ctx)
	if err != nil {
		return err
	}
	for _, r := range records {
		if _, err := t.kv.Put(ctx, key(salt, r), []byte(day.UTC().Format(time.DateOnly))); err != nil {
			return fmt.Errorf("leave a tombstone: %w", err)
		}
	}
	return nil
}

// refresh is how old what a Guard knows may be.
const refresh = 5 * time.Second

// Guard is a broker for ingest that stores nothing of a record that was erased,
// and says that it has: whoever sent it need not send it again.
type Guard struct {
	bus.Bus
	clock clock.Clock

	mu     sync.Mutex
	looked time.Time
	salt   []byte
	keys   map[string]bool
}

// NewGuard returns one before b.
func NewGuard(b bus.Bus, clk clock.Clock) *Guard { return &Guard{Bus: b, clock: clk} }

// Publish implements [bus.Publisher].
func (g *Guard) Publish(ctx context.Context, m bus.Message) (bus.Ack, error) {
	if erased, err := g.erased(ctx, m); err != nil || erased {
		return bus.Ack{Stream: streams.RAW}, err
	}
	return g.Bus.Publish(ctx, m)
}

// PublishAsync implements [bus.Publisher].
func (g *Guard) PublishAsync(ctx context.Context, m bus.Message, done func(bus.Ack, error)) error {
	erased, err := g.erased(ctx, m)
	if err != nil {
		return err
	}
	if erased {
		done(bus.Ack{Stream: streams.RAW}, nil)
		return nil
	}
	return g.Bus.PublishAsync(ctx, m, done)
}

func (g *Guard) erased(ctx context.Context, m bus.Message) (bool, error) {
	p, err := streams.Parse(m.Subject)
	if err != nil || p.Stream != "raw" || !p.Via.Shows() && p.Via != observation.Notice {
		return false, nil //nolint:nilerr // the broker will say so
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if now := g.clock.Now(); g.looked.IsZero() || now.Sub(g.looked) >= refresh {
		if err := g.look(ctx); err != nil {
			return false, fmt.Errorf("%w: look up tombstones: %w", bus.ErrNotStored, err)
		}
		g.looked = now
	}
	if len(g.keys) == 0 {
		return false, nil
	}
	r := Record{p.Tenant, p.Kind, p.System, canonical.ExternalID(p.ID)}
	if g.keys[key(g.salt, r)] {
		return true, nil
	}
	// What hangs on a person who was erased goes with them.
	if p.Kind == canonical.KindContact {
		return false, nil
	}
	o, err := observation.Decode(m.Data)
	if err != nil || o.Parent == "" {
		return false, nil //nolint:nilerr // whoever reads it will say so
	}
	r.Kind, r.External = canonical.KindContact, o.Parent
	return g.keys[key(g.salt, r)], nil
}

func (g *Guard) look(ctx context.Context) error {
	kv, err := g.Bucket(ctx, streams.IDENTITY)
	if err != nil {
		return err
	}
	salt, _, err := kv.Get(ctx, saltKey)
	if errors.Is(err, bus.ErrNotFound) {
		g.salt, g.keys = nil, nil
		return nil
	}
	if err != nil {
		return err
	}
	keys, err := kv.Keys(ctx, "*"+strings.TrimSuffix(inKey, ".")+".*")
	if err != nil {
		return err
	}
	g.salt, g.keys = salt, make(map[string]bool, len(keys))
	for _, k := range keys {
		g.keys[k] = true
	}
	return nil
}
