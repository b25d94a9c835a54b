package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/clients"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/config"
	"github.com/causeway-sync/causeway/internal/probe"
	"github.com/causeway-sync/causeway/internal/process"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/streams"
)

type probeCmd struct {
	Config string           `help:"The stages' configuration file." default:"causeway.yaml" env:"CAUSEWAY_CONFIG" type:"existingfile" placeholder:"FILE"`
	Tenant canonical.Tenant `help:"Only this tenant's." placeholder:"SLUG"`
	Share  float64          `help:"Part of both systems' call limits to use." default:"0.05"`
	Write  []string         `help:"Also write this sandbox record as it is, and see whether that changes anything: ghl:ID or novi:ID. Needs --tenant." placeholder:"SYSTEM:ID"`
	JSON   bool             `name:"json" help:"Print one JSON object a tenant."`
}

func (c *probeCmd) Run(ctx context.Context) error {
	file, err := config.Load(c.Config)
	if err != nil {
		return err
	}
	write := map[canonical.System]string{}
	for _, w := range c.Write {
		system, id, ok := strings.Cut(w, ":")
		if !ok || id == "" || system != "ghl" && system != "novi" || c.Tenant == "" {
			return fmt.Errorf("--write %s: it takes ghl:ID or novi:ID, and a --tenant", w)
		}
		write[canonical.System(system)] = id
	}
	broker, err := leases(ctx, file)
	if err != nil {
		fmt.Fprintf(os.Stderr, "no other process knows of these calls, as the broker can't be asked: %v\n", err)
	} else {
		defer broker.Close()
	}
	good, n := true, 0
	for _, t := range file.Tenants {
		if c.Tenant != "" && c.Tenant != t.Name {
			continue
		}
		n++
		report, err := c.probe(ctx, file, broker, t, write)
		if err != nil {
			return fmt.Errorf("tenant %s: %w", t.Name, err)
		}
		good = good && report.Good()
		if err := printProbe(os.Stdout, report, c.JSON); err != nil {
			return err
		}
	}
	switch {
	case n == 0:
		return fmt.Errorf("%s has no tenant %q", c.Config, c.Tenant)
	case !good:
		return errors.New("something would not work: see the report")
	}
	return nil
}

// leases connects to the broker, if it keeps call budgets.
func leases(ctx context.Context, file *config.File) (*bus.Conn, error) {
	conn, err := bus.Connect(ctx, process.Broker(file, "causeway"))
	if err != nil {
		return nil, err
	}
	if _, err := conn.Bucket(ctx, streams.BUDGETS); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

func (c *probeCmd) probe(ctx context.Context, file *config.File, broker *bus.Conn, t config.Tenant, write map[canonical.System]string) (probe.Report, error) {
	cfg := probe.Config{Tenant: t.Name, Lens: t.Lens(), Clock: clock.System{}, Skew: t.Policy().ClockSkew, Write: write, Dates: map[canonical.System]*probe.Dates{}}
	maker := func(system canonical.System) (*clients.Maker, error) {
		cfg.Dates[system] = &probe.Dates{Base: http.DefaultTransport, Clock: clock.System{}}
		options := clients.Options{Clock: clock.System{}, Name: "causeway probe", Share: c.Share, Transport: cfg.Dates[system], Logger: process.Logger(os.Stderr, "warn", "console")}
		if broker == nil {
			return clients.New(file, options)
		}
		options.Bus = broker
		m, err := clients.New(file, options)
		if err != nil {
			return nil, err
		}
		return m, m.UseTokens(ctx, broker, options.Logger)
	}
	if t.GHL != nil {
		m, err := maker(canonical.GHL)
		if err != nil {
			return probe.Report{}, err
		}
		defer m.Close()
		if cfg.GHL, err = m.GHL(t); err != nil {
			return probe.Report{}, err
		}
	}
	if t.Novi != nil {
		m, err := maker(canonical.Novi)
		if err != nil {
			return probe.Report{}, err
		}
		defer m.Close()
		if cfg.Novi, err = m.Novi(t); err != nil {
			return probe.Report{}, err
		}
		cfg.Activities, cfg.Groups, cfg.Webhooks = t.Novi.HasActivities(), t.Novi.HasGroups(), t.Novi.WebhookToken != ""
	}
	return probe.Run(ctx, cfg)
}

func printProbe(out io.Writer, r probe.Report, asJSON bool) error {
	if asJSON {
		if err := json.NewEncoder(out).Encode(r); err != nil {
			return fmt.Errorf("print report: %w", err)
		}
		return nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", r.Tenant)
	for _, c := range r.Checks {
		fmt.Fprintf(&b, "  %-4s  %s %s", c.Result, c.System, c.Name)
		if c.Detail != "" {
			b.WriteString(": " + c.Detail)
		}
		b.WriteByte('\n')
	}
	if len(r.Diff) > 0 {
		b.WriteString("suggested for the tenant's mapping:\n")
		for _, line := range r.Diff {
			b.WriteString("  " + line + "\n")
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}
