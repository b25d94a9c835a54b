package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-json"

	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/check"
	"github.com/causeway-sync/causeway/internal/clients"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/config"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/internal/process"
	"github.com/causeway-sync/causeway/internal/verify"
	"github.com/causeway-sync/causeway/schemas/canonical"
)

type verifyCmd struct {
	Converged  bool             `help:"Compare both systems, record by record, through their APIs, instead of checking the streams."`
	QuietSince time.Time        `help:"An instant since which nothing was to be written any more, in RFC 3339." placeholder:"TIME"`
	Config     string           `help:"The stages' configuration file." default:"causeway.yaml" env:"CAUSEWAY_CONFIG" type:"existingfile" placeholder:"FILE"`
	Tenant     canonical.Tenant `help:"Only this tenant's." placeholder:"SLUG"`
	Share      float64          `help:"The most of both systems' call limits to take; the calls are leased like everybody's." default:"0.5"`
	Settle     time.Duration    `help:"How long to wait before a difference is looked at once more." default:"10s"`
	FetchAll   bool             `help:"Fetch every contact by id, also where the list shows enough, and read everybody's notes and appointments in GHL."`
	ShowValues bool             `help:"Show the values that differ. They are personal data."`
	JSON       bool             `name:"json" help:"Print one JSON object a tenant, with every finding."`
}

func (c *verifyCmd) Run(ctx context.Context) error {
	file, err := config.Load(c.Config)
	if err != nil {
		return err
	}
	conn, err := bus.Connect(ctx, process.Broker(file, "causeway"))
	if err != nil {
		return err
	}
	defer conn.Close()
	if !c.Converged {
		return c.check(ctx, file, conn)
	}
	maker, err := clients.New(file, clients.Options{Clock: clock.System{}, Bus: conn, Name: "causeway verify", Logger: process.Logger(os.Stderr, "warn", "console"), Share: c.Share})
	if err != nil {
		return err
	}
	defer maker.Close()
	if err := maker.UseTokens(ctx, conn, zerolog.Nop()); err != nil {
		return err
	}
	good, n := true, 0
	for _, t := range file.Tenants {
		if c.Tenant != "" && c.Tenant != t.Name {
			continue
		}
		n++
		cfg := verify.Config{Stream: conn, Clock: clock.System{}, Tenant: t.Name, Lens: t.Lens(), Policy: t.Policy(), Workers: t.Workers,
			One: t.Policy() != nil && t.Policy().Duplicates == mapping.DeleteDuplicates, FetchAll: c.FetchAll, Values: c.ShowValues, Settle: c.Settle,
			CreateGHL: t.GHL != nil && t.GHL.Create == "always", CreateNovi: t.Novi != nil && t.Novi.Create == "always"}
		if cfg.GHL, err = maker.GHL(t); err != nil {
			return err
		}
		if cfg.Novi, err = maker.Novi(t); err != nil {
			return err
		}
		report, err := verify.Converged(ctx, cfg)
		if err != nil {
			return fmt.Errorf("tenant %s: %w", t.Name, err)
		}
		good = good && report.Good()
		if err := printReport(os.Stdout, report, c.JSON); err != nil {
			return err
		}
	}
	switch {
	case n == 0:
		return fmt.Errorf("%s has no tenant %q", c.Config, c.Tenant)
	case !good:
		return errors.New("the systems have not converged: see the report")
	}
	return nil
}

// check is about all tenants at once: what one of them has is not read apart.
func (c *verifyCmd) check(ctx context.Context, file *config.File, conn *bus.Conn) error {
	report, err := check.Run(ctx, check.Config{Source: conn, Tenants: check.Tenants(file), Quiet: c.QuietSince})
	if err != nil {
		return err
	}
	if err := printCheck(os.Stdout, report, c.JSON); err != nil {
		return err
	}
	if !report.Good() {
		return errors.New("a promise was not kept: see the report")
	}
	return nil
}

// mostPrinted is how many findings are printed as text.
const mostPrinted = 20

func printReport(out io.Writer, r verify.Report, asJSON bool) error {
	if asJSON {
		if err := json.NewEncoder(out).Encode(r); err != nil {
			return fmt.Errorf("print report: %w", err)
		}
		return nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d contacts", r.Tenant, r.Entities)
	for _, system := range slices.Sorted(maps.Keys(r.Records)) {
		fmt.Fprintf(&b, ", %d records in %s", r.Records[system], system)
	}
	for _, system := range slices.Sorted(maps.Keys(r.Items)) {
		fmt.Fprintf(&b, ", %d items in %s", r.Items[system], system)
	}
	if r.Good() {
		b.WriteString(", no difference\n")
	} else {
		fmt.Fprintf(&b, ", %d differences\n", len(r.Findings))
	}
	for _, f := range r.Findings[:min(len(r.Findings), mostPrinted)] {
		fmt.Fprintf(&b, "  ! %s\n", describe(f))
	}
	if n := len(r.Findings) - mostPrinted; n > 0 {
		fmt.Fprintf(&b, "  ! and %d more, which --json prints\n", n)
	}
	if r.Unlooked > 0 {
		fmt.Fprintf(&b, "  ! and %d records that seem to differ and were not looked at\n", r.Unlooked)
	}
	for _, system := range slices.Sorted(maps.Keys(r.NotShown)) {
		for _, field := range slices.Sorted(maps.Keys(r.NotShown[system])) {
			fmt.Fprintf(&b, "  - %s does not show %s of %d records, so it was not compared\n", system, field, r.NotShown[system][field])
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// describe says a finding in one line.
func describe(f verify.Finding) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", f.Kind, f.System)
	if f.Record != "" {
		fmt.Fprintf(&b, " %s %s", cmp.Or(string(f.Of), "record"), f.Record)
	}
	if f.Entity != "" {
		fmt.Fprintf(&b, ", %s %s", cmp.Or(f.Of, canonical.KindContact), f.Entity)
		for _, system := range slices.Sorted(maps.Keys(f.Links)) {
			for _, x := range f.Links[system] {
				if system != f.System || x != f.Record {
					fmt.Fprintf(&b, ", %s %s", system, x)
				}
			}
		}
	}
	sep := ": "
	for _, field := range f.Fields {
		b.WriteString(sep + field.Name)
		sep = ", "
		if field.Want != "" || field.Shown != "" {
			fmt.Fprintf(&b, " is %q and ought to be %q", field.Shown, field.Want)
		}
	}
	return b.String()
}
