package ghlsim_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/goccy/go-json"
	"github.com/google/go-cmp/cmp"

	"github.com/causeway-sync/causeway/internal/endpoint"
	"github.com/causeway-sync/causeway/internal/ghlapi"
	"github.com/causeway-sync/causeway/internal/ghlsim"
)

var (
	soakCalls = flag.Int("soak", 4000, "how many random calls TestSoak makes")
	soakSeed  = flag.Uint64("soak.seed", 1, "what TestSoak's calls follow from")
)

// bodies are what random calls send, by a word of the client's method; some
// are wrong.
var bodies = map[string][]string{
	"Contact": {`{"locationId":"loc1","firstName":"Ada","email":"$L@x.org","tags":["a","B"]}`, `{"city":"Bern","customFields":[{"id":"cf1","field_value":"$L"}]}`,
		`{"email":"$L@x.org"}`, `{"tags":["c"],"dnd":true}`, `{"locationId":"loc1","email":"$L@x.org","city":null}`, `{"phone":"+1512555010$N"}`},
	"Search":      {`{"locationId":"loc1","pageLimit":5}`, `{"locationId":"loc1","pageLimit":3,"query":"ada","sort":[{"field":"dateUpdated","direction":"asc"}]}`, `{"limit":3}`},
	"Tags":        {`{"tags":["a","D"]}`, `{"contacts":["$C"],"tags":["e"],"locationId":"loc1"}`, `{"contacts":["$C"],"tags":[],"locationId":"loc1","removeAllTags":true}`},
	"Task":        {`{"title":"T$N","dueDate":"2026-12-01T10:00:00Z","completed":false}`, `{"title":"T","assignedTo":"u1"}`, `{"completed":true}`},
	"Note":        {`{"body":"n$N"}`, `{"title":"x","pinned":true}`},
	"Appointment": {`{"locationId":"loc1","contactId":"$C","calendarId":"cal1","startTime":"2026-12-0$NT10:00:00Z"}`, `{"title":"x"}`, `{"appointmentStatus":"cancelled"}`},
	"Business":    {`{"name":"B$N","locationId":"loc1"}`, `{"city":"Bern"}`, `{"locationId":"loc1","ids":["$C"],"businessId":null}`, `{"locationId":"loc1","ids":["$C"],"businessId":"$B"}`},
	"Followers":   {`{"followers":["u1"]}`, `{"followers":["u1","u2"]}`, `{"followers":["nobody"]}`},
	"LocationTag": {`{"name":"a"}`, `{"name":"tag $L"}`},
	"CustomField": {`{"name":"F $L","dataType":"TEXT"}`, `{"name":"G"}`},
	"flow":        {`{}`, `{"eventStartTime":"2026-12-01T10:00:00Z"}`},
}

// TestSoak makes random calls of every operation, from several sides at once
// and with faults, and looks whether what the simulator promises still holds.
func TestSoak(t *testing.T) {
	s := setup(t, func(c *ghlsim.Config) {
		c.Locations[0].Campaigns, c.Locations[0].Workflows = []string{"camp1"}, []string{"wf1"}
		c.Burst, c.Daily = 1_000_000, 10_000_000
	})
	s.SetFaults(ghlsim.Faults{API429: 0.01, API5xx: 0.01, ResetAfterCommit: 0.01, CreatedBut422: 0.02})
	h, table := s.Handler(), ghlapi.Endpoints()
	var mu sync.Mutex
	pool := map[string][]string{} // ids by kind; of tasks and notes "contact/id"
	statuses := map[int]int{}
	reached := map[string]bool{}
	var wg sync.WaitGroup
	const sides = 4
	for side := range sides {
		r := rand.New(rand.NewPCG(*soakSeed, uint64(side)))
		wg.Go(func() {
			for range *soakCalls / sides {
				e := table[r.IntN(len(table))]
				if e.Method == http.MethodDelete && r.IntN(4) > 0 {
					continue // so that there is something
				}
				mu.Lock()
				method, path, body := draw(r, e, pool)
				mu.Unlock()
				s.clock.Advance(1e6)
				w := roundTrip(h, method, path, body)
				if w == nil {
					continue // the connection was closed after the commit
				}
				mu.Lock()
				statuses[w.Code]++
				if w.Code/100 == 2 {
					reached[e.Func] = true
				}
				if kind, id := made(w.Body.Bytes(), path); id != "" {
					if pool[kind] = append(pool[kind], id); len(pool[kind]) > 40 {
						pool[kind] = pool[kind][1:]
					}
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for code := range statuses {
		if !slices.Contains([]int{200, 201, 400, 401, 403, 404, 422, 429, 500, 502, 503, 504}, code) {
			t.Errorf("status %d, %d times", code, statuses[code])
		}
	}
	// Which calls meet a record that is there is chance, as the sides race.
	if n := len(table) * 4 / 5; len(reached) < n {
		t.Errorf("only %d operations succeeded at all, of %d", len(reached), len(table))
	}
	promises(t, s)
}

// made returns the record that an answer holds, if it holds one; of tasks and
// notes with their contact.
func made(raw []byte, path string) (kind, id string) {
	var body map[string]json.RawMessage
	if json.Unmarshal(raw, &body) != nil {
		return "", ""
	}
	var head struct {
		ID string `json:"id"`
	}
	for key, kind := range map[string]string{"contact": "contact", "task": "task", "note": "note", "event": "event", "business": "business",
		"buiseness": "business", "tag": "tag", "customField": "customField"} {
		if json.Unmarshal(body[key], &head) == nil && head.ID != "" {
			if kind == "task" || kind == "note" {
				head.ID = strings.Split(path, "/")[2] + "/" + head.ID
			}
			return kind, head.ID
		}
	}
	if _, ok := body["calendarId"]; ok && json.Unmarshal(raw, &head) == nil {
		return "event", head.ID // an appointment is bare
	}
	return "", ""
}

// draw makes a call of e with ids that are mostly there.
func draw(r *rand.Rand, e endpoint.Endpoint, pool map[string][]string) (method, path, body string) {
	pick := func(kind string) string {
		if ids := pool[kind]; len(ids) > 0 && r.IntN(10) > 0 {
			return ids[r.IntN(len(ids))]
		}
		return "none/none"
	}
	contact := pick("contact")
	path = e.Path
	for kind, name := range map[string]string{"task": "{taskId}", "note": "{id}"} {
		if strings.Contains(path, "/contacts/") && strings.HasSuffix(strings.TrimSuffix(path, "/completed"), name) {
			of, id, _ := strings.Cut(pick(kind), "/")
			path = strings.NewReplacer("{contactId}", of, name, id).Replace(path)
		}
	}
	for name, kind := range map[string]string{"{contactId}": "contact", "{businessId}": "business", "{eventId}": "event", "{tagId}": "tag", "{id}": "customField"} {
		path = strings.ReplaceAll(path, name, strings.TrimSuffix(pick(kind), "/none"))
	}
	path = strings.NewReplacer("{locationId}", "loc1", "{userId}", "u1", "{campaignId}", "camp1", "{workflowId}", "wf1").Replace(path)
	path += "?locationId=loc1&email=a@x.org&companyId=simcompany&calendarId=cal1&startTime=0&endTime=9999999999999"
	if e.Method == http.MethodGet {
		return e.Method, path, ""
	}
	var fitting []string
	for word, some := range bodies {
		if strings.Contains(e.Func, word) || r.IntN(40) == 0 {
			fitting = append(fitting, some...)
		}
	}
	if e.Func == "UsersByEmail" {
		fitting = []string{`{"companyId":"simcompany","emails":"uma@x.org"}`}
	}
	slices.Sort(fitting) // the order of a map is no part of the seed
	if len(fitting) == 0 {
		return e.Method, path, "{}"
	}
	body = fitting[r.IntN(len(fitting))]
	body = strings.NewReplacer("$L", string(rune('a'+r.IntN(26))), "$N", strconv.Itoa(1+r.IntN(9)), "$C", contact, "$B", pick("business")).Replace(body)
	return e.Method, path, body
}

// roundTrip is nil if the connection was closed without an answer.
func roundTrip(h http.Handler, method, path, body string) (w *httptest.ResponseRecorder) {
	defer func() {
		if err := recover(); err == http.ErrAbortHandler {
			w = nil
		} else if err != nil {
			panic(err)
		}
	}()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for k, v := range headers(good) {
		r.Header.Set(k, v)
	}
	w = httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// promises looks whether the guarantees of the README hold.
func promises(t *testing.T, s *sim) {
	t.Helper()
	s.SetFaults(ghlsim.Faults{})
	contacts, items := s.Dump("loc1"), s.Items("loc1", "")
	if len(contacts) < 3 || len(items) < 3 {
		t.Fatalf("%d contacts and %d items are too few to tell", len(contacts), len(items))
	}
	if d := cmp.Diff(dumped(contacts), replay(t, s.Ledger(), "loc1", true)); d != "" {
		t.Errorf("contacts (-dump +replay):\n%s", d)
	}
	there, emails := map[string]bool{}, map[any]bool{}
	known := s.do("GET", "/locations/loc1/tags", "").raw
	for _, c := range contacts {
		there[c.ID] = true
		if e := c.Fields["email"]; e != nil && emails[e] {
			t.Errorf("two contacts have the same address in a location without duplicates")
		} else if emails[e] = true; e != nil {
			if a := s.do("GET", fmt.Sprintf("/contacts/search/duplicate?locationId=loc1&email=%v", e), ""); !strings.Contains(string(a.raw), c.ID) {
				t.Errorf("contact %s is not found by its address", c.ID)
			}
		}
		for _, tag := range c.Tags {
			if !strings.Contains(string(known), `"name":"`+tag+`"`) {
				t.Errorf("the location does not know the tag %q", tag)
			}
		}
	}
	for _, x := range items {
		if !there[x.ContactID] {
			t.Errorf("%s %s belongs to a contact that is gone", x.Kind, x.ID)
		}
	}
	if d := cmp.Diff(listed(items), replay(t, s.Ledger(), "loc1", false)); d != "" {
		t.Errorf("items (-items +replay):\n%s", d)
	}
	last := map[string]int64{}
	for _, e := range s.Ledger() {
		// What follows from a change of the location leaves the stamp alone.
		if e.Kind == ghlsim.KindContact && e.Op == ghlsim.OpUpdate && e.DateUpdated < last[e.RecordID] {
			t.Errorf("entry %d: dateUpdated went back", e.Seq)
		}
		last[e.RecordID] = e.DateUpdated
	}
	found := map[string]bool{}
	for after := ""; ; {
		a := s.do("POST", "/contacts/search", `{"locationId":"loc1","pageLimit":7,"sort":[{"field":"dateUpdated","direction":"asc"}]`+after+`}`)
		page, _ := a.body["contacts"].([]any)
		for _, x := range page {
			c, _ := x.(map[string]any)
			found[fmt.Sprint(c["id"])] = true
			cursor := regexp.MustCompile(`"searchAfter":\[[^\]]*\]`).FindAllString(string(a.raw), -1)
			after = "," + cursor[len(cursor)-1]
		}
		if len(page) < 7 {
			break
		}
	}
	if d := cmp.Diff(there, found); d != "" {
		t.Errorf("search (-dump +found):\n%s", d)
	}
	if st := s.Stats(); st.Contacts != len(contacts)+len(s.Dump("loc2")) {
		t.Errorf("%d contacts are counted, there are %d", st.Contacts, len(contacts))
	}
}
