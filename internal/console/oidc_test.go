package console_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/console"
)

// provider is an identity provider that says of everybody what it is told.
type provider struct {
	*httptest.Server
	t      *testing.T
	signer jose.Signer
	says   atomic.Pointer[claims]
	asked  atomic.Pointer[url.Values] // the authorization that a browser brought
}

// claims are those of the next ID token.
type claims map[string]any

const client = "causeway-console"

func newProvider(t *testing.T) *provider {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{t: t}
	if p.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: "k1"}}, nil); err != nil {
		t.Fatal(err)
	}
	answer := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(v); err != nil {
			t.Error(err)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"issuer": p.URL, "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/keys", "id_token_signing_alg_values_supported": []string{"RS256"}})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k1", Algorithm: "RS256", Use: "sig"}}})
	})
	// Whoever comes is somebody, and is sent back with a code.
	mux.HandleFunc("GET /authorize", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		p.asked.Store(&q)
		http.Redirect(w, r, q.Get("redirect_uri")+"?"+url.Values{"code": {"c1"}, "state": {q.Get("state")}}.Encode(), http.StatusSeeOther)
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		asked := *p.asked.Load()
		sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
		if r.PostFormValue("code") != "c1" || base64.RawURLEncoding.EncodeToString(sum[:]) != asked.Get("code_challenge") {
			http.Error(w, `{"error":"invalid_grant"}`, http.StatusBadRequest)
			return
		}
		id := claims{"iss": p.URL, "aud": client, "sub": "u1", "nonce": asked.Get("nonce"), "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()}
		for k, v := range *p.says.Load() {
			id[k] = v
		}
		body, err := json.Marshal(id)
		if err != nil {
			t.Error(err)
		}
		signed, err := p.signer.Sign(body)
		if err != nil {
			t.Error(err)
			return
		}
		token, err := signed.CompactSerialize()
		if err != nil {
			t.Error(err)
		}
		answer(w, map[string]any{"access_token": "a", "token_type": "Bearer", "id_token": token})
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

// TestSignInAtAProvider: who a provider knows comes in with the role that their
// group or verified address has, and with nothing that somebody made up.
func TestSignInAtAProvider(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	var handler atomic.Pointer[http.Handler]
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*handler.Load()).ServeHTTP(w, r) }))
	t.Cleanup(front.Close)
	o, err := console.NewOIDC(t.Context(), console.OIDCConfig{Issuer: p.URL, ClientID: client, ClientSecret: "s", URL: front.URL + "/", Operators: []string{"staff", "olga@example.org"}, Viewers: []string{"board"}})
	if err != nil {
		t.Fatal(err)
	}
	s := site{t: t, conn: bustest.Start(t)}
	web := s.serve(func(x *console.Options) { x.Access = &console.Access{OIDC: o} })
	h := web.Handler()
	handler.Store(&h)
	s.url = front.URL
	tests := []struct {
		name   string
		says   claims
		status int
		want   string
	}{
		{"an operator by group", claims{"groups": []string{"x", "staff"}, "email": "kim@example.org"}, http.StatusOK, "kim@example.org, operator"},
		{"an operator by a verified address", claims{"email": "olga@example.org", "email_verified": true}, http.StatusOK, "olga@example.org, operator"},
		{"a viewer whose group is one text", claims{"groups": "board"}, http.StatusOK, "u1, viewer"},
		{"an address that is not verified", claims{"email": "olga@example.org", "email_verified": false}, http.StatusUnauthorized, "neither an operator nor a viewer"},
		{"nobody's group", claims{"groups": []string{"visitors"}}, http.StatusUnauthorized, "neither an operator nor a viewer"},
		{"another sign-in's token", claims{"groups": "staff", "nonce": "other"}, http.StatusUnauthorized, "could not be checked"},
		{"another client's token", claims{"groups": "staff", "aud": "other"}, http.StatusUnauthorized, "could not be checked"},
		{"another issuer's token", claims{"groups": "staff", "iss": "https://elsewhere.example.org"}, http.StatusUnauthorized, "could not be checked"},
		{"an old token", claims{"groups": "staff", "exp": time.Now().Add(-time.Hour).Unix()}, http.StatusUnauthorized, "could not be checked"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p.says.Store(&tt.says)
			b := browser(t)
			res, err := b.Get(s.url + "/oidc/start")
			if err != nil {
				t.Fatal(err)
			}
			if page := s.body(res, tt.status); !strings.Contains(page, tt.want) {
				t.Errorf("the page does not say %q:\n%s", tt.want, page)
			}
			if res, err = b.Get(s.url + "/audit"); err != nil {
				t.Fatal(err)
			}
			if page := s.body(res, http.StatusOK); strings.Contains(page, "Sign out") != (tt.status == http.StatusOK) {
				t.Errorf("is somebody signed in? the page is\n%s", page)
			}
		})
	}
	t.Run("an answer that nobody asked for", func(t *testing.T) {
		for _, path := range []string{"/oidc/callback?code=c1&state=x", "/oidc/callback"} {
			res, err := browser(t).Get(s.url + path)
			if err != nil {
				t.Fatal(err)
			}
			s.body(res, http.StatusUnauthorized)
		}
	})
	t.Run("a code that is brought back under another state", func(t *testing.T) {
		b := browser(t)
		b.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		res, err := b.Get(s.url + "/oidc/start")
		if err != nil {
			t.Fatal(err)
		}
		s.body(res, http.StatusSeeOther)
		if res, err = b.Get(s.url + "/oidc/callback?code=c1&state=other"); err != nil {
			t.Fatal(err)
		}
		s.body(res, http.StatusUnauthorized)
	})
	if _, err := console.NewOIDC(t.Context(), console.OIDCConfig{Issuer: p.URL, ClientID: client}); err == nil || !strings.Contains(err.Error(), "neither operators nor viewers") {
		t.Errorf("a console for nobody: %v", err)
	}
}
