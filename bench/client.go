package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	wnats "github.com/ThreeDotsLabs/watermill-nats/v2/pkg/nats"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/goccy/go-json"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
	"github.com/causeway-sync/causeway/transform"
)

// source is the header that says which message of RAW something is or came of.
const source = "bench-source"

// subjectHeader repeats the subject for peers that hand on no other.
const subjectHeader = "bench-subject"

// A contender reads RAW, writes CANONICAL and acks, until ctx is done.
type contender struct {
	durable string // its consumer
	run     func(ctx context.Context, url string) error
}

var contenders = map[string]contender{
	"bare":            {"transform", bare},
	"causeway":        {"transform", causeway},
	"naive":           {"transform", naive},
	"watermill":       {"watermill", func(ctx context.Context, url string) error { return router(ctx, url, false) }},
	"watermill-tuned": {"watermill", func(ctx context.Context, url string) error { return router(ctx, url, true) }},
}

// work is a client process.
func work(name, url, profile string) error {
	c, ok := contenders[name]
	if !ok {
		return fmt.Errorf("no contender %q", name)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	stopProfile, err := profiled(profile)
	if err != nil {
		return err
	}
	defer stopProfile()
	fmt.Println("ready")
	return c.run(ctx, url)
}

// causeway is the real transform, with the bus and the settings that its
// program gives it.
func causeway(ctx context.Context, url string) error {
	b, err := bus.Connect(ctx, bus.Options{URL: url, Name: "causeway", Logger: zerolog.Nop()})
	if err != nil {
		return err
	}
	defer b.Close()
	return transform.Run(ctx, transform.Config{Bus: b, Logger: zerolog.Nop(), Tenants: map[canonical.Tenant]transform.Policy{tenant: {Lens: lens}}})
}

func consumer(ctx context.Context, url string) (jetstream.JetStream, jetstream.Consumer, func(), error) {
	nc, err := nats.Connect(url)
	if err != nil {
		return nil, nil, nil, err
	}
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(1024))
	if err != nil {
		return nil, nil, nil, err
	}
	c, err := js.CreateOrUpdateConsumer(ctx, streams.RAW, streams.Transform().Config())
	return js, c, nc.Close, err
}

// bare does no work: consume, publish with the entity's expected sequence,
// ack. The body goes on as it came. It knows the last sequences from its own
// acks, so it reads nothing.
func bare(ctx context.Context, url string) error {
	js, c, closing, err := consumer(ctx, url)
	if err != nil {
		return err
	}
	defer closing()
	it, err := c.Messages(jetstream.PullMaxMessages(500), jetstream.PullExpiry(5*time.Second), jetstream.PullHeartbeat(time.Second))
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, it.Stop)()
	type flight struct {
		m      jetstream.Msg
		entity string
		f      jetstream.PubAckFuture
	}
	flights := make(chan flight, 1024)
	var mu sync.Mutex
	type entity struct {
		seq  uint64
		busy bool
		wait chan struct{}
	}
	last := map[string]*entity{}
	go func() {
		for f := range flights {
			select {
			case ack := <-f.f.Ok():
				_ = f.m.Ack()
				mu.Lock()
				e := last[f.entity]
				e.seq, e.busy = ack.Sequence, false
				if e.wait != nil {
					close(e.wait)
					e.wait = nil
				}
				mu.Unlock()
			case err := <-f.f.Err():
				fmt.Fprintln(os.Stderr, "bare:", err)
				os.Exit(1)
			}
		}
	}()
	defer close(flights)
	for {
		m, err := it.Next()
		switch {
		case errors.Is(err, jetstream.ErrNoHeartbeat):
			continue // the consumer is paused
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		entity_, subject := target(m.Subject())
		mu.Lock()
		e := last[entity_]
		if e == nil {
			e = &entity{}
			last[entity_] = e
		}
		for e.busy {
			wait := make(chan struct{})
			e.wait = wait
			mu.Unlock()
			<-wait
			mu.Lock()
		}
		e.busy = true
		seq := e.seq
		mu.Unlock()
		out := nats.NewMsg(subject)
		out.Data = m.Data()
		out.Header[source] = m.Headers()[source]
		out.Header[jetstream.ExpectedLastSubjSeqHeader] = []string{strconv.FormatUint(seq, 10)}
		out.Header[jetstream.ExpectedLastSubjSeqSubjHeader] = []string{entity_ + ".*"}
		f, err := js.PublishMsgAsync(out, jetstream.WithStallWait(2*time.Minute)) // a busy machine may take its time
		if err != nil {
			return err
		}
		flights <- flight{m, entity_, f}
	}
}

// target turns a subject of RAW into an entity's subject on CANONICAL, and the
// one of its update.
func target(raw string) (entity, subject string) {
	p, err := streams.Parse(raw)
	if err != nil {
		panic(err) // we published it
	}
	entity = "canonical.contact." + string(p.Tenant) + "." + p.ID
	return entity, entity + ".updated"
}

var lens = mapping.Association("US")

// mapped does what every peer has to do: read the observation, apply the
// mapping, write the canonical record. No state, no identity, no merge.
func mapped(data []byte) ([]byte, error) {
	o, err := observation.Decode(data)
	if err != nil {
		return nil, err
	}
	s, err := lens.Show(o)
	if err != nil {
		return nil, err
	}
	c := canonical.Contact{ID: canonical.NewID(o.Tenant, o.Kind, o.System, o.ExternalID), Tags: s.Tags, Custom: map[string]string{}}
	for f, v := range s.Fields {
		c.SetField(f, v)
	}
	return json.Marshal(c)
}

// naive is the loop that most would write: one message at a time.
func naive(ctx context.Context, url string) error {
	js, c, closing, err := consumer(ctx, url)
	if err != nil {
		return err
	}
	defer closing()
	cc, err := c.Consume(func(m jetstream.Msg) {
		data, err := mapped(m.Data())
		if err != nil {
			_ = m.Nak()
			return
		}
		_, subject := target(m.Subject())
		out := nats.NewMsg(subject)
		out.Data, out.Header[source] = data, m.Headers()[source]
		if _, err := js.PublishMsg(ctx, out); err != nil {
			_ = m.Nak()
			return
		}
		_ = m.Ack()
	}, jetstream.PullExpiry(5*time.Second), jetstream.PullHeartbeat(time.Second))
	if err != nil {
		return err
	}
	<-ctx.Done()
	cc.Stop()
	return nil
}

// router is a Watermill router with its NATS JetStream publisher and
// subscriber. Tuned: 64 subscribers in a queue group and acks that don't wait,
// so that messages of one entity overtake one another.
func router(ctx context.Context, url string, tuned bool) error {
	sub := wnats.SubscriberConfig{URL: url, JetStream: wnats.JetStreamConfig{DurablePrefix: "watermill", SubscribeOptions: []nats.SubOpt{nats.DeliverAll(), nats.AckExplicit()}}}
	if tuned {
		sub.SubscribersCount, sub.QueueGroupPrefix = 64, "watermill"
		sub.JetStream.AckAsync = true
		sub.JetStream.SubscribeOptions = append(sub.JetStream.SubscribeOptions, nats.MaxAckPending(4096))
		sub.SubjectCalculator = func(group, topic string) *wnats.SubjectDetail {
			return &wnats.SubjectDetail{Primary: topic, QueueGroup: group}
		}
	}
	logger := watermill.NopLogger{}
	subscriber, err := wnats.NewSubscriber(sub, logger)
	if err != nil {
		return err
	}
	publisher, err := wnats.NewPublisher(wnats.PublisherConfig{URL: url}, logger)
	if err != nil {
		return err
	}
	r, err := message.NewRouter(message.RouterConfig{CloseTimeout: 5 * time.Second}, logger)
	if err != nil {
		return err
	}
	r.AddHandler("map", "raw.>", subscriber, "canonical", entities{publisher}, func(m *message.Message) ([]*message.Message, error) {
		data, err := mapped(m.Payload)
		if err != nil {
			return nil, err
		}
		out := message.NewMessage(watermill.NewUUID(), data)
		out.Metadata[source], out.Metadata[subjectHeader] = m.Metadata[source], m.Metadata[subjectHeader]
		return []*message.Message{out}, nil
	})
	return r.Run(ctx)
}

// entities publishes each message to its entity's subject; a router knows one
// topic.
type entities struct{ message.Publisher }

func (p entities) Publish(_ string, messages ...*message.Message) error {
	for _, m := range messages {
		_, subject := target(m.Metadata[subjectHeader])
		if err := p.Publisher.Publish(subject, m); err != nil {
			return err
		}
	}
	return nil
}
