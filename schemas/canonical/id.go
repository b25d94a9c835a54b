package canonical

import (
	"crypto/sha256"
	"encoding/base32"
	"strconv"
	"strings"
)

// Tenant is one association: one GHL location paired with one Novi site. It
// is a short slug; [ValidTenant] says which.
type Tenant string

// System names where a record lives.
type System string

// The systems. The zero value is unknown.
const (
	GHL  System = "ghl"
	Novi System = "novi"
	Rule System = "rule"
	// Person is who decides by hand.
	Person System = "person"
)

// Other returns the system on the opposite side, or "" for anything but the
// two synchronized systems.
func (s System) Other() System {
	switch s {
	case GHL:
		return Novi
	case Novi:
		return GHL
	}
	return ""
}

// Kind is the kind of a record. The zero value is unknown.
type Kind string

// The kinds that are synchronized. A tag is derived from its contact.
const (
	KindContact     Kind = "contact"
	KindTask        Kind = "task"
	KindNote        Kind = "note"
	KindAppointment Kind = "appointment"
	KindTag         Kind = "tag"
)

// ExternalID is a system's own id for a record.
type ExternalID string

// CanonicalID is ours. It is a subject token as it stands.
type CanonicalID string

// Op is what an event says happened. The zero value is unknown.
type Op string

// The operations. Observed is bookkeeping: links or bases changed, no public
// field did. Added and Removed are for tags only.
const (
	OpCreated  Op = "created"
	OpUpdated  Op = "updated"
	OpDeleted  Op = "deleted"
	OpMerged   Op = "merged"
	OpObserved Op = "observed"
	OpAdded    Op = "added"
	OpRemoved  Op = "removed"
)

var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Items are the kinds that hang on a contact.
func Items() []Kind { return []Kind{KindTask, KindNote, KindAppointment} }

// NewID returns the canonical id of the entity first seen as record external
// of system: 128 bits of SHA-256 over the four, in lower-case base32 (26
// characters). The same arguments always give the same id, so that rebuilding
// from RAW does too.
func NewID(tenant Tenant, kind Kind, system System, external ExternalID) CanonicalID {
	h := sha256.New()
	for _, part := range []string{string(tenant), string(kind), string(system), string(external)} {
		h.Write([]byte(strconv.Itoa(len(part))))
		h.Write([]byte{':'})
		h.Write([]byte(part))
	}
	return CanonicalID(idEncoding.EncodeToString(h.Sum(nil)[:16]))
}

// ValidTenant reports whether t is usable as a tenant: 1 to 40 characters of
// a-z, 0-9 and '-', not starting or ending with '-'.
func ValidTenant(t Tenant) bool {
	s := string(t)
	if len(s) == 0 || len(s) > 40 || strings.HasPrefix(s, "-") || strings.HasSuffix(s, "-") {
		return false
	}
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' {
			return false
		}
	}
	return true
}
