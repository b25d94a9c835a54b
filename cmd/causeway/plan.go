package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/config"
	"github.com/causeway-sync/causeway/internal/noviapi"
	"github.com/causeway-sync/causeway/internal/process"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/sink/preview"
)

type planCmd struct {
	configured
	JSON       bool `name:"json" help:"Print one JSON object a line: each call, then the sum of a tenant."`
	Limit      int  `help:"How many writes to print of each tenant; 0 prints all." default:"20"`
	ShowValues bool `help:"Print what would be written, which may be personal data, and not only where."`
}

func (c *planCmd) Run(ctx context.Context) error {
	file, tenants, err := c.load()
	if err != nil {
		return err
	}
	conn, err := bus.Connect(ctx, process.Broker(file, "causeway"))
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, t := range tenants {
		if err := c.plan(ctx, os.Stdout, conn, t, newRereads(conn, t, time.Now(), c.ShowValues)); err != nil {
			return fmt.Errorf("tenant %s: %w", t.Name, err)
		}
	}
	return nil
}

// plan prints one tenant's. read says what becomes of records that the mapping
// reads in another way; nil takes them as they were read.
func (c *planCmd) plan(ctx context.Context, out io.Writer, stream preview.Stream, t config.Tenant, read *rereads) error {
	cfg := preview.Config{Stream: stream, Clock: clock.System{}, Tenant: t.Name, Lens: t.Lens(), Policy: t.Policy(), Values: c.ShowValues}
	if t.GHL != nil {
		cfg.Location = &t.GHL.Location
	}
	if t.Novi != nil {
		paths := noviapi.Paths(t.Novi.Paths)
		cfg.Paths = &paths
	}
	if read != nil {
		cfg.Then = read.then
	}
	printed := 0
	summary, err := preview.Run(ctx, cfg, func(o preview.Operation) error {
		if c.JSON {
			if c.Limit > 0 && printed >= c.Limit {
				return nil
			}
			if !o.Read {
				printed++
			}
			return printJSON(out, o)
		}
		if o.Read || c.Limit > 0 && printed >= c.Limit {
			return nil
		}
		printed++
		return printOperation(out, o)
	})
	if err != nil {
		return err
	}
	takes := map[canonical.System]time.Duration{}
	for system, n := range summary.Systems {
		limits := config.Limits{}
		if system == canonical.GHL {
			limits = t.GHL.Limits
		} else {
			limits = t.Novi.Limits
		}
		var windows []preview.Window
		for _, w := range limits.Windows {
			windows = append(windows, preview.Window{Calls: w.Calls, Per: w.Per})
		}
		takes[system] = preview.Takes(n.Calls(), windows, limits.Daily)
	}
	var again []readEntity
	var sum *readingSum
	if read != nil {
		var s readingSum
		if again, s = read.result(); len(s.Of) > 0 {
			sum = &s
		}
	}
	if c.JSON {
		for i, e := range again {
			if c.Limit > 0 && i >= c.Limit {
				break
			}
			if err := printJSON(out, struct {
				Read readEntity `json:"read_again"`
			}{e}); err != nil {
				return err
			}
		}
		seconds := map[canonical.System]float64{}
		for system, d := range takes {
			seconds[system] = d.Seconds()
		}
		return printJSON(out, struct {
			Summary preview.Summary              `json:"summary"`
			Seconds map[canonical.System]float64 `json:"takes_seconds"`
			Read    *readingSum                  `json:"read_again,omitempty"`
		}{summary, seconds, sum})
	}
	if sum != nil {
		if err := printRereads(out, again, *sum, c.Limit); err != nil {
			return err
		}
	}
	return printSummary(out, summary, takes, printed)
}

func printJSON(out io.Writer, v any) error {
	if err := json.NewEncoder(out).Encode(v); err != nil {
		return fmt.Errorf("print plan: %w", err)
	}
	return nil
}

func printOperation(out io.Writer, o preview.Operation) error {
	var b strings.Builder
	fmt.Fprintf(&b, "  %s: %s %s", o.System, o.Method, o.Path)
	sep := ": "
	for _, f := range o.Fields {
		b.WriteString(sep + f)
		sep = ", "
		if v, ok := o.Values[f]; ok {
			text, err := json.Marshal(v)
			if err != nil {
				return fmt.Errorf("print plan: %w", err)
			}
			fmt.Fprintf(&b, " = %s", text)
		}
	}
	if o.MayFire != "" {
		fmt.Fprintf(&b, "  [may fire: %s]", o.MayFire)
	}
	_, err := fmt.Fprintln(out, b.String())
	return err
}

func printSummary(out io.Writer, s preview.Summary, takes map[canonical.System]time.Duration, printed int) error {
	var b strings.Builder
	writes := 0
	for _, n := range s.Systems {
		writes += n.Writes
	}
	if more := writes - printed; more > 0 {
		fmt.Fprintf(&b, "  and %d more writes, which --limit 0 prints\n", more)
	}
	fmt.Fprintf(&b, "%s: %d entities looked at, nothing was sent\n", s.Tenant, s.Entities)
	for _, system := range slices.Sorted(maps.Keys(s.Systems)) {
		n := s.Systems[system]
		fmt.Fprintf(&b, "%s: %d writes to %d records, and %d reads; %d writes may fire automations; at least %s under the call limits\n",
			system, n.Writes, n.Records, n.Reads, n.MayFire, takes[system].Round(time.Second))
		if n.Pending > 0 {
			fmt.Fprintf(&b, "%s: of %d records the last write has not ended; the sink looks at them first\n", system, n.Pending)
		}
		if n.Refused > 0 {
			fmt.Fprintf(&b, "%s: of %d records a value has no spelling there, or a condition can't be evaluated: each would be a dead letter\n", system, n.Refused)
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}
