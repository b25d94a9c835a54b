package ghlapi

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/goccy/go-json"
	"golang.org/x/oauth2"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/endpoint"
)

// DefaultAuthorizeURL is the page on which a person chooses where an app is
// installed (§1.3).
const DefaultAuthorizeURL = "https://marketplace.gohighlevel.com/v2/oauth/chooselocation"

// DefaultScopes are what the sync asks for; with agency, also what is needed
// to reach locations through their agency (§1.5).
func DefaultScopes(agency bool) []string {
	scopes := []string{contactsRead, contactsWrite, locationsRead, tagsRead, tagsWrite, tasksRead, fieldsRead, usersRead, eventsRead}
	if agency {
		scopes = append(scopes, "oauth.readonly", "oauth.write")
	}
	return scopes
}

// UserType is what a token reaches (§1.3).
type UserType string

// The kinds of token.
const (
	UserCompany  UserType = "Company" // an agency's: it makes tokens for locations
	UserLocation UserType = "Location"
)

// App is a marketplace app: it installs, refreshes, and makes tokens of an
// agency's. Its errors are *apierr.Error and hold nothing of what the token
// endpoint said but its error code.
type App struct {
	ClientID string
	Secret   func(context.Context) (string, error)
	// BaseURL of the API, and AuthorizeURL of the page of consent; "" means
	// GHL's.
	BaseURL, AuthorizeURL string
	// RedirectURL is the callback, as it is registered with the app.
	RedirectURL string
	Scopes      []string
	HTTP        *http.Client
	Clock       clock.Clock
	// Budget that every call is taken from; nil means no limit.
	Budget *budget.Budget
}

// Issued is what a token endpoint answers.
type Issued struct {
	Access            string
	Refresh           string // "" if there is none
	Lifetime          time.Duration
	Scope             string
	Kind              string // a UserType
	Company, Location string
}

// AppID is the part of a client id that webhooks name (§1.3).
func AppID(clientID string) string {
	id, _, _ := strings.Cut(clientID, "-")
	return id
}

func (a *App) base() string {
	if a.BaseURL == "" {
		return DefaultBaseURL
	}
	return strings.TrimRight(a.BaseURL, "/")
}

func (a *App) config(secret string) *oauth2.Config {
	authorize := a.AuthorizeURL
	if authorize == "" {
		authorize = DefaultAuthorizeURL
	}
	return &oauth2.Config{ClientID: a.ClientID, ClientSecret: secret, RedirectURL: a.RedirectURL, Scopes: a.Scopes,
		Endpoint: oauth2.Endpoint{AuthURL: authorize, TokenURL: a.base() + exchangeCode.Path, AuthStyle: oauth2.AuthStyleInParams}}
}

// ConsentURL is where a person who installs the app is sent.
func (a *App) ConsentURL(state string) string { return a.config("").AuthCodeURL(state) }

// Exchange turns the code of a callback into tokens of the given kind.
func (a *App) Exchange(ctx context.Context, code string, kind UserType) (Issued, error) {
	return a.issue(ctx, exchangeCode.Op, func(ctx context.Context, c *oauth2.Config) (*oauth2.Token, error) {
		return c.Exchange(ctx, code, oauth2.SetAuthURLParam("user_type", string(kind)))
	})
}

// Refresh presents a refresh token, which is good for one use. The class of its
// error says what became of it: Invalid, the server refuses it for good;
// Ambiguous, nobody knows; any other, it was not used.
func (a *App) Refresh(ctx context.Context, refresh string) (Issued, error) {
	return a.issue(ctx, refreshToken.Op, func(ctx context.Context, c *oauth2.Config) (*oauth2.Token, error) {
		return c.TokenSource(ctx, &oauth2.Token{RefreshToken: refresh}).Token()
	})
}

func (a *App) issue(ctx context.Context, op string, call func(context.Context, *oauth2.Config) (*oauth2.Token, error)) (Issued, error) {
	secret, err := a.Secret(ctx)
	if err != nil {
		return Issued{}, &apierr.Error{System: "ghl", Op: op, Class: apierr.Forbidden, Message: "no client secret: " + err.Error(), Err: err}
	}
	done, err := a.acquire(ctx, op)
	if err != nil {
		return Issued{}, err
	}
	defer done()
	client := *a.HTTP
	// A redirect would be given the secrets, and may present a token twice.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	var sent atomic.Bool
	traced := httptrace.WithClientTrace(context.WithValue(ctx, oauth2.HTTPClient, &client),
		&httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { sent.Store(true) }})
	t, err := call(traced, a.config(secret))
	if err != nil {
		return Issued{}, a.failed(op, sent.Load(), err)
	}
	said := func(name string) string {
		v, _ := t.Extra(name).(string)
		return v
	}
	// Of an answer without a refresh token x/oauth2 repeats the one that was used.
	return issued(t.AccessToken, said("refresh_token"), t.ExpiresIn, said("scope"), said("userType"), said("companyId"), said("locationId")), nil
}

func issued(access, refresh string, expiresIn int64, scope, kind, company, location string) Issued {
	if expiresIn <= 0 {
		expiresIn = 86399 // what it always is as far as is known (§1.3)
	}
	return Issued{Access: access, Refresh: refresh, Lifetime: time.Duration(expiresIn) * time.Second, Scope: scope, Kind: kind, Company: company, Location: location}
}

// codes are the words of a token endpoint that are repeated (RFC 6749 §5.2);
// whatever else it says may hold a secret.
var codes = map[string]apierr.Class{
	"invalid_grant": apierr.Invalid, "invalid_client": apierr.Forbidden, "unauthorized_client": apierr.Forbidden,
	"invalid_request": apierr.Forbidden, "unsupported_grant_type": apierr.Forbidden, "invalid_scope": apierr.Forbidden,
}

// failed classes the failure of a call of the token endpoint. None of the text
// of err is kept: it holds the answer's body.
func (a *App) failed(op string, sent bool, err error) error {
	e := &apierr.Error{System: "ghl", Op: op, Class: apierr.Ambiguous, Message: "no answer that can be read"}
	var answer *oauth2.RetrieveError
	if !errors.As(err, &answer) {
		if !sent {
			e.Class, e.Message = apierr.Retry, "no connection"
		}
		return e
	}
	body := bytes.ToLower(answer.Body)
	e.Message = ""
	if answer.Response != nil {
		e.Status = answer.Response.StatusCode
	}
	class, known := codes[answer.ErrorCode]
	switch {
	case e.Status == http.StatusTooManyRequests:
		e.Class, e.RetryAfter = apierr.Wait, apierr.RetryAfter(answer.Response.Header, a.Clock.Now())
	case e.Status == http.StatusRequestTimeout, e.Status >= 500:
		e.Message = "no answer of the token endpoint's own"
	case known:
		e.Class, e.Message = class, answer.ErrorCode
	case bytes.Contains(body, []byte("not active")):
		e.Class, e.Message = apierr.Forbidden, "the location is not active" // #249: until it is again
	case e.Status == http.StatusBadRequest && bytes.Contains(body, []byte("invalid_grant")):
		e.Class, e.Message = apierr.Invalid, "invalid_grant"
	case e.Status >= 400:
		e.Class = apierr.Forbidden
	}
	return e
}

// call makes a call of the API with an agency's token.
func (a *App) call(ctx context.Context, e endpoint.Endpoint, query url.Values, access string, form url.Values) (apierr.Answer, error) {
	call := apierr.Call{System: "ghl", Op: e.Op, Method: e.Method, URL: a.base() + e.Path, Header: http.Header{
		"Version": {versionOf(e.Path)}, "Accept": {"application/json"}, "Authorization": {"Bearer " + access}}}
	if query != nil {
		call.URL += "?" + query.Encode()
	}
	if form != nil {
		call.Body = []byte(form.Encode())
		call.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	done, err := a.acquire(ctx, e.Op)
	if err != nil {
		return apierr.Answer{}, err
	}
	defer done()
	answer, err := apierr.Do(ctx, a.HTTP, call)
	if err == nil && answer.Status/100 != 2 {
		err = (&Client{cfg: Config{Clock: a.Clock}}).judge(e.Op, answer, false)
		var api *apierr.Error
		if errors.As(err, &api) {
			api.Message = "" // it may hold a token
		}
	}
	return answer, err
}

// acquire waits until a call may be made; done is to be called when it has been
// answered. Tokens are what every other call waits for, so they go first.
func (a *App) acquire(ctx context.Context, op string) (done func(), err error) {
	if a.Budget == nil {
		return func() {}, nil
	}
	permit, err := a.Budget.Acquire(ctx, budget.Live, 1)
	if err != nil {
		return nil, &apierr.Error{System: "ghl", Op: op, Class: apierr.Retry, Err: err}
	}
	return permit.Done, nil
}

// LocationToken makes a token for a location of an agency (§1.4). It may be
// called any number of times. A location where the app is not installed is an
// error of class Forbidden, Invalid or Gone.
func (a *App) LocationToken(ctx context.Context, company, location, access string) (Issued, error) {
	answer, err := a.call(ctx, makeLocationToken, nil, access, url.Values{"companyId": {company}, "locationId": {location}})
	if err != nil {
		return Issued{}, err
	}
	var t struct {
		Access    string `json:"access_token"`
		Refresh   string `json:"refresh_token"`
		ExpiresIn int64  `json:"expires_in"`
		Scope     string `json:"scope"`
		UserType  string `json:"userType"`
	}
	if json.Unmarshal(answer.Body, &t) != nil || t.Access == "" {
		return Issued{}, &apierr.Error{System: "ghl", Op: makeLocationToken.Op, Status: answer.Status, Class: apierr.Retry, Message: "the answer holds no token"}
	}
	return issued(t.Access, t.Refresh, t.ExpiresIn, t.Scope, t.UserType, company, location), nil
}

// InstalledLocations returns the ids of the agency's locations where the app is
// installed (§1.4).
func (a *App) InstalledLocations(ctx context.Context, company, access string) ([]string, error) {
	const limit = 100
	var out []string
	for {
		q := url.Values{"companyId": {company}, "appId": {AppID(a.ClientID)}, "isInstalled": {"true"}, "skip": {strconv.Itoa(len(out))}, "limit": {strconv.Itoa(limit)}}
		answer, err := a.call(ctx, installedLocations, q, access, nil)
		if err != nil {
			return nil, err
		}
		var page struct {
			Locations []struct {
				ID string `json:"_id"`
			} `json:"locations"`
		}
		if json.Unmarshal(answer.Body, &page) != nil {
			return nil, &apierr.Error{System: "ghl", Op: installedLocations.Op, Status: answer.Status, Class: apierr.Retry, Message: "the answer holds no locations"}
		}
		for _, l := range page.Locations {
			out = append(out, l.ID)
		}
		if len(page.Locations) < limit {
			return out, nil
		}
	}
}
