package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// span is a duration that may be said in days: 7d, 1d12h, 90m.
type span time.Duration

// Decode implements [kong.MapperValue].
func (s *span) Decode(ctx *kong.DecodeContext) error {
	var text string
	if err := ctx.Scan.PopValueInto("duration", &text); err != nil {
		return err
	}
	d, err := parseSpan(text)
	*s = span(d)
	return err
}

func parseSpan(text string) (time.Duration, error) {
	rest, days := text, 0
	if before, after, ok := strings.Cut(text, "d"); ok {
		n, err := strconv.Atoi(before)
		if err != nil || n < 0 {
			return 0, fmt.Errorf("%q is no duration such as 90m, 24h or 7d", text)
		}
		rest, days = after, n
	}
	var d time.Duration
	if rest != "" {
		var err error
		if d, err = time.ParseDuration(rest); err != nil || d < 0 {
			return 0, fmt.Errorf("%q is no duration such as 90m, 24h or 7d", text)
		}
	}
	return time.Duration(days)*24*time.Hour + d, nil
}

// ago is so long before now; the zero time for 0, which is all there is.
func (s span) ago(now time.Time) time.Time {
	if s == 0 {
		return time.Time{}
	}
	return now.Add(-time.Duration(s))
}
