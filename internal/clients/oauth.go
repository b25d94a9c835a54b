package clients

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/config"
	"github.com/causeway-sync/causeway/internal/ghlapi"
	"github.com/causeway-sync/causeway/internal/tokens"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/streams"
)

// OAuth is the marketplace app, and where its tokens are.
type OAuth struct {
	App   *ghlapi.App
	Store *tokens.Store
	// Locations are those of the tenants that are reached through the app.
	Locations map[canonical.Tenant]string
	// Sources are what was made of clients' tokens.
	Sources []*tokens.Source
}

type oauth struct {
	OAuth
	by     string
	agency *tokens.Source // nil if the app has none
	logger zerolog.Logger
}

// Buckets opens key-value buckets; a [bus.Bus] does.
type Buckets interface {
	Bucket(ctx context.Context, name string) (bus.KV, error)
}

// OpenTokens returns the store of the tokens of file's app.
func OpenTokens(ctx context.Context, file *config.File, b Buckets) (*tokens.Store, error) {
	if len(file.TokenKeys) == 0 {
		return nil, errors.New("token_keys: there are none, so nothing keeps tokens")
	}
	var keys []string
	for i, ref := range file.TokenKeys {
		key, err := file.Resolve(ref)
		if err != nil {
			return nil, fmt.Errorf("token_keys[%d]: %w", i, err)
		}
		keys = append(keys, key)
	}
	ring, err := tokens.NewKeyring(keys...)
	if err != nil {
		return nil, fmt.Errorf("token_keys: %w", err)
	}
	kv, err := b.Bucket(ctx, streams.TOKENS)
	if err != nil {
		return nil, err
	}
	return tokens.NewStore(kv, ring), nil
}

// UseTokens has the clients of tenants without a private integration token take
// their tokens from the app's. Without an app it does nothing.
func (m *Maker) UseTokens(ctx context.Context, b Buckets, logger zerolog.Logger) error {
	a := m.file.GHLApp
	if a == nil {
		return nil
	}
	store, err := OpenTokens(ctx, m.file, b)
	if err != nil {
		return err
	}
	if _, err := m.file.Resolve(a.ClientSecret); err != nil {
		return fmt.Errorf("ghl_app.client_secret: %w", err)
	}
	scopes := a.Scopes
	if scopes == nil {
		scopes = ghlapi.DefaultScopes(a.Agency != "")
	}
	host, _ := os.Hostname() // it is for people; the rest tells processes apart
	o := &oauth{by: fmt.Sprintf("%s-%d-%s", host, os.Getpid(), rand.Text()[:8]), logger: logger}
	o.Store, o.Locations = store, map[canonical.Tenant]string{}
	calls, err := m.budget(canonical.GHL, config.AppBudget, config.AppLimits())
	if err != nil {
		return fmt.Errorf("ghl_app: %w", err)
	}
	o.App = &ghlapi.App{ClientID: a.ClientID, BaseURL: a.BaseURL, AuthorizeURL: a.AuthorizeURL, RedirectURL: a.RedirectURL, Scopes: scopes, Clock: m.options.Clock, Budget: calls,
		Secret: func(context.Context) (string, error) { return m.file.Resolve(a.ClientSecret) },
		HTTP:   &http.Client{Timeout: 30 * time.Second, Transport: counted{m.base, m.calls, "ghl", ""}}}
	for _, t := range m.file.Tenants {
		if t.GHL != nil && t.GHL.Token == "" {
			o.Locations[t.Name] = t.GHL.Location
		}
	}
	if a.Agency != "" {
		o.agency = tokens.New(tokens.Config{Store: store, Clock: m.options.Clock, Logger: logger, Owner: tokens.Owner{Company: a.Agency}, By: o.by, Refresh: o.refresh})
		o.Sources = append(o.Sources, o.agency)
	}
	m.oauth = o
	return nil
}

// OAuth returns the app and its tokens, or nil if there is no app.
func (m *Maker) OAuth() *OAuth {
	if m.oauth == nil {
		return nil
	}
	return &m.oauth.OAuth
}

func (o *oauth) refresh(ctx context.Context, refresh string) (tokens.Pair, error) {
	issued, err := o.App.Refresh(ctx, refresh)
	return tokens.Pair(issued), err
}

func (o *oauth) mint(ctx context.Context, company, location, access string) (tokens.Pair, error) {
	issued, err := o.App.LocationToken(ctx, company, location, access)
	return tokens.Pair(issued), err
}

// token returns where the tenant's GHL token comes from.
func (m *Maker) token(t config.Tenant) (token func(context.Context) (string, error), refused func(context.Context, string) (string, error), err error) {
	if t.GHL.Token != "" {
		p := &pair{file: m.file, refs: [2]config.Secret{t.GHL.Token, t.GHL.TokenNext}}
		if _, err := p.get(context.Background()); err != nil {
			return nil, nil, fmt.Errorf("ghl.token: %w", err)
		}
		return p.get, p.refused, nil
	}
	if m.oauth == nil {
		return nil, nil, errors.New("ghl: it has no token, and the tokens of ghl_app are not at hand")
	}
	o := m.oauth
	s := tokens.New(tokens.Config{Store: o.Store, Clock: m.options.Clock, Logger: o.logger, Owner: tokens.Owner{Tenant: t.Name}, By: o.by,
		Refresh: o.refresh, Agency: o.agency, Location: t.GHL.Location, Mint: o.mint})
	o.Sources = append(o.Sources, s)
	return s.Token, s.Refused, nil
}
