package noviapi

import (
	"context"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/budget"
)

// Webhook is an entry of the site's registry.
type Webhook struct {
	ID      string  `json:"WebhookUniqueId"`
	URL     string  `json:"Url"`
	Actions Actions `json:"Actions"`
	Active  bool    `json:"Active"`
}

func (h Webhook) id() string { return h.ID }

// Actions are the names of the events that a webhook gets. A list is presumed
// (§5.6); one name alone, or null, is read as well.
type Actions []string

// UnmarshalJSON reads a list, one name or null.
func (a *Actions) UnmarshalJSON(raw []byte) error {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		if *a = nil; one != "" {
			*a = Actions{one}
		}
		return nil
	}
	return json.Unmarshal(raw, (*[]string)(a))
}

// Webhooks returns the registry.
func (c *Client) Webhooks(ctx context.Context, lane budget.Lane) ([]Webhook, error) {
	return lookup(c, ctx, lane, listWebhooks, nil, Webhook.id)
}

// GetWebhook returns an entry; Gone if there is none.
func (c *Client) GetWebhook(ctx context.Context, lane budget.Lane, id string) (Webhook, error) {
	return one(c, ctx, lane, getWebhook, Webhook.id, nil, id)
}

// CreateWebhook has the events of these names sent to url.
func (c *Client) CreateWebhook(ctx context.Context, lane budget.Lane, url string, actions []string) (Webhook, error) {
	body, err := encode(createWebhook, map[string]any{"Url": url, "Actions": actions, "Active": true})
	if err != nil {
		return Webhook{}, err
	}
	return one(c, ctx, lane, createWebhook, Webhook.id, body)
}

// UpdateWebhook replaces an entry by h, except for what h does not hold: it
// makes two calls and leaves that as it is.
func (c *Client) UpdateWebhook(ctx context.Context, lane budget.Lane, h Webhook) error {
	a, err := c.do(ctx, lane, getWebhook, []string{h.ID}, nil, nil, 2)
	if err != nil {
		return err
	}
	body, err := overlay(a.Body, map[string]any{"Url": h.URL, "Actions": h.Actions, "Active": h.Active})
	if err != nil {
		return refuse(updateWebhook, err.Error())
	}
	_, err = c.put(ctx, lane, updateWebhook, body, h.ID)
	return err
}

// DeleteWebhook deletes an entry; Gone if there is none.
func (c *Client) DeleteWebhook(ctx context.Context, lane budget.Lane, id string) error {
	_, err := c.do(ctx, lane, deleteWebhook, []string{id}, nil, nil, 1)
	return err
}
