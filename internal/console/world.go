package console

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/goccy/go-json"
	"golang.org/x/sync/errgroup"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/config"
	"github.com/causeway-sync/causeway/internal/dead"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/effect"
	"github.com/causeway-sync/causeway/streams"
)

// world is what the console knows without asking: it is followed.
type world struct {
	hub *hub

	mu      sync.RWMutex
	tenants map[canonical.Tenant]*tenant
	people  int // of all tenants
	read    bool
	// buckets hold the values of what is followed, by bucket and key.
	buckets map[string]map[string][]byte
	letters []dead.Letter
	status  []streams.StreamStatus
	sampled time.Time
	trouble string // why the last look failed
}

// tenant is one association's.
type tenant struct {
	name   canonical.Tenant
	people people
	wrote  map[canonical.System]*written
	// Messages that wait for the tenant's own consumers.
	waiting map[string]uint64
	rings   ring
}

// written is what was written at a system.
type written struct {
	last  time.Time
	id    canonical.CanonicalID
	kind  canonical.Kind
	fresh int // since the last sample
}

func newWorld(h *hub) *world {
	return &world{hub: h, tenants: map[canonical.Tenant]*tenant{}, buckets: map[string]map[string][]byte{}}
}

// of returns a tenant, made if it is new. The caller holds the lock.
func (w *world) of(name canonical.Tenant) *tenant {
	t := w.tenants[name]
	if t == nil {
		t = &tenant{name: name, people: people{by: map[canonical.CanonicalID]*person{}}, waiting: map[string]uint64{},
			wrote: map[canonical.System]*written{canonical.GHL: {}, canonical.Novi: {}}}
		w.tenants[name] = t
	}
	return t
}

func (w *world) configured(f *config.File) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range f.Tenants {
		w.of(t.Name)
	}
}

// followed are the buckets that are kept.
var followed = []string{streams.BUDGETS, streams.CURSORS, streams.HOLDS}

// Watch follows the streams until ctx is done.
func (c *Console) Watch(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		c.bus.Follow(ctx, streams.CANONICAL, streams.Contacts(""), c.world.readAll, c.world.event)
		return nil
	})
	g.Go(func() error {
		c.bus.Tail(ctx, streams.EFFECTS, []string{streams.EffectsWhere("", "", "", "")}, c.world.effect)
		return nil
	})
	for _, name := range followed {
		stream, filter := streams.BucketStream(name)
		g.Go(func() error {
			c.bus.Follow(ctx, stream, filter, func() {}, func(m bus.Stored) { c.world.value(name, m) })
			return nil
		})
	}
	if f := c.file.Load(); f != nil {
		g.Go(func() error {
			f.Watch(ctx, c.o.Every, func(next *config.File, err error) {
				if err != nil {
					c.logger.Warn().Err(err).Msg("the configuration has changed and does not load; the one before is kept")
				}
				c.configured(next)
			})
			return nil
		})
	}
	g.Go(func() error { return c.sample(ctx) })
	return g.Wait()
}

func (w *world) readAll() {
	w.mu.Lock()
	w.read = true
	w.mu.Unlock()
	w.hub.changed("overview")
}

// seen is the part of a contact's event that the directory is made of.
type seen struct {
	Version uint64 `json:"version"`
	Contact struct {
		ID        canonical.CanonicalID `json:"id"`
		FirstName string                `json:"first_name"`
		LastName  string                `json:"last_name"`
		Email     string                `json:"email"`
		Deleted   bool                  `json:"deleted"`
	} `json:"contact"`
	Changes []struct {
		Origin canonical.System `json:"origin"`
	} `json:"changes"`
	Links      map[canonical.System][]canonical.ExternalID `json:"links"`
	MergedInto canonical.CanonicalID                       `json:"merged_into"`
}

func (w *world) event(m bus.Stored) {
	s, err := streams.Parse(m.Subject)
	if err != nil {
		return
	}
	var e seen
	if json.Unmarshal(m.Data, &e) != nil {
		return // the transform's to report
	}
	p := &person{ID: canonical.CanonicalID(s.ID), Name: strings.TrimSpace(e.Contact.FirstName + " " + e.Contact.LastName), Email: e.Contact.Email, Version: e.Version,
		Changed: m.Time, GHL: len(e.Links[canonical.GHL]) > 0, Novi: len(e.Links[canonical.Novi]) > 0, Deleted: e.Contact.Deleted, Merged: e.MergedInto, seq: m.Seq,
		find: searchable(e.Contact.FirstName, e.Contact.LastName, e.Contact.Email, canonical.CanonicalID(s.ID))}
	if len(e.Changes) > 0 {
		p.Origin = e.Changes[0].Origin
	}
	w.mu.Lock()
	t := w.of(s.Tenant)
	_, known := t.people.by[p.ID]
	if known || w.people < mostPeople {
		if !known {
			w.people++
		}
		t.people.put(p)
	}
	read := w.read
	w.mu.Unlock()
	if read {
		w.hub.changed("t/"+string(s.Tenant), contactTopic(s.Tenant, p.ID))
	}
}

func contactTopic(t canonical.Tenant, id canonical.CanonicalID) string {
	return "c/" + string(t) + "/" + string(id)
}

func (w *world) effect(m bus.Stored) {
	s, err := streams.Parse(m.Subject)
	if err != nil {
		return
	}
	var e struct {
		State effect.State `json:"state"`
	}
	if json.Unmarshal(m.Data, &e) != nil {
		return
	}
	if e.State == effect.Done {
		w.mu.Lock()
		if x := w.of(s.Tenant).wrote[s.System]; x != nil {
			x.fresh++
			x.last, x.id, x.kind = m.Time, canonical.CanonicalID(s.ID), s.Kind
		}
		w.mu.Unlock()
	}
	if s.Kind == canonical.KindContact {
		w.hub.changed(contactTopic(s.Tenant, canonical.CanonicalID(s.ID)))
	}
}

func (w *world) value(bucket string, m bus.Stored) {
	key := streams.ParseBucketSubject(bucket, m.Subject)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.buckets[bucket] == nil {
		w.buckets[bucket] = map[string][]byte{}
	}
	if len(m.Data) == 0 { // deleted or purged
		delete(w.buckets[bucket], key)
	} else {
		w.buckets[bucket][key] = m.Data
	}
	switch bucket {
	case streams.HOLDS:
		w.hub.changed("holds")
	case streams.CURSORS:
		w.hub.changed("reads")
	}
}

// decoded reads a followed value into v, and reports whether it is there. The
// caller holds the lock.
func (w *world) decoded(bucket, key string, v any) bool {
	value, ok := w.buckets[bucket][key]
	return ok && json.Unmarshal(value, v) == nil
}

// sample looks every so often how far the consumers are. When that takes long
// it is done less often.
func (c *Console) sample(ctx context.Context) error {
	asked := map[canonical.Tenant]bool{} // for what was written last, before we followed
	for {
		began := c.clock.Now()
		err := c.look(ctx)
		if err == nil {
			c.lastWrites(ctx, asked)
		} else if ctx.Err() == nil {
			c.logger.Warn().Err(err).Msg("how far the consumers are can't be told")
		}
		c.world.settle(began, err)
		if clock.Sleep(ctx, c.clock, max(c.o.Every, 4*c.clock.Now().Sub(began))) != nil {
			return nil
		}
	}
}

func (c *Console) look(ctx context.Context) error {
	status, err := streams.Status(ctx, c.bus.JetStream())
	if err != nil {
		return err
	}
	w := c.world
	w.mu.RLock()
	moved := stateOf(w.status, streams.DEAD) != stateOf(status, streams.DEAD)
	w.mu.RUnlock()
	var letters []dead.Letter
	if moved {
		if letters, err = dead.Find(ctx, c.bus, dead.Filter{}); err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status = status
	if moved {
		w.letters = letters
		w.hub.changed("dead")
	}
	for _, t := range w.tenants {
		clear(t.waiting)
	}
	for _, s := range status {
		for _, consumer := range s.Consumers {
			if name, ok := tenantOf(consumer.Durable); ok {
				w.of(name).waiting[consumer.Durable] = consumer.Pending + consumer.Unacked
			}
		}
	}
	return nil
}

// counted is what tells that a stream has changed, also by a purge.
type counted struct{ messages, last uint64 }

func stateOf(all []streams.StreamStatus, name string) counted {
	for _, s := range all {
		if s.Name == name {
			return counted{s.Messages, s.Last}
		}
	}
	return counted{}
}

// tenantOf returns whose a consumer is, if it is a tenant's own.
func tenantOf(durable string) (canonical.Tenant, bool) {
	for _, prefix := range []string{"hydrate-", "sink-" + string(canonical.GHL) + "-", "sink-" + string(canonical.Novi) + "-"} {
		if name, ok := strings.CutPrefix(durable, prefix); ok {
			return canonical.Tenant(name), true
		}
	}
	return "", false
}

// lastWrites asks once for each tenant what was written last before the console
// began.
func (c *Console) lastWrites(ctx context.Context, asked map[canonical.Tenant]bool) {
	for _, name := range c.world.names() {
		if asked[name] || ctx.Err() != nil {
			continue
		}
		asked[name] = true
		for _, system := range []canonical.System{canonical.GHL, canonical.Novi} {
			m, err := c.bus.Last(ctx, streams.EFFECTS, streams.EffectsWhere(system, name, "", ""))
			if err != nil {
				continue // nothing was written, or the broker is away: what is written next is heard of
			}
			s, err := streams.Parse(m.Subject)
			if err != nil {
				continue
			}
			c.world.mu.Lock()
			if x := c.world.of(name).wrote[system]; m.Time.After(x.last) {
				x.last, x.id, x.kind = m.Time, canonical.CanonicalID(s.ID), s.Kind
			}
			c.world.mu.Unlock()
		}
	}
}

func (w *world) names() []canonical.Tenant {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return slices.Sorted(maps.Keys(w.tenants))
}

// settle ends a look: what has come since the one before is a sample.
func (w *world) settle(at time.Time, err error) {
	w.mu.Lock()
	w.sampled, w.trouble = at, ""
	if err != nil {
		w.trouble = fmt.Sprintf("The broker can't be asked: %v", err)
	}
	for _, t := range w.tenants {
		lag := uint64(0)
		for _, n := range t.waiting {
			lag += n
		}
		t.rings.add(sample{lag: int32(min(lag, 1<<30)), toGHL: int32(t.wrote[canonical.GHL].fresh), toNovi: int32(t.wrote[canonical.Novi].fresh)})
		t.wrote[canonical.GHL].fresh, t.wrote[canonical.Novi].fresh = 0, 0
	}
	w.mu.Unlock()
	w.hub.changed("overview")
}
