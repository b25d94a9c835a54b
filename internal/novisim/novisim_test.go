package novisim_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-sync/causeway/internal/novisim"
)

type site struct {
	*novisim.Server
	t   *testing.T
	url string
	mu  sync.Mutex
	now time.Time
	// header of the last answer to call
	header http.Header
}

func (s *site) tick(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
}

func setup(t *testing.T, change func(*novisim.Config)) *site {
	t.Helper()
	s := &site{t: t, now: time.Date(2026, 11, 1, 15, 0, 0, 0, time.UTC)}
	conf := novisim.Config{
		Keys: []string{"key"}, Timezone: time.UTC, Seed: 1,
		CustomFields: []novisim.CustomField{{UniqueID: "cf-1", Name: "GHL Tags", TypeName: "Text"}},
		Groups: []novisim.Group{{UniqueID: "g-1", Name: "Board"},
			{UniqueID: "g-2", Name: "Lapsed", Condition: &novisim.Condition{Field: "MemberStatus", Op: "eq", Value: "expired"}}},
		Now: func() time.Time { s.mu.Lock(); defer s.mu.Unlock(); return s.now },
	}
	if change != nil {
		change(&conf)
	}
	var err error
	if s.Server, err = novisim.New(conf); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(s.Handler())
	t.Cleanup(srv.Close)
	s.url = srv.URL
	return s
}

// call makes a call with the right key and returns status and body.
func (s *site) call(method, path string, body any) (int, map[string]any) {
	s.t.Helper()
	var in io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			s.t.Fatal(err)
		}
		in = bytes.NewReader(raw)
	}
	req, err := http.NewRequest(method, s.url+path, in)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Basic key")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	s.header = res.Header
	var out map[string]any
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	_ = json.Unmarshal(raw, &out) // a bare array stays nil
	return res.StatusCode, out
}

func (s *site) person(fields map[string]any) string {
	s.t.Helper()
	if fields["Name"] == nil {
		fields["Name"] = "Somebody " + strconv.Itoa(len(s.Dump()))
	}
	id, err := s.Edit(novisim.Edit{Fields: fields})
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

func TestKeyIsComparedVerbatim(t *testing.T) {
	s := setup(t, nil)
	for _, header := range []string{"", "key", "Basic other", "Bearer key", "Basic  key"} {
		req, err := http.NewRequest(http.MethodGet, s.url+"/api/members", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", header)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusUnauthorized {
			t.Errorf("%q: got %d", header, res.StatusCode)
		}
	}
}

func TestPutReplacesTheWhole(t *testing.T) {
	s := setup(t, nil)
	id := s.person(map[string]any{"FirstName": "Ada", "Email": "ada@example.org", "BillingAddress.City": "Ouray", "CustomFields.GHL Tags": "board", "Notes": "kept elsewhere"})
	_, whole := s.call("GET", "/api/members/"+id, nil)

	t.Run("what was read and is put back changes nothing", func(t *testing.T) {
		before := len(s.Ledger())
		if status, _ := s.call("PUT", "/api/members/"+id, whole); status != http.StatusOK {
			t.Fatalf("got %d", status)
		}
		entry := s.Ledger()[before]
		if len(entry.Changes) != 0 || entry.Actor != novisim.ActorAPI {
			t.Errorf("got %+v", entry)
		}
		if n := s.Stats().NulledUnmapped; n != 0 {
			t.Errorf("%d PUTs nulled something", n)
		}
	})
	t.Run("an absent key is nulled, and counted", func(t *testing.T) {
		part := maps.Clone(whole)
		delete(part, "Notes")
		delete(part, "CustomFields")
		if status, _ := s.call("PUT", "/api/members/"+id, part); status != http.StatusOK {
			t.Fatalf("got %d", status)
		}
		_, now := s.call("GET", "/api/members/"+id, nil)
		if now["Notes"] != nil || now["CustomFields"].(map[string]any)["GHL Tags"].(map[string]any)["Value"] != nil {
			t.Errorf("it is still there: %v", now)
		}
		if now["FirstName"] != "Ada" {
			t.Errorf("what was sent is gone")
		}
		if n := s.Stats().NulledUnmapped; n != 1 {
			t.Errorf("counted %d times", n)
		}
	})
	t.Run("read-only keys are ignored", func(t *testing.T) {
		own := maps.Clone(whole)
		own["CreatedDate"], own["InternalIdentifier"], own["Groups"] = "1999-01-01T00:00:00Z", 7, []any{map[string]any{"GroupUniqueID": "g-1"}}
		s.call("PUT", "/api/members/"+id, own)
		_, now := s.call("GET", "/api/members/"+id, nil)
		if now["CreatedDate"] != whole["CreatedDate"] || now["InternalIdentifier"] != whole["InternalIdentifier"] || len(now["Groups"].([]any)) != 0 {
			t.Errorf("got %v", now)
		}
	})
	t.Run("refusals", func(t *testing.T) {
		tests := []struct {
			name   string
			method string
			path   string
			body   any
			want   int
		}{
			{"unknown member", "PUT", "/api/members/nobody", whole, 404},
			{"unknown member read", "GET", "/api/members/nobody", nil, 404},
			{"no name", "PUT", "/api/members/" + id, map[string]any{"FirstName": "x"}, 400},
			{"no address", "POST", "/api/members", map[string]any{"Name": "x", "Email": "nowhere"}, 400},
			{"name is taken", "POST", "/api/members", map[string]any{"Name": whole["Name"]}, 400},
			{"unknown custom field", "POST", "/api/members", map[string]any{"Name": "y", "CustomFields": map[string]any{"Nope": map[string]any{"Value": "1"}}}, 400},
			{"no JSON object", "POST", "/api/members", []int{1}, 400},
			{"delete", "DELETE", "/api/members/" + id, nil, 405},
			{"a path that is not there", "GET", "/api/nothing", nil, 404},
			{"a date that is none", "GET", "/api/members?lastModifiedDate=soon", nil, 400},
		}
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				before := len(s.Ledger())
				status, body := s.call(tt.method, tt.path, tt.body)
				if status != tt.want || body["Message"] == "" {
					t.Errorf("got %d %v, want %d", status, body, tt.want)
				}
				if len(s.Ledger()) != before {
					t.Error("something was changed all the same")
				}
			})
		}
	})
}

func TestListing(t *testing.T) {
	s := setup(t, nil)
	var ids []string
	for i := range 7 {
		ids = append(ids, s.person(map[string]any{"Email": "p" + strconv.Itoa(i) + "@example.org"}))
	}
	page := func(query string) (int, []string) {
		_, out := s.call("GET", "/api/members?"+query, nil)
		got := []string{}
		for _, m := range out["Results"].([]any) {
			got = append(got, m.(map[string]any)["UniqueID"].(string))
		}
		return int(out["TotalCount"].(float64)), got
	}
	check := func(query string, total int, want []string) {
		t.Helper()
		if n, got := page(query); n != total || !cmp.Equal(got, want) {
			t.Errorf("%s: got %d %v, want %d %v", query, n, got, total, want)
		}
	}
	check("pageSize=3&offset=2", 7, ids[2:5])
	check("pageSize=3&offset=6", 7, ids[6:])
	check("pageSize=3&offset=9", 7, []string{})
	check("email=P3@EXAMPLE.org", 1, ids[3:4])
	check("email=p3", 0, []string{})

	s.tick(24 * time.Hour)
	if _, err := s.Edit(novisim.Edit{MemberID: ids[4], Fields: map[string]any{"JobTitle": "Guide"}}); err != nil {
		t.Fatal(err)
	}
	s.tick(time.Hour)
	// By the day and inclusive: what was changed an hour before still counts.
	check("lastModifiedDate="+s.now.Format("2006-01-02T15:04:05"), 1, ids[4:5])
	check("lastModifiedDate=11/2/2026", 1, ids[4:5])
	check("lastModifiedDate=2026-11-03", 0, []string{})
	if _, err := s.Edit(novisim.Edit{MemberID: ids[5], Fields: map[string]any{"JobTitle": "Guide"}, KeepStamp: true}); err != nil {
		t.Fatal(err)
	}
	check("lastModifiedDate=11/2/2026", 1, ids[4:5])
}

func TestGroupsChangeWithoutAStamp(t *testing.T) {
	s := setup(t, nil)
	id := s.person(map[string]any{"MemberStatus": "current"})
	_, before := s.call("GET", "/api/members/"+id, nil)
	s.tick(time.Minute)
	if err := s.Pick(id, "g-1", true); err != nil {
		t.Fatal(err)
	}
	_, after := s.call("GET", "/api/members/"+id, nil)
	if before["LastUpdatedDate"] != after["LastUpdatedDate"] || before["LastSegmentUpdatedDate"] == after["LastSegmentUpdatedDate"] {
		t.Errorf("stamps: %v then %v", before, after)
	}
	if _, err := s.Edit(novisim.Edit{MemberID: id, Fields: map[string]any{"MemberStatus": "expired"}}); err != nil {
		t.Fatal(err)
	}
	_, now := s.call("GET", "/api/members/"+id, nil)
	if len(now["Groups"].([]any)) != 2 {
		t.Errorf("groups: %v", now["Groups"])
	}
	if _, list := s.call("GET", "/api/groups/g-2/members", nil); list["TotalCount"] != float64(1) {
		t.Errorf("members of the group: %v", list)
	}
}

func TestRenderingOfPhones(t *testing.T) {
	s := setup(t, nil)
	m, _ := s.Member(s.person(map[string]any{"Mobile": "+12025550143"}))
	if got, want := m.Fields["Mobile"], "(202) 555-0143"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLimits(t *testing.T) {
	s := setup(t, func(c *novisim.Config) { c.PerSecond, c.PerMinute, c.PerDay = 3, 5, 7 })
	status := func() int { got, _ := s.call("GET", "/api/members", nil); return got }
	run := func(want ...int) {
		t.Helper()
		for i, w := range want {
			if got := status(); got != w {
				t.Errorf("call %d: got %d, want %d", i, got, w)
			}
		}
	}
	run(200, 200, 200, 429, 429)
	s.tick(time.Second)
	run(200, 200, 429) // five in the minute; the refused ones did not count
	s.tick(time.Second)
	run(429)
	s.tick(time.Minute)
	run(200, 200, 429) // seven in the day
	s.tick(24 * time.Hour)
	run(200)
	if got := s.Stats().HTTP429; got != 5 {
		t.Errorf("counted %d answers 429", got)
	}
}

func TestFaults(t *testing.T) {
	s := setup(t, nil)
	t.Run("a reset comes after the commit", func(t *testing.T) {
		s.SetFaults(novisim.Faults{ResetAfterCommit: 1})
		defer s.SetFaults(novisim.Faults{})
		req, err := http.NewRequest(http.MethodPost, s.url+"/api/members", bytes.NewReader([]byte(`{"Name":"Reset"}`)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Basic key")
		if res, err := http.DefaultClient.Do(req); err == nil {
			_ = res.Body.Close()
			t.Errorf("there was an answer: %d", res.StatusCode)
		}
		if got := len(s.Dump()); got != 1 {
			t.Errorf("%d members", got)
		}
	})
	t.Run("5xx and pages do nothing", func(t *testing.T) {
		for _, f := range []novisim.Faults{{API5xx: 1}, {APIPage: 1}, {API429: 1}} {
			s.SetFaults(f)
			s.call("POST", "/api/members", map[string]any{"Name": "Fault"})
		}
		s.SetFaults(novisim.Faults{})
		if got := len(s.Dump()); got != 1 {
			t.Errorf("%d members", got)
		}
	})
}

func TestWebhooks(t *testing.T) {
	type hook struct{ body, signature string }
	got := make(chan hook, 16)
	refuse := 2
	var mu sync.Mutex
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if got <- (hook{string(raw), r.Header.Get("X-Novi-Signature")}); refuse > 0 {
			refuse--
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer receiver.Close()
	s := setup(t, func(c *novisim.Config) {
		c.Webhook = novisim.WebhookConfig{URL: receiver.URL, Secret: "hush", MinDelay: time.Millisecond, MaxDelay: 2 * time.Millisecond, RetryScale: 0.001}
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	defer func() { cancel(); <-done }()

	id := s.person(map[string]any{"Email": "ada@example.org"})
	want := `{"entityUniqueId":"` + id + `","event":"customer.created"}`
	mac := hmac.New(sha256.New, []byte("hush"))
	mac.Write([]byte(want))
	for range 3 { // refused twice, then taken: the same bytes each time
		if h := <-got; h.body != want || h.signature != hex.EncodeToString(mac.Sum(nil)) {
			t.Errorf("got %+v, want %s", h, want)
		}
	}
	if _, err := s.Edit(novisim.Edit{MemberID: id, Remove: true}); err != nil {
		t.Fatal(err)
	}
	if h, want := <-got, `{"entityUniqueId":"`+id+`","event":"customer.removed"}`; h.body != want {
		t.Errorf("got %s, want %s", h.body, want)
	}
	if _, err := s.Edit(novisim.Edit{MemberID: id}); !errors.Is(err, novisim.ErrNotFound) {
		t.Errorf("an edit of who is gone: %v", err)
	}
}
