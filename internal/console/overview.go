package console

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/circuit"
	"github.com/causeway-sync/causeway/internal/config"
	"github.com/causeway-sync/causeway/internal/hold"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/streams"
)

// state is how a tenant or a contact is, in one word; the greater, the worse.
type state int

const (
	inSync state = iota
	behind
	held
	failing
)

func (s state) String() string { return [...]string{"in sync", "behind", "held", "failing"}[s] }

// Class is the state's name in the style sheet.
func (s state) Class() string { return strings.ReplaceAll(s.String(), " ", "-") }

// summary is a tenant at a glance.
type summary struct {
	Name     canonical.Tenant
	State    state
	Why      string // what keeps it from being in sync
	Contacts int
	Waiting  uint64
	Dead     int
	Held     int
	ToGHL    direction
	ToNovi   direction
	Circuits []openCircuit
	Budgets  []budgetLeft
	Lag      spark
	Writes   spark
}

// direction is what is written at one system.
type direction struct {
	Last    time.Time
	ID      canonical.CanonicalID
	Kind    canonical.Kind
	Rate    int // writes in the last minute
	Walk    *streams.Walk
	Waiting uint64
	At      canonical.System
}

type openCircuit struct {
	System canonical.System
	Stage  string
	streams.Circuit
}

// budgetLeft is what is left of a system's calls.
type budgetLeft struct {
	System  canonical.System
	Owner   canonical.Tenant // if another tenant's name stands for the account
	Day     budget.DayStanding
	Windows []budget.WindowStanding
	Members []budget.MemberStanding
}

// Share is how much of the day is left, in percent.
func (b budgetLeft) Share() int {
	if b.Day.Limit == 0 {
		return 100
	}
	return b.Day.Left * 100 / b.Day.Limit
}

// staleAfter is how old the word of an open circuit may be: its stage says it
// every 20 s.
const staleAfter = time.Minute

// troubles are what is wrong, by tenant. The caller holds the lock.
func (c *Console) troubles(now time.Time) (dead, heldRecords map[canonical.Tenant]int, holds map[canonical.Tenant]bool, circuits map[canonical.Tenant][]openCircuit) {
	w := c.world
	dead, heldRecords, holds, circuits = map[canonical.Tenant]int{}, map[canonical.Tenant]int{}, map[canonical.Tenant]bool{}, map[canonical.Tenant][]openCircuit{}
	for _, l := range w.letters {
		dead[l.Tenant]++
	}
	for key := range w.buckets[streams.HOLDS] {
		token, _, isRecord := strings.Cut(key, ".")
		name, err := streams.ParseToken(token)
		if err != nil {
			continue
		}
		var s hold.Tenant
		switch {
		case isRecord:
			heldRecords[canonical.Tenant(name)]++
		case w.decoded(streams.HOLDS, key, &s) && s.Held:
			holds[canonical.Tenant(name)] = true
		}
	}
	for key := range w.buckets[streams.BUDGETS] {
		p := strings.Split(key, ".")
		var x streams.Circuit
		if len(p) != 4 || p[0] != "circuit" || !w.decoded(streams.BUDGETS, key, &x) || x.State == "" || now.Sub(x.At) > staleAfter {
			continue
		}
		t := canonical.Tenant(p[1])
		circuits[t] = append(circuits[t], openCircuit{canonical.System(p[2]), p[3], x})
	}
	return dead, heldRecords, holds, circuits
}

// summaries returns all tenants whose name holds q, the worst first.
func (c *Console) summaries(q string, now time.Time) []summary {
	w := c.world
	w.mu.RLock()
	defer w.mu.RUnlock()
	dead, heldRecords, holds, circuits := c.troubles(now)
	var out []summary
	for name, t := range w.tenants {
		if !strings.Contains(string(name), q) {
			continue
		}
		s := summary{Name: name, Contacts: t.people.live, Dead: dead[name], Held: heldRecords[name], Circuits: circuits[name]}
		slices.SortFunc(s.Circuits, func(a, b openCircuit) int {
			return strings.Compare(string(a.System)+a.Stage, string(b.System)+b.Stage)
		})
		for _, n := range t.waiting {
			s.Waiting += n
		}
		s.ToGHL, s.ToNovi = w.direction(t, canonical.GHL), w.direction(t, canonical.Novi)
		s.judge(holds[name])
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b summary) int {
		return cmp.Or(cmp.Compare(b.State, a.State), cmp.Compare(b.Waiting, a.Waiting), strings.Compare(string(a.Name), string(b.Name)))
	})
	return out
}

// judge says how the tenant is, and why.
func (s *summary) judge(isHeld bool) {
	var why []string
	say := func(to state, format string, args ...any) {
		s.State = max(s.State, to)
		why = append(why, fmt.Sprintf(format, args...))
	}
	seen := map[string]bool{}
	for _, x := range s.Circuits {
		text := systemName(x.System) + " fails"
		if x.Cause == circuit.Refused {
			text = systemName(x.System) + " refuses our credentials"
		}
		if !seen[text] {
			seen[text] = true
			say(failing, "%s", text)
		}
	}
	if s.Dead > 0 {
		say(failing, "%s", count(s.Dead, "dead letter"))
	}
	if isHeld {
		say(held, "%s held", count(s.Held, "delete"))
	}
	for _, d := range []direction{s.ToGHL, s.ToNovi} {
		if d.Walk != nil && !d.Walk.Backfilled {
			say(behind, "%s is being read for the first time", systemName(d.At))
		}
	}
	if s.Waiting > 0 {
		say(behind, "%s waiting", count(int(s.Waiting), "message"))
	}
	s.Why = strings.Join(why, ", ")
}

// direction is what is written at a system. The caller holds the lock.
func (w *world) direction(t *tenant, at canonical.System) direction {
	x := t.wrote[at]
	d := direction{Last: x.last, ID: x.id, Kind: x.kind, At: at, Waiting: t.waiting[streams.Sink(at, t.name).Durable]}
	for _, s := range t.rings.last(minute) {
		if at == canonical.GHL {
			d.Rate += int(s.toGHL)
		} else {
			d.Rate += int(s.toNovi)
		}
	}
	var walk streams.Walk
	if w.decoded(streams.CURSORS, streams.WalkKey(at, t.name, canonical.KindContact), &walk) {
		d.Walk = &walk
	}
	return d
}

// minute is how many samples a minute has, of the usual distance.
const minute = 30

// detailed adds what takes longer to make, and is for those that are shown.
func (c *Console) detailed(list []summary, now time.Time) {
	w := c.world
	w.mu.RLock()
	defer w.mu.RUnlock()
	for i := range list {
		s := &list[i]
		t := w.tenants[s.Name]
		samples := t.rings.last(depth)
		lag, writes := make([]int, len(samples)), make([]int, len(samples))
		for j, x := range samples {
			lag[j], writes[j] = int(x.lag), int(x.toGHL+x.toNovi)
		}
		s.Lag, s.Writes = drawn(lag), drawn(smoothed(writes, 5))
		s.Budgets = c.budgets(s.Name, now)
	}
}

// budgets returns what is left of a tenant's calls. The caller holds the lock.
func (c *Console) budgets(name canonical.Tenant, now time.Time) []budgetLeft {
	var out []budgetLeft
	for _, system := range []canonical.System{canonical.GHL, canonical.Novi} {
		owner, limits, known := c.limits(system, name)
		var l budget.Ledger
		if !c.world.decoded(streams.BUDGETS, budget.Key(system, owner), &l) && !known {
			continue
		}
		if !known {
			limits.Daily = l.Day.Limit
			for _, x := range l.Limits {
				limits.Windows = append(limits.Windows, budget.Window{Calls: x.Calls, Per: time.Duration(x.MS) * time.Millisecond})
			}
		}
		s := l.Standing(limits, now)
		b := budgetLeft{System: system, Day: s.Day, Windows: s.Windows, Members: s.Members}
		if owner != name {
			b.Owner = owner
		}
		out = append(out, b)
	}
	return out
}

// limits returns what the configuration says of a tenant's calls, and under
// whose name they are counted.
func (c *Console) limits(system canonical.System, name canonical.Tenant) (owner canonical.Tenant, l budget.Limits, known bool) {
	file := c.file.Load()
	t, ok := tenantIn(file, name)
	if !ok {
		return name, l, false
	}
	var said config.Limits
	switch {
	case system == canonical.GHL && t.GHL != nil:
		said = t.GHL.Limits
	case system == canonical.Novi && t.Novi != nil:
		said = t.Novi.Limits
	default:
		return name, l, false
	}
	l.Daily = said.Daily
	for _, w := range said.Windows {
		l.Windows = append(l.Windows, budget.Window{Calls: w.Calls, Per: w.Per})
	}
	return file.BudgetOwner(system, t), l, true
}

func tenantIn(file *config.File, name canonical.Tenant) (config.Tenant, bool) {
	if file != nil {
		for _, t := range file.Tenants {
			if t.Name == name {
				return t, true
			}
		}
	}
	return config.Tenant{}, false
}

// rows is how many rows a page of a list has.
const rows = 50

type overviewPage struct {
	Tenants []summary
	Query   string
	Pager   pager
	Counts  [failing + 1]int
	All     int
	Decide  uint64 // messages of RAW that wait for the transform
	Trouble string
	Reading bool
}

func (c *Console) overview(w http.ResponseWriter, r *http.Request) error {
	now := c.clock.Now()
	q := strings.ToLower(strings.TrimSpace(r.FormValue("q")))
	all := c.summaries(q, now)
	p := overviewPage{Query: q, All: len(all)}
	for _, s := range all {
		p.Counts[s.State]++
	}
	var from, to int
	p.Pager, from, to = paged(r, len(all))
	p.Tenants = all[from:to]
	c.detailed(p.Tenants, now)
	c.world.mu.RLock()
	p.Trouble, p.Reading = c.world.trouble, !c.world.read
	for _, s := range c.world.status {
		for _, consumer := range s.Consumers {
			if s.Name == streams.RAW && consumer.Durable == streams.Transform().Durable {
				p.Decide = consumer.Pending + consumer.Unacked
			}
		}
	}
	c.world.mu.RUnlock()
	return c.show(w, r, "overview", "Overview", []string{"overview"}, p)
}

type tenantPage struct {
	summary
	Recent  []person
	Walks   []reading
	Mapping bool
}

// recent is how many contacts that changed last are shown.
const recent = 12

func (c *Console) tenant(w http.ResponseWriter, r *http.Request) error {
	now := c.clock.Now()
	name := canonical.Tenant(r.PathValue("tenant"))
	all := slices.DeleteFunc(c.summaries(string(name), now), func(s summary) bool { return s.Name != name })
	if len(all) == 0 {
		return notFound("there is no tenant %s", name)
	}
	c.detailed(all, now)
	p := tenantPage{summary: all[0], Walks: c.readings(name)}
	c.world.mu.RLock()
	p.Recent = c.world.tenants[name].people.latest(recent)
	c.world.mu.RUnlock()
	_, p.Mapping = tenantIn(c.file.Load(), name)
	return c.show(w, r, "tenant", string(name), []string{"overview", "t/" + string(name)}, p)
}
