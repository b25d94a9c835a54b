package noviapi_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-json"
	"github.com/google/go-cmp/cmp"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/noviapi"
	"github.com/causeway-sync/causeway/internal/novisim"
)

func connect(t *testing.T, h http.Handler, change func(*noviapi.Config)) *noviapi.Client {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	conf := noviapi.Config{BaseURL: srv.URL, Clock: clock.System{}, HTTP: &http.Client{Timeout: 10 * time.Second},
		Key: func(context.Context) (string, error) { return "key", nil }}
	if change != nil {
		change(&conf)
	}
	return noviapi.New(conf)
}

// site is a simulated site with one member.
func site(t *testing.T) (sim *novisim.Server, memberID string) {
	t.Helper()
	sim, err := novisim.New(novisim.Config{Keys: []string{"key"}, Seed: 1, Timezone: time.UTC, PerSecond: 1000})
	if err != nil {
		t.Fatal(err)
	}
	if memberID, err = sim.Edit(novisim.Edit{Fields: map[string]any{"Name": "Ada"}}); err != nil {
		t.Fatal(err)
	}
	return sim, memberID
}

func body(t *testing.T, fields map[string]any) json.RawMessage {
	t.Helper()
	raw, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestAnActivitysLife(t *testing.T) {
	sim, ada := site(t)
	c := connect(t, sim.Handler(), nil)
	ctx := t.Context()

	made, err := c.CreateActivity(ctx, budget.Live, body(t, map[string]any{"MemberUniqueId": ada, "ActivityType": "task", "Subject": "Call", "Notes": "<p>x</p>"}))
	if err != nil || len(made.Raw) != 0 || made.ID != sim.Activities()[0].UniqueID {
		t.Fatalf("create: got %+v, %v", made, err)
	}
	read, err := c.GetActivityToPut(ctx, budget.Live, made.ID)
	if err != nil || read.ID != made.ID || read.MemberID != ada || read.Type != "Task" || !read.Modified.IsZero() || read.ReadBegan.IsZero() {
		t.Fatalf("read: got %+v, %v", read, err)
	}
	var fields map[string]any
	if err := json.Unmarshal(read.Raw, &fields); err != nil {
		t.Fatal(err)
	}
	fields["TaskComplete"] = true
	put, err := c.PutActivity(ctx, budget.Live, made.ID, body(t, fields))
	if err != nil || put.ID != made.ID {
		t.Fatalf("put: got %+v, %v", put, err)
	}
	if f := sim.Activities()[0].Fields; f["TaskComplete"] != true || f["Notes"] != "<p>x</p>" || sim.Stats().NulledActivities != 0 {
		t.Errorf("after the put: %v, %d nulled", f, sim.Stats().NulledActivities)
	}
	if err := c.DeleteActivity(ctx, budget.Live, made.ID); err != nil || len(sim.Activities()) != 0 {
		t.Errorf("delete: %v, %d are left", err, len(sim.Activities()))
	}
	_, getErr := c.GetActivity(ctx, budget.Live, made.ID)
	_, putErr := c.PutActivity(ctx, budget.Live, made.ID, body(t, fields))
	for op, err := range map[string]error{"get": getErr, "put": putErr, "delete": c.DeleteActivity(ctx, budget.Live, made.ID)} {
		if got := apierr.ClassOf(err); got != apierr.Gone {
			t.Errorf("%s of what is gone: got %v", op, err)
		}
	}
}

func TestListActivities(t *testing.T) {
	sim, ada := site(t)
	c := connect(t, sim.Handler(), nil)
	day := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	var ids []string
	for i := range 7 {
		id, err := sim.EditItem(novisim.ItemEdit{Op: novisim.OpCreate, MemberID: ada, Fields: map[string]any{"ActivityType": "Note", "Date": day.AddDate(0, 0, i).Format(time.RFC3339)}})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	tests := []struct {
		name  string
		ask   noviapi.ActivityRequest
		total int
		want  []string
	}{
		{"a page", noviapi.ActivityRequest{Offset: 2, PageSize: 3}, 7, ids[2:5]},
		{"past the end", noviapi.ActivityRequest{Offset: 7, PageSize: 3}, 7, nil},
		{"from", noviapi.ActivityRequest{PageSize: 9, From: day.AddDate(0, 0, 5)}, 2, ids[5:]},
		{"to", noviapi.ActivityRequest{PageSize: 9, To: day.AddDate(0, 0, 1)}, 2, ids[:2]},
		{"a window", noviapi.ActivityRequest{PageSize: 9, From: day.AddDate(0, 0, 1), To: day.AddDate(0, 0, 3)}, 3, ids[1:4]},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			page, err := c.ListActivities(t.Context(), budget.Poll, tt.ask)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, a := range page.Activities {
				got = append(got, a.ID)
				if a.MemberID != ada || a.Type != "Note" {
					t.Errorf("got %+v", a)
				}
			}
			if page.TotalCount != tt.total || !cmp.Equal(got, tt.want) {
				t.Errorf("got %d %v, want %d %v", page.TotalCount, got, tt.total, tt.want)
			}
		})
	}
}

// answer is a site that always says the same.
func answer(status int, header, body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if header != "" {
			w.Header().Set("Location", header)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body) // the client has gone
	})
}

func TestShapesOfLists(t *testing.T) {
	tests := []struct {
		name, body string
		total      int
		want       []string // ids
		class      apierr.Class
	}{
		{"envelope", `{"TotalCount":9,"Results":[{"UniqueID":"a"},{"UniqueID":"b"}]}`, 9, []string{"a", "b"}, 0},
		{"envelope without a count", `{"Results":[{"UniqueID":"a"}]}`, -1, []string{"a"}, 0},
		{"empty envelope", `{"TotalCount":0,"Results":[]}`, 0, nil, 0},
		{"results are null", `{"TotalCount":0,"Results":null}`, 0, nil, 0},
		{"bare array", ` [{"UniqueID":"a"},{"uniqueId":"b"}]`, -1, []string{"a", "b"}, 0},
		{"empty array", `[]`, -1, nil, 0},
		{"single object", `{"UniqueID":"a","Subject":"x"}`, -1, []string{"a"}, 0},
		{"wrapped object", `{"data":{"UniqueID":"a"}}`, -1, []string{"a"}, 0},
		{"object that is no record", `{"Message":"x"}`, 0, nil, apierr.Retry},
		{"an element without an id", `{"TotalCount":1,"Results":[{"Subject":"x"}]}`, 0, nil, apierr.Retry},
		{"cut off", `{"TotalCount":1,"Results":[{"Uniq`, 0, nil, apierr.Retry},
		{"nothing", ``, 0, nil, apierr.Retry},
		{"null", `null`, 0, nil, apierr.Retry},
		{"a page of HTML", `<html></html>`, 0, nil, apierr.Retry},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := connect(t, answer(200, "", tt.body), nil)
			page, err := c.ListActivities(t.Context(), budget.Poll, noviapi.ActivityRequest{PageSize: 5})
			var got []string
			for _, a := range page.Activities {
				got = append(got, a.ID)
			}
			if apierr.ClassOf(err) != tt.class || page.TotalCount != tt.total || !cmp.Equal(got, tt.want) {
				t.Errorf("got %d %v, %v", page.TotalCount, got, err)
			}
		})
	}
}

func TestSpellings(t *testing.T) {
	for _, raw := range []string{
		`{"UniqueID":"a","MemberUniqueId":"m","ActivityType":"Note"}`,
		`{"UniqueId":"a","MemberUniqueID":"m","activityType":"Note"}`,
		`{"uniqueID":"a","memberUniqueId":"m","ActivityType":"Note","MemberName":null}`,
	} {
		r, err := connect(t, answer(200, "", raw), nil).GetActivity(t.Context(), budget.Live, "a")
		if err != nil || r.ID != "a" || r.MemberID != "m" || r.Type != "Note" || string(r.Raw) != raw {
			t.Errorf("%s: got %+v, %v", raw, r, err)
		}
	}
}

func TestWhereANewIDIs(t *testing.T) {
	const id = "11111111-1111-4111-8111-111111111111"
	tests := []struct {
		name, location, body string
		want                 string
		class                apierr.Class
	}{
		{"in the body", "", `{"UniqueID":"` + id + `"}`, id, 0},
		{"in the header", "https://example.org/api/activities/" + id, ``, id, 0},
		{"at the end of the header", "/sites/22222222-2222-4222-8222-222222222222/activities/" + id + "?x=1", `{}`, id, 0},
		{"nowhere", "/api/activities", ``, "", apierr.Ambiguous},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := connect(t, answer(201, tt.location, tt.body), nil).CreateActivity(t.Context(), budget.Live, json.RawMessage(`{}`))
			if r.ID != tt.want || apierr.ClassOf(err) != tt.class {
				t.Errorf("got %+v, %v", r, err)
			}
		})
	}
}

func TestActivityTypes(t *testing.T) {
	t.Run("as the simulator has them", func(t *testing.T) {
		sim, _ := site(t)
		types, err := connect(t, sim.Handler(), nil).ActivityTypes(t.Context(), budget.Poll)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]bool{}
		for _, ty := range types {
			got[ty.Name] = ty.Task
			if ty.UniqueID == "" || ty.Slug == "" || !ty.Active || ty.SystemType != (ty.Name != "Onboarding step") {
				t.Errorf("got %+v", ty)
			}
		}
		if want := map[string]bool{"Note": false, "Call": false, "Email": false, "Meeting": false, "Task": true, "Onboarding step": true}; !cmp.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
	t.Run("of several pages", func(t *testing.T) {
		pages := map[string]string{"0": `{"TotalCount":3,"Results":[{"UniqueID":"1","Name":"a"},{"UniqueID":"2","Name":"b","Active":false}]}`,
			"2": `{"TotalCount":3,"Results":[{"UniqueID":"3","Name":"c"}]}`}
		c := connect(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, pages[r.URL.Query().Get("offset")])
		}), nil)
		got, err := c.ActivityTypes(t.Context(), budget.Poll)
		want := []noviapi.ActivityType{{UniqueID: "1", Name: "a", Active: true}, {UniqueID: "2", Name: "b"}, {UniqueID: "3", Name: "c", Active: true}}
		if err != nil || !cmp.Equal(got, want) {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	})
	shapes := []struct {
		name, body string
		want       int
		class      apierr.Class
	}{
		{"bare array", `[{"UniqueID":"1","Name":"a"}]`, 1, 0},
		{"the offset is not heeded", `{"TotalCount":5,"Results":[{"UniqueID":"1","Name":"a"}]}`, 1, 0},
		{"no name", `[{"UniqueID":"1"}]`, 0, apierr.Retry},
		{"no list", `{}`, 0, apierr.Retry},
	}
	for _, tt := range shapes {
		t.Run(tt.name, func(t *testing.T) {
			got, err := connect(t, answer(200, "", tt.body), nil).ActivityTypes(t.Context(), budget.Poll)
			if len(got) != tt.want || apierr.ClassOf(err) != tt.class {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

func TestAbsentPathsAreNotCalled(t *testing.T) {
	called := false
	c := connect(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called = true }), func(conf *noviapi.Config) {
		conf.Paths = noviapi.Paths{"activities": "", "activity": "", "activity_types": ""}
	})
	ctx := t.Context()
	calls := map[string]func() error{
		"list":   func() error { _, err := c.ListActivities(ctx, budget.Poll, noviapi.ActivityRequest{}); return err },
		"get":    func() error { _, err := c.GetActivity(ctx, budget.Live, "a"); return err },
		"to put": func() error { _, err := c.GetActivityToPut(ctx, budget.Live, "a"); return err },
		"put":    func() error { _, err := c.PutActivity(ctx, budget.Live, "a", nil); return err },
		"create": func() error { _, err := c.CreateActivity(ctx, budget.Live, nil); return err },
		"delete": func() error { return c.DeleteActivity(ctx, budget.Live, "a") },
		"types":  func() error { _, err := c.ActivityTypes(ctx, budget.Live); return err },
	}
	for name, call := range calls {
		if err := call(); apierr.ClassOf(err) != apierr.Invalid || !strings.Contains(err.Error(), "no path is configured") || called {
			t.Errorf("%s: got %v, called %v", name, err, called)
		}
	}
}

// still is a clock that stands, so that the day of a budget doesn't end.
type still struct{ clock.System }

func (still) Now() time.Time { return time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC) }

// TestAPutIsPaidFor has a budget of two calls: the read takes both.
func TestAPutIsPaidFor(t *testing.T) {
	sim, ada := site(t)
	id, err := sim.EditItem(novisim.ItemEdit{Op: novisim.OpCreate, MemberID: ada, Fields: map[string]any{"ActivityType": "Note"}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := budget.New(still{}, budget.Limits{Daily: 2})
	if err != nil {
		t.Fatal(err)
	}
	c := connect(t, sim.Handler(), func(conf *noviapi.Config) { conf.Budget = b })
	read, err := c.GetActivityToPut(t.Context(), budget.Live, id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.PutActivity(t.Context(), budget.Live, id, read.Raw); err != nil {
		t.Errorf("the put: %v", err)
	}
	if _, err := c.GetActivity(t.Context(), budget.Live, id); apierr.ClassOf(err) != apierr.Wait {
		t.Errorf("a third call: %v", err)
	}
}
