package mapping_test

import (
	"reflect"
	"testing"

	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
)

// FuzzShow: whatever a system shows, the lens doesn't fall over, and the same
// record shows the same.
func FuzzShow(f *testing.F) {
	lens := mapping.Association("US")
	endpoints := []struct {
		system   canonical.System
		kind     canonical.Kind
		endpoint string
	}{
		{canonical.GHL, canonical.KindContact, observation.GHLContactGet},
		{canonical.GHL, canonical.KindContact, observation.GHLContactSearch},
		{canonical.GHL, canonical.KindContact, observation.GHLContactTags},
		{canonical.GHL, canonical.KindTask, observation.GHLTaskGet},
		{canonical.GHL, canonical.KindNote, observation.GHLNoteGet},
		{canonical.GHL, canonical.KindAppointment, observation.GHLAppointmentGet},
		{canonical.Novi, canonical.KindContact, observation.NoviMemberGet},
		{canonical.Novi, canonical.KindContact, observation.NoviMemberList},
		{canonical.Novi, canonical.KindTask, observation.NoviActivityGet},
		{canonical.Novi, canonical.KindNote, observation.NoviActivityList},
	}
	f.Add(uint8(0), []byte(`{"id":"c1","firstName":"Ada","phone":"+12015550123","tags":["board"],"dnd":true}`))
	f.Fuzz(func(t *testing.T, which uint8, record []byte) {
		e := endpoints[int(which)%len(endpoints)]
		o := observation.Observation{System: e.system, Tenant: "guild", Kind: e.kind, ExternalID: "x", Via: observation.Fetch, Endpoint: e.endpoint, Record: record}
		first, err := lens.Show(o)
		again, errAgain := lens.Show(o)
		if !reflect.DeepEqual(first, again) || (err == nil) != (errAgain == nil) {
			t.Errorf("%s shows %+v and then %+v", record, first, again)
		}
	})
}
