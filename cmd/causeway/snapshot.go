package main

import (
	"bufio"
	"context"
	"fmt"
	"os"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/subscribe"
)

type snapshotCmd struct {
	server
	Tenant canonical.Tenant `help:"Only this tenant's." placeholder:"SLUG"`
	Kind   []canonical.Kind `help:"Only this kind of record: contact, task, note or appointment. Repeatable." placeholder:"KIND"`
	Follow bool             `short:"f" help:"Go on with what changes, until Ctrl-C."`
	After  uint64           `help:"No snapshot: only what follows on this sequence, as an earlier run printed it. It implies --follow." placeholder:"SEQ"`
}

// told is a line of a snapshot. What the transform keeps for itself is not in
// it.
type told struct {
	ID       string           `json:"id"` // of the event: deduplicate by it
	Sequence uint64           `json:"sequence"`
	Snapshot bool             `json:"snapshot"`
	Tenant   canonical.Tenant `json:"tenant"`
	Kind     canonical.Kind   `json:"kind"`
	Op       canonical.Op     `json:"op"`
	Event    json.RawMessage  `json:"event"`
}

// Run prints the state of every record, one JSON object a line, and then, if it
// is asked to follow, every change: no gap and no overlap between the two.
func (c *snapshotCmd) Run(ctx context.Context) error {
	conn, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	out := bufio.NewWriter(os.Stdout)
	encode := json.NewEncoder(out)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	live := c.After > 0
	s := subscribe.Subscription{Tenant: c.Tenant, Kinds: c.Kind, After: c.After}
	err = s.Run(ctx, conn.JetStream(), func(e subscribe.Event) error {
		body, err := public(e.Event)
		if err == nil {
			err = encode.Encode(told{e.Attributes.ID, e.Sequence, e.Snapshot, e.Tenant, e.Kind, e.Op, body})
		}
		if err == nil && live {
			err = out.Flush()
		}
		if err != nil {
			return fmt.Errorf("print event %s: %w", e.Attributes.ID, err)
		}
		return nil
	}, func() error {
		live = true
		if !c.Follow && c.After == 0 {
			stop()
		}
		return out.Flush()
	})
	if err != nil {
		return err
	}
	return out.Flush()
}

// public is an event without what subscribers must not read.
func public(e canonical.Event) (json.RawMessage, error) {
	e.Sync = canonical.Sync{}
	data, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return nil, err
	}
	delete(fields, "sync")
	return json.Marshal(fields)
}
