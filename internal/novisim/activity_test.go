package novisim_test

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goccy/go-json"
	"github.com/google/go-cmp/cmp"

	"github.com/causeway-sync/causeway/internal/novisim"
)

// item makes an activity as a person.
func (s *site) item(member string, fields map[string]any) string {
	s.t.Helper()
	fields = maps.Clone(fields)
	if fields["ActivityType"] == nil {
		fields["ActivityType"] = "Note"
	}
	id, err := s.EditItem(novisim.ItemEdit{Op: novisim.OpCreate, MemberID: member, Fields: fields})
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

func (s *site) last() novisim.LedgerEntry {
	l := s.Ledger()
	return l[len(l)-1]
}

func TestAnActivitysLife(t *testing.T) {
	s := setup(t, func(c *novisim.Config) { c.Timezone = time.FixedZone("", -5*3600) })
	ada := s.person(map[string]any{"Name": "Ada"})
	boss := s.person(map[string]any{"Name": "Boss"})
	status, body := s.call("POST", "/api/activities", map[string]any{"MemberUniqueId": ada, "ActivityType": "onboarding-step", "Subject": "Call her",
		"Date": "2026-11-05", "Notes": "<p>at noon</p> ", "AssignedToMemberUniqueId": boss, "MemberName": "read-only", "Nonsense": 1})
	id, found := strings.CutPrefix(s.header.Get("Location"), "/api/activities/")
	if status != http.StatusCreated || body != nil || !found {
		t.Fatalf("create: got %d %v, Location %q", status, body, s.header.Get("Location"))
	}
	if e := s.last(); e.Kind != novisim.KindActivity || e.Op != novisim.OpCreate || e.Actor != novisim.ActorAPI || e.RecordID != id || e.MemberID != ada {
		t.Errorf("ledger: %+v", e)
	}
	_, got := s.call("GET", "/api/activities/"+id, nil)
	want := map[string]any{"UniqueID": id, "MemberUniqueId": ada, "MemberName": "Ada", "ActivityType": "Onboarding step", "Subject": "Call her",
		"Date": "2026-11-05T00:00:00-05:00", "Notes": "<p>at noon</p> ", "ContactMemberUniqueId": nil, "ContactMemberName": nil,
		"AssignedToMemberUniqueId": boss, "AssignedToMemberName": "Boss", "TaskComplete": false, "TaskCompletedDate": nil,
		"ContinuingEducationUnits": nil, "CreditsPossible": nil, "CEUTypes": nil, "InstructorMemberUniqueIds": nil}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatalf("as read (-want +got):\n%s", d)
	}

	t.Run("what was read and is put back changes nothing", func(t *testing.T) {
		if status, _ := s.call("PUT", "/api/activities/"+id, got); status != http.StatusOK {
			t.Fatalf("got %d", status)
		}
		if e := s.last(); e.Op != novisim.OpUpdate || len(e.Changes) != 0 {
			t.Errorf("ledger: %+v", e)
		}
		if n := s.Stats().NulledActivities; n != 0 {
			t.Errorf("%d PUTs nulled something", n)
		}
	})
	t.Run("an absent key is nulled, and counted", func(t *testing.T) {
		part := maps.Clone(got)
		delete(part, "Notes")
		delete(part, "AssignedToMemberUniqueId")
		delete(part, "TaskComplete") // false already: nothing is lost
		status, now := s.call("PUT", "/api/activities/"+id, part)
		if status != http.StatusOK || now["Notes"] != nil || now["AssignedToMemberUniqueId"] != nil || now["Subject"] != "Call her" {
			t.Errorf("got %d %v", status, now)
		}
		delete(part, "ContactMemberUniqueId")
		s.call("PUT", "/api/activities/"+id, part) // nothing is left to lose
		if n := s.Stats().NulledActivities; n != 1 {
			t.Errorf("counted %d times", n)
		}
	})
	t.Run("deleted", func(t *testing.T) {
		if status, _ := s.call("DELETE", "/api/activities/"+id, nil); status != http.StatusNoContent {
			t.Errorf("got %d", status)
		}
		for _, method := range []string{"GET", "PUT", "DELETE"} {
			if status, _ := s.call(method, "/api/activities/"+id, got); status != http.StatusNotFound {
				t.Errorf("%s: got %d", method, status)
			}
		}
		if e := s.last(); e.Op != novisim.OpDelete || e.RecordID != id || e.MemberID != ada {
			t.Errorf("ledger: %+v", e)
		}
	})
}

func TestActivityRefusals(t *testing.T) {
	s := setup(t, func(c *novisim.Config) { c.SystemActivities = true })
	ada := s.person(map[string]any{})
	own := s.Activities()[0].UniqueID
	note := s.item(ada, map[string]any{"Subject": "x"})
	with := func(key string, v any) map[string]any {
		body := map[string]any{"MemberUniqueId": ada, "ActivityType": "Note", "Subject": "x", key: v}
		if v == nil {
			delete(body, key)
		}
		return body
	}
	tests := []struct {
		name, method, path string
		body               any
		want               int
	}{
		{"no subject", "POST", "", with("Subject", nil), 400},
		{"blank subject", "POST", "", with("Subject", " "), 400},
		{"put without a subject", "PUT", "/" + note, with("Subject", nil), 400},
		{"no member", "POST", "", with("MemberUniqueId", nil), 400},
		{"unknown member", "POST", "", with("MemberUniqueId", "nobody"), 400},
		{"put on an unknown member", "PUT", "/" + note, with("MemberUniqueId", "nobody"), 400},
		{"no type", "POST", "", with("ActivityType", nil), 400},
		{"unknown type", "POST", "", with("ActivityType", "Errand"), 400},
		{"date that is none", "POST", "", with("Date", "soon"), 400},
		{"completion that is no bool", "POST", "", with("TaskComplete", "yes"), 400},
		{"notes that are no text", "POST", "", with("Notes", 1), 400},
		{"no JSON object", "POST", "", []int{1}, 400},
		{"put of no JSON object", "PUT", "/" + note, []int{1}, 400},
		{"unknown activity", "GET", "/nothing", nil, 404},
		{"put of a system activity", "PUT", "/" + own, with("Notes", "y"), 403},
		{"delete of a system activity", "DELETE", "/" + own, nil, 403},
		{"dateFrom that is none", "GET", "?dateFrom=soon", nil, 400},
		{"delete of all", "DELETE", "", nil, 405},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := len(s.Ledger())
			status, body := s.call(tt.method, "/api/activities"+tt.path, tt.body)
			if status != tt.want || body["Message"] == nil {
				t.Errorf("got %d %v, want %d", status, body, tt.want)
			}
			if len(s.Ledger()) != before {
				t.Error("something was changed all the same")
			}
		})
	}
	t.Run("a system activity is read like any other", func(t *testing.T) {
		status, got := s.call("GET", "/api/activities/"+own, nil)
		if status != http.StatusOK || got["MemberUniqueId"] != ada || s.Ledger()[1].Actor != novisim.ActorSystem {
			t.Errorf("got %d %v", status, got)
		}
		_, types := s.call("GET", "/api/custom-activity-types", nil)
		for _, v := range types["Results"].([]any) {
			if v.(map[string]any)["Name"] == got["ActivityType"] {
				t.Error("its type is one that activities may be given")
			}
		}
	})
}

func TestCompletion(t *testing.T) {
	now, earlier := "2026-11-01T15:00:00+00:00", "2026-10-01T00:00:00+00:00"
	tests := []struct {
		name           string
		before, fields map[string]any
		want           any
	}{
		{"complete without a date", nil, map[string]any{"TaskComplete": true}, now},
		{"complete with a date", nil, map[string]any{"TaskComplete": true, "TaskCompletedDate": earlier}, earlier},
		{"not complete, with a date", nil, map[string]any{"TaskCompletedDate": earlier}, nil},
		{"edited after", map[string]any{"TaskComplete": true, "TaskCompletedDate": earlier}, map[string]any{"Notes": "x"}, earlier},
		{"taken back", map[string]any{"TaskComplete": true, "TaskCompletedDate": earlier}, map[string]any{"TaskComplete": false}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := setup(t, nil)
			before := map[string]any{"ActivityType": "Task"}
			maps.Copy(before, tt.before)
			id := s.item(s.person(map[string]any{}), before)
			if _, err := s.EditItem(novisim.ItemEdit{Op: novisim.OpUpdate, ID: id, Fields: tt.fields}); err != nil {
				t.Fatal(err)
			}
			_, read := s.call("GET", "/api/activities/"+id, nil)
			if got := read["TaskCompletedDate"]; got != tt.want {
				t.Errorf("by a person: got %v, want %v", got, tt.want)
			}
			maps.Copy(read, map[string]any{"TaskComplete": false, "TaskCompletedDate": nil})
			maps.Copy(read, tt.before)
			maps.Copy(read, tt.fields)
			_, put := s.call("PUT", "/api/activities/"+id, read)
			if got := put["TaskCompletedDate"]; got != tt.want {
				t.Errorf("by a PUT: got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestActivityListing(t *testing.T) {
	s := setup(t, nil)
	ada := s.person(map[string]any{})
	var ids []string
	for i := range 60 {
		ids = append(ids, s.item(ada, map[string]any{"Date": time.Date(2026, 11, 1, 9, 0, 0, 0, time.UTC).AddDate(0, 0, i).Format(time.RFC3339)}))
	}
	ids = append(ids, s.item(ada, map[string]any{"Date": nil}))
	tests := []struct {
		name, query string
		total       int
		want        []string
	}{
		{"a page has 50 unless it is told", "", 61, ids[:50]},
		{"from the middle", "pageSize=3&offset=4", 61, ids[4:7]},
		{"the last page is short", "pageSize=50&offset=50", 61, ids[50:]},
		{"after the last", "pageSize=5&offset=61", 61, []string{}},
		{"a huge offset", "pageSize=5&offset=9223372036854775807", 61, []string{}},
		{"both days are in it, whole", "dateFrom=2026-11-03T23:00:00Z&dateTo=2026-11-05T01:00:00Z", 3, ids[2:5]},
		{"one without a date is in no window", "dateFrom=12/29/2026", 2, ids[58:60]},
		{"up to a day", "dateTo=2026-11-02", 2, ids[:2]},
		{"a window is paged too", "dateTo=2026-11-10&pageSize=4&offset=8", 10, ids[8:10]},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, out := s.call("GET", "/api/activities?"+tt.query, nil)
			got := []string{}
			for _, a := range out["Results"].([]any) {
				got = append(got, a.(map[string]any)["UniqueID"].(string))
			}
			if out["TotalCount"] != float64(tt.total) || !cmp.Equal(got, tt.want) {
				t.Errorf("got %v %v, want %d %v", out["TotalCount"], got, tt.total, tt.want)
			}
		})
	}
	t.Run("more than 1000 are never on a page", func(t *testing.T) {
		for range 1000 {
			s.item(ada, map[string]any{})
		}
		_, out := s.call("GET", "/api/activities?pageSize=5000", nil)
		if got := len(out["Results"].([]any)); got != 1000 {
			t.Errorf("got %d", got)
		}
	})
}

func TestActivityTypes(t *testing.T) {
	s := setup(t, nil)
	_, out := s.call("GET", "/api/custom-activity-types?offset=3", nil)
	got := map[string]any{}
	for _, v := range out["Results"].([]any) {
		f := v.(map[string]any)
		got[f["Name"].(string)] = []any{f["Slug"], f["Active"], f["SystemType"], f["Task"]}
	}
	want := map[string]any{"Meeting": []any{"meeting", true, true, false}, "Task": []any{"task", true, true, true}, "Onboarding step": []any{"onboarding-step", true, false, true}}
	if d := cmp.Diff(want, got); d != "" || out["TotalCount"] != float64(6) {
		t.Errorf("%v in all (-want +got):\n%s", out["TotalCount"], d)
	}
}

func TestActivityAfterALostAnswer(t *testing.T) {
	s := setup(t, nil)
	ada := s.person(map[string]any{})
	s.SetFaults(novisim.Faults{ResetAfterCommit: 1})
	raw := `{"MemberUniqueId":"` + ada + `","ActivityType":"Note","Subject":"x"}`
	req, err := http.NewRequest(http.MethodPost, s.url+"/api/activities", strings.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Basic key")
	if res, err := http.DefaultClient.Do(req); err == nil {
		_ = res.Body.Close()
		t.Errorf("there was an answer: %d", res.StatusCode)
	}
	if got := len(s.Activities()); got != 1 {
		t.Errorf("%d activities", got)
	}
}

// replay makes activities of a ledger.
func replay(entries []novisim.LedgerEntry) map[string]map[string]any {
	out := map[string]map[string]any{}
	for _, e := range entries {
		if e.Kind != novisim.KindActivity {
			continue
		}
		if e.Op == novisim.OpDelete {
			delete(out, e.RecordID)
			continue
		}
		if out[e.RecordID] == nil {
			out[e.RecordID] = map[string]any{}
		}
		for _, c := range e.Changes {
			if out[e.RecordID][c.Field] = c.To; c.To == nil {
				delete(out[e.RecordID], c.Field)
			}
		}
	}
	return out
}

func TestTheLedgerReplaysToTheActivities(t *testing.T) {
	s := setup(t, func(c *novisim.Config) { c.SystemActivities = true })
	var people []string
	for range 4 {
		people = append(people, s.person(map[string]any{}))
	}
	var items []string
	for i := range 20 {
		kind := []string{"Note", "Task", "Meeting"}[i%3]
		items = append(items, s.item(people[i%4], map[string]any{"ActivityType": kind, "Notes": "n" + strconv.Itoa(i), "AssignedToMemberUniqueId": people[(i+1)%4]}))
	}
	for _, id := range items[:6] {
		if _, err := s.EditItem(novisim.ItemEdit{Op: novisim.OpUpdate, ID: id, Fields: map[string]any{"TaskComplete": true, "Notes": nil}}); err != nil {
			t.Fatal(err)
		}
	}
	_, read := s.call("GET", "/api/activities/"+items[7], nil)
	delete(read, "AssignedToMemberUniqueId")
	read["Subject"], read["CEUTypes"] = "Other", []any{"a"}
	s.call("PUT", "/api/activities/"+items[7], read)
	delete(read, "CEUTypes")
	s.call("PUT", "/api/activities/"+items[7], read)
	s.call("DELETE", "/api/activities/"+items[8], nil)
	if _, err := s.EditItem(novisim.ItemEdit{Op: novisim.OpDelete, ID: items[9]}); err != nil {
		t.Fatal(err)
	}
	if err := s.Merge(people[0], people[1]); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Edit(novisim.Edit{MemberID: people[2], Remove: true}); err != nil {
		t.Fatal(err)
	}
	want := map[string]map[string]any{}
	for _, a := range s.Activities() {
		if a.MemberID == people[1] || a.MemberID == people[2] || a.MemberID != a.Fields["MemberUniqueId"] {
			t.Errorf("%s sits on %s", a.UniqueID, a.MemberID)
		}
		want[a.UniqueID] = map[string]any{}
		for f, v := range a.Fields {
			if v != nil && f != "UniqueID" && !strings.HasSuffix(f, "Name") {
				want[a.UniqueID][f] = v
			}
		}
	}
	if d := cmp.Diff(want, replay(s.Ledger())); d != "" || len(want) < 10 {
		t.Errorf("%d activities; ledger (-dump +replay):\n%s", len(want), d)
	}
	for i, e := range s.Ledger() {
		if e.Seq != int64(i+1) || e.RecordID == "" || e.MemberID == "" || e.Kind == novisim.KindMember && e.RecordID != e.MemberID {
			t.Errorf("entry %d: %+v", i, e)
		}
	}
}

func TestItemEdits(t *testing.T) {
	s := setup(t, func(c *novisim.Config) { c.SystemActivities = true })
	ada := s.person(map[string]any{})
	own := s.Activities()[0].UniqueID
	note := s.item(ada, map[string]any{})
	if f := s.Activities()[1].Fields; f["Subject"] != "Note" || f["Date"] != "2026-11-01T15:00:00+00:00" {
		t.Errorf("what the form starts with: %v", f)
	}
	tests := []struct {
		name string
		edit novisim.ItemEdit
		want error
	}{
		{"on nobody", novisim.ItemEdit{Op: novisim.OpCreate, MemberID: "nobody", Fields: map[string]any{"ActivityType": "Note"}}, novisim.ErrNotFound},
		{"without a type", novisim.ItemEdit{Op: novisim.OpCreate, MemberID: ada}, novisim.ErrInvalid},
		{"new, with a field that is not there", novisim.ItemEdit{Op: novisim.OpCreate, MemberID: ada, Fields: map[string]any{"ActivityType": "Note", "Body": "x"}}, novisim.ErrInvalid},
		{"a field that is not there", novisim.ItemEdit{Op: novisim.OpUpdate, ID: note, Fields: map[string]any{"Body": "x"}}, novisim.ErrInvalid},
		{"an activity that is not there", novisim.ItemEdit{Op: novisim.OpUpdate, ID: "nothing"}, novisim.ErrNotFound},
		{"Novi's own", novisim.ItemEdit{Op: novisim.OpDelete, ID: own}, novisim.ErrInvalid},
		{"an op that is none", novisim.ItemEdit{Op: "paint", ID: note}, novisim.ErrInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := len(s.Ledger())
			if _, err := s.EditItem(tt.edit); !errors.Is(err, tt.want) || len(s.Ledger()) != before {
				t.Errorf("got %v, want %v; %d changes", err, tt.want, len(s.Ledger())-before)
			}
		})
	}
	t.Run("over HTTP", func(t *testing.T) {
		status, out := s.call("POST", "/_sim/item", map[string]any{"op": "create", "memberId": ada, "fields": map[string]any{"ActivityType": "Call"}})
		if a := s.Activities()[2]; status != http.StatusOK || out["id"] != a.UniqueID || a.Fields["ActivityType"] != "Call" || s.last().Actor != novisim.ActorHuman {
			t.Errorf("got %d %v, and %v", status, out, a)
		}
		if status, _ := s.call("POST", "/_sim/item", map[string]any{"op": "delete", "id": "nothing"}); status != http.StatusBadRequest {
			t.Errorf("got %d", status)
		}
	})
}

func TestMerge(t *testing.T) {
	var mu sync.Mutex
	events := map[string]int{}
	arrived := make(chan struct{}, 16)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var e struct{ Event, EntityUniqueID string }
		if json.NewDecoder(r.Body).Decode(&e) == nil {
			mu.Lock()
			defer mu.Unlock()
			events[e.Event+" "+e.EntityUniqueID]++
		}
		arrived <- struct{}{}
	}))
	defer receiver.Close()
	s := setup(t, func(c *novisim.Config) {
		c.Webhook.MinDelay, c.Webhook.MaxDelay = time.Millisecond, 2*time.Millisecond
	})
	winner := s.person(map[string]any{"Name": "Ada", "Email": "ada@example.org", "JobTitle": "Guide"})
	loser := s.person(map[string]any{"Name": "Ada L", "Email": "other@example.org", "Mobile": "+12025550143", "BillingAddress.City": "Ouray", "CustomFields.GHL Tags": "board"})
	gone := s.person(map[string]any{"Active": false})
	company := s.person(map[string]any{"CustomerType": "Company"})
	note := s.item(loser, map[string]any{"Notes": "kept"})
	task := s.item(winner, map[string]any{"ActivityType": "Task", "AssignedToMemberUniqueId": loser})

	refusals := []struct {
		name          string
		winner, loser string
		want          error
	}{
		{"a deactivated winner", gone, loser, novisim.ErrInvalid},
		{"no winner", "nobody", loser, novisim.ErrNotFound},
		{"no loser", winner, "nobody", novisim.ErrNotFound},
		{"with itself", winner, winner, novisim.ErrInvalid},
		{"a person and a company", winner, company, novisim.ErrInvalid},
	}
	for _, tt := range refusals {
		t.Run(tt.name, func(t *testing.T) {
			before := len(s.Ledger())
			if err := s.Merge(tt.winner, tt.loser); !errors.Is(err, tt.want) || len(s.Ledger()) != before {
				t.Errorf("got %v, want %v; %d changes", err, tt.want, len(s.Ledger())-before)
			}
		})
	}

	before := len(s.Ledger())
	s.SetWebhookURL(receiver.URL)
	if status, out := s.call("POST", "/_sim/merge", map[string]any{"winner": winner, "loser": loser}); status != http.StatusOK {
		t.Fatalf("got %d %v", status, out)
	}
	if status, _ := s.call("GET", "/api/members/"+loser, nil); status != http.StatusNotFound {
		t.Errorf("the loser: got %d", status)
	}
	m, _ := s.Member(winner)
	got := []any{m.Fields["Name"], m.Fields["Email"], m.Fields["JobTitle"], m.Fields["Mobile"], m.Fields["BillingAddress"].(map[string]any)["City"],
		m.Fields["CustomFields"].(map[string]any)["GHL Tags"].(map[string]any)["Value"]}
	if want := []any{"Ada", "ada@example.org", "Guide", "(202) 555-0143", "Ouray", "board"}; !cmp.Equal(got, want) {
		t.Errorf("the winner: got %v, want %v", got, want)
	}
	for _, a := range s.Activities() {
		if a.MemberID != winner || a.UniqueID == task && a.Fields["AssignedToMemberUniqueId"] != winner {
			t.Errorf("an activity: %+v", a)
		}
	}
	var entries []string
	for _, e := range s.Ledger()[before:] {
		entries = append(entries, e.Op+" "+e.Kind+" "+e.RecordID+" on "+e.MemberID+" by "+e.Actor)
	}
	want := []string{"update activity " + note + " on " + winner + " by human", "update activity " + task + " on " + winner + " by human",
		"delete member " + loser + " on " + loser + " by human", "update member " + winner + " on " + winner + " by human"}
	if d := cmp.Diff(want, entries); d != "" {
		t.Errorf("ledger (-want +got):\n%s", d)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	pending := s.PendingWebhooks()
	go func() { done <- s.Run(ctx) }()
	for range pending {
		<-arrived
	}
	cancel()
	<-done
	mu.Lock()
	defer mu.Unlock()
	if want := map[string]int{"customer.removed " + loser: 1, "customer.updated " + winner: 1}; !cmp.Equal(events, want) {
		t.Errorf("events: got %v, want %v", events, want)
	}
}

func TestWebhookRegistry(t *testing.T) {
	s := setup(t, nil)
	status, made := s.call("POST", "/api/webhooks", map[string]any{"Url": "https://example.org/hook", "Actions": []string{"customer.updated"}})
	id, _ := made["WebhookUniqueId"].(string)
	if want := map[string]any{"WebhookUniqueId": id, "Url": "https://example.org/hook", "Actions": []any{"customer.updated"}, "Active": true}; status != http.StatusCreated || id == "" || !cmp.Equal(made, want) {
		t.Fatalf("create: got %d %v, want %v", status, made, want)
	}
	want := map[string]any{"WebhookUniqueId": id, "Url": "https://example.org/other", "Actions": []any{"customer.removed"}, "Active": false}
	put := maps.Clone(want)
	put["WebhookUniqueId"] = "another"
	delete(put, "Active") // a PUT replaces
	if status, got := s.call("PUT", "/api/webhooks/"+id, put); status != http.StatusOK || !cmp.Equal(got, want) {
		t.Errorf("put: got %d %v, want %v", status, got, want)
	}
	if _, got := s.call("GET", "/api/webhooks/"+id, nil); !cmp.Equal(got, want) {
		t.Errorf("read: got %v, want %v", got, want)
	}
	refusals := []struct {
		name string
		body any
	}{
		{"no url", map[string]any{"Actions": []string{"customer.updated"}}},
		{"a url that is none", map[string]any{"Url": "hook", "Actions": []string{"customer.updated"}}},
		{"no actions", map[string]any{"Url": "https://example.org/hook"}},
		{"an unknown action", map[string]any{"Url": "https://example.org/hook", "Actions": []string{"activity.created"}}},
		{"no JSON object", []int{1}},
	}
	for _, tt := range refusals {
		t.Run(tt.name, func(t *testing.T) {
			for method, path := range map[string]string{"POST": "/api/webhooks", "PUT": "/api/webhooks/" + id} {
				if status, _ := s.call(method, path, tt.body); status != http.StatusBadRequest {
					t.Errorf("%s: got %d", method, status)
				}
			}
		})
	}
	count := func() int {
		req, err := http.NewRequest(http.MethodGet, s.url+"/api/webhooks", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Basic key")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		var list []map[string]any
		if err := json.NewDecoder(res.Body).Decode(&list); err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	if got := count(); got != 1 {
		t.Errorf("%d are registered", got)
	}
	if status, _ := s.call("DELETE", "/api/webhooks/"+id, nil); status != http.StatusNoContent || count() != 0 {
		t.Errorf("delete: got %d, %d are left", status, count())
	}
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		if status, _ := s.call(method, "/api/webhooks/"+id, put); status != http.StatusNotFound {
			t.Errorf("%s of what is gone: got %d", method, status)
		}
	}
}
