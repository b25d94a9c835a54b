package apierr_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/causeway-sync/causeway/internal/apierr"
)

func TestRedact(t *testing.T) {
	tests := []struct{ in, want string }{
		{"contact not found", "contact not found"},
		{"ada@example.org is taken", "[address] is taken"},
		{"call +1 (202) 555-0143 now", "call [number] now"},
		{"token pit-0123-abcd is bad", "token [secret] is bad"},
		{"Bearer eyJhbGciOiJ.x.y", "[secret]"},
		{`name "Ada Imhof" is taken`, "name [value] is taken"},
		{"GET /x?email=ada failed", "GET /x?[query] failed"},
	}
	for _, tt := range tests {
		if got := apierr.Redact(tt.in); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.in, got, tt.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		before, after := rapid.StringMatching(`[a-z ]{0,20}`).Draw(t, "before"), rapid.StringMatching(`[a-z ]{0,20}`).Draw(t, "after")
		secret := rapid.SampledFrom([]string{"pit-0123456789abcdef", "ada.imhof@example.org", "+12025550143", `"Ada Imhof"`}).Draw(t, "secret")
		if got := apierr.Redact(before + " " + secret + " " + after); strings.Contains(got, strings.Trim(secret, `"`)) {
			t.Errorf("it shows %q: %q", secret, got)
		}
	})
}

func TestDo(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/reset":
			panic(http.ErrAbortHandler)
		case "/half":
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("half"))
		case "/slow":
			_, _ = io.ReadAll(r.Body) // only then does the server see that the client goes
			<-r.Context().Done()
		}
	}))
	defer srv.Close()
	client := &http.Client{Timeout: 200 * time.Millisecond}
	tests := []struct {
		name, url   string
		read, write apierr.Class
	}{
		{"nobody listens", "http://127.0.0.1:1/", apierr.Retry, apierr.Retry},
		{"reset", srv.URL + "/reset", apierr.Retry, apierr.Ambiguous},
		{"half an answer", srv.URL + "/half", apierr.Retry, apierr.Ambiguous},
		{"no answer in time", srv.URL + "/slow", apierr.Retry, apierr.Ambiguous},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, write := range []bool{false, true} {
				want := tt.read
				if write {
					want = tt.write
				}
				_, err := apierr.Do(t.Context(), client, apierr.Call{System: "ghl", Op: "op", Method: "POST", URL: tt.url + "?email=ada@example.org", Body: []byte("{}"), Write: write})
				if apierr.ClassOf(err) != want || strings.Contains(err.Error(), "ada@") {
					t.Errorf("write %t: got %v, want %v", write, err, want)
				}
			}
		})
	}
	t.Run("called off", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("stopping")
		cancel(why)
		if _, err := apierr.Do(ctx, client, apierr.Call{Method: "GET", URL: srv.URL + "/slow"}); !errors.Is(err, why) {
			t.Errorf("got %v", err)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	tests := []struct {
		header string
		want   time.Duration
	}{{"7", 7 * time.Second}, {now.Add(time.Minute).Format(http.TimeFormat), time.Minute}, {"", 0}, {"soon", 0}, {"-3", 0}}
	for _, tt := range tests {
		if got := apierr.RetryAfter(http.Header{"Retry-After": {tt.header}}, now); got != tt.want {
			t.Errorf("%q: got %s, want %s", tt.header, got, tt.want)
		}
	}
}
