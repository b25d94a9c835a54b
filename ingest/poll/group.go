package poll

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

// Grouper reads who is in which group. A group's members can change without
// any of them being edited, so that no list of changes shows it.
type Grouper interface {
	// Memberships returns for everybody who is in a group an observation that
	// covers the groups and nothing else.
	Memberships(ctx context.Context) (map[canonical.ExternalID]observation.Observation, error)
	// Outsider is the observation of somebody who is in none.
	Outsider(id canonical.ExternalID) observation.Observation
}

// GroupConfig is what sweeping the groups of one system of one tenant needs.
type GroupConfig struct {
	Bus     bus.Bus
	Clock   clock.Clock
	Logger  zerolog.Logger
	System  canonical.System
	Tenant  canonical.Tenant
	Lens    *mapping.Lens
	Grouper Grouper
	// Every is the interval; 0 means never.
	Every time.Duration
}

// groups is the sweep's name in CURSORS.
const groups = "group"

// RunGroups compares, at an interval, who is in which group with what is known
// of each contact, until ctx is done. Where the two differ it publishes a
// notice, so that the contact is fetched: the sweep's own word changes nothing.
func RunGroups(ctx context.Context, cfg GroupConfig) error {
	if cfg.Every == 0 || cfg.Lens.Tags.GroupPrefix == "" {
		return nil // nothing is made of groups
	}
	kv, err := cfg.Bus.Bucket(ctx, streams.CURSORS)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", streams.CURSORS, err)
	}
	links, err := cfg.Bus.Bucket(ctx, streams.IDENTITY)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", streams.IDENTITY, err)
	}
	s := &groupSweeper{GroupConfig: cfg, comparer: comparer{reader: cfg.Bus, links: links, lens: cfg.Lens},
		cursor: cursor{kv: kv, key: cursorKey(cfg.Tenant, cfg.System, groups), clock: cfg.Clock}}
	for ctx.Err() == nil {
		wait, err := s.pass(ctx)
		switch {
		case errors.Is(err, errLost):
			wait = lease
		case err != nil && ctx.Err() == nil:
			s.errs++
			wait = again(err, s.errs)
			cfg.Logger.Warn().Err(err).Str("system", string(cfg.System)).Str("tenant", string(cfg.Tenant)).Dur("again_in", wait).Msg("sweep of groups interrupted")
		}
		if clock.Sleep(ctx, cfg.Clock, wait) != nil {
			break
		}
	}
	return nil
}

type groupSweeper struct {
	GroupConfig
	comparer
	cursor
	errs int
}

func (s *groupSweeper) pass(ctx context.Context) (time.Duration, error) {
	if wait, err := restoring(ctx, s.kv, s.System, s.Tenant); err != nil || wait {
		return watch, err
	}
	if err := s.load(ctx, progress{}); err != nil {
		return 0, err
	}
	if wait := s.p.Due.Sub(s.Clock.Now()); wait > 0 {
		return min(wait, lease), nil
	}
	if err := s.save(ctx, s.Clock.Now().Add(lease)); err != nil {
		return 0, err
	}
	in, err := s.Grouper.Memberships(ctx)
	if err != nil {
		return 0, fmt.Errorf("sweep %s groups: %w", s.System, err)
	}
	keys, err := s.links.Keys(ctx, streams.LinkKeys(s.Tenant, canonical.KindContact, s.System))
	if err != nil {
		return 0, fmt.Errorf("linked %s contacts: %w", s.System, err)
	}
	for _, key := range keys {
		external, err := streams.ParseLinkKey(key)
		if err != nil {
			return 0, fmt.Errorf("linked %s contacts: %w", s.System, err)
		}
		o, ok := in[external]
		if !ok {
			o = s.Grouper.Outsider(external)
		}
		o.System, o.Tenant, o.Kind, o.ExternalID = s.System, s.Tenant, canonical.KindContact, external
		if err := s.contact(ctx, o); err != nil {
			return 0, err
		}
		if s.p.Due.Sub(s.Clock.Now()) < lease/2 {
			if err := s.save(ctx, s.Clock.Now().Add(lease)); err != nil {
				return 0, err
			}
		}
	}
	s.errs = 0
	return s.Every, s.save(ctx, s.Clock.Now().Add(s.Every))
}

// contact publishes a notice if o shows other groups than are known.
func (s *groupSweeper) contact(ctx context.Context, o observation.Observation) error {
	h, err := s.hold(ctx, o)
	if err != nil || !h.live || !h.base.Grouped {
		return err
	}
	shown, err := s.lens.Show(o)
	if err != nil {
		return err
	}
	grouped := func(tags []string) []string {
		return slices.DeleteFunc(slices.Clone(tags), func(t string) bool { return !s.lens.FromGroup(t) })
	}
	now := grouped(shown.Tags)
	if slices.Equal(grouped(h.base.Tags), now) {
		return nil
	}
	notice := observation.Observation{System: s.System, Tenant: s.Tenant, Kind: canonical.KindContact, ExternalID: o.ExternalID, Via: observation.Notice}
	body, err := notice.Encode()
	if err != nil {
		return err
	}
	// The same difference is told once within the stream's duplicate window.
	sum := sha256.Sum256([]byte(strings.Join(append([]string{string(o.ExternalID)}, now...), "\x00")))
	if _, err := s.Bus.Publish(ctx, bus.Message{Subject: streams.Raw(notice), ID: "group-" + string(s.Tenant) + "-" + hex.EncodeToString(sum[:12]), Data: body}); err != nil {
		return fmt.Errorf("publish notice of %s contact %s: %w", s.System, o.ExternalID, err)
	}
	return nil
}
