// Package webhook is the front door: it takes a system's webhooks, checks
// where they come from, stores each as a notice, and only then answers 2xx.
// A webhook is a hint that something may have changed, never state, so nothing
// else is read from it than what it is about.
//
// The answers, in the order in which they are decided:
//
//	405  not POST
//	415  not JSON by its content type
//	413  over the size limit
//	429  too many from one address, with Retry-After
//	401  the signature is missing or wrong; it is never let through
//	400  the body is not a JSON object
//	200  stored, or valid but not for us: then it is a dead letter
//	429  it could not be stored, with Retry-After: GHL repeats a 429 under
//	     both of its policies, and may give up for good on a 5xx (dossier GHL §5.4)
//
// No API is called inside a request.
package webhook

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/goccy/go-json"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/attribute"
	"golang.org/x/time/rate"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/trace"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

// Errors of a Source, matched with errors.Is.
var (
	// ErrUnsigned: the request does not prove where it comes from.
	ErrUnsigned = errors.New("signature is missing or wrong")
	// ErrMalformed: the body is not what the system sends.
	ErrMalformed = errors.New("malformed body")
	// ErrUnroutable: it is genuine, and about nothing that is kept here.
	ErrUnroutable = errors.New("unroutable")
)

// Notice is what a webhook is about.
type Notice struct {
	Tenant   canonical.Tenant
	Kind     canonical.Kind
	External canonical.ExternalID
	// Parent is the contact that the record hangs on, "" if the body does not
	// say.
	Parent canonical.ExternalID
	// ID is the idempotency key, "" if the system's bodies have nothing that
	// tells one event from the next.
	ID string
}

// Source knows one system's webhooks.
type Source interface {
	// System names it.
	System() canonical.System
	// Verify returns ErrUnsigned, wrapped with what was wrong, unless the
	// bytes as received are signed by the system. The text names no secret.
	Verify(h http.Header, raw []byte) error
	// Read says what the body is about. Errors: ErrUnsigned if it comes from
	// another app, ErrMalformed, ErrUnroutable; with ErrUnroutable the fields
	// of the notice that are known are set.
	Read(raw []byte) (Notice, error)
}

// Config is what a door needs. The zero value of the limits is usable.
type Config struct {
	Publisher bus.Publisher
	Clock     clock.Clock
	Logger    zerolog.Logger
	// MaxBody in bytes; 0 means 1 MiB.
	MaxBody int64
	// PerSecond and Burst limit the requests from one address; 0 means 1,000
	// and 2,000.
	PerSecond, Burst int
	// Events, if set, is shown what is genuine before the Source reads it, and
	// returns whether it has taken it. An error has it sent again.
	Events func(ctx context.Context, raw []byte) (taken bool, err error)
	// Count is told the result of every request; nil counts nothing.
	Count func(system canonical.System, result string)
}

// The results that Config.Count is told.
const (
	Stored      = "stored"
	Unroutable  = "unroutable"
	Unsigned    = "unsigned"
	Malformed   = "malformed"
	Limited     = "limited"
	NotStored   = "not_stored"
	Unsupported = "unsupported" // 405, 413, 415
)

// publishTimeout bounds the wait for a PubAck: GHL waits for an answer for
// a few seconds only.
const publishTimeout = 4 * time.Second

// Door is an http.Handler for one Source.
type Door struct {
	cfg    Config
	source Source
	peers  *lru.Cache[string, *rate.Limiter]
}

// New returns a Door.
func New(cfg Config, source Source) (*Door, error) {
	if cfg.MaxBody == 0 {
		cfg.MaxBody = 1 << 20
	}
	if cfg.PerSecond == 0 {
		cfg.PerSecond = 1000
	}
	if cfg.Burst == 0 {
		cfg.Burst = 2 * cfg.PerSecond
	}
	if cfg.Count == nil {
		cfg.Count = func(canonical.System, string) {}
	}
	peers, err := lru.New[string, *rate.Limiter](4096)
	if err != nil {
		return nil, fmt.Errorf("webhook door: %w", err)
	}
	return &Door{cfg: cfg, source: source, peers: peers}, nil
}

type answer struct {
	status     int
	result     string
	text       string
	retryAfter int
}

// ServeHTTP implements http.Handler.
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, span := trace.Start(r.Context(), "webhook", attribute.String("causeway.system", string(d.source.System())))
	a := d.take(r.WithContext(ctx))
	span.Set(attribute.String("causeway.result", a.result))
	span.End(nil)
	d.cfg.Count(d.source.System(), a.result)
	if a.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(a.retryAfter))
	}
	if a.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", http.MethodPost)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, a.text+"\n") // the sender has gone
}

func (d *Door) take(r *http.Request) answer {
	if r.Method != http.MethodPost {
		return answer{http.StatusMethodNotAllowed, Unsupported, "webhooks are POSTed", 0}
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return answer{http.StatusUnsupportedMediaType, Unsupported, "the content type has to be application/json", 0}
	}
	if r.ContentLength > d.cfg.MaxBody {
		return answer{http.StatusRequestEntityTooLarge, Unsupported, "the body is over " + strconv.FormatInt(d.cfg.MaxBody, 10) + " bytes", 0}
	}
	if !d.allow(r.RemoteAddr) {
		return answer{http.StatusTooManyRequests, Limited, "too many requests", 1}
	}
	raw, err := io.ReadAll(io.LimitReader(r.Body, d.cfg.MaxBody+1))
	if err != nil {
		return answer{http.StatusBadRequest, Malformed, "the body ended early", 0}
	}
	if int64(len(raw)) > d.cfg.MaxBody {
		return answer{http.StatusRequestEntityTooLarge, Unsupported, "the body is over " + strconv.FormatInt(d.cfg.MaxBody, 10) + " bytes", 0}
	}
	if err := d.source.Verify(r.Header, raw); err != nil {
		return answer{http.StatusUnauthorized, Unsigned, err.Error(), 0}
	}
	if trimmed := bytes.TrimSpace(raw); len(trimmed) == 0 || trimmed[0] != '{' || !json.Valid(trimmed) {
		return answer{http.StatusBadRequest, Malformed, "the body is not a JSON object", 0}
	}
	ctx, cancel := context.WithTimeout(r.Context(), publishTimeout)
	defer cancel()
	if d.cfg.Events != nil {
		switch taken, err := d.cfg.Events(ctx, raw); {
		case err != nil:
			return d.notStored(err)
		case taken:
			return answer{http.StatusOK, Stored, "stored", 0}
		}
	}
	notice, err := d.source.Read(raw)
	switch {
	case errors.Is(err, ErrUnsigned):
		return answer{http.StatusUnauthorized, Unsigned, err.Error(), 0}
	case errors.Is(err, ErrUnroutable):
		return d.bury(ctx, notice, raw, err)
	case err != nil:
		return answer{http.StatusBadRequest, Malformed, err.Error(), 0}
	}
	return d.store(ctx, notice, raw)
}

func (d *Door) allow(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	l, ok := d.peers.Get(host)
	if !ok {
		l = rate.NewLimiter(rate.Limit(d.cfg.PerSecond), d.cfg.Burst)
		if was, there, _ := d.peers.PeekOrAdd(host, l); there {
			l = was
		}
	}
	return l.AllowN(d.cfg.Clock.Now(), 1)
}

func (d *Door) store(ctx context.Context, n Notice, raw []byte) answer {
	o := observation.Observation{System: d.source.System(), Tenant: n.Tenant, Kind: n.Kind, ExternalID: n.External, Via: observation.Notice, Parent: n.Parent, Record: raw}
	body, err := o.Encode()
	if err != nil {
		return answer{http.StatusBadRequest, Malformed, "the body can't be kept", 0}
	}
	if _, err := d.cfg.Publisher.Publish(ctx, bus.Message{Subject: streams.Raw(o), ID: n.ID, Data: body}); err != nil {
		return d.notStored(err)
	}
	return answer{http.StatusOK, Stored, "stored", 0}
}

func (d *Door) notStored(err error) answer {
	d.cfg.Logger.Warn().Err(err).Str("system", string(d.source.System())).Msg("webhook could not be stored; asked to send it again")
	return answer{http.StatusTooManyRequests, NotStored, "it could not be stored; send it again", 5}
}

// bury keeps what is genuine and not for us as a dead letter.
func (d *Door) bury(ctx context.Context, n Notice, raw []byte, cause error) answer {
	sum := sha256.Sum256(raw)
	id := hex.EncodeToString(sum[:16])
	letter := envelope.DeadLetter{Stage: "ingest", Tenant: n.Tenant, Kind: n.Kind, ID: id, Class: envelope.Mapping, Reason: cause.Error(), At: d.cfg.Clock.Now().UTC(), Body: raw}
	data, err := json.Marshal(letter)
	if err == nil {
		_, err = d.cfg.Publisher.Publish(ctx, bus.Message{Subject: streams.Dead("ingest", n.Tenant, n.Kind, id), ID: "dead-" + id, Data: data})
	}
	if err != nil {
		return d.notStored(err)
	}
	d.cfg.Logger.Warn().Str("system", string(d.source.System())).Str("id", id).Str("reason", cause.Error()).Msg("webhook is not for any tenant: dead letter")
	return answer{http.StatusOK, Unroutable, "not for any tenant; kept for a person", 0}
}
