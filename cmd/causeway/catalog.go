package main

import (
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/catalog"
)

type catalogCmd struct {
	System string `help:"Only this system's: ghl or novi." enum:",ghl,novi" default:"" placeholder:"SYSTEM"`
	Kind   string `help:"Only triggers or actions." enum:",trigger,action" default:"" placeholder:"KIND"`
	JSON   bool   `name:"json" help:"Print one JSON array with all that is known of each."`
}

func (c *catalogCmd) Run() error { return c.print(os.Stdout) }

func (c *catalogCmd) print(out io.Writer) error {
	entries := catalog.Find(c.System, c.Kind)
	if c.JSON {
		text, err := json.MarshalIndent(entries, "", "  ")
		if err != nil {
			return fmt.Errorf("print the catalogue: %w", err)
		}
		_, err = fmt.Fprintln(out, string(text))
		return err
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "ID\tHOW\tMAPPED\tCALLS\tWHAT") // the error comes with Flush
	for _, e := range entries {
		mapped := "-"
		if e.Mapped {
			mapped = "yes"
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", e.ID, e.How, mapped, e.Cost(), e.Title)
	}
	return t.Flush()
}
