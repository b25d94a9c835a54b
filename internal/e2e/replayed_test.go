package e2e_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/dev"
	"github.com/causeway-sync/causeway/internal/ghlsim"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/streams"
)

// wiretap keeps every webhook that passes through it to the front door, as it
// came: its signature is good for ever.
type wiretap struct {
	t    *testing.T
	to   string
	mu   sync.Mutex
	kept []*http.Request
	body [][]byte
}

func (w *wiretap) ServeHTTP(res http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		w.t.Error(err)
	}
	w.mu.Lock()
	w.kept, w.body = append(w.kept, req), append(w.body, body)
	w.mu.Unlock()
	res.WriteHeader(w.send(req, body))
}

func (w *wiretap) send(req *http.Request, body []byte) (status int) {
	again, err := http.NewRequestWithContext(w.t.Context(), req.Method, w.to, bytes.NewReader(body))
	if err != nil {
		w.t.Error(err)
		return 0
	}
	again.Header = req.Header.Clone()
	answer, err := http.DefaultClient.Do(again)
	if err != nil {
		w.t.Error(err)
		return 0
	}
	defer func() { _ = answer.Body.Close() }() // nothing of it is read
	return answer.StatusCode
}

// replay sends once more all that contains part, and returns how many those are.
func (w *wiretap) replay(part string) int {
	w.mu.Lock()
	kept, bodies := slices.Clone(w.kept), slices.Clone(w.body)
	w.mu.Unlock()
	n := 0
	for i, body := range bodies {
		if !strings.Contains(string(body), part) {
			continue
		}
		n++
		if got := w.send(kept[i], body); got != http.StatusOK {
			w.t.Errorf("a replayed webhook is answered %d, want 200: its sender is to stop", got)
		}
	}
	return n
}

// TestReplayedWebhook: somebody has kept the webhooks, signatures and all, and
// sends them again: within the duplicate window they are dropped by their id,
// after it each leads to a fetch at most, and none ever to a write.
func TestReplayedWebhook(t *testing.T) {
	t.Parallel()
	w := world(t, dev.Options{})
	tap := &wiretap{t: t, to: w.HookURL + "/hooks/ghl"}
	proxy := httptest.NewServer(tap)
	t.Cleanup(proxy.Close)
	w.GHL.SetWebhookURL(proxy.URL)
	here(t, w)
	g := &guild{World: w, t: t, c: connect(t, w)}
	ada := g.contact(map[string]any{"firstName": "Ada", "lastName": "Imhof", "email": "ada@example.org"})
	state := g.of(canonical.GHL, ada)
	for _, name := range []string{"Berg", "Castell"} {
		if _, err := w.GHL.Edit(ghlsim.Edit{Kind: ghlsim.EditUpdate, LocationID: dev.Location, ContactID: string(ada), Fields: map[string]any{"lastName": name}}); err != nil {
			t.Fatal(err)
		}
		bustest.Until(t, func() bool { return w.Novi.Dump()[0].Fields["LastName"] == name })
	}
	quiet := func() {
		t.Helper()
		if err := w.Quiet(t.Context(), g.c, time.Second); err != nil {
			t.Fatal(err)
		}
	}
	quiet()
	ends := func() (ends [2]uint64) {
		t.Helper()
		for i, stream := range []string{streams.RAW, streams.CANONICAL} {
			var err error
			if ends[i], err = g.c.LastSequence(t.Context(), stream); err != nil {
				t.Fatal(err)
			}
		}
		return ends
	}
	before, ledgers, reads := ends(), [2]int{len(w.GHL.Ledger()), len(w.Novi.Ledger())}, w.GHL.Stats().Reads

	if n := tap.replay("ContactUpdate"); n < 2 {
		t.Fatalf("%d webhooks were kept, want one for each edit at the least", n)
	}
	quiet()
	if got := ends(); got != before || w.GHL.Stats().Reads != reads {
		t.Errorf("within the duplicate window RAW and CANONICAL go from %v to %v, with %d reads", before, got, w.GHL.Stats().Reads-reads)
	}

	// The window is over.
	s, err := g.c.JetStream().Stream(t.Context(), streams.RAW)
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	cfg.Duplicates = 100 * time.Millisecond
	if _, err := g.c.JetStream().UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	quiet()
	var n int
	bustest.Until(t, func() bool { // what the server remembers goes a little later
		n += tap.replay("Castell")
		return ends()[0] > before[0]
	})
	quiet()
	// A fetch of a contact is two reads: the contact and its notes.
	if got := w.GHL.Stats().Reads - reads; got == 0 || got > 2*n {
		t.Errorf("%d replayed webhooks led to %d reads, want a fetch each at most", n, got)
	}
	if got := [2]int{len(w.GHL.Ledger()), len(w.Novi.Ledger())}; got != ledgers {
		t.Errorf("what was written goes from %v to %v", ledgers, got)
	}
	if now := g.state(state.ID()); now.Contact.LastName != "Castell" || ends()[1] != before[1] {
		t.Errorf("the contact is %s, and CANONICAL goes from %d to %d", now.Contact.LastName, before[1], ends()[1])
	}
	g.noLetters()
}
