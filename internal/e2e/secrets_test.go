package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/goccy/go-json"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/ingest"
	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/config"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/sink"
	"github.com/causeway-sync/causeway/streams"
)

// shared is a log that several goroutines write.
type shared struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *shared) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// TestNoSecretIsShown: both systems fail in every way and repeat the
// credentials that they were sent, and neither a log nor a metric nor anything
// that is stored shows them.
func TestNoSecretIsShown(t *testing.T) {
	const ghlToken, noviKey = "zq7-ghl-XyZzyTokenOfNoKnownForm", "zq7-novi-XyZzyKeyOfNoKnownForm"
	var status, asked atomic.Int64
	system := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		said := r.Header.Get("Authorization")
		_, bare, _ := strings.Cut(said, " ")
		code := int(status.Load())
		if code == 0 {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("X-Request-Id", bare)
		w.WriteHeader(code)
		body, _ := json.Marshal(map[string]any{"statusCode": code, "message": []string{"no " + bare, said}, "Message": bare + " is not allowed, " + said,
			"error": said, "traceId": bare, "ModelState": map[string]any{bare: []string{said}}})
		_, _ = w.Write(body)
	}))
	t.Cleanup(system.Close)
	c := bustest.Start(t)
	dir := t.TempDir()
	for name, text := range map[string]string{"ghl": ghlToken, "novi": noviKey, "causeway.yaml": fmt.Sprintf(`tenants:
  - name: a
    backfill: false
    ghl: {location: loc1, base_url: %q, token: file:ghl, poll: 50ms}
    novi: {base_url: %q, key: file:novi, create: always, poll: 50ms}
`, system.URL, system.URL)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file, err := config.Load(filepath.Join(dir, "causeway.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	log, metricsIn, metricsOut := &shared{}, prometheus.NewRegistry(), prometheus.NewRegistry()
	logger := zerolog.New(log).Level(zerolog.DebugLevel)
	in, err := ingest.FromFile(file, c, "test", clock.System{}, logger, metricsIn)
	if err != nil {
		t.Fatal(err)
	}
	out, err := sink.FromFile(file, bustest.Again(t, c), "test", clock.System{}, rand.NewPCG(1, 2), logger, metricsOut)
	if err != nil {
		t.Fatal(err)
	}
	status.Store(500)
	stopIn := bustest.Go(t, func(ctx context.Context) error { return ingest.Run(ctx, in) })
	stopOut := bustest.Go(t, func(ctx context.Context) error { return sink.Run(ctx, out) })
	for i, code := range []int64{400, 401, 403, 404, 408, 409, 422, 429, 500, 502, 0, 200} {
		status.Store(code)
		before := asked.Load()
		seed := canonical.ExternalID(fmt.Sprintf("seed-%d", i))
		e := canonical.Event{Version: 1, Contact: canonical.Contact{ID: canonical.NewID("a", canonical.KindContact, canonical.GHL, seed), FirstName: "Ada", Email: string(seed) + "@example.org"}}
		data, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		messages := []bus.Message{{Subject: streams.Canonical(canonical.KindContact, "a", e.Contact.ID, canonical.OpCreated), Data: data}}
		for _, s := range []canonical.System{canonical.GHL, canonical.Novi} {
			o := observation.Observation{System: s, Tenant: "a", Kind: canonical.KindContact, ExternalID: seed, Via: observation.Notice, Record: []byte("{}")}
			body, err := o.Encode()
			if err != nil {
				t.Fatal(err)
			}
			messages = append(messages, bus.Message{Subject: streams.Raw(o), Data: body})
		}
		for _, m := range messages {
			if _, err := c.Publish(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
		bustest.Until(t, func() bool { return asked.Load() >= before+3 })
	}
	// What was refused for good is a dead letter by now, or soon is.
	bustest.Until(t, func() bool { return len(bustest.All(t, c, streams.DEAD)) >= 2 })
	stopIn()
	stopOut()

	shown := map[string]string{"the log": log.String()}
	for _, metrics := range []*prometheus.Registry{metricsIn, metricsOut} {
		families, err := metrics.Gather()
		if err != nil {
			t.Fatal(err)
		}
		shown["a metric"] += fmt.Sprint(families)
	}
	for _, stream := range []string{streams.RAW, streams.CANONICAL, streams.EFFECTS, streams.DEAD} {
		for _, m := range bustest.All(t, c, stream) {
			shown[stream] += fmt.Sprintln(m.Subject, m.Header, string(m.Data))
		}
	}
	for where, text := range shown {
		if text == "" {
			t.Errorf("%s is empty", where)
		}
		for _, never := range []string{ghlToken, noviKey, "XyZzy"} {
			if strings.Contains(text, never) {
				i := strings.Index(text, never)
				t.Errorf("%s shows a secret: …%s…", where, text[max(0, i-200):min(len(text), i+60)])
			}
		}
	}
}
