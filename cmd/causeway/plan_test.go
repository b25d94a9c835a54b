package main

import (
	"strings"
	"testing"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/schemas/canonical"
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
			if err := tt.cmd.plan(t.Context(), &out, b, tenant(t, tenantText)); err != nil {
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
