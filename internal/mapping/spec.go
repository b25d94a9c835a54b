package mapping

import (
	"embed"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/causeway-sync/causeway/schemas/canonical"
)

// Spec is a mapping as YAML spells it: a template, or what a tenant lays over
// one. What is left out says nothing.
type Spec struct {
	Contact ContactSpec `yaml:"contact"`
	// Task, Note and Appointment are the mappings of what hangs on contacts.
	Task        ItemSpec `yaml:"task"`
	Note        ItemSpec `yaml:"note"`
	Appointment ItemSpec `yaml:"appointment"`
	// Sync switches kinds and directions off.
	Sync SyncSpec `yaml:"sync"`
	// Deletes says what becomes of the other side's record.
	Deletes DeletesSpec `yaml:"deletes"`
	// ClockSkew is how far apart two stamps may be and still count as equal.
	ClockSkew *time.Duration `yaml:"clock_skew"`
	// Users says who is who; it is also the table "users".
	Users []Row `yaml:"users"`
	// Tables are for convert: lookup, by name.
	Tables map[string][]Row `yaml:"tables"`
}

// ContactSpec is the mapping of contacts.
type ContactSpec struct {
	// Fields by canonical name; null takes the template's away.
	Fields     map[string]*FieldSpec `yaml:"fields"`
	Tags       TagsSpec              `yaml:"tags"`
	Reference  ReferenceSpec         `yaml:"reference"`
	CreateWhen CreateSpec            `yaml:"create_when"`
	// Duplicates is what becomes of a second record of a person in one
	// system: keep, tag or delete.
	Duplicates    string       `yaml:"duplicates"`
	DuplicatesTag string       `yaml:"duplicates_tag"`
	Identity      IdentitySpec `yaml:"identity"`
}

// ItemSpec is the mapping of tasks, of notes or of appointments.
type ItemSpec struct {
	// Fields by canonical name; null takes the template's away.
	Fields map[string]*FieldSpec `yaml:"fields"`
}

// FieldSpec is one binding.
type FieldSpec struct {
	GHL       SideSpec  `yaml:"ghl"`
	Novi      SideSpec  `yaml:"novi"`
	Convert   Convert   `yaml:"convert"`
	Authority Authority `yaml:"authority"`
	// GHLWrite and NoviWrite are always, create or never; always where there
	// is a path and nothing is said.
	GHLWrite  string `yaml:"ghl_write"`
	NoviWrite string `yaml:"novi_write"`
	// Enum is the table of convert: enum, canonical value to theirs.
	Enum EnumSpec `yaml:"enum"`
	// Lookup is the name of the table of convert: lookup.
	Lookup string `yaml:"lookup"`
	// Separator is for convert: list; none means a JSON array.
	Separator PerSystem `yaml:"separator"`
	// HTML says for convert: html which side has HTML: ghl, novi or both.
	HTML string `yaml:"html"`
}

// SideSpec is a path, or a path with expressions.
type SideSpec struct {
	Path  string `yaml:"path"`
	Read  string `yaml:"read"`
	Write string `yaml:"write"`
}

// UnmarshalYAML takes a path alone, too.
func (s *SideSpec) UnmarshalYAML(decode func(any) error) error {
	if decode(&s.Path) == nil {
		return nil
	}
	type plain SideSpec
	return decode((*plain)(s))
}

// EnumSpec is a table for each system.
type EnumSpec struct {
	GHL  map[string]string `yaml:"ghl"`
	Novi map[string]string `yaml:"novi"`
}

// PerSystem is a word for each system.
type PerSystem struct {
	GHL  string `yaml:"ghl"`
	Novi string `yaml:"novi"`
}

// TagsSpec is TagRules; an empty text switches off.
type TagsSpec struct {
	NoviField   *string `yaml:"novi_field"`
	Separator   *string `yaml:"separator"`
	GroupPrefix *string `yaml:"group_prefix"`
	// Derive are tags that GHL shows of a contact's fields; a list takes the
	// place of the template's.
	Derive []DeriveSpec `yaml:"derive"`
}

// DeriveSpec is one derived tag.
type DeriveSpec struct {
	// Tag may hold {value}, the field's value.
	Tag string `yaml:"tag"`
	// Field is the canonical field that has to have a value.
	Field string `yaml:"field"`
	// When is a CEL condition over contact.
	When string `yaml:"when"`
}

// ReferenceSpec is where a record that we made says for whom.
type ReferenceSpec struct {
	GHL  *string `yaml:"ghl"`
	Novi *string `yaml:"novi"`
}

// CreateSpec is always, never, or a CEL condition over contact.
type CreateSpec struct {
	GHL  string `yaml:"ghl"`
	Novi string `yaml:"novi"`
}

// IdentitySpec says how a person is known.
type IdentitySpec struct {
	Keys    []string `yaml:"keys"`
	OnMatch string   `yaml:"on_match"`
}

// SyncSpec has a switch for each kind and direction.
type SyncSpec struct {
	Contact     SwitchSpec `yaml:"contact"`
	Task        SwitchSpec `yaml:"task"`
	Note        SwitchSpec `yaml:"note"`
	Appointment SwitchSpec `yaml:"appointment"`
}

// SwitchSpec is true unless said otherwise.
type SwitchSpec struct {
	ToGHL  *bool `yaml:"to_ghl"`
	ToNovi *bool `yaml:"to_novi"`
}

// DeletesSpec says for each kind what a delete at a system does to the other
// system's record.
type DeletesSpec struct {
	Contact     DeleteSpec `yaml:"contact"`
	Task        DeleteSpec `yaml:"task"`
	Note        DeleteSpec `yaml:"note"`
	Appointment DeleteSpec `yaml:"appointment"`
	// Hold says how many deletes wait for a person.
	Hold HoldSpec `yaml:"hold"`
}

// HoldSpec says when a tenant's deletes are held; what is left out is the
// default.
type HoldSpec struct {
	// Count and Percent, of the tenant's entities, both have to be exceeded. A
	// count of 0 holds nothing ever; with a percent of 0 the count decides.
	Count   *int     `yaml:"count"`
	Percent *float64 `yaml:"percent"`
	// Within is the time in which deletes are counted.
	Within time.Duration `yaml:"within"`
}

// DeleteSpec is propagate, unlink or tag, by the system where the record was
// deleted.
type DeleteSpec struct {
	GHL  string `yaml:"ghl"`
	Novi string `yaml:"novi"`
	// Tag is the tag that tag gives.
	Tag string `yaml:"tag"`
}

// Row is one line of a table: ours, and what each system calls it.
type Row struct {
	Name string `yaml:"name"`
	GHL  string `yaml:"ghl"`
	Novi string `yaml:"novi"`
}

//go:embed templates/*.yaml
var templates embed.FS

// Templates returns the names of the templates.
func Templates() []string {
	files, _ := templates.ReadDir("templates") // an embedded directory is there
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = strings.TrimSuffix(f.Name(), ".yaml")
	}
	return names
}

// Template returns the template of that name; "" is association.
func Template(name string) (Spec, error) {
	if name == "" {
		name = "association"
	}
	if !slices.Contains(Templates(), name) {
		return Spec{}, fmt.Errorf("%q is not one of %s", name, strings.Join(Templates(), ", "))
	}
	text, err := templates.ReadFile("templates/" + name + ".yaml")
	if err != nil {
		return Spec{}, err
	}
	var s Spec
	if err := yaml.UnmarshalWithOptions(text, &s, yaml.Strict()); err != nil {
		return Spec{}, fmt.Errorf("template %s: %w", name, err)
	}
	return s, nil
}

// With returns s with own laid over it. A field and a table are replaced
// whole, everything else key by key.
func (s Spec) With(own Spec) Spec {
	c, o := &s.Contact, own.Contact
	c.Fields = fieldsWith(c.Fields, o.Fields)
	items, ownItems := s.items(), own.items()
	for kind, item := range items {
		item.Fields = fieldsWith(item.Fields, ownItems[kind].Fields)
	}
	over(&c.Tags.NoviField, o.Tags.NoviField)
	over(&c.Tags.Separator, o.Tags.Separator)
	over(&c.Tags.GroupPrefix, o.Tags.GroupPrefix)
	if o.Tags.Derive != nil {
		c.Tags.Derive = o.Tags.Derive
	}
	over(&c.Reference.GHL, o.Reference.GHL)
	over(&c.Reference.Novi, o.Reference.Novi)
	over(&c.CreateWhen.GHL, o.CreateWhen.GHL)
	over(&c.CreateWhen.Novi, o.CreateWhen.Novi)
	over(&c.Duplicates, o.Duplicates)
	over(&c.DuplicatesTag, o.DuplicatesTag)
	over(&c.Identity.OnMatch, o.Identity.OnMatch)
	if o.Identity.Keys != nil {
		c.Identity.Keys = o.Identity.Keys
	}
	mine, theirs := s.Sync.byKind(), own.Sync.byKind()
	for kind, to := range mine {
		over(&to.ToGHL, theirs[kind].ToGHL)
		over(&to.ToNovi, theirs[kind].ToNovi)
	}
	deletes, ownDeletes := s.Deletes.byKind(), own.Deletes.byKind()
	for kind, d := range deletes {
		over(&d.GHL, ownDeletes[kind].GHL)
		over(&d.Novi, ownDeletes[kind].Novi)
		over(&d.Tag, ownDeletes[kind].Tag)
	}
	over(&s.Deletes.Hold.Count, own.Deletes.Hold.Count)
	over(&s.Deletes.Hold.Percent, own.Deletes.Hold.Percent)
	over(&s.Deletes.Hold.Within, own.Deletes.Hold.Within)
	over(&s.ClockSkew, own.ClockSkew)
	if own.Users != nil {
		s.Users = own.Users
	}
	if len(own.Tables) > 0 {
		s.Tables = maps.Clone(s.Tables)
		if s.Tables == nil {
			s.Tables = map[string][]Row{}
		}
		maps.Copy(s.Tables, own.Tables)
	}
	return s
}

// fieldsWith returns fields with own laid over them.
func fieldsWith(fields, own map[string]*FieldSpec) map[string]*FieldSpec {
	out := make(map[string]*FieldSpec, len(fields)+len(own))
	maps.Copy(out, fields)
	for name, f := range own {
		if out[name] = f; f == nil {
			delete(out, name)
		}
	}
	return out
}

func over[T comparable](v *T, own T) {
	var zero T
	if own != zero {
		*v = own
	}
}

// FieldsOf returns the fields of a kind.
func (s *Spec) FieldsOf(kind canonical.Kind) map[string]*FieldSpec {
	if item, ok := s.items()[kind]; ok {
		return item.Fields
	}
	return s.Contact.Fields
}

// SetFieldsOf has a kind's fields be these.
func (s *Spec) SetFieldsOf(kind canonical.Kind, fields map[string]*FieldSpec) {
	if item, ok := s.items()[kind]; ok {
		item.Fields = fields
		return
	}
	s.Contact.Fields = fields
}

func (s *Spec) items() map[canonical.Kind]*ItemSpec {
	return map[canonical.Kind]*ItemSpec{canonical.KindTask: &s.Task, canonical.KindNote: &s.Note, canonical.KindAppointment: &s.Appointment}
}

func (s *SyncSpec) byKind() map[canonical.Kind]*SwitchSpec {
	return map[canonical.Kind]*SwitchSpec{"contact": &s.Contact, "task": &s.Task, "note": &s.Note, "appointment": &s.Appointment}
}

func (s *DeletesSpec) byKind() map[canonical.Kind]*DeleteSpec {
	return map[canonical.Kind]*DeleteSpec{"contact": &s.Contact, "task": &s.Task, "note": &s.Note, "appointment": &s.Appointment}
}

// Build makes the lens and the policy of what s says. Its error begins with
// the key that is wrong.
func (s Spec) Build(region string) (*Lens, *Policy, error) {
	tables, err := s.tables()
	if err != nil {
		return nil, nil, err
	}
	text := func(p *string) string {
		if p == nil {
			return ""
		}
		return *p
	}
	c := s.Contact
	l := &Lens{
		Region: region, Users: tables["users"], GHLRef: text(c.Reference.GHL), NoviRef: text(c.Reference.Novi),
		Items: map[canonical.Kind][]Binding{},
		Tags:  TagRules{NoviField: text(c.Tags.NoviField), Separator: text(c.Tags.Separator), GroupPrefix: text(c.Tags.GroupPrefix)},
	}
	for i, d := range c.Tags.Derive {
		tag, err := NewDerivedTag(d.Tag, d.Field, d.When)
		if err != nil {
			return nil, nil, fmt.Errorf("contact.tags.derive[%d].%w", i, err)
		}
		l.Tags.Derive = append(l.Tags.Derive, tag)
	}
	if l.Bindings, err = bindings(canonical.KindContact, c.Fields, tables); err != nil {
		return nil, nil, err
	}
	for kind, item := range s.items() {
		if l.Items[kind], err = bindings(kind, item.Fields, tables); err != nil {
			return nil, nil, err
		}
	}
	if err := l.Check(); err != nil {
		return nil, nil, err
	}
	l.fingerprint()
	p, err := s.policy(l, tables)
	if err != nil {
		return nil, nil, err
	}
	return l, p, nil
}

// bindings makes those of a kind, sorted by field.
func bindings(kind canonical.Kind, fields map[string]*FieldSpec, tables map[string]*Table) ([]Binding, error) {
	out := make([]Binding, 0, len(fields))
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		f := fields[name]
		if f == nil {
			continue // the template has no such field to take away
		}
		if kind == canonical.KindAppointment {
			if f.GHLWrite != "" && f.GHLWrite != "never" {
				return nil, fmt.Errorf("%s.fields.%s.ghl_write: appointments are never written to GHL", kind, name)
			}
			if f.Authority != "" && f.Authority != ByGHL {
				return nil, fmt.Errorf("%s.fields.%s.authority: appointments are GHL's", kind, name)
			}
			own := *f
			own.Authority = ByGHL
			if own.GHL.Path != "" {
				own.GHLWrite = "never"
			}
			f = &own
		}
		b, err := f.binding(kind, name, tables)
		if err != nil {
			return nil, fmt.Errorf("%s.fields.%s.%w", kind, name, err)
		}
		out = append(out, b)
	}
	return out, nil
}

func (f *FieldSpec) binding(kind canonical.Kind, name string, tables map[string]*Table) (Binding, error) {
	b := Binding{Field: name, Convert: f.Convert, Authority: f.Authority}
	if b.Convert == "" {
		b.Convert = Text
	}
	if b.Authority == "" {
		b.Authority = Newest
	}
	for key, given := range map[string]bool{
		"enum": (f.Enum.GHL != nil || f.Enum.Novi != nil) != (b.Convert == Enum), "lookup": (f.Lookup != "") != (b.Convert == Lookup),
		"html": (f.HTML != "") != (b.Convert == HTML), "separator": f.Separator != (PerSystem{}) && b.Convert != List,
	} {
		if given {
			return b, fmt.Errorf("%s: goes with convert: %s and nothing else", key, map[string]Convert{"enum": Enum, "lookup": Lookup, "html": HTML, "separator": List}[key])
		}
	}
	sides := []struct {
		key       string
		side      *Side
		spec      SideSpec
		write     string
		enum      map[string]string
		separator string
		system    canonical.System
	}{
		{"ghl", &b.GHL, f.GHL, f.GHLWrite, f.Enum.GHL, f.Separator.GHL, canonical.GHL},
		{"novi", &b.Novi, f.Novi, f.NoviWrite, f.Enum.Novi, f.Separator.Novi, canonical.Novi},
	}
	for _, x := range sides {
		var err error
		s := x.side
		if s.Path = x.spec.Path; s.Path == "" {
			if x.spec != (SideSpec{}) || x.write != "" {
				return b, fmt.Errorf("%s: has no path", x.key)
			}
			continue
		}
		switch x.write {
		case "", string(Always):
			s.Write = Always
		case string(OnCreate):
			s.Write = OnCreate
		case "never":
		default:
			return b, fmt.Errorf("%s_write: %q is not one of always, create, never", x.key, x.write)
		}
		s.Separator, s.HTML = x.separator, f.HTML == x.key || f.HTML == "both"
		if s.ReadExpr, err = compileRead(x.spec.Read); err != nil {
			return b, fmt.Errorf("%s.read: %w", x.key, err)
		}
		compile := compileWrite
		if kind != canonical.KindContact {
			compile = compileRead // the contact that it hangs on is not at hand
		}
		if s.WriteExpr, err = compile(x.spec.Write); err != nil {
			return b, fmt.Errorf("%s.write: %w", x.key, err)
		}
		if b.Convert == Enum {
			if s.values, err = newPairs(x.enum); err != nil {
				return b, fmt.Errorf("enum.%s: %w", x.key, err)
			}
		}
		if b.Convert == Lookup {
			table, ok := tables[f.Lookup]
			if !ok {
				return b, fmt.Errorf("lookup: there is no table %q", f.Lookup)
			}
			s.values = table.at(x.system)
		}
	}
	if b.Convert == HTML && f.HTML != "ghl" && f.HTML != "novi" && f.HTML != "both" {
		return b, fmt.Errorf("html: %q is not one of ghl, novi, both", f.HTML)
	}
	return b, nil
}

// Converts are the converters that a field may have, of whatever kind.
func Converts() []Convert {
	all := slices.Clone(converts)
	for _, c := range itemConverts {
		if !slices.Contains(all, c) {
			all = append(all, c)
		}
	}
	return all
}

// Authorities are those that a field may have.
func Authorities() []Authority { return slices.Clone(authorities) }

// FieldsOf are the canonical fields of a kind that can be bound, but for a
// contact's custom ones.
func FieldsOf(kind canonical.Kind) []string {
	fields := canonical.Fields(kind)
	if kind == canonical.KindAppointment {
		fields = append(fields, "summary")
	}
	return fields
}

// SpecSource is this file, from whose comments the schema of a mapping takes
// its descriptions.
//
//go:embed spec.go
var SpecSource string

var (
	converts     = []Convert{Text, Email, Phone, Date, Bool, Country, DND, Enum, Lookup, List, HTML}
	itemConverts = []Convert{Text, Rich, Instant, User, Bool, Email, Phone, Date, Enum, Lookup, List, HTML}
	authorities  = []Authority{Newest, ByGHL, ByNovi, OptOut, Longest, Union}
)

// check reports what in the binding can't work.
func (b Binding) check() error {
	flag := isFlag(b.Field)
	ghlDND := strings.HasPrefix(b.GHL.Path, "dndSettings.")
	switch {
	case !canonical.KnownField(b.Field):
		return fmt.Errorf("%q is no canonical field", b.Field)
	case b.GHL.Path == "" && b.Novi.Path == "":
		return fmt.Errorf("it is bound to neither system")
	case b.Convert != "" && !slices.Contains(converts, b.Convert):
		return fmt.Errorf("convert: %q is none of %v", b.Convert, converts)
	case b.Authority != "" && !slices.Contains(authorities, b.Authority):
		return fmt.Errorf("authority: %q is none of %v", b.Authority, authorities)
	case flag && b.Convert != Bool && b.Convert != DND:
		return fmt.Errorf("convert: it is yes or no, so it takes bool or dnd")
	case b.Authority == OptOut && b.Convert != Bool && b.Convert != DND:
		return fmt.Errorf("authority: opt_out is for what is yes or no")
	case b.Authority == Union && b.Convert != List && b.Convert != Text && b.Convert != "":
		return fmt.Errorf("authority: union is for convert: list and text")
	case b.GHL.Path != "" && ghlDND != (b.Convert == DND):
		return fmt.Errorf("convert: dnd and a GHL path of dndSettings go together")
	case b.GHL.Write != Never && !ghlDND && !strings.HasPrefix(b.GHL.Path, CustomPath) && strings.Contains(b.GHL.Path, "."):
		return fmt.Errorf("ghl: a path with a dot can be read and not written")
	case b.Novi.Write != Never && !strings.HasPrefix(b.Novi.Path, CustomPath) && strings.Count(b.Novi.Path, ".") > 1:
		return fmt.Errorf("novi: a path with more than one dot can be read and not written")
	}
	for key, s := range map[string]Side{"ghl": b.GHL, "novi": b.Novi} {
		if s.Path == CustomPath {
			return fmt.Errorf("%s: the custom field has no name", key)
		}
	}
	return b.checkSides()
}

// checkItem is check for a binding of a kind other than contact.
func (b Binding) checkItem(kind canonical.Kind) error {
	flag := b.Field == "completed"
	// What an appointment comes to in words can be written, and is no value of its own.
	summary := kind == canonical.KindAppointment && b.Field == "summary"
	switch {
	case !slices.Contains(FieldsOf(kind), b.Field):
		return fmt.Errorf("%q is no field of a canonical %s", b.Field, kind)
	case b.GHL.Path == "" && b.Novi.Path == "":
		return fmt.Errorf("it is bound to neither system")
	case summary && b.GHL.Path != "":
		return fmt.Errorf("ghl: a summary can be written and not read")
	case !slices.Contains(itemConverts, b.Convert):
		return fmt.Errorf("convert: %q is none of %v", b.Convert, itemConverts)
	case !slices.Contains(authorities, b.Authority) || b.Authority == OptOut:
		return fmt.Errorf("authority: %q is none of %v", b.Authority, slices.DeleteFunc(slices.Clone(authorities), func(a Authority) bool { return a == OptOut }))
	case flag != (b.Convert == Bool):
		return fmt.Errorf("convert: bool is for completed, and completed takes no other")
	case b.Authority == Union && b.Convert != List && b.Convert != Text:
		return fmt.Errorf("authority: union is for convert: list and text")
	}
	for key, s := range map[string]Side{"ghl": b.GHL, "novi": b.Novi} {
		if strings.HasPrefix(s.Path, CustomPath) {
			return fmt.Errorf("%s: only contacts have custom fields", key)
		}
		if s.Write != Never && strings.Contains(s.Path, ".") {
			return fmt.Errorf("%s: a path with a dot can be read and not written", key)
		}
	}
	return b.checkSides()
}

// checkSides reports what can't work at a side, whatever the kind.
func (b Binding) checkSides() error {
	for key, s := range map[string]Side{"ghl": b.GHL, "novi": b.Novi} {
		if err := checkSeparator(s.Separator); err != nil {
			return fmt.Errorf("separator.%s: %w", key, err)
		}
		if (s.ReadExpr != nil || s.WriteExpr != nil) && slices.Contains([]Convert{List, Bool, DND, User}, b.Convert) {
			return fmt.Errorf("%s: read and write don't go with convert: %s", key, b.Convert)
		}
	}
	return nil
}

// isFlag reports whether field is yes or no.
func isFlag(field string) bool {
	var c canonical.Contact
	return c.SetField(field, "x") && c.Field(field) == ""
}
