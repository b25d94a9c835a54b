package mapping

import (
	"slices"
	"strings"
)

// IdentityKey is a value that is meant to name one person.
type IdentityKey struct {
	Field  string
	Values []string // normalized; a phone comes with the last and the first name
}

// Same reports whether both are the same value of the same field.
func (k IdentityKey) Same(o IdentityKey) bool {
	return k.Field == o.Field && slices.Equal(k.Values, o.Values)
}

// Keys returns the fields by which a person is known, the strongest first; a
// nil policy says e-mail, then phone.
func (p *Policy) Keys() []string {
	if p == nil || len(p.IdentityKeys) == 0 {
		return []string{"email", "phone"}
	}
	return p.IdentityKeys
}

// Identify returns the identity keys of a person, the strongest first: of each
// of the policy's fields the value, and of a phone, which families share with
// their last name, the value with both names. What is empty names nobody.
func (p *Policy) Identify(field func(string) string) []IdentityKey {
	var out []IdentityKey
	for _, f := range p.Keys() {
		k := IdentityKey{Field: f, Values: []string{field(f)}}
		if f == "phone" {
			k.Values = append(k.Values, strings.ToLower(field("last_name")), strings.ToLower(field("first_name")))
		}
		if !slices.Contains(k.Values, "") {
			out = append(out, k)
		}
	}
	return out
}

// Unlike reports whether two first names are of two people: both are there,
// and neither begins the other, as Jon does Jonathan and A. does Ada.
func Unlike(a, b string) bool {
	a, b = strings.TrimSuffix(strings.ToLower(a), "."), strings.TrimSuffix(strings.ToLower(b), ".")
	return !strings.HasPrefix(a, b) && !strings.HasPrefix(b, a)
}

// Namesakes reports whether two contacts, each given by its fields, have the
// same last name and first names that are like, all of which are there.
func Namesakes(a, b func(field string) string) bool {
	first, last := a("first_name"), a("last_name")
	return first != "" && last != "" && b("first_name") != "" && !Unlike(first, b("first_name")) && strings.EqualFold(last, b("last_name"))
}
