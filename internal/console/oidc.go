package console

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/goccy/go-json"
	"golang.org/x/oauth2"
)

// OIDCConfig says how people sign in at an identity provider.
type OIDCConfig struct {
	Issuer       string
	ClientID     string
	ClientSecret string
	// URL is the console's own, as browsers reach it; the provider has to know
	// its /oidc/callback.
	URL string
	// Claim of the ID token names a person's groups: a text or a list of texts.
	// Default groups.
	Claim string
	// Operators and Viewers are groups, or verified e-mail addresses; "*" is
	// everybody.
	Operators, Viewers []string
}

// OIDC signs people in at an identity provider.
type OIDC struct {
	cfg      OIDCConfig
	oauth    oauth2.Config
	verifier *oidc.IDTokenVerifier
}

// NewOIDC asks the issuer what it is like.
func NewOIDC(ctx context.Context, cfg OIDCConfig) (*OIDC, error) {
	if cfg.Claim == "" {
		cfg.Claim = "groups"
	}
	if len(cfg.Operators)+len(cfg.Viewers) == 0 {
		return nil, fmt.Errorf("sign-in at %s: neither operators nor viewers are named", cfg.Issuer)
	}
	provider, err := oidc.NewProvider(ctx, cfg.Issuer)
	if err != nil {
		return nil, fmt.Errorf("sign-in at %s: %w", cfg.Issuer, err)
	}
	return &OIDC{cfg: cfg, verifier: provider.Verifier(&oidc.Config{ClientID: cfg.ClientID}), oauth: oauth2.Config{
		ClientID: cfg.ClientID, ClientSecret: cfg.ClientSecret, Endpoint: provider.Endpoint(),
		RedirectURL: strings.TrimSuffix(cfg.URL, "/") + "/oidc/callback", Scopes: []string{oidc.ScopeOpenID, "profile", "email"},
	}}, nil
}

// attemptCookie holds what a sign-in under way has to bring back.
const attemptCookie = "causeway_attempt"

func (c *Console) oidcStart(w http.ResponseWriter, r *http.Request) error {
	if c.o.Access == nil || c.o.Access.OIDC == nil {
		return notFound("nobody signs in so here")
	}
	state, nonce, verifier := rand.Text(), rand.Text(), oauth2.GenerateVerifier()
	c.setCookie(w, attemptCookie, strings.Join([]string{state, nonce, verifier}, "."), 10*time.Minute)
	http.Redirect(w, r, c.o.Access.OIDC.oauth.AuthCodeURL(state, oidc.Nonce(nonce), oauth2.S256ChallengeOption(verifier)), http.StatusSeeOther)
	return nil
}

func (c *Console) oidcBack(w http.ResponseWriter, r *http.Request) error {
	if c.o.Access == nil || c.o.Access.OIDC == nil {
		return notFound("nobody signs in so here")
	}
	refused := func(why string) error {
		c.logger.Warn().Str("why", why).Msg("sign-in refused")
		return c.write(w, r, http.StatusUnauthorized, "login", "Sign in", nil, c.loginPage(r, why))
	}
	x, err := r.Cookie(attemptCookie)
	if err != nil {
		return refused("That took too long, or was begun elsewhere. Try again.")
	}
	c.setCookie(w, attemptCookie, "", 0)
	parts := strings.Split(x.Value, ".")
	if len(parts) != 3 || r.FormValue("state") != parts[0] || r.FormValue("code") == "" {
		return refused("The identity provider did not let you in.")
	}
	p, err := c.o.Access.OIDC.person(r.Context(), r.FormValue("code"), parts[1], parts[2])
	if err != nil {
		c.logger.Warn().Err(err).Msg("sign-in failed")
		return refused("The identity provider's answer could not be checked.")
	}
	if p.Role == "" {
		return refused("You are known, but neither an operator nor a viewer here.")
	}
	return c.welcome(w, r, p, "/")
}

// person returns who a code is of; without a role if that is nobody here.
func (o *OIDC) person(ctx context.Context, code, nonce, verifier string) (Person, error) {
	token, err := o.oauth.Exchange(ctx, code, oauth2.VerifierOption(verifier))
	if err != nil {
		return Person{}, fmt.Errorf("exchange the code: %w", err)
	}
	raw, _ := token.Extra("id_token").(string)
	id, err := o.verifier.Verify(ctx, raw)
	if err != nil {
		return Person{}, fmt.Errorf("check the id token: %w", err)
	}
	if id.Nonce != nonce {
		return Person{}, fmt.Errorf("check the id token: it is of another sign-in")
	}
	var claims map[string]json.RawMessage
	if err := id.Claims(&claims); err != nil {
		return Person{}, fmt.Errorf("read the id token: %w", err)
	}
	var email string
	var verified bool
	_ = json.Unmarshal(claims["email"], &email) // what is of another shape says nothing
	_ = json.Unmarshal(claims["email_verified"], &verified)
	is := []string{"*"}
	if verified {
		is = append(is, email)
	}
	var groups []string
	var group string
	if json.Unmarshal(claims[o.cfg.Claim], &groups) == nil {
		is = append(is, groups...)
	} else if json.Unmarshal(claims[o.cfg.Claim], &group) == nil {
		is = append(is, group)
	}
	p := Person{Name: id.Subject}
	if email != "" {
		p.Name = email
	}
	among := func(list []string) bool {
		return slices.ContainsFunc(is, func(x string) bool { return x != "" && slices.Contains(list, x) })
	}
	switch {
	case among(o.cfg.Operators):
		p.Role = Operator
	case among(o.cfg.Viewers):
		p.Role = Viewer
	}
	return p, nil
}
