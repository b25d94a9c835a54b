package observation_test

import (
	"bytes"
	"testing"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/schemas/observation"
)

// FuzzDecode: what is decoded names what it saw, and is the same once it has
// been encoded and decoded again.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{`{"system":"ghl","tenant":"a","kind":"contact","external_id":"x","via":"notice"}`,
		`{"system":"novi","tenant":"a","kind":"note","external_id":"x","via":"fetch","record":{"a":[1,null]}}`,
		`{"system":"ghl","tenant":"a","kind":"contact","external_id":"x","via":"fetch","absent":true}`, `{"tenant":"A b"}`, `{`, `null`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := observation.Decode(data)
		if err != nil {
			return
		}
		if o.System == "" || o.Kind == "" || o.Via == "" || o.ExternalID == "" || o.Tenant == "" {
			t.Fatalf("%q is an observation of nothing: %+v", data, o)
		}
		if len(o.Record) > 0 && !json.Valid(o.Record) {
			return // kept as it came; what reads it says so
		}
		body, err := o.Encode()
		if err != nil {
			return // a time that RFC 3339 has no way to write
		}
		again, err := observation.Decode(body)
		if err != nil {
			t.Fatalf("%q was decoded, and then not again: %v", data, err)
		}
		if again.System != o.System || again.Tenant != o.Tenant || again.ExternalID != o.ExternalID || again.Via != o.Via || !bytes.Equal(bytes.TrimSpace(again.Record), bytes.TrimSpace(o.Record)) {
			t.Errorf("%q became %+v, and then %+v", data, o, again)
		}
	})
}
