package e2e_test

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/causeway-sync/causeway/internal/dev"
)

// programs are built once for all tests, by the go command.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "causeway-bin-")
	if err != nil {
		return "", err
	}
	return dir, dev.Build(ctx, dir, os.Stderr)
})

// TestKilledInMidFlight runs the built programs, and kills each of the stages
// once with SIGKILL while changes are on their way. It starts again after some
// more changes have piled up.
func TestKilledInMidFlight(t *testing.T) {
	t.Parallel()
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	w := world(t, dev.Options{PollGHL: time.Second, PollNovi: time.Second, Seed: 5, Items: true})
	var p *dev.Programs
	stages := []string{"sink", "transform", "ingest"}
	r, err := w.Run(t.Context(), dev.Play{Contacts: 30, Changes: 120, Pace: 20 * time.Millisecond,
		Start: func() error {
			p, err = w.StartPrograms(t.Context(), bin, filepath.Join(bin, "causeway"), "broker")
			return err
		},
		Between: func(i int) error {
			stage := stages[i/40]
			switch i % 40 {
			case 10:
				return p.Kill(stage)
			case 25:
				return p.Start(t.Context(), stage)
			}
			return nil
		}})
	if p != nil {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	}
	good(t, r, err)
	if t.Failed() {
		for _, stage := range stages {
			log, _ := os.ReadFile(filepath.Join(w.Dir, "logs", stage+".log"))
			t.Logf("%s:\n%s", stage, log[max(0, len(log)-2000):])
		}
	}
}

// TestBrokerRestarts stops the broker under way: what was acknowledged is
// still there, and the stages find it again by themselves.
func TestBrokerRestarts(t *testing.T) {
	t.Parallel()
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	w := world(t, dev.Options{PollGHL: time.Second, PollNovi: time.Second, Seed: 6, Items: true})
	var p *dev.Programs
	r, err := w.Run(t.Context(), dev.Play{Contacts: 20, Changes: 40, Pace: 20 * time.Millisecond,
		Start: func() error {
			p, err = w.StartPrograms(t.Context(), bin, filepath.Join(bin, "causeway"), "broker")
			return err
		},
		Between: func(i int) error {
			switch i {
			case 15:
				return p.Kill("broker")
			case 25:
				return p.Start(t.Context(), "broker")
			}
			return nil
		}})
	if p != nil {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	}
	good(t, r, err)
}
