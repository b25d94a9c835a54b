// Package hydrate turns a notice into a fetched observation. Webhooks' notices
// for one record coalesce: however many wait, the record is fetched once,
// after the newest of them. A poll's notice names the state that it saw, and
// is left alone if a fetch, or the answer to a write of ours, has shown that
// one. A record that is gone is an observation of absence: that is how deletes
// are known.
//
// A notice that says nothing but that a record was made, which the answer to
// our own create has shown since it was made, leads to no fetch either; see
// [Announcer]. Notices of our own updates do: they say neither who changed the
// record nor which state of it they saw, so a person's change may be behind
// them.
//
// A notice of a task, a note or an appointment leads to a fetch of that. Where
// a contact's items can only be read with the contact (GHL's notes), a notice
// of the contact leads to a reading of them.
package hydrate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/ingest/rawlog"
	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/trace"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

// Fetcher reads one system's records of one tenant.
type Fetcher interface {
	// Fetch returns the record that about names, by its Kind, ExternalID and,
	// of an item, its Parent, as the system shows it now; Tenant and Via are
	// the caller's to set. An error of class Gone says that there is none.
	Fetch(ctx context.Context, about observation.Observation) (observation.Observation, error)
}

// Locator is a Fetcher that needs to know an item's contact to fetch it.
type Locator interface {
	// Locate looks for the contact of the item that a notice is about. "" says
	// that it was not found, which may be because an index is behind.
	// ErrDeleted says so of an item that is said to be deleted, and so is
	// hardly to be found.
	Locate(ctx context.Context, notice observation.Observation) (canonical.ExternalID, error)
}

// ErrDeleted is what a Locator returns; see there.
var ErrDeleted = errors.New("nobody knows whose it was")

// ItemLister is a Fetcher whose contacts' items are read with the contact.
type ItemLister interface {
	// Items returns what hangs on a contact; Gone if there is no such contact.
	// System, Tenant and Via are the caller's to set.
	Items(ctx context.Context, contact canonical.ExternalID) ([]observation.Observation, error)
}

// Announcer is a Fetcher whose system tells of a record's making with a notice
// of its own. Such a notice says that the record is there, and every sight of
// it has said that already; what became of it afterwards is said by other
// notices.
type Announcer interface {
	// Announces reports whether a notice says only that a record was made.
	Announces(notice observation.Observation) bool
	// Adds reports whether such a notice shows anything of its record that
	// sight, which shows the record, doesn't.
	Adds(notice, sight observation.Observation) bool
}

// Config is what hydrating one tenant needs.
type Config struct {
	Bus    bus.Bus
	Clock  clock.Clock
	Logger zerolog.Logger
	Tenant canonical.Tenant
	// Fetchers by system. A notice of another kind or system is acked: it
	// stays in RAW for the day it is understood.
	Fetchers map[canonical.System]Fetcher
	// Hold, if set, says that a system can't be called now: then its notices
	// wait.
	Hold func(canonical.System) bool
	// Workers is how many records are fetched at once from each system; 0 means
	// 8.
	Workers int
}

const (
	// remembered is how many records' last fetches, and how many contacts'
	// items, are known.
	remembered = 1 << 16
	// overtaken is how long the notice of a record waits that nobody has seen,
	// once, for the answer to the create that may be ours.
	overtaken = 300 * time.Millisecond
	// maxLocates is how often the contact of a deleted item is looked for.
	maxLocates = 5
	// maxUnlocated is how often that of another one is: almost half a minute, in
	// which every index catches up. One that was made and deleted, and of whose
	// delete nobody told, is never found.
	maxUnlocated = 7
)

// errUnlocated says that the search doesn't show an item whose contact nobody
// knows.
var errUnlocated = errors.New("its contact is not found")

type hydrator struct {
	Config
	// fetched is the modified time that the last fetch of a record showed, by
	// subject.
	fetched *lru.Cache[string, time.Time]
	// items are those that a contact was seen to have, by the contact's
	// subject.
	items *lru.Cache[string, []observation.Observation]
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
	items, err := lru.New[string, []observation.Observation](remembered)
	if err != nil {
		return fmt.Errorf("hydrate %s: %w", cfg.Tenant, err)
	}
	h := &hydrator{cfg, fetched, items}
	consumer := streams.Hydrate(cfg.Tenant)
	if err := cfg.Bus.EnsureConsumer(ctx, consumer); err != nil {
		return fmt.Errorf("consumer %s: %w", consumer.Durable, err)
	}
	// What one system makes us wait for delays nobody at the other.
	class := func(m bus.Stored) string {
		s, _ := streams.Parse(m.Subject) // what can't be parsed becomes a dead letter
		return string(s.System)
	}
	sub := bus.Subscription{Stream: consumer.Stream, Durable: consumer.Durable, Group: streams.PinnedGroup, Stage: "hydrate", MaxDeliveries: 20, Class: class}
	if cfg.Hold != nil {
		sub.Hold = func(m bus.Stored) bool {
			s, err := streams.Parse(m.Subject)
			return err == nil && cfg.Hold(s.System)
		}
	}
	return bus.Coalesce(ctx, cfg.Bus, cfg.Clock, sub, cfg.Workers, h.key, h.handle)
}

// key is the record. A notice that may turn out to need no fetch, which is a
// poll's or an announcement, doesn't coalesce with another, which always does.
func (h *hydrator) key(m bus.Stored) string {
	o, err := observation.Decode(m.Data)
	switch {
	case err != nil:
		return m.Subject
	case !o.Modified.IsZero():
		return m.Subject + " polled"
	case h.announcer(o) != nil:
		return m.Subject + " made"
	}
	return m.Subject
}

// announcer returns who knows that notice says only that its record was made,
// nil if it may say more.
func (h *hydrator) announcer(notice observation.Observation) Announcer {
	if a, ok := h.Fetchers[notice.System].(Announcer); ok && notice.Kind == canonical.KindContact && a.Announces(notice) {
		return a
	}
	return nil
}

// written reports whether the answer to a write of ours has shown all that a
// notice tells of: the state that a poll saw, or that the record was made.
func (h *hydrator) written(ctx context.Context, notice observation.Observation) (bool, error) {
	announcer := h.announcer(notice)
	if announcer == nil && (notice.Modified.IsZero() || notice.Kind != canonical.KindContact) {
		return false, nil
	}
	answer, err := rawlog.Written(ctx, h.Bus, notice)
	if err != nil || answer == nil || answer.Absent {
		return false, err
	}
	if announcer == nil {
		return !answer.Modified.Before(notice.Modified), nil
	}
	// It may have gone and come back since.
	sight, err := rawlog.Sight(ctx, h.Bus, notice)
	if err != nil || sight == nil || sight.Absent {
		return false, err
	}
	return !announcer.Adds(notice, *sight), nil
}

func (h *hydrator) handle(ctx context.Context, m bus.Stored, count int) (err error) {
	ctx, span := trace.Start(ctx, "fetch")
	defer func() { span.End(err) }()
	s, err := streams.Parse(m.Subject)
	if err != nil {
		return bus.Terminate(err)
	}
	fetcher := h.Fetchers[s.System]
	item := slices.Contains(canonical.Items(), s.Kind)
	if fetcher == nil || s.Kind != canonical.KindContact && !item {
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
	if known, err := h.written(ctx, notice); err != nil || known {
		return err
	}
	if count == 1 && h.announcer(notice) != nil {
		// It may have overtaken the answer to our create.
		return bus.Later(errors.New("waiting whether we made it"), overtaken)
	}
	var o observation.Observation
	if item {
		o, err = h.item(ctx, fetcher, notice)
	} else {
		o, err = h.fetch(ctx, fetcher, notice)
	}
	switch {
	case errors.Is(err, ErrDeleted) && count >= maxLocates, errors.Is(err, errUnlocated) && count >= maxUnlocated:
		h.Logger.Warn().Str("system", string(s.System)).Str("tenant", string(s.Tenant)).Str("kind", string(s.Kind)).Str("id", s.ID).Err(err).
			Msg("not found, and most likely deleted; left to the sweep")
		return nil
	case err != nil:
		return verdict(h.Config, s, err, count)
	}
	body, err := o.Encode()
	if err != nil {
		return bus.Terminate(err)
	}
	if _, err := h.Bus.Publish(ctx, bus.Message{Subject: streams.Raw(o), ID: o.Key(), Data: body}); err != nil {
		return fmt.Errorf("publish %s %s: %w", s.System, s.Kind, err)
	}
	if lister, ok := fetcher.(ItemLister); ok && !item && !o.Absent {
		if err := h.itemsOf(ctx, lister, fetcher, m.Subject, o); err != nil {
			return verdict(h.Config, s, err, count)
		}
	}
	h.fetched.Add(m.Subject, o.Modified)
	return nil
}

// fetch returns what the system shows of a record, or its absence.
func (h *hydrator) fetch(ctx context.Context, fetcher Fetcher, about observation.Observation) (observation.Observation, error) {
	began := h.Clock.Now()
	o, err := fetcher.Fetch(ctx, about)
	switch {
	case apierr.ClassOf(err) == apierr.Gone:
		o = observation.Observation{ReadBegan: began, Absent: true, Parent: about.Parent}
		if o.ParentGone, err = parentGone(ctx, fetcher, about); err != nil {
			return observation.Observation{}, err
		}
	case err != nil:
		return observation.Observation{}, err
	}
	o.System, o.Tenant, o.Kind, o.ExternalID, o.Via = about.System, about.Tenant, about.Kind, about.ExternalID, observation.Fetch
	return o, nil
}

// parentGone reports whether the contact of an item that is gone is so too.
func parentGone(ctx context.Context, fetcher Fetcher, item observation.Observation) (bool, error) {
	if item.Kind == canonical.KindContact || item.Parent == "" {
		return false, nil
	}
	_, err := fetcher.Fetch(ctx, observation.Observation{System: item.System, Tenant: item.Tenant, Kind: canonical.KindContact, ExternalID: item.Parent})
	if apierr.ClassOf(err) == apierr.Gone {
		return true, nil
	}
	return false, err
}

// item fetches a task, a note or an appointment. Its contact is what the
// notice says, else what was seen last, else what the system's search finds.
func (h *hydrator) item(ctx context.Context, fetcher Fetcher, notice observation.Observation) (observation.Observation, error) {
	said := notice.Parent != ""
	if !said {
		var err error
		if notice.Parent, err = rawlog.Parent(ctx, h.Bus, notice); err != nil {
			return observation.Observation{}, err
		}
	}
	locator, ok := fetcher.(Locator)
	if !ok {
		return h.fetch(ctx, fetcher, notice)
	}
	if notice.Parent != "" {
		o, err := h.fetch(ctx, fetcher, notice)
		if err != nil || !o.Absent || said {
			return o, err
		}
		// It may have moved, which a merge of contacts does.
		moved, err := locator.Locate(ctx, notice)
		if err != nil && !errors.Is(err, ErrDeleted) {
			return observation.Observation{}, err
		}
		if moved == "" || moved == notice.Parent {
			return o, nil
		}
		notice.Parent = moved
		return h.fetch(ctx, fetcher, notice)
	}
	var err error
	if notice.Parent, err = locator.Locate(ctx, notice); err != nil {
		return observation.Observation{}, err
	}
	if notice.Parent == "" {
		return observation.Observation{}, errUnlocated
	}
	return h.fetch(ctx, fetcher, notice)
}

// itemsOf publishes the items of a contact that have changed, and the absence
// of those that were there before. Of a contact that is gone nothing is said:
// its items may have gone to another one.
func (h *hydrator) itemsOf(ctx context.Context, lister ItemLister, fetcher Fetcher, subject string, contact observation.Observation) error {
	items, err := lister.Items(ctx, contact.ExternalID)
	if apierr.ClassOf(err) == apierr.Gone {
		return nil
	}
	if err != nil {
		return err
	}
	for i := range items {
		items[i].System, items[i].Tenant, items[i].Via = contact.System, contact.Tenant, observation.Fetch
		if _, _, err := rawlog.Publish(ctx, h.Bus, items[i], 0); err != nil {
			return err
		}
	}
	was, _ := h.items.Get(subject)
	for _, o := range was {
		if slices.ContainsFunc(items, func(x observation.Observation) bool { return x.ExternalID == o.ExternalID }) {
			continue
		}
		now, err := h.fetch(ctx, fetcher, o)
		if err != nil {
			return err
		}
		if _, _, err := rawlog.Publish(ctx, h.Bus, now, 0); err != nil {
			return err
		}
	}
	for i := range items {
		items[i].Record = nil // only what they are is remembered
	}
	h.items.Add(subject, items)
	return nil
}

// verdict says what becomes of a notice whose record could not be fetched.
// Nothing but an answer that will never change ends as a dead letter.
func verdict(cfg Config, s streams.Parsed, err error, count int) error {
	err = fmt.Errorf("fetch %s %s: %w", s.System, s.Kind, err)
	if errors.Is(err, ErrDeleted) || errors.Is(err, errUnlocated) {
		return bus.Later(err, min(200*time.Millisecond<<count, 30*time.Second))
	}
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
