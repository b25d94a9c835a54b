package tokens_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/tokens"
	"github.com/causeway-sync/causeway/streams"
)

var (
	guild  = tokens.Owner{Tenant: "alpine-guild"}
	club   = tokens.Owner{Tenant: "open-club"}
	agency = tokens.Owner{Company: "cmp1"}
)

// fixed is a clock that stands until it is moved.
type fixed struct{ now time.Time }

func (f *fixed) Now() time.Time { return f.now }
func (f *fixed) After(d time.Duration) <-chan time.Time {
	f.now = f.now.Add(d)
	out := make(chan time.Time, 1)
	out <- f.now
	return out
}

func pair(n string, life time.Duration) tokens.Pair {
	return tokens.Pair{Access: "access-" + n, Refresh: "refresh-" + n, Lifetime: life, Scope: "contacts.readonly", Location: "loc1"}
}

func bucket(t *testing.T) bus.KV {
	t.Helper()
	kv, err := bustest.Start(t).Bucket(t.Context(), streams.TOKENS)
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// states returns the state of each owner's record.
func states(t *testing.T, s *tokens.Store, now time.Time) map[string]string {
	t.Helper()
	list, err := s.List(t.Context())
	must(t, err)
	out := map[string]string{}
	for _, l := range list {
		out[l.Owner.String()] = l.Grant.State(now)
		if l.Err != nil {
			out[l.Owner.String()] = l.Err.Error()
		}
	}
	return out
}

func TestAtRest(t *testing.T) {
	kv := bucket(t)
	old := tokens.NewStore(kv, ring(t, "1"))
	must(t, old.Install(t.Context(), guild, pair("1", time.Hour), start))
	must(t, old.Install(t.Context(), agency, pair("2", time.Hour), start))
	value, _, err := kv.Get(t.Context(), "ghl.tenant.alpine-guild")
	must(t, err)
	for _, never := range []string{"access-1", "refresh-1", "loc1", "contacts"} {
		if strings.Contains(string(value), never) {
			t.Errorf("the stored record shows %q", never)
		}
	}
	t.Run("another owner's", func(t *testing.T) {
		if _, err := kv.Put(t.Context(), "ghl.tenant.open-club", value); err != nil {
			t.Fatal(err)
		}
		if got := states(t, old, start)["tenant open-club"]; !strings.Contains(got, "another owner's") {
			t.Errorf("got %q", got)
		}
		must(t, kv.Delete(t.Context(), "ghl.tenant.open-club", 0))
	})
	t.Run("changed", func(t *testing.T) {
		bad := strings.Replace(string(value), `"data":"`, `"data":"AAAA`, 1)
		if _, err := kv.Put(t.Context(), "ghl.tenant.open-club", []byte(bad)); err != nil {
			t.Fatal(err)
		}
		if got := states(t, old, start)["tenant open-club"]; !strings.Contains(got, "was changed") {
			t.Errorf("got %q", got)
		}
		must(t, kv.Delete(t.Context(), "ghl.tenant.open-club", 0))
	})
	t.Run("a new key", func(t *testing.T) {
		only := tokens.NewStore(kv, ring(t, "2"))
		if got := states(t, only, start)["tenant alpine-guild"]; got != tokens.ErrNoKey.Error() {
			t.Errorf("got %q", got)
		}
		if _, err := only.RotateKey(t.Context()); !errors.Is(err, tokens.ErrNoKey) {
			t.Errorf("rotate without the old key: %v", err)
		}
		both := tokens.NewStore(kv, ring(t, "2", "1"))
		if n, err := both.RotateKey(t.Context()); n != 2 || err != nil {
			t.Fatalf("got %d, %v", n, err)
		}
		if n, err := both.RotateKey(t.Context()); n != 0 || err != nil {
			t.Errorf("again: got %d, %v", n, err)
		}
		if got := states(t, only, start); got["tenant alpine-guild"] != "good" || got["agency cmp1"] != "good" {
			t.Errorf("got %v", got)
		}
	})
	t.Run("keys that are none", func(t *testing.T) {
		for _, text := range []string{"", "short", strings.Repeat("z", 64), strings.Repeat("1", 62)} {
			if _, err := tokens.NewKeyring(text); err == nil || text != "" && strings.Contains(err.Error(), text) {
				t.Errorf("%q: got %v", text, err)
			}
		}
	})
}

func TestInstallations(t *testing.T) {
	s := tokens.NewStore(bucket(t), ring(t, "1"))
	at := func(d time.Duration) time.Time { return start.Add(d) }
	want := func(name string, want map[string]string) {
		t.Helper()
		got := states(t, s, at(0))
		for owner, state := range want {
			if got[owner] != state {
				t.Errorf("%s: %s is %q, want %q", name, owner, got[owner], state)
			}
		}
	}
	must(t, s.Install(t.Context(), guild, pair("1", time.Hour), at(0)))
	must(t, s.Uninstall(t.Context(), guild, at(-time.Minute)))
	want("an uninstall from before the installation", map[string]string{"tenant alpine-guild": "good"})
	must(t, s.Uninstall(t.Context(), guild, at(time.Minute)))
	must(t, s.Allow(t.Context(), guild, at(30*time.Second)))
	want("an install from before the uninstall", map[string]string{"tenant alpine-guild": "uninstalled"})
	must(t, s.Uninstall(t.Context(), guild, at(time.Minute)))
	must(t, s.Install(t.Context(), guild, pair("2", time.Hour), at(2*time.Minute)))
	want("installed again", map[string]string{"tenant alpine-guild": "good"})

	clk := &fixed{at(0)}
	company := tokens.New(tokens.Config{Store: s, Clock: clk, Logger: zerolog.Nop(), Owner: agency, By: "x"})
	mints := 0
	tenant := tokens.New(tokens.Config{Store: s, Clock: clk, Logger: zerolog.Nop(), Owner: club, By: "x", Agency: company, Location: "loc2",
		Mint: func(_ context.Context, c, l, access string) (tokens.Pair, error) {
			if c != "cmp1" || l != "loc2" || access != "access-9" {
				t.Errorf("made from %q of %q for %q", access, c, l)
			}
			mints++
			return tokens.Pair{Access: "made-" + access, Refresh: "not kept", Lifetime: time.Hour}, nil
		}})
	if _, err := tenant.Token(t.Context()); apierr.ClassOf(err) != apierr.Wait || !errors.Is(err, tokens.ErrNotInstalled) {
		t.Errorf("before the agency has installed: %v", err)
	}
	must(t, s.Install(t.Context(), agency, pair("9", 48*time.Hour), at(0)))
	for range 3 {
		if got, err := tenant.Token(t.Context()); got != "made-access-9" || err != nil {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	clk.now = at(50 * time.Minute)
	if _, err := tenant.Token(t.Context()); err != nil || mints != 2 {
		t.Errorf("ahead of the end: %d were made, %v", mints, err)
	}
	must(t, s.Uninstall(t.Context(), agency, at(time.Hour)))
	want("the agency has gone", map[string]string{"agency cmp1": "uninstalled", "tenant open-club": "uninstalled", "tenant alpine-guild": "good"})
	clk.now = at(61 * time.Minute)
	if _, err := tenant.Token(t.Context()); !errors.Is(err, tokens.ErrNotInstalled) {
		t.Errorf("after the agency has gone: %v", err)
	}
	must(t, s.Install(t.Context(), agency, pair("9", 48*time.Hour), at(2*time.Hour)))
	if got, err := tenant.Token(t.Context()); got != "made-access-9" || err != nil {
		t.Errorf("the agency is back: %q, %v", got, err)
	}
}

// TestRefreshes: what comes of each answer of the token endpoint.
func TestRefreshes(t *testing.T) {
	failed := func(c apierr.Class) error {
		return &apierr.Error{System: "ghl", Op: "refresh", Class: c, Message: "why"}
	}
	tests := []struct {
		name    string
		passes  time.Duration // since the installation; the token is good for 4 h
		refused bool          // GHL has refused the access token
		err     error         // of the refresh
		want    string        // token; "" for an error
		class   apierr.Class
		state   string
		calls   int
	}{
		{"good", time.Hour, false, nil, "access-1", 0, "good", 0},
		{"a quarter is left", 3*time.Hour + time.Minute, false, nil, "access-2", 0, "good", 1},
		{"a quarter is left, and the endpoint is away", 3*time.Hour + time.Minute, false, failed(apierr.Retry), "access-1", 0, "good", 1},
		{"a quarter is left, and nobody knows", 3*time.Hour + time.Minute, false, failed(apierr.Ambiguous), "access-1", 0, "in doubt", 1},
		{"a quarter is left, and it is refused", 3*time.Hour + time.Minute, false, failed(apierr.Invalid), "access-1", 0, "refused", 1},
		{"at its end", 5 * time.Hour, false, nil, "access-2", 0, "good", 1},
		{"at its end, and the endpoint is away", 5 * time.Hour, false, failed(apierr.Wait), "", apierr.Wait, "expired", 2},
		{"at its end, and nobody knows", 5 * time.Hour, false, failed(apierr.Ambiguous), "", apierr.Forbidden, "in doubt", 1},
		{"at its end, and an error of no class", 5 * time.Hour, false, errors.New("odd"), "", apierr.Forbidden, "in doubt", 1},
		{"at its end, and it is refused", 5 * time.Hour, false, failed(apierr.Invalid), "", apierr.Forbidden, "refused", 1},
		{"refused before its time", time.Hour, true, nil, "access-2", 0, "good", 1},
		{"refused before its time, and the endpoint is away", time.Hour, true, failed(apierr.Retry), "", apierr.Forbidden, "good", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, clk, calls := tokens.NewStore(bucket(t), ring(t, "1")), &fixed{start}, 0
			must(t, s.Install(t.Context(), guild, pair("1", 4*time.Hour), start))
			src := tokens.New(tokens.Config{Store: s, Clock: clk, Logger: zerolog.Nop(), Owner: guild, By: "x", Refresh: func(_ context.Context, refresh string) (tokens.Pair, error) {
				if calls++; refresh != "refresh-1" {
					t.Errorf("presented %s", refresh)
				}
				return pair("2", 4*time.Hour), tt.err
			}})
			clk.now = start.Add(tt.passes)
			var got string
			var err error
			for range 2 { // what a call has led to holds for the next one
				if tt.refused {
					got, err = src.Refused(t.Context(), "access-1")
				} else {
					got, err = src.Token(t.Context())
				}
			}
			if got != tt.want || apierr.ClassOf(err) != tt.class || calls != tt.calls {
				t.Errorf("got %q after %d calls, %v", got, calls, err)
			}
			if state := states(t, s, clk.now)["tenant alpine-guild"]; state != tt.state {
				t.Errorf("state %q, want %q", state, tt.state)
			}
			if err != nil && (strings.Contains(err.Error(), "refresh-1") || strings.Contains(err.Error(), "access-1")) {
				t.Errorf("it shows a token: %v", err)
			}
		})
	}
}

// TestRetry: a person has a token in doubt presented once more.
func TestRetry(t *testing.T) {
	s, clk := tokens.NewStore(bucket(t), ring(t, "1")), &fixed{start.Add(2 * time.Hour)}
	must(t, s.Install(t.Context(), guild, pair("1", time.Hour), start))
	if err := s.Retry(t.Context(), guild, clk.now); err == nil {
		t.Error("nothing is in doubt")
	}
	answer := error(&apierr.Error{Class: apierr.Ambiguous})
	src := tokens.New(tokens.Config{Store: s, Clock: clk, Logger: zerolog.Nop(), Owner: guild, By: "x",
		Refresh: func(context.Context, string) (tokens.Pair, error) { return pair("2", time.Hour), answer }})
	if _, err := src.Token(t.Context()); apierr.ClassOf(err) != apierr.Forbidden {
		t.Fatalf("in doubt: %v", err)
	}
	must(t, s.Retry(t.Context(), guild, clk.now))
	answer = nil
	if got, err := src.Token(t.Context()); got != "access-2" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}
