package e2e_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/causeway-sync/causeway/internal/dev"
	"github.com/causeway-sync/causeway/schemas"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/streams"
)

func TestContactsAndTagsTravelBothWays(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)))
	defer otel.SetTracerProvider(noop.NewTracerProvider())
	w := world(t, dev.Options{PollGHL: time.Second, PollNovi: time.Second, Items: true, Seed: 2})
	r, err := w.Run(t.Context(), dev.Play{Contacts: 40, Changes: 160, Pace: 20 * time.Millisecond, Start: func() error { here(t, w); return nil }})
	good(t, r, err)
	rebuilt(t, w)

	t.Run("a trace goes from the webhook to the call", func(t *testing.T) { traced(t, spans.Ended()) })

	c := connect(t, w)
	messageTypes := map[string]string{streams.RAW: "causeway.observation.v1", streams.EFFECTS: "causeway.effect.v1", streams.DEAD: "causeway.dead_letter.v1"}
	for stream, messageType := range messageTypes {
		t.Run(stream+" validates", func(t *testing.T) {
			n := 0
			everything(t.Context(), t, c, stream, func(m jetstream.Msg) {
				n++
				if err := schemas.Validate(messageType, m.Data()); err != nil {
					t.Errorf("%s: %v", m.Subject(), err)
				}
				if _, err := streams.Parse(m.Subject()); err != nil {
					t.Error(err)
				}
				private(t, m.Subject())
			})
			if n == 0 && stream != streams.DEAD {
				t.Error("nothing was published")
			}
		})
	}

	t.Run("a CloudEvents subscriber reads every event", func(t *testing.T) {
		versions := map[string]uint64{}
		types := map[string]int{}
		everything(t.Context(), t, c, streams.CANONICAL, func(m jetstream.Msg) {
			event, err := read(m)
			if err != nil {
				t.Fatalf("%s: %v", m.Subject(), err)
			}
			if err := event.Validate(); err != nil {
				t.Errorf("%s: %v", m.Subject(), err)
			}
			if err := schemas.Validate(event.Type(), event.Data()); err != nil {
				t.Errorf("%s: %v", m.Subject(), err)
			}
			types[event.Type()]++
			private(t, m.Subject())
			if !strings.HasPrefix(m.Subject(), "canonical.contact.") {
				return
			}
			var body canonical.Event
			if err := event.DataAs(&body); err != nil {
				t.Fatal(err)
			}
			if got, want := event.Subject(), string(body.Contact.ID); got != want {
				t.Errorf("%s: its subject is %q, its contact %q", m.Subject(), got, want)
			}
			if versions[event.Subject()]++; body.Version != versions[event.Subject()] {
				t.Errorf("%s: version %d comes as number %d", m.Subject(), body.Version, versions[event.Subject()])
			}
		})
		for _, want := range []string{"causeway.contact.created.v1", "causeway.contact.updated.v1", "causeway.tag.added.v1", "causeway.tag.removed.v1"} {
			if types[want] == 0 {
				t.Errorf("no %s was seen, only %v", want, types)
			}
		}
	})
}

// traced fails unless there are traces that go all the way from a webhook of one
// system to a call to the other, or if one says who it is about.
func traced(t *testing.T, spans []sdktrace.ReadOnlySpan) {
	t.Helper()
	names := map[string]map[string]bool{} // by trace
	for _, s := range spans {
		id := s.SpanContext().TraceID().String()
		if names[id] == nil {
			names[id] = map[string]bool{}
		}
		system := ""
		for _, a := range s.Attributes() {
			if a.Key == "causeway.system" && s.Name() == "webhook" {
				system = " of " + a.Value.AsString()
			}
			private(t, a.Value.String())
		}
		names[id][s.Name()+system] = true
	}
	for _, way := range [][]string{
		{"webhook of ghl", "fetch", "call ghl", "merge", "write to novi", "call novi"},
		{"webhook of novi", "fetch", "call novi", "merge", "write to ghl", "call ghl"},
	} {
		n := 0
		for _, have := range names {
			if !slices.ContainsFunc(way, func(name string) bool { return !have[name] }) {
				n++
			}
		}
		if n == 0 {
			t.Errorf("of %d traces none goes through %v", len(names), way)
		}
	}
}

// read reads a message of CANONICAL with the public CloudEvents SDK: the
// headers are those of its HTTP binding in binary mode.
func read(m jetstream.Msg) (*cloudevents.Event, error) {
	header := http.Header{}
	for k, v := range m.Headers() {
		header[http.CanonicalHeaderKey(k)] = v
	}
	message := cehttp.NewMessage(header, io.NopCloser(bytes.NewReader(m.Data())))
	return binding.ToEvent(context.Background(), message)
}

// private fails if a subject shows an e-mail address, a number or a name.
func private(t *testing.T, subject string) {
	t.Helper()
	if strings.ContainsAny(subject, "@+ ") || strings.Contains(subject, "example") {
		t.Errorf("the subject %q shows who it is about", subject)
	}
}

func TestPollingAlone(t *testing.T) {
	w := world(t, dev.Options{PollGHL: 300 * time.Millisecond, PollNovi: 300 * time.Millisecond, NoWebhooks: true})
	r, err := w.Run(t.Context(), dev.Play{Contacts: 20, Changes: 20, Pace: 20 * time.Millisecond, Start: func() error { here(t, w); return nil }})
	good(t, r, err)
}

// TestWebhooksAlone: nothing is polled, and nothing swept.
func TestWebhooksAlone(t *testing.T) {
	w := world(t, dev.Options{})
	r, err := w.Run(t.Context(), dev.Play{Contacts: 20, Changes: 20, Pace: 20 * time.Millisecond, Start: func() error { here(t, w); return nil }})
	good(t, r, err)
}

// TestDevModes plays a short run in each mode of the command.
func TestDevModes(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"webhooks", "polling", "both"} {
		if code, out, errs := program(t, nil, "causeway", "dev", "--exit", "--mode", mode, "--contacts", "8", "--changes", "8", "--poll", "500ms"); code != 0 {
			t.Errorf("%s: exit code %d: %s%s", mode, code, out, errs)
		}
	}
}

// TestRestartedStages stops and starts each stage in this process while
// changes are made, so that the race detector sees it.
func TestRestartedStages(t *testing.T) {
	t.Parallel()
	w := world(t, dev.Options{PollGHL: time.Second, PollNovi: time.Second, Seed: 3, Items: true})
	var h *dev.Here
	order := []string{"transform", "sink", "ingest"}
	r, err := w.Run(t.Context(), dev.Play{Contacts: 20, Changes: 60, Pace: 20 * time.Millisecond,
		Start: func() error { h = here(t, w); return nil },
		Between: func(i int) error {
			if i%20 != 10 {
				return nil
			}
			if err := h.StopStage(order[i/20]); err != nil {
				return err
			}
			return h.Start(t.Context(), order[i/20])
		}})
	good(t, r, err)
}
