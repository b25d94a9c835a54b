package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-json"
	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/config"
	"github.com/causeway-sync/causeway/internal/console"
	"github.com/causeway-sync/causeway/internal/dev"
	"github.com/causeway-sync/causeway/internal/natsembed"
	"github.com/causeway-sync/causeway/internal/process"
)

type devCmd struct {
	Seed      int64         `help:"What the people's whims, ids and delays follow from." default:"1"`
	Contacts  int           `help:"How many people there are at first. Default 12, with --exit 200." default:"-1" placeholder:"N"`
	Changes   int           `help:"How many random changes are made on both sides. Default none, with --exit 500." default:"-1" placeholder:"N"`
	Exit      bool          `help:"Play a run that ends: wait until all is quiet, compare both systems, report, and exit 1 if anything is wrong."`
	JSON      bool          `name:"json" help:"Print the report as one JSON object."`
	Data      string        `help:"Keep configuration, streams and logs in this directory, which has to be empty." placeholder:"DIR"`
	Processes bool          `help:"Run the real programs, and the broker, as processes of their own."`
	Limits    int           `help:"Multiply both systems' call limits, at the simulators and in the configuration alike. 1 is the real ones. Default 1, with --exit 20." placeholder:"N"`
	Pace      time.Duration `help:"Time between two changes of --exit." default:"50ms"`
	Timeout   time.Duration `help:"How long --exit may take." default:"20m"`
	Poll      time.Duration `help:"Interval of the polls that heal lost webhooks." default:"2s"`
	Mode      string        `help:"How changes are seen: by webhooks, by polling (as with a private integration token), or by both. Without polls nobody writes tasks and notes: not all of their changes have a webhook." enum:"webhooks,polling,both" default:"both"`
	Items     bool          `help:"People write tasks and notes too." default:"true" negatable:""`
	Twins     bool          `help:"Some people are entered twice and merged, and addresses go from one to another." default:"true" negatable:""`
	Faults    faults        `help:"Let webhooks be dropped, doubled, late and out of order. With --faults=all both APIs fail as well: 429, 5xx, connections that break after the write, creates that are refused and done all the same."`
	OAuth     bool          `name:"oauth" help:"Reach GHL through a marketplace app that is installed, refreshed every few seconds, and with --exit uninstalled, instead of with a private integration token."`
	Rules     bool          `help:"Switch on the automations of docs/automations.md, to watch them fire. Not with --exit, whose judge takes what nobody has written for an error."`
	Verbose   bool          `short:"v" help:"Print the stages' logs."`
	Console   string        `help:"Address of the console, but not with --exit; if somebody else has it, any other port. Empty for none." default:"127.0.0.1:8480" placeholder:"ADDR"`
}

// faults is a flag that may stand alone.
type faults struct{ dev.Faults }

// IsBool lets kong take the flag without a value.
func (*faults) IsBool() bool { return true }

// Decode implements [kong.MapperValue].
func (f *faults) Decode(ctx *kong.DecodeContext) (err error) {
	f.Faults = dev.WebhookFaults
	if ctx.Scan.Peek().Type == kong.FlagValueToken {
		f.Faults, err = dev.ParseFaults(ctx.Scan.Pop().String())
	}
	return err
}

func (c *devCmd) Run(ctx context.Context) (err error) {
	fill := func(v *int, unset, look, exit int) {
		if *v != unset {
			return
		}
		if *v = look; c.Exit {
			*v = exit
		}
	}
	fill(&c.Contacts, -1, 12, 200)
	fill(&c.Changes, -1, 0, 500)
	fill(&c.Limits, 0, 1, 20)
	if c.Rules && c.Exit {
		return errors.New("--rules is to look at; the judge of --exit doesn't know what automations do")
	}
	if c.Data == "" {
		if c.Data, err = os.MkdirTemp("", "causeway-"); err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(c.Data)) }()
	}
	if c.Data, err = filepath.Abs(c.Data); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	o := dev.Options{Dir: c.Data, Seed: c.Seed, Limits: c.Limits, PollGHL: c.Poll, PollNovi: c.Poll, Items: c.Items, Twins: c.Exit && c.Twins, OAuth: c.OAuth, Faults: c.Faults.Faults}
	if c.Rules {
		o.Rules = dev.Automations
	}
	switch c.Mode {
	case "webhooks":
		o.PollGHL, o.PollNovi, o.Items, o.Twins = 0, 0, false, false
	case "polling":
		o.NoWebhooks = true
	}
	w, err := dev.NewWorld(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()

	var running dev.Running
	day := dev.Day{Out: os.Stdout, Contacts: c.Contacts, Changes: c.Changes, Pace: c.Pace}
	start := func() error {
		r, err := c.start(ctx, w)
		if err != nil {
			return err
		}
		running = r
		if c.Console != "" && !c.Exit {
			var end func() error
			if day.Console, end, err = c.console(ctx, w); err != nil {
				return err
			}
			running = both{end, r}
		}
		if c.OAuth {
			return w.Install(ctx)
		}
		return nil
	}
	defer func() {
		if running != nil {
			err = errors.Join(err, running.Stop())
		}
	}()
	if !c.Exit {
		day.Start = start
		return w.Day(ctx, &day)
	}
	report, err := w.Run(ctx, dev.Play{Contacts: c.Contacts, Changes: c.Changes, Pace: c.Pace, Start: start, Limits: c.Limits, Timeout: c.Timeout})
	if err != nil {
		return err
	}
	if err := c.print(os.Stdout, report); err != nil {
		return err
	}
	if c.OAuth {
		if err := w.EndOAuth(ctx, os.Stderr); err != nil {
			return err
		}
	}
	if !report.Good() {
		return errors.New("the run is not good: see the report")
	}
	return nil
}

// both stops the console, and then the rest.
type both struct {
	console func() error
	dev.Running
}

func (b both) Stop() error { return errors.Join(b.console(), b.Running.Stop()) }

// console serves the console and returns its address, and how to end it.
func (c *devCmd) console(ctx context.Context, w *dev.World) (url string, end func() error, err error) {
	l, err := net.Listen("tcp", c.Console)
	if host, _, _ := net.SplitHostPort(c.Console); errors.Is(err, syscall.EADDRINUSE) {
		l, err = net.Listen("tcp", net.JoinHostPort(host, "0"))
	}
	if err != nil {
		return "", nil, fmt.Errorf("console: %w", err)
	}
	if !console.Loopback(l.Addr()) {
		return "", nil, errors.Join(fmt.Errorf("console: %s is no loopback address, and nobody signs in here", c.Console), l.Close())
	}
	file, err := config.Load(w.ConfigPath)
	if err != nil {
		return "", nil, errors.Join(err, l.Close())
	}
	conn, err := w.Connect(ctx)
	if err != nil {
		return "", nil, errors.Join(err, l.Close())
	}
	logger := zerolog.Nop()
	if c.Verbose {
		logger = process.Logger(os.Stderr, "info", "console").With().Str("stage", "console").Logger()
	}
	web, err := console.New(console.Options{Bus: conn, Logger: logger, File: file, ConfigPath: w.ConfigPath})
	if err != nil {
		conn.Close()
		return "", nil, errors.Join(err, l.Close())
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- web.Run(ctx, l) }()
	return "http://" + l.Addr().String(), func() error {
		cancel()
		defer conn.Close()
		return <-done
	}, nil
}

// start starts the stages in this process or as processes.
func (c *devCmd) start(ctx context.Context, w *dev.World) (dev.Running, error) {
	if !c.Processes {
		logger := zerolog.Nop()
		if c.Verbose {
			logger = process.Logger(os.Stderr, "info", "console")
		}
		return w.StartHere(ctx, logger)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find our own program: %w", err)
	}
	// The programs lie beside this one if it was built; `go run` has only this
	// one, so they are built.
	dir := filepath.Dir(self)
	if _, err := os.Stat(filepath.Join(dir, "ingest")); err != nil {
		dir = filepath.Join(c.Data, "bin")
		if err := dev.Build(ctx, dir, os.Stderr); err != nil {
			return nil, err
		}
	}
	return w.StartPrograms(ctx, dir, self, "broker")
}

func (c *devCmd) print(out io.Writer, r dev.Report) error {
	if c.JSON {
		data, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return fmt.Errorf("encode report: %w", err)
		}
		_, err = fmt.Fprintln(out, string(data))
		return err
	}
	verdict := "both systems are the same"
	if !r.Good() {
		verdict = "SOMETHING IS WRONG"
	}
	_, err := fmt.Fprintf(out, `%s
  people %d, changes %d, canonical events %d, in %s
  calls: ghl %d reads and %d writes, novi %d reads and %d writes, %d answered 429
  duplicates %d, echo writes %d, lost changes %d, dead letters %d; %d conflicts were decided, %d entities were folded; %d edits were overwritten unseen by a PUT, %d values nulled by one
`, verdict, r.Contacts, r.Changes, r.CanonicalEvents, (time.Duration(r.DurationMS) * time.Millisecond).Round(time.Second),
		r.Reads.GHL, r.Writes.GHL, r.Reads.Novi, r.Writes.Novi, r.HTTP429, r.Duplicates, r.EchoWrites, r.LostChanges, r.Dead, r.Conflicts, r.Merges, r.Overwritten, r.Nulled)
	for _, p := range r.Problems {
		_, _ = fmt.Fprintln(out, "  !", p)
	}
	return err
}

type brokerCmd struct {
	Listen string `help:"Address to listen on." default:"127.0.0.1:4222"`
	Data   string `help:"Where the streams are kept." required:""`
	Config string `help:"A server configuration; what is said here overrides it." type:"existingfile" placeholder:"FILE"`
}

func (b *brokerCmd) Run(ctx context.Context) error {
	s, err := natsembed.Start(natsembed.Options{StoreDir: b.Data, Listen: b.Listen, Config: b.Config})
	if err != nil {
		return err
	}
	<-ctx.Done()
	s.Shutdown()
	return nil
}
