package natsembed

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Cluster is several servers in one process that keep streams together.
type Cluster struct{ Servers []*Server }

// StartCluster starts n servers that know one another, each with its own
// store below dir, and waits until they have chosen who leads.
func StartCluster(dir string, n int) (*Cluster, error) {
	c := &Cluster{}
	routes, err := freeRoutes(n) // a server of a cluster has to know the others from the start
	if err != nil {
		return nil, err
	}
	for i := range n {
		name := fmt.Sprintf("causeway-%d", i+1)
		s, err := server.NewServer(&server.Options{
			ServerName: name, Host: "127.0.0.1", Port: server.RANDOM_PORT, StoreDir: filepath.Join(dir, name), JetStream: true,
			MaxPayload: 8 << 20, NoSigs: true, NoLog: true, Routes: routes,
			Cluster: server.ClusterOpts{Name: "causeway", Host: "127.0.0.1", Port: port(routes[i])},
		})
		if err != nil {
			c.Shutdown()
			return nil, fmt.Errorf("embedded nats server %s: %w", name, err)
		}
		s.Start()
		c.Servers = append(c.Servers, &Server{s})
	}
	deadline := time.Now().Add(time.Minute)
	for !c.led() {
		if time.Now().After(deadline) {
			c.Shutdown()
			return nil, fmt.Errorf("embedded nats cluster: no leader after a minute")
		}
		time.Sleep(20 * time.Millisecond)
	}
	return c, nil
}

// freeRoutes returns n addresses on this machine that nobody listens on.
func freeRoutes(n int) ([]*url.URL, error) {
	var out []*url.URL
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("embedded nats cluster: %w", err)
		}
		defer func() { _ = l.Close() }() // only when all are chosen, so that they differ
		out = append(out, &url.URL{Scheme: "nats", Host: l.Addr().String()})
	}
	return out, nil
}

func port(u *url.URL) int {
	n, _ := strconv.Atoi(u.Port()) // as net wrote it
	return n
}

// led reports whether every server knows the leader, and the leader every
// server.
func (c *Cluster) led() bool {
	for _, s := range c.Servers {
		if !s.s.JetStreamIsCurrent() {
			return false
		}
		if s.s.JetStreamIsLeader() && len(s.s.JetStreamClusterPeers()) == len(c.Servers) {
			return true
		}
	}
	return false
}

// URL names every server, for clients.
func (c *Cluster) URL() string {
	var all string
	for i, s := range c.Servers {
		if i > 0 {
			all += ","
		}
		all += s.URL()
	}
	return all
}

// Shutdown stops every server and waits until they have.
func (c *Cluster) Shutdown() {
	for _, s := range c.Servers {
		s.Shutdown()
	}
}
