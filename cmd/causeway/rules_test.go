package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/config"
	"github.com/causeway-sync/causeway/internal/rehearse"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/streams"
)

const ruled = `tenants:
  - name: guild
    ghl: {location: l, token: env:T}
    rules:
      - {name: welcome, when: "after.membership.active", do: [{task: {title: "Welcome {after.first_name}"}}, {workflow: w1}]}
      - {name: renewal, date: {field: membership.expires, days_before: 30}, do: [{add_tag: renew}]}
`

func tenantOf(t *testing.T, text string) config.Tenant {
	t.Helper()
	path := filepath.Join(t.TempDir(), "causeway.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return f.Tenants[0]
}

func TestWouldFire(t *testing.T) {
	c := bustest.Start(t)
	tenant := tenantOf(t, ruled)
	now := time.Now()
	says := func(version uint64, expires string, changes ...canonical.Change) {
		e := canonical.NewEvent(canonical.KindContact, "ada")
		e.Version, e.Contact.FirstName, e.Contact.Membership.Active, e.Contact.Membership.Expires, e.Changes = version, "Ada", version > 1, expires, changes
		data, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Publish(t.Context(), bus.Message{Subject: streams.Canonical(canonical.KindContact, "guild", "ada", canonical.OpUpdated), Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	says(1, "", canonical.Change{Field: "first_name", To: "Ada"})
	says(2, now.AddDate(0, 0, 29).UTC().Format(time.DateOnly), canonical.Change{Field: "membership.active", To: "true"})
	before, err := c.Last(t.Context(), streams.CANONICAL, streams.Contacts("guild"))
	if err != nil {
		t.Fatal(err)
	}
	found, err := rehearse.Run(t.Context(), c, tenant.Name, tenant.Automations(), tenant.Zone(), now.Add(-48*time.Hour), now)
	if err != nil || len(found) != 2 {
		t.Fatalf("got %+v %v", found, err)
	}
	got := []tested{{tenant.Name, found[0]}, {tenant.Name, found[1]}}
	var out strings.Builder
	if err := printTested(&out, got); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`ada  2        task "Welcome Ada", workflow "w1"`, `ada  2        add tag "renew"`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s\nlacks %q", &out, want)
		}
	}
	after, err := c.Last(t.Context(), streams.CANONICAL, streams.Contacts("guild"))
	if err != nil || after.Seq != before.Seq || len(bustest.All(t, c, streams.RAW)) > 0 {
		t.Errorf("something was done: %v", err)
	}
}

func TestPrintRules(t *testing.T) {
	var list []listedRule
	tenant := tenantOf(t, ruled)
	for _, r := range tenant.Automations() {
		list = append(list, listedRule{tenant.Name, r.Name, r.Kind, r.When, r.Date.String(), r.OnBackfill, r.Does()})
	}
	var out strings.Builder
	if err := printRules(&out, list); err != nil {
		t.Fatal(err)
	}
	want := `TENANT  RULE     KIND     DOES               WHEN
guild   welcome  contact  task, workflow w1  after.membership.active
guild   renewal  contact  add tag renew      30 days before membership.expires
`
	if out.String() != want {
		t.Errorf("got\n%s", &out)
	}
}

func TestDuration(t *testing.T) {
	for text, want := range map[string]string{"7d": "168h0m0s", "1d12h": "36h0m0s", "90m": "1h30m0s", "0s": "0s", "x": "error", "-1h": "error", "d": "error", "1w": "error"} {
		d, err := parseDuration(text)
		got := d.String()
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}
