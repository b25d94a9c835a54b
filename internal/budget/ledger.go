package budget

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Ledger is what the processes that call one system for one tenant have agreed
// on. It is one key of bucket BUDGETS and changes by compare and swap only, so
// that it has one history which all of them see.
type Ledger struct {
	// Limits are the calls in each window, as the process that wrote last has
	// it configured, or less if the system says less.
	Limits []Limit `json:"limits"`
	// Members are the processes that hold slots, or held some when they were
	// last heard of.
	Members map[string]Member `json:"members,omitempty"`
	Day     Day               `json:"day"`
	// Pause, if set, was called by a member when the system said 429.
	Pause Pause `json:"pause,omitzero"`
}

// Limit is a window in a Ledger.
type Limit struct {
	Calls int   `json:"calls"`
	MS    int64 `json:"ms"`
}

// Day is what was taken of the daily quota.
type Day struct {
	// Number counts the days of UTC from 1970.
	Number int64 `json:"number"`
	// Taken are the calls that members have taken out, used or not.
	Taken int `json:"taken"`
	// Limit is the quota; 0 means none.
	Limit int `json:"limit,omitempty"`
}

// Pause says that nobody is to call for MS from when it is first seen.
type Pause struct {
	ID string `json:"id"`
	// At is the clock of who called it, in Unix ms; a hint only.
	At int64 `json:"at"`
	MS int64 `json:"ms"`
}

// Rest is a number of slots that can't be used for MS from when the ledger
// was written.
type Rest struct {
	Slots int   `json:"n"`
	MS    int64 `json:"ms"`
}

// Member is one process.
type Member struct {
	// Name says to people which process it is.
	Name string `json:"name"`
	// Beat is different in each version that the member has written.
	Beat uint64 `json:"beat"`
	// At is the member's clock when it wrote, in Unix ms. It is a hint only.
	At int64 `json:"at"`
	// Left says that the member makes no call any more.
	Left bool `json:"left,omitempty"`
	// Slots are held, by window; Rests are those of them that are resting, and
	// Want is what it could use, by window and lane.
	Slots []int    `json:"slots"`
	Rests [][]Rest `json:"rests,omitempty"`
	Want  [][]int  `json:"want,omitempty"`
	// Waiting callers and calls in the last window, by lane: for people.
	Waiting []int `json:"waiting,omitempty"`
	Used    []int `json:"used,omitempty"`
	// Day is what it holds of the day's calls.
	Day int `json:"day,omitempty"`
}

// The terms of a lease.
const (
	// lease is how long after a renewal was begun its member may begin calls.
	lease = 5 * time.Second
	// grace is added when others judge that, for calls that were on their way.
	grace = time.Second
	// horizon is for how long a process holds slots that are free.
	horizon = 3 * time.Second
	// skew is how far the processes' clocks may be apart. They are looked at
	// only to find out that a member has been gone for long already.
	skew = 10 * time.Second
	// silence is how long even such a member is watched.
	silence = 2 * time.Second
)

// sight is a member as this process first saw it in its present version.
type sight struct {
	beat  uint64
	since time.Time
}

// watcher judges the others by what it has seen itself.
type watcher struct {
	seen  map[string]sight
	pause string
}

// look takes note of a version of the ledger that was read at now.
func (o *watcher) look(l Ledger, now time.Time) {
	if o.seen == nil {
		o.seen = map[string]sight{}
	}
	for id, m := range l.Members {
		if s, ok := o.seen[id]; !ok || s.beat != m.Beat {
			o.seen[id] = sight{m.Beat, now}
		}
	}
	maps.DeleteFunc(o.seen, func(id string, _ sight) bool { _, ok := l.Members[id]; return !ok })
}

// age is how long ago m was written, at least, and how long it has been
// watched.
func (o *watcher) age(id string, m Member, now time.Time) (age, watched time.Duration) {
	watched = now.Sub(o.seen[id].since)
	return max(watched, now.Sub(time.UnixMilli(m.At))-skew), watched
}

// dead reports whether m makes no calls any more.
func (o *watcher) dead(id string, m Member, now time.Time) bool {
	age, watched := o.age(id, m, now)
	return m.Left || age >= lease+grace && watched >= silence
}

// out is how many of m's slots of window j can't be used by others yet.
func (o *watcher) out(id string, m Member, j int, per time.Duration, now time.Time) int {
	if j >= len(m.Slots) {
		return 0
	}
	if !o.dead(id, m, now) {
		return m.Slots[j]
	}
	age, _ := o.age(id, m, now)
	end := lease + grace
	if m.Left {
		end = grace
	}
	resting, n := 0, 0
	if j < len(m.Rests) {
		for _, r := range m.Rests[j] {
			// What rested then is free when it said, unless its member lived long
			// enough to use it once more.
			until := time.Duration(r.MS) * time.Millisecond
			if until <= end && !m.Left {
				until = end + per
			}
			resting += r.Slots
			if until > age {
				n += r.Slots
			}
		}
	}
	// All else it may have used until its end.
	if end+per > age {
		n += max(m.Slots[j]-resting, 0)
	}
	return n
}

// self is what a process says of itself.
type self struct {
	id, name string
	windows  []Window
	// share is the most of a window that it may hold, above 0 up to 1.
	share float64
	held  []int    // what it believes it holds
	busy  []int    // slots used or resting, which can't be given back
	rests [][]Rest // of those that rest, how long
	want  [][]int  // what it could use, by window and lane
	need  []int    // free slots without which an urgent caller waits, by window
	// waiting and used are for people.
	waiting, used []int
	day           dayClaim
	pause         time.Duration // the system said so
}

// dayClaim is what a process has of the day.
type dayClaim struct {
	number int64
	limit  int
	held   int
	want   int // how many it would like to have
	// spent is what the system said has been used; -1 if it hasn't.
	spent int
}

// grant is what a process has after a step.
type grant struct {
	held, cap []int
	pace      []int // calls in each window that it may come to
	day       dayClaim
	// left are the day's calls that nobody has taken.
	left int
	// pause is what another member has called for.
	pause time.Duration
}

// spare are the slots of a window that are never given out: a process that is
// stopped between its decision to call and the call is too late by as much.
func spare(calls int) int { return calls / 100 }

// reserve are the slots that only urgent lanes are given from the pool, so
// that a live change finds one at once while others use all there is.
func reserve(calls int) int {
	if calls < 10 {
		return 0
	}
	return max(1, calls/100)
}

// step is one process's turn: it renews its lease, returns what it doesn't
// need and takes what it may. l is not changed.
func (o *watcher) step(l Ledger, me self, now time.Time) (Ledger, grant) {
	o.look(l, now)
	next := l
	next.Members = maps.Clone(l.Members)
	if next.Members == nil {
		next.Members = map[string]Member{}
	}
	next.Limits = nil
	for _, w := range me.windows {
		next.Limits = append(next.Limits, Limit{w.Calls, w.Per.Milliseconds()})
	}
	mine, known := l.Members[me.id]
	entry := Member{Name: me.name, Beat: mine.Beat + 1, At: now.UnixMilli(), Rests: me.rests, Want: me.want, Waiting: me.waiting, Used: me.used}
	next.Members[me.id] = entry
	g, dayHeld := grant{}, 0
	for id, m := range l.Members {
		if id != me.id && !o.dead(id, m, now) {
			dayHeld += m.Day
		}
	}
	for j, w := range me.windows {
		have := 0
		if known && j < len(mine.Slots) {
			have = mine.Slots[j]
		}
		pool := w.Calls - spare(w.Calls) - have
		capacity := w.Calls - spare(w.Calls) - reserve(w.Calls)
		for id, m := range l.Members {
			if id == me.id {
				continue
			}
			n := o.out(id, m, j, w.Per, now)
			pool -= n
			if o.dead(id, m, now) {
				capacity -= n
			}
		}
		most := int(me.share * float64(w.Calls))
		if most < 1 {
			most = 1
		}
		target := min(o.targets(next, j, capacity, now)[me.id], most)
		// No more than it can use before long: of what a process holds when it
		// dies, nobody knows what it used.
		soon := min(target, me.busy[j]+max(few, int(float64(target)*horizon.Seconds()/w.Per.Seconds())))
		held := have
		if have > soon {
			held = max(soon, me.busy[j])
		} else {
			held += max(0, min(soon-have, pool-reserve(w.Calls)))
		}
		use := min(held, target)
		if lack := min(me.need[j]-(held-me.busy[j]), most-held); lack > 0 {
			held += max(0, min(lack, pool-(held-have)))
			use = held
		}
		g.pace = append(g.pace, max(target, use))
		entry.Slots = append(entry.Slots, held)
		g.held, g.cap = append(g.held, held), append(g.cap, use)
	}
	next.Day, g.day = l.Day.claim(me.day, dayHeld)
	g.left = next.Day.left()
	entry.Day = g.day.held
	next.Members[me.id] = entry
	if me.pause > 0 {
		next.Pause = Pause{ID: fmt.Sprintf("%s/%d", me.id, entry.Beat), At: entry.At, MS: me.pause.Milliseconds()}
		o.pause = next.Pause.ID
	}
	if p := next.Pause; p.ID != o.pause {
		o.pause = p.ID
		if now.Sub(time.UnixMilli(p.At)) < skew+time.Duration(p.MS)*time.Millisecond {
			g.pause = time.Duration(p.MS) * time.Millisecond
		}
	}
	for id, m := range next.Members {
		if id == me.id || !o.dead(id, m, now) {
			continue
		}
		rested := true
		for j, w := range me.windows {
			rested = rested && o.out(id, m, j, w.Per, now) == 0
		}
		if rested {
			delete(next.Members, id)
		}
	}
	return next, g
}

// leave is a process's last turn. What rests is left behind until it has.
func (o *watcher) leave(l Ledger, me self, now time.Time) Ledger {
	next := l
	next.Members = maps.Clone(l.Members)
	delete(next.Members, me.id)
	if next.Day.Number == me.day.number {
		next.Day.Taken = max(0, next.Day.Taken-me.day.held)
	}
	if slices.ContainsFunc(me.busy, func(n int) bool { return n > 0 }) {
		next.Members[me.id] = Member{Name: me.name, Beat: l.Members[me.id].Beat + 1, At: now.UnixMilli(), Left: true, Slots: me.busy, Rests: me.rests}
	}
	return next
}

// claim settles what a process has of the day. others is what the other
// members hold.
func (d Day) claim(c dayClaim, others int) (Day, dayClaim) {
	d.Limit = c.limit
	switch {
	case c.number > d.Number:
		d.Number, d.Taken, c.held, others = c.number, 0, 0, 0
	case c.number < d.Number:
		c.number, c.held, c.spent = d.Number, 0, -1 // its clock is behind
	}
	if c.spent >= 0 {
		// The system knows best, also when its day begins.
		d.Taken = c.spent + c.held + others
	}
	if d.Limit > 0 && c.held < c.want {
		n := max(0, min(c.want-c.held, d.Limit-d.Taken))
		d.Taken += n
		c.held += n
	}
	return d, c
}

func (d Day) left() int { return max(0, d.Limit-d.Taken) }

// targets says how many slots of window j each member ought to have, of
// capacity in all: each lane its part by weight, what a lane doesn't need to
// the others, and within a lane the same to everybody who wants as much.
func (o *watcher) targets(l Ledger, j, capacity int, now time.Time) map[string]int {
	ids := slices.DeleteFunc(slices.Sorted(maps.Keys(l.Members)), func(id string) bool {
		m := l.Members[id]
		return j >= len(m.Want) || o.seen[id].beat == m.Beat && o.dead(id, m, now)
	})
	var demands, weights [lanes]int
	for _, id := range ids {
		for lane, n := range l.Members[id].Want[j] {
			if lane < int(lanes) {
				demands[lane] += n
				weights[lane] = weight[lane]
			}
		}
	}
	out := map[string]int{}
	share := func(lane, part int, want func(Member) []int) {
		wants, ones := make([]int, len(ids)), make([]int, len(ids))
		for i, id := range ids {
			ones[i] = 1
			if by := want(l.Members[id]); lane < len(by) {
				wants[i] = by[lane]
			}
		}
		for i, n := range fill(part, wants, ones) {
			out[ids[i]] += n
			capacity -= n
		}
	}
	for lane, part := range fill(capacity, demands[:], weights[:]) {
		share(lane, part, func(m Member) []int { return m.Want[j] })
	}
	// What nobody wants yet goes to those who wait.
	hungry := func(m Member) []int {
		all := make([]int, lanes)
		for lane := range all {
			if lane < len(m.Waiting) && m.Waiting[lane] > 0 {
				all[lane] = l.Limits[j].Calls
			}
		}
		return all
	}
	demands = [lanes]int{}
	for _, id := range ids {
		for lane, n := range hungry(l.Members[id]) {
			demands[lane] += n
		}
	}
	for lane, part := range fill(capacity, demands[:], weights[:]) {
		share(lane, part, hungry)
	}
	return out
}

// fill shares capacity out: to each its demand, or where that is too much in
// all, weighted fairly. What can't be divided goes to the first.
func fill(capacity int, demands, weights []int) []int {
	out := make([]int, len(demands))
	capacity = max(capacity, 0)
	order := make([]int, len(demands))
	for i := range order {
		order[i] = i
	}
	// Who wants least for its weight is filled first.
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(demands[a]*max(weights[b], 1), demands[b]*max(weights[a], 1))
	})
	left, sum := capacity, 0
	for _, i := range order {
		sum += weights[i]
	}
	for _, i := range order {
		if sum > 0 {
			out[i] = min(demands[i], left*weights[i]/sum)
		}
		left -= out[i]
		sum -= weights[i]
	}
	for i := range out {
		n := min(left, demands[i]-out[i])
		if n > 0 {
			out[i] += n
			left -= n
		}
	}
	return out
}
