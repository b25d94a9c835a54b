package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/streams"
)

type eventsCmd struct {
	Tail eventsTailCmd `cmd:"" help:"Print events as they come, until Ctrl-C: ids and the names of what changed. Values only with --show-values."`
}

type eventsTailCmd struct {
	server
	Tenant     canonical.Tenant `help:"Only this tenant's." placeholder:"SLUG"`
	Kind       canonical.Kind   `help:"Only those of this kind of record: contact, task, note, appointment or tag." placeholder:"KIND"`
	Since      time.Duration    `help:"Begin with those of this long ago: 90m, 24h, 7d. 0s: with the next." default:"0s"`
	Observed   bool             `help:"Also those that are bookkeeping, op observed."`
	ShowValues bool             `help:"Show the values, which may be personal data."`
	JSON       bool             `name:"json" help:"Print one JSON object a line. With --show-values the event's data is in it."`
}

// shownEvent is an event as it is printed.
type shownEvent struct {
	Sequence uint64                `json:"sequence"`
	When     time.Time             `json:"when"`
	Tenant   canonical.Tenant      `json:"tenant"`
	Kind     canonical.Kind        `json:"kind"`
	ID       canonical.CanonicalID `json:"id"`
	Op       canonical.Op          `json:"op"`
	Version  uint64                `json:"version,omitempty"`
	Via      string                `json:"via,omitempty"`
	System   canonical.System      `json:"system,omitempty"`
	Changed  []string              `json:"changed"`
	Changes  []canonical.Change    `json:"-"`
	Data     json.RawMessage       `json:"data,omitempty"`
}

func (c *eventsTailCmd) Run(ctx context.Context) error {
	conn, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return c.tail(ctx, conn, os.Stdout)
}

// tail prints what is there since then, and what comes. It listens before it
// looks back, so that nothing is missed in between; what it has seen twice it
// prints once.
func (c *eventsTailCmd) tail(ctx context.Context, conn bus.Bus, out io.Writer) error {
	var mu sync.Mutex
	var last uint64
	var failed error
	var early []bus.Stored
	back := c.Since == 0
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	print := func(m bus.Stored) {
		if m.Seq <= last || failed != nil {
			return
		}
		last = m.Seq
		if failed = c.print(out, m); failed != nil {
			cancel()
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn.Tail(ctx, streams.CANONICAL, []string{streams.Entities(c.Tenant)}, func(m bus.Stored) {
			mu.Lock()
			defer mu.Unlock()
			if !back {
				early = append(early, m)
				return
			}
			print(m)
		})
	}()
	if c.Since > 0 {
		err := conn.Scan(ctx, streams.CANONICAL, streams.Entities(c.Tenant), ago(c.Since, time.Now()), func(m bus.Stored) error {
			mu.Lock()
			defer mu.Unlock()
			print(m)
			return failed
		})
		if err != nil && ctx.Err() == nil {
			return err
		}
		mu.Lock()
		for _, m := range early {
			print(m)
		}
		back = true
		mu.Unlock()
	}
	<-done
	return failed
}

func (c *eventsTailCmd) print(out io.Writer, m bus.Stored) error {
	e, err := shown(m)
	if err != nil {
		return err
	}
	if c.Kind != "" && e.Kind != c.Kind || e.Op == canonical.OpObserved && !c.Observed {
		return nil
	}
	if c.JSON {
		if c.ShowValues {
			e.Data = m.Data
		}
		return json.NewEncoder(out).Encode(e)
	}
	what := e.Changed
	if c.ShowValues {
		what = nil
		for _, x := range e.Changes {
			what = append(what, fmt.Sprintf("%s %q → %q", x.Field, x.From, x.To))
		}
	}
	cause := ""
	if e.Via != "" {
		cause = fmt.Sprintf("  (%s, %s)", e.System, e.Via)
	}
	_, err = fmt.Fprintf(out, "%s  %s  %s %s  %s  %s%s\n", e.When.Local().Format(time.DateTime), e.Tenant, e.Kind, e.ID, e.Op, strings.Join(what, ", "), cause)
	return err
}

func shown(m bus.Stored) (shownEvent, error) {
	p, err := streams.Parse(m.Subject)
	if err != nil {
		return shownEvent{}, err
	}
	s := shownEvent{Sequence: m.Seq, When: m.Time.UTC(), Tenant: p.Tenant, Kind: p.Kind, ID: canonical.CanonicalID(p.ID), Op: p.Op, Changed: []string{}}
	if p.Kind == canonical.KindTag {
		var tag canonical.TagEvent
		if err := json.Unmarshal(m.Data, &tag); err != nil {
			return s, fmt.Errorf("decode message %d of %s: %w", m.Seq, m.Stream, err)
		}
		s.Version, s.Changes = tag.ContactVersion, []canonical.Change{{Field: "tag", To: tag.Tag}}
		return s, nil
	}
	e, err := canonical.DecodeEvent(m.Data)
	if err != nil {
		return s, fmt.Errorf("decode message %d of %s: %w", m.Seq, m.Stream, err)
	}
	s.Version, s.Via, s.System = e.Version, e.Cause.Via, e.Cause.System
	for _, c := range e.Changes {
		if c.From != c.To {
			s.Changed, s.Changes = append(s.Changed, c.Field), append(s.Changes, c)
		}
	}
	return s, nil
}
