package e2e_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/dev"
	"github.com/causeway-sync/causeway/internal/novisim"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/streams"
)

// TestAutomations: somebody becomes a member in Novi, after the backfill. Both
// systems get the task and the tag, GHL starts the workflow, the webhook is
// called, each once, also after the stages were started anew; nobody whom the
// backfill showed is welcomed.
func TestAutomations(t *testing.T) {
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	var calls atomic.Int32
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		wh, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			t.Error(err)
			return
		}
		if err := wh.Verify(body, r.Header); err != nil || !strings.Contains(string(body), `"email":"otto@example.org"`) {
			t.Errorf("%v %s", err, body)
		}
		calls.Add(1)
	}))
	defer receiver.Close()
	w := world(t, dev.Options{PollGHL: time.Second, PollNovi: time.Second, Rules: `
      - name: welcome
        when: "after.membership.status == 'current'"
        do:
          - task: {title: "Welcome {after.first_name}", due: "2027-01-04T10:00:00Z"}
          - add_tag: new member
          - workflow: ` + dev.Workflow + `
          - webhook: {url: "` + receiver.URL + `", secret: file:secrets/hook}
`})
	if err := os.WriteFile(filepath.Join(w.Dir, "secrets", "hook"), []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	member := func(first string) string {
		id, err := w.Novi.Edit(novisim.Edit{Fields: map[string]any{"Name": first + " Imhof", "FirstName": first, "LastName": "Imhof", "Email": strings.ToLower(first) + "@example.org", "Mobile": fmt.Sprintf("(202) 555-01%02d", 40+len(first)), "MemberStatus": "current"}})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	member("Ada") // is there already
	h := here(t, w)
	c := connect(t, w)
	if err := w.Quiet(t.Context(), c, 2*time.Second); err != nil {
		t.Fatal(err)
	}
	member("Otto")
	enrolled := func() (in []string) {
		for _, x := range w.GHL.Dump(dev.Location) {
			in = append(in, w.GHL.Enrolled(dev.Location, x.ID)...)
		}
		return in
	}
	bustest.Until(t, func() bool {
		return len(w.Novi.Activities()) > 0 && len(w.GHL.Items(dev.Location, "task")) > 0 && len(enrolled()) > 0 && calls.Load() > 0
	})
	if err := w.Quiet(t.Context(), c, 2*time.Second); err != nil {
		t.Fatal(err)
	}
	for _, stage := range []string{"transform", "sink"} {
		if err := h.StopStage(stage); err != nil {
			t.Fatal(err)
		}
		if err := h.Start(t.Context(), stage); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Quiet(t.Context(), c, 2*time.Second); err != nil {
		t.Fatal(err)
	}
	if a, i, in, n := len(w.Novi.Activities()), len(w.GHL.Items(dev.Location, "task")), enrolled(), calls.Load(); a != 1 || i != 1 || !slices.Equal(in, []string{"workflow:" + dev.Workflow}) || n != 1 {
		t.Errorf("%d activities, %d items, enrolled in %v, %d calls", a, i, in, n)
	}
	tagged := 0
	for _, x := range w.GHL.Dump(dev.Location) {
		if slices.Contains(x.Tags, "new member") {
			tagged++
		}
	}
	if tagged != 1 {
		t.Errorf("%d contacts have the tag", tagged)
	}
	if l := bustest.All(t, c, streams.DEAD); len(l) > 0 {
		t.Errorf("a dead letter: %s", l[0].Data)
	}
	// The dry run finds what fired, and the one of the backfill not.
	code, out, errs := program(t, nil, "causeway", "rules", "test", "--config", w.ConfigPath, "--show-values")
	if code != 0 || strings.Count(out, "\n") != 2 || !strings.Contains(out, `task "Welcome Otto", add tag "new member"`) {
		t.Errorf("rules test: %d %q %q", code, out, errs)
	}
	if code, out, errs := program(t, nil, "causeway", "rules", "list", "--config", w.ConfigPath, "--json"); code != 0 || !strings.Contains(out, `"rule":"welcome"`) {
		t.Errorf("rules list: %d %q %q", code, out, errs)
	}
	for _, m := range bustest.All(t, c, streams.CANONICAL) {
		if strings.Contains(string(m.Data), `"otto@example.org"`) {
			s, err := streams.Parse(m.Subject)
			if err != nil {
				t.Fatal(err)
			}
			documented(t, w, canonical.CanonicalID(s.ID), "otto@example.org")
			break
		}
	}
}
