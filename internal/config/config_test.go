package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/causeway-sync/causeway/internal/config"
	"github.com/causeway-sync/causeway/schemas/canonical"
)

const good = `tenants:
  - name: alpine-guild
    ghl:
      location: loc1
      token: env:GHL_TOKEN
    novi:
      base_url: https://novi.example.org
      key: file:novi.key
      create: never
`

// mapped is a contact mapping in flow style, to go after good.
func mapped(contact string) string { return "    mapping: {contact: {" + contact + "}}\n" }

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "causeway.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDefaults(t *testing.T) {
	f, err := config.Load(write(t, good))
	if err != nil {
		t.Fatal(err)
	}
	tenant := f.Tenants[0]
	if f.NATS.URL != "nats://127.0.0.1:4222" || *tenant.GHL.Poll != time.Minute || *tenant.Novi.Poll != 5*time.Minute ||
		tenant.Policy().CreateGHL.String() != "always" || tenant.Policy().CreateNovi.String() != "never" || !*tenant.Backfill || tenant.GHL.Limits.Windows[0].Calls != 100 || tenant.Novi.Limits.Daily != 100_000 {
		t.Errorf("got %+v %+v %+v", f, tenant.GHL, tenant.Novi)
	}
}

// TestErrors: one line that names the file, the key and the problem, and that
// never shows a secret.
func TestErrors(t *testing.T) {
	swap := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("%q is not in the good file", old)
		}
		return strings.Replace(good, old, new, 1)
	}
	tests := []struct{ name, text, want string }{
		{"empty", "", "tenants"},
		{"no YAML", "tenants: [", "causeway.yaml"},
		{"unknown key", swap("location: loc1", "locaton: loc1"), "locaton"},
		{"unknown key at the top", good + "natz: {}\n", "natz"},
		{"wrong type", swap("create: never", "create: never\n      poll: soon"), "soon"},
		{"bad slug", swap("alpine-guild", "Alpine Guild"), "tenants[0].name"},
		{"taken name", good + strings.TrimPrefix(good, "tenants:\n"), "tenants[1].name"},
		{"neither system", "tenants:\n  - name: a\n", "tenants[0] (a).ghl, novi"},
		{"no location", swap("location: loc1", "create: always"), "ghl.location"},
		{"no token", swap("token: env:GHL_TOKEN", "create: always"), "ghl.token"},
		{"a secret in plain", swap("env:GHL_TOKEN", "pit-0123456789abcdef"), "ghl.token"},
		{"a secret of no kind", swap("file:novi.key", "vault:novi"), "novi.key"},
		{"a next secret in plain", swap("token: env:GHL_TOKEN", "token: env:GHL_TOKEN\n      token_next: pit-0123456789abcdef"), "ghl.token_next"},
		{"a next key in plain", swap("key: file:novi.key", "key: file:novi.key\n      key_next: '0123456789abcdef'"), "novi.key_next"},
		{"a secret in a list", swap("env:GHL_TOKEN", "[pit-0123456789abcdef]"), "causeway.yaml:5"},
		{"a password in a URL", swap("https://novi.example.org", "https://me:0123456789@novi.example.org"), "novi.base_url"},
		{"a password for NATS", good + "nats: {url: 'nats://me:0123456789@nats.example.org'}\n", "nats.url"},
		{"no token, and an app", swap("      token: env:GHL_TOKEN\n", "") + "ghl_app: {client_id: a-b, client_secret: env:X, redirect_url: 'https://h/c'}\n", "token_keys"},
		{"an app's secret in plain", good + "token_keys: [env:K]\nghl_app: {client_id: a-b, client_secret: s-0123456789, redirect_url: 'https://h/c'}\n", "ghl_app.client_secret"},
		{"a token key in plain", good + "token_keys: [env:K, '0123456789']\nghl_app: {client_id: a-b, client_secret: env:X, redirect_url: 'https://h/c'}\n", "token_keys[1]"},
		{"an app without a callback", good + "token_keys: [env:K]\nghl_app: {client_id: a-b, client_secret: env:X}\n", "ghl_app.redirect_url"},
		{"an app of no name", good + "token_keys: [env:K]\nghl_app: {client_secret: env:X}\n", "ghl_app.client_id"},
		{"create is not said", swap("      create: never\n", ""), "novi.create"},
		{"create is something else", swap("never", "sometimes"), "novi.create"},
		{"no URL", swap("https://novi.example.org", "novi.example.org"), "novi.base_url"},
		{"half of the paths", good + "      paths: {activities: /a, activity: \"\"}\n", "novi.paths"},
		{"a path of no name", good + "      paths: {taks: /a}\n", "novi.paths.taks"},
		{"a path from nowhere", good + "      paths: {members: api/members}\n", "novi.paths.members"},
		{"no members", good + "      paths: {member: \"\"}\n", "novi.paths"},
		{"no time zone", good + "      timezone: Mars/Olympus\n", "novi.timezone"},
		{"no time zone of the tenant", good + "    timezone: Local\n", "timezone"},
		{"no region", good + "    region: Switzerland\n", "region"},
		{"limits of nothing", good + "      limits: {windows: [{calls: 0, per: 1s}]}\n", "novi.limits.windows[0]"},
		{"a field bound twice", good + mapped("fields: {custom.size: {ghl: a}, custom.size: {ghl: b}}"), "custom.size"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := write(t, tt.text)
			_, err := config.Load(path)
			if err == nil {
				t.Fatal("it was taken")
			}
			text := err.Error()
			if !strings.HasPrefix(text, path) || !strings.Contains(text, tt.want) || strings.Contains(text, "\n") {
				t.Errorf("got %q, want one line with the file and %q", text, tt.want)
			}
			if strings.Contains(text, "0123456789") {
				t.Errorf("it shows the secret: %s", text)
			}
		})
	}
	t.Run("no file", func(t *testing.T) {
		_, err := config.Load("/nowhere/causeway.yaml")
		if err == nil || err.Error() != "/nowhere/causeway.yaml: no such file or directory" {
			t.Errorf("got %v", err)
		}
	})
}

func TestSecrets(t *testing.T) {
	path := write(t, good)
	f, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Resolve(f.Tenants[0].Novi.Key); err == nil || !strings.Contains(err.Error(), "novi.key") {
		t.Errorf("a file that is not there: %v", err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "novi.key"), []byte("abc\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := f.Resolve(f.Tenants[0].Novi.Key); err != nil || got != "abc" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := f.Resolve(f.Tenants[0].GHL.Token); err == nil || !strings.Contains(err.Error(), "GHL_TOKEN") {
		t.Errorf("a variable that is not set: %v", err)
	}
	t.Setenv("GHL_TOKEN", "pit-x")
	if got, err := f.Resolve(f.Tenants[0].GHL.Token); err != nil || got != "pit-x" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestLens(t *testing.T) {
	f, err := config.Load(write(t, good+"    region: CH\n"+mapped(`fields: {custom.size: {ghl: "custom:contact.size", novi: "custom:Size"}, first_name: null}, tags: {novi_field: Tags, separator: '|'}`)))
	if err != nil {
		t.Fatal(err)
	}
	l := f.Tenants[0].Lens()
	if b, ok := l.Binding(canonical.CustomPrefix + "size"); !ok || b.Novi.Path != "custom:Size" || l.Region != "CH" || l.Tags.NoviField != "Tags" || l.Tags.Separator != "|" {
		t.Errorf("got %+v", l)
	}
	if _, ok := l.Binding("first_name"); ok {
		t.Error("a field that was taken away is there")
	}
}

// TestOneBudget: who is counted together at a system, is counted together here.
func TestOneBudget(t *testing.T) {
	second := strings.NewReplacer("tenants:\n", "", "alpine-guild", "other-guild").Replace(good)
	for name, tt := range map[string]struct {
		text      string
		ghl, novi canonical.Tenant
	}{
		"the same accounts": {good + second, "alpine-guild", "alpine-guild"},
		"another location":  {good + strings.Replace(second, "loc1", "loc2", 1), "other-guild", "alpine-guild"},
		"another key":       {good + strings.Replace(second, "novi.key", "other.key", 1), "alpine-guild", "other-guild"},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := config.Load(write(t, tt.text))
			if err != nil {
				t.Fatal(err)
			}
			other := f.Tenants[1]
			if ghl, novi := f.BudgetOwner(canonical.GHL, other), f.BudgetOwner(canonical.Novi, other); ghl != tt.ghl || novi != tt.novi {
				t.Errorf("GHL's is %s's, Novi's %s's; want %s and %s", ghl, novi, tt.ghl, tt.novi)
			}
		})
	}
}

func TestDeprecated(t *testing.T) {
	for text, want := range map[string]int{good: 0, good + "budget_share: {ingest: 0.5, sink: 0.5}\n": 1} {
		f, err := config.Load(write(t, text))
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Deprecated(); len(got) != want {
			t.Errorf("%d notes, want %d: %v", len(got), want, got)
		}
	}
}
