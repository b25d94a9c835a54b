package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/streams"
)

type conflictsCmd struct {
	server
	Tenant canonical.Tenant `help:"Only this tenant's." placeholder:"SLUG"`
	Since  time.Duration    `help:"Only those of this long ago or later; 0 for all that the stream holds." default:"0s"`
	JSON   bool             `name:"json" help:"Print one JSON object a line."`
}

// conflict is one field for which two values competed.
type conflict struct {
	When    time.Time             `json:"when"` // when it was decided
	Tenant  canonical.Tenant      `json:"tenant"`
	Kind    canonical.Kind        `json:"kind"`
	ID      canonical.CanonicalID `json:"id"`
	Version uint64                `json:"version"`
	Field   string                `json:"field"`
	Kept    string                `json:"kept"`
	Of      canonical.System      `json:"of"`
	Lost    string                `json:"lost"`
	Whose   canonical.System      `json:"whose"`
	Reason  string                `json:"reason"`
}

func (c *conflictsCmd) Run(ctx context.Context) error {
	conn, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	var since time.Time
	if c.Since > 0 {
		since = time.Now().Add(-c.Since)
	}
	found, err := conflicts(ctx, conn, c.Tenant, since)
	if err != nil {
		return err
	}
	if c.JSON {
		out := json.NewEncoder(os.Stdout)
		for _, x := range found {
			if err := out.Encode(x); err != nil {
				return fmt.Errorf("print conflicts: %w", err)
			}
		}
		return nil
	}
	return printConflicts(os.Stdout, found)
}

// conflicts reads them from CANONICAL, oldest first.
func conflicts(ctx context.Context, c *bus.Conn, tenant canonical.Tenant, since time.Time) ([]conflict, error) {
	filter := streams.Entities(tenant)
	var out []conflict
	err := c.Scan(ctx, streams.CANONICAL, filter, since, func(m bus.Stored) error {
		subject, err := streams.Parse(m.Subject)
		if err != nil {
			return err
		}
		if subject.Kind == canonical.KindTag {
			return nil // derived from its contact's
		}
		e, err := canonical.DecodeEvent(m.Data)
		if err != nil {
			return fmt.Errorf("decode message %d of %s: %w", m.Seq, m.Stream, err)
		}
		for _, change := range e.Changes {
			if change.Conflict != nil {
				out = append(out, conflict{When: m.Time.UTC(), Tenant: subject.Tenant, Kind: subject.Kind, ID: e.ID(), Version: e.Version, Field: change.Field,
					Kept: change.To, Of: change.Origin, Lost: change.Conflict.Lost, Whose: change.Conflict.Origin, Reason: change.Conflict.Reason})
			}
		}
		return nil
	})
	return out, err
}

func printConflicts(out io.Writer, found []conflict) error {
	if len(found) == 0 {
		_, err := fmt.Fprintln(out, "there are none")
		return err
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "WHEN\tTENANT\tKIND\tID\tFIELD\tKEPT\tOF\tLOST\tOF\tBECAUSE") // the error comes with Flush
	for _, x := range found {
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%q\t%s\t%q\t%s\t%s\n", x.When.Local().Format(time.DateTime), x.Tenant, x.Kind, x.ID, x.Field,
			x.Kept, cmp.Or(string(x.Of), "-"), x.Lost, cmp.Or(string(x.Whose), "-"), x.Reason)
	}
	return t.Flush()
}
