// Package rawlog asks RAW what it holds of a record already. Tasks, notes and
// activities have no time of modification, so whether one has changed is known
// only by comparing it with what was stored last, whoever stored it.
package rawlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

// Log is what of a bus is needed to add to RAW.
type Log interface {
	bus.Publisher
	bus.Reader
}

// Publish stores o, unless the last thing that RAW holds of its record shows
// just the same. Where that was a notice, o is stored: somebody waits for it.
// It reports that, and the sequence of the last thing that RAW holds then.
// known is one of which that has been reported before: it need not be looked
// at as closely again.
func Publish(ctx context.Context, log Log, o observation.Observation, known uint64) (shown bool, seq uint64, err error) {
	if shown, seq, err = Shows(ctx, log, o, known); err != nil || shown {
		return shown, seq, err
	}
	body, err := o.Encode()
	if err != nil {
		return false, 0, err
	}
	ack, err := log.Publish(ctx, bus.Message{Subject: streams.Raw(o), ID: o.Key(), Data: body})
	if err != nil {
		return false, 0, fmt.Errorf("publish %s %s: %w", o.System, o.Kind, err)
	}
	return false, ack.Seq, nil
}

// Shows reports whether the last thing that RAW holds of o's record shows just
// the same, and its sequence, 0 if there is none. What was read before
// something that RAW held already does not show how the record is: it was
// stored late, and nobody took it for news. known is as in [Publish].
func Shows(ctx context.Context, r bus.Reader, o observation.Observation, known uint64) (shown bool, seq uint64, err error) {
	last, seq, err := read(ctx, r, streams.RawOf(o))
	if err != nil || last == nil || !shows(last.Via) || last.Absent != o.Absent || last.Parent != o.Parent || !same(last.Record, o.Record) {
		return false, seq, err
	}
	if seq == known {
		return true, seq, nil
	}
	for _, o.Via = range seen {
		earlier, _, err := read(ctx, r, streams.Raw(o))
		if err != nil {
			return false, seq, err
		}
		if earlier != nil && earlier.ReadBegan.After(last.ReadBegan) {
			return false, seq, nil
		}
	}
	return true, seq, nil
}

// seen are the ways in which a record is seen.
var seen = []observation.Via{observation.Fetch, observation.Poll, observation.Reconcile, observation.Writeback, observation.Backfill}

// Last returns what RAW showed last of a record, nil if it holds nothing that
// does.
func Last(ctx context.Context, r bus.Reader, of observation.Observation) (*observation.Observation, error) {
	last, _, err := read(ctx, r, streams.RawOf(of))
	if last != nil && !shows(last.Via) {
		return nil, err
	}
	return last, err
}

// Written returns the answer to our last write of a record, nil if RAW holds
// none.
func Written(ctx context.Context, r bus.Reader, of observation.Observation) (*observation.Observation, error) {
	of.Via = observation.Writeback
	o, _, err := read(ctx, r, streams.Raw(of))
	return o, err
}

// Sight returns what was read last of a record, nil if RAW holds nothing that
// shows it.
func Sight(ctx context.Context, r bus.Reader, of observation.Observation) (*observation.Observation, error) {
	var newest *observation.Observation
	for _, of.Via = range seen {
		o, _, err := read(ctx, r, streams.Raw(of))
		if err != nil {
			return nil, err
		}
		if o != nil && (newest == nil || o.ReadBegan.After(newest.ReadBegan)) {
			newest = o
		}
	}
	return newest, nil
}

// Parent returns the contact that a record hung on when it was last seen, or
// "" if RAW doesn't say.
func Parent(ctx context.Context, r bus.Reader, of observation.Observation) (canonical.ExternalID, error) {
	var parent canonical.ExternalID
	var newest uint64
	for _, of.Via = range append([]observation.Via{observation.Notice}, seen...) {
		m, err := r.Last(ctx, streams.RAW, streams.Raw(of))
		if errors.Is(err, bus.ErrNotFound) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("last of %s %s: %w", of.System, of.Kind, err)
		}
		if o, err := observation.Decode(m.Data); err == nil && o.Parent != "" && m.Seq > newest {
			parent, newest = o.Parent, m.Seq
		}
	}
	return parent, nil
}

// read returns the last observation on subject, nil if there is none that can
// be read, and its sequence.
func read(ctx context.Context, r bus.Reader, subject string) (*observation.Observation, uint64, error) {
	m, err := r.Last(ctx, streams.RAW, subject)
	if errors.Is(err, bus.ErrNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("last of %s: %w", subject, err)
	}
	o, err := observation.Decode(m.Data)
	if err != nil {
		return nil, m.Seq, nil // what can't be read can't be equal
	}
	return &o, m.Seq, nil
}

func shows(via observation.Via) bool {
	return via.Shows()
}

// same compares records by value: no system promises an order of keys.
func same(a, b json.RawMessage) bool {
	if bytes.Equal(bytes.TrimSpace(a), bytes.TrimSpace(b)) {
		return true
	}
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}
