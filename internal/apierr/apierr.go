// Package apierr is the one error that both systems' clients return: what was
// tried, how it ended, and what class of answer that was, so that callers
// decide on the class and never on a text.
//
// An Error's text holds no secret and no personal data: what the system said
// is redacted before it is kept ([Redact]).
package apierr

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Class says what a caller can do about an error. The zero value is unknown.
type Class int

// The classes.
const (
	Unknown   Class = iota
	Retry           // nothing happened; try again later: 5xx on a read, no connection
	Wait            // 429: wait RetryAfter
	Refresh         // 401 that speaks of the token: refresh it, once
	Forbidden       // 401 of scope or version, 403: no retry helps until a person acts
	Gone            // the record is not there
	Duplicate       // another record, ExistingID, stands in its place
	Ambiguous       // a write that may have been done: look before trying again
	Invalid         // any other 4xx: a dead letter at once
)

var classNames = [...]string{"unknown", "retry", "wait", "refresh", "forbidden", "gone", "duplicate", "ambiguous", "invalid"}

// String names the class, as a metric label does.
func (c Class) String() string {
	if c < 0 || int(c) >= len(classNames) {
		return classNames[Unknown]
	}
	return classNames[c]
}

// Error is a call that failed.
type Error struct {
	System        string // ghl or novi
	Op            string // what was tried: "update contact"
	Status        int    // HTTP status; 0 if there was no answer
	Class         Class
	RetryAfter    time.Duration // for Wait, if the system said
	Message       string        // what the system said, redacted
	TraceID       string
	ExistingID    string // for Duplicate
	MatchingField string // for Duplicate
	Err           error
}

// Error says what was tried and how it ended.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s: %s", e.System, e.Op, e.Class)
	if e.Status != 0 {
		fmt.Fprintf(&b, " (status %d)", e.Status)
	}
	if e.Message != "" {
		b.WriteString(": " + Redact(e.Message))
	}
	if e.TraceID != "" {
		b.WriteString(" [trace " + Redact(e.TraceID) + "]")
	}
	if e.Err != nil && e.Message == "" {
		b.WriteString(": " + Redact(e.Err.Error()))
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Hide takes secret out of what the system said, if err is one of ours: a
// system may repeat what it was sent.
func Hide(err error, secret string) error {
	var e *Error
	if secret != "" && errors.As(err, &e) {
		for _, text := range []*string{&e.Message, &e.TraceID, &e.ExistingID, &e.MatchingField} {
			*text = strings.ReplaceAll(*text, secret, "[secret]")
		}
	}
	return err
}

// ClassOf returns the class of err, Unknown for nil and for errors that are
// none of ours.
func ClassOf(err error) Class {
	var e *Error
	if errors.As(err, &e) {
		return e.Class
	}
	return Unknown
}

var (
	emails  = regexp.MustCompile(`[^\s"'<>@,;:()]+@[^\s"'<>@,;:()]+`)
	digits  = regexp.MustCompile(`\+?\d[\d\s().-]{5,}\d`)
	quoted  = regexp.MustCompile(`"[^"]*"|'[^']*'`)
	secrets = regexp.MustCompile(`(?i)\b(bearer|basic)\s+\S+|\bpit-[0-9a-f-]+|\beyJ[\w.-]+`)
	queries = regexp.MustCompile(`\?[^\s"]*`)
)

// maxMessage is how much of a system's words is kept, in bytes.
const maxMessage = 200

// Redact masks what may be a secret or personal in a text that a system
// wrote: tokens, addresses, numbers that could be a phone, anything quoted,
// query strings. It cuts what is longer than 200 bytes.
func Redact(s string) string {
	s = secrets.ReplaceAllString(s, "[secret]")
	s = emails.ReplaceAllString(s, "[address]")
	s = queries.ReplaceAllString(s, "?[query]")
	s = quoted.ReplaceAllString(s, "[value]")
	s = digits.ReplaceAllString(s, "[number]")
	if len(s) > maxMessage {
		s = strings.ToValidUTF8(s[:maxMessage], "") + "…"
	}
	return s
}
