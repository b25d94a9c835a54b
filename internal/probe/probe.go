// Package probe looks whether a tenant's configuration fits the two systems as
// they are: credentials, scopes, paths, names of fields, settings, clocks. It
// only reads, but for a record that it is told to write unchanged. What it
// reports holds ids and names of fields, never a record's values.
package probe

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/agnivade/levenshtein"
	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/ghlapi"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/internal/noviapi"
	"github.com/causeway-sync/causeway/schemas/canonical"
)

// Result is what a check came to.
type Result string

// The results, from good to bad. Bad says that something would not work.
const (
	OK   Result = "ok"
	Note Result = "note" // worth knowing
	Warn Result = "warn" // it works, and perhaps not as it is meant to
	Bad  Result = "bad"
)

// Check is one thing that was looked at.
type Check struct {
	System canonical.System `json:"system"`
	Name   string           `json:"name"`
	Result Result           `json:"result"`
	Detail string           `json:"detail,omitempty"`
}

// Report is what a tenant's probe came to.
type Report struct {
	Tenant canonical.Tenant `json:"tenant"`
	Checks []Check          `json:"checks"`
	// Diff are the changes of the tenant's file that are suggested, as lines
	// that begin with - or +.
	Diff []string `json:"diff,omitempty"`
}

// Good reports whether everything would work.
func (r Report) Good() bool {
	return !slices.ContainsFunc(r.Checks, func(c Check) bool { return c.Result == Bad })
}

// Config says what to probe.
type Config struct {
	Tenant canonical.Tenant
	Lens   *mapping.Lens
	Clock  clock.Clock
	// GHL and Novi read the two systems; nil means that the tenant has none.
	GHL  *ghlapi.Client
	Novi *noviapi.Client
	// Dates are what the systems' answers said of the time; nil is not looked at.
	Dates map[canonical.System]*Dates
	// Skew is how far a system's clock may be off; 0 means 2 s.
	Skew time.Duration
	// Activities and Groups say that the Novi site is said to have them, and
	// Webhooks that it is to send them.
	Activities, Groups, Webhooks bool
	// Write names the record of each system that may be written unchanged.
	Write map[canonical.System]string
}

// Dates is a transport that notes how far the clock of whoever answers is off.
type Dates struct {
	Base  http.RoundTripper
	Clock clock.Clock

	mu   sync.Mutex
	seen bool
	off  time.Duration // of the last answer
}

// RoundTrip implements [http.RoundTripper].
func (d *Dates) RoundTrip(r *http.Request) (*http.Response, error) {
	began := d.Clock.Now()
	res, err := d.Base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if at, err := http.ParseTime(res.Header.Get("Date")); err == nil {
		ended := d.Clock.Now()
		d.mu.Lock()
		// The header has whole seconds, cut off.
		d.seen, d.off = true, at.Add(500*time.Millisecond).Sub(began.Add(ended.Sub(began)/2))
		d.mu.Unlock()
	}
	return res, nil
}

// lane is the last one: what is live goes before.
const lane = budget.Backfill

type probe struct {
	Config
	report Report
}

// Run probes a tenant. An error says that it could not be probed at all; what
// would not work is in the report.
func Run(ctx context.Context, cfg Config) (Report, error) {
	if cfg.Skew == 0 {
		cfg.Skew = 2 * time.Second
	}
	p := &probe{Config: cfg, report: Report{Tenant: cfg.Tenant, Checks: []Check{}}}
	if cfg.GHL != nil {
		p.ghl(ctx)
	}
	if cfg.Novi != nil {
		p.novi(ctx)
	}
	for _, system := range slices.Sorted(maps.Keys(cfg.Dates)) {
		p.skew(system, cfg.Dates[system])
	}
	return p.report, context.Cause(ctx)
}

func (p *probe) add(system canonical.System, name string, r Result, format string, args ...any) {
	p.report.Checks = append(p.report.Checks, Check{System: system, Name: name, Result: r, Detail: fmt.Sprintf(format, args...)})
}

// try adds what a call came to, and reports whether it worked.
func (p *probe) try(system canonical.System, name, hint string, err error) bool {
	if err == nil {
		p.add(system, name, OK, "")
		return true
	}
	detail := err.Error()
	var api *apierr.Error
	if errors.As(err, &api) && hint != "" && (api.Class == apierr.Forbidden || api.Class == apierr.Refresh || api.Class == apierr.Gone) {
		detail += "; it needs " + hint
	}
	p.add(system, name, Bad, "%s", detail)
	return false
}

func (p *probe) skew(system canonical.System, d *Dates) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch off := d.off.Abs(); {
	case !d.seen:
		p.add(system, "clock", Note, "no answer had a Date")
	case off > p.Skew+time.Second:
		p.add(system, "clock", Warn, "its clock is off by about %s from this machine's; mapping.clock_skew says how much is tolerated (%s)", d.off.Round(time.Second), p.Skew)
	default:
		p.add(system, "clock", OK, "")
	}
}

func (p *probe) ghl(ctx context.Context) {
	const s = canonical.GHL
	location, err := p.GHL.GetLocation(ctx, lane)
	if p.try(s, "location", "a token of this location with locations.readonly", err) {
		if location.Settings.AllowDuplicateContact {
			p.add(s, "duplicates", Warn, "the location allows duplicated contacts: GHL won't say of a create that the person is there")
		}
		p.add(s, "time zone", Note, "%s", location.Timezone)
	}
	found, err := p.GHL.SearchContacts(ctx, lane, ghlapi.SearchRequest{PageLimit: 1, Sort: []ghlapi.Sort{{Field: "dateUpdated", Direction: "desc"}}})
	p.try(s, "contacts", "contacts.readonly", err)
	_, err = p.GHL.SearchTasks(ctx, lane, ghlapi.TaskSearch{Limit: 1})
	p.try(s, "tasks", "locations/tasks.readonly", err)
	_, err = p.GHL.LocationTags(ctx, lane)
	p.try(s, "tags", "locations/tags.readonly", err)
	_, err = p.GHL.Users(ctx, lane)
	p.try(s, "users", "users.readonly", err)
	if len(found.Contacts) > 0 {
		id := found.Contacts[0].ID
		_, err = p.GHL.GetContact(ctx, lane, id)
		p.try(s, "one contact", "contacts.readonly", err)
		_, err = p.GHL.Notes(ctx, lane, id)
		p.try(s, "notes", "contacts.readonly", err)
		_, err = p.GHL.ContactAppointments(ctx, lane, id)
		p.try(s, "appointments", "contacts.readonly and calendars/events.readonly", err)
		if found.Contacts[0].Modified.IsZero() {
			p.add(s, "modified time", Bad, "dateUpdated of the search can't be read, so polls would see nothing")
		}
	} else if err == nil {
		p.add(s, "one contact", Note, "there is none, so not everything could be looked at")
	}
	fields, err := p.GHL.CustomFields(ctx, lane)
	if p.try(s, "custom fields", "locations/customFields.readonly", err) {
		var keys []string
		for _, f := range fields {
			keys = append(keys, f.FieldKey)
		}
		p.customs(s, keys, p.Lens.GHLRef)
	}
	if id := p.Write[s]; id != "" {
		p.writeGHL(ctx, id)
	}
}

// customs compares the custom fields of the mapping with those that there are.
func (p *probe) customs(system canonical.System, there []string, more ...string) {
	wanted := map[string]bool{}
	for _, b := range p.Lens.Bindings {
		if key, ok := strings.CutPrefix(b.Side(system).Path, mapping.CustomPath); ok {
			wanted[key] = true
		}
	}
	for _, key := range more {
		if key != "" {
			wanted[key] = true
		}
	}
	for _, key := range slices.Sorted(maps.Keys(wanted)) {
		if slices.Contains(there, key) {
			p.add(system, "custom field "+key, OK, "")
			continue
		}
		p.missing(system, "custom field "+key, mapping.CustomPath, key, there)
	}
}

// missing adds that a name of the mapping is not there, and suggests the nearest
// that is.
func (p *probe) missing(system canonical.System, name, prefix, key string, there []string) {
	near := nearest(key, there)
	if near == "" {
		p.add(system, name, Bad, "there is none")
		return
	}
	p.add(system, name, Bad, "there is none; the nearest is %q", near)
	p.report.Diff = append(p.report.Diff, fmt.Sprintf("- %s: %q", system, prefix+key), fmt.Sprintf("+ %s: %q", system, prefix+near))
}

// nearest returns the name that differs least from key, "" if none is like it.
func nearest(key string, names []string) string {
	best, least := "", len(key)/2+1
	for _, n := range names {
		if d := levenshtein.ComputeDistance(strings.ToLower(key), strings.ToLower(n)); d < least {
			best, least = n, d
		}
	}
	return best
}

func (p *probe) novi(ctx context.Context) {
	const s = canonical.Novi
	found, err := p.Novi.ListMembers(ctx, lane, noviapi.ListRequest{PageSize: 20})
	p.try(s, "members", "the key, and novi.base_url and paths.members to be right", err)
	if len(found.Members) > 0 {
		m, err := p.Novi.GetMember(ctx, lane, found.Members[0].ID)
		if p.try(s, "one member", "paths.member to be right", err) {
			p.names(m)
		}
		if found.Members[0].Modified.IsZero() {
			p.add(s, "modified time", Bad, "LastUpdatedDate can't be read, so polls would see nothing")
		}
	} else if err == nil {
		p.add(s, "one member", Note, "there is none, so not everything could be looked at")
	}
	if found.TotalCount < 0 && err == nil {
		p.add(s, "total", Note, "lists don't say how many there are: an empty page in the middle looks like the end")
	}
	fields, err := p.Novi.CustomFields(ctx, lane)
	if p.try(s, "custom fields", "paths.custom_fields to be right", err) {
		var names []string
		for _, f := range fields {
			names = append(names, f.Name)
		}
		p.customs(s, names, p.Lens.Tags.NoviField)
	}
	if p.Activities {
		types, err := p.Novi.ActivityTypes(ctx, lane)
		if p.try(s, "activity types", "paths.activity_types to be right", err) && !slices.ContainsFunc(types, func(t noviapi.ActivityType) bool { return t.Task }) {
			p.add(s, "activity types", Warn, "none is for tasks, so no task can be made")
		}
		_, err = p.Novi.ListActivities(ctx, lane, noviapi.ActivityRequest{PageSize: 1})
		p.try(s, "activities", "paths.activities to be right", err)
	}
	if p.Groups && p.Lens.Tags.GroupPrefix != "" {
		_, err = p.Novi.Groups(ctx, lane)
		p.try(s, "groups", "paths.groups to be right", err)
	}
	if p.Webhooks {
		hooks, err := p.Novi.Webhooks(ctx, lane)
		if p.try(s, "webhooks", "paths.webhooks to be right", err) && !slices.ContainsFunc(hooks, func(h noviapi.Webhook) bool { return h.Active }) {
			p.add(s, "webhooks", Warn, "none is registered, or none is active")
		}
	}
	if id := p.Write[s]; id != "" {
		p.writeNovi(ctx, id)
	}
}

// names looks whether a member has the keys that the mapping names.
func (p *probe) names(m noviapi.Record) {
	var record map[string]json.RawMessage
	if err := json.Unmarshal(m.Raw, &record); err != nil {
		p.add(canonical.Novi, "fields", Bad, "a member is no JSON object")
		return
	}
	there := slices.Sorted(maps.Keys(record))
	seen := map[string]bool{}
	for _, b := range p.Lens.Bindings {
		top, _, _ := strings.Cut(b.Novi.Path, ".")
		if top == "" || strings.HasPrefix(b.Novi.Path, mapping.CustomPath) || seen[top] {
			continue
		}
		if seen[top] = true; !slices.Contains(there, top) {
			p.missing(canonical.Novi, "field "+top, "", top, there)
		}
	}
	p.add(canonical.Novi, "fields", OK, "%d of the mapping's keys were looked for", len(seen))
}

// stamps are what a write of the same values may change.
var stamps = []string{"LastUpdatedDate", "LastSegmentUpdatedDate", "dateUpdated"}

// differ names the keys in which two records differ, but for stamps.
func differ(a, b json.RawMessage) []string {
	var x, y map[string]any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return []string{"everything"}
	}
	keys := map[string]bool{}
	for k := range x {
		keys[k] = true
	}
	for k := range y {
		keys[k] = true
	}
	return slices.DeleteFunc(slices.Sorted(maps.Keys(keys)), func(k string) bool {
		return slices.Contains(stamps, k) || reflect.DeepEqual(x[k], y[k])
	})
}

func (p *probe) writeNovi(ctx context.Context, id string) {
	const s, name = canonical.Novi, "write"
	before, err := p.Novi.GetMemberToPut(ctx, budget.Live, id)
	if err == nil {
		_, err = p.Novi.PutMember(ctx, budget.Live, id, before.Raw)
	}
	var after noviapi.Record
	if err == nil {
		after, err = p.Novi.GetMember(ctx, lane, id)
	}
	p.written(s, name, err, before.Raw, after.Raw)
}

func (p *probe) writeGHL(ctx context.Context, id string) {
	const s, name = canonical.GHL, "write"
	before, err := p.GHL.GetContact(ctx, lane, id)
	if err == nil {
		var record struct {
			FirstName string `json:"firstName"`
		}
		if err = json.Unmarshal(before.Raw, &record); err == nil {
			_, err = p.GHL.UpdateContact(ctx, budget.Live, id, map[string]any{"firstName": record.FirstName})
		}
	}
	var after ghlapi.Record
	if err == nil {
		after, err = p.GHL.GetContact(ctx, lane, id)
	}
	p.written(s, name, err, before.Raw, after.Raw)
}

func (p *probe) written(s canonical.System, name string, err error, before, after json.RawMessage) {
	if err != nil {
		p.try(s, name, "a key that may write", err)
		return
	}
	if keys := differ(before, after); len(keys) > 0 {
		p.add(s, name, Bad, "writing a record as it was has changed %s", strings.Join(keys, ", "))
		return
	}
	p.add(s, name, OK, "a record that was written as it was is as it was")
}
