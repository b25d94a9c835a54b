package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/config"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/streams"
)

// Source is where messages come from; a [bus.Conn] is one.
type Source interface {
	// Scan calls each with the messages of a stream under filter, from the
	// oldest, as [bus.Reader] has it.
	Scan(ctx context.Context, stream, filter string, since time.Time, each func(bus.Stored) error) error
	// LastSequence returns the sequence of a stream's last message, 0 if there
	// never was one.
	LastSequence(ctx context.Context, stream string) (uint64, error)
	// Settled returns the sequence up to which a durable consumer is done with
	// everything, 0 for one that is not there.
	Settled(ctx context.Context, c streams.Consumer) (uint64, error)
}

// Config says what to check. The zero value of what comes after Source is
// usable.
type Config struct {
	Source Source
	// Tenants are the configured ones. Without any the checks that need a
	// mapping are left out, and every tenant is taken to have both systems.
	Tenants map[canonical.Tenant]Tenant
	// Quiet is an instant after which nothing was to be written any more; the
	// zero time means that there is none.
	Quiet time.Time
	// Calls are what the two systems' own ledgers say was done through their
	// APIs; nil means that nobody knows. Every call has to be there.
	Calls []Call
	// Skew is how far the clocks of the broker and of the stages may be apart; 0
	// means 2 s.
	Skew time.Duration
	// Most is how many violations are enough; 0 means 1,000.
	Most int
}

// Tenant is what is needed of a tenant's configuration.
type Tenant struct {
	Systems []canonical.System
	Lens    *mapping.Lens
	Policy  *mapping.Policy
}

// Tenants returns what a configuration says of its tenants.
func Tenants(file *config.File) map[canonical.Tenant]Tenant {
	out := map[canonical.Tenant]Tenant{}
	for _, t := range file.Tenants {
		c := Tenant{Lens: t.Lens(), Policy: t.Policy()}
		if t.GHL != nil {
			c.Systems = append(c.Systems, canonical.GHL)
		}
		if t.Novi != nil {
			c.Systems = append(c.Systems, canonical.Novi)
		}
		out[t.Name] = c
	}
	return out
}

// Call is one call of ours that a system says has changed something.
type Call struct {
	System canonical.System
	Record canonical.ExternalID
	Create bool
	At     time.Time
}

// Place is a message.
type Place struct {
	Stream   string `json:"stream"`
	Subject  string `json:"subject,omitempty"`
	Sequence uint64 `json:"sequence"`
}

// Violation is one promise that was not kept. It names messages and ids, and
// holds no value of anybody's.
type Violation struct {
	Invariant Invariant             `json:"invariant"`
	What      string                `json:"what"`
	System    canonical.System      `json:"system,omitempty"`
	Kind      canonical.Kind        `json:"kind,omitempty"`
	Entity    canonical.CanonicalID `json:"entity,omitempty"`
	Record    canonical.ExternalID  `json:"record,omitempty"`
	// Where are the messages to look at, the one at fault first.
	Where []Place `json:"where,omitempty"`
	// At is when the message at fault was stored.
	At time.Time `json:"at,omitzero"`
}

// Report is what a check came to.
type Report struct {
	// Messages counts what was read, by stream.
	Messages map[string]int `json:"messages"`
	Calls    int            `json:"calls,omitempty"`
	Entities int            `json:"entities"`
	// Violations are sorted by when they came about.
	Violations []Violation `json:"violations"`
	// Unnamed counts the violations beyond Config.Most.
	Unnamed int `json:"unnamed,omitempty"`
	// Ends counts the notices by how they ended, and Open what is under way.
	Ends map[End]int `json:"ends"`
	Open int         `json:"open,omitempty"`
	// Missing counts the messages that are not there inside of what RAW keeps,
	// which an erasure purges.
	Missing uint64 `json:"missing,omitempty"`
}

// Good reports whether every promise was kept.
func (r Report) Good() bool { return len(r.Violations) == 0 }

// End is how a notice ended.
type End string

// The ends.
const (
	Fetched    End = "fetched"     // a read that began after it is on RAW, perhaps together with others
	Known      End = "known"       // a fetch, or the answer to a write of ours, had shown all that it tells of
	DeadLetter End = "dead_letter" // set aside for a person
	Unlocated  End = "unlocated"   // of an item whose contact nobody could tell; left to the sweep
	Unlinked   End = "unlinked"    // the tenant has no such system, or nothing of the kind is kept
	Waiting    End = "waiting"     // hydrate has not settled it
)

// errEnough ends a scan.
var errEnough = errors.New("enough")

// checker is one run.
type checker struct {
	Config
	report Report
	ends   map[string]uint64 // the last sequence to read, by stream
	// settled is what the consumers had settled before anything was read, by
	// durable name.
	settled map[string]uint64

	via      []byte // by RAW sequence from first on: what was there
	firstRaw uint64
	rawGone  uint64 // up to where RAW has expired
	records  map[string]*record
	entities map[canonical.CanonicalID]*entity
	dests    map[destKey]*dest
	dead     map[string]bool // by subject
	claimed  map[canonical.CanonicalID]bus.Stored
	early    []early
	ledger   ledger
}

// Run checks everything that cfg.Source holds. An error says that it could not.
func Run(ctx context.Context, cfg Config) (Report, error) {
	if cfg.Skew == 0 {
		cfg.Skew = 2 * time.Second
	}
	if cfg.Most == 0 {
		cfg.Most = 1000
	}
	c := &checker{
		Config: cfg, report: Report{Messages: map[string]int{}, Violations: []Violation{}, Ends: map[End]int{}, Calls: len(cfg.Calls)},
		ends: map[string]uint64{}, settled: map[string]uint64{}, records: map[string]*record{}, entities: map[canonical.CanonicalID]*entity{},
		dests: map[destKey]*dest{}, dead: map[string]bool{}, claimed: map[canonical.CanonicalID]bus.Stored{}, ledger: newLedger(cfg.Calls),
	}
	if err := c.bounds(ctx); err != nil {
		return Report{}, err
	}
	passes := []struct {
		stream, filter string
		each           func(bus.Stored) error
		end            func()
	}{
		{streams.DEAD, "dead.>", c.letter, func() {}},
		{streams.RAW, "raw.>", c.raw, func() {}},
		{streams.CANONICAL, "canonical.>", c.event, c.histories},
		{claims, "$KV." + streams.IDENTITY + ".>", c.claim, c.owners},
		{streams.EFFECTS, "effects.>", c.effect, c.outcomes},
	}
	for _, p := range passes {
		if err := c.scan(ctx, p.stream, p.filter, p.each); err != nil {
			return Report{}, err
		}
		p.end()
	}
	c.notices()
	c.report.Entities = len(c.entities)
	slices.SortStableFunc(c.report.Violations, func(a, b Violation) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Invariant, b.Invariant), cmp.Compare(a.Entity, b.Entity), cmp.Compare(a.Record, b.Record))
	})
	return c.report, nil
}

// claims is the stream behind the bucket IDENTITY.
const claims = "KV_" + streams.IDENTITY

// bounds notes how far everything had come: what consumers had settled first,
// then what follows from something else, and last what it follows from.
func (c *checker) bounds(ctx context.Context) (err error) {
	consumers := []streams.Consumer{streams.Transform(), streams.Tags()}
	for _, tenant := range sortedTenants(c.Tenants) {
		consumers = append(consumers, streams.Hydrate(tenant), streams.Actions(tenant))
		for _, system := range []canonical.System{canonical.GHL, canonical.Novi} {
			consumers = append(consumers, streams.Sink(system, tenant))
		}
	}
	for _, consumer := range consumers {
		if c.settled[consumer.Durable], err = c.Source.Settled(ctx, consumer); err != nil {
			return err
		}
	}
	for _, stream := range []string{streams.EFFECTS, claims, streams.CANONICAL, streams.RAW, streams.DEAD} {
		if c.ends[stream], err = c.Source.LastSequence(ctx, stream); err != nil {
			return err
		}
	}
	return nil
}

func sortedTenants(all map[canonical.Tenant]Tenant) []canonical.Tenant {
	out := make([]canonical.Tenant, 0, len(all))
	for name := range all {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func (c *checker) scan(ctx context.Context, stream, filter string, each func(bus.Stored) error) error {
	last := c.ends[stream]
	if last == 0 {
		return nil
	}
	err := c.Source.Scan(ctx, stream, filter, time.Time{}, func(m bus.Stored) error {
		if m.Seq > last {
			return c.beyond(m)
		}
		c.report.Messages[stream]++
		return each(m)
	})
	if err != nil && !errors.Is(err, errEnough) {
		return fmt.Errorf("check %s: %w", stream, err)
	}
	return nil
}

// beyond counts what has come since the check began: it may have pushed out
// what was still to be read.
func (c *checker) beyond(m bus.Stored) error {
	s, err := streams.Parse(m.Subject)
	switch {
	case err != nil || m.Stream != streams.CANONICAL && m.Stream != streams.EFFECTS:
		return errEnough
	case m.Stream == streams.EFFECTS:
		c.dest(s.System, s.Tenant, s.Kind, canonical.CanonicalID(s.ID), s.Action).since++
	case c.entities[canonical.CanonicalID(s.ID)] != nil && s.Kind != canonical.KindTag:
		c.entities[canonical.CanonicalID(s.ID)].since[s.Op]++
	}
	return nil
}

// wrong notes a violation.
func (c *checker) wrong(v Violation) {
	if len(c.report.Violations) >= c.Most {
		c.report.Unnamed++
		return
	}
	c.report.Violations = append(c.report.Violations, v)
}

func place(m bus.Stored) Place { return Place{m.Stream, m.Subject, m.Seq} }

// unreadable notes a message that is not what its subject says.
func (c *checker) unreadable(m bus.Stored, format string, args ...any) {
	c.wrong(Violation{Invariant: Readable, What: fmt.Sprintf(format, args...), Where: []Place{place(m)}, At: m.Time})
}

// letter notes a dead letter.
func (c *checker) letter(m bus.Stored) error {
	if _, err := streams.Parse(m.Subject); err != nil {
		c.unreadable(m, "%s", err)
		return nil
	}
	c.dead[m.Subject] = true
	return nil
}

// buried reports whether there is a dead letter of a stage.
func (c *checker) buried(stage string, tenant canonical.Tenant, kind canonical.Kind, id string) bool {
	return c.dead[streams.Dead(stage, tenant, kind, id)]
}

// has reports whether a tenant has a system, as far as it is known.
func (c *checker) has(tenant canonical.Tenant, system canonical.System) bool {
	if len(c.Tenants) == 0 {
		return true
	}
	return slices.Contains(c.Tenants[tenant].Systems, system)
}

// kept reports whether records of a kind are kept.
func kept(kind canonical.Kind) bool {
	return kind == canonical.KindContact || slices.Contains(canonical.Items(), kind)
}

// String says a violation in one line.
func (v Violation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", v.Invariant, v.What)
	for _, part := range []struct{ name, value string }{{"system", string(v.System)}, {"kind", string(v.Kind)}, {"entity", string(v.Entity)}, {"record", string(v.Record)}} {
		if part.value != "" {
			fmt.Fprintf(&b, ", %s %s", part.name, part.value)
		}
	}
	for _, p := range v.Where {
		fmt.Fprintf(&b, ", %s %d", p.Stream, p.Sequence)
		if p.Subject != "" {
			fmt.Fprintf(&b, " (%s)", p.Subject)
		}
	}
	return b.String()
}
