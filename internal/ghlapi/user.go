package ghlapi

import (
	"context"
	"net/url"
	"strconv"
	"strings"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/endpoint"
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
	return c.users(ctx, lane, listUsers, url.Values{"locationId": {c.cfg.LocationID}}, nil)
}

func (c *Client) users(ctx context.Context, lane budget.Lane, e endpoint.Endpoint, q url.Values, body any) ([]User, error) {
	path := e.Path
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	a, err := c.at(ctx, lane, e, path, body)
	if err != nil {
		return nil, err
	}
	return readList[User](e, a, "users")
}

// GetUser returns a user; Gone if there is none (GHL says 401, #205).
func (c *Client) GetUser(ctx context.Context, lane budget.Lane, id string) (User, error) {
	a, err := c.at(ctx, lane, getUser, getUser.At(id), nil)
	if err != nil {
		return User{}, err
	}
	var u User
	if json.Unmarshal(a.Body, &u) != nil || u.ID == "" { // it is not wrapped
		return User{}, without(getUser, a, "user")
	}
	return u, nil
}

// SearchUsers returns one page of the company's users who work in the location
// and meet the query; it is the last if it has fewer than limit.
func (c *Client) SearchUsers(ctx context.Context, lane budget.Lane, companyID, query string, limit, skip int) ([]User, error) {
	q := url.Values{"companyId": {companyID}, "locationId": {c.cfg.LocationID}, "limit": {strconv.Itoa(limit)}, "skip": {strconv.Itoa(skip)}}
	setText(q, "query", query)
	return c.users(ctx, lane, searchUsers, q, nil)
}

// UsersByEmail returns the company's users with these addresses. It needs an
// agency's token (§3.13).
func (c *Client) UsersByEmail(ctx context.Context, lane budget.Lane, companyID string, emails []string) ([]User, error) {
	return c.users(ctx, lane, usersByEmail, nil, map[string]any{"companyId": companyID, "emails": strings.Join(emails, ",")})
}
