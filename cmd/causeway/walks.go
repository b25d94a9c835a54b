package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/streams"
)

// reading is how far a system of a tenant has been read.
type reading struct {
	tenant    canonical.Tenant
	system    canonical.System
	walk      streams.Walk
	reconcile streams.Reconcile
}

// readings returns what CURSORS says, sorted.
func readings(ctx context.Context, b bus.Bus) ([]reading, error) {
	kv, err := b.Bucket(ctx, streams.CURSORS)
	if err != nil {
		return nil, err
	}
	var out []reading
	for _, system := range []canonical.System{canonical.GHL, canonical.Novi} {
		keys, err := kv.Keys(ctx, streams.WalkKey(system, "*", canonical.KindContact))
		if err != nil {
			return nil, err
		}
		for _, key := range keys {
			tenant, _, _ := strings.Cut(key, ".")
			r := reading{tenant: canonical.Tenant(tenant), system: system}
			if err := decodeKey(ctx, kv, key, &r.walk); err != nil {
				return nil, err
			}
			if err := decodeKey(ctx, kv, streams.ReconcileKey(system, r.tenant), &r.reconcile); err != nil {
				return nil, err
			}
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b reading) int {
		return strings.Compare(string(a.tenant)+"."+string(a.system), string(b.tenant)+"."+string(b.system))
	})
	return out, nil
}

// decodeKey reads a key's value into v, which stays as it is if there is none.
func decodeKey(ctx context.Context, kv bus.KV, key string, v any) error {
	value, _, err := kv.Get(ctx, key)
	if errors.Is(err, bus.ErrNotFound) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(value, v)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", key, err)
	}
	return nil
}

// stale is how old the word of an open circuit may be: its stage says it every
// 20 s.
const stale = time.Minute

// openCircuit is a system that a stage doesn't call at the moment.
type openCircuit struct {
	tenant        canonical.Tenant
	system, stage string
	streams.Circuit
}

// openCircuits returns them, sorted.
func openCircuits(ctx context.Context, b bus.Bus, now time.Time) ([]openCircuit, error) {
	kv, err := b.Bucket(ctx, streams.BUDGETS)
	if err != nil {
		return nil, err
	}
	keys, err := kv.Keys(ctx, streams.CircuitKey("*", "*", "*"))
	if err != nil {
		return nil, err
	}
	slices.Sort(keys)
	var out []openCircuit
	for _, key := range keys {
		var c streams.Circuit
		if err := decodeKey(ctx, kv, key, &c); err != nil {
			return nil, err
		}
		p := strings.Split(key, ".")
		if len(p) == 4 && c.State != "" && now.Sub(c.At) <= stale {
			out = append(out, openCircuit{canonical.Tenant(p[1]), p[2], p[3], c})
		}
	}
	return out, nil
}

func printReadings(out io.Writer, readings []reading, now time.Time) error {
	if len(readings) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "\nTENANT\tSYSTEM\tBACKFILL\tLAST RECONCILE") // the error comes with Flush
	for _, r := range readings {
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", r.tenant, r.system, backfill(r.walk, now), lastReconcile(r.reconcile))
	}
	return t.Flush()
}

// still is how long a backfill that gets on may show no progress.
const still = time.Minute

// backfill says how far a backfill is, and how long it will take if that can be
// told.
func backfill(w streams.Walk, now time.Time) string {
	if w.Backfilled {
		return "complete"
	}
	s := fmt.Sprintf("%d", w.Shown)
	if w.Total > 0 {
		s += fmt.Sprintf(" of %d", w.Total)
	}
	if idle := now.Sub(w.At); !w.At.IsZero() && idle > still {
		return s + fmt.Sprintf(", stands still for %s", idle.Round(time.Second))
	}
	if w.Rate > 0 {
		s += fmt.Sprintf(", %.1f/s", w.Rate)
	}
	if left := w.Left(); left > 0 {
		s += fmt.Sprintf(", about %s left", left.Round(time.Second))
	}
	return s
}

func lastReconcile(r streams.Reconcile) string {
	switch {
	case r.Open():
		return progress(r)
	case r.State == "":
		return "none yet"
	}
	s := fmt.Sprintf("%s at %s", r.State, r.Ended.Local().Format(time.DateTime))
	for kind, d := range r.Drift {
		s += fmt.Sprintf("; %s: %d differed, %d repaired", kind, d.Found(), d.Repaired)
	}
	return s
}
