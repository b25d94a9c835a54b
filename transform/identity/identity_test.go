package identity_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/transform/identity"
)

const tenant = "alpine-guild"

// bucket is a key-value bucket in memory.
type bucket struct {
	values map[string]string
	revs   map[string]uint64
}

func (b *bucket) Get(_ context.Context, key string) ([]byte, uint64, error) {
	v, ok := b.values[key]
	if !ok {
		return nil, 0, bus.ErrNotFound
	}
	return []byte(v), b.revs[key], nil
}

func (b *bucket) Create(ctx context.Context, key string, value []byte) (uint64, error) {
	if _, ok := b.values[key]; ok {
		return 0, bus.ErrExists
	}
	return b.Put(ctx, key, value)
}

func (b *bucket) Update(ctx context.Context, key string, value []byte, rev uint64) (uint64, error) {
	if b.revs[key] != rev {
		return 0, bus.ErrWrongSequence
	}
	return b.Put(ctx, key, value)
}

func (b *bucket) Put(_ context.Context, key string, value []byte) (uint64, error) {
	b.values[key] = string(value)
	b.revs[key]++
	return b.revs[key], nil
}

func (b *bucket) Delete(_ context.Context, key string, _ uint64) error {
	delete(b.values, key)
	return nil
}

func (b *bucket) Keys(_ context.Context, pattern string) ([]string, error) {
	prefix := strings.TrimSuffix(pattern, "*.*")
	var keys []string
	for key := range b.values {
		if strings.HasPrefix(key, prefix) && strings.Count(key, ".") == strings.Count(pattern, ".") {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

// world is a resolver and the entities that it may ask for.
type world struct {
	t *testing.T
	*identity.Resolver
	*bucket
	states map[canonical.CanonicalID]canonical.Event
}

func setup(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, bucket: &bucket{values: map[string]string{}, revs: map[string]uint64{}}, states: map[canonical.CanonicalID]canonical.Event{}}
	r, err := identity.New(w.bucket, func(_ context.Context, _ canonical.Tenant, _ canonical.Kind, id canonical.CanonicalID) (canonical.Event, bool, error) {
		s, ok := w.states[id]
		return s, ok, nil
	}, 100)
	if err != nil {
		t.Fatal(err)
	}
	w.Resolver = r
	return w
}

type fields = map[string]string

func record(system canonical.System, id canonical.ExternalID, f fields) identity.Record {
	return identity.Record{Tenant: tenant, Kind: canonical.KindContact, System: system, External: id, Shown: mapping.Shown{Fields: f}}
}

// see resolves r and has its entity show what r shows, as the merge would.
func (w *world) see(r identity.Record) canonical.CanonicalID {
	w.t.Helper()
	id, err := w.Resolve(w.t.Context(), r)
	if err != nil {
		w.t.Fatal(err)
	}
	s := w.states[id]
	s.Version++
	s.Contact.ID = id
	for f, v := range r.Shown.Fields {
		s.Contact.SetField(f, v)
	}
	if s.Links == nil {
		s.Links = map[canonical.System][]canonical.ExternalID{}
	}
	if len(s.Links[r.System]) == 0 {
		s.Links[r.System] = []canonical.ExternalID{r.External}
	}
	w.states[id] = s
	return id
}

var ada = fields{"email": "ada@example.org", "first_name": "Ada", "last_name": "Imhof", "phone": "+12025550143"}

func with(f fields, more ...string) fields {
	out := fields{}
	for k, v := range f {
		out[k] = v
	}
	for i := 0; i < len(more); i += 2 {
		out[more[i]] = more[i+1]
	}
	return out
}

func TestResolve(t *testing.T) {
	t.Run("a first sighting gives the id that follows from it", func(t *testing.T) {
		w := setup(t)
		if got, want := w.see(record(canonical.GHL, "g1", ada)), canonical.NewID(tenant, canonical.KindContact, canonical.GHL, "g1"); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
	t.Run("the link stays when every key changes", func(t *testing.T) {
		w := setup(t)
		id := w.see(record(canonical.GHL, "g1", ada))
		if got := w.see(record(canonical.GHL, "g1", fields{"email": "new@example.org"})); got != id {
			t.Errorf("got %s, want %s", got, id)
		}
	})
	t.Run("the same e-mail at the other side is the same person", func(t *testing.T) {
		w := setup(t)
		id := w.see(record(canonical.GHL, "g1", ada))
		if got := w.see(record(canonical.Novi, "n1", fields{"email": "ada@example.org"})); got != id {
			t.Errorf("got %s, want %s", got, id)
		}
	})
	t.Run("phone and name, where there is no e-mail", func(t *testing.T) {
		w := setup(t)
		id := w.see(record(canonical.GHL, "g1", with(ada, "email", "")))
		if got := w.see(record(canonical.Novi, "n1", with(ada, "email", ""))); got != id {
			t.Errorf("got %s, want %s", got, id)
		}
	})
	t.Run("a family shares its phone", func(t *testing.T) {
		w := setup(t)
		id := w.see(record(canonical.GHL, "g1", with(ada, "email", "")))
		if got := w.see(record(canonical.Novi, "n1", with(ada, "email", "", "first_name", "Bruno"))); got == id {
			t.Error("two of a family were taken for one")
		}
	})
	t.Run("the same phone and name with another e-mail is somebody else", func(t *testing.T) {
		w := setup(t)
		id := w.see(record(canonical.GHL, "g1", ada))
		if got := w.see(record(canonical.Novi, "n1", with(ada, "email", "other@example.org"))); got == id {
			t.Error("two people were taken for one")
		}
	})
	t.Run("an e-mail that has moved on takes its claim along", func(t *testing.T) {
		w := setup(t)
		a := w.see(record(canonical.GHL, "g1", fields{"email": "office@example.org"}))
		w.see(record(canonical.GHL, "g1", fields{"email": "ada@example.org"}))
		b := w.see(record(canonical.GHL, "g2", fields{"email": "office@example.org"}))
		if a == b {
			t.Fatal("two people were taken for one")
		}
		if got := w.see(record(canonical.Novi, "n1", fields{"email": "office@example.org"})); got != b {
			t.Errorf("the address leads to %s, want %s", got, b)
		}
	})
	t.Run("what we made says whose it is", func(t *testing.T) {
		w := setup(t)
		id := w.see(record(canonical.GHL, "g1", fields{"first_name": "Ada"}))
		r := record(canonical.Novi, "n1", fields{"first_name": "Ada"})
		r.Shown.Ref = id
		if got := w.see(r); got != id {
			t.Errorf("by reference: got %s, want %s", got, id)
		}
		r = record(canonical.Novi, "n1", fields{})
		r.Entity = id
		if got := w.see(r); got != id {
			t.Errorf("by writeback: got %s, want %s", got, id)
		}
	})
	t.Run("a copied reference leads nobody astray", func(t *testing.T) {
		w := setup(t)
		id := w.see(record(canonical.GHL, "g1", ada))
		w.see(record(canonical.Novi, "n1", fields{"email": "ada@example.org"}))
		r := record(canonical.Novi, "n2", fields{"email": "copy@example.org"})
		r.Shown.Ref = id
		if got := w.see(r); got == id {
			t.Error("a copy of the record was taken for the record")
		}
	})
	t.Run("a record that is gone and was never seen is nobody", func(t *testing.T) {
		w := setup(t)
		if id, err := w.Resolve(t.Context(), identity.Record{Tenant: tenant, Kind: canonical.KindContact, System: canonical.GHL, External: "g1", Absent: true}); id != "" || err != nil {
			t.Errorf("got %q, %v", id, err)
		}
		if len(w.values) != 0 {
			t.Errorf("it was claimed: %v", w.values)
		}
	})
}

func TestNeverGuessed(t *testing.T) {
	tests := []struct {
		name string
		r    func(*world) identity.Record
	}{
		{"a second record of the same system", func(w *world) identity.Record {
			w.see(record(canonical.GHL, "g1", ada))
			return record(canonical.GHL, "g2", ada)
		}},
		{"a write for one that is linked to another", func(w *world) identity.Record {
			a := w.see(record(canonical.GHL, "g1", ada))
			w.see(record(canonical.Novi, "n2", fields{"email": "b@example.org"}))
			r := record(canonical.Novi, "n2", fields{"email": "b@example.org"})
			r.Entity = a
			return r
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := setup(t)
			_, err := w.Resolve(t.Context(), tt.r(w))
			if !errors.Is(err, identity.ErrAmbiguous) {
				t.Errorf("got %v", err)
			}
			if err != nil && strings.Contains(err.Error(), "example.org") {
				t.Errorf("it shows who it is about: %v", err)
			}
		})
	}
}

func TestKeysShowNobody(t *testing.T) {
	w := setup(t)
	w.see(record(canonical.GHL, "g.1 *", ada))
	for key := range w.values {
		for _, never := range []string{"ada", "imhof", "2025550143", "*", " "} {
			if strings.Contains(strings.ToLower(key), never) {
				t.Errorf("the key %q shows %q", key, never)
			}
		}
	}
}
