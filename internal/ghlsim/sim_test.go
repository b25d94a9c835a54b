package ghlsim_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/causeway-sync/causeway/internal/ghlsim"
	"github.com/goccy/go-json"
	"github.com/google/go-cmp/cmp"
)

// clock is a time that stands still until a test moves it.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2026, 1, 5, 10, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// sim is a server under test, with a client that has a good token.
type sim struct {
	*ghlsim.Server
	t     *testing.T
	url   string
	clock *clock
}

const (
	good     = "pit-good"
	readOnly = "pit-read"
	expired  = "eyJ.expired"
	other    = "pit-other"
)

// setup starts a simulator with locations loc1 (no duplicates), loc2 (with)
// and no index lag, as edit changes it.
func setup(t *testing.T, edit func(*ghlsim.Config)) *sim {
	t.Helper()
	ck := newClock()
	c := ghlsim.Config{
		Locations: []ghlsim.Location{
			{ID: "loc1", Name: "One", CustomFields: []ghlsim.CustomField{
				{ID: "cf1", Name: "Member", Key: "contact.member_id", DataType: "TEXT"},
				{ID: "cf2", Name: "Score", Key: "contact.score", DataType: "NUMERICAL"},
				{ID: "cf3", Name: "Likes", Key: "contact.likes", DataType: "CHECKBOX"},
				{ID: "cf4", Name: "File", Key: "contact.file", DataType: "FILE_UPLOAD"},
			}, Users: []ghlsim.User{{ID: "u1", Name: "Uma Orr", Email: "uma@x.org"}, {ID: "u2", Name: "Vic"}}, Calendars: []string{"cal1"}},
			{ID: "loc2", Name: "Two", Country: "DE", AllowDuplicates: true, Users: []ghlsim.User{{ID: "u9"}}, Calendars: []string{"cal9"}},
		},
		Tokens: []ghlsim.Token{
			{Value: good, LocationID: "loc1", Scopes: ghlsim.AllScopes()},
			{Value: readOnly, LocationID: "loc1", Scopes: []string{"contacts.readonly"}},
			{Value: expired, LocationID: "loc1", Scopes: ghlsim.AllScopes(), ExpiresAt: ck.Now()},
			{Value: other, LocationID: "loc2", Scopes: ghlsim.AllScopes()},
		},
		Burst: 100_000, IndexLag: -1, Now: ck.Now, Seed: 1,
	}
	if edit != nil {
		edit(&c)
	}
	s, err := ghlsim.New(c)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(s.Handler())
	t.Cleanup(srv.Close)
	return &sim{Server: s, t: t, url: srv.URL, clock: ck}
}

// run delivers webhooks until the test ends.
func (s *sim) run() {
	ctx, cancel := context.WithCancel(s.t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	s.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Errorf("run: %v", err)
		}
	})
}

// answer is a reply as a client sees it.
type answer struct {
	status int
	header http.Header
	raw    []byte
	body   map[string]any
}

// send makes a request with exactly these headers.
func (s *sim) send(method, path, body string, header map[string]string) (answer, error) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	a := answer{status: resp.StatusCode, header: resp.Header}
	if a.raw, err = io.ReadAll(resp.Body); err != nil {
		s.t.Fatal(err)
	}
	if len(a.raw) > 0 {
		if err := json.Unmarshal(a.raw, &a.body); err != nil {
			s.t.Fatalf("%s %s: body %q: %v", method, path, a.raw, err)
		}
	}
	return a, nil
}

func headers(token string) map[string]string {
	return map[string]string{
		"Authorization": "Bearer " + token, "Version": "2021-07-28", "Accept": "application/json",
		"Content-Type": "application/json",
	}
}

// as makes a well-formed request with a token.
func (s *sim) as(token, method, path, body string) answer {
	s.t.Helper()
	a, err := s.send(method, path, body, headers(token))
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

// do makes a well-formed request for loc1.
func (s *sim) do(method, path, body string) answer {
	s.t.Helper()
	return s.as(good, method, path, body)
}

// create makes a contact in loc1 and returns its id; body lacks locationId.
func (s *sim) create(body string) string {
	s.t.Helper()
	return s.createAs(good, "loc1", body)
}

func (s *sim) createAs(token, location, body string) string {
	s.t.Helper()
	rest := strings.TrimPrefix(body, "{")
	if rest != "}" {
		rest = "," + rest
	}
	a := s.as(token, "POST", "/contacts/", `{"locationId":"`+location+`"`+rest)
	want(s.t, "create status", a.status, 201)
	id, _ := dig(a.body, "contact", "id").(string)
	if id == "" {
		s.t.Fatalf("create: no id in %s", a.raw)
	}
	return id
}

// contact reads a contact of loc1.
func (s *sim) contact(id string) map[string]any {
	s.t.Helper()
	a := s.do("GET", "/contacts/"+id, "")
	want(s.t, "get status", a.status, 200)
	m, _ := a.body["contact"].(map[string]any)
	return m
}

// dig follows keys through objects.
func dig(v any, keys ...string) any {
	for _, k := range keys {
		m, _ := v.(map[string]any)
		v = m[k]
	}
	return v
}

func want(t *testing.T, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// parse reads JSON for a comparison.
func parse(t *testing.T, s string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(s), &v); err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return v
}

// receiver is an application's webhook endpoint.
type receiver struct {
	url string
	got chan hook
}

type hook struct {
	raw    []byte
	header http.Header
	body   map[string]any
}

// newReceiver answers the nth delivery with the nth status, later ones with
// 200.
func newReceiver(t *testing.T, status ...int) *receiver {
	t.Helper()
	r := &receiver{got: make(chan hook, 1000)}
	var mu sync.Mutex
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		raw, err := io.ReadAll(req.Body)
		if err != nil {
			t.Errorf("read webhook: %v", err)
		}
		h := hook{raw: raw, header: req.Header.Clone()}
		if err := json.NewDecoder(bytes.NewReader(raw)).Decode(&h.body); err != nil {
			t.Errorf("webhook %q: %v", raw, err)
		}
		mu.Lock()
		if len(status) > 0 {
			w.WriteHeader(status[0])
			status = status[1:]
		}
		mu.Unlock()
		r.got <- h
	}))
	t.Cleanup(srv.Close)
	r.url = srv.URL
	return r
}

// next returns the next delivery.
func (r *receiver) next(t *testing.T) hook {
	t.Helper()
	select {
	case h := <-r.got:
		return h
	case <-time.After(10 * time.Second):
		t.Fatal("no webhook came")
		return hook{}
	}
}

// types returns the sorted-by-arrival types of the next n deliveries.
func (r *receiver) types(t *testing.T, n int) map[string]int {
	t.Helper()
	out := map[string]int{}
	for range n {
		typ, _ := r.next(t).body["type"].(string)
		out[typ]++
	}
	return out
}

// quiet waits until nothing is pending.
func (s *sim) quiet() {
	s.t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for s.PendingWebhooks() > 0 {
		select {
		case <-tick.C:
		case <-deadline:
			s.t.Fatalf("%d webhooks still pending", s.PendingWebhooks())
		}
	}
}

// testKey is a key pair that is the same in every run.
func testKey() (ed25519.PublicKey, ed25519.PrivateKey) {
	k := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	pub, _ := k.Public().(ed25519.PublicKey)
	return pub, k
}
