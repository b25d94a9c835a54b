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

func (b *bucket) GetAsync(ctx context.Context, key string, done func([]byte, uint64, error)) error {
	done(b.Get(ctx, key))
	return nil
}

func (b *bucket) CreateAsync(ctx context.Context, key string, value []byte, done func(uint64, error)) error {
	done(b.Create(ctx, key, value))
	return nil
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
	with   canonical.CanonicalID // of the last that was seen
	doubt  error
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
	got, err := w.Resolve(w.t.Context(), r)
	if err != nil {
		w.t.Fatal(err)
	}
	w.with, w.doubt = got.With, got.Doubt
	id := got.ID
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
	s.Sync.Base = map[canonical.System]canonical.Base{}
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
	t.Run("what we made for one who was linked meanwhile is another's, though that isn't published yet", func(t *testing.T) {
		w := setup(t)
		id := w.see(record(canonical.GHL, "g1", ada))
		if got, err := w.Resolve(t.Context(), record(canonical.Novi, "n1", ada)); err != nil || got.ID != id {
			t.Fatalf("got %s, %v, want %s", got.ID, err, id)
		}
		r := record(canonical.Novi, "n2", ada)
		r.Entity = id
		got, err := w.Resolve(t.Context(), r)
		if err != nil || got.ID == id || got.With != id {
			t.Errorf("got %s with %s, %v, want one of its own, with %s", got.ID, got.With, err, id)
		}
	})
	t.Run("a record that is gone and was never seen is nobody", func(t *testing.T) {
		w := setup(t)
		if got, err := w.Resolve(t.Context(), identity.Record{Tenant: tenant, Kind: canonical.KindContact, System: canonical.GHL, External: "g1", Absent: true}); got.ID != "" || err != nil {
			t.Errorf("got %q, %v", got.ID, err)
		}
		if len(w.values) != 0 {
			t.Errorf("it was claimed: %v", w.values)
		}
	})
}

// merged has a be b from now on, as the transform publishes it.
func (w *world) merged(a, b canonical.CanonicalID) {
	s, into := w.states[a], w.states[b]
	s.MergedInto = b
	into.Sync.Others = map[canonical.System]map[canonical.ExternalID]canonical.Base{}
	for system, records := range s.Links {
		into.Sync.Others[system] = map[canonical.ExternalID]canonical.Base{records[0]: {Fields: map[string]string{"email": s.Contact.Email}}}
	}
	w.states[a], w.states[b] = s, into
}

func TestTheSamePerson(t *testing.T) {
	t.Run("a second record of the same system", func(t *testing.T) {
		w := setup(t)
		a := w.see(record(canonical.GHL, "g1", ada))
		if b := w.see(record(canonical.GHL, "g2", ada)); b == a || w.with != a {
			t.Errorf("got %s with %s; the first is %s", b, w.with, a)
		}
	})
	t.Run("a second record while the first is on its way", func(t *testing.T) {
		w := setup(t)
		a, err := w.Resolve(t.Context(), record(canonical.GHL, "g1", ada))
		if err != nil {
			t.Fatal(err)
		}
		if b := w.see(record(canonical.GHL, "g2", ada)); b == a.ID || w.with != a.ID {
			t.Errorf("got %s with %s; the first is %s", b, w.with, a.ID)
		}
	})
	t.Run("a record that was deleted and made again is no second one", func(t *testing.T) {
		w := setup(t)
		a := w.see(record(canonical.GHL, "g1", ada))
		s := w.states[a]
		s.Links = nil
		s.Sync.Base = map[canonical.System]canonical.Base{canonical.GHL: {External: "g1", Gone: true}}
		w.states[a] = s
		if got := w.see(record(canonical.GHL, "g2", ada)); got != a || w.with != "" {
			t.Errorf("got %s with %q, want %s", got, w.with, a)
		}
	})
	t.Run("keys that meet later", func(t *testing.T) {
		w := setup(t)
		a := w.see(record(canonical.GHL, "g1", ada))
		b := w.see(record(canonical.Novi, "n2", fields{"email": "b@example.org"}))
		if w.with != "" {
			t.Errorf("before they meet: with %s", w.with)
		}
		if got := w.see(record(canonical.Novi, "n2", fields{"email": "ada@example.org"})); got != b || w.with != a {
			t.Errorf("got %s with %s, want %s with %s", got, w.with, b, a)
		}
	})
	t.Run("what stands in the place of a record that we were to make", func(t *testing.T) {
		w := setup(t)
		a := w.see(record(canonical.GHL, "g1", ada))
		n := w.see(record(canonical.Novi, "n2", fields{"email": "b@example.org"}))
		r := record(canonical.Novi, "n2", fields{"email": "b@example.org"})
		r.Entity = a
		if got := w.see(r); got != n || w.with != a {
			t.Errorf("got %s with %s, want %s with %s", got, w.with, n, a)
		}
	})
	t.Run("a record that is gone, whose number another shows now", func(t *testing.T) {
		w := setup(t)
		a := w.see(record(canonical.GHL, "g1", with(ada, "phone", "")))
		b := w.see(record(canonical.GHL, "g2", with(ada, "email", "b@example.org")))
		w.see(record(canonical.GHL, "g1", ada))
		got, err := w.Resolve(t.Context(), identity.Record{Tenant: tenant, Kind: canonical.KindContact, System: canonical.GHL, External: "g2", Absent: true})
		if err != nil || got.ID != b || got.With != a {
			t.Errorf("got %+v, %v, want %s with %s", got, err, b, a)
		}
	})
	t.Run("a record that is gone, whose address another has as a further one", func(t *testing.T) {
		w := setup(t)
		b := w.see(record(canonical.GHL, "g2", fields{"email": "old@example.org"}))
		r := record(canonical.GHL, "g1", fields{"email": "ada@example.org"})
		r.Shown.Also = []string{"old@example.org"}
		a := w.see(r)
		if w.with != b {
			t.Errorf("seen with %q, want %s", w.with, b)
		}
		got, err := w.Resolve(t.Context(), identity.Record{Tenant: tenant, Kind: canonical.KindContact, System: canonical.GHL, External: "g2", Absent: true})
		if err != nil || got.ID != b || got.With != a {
			t.Errorf("got %+v, %v, want %s with %s", got, err, b, a)
		}
	})
	t.Run("a key of the tenant's own", func(t *testing.T) {
		w := setup(t)
		policy := &mapping.Policy{IdentityKeys: []string{"custom.member_no"}}
		r := record(canonical.GHL, "g1", fields{"email": "ada@example.org", "custom.member_no": "7"})
		r.Policy = policy
		id := w.see(r)
		r = record(canonical.Novi, "n1", fields{"custom.member_no": "7"})
		r.Policy = policy
		if got := w.see(r); got != id {
			t.Errorf("the same number: got %s, want %s", got, id)
		}
		r = record(canonical.Novi, "n2", fields{"email": "ada@example.org"})
		r.Policy = policy
		if got := w.see(r); got == id || w.with != "" {
			t.Errorf("the same address, which is no key: got %s with %q", got, w.with)
		}
	})
}

// TestMergedIsFollowed: what was linked to an entity, or made for it, is the
// other's once it was merged into that, and its own again afterwards.
func TestMergedIsFollowed(t *testing.T) {
	w := setup(t)
	a := w.see(record(canonical.GHL, "g1", ada))
	b := w.see(record(canonical.GHL, "g2", fields{"email": "b@example.org"}))
	w.merged(b, a)
	if got, err := w.Contact(t.Context(), tenant, canonical.GHL, "g2"); err != nil || got != a {
		t.Errorf("an item's contact is %s, %v, want %s", got, err, a)
	}
	made := record(canonical.Novi, "n9", fields{})
	made.Entity = b
	for _, r := range []identity.Record{record(canonical.GHL, "g2", fields{"email": "b@example.org"}), record(canonical.Novi, "n2", fields{"email": "b@example.org"}), made} {
		got, err := w.Resolve(t.Context(), r)
		if err != nil || got.ID != a || got.With != "" {
			t.Errorf("%s: got %+v, %v, want %s", r.External, got, err, a)
		}
		if linked := r.External == "g2"; linked && got.By != b {
			t.Errorf("%s was found under %q, want %s", r.External, got.By, b)
		}
	}
	s := w.states[b]
	s.MergedInto = ""
	w.states[b] = s
	w.Merged(b, "")
	if got, err := w.Resolve(t.Context(), record(canonical.GHL, "g2", fields{"email": "b@example.org"})); err != nil || got.ID != b {
		t.Errorf("taken apart: got %+v, %v, want %s", got, err, b)
	}
}

// TestNeverGuessed: an address says one and a number another.
func TestNeverGuessed(t *testing.T) {
	w := setup(t)
	w.see(record(canonical.GHL, "g1", fields{"email": "ada@example.org"}))
	w.see(record(canonical.GHL, "g2", with(ada, "email", "")))
	_, err := w.Resolve(t.Context(), record(canonical.Novi, "n1", ada))
	if !errors.Is(err, identity.ErrAmbiguous) {
		t.Fatalf("got %v", err)
	}
	if strings.Contains(err.Error(), "example.org") {
		t.Errorf("it shows who it is about: %v", err)
	}
	id := w.see(record(canonical.Novi, "n3", fields{"email": "c@example.org"}))
	if got := w.see(record(canonical.Novi, "n3", ada)); got != id || w.with != "" || !errors.Is(w.doubt, identity.ErrAmbiguous) {
		t.Errorf("a record that is linked: got %s with %q, doubt %v", got, w.with, w.doubt)
	}
}

// TestAnAddressMoves: late and doubled notices of a hand-over don't make one
// person of two, and the claim goes along in the end.
func TestAnAddressMoves(t *testing.T) {
	w := setup(t)
	a := w.see(record(canonical.GHL, "g1", fields{"email": "office@example.org"}))
	b := w.see(record(canonical.GHL, "g2", fields{"email": "bruno@example.org"}))
	taken := record(canonical.GHL, "g2", fields{"email": "office@example.org"})
	left := record(canonical.GHL, "g1", fields{"email": "ada@example.org"})
	for i, r := range []identity.Record{taken, left, left, taken, taken} { // the first comes too early
		if got, want := w.see(r), map[canonical.ExternalID]canonical.CanonicalID{"g1": a, "g2": b}[r.External]; got != want {
			t.Fatalf("%d: got %s, want %s", i, got, want)
		}
	}
	if w.with != "" {
		t.Errorf("in the end with %s", w.with)
	}
	if got := w.see(record(canonical.Novi, "n1", fields{"email": "office@example.org"})); got != b {
		t.Errorf("the address leads to %s, want %s", got, b)
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

// TestMergedAwayUnderAnOldAddress: Novi merges n1 into n2, which takes its
// address, before it hears of the one that GHL has by now. Whoever is seen
// first, the two are shown to the merge.
func TestMergedAwayUnderAnOldAddress(t *testing.T) {
	was := with(ada, "phone", "")
	n2 := record(canonical.Novi, "n2", with(ada, "phone", "+12185550153"))
	gone := identity.Record{Tenant: tenant, Kind: canonical.KindContact, System: canonical.Novi, External: "n1", Absent: true}
	start := func(t *testing.T) (*world, canonical.CanonicalID) {
		w := setup(t)
		id := w.see(record(canonical.Novi, "n1", was))
		w.see(record(canonical.GHL, "g1", was))
		w.see(record(canonical.GHL, "g1", with(was, "email", "ada@new.example.org")))
		w.shows(id, canonical.Base{External: "n1", Fields: was})
		return w, id
	}
	lose := func(w *world, id canonical.CanonicalID) {
		s := w.states[id]
		s.Links = map[canonical.System][]canonical.ExternalID{canonical.GHL: {"g1"}}
		w.states[id] = s
		w.shows(id, canonical.Base{External: "n1", Fields: was, Gone: true})
	}
	t.Run("the update first", func(t *testing.T) {
		w, id := start(t)
		other := w.see(n2)
		if other == id || w.with != id {
			t.Errorf("n2: got %s with %s", other, w.with)
		}
		if got, err := w.Resolve(t.Context(), gone); err != nil || got.ID != id || got.With != other {
			t.Errorf("n1 is gone: got %+v, %v, want with %s", got, err, other)
		}
	})
	t.Run("the delete first", func(t *testing.T) {
		w, id := start(t)
		if got, err := w.Resolve(t.Context(), gone); err != nil || got.ID != id || got.With != "" {
			t.Errorf("n1 is gone: got %+v, %v", got, err)
		}
		lose(w, id)
		if got := w.see(n2); got != id {
			t.Errorf("n2: got %s, want %s", got, id)
		}
	})
	t.Run("the delete first, and the other is known", func(t *testing.T) {
		w, id := start(t)
		other := w.see(record(canonical.Novi, "n2", with(ada, "email", "", "phone", "+12185550153")))
		lose(w, id)
		if got := w.see(n2); got != other || w.with != id {
			t.Errorf("n2: got %s with %s, want %s with %s", got, w.with, other, id)
		}
	})
	t.Run("it is somebody else's now", func(t *testing.T) {
		w, id := start(t)
		lose(w, id)
		bruno := record(canonical.Novi, "n2", with(ada, "first_name", "Bruno", "phone", ""))
		if got := w.see(bruno); got == id || w.with != "" {
			t.Errorf("n2: got %s with %q", got, w.with)
		}
	})
}

// shows has an entity show a record in Novi.
func (w *world) shows(id canonical.CanonicalID, b canonical.Base) {
	s := w.states[id]
	s.Sync.Base = map[canonical.System]canonical.Base{canonical.Novi: b}
	w.states[id] = s
}
