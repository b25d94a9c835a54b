// Package ghlapi speaks the HTTP of GoHighLevel's API v2: contacts and what
// hangs on them, tags, custom fields, users and businesses, what ingest reads
// with and sink writes with, and more that a rule may want. endpoint.go is the
// table of all operations. It keeps records as the bytes that came, decodes leniently, sends only keys that an operation declares,
// and returns *apierr.Error. Facts are from the dossier "GHL", sections named
// where they are used.
package ghlapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/endpoint"
)

// DefaultBaseURL is where the API is (§1.1).
const DefaultBaseURL = "https://services.leadconnectorhq.com"

// versionOf returns the Version of the path's family (§1.1).
func versionOf(path string) string {
	if strings.HasPrefix(path, "/calendars") {
		return "2021-04-15"
	}
	return "2021-07-28"
}

// Config is what a Client needs.
type Config struct {
	BaseURL    string
	LocationID string
	// Token returns the bearer token of the moment.
	Token func(context.Context) (string, error)
	// Refused is told of a token that GHL no longer takes, and returns another
	// one, with which the call is made once more, or an error if there is none.
	// Nil means that there never is.
	Refused func(ctx context.Context, token string) (string, error)
	// HTTP makes the calls; its Timeout bounds each.
	HTTP   *http.Client
	Clock  clock.Clock
	Budget *budget.Budget
}

// Client speaks for one location. It is safe for concurrent use.
type Client struct{ cfg Config }

// New returns a Client.
func New(cfg Config) *Client {
	if cfg.BaseURL == "" {
		cfg.BaseURL = DefaultBaseURL
	}
	cfg.BaseURL = strings.TrimRight(cfg.BaseURL, "/")
	return &Client{cfg}
}

// Record is a contact, task, note or appointment as it came.
type Record struct {
	Raw       json.RawMessage // the record's object, byte for byte
	ID        string
	ContactID string    // of the contact that it belongs to; empty for a contact
	Modified  time.Time // dateUpdated; zero if missing, as tasks and notes have none
	ReadBegan time.Time
}

func (c *Client) do(ctx context.Context, lane budget.Lane, op, method, path string, body any, write bool) (apierr.Answer, error) {
	defer clock.Waits(ctx)()
	call := apierr.Call{System: "ghl", Op: op, Method: method, URL: c.cfg.BaseURL + path, Write: write, Header: http.Header{
		"Version": {versionOf(path)}, "Accept": {"application/json"}, // without Accept some routes answer an empty 404 (§1.1)
	}}
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return apierr.Answer{}, &apierr.Error{System: "ghl", Op: op, Class: apierr.Invalid, Message: "the body can't be encoded"}
		}
		call.Body = encoded
		call.Header.Set("Content-Type", "application/json")
	}
	token, err := c.cfg.Token(ctx)
	if err != nil {
		return apierr.Answer{}, noToken(op, err)
	}
	a, err := c.send(ctx, lane, call, token)
	if c.cfg.Refused == nil || !refused(a, err) {
		return a, err
	}
	if token, otherErr := c.cfg.Refused(ctx, token); otherErr == nil {
		// Nothing was done, so that a write may be tried again as well.
		if a, err = c.send(ctx, lane, call, token); !refused(a, err) {
			return a, err
		}
	}
	var e *apierr.Error
	if errors.As(err, &e) {
		e.Class = apierr.Forbidden // there is nothing left to try
	}
	return a, err
}

// Ready returns when there is a token to call with, which may have to be
// installed first, or with the context's cause when ctx is done.
func (c *Client) Ready(ctx context.Context) error {
	for {
		// Of any other error a call tells.
		if _, err := c.cfg.Token(ctx); apierr.ClassOf(err) != apierr.Wait {
			return context.Cause(ctx)
		}
		if err := clock.Sleep(ctx, c.cfg.Clock, time.Second); err != nil {
			return err
		}
	}
}

// noToken is a call that can't be made; where the token comes from may know
// how long to wait.
func noToken(op string, err error) error {
	e := &apierr.Error{Class: apierr.Forbidden, Err: err}
	var why *apierr.Error
	if errors.As(err, &why) {
		e.Class, e.RetryAfter, e.Status = why.Class, why.RetryAfter, why.Status
	}
	e.System, e.Op, e.Message = "ghl", op, "no token: "+err.Error()
	return e
}

// refused reports whether the answer is a 401 that speaks of the token (§1.6).
func refused(a apierr.Answer, err error) bool {
	var e *apierr.Error
	return a.Status == http.StatusUnauthorized && errors.As(err, &e) && (e.Class == apierr.Refresh || strings.Contains(strings.ToLower(e.Message), "private integration token"))
}

// send makes the call with a token.
func (c *Client) send(ctx context.Context, lane budget.Lane, call apierr.Call, token string) (apierr.Answer, error) {
	call.Header.Set("Authorization", "Bearer "+token)
	if c.cfg.Budget != nil {
		permit, err := c.cfg.Budget.Acquire(ctx, lane, 1)
		if err != nil {
			return apierr.Answer{}, &apierr.Error{System: "ghl", Op: call.Op, Class: apierr.Wait, RetryAfter: time.Minute, Message: "call budget", Err: err}
		}
		defer permit.Done()
	}
	a, err := apierr.Do(ctx, c.cfg.HTTP, call)
	if err != nil {
		return a, err
	}
	c.correct(a.Header)
	if a.Status/100 == 2 {
		return a, nil
	}
	return a, apierr.Hide(c.judge(call.Op, a, call.Write), token)
}

// correct feeds the rate limit headers back (§2).
func (c *Client) correct(h http.Header) {
	if c.cfg.Budget == nil {
		return
	}
	number := func(name string) int {
		if n, err := strconv.Atoi(h.Get(name)); err == nil {
			return n
		}
		return -1
	}
	c.cfg.Budget.Correct(budget.Report{
		Per: time.Duration(number("X-RateLimit-Interval-Milliseconds")) * time.Millisecond, Calls: number("X-RateLimit-Max"), Remaining: number("X-RateLimit-Remaining"),
		DailyCalls: number("X-RateLimit-Limit-Daily"), DailyRemaining: number("X-RateLimit-Daily-Remaining"),
	})
}

// failure is an error body; message is a string or a list of them (§1.6).
type failure struct {
	Message json.RawMessage `json:"message"`
	TraceID string          `json:"traceId"`
	Meta    struct {
		ContactID     string `json:"contactId"`
		MatchingField string `json:"matchingField"`
	} `json:"meta"`
}

func (f failure) text() string {
	var one string
	if json.Unmarshal(f.Message, &one) == nil {
		return one
	}
	var many []string
	_ = json.Unmarshal(f.Message, &many) // another shape says nothing
	return strings.Join(many, "; ")
}

// judge classes an answer that is no success (§1.6, §2, §4.2).
func (c *Client) judge(op string, a apierr.Answer, write bool) error {
	var f failure
	_ = json.Unmarshal(a.Body, &f) // a gateway's HTML page has no message
	text := strings.ToLower(f.text())
	e := &apierr.Error{System: "ghl", Op: op, Status: a.Status, Class: apierr.Invalid, Message: f.text(), TraceID: f.TraceID}
	switch {
	case a.Status == http.StatusTooManyRequests:
		e.Class = apierr.Wait
		e.RetryAfter = apierr.RetryAfter(a.Header, c.cfg.Clock.Now())
		if ms, err := strconv.Atoi(a.Header.Get("X-RateLimit-Interval-Milliseconds")); err == nil && e.RetryAfter == 0 {
			e.RetryAfter = min(time.Duration(ms)*time.Millisecond, 30*time.Second)
		}
		if c.cfg.Budget != nil {
			c.cfg.Budget.Pause(c.cfg.Clock.Now().Add(e.RetryAfter))
		}
	case a.Status == http.StatusUnauthorized && (strings.Contains(text, "invalid token") || strings.Contains(text, "invalid jwt")):
		e.Class = apierr.Refresh
	case a.Status == http.StatusUnauthorized && strings.Contains(text, "does not exist"):
		e.Class = apierr.Gone // an unknown user is 401 (#205)
	case a.Status == http.StatusUnauthorized, a.Status == http.StatusForbidden:
		e.Class = apierr.Forbidden
	case a.Status == http.StatusNotFound, a.Status == http.StatusBadRequest && strings.Contains(text, "not found"):
		e.Class = apierr.Gone
	case a.Status == http.StatusBadRequest && f.Meta.ContactID != "":
		e.Class, e.ExistingID, e.MatchingField = apierr.Duplicate, f.Meta.ContactID, f.Meta.MatchingField
	case a.Status == http.StatusUnprocessableEntity && (op == createContact.Op || op == upsertContact.Op):
		e.Class = apierr.Ambiguous // may have been created all the same (#64)
	case a.Status == http.StatusRequestTimeout, a.Status >= 500:
		e.Class = apierr.Retry
		if write {
			e.Class = apierr.Ambiguous
		}
	}
	return e
}

// one reads the record under key; "" is the answer itself.
func one(op, key string, a apierr.Answer, began time.Time, write bool) (Record, error) {
	raw := json.RawMessage(a.Body)
	if key != "" {
		var wrapped map[string]json.RawMessage
		_ = json.Unmarshal(a.Body, &wrapped) // then it holds nothing under key
		raw = wrapped[key]
	}
	if len(raw) > 0 {
		if r, ok := record(raw, began); ok {
			return r, nil
		}
	}
	class := apierr.Retry
	if write {
		class = apierr.Ambiguous
	}
	return Record{}, &apierr.Error{System: "ghl", Op: op, Status: a.Status, Class: class, Message: "the answer holds no " + cmp.Or(key, "record")}
}

func record(raw json.RawMessage, began time.Time) (Record, bool) {
	var head struct {
		ID          string `json:"id"`
		SearchID    string `json:"_id"` // a task search may say it so (§3.8)
		ContactID   string `json:"contactId"`
		DateUpdated any    `json:"dateUpdated"`
	}
	if json.Unmarshal(raw, &head) != nil || head.ID == "" && head.SearchID == "" {
		return Record{}, false
	}
	r := Record{Raw: slices.Clone(raw), ID: cmp.Or(head.ID, head.SearchID), ContactID: head.ContactID, ReadBegan: began}
	switch v := head.DateUpdated.(type) {
	case string:
		r.Modified, _ = time.Parse(time.RFC3339Nano, v) // zero if it can't be read
	case float64:
		r.Modified = time.UnixMilli(int64(v))
	}
	return r, true
}

// at does an operation at path, which is e's with its ids and a query.
func (c *Client) at(ctx context.Context, lane budget.Lane, e endpoint.Endpoint, path string, body any) (apierr.Answer, error) {
	return c.do(ctx, lane, e.Op, e.Method, path, body, e.Write())
}

// call does an operation whose answer holds one record under key.
func (c *Client) call(ctx context.Context, lane budget.Lane, e endpoint.Endpoint, path, key string, body any) (Record, error) {
	began := c.cfg.Clock.Now()
	a, err := c.at(ctx, lane, e, path, body)
	if err != nil {
		return Record{}, err
	}
	return one(e.Op, key, a, began, e.Write())
}

// list does a read whose answer holds records under key.
func (c *Client) list(ctx context.Context, lane budget.Lane, e endpoint.Endpoint, path, key string, body any) ([]Record, error) {
	began := c.cfg.Clock.Now()
	a, err := c.at(ctx, lane, e, path, body)
	if err != nil {
		return nil, err
	}
	items, err := readList[json.RawMessage](e, a, key)
	if err != nil {
		return nil, err
	}
	return records(e.Op, a.Status, items, began)
}

// read reads what an answer holds under key.
func read[T any](e endpoint.Endpoint, a apierr.Answer, key string) (T, error) {
	var wrapped map[string]json.RawMessage
	var v *T
	if json.Unmarshal(a.Body, &wrapped) == nil && len(wrapped[key]) > 0 && json.Unmarshal(wrapped[key], &v) == nil && v != nil {
		return *v, nil
	}
	return *new(T), without(e, a, key)
}

// readList reads the list that an answer holds under key; null is an empty
// one.
func readList[T any](e endpoint.Endpoint, a apierr.Answer, key string) ([]T, error) {
	var wrapped map[string]json.RawMessage
	var items []T
	if json.Unmarshal(a.Body, &wrapped) != nil || json.Unmarshal(wrapped[key], &items) != nil {
		return nil, without(e, a, key)
	}
	return items, nil
}

// without is the error of an answer that lacks what it should hold. Whether a
// write was done is then open.
func without(e endpoint.Endpoint, a apierr.Answer, what string) error {
	class := apierr.Retry
	if e.Write() {
		class = apierr.Ambiguous
	}
	return &apierr.Error{System: "ghl", Op: e.Op, Status: a.Status, Class: class, Message: "the answer holds no " + what}
}

// done does a write whose answer says no more than that it was done, if that:
// succeded, succeeded or success (§3).
func (c *Client) done(ctx context.Context, lane budget.Lane, e endpoint.Endpoint, path string, body any) error {
	a, err := c.at(ctx, lane, e, path, body)
	if err != nil {
		return err
	}
	var said struct {
		Succeded  *bool `json:"succeded"`
		Succeeded *bool `json:"succeeded"`
		Success   *bool `json:"success"`
	}
	_ = json.Unmarshal(a.Body, &said) // an answer that says nothing will do
	for _, ok := range []*bool{said.Succeded, said.Succeeded, said.Success} {
		if ok != nil && !*ok {
			return &apierr.Error{System: "ghl", Op: e.Op, Status: a.Status, Class: apierr.Invalid, Message: "the answer says that it was not done"}
		}
	}
	return nil
}

func (c *Client) refuse(e endpoint.Endpoint, why string) error {
	return &apierr.Error{System: "ghl", Op: e.Op, Class: apierr.Invalid, Message: why}
}

// records reads a list of which every item must have an id: a list with a hole
// would pass for a whole one.
func records(op string, status int, items []json.RawMessage, began time.Time) ([]Record, error) {
	out := make([]Record, 0, len(items))
	for i, raw := range items {
		r, ok := record(raw, began)
		if !ok {
			return nil, &apierr.Error{System: "ghl", Op: op, Status: status, Class: apierr.Retry, Message: fmt.Sprintf("item %d of the answer has no id", i)}
		}
		out = append(out, r)
	}
	return out, nil
}

func check(op string, body map[string]any, allowed []string) error {
	for key := range body {
		if !slices.Contains(allowed, key) {
			return &apierr.Error{System: "ghl", Op: op, Class: apierr.Invalid, Message: "key " + key + " is not part of this operation"}
		}
	}
	return nil
}
