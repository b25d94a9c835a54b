// Package clients makes the two systems' HTTP clients as a tenant's
// configuration says: base URL, secret, limits and this stage's share of them.
package clients

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/config"
	"github.com/causeway-sync/causeway/internal/ghlapi"
	"github.com/causeway-sync/causeway/internal/noviapi"
)

// Maker makes clients that share a transport and a counter of calls.
type Maker struct {
	file  *config.File
	clock clock.Clock
	share float64
	calls *prometheus.CounterVec
	base  http.RoundTripper
}

// New returns a Maker for a stage that may use share of each limit. base
// makes the calls; nil means a transport of its own. metrics may be nil.
func New(file *config.File, clk clock.Clock, share float64, base http.RoundTripper, metrics prometheus.Registerer) (*Maker, error) {
	m := &Maker{file: file, clock: clk, share: share, base: base, calls: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "causeway_api_calls_total", Help: "Calls to the two systems by method and HTTP status; status 0 is no answer.",
	}, []string{"system", "tenant", "method", "status"})}
	if m.base == nil {
		m.base = &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 16, IdleConnTimeout: 90 * time.Second,
			TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: 25 * time.Second, ForceAttemptHTTP2: true}
	}
	if metrics != nil {
		if err := metrics.Register(m.calls); err != nil {
			var have prometheus.AlreadyRegisteredError
			if !errors.As(err, &have) {
				return nil, fmt.Errorf("metrics: %w", err)
			}
			// Two stages in one process count together.
			if c, ok := have.ExistingCollector.(*prometheus.CounterVec); ok {
				m.calls = c
			}
		}
	}
	return m, nil
}

// counted is a transport that counts.
type counted struct {
	base           http.RoundTripper
	calls          *prometheus.CounterVec
	system, tenant string
}

func (c counted) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := c.base.RoundTrip(r)
	status := 0
	if err == nil {
		status = res.StatusCode
	}
	c.calls.WithLabelValues(c.system, c.tenant, r.Method, strconv.Itoa(status)).Inc()
	return res, err
}

func (m *Maker) http(system string, t config.Tenant) *http.Client {
	return &http.Client{Timeout: 30 * time.Second, Transport: counted{m.base, m.calls, system, string(t.Name)}}
}

func (m *Maker) budget(l config.Limits) (*budget.Budget, error) {
	limits := budget.Limits{Daily: l.Daily, Share: m.share}
	for _, w := range l.Windows {
		limits.Windows = append(limits.Windows, budget.Window{Calls: w.Calls, Per: w.Per})
	}
	return budget.New(m.clock, limits)
}

// GHL returns the client of t's location, or nil if it has none.
func (m *Maker) GHL(t config.Tenant) (*ghlapi.Client, error) {
	if t.GHL == nil {
		return nil, nil
	}
	token := &pair{file: m.file, refs: [2]config.Secret{t.GHL.Token, t.GHL.TokenNext}}
	if _, err := token.get(context.Background()); err != nil {
		return nil, fmt.Errorf("tenant %s: ghl.token: %w", t.Name, err)
	}
	b, err := m.budget(t.GHL.Limits)
	if err != nil {
		return nil, fmt.Errorf("tenant %s: ghl: %w", t.Name, err)
	}
	return ghlapi.New(ghlapi.Config{BaseURL: t.GHL.BaseURL, LocationID: t.GHL.Location, Token: token.get, Refused: token.refused, HTTP: m.http("ghl", t), Clock: m.clock, Budget: b}), nil
}

// Novi returns the client of t's site, or nil if it has none.
func (m *Maker) Novi(t config.Tenant) (*noviapi.Client, error) {
	if t.Novi == nil {
		return nil, nil
	}
	key := &pair{file: m.file, refs: [2]config.Secret{t.Novi.Key, t.Novi.KeyNext}}
	if _, err := key.get(context.Background()); err != nil {
		return nil, fmt.Errorf("tenant %s: novi.key: %w", t.Name, err)
	}
	b, err := m.budget(t.Novi.Limits)
	if err != nil {
		return nil, fmt.Errorf("tenant %s: novi: %w", t.Name, err)
	}
	zone, err := time.LoadLocation(t.Novi.Timezone)
	if err != nil {
		return nil, fmt.Errorf("tenant %s: novi.timezone: %w", t.Name, err)
	}
	return noviapi.New(noviapi.Config{BaseURL: t.Novi.BaseURL, Key: key.get, Refused: key.refused, HTTP: m.http("novi", t), Clock: m.clock, Budget: b,
		Paths: noviapi.Paths(t.Novi.Paths), Timezone: zone}), nil
}
