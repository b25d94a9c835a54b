package streams

import (
	"strings"
	"time"

	"github.com/causeway-sync/causeway/schemas/canonical"
)

// Receipt is what a process that publishes to RAW knows to be stored there, by
// lane (see [RawLane]). It is the value of [ReceiptKey] in COUNTS, so that a
// RAW that was restored or cut short doesn't take it back.
//
// A publisher numbers its messages in each lane from 1 and puts the number in
// their header (see observation.Count).
type Receipt struct {
	// Began is when the publisher sent its first message, and At when it was
	// last heard of: it says so once an hour at the least.
	Began time.Time `json:"began"`
	At    time.Time `json:"at"`
	// Closed says that nothing more will come of it.
	Closed bool                    `json:"closed,omitempty"`
	Lanes  map[string]Acknowledged `json:"lanes,omitempty"`
}

// Acknowledged is what became of the messages of a publisher in a lane.
type Acknowledged struct {
	// UpTo is the number up to which the broker has answered for every message,
	// or is taken to have nothing to say.
	UpTo uint64 `json:"up_to"`
	// Stored is how many of those were stored; copies that the broker dropped
	// are not.
	Stored uint64 `json:"stored"`
	// Doubt are those of which nobody knows whether they were stored, and that
	// Stored doesn't count.
	Doubt []NumberRange `json:"doubt,omitempty"`
	// Last is the highest sequence that one of them was given.
	Last uint64 `json:"last"`
}

// NumberRange is the numbers from From to To, both included.
type NumberRange struct {
	From uint64 `json:"from"`
	To   uint64 `json:"to"`
}

// ReceiptKey returns the key in COUNTS of a publisher's [Receipt], and
// ReceiptKeys the pattern of all.
func ReceiptKey(publisher string) string { return "publisher." + Token(publisher) }

// ReceiptKeys is explained at [ReceiptKey].
const ReceiptKeys = "publisher.*"

// ParseReceiptKey returns the publisher that a key of [ReceiptKeys] is of.
func ParseReceiptKey(key string) (string, error) {
	return ParseToken(strings.TrimPrefix(key, "publisher."))
}

// AuditKey is the key in COUNTS of how far RAW has been counted.
const AuditKey = "audit"

// RawLane returns the part of a subject of RAW that says what would have to be
// read anew if the message got lost, <system>.<tenant>.<kind>; "" if the subject
// is none of RAW's.
func RawLane(subject string) string {
	rest, ok := strings.CutPrefix(subject, "raw.")
	if !ok {
		return ""
	}
	end := 0
	for range 3 {
		i := strings.IndexByte(rest[end:], '.')
		if i < 0 {
			return ""
		}
		end += i + 1
	}
	return rest[:end-1]
}

// ParseLane is the inverse of RawLane.
func ParseLane(lane string) (system canonical.System, tenant canonical.Tenant, kind canonical.Kind, err error) {
	p, err := Parse("raw." + lane + ".x.x")
	return p.System, p.Tenant, p.Kind, err
}

// Gap returns the subject of what is known of a gap:
// gaps.<system>.<tenant>.<kind>. The last message there is how it stands.
func Gap(system canonical.System, tenant canonical.Tenant, kind canonical.Kind) string {
	return subject("gaps", string(system), string(tenant), string(kind))
}

// AllGaps is the filter for every gap there ever was.
const AllGaps = "gaps.>"

// State is what a stream holds at a moment.
type State struct {
	Created     time.Time // a stream that was made anew has another
	First, Last uint64    // sequences
}
