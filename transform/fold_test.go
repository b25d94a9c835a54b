package transform_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goccy/go-json"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
	"github.com/causeway-sync/causeway/transform"
)

// flaky is a broker that doesn't confirm some publishes.
type flaky struct {
	bus.Bus
	fails func(bus.Message) bool
}

func (f *flaky) Publish(ctx context.Context, m bus.Message) (bus.Ack, error) {
	if f.fails(m) {
		return bus.Ack{}, errors.New("the broker is away")
	}
	return f.Bus.Publish(ctx, m)
}

func runOn(t *testing.T, b bus.Bus, rules *mapping.Policy) (stop func()) {
	return doubting(t, b, rules, 2*time.Second)
}

func doubting(t *testing.T, b bus.Bus, rules *mapping.Policy, doubt time.Duration) (stop func()) {
	return bustest.Go(t, func(ctx context.Context) error {
		return transform.Run(ctx, transform.Config{Bus: b, Logger: zerolog.Nop(), Doubt: doubt, Tenants: map[canonical.Tenant]transform.Policy{guild: {Lens: mapping.Association("US"), Rules: rules}}})
	})
}

// person is what a record shows.
type person struct{ email, first, city string }

func (h *house) person(id canonical.ExternalID, p person) {
	h.t.Helper()
	record := fmt.Sprintf(`{"id":%q,"email":%q,"firstName":%q,"city":%q}`, id, p.email, p.first, p.city)
	h.see(observation.Observation{System: canonical.GHL, Kind: canonical.KindContact, ExternalID: id, Endpoint: observation.GHLContactGet, Record: json.RawMessage(record)})
}

// contacts returns the last state of every contact.
func contacts(t *testing.T, c *bus.Conn) map[canonical.CanonicalID]canonical.Event {
	t.Helper()
	out := map[canonical.CanonicalID]canonical.Event{}
	for _, m := range bustest.All(t, c, streams.CANONICAL) {
		if !strings.HasPrefix(m.Subject, "canonical.contact.") {
			continue
		}
		e, err := canonical.DecodeEvent(m.Data)
		if err != nil {
			t.Fatal(err)
		}
		if e.Version != out[e.ID()].Version+1 {
			t.Errorf("version %d of %s follows %d", e.Version, e.ID(), out[e.ID()].Version)
		}
		out[e.ID()] = e
	}
	return out
}

func (h *house) settled() {
	h.t.Helper()
	bustest.Settled(h.t, h.Conn, streams.RAW, streams.Transform().Durable)
	bustest.Settled(h.t, h.Conn, streams.CANONICAL, streams.Children().Durable)
	bustest.Settled(h.t, h.Conn, streams.RAW, streams.Transform().Durable)
}

func contactID(id canonical.ExternalID) canonical.CanonicalID {
	return canonical.NewID(guild, canonical.KindContact, canonical.GHL, id)
}

func (h *house) unmerge(id, from canonical.ExternalID) {
	h.see(observation.Observation{System: canonical.Person, Kind: canonical.KindContact, ExternalID: canonical.ExternalID(contactID(id)), Via: observation.Unmerge,
		Entity: contactID(id), Contact: contactID(from), Reason: "her sister"})
}

// TestFold: an address is corrected, and two are one; what hung on the one
// hangs on the other; a person takes them apart again; and whoever reads RAW
// anew comes to the same.
func TestFold(t *testing.T) {
	h := newHouse(t)
	h.person("g1", person{"ada@example.org", "Ada", "Bern"})
	h.person("g2", person{"ada@exmaple.org", "Ada", "Thun"})
	h.see(task(canonical.GHL, "t2", "g2", "Call"))
	h.settled()
	h.person("g2", person{"ada@example.org", "Ada", "Thun"})
	h.settled()
	a, b := contactID("g1"), contactID("g2")
	all := contacts(t, h.Conn)
	if all[b].MergedInto != a || all[a].MergedInto != "" || len(all[a].Links[canonical.GHL]) != 2 || len(all[b].Links) != 0 || all[a].Contact.Address.City != "Thun" {
		t.Fatalf("got %+v and %+v", all[a], all[b])
	}
	item := canonical.NewID(guild, canonical.KindTask, canonical.GHL, "t2")
	bustest.Until(t, func() bool { e := h.tasks()[item]; return e.ContactID() == a })

	h.person("g2", person{"ada@example.org", "Ada", "Chur"}) // an edit at the other record
	h.see(task(canonical.GHL, "t3", "g2", "Write"))
	h.settled()
	all = contacts(t, h.Conn)
	if all[a].Contact.Address.City != "Chur" {
		t.Errorf("after an edit at the second record: %+v", all[a].Contact)
	}
	bustest.Until(t, func() bool {
		e := h.tasks()[canonical.NewID(guild, canonical.KindTask, canonical.GHL, "t3")]
		return e.ContactID() == a
	})

	h.unmerge("g2", "g1")
	h.settled()
	h.person("g2", person{"ada@example.org", "Ada", "Genf"})
	h.settled()
	all = contacts(t, h.Conn)
	if all[b].MergedInto != "" || all[a].Contact.Address.City != "Bern" || all[b].Contact.Address.City != "Genf" || len(all[a].Links[canonical.GHL]) != 1 || len(all[b].Links[canonical.GHL]) != 1 {
		t.Errorf("taken apart: %+v and %+v", all[a], all[b])
	}
	bustest.Until(t, func() bool { e := h.tasks()[item]; return e.ContactID() == b })
	if dead := bustest.All(t, h.Conn, streams.DEAD); len(dead) > 0 {
		t.Errorf("a dead letter: %s", dead[0].Data)
	}
	merged, reason := 0, false
	for _, m := range bustest.All(t, h.Conn, streams.CANONICAL) {
		s, err := streams.Parse(m.Subject)
		if err != nil {
			t.Fatal(err)
		}
		if s.Op == canonical.OpMerged {
			merged++
			if err := schemas.Validate(envelope.Type(s.Kind, s.Op), m.Data); err != nil {
				t.Error(err)
			}
		}
		reason = reason || strings.Contains(string(m.Data), `"reason":"her sister"`)
	}
	if merged != 1 || !reason {
		t.Errorf("%d events say merged; one names the reason: %t", merged, reason)
	}

	again := &house{t: t, Conn: bustest.Start(t), policy: h.policy}
	for _, m := range bustest.All(t, h.Conn, streams.RAW) {
		if _, err := again.Publish(t.Context(), bus.Message{Subject: m.Subject, Data: m.Data}); err != nil {
			t.Fatal(err)
		}
	}
	again.start() // not before: it publishes to RAW as well
	again.settled()
	if d := cmp.Diff(all, contacts(t, again.Conn), cmpopts.IgnoreFields(canonical.Event{}, "Version")); d != "" {
		t.Errorf("a replay comes to something else:\n%s", d)
	}
}

// TestSecondRecord: two records of one system that were there before we came.
func TestSecondRecord(t *testing.T) {
	for _, policy := range []mapping.OnMatch{mapping.MergeMatch, mapping.FlagMatch} {
		t.Run(string(policy), func(t *testing.T) {
			h := &house{t: t, Conn: bustest.Start(t)}
			h.person("g1", person{"ada@example.org", "Ada", "Bern"})
			h.person("g2", person{"ada@example.org", "Ada", "Thun"})
			runOn(t, h.Conn, &mapping.Policy{OnMatch: policy})
			h.settled()
			all, dead := contacts(t, h.Conn), bustest.All(t, h.Conn, streams.DEAD)
			if policy == mapping.FlagMatch {
				if len(all) != 1 || len(dead) != 1 || !strings.Contains(string(dead[0].Data), "ambiguous") || strings.Contains(string(dead[0].Data), "example.org\"}") {
					t.Errorf("%d contacts, dead letters %v", len(all), dead)
				}
				return
			}
			if len(dead) != 0 || len(all) != 2 || all[contactID("g2")].MergedInto != contactID("g1") || all[contactID("g2")].Version != 1 {
				t.Errorf("got %+v, %d dead letters", all, len(dead))
			}
		})
	}
}

// TestFoldAfterACrash: the broker is away after the first of the two publishes.
func TestFoldAfterACrash(t *testing.T) {
	h := &house{t: t, Conn: bustest.Start(t)}
	var away atomic.Int32
	stop := runOn(t, &flaky{h.Conn, func(m bus.Message) bool { return strings.HasSuffix(m.Subject, ".merged") && away.Add(1) <= 2 }}, nil)
	h.person("g1", person{"ada@example.org", "Ada", "Bern"})
	h.person("g2", person{"ada@exmaple.org", "Ada", "Thun"})
	h.settled()
	h.person("g2", person{"ada@example.org", "Ada", "Thun"})
	bustest.Until(t, func() bool { return away.Load() > 0 })
	stop()
	runOn(t, h.Conn, nil)
	h.settled()
	a, b := contactID("g1"), contactID("g2")
	all := contacts(t, h.Conn)
	if all[b].MergedInto != a || all[a].Version != 2 || len(all[a].Links[canonical.GHL]) != 2 {
		t.Errorf("got %+v and %+v", all[a], all[b])
	}
}

// TestFoldsOfTwoInstances: two instances share the work, and each pair is one
// in the end, with everything that both showed.
func TestFoldsOfTwoInstances(t *testing.T) {
	const pairs = 40
	h := &house{t: t, Conn: bustest.Start(t)}
	runOn(t, h.Conn, nil)
	runOn(t, bustest.Again(t, h.Conn), nil)
	ids := func(i int) (a, b canonical.ExternalID) {
		return canonical.ExternalID(fmt.Sprintf("a%d", i)), canonical.ExternalID(fmt.Sprintf("b%d", i))
	}
	for i := range pairs {
		a, b := ids(i)
		h.person(a, person{fmt.Sprintf("a%d@example.org", i), "Ada", "Bern"})
		h.person(b, person{fmt.Sprintf("b%d@example.org", i), "Ada", ""})
	}
	h.settled()
	for i := range pairs {
		a, b := ids(i)
		h.person(b, person{fmt.Sprintf("a%d@example.org", i), "Ada", "Thun"})
		h.person(a, person{fmt.Sprintf("a%d@example.org", i), "Adaline", "Bern"})
	}
	h.settled()
	all := contacts(t, h.Conn)
	for i := range pairs {
		a, b := ids(i)
		one, other := all[contactID(a)], all[contactID(b)]
		if one.MergedInto != "" || other.MergedInto != one.ID() || len(one.Links[canonical.GHL]) != 2 || one.Contact.FirstName != "Adaline" || one.Contact.Address.City != "Thun" {
			t.Errorf("pair %d: %+v, links %v; the other is %q", i, one.Contact, one.Links, other.MergedInto)
		}
	}
	for _, m := range bustest.All(t, h.Conn, streams.DEAD) {
		t.Errorf("a dead letter: %s", m.Data)
	}
}

// TestAnAddressMoves: one person gives up an address and another gets it, all
// at once, with doubled notices; nobody is folded.
func TestAnAddressMoves(t *testing.T) {
	h := &house{t: t, Conn: bustest.Start(t)}
	const pairs = 20
	for i := range pairs {
		a, b := canonical.ExternalID(fmt.Sprintf("a%d", i)), canonical.ExternalID(fmt.Sprintf("b%d", i))
		mine, office := fmt.Sprintf("ada%d@example.org", i), fmt.Sprintf("office%d@example.org", i)
		h.person(a, person{office, "Ada", ""})
		h.person(b, person{fmt.Sprintf("b%d@example.org", i), "Ada", ""})
		h.person(a, person{mine, "Ada", ""})
		h.person(b, person{office, "Ada", ""})
		h.person(a, person{mine, "Ada", ""})
		h.person(b, person{office, "Ada", ""})
	}
	runOn(t, h.Conn, nil)
	h.settled()
	for id, e := range contacts(t, h.Conn) {
		if e.MergedInto != "" {
			t.Errorf("%s was merged into %s", id, e.MergedInto)
		}
	}
	if dead := bustest.All(t, h.Conn, streams.DEAD); len(dead) > 0 {
		t.Errorf("a dead letter: %s", dead[0].Data)
	}
}

// TestADoubtPasses: somebody is seen with an address before it is seen that
// the other one, whose notice was lost, has given it up. Nobody is asked, unless
// that isn't seen in time.
func TestADoubtPasses(t *testing.T) {
	for name, tt := range map[string]struct {
		doubt  time.Duration
		passes bool
		dead   int
	}{
		"in time": {8 * time.Second, true, 0},
		"never":   {80 * time.Millisecond, false, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := &house{t: t, Conn: bustest.Start(t)}
			doubting(t, h.Conn, nil, tt.doubt)
			h.person("g1", person{"office@example.org", "Ada", ""})
			h.person("g2", person{"bruno@example.org", "Bruno", ""})
			h.settled()
			h.person("g2", person{"office@example.org", "Bruno", ""})
			bustest.Until(t, func() bool { return contacts(t, h.Conn)[contactID("g2")].Contact.Email == "office@example.org" })
			if tt.passes {
				h.person("g1", person{"ada@example.org", "Ada", ""})
			}
			h.settled()
			all, dead := contacts(t, h.Conn), bustest.All(t, h.Conn, streams.DEAD)
			if len(dead) != tt.dead || all[contactID("g1")].MergedInto != "" || all[contactID("g2")].Contact.Email != "office@example.org" || all[contactID("g2")].Version != 2 {
				t.Errorf("dead letters %v, %+v", dead, all)
			}
		})
	}
}

// TestMergedAwayUnderAnOldAddress: GHL knows a new address of somebody, Novi
// merges their record into another and has not heard of it. They stay one.
func TestMergedAwayUnderAnOldAddress(t *testing.T) {
	member := func(h *house, id canonical.ExternalID, email string) {
		record := json.RawMessage("null")
		if email != "" {
			record = fmt.Appendf(nil, `{"UniqueID":%q,"Email":%q,"FirstName":"Ada","LastName":"Imhof","CustomerType":"Person","Active":true}`, id, email)
		}
		h.see(observation.Observation{System: canonical.Novi, Kind: canonical.KindContact, ExternalID: id, Endpoint: observation.NoviMemberGet, Record: record, Absent: email == ""})
	}
	for _, first := range []string{"update", "delete"} {
		t.Run("the "+first+" first", func(t *testing.T) {
			h := newHouse(t)
			member(h, "n1", "ada@example.org")
			h.person("g1", person{"ada@example.org", "Ada", "Bern"})
			h.person("g1", person{"ada@new.example.org", "Ada", "Bern"})
			h.settled()
			if first == "update" {
				member(h, "n2", "ada@example.org")
				member(h, "n1", "")
			} else {
				member(h, "n1", "")
				h.settled()
				member(h, "n2", "ada@example.org")
			}
			h.settled()
			var live []canonical.Event
			for _, e := range contacts(t, h.Conn) {
				if e.MergedInto == "" {
					live = append(live, e)
				}
			}
			if len(live) != 1 || live[0].Contact.Email != "ada@new.example.org" || !slices.Equal(live[0].Links[canonical.Novi], []canonical.ExternalID{"n2"}) || !slices.Equal(live[0].Links[canonical.GHL], []canonical.ExternalID{"g1"}) {
				t.Errorf("got %+v", live)
			}
		})
	}
}

// TestAnItemGoesWithADuplicate: the sink deletes the second record of a
// person, and the system takes a task along. That is nobody's delete.
func TestAnItemGoesWithADuplicate(t *testing.T) {
	for via, entity := range map[observation.Via]canonical.CanonicalID{observation.Writeback: contactID("g1"), observation.Fetch: ""} {
		t.Run(string(via), func(t *testing.T) { itemGoesWithADuplicate(t, via, entity) })
	}
}

func itemGoesWithADuplicate(t *testing.T, via observation.Via, entity canonical.CanonicalID) {
	h := newHouse(t)
	h.person("g1", person{"ada@example.org", "Ada", "Bern"})
	h.person("g2", person{"ada@example.org", "Ada", "Thun"})
	h.see(task(canonical.GHL, "t2", "g2", "Call"))
	h.settled()
	h.see(observation.Observation{System: canonical.GHL, Kind: canonical.KindContact, ExternalID: "g2", Via: via, Entity: entity, Absent: true})
	h.settled()
	h.see(observation.Observation{System: canonical.GHL, Kind: canonical.KindTask, ExternalID: "t2", Parent: "g2", Absent: true})
	h.settled()
	if e := contacts(t, h.Conn)[contactID("g1")]; len(e.Links[canonical.GHL]) != 1 || e.Contact.Deleted {
		t.Errorf("the contact: %+v, links %v", e.Contact, e.Links)
	}
	e := h.tasks()[canonical.NewID(guild, canonical.KindTask, canonical.GHL, "t2")]
	if _, known := e.Sync.Base[canonical.GHL]; known || len(e.Links) != 0 || e.Deleted() || e.ContactID() != contactID("g1") {
		t.Errorf("the task: %+v, links %v, deleted %t", e.Sync, e.Links, e.Deleted())
	}
}

// TestUnmergeOfNothing is a dead letter that says why.
func TestUnmergeOfNothing(t *testing.T) {
	h := newHouse(t)
	h.person("g1", person{"ada@example.org", "Ada", "Bern"})
	h.person("g2", person{"b@example.org", "Ada", "Thun"})
	h.unmerge("g2", "g1")
	h.settled()
	if dead := bustest.All(t, h.Conn, streams.DEAD); len(dead) != 1 || !strings.Contains(string(dead[0].Data), "it was not merged") {
		t.Errorf("dead letters: %v", dead)
	}
}
