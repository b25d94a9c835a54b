// Command ingest reads the outside world: it takes webhooks, fetches what they
// are about, polls and backfills, and publishes what it saw to RAW.
package main

import (
	"context"
	"os"

	"github.com/causeway-sync/causeway/ingest"
	"github.com/causeway-sync/causeway/internal/process"
)

const about = `Reads GoHighLevel and Novi AMS and publishes what they show to the stream RAW.

Webhooks arrive at ingest.listen of the configuration: POST /hooks/ghl for GoHighLevel, POST /hooks/novi/<token> for Novi.
Any number of instances may run: they share the work.`

func main() {
	os.Exit(process.Main("ingest", about, func(ctx context.Context, e process.Env) error {
		cfg, err := ingest.FromFile(e.File, e.Bus, e.Instance, e.Clock, e.Logger, e.Metrics)
		if err != nil {
			return err
		}
		return ingest.Run(ctx, cfg)
	}))
}
