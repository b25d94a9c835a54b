package e2e_test

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goccy/go-json"
	"github.com/google/go-cmp/cmp"

	"github.com/causeway-sync/causeway/internal/dev"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/sink/preview"
	"github.com/causeway-sync/causeway/streams"
)

// calls is what went through a proxy.
type calls struct {
	mu            sync.Mutex
	reads, writes []string
}

// call says one: of a body's keys those of GHL, where they are what is changed.
func call(system canonical.System, method, path string, keys []string) string {
	line := string(system) + " " + method + " " + path
	if system == canonical.GHL && len(keys) > 0 {
		line += " " + strings.Join(slices.Sorted(slices.Values(keys)), ",")
	}
	return line
}

// proxy notes the calls on their way to a simulator.
func (c *calls) proxy(t *testing.T, system canonical.System, to string) string {
	t.Helper()
	target, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	forward := httputil.NewSingleHostReverseProxy(target)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		keys := map[string]json.RawMessage{}
		_ = json.Unmarshal(body, &keys) // a read and a delete have none
		delete(keys, "locationId")
		c.mu.Lock()
		if line := call(system, r.Method, r.URL.EscapedPath(), slices.Collect(maps.Keys(keys))); r.Method == http.MethodGet {
			c.reads = append(c.reads, line)
		} else {
			c.writes = append(c.writes, line)
		}
		c.mu.Unlock()
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// planned runs causeway plan.
func planned(t *testing.T, w *dev.World) (*calls, preview.Summary) {
	t.Helper()
	code, out, errs := program(t, nil, "causeway", "plan", "--config", w.ConfigPath, "--json", "--limit", "0")
	if code != 0 {
		t.Fatalf("plan: %d %s", code, errs)
	}
	c := &calls{}
	var summary preview.Summary
	for line := range strings.Lines(out) {
		var o struct {
			preview.Operation
			Summary *preview.Summary `json:"summary"`
		}
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		if o.Summary != nil {
			summary = *o.Summary
			continue
		}
		if len(o.Values) > 0 {
			t.Errorf("it shows values: %s", line)
		}
		keys := map[string]bool{}
		for _, f := range o.Fields {
			if strings.HasPrefix(f, "custom:") {
				f = "customFields"
			}
			keys[f] = true
		}
		if said := call(o.System, o.Method, o.Path, slices.Collect(maps.Keys(keys))); o.Read {
			c.reads = append(c.reads, said)
		} else {
			c.writes = append(c.writes, said)
		}
	}
	return c, summary
}

// TestThePlanIsWhatIsSent: where all is well a plan is empty; with a changed
// mapping it names each call that the sink then makes, and no other.
func TestThePlanIsWhatIsSent(t *testing.T) {
	w := world(t, dev.Options{PollGHL: time.Second, PollNovi: time.Second, Items: true, Seed: 2})
	whole, err := os.ReadFile(w.ConfigPath)
	if err != nil {
		t.Fatal(err)
	}
	configure := func(text string) {
		t.Helper()
		if err := os.WriteFile(w.ConfigPath, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const derive = "          derive:\n            - {tag: \"status: {value}\", field: membership.status}\n"
	if !strings.Contains(string(whole), derive) {
		t.Fatal("the world derives no tags")
	}
	// At first less is written to GHL than the world's mapping says.
	configure(strings.NewReplacer(derive, "          derive: []\n",
		"        fields:\n", "        fields:\n          job_title: {ghl: \"custom:contact.job_title\", ghl_write: never, novi: JobTitle}\n").Replace(string(whole)) +
		"      sync: {task: {to_ghl: false}}\n")
	people := dev.NewPeople(w, w.Seed)
	if err := people.Arrive(12); err != nil {
		t.Fatal(err)
	}
	h, c := here(t, w), connect(t, w)
	quiet := func() {
		t.Helper()
		if err := w.Quiet(t.Context(), c, 4*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	quiet()
	people.Meet()
	for range 40 {
		if err := people.Act(); err != nil {
			t.Fatal(err)
		}
	}
	quiet()
	w.GHL.SetWebhookURL("") // nobody is there to take them
	w.Novi.SetWebhookURL("")
	for _, stage := range []string{"ingest", "transform", "sink"} {
		if err := h.StopStage(stage); err != nil {
			t.Fatal(err)
		}
	}
	if got, summary := planned(t, w); len(got.reads)+len(got.writes) != 0 || summary.Entities == 0 || summary.Systems[canonical.GHL].Pending+summary.Systems[canonical.Novi].Pending != 0 {
		t.Errorf("where nothing is to be done: %q, %+v", append(got.reads, got.writes...), summary)
	}

	var sent calls
	configure(strings.NewReplacer(w.GHLURL, sent.proxy(t, canonical.GHL, w.GHLURL), w.NoviURL, sent.proxy(t, canonical.Novi, w.NoviURL)).Replace(string(whole)))
	want, summary := planned(t, w)
	for _, part := range []string{" PUT /contacts/", "/tags tags", " POST /contacts/", "/tasks "} {
		if !slices.ContainsFunc(want.writes, func(s string) bool { return strings.Contains(s, part) }) {
			t.Errorf("the plan has no %q: %q", part, want.writes)
		}
	}
	if n := summary.Systems[canonical.GHL]; n.Writes != len(want.writes) || n.MayFire != n.Writes || summary.Systems[canonical.Novi].Writes != 0 {
		t.Errorf("the sum is %+v and %+v for %d writes", n, summary.Systems[canonical.Novi], len(want.writes))
	}

	// The sink looks at everything anew, and only it speaks to the systems.
	for _, system := range []canonical.System{canonical.GHL, canonical.Novi} {
		s := streams.Sink(system, dev.Tenant)
		if err := c.JetStream().DeleteConsumer(t.Context(), s.Stream, s.Durable); err != nil {
			t.Fatal(err)
		}
	}
	before := len(w.GHL.Ledger()) + len(w.Novi.Ledger())
	for _, stage := range []string{"transform", "sink"} {
		if err := h.Start(t.Context(), stage); err != nil {
			t.Fatal(err)
		}
	}
	quiet()
	sent.mu.Lock()
	defer sent.mu.Unlock()
	for _, list := range [][]string{sent.reads, sent.writes, want.reads, want.writes} {
		slices.Sort(list)
	}
	if d := cmp.Diff(want.writes, sent.writes); d != "" {
		t.Errorf("planned and sent:\n%s", d)
	}
	// A record that was seen a moment ago is written without a look.
	for _, read := range sent.reads {
		if !slices.Contains(want.reads, read) {
			t.Errorf("nobody planned %s", read)
		}
	}
	if n := len(w.GHL.Ledger()) + len(w.Novi.Ledger()) - before; n != len(want.writes) {
		t.Errorf("the systems' ledgers have %d entries more for %d writes", n, len(want.writes))
	}
	if got, _ := planned(t, w); len(got.writes) != 0 {
		t.Errorf("and after that: %q", got.writes)
	}
}
