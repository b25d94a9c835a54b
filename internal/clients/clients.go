// Package clients makes the two systems' HTTP clients as a tenant's
// configuration says: base URL, secret, and a budget of calls that all
// processes share.
package clients

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/attribute"

	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/circuit"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/config"
	"github.com/causeway-sync/causeway/internal/ghlapi"
	"github.com/causeway-sync/causeway/internal/noviapi"
	"github.com/causeway-sync/causeway/internal/trace"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/streams"
)

// Maker makes clients that share a transport and a counter of calls.
type Maker struct {
	file    *config.File
	options Options
	calls   *prometheus.CounterVec
	base    http.RoundTripper
	group   *budget.Group
	oauth   *oauth // see UseTokens
}

// Options are what a Maker needs besides the configuration.
type Options struct {
	Clock clock.Clock
	// Bus has the bucket through which call budgets are leased; nil means that
	// no other process calls.
	Bus bus.Bus
	// Name says to people which process leases.
	Name   string
	Logger zerolog.Logger
	// Share is the most of each limit that this process takes; 0 means all
	// that nobody else needs.
	Share float64
	// Transport makes the calls; nil means one of its own.
	Transport http.RoundTripper
	// Metrics takes the counters; nil keeps none.
	Metrics prometheus.Registerer
	// Circuits stop the calls to a system that fails; nil stops none.
	Circuits *circuit.Set
}

// New returns a Maker. Close gives back what its clients have leased.
func New(file *config.File, o Options) (*Maker, error) {
	m := &Maker{file: file, options: o, base: o.Transport, calls: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "causeway_api_calls_total", Help: "Calls to the two systems by method and HTTP status; status 0 is no answer.",
	}, []string{"system", "tenant", "method", "status"})}
	leases := budget.Options{Clock: o.Clock, Name: o.Name, Logger: o.Logger,
		Bucket: func(ctx context.Context) (bus.KV, error) { return o.Bus.Bucket(ctx, streams.BUDGETS) }}
	if m.base == nil {
		m.base = &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 16, IdleConnTimeout: 90 * time.Second,
			TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: 25 * time.Second, ForceAttemptHTTP2: true}
	}
	if o.Metrics != nil {
		if err := o.Metrics.Register(m.calls); err != nil {
			var have prometheus.AlreadyRegisteredError
			if !errors.As(err, &have) {
				return nil, fmt.Errorf("metrics: %w", err)
			}
			// Two stages in one process count together.
			if c, ok := have.ExistingCollector.(*prometheus.CounterVec); ok {
				m.calls = c
			}
		}
		var err error
		if leases.Metrics, err = budget.NewMetrics(o.Metrics); err != nil {
			return nil, err
		}
	}
	m.group = budget.NewGroup(leases)
	return m, nil
}

// Close gives back what the clients have leased. Calls that are made after it
// wait until their context ends.
func (m *Maker) Close() { m.group.Close() }

// counted is a transport that counts.
type counted struct {
	base           http.RoundTripper
	calls          *prometheus.CounterVec
	system, tenant string
}

func (c counted) RoundTrip(r *http.Request) (*http.Response, error) {
	// Not the URL, whose query may hold an address.
	_, span := trace.Start(r.Context(), "call "+c.system, attribute.String("causeway.system", c.system), attribute.String("causeway.tenant", c.tenant), attribute.String("http.request.method", r.Method))
	res, err := c.base.RoundTrip(r)
	status := 0
	if err == nil {
		status = res.StatusCode
		span.Set(attribute.Int("http.response.status_code", status))
	}
	span.End(err)
	c.calls.WithLabelValues(c.system, c.tenant, r.Method, strconv.Itoa(status)).Inc()
	return res, err
}

func (m *Maker) http(system string, t config.Tenant) *http.Client {
	var transport http.RoundTripper = counted{m.base, m.calls, system, string(t.Name)}
	if b := m.options.Circuits.Of(canonical.System(system), t.Name); b != nil {
		transport = b.Transport(transport)
	}
	return &http.Client{Timeout: 30 * time.Second, Transport: transport}
}

// budget returns this process's part in the budget of owner, whose limits l
// are.
func (m *Maker) budget(system canonical.System, owner canonical.Tenant, l config.Limits) (*budget.Budget, error) {
	limits := budget.Limits{Daily: l.Daily, Share: m.options.Share}
	for _, w := range l.Windows {
		limits.Windows = append(limits.Windows, budget.Window{Calls: w.Calls, Per: w.Per})
	}
	if m.options.Bus == nil {
		return budget.New(m.options.Clock, limits)
	}
	return m.group.Budget(system, owner, limits)
}

// GHL returns the client of t's location, or nil if it has none.
func (m *Maker) GHL(t config.Tenant) (*ghlapi.Client, error) {
	if t.GHL == nil {
		return nil, nil
	}
	token, refused, err := m.token(t)
	if err != nil {
		return nil, fmt.Errorf("tenant %s: %w", t.Name, err)
	}
	b, err := m.budget(canonical.GHL, m.file.BudgetOwner(canonical.GHL, t), t.GHL.Limits)
	if err != nil {
		return nil, fmt.Errorf("tenant %s: ghl: %w", t.Name, err)
	}
	return ghlapi.New(ghlapi.Config{BaseURL: t.GHL.BaseURL, LocationID: t.GHL.Location, Token: token, Refused: refused, HTTP: m.http("ghl", t), Clock: m.options.Clock, Budget: b}), nil
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
	b, err := m.budget(canonical.Novi, m.file.BudgetOwner(canonical.Novi, t), t.Novi.Limits)
	if err != nil {
		return nil, fmt.Errorf("tenant %s: novi: %w", t.Name, err)
	}
	zone, err := time.LoadLocation(t.Novi.Timezone)
	if err != nil {
		return nil, fmt.Errorf("tenant %s: novi.timezone: %w", t.Name, err)
	}
	return noviapi.New(noviapi.Config{BaseURL: t.Novi.BaseURL, Key: key.get, Refused: key.refused, HTTP: m.http("novi", t), Clock: m.options.Clock, Budget: b,
		Paths: noviapi.Paths(t.Novi.Paths), Timezone: zone}), nil
}
