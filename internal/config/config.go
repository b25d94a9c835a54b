// Package config is the file that all three stages read: where the broker is,
// and each tenant's two systems, mapping and limits. An unknown key is an
// error; every error is one line that names the file, the key and the problem.
//
// Secrets are never in the file. A secret is a reference: "env:NAME" to an
// environment variable, or "file:PATH" to a file, a relative path being beside
// the configuration.
package config

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // zones have to be known on any machine

	"github.com/goccy/go-yaml"

	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/internal/rule"
	"github.com/causeway-sync/causeway/schemas/canonical"
)

// File is the whole configuration.
type File struct {
	NATS   NATS   `yaml:"nats"`
	Ingest Ingest `yaml:"ingest"`
	// Share has no effect any more; see Deprecated.
	Share *Share `yaml:"budget_share"`
	// GHLApp is the marketplace app that tenants without a private integration
	// token are reached through.
	GHLApp *GHLApp `yaml:"ghl_app"`
	// TokenKeys encrypt the app's tokens at rest: 32 bytes each, in base64 or
	// hex. The first one seals, the others open what they have sealed.
	TokenKeys []Secret `yaml:"token_keys"`
	Tenants   []Tenant `yaml:"tenants"`
	// TenantsDir is a directory beside the file; each <slug>.yaml in it is one
	// more tenant, whose name is the file's.
	TenantsDir string `yaml:"tenants_dir"`

	path string
	sum  [sha256.Size]byte // of everything that was read; see Watch
}

// NATS says how to reach the broker.
type NATS struct {
	// URL of the server, or several with commas between. Default
	// nats://127.0.0.1:4222.
	URL string `yaml:"url"`
	// Credentials is the path of a NATS credentials file; empty means none. Each
	// stage ought to have its own: see the flag --credentials.
	Credentials string `yaml:"credentials"`
	// NKey is the path of an nkey seed; empty means none. It excludes
	// Credentials.
	NKey string `yaml:"nkey"`
	// CA is the path of PEM certificates that the server's has to be signed by;
	// empty means those of the system.
	CA string `yaml:"ca"`
	// Certificate and Key are the paths of PEM files by which we show the server
	// who we are, for one that asks; both or neither.
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
}

// TLS is a certificate and its key, each the path of a PEM file. Both are read
// anew when they change.
type TLS struct {
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
}

// Ingest is the front door.
type Ingest struct {
	// Listen is the address for webhooks; empty means that none are taken.
	Listen string `yaml:"listen"`
	// TLS is for a front door that the internet reaches without a proxy; nil
	// means plain HTTP.
	TLS *TLS `yaml:"tls"`
	// GHLKeys is a file of PEM public keys that GHL's webhooks may be signed
	// with; empty means those that GHL has published.
	GHLKeys string `yaml:"ghl_keys"`
	// AllowLegacySignature also takes the RSA header X-WH-Signature.
	AllowLegacySignature bool `yaml:"allow_legacy_signature"`
	// AppID, if set, is the marketplace app whose webhooks are taken.
	AppID string `yaml:"app_id"`
	// PerSecond limits the webhooks from one address. Default 1000.
	PerSecond int `yaml:"per_second"`
}

// GHLApp is a GHL marketplace app.
type GHLApp struct {
	ClientID     string `yaml:"client_id"`
	ClientSecret Secret `yaml:"client_secret"`
	// RedirectURL is the callback as it is registered with the app: the front
	// door's /oauth/ghl/callback as GHL's users reach it.
	RedirectURL string `yaml:"redirect_url"`
	// Agency is the id of the agency that may install the app for all its
	// locations.
	Agency string `yaml:"agency"`
	// Scopes that are asked for. Default: those that the sync needs.
	Scopes []string `yaml:"scopes"`
	// AuthorizeURL is GHL's page of consent. Default
	// https://marketplace.gohighlevel.com/v2/oauth/chooselocation.
	AuthorizeURL string `yaml:"authorize_url"`
	// BaseURL of the API. Default https://services.leadconnectorhq.com.
	BaseURL string `yaml:"base_url"`
}

// AppBudget is the name under which the app's own calls are counted, which no
// tenant can have, and AppLimits are GHL's limits of them: they are per app and
// resource, and theirs is the company rather than a location (dossier GHL §2).
const AppBudget canonical.Tenant = "_app"

// AppLimits is explained at [AppBudget].
func AppLimits() Limits { return ghlLimits }

func (a *GHLApp) complete(keys []Secret) error {
	orDefault(&a.BaseURL, "https://services.leadconnectorhq.com")
	orDefault(&a.AuthorizeURL, "https://marketplace.gohighlevel.com/v2/oauth/chooselocation")
	switch {
	case a.ClientID == "":
		return errors.New("ghl_app.client_id: is missing")
	case len(keys) == 0:
		return errors.New("token_keys: one is needed to keep the tokens of ghl_app")
	}
	for i, k := range keys {
		if err := k.check(fmt.Sprintf("token_keys[%d]", i), true); err != nil {
			return err
		}
	}
	return first(a.ClientSecret.check("ghl_app.client_secret", true), checkURL("ghl_app.redirect_url", a.RedirectURL),
		checkURL("ghl_app.authorize_url", a.AuthorizeURL), checkURL("ghl_app.base_url", a.BaseURL))
}

// Share was the part of a system's call limits that each stage might use.
type Share struct {
	Ingest float64 `yaml:"ingest"`
	Sink   float64 `yaml:"sink"`
}

// Tenant is one association.
type Tenant struct {
	// Name is a slug: a-z, 0-9 and '-', up to 40.
	Name canonical.Tenant `yaml:"name"`
	GHL  *GHL             `yaml:"ghl"`
	Novi *Novi            `yaml:"novi"`
	// Region is the ISO country that phone numbers without a country code are
	// read in. Default US.
	Region string `yaml:"region"`
	// Timezone, an IANA name, is the one that GHL's times are meant in where they
	// name none, and Novi's, unless novi.timezone says another. Default UTC.
	Timezone string `yaml:"timezone"`
	// Backfill walks through everything once, and the sink writes to a system
	// only after that. Default true.
	Backfill *bool `yaml:"backfill"`
	// Workers is how many records a stage works on at once. Default 8.
	Workers int `yaml:"workers"`
	// MaxRepairs is how many differences a reconcile that the configuration asks
	// for may repair; if there are more, a person has to ask. Default 1000.
	MaxRepairs int `yaml:"max_repairs"`
	// Template is what Mapping is laid over. Default association.
	Template string `yaml:"template"`
	// Mapping is the tenant's own: where fields live, and what was decided.
	Mapping mapping.Spec `yaml:"mapping"`
	// Rules are automations: what is done when something turns true of a record.
	Rules []rule.Definition `yaml:"rules"`

	lens   *mapping.Lens
	policy *mapping.Policy
	rules  rule.Set
}

// GHL is a location.
type GHL struct {
	Location string `yaml:"location"`
	// Token is a private integration token; without one the location is reached
	// through ghl_app. TokenNext, if set, is the one that
	// it is being replaced by, or was: where GHL refuses one, the other is used.
	Token     Secret `yaml:"token"`
	TokenNext Secret `yaml:"token_next"`
	// BaseURL of the API. Default https://services.leadconnectorhq.com.
	BaseURL string `yaml:"base_url"`
	// Create is short for mapping.contact.create_when.ghl, which says for which
	// members contacts are made. Default always.
	Create string `yaml:"create"`
	// Poll is the interval of the search for changes. Default 1m; 0s means
	// never.
	Poll *time.Duration `yaml:"poll"`
	// Sweep is the interval of the sweep through open tasks and notes, which
	// GHL can't list by when they changed. Default that of poll; 0s means never.
	Sweep *time.Duration `yaml:"sweep"`
	// SweepAll is the interval of the sweep through done tasks. Default 24 times
	// sweep.
	SweepAll *time.Duration `yaml:"sweep_all"`
	// Reconcile is the interval at which everybody is read and compared with what
	// is known of them. Default 24h; 0s means never.
	Reconcile *time.Duration `yaml:"reconcile"`
	Limits    Limits         `yaml:"limits"`
}

// Novi is a site.
type Novi struct {
	BaseURL string `yaml:"base_url"`
	// Key is sent as it is. KeyNext, if set, is the one that it is being
	// replaced by, or was: where the site refuses one, the other is used.
	Key     Secret `yaml:"key"`
	KeyNext Secret `yaml:"key_next"`
	// Create is short for mapping.contact.create_when.novi, which says for which
	// GHL contacts members are made: always, never, or a condition. There is no
	// default: a member is a QuickBooks customer.
	Create string `yaml:"create"`
	// WebhookToken is the secret at the end of the webhook URL; unset means
	// that the tenant has no Novi webhooks.
	WebhookToken Secret `yaml:"webhook_token"`
	// WebhookSecret, if set, is what an HMAC-SHA256 in WebhookHeader is
	// checked with.
	WebhookSecret Secret `yaml:"webhook_secret"`
	// WebhookHeader carries the signature. Default X-Novi-Signature.
	WebhookHeader string `yaml:"webhook_header"`
	// Timezone is the one that stamps and times are meant in which name none, and
	// that times are written in. Default that of the tenant.
	Timezone string `yaml:"timezone"`
	// Poll is the interval of the list of modified members. Default 5m; 0s
	// means never.
	Poll *time.Duration `yaml:"poll"`
	// Sweep is the interval of the sweep through the activities from 30 days ago
	// to a year ahead. Default that of poll; 0s means never.
	Sweep *time.Duration `yaml:"sweep"`
	// SweepAll is the interval of the sweep through all activities. Default 24
	// times sweep.
	SweepAll *time.Duration `yaml:"sweep_all"`
	// Protect are keys of a member that must be shown before one is written to,
	// beside those that the mapping writes: a PUT would empty what the API key
	// hides. Default: what every member has as far as is known.
	Protect []string `yaml:"protect"`
	// Reconcile is the interval at which everybody is read and compared with what
	// is known of them. Default 24h; 0s means never.
	Reconcile *time.Duration `yaml:"reconcile"`
	// Paths override where things are; "" says that the site does not have it.
	// See PathNames.
	Paths  Paths  `yaml:"paths"`
	Limits Limits `yaml:"limits"`
}

// Paths of the Novi API that are elsewhere than documented, by name; {id} and
// its like stand for ids. "" says that the site does not have it.
type Paths map[string]string

// PathNames are the names that Paths may have.
var PathNames = []string{"members", "member", "simple_list", "member_types", "activities", "activity", "activity_types", "activity_type",
	"membership_activities", "membership_activity", "groups", "group", "group_members", "group_member", "group_categories",
	"committees", "committee", "committee_members", "committee_member", "committee_roles",
	"custom_fields", "member_fields", "member_field", "put_member_field", "webhooks", "webhook",
	"events", "event", "event_categories", "registrations", "registration", "attendees"}

// absent reports whether the site is said not to have a path.
func (p Paths) absent(name string) bool {
	path, said := p[name]
	return said && path == ""
}

func (p Paths) check() error {
	for _, name := range slices.Sorted(maps.Keys(p)) {
		if !slices.Contains(PathNames, name) {
			return fmt.Errorf("novi.paths.%s: there is no such path", name)
		}
		if p[name] != "" && !strings.HasPrefix(p[name], "/") {
			return fmt.Errorf("novi.paths.%s: %q does not begin with a slash", name, p[name])
		}
	}
	switch {
	case p.absent("members") || p.absent("member"):
		return errors.New("novi.paths: nothing works without members and member")
	case p.absent("activities") != p.absent("activity"):
		return errors.New("novi.paths: activities and activity go together")
	}
	return nil
}

// HasActivities reports whether the site has tasks, notes and meetings.
func (n *Novi) HasActivities() bool {
	return !n.Paths.absent("activities") && !n.Paths.absent("activity_types")
}

// HasGroups reports whether the site shows who is in which group.
func (n *Novi) HasGroups() bool {
	return !n.Paths.absent("groups") && !n.Paths.absent("group_members")
}

// Limits override a system's call limits; none means the documented ones.
type Limits struct {
	Windows []Window `yaml:"windows"`
	Daily   int      `yaml:"daily"`
}

// Window is at most Calls in any Per.
type Window struct {
	Calls int           `yaml:"calls"`
	Per   time.Duration `yaml:"per"`
}

// Secret is a reference to a secret.
type Secret string

// Deprecated says which keys of the file have no effect any more.
func (f *File) Deprecated() []string {
	if f.Share == nil {
		return nil
	}
	return []string{"budget_share: has no effect any more: all processes lease their calls from one budget; take it out"}
}

// BudgetOwner returns the tenant under whose name the calls to t's system are
// counted: t, or the first with the same account there, because the system
// limits them together.
func (f *File) BudgetOwner(system canonical.System, t Tenant) canonical.Tenant {
	account := func(t Tenant) [2]string {
		switch {
		case system == canonical.GHL && t.GHL != nil:
			return [2]string{t.GHL.BaseURL, t.GHL.Location}
		case system == canonical.Novi && t.Novi != nil:
			return [2]string{t.Novi.BaseURL, string(t.Novi.Key)}
		}
		return [2]string{}
	}
	for _, other := range f.Tenants {
		if account(other) == account(t) {
			return other.Name
		}
	}
	return t.Name
}

// The documented limits (dossiers GHL §2, Novi §3.5).
var (
	ghlLimits  = Limits{Windows: []Window{{100, 10 * time.Second}}, Daily: 200_000}
	noviLimits = Limits{Windows: []Window{{20, time.Second}, {600, time.Minute}}, Daily: 100_000}
)

// protected are plain fields of a member (dossier Novi §5.1).
var protected = []string{"Name", "FirstName", "LastName", "CustomerType", "Active", "Email", "Phone", "Mobile", "BillingAddress", "Notes", "CustomFields"}

// Load reads and checks a file, and those of its tenants, and fills in the
// defaults.
func Load(path string) (*File, error) {
	f := &File{path: path}
	sum := sha256.New()
	text, err := decode(path, f, sum)
	if err != nil {
		return nil, err
	}
	seen := map[canonical.Tenant]bool{}
	if err := f.complete(seen); err != nil {
		return nil, located(path, text, err)
	}
	files, err := tenantFiles(f.Beside(f.TenantsDir))
	if err != nil {
		return nil, located(path, text, fmt.Errorf("tenants_dir: %w", err))
	}
	for _, file := range files {
		t := Tenant{}
		text, err := decode(file, &t, sum)
		if err != nil {
			return nil, err
		}
		if t.Name != "" {
			return nil, located(file, text, errors.New("name: a tenant's name is its file's"))
		}
		t.Name = canonical.Tenant(strings.TrimSuffix(filepath.Base(file), ".yaml"))
		if err := first(nameError(t.Name, seen), t.complete(f.GHLApp != nil)); err != nil {
			return nil, located(file, text, err)
		}
		f.Tenants = append(f.Tenants, t)
	}
	if len(f.Tenants) == 0 {
		return nil, located(path, text, errors.New("tenants: there are none"))
	}
	sum.Sum(f.sum[:0])
	return f, nil
}

// tenantFiles returns the tenants' files in dir, sorted; none for "".
func tenantFiles(dir string) ([]string, error) {
	if dir == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, bare(err))
	}
	var files []string
	for _, e := range entries {
		if !e.IsDir() && filepath.Ext(e.Name()) == ".yaml" && !strings.HasPrefix(e.Name(), ".") {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	return files, nil
}

// bare is err without the path that it is about.
func bare(err error) error {
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}

// decode reads a file into v, and its path and text into sum.
func decode(path string, v any, sum hash.Hash) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, bare(err))
	}
	_, _ = fmt.Fprintf(sum, "%s\x00%d\x00%s", path, len(text), text) // a hash takes everything
	if err := yaml.UnmarshalWithOptions(text, v, yaml.Strict()); err != nil {
		var y yaml.Error
		if errors.As(err, &y) && y.GetToken() != nil {
			return nil, fmt.Errorf("%s:%d: %s", path, y.GetToken().Position.Line, y.GetMessage())
		}
		return nil, fmt.Errorf("%s: %s", path, firstLine(err.Error()))
	}
	return text, nil
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

func (f *File) complete(seen map[canonical.Tenant]bool) error {
	orDefault(&f.NATS.URL, "nats://127.0.0.1:4222")
	if strings.Contains(f.NATS.URL, "@") {
		return errors.New("nats.url: a password or token is not written here, but in the file that nats.credentials names")
	}
	if f.NATS.NKey != "" && f.NATS.Credentials != "" {
		return errors.New("nats.nkey: excludes nats.credentials")
	}
	if (f.NATS.Certificate == "") != (f.NATS.Key == "") {
		return errors.New("nats.certificate: it takes nats.key too, and the other way round")
	}
	if f.GHLApp != nil {
		if err := f.GHLApp.complete(f.TokenKeys); err != nil {
			return err
		}
	}
	for i := range f.Tenants {
		t := &f.Tenants[i]
		key := fmt.Sprintf("tenants[%d]", i)
		if err := nameError(t.Name, seen); err != nil {
			return fmt.Errorf("%s.%w", key, err)
		}
		if err := t.complete(f.GHLApp != nil); err != nil {
			return fmt.Errorf("%s (%s).%w", key, t.Name, err)
		}
	}
	return nil
}

func nameError(name canonical.Tenant, seen map[canonical.Tenant]bool) error {
	switch {
	case !canonical.ValidTenant(name):
		return fmt.Errorf("name: %q is not a slug of a-z, 0-9 and '-'", name)
	case seen[name]:
		return fmt.Errorf("name: %q is taken", name)
	}
	seen[name] = true
	return nil
}

func (t *Tenant) complete(app bool) error {
	orDefault(&t.Region, "US")
	orDefault(&t.Workers, 8)
	orDefault(&t.Timezone, "UTC")
	orDefault(&t.MaxRepairs, 1000)
	if t.Backfill == nil {
		yes := true
		t.Backfill = &yes
	}
	switch {
	case len(t.Region) != 2:
		return fmt.Errorf("region: %q is no ISO 3166 code of two letters", t.Region)
	case !isZone(t.Timezone):
		return fmt.Errorf("timezone: %q is no IANA time zone", t.Timezone)
	case t.Workers < 0:
		return errors.New("workers: is negative")
	case t.MaxRepairs < 0:
		return errors.New("max_repairs: is negative")
	case t.GHL == nil && t.Novi == nil:
		return errors.New("ghl, novi: one of them is needed")
	}
	if g := t.GHL; g != nil {
		orDefault(&g.BaseURL, "https://services.leadconnectorhq.com")
		pollDefault(&g.Poll, time.Minute)
		pollDefault(&g.Sweep, *g.Poll)
		pollDefault(&g.SweepAll, 24**g.Sweep)
		pollDefault(&g.Reconcile, 24*time.Hour)
		if g.Location == "" {
			return errors.New("ghl.location: is missing")
		}
		if err := first(
			g.Token.check("ghl.token", !app), g.TokenNext.check("ghl.token_next", false), checkURL("ghl.base_url", g.BaseURL), g.Limits.complete("ghl.limits", ghlLimits)); err != nil {
			return err
		}
	}
	if n := t.Novi; n != nil {
		pollDefault(&n.Poll, 5*time.Minute)
		pollDefault(&n.Sweep, *n.Poll)
		pollDefault(&n.SweepAll, 24**n.Sweep)
		pollDefault(&n.Reconcile, 24*time.Hour)
		orDefault(&n.Timezone, t.Timezone)
		if n.Protect == nil {
			n.Protect = slices.Clone(protected)
		}
		if !isZone(n.Timezone) {
			return fmt.Errorf("novi.timezone: %q is no IANA time zone", n.Timezone)
		}
		if err := n.Paths.check(); err != nil {
			return err
		}
		if err := first(
			n.Key.check("novi.key", true), n.KeyNext.check("novi.key_next", false), n.WebhookToken.check("novi.webhook_token", false), n.WebhookSecret.check("novi.webhook_secret", false),
			checkURL("novi.base_url", n.BaseURL), n.Limits.complete("novi.limits", noviLimits)); err != nil {
			return err
		}
	}
	if err := t.mapping(); err != nil {
		return err
	}
	return t.automations()
}

// WithRules returns the tenant with other automations, or what is wrong with
// them.
func (t Tenant) WithRules(rules []rule.Definition) (Tenant, error) {
	t.Rules = rules
	return t, t.automations()
}

// automations builds the rules.
func (t *Tenant) automations() (err error) {
	if t.rules, err = rule.Compile(t.Rules, t.lens); err != nil {
		return fmt.Errorf("rules%w", err)
	}
	for i, r := range t.Rules {
		for j, a := range r.Do {
			key := fmt.Sprintf("rules[%d].do[%d].", i, j)
			switch {
			case t.GHL == nil && a.Workflow+a.Campaign != "":
				return fmt.Errorf("%sworkflow: the tenant has no ghl", key)
			case a.Webhook != nil:
				if err := first(checkURL(key+"webhook.url", a.Webhook.URL), Secret(a.Webhook.Secret).check(key+"webhook.secret", true)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// isZone reports whether name is one that everybody knows by it: that of the
// machine, "Local", isn't.
func isZone(name string) bool {
	_, err := time.LoadLocation(name)
	return err == nil && name != "Local"
}

// mapping builds the lens and the policy.
func (t *Tenant) mapping() error {
	template, err := mapping.Template(t.Template)
	if err != nil {
		return fmt.Errorf("template: %w", err)
	}
	own := t.Mapping
	short := func(key, said string, when *string) error {
		switch {
		case said == "":
			return nil
		case *when != "":
			return fmt.Errorf("%s: mapping.contact.create_when says it too", key)
		}
		*when = said
		if _, err := mapping.NewCondition(said); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		return nil
	}
	if t.GHL != nil {
		err = short("ghl.create", t.GHL.Create, &own.Contact.CreateWhen.GHL)
	}
	if t.Novi != nil && err == nil {
		err = short("novi.create", t.Novi.Create, &own.Contact.CreateWhen.Novi)
	}
	if err != nil {
		return err
	}
	spec := template.With(own)
	if t.Novi != nil && spec.Contact.CreateWhen.Novi == "" {
		return errors.New("novi.create: has to be said here or in mapping.contact.create_when: always, never or a condition; a Novi member is a QuickBooks customer, so there is no default")
	}
	t.lens, t.policy, err = t.Build(spec)
	return err
}

// Build returns what spec, with its template, comes to for t: the zones are t's,
// and what a Novi without activities can't have is switched off.
func (t *Tenant) Build(spec mapping.Spec) (*mapping.Lens, *mapping.Policy, error) {
	lens, policy, err := spec.Build(t.Region)
	if err != nil {
		return nil, nil, fmt.Errorf("mapping.%w", err)
	}
	ghl, err := time.LoadLocation(t.Timezone)
	novi := ghl
	if err == nil && t.Novi != nil {
		novi, err = time.LoadLocation(t.Novi.Timezone)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("timezone: %w", err)
	}
	lens.InZones(ghl, novi)
	if t.Novi != nil && !t.Novi.HasActivities() {
		for _, kind := range canonical.Items() {
			policy.Off[mapping.Flow{Kind: kind, System: canonical.Novi}] = true
		}
	}
	return lens, policy, nil
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func pollDefault(v **time.Duration, d time.Duration) {
	if *v == nil {
		*v = &d
	}
}

func checkURL(key, v string) error {
	u, err := url.Parse(v)
	if strings.Contains(v, "@") {
		return fmt.Errorf("%s: a secret is not written here, and nothing that ends with @", key)
	}
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return fmt.Errorf("%s: %q is no http or https URL", key, v)
	}
	return nil
}

func (l *Limits) complete(key string, d Limits) error {
	if len(l.Windows) == 0 {
		l.Windows = d.Windows
	}
	orDefault(&l.Daily, d.Daily)
	for i, w := range l.Windows {
		if w.Calls < 1 || w.Per <= 0 {
			return fmt.Errorf("%s.windows[%d]: calls and per have to be above 0", key, i)
		}
	}
	if l.Daily < 0 {
		return fmt.Errorf("%s.daily: is negative", key)
	}
	return nil
}

func (s Secret) check(key string, required bool) error {
	switch kind, rest, _ := strings.Cut(string(s), ":"); {
	case s == "" && required:
		return fmt.Errorf("%s: is missing", key)
	case s == "", (kind == "env" || kind == "file") && rest != "":
		return nil
	}
	return fmt.Errorf("%s: a secret is not written here, but as env:NAME or file:PATH", key)
}

// Resolve returns what the secret refers to, without space around it; "" for
// an unset one. The error names the reference.
func (f *File) Resolve(s Secret) (string, error) {
	kind, rest, _ := strings.Cut(string(s), ":")
	var value string
	switch kind {
	case "":
		return "", nil
	case "env":
		value = os.Getenv(rest)
	case "file":
		if !filepath.IsAbs(rest) {
			rest = filepath.Join(filepath.Dir(f.path), rest)
		}
		text, err := os.ReadFile(rest)
		if err != nil {
			return "", fmt.Errorf("secret %s can't be read", s)
		}
		value = string(text)
	}
	if value = strings.TrimSpace(value); value == "" {
		return "", fmt.Errorf("secret %s is empty", s)
	}
	return value, nil
}

// Beside returns path as it is meant in the file: a relative one is beside
// it.
func (f *File) Beside(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(f.path), path)
}

// Lens is where the tenant's fields live. It is shared, and not to be changed.
func (t *Tenant) Lens() *mapping.Lens { return t.lens }

// Policy is what the tenant has decided beside that. It is shared, and not to
// be changed.
func (t *Tenant) Policy() *mapping.Policy { return t.policy }

// Automations are the tenant's rules. They are shared, and not to be changed.
func (t *Tenant) Automations() rule.Set { return t.rules }

// Zone is where the tenant's days begin: that of its Novi site, else UTC.
func (t *Tenant) Zone() *time.Location {
	if t.Novi == nil {
		return time.UTC
	}
	zone, err := time.LoadLocation(t.Novi.Timezone)
	if err != nil { // it was looked at when the file was loaded
		return time.UTC
	}
	return zone
}
