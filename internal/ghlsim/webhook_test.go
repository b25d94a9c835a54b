package ghlsim_test

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"testing"
	"time"

	"github.com/causeway-sync/causeway/internal/ghlsim"
)

// hooked is setup with a receiver that deliveries go to.
func hooked(t *testing.T, edit func(*ghlsim.Config), status ...int) (*sim, *receiver) {
	t.Helper()
	r := newReceiver(t, status...)
	_, key := testKey()
	s := setup(t, func(c *ghlsim.Config) {
		c.Webhook = ghlsim.WebhookConfig{PrivateKey: key, AppID: "app1", RetryBase: time.Millisecond, Workers: 1}
		if edit != nil {
			edit(c)
		}
	})
	s.SetWebhookURL(r.url)
	s.run()
	return s, r
}

func TestEvents(t *testing.T) {
	tests := []struct {
		name   string
		quirks ghlsim.Quirks
		call   func(s *sim, id string)
		want   map[string]int
	}{
		{"put", ghlsim.Quirks{}, func(s *sim, id string) { s.do("PUT", "/contacts/"+id, `{"city":"Waco"}`) }, map[string]int{"ContactUpdate": 1}},
		{"unchanged put", ghlsim.Quirks{}, func(s *sim, id string) { s.do("PUT", "/contacts/"+id, `{"firstName":"Ana"}`) }, map[string]int{"ContactUpdate": 1}},
		{"unchanged put, quiet", ghlsim.Quirks{QuietUnchangedPut: true}, func(s *sim, id string) { s.do("PUT", "/contacts/"+id, `{"firstName":"Ana"}`) }, map[string]int{}},
		{"put tags too", ghlsim.Quirks{}, func(s *sim, id string) { s.do("PUT", "/contacts/"+id, `{"city":"Waco","tags":["z"]}`) }, map[string]int{"ContactUpdate": 1, "ContactTagUpdate": 1}},
		{"tags", ghlsim.Quirks{}, func(s *sim, id string) { s.do("POST", "/contacts/"+id+"/tags", `{"tags":["z"]}`) }, map[string]int{"ContactTagUpdate": 1}},
		{"tags also update", ghlsim.Quirks{TagsAlsoUpdate: true}, func(s *sim, id string) { s.do("POST", "/contacts/"+id+"/tags", `{"tags":["z"]}`) }, map[string]int{"ContactUpdate": 1, "ContactTagUpdate": 1}},
		{"dnd", ghlsim.Quirks{}, func(s *sim, id string) { s.do("PUT", "/contacts/"+id, `{"dnd":true}`) }, map[string]int{"ContactDndUpdate": 1}},
		{"inbound dnd", ghlsim.Quirks{}, func(s *sim, id string) {
			s.do("PUT", "/contacts/"+id, `{"inboundDndSettings":{"all":{"status":"active"}}}`)
		}, map[string]int{}},
		{"file", ghlsim.Quirks{}, func(s *sim, id string) {
			s.do("PUT", "/contacts/"+id, `{"customFields":[{"id":"cf4","field_value":{"u":{"url":"x"}}}]}`)
		}, map[string]int{}},
		{"delete", ghlsim.Quirks{}, func(s *sim, id string) { s.do("DELETE", "/contacts/"+id, "") }, map[string]int{"ContactDelete": 1}},
		{"human", ghlsim.Quirks{}, func(s *sim, id string) {
			if _, err := s.Edit(ghlsim.Edit{Kind: ghlsim.EditUpdate, LocationID: "loc1", ContactID: id, Fields: map[string]any{"firstName": "Eva"}}); err != nil {
				s.t.Error(err)
			}
		}, map[string]int{"ContactUpdate": 1}},
		{"human, nothing new", ghlsim.Quirks{}, func(s *sim, id string) {
			if _, err := s.Edit(ghlsim.Edit{Kind: ghlsim.EditUpdate, LocationID: "loc1", ContactID: id, Fields: map[string]any{"firstName": "Ana"}}); err != nil {
				s.t.Error(err)
			}
		}, map[string]int{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, r := hooked(t, func(c *ghlsim.Config) { c.Quirks = tt.quirks })
			id := s.create(`{"firstName":"Ana"}`)
			want(t, "first event", r.types(t, 1), map[string]int{"ContactCreate": 1})
			tt.call(s, id)
			n := 0
			for _, k := range tt.want {
				n += k
			}
			want(t, "events", r.types(t, n), tt.want)
			s.quiet()
			want(t, "sent in all", s.Stats().WebhooksSent, n+1)
		})
	}
}

func TestPayload(t *testing.T) {
	s, r := hooked(t, nil)
	id := s.create(`{"firstName":"Ana","lastName":"Ruiz","email":"a@x.org","city":"Austin","tags":["member"],"customFields":[{"id":"cf1","field_value":"7"}]}`)
	h := r.next(t)
	if hid, _ := h.body["webhookId"].(string); len(hid) != 36 {
		t.Errorf("webhookId %q", hid)
	}
	delete(h.body, "webhookId")
	want(t, "create", any(h.body), parse(t, `{"type":"ContactCreate","locationId":"loc1","id":"`+id+`","appId":"app1","versionId":"app1",
		"timestamp":"2026-01-05T10:00:00.000Z","dateAdded":"2026-01-05T10:00:00.000Z","dnd":false,"firstName":"Ana","lastName":"Ruiz",
		"name":"Ana Ruiz","email":"a@x.org","city":"Austin","tags":["member"],"customFields":[{"id":"cf1","value":"7"}]}`))

	s.do("PUT", "/contacts/"+id, `{"city":null,"tags":[]}`)
	for range 2 {
		h = r.next(t)
		_, city := h.body["city"]
		_, tags := h.body["tags"]
		want(t, "cleared keys are absent", []bool{city, tags}, []bool{false, false})
	}
	s.do("PUT", "/contacts/"+id, `{"dndSettings":{"SMS":{"status":"active"}}}`)
	want(t, "dndSettings", dig(r.next(t).body, "dndSettings", "SMS", "status"), any("active"))
	s.do("DELETE", "/contacts/"+id, "")
	h = r.next(t)
	want(t, "last state", []any{h.body["type"], h.body["email"]}, []any{"ContactDelete", "a@x.org"})
}

func TestPayloadQuirks(t *testing.T) {
	s, r := hooked(t, func(c *ghlsim.Config) { c.Quirks = ghlsim.Quirks{SparseWebhooks: true, NullWebhookKeys: true} })
	id := s.create(`{"firstName":"Ana"}`)
	h := r.next(t)
	city, sent := h.body["city"]
	want(t, "null key", []any{city, sent}, []any{nil, true})
	s.do("PUT", "/contacts/"+id, `{"dnd":true}`)
	h = r.next(t)
	_, name := h.body["firstName"]
	want(t, "sparse dnd", []any{name, h.body["dnd"]}, []any{false, true})
	s.do("DELETE", "/contacts/"+id, "")
	h = r.next(t)
	_, dnd := h.body["dnd"]
	want(t, "sparse delete", []any{dnd, h.body["id"]}, []any{false, id})
}

func TestSignature(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	s, r := hooked(t, func(c *ghlsim.Config) { c.Webhook.RSA = key })
	s.create(`{"firstName":"Ana"}`)
	h := r.next(t)
	pub, _ := testKey()
	sig, err := base64.StdEncoding.DecodeString(h.header.Get("X-GHL-Signature"))
	if err != nil {
		t.Fatal(err)
	}
	want(t, "genuine", ed25519.Verify(pub, h.raw, sig), true)
	want(t, "altered", ed25519.Verify(pub, append([]byte(" "), h.raw...), sig), false)
	legacy, err := base64.StdEncoding.DecodeString(h.header.Get("X-WH-Signature"))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(h.raw)
	if err := rsa.VerifyPKCS1v15(&key.PublicKey, crypto.SHA256, sum[:], legacy); err != nil {
		t.Errorf("legacy signature: %v", err)
	}
	want(t, "content type", h.header.Get("Content-Type"), "application/json")

	plain, r := hooked(t, func(c *ghlsim.Config) { c.Webhook.PrivateKey = nil })
	plain.create(`{}`)
	want(t, "unsigned", r.next(t).header.Get("X-GHL-Signature"), "N/A")
}

func TestRetries(t *testing.T) {
	many := func(status, n int) []int {
		out := make([]int, n)
		for i := range out {
			out[i] = status
		}
		return out
	}
	tests := []struct {
		name                string
		policy              ghlsim.RetryPolicy
		status              []int
		tries, sent, failed int
	}{
		{"429 then fine", ghlsim.Retry429, []int{429, 429}, 3, 1, 0},
		{"429 for ever", ghlsim.Retry429, many(429, 100), 7, 0, 1},
		{"500 is final under 429-only", ghlsim.Retry429, []int{500}, 1, 0, 1},
		{"500 then fine", ghlsim.RetryNon2xx, []int{500, 302, 401}, 4, 1, 0},
		{"500 for ever", ghlsim.RetryNon2xx, many(500, 100), 13, 0, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, r := hooked(t, func(c *ghlsim.Config) {
				c.Webhook.Retry, c.Webhook.RetryBase = tt.policy, 100*time.Microsecond
			}, tt.status...)
			s.create(`{"firstName":"Ana"}`)
			first := r.next(t)
			for range tt.tries - 1 {
				again := r.next(t)
				want(t, "bytes", string(again.raw), string(first.raw))
				want(t, "signature", again.header.Get("X-GHL-Signature"), first.header.Get("X-GHL-Signature"))
			}
			s.quiet()
			st := s.Stats()
			want(t, "attempts, sent, failed", []int{st.WebhookAttempts, st.WebhooksSent, st.WebhooksFailed}, []int{tt.tries, tt.sent, tt.failed})
		})
	}
}

func TestWebhookFaults(t *testing.T) {
	t.Run("drop", func(t *testing.T) {
		s, _ := hooked(t, nil)
		s.SetFaults(ghlsim.Faults{WebhookDrop: 1})
		s.create(`{}`)
		s.quiet()
		st := s.Stats()
		want(t, "dropped, attempts", []int{st.WebhooksDropped, st.WebhookAttempts}, []int{1, 0})
	})
	t.Run("duplicate", func(t *testing.T) {
		s, r := hooked(t, nil)
		s.SetFaults(ghlsim.Faults{WebhookDuplicate: 1})
		s.create(`{}`)
		want(t, "bytes", string(r.next(t).raw), string(r.next(t).raw))
		s.quiet()
		want(t, "sent", s.Stats().WebhooksSent, 2)
	})
	t.Run("reorder", func(t *testing.T) {
		s, r := hooked(t, nil)
		s.SetFaults(ghlsim.Faults{WebhookDelay: 1, WebhookDelayMax: 200 * time.Millisecond})
		const n = 20
		var made, came []any
		for range n {
			made = append(made, s.create(`{}`))
		}
		for range n {
			came = append(came, r.next(t).body["id"])
		}
		same := true
		for i := range made {
			same = same && made[i] == came[i]
		}
		want(t, "in order", same, false)
	})
	t.Run("full queue", func(t *testing.T) {
		s := setup(t, func(c *ghlsim.Config) { c.Webhook = ghlsim.WebhookConfig{URL: "http://127.0.0.1:1", QueueMax: 1} })
		s.create(`{}`)
		s.create(`{}`)
		want(t, "overflow", s.Stats().WebhooksOverflow, 1)
		want(t, "pending", s.PendingWebhooks(), 1)
	})
	t.Run("reset forgets what waits", func(t *testing.T) {
		s := setup(t, func(c *ghlsim.Config) { c.Webhook = ghlsim.WebhookConfig{URL: "http://127.0.0.1:1"} })
		s.create(`{}`)
		s.Reset()
		want(t, "pending", s.PendingWebhooks(), 0)
	})
	t.Run("given up without a URL", func(t *testing.T) {
		s := setup(t, func(c *ghlsim.Config) { c.Webhook = ghlsim.WebhookConfig{URL: "http://127.0.0.1:1"} })
		s.create(`{}`)
		s.SetWebhookURL("")
		s.run()
		s.quiet()
		want(t, "failed", s.Stats().WebhooksFailed, 1)
	})
}
