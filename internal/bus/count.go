package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/streams"
)

const (
	// receipts is how often it is noted what has been acknowledged, and alive
	// how often if nothing has.
	receipts, alive = 2 * time.Second, time.Hour
	// mostDoubts is how many ranges of numbers in doubt a lane remembers.
	mostDoubts = 64
)

// counter numbers what is published to RAW and keeps what became of it.
type counter struct {
	id    string
	began time.Time

	mu      sync.Mutex
	lanes   map[string]*lane
	changed bool
	noted   time.Time // when a receipt was stored last
}

// lane is one publisher's messages about a system, a tenant and a kind.
type lane struct {
	given uint64 // the last number
	streams.Acknowledged
	// ahead are those above UpTo that are answered already.
	ahead map[uint64]fate
}

// fate is what became of a message.
type fate struct {
	stored, doubt bool
	seq           uint64
}

func fateOf(a Ack, err error) fate {
	switch {
	case errors.Is(err, ErrWrongSequence):
		return fate{}
	case err != nil:
		return fate{doubt: true}
	}
	return fate{stored: !a.Duplicate, seq: a.Seq}
}

// number gives a message on subject a number, and returns it with how to say
// what became of it; nil if it is not counted.
func (c *counter) number(subject string) (header string, end func(Ack, error)) {
	name := streams.RawLane(subject)
	if c == nil || name == "" {
		return "", nil
	}
	c.mu.Lock()
	l := c.lanes[name]
	if l == nil {
		l = &lane{ahead: map[uint64]fate{}}
		c.lanes[name] = l
	}
	l.given++
	n := l.given
	c.mu.Unlock()
	return c.id + "." + strconv.FormatUint(n, 10), func(a Ack, err error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.changed = true
		l.end(n, fateOf(a, err))
	}
}

func (l *lane) end(n uint64, f fate) {
	if n != l.UpTo+1 {
		l.ahead[n] = f
		return
	}
	for ok := true; ok; f, ok = l.ahead[l.UpTo+1] {
		l.UpTo++
		delete(l.ahead, l.UpTo)
		if l.Last = max(l.Last, f.seq); f.stored {
			l.Stored++
		}
		if !f.doubt {
			continue
		}
		if last := len(l.Doubt) - 1; last >= 0 && l.Doubt[last].To+1 == l.UpTo {
			l.Doubt[last].To = l.UpTo
			continue
		}
		if l.Doubt = append(l.Doubt, streams.NumberRange{From: l.UpTo, To: l.UpTo}); len(l.Doubt) > mostDoubts {
			l.Doubt = slices.Delete(l.Doubt, 0, 1)
		}
	}
}

// again has the receipt noted although nothing is new: the broker may have been
// restored from a time before it was.
func (c *counter) again() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changed = true
}

// receipt returns what is to be noted, if anything is.
func (c *counter) receipt(now time.Time, closed bool) (streams.Receipt, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.lanes) == 0 || !c.changed && !closed && now.Sub(c.noted) < alive {
		return streams.Receipt{}, false
	}
	c.changed = false
	r := streams.Receipt{Began: c.began, At: now, Closed: closed, Lanes: make(map[string]streams.Acknowledged, len(c.lanes))}
	for name, l := range c.lanes {
		a := l.Acknowledged
		a.Doubt = slices.Clone(a.Doubt)
		r.Lanes[name] = a
	}
	return r, true
}

// Count numbers what is published to RAW from now on, and notes in COUNTS what
// of it was acknowledged, every two seconds and when the connection is closed.
// So whoever reads RAW can tell what is missing. It is called once, when the
// streams are there.
func (c *Conn) Count(ctx context.Context) error {
	kv, err := c.Bucket(ctx, streams.COUNTS)
	if err != nil {
		return err
	}
	c.count.Store(c.newCounter())
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for clock.Sleep(run, c.clock, receipts) == nil {
			c.note(run, kv, false)
		}
	}()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastWord = func() {
		stop()
		<-done
		if !c.connected() {
			return
		}
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), parting)
		defer cancel()
		c.note(last, kv, true)
	}
	return nil
}

// newCounter has an id that no other has: that of an inbox.
func (c *Conn) newCounter() *counter {
	now := c.clock.Now().UTC()
	return &counter{id: strings.TrimPrefix(c.nc.NewInbox(), "_INBOX."), began: now, noted: now, lanes: map[string]*lane{}}
}

// note stores the receipt. Should it not be stored, the next one says it all.
func (c *Conn) note(ctx context.Context, kv KV, closed bool) {
	counter, now := c.count.Load(), c.clock.Now().UTC()
	r, ok := counter.receipt(now, closed)
	if !ok {
		return
	}
	err := c.putReceipt(ctx, kv, counter.id, r)
	counter.mu.Lock()
	defer counter.mu.Unlock()
	switch {
	case err == nil:
		counter.noted = now
	case now.Sub(counter.noted) > 2*alive:
		// It has been silent for so long that it may be taken for dead: another
		// begins.
		c.count.Store(c.newCounter())
	default:
		counter.changed = true
		c.logger.Warn().Err(err).Msg("what was published could not be noted; trying again")
	}
}

func (c *Conn) putReceipt(ctx context.Context, kv KV, id string, r streams.Receipt) error {
	value, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode receipt: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	_, err = kv.Put(ctx, streams.ReceiptKey(id), value)
	return err
}
