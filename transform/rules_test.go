package transform_test

import (
	"strings"
	"testing"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/internal/rule"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
	"github.com/causeway-sync/causeway/transform"
)

func automations(t *testing.T, rules ...rule.Definition) transform.Policy {
	t.Helper()
	p := transform.Policy{Lens: mapping.Association("US")}
	set, err := rule.Compile(rules, p.Lens)
	if err != nil {
		t.Fatal(err)
	}
	p.Automations = set
	return p
}

// tagged is GHL's record of a contact with these tags.
func (h *house) tagged(id canonical.ExternalID, tags string) {
	h.see(observation.Observation{System: canonical.GHL, Kind: canonical.KindContact, ExternalID: id, Endpoint: observation.GHLContactGet,
		Record: json.RawMessage(`{"id":"` + string(id) + `","email":"ada@example.org","firstName":"Ada","tags":[` + tags + `]}`)})
}

// ada is the last state of the contact, and rested waits until nothing is under
// way.
func (h *house) ada() canonical.Event {
	h.t.Helper()
	m, err := h.Last(h.t.Context(), streams.CANONICAL, streams.Entity(canonical.KindContact, guild, canonical.NewID(guild, canonical.KindContact, canonical.GHL, "c1")))
	if err != nil {
		return canonical.Event{}
	}
	e, err := canonical.DecodeEvent(m.Data)
	if err != nil {
		h.t.Fatal(err)
	}
	return e
}

func (h *house) rested() {
	h.t.Helper()
	for range 8 { // what one has settled is the other's to do
		bustest.Settled(h.t, h.Conn, streams.RAW, streams.Transform().Durable)
		bustest.Settled(h.t, h.Conn, streams.CANONICAL, streams.Rules(guild).Durable)
	}
}

// TestRuleMakesATask: it is made once, hangs on the contact, and hears when the
// contact gets a record at the other side.
func TestRuleMakesATask(t *testing.T) {
	h := houseOf(t, automations(t, rule.Definition{Name: "welcome", When: "'member' in after.tags", Do: []rule.ActionSpec{
		{Task: &rule.TaskSpec{Title: "Welcome {after.first_name}"}}, {AddTag: "welcomed"}}}))
	h.tagged("c1", `"member"`)
	h.rested()
	person := h.ada()
	if got := strings.Join(person.Contact.Tags, " "); got != "member welcomed" {
		t.Errorf("the tags are %q", got)
	}
	if f := person.Cause.Firing; person.Cause.Via != "rule" || f == nil || f.Rule != "welcome" || f.Version != 1 {
		t.Errorf("the cause is %+v", person.Cause)
	}
	var made canonical.Event
	for _, e := range h.tasks() {
		made = e
	}
	if len(h.tasks()) != 1 || made.Task.Title != "Welcome Ada" || made.ContactID() != person.ID() || len(made.Links)+len(made.Sync.Base) > 0 {
		t.Fatalf("the tasks: %+v", h.tasks())
	}
	h.contact(canonical.Novi, "m1", "ada@example.org")
	bustest.Until(t, func() bool { return h.tasks()[made.ID()].Version > made.Version })

	// The same observations once more, as after a restart with an old position.
	for _, m := range bustest.All(t, h.Conn, streams.RAW) {
		if p, err := streams.Parse(m.Subject); err == nil && p.Via == observation.FromRule {
			if _, err := h.Publish(t.Context(), bus.Message{Subject: m.Subject, Data: m.Data}); err != nil {
				t.Fatal(err)
			}
		}
	}
	h.tagged("c1", `"member"`) // somebody took the other tag away
	h.rested()
	for _, m := range bustest.All(t, h.Conn, streams.RAW) {
		if p, err := streams.Parse(m.Subject); err == nil && p.Via == observation.FromRule && p.Kind == canonical.KindContact {
			if _, err := h.Publish(t.Context(), bus.Message{Subject: m.Subject, Data: m.Data}); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	h.rested()
	if n := len(h.tasks()); n != 1 {
		t.Errorf("%d tasks", n)
	}
}

// TestTwoRulesThatFeedOneAnother: the second round is stopped, and a dead letter
// says who led to whom.
func TestTwoRulesThatFeedOneAnother(t *testing.T) {
	h := houseOf(t, automations(t,
		rule.Definition{Name: "ping", When: "'ping' in after.tags", Do: []rule.ActionSpec{{RemoveTag: "ping"}, {AddTag: "pong"}}},
		rule.Definition{Name: "pong", When: "'pong' in after.tags", Do: []rule.ActionSpec{{RemoveTag: "pong"}, {AddTag: "ping"}}}))
	h.tagged("c1", `"ping"`)
	h.rested()
	if got := strings.Join(h.ada().Contact.Tags, " "); got != "ping" {
		t.Errorf("the tags are %q", got)
	}
	letters := bustest.All(t, h.Conn, streams.DEAD)
	var letter envelope.DeadLetter
	if len(letters) != 1 || json.Unmarshal(letters[0].Data, &letter) != nil {
		t.Fatalf("%d letters", len(letters))
	}
	if letter.Stage != "rules" || letter.Reason != "rule ping would feed itself, by ping, pong, ping" || letter.Class != envelope.Mapping {
		t.Errorf("got %+v", letter)
	}
}
