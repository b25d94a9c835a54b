package ghl_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/causeway-sync/causeway/ingest/ghl"
	"github.com/causeway-sync/causeway/ingest/hydrate"
	"github.com/causeway-sync/causeway/ingest/ingesttest"
	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/ghlapi"
	"github.com/causeway-sync/causeway/internal/ghlsim"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
)

var _ hydrate.Announcer = (*ghl.Reader)(nil)

// TestAnnouncements: what GHL tells of a contact that was made through the API
// adds nothing to what it answered, unless the contact was changed in between.
func TestAnnouncements(t *testing.T) {
	bodies := make(chan string, 10)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		bodies <- string(body)
	}))
	t.Cleanup(hook.Close)
	sim, err := ghlsim.New(ghlsim.Config{Seed: 1, Burst: 10_000, Locations: []ghlsim.Location{{ID: "loc1", Name: "Simulated",
		CustomFields: []ghlsim.CustomField{{ID: "cf1", Name: "Shirt", Key: "contact.shirt"}}}},
		Tokens:  []ghlsim.Token{{Value: ingesttest.Secret, LocationID: "loc1", Scopes: ghlsim.AllScopes()}},
		Webhook: ghlsim.WebhookConfig{URL: hook.URL}})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(sim.Handler())
	t.Cleanup(srv.Close)
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- sim.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
	client := ghlapi.New(ghlapi.Config{BaseURL: srv.URL, LocationID: "loc1", Clock: clock.System{}, HTTP: srv.Client(),
		Token: func(context.Context) (string, error) { return ingesttest.Secret, nil }})
	made, err := client.CreateContact(t.Context(), budget.Live, map[string]any{"firstName": "Ada", "email": "Ada@Example.org", "phone": "+15551234567",
		"tags": []string{"Board"}, "customFields": []map[string]any{{"id": "cf1", "value": "M"}}})
	if err != nil {
		t.Fatal(err)
	}
	body := <-bodies
	for !strings.Contains(body, `"ContactCreate"`) {
		body = <-bodies
	}
	r := ghl.NewReader(client)
	sight := observation.Observation{Kind: canonical.KindContact, Record: made.Raw}
	tests := []struct {
		name, old, new string
		announces      bool
		adds           bool
	}{
		{"as it was sent", "", "", true, false},
		{"another value", `"Ada"`, `"Eve"`, true, true},
		{"a value that was not there", `"type"`, `"city":"Vienna","type"`, true, true},
		{"a value that is gone", `"firstName":"Ada"`, `"firstName":null`, true, true},
		{"of another kind", `"ContactCreate"`, `"ContactUpdate"`, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := strings.Replace(body, tt.old, tt.new, 1)
			if tt.old != "" && text == body {
				t.Fatalf("%s is not in %s", tt.old, body)
			}
			notice := observation.Observation{Kind: canonical.KindContact, Record: []byte(text)}
			if got := r.Announces(notice); got != tt.announces {
				t.Errorf("Announces is %t, want %t", got, tt.announces)
			}
			if got := r.Adds(notice, sight); got != tt.adds {
				t.Errorf("Adds is %t, want %t: %s beside %s", got, tt.adds, text, made.Raw)
			}
		})
	}
}
