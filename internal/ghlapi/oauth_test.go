package ghlapi_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/ghlapi"
	"github.com/causeway-sync/causeway/internal/ghlsim"
)

// installed is a simulated GHL with an app, of which somebody has chosen form
// on the page of consent, and the code that came of it.
func installed(t *testing.T, locations int, form url.Values) (app *ghlapi.App, sim *ghlsim.Server, code string) {
	t.Helper()
	conf := ghlsim.Config{App: &ghlsim.App{ClientID: "app1-x", ClientSecret: "secret", RedirectURL: "http://callback.invalid/", CompanyID: "cmp1", Lifetime: time.Hour}}
	for i := range locations {
		conf.Locations = append(conf.Locations, ghlsim.Location{ID: fmt.Sprintf("loc%03d", i)})
	}
	sim, err := ghlsim.New(conf)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(sim.Handler())
	t.Cleanup(srv.Close)
	app = &ghlapi.App{ClientID: "app1-x", BaseURL: srv.URL, AuthorizeURL: srv.URL + "/v2/oauth/chooselocation", RedirectURL: "http://callback.invalid/",
		Scopes: ghlapi.DefaultScopes(true), Secret: func(context.Context) (string, error) { return "secret", nil },
		HTTP: &http.Client{Timeout: 5 * time.Second}, Clock: clock.System{}}
	stay := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := stay.PostForm(app.ConsentURL("some state"), form)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	back, err := res.Location()
	if err != nil || back.Query().Get("state") != "some state" {
		t.Fatalf("status %d, back to %v: %v", res.StatusCode, back, err)
	}
	return app, sim, back.Query().Get("code")
}

func TestAppOfALocation(t *testing.T) {
	app, sim, code := installed(t, 2, url.Values{"location": {"loc001"}})
	first, err := app.Exchange(t.Context(), code, ghlapi.UserLocation)
	if err != nil || first.Location != "loc001" || first.Company != "cmp1" || first.Kind != "Location" || first.Lifetime != time.Hour || first.Refresh == "" {
		t.Fatalf("got a token of %q: %v", first.Location, err)
	}
	if _, err := app.Exchange(t.Context(), code, ghlapi.UserLocation); apierr.ClassOf(err) != apierr.Invalid {
		t.Errorf("a code a second time: %v", err)
	}
	second, err := app.Refresh(t.Context(), first.Refresh)
	if err != nil || second.Access == first.Access || second.Refresh == first.Refresh {
		t.Fatalf("refresh: %v", err)
	}
	if _, err := app.LocationToken(t.Context(), "cmp1", "loc001", second.Access); apierr.ClassOf(err) != apierr.Forbidden {
		t.Errorf("a location's token is no agency's: %v", err)
	}
	if _, err := app.Refresh(t.Context(), first.Refresh); apierr.ClassOf(err) != apierr.Invalid {
		t.Errorf("a refresh token a second time: %v", err)
	}
	if _, err := app.Refresh(t.Context(), second.Refresh); apierr.ClassOf(err) != apierr.Invalid || sim.Stats().RefreshReused != 1 {
		t.Errorf("the simulator lets what came of it live: %v", err)
	}
}

func TestAppOfAnAgency(t *testing.T) {
	const locations = 130 // more than a page of installed ones
	app, sim, code := installed(t, locations, url.Values{"agency": {"1"}})
	agency, err := app.Exchange(t.Context(), code, ghlapi.UserCompany)
	if err != nil || agency.Company != "cmp1" || agency.Location != "" || agency.Kind != "Company" {
		t.Fatalf("got a token of %q: %v", agency.Company, err)
	}
	list, err := app.InstalledLocations(t.Context(), "cmp1", agency.Access)
	slices.Sort(list)
	if err != nil || len(slices.Compact(list)) != locations {
		t.Errorf("got %d locations, %v", len(list), err)
	}
	for range 2 {
		if made, err := app.LocationToken(t.Context(), "cmp1", "loc007", agency.Access); err != nil || made.Location != "loc007" || made.Access == "" {
			t.Errorf("a location's token: %v", err)
		}
	}
	sim.Uninstall("loc007")
	if _, err := app.LocationToken(t.Context(), "cmp1", "loc007", agency.Access); err == nil {
		t.Error("a token of a location where it is not installed")
	}
	sim.ExpireTokens()
	if _, err := app.LocationToken(t.Context(), "cmp1", "loc008", agency.Access); apierr.ClassOf(err) != apierr.Refresh {
		t.Errorf("an agency's token that has ended: %v", err)
	}
}

// TestTokenEndpoint: what each answer says of the refresh token.
func TestTokenEndpoint(t *testing.T) {
	tests := []struct {
		name, body string
		status     int // 0: the connection is closed; -1: nobody listens
		want       apierr.Class
	}{
		{"refused for good", `{"error":"invalid_grant"}`, 400, apierr.Invalid},
		{"refused for good, in GHL's own shape", `{"statusCode":400,"message":"invalid_grant: refresh token is invalid"}`, 400, apierr.Invalid},
		{"the client is unknown", `{"error":"invalid_client"}`, 401, apierr.Forbidden},
		{"the location is paused (#249)", `{"statusCode":400,"message":"Location is not active"}`, 400, apierr.Forbidden},
		{"another 400", `{"statusCode":400,"message":"odd"}`, 400, apierr.Forbidden},
		{"a 422", `{"statusCode":422,"message":["odd"]}`, 422, apierr.Forbidden},
		{"too many calls", `{}`, 429, apierr.Wait},
		{"a time-out there", `{"error":"invalid_grant"}`, 408, apierr.Ambiguous},
		{"a failure", `{"error":"invalid_grant"}`, 500, apierr.Ambiguous},
		{"a bad gateway", `<html>`, 502, apierr.Ambiguous},
		{"a redirect", `{}`, 307, apierr.Ambiguous},
		{"no token", `{"refresh_token":"x"}`, 200, apierr.Ambiguous},
		{"half an answer", `{"access_token":"x`, 200, apierr.Ambiguous},
		{"a refusal with 200", `{"error":"invalid_grant"}`, 200, apierr.Invalid},
		{"no answer", ``, 0, apierr.Ambiguous},
		{"no connection", ``, -1, apierr.Retry},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			asked := 0
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if asked++; r.FormValue("grant_type") != "refresh_token" || r.FormValue("refresh_token") != "once" || r.FormValue("client_id") != "app1-x" || r.FormValue("client_secret") != "secret" {
					t.Errorf("asked with %v", r.Form)
				}
				if tt.status == 0 {
					panic(http.ErrAbortHandler)
				}
				w.Header().Set("Content-Type", "application/json")
				w.Header().Set("Location", "/oauth/token")
				w.WriteHeader(tt.status)
				_, _ = w.Write([]byte(tt.body))
			}))
			t.Cleanup(srv.Close)
			base := srv.URL
			if tt.status < 0 {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				base = "http://" + l.Addr().String()
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
			}
			app := &ghlapi.App{ClientID: "app1-x", BaseURL: base, Secret: func(context.Context) (string, error) { return "secret", nil },
				HTTP: &http.Client{Timeout: 5 * time.Second}, Clock: clock.System{}}
			if _, err := app.Refresh(t.Context(), "once"); apierr.ClassOf(err) != tt.want {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if want := min(1, tt.status+1); asked != max(want, 0) {
				t.Errorf("presented %d times", asked)
			}
		})
	}
	t.Run("an answer without a refresh token", func(t *testing.T) {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"access_token":"a"}`))
		}))
		t.Cleanup(srv.Close)
		app := &ghlapi.App{BaseURL: srv.URL, Secret: func(context.Context) (string, error) { return "secret", nil }, HTTP: srv.Client(), Clock: clock.System{}}
		if got, err := app.Refresh(t.Context(), "once"); err != nil || got.Refresh != "" || got.Lifetime != 86399*time.Second {
			t.Errorf("got refresh token %q for %s, %v", got.Refresh, got.Lifetime, err)
		}
	})
}
