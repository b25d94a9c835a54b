package console_test

import (
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/causeway-sync/causeway/internal/console"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

const automated = `tenants:
  - name: guild
    ghl: {location: L1, token: "env:TOKEN"}
    rules:   # what we want done
      # Everybody is welcome.
      - name: welcome   # since May
        when: "after.first_name != ''"
        do:
          # nobody reads mail
          - note: {body: "Hello {after.first_name}"}

      - {name: moved, when: "'address.city' in changed", do: [{add_tag: moved}]}
  # the end
`

// TestAutomations lists what fired, tries a changed rule on what was seen, and
// saves it with every comment where it was.
func TestAutomations(t *testing.T) {
	t.Parallel()
	s, path := configured(t, automated)
	id := s.ada()
	for _, key := range []string{"welcome-ada-1", "welcome-ada-1", "welcome-eve-1"} { // a firing may ask for several things
		o := observation.Observation{System: canonical.Rule, Tenant: guild, Kind: canonical.KindNote, ExternalID: canonical.ExternalID(key + "-1"), Via: observation.FromRule, ReadBegan: at, Contact: id,
			Firing: &canonical.Firing{Rule: "welcome", Key: key, Kind: canonical.KindContact, Entity: id, Version: 1, Sequence: 1}}
		data, err := o.Encode()
		if err != nil {
			t.Fatal(err)
		}
		s.put(streams.Raw(o), data)
	}
	s.publish(streams.Dead("rules", guild, canonical.KindContact, "moved-x"), envelope.DeadLetter{Stage: "rules", Tenant: guild, Kind: canonical.KindContact, ID: "moved-x", Class: envelope.Mapping, Reason: "rule moved would feed itself", At: at})
	kv, err := s.conn.Bucket(t.Context(), streams.CURSORS)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), streams.RulesKey(guild), []byte(`{"welcome":{"after":0}}`)); err != nil {
		t.Fatal(err)
	}
	page := s.shows("/t/guild/rules", ">welcome</a>", `data-label="Fired" class="n">2<`, ">on<", "1 dead letter", "add tag moved")
	if i, j := strings.Index(page, ">welcome<"), strings.Index(page, ">moved<"); i < 0 || j < i {
		t.Error("they are not in their order")
	}
	page = s.get("/t/guild/rules/edit?rule=welcome", http.StatusOK)
	text := `name: welcome   # since May
when: "after.first_name != ''"
do:
  # nobody reads mail
  - note: {body: "Hello {after.first_name}"}
`
	if !strings.Contains(page, text) {
		t.Fatalf("it does not show the rule:\n%s", page)
	}
	sum := func() string { return form(s.get("/t/guild/rules/edit", http.StatusOK)).Get("sum") }
	c := browser(t)
	try := func(rule, text, want string) {
		t.Helper()
		if page := s.post(c, "/t/guild/rules/try", url.Values{"sum": {sum()}, "rule": {rule}, "text": {text}}, http.StatusOK); !strings.Contains(page, want) {
			t.Errorf("trying does not say %q:\n%s", want, page)
		}
	}
	try("welcome", strings.Replace(text, "Hello", "Good day", 1), `note "Good day Ada"`)
	try("welcome", strings.Replace(text, "after.first_name != ''", "after.first_nam != ''", 1), "first_nam")
	try("", "name: welcome\nwhen: 'true'\ndo: [{add_tag: x}]\n", `"welcome" is taken`)
	try("", "name: x\nwhen: 'true'\ndo: [{dance: x}]\n", "dance")
	try("", "name: never\nwhen: 'false'\ndo: [{add_tag: x}]\n", "It would not have fired")
	if got, err := os.ReadFile(path); err != nil || string(got) != automated {
		t.Errorf("trying has changed the file (%v):\n%s", err, got)
	}
	want := automated
	save := func(f url.Values, status int, from, to string) {
		t.Helper()
		if f.Get("sum") == "" {
			f.Set("sum", sum())
		}
		f.Set("to", "/t/guild/rules")
		s.post(c, "/t/guild/rules", f, status)
		want = strings.Replace(want, from, to, 1)
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Fatalf("the file is (%v)\n%s\nwant\n%s", err, got, want)
		}
	}
	old := sum()
	save(url.Values{"rule": {"welcome"}, "text": {strings.ReplaceAll(strings.Replace(text, "Hello", "Good day", 1), "\n", "\r\n")}}, http.StatusOK, "Hello", "Good day")
	save(url.Values{"rule": {"welcome"}, "text": {text}, "sum": {old}}, http.StatusConflict, "", "")
	save(url.Values{"rule": {"welcome"}, "text": {"name: welcome\n"}}, http.StatusUnprocessableEntity, "", "")
	save(url.Values{"rule": {"nobody"}, "text": {text}}, http.StatusNotFound, "", "")
	save(url.Values{"rule": {""}, "text": {"# at last\nname: new\nwhen: 'true'\n\ndo:\n  - add_tag: x\n"}}, http.StatusOK, "[{add_tag: moved}]}\n",
		"[{add_tag: moved}]}\n      # at last\n      - name: new\n        when: 'true'\n\n        do:\n          - add_tag: x\n")
	save(url.Values{"rule": {"moved"}, "remove": {"1"}}, http.StatusOK, "      - {name: moved, when: \"'address.city' in changed\", do: [{add_tag: moved}]}\n", "")
	s.get("/t/guild/rules/edit?rule=moved", http.StatusNotFound)
	s.shows("/t/guild/rules", ">new</a>", "not taken up yet")
	if a := s.audits(); len(a) == 0 || a[0].Action != "save-rule" {
		t.Errorf("audited %+v", a)
	}
}

// TestFirstAutomation begins with each recipe in a file without rules.
func TestFirstAutomation(t *testing.T) {
	t.Parallel()
	s, path := configured(t, configuration)
	for _, recipe := range console.Recipes() {
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		f := form(s.get("/t/guild/rules/edit?recipe="+recipe.Name, http.StatusOK))
		f.Set("text", recipe.Text)
		s.post(browser(t), "/t/guild/rules", f, http.StatusOK)
		s.get("/t/guild/rules/edit?rule="+strings.TrimPrefix(strings.SplitN(recipe.Text, "\n", 2)[0], "name: "), http.StatusOK)
		after, err := os.ReadFile(path)
		if err != nil || len(after) <= len(before) || !strings.Contains(string(after), "# the end\n") {
			t.Errorf("%s: the file is (%v)\n%s", recipe.Name, err, after)
		}
	}
	f := form(s.get("/t/other/rules/edit", http.StatusOK))
	f.Set("text", "name: x\nwhen: 'true'\ndo: [{add_tag: x}]\n")
	s.post(browser(t), "/t/other/rules", f, http.StatusOK)
}
