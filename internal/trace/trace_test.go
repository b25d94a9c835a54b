package trace_test

import (
	"context"
	"errors"
	"testing"

	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/causeway-sync/causeway/internal/trace"
)

// TestTravels carries a span through headers, as a message's and as an event's.
func TestTravels(t *testing.T) {
	before := map[string][]string{}
	trace.Into(context.Background(), false, func(k, v string) { before[k] = []string{v} })
	if len(before) != 0 {
		t.Errorf("headers %v without a span", before)
	}
	spans := tracetest.NewSpanRecorder()
	was := otel.GetTracerProvider()
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)))
	t.Cleanup(func() { otel.SetTracerProvider(was) })
	for key, event := range map[string]bool{"traceparent": false, "ce-traceparent": true} {
		ctx, first := trace.Start(context.Background(), "webhook")
		headers := map[string][]string{}
		trace.Into(ctx, event, func(k, v string) { headers[k] = []string{v} })
		if len(headers[key]) != 1 {
			t.Fatalf("headers %v, want %s", headers, key)
		}
		_, second := trace.Start(trace.From(context.Background(), headers), "merge")
		second.End(errors.New("ada@example.org is not to be seen"))
		first.End(nil)
	}
	ended := spans.Ended()
	if len(ended) != 4 {
		t.Fatalf("%d spans, want 4", len(ended))
	}
	for i := 0; i < len(ended); i += 2 {
		child, parent := ended[i], ended[i+1]
		if child.SpanContext().TraceID() != parent.SpanContext().TraceID() || child.Parent().SpanID() != parent.SpanContext().SpanID() {
			t.Errorf("%s does not follow %s", child.Name(), parent.Name())
		}
		if d := child.Status().Description; d != "failed" {
			t.Errorf("the status says %q", d)
		}
	}
}
