package tokens

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bus"
)

const (
	// stateLife is how long a person may take to install the app.
	stateLife = 10 * time.Minute
	stateAt   = "oauth state" // what a state is sealed for
	stateKeys = "state."
)

// ErrState says that a state is not one of ours, is too old, or was used.
var ErrState = errors.New("the state is unknown, too old, or was used already")

// state is what goes with a person to the page of consent and comes back.
type state struct {
	Owner   Owner     `json:"owner"`
	Nonce   string    `json:"nonce"`
	Expires time.Time `json:"expires"`
}

// NewState returns a state for an installation that is begun: sealed, bound to
// the owner, good for ten minutes and for one use. Nothing is stored.
func (s *Store) NewState(o Owner, now time.Time) (string, error) {
	text, err := json.Marshal(state{o, rand.Text(), now.Add(stateLife)})
	if err != nil {
		return "", fmt.Errorf("encode state: %w", err)
	}
	value, err := s.ring.seal(stateAt, text)
	if err != nil {
		return "", fmt.Errorf("seal state: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(value), nil
}

// UseState returns whose installation a state is of, once. Errors: ErrState, or
// the bucket's.
func (s *Store) UseState(ctx context.Context, text string, now time.Time) (Owner, error) {
	value, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return Owner{}, ErrState
	}
	plain, _, err := s.ring.open(stateAt, value)
	var st state
	if err != nil || json.Unmarshal(plain, &st) != nil || !now.Before(st.Expires) {
		return Owner{}, ErrState
	}
	if err := s.forgetStates(ctx, now); err != nil {
		return Owner{}, err
	}
	expires, err := st.Expires.MarshalText()
	if err != nil {
		return Owner{}, fmt.Errorf("encode state: %w", err)
	}
	switch _, err := s.kv.Create(ctx, stateKeys+st.Nonce, expires); {
	case errors.Is(err, bus.ErrExists):
		return Owner{}, ErrState
	case err != nil:
		return Owner{}, fmt.Errorf("store state: %w", err)
	}
	return st.Owner, nil
}

// forgetStates removes what was used and has expired since.
func (s *Store) forgetStates(ctx context.Context, now time.Time) error {
	keys, err := s.kv.Keys(ctx, stateKeys+"*")
	if err != nil {
		return fmt.Errorf("list states: %w", err)
	}
	for _, key := range keys {
		value, rev, err := s.kv.Get(ctx, key)
		var expires time.Time
		if err != nil || expires.UnmarshalText(value) != nil || now.Before(expires) {
			continue
		}
		if err := s.kv.Delete(ctx, key, rev); err != nil && !errors.Is(err, bus.ErrWrongSequence) {
			return fmt.Errorf("forget state: %w", err)
		}
	}
	return nil
}
