package budget

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/causeway-sync/causeway/schemas/canonical"
)

// Metrics are the counters of a process's budgets. Their labels are bounded by
// the configuration.
type Metrics struct {
	calls   *prometheus.CounterVec
	waiting *prometheus.GaugeVec
	slots   *prometheus.GaugeVec
	limit   *prometheus.GaugeVec
	day     *prometheus.GaugeVec
}

// NewMetrics registers the counters, or finds those of another stage in the
// same process, which counts with this one.
func NewMetrics(r prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "causeway_budget_calls_total", Help: "Calls that this process was given leave for, by what they are for.",
		}, []string{"system", "tenant", "lane"}),
		waiting: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "causeway_budget_waiting", Help: "Calls that wait for leave.",
		}, []string{"system", "tenant", "lane"}),
		slots: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "causeway_budget_leased", Help: "Calls in a window that this process has leased.",
		}, []string{"system", "tenant", "window"}),
		limit: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "causeway_budget_limit", Help: "Calls in a window that all processes may make, as the configuration or the system says.",
		}, []string{"system", "tenant", "window"}),
		day: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "causeway_budget_day_left", Help: "Calls of the day's quota that no process has taken out, when this one last saw it.",
		}, []string{"system", "tenant"}),
	}
	return m, errors.Join(register(r, &m.calls), register(r, &m.waiting), register(r, &m.slots), register(r, &m.limit), register(r, &m.day))
}

func register[C prometheus.Collector](r prometheus.Registerer, c *C) error {
	err := r.Register(*c)
	var have prometheus.AlreadyRegisteredError
	if errors.As(err, &have) {
		if existing, ok := have.ExistingCollector.(C); ok {
			*c = existing
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}

// meter is one Budget's part of the Metrics.
type meter struct {
	calls   [lanes]prometheus.Counter
	waiting [lanes]prometheus.Gauge
	slots   []prometheus.Gauge
	limit   []prometheus.Gauge
	day     prometheus.Gauge
}

func (m *Metrics) of(system canonical.System, tenant canonical.Tenant, l Limits) *meter {
	s, t := string(system), string(tenant)
	out := &meter{day: m.day.WithLabelValues(s, t)}
	for _, lane := range Lanes() {
		out.calls[lane] = m.calls.WithLabelValues(s, t, lane.String())
		out.waiting[lane] = m.waiting.WithLabelValues(s, t, lane.String())
	}
	for _, w := range l.Windows {
		out.slots = append(out.slots, m.slots.WithLabelValues(s, t, w.Per.String()))
		out.limit = append(out.limit, m.limit.WithLabelValues(s, t, w.Per.String()))
		out.limit[len(out.limit)-1].Set(float64(w.Calls))
	}
	return out
}
