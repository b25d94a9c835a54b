package ghlsim_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/causeway-sync/causeway/internal/ghlsim"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// state is a contact as the ledger tells it.
type state struct {
	Fields map[string]any
	Tags   []string // sorted
}

// replay makes the state out of the ledger of a location: its contacts, or
// else what belongs to them, which have kind and contactId among their fields.
func replay(t interface{ Errorf(string, ...any) }, ledger []ghlsim.LedgerEntry, location string, contacts bool) map[string]state {
	out := map[string]state{}
	for i, e := range ledger {
		if e.Seq != int64(i+1) {
			t.Errorf("entry %d has seq %d", i, e.Seq)
		}
		if e.LocationID != location || contacts != (e.Kind == ghlsim.KindContact) {
			continue
		}
		st, known := out[e.RecordID]
		if known == (e.Op == ghlsim.OpCreate) {
			t.Errorf("entry %d: %s of a record that exists: %v", e.Seq, e.Op, known)
		}
		if !known {
			st.Fields = map[string]any{}
			if !contacts {
				st.Fields["kind"], st.Fields["contactId"] = e.Kind, e.ContactID
			}
		}
		for _, c := range e.Changes {
			if d := cmp.Diff(st.Fields[c.Field], c.From); d != "" {
				t.Errorf("entry %d: %s did not have that value before: %s", e.Seq, c.Field, d)
			}
			if c.To == nil {
				delete(st.Fields, c.Field)
			} else {
				st.Fields[c.Field] = c.To
			}
		}
		for _, tag := range e.TagsRemoved {
			st.Tags = slices.DeleteFunc(st.Tags, func(x string) bool { return x == tag })
		}
		if st.Tags = append(st.Tags, e.TagsAdded...); len(st.Tags) == 0 {
			st.Tags = nil
		}
		slices.Sort(st.Tags)
		if e.Op == ghlsim.OpDelete {
			if !contacts {
				delete(st.Fields, "kind")
				delete(st.Fields, "contactId")
			}
			if len(st.Fields)+len(st.Tags) > 0 {
				t.Errorf("entry %d: deletion leaves %v", e.Seq, st)
			}
			delete(out, e.RecordID)
			continue
		}
		out[e.RecordID] = st
	}
	return out
}

// dumped is the same out of a dump.
func dumped(contacts []ghlsim.Contact) map[string]state {
	out := map[string]state{}
	for _, c := range contacts {
		st := state{Fields: map[string]any{}}
		for k, v := range c.Fields {
			switch k {
			case "name", "firstNameLowerCase", "lastNameLowerCase", "fullNameLowerCase", "emailLowerCase", "dateAdded", "dateUpdated":
			case "customFields":
				list, _ := v.([]any)
				for _, x := range list {
					m, _ := x.(map[string]any)
					st.Fields[fmt.Sprint("customFields.", m["id"])] = m["value"]
				}
			default:
				st.Fields[k] = v
			}
		}
		st.Tags = append(st.Tags, c.Tags...)
		slices.Sort(st.Tags)
		out[c.ID] = st
	}
	return out
}

// listed is the same out of a list of items.
func listed(items []ghlsim.Item) map[string]state {
	out := map[string]state{}
	for _, x := range items {
		x.Fields["kind"], x.Fields["contactId"] = x.Kind, x.ContactID
		out[x.ID] = state{Fields: x.Fields}
	}
	return out
}

func TestReplayGivesDump(t *testing.T) {
	s := setup(t, nil)
	rapid.Check(t, func(rt *rapid.T) {
		s.Reset()
		locations := []string{"loc1", "loc2"}
		tokens := map[string]string{"loc1": good, "loc2": other}
		ids := map[string][]string{}
		value := rapid.SampledFrom([]string{`"x"`, `"y"`, `null`, `""`})
		email := rapid.SampledFrom([]string{`"a@x.org"`, `"b@x.org"`, `"C@x.org"`, `null`})
		tags := rapid.SliceOfN(rapid.SampledFrom([]string{`"a"`, `"B"`, `" c "`}), 0, 3)
		body := func() string {
			parts := []string{`"city":` + value.Draw(rt, "city"), `"customFields":[{"id":"cf1","field_value":` + value.Draw(rt, "custom") + `}]`}
			if rapid.Bool().Draw(rt, "email?") {
				parts = append(parts, `"email":`+email.Draw(rt, "email"))
			}
			if rapid.Bool().Draw(rt, "tags?") {
				parts = append(parts, `"tags":[`+strings.Join(tags.Draw(rt, "tags"), ",")+`]`)
			}
			if rapid.Bool().Draw(rt, "dnd?") {
				parts = append(parts, `"dnd":true,"dndSettings":{"SMS":{"status":"active"}}`)
			}
			return strings.Join(parts, ",")
		}
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			loc := rapid.SampledFrom(locations).Draw(rt, "location")
			id := "missing"
			if n := len(ids[loc]); n > 0 {
				id = ids[loc][rapid.IntRange(0, n-1).Draw(rt, "contact")]
			}
			var a answer
			step := rapid.IntRange(0, 10).Draw(rt, "step")
			item := "missing"
			kind := rapid.SampledFrom([]string{ghlsim.KindTask, ghlsim.KindNote, ghlsim.KindAppointment}).Draw(rt, "kind")
			if list := s.Items(loc, kind); step > 6 && len(list) > 0 {
				item = list[rapid.IntRange(0, len(list)-1).Draw(rt, "item")].ID
			}
			switch step {
			case 0:
				a = s.as(tokens[loc], "POST", "/contacts/", `{"locationId":"`+loc+`",`+body()+`}`)
			case 1:
				a = s.as(tokens[loc], "POST", "/contacts/upsert", `{"locationId":"`+loc+`",`+body()+`}`)
			case 2:
				s.as(tokens[loc], "PUT", "/contacts/"+id, `{`+body()+`}`)
			case 3:
				s.as(tokens[loc], "POST", "/contacts/"+id+"/tags", `{"tags":[`+strings.Join(tags.Draw(rt, "tags"), ",")+`]}`)
			case 4:
				s.as(tokens[loc], "DELETE", "/contacts/"+id+"/tags", `{"tags":[`+strings.Join(tags.Draw(rt, "tags"), ",")+`]}`)
			case 5:
				s.as(tokens[loc], "DELETE", "/contacts/"+id, "")
			case 6:
				kind := rapid.SampledFrom([]ghlsim.EditKind{ghlsim.EditUpdate, ghlsim.EditAddTags, ghlsim.EditRemoveTags, ghlsim.EditDelete}).Draw(rt, "edit")
				_, err := s.Edit(ghlsim.Edit{Kind: kind, LocationID: loc, ContactID: id, Fields: map[string]any{"companyName": "Acme", "email": "h@x.org"}, Tags: []string{"A", "h"}})
				if err != nil && !errors.Is(err, ghlsim.ErrNotFound) && !errors.Is(err, ghlsim.ErrDuplicate) {
					rt.Errorf("edit: %v", err)
				}
			case 7:
				s.as(tokens[loc], "POST", "/contacts/"+id+"/tasks", `{"title":"Call","dueDate":"2026-02-01T17:00:00Z","completed":false,"body":`+value.Draw(rt, "task")+`}`)
				s.as(tokens[loc], "POST", "/contacts/"+id+"/notes", `{"body":"<p>x</p>"}`)
			case 8:
				path := "/contacts/" + id + "/tasks/" + item
				for _, x := range s.Items(loc, ghlsim.KindTask) {
					if x.ID == item {
						path = "/contacts/" + x.ContactID + "/tasks/" + item
					}
				}
				s.as(tokens[loc], "PUT", path, `{"body":"new"}`)
				s.as(tokens[loc], "PUT", path+"/completed", `{"completed":true}`)
				if rapid.Bool().Draw(rt, "delete?") {
					s.as(tokens[loc], "DELETE", path, "")
				}
			case 9:
				op := rapid.SampledFrom([]string{ghlsim.OpCreate, ghlsim.OpUpdate, ghlsim.OpDelete}).Draw(rt, "op")
				e := ghlsim.ItemEdit{Kind: kind, Op: op, LocationID: loc, ID: item, Fields: map[string]any{"title": rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "title")}}
				if op == ghlsim.OpCreate {
					e.ContactID = id
					maps.Copy(e.Fields, map[string]map[string]any{
						ghlsim.KindTask: {"dueDate": "2026-02-01T17:00:00Z"}, ghlsim.KindNote: {"body": "x"},
						ghlsim.KindAppointment: {"startTime": "2026-02-01T17:00:00Z", "calendarId": map[string]string{"loc1": "cal1", "loc2": "cal9"}[loc]},
					}[kind])
				}
				if _, err := s.EditItem(e); err != nil && !errors.Is(err, ghlsim.ErrNotFound) {
					rt.Errorf("edit item: %v", err)
				}
			case 10:
				winner := id
				if n := len(ids[loc]); n > 0 {
					winner = ids[loc][rapid.IntRange(0, n-1).Draw(rt, "winner")]
				}
				if err := s.Merge(loc, winner, id); err != nil && !errors.Is(err, ghlsim.ErrNotFound) && !errors.Is(err, ghlsim.ErrInvalid) {
					rt.Errorf("merge: %v", err)
				}
			}
			if made, _ := dig(a.body, "contact", "id").(string); made != "" {
				ids[loc] = append(ids[loc], made)
			}
		}
		for _, loc := range locations {
			if d := cmp.Diff(dumped(s.Dump(loc)), replay(rt, s.Ledger(), loc, true)); d != "" {
				rt.Errorf("%s: ledger against dump:\n%s", loc, d)
			}
			if d := cmp.Diff(listed(s.Items(loc, "")), replay(rt, s.Ledger(), loc, false)); d != "" {
				rt.Errorf("%s: ledger against items:\n%s", loc, d)
			}
			for _, x := range s.Items(loc, "") {
				if _, ok := s.Contact(loc, x.ContactID); !ok {
					rt.Errorf("%s of a contact that is not there", x.Kind)
				}
			}
		}
		// In a location without duplicates an email has one owner.
		owners := map[any]string{}
		for _, c := range s.Dump("loc1") {
			if e := c.Fields["email"]; e != nil {
				if o, taken := owners[e]; taken {
					rt.Errorf("%s and %s share an email", o, c.ID)
				}
				owners[e] = c.ID
			}
		}
	})
}

func TestLedger(t *testing.T) {
	s := setup(t, nil)
	id := s.create(`{"firstName":"Ana","tags":["a"]}`)
	s.do("PUT", "/contacts/"+id, `{"firstName":null}`)
	s.do("PUT", "/contacts/"+id, `{"firstName":null}`)
	if _, err := s.Edit(ghlsim.Edit{Kind: ghlsim.EditAddTags, LocationID: "loc1", ContactID: id, Tags: []string{"B"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Edit(ghlsim.Edit{Kind: ghlsim.EditDelete, LocationID: "loc1", ContactID: id}); err != nil {
		t.Fatal(err)
	}
	at, ms := s.clock.Now(), s.clock.Now().UnixMilli()
	base := ghlsim.LedgerEntry{At: at, LocationID: "loc1", Kind: ghlsim.KindContact, RecordID: id, ContactID: id}
	entry := func(seq int64, actor, op string, updated int64, changes []ghlsim.FieldChange, added, removed []string) ghlsim.LedgerEntry {
		e := base
		e.Seq, e.Actor, e.Op, e.DateUpdated, e.Changes, e.TagsAdded, e.TagsRemoved = seq, actor, op, updated, changes, added, removed
		return e
	}
	want(t, "ledger", s.Ledger(), []ghlsim.LedgerEntry{
		entry(1, "api", "create", ms, []ghlsim.FieldChange{{Field: "firstName", To: "Ana"}, {Field: "type", To: "lead"}}, []string{"a"}, nil),
		entry(2, "api", "update", ms+1, []ghlsim.FieldChange{{Field: "firstName", From: "Ana"}}, nil, nil),
		entry(3, "api", "update", ms+2, nil, nil, nil),
		entry(4, "human", "tags", ms+3, nil, []string{"b"}, nil),
		entry(5, "human", "delete", ms+3, []ghlsim.FieldChange{{Field: "type", From: "lead"}}, nil, []string{"a", "b"}),
	})
}

func TestLedgerMax(t *testing.T) {
	s := setup(t, func(c *ghlsim.Config) { c.LedgerMax = 4 })
	for range 6 {
		s.create(`{}`)
	}
	l := s.Ledger()
	want(t, "first, count, forgotten", []int64{l[0].Seq, int64(len(l)), s.Stats().LedgerForgotten}, []int64{3, 4, 2})
}

func TestEditErrors(t *testing.T) {
	tests := []struct {
		name string
		edit ghlsim.Edit
		want error
	}{
		{"no location", ghlsim.Edit{Kind: ghlsim.EditCreate, LocationID: "x"}, ghlsim.ErrNotFound},
		{"no contact", ghlsim.Edit{Kind: ghlsim.EditDelete, LocationID: "loc1", ContactID: "x"}, ghlsim.ErrNotFound},
		{"no kind", ghlsim.Edit{LocationID: "loc1", ContactID: "ID"}, ghlsim.ErrInvalid},
		{"unknown field", ghlsim.Edit{Kind: ghlsim.EditCreate, LocationID: "loc1", Fields: map[string]any{"zip": "1"}}, ghlsim.ErrInvalid},
		{"unknown custom field", ghlsim.Edit{Kind: ghlsim.EditCreate, LocationID: "loc1", Fields: map[string]any{"customFields.zip": "1"}}, ghlsim.ErrInvalid},
		{"duplicate", ghlsim.Edit{Kind: ghlsim.EditCreate, LocationID: "loc1", Fields: map[string]any{"email": "A@x.org"}}, ghlsim.ErrDuplicate},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := setup(t, nil)
			id := s.create(`{"email":"a@x.org"}`)
			if tt.edit.ContactID == "ID" {
				tt.edit.ContactID = id
			}
			if _, err := s.Edit(tt.edit); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			want(t, "contacts", len(s.Dump("loc1")), 1)
		})
	}
}

func TestEditAndDumpAreCopies(t *testing.T) {
	s := setup(t, nil)
	likes := []any{"tea"}
	id, err := s.Edit(ghlsim.Edit{Kind: ghlsim.EditCreate, LocationID: "loc1", Tags: []string{"A"}, Fields: map[string]any{
		"companyName": "Acme", "customFields.likes": likes, "customFields.cf2": 7, "dnd": true,
	}})
	if err != nil {
		t.Fatal(err)
	}
	likes[0] = "changed"
	d := s.Dump("loc1")[0]
	want(t, "dump", []any{d.ID, d.Fields["companyName"], d.Fields["dnd"], d.Tags}, []any{id, "Acme", true, []string{"a"}})
	want(t, "custom", d.Fields["customFields"], any([]any{
		map[string]any{"id": "cf2", "value": 7.0}, map[string]any{"id": "cf3", "value": []any{"tea"}},
	}))
	d.Fields["companyName"], d.Tags[0] = "changed", "changed"
	d = s.Dump("loc1")[0]
	want(t, "dump again", []any{d.Fields["companyName"], d.Tags}, []any{"Acme", []string{"a"}})
	if _, err := s.Edit(ghlsim.Edit{Kind: ghlsim.EditUpdate, LocationID: "loc1", ContactID: id, Fields: map[string]any{
		"companyName": nil, "customFields.cf2": nil, "dnd": nil,
	}}); err != nil {
		t.Fatal(err)
	}
	f := s.Dump("loc1")[0].Fields
	want(t, "cleared", []any{f["companyName"], f["dnd"], len(f["customFields"].([]any))}, []any{nil, nil, 1})
}
