package install_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/ingest/ghl"
	"github.com/causeway-sync/causeway/ingest/install"
	"github.com/causeway-sync/causeway/ingest/webhook"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/ghlapi"
	"github.com/causeway-sync/causeway/internal/ghlsim"
	"github.com/causeway-sync/causeway/internal/tokens"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/streams"
)

const clientSecret = "5ec2e7-client-0123456789"

// shared is a log that several goroutines write.
type shared struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *shared) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// setting is a simulated GHL with an app, and an installer of it.
type setting struct {
	*testing.T
	sim       *ghlsim.Server
	simURL    string
	door      *httptest.Server
	installer *install.Installer
	store     *tokens.Store
	app       *ghlapi.App
	log       shared
	answer    atomic.Pointer[http.HandlerFunc] // of the token endpoint, in GHL's place
	now       atomic.Int64                     // beside the real time
}

type shifted struct{ s *setting }

func (c shifted) Now() time.Time                         { return time.Now().Add(time.Duration(c.s.now.Load())) }
func (c shifted) After(d time.Duration) <-chan time.Time { return clock.System{}.After(d) }

func setup(t *testing.T, quirks ghlsim.Quirks) *setting {
	t.Helper()
	s := &setting{T: t}
	s.door = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.installer.ServeHTTP(w, r) }))
	t.Cleanup(s.door.Close)
	callback := s.door.URL + install.CallbackPath
	var err error
	if s.sim, err = ghlsim.New(ghlsim.Config{Quirks: quirks,
		Locations: []ghlsim.Location{{ID: "loc1", Name: "Guild"}, {ID: "loc2", Name: "Club"}, {ID: "loc3", Name: "Stranger"}},
		App:       &ghlsim.App{ClientID: "app1-x", ClientSecret: clientSecret, RedirectURL: callback, CompanyID: "cmp1"}}); err != nil {
		t.Fatal(err)
	}
	handler := s.sim.Handler()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if answer := s.answer.Load(); r.URL.Path == "/oauth/token" && answer != nil {
			(*answer)(w, r)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	s.simURL = srv.URL
	kv, err := bustest.Start(t).Bucket(t.Context(), streams.TOKENS)
	if err != nil {
		t.Fatal(err)
	}
	ring, err := tokens.NewKeyring(strings.Repeat("7", 64))
	if err != nil {
		t.Fatal(err)
	}
	s.store = tokens.NewStore(kv, ring)
	s.app = &ghlapi.App{ClientID: "app1-x", BaseURL: srv.URL, AuthorizeURL: srv.URL + "/v2/oauth/chooselocation", RedirectURL: callback, Scopes: ghlapi.DefaultScopes(true),
		Secret: func(context.Context) (string, error) { return clientSecret, nil }, HTTP: &http.Client{Timeout: 5 * time.Second}, Clock: clock.System{}}
	s.installer = install.New(install.Config{App: s.app, Store: s.store, Clock: shifted{s}, Logger: zerolog.New(&s.log),
		Locations: map[canonical.Tenant]string{"alpine-guild": "loc1", "open-club": "loc2"}, Agency: "cmp1"})
	return s
}

// browser is a person's: it keeps cookies, and follows where it is sent.
func browser() *http.Client {
	jar, _ := cookiejar.New(nil) // it never fails
	return &http.Client{Jar: jar}
}

// consent begins an installation and returns the page of consent's address.
func (s *setting) consent(b *http.Client, query string) string {
	s.Helper()
	res, err := b.Get(s.door.URL + install.StartPath + "?" + query)
	if err != nil {
		s.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK || res.Request.URL.Path != "/v2/oauth/chooselocation" {
		s.Fatalf("start: %d at %s", res.StatusCode, res.Request.URL.Path)
	}
	return res.Request.URL.String()
}

// choose chooses on the page of consent, and returns what the callback says.
func (s *setting) choose(b *http.Client, page string, form url.Values) (int, string, *url.URL) {
	s.Helper()
	res, err := b.PostForm(page, form)
	if err != nil {
		s.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		s.Fatal(err)
	}
	return res.StatusCode, string(body), res.Request.URL
}

// good reports whose tokens there are.
func (s *setting) good() map[string]string {
	s.Helper()
	list, err := s.store.List(context.Background())
	if err != nil {
		s.Fatal(err)
	}
	out := map[string]string{}
	for _, l := range list {
		out[l.Owner.String()] = l.Grant.State(time.Now())
	}
	return out
}

func TestInstall(t *testing.T) {
	for _, quirks := range []ghlsim.Quirks{{}, {DropState: true}} {
		t.Run(fmt.Sprintf("state dropped %t", quirks.DropState), func(t *testing.T) {
			s := setup(t, quirks)
			b := browser()
			status, text, at := s.choose(b, s.consent(b, "tenant=alpine-guild"), url.Values{"location": {"loc1"}})
			if status != http.StatusOK || !strings.Contains(text, "Installed for tenant alpine-guild") || s.good()["tenant alpine-guild"] != "good" {
				t.Fatalf("got %d %q, %v", status, text, s.good())
			}
			if res, err := b.Get(at.String()); err != nil || res.StatusCode != http.StatusBadRequest {
				t.Errorf("the callback a second time: %v, %v", res.Status, err)
			}
		})
	}
}

// TestRefusals: what is no installation that was begun here, by this browser,
// for this location, brings nothing.
func TestRefusals(t *testing.T) {
	s := setup(t, ghlsim.Quirks{})
	begun := func(tenant string) (*http.Client, string) {
		b := browser()
		return b, s.consent(b, "tenant="+tenant)
	}
	get := func(b *http.Client, address string) int {
		t.Helper()
		res, err := b.Get(address)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		return res.StatusCode
	}
	callback := s.door.URL + install.CallbackPath
	state := func(page string) string {
		u, err := url.Parse(page)
		if err != nil {
			t.Fatal(err)
		}
		return u.Query().Get("state")
	}
	tests := []struct {
		name string
		do   func() int
		want int
	}{
		{"a tenant that is none", func() int { return get(browser(), s.door.URL+install.StartPath+"?tenant=nobody") }, 404},
		{"another agency", func() int { return get(browser(), s.door.URL+install.StartPath+"?agency=cmp2") }, 404},
		{"another browser", func() int {
			_, page := begun("alpine-guild")
			status, _, _ := s.choose(browser(), page, url.Values{"location": {"loc1"}})
			return status
		}, 400},
		{"another installation's state", func() int {
			b, _ := begun("alpine-guild")
			_, other := begun("open-club")
			return get(b, callback+"?code=x&state="+state(other))
		}, 400},
		{"no code", func() int {
			b, page := begun("alpine-guild")
			return get(b, callback+"?error=access_denied&state="+state(page))
		}, 400},
		{"a code that is none", func() int { b, page := begun("alpine-guild"); return get(b, callback+"?code=x&state="+state(page)) }, 502},
		{"the state was used", func() int {
			b, page := begun("alpine-guild")
			to, err := url.Parse(s.door.URL)
			if err != nil {
				t.Fatal(err)
			}
			to.Path = "/oauth/ghl/callback"
			kept := b.Jar.Cookies(to)
			get(b, callback+"?code=x&state="+state(page))
			b.Jar.SetCookies(to, kept)
			return get(b, callback+"?code=x&state="+state(page))
		}, 400},
		{"the state is old", func() int {
			b, page := begun("alpine-guild")
			s.now.Add(int64(11 * time.Minute))
			return get(b, callback+"?code=x&state="+state(page))
		}, 400},
		{"a state of our own making", func() int {
			b, _ := begun("alpine-guild")
			to, err := url.Parse(callback)
			if err != nil {
				t.Fatal(err)
			}
			b.Jar.SetCookies(to, []*http.Cookie{{Name: "causeway_install", Value: "eyJrZXkiOiIifQ", Path: "/oauth/ghl/"}})
			return get(b, callback+"?code=x&state=eyJrZXkiOiIifQ")
		}, 400},
		{"another location", func() int {
			b, page := begun("alpine-guild")
			status, _, _ := s.choose(b, page, url.Values{"location": {"loc3"}})
			return status
		}, 409},
		{"the agency, where a location was asked for", func() int {
			b, page := begun("alpine-guild")
			status, _, _ := s.choose(b, page, url.Values{"agency": {"1"}})
			return status
		}, 502},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.do(); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
			if len(s.good()) != 0 {
				t.Errorf("it brought %v", s.good())
			}
		})
	}
}

func TestAgencyAndEvents(t *testing.T) {
	s := setup(t, ghlsim.Quirks{})
	b := browser()
	status, text, _ := s.choose(b, s.consent(b, "agency=cmp1"), url.Values{"agency": {"1"}})
	if status != http.StatusOK || !strings.Contains(text, "2 tenants: alpine-guild, open-club") || s.good()["agency cmp1"] != "good" {
		t.Fatalf("got %d %q, %v", status, text, s.good())
	}
	event := func(text string, want bool) {
		t.Helper()
		if taken, err := s.installer.Event(t.Context(), []byte(text)); taken != want || err != nil {
			t.Errorf("%s: taken %t, %v", text, taken, err)
		}
	}
	later := time.Now().Add(time.Minute).UTC().Format(time.RFC3339)
	event(`{"type":"ContactCreate","locationId":"loc1"}`, false)
	event(`{"type":"UNINSTALL","appId":"app2","companyId":"cmp1"}`, false)
	event(`{"type":"UNINSTALL","appId":"app1","locationId":"loc3"}`, false)
	event(`{"type":"INSTALL","appId":"app1","locationId":"loc1","companyId":"cmp1"}`, true)
	event(`{"type":"INSTALL","appId":"app1","companyId":"cmp1"}`, true)
	event(`{"type":"UNINSTALL","appId":"app1","companyId":"cmp1","timestamp":"2020-01-01T00:00:00Z"}`, true)
	if s.good()["agency cmp1"] != "good" {
		t.Error("an old event has uninstalled it")
	}
	event(`{"type":"UNINSTALL","appId":"app1","companyId":"cmp1","timestamp":"`+later+`"}`, true)
	event(`{"type":"UNINSTALL","appId":"app1","locationId":"loc1","timestamp":"`+later+`"}`, true)
	if got := s.good(); got["agency cmp1"] != "uninstalled" || got["tenant alpine-guild"] != "uninstalled" {
		t.Errorf("got %v", got)
	}
}

// TestTenantAfterInstallation: the agency has the app installed in a location
// that no tenant names. The event is left to become a dead letter, and when the
// tenant is there its token is made.
func TestTenantAfterInstallation(t *testing.T) {
	s := setup(t, ghlsim.Quirks{})
	b := browser()
	if status, text, _ := s.choose(b, s.consent(b, "agency=cmp1"), url.Values{"agency": {"1"}}); status != http.StatusOK {
		t.Fatalf("got %d %q", status, text)
	}
	event := []byte(`{"type":"INSTALL","appId":"app1","locationId":"loc3","companyId":"cmp1"}`)
	if taken, err := s.installer.Event(t.Context(), event); taken || err != nil {
		t.Errorf("the event is taken %t, %v; want it left", taken, err)
	}
	front := ghl.Source{Tenants: map[string]canonical.Tenant{"loc1": "alpine-guild"}}
	if _, err := front.Read(event); !errors.Is(err, webhook.ErrUnroutable) || !strings.Contains(err.Error(), "loc3") {
		t.Errorf("got %v, want that loc3 is no tenant's", err)
	}
	if got := s.good(); got["agency cmp1"] != "good" || len(got) != 1 {
		t.Errorf("before the tenant is there: %v", got)
	}
	// The tenant is added to the configuration.
	agency := tokens.New(tokens.Config{Store: s.store, Clock: clock.System{}, Logger: zerolog.Nop(), Owner: tokens.Owner{Company: "cmp1"}})
	source := tokens.New(tokens.Config{Store: s.store, Clock: clock.System{}, Logger: zerolog.Nop(), Owner: tokens.Owner{Tenant: "stranger"}, Agency: agency, Location: "loc3",
		Mint: func(ctx context.Context, company, location, access string) (tokens.Pair, error) {
			issued, err := s.app.LocationToken(ctx, company, location, access)
			return tokens.Pair(issued), err
		}})
	if access, err := source.Token(t.Context()); err != nil || access == "" || s.good()["tenant stranger"] != "good" {
		t.Errorf("got %v, %v", err, s.good())
	}
}

// TestNothingLeaks: whatever the token endpoint answers, neither the page nor
// the log nor the error shows the client's secret, the code, the refresh token
// or what was answered.
func TestNothingLeaks(t *testing.T) {
	s := setup(t, ghlsim.Quirks{})
	secrets := []string{clientSecret, "code-0123456789", "refresh-0123456789", "said-0123456789", "ada@example.org"}
	body := `{"error":"%s","error_description":"said-0123456789 ` + clientSecret + ` refresh-0123456789 code-0123456789 of ada@example.org","message":"said-0123456789"}`
	for _, status := range []int{200, 302, 400, 401, 403, 404, 408, 422, 429, 500, 502, 0} {
		for _, code := range []string{"invalid_grant", "invalid_client", "said-0123456789", ""} {
			answer := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if status == 0 {
					panic(http.ErrAbortHandler)
				}
				w.Header().Set("Content-Type", "application/json")
				w.Header().Set("Location", "/elsewhere?secret=said-0123456789")
				w.WriteHeader(status)
				_, _ = fmt.Fprintf(w, body, code)
			})
			s.answer.Store(&answer)
			s.now.Add(int64(time.Second)) // so that it isn't too many
			_, err := s.app.Refresh(t.Context(), "refresh-0123456789")
			b := browser()
			page := s.consent(b, "tenant=alpine-guild")
			u, parseErr := url.Parse(page)
			if parseErr != nil {
				t.Fatal(parseErr)
			}
			res, getErr := b.Get(s.door.URL + install.CallbackPath + "?code=code-0123456789&state=" + url.QueryEscape(u.Query().Get("state")))
			if getErr != nil {
				t.Fatal(getErr)
			}
			text, readErr := io.ReadAll(res.Body)
			if closeErr := res.Body.Close(); readErr != nil || closeErr != nil {
				t.Fatal(readErr, closeErr)
			}
			if err == nil || res.StatusCode != http.StatusBadGateway {
				t.Errorf("%d %q: got %v, and status %d", status, code, err, res.StatusCode)
				continue
			}
			for e := err; e != nil; e = errors.Unwrap(e) {
				text = append(text, fmt.Sprintf("%v %+v %#v", e, e, e)...)
			}
			for _, never := range secrets {
				if bytes.Contains(text, []byte(never)) || strings.Contains(s.log.String(), never) {
					t.Errorf("%d %q: it shows %q", status, code, never)
				}
			}
		}
	}
}
