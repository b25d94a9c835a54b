package ghlsim

import (
	"bytes"
	"container/heap"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/goccy/go-json"
	"github.com/rs/zerolog"
)

// eventKeys are the optional keys of C, the contact event (dossier §5.2).
var eventKeys = []string{
	"address1", "city", "state", "companyName", "country", "source", "dateOfBirth", "email", "name", "firstName",
	"lastName", "phone", "postalCode", "website", "assignedTo", "customFields", "tags",
}

// envelope is what every event's body has.
func (s *Server) envelope(typ string, loc *location) map[string]any {
	return map[string]any{
		"type": typ, "locationId": loc.conf.ID,
		"appId": s.conf.Webhook.AppID, "versionId": s.conf.Webhook.AppID, "webhookId": s.rng.uuid(),
	}
}

// payload makes the body of an event about snap: flat, with the envelope
// beside the contact (dossier §5.1). It never says what was cleared.
func (s *Server) payload(typ string, loc *location, snap *snapshot) map[string]any {
	q := s.conf.Quirks
	body := s.envelope(typ, loc)
	body["id"] = snap.id
	if q.SparseWebhooks && typ == "ContactDelete" {
		return body
	}
	shown := render(loc, snap)
	body["dnd"] = snap.fields["dnd"] == true
	if v, ok := shown["dndSettings"]; ok && typ == "ContactDndUpdate" {
		body["dndSettings"] = v
	}
	keys := eventKeys
	if q.SparseWebhooks && typ == "ContactDndUpdate" {
		keys = []string{"email", "phone"}
	} else {
		body["dateAdded"] = stamp(snap.added)
	}
	for _, k := range keys {
		if v, ok := shown[k]; ok {
			body[k] = v
		} else if q.NullWebhookKeys {
			body[k] = nil
		}
	}
	return body
}

// event is one webhook: the bytes of every attempt, and their signatures.
type event struct {
	id   string
	typ  string
	raw  []byte
	once sync.Once
	ed   string
	rsa  string
}

// delivery is an event on its way, or one of its two ways.
type delivery struct {
	event *event
	due   time.Time // machine's clock
	tries int
	order int64 // ties are delivered in the order of the changes
	gen   int
}

// dispatcher keeps deliveries in a heap by due time and hands them to a few
// workers.
type dispatcher struct {
	conf   WebhookConfig
	now    func() time.Time
	rng    *lockedRand
	log    zerolog.Logger
	client *http.Client
	wake   chan struct{}

	mu    sync.Mutex
	url   string
	queue deliveries
	order int64
	gen   int // changes on reset, so that attempts under way end there
	n     hookCounts
}

type hookCounts struct{ pending, sent, attempts, failed, dropped, overflow int }

func newDispatcher(c Config, rng *lockedRand) *dispatcher {
	return &dispatcher{
		conf: c.Webhook, url: c.Webhook.URL, now: c.Now, rng: rng, log: c.Logger,
		wake: make(chan struct{}, 1),
		client: &http.Client{
			Timeout:       c.Webhook.Timeout,
			Transport:     &http.Transport{MaxIdleConnsPerHost: c.Webhook.Workers, IdleConnTimeout: 30 * time.Second},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

func (d *dispatcher) setURL(url string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.url = url
}

func (d *dispatcher) reset() {
	d.mu.Lock()
	defer d.mu.Unlock()
	inFlight := d.n.pending - len(d.queue)
	d.queue, d.n = nil, hookCounts{pending: inFlight}
	d.gen++
}

func (d *dispatcher) counts() hookCounts {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.n
}

// enqueue schedules an event, faults permitting. Its timestamp is the time of
// the first attempt [INF].
func (d *dispatcher) enqueue(body map[string]any, f Faults) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.url == "" {
		return
	}
	if d.rng.chance(f.WebhookDrop) {
		d.n.dropped++
		return
	}
	delay := d.delay(f)
	body["timestamp"] = stamp(d.now().Add(delay).UnixMilli())
	id, _ := body["webhookId"].(string)
	typ, _ := body["type"].(string)
	raw, err := json.Marshal(body)
	if err != nil {
		// Values come from JSON, so this cannot happen; a lost event would be
		// worse than a loud one.
		panic(fmt.Sprintf("ghlsim: encode webhook: %v", err))
	}
	e := &event{id: id, typ: typ, raw: raw}
	d.push(&delivery{event: e, due: time.Now().Add(delay)})
	if d.rng.chance(f.WebhookDuplicate) {
		d.push(&delivery{event: e, due: time.Now().Add(d.delay(f))})
	}
}

func (d *dispatcher) delay(f Faults) time.Duration {
	delay := d.rng.between(d.conf.MinDelay, d.conf.MaxDelay)
	if d.rng.chance(f.WebhookDelay) {
		delay += d.rng.between(0, f.WebhookDelayMax)
	}
	return delay
}

// push queues a new delivery. The caller holds mu.
func (d *dispatcher) push(x *delivery) {
	if len(d.queue) >= d.conf.QueueMax {
		d.n.overflow++
		return
	}
	d.order++
	x.order, x.gen = d.order, d.gen
	d.n.pending++
	heap.Push(&d.queue, x)
	d.signal()
}

func (d *dispatcher) signal() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// next takes the first delivery if it is due, or says how long to wait.
func (d *dispatcher) next() (*delivery, string, time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.queue) == 0 {
		return nil, "", time.Hour
	}
	if wait := time.Until(d.queue[0].due); wait > 0 {
		return nil, "", wait
	}
	x, _ := heap.Pop(&d.queue).(*delivery)
	return x, d.url, 0
}

// run delivers until ctx is done.
func (d *dispatcher) run(ctx context.Context) error {
	type job struct {
		x   *delivery
		url string
	}
	jobs := make(chan job)
	var wg sync.WaitGroup
	for range d.conf.Workers {
		wg.Go(func() {
			for j := range jobs {
				d.deliver(ctx, j.x, j.url)
			}
		})
	}
	defer d.client.CloseIdleConnections()
	defer wg.Wait()
	defer close(jobs)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		x, url, wait := d.next()
		if x != nil {
			select {
			case jobs <- job{x, url}:
			case <-ctx.Done():
				d.requeue(x)
			}
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-d.wake:
		case <-timer.C:
		}
	}
	return nil
}

// requeue puts x back; it is still pending.
func (d *dispatcher) requeue(x *delivery) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if x.gen != d.gen {
		d.n.pending--
		return
	}
	heap.Push(&d.queue, x)
	d.signal()
}

// deliver makes one attempt and decides what follows from it.
func (d *dispatcher) deliver(ctx context.Context, x *delivery, url string) {
	status := d.post(ctx, x.event, url)
	if ctx.Err() != nil && status == 0 {
		d.requeue(x)
		return
	}
	x.tries++
	d.log.Debug().Str("type", x.event.typ).Str("webhook_id", x.event.id).Int("status", status).Int("try", x.tries).
		Msg("simulated GHL webhook")
	d.mu.Lock()
	if x.gen != d.gen {
		d.n.pending--
		d.mu.Unlock()
		return
	}
	d.n.attempts++
	wait, again := d.conf.retry(status, x.tries, d.rng)
	switch {
	case status >= 200 && status <= 299:
		d.n.sent++
		d.n.pending--
		d.mu.Unlock()
	case again && url != "":
		d.mu.Unlock()
		x.due = time.Now().Add(wait)
		d.requeue(x)
	default:
		d.n.failed++
		d.n.pending--
		d.mu.Unlock()
	}
}

// retry says whether and after how long a failed delivery is tried again;
// tries counts the attempts so far, status 0 is no reply.
func (c WebhookConfig) retry(status, tries int, rng *lockedRand) (time.Duration, bool) {
	if c.Retry == Retry429 {
		return c.RetryBase + rng.between(0, c.RetryBase/6), status == http.StatusTooManyRequests && tries <= 6
	}
	wait := min(c.RetryBase<<min(tries-1, 11), 60*c.RetryBase)
	return wait + rng.between(0, wait/4), tries <= 12
}

// post makes one attempt and returns the status, 0 if there was no reply.
func (d *dispatcher) post(ctx context.Context, e *event, url string) int {
	if url == "" {
		return 0
	}
	e.once.Do(func() { e.sign(d.conf) })
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(e.raw))
	if err != nil {
		return 0
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-GHL-Signature", e.ed)
	if e.rsa != "" {
		req.Header.Set("X-WH-Signature", e.rsa)
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return 0
	}
	defer func() { _ = resp.Body.Close() }()
	// Read a little so that the connection can be used again; what the
	// receiver says is of no interest.
	_, _ = io.CopyN(io.Discard, resp.Body, 4096)
	return resp.StatusCode
}

// sign signs the exact bytes (dossier §5.3). "N/A" means unsigned.
func (e *event) sign(c WebhookConfig) {
	e.ed = "N/A"
	if c.PrivateKey != nil {
		e.ed = base64.StdEncoding.EncodeToString(ed25519.Sign(c.PrivateKey, e.raw))
	}
	if c.RSA != nil {
		sum := sha256.Sum256(e.raw)
		if sig, err := rsa.SignPKCS1v15(nil, c.RSA, crypto.SHA256, sum[:]); err == nil {
			e.rsa = base64.StdEncoding.EncodeToString(sig)
		}
	}
}

// deliveries is a heap by due time.
type deliveries []*delivery

func (q deliveries) Len() int { return len(q) }
func (q deliveries) Less(i, j int) bool {
	if q[i].due.Equal(q[j].due) {
		return q[i].order < q[j].order
	}
	return q[i].due.Before(q[j].due)
}
func (q deliveries) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *deliveries) Push(x any)   { *q = append(*q, x.(*delivery)) }
func (q *deliveries) Pop() any {
	old := *q
	x := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return x
}
