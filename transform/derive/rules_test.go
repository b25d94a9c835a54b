package derive_test

import (
	"context"
	"testing"
	"time"

	"github.com/goccy/go-json"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/internal/rule"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/streams"
	"github.com/causeway-sync/causeway/transform/derive"
)

const tenant = canonical.Tenant("alpine-guild")

// calendar is a clock that stands on a day.
type calendar struct{ day time.Time }

func (c calendar) Now() time.Time                     { return c.day }
func (calendar) After(time.Duration) <-chan time.Time { return nil }

type office struct {
	*bus.Conn
	t       *testing.T
	firings *prometheus.CounterVec
}

func open(t *testing.T) office {
	t.Helper()
	firings, err := derive.NewFirings(prometheus.NewPedanticRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return office{bustest.Start(t), t, firings}
}

// counted checks how many firings of a rule were counted with a result.
func (o office) counted(rule, result string, want float64) {
	o.t.Helper()
	var m dto.Metric
	if err := o.firings.WithLabelValues(string(tenant), rule, result).Write(&m); err != nil {
		o.t.Fatal(err)
	}
	if got := m.GetCounter().GetValue(); got != want {
		o.t.Errorf("%g firings of %s are counted as %s, want %g", got, rule, result, want)
	}
}

// says publishes an event of a contact.
func (o office) says(e canonical.Event) {
	o.t.Helper()
	data, err := json.Marshal(e)
	if err != nil {
		o.t.Fatal(err)
	}
	if _, err := o.Publish(o.t.Context(), bus.Message{Subject: streams.Canonical(canonical.KindContact, tenant, e.ID(), canonical.OpUpdated), Data: data}); err != nil {
		o.t.Fatal(err)
	}
}

// run has the rules run on a day, until they have seen everything.
func (o office) run(day time.Time, rules ...rule.Definition) {
	o.t.Helper()
	set, err := rule.Compile(rules, mapping.Association("US"))
	if err != nil {
		o.t.Fatal(err)
	}
	r, err := derive.NewRules(o.t.Context(), derive.RulesConfig{Bus: o, Clock: calendar{day}, Logger: zerolog.Nop(), Tenant: tenant, Rules: set, Firings: o.firings})
	if err != nil {
		o.t.Fatal(err)
	}
	stop := bustest.Go(o.t, r.Run)
	kv, err := o.Bucket(o.t.Context(), streams.CURSORS)
	if err != nil {
		o.t.Fatal(err)
	}
	bustest.Until(o.t, func() bool {
		var known map[string]struct{ Day string }
		value, _, err := kv.Get(context.Background(), streams.RulesKey(tenant))
		if err != nil || json.Unmarshal(value, &known) != nil {
			return false
		}
		for _, x := range rules {
			if x.Date != nil && known[x.Name].Day != day.Format(time.DateOnly) {
				return false
			}
		}
		return true
	})
	bustest.Settled(o.t, o.Conn, streams.CANONICAL, streams.Rules(tenant).Durable)
	stop()
}

// fired returns the external ids of what was asked for on RAW.
func (o office) fired() []string {
	o.t.Helper()
	var out []string
	for _, m := range bustest.All(o.t, o.Conn, streams.RAW) {
		p, err := streams.Parse(m.Subject)
		if err != nil {
			o.t.Fatal(err)
		}
		out = append(out, p.ID)
	}
	return out
}

func member(id canonical.CanonicalID, version uint64, expires string) canonical.Event {
	e := canonical.NewEvent(canonical.KindContact, id)
	e.Version, e.Contact.Membership.Active, e.Contact.Membership.Expires = version, true, expires
	e.Changes = []canonical.Change{{Field: "membership.active", To: "true"}}
	e.Cause = canonical.Cause{Stream: streams.RAW, Sequence: version, Via: "fetch", System: canonical.Novi}
	return e
}

func (o office) want(names ...string) {
	o.t.Helper()
	got := o.fired()
	if len(got) != len(names) {
		o.t.Fatalf("got %v, want %v", got, names)
	}
	for i := range names {
		if got[i] != names[i] {
			o.t.Errorf("got %v, want %v", got, names)
		}
	}
}

func TestRulesOfADate(t *testing.T) {
	o := open(t)
	reminder := rule.Definition{Name: "renewal", When: "after.membership.active", Date: &rule.DateSpec{Field: "membership.expires", DaysBefore: 30},
		Do: []rule.ActionSpec{{Task: &rule.TaskSpec{Title: "Renewal"}}}}
	day := func(d int) time.Time { return time.Date(2026, 11, d, 9, 0, 0, 0, time.UTC) }
	o.says(member("ada", 1, "2026-12-24"))
	o.says(member("bo", 1, "2027-12-24"))
	o.run(day(23), reminder)
	o.want()
	o.run(day(24), reminder)
	o.want("renewal-ada-2026-12-24-1")
	o.run(day(24), reminder) // a restart
	o.run(day(25), reminder) // and the next day
	o.says(member("bo", 2, "2026-12-24"))
	o.run(day(26), reminder) // bo's date is another one now
	o.want("renewal-ada-2026-12-24-1", "renewal-bo-2026-12-24-1")
	o.counted("renewal", "carried", 2)
}

// TestFiringsAreCounted: once each, what would feed itself apart.
func TestFiringsAreCounted(t *testing.T) {
	o := open(t)
	a := rule.Definition{Name: "a", When: "'phone' in changed", Do: []rule.ActionSpec{{AddTag: "a"}, {Task: &rule.TaskSpec{Title: "Call"}}}}
	o.run(time.Time{}, a)
	ada := member("ada", 1, "")
	ada.Changes = []canonical.Change{{Field: "phone", To: "1"}}
	o.says(ada)
	ada.Version, ada.Cause.Firing = 2, &canonical.Firing{Rule: "a", Chain: []string{"a"}}
	ada.Changes = []canonical.Change{{Field: "phone", From: "1", To: "2"}}
	o.says(ada)
	o.run(time.Time{}, a)
	o.counted("a", "carried", 1)
	o.counted("a", "stopped", 1)
	if letters := bustest.All(t, o.Conn, streams.DEAD); len(letters) != 1 {
		t.Errorf("got %d dead letters, want 1", len(letters))
	}
}

// TestARuleCountsFromWhenItIsKnown: what happened before doesn't make it fire,
// nor while it was gone.
func TestARuleCountsFromWhenItIsKnown(t *testing.T) {
	o := open(t)
	a := rule.Definition{Name: "a", When: "after.membership.active", Do: []rule.ActionSpec{{AddTag: "a"}}}
	b := rule.Definition{Name: "b", When: "after.membership.active", Do: []rule.ActionSpec{{AddTag: "b"}}}
	o.says(member("before", 1, ""))
	o.run(time.Time{}, a)
	o.says(member("first", 1, ""))
	o.run(time.Time{}, a, b) // b is new
	o.want("a-first-1")
	o.says(member("second", 1, ""))
	o.run(time.Time{}, a, b)
	o.want("a-first-1", "a-second-1", "b-second-1")
	o.run(time.Time{}, a)
	o.says(member("third", 1, ""))
	o.run(time.Time{}, a, b) // b has come back
	o.want("a-first-1", "a-second-1", "b-second-1", "a-third-1")
}
