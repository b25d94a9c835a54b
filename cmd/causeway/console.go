package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/config"
	"github.com/causeway-sync/causeway/internal/console"
	"github.com/causeway-sync/causeway/internal/process"
)

type consoleCmd struct {
	server
	Config string `help:"The stages' configuration: limits and mappings are known by it, and the broker, which --nats then doesn't name." type:"existingfile" placeholder:"FILE"`
	Listen string `help:"Address to serve on." default:"127.0.0.1:8480" env:"CAUSEWAY_CONSOLE_LISTEN" placeholder:"ADDR"`
}

func (c *consoleCmd) Run(ctx context.Context) error {
	logger := process.Logger(os.Stderr, "info", "console")
	o := console.Options{Logger: logger, ConfigPath: c.Config}
	broker := bus.Options{URL: c.NATS, Name: "causeway-console", Login: bus.Login{Credentials: c.Credentials, NKey: c.NKey, CA: c.CA}}
	if c.Config != "" {
		file, err := config.Load(c.Config)
		if err != nil {
			return err
		}
		o.File = file
		login := broker.Login
		broker = process.Broker(file, "causeway-console")
		if login != (bus.Login{}) {
			broker.Login = login
		}
	}
	broker.Logger = logger
	conn, err := bus.Connect(ctx, broker)
	if err != nil {
		return err
	}
	defer conn.Close()
	o.Bus = conn
	l, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("console: %w", err)
	}
	defer func() { _ = l.Close() }() // the server has closed it if it served
	if !console.Loopback(l.Addr()) {
		return errors.New("the console has no sign-in yet and is served on a loopback address only")
	}
	web, err := console.New(o)
	if err != nil {
		return err
	}
	fmt.Printf("console  http://%s\n", l.Addr())
	return web.Run(ctx, l)
}
