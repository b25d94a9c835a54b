package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-json"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

// result is what one run of one contender came to.
type result struct {
	Contender, Mix string
	Messages       int
	Rate           float64 // messages a second
	Client, Server float64 // CPU µs of a message
	Memory         float64 // MiB that the client held at most
	ServerMemory   float64
	P50, P99       float64 // ms from stored on RAW to stored on CANONICAL, at the steady rate; 0 if nothing comes out
	Out            int     // messages that came out for the timed ones
	OutBytes       float64 // mean size of one
	Twice          int     // that came of a message of which one had come before
	Disorder       int     // that came of an earlier message of the entity than the one before
}

// spec says what to run.
type spec struct {
	name, contender string
	mix             mix
	messages        int
}

type settings struct {
	entities  int
	paced     int // messages at the steady rate
	rate      int // a second
	instances int
	always    bool   // sync_interval: always
	profile   string // where CPU profiles go; "" means none
}

// measure runs s once, on a server and clients of its own.
func measure(ctx context.Context, s spec, set settings) (_ result, err error) {
	store, err := os.MkdirTemp("", "causeway-bench-")
	if err != nil {
		return result{}, err
	}
	defer os.RemoveAll(store)
	profile := func(what string) string {
		if set.profile == "" {
			return ""
		}
		return filepath.Join(set.profile, strings.ReplaceAll(s.name, " ", "-")+"-"+string(s.mix)+"-"+what+".pprof")
	}
	syncing := ""
	if set.always {
		syncing = "always"
	}
	server, err := start("serve", store, syncing, profile("server"))
	if err != nil {
		return result{}, err
	}
	defer server.stop()
	nc, err := nats.Connect(server.said)
	if err != nil {
		return result{}, err
	}
	defer nc.Close()
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(1024))
	if err != nil {
		return result{}, err
	}
	if _, err := streams.Ensure(ctx, js); err != nil {
		return result{}, err
	}
	// A client that ends by itself ends the run.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var clients []*child
	for i := range set.instances {
		c, err := start("work", s.contender, server.said, profile("client-"+strconv.Itoa(i)))
		if err != nil {
			return result{}, err
		}
		defer c.stop()
		go func() { <-c.ended; cancel(errors.New("a client ended")) }()
		clients = append(clients, c)
	}
	clientCPU := func() (sum time.Duration, err error) {
		for _, c := range clients {
			used, err := cpu(c.cmd.Process.Pid)
			if err != nil {
				return 0, err
			}
			sum += used
		}
		return sum, nil
	}
	l := build(s.mix, s.messages, set.entities, set.paced)
	w := &world{js: js, durable: contenders[s.contender].durable}
	if err := w.publish(ctx, l.setup, 0); err != nil {
		return result{}, err
	}
	if err := w.drained(ctx); err != nil {
		return result{}, err
	}
	// The timed messages are all there before the first is handed out, but for
	// one: a new message wakes the consumer that was paused.
	if _, err := js.PauseConsumer(ctx, streams.RAW, w.durable, time.Now().Add(time.Hour)); err != nil {
		return result{}, err
	}
	begin := w.sent
	last := len(l.timed) - 1
	if err := w.publish(ctx, l.timed[:last], 0); err != nil {
		return result{}, err
	}
	r := result{Contender: s.name, Mix: string(s.mix), Messages: len(l.timed)}
	c0, err := clientCPU()
	if err != nil {
		return result{}, err
	}
	s0, err := cpu(server.cmd.Process.Pid)
	if err != nil {
		return result{}, err
	}
	t0, err := w.resume(ctx, l.timed[last:])
	if err != nil {
		return result{}, err
	}
	end := w.sent
	if err := w.drained(ctx); err != nil {
		return result{}, err
	}
	took := time.Since(t0)
	c1, err := clientCPU()
	if err != nil {
		return result{}, err
	}
	s1, err := cpu(server.cmd.Process.Pid)
	if err != nil {
		return result{}, err
	}
	n := float64(len(l.timed))
	r.Rate = n / took.Seconds()
	r.Client, r.Server = float64((c1-c0).Microseconds())/n, float64((s1-s0).Microseconds())/n
	if err := w.publish(ctx, l.paced, set.rate); err != nil {
		return result{}, err
	}
	if err := w.drained(ctx); err != nil {
		return result{}, err
	}
	for _, c := range clients {
		held, err := peak(c.cmd.Process.Pid)
		if err != nil {
			return result{}, err
		}
		r.Memory += float64(held) / (1 << 20)
	}
	held, err := peak(server.cmd.Process.Pid)
	if err != nil {
		return result{}, err
	}
	r.ServerMemory = float64(held) / (1 << 20)
	return r, w.judge(ctx, &r, begin, end)
}

// world is the far end: it publishes to RAW, waits, and reads what came out.
type world struct {
	js      jetstream.JetStream
	durable string
	sent    uint64 // sequences of RAW so far; we are its only publisher
	// paced are the sequences of what was published at the steady rate.
	paced uint64
}

// publish stores all; at rate a second, or as fast as it goes if that is 0.
func (w *world) publish(ctx context.Context, all []observation.Observation, rate int) error {
	began := time.Now()
	if rate > 0 {
		w.paced = w.sent
	}
	for i, o := range all {
		data, err := o.Encode()
		if err != nil {
			return err
		}
		if rate > 0 {
			time.Sleep(time.Until(began.Add(time.Duration(i) * time.Second / time.Duration(rate))))
		}
		w.sent++
		m := nats.NewMsg(streams.Raw(o))
		m.Data = data
		m.Header[source], m.Header[subjectHeader] = []string{strconv.FormatUint(w.sent, 10)}, []string{m.Subject}
		if _, err := w.js.PublishMsgAsync(m, jetstream.WithStallWait(2*time.Minute)); err != nil {
			return err
		}
	}
	select {
	case <-w.js.PublishAsyncComplete():
	case <-ctx.Done():
		return ctx.Err()
	}
	info, err := w.js.Stream(ctx, streams.RAW)
	if err != nil {
		return err
	}
	if last := info.CachedInfo().State.LastSeq; last != w.sent {
		return fmt.Errorf("RAW ends at %d, not %d", last, w.sent)
	}
	return nil
}

// resume ends the consumer's pause, publishes last, and returns when the
// consumer began to hand out messages.
func (w *world) resume(ctx context.Context, last []observation.Observation) (time.Time, error) {
	i, err := w.info(ctx)
	if err != nil {
		return time.Time{}, err
	}
	before := i.Delivered.Consumer
	if _, err := w.js.ResumeConsumer(ctx, streams.RAW, w.durable); err != nil {
		return time.Time{}, err
	}
	if err := w.publish(ctx, last, 0); err != nil {
		return time.Time{}, err
	}
	for {
		asked := time.Now()
		i, err := w.info(ctx)
		if err != nil || i.Delivered.Consumer > before {
			return asked, err
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// info asks about the contender's consumer, whether it pulls or is pushed to.
func (w *world) info(ctx context.Context) (*jetstream.ConsumerInfo, error) {
	m, err := w.js.Conn().RequestWithContext(ctx, "$JS.API.CONSUMER.INFO."+streams.RAW+"."+w.durable, nil)
	if err != nil {
		return nil, err
	}
	var answer struct {
		jetstream.ConsumerInfo
		Error *jetstream.APIError `json:"error"`
	}
	switch err := json.Unmarshal(m.Data, &answer); {
	case err != nil:
		return nil, err
	case answer.Error != nil && answer.Error.ErrorCode == jetstream.JSErrCodeConsumerNotFound:
		return nil, jetstream.ErrConsumerNotFound
	case answer.Error != nil:
		return nil, answer.Error
	}
	return &answer.ConsumerInfo, nil
}

// drained waits until the contender's consumer has nothing left.
func (w *world) drained(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	for {
		i, err := w.info(ctx)
		switch {
		case errors.Is(err, jetstream.ErrConsumerNotFound): // yet
		case ctx.Err() != nil:
			return fmt.Errorf("waiting for %s: %w", w.durable, context.Cause(ctx))
		case err != nil:
			return fmt.Errorf("waiting for %s: %w", w.durable, err)
		default:
			if i.NumPending == 0 && i.NumAckPending == 0 && i.AckFloor.Stream >= w.sent {
				return nil
			}
		}
		select {
		case <-time.After(4 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", w.durable, context.Cause(ctx))
		}
	}
}

// judge reads what came out of the messages of RAW in (begin, end] and of the
// paced ones.
func (w *world) judge(ctx context.Context, r *result, begin, end uint64) error {
	stored := map[uint64]time.Time{}
	if w.paced > 0 && w.sent > w.paced {
		err := w.scan(ctx, streams.RAW, w.paced+1, func(m jetstream.Msg, meta *jetstream.MsgMetadata) error {
			stored[meta.Sequence.Stream] = meta.Timestamp
			return nil
		})
		if err != nil {
			return err
		}
	}
	seen, last := map[uint64]bool{}, map[string]uint64{}
	var took []float64
	size := 0
	err := w.scan(ctx, streams.CANONICAL, 1, func(m jetstream.Msg, meta *jetstream.MsgMetadata) error {
		p := strings.SplitN(m.Subject(), ".", 5)
		if len(p) != 5 || p[1] == "tag" {
			return nil
		}
		from, err := cameOf(m)
		if err != nil {
			return err
		}
		if seen[from] {
			r.Twice++
		}
		seen[from] = true
		if last[p[3]] > from {
			r.Disorder++
		}
		last[p[3]] = max(last[p[3]], from)
		if from > begin && from <= end {
			r.Out++
			size += len(m.Data())
		}
		if at, ok := stored[from]; ok {
			took = append(took, float64(meta.Timestamp.Sub(at).Microseconds())/1000)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if r.Out > 0 {
		r.OutBytes = float64(size) / float64(r.Out)
	}
	if len(took) > 0 {
		slices.Sort(took)
		r.P50, r.P99 = took[len(took)/2], took[len(took)*99/100]
	}
	want := r.Messages
	if r.Contender == "causeway" && (r.Mix == string(echo) || r.Mix == string(noop)) {
		want = 0
	}
	if r.Mix != string(hot) && r.Out != want { // of the hot entity the stream keeps 64 only
		return fmt.Errorf("%s, %s: %d messages came out, want %d", r.Contender, r.Mix, r.Out, want)
	}
	return nil
}

// cameOf returns the sequence on RAW that m came of.
func cameOf(m jetstream.Msg) (uint64, error) {
	if s := m.Headers().Get(source); s != "" {
		return strconv.ParseUint(s, 10, 64)
	}
	var e struct {
		Cause struct {
			Sequence uint64 `json:"sequence"`
		} `json:"cause"`
	}
	if err := json.Unmarshal(m.Data(), &e); err != nil || e.Cause.Sequence == 0 {
		return 0, fmt.Errorf("%s says not where it came from: %v", m.Subject(), err)
	}
	return e.Cause.Sequence, nil
}

func (w *world) scan(ctx context.Context, stream string, from uint64, each func(jetstream.Msg, *jetstream.MsgMetadata) error) error {
	s, err := w.js.Stream(ctx, stream)
	if err != nil || s.CachedInfo().State.LastSeq < from || s.CachedInfo().State.Msgs == 0 {
		return err
	}
	c, err := w.js.OrderedConsumer(ctx, stream, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from})
	if err != nil {
		return err
	}
	it, err := c.Messages()
	if err != nil {
		return err
	}
	defer it.Stop()
	for {
		m, err := it.Next(jetstream.NextMaxWait(20 * time.Second))
		if err != nil {
			return fmt.Errorf("read %s: %w", stream, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		if err := each(m, meta); err != nil || meta.NumPending == 0 {
			return err
		}
	}
}
