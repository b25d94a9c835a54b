package identity_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/transform/identity"
)

// asked counts what is waited for one at a time, and lets another instance
// claim a key just before we do.
type asked struct {
	*bucket
	waits int
	first map[string]string
}

func (a *asked) Get(ctx context.Context, key string) ([]byte, uint64, error) {
	a.waits++
	return a.bucket.Get(ctx, key)
}

func (a *asked) Create(ctx context.Context, key string, value []byte) (uint64, error) {
	a.waits++
	return a.bucket.Create(ctx, key, value)
}

func (a *asked) CreateAsync(ctx context.Context, key string, value []byte, done func(uint64, error)) error {
	if other, ok := a.first[key]; ok {
		a.values[key] = other
	}
	return a.bucket.CreateAsync(ctx, key, value, done)
}

func ahead(t *testing.T) (*asked, *identity.Resolver, identity.Lookup) {
	t.Helper()
	a := &asked{bucket: &bucket{values: map[string]string{}, revs: map[string]uint64{}}, first: map[string]string{}}
	r, err := identity.New(a, func(context.Context, canonical.Tenant, canonical.Kind, canonical.CanonicalID) (canonical.Event, bool, error) {
		a.waits++
		return canonical.Event{}, false, nil
	}, 100)
	if err != nil {
		t.Fatal(err)
	}
	return a, r, func(_ context.Context, _ canonical.Tenant, _ canonical.Kind, _ canonical.CanonicalID, done func(bus.Stored, error)) error {
		done(bus.Stored{}, bus.ErrNotFound)
		return nil
	}
}

func person(external, email string) identity.Record {
	return identity.Record{Tenant: tenant, Kind: canonical.KindContact, System: canonical.GHL, External: canonical.ExternalID(external),
		Shown: mapping.Shown{Fields: map[string]string{"email": email}}}
}

func TestLookingAheadWaitsForNothing(t *testing.T) {
	a, r, lookup := ahead(t)
	var records []identity.Record
	for i := range 20 {
		records = append(records, person(fmt.Sprintf("g%d", i), fmt.Sprintf("p%d@example.org", i)))
	}
	for _, what := range []string{"new", "known"} {
		r.Warm(t.Context(), records, lookup)
		r.Take()
		for _, rec := range records {
			got, err := r.Resolve(t.Context(), rec)
			if want := canonical.NewID(tenant, canonical.KindContact, canonical.GHL, rec.External); err != nil || got.ID != want || got.New != (what == "new") {
				t.Fatalf("%s: got %+v, %v, want %s", what, got, err, want)
			}
		}
		if ok, why := r.Confirm(); !ok {
			t.Fatal(why)
		}
	}
	if a.waits != 0 || len(a.values) != 40 {
		t.Errorf("waited %d times for %d claims, want 0 and 40", a.waits, len(a.values))
	}
}

func TestLookingAheadSeesWhatCameBefore(t *testing.T) {
	_, r, lookup := ahead(t)
	records := []identity.Record{person("g1", "ada@example.org"), person("g2", "ada@example.org")}
	r.Warm(t.Context(), records, lookup)
	r.Take()
	one, err := r.Resolve(t.Context(), records[0])
	if err != nil {
		t.Fatal(err)
	}
	two, err := r.Resolve(t.Context(), records[1])
	if err != nil || two.With != one.ID {
		t.Errorf("got %+v, %v, want that it may be %s", two, err, one.ID)
	}
}

func TestAnotherInstanceWasFirst(t *testing.T) {
	a, r, lookup := ahead(t)
	ada := person("g1", "ada@example.org")
	a.first[tenant+".contact.ghl.g1"] = "other"
	r.Warm(t.Context(), []identity.Record{ada}, lookup)
	r.Take()
	void, err := r.Resolve(t.Context(), ada)
	if err != nil {
		t.Fatal(err)
	}
	if ok, why := r.Confirm(); ok || why == nil {
		t.Fatalf("confirmed, though another has it: %v", why)
	}
	r.Forget()
	r.Void(canonical.GHL, void.ID)
	got, err := r.Resolve(t.Context(), ada)
	if err != nil || got.ID != "other" || got.New {
		t.Errorf("got %+v, %v, want the other's", got, err)
	}
}
