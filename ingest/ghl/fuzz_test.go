package ghl_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rsa"
	"io"
	"math/big"
	"net/http"
	"strings"
	"testing"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/ingest/ghl"
	"github.com/causeway-sync/causeway/ingest/poll"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/ghlapi"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
)

// The corpora are in testdata/fuzz: one file for each thing that is awkward,
// named for it.

// FuzzVerify: nothing that isn't signed passes, however its headers look.
func FuzzVerify(f *testing.F) {
	f.Add("", "", []byte(`{}`))
	public := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)).Public().(ed25519.PublicKey)
	modulus := new(big.Int).Lsh(big.NewInt(1), 2047) // nobody has its factors
	source := ghl.Source{AllowLegacy: true, Keys: ghl.Keys{Ed25519: []ed25519.PublicKey{public}, RSA: []*rsa.PublicKey{{N: modulus.Add(modulus, big.NewInt(1)), E: 65537}}}}
	f.Fuzz(func(t *testing.T, signature, legacy string, raw []byte) {
		h := http.Header{}
		for name, value := range map[string]string{"X-GHL-Signature": signature, "X-WH-Signature": legacy} {
			if value != "" {
				h.Set(name, value)
			}
		}
		if source.Verify(h, raw) == nil {
			t.Errorf("%q and %q pass for the signature of %q", signature, legacy, raw)
		}
	})
}

type answer func(*http.Request) *http.Response

func (a answer) RoundTrip(r *http.Request) (*http.Response, error) { return a(r), nil }

// FuzzAnswer: whatever GHL answers, the reader doesn't fall over, what it shows
// is the record of somebody, and no error has the token.
func FuzzAnswer(f *testing.F) {
	f.Add(200, "", []byte(`{"contact":{"id":"c1","dateUpdated":"2026-11-01T12:00:00.000Z"}}`))
	f.Fuzz(func(t *testing.T, status int, retry string, body []byte) {
		if status < 200 || status > 599 {
			return
		}
		h := http.Header{"Content-Type": {"application/json"}, "Retry-After": {retry}, "X-Ratelimit-Remaining": {retry}, "X-Ratelimit-Daily-Remaining": {retry}, "X-Ratelimit-Interval-Milliseconds": {retry}}
		client := &http.Client{Transport: answer(func(r *http.Request) *http.Response {
			return &http.Response{StatusCode: status, Header: h.Clone(), Body: io.NopCloser(strings.NewReader(string(body))), Request: r}
		})}
		const secret = "a-token-that-nobody-sees"
		r := ghl.NewReader(ghlapi.New(ghlapi.Config{BaseURL: "http://ghl.example", LocationID: "loc1", Clock: clock.System{}, HTTP: client,
			Token: func(context.Context) (string, error) { return secret, nil }}))
		check := func(err error, seen ...observation.Observation) {
			t.Helper()
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("the error shows the token: %v", err)
			}
			for _, o := range seen {
				if err == nil && (o.ExternalID == "" || !json.Valid(o.Record)) {
					t.Errorf("it shows %+v", o)
				}
			}
		}
		page, err := r.List(t.Context(), poll.Query{})
		check(err, page.Observations...)
		for _, s := range []poll.Sweeper{r.Tasks(false), r.Notes(), r.Appointments()} {
			page, err := s.Sweep(t.Context(), nil)
			check(err, page.Observations...)
		}
		for _, kind := range []canonical.Kind{canonical.KindContact, canonical.KindTask, canonical.KindNote, canonical.KindAppointment} {
			o, err := r.Fetch(t.Context(), observation.Observation{System: canonical.GHL, Kind: kind, ExternalID: "x", Parent: "c"})
			if err == nil {
				o.ExternalID = "x" // as the caller says it
			}
			check(err, o)
		}
	})
}
