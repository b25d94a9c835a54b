// Package preview says which API calls a sink would make of what CANONICAL and
// EFFECTS hold now, under a mapping and a policy that need not be in use yet.
// It makes none.
//
// What is to be written is decided by the sink's own plan, and turned into
// calls by the sink's own destinations, against a transport that notes each
// call and makes up the answer. What it can't know is what the systems would
// say: that a record has moved meanwhile, that it is gone, that a display name
// is taken. What a binding brings whose reading is changed (path, converter,
// expression) is the transform's to say, in Config.Then.
package preview

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/goccy/go-json"
	"golang.org/x/sync/errgroup"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/ghlapi"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/internal/noviapi"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/effect"
	"github.com/causeway-sync/causeway/sink/apply"
	"github.com/causeway-sync/causeway/sink/ghl"
	"github.com/causeway-sync/causeway/sink/novi"
	"github.com/causeway-sync/causeway/sink/plan"
	"github.com/causeway-sync/causeway/streams"
)

// Stream reads what the pipeline holds; a [bus.Conn] is one.
type Stream interface {
	Last(ctx context.Context, stream, subject string) (bus.Stored, error)
	ScanLast(ctx context.Context, stream, filter string, each func(bus.Stored) error) error
}

// Config is what a preview needs.
type Config struct {
	Stream Stream
	Clock  clock.Clock
	Tenant canonical.Tenant
	Lens   *mapping.Lens
	Policy *mapping.Policy
	// Location of GHL, and the paths of the Novi site; nil means that the tenant
	// has no such system.
	Location *string
	Paths    *noviapi.Paths
	// Then says what becomes of an entity before the sink looks at it, as when its
	// records are read by another mapping; nil means that it stays as it is. It is
	// called from several goroutines, and for an entity on which others hang more
	// than once.
	Then func(context.Context, canonical.Event) (canonical.Event, error)
	// Values keeps the values in operations. They are personal data.
	Values bool
	// Workers is how many entities are looked at at once; 0 means 16.
	Workers int
}

// Operation is one call that would be made.
type Operation struct {
	Tenant canonical.Tenant      `json:"tenant"`
	System canonical.System      `json:"system"`
	Kind   canonical.Kind        `json:"kind"`
	Entity canonical.CanonicalID `json:"entity"`
	// Record is the external id; empty if the record is to be made.
	Record canonical.ExternalID `json:"record,omitempty"`
	Method string               `json:"method"`
	Path   string               `json:"path"`
	// Read says that the call only looks: before a write or after it.
	Read bool `json:"read,omitempty"`
	// Fields are the system's names of what is written, sorted. Of a Novi record,
	// which is written whole, they are those that differ.
	Fields []string `json:"fields,omitempty"`
	// Values by field, if they were asked for.
	Values map[string]any `json:"values,omitempty"`
	// MayFire says what may start an automation at the destination, or cost
	// something there; empty if nothing does.
	MayFire string `json:"may_fire,omitempty"`
}

// Count is what the calls to a system come to.
type Count struct {
	Records int `json:"records"` // that would be written
	Reads   int `json:"reads"`
	Writes  int `json:"writes"`
	MayFire int `json:"may_fire"` // writes that may start an automation
	// Refused are the records for which no call can be made, because a value has
	// no spelling there.
	Refused int `json:"refused"`
	// Pending are the records of which the end of the last write is unknown. The
	// sink looks them up before it writes again.
	Pending int `json:"pending"`
}

// Calls is how many calls there would be.
func (c Count) Calls() int { return c.Reads + c.Writes }

// Summary is what a tenant's preview comes to.
type Summary struct {
	Tenant   canonical.Tenant            `json:"tenant"`
	Entities int                         `json:"entities"`
	Systems  map[canonical.System]*Count `json:"systems"`
}

// Run looks at every entity and calls each with every operation, those of an
// entity one after the other. What is kept in memory is one number for each
// entity. An error of each ends it.
func Run(ctx context.Context, cfg Config, each func(Operation) error) (Summary, error) {
	if cfg.Workers == 0 {
		cfg.Workers = 16
	}
	if cfg.Policy == nil {
		cfg.Policy = &mapping.Policy{}
	}
	if cfg.Then == nil {
		cfg.Then = func(_ context.Context, e canonical.Event) (canonical.Event, error) { return e, nil }
	}
	r := &runner{cfg: cfg, each: each, destinations: map[canonical.System]apply.Destination{}, out: Summary{Tenant: cfg.Tenant, Systems: map[canonical.System]*Count{}}}
	none := func(context.Context) (string, error) { return "none", nil }
	client := &http.Client{Transport: transport{lens: cfg.Lens}}
	if cfg.Location != nil {
		api := ghlapi.New(ghlapi.Config{BaseURL: "http://" + ghlHost, LocationID: *cfg.Location, Token: none, HTTP: client, Clock: cfg.Clock})
		r.destinations[canonical.GHL] = ghl.New(api, cfg.Lens, cfg.Clock)
	}
	if cfg.Paths != nil {
		api := noviapi.New(noviapi.Config{BaseURL: "http://" + noviHost, Key: none, HTTP: client, Clock: cfg.Clock, Paths: *cfg.Paths})
		r.destinations[canonical.Novi] = novi.New(api, cfg.Lens)
	}
	for system := range r.destinations {
		r.out.Systems[system] = &Count{}
	}
	for _, kind := range append([]canonical.Kind{canonical.KindContact}, canonical.Items()...) {
		if err := r.kind(ctx, kind); err != nil {
			return r.out, err
		}
	}
	return r.out, nil
}

type runner struct {
	cfg          Config
	each         func(Operation) error
	destinations map[canonical.System]apply.Destination
	out          Summary
}

// batch is how many entities are read before they are looked at.
const batch = 256

// kind looks at all entities of a kind, in the order of their last event. The
// last message of each subject may be one of several of an entity: the first
// walk finds out which is the entity's last.
func (r *runner) kind(ctx context.Context, kind canonical.Kind) error {
	filter := streams.EntitiesOf(kind, r.cfg.Tenant)
	last := map[canonical.CanonicalID]uint64{}
	err := r.cfg.Stream.ScanLast(ctx, streams.CANONICAL, filter, func(m bus.Stored) error {
		s, err := streams.Parse(m.Subject)
		if err == nil {
			last[canonical.CanonicalID(s.ID)] = m.Seq
		}
		return err
	})
	if err != nil {
		return err
	}
	var states []canonical.Event
	err = r.cfg.Stream.ScanLast(ctx, streams.CANONICAL, filter, func(m bus.Stored) error {
		s, err := streams.Parse(m.Subject)
		id := canonical.CanonicalID(s.ID)
		if err != nil || m.Seq < last[id] {
			return err
		}
		last[id] = math.MaxUint64 // a later event doesn't count it twice
		e, err := canonical.DecodeEvent(m.Data)
		if err != nil {
			return fmt.Errorf("decode message %d of %s: %w", m.Seq, m.Stream, err)
		}
		if states = append(states, e); len(states) < batch {
			return nil
		}
		err = r.look(ctx, states)
		states = states[:0]
		return err
	})
	if err != nil {
		return err
	}
	return r.look(ctx, states)
}

// finding is what there is to do about an entity at one system.
type finding struct {
	operations       []Operation
	pending, refused bool
}

// look looks at some entities at once, and tells of them in order.
func (r *runner) look(ctx context.Context, states []canonical.Event) error {
	systems := slices.Sorted(maps.Keys(r.destinations))
	found := make([]finding, len(states)*len(systems))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(r.cfg.Workers)
	for i, state := range states {
		g.Go(func() error {
			state, err := r.cfg.Then(gctx, state)
			if err != nil {
				return err
			}
			for j, system := range systems {
				if found[i*len(systems)+j], err = r.entity(gctx, state, system); err != nil {
					return fmt.Errorf("%s %s at %s: %w", state.Kind(), state.ID(), system, err)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	r.out.Entities += len(states)
	for i, f := range found {
		count := r.out.Systems[systems[i%len(systems)]]
		if f.pending {
			count.Pending++
		}
		if f.refused {
			count.Refused++
		}
		if slices.ContainsFunc(f.operations, func(o Operation) bool { return !o.Read }) {
			count.Records++
		}
		for _, o := range f.operations {
			if o.Read {
				count.Reads++
			} else {
				count.Writes++
			}
			if o.MayFire != "" {
				count.MayFire++
			}
			if err := r.each(o); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *runner) entity(ctx context.Context, state canonical.Event, system canonical.System) (finding, error) {
	last, err := r.lastEffect(ctx, state, system)
	if err != nil {
		return finding{}, err
	}
	if last.State == effect.Intent || last.State == effect.Ambiguous {
		return finding{pending: true}, nil
	}
	x := plan.Expect(state, system, last)
	create := state.Kind() != canonical.KindContact
	if !create && x.External == "" {
		if create, err = r.cfg.Policy.Create(system).Holds(state.Contact); err != nil {
			return finding{refused: true}, nil
		}
	}
	var plans []plan.Plan
	for _, dup := range plan.Duplicates(state, system, r.cfg.Lens, r.cfg.Policy) {
		plans = append(plans, dup.Plan)
	}
	if p := plan.For(state, system, r.cfg.Lens, x, create, r.cfg.Policy); !p.Empty() {
		plans = append(plans, p)
	}
	if len(plans) == 0 {
		return finding{}, nil
	}
	parent, err := r.parent(ctx, state, system)
	if err != nil || state.Kind() != canonical.KindContact && parent == "" {
		return finding{}, err // it waits for its contact
	}
	var out finding
	for _, p := range plans {
		t := &tape{about: Operation{Tenant: r.cfg.Tenant, System: system, Kind: state.Kind(), Entity: state.ID(), Record: p.External}, plan: p, values: r.cfg.Values}
		err := r.play(context.WithValue(ctx, tapeKey{}, t), state, system, parent, p)
		if err != nil && apierr.ClassOf(err) != apierr.Invalid {
			return finding{}, err
		}
		out.operations, out.refused = append(out.operations, t.operations...), out.refused || err != nil
	}
	return out, nil
}

// play has the destination do p, as the sink would that knows of no fresh
// sight of the record.
func (r *runner) play(ctx context.Context, state canonical.Event, system canonical.System, parent canonical.ExternalID, p plan.Plan) error {
	d := r.destinations[system]
	ref := apply.Ref{Kind: state.Kind(), Parent: parent, ID: p.External}
	if p.Delete {
		return d.Delete(ctx, ref)
	}
	if p.Create {
		_, err := d.Create(ctx, state, parent, p)
		return err
	}
	now, err := d.ReadToUpdate(ctx, ref)
	if err == nil {
		_, err = d.Update(ctx, state, ref, p, now)
	}
	return err
}

// lastEffect returns the sink's record for an entity, or the zero Effect.
func (r *runner) lastEffect(ctx context.Context, state canonical.Event, system canonical.System) (e effect.Effect, err error) {
	m, err := r.cfg.Stream.Last(ctx, streams.EFFECTS, streams.Effect(system, r.cfg.Tenant, state.Kind(), state.ID()))
	if errors.Is(err, bus.ErrNotFound) {
		return e, nil
	}
	if err != nil {
		return e, err
	}
	return e, json.Unmarshal(m.Data, &e)
}

// unmade is the parent of an item whose contact would be made first.
const unmade canonical.ExternalID = "new"

// parent returns the record that an item hangs on or is to hang on, "" if
// there is none and none would be made.
func (r *runner) parent(ctx context.Context, state canonical.Event, system canonical.System) (canonical.ExternalID, error) {
	id := state.ContactID()
	if id == "" {
		return "", nil
	}
	m, err := r.cfg.Stream.Last(ctx, streams.CANONICAL, streams.Entity(canonical.KindContact, r.cfg.Tenant, id))
	if errors.Is(err, bus.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	contact, err := canonical.DecodeEvent(m.Data)
	if err != nil {
		return "", err
	}
	if contact, err = r.cfg.Then(ctx, contact); err != nil {
		return "", err
	}
	links := contact.Links[system]
	switch p := state.Sync.Base[system].Parent; {
	case contact.Sync.Base[system].Gone:
		return "", nil
	case slices.Contains(links, p):
		return p, nil
	case len(links) > 0:
		return links[0], nil
	}
	create, err := r.cfg.Policy.Create(system).Holds(contact.Contact)
	if err != nil || plan.For(contact, system, r.cfg.Lens, plan.Expected{}, create, r.cfg.Policy).Empty() {
		return "", nil // a condition that fails is told of the contact
	}
	return unmade, nil
}

// Window is a limit of Calls in any span of Per.
type Window struct {
	Calls int
	Per   time.Duration
}

// Takes is how long calls take at least, if nobody else makes any. daily is the
// limit of a day; 0 means none.
func Takes(calls int, windows []Window, daily int) time.Duration {
	var longest time.Duration
	for _, w := range windows {
		longest = max(longest, time.Duration(float64(calls)/float64(w.Calls)*float64(w.Per)))
	}
	if daily > 0 && calls > 0 {
		longest = max(longest, time.Duration((calls-1)/daily)*24*time.Hour)
	}
	return longest
}
