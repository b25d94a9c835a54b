package ghlapi_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/ghlapi"
)

// answering returns a client whose every call is answered so, and the last
// request's method, path with query, and body.
func answering(t *testing.T, status int, body string) (*ghlapi.Client, *string) {
	t.Helper()
	asked := new(string)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent, _ := io.ReadAll(r.Body)
		*asked = strings.TrimSpace(r.Method + " " + r.URL.RequestURI() + " " + string(sent))
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(srv.Close)
	return ghlapi.New(ghlapi.Config{BaseURL: srv.URL, LocationID: "loc1", HTTP: &http.Client{Timeout: 10 * time.Second}, Clock: clock.System{},
		Token: func(context.Context) (string, error) { return "pit-x", nil }}), asked
}

// TestLenientReading: what GHL may answer, and what a caller is told.
func TestLenientReading(t *testing.T) {
	ctx := t.Context()
	tests := []struct {
		name   string
		status int
		body   string
		call   func(*ghlapi.Client) (any, error)
		want   string // of what is returned
		class  apierr.Class
	}{
		{"null for a list", 200, `{"tasks":null}`, func(c *ghlapi.Client) (any, error) { v, err := c.Tasks(ctx, budget.Live, "c"); return len(v), err }, "0", 0},
		{"no list", 200, `{}`, func(c *ghlapi.Client) (any, error) { v, err := c.Tasks(ctx, budget.Live, "c"); return len(v), err }, "", apierr.Retry},
		{"an item without an id", 200, `{"tasks":[{"title":"x"}]}`, func(c *ghlapi.Client) (any, error) { return c.Tasks(ctx, budget.Live, "c") }, "", apierr.Retry},
		{"_id in a task search", 200, `{"tasks":[{"_id":"t1","contactId":"c"}]}`, func(c *ghlapi.Client) (any, error) {
			v, err := c.SearchTasks(ctx, budget.Live, ghlapi.TaskSearch{})
			return v[0].ID + v[0].ContactID, err
		}, "t1c", 0},
		{"dateUpdated in ms", 200, `{"contact":{"id":"c","dateUpdated":1767607202000}}`, func(c *ghlapi.Client) (any, error) {
			v, err := c.GetContact(ctx, budget.Live, "c")
			return v.Modified.UnixMilli(), err
		}, "1767607202000", 0},
		{"deleted", 200, `{"succeded":true}`, func(c *ghlapi.Client) (any, error) { return "", c.DeleteNote(ctx, budget.Live, "c", "n") }, "", 0},
		{"deleted without a word", 200, ``, func(c *ghlapi.Client) (any, error) { return "", c.DeleteNote(ctx, budget.Live, "c", "n") }, "", 0},
		{"not deleted, as v2 spells it", 200, `{"succeded":false}`, func(c *ghlapi.Client) (any, error) { return "", c.DeleteNote(ctx, budget.Live, "c", "n") }, "", apierr.Invalid},
		{"not deleted, as v3 spells it", 200, `{"succeeded":false}`, func(c *ghlapi.Client) (any, error) { return "", c.DeleteNote(ctx, budget.Live, "c", "n") }, "", apierr.Invalid},
		{"bulk with texts", 201, `{"succeded":true,"errorCount":1,"responses":["Contact c not found"]}`, func(c *ghlapi.Client) (any, error) {
			v, err := c.BulkAddTags(ctx, budget.Live, []string{"c"}, []string{"a"})
			return v[0].Message, err
		}, "Contact c not found", 0},
		{"one message", 400, `{"statusCode":400,"message":"Contact with id c not found","traceId":"t-1"}`, func(c *ghlapi.Client) (any, error) { return c.GetContact(ctx, budget.Live, "c") }, "", apierr.Gone},
		{"several messages", 422, `{"message":["property foo should not exist"]}`, func(c *ghlapi.Client) (any, error) {
			return c.UpdateContact(ctx, budget.Live, "c", map[string]any{"city": "x"})
		}, "", apierr.Invalid},
		{"a create that is refused may have been done", 422, `{"message":["x"]}`, func(c *ghlapi.Client) (any, error) {
			return c.CreateContact(ctx, budget.Live, map[string]any{"email": "a@x.org"})
		}, "", apierr.Ambiguous},
		{"so may an upsert", 422, `{"message":["x"]}`, func(c *ghlapi.Client) (any, error) {
			_, _, err := c.UpsertContact(ctx, budget.Live, map[string]any{"email": "a@x.org"})
			return nil, err
		}, "", apierr.Ambiguous},
		{"a write without a record", 201, `{}`, func(c *ghlapi.Client) (any, error) {
			return c.CreateBusiness(ctx, budget.Live, map[string]any{"name": "x"})
		}, "", apierr.Ambiguous},
		{"an unknown user", 401, `{"message":"The user does not exist."}`, func(c *ghlapi.Client) (any, error) { return c.GetUser(ctx, budget.Live, "u") }, "", apierr.Gone},
		{"a missing scope", 401, `{"message":"The token is not authorized for this scope."}`, func(c *ghlapi.Client) (any, error) { return c.LocationTags(ctx, budget.Live) }, "", apierr.Forbidden},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := answering(t, tt.status, tt.body)
			got, err := tt.call(c)
			if apierr.ClassOf(err) != tt.class {
				t.Fatalf("got %v, want class %s", err, tt.class)
			}
			if tt.class == 0 && fmt.Sprint(got) != tt.want {
				t.Errorf("got %v, want %s", got, tt.want)
			}
			if strings.Contains(tt.body, "traceId") && !strings.Contains(err.Error(), "t-1") {
				t.Errorf("the trace is not in %v", err)
			}
		})
	}
}

// TestStrictWriting: what GHL would refuse is not sent.
func TestStrictWriting(t *testing.T) {
	ctx := t.Context()
	many := slices.Repeat([]string{"c"}, ghlapi.MaxBulk+1)
	tests := map[string]func(*ghlapi.Client) error{
		"companyName in a PUT": func(c *ghlapi.Client) error {
			_, err := c.UpdateContact(ctx, budget.Live, "c", map[string]any{"companyName": "x"})
			return err
		},
		"createNewIfDuplicateAllowed in a create": func(c *ghlapi.Client) error {
			_, err := c.CreateContact(ctx, budget.Live, map[string]any{"createNewIfDuplicateAllowed": true})
			return err
		},
		"a key of no business": func(c *ghlapi.Client) error {
			_, err := c.CreateBusiness(ctx, budget.Live, map[string]any{"customFields": 1})
			return err
		},
		"a key of no appointment": func(c *ghlapi.Client) error {
			_, err := c.UpdateAppointment(ctx, budget.Live, "a", map[string]any{"contactId": "c"})
			return err
		},
		"too many for tags": func(c *ghlapi.Client) error {
			_, err := c.BulkAddTags(ctx, budget.Live, many, []string{"a"})
			return err
		},
		"too many for a business": func(c *ghlapi.Client) error { return c.SetBusiness(ctx, budget.Live, "b", many) },
	}
	for name, call := range tests {
		c, asked := answering(t, 200, `{}`)
		if err := call(c); apierr.ClassOf(err) != apierr.Invalid || *asked != "" {
			t.Errorf("%s: got %v, sent %q", name, err, *asked)
		}
	}
}

// TestRequests: paths are escaped, and bodies are what the dossier asks for.
func TestRequests(t *testing.T) {
	ctx := t.Context()
	tests := []struct {
		name string
		call func(*ghlapi.Client)
		want string
	}{
		{"an id that is a path", func(c *ghlapi.Client) { _, _ = c.GetContact(ctx, budget.Live, "a/../b?x") }, "GET /contacts/a%2F..%2Fb%3Fx"},
		{"tags are removed by a body", func(c *ghlapi.Client) { _, _ = c.RemoveTags(ctx, budget.Live, "c", []string{"a"}) }, `DELETE /contacts/c/tags {"tags":["a"]}`},
		{"null unlinks", func(c *ghlapi.Client) { _ = c.SetBusiness(ctx, budget.Live, "", []string{"c"}) }, `POST /contacts/bulk/business {"businessId":null,"ids":["c"],"locationId":"loc1"}`},
		{"all tags", func(c *ghlapi.Client) { _, _ = c.BulkRemoveTags(ctx, budget.Live, []string{"c"}, nil, true) }, `POST /contacts/bulk/tags/update/remove {"contacts":["c"],"locationId":"loc1","removeAllTags":true,"tags":[]}`},
		{"a workflow that counts from now", func(c *ghlapi.Client) { _ = c.AddToWorkflow(ctx, budget.Live, "c", "w", time.Time{}) }, `POST /contacts/c/workflow/w {}`},
		{"a phone is a number", func(c *ghlapi.Client) { _, _ = c.FindDuplicate(ctx, budget.Live, "", "+15125550100") }, `GET /contacts/search/duplicate?locationId=loc1&number=%2B15125550100`},
		{"no date, no query", func(c *ghlapi.Client) { _, _ = c.ListContacts(ctx, budget.Live, ghlapi.ListRequest{}) }, `GET /contacts/?locationId=loc1`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, asked := answering(t, 200, `{}`)
			if tt.call(c); *asked != tt.want {
				t.Errorf("got  %s\nwant %s", *asked, tt.want)
			}
		})
	}
}
