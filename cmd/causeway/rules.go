package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/config"
	"github.com/causeway-sync/causeway/internal/process"
	"github.com/causeway-sync/causeway/internal/rule"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/streams"
)

type rulesCmd struct {
	List rulesListCmd `cmd:"" help:"List the automations of the configuration."`
	Test rulesTestCmd `cmd:"" help:"Show what the rules would have fired for, by what CANONICAL holds. Nothing is done."`
}

type rulesListCmd struct {
	configured
	JSON bool `name:"json" help:"Print one JSON object a line."`
}

// listedRule is a rule as it is printed.
type listedRule struct {
	Tenant     canonical.Tenant `json:"tenant"`
	Rule       string           `json:"rule"`
	Kind       canonical.Kind   `json:"kind"`
	When       string           `json:"when,omitempty"`
	Date       string           `json:"date,omitempty"`
	OnBackfill bool             `json:"on_backfill,omitempty"`
	Do         []string         `json:"do"`
}

func (c *rulesListCmd) Run() error {
	_, tenants, err := c.load()
	if err != nil {
		return err
	}
	var list []listedRule
	for _, t := range tenants {
		for _, r := range t.Automations() {
			list = append(list, listedRule{t.Name, r.Name, r.Kind, r.When, dateOf(r.Date), r.OnBackfill, does(r.Do)})
		}
	}
	if c.JSON {
		return printLines(os.Stdout, list)
	}
	return printRules(os.Stdout, list)
}

func dateOf(d *rule.DateSpec) string {
	switch {
	case d == nil:
		return ""
	case d.DaysBefore > 0:
		return fmt.Sprintf("%d days before %s", d.DaysBefore, d.Field)
	case d.DaysAfter > 0:
		return fmt.Sprintf("%d days after %s", d.DaysAfter, d.Field)
	}
	return "on " + d.Field
}

// does says what a rule does, in a few words each.
func does(do []rule.ActionSpec) []string {
	var out []string
	for _, a := range do {
		switch {
		case a.Task != nil:
			out = append(out, "task")
		case a.Note != nil:
			out = append(out, "note")
		case a.AddTag != "":
			out = append(out, "add tag "+a.AddTag)
		case a.RemoveTag != "":
			out = append(out, "remove tag "+a.RemoveTag)
		case a.Workflow != "":
			out = append(out, "workflow "+a.Workflow)
		case a.Campaign != "":
			out = append(out, "campaign "+a.Campaign)
		case a.Webhook != nil:
			out = append(out, "webhook")
		}
	}
	return out
}

func printRules(out io.Writer, list []listedRule) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(out, "there are none")
		return err
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "TENANT\tRULE\tKIND\tDOES\tWHEN") // the error comes with Flush
	for _, r := range list {
		when := strings.Join(slices.DeleteFunc([]string{r.Date, r.When}, func(s string) bool { return s == "" }), ", if ")
		if r.OnBackfill {
			when += " (on a backfill, too)"
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", r.Tenant, r.Rule, r.Kind, strings.Join(r.Do, ", "), when)
	}
	return t.Flush()
}

type rulesTestCmd struct {
	configured
	Since      time.Duration `help:"How far back: 90m, 24h, 7d; 0s for all that the stream holds." default:"7d"`
	Rule       string        `help:"Only this rule." placeholder:"NAME"`
	ShowValues bool          `help:"Show the texts and tags, which may be personal data."`
	JSON       bool          `name:"json" help:"Print one JSON object a line."`
}

// tested is a firing that would have been.
type tested struct {
	Tenant canonical.Tenant `json:"tenant"`
	rule.Firing
}

func (c *rulesTestCmd) Run(ctx context.Context) error {
	file, tenants, err := c.load()
	if err != nil {
		return err
	}
	conn, err := bus.Connect(ctx, process.Broker(file, "causeway"))
	if err != nil {
		return err
	}
	defer conn.Close()
	var all []tested
	there := false
	now := time.Now()
	for _, t := range tenants {
		set := t.Automations()
		if c.Rule != "" {
			r, ok := set.Get(c.Rule)
			if set = nil; ok {
				set = rule.Set{r}
			}
		}
		there = there || len(set) > 0
		found, err := wouldFire(ctx, conn, t, set, ago(c.Since, now), now)
		if err != nil {
			return err
		}
		all = append(all, found...)
	}
	if !there {
		return fmt.Errorf("%s: there is no such rule", c.Config)
	}
	if !c.ShowValues {
		for i := range all {
			for j := range all[i].Actions {
				all[i].Actions[j].Fields, all[i].Actions[j].Tag = nil, ""
			}
		}
	}
	if c.JSON {
		return printLines(os.Stdout, all)
	}
	return printTested(os.Stdout, all)
}

// wouldFire reads what a tenant's rules would have fired for, oldest first.
func wouldFire(ctx context.Context, conn *bus.Conn, t config.Tenant, set rule.Set, since, now time.Time) ([]tested, error) {
	var out []tested
	states := map[canonical.CanonicalID]canonical.Event{}
	seqs := map[canonical.CanonicalID]uint64{}
	for _, kind := range rule.Kinds() {
		if !slices.ContainsFunc(set, func(r *rule.Rule) bool { return r.Kind == kind }) {
			continue
		}
		err := conn.Scan(ctx, streams.CANONICAL, streams.EntitiesOf(kind, t.Name), since, func(m bus.Stored) error {
			e, err := canonical.DecodeEvent(m.Data)
			if err != nil {
				return fmt.Errorf("decode message %d of %s: %w", m.Seq, m.Stream, err)
			}
			for _, f := range set.Fire(e, m.Seq, m.Time) {
				out = append(out, tested{t.Name, f})
			}
			return nil
		})
		if err != nil || !set.Dated() {
			if err != nil {
				return nil, err
			}
			continue
		}
		err = conn.ScanLast(ctx, streams.CANONICAL, streams.EntitiesOf(kind, t.Name), func(m bus.Stored) error {
			e, err := canonical.DecodeEvent(m.Data)
			if err != nil {
				return fmt.Errorf("decode message %d of %s: %w", m.Seq, m.Stream, err)
			}
			if seqs[e.ID()] < m.Seq {
				states[e.ID()], seqs[e.ID()] = e, m.Seq
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	out = append(out, wouldBeDue(t, set, states, seqs, since, now)...)
	slices.SortStableFunc(out, func(a, b tested) int { return a.At.Compare(b.At) })
	return out, nil
}

// wouldBeDue are the firings by a date, of the days since then, of the records
// as they are now.
func wouldBeDue(t config.Tenant, set rule.Set, states map[canonical.CanonicalID]canonical.Event, seqs map[canonical.CanonicalID]uint64, since, now time.Time) []tested {
	first := now.AddDate(0, 0, -366)
	if since.After(first) {
		first = since
	}
	var out []tested
	seen := map[string]bool{}
	for _, id := range slices.Sorted(maps.Keys(states)) {
		for day := first; !day.After(now); day = day.AddDate(0, 0, 1) {
			for _, f := range set.Due(states[id], seqs[id], day.In(t.Zone())) {
				if !seen[f.Key] && !f.At.Before(first.Truncate(24*time.Hour)) {
					seen[f.Key] = true
					out = append(out, tested{t.Name, f})
				}
			}
		}
	}
	return out
}

func printTested(out io.Writer, all []tested) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(out, "nothing would have fired")
		return err
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "WHEN\tTENANT\tRULE\tKIND\tID\tVERSION\tDOES") // the error comes with Flush
	for _, f := range all {
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\t%s\n", f.At.Local().Format(time.DateTime), f.Tenant, f.Rule, f.Kind, f.Entity, f.Version, cmp.Or(f.Stopped, wouldDo(f.Firing)))
	}
	return t.Flush()
}

func wouldDo(f rule.Firing) string {
	var out []string
	for _, a := range f.Actions {
		s := strings.ReplaceAll(string(a.Do), "_", " ")
		if more := cmp.Or(a.Tag, a.ID, a.Fields["title"], a.Fields["body"]); more != "" {
			s += fmt.Sprintf(" %q", more)
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}
