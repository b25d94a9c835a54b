package gap

import (
	"slices"
	"time"

	"github.com/causeway-sync/causeway/streams"
)

// audit is how far RAW has been counted. It is the value of [streams.AuditKey].
type audit struct {
	// Began is when the counting began with nothing; what a publisher had sent
	// before isn't asked for. It is zero if RAW held all that there ever was.
	Began time.Time `json:"began,omitzero"`
	// Created is the stream's, and At the time of its message Seq, up to which
	// all headers have been read; zero if there is no such message.
	Created time.Time `json:"created,omitzero"`
	Seq     uint64    `json:"seq"`
	At      time.Time `json:"at,omitzero"`
	// Lanes are the newest messages about each system, tenant and kind.
	Lanes      map[string]mark       `json:"lanes"`
	Publishers map[string]*publisher `json:"publishers"`
	Due        time.Time             `json:"due"` // nobody else works on it before
}

// mark is a message by which a stream is known again.
type mark struct {
	Seq uint64    `json:"seq"`
	At  time.Time `json:"at"`
}

// publisher is what RAW has shown of one.
type publisher struct {
	Heard time.Time        `json:"heard"` // when its newest message was stored
	Lanes map[string]*seen `json:"lanes"`
}

func (p *publisher) lane(name string) *seen {
	s := p.Lanes[name]
	if s == nil {
		s = &seen{}
		p.Lanes[name] = s
	}
	return s
}

// seen are the numbers of a publisher that were found in a lane.
type seen struct {
	// UpTo and Stored are the receipt's that was compared last.
	UpTo   uint64                `json:"up_to"`
	Stored uint64                `json:"stored"`
	Above  []streams.NumberRange `json:"above,omitempty"` // those found that are greater than UpTo
}

// add notes that n was found.
func (s *seen) add(n uint64) {
	if n <= s.UpTo {
		return
	}
	i, _ := slices.BinarySearchFunc(s.Above, n, func(r streams.NumberRange, n uint64) int {
		switch {
		case r.To+1 < n:
			return -1
		case r.From > n+1:
			return 1
		}
		return 0
	})
	if i == len(s.Above) || s.Above[i].From > n+1 {
		s.Above = slices.Insert(s.Above, i, streams.NumberRange{From: n, To: n})
		return
	}
	r := &s.Above[i]
	r.From, r.To = min(r.From, n), max(r.To, n)
	if i+1 < len(s.Above) && s.Above[i+1].From == r.To+1 {
		r.To = s.Above[i+1].To
		s.Above = slices.Delete(s.Above, i+1, i+2)
	}
}

// compare returns how many messages the broker has acknowledged to the
// publisher since the last comparison that were not found, and forgets them.
func (s *seen) compare(a streams.Acknowledged) (missing uint64) {
	if a.UpTo <= s.UpTo {
		return 0
	}
	found := uint64(0)
	for _, r := range s.Above {
		found += length(r, streams.NumberRange{From: s.UpTo + 1, To: a.UpTo})
		for _, doubt := range a.Doubt {
			found -= length(r, doubt)
		}
	}
	if want := a.Stored - s.Stored; want > found {
		missing = want - found
	}
	s.adopt(a)
	return missing
}

// adopt takes a receipt's word for what came before.
func (s *seen) adopt(a streams.Acknowledged) {
	s.UpTo, s.Stored = a.UpTo, a.Stored
	s.Above = slices.DeleteFunc(s.Above, func(r streams.NumberRange) bool { return r.To <= a.UpTo })
	if len(s.Above) > 0 {
		s.Above[0].From = max(s.Above[0].From, a.UpTo+1)
	}
}

// length is how many numbers are in both.
func length(a, b streams.NumberRange) uint64 {
	from, to := max(a.From, b.From), min(a.To, b.To)
	if from > to {
		return 0
	}
	return to - from + 1
}
