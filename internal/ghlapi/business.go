package ghlapi

import (
	"context"
	"net/url"
	"strconv"

	"github.com/causeway-sync/causeway/internal/budget"
)

// BusinessKeys are the keys that a business's body may have (§3.13). Its
// custom fields can be read and not written (#329).
var BusinessKeys = []string{"name", "phone", "email", "website", "address", "city", "state", "postalCode", "country", "description"}

// Businesses returns one page of the location's businesses; it is the last if
// it has fewer than limit. GHL sends no webhooks about them (#330).
func (c *Client) Businesses(ctx context.Context, lane budget.Lane, limit, skip int) ([]Record, error) {
	q := url.Values{"locationId": {c.cfg.LocationID}, "limit": {strconv.Itoa(limit)}, "skip": {strconv.Itoa(skip)}}
	return c.list(ctx, lane, listBusinesses, listBusinesses.Path+"?"+q.Encode(), "businesses", nil)
}

// GetBusiness returns a business; Gone if there is none.
func (c *Client) GetBusiness(ctx context.Context, lane budget.Lane, id string) (Record, error) {
	return c.call(ctx, lane, getBusiness, getBusiness.At(id), "business", nil)
}

// buiseness is how GHL spells it in what writes answer (§3.13).
const buiseness = "buiseness"

// CreateBusiness makes a business with the given keys, which must be of
// BusinessKeys; name is needed.
func (c *Client) CreateBusiness(ctx context.Context, lane budget.Lane, body map[string]any) (Record, error) {
	if err := check(createBusiness.Op, body, BusinessKeys); err != nil {
		return Record{}, err
	}
	return c.call(ctx, lane, createBusiness, createBusiness.Path, buiseness, c.located(body))
}

// UpdateBusiness sets the given keys, which must be of BusinessKeys.
func (c *Client) UpdateBusiness(ctx context.Context, lane budget.Lane, id string, body map[string]any) (Record, error) {
	if err := check(updateBusiness.Op, body, BusinessKeys); err != nil {
		return Record{}, err
	}
	return c.call(ctx, lane, updateBusiness, updateBusiness.At(id), buiseness, body)
}

// DeleteBusiness deletes a business; Gone if there is none.
func (c *Client) DeleteBusiness(ctx context.Context, lane budget.Lane, id string) error {
	return c.done(ctx, lane, deleteBusiness, deleteBusiness.At(id), nil)
}
