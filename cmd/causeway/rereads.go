package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/causeway-sync/causeway/internal/config"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/transform"
)

// rereads finds out what a mapping reads in another way than it was read.
type rereads struct {
	sights transform.Sights
	tenant canonical.Tenant
	policy transform.Policy
	now    time.Time
	values bool

	mu   sync.Mutex
	seen map[canonical.CanonicalID]bool
	sum  readingSum
	read []readEntity
}

// readEntity is what comes of one entity: fields that take another value, and
// those where what is read anew loses.
type readEntity struct {
	Tenant  canonical.Tenant      `json:"tenant"`
	Kind    canonical.Kind        `json:"kind"`
	Entity  canonical.CanonicalID `json:"entity"`
	Changes []string              `json:"changes,omitempty"`
	Loses   []string              `json:"loses,omitempty"`
	Values  map[string]any        `json:"values,omitempty"` // by field, if they were asked for
}

// readingSum is what all of it comes to.
type readingSum struct {
	Of       []readRecords  `json:"of"`
	Entities int            `json:"entities"`          // that change
	Changes  map[string]int `json:"changes,omitempty"` // entities by field
	Loses    map[string]int `json:"loses,omitempty"`
}

// readRecords are the records of a kind at a system of which something is read
// in another way. Of the Unknown RAW doesn't hold what they showed any more.
type readRecords struct {
	Kind    canonical.Kind   `json:"kind"`
	System  canonical.System `json:"system"`
	Records int              `json:"records"`
	Unknown int              `json:"unknown"`
	Fields  map[string]int   `json:"fields"`
}

func newRereads(sights transform.Sights, t config.Tenant, now time.Time, values bool) *rereads {
	return &rereads{sights: sights, tenant: t.Name, policy: transform.Policy{Lens: t.Lens(), Rules: t.Policy()}, now: now, values: values,
		seen: map[canonical.CanonicalID]bool{}, sum: readingSum{Changes: map[string]int{}, Loses: map[string]int{}}}
}

// then returns what becomes of an entity, and notes it.
func (r *rereads) then(ctx context.Context, state canonical.Event) (canonical.Event, error) {
	x, err := transform.Rehearse(ctx, r.sights, r.tenant, state, r.policy, r.now)
	if err != nil || len(x.Records) == 0 {
		return x.State, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen[state.ID()] {
		return x.State, nil
	}
	r.seen[state.ID()] = true
	for _, rec := range x.Records {
		i := slices.IndexFunc(r.sum.Of, func(o readRecords) bool { return o.Kind == state.Kind() && o.System == rec.System })
		if i < 0 {
			i = len(r.sum.Of)
			r.sum.Of = append(r.sum.Of, readRecords{Kind: state.Kind(), System: rec.System, Fields: map[string]int{}})
		}
		of := &r.sum.Of[i]
		of.Records++
		if rec.Unknown {
			of.Unknown++
		}
		for _, f := range rec.Fields {
			of.Fields[f]++
		}
	}
	e := readEntity{Tenant: r.tenant, Kind: state.Kind(), Entity: state.ID()}
	for _, c := range x.Changes {
		list, value := &e.Changes, c.To
		if c.From == c.To {
			if c.Conflict == nil {
				continue
			}
			list, value = &e.Loses, c.Conflict.Lost
		}
		if !slices.Contains(*list, c.Field) {
			*list = append(*list, c.Field)
		}
		if r.values {
			if e.Values == nil {
				e.Values = map[string]any{}
			}
			e.Values[c.Field] = map[string]string{"from": c.From, "reads": value}
		}
	}
	for _, f := range e.Changes {
		r.sum.Changes[f]++
	}
	for _, f := range e.Loses {
		r.sum.Loses[f]++
	}
	if len(e.Changes) > 0 {
		r.sum.Entities++
	}
	if len(e.Changes)+len(e.Loses) > 0 {
		r.read = append(r.read, e)
	}
	return x.State, nil
}

// result returns what was found, in a fixed order.
func (r *rereads) result() ([]readEntity, readingSum) {
	slices.SortFunc(r.read, func(a, b readEntity) int {
		return cmp.Compare(a.Kind+canonical.Kind(a.Entity), b.Kind+canonical.Kind(b.Entity))
	})
	slices.SortFunc(r.sum.Of, func(a, b readRecords) int {
		return cmp.Compare(string(a.Kind)+string(a.System), string(b.Kind)+string(b.System))
	})
	return r.read, r.sum
}

// printRereads prints at most limit entities, and what it all comes to; nothing
// if everything is read as it was.
func printRereads(out io.Writer, list []readEntity, sum readingSum, limit int) error {
	if len(sum.Of) == 0 {
		return nil
	}
	var b strings.Builder
	for i, e := range list {
		if limit > 0 && i >= limit {
			fmt.Fprintf(&b, "  and %d more entities, which --limit 0 prints\n", len(list)-i)
			break
		}
		fmt.Fprintf(&b, "  read again: %s %s:", e.Kind, e.Entity)
		sep := " "
		for _, f := range e.Changes {
			fmt.Fprintf(&b, "%s%s", sep, f)
			sep = ", "
			if v, ok := e.Values[f].(map[string]string); ok {
				fmt.Fprintf(&b, " from %q to %q", v["from"], v["reads"])
			}
		}
		for _, f := range e.Loses {
			fmt.Fprintf(&b, "%s%s loses", sep, f)
			sep = ", "
			if v, ok := e.Values[f].(map[string]string); ok {
				fmt.Fprintf(&b, ": %q stays, it reads %q", v["from"], v["reads"])
			}
		}
		b.WriteByte('\n')
	}
	for _, of := range sum.Of {
		fmt.Fprintf(&b, "%s: of %d %s records something is read in another way (%s)", of.System, of.Records, of.Kind, counted(of.Fields))
		if of.Unknown > 0 {
			fmt.Fprintf(&b, "; of %d RAW doesn't hold what they showed any more, so that is known when they are seen again", of.Unknown)
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "once they have been seen again: %d entities change (%s); what is read loses: %s\n", sum.Entities, counted(sum.Changes), counted(sum.Loses))
	_, err := io.WriteString(out, b.String())
	return err
}

// counted is fields with how many have each.
func counted(fields map[string]int) string {
	var parts []string
	for _, f := range slices.Sorted(maps.Keys(fields)) {
		parts = append(parts, fmt.Sprintf("%s %d", f, fields[f]))
	}
	return cmp.Or(strings.Join(parts, ", "), "nothing")
}
