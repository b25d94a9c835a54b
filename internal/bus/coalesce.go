package bus

import (
	"context"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/causeway-sync/causeway/internal/clock"
)

// keepAlive is how often the broker is told that what waits is still wanted;
// well below every consumer's ack wait.
const keepAlive = 8 * time.Second

// Coalesce consumes sub so that deliveries with the same key are worked on
// together: the first starts work on its key; those that come while that runs
// are settled by exactly one run after it. workers keys are worked on at once,
// one key never twice at once. work is given the newest delivery of its key
// and how often the most often delivered one has been; its verdict settles all
// of them.
//
// What is waiting is bounded by the consumer's limit of unacked messages. When
// ctx is done, what runs is finished and what waits is given back.
func Coalesce(ctx context.Context, c Consumer, clk clock.Clock, sub Subscription, workers int, key func(Stored) string, work func(ctx context.Context, newest Stored, count int) error) error {
	q := &coalescer{hold: sub.Hold, clock: clk, waiting: map[string][]*Delivery{}, running: map[string][]*Delivery{}, wake: make(chan struct{}, workers)}
	runCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var pool errgroup.Group
	done := make(chan struct{})
	for range workers {
		pool.Go(func() error {
			for {
				k, batch := q.next(done)
				if batch == nil {
					return nil
				}
				newest, count := batch[0], 0
				for _, d := range batch {
					count = max(count, d.Count)
					if d.Seq > newest.Seq {
						newest = d
					}
				}
				err := work(runCtx, newest.Stored, count)
				q.finished(k)
				for _, d := range batch {
					d.Done(err)
				}
			}
		})
	}
	pool.Go(func() error {
		for {
			select {
			case <-done:
				return nil
			case <-clk.After(keepAlive):
				q.keepAlive()
			}
		}
	})
	err := c.Consume(ctx, sub, func(_ context.Context, d *Delivery) { q.add(key(d.Stored), d) })
	close(done)
	_ = pool.Wait() // the workers have no errors of their own
	q.giveBack()
	return err
}

type coalescer struct {
	hold  func(Stored) bool
	clock clock.Clock

	mu      sync.Mutex
	waiting map[string][]*Delivery
	running map[string][]*Delivery // what is being worked on
	ready   []string               // keys that wait and don't run
	wake    chan struct{}
}

func (q *coalescer) add(key string, d *Delivery) {
	q.mu.Lock()
	if len(q.waiting[key]) == 0 && q.running[key] == nil {
		q.ready = append(q.ready, key)
	}
	q.waiting[key] = append(q.waiting[key], d)
	q.mu.Unlock()
	q.signal()
}

func (q *coalescer) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// next waits for a key that is ready and takes what waits for it; nil once
// done is closed.
func (q *coalescer) next(done <-chan struct{}) (string, []*Delivery) {
	for {
		select {
		case <-done:
			return "", nil
		default:
		}
		q.mu.Lock()
		held := len(q.ready) > 0
		if i := q.first(); i >= 0 {
			key := q.ready[i]
			q.ready = slices.Delete(q.ready, i, i+1)
			batch := q.waiting[key]
			delete(q.waiting, key)
			q.running[key] = batch
			more := len(q.ready) > 0
			q.mu.Unlock()
			if more {
				q.signal()
			}
			return key, batch
		}
		q.mu.Unlock()
		var later <-chan time.Time
		if held {
			later = q.clock.After(recheck)
		}
		select {
		case <-done:
			return "", nil
		case <-q.wake:
		case <-later:
		}
	}
}

// recheck is how often it is asked whether work that is held may begin.
const recheck = 250 * time.Millisecond

// first returns the index of the first key whose work may begin, -1 if there is
// none.
func (q *coalescer) first() int {
	if q.hold == nil {
		return min(0, len(q.ready)-1)
	}
	return slices.IndexFunc(q.ready, func(key string) bool { return !q.hold(q.waiting[key][0].Stored) })
}

func (q *coalescer) finished(key string) {
	q.mu.Lock()
	delete(q.running, key)
	if len(q.waiting[key]) > 0 {
		q.ready = append(q.ready, key)
	}
	q.mu.Unlock()
	q.signal()
}

func (q *coalescer) keepAlive() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, batches := range []map[string][]*Delivery{q.waiting, q.running} {
		for _, batch := range batches {
			for _, d := range batch {
				d.InProgress()
			}
		}
	}
}

func (q *coalescer) giveBack() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, batch := range q.waiting {
		for _, d := range batch {
			d.Done(ErrStopping)
		}
	}
}
