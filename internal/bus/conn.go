package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/goccy/go-json"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/trace"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

// Login says who we are to the broker, and by whom its certificate has to be
// signed. Each is the path of a file; "" means none.
type Login struct {
	Credentials string // a NATS credentials file: a user's JWT and its seed
	NKey        string // an nkey seed, for users that the server's configuration names
	CA          string // PEM certificates; the system's own if there is none
	// Certificate and Key are a client's certificate and its key in PEM, both or
	// neither. These and CA are read anew at each connection.
	Certificate, Key string
}

func (l Login) options() ([]nats.Option, error) {
	var opts []nats.Option
	if l.Credentials != "" {
		opts = append(opts, nats.UserCredentials(l.Credentials))
	}
	if l.NKey != "" {
		o, err := nats.NkeyOptionFromSeed(l.NKey)
		if err != nil {
			return nil, fmt.Errorf("nkey %s: %w", l.NKey, err)
		}
		opts = append(opts, o)
	}
	if l.CA != "" {
		opts = append(opts, nats.RootCAs(l.CA))
	}
	if l.Certificate != "" || l.Key != "" {
		opts = append(opts, nats.ClientCert(l.Certificate, l.Key))
	}
	return opts, nil
}

// Options say how to reach the broker.
type Options struct {
	URL    string
	Name   string // shown in the server's connection list
	Clock  clock.Clock
	Rand   *rand.Rand // jitter of the back-off
	Logger zerolog.Logger
	Login
	// Metrics takes the counters; nil keeps none.
	Metrics prometheus.Registerer
}

const (
	// window is how many publishes may be unconfirmed.
	window = 1024
	// publishTimeout is how long a PubAck may take.
	publishTimeout = 5 * time.Second
	// defaultMaxDeliveries is when an ordinary error becomes a dead letter.
	defaultMaxDeliveries = 10
	wrongLastSequence    = jetstream.ErrorCode(10071)
)

// Conn is a Bus on NATS JetStream.
type Conn struct {
	nc     *nats.Conn
	js     jetstream.JetStream
	clock  clock.Clock
	logger zerolog.Logger

	answers   *prometheus.CounterVec
	publishes *prometheus.CounterVec

	pending sync.Map // *nats.Msg → func(Ack, error)
	slots   chan struct{}
	lookups lookups

	failed   sync.Map // where to, the first token of a subject → failure
	count    atomic.Pointer[counter]
	mu       sync.Mutex
	lastWord func() // notes what was counted; nil if nothing is
	rand     *rand.Rand
	streams  map[string]jetstream.Stream
	all      map[*progress]bool // of the subscriptions that are attached
}

// Connect connects, waits until the server answers, and checks that it is new
// enough (2.12). It reconnects for ever once it has connected.
func Connect(ctx context.Context, o Options) (*Conn, error) {
	if o.Clock == nil {
		o.Clock = clock.System{}
	}
	if o.Rand == nil {
		o.Rand = rand.New(rand.NewPCG(1, 2))
	}
	c := &Conn{clock: o.Clock, logger: o.Logger, rand: o.Rand, streams: map[string]jetstream.Stream{}, all: map[*progress]bool{}, slots: make(chan struct{}, window)}
	c.answers = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "causeway_deliveries_total", Help: "Messages that a durable consumer was handed, by what became of them.",
	}, []string{"consumer", "verdict"})
	c.publishes = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "causeway_publishes_total", Help: "Messages published, by the first token of their subject and the broker's answer.",
	}, []string{"to", "result"})
	opts := []nats.Option{nats.Name(o.Name), nats.MaxReconnects(-1), nats.ReconnectWait(250 * time.Millisecond), nats.RetryOnFailedConnect(false),
		nats.ReconnectHandler(func(*nats.Conn) { c.count.Load().again() })}
	login, err := o.options()
	if err != nil {
		return nil, fmt.Errorf("connect to nats: %w", err)
	}
	opts = append(opts, login...)
	if c.nc, err = nats.Connect(o.URL, opts...); err != nil {
		return nil, fmt.Errorf("connect to nats: %w", err)
	}
	if v := c.nc.ConnectedServerVersion(); !atLeast(v, 2, 12) {
		c.nc.Close()
		return nil, fmt.Errorf("connect to nats: the server is %s: %w", v, ErrTooOld)
	}
	c.js, err = jetstream.New(c.nc,
		jetstream.WithPublishAsyncMaxPending(window+1),
		jetstream.WithPublishAsyncTimeout(publishTimeout),
		jetstream.WithPublishAsyncAckHandler(func(_ jetstream.JetStream, m *nats.Msg, a *jetstream.PubAck) {
			c.settle(m, Ack{Stream: a.Stream, Seq: a.Sequence, Duplicate: a.Duplicate}, nil)
		}),
		jetstream.WithPublishAsyncErrHandler(func(_ jetstream.JetStream, m *nats.Msg, err error) {
			c.settle(m, Ack{}, publishError(err))
		}))
	if err != nil {
		c.nc.Close()
		return nil, fmt.Errorf("connect to nats: %w", err)
	}
	if o.Metrics == nil {
		return c, nil
	}
	// Only now: who couldn't connect may try again with the same registry.
	for _, m := range []prometheus.Collector{c.answers, c.publishes, consumers{c}} {
		if err := o.Metrics.Register(m); err != nil {
			c.nc.Close()
			return nil, fmt.Errorf("metrics: %w", err)
		}
	}
	return c, nil
}

func atLeast(version string, major, minor int) bool {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return false
	}
	a, errA := strconv.Atoi(parts[0])
	b, errB := strconv.Atoi(parts[1])
	return errA == nil && errB == nil && (a > major || a == major && b >= minor)
}

// Close waits a moment for what is under way, in particular acks, and closes
// the connection. What is unconfirmed then stays so.
func (c *Conn) Close() {
	if c.connected() {
		select {
		case <-c.js.PublishAsyncComplete():
		case <-c.clock.After(parting):
		}
		c.mu.Lock()
		lastWord := c.lastWord
		c.mu.Unlock()
		if lastWord != nil {
			lastWord()
		}
		_ = c.nc.FlushTimeout(parting) // what gets lost is delivered again
	}
	c.nc.Close()
}

// parting is how long a closing connection waits for what is under way.
const parting = 2 * time.Second

// JetStream is for package streams, which declares and applies the topology.
func (c *Conn) JetStream() jetstream.JetStream { return c.js }

func publishError(err error) error {
	var api *jetstream.APIError
	if errors.As(err, &api) && api.ErrorCode == wrongLastSequence {
		return fmt.Errorf("%w: %w", ErrWrongSequence, err)
	}
	return fmt.Errorf("%w: %w", ErrNotStored, err)
}

func (c *Conn) settle(m *nats.Msg, a Ack, err error) {
	done, ok := c.pending.LoadAndDelete(m)
	if !ok {
		return
	}
	<-c.slots
	to, _, _ := strings.Cut(m.Subject, ".")
	c.publishes.WithLabelValues(to, result(a, err)).Inc()
	c.noteStore(to, err)
	done.(func(Ack, error))(a, err)
}

func result(a Ack, err error) string {
	switch {
	case errors.Is(err, ErrWrongSequence):
		return "wrong_sequence"
	case err != nil:
		return "not_stored"
	case a.Duplicate:
		return "duplicate"
	}
	return "stored"
}

// PublishAsync implements [Publisher].
func (c *Conn) PublishAsync(ctx context.Context, m Message, done func(Ack, error)) error {
	if m.ID != "" && m.Expect != nil {
		return fmt.Errorf("publish %s: an id and an expected sequence exclude one another", m.Subject)
	}
	msg := nats.NewMsg(m.Subject)
	msg.Data = m.Data
	for k, v := range m.Header {
		msg.Header[k] = v
	}
	trace.Into(ctx, len(m.Header["ce-id"]) > 0, func(k, v string) { msg.Header[k] = []string{v} })
	var opts []jetstream.PublishOpt
	if m.ID != "" {
		opts = append(opts, jetstream.WithMsgID(m.ID))
	}
	if m.Expect != nil {
		msg.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(m.Expect.LastSeq, 10))
		msg.Header.Set(jetstream.ExpectedLastSubjSeqSubjHeader, m.Expect.Subject)
	}
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	number, end := c.count.Load().number(m.Subject)
	if end != nil {
		msg.Header[observation.Count] = []string{number}
		tell := done
		done = func(a Ack, err error) { end(a, err); tell(a, err) }
	}
	c.pending.Store(msg, done)
	if _, err := c.js.PublishMsgAsync(msg, opts...); err != nil {
		if _, ours := c.pending.LoadAndDelete(msg); ours {
			<-c.slots
			if err = publishError(err); end != nil {
				end(Ack{}, err)
			}
			return err
		}
	}
	return nil
}

// Publish implements [Publisher].
func (c *Conn) Publish(ctx context.Context, m Message) (Ack, error) {
	type result struct {
		ack Ack
		err error
	}
	got := make(chan result, 1)
	if err := c.PublishAsync(ctx, m, func(a Ack, err error) { got <- result{a, err} }); err != nil {
		return Ack{}, err
	}
	select {
	case r := <-got:
		return r.ack, r.err
	case <-ctx.Done():
		return Ack{}, context.Cause(ctx)
	}
}

func (c *Conn) stream(ctx context.Context, name string) (jetstream.Stream, error) {
	c.mu.Lock()
	s := c.streams[name]
	c.mu.Unlock()
	if s != nil {
		return s, nil
	}
	s, err := c.js.Stream(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", name, err)
	}
	c.mu.Lock()
	c.streams[name] = s
	c.mu.Unlock()
	return s, nil
}

// Last implements [Reader].
func (c *Conn) Last(ctx context.Context, stream, subject string) (Stored, error) {
	s, err := c.stream(ctx, stream)
	if err != nil {
		return Stored{}, err
	}
	m, err := s.GetLastMsgForSubject(ctx, subject)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return Stored{}, fmt.Errorf("last message of %s: %w", stream, ErrNotFound)
	case err != nil:
		return Stored{}, fmt.Errorf("last message of %s: %w", stream, err)
	}
	return Stored{Stream: stream, Subject: m.Subject, Header: Header(m.Header), Data: m.Data, Seq: m.Sequence, Time: m.Time}, nil
}

// Message implements [Reader].
func (c *Conn) Message(ctx context.Context, stream string, seq uint64) (Stored, error) {
	s, err := c.stream(ctx, stream)
	if err != nil {
		return Stored{}, err
	}
	m, err := s.GetMsg(ctx, seq)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return Stored{}, fmt.Errorf("message %d of %s: %w", seq, stream, ErrNotFound)
	case err != nil:
		return Stored{}, fmt.Errorf("message %d of %s: %w", seq, stream, err)
	}
	return Stored{Stream: stream, Subject: m.Subject, Header: Header(m.Header), Data: m.Data, Seq: m.Sequence, Time: m.Time}, nil
}

// Subjects implements [Reader]. The server counts by its index of subjects, and
// no message is sent.
func (c *Conn) Subjects(ctx context.Context, stream, filter string) (uint64, error) {
	consumer, err := c.js.CreateConsumer(ctx, stream, jetstream.ConsumerConfig{FilterSubject: filter, DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy,
		AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, InactiveThreshold: 5 * time.Second})
	if err != nil {
		return 0, fmt.Errorf("count %s: %w", filter, err)
	}
	return consumer.CachedInfo().NumPending, nil // and soon it goes by itself
}

// Purge implements [Bus].
func (c *Conn) Purge(ctx context.Context, stream, subject string, below uint64) error {
	opts := []jetstream.StreamPurgeOpt{jetstream.WithPurgeSubject(subject)}
	if below > 0 {
		opts = append(opts, jetstream.WithPurgeSequence(below))
	}
	s, err := c.stream(ctx, stream)
	if err == nil {
		err = s.Purge(ctx, opts...)
	}
	if err != nil {
		return fmt.Errorf("purge %s: %w", subject, err)
	}
	return nil
}

// Remove takes one message off a stream and overwrites it where it was stored.
func (c *Conn) Remove(ctx context.Context, stream string, seq uint64) error {
	s, err := c.stream(ctx, stream)
	if err == nil {
		err = s.SecureDeleteMsg(ctx, seq)
	}
	if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
		return fmt.Errorf("remove message %d of %s: %w", seq, stream, err)
	}
	return nil
}

// Passed implements [Reader].
func (c *Conn) Passed(ctx context.Context, spec streams.Consumer, seq uint64) (bool, error) {
	consumer, err := c.js.Consumer(ctx, spec.Stream, spec.Durable)
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound):
		return seq == 0, nil
	case err != nil:
		return false, fmt.Errorf("consumer %s: %w", spec.Durable, err)
	}
	info := consumer.CachedInfo()
	return info.AckFloor.Stream >= seq || info.NumPending == 0 && info.NumAckPending == 0 && info.Delivered.Stream >= seq, nil
}

// State implements [Log].
func (c *Conn) State(ctx context.Context, stream string) (streams.State, error) {
	s, err := c.js.Stream(ctx, stream)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return streams.State{}, fmt.Errorf("stream %s: %w", stream, ErrNotFound)
	case err != nil:
		return streams.State{}, fmt.Errorf("stream %s: %w", stream, err)
	}
	info := s.CachedInfo()
	return streams.State{Created: info.Created, First: info.State.FirstSeq, Last: info.State.LastSeq}, nil
}

// LastSequence returns the sequence of the last message that a stream was
// given, 0 if there never was one, or if there is no such stream.
func (c *Conn) LastSequence(ctx context.Context, stream string) (uint64, error) {
	s, err := c.js.Stream(ctx, stream)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("stream %s: %w", stream, err)
	}
	return s.CachedInfo().State.LastSeq, nil
}

// Settled returns the sequence up to which a durable consumer is done with
// everything that it is to be handed; 0 for one that is not there.
func (c *Conn) Settled(ctx context.Context, spec streams.Consumer) (uint64, error) {
	last, err := c.LastSequence(ctx, spec.Stream)
	if err != nil {
		return 0, err
	}
	consumer, err := c.js.Consumer(ctx, spec.Stream, spec.Durable)
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound), errors.Is(err, jetstream.ErrStreamNotFound):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("consumer %s: %w", spec.Durable, err)
	}
	info := consumer.CachedInfo()
	if info.NumPending == 0 && info.NumAckPending == 0 {
		return max(last, info.AckFloor.Stream), nil // what came before the consumer was asked is not for it
	}
	return info.AckFloor.Stream, nil
}

// Scan implements [Reader].
func (c *Conn) Scan(ctx context.Context, stream, filter string, since time.Time, each func(Stored) error) error {
	cfg := jetstream.OrderedConsumerConfig{FilterSubjects: []string{filter}, DeliverPolicy: jetstream.DeliverAllPolicy}
	if !since.IsZero() {
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &since
	}
	return c.scan(ctx, stream, cfg, each)
}

// Headers implements [Log].
func (c *Conn) Headers(ctx context.Context, stream string, from, to uint64, each func(Stored) error) error {
	cfg := jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from, HeadersOnly: true}
	err := c.scan(ctx, stream, cfg, func(m Stored) error {
		if m.Seq > to {
			return errEnough
		}
		if err := each(m); err != nil {
			return err
		}
		if m.Seq == to {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

var errEnough = errors.New("enough")

// ScanLast implements [Reader].
func (c *Conn) ScanLast(ctx context.Context, stream, filter string, each func(Stored) error) error {
	return c.scan(ctx, stream, jetstream.OrderedConsumerConfig{FilterSubjects: []string{filter}, DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy}, each)
}

func (c *Conn) scan(ctx context.Context, stream string, cfg jetstream.OrderedConsumerConfig, each func(Stored) error) error {
	cfg.InactiveThreshold = 10 * time.Second // once it isn't read any more it goes
	consumer, err := c.js.OrderedConsumer(ctx, stream, cfg)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return fmt.Errorf("scan %s: %w", stream, ErrNotFound)
	case err != nil:
		return fmt.Errorf("scan %s: %w", stream, err)
	}
	info, err := consumer.Info(ctx)
	if err != nil {
		return fmt.Errorf("scan %s: %w", stream, err)
	}
	if info.NumPending == 0 {
		return nil
	}
	it, err := consumer.Messages()
	if err != nil {
		return fmt.Errorf("scan %s: %w", stream, err)
	}
	defer it.Stop()
	defer context.AfterFunc(ctx, it.Stop)()
	for {
		m, err := it.Next()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return fmt.Errorf("scan %s: %w", stream, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("scan %s: %w", stream, err)
		}
		if err := each(Stored{Stream: stream, Subject: m.Subject(), Header: Header(m.Headers()), Data: m.Data(), Seq: meta.Sequence.Stream, Time: meta.Timestamp}); err != nil {
			return err
		}
		if meta.NumPending == 0 {
			return nil
		}
	}
}

// Tail implements [Consumer].
func (c *Conn) Tail(ctx context.Context, stream string, filters []string, each func(Stored)) {
	for ctx.Err() == nil {
		if err := c.tail(ctx, stream, filters, each); err != nil && ctx.Err() == nil {
			c.logger.Warn().Err(err).Str("stream", stream).Msg("tail interrupted; attaching again")
		}
		_ = clock.Sleep(ctx, c.clock, time.Second) // ctx is looked at above
	}
}

func (c *Conn) tail(ctx context.Context, stream string, filters []string, each func(Stored)) error {
	consumer, err := c.js.OrderedConsumer(ctx, stream, jetstream.OrderedConsumerConfig{FilterSubjects: filters, DeliverPolicy: jetstream.DeliverNewPolicy})
	if err != nil {
		return fmt.Errorf("tail %s: %w", stream, err)
	}
	it, err := consumer.Messages()
	if err != nil {
		return fmt.Errorf("tail %s: %w", stream, err)
	}
	defer it.Stop()
	defer context.AfterFunc(ctx, it.Stop)()
	for {
		m, err := it.Next()
		if err != nil {
			return fmt.Errorf("tail %s: %w", stream, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("tail %s: %w", stream, err)
		}
		each(Stored{Stream: stream, Subject: m.Subject(), Header: Header(m.Headers()), Data: m.Data(), Seq: meta.Sequence.Stream, Time: meta.Timestamp})
	}
}

// Unanswered reports whether err is that the broker gave no answer, or none
// yet: it is busy, away or electing a leader. The same may go well a little
// later.
func Unanswered(err error) bool {
	var api *jetstream.APIError
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, nats.ErrNoResponders) ||
		errors.Is(err, nats.ErrDisconnected) || errors.Is(err, nats.ErrConnectionReconnecting) || errors.As(err, &api) && api.Code == http.StatusServiceUnavailable
}

// Follow calls each with the last message of each subject under filter, tells
// once that those have been handed over, and goes on with what is stored from
// then on, until ctx is done. It misses nothing, also when the broker was away,
// and may hand over the same message again.
func (c *Conn) Follow(ctx context.Context, stream, filter string, told func(), each func(Stored)) {
	cfg := jetstream.OrderedConsumerConfig{FilterSubjects: []string{filter}, DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy}
	for ctx.Err() == nil {
		err := c.follow(ctx, stream, cfg, func() { told(); told = func() {} }, func(m Stored) {
			each(m)
			cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, m.Seq+1
		})
		if err != nil && ctx.Err() == nil {
			c.logger.Warn().Err(err).Str("stream", stream).Msg("interrupted; following again")
		}
		_ = clock.Sleep(ctx, c.clock, time.Second) // ctx is looked at above
	}
}

func (c *Conn) follow(ctx context.Context, stream string, cfg jetstream.OrderedConsumerConfig, told func(), each func(Stored)) error {
	consumer, err := c.js.OrderedConsumer(ctx, stream, cfg)
	if err != nil {
		return fmt.Errorf("follow %s: %w", stream, err)
	}
	info, err := consumer.Info(ctx)
	if err != nil {
		return fmt.Errorf("follow %s: %w", stream, err)
	}
	it, err := consumer.Messages()
	if err != nil {
		return fmt.Errorf("follow %s: %w", stream, err)
	}
	defer it.Stop()
	defer context.AfterFunc(ctx, it.Stop)()
	if info.NumPending == 0 {
		told()
	}
	for {
		m, err := it.Next()
		if err != nil {
			return fmt.Errorf("follow %s: %w", stream, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("follow %s: %w", stream, err)
		}
		each(Stored{Stream: stream, Subject: m.Subject(), Header: Header(m.Headers()), Data: m.Data(), Seq: meta.Sequence.Stream, Time: meta.Timestamp})
		if meta.NumPending == 0 {
			told()
		}
	}
}

// EnsureConsumer implements [Bus].
func (c *Conn) EnsureConsumer(ctx context.Context, spec streams.Consumer) error {
	return streams.EnsureConsumer(ctx, c.js, spec)
}

// Consume implements [Consumer].
func (c *Conn) Consume(ctx context.Context, sub Subscription, handle func(context.Context, *Delivery)) error {
	if sub.Batch == 0 {
		sub.Batch = 256
	}
	if sub.MaxDeliveries == 0 {
		sub.MaxDeliveries = defaultMaxDeliveries
	}
	p := c.attend(sub)
	defer c.leave(p)
	watchCtx, stop := context.WithCancel(ctx)
	defer stop()
	go c.watch(watchCtx, p)
	for ctx.Err() == nil {
		if err := c.consume(ctx, p, handle); err != nil && ctx.Err() == nil {
			c.logger.Warn().Err(err).Str("consumer", sub.Durable).Msg("consumer interrupted; attaching again")
			if clock.Sleep(ctx, c.clock, 250*time.Millisecond) != nil {
				return nil
			}
		}
	}
	return nil
}

func (c *Conn) consume(ctx context.Context, p *progress, handle func(context.Context, *Delivery)) error {
	sub := p.sub
	consumer, err := c.js.Consumer(ctx, sub.Stream, sub.Durable)
	if err != nil {
		return fmt.Errorf("consumer %s: %w", sub.Durable, err)
	}
	opts := []jetstream.PullMessagesOpt{jetstream.PullMaxMessages(sub.Batch), jetstream.PullExpiry(5 * time.Second), jetstream.PullHeartbeat(time.Second)}
	if sub.Group != "" {
		opts = append(opts, jetstream.PullPriorityGroup(sub.Group))
	}
	it, err := consumer.Messages(opts...)
	if err != nil {
		return fmt.Errorf("consumer %s: %w", sub.Durable, err)
	}
	// Drain, not Stop, which would discard what is buffered: the broker would
	// wait for its acks before it gave it to anybody else.
	stop := context.AfterFunc(ctx, it.Drain)
	defer stop()
	defer it.Stop()
	// The handlers outlive ctx: what has been handed out is worked on, for a
	// while. Given back it would count as delivered once more.
	work := context.WithoutCancel(ctx)
	late, stopWaiting := context.WithCancel(work)
	defer stopWaiting()
	defer context.AfterFunc(ctx, func() {
		select {
		case <-c.clock.After(Grace):
			stopWaiting()
		case <-late.Done():
		}
	})()
	if sub.Concurrency <= 1 {
		return c.next(late, work, it, p, handle)
	}
	errs := make(chan error, sub.Concurrency)
	for range sub.Concurrency {
		go func() { errs <- c.next(late, work, it, p, handle) }()
	}
	for range sub.Concurrency {
		err = errors.Join(err, <-errs)
	}
	return err
}

// next hands out what it gives until it ends; once late is done it gives that
// back.
func (c *Conn) next(late, work context.Context, it jetstream.MessagesContext, p *progress, handle func(context.Context, *Delivery)) error {
	for {
		m, err := it.Next()
		switch {
		case errors.Is(err, jetstream.ErrMsgIteratorClosed):
			return nil
		case errors.Is(err, jetstream.ErrNoHeartbeat):
			continue // the server was away; the iterator asks again
		case err != nil:
			return err
		}
		d, err := c.delivery(p, m)
		if err != nil {
			return err
		}
		if late.Err() != nil {
			d.Done(ErrStopping)
			continue
		}
		handle(trace.From(d.run.watched(work), d.Header), d)
	}
}

func (c *Conn) delivery(p *progress, m jetstream.Msg) (*Delivery, error) {
	sub := p.sub
	meta, err := m.Metadata()
	if err != nil {
		return nil, fmt.Errorf("consumer %s: %w", sub.Durable, err)
	}
	d := &Delivery{
		Stored: Stored{Stream: sub.Stream, Subject: m.Subject(), Header: Header(m.Headers()), Data: m.Data(), Seq: meta.Sequence.Stream, Time: meta.Timestamp},
		Count:  int(meta.NumDelivered),
	}
	d.run = p.handed(m.Headers().Get("Nats-Pin-Id"))
	d.InProgress = func() { _ = m.InProgress() } // should it get lost, one more redelivery is harmless
	d.Done = func(err error) {
		d.run.end()
		p.settled()
		c.answer(sub, m, d, err)
	}
	return d, nil
}

// answer is the one place where a verdict becomes what the broker is told.
// An answer that gets lost leads to one more redelivery, which is harmless.
func (c *Conn) answer(sub Subscription, m jetstream.Msg, d *Delivery, err error) {
	var v *verdict
	count := func(verdict string) { c.answers.WithLabelValues(sub.Durable, verdict).Inc() }
	switch {
	case err == nil:
		count("ack")
		_ = m.Ack()
	case errors.Is(err, ErrStopping):
		count("given_back")
		_ = m.Nak()
	case errors.As(err, &v) && v.terminate, v == nil && d.Count >= sub.MaxDeliveries:
		count("dead_letter")
		c.bury(sub, m, d, err)
	case v != nil:
		count("later")
		_ = m.NakWithDelay(v.delay)
	default:
		count("retry")
		c.logger.Warn().Err(err).Str("consumer", sub.Durable).Uint64("seq", d.Seq).Int("delivery", d.Count).Msg("will be tried again")
		_ = m.NakWithDelay(c.backoff(d.Count))
	}
}

// bury stores a dead letter and only then says never again. It must not block
// whoever settles, who may be the broker's own reading goroutine.
func (c *Conn) bury(sub Subscription, m jetstream.Msg, d *Delivery, cause error) {
	letter := envelope.DeadLetter{ID: strconv.FormatUint(d.Seq, 10)}
	if sub.Describe != nil {
		letter = sub.Describe(d.Stored)
	} else if p, err := streams.Parse(d.Subject); err == nil {
		letter = envelope.DeadLetter{Tenant: p.Tenant, Kind: p.Kind, ID: p.ID}
	}
	letter.Stage, letter.Reason, letter.At = sub.Stage, cause.Error(), c.clock.Now().UTC()
	explain(&letter, cause)
	letter.Stream, letter.Sequence, letter.Subject = d.Stream, cmp.Or(letter.Sequence, d.Seq), d.Subject
	var v *verdict
	switch terminated := errors.As(cause, &v); {
	case letter.Class != "":
	case terminated:
		letter.Class = envelope.Defect // nobody thought of it
	default:
		letter.Class = envelope.Outage // it was tried again and again
	}
	letter.Deliveries = d.Count
	letter.Attempts = []envelope.Attempt{{At: letter.At, Error: letter.Reason}}
	data, err := json.Marshal(letter)
	if err == nil {
		err = c.PublishAsync(context.Background(), Message{Subject: streams.Dead(sub.Stage, letter.Tenant, letter.Kind, letter.ID), Data: data}, func(_ Ack, err error) {
			if err != nil {
				_ = m.NakWithDelay(c.backoff(d.Count))
				return
			}
			c.logger.Error().Str("stage", sub.Stage).Str("tenant", string(letter.Tenant)).Str("id", letter.ID).Uint64("seq", d.Seq).Str("reason", letter.Reason).Msg("dead letter")
			_ = m.TermWithReason(sub.Stage + ": dead letter")
		})
	}
	if err != nil {
		_ = m.NakWithDelay(c.backoff(d.Count))
	}
}

var backoffs = []time.Duration{100 * time.Millisecond, 300 * time.Millisecond, time.Second, 3 * time.Second, 10 * time.Second, 30 * time.Second}

// backoff is the table's delay for the count-th delivery with full jitter.
func (c *Conn) backoff(count int) time.Duration {
	top := backoffs[min(max(count, 1), len(backoffs))-1]
	c.mu.Lock()
	defer c.mu.Unlock()
	return top/4 + time.Duration(c.rand.Int64N(int64(top)))
}

type kv struct {
	b jetstream.KeyValue
	c *Conn
}

// Bucket implements [Bus].
func (c *Conn) Bucket(ctx context.Context, name string) (KV, error) {
	b, err := c.js.KeyValue(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", name, err)
	}
	return kv{b, c}, nil
}

func kvError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jetstream.ErrKeyExists):
		return ErrExists
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return ErrNotFound
	}
	var api *jetstream.APIError
	if errors.As(err, &api) && api.ErrorCode == wrongLastSequence {
		return fmt.Errorf("%w: %w", ErrWrongSequence, err)
	}
	return err
}

func (k kv) Get(ctx context.Context, key string) ([]byte, uint64, error) {
	e, err := k.b.Get(ctx, key)
	if err != nil {
		return nil, 0, kvError(err)
	}
	return e.Value(), e.Revision(), nil
}

func (k kv) Create(ctx context.Context, key string, value []byte) (uint64, error) {
	rev, err := k.b.Create(ctx, key, value)
	return rev, kvError(err)
}

func (k kv) Update(ctx context.Context, key string, value []byte, rev uint64) (uint64, error) {
	rev, err := k.b.Update(ctx, key, value, rev)
	if errors.Is(err, jetstream.ErrKeyExists) {
		return 0, ErrWrongSequence
	}
	return rev, kvError(err)
}

func (k kv) Put(ctx context.Context, key string, value []byte) (uint64, error) {
	rev, err := k.b.Put(ctx, key, value)
	return rev, kvError(err)
}

// Keys implements [KV]. A few keys cost one request; only if there are more
// than the server gives at once does a consumer of its own list them.
func (k kv) Keys(ctx context.Context, pattern string) ([]string, error) {
	keys, all, err := k.atOnce(ctx, pattern)
	if err != nil || all {
		return keys, err
	}
	l, err := k.b.ListKeysFiltered(ctx, pattern)
	if err != nil {
		return nil, kvError(err)
	}
	keys = nil
	for key := range l.Keys() {
		keys = append(keys, key)
	}
	return keys, ctx.Err()
}

// atOnce asks for the last message of each subject that matches, of which the
// server sends 1,024 at most, and reports whether that was all. (ADR-31 of
// NATS. The client library has no call for it, and orbit.go's doesn't tell
// "none" from "one that could not be read": the server says 404 to both.)
func (k kv) atOnce(ctx context.Context, pattern string) (keys []string, all bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	prefix := "$KV." + k.b.Bucket() + "."
	request, err := json.Marshal(map[string][]string{"multi_last": {prefix + pattern}})
	if err != nil {
		return nil, false, fmt.Errorf("list keys: %w", err)
	}
	answers := make(chan *nats.Msg, 1024+1)
	sub, err := k.c.nc.ChanSubscribe(k.c.nc.NewInbox(), answers)
	if err != nil {
		return nil, false, fmt.Errorf("list keys: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only if the connection is closed
	if err := k.c.nc.PublishRequest("$JS.API.DIRECT.GET.KV_"+k.b.Bucket(), sub.Subject, request); err != nil {
		return nil, false, fmt.Errorf("list keys: %w", err)
	}
	for {
		var m *nats.Msg
		select {
		case m = <-answers:
		case <-ctx.Done():
			return nil, false, fmt.Errorf("list keys: %w", context.Cause(ctx))
		}
		switch m.Header.Get("Status") {
		case "":
		case "204":
			return keys, m.Header.Get("Nats-Num-Pending") == "0", nil
		case "404":
			return nil, m.Header.Get("Description") == "No Results", nil
		default:
			return nil, false, nil
		}
		switch m.Header.Get("KV-Operation") {
		case "DEL", "PURGE":
		default:
			keys = append(keys, strings.TrimPrefix(m.Header.Get(jetstream.SubjectHeader), prefix))
		}
	}
}

func (k kv) Delete(ctx context.Context, key string, rev uint64) error {
	var opts []jetstream.KVDeleteOpt
	if rev > 0 {
		opts = append(opts, jetstream.LastRevision(rev))
	}
	err := k.b.Delete(ctx, key, opts...)
	if errors.Is(err, jetstream.ErrKeyExists) {
		return ErrWrongSequence
	}
	return kvError(err)
}
