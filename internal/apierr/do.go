package apierr

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"sync/atomic"
	"time"
)

// ErrHeld is the transport's word that a call was not made, because the system
// fails or refuses our credentials. It is of class Retry.
var ErrHeld = errors.New("the circuit is open")

// held is how long to wait before a call that was not made is tried again.
const held = 5 * time.Second

// maxBody is how much of an answer is read.
const maxBody = 8 << 20

// Call is one HTTP exchange with a system.
type Call struct {
	System, Op string
	Method     string
	URL        string
	Header     http.Header
	Body       []byte
	// Write says that the call changes something, so that an end that leaves
	// it open whether it was done is Ambiguous rather than Retry.
	Write bool
}

// Answer is what came back.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Do makes the call. It returns an *Error only where there is no answer to
// read; judging a status is the client's. The error never holds the URL's
// query, a header or a body.
func Do(ctx context.Context, client *http.Client, c Call) (Answer, error) {
	var sent atomic.Bool
	// A request that never got a connection was never seen by the system.
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { sent.Store(true) }})
	req, err := http.NewRequestWithContext(ctx, c.Method, c.URL, bytes.NewReader(c.Body))
	if err != nil {
		return Answer{}, &Error{System: c.System, Op: c.Op, Class: Invalid, Message: "the URL can't be used"}
	}
	req.Header = c.Header
	if len(c.Body) == 0 {
		req.Body, req.GetBody, req.ContentLength = http.NoBody, nil, 0
	} else if c.Write {
		// Without GetBody net/http does not send a write again by itself.
		req.GetBody = nil
	}
	res, err := client.Do(req)
	if err != nil {
		return Answer{}, c.broken(ctx, err, sent.Load())
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	if err != nil {
		return Answer{}, c.broken(ctx, err, true)
	}
	if len(body) > maxBody {
		return Answer{}, &Error{System: c.System, Op: c.Op, Status: res.StatusCode, Class: Invalid, Message: fmt.Sprintf("the answer is over %d bytes", maxBody)}
	}
	return Answer{Status: res.StatusCode, Header: res.Header, Body: body}, nil
}

func (c Call) broken(ctx context.Context, err error, sent bool) error {
	e := &Error{System: c.System, Op: c.Op, Class: Retry, Message: "no answer"}
	if errors.Is(err, ErrHeld) {
		e.Message, e.RetryAfter, e.Err = ErrHeld.Error(), held, ErrHeld
		return e
	}
	if c.Write && sent {
		e.Class, e.Message = Ambiguous, "no answer to a write that was sent"
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		e.Message += " in time"
	}
	if cause := context.Cause(ctx); cause != nil {
		e.Err = cause
	}
	return e
}

// RetryAfter reads the header of that name: seconds or a date; 0 if it is not
// there or can't be read.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	v := h.Get("Retry-After")
	if s, err := strconv.Atoi(v); err == nil && s >= 0 {
		return time.Duration(s) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil && t.After(now) {
		return t.Sub(now)
	}
	return 0
}
