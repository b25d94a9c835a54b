// Command sink writes to the outside world: it makes each system look like the
// canonical records and reports what it did.
package main

import (
	"context"
	crand "crypto/rand"
	"math/rand/v2"
	"os"

	"github.com/causeway-sync/causeway/internal/process"
	"github.com/causeway-sync/causeway/sink"
)

const about = `Makes GoHighLevel and Novi AMS look like the canonical contacts: it writes what differs, and nothing else.

Any number of instances may run; for each tenant and system the server lets one work and moves on when it dies.`

func main() {
	os.Exit(process.Main("sink", about, func(ctx context.Context, e process.Env) error {
		var seed [32]byte
		_, _ = crand.Read(seed[:]) // never fails
		cfg, err := sink.FromFile(e.File, e.Bus, e.Instance, e.Clock, rand.NewChaCha8(seed), e.Logger, e.Metrics)
		if err != nil {
			return err
		}
		return sink.Run(ctx, cfg)
	}))
}
