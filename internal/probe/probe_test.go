package probe_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/ghlapi"
	"github.com/causeway-sync/causeway/internal/ghlsim"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/internal/noviapi"
	"github.com/causeway-sync/causeway/internal/novisim"
	"github.com/causeway-sync/causeway/internal/probe"
	"github.com/causeway-sync/causeway/schemas/canonical"
)

const secret = "pit-5ec2e7-0123456789"

// tenant is two simulated systems as a test plants faults in them.
type tenant struct {
	ghl       ghlsim.Config
	novi      novisim.Config
	key       string // what Novi is told
	paths     noviapi.Paths
	ahead     time.Duration // of Novi's clock
	lens      *mapping.Lens
	write     bool
	webhooks  bool
	clobbered bool // a PUT to Novi changes something
}

// sound is a tenant without faults.
func sound() *tenant {
	lens := mapping.Association("US")
	t := &tenant{key: secret, lens: lens}
	t.ghl = ghlsim.Config{Seed: 1, IndexLag: -1, Locations: []ghlsim.Location{{ID: "loc1"}}, Tokens: []ghlsim.Token{{Value: secret, LocationID: "loc1", Scopes: ghlsim.AllScopes()}}}
	t.novi = novisim.Config{Keys: []string{secret}, Seed: 1}
	fields := map[string]bool{lens.GHLRef: true}
	for _, b := range lens.Bindings {
		if key, ok := strings.CutPrefix(b.GHL.Path, mapping.CustomPath); ok {
			fields[key] = true
		}
		if name, ok := strings.CutPrefix(b.Novi.Path, mapping.CustomPath); ok {
			t.novi.CustomFields = append(t.novi.CustomFields, novisim.CustomField{UniqueID: "f-" + name, Name: name, TypeName: "Text"})
		}
	}
	delete(fields, "")
	for key := range fields {
		t.ghl.Locations[0].CustomFields = append(t.ghl.Locations[0].CustomFields, ghlsim.CustomField{ID: "cf-" + key, Key: key, Name: key})
	}
	if name := lens.Tags.NoviField; name != "" {
		t.novi.CustomFields = append(t.novi.CustomFields, novisim.CustomField{UniqueID: "f-tags", Name: name, TypeName: "Text"})
	}
	return t
}

func (x *tenant) probe(t *testing.T) probe.Report {
	t.Helper()
	ghl, err := ghlsim.New(x.ghl)
	if err != nil {
		t.Fatal(err)
	}
	novi, err := novisim.New(x.novi)
	if err != nil {
		t.Fatal(err)
	}
	contact, err := ghl.Edit(ghlsim.Edit{Kind: ghlsim.EditCreate, LocationID: "loc1", Fields: map[string]any{"firstName": "Ada", "email": "ada@example.org"}})
	if err != nil {
		t.Fatal(err)
	}
	member, err := novi.Edit(novisim.Edit{Fields: map[string]any{"Name": "Ada Imhof", "Email": "ada@example.org"}})
	if err != nil {
		t.Fatal(err)
	}
	before := len(ghl.Ledger()) + len(novi.Ledger())
	g := httptest.NewServer(ghl.Handler())
	t.Cleanup(g.Close)
	n := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", time.Now().Add(x.ahead).UTC().Format(http.TimeFormat))
		novi.Handler().ServeHTTP(w, r)
		if r.Method == http.MethodPut && x.clobbered {
			if _, err := novi.Edit(novisim.Edit{MemberID: member, Fields: map[string]any{"JobTitle": "Guide"}}); err != nil {
				t.Error(err)
			}
		}
	}))
	t.Cleanup(n.Close)
	cfg := probe.Config{Tenant: "a", Lens: x.lens, Clock: clock.System{}, Activities: true, Groups: true, Webhooks: x.webhooks, Dates: map[canonical.System]*probe.Dates{}}
	client := func(s canonical.System) *http.Client {
		cfg.Dates[s] = &probe.Dates{Base: http.DefaultTransport, Clock: clock.System{}}
		return &http.Client{Transport: cfg.Dates[s], Timeout: 10 * time.Second}
	}
	cfg.GHL = ghlapi.New(ghlapi.Config{BaseURL: g.URL, LocationID: "loc1", Clock: clock.System{}, HTTP: client(canonical.GHL), Token: func(context.Context) (string, error) { return secret, nil }})
	cfg.Novi = noviapi.New(noviapi.Config{BaseURL: n.URL, Clock: clock.System{}, HTTP: client(canonical.Novi), Key: func(context.Context) (string, error) { return x.key, nil }, Paths: x.paths})
	if x.write {
		cfg.Write = map[canonical.System]string{canonical.GHL: contact, canonical.Novi: member}
	}
	report, err := probe.Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if after := len(ghl.Ledger()) + len(novi.Ledger()); !x.write && after != before {
		t.Errorf("it has changed %d records", after-before)
	}
	for _, c := range report.Checks {
		if strings.Contains(c.Detail, secret) || strings.Contains(c.Detail, "Imhof") || strings.Contains(c.Detail, "ada@") {
			t.Errorf("it shows what it must not: %+v", c)
		}
	}
	return report
}

func TestProbe(t *testing.T) {
	tests := []struct {
		name   string
		plant  func(*tenant)
		system canonical.System
		check  string
		result probe.Result
		says   string // part of the detail
		diff   []string
	}{
		{"nothing is wrong", func(*tenant) {}, "", "", probe.OK, "", nil},
		{"a wrong key", func(x *tenant) { x.key = "other" }, canonical.Novi, "members", probe.Bad, "401", nil},
		{"a token that reaches nothing", func(x *tenant) { x.ghl.Tokens[0].Value = "other" }, canonical.GHL, "location", probe.Bad, "401", nil},
		{"a scope is missing", func(x *tenant) {
			x.ghl.Tokens[0].Scopes = slices.DeleteFunc(ghlsim.AllScopes(), func(s string) bool { return strings.HasPrefix(s, "locations/tasks") })
		}, canonical.GHL, "tasks", probe.Bad, "locations/tasks.readonly", nil},
		{"a GHL custom field has another key", func(x *tenant) {
			for i, f := range x.ghl.Locations[0].CustomFields {
				if f.Key == "contact.member_since" {
					x.ghl.Locations[0].CustomFields[i].Key = "contact.member_sinse"
				}
			}
		}, canonical.GHL, "custom field contact.member_since", probe.Bad, "contact.member_sinse",
			[]string{`- ghl: "custom:contact.member_since"`, `+ ghl: "custom:contact.member_sinse"`}},
		{"the tags' field is missing in Novi", func(x *tenant) { x.novi.CustomFields = []novisim.CustomField{} }, canonical.Novi, "custom field GHL Tags", probe.Bad, "there is none", nil},
		{"a Novi field is spelled otherwise", func(x *tenant) {
			l := *x.lens
			l.Bindings = slices.Clone(l.Bindings)
			i := slices.IndexFunc(l.Bindings, func(b mapping.Binding) bool { return b.Novi.Path == "JobTitle" })
			l.Bindings[i].Novi.Path = "JobTitel"
			x.lens = &l
		}, canonical.Novi, "field JobTitel", probe.Bad, "JobTitle", []string{`- novi: "JobTitel"`, `+ novi: "JobTitle"`}},
		{"a path is elsewhere", func(x *tenant) { x.paths = noviapi.Paths{"activities": "/api/old-activities"} }, canonical.Novi, "activities", probe.Bad, "paths.activities", nil},
		{"a clock is ahead", func(x *tenant) { x.ahead = 3 * time.Minute }, canonical.Novi, "clock", probe.Warn, "3m0s", nil},
		{"duplicates are allowed", func(x *tenant) { x.ghl.Locations[0].AllowDuplicates = true }, canonical.GHL, "duplicates", probe.Warn, "", nil},
		{"no webhook is registered", func(x *tenant) { x.webhooks = true }, canonical.Novi, "webhooks", probe.Warn, "", nil},
		{"a write leaves all as it was", func(x *tenant) { x.write = true }, canonical.Novi, "write", probe.OK, "", nil},
		{"a write changes something", func(x *tenant) { x.write, x.clobbered = true, true }, canonical.Novi, "write", probe.Bad, "JobTitle", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x := sound()
			tt.plant(x)
			r := x.probe(t)
			if want := tt.result != probe.Bad; r.Good() != want {
				t.Errorf("good is %t: %+v", r.Good(), r.Checks)
			}
			if tt.check == "" {
				for _, c := range r.Checks {
					if c.Result != probe.OK && c.Result != probe.Note {
						t.Errorf("got %+v", c)
					}
				}
				return
			}
			i := slices.IndexFunc(r.Checks, func(c probe.Check) bool {
				return c.System == tt.system && c.Name == tt.check && c.Result == tt.result && strings.Contains(c.Detail, tt.says)
			})
			if i < 0 || !slices.Equal(r.Diff, tt.diff) {
				t.Errorf("got %+v, suggested %q", r.Checks, r.Diff)
			}
		})
	}
}
