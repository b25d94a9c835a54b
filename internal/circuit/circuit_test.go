package circuit_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goccy/go-json"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/circuit"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/streams"
)

// site answers with a status of the moment.
type site struct {
	status, calls atomic.Int64
	client        *http.Client
	url           string
}

func newSite(t *testing.T, b *circuit.Breaker) *site {
	t.Helper()
	s := &site{}
	s.status.Store(200)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.calls.Add(1)
		w.WriteHeader(int(s.status.Load()))
	}))
	t.Cleanup(srv.Close)
	s.url, s.client = srv.URL, &http.Client{Transport: b.Transport(srv.Client().Transport)}
	return s
}

func (s *site) get(ctx context.Context) error {
	a, err := apierr.Do(ctx, s.client, apierr.Call{System: "ghl", Op: "get", Method: http.MethodGet, URL: s.url})
	if err == nil && a.Status != 200 {
		return errors.New(http.StatusText(a.Status))
	}
	return err
}

func gauge(t *testing.T, g prometheus.Gatherer) float64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil || len(families) != 1 {
		t.Fatalf("got %v, %v", families, err)
	}
	return families[0].GetMetric()[0].GetGauge().GetValue()
}

func TestACircuitOpensAndCloses(t *testing.T) {
	tests := []struct {
		name   string
		status int64
		cause  string
		gauge  float64
	}{
		{"the system fails", 503, circuit.Away, 2},
		{"it refuses our credentials", 401, circuit.Refused, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := bustest.Start(t)
			var logs bytes.Buffer
			metrics := prometheus.NewRegistry()
			set, err := circuit.New(circuit.Config{Logger: zerolog.New(&logs), Metrics: metrics, Trip: 3, Pause: 50 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			b := set.Of(canonical.GHL, "a")
			s := newSite(t, b)
			kv, err := c.Bucket(t.Context(), streams.BUDGETS)
			if err != nil {
				t.Fatal(err)
			}
			bustest.Go(t, func(ctx context.Context) error { return set.Report(ctx, c, "sink") })
			if err := s.get(t.Context()); err != nil || b.Holds() {
				t.Fatalf("a good call: %v", err)
			}
			s.status.Store(tt.status)
			for range 3 {
				if err := s.get(t.Context()); err == nil || errors.Is(err, apierr.ErrHeld) {
					t.Fatalf("got %v", err)
				}
			}
			if got := gauge(t, metrics); got != tt.gauge {
				t.Errorf("the metric is %v, want %v", got, tt.gauge)
			}
			// Nothing is asked of it but now and then, though everybody wants to.
			before, tries := s.calls.Load(), 0
			bustest.Until(t, func() bool {
				tries++
				_ = s.get(t.Context())
				return s.calls.Load() >= before+4
			})
			if tries < 8 {
				t.Errorf("%d calls were made of %d that were wanted", s.calls.Load()-before, tries)
			}
			key := streams.CircuitKey(canonical.GHL, "a", "sink")
			bustest.Until(t, func() bool {
				var said streams.Circuit
				value, _, err := kv.Get(t.Context(), key)
				return err == nil && json.Unmarshal(value, &said) == nil && said.Cause == tt.cause && !said.Since.IsZero()
			})
			if n := strings.Count(logs.String(), "nothing is read or written there"); n != 1 {
				t.Errorf("it was logged %d times: %s", n, logs.String())
			}
			s.status.Store(200)
			bustest.Until(t, func() bool { return !b.Holds() && s.get(t.Context()) == nil })
			if got := gauge(t, metrics); got != 0 || b.Holds() || b.Now() != (streams.Circuit{}) {
				t.Errorf("it works again, and the circuit is %+v", b.Now())
			}
			bustest.Until(t, func() bool { _, _, err := kv.Get(t.Context(), key); return err != nil })
		})
	}
}

// TestOneScopeIsNoOutage: refusals among answers open nothing, nor do calls
// that we have called off.
func TestOneScopeIsNoOutage(t *testing.T) {
	set, err := circuit.New(circuit.Config{Trip: 3})
	if err != nil {
		t.Fatal(err)
	}
	b := set.Of(canonical.GHL, "a")
	s := newSite(t, b)
	off, cancel := context.WithCancel(t.Context())
	cancel()
	for i := range 20 {
		s.status.Store([]int64{403, 401, 200, 404}[i%4])
		_ = s.get(t.Context())
		_ = s.get(off)
	}
	if b.Holds() {
		t.Error("it is open")
	}
	if other := set.Of(canonical.GHL, "b"); other == b || set.Of(canonical.GHL, "a") != b {
		t.Error("circuits are mixed up")
	}
}

// TestOneIsLetThrough of the work that waits for a half-open circuit.
func TestOneIsLetThrough(t *testing.T) {
	set, err := circuit.New(circuit.Config{Trip: 1, Pause: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	b := set.Of(canonical.GHL, "a")
	s := newSite(t, b)
	s.status.Store(500)
	_ = s.get(t.Context())
	bustest.Until(t, func() bool { return !b.Holds() })
	if !b.Holds() {
		t.Error("a second one was let through")
	}
	var none *circuit.Set
	if none.Of(canonical.GHL, "a").Holds() {
		t.Error("without circuits something is held")
	}
}
