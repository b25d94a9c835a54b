package novi_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/ingest/novi"
	"github.com/causeway-sync/causeway/ingest/poll"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/noviapi"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
)

// The corpora are in testdata/fuzz: one file for each thing that is awkward,
// named for it.

// FuzzVerify: nothing that isn't signed passes, however its header looks.
func FuzzVerify(f *testing.F) {
	f.Add("", []byte(`{}`))
	source := novi.Source{Tenant: "alpine-guild", Secret: "a-secret-that-nobody-guesses"}
	f.Fuzz(func(t *testing.T, signature string, raw []byte) {
		h := http.Header{}
		if signature != "" {
			h.Set("X-Novi-Signature", signature)
		}
		if source.Verify(h, raw) == nil {
			t.Errorf("%q passes for the signature of %q", signature, raw)
		}
	})
}

type answer func(*http.Request) *http.Response

func (a answer) RoundTrip(r *http.Request) (*http.Response, error) { return a(r), nil }

// FuzzAnswer: whatever Novi answers, the reader doesn't fall over, what it
// shows is the record of somebody, and no error has the key.
func FuzzAnswer(f *testing.F) {
	f.Add(200, "", []byte(`{"TotalCount":1,"Results":[{"UniqueID":"m1","LastUpdatedDate":"2026-11-01T12:00:00"}]}`))
	f.Fuzz(func(t *testing.T, status int, retry string, body []byte) {
		if status < 200 || status > 599 {
			return
		}
		h := http.Header{"Content-Type": {"application/json"}, "Retry-After": {retry}}
		client := &http.Client{Transport: answer(func(r *http.Request) *http.Response {
			return &http.Response{StatusCode: status, Header: h.Clone(), Body: io.NopCloser(strings.NewReader(string(body))), Request: r}
		})}
		const secret = "a-key-that-nobody-sees"
		r := novi.NewReader(noviapi.New(noviapi.Config{BaseURL: "http://novi.example", Clock: clock.System{}, HTTP: client,
			Key: func(context.Context) (string, error) { return secret, nil }}), clock.System{})
		check := func(err error, seen ...observation.Observation) {
			t.Helper()
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("the error shows the key: %v", err)
			}
			for _, o := range seen {
				if err == nil && (o.ExternalID == "" || !json.Valid(o.Record)) {
					t.Errorf("it shows %+v", o)
				}
			}
		}
		page, err := r.List(t.Context(), poll.Query{})
		check(err, page.Observations...)
		page, err = r.Activities(false).Sweep(t.Context(), nil)
		check(err, page.Observations...)
		for _, kind := range []canonical.Kind{canonical.KindContact, canonical.KindTask} {
			o, err := r.Fetch(t.Context(), observation.Observation{System: canonical.Novi, Kind: kind, ExternalID: "x"})
			if err == nil {
				o.ExternalID = "x" // as the caller says it
			}
			check(err, o)
		}
	})
}
