package dev

import (
	"bytes"
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/internal/novisim"
)

// TestNulled has clients, careful and careless, put a member back, and asks
// whether the judge counts what they took away.
func TestNulled(t *testing.T) {
	const key = "nulled-key-0123456789"
	type record = map[string]any
	tests := []struct {
		name   string
		put    func(read record) // makes what is put of what was read
		seen   bool              // whether it is read again before the PUT
		repair bool              // whether what was read is put in the end
		absent int               // PUTs that the simulator counts
		want   int
	}{
		{name: "what was read", put: func(record) {}},
		{name: "a field that is ours is cleared", put: func(r record) { r["JobTitle"] = nil }},
		{name: "a field that only Novi decides is null", put: func(r record) { r["MemberStatus"] = nil }, want: 1},
		{name: "a field that no mapping names is empty", put: func(r record) { r["Notes"] = "" }, want: 1},
		{name: "keys are missing", put: func(r record) { delete(r, "Notes"); delete(r, "FacebookUrl") }, absent: 1, want: 2},
		{name: "it is repaired", put: func(r record) { r["Notes"] = nil }, repair: true},
		{name: "a person wrote it unseen", put: func(r record) { r["Fax"] = nil }},
		{name: "a person wrote it, and it was shown", put: func(r record) { r["Fax"] = nil }, seen: true, want: 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sim, err := novisim.New(novisim.Config{Keys: []string{key}, Timezone: time.UTC})
			if err != nil {
				t.Fatal(err)
			}
			srv := httptest.NewServer(sim.Handler())
			t.Cleanup(srv.Close)
			id, err := sim.Edit(novisim.Edit{Fields: record{"Name": "Ada Imhof", "Email": "ada@example.org", "JobTitle": "Guide", "MemberStatus": "current",
				"Notes": "likes tea", "FacebookUrl": "https://example.org/ada"}})
			if err != nil {
				t.Fatal(err)
			}
			call := func(method string, body record) (out record) {
				t.Helper()
				data, err := json.Marshal(body)
				if err != nil {
					t.Fatal(err)
				}
				req, err := http.NewRequestWithContext(t.Context(), method, srv.URL+"/api/members/"+id, bytes.NewReader(data))
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Authorization", "Basic "+key)
				req.Header.Set("Content-Type", "application/json")
				res, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				if err := json.NewDecoder(res.Body).Decode(&out); err != nil || res.StatusCode != http.StatusOK {
					t.Fatalf("%s: %d, %v", method, res.StatusCode, err)
				}
				return out
			}
			read := call("GET", nil)
			if _, err := sim.Edit(novisim.Edit{MemberID: id, Fields: record{"Fax": "+12025550101"}}); err != nil {
				t.Fatal(err)
			}
			if tt.seen {
				read = call("GET", nil)
			} else {
				read["Fax"] = "+12025550101"
			}
			body := maps.Clone(read)
			tt.put(body)
			call("PUT", body)
			if tt.repair {
				call("PUT", read)
			}
			n, where := nulled(mapping.Association("US"), sim.Ledger())
			if r := (Report{Converged: true, Nulled: n}); r.Good() != (tt.want == 0) {
				t.Errorf("%d are good: %t", n, r.Good())
			}
			if absent := sim.Stats().NulledUnmapped; n != tt.want || absent != tt.absent || len(where) != n {
				t.Errorf("counted %d %v, and %d at the simulator; want %d and %d", n, where, absent, tt.want, tt.absent)
			}
		})
	}
}
