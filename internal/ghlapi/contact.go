package ghlapi

import (
	"context"
	"maps"
	"net/url"
	"slices"
	"strconv"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/budget"
)

// The keys that a body may have, by operation (§3.1). An unknown key is
// refused by GHL with 422, so it is refused here before it is sent.
var (
	UpdateKeys = []string{"firstName", "lastName", "name", "email", "phone", "address1", "city", "state", "website", "timezone", "postalCode",
		"country", "source", "assignedTo", "dnd", "dndSettings", "inboundDndSettings", "tags", "customFields", "dateOfBirth"}
	CreateKeys = append(slices.Clone(UpdateKeys), "locationId", "companyName", "gender")
	UpsertKeys = append(slices.Clone(CreateKeys), "createNewIfDuplicateAllowed")
)

// GetContact returns a contact; Gone if there is none (GHL says 400).
func (c *Client) GetContact(ctx context.Context, lane budget.Lane, id string) (Record, error) {
	return c.call(ctx, lane, getContact, getContact.At(id), "contact", nil)
}

// CreateContact makes a contact of the location with the given keys, which
// must be of CreateKeys. Duplicate names the contact that is there.
func (c *Client) CreateContact(ctx context.Context, lane budget.Lane, body map[string]any) (Record, error) {
	if err := check(createContact.Op, body, CreateKeys); err != nil {
		return Record{}, err
	}
	return c.call(ctx, lane, createContact, createContact.Path, "contact", c.located(body))
}

// UpdateContact sets the given keys, which must be of UpdateKeys; absent keys
// keep their values.
func (c *Client) UpdateContact(ctx context.Context, lane budget.Lane, id string, body map[string]any) (Record, error) {
	if err := check(updateContact.Op, body, UpdateKeys); err != nil {
		return Record{}, err
	}
	return c.call(ctx, lane, updateContact, updateContact.At(id), "contact", body)
}

// DeleteContact deletes a contact; Gone if there is none.
func (c *Client) DeleteContact(ctx context.Context, lane budget.Lane, id string) error {
	return c.done(ctx, lane, deleteContact, deleteContact.At(id), nil)
}

// UpsertContact updates the contact that the location's duplicate rule finds,
// or makes one, with the given keys, which must be of UpsertKeys; created says
// which. What the rule finds may be somebody else (§4.2), so the core of the
// sync does without it.
func (c *Client) UpsertContact(ctx context.Context, lane budget.Lane, body map[string]any) (contact Record, created bool, err error) {
	if err := check(upsertContact.Op, body, UpsertKeys); err != nil {
		return Record{}, false, err
	}
	began := c.cfg.Clock.Now()
	a, err := c.at(ctx, lane, upsertContact, upsertContact.Path, c.located(body))
	if err != nil {
		return Record{}, false, err
	}
	created, _ = read[bool](upsertContact, a, "new") // without it nobody can say
	contact, err = one(upsertContact.Op, "contact", a, began, true)
	return contact, created, err
}

// located is body with the location's id.
func (c *Client) located(body map[string]any) map[string]any {
	whole := map[string]any{"locationId": c.cfg.LocationID}
	maps.Copy(whole, body)
	return whole
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
	a, err := c.at(ctx, lane, searchContacts, searchContacts.Path, body)
	if err != nil {
		return SearchPage{}, err
	}
	var out struct {
		Contacts []json.RawMessage `json:"contacts"`
		Total    int               `json:"total"`
	}
	if err := json.Unmarshal(a.Body, &out); err != nil {
		return SearchPage{}, without(searchContacts, a, "page")
	}
	page := SearchPage{Total: out.Total}
	if page.Contacts, err = records(searchContacts.Op, a.Status, out.Contacts, began); err != nil {
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
	q := url.Values{"locationId": {c.cfg.LocationID}}
	if email != "" {
		q.Set("email", email)
	}
	if phone != "" {
		q.Set("number", phone)
	}
	began := c.cfg.Clock.Now()
	a, err := c.at(ctx, lane, findDuplicate, findDuplicate.Path+"?"+q.Encode(), nil)
	if apierr.ClassOf(err) == apierr.Gone {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r, err := one(findDuplicate.Op, "contact", a, began, false)
	if err != nil {
		return nil, nil // contact null, {} or another shape without one: no match
	}
	return &r, nil
}

// ListRequest asks for one page of the deprecated list (§3.4).
type ListRequest struct {
	Limit int // 1 to 100; 0 is GHL's own, 20
	Query string
	// StartAfter and StartAfterID are those of the page before, together.
	StartAfter   int64 // epoch ms
	StartAfterID string
}

// ListPage is one page; the last one has no StartAfterID.
type ListPage struct {
	Contacts     []Record
	Total        int
	StartAfter   int64
	StartAfterID string
}

// ListContacts returns one page of the deprecated list, which is gone in v3:
// SearchContacts is the call to build on. The next page is asked for with
// StartAfter, never by the URL that GHL gives (§3.4).
func (c *Client) ListContacts(ctx context.Context, lane budget.Lane, r ListRequest) (ListPage, error) {
	q := url.Values{"locationId": {c.cfg.LocationID}}
	setNumber(q, "limit", int64(r.Limit))
	setNumber(q, "startAfter", r.StartAfter)
	setText(q, "startAfterId", r.StartAfterID)
	setText(q, "query", r.Query)
	began := c.cfg.Clock.Now()
	a, err := c.at(ctx, lane, listContacts, listContacts.Path+"?"+q.Encode(), nil)
	if err != nil {
		return ListPage{}, err
	}
	var out struct {
		Contacts []json.RawMessage `json:"contacts"`
		Meta     struct {
			Total        int    `json:"total"`
			StartAfter   int64  `json:"startAfter"`
			StartAfterID string `json:"startAfterId"`
		} `json:"meta"`
	}
	if err := json.Unmarshal(a.Body, &out); err != nil {
		return ListPage{}, without(listContacts, a, "page")
	}
	page := ListPage{Total: out.Meta.Total, StartAfter: out.Meta.StartAfter, StartAfterID: out.Meta.StartAfterID}
	page.Contacts, err = records(listContacts.Op, a.Status, out.Contacts, began)
	return page, err
}

// BusinessContacts returns one page of the contacts of a business; it is the
// last if it has fewer than limit, at most 100 (§3.5).
func (c *Client) BusinessContacts(ctx context.Context, lane budget.Lane, businessID string, limit, skip int) ([]Record, error) {
	q := url.Values{"locationId": {c.cfg.LocationID}, "limit": {strconv.Itoa(limit)}, "skip": {strconv.Itoa(skip)}}
	return c.list(ctx, lane, businessContacts, businessContacts.At(businessID)+"?"+q.Encode(), "contacts", nil)
}

func setNumber(q url.Values, key string, v int64) {
	if v != 0 {
		q.Set(key, strconv.FormatInt(v, 10))
	}
}

func setText(q url.Values, key, v string) {
	if v != "" {
		q.Set(key, v)
	}
}
