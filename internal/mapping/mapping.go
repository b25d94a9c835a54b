// Package mapping is the lens between a system's fields and the canonical
// ones. It is data ([Lens]) and pure functions over it: it knows no network,
// no clock and no state, so that the transform, the sink and a dry run all see
// the same picture.
//
// Reading ([Lens.Show]) says what a record shows in canonical terms and which
// fields its endpoint covers; writing ([Lens.GHLBody], [Lens.NoviOverlay])
// turns canonical values into the system's own fields. What you put you get:
// for every writable field, showing what was written gives the value that was
// written. Putting back what you got changes nothing. Tests hold both laws.
package mapping

import (
	"fmt"
	"slices"
	"strings"

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
	DND     Convert = "dnd" // GHL's channel status: active, inactive, permanent
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

// Side is where a field lives at one system. An empty path means that the
// system does not have the field.
type Side struct {
	Path  string
	Write Write
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
}

// Lens is a tenant's whole mapping for contacts.
type Lens struct {
	Bindings []Binding
	Tags     TagRules
	// Region is the ISO 3166 country that phone numbers without a country
	// code are read in.
	Region string
	// GHLRef is the key of the GHL custom field, and NoviRef the Novi field,
	// that hold the canonical id of a record that we made; "" means none.
	GHLRef, NoviRef string
}

// Custom is a custom value that both systems have a field for.
type Custom struct {
	Name string // the canonical name, without the prefix
	GHL  string // the GHL custom field's key
	Novi string // the Novi custom field's name
}

// Association returns the default mapping of an association: names, address
// and ways to be reached both ways, membership facts from Novi to GHL custom
// fields, tags both ways. Sources: dossier Novi §12.1 and §12.4, GHL §3.1.
func Association(region string, custom ...Custom) *Lens {
	both := func(field string, c Convert, ghl, novi string) Binding {
		return Binding{Field: field, Convert: c, Authority: Newest, GHL: Side{ghl, Always}, Novi: Side{novi, Always}}
	}
	fromNovi := func(field string, c Convert, ghl, novi string) Binding {
		return Binding{Field: field, Convert: c, Authority: ByNovi, GHL: Side{ghl, Always}, Novi: Side{Path: novi}}
	}
	l := &Lens{
		Region: region,
		Tags:   TagRules{NoviField: "GHL Tags", Separator: "; ", GroupPrefix: "novi:"},
		GHLRef: "contact.causeway_id", NoviRef: "ImportID",
		Bindings: []Binding{
			both("first_name", Text, "firstName", "FirstName"),
			both("last_name", Text, "lastName", "LastName"),
			both("email", Email, "email", "Email"),
			both("phone", Phone, "phone", "Mobile"),
			both("address.line1", Text, "address1", "BillingAddress.Address1"),
			both("address.city", Text, "city", "BillingAddress.City"),
			both("address.state", Text, "state", "BillingAddress.StateProvince"),
			both("address.postal_code", Text, "postalCode", "BillingAddress.ZipCode"),
			both("address.country", Country, "country", "BillingAddress.Country"),
			{Field: "address.line2", Convert: Text, Novi: Side{Path: "BillingAddress.Address2"}},
			both("website", Text, "website", "Website"),
			both("job_title", Text, CustomPath+"contact.job_title", "JobTitle"),
			// GHL takes the company on create only, and Novi's is the parent's name.
			{Field: "company", Convert: Text, GHL: Side{"companyName", OnCreate}, Novi: Side{Path: "ParentMemberName"}},
			{Field: "date_of_birth", Convert: Date, GHL: Side{Path: "dateOfBirth"}},
			{Field: "source", Convert: Text, GHL: Side{Path: "source"}},
			{Field: "opt_outs.email", Convert: DND, Authority: OptOut, GHL: Side{"dndSettings.Email", Always}, Novi: Side{"UnsubscribeFromEmails", Always}},
			{Field: "opt_outs.sms", Convert: DND, Authority: OptOut, GHL: Side{Path: "dndSettings.SMS"}},
			{Field: "opt_outs.calls", Convert: DND, Authority: OptOut, GHL: Side{Path: "dndSettings.Call"}},
			{Field: "opt_outs.all", Convert: Bool, Authority: OptOut, GHL: Side{Path: "dnd"}},
			fromNovi("membership.status", Text, CustomPath+"contact.membership_status", "MemberStatus"),
			fromNovi("membership.type", Text, CustomPath+"contact.membership_type", "MemberType.Name"),
			fromNovi("membership.since", Date, CustomPath+"contact.member_since", "MemberSince"),
			fromNovi("membership.expires", Date, CustomPath+"contact.membership_expires", "MembershipExpires"),
			{Field: "membership.active", Convert: Bool, Authority: ByNovi, Novi: Side{Path: "Active"}},
		},
	}
	for _, c := range custom {
		l.Bindings = append(l.Bindings, both(canonical.CustomPrefix+c.Name, Text, CustomPath+c.GHL, CustomPath+c.Novi))
	}
	return l
}

// Check reports the first thing in the lens that cannot work, naming it.
func (l *Lens) Check() error {
	seen := map[string]bool{}
	for _, b := range l.Bindings {
		switch {
		case !canonical.KnownField(b.Field):
			return fmt.Errorf("mapping: %q is no canonical field", b.Field)
		case seen[b.Field]:
			return fmt.Errorf("mapping: %q is bound twice", b.Field)
		case b.GHL.Path == "" && b.Novi.Path == "":
			return fmt.Errorf("mapping: %q is bound to neither system", b.Field)
		case b.Authority == Union && b.Convert != Text:
			return fmt.Errorf("mapping: %q can't be a union: only text can", b.Field)
		}
		seen[b.Field] = true
	}
	if l.Tags.NoviField != "" && strings.TrimSpace(l.Tags.Separator) == "" {
		return fmt.Errorf("mapping: tags in %q need a separator that is not blank", l.Tags.NoviField)
	}
	return nil
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
		if system == canonical.GHL || !l.FromGroup(tag) {
			p.Tags = append(p.Tags, tag)
		}
	}
	return p
}
