package dev

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

// reads are, by record, when the reads began that have shown something new of
// it. RAW has them: what shows what it showed before isn't published. That we
// made a record and found it gone has shown it, too.
type reads map[string][]time.Time

func newReads(ctx context.Context, c *bus.Conn) (reads, error) {
	out := reads{}
	err := c.Scan(ctx, streams.RAW, "raw.>", time.Time{}, func(m bus.Stored) error {
		o, err := observation.Decode(m.Data)
		if err != nil {
			return fmt.Errorf("decode message %d of %s: %w", m.Seq, m.Stream, err)
		}
		if len(o.Record) > 0 && o.Via != observation.Notice || o.Absent && o.Creates {
			out[string(o.ExternalID)] = append(out[string(o.ExternalID)], o.ReadBegan)
		}
		return nil
	})
	return out, err
}

// slow is how long a read may take to see what it shows.
const slow = time.Second

// between reports whether a read may have shown a record as it was from one
// instant to another.
func (r reads) between(record string, from, to time.Time) bool {
	return slices.ContainsFunc(r[record], func(at time.Time) bool { return at.After(from.Add(-slow)) && !at.After(to) })
}

// takenBack reports whether each of the values is one that a person had changed
// and put back at the same record before any read could show that: a task that
// is opened and completed again between two sweeps, say. To everybody else it
// was never touched.
func (r reads) takenBack(history []step, values []string) bool {
	for _, v := range values {
		if !slices.ContainsFunc(r.flickers(history), func(s step) bool { return s.value == v }) {
			return false
		}
	}
	return true
}

// flickers are the steps that put back, unseen, what a record showed before,
// and those that nobody could see because their record was taken away.
func (r reads) flickers(history []step) []step {
	var out []step
	last := map[string][]step{} // by record
	for _, s := range history {
		of := last[s.record]
		last[s.record] = append(of, s)
		if !s.human {
			continue
		}
		if !s.removed.IsZero() && !r.between(s.record, s.at, s.removed) {
			out = append(out, s)
			continue
		}
		for i := len(of) - 1; i > 0 && of[i].human; i-- {
			if of[i-1].value == s.value && !r.between(s.record, of[i].at, s.at) {
				out = append(out, s)
				break
			}
		}
	}
	return out
}
