package ghlsim_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/causeway-sync/causeway/internal/ghlsim"
	"github.com/goccy/go-json"
)

// search returns the items of a search in loc1; body lacks braces and
// locationId.
func (s *sim) search(t *testing.T, body string) []map[string]any {
	t.Helper()
	a := s.do("POST", "/contacts/search", `{"locationId":"loc1",`+body+`}`)
	if a.status != 200 {
		t.Fatalf("search: %d %s", a.status, a.raw)
	}
	list, _ := a.body["contacts"].([]any)
	out := make([]map[string]any, len(list))
	for i, x := range list {
		out[i], _ = x.(map[string]any)
	}
	return out
}

func names(items []map[string]any) string {
	var out []string
	for _, x := range items {
		name, _ := x["firstName"].(string)
		out = append(out, name)
	}
	return strings.Join(out, " ")
}

func TestSearchFilters(t *testing.T) {
	s := setup(t, nil)
	for _, body := range []string{
		`{"firstName":"Ana","email":"ana@x.org","city":"Austin","tags":["member","board"],"dnd":true,"customFields":[{"id":"cf1","field_value":"12345"},{"id":"cf2","field_value":10}]}`,
		`{"firstName":"Bo","email":"bo@x.org","phone":"+15125550100","city":"Boston","tags":["member"],"customFields":[{"id":"cf2","field_value":20}]}`,
		`{"firstName":"Cy","address1":"1 Main","companyName":"Acme Inc"}`,
	} {
		s.create(body)
		s.clock.Advance(time.Minute)
	}
	tests := []struct{ name, filters, want string }{
		{"none", `[]`, "Ana Bo Cy"},
		{"eq", `[{"field":"city","operator":"eq","value":"austin"}]`, "Ana"},
		{"eq any", `[{"field":"city","operator":"eq","value":["Austin","Boston"]}]`, "Ana Bo"},
		{"not_eq", `[{"field":"city","operator":"not_eq","value":"Austin"}]`, "Bo Cy"},
		{"email", `[{"field":"email","operator":"eq","value":"BO@x.org"}]`, "Bo"},
		{"phone", `[{"field":"phone","operator":"eq","value":"+15125550100"}]`, "Bo"},
		{"address", `[{"field":"address","operator":"contains","value":"main"}]`, "Cy"},
		{"contains", `[{"field":"companyName","operator":"contains","value":"acme"}]`, "Cy"},
		{"not_contains", `[{"field":"city","operator":"not_contains","value":"os"}]`, "Ana Cy"},
		{"exists", `[{"field":"phone","operator":"exists"}]`, "Bo"},
		{"not_exists", `[{"field":"tags","operator":"not_exists"}]`, "Cy"},
		{"tags", `[{"field":"tags","operator":"eq","value":"Board"}]`, "Ana"},
		{"dnd", `[{"field":"dnd","operator":"eq","value":true}]`, "Ana"},
		{"custom field", `[{"field":"customFields.cf1","operator":"eq","value":"12345"}]`, "Ana"},
		{"custom number", `[{"field":"customFields.cf2","operator":"range","value":{"gt":10}}]`, "Bo"},
		{"range ISO", `[{"field":"dateUpdated","operator":"range","value":{"gte":"2026-01-05T10:01:00.000Z"}}]`, "Bo Cy"},
		{"range ms", `[{"field":"dateAdded","operator":"range","value":{"gte":1767607200000,"lt":1767607320000}}]`, "Ana Bo"},
		{"and at the top", `[{"field":"tags","operator":"eq","value":"member"},{"field":"city","operator":"eq","value":"Boston"}]`, "Bo"},
		{"or", `[{"group":"OR","filters":[{"field":"city","operator":"eq","value":"Boston"},{"field":"city","operator":"not_exists"}]}]`, "Bo Cy"},
		{"nested groups", `[{"group":"OR","filters":[{"group":"AND","filters":[{"field":"city","operator":"eq","value":"Boston"},{"field":"tags","operator":"eq","value":"board"}]},{"field":"city","operator":"eq","value":"Austin"}]}]`, "Ana"},
		{"field without values", `[{"field":"validEmail","operator":"exists"}]`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := s.search(t, `"pageLimit":10,"sort":[{"field":"firstNameLowerCase","direction":"asc"}],"filters":`+tt.filters)
			want(t, "contacts", names(got), tt.want)
		})
	}
	want(t, "query", names(s.search(t, `"pageLimit":10,"query":"BO@"`)), "Bo")
}

func TestSearchErrors(t *testing.T) {
	tests := []struct {
		name, body string
		status     int
		message    string
	}{
		{"nothing", `{}`, 422, `["locationId must be a string","locationId should not be empty","pageLimit must be a number","pageLimit should not be empty"]`},
		{"no pageLimit", `{"locationId":"loc1"}`, 422, `["pageLimit must be a number","pageLimit should not be empty"]`},
		{"pageLimit 0", `{"locationId":"loc1","pageLimit":0}`, 422, `["pageLimit must not be less than 1"]`},
		{"pageLimit 501", `{"locationId":"loc1","pageLimit":501}`, 422, `["pageLimit must not be greater than 500"]`},
		{"unknown key", `{"locationId":"loc1","pageLimit":1,"limit":1}`, 422, `["property limit should not exist"]`},
		{"elsewhere", `{"locationId":"loc2","pageLimit":1}`, 403, `"The token does not have access to this location."`},
		{"beyond 10,000", `{"locationId":"loc1","pageLimit":500,"page":21}`, 400, `"page * pageLimit must not be greater than 10000, use searchAfter"`},
		{"unknown field", `{"locationId":"loc1","pageLimit":1,"filters":[{"field":"zip","operator":"eq","value":"1"}]}`, 400, `"Invalid field zip"`},
		{"custom field by key", `{"locationId":"loc1","pageLimit":1,"filters":[{"field":"customFields.member_id","operator":"eq","value":"1"}]}`, 400, `"Invalid field customFields.member_id"`},
		{"unknown operator", `{"locationId":"loc1","pageLimit":1,"filters":[{"field":"city","operator":"like","value":"1"}]}`, 400, `"Invalid operator like"`},
		{"email contains", `{"locationId":"loc1","pageLimit":1,"filters":[{"field":"email","operator":"contains","value":"x"}]}`, 400, `"Invalid operator contains for field email"`},
		{"contains special", `{"locationId":"loc1","pageLimit":1,"filters":[{"field":"city","operator":"contains","value":"a@b"}]}`, 400, `"Invalid value for field city"`},
		{"long value", `{"locationId":"loc1","pageLimit":1,"filters":[{"field":"city","operator":"eq","value":"` + strings.Repeat("x", 76) + `"}]}`, 400, `"Value of field city must not be longer than 75 characters"`},
		{"bad range", `{"locationId":"loc1","pageLimit":1,"filters":[{"field":"dateUpdated","operator":"range","value":{"from":1}}]}`, 400, `"Invalid value for field dateUpdated"`},
		{"bad group", `{"locationId":"loc1","pageLimit":1,"filters":[{"group":"XOR","filters":[]}]}`, 400, `"Invalid group XOR"`},
		{"three sorts", `{"locationId":"loc1","pageLimit":1,"sort":[{},{},{}]}`, 400, `"sort must contain not more than 2 elements"`},
		{"bad sort", `{"locationId":"loc1","pageLimit":1,"sort":[{"field":"city","direction":"asc"}]}`, 400, `"Invalid field city"`},
		{"bad direction", `{"locationId":"loc1","pageLimit":1,"sort":[{"field":"email","direction":"up"}]}`, 400, `"Invalid direction up"`},
		{"page and cursor", `{"locationId":"loc1","pageLimit":1,"page":2,"searchAfter":[1,"a"]}`, 400, `"page and searchAfter cannot be used together"`},
		{"cursor of another sort", `{"locationId":"loc1","pageLimit":1,"searchAfter":["x","a"]}`, 400, `"Invalid searchAfter"`},
		{"long query", `{"locationId":"loc1","pageLimit":1,"query":"` + strings.Repeat("x", 76) + `"}`, 400, `"query must not be longer than 75 characters"`},
	}
	s := setup(t, nil)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := s.do("POST", "/contacts/search", tt.body)
			want(t, "status", a.status, tt.status)
			want(t, "message", a.body["message"], parse(t, tt.message))
		})
	}
}

func TestSearchItem(t *testing.T) {
	s := setup(t, nil)
	id := s.create(`{"firstName":"Ana","address1":"1 Main","dndSettings":{"SMS":{"status":"active"}}}`)
	a := s.do("POST", "/contacts/search", `{"locationId":"loc1","pageLimit":1,"sort":[{"field":"dateUpdated","direction":"asc"}]}`)
	want(t, "total", a.body["total"], any(1.0))
	list, _ := a.body["contacts"].([]any)
	want(t, "item", list[0], parse(t, `{"id":"`+id+`","locationId":"loc1","firstName":"Ana","firstNameLowerCase":"ana","address":"1 Main",
		"type":"lead","dnd":false,"tags":[],"customFields":[],"additionalEmails":[],"additionalPhones":[],"followers":[],"opportunities":[],
		"businessId":null,"businessName":null,"phoneLabel":null,"validEmail":null,
		"dateAdded":"2026-01-05T10:00:00.000Z","dateUpdated":"2026-01-05T10:00:00.000Z","searchAfter":[1767607200000,"`+id+`"]}`))
}

func TestSearchPages(t *testing.T) {
	s := setup(t, nil)
	const n = 23
	for i := range n {
		email := ""
		if i%3 > 0 {
			email = fmt.Sprintf(`,"email":"u%d@x.org"`, i)
		}
		s.create(fmt.Sprintf(`{"firstName":"N%02d","source":"s%d"%s}`, i, i%2, email))
		if i%4 == 0 { // so that many share a stamp
			s.clock.Advance(time.Millisecond)
		}
	}
	for _, sort := range []string{
		`[{"field":"dateUpdated","direction":"asc"}]`, `[{"field":"dateAdded","direction":"desc"}]`,
		`[{"field":"email","direction":"asc"}]`, `[{"field":"email","direction":"desc"}]`,
		`[{"field":"source","direction":"desc"},{"field":"firstNameLowerCase","direction":"asc"}]`, `[{"field":"dnd","direction":"asc"}]`, `[]`,
	} {
		t.Run(sort, func(t *testing.T) {
			all := names(s.search(t, `"pageLimit":500,"sort":`+sort))
			want(t, "found", len(strings.Fields(all)), n)
			var byCursor, byPage []map[string]any
			cursor := `[]`
			for {
				items := s.search(t, `"pageLimit":5,"sort":`+sort+`,"searchAfter":`+cursor)
				byCursor = append(byCursor, items...)
				if len(items) < 5 {
					break
				}
				raw, err := json.Marshal(items[len(items)-1]["searchAfter"])
				if err != nil {
					t.Fatal(err)
				}
				cursor = string(raw)
			}
			for page := 1; page <= 5; page++ {
				byPage = append(byPage, s.search(t, fmt.Sprintf(`"pageLimit":5,"page":%d,"sort":%s`, page, sort))...)
			}
			want(t, "by cursor", names(byCursor), all)
			want(t, "by page", names(byPage), all)
		})
	}
}

func TestIndexLag(t *testing.T) {
	s := setup(t, func(c *ghlsim.Config) { c.IndexLag = 0 }) // the default, 2 s
	find := func() string { return names(s.search(t, `"pageLimit":10`)) }
	id := s.create(`{"firstName":"A"}`)
	want(t, "at once", find(), "")
	s.clock.Advance(2 * time.Second)
	want(t, "after the lag", find(), "A")
	s.do("PUT", "/contacts/"+id, `{"firstName":"B"}`)
	s.clock.Advance(time.Second)
	s.do("PUT", "/contacts/"+id, `{"firstName":"C"}`)
	want(t, "get", s.contact(id)["firstName"], any("C"))
	want(t, "still the first", find(), "A")
	s.clock.Advance(time.Second)
	want(t, "the second", find(), "B")
	s.clock.Advance(time.Second)
	want(t, "the third", find(), "C")
	want(t, "delete", s.do("DELETE", "/contacts/"+id, "").status, 200)
	want(t, "deleted, still found", find(), "C")
	want(t, "deleted", s.do("GET", "/contacts/"+id, "").status, 400)
	s.clock.Advance(2 * time.Second)
	want(t, "gone", find(), "")
	for i := range 200 { // more versions than are kept
		if i == 0 {
			id = s.create(`{"firstName":"V"}`)
		}
		s.do("PUT", "/contacts/"+id, fmt.Sprintf(`{"firstName":"V%d"}`, i))
	}
	s.clock.Advance(2 * time.Second)
	want(t, "after many versions", find(), "V199")
}

// Polling all of a large location must stay cheap: a page costs one pass.
func TestSearchLarge(t *testing.T) {
	s := setup(t, nil)
	const n = 20_000
	for i := range n {
		if _, err := s.Edit(ghlsim.Edit{Kind: ghlsim.EditCreate, LocationID: "loc1", Fields: map[string]any{"email": fmt.Sprintf("u%d@x.org", i)}}); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[any]bool{}
	cursor := `[]`
	for {
		items := s.search(t, `"pageLimit":500,"sort":[{"field":"dateUpdated","direction":"asc"}],"searchAfter":`+cursor)
		for _, x := range items {
			seen[x["id"]] = true
		}
		if len(items) < 500 {
			break
		}
		raw, err := json.Marshal(items[len(items)-1]["searchAfter"])
		if err != nil {
			t.Fatal(err)
		}
		cursor = string(raw)
	}
	want(t, "contacts seen", len(seen), n)
}
