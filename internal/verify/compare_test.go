package verify_test

import (
	"slices"
	"testing"

	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/internal/verify"
	"github.com/causeway-sync/causeway/schemas/canonical"
)

func TestCompare(t *testing.T) {
	state := canonical.Event{
		Contact: canonical.Contact{FirstName: "Ada", Phone: "+12025550143", Tags: []string{"board", "novi:lapsed"}, Membership: canonical.Membership{Status: "current"}},
		Sync: canonical.Sync{
			Base: map[canonical.System]canonical.Base{canonical.Novi: {
				Fields: map[string]string{"membership.status": "current"}, Tags: []string{"board", "novi:lapsed"}, Tagged: true, Grouped: true,
			}},
			Rendered: map[canonical.System]map[string]canonical.Rendering{canonical.GHL: {
				"phone":      {Shown: "202 555", Value: "+12025550143"},
				"first_name": {Shown: "A.", Value: "Adele"},
			}},
		},
	}
	whole := func(more ...string) map[string]string {
		f := map[string]string{"first_name": "Ada", "last_name": "", "phone": "+12025550143", "membership.status": "current"}
		for i := 0; i < len(more); i += 2 {
			f[more[i]] = more[i+1]
		}
		return f
	}
	both := []string{"board", "novi:lapsed"}
	tests := []struct {
		name   string
		system canonical.System
		shown  mapping.Shown
		differ []string
		hidden []string
	}{
		{"the same in ghl", canonical.GHL, mapping.Shown{Fields: whole(), Tags: both, Tagged: true, Grouped: true}, nil, nil},
		{"the same in novi", canonical.Novi, mapping.Shown{Fields: whole(), Tags: both, Tagged: true, Grouped: true}, nil, nil},
		{"other values", canonical.Novi, mapping.Shown{Fields: whole("first_name", "Eda", "last_name", "Imhof"), Tags: both, Tagged: true, Grouped: true}, []string{"first_name", "last_name"}, nil},
		{"a value that is gone", canonical.GHL, mapping.Shown{Fields: whole("phone", ""), Tags: both, Tagged: true, Grouped: true}, []string{"phone"}, nil},
		{"a rendering", canonical.GHL, mapping.Shown{Fields: whole("phone", "202 555"), Tags: both, Tagged: true, Grouped: true}, nil, nil},
		{"the other system's rendering", canonical.Novi, mapping.Shown{Fields: whole("phone", "202 555"), Tags: both, Tagged: true, Grouped: true}, []string{"phone"}, nil},
		{"a rendering of what was written before", canonical.GHL, mapping.Shown{Fields: whole("first_name", "A."), Tags: both, Tagged: true, Grouped: true}, []string{"first_name"}, nil},
		{"case", canonical.GHL, mapping.Shown{Fields: whole("first_name", "ada"), Tags: both, Tagged: true, Grouped: true}, []string{"first_name"}, nil},
		{"what novi decides, not seen yet", canonical.Novi, mapping.Shown{Fields: whole("membership.status", "expired"), Tags: both, Tagged: true, Grouped: true}, []string{"membership.status"}, nil},
		{"what novi decides, not written yet", canonical.GHL, mapping.Shown{Fields: whole("membership.status", "expired"), Tags: both, Tagged: true, Grouped: true}, []string{"membership.status"}, nil},
		{"what is not bound there", canonical.GHL, mapping.Shown{Fields: whole("membership.active", "true", "address.line2", "Box"), Tags: both, Tagged: true, Grouped: true}, nil, nil},
		{"what is shown on create only", canonical.GHL, mapping.Shown{Fields: whole("company", "Works"), Tags: both, Tagged: true, Grouped: true}, nil, nil},
		{"a tag less", canonical.GHL, mapping.Shown{Fields: whole(), Tags: []string{"novi:lapsed"}, Tagged: true, Grouped: true}, []string{"tags"}, nil},
		{"a group's tag less in ghl", canonical.GHL, mapping.Shown{Fields: whole(), Tags: []string{"board"}, Tagged: true, Grouped: true}, []string{"tags"}, nil},
		{"a group less in novi", canonical.Novi, mapping.Shown{Fields: whole(), Tags: []string{"board"}, Tagged: true, Grouped: true}, []string{"tags"}, nil},
		{"groups are not shown", canonical.Novi, mapping.Shown{Fields: whole(), Tags: []string{"board"}, Tagged: true}, nil, nil},
		{"little is shown", canonical.Novi, mapping.Shown{Fields: map[string]string{"phone": "+12025550143"}}, nil, []string{"first_name", "membership.status", "tags"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			lens := mapping.Association("US")
			differ, hidden := verify.Compare(lens, state, tt.system, tt.shown)
			if !slices.Equal(differ, tt.differ) || !slices.Equal(hidden, tt.hidden) {
				t.Errorf("got %v and %v, want %v and %v", differ, hidden, tt.differ, tt.hidden)
			}
		})
	}
}
