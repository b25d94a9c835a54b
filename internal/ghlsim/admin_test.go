package ghlsim_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/causeway-sync/causeway/internal/ghlsim"
)

func TestAdmin(t *testing.T) {
	s := setup(t, nil)
	call := func(method, path, body string) answer {
		t.Helper()
		a, err := s.send(method, "/_sim/"+path, body, nil)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := call("POST", "edit", `{"kind":"create","locationId":"loc1","fields":{"firstName":"Ana","email":"a@x.org"},"tags":["A"]}`)
	id, _ := a.body["id"].(string)
	want(t, "edit", a.status, 200)
	want(t, "edited", s.contact(id)["firstName"], any("Ana"))
	want(t, "edit of nothing", call("POST", "edit", `{"kind":"delete","locationId":"loc1","contactId":"x"}`).status, 404)
	a = call("POST", "edit", `{"kind":"create","locationId":"loc1","fields":{"email":"a@x.org"}}`)
	want(t, "duplicate", []any{a.status, a.body["id"]}, []any{409, id})
	want(t, "invalid", call("POST", "edit", `{"kind":"create","locationId":"loc1","fields":{"zip":1}}`).status, 422)
	want(t, "not JSON", call("POST", "edit", `{`).status, 400)

	list, _ := call("GET", "dump?locationId=loc1", "").body["contacts"].([]any)
	want(t, "dump", []any{len(list), dig(list[0], "id"), dig(list[0], "fields", "email"), dig(list[0], "tags")}, []any{1, id, "a@x.org", []any{"a"}})
	want(t, "dump of no location", call("GET", "dump?locationId=x", "").status, 404)
	entries, _ := call("GET", "ledger", "").body["entries"].([]any)
	want(t, "ledger", []any{len(entries), dig(entries[0], "actor"), dig(entries[0], "op")}, []any{1, "human", "create"})
	entries, _ = call("GET", "ledger?after=1", "").body["entries"].([]any)
	want(t, "ledger after", len(entries), 0)
	want(t, "ledger after nonsense", call("GET", "ledger?after=x", "").status, 400)
	want(t, "stats", call("GET", "stats", "").body["contacts"], any(1.0))

	want(t, "set faults", call("POST", "faults", `{"api429":2,"webhookDelayMaxMs":50,"latencyMs":1}`).status, 204)
	f := call("GET", "faults", "").body
	want(t, "faults", []any{f["api429"], f["webhookDelayMaxMs"], f["latencyMs"]}, []any{1.0, 50.0, 1.0})
	want(t, "fault at work", s.do("GET", "/locations/loc1", "").status, 429)

	want(t, "set webhook", call("POST", "webhook", `{"url":"http://127.0.0.1:1"}`).status, 204)
	want(t, "edit with webhook", call("POST", "edit", `{"kind":"create","locationId":"loc1"}`).status, 200)
	want(t, "pending", s.PendingWebhooks(), 1)

	want(t, "reset", call("POST", "reset", "").status, 204)
	want(t, "after reset", []int{len(s.Dump("loc1")), len(s.Ledger()), s.Stats().HTTP429, s.PendingWebhooks()}, []int{0, 0, 0, 0})
	want(t, "works after reset", s.do("GET", "/locations/loc1", "").status, 200)
	want(t, "no such call", call("GET", "nothing", "").status, 404)
}

func TestConcurrency(t *testing.T) {
	s, r := hooked(t, func(c *ghlsim.Config) { c.Webhook.Workers = 4 })
	const writers, each = 8, 10
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				id, err := s.Edit(ghlsim.Edit{Kind: ghlsim.EditCreate, LocationID: "loc1", Fields: map[string]any{"email": fmt.Sprintf("u%d-%d@x.org", w, i)}})
				if err != nil {
					t.Error(err)
				}
				s.do("PUT", "/contacts/"+id, `{"city":"Waco"}`)
				s.do("POST", "/contacts/search", `{"locationId":"loc1","pageLimit":5}`)
				s.Dump("loc1")
				s.Stats()
			}
		})
	}
	wg.Wait()
	want(t, "events", r.types(t, 2*writers*each), map[string]int{"ContactCreate": writers * each, "ContactUpdate": writers * each})
	s.quiet()
	want(t, "ledger", len(s.Ledger()), 2*writers*each)
}
