package main

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// durations lets every duration be said in days, too: 7d, 1d12h, 90m.
var durations = kong.MapperFunc(func(ctx *kong.DecodeContext, target reflect.Value) error {
	var text string
	if err := ctx.Scan.PopValueInto("duration", &text); err != nil {
		return err
	}
	d, err := parseDuration(text)
	target.SetInt(int64(d))
	return err
})

func parseDuration(text string) (time.Duration, error) {
	wrong := fmt.Errorf("%q is no duration such as 90m, 24h or 7d", text)
	rest, days := text, 0
	if before, after, ok := strings.Cut(text, "d"); ok {
		n, err := strconv.Atoi(before)
		if err != nil || n < 0 {
			return 0, wrong
		}
		rest, days = after, n
	}
	var d time.Duration
	if rest != "" {
		var err error
		if d, err = time.ParseDuration(rest); err != nil || d < 0 {
			return 0, wrong
		}
	}
	return time.Duration(days)*24*time.Hour + d, nil
}

// ago is so long before now; the zero time for 0, which is all there is.
func ago(d time.Duration, now time.Time) time.Time {
	if d == 0 {
		return time.Time{}
	}
	return now.Add(-d)
}
