package ghlsim

import (
	"net/http"
	"strconv"
	"time"
)

// window counts the requests of one location: a sliding window for the burst
// and a counter for the UTC day (that the day is UTC's is invented).
type window struct {
	hits []time.Time // within the burst window, oldest first; at most Burst
	day  int64
	used int
}

// take spends one request at now. It reports whether there was one to spend,
// what is left of both budgets, and how long until the burst budget has room.
// A refused request spends nothing (invented).
func (w *window) take(now time.Time, c Config) (ok bool, burst, daily int, wait time.Duration) {
	if day := now.UTC().Unix() / 86400; day != w.day {
		w.day, w.used = day, 0
	}
	n := 0
	for n < len(w.hits) && now.Sub(w.hits[n]) >= c.BurstWindow {
		n++
	}
	w.hits = append(w.hits[:0], w.hits[n:]...)
	ok = len(w.hits) < c.Burst && w.used < c.Daily
	if ok {
		w.hits = append(w.hits, now)
		w.used++
	}
	if len(w.hits) >= c.Burst {
		wait = c.BurstWindow - now.Sub(w.hits[0])
	}
	return ok, c.Burst - len(w.hits), c.Daily - w.used, wait
}

// limitHeaders sets the five headers of dossier §2 [DOC].
func limitHeaders(h http.Header, c Config, burst, daily int) {
	h.Set("X-RateLimit-Limit-Daily", strconv.Itoa(c.Daily))
	h.Set("X-RateLimit-Daily-Remaining", strconv.Itoa(max(daily, 0)))
	h.Set("X-RateLimit-Interval-Milliseconds", strconv.FormatInt(c.BurstWindow.Milliseconds(), 10))
	h.Set("X-RateLimit-Max", strconv.Itoa(c.Burst))
	h.Set("X-RateLimit-Remaining", strconv.Itoa(max(burst, 0)))
}
