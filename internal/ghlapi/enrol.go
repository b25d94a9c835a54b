package ghlapi

import (
	"context"
	"time"

	"github.com/causeway-sync/causeway/internal/budget"
)

// AddFollowers makes users follow a contact and returns all who do then.
func (c *Client) AddFollowers(ctx context.Context, lane budget.Lane, contactID string, users []string) ([]string, error) {
	return c.set(ctx, lane, addFollowers, contactID, "followers", users)
}

// RemoveFollowers is the reverse of AddFollowers.
func (c *Client) RemoveFollowers(ctx context.Context, lane budget.Lane, contactID string, users []string) ([]string, error) {
	return c.set(ctx, lane, removeFollowers, contactID, "followers", users)
}

// nothing is the body {} that some operations ask for.
type nothing struct{}

// AddToCampaign puts a contact into a campaign, which begins for it.
func (c *Client) AddToCampaign(ctx context.Context, lane budget.Lane, contactID, campaignID string) error {
	return c.done(ctx, lane, addToCampaign, addToCampaign.At(contactID, campaignID), nothing{})
}

// RemoveFromCampaign takes a contact out of a campaign.
func (c *Client) RemoveFromCampaign(ctx context.Context, lane budget.Lane, contactID, campaignID string) error {
	return c.done(ctx, lane, leaveCampaign, leaveCampaign.At(contactID, campaignID), nil)
}

// RemoveFromAllCampaigns takes a contact out of every campaign.
func (c *Client) RemoveFromAllCampaigns(ctx context.Context, lane budget.Lane, contactID string) error {
	return c.done(ctx, lane, leaveCampaigns, leaveCampaigns.At(contactID), nil)
}

// AddToWorkflow starts a workflow for a contact; start is the time of the
// event that it counts from, if it counts from one.
func (c *Client) AddToWorkflow(ctx context.Context, lane budget.Lane, contactID, workflowID string, start time.Time) error {
	body := map[string]any{}
	if !start.IsZero() {
		body["eventStartTime"] = start.Format(time.RFC3339)
	}
	return c.done(ctx, lane, addToWorkflow, addToWorkflow.At(contactID, workflowID), body)
}

// RemoveFromWorkflow ends a workflow for a contact.
func (c *Client) RemoveFromWorkflow(ctx context.Context, lane budget.Lane, contactID, workflowID string) error {
	return c.done(ctx, lane, removeFromWorkflow, removeFromWorkflow.At(contactID, workflowID), nothing{})
}
