package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-json"
	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
	"github.com/causeway-sync/causeway/transform"
)

// TestPlan prints what is to be done about three members that GHL doesn't have.
func TestPlan(t *testing.T) {
	b := bustest.Start(t)
	for _, id := range []canonical.CanonicalID{"a", "b", "c"} {
		e := canonical.NewEvent(canonical.KindContact, id)
		e.Version = 1
		e.Contact.FirstName, e.Contact.Tags = "Ada", []string{}
		data, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Publish(t.Context(), bus.Message{Subject: "canonical.contact.guild." + string(id) + ".created", Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name string
		cmd  planCmd
		want []string
		not  string
	}{
		{"as text", planCmd{Limit: 2}, []string{"  ghl: POST /contacts/: custom:contact.causeway_id, firstName  [may fire: contact created]\n", "  and 1 more writes, which --limit 0 prints\n",
			"guild: 3 entities looked at, nothing was sent\n", "ghl: 3 writes to 3 records, and 1 reads; 3 writes may fire automations; at least 0s under the call limits\n", "novi: 0 writes"}, "Ada"},
		{"with values", planCmd{ShowValues: true}, []string{`firstName = "Ada"`}, "more writes"},
		{"as JSON", planCmd{JSON: true, Limit: 1}, []string{`"method":"POST","path":"/contacts/","fields":["custom:contact.causeway_id","firstName"],"may_fire":"contact created"}`,
			`"summary":{"tenant":"guild","entities":3,`, `"takes_seconds":{"ghl":0.4,"novi":0}`}, "Ada"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			if err := tt.cmd.plan(t.Context(), &out, b, tenant(t, tenantText), nil); err != nil {
				t.Fatal(err)
			}
			for _, want := range tt.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("it lacks %q:\n%s", want, out.String())
				}
			}
			if strings.Contains(out.String(), tt.not) {
				t.Errorf("it has %q:\n%s", tt.not, out.String())
			}
		})
	}
}

// TestPlanOfAChangedReading: a member's phone is read from another field, and so
// GHL would be told.
func TestPlanOfAChangedReading(t *testing.T) {
	b := bustest.Start(t)
	stop := bustest.Go(t, func(ctx context.Context) error {
		was := tenant(t, tenantText)
		return transform.Run(ctx, transform.Config{Bus: b, Logger: zerolog.Nop(), Tenants: map[canonical.Tenant]transform.Policy{"guild": {Lens: was.Lens(), Rules: was.Policy()}}})
	})
	for i, o := range []observation.Observation{
		{System: canonical.Novi, ExternalID: "m1", Endpoint: observation.NoviMemberGet, Record: json.RawMessage(`{"CustomerType":"Person","Email":"ada@example.org","Phone":"202-456-1111","Mobile":"202-456-2222"}`)},
		{System: canonical.GHL, ExternalID: "g1", Endpoint: observation.GHLContactGet, Record: json.RawMessage(`{"id":"g1","email":"ada@example.org","phone":"+12024562222"}`)},
	} {
		o.Tenant, o.Kind, o.Via, o.ReadBegan = "guild", canonical.KindContact, observation.Fetch, time.Date(2026, 11, 1, 10, i, 0, 0, time.UTC)
		data, err := o.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Publish(t.Context(), bus.Message{Subject: streams.Raw(o), Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	bustest.Settled(t, b, streams.RAW, streams.Transform().Durable)
	stop()
	now := tenant(t, tenantText+"      phone: {ghl: phone, novi: Phone, convert: phone}\n")
	for _, tt := range []struct {
		cmd  planCmd
		want []string
		not  string
	}{
		{planCmd{}, []string{"  ghl: PUT /contacts/g1:", "  read again: contact ", ": phone\n", "novi: of 1 contact records something is read in another way (phone 1)\n",
			"once they have been seen again: 1 entities change (phone 1); what is read loses: nothing\n"}, "456"},
		{planCmd{ShowValues: true}, []string{`: phone from "+12024562222" to "+12024561111"`}, "loses: phone"},
		{planCmd{JSON: true}, []string{`{"read_again":{"tenant":"guild","kind":"contact",`, `"changes":["phone"]}`, `"read_again":{"of":[{"kind":"contact","system":"novi","records":1,"unknown":0,"fields":{"phone":1}}],"entities":1,`}, "456"},
	} {
		var out strings.Builder
		if err := tt.cmd.plan(t.Context(), &out, b, now, newRereads(b, now, time.Now(), tt.cmd.ShowValues)); err != nil {
			t.Fatal(err)
		}
		for _, want := range tt.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("it lacks %q:\n%s", want, out.String())
			}
		}
		if strings.Contains(out.String(), tt.not) {
			t.Errorf("it has %q:\n%s", tt.not, out.String())
		}
	}
}
