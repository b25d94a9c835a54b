package apply_test

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/effect"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/sink/apply"
	"github.com/causeway-sync/causeway/streams"
)

// doubled is a contact that two members show, m1 first, and says what it is to
// a sink; no transform answers.
func doubled(t *testing.T, policy *mapping.Policy, change func(*canonical.Event, *site)) *bundle {
	t.Helper()
	b := &bundle{Conn: bustest.Start(t), site: newSite(), t: t}
	e := canonical.NewEvent(canonical.KindContact, canonical.NewID(tenant, canonical.KindContact, canonical.GHL, "g1"))
	e.Version, e.Contact.FirstName, e.Contact.Tags = 1, "Ada", []string{}
	base := func(id canonical.ExternalID) canonical.Base {
		b.members[string(id)] = map[string]string{"first_name": "Ada"}
		return canonical.Base{External: id, At: canonical.Read{AsOf: 1, Seq: 1}, Fields: map[string]string{"first_name": "Ada"}, Tagged: true}
	}
	e.Links = map[canonical.System][]canonical.ExternalID{canonical.Novi: {"m1", "m2"}}
	e.Sync.Base = map[canonical.System]canonical.Base{canonical.Novi: base("m1")}
	e.Sync.Others = map[canonical.System]map[canonical.ExternalID]canonical.Base{canonical.Novi: {"m2": base("m2")}}
	change(&e, b.site)
	bustest.Go(t, apply.New(apply.Config{Bus: b.Conn, Clock: clock.System{}, Rand: rand.New(rand.NewPCG(1, 1)), Logger: zerolog.Nop(),
		System: canonical.Novi, Tenant: tenant, Lens: mapping.Association("US"), Destination: b.site, Create: mapping.ForAll, Policy: policy}).Run)
	data, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Publish(t.Context(), bus.Message{Subject: streams.Canonical(canonical.KindContact, tenant, e.ID(), canonical.OpUpdated), Data: data}); err != nil {
		t.Fatal(err)
	}
	return b
}

// raw returns what the sink has published of a record by one way.
func (b *bundle) raw(id string, via observation.Via) []observation.Observation {
	b.t.Helper()
	var out []observation.Observation
	for _, m := range bustest.All(b.t, b.Conn, streams.RAW) {
		o, err := observation.Decode(m.Data)
		if err != nil {
			b.t.Fatal(err)
		}
		if o.Via == via && string(o.ExternalID) == id {
			out = append(out, o)
		}
	}
	return out
}

func TestDuplicates(t *testing.T) {
	remove := &mapping.Policy{Duplicates: mapping.DeleteDuplicates}
	there := func(b *bundle, id string) (is bool) {
		b.look(func() { is = b.members[id] != nil })
		return is
	}
	settled := func(b *bundle) {
		bustest.Until(t, func() bool {
			c, err := b.JetStream().Consumer(t.Context(), streams.CANONICAL, streams.Sink(canonical.Novi, tenant).Durable)
			return err == nil && c.CachedInfo().AckFloor.Stream > 0
		})
	}
	asIs := func(*canonical.Event, *site) {}
	t.Run("are deleted", func(t *testing.T) {
		b := doubled(t, remove, asIs)
		settled(b)
		back := b.raw("m2", observation.Writeback)
		if there(b, "m2") || !there(b, "m1") || len(back) != 1 || !back[0].Absent {
			t.Errorf("m1 %t, m2 %t, writebacks %+v", there(b, "m1"), there(b, "m2"), back)
		}
		last := b.effects()
		if e := last[len(last)-1]; !e.Delete || e.External != "m2" || e.State != effect.Done {
			t.Errorf("the last effect is %+v", e)
		}
	})
	t.Run("are deleted once, though nobody heard that they were", func(t *testing.T) {
		b := doubled(t, remove, func(_ *canonical.Event, s *site) { s.after = once("delete", errors.New("the line is dead")) })
		settled(b)
		if back := b.raw("m2", observation.Writeback); there(b, "m2") || !there(b, "m1") || len(back) != 1 {
			t.Errorf("m1 %t, m2 %t, writebacks %+v", there(b, "m1"), there(b, "m2"), back)
		}
	})
	t.Run("are not deleted if the primary one is gone", func(t *testing.T) {
		b := doubled(t, remove, func(_ *canonical.Event, s *site) { delete(s.members, "m1") })
		bustest.Until(t, func() bool { return len(b.raw("m1", observation.Fetch)) > 0 })
		if seen := b.raw("m1", observation.Fetch); !there(b, "m2") || !seen[0].Absent {
			t.Errorf("m2 %t, of m1 was said %+v", there(b, "m2"), seen)
		}
	})
	t.Run("are tagged", func(t *testing.T) {
		b := doubled(t, &mapping.Policy{Duplicates: mapping.TagDuplicates, DuplicatesTag: "duplicate"}, asIs)
		settled(b)
		last := b.effects()
		if e := last[len(last)-1]; e.External != "m2" || len(e.TagsAdded) != 1 || e.TagsAdded[0] != "duplicate" || e.State != effect.Done {
			t.Errorf("the last effect is %+v", e)
		}
		if said := b.raw(string(canonical.NewID(tenant, canonical.KindContact, canonical.GHL, "g1")), observation.Intent); len(said) == 0 || said[0].Target != "m2" {
			t.Errorf("before the write was said %+v", said)
		}
	})
	t.Run("are kept", func(t *testing.T) {
		b := doubled(t, nil, asIs)
		settled(b)
		if !there(b, "m2") || len(b.effects()) != 0 {
			t.Errorf("m2 %t, effects %+v", there(b, "m2"), b.effects())
		}
	})
	t.Run("of somebody who was merged are left to the other", func(t *testing.T) {
		b := doubled(t, remove, func(e *canonical.Event, _ *site) {
			e.MergedInto, e.Links = "other", map[canonical.System][]canonical.ExternalID{}
			e.Contact.FirstName = "Bruno"
		})
		settled(b)
		if !there(b, "m1") || !there(b, "m2") || len(b.effects()) != 0 {
			t.Errorf("effects %+v", b.effects())
		}
	})
}

// TestDeletesWaitForAMerge: a contact's counterpart isn't deleted at once.
func TestDeletesWaitForAMerge(t *testing.T) {
	propagate := &mapping.Policy{Deletes: map[mapping.Flow]mapping.Delete{{Kind: canonical.KindContact, System: canonical.GHL}: {Action: mapping.Propagate}}}
	for name, gone := range map[string]time.Time{"lately": time.Now().Add(time.Hour), "long ago": time.Now().Add(-time.Hour)} {
		t.Run("gone "+name, func(t *testing.T) {
			b := doubled(t, propagate, func(e *canonical.Event, _ *site) {
				e.Links[canonical.Novi], e.Sync.Others = []canonical.ExternalID{"m1"}, nil
				e.Sync.Base[canonical.GHL] = canonical.Base{External: "g1", Gone: true, At: canonical.Read{AsOf: gone.UnixMicro(), Seq: 2}}
				e.SetDeleted(true)
			})
			bustest.Until(t, func() bool {
				c, err := b.JetStream().Consumer(t.Context(), streams.CANONICAL, streams.Sink(canonical.Novi, tenant).Durable)
				return err == nil && c.CachedInfo().Delivered.Stream > 0 && (name == "lately" || c.CachedInfo().AckFloor.Stream > 0)
			})
			if effects := b.effects(); (len(effects) > 0) != (name == "long ago") {
				t.Errorf("effects %+v", effects)
			}
		})
	}
}

// TestSomebodyElseStandsInItsPlace: a system may refuse a record because another
// person's is alike, by the phone number say. That is tried a few times, since
// the other may be losing it, and our own word of each try leads to none.
func TestSomebodyElseStandsInItsPlace(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.look(func() { b.members["m0"] = map[string]string{"first_name": "Bea", "email": "bea@example.org"} })
	b.before = func(op string) error {
		if op != "create" {
			return nil
		}
		return &apierr.Error{System: "novi", Op: "create member", Class: apierr.Duplicate, Status: 400, ExistingID: "m0"}
	}
	m0 := b.reading("m0")
	o := observation.Observation{System: canonical.Novi, Tenant: tenant, Kind: canonical.KindContact, ExternalID: m0.External, Via: observation.Fetch, Endpoint: m0.Endpoint,
		ReadBegan: m0.ReadBegan, Modified: m0.Modified, Record: m0.Record}
	data, err := o.Encode()
	if err == nil {
		_, err = b.Publish(t.Context(), bus.Message{Subject: streams.Raw(o), Data: data})
	}
	if err != nil {
		t.Fatal(err)
	}
	b.sink(1)
	b.ghlShows("Ada", "Guide")
	letters := func() int { return len(bustest.All(t, b.Conn, streams.DEAD)) }
	bustest.Until(t, func() bool { return letters() > 0 })
	b.settled()
	b.look(func() {
		if b.tries > 10 || b.creates != 0 {
			t.Errorf("%d tries, and %d were made", b.tries, b.creates)
		}
	})
	// A change of the contact is a new reason to try.
	b.look(func() { b.before = func(string) error { return nil } })
	b.ghlShows("Ada", "Teacher")
	bustest.Until(t, func() bool { made := 0; b.look(func() { made = b.creates }); return made == 1 })
}
