package ghlsim

import (
	"cmp"
	"fmt"
	"html"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// App is the marketplace app that can be installed (dossier §1.3, §1.4).
type App struct {
	ClientID     string // <app id>-<suffix>
	ClientSecret string
	// RedirectURL is the callback that is registered.
	RedirectURL string
	// CompanyID is the agency that all locations belong to. Default
	// "simcompany".
	CompanyID string
	// Lifetime of access tokens. Default 86,399 s.
	Lifetime time.Duration
}

const (
	scopeOAuthRead  = "oauth.readonly"
	scopeOAuthWrite = "oauth.write"
)

// grant is an installation's line of refresh tokens.
type grant struct {
	company, location string // location "" is the agency's
	scopes            []string
	refresh           string // the one that is good
	access            []string
	ended             bool
}

// oauth is what a Server knows of its app.
type oauth struct {
	lifetime  time.Duration
	codes     map[string]*grant
	refresh   map[string]*grant // every refresh token that ever was
	grants    []*grant
	installed map[string]bool // by location
}

// SetLifetime says how long access tokens are good for that are issued from now
// on.
func (s *Server) SetLifetime(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.oauth.lifetime = d
}

// ExpireTokens ends the access tokens that the app was issued, before their
// time. Refresh tokens stay good.
func (s *Server) ExpireTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.oauth.grants {
		s.drop(g)
	}
}

// drop forgets g's access tokens. The caller holds mu.
func (s *Server) drop(g *grant) {
	for _, a := range g.access {
		delete(s.tokens, a)
	}
	g.access = nil
}

// Uninstall removes the app from a location, or with "" from the agency and all
// its locations, as a person would: tokens end, and UNINSTALL is sent.
func (s *Server) Uninstall(locationID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.oauth.grants {
		if locationID == "" || g.location == locationID {
			s.drop(g)
			g.ended = true
		}
	}
	body := map[string]any{"type": "UNINSTALL"}
	if locationID == "" {
		clear(s.oauth.installed)
		body["companyId"] = s.conf.App.CompanyID
	} else {
		delete(s.oauth.installed, locationID)
		body["locationId"] = locationID
	}
	s.sendInstall(body)
}

// sendInstall queues an event about the app itself.
func (s *Server) sendInstall(body map[string]any) {
	body["appId"], body["versionId"], body["webhookId"] = s.conf.Webhook.AppID, s.conf.Webhook.AppID, s.rng.uuid()
	s.hooks.enqueue(body, s.faults)
}

// serveOAuth registers the app's endpoints.
func (s *Server) serveOAuth(mux *http.ServeMux) {
	if s.conf.App == nil {
		return
	}
	count := func(pattern string, h http.HandlerFunc) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			s.mu.Lock()
			s.stats.Requests[pattern]++
			s.mu.Unlock()
			h(w, r)
		})
	}
	count("GET /v2/oauth/chooselocation", s.choose)
	count("POST /v2/oauth/chooselocation", s.chosen)
	count("POST /oauth/token", s.token)
	count("POST /oauth/locationToken", s.locationToken)
	count("GET /oauth/installedLocations", s.installedLocations)
}

// asked checks what a consent page was called with.
func (s *Server) asked(w http.ResponseWriter, q url.Values) bool {
	if q.Get("response_type") != "code" || q.Get("client_id") != s.conf.App.ClientID || q.Get("redirect_uri") != s.conf.App.RedirectURL || q.Get("scope") == "" {
		http.Error(w, "response_type, client_id, redirect_uri or scope is not that of the app", http.StatusBadRequest)
		return false
	}
	return true
}

// choose is the page of consent.
func (s *Server) choose(w http.ResponseWriter, r *http.Request) {
	if !s.asked(w, r.URL.Query()) {
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = fmt.Fprintf(w, "<!DOCTYPE html><title>Choose a location</title><h1>Install the app</h1><form method=post action=\"?%s\">\n", html.EscapeString(r.URL.RawQuery))
	for _, l := range s.conf.Locations {
		_, _ = fmt.Fprintf(w, "<button name=location value=\"%s\">%s</button>\n", html.EscapeString(l.ID), html.EscapeString(cmp.Or(l.Name, l.ID)))
	}
	_, _ = io.WriteString(w, "<button name=agency value=1>the whole agency</button></form>\n")
}

// chosen installs the app, and sends the browser back with a code. INSTALL is
// on its way before that is exchanged (#294).
func (s *Server) chosen(w http.ResponseWriter, r *http.Request) {
	if !s.asked(w, r.URL.Query()) {
		return
	}
	g := &grant{company: s.conf.App.CompanyID, location: r.PostFormValue("location"), scopes: strings.Fields(r.URL.Query().Get("scope"))}
	agency := r.PostFormValue("agency") != ""
	s.mu.Lock()
	defer s.mu.Unlock()
	if !agency && s.locations[g.location] == nil {
		http.Error(w, "no such location", http.StatusBadRequest)
		return
	}
	if agency {
		g.location = ""
		s.sendInstall(map[string]any{"type": "INSTALL", "installType": "Company", "companyId": g.company, "isWhitelabelCompany": false})
	}
	for _, l := range s.conf.Locations {
		if agency || l.ID == g.location {
			s.oauth.installed[l.ID] = true
			s.sendInstall(map[string]any{"type": "INSTALL", "installType": "Location", "companyId": g.company, "locationId": l.ID, "companyName": "Simulated agency", "isWhitelabelCompany": false})
		}
	}
	code := s.rng.id() + s.rng.id()
	s.oauth.codes[code] = g
	back := url.Values{"code": {code}}
	if state := r.URL.Query().Get("state"); state != "" && !s.conf.Quirks.DropState {
		back.Set("state", state)
	}
	http.Redirect(w, r, s.conf.App.RedirectURL+"?"+back.Encode(), http.StatusFound)
}

func oauthError(w http.ResponseWriter, status int, code, description string) {
	writeJSON(w, status, map[string]any{"error": code, "error_description": description})
}

// form reads a body that must be a form (dossier §1.3).
func form(w http.ResponseWriter, r *http.Request) bool {
	if ct, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || ct != "application/x-www-form-urlencoded" {
		writeJSON(w, http.StatusUnprocessableEntity, unprocessable([]string{"the body must be a form"}).body)
		return false
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if r.ParseForm() != nil {
		oauthError(w, http.StatusBadRequest, "invalid_request", "the form can't be read")
		return false
	}
	return true
}

// token is POST /oauth/token.
func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	faults := s.faults
	s.mu.Unlock()
	if s.rng.chance(faults.API5xx) {
		rep := s.gatewayFailure()
		writeJSON(w, rep.status, rep.body)
		return
	}
	if !form(w, r) {
		return
	}
	f := r.PostForm
	if f.Get("client_id") != s.conf.App.ClientID || f.Get("client_secret") != s.conf.App.ClientSecret {
		oauthError(w, http.StatusUnauthorized, "invalid_client", "Client credentials are invalid")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var g *grant
	switch f.Get("grant_type") {
	case "authorization_code":
		g = s.oauth.codes[f.Get("code")]
		delete(s.oauth.codes, f.Get("code"))
		if g == nil || f.Get("redirect_uri") != s.conf.App.RedirectURL {
			oauthError(w, http.StatusBadRequest, "invalid_grant", "Invalid grant: authorization code is invalid")
			return
		}
		if kind := f.Get("user_type"); kind != "" && kind != g.kind() {
			oauthError(w, http.StatusBadRequest, "invalid_grant", "user_type is not what was chosen")
			return
		}
		s.oauth.grants = append(s.oauth.grants, g)
	case "refresh_token":
		token := f.Get("refresh_token")
		g = s.oauth.refresh[token]
		if g != nil && !g.ended && g.refresh != token {
			s.stats.RefreshReused++
			if !s.conf.Quirks.ReuseSpares {
				s.drop(g)
				g.ended = true
			}
		}
		if g == nil || g.ended || g.refresh != token {
			oauthError(w, http.StatusBadRequest, "invalid_grant", "Invalid grant: refresh token is invalid")
			return
		}
	default:
		oauthError(w, http.StatusBadRequest, "unsupported_grant_type", "grant_type must be authorization_code or refresh_token")
		return
	}
	s.stats.TokensIssued++
	g.refresh = "rt-" + s.rng.id() + s.rng.id()
	s.oauth.refresh[g.refresh] = g
	body := s.issue(g)
	body["refresh_token"], body["refreshTokenId"] = g.refresh, s.rng.id()
	if g.location == "" {
		body["isBulkInstallation"], body["approvedLocations"] = true, s.locationIDs()
	}
	if s.rng.chance(faults.ResetAfterCommit) {
		panic(http.ErrAbortHandler) // the answer is lost
	}
	writeJSON(w, http.StatusOK, body)
}

func (g *grant) kind() string {
	if g.location == "" {
		return "Company"
	}
	return "Location"
}

func (s *Server) locationIDs() []string {
	var out []string
	for _, l := range s.conf.Locations {
		if s.oauth.installed[l.ID] {
			out = append(out, l.ID)
		}
	}
	return out
}

// issue makes an access token for g. The ones of before stay good until they
// end. The caller holds mu.
func (s *Server) issue(g *grant) map[string]any {
	access := "eyJhbGciOiJub25lIn0." + s.rng.id() + "." + s.rng.id()
	life := s.oauth.lifetime
	t := Token{Value: access, LocationID: g.location, Scopes: g.scopes, ExpiresAt: s.conf.Now().Add(life)}
	if g.location == "" {
		t.companyID = g.company
	}
	s.tokens[access] = t
	g.access = append(g.access, access)
	body := map[string]any{"access_token": access, "token_type": "Bearer", "expires_in": int64(life / time.Second), "scope": strings.Join(g.scopes, " "),
		"userType": g.kind(), "companyId": g.company, "userId": "simuser", "planId": "simplan", "traceId": s.rng.uuid()}
	if g.location != "" {
		body["locationId"] = g.location
	}
	return body
}

// agency returns whether a request is of an agency's token with a scope, or
// answers.
func (s *Server) agency(w http.ResponseWriter, r *http.Request, scope string) bool {
	value, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	s.mu.Lock()
	tok, known := s.tokens[value]
	s.mu.Unlock()
	rep := reply{}
	switch version := r.Header.Get("Version"); {
	case !known || !tok.ExpiresAt.IsZero() && !s.conf.Now().Before(tok.ExpiresAt):
		rep = unauthorized("Invalid token: access token is invalid")
	case version == "":
		rep = unauthorized("version header was not found.")
	case !slices.Contains(versions, version):
		rep = unauthorized("version header is invalid")
	case tok.companyID == "":
		rep = unauthorized(wrongClass)
	case !slices.Contains(tok.Scopes, scope):
		rep = unauthorized("The token is not authorized for this scope.")
	default:
		return true
	}
	writeJSON(w, rep.status, rep.body)
	return false
}

const wrongClass = "This authClass type is not allowed to access this resource. Please try with a valid token type."

// locationToken is POST /oauth/locationToken.
func (s *Server) locationToken(w http.ResponseWriter, r *http.Request) {
	if !s.agency(w, r, scopeOAuthWrite) || !form(w, r) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	location := r.PostForm.Get("locationId")
	if r.PostForm.Get("companyId") != s.conf.App.CompanyID || !s.oauth.installed[location] {
		rep := failure(400, "Location not found or the app is not installed there")
		writeJSON(w, rep.status, rep.body)
		return
	}
	g := &grant{company: s.conf.App.CompanyID, location: location, scopes: AllScopes()}
	s.oauth.grants = append(s.oauth.grants, g)
	s.stats.TokensIssued++
	writeJSON(w, http.StatusOK, s.issue(g))
}

// installedLocations is GET /oauth/installedLocations.
func (s *Server) installedLocations(w http.ResponseWriter, r *http.Request) {
	if !s.agency(w, r, scopeOAuthRead) {
		return
	}
	q := r.URL.Query()
	if q.Get("companyId") != s.conf.App.CompanyID || q.Get("appId") != s.conf.Webhook.AppID {
		rep := unprocessable([]string{"companyId or appId is not that of the app"})
		writeJSON(w, rep.status, rep.body)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	skip, _ := strconv.Atoi(q.Get("skip"))
	limit, err := strconv.Atoi(q.Get("limit"))
	if err != nil {
		limit = 20
	}
	list := []any{}
	for _, l := range s.conf.Locations {
		if installed := s.oauth.installed[l.ID]; q.Get("isInstalled") == "" || q.Get("isInstalled") == strconv.FormatBool(installed) {
			list = append(list, map[string]any{"_id": l.ID, "name": l.Name, "address": "", "isInstalled": installed})
		}
	}
	n := len(list)
	list = list[min(max(skip, 0), n):]
	list = list[:min(max(limit, 0), len(list))]
	writeJSON(w, http.StatusOK, map[string]any{"locations": list, "count": n, "installToFutureLocations": false})
}
