package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/ingest"
	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/config"
	"github.com/causeway-sync/causeway/internal/natsembed"
	"github.com/causeway-sync/causeway/internal/process"
	"github.com/causeway-sync/causeway/sink"
	"github.com/causeway-sync/causeway/transform"
)

// The stages, in the order in which a message walks through them.
var stageNames = []string{"ingest", "transform", "sink"}

// Running is a broker and the three stages.
type Running interface {
	// Stop stops the stages and then the broker, and returns what went wrong.
	Stop() error
}

// StartHere starts the broker and the stages in this process, each stage with
// its own connection.
func (w *World) StartHere(ctx context.Context, logger zerolog.Logger) (*Here, error) {
	broker, err := natsembed.Start(natsembed.Options{StoreDir: filepath.Join(w.Dir, "nats"), Listen: w.NATSAddr})
	if err != nil {
		return nil, err
	}
	return w.StartOn(ctx, logger, broker, nil)
}

// StartOn starts the stages on a broker that runs at the world's address, and
// stops it with them. prepare, if set, may change what a stage's configuration
// says.
func (w *World) StartOn(ctx context.Context, logger zerolog.Logger, broker *natsembed.Server, prepare func(stage string, f *config.File)) (*Here, error) {
	h := &Here{w: w, broker: broker, logger: logger, prepare: prepare, stages: map[string]*stage{}}
	for _, name := range stageNames {
		if err := h.Start(ctx, name); err != nil {
			return nil, errors.Join(err, h.Stop())
		}
	}
	return h, nil
}

// Here runs everything in this process.
type Here struct {
	w      *World
	broker *natsembed.Server
	logger zerolog.Logger
	stages map[string]*stage

	prepare func(stage string, f *config.File)
}

type stage struct {
	cancel context.CancelFunc
	done   chan error
}

// Start starts one stage.
func (h *Here) Start(ctx context.Context, name string) error {
	file, err := config.Load(h.w.ConfigPath)
	if err != nil {
		return err
	}
	if h.prepare != nil {
		h.prepare(name, file)
	}
	run := map[string]func(context.Context, process.Env) error{
		"ingest": func(ctx context.Context, e process.Env) error {
			cfg, err := ingest.FromFile(e.File, e.Bus, e.Instance, e.Clock, e.Logger, e.Metrics)
			if err != nil {
				return err
			}
			return ingest.Run(ctx, cfg)
		},
		"transform": func(ctx context.Context, e process.Env) error {
			return transform.Run(ctx, transform.FromFile(e.File, e.Bus, e.Clock, e.Logger, e.Metrics))
		},
		"sink": func(ctx context.Context, e process.Env) error {
			cfg, err := sink.FromFile(e.File, e.Bus, e.Instance, e.Clock, rand.NewPCG(uint64(h.w.Seed), 3), e.Logger, e.Metrics)
			if err != nil {
				return err
			}
			return sink.Run(ctx, cfg)
		},
	}[name]
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &stage{cancel: cancel, done: make(chan error, 1)}
	go func() {
		s.done <- process.Run(ctx, name, file, h.w.http[name], h.logger.With().Str("stage", name).Logger(), run)
	}()
	h.stages[name] = s
	return h.w.ready(ctx, name, s.done)
}

// StopStage stops one stage as a signal would.
func (h *Here) StopStage(name string) error {
	s := h.stages[name]
	if s == nil {
		return nil
	}
	delete(h.stages, name)
	s.cancel()
	return <-s.done
}

// Stop implements Running.
func (h *Here) Stop() error {
	var err error
	for _, name := range stageNames {
		err = errors.Join(err, h.StopStage(name))
	}
	h.broker.Shutdown()
	return err
}

// ready waits until a stage says that it is ready, or has ended.
func (w *World) ready(ctx context.Context, name string, done chan error) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.http[name]+"/readyz", nil)
		if err != nil {
			return err
		}
		if res, err := http.DefaultClient.Do(req); err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case err := <-done:
			done <- err
			return fmt.Errorf("%s did not start: %w", name, err)
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready after a minute", name)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Programs are the stages as programs of their own, and the broker too.
type Programs struct {
	w   *World
	bin map[string][]string // command by name

	mu       sync.Mutex
	children map[string]*child
}

type child struct {
	cmd  *exec.Cmd
	done chan error
	log  *os.File
}

// StartPrograms starts a broker process and the stage binaries. dir holds the
// binaries (see Build); broker is the command that runs a broker, which is
// given --listen and --data.
func (w *World) StartPrograms(ctx context.Context, dir string, broker ...string) (*Programs, error) {
	if err := os.MkdirAll(filepath.Join(w.Dir, "logs"), 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	p := &Programs{w: w, children: map[string]*child{}, bin: map[string][]string{
		"broker": append(broker, "--listen", w.NATSAddr, "--data", filepath.Join(w.Dir, "nats")),
	}}
	for _, name := range stageNames {
		config := w.ConfigPath
		if w.ConfigOf != nil {
			config = w.ConfigOf(name)
		}
		p.bin[name] = []string{filepath.Join(dir, name), "--config", config, "--http", w.http[name]}
	}
	for _, name := range append([]string{"broker"}, stageNames...) {
		if err := p.Start(ctx, name); err != nil {
			return nil, errors.Join(err, p.Stop())
		}
	}
	return p, nil
}

// Start starts one of broker, ingest, transform and sink. Its output goes to a
// file under logs.
func (p *Programs) Start(ctx context.Context, name string) error {
	log, err := os.OpenFile(filepath.Join(p.w.Dir, "logs", name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("log of %s: %w", name, err)
	}
	cmd := exec.Command(p.bin[name][0], p.bin[name][1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "CAUSEWAY_") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	if err := cmd.Start(); err != nil {
		return errors.Join(fmt.Errorf("start %s: %w", name, err), log.Close())
	}
	c := &child{cmd: cmd, done: make(chan error, 1), log: log}
	go func() { c.done <- cmd.Wait() }()
	p.mu.Lock()
	p.children[name] = c
	p.mu.Unlock()
	if name == "broker" {
		return nil // the stages wait for it
	}
	if err := p.w.ready(ctx, name, c.done); err != nil {
		tail, _ := os.ReadFile(log.Name())
		return fmt.Errorf("%w: %s", err, tail[max(0, len(tail)-400):])
	}
	return nil
}

func (p *Programs) take(name string) *child {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.children[name]
	delete(p.children, name)
	return c
}

// Kill ends one of them with SIGKILL, in whatever it is doing.
func (p *Programs) Kill(name string) error {
	c := p.take(name)
	if c == nil {
		return fmt.Errorf("%s does not run", name)
	}
	if err := c.cmd.Process.Kill(); err != nil {
		return fmt.Errorf("kill %s: %w", name, err)
	}
	<-c.done // "signal: killed" is what was asked for
	return c.log.Close()
}

// Signal sends one of them a signal, such as SIGSTOP.
func (p *Programs) Signal(name string, s os.Signal) error {
	p.mu.Lock()
	c := p.children[name]
	p.mu.Unlock()
	if c == nil {
		return fmt.Errorf("%s does not run", name)
	}
	if err := c.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("signal %s: %w", name, err)
	}
	return nil
}

// Stop implements Running.
func (p *Programs) Stop() error {
	var err error
	for _, name := range append(append([]string{}, stageNames...), "broker") {
		c := p.take(name)
		if c == nil {
			continue
		}
		_ = c.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
		select {
		case e := <-c.done:
			if e != nil {
				err = errors.Join(err, fmt.Errorf("%s: %w", name, e))
			}
		case <-time.After(20 * time.Second):
			_ = c.cmd.Process.Kill()
			<-c.done
			err = errors.Join(err, fmt.Errorf("%s did not stop within 20 s", name))
		}
		err = errors.Join(err, c.log.Close())
	}
	return err
}

// Build builds the four programs into dir with the go command, from the
// module in the current directory.
func Build(ctx context.Context, dir string, out io.Writer) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", dir+string(filepath.Separator), "github.com/causeway-sync/causeway/cmd/...")
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build the programs: %w", err)
	}
	return nil
}

// Connect returns a connection of our own to the broker, to look at streams.
func (w *World) Connect(ctx context.Context) (*bus.Conn, error) {
	return bus.Connect(ctx, bus.Options{URL: "nats://" + w.NATSAddr, Name: "causeway-dev", Login: w.Login})
}
