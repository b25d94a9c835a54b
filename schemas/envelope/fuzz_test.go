package envelope_test

import (
	"testing"

	"github.com/causeway-sync/causeway/schemas/envelope"
)

// FuzzParse: attributes that were parsed say the same once they have been
// written as headers and parsed again.
func FuzzParse(f *testing.F) {
	f.Add("1.0", "id", "causeway/transform", "causeway.contact.updated.v1", "2026-11-24T10:00:00.5Z", "a")
	f.Add("0.3", "", "", "", "yesterday", "")
	f.Add("1.0", "id", "s", "t", "2026-11-24T10:00:00+14:00", "\x00")
	f.Fuzz(func(t *testing.T, version, id, source, kind, at, tenant string) {
		a, err := envelope.Parse(map[string][]string{"CE-SpecVersion": {version}, "ce-id": {id}, "ce-source": {source}, "ce-type": {kind}, "Ce-Time": {at}, "ce-tenant": {tenant}, "ce-empty": nil})
		if err != nil {
			return
		}
		again, err := envelope.Parse(a.Header())
		if err != nil {
			t.Fatalf("%+v can't be parsed again: %v", a, err)
		}
		if !again.Time.Equal(a.Time) {
			t.Errorf("the time was %s and is %s", a.Time, again.Time)
		}
		if again.Time = a.Time; again != a {
			t.Errorf("it was %+v and is %+v", a, again)
		}
	})
}
