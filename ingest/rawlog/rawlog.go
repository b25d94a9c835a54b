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
func Publish(ctx context.Context, log Log, o observation.Observation) error {
	last, err := read(ctx, log, streams.RawOf(o))
	if err != nil || last != nil && shows(last.Via) && last.Absent == o.Absent && last.Parent == o.Parent && same(last.Record, o.Record) {
		return err
	}
	body, err := o.Encode()
	if err != nil {
		return err
	}
	if _, err := log.Publish(ctx, bus.Message{Subject: streams.Raw(o), ID: o.Key(), Data: body}); err != nil {
		return fmt.Errorf("publish %s %s: %w", o.System, o.Kind, err)
	}
	return nil
}

// Parent returns the contact that a record hung on when it was last seen, or
// "" if RAW doesn't say.
func Parent(ctx context.Context, r bus.Reader, of observation.Observation) (canonical.ExternalID, error) {
	var parent canonical.ExternalID
	var newest uint64
	for _, of.Via = range []observation.Via{observation.Fetch, observation.Poll, observation.Reconcile, observation.Writeback, observation.Backfill, observation.Notice} {
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
// be read.
func read(ctx context.Context, r bus.Reader, subject string) (*observation.Observation, error) {
	m, err := r.Last(ctx, streams.RAW, subject)
	if errors.Is(err, bus.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("last of %s: %w", subject, err)
	}
	o, err := observation.Decode(m.Data)
	if err != nil {
		return nil, nil // what can't be read can't be equal
	}
	return &o, nil
}

func shows(via observation.Via) bool {
	return via != observation.Notice && via != observation.Intent && via != observation.Relink && via != observation.FromRule
}

// same compares records by value: no system promises an order of keys.
func same(a, b json.RawMessage) bool {
	if bytes.Equal(bytes.TrimSpace(a), bytes.TrimSpace(b)) {
		return true
	}
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}
