package bus

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/trace"
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
// With sub.Urgent a key may overtake. It is worked on with its newest message,
// before its delivery comes; that one then finds the work done. This only
// happens while more deliveries are held than can be worked on: then this is
// the instance that works, and there is something to overtake.
//
// What is waiting is bounded by the consumer's limit of unacked messages. When
// ctx is done, what waits and is not held is worked on for [Grace], and the rest
// is given back. What runs is finished, unless it takes as long again: then its
// context ends, with ErrStopping.
func Coalesce(ctx context.Context, c Consumer, clk clock.Clock, sub Subscription, workers int, key func(Stored) string, work func(ctx context.Context, newest Stored, count int) error) error {
	done := make(chan struct{})
	class := sub.Class
	if class == nil {
		class = func(Stored) string { return "" }
	}
	q := &coalescer{hold: sub.Hold, class: class, clock: clk, done: done, workers: workers, waiting: map[string][]*Delivery{}, running: map[string][]*Delivery{},
		ready: map[string][]string{}, busy: map[string]int{}, wake: make(chan struct{}, 1)}
	runCtx, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	var pool errgroup.Group
	pool.Go(func() error {
		for {
			k, batch := q.next(done)
			if batch == nil {
				return nil
			}
			run := q.progress.begin() // of what waits in the queue none has begun
			pool.Go(func() error {
				newest, count := batch[0], 0
				for _, d := range batch {
					count = max(count, d.Count)
					if d.Seq > newest.Seq {
						newest = d
					}
				}
				err := work(trace.From(run.watched(runCtx), newest.Header), newest.Stored, count)
				run.end()
				q.finished(k, batch)
				for _, d := range batch {
					d.Done(err)
				}
				return nil
			})
		}
	})
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
	if sub.Urgent != nil {
		tailCtx, end := context.WithCancel(ctx)
		defer end()
		go c.Tail(tailCtx, sub.Stream, sub.Filters, func(m Stored) {
			if sub.Urgent(m) {
				q.urge(key(m), m, 1)
			}
		})
	}
	err := c.Consume(ctx, sub, func(_ context.Context, d *Delivery) { q.add(key(d.Stored), d) })
	q.finish(clk.After(Grace))
	close(done)
	worked := make(chan struct{})
	go func() {
		_ = pool.Wait() // the workers have no errors of their own
		close(worked)
	}()
	select {
	case <-worked:
	case <-clk.After(Grace):
		stop(ErrStopping)
		<-worked
	}
	q.giveBack()
	return err
}

type coalescer struct {
	hold  func(Stored) bool
	class func(Stored) string

	mu       sync.Mutex
	progress *progress // of the consumer that hands out
	waiting  map[string][]*Delivery
	running  map[string][]*Delivery // what is being worked on
	ready    map[string][]string    // keys that wait and don't run, by class
	busy     map[string]int         // keys that run, by class
	clock    clock.Clock
	done     <-chan struct{}
	workers  int  // of each class
	held     int  // deliveries that are neither settled nor hints
	stuck    bool // of what waits and doesn't run all was held when it was last looked at
	wake     chan struct{}
}

func (q *coalescer) add(key string, d *Delivery) {
	q.mu.Lock()
	if q.progress == nil && d.run != nil {
		q.progress = d.run.of // before anything is taken, so that takers may read it
	}
	d.run.leave()
	q.held++
	q.stuck = false
	if len(q.waiting[key]) == 0 && q.running[key] == nil {
		class := q.class(d.Stored)
		q.ready[class] = append(q.ready[class], key)
	}
	q.waiting[key] = append(q.waiting[key], d)
	q.mu.Unlock()
	q.signal()
}

// hints is how often a key overtakes for one message.
const hints = 10

// again has key worked on once more, if its work says later.
func (q *coalescer) again(key string, m Stored, count int, err error) {
	var v *verdict
	if !errors.As(err, &v) || v.terminate || count >= hints {
		return // its delivery comes in its turn
	}
	go func() {
		select {
		case <-q.done:
		case <-q.clock.After(v.delay):
			q.urge(key, m, count+1)
		}
	}()
}

// urge has key worked on next, for the count-th time.
func (q *coalescer) urge(key string, m Stored, count int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.held <= q.workers {
		return
	}
	q.waiting[key] = append(q.waiting[key], &Delivery{Stored: m, hint: true, Count: count, InProgress: func() {},
		Done: func(err error) { q.again(key, m, count, err) }})
	if q.running[key] == nil {
		class := q.class(m)
		q.ready[class] = slices.Insert(slices.DeleteFunc(q.ready[class], func(k string) bool { return k == key }), 0, key)
	}
	q.signal()
}

func (q *coalescer) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// next waits for a key that is ready and whose class has a worker, and takes
// what waits for it; nil once done is closed.
func (q *coalescer) next(done <-chan struct{}) (string, []*Delivery) {
	for {
		select {
		case <-done:
			return "", nil
		default:
		}
		q.mu.Lock()
		key, batch, held := q.take()
		q.stuck = held
		q.mu.Unlock()
		if batch != nil {
			return key, batch
		}
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

// take takes the first key whose work may begin, and what waits for it. held
// says that there is none, but there are some that are held. The caller holds
// mu.
func (q *coalescer) take() (key string, batch []*Delivery, held bool) {
	for class, keys := range q.ready {
		if len(keys) == 0 || q.busy[class] >= q.workers {
			continue
		}
		i := 0
		if q.hold != nil {
			i = slices.IndexFunc(keys, func(key string) bool { return !q.hold(q.waiting[key][0].Stored) })
		}
		if i < 0 {
			held = true
			continue
		}
		key = keys[i]
		q.ready[class] = slices.Delete(keys, i, i+1)
		batch = q.waiting[key]
		delete(q.waiting, key)
		q.running[key] = batch
		q.busy[class]++
		return key, batch, false
	}
	return "", nil, held
}

// recheck is how often it is asked whether work that is held may begin.
const recheck = 250 * time.Millisecond

func (q *coalescer) finished(key string, batch []*Delivery) {
	q.mu.Lock()
	delete(q.running, key)
	class := q.class(batch[0].Stored)
	q.busy[class]--
	for _, d := range batch {
		if !d.hint {
			q.held--
		}
	}
	if next := q.waiting[key]; slices.ContainsFunc(next, func(d *Delivery) bool { return d.hint }) {
		q.ready[class] = slices.Insert(q.ready[class], 0, key)
	} else if len(next) > 0 {
		q.ready[class] = append(q.ready[class], key)
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

// finish waits until nothing waits that could be worked on, or until late.
func (q *coalescer) finish(late <-chan time.Time) {
	for {
		q.mu.Lock()
		left := len(q.waiting) > 0 && (len(q.running) > 0 || !q.stuck)
		q.mu.Unlock()
		if !left {
			return
		}
		select {
		case <-late:
			return
		case <-q.clock.After(glance):
		}
	}
}

// glance is how often a coalescer that stops looks whether it is done.
const glance = 20 * time.Millisecond

func (q *coalescer) giveBack() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, batch := range q.waiting {
		for _, d := range batch {
			d.Done(ErrStopping)
		}
	}
}
