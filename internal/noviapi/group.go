package noviapi

import (
	"context"
	"net/url"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/endpoint"
)

// Group is a segment of the members: hand-picked or by conditions, which the
// API does not say (§5.4).
type Group struct {
	UniqueID, Name   string
	TotalMemberCount int
}

// Groups returns all groups.
func (c *Client) Groups(ctx context.Context, lane budget.Lane) ([]Group, error) {
	return lookup(c, ctx, lane, listGroups, nil, func(g Group) string { return g.UniqueID })
}

// GetGroup returns a group; Gone if there is none.
func (c *Client) GetGroup(ctx context.Context, lane budget.Lane, id string) (Group, error) {
	return one[Group](c, ctx, lane, getGroup, func(g Group) string { return g.UniqueID }, nil, id)
}

// one reads a record that is no Record; {"data": {…}} is tolerated (§3.1).
func one[T any](c *Client, ctx context.Context, lane budget.Lane, e endpoint.Endpoint, id func(T) string, body []byte, ids ...string) (T, error) {
	a, err := c.do(ctx, lane, e, ids, nil, body, 1)
	if err != nil {
		return *new(T), err
	}
	return decode(e, a, id)
}

func decode[T any](e endpoint.Endpoint, a apierr.Answer, id func(T) string) (T, error) {
	var v T
	if json.Unmarshal(a.Body, &v) == nil && id(v) != "" {
		return v, nil
	}
	var wrapped struct {
		Data T `json:"data"`
	}
	if json.Unmarshal(a.Body, &wrapped) == nil && id(wrapped.Data) != "" {
		return wrapped.Data, nil
	}
	return *new(T), without(e, a, "record")
}

// GroupMembers returns one page of a group's members, and how many there are,
// -1 if the site does not say; Gone if there is no such group.
func (c *Client) GroupMembers(ctx context.Context, lane budget.Lane, groupID string, offset, size int) ([]Named, int, error) {
	a, err := c.do(ctx, lane, listGroupMembers, []string{groupID}, paging(offset, size), nil, 1)
	if err != nil {
		return nil, 0, err
	}
	elements, total, err := c.results(listGroupMembers, a)
	if err != nil {
		return nil, 0, err
	}
	members := make([]Named, len(elements))
	for i, raw := range elements {
		if json.Unmarshal(raw, &members[i]) != nil || members[i].UniqueID == "" {
			return nil, 0, without(listGroupMembers, a, "id in one of its members")
		}
	}
	return members, total, nil
}

// GroupCategories returns what groups are filed under.
func (c *Client) GroupCategories(ctx context.Context, lane budget.Lane) ([]Named, error) {
	return lookup(c, ctx, lane, groupCategories, nil, Named.id)
}

// AddGroupMember puts a member into a hand-picked group. That Novi has such a
// call is in no evidence, so it needs a path: novi.paths.group_member, with the
// group's id first and the member's second.
func (c *Client) AddGroupMember(ctx context.Context, lane budget.Lane, groupID, memberID string) error {
	_, err := c.do(ctx, lane, addGroupMember, []string{groupID, memberID}, nil, nil, 1)
	return err
}

// RemoveGroupMember is the reverse of AddGroupMember, at the same path.
func (c *Client) RemoveGroupMember(ctx context.Context, lane budget.Lane, groupID, memberID string) error {
	_, err := c.do(ctx, lane, removeGroupMember, []string{groupID, memberID}, nil, nil, 1)
	return err
}

// Committee is a body that members sit on; its roster can be written.
type Committee struct {
	UniqueID, Name string
	Active         bool
}

// Committees returns all committees, or those that were changed within a time;
// a zero one does not filter.
func (c *Client) Committees(ctx context.Context, lane budget.Lane, from, to time.Time) ([]Committee, error) {
	q := url.Values{}
	c.setDate(q, "lastUpdatedDateFrom", from)
	c.setDate(q, "lastUpdatedDateTo", to)
	return lookup(c, ctx, lane, listCommittees, q, func(m Committee) string { return m.UniqueID })
}

// GetCommittee returns a committee; Gone if there is none.
func (c *Client) GetCommittee(ctx context.Context, lane budget.Lane, id string) (Committee, error) {
	return one[Committee](c, ctx, lane, getCommittee, func(m Committee) string { return m.UniqueID }, nil, id)
}

// CommitteeMembers returns the whole roster of a committee.
func (c *Client) CommitteeMembers(ctx context.Context, lane budget.Lane, committeeID string) ([]Record, error) {
	members, _, err := c.page(ctx, lane, listCommitteeMembers, nil, committeeID)
	return members, err
}

// GetCommitteeMember returns an entry of a roster by its own id.
func (c *Client) GetCommitteeMember(ctx context.Context, lane budget.Lane, committeeID, id string) (Record, error) {
	return c.get(ctx, lane, getCommitteeMember, 1, committeeID, id)
}

// CreateCommitteeMember puts a member on a committee; fields may say more, such
// as Role, TermStart and TermEnd.
func (c *Client) CreateCommitteeMember(ctx context.Context, lane budget.Lane, committeeID, memberID string, fields map[string]any) (Record, error) {
	whole := map[string]any{}
	for k, v := range fields {
		whole[k] = v
	}
	whole["CommitteeUniqueID"], whole["MemberUniqueID"] = committeeID, memberID
	body, err := encode(createCommitteeMember, whole)
	if err != nil {
		return Record{}, err
	}
	return c.create(ctx, lane, createCommitteeMember, body, committeeID)
}

// UpdateCommitteeMember sets the given keys of an entry and leaves the others
// as they are. It makes two calls, as PUT replaces the entry.
func (c *Client) UpdateCommitteeMember(ctx context.Context, lane budget.Lane, committeeID, id string, fields map[string]any) (Record, error) {
	return c.change(ctx, lane, getCommitteeMember, updateCommitteeMember, fields, committeeID, id)
}

// DeleteCommitteeMember takes an entry off a roster; Gone if there is none.
func (c *Client) DeleteCommitteeMember(ctx context.Context, lane budget.Lane, committeeID, id string) error {
	_, err := c.do(ctx, lane, deleteCommitteeMember, []string{committeeID, id}, nil, nil, 1)
	return err
}

// CommitteeRoles returns the roles that a roster may name.
func (c *Client) CommitteeRoles(ctx context.Context, lane budget.Lane) ([]Named, error) {
	return lookup(c, ctx, lane, committeeRoles, nil, Named.id)
}
