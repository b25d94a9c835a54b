// Package ghlapi speaks the HTTP of GoHighLevel's API v2: contacts, tasks,
// notes, appointments, users and custom fields, what ingest reads with and sink
// writes with. It keeps records as the bytes
// that came, decodes leniently, sends only keys that an operation declares,
// and returns *apierr.Error. Facts are from the dossier "GHL", sections named
// where they are used.
package ghlapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/clock"
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

// The keys that a body may have, by operation (§3.1). An unknown key is
// refused by GHL with 422, so it is refused here before it is sent.
var (
	UpdateKeys = []string{"firstName", "lastName", "name", "email", "phone", "address1", "city", "state", "website", "timezone", "postalCode",
		"country", "source", "assignedTo", "dnd", "dndSettings", "inboundDndSettings", "tags", "customFields", "dateOfBirth"}
	CreateKeys = append(slices.Clone(UpdateKeys), "locationId", "companyName", "gender")
)

func (c *Client) do(ctx context.Context, lane budget.Lane, op, method, path string, body any, write bool) (apierr.Answer, error) {
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
		if err := c.cfg.Budget.Acquire(ctx, lane, 1); err != nil {
			return apierr.Answer{}, &apierr.Error{System: "ghl", Op: call.Op, Class: apierr.Wait, RetryAfter: time.Minute, Message: "call budget", Err: err}
		}
	}
	a, err := apierr.Do(ctx, c.cfg.HTTP, call)
	if err != nil {
		return a, err
	}
	c.correct(a.Header)
	if a.Status/100 == 2 {
		return a, nil
	}
	return a, c.judge(call.Op, a, call.Write)
}

// correct feeds the rate limit headers back (§2).
func (c *Client) correct(h http.Header) {
	remaining, err := strconv.Atoi(h.Get("X-RateLimit-Remaining"))
	interval, err2 := strconv.Atoi(h.Get("X-RateLimit-Interval-Milliseconds"))
	if c.cfg.Budget != nil && err == nil && err2 == nil {
		c.cfg.Budget.Correct(remaining, time.Duration(interval)*time.Millisecond)
	}
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
	case a.Status == http.StatusUnprocessableEntity && op == opCreate:
		e.Class = apierr.Ambiguous // may have been created all the same (#64)
	case a.Status == http.StatusRequestTimeout, a.Status >= 500:
		e.Class = apierr.Retry
		if write {
			e.Class = apierr.Ambiguous
		}
	}
	return e
}

const opCreate = "create contact"

// one reads the record under key.
func one(op, key string, a apierr.Answer, began time.Time, write bool) (Record, error) {
	var wrapped map[string]json.RawMessage
	if json.Unmarshal(a.Body, &wrapped) == nil && len(wrapped[key]) > 0 {
		if r, ok := record(wrapped[key], began); ok {
			return r, nil
		}
	}
	class := apierr.Retry
	if write {
		class = apierr.Ambiguous
	}
	return Record{}, &apierr.Error{System: "ghl", Op: op, Status: a.Status, Class: class, Message: "the answer holds no " + key}
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

// call does an operation whose answer holds one record under key.
func (c *Client) call(ctx context.Context, lane budget.Lane, op, method, path, key string, body any, write bool) (Record, error) {
	began := c.cfg.Clock.Now()
	a, err := c.do(ctx, lane, op, method, path, body, write)
	if err != nil {
		return Record{}, err
	}
	return one(op, key, a, began, write)
}

// list does a read whose answer holds records under key.
func (c *Client) list(ctx context.Context, lane budget.Lane, op, method, path, key string, body any) ([]Record, error) {
	began := c.cfg.Clock.Now()
	a, err := c.do(ctx, lane, op, method, path, body, false)
	if err != nil {
		return nil, err
	}
	var wrapped map[string]json.RawMessage
	var items []json.RawMessage
	if json.Unmarshal(a.Body, &wrapped) != nil || json.Unmarshal(wrapped[key], &items) != nil {
		return nil, &apierr.Error{System: "ghl", Op: op, Status: a.Status, Class: apierr.Retry, Message: "the answer holds no " + key}
	}
	return records(op, a.Status, items, began)
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

// GetContact returns a contact; Gone if there is none (GHL says 400).
func (c *Client) GetContact(ctx context.Context, lane budget.Lane, id string) (Record, error) {
	return c.call(ctx, lane, "get contact", http.MethodGet, "/contacts/"+url.PathEscape(id), "contact", nil, false)
}

// CreateContact makes a contact of the location with the given keys, which
// must be of CreateKeys. Duplicate names the contact that is there.
func (c *Client) CreateContact(ctx context.Context, lane budget.Lane, body map[string]any) (Record, error) {
	if err := check(opCreate, body, CreateKeys); err != nil {
		return Record{}, err
	}
	whole := map[string]any{"locationId": c.cfg.LocationID}
	for k, v := range body {
		whole[k] = v
	}
	return c.call(ctx, lane, opCreate, http.MethodPost, "/contacts/", "contact", whole, true)
}

// UpdateContact sets the given keys, which must be of UpdateKeys; absent keys
// keep their values.
func (c *Client) UpdateContact(ctx context.Context, lane budget.Lane, id string, body map[string]any) (Record, error) {
	const op = "update contact"
	if err := check(op, body, UpdateKeys); err != nil {
		return Record{}, err
	}
	return c.call(ctx, lane, op, http.MethodPut, "/contacts/"+url.PathEscape(id), "contact", body, true)
}

// DeleteContact deletes a contact; Gone if there is none.
func (c *Client) DeleteContact(ctx context.Context, lane budget.Lane, id string) error {
	_, err := c.do(ctx, lane, "delete contact", http.MethodDelete, "/contacts/"+url.PathEscape(id), nil, true)
	return err
}

// AddTags adds tags and returns all that the contact has then (§3.10).
func (c *Client) AddTags(ctx context.Context, lane budget.Lane, id string, tags []string) ([]string, error) {
	return c.tags(ctx, lane, "add tags", http.MethodPost, id, tags)
}

// RemoveTags removes tags and returns all that the contact has then.
func (c *Client) RemoveTags(ctx context.Context, lane budget.Lane, id string, tags []string) ([]string, error) {
	return c.tags(ctx, lane, "remove tags", http.MethodDelete, id, tags)
}

func (c *Client) tags(ctx context.Context, lane budget.Lane, op, method, id string, tags []string) ([]string, error) {
	a, err := c.do(ctx, lane, op, method, "/contacts/"+url.PathEscape(id)+"/tags", map[string]any{"tags": tags}, true)
	if err != nil {
		return nil, err
	}
	var out struct {
		Tags *[]string `json:"tags"`
	}
	if json.Unmarshal(a.Body, &out) != nil || out.Tags == nil {
		return nil, &apierr.Error{System: "ghl", Op: op, Status: a.Status, Class: apierr.Ambiguous, Message: "the answer holds no tags"}
	}
	return *out.Tags, nil
}

// Filter is one condition of a search (§3.3).
type Filter struct {
	Field    string `json:"field"`
	Operator string `json:"operator"`
	Value    any    `json:"value,omitempty"`
}

// Sort orders a search; at most two.
type Sort struct {
	Field     string `json:"field"`
	Direction string `json:"direction"`
}

// SearchRequest asks for one page.
type SearchRequest struct {
	Filters   []Filter
	Sort      []Sort
	PageLimit int // 1 to 500
	// SearchAfter is the cursor of the page before, or nil.
	SearchAfter json.RawMessage
}

// SearchPage is one page. It shows the index, which is seconds behind.
type SearchPage struct {
	Contacts    []Record
	SearchAfter json.RawMessage // the cursor of the last contact
	Total       int
}

// SearchContacts returns one page of a search (§3.3).
func (c *Client) SearchContacts(ctx context.Context, lane budget.Lane, r SearchRequest) (SearchPage, error) {
	const op = "search contacts"
	body := map[string]any{"locationId": c.cfg.LocationID, "pageLimit": r.PageLimit}
	if len(r.Filters) > 0 {
		body["filters"] = r.Filters
	}
	if len(r.Sort) > 0 {
		body["sort"] = r.Sort
	}
	if len(r.SearchAfter) > 0 {
		body["searchAfter"] = r.SearchAfter
	} else {
		body["page"] = 1
	}
	began := c.cfg.Clock.Now()
	a, err := c.do(ctx, lane, op, http.MethodPost, "/contacts/search", body, false)
	if err != nil {
		return SearchPage{}, err
	}
	var out struct {
		Contacts []json.RawMessage `json:"contacts"`
		Total    int               `json:"total"`
	}
	if err := json.Unmarshal(a.Body, &out); err != nil {
		return SearchPage{}, &apierr.Error{System: "ghl", Op: op, Status: a.Status, Class: apierr.Retry, Message: "the answer is no page"}
	}
	page := SearchPage{Total: out.Total}
	if page.Contacts, err = records(op, a.Status, out.Contacts, began); err != nil {
		return SearchPage{}, err
	}
	for _, raw := range out.Contacts {
		var cursor struct {
			SearchAfter json.RawMessage `json:"searchAfter"`
		}
		if json.Unmarshal(raw, &cursor) == nil {
			page.SearchAfter = slices.Clone(cursor.SearchAfter)
		}
	}
	return page, nil
}

// FindDuplicate returns the contact that the location's duplicate rule finds
// for an address or a number, or nil (§3.2). Its record holds at least the id.
func (c *Client) FindDuplicate(ctx context.Context, lane budget.Lane, email, phone string) (*Record, error) {
	const op = "find duplicate"
	q := url.Values{"locationId": {c.cfg.LocationID}}
	if email != "" {
		q.Set("email", email)
	}
	if phone != "" {
		q.Set("number", phone)
	}
	began := c.cfg.Clock.Now()
	a, err := c.do(ctx, lane, op, http.MethodGet, "/contacts/search/duplicate?"+q.Encode(), nil, false)
	if apierr.ClassOf(err) == apierr.Gone {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r, err := one(op, "contact", a, began, false)
	if err != nil {
		return nil, nil // contact null, {} or another shape without one: no match
	}
	return &r, nil
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
	const op = "list custom fields"
	a, err := c.do(ctx, lane, op, http.MethodGet, "/locations/"+url.PathEscape(c.cfg.LocationID)+"/customFields?model=contact", nil, false)
	if err != nil {
		return nil, err
	}
	var out struct {
		CustomFields []CustomField `json:"customFields"`
	}
	if err := json.Unmarshal(a.Body, &out); err != nil {
		return nil, &apierr.Error{System: "ghl", Op: op, Status: a.Status, Class: apierr.Retry, Message: "the answer is no list of custom fields"}
	}
	return out.CustomFields, nil
}
