package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/dead"
	"github.com/causeway-sync/causeway/internal/hold"
	"github.com/causeway-sync/causeway/internal/probe"
	"github.com/causeway-sync/causeway/streams"
	"github.com/causeway-sync/causeway/transform/gap"
)

type statusCmd struct {
	server
	JSON bool `name:"json" help:"Print one JSON object."`
}

// status is what can be told at a glance.
type status struct {
	// Trouble is what needs a look, and the cure.
	Trouble []symptom `json:"trouble"`
	// Waiting are the messages that nobody has settled yet, of all consumers.
	Waiting  uint64                 `json:"waiting"`
	Streams  []streams.StreamStatus `json:"streams"`
	Readings []reading              `json:"-"`
}

func (s *statusCmd) Run(ctx context.Context) error {
	c, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	now := time.Now()
	st, err := glance(ctx, c, now)
	if err != nil {
		return err
	}
	if s.JSON {
		if err := json.NewEncoder(os.Stdout).Encode(st); err != nil {
			return fmt.Errorf("print status: %w", err)
		}
		return nil
	}
	if len(st.Streams) == 0 {
		fmt.Println("there are no streams yet; a stage that starts makes them, or `causeway streams apply`")
		return nil
	}
	if err := printGlance(os.Stdout, st); err != nil {
		return err
	}
	if err := printStatus(os.Stdout, st.Streams); err != nil {
		return err
	}
	return printReadings(os.Stdout, st.Readings, now)
}

func glance(ctx context.Context, c *bus.Conn, now time.Time) (status, error) {
	st := status{Trouble: []symptom{}}
	var err error
	if st.Streams, err = streams.Status(ctx, c.JetStream()); err != nil || len(st.Streams) == 0 {
		return st, err
	}
	for _, s := range st.Streams {
		for _, consumer := range s.Consumers {
			st.Waiting += consumer.Pending + consumer.Unacked
			if consumer.Pending > 0 && consumer.Unacked == 0 && !consumer.Pulling {
				st.Trouble = append(st.Trouble, symptom{"consumers", "", probe.Bad, fmt.Sprintf("%s: %d wait and nobody asks for them", consumer.Durable, consumer.Pending), "start the stage"})
			}
		}
	}
	letters, err := dead.Find(ctx, c, dead.Filter{})
	if err != nil {
		return st, err
	}
	held, err := hold.List(ctx, c)
	if err != nil {
		return st, err
	}
	if st.Readings, err = readings(ctx, c); err != nil {
		return st, err
	}
	lost, err := gap.Open(ctx, c)
	if err != nil {
		return st, err
	}
	open, err := openCircuits(ctx, c, now)
	if err != nil {
		return st, err
	}
	for _, list := range [][]symptom{circuits(open), heldDeletes(held), openGaps(lost), backfills(st.Readings, now), {deadLetters(letters)}} {
		for _, s := range list {
			if s.Result != probe.OK {
				st.Trouble = append(st.Trouble, s)
			}
		}
	}
	return st, nil
}

// printGlance says first whether anything needs a look.
func printGlance(out io.Writer, st status) error {
	line := fmt.Sprintf("nothing needs a look; %d messages wait", st.Waiting)
	if st.Waiting == 0 {
		line = "nothing needs a look, and nothing waits"
	}
	for i, s := range st.Trouble {
		if i == 0 {
			line = ""
		} else {
			line += "\n"
		}
		line += "! " + s.Check
		if s.Tenant != "" {
			line += " of " + string(s.Tenant)
		}
		line += ": " + s.Detail + "\n  → " + s.Cure
	}
	_, err := fmt.Fprint(out, line, "\n\n")
	return err
}
