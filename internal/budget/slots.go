package budget

import (
	"time"

	"golang.org/x/time/rate"
)

// A slot is one call of a window: who holds it may begin one call with it, and
// then no other until a whole window has passed since that call was answered.
// As the system saw the call before it answered, no span of the window's
// length can hold two calls of one slot, by the system's clock or by ours,
// however long the call was under way. So the limit is kept if no more slots
// are held than there are calls in a window, and a slot changes hands only
// after it has rested. Nothing here asks what time it is elsewhere.

// rest is a slot that has been used.
type rest struct {
	until time.Time
	lane  Lane
}

// window is one limit and what this process holds of it.
type window struct {
	Window
	held int // slots that are this process's
	cap  int // how many of them it means to use: fewer while it gives some up
	pace int // calls in a window that it means to come to
	open [lanes]int
	// resting is in order of until; gone is how many of its first are rested.
	resting []rest
	gone    int
	restBy  [lanes]int
	// The pace at which slots are used, so that calls are spread over the
	// window instead of being made at its beginning: who comes next waits for
	// moments, not for the window's end. Urgent lanes may use up what the pace
	// has saved, bulk ones hardly.
	urgent, bulk *rate.Limiter
}

// hold sets what is held and meant to be used, and how many calls in a window
// that may come to.
func (w *window) hold(now time.Time, held, use, pace int) {
	// A little faster than slots come free, so that these set the pace.
	limit := rate.Limit(1.03 * float64(pace) / w.Per.Seconds())
	w.held, w.cap, w.pace = held, use, pace
	w.urgent = paced(w.urgent, now, limit, max(few, pace/10))
	w.bulk = paced(w.bulk, now, limit, max(2, pace/50))
}

// paced changes a limiter, or makes one that is full.
func paced(l *rate.Limiter, now time.Time, limit rate.Limit, burst int) *rate.Limiter {
	if l == nil {
		return rate.NewLimiter(limit, burst)
	}
	l.SetLimitAt(now, limit)
	l.SetBurstAt(now, burst)
	return l
}

// settle forgets the slots that have rested.
func (w *window) settle(now time.Time) {
	for w.gone < len(w.resting) && !w.resting[w.gone].until.After(now) {
		w.restBy[w.resting[w.gone].lane]--
		w.gone++
	}
	if w.gone > len(w.resting)/2 {
		w.resting = append(w.resting[:0], w.resting[w.gone:]...)
		w.gone = 0
	}
}

// forget drops all that is known of calls.
func (w *window) forget() {
	w.open, w.restBy = [lanes]int{}, [lanes]int{}
	w.resting, w.gone = nil, 0
}

// busy is how many slots are used or resting; settle before.
func (w *window) busy() int {
	n := len(w.resting) - w.gone
	for _, open := range w.open {
		n += open
	}
	return n
}

// free is how many calls may begin, as far as slots go.
func (w *window) free() int { return min(w.held, w.cap) - w.busy() }

// few slots are used by urgent lanes as they come, at no pace.
const few = 10

// never is longer than anybody waits: something else has to happen first.
const never = 24 * time.Hour

// slotIn returns how long it takes until n slots are free, 0 if they are.
func (w *window) slotIn(now time.Time, n int) time.Duration {
	lack := n - w.free()
	switch {
	case lack <= 0:
		return 0
	case lack > len(w.resting)-w.gone:
		return never
	}
	return max(w.resting[w.gone+lack-1].until.Sub(now), time.Nanosecond)
}

// rest says that n calls of lane have been answered.
func (w *window) rest(now time.Time, lane Lane, n int) {
	until := now.Add(w.Per + w.Per/1000)
	if k := len(w.resting); k > w.gone && w.resting[k-1].until.After(until) {
		until = w.resting[k-1].until // the clock went back
	}
	for range n {
		w.resting = append(w.resting, rest{until, lane})
	}
	w.open[lane] -= n
	w.restBy[lane] += n
}

// rests is how long the resting slots rest still, in steps of a twentieth of
// the window, rounded up.
func (w *window) rests(now time.Time) []Rest {
	step := w.Per / 20
	var out []Rest
	for _, r := range w.resting[w.gone:] {
		d := (r.until.Sub(now)/step + 1) * step
		if ms := d.Milliseconds() + 1; len(out) > 0 && out[len(out)-1].MS == ms {
			out[len(out)-1].Slots++
		} else {
			out = append(out, Rest{1, ms})
		}
	}
	return out
}

// slots is what this process holds of all windows. It is not safe for
// concurrent use, and takes the time from its caller.
type slots struct{ windows []*window }

func newSlots(windows []Window) *slots {
	s := &slots{}
	for _, w := range windows {
		s.windows = append(s.windows, &window{Window: w})
	}
	return s
}

// take begins n calls of lane, or says how long to wait. slot says that it is
// for want of slots, rather than to keep the pace.
func (s *slots) take(now time.Time, lane Lane, n int) (wait time.Duration, slot bool) {
	for _, w := range s.windows {
		w.settle(now)
		wait = max(wait, w.slotIn(now, min(n, w.Calls)))
	}
	if wait > 0 {
		return wait, true
	}
	var paces []*rate.Reservation
	for _, w := range s.windows {
		limiters := []*rate.Limiter{w.urgent, w.bulk}
		if lane.urgent() && w.pace <= few {
			continue
		}
		if lane.urgent() {
			limiters = limiters[:1]
		}
		for _, l := range limiters {
			r := l.ReserveN(now, min(n, l.Burst()))
			wait = max(wait, r.DelayFrom(now))
			paces = append(paces, r)
		}
	}
	if wait > 0 {
		for _, r := range paces {
			r.CancelAt(now)
		}
		return wait, false
	}
	for _, w := range s.windows {
		w.open[lane] += n
	}
	return 0, false
}

// done says that n calls of lane have been answered.
func (s *slots) done(now time.Time, lane Lane, n int) {
	for _, w := range s.windows {
		w.settle(now)
		w.rest(now, lane, n)
	}
}

// burn takes n slots out of use for a window: somebody else made those calls.
func (s *slots) burn(now time.Time, lane Lane, per time.Duration, n int) {
	for _, w := range s.windows {
		if w.Per != per {
			continue
		}
		w.settle(now)
		n = min(n, w.free())
		w.open[lane] += max(n, 0)
		w.rest(now, lane, max(n, 0))
	}
}
