// Command transform decides: it merges what RAW saw into what is true and
// publishes that to CANONICAL. It speaks to nothing but the broker.
package main

import (
	"context"
	"os"

	"github.com/causeway-sync/causeway/internal/process"
	"github.com/causeway-sync/causeway/transform"
)

const about = `Merges the observations of the stream RAW into canonical contacts and publishes every change to the stream CANONICAL.

It speaks to nothing but NATS. Any number of instances may run; of two that race for one contact exactly one wins, and the other merges again.`

func main() {
	os.Exit(process.Main("transform", about, func(ctx context.Context, e process.Env) error {
		return transform.Run(ctx, transform.FromFile(e.File, e.Bus, e.Clock, e.Logger, e.Metrics))
	}))
}
