package dev

import (
	"context"
	"fmt"
	"math"
	"strings"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/streams"
)

// rounds counts how often each walk and sweep of ingest has gone through
// everything, by what CURSORS says of it. It has to look more often than they
// come round.
type rounds struct {
	w    *World
	kv   bus.KV
	keys []string                   // nil until the count begins
	rest map[string]map[string]bool // by key, the times at which it rested until the next round
}

func (w *World) newRounds(ctx context.Context, c *bus.Conn) (*rounds, error) {
	kv, err := c.Bucket(ctx, streams.CURSORS)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", streams.CURSORS, err)
	}
	return &rounds{w: w, kv: kv}, nil
}

// reset makes the count begin again.
func (r *rounds) reset() { r.keys = nil }

// look returns how many rounds have begun and ended since the count began, of
// that which has come round least.
func (r *rounds) look(ctx context.Context) (int, error) {
	if r.keys == nil {
		r.rest = map[string]map[string]bool{}
		for _, system := range r.w.polled {
			keys, err := r.kv.Keys(ctx, Tenant+"."+string(system)+".*")
			if err != nil {
				return 0, err
			}
			for _, key := range keys {
				if !strings.HasSuffix(key, ".reconcile") { // comes round once a day
					r.keys = append(r.keys, key)
				}
			}
		}
	}
	least := math.MaxInt
	for _, key := range r.keys {
		value, _, err := r.kv.Get(ctx, key)
		if err != nil {
			return 0, err
		}
		var at struct{ Began, Due string }
		if err := json.Unmarshal(value, &at); err != nil {
			return 0, fmt.Errorf("cursor %s: %w", key, err)
		}
		if r.rest[key] == nil {
			r.rest[key] = map[string]bool{}
		}
		if at.Began == "" {
			r.rest[key][at.Due] = true
		}
		// Between two rests lies a round that began after the first.
		least = min(least, len(r.rest[key])-1)
	}
	if len(r.keys) == 0 {
		return 0, nil
	}
	return least, nil
}
