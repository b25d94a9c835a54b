package dev

import (
	"errors"
	"fmt"
	"slices"

	"github.com/causeway-sync/causeway/internal/ghlsim"
	"github.com/causeway-sync/causeway/internal/novisim"
	"github.com/causeway-sync/causeway/schemas/canonical"
)

// Some people are entered twice, in both systems at once or again in one;
// whoever notices merges them. And an address goes from one to another.

// Doings counts what people did of that.
type Doings struct {
	Both     int `json:"entered_in_both"`     // at the same moment
	Again    int `json:"entered_again"`       // in Novi, with the same address
	Merged   int `json:"merged_by_people"`    // in GHL or in Novi
	HandedOn int `json:"addresses_handed_on"` // to somebody else, once they were free
}

// twin is somebody who was entered again without an address, and whom somebody
// will notice: the new record is kept, and takes the address of the other.
type twin struct {
	system     canonical.System
	kept, lost string
	due        int // after so many changes
}

// settled is somebody who may be entered again or whose address may go to
// another.
type settled struct{ id, first, last, email string }

// regular reports whether people of that first name keep it. Only they are
// entered twice: two records with one address and two first names are two
// people who share it.
func regular(first string) bool { return slices.Contains(firstNames[:len(firstNames)/2], first) }

// renamed is the first name that somebody who is called now takes.
func (p *People) renamed(now any) string {
	first := pick(p.r, firstNames)
	if was, _ := now.(string); p.w.twins && (regular(was) || regular(first)) {
		return was
	}
	return first
}

// keeps reports whether an address is to stay as it is: a merge that leaves no
// trace, for the address has changed at that moment, is a delete.
func (p *People) keeps(email any) bool {
	s, _ := email.(string)
	return p.kept[s]
}

// settled returns a regular at system who has an address, but for one that is
// to stay as it is, and whose first name isn't but.
func (p *People) settled(system canonical.System, but string) (settled, bool) {
	for range 50 {
		var s settled
		if system == canonical.GHL {
			c, ok := p.w.GHL.Contact(Location, pick(p.r, p.ghl))
			if !ok {
				continue
			}
			s = named(c.ID, c.Fields, "firstName", "lastName", "email")
		} else {
			m, ok := p.w.Novi.Member(pick(p.r, p.members))
			if !ok || m.Fields["Active"] == false {
				continue
			}
			s = named(m.UniqueID, m.Fields, "FirstName", "LastName", "Email")
		}
		if regular(s.first) && s.first != but && s.email != "" && !p.kept[s.email] {
			return s, true
		}
	}
	return settled{}, false
}

func named(id string, fields map[string]any, first, last, email string) settled {
	text := func(f string) string {
		s, _ := fields[f].(string)
		return s
	}
	return settled{id, text(first), text(last), text(email)}
}

// actTwins makes one random change of that kind.
func (p *People) actTwins() error {
	system := pick(p.r, []canonical.System{canonical.GHL, canonical.Novi})
	switch p.r.IntN(4) {
	case 0:
		return p.both()
	case 1:
		return p.again()
	case 2:
		return p.twin(system)
	}
	return p.handOn(system)
}

// both enters somebody in both systems. Their address stays: were it changed in
// one of them before anybody has seen both, nothing but a phone number that two
// may share would say that they are one, and GHL, which allows no two contacts
// with one number, would let nobody make the other.
func (p *People) both() error {
	who := p.person()
	for !regular(who.first) {
		who = p.person()
	}
	p.kept[who.email] = true
	if err := p.createGHL(who); err != nil {
		return err
	}
	p.done.Both++
	who.city, who.job = pick(p.r, cities), pick(p.r, jobs)
	return p.createNovi(who)
}

func (p *People) again() error {
	s, ok := p.settled(canonical.Novi, "")
	if !ok {
		return nil
	}
	p.kept[s.email] = true
	p.done.Again++
	return p.enterNovi(s, map[string]any{"Email": s.email, "BillingAddress.City": pick(p.r, cities)}, nil)
}

func (p *People) enterNovi(s settled, fields map[string]any, id *string) error {
	p.n++
	fields["Name"], fields["FirstName"], fields["LastName"] = fmt.Sprintf("%s %s (%d)", s.first, s.last, p.n), s.first, s.last
	made, err := p.w.Novi.Edit(novisim.Edit{Fields: fields})
	if err != nil {
		return fmt.Errorf("person in novi again: %w", err)
	}
	if id != nil {
		*id = made
	}
	return nil
}

func (p *People) twin(system canonical.System) error {
	s, ok := p.settled(system, "")
	if !ok {
		return nil
	}
	p.kept[s.email] = true
	t := twin{system: system, lost: s.id, due: p.acts + 100 + p.r.IntN(200)}
	var err error
	if system == canonical.GHL {
		t.kept, err = p.w.GHL.Edit(ghlsim.Edit{Kind: ghlsim.EditCreate, LocationID: Location, Fields: map[string]any{
			"firstName": s.first, "lastName": s.last, "phone": p.phone(), "city": pick(p.r, cities)}})
	} else {
		err = p.enterNovi(s, map[string]any{"Mobile": p.phone(), "BillingAddress.City": pick(p.r, cities)}, &t.kept)
	}
	if err != nil {
		return fmt.Errorf("person in %s again: %w", system, err)
	}
	p.twins = append(p.twins, t)
	return nil
}

// notice merges who is due.
func (p *People) notice() error {
	i := slices.IndexFunc(p.twins, func(t twin) bool { return t.due <= p.acts })
	if i < 0 {
		return nil
	}
	t := p.twins[i]
	p.twins = slices.Delete(p.twins, i, i+1)
	var err error
	if t.system == canonical.GHL {
		err = p.w.GHL.Merge(Location, t.kept, t.lost)
		p.ghl = append(p.ghl, t.kept)
	} else {
		err = p.w.Novi.Merge(t.kept, t.lost)
		p.members = append(p.members, t.kept)
	}
	if errors.Is(err, ghlsim.ErrNotFound) || errors.Is(err, novisim.ErrNotFound) {
		return nil // one of the two is not there any more
	}
	p.done.Merged++
	return err
}

// handOn gives somebody another address, and lets somebody else have the one
// that they had once it is free.
func (p *People) handOn(system canonical.System) error {
	from, ok := p.settled(system, "")
	if !ok {
		return nil
	}
	to, ok := p.settled(system, from.first)
	if !ok {
		return nil
	}
	p.freed = append(p.freed, freed{system, to.id, from.email, p.acts + 100})
	return p.address(system, from.id, p.email(from.first, from.last))
}

// freed is an address that somebody else will have.
type freed struct {
	system canonical.System
	to     string
	email  string
	due    int // after so many changes it is looked at
}

// reuse gives away an address that nobody has any more, but for now to no
// record that will be merged into another; see keeps.
func (p *People) reuse() error {
	i := slices.IndexFunc(p.freed, func(f freed) bool { return f.due <= p.acts })
	if i < 0 {
		return nil
	}
	f := p.freed[i]
	if p.taken(f.email) || slices.ContainsFunc(p.twins, func(t twin) bool { return t.lost == f.to }) {
		p.freed[i].due = p.acts + 50
		return nil
	}
	p.freed = slices.Delete(p.freed, i, i+1)
	p.done.HandedOn++
	return p.address(f.system, f.to, f.email)
}

// taken reports whether a record of either system shows an address.
func (p *People) taken(email string) bool {
	return slices.ContainsFunc(p.w.GHL.Dump(Location), func(c ghlsim.Contact) bool { return c.Fields["email"] == email }) ||
		slices.ContainsFunc(p.w.Novi.Dump(), func(m novisim.Member) bool { return m.Fields["Email"] == email && m.Fields["Active"] != false })
}

func (p *People) address(system canonical.System, id, email string) error {
	var err error
	if system == canonical.GHL {
		_, err = p.w.GHL.Edit(ghlsim.Edit{Kind: ghlsim.EditUpdate, LocationID: Location, ContactID: id, Fields: map[string]any{"email": email}})
	} else {
		_, err = p.w.Novi.Edit(novisim.Edit{MemberID: id, Fields: map[string]any{"Email": email}})
	}
	if err != nil && !errors.Is(err, ghlsim.ErrNotFound) && !errors.Is(err, novisim.ErrNotFound) {
		return fmt.Errorf("address in %s: %w", system, err)
	}
	return nil
}
