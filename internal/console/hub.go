package console

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// hub tells whoever looks at something that it has changed. A topic is what
// pages name: overview, dead, holds, t/<tenant>, c/<tenant>/<id>.
type hub struct {
	mu   sync.Mutex
	subs map[*subscriber]bool
}

type subscriber struct {
	topics  map[string]bool
	pending map[string]bool
	wake    chan struct{}
}

func newHub() *hub { return &hub{subs: map[*subscriber]bool{}} }

// changed tells all who look at one of topics. It never blocks, and what is
// told twice before it is read is told once.
func (h *hub) changed(topics ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.subs {
		for _, t := range topics {
			if s.topics[t] {
				s.pending[t] = true
				select {
				case s.wake <- struct{}{}:
				default:
				}
			}
		}
	}
}

func (h *hub) join(topics []string) (s *subscriber, leave func()) {
	s = &subscriber{topics: map[string]bool{}, pending: map[string]bool{}, wake: make(chan struct{}, 1)}
	for _, t := range topics {
		s.topics[t] = true
	}
	h.mu.Lock()
	h.subs[s] = true
	h.mu.Unlock()
	return s, func() {
		h.mu.Lock()
		delete(h.subs, s)
		h.mu.Unlock()
	}
}

func (h *hub) take(s *subscriber) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	topics := slices.Sorted(maps.Keys(s.pending))
	clear(s.pending)
	return topics
}

const (
	// calm is the least time between two events: a browser that asks for a page
	// more often shows nothing more.
	calm = 700 * time.Millisecond
	// beat is how often a connection without news is kept alive.
	beat = 15 * time.Second
	// mostTopics bounds what one connection may listen to.
	mostTopics = 16
)

// events answers with server-sent events: each is named change, and its data
// is a topic.
func (c *Console) events(w http.ResponseWriter, r *http.Request) {
	topics := r.URL.Query()["topic"]
	flusher := http.NewResponseController(w)
	if len(topics) == 0 || len(topics) > mostTopics {
		http.Error(w, "say which topics", http.StatusBadRequest)
		return
	}
	s, leave := c.hub.join(topics)
	defer leave()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	send := func(text string) bool {
		_, err := w.Write([]byte(text))
		return err == nil && flusher.Flush() == nil
	}
	if !send("retry: 2000\n\n") {
		return
	}
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
			if !send(": still here\n\n") {
				return
			}
			continue
		case <-s.wake:
		}
		var b strings.Builder
		for _, t := range c.hub.take(s) {
			fmt.Fprintf(&b, "event: change\ndata: %s\n\n", t)
		}
		if b.Len() > 0 && !send(b.String()) {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-time.After(calm):
		}
	}
}
