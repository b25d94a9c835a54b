// Package mapping is the lens between a system's fields and the canonical
// ones. It is data ([Lens], made from YAML by [Spec.Build]) and pure functions
// over it: it knows no network, no clock and no state, so that the transform,
// the sink and a dry run all see the same picture.
//
// Reading ([Lens.Show]) says what a record shows in canonical terms and which
// fields its endpoint covers; writing ([Lens.GHLBody], [Lens.NoviOverlay])
// turns canonical values into the system's own fields. What you put you get:
// for every writable field, showing what was written gives the value that was
// written. Putting back what you got changes nothing. [CheckLaws] looks for a
// value that breaks either law.
package mapping

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/causeway-sync/causeway/schemas/canonical"
)

// Authority says whose value wins when two compete within the clocks'
// tolerance, or on first sight.
type Authority string

// The authorities. Newest is what the zero value means.
const (
	Newest Authority = "newest"
	ByGHL  Authority = "ghl"     // GHL's users only: a change made in Novi is put back
	ByNovi Authority = "novi"    // Novi's users only: a change made in GHL is put back
	OptOut Authority = "opt_out" // true wins; lifted in GHL only
	// Longest and Union speak of two values neither of whose users had seen the
	// other's; a change by somebody who saw the canonical value always counts.
	Longest Authority = "longest" // the longer text stays
	Union   Authority = "union"   // a list, or text like a note: both are kept, each element once
)

// Convert names how a value is normalized on reading and spelled on writing.
type Convert string

// The converters.
const (
	Text    Convert = "text"
	Email   Convert = "email"
	Phone   Convert = "phone"
	Date    Convert = "date"
	Bool    Convert = "bool"
	Country Convert = "country"
	DND     Convert = "dnd"    // GHL's channel status: active, inactive, permanent
	Enum    Convert = "enum"   // by a table of the binding's own
	Lookup  Convert = "lookup" // by one of the mapping's tables, such as users
	List    Convert = "list"   // several values in one field; as canonical text see [JoinList]
	HTML    Convert = "html"   // HTML at one side or both; canonical is plain text
)

// Write says when a field may be written at a system.
type Write string

// When a field is written. The zero value is never.
const (
	Never    Write = ""
	OnCreate Write = "create"
	Always   Write = "always"
)

// CustomPath starts the path of a custom field: in GHL followed by its key
// ("custom:contact.member_status"), in Novi by its name ("custom:Shirt size").
const CustomPath = "custom:"

// The converters of tasks, notes and appointments.
const (
	Instant Convert = "instant" // RFC 3339 in UTC, to the second
	Rich    Convert = "rich"    // plain text or HTML; two that read the same are the same, and each side keeps its own
	User    Convert = "user"    // by Lens.Users; somebody who is not there says nothing
)

// Side is where a field lives at one system. An empty path means that the
// system does not have the field.
type Side struct {
	Path  string
	Write Write
	// Separator is what a List's items are kept apart by in this system's
	// text; "" means that the system keeps them in a JSON array.
	Separator string
	// HTML says that an HTML converter finds HTML here.
	HTML bool
	// ReadExpr and WriteExpr are CEL over the value, before and after the
	// converter's own work; nil means none. The empty value is never given to
	// them: empty is empty at both sides.
	ReadExpr, WriteExpr *Expr
	// values is the table of an Enum or a Lookup.
	values *pairs
}

// Binding ties a canonical field to both systems' fields.
type Binding struct {
	Field     string
	Convert   Convert
	Authority Authority
	// Separator is between the elements of a field whose authority is Union;
	// "" means "; ".
	Separator string
	GHL, Novi Side
}

// Side returns the binding's side at system.
func (b Binding) Side(system canonical.System) Side {
	if system == canonical.GHL {
		return b.GHL
	}
	return b.Novi
}

// TagRules says how tags travel.
type TagRules struct {
	// NoviField is the Novi custom field that holds the tags; "" means that
	// tags are not written to Novi.
	NoviField string
	// Separator joins tags in NoviField.
	Separator string
	// GroupPrefix marks the tags that come from Novi groups. They belong to
	// Novi: they are read only there and never written back as a field value.
	GroupPrefix string
	// Derive are the tags that GHL shows of a contact's fields.
	Derive []DerivedTag
}

// Lens is a tenant's whole mapping.
type Lens struct {
	Bindings []Binding // sorted by field
	Tags     TagRules
	// Items are the bindings of tasks, notes and appointments, each sorted by
	// field.
	Items map[canonical.Kind][]Binding
	// Activities are the Novi activity types of the kinds; nil means
	// [ActivityTypes].
	Activities map[canonical.Kind]string
	// Users says who is who; nil means nobody.
	Users *Table
	// Region is the ISO 3166 country that phone numbers without a country
	// code are read in.
	Region string
	// GHLRef is the key of the GHL custom field, and NoviRef the Novi field,
	// that hold the canonical id of a record that we made; "" means none.
	GHLRef, NoviRef string

	zones    map[canonical.System]*time.Location // see InZones
	contact  canonical.Contact                   // what write expressions see; see Of
	readings map[Flow]map[string]string          // see Readings
}

// Custom is a custom value that both systems have a field for.
type Custom struct {
	Name string // the canonical name, without the prefix
	GHL  string // the GHL custom field's key
	Novi string // the Novi custom field's name
}

// Association returns the default mapping of an association, from the
// template of that name: names, address and ways to be reached both ways,
// membership facts from Novi to GHL custom fields, tags both ways.
func Association(region string, custom ...Custom) *Lens {
	own := Spec{Contact: ContactSpec{Fields: map[string]*FieldSpec{}}}
	for _, c := range custom {
		own.Contact.Fields[canonical.CustomPrefix+c.Name] = &FieldSpec{GHL: SideSpec{Path: CustomPath + c.GHL}, Novi: SideSpec{Path: CustomPath + c.Novi}}
	}
	template, err := Template("association")
	if err != nil {
		panic(err) // it is part of the program, and a test builds it
	}
	l, _, err := template.With(own).Build(region)
	if err != nil {
		panic(err)
	}
	return l
}

// Check reports the first thing in the lens that cannot work, naming it.
func (l *Lens) Check() error {
	written := map[string]string{"novi " + CustomPath + l.Tags.NoviField: "tags", "ghl " + CustomPath + l.GHLRef: "reference", "novi " + l.NoviRef: "reference"}
	if err := checkBindings(canonical.KindContact, l.Bindings, written); err != nil {
		return err
	}
	for _, kind := range canonical.Items() {
		if err := checkBindings(kind, l.Items[kind], map[string]string{}); err != nil {
			return err
		}
	}
	if l.Tags.NoviField != "" && strings.TrimSpace(l.Tags.Separator) == "" {
		return fmt.Errorf("contact.tags.separator: tags in %q need one that is not blank", l.Tags.NoviField)
	}
	if err := checkSeparator(l.Tags.Separator); err != nil {
		return fmt.Errorf("contact.tags.separator: %w", err)
	}
	if err := l.Tags.checkDerived(); err != nil {
		return fmt.Errorf("contact.tags.%w", err)
	}
	return nil
}

// checkBindings reports what in the bindings of a kind can't work. written is
// what writes where, to which it adds.
func checkBindings(kind canonical.Kind, bindings []Binding, written map[string]string) error {
	seen := map[string]bool{}
	for _, b := range bindings {
		at := fmt.Sprintf("%s.fields.%s", kind, b.Field)
		if seen[b.Field] {
			return fmt.Errorf("%s: it is bound twice", at)
		}
		seen[b.Field] = true
		check := b.check
		if kind != canonical.KindContact {
			check = func() error { return b.checkItem(kind) }
		}
		if err := check(); err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		for _, system := range []canonical.System{canonical.GHL, canonical.Novi} {
			if s := b.Side(system); s.Write != Never {
				place := string(system) + " " + s.Path
				if other, taken := written[place]; taken {
					return fmt.Errorf("%s: %s writes there too", at, other)
				}
				written[place] = b.Field
			}
		}
	}
	return nil
}

// InZones says in which zone each system means a time that names none, and in
// which Novi's are written. Without it that is UTC. It is for whoever has built
// the lens and has not shared it yet.
func (l *Lens) InZones(ghl, novi *time.Location) {
	l.zones = map[canonical.System]*time.Location{canonical.GHL: ghl, canonical.Novi: novi}
	l.fingerprint()
}

func (l *Lens) zone(system canonical.System) *time.Location {
	if z := l.zones[system]; z != nil {
		return z
	}
	return time.UTC
}

// Of returns a lens whose write expressions see c as contact.
func (l *Lens) Of(c canonical.Contact) *Lens {
	of := *l
	of.contact = c
	return &of
}

// Binding returns the binding of field.
func (l *Lens) Binding(field string) (Binding, bool) {
	i := slices.IndexFunc(l.Bindings, func(b Binding) bool { return b.Field == field })
	if i < 0 {
		return Binding{}, false
	}
	return l.Bindings[i], true
}

// Authority returns whose value wins for field.
func (l *Lens) Authority(field string) Authority {
	if b, ok := l.Binding(field); ok && b.Authority != "" {
		return b.Authority
	}
	return Newest
}

// FromGroup reports whether tag comes from a Novi group.
func (l *Lens) FromGroup(tag string) bool {
	return l.Tags.GroupPrefix != "" && strings.HasPrefix(tag, l.Tags.GroupPrefix)
}

// Projection is a contact as one system ought to show it: the values of the
// fields that may be written there, and the tags.
type Projection struct {
	Fields map[string]string
	Tags   []string
	// Tagged says whether tags are written at the system at all.
	Tagged bool
}

// Project returns what system ought to show of c. Fields that are written on
// create only are part of it if create is set.
func (l *Lens) Project(c canonical.Contact, system canonical.System, create bool) Projection {
	p := Projection{Fields: make(map[string]string, len(l.Bindings)), Tagged: system == canonical.GHL || l.Tags.NoviField != ""}
	for _, b := range l.Bindings {
		if w := b.Side(system).Write; w == Always || (create && w == OnCreate) {
			p.Fields[b.Field] = c.Field(b.Field)
		}
	}
	for _, tag := range c.Tags {
		if (system == canonical.GHL || !l.FromGroup(tag)) && !l.Derives(tag) {
			p.Tags = append(p.Tags, tag)
		}
	}
	if derived := l.Tags.Derive; system == canonical.GHL && len(derived) > 0 {
		p.Tags = append(p.Tags, l.Derived(c)...)
		slices.Sort(p.Tags)
	}
	return p
}
