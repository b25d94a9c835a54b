package novi

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/ingest/webhook"
	"github.com/causeway-sync/causeway/schemas/canonical"
)

// Source reads one tenant's webhooks. Who may send them is settled by a
// secret token in the path, before a Source is reached; a signature is
// checked as well if a secret is set. Its header and form are a guess
// (dossier Novi §6), so the header is configuration.
type Source struct {
	Tenant canonical.Tenant
	// Secret of the HMAC-SHA256 in hex; empty means that none is checked.
	Secret string
	// Header that carries it; "" means X-Novi-Signature.
	Header string
}

// System is Novi.
func (Source) System() canonical.System { return canonical.Novi }

// Verify checks the HMAC over the bytes as received, if there is a secret.
func (s Source) Verify(h http.Header, raw []byte) error {
	if s.Secret == "" {
		return nil
	}
	name := s.Header
	if name == "" {
		name = "X-Novi-Signature"
	}
	given := strings.TrimPrefix(strings.TrimSpace(h.Get(name)), "sha256=")
	if given == "" {
		return fmt.Errorf("%w: no %s", webhook.ErrUnsigned, name)
	}
	mac := hmac.New(sha256.New, []byte(s.Secret))
	mac.Write(raw)
	if b, err := hex.DecodeString(given); err != nil || !hmac.Equal(b, mac.Sum(nil)) {
		return fmt.Errorf("%w: %s does not match", webhook.ErrUnsigned, name)
	}
	return nil
}

// Read says what a body is about. It has no delivery id and no time, so two
// events of one record look the same and none can be dropped as a copy:
// copies coalesce in the fetch. Keys are matched without regard to case (§6).
func (s Source) Read(raw []byte) (webhook.Notice, error) {
	var e struct {
		Event          string
		EntityUniqueID string
	}
	if err := json.Unmarshal(raw, &e); err != nil {
		return webhook.Notice{}, fmt.Errorf("%w: event or entityUniqueId is not text", webhook.ErrMalformed)
	}
	n := webhook.Notice{Tenant: s.Tenant, External: canonical.ExternalID(e.EntityUniqueID)}
	if family, _, _ := strings.Cut(strings.ToLower(e.Event), "."); family == "customer" || family == "member" {
		n.Kind = canonical.KindContact
	}
	switch {
	case n.Kind == "":
		return n, fmt.Errorf("%w: its event is of no kind that is kept", webhook.ErrUnroutable)
	case n.External == "":
		return n, fmt.Errorf("%w: it names no record", webhook.ErrUnroutable)
	}
	return n, nil
}
