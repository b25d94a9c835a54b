package console

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/dead"
	"github.com/causeway-sync/causeway/internal/hold"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/streams"
)

type deadPage struct {
	Letters []dead.Letter
	Filter  dead.Filter
	Pager   pager
	Tenants []canonical.Tenant
	Operate bool
	Here    string
}

func letterFilter(r *http.Request) dead.Filter {
	return dead.Filter{Tenant: canonical.Tenant(r.FormValue("tenant")), Stage: r.FormValue("stage"), Class: envelope.Class(r.FormValue("class")), Dropped: r.FormValue("dropped") != ""}
}

func (c *Console) deadLetters(w http.ResponseWriter, r *http.Request) error {
	p := deadPage{Filter: letterFilter(r), Operate: who(r.Context()).Operates(), Here: r.URL.RequestURI(), Tenants: c.world.names()}
	found, err := dead.Find(r.Context(), c.bus, p.Filter)
	if err != nil {
		return err
	}
	slices.Reverse(found) // the newest first
	var from, to int
	p.Pager, from, to = paged(r, len(found))
	p.Letters = found[from:to]
	return c.show(w, r, "dead", "Dead letters", nil, p)
}

type letterPage struct {
	dead.Letter
	Before  []envelope.Attempt
	Contact string // the address of the contact's page, if it is about one
	Operate bool
	Body    string
}

func (c *Console) deadLetter(w http.ResponseWriter, r *http.Request) error {
	l, err := c.letterAt(r.Context(), r.PathValue("subject"))
	if err != nil {
		return err
	}
	p := letterPage{Letter: l, Operate: who(r.Context()).Operates()}
	if p.Before, err = dead.History(r.Context(), c.bus, l); err != nil {
		return err
	}
	if l.Kind == canonical.KindContact {
		id, err := c.known(r.Context(), l.Tenant, l.ID)
		if err != nil {
			return err
		}
		if id != "" {
			p.Contact = contactPath(l.Tenant, id)
		}
	}
	if len(l.Body) > 0 {
		text, err := json.MarshalIndent(l.Body, "", "  ")
		if err != nil {
			text = l.Body
		}
		p.Body = string(text)
	}
	return c.show(w, r, "letter", "Dead letter", nil, p)
}

type holdsPage struct {
	Holds []hold.Tenant
}

func (c *Console) holds(w http.ResponseWriter, r *http.Request) error {
	list, err := hold.List(r.Context(), c.bus)
	if err != nil {
		return err
	}
	return c.show(w, r, "holds", "Holds", nil, holdsPage{list})
}

type holdPage struct {
	Tenant  canonical.Tenant
	Deletes []heldDelete
	Pager   pager
	Operate bool
}

type heldDelete struct {
	hold.Delete
	Name string
}

func (c *Console) hold(w http.ResponseWriter, r *http.Request) error {
	p := holdPage{Tenant: canonical.Tenant(r.PathValue("tenant")), Operate: who(r.Context()).Operates()}
	list, err := hold.Show(r.Context(), c.bus, p.Tenant)
	if err != nil {
		return err
	}
	var from, to int
	p.Pager, from, to = paged(r, len(list))
	c.world.mu.RLock()
	for _, d := range list[from:to] {
		x := heldDelete{Delete: d}
		if t := c.world.tenants[p.Tenant]; t != nil && d.Kind == canonical.KindContact && t.people.by[d.ID] != nil {
			x.Name = t.people.by[d.ID].Name
		}
		p.Deletes = append(p.Deletes, x)
	}
	c.world.mu.RUnlock()
	return c.show(w, r, "hold", "Hold of "+string(p.Tenant), nil, p)
}

type conflictsPage struct {
	Tenant    canonical.Tenant
	Tenants   []canonical.Tenant
	Hours     int
	Conflicts []conflict
	More      bool
}

// conflict is one field for which two values competed.
type conflict struct {
	At      time.Time
	Tenant  canonical.Tenant
	Kind    canonical.Kind
	ID      canonical.CanonicalID
	Version uint64
	canonical.Change
}

// mostConflicts is how many are listed: the newest.
const mostConflicts = 200

func (c *Console) conflicts(w http.ResponseWriter, r *http.Request) error {
	p := conflictsPage{Tenant: canonical.Tenant(r.FormValue("tenant")), Tenants: c.world.names(), Hours: 24}
	if _, err := fmt.Sscan(cmp.Or(r.FormValue("hours"), "24"), &p.Hours); err != nil || p.Hours < 1 || p.Hours > 24*90 {
		return problem{http.StatusBadRequest, "hours is a number from 1 to 2160"}
	}
	since := c.clock.Now().Add(-time.Duration(p.Hours) * time.Hour)
	err := c.bus.Scan(r.Context(), streams.CANONICAL, streams.Entities(p.Tenant), since, func(m bus.Stored) error {
		s, err := streams.Parse(m.Subject)
		if err != nil || s.Kind == canonical.KindTag {
			return err
		}
		var e struct {
			Version uint64             `json:"version"`
			Changes []canonical.Change `json:"changes"`
		}
		if err := json.Unmarshal(m.Data, &e); err != nil {
			return fmt.Errorf("decode message %d of %s: %w", m.Seq, m.Stream, err)
		}
		for _, x := range e.Changes {
			if x.Conflict != nil {
				p.Conflicts = append(p.Conflicts, conflict{m.Time, s.Tenant, s.Kind, canonical.CanonicalID(s.ID), e.Version, x})
			}
		}
		if n := len(p.Conflicts) - mostConflicts; n > 0 {
			p.Conflicts, p.More = p.Conflicts[n:], true
		}
		return nil
	})
	if err != nil {
		return err
	}
	slices.Reverse(p.Conflicts)
	return c.show(w, r, "conflicts", "Conflicts", nil, p)
}

type auditPage struct {
	Done []envelope.Audit
}

// mostAudits is how many are listed: the newest.
const mostAudits = 300

func (c *Console) audits(w http.ResponseWriter, r *http.Request) error {
	var p auditPage
	err := c.bus.Scan(r.Context(), streams.AUDIT, streams.Audits, c.clock.Now().AddDate(0, 0, -30), func(m bus.Stored) error {
		var a envelope.Audit
		if err := json.Unmarshal(m.Data, &a); err != nil {
			return fmt.Errorf("decode message %d of %s: %w", m.Seq, m.Stream, err)
		}
		if n := len(p.Done); n > 0 && (a.Result != "" || a.Error != "") {
			if b := p.Done[n-1]; b.Result == "" && b.Error == "" && b.Who == a.Who && b.Action == a.Action {
				p.Done = p.Done[:n-1] // its end says it all
			}
		}
		p.Done = append(p.Done, a)
		p.Done = p.Done[max(0, len(p.Done)-mostAudits):]
		return nil
	})
	if err != nil {
		return err
	}
	slices.Reverse(p.Done)
	return c.show(w, r, "audit", "Audit", []string{"audit"}, p)
}
