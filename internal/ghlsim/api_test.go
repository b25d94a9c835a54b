package ghlsim_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/causeway-sync/causeway/internal/ghlsim"
)

func TestHeaders(t *testing.T) {
	tests := []struct {
		name    string
		edit    func(map[string]string)
		method  string
		path    string
		status  int
		message any
		err     any
	}{
		{"no authorization", func(h map[string]string) { delete(h, "Authorization") }, "GET", "/locations/loc1", 401, "Invalid JWT", "Unauthorized"},
		{"unknown token", func(h map[string]string) { h["Authorization"] = "Bearer x" }, "GET", "/locations/loc1", 401, "Invalid token: access token is invalid", "Unauthorized"},
		{"unknown PIT", func(h map[string]string) { h["Authorization"] = "Bearer pit-x" }, "GET", "/locations/loc1", 401, "Invalid Private Integration token", "Unauthorized"},
		{"expired", func(h map[string]string) { h["Authorization"] = "Bearer " + expired }, "GET", "/locations/loc1", 401, "Invalid token: access token is invalid", "Unauthorized"},
		{"no version", func(h map[string]string) { delete(h, "Version") }, "GET", "/locations/loc1", 401, "version header was not found.", "Unauthorized"},
		{"bad version", func(h map[string]string) { h["Version"] = "2020-01-01" }, "GET", "/locations/loc1", 401, "version header is invalid", "Unauthorized"},
		{"other published version", func(h map[string]string) { h["Version"] = "2021-04-15" }, "GET", "/locations/loc1", 200, nil, nil},
		{"token before version", func(h map[string]string) { delete(h, "Version"); h["Authorization"] = "Bearer x" }, "GET", "/locations/loc1", 401, "Invalid token: access token is invalid", "Unauthorized"},
		{"missing scope", func(h map[string]string) { h["Authorization"] = "Bearer " + readOnly }, "DELETE", "/contacts/c1", 401, "The token is not authorized for this scope.", "Unauthorized"},
		{"other location", func(h map[string]string) { h["Authorization"] = "Bearer " + other }, "GET", "/locations/loc1", 403, "The token does not have access to this location.", nil},
		{"PUT tags", nil, "PUT", "/contacts/c1/tags", 404, "Cannot PUT /contacts/c1/tags", "Not Found"},
		{"missing contact", nil, "GET", "/contacts/c1", 400, "Contact with id c1 not found", nil},
		{"missing contact PUT", nil, "PUT", "/contacts/c1", 400, "Contact with id c1 not found", nil},
		{"missing contact DELETE", nil, "DELETE", "/contacts/c1", 400, "Contact with id c1 not found", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := setup(t, nil)
			h := headers(good)
			if tt.edit != nil {
				tt.edit(h)
			}
			a, err := s.send(tt.method, tt.path, "", h)
			if err != nil {
				t.Fatal(err)
			}
			want(t, "status", a.status, tt.status)
			want(t, "message", a.body["message"], tt.message)
			want(t, "error", a.body["error"], tt.err)
			if id, _ := a.body["traceId"].(string); len(id) != 36 {
				t.Errorf("traceId %q", id)
			}
			if tt.status != 200 {
				want(t, "statusCode", a.body["statusCode"], float64(tt.status))
			}
			for _, k := range []string{"Limit-Daily", "Daily-Remaining", "Interval-Milliseconds", "Max", "Remaining"} {
				if a.header.Get("X-RateLimit-"+k) == "" {
					t.Errorf("no header X-RateLimit-%s", k)
				}
			}
		})
	}
}

func TestRateLimit(t *testing.T) {
	s := setup(t, func(c *ghlsim.Config) { c.Burst, c.Daily, c.Quirks.RetryAfter = 3, 5, true })
	step := func(status int, burst, daily string) {
		t.Helper()
		a := s.do("GET", "/locations/loc1", "")
		want(t, "status", a.status, status)
		want(t, "remaining", a.header.Get("X-RateLimit-Remaining"), burst)
		want(t, "daily remaining", a.header.Get("X-RateLimit-Daily-Remaining"), daily)
		want(t, "max", a.header.Get("X-RateLimit-Max"), "3")
		want(t, "daily", a.header.Get("X-RateLimit-Limit-Daily"), "5")
		want(t, "interval", a.header.Get("X-RateLimit-Interval-Milliseconds"), "10000")
	}
	step(200, "2", "4")
	s.clock.Advance(4 * time.Second)
	step(200, "1", "3")
	step(200, "0", "2")
	step(429, "0", "2")
	a := s.do("GET", "/locations/loc1", "")
	want(t, "retry after", a.header.Get("Retry-After"), "6")
	want(t, "another location", s.as(other, "GET", "/locations/loc2", "").status, 200)
	s.clock.Advance(6 * time.Second) // the first one leaves the window
	step(200, "0", "1")
	step(429, "0", "1")
	s.clock.Advance(10 * time.Second)
	step(200, "2", "0")
	step(429, "2", "0") // the day is spent
	s.clock.Advance(24 * time.Hour)
	step(200, "2", "4")
	want(t, "counted 429s", s.Stats().HTTP429, 4)
}

func TestBodyRules(t *testing.T) {
	create := func(more string) string { return `{"locationId":"loc1"` + more + `}` }
	tests := []struct {
		name, method, path, body string
		status                   int
		message                  string // JSON
	}{
		{"create needs locationId", "POST", "/contacts/", `{}`, 422, `["locationId must be a string","locationId should not be empty"]`},
		{"create unknown keys", "POST", "/contacts/", create(`,"zip":1,"foo":2`), 422, `["property foo should not exist","property zip should not exist"]`},
		{"create elsewhere", "POST", "/contacts/", `{"locationId":"loc2"}`, 403, `"The token does not have access to this location."`},
		{"create bad email", "POST", "/contacts/", create(`,"email":"a@b"`), 422, `["email must be an email"]`},
		{"create bad types", "POST", "/contacts/", create(`,"dnd":"yes","firstName":1,"tags":"a"`), 422,
			`["dnd must be a boolean value","firstName must be a string","each value in tags must be a string","tags must be an array"]`},
		{"create null postalCode", "POST", "/contacts/", create(`,"postalCode":null`), 422, `["postalCode must be a string"]`},
		{"create bad birthday", "POST", "/contacts/", create(`,"dateOfBirth":"5 Jan 2000"`), 422, `["dateOfBirth must be a valid date"]`},
		{"create bad dnd status", "POST", "/contacts/", create(`,"dndSettings":{"SMS":{"status":"on"}}`), 422,
			`["dndSettings.SMS.status must be one of the following values: active, inactive, permanent"]`},
		{"create malformed custom field", "POST", "/contacts/", create(`,"customFields":[{"fieldId":{"id":"cf1"},"field_value":"x"}]`), 422,
			`["customFields.0.property fieldId should not exist"]`},
		{"create custom field without id", "POST", "/contacts/", create(`,"customFields":[{"value":"x"}]`), 422, `["customFields.0.id should not be empty"]`},
		{"create with upsert's flag", "POST", "/contacts/", create(`,"createNewIfDuplicateAllowed":true`), 422, `["property createNewIfDuplicateAllowed should not exist"]`},
		{"not JSON", "POST", "/contacts/", `{`, 400, `"Unexpected token in JSON"`},
		{"put companyName", "PUT", "/contacts/ID", `{"companyName":"X"}`, 422, `["property companyName should not exist"]`},
		{"put gender", "PUT", "/contacts/ID", `{"gender":"X"}`, 422, `["property gender should not exist"]`},
		{"put locationId", "PUT", "/contacts/ID", `{"locationId":"loc1"}`, 422, `["property locationId should not exist"]`},
		{"put null tags", "PUT", "/contacts/ID", `{"tags":null}`, 422, `["each value in tags must be a string","tags must be an array"]`},
		{"upsert needs locationId", "POST", "/contacts/upsert", `{"email":"a@b.co"}`, 422, `["locationId must be a string","locationId should not be empty"]`},
		{"tags need tags", "POST", "/contacts/ID/tags", `{}`, 422, `["each value in tags must be a string","tags must be an array"]`},
		{"tags refuse locationId", "DELETE", "/contacts/ID/tags", `{"tags":[],"locationId":"loc1"}`, 422, `["property locationId should not exist"]`},
		{"duplicate lookup needs a key", "GET", "/contacts/search/duplicate?locationId=loc1", "", 400, `"Pass at least one of number, email query parameter"`},
		{"duplicate lookup needs locationId", "GET", "/contacts/search/duplicate?email=a@b.co", "", 422, `["locationId must be a string","locationId should not be empty"]`},
		{"custom fields of no model", "GET", "/locations/loc1/customFields?model=x", "", 422, `["model must be one of the following values: contact, opportunity, all"]`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := setup(t, nil)
			id := s.create(`{"firstName":"Ana"}`)
			before := len(s.Ledger())
			a := s.do(tt.method, strings.Replace(tt.path, "ID", id, 1), tt.body)
			want(t, "status", a.status, tt.status)
			want(t, "message", a.body["message"], parse(t, tt.message))
			if tt.status == 422 {
				want(t, "error", a.body["error"], any("Unprocessable Entity"))
			}
			want(t, "changes", len(s.Ledger())-before, 0)
		})
	}
}

func TestStoredForms(t *testing.T) {
	tests := []struct {
		name, first, put string
		want             string // JSON: keys that must be so; null: absent
	}{
		{"lower-cased email", `{"email":" Ana@Example.ORG "}`, ``, `{"email":"ana@example.org","emailLowerCase":"ana@example.org"}`},
		{"national phone", `{"phone":"(512) 555-0100"}`, ``, `{"phone":"+15125550100"}`},
		{"E.164 phone", `{"phone":"+49 30 901820"}`, ``, `{"phone":"+4930901820"}`},
		{"unreadable phone stays", `{"phone":"ext. 5"}`, ``, `{"phone":"ext. 5"}`},
		{"tags", `{"tags":[" Member ","member","BOARD",""]}`, ``, `{"tags":["member","board"]}`},
		{"names", `{"firstName":"Ana","lastName":"Ruiz"}`, ``, `{"name":"Ana Ruiz","firstNameLowerCase":"ana","lastNameLowerCase":"ruiz","fullNameLowerCase":"ana ruiz"}`},
		{"name is split", `{"name":"Ana de Ruiz"}`, ``, `{"firstName":"Ana","lastName":"de Ruiz","name":"Ana de Ruiz"}`},
		{"first and last win over name", `{"name":"X Y","firstName":"Ana"}`, ``, `{"firstName":"Ana","lastName":null,"name":"Ana"}`},
		{"empty keys are absent", `{"firstName":"Ana"}`, ``, `{"email":null,"tags":null,"customFields":null,"dnd":null,"type":"lead"}`},
		{"gender is discarded", `{"gender":"f"}`, ``, `{"gender":null}`},
		{"companyName on create", `{"companyName":"Acme"}`, ``, `{"companyName":"Acme"}`},
		{"birthday ISO", `{"dateOfBirth":"2000-01-05"}`, ``, `{"dateOfBirth":"2000-01-05T00:00:00.000Z"}`},
		{"birthday US", `{"dateOfBirth":"01/05/2000"}`, ``, `{"dateOfBirth":"2000-01-05T00:00:00.000Z"}`},
		{"birthday dots", `{"dateOfBirth":"2000.01.05"}`, ``, `{"dateOfBirth":"2000-01-05T00:00:00.000Z"}`},
		{"birthday underscores", `{"dateOfBirth":"01_05_2000"}`, ``, `{"dateOfBirth":"2000-01-05T00:00:00.000Z"}`},
		{"partial put", `{"firstName":"Ana","city":"Austin"}`, `{"city":"Waco"}`, `{"firstName":"Ana","city":"Waco"}`},
		{"null clears", `{"firstName":"Ana","city":"Austin"}`, `{"city":null}`, `{"firstName":"Ana","city":null}`},
		{"empty clears", `{"email":"a@b.co","postalCode":"1","dateOfBirth":"2000-01-05"}`, `{"email":"","postalCode":"","dateOfBirth":""}`,
			`{"email":null,"emailLowerCase":null,"postalCode":null,"dateOfBirth":null}`},
		{"put tags overwrite", `{"tags":["a","b"]}`, `{"tags":["C"]}`, `{"tags":["c"]}`},
		{"put empty tags", `{"tags":["a","b"]}`, `{"tags":[]}`, `{"tags":null}`},
		{"custom fields merge", `{"customFields":[{"id":"cf1","field_value":"1"},{"id":"cf2","fieldValue":"2.5"}]}`,
			`{"customFields":[{"key":"likes","value":["x"]},{"key":"contact.member_id","field_value":"9"}]}`,
			`{"customFields":[{"id":"cf1","value":"9"},{"id":"cf2","value":2.5},{"id":"cf3","value":["x"]}]}`},
		{"custom field cleared", `{"customFields":[{"id":"cf1","field_value":"1"},{"id":"cf3","value":["a"]}]}`,
			`{"customFields":[{"id":"cf1","field_value":""},{"id":"cf3","field_value":[]}]}`, `{"customFields":null}`},
		{"unknown custom field is ignored", `{"customFields":[{"id":"nope","field_value":"1"}]}`, ``, `{"customFields":null}`},
		{"dnd settings merge", `{"dnd":true,"dndSettings":{"Email":{"status":"active","message":"m","code":"1"}}}`,
			`{"dndSettings":{"SMS":{"status":"inactive"}}}`,
			`{"dnd":true,"dndSettings":{"Email":{"status":"active","message":"m","code":"1"},"SMS":{"status":"inactive"}}}`},
		{"permanent stays", `{"dndSettings":{"Email":{"status":"permanent"}}}`, `{"dndSettings":{"Email":{"status":"inactive"}}}`,
			`{"dndSettings":{"Email":{"status":"permanent"}}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := setup(t, nil)
			id := s.create(tt.first)
			if tt.put != "" {
				a := s.do("PUT", "/contacts/"+id, tt.put)
				want(t, "put status", a.status, 200)
				want(t, "succeded", a.body["succeded"], any(true))
				want(t, "put reply", a.body["contact"], any(s.contact(id)))
			}
			got := s.contact(id)
			wanted, _ := parse(t, tt.want).(map[string]any)
			for k, w := range wanted {
				g, sent := got[k]
				want(t, k, g, w)
				want(t, k+" present", sent, w != nil)
			}
		})
	}
}

func TestDuplicates(t *testing.T) {
	type call struct{ method, path, body string }
	tests := []struct {
		name   string
		call   call
		status int
		meta   string // JSON; A and B stand for the ids
	}{
		{"create by email", call{"POST", "/contacts/", `{"locationId":"loc1","email":"ANA@x.org","phone":"+15125550999"}`}, 400, `{"contactId":"A","contactName":"Ana Ruiz","matchingField":"email"}`},
		{"create by phone", call{"POST", "/contacts/", `{"locationId":"loc1","phone":"512-555-0200"}`}, 400, `{"contactId":"B","contactName":"","matchingField":"phone"}`},
		{"create, email first", call{"POST", "/contacts/", `{"locationId":"loc1","email":"ana@x.org","phone":"5125550200"}`}, 400, `{"contactId":"A","contactName":"Ana Ruiz","matchingField":"email"}`},
		{"create free", call{"POST", "/contacts/", `{"locationId":"loc1","email":"new@x.org"}`}, 201, `null`},
		{"put another's email", call{"PUT", "/contacts/B", `{"email":"ana@x.org"}`}, 400, `{"contactId":"A","contactName":"Ana Ruiz","matchingField":"email"}`},
		{"put another's phone", call{"PUT", "/contacts/B", `{"phone":"+15125550100"}`}, 400, `{"contactId":"A","contactName":"Ana Ruiz","matchingField":"phone"}`},
		{"put own email", call{"PUT", "/contacts/A", `{"email":"ana@x.org"}`}, 200, `null`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := setup(t, nil)
			a := s.create(`{"firstName":"Ana","lastName":"Ruiz","email":"ana@x.org","phone":"+15125550100"}`)
			b := s.create(`{"phone":"+15125550200"}`)
			before := s.Dump("loc1")
			ids := strings.NewReplacer("A", a, "B", b)
			got := s.do(tt.call.method, strings.Replace(strings.Replace(tt.call.path, "/A", "/"+a, 1), "/B", "/"+b, 1), tt.call.body)
			want(t, "status", got.status, tt.status)
			meta := strings.NewReplacer(`"A"`, `"`+ids.Replace("A")+`"`, `"B"`, `"`+ids.Replace("B")+`"`).Replace(tt.meta)
			want(t, "meta", got.body["meta"], parse(t, meta))
			if tt.status == 400 {
				want(t, "message", got.body["message"], any("This location does not allow duplicated contacts."))
				want(t, "contacts", s.Dump("loc1"), before)
			}
		})
	}

	t.Run("allowed", func(t *testing.T) {
		s := setup(t, nil)
		s.createAs(other, "loc2", `{"email":"a@x.org"}`)
		s.createAs(other, "loc2", `{"email":"a@x.org"}`)
		want(t, "contacts", len(s.Dump("loc2")), 2)
	})
	t.Run("freed by change and delete", func(t *testing.T) {
		s := setup(t, nil)
		a := s.create(`{"email":"a@x.org"}`)
		want(t, "put", s.do("PUT", "/contacts/"+a, `{"email":"b@x.org"}`).status, 200)
		b := s.create(`{"email":"a@x.org"}`)
		want(t, "delete", s.do("DELETE", "/contacts/"+b, "").status, 200)
		s.create(`{"email":"a@x.org"}`)
	})
}

func TestLookup(t *testing.T) {
	s := setup(t, func(c *ghlsim.Config) { c.IndexLag = time.Hour })
	a := s.create(`{"email":"ana@x.org","phone":"+15125550100"}`)
	for name, query := range map[string]string{
		"by email": "email=ANA@x.org", "by number": "number=%2B15125550100", "national number": "number=5125550100",
		"one of both": "email=no@x.org&number=%2B15125550100",
	} {
		got := s.do("GET", "/contacts/search/duplicate?locationId=loc1&"+query, "")
		want(t, name, dig(got.body, "contact", "id"), any(a))
	}
	got := s.do("GET", "/contacts/search/duplicate?locationId=loc1&email=no@x.org", "")
	_, sent := got.body["contact"]
	want(t, "miss", []any{got.status, sent, got.body["contact"]}, []any{200, true, nil})
	want(t, "other location", s.do("GET", "/contacts/search/duplicate?locationId=loc2&email=x", "").status, 403)
}

func TestUpsert(t *testing.T) {
	s := setup(t, nil)
	up := func(body string) answer {
		t.Helper()
		a := s.do("POST", "/contacts/upsert", `{"locationId":"loc1",`+body+`}`)
		want(t, "status", a.status, 200)
		return a
	}
	a := up(`"email":"a@x.org","tags":["one"],"companyName":"Acme"`)
	want(t, "new", a.body["new"], any(true))
	id := dig(a.body, "contact", "id")
	b := s.create(`{"phone":"+15125550200"}`)

	// Email matches the first, phone belongs to the second: the phone is
	// silently ignored.
	a = up(`"email":"A@x.org","phone":"+15125550200","tags":["two"],"city":"Austin"`)
	want(t, "second new", a.body["new"], any(false))
	want(t, "same contact", dig(a.body, "contact", "id"), id)
	want(t, "phone", dig(a.body, "contact", "phone"), nil)
	want(t, "city", dig(a.body, "contact", "city"), any("Austin"))
	want(t, "tags overwritten", dig(a.body, "contact", "tags"), any([]any{"two"}))
	want(t, "company kept", dig(a.body, "contact", "companyName"), any("Acme"))
	a = up(`"phone":"+15125550200","createNewIfDuplicateAllowed":true`)
	want(t, "flag ignored without duplicates", dig(a.body, "contact", "id"), any(b))

	s.createAs(other, "loc2", `{"email":"a@x.org"}`)
	want(t, "updates where allowed", s.as(other, "POST", "/contacts/upsert", `{"locationId":"loc2","email":"a@x.org"}`).body["new"], any(false))
	want(t, "creates where allowed", s.as(other, "POST", "/contacts/upsert", `{"locationId":"loc2","email":"a@x.org","createNewIfDuplicateAllowed":true}`).body["new"], any(true))
}

func TestTags(t *testing.T) {
	s := setup(t, nil)
	id := s.create(`{"tags":["one"]}`)
	a := s.do("POST", "/contacts/"+id+"/tags", `{"tags":[" Two ","ONE"]}`)
	want(t, "add", []any{a.status, a.body["tags"]}, []any{201, []any{"one", "two"}})
	a = s.do("DELETE", "/contacts/"+id+"/tags", `{"tags":["One","absent"]}`)
	want(t, "remove", []any{a.status, a.body["tags"]}, []any{200, []any{"two"}})
	a = s.do("DELETE", "/contacts/"+id+"/tags", `{"tags":["two"]}`)
	want(t, "remove last", []any{a.status, a.body["tags"]}, []any{200, []any{}})
	before := len(s.Ledger())
	want(t, "remove absent", s.do("DELETE", "/contacts/"+id+"/tags", `{"tags":["two"]}`).status, 200)
	want(t, "no-op commits", len(s.Ledger())-before, 0)

	var names []any
	list, _ := s.do("GET", "/locations/loc1/tags", "").body["tags"].([]any)
	for _, x := range list {
		names = append(names, dig(x, "name"))
		want(t, "tag location", dig(x, "locationId"), any("loc1"))
	}
	want(t, "location tags", names, []any{"one", "two"})
	want(t, "contact of another location", s.as(other, "POST", "/contacts/"+id+"/tags", `{"tags":["x"]}`).status, 403)

	h := headers(good)
	delete(h, "Content-Type")
	got, err := s.send("POST", "/contacts/"+id+"/tags", `{"tags":["x"]}`, h)
	if err != nil {
		t.Fatal(err)
	}
	want(t, "body without content type", got.status, 422)
}

func TestStamps(t *testing.T) {
	tests := []struct {
		name   string
		quirks ghlsim.Quirks
		call   func(s *sim, id string)
		moved  bool
	}{
		{"put", ghlsim.Quirks{}, func(s *sim, id string) { s.do("PUT", "/contacts/"+id, `{"city":"Waco"}`) }, true},
		{"unchanged put", ghlsim.Quirks{}, func(s *sim, id string) { s.do("PUT", "/contacts/"+id, `{"firstName":"Ana"}`) }, true},
		{"unchanged put, quiet", ghlsim.Quirks{QuietUnchangedPut: true}, func(s *sim, id string) { s.do("PUT", "/contacts/"+id, `{"firstName":"Ana"}`) }, false},
		{"tag", ghlsim.Quirks{}, func(s *sim, id string) { s.do("POST", "/contacts/"+id+"/tags", `{"tags":["x"]}`) }, true},
		{"tag, toggled", ghlsim.Quirks{TagsLeaveDateUpdated: true}, func(s *sim, id string) { s.do("POST", "/contacts/"+id+"/tags", `{"tags":["x"]}`) }, false},
		{"present tag", ghlsim.Quirks{}, func(s *sim, id string) { s.do("POST", "/contacts/"+id+"/tags", `{"tags":["old"]}`) }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := setup(t, func(c *ghlsim.Config) { c.Quirks = tt.quirks })
			id := s.create(`{"firstName":"Ana","tags":["old"]}`)
			was := s.contact(id)
			want(t, "added", was["dateAdded"], any("2026-01-05T10:00:00.000Z"))
			want(t, "updated at first", was["dateUpdated"], was["dateAdded"])
			// The clock stands still; the stamp must move all the same.
			for n := 1; n <= 2; n++ {
				tt.call(s, id)
				if n == 2 && tt.name == "tag" {
					break
				}
				now := "2026-01-05T10:00:00.000Z"
				if tt.moved {
					now = fmt.Sprintf("2026-01-05T10:00:00.%03dZ", n)
				}
				want(t, "updated", s.contact(id)["dateUpdated"], any(now))
			}
		})
	}
}

func TestQuirks(t *testing.T) {
	tests := []struct {
		name   string
		quirks ghlsim.Quirks
		check  func(t *testing.T, s *sim)
	}{
		{"IgnoreCompanyNameOnPut", ghlsim.Quirks{IgnoreCompanyNameOnPut: true}, func(t *testing.T, s *sim) {
			id := s.create(`{"companyName":"Acme"}`)
			want(t, "status", s.do("PUT", "/contacts/"+id, `{"companyName":"New"}`).status, 200)
			want(t, "company", s.contact(id)["companyName"], any("Acme"))
		}},
		{"UnknownCustomField400", ghlsim.Quirks{UnknownCustomField400: true}, func(t *testing.T, s *sim) {
			a := s.do("POST", "/contacts/", `{"locationId":"loc1","customFields":[{"id":"nope","value":"x"}]}`)
			want(t, "reply", []any{a.status, a.body["message"]}, []any{400, "Custom field nope not found"})
		}},
		{"RejectBadPhone", ghlsim.Quirks{RejectBadPhone: true}, func(t *testing.T, s *sim) {
			a := s.do("POST", "/contacts/", `{"locationId":"loc1","phone":"ext. 5"}`)
			want(t, "reply", []any{a.status, a.body["message"]}, []any{422, []any{"phone must be a valid phone number"}})
		}},
		{"LowercaseNames", ghlsim.Quirks{LowercaseNames: true}, func(t *testing.T, s *sim) {
			id := s.create(`{"firstName":"Ana","lastName":"Ruiz"}`)
			item := s.search(t, `"pageLimit":1`)[0]
			want(t, "names", []any{item["firstName"], item["lastName"], item["contactName"], item["firstNameRaw"], item["lastNameRaw"]},
				[]any{"ana", "ruiz", "ana ruiz", "Ana", "Ruiz"})
			want(t, "get", s.contact(id)["firstName"], any("Ana"))
		}},
		{"SearchBirthMillis", ghlsim.Quirks{SearchBirthMillis: true}, func(t *testing.T, s *sim) {
			s.create(`{"dateOfBirth":"1970-01-02"}`)
			want(t, "birth", s.search(t, `"pageLimit":1`)[0]["dateOfBirth"], any(86400000.0))
		}},
		{"DuplicateMissEmpty", ghlsim.Quirks{DuplicateMissEmpty: true}, func(t *testing.T, s *sim) {
			_, sent := s.do("GET", "/contacts/search/duplicate?locationId=loc1&email=x@y.co", "").body["contact"]
			want(t, "contact sent", sent, false)
		}},
		{"TagDeltasInReply", ghlsim.Quirks{TagDeltasInReply: true}, func(t *testing.T, s *sim) {
			id := s.create(`{"tags":["a"]}`)
			a := s.do("POST", "/contacts/"+id+"/tags", `{"tags":["a","b"]}`)
			want(t, "deltas", []any{a.body["tagsAdded"], a.body["tagsRemoved"]}, []any{[]any{"b"}, []any{}})
		}},
		{"StrictAccept", ghlsim.Quirks{StrictAccept: true}, func(t *testing.T, s *sim) {
			h := headers(good)
			delete(h, "Accept")
			a, err := s.send("GET", "/locations/loc1", "", h)
			want(t, "reply", []any{err, a.status, len(a.raw)}, []any{nil, 404, 0})
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.check(t, setup(t, func(c *ghlsim.Config) { c.Quirks = tt.quirks }))
		})
	}
}

func TestLocation(t *testing.T) {
	s := setup(t, nil)
	l := s.do("GET", "/locations/loc1", "").body["location"]
	want(t, "location", []any{dig(l, "id"), dig(l, "timezone"), dig(l, "settings", "allowDuplicateContact")}, []any{"loc1", "America/New_York", false})
	fields, _ := s.do("GET", "/locations/loc1/customFields?model=contact", "").body["customFields"].([]any)
	want(t, "fields", len(fields), 4)
	want(t, "field", []any{dig(fields[0], "id"), dig(fields[0], "fieldKey"), dig(fields[0], "dataType")}, []any{"cf1", "contact.member_id", "TEXT"})
	none, _ := s.do("GET", "/locations/loc1/customFields?model=opportunity", "").body["customFields"].([]any)
	want(t, "opportunity fields", len(none), 0)
}

func TestAPIFaults(t *testing.T) {
	const body = `{"locationId":"loc1","email":"a@x.org"}`
	t.Run("reset after commit", func(t *testing.T) {
		s := setup(t, nil)
		s.SetFaults(ghlsim.Faults{ResetAfterCommit: 1})
		if _, err := s.send("POST", "/contacts/", body, headers(good)); err == nil {
			t.Error("got a reply")
		}
		want(t, "contacts", len(s.Dump("loc1")), 1)
	})
	t.Run("422 but created", func(t *testing.T) {
		s := setup(t, nil)
		s.SetFaults(ghlsim.Faults{CreatedBut422: 1})
		want(t, "status", s.do("POST", "/contacts/", body).status, 422)
		want(t, "contacts", len(s.Dump("loc1")), 1)
	})
	t.Run("429", func(t *testing.T) {
		s := setup(t, nil)
		s.SetFaults(ghlsim.Faults{API429: 7}) // clamped to 1
		a := s.do("POST", "/contacts/", body)
		want(t, "reply", []any{a.status, a.header.Get("X-RateLimit-Remaining"), len(s.Dump("loc1"))}, []any{429, "0", 0})
	})
	t.Run("5xx", func(t *testing.T) {
		s := setup(t, nil)
		s.SetFaults(ghlsim.Faults{API5xx: 1})
		a := s.do("POST", "/contacts/", body)
		if a.status < 500 || a.body["status"] != float64(a.status) {
			t.Errorf("got %d %s", a.status, a.raw)
		}
		want(t, "contacts", len(s.Dump("loc1")), 0)
	})
	t.Run("latency", func(t *testing.T) {
		s := setup(t, nil)
		s.SetFaults(ghlsim.Faults{Latency: 20 * time.Millisecond})
		start := time.Now()
		s.do("GET", "/locations/loc1", "")
		if d := time.Since(start); d < 20*time.Millisecond {
			t.Errorf("answered after %v", d)
		}
	})
}

func TestStats(t *testing.T) {
	s := setup(t, nil)
	id := s.create(`{}`)
	s.do("POST", "/contacts/search", `{"locationId":"loc1","pageLimit":1}`)
	s.do("POST", "/contacts/"+id+"/tags", `{"tags":["a"]}`)
	s.do("PUT", "/contacts/"+id+"/tags", `{"tags":["a"]}`)
	s.contact(id)
	st := s.Stats()
	want(t, "requests", st.Requests, map[string]int{
		"POST /contacts": 1, "POST /contacts/search": 1, "POST /contacts/{id}/tags": 1, "PUT /contacts/{id}/tags": 1, "GET /contacts/{id}": 1,
	})
	want(t, "reads, writes, contacts", []int{st.Reads, st.Writes, st.Contacts}, []int{2, 2, 1})
	st.Requests["x"] = 1
	if maps.Equal(st.Requests, s.Stats().Requests) {
		t.Error("Stats shares its map")
	}
}

func TestNew(t *testing.T) {
	one := []ghlsim.Location{{ID: "l"}}
	tests := []struct {
		name string
		conf ghlsim.Config
		want string
	}{
		{"no locations", ghlsim.Config{}, "no locations"},
		{"same id", ghlsim.Config{Locations: []ghlsim.Location{{ID: "l"}, {ID: "l"}}}, "location 1"},
		{"bad unique field", ghlsim.Config{Locations: []ghlsim.Location{{ID: "l", UniqueFields: []string{"fax"}}}}, "fax"},
		{"same custom field", ghlsim.Config{Locations: []ghlsim.Location{{ID: "l", CustomFields: []ghlsim.CustomField{{ID: "a"}, {ID: "a"}}}}}, "custom field 1"},
		{"same user", ghlsim.Config{Locations: []ghlsim.Location{{ID: "l", Users: []ghlsim.User{{ID: "u"}, {ID: "u"}}}}}, "user 1"},
		{"no such zone", ghlsim.Config{Locations: []ghlsim.Location{{ID: "l", Timezone: "Nowhere"}}}, "timezone"},
		{"token elsewhere", ghlsim.Config{Locations: one, Tokens: []ghlsim.Token{{Value: "secret", LocationID: "m"}}}, "token 0"},
		{"bad key", ghlsim.Config{Locations: one, Webhook: ghlsim.WebhookConfig{PrivateKey: []byte{1}}}, "private key"},
		{"bad policy", ghlsim.Config{Locations: one, Webhook: ghlsim.WebhookConfig{Retry: "never"}}, "never"},
		{"negative limit", ghlsim.Config{Locations: one, Burst: -1}, "negative"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ghlsim.New(tt.conf)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestServe(t *testing.T) {
	s, err := ghlsim.New(ghlsim.Config{Locations: []ghlsim.Location{{ID: "l"}}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	resp, err := http.Get("http://" + l.Addr().String() + "/_sim/stats")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	want(t, "status", resp.StatusCode, 200)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
