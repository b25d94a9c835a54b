package transform

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/config"
	"github.com/causeway-sync/causeway/schemas/canonical"
)

// FromFile returns what file says. metrics may be nil.
func FromFile(file *config.File, b bus.Bus, clk clock.Clock, logger zerolog.Logger, metrics prometheus.Registerer) Config {
	cfg := Config{Bus: b, Clock: clk, Logger: logger, Metrics: metrics, Tenants: map[canonical.Tenant]Policy{}}
	for _, t := range file.Tenants {
		cfg.Tenants[t.Name] = Policy{Lens: t.Lens(), Rules: t.Policy(), Automations: t.Automations(), Zone: t.Zone()}
	}
	return cfg
}
