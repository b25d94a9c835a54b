package e2e_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/dead"
	"github.com/causeway-sync/causeway/internal/dev"
	"github.com/causeway-sync/causeway/internal/novisim"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/streams"
)

// TestRedrive: GHL refuses an address that Novi takes. That blocks nobody
// else, and goes when the mapping leaves the address out and a person says
// so, or when somebody corrects it.
func TestRedrive(t *testing.T) {
	t.Parallel()
	w := world(t, dev.Options{})
	made := func(first, email string) string {
		t.Helper()
		id, err := w.Novi.Edit(novisim.Edit{Fields: map[string]any{"FirstName": first, "LastName": "Imhof", "Email": email, "CustomerType": "Person"}})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	here(t, w)
	c := connect(t, w)
	url := c.JetStream().Conn().ConnectedUrl()
	ghl := func() int { return len(w.GHL.Dump(dev.Location)) }
	letters := func() (found []dead.Letter) {
		t.Helper()
		for _, m := range bustest.All(t, c, streams.DEAD) {
			l := dead.Letter{Key: m.Subject}
			if err := json.Unmarshal(m.Data, &l.DeadLetter); err != nil {
				t.Fatal(err)
			}
			found = append(found, l)
		}
		return found
	}
	ada := made("Ada", "ada@example.org")
	bustest.Until(t, func() bool { return ghl() == 1 })
	edit := func(field, value string) {
		t.Helper()
		if _, err := w.Novi.Edit(novisim.Edit{MemberID: ada, Fields: map[string]any{field: value}}); err != nil {
			t.Fatal(err)
		}
	}
	edit("Email", "nowhere")
	made("Ben", "ben@example.org")
	var l dead.Letter
	bustest.Until(t, func() bool { // it is replaced by the next try's
		found := letters()
		if len(found) == 1 {
			l = found[0]
		}
		return ghl() == 2 && len(found) == 1
	})
	if l.Stage != "sink-ghl" || l.Class != envelope.Data || l.Request == nil || l.Request.Operation != "update" || l.Answer == nil || l.Answer.Status != 422 {
		t.Errorf("got %+v", l)
	}
	code, out, errs := program(t, nil, "causeway", "dead", "show", l.Key, "--nats", url)
	if code != 0 || !strings.Contains(out, `"email"`) || strings.Contains(out, "nowhere") || strings.Contains(out, "Imhof") {
		t.Errorf("show: %d %q %q", code, out, errs)
	}

	text, err := os.ReadFile(w.ConfigPath)
	if err != nil {
		t.Fatal(err)
	}
	mapped := strings.Replace(string(text), "        fields:\n", "        fields:\n          email: {novi: Email, convert: email}\n", 1)
	if err := os.WriteFile(w.ConfigPath, []byte(mapped), 0o600); err != nil {
		t.Fatal(err)
	}
	// Until the stages have taken it, the letter comes back.
	bustest.Until(t, func() bool {
		if len(letters()) == 0 {
			return true
		}
		if code, out, errs := program(t, nil, "causeway", "dead", "redrive", "--class", "data", "--nats", url); code != 0 {
			t.Fatalf("redrive: %d %q %q", code, out, errs)
		}
		return false
	})
	if err := w.Quiet(t.Context(), c, time.Second); err != nil {
		t.Fatal(err)
	}

	// Refused once more, and corrected by a person.
	if err := os.WriteFile(w.ConfigPath, text, 0o600); err != nil {
		t.Fatal(err)
	}
	bustest.Until(t, func() bool {
		edit("JobTitle", time.Now().Format(time.StampNano))
		return len(letters()) == 1
	})
	edit("Email", "ada.imhof@example.org")
	bustest.Until(t, func() bool { return len(letters()) == 0 })
}
