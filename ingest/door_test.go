package ingest_test

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/ingest"
	"github.com/causeway-sync/causeway/ingest/ghl"
	"github.com/causeway-sync/causeway/ingest/novi"
	"github.com/causeway-sync/causeway/ingest/webhook"
	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/schemas/observation"
)

var (
	_ webhook.Source = ghl.Source{}
	_ webhook.Source = novi.Source{}
)

// publisher keeps what is published, or refuses it.
type publisher struct {
	bus.Bus
	mu     sync.Mutex
	got    []bus.Message
	refuse bool
}

func (p *publisher) Publish(_ context.Context, m bus.Message) (bus.Ack, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse {
		return bus.Ack{}, bus.ErrNotStored
	}
	p.got = append(p.got, m)
	return bus.Ack{}, nil
}

type door struct {
	*httptest.Server
	*publisher
	ed  ed25519.PrivateKey
	rsa *rsa.PrivateKey
}

func openDoor(t *testing.T, change func(*ingest.Config)) *door {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	legacy, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	d := &door{publisher: &publisher{}, ed: private, rsa: legacy}
	cfg := ingest.Config{Bus: d.publisher, Clock: clock.System{}, Logger: zerolog.Nop(),
		GHL: ghl.Source{Keys: ghl.Keys{Ed25519: []ed25519.PublicKey{public}, RSA: []*rsa.PublicKey{&legacy.PublicKey}}},
		Tenants: []ingest.Tenant{{Name: "alpine-guild", Location: "loc1", NoviToken: "path-token", NoviHook: novi.Source{Secret: "hush"}},
			{Name: "open-club", NoviToken: "other-token"}}}
	if change != nil {
		change(&cfg)
	}
	h, err := ingest.Handler(cfg)
	if err != nil {
		t.Fatal(err)
	}
	d.Server = httptest.NewServer(h)
	t.Cleanup(d.Close)
	return d
}

func (d *door) sign(raw string) string {
	return base64.StdEncoding.EncodeToString(ed25519.Sign(d.ed, []byte(raw)))
}

func (d *door) signLegacy(t *testing.T, raw string) string {
	t.Helper()
	sum := sha256.Sum256([]byte(raw))
	s, err := rsa.SignPKCS1v15(rand.Reader, d.rsa, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(s)
}

const (
	update  = `{"type":"ContactUpdate","locationId":"loc1","id":"nmFm","webhookId":"wh-1","appId":"app1","email":"ada@example.org"}`
	changed = `{"event":"customer.updated","entityUniqueId":"9f1c"}`
)

func hexMAC(raw string) string {
	m := hmac.New(sha256.New, []byte("hush"))
	m.Write([]byte(raw))
	return hex.EncodeToString(m.Sum(nil))
}

func TestDoor(t *testing.T) {
	big := `{"type":"ContactUpdate","locationId":"loc1","id":"` + strings.Repeat("x", 1<<20) + `"}`
	type header = map[string]string
	ghlSigned := func(d *door, raw string) header { return header{"X-GHL-Signature": d.sign(raw)} }
	tests := []struct {
		name   string
		path   string
		body   string
		header func(*door, string) header
		method string
		media  string
		change func(*ingest.Config)
		refuse bool
		status int
		stored string // the subject, "" for nothing
	}{
		{name: "ghl", path: "/hooks/ghl", body: update, header: ghlSigned, status: 200, stored: "raw.ghl.alpine-guild.contact.nmFm.notice"},
		{name: "novi", path: "/hooks/novi/path-token", body: changed, header: func(_ *door, raw string) header { return header{"X-Novi-Signature": hexMAC(raw)} }, status: 200, stored: "raw.novi.alpine-guild.contact.9f1c.notice"},
		{name: "novi without a secret", path: "/hooks/novi/other-token", body: changed, status: 200, stored: "raw.novi.open-club.contact.9f1c.notice"},

		{name: "not POST", path: "/hooks/ghl", method: "GET", status: 405},
		{name: "not JSON by its type", path: "/hooks/ghl", body: update, header: ghlSigned, media: "text/plain", status: 415},
		{name: "over the size", path: "/hooks/ghl", body: big, header: ghlSigned, status: 413},
		{name: "too many", path: "/hooks/ghl", body: update, header: ghlSigned, change: func(c *ingest.Config) { c.PerSecond = -1 }, status: 429},
		{name: "unsigned", path: "/hooks/ghl", body: update, status: 401},
		{name: "signed by somebody else", path: "/hooks/ghl", body: update, header: func(d *door, raw string) header {
			_, other, _ := ed25519.GenerateKey(rand.Reader)
			return header{"X-GHL-Signature": base64.StdEncoding.EncodeToString(ed25519.Sign(other, []byte(raw)))}
		}, status: 401},
		{name: "changed after it was signed", path: "/hooks/ghl", body: update + " ", header: func(d *door, _ string) header { return header{"X-GHL-Signature": d.sign(update)} }, status: 401},
		{name: "a signature that is no base64", path: "/hooks/ghl", body: update, header: func(*door, string) header { return header{"X-GHL-Signature": "%%%"} }, status: 401},
		{name: "legacy, not allowed", path: "/hooks/ghl", body: update, header: func(d *door, raw string) header { return header{"X-WH-Signature": d.signLegacy(t, raw)} }, status: 401},
		{name: "legacy, allowed", path: "/hooks/ghl", body: update, change: func(c *ingest.Config) { c.GHL.AllowLegacy = true },
			header: func(d *door, raw string) header { return header{"X-WH-Signature": d.signLegacy(t, raw)} }, status: 200, stored: "raw.ghl.alpine-guild.contact.nmFm.notice"},
		{name: "legacy is no way round a bad new one", path: "/hooks/ghl", body: update, change: func(c *ingest.Config) { c.GHL.AllowLegacy = true },
			header: func(d *door, raw string) header {
				return header{"X-WH-Signature": d.signLegacy(t, raw), "X-GHL-Signature": d.sign("x")}
			}, status: 401},
		{name: "another app", path: "/hooks/ghl", body: update, header: ghlSigned, change: func(c *ingest.Config) { c.GHL.AppID = "app2" }, status: 401},
		{name: "our app", path: "/hooks/ghl", body: update, header: ghlSigned, change: func(c *ingest.Config) { c.GHL.AppID = "app1" }, status: 200, stored: "raw.ghl.alpine-guild.contact.nmFm.notice"},
		{name: "no keys at all", path: "/hooks/ghl", body: update, header: ghlSigned, change: func(c *ingest.Config) { c.GHL.Keys = ghl.Keys{} }, status: 401},
		{name: "novi, wrong signature", path: "/hooks/novi/path-token", body: changed, header: func(*door, string) header { return header{"X-Novi-Signature": hexMAC("x")} }, status: 401},
		{name: "novi, unsigned", path: "/hooks/novi/path-token", body: changed, status: 401},
		{name: "novi, wrong token", path: "/hooks/novi/guess", body: changed, status: 404},
		{name: "no object", path: "/hooks/ghl", body: `[1]`, header: ghlSigned, status: 400},
		{name: "no JSON", path: "/hooks/ghl", body: `{"type":`, header: ghlSigned, status: 400},
		{name: "a key of another type", path: "/hooks/ghl", body: `{"type":7,"locationId":"loc1"}`, header: ghlSigned, status: 400},
		{name: "unknown location", path: "/hooks/ghl", body: `{"type":"ContactUpdate","locationId":"locX","id":"a"}`, header: ghlSigned, status: 200, stored: "dead."},
		{name: "unknown type", path: "/hooks/ghl", body: `{"type":"InvoicePaid","locationId":"loc1","id":"a"}`, header: ghlSigned, status: 200, stored: "dead."},
		{name: "no record", path: "/hooks/ghl", body: `{"type":"ContactUpdate","locationId":"loc1"}`, header: ghlSigned, status: 200, stored: "dead."},
		{name: "novi, unknown event", path: "/hooks/novi/other-token", body: `{"event":"invoice.paid","entityUniqueId":"x"}`, status: 200, stored: "dead."},
		{name: "can't be stored", path: "/hooks/ghl", body: update, header: ghlSigned, refuse: true, status: 429},
		{name: "its dead letter can't be stored", path: "/hooks/ghl", body: `{"type":"InvoicePaid","locationId":"loc1","id":"a"}`, header: ghlSigned, refuse: true, status: 429},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := openDoor(t, tt.change)
			d.refuse = tt.refuse
			if tt.method == "" {
				tt.method = "POST"
			}
			if tt.media == "" {
				tt.media = "application/json; charset=utf-8"
			}
			req, err := http.NewRequest(tt.method, d.URL+tt.path, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", tt.media)
			if tt.header != nil {
				for k, v := range tt.header(d, tt.body) {
					req.Header.Set(k, v)
				}
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			text, _ := io.ReadAll(res.Body)
			if res.StatusCode != tt.status {
				t.Errorf("got %d %s, want %d", res.StatusCode, text, tt.status)
			}
			if (res.StatusCode == 429) != (res.Header.Get("Retry-After") != "") {
				t.Errorf("status %d with Retry-After %q", res.StatusCode, res.Header.Get("Retry-After"))
			}
			for _, secret := range []string{"path-token", "hush", "ada@example.org"} {
				if strings.Contains(string(text), secret) {
					t.Errorf("the answer shows %q: %s", secret, text)
				}
			}
			switch {
			case tt.stored == "" && len(d.got) > 0:
				t.Errorf("it was stored: %s", d.got[0].Subject)
			case tt.stored != "" && (len(d.got) != 1 || !strings.HasPrefix(d.got[0].Subject, tt.stored)):
				t.Errorf("stored %+v, want %s", d.got, tt.stored)
			case strings.HasPrefix(tt.stored, "raw."):
				o, err := observation.Decode(d.got[0].Data)
				if err != nil || string(o.Record) != tt.body {
					t.Errorf("the body was not kept as it came: %s %v", o.Record, err)
				}
			case tt.stored != "":
				var letter envelope.DeadLetter
				if err := json.Unmarshal(d.got[0].Data, &letter); err != nil || string(letter.Body) != tt.body || letter.Reason == "" {
					t.Errorf("got %+v %v", letter, err)
				}
			}
		})
	}
}

func TestDoorKeys(t *testing.T) {
	t.Run("the delivery's id, or else its bytes, tells copies", func(t *testing.T) {
		d := openDoor(t, nil)
		for _, body := range []string{update, update, `{"type":"ContactUpdate","locationId":"loc1","id":"nmFm","n":1}`, `{"type":"ContactUpdate","locationId":"loc1","id":"nmFm","n":1}`, `{"type":"ContactUpdate","locationId":"loc1","id":"nmFm","n":2}`} {
			req, err := http.NewRequest("POST", d.URL+"/hooks/ghl", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("X-GHL-Signature", d.sign(body))
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
		}
		var ids []string
		for _, m := range d.got {
			ids = append(ids, m.ID)
		}
		if len(ids) != 5 || ids[0] == "" || ids[0] != ids[1] || ids[2] == "" || ids[2] != ids[3] || ids[3] == ids[4] || ids[0] == ids[2] {
			t.Errorf("got %q", ids)
		}
	})
	t.Run("the notice of a note names its contact", func(t *testing.T) {
		d := openDoor(t, nil)
		body := `{"type":"NoteUpdate","locationId":"loc1","id":"n1","contactId":"nmFm"}`
		req, err := http.NewRequest("POST", d.URL+"/hooks/ghl", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("X-GHL-Signature", d.sign(body))
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if len(d.got) != 1 {
			t.Fatalf("stored %d", len(d.got))
		}
		if o, err := observation.Decode(d.got[0].Data); err != nil || o.Parent != "nmFm" || o.ExternalID != "n1" {
			t.Errorf("got %+v, %v", o, err)
		}
	})
	t.Run("two tenants can't share a location or a token", func(t *testing.T) {
		for _, tenants := range [][]ingest.Tenant{{{Name: "a", Location: "x"}, {Name: "b", Location: "x"}}, {{Name: "a", NoviToken: "x"}, {Name: "b", NoviToken: "x"}}} {
			if _, err := ingest.Handler(ingest.Config{Tenants: tenants}); err == nil || !strings.Contains(err.Error(), "tenant") {
				t.Errorf("got %v", err)
			}
		}
	})
	t.Run("a slow body is cut off", func(t *testing.T) {
		d := openDoor(t, nil)
		r, w := io.Pipe()
		req, err := http.NewRequest("POST", d.URL+"/hooks/ghl", r)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		go func() { _, _ = w.Write([]byte(`{"type"`)); _ = w.CloseWithError(io.ErrUnexpectedEOF) }()
		if res, err := http.DefaultClient.Do(req.WithContext(ctx)); err == nil {
			_ = res.Body.Close()
		}
		if len(d.got) != 0 {
			t.Error("half a body was stored")
		}
	})
}
