package chaos

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Frame is one command of the NATS protocol, as it passes.
type Frame struct {
	ToServer bool
	Op       string // PUB, HPUB, MSG, HMSG, or another without a subject
	Subject  string
	Reply    string
	Payload  []byte // headers included
}

// Trap freezes a proxy at a frame.
type Trap struct {
	// At says which frame. It is called for one after the other.
	At func(Frame) bool
	// Pass lets the frame itself through before all stands still.
	Pass bool

	hit  chan struct{}
	once sync.Once
}

// NewTrap returns a trap that nothing has fallen into.
func NewTrap(pass bool, at func(Frame) bool) *Trap {
	return &Trap{At: at, Pass: pass, hit: make(chan struct{})}
}

// Hit is closed when a frame has fallen into it.
func (t *Trap) Hit() <-chan struct{} { return t.hit }

// Broker is a proxy in front of a NATS server.
type Broker struct {
	target string
	l      net.Listener

	mu    sync.Mutex
	conns map[net.Conn]bool
	trap  *Trap
	delay time.Duration
	cut   bool
	// frozen is closed when what stands still may go on, or end.
	frozen chan struct{}
}

// NewBroker listens on a free local port, for connections to target.
func NewBroker(target string) (*Broker, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("proxy of the broker: %w", err)
	}
	return &Broker{target: target, l: l, conns: map[net.Conn]bool{}}, nil
}

// Addr is where it listens.
func (b *Broker) Addr() string { return b.l.Addr().String() }

// Run serves until ctx is done.
func (b *Broker) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		_ = b.l.Close() // that it was closed is what ends Run
		b.Drop()
	})
	defer stop()
	for {
		client, err := b.l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("proxy of the broker: %w", err)
		}
		go b.serve(client)
	}
}

func (b *Broker) serve(client net.Conn) {
	server, err := net.Dial("tcp", b.target)
	if err != nil {
		_ = client.Close() // the client tries again
		return
	}
	b.mu.Lock()
	if b.cut {
		b.mu.Unlock()
		_ = errors.Join(client.Close(), server.Close())
		return
	}
	b.conns[client], b.conns[server] = true, true
	b.mu.Unlock()
	done := make(chan struct{}, 2)
	pipe := func(from, to net.Conn, toServer bool) {
		_ = b.pipe(from, to, toServer) // how it ended is either side's to notice
		_ = errors.Join(from.Close(), to.Close())
		done <- struct{}{}
	}
	go pipe(client, server, true)
	go pipe(server, client, false)
	<-done
	<-done
	b.mu.Lock()
	delete(b.conns, client)
	delete(b.conns, server)
	b.mu.Unlock()
}

// pipe passes on frame by frame.
func (b *Broker) pipe(from, to net.Conn, toServer bool) error {
	in := bufio.NewReaderSize(from, 64<<10)
	out := bufio.NewWriterSize(to, 64<<10)
	for {
		raw, f, err := readFrame(in)
		if err != nil {
			return err
		}
		f.ToServer = toServer
		b.mu.Lock()
		trap, delay, frozen := b.trap, b.delay, b.frozen
		caught := trap != nil && frozen == nil && trap.At(f)
		if caught {
			frozen = make(chan struct{})
			b.frozen, b.trap = frozen, nil
		}
		b.mu.Unlock()
		if caught && trap.Pass {
			if _, err := out.Write(raw); err != nil {
				return err
			}
			if err := out.Flush(); err != nil {
				return err
			}
			raw = nil
		}
		if caught {
			trap.once.Do(func() { close(trap.hit) })
		}
		if frozen != nil {
			<-frozen
		}
		if delay > 0 && len(f.Subject) > 0 {
			time.Sleep(delay)
		}
		if _, err := out.Write(raw); err != nil {
			return err
		}
		if in.Buffered() == 0 || delay > 0 {
			if err := out.Flush(); err != nil {
				return err
			}
		}
	}
}

// Set sets a trap in the place of the one before, or none.
func (b *Broker) Set(t *Trap) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trap = t
}

// Slow has every message take that much longer.
func (b *Broker) Slow(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.delay = d
}

// Cut ends all connections, and lets none through until it is called with
// false.
func (b *Broker) Cut(cut bool) {
	b.mu.Lock()
	b.cut = cut
	b.mu.Unlock()
	if cut {
		b.Drop()
	}
}

// Drop ends all connections; what stood still is lost.
func (b *Broker) Drop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.conns {
		_ = c.Close() // it may have been closed already
	}
	if b.frozen != nil {
		close(b.frozen)
		b.frozen = nil
	}
	b.trap = nil
}

// readFrame reads one command, with its payload, as it came and as it reads.
func readFrame(in *bufio.Reader) ([]byte, Frame, error) {
	line, err := in.ReadBytes('\n')
	if err != nil {
		return nil, Frame{}, err
	}
	words := strings.Fields(string(bytes.TrimRight(line, "\r\n")))
	if len(words) == 0 {
		return line, Frame{}, nil
	}
	f := Frame{Op: strings.ToUpper(words[0])}
	args, sizes := words[1:], 1
	switch f.Op {
	case "HPUB":
		sizes = 2
	case "PUB":
	case "HMSG":
		sizes = 2
		fallthrough
	case "MSG":
		if len(args) > 1 { // the subscription's number says nothing here
			args = append(args[:1:1], args[2:]...)
		}
	default:
		return line, f, nil
	}
	if len(args) < 1+sizes {
		return nil, f, fmt.Errorf("proxy of the broker: %q is no command", f.Op)
	}
	f.Subject = args[0]
	if len(args) > 1+sizes {
		f.Reply = args[1]
	}
	n, err := strconv.Atoi(args[len(args)-1])
	if err != nil || n < 0 || n > 64<<20 {
		return nil, f, fmt.Errorf("proxy of the broker: %q has no size", f.Op)
	}
	payload := make([]byte, n+2)
	if _, err := io.ReadFull(in, payload); err != nil {
		return nil, f, err
	}
	f.Payload = payload[:n]
	return append(line, payload...), f, nil
}
