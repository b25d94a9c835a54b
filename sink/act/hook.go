package act

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/goccy/go-json"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/effect"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/streams"
)

// Call is the body of a webhook, as Standard Webhooks has it.
type Call struct {
	Type      string    `json:"type"` // rule.fired
	Timestamp time.Time `json:"timestamp"`
	Data      Fired     `json:"data"`
}

// Fired says what a rule fired for.
type Fired struct {
	Rule    string                `json:"rule"`
	Key     string                `json:"key"`
	Tenant  canonical.Tenant      `json:"tenant"`
	Kind    canonical.Kind        `json:"kind"`
	ID      canonical.CanonicalID `json:"id"`
	Version uint64                `json:"version"`
	Date    string                `json:"date,omitempty"`
	// Changes are what differs from the version before.
	Changes     []canonical.Change     `json:"changes"`
	Contact     *canonical.Contact     `json:"contact,omitempty"`
	Task        *canonical.Task        `json:"task,omitempty"`
	Note        *canonical.Note        `json:"note,omitempty"`
	Appointment *canonical.Appointment `json:"appointment,omitempty"`
	// Links are the records that show it, by system.
	Links map[canonical.System][]canonical.ExternalID `json:"links"`
}

// CallType is the type of every webhook.
const CallType = "rule.fired"

// hook calls the webhook. Any answer but 2xx is tried again, but for 410, which
// says that nobody wants it any more.
func (t *task) hook(ctx context.Context) error {
	body, err := t.body(ctx)
	if err != nil || body == nil {
		return err
	}
	out, err := t.intend(ctx)
	if err != nil {
		return err
	}
	signer, err := t.signer()
	if err != nil {
		return t.again(ctx, out, envelope.Credentials, err, 0)
	}
	now := t.cfg.Clock.Now()
	signature, err := signer.Sign(t.key, now, body)
	if err != nil {
		return t.again(ctx, out, envelope.Defect, err, 0)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.Action.Webhook.URL, bytes.NewReader(body))
	if err != nil {
		return t.refused(ctx, out, envelope.Mapping, errors.New("its url can't be called"), 0)
	}
	req.Header.Set("Content-Type", envelope.ContentType)
	req.Header.Set("User-Agent", "causeway")
	req.Header.Set(standardwebhooks.HeaderWebhookID, t.key)
	req.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	req.Header.Set(standardwebhooks.HeaderWebhookSignature, signature)
	res, err := t.cfg.HTTP.Do(req)
	if err != nil {
		return t.again(ctx, out, envelope.Outage, bare(err), 0)
	}
	_, err = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10)) // so that the connection is used again
	err = errors.Join(err, res.Body.Close())
	switch {
	case res.StatusCode >= 200 && res.StatusCode < 300:
		return t.finish(ctx, out, effect.Done, nil)
	case res.StatusCode == http.StatusGone:
		return t.refused(ctx, out, envelope.Mapping, errors.New("status 410: its receiver wants no more"), res.StatusCode)
	case err != nil:
		return t.again(ctx, out, envelope.Outage, fmt.Errorf("status %d: %w", res.StatusCode, bare(err)), 0)
	}
	wait, _ := strconv.Atoi(res.Header.Get("Retry-After")) // 0 if it doesn't say, or says a date
	return t.again(ctx, out, envelope.Outage, fmt.Errorf("status %d", res.StatusCode), min(time.Duration(wait)*time.Second, time.Hour))
}

// bare is err without the URL, which may hold a secret.
func bare(err error) error {
	var at *url.Error
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}

func (t *task) signer() (*standardwebhooks.Webhook, error) {
	reference := t.Action.Webhook.Secret
	secret, err := t.cfg.Secret(reference)
	if err != nil {
		return nil, err
	}
	s, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return nil, fmt.Errorf("secret %s is not whsec_ and base64", reference)
	}
	return s, nil
}

// body returns what is told: the event that made the rule fire, or, if
// CANONICAL has that no more, the record as it is now; nil if there is none.
func (t *task) body(ctx context.Context) ([]byte, error) {
	f := t.firing
	m, err := t.cfg.Bus.Message(ctx, streams.CANONICAL, f.Sequence)
	var e canonical.Event
	if err == nil {
		e, err = canonical.DecodeEvent(m.Data)
	}
	then := err == nil && e.ID() == f.Entity && e.Version == f.Version
	if !then && (err == nil || errors.Is(err, bus.ErrNotFound)) {
		m, err = t.cfg.Bus.Last(ctx, streams.CANONICAL, streams.Entity(f.Kind, t.cfg.Tenant, f.Entity))
		if errors.Is(err, bus.ErrNotFound) {
			return nil, nil
		}
		if err == nil {
			e, err = canonical.DecodeEvent(m.Data)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("load what rule %s fired for: %w", f.Rule, err)
	}
	c := Call{Type: CallType, Timestamp: m.Time.UTC(), Data: Fired{Rule: f.Rule, Key: t.key, Tenant: t.cfg.Tenant, Kind: f.Kind, ID: f.Entity, Version: e.Version, Date: f.Date,
		Changes: []canonical.Change{}, Task: e.Task, Note: e.Note, Appointment: e.Appointment, Links: e.Links}}
	if f.Kind == canonical.KindContact {
		c.Data.Contact = &e.Contact
	}
	if then && f.Date == "" {
		c.Data.Changes = e.Changes
	}
	body, err := json.Marshal(c)
	if err != nil {
		return nil, bus.Terminate(fmt.Errorf("encode what rule %s fired for: %w", f.Rule, err))
	}
	return body, nil
}
