package ingest

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/ingest/ghl"
	"github.com/causeway-sync/causeway/ingest/install"
	"github.com/causeway-sync/causeway/ingest/novi"
	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/circuit"
	"github.com/causeway-sync/causeway/internal/clients"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/config"
	"github.com/causeway-sync/causeway/internal/ghlapi"
)

// FromFile returns what file says. instance names the process, to people. It opens the front door's listener, so
// that webhooks queue from then on; Run closes it.
func FromFile(file *config.File, b bus.Bus, instance string, clk clock.Clock, logger zerolog.Logger, metrics prometheus.Registerer) (Config, error) {
	cfg := Config{Bus: b, Clock: clk, Logger: logger, Metrics: metrics, PerSecond: file.Ingest.PerSecond}
	text := ghl.PublishedKeys
	if path := file.Beside(file.Ingest.GHLKeys); path != "" {
		pem, err := os.ReadFile(path)
		if err != nil {
			return Config{}, fmt.Errorf("ingest.ghl_keys: %w", err)
		}
		text = string(pem)
	}
	keys, err := ghl.ParseKeys(text)
	if err != nil {
		return Config{}, fmt.Errorf("ingest.ghl_keys: %w", err)
	}
	cfg.GHL = ghl.Source{Keys: keys, AllowLegacy: file.Ingest.AllowLegacySignature, AppID: file.Ingest.AppID}
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
		tenant := Tenant{Name: t.Name, Backfill: *t.Backfill, Workers: t.Workers, Lens: t.Lens(), MaxRepairs: t.MaxRepairs}
		if tenant.GHL, err = maker.GHL(t); err != nil {
			return Config{}, err
		}
		if tenant.Novi, err = maker.Novi(t); err != nil {
			return Config{}, err
		}
		if t.GHL != nil {
			tenant.Location, tenant.PollGHL = t.GHL.Location, *t.GHL.Poll
			tenant.SweepGHL, tenant.SweepAllGHL = *t.GHL.Sweep, *t.GHL.SweepAll
			tenant.ReconcileGHL = *t.GHL.Reconcile
		}
		if t.Novi != nil {
			tenant.PollNovi, tenant.ReconcileNovi = *t.Novi.Poll, *t.Novi.Reconcile
			if t.Novi.HasGroups() {
				tenant.SweepGroups = *t.Novi.SweepAll
			}
			if tenant.HasActivities = t.Novi.HasActivities(); tenant.HasActivities {
				tenant.SweepNovi, tenant.SweepAllNovi = *t.Novi.Sweep, *t.Novi.SweepAll
			}
			if tenant.NoviToken, err = file.Resolve(t.Novi.WebhookToken); err != nil {
				return Config{}, fmt.Errorf("tenant %s: novi.webhook_token: %w", t.Name, err)
			}
			secret, err := file.Resolve(t.Novi.WebhookSecret)
			if err != nil {
				return Config{}, fmt.Errorf("tenant %s: novi.webhook_secret: %w", t.Name, err)
			}
			tenant.NoviHook = novi.Source{Secret: secret, Header: t.Novi.WebhookHeader}
		}
		cfg.Tenants = append(cfg.Tenants, tenant)
	}
	if o := maker.OAuth(); o != nil {
		cfg.Sources = o.Sources
		cfg.Install = install.New(install.Config{App: o.App, Store: o.Store, Clock: clk, Logger: logger, Locations: o.Locations, Agency: file.GHLApp.Agency})
		if cfg.GHL.AppID == "" {
			cfg.GHL.AppID = ghlapi.AppID(file.GHLApp.ClientID)
		}
	}
	if file.Ingest.Listen != "" {
		var cert *certificate
		if own := file.Ingest.TLS; own != nil {
			if cert, err = newCertificate(file.Beside(own.Certificate), file.Beside(own.Key), logger); err != nil {
				return Config{}, err
			}
		}
		if cfg.Listener, err = net.Listen("tcp", file.Ingest.Listen); err != nil {
			return Config{}, fmt.Errorf("ingest.listen: %w", err)
		}
		if cert != nil {
			cfg.Listener = tls.NewListener(cfg.Listener, cert.config())
		}
		logger.Info().Str("listen", cfg.Listener.Addr().String()).Bool("tls", cert != nil).Msg("front door")
	}
	return cfg, nil
}
