package mapping_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
)

const derives = `contact: {tags: {derive: [
{tag: " Member ", when: "contact.membership.active"}, {tag: "status: {value}", field: membership.status},
{tag: "in {value} since", field: address.city, when: "contact.custom['since'] != ''"}, {tag: has mobile, field: phone}]}}`

func TestDerivedTags(t *testing.T) {
	l := mustBuild(t, derives)
	tests := []struct {
		name string
		c    canonical.Contact
		want []string // what GHL is to show
		novi []string
	}{
		{"nothing", canonical.Contact{}, nil, nil},
		{"a condition and a value", canonical.Contact{Membership: canonical.Membership{Active: true, Status: " Grace Period"}}, []string{"member", "status: grace period"}, nil},
		{"a condition that can't be evaluated doesn't hold", canonical.Contact{Address: canonical.Address{City: "Ouray"}}, nil, nil},
		{"field and condition", canonical.Contact{Address: canonical.Address{City: "Ouray"}, Custom: map[string]string{"since": "x"}}, []string{"in ouray since"}, nil},
		{"among the others, sorted", canonical.Contact{Phone: "+12025550143", Tags: []string{"board", "vip"}}, []string{"board", "has mobile", "vip"}, []string{"board", "vip"}},
		{"one that somebody made up is none, and none is there twice", canonical.Contact{Membership: canonical.Membership{Active: true}, Tags: []string{"member", "status: x", "vip"}}, []string{"member", "vip"}, []string{"vip"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := l.Project(tt.c, canonical.GHL, false).Tags; !slices.Equal(got, tt.want) {
				t.Errorf("ghl: got %q, want %q", got, tt.want)
			}
			if got := l.Project(tt.c, canonical.Novi, false).Tags; !slices.Equal(got, tt.novi) {
				t.Errorf("novi: got %q, want %q", got, tt.novi)
			}
		})
	}
}

// TestDerivedTagsAreKnown: whatever the value, a tag that is derived from it is
// known as one; else it would become a person's.
func TestDerivedTagsAreKnown(t *testing.T) {
	l := mustBuild(t, derives)
	rapid.Check(t, func(t *rapid.T) {
		c := canonical.Contact{Phone: "1", Custom: map[string]string{"since": "x"}}
		c.Membership.Active = rapid.Bool().Draw(t, "active")
		c.Membership.Status = rapid.String().Draw(t, "status")
		c.Address.City = rapid.String().Draw(t, "city")
		for _, tag := range l.Derived(c) {
			if !l.Derives(tag) || mapping.NormalizeTag(tag) != tag {
				t.Fatalf("%q is not known", tag)
			}
		}
	})
}
