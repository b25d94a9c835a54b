package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/hold"
	"github.com/causeway-sync/causeway/schemas/canonical"
)

type holdCmd struct {
	List    holdListCmd    `cmd:"" help:"List the tenants whose deletes are held."`
	Show    holdShowCmd    `cmd:"" help:"Show what a tenant's hold keeps from being done: every record, and where."`
	Release holdReleaseCmd `cmd:"" help:"Let a tenant's held deletes go on. Each entity is looked at again: what is deleted no more is not deleted anywhere."`
}

type holdListCmd struct {
	server
	JSON bool `name:"json" help:"Print one JSON object a line."`
}

type holdShowCmd struct {
	server
	Tenant canonical.Tenant `arg:"" help:"The tenant."`
	JSON   bool             `name:"json" help:"Print one JSON object a line."`
}

type holdReleaseCmd struct {
	server
	Tenant canonical.Tenant `arg:"" help:"The tenant."`
	Drop   bool             `help:"Forget the deletes instead: the records that are left stay, and their entities are deleted no more."`
}

func (h *holdListCmd) Run(ctx context.Context) error {
	conn, err := h.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	held, err := hold.List(ctx, conn)
	if err != nil {
		return err
	}
	if h.JSON {
		return printLines(os.Stdout, held)
	}
	return printHolds(os.Stdout, held)
}

// printLines prints one JSON object a line.
func printLines[T any](out io.Writer, list []T) error {
	e := json.NewEncoder(out)
	for _, x := range list {
		if err := e.Encode(x); err != nil {
			return fmt.Errorf("print: %w", err)
		}
	}
	return nil
}

func printHolds(out io.Writer, held []hold.Tenant) error {
	if len(held) == 0 {
		_, err := fmt.Fprintln(out, "there are none")
		return err
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "TENANT\tSTATE\tSINCE\tDELETES\tENTITIES\tWAITING") // the error comes with Flush
	for _, x := range held {
		if x.Held {
			_, _ = fmt.Fprintf(t, "%s\theld\t%s\t%d\t%d\t%d\n", x.Tenant, x.Since.Local().Format(time.DateTime), x.Deletes, x.Entities, x.Waiting)
		} else {
			_, _ = fmt.Fprintf(t, "%s\treleased\t-\t-\t-\t%d\n", x.Tenant, x.Waiting)
		}
	}
	return t.Flush()
}

func (h *holdShowCmd) Run(ctx context.Context) error {
	conn, err := h.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	held, err := hold.Show(ctx, conn, h.Tenant)
	if err != nil {
		return err
	}
	if len(held) == 0 {
		return fmt.Errorf("tenant %s: %w", h.Tenant, hold.ErrNotHeld)
	}
	if h.JSON {
		lines := make([]planned, len(held))
		for i, d := range held {
			lines[i] = planned{"delete", d}
		}
		return printLines(os.Stdout, lines)
	}
	return printHeld(os.Stdout, held)
}

// planned is one operation that a hold keeps from being done.
type planned struct {
	Operation string `json:"operation"`
	hold.Delete
}

func printHeld(out io.Writer, held []hold.Delete) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "SINCE\tOPERATION\tAT\tKIND\tRECORD\tENTITY") // the error comes with Flush
	for _, d := range held {
		_, _ = fmt.Fprintf(t, "%s\tdelete\t%s\t%s\t%s\t%s\n", d.At.Local().Format(time.DateTime), d.System, d.Kind, d.External, d.ID)
	}
	return t.Flush()
}

func (h *holdReleaseCmd) Run(ctx context.Context) error {
	conn, err := h.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	n, err := hold.Release(ctx, conn, h.Tenant, h.Drop, time.Now())
	if err != nil {
		return err
	}
	if h.Drop {
		_, err = fmt.Printf("%d deletes are dropped: the records stay\n", n)
	} else {
		_, err = fmt.Printf("%d deletes go on\n", n)
	}
	return err
}
