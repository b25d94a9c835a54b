package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/dead"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

type mergesCmd struct {
	server
	Tenant canonical.Tenant `help:"Only this tenant's." placeholder:"SLUG"`
	JSON   bool             `name:"json" help:"Print one JSON object a line."`
}

// merged is an entity that is another one now, or was for a time.
type merged struct {
	When   time.Time             `json:"when"`
	Tenant canonical.Tenant      `json:"tenant"`
	ID     canonical.CanonicalID `json:"id"`
	Into   canonical.CanonicalID `json:"into"`
	System canonical.System      `json:"system"` // whose record showed that the two are one
	Cause  uint64                `json:"cause"`  // its sequence in RAW
	// Undone says when a person took the two apart, and Reason why.
	Undone time.Time `json:"undone,omitzero"`
	Reason string    `json:"reason,omitempty"`
}

func (c *mergesCmd) Run(ctx context.Context) error {
	conn, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	found, err := merges(ctx, conn, c.Tenant)
	if err != nil {
		return err
	}
	if c.JSON {
		out := json.NewEncoder(os.Stdout)
		for _, x := range found {
			if err := out.Encode(x); err != nil {
				return fmt.Errorf("print merges: %w", err)
			}
		}
		return nil
	}
	return printMerges(os.Stdout, found)
}

// merges reads them from CANONICAL, oldest first.
func merges(ctx context.Context, c *bus.Conn, tenant canonical.Tenant) ([]merged, error) {
	var out []merged
	last := map[canonical.CanonicalID]int{} // the index of an entity's merge that stands
	err := c.Scan(ctx, streams.CANONICAL, streams.Contacts(tenant), time.Time{}, func(m bus.Stored) error {
		subject, err := streams.Parse(m.Subject)
		if err != nil {
			return err
		}
		e, err := canonical.DecodeEvent(m.Data)
		if err != nil {
			return fmt.Errorf("decode message %d of %s: %w", m.Seq, m.Stream, err)
		}
		i, stands := last[e.ID()]
		switch {
		case e.MergedInto != "":
			last[e.ID()] = len(out)
			out = append(out, merged{When: m.Time.UTC(), Tenant: subject.Tenant, ID: e.ID(), Into: e.MergedInto, System: e.Cause.System, Cause: e.Cause.Sequence})
		case stands:
			delete(last, e.ID())
			out[i].Undone, out[i].Reason = m.Time.UTC(), e.Cause.Reason
		}
		return nil
	})
	return out, err
}

func printMerges(out io.Writer, found []merged) error {
	if len(found) == 0 {
		_, err := fmt.Fprintln(out, "there are none")
		return err
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "WHEN\tTENANT\tID\tINTO\tSHOWN BY\tRAW\tUNDONE\tREASON") // the error comes with Flush
	for _, x := range found {
		undone := "-"
		if !x.Undone.IsZero() {
			undone = x.Undone.Local().Format(time.DateTime)
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", x.When.Local().Format(time.DateTime), x.Tenant, x.ID, x.Into, x.System, x.Cause, undone, cmp.Or(x.Reason, "-"))
	}
	return t.Flush()
}

type unmergeCmd struct {
	server
	ID     canonical.CanonicalID `arg:"" help:"The canonical id of the contact that was merged into another, as causeway merges lists it."`
	Tenant canonical.Tenant      `help:"Its tenant." required:"" placeholder:"SLUG"`
	Reason string                `help:"Why, for those who ask later. It is stored in the events' cause: name nobody." placeholder:"TEXT"`
}

// Run asks the transform to take two contacts apart, and waits until it has.
func (c *unmergeCmd) Run(ctx context.Context) error {
	conn, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	into, err := mergedInto(ctx, conn, c.Tenant, c.ID)
	switch {
	case err != nil:
		return err
	case into == "":
		return fmt.Errorf("contact %s is not merged into another", c.ID)
	}
	o := observation.Observation{System: canonical.Person, Tenant: c.Tenant, Kind: canonical.KindContact, ExternalID: canonical.ExternalID(c.ID),
		Via: observation.Unmerge, Entity: c.ID, Contact: into, Reason: c.Reason, ReadBegan: time.Now().UTC()}
	body, err := o.Encode()
	if err != nil {
		return err
	}
	ack, err := conn.Publish(ctx, bus.Message{Subject: streams.Raw(o), ID: o.Key(), Data: body})
	if err != nil {
		return fmt.Errorf("publish the request: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		if now, err := mergedInto(ctx, conn, c.Tenant, c.ID); err == nil && now == "" {
			fmt.Printf("%s lives again, apart from %s\n", c.ID, into)
			return nil
		}
		letter, err := dead.Get(ctx, conn, streams.Dead("transform", c.Tenant, canonical.KindContact, string(c.ID)))
		if err == nil && letter.Sequence == ack.Seq {
			return errors.New(letter.Reason)
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	fmt.Printf("asked for (RAW %d); no transform has done it yet\n", ack.Seq)
	return nil
}

// mergedInto returns what an entity is merged into, or "".
func mergedInto(ctx context.Context, c *bus.Conn, tenant canonical.Tenant, id canonical.CanonicalID) (canonical.CanonicalID, error) {
	m, err := c.Last(ctx, streams.CANONICAL, streams.Entity(canonical.KindContact, tenant, id))
	if errors.Is(err, bus.ErrNotFound) {
		return "", fmt.Errorf("tenant %s has no contact %s", tenant, id)
	}
	if err != nil {
		return "", err
	}
	e, err := canonical.DecodeEvent(m.Data)
	if err != nil {
		return "", fmt.Errorf("decode message %d of %s: %w", m.Seq, m.Stream, err)
	}
	return e.MergedInto, nil
}
