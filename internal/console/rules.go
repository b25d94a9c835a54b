package console

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-json"
	"github.com/goccy/go-yaml"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/config"
	"github.com/causeway-sync/causeway/internal/dead"
	"github.com/causeway-sync/causeway/internal/rehearse"
	"github.com/causeway-sync/causeway/internal/rule"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

// rulesPage lists a tenant's automations.
type rulesPage struct {
	Tenant  canonical.Tenant
	File    string
	Rules   []ruleRow
	Recipes []Recipe
	Operate bool
}

// ruleRow is one automation and what became of it.
type ruleRow struct {
	rule.Definition
	Known   bool // a transform has taken it up
	Fired   int  // in the last seven days
	Last    time.Time
	Stopped int // firings that wait for a person
}

// lately is how far back firings are counted and rehearsed.
const lately = 7 * 24 * time.Hour

func (c *Console) rules(w http.ResponseWriter, r *http.Request) error {
	s, err := c.settings(canonical.Tenant(r.PathValue("tenant")))
	if err != nil {
		return err
	}
	p := rulesPage{Tenant: s.tenant.Name, File: filepath.Base(s.path), Recipes: recipes, Operate: who(r.Context()).Operates()}
	fired, err := c.fired(r.Context(), s.tenant.Name)
	if err != nil {
		return err
	}
	letters, err := dead.Find(r.Context(), c.bus, dead.Filter{Tenant: s.tenant.Name, Stage: "rules"})
	if err != nil {
		return err
	}
	known := map[string]json.RawMessage{}
	c.world.mu.RLock()
	c.world.decoded(streams.CURSORS, streams.RulesKey(s.tenant.Name), &known)
	c.world.mu.RUnlock()
	for _, d := range s.tenant.Automations() {
		row := fired[d.Name]
		row.Definition = d.Definition
		row.Known = known[d.Name] != nil
		for _, l := range letters {
			if strings.HasPrefix(l.ID, d.Name+"-") {
				row.Stopped++
			}
		}
		p.Rules = append(p.Rules, row)
	}
	return c.show(w, r, "rules", "Automations of "+string(s.tenant.Name), nil, p)
}

// fired counts what RAW has of a tenant's firings, each once.
func (c *Console) fired(ctx context.Context, t canonical.Tenant) (map[string]ruleRow, error) {
	out := map[string]ruleRow{}
	seen := map[string]bool{}
	err := c.bus.Scan(ctx, streams.RAW, streams.RawWhere(canonical.Rule, t, "", "", observation.FromRule), c.clock.Now().Add(-lately), func(m bus.Stored) error {
		var o struct {
			Firing canonical.Firing `json:"firing"`
		}
		if err := json.Unmarshal(m.Data, &o); err != nil {
			return fmt.Errorf("decode message %d of %s: %w", m.Seq, m.Stream, err)
		}
		row := out[o.Firing.Rule]
		if row.Last = m.Time; !seen[o.Firing.Key] {
			seen[o.Firing.Key] = true
			row.Fired++
		}
		out[o.Firing.Rule] = row
		return nil
	})
	return out, err
}

// rulePage is where one automation is changed and tried.
type rulePage struct {
	Tenant  canonical.Tenant
	Name    string // as the file has it; "" for a new one
	Text    string
	Sum     string
	File    string
	Save    bool
	Tried   bool
	Wrong   string
	Firings []firingRow
	All     int
}

// firingRow is what would have been.
type firingRow struct {
	rule.Firing
	Who string
}

// mostFirings is how many of a rehearsal are shown: the newest.
const mostFirings = 25

// edit shows a rule as the file has it, or a recipe for a new one.
func (c *Console) edit(w http.ResponseWriter, r *http.Request) error {
	s, err := c.settings(canonical.Tenant(r.PathValue("tenant")))
	if err != nil {
		return err
	}
	name, text := r.FormValue("rule"), ""
	if name == "" {
		i := slices.IndexFunc(recipes, func(x Recipe) bool { return x.Name == r.FormValue("recipe") })
		text = recipes[max(i, 0)].Text
	} else if text, err = ruleText(string(s.text), s.rulesPath(), name); err != nil {
		return notFound("%s: %s", filepath.Base(s.path), err)
	}
	return c.ruleShown(w, r, s, rulePage{Name: name, Text: text})
}

func (c *Console) ruleShown(w http.ResponseWriter, r *http.Request, s settings, p rulePage) error {
	p.Tenant, p.Sum, p.File, p.Save = s.tenant.Name, s.sum(), filepath.Base(s.path), who(r.Context()).Operates()
	return c.show(w, r, "rule", cmp.Or(p.Name, "New automation"), nil, p)
}

// rehearsed shows for what a changed rule would have fired, and changes nothing.
func (c *Console) rehearsed(w http.ResponseWriter, r *http.Request) error {
	s, err := c.settings(canonical.Tenant(r.PathValue("tenant")))
	if err != nil {
		return err
	}
	r.Body = http.MaxBytesReader(w, r.Body, mostForm)
	if err := r.ParseForm(); err != nil {
		return problem{http.StatusBadRequest, "the form can't be read"}
	}
	p := rulePage{Name: r.PostFormValue("rule"), Text: typed(r), Tried: true}
	d, set, err := s.ruled(p.Name, p.Text)
	if err != nil {
		p.Wrong = err.Error()
		return c.ruleShown(w, r, s, p)
	}
	one, _ := set.Get(d.Name) // it is there: the set was made with it
	ctx, cancel := context.WithTimeout(r.Context(), planTime)
	defer cancel()
	now := c.clock.Now()
	found, err := rehearse.Run(ctx, c.bus, s.tenant.Name, rule.Set{one}, s.tenant.Zone(), now.Add(-lately), now)
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		p.Wrong = "It takes too long to look at all of it here; causeway rules test does"
		return c.ruleShown(w, r, s, p)
	case err != nil:
		return err
	}
	p.All = len(found)
	slices.Reverse(found)
	c.world.mu.RLock()
	for _, f := range found[:min(len(found), mostFirings)] {
		row := firingRow{f, string(f.Contact)}
		if t := c.world.tenants[s.tenant.Name]; t != nil && t.people.by[f.Contact] != nil {
			row.Who = cmp.Or(t.people.by[f.Contact].Name, row.Who)
		}
		p.Firings = append(p.Firings, row)
	}
	c.world.mu.RUnlock()
	return c.ruleShown(w, r, s, p)
}

// typed is the rule as a person has written it, without what browsers add.
func typed(r *http.Request) string {
	return strings.TrimRight(strings.ReplaceAll(r.PostFormValue("text"), "\r\n", "\n"), " \t\n") + "\n"
}

// rulesPath is where the rules are in the file.
func (s settings) rulesPath() []string {
	if s.inDir {
		return []string{"rules"}
	}
	return []string{"tenants[" + string(s.tenant.Name) + "]", "rules"}
}

// ruled reads a rule, and has the tenant's rules with it in the place of the one
// of that name; "" adds it. The errors are for the person who wrote it.
func (s settings) ruled(name, text string) (rule.Definition, rule.Set, error) {
	var d rule.Definition
	if err := yaml.UnmarshalWithOptions([]byte(text), &d, yaml.Strict()); err != nil {
		return d, nil, errors.New(yaml.FormatError(err, false, true))
	}
	t, err := s.tenant.WithRules(changedRules(s.tenant.Rules, name, &d))
	return d, t.Automations(), err
}

// changedRules puts d in the place of the rule of that name; "" adds it, and a
// nil d takes it away.
func changedRules(all []rule.Definition, name string, d *rule.Definition) []rule.Definition {
	var out []rule.Definition
	for _, x := range all {
		if x.Name != name {
			out = append(out, x)
		} else if d != nil {
			out = append(out, *d)
		}
	}
	if name == "" && d != nil {
		out = append(out, *d)
	}
	return out
}

// saveRule writes a changed rule into the file that it is in.
func (c *Console) saveRule(_ context.Context, r *http.Request, a *envelope.Audit) (string, error) {
	saving.Lock()
	defer saving.Unlock()
	s, err := c.settings(a.Tenant)
	if err != nil {
		return "", err
	}
	file, name := filepath.Base(s.path), r.PostFormValue("rule")
	a.About = file + " " + name
	switch {
	case r.PostFormValue("sum") != s.sum():
		return "", problem{http.StatusConflict, "Somebody has changed " + file + " since this form was made. Look at the rule again; nothing was saved."}
	case name != "" && !slices.ContainsFunc(s.tenant.Rules, func(d rule.Definition) bool { return d.Name == name }):
		return "", notFound("there is no rule %s any more", name)
	}
	var with *rule.Definition
	text := ""
	if r.PostFormValue("remove") == "" {
		text = typed(r)
		d, _, err := s.ruled(name, text)
		if err != nil {
			return "", problem{http.StatusUnprocessableEntity, "It can't be used so: " + err.Error() + ". Nothing was saved."}
		}
		with = &d
		a.About = file + " " + d.Name
	} else if name == "" {
		return "", problem{http.StatusBadRequest, "that rule is in no file"}
	}
	changed, err := withRule(string(s.text), s.rulesPath(), name, text)
	if err != nil {
		return "", problem{http.StatusConflict, file + ": " + err.Error() + ". Nothing was saved."}
	}
	want := changedRules(s.tenant.Rules, name, with)
	if err := s.means([]byte(changed), func(t *config.Tenant) { t.Rules = want }); err != nil {
		return "", problem{http.StatusConflict, file + " can't be changed without changing more than was asked for: " + err.Error() + ". Nothing was saved."}
	}
	if err := replace(s.path, []byte(changed)); err != nil {
		return "", err
	}
	if with == nil {
		return "Taken out of " + file + ": " + name + ". The transform takes it within seconds.", nil
	}
	return "Saved in " + file + ": " + with.Name + ". The transform takes it within seconds.", nil
}

// Recipe is a rule to begin with.
type Recipe struct{ Name, Title, Text string }

// Recipes returns those that a new rule may begin with.
func Recipes() []Recipe { return slices.Clone(recipes) }

// recipes are those of docs/automations.md that most associations want.
var recipes = []Recipe{
	{"welcome", "A welcome task for a new member", `name: welcome-new-member
when: "after.membership.status == 'current'"
do:
  - task: {title: "Call {after.first_name} {after.last_name} and say welcome", due_in: 72h}
`},
	{"tag", "A tag by membership status", `name: tag-lapsed
when: "after.membership.status == 'expired'"
do: [{add_tag: lapsed}, {remove_tag: member}]
`},
	{"renewal", "A reminder before a membership expires", `name: renew-soon
when: "after.membership.status == 'current'"
date: {field: membership.expires, days_before: 30}
do:
  - task: {title: "{after.first_name} {after.last_name} is to renew", due: "{after.membership.expires}"}
`},
	{"win-back", "Who lapses is put into a campaign", `name: win-back
when: "before.membership.status == 'current' && after.membership.status == 'expired'"
do: [{campaign: YOUR-CAMPAIGN-ID}]
`},
}
