package mapping

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/causeway-sync/causeway/schemas/canonical"
)

// Policy is what a tenant has decided beside where fields live. The zero value
// creates nothing and is the default otherwise.
type Policy struct {
	// CreateGHL and CreateNovi say for which contacts that a system has no
	// record of one is made there.
	CreateGHL, CreateNovi Condition
	// Off holds the flows that are switched off; see [Policy.Syncs].
	Off map[Flow]bool
	// Deletes holds what was said about deletes, by kind and the system where
	// the record was deleted; see [Policy.Delete].
	Deletes map[Flow]Delete
	// MassDelete is when a tenant's deletes are held; nil means the default.
	// See [Policy.Hold].
	MassDelete *Hold
	// Duplicates is what becomes of the other records when one system has
	// several of a person; "" means keep. DuplicatesTag is the tag for tag.
	Duplicates    Duplicates
	DuplicatesTag string
	// IdentityKeys are the canonical fields by which a person is known, the
	// strongest first; none means e-mail, then phone, as far as they
	// are bound.
	IdentityKeys []string
	// OnMatch is what happens when two entities turn out to be one; "" means
	// merge.
	OnMatch OnMatch
	// ClockSkew is how far apart two stamps may be for the authority, and not
	// the newer one, to decide.
	ClockSkew time.Duration
	// Users says who is who: our name, the GHL user's id or e-mail address,
	// the Novi member's id. Nil means nobody.
	Users *Table
}

// Flow is a kind at a system: of records written to it, or deleted at it.
type Flow struct {
	Kind   canonical.Kind
	System canonical.System
}

// Delete is what a delete at one system does to the record at the other.
type Delete struct {
	Action DeleteAction
	Tag    string // for TagRecord
}

// Hold says how many deletes are so many that they wait for a person: more
// than Count, and more than Percent of the tenant's entities, Within that time.
type Hold struct {
	Count   int // 0 means that nothing is ever held
	Percent float64
	Within  time.Duration
}

// Hold returns when deletes are held: as was said, else at more than 20 and 5 %
// within 10 minutes.
func (p *Policy) Hold() Hold {
	if p == nil || p.MassDelete == nil {
		return Hold{Count: 20, Percent: 5, Within: 10 * time.Minute}
	}
	return *p.MassDelete
}

// DeleteAction is what to do with a record whose counterpart is gone.
type DeleteAction string

// The actions.
const (
	Unlink    DeleteAction = "unlink"    // it stays, and is nobody's counterpart any more
	Propagate DeleteAction = "propagate" // it is deleted too
	TagRecord DeleteAction = "tag"       // it stays and gets a tag; contacts only
)

// Duplicates is what becomes of a second record of a person in one system.
type Duplicates string

// What there is to do about duplicates.
const (
	KeepDuplicates   Duplicates = "keep"
	TagDuplicates    Duplicates = "tag"
	DeleteDuplicates Duplicates = "delete"
)

// OnMatch is what happens when two entities turn out to be one person.
type OnMatch string

// What there is to do about a match.
const (
	MergeMatch OnMatch = "merge" // the younger is folded into the older
	FlagMatch  OnMatch = "flag"  // a person decides
)

// Syncs reports whether records of kind are written to system. Appointments
// are never written to GHL.
func (p *Policy) Syncs(kind canonical.Kind, to canonical.System) bool {
	return !p.Off[Flow{kind, to}] && Flow{kind, to} != (Flow{"appointment", canonical.GHL})
}

// Delete returns what a delete of a record of kind at a system does at the
// other: as was said, else a contact is unlinked and everything else goes too.
// Nothing that happens at Novi deletes an appointment in GHL.
func (p *Policy) Delete(kind canonical.Kind, at canonical.System) Delete {
	if d, said := p.Deletes[Flow{kind, at}]; said {
		return d
	}
	if kind == canonical.KindContact || kind == "appointment" && at == canonical.Novi {
		return Delete{Action: Unlink}
	}
	return Delete{Action: Propagate}
}

// Create returns the condition for making a contact at system.
func (p *Policy) Create(system canonical.System) Condition {
	if system == canonical.GHL {
		return p.CreateGHL
	}
	return p.CreateNovi
}

// User returns our name of the user whom system calls theirs.
func (p *Policy) User(system canonical.System, theirs string) (name string, known bool) {
	if p.Users == nil || theirs == "" {
		return "", false
	}
	name, known = p.Users.at(system).ours[theirs]
	return name, known
}

// UserAt returns what system calls the user of our name.
func (p *Policy) UserAt(system canonical.System, name string) (theirs string, known bool) {
	if p.Users == nil {
		return "", false
	}
	theirs, known = p.Users.at(system).theirs[name]
	return theirs, known
}

func (t *Table) at(system canonical.System) *pairs {
	if system == canonical.GHL {
		return t.ghl
	}
	return t.novi
}

func (s Spec) tables() (map[string]*Table, error) {
	all := maps.Clone(s.Tables)
	if all == nil {
		all = map[string][]Row{}
	}
	if _, taken := all["users"]; taken {
		return nil, fmt.Errorf("tables.users: the table of that name is users, above")
	}
	out := map[string]*Table{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		t, err := newTable(all[name])
		if err != nil {
			return nil, fmt.Errorf("tables.%s: %w", name, err)
		}
		out[name] = t
	}
	t, err := newTable(s.Users)
	if err != nil {
		return nil, fmt.Errorf("users: %w", err)
	}
	out["users"] = t
	return out, nil
}

func (s Spec) policy(l *Lens, tables map[string]*Table) (*Policy, error) {
	c := s.Contact
	p := &Policy{
		Off: map[Flow]bool{}, Deletes: map[Flow]Delete{}, Users: tables["users"],
		Duplicates: Duplicates(c.Duplicates), DuplicatesTag: NormalizeTag(c.DuplicatesTag), OnMatch: OnMatch(c.Identity.OnMatch), IdentityKeys: c.Identity.Keys,
	}
	var err error
	if p.CreateGHL, err = NewCondition(c.CreateWhen.GHL); err != nil {
		return nil, fmt.Errorf("contact.create_when.ghl: %w", err)
	}
	if p.CreateNovi, err = NewCondition(c.CreateWhen.Novi); err != nil {
		return nil, fmt.Errorf("contact.create_when.novi: %w", err)
	}
	if p.Duplicates == "" {
		p.Duplicates = KeepDuplicates
	}
	if p.OnMatch == "" {
		p.OnMatch = MergeMatch
	}
	if p.IdentityKeys == nil {
		for _, key := range []string{"email", "phone"} {
			if _, bound := l.Binding(key); bound {
				p.IdentityKeys = append(p.IdentityKeys, key)
			}
		}
	}
	switch {
	case p.Duplicates != KeepDuplicates && p.Duplicates != TagDuplicates && p.Duplicates != DeleteDuplicates:
		return nil, fmt.Errorf("contact.duplicates: %q is not one of keep, tag, delete", c.Duplicates)
	case (p.Duplicates == TagDuplicates) != (p.DuplicatesTag != ""):
		return nil, fmt.Errorf("contact.duplicates_tag: goes with duplicates: tag, and is needed there")
	case p.OnMatch != MergeMatch && p.OnMatch != FlagMatch:
		return nil, fmt.Errorf("contact.identity.on_match: %q is not one of merge, flag", c.Identity.OnMatch)
	}
	if l.Derives(p.DuplicatesTag) {
		return nil, fmt.Errorf("contact.duplicates_tag: %q is a derived tag", p.DuplicatesTag)
	}
	for i, key := range p.IdentityKeys {
		if _, bound := l.Binding(key); !bound || isFlag(key) || slices.Contains(p.IdentityKeys[:i], key) {
			return nil, fmt.Errorf("contact.identity.keys: %q is not bound, is yes or no, or is there twice", key)
		}
	}
	if s.ClockSkew != nil {
		if p.ClockSkew = *s.ClockSkew; p.ClockSkew < 0 {
			return nil, fmt.Errorf("clock_skew: is negative")
		}
	}
	for kind, to := range s.Sync.byKind() {
		p.Off[Flow{kind, canonical.GHL}] = to.ToGHL != nil && !*to.ToGHL
		p.Off[Flow{kind, canonical.Novi}] = to.ToNovi != nil && !*to.ToNovi
	}
	if to := s.Sync.Appointment.ToGHL; to != nil && *to {
		return nil, fmt.Errorf("sync.appointment.to_ghl: appointments are read from GHL and never written there")
	}
	for kind, d := range s.Deletes.byKind() {
		if err := p.deletes(kind, *d); err != nil {
			return nil, fmt.Errorf("deletes.%s.%w", kind, err)
		}
		if l.Derives(NormalizeTag(d.Tag)) {
			return nil, fmt.Errorf("deletes.%s.tag: %q is a derived tag", kind, d.Tag)
		}
	}
	if err := p.hold(s.Deletes.Hold); err != nil {
		return nil, fmt.Errorf("deletes.hold.%w", err)
	}
	return p, nil
}

func (p *Policy) hold(h HoldSpec) error {
	said := p.Hold()
	over(&said.Within, h.Within)
	if h.Count != nil {
		said.Count = *h.Count
	}
	if h.Percent != nil {
		said.Percent = *h.Percent
	}
	switch {
	case said.Count < 0:
		return fmt.Errorf("count: is negative")
	case said.Percent < 0 || said.Percent > 100:
		return fmt.Errorf("percent: %g is not between 0 and 100", said.Percent)
	case said.Within < 0:
		return fmt.Errorf("within: is negative")
	}
	p.MassDelete = &said
	return nil
}

func (p *Policy) deletes(kind canonical.Kind, d DeleteSpec) error {
	for key, said := range map[string]string{"ghl": d.GHL, "novi": d.Novi} {
		f := Flow{kind, canonical.System(key)}
		switch action := DeleteAction(said); {
		case said == "":
		case action != Unlink && action != Propagate && action != TagRecord:
			return fmt.Errorf("%s: %q is not one of propagate, unlink, tag", key, said)
		case action == TagRecord && kind != canonical.KindContact:
			return fmt.Errorf("%s: only contacts have tags", key)
		case action == TagRecord && NormalizeTag(d.Tag) == "":
			return fmt.Errorf("tag: is missing")
		case action == Propagate && f == (Flow{"appointment", canonical.Novi}):
			return fmt.Errorf("%s: appointments are never written to GHL", key)
		case action == TagRecord:
			p.Deletes[f] = Delete{Action: action, Tag: NormalizeTag(d.Tag)}
		default:
			p.Deletes[f] = Delete{Action: action}
		}
	}
	if d.Tag != "" && d.GHL != string(TagRecord) && d.Novi != string(TagRecord) {
		return fmt.Errorf("tag: goes with ghl: tag or novi: tag")
	}
	return nil
}
