package console

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/config"
)

// Options are what a console is made of.
type Options struct {
	Bus    *bus.Conn
	Logger zerolog.Logger
	Clock  clock.Clock // nil means the machine's
	// File is the stages' configuration, and ConfigPath where it is; without
	// them the console doesn't know limits and mappings.
	File       *config.File
	ConfigPath string
	// Access says who may come in; nil means everybody who reaches the console,
	// which is then served to this machine only.
	Access *Access
	// Every is the time between two looks at how far the consumers are; 0 means
	// 2 s.
	Every time.Duration
}

// Console is the web page.
type Console struct {
	o      Options
	bus    *bus.Conn
	clock  clock.Clock
	logger zerolog.Logger

	world    *world
	hub      *hub
	pages    pages
	sessions sessions
	file     atomic.Pointer[config.File] // nil if none is known
}

// New returns a Console, which has read nothing yet: see [Console.Run].
func New(o Options) (*Console, error) {
	if o.Bus == nil {
		return nil, errors.New("console: it needs a broker")
	}
	if o.Clock == nil {
		o.Clock = clock.System{}
	}
	if o.Every == 0 {
		o.Every = 2 * time.Second
	}
	c := &Console{o: o, bus: o.Bus, clock: o.Clock, logger: o.Logger, hub: newHub(), sessions: sessions{by: map[string]session{}}}
	c.world = newWorld(c.hub)
	c.configured(o.File)
	if a := o.Access; a != nil {
		if len(a.Tokens) == 0 && a.OIDC == nil {
			return nil, errors.New("console: nobody could sign in")
		}
		if a.Lasts == 0 {
			a.Lasts = 12 * time.Hour
		}
	}
	var err error
	c.pages, err = parsePages()
	return c, err
}

// configured takes a configuration; nil is none.
func (c *Console) configured(f *config.File) {
	if f != nil {
		c.file.Store(f)
		c.world.configured(f)
	}
}

// Run reads, and serves on l, until ctx is done. Requests under way get a few
// seconds to end.
func (c *Console) Run(ctx context.Context, l net.Listener) error {
	if c.o.Access == nil && !Loopback(l.Addr()) {
		return fmt.Errorf("console on %s: %w", l.Addr(), ErrOpen)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.Watch(ctx) })
	server := &http.Server{
		Handler: c.Handler(), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
		// Requests end when the console does: those for events never do otherwise.
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	g.Go(func() error {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("console: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := server.Shutdown(stopping); err != nil {
			return errors.Join(err, server.Close())
		}
		return nil
	})
	return g.Wait()
}

// Loopback reports whether nobody but this machine can reach an address.
func Loopback(a net.Addr) bool {
	t, ok := a.(*net.TCPAddr)
	return ok && t.IP.IsLoopback()
}
