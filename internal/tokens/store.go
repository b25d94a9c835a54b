package tokens

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/streams"
)

// Store is bucket TOKENS. It is safe for concurrent use.
type Store struct {
	kv   bus.KV
	ring Keyring
}

// NewStore returns a store in kv whose records are sealed by ring.
func NewStore(kv bus.KV, ring Keyring) *Store { return &Store{kv, ring} }

// load returns the owner's record and its revision; both are zero if there is
// none.
func (s *Store) load(ctx context.Context, o Owner) (Grant, uint64, error) {
	value, rev, err := s.kv.Get(ctx, o.key())
	if errors.Is(err, bus.ErrNotFound) {
		return Grant{}, 0, nil
	}
	if err != nil {
		return Grant{}, 0, fmt.Errorf("load tokens of %s: %w", o, err)
	}
	g, _, err := s.open(o.key(), value)
	if err != nil {
		return Grant{}, 0, fmt.Errorf("tokens of %s: %w", o, err)
	}
	return g, rev, nil
}

func (s *Store) open(at string, value []byte) (g Grant, keyID string, err error) {
	text, keyID, err := s.ring.open(at, value)
	if err != nil {
		return g, keyID, err
	}
	if json.Unmarshal(text, &g) != nil {
		err = errors.New("it is no grant")
	}
	return g, keyID, err
}

// save stores g if the revision is still rev, 0 for no record, and returns the
// next. Errors: [bus.ErrWrongSequence]; any other one leaves it open whether g
// was stored.
func (s *Store) save(ctx context.Context, o Owner, g Grant, rev uint64) (uint64, error) {
	text, err := json.Marshal(g)
	if err != nil {
		return 0, fmt.Errorf("encode tokens of %s: %w", o, err)
	}
	value, err := s.ring.seal(o.key(), text)
	if err != nil {
		return 0, fmt.Errorf("seal tokens of %s: %w", o, err)
	}
	if rev == 0 {
		rev, err = s.kv.Create(ctx, o.key(), value)
	} else {
		rev, err = s.kv.Update(ctx, o.key(), value, rev)
	}
	switch {
	case errors.Is(err, bus.ErrExists), errors.Is(err, bus.ErrWrongSequence):
		return 0, fmt.Errorf("store tokens of %s: %w", o, bus.ErrWrongSequence)
	case err != nil:
		return 0, fmt.Errorf("store tokens of %s: %w", o, err)
	}
	return rev, nil
}

// change stores what f makes of the owner's record, which is the zero Grant if
// there is none, unless f says false. f may be called more than once.
func (s *Store) change(ctx context.Context, o Owner, f func(Grant) (Grant, bool)) error {
	for {
		g, rev, err := s.load(ctx, o)
		if err != nil {
			return err
		}
		next, ok := f(g)
		if !ok {
			return nil
		}
		if _, err := s.save(ctx, o, next, rev); !errors.Is(err, bus.ErrWrongSequence) {
			return err
		}
	}
}

// Install stores the pair of a new installation, whatever was there.
func (s *Store) Install(ctx context.Context, o Owner, p Pair, at time.Time) error {
	id := rand.Text()
	if err := s.change(ctx, o, func(Grant) (Grant, bool) { return Grant{ID: id, At: at}.with(p, at), true }); err != nil {
		return err
	}
	if o.Company == "" {
		return nil
	}
	// What went with the agency may come back with it.
	return s.ofCompany(ctx, o.Company, func(g Grant) (Grant, bool) {
		return Grant{At: at, Company: g.Company, Location: g.Location}, g.Gone
	})
}

// Allow says that the app was installed at a location through its agency at
// the given time: a token may be made for it from the agency's. What is newer,
// or has tokens of its own, is left alone.
func (s *Store) Allow(ctx context.Context, o Owner, at time.Time) error {
	return s.change(ctx, o, func(g Grant) (Grant, bool) {
		return Grant{At: at, Company: g.Company, Location: g.Location}, g.Gone && g.At.Before(at)
	})
}

// Uninstall forgets the tokens that were there at the given time: an
// installation after it is left alone. An agency takes the tokens with it that
// were made from its own.
func (s *Store) Uninstall(ctx context.Context, o Owner, at time.Time) error {
	gone := func(g Grant) (Grant, bool) {
		return Grant{Gone: true, At: at, Company: g.Company, Location: g.Location}, !g.At.After(at)
	}
	if err := s.change(ctx, o, gone); err != nil || o.Company == "" {
		return err
	}
	return s.ofCompany(ctx, o.Company, func(g Grant) (Grant, bool) {
		if !g.Minted {
			return g, false
		}
		return gone(g)
	})
}

// ofCompany changes the records of tenants that are reached through an agency.
func (s *Store) ofCompany(ctx context.Context, company string, f func(Grant) (Grant, bool)) error {
	list, err := s.List(ctx)
	if err != nil {
		return err
	}
	for _, l := range list {
		if l.Owner.Tenant == "" || l.Err != nil || l.Grant.Company != company {
			continue
		}
		if err := s.change(ctx, l.Owner, f); err != nil {
			return err
		}
	}
	return nil
}

// Listed is a record of the bucket.
type Listed struct {
	Owner Owner
	Grant Grant
	KeyID string // of the key that it is sealed with
	Err   error  // why it can't be read; Grant is zero then
}

// List returns all records, by owner.
func (s *Store) List(ctx context.Context) ([]Listed, error) {
	keys, err := s.kv.Keys(ctx, "ghl.>")
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	slices.Sort(keys)
	var out []Listed
	for _, key := range keys {
		o, err := ownerOf(key)
		if err != nil {
			continue // another version's
		}
		value, _, err := s.kv.Get(ctx, key)
		if errors.Is(err, bus.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("load tokens of %s: %w", o, err)
		}
		l := Listed{Owner: o}
		l.Grant, l.KeyID, l.Err = s.open(key, value)
		out = append(out, l)
	}
	return out, nil
}

func ownerOf(key string) (Owner, error) {
	if token, ok := strings.CutPrefix(key, tenantKeys); ok {
		name, err := streams.ParseToken(token)
		return Owner{Tenant: canonical.Tenant(name)}, err
	}
	token, ok := strings.CutPrefix(key, companyKeys)
	if !ok {
		return Owner{}, errors.New("no owner's key")
	}
	id, err := streams.ParseToken(token)
	return Owner{Company: id}, err
}

// RotateKey seals every record with the first key of the ring that another one
// has sealed, and returns how many. It may run while tokens are refreshed.
func (s *Store) RotateKey(ctx context.Context) (int, error) {
	list, err := s.List(ctx)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, l := range list {
		if l.Err != nil {
			return n, fmt.Errorf("tokens of %s: %w", l.Owner, l.Err)
		}
		if l.KeyID == s.ring.ID() {
			continue
		}
		if err := s.change(ctx, l.Owner, func(g Grant) (Grant, bool) { return g, true }); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// Retry has a refresh token that is in doubt presented once more. It is for a
// person to decide: if the server has used it up, it refuses it then, and one
// that takes a second use for a theft ends the access token as well.
func (s *Store) Retry(ctx context.Context, o Owner, now time.Time) error {
	err := errNothing
	if changeErr := s.change(ctx, o, func(g Grant) (Grant, bool) {
		switch {
		case g.State(now) == inDoubt:
			g.Pending, err = nil, nil
			return g, true
		case g.Pending != nil:
			err = fmt.Errorf("%s: it is being refreshed; nothing is in doubt before %s", o, g.Pending.Since.Add(patience).Format(time.RFC3339))
		}
		return g, false
	}); changeErr != nil {
		return changeErr
	}
	if errors.Is(err, errNothing) {
		return fmt.Errorf("%s: %w", o, err)
	}
	return err
}

var errNothing = errors.New("no refresh of its token is in doubt")
