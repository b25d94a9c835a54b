package clients_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/ghlapi"
	"github.com/causeway-sync/causeway/internal/noviapi"
)

// row is one of the tables of docs/errors.md.
type row struct {
	system, call, body, class string
	status                    int
}

func rows(t *testing.T) (out []row) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "errors.md"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if len(cells) != 5 || !strings.HasPrefix(line, "| ghl |") && !strings.HasPrefix(line, "| novi |") {
			continue
		}
		for i := range cells {
			cells[i] = strings.Trim(strings.TrimSpace(cells[i]), "`")
		}
		status, err := strconv.Atoi(cells[2])
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		out = append(out, row{system: cells[0], call: cells[1], status: status, body: cells[3], class: cells[4]})
	}
	return out
}

// TestErrorTable serves every row of docs/errors.md to the clients.
func TestErrorTable(t *testing.T) {
	all := rows(t)
	if len(all) < 40 {
		t.Fatalf("docs/errors.md has %d rows", len(all))
	}
	for _, r := range all {
		t.Run(strings.Join([]string{r.system, r.call, strconv.Itoa(r.status), r.body}, " "), func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if r.status == 0 {
					panic(http.ErrAbortHandler)
				}
				w.WriteHeader(r.status)
				_, _ = w.Write([]byte(r.body))
			}))
			defer srv.Close()
			if got := apierr.ClassOf(do(t, srv, r)).String(); got != r.class {
				t.Errorf("got %s, want %s", got, r.class)
			}
		})
	}
}

func do(t *testing.T, srv *httptest.Server, r row) (err error) {
	t.Helper()
	client := &http.Client{Timeout: 5 * time.Second}
	secret := func(context.Context) (string, error) { return "secret", nil }
	if r.system == "ghl" {
		c := ghlapi.New(ghlapi.Config{BaseURL: srv.URL, LocationID: "loc1", Token: secret, HTTP: client, Clock: clock.System{}})
		switch r.call {
		case "read":
			_, err = c.GetContact(t.Context(), budget.Live, "X")
		case "write":
			_, err = c.UpdateContact(t.Context(), budget.Live, "X", map[string]any{"firstName": "Ada"})
		case "create":
			_, err = c.CreateContact(t.Context(), budget.Live, map[string]any{"firstName": "Ada"})
		}
		return err
	}
	c := noviapi.New(noviapi.Config{BaseURL: srv.URL, Key: secret, HTTP: client, Clock: clock.System{}})
	switch r.call {
	case "read":
		_, err = c.GetMember(t.Context(), budget.Live, "X")
	case "write":
		_, err = c.PutMember(t.Context(), budget.Live, "X", []byte(`{}`))
	case "create":
		_, err = c.CreateMember(t.Context(), budget.Live, []byte(`{}`))
	}
	return err
}
