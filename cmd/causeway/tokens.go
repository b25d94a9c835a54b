package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/clients"
	"github.com/causeway-sync/causeway/internal/config"
	"github.com/causeway-sync/causeway/internal/process"
	"github.com/causeway-sync/causeway/internal/tokens"
	"github.com/causeway-sync/causeway/schemas/canonical"
)

type tokensCmd struct {
	List      tokensListCmd   `cmd:"" help:"List whose OAuth tokens there are and what they are good for. No token is shown."`
	RotateKey tokensRotateCmd `cmd:"" help:"Encrypt every record with the first of token_keys that another of them has encrypted."`
	Retry     tokensRetryCmd  `cmd:"" help:"Have a refresh token that is in doubt presented once more."`
}

// keeper is how a verb finds the tokens.
type keeper struct {
	Config string `help:"The stages' configuration file." default:"causeway.yaml" env:"CAUSEWAY_CONFIG" type:"existingfile" placeholder:"FILE"`
}

func (k keeper) open(ctx context.Context) (*tokens.Store, func(), error) {
	file, err := config.Load(k.Config)
	if err != nil {
		return nil, nil, err
	}
	conn, err := bus.Connect(ctx, process.Broker(file, "causeway"))
	if err != nil {
		return nil, nil, err
	}
	store, err := clients.OpenTokens(ctx, file, conn)
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return store, conn.Close, nil
}

type tokensListCmd struct {
	keeper
	JSON bool `name:"json" help:"Print one JSON object a line."`
}

// listedTokens is what is shown of them, which is no token.
type listedTokens struct {
	Owner      string    `json:"owner"`
	State      string    `json:"state"`
	Location   string    `json:"location,omitempty"`
	Generation int       `json:"generation"`
	Expires    time.Time `json:"expires,omitzero"`
	Key        string    `json:"key"`
	Scope      string    `json:"scope,omitempty"`
}

func (c *tokensListCmd) Run(ctx context.Context) error {
	store, done, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	list, err := store.List(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		var lines []listedTokens
		for _, l := range list {
			t := listedTokens{Owner: l.Owner.String(), Key: l.KeyID}
			if l.Err != nil {
				t.State = l.Err.Error()
			} else {
				g := l.Grant
				t.State, t.Location, t.Generation, t.Expires, t.Scope = g.State(time.Now()), g.Location, g.Generation, g.Expires, g.Scope
			}
			lines = append(lines, t)
		}
		return printLines(os.Stdout, lines)
	}
	return printTokens(os.Stdout, list, time.Now())
}

func printTokens(out io.Writer, list []tokens.Listed, now time.Time) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(out, "there are none")
		return err
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "OWNER\tSTATE\tLOCATION\tGENERATION\tEXPIRES\tKEY\tSCOPE") // the error comes with Flush
	for _, l := range list {
		if l.Err != nil {
			_, _ = fmt.Fprintf(t, "%s\t%v\t-\t-\t-\t%s\t-\n", l.Owner, l.Err, l.KeyID)
			continue
		}
		g, state, expires := l.Grant, l.Grant.State(now), "-"
		if g.Pending != nil {
			state += fmt.Sprintf(", by %s since %s", g.Pending.By, g.Pending.Since.Local().Format(time.DateTime))
		}
		if g.Minted {
			state += ", of agency " + g.Company
		}
		if !g.Expires.IsZero() {
			expires = g.Expires.Local().Format(time.DateTime)
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t%s\t%s\n", l.Owner, state, dash(g.Location), g.Generation, expires, l.KeyID, dash(g.Scope))
	}
	return t.Flush()
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

type tokensRotateCmd struct{ keeper }

func (c *tokensRotateCmd) Run(ctx context.Context) error {
	store, done, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	n, err := store.RotateKey(ctx)
	fmt.Printf("%d records were encrypted anew\n", n)
	return err
}

type tokensRetryCmd struct {
	keeper
	Tenant canonical.Tenant `help:"The tenant whose token it is." placeholder:"SLUG"`
	Agency string           `help:"The agency whose token it is." placeholder:"ID"`
}

func (c *tokensRetryCmd) Run(ctx context.Context) error {
	if (c.Tenant == "") == (c.Agency == "") {
		return errors.New("one of --tenant and --agency is needed")
	}
	store, done, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	o := tokens.Owner{Tenant: c.Tenant, Company: c.Agency}
	if err := store.Retry(ctx, o, time.Now()); err != nil {
		return err
	}
	fmt.Printf("%s: the refresh token will be presented once more when it is needed\n", o)
	return nil
}
