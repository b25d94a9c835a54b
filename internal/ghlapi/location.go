package ghlapi

import (
	"context"

	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/endpoint"
)

// Location is a sub-account.
type Location struct {
	ID        string `json:"id"`
	CompanyID string `json:"companyId"`
	Name      string `json:"name"`
	Country   string `json:"country"`  // ISO-2
	Timezone  string `json:"timezone"` // IANA
	Settings  struct {
		AllowDuplicateContact bool `json:"allowDuplicateContact"`
	} `json:"settings"`
}

// GetLocation returns the location.
func (c *Client) GetLocation(ctx context.Context, lane budget.Lane) (Location, error) {
	return as[Location](c, ctx, lane, getLocation, "location", nil)
}

// as does an operation of the location whose answer holds a T under key. The
// location's id is the first of the path's.
func as[T any](c *Client, ctx context.Context, lane budget.Lane, e endpoint.Endpoint, key string, body any, ids ...string) (T, error) {
	a, err := c.at(ctx, lane, e, e.At(append([]string{c.cfg.LocationID}, ids...)...), body)
	if err != nil {
		return *new(T), err
	}
	return read[T](e, a, key)
}

// Tag is a tag that the location knows.
type Tag struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// LocationTags returns all tags that the location knows.
func (c *Client) LocationTags(ctx context.Context, lane budget.Lane) ([]Tag, error) {
	a, err := c.at(ctx, lane, locationTags, locationTags.At(c.cfg.LocationID), nil)
	if err != nil {
		return nil, err
	}
	return readList[Tag](locationTags, a, "tags")
}

// GetLocationTag returns a tag; Gone if there is none.
func (c *Client) GetLocationTag(ctx context.Context, lane budget.Lane, id string) (Tag, error) {
	return as[Tag](c, ctx, lane, getLocationTag, "tag", nil, id)
}

// CreateLocationTag makes a tag known that no contact has yet.
func (c *Client) CreateLocationTag(ctx context.Context, lane budget.Lane, name string) (Tag, error) {
	return as[Tag](c, ctx, lane, createLocationTag, "tag", map[string]any{"name": name})
}

// RenameLocationTag renames a tag, for which GHL sends no webhook (§3.12).
func (c *Client) RenameLocationTag(ctx context.Context, lane budget.Lane, id, name string) (Tag, error) {
	return as[Tag](c, ctx, lane, renameLocationTag, "tag", map[string]any{"name": name}, id)
}

// DeleteLocationTag deletes a tag, for which GHL sends no webhook (§3.12).
func (c *Client) DeleteLocationTag(ctx context.Context, lane budget.Lane, id string) error {
	return c.done(ctx, lane, deleteLocationTag, deleteLocationTag.At(c.cfg.LocationID, id), nil)
}

// CustomField is a definition; records name it by id only (§4.4).
type CustomField struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	FieldKey string `json:"fieldKey"`
	DataType string `json:"dataType"`
}

// CustomFields returns the location's custom fields of contacts.
func (c *Client) CustomFields(ctx context.Context, lane budget.Lane) ([]CustomField, error) {
	a, err := c.at(ctx, lane, customFields, customFields.At(c.cfg.LocationID)+"?model=contact", nil)
	if err != nil {
		return nil, err
	}
	return readList[CustomField](customFields, a, "customFields")
}

// GetCustomField returns a custom field by its id or its key; Gone if there is
// none.
func (c *Client) GetCustomField(ctx context.Context, lane budget.Lane, idOrKey string) (CustomField, error) {
	return as[CustomField](c, ctx, lane, getCustomField, "customField", nil, idOrKey)
}

// CreateCustomField makes a custom field of contacts; f's ID and FieldKey are
// GHL's to give.
func (c *Client) CreateCustomField(ctx context.Context, lane budget.Lane, f CustomField) (CustomField, error) {
	return as[CustomField](c, ctx, lane, createCustomField, "customField", map[string]any{"name": f.Name, "dataType": f.DataType, "model": "contact"})
}

// RenameCustomField renames a custom field; its key stays.
func (c *Client) RenameCustomField(ctx context.Context, lane budget.Lane, id, name string) (CustomField, error) {
	return as[CustomField](c, ctx, lane, renameCustomField, "customField", map[string]any{"name": name}, id)
}

// DeleteCustomField deletes a custom field, and with it every contact's value.
func (c *Client) DeleteCustomField(ctx context.Context, lane budget.Lane, id string) error {
	return c.done(ctx, lane, deleteCustomField, deleteCustomField.At(c.cfg.LocationID, id), nil)
}
