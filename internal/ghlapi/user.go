package ghlapi

import (
	"context"
	"net/http"
	"net/url"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/budget"
)

// User is a person who works in the location; tasks and notes name one by id.
type User struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Email string `json:"email"`
}

// Users returns the users of the location. The call is deprecated, and still
// the one that needs nothing but a location's token (§3.13).
func (c *Client) Users(ctx context.Context, lane budget.Lane) ([]User, error) {
	const op = "list users"
	a, err := c.do(ctx, lane, op, http.MethodGet, "/users/?"+url.Values{"locationId": {c.cfg.LocationID}}.Encode(), nil, false)
	if err != nil {
		return nil, err
	}
	var out struct {
		Users *[]User `json:"users"`
	}
	if json.Unmarshal(a.Body, &out) != nil || out.Users == nil {
		return nil, &apierr.Error{System: "ghl", Op: op, Status: a.Status, Class: apierr.Retry, Message: "the answer is no list of users"}
	}
	return *out.Users, nil
}
