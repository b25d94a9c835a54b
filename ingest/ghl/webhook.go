package ghl

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/ingest/webhook"
	"github.com/causeway-sync/causeway/schemas/canonical"
)

// PublishedKeys are the public keys that GHL has published (§5.3): the
// Ed25519 key of X-GHL-Signature, and the RSA key of the legacy header.
const PublishedKeys = `-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAi2HR1srL4o18O8BRa7gVJY7G7bupbN3H9AwJrHCDiOg=
-----END PUBLIC KEY-----
-----BEGIN PUBLIC KEY-----
MIICIjANBgkqhkiG9w0BAQEFAAOCAg8AMIICCgKCAgEAokvo/r9tVgcfZ5DysOSC
Frm602qYV0MaAiNnX9O8KxMbiyRKWeL9JpCpVpt4XHIcBOK4u3cLSqJGOLaPuXw6
dO0t6Q/ZVdAV5Phz+ZtzPL16iCGeK9po6D6JHBpbi989mmzMryUnQJezlYJ3DVfB
csedpinheNnyYeFXolrJvcsjDtfAeRx5ByHQmTnSdFUzuAnC9/GepgLT9SM4nCpv
uxmZMxrJt5Rw+VUaQ9B8JSvbMPpez4peKaJPZHBbU3OdeCVx5klVXXZQGNHOs8gF
3kvoV5rTnXV0IknLBXlcKKAQLZcY/Q9rG6Ifi9c+5vqlvHPCUJFT5XUGG5RKgOKU
J062fRtN+rLYZUV+BjafxQauvC8wSWeYja63VSUruvmNj8xkx2zE/Juc+yjLjTXp
IocmaiFeAO6fUtNjDeFVkhf5LNb59vECyrHD2SQIrhgXpO4Q3dVNA5rw576PwTzN
h/AMfHKIjE4xQA1SZuYJmNnmVZLIZBlQAF9Ntd03rfadZ+yDiOXCCs9FkHibELhC
HULgCsnuDJHcrGNd5/Ddm5hxGQ0ASitgHeMZ0kcIOwKDOzOU53lDza6/Y09T7sYJ
PQe7z0cvj7aE4B+Ax1ZoZGPzpJlZtGXCsu9aTEGEnKzmsFqwcSsnw3JB31IGKAyk
T1hhTiaCeIY/OwwwNUY2yvcCAwEAAQ==
-----END PUBLIC KEY-----
`

// Keys are the public keys that webhooks may be signed with; rotation is
// announced by mail, so they are a list.
type Keys struct {
	Ed25519 []ed25519.PublicKey
	RSA     []*rsa.PublicKey
}

// ParseKeys reads PEM blocks of either kind.
func ParseKeys(text string) (Keys, error) {
	var keys Keys
	rest := []byte(text)
	for n := 1; ; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return Keys{}, fmt.Errorf("webhook key %d: %w", n, err)
		}
		switch k := key.(type) {
		case ed25519.PublicKey:
			keys.Ed25519 = append(keys.Ed25519, k)
		case *rsa.PublicKey:
			keys.RSA = append(keys.RSA, k)
		default:
			return Keys{}, fmt.Errorf("webhook key %d: a %T is neither Ed25519 nor RSA", n, key)
		}
	}
	if len(keys.Ed25519)+len(keys.RSA) == 0 {
		return Keys{}, errors.New("webhook keys: no PEM block")
	}
	return keys, nil
}

// Source reads GHL's webhooks for all locations of an app.
type Source struct {
	// Keys that are trusted.
	Keys Keys
	// AllowLegacy also takes X-WH-Signature where X-GHL-Signature is absent.
	// GHL has announced that it no longer sends it.
	AllowLegacy bool
	// AppID, if set, is what a body's appId has to be where it has one.
	AppID string
	// Tenants by location id.
	Tenants map[string]canonical.Tenant
}

// System is GHL.
func (Source) System() canonical.System { return canonical.GHL }

// Verify checks the signature over the bytes as received (§5.3). "N/A" means
// unsigned. A request that has the current header is judged by it alone.
func (s Source) Verify(h http.Header, raw []byte) error {
	if sig := signature(h, "X-GHL-Signature"); sig != "" {
		b, err := base64.StdEncoding.DecodeString(sig)
		if err != nil {
			return fmt.Errorf("%w: X-GHL-Signature is not base64", webhook.ErrUnsigned)
		}
		for _, k := range s.Keys.Ed25519 {
			if ed25519.Verify(k, raw, b) {
				return nil
			}
		}
		return fmt.Errorf("%w: X-GHL-Signature matches no key", webhook.ErrUnsigned)
	}
	sig := signature(h, "X-WH-Signature")
	switch {
	case sig == "":
		return fmt.Errorf("%w: no X-GHL-Signature", webhook.ErrUnsigned)
	case !s.AllowLegacy:
		return fmt.Errorf("%w: X-WH-Signature is not allowed here", webhook.ErrUnsigned)
	}
	b, err := base64.StdEncoding.DecodeString(sig)
	if err != nil {
		return fmt.Errorf("%w: X-WH-Signature is not base64", webhook.ErrUnsigned)
	}
	digest := sha256.Sum256(raw)
	for _, k := range s.Keys.RSA {
		if rsa.VerifyPKCS1v15(k, crypto.SHA256, digest[:], b) == nil {
			return nil
		}
	}
	return fmt.Errorf("%w: X-WH-Signature matches no key", webhook.ErrUnsigned)
}

func signature(h http.Header, name string) string {
	if v := strings.TrimSpace(h.Get(name)); v != "N/A" {
		return v
	}
	return ""
}

// kinds says what an event type's first word is about.
var kinds = []struct {
	prefix string
	kind   canonical.Kind
}{{"Contact", canonical.KindContact}, {"Note", canonical.KindNote}, {"Task", canonical.KindTask}, {"Appointment", canonical.KindAppointment}}

// Read says what a body is about. Bodies are flat; one that is wrapped in
// "data" is tolerated (§5.1).
func (s Source) Read(raw []byte) (webhook.Notice, error) {
	type event struct {
		Type        string `json:"type"`
		LocationID  string `json:"locationId"`
		AppID       string `json:"appId"`
		WebhookID   string `json:"webhookId"`
		ID          string `json:"id"`
		ContactID   string `json:"contactId"`
		Appointment struct {
			ID        string `json:"id"`
			ContactID string `json:"contactId"`
		} `json:"appointment"`
	}
	var e struct {
		event
		Data event `json:"data"`
	}
	if err := json.Unmarshal(raw, &e); err != nil {
		return webhook.Notice{}, fmt.Errorf("%w: a key that names the event is not text", webhook.ErrMalformed)
	}
	first := func(values ...string) string {
		for _, v := range values {
			if v != "" {
				return v
			}
		}
		return ""
	}
	if app := first(e.AppID, e.Data.AppID); s.AppID != "" && app != "" && app != s.AppID {
		return webhook.Notice{}, fmt.Errorf("%w: it is from another app", webhook.ErrUnsigned)
	}
	n := webhook.Notice{External: canonical.ExternalID(first(e.ID, e.Data.ID, e.Appointment.ID, e.Data.Appointment.ID)),
		Parent: canonical.ExternalID(first(e.ContactID, e.Data.ContactID, e.Appointment.ContactID, e.Data.Appointment.ContactID))}
	if id := first(e.WebhookID, e.Data.WebhookID); id != "" {
		n.ID = "ghl-" + id
	} else {
		sum := sha256.Sum256(raw)
		n.ID = "ghl-" + hex.EncodeToString(sum[:])
	}
	typ := first(e.Type, e.Data.Type)
	for _, k := range kinds {
		if strings.HasPrefix(typ, k.prefix) {
			n.Kind = k.kind
		}
	}
	if n.Kind == canonical.KindContact {
		n.Parent = ""
	}
	location := first(e.LocationID, e.Data.LocationID)
	n.Tenant = s.Tenants[location]
	switch {
	case n.Tenant == "" && typ == "INSTALL" && location != "":
		return n, fmt.Errorf("%w: the app was installed in location %.40q, which is no tenant's", webhook.ErrUnroutable, location)
	case n.Tenant == "":
		return n, fmt.Errorf("%w: its location belongs to no tenant", webhook.ErrUnroutable)
	case n.Kind == "":
		return n, fmt.Errorf("%w: its type is of no kind that is kept", webhook.ErrUnroutable)
	case n.External == "":
		return n, fmt.Errorf("%w: it names no record", webhook.ErrUnroutable)
	}
	return n, nil
}
