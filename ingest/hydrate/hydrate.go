// Package hydrate turns a notice into a fetched observation. Webhooks' notices
// for one record coalesce: however many wait, the record is fetched once,
// after the newest of them. A poll's notice names the state that it saw, and
// is left alone if a fetch has shown that one. A record that is gone is an
// observation of absence: that is how deletes are known.
package hydrate

import (
	"context"
	"errors"
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

// Fetcher reads one system's records of one tenant.
type Fetcher interface {
	// Fetch returns the record as the system shows it now; Via is the
	// caller's to set. An error of class Gone says that there is none.
	Fetch(ctx context.Context, id canonical.ExternalID) (observation.Observation, error)
}

// Config is what hydrating one tenant needs.
type Config struct {
	Bus    bus.Bus
	Clock  clock.Clock
	Logger zerolog.Logger
	Tenant canonical.Tenant
	// Fetchers by system, for contacts. A notice of another kind or system is
	// acked: it stays in RAW for the day it is understood.
	Fetchers map[canonical.System]Fetcher
	// Workers is how many records are fetched at once; 0 means 8.
	Workers int
}

// remembered is how many records' last fetches are known.
const remembered = 1 << 16

type hydrator struct {
	Config
	// fetched is the modified time that the last fetch of a record showed, by
	// subject.
	fetched *lru.Cache[string, time.Time]
}

// Run works until ctx is done, then finishes what it has begun.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Workers == 0 {
		cfg.Workers = 8
	}
	fetched, err := lru.New[string, time.Time](remembered)
	if err != nil {
		return fmt.Errorf("hydrate %s: %w", cfg.Tenant, err)
	}
	h := &hydrator{cfg, fetched}
	consumer := streams.Hydrate(cfg.Tenant)
	if err := cfg.Bus.EnsureConsumer(ctx, consumer); err != nil {
		return fmt.Errorf("consumer %s: %w", consumer.Durable, err)
	}
	sub := bus.Subscription{Stream: consumer.Stream, Durable: consumer.Durable, Group: streams.PinnedGroup, Stage: "hydrate", MaxDeliveries: 20}
	return bus.Coalesce(ctx, cfg.Bus, cfg.Clock, sub, cfg.Workers, key, h.handle)
}

// key is the record. A poll's notice, which may turn out to need no fetch,
// doesn't coalesce with a webhook's, which always does.
func key(m bus.Stored) string {
	if o, err := observation.Decode(m.Data); err == nil && !o.Modified.IsZero() {
		return m.Subject + " polled"
	}
	return m.Subject
}

func (h *hydrator) handle(ctx context.Context, m bus.Stored, count int) error {
	s, err := streams.Parse(m.Subject)
	if err != nil {
		return bus.Terminate(err)
	}
	fetcher := h.Fetchers[s.System]
	if fetcher == nil || s.Kind != canonical.KindContact {
		return nil
	}
	notice, err := observation.Decode(m.Data)
	if err != nil {
		return bus.Terminate(err)
	}
	// A poll's notice says which state of the record it saw; a webhook's says
	// nothing, so what it is about is always fetched.
	if seen, ok := h.fetched.Get(m.Subject); ok && !notice.Modified.IsZero() && !notice.Modified.After(seen) {
		return nil
	}
	began := h.Clock.Now()
	o, err := fetcher.Fetch(ctx, canonical.ExternalID(s.ID))
	switch {
	case apierr.ClassOf(err) == apierr.Gone:
		o = observation.Observation{ReadBegan: began, Absent: true}
	case err != nil:
		return verdict(h.Config, s, err, count)
	}
	o.System, o.Tenant, o.Kind, o.ExternalID, o.Via = s.System, s.Tenant, s.Kind, canonical.ExternalID(s.ID), observation.Fetch
	body, err := o.Encode()
	if err != nil {
		return bus.Terminate(err)
	}
	if _, err := h.Bus.Publish(ctx, bus.Message{Subject: streams.Raw(o), ID: o.Key(), Data: body}); err != nil {
		return fmt.Errorf("publish %s %s: %w", s.System, s.Kind, err)
	}
	h.fetched.Add(m.Subject, o.Modified)
	return nil
}

// verdict says what becomes of a notice whose record could not be fetched.
// Nothing but an answer that will never change ends as a dead letter.
func verdict(cfg Config, s streams.Parsed, err error, count int) error {
	err = fmt.Errorf("fetch %s %s: %w", s.System, s.Kind, err)
	var api *apierr.Error
	if !errors.As(err, &api) {
		return err
	}
	switch api.Class {
	case apierr.Wait:
		return bus.Later(err, max(api.RetryAfter, time.Second))
	case apierr.Forbidden:
		cfg.Logger.Error().Str("system", string(s.System)).Str("tenant", string(s.Tenant)).Err(err).Msg("the credentials don't allow this")
		return bus.Later(err, 30*time.Second)
	case apierr.Invalid:
		return bus.Terminate(err)
	}
	return bus.Later(err, min(200*time.Millisecond<<min(count, 8), 30*time.Second))
}
