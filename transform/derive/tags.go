// Package derive publishes the events that follow from canonical ones. Their
// ids are derived from what they follow from, so that deriving twice gives
// the same event.
package derive

import (
	"context"
	"fmt"
	"strconv"
	"time"

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
		d.Done(tags(ctx, b, d.Stored))
	})
}

func tags(ctx context.Context, p bus.Publisher, m bus.Stored) error {
	subject, err := streams.Parse(m.Subject)
	if err != nil {
		return bus.Terminate(err)
	}
	e, err := canonical.DecodeEvent(m.Data)
	if err != nil {
		return bus.Terminate(fmt.Errorf("decode contact event: %w", err))
	}
	for _, c := range e.Changes {
		if c.Field != "tags" || c.From == c.To { // the latter is a conflict that changed nothing
			continue
		}
		tag, op := c.To, canonical.OpAdded
		if tag == "" {
			tag, op = c.From, canonical.OpRemoved
		}
		msg, err := message(subject.Tenant, e, tag, op, c.Origin, c.At)
		if err != nil {
			return bus.Terminate(err)
		}
		if _, err := p.Publish(ctx, msg); err != nil {
			return fmt.Errorf("publish tag event of contact %s: %w", e.Contact.ID, err)
		}
	}
	return nil
}

func message(tenant canonical.Tenant, e canonical.Event, tag string, op canonical.Op, origin canonical.System, at time.Time) (bus.Message, error) {
	data, err := json.Marshal(canonical.TagEvent{Tag: tag, ContactID: e.Contact.ID, ContactVersion: e.Version, Origin: origin, At: at})
	if err != nil {
		return bus.Message{}, fmt.Errorf("encode tag event: %w", err)
	}
	id := string(e.Contact.ID) + "." + strconv.FormatUint(e.Version, 10) + "." + streams.Token(tag)
	return bus.Message{
		ID:      id,
		Subject: streams.Canonical(canonical.KindTag, tenant, e.Contact.ID, op),
		Header: bus.Header(envelope.Attributes{
			ID: id, Source: "/causeway/" + string(tenant), Type: envelope.Type(canonical.KindTag, op), Subject: string(e.Contact.ID),
			Time: at, DataSchema: envelope.SchemaBase + "canonical/v1/tag.json", Tenant: tenant, Origin: origin,
		}.Header()),
		Data: data,
	}, nil
}
