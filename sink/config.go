package sink

import (
	"context"
	"math/rand/v2"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/circuit"
	"github.com/causeway-sync/causeway/internal/clients"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/config"
)

// FromFile returns what file says. instance names the process, to people.
func FromFile(file *config.File, b bus.Bus, instance string, clk clock.Clock, random rand.Source, logger zerolog.Logger, metrics prometheus.Registerer) (Config, error) {
	cfg := Config{Bus: b, Clock: clk, Rand: random, Logger: logger, Metrics: metrics}
	cfg.Secret = func(reference string) (string, error) { return file.Resolve(config.Secret(reference)) }
	circuits, err := circuit.New(circuit.Config{Logger: logger, Clock: clk, Metrics: metrics})
	if err != nil {
		return Config{}, err
	}
	cfg.Circuits = circuits
	maker, err := clients.New(file, clients.Options{Clock: clk, Bus: b, Name: instance, Logger: logger, Metrics: metrics, Circuits: circuits})
	if err != nil {
		return Config{}, err
	}
	cfg.Close = maker.Close
	if err := maker.UseTokens(context.Background(), b, logger); err != nil {
		return Config{}, err
	}
	for _, t := range file.Tenants {
		tenant := Tenant{Name: t.Name, Lens: t.Lens(), Workers: t.Workers, Backfill: *t.Backfill}
		if tenant.GHL, err = maker.GHL(t); err != nil {
			return Config{}, err
		}
		if tenant.Novi, err = maker.Novi(t); err != nil {
			return Config{}, err
		}
		if t.GHL != nil {
			tenant.SweptGHL = *t.GHL.Sweep > 0 && *t.GHL.SweepAll > 0
		}
		if t.Novi != nil {
			tenant.Protect = t.Novi.Protect
			tenant.SweptNovi = t.Novi.HasActivities() && *t.Novi.SweepAll > 0
		}
		tenant.Policy, tenant.Rules = t.Policy(), t.Automations()
		tenant.CreateGHL, tenant.CreateNovi = t.Policy().CreateGHL, t.Policy().CreateNovi
		cfg.Tenants = append(cfg.Tenants, tenant)
	}
	return cfg, nil
}
