package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/causeway-sync/causeway/internal/clock"
)

// lookupTimeout is how long the answer to a look-up may take.
const lookupTimeout = 5 * time.Second

// lookups are the look-ups under way: requests whose answers come to one
// subscription, so that any number of them cost no goroutine and no
// subscription of their own.
type lookups struct {
	once   sync.Once
	err    error
	prefix string // of the subjects that answers come to
	next   atomic.Uint64

	mu      sync.Mutex
	waiting map[string]*lookup
}

type lookup struct {
	done  func(*nats.Msg, error)
	asked time.Time
}

func (l *lookups) listen(nc *nats.Conn, c clock.Clock) error {
	l.once.Do(func() {
		l.waiting = map[string]*lookup{}
		l.prefix = nc.NewInbox() + "."
		var sub *nats.Subscription
		if sub, l.err = nc.Subscribe(l.prefix+"*", func(m *nats.Msg) { l.settle(m.Subject[len(l.prefix):], m, nil) }); l.err == nil {
			l.err = sub.SetPendingLimits(-1, -1) // each was asked for
		}
		go l.expire(nc, c)
	})
	return l.err
}

// expire gives up on look-ups that got no answer, until nc is closed.
func (l *lookups) expire(nc *nats.Conn, c clock.Clock) {
	for {
		<-c.After(lookupTimeout / 5)
		closed := nc.IsClosed()
		var late []string
		l.mu.Lock()
		for id, w := range l.waiting {
			if closed || c.Now().Sub(w.asked) > lookupTimeout {
				late = append(late, id)
			}
		}
		l.mu.Unlock()
		for _, id := range late {
			l.settle(id, nil, nats.ErrTimeout)
		}
		if closed {
			return
		}
	}
}

func (l *lookups) settle(id string, m *nats.Msg, err error) {
	l.mu.Lock()
	w := l.waiting[id]
	delete(l.waiting, id)
	l.mu.Unlock()
	if w != nil {
		w.done(m, err)
	}
}

// ask sends a request and calls done once, from a goroutine that others wait
// for too.
func (l *lookups) ask(nc *nats.Conn, c clock.Clock, subject string, done func(*nats.Msg, error)) error {
	if err := l.listen(nc, c); err != nil {
		return err
	}
	id := strconv.FormatUint(l.next.Add(1), 36)
	l.mu.Lock()
	l.waiting[id] = &lookup{done: done, asked: c.Now()}
	l.mu.Unlock()
	err := nc.PublishRequest(subject, l.prefix+id, nil)
	if err == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ours := l.waiting[id]; !ours {
		return nil // given up on, and done has been called
	}
	delete(l.waiting, id)
	return err
}

// LastAsync implements [Looker].
func (c *Conn) LastAsync(ctx context.Context, stream, subject string, done func(Stored, error)) error {
	s, err := c.stream(ctx, stream)
	if err != nil {
		return err
	}
	if !s.CachedInfo().Config.AllowDirect { // not as package streams declares it
		done(c.Last(ctx, stream, subject))
		return nil
	}
	err = c.lookups.ask(c.nc, c.clock, "$JS.API.DIRECT.GET."+stream+"."+subject, func(m *nats.Msg, err error) {
		if err == nil {
			var found Stored
			if found, err = direct(stream, m); err == nil {
				done(found, nil)
				return
			}
		}
		done(Stored{}, fmt.Errorf("last message of %s: %w", stream, err))
	})
	if err != nil {
		return fmt.Errorf("last message of %s: %w", stream, err)
	}
	return nil
}

// direct reads the answer to a direct get.
func direct(stream string, m *nats.Msg) (Stored, error) {
	switch status := m.Header.Get("Status"); {
	case status == "404" && len(m.Data) == 0:
		return Stored{}, ErrNotFound
	case status == "503":
		return Stored{}, nats.ErrNoResponders
	case status != "" && len(m.Data) == 0:
		return Stored{}, fmt.Errorf("status %s: %s", status, m.Header.Get("Description"))
	}
	seq, err := strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64)
	if err != nil {
		return Stored{}, fmt.Errorf("the answer has no sequence: %w", err)
	}
	at, err := time.Parse(time.RFC3339Nano, m.Header.Get(jetstream.TimeStampHeaer))
	if err != nil {
		return Stored{}, fmt.Errorf("the answer has no time: %w", err)
	}
	return Stored{Stream: stream, Subject: m.Header.Get(jetstream.SubjectHeader), Header: Header(m.Header), Data: m.Data, Seq: seq, Time: at}, nil
}

// GetAsync implements [AsyncKV].
func (k kv) GetAsync(ctx context.Context, key string, done func([]byte, uint64, error)) error {
	return k.c.LastAsync(ctx, kvStream+k.b.Bucket(), kvSubject(k.b.Bucket(), key), func(m Stored, err error) {
		if op := m.Header[kvOperation]; err == nil && len(op) > 0 {
			err = ErrNotFound // a mark that it was deleted
		}
		done(m.Data, m.Seq, err)
	})
}

// CreateAsync implements [AsyncKV].
func (k kv) CreateAsync(ctx context.Context, key string, value []byte, done func(uint64, error)) error {
	subject := kvSubject(k.b.Bucket(), key)
	return k.c.PublishAsync(ctx, Message{Subject: subject, Data: value, Expect: &Expect{Subject: subject}}, func(a Ack, err error) {
		if errors.Is(err, ErrWrongSequence) {
			err = ErrExists
		}
		done(a.Seq, err)
	})
}

// How a bucket lies on a stream (NATS ADR-8).
const (
	kvStream    = "KV_"
	kvOperation = "KV-Operation"
)

func kvSubject(bucket, key string) string {
	var b strings.Builder
	b.Grow(len(bucket) + len(key) + 5)
	b.WriteString("$KV.")
	b.WriteString(bucket)
	b.WriteByte('.')
	b.WriteString(key)
	return b.String()
}
