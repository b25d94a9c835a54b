// Package noviapi speaks the HTTP of Novi AMS, which each association serves
// on its own site: what ingest reads with and sink writes with, and more that a
// rule may want. endpoint.go is the table of all operations. It keeps records
// as the bytes that came, decodes leniently and returns *apierr.Error. Facts
// are from the dossier "Novi", sections named where they are used; what is
// uncertain there is configuration here.
package noviapi

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"maps"
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
	"github.com/causeway-sync/causeway/internal/endpoint"
)

// Paths are where things are, by the names that endpoint.go gives them; a path
// that is not there is where it is by default, and an empty one means that the
// site does not have it. {id} and its like stand for ids, in order.
type Paths map[string]string

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
	if cfg.Timezone == nil {
		cfg.Timezone = time.UTC
	}
	return &Client{cfg}
}

// Record is a member, an activity, an event or the like as it came.
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
func (c *Client) do(ctx context.Context, lane budget.Lane, e endpoint.Endpoint, ids []string, query url.Values, body []byte, calls int) (apierr.Answer, error) {
	defer clock.Waits(ctx)()
	op, write, path := e.Op, e.Write(), e.Path
	if own, ok := c.cfg.Paths[e.Key]; ok {
		path = own
	}
	if path == "" {
		return apierr.Answer{}, refuse(e, "no path is configured for it: novi.paths."+e.Key)
	}
	call := apierr.Call{System: "novi", Op: op, Method: e.Method, Body: body, Write: write,
		URL: c.cfg.BaseURL + endpoint.Fill(path, ids...), Header: http.Header{"Accept": {"application/json"}}}
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
		return c.send(ctx, lane, call, key, max(calls, 1))
	}
	return a, err
}

// send makes the call with a key.
func (c *Client) send(ctx context.Context, lane budget.Lane, call apierr.Call, key string, calls int) (apierr.Answer, error) {
	call.Header.Set("Authorization", "Basic "+key)
	permit, err := c.acquire(ctx, lane, call, calls)
	if err != nil {
		return apierr.Answer{}, err
	}
	a, err := apierr.Do(ctx, c.cfg.HTTP, call)
	permit.Done()
	if err == nil && a.Status/100 == 2 {
		permit.Keep(call.URL)
	} else {
		permit.Done() // what was to follow doesn't
	}
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
	return a, apierr.Hide(c.judge(call.Op, a, call.Write), key)
}

func refuse(e endpoint.Endpoint, why string) error {
	return &apierr.Error{System: "novi", Op: e.Op, Class: apierr.Invalid, Message: why}
}

// acquire waits for the leave to make calls; 0 of them is the one that was
// waited for before the read of the same record.
func (c *Client) acquire(ctx context.Context, lane budget.Lane, call apierr.Call, calls int) (*budget.Permit, error) {
	if c.cfg.Budget == nil {
		return nil, nil
	}
	if calls == 0 {
		if permit := c.cfg.Budget.Kept(call.URL); permit != nil {
			return permit, nil
		}
		calls = 1 // the read was too long ago
	}
	permit, err := c.cfg.Budget.Acquire(ctx, lane, calls)
	if err != nil {
		return nil, &apierr.Error{System: "novi", Op: call.Op, Class: apierr.Wait, RetryAfter: time.Minute, Message: "call budget", Err: err}
	}
	return permit, nil
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
		EventUniqueID   string // of an event, a registration or an attendee
		RegistrationUID string `json:"RegistrationUniqueID"`
		AttendeeUID     string `json:"AttendeeUniqueID"`
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
	// An attendee also names its registration, and both name their event.
	id := cmp.Or(head.UniqueID, head.AttendeeUID, head.RegistrationUID, head.EventUniqueID)
	if id == "" {
		return Record{}, false
	}
	r := Record{Raw: slices.Clone(bytes.TrimSpace(raw)), ID: id, MemberID: head.MemberUniqueID, Type: head.ActivityType, ReadBegan: began}
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
func (c *Client) results(e endpoint.Endpoint, a apierr.Answer) (elements []json.RawMessage, total int, err error) {
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
	return nil, 0, without(e, a, "page")
}

// without is the error of an answer that lacks what it should hold.
func without(e endpoint.Endpoint, a apierr.Answer, what string) error {
	return &apierr.Error{System: "novi", Op: e.Op, Status: a.Status, Class: unsure(e.Write()), Message: "the answer holds no " + what}
}

// page reads one page of records.
func (c *Client) page(ctx context.Context, lane budget.Lane, e endpoint.Endpoint, q url.Values, ids ...string) ([]Record, int, error) {
	began := c.cfg.Clock.Now()
	a, err := c.do(ctx, lane, e, ids, q, nil, 1)
	if err != nil {
		return nil, 0, err
	}
	elements, total, err := c.results(e, a)
	if err != nil {
		return nil, 0, err
	}
	var records []Record
	for _, raw := range elements {
		r, ok := c.record(raw, began)
		if !ok {
			return nil, 0, without(e, a, "id in one of its records")
		}
		records = append(records, r)
	}
	return records, total, nil
}

// get reads one record.
func (c *Client) get(ctx context.Context, lane budget.Lane, e endpoint.Endpoint, calls int, ids ...string) (Record, error) {
	began := c.cfg.Clock.Now()
	a, err := c.do(ctx, lane, e, ids, nil, nil, calls)
	if err != nil {
		return Record{}, err
	}
	r, ok := c.record(a.Body, began)
	if !ok {
		return Record{}, without(e, a, "record")
	}
	return r, nil
}

var guid = regexp.MustCompile(`[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}`)

// create makes a record, whose id is in the body or else at the end of the
// Location header (§3.4).
func (c *Client) create(ctx context.Context, lane budget.Lane, e endpoint.Endpoint, body []byte, ids ...string) (Record, error) {
	began := c.cfg.Clock.Now()
	a, err := c.do(ctx, lane, e, ids, nil, body, 1)
	if err != nil {
		return Record{}, err
	}
	if r, ok := c.record(a.Body, began); ok {
		return r, nil
	}
	if found := guid.FindAllString(a.Header.Get("Location"), -1); len(found) > 0 {
		return Record{ID: found[len(found)-1], ReadBegan: began}, nil
	}
	return Record{}, without(e, a, "id")
}

// put replaces a whole record. Its call is paid for.
func (c *Client) put(ctx context.Context, lane budget.Lane, e endpoint.Endpoint, body []byte, ids ...string) (Record, error) {
	began := c.cfg.Clock.Now()
	a, err := c.do(ctx, lane, e, ids, nil, body, 0)
	if err != nil {
		return Record{}, err
	}
	r, _ := c.record(a.Body, began) // whether a PUT answers with the record is unknown
	return r, nil
}

// change sets the given keys of a record that PUT replaces: it reads the
// record, lays them over it and puts it back, at once and with the calls of
// both taken. What it does not know stays as it is, byte for byte, and a key
// keeps the spelling that the site has (§3.3).
func (c *Client) change(ctx context.Context, lane budget.Lane, read, write endpoint.Endpoint, fields map[string]any, ids ...string) (Record, error) {
	before, err := c.get(ctx, lane, read, 2, ids...)
	if err != nil {
		return Record{}, err
	}
	body, err := overlay(before.Raw, fields)
	if err != nil {
		return Record{}, refuse(write, err.Error())
	}
	return c.put(ctx, lane, write, body, ids...)
}

func overlay(record json.RawMessage, fields map[string]any) (json.RawMessage, error) {
	var whole map[string]json.RawMessage
	if err := json.Unmarshal(record, &whole); err != nil {
		return nil, errors.New("the record can't be read")
	}
	for key, v := range fields {
		raw, err := json.Marshal(v)
		if err != nil {
			return nil, errors.New("field " + key + " can't be encoded")
		}
		for have := range whole {
			if strings.EqualFold(have, key) {
				key = have
				break
			}
		}
		whole[key] = raw
	}
	return json.Marshal(whole)
}

func encode(e endpoint.Endpoint, v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, refuse(e, "the body can't be encoded")
	}
	return raw, nil
}

// lookup reads a whole list of Ts, which has the id of each in UniqueID or
// whatever id says, page by page.
func lookup[T any](c *Client, ctx context.Context, lane budget.Lane, e endpoint.Endpoint, q url.Values, id func(T) string, ids ...string) ([]T, error) {
	var all []T
	seen := map[string]bool{}
	for {
		if e.Paged {
			q = merged(q, paging(len(all), lookupPage))
		}
		a, err := c.do(ctx, lane, e, ids, q, nil, 1)
		if err != nil {
			return nil, err
		}
		elements, total, err := c.results(e, a)
		if err != nil {
			return nil, err
		}
		known := len(all)
		for _, raw := range elements {
			var v T
			if json.Unmarshal(raw, &v) != nil || id(v) == "" {
				return nil, without(e, a, "id or name in one of its entries")
			}
			if !seen[id(v)] {
				seen[id(v)] = true
				all = append(all, v)
			}
		}
		// A site that pays no heed to the offset shows the same ones again.
		if !e.Paged || len(all) >= total || len(all) == known {
			return all, nil
		}
	}
}

// lookupPage is how many entries of a lookup are asked for at a time, the most
// that was seen in use (§3.1).
const lookupPage = 1000

func merged(a, b url.Values) url.Values {
	out := url.Values{}
	maps.Copy(out, a)
	maps.Copy(out, b)
	return out
}

// GetMember returns a member; Gone if there is none.
func (c *Client) GetMember(ctx context.Context, lane budget.Lane, id string) (Record, error) {
	return c.get(ctx, lane, getMember, 1, id)
}

// GetMemberToPut is GetMember for a PutMember that follows at once: the call
// budget of both is taken before, so that nothing waits between the two.
func (c *Client) GetMemberToPut(ctx context.Context, lane budget.Lane, id string) (Record, error) {
	return c.get(ctx, lane, getMemberToPut, 2, id)
}

// ListRequest asks for one page of members; empty filters don't filter.
type ListRequest struct {
	Offset   int
	PageSize int
	// ModifiedSince is inclusive; the site may read the day only (§3.2).
	ModifiedSince time.Time
	Email, Name   string // exact, without regard to case
	ParentName    string // of the company, the same
}

// Page is one page.
type Page struct {
	Members    []Record
	TotalCount int // -1 if the site does not say
}

// ListMembers returns one page.
func (c *Client) ListMembers(ctx context.Context, lane budget.Lane, r ListRequest) (Page, error) {
	q := paging(r.Offset, r.PageSize)
	c.setDate(q, "lastModifiedDate", r.ModifiedSince)
	if r.Email != "" {
		q.Set("email", r.Email)
	}
	if r.Name != "" {
		q.Set("name", r.Name)
	}
	if r.ParentName != "" {
		q.Set("parentName", r.ParentName)
	}
	members, total, err := c.page(ctx, lane, listMembers, q)
	return Page{Members: members, TotalCount: total}, err
}

func paging(offset, size int) url.Values {
	return url.Values{"pageSize": {strconv.Itoa(size)}, "offset": {strconv.Itoa(offset)}}
}

// date is a time as a filter's argument.
func (c *Client) date(t time.Time) string { return t.In(c.cfg.Timezone).Format(time.RFC3339) }

// CreateMember makes a member. The record may hold its id only.
func (c *Client) CreateMember(ctx context.Context, lane budget.Lane, body json.RawMessage) (Record, error) {
	return c.create(ctx, lane, createMember, body)
}

// PutMember replaces the whole member, which GetMemberToPut has just read:
// what body lacks becomes null (§3.4). Its call is paid for.
func (c *Client) PutMember(ctx context.Context, lane budget.Lane, id string, body json.RawMessage) (Record, error) {
	return c.put(ctx, lane, putMember, body, id)
}
