package check

import (
	"fmt"
	"slices"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

// record is what is kept of a system's record.
type record struct {
	tenant   canonical.Tenant
	system   canonical.System
	kind     canonical.Kind
	external canonical.ExternalID

	open    []notice // unanswered, the oldest first
	fetched int64    // the newest modified time that a fetch, or the answer to a write of ours, showed
	ours    bool     // there is an answer to a write of ours
	located bool     // something said on which contact it hangs

	shown    canonical.Read // the newest state that was shown, by its modified time
	at       bus.Stored     // where, without its data
	first    uint64         // the sequence of the first sight
	gone     uint64         // the sequence of the last absence
	goneAsOf int64          // when the read of the newest absence began
	goneAt   bus.Stored     // where, without its data
	skipped  bool           // no sight of it so far is of what is kept
	owner    *entity        // the living entity that links it
	base     canonical.Read // what that knows of it
	hasBase  bool
	baseGone bool
	claim    canonical.CanonicalID
	claimAt  bus.Stored
}

type notice struct {
	seq      uint64
	at       time.Time
	modified int64 // of a poll's
	made     bool  // it says no more than that the record was made
}

// mostOpen is how many unanswered notices are kept of a record. Beyond that
// the newest takes the place of the one before it, which the same read answers.
const mostOpen = 16

// vias are what a byte says of a message of RAW.
var vias = []observation.Via{observation.Notice, observation.Fetch, observation.Poll, observation.Backfill, observation.Reconcile, observation.Writeback,
	observation.FromRule, observation.Intent, observation.Relink, observation.Unmerge, observation.Wake, observation.Keep}

// systems are what half a byte says.
var systems = []canonical.System{canonical.GHL, canonical.Novi, canonical.Rule, canonical.Person}

// code packs how a message came to be into a byte, 0 for none that is known.
func code(system canonical.System, via observation.Via) byte {
	s, v := slices.Index(systems, system), slices.Index(vias, via)
	if s < 0 || v < 0 {
		return 255
	}
	return byte(1 + v*len(systems) + s)
}

func (c *checker) record(tenant canonical.Tenant, kind canonical.Kind, system canonical.System, external canonical.ExternalID) *record {
	key := streams.LinkKey(tenant, kind, system, external)
	r := c.records[key]
	if r == nil {
		r = &record{tenant: tenant, system: system, kind: kind, external: external}
		c.records[key] = r
	}
	return r
}

// raw notes one message of RAW.
func (c *checker) raw(m bus.Stored) error {
	s, err := streams.Parse(m.Subject)
	if err != nil {
		c.unreadable(m, "%s", err)
		return nil
	}
	if c.firstRaw == 0 {
		c.firstRaw = m.Seq
		c.rawGone = m.Seq - 1
	}
	for c.firstRaw+uint64(len(c.via)) < m.Seq {
		c.via = append(c.via, 0)
		c.report.Missing++
	}
	c.via = append(c.via, code(s.System, s.Via))
	o, err := observation.Decode(m.Data)
	if err != nil {
		c.unreadable(m, "%s", err)
		return nil
	}
	if o.System != s.System || o.Tenant != s.Tenant || o.Kind != s.Kind || string(o.ExternalID) != s.ID || o.Via != s.Via {
		c.unreadable(m, "it speaks of %s %s %s by %s", o.System, o.Kind, o.ExternalID, o.Via)
		return nil
	}
	switch {
	case o.Via == observation.Intent:
		if len(o.Wrote) > 0 || o.Creates {
			d := c.dest(o.System, o.Tenant, o.Kind, o.Entity, "")
			d.announced = max(d.announced, o.ReadBegan.UnixMicro())
		}
	case o.Via == observation.Notice:
		c.notice(m, o)
	case o.Via.Shows():
		c.sight(m, o)
	}
	return nil
}

func (c *checker) notice(m bus.Stored, o observation.Observation) {
	if !kept(o.Kind) || !c.has(o.Tenant, o.System) {
		c.report.Ends[Unlinked]++
		return
	}
	r := c.record(o.Tenant, o.Kind, o.System, o.ExternalID)
	r.located = r.located || o.Parent != ""
	n := notice{seq: m.Seq, at: m.Time, made: announces(o)}
	if !o.Modified.IsZero() {
		n.modified = o.Modified.UnixMicro()
		if n.modified <= r.fetched {
			c.report.Ends[Known]++
			return
		}
	}
	if len(r.open) == mostOpen {
		c.report.Ends[Fetched]++ // as the one that takes its place
		r.open = r.open[:mostOpen-1]
	}
	r.open = append(r.open, n)
}

// announces reports whether a notice says no more than that a contact was made,
// which leads to no fetch if that was we.
func announces(o observation.Observation) bool {
	var body struct {
		Type string `json:"type"`
	}
	return o.Kind == canonical.KindContact && json.Unmarshal(o.Record, &body) == nil && body.Type == "ContactCreate"
}

func (c *checker) sight(m bus.Stored, o observation.Observation) {
	r := c.record(o.Tenant, o.Kind, o.System, o.ExternalID)
	r.located = r.located || o.Parent != ""
	began := o.ReadBegan.UnixMicro()
	modified := int64(0)
	if !o.Modified.IsZero() {
		modified = o.Modified.UnixMicro()
	}
	if o.Via == observation.Writeback {
		r.fetched, r.ours = max(r.fetched, modified), r.ours || !o.Absent
	}
	if o.Via == observation.Writeback && o.Entity != "" {
		d := c.dest(o.System, o.Tenant, o.Kind, o.Entity, "")
		d.writeback = max(d.writeback, began)
	}
	if o.Via == observation.Fetch {
		r.fetched = max(r.fetched, modified)
		until := o.ReadBegan.Add(c.Skew)
		r.open = slices.DeleteFunc(r.open, func(n notice) bool {
			answered := !n.at.After(until) || n.modified != 0 && n.modified <= modified
			if answered {
				c.report.Ends[Fetched]++
			}
			return answered
		})
	}
	if o.Absent {
		if r.gone = m.Seq; began > r.goneAsOf {
			r.goneAsOf, r.goneAt = began, bus.Stored{Stream: m.Stream, Subject: m.Subject, Seq: m.Seq, Time: m.Time}
		}
		return
	}
	if lens := c.Tenants[o.Tenant].Lens; lens != nil && (r.first == 0 || r.skipped) {
		shown, err := lens.Show(o)
		r.skipped = err != nil || shown.Skip != "" || shown.Inactive
	}
	if r.first == 0 {
		r.first = m.Seq
		r.at = bus.Stored{Stream: m.Stream, Subject: m.Subject, Seq: m.Seq, Time: m.Time}
	}
	if read := (canonical.Read{Modified: modified, AsOf: began, Seq: m.Seq}); modified > r.shown.Modified || modified == r.shown.Modified && began > r.shown.AsOf {
		r.shown = read
		r.at = bus.Stored{Stream: m.Stream, Subject: m.Subject, Seq: m.Seq, Time: m.Time}
	}
}

// notices judges what no read has answered.
func (c *checker) notices() {
	for _, r := range c.records {
		for _, n := range r.open {
			durable := streams.Hydrate(r.tenant).Durable
			switch {
			case c.buried("hydrate", r.tenant, r.kind, string(r.external)):
				c.report.Ends[DeadLetter]++
			case n.seq > c.floor(streams.Hydrate(r.tenant)):
				c.report.Ends[Waiting]++
				c.report.Open++
			case n.made && r.ours, n.modified != 0 && n.modified <= r.fetched:
				c.report.Ends[Known]++
			case r.kind != canonical.KindContact && !r.located:
				c.report.Ends[Unlocated]++
			default:
				subject := streams.Raw(observation.Observation{System: r.system, Tenant: r.tenant, Kind: r.kind, ExternalID: r.external, Via: observation.Notice})
				c.wrong(Violation{Invariant: NoticeAnswered, What: fmt.Sprintf("%s has settled a notice, and no read of the record began after it", durable),
					System: r.system, Kind: r.kind, Record: r.external, Where: []Place{{streams.RAW, subject, n.seq}}, At: n.at})
			}
		}
	}
}

// floor returns what a consumer had settled when the check began. Without a
// configuration the tenants' consumers are not known, and nothing is taken to
// be settled.
func (c *checker) floor(consumer streams.Consumer) uint64 { return c.settled[consumer.Durable] }
