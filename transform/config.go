package transform

import (
	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/config"
	"github.com/causeway-sync/causeway/schemas/canonical"
)

// FromFile returns what file says.
func FromFile(file *config.File, b bus.Bus, logger zerolog.Logger) Config {
	cfg := Config{Bus: b, Logger: logger, Tenants: map[canonical.Tenant]Policy{}}
	for _, t := range file.Tenants {
		cfg.Tenants[t.Name] = Policy{Lens: t.Lens(), Rules: t.Policy()}
	}
	return cfg
}
