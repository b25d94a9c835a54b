package console

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/causeway-sync/causeway/schemas/canonical"
)

// mostPeople bounds how many contacts the console knows by name, of all
// tenants together: some 300 bytes each. Beyond it only their ids are found.
const mostPeople = 500_000

// person is what is kept of a contact to find and list it.
type person struct {
	ID      canonical.CanonicalID
	Name    string
	Email   string
	Version uint64
	Changed time.Time
	Origin  canonical.System // whose user made the last change
	GHL     bool             // it has a record there
	Novi    bool
	Deleted bool
	Merged  canonical.CanonicalID
	seq     uint64
	find    string // what is searched: lower case, words after spaces
}

// people is a tenant's directory. Its owner locks.
type people struct {
	by     map[canonical.CanonicalID]*person
	sorted []*person
	stale  bool // sorted is
	live   int
}

func (d *people) put(p *person) {
	old := d.by[p.ID]
	switch {
	case old != nil && old.seq > p.seq:
		return
	case old == nil:
		d.stale = true
	case old.Name != p.Name || old.Email != p.Email:
		d.stale = true
	}
	if old != nil && !old.gone() {
		d.live--
	}
	if !p.gone() {
		d.live++
	}
	if old != nil {
		*old = *p // sorted points to it
		return
	}
	d.by[p.ID] = p
}

func (p *person) gone() bool { return p.Deleted || p.Merged != "" }

func (d *people) list() []*person {
	if d.stale || d.sorted == nil {
		d.sorted = d.sorted[:0]
		for _, p := range d.by {
			d.sorted = append(d.sorted, p)
		}
		slices.SortFunc(d.sorted, func(a, b *person) int {
			return cmp.Or(strings.Compare(a.find, b.find), strings.Compare(string(a.ID), string(b.ID)))
		})
		d.stale = false
	}
	return d.sorted
}

// matches reports whether every word of q begins a word of what is known of p:
// a name, the e-mail address, or the id.
func (p *person) matches(words []string) bool {
	for _, w := range words {
		if !strings.Contains(p.find, " "+w) {
			return false
		}
	}
	return true
}

// page returns those that match q (all for ""), from the offset-th, at most n,
// and how many match.
func (d *people) page(q string, gone bool, offset, n int) (out []person, total int) {
	words := strings.Fields(strings.ToLower(q))
	for _, p := range d.list() {
		if p.gone() && !gone || !p.matches(words) {
			continue
		}
		if total >= offset && len(out) < n {
			out = append(out, *p)
		}
		total++
	}
	return out, total
}

// searchable is what people are found by, and sorted: the last name first.
func searchable(first, last, email string, id canonical.CanonicalID) string {
	return strings.ToLower(" " + strings.Join(strings.Fields(last+" "+first+" "+email+" "+string(id)), " "))
}

// latest returns the n that changed last, the newest first.
func (d *people) latest(n int) []person {
	var top []*person
	for _, p := range d.by {
		if len(top) == n && p.seq < top[n-1].seq {
			continue
		}
		i, _ := slices.BinarySearchFunc(top, p, func(a, b *person) int { return cmp.Compare(b.seq, a.seq) })
		top = slices.Insert(top, i, p)
		top = top[:min(len(top), n)]
	}
	out := make([]person, len(top))
	for i, p := range top {
		out[i] = *p
	}
	return out
}
