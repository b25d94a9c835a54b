// Package novisim is a simulated Novi AMS site: real HTTP with the API's
// paths, bodies, statuses, limits and webhooks as far as they are known, an
// admin API to edit as a person would, and a ledger of everything that
// changed. It is for `causeway dev` and for tests; what talks to it must not
// know that it is no real site.
//
// README.md marks each invention. It keeps everything in memory.
package novisim

import (
	"fmt"
	"time"

	"github.com/rs/zerolog"
)

// Config is what a Server is made of.
type Config struct {
	// Keys that are accepted, sent verbatim after "Basic ".
	Keys []string
	// Hidden are the top-level keys of a member that a key does not show, by
	// key. What a PUT with it lacks becomes null all the same.
	Hidden map[string][]string
	// CustomFields of members; a value of another name is refused.
	CustomFields []CustomField
	// Groups of members; hand-picked ones have no condition.
	Groups []Group
	// GroupCategories, MemberTypes, Committees, CommitteeRoles, Events and
	// EventCategories are what their lists show.
	GroupCategories []Category
	MemberTypes     []MemberType
	Committees      []Committee
	CommitteeRoles  []Category
	Events          []Event
	EventCategories []EventCategory
	// NoEvents are keys without event access: 403 for everything about events.
	NoEvents []string
	// RequiredFields are those that a member has to have, by their dotted names;
	// a POST or PUT that leaves one empty is 400, whether it touched it or not.
	RequiredFields []string
	// ActivityTypes of activities. Default Note, Call, Email, Meeting, Task and
	// a custom one for things to do, "Onboarding step".
	ActivityTypes []ActivityType
	// SystemActivities puts one of Novi's own activities on each new member.
	SystemActivities bool
	// Timezone that stamps are shown in. Default America/New_York if the
	// machine knows it, else UTC.
	Timezone *time.Location
	Webhook  WebhookConfig
	// Limits of the key, sliding. Default 20, 600 and 100,000.
	PerSecond, PerMinute, PerDay int
	Quirks                       Quirks
	// Seed makes ids, delays and faults repeatable.
	Seed int64
	// Now is the clock for stamps and limits. Default time.Now. Waiting is on
	// the machine's clock.
	Now    func() time.Time
	Logger zerolog.Logger
}

// CustomField is a definition.
type CustomField struct {
	UniqueID string `json:"CustomFieldUniqueID"`
	Name     string `json:"Name"`
	TypeName string `json:"TypeName"`
}

// Group is a segment of the members: by condition, or hand-picked.
type Group struct {
	UniqueID  string
	Name      string
	Condition *Condition
}

// Condition is what a member must meet to be in a group.
type Condition struct {
	Field string // a top-level field, or "CustomFields.<name>"
	Op    string // eq or contains
	Value string
}

// ActivityType is a type that activities may have.
type ActivityType struct {
	UniqueID   string `json:"UniqueID"`
	Name       string `json:"Name"`
	Slug       string `json:"Slug"`
	Icon       string `json:"Icon"`
	Active     bool   `json:"Active"`
	SystemType bool   `json:"SystemType"`
	Task       bool   `json:"Task"` // of something to do
}

// Category is something with a name only.
type Category struct {
	UniqueID string `json:"UniqueID"`
	Name     string `json:"Name"`
}

// MemberType is a type of membership.
type MemberType struct {
	UniqueID     string `json:"UniqueID"`
	Name         string `json:"Name"`
	Description  string `json:"Description"`
	ForCompanies bool   `json:"ForCompanies"`
}

// Committee is a body that members sit on.
type Committee struct {
	UniqueID, Name string
	Inactive       bool
}

// Event is a public event that people register for.
type Event struct {
	UniqueID, Name, Place string
	Start, End            time.Time
	Category              int // id of an EventCategory
}

// EventCategory is what events are filed under.
type EventCategory struct {
	ID     int    `json:"ID"`
	Name   string `json:"Name"`
	Active bool   `json:"Active"`
}

var defaultTypes = []ActivityType{
	{UniqueID: "3e9d0000-0000-4000-8000-000000000001", Name: "Note", Slug: "note", Active: true, SystemType: true},
	{UniqueID: "3e9d0000-0000-4000-8000-000000000002", Name: "Call", Slug: "call", Active: true, SystemType: true},
	{UniqueID: "3e9d0000-0000-4000-8000-000000000003", Name: "Email", Slug: "email", Active: true, SystemType: true},
	{UniqueID: "3e9d0000-0000-4000-8000-000000000004", Name: "Meeting", Slug: "meeting", Active: true, SystemType: true},
	{UniqueID: "3e9d0000-0000-4000-8000-000000000005", Name: "Task", Slug: "task", Active: true, SystemType: true, Task: true},
	{UniqueID: "3e9d0000-0000-4000-8000-000000000006", Name: "Onboarding step", Slug: "onboarding-step", Active: true, Task: true},
}

// WebhookConfig says where events go.
type WebhookConfig struct {
	URL string // "" means none
	// Secret signs X-Novi-Signature (hex HMAC-SHA256); "" means unsigned.
	Secret string
	// MinDelay and MaxDelay bound the time from a change to its delivery.
	// Default 1 s to 3 s.
	MinDelay, MaxDelay time.Duration
	// RetryScale scales the retries at 1, 5, 30, 120 and 600 s. Default 1.
	RetryScale float64
}

// Quirks are switches; the zero value is the pessimistic reading.
type Quirks struct {
	// ExactModifiedFilter makes lastModifiedDate filter by the instant rather
	// than by the day.
	ExactModifiedFilter bool
	// PlainPhones stores phone numbers as sent instead of showing a number of
	// +1 and ten digits as (555) 123-4567.
	PlainPhones bool
	// QuietUnchangedPut makes a PUT that changes nothing leave LastUpdatedDate
	// and the webhooks alone.
	QuietUnchangedPut bool
	// ActivitiesByMember makes the list of activities take memberUniqueId.
	ActivitiesByMember bool
	// GroupWrites serves POST and DELETE of /groups/{id}/members/{member} for
	// hand-picked groups, which is in no evidence.
	GroupWrites bool
}

// Faults are what goes wrong on purpose. Probabilities are from 0 to 1.
type Faults struct {
	WebhookDrop      float64
	WebhookDuplicate float64
	WebhookDelay     float64 // chance of waiting up to WebhookDelayMax longer
	WebhookDelayMax  time.Duration
	API429           float64
	API5xx           float64 // 500, 502 or 503; nothing is done
	APIPage          float64 // an HTML page with status 200; nothing is done
	APITruncated     float64 // half of the answer to a read
	ResetAfterCommit float64 // a write is done and its connection closed
	Latency          time.Duration
}

// The default limits of a key (dossier Novi §3.5, D3).
const (
	defaultPerSecond = 20
	defaultPerMinute = 600
	defaultPerDay    = 100_000
)

func (c Config) withDefaults() (Config, error) {
	if len(c.Keys) == 0 {
		return c, fmt.Errorf("novisim config: no keys")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Timezone == nil {
		c.Timezone = time.UTC
		if tz, err := time.LoadLocation("America/New_York"); err == nil {
			c.Timezone = tz
		}
	}
	for _, d := range []struct {
		v *int
		d int
	}{{&c.PerSecond, defaultPerSecond}, {&c.PerMinute, defaultPerMinute}, {&c.PerDay, defaultPerDay}} {
		if *d.v == 0 {
			*d.v = d.d
		}
	}
	if c.Webhook.MaxDelay == 0 {
		c.Webhook.MinDelay, c.Webhook.MaxDelay = time.Second, 3*time.Second
	}
	if c.Webhook.RetryScale == 0 {
		c.Webhook.RetryScale = 1
	}
	if c.ActivityTypes == nil {
		c.ActivityTypes = defaultTypes
	}
	seen := map[string]bool{}
	for _, f := range c.CustomFields {
		if f.Name == "" || seen[f.Name] {
			return c, fmt.Errorf("novisim config: custom field name %q is empty or taken", f.Name)
		}
		seen[f.Name] = true
	}
	return c, nil
}
