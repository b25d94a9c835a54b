// Package catalogtest does each entry of the catalogue at the simulated
// systems, through the clients.
package catalogtest

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/ghlapi"
	"github.com/causeway-sync/causeway/internal/ghlsim"
	"github.com/causeway-sync/causeway/internal/noviapi"
	"github.com/causeway-sync/causeway/internal/novisim"
)

// bench is both simulated systems with something in them, and clients whose
// requests are noted.
type bench struct {
	t       *testing.T
	ctx     context.Context
	ghl     *ghlapi.Client
	ghlsim  *ghlsim.Server
	app     *ghlapi.App
	novi    *noviapi.Client
	novisim *novisim.Server

	contact, other, task, note, appointment, business, tag string // at GHL
	member, second, activity, seat, hook, registration     string // at Novi

	mu    sync.Mutex
	calls []string // "METHOD path"
}

const (
	group, committee, event, shirt = "7a3b0000-0000-4000-8000-000000000001", "c0de0000-0000-4000-8000-000000000001", "e7e70000-0000-4000-8000-000000000001", "5f0c1a52-0000-4000-8000-000000000001"
)

// GroupMember is where the simulated site puts members into groups, which the
// catalogue knows no path of.
const GroupMember = "/api/groups/{group}/members/{member}"

func (b *bench) RoundTrip(r *http.Request) (*http.Response, error) {
	b.mu.Lock()
	b.calls = append(b.calls, r.Method+" "+r.URL.Path)
	b.mu.Unlock()
	return http.DefaultTransport.RoundTrip(r)
}

func must[T any](b *bench) func(T, error) T {
	return func(v T, err error) T {
		b.t.Helper()
		if err != nil {
			b.t.Fatalf("set up: %v", err)
		}
		return v
	}
}

func setup(t *testing.T, wrap func(http.Handler) http.Handler) *bench {
	t.Helper()
	b := &bench{t: t, ctx: t.Context()}
	client := &http.Client{Transport: b, Timeout: 10 * time.Second}
	id, record := must[string](b), must[ghlapi.Record](b)

	b.ghlsim = must[*ghlsim.Server](b)(ghlsim.New(ghlsim.Config{Seed: 1, IndexLag: -1, Burst: 1000,
		Locations: []ghlsim.Location{{ID: "loc1", Name: "Simulated", CustomFields: []ghlsim.CustomField{{ID: "cf1", Name: "Size", Key: "contact.size"}},
			Users: []ghlsim.User{{ID: "u1", Name: "Uma Orr", Email: "uma@example.org"}}, Calendars: []string{"cal1"}, Campaigns: []string{"camp1"}, Workflows: []string{"wf1"}}},
		App:    &ghlsim.App{ClientID: "app1-x", ClientSecret: "secret", RedirectURL: "http://callback.invalid/", CompanyID: "cmp1", Lifetime: time.Hour},
		Tokens: []ghlsim.Token{{Value: "pit-x", LocationID: "loc1", Scopes: ghlsim.AllScopes()}}}))
	handler := b.ghlsim.Handler()
	if wrap != nil {
		handler = wrap(handler)
	}
	srv := httptest.NewServer(handler)
	t.Cleanup(srv.Close)
	b.ghl = ghlapi.New(ghlapi.Config{BaseURL: srv.URL, LocationID: "loc1", HTTP: client, Clock: clock.System{}, Token: func(context.Context) (string, error) { return "pit-x", nil }})
	page := httptest.NewServer(b.ghlsim.Handler()) // of consent, which is no part of the API
	t.Cleanup(page.Close)
	b.app = &ghlapi.App{ClientID: "app1-x", BaseURL: srv.URL, AuthorizeURL: page.URL + "/v2/oauth/chooselocation", RedirectURL: "http://callback.invalid/",
		Scopes: ghlapi.DefaultScopes(true), Secret: func(context.Context) (string, error) { return "secret", nil }, HTTP: client, Clock: clock.System{}}
	for _, p := range []struct{ to, first string }{{"contact", "Ada"}, {"other", "Bo"}} {
		made := id(b.ghlsim.Edit(ghlsim.Edit{Kind: ghlsim.EditCreate, LocationID: "loc1", Tags: []string{"vip"}, Fields: map[string]any{"firstName": p.first, "email": p.first + "@example.org"}}))
		if b.contact == "" {
			b.contact = made
		} else {
			b.other = made
		}
	}
	b.task = record(b.ghl.CreateTask(b.ctx, budget.Live, b.contact, map[string]any{"title": "Call", "dueDate": "2026-12-01T10:00:00Z", "completed": false})).ID
	b.note = record(b.ghl.CreateNote(b.ctx, budget.Live, b.contact, map[string]any{"body": "Hello"})).ID
	b.appointment = record(b.ghl.CreateAppointment(b.ctx, budget.Live, b.contact, map[string]any{"calendarId": "cal1", "startTime": "2026-12-01T10:00:00Z", "assignedUserId": "u1"})).ID
	b.business = record(b.ghl.CreateBusiness(b.ctx, budget.Live, map[string]any{"name": "Bakery"})).ID
	b.tag = must[ghlapi.Tag](b)(b.ghl.CreateLocationTag(b.ctx, budget.Live, "board")).ID

	b.novisim = must[*novisim.Server](b)(novisim.New(novisim.Config{Seed: 1, Keys: []string{"key"}, PerSecond: 1000, Timezone: time.UTC,
		Quirks:       novisim.Quirks{GroupWrites: true},
		CustomFields: []novisim.CustomField{{UniqueID: shirt, Name: "Shirt", TypeName: "Text"}}, Groups: []novisim.Group{{UniqueID: group, Name: "Board"}},
		Committees: []novisim.Committee{{UniqueID: committee, Name: "Finance"}}, CommitteeRoles: []novisim.Category{{UniqueID: "r1", Name: "Chair"}},
		GroupCategories: []novisim.Category{{UniqueID: "k1", Name: "All"}}, MemberTypes: []novisim.MemberType{{UniqueID: "t1", Name: "Individual"}},
		Events: []novisim.Event{{UniqueID: event, Name: "Gala", Category: 1}}, EventCategories: []novisim.EventCategory{{ID: 1, Name: "Social", Active: true}}}))
	site := httptest.NewServer(b.novisim.Handler())
	t.Cleanup(site.Close)
	b.novi = noviapi.New(noviapi.Config{BaseURL: site.URL, HTTP: client, Clock: clock.System{}, Key: func(context.Context) (string, error) { return "key", nil },
		Paths: noviapi.Paths{"group_member": GroupMember}})
	b.member = id(b.novisim.Edit(novisim.Edit{Fields: map[string]any{"Name": "Ada Imhof", "FirstName": "Ada", "Email": "ada@example.org", "Website": "https://example.org"}}))
	b.second = id(b.novisim.Edit(novisim.Edit{Fields: map[string]any{"Name": "Bo Li", "Email": "bo@example.org"}}))
	b.activity = id(b.novisim.EditItem(novisim.ItemEdit{Op: novisim.OpCreate, MemberID: b.member, Fields: map[string]any{"ActivityType": "Task", "Subject": "Call", "Notes": "x"}}))
	b.seat = must[noviapi.Record](b)(b.novi.CreateCommitteeMember(b.ctx, budget.Live, committee, b.member, map[string]any{"InternalNotes": "keep me"})).ID
	b.hook = must[noviapi.Webhook](b)(b.novi.CreateWebhook(b.ctx, budget.Live, "https://example.org/hook", []string{"customer.updated"})).ID
	b.registration = id(b.novisim.Register(event, b.member))
	b.calls = nil
	return b
}

// check is the error of an answer that is not what it should be.
func check(ok bool, got any, err error) error {
	if err == nil && !ok {
		return fmt.Errorf("got %+v", got)
	}
	return err
}

func (b *bench) field(name string) any {
	c, _ := b.ghlsim.Contact("loc1", b.contact)
	return c.Fields[name]
}

// installed returns the tokens of an agency that has just installed the app.
func (b *bench) installed() (ghlapi.Issued, error) {
	stay := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := stay.PostForm(b.app.ConsentURL("state"), url.Values{"agency": {"1"}})
	if err != nil {
		return ghlapi.Issued{}, err
	}
	defer func() { _ = res.Body.Close() }()
	back, err := res.Location()
	if err != nil {
		return ghlapi.Issued{}, err
	}
	return b.app.Exchange(b.ctx, back.Query().Get("code"), ghlapi.UserCompany)
}

// putMember and putActivity change one key, as the sink does.
func (b *bench) putMember(key string, value any) error {
	read, err := b.novi.GetMemberToPut(b.ctx, budget.Live, b.member)
	if err != nil {
		return err
	}
	raw, err := overlay(read.Raw, key, value)
	if err != nil {
		return err
	}
	_, err = b.novi.PutMember(b.ctx, budget.Live, b.member, raw)
	m, _ := b.novisim.Member(b.member)
	return check(m.Fields[key] == value && m.Fields["Website"] == "https://example.org" && b.novisim.Stats().NulledUnmapped == 0, m, err)
}

func (b *bench) putActivity(key string, value any) error {
	read, err := b.novi.GetActivityToPut(b.ctx, budget.Live, b.activity)
	if err != nil {
		return err
	}
	raw, err := overlay(read.Raw, key, value)
	if err != nil {
		return err
	}
	_, err = b.novi.PutActivity(b.ctx, budget.Live, b.activity, raw)
	a := b.novisim.Activities()[0]
	return check(a.Fields[key] == value && a.Fields["Notes"] != nil && b.novisim.Stats().NulledActivities == 0, a, err)
}

func overlay(raw []byte, key string, value any) ([]byte, error) {
	var whole map[string]any
	if err := json.Unmarshal(raw, &whole); err != nil {
		return nil, err
	}
	whole[key] = value
	return json.Marshal(whole)
}

func (b *bench) createActivity(typ string) error {
	raw, err := json.Marshal(map[string]any{"MemberUniqueId": b.member, "ActivityType": typ, "Subject": "S"})
	if err != nil {
		return err
	}
	r, err := b.novi.CreateActivity(b.ctx, budget.Live, raw)
	all := b.novisim.Activities()
	return check(len(all) == 2 && all[1].UniqueID == r.ID && all[1].Fields["ActivityType"] == typ, all, err)
}

func (b *bench) completed(done bool) error {
	r, err := b.ghl.CompleteTask(b.ctx, budget.Live, b.contact, b.task, done)
	return check(strings.Contains(string(r.Raw), fmt.Sprintf(`"completed":%t`, done)), string(r.Raw), err)
}

func (b *bench) updateContact(key string, value, want any) error {
	_, err := b.ghl.UpdateContact(b.ctx, budget.Live, b.contact, map[string]any{key: value})
	got := b.field(key)
	return check(fmt.Sprint(got) == fmt.Sprint(want), got, err)
}

func (b *bench) tags() []string {
	c, _ := b.ghlsim.Contact("loc1", b.contact)
	return c.Tags
}

func (b *bench) enrolled(want ...string) bool {
	return slices.Equal(b.ghlsim.Enrolled("loc1", b.contact), append([]string{}, want...))
}

func names[T any](all []T, err error) error { return check(len(all) > 0, all, err) }

func found(r ghlapi.Record, err error) error { return check(len(r.Raw) > 0, r, err) }

const live = budget.Live

// calls do each entry at the simulators and look at what it did.
var calls = map[string]func(*bench) error{
	"ghl.poll.contacts": func(b *bench) error {
		p, err := b.ghl.SearchContacts(b.ctx, live, ghlapi.SearchRequest{PageLimit: 10, Sort: []ghlapi.Sort{{Field: "dateUpdated", Direction: "asc"}},
			Filters: []ghlapi.Filter{{Field: "dateUpdated", Operator: "range", Value: map[string]any{"gte": "2020-01-01T00:00:00.000Z"}}}})
		return check(len(p.Contacts) == 2 && len(p.SearchAfter) > 0, p, err)
	},
	"ghl.sweep.tasks":        func(b *bench) error { return names(b.ghl.SearchTasks(b.ctx, live, ghlapi.TaskSearch{Limit: 100})) },
	"ghl.sweep.notes":        func(b *bench) error { return names(b.ghl.Notes(b.ctx, live, b.contact)) },
	"ghl.sweep.appointments": func(b *bench) error { return names(b.ghl.ContactAppointments(b.ctx, live, b.contact)) },
	"novi.poll.members": func(b *bench) error {
		p, err := b.novi.ListMembers(b.ctx, live, noviapi.ListRequest{PageSize: 10, ModifiedSince: time.Now().Add(-time.Hour)})
		return check(len(p.Members) == 2, p, err)
	},
	"novi.sweep.activities": func(b *bench) error {
		p, err := b.novi.ListActivities(b.ctx, live, noviapi.ActivityRequest{PageSize: 10, From: time.Now().AddDate(0, 0, -30), To: time.Now().AddDate(1, 0, 0)})
		return check(len(p.Activities) == 1, p, err)
	},

	"ghl.contact.get": func(b *bench) error { return found(b.ghl.GetContact(b.ctx, live, b.contact)) },
	"ghl.contact.create": func(b *bench) error {
		return found(b.ghl.CreateContact(b.ctx, live, map[string]any{"firstName": "Cy", "email": "cy@example.org", "companyName": "Bakery"}))
	},
	"ghl.contact.update": func(b *bench) error { return b.updateContact("city", "Bern", "Bern") },
	"ghl.contact.field": func(b *bench) error {
		return b.updateContact("customFields", []any{map[string]any{"id": "cf1", "field_value": "L"}}, []any{map[string]any{"id": "cf1", "value": "L"}})
	},
	"ghl.contact.dnd":    func(b *bench) error { return b.updateContact("dnd", true, true) },
	"ghl.contact.assign": func(b *bench) error { return b.updateContact("assignedTo", "u1", "u1") },
	"ghl.contact.replace_tags": func(b *bench) error {
		_, err := b.ghl.UpdateContact(b.ctx, live, b.contact, map[string]any{"tags": []string{"new"}})
		return check(slices.Equal(b.tags(), []string{"new"}), b.tags(), err)
	},
	"ghl.contact.delete": func(b *bench) error {
		err := b.ghl.DeleteContact(b.ctx, live, b.contact)
		return check(len(b.ghlsim.Dump("loc1")) == 1, "", err)
	},
	"ghl.contact.upsert": func(b *bench) error {
		r, created, err := b.ghl.UpsertContact(b.ctx, live, map[string]any{"email": "ada@example.org", "city": "Bern"})
		return check(!created && r.ID == b.contact && b.field("city") == "Bern", r, err)
	},
	"ghl.contact.search": func(b *bench) error {
		p, err := b.ghl.SearchContacts(b.ctx, live, ghlapi.SearchRequest{PageLimit: 10, Filters: []ghlapi.Filter{{Field: "tags", Operator: "eq", Value: "vip"}}})
		return check(p.Total == 2, p, err)
	},
	"ghl.contact.find": func(b *bench) error {
		r, err := b.ghl.FindDuplicate(b.ctx, live, "bo@example.org", "")
		return check(r != nil && r.ID == b.other, r, err)
	},
	"ghl.contact.list": func(b *bench) error {
		var ids []string
		for r := (ghlapi.ListRequest{Limit: 1}); ; {
			p, err := b.ghl.ListContacts(b.ctx, live, r)
			if err != nil || len(p.Contacts) != 1 || p.Total != 2 {
				return check(false, p, err)
			}
			if ids = append(ids, p.Contacts[0].ID); p.StartAfterID == "" {
				return check(len(ids) == 2 && ids[0] != ids[1], ids, nil)
			}
			r.StartAfter, r.StartAfterID = p.StartAfter, p.StartAfterID
		}
	},
	"ghl.contact.by_business": func(b *bench) error {
		if err := b.ghl.SetBusiness(b.ctx, live, b.business, []string{b.contact}); err != nil {
			return err
		}
		all, err := b.ghl.BusinessContacts(b.ctx, live, b.business, 10, 0)
		return check(len(all) == 1 && all[0].ID == b.contact, all, err)
	},
	"ghl.contact.add_tags": func(b *bench) error {
		tags, err := b.ghl.AddTags(b.ctx, live, b.contact, []string{"Board"})
		return check(slices.Equal(tags, []string{"vip", "board"}), tags, err)
	},
	"ghl.contact.remove_tags": func(b *bench) error {
		tags, err := b.ghl.RemoveTags(b.ctx, live, b.contact, []string{"vip"})
		return check(len(tags) == 0 && len(b.tags()) == 0, tags, err)
	},
	"ghl.bulk.add_tags": func(b *bench) error {
		got, err := b.ghl.BulkAddTags(b.ctx, live, []string{b.contact, "nobody"}, []string{"board"})
		return check(len(got) == 2 && slices.Equal(got[0].TagsAdded, []string{"board"}) && got[1].Type == "error" && len(b.tags()) == 2, got, err)
	},
	"ghl.bulk.remove_tags": func(b *bench) error {
		got, err := b.ghl.BulkRemoveTags(b.ctx, live, []string{b.contact}, []string{"vip"}, false)
		return check(len(got) == 1 && len(b.tags()) == 0, got, err)
	},
	"ghl.bulk.clear_tags": func(b *bench) error {
		got, err := b.ghl.BulkRemoveTags(b.ctx, live, []string{b.contact, b.other}, nil, true)
		return check(len(got) == 2 && len(b.tags()) == 0, got, err)
	},
	"ghl.bulk.link_business": func(b *bench) error {
		err := b.ghl.SetBusiness(b.ctx, live, b.business, []string{b.contact})
		return check(b.field("businessId") == b.business, b.field("businessId"), err)
	},
	"ghl.bulk.unlink_business": func(b *bench) error {
		if err := b.ghl.SetBusiness(b.ctx, live, b.business, []string{b.contact}); err != nil {
			return err
		}
		err := b.ghl.SetBusiness(b.ctx, live, "", []string{b.contact})
		return check(b.field("businessId") == nil, b.field("businessId"), err)
	},
	"ghl.contact.add_followers": func(b *bench) error {
		got, err := b.ghl.AddFollowers(b.ctx, live, b.contact, []string{"u1"})
		return check(slices.Equal(got, []string{"u1"}), got, err)
	},
	"ghl.contact.remove_followers": func(b *bench) error {
		if _, err := b.ghl.AddFollowers(b.ctx, live, b.contact, []string{"u1"}); err != nil {
			return err
		}
		got, err := b.ghl.RemoveFollowers(b.ctx, live, b.contact, []string{"u1"})
		return check(len(got) == 0, got, err)
	},
	"ghl.campaign.add": func(b *bench) error {
		err := b.ghl.AddToCampaign(b.ctx, live, b.contact, "camp1")
		return check(b.enrolled("campaign:camp1"), "", err)
	},
	"ghl.campaign.remove": func(b *bench) error {
		if err := b.ghl.AddToCampaign(b.ctx, live, b.contact, "camp1"); err != nil {
			return err
		}
		err := b.ghl.RemoveFromCampaign(b.ctx, live, b.contact, "camp1")
		return check(b.enrolled(), "", err)
	},
	"ghl.campaign.remove_all": func(b *bench) error {
		if err := b.ghl.AddToCampaign(b.ctx, live, b.contact, "camp1"); err != nil {
			return err
		}
		err := b.ghl.RemoveFromAllCampaigns(b.ctx, live, b.contact)
		return check(b.enrolled(), "", err)
	},
	"ghl.workflow.add": func(b *bench) error {
		err := b.ghl.AddToWorkflow(b.ctx, live, b.contact, "wf1", time.Now())
		return check(b.enrolled("workflow:wf1"), "", err)
	},
	"ghl.workflow.remove": func(b *bench) error {
		if err := b.ghl.AddToWorkflow(b.ctx, live, b.contact, "wf1", time.Time{}); err != nil {
			return err
		}
		err := b.ghl.RemoveFromWorkflow(b.ctx, live, b.contact, "wf1")
		return check(b.enrolled(), "", err)
	},

	"ghl.task.list": func(b *bench) error { return names(b.ghl.Tasks(b.ctx, live, b.contact)) },
	"ghl.task.get":  func(b *bench) error { return found(b.ghl.GetTask(b.ctx, live, b.contact, b.task)) },
	"ghl.task.create": func(b *bench) error {
		return found(b.ghl.CreateTask(b.ctx, live, b.contact, map[string]any{"title": "T", "dueDate": "2026-12-01T10:00:00Z", "completed": false}))
	},
	"ghl.task.update": func(b *bench) error {
		return found(b.ghl.UpdateTask(b.ctx, live, b.contact, b.task, map[string]any{"title": "T2"}))
	},
	"ghl.task.assign": func(b *bench) error {
		return found(b.ghl.UpdateTask(b.ctx, live, b.contact, b.task, map[string]any{"assignedTo": "u1"}))
	},
	"ghl.task.complete": func(b *bench) error { return b.completed(true) },
	"ghl.task.reopen":   func(b *bench) error { return b.completed(false) },
	"ghl.task.delete": func(b *bench) error {
		err := b.ghl.DeleteTask(b.ctx, live, b.contact, b.task)
		return check(len(b.ghlsim.Items("loc1", ghlsim.KindTask)) == 0, "", err)
	},
	"ghl.task.search": func(b *bench) error {
		return names(b.ghl.SearchTasks(b.ctx, live, ghlapi.TaskSearch{ContactIDs: []string{b.contact}}))
	},
	"ghl.note.list": func(b *bench) error { return names(b.ghl.Notes(b.ctx, live, b.contact)) },
	"ghl.note.get":  func(b *bench) error { return found(b.ghl.GetNote(b.ctx, live, b.contact, b.note)) },
	"ghl.note.create": func(b *bench) error {
		return found(b.ghl.CreateNote(b.ctx, live, b.contact, map[string]any{"body": "x"}))
	},
	"ghl.note.update": func(b *bench) error {
		return found(b.ghl.UpdateNote(b.ctx, live, b.contact, b.note, map[string]any{"body": "y"}))
	},
	"ghl.note.pin": func(b *bench) error {
		return found(b.ghl.UpdateNote(b.ctx, live, b.contact, b.note, map[string]any{"pinned": true}))
	},
	"ghl.note.delete": func(b *bench) error {
		err := b.ghl.DeleteNote(b.ctx, live, b.contact, b.note)
		return check(len(b.ghlsim.Items("loc1", ghlsim.KindNote)) == 0, "", err)
	},
	"ghl.appointment.list": func(b *bench) error { return names(b.ghl.ContactAppointments(b.ctx, live, b.contact)) },
	"ghl.appointment.get":  func(b *bench) error { return found(b.ghl.GetAppointment(b.ctx, live, b.appointment)) },
	"ghl.appointment.create": func(b *bench) error {
		return found(b.ghl.CreateAppointment(b.ctx, live, b.contact, map[string]any{"calendarId": "cal1", "startTime": "2026-12-02T10:00:00Z"}))
	},
	"ghl.appointment.update": func(b *bench) error {
		return found(b.ghl.UpdateAppointment(b.ctx, live, b.appointment, map[string]any{"title": "Lunch"}))
	},
	"ghl.appointment.cancel": func(b *bench) error {
		return found(b.ghl.UpdateAppointment(b.ctx, live, b.appointment, map[string]any{"appointmentStatus": "cancelled"}))
	},
	"ghl.appointment.delete": func(b *bench) error {
		err := b.ghl.DeleteAppointment(b.ctx, live, b.appointment)
		return check(len(b.ghlsim.Items("loc1", ghlsim.KindAppointment)) == 0, "", err)
	},
	"ghl.calendar.events": func(b *bench) error {
		from := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
		none, err := b.ghl.CalendarEvents(b.ctx, live, ghlapi.EventsRequest{UserID: "u1", From: from.AddDate(0, 0, 1), To: from.AddDate(0, 0, 2)})
		if err != nil || len(none) != 0 {
			return check(false, none, err)
		}
		return names(b.ghl.CalendarEvents(b.ctx, live, ghlapi.EventsRequest{CalendarID: "cal1", From: from, To: from.AddDate(0, 0, 1)}))
	},
	"ghl.location.get": func(b *bench) error {
		l, err := b.ghl.GetLocation(b.ctx, live)
		return check(l.ID == "loc1" && l.Timezone == "America/New_York" && !l.Settings.AllowDuplicateContact, l, err)
	},
	"ghl.tag.list": func(b *bench) error { return names(b.ghl.LocationTags(b.ctx, live)) },
	"ghl.tag.get": func(b *bench) error {
		tag, err := b.ghl.GetLocationTag(b.ctx, live, b.tag)
		return check(tag.Name == "board", tag, err)
	},
	"ghl.tag.create": func(b *bench) error {
		tag, err := b.ghl.CreateLocationTag(b.ctx, live, "New")
		return check(tag.Name == "new" && tag.ID != "", tag, err)
	},
	"ghl.tag.rename": func(b *bench) error {
		tags, err := b.ghl.LocationTags(b.ctx, live)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(tags, func(t ghlapi.Tag) bool { return t.Name == "vip" })
		_, err = b.ghl.RenameLocationTag(b.ctx, live, tags[i].ID, "very important")
		return check(slices.Equal(b.tags(), []string{"very important"}), b.tags(), err)
	},
	"ghl.tag.delete": func(b *bench) error {
		err := b.ghl.DeleteLocationTag(b.ctx, live, b.tag)
		left, _ := b.ghl.LocationTags(b.ctx, live)
		return check(len(left) == 1, left, err)
	},
	"ghl.field.list": func(b *bench) error { return names(b.ghl.CustomFields(b.ctx, live)) },
	"ghl.field.get": func(b *bench) error {
		f, err := b.ghl.GetCustomField(b.ctx, live, "contact.size")
		return check(f.ID == "cf1", f, err)
	},
	"ghl.field.create": func(b *bench) error {
		f, err := b.ghl.CreateCustomField(b.ctx, live, ghlapi.CustomField{Name: "Shoe Size", DataType: "NUMERICAL"})
		return check(f.ID != "" && f.FieldKey == "contact.shoe_size", f, err)
	},
	"ghl.field.rename": func(b *bench) error {
		f, err := b.ghl.RenameCustomField(b.ctx, live, "cf1", "Shirt size")
		return check(f.Name == "Shirt size" && f.FieldKey == "contact.size", f, err)
	},
	"ghl.field.delete": func(b *bench) error {
		err := b.ghl.DeleteCustomField(b.ctx, live, "cf1")
		left, _ := b.ghl.CustomFields(b.ctx, live)
		return check(len(left) == 0, left, err)
	},
	"ghl.user.list": func(b *bench) error { return names(b.ghl.Users(b.ctx, live)) },
	"ghl.user.get": func(b *bench) error {
		u, err := b.ghl.GetUser(b.ctx, live, "u1")
		return check(u.Name == "Uma Orr", u, err)
	},
	"ghl.user.search": func(b *bench) error { return names(b.ghl.SearchUsers(b.ctx, live, "simcompany", "uma", 10, 0)) },
	"ghl.user.by_email": func(b *bench) error {
		return names(b.ghl.UsersByEmail(b.ctx, live, "simcompany", []string{"uma@example.org"}))
	},
	"ghl.business.list": func(b *bench) error { return names(b.ghl.Businesses(b.ctx, live, 10, 0)) },
	"ghl.business.get":  func(b *bench) error { return found(b.ghl.GetBusiness(b.ctx, live, b.business)) },
	"ghl.business.create": func(b *bench) error {
		return found(b.ghl.CreateBusiness(b.ctx, live, map[string]any{"name": "Brewery"}))
	},
	"ghl.business.update": func(b *bench) error {
		return found(b.ghl.UpdateBusiness(b.ctx, live, b.business, map[string]any{"city": "Bern"}))
	},
	"ghl.business.delete": func(b *bench) error {
		err := b.ghl.DeleteBusiness(b.ctx, live, b.business)
		left, _ := b.ghl.Businesses(b.ctx, live, 10, 0)
		return check(len(left) == 0, left, err)
	},

	"novi.member.list": func(b *bench) error {
		p, err := b.novi.ListMembers(b.ctx, live, noviapi.ListRequest{PageSize: 1})
		return check(len(p.Members) == 1 && p.TotalCount == 2, p, err)
	},
	"novi.member.find_by_email": func(b *bench) error {
		p, err := b.novi.ListMembers(b.ctx, live, noviapi.ListRequest{PageSize: 10, Email: "BO@example.org"})
		return check(len(p.Members) == 1 && p.Members[0].ID == b.second, p, err)
	},
	"novi.member.find_by_name": func(b *bench) error {
		p, err := b.novi.ListMembers(b.ctx, live, noviapi.ListRequest{PageSize: 10, Name: "ada imhof"})
		return check(len(p.Members) == 1 && p.Members[0].ID == b.member, p, err)
	},
	"novi.member.by_company": func(b *bench) error {
		if _, err := b.novisim.Edit(novisim.Edit{MemberID: b.second, Fields: map[string]any{"ParentCustomerUniqueID": b.member}}); err != nil {
			return err
		}
		p, err := b.novi.ListMembers(b.ctx, live, noviapi.ListRequest{PageSize: 10, ParentName: "Ada Imhof"})
		return check(len(p.Members) == 1 && p.Members[0].ID == b.second, p, err)
	},
	"novi.member.get": func(b *bench) error {
		r, err := b.novi.GetMember(b.ctx, live, b.member)
		return check(r.ID == b.member && !r.Modified.IsZero(), r, err)
	},
	"novi.member.read_to_put": func(b *bench) error {
		r, err := b.novi.GetMemberToPut(b.ctx, live, b.member)
		return check(r.ID == b.member, r, err)
	},
	"novi.member.create": func(b *bench) error {
		r, err := b.novi.CreateMember(b.ctx, live, []byte(`{"Name":"Cy Ott","FirstName":"Cy","LastName":"Ott","CustomerType":"Person"}`))
		return check(r.ID != "" && len(b.novisim.Dump()) == 3, r, err)
	},
	"novi.member.update":      func(b *bench) error { return b.putMember("JobTitle", "Baker") },
	"novi.member.unsubscribe": func(b *bench) error { return b.putMember("UnsubscribeFromEmails", true) },
	"novi.member.deactivate":  func(b *bench) error { return b.putMember("Active", false) },
	"novi.member.names":       func(b *bench) error { return names(b.novi.SimpleList(b.ctx, live)) },
	"novi.member.types":       func(b *bench) error { return names(b.novi.MemberTypes(b.ctx, live)) },

	"novi.activity.list": func(b *bench) error {
		p, err := b.novi.ListActivities(b.ctx, live, noviapi.ActivityRequest{PageSize: 10})
		return check(len(p.Activities) == 1, p, err)
	},
	"novi.activity.get": func(b *bench) error {
		r, err := b.novi.GetActivity(b.ctx, live, b.activity)
		return check(r.MemberID == b.member && r.Type == "Task", r, err)
	},
	"novi.activity.read_to_put": func(b *bench) error {
		r, err := b.novi.GetActivityToPut(b.ctx, live, b.activity)
		return check(r.ID == b.activity, r, err)
	},
	"novi.task.create":    func(b *bench) error { return b.createActivity("Task") },
	"novi.note.create":    func(b *bench) error { return b.createActivity("Note") },
	"novi.meeting.create": func(b *bench) error { return b.createActivity("Meeting") },
	"novi.call.create":    func(b *bench) error { return b.createActivity("Call") },
	"novi.email.create":   func(b *bench) error { return b.createActivity("Email") },
	"novi.task.update":    func(b *bench) error { return b.putActivity("Subject", "Write") },
	"novi.task.complete":  func(b *bench) error { return b.putActivity("TaskComplete", true) },
	"novi.task.reopen":    func(b *bench) error { return b.putActivity("TaskComplete", false) },
	"novi.task.assign":    func(b *bench) error { return b.putActivity("AssignedToMemberUniqueId", b.second) },
	"novi.note.update":    func(b *bench) error { return b.putActivity("Notes", "<p>y</p>") },
	"novi.meeting.update": func(b *bench) error { return b.putActivity("ContactMemberUniqueId", b.second) },
	"novi.activity.delete": func(b *bench) error {
		err := b.novi.DeleteActivity(b.ctx, live, b.activity)
		return check(len(b.novisim.Activities()) == 0, "", err)
	},
	"novi.activity.types": func(b *bench) error { return names(b.novi.ActivityTypes(b.ctx, live)) },
	"novi.activity.create_type": func(b *bench) error {
		r, err := b.novi.CreateActivityType(b.ctx, live, "Visit", true)
		types, _ := b.novi.ActivityTypes(b.ctx, live)
		return check(len(types) == 7 && types[6].UniqueID == r.ID && types[6].Task && types[6].Slug == "visit", types, err)
	},
	"novi.activity.update_type": func(b *bench) error {
		types, err := b.novi.ActivityTypes(b.ctx, live)
		if err != nil {
			return err
		}
		err = b.novi.UpdateActivityType(b.ctx, live, types[5].UniqueID, map[string]any{"Active": false})
		types, _ = b.novi.ActivityTypes(b.ctx, live)
		return check(!types[5].Active && types[5].Task && types[5].Name == "Onboarding step", types[5], err)
	},
	"novi.membership.list": func(b *bench) error {
		p, err := b.novi.MembershipActivities(b.ctx, live, noviapi.ActivityRequest{PageSize: 10})
		return check(p.TotalCount == 2, p, err)
	},
	"novi.membership.get": func(b *bench) error {
		p, err := b.novi.MembershipActivities(b.ctx, live, noviapi.ActivityRequest{PageSize: 1})
		if err != nil {
			return err
		}
		r, err := b.novi.GetMembershipActivity(b.ctx, live, p.Activities[0].ID)
		return check(r.MemberID == b.member, r, err)
	},
	"ghl.oauth.exchange": func(b *bench) error {
		t, err := b.installed()
		return check(t.Company == "cmp1" && t.Access != "" && t.Refresh != "", t.Kind, err)
	},
	"ghl.oauth.refresh": func(b *bench) error {
		t, err := b.installed()
		if err != nil {
			return err
		}
		next, err := b.app.Refresh(b.ctx, t.Refresh)
		return check(next.Refresh != "" && next.Refresh != t.Refresh, next.Kind, err)
	},
	"ghl.oauth.location_token": func(b *bench) error {
		t, err := b.installed()
		if err != nil {
			return err
		}
		of, err := b.app.LocationToken(b.ctx, "cmp1", "loc1", t.Access)
		return check(of.Location == "loc1" && of.Access != "", of.Kind, err)
	},
	"ghl.oauth.installed_locations": func(b *bench) error {
		t, err := b.installed()
		if err != nil {
			return err
		}
		all, err := b.app.InstalledLocations(b.ctx, "cmp1", t.Access)
		return check(len(all) == 1 && all[0] == "loc1", all, err)
	},
	"novi.sweep.groups": func(b *bench) error {
		if err := b.novisim.Pick(b.member, group, true); err != nil {
			return err
		}
		all, _, err := b.novi.GroupMembers(b.ctx, live, group, 0, 10)
		return check(len(all) == 1 && all[0].UniqueID == b.member, all, err)
	},
	"novi.group.list": func(b *bench) error { return names(b.novi.Groups(b.ctx, live)) },
	"novi.group.get": func(b *bench) error {
		g, err := b.novi.GetGroup(b.ctx, live, group)
		return check(g.Name == "Board", g, err)
	},
	"novi.group.members": func(b *bench) error {
		if err := b.novisim.Pick(b.member, group, true); err != nil {
			return err
		}
		all, total, err := b.novi.GroupMembers(b.ctx, live, group, 0, 10)
		return check(len(all) == 1 && total == 1 && all[0].UniqueID == b.member, all, err)
	},
	"novi.group.categories": func(b *bench) error { return names(b.novi.GroupCategories(b.ctx, live)) },
	"novi.group.add": func(b *bench) error {
		err := b.novi.AddGroupMember(b.ctx, live, group, b.second)
		m, _ := b.novisim.Member(b.second)
		return check(strings.Contains(fmt.Sprint(m.Fields["Groups"]), "Board"), m.Fields["Groups"], err)
	},
	"novi.group.remove": func(b *bench) error {
		if err := b.novisim.Pick(b.member, group, true); err != nil {
			return err
		}
		err := b.novi.RemoveGroupMember(b.ctx, live, group, b.member)
		m, _ := b.novisim.Member(b.member)
		return check(!strings.Contains(fmt.Sprint(m.Fields["Groups"]), "Board"), m.Fields["Groups"], err)
	},
	"novi.committee.list": func(b *bench) error {
		none, err := b.novi.Committees(b.ctx, live, time.Now().AddDate(0, 0, 2), time.Time{})
		if err != nil || len(none) != 0 {
			return check(false, none, err)
		}
		return names(b.novi.Committees(b.ctx, live, time.Now().AddDate(0, 0, -2), time.Now()))
	},
	"novi.committee.get": func(b *bench) error {
		c, err := b.novi.GetCommittee(b.ctx, live, committee)
		return check(c.Name == "Finance" && c.Active, c, err)
	},
	"novi.committee.members": func(b *bench) error { return names(b.novi.CommitteeMembers(b.ctx, live, committee)) },
	"novi.committee.member": func(b *bench) error {
		r, err := b.novi.GetCommitteeMember(b.ctx, live, committee, b.seat)
		return check(r.ID == b.seat && r.MemberID == b.member, r, err)
	},
	"novi.committee.add": func(b *bench) error {
		r, err := b.novi.CreateCommitteeMember(b.ctx, live, committee, b.second, nil)
		return check(r.ID != "" && b.novisim.Seats() == 2, r, err)
	},
	"novi.committee.update": func(b *bench) error {
		r, err := b.novi.UpdateCommitteeMember(b.ctx, live, committee, b.seat, map[string]any{"status": "Active"})
		return check(b.novisim.Stats().NulledSeats == 0 && strings.Contains(string(r.Raw), "keep me") && strings.Contains(string(r.Raw), `"Status":"Active"`), string(r.Raw), err)
	},
	"novi.committee.remove": func(b *bench) error {
		err := b.novi.DeleteCommitteeMember(b.ctx, live, committee, b.seat)
		return check(b.novisim.Seats() == 0, "", err)
	},
	"novi.committee.roles": func(b *bench) error { return names(b.novi.CommitteeRoles(b.ctx, live)) },
	"novi.field.list":      func(b *bench) error { return names(b.novi.CustomFields(b.ctx, live)) },
	"novi.field.values":    func(b *bench) error { return names(b.novi.MemberFields(b.ctx, live, b.member)) },
	"novi.field.get": func(b *bench) error {
		v, err := b.novi.GetMemberField(b.ctx, live, b.member, shirt)
		return check(v.CustomFieldName == "Shirt" && v.Value == nil, v, err)
	},
	"novi.field.put": func(b *bench) error {
		if err := b.novi.PutMemberField(b.ctx, live, b.member, shirt, "L"); err != nil {
			return err
		}
		v, err := b.novi.GetMemberField(b.ctx, live, b.member, shirt)
		return check(v.Value == "L", v, err)
	},
	"novi.webhook.list": func(b *bench) error { return names(b.novi.Webhooks(b.ctx, live)) },
	"novi.webhook.get": func(b *bench) error {
		h, err := b.novi.GetWebhook(b.ctx, live, b.hook)
		return check(h.URL == "https://example.org/hook" && h.Active && len(h.Actions) == 1, h, err)
	},
	"novi.webhook.create": func(b *bench) error {
		h, err := b.novi.CreateWebhook(b.ctx, live, "https://example.org/2", []string{"customer.created"})
		return check(h.ID != "", h, err)
	},
	"novi.webhook.update": func(b *bench) error {
		err := b.novi.UpdateWebhook(b.ctx, live, noviapi.Webhook{ID: b.hook, URL: "https://example.org/3", Actions: noviapi.Actions{"customer.removed"}})
		h, _ := b.novi.GetWebhook(b.ctx, live, b.hook)
		return check(h.URL == "https://example.org/3" && !h.Active, h, err)
	},
	"novi.webhook.delete": func(b *bench) error {
		err := b.novi.DeleteWebhook(b.ctx, live, b.hook)
		left, _ := b.novi.Webhooks(b.ctx, live)
		return check(len(left) == 0, left, err)
	},
	"novi.event.list": func(b *bench) error {
		all, err := b.novi.Events(b.ctx, live)
		return check(len(all) == 1 && all[0].ID == event, all, err)
	},
	"novi.event.get": func(b *bench) error {
		r, err := b.novi.GetEvent(b.ctx, live, event)
		return check(r.ID == event, r, err)
	},
	"novi.event.categories": func(b *bench) error { return names(b.novi.EventCategories(b.ctx, live)) },
	"novi.registration.list": func(b *bench) error {
		all, total, err := b.novi.Registrations(b.ctx, live, 0, 10)
		return check(total == 1 && all[0].ID == b.registration, all, err)
	},
	"novi.registration.get": func(b *bench) error {
		r, err := b.novi.GetRegistration(b.ctx, live, b.registration)
		return check(r.ID == b.registration, r, err)
	},
	"novi.attendee.list": func(b *bench) error {
		all, err := b.novi.Attendees(b.ctx, live, noviapi.AttendeesRequest{ModifiedSince: time.Now().AddDate(0, 0, -1)})
		return check(len(all) == 1 && all[0].ID != b.registration, all, err)
	},
}

// IDs returns the entries that can be done, sorted.
func IDs() []string { return slices.Sorted(maps.Keys(calls)) }

// Run does one entry with systems of its own and reports what is not as it
// should be. wrap, if it is not nil, stands before GHL. It returns the requests
// that were made, as "METHOD path".
func Run(t *testing.T, id string, wrap func(http.Handler) http.Handler) []string {
	t.Helper()
	b := setup(t, wrap)
	if err := calls[id](b); err != nil {
		t.Error(err)
	}
	return b.calls
}
