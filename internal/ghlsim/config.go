package ghlsim

import (
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rs/zerolog"
)

// Config is what a Server is made of. The zero value of every field but
// Locations is usable.
type Config struct {
	// Locations to simulate; at least one.
	Locations []Location
	// Tokens that are accepted. A token reaches exactly one location.
	Tokens []Token
	// App, if set, can be installed, and is issued tokens.
	App *App
	// Webhook says where and how events are delivered.
	Webhook WebhookConfig
	// Burst is how many requests a location may get within BurstWindow.
	// Default 100.
	Burst int
	// BurstWindow is the length of the sliding window. Default 10 s.
	BurstWindow time.Duration
	// Daily is how many requests a location may get in a UTC day. Default
	// 200,000.
	Daily int
	// IndexLag is how far search is behind the truth. Default 2 s; negative
	// means no lag.
	IndexLag time.Duration
	// Quirks are the switches of README.md; the zero value is the default.
	Quirks Quirks
	// Seed makes ids, delays and faults repeatable.
	Seed int64
	// Now is the clock for stamps, windows, expiry and the index lag. Default
	// time.Now. Waiting (webhook delays, latency) is on the machine's clock.
	Now func() time.Time
	// Logger gets one debug line for each request and each delivery, without
	// personal data.
	Logger zerolog.Logger
	// LedgerMax bounds the ledger; beyond it the older half is forgotten and
	// counted in Stats.LedgerForgotten. Default 1,000,000 entries.
	LedgerMax int
}

// Location is one GoHighLevel sub-account.
type Location struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// Timezone is an IANA name. Default "America/New_York".
	Timezone string `json:"timezone"`
	// Country is the ISO-2 region in which a phone without + is read. Default
	// "US".
	Country string `json:"country"`
	// AllowDuplicates is the setting allowDuplicateContact.
	AllowDuplicates bool `json:"allowDuplicates"`
	// UniqueFields are the fields that make a duplicate, in order. Default
	// email, phone.
	UniqueFields []string `json:"uniqueFields,omitempty"`
	// CustomFields are the contact fields of the location.
	CustomFields []CustomField `json:"customFields,omitempty"`
	// Users may be assigned tasks and appointments, and be named in notes.
	Users []User `json:"users,omitempty"`
	// Calendars are the ids in which appointments can be made.
	Calendars []string `json:"calendars,omitempty"`
	// Campaigns and Workflows are the ids of those that contacts can be put into.
	Campaigns []string `json:"campaigns,omitempty"`
	Workflows []string `json:"workflows,omitempty"`
}

// User is somebody who works in the location.
type User struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Email string `json:"email"`
}

// CustomField is one custom contact field.
type CustomField struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// Key is the fieldKey, such as "contact.member_id".
	Key string `json:"key"`
	// DataType is one of the dossier's list (§3.12), such as TEXT, NUMERICAL,
	// CHECKBOX or DATE. Default TEXT.
	DataType string `json:"dataType"`
}

// Token is a Private Integration Token or an access token.
type Token struct {
	// Value is what follows "Bearer ".
	Value string
	// LocationID is the only location that the token reaches.
	LocationID string
	// Scopes as in dossier GHL §1.5; see AllScopes.
	Scopes []string
	// ExpiresAt is when it stops working; zero means never.
	ExpiresAt time.Time

	companyID string // of an agency's token, which reaches no location
}

// AllScopes returns every scope that a simulated route asks for.
func AllScopes() []string {
	return []string{
		scopeContactsRead, scopeContactsWrite, scopeLocationsRead, scopeTagsRead, scopeFieldsRead,
		scopeTasksRead, scopeUsersRead, scopeEventsRead, scopeEventsWrite, scopeTagsWrite, scopeFieldsWrite,
		scopeBusinessesRead, scopeBusinessesWrite,
	}
}

const (
	scopeContactsRead    = "contacts.readonly"
	scopeContactsWrite   = "contacts.write"
	scopeLocationsRead   = "locations.readonly"
	scopeTagsRead        = "locations/tags.readonly"
	scopeFieldsRead      = "locations/customFields.readonly"
	scopeTagsWrite       = "locations/tags.write"
	scopeFieldsWrite     = "locations/customFields.write"
	scopeBusinessesRead  = "businesses.readonly"
	scopeBusinessesWrite = "businesses.write"
	scopeTasksRead       = "locations/tasks.readonly"
	scopeUsersRead       = "users.readonly"
	scopeEventsRead      = "calendars/events.readonly"
	scopeEventsWrite     = "calendars/events.write"
)

// WebhookConfig says where events go and how hard delivery tries.
type WebhookConfig struct {
	// URL gets every event; "" means that none are made.
	URL string
	// PrivateKey signs X-GHL-Signature. Without it that header is "N/A".
	PrivateKey ed25519.PrivateKey
	// RSA, if set, also signs the legacy X-WH-Signature.
	RSA *rsa.PrivateKey
	// AppID is sent as appId and versionId. Default "simapp".
	AppID string
	// MinDelay and MaxDelay bound the time between a change and the first
	// delivery attempt. Default 0.
	MinDelay, MaxDelay time.Duration
	// Retry is one of the two documented policies. Default RetryNon2xx.
	Retry RetryPolicy
	// RetryBase is the interval that Retry starts from. Default 10 min for
	// Retry429, 1 min for RetryNon2xx.
	RetryBase time.Duration
	// Timeout of one attempt. Default 5 s (UNK in the dossier).
	Timeout time.Duration
	// Workers that deliver at the same time. Default 4.
	Workers int
	// QueueMax bounds the deliveries that wait; one more is dropped and
	// counted in Stats.WebhooksOverflow. Default 200,000.
	QueueMax int
}

// RetryPolicy says which failed deliveries are tried again (dossier §5.4).
type RetryPolicy string

const (
	// RetryNon2xx tries every failure again, timeouts included: 12 retries,
	// exponential with jitter, at most 60 times RetryBase apart [OBS; the cap
	// is invented].
	RetryNon2xx RetryPolicy = "all-non-2xx"
	// Retry429 tries only 429 again: 6 retries, RetryBase apart, with jitter;
	// every other failure is final [DOC].
	Retry429 RetryPolicy = "429-only"
)

// Quirks are behaviours that differ between accounts or that nobody knows for
// sure. The zero value is the pessimistic reading; README.md has the evidence
// for each.
type Quirks struct {
	// IgnoreCompanyNameOnPut drops companyName from PUT instead of answering
	// 422.
	IgnoreCompanyNameOnPut bool
	// QuietUnchangedPut makes a PUT that changes nothing leave dateUpdated and
	// the webhooks alone.
	QuietUnchangedPut bool
	// TagsLeaveDateUpdated makes a change of tags alone leave dateUpdated
	// alone.
	TagsLeaveDateUpdated bool
	// TagsAlsoUpdate sends ContactUpdate beside ContactTagUpdate.
	TagsAlsoUpdate bool
	// TagDeltasInReply adds tagsAdded and tagsRemoved to tag replies.
	TagDeltasInReply bool
	// UnknownCustomField400 answers 400 to a custom field id or key that the
	// location lacks, instead of ignoring it.
	UnknownCustomField400 bool
	// RejectBadPhone answers 422 to a phone that cannot be read, instead of
	// storing it as sent.
	RejectBadPhone bool
	// LowercaseNames makes search return lower-cased firstName, lastName and
	// contactName beside firstNameRaw and lastNameRaw.
	LowercaseNames bool
	// SearchBirthMillis makes search return dateOfBirth as epoch milliseconds.
	SearchBirthMillis bool
	// DuplicateMissEmpty leaves the key contact out of a duplicate lookup that
	// found nothing, instead of sending null.
	DuplicateMissEmpty bool
	// MissingItem400 answers 400 for a task, note or appointment that is not
	// there, instead of 404.
	MissingItem400 bool
	// TaskDueMillis lets a PUT of a task have a dueDate with fractions of a
	// second, instead of answering 422.
	TaskDueMillis bool
	// TaskSearchUnderscoreID makes the location's task search say _id instead
	// of id.
	TaskSearchUnderscoreID bool
	// FullTaskCreate sends contactId and body with TaskCreate (#332).
	FullTaskCreate bool
	// SparseWebhooks reduces ContactDelete to its id and ContactDndUpdate to
	// id, email, phone, dnd and dndSettings.
	SparseWebhooks bool
	// NullWebhookKeys sends empty webhook keys as null instead of leaving them
	// out.
	NullWebhookKeys bool
	// RetryAfter sends Retry-After with 429.
	RetryAfter bool
	// DropState leaves the state out of the redirect to the callback.
	DropState bool
	// ReuseSpares only refuses a refresh token that is presented again, and
	// leaves the tokens alone that came of it.
	ReuseSpares bool
	// StrictAccept answers an empty 404 to a request without
	// Accept: application/json.
	StrictAccept bool
}

// Faults are what goes wrong on purpose. Probabilities are from 0 to 1.
type Faults struct {
	// WebhookDrop is the chance that an event is never delivered.
	WebhookDrop float64
	// WebhookDuplicate is the chance that an event is delivered twice, with
	// identical bytes.
	WebhookDuplicate float64
	// WebhookDelay is the chance that a delivery waits up to WebhookDelayMax
	// longer, so that later events overtake it.
	WebhookDelay float64
	// WebhookDelayMax is the longest extra wait.
	WebhookDelayMax time.Duration
	// API429 is the chance of a 429 that no budget explains; nothing is done.
	API429 float64
	// API5xx is the chance of a 500, 502, 503 or 504; nothing is done.
	API5xx float64
	// Latency is added to every API reply.
	Latency time.Duration
	// ResetAfterCommit is the chance that a write is committed and its
	// connection closed without a reply.
	ResetAfterCommit float64
	// CreatedBut422 is the chance that a create or an upsert is committed and
	// answered with 422 (#64).
	CreatedBut422 float64
}

// clamped returns f with every probability within 0 and 1.
func (f Faults) clamped() Faults {
	for _, p := range []*float64{
		&f.WebhookDrop, &f.WebhookDuplicate, &f.WebhookDelay,
		&f.API429, &f.API5xx, &f.ResetAfterCommit, &f.CreatedBut422,
	} {
		if !(*p > 0) {
			*p = 0
		}
		*p = min(*p, 1)
	}
	f.WebhookDelayMax = max(f.WebhookDelayMax, 0)
	f.Latency = max(f.Latency, 0)
	return f
}

// withDefaults returns c with every default filled in, or an error that names
// the field that is wrong.
func (c Config) withDefaults() (Config, error) {
	if len(c.Locations) == 0 {
		return c, errors.New("ghlsim config: no locations")
	}
	locations := make([]Location, len(c.Locations))
	seen := map[string]bool{}
	for i, l := range c.Locations {
		if l.ID == "" || seen[l.ID] {
			return c, fmt.Errorf("ghlsim config: location %d: id %q is empty or taken", i, l.ID)
		}
		seen[l.ID] = true
		orDefault(&l.Timezone, "America/New_York")
		orDefault(&l.Country, "US")
		if len(l.UniqueFields) == 0 {
			l.UniqueFields = []string{"email", "phone"}
		}
		for _, f := range l.UniqueFields {
			if f != "email" && f != "phone" {
				return c, fmt.Errorf("ghlsim config: location %s: unique field %q is neither email nor phone", l.ID, f)
			}
		}
		fields := make([]CustomField, len(l.CustomFields))
		ids := map[string]bool{}
		for j, f := range l.CustomFields {
			if f.ID == "" || ids[f.ID] {
				return c, fmt.Errorf("ghlsim config: location %s: custom field %d: id %q is empty or taken", l.ID, j, f.ID)
			}
			ids[f.ID] = true
			orDefault(&f.DataType, "TEXT")
			fields[j] = f
		}
		l.CustomFields = fields
		ids = map[string]bool{}
		for j, u := range l.Users {
			if u.ID == "" || ids[u.ID] {
				return c, fmt.Errorf("ghlsim config: location %s: user %d: id %q is empty or taken", l.ID, j, u.ID)
			}
			ids[u.ID] = true
		}
		if _, err := time.LoadLocation(l.Timezone); err != nil {
			return c, fmt.Errorf("ghlsim config: location %s: timezone: %w", l.ID, err)
		}
		locations[i] = l
	}
	c.Locations = locations
	for i, t := range c.Tokens {
		if t.Value == "" {
			return c, fmt.Errorf("ghlsim config: token %d: empty value", i)
		}
		if !seen[t.LocationID] {
			return c, fmt.Errorf("ghlsim config: token %d: no location %q", i, t.LocationID)
		}
	}
	w := &c.Webhook
	if n := len(w.PrivateKey); n != 0 && n != ed25519.PrivateKeySize {
		return c, fmt.Errorf("ghlsim config: webhook private key has %d bytes, not %d", n, ed25519.PrivateKeySize)
	}
	if w.MinDelay < 0 || w.MaxDelay < 0 {
		return c, errors.New("ghlsim config: negative webhook delay")
	}
	w.MaxDelay = max(w.MaxDelay, w.MinDelay)
	if c.App != nil {
		a := *c.App
		if a.ClientID == "" || a.ClientSecret == "" || a.RedirectURL == "" {
			return c, errors.New("ghlsim config: the app lacks its client id, client secret or redirect URL")
		}
		orDefault(&a.CompanyID, "simcompany")
		orDefault(&a.Lifetime, 86399*time.Second)
		id, _, _ := strings.Cut(a.ClientID, "-")
		orDefault(&w.AppID, id)
		c.App = &a
	}
	orDefault(&w.AppID, "simapp")
	orDefault(&w.Retry, RetryNon2xx)
	switch w.Retry {
	case RetryNon2xx:
		orDefault(&w.RetryBase, time.Minute)
	case Retry429:
		orDefault(&w.RetryBase, 10*time.Minute)
	default:
		return c, fmt.Errorf("ghlsim config: webhook retry policy %q is unknown", w.Retry)
	}
	orDefault(&w.Timeout, 5*time.Second)
	orDefault(&w.Workers, 4)
	orDefault(&w.QueueMax, 200_000)
	orDefault(&c.Burst, 100)
	orDefault(&c.BurstWindow, 10*time.Second)
	orDefault(&c.Daily, 200_000)
	orDefault(&c.IndexLag, 2*time.Second)
	c.IndexLag = max(c.IndexLag, 0)
	orDefault(&c.LedgerMax, 1_000_000)
	if c.Burst < 0 || c.BurstWindow < 0 || c.Daily < 0 || c.LedgerMax < 0 || w.Workers < 0 ||
		w.QueueMax < 0 || w.Timeout < 0 || w.RetryBase < 0 {
		return c, errors.New("ghlsim config: a limit is negative")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c, nil
}

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}
