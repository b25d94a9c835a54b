// Package install is where the marketplace app is installed: it sends a person
// to GHL's page of consent, and takes the code that comes back. It also hears
// of the app being installed and uninstalled in GHL.
//
// Which tenant a location is, the configuration says: a tenant has a Novi site
// and a mapping, so none comes to be by an installation. What an installation
// brings, and an uninstallation takes away, are the tenant's credentials.
//
// A state goes along and comes back, sealed, bound to the tenant, good for ten
// minutes and for one use. GHL is not known to keep it (dossier GHL §1.3), so
// it also waits in a cookie, without which nothing is taken: who ends an
// installation is the browser that has begun it. And the tokens that come have
// to be of the tenant's own location.
package install

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-json"
	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/ghlapi"
	"github.com/causeway-sync/causeway/internal/tokens"
	"github.com/causeway-sync/causeway/schemas/canonical"
)

// The routes: the beginning, with ?tenant=SLUG or ?agency=ID, and the callback
// that is registered with the app.
const (
	StartPath    = "/oauth/ghl/start"
	CallbackPath = "/oauth/ghl/callback"
)

// Config is what an Installer needs.
type Config struct {
	App    *ghlapi.App
	Store  *tokens.Store
	Clock  clock.Clock
	Logger zerolog.Logger
	// Locations are those of the tenants that have no private integration
	// token, by tenant.
	Locations map[canonical.Tenant]string
	// Agency is the id of the agency that may install the app for all its
	// locations; "" means none.
	Agency string
}

// Installer takes installations.
type Installer struct {
	cfg    Config
	mux    *http.ServeMux
	starts *rate.Limiter
}

// New returns an Installer.
func New(cfg Config) *Installer {
	i := &Installer{cfg: cfg, mux: http.NewServeMux(), starts: rate.NewLimiter(10, 50)}
	i.mux.HandleFunc("GET "+StartPath, i.start)
	i.mux.HandleFunc("GET "+CallbackPath, i.callback)
	return i
}

// ServeHTTP answers StartPath and CallbackPath.
func (i *Installer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !i.starts.AllowN(i.cfg.Clock.Now(), 1) {
		w.Header().Set("Retry-After", "1")
		page(w, http.StatusTooManyRequests, "Too many installations at once. Try again in a moment.")
		return
	}
	i.mux.ServeHTTP(w, r)
}

// page answers with a sentence for a person.
func page(w http.ResponseWriter, status int, text string) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer") // the address holds a code
	h.Set("Content-Security-Policy", "default-src 'none'")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, "<!DOCTYPE html><title>Causeway</title><p>"+html.EscapeString(text)+"</p>\n") // the person has gone
}

const cookieName = "causeway_install"

func (i *Installer) cookie(value string, life time.Duration) *http.Cookie {
	return &http.Cookie{Name: cookieName, Value: value, Path: "/oauth/ghl/", MaxAge: int(life / time.Second), HttpOnly: true,
		Secure: strings.HasPrefix(i.cfg.App.RedirectURL, "https:"), SameSite: http.SameSiteLaxMode}
}

func (i *Installer) start(w http.ResponseWriter, r *http.Request) {
	tenant := canonical.Tenant(r.URL.Query().Get("tenant"))
	o := tokens.Owner{Tenant: tenant}
	if agency := r.URL.Query().Get("agency"); tenant == "" && agency != "" && agency == i.cfg.Agency {
		o = tokens.Owner{Company: agency}
	} else if i.cfg.Locations[tenant] == "" {
		page(w, http.StatusNotFound, "There is no such tenant that is installed this way.")
		return
	}
	state, err := i.cfg.Store.NewState(o, i.cfg.Clock.Now())
	if err != nil {
		i.cfg.Logger.Error().Err(err).Msg("an installation can't be begun")
		page(w, http.StatusInternalServerError, "The installation can't be begun. Try again later.")
		return
	}
	http.SetCookie(w, i.cookie(state, 10*time.Minute))
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, i.cfg.App.ConsentURL(state), http.StatusFound)
}

func (i *Installer) callback(w http.ResponseWriter, r *http.Request) {
	status, text := i.install(r)
	http.SetCookie(w, i.cookie("", -time.Second))
	page(w, status, text)
}

func (i *Installer) install(r *http.Request) (status int, text string) {
	const begin = " Begin again at " + StartPath + "."
	q := r.URL.Query()
	cookie, err := r.Cookie(cookieName)
	if err != nil || cookie.Value == "" {
		return http.StatusBadRequest, "This browser has begun no installation." + begin
	}
	if state := q.Get("state"); state != "" && state != cookie.Value {
		return http.StatusBadRequest, "This is not the installation that this browser has begun." + begin
	}
	// From here on nobody's leaving ends it: a code is good for one use.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), time.Minute)
	defer cancel()
	o, err := i.cfg.Store.UseState(ctx, cookie.Value, i.cfg.Clock.Now())
	if errors.Is(err, tokens.ErrState) {
		return http.StatusBadRequest, "This installation has expired, or has ended already." + begin
	}
	log := i.cfg.Logger.With().Stringer("owner", o).Logger()
	if err != nil {
		log.Error().Err(err).Msg("an installation can't be taken")
		return http.StatusServiceUnavailable, "The installation can't be taken now." + begin
	}
	if q.Get("code") == "" {
		log.Warn().Msg("an installation came back without a code")
		return http.StatusBadRequest, "The app was not installed." + begin
	}
	kind, want := ghlapi.UserLocation, i.cfg.Locations[o.Tenant]
	if o.Company != "" {
		kind, want = ghlapi.UserCompany, o.Company
	}
	issued, err := i.cfg.App.Exchange(ctx, q.Get("code"), kind)
	if err != nil {
		log.Error().Err(err).Msg("the code of an installation can't be exchanged")
		return http.StatusBadGateway, "GoHighLevel has not given any tokens." + begin
	}
	got := issued.Location
	if o.Company != "" {
		got = issued.Company
	}
	if got != want || issued.Kind != "" && issued.Kind != string(kind) {
		log.Error().Str("got", got).Str("want", want).Str("kind", issued.Kind).Msg("the app was installed elsewhere; the tokens are not kept")
		return http.StatusConflict, fmt.Sprintf("The app was installed in %q, but %s is %q. Nothing is kept.", got, o, want) + begin
	}
	if err := i.cfg.Store.Install(ctx, o, tokens.Pair(issued), i.cfg.Clock.Now()); err != nil {
		log.Error().Err(err).Msg("the tokens of an installation can't be stored")
		return http.StatusServiceUnavailable, "The tokens can't be stored now." + begin
	}
	log.Info().Msg("the app is installed")
	text = "Installed for " + o.String() + "."
	if o.Company != "" {
		text += i.reached(ctx, o.Company, issued.Access)
	}
	return http.StatusOK, text
}

// reached says which tenants' locations an agency's installation reaches.
func (i *Installer) reached(ctx context.Context, company, access string) string {
	installed, err := i.cfg.App.InstalledLocations(ctx, company, access)
	if err != nil {
		i.cfg.Logger.Warn().Err(err).Msg("which locations the app is installed in can't be read")
		return " Which locations that reaches could not be read."
	}
	var yes, no []string
	for tenant, location := range i.cfg.Locations {
		if slices.Contains(installed, location) {
			yes = append(yes, string(tenant))
		} else {
			no = append(no, string(tenant))
		}
	}
	slices.Sort(yes)
	slices.Sort(no)
	out := fmt.Sprintf(" It reaches the locations of %d tenants: %s.", len(yes), strings.Join(yes, ", "))
	if len(no) > 0 {
		out += " Not reached: " + strings.Join(no, ", ") + "."
	}
	return out
}

// Event takes a webhook that says that the app was installed or uninstalled;
// false if raw is none, or of nobody who is known. It calls no API: the tokens
// of an installation come through the callback, or are made from the agency's
// when they are needed, which may be some time after the event (#294).
func (i *Installer) Event(ctx context.Context, raw []byte) (taken bool, err error) {
	var e struct {
		Type       string `json:"type"`
		AppID      string `json:"appId"`
		LocationID string `json:"locationId"`
		CompanyID  string `json:"companyId"`
		Timestamp  string `json:"timestamp"`
	}
	if json.Unmarshal(raw, &e) != nil || e.Type != "INSTALL" && e.Type != "UNINSTALL" || e.AppID != "" && e.AppID != ghlapi.AppID(i.cfg.App.ClientID) {
		return false, nil
	}
	at, err := time.Parse(time.RFC3339, e.Timestamp)
	if err != nil {
		at = i.cfg.Clock.Now()
	}
	var o tokens.Owner
	for tenant, location := range i.cfg.Locations {
		if location == e.LocationID {
			o = tokens.Owner{Tenant: tenant}
		}
	}
	if e.LocationID == "" && e.CompanyID != "" && e.CompanyID == i.cfg.Agency {
		o = tokens.Owner{Company: e.CompanyID}
	}
	switch {
	case o == tokens.Owner{}:
		return false, nil
	case o.Company == "" && e.Type == "INSTALL":
		err = i.cfg.Store.Allow(ctx, o, at)
	case e.Type == "UNINSTALL":
		err = i.cfg.Store.Uninstall(ctx, o, at)
	default:
		err = nil // an agency's tokens come through the callback
	}
	if err != nil {
		return true, &apierr.Error{System: "ghl", Op: strings.ToLower(e.Type), Class: apierr.Retry, Err: err}
	}
	i.cfg.Logger.Info().Stringer("owner", o).Str("event", e.Type).Msg("GHL says that the app was installed or uninstalled")
	return true, nil
}
