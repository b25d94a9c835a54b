// Package noviapi speaks the HTTP of Novi AMS, which each association serves
// on its own site: what ingest reads with and sink writes with. It keeps
// records as the bytes that came, decodes leniently and returns
// *apierr.Error. Facts are from the dossier "Novi", sections named where they
// are used; what is uncertain there is configuration here.
package noviapi

import (
	"bytes"
	"context"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/clock"
)

// Paths are where things are; {id} stands for a record's id. An empty path
// means that the site does not have it.
// Paths of which none is set are the defaults.
type Paths struct {
	Members       string // default /api/members
	Member        string // default /api/members/{id}
	Activities    string // default /api/activities
	Activity      string // default /api/activities/{id}
	ActivityTypes string // default /api/custom-activity-types
}

var defaultPaths = Paths{Members: "/api/members", Member: "/api/members/{id}",
	Activities: "/api/activities", Activity: "/api/activities/{id}", ActivityTypes: "/api/custom-activity-types"}

// Config is what a Client needs.
type Config struct {
	// BaseURL is the association's site; a trailing /api is tolerated (§2).
	BaseURL string
	// Key returns the API key of the moment, sent verbatim after "Basic " (§1).
	Key func(context.Context) (string, error)
	// Refused is told of a key that the site doesn't take, and returns another
	// one, with which the call is made once more, or an error if there is none.
	// Nil means that there never is.
	Refused func(ctx context.Context, key string) (string, error)
	// HTTP makes the calls; its Timeout bounds each.
	HTTP   *http.Client
	Clock  clock.Clock
	Budget *budget.Budget
	Paths  Paths
	// Timezone is what stamps without a zone are read in; nil means UTC.
	Timezone *time.Location
}

// Client speaks for one site. It is safe for concurrent use.
type Client struct{ cfg Config }

// New returns a Client.
func New(cfg Config) *Client {
	cfg.BaseURL = strings.TrimSuffix(strings.TrimRight(cfg.BaseURL, "/"), "/api")
	if cfg.Paths == (Paths{}) {
		cfg.Paths = defaultPaths
	}
	if cfg.Timezone == nil {
		cfg.Timezone = time.UTC
	}
	return &Client{cfg}
}

// Record is a member or an activity as it came.
type Record struct {
	Raw       json.RawMessage // its object, byte for byte; empty if the answer held none
	ID        string
	MemberID  string    // of an activity: the member it sits on
	Type      string    // of an activity: its ActivityType, a name or a slug
	Modified  time.Time // LastUpdatedDate; zero if missing, as it is from activities
	ReadBegan time.Time
}

// do makes one call, for which it takes calls from the budget: 2 if another
// follows that must not wait, 0 if it is the one that follows.
func (c *Client) do(ctx context.Context, lane budget.Lane, op, method, path, id string, query url.Values, body []byte, write bool, calls int) (apierr.Answer, error) {
	if path == "" {
		return apierr.Answer{}, &apierr.Error{System: "novi", Op: op, Class: apierr.Invalid, Message: "no path is configured for it"}
	}
	call := apierr.Call{System: "novi", Op: op, Method: method, Body: body, Write: write,
		URL: c.cfg.BaseURL + strings.ReplaceAll(path, "{id}", url.PathEscape(id)), Header: http.Header{"Accept": {"application/json"}}}
	if len(query) > 0 {
		call.URL += "?" + query.Encode()
	}
	if body != nil {
		call.Header.Set("Content-Type", "application/json")
	}
	key, err := c.cfg.Key(ctx)
	if err != nil {
		return apierr.Answer{}, &apierr.Error{System: "novi", Op: op, Class: apierr.Forbidden, Message: "no key: " + err.Error(), Err: err}
	}
	a, err := c.send(ctx, lane, call, key, calls)
	if a.Status != http.StatusUnauthorized || c.cfg.Refused == nil {
		return a, err
	}
	if key, otherErr := c.cfg.Refused(ctx, key); otherErr == nil {
		// Nothing was done, so that a write may be tried again as well.
		return c.send(ctx, lane, call, key, 1)
	}
	return a, err
}

// send makes the call with a key.
func (c *Client) send(ctx context.Context, lane budget.Lane, call apierr.Call, key string, calls int) (apierr.Answer, error) {
	call.Header.Set("Authorization", "Basic "+key)
	if c.cfg.Budget != nil && calls > 0 {
		if err := c.cfg.Budget.Acquire(ctx, lane, calls); err != nil {
			return apierr.Answer{}, &apierr.Error{System: "novi", Op: call.Op, Class: apierr.Wait, RetryAfter: time.Minute, Message: "call budget", Err: err}
		}
	}
	a, err := apierr.Do(ctx, c.cfg.HTTP, call)
	if err != nil {
		return a, err
	}
	if a.Status/100 == 2 {
		// An error page may come with 200 (§3.5).
		if trimmed := bytes.TrimSpace(a.Body); len(trimmed) > 0 && trimmed[0] == '<' {
			return a, &apierr.Error{System: "novi", Op: call.Op, Status: a.Status, Class: unsure(call.Write), Message: "the answer is a page, not JSON"}
		}
		return a, nil
	}
	return a, c.judge(call.Op, a, call.Write)
}

func unsure(write bool) apierr.Class {
	if write {
		return apierr.Ambiguous
	}
	return apierr.Retry
}

// judge classes an answer that is no success (§3.5).
func (c *Client) judge(op string, a apierr.Answer, write bool) error {
	var body struct {
		Message    string
		ModelState map[string]any
	}
	_ = json.Unmarshal(a.Body, &body) // shapes are undocumented; a page has no message
	message := body.Message
	for _, field := range sortedKeys(body.ModelState) {
		message += " (field " + field + ")"
	}
	e := &apierr.Error{System: "novi", Op: op, Status: a.Status, Class: apierr.Invalid, Message: message}
	switch {
	case a.Status == http.StatusTooManyRequests:
		e.Class, e.RetryAfter = apierr.Wait, apierr.RetryAfter(a.Header, c.cfg.Clock.Now())
		if c.cfg.Budget != nil {
			c.cfg.Budget.Pause(c.cfg.Clock.Now().Add(e.RetryAfter))
		}
	case a.Status == http.StatusUnauthorized, a.Status == http.StatusForbidden:
		e.Class = apierr.Forbidden
	case a.Status == http.StatusNotFound, a.Status == http.StatusGone:
		e.Class = apierr.Gone
	case a.Status == http.StatusRequestTimeout, a.Status >= 500:
		e.Class = unsure(write)
	}
	return e
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// record reads a bare record; {"data": {…}} is tolerated (§3.1). Its keys are
// matched without regard to case (§3.3).
func (c *Client) record(raw json.RawMessage, began time.Time) (Record, bool) {
	var head struct {
		UniqueID        string
		MemberUniqueID  string
		ActivityType    string
		LastUpdatedDate *string
		Data            json.RawMessage `json:"data"`
	}
	if json.Unmarshal(raw, &head) != nil {
		return Record{}, false
	}
	if head.UniqueID == "" && len(head.Data) > 0 && head.Data[0] == '{' {
		return c.record(head.Data, began)
	}
	if head.UniqueID == "" {
		return Record{}, false
	}
	r := Record{Raw: slices.Clone(bytes.TrimSpace(raw)), ID: head.UniqueID, MemberID: head.MemberUniqueID, Type: head.ActivityType, ReadBegan: began}
	if head.LastUpdatedDate != nil {
		r.Modified = c.stamp(*head.LastUpdatedDate)
	}
	return r, true
}

// stamp reads a .NET style time: up to seven fractional digits, with an
// offset or without one (§3.3). Zero if it can't be read.
func (c *Client) stamp(s string) time.Time {
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t
	}
	for _, form := range []string{"2006-01-02T15:04:05.999999999", "2006-01-02"} {
		if t, err := time.ParseInLocation(form, s, c.cfg.Timezone); err == nil {
			return t
		}
	}
	return time.Time{}
}

// results reads the elements of a list: in an envelope, in a bare array, or
// the one record that the answer is (§3.1). total is -1 if the site does not
// say it.
func (c *Client) results(op string, a apierr.Answer) (elements []json.RawMessage, total int, err error) {
	var out struct {
		TotalCount *int
		Results    []json.RawMessage
	}
	if json.Unmarshal(a.Body, &elements) == nil && elements != nil {
		return elements, -1, nil
	}
	if json.Unmarshal(a.Body, &out) == nil {
		if out.TotalCount != nil {
			return out.Results, *out.TotalCount, nil
		}
		if out.Results != nil {
			return out.Results, -1, nil
		}
		if _, one := c.record(a.Body, time.Time{}); one {
			return []json.RawMessage{a.Body}, -1, nil
		}
	}
	return nil, 0, &apierr.Error{System: "novi", Op: op, Status: a.Status, Class: apierr.Retry, Message: "the answer is no page"}
}

// page reads one page of records.
func (c *Client) page(ctx context.Context, lane budget.Lane, op, path string, q url.Values) ([]Record, int, error) {
	began := c.cfg.Clock.Now()
	a, err := c.do(ctx, lane, op, http.MethodGet, path, "", q, nil, false, 1)
	if err != nil {
		return nil, 0, err
	}
	elements, total, err := c.results(op, a)
	if err != nil {
		return nil, 0, err
	}
	var records []Record
	for _, raw := range elements {
		r, ok := c.record(raw, began)
		if !ok {
			return nil, 0, &apierr.Error{System: "novi", Op: op, Status: a.Status, Class: apierr.Retry, Message: "a record of the page has no id"}
		}
		records = append(records, r)
	}
	return records, total, nil
}

// get reads one record.
func (c *Client) get(ctx context.Context, lane budget.Lane, op, path, id string, calls int) (Record, error) {
	began := c.cfg.Clock.Now()
	a, err := c.do(ctx, lane, op, http.MethodGet, path, id, nil, nil, false, calls)
	if err != nil {
		return Record{}, err
	}
	r, ok := c.record(a.Body, began)
	if !ok {
		return Record{}, &apierr.Error{System: "novi", Op: op, Status: a.Status, Class: apierr.Retry, Message: "the answer holds no record"}
	}
	return r, nil
}

var guid = regexp.MustCompile(`[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}`)

// create makes a record, whose id is in the body or else at the end of the
// Location header (§3.4).
func (c *Client) create(ctx context.Context, lane budget.Lane, op, path string, body json.RawMessage) (Record, error) {
	began := c.cfg.Clock.Now()
	a, err := c.do(ctx, lane, op, http.MethodPost, path, "", nil, body, true, 1)
	if err != nil {
		return Record{}, err
	}
	if r, ok := c.record(a.Body, began); ok {
		return r, nil
	}
	if ids := guid.FindAllString(a.Header.Get("Location"), -1); len(ids) > 0 {
		return Record{ID: ids[len(ids)-1], ReadBegan: began}, nil
	}
	return Record{}, &apierr.Error{System: "novi", Op: op, Status: a.Status, Class: apierr.Ambiguous, Message: "the answer holds no id"}
}

// put replaces a whole record. Its call is paid for.
func (c *Client) put(ctx context.Context, lane budget.Lane, op, path, id string, body json.RawMessage) (Record, error) {
	began := c.cfg.Clock.Now()
	a, err := c.do(ctx, lane, op, http.MethodPut, path, id, nil, body, true, 0)
	if err != nil {
		return Record{}, err
	}
	r, _ := c.record(a.Body, began) // whether a PUT answers with the record is unknown
	return r, nil
}

// GetMember returns a member; Gone if there is none.
func (c *Client) GetMember(ctx context.Context, lane budget.Lane, id string) (Record, error) {
	return c.get(ctx, lane, "get member", c.cfg.Paths.Member, id, 1)
}

// GetMemberToPut is GetMember for a PutMember that follows at once: the call
// budget of both is taken before, so that nothing waits between the two.
func (c *Client) GetMemberToPut(ctx context.Context, lane budget.Lane, id string) (Record, error) {
	return c.get(ctx, lane, "get member", c.cfg.Paths.Member, id, 2)
}

// ListRequest asks for one page of members; empty filters don't filter.
type ListRequest struct {
	Offset   int
	PageSize int
	// ModifiedSince is inclusive; the site may read the day only (§3.2).
	ModifiedSince time.Time
	Email, Name   string // exact, without regard to case
}

// Page is one page.
type Page struct {
	Members    []Record
	TotalCount int // -1 if the site does not say
}

// ListMembers returns one page.
func (c *Client) ListMembers(ctx context.Context, lane budget.Lane, r ListRequest) (Page, error) {
	q := paging(r.Offset, r.PageSize)
	if !r.ModifiedSince.IsZero() {
		q.Set("lastModifiedDate", c.date(r.ModifiedSince))
	}
	if r.Email != "" {
		q.Set("email", r.Email)
	}
	if r.Name != "" {
		q.Set("name", r.Name)
	}
	members, total, err := c.page(ctx, lane, "list members", c.cfg.Paths.Members, q)
	return Page{Members: members, TotalCount: total}, err
}

func paging(offset, size int) url.Values {
	return url.Values{"pageSize": {strconv.Itoa(size)}, "offset": {strconv.Itoa(offset)}}
}

// date is a time as a filter's argument.
func (c *Client) date(t time.Time) string { return t.In(c.cfg.Timezone).Format(time.RFC3339) }

// CreateMember makes a member. The record may hold its id only.
func (c *Client) CreateMember(ctx context.Context, lane budget.Lane, body json.RawMessage) (Record, error) {
	return c.create(ctx, lane, "create member", c.cfg.Paths.Members, body)
}

// PutMember replaces the whole member, which GetMemberToPut has just read:
// what body lacks becomes null (§3.4). Its call is paid for.
func (c *Client) PutMember(ctx context.Context, lane budget.Lane, id string, body json.RawMessage) (Record, error) {
	return c.put(ctx, lane, "put member", c.cfg.Paths.Member, id, body)
}
