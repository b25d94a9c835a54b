package check

import (
	"slices"
	"strings"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/streams"
)

// claim notes one claim of IDENTITY. A claim is taken before the event that it
// is for, and one of a tombstone stays.
func (c *checker) claim(m bus.Stored) error {
	if op := m.Header["KV-Operation"]; len(op) > 0 {
		return nil // let go
	}
	id := canonical.CanonicalID(m.Data)
	at := bus.Stored{Stream: m.Stream, Subject: m.Subject, Seq: m.Seq, Time: m.Time}
	if r := c.linked(strings.TrimPrefix(m.Subject, "$KV."+streams.IDENTITY+".")); r != nil {
		r.claim, r.claimAt = id, at
		return nil
	}
	if c.entities[id] == nil {
		c.claimed[id] = at
	}
	return nil
}

// linked returns the record whose link a key of IDENTITY is, or nil for a key
// of another sort.
func (c *checker) linked(key string) *record {
	t := strings.Split(key, ".")
	if len(t) != 4 || !kept(canonical.Kind(t[1])) || !slices.Contains(both, canonical.System(t[2])) {
		return nil
	}
	external, err := streams.ParseLinkKey(key)
	if err != nil {
		return nil
	}
	return c.record(canonical.Tenant(t[0]), canonical.Kind(t[1]), canonical.System(t[2]), external)
}

// owners judges the claims.
func (c *checker) owners() {
	explained := map[canonical.CanonicalID]bool{}
	for _, r := range c.records {
		wrong := func(what string) {
			v := Violation{Invariant: ClaimHeld, What: what, System: r.system, Kind: r.kind, Record: r.external, Entity: r.claim, Where: []Place{place(r.claimAt)}, At: r.claimAt.Time}
			if r.owner != nil {
				v.Where = append(v.Where, place(r.owner.last))
				v.At = later(v.At, r.owner.last.Time)
			}
			c.wrong(v)
		}
		switch {
		case r.claim != "" && c.entities[r.claim] == nil:
			if c.buried("transform", r.tenant, r.kind, string(r.external)) || r.first == 0 || r.at.Seq > c.floor(streams.Transform()) {
				explained[r.claim] = true // set aside, or under way
				continue
			}
			wrong("the claim of the record's link names an entity that is not there")
			explained[r.claim] = true
		case r.owner != nil && r.claim == "":
			wrong("it is linked, and no claim says so")
		case r.owner != nil && r.claim != "" && c.now(r.claim) != r.owner.id && !r.owner.apart:
			wrong("it is claimed for another entity than the one that links it")
		}
	}
	for id, m := range c.claimed {
		if !explained[id] && m.Time.Add(c.Skew).Before(c.newest()) {
			c.wrong(Violation{Invariant: ClaimHeld, What: "a claim names an entity that is not there", Entity: id, Where: []Place{place(m)}, At: m.Time})
		}
	}
}
