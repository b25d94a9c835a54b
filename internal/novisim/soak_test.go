package novisim_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goccy/go-json"
	"github.com/google/go-cmp/cmp"

	"github.com/causeway-sync/causeway/internal/endpoint"
	"github.com/causeway-sync/causeway/internal/noviapi"
	"github.com/causeway-sync/causeway/internal/novisim"
)

var (
	soakCalls = flag.Int("soak", 1500, "how many random calls TestSoak makes")
	soakSeed  = flag.Uint64("soak.seed", 1, "what TestSoak's calls follow from")
)

// bodies are what random calls send, by a word of the client's method; some
// are wrong.
var bodies = map[string][]string{
	"Member": {`{"Name":"P$N$N$L","FirstName":"Ada","Email":"$L@x.org","Active":true}`, `{"Name":"Q$N$L","MemberStatus":"expired","CustomFields":{"GHL Tags":{"Value":"$L"}}}`,
		`{"Name":"","Email":"x"}`, `{"Name":"R","Email":null,"CustomFields":{"Nope":{"Value":1}}}`},
	"Activity":  {`{"MemberUniqueId":"$M","ActivityType":"Task","Subject":"S$N","Date":"2026-11-0$N","TaskComplete":true}`, `{"MemberUniqueId":"$M","ActivityType":"note","Subject":"S","Notes":"$L"}`, `{"ActivityType":"None"}`},
	"Type":      {`{"Name":"T$N$L","Task":true}`, `{"Active":false}`},
	"Committee": {`{"MemberUniqueID":"$M","InternalNotes":"$L","TermStart":"2026-11-0$N"}`, `{"MemberUniqueID":"nobody"}`},
	"Field":     {`{"CustomerUniqueID":"$M","CustomFieldUniqueID":"cf-1","Value":"$L"}`, `{"CustomerUniqueID":"$M","CustomFieldUniqueID":"cf-1","Value":null}`},
	"Webhook":   {`{"Url":"https://x.org/$L","Actions":["customer.updated"],"Active":true}`, `{"Url":"no"}`},
}

// TestSoak makes random calls of every operation, from several sides at once
// and with faults, and looks whether what the simulator promises still holds.
func TestSoak(t *testing.T) {
	s := setup(t, func(c *novisim.Config) {
		c.PerSecond, c.PerMinute, c.PerDay = 1_000_000, 1_000_000, 10_000_000
		c.SystemActivities, c.Quirks.GroupWrites = true, true
		c.Committees, c.Events = []novisim.Committee{{UniqueID: "com-1", Name: "Finance"}}, []novisim.Event{{UniqueID: "ev-1", Name: "Gala"}}
	})
	for i := range 3 {
		if _, err := s.Register("ev-1", s.person(map[string]any{"Name": "Seed " + strconv.Itoa(i)})); err != nil {
			t.Fatal(err)
		}
	}
	s.SetFaults(novisim.Faults{API429: 0.01, API5xx: 0.01, APIPage: 0.01, APITruncated: 0.01, ResetAfterCommit: 0.01})
	h, table := s.Handler(), noviapi.Endpoints()
	var mu sync.Mutex
	statuses, reached := map[int]int{}, map[string]bool{}
	var wg sync.WaitGroup
	const sides = 4
	for side := range sides {
		r := rand.New(rand.NewPCG(*soakSeed, uint64(side)))
		wg.Go(func() {
			for n := range *soakCalls / sides {
				e := table[r.IntN(len(table))]
				if e.Method == http.MethodDelete && r.IntN(4) > 0 {
					continue // so that there is something
				}
				method, path, body := s.draw(r, e, h)
				s.tick(time.Millisecond)
				w := roundTrip(h, method, path, body)
				if n%200 == 0 { // people work there as well
					s.meddle(r)
				}
				if w == nil {
					continue // the connection was closed after the commit
				}
				mu.Lock()
				statuses[w.Code]++
				if w.Code/100 == 2 {
					reached[e.Func] = true
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for code := range statuses {
		if !slices.Contains([]int{200, 201, 204, 400, 403, 404, 429, 500, 502, 503}, code) {
			t.Errorf("status %d, %d times", code, statuses[code])
		}
	}
	// Which calls meet a record that is there is chance, as the sides race.
	if n := len(table) * 4 / 5; len(reached) < n {
		t.Errorf("only %d operations succeeded at all, of %d", len(reached), len(table))
	}
	s.SetFaults(novisim.Faults{})
	s.promises(t, h)
}

// meddle does what a person might.
func (s *site) meddle(r *rand.Rand) {
	members := s.Dump()
	a, b := members[r.IntN(len(members))].UniqueID, members[r.IntN(len(members))].UniqueID
	switch r.IntN(3) {
	case 0:
		_ = s.Merge(a, b) // or it is refused
	case 1:
		_, _ = s.Edit(novisim.Edit{MemberID: a, Remove: len(members) > 10})
	default:
		_, _ = s.Edit(novisim.Edit{MemberID: a, Fields: map[string]any{"City": "no such field"}})
	}
}

// draw makes a call of e with ids that are mostly there.
func (s *site) draw(r *rand.Rand, e endpoint.Endpoint, h http.Handler) (method, path, body string) {
	pick := func(ids []string) string {
		if len(ids) == 0 || r.IntN(10) == 0 {
			return "none"
		}
		return ids[r.IntN(len(ids))]
	}
	var members, activities []string
	for _, m := range s.Dump() {
		members = append(members, m.UniqueID)
	}
	for _, a := range s.Activities() {
		activities = append(activities, a.UniqueID)
	}
	member := pick(members)
	if path = e.Path; path == "" {
		path = "/api/groups/{group}/members/{member}"
	}
	in := func(list, key string) []string { return ids(roundTrip(h, "GET", list, ""), key) }
	switch {
	case e.Key == "member":
		path = endpoint.Fill(path, member)
	case e.Key == "activity":
		path = endpoint.Fill(path, pick(activities))
	case e.Key == "activity_type":
		path = endpoint.Fill(path, pick(in("/api/custom-activity-types", "UniqueID")))
	case e.Key == "committee_member":
		path = endpoint.Fill(path, "com-1", pick(in("/api/committees/com-1/members", "UniqueID")))
	case strings.HasPrefix(e.Key, "committee"):
		path = endpoint.Fill(path, pick([]string{"com-1"}))
	case strings.HasPrefix(e.Key, "group"):
		path = endpoint.Fill(path, pick([]string{"g-1", "g-1", "g-2"}), member)
	case strings.HasPrefix(e.Key, "member_field"):
		path = endpoint.Fill(path, member, "cf-1")
	case e.Key == "webhook":
		path = endpoint.Fill(path, pick(in("/api/webhooks", "WebhookUniqueId")))
	case e.Key == "event":
		path = endpoint.Fill(path, "ev-1")
	case e.Key == "registration":
		path = endpoint.Fill(path, pick(in("/api/registrations", "RegistrationUniqueID")))
	case e.Key == "membership_activity":
		path = endpoint.Fill(path, pick(in("/api/membership-activities", "UniqueId")))
	}
	if e.Method == http.MethodGet {
		return e.Method, path + "?pageSize=5&offset=" + strconv.Itoa(r.IntN(4)), ""
	}
	var fitting []string
	for word, some := range bodies {
		fits := strings.Contains(e.Func, word) && (word != "Member" || !strings.Contains(e.Func, "Committee"))
		if fits || r.IntN(40) == 0 {
			fitting = append(fitting, some...)
		}
	}
	slices.Sort(fitting) // the order of a map is no part of the seed
	if len(fitting) == 0 {
		return e.Method, path, "{}"
	}
	return e.Method, path, strings.NewReplacer("$L", string(rune('a'+r.IntN(26))), "$N", strconv.Itoa(1+r.IntN(9)), "$M", member).Replace(fitting[r.IntN(len(fitting))])
}

// ids reads the ids of a list, in an envelope or bare.
func ids(w *httptest.ResponseRecorder, key string) []string {
	var out []string
	var all []map[string]any
	var page struct{ Results []map[string]any }
	if w != nil && json.Unmarshal(w.Body.Bytes(), &all) != nil && json.Unmarshal(w.Body.Bytes(), &page) == nil {
		all = page.Results
	}
	for _, x := range all {
		out = append(out, fmt.Sprint(x[key]))
	}
	return out
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
	r.Header.Set("Authorization", "Basic key")
	w = httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// promises looks whether the guarantees of the README hold.
func (s *site) promises(t *testing.T, h http.Handler) {
	t.Helper()
	members, activities := s.Dump(), s.Activities()
	if len(members) < 3 || len(activities) < 3 {
		t.Fatalf("%d members and %d activities are too few to tell", len(members), len(activities))
	}
	there := map[string]bool{}
	inGroup := map[string]int{}
	for _, m := range members {
		there[m.UniqueID] = true
		groups, _ := m.Fields["Groups"].([]any)
		for _, g := range groups {
			g, _ := g.(map[string]any)
			inGroup[fmt.Sprint(g["GroupUniqueID"])]++
		}
	}
	for _, g := range []string{"g-1", "g-2"} {
		if got := len(ids(roundTrip(h, "GET", "/api/groups/"+g+"/members?pageSize=1000", ""), "UniqueID")); got != inGroup[g] {
			t.Errorf("group %s lists %d members, %d say that they are in it", g, got, inGroup[g])
		}
	}
	want := map[string]map[string]any{}
	for _, a := range activities {
		if !there[a.MemberID] {
			t.Errorf("activity %s sits on a member who is gone", a.UniqueID)
		}
		want[a.UniqueID] = map[string]any{}
		for f, v := range a.Fields {
			if v != nil && f != "UniqueID" && !strings.HasSuffix(f, "Name") {
				want[a.UniqueID][f] = v
			}
		}
	}
	if d := cmp.Diff(want, replay(s.Ledger())); d != "" {
		t.Errorf("activities (-dump +replay):\n%s", d)
	}
	live := map[string]bool{}
	for i, e := range s.Ledger() {
		if e.Seq != int64(i+1) {
			t.Errorf("entry %d has seq %d", i, e.Seq)
		}
		if e.Kind == novisim.KindMember {
			live[e.RecordID] = e.Op != novisim.OpDelete
		}
	}
	for id, is := range live {
		if is != there[id] {
			t.Errorf("member %s: there %t, in the ledger %t", id, there[id], is)
		}
	}
	seats := ids(roundTrip(h, "GET", "/api/committees/com-1/members", ""), "MemberUniqueID")
	if slices.Sort(seats); len(seats) != s.Seats() || len(slices.Compact(slices.Clone(seats))) != len(seats) {
		t.Errorf("%d seats of %d, some of one member", len(seats), s.Seats())
	}
	listed := ids(roundTrip(h, "GET", "/api/members?pageSize=1000", ""), "UniqueID")
	if len(members) <= 1000 && len(listed) != len(members) {
		t.Errorf("%d members are listed of %d", len(listed), len(members))
	}
}
