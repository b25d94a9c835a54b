// Package trace follows a change from the webhook to the API call with
// OpenTelemetry. The context of a span travels in the messages' headers: as
// traceparent, and in a CloudEvent as its extension of that name. While no
// exporter is set up nothing is recorded and no header is written.
package trace

import (
	"context"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// The headers that hold a W3C trace context.
const (
	header      = "traceparent"
	eventHeader = "ce-traceparent"
)

var w3c propagation.TraceContext

// Span is one step of a change's way.
type Span struct{ s trace.Span }

// Start begins a span of name under that of ctx. Attributes hold ids and
// kinds, never what is personal.
func Start(ctx context.Context, name string, attributes ...attribute.KeyValue) (context.Context, Span) {
	ctx, s := otel.Tracer("causeway").Start(ctx, name, trace.WithAttributes(attributes...))
	return ctx, Span{s}
}

// Set adds attributes.
func (s Span) Set(attributes ...attribute.KeyValue) { s.s.SetAttributes(attributes...) }

// End ends the span; err, if any, marks it as failed without its text, which
// may name what is not the trace's to know.
func (s Span) End(err error) {
	if err != nil {
		s.s.SetStatus(codes.Error, "failed")
	}
	s.s.End()
}

// Into notes the span of ctx, if there is one, in a message's headers, of which
// get and set are. event says that they are a CloudEvent's.
func Into(ctx context.Context, event bool, set func(key, value string)) {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return
	}
	carrier := propagation.MapCarrier{}
	w3c.Inject(ctx, carrier)
	if parent := carrier[header]; parent != "" && event {
		set(eventHeader, parent)
	} else if parent != "" {
		set(header, parent)
	}
}

// Traced reports whether a message's headers speak of a span.
func Traced(headers map[string][]string) bool {
	return len(headers[header]) == 1 || len(headers[eventHeader]) == 1
}

// From returns ctx with the span that a message's headers speak of, if any.
func From(ctx context.Context, headers map[string][]string) context.Context {
	for _, key := range [...]string{header, eventHeader} {
		if v := headers[key]; len(v) == 1 {
			return w3c.Extract(ctx, propagation.MapCarrier{header: v[0]})
		}
	}
	return ctx
}
