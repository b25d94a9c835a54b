// Command causeway is for people: it runs the whole pipeline for a look, the
// simulated systems on their own, and shows and applies the streams.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"reflect"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/willabides/kongplete"

	"github.com/causeway-sync/causeway/internal/process"
)

type cli struct {
	Dev       devCmd       `cmd:"" help:"Run everything on this machine, with simulated systems: look at it, or play a run that ends."`
	Sim       simCmd       `cmd:"" help:"Run one simulated system on its own."`
	Streams   streamsCmd   `cmd:"" help:"Compare or apply the streams, consumers and buckets."`
	Status    statusCmd    `cmd:"" help:"Show what the streams hold and how far each consumer has come."`
	Contact   contactCmd   `cmd:"" help:"Look at one contact, or what hangs on it: as it is, as it was, and where its values are from."`
	Snapshot  snapshotCmd  `cmd:"" help:"Print the state of every record, and then what changes, for a service that starts late or has lost its state."`
	Trace     traceCmd     `cmd:"" help:"Show what followed from a webhook, or all that happened to a record, with times."`
	Console   consoleCmd   `cmd:"" help:"Serve the web page for the people who run it."`
	Conflicts conflictsCmd `cmd:"" help:"List the fields for which two values competed, and the value that lost."`
	Replay    replayCmd    `cmd:"" help:"Read again what was seen, or look again at what is true."`
	Erase     eraseCmd     `cmd:"" help:"Forget a person who asks for it: everything about them in every stream and bucket, for good."`
	Merges    mergesCmd    `cmd:"" help:"List the contacts that turned out to be others."`
	Unmerge   unmergeCmd   `cmd:"" help:"Take apart two contacts that were merged."`
	Dead      deadCmd      `cmd:"" help:"Look at the work that needs a person."`
	Gaps      gapsCmd      `cmd:"" help:"Look at what RAW has lost and what is done about it."`
	Hold      holdCmd      `cmd:"" help:"Look at deletes that are held because they were so many at once, and release them."`
	Tokens    tokensCmd    `cmd:"" help:"Look at GHL's OAuth tokens, and see to what needs a person."`
	Verify    verifyCmd    `cmd:"" help:"Check that both systems show what they ought to, and name every difference."`
	Reconcile reconcileCmd `cmd:"" help:"Read everything at a system, report what differs from what is known of it, and repair that."`
	Catalog   catalogCmd   `cmd:"" help:"List what can be heard from the two systems and done at them."`
	Probe     probeCmd     `cmd:"" help:"Look whether a configuration fits the two systems as they are: credentials, scopes, paths, fields, settings, clocks."`
	Budget    budgetCmd    `cmd:"" help:"Show the call budgets, who has leased them, and what a backfill would take."`
	Mapping   mappingCmd   `cmd:"" help:"Check and show where fields live at each system."`
	Plan      planCmd      `cmd:"" help:"Show which API calls a changed mapping or policy would cause, without making one."`
	Rules     rulesCmd     `cmd:"" help:"Look at the automations, and at what they would have done."`
	Schema    schemaCmd    `cmd:"" help:"Print the JSON Schema of a configuration file, for editors."`
	Init      initCmd      `cmd:"" help:"Write a first configuration into a directory."`
	Doctor    doctorCmd    `cmd:"" help:"Find what is most likely wrong with a configuration, the broker, the stages and the two systems, and say the cure. Changes nothing."`
	Events    eventsCmd    `cmd:"" help:"Look at the canonical events."`
	Shell     shellCmd     `cmd:"" name:"completions" help:"Print what a shell runs to complete this command's verbs and flags."`
	Version   versionCmd   `cmd:"" help:"Print the version."`
	Broker    brokerCmd    `cmd:"" hidden:"" help:"Run a NATS server with JetStream (for dev --processes)."`
}

// shellCmd knows bash, zsh and fish.
type shellCmd = kongplete.InstallCompletions

type versionCmd struct{}

func (versionCmd) Run() error {
	fmt.Println("causeway", process.Version())
	return nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process
	parser := newParser(ctx)
	kongplete.Complete(parser)
	k, err := parser.Parse(os.Args[1:])
	if err != nil {
		_, _ = fmt.Fprintf(os.Stderr, "causeway: %v\ntry: causeway --help\n", err)
		os.Exit(misused)
	}
	if err := k.Run(); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "causeway:", err)
		os.Exit(failed)
	}
}

// The exit codes; docs/cli.md says what they mean.
const (
	failed  = 1
	misused = 2
)

func newParser(ctx context.Context) *kong.Kong {
	return kong.Must(&cli{}, kong.Name("causeway"), kong.TypeMapper(reflect.TypeFor[time.Duration](), durations), kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Description("Keeps contacts and tags the same in GoHighLevel and Novi AMS, over NATS JetStream."))
}
