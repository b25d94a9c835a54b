package streams

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/causeway-sync/causeway/schemas/canonical"
)

// StreamStatus is what a stream holds.
type StreamStatus struct {
	Name      string           `json:"name"`
	Messages  uint64           `json:"messages"`
	Bytes     uint64           `json:"bytes"`
	Last      uint64           `json:"last"`               // sequence
	LastTime  time.Time        `json:"last_time,omitzero"` // zero if there never was a message
	Consumers []ConsumerStatus `json:"consumers"`
}

// ConsumerStatus is how far a durable consumer has come.
type ConsumerStatus struct {
	Durable string `json:"durable"`
	// Pending messages have not been handed out; Unacked ones have been, and
	// are not settled.
	Pending     uint64 `json:"pending"`
	Unacked     uint64 `json:"unacked"`
	Redelivered int    `json:"redelivered"`
	// Pulling says that somebody asks it for messages at the moment.
	Pulling bool `json:"pulling"`
}

// Status returns what every declared stream holds and how far its consumers
// have come. A stream that is not there is left out.
func Status(ctx context.Context, js jetstream.JetStream) ([]StreamStatus, error) {
	var out []StreamStatus
	for _, want := range Streams() {
		s, err := js.Stream(ctx, want.Name)
		if err != nil {
			if ctx.Err() == nil && isMissing(err) {
				continue
			}
			return nil, fmt.Errorf("stream %s: %w", want.Name, err)
		}
		state := s.CachedInfo().State
		st := StreamStatus{Name: want.Name, Messages: state.Msgs, Bytes: state.Bytes, Last: state.LastSeq, LastTime: state.LastTime}
		list := s.ListConsumers(ctx)
		for c := range list.Info() {
			if c.Config.Durable == "" {
				continue
			}
			st.Consumers = append(st.Consumers, ConsumerStatus{Durable: c.Name, Pending: c.NumPending, Unacked: uint64(c.NumAckPending), Redelivered: c.NumRedelivered, Pulling: c.NumWaiting > 0})
		}
		if err := list.Err(); err != nil {
			return nil, fmt.Errorf("consumers of %s: %w", want.Name, err)
		}
		out = append(out, st)
	}
	return out, nil
}

// Tenants returns the tenants that a stage reads for, or has, by the names of
// the consumers on RAW, sorted.
func Tenants(ctx context.Context, js jetstream.JetStream) ([]canonical.Tenant, error) {
	s, err := js.Stream(ctx, RAW)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", RAW, err)
	}
	var out []canonical.Tenant
	list := s.ConsumerNames(ctx)
	for name := range list.Name() {
		if tenant, ok := strings.CutPrefix(name, Hydrate("").Durable); ok {
			out = append(out, canonical.Tenant(tenant))
		}
	}
	if err := list.Err(); err != nil {
		return nil, fmt.Errorf("consumers of %s: %w", RAW, err)
	}
	slices.Sort(out)
	return out, nil
}
