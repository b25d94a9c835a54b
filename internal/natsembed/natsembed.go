// Package natsembed starts a JetStream server inside the process, for
// `causeway dev` and for tests. It is the real server with a file store; only
// the process is shared. The stage binaries never link it.
package natsembed

import (
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Options say where the server keeps its data and whether it listens.
type Options struct {
	// StoreDir holds the streams; required.
	StoreDir string
	// Listen is a TCP address such as 127.0.0.1:0; "" means 127.0.0.1:0.
	Listen string
	// Config is the path of a server configuration; what is said here overrides
	// it.
	Config string
	// MaxPayload is the largest message in bytes; 0 means 8 MiB.
	MaxPayload int32
}

// Server is a running server.
type Server struct{ s *server.Server }

// Start starts a server and waits until it takes connections.
func Start(o Options) (*Server, error) {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.MaxPayload == 0 {
		o.MaxPayload = 8 << 20
	}
	host, portText, err := net.SplitHostPort(o.Listen)
	if err != nil {
		return nil, fmt.Errorf("embedded nats server: listen address: %w", err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, fmt.Errorf("embedded nats server: listen address: port %q is not a number", portText)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	opts := &server.Options{}
	if o.Config != "" {
		if opts, err = server.ProcessConfigFile(o.Config); err != nil {
			return nil, fmt.Errorf("embedded nats server: %w", err)
		}
		opts.HTTPPort = 0 // only one server on a machine can have it
	}
	opts.ServerName, opts.Host, opts.Port, opts.StoreDir, opts.JetStream = "causeway-embedded", host, port, o.StoreDir, true
	opts.MaxPayload, opts.NoSigs, opts.NoLog = o.MaxPayload, true, true
	s, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("embedded nats server: %w", err)
	}
	s.Start()
	if !s.ReadyForConnections(20 * time.Second) {
		s.Shutdown()
		return nil, fmt.Errorf("embedded nats server: not ready on %s after 20 s", o.Listen)
	}
	return &Server{s}, nil
}

// URL is where clients connect.
func (s *Server) URL() string { return s.s.ClientURL() }

// Shutdown stops the server and waits until it has.
func (s *Server) Shutdown() {
	s.s.Shutdown()
	s.s.WaitForShutdown()
}
