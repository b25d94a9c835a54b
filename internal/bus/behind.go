package bus

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/causeway-sync/causeway/streams"
)

// Behind implements [Reader].
func (c *Conn) Behind(ctx context.Context, spec streams.Consumer) (uint64, error) {
	consumer, err := c.js.Consumer(ctx, spec.Stream, spec.Durable)
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("consumer %s: %w", spec.Durable, err)
	}
	info := consumer.CachedInfo()
	return info.NumPending + uint64(info.NumAckPending), nil
}
