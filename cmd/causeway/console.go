package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/config"
	"github.com/causeway-sync/causeway/internal/console"
	"github.com/causeway-sync/causeway/internal/process"
)

type consoleCmd struct {
	Serve consoleServeCmd `cmd:"" default:"withargs" help:"Serve the web page for the people who run it."`
	Token consoleTokenCmd `cmd:"" help:"Make a token for somebody, and the line for it in the token file."`
}

type consoleTokenCmd struct {
	Name string       `arg:"" help:"Who gets it; one word."`
	Role console.Role `help:"viewer or operator." enum:"viewer,operator" default:"viewer"`
}

func (c *consoleTokenCmd) Run() error {
	if len(strings.Fields(c.Name)) != 1 {
		return fmt.Errorf("%q is not one word", c.Name)
	}
	token, line := console.NewToken(console.Person{Name: c.Name, Role: c.Role})
	_, err := fmt.Printf("token, for %s and nobody else:\n%s\nline of the token file:\n%s\n", c.Name, token, line)
	return err
}

type consoleServeCmd struct {
	server
	Config    string `help:"The stages' configuration: limits and mappings are known by it, and the broker, which --nats then doesn't name. An operator may change the mapping and the rules in it." env:"CAUSEWAY_CONFIG" type:"existingfile" placeholder:"FILE"`
	Listen    string `help:"Address to serve on. Where other machines reach it, people have to sign in." default:"127.0.0.1:8480" env:"CAUSEWAY_CONSOLE_LISTEN" placeholder:"ADDR"`
	Cert      string `help:"PEM certificate to serve https with." type:"existingfile" placeholder:"FILE" and:"tls"`
	Key       string `help:"Its private key." type:"existingfile" placeholder:"FILE" and:"tls"`
	PublicURL string `help:"The console as browsers reach it; needed with --oidc-issuer." placeholder:"URL"`

	Tokens        string   `help:"Token file: who may come in; see causeway console token." type:"existingfile" placeholder:"FILE"`
	OIDCIssuer    string   `name:"oidc-issuer" help:"Identity provider at which people sign in." placeholder:"URL"`
	OIDCClient    string   `name:"oidc-client" help:"Client id there." placeholder:"ID"`
	OIDCSecret    string   `name:"oidc-secret" help:"File with the client secret." type:"existingfile" placeholder:"FILE"`
	OIDCClaim     string   `name:"oidc-claim" help:"Claim that names a person's groups." default:"groups" placeholder:"NAME"`
	OIDCOperators []string `name:"oidc-operators" help:"Groups, or verified e-mail addresses, of operators." placeholder:"GROUP"`
	OIDCViewers   []string `name:"oidc-viewers" help:"The same of viewers; * is everybody who can sign in." placeholder:"GROUP"`
}

// access says who may come in; nil is everybody on this machine.
func (c *consoleServeCmd) access(ctx context.Context) (*console.Access, error) {
	if c.Tokens == "" && c.OIDCIssuer == "" {
		return nil, nil
	}
	a := &console.Access{Secure: c.Cert != "" || strings.HasPrefix(c.PublicURL, "https://")}
	var err error
	if c.Tokens != "" {
		if a.Tokens, err = console.LoadTokens(c.Tokens); err != nil {
			return nil, err
		}
	}
	if c.OIDCIssuer == "" {
		return a, nil
	}
	if c.PublicURL == "" || c.OIDCClient == "" {
		return nil, errors.New("--oidc-issuer needs --oidc-client and --public-url")
	}
	o := console.OIDCConfig{Issuer: c.OIDCIssuer, ClientID: c.OIDCClient, URL: c.PublicURL, Claim: c.OIDCClaim, Operators: c.OIDCOperators, Viewers: c.OIDCViewers}
	if c.OIDCSecret != "" {
		secret, err := os.ReadFile(c.OIDCSecret)
		if err != nil {
			return nil, fmt.Errorf("oidc secret: %w", err)
		}
		o.ClientSecret = strings.TrimSpace(string(secret))
	}
	a.OIDC, err = console.NewOIDC(ctx, o)
	return a, err
}

func (c *consoleServeCmd) Run(ctx context.Context) error {
	logger := process.Logger(os.Stderr, "info", "console")
	o := console.Options{Logger: logger, ConfigPath: c.Config}
	broker := bus.Options{URL: c.NATS, Name: "causeway-console", Login: c.login()}
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
	if c.Cert != "" {
		pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			return fmt.Errorf("console: %w", err)
		}
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{pair}})
	}
	if o.Access, err = c.access(ctx); err != nil {
		return err
	}
	if o.Access == nil && !console.Loopback(l.Addr()) {
		return fmt.Errorf("console on %s: %w", l.Addr(), console.ErrOpen)
	}
	web, err := console.New(o)
	if err != nil {
		return err
	}
	scheme := "http"
	if c.Cert != "" {
		scheme = "https"
	}
	fmt.Printf("console  %s\n", cmp.Or(c.PublicURL, scheme+"://"+l.Addr().String()))
	return web.Run(ctx, l)
}
