package console_test

import (
	"context"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/config"
	"github.com/causeway-sync/causeway/internal/console"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

const configuration = `# ours
tenants:
  - name: other
    novi: {base_url: "http://novi.example.org", key: "env:KEY", create: never}
  # the guild
  - name: guild
    ghl: {location: L1, token: "env:TOKEN"}   # their location
    novi:
      base_url: http://novi.example.org
      key: env:KEY
      create: always
    mapping:
      contact:
        # what we decided in May
        duplicates: keep
        fields:
          custom.shirt_size: {ghl: "custom:contact.shirt_size", novi: "custom:Shirt size"}  # for the race
          website: # theirs
            # since 2025
            ghl: website
            novi: Website
            authority: novi

        tags: {separator: ", "}
# the end
`

// configured is a site whose console has the configuration in a file.
func configured(t *testing.T, text string) (site, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "causeway.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return setup(t, func(o *console.Options) { o.File, o.ConfigPath = file, path }), path
}

var (
	inputs  = regexp.MustCompile(`<input[^>]* name="([a-z_]+)"[^>]*?(?: value="([^"]*)")?[^>]*>`)
	selects = regexp.MustCompile(`(?s)<select name="([a-z_]+)"[^>]*>(.*?)</select>`)
	chosen  = regexp.MustCompile(`<option(?: value="([^"]*)")? selected>([^<]*)`)
	values  = regexp.MustCompile(` value="([^"]*)"`)
)

// form reads what a browser would send of the mapping's form.
func form(page string) url.Values {
	out := url.Values{}
	page = page[strings.Index(page, "<form method"):]
	for _, m := range inputs.FindAllStringSubmatch(page, -1) {
		value := ""
		if v := values.FindStringSubmatch(m[0]); v != nil {
			value = v[1]
		}
		out.Add(m[1], value)
	}
	for _, m := range selects.FindAllStringSubmatch(page, -1) {
		value := ""
		if c := chosen.FindStringSubmatch(m[2]); c != nil {
			if value = c[1]; !strings.Contains(c[0], "value=") {
				value = c[2]
			}
		}
		out.Add(m[1], value)
	}
	return out
}

// set changes a column of a field's row.
func set(t *testing.T, f url.Values, field, column, value string) {
	t.Helper()
	for i, name := range f["field"] {
		if name == field {
			f[column][i] = value
			return
		}
	}
	t.Fatalf("the form has no %q: %v", field, f["field"])
}

// records publishes what both systems show of ada, whole.
func (s site) records() {
	s.t.Helper()
	for _, o := range []observation.Observation{
		{System: canonical.GHL, ExternalID: "GhlAda1", Endpoint: observation.GHLContactGet, Names: map[string]string{"cf1": "contact.shirt_size"},
			Record: []byte(`{"id":"GhlAda1","firstName":"Ada","lastName":"Keller","email":"ada@example.org","phone":"+12025550143","city":"Zermatt","timezone":"UTC","customFields":[{"id":"cf1","value":"XL"}]}`)},
		{System: canonical.Novi, ExternalID: "novi-ada-1", Endpoint: observation.NoviMemberGet,
			Record: []byte(`{"CustomerType":"Person","FirstName":"Ada","LastName":"Keller","Email":"ada@example.org","Mobile":"(202) 555-0143","Website":"","JobTitle":"","ParentMemberName":"","UnsubscribeFromEmails":false,"BillingAddress":{"Address1":"","City":"Zermatt"},"Region":"East","CustomFields":{"Shirt size":{"Value":"L"}}}`)},
	} {
		o.Tenant, o.Kind, o.Via, o.ReadBegan = guild, canonical.KindContact, observation.Poll, at
		data, err := o.Encode()
		if err != nil {
			s.t.Fatal(err)
		}
		if _, err := s.conn.Publish(context.Background(), bus.Message{Subject: streams.Raw(o), Data: data}); err != nil {
			s.t.Fatal(err)
		}
	}
}

func TestMapping(t *testing.T) {
	t.Parallel()
	s, path := configured(t, configuration)
	id := s.ada()
	s.records()
	page := s.shows("/t/guild/mapping?example="+string(id), "causeway.yaml", `<option value="timezone">`, `<option value="Region">`, `<option value="custom:Shirt size">`,
		"(202) 555-0143 → <em>+12025550143</em> → +12025550143", "XL → XL", "L → L")
	f := form(page)
	set(t, f, "custom.shirt_size", "authority", "ghl")
	set(t, f, "website", "novi_write", "never")
	set(t, f, "", "ghl", "timezone")
	set(t, f, "", "novi", "Region")
	set(t, f, "", "field", "custom.region")
	c := browser(t)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	tried := s.post(c, "/t/guild/mapping/try", f, http.StatusOK)
	for _, want := range []string{"Changed: website, custom.region, custom.shirt_size", "on awkward values", "1 record looked at, nothing was sent", "UTC → UTC", "East → East"} {
		if !strings.Contains(tried, want) {
			t.Errorf("trying does not show %q", want)
		}
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("trying has changed the file (%v):\n%s", err, after)
	}
	f.Set("to", "/t/guild/mapping")
	if page := s.post(c, "/t/guild/mapping", f, http.StatusOK); !strings.Contains(page, "Saved in causeway.yaml: website, custom.region, custom.shirt_size") {
		t.Errorf("saving says:\n%s", page)
	}
	after, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(configuration, `novi: "custom:Shirt size"}  # for the race`, `novi: "custom:Shirt size", authority: ghl}  # for the race`, 1)
	want = strings.Replace(want, `          website: # theirs
            # since 2025
            ghl: website
            novi: Website
            authority: novi
`, `          # since 2025
          website: {ghl: website, novi: Website, novi_write: never, authority: novi} # theirs
          custom.region: {ghl: timezone, novi: Region}
`, 1)
	if string(after) != want {
		t.Errorf("the file is\n%s\nwant\n%s", after, want)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("its mode is %v (%v), want that of before", info.Mode(), err)
	}
	// The form is of the file as it was.
	if page := s.post(c, "/t/guild/mapping", f, http.StatusConflict); !strings.Contains(page, "Somebody has changed causeway.yaml") {
		t.Errorf("an old form says:\n%s", page)
	}
	f = form(s.shows("/t/guild/mapping", "Region"))
	set(t, f, "email", "authority", "opt_out")
	if page := s.post(c, "/t/guild/mapping/try", f, http.StatusOK); !strings.Contains(page, "It can't be used so: mapping.contact.fields.email") {
		t.Errorf("an authority that does not fit is let through:\n%s", page)
	}
	set(t, f, "phone", "convert", "shout")
	s.post(c, "/t/guild/mapping", f, http.StatusUnprocessableEntity)
	f.Del("novi")
	s.post(c, "/t/guild/mapping", f, http.StatusBadRequest)
	s.get("/t/nobody/mapping", http.StatusNotFound)
}

// TestMappingOfTasks shows a task of both systems, and saves a field of tasks
// where the file had none.
func TestMappingOfTasks(t *testing.T) {
	t.Parallel()
	s, path := configured(t, configuration)
	id := canonical.NewID(guild, canonical.KindTask, canonical.GHL, "t1")
	e := canonical.NewEvent(canonical.KindTask, id)
	e.Version, e.Links = 1, map[canonical.System][]canonical.ExternalID{canonical.GHL: {"t1"}, canonical.Novi: {"a1"}}
	e.SetField("title", "Call back")
	for _, o := range []observation.Observation{
		{System: canonical.GHL, ExternalID: "t1", Endpoint: observation.GHLTaskGet, Record: []byte(`{"id":"t1","contactId":"GhlAda1","title":"Call back","body":"soon","dueDate":"2027-01-04T10:00:00Z","completed":false}`)},
		{System: canonical.Novi, ExternalID: "a1", Endpoint: observation.NoviActivityGet, Record: []byte(`{"UniqueID":"a1","MemberUniqueId":"novi-ada-1","ActivityType":"Task","Subject":"Call back","Notes":"soon","Date":"2027-01-04T10:00:00","TaskComplete":false}`)},
	} {
		o.Tenant, o.Kind, o.Via, o.ReadBegan = guild, canonical.KindTask, observation.Poll, at
		data, err := o.Encode()
		if err != nil {
			t.Fatal(err)
		}
		s.put(streams.Raw(o), data)
	}
	s.publish(streams.Canonical(canonical.KindTask, guild, id, canonical.OpCreated), e)
	page := s.shows("/t/guild/mapping?kind=task", "Mapping of tasks", "Call back → Call back", `<option value="TaskComplete">`, "2027-01-04T10:00:00Z → ")
	f := form(page)
	set(t, f, "due", "authority", "ghl")
	c := browser(t)
	if page := s.post(c, "/t/guild/mapping/try", f, http.StatusOK); !strings.Contains(page, "Changed: due") || !strings.Contains(page, "this task's records") || strings.Contains(page, "It can't be used so") {
		t.Errorf("trying says:\n%s", page)
	}
	if page := s.post(c, "/t/guild/mapping", f, http.StatusOK); !strings.Contains(page, "Saved in causeway.yaml: due") || !strings.Contains(page, "Mapping of tasks") {
		t.Errorf("saving says:\n%s", page)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(configuration, "        tags: {separator: \", \"}\n", "        tags: {separator: \", \"}\n      task:\n        fields:\n          due: {ghl: dueDate, novi: Date, convert: instant, authority: ghl}\n", 1)
	if string(got) != want {
		t.Errorf("the file is\n%s\nwant\n%s", got, want)
	}
	// What is GHL's stays GHL's.
	f = form(s.shows("/t/guild/mapping?kind=appointment", "Mapping of appointments"))
	set(t, f, "title", "authority", "novi")
	if page := s.post(c, "/t/guild/mapping/try", f, http.StatusOK); !strings.Contains(page, "appointments are GHL's") {
		t.Errorf("an appointment may be Novi's:\n%s", page)
	}
	s.get("/t/guild/mapping?kind=tag", http.StatusNotFound)
}

// TestMappingElsewhere saves in a tenant's own file, which says nothing of a
// mapping yet, and takes one of the template's fields away. What is on one line
// in braces is left to people.
func TestMappingElsewhere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	own := filepath.Join(dir, "tenants", "guild.yaml")
	path := filepath.Join(dir, "causeway.yaml")
	site1 := "novi: {base_url: \"http://novi.example.org\", key: \"env:KEY\", create: never}"
	if err := os.Mkdir(filepath.Dir(own), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{path: "tenants_dir: tenants\ntenants:\n  - {name: other, " + site1 + "}\n", own: site1 + "\n# no more\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	s := setup(t, func(o *console.Options) { o.File, o.ConfigPath = file, path })
	c := browser(t)
	f := form(s.shows("/t/guild/mapping", "guild.yaml"))
	set(t, f, "website", "ghl", "")
	set(t, f, "website", "novi", "")
	s.post(c, "/t/guild/mapping", f, http.StatusOK)
	got, err := os.ReadFile(own)
	if err != nil {
		t.Fatal(err)
	}
	if want := site1 + "\nmapping:\n  contact:\n    fields:\n      website: null\n# no more\n"; string(got) != want {
		t.Errorf("the file is\n%s\nwant\n%s", got, want)
	}
	f = form(s.shows("/t/other/mapping", "causeway.yaml"))
	set(t, f, "website", "novi", "Site")
	if page := s.post(c, "/t/other/mapping", f, http.StatusConflict); !strings.Contains(page, "on one line in braces") {
		t.Errorf("a tenant in braces says:\n%s", page)
	}
}
