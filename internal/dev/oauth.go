package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/causeway-sync/causeway/internal/clients"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/config"
	"github.com/causeway-sync/causeway/internal/tokens"
)

// clientID of the simulated marketplace app.
const clientID = "65f0c0a1devapp-x1"

// tokenLife is how long the app's access tokens are good for, so that some are
// refreshed while somebody looks.
const tokenLife = 12 * time.Second

const appText = `ghl_app:
  client_id: %s
  client_secret: file:secrets/ghl-client-secret
  redirect_url: %s/oauth/ghl/callback
  authorize_url: %s/v2/oauth/chooselocation
  base_url: %s
token_keys: [file:secrets/token-key]
`

// Install installs the app in the location, as a person's browser does: from
// the front door to the page of consent, and back with a code.
func (w *World) Install(ctx context.Context) error {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return fmt.Errorf("install the app: %w", err)
	}
	browser := &http.Client{Jar: jar, Timeout: time.Minute}
	visit := func(method, address string, form url.Values) (*url.URL, error) {
		req, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(form.Encode()))
		if err != nil {
			return nil, fmt.Errorf("install the app: %w", err)
		}
		if form != nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		res, err := browser.Do(req)
		if err != nil {
			return nil, errors.New("install the app: no answer") // the error would show a code
		}
		defer func() { _ = res.Body.Close() }() // it was read
		said, err := io.ReadAll(io.LimitReader(res.Body, 4096))
		if err != nil || res.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("install the app: status %d: %s", res.StatusCode, said)
		}
		return res.Request.URL, nil
	}
	consent, err := visit(http.MethodGet, w.HookURL+"/oauth/ghl/start?tenant="+Tenant, nil)
	if err != nil {
		return err
	}
	_, err = visit(http.MethodPost, consent.String(), url.Values{"location": {Location}})
	return err
}

// Grant returns what is stored of the tenant's tokens; its state and the id of
// the key that it is encrypted with are what one may look at.
func (w *World) Grant(ctx context.Context) (state, keyID string, generation int, err error) {
	store, done, err := w.tokens(ctx)
	if err != nil {
		return "", "", 0, err
	}
	defer done()
	list, err := store.List(ctx)
	for _, l := range list {
		if l.Owner.Tenant == Tenant && l.Err == nil {
			return l.Grant.State(time.Now()), l.KeyID, l.Grant.Generation, nil
		}
	}
	return "", "", 0, err
}

func (w *World) tokens(ctx context.Context) (*tokens.Store, func(), error) {
	file, err := config.Load(w.ConfigPath)
	if err != nil {
		return nil, nil, err
	}
	c, err := w.Connect(ctx)
	if err != nil {
		return nil, nil, err
	}
	store, err := clients.OpenTokens(ctx, file, c)
	if err != nil {
		c.Close()
		return nil, nil, err
	}
	return store, c.Close, nil
}

// RotateKey has the tokens encrypted with another key: it is put before the one
// in use, which the stages take up, and then every record is sealed anew.
func (w *World) RotateKey(ctx context.Context) error {
	text, err := os.ReadFile(w.ConfigPath)
	if err != nil {
		return fmt.Errorf("rotate the key: %w", err)
	}
	both := strings.Replace(string(text), "token_keys: [file:secrets/token-key]", "token_keys: [file:secrets/token-key-next, file:secrets/token-key]", 1)
	next := filepath.Join(w.Dir, "causeway.yaml.next")
	if err := errors.Join(os.WriteFile(next, []byte(both), 0o600), os.Rename(next, w.ConfigPath)); err != nil {
		return fmt.Errorf("rotate the key: %w", err)
	}
	store, done, err := w.tokens(ctx)
	if err != nil {
		return err
	}
	defer done()
	_, err = store.RotateKey(ctx)
	return err
}

// Uninstall removes the app, as a person does in GHL, and waits until that is
// known here.
func (w *World) Uninstall(ctx context.Context) error {
	w.GHL.Uninstall(Location)
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		state, _, _, err := w.Grant(ctx)
		if err != nil || state == "uninstalled" {
			return err
		}
		if err := clock.Sleep(ctx, clock.System{}, 50*time.Millisecond); err != nil {
			return fmt.Errorf("the app was uninstalled, and its tokens are still there: %w", err)
		}
	}
}

// EndOAuth goes through what is left of an app's life after a run: another key
// at rest, and the end. It says what it does.
func (w *World) EndOAuth(ctx context.Context, out io.Writer) error {
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format+"\n", args...) } // nobody may be watching
	_, before, generation, err := w.Grant(ctx)
	if err != nil {
		return err
	}
	stats := w.GHL.Stats()
	say("oauth: installed, %d access tokens issued, generation %d of the refresh token, %d uses of one after its first", stats.TokensIssued, generation, stats.RefreshReused)
	if err := w.RotateKey(ctx); err != nil {
		return err
	}
	_, after, _, err := w.Grant(ctx)
	if err != nil {
		return err
	}
	say("oauth: the tokens were encrypted with key %s, and are with key %s now", before, after)
	if err := w.Uninstall(ctx); err != nil {
		return err
	}
	say("oauth: uninstalled; the tokens are gone")
	if stats = w.GHL.Stats(); stats.RefreshReused > 0 || stats.TokensIssued < 1 || before == after {
		return errors.New("oauth: that is not how it has to be")
	}
	return nil
}
