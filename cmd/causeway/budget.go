package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/clients"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/config"
	"github.com/causeway-sync/causeway/internal/ghlapi"
	"github.com/causeway-sync/causeway/internal/noviapi"
	"github.com/causeway-sync/causeway/internal/process"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/streams"
)

type budgetCmd struct {
	Config   string           `help:"The stages' configuration file." default:"causeway.yaml" env:"CAUSEWAY_CONFIG" type:"existingfile" placeholder:"FILE"`
	Tenant   canonical.Tenant `help:"Only this tenant's." placeholder:"SLUG"`
	Contacts int              `help:"Forecast what a backfill of so many contacts takes." placeholder:"N"`
	Forecast bool             `help:"The same for as many as each system says it has, which costs a call."`
	JSON     bool             `name:"json" help:"Print one JSON object for each tenant and system."`
}

// account is one budget, and what is to be known of it.
type account struct {
	Tenant canonical.Tenant `json:"tenant"`
	System canonical.System `json:"system"`
	// Owner is the tenant under whose name the calls are counted, if it is
	// another one.
	Owner canonical.Tenant `json:"owner,omitempty"`
	budget.Standing
	Contacts int    `json:"contacts,omitempty"`
	Forecast []step `json:"forecast,omitempty"`
}

// step is a part of a backfill.
type step struct {
	What    string  `json:"what"`
	Calls   int     `json:"calls"`
	Seconds float64 `json:"seconds"`
}

func (c *budgetCmd) Run(ctx context.Context) error {
	file, err := config.Load(c.Config)
	if err != nil {
		return err
	}
	conn, err := bus.Connect(ctx, process.Broker(file, "causeway"))
	if err != nil {
		return err
	}
	defer conn.Close()
	kv, err := conn.Bucket(ctx, streams.BUDGETS)
	if err != nil {
		return fmt.Errorf("there are no budgets yet; a stage that starts makes them: %w", err)
	}
	maker, err := clients.New(file, clients.Options{Clock: clock.System{}, Bus: conn, Name: "causeway budget", Logger: process.Logger(os.Stderr, "warn", "console")})
	if err != nil {
		return err
	}
	defer maker.Close()
	n := 0
	for _, t := range file.Tenants {
		if c.Tenant != "" && c.Tenant != t.Name {
			continue
		}
		n++
		accounts := map[canonical.System]config.Limits{}
		if t.GHL != nil {
			accounts[canonical.GHL] = t.GHL.Limits
		}
		if t.Novi != nil {
			accounts[canonical.Novi] = t.Novi.Limits
		}
		for _, system := range slices.Sorted(maps.Keys(accounts)) {
			a := account{Tenant: t.Name, System: system, Contacts: c.Contacts}
			owner := file.BudgetOwner(system, t)
			if owner != t.Name {
				a.Owner = owner
			}
			if c.Forecast && c.Contacts == 0 {
				if a.Contacts, err = records(ctx, maker, t, system); err != nil {
					return fmt.Errorf("tenant %s: %w", t.Name, err)
				}
			}
			ledger, err := budget.ReadLedger(ctx, kv, budget.Key(system, owner))
			if err != nil {
				return err
			}
			limits := limitsOf(accounts[system])
			a.Standing = ledger.Standing(limits, time.Now())
			a.Forecast = forecast(system, limits, a.Day.Left, a.Contacts)
			if err := c.print(a); err != nil {
				return err
			}
		}
	}
	if n == 0 {
		return fmt.Errorf("%s has no tenant %q", c.Config, c.Tenant)
	}
	if file.GHLApp == nil || c.Tenant != "" {
		return nil
	}
	ledger, err := budget.ReadLedger(ctx, kv, budget.Key(canonical.GHL, config.AppBudget))
	if err != nil {
		return err
	}
	return c.print(account{Tenant: config.AppBudget, System: canonical.GHL, Standing: ledger.Standing(limitsOf(config.AppLimits()), time.Now())})
}

func (c *budgetCmd) print(a account) error {
	var err error
	if c.JSON {
		err = json.NewEncoder(os.Stdout).Encode(a)
	} else {
		err = printAccount(os.Stdout, a)
	}
	if err != nil {
		return fmt.Errorf("print budget: %w", err)
	}
	return nil
}

func limitsOf(l config.Limits) budget.Limits {
	limits := budget.Limits{Daily: l.Daily}
	for _, w := range l.Windows {
		limits.Windows = append(limits.Windows, budget.Window{Calls: w.Calls, Per: w.Per})
	}
	return limits
}

// records asks a system how many contacts it has.
func records(ctx context.Context, maker *clients.Maker, t config.Tenant, system canonical.System) (int, error) {
	if system == canonical.GHL {
		client, err := maker.GHL(t)
		if err != nil {
			return 0, err
		}
		page, err := client.SearchContacts(ctx, budget.Reconcile, ghlapi.SearchRequest{PageLimit: 1})
		return page.Total, err
	}
	client, err := maker.Novi(t)
	if err != nil {
		return 0, err
	}
	page, err := client.ListMembers(ctx, budget.Reconcile, noviapi.ListRequest{PageSize: 1})
	return max(page.TotalCount, 0), err
}

// pageOf is how many contacts a page of a backfill has.
var pageOf = map[canonical.System]int{canonical.GHL: 100, canonical.Novi: 200}

// forecast says what a backfill of a number of contacts costs at a system:
// what has to be read, and what it takes if all of them have to be written
// there.
func forecast(system canonical.System, l budget.Limits, left, contacts int) []step {
	if contacts == 0 {
		return nil
	}
	costs := []struct {
		what  string
		calls int
	}{{"reading the contacts", (contacts + pageOf[system] - 1) / pageOf[system]}}
	switch system {
	case canonical.GHL:
		costs = append(costs, []struct {
			what  string
			calls int
		}{
			{"reading notes and appointments, in the sweeps after it", 2 * contacts},
			{"writing, if every contact has to be made here", contacts},
			{"writing, if every contact has to be changed here", 2 * contacts},
		}...)
	case canonical.Novi:
		costs = append(costs, []struct {
			what  string
			calls int
		}{
			// Looked up or read, written, read again.
			{"writing, if every contact has to be made or changed here", 3 * contacts},
		}...)
	}
	var steps []step
	for _, c := range costs {
		steps = append(steps, step{c.what, c.calls, l.Lasts(c.calls, left).Seconds()})
	}
	return steps
}

func printAccount(out io.Writer, a account) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(t, "%s %s", a.Tenant, a.System) // the error comes with Flush
	if a.Owner != "" {
		_, _ = fmt.Fprintf(t, " (the same account as %s)", a.Owner)
	}
	_, _ = fmt.Fprintln(t)
	for _, w := range a.Windows {
		_, _ = fmt.Fprintf(t, "  in %s\t%d calls\t%d leased\t%d used\n", w.Per, w.Calls, w.Leased, w.Used)
	}
	if a.Day.Limit > 0 {
		_, _ = fmt.Fprintf(t, "  today (UTC)\t%d calls\t%d held\t%d used\t%d left\n", a.Day.Limit, a.Day.Held, a.Day.Used, a.Day.Left)
	}
	for _, m := range a.Members {
		gone := ""
		if m.Gone {
			gone = "gone; it comes free"
		}
		_, _ = fmt.Fprintf(t, "  %s\tleased %s\tused %s\twaiting %s\t%s\n", m.Name, strings.Trim(fmt.Sprint(m.Leased), "[]"), counts(m.Used), counts(m.Waiting), gone)
	}
	if len(a.Forecast) > 0 {
		_, _ = fmt.Fprintf(t, "  a backfill of %d contacts\n", a.Contacts)
	}
	for _, s := range a.Forecast {
		_, _ = fmt.Fprintf(t, "    %s\t%d calls\t%s\n", s.What, s.Calls, time.Duration(s.Seconds*float64(time.Second)))
	}
	return t.Flush()
}

// counts renders what is waiting or used by lane.
func counts(by map[string]int) string {
	var out []string
	for _, lane := range budget.Lanes() {
		if n := by[lane.String()]; n > 0 {
			out = append(out, fmt.Sprintf("%s %d", lane, n))
		}
	}
	if len(out) == 0 {
		return "nothing"
	}
	return strings.Join(out, ", ")
}
