package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/process"
	"github.com/causeway-sync/causeway/internal/rehearse"
	"github.com/causeway-sync/causeway/internal/rule"
	"github.com/causeway-sync/causeway/schemas/canonical"
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
			list = append(list, listedRule{t.Name, r.Name, r.Kind, r.When, r.Date.String(), r.OnBackfill, r.Does()})
		}
	}
	if c.JSON {
		return printLines(os.Stdout, list)
	}
	return printRules(os.Stdout, list)
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
		found, err := rehearse.Run(ctx, conn, t.Name, set, t.Zone(), ago(c.Since, now), now)
		if err != nil {
			return err
		}
		for _, f := range found {
			all = append(all, tested{t.Name, f})
		}
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

func printTested(out io.Writer, all []tested) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(out, "nothing would have fired")
		return err
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "WHEN\tTENANT\tRULE\tKIND\tID\tVERSION\tDOES") // the error comes with Flush
	for _, f := range all {
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\t%s\n", f.At.Local().Format(time.DateTime), f.Tenant, f.Rule, f.Kind, f.Entity, f.Version, cmp.Or(f.Stopped, f.Does()))
	}
	return t.Flush()
}
