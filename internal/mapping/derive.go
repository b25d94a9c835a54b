package mapping

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/causeway-sync/causeway/schemas/canonical"
)

// DerivedTag is a tag that follows a contact's fields. It is part of the
// projection to GHL, where it is added and removed as its source changes, and
// of nothing else: read from a system it never becomes a tag of the contact,
// so that nobody's edit can make it true.
type DerivedTag struct {
	before, after string // the tag, around the value if it has one
	valued        bool
	field         string
	when          Condition
}

// tagValue stands for the field's value in a derived tag.
const tagValue = "{value}"

// NewDerivedTag makes a tag that a contact has while field isn't empty, and
// while when, a CEL condition over contact, holds; one of the two may be "".
// {value} within tag stands for the field's value.
func NewDerivedTag(tag, field, when string) (DerivedTag, error) {
	d := DerivedTag{field: field, when: ForAll}
	d.before, d.after, d.valued = strings.Cut(NormalizeTag(tag), tagValue)
	switch {
	case d.before+d.after == "":
		return d, errors.New("tag: is missing, or nothing but a value: then every tag would be one of these")
	case strings.Contains(d.after, tagValue):
		return d, errors.New("tag: has more than one value")
	case d.valued && strings.TrimSpace(d.before) == "":
		return d, errors.New("tag: has to begin with a text, by which it is known")
	case d.valued && field == "":
		return d, errors.New("tag: {value} needs a field")
	case field == "" && when == "":
		return d, errors.New("when: is needed where there is no field")
	case field != "" && !canonical.KnownField(field):
		return d, fmt.Errorf("field: %q is no canonical field", field)
	}
	if when != "" {
		var err error
		if d.when, err = NewCondition(when); err != nil {
			return d, fmt.Errorf("when: %w", err)
		}
	}
	return d, nil
}

// is reports whether tag can be d's.
func (d DerivedTag) is(tag string) bool {
	if !d.valued {
		return tag == d.before
	}
	return len(tag) > len(d.before)+len(d.after) && strings.HasPrefix(tag, d.before) && strings.HasSuffix(tag, d.after)
}

// of returns d's tag of a contact. A condition that can't be evaluated doesn't
// hold.
func (d DerivedTag) of(c canonical.Contact) (tag string, has bool) {
	value := NormalizeTag(c.Field(d.field))
	if d.field != "" && value == "" {
		return "", false
	}
	if yes, err := d.when.Holds(c); err != nil || !yes {
		return "", false
	}
	if !d.valued {
		return d.before, true
	}
	return d.before + value + d.after, true
}

// Derives reports whether tag is one that is derived from fields. People have
// no say in it.
func (l *Lens) Derives(tag string) bool {
	return slices.ContainsFunc(l.Tags.Derive, func(d DerivedTag) bool { return d.is(tag) })
}

// Derived returns the tags that are derived from c's fields, sorted.
func (l *Lens) Derived(c canonical.Contact) []string {
	var tags []string
	for _, d := range l.Tags.Derive {
		if tag, has := d.of(c); has {
			tags = append(tags, tag)
		}
	}
	slices.Sort(tags)
	return slices.Compact(tags)
}

// checkDerived reports a derived tag that could be taken for a group's.
func (r TagRules) checkDerived() error {
	for i, d := range r.Derive {
		if r.GroupPrefix != "" && (strings.HasPrefix(d.before, r.GroupPrefix) || d.valued && strings.HasPrefix(r.GroupPrefix, d.before)) {
			return fmt.Errorf("derive[%d].tag: %q is what the tags of Novi groups begin with", i, r.GroupPrefix)
		}
	}
	return nil
}
