package streams

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
)

// This file is the only place that builds, encodes or parses a subject.
//
// A token from outside is used as it stands if it holds nothing but
// [A-Za-z0-9_-], is not empty and doesn't start with the escape; otherwise it
// is escape followed by its bytes in lower-case hex. So every string has
// exactly one token, and no token can hold a dot, a space or a wildcard.
const escape = "x--"

// Token encodes s, which may be any string, as one subject token.
func Token(s string) string {
	if s != "" && !strings.HasPrefix(s, escape) && plain(s) {
		return s
	}
	return escape + hex.EncodeToString([]byte(s))
}

// ParseToken is the inverse of Token. It refuses what Token would not have made.
func ParseToken(token string) (string, error) {
	if rest, ok := strings.CutPrefix(token, escape); ok {
		b, err := hex.DecodeString(rest)
		if err != nil {
			return "", fmt.Errorf("parse subject token: %w", err)
		}
		if Token(string(b)) != token {
			return "", fmt.Errorf("parse subject token: not in its one spelling")
		}
		return string(b), nil
	}
	if token == "" || !plain(token) {
		return "", fmt.Errorf("parse subject token: character outside [A-Za-z0-9_-]")
	}
	return token, nil
}

func plain(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// subject joins parts, each encoded, so that nothing in one reaches the next.
func subject(parts ...string) string {
	for i, p := range parts {
		parts[i] = Token(p)
	}
	return strings.Join(parts, ".")
}

// where joins parts like subject, but "" is anything.
func where(parts ...string) string {
	for i, p := range parts {
		if p == "" {
			parts[i] = "*"
		} else {
			parts[i] = Token(p)
		}
	}
	return strings.Join(parts, ".")
}

// RawWhere returns the filter for observations of which those parts are known
// that are not "".
func RawWhere(system canonical.System, tenant canonical.Tenant, kind canonical.Kind, external canonical.ExternalID, via observation.Via) string {
	return where("raw", string(system), string(tenant), string(kind), string(external), string(via))
}

// CanonicalWhere returns the filter for events of which those parts are known
// that are not "".
func CanonicalWhere(kind canonical.Kind, tenant canonical.Tenant, id canonical.CanonicalID, op canonical.Op) string {
	return where("canonical", string(kind), string(tenant), string(id), string(op))
}

// EffectsWhere returns the filter for effects of which those parts are known
// that are not "".
func EffectsWhere(system canonical.System, tenant canonical.Tenant, kind canonical.Kind, id canonical.CanonicalID) string {
	return where("effects", string(system), string(tenant), string(kind), string(id))
}

// DeadWhere returns the filter for dead letters of which those parts are known
// that are not "".
func DeadWhere(stage string, tenant canonical.Tenant, kind canonical.Kind, id string) string {
	return where("dead", stage, string(tenant), string(kind), id)
}

// LinkWhere returns the pattern of the keys in IDENTITY of linked records of
// which those parts are known that are not "".
func LinkWhere(tenant canonical.Tenant, kind canonical.Kind, system canonical.System, external canonical.ExternalID) string {
	return where(string(tenant), string(kind), string(system), string(external))
}

// ClaimKey returns the key in IDENTITY of the claim that something of a
// contact's has these values. They are hashed: no key shows one.
func ClaimKey(tenant canonical.Tenant, what string, values ...string) string {
	h := sha256.Sum256([]byte(string(tenant) + "\x00" + Token(what) + "\x00" + strings.Join(values, "\x00")))
	return string(tenant) + ".contact." + Token(what) + "." + hex.EncodeToString(h[:16])
}

// BucketStream returns the stream behind a key-value bucket, and the filter for
// its keys. [ParseBucketSubject] is the way back from a message's subject.
func BucketStream(bucket string) (stream, filter string) {
	return "KV_" + bucket, "$KV." + bucket + ".>"
}

// ParseBucketSubject returns the key that a message of a bucket's stream is of.
func ParseBucketSubject(bucket, subject string) string {
	return strings.TrimPrefix(subject, "$KV."+bucket+".")
}

// LinkKey returns the key in IDENTITY under which a record is linked to its
// entity.
func LinkKey(tenant canonical.Tenant, kind canonical.Kind, system canonical.System, external canonical.ExternalID) string {
	return subject(string(tenant), string(kind), string(system), string(external))
}

// LinkKeys returns the pattern of the keys of all linked records of a kind.
func LinkKeys(tenant canonical.Tenant, kind canonical.Kind, system canonical.System) string {
	return subject(string(tenant), string(kind), string(system)) + ".*"
}

// ParseLinkKey returns the record that a key of [LinkKeys] is of.
func ParseLinkKey(key string) (canonical.ExternalID, error) {
	external, err := ParseToken(key[strings.LastIndexByte(key, '.')+1:])
	return canonical.ExternalID(external), err
}

// Raw returns the subject of an observation:
// raw.<system>.<tenant>.<kind>.<external id>.<via>.
func Raw(o observation.Observation) string {
	return subject("raw", string(o.System), string(o.Tenant), string(o.Kind), string(o.ExternalID), string(o.Via))
}

// RawOf returns the wildcard over all that RAW holds of an observation's
// record.
func RawOf(o observation.Observation) string {
	return subject("raw", string(o.System), string(o.Tenant), string(o.Kind), string(o.ExternalID)) + ".*"
}

// Canonical returns the subject of an event:
// canonical.<kind>.<tenant>.<canonical id>.<op>.
func Canonical(kind canonical.Kind, tenant canonical.Tenant, id canonical.CanonicalID, op canonical.Op) string {
	return subject("canonical", string(kind), string(tenant), string(id), string(op))
}

// Entity returns the wildcard over all of an entity's events. Every writer
// expects its last sequence over this very subject.
func Entity(kind canonical.Kind, tenant canonical.Tenant, id canonical.CanonicalID) string {
	return subject("canonical", string(kind), string(tenant), string(id)) + ".*"
}

// Effect returns the subject of the sink's record for an entity at a
// destination: effects.<system>.<tenant>.<kind>.<canonical id>.
func Effect(system canonical.System, tenant canonical.Tenant, kind canonical.Kind, id canonical.CanonicalID) string {
	return subject("effects", string(system), string(tenant), string(kind), string(id))
}

// FiringEffect returns the subject of the sink's record of what a rule's firing
// asks for outside: effects.<system>.<tenant>.rule.<canonical id>.<action>,
// where the id is the contact's and the action is the firing's key and a number.
// The system is webhook for a call to anybody else.
func FiringEffect(system canonical.System, tenant canonical.Tenant, contact canonical.CanonicalID, action string) string {
	return subject("effects", string(system), string(tenant), string(canonical.Rule), string(contact), action)
}

// FiringEffectsOf returns the wildcard over what is recorded of a contact's.
func FiringEffectsOf(tenant canonical.Tenant, contact canonical.CanonicalID) string {
	return where("effects", "", string(tenant), string(canonical.Rule), string(contact), "")
}

// FiringEffects returns the wildcard over what is recorded of an action,
// whatever the system and the contact.
func FiringEffects(tenant canonical.Tenant, action string) string {
	return where("effects", "", string(tenant), string(canonical.Rule), "", action)
}

// Dead returns the subject of a dead letter: dead.<stage>.<tenant>.<kind>.<id>.
// An unknown tenant or kind is the token "unknown".
func Dead(stage string, tenant canonical.Tenant, kind canonical.Kind, id string) string {
	return subject("dead", stage, cmp.Or(string(tenant), "unknown"), cmp.Or(string(kind), "unknown"), id)
}

// Audit returns the subject of what a person had done: audit.<tenant>.<action>.
// No tenant is the token "all".
func Audit(tenant canonical.Tenant, action string) string {
	return subject("audit", cmp.Or(string(tenant), "all"), action)
}

// Audits is the filter for all that people had done.
const Audits = "audit.>"

// DeadLetters returns the filter for the dead letters of a stage and a tenant;
// "" is every one's.
func DeadLetters(stage, tenant string) string {
	parts := []string{"dead", "*", "*", "*", "*"}
	if stage != "" {
		parts[1] = Token(stage)
	}
	if tenant != "" {
		parts[2] = Token(tenant)
	}
	return strings.Join(parts, ".")
}

// Parsed is what a subject says. Only the fields that its stream has are set.
type Parsed struct {
	Stream string // the first token: raw, canonical, effects, dead, gaps or audit
	System canonical.System
	Tenant canonical.Tenant
	Kind   canonical.Kind
	ID     string // external or canonical id, decoded
	Via    observation.Via
	Op     canonical.Op
	Stage  string
	Action string // of an audit, or of what a rule's firing asks for outside
}

// Parse reads a subject that this package built. It refuses any other.
func Parse(subject string) (Parsed, error) {
	t := strings.Split(subject, ".")
	for i := range t {
		var err error
		if t[i], err = ParseToken(t[i]); err != nil {
			return Parsed{}, err
		}
	}
	switch {
	case t[0] == "raw" && len(t) == 6:
		return Parsed{Stream: t[0], System: canonical.System(t[1]), Tenant: canonical.Tenant(t[2]), Kind: canonical.Kind(t[3]), ID: t[4], Via: observation.Via(t[5])}, nil
	case t[0] == "canonical" && len(t) == 5:
		return Parsed{Stream: t[0], Kind: canonical.Kind(t[1]), Tenant: canonical.Tenant(t[2]), ID: t[3], Op: canonical.Op(t[4])}, nil
	case t[0] == "effects" && len(t) == 5:
		return Parsed{Stream: t[0], System: canonical.System(t[1]), Tenant: canonical.Tenant(t[2]), Kind: canonical.Kind(t[3]), ID: t[4]}, nil
	case t[0] == "effects" && len(t) == 6 && t[3] == string(canonical.Rule):
		return Parsed{Stream: t[0], System: canonical.System(t[1]), Tenant: canonical.Tenant(t[2]), Kind: canonical.Kind(t[3]), ID: t[4], Action: t[5]}, nil
	case t[0] == "dead" && len(t) == 5:
		return Parsed{Stream: t[0], Stage: t[1], Tenant: canonical.Tenant(t[2]), Kind: canonical.Kind(t[3]), ID: t[4]}, nil
	case t[0] == "gaps" && len(t) == 4:
		return Parsed{Stream: t[0], System: canonical.System(t[1]), Tenant: canonical.Tenant(t[2]), Kind: canonical.Kind(t[3])}, nil
	case t[0] == "audit" && len(t) == 3:
		return Parsed{Stream: t[0], Tenant: canonical.Tenant(t[1]), Action: t[2]}, nil
	}
	return Parsed{}, fmt.Errorf("parse subject: %d tokens starting with %q are no subject of ours", len(t), t[0])
}
