package apply_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
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
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/sink/apply"
	"github.com/causeway-sync/causeway/sink/plan"
	"github.com/causeway-sync/causeway/streams"
	"github.com/causeway-sync/causeway/transform"
)

const tenant = "alpine-guild"

// site is a Novi in memory: first name and job title of members.
type site struct {
	mu      sync.Mutex
	members map[string]map[string]string // by id
	refs    map[string]string            // canonical id → member
	creates int
	tries   int // of creates
	updates int
	before  func(op string) error // called before each call, may fail it
	after   func(op string) error // called after a write was done
}

func newSite() *site {
	none := func(string) error { return nil }
	return &site{members: map[string]map[string]string{}, refs: map[string]string{}, before: none, after: none}
}

func (s *site) ReadsFirst(canonical.Kind) bool { return true }

func (s *site) reading(id string) apply.Reading {
	record, _ := json.Marshal(map[string]any{"UniqueID": id, "CustomerType": "Person", "FirstName": s.members[id]["first_name"], "JobTitle": s.members[id]["job_title"], "Email": s.members[id]["email"]})
	return apply.Reading{External: canonical.ExternalID(id), Endpoint: observation.NoviMemberGet, Record: record, ReadBegan: time.Now(), Modified: time.Now()}
}

func (s *site) Read(_ context.Context, ref apply.Ref) (apply.Reading, error) {
	id := ref.ID
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.before("read"); err != nil {
		return apply.Reading{}, err
	}
	if s.members[string(id)] == nil {
		return apply.Reading{}, &apierr.Error{System: "novi", Op: "get member", Class: apierr.Gone}
	}
	return s.reading(string(id)), nil
}

func (s *site) ReadToUpdate(ctx context.Context, ref apply.Ref) (apply.Reading, error) {
	return s.Read(ctx, ref)
}

func (s *site) Find(_ context.Context, e canonical.Event, _ canonical.ExternalID) (apply.Reading, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.before("find"); err != nil {
		return apply.Reading{}, false, err
	}
	id, ok := "", false
	for m, f := range s.members { // by e-mail, as Novi can be searched
		if f["email"] == e.Contact.Email {
			id, ok = m, true
		}
	}
	if !ok {
		return apply.Reading{}, false, nil
	}
	return s.reading(id), true, nil
}

func (s *site) Create(_ context.Context, e canonical.Event, _ canonical.ExternalID, p plan.Plan) ([]apply.Reading, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tries++
	if err := s.before("create"); err != nil {
		return nil, err
	}
	s.creates++
	id := fmt.Sprintf("m%d", s.creates)
	s.members[id], s.refs[string(e.Contact.ID)] = map[string]string{}, id
	for f, v := range p.Fields {
		s.members[id][f] = v
	}
	if err := s.after("create"); err != nil {
		return nil, err
	}
	return []apply.Reading{s.reading(id)}, nil
}

func (s *site) Update(_ context.Context, _ canonical.Event, _ apply.Ref, p plan.Plan, _ apply.Reading) ([]apply.Reading, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.before("update"); err != nil {
		return nil, err
	}
	s.updates++
	for f, v := range p.Fields {
		s.members[string(p.External)][f] = v
	}
	if err := s.after("update"); err != nil {
		return nil, err
	}
	return []apply.Reading{s.reading(string(p.External))}, nil
}

func (s *site) Delete(_ context.Context, ref apply.Ref) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.before("delete"); err != nil {
		return err
	}
	if s.members[string(ref.ID)] == nil {
		return &apierr.Error{System: "novi", Op: "delete member", Class: apierr.Gone}
	}
	delete(s.members, string(ref.ID))
	return s.after("delete")
}

func (s *site) look(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

type bundle struct {
	*bus.Conn
	*site
	t       *testing.T
	seen    int
	email   string
	crossed []string
}

func setup(t *testing.T) *bundle {
	t.Helper()
	b := &bundle{Conn: bustest.Start(t), site: newSite(), t: t, email: "ada@example.org"}
	bustest.Go(t, func(ctx context.Context) error {
		return transform.Run(ctx, transform.Config{Bus: b.Conn, Logger: zerolog.Nop(), Tenants: map[canonical.Tenant]transform.Policy{tenant: {Lens: mapping.Association("US")}}})
	})
	return b
}

// sink starts a controller, which notes in crossed how long changes took.
func (b *bundle) sink(seed uint64) (stop func()) {
	return bustest.Go(b.t, apply.New(apply.Config{Bus: b.Conn, Clock: clock.System{}, Rand: rand.New(rand.NewPCG(seed, 1)), Logger: zerolog.Nop(),
		System: canonical.Novi, Tenant: tenant, Lens: mapping.Association("US"), Destination: b.site, Create: mapping.ForAll,
		Crossed: func(kind canonical.Kind, took time.Duration) {
			b.look(func() { b.crossed = append(b.crossed, fmt.Sprintf("%s %t", kind, took < time.Minute)) })
		}}).Run)
}

// ghlShows publishes that GHL shows a contact.
func (b *bundle) ghlShows(first, job string) {
	b.t.Helper()
	b.seen++
	at := time.Now()
	o := observation.Observation{System: canonical.GHL, Tenant: tenant, Kind: canonical.KindContact, ExternalID: "g1", Via: observation.Fetch, Endpoint: observation.GHLContactGet,
		ReadBegan: at, Modified: at, Names: map[string]string{"cf1": "contact.job_title"},
		Record: []byte(fmt.Sprintf(`{"id":"g1","firstName":%q,"email":%q,"customFields":[{"id":"cf1","value":%q}]}`, first, b.email, job))}
	body, err := o.Encode()
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.Publish(context.Background(), bus.Message{Subject: streams.Raw(o), ID: o.Key(), Data: body}); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bundle) settled() {
	b.t.Helper()
	// Twice: what the sink writes goes through the transform again.
	for range 2 {
		bustest.Settled(b.t, b.Conn, streams.RAW, streams.Transform().Durable)
		bustest.Settled(b.t, b.Conn, streams.CANONICAL, streams.Sink(canonical.Novi, tenant).Durable)
	}
}

func (b *bundle) effects() []effect.Effect {
	b.t.Helper()
	var out []effect.Effect
	for _, m := range bustest.All(b.t, b.Conn, streams.EFFECTS) {
		var e effect.Effect
		if err := json.Unmarshal(m.Data, &e); err != nil {
			b.t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

// check waits and holds the site against what it is to show.
func (b *bundle) check(first, job string, creates int) {
	b.t.Helper()
	bustest.Until(b.t, func() bool {
		ok := false
		b.look(func() {
			for _, m := range b.members {
				ok = ok || m["first_name"] == first && m["job_title"] == job
			}
		})
		return ok
	})
	b.settled()
	b.look(func() {
		if b.creates != creates || len(b.members) != creates {
			b.t.Errorf("%d creates, %d members; want %d", b.creates, len(b.members), creates)
		}
	})
}

func broken(class apierr.Class) error {
	return &apierr.Error{System: "novi", Op: "write", Class: class, RetryAfter: time.Millisecond}
}

// once fails the first call of op.
func once(op string, err error) func(string) error {
	done := false
	return func(o string) error {
		if o == op && !done {
			done = true
			return err
		}
		return nil
	}
}

func TestIntentCallOutcomeWriteback(t *testing.T) {
	b := setup(t)
	b.sink(1)
	b.ghlShows("Ada", "Guide")
	b.check("Ada", "Guide", 1)
	e := b.effects()
	if len(e) != 2 || e[0].State != effect.Intent || !e[0].Create || e[1].State != effect.Done || e[1].External != "m1" || len(e[1].Writebacks) != 1 {
		t.Errorf("got %+v", e)
	}
	b.ghlShows("Ada", "Ranger")
	b.check("Ada", "Ranger", 1)
	if n := len(b.effects()); n != 4 {
		t.Errorf("%d effects after two writes", n)
	}
	b.look(func() {
		if want := []string{"contact true", "contact true"}; !slices.Equal(b.crossed, want) {
			t.Errorf("changes crossed: %v (kind, in under a minute), want %v", b.crossed, want)
		}
	})
}

// TestLevelTriggered: ten changes behind a destination that is away cost one
// write, with the newest values.
func TestLevelTriggered(t *testing.T) {
	b := setup(t)
	stop := b.sink(1)
	b.ghlShows("Ada", "job 0")
	b.check("Ada", "job 0", 1)
	stop()
	for i := range 10 {
		b.ghlShows("Ada", fmt.Sprintf("job %d", i+1))
	}
	bustest.Settled(t, b.Conn, streams.RAW, streams.Transform().Durable)
	b.sink(2)
	b.check("Ada", "job 10", 1)
	b.look(func() {
		if b.updates != 1 {
			t.Errorf("%d updates", b.updates)
		}
	})
}

func TestEndsOfAWrite(t *testing.T) {
	tests := []struct {
		name   string
		before func(string) error
		after  func(string) error
	}{
		{"the answer to a create is lost", nil, once("create", broken(apierr.Ambiguous))},
		{"a create never arrives", once("create", broken(apierr.Ambiguous)), nil},
		{"too many calls", once("create", broken(apierr.Wait)), nil},
		{"the site is away", once("create", broken(apierr.Retry)), nil},
		{"the look-up after a lost answer fails too", once("find", broken(apierr.Retry)), once("create", broken(apierr.Ambiguous))},
		{"the answer to an update is lost", nil, once("update", broken(apierr.Ambiguous))},
		{"the read before an update fails", once("read", broken(apierr.Retry)), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			if tt.before != nil {
				b.before = tt.before
			}
			if tt.after != nil {
				b.after = tt.after
			}
			b.sink(1)
			b.ghlShows("Ada", "Guide")
			b.check("Ada", "Guide", 1)
			b.ghlShows("Ada", "Ranger")
			b.check("Ada", "Ranger", 1)
			if dead := bustest.All(t, b.Conn, streams.DEAD); len(dead) > 0 {
				t.Errorf("a dead letter: %s", dead[0].Data)
			}
		})
	}
}

// TestKilledBetweenCreateAndItsRecord: the sink dies after the call and before
// it could say so. The next one adopts what is there.
func TestKilledBetweenCreateAndItsRecord(t *testing.T) {
	b := setup(t)
	died := make(chan struct{})
	release := make(chan struct{})
	free := sync.OnceFunc(func() { close(release) })
	t.Cleanup(func() { // before the sinks are waited for
		if t.Failed() {
			t.Logf("effects: %+v", b.effects())
		}
		free()
	})
	first := true
	b.after = func(op string) error {
		if first {
			first = false
			close(died)
			// It hangs until the other has done its work; what it then says
			// must not count.
			b.mu.Unlock()
			<-release
			b.mu.Lock()
		}
		return nil
	}
	b.sink(1)
	b.ghlShows("Ada", "Guide")
	<-died
	// A second sink is handed the same event: here by hand, since the first
	// one's connection lives.
	c := streams.Sink(canonical.Novi, tenant)
	other := apply.New(apply.Config{Bus: renamed{b.Conn}, Clock: clock.System{}, Rand: rand.New(rand.NewPCG(2, 1)), Logger: zerolog.Nop(),
		System: canonical.Novi, Tenant: tenant, Lens: mapping.Association("US"), Destination: b.site, Create: mapping.ForAll})
	c.Durable += "-2"
	if err := b.EnsureConsumer(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	bustest.Go(t, other.Run)
	t.Cleanup(free) // the first is waited for
	bustest.Until(t, func() bool {
		e := b.effects()
		return len(e) > 1 && e[len(e)-1].State == effect.Done
	})
	free()
	b.check("Ada", "Guide", 1)
	for i, e := range b.effects() {
		if e.State == effect.Intent && i > 0 && e.Create {
			t.Errorf("a second create was meant: %+v", e)
		}
	}
}

// renamed attaches to a second consumer, as if the server had handed over.
type renamed struct{ *bus.Conn }

func (r renamed) Consume(ctx context.Context, sub bus.Subscription, handle func(context.Context, *bus.Delivery)) error {
	sub.Durable += "-2"
	return r.Conn.Consume(ctx, sub, handle)
}

// TestLostCreateOfAnOlderAddress: the answer to a create is lost, and before
// it is looked up the contact gets another e-mail address.
func TestLostCreateOfAnOlderAddress(t *testing.T) {
	b := setup(t)
	b.after = once("create", broken(apierr.Ambiguous))
	b.before = func(op string) error {
		if op == "find" {
			return broken(apierr.Retry) // not yet
		}
		return nil
	}
	stop := b.sink(1)
	b.ghlShows("Ada", "Guide")
	bustest.Until(t, func() bool {
		e := b.effects()
		return len(e) > 0 && e[len(e)-1].State == effect.Ambiguous
	})
	stop()
	b.before = func(string) error { return nil }
	b.email = "ada.imhof@example.org"
	b.ghlShows("Ada", "Guide")
	bustest.Settled(t, b.Conn, streams.RAW, streams.Transform().Durable)
	b.sink(2)
	b.check("Ada", "Guide", 1)
	b.look(func() {
		if got := b.members["m1"]["email"]; got != b.email {
			t.Errorf("the address is %q", got)
		}
	})
}

func TestSomebodyChangedTheRecord(t *testing.T) {
	b := setup(t)
	b.sink(1)
	b.ghlShows("Ada", "Guide")
	b.check("Ada", "Guide", 1)
	// Someone at the site gives a first name, and nobody has told us yet.
	b.look(func() { b.members["m1"]["first_name"] = "Adele" })
	b.ghlShows("Ada", "Ranger")
	b.check("Adele", "Ranger", 1)
}

func TestRefusedForGood(t *testing.T) {
	b := setup(t)
	b.before = func(op string) error {
		if op == "create" {
			return &apierr.Error{System: "novi", Op: "create member", Status: 400, Class: apierr.Invalid, Message: "the address ada@example.org is not valid"}
		}
		return nil
	}
	b.sink(1)
	b.ghlShows("Ada", "Guide")
	// What we say that we are about to write is an event, too, and no reason to
	// try again.
	bustest.Until(t, func() bool { return len(bustest.All(t, b.Conn, streams.DEAD)) > 0 })
	b.settled()
	b.look(func() {
		if b.tries != 1 {
			t.Errorf("it was tried %d times", b.tries)
		}
	})
	m, err := b.Last(t.Context(), streams.DEAD, "dead.>")
	if err != nil {
		t.Fatal(err)
	}
	var letter envelope.DeadLetter
	if err := json.Unmarshal(m.Data, &letter); err != nil {
		t.Fatal(err)
	}
	if letter.Stage != "sink-novi" || letter.Tenant != tenant || letter.Reason == "" || strings.Contains(string(m.Data), "ada@") || strings.Contains(string(m.Data), "Guide") {
		t.Errorf("got %s", m.Data)
	}
	request, answer := letter.Request, letter.Answer
	if letter.Class != envelope.Data || request == nil || request.System != canonical.Novi || request.Operation != "create" || !slices.Contains(request.Fields, "email") {
		t.Errorf("got %s", m.Data)
	}
	if answer == nil || answer.Status != 400 || !strings.Contains(letter.Reason, "is not valid") {
		t.Errorf("got %s", m.Data)
	}
	if state, err := b.Last(t.Context(), streams.CANONICAL, "canonical.contact."+tenant+".*.*"); err != nil || letter.Sequence == 0 || letter.Sequence > state.Seq || letter.Stream != streams.CANONICAL {
		t.Errorf("it looked at %s %d, and the last is %d: %v", letter.Stream, letter.Sequence, state.Seq, err)
	}
	b.settled()
	// What comes after it goes on.
	b.look(func() { b.before = func(string) error { return nil } })
	b.ghlShows("Ada", "Ranger")
	b.check("Ada", "Ranger", 1)
}

// TestRefusedAndLeftOpen: GHL has created a contact and answered 422 all the
// same, so that it is looked for; but what is refused again and again, and is
// not there, is refused.
func TestRefusedAndLeftOpen(t *testing.T) {
	b := setup(t)
	b.before = func(op string) error {
		if op == "create" {
			return &apierr.Error{System: "novi", Op: "create member", Status: 422, Class: apierr.Ambiguous, Message: "email must be an email"}
		}
		return nil
	}
	b.sink(1)
	b.ghlShows("Ada", "Guide")
	var letter envelope.DeadLetter
	bustest.Until(t, func() bool {
		m, err := b.Last(t.Context(), streams.DEAD, "dead.>")
		return err == nil && json.Unmarshal(m.Data, &letter) == nil
	})
	if letter.Class != envelope.Data || letter.Answer == nil || letter.Answer.Status != 422 {
		t.Errorf("got %+v", letter)
	}
	b.settled()
	b.look(func() {
		if b.tries != 5 {
			t.Errorf("it was tried %d times", b.tries)
		}
	})
}

func TestGone(t *testing.T) {
	b := setup(t)
	b.sink(1)
	b.ghlShows("Ada", "Guide")
	b.check("Ada", "Guide", 1)
	b.look(func() { delete(b.members, "m1"); b.refs = map[string]string{} })
	b.ghlShows("Ada", "Ranger")
	bustest.Until(t, func() bool {
		m, err := b.Last(t.Context(), streams.CANONICAL, "canonical.contact."+tenant+".*.*")
		if err != nil {
			return false
		}
		e, err := canonical.DecodeEvent(m.Data)
		return err == nil && e.Sync.Base[canonical.Novi].Gone && len(e.Links[canonical.Novi]) == 0
	})
	b.settled()
	b.look(func() {
		if b.creates != 1 {
			t.Error("what somebody deleted was made again")
		}
	})
}
