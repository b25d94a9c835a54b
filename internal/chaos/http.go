package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"
)

// System is a proxy in front of a simulated system's API.
type System struct {
	l     net.Listener
	proxy *httputil.ReverseProxy

	mu    sync.Mutex
	trap  *Request
	delay time.Duration
}

// Request freezes the proxy at a call that changes something: before it
// reaches the system, or with its answer.
type Request struct {
	answered bool
	hit      chan struct{}
	release  chan struct{}
	once     sync.Once
}

// NewRequest returns a trap for the next call that changes something; answered
// says that the system is to have done it.
func NewRequest(answered bool) *Request {
	return &Request{answered: answered, hit: make(chan struct{}), release: make(chan struct{})}
}

// Hit is closed when a call has fallen into it.
func (r *Request) Hit() <-chan struct{} { return r.hit }

// Release ends the call that stood still, without an answer.
func (r *Request) Release() { r.once.Do(func() { close(r.release) }) }

// NewSystem listens on a free local port, for calls to the API at target.
func NewSystem(target string) (*System, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, fmt.Errorf("proxy of %s: %w", target, err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("proxy of %s: %w", target, err)
	}
	s := &System{l: l, proxy: &httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(u) },
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}}
	return s, nil
}

// URL is where it listens.
func (s *System) URL() string { return "http://" + s.l.Addr().String() }

// Run serves until ctx is done.
func (s *System) Run(ctx context.Context) error {
	server := &http.Server{Handler: s, ErrorLog: nil}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() }) // nobody waits for the rest
	defer stop()
	if err := server.Serve(s.l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("proxy of a system: %w", err)
	}
	return nil
}

// Set sets a trap in the place of the one before, or none.
func (s *System) Set(r *Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trap = r
}

// Slow has every call take that much longer.
func (s *System) Slow(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delay = d
}

// ServeHTTP implements [http.Handler].
func (s *System) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	trap, delay := s.trap, s.delay
	changes := r.Method == http.MethodPut || r.Method == http.MethodDelete || r.Method == http.MethodPost && r.URL.Path != "/contacts/search"
	if trap != nil && changes {
		s.trap = nil
	} else {
		trap = nil
	}
	s.mu.Unlock()
	time.Sleep(delay)
	switch {
	case trap == nil:
		s.proxy.ServeHTTP(w, r)
	case trap.answered:
		s.proxy.ServeHTTP(&nowhere{header: http.Header{}}, r)
		fallthrough
	default:
		close(trap.hit)
		<-trap.release
		panic(http.ErrAbortHandler)
	}
}

// nowhere takes an answer that nobody is to get.
type nowhere struct{ header http.Header }

func (n *nowhere) Header() http.Header         { return n.header }
func (n *nowhere) WriteHeader(int)             {}
func (n *nowhere) Write(p []byte) (int, error) { return io.Discard.Write(p) }
