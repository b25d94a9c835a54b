package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/config"
	"github.com/causeway-sync/causeway/internal/process"
	"github.com/causeway-sync/causeway/internal/replay"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/streams"
	"github.com/causeway-sync/causeway/transform"
)

type replayCmd struct {
	Raw       replayRawCmd       `cmd:"" help:"Have the transform read again what the systems showed, as the mapping reads it now. Nothing is fetched."`
	Canonical replayCanonicalCmd `cmd:"" help:"Have the sinks look again at entities, as they are now."`
	List      replayListCmd      `cmd:"" help:"List the replays, and how far each has come."`
	Pause     replayPauseCmd     `cmd:"" help:"Let a replay rest."`
	Resume    replayResumeCmd    `cmd:"" help:"Go on with a replay that was paused, or whose process has ended."`
	Cancel    replayCancelCmd    `cmd:"" help:"End a replay. What has been read again stays so."`
	Check     replayCheckCmd     `cmd:"" help:"Read all of RAW into nothing, in memory, and compare what comes of it with CANONICAL."`
}

// choice is what is replayed, as a person says it.
type choice struct {
	Since at             `help:"What was stored then or later: a time, or how long ago." placeholder:"TIME"`
	Until at             `help:"What was stored before." placeholder:"TIME"`
	From  uint64         `help:"From this sequence." placeholder:"SEQ"`
	To    uint64         `help:"To this sequence." placeholder:"SEQ"`
	Kind  canonical.Kind `help:"Only this kind of record." placeholder:"KIND"`
}

func (c choice) of(stream string, tenant canonical.Tenant) replay.Choice {
	return replay.Choice{Stream: stream, Tenant: tenant, Kind: c.Kind, Since: c.Since.Time, Until: c.Until.Time, From: c.From, To: c.To}
}

// replaying is how a replay is run, or planned.
type replaying struct {
	configured
	choice
	Rate       int  `help:"How many messages a second at most." default:"500"`
	Plan       bool `help:"Only print the API calls that it would cause."`
	Limit      int  `help:"With --plan: how many writes to print of each tenant; 0 prints all." default:"20"`
	ShowValues bool `help:"With --plan: print what would be written, which may be personal data."`
	JSON       bool `name:"json" help:"Print JSON, one object a line."`
}

type replayRawCmd struct {
	replaying
	System canonical.System     `help:"Only what this system showed: ghl or novi." placeholder:"SYSTEM"`
	Record canonical.ExternalID `help:"Only this record, by its system's id." placeholder:"ID"`
}

func (c *replayRawCmd) Run(ctx context.Context) error {
	what := c.of(streams.RAW, c.Tenant)
	what.System, what.Record = c.System, c.Record
	return c.run(ctx, what)
}

type replayCanonicalCmd struct {
	replaying
	Entity canonical.CanonicalID `help:"Only this entity, by its canonical id." placeholder:"ID"`
}

func (c *replayCanonicalCmd) Run(ctx context.Context) error {
	what := c.of(streams.CANONICAL, c.Tenant)
	what.Entity = c.Entity
	return c.run(ctx, what)
}

func (c *replaying) run(ctx context.Context, what replay.Choice) error {
	file, tenants, err := c.load()
	if err != nil {
		return err
	}
	conn, err := bus.Connect(ctx, process.Broker(file, "causeway"))
	if err != nil {
		return err
	}
	defer conn.Close()
	if c.Plan {
		return c.plan(ctx, os.Stdout, conn, file, tenants, what)
	}
	id := strings.ToLower(rand.Text()[:8])
	if err := replay.New(ctx, conn, replay.Replay{ID: id, Choice: what, Rate: c.Rate, Asked: time.Now().UTC()}); err != nil {
		return err
	}
	return work(ctx, conn, id, c.JSON)
}

// work goes on with a replay and tells how far it is.
func work(ctx context.Context, conn *bus.Conn, id string, asJSON bool) error {
	if !asJSON {
		fmt.Printf("replay %s: Ctrl-C lets it rest, causeway replay resume %s goes on\n", id, id)
	}
	var failed error
	r, err := replay.Run(ctx, conn, clock.System{}, id, func(r replay.Replay) {
		if asJSON {
			failed = errors.Join(failed, printJSON(os.Stdout, r))
			return
		}
		fmt.Printf("%s: %d of %d read again\n", r.State, r.Told, r.Total)
	})
	if err != nil || asJSON {
		return errors.Join(err, failed)
	}
	if r.State == replay.Done && r.Older > 0 {
		fmt.Printf("%d older sights of the same records were left out: they would change nothing\n", r.Older)
	}
	return nil
}

// plan prints what a replay would have the sinks do.
func (c *replaying) plan(ctx context.Context, out io.Writer, conn *bus.Conn, file *config.File, tenants []config.Tenant, what replay.Choice) error {
	for _, t := range tenants {
		what.Tenant = t.Name
		dry, err := inMemory(ctx, file, func(done func()) *replay.Dry { return replay.NewPlan(conn, what, done) })
		if err != nil {
			return err
		}
		p := planCmd{configured: c.configured, JSON: c.JSON, Limit: c.Limit, ShowValues: c.ShowValues}
		if err := p.plan(ctx, out, dry, t, nil); err != nil {
			return fmt.Errorf("tenant %s: %w", t.Name, err)
		}
		if n := dry.Letters(); n > 0 && !c.JSON {
			if _, err := fmt.Fprintf(out, "%d observations would be dead letters\n", n); err != nil {
				return err
			}
		}
	}
	return nil
}

// inMemory runs a transform on a broker that keeps nothing, until it has
// merged everything.
func inMemory(ctx context.Context, file *config.File, on func(done func()) *replay.Dry) (*replay.Dry, error) {
	work, stop := context.WithCancel(ctx)
	defer stop()
	dry := on(stop)
	cfg := transform.FromFile(file, dry, clock.System{}, zerolog.Nop(), nil)
	for name, policy := range cfg.Tenants { // what rules have asked for is in RAW
		policy.Automations = nil
		cfg.Tenants[name] = policy
	}
	if err := transform.Run(work, cfg); err != nil {
		return nil, err
	}
	return dry, ctx.Err()
}

type replayListCmd struct {
	server
	JSON bool `name:"json" help:"Print one JSON object a line."`
}

func (c *replayListCmd) Run(ctx context.Context) error {
	conn, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	list, err := replay.List(ctx, conn)
	if err != nil {
		return err
	}
	if c.JSON {
		return printLines(os.Stdout, list)
	}
	return printReplays(os.Stdout, list, time.Now())
}

func printReplays(out io.Writer, list []replay.Replay, now time.Time) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(out, "there are none")
		return err
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "ID\tASKED\tOF\tTENANT\tKIND\tSTATE\tTOLD\tOF") // the error comes with Flush
	for _, r := range list {
		state := string(r.State)
		if r.State == replay.Running && now.Sub(r.Beat) > 10*time.Second {
			state = "left; resume goes on"
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\n", r.ID, clockTime(r.Asked), r.Stream, orAll(string(r.Tenant)), orAll(string(r.Kind)), state, r.Told, r.Total)
	}
	return t.Flush()
}

func orAll(s string) string {
	if s == "" {
		return "all"
	}
	return s
}

// named is a verb about one replay.
type named struct {
	server
	ID string `arg:"" help:"The replay, as list prints it."`
}

func (n named) ask(ctx context.Context, s replay.State) error {
	conn, err := n.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	r, err := replay.Ask(ctx, conn, n.ID, s, time.Now().UTC())
	if err != nil {
		return err
	}
	fmt.Printf("%s: %d of %d were read again\n", r.State, r.Told, r.Total)
	return nil
}

type replayPauseCmd struct{ named }

func (c *replayPauseCmd) Run(ctx context.Context) error { return c.ask(ctx, replay.Paused) }

type replayCancelCmd struct{ named }

func (c *replayCancelCmd) Run(ctx context.Context) error { return c.ask(ctx, replay.Cancelled) }

type replayResumeCmd struct {
	named
	JSON bool `name:"json" help:"Print JSON, one object a line."`
}

func (c *replayResumeCmd) Run(ctx context.Context) error {
	conn, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return work(ctx, conn, c.ID, c.JSON)
}

type replayCheckCmd struct {
	configured
	JSON bool `name:"json" help:"Print JSON."`
}

func (c *replayCheckCmd) Run(ctx context.Context) error {
	file, _, err := c.load()
	if err != nil {
		return err
	}
	conn, err := bus.Connect(ctx, process.Broker(file, "causeway"))
	if err != nil {
		return err
	}
	defer conn.Close()
	dry, err := inMemory(ctx, file, func(done func()) *replay.Dry { return replay.NewRebuild(conn, c.Tenant, done) })
	if err != nil {
		return err
	}
	x, err := replay.Compare(ctx, conn, conn, dry, c.Tenant)
	if err != nil {
		return err
	}
	if c.JSON {
		err = printJSON(os.Stdout, x)
	} else {
		err = printComparison(os.Stdout, x)
	}
	if err == nil && !x.Equal() {
		err = fmt.Errorf("%d entities differ", len(x.Differences))
	}
	return err
}

func printComparison(out io.Writer, x replay.Comparison) error {
	var b strings.Builder
	for _, d := range x.Differences {
		fmt.Fprintf(&b, "%s %s of %s: %s %s\n", d.Kind, d.ID, d.Tenant, d.What, strings.Join(d.Fields, ", "))
	}
	fmt.Fprintf(&b, "%d of %d entities come to the same\nCANONICAL %s\nrebuilt   %s\n", x.Same, x.Entities, x.Hash, x.Rebuilt)
	if slices.ContainsFunc(x.Differences, func(d replay.Difference) bool { return d.What != "new" }) && x.Oldest > 1 {
		fmt.Fprintf(&b, "RAW holds nothing before its message %d: what was seen earlier can't be rebuilt\n", x.Oldest)
	}
	_, err := io.WriteString(out, b.String())
	return err
}
