package noviapi_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/noviapi"
)

// TestAChangeKeepsTheRest: PUT replaces, so what the client does not know goes
// back byte for byte, under the site's spelling.
func TestAChangeKeepsTheRest(t *testing.T) {
	var put string
	c := connect(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			raw, _ := io.ReadAll(r.Body)
			put = string(raw)
			return
		}
		_, _ = io.WriteString(w, `{"UniqueID":"s1","STATUS":"Old","Newer":{"n":12345678901234567890.10},"Date":"2018-10-28T13:31:52.4566667-04:00"}`)
	}), nil)
	if _, err := c.UpdateCommitteeMember(t.Context(), budget.Live, "c1", "s1", map[string]any{"Status": "New", "InternalNotes": nil}); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"STATUS":"New"`, `"Newer":{"n":12345678901234567890.10}`, `"Date":"2018-10-28T13:31:52.4566667-04:00"`, `"InternalNotes":null`} {
		if !strings.Contains(put, part) {
			t.Errorf("%s is not in %s", part, put)
		}
	}
	if strings.Contains(put, `"Status"`) {
		t.Errorf("it has both spellings: %s", put)
	}
}

func TestLenientReading(t *testing.T) {
	ctx := t.Context()
	tests := []struct {
		name, body string
		call       func(*noviapi.Client) (any, error)
		want       string
		class      apierr.Class
	}{
		{"a list of actions", `[{"WebhookUniqueId":"h","Actions":["a","b"]}]`, func(c *noviapi.Client) (any, error) { v, err := c.Webhooks(ctx, budget.Live); return v[0].Actions, err }, "[a b]", 0},
		{"one action", `[{"WebhookUniqueId":"h","Actions":"a"}]`, func(c *noviapi.Client) (any, error) { v, err := c.Webhooks(ctx, budget.Live); return v[0].Actions, err }, "[a]", 0},
		{"no action", `[{"webhookUniqueID":"h","Actions":null}]`, func(c *noviapi.Client) (any, error) { v, err := c.Webhooks(ctx, budget.Live); return v[0].Actions, err }, "[]", 0},
		{"a wrapped record", `{"data":{"UniqueID":"g","Name":"Board"}}`, func(c *noviapi.Client) (any, error) { v, err := c.GetGroup(ctx, budget.Live, "g"); return v.Name, err }, "Board", 0},
		{"no record", `{}`, func(c *noviapi.Client) (any, error) { return c.GetGroup(ctx, budget.Live, "g") }, "", apierr.Retry},
		{"a roster in an envelope", `{"TotalCount":1,"Results":[{"UniqueID":"s"}]}`, func(c *noviapi.Client) (any, error) {
			v, err := c.CommitteeMembers(ctx, budget.Live, "c")
			return len(v), err
		}, "1", 0},
		{"a bare roster", `[{"UniqueID":"s"}]`, func(c *noviapi.Client) (any, error) {
			v, err := c.CommitteeMembers(ctx, budget.Live, "c")
			return len(v), err
		}, "1", 0},
		{"group members without a total", `[{"UniqueID":"m"}]`, func(c *noviapi.Client) (any, error) {
			_, total, err := c.GroupMembers(ctx, budget.Live, "g", 0, 10)
			return total, err
		}, "-1", 0},
		{"a group member without an id", `[{"Name":"m"}]`, func(c *noviapi.Client) (any, error) {
			_, total, err := c.GroupMembers(ctx, budget.Live, "g", 0, 10)
			return total, err
		}, "", apierr.Retry},
		{"an attendee, not its registration", `[{"AttendeeUniqueID":"a","RegistrationUniqueID":"r","EventUniqueId":"e"}]`, func(c *noviapi.Client) (any, error) {
			v, err := c.Attendees(ctx, budget.Live, noviapi.AttendeesRequest{})
			return v[0].ID, err
		}, "a", 0},
		{"a registration, not its event", `{"TotalCount":1,"Results":[{"RegistrationUniqueID":"r","EventUniqueID":"e"}]}`, func(c *noviapi.Client) (any, error) {
			v, _, err := c.Registrations(ctx, budget.Live, 0, 10)
			return v[0].ID, err
		}, "r", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.call(connect(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, tt.body) }), nil))
			if apierr.ClassOf(err) != tt.class || tt.class == 0 && fmt.Sprint(got) != tt.want {
				t.Errorf("got %v, %v, want %s, class %s", got, err, tt.want, tt.class)
			}
		})
	}
}

// TestPathsAreConfiguration: where each operation goes, and what an error says
// of one that the site does not have.
func TestPathsAreConfiguration(t *testing.T) {
	asked := ""
	h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked = r.Method + " " + r.URL.RequestURI() })
	c := connect(t, h, nil)
	if err := c.AddGroupMember(t.Context(), budget.Live, "g", "m"); apierr.ClassOf(err) != apierr.Invalid || !strings.Contains(err.Error(), "novi.paths.group_member") || asked != "" {
		t.Errorf("got %v, asked %q", err, asked)
	}
	c = connect(t, h, func(conf *noviapi.Config) {
		conf.Paths = noviapi.Paths{"group_member": "/api/v9/groups/{group}/people/{member}", "webhook": "/api/hooks/{id}"}
	})
	if err := c.AddGroupMember(t.Context(), budget.Live, "g/1", "m"); err != nil || asked != "POST /api/v9/groups/g%2F1/people/m" {
		t.Errorf("got %v, asked %q", err, asked)
	}
	if err := c.DeleteWebhook(t.Context(), budget.Live, "h"); err != nil || asked != "DELETE /api/hooks/h" {
		t.Errorf("got %v, asked %q", err, asked)
	}
	keys := map[string][]string{}
	for _, e := range noviapi.Endpoints() {
		if paths := keys[e.Key]; e.Key == "" || len(paths) > 0 && !slices.Contains(paths, e.Path) {
			t.Errorf("%s: the key %q has the paths %q and %q", e.Func, e.Key, paths, e.Path)
		}
		keys[e.Key] = append(keys[e.Key], e.Path)
	}
}
