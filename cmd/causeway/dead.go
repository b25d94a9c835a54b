package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/streams"
)

type deadCmd struct {
	List deadListCmd `cmd:"" help:"List the dead letters, oldest first."`
	Show deadShowCmd `cmd:"" help:"Show one dead letter, whole. It may hold personal data."`
}

type deadListCmd struct {
	server
	Stage  string `help:"Only this stage's." placeholder:"STAGE"`
	Tenant string `help:"Only this tenant's." placeholder:"SLUG"`
}

type deadShowCmd struct {
	server
	Subject string `arg:"" help:"The dead letter's subject, as list prints it."`
}

func (d *deadListCmd) Run(ctx context.Context) error {
	conn, err := d.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	n := 0
	err = conn.Scan(ctx, streams.DEAD, streams.DeadLetters(d.Stage, d.Tenant), time.Time{}, func(m bus.Stored) error {
		letter, err := readLetter(m)
		if err != nil {
			return err
		}
		if n++; n == 1 {
			_, _ = fmt.Fprintln(t, "WHEN\tSUBJECT\tFROM\tREASON") // the error comes with Flush
		}
		from := "-"
		if letter.Stream != "" {
			from = fmt.Sprintf("%s %d", letter.Stream, letter.Sequence)
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", letter.At.Local().Format(time.DateTime), m.Subject, from, letter.Reason)
		return nil
	})
	if err != nil {
		return err
	}
	if n == 0 {
		_, _ = fmt.Fprintln(t, "there are none")
	}
	return t.Flush()
}

func readLetter(m bus.Stored) (envelope.DeadLetter, error) {
	var letter envelope.DeadLetter
	if err := json.Unmarshal(m.Data, &letter); err != nil {
		return letter, fmt.Errorf("decode message %d of %s: %w", m.Seq, m.Stream, err)
	}
	return letter, nil
}

func (d *deadShowCmd) Run(ctx context.Context) error {
	if p, err := streams.Parse(d.Subject); err != nil || p.Stream != "dead" {
		return fmt.Errorf("%q is no dead letter's subject", d.Subject)
	}
	conn, err := d.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return showLetter(ctx, os.Stdout, conn, d.Subject)
}

// showLetter prints the letter as it is stored.
func showLetter(ctx context.Context, out io.Writer, c *bus.Conn, subject string) error {
	m, err := c.Last(ctx, streams.DEAD, subject)
	if errors.Is(err, bus.ErrNotFound) {
		return fmt.Errorf("there is no dead letter %s", subject)
	}
	if err != nil {
		return err
	}
	letter, err := readLetter(m)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(letter, "", "  ")
	if err != nil {
		return fmt.Errorf("print dead letter: %w", err)
	}
	_, err = fmt.Fprintln(out, string(text))
	return err
}
