package console_test

import (
	"context"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/console"
	"github.com/causeway-sync/causeway/internal/hold"
	"github.com/causeway-sync/causeway/schemas"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/streams"
)

// browser is a client that keeps cookies.
func browser(t testing.TB) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Jar: jar}
}

func (s site) post(c *http.Client, path string, form url.Values, status int) string {
	s.t.Helper()
	res, err := c.PostForm(s.url+path, form)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.body(res, status)
}

// letter publishes a sink's dead letter about a contact.
func (s site) letter(id canonical.CanonicalID) string {
	s.t.Helper()
	subject := streams.Dead("sink-novi", guild, canonical.KindContact, string(id))
	s.publish(subject, envelope.DeadLetter{Stage: "sink-novi", Tenant: guild, Kind: canonical.KindContact, ID: string(id), Class: envelope.Data, Reason: "phone: Novi refuses the value",
		At: at, Deliveries: 3, Stream: streams.CANONICAL, Sequence: 2, Subject: streams.Canonical(canonical.KindContact, guild, id, canonical.OpUpdated),
		Request: &envelope.Request{System: canonical.Novi, Operation: "update", External: "novi-ada-1", Fields: []string{"phone"}}, Answer: &envelope.Answer{Status: 422, Message: "Mobile is not valid"}})
	return subject
}

// audits returns what was audited, each checked against its schema.
func (s site) audits() []envelope.Audit {
	s.t.Helper()
	var out []envelope.Audit
	for _, m := range bustest.All(s.t, s.conn, streams.AUDIT) {
		if err := schemas.Validate("causeway.audit.v1", m.Data); err != nil {
			s.t.Error(err)
		}
		var a envelope.Audit
		if err := json.Unmarshal(m.Data, &a); err != nil {
			s.t.Fatal(err)
		}
		out = append(out, a)
	}
	return out
}

func TestDeadLetters(t *testing.T) {
	t.Parallel()
	s := setup(t)
	id := s.ada()
	subject := s.letter(id)
	s.shows("/", "failing</span>", "1 dead letter")
	s.shows("/dead?tenant=guild&stage=sink&class=data", "phone: Novi refuses the value", "Try again")
	if page := s.get("/dead?tenant=other", http.StatusOK); strings.Contains(page, "refuses") {
		t.Error("another tenant's list holds it")
	}
	s.shows("/dead/"+subject, "Mobile is not valid", "/t/guild/contacts/"+string(id), "Put it right at the system")
	s.shows("/t/guild/contacts/"+string(id), "failing</span>", "/dead/"+subject)
	c := browser(t)
	if page := s.post(c, "/dead/redrive", url.Values{"about": {subject}, "to": {"/dead"}}, http.StatusOK); !strings.Contains(page, "its entity is looked at again") {
		t.Errorf("what came of it is not shown:\n%s", page)
	}
	raw := bustest.All(t, s.conn, streams.RAW)
	if last := raw[len(raw)-1].Subject; !strings.HasSuffix(last, ".wake") {
		t.Errorf("a redrive published %s, want a wake", last)
	}
	s.post(c, "/dead/redrive-all", url.Values{"tenant": {"guild"}, "to": {"/dead"}}, http.StatusOK)
	s.post(c, "/dead/drop", url.Values{"about": {subject}, "to": {"/dead"}}, http.StatusOK)
	s.shows("/dead", "There are none")
	s.shows("/dead?dropped=1", "Not dropped after all")
	s.post(c, "/dead/undrop", url.Values{"about": {subject}, "to": {"https://elsewhere.example.org"}}, http.StatusOK)
	s.shows("/dead", "Novi refuses")
	s.post(c, "/dead/drop", url.Values{"about": {"dead.sink-novi.guild.contact.other"}}, http.StatusNotFound)
	s.post(c, "/dead/drop", url.Values{"about": {"nonsense"}}, http.StatusBadRequest)
	var done []string
	for _, a := range s.audits() {
		if a.Result != "" || a.Error != "" {
			done = append(done, a.Action)
		}
	}
	if want := []string{"redrive", "redrive-all", "drop", "undrop", "drop", "drop"}; !slices.Equal(done, want) {
		t.Errorf("audited: %v, want %v", done, want)
	}
	s.shows("/audit", "Dropped: nothing is to be done", "local", subject)
}

func TestHolds(t *testing.T) {
	t.Parallel()
	s := setup(t)
	id := s.ada()
	kv, err := s.conn.Bucket(context.Background(), streams.HOLDS)
	if err != nil {
		t.Fatal(err)
	}
	put := func(key string, v any) {
		t.Helper()
		value, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kv.Put(context.Background(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	held := func() {
		put(string(guild), map[string]any{"held": true, "since": at, "deletes": 21, "entities": 100})
		put(streams.HeldKey(guild, canonical.Novi, canonical.KindContact, id, "novi-ada-1"), hold.Delete{Tenant: guild, System: canonical.Novi, Kind: canonical.KindContact, ID: id, External: "novi-ada-1", At: at})
	}
	held()
	s.shows("/holds", "held</span>", "/holds/guild")
	s.shows("/", "held</span>")
	s.shows("/holds/guild", "Ada Keller", "novi-ada-1", "Let them all go on")
	s.shows("/t/guild/contacts/"+string(id), "its delete waits for a person")
	c := browser(t)
	if page := s.post(c, "/holds/guild/release", url.Values{"to": {"/holds"}}, http.StatusOK); !strings.Contains(page, "1 delete released") {
		t.Errorf("a release says:\n%s", page)
	}
	held()
	if page := s.post(c, "/holds/guild/release", url.Values{"to": {"/holds"}, "forget": {"1"}}, http.StatusOK); !strings.Contains(page, "1 delete forgotten") {
		t.Errorf("forgetting says:\n%s", page)
	}
	s.shows("/holds", "Nothing is held")
	s.post(c, "/holds/guild/release", nil, http.StatusConflict)
}

func TestConflicts(t *testing.T) {
	t.Parallel()
	s := setup(t)
	id := s.ada()
	s.shows("/conflicts?tenant=guild", "+12025550199", "the other is newer", string(id)+"?field=phone")
	s.get("/conflicts?hours=many", http.StatusBadRequest)
	s.shows("/conflicts?tenant=other", "There were none")
}

func TestReads(t *testing.T) {
	t.Parallel()
	s := setup(t)
	kv, err := s.conn.Bucket(context.Background(), streams.CURSORS)
	if err != nil {
		t.Fatal(err)
	}
	walk, err := json.Marshal(streams.Walk{Shown: 40, Total: 100, Rate: 10, At: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(context.Background(), streams.WalkKey(canonical.Novi, guild, canonical.KindContact), walk); err != nil {
		t.Fatal(err)
	}
	s.shows("/reads", "40 of 100", `value="40"`)
	s.ada()
	s.shows("/", "Novi is being read for the first time")
	c := browser(t)
	state := func() (r streams.Reconcile) {
		t.Helper()
		value, _, err := kv.Get(context.Background(), streams.ReconcileKey(canonical.Novi, guild))
		if err == nil {
			err = json.Unmarshal(value, &r)
		}
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	s.post(c, "/t/guild/reconcile", url.Values{"about": {"novi"}, "stop": {"1"}}, http.StatusConflict)
	s.post(c, "/t/guild/reconcile", url.Values{"about": {"novi"}, "dry": {"1"}, "to": {"/reads"}}, http.StatusOK)
	if r := state(); r.State != streams.ReconcileAsked || !r.DryRun || r.Max != 1000 {
		t.Errorf("asked for %+v", r)
	}
	s.shows("/reads", "asked", "Stop")
	s.post(c, "/t/guild/reconcile", url.Values{"about": {"novi"}}, http.StatusConflict)
	s.post(c, "/t/guild/reconcile", url.Values{"about": {"novi"}, "stop": {"1"}, "to": {"/reads"}}, http.StatusOK)
	if r := state(); r.State != streams.ReconcileStopped || !r.Stop {
		t.Errorf("after stop: %+v", r)
	}
	s.post(c, "/t/guild/reconcile", url.Values{"about": {"hubspot"}}, http.StatusBadRequest)
}

// signIn returns a console with a viewer and an operator, and their tokens.
func signIn(t *testing.T) (s site, viewer, operator string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tokens")
	viewer, viewerLine := console.NewToken(console.Person{Name: "vera", Role: console.Viewer})
	operator, operatorLine := console.NewToken(console.Person{Name: "olga", Role: console.Operator})
	if err := os.WriteFile(path, []byte("# who may come in\n\n"+viewerLine+"\n"+operatorLine+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tokens, err := console.LoadTokens(path)
	if err != nil {
		t.Fatal(err)
	}
	return setup(t, func(o *console.Options) { o.Access = &console.Access{Tokens: tokens} }), viewer, operator
}

func TestSignIn(t *testing.T) {
	t.Parallel()
	s, viewer, operator := signIn(t)
	id := s.ada()
	subject := s.letter(id)
	for _, path := range []string{"/", "/t/guild", "/dead", "/dead/" + subject, "/holds", "/conflicts", "/reads", "/audit", "/t/guild/contacts/" + string(id)} {
		if page := s.get(path, http.StatusOK); !strings.Contains(page, `name="token"`) || strings.Contains(page, "guild<") || strings.Contains(page, "Ada") {
			t.Errorf("%s is shown to somebody who has not signed in:\n%s", path, page)
		}
	}
	s.get("/events?topic=overview", http.StatusUnauthorized)
	nobody := browser(t)
	s.post(nobody, "/dead/drop", url.Values{"about": {subject}}, http.StatusUnauthorized)
	s.post(nobody, "/login", url.Values{"token": {"wrong"}}, http.StatusUnauthorized)

	see := browser(t)
	if page := s.post(see, "/login", url.Values{"token": {viewer}, "to": {"//elsewhere.example.org"}}, http.StatusOK); !strings.Contains(page, "vera, viewer") {
		t.Errorf("the viewer sees:\n%s", page)
	}
	bustest.Until(t, func() bool {
		res, err := see.Get(s.url + "/dead")
		if err != nil {
			t.Fatal(err)
		}
		page := s.body(res, http.StatusOK)
		if strings.Contains(page, "Try again") {
			t.Fatal("a viewer is offered an action")
		}
		return strings.Contains(page, "Novi refuses")
	})
	s.post(see, "/dead/drop", url.Values{"about": {subject}}, http.StatusForbidden)

	do := browser(t)
	s.post(do, "/login", url.Values{"token": {" " + operator + "\n"}, "to": {"/dead"}}, http.StatusOK)
	s.post(do, "/dead/drop", url.Values{"about": {subject}, "to": {"/dead"}}, http.StatusOK)
	var last []string
	for _, a := range s.audits() {
		last = append(last, a.Who+" "+a.Action+" "+a.Error)
	}
	want := []string{"vera sign-in ", "vera drop only an operator may", "olga sign-in ", "olga drop ", "olga drop "}
	if !slices.Equal(last, want) {
		t.Errorf("audited %q, want %q", last, want)
	}
	s.post(do, "/logout", nil, http.StatusOK)
	s.post(do, "/dead/drop", url.Values{"about": {subject}}, http.StatusUnauthorized)
}

// TestOtherSites: a page of elsewhere can't act with somebody's cookie, and one
// whose name was made to point here sees nothing.
func TestOtherSites(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for name, header := range map[string]http.Header{
		"cross-site": {"Sec-Fetch-Site": {"cross-site"}}, "another origin": {"Origin": {"https://elsewhere.example.org"}},
	} {
		req, err := http.NewRequest(http.MethodPost, s.url+"/dead/drop", strings.NewReader("about=x"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = header
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if s.body(res, http.StatusForbidden); len(s.audits()) > 0 {
			t.Errorf("%s: something was done", name)
		}
	}
	req, err := http.NewRequest(http.MethodGet, s.url+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "rebound.example.org"
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	s.body(res, http.StatusForbidden)
}

func TestTokenFile(t *testing.T) {
	t.Parallel()
	good := "viewer vera sha256:" + strings.Repeat("ab", 32)
	for name, test := range map[string]struct{ text, want string }{
		"none":       {"# nobody\n", "holds no token"},
		"no role":    {"\nking vera sha256:" + strings.Repeat("ab", 32), ":2: a line is viewer or operator"},
		"in clear":   {"viewer vera secret", ":1: the third word"},
		"two on one": {good + " " + good, ":1: a line is"},
	} {
		path := filepath.Join(t.TempDir(), "tokens")
		if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := console.LoadTokens(path); err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
}
