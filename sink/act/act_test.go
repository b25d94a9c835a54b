package act_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goccy/go-json"
	"github.com/rs/zerolog"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/dead"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/internal/rule"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/effect"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/sink/act"
	"github.com/causeway-sync/causeway/streams"
)

const (
	tenant = canonical.Tenant("alpine-guild")
	secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
)

// hasty is a clock on which nobody waits.
type hasty struct{}

func (hasty) Now() time.Time { return time.Now() }
func (hasty) After(d time.Duration) <-chan time.Time {
	return time.After(min(d, 10*time.Millisecond))
}

// ghl notes who is added to what, and answers with the next error of fails.
type ghl struct {
	mu    sync.Mutex
	calls []string
	fails []error
}

func (g *ghl) add(what string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls = append(g.calls, what)
	if len(g.fails) == 0 {
		return nil
	}
	err := g.fails[0]
	g.fails = g.fails[1:]
	return err
}

func (g *ghl) AddToWorkflow(_ context.Context, _ budget.Lane, contact, workflow string, _ time.Time) error {
	return g.add(contact + " to workflow " + workflow)
}

func (g *ghl) AddToCampaign(_ context.Context, _ budget.Lane, contact, campaign string) error {
	return g.add(contact + " to campaign " + campaign)
}

func (g *ghl) done() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.calls)
}

// stage is an actor on a broker.
type stage struct {
	*bus.Conn
	t   *testing.T
	ghl *ghl
	cfg act.Config
}

func newStage(t *testing.T, hooks string, do ...rule.ActionSpec) *stage {
	t.Helper()
	for i := range do {
		if do[i].Webhook != nil {
			do[i].Webhook.URL = hooks
		}
	}
	set, err := rule.Compile([]rule.Definition{{Name: "welcome", When: "true", Do: do}}, mapping.Association("US"))
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{Conn: bustest.Start(t), t: t, ghl: &ghl{}}
	s.cfg = act.Config{Bus: s, Clock: hasty{}, Logger: zerolog.Nop(), Tenant: tenant, Rules: set, GHL: s.ghl, HTTP: http.DefaultClient,
		Secret: func(ref string) (string, error) {
			if ref != "env:SECRET" {
				return "", errors.New("secret " + ref + " is empty")
			}
			return secret, nil
		}}
	return s
}

func (s *stage) run() (stop func()) { return bustest.Go(s.t, act.New(s.cfg).Run) }

// contact publishes a version of ada, with a record in GHL if one is named; led
// says that the rule has fired for it.
func (s *stage) contact(version uint64, record canonical.ExternalID, led bool) {
	s.t.Helper()
	e := canonical.NewEvent(canonical.KindContact, ada)
	e.Version, e.Contact.FirstName, e.Contact.Email = version, "Ada", "ada@example.org"
	e.Changes = []canonical.Change{{Field: "first_name", To: "Ada", Origin: canonical.Novi}}
	if record != "" {
		e.Sync.Base = map[canonical.System]canonical.Base{canonical.GHL: {External: record}}
		e.Links = map[canonical.System][]canonical.ExternalID{canonical.GHL: {record}}
	}
	if led {
		e.Cause = canonical.Cause{Stream: streams.RAW, Sequence: version, Via: string(observation.FromRule), System: canonical.Rule, Firing: &canonical.Firing{Rule: "welcome",
			Key: "welcome-" + string(ada) + "-1", Kind: canonical.KindContact, Entity: ada, Version: 1, Sequence: 1, Chain: []string{"welcome"}, Outside: true}}
	}
	data, err := json.Marshal(e)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.Publish(s.t.Context(), bus.Message{Subject: streams.Canonical(canonical.KindContact, tenant, ada, canonical.OpObserved), Data: data}); err != nil {
		s.t.Fatal(err)
	}
}

var ada = canonical.NewID(tenant, canonical.KindContact, canonical.GHL, "g1")

func (s *stage) letters() []dead.Letter {
	s.t.Helper()
	found, err := dead.Find(s.t.Context(), s, dead.Filter{})
	if err != nil {
		s.t.Fatal(err)
	}
	return found
}

func (s *stage) settled() {
	s.t.Helper()
	bustest.Settled(s.t, s.Conn, streams.CANONICAL, streams.Actions(tenant).Durable)
}

func (s *stage) did(want ...string) {
	s.t.Helper()
	if got := s.ghl.done(); !slices.Equal(got, want) {
		s.t.Errorf("got %v, want %v", got, want)
	}
}

// TestOnce: what is done is not done again, by whoever, however often the
// firing is told.
func TestOnce(t *testing.T) {
	t.Parallel()
	s := newStage(t, "", rule.ActionSpec{Workflow: "w1"}, rule.ActionSpec{Campaign: "c1"})
	s.contact(1, "g1", false)
	stop := s.run()
	s.contact(2, "g1", true)
	s.settled()
	s.contact(3, "g1", true)
	s.settled()
	stop()
	if err := s.JetStream().DeleteConsumer(t.Context(), streams.CANONICAL, streams.Actions(tenant).Durable); err != nil {
		t.Fatal(err)
	}
	s.run() // from the beginning
	s.settled()
	s.did("g1 to workflow w1", "g1 to campaign c1")
	if l := s.letters(); len(l) > 0 {
		t.Errorf("letters: %+v", l)
	}
}

// TestItWaitsForTheContact: a contact that is being made in GHL is added when it
// is there.
func TestItWaitsForTheContact(t *testing.T) {
	t.Parallel()
	s := newStage(t, "", rule.ActionSpec{Workflow: "w1"})
	s.run()
	s.contact(1, "", false)
	s.contact(2, "", true)
	s.contact(3, "g1", false)
	bustest.Until(t, func() bool { return len(s.ghl.done()) > 0 })
	s.settled()
	s.did("g1 to workflow w1")
}

func TestWhatGHLAnswers(t *testing.T) {
	t.Parallel()
	failure := func(c apierr.Class, status int) error {
		return &apierr.Error{System: "ghl", Op: "add to workflow", Status: status, Class: c}
	}
	tests := []struct {
		name   string
		fails  []error
		calls  int
		letter string // its reason has it
		class  envelope.Class
		redone bool // once redriven, it is done
	}{
		{"later", []error{failure(apierr.Wait, 429)}, 2, "", "", false},
		{"nobody knows", []error{failure(apierr.Ambiguous, 502)}, 1, "nobody knows", envelope.Outage, true},
		{"there is no such workflow", []error{failure(apierr.Invalid, 400)}, 1, "status 400", envelope.Mapping, true},
		{"it may not", []error{failure(apierr.Forbidden, 403)}, 1, "status 403", envelope.Credentials, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newStage(t, "", rule.ActionSpec{Workflow: "w1"})
			s.ghl.fails = tt.fails
			s.run()
			s.contact(1, "g1", false)
			s.contact(2, "g1", true)
			bustest.Until(t, func() bool { return len(s.ghl.done()) == tt.calls })
			s.settled()
			letters := s.letters()
			if tt.letter == "" {
				if len(letters) > 0 {
					t.Errorf("letters: %+v", letters)
				}
				return
			}
			if len(letters) != 1 || !strings.Contains(letters[0].Reason, tt.letter) || letters[0].Class != tt.class || letters[0].Stage != act.Stage {
				t.Fatalf("letters: %+v", letters)
			}
			s.contact(3, "g1", true) // told again: still not
			s.settled()
			if n := len(s.ghl.done()); n != tt.calls {
				t.Errorf("%d calls", n)
			}
			if said, err := dead.Redrive(t.Context(), s, s.letters()[0], time.Now()); err != nil || !strings.Contains(said, "published again") {
				t.Fatal(said, err)
			}
			raw := bustest.All(t, s.Conn, streams.RAW)
			o, err := observation.Decode(raw[len(raw)-1].Data)
			if err != nil || o.Firing == nil || o.Entity != ada || o.Via != observation.FromRule {
				t.Fatalf("%+v %v", o, err)
			}
			s.contact(4, "g1", true) // as the transform makes it of that
			s.settled()
			if n := len(s.ghl.done()); n != tt.calls+1 {
				t.Errorf("%d calls after the redrive", n)
			}
			if n, err := dead.Sweep(t.Context(), s); err != nil || n != 1 || len(s.letters()) > 0 {
				t.Errorf("the letter stays: %d %v", n, err)
			}
		})
	}
}

// TestAfterACrash: an intent without an end is not tried again.
func TestAfterACrash(t *testing.T) {
	t.Parallel()
	s := newStage(t, "", rule.ActionSpec{Workflow: "w1"})
	key := "welcome-" + string(ada) + "-1-1"
	data, err := json.Marshal(effect.Effect{System: canonical.GHL, Tenant: tenant, Kind: "rule", ID: ada, Action: key, State: effect.Intent, Version: 1, Attempt: 1, At: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Publish(t.Context(), bus.Message{Subject: streams.FiringEffect(canonical.GHL, tenant, ada, key), Data: data}); err != nil {
		t.Fatal(err)
	}
	s.run()
	s.contact(1, "g1", false)
	s.contact(2, "g1", true)
	s.settled()
	s.did()
	if l := s.letters(); len(l) != 1 || l[0].ID != key {
		t.Errorf("letters: %+v", l)
	}
}

// TestWebhook: signed so that any Standard Webhooks library takes it, tried
// again with the same id until it is taken, and then no more.
func TestWebhook(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var ids, bodies []string
	answers := []int{500, 302, 200}
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		body, err := io.ReadAll(r.Body)
		wh, errSecret := standardwebhooks.NewWebhook(secret)
		if err := errors.Join(err, errSecret); err != nil {
			t.Error(err)
			return
		}
		if err := wh.Verify(body, r.Header); err != nil {
			t.Error(err)
		}
		if at, err := strconv.ParseInt(r.Header.Get("webhook-timestamp"), 10, 64); err != nil || time.Since(time.Unix(at, 0)) > time.Minute {
			t.Errorf("its time is %q", r.Header.Get("webhook-timestamp"))
		}
		ids, bodies = append(ids, r.Header.Get("webhook-id")), append(bodies, string(body))
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(answers[min(len(ids), len(answers))-1])
	}))
	defer receiver.Close()
	s := newStage(t, receiver.URL+"/hook?token=opensesame", rule.ActionSpec{Webhook: &rule.WebhookSpec{Secret: "env:SECRET"}})
	s.cfg.HTTP = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	s.run()
	s.contact(1, "g1", false)
	s.contact(2, "g1", true)
	for n := 1; n < 3; n++ { // what waits is told once more, and so does not wait
		bustest.Until(t, func() bool { mu.Lock(); defer mu.Unlock(); return len(ids) >= n })
		s.contact(uint64(n+2), "g1", true)
	}
	bustest.Until(t, func() bool {
		m, err := s.Last(t.Context(), streams.EFFECTS, streams.FiringEffects(tenant, "welcome-"+string(ada)+"-1-1"))
		return err == nil && strings.Contains(string(m.Data), `"state":"done"`)
	})
	s.contact(9, "g1", true)
	s.settled()
	mu.Lock()
	defer mu.Unlock()
	if key := "welcome-" + string(ada) + "-1-1"; len(ids) != 3 || ids[0] != key || ids[1] != key || ids[2] != key {
		t.Errorf("the ids are %v", ids)
	}
	var call act.Call
	if err := json.Unmarshal([]byte(bodies[0]), &call); err != nil || call.Type != act.CallType || call.Data.Rule != "welcome" || call.Data.Contact == nil || call.Data.Contact.FirstName != "Ada" ||
		call.Data.Version != 1 || len(call.Data.Changes) != 1 || strings.Contains(bodies[0], `"sync"`) {
		t.Errorf("got %v %s", err, bodies[0])
	}
	for _, m := range bustest.All(t, s.Conn, streams.EFFECTS) {
		if strings.Contains(string(m.Data), "opensesame") || strings.Contains(string(m.Data), "Ada") {
			t.Errorf("EFFECTS holds what it must not: %s", m.Data)
		}
	}
}

// TestWebhookThatNobodyWants: 410 is the end.
func TestWebhookThatNobodyWants(t *testing.T) {
	t.Parallel()
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) }))
	defer receiver.Close()
	s := newStage(t, receiver.URL, rule.ActionSpec{Webhook: &rule.WebhookSpec{Secret: "env:SECRET"}})
	s.run()
	s.contact(1, "g1", false)
	s.contact(2, "g1", true)
	s.settled()
	if l := s.letters(); len(l) != 1 || !strings.Contains(l[0].Reason, "410") {
		t.Errorf("letters: %+v", l)
	}
}
