package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/transform/gap"
)

type gapsCmd struct {
	List  gapsListCmd  `cmd:"" help:"List the gaps that are open."`
	Close gapsCloseCmd `cmd:"" help:"Close a gap by your word, because nothing that can be read anew would."`
}

type gapsListCmd struct {
	server
	All  bool `help:"Those that are closed too."`
	JSON bool `name:"json" help:"Print one JSON object a line."`
}

type gapsCloseCmd struct {
	server
	System canonical.System `arg:"" help:"ghl, novi or rule." enum:"ghl,novi,rule"`
	Tenant canonical.Tenant `arg:"" help:"The tenant."`
	Kind   canonical.Kind   `arg:"" help:"contact, task, note or appointment."`
}

func (g *gapsListCmd) Run(ctx context.Context) error {
	conn, err := g.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	find := gap.Open
	if g.All {
		find = gap.All
	}
	gaps, err := find(ctx, conn)
	if err != nil {
		return err
	}
	if g.JSON {
		return printLines(os.Stdout, gaps)
	}
	return printGaps(os.Stdout, gaps)
}

func printGaps(out io.Writer, gaps []envelope.Gap) error {
	if len(gaps) == 0 {
		_, err := fmt.Fprintln(out, "there are none")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "SYSTEM\tTENANT\tKIND\tSTATE\tDETECTED\tREASON\tMISSING\tRECONCILE\tTROUBLE") // Flush says so
	for _, g := range gaps {
		missing := "unknown"
		if g.Missing > 0 {
			missing = fmt.Sprint(g.Missing)
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", g.System, g.Tenant, g.Kind, g.State, g.Detected.Local().Format(time.DateTime), g.Reason, missing, g.Sweep, g.Trouble)
	}
	return w.Flush()
}

func (g *gapsCloseCmd) Run(ctx context.Context) error {
	conn, err := g.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return gap.Close(ctx, conn, g.System, g.Tenant, g.Kind, time.Now())
}
