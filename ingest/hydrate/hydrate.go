// Package hydrate turns a notice into a fetched observation. Notices for one
// record coalesce: however many wait, the record is fetched once, after the
// newest of them, and never twice at the same time. A record that is gone is
// an observation of absence: that is how deletes are known.
package hydrate

import (
	"context"
	"errors"
	"fmt"
	"time"

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

// Run works until ctx is done, then finishes what it has begun.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Workers == 0 {
		cfg.Workers = 8
	}
	consumer := streams.Hydrate(cfg.Tenant)
	if err := cfg.Bus.EnsureConsumer(ctx, consumer); err != nil {
		return fmt.Errorf("consumer %s: %w", consumer.Durable, err)
	}
	sub := bus.Subscription{Stream: consumer.Stream, Durable: consumer.Durable, Group: streams.PinnedGroup, Stage: "hydrate", MaxDeliveries: 20}
	subject := func(m bus.Stored) string { return m.Subject }
	return bus.Coalesce(ctx, cfg.Bus, cfg.Clock, sub, cfg.Workers, subject, func(ctx context.Context, m bus.Stored, count int) error {
		return handle(ctx, cfg, m, count)
	})
}

func handle(ctx context.Context, cfg Config, m bus.Stored, count int) error {
	s, err := streams.Parse(m.Subject)
	if err != nil {
		return bus.Terminate(err)
	}
	fetcher := cfg.Fetchers[s.System]
	if fetcher == nil || s.Kind != canonical.KindContact {
		return nil
	}
	began := cfg.Clock.Now()
	o, err := fetcher.Fetch(ctx, canonical.ExternalID(s.ID))
	switch {
	case apierr.ClassOf(err) == apierr.Gone:
		o = observation.Observation{ReadBegan: began, Absent: true}
	case err != nil:
		return verdict(cfg, s, err, count)
	}
	o.System, o.Tenant, o.Kind, o.ExternalID, o.Via = s.System, s.Tenant, s.Kind, canonical.ExternalID(s.ID), observation.Fetch
	body, err := o.Encode()
	if err != nil {
		return bus.Terminate(err)
	}
	if _, err := cfg.Bus.Publish(ctx, bus.Message{Subject: streams.Raw(o), ID: o.Key(), Data: body}); err != nil {
		return fmt.Errorf("publish %s %s: %w", s.System, s.Kind, err)
	}
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
