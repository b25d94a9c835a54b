// Package derive publishes the events that follow from canonical ones. Their
// ids are derived from what they follow from, so that deriving twice gives
// the same event.
package derive

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"sync/atomic"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/streams"
)

// Tags publishes a tag event for every tag that a contact event says was added
// or removed, until ctx is done. It acks the contact event after the tag
// events are stored.
func Tags(ctx context.Context, b bus.Bus) error {
	return b.Consume(ctx, bus.Subscription{Stream: streams.CANONICAL, Durable: streams.Tags().Durable, Stage: "tags"}, func(ctx context.Context, d *bus.Delivery) {
		tags(ctx, b, d)
	})
}

// ofTags is what the body of an event holds that changed tags: most don't, and
// needn't be decoded to find out.
var ofTags = []byte(`"field":"tags"`)

// tags doesn't wait for the broker: it settles d once all is stored.
func tags(ctx context.Context, p bus.Publisher, d *bus.Delivery) {
	if !bytes.Contains(d.Data, ofTags) {
		d.Done(nil)
		return
	}
	events, err := tagEvents(d.Stored)
	if err != nil || len(events) == 0 {
		d.Done(err)
		return
	}
	var failed atomic.Pointer[error]
	var left atomic.Int64
	left.Store(int64(len(events)))
	done := func(err error, n int) {
		if err != nil {
			err = fmt.Errorf("publish tag event of %s: %w", d.Subject, err)
			failed.CompareAndSwap(nil, &err)
		}
		if left.Add(int64(-n)) > 0 {
			return
		}
		if err := failed.Load(); err != nil {
			d.Done(*err)
			return
		}
		d.Done(nil)
	}
	for i, m := range events {
		if err := p.PublishAsync(ctx, m, func(_ bus.Ack, err error) { done(err, 1) }); err != nil {
			done(err, len(events)-i)
			return
		}
	}
}

func tagEvents(m bus.Stored) ([]bus.Message, error) {
	subject, err := streams.Parse(m.Subject)
	if err != nil {
		return nil, bus.Terminate(err)
	}
	// No more of it than is needed.
	var e struct {
		Version uint64 `json:"version"`
		Contact struct {
			ID canonical.CanonicalID `json:"id"`
		} `json:"contact"`
		Changes []canonical.Change `json:"changes"`
	}
	if err := json.Unmarshal(m.Data, &e); err != nil {
		return nil, bus.Terminate(fmt.Errorf("decode contact event: %w", err))
	}
	var out []bus.Message
	for _, c := range e.Changes {
		if c.Field != "tags" || c.From == c.To { // the latter is a conflict that changed nothing
			continue
		}
		tag, op := c.To, canonical.OpAdded
		if tag == "" {
			tag, op = c.From, canonical.OpRemoved
		}
		msg, err := message(subject.Tenant, canonical.TagEvent{Tag: tag, ContactID: e.Contact.ID, ContactVersion: e.Version, Origin: c.Origin, At: c.At}, op)
		if err != nil {
			return nil, bus.Terminate(err)
		}
		out = append(out, msg)
	}
	return out, nil
}

func message(tenant canonical.Tenant, e canonical.TagEvent, op canonical.Op) (bus.Message, error) {
	data, err := json.Marshal(e)
	if err != nil {
		return bus.Message{}, fmt.Errorf("encode tag event: %w", err)
	}
	id := string(e.ContactID) + "." + strconv.FormatUint(e.ContactVersion, 10) + "." + streams.Token(e.Tag)
	return bus.Message{
		ID:      id,
		Subject: streams.Canonical(canonical.KindTag, tenant, e.ContactID, op),
		Header: bus.Header(envelope.Attributes{
			ID: id, Source: "/causeway/" + string(tenant), Type: envelope.Type(canonical.KindTag, op), Subject: string(e.ContactID),
			Time: e.At, DataSchema: envelope.SchemaBase + "canonical/v1/tag.json", Tenant: tenant, Origin: e.Origin,
		}.Header()),
		Data: data,
	}, nil
}
