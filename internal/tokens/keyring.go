package tokens

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-json"
)

// Keyring are the keys that records are encrypted with. The first one seals,
// all of them open.
type Keyring struct{ keys []key }

type key struct {
	id   string
	aead cipher.AEAD
}

// ErrNoKey says that a record was sealed with a key that the ring lacks.
var ErrNoKey = errors.New("it is sealed with a key that is not configured")

// NewKeyring returns a ring of AES-256 keys: 32 bytes each, in base64 or hex.
// An error tells which one is wrong, and nothing of it.
func NewKeyring(texts ...string) (Keyring, error) {
	var r Keyring
	for i, text := range texts {
		raw, err := hex.DecodeString(strings.TrimSpace(text))
		if err != nil {
			raw, err = base64.StdEncoding.DecodeString(strings.TrimSpace(text))
		}
		if err != nil || len(raw) != 32 {
			return Keyring{}, fmt.Errorf("token key %d: it is not 32 bytes in base64 or hex", i+1)
		}
		block, err := aes.NewCipher(raw)
		if err != nil {
			return Keyring{}, fmt.Errorf("token key %d: %w", i+1, err)
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return Keyring{}, fmt.Errorf("token key %d: %w", i+1, err)
		}
		sum := sha256.Sum256(append([]byte("causeway token key id\x00"), raw...))
		r.keys = append(r.keys, key{hex.EncodeToString(sum[:4]), aead})
	}
	if len(r.keys) == 0 {
		return Keyring{}, errors.New("token keys: there are none")
	}
	return r, nil
}

// ID names the key that seals.
func (r Keyring) ID() string { return r.keys[0].id }

// sealed is a record as it is stored.
type sealed struct {
	Key   string `json:"key"`   // the id of the key
	Nonce []byte `json:"nonce"` // never used twice with a key: 96 random bits
	Data  []byte `json:"data"`
}

// seal encrypts text for the place at, which is authenticated with it.
func (r Keyring) seal(at string, text []byte) ([]byte, error) {
	k := r.keys[0]
	nonce := make([]byte, k.aead.NonceSize())
	_, _ = rand.Read(nonce) // never fails
	return json.Marshal(sealed{Key: k.id, Nonce: nonce, Data: k.aead.Seal(nil, nonce, text, []byte(at))})
}

// open decrypts what seal made for at, and returns the id of its key.
func (r Keyring) open(at string, value []byte) (text []byte, id string, err error) {
	var s sealed
	if err := json.Unmarshal(value, &s); err != nil {
		return nil, "", errors.New("it is no sealed record")
	}
	for _, k := range r.keys {
		if k.id != s.Key {
			continue
		}
		if len(s.Nonce) != k.aead.NonceSize() {
			return nil, s.Key, errors.New("it is no sealed record")
		}
		text, err := k.aead.Open(nil, s.Nonce, s.Data, []byte(at))
		if err != nil {
			return nil, s.Key, errors.New("it was changed, or is another owner's")
		}
		return text, s.Key, nil
	}
	return nil, s.Key, ErrNoKey
}
