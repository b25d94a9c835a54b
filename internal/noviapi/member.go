package noviapi

import (
	"context"
	"net/url"

	"github.com/causeway-sync/causeway/internal/budget"
)

// Named is a record of which only its name is shown.
type Named struct{ UniqueID, Name string }

func (n Named) id() string { return n.UniqueID }

// SimpleList returns the id and name of every member, in one call.
func (c *Client) SimpleList(ctx context.Context, lane budget.Lane) ([]Named, error) {
	return lookup(c, ctx, lane, simpleList, nil, Named.id)
}

// MemberType is a type of membership.
type MemberType struct {
	UniqueID, Name, Description string
	ForCompanies                bool
}

// MemberTypes returns all types of membership.
func (c *Client) MemberTypes(ctx context.Context, lane budget.Lane) ([]MemberType, error) {
	return lookup(c, ctx, lane, memberTypes, nil, func(t MemberType) string { return t.UniqueID })
}

// CustomField is the definition of a custom field of members; a member names
// it by its name (§3.3).
type CustomField struct {
	CustomFieldUniqueID, Name, DisplayName, TypeName string
}

// CustomFields returns the custom fields of members.
func (c *Client) CustomFields(ctx context.Context, lane budget.Lane) ([]CustomField, error) {
	return lookup(c, ctx, lane, customFields, url.Values{"customFieldType": {"members"}}, func(f CustomField) string { return f.CustomFieldUniqueID })
}

// FieldValue is a member's value of a custom field. How a value of several is
// written is unknown (§5.5), so Value is what came.
type FieldValue struct {
	CustomerUniqueID, CustomFieldUniqueID, CustomFieldName string
	Value                                                  any
	IsSumOfChildren                                        bool
}

// MemberFields returns a member's custom values; Gone if there is no such
// member.
func (c *Client) MemberFields(ctx context.Context, lane budget.Lane, memberID string) ([]FieldValue, error) {
	return lookup(c, ctx, lane, listMemberFields, nil, func(v FieldValue) string { return v.CustomFieldUniqueID }, memberID)
}

// GetMemberField returns one custom value; Gone if there is none.
func (c *Client) GetMemberField(ctx context.Context, lane budget.Lane, memberID, fieldID string) (FieldValue, error) {
	return one[FieldValue](c, ctx, lane, getMemberField, func(v FieldValue) string { return v.CustomFieldUniqueID }, nil, memberID, fieldID)
}

// PutMemberField sets one custom value, without replacing the member; nil
// clears it.
func (c *Client) PutMemberField(ctx context.Context, lane budget.Lane, memberID, fieldID string, value any) error {
	body, err := encode(putMemberField, map[string]any{"CustomerUniqueID": memberID, "CustomFieldUniqueID": fieldID, "Value": value})
	if err != nil {
		return err
	}
	_, err = c.do(ctx, lane, putMemberField, nil, nil, body, 1)
	return err
}
