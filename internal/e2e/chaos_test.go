//go:build campaign

package e2e_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/causeway-sync/causeway/internal/chaos"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/dev"
)

var (
	chaosSeed = flag.Int64("chaos-seed", 1, "what the people's whims, the faults and the episodes follow from")
	chaosFor  = flag.Duration("chaos-for", 0, "how long people edit while things fail; 0 means a few episodes only")
)

// step is a place between two steps of a program, where it is killed: at a
// frame to or from the broker, which passes or doesn't, or at a call that
// changes something.
type step struct {
	name, stage string
	pass        bool
	at          func(chaos.Frame) bool
	call        func() *chaos.Request
}

func publishes(subject, part string) func(chaos.Frame) bool {
	return func(f chaos.Frame) bool {
		return f.ToServer && strings.HasPrefix(f.Subject, subject) && (strings.Contains(f.Subject, part) || strings.Contains(string(f.Payload), part))
	}
}

func delivers(consumer string) func(chaos.Frame) bool {
	return func(f chaos.Frame) bool { return !f.ToServer && isAck(f.Reply, consumer) }
}

func acks(consumer string) func(chaos.Frame) bool {
	return func(f chaos.Frame) bool {
		return f.ToServer && isAck(f.Subject, consumer) && strings.HasPrefix(string(f.Payload), "+ACK")
	}
}

func isAck(subject, consumer string) bool {
	return strings.HasPrefix(subject, "$JS.ACK.") && strings.Contains(subject, consumer)
}

var steps = []step{
	{name: "sink: between intent and call", stage: "sink", call: func() *chaos.Request { return chaos.NewRequest(false) }},
	{name: "sink: between call and outcome", stage: "sink", call: func() *chaos.Request { return chaos.NewRequest(true) }},
	{name: "sink: between outcome and writeback", stage: "sink", at: publishes("raw.", ".writeback")},
	{name: "transform: before PubAck", stage: "transform", pass: true, at: publishes("canonical.contact.", "")},
	{name: "ingest: before PubAck of a fetch", stage: "ingest", pass: true, at: publishes("raw.", ".fetch")},
	{name: "sink: before ack", stage: "sink", at: acks(".CANONICAL.sink-")},
	{name: "sink: after receive", stage: "sink", pass: true, at: delivers(".CANONICAL.sink-")},
	{name: "sink: before PubAck of the intent", stage: "sink", pass: true, at: publishes("effects.", `"state":"intent"`)},
	{name: "sink: before PubAck of the outcome", stage: "sink", pass: true, at: publishes("effects.", `"state":"done"`)},
	{name: "transform: after receive", stage: "transform", pass: true, at: delivers(".RAW.transform.")},
	{name: "transform: before publish", stage: "transform", at: publishes("canonical.", "")},
	{name: "transform: before ack", stage: "transform", at: acks(".RAW.transform.")},
	{name: "ingest: before a notice is stored", stage: "ingest", at: publishes("raw.", ".notice")},
	{name: "ingest: before PubAck of a notice", stage: "ingest", pass: true, at: publishes("raw.", ".notice")},
	{name: "hydrate: after receive", stage: "ingest", pass: true, at: delivers(".RAW.hydrate-")},
	{name: "hydrate: between fetch and publish", stage: "ingest", at: publishes("raw.", ".fetch")},
	{name: "hydrate: before ack", stage: "ingest", at: acks(".RAW.hydrate-")},
}

// storm makes things fail, one episode after the other.
type storm struct {
	w       *dev.World
	p       *dev.Programs
	r       *rand.Rand
	brokers map[string]*chaos.Broker // by stage
	systems []*chaos.System
	counts  map[string]int
	missed  int // traps that nothing fell into
	next    int // of steps
}

// newStorm puts the proxies where the stages' configuration says that the
// broker and the systems are.
func newStorm(t *testing.T, w *dev.World, seed int64) *storm {
	t.Helper()
	s := &storm{w: w, r: rand.New(rand.NewPCG(uint64(seed), 0x73746f726d)), brokers: map[string]*chaos.Broker{}, counts: map[string]int{}}
	ctx, stop := context.WithCancel(t.Context())
	var g errgroup.Group
	t.Cleanup(func() {
		stop()
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
	})
	text, err := os.ReadFile(w.ConfigPath)
	if err != nil {
		t.Fatal(err)
	}
	urls := []string{w.GHLURL, w.NoviURL}
	for i, url := range urls {
		x, err := chaos.NewSystem(url)
		if err != nil {
			t.Fatal(err)
		}
		g.Go(func() error { return x.Run(ctx) })
		s.systems = append(s.systems, x)
		urls[i] = x.URL()
	}
	for _, stage := range []string{"ingest", "transform", "sink"} {
		b, err := chaos.NewBroker(w.NATSAddr)
		if err != nil {
			t.Fatal(err)
		}
		g.Go(func() error { return b.Run(ctx) })
		s.brokers[stage] = b
		mine := strings.ReplaceAll(string(text), w.NATSAddr, b.Addr())
		if stage == "sink" { // whose calls change something
			mine = strings.ReplaceAll(strings.ReplaceAll(mine, w.GHLURL, urls[0]), w.NoviURL, urls[1])
		}
		if err := os.WriteFile(filepath.Join(w.Dir, stage+".yaml"), []byte(mine), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.ConfigOf = func(stage string) string { return filepath.Join(w.Dir, stage+".yaml") }
	return s
}

// kill ends a stage at a step, and starts it again.
func (s *storm) kill(ctx context.Context, at step) error {
	var hit <-chan struct{}
	release := func() {}
	if at.call != nil {
		system, r := s.systems[s.r.IntN(2)], at.call()
		system.Set(r)
		hit, release = r.Hit(), func() { system.Set(nil); r.Release() }
	} else {
		trap := chaos.NewTrap(at.pass, at.at)
		s.brokers[at.stage].Set(trap)
		hit = trap.Hit()
	}
	select {
	case <-hit:
		s.counts[at.name]++
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(4 * time.Second):
		s.missed++
	}
	err := s.p.Kill(at.stage)
	release()
	s.brokers[at.stage].Drop()
	if err != nil {
		return err
	}
	return s.start(ctx, at.stage)
}

func (s *storm) start(ctx context.Context, stage string) error {
	if err := s.pause(ctx, 300*time.Millisecond); err != nil {
		return err
	}
	return s.p.Start(ctx, stage)
}

// pause waits up to d.
func (s *storm) pause(ctx context.Context, d time.Duration) error {
	return clock.Sleep(ctx, clock.System{}, time.Duration(s.r.Int64N(int64(d))))
}

// episode has one thing fail, and mends it.
func (s *storm) episode(ctx context.Context) error {
	stage := []string{"ingest", "transform", "sink"}[s.r.IntN(3)]
	what := s.r.IntN(20)
	switch {
	case what < 10:
		s.next++
		return s.kill(ctx, steps[(s.next-1)%len(steps)])
	case what < 12:
		s.counts[stage+" killed at random"]++
		if err := s.pause(ctx, time.Second); err != nil {
			return err
		}
		if err := s.p.Kill(stage); err != nil {
			return err
		}
		return s.start(ctx, stage)
	case what < 14:
		return s.broker(ctx)
	case what < 16:
		s.counts[stage+" frozen"]++
		d := 6 * time.Second
		if *chaosFor > 2*time.Minute && s.r.IntN(6) == 0 {
			s.counts[stage+" frozen past every ack wait"]++
			d = 70 * time.Second
		}
		if err := s.p.Signal(stage, syscall.SIGSTOP); err != nil {
			return err
		}
		return errors.Join(clock.Sleep(ctx, clock.System{}, d/2+time.Duration(s.r.Int64N(int64(d/2)))), s.p.Signal(stage, syscall.SIGCONT))
	case what < 17:
		s.counts[stage+" cut off from the broker"]++
		s.brokers[stage].Cut(true)
		err := s.pause(ctx, 5*time.Second)
		s.brokers[stage].Cut(false)
		return err
	case what < 18:
		s.counts["slow network"]++
		s.slow(time.Duration(1+s.r.IntN(20))*time.Millisecond, time.Duration(s.r.IntN(500))*time.Millisecond)
		err := s.pause(ctx, 5*time.Second)
		s.slow(0, 0)
		return err
	}
	s.counts["both APIs fail in every way"]++
	s.w.SetFaults(dev.AllFaults)
	err := s.pause(ctx, 6*time.Second)
	s.w.SetFaults(dev.WebhookFaults)
	return err
}

func (s *storm) slow(messages, calls time.Duration) {
	for _, b := range s.brokers {
		b.Slow(messages)
	}
	for _, x := range s.systems {
		x.Slow(calls)
	}
}

// broker kills the broker, and starts it again.
func (s *storm) broker(ctx context.Context) error {
	s.counts["broker killed"]++
	if err := s.p.Kill("broker"); err != nil {
		return err
	}
	if err := s.start(ctx, "broker"); err != nil {
		return err
	}
	for {
		if c, err := net.Dial("tcp", s.w.NATSAddr); err == nil {
			return c.Close()
		}
		if err := clock.Sleep(ctx, clock.System{}, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// TestChaos runs the built programs while they are killed at each of their
// steps, frozen and cut off, the broker is killed, and both systems fail; then
// the judge and the checker speak. A few episodes only, unless -chaos-for says
// for how long.
func TestChaos(t *testing.T) {
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	w := world(t, dev.Options{PollGHL: time.Second, PollNovi: time.Second, Seed: *chaosSeed, Items: true, Faults: dev.WebhookFaults})
	s := newStorm(t, w, *chaosSeed)
	sync := "sync_interval default"
	broker := []string{filepath.Join(bin, "causeway"), "broker"}
	if *chaosSeed%2 == 0 {
		sync = "sync_interval always"
		conf := filepath.Join(w.Dir, "nats.conf")
		if err := os.WriteFile(conf, []byte("jetstream { sync_interval: always }\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		broker = append(broker, "--config", conf)
	}
	play := dev.Play{Contacts: 40, Changes: 60, Pace: 30 * time.Millisecond, For: *chaosFor, Timeout: *chaosFor + 10*time.Minute}
	play.Start = func() error {
		s.p, err = w.StartPrograms(t.Context(), bin, broker...)
		return err
	}
	over := make(chan error, 1)
	play.Between = func(i int) error {
		if i > 0 {
			return nil
		}
		until := time.Now().Add(*chaosFor)
		go func() {
			var err error
			if *chaosFor == 0 {
				for _, at := range steps[:5] {
					err = errors.Join(err, s.kill(t.Context(), at))
				}
				err = errors.Join(err, s.broker(t.Context()))
			}
			for err == nil && time.Now().Before(until) {
				err = s.episode(t.Context())
			}
			over <- err
		}()
		return nil
	}
	play.End = func() error { return <-over }
	if *chaosFor == 0 {
		play.Pace = 120 * time.Millisecond // as long as the episodes take
	}
	r, err := w.Run(t.Context(), play)
	if s.p != nil {
		if err := s.p.Stop(); err != nil {
			t.Error(err)
		}
	}
	episodes := 0
	for _, name := range slices.Sorted(maps.Keys(s.counts)) {
		t.Logf("%4d  %s", s.counts[name], name)
		episodes += s.counts[name]
	}
	fmt.Printf("seed %d, %s: %d episodes (%d traps that nothing fell into), %d changes by %d people, %d notices acknowledged, %d messages and calls checked, %d violations, %d lost changes, %d duplicates, %d dead letters, %d overwritten by a PUT; %s\n",
		*chaosSeed, sync, episodes, s.missed, r.Changes, r.Contacts, r.Acknowledged, r.Checked, len(r.Violations), r.LostChanges, r.Duplicates, r.Dead, r.Overwritten, time.Duration(r.DurationMS)*time.Millisecond)
	for _, v := range r.Violations {
		t.Log(v)
	}
	good(t, r, err)
	if dir := os.Getenv("CHAOS_KEEP"); t.Failed() && dir != "" {
		if err := os.CopyFS(filepath.Join(dir, fmt.Sprintf("seed-%d", *chaosSeed)), os.DirFS(w.Dir)); err != nil {
			t.Error(err)
		}
	}
}
