package novisim

import (
	"bytes"
	"container/heap"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/goccy/go-json"
)

// retries are the waits after a failed delivery, in seconds (invented).
var retries = []float64{1, 5, 30, 120, 600}

// queueMax bounds the deliveries that wait; one more is dropped and counted
// as failed.
const queueMax = 200_000

type delivery struct {
	raw   []byte
	due   time.Time
	tries int
	order int64
}

type hookCounts struct{ pending, sent, failed int }

// hooks keeps deliveries in a heap by due time and hands them to a few
// workers. Every attempt of a delivery has the same bytes.
type hooks struct {
	conf   WebhookConfig
	client *http.Client
	wake   chan struct{}

	mu    sync.Mutex
	url   string
	queue queue
	order int64
	n     hookCounts
}

func newHooks(c WebhookConfig) *hooks {
	return &hooks{conf: c, url: c.URL, wake: make(chan struct{}, 1), client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 8}}}
}

func (h *hooks) setURL(url string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.url = url
}

func (h *hooks) counts() hookCounts {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.n
}

// reset gives up the deliveries that wait, without counting them.
func (h *hooks) reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.n.pending -= len(h.queue)
	h.queue = nil
}

func between(r *rand.Rand, lo, hi time.Duration) time.Duration {
	if hi <= lo {
		return lo
	}
	return lo + time.Duration(r.Int64N(int64(hi-lo)))
}

// send schedules an event, faults permitting.
func (h *hooks) send(event, id string, f Faults, r *rand.Rand) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.url == "" || r.Float64() < f.WebhookDrop {
		return
	}
	raw, _ := json.Marshal(map[string]string{"event": event, "entityUniqueId": id}) // strings always encode
	copies := 1
	if r.Float64() < f.WebhookDuplicate {
		copies = 2
	}
	for range copies {
		wait := between(r, h.conf.MinDelay, h.conf.MaxDelay)
		if r.Float64() < f.WebhookDelay {
			wait += between(r, 0, f.WebhookDelayMax)
		}
		if len(h.queue) >= queueMax {
			h.n.failed++
			continue
		}
		h.n.pending++
		h.push(&delivery{raw: raw, due: time.Now().Add(wait)})
	}
}

// push queues x. The caller holds mu.
func (h *hooks) push(x *delivery) {
	h.order++
	x.order = h.order
	heap.Push(&h.queue, x)
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

func (h *hooks) next() (*delivery, string, time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.queue) == 0 {
		return nil, "", time.Hour
	}
	if wait := time.Until(h.queue[0].due); wait > 0 {
		return nil, "", wait
	}
	x, _ := heap.Pop(&h.queue).(*delivery)
	return x, h.url, 0
}

func (h *hooks) run(ctx context.Context) error {
	type job struct {
		x   *delivery
		url string
	}
	jobs := make(chan job)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for j := range jobs {
				h.deliver(ctx, j.x, j.url)
			}
		})
	}
	defer wg.Wait()
	defer close(jobs)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		x, url, wait := h.next()
		if x != nil {
			jobs <- job{x, url}
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-h.wake:
		case <-timer.C:
		}
	}
	return nil
}

func (h *hooks) deliver(ctx context.Context, x *delivery, url string) {
	ok := h.post(ctx, x.raw, url)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case ok:
		h.n.sent++
		h.n.pending--
	case ctx.Err() != nil:
		h.push(x)
	case url != "" && x.tries < len(retries):
		x.due = time.Now().Add(time.Duration(retries[x.tries] * h.conf.RetryScale * float64(time.Second)))
		x.tries++
		h.push(x)
	default:
		h.n.failed++
		h.n.pending--
	}
}

func (h *hooks) post(ctx context.Context, raw []byte, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(raw))
	if err != nil {
		return false
	}
	req.Header.Set("Content-Type", "application/json")
	if h.conf.Secret != "" {
		mac := hmac.New(sha256.New, []byte(h.conf.Secret))
		mac.Write(raw)
		req.Header.Set("X-Novi-Signature", hex.EncodeToString(mac.Sum(nil)))
	}
	res, err := h.client.Do(req)
	if err != nil {
		return false
	}
	_ = res.Body.Close()
	return res.StatusCode/100 == 2
}

// queue is a heap by due time.
type queue []*delivery

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	if q[i].due.Equal(q[j].due) {
		return q[i].order < q[j].order
	}
	return q[i].due.Before(q[j].due)
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(*delivery)) }
func (q *queue) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}
