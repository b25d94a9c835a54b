package console

import (
	"slices"
	"strings"

	"github.com/causeway-sync/causeway/schemas/canonical"
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
