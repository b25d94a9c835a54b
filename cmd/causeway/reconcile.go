package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/streams"
)

type reconcileCmd struct {
	server
	System   canonical.System `arg:"" help:"ghl or novi." enum:"ghl,novi"`
	Tenant   canonical.Tenant `help:"The tenant; needed if there are several." placeholder:"SLUG"`
	Kind     []canonical.Kind `help:"Only these: contact, task, note, appointment." placeholder:"KIND"`
	Restored bool             `help:"The system was restored from a backup: what it shows is no change, and is brought forward to what is canonical."`
	DryRun   bool             `help:"Only report what differs."`
	Max      int              `help:"How many differences may be repaired; if there are more, none is." default:"1000"`
	Stop     bool             `help:"Stop the reconcile that is under way."`
	Detach   bool             `help:"Ask for it and don't wait."`
	JSON     bool             `name:"json" help:"Print the report as one JSON object."`
}

// follow is how often it is looked how far a reconcile has come.
const follow = 500 * time.Millisecond

func (c *reconcileCmd) Run(ctx context.Context) error {
	conn, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	kv, err := conn.Bucket(ctx, streams.CURSORS)
	if err != nil {
		return err
	}
	if c.Tenant == "" {
		if c.Tenant, err = onlyTenant(ctx, kv, c.System); err != nil {
			return err
		}
	}
	r, err := c.ask(ctx, kv)
	if err != nil || c.Detach {
		return err
	}
	if r, err = c.follow(ctx, kv, r.ID); err != nil {
		return err
	}
	if c.JSON {
		if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
			return fmt.Errorf("print report: %w", err)
		}
	} else if err := printDrift(os.Stdout, c.Tenant, c.System, r); err != nil {
		return err
	}
	if r.State == streams.ReconcileHeld {
		return fmt.Errorf("there are more than %d differences, and none was repaired: look at them, then ask again with a higher --max", r.Max)
	}
	return nil
}

// onlyTenant returns the tenant whose contacts are walked at system.
func onlyTenant(ctx context.Context, kv bus.KV, system canonical.System) (canonical.Tenant, error) {
	keys, err := kv.Keys(ctx, streams.WalkKey(system, "*", canonical.KindContact))
	if err != nil {
		return "", err
	}
	if len(keys) != 1 {
		return "", fmt.Errorf("--tenant is needed: %d tenants have a walk through %s", len(keys), system)
	}
	tenant, _, _ := strings.Cut(keys[0], ".")
	return canonical.Tenant(tenant), nil
}

// load returns what CURSORS says, and its revision.
func (c *reconcileCmd) load(ctx context.Context, kv bus.KV) (r streams.Reconcile, rev uint64, err error) {
	value, rev, err := kv.Get(ctx, streams.ReconcileKey(c.System, c.Tenant))
	if errors.Is(err, bus.ErrNotFound) {
		return r, 0, nil
	}
	if err == nil {
		err = json.Unmarshal(value, &r)
	}
	return r, rev, err
}

// ask writes the request, or the wish that the one under way ends.
func (c *reconcileCmd) ask(ctx context.Context, kv bus.KV) (streams.Reconcile, error) {
	for {
		now, rev, err := c.load(ctx, kv)
		if err != nil {
			return now, err
		}
		next := streams.Reconcile{ID: rand.Text(), Kinds: c.Kind, Restored: c.Restored, DryRun: c.DryRun, Max: c.Max, Asked: time.Now().UTC(),
			State: streams.ReconcileAsked, Next: now.Next}
		switch {
		case c.Stop && !now.Open():
			return now, errors.New("no reconcile is under way")
		case c.Stop:
			if next = now; now.State == streams.ReconcileAsked {
				next.State = streams.ReconcileStopped // nobody has begun
			}
			next.Stop = true
		case now.Open():
			return now, fmt.Errorf("a reconcile of %s is under way since %s; --stop ends it", c.System, now.Asked.Local().Format(time.DateTime))
		}
		value, err := json.Marshal(next)
		if err != nil {
			return next, err
		}
		key := streams.ReconcileKey(c.System, c.Tenant)
		if rev == 0 {
			_, err = kv.Create(ctx, key, value)
		} else {
			_, err = kv.Update(ctx, key, value, rev)
		}
		if errors.Is(err, bus.ErrExists) || errors.Is(err, bus.ErrWrongSequence) {
			continue // it has got on meanwhile
		}
		return next, err
	}
}

// follow tells how far it has come until it has ended.
func (c *reconcileCmd) follow(ctx context.Context, kv bus.KV, id string) (streams.Reconcile, error) {
	m := newMeter()
	defer m.end()
	for looks := 0; ; looks++ {
		r, _, err := c.load(ctx, kv)
		switch {
		case err != nil:
			return r, err
		case r.ID != id:
			return r, errors.New("another reconcile has taken its place")
		case !r.Open():
			return r, nil
		case r.State == streams.ReconcileAsked && looks == 20:
			_, _ = fmt.Fprintln(os.Stderr, "no ingest has taken it yet; is one running with this tenant? Ctrl-C leaves the request where it is")
		}
		done, total := 0, 0
		for _, d := range r.Drift {
			done, total = done+d.Read+d.Other, total+d.Total
		}
		m.say(progress(r), done, total)
		if err := clock.Sleep(ctx, clock.System{}, follow); err != nil {
			return r, fmt.Errorf("not followed any more; it goes on, and --stop ends it: %w", err)
		}
	}
}

// progress says in one line how far a reconcile has come.
func progress(r streams.Reconcile) string {
	line := string(r.State)
	for _, kind := range slices.Sorted(maps.Keys(r.Drift)) {
		d := r.Drift[kind]
		line += fmt.Sprintf("; %s: %d read", kind, d.Read+d.Other)
		if d.Total > 0 {
			line += fmt.Sprintf(" of %d", d.Total)
		}
		if d.Found() > 0 {
			line += fmt.Sprintf(", %d differ", d.Found())
		}
	}
	if r.Trouble != "" {
		line += "; waits: " + r.Trouble
	}
	return line
}

func printDrift(out io.Writer, tenant canonical.Tenant, system canonical.System, r streams.Reconcile) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s of %s: %s\n", system, tenant, r.State)
	for _, kind := range slices.Sorted(maps.Keys(r.Drift)) {
		d := r.Drift[kind]
		fmt.Fprintf(&b, "  %s: %d read, %d same, %d differing, %d missing at us, %d missing there, %d repaired", kind, d.Read, d.Same, d.Differing, d.MissingHere, d.MissingThere, d.Repaired)
		if d.Other > 0 {
			fmt.Fprintf(&b, ", %d of other kinds", d.Other)
		}
		if d.Unlooked > 0 {
			fmt.Fprintf(&b, ", %d that seem to differ and were not looked at", d.Unlooked)
		}
		b.WriteByte('\n')
	}
	for _, d := range r.Differences[:min(len(r.Differences), mostPrinted)] {
		fmt.Fprintf(&b, "  ! %s: %s record %s", d.What, d.Kind, d.Record)
		if d.Entity != "" {
			fmt.Fprintf(&b, ", entity %s", d.Entity)
		}
		if len(d.Fields) > 0 {
			b.WriteString(": " + strings.Join(d.Fields, ", "))
		}
		b.WriteByte('\n')
	}
	if n := len(r.Differences) - mostPrinted; n > 0 {
		fmt.Fprintf(&b, "  ! and %d more, which --json prints\n", n)
	}
	_, err := io.WriteString(out, b.String())
	return err
}
