package ghlapi

import (
	"context"
	"fmt"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/endpoint"
)

// AddTags adds tags and returns all that the contact has then (§3.10).
func (c *Client) AddTags(ctx context.Context, lane budget.Lane, id string, tags []string) ([]string, error) {
	return c.set(ctx, lane, addTags, id, "tags", tags)
}

// RemoveTags removes tags and returns all that the contact has then.
func (c *Client) RemoveTags(ctx context.Context, lane budget.Lane, id string, tags []string) ([]string, error) {
	return c.set(ctx, lane, removeTags, id, "tags", tags)
}

// set adds to one of a contact's sets or removes from it, and returns what is
// in it then.
func (c *Client) set(ctx context.Context, lane budget.Lane, e endpoint.Endpoint, id, key string, elements []string) ([]string, error) {
	a, err := c.at(ctx, lane, e, e.At(id), map[string]any{key: elements})
	if err != nil {
		return nil, err
	}
	return readList[string](e, a, key)
}

// MaxBulk is how many contacts a bulk call may name; what GHL allows for tags
// is unknown (§3.6, §10).
const MaxBulk = 50

// BulkTags is what a bulk call did to one contact.
type BulkTags struct {
	ContactID   string   `json:"contactId"`
	Type        string   `json:"type"` // success or error
	Message     string   `json:"message"`
	TagsAdded   []string `json:"tagsAdded"`
	TagsRemoved []string `json:"tagsRemoved"`
}

// BulkAddTags adds tags to up to MaxBulk contacts. It may succeed for some of
// them only: that is no error, but has type error in what it returns.
func (c *Client) BulkAddTags(ctx context.Context, lane budget.Lane, contacts, tags []string) ([]BulkTags, error) {
	return c.bulkTags(ctx, lane, bulkAddTags, contacts, tags, false)
}

// BulkRemoveTags removes tags from up to MaxBulk contacts, or all that they
// have. It may succeed for some of them only, as BulkAddTags.
func (c *Client) BulkRemoveTags(ctx context.Context, lane budget.Lane, contacts, tags []string, all bool) ([]BulkTags, error) {
	return c.bulkTags(ctx, lane, bulkRemoveTags, contacts, tags, all)
}

func (c *Client) bulkTags(ctx context.Context, lane budget.Lane, e endpoint.Endpoint, contacts, tags []string, all bool) ([]BulkTags, error) {
	if len(contacts) > MaxBulk {
		return nil, c.refuse(e, fmt.Sprintf("%d contacts are more than %d", len(contacts), MaxBulk))
	}
	body := map[string]any{"contacts": contacts, "tags": append([]string{}, tags...)}
	if all {
		body["removeAllTags"] = true
	}
	a, err := c.at(ctx, lane, e, e.Path, c.located(body))
	if err != nil {
		return nil, err
	}
	items, err := readList[json.RawMessage](e, a, "responses")
	if err != nil {
		return nil, err
	}
	out := make([]BulkTags, 0, len(items))
	for _, raw := range items {
		var one BulkTags
		if json.Unmarshal(raw, &one) != nil {
			// The specification has texts here; then no contact is named.
			one = BulkTags{}
			_ = json.Unmarshal(raw, &one.Message)
		}
		out = append(out, one)
	}
	return out, nil
}

// SetBusiness links up to MaxBulk contacts to a business, or to none if
// businessID is empty.
func (c *Client) SetBusiness(ctx context.Context, lane budget.Lane, businessID string, contacts []string) error {
	if len(contacts) > MaxBulk {
		return c.refuse(setBusiness, fmt.Sprintf("%d contacts are more than %d", len(contacts), MaxBulk))
	}
	body := map[string]any{"ids": contacts, "businessId": nil} // null unlinks
	if businessID != "" {
		body["businessId"] = businessID
	}
	return c.done(ctx, lane, setBusiness, setBusiness.Path, c.located(body))
}
