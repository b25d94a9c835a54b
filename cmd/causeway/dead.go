package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/dead"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/streams"
)

type deadCmd struct {
	List    deadListCmd    `cmd:"" help:"List the dead letters, oldest first."`
	Show    deadShowCmd    `cmd:"" help:"Show one dead letter, whole. It may hold personal data."`
	Redrive deadRedriveCmd `cmd:"" help:"Try again, with what is true now. A letter goes when that has succeeded."`
	Drop    deadDropCmd    `cmd:"" help:"Say that nothing is to be done. The letters are kept until they are too old, or their entity succeeds."`
}

// letters is a choice of dead letters.
type letters struct {
	Stage  string           `help:"Only this stage's: ingest, hydrate, transform, sink, sink-ghl or sink-novi." placeholder:"STAGE"`
	Tenant canonical.Tenant `help:"Only this tenant's." placeholder:"SLUG"`
	Kind   canonical.Kind   `help:"Only those of this kind of record." placeholder:"KIND"`
	Class  envelope.Class   `help:"Only those of this class: data, credentials or mapping (yours to put right), defect (ours), outage (theirs)." placeholder:"CLASS"`
	Since  time.Duration    `help:"Only those of this long ago or later; 0 for all." default:"0s"`
}

func (l letters) filter() dead.Filter {
	f := dead.Filter{Stage: l.Stage, Tenant: l.Tenant, Kind: l.Kind, Class: l.Class}
	if l.Since > 0 {
		f.Since = time.Now().Add(-l.Since)
	}
	return f
}

// bulk is what is done to a choice, or to letters by name.
type bulk struct {
	server
	letters
	All      bool     `help:"All of them, if nothing else is said."`
	DryRun   bool     `help:"Only print what would be done."`
	Subjects []string `arg:"" optional:"" help:"The letters' subjects, as list prints them."`
}

// chosen returns the letters that are meant, which has to have been said.
func (b bulk) chosen(ctx context.Context, c *bus.Conn, dropped bool) ([]dead.Letter, error) {
	f := b.filter()
	switch {
	case len(b.Subjects) > 0 && (b.All || f != dead.Filter{}):
		return nil, errors.New("say subjects, or which letters, and not both")
	case len(b.Subjects) == 0 && !b.All && f == dead.Filter{}:
		return nil, errors.New("say which letters: their subjects, --stage, --tenant, --kind, --class, --since, or --all")
	case len(b.Subjects) == 0:
		f.Dropped = dropped
		return dead.Find(ctx, c, f)
	}
	var out []dead.Letter
	for _, subject := range b.Subjects {
		l, err := get(ctx, c, subject)
		if err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}

func get(ctx context.Context, c *bus.Conn, subject string) (dead.Letter, error) {
	if p, err := streams.Parse(subject); err != nil || p.Stream != "dead" {
		return dead.Letter{}, fmt.Errorf("%q is no dead letter's subject", subject)
	}
	l, err := dead.Get(ctx, c, subject)
	if errors.Is(err, bus.ErrNotFound) {
		return dead.Letter{}, fmt.Errorf("there is no dead letter %s", subject)
	}
	return l, err
}

// each does do to every letter and prints what came of it. Its error counts
// those that it could not be done to.
func (b bulk) each(ctx context.Context, dropped bool, what string, do func(*bus.Conn, dead.Letter) (string, error)) error {
	conn, err := b.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	chosen, err := b.chosen(ctx, conn, dropped)
	if err != nil {
		return err
	}
	failed := 0
	for _, l := range chosen {
		if b.DryRun {
			fmt.Printf("%s: would be %s\n", l.Key, what)
			continue
		}
		done, err := do(conn, l)
		if err != nil {
			failed++
			fmt.Println(err)
			continue
		}
		fmt.Printf("%s: %s\n", l.Key, done)
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d letters could not be %s", failed, len(chosen), what)
	}
	if len(chosen) == 0 {
		fmt.Println("there are none")
	}
	return nil
}

type deadListCmd struct {
	server
	letters
	Dropped bool `help:"List those that were dropped, and no others."`
	JSON    bool `name:"json" help:"Print one JSON object a line. It may hold personal data."`
}

func (d *deadListCmd) Run(ctx context.Context) error {
	conn, err := d.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	f := d.filter()
	f.Dropped = d.Dropped
	found, err := dead.Find(ctx, conn, f)
	if err != nil {
		return err
	}
	if d.JSON {
		lines := make([]keyed, len(found))
		for i, l := range found {
			lines[i] = keyed{l.Key, l.DeadLetter}
		}
		return printLines(os.Stdout, lines)
	}
	return printLetters(os.Stdout, found)
}

// keyed is a letter with where it is.
type keyed struct {
	Letter string `json:"letter"`
	envelope.DeadLetter
}

func printLetters(out io.Writer, found []dead.Letter) error {
	if len(found) == 0 {
		_, err := fmt.Fprintln(out, "there are none")
		return err
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "WHEN\tSUBJECT\tFROM\tCLASS\tREASON") // the error comes with Flush
	for _, l := range found {
		from := "-"
		if l.Stream != "" {
			from = fmt.Sprintf("%s %d", l.Stream, l.Sequence)
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", l.At.Local().Format(time.DateTime), l.Key, from, cmp.Or(string(l.Class), "-"), l.Reason)
	}
	return t.Flush()
}

type deadShowCmd struct {
	server
	Subject string `arg:"" help:"The dead letter's subject, as list prints it."`
}

func (d *deadShowCmd) Run(ctx context.Context) error {
	conn, err := d.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	l, err := get(ctx, conn, d.Subject)
	if err != nil {
		return err
	}
	history, err := dead.History(ctx, conn, l)
	if err != nil {
		return err
	}
	l.Attempts = slices.Concat(history, l.Attempts)
	text, err := json.MarshalIndent(l.DeadLetter, "", "  ")
	if err != nil {
		return fmt.Errorf("print dead letter: %w", err)
	}
	_, err = fmt.Println(string(text))
	return err
}

type deadRedriveCmd struct{ bulk }

func (d *deadRedriveCmd) Run(ctx context.Context) error {
	return d.each(ctx, false, "redriven", func(c *bus.Conn, l dead.Letter) (string, error) {
		return dead.Redrive(ctx, c, l, time.Now())
	})
}

type deadDropCmd struct {
	bulk
	Undo bool `help:"Undo a drop: something is to be done after all."`
}

func (d *deadDropCmd) Run(ctx context.Context) error {
	if d.Undo {
		return d.each(ctx, true, "undropped", func(c *bus.Conn, l dead.Letter) (string, error) {
			return "dropped no more", dead.Undrop(ctx, c, l)
		})
	}
	return d.each(ctx, false, "dropped", func(c *bus.Conn, l dead.Letter) (string, error) {
		return "dropped", dead.Drop(ctx, c, l, time.Now())
	})
}
