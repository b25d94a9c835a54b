// Package config is the file that all three stages read: where the broker is,
// and each tenant's two systems, mapping and limits. An unknown key is an
// error; every error is one line that names the file, the key and the problem.
//
// Secrets are never in the file. A secret is a reference: "env:NAME" to an
// environment variable, or "file:PATH" to a file, a relative path being beside
// the configuration.
package config

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
)

// File is the whole configuration.
type File struct {
	NATS    NATS     `yaml:"nats"`
	Ingest  Ingest   `yaml:"ingest"`
	Share   Share    `yaml:"budget_share"`
	Tenants []Tenant `yaml:"tenants"`

	path string
}

// NATS says how to reach the broker.
type NATS struct {
	// URL of the server, or several with commas between. Default
	// nats://127.0.0.1:4222.
	URL string `yaml:"url"`
	// Credentials is the path of a NATS credentials file; empty means none.
	Credentials string `yaml:"credentials"`
}

// Ingest is the front door.
type Ingest struct {
	// Listen is the address for webhooks; empty means that none are taken.
	Listen string `yaml:"listen"`
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

// Share is what part of a system's call limits each stage may use; together
// they must not exceed 1. Default 0.5 each.
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
	// Backfill walks through everything once, and the sink writes to a system
	// only after that. Default true.
	Backfill *bool `yaml:"backfill"`
	// Workers is how many records a stage works on at once. Default 8.
	Workers int `yaml:"workers"`
	// CustomFields that both systems have.
	CustomFields []CustomField `yaml:"custom_fields"`
	Tags         Tags          `yaml:"tags"`
}

// GHL is a location.
type GHL struct {
	Location string `yaml:"location"`
	Token    Secret `yaml:"token"`
	// BaseURL of the API. Default https://services.leadconnectorhq.com.
	BaseURL string `yaml:"base_url"`
	// Create says whether contacts are made for members: always (default) or
	// never.
	Create string `yaml:"create"`
	// Poll is the interval of the search for changes. Default 1m; 0s means
	// never.
	Poll   *time.Duration `yaml:"poll"`
	Limits Limits         `yaml:"limits"`
}

// Novi is a site.
type Novi struct {
	BaseURL string `yaml:"base_url"`
	Key     Secret `yaml:"key"`
	// Create says whether members are made for GHL contacts: always or never.
	// There is no default: a member is a QuickBooks customer.
	Create string `yaml:"create"`
	// WebhookToken is the secret at the end of the webhook URL; unset means
	// that the tenant has no Novi webhooks.
	WebhookToken Secret `yaml:"webhook_token"`
	// WebhookSecret, if set, is what an HMAC-SHA256 in WebhookHeader is
	// checked with.
	WebhookSecret Secret `yaml:"webhook_secret"`
	// WebhookHeader carries the signature. Default X-Novi-Signature.
	WebhookHeader string `yaml:"webhook_header"`
	// Timezone that stamps without a zone are read in. Default UTC.
	Timezone string `yaml:"timezone"`
	// Poll is the interval of the list of modified members. Default 5m; 0s
	// means never.
	Poll *time.Duration `yaml:"poll"`
	// Paths override where things are; all or none.
	Paths  Paths  `yaml:"paths"`
	Limits Limits `yaml:"limits"`
}

// Paths of the Novi API; {id} stands for a member's id.
type Paths struct {
	Members string `yaml:"members"`
	Member  string `yaml:"member"`
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

// CustomField is a value that both systems have a custom field for.
type CustomField struct {
	Name string `yaml:"name"` // the canonical name
	GHL  string `yaml:"ghl"`  // the field's key, such as contact.shirt_size
	Novi string `yaml:"novi"` // the field's name
}

// Tags override how tags travel to Novi.
type Tags struct {
	NoviField   string `yaml:"novi_field"`
	Separator   string `yaml:"separator"`
	GroupPrefix string `yaml:"group_prefix"`
}

// Secret is a reference to a secret.
type Secret string

// The documented limits (dossiers GHL §2, Novi §3.5).
var (
	ghlLimits  = Limits{Windows: []Window{{100, 10 * time.Second}}, Daily: 200_000}
	noviLimits = Limits{Windows: []Window{{20, time.Second}, {600, time.Minute}}, Daily: 100_000}
)

// Load reads and checks a file and fills in the defaults.
func Load(path string) (*File, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		var pathErr *os.PathError
		if errors.As(err, &pathErr) {
			err = pathErr.Err
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	f := &File{path: path}
	if err := yaml.UnmarshalWithOptions(text, f, yaml.Strict()); err != nil {
		var y yaml.Error
		if errors.As(err, &y) && y.GetToken() != nil {
			return nil, fmt.Errorf("%s:%d: %s", path, y.GetToken().Position.Line, y.GetMessage())
		}
		return nil, fmt.Errorf("%s: %s", path, firstLine(err.Error()))
	}
	if err := f.complete(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

func (f *File) complete() error {
	orDefault(&f.NATS.URL, "nats://127.0.0.1:4222")
	if f.Share == (Share{}) {
		f.Share = Share{0.5, 0.5}
	}
	if f.Share.Ingest <= 0 || f.Share.Sink <= 0 || f.Share.Ingest+f.Share.Sink > 1 {
		return errors.New("budget_share: ingest and sink have to be above 0 and together at most 1")
	}
	if len(f.Tenants) == 0 {
		return errors.New("tenants: there are none")
	}
	seen := map[canonical.Tenant]bool{}
	for i := range f.Tenants {
		t := &f.Tenants[i]
		key := fmt.Sprintf("tenants[%d]", i)
		if !canonical.ValidTenant(t.Name) {
			return fmt.Errorf("%s.name: %q is not a slug of a-z, 0-9 and '-'", key, t.Name)
		}
		if seen[t.Name] {
			return fmt.Errorf("%s.name: %q is taken", key, t.Name)
		}
		seen[t.Name] = true
		if err := t.complete(); err != nil {
			return fmt.Errorf("%s (%s).%w", key, t.Name, err)
		}
	}
	return nil
}

func (t *Tenant) complete() error {
	orDefault(&t.Region, "US")
	orDefault(&t.Workers, 8)
	if t.Backfill == nil {
		yes := true
		t.Backfill = &yes
	}
	switch {
	case len(t.Region) != 2:
		return fmt.Errorf("region: %q is no ISO 3166 code of two letters", t.Region)
	case t.Workers < 0:
		return errors.New("workers: is negative")
	case t.GHL == nil && t.Novi == nil:
		return errors.New("ghl, novi: one of them is needed")
	}
	if g := t.GHL; g != nil {
		orDefault(&g.BaseURL, "https://services.leadconnectorhq.com")
		orDefault(&g.Create, "always")
		pollDefault(&g.Poll, time.Minute)
		if g.Location == "" {
			return errors.New("ghl.location: is missing")
		}
		if err := first(
			g.Token.check("ghl.token", true), checkURL("ghl.base_url", g.BaseURL), checkCreate("ghl.create", g.Create), g.Limits.complete("ghl.limits", ghlLimits)); err != nil {
			return err
		}
	}
	if n := t.Novi; n != nil {
		pollDefault(&n.Poll, 5*time.Minute)
		orDefault(&n.Timezone, "UTC")
		if _, err := time.LoadLocation(n.Timezone); err != nil {
			return fmt.Errorf("novi.timezone: %q is no IANA time zone", n.Timezone)
		}
		if n.Create == "" {
			return errors.New("novi.create: has to be said: always or never; a Novi member is a QuickBooks customer, so there is no default")
		}
		if (n.Paths.Members == "") != (n.Paths.Member == "") {
			return errors.New("novi.paths: members and member go together")
		}
		if err := first(
			n.Key.check("novi.key", true), n.WebhookToken.check("novi.webhook_token", false), n.WebhookSecret.check("novi.webhook_secret", false),
			checkURL("novi.base_url", n.BaseURL), checkCreate("novi.create", n.Create), n.Limits.complete("novi.limits", noviLimits)); err != nil {
			return err
		}
	}
	names := map[string]bool{}
	for i, c := range t.CustomFields {
		switch {
		case c.Name == "" || c.GHL == "" || c.Novi == "":
			return fmt.Errorf("custom_fields[%d]: name, ghl and novi are all needed", i)
		case names[c.Name]:
			return fmt.Errorf("custom_fields[%d]: %q is bound twice", i, canonical.CustomPrefix+c.Name)
		}
		names[c.Name] = true
	}
	return t.Lens().Check()
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
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return fmt.Errorf("%s: %q is no http or https URL", key, v)
	}
	return nil
}

func checkCreate(key, v string) error {
	if v != "always" && v != "never" {
		return fmt.Errorf("%s: %q is neither always nor never", key, v)
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

// Lens is the tenant's mapping: the association's, with the tenant's own
// custom fields and tag rules.
func (t *Tenant) Lens() *mapping.Lens {
	custom := make([]mapping.Custom, len(t.CustomFields))
	for i, c := range t.CustomFields {
		custom[i] = mapping.Custom{Name: c.Name, GHL: c.GHL, Novi: c.Novi}
	}
	l := mapping.Association(t.Region, custom...)
	orSet := func(v *string, own string) {
		if own != "" {
			*v = own
		}
	}
	orSet(&l.Tags.NoviField, t.Tags.NoviField)
	orSet(&l.Tags.Separator, t.Tags.Separator)
	orSet(&l.Tags.GroupPrefix, t.Tags.GroupPrefix)
	return l
}
