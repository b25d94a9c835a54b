// Package process is what every stage's main does: flags, environment and
// configuration, logs, signals, health and metrics, and the way to the broker.
package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/config"
	"github.com/causeway-sync/causeway/streams"
)

// Flags are what every stage takes.
type Flags struct {
	Config    string           `help:"The configuration file." default:"causeway.yaml" env:"CAUSEWAY_CONFIG" placeholder:"FILE"`
	NATS      string           `name:"nats" help:"URL of the NATS server; overrides nats.url of the file." env:"CAUSEWAY_NATS_URL" placeholder:"URL"`
	Creds     string           `name:"credentials" help:"NATS credentials file of this stage; overrides nats.credentials of the file." env:"CAUSEWAY_NATS_CREDENTIALS" placeholder:"FILE" xor:"login"`
	NKey      string           `name:"nkey" help:"File with the nkey seed of this stage; overrides nats.nkey of the file." env:"CAUSEWAY_NATS_NKEY" placeholder:"FILE" xor:"login"`
	HTTP      string           `name:"http" help:"Address of /healthz, /readyz and /metrics; empty for none." default:"127.0.0.1:9090" env:"CAUSEWAY_HTTP" placeholder:"ADDR"`
	LogLevel  string           `help:"debug, info, warn or error." enum:"debug,info,warn,error" default:"info" env:"CAUSEWAY_LOG_LEVEL"`
	LogFormat string           `help:"json or console." enum:"json,console" default:"json" env:"CAUSEWAY_LOG_FORMAT"`
	Check     bool             `help:"Check the configuration and exit."`
	Version   kong.VersionFlag `help:"Print the version and exit."`
}

// Env is what a stage runs in.
type Env struct {
	File    *config.File
	Bus     *bus.Conn
	Clock   clock.Clock
	Logger  zerolog.Logger
	Metrics *prometheus.Registry
	// Instance names this process, to people.
	Instance string
}

// Version is the module's version as the build knows it.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	version := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && version == "(devel)" {
			version = s.Value
		}
	}
	return version + " " + info.GoVersion
}

// Main runs a stage until SIGINT or SIGTERM and returns the exit code: 0
// stopped, 1 failed, 2 bad flags or configuration. A second signal ends the
// process at once.
func Main(name, about string, run func(context.Context, Env) error) int {
	var flags Flags
	parser, err := kong.New(&flags, kong.Name(name), kong.Description(about), kong.Vars{"version": Version()}, kong.UsageOnError())
	if err != nil {
		return report(name, err, 2)
	}
	if _, err := parser.Parse(os.Args[1:]); err != nil {
		return report(name, err, 2)
	}
	if err := unknownEnv(); err != nil {
		return report(name, err, 2)
	}
	file, err := config.Load(flags.Config)
	if err != nil {
		return report(name, err, 2)
	}
	if flags.NATS != "" {
		file.NATS.URL = flags.NATS
	}
	if flags.Creds != "" || flags.NKey != "" {
		file.NATS.Credentials, file.NATS.NKey = here(flags.Creds), here(flags.NKey)
	}
	if flags.Check {
		return 0
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process
	logger := Logger(os.Stderr, flags.LogLevel, flags.LogFormat).With().Str("stage", name).Logger()
	done, late := make(chan error, 1), make(chan struct{})
	context.AfterFunc(ctx, func() { time.AfterFunc(deadline, func() { close(late) }) })
	go func() { done <- Run(ctx, name, file, flags.HTTP, logger, run) }()
	select {
	case err = <-done:
	case <-late:
		err = fmt.Errorf("not stopped %s after the signal; what was under way is delivered again", deadline)
	}
	if err != nil {
		logger.Error().Err(err).Msg("failed")
		return 1
	}
	logger.Info().Msg("stopped")
	return 0
}

// deadline is how long a stage may take to stop: a little longer than what it
// is handed is worked on and what it has begun may last (see [bus.Grace]), and
// less than the 30 s after which Kubernetes kills.
const deadline = 25 * time.Second

// here is the path of a flag, which is not beside the configuration.
func here(path string) string {
	if abs, err := filepath.Abs(path); err == nil && path != "" {
		return abs
	}
	return path
}

func report(name string, err error, code int) int {
	_, _ = fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	return code
}

// known are the variables that flags take; others that begin with CAUSEWAY_
// are typing errors unless they say that they hold a secret.
var known = []string{"CAUSEWAY_CONFIG", "CAUSEWAY_NATS_URL", "CAUSEWAY_NATS_CREDENTIALS", "CAUSEWAY_NATS_NKEY", "CAUSEWAY_HTTP", "CAUSEWAY_LOG_LEVEL", "CAUSEWAY_LOG_FORMAT"}

func unknownEnv() error {
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, "CAUSEWAY_") && !strings.HasPrefix(name, "CAUSEWAY_SECRET_") && !slices.Contains(known, name) {
			return fmt.Errorf("environment: %s is not known; secrets of your own begin with CAUSEWAY_SECRET_ or with another word", name)
		}
	}
	return nil
}

// Logger writes to w: JSON, or lines for people.
func Logger(w io.Writer, level, format string) zerolog.Logger {
	l, err := zerolog.ParseLevel(level)
	if err != nil {
		l = zerolog.InfoLevel
	}
	if format == "console" {
		w = zerolog.ConsoleWriter{Out: w, TimeFormat: time.TimeOnly}
	}
	return zerolog.New(w).Level(l).With().Timestamp().Logger()
}

// Run connects, waiting for the broker as long as it takes, sees to the
// streams, and runs the stage until ctx is done. Meanwhile it answers
// /healthz, /readyz and /metrics on address. When the configuration changes,
// the stage is ended as on a signal and begun anew with it, whole: one that
// doesn't load, or that the stage can't start with, changes nothing.
func Run(ctx context.Context, name string, file *config.File, address string, logger zerolog.Logger, run func(context.Context, Env) error) error {
	spans, err := tracing(ctx, name)
	if err != nil {
		return err
	}
	defer spans()
	metrics := prometheus.NewRegistry()
	stage := new(atomic.Pointer[prometheus.Registry]) // what the stage itself counts
	stage.Store(prometheus.NewRegistry())
	all := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return prometheus.Gatherers{metrics, stage.Load()}.Gather() })
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	var conn atomic.Pointer[bus.Conn]
	g, gctx := errgroup.WithContext(ctx)
	healthCtx, stopHealth := context.WithCancel(context.WithoutCancel(ctx))
	if address != "" {
		l, err := net.Listen("tcp", address)
		if err != nil {
			stopHealth()
			return fmt.Errorf("listen for health checks: %w", err)
		}
		logger.Info().Str("http", l.Addr().String()).Msg("health and metrics")
		g.Go(func() error {
			return serve(healthCtx, l, all, func() error {
				c := conn.Load()
				switch {
				case gctx.Err() != nil:
					return errors.New("stopping")
				case c == nil:
					return errors.New("not connected to nats yet")
				}
				return c.Healthy()
			})
		})
	}
	g.Go(func() error {
		defer stopHealth()
		c, err := connect(gctx, name, file, logger, metrics)
		if err != nil || c == nil {
			return err
		}
		defer c.Close()
		if err := ensure(gctx, c, logger); err != nil {
			return err
		}
		conn.Store(c)
		logger.Info().Str("version", Version()).Int("tenants", len(file.Tenants)).Msg("started")
		return generations(gctx, file, logger, func(ctx context.Context, file *config.File) error {
			registry := prometheus.NewRegistry()
			stage.Store(registry)
			return run(ctx, Env{File: file, Bus: c, Clock: clock.System{}, Logger: logger, Metrics: registry, Instance: instance(name)})
		})
	})
	return g.Wait()
}

// instance names this process: stage, host, process id.
func instance(name string) string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s@%s/%d", name, host, os.Getpid())
}

// look is how often the configuration's files are looked at.
const look = 2 * time.Second

// generations runs with file, and anew with each change of it.
func generations(ctx context.Context, file *config.File, logger zerolog.Logger, run func(context.Context, *config.File) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	changes := make(chan *config.File)
	go file.Watch(ctx, look, func(next *config.File, err error) {
		if err != nil {
			logger.Error().Err(err).Msg("the changed configuration is not taken")
			return
		}
		select {
		case changes <- next:
		case <-ctx.Done():
		}
	})
	var before *config.File
	for {
		for _, note := range file.Deprecated() {
			logger.Warn().Msg(note)
		}
		next, err := generation(ctx, file, changes, run)
		switch {
		case next == nil && bus.Unanswered(err) && ctx.Err() == nil:
			// A busy broker, or one that elects a leader, is no reason to end.
			logger.Warn().Err(err).Msg("the broker did not answer; beginning again")
			if clock.Sleep(ctx, clock.System{}, time.Second) != nil {
				return nil
			}
		case next != nil && err == nil:
			next.NATS = file.NATS // what it says of the broker counts at the next start
			before, file = file, next
			logger.Info().Int("tenants", len(file.Tenants)).Msg("the configuration has changed")
		case err != nil && before != nil && ctx.Err() == nil:
			logger.Error().Err(err).Msg("the changed configuration can't be used; the one before is")
			before, file = nil, before
		default:
			return err
		}
	}
}

// generation runs with file until ctx is done, run fails, or there is a change,
// which it returns.
func generation(ctx context.Context, file *config.File, changes <-chan *config.File, run func(context.Context, *config.File) error) (*config.File, error) {
	ctx, end := context.WithCancel(ctx)
	defer end()
	done := make(chan error, 1)
	go func() { done <- run(ctx, file) }()
	select {
	case err := <-done:
		return nil, err
	case next := <-changes:
		end()
		return next, <-done
	}
}

// Broker returns how to reach the broker as the configuration says, under a
// name that the server shows.
func Broker(file *config.File, name string) bus.Options {
	n := file.NATS
	return bus.Options{URL: n.URL, Name: name, Login: bus.Login{Credentials: file.Beside(n.Credentials), NKey: file.Beside(n.NKey), CA: file.Beside(n.CA),
		Certificate: file.Beside(n.Certificate), Key: file.Beside(n.Key)}}
}

func connect(ctx context.Context, name string, file *config.File, logger zerolog.Logger, metrics prometheus.Registerer) (*bus.Conn, error) {
	for {
		o := Broker(file, "causeway-"+name)
		o.Logger, o.Metrics = logger, metrics
		c, err := bus.Connect(ctx, o)
		if err == nil {
			return c, nil
		}
		if errors.Is(err, bus.ErrTooOld) {
			return nil, err
		}
		logger.Warn().Err(err).Msg("waiting for nats")
		if clock.Sleep(ctx, clock.System{}, time.Second) != nil {
			return nil, nil
		}
	}
}

func ensure(ctx context.Context, c *bus.Conn, logger zerolog.Logger) error {
	for {
		differences, err := streams.Ensure(ctx, c.JetStream())
		for _, d := range differences {
			logger.Warn().Str("difference", d.String()).Msg("the topology differs; `causeway streams apply` brings it there")
		}
		if errors.Is(err, streams.ErrIncompatible) {
			return err
		}
		if err == nil {
			err = c.Count(ctx)
		}
		if err == nil {
			return nil
		}
		// JetStream may take a moment longer to answer than the server.
		logger.Warn().Err(err).Msg("waiting for jetstream")
		if err := clock.Sleep(ctx, clock.System{}, time.Second); err != nil {
			return err
		}
	}
}

// circuits names those that are not closed, a line each. They don't make a stage
// unready: webhooks are taken all the same, and another instance would fare no
// better.
func circuits(metrics prometheus.Gatherer) string {
	families, err := metrics.Gather()
	if err != nil {
		return "" // /metrics says why
	}
	var b strings.Builder
	for _, f := range families {
		for _, m := range f.GetMetric() {
			state := int(m.GetGauge().GetValue())
			if f.GetName() != "causeway_circuit_state" || state < 1 || state > 3 {
				continue
			}
			b.WriteString("circuit")
			for _, l := range m.GetLabel() {
				b.WriteString(" " + l.GetName() + "=" + l.GetValue())
			}
			b.WriteString(": " + [...]string{"", "half-open", "open: the system fails", "open: the system refuses our credentials"}[state] + "\n")
		}
	}
	return b.String()
}

func serve(ctx context.Context, l net.Listener, metrics prometheus.Gatherer, ready func() error) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "ready\n"+circuits(metrics))
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(l); err != nil && ctx.Err() == nil {
		return fmt.Errorf("health checks: %w", err)
	}
	return nil
}
