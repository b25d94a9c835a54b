package budget

import (
	"maps"
	"slices"
	"time"
)

// Standing is a Ledger for people.
type Standing struct {
	Windows []WindowStanding `json:"windows"`
	Members []MemberStanding `json:"members"`
	Day     DayStanding      `json:"day"`
}

// WindowStanding is one limit: how many of its calls are leased, and how many
// slots are used or still resting from calls, that is the use in the last
// window.
type WindowStanding struct {
	Per    string `json:"per"`
	Calls  int    `json:"calls"`
	Leased int    `json:"leased"`
	Used   int    `json:"used"`
}

// MemberStanding is one process. Waiting and Used are by lane, in the first
// window; what is 0 is left out.
type MemberStanding struct {
	Name    string         `json:"name"`
	Leased  []int          `json:"leased"` // by window
	Waiting map[string]int `json:"waiting,omitempty"`
	Used    map[string]int `json:"used,omitempty"`
	// Gone says that the process calls no more; what it had comes free.
	Gone bool `json:"gone,omitempty"`
}

// DayStanding is the day's quota: what was called, what is taken out by
// processes and not called yet, and what is left. Limit 0 is no quota.
type DayStanding struct {
	Limit int `json:"limit"`
	Used  int `json:"used"`
	Held  int `json:"held"`
	Left  int `json:"left"`
}

// Standing returns l as it stands at now. l may be empty: then nobody has
// called yet.
func (l Ledger) Standing(limits Limits, now time.Time) Standing {
	s := Standing{Members: []MemberStanding{}}
	for j, w := range limits.Windows {
		calls := w.Calls
		if j < len(l.Limits) {
			calls = min(calls, l.Limits[j].Calls) // the system may have said less
		}
		s.Windows = append(s.Windows, WindowStanding{Per: w.Per.String(), Calls: calls})
	}
	for _, id := range slices.Sorted(maps.Keys(l.Members)) {
		m := l.Members[id]
		age := now.Sub(time.UnixMilli(m.At))
		one := MemberStanding{Name: m.Name, Leased: m.Slots, Waiting: byLane(m.Waiting), Used: byLane(m.Used), Gone: m.Left || age > lease+grace}
		longGone := one.Gone
		for j := range s.Windows {
			if j < len(m.Slots) {
				s.Windows[j].Leased += m.Slots[j]
				longGone = longGone && age > lease+grace+limits.Windows[j].Per
			}
			if j < len(m.Rests) {
				for _, r := range m.Rests[j] {
					if time.Duration(r.MS)*time.Millisecond > age {
						s.Windows[j].Used += r.Slots
					}
				}
			}
		}
		if !one.Gone {
			s.Day.Held += m.Day
		}
		if longGone {
			// Whoever calls next strikes it out.
			for j := range s.Windows {
				if j < len(m.Slots) {
					s.Windows[j].Leased -= m.Slots[j]
				}
			}
			continue
		}
		s.Members = append(s.Members, one)
	}
	s.Day.Limit = limits.Daily
	if l.Day.Limit > 0 {
		s.Day.Limit = min(s.Day.Limit, l.Day.Limit)
	}
	taken := 0
	if l.Day.Number == now.UTC().Unix()/86400 {
		taken = l.Day.Taken
	} else {
		s.Day.Held = 0
	}
	s.Day.Used, s.Day.Left = max(0, taken-s.Day.Held), max(0, s.Day.Limit-taken)
	return s
}

func byLane(counts []int) map[string]int {
	out := map[string]int{}
	for lane, n := range counts {
		if n > 0 && lane < int(lanes) {
			out[Lane(lane).String()] = n
		}
	}
	return out
}

// Lasts forecasts how long a number of calls in a bulk lane takes when nobody
// else calls and left are left of today: as fast as the tightest window
// allows, and a day more for each daily quota.
func (l Limits) Lasts(calls, left int) time.Duration {
	rate := 0.0 // calls in a second
	for _, w := range l.Windows {
		r := float64(w.Calls-spare(w.Calls)-reserve(w.Calls)) / w.Per.Seconds()
		if rate == 0 || r < rate {
			rate = r
		}
	}
	days := 0
	if l.Daily > 0 {
		quota := l.Daily - l.Daily/20 // urgent lanes have the rest
		if calls > left-l.Daily/20 {
			over := calls - max(0, left-l.Daily/20)
			days = (over + quota - 1) / quota
			calls = over - (days-1)*quota
		}
	}
	if rate == 0 {
		return time.Duration(days) * 24 * time.Hour
	}
	return time.Duration(days)*24*time.Hour + time.Duration(float64(calls)/rate*float64(time.Second)).Round(time.Second)
}
