package console

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/streams"
)

// reading is how far a tenant's system has been read.
type reading struct {
	Tenant    canonical.Tenant
	System    canonical.System
	Walk      streams.Walk
	Reconcile streams.Reconcile
}

// readings returns what is known of a tenant's walks, or of everybody's for "".
func (c *Console) readings(of canonical.Tenant) []reading {
	w := c.world
	w.mu.RLock()
	defer w.mu.RUnlock()
	var out []reading
	for key := range w.buckets[streams.CURSORS] {
		p := strings.Split(key, ".")
		if len(p) != 3 || p[2] != string(canonical.KindContact) || of != "" && p[0] != string(of) {
			continue
		}
		r := reading{Tenant: canonical.Tenant(p[0]), System: canonical.System(p[1])}
		if !w.decoded(streams.CURSORS, key, &r.Walk) {
			continue
		}
		w.decoded(streams.CURSORS, streams.ReconcileKey(r.System, r.Tenant), &r.Reconcile)
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b reading) int {
		return strings.Compare(string(a.Tenant)+"."+string(a.System), string(b.Tenant)+"."+string(b.System))
	})
	return out
}

type readsPage struct {
	Readings []reading
	Operate  bool
	Pager    pager
}

func (c *Console) reads(w http.ResponseWriter, r *http.Request) error {
	list := c.readings("")
	p := readsPage{Operate: who(r.Context()).Operates()}
	var from, to int
	p.Pager, from, to = paged(r, len(list))
	p.Readings = list[from:to]
	return c.show(w, r, "reads", "Reading", []string{"reads"}, p)
}

// Share is how much of a reconcile has been read, in percent, if the system
// says how much there is.
func (r reading) Share() int {
	read, total := 0, 0
	for _, d := range r.Reconcile.Drift {
		if d.Total > 0 {
			read, total = read+d.Read+d.Other, total+d.Total
		}
	}
	if total == 0 {
		return 0
	}
	return min(100, read*100/total)
}

// Backfill is how much of a first reading is done, in percent.
func (r reading) Backfill() int {
	if r.Walk.Backfilled {
		return 100
	}
	if r.Walk.Total == 0 {
		return 0
	}
	return min(99, r.Walk.Shown*100/r.Walk.Total)
}

// mostRepairs is how many differences a reconcile may repair that is asked for
// here, as with causeway reconcile.
const mostRepairs = 1000

// reconcile asks for one, or that the one under way ends.
func (c *Console) reconcile(ctx context.Context, r *http.Request, a *envelope.Audit) (string, error) {
	system := canonical.System(r.PostFormValue("about"))
	if system != canonical.GHL && system != canonical.Novi {
		return "", problem{http.StatusBadRequest, "the system is ghl or novi"}
	}
	kv, err := c.bus.Bucket(ctx, streams.CURSORS)
	if err != nil {
		return "", err
	}
	key := streams.ReconcileKey(system, a.Tenant)
	stop := r.PostFormValue("stop") != ""
	for {
		var now streams.Reconcile
		value, rev, err := kv.Get(ctx, key)
		if err == nil {
			err = json.Unmarshal(value, &now)
		}
		if err != nil && !errors.Is(err, bus.ErrNotFound) {
			return "", err
		}
		next := streams.Reconcile{ID: rand.Text(), Max: mostRepairs, DryRun: r.PostFormValue("dry") != "", Asked: c.clock.Now().UTC(), State: streams.ReconcileAsked, Next: now.Next}
		switch {
		case stop && !now.Open():
			return "", problem{http.StatusConflict, "no reconcile is under way"}
		case stop:
			if next = now; now.State == streams.ReconcileAsked {
				next.State = streams.ReconcileStopped // nobody has begun
			}
			next.Stop = true
		case now.Open():
			return "", problem{http.StatusConflict, "a reconcile is under way; it can be stopped"}
		}
		if value, err = json.Marshal(next); err != nil {
			return "", err
		}
		if rev == 0 {
			_, err = kv.Create(ctx, key, value)
		} else {
			_, err = kv.Update(ctx, key, value, rev)
		}
		switch {
		case errors.Is(err, bus.ErrExists) || errors.Is(err, bus.ErrWrongSequence):
			continue // it has got on meanwhile
		case err != nil:
			return "", err
		case stop:
			return "The reconcile of " + systemName(system) + " is asked to stop.", nil
		}
		return "A reconcile of " + systemName(system) + " is asked for; the ingest takes it within seconds.", nil
	}
}
