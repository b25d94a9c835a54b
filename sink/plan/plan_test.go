package plan_test

import (
	"reflect"
	"testing"

	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/effect"
	"github.com/causeway-sync/causeway/sink/plan"
)

func entity(kind canonical.Kind, fields map[string]string) canonical.Event {
	e := canonical.NewEvent(kind, canonical.NewID("alpine-guild", kind, canonical.GHL, "seed"))
	e.Version = 1
	for f, v := range fields {
		e.SetField(f, v)
	}
	return e
}

func deleted(kind canonical.Kind) canonical.Event {
	e := entity(kind, nil)
	e.SetDeleted(true)
	return e
}

func TestFor(t *testing.T) {
	said := map[string]string{"title": "Call", "body": "The dues:\nlate"}
	task := entity(canonical.KindTask, said)
	rendered := task
	rendered.Sync.Rendered = map[canonical.System]map[string]canonical.Rendering{canonical.GHL: {"due": {Shown: "2026-02-01T17:00:00Z", Value: ""}}}
	propagate := &mapping.Policy{Deletes: map[mapping.Flow]mapping.Delete{{Kind: canonical.KindContact, System: canonical.Novi}: {Action: mapping.Propagate}}}
	unlink := &mapping.Policy{Deletes: map[mapping.Flow]mapping.Delete{{Kind: canonical.KindTask, System: canonical.Novi}: {Action: mapping.Unlink}}}
	off := &mapping.Policy{Off: map[mapping.Flow]bool{{Kind: canonical.KindTask, System: canonical.GHL}: true}}
	there := plan.Expected{External: "x1"}
	tests := []struct {
		name   string
		state  canonical.Event
		x      plan.Expected
		create bool
		policy *mapping.Policy
		want   plan.Plan
	}{
		{"an item is made with all that it says and doesn't", task, plan.Expected{}, true, nil,
			plan.Plan{Create: true, Fields: map[string]string{"title": "Call", "body": "The dues:\nlate", "due": "", "completed": "", "assignee": ""}}},
		{"an item that is not to be made", task, plan.Expected{}, false, nil, plan.Plan{}},
		{"a flow that is off", task, plan.Expected{}, true, off, plan.Plan{}},
		{"what differs", task, plan.Expected{External: "x1", Fields: map[string]string{"title": "Mail", "body": "The dues:\nlate"}}, true, nil,
			plan.Plan{External: "x1", Fields: map[string]string{"title": "Call"}}},
		{"what reads the same is no difference", task, plan.Expected{External: "x1", Fields: map[string]string{"title": "Call", "body": "The dues: \r\nlate\r\n"}}, true, nil,
			plan.Plan{External: "x1", Fields: map[string]string{}}},
		{"what is shown for an empty due date", rendered, plan.Expected{External: "x1", Fields: map[string]string{"title": "Call", "body": "The dues: \r\nlate\r\n", "due": "2026-02-01T17:00:00Z"}}, true, nil,
			plan.Plan{External: "x1", Fields: map[string]string{}}},
		{"a record that somebody took away is not made again", task, plan.Expected{External: "x1", Gone: true}, true, nil, plan.Plan{}},
		{"an item that is deleted", deleted(canonical.KindTask), there, true, nil, plan.Plan{Delete: true, External: "x1"}},
		{"one that is deleted and has no record", deleted(canonical.KindTask), plan.Expected{}, true, nil, plan.Plan{}},
		{"one that is deleted and gone", deleted(canonical.KindTask), plan.Expected{External: "x1", Gone: true}, true, nil, plan.Plan{}},
		{"one that is deleted, where it is to stay", deleted(canonical.KindTask), there, true, unlink, plan.Plan{}},
		{"a contact that is deleted stays unless somebody said otherwise", deleted(canonical.KindContact), there, true, nil, plan.Plan{}},
		{"a contact that is deleted", deleted(canonical.KindContact), there, true, propagate, plan.Plan{Delete: true, External: "x1"}},
		{"an appointment is GHL's own", entity(canonical.KindAppointment, said), plan.Expected{}, true, nil, plan.Plan{}},
		{"an appointment that is deleted is GHL's own", deleted(canonical.KindAppointment), there, true, nil, plan.Plan{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := plan.For(tt.state, canonical.GHL, mapping.Association("US"), tt.x, tt.create, tt.policy)
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
			if wantEmpty := !tt.want.Create && !tt.want.Delete && len(tt.want.Fields) == 0; got.Empty() != wantEmpty {
				t.Errorf("Empty is %t", got.Empty())
			}
		})
	}
}

func TestExpectAfterAWrite(t *testing.T) {
	task := entity(canonical.KindTask, nil)
	tests := []struct {
		name string
		last effect.Effect
		want plan.Expected
	}{
		{"it was made", effect.Effect{State: effect.Done, External: "x1", Wrote: map[string]string{"title": "Call"}}, plan.Expected{External: "x1", Fields: map[string]string{"title": "Call"}}},
		{"the next write came to nothing", effect.Effect{State: effect.Failed, External: "x1"}, plan.Expected{External: "x1"}},
		{"the record that is there is to be adopted", effect.Effect{State: effect.Failed}, plan.Expected{}},
		{"it was deleted", effect.Effect{State: effect.Done, External: "x1", Delete: true}, plan.Expected{External: "x1", Gone: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := plan.Expect(task, canonical.GHL, tt.last); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestDuplicates(t *testing.T) {
	base := func(id canonical.ExternalID, tags ...string) canonical.Base {
		return canonical.Base{External: id, Tagged: true, Tags: tags}
	}
	two := func(change func(*canonical.Event)) canonical.Event {
		e := entity(canonical.KindContact, map[string]string{"first_name": "Ada"})
		e.Links = map[canonical.System][]canonical.ExternalID{canonical.GHL: {"g1", "g2", "g3"}}
		e.Sync.Base = map[canonical.System]canonical.Base{canonical.GHL: base("g1")}
		gone := base("g3")
		gone.Gone = true
		e.Sync.Others = map[canonical.System]map[canonical.ExternalID]canonical.Base{canonical.GHL: {"g2": base("g2", "board"), "g3": gone}}
		if change != nil {
			change(&e)
		}
		return e
	}
	remove, tag := &mapping.Policy{Duplicates: mapping.DeleteDuplicates}, &mapping.Policy{Duplicates: mapping.TagDuplicates, DuplicatesTag: "double"}
	lens, tags := mapping.Association("US"), []string{"board", "double"}
	tests := []struct {
		name   string
		state  canonical.Event
		policy *mapping.Policy
		want   []plan.Plan
	}{
		{"are kept", two(nil), &mapping.Policy{Duplicates: mapping.KeepDuplicates}, nil},
		{"without a policy", two(nil), nil, nil},
		{"are deleted", two(nil), remove, []plan.Plan{{Delete: true, External: "g2"}}},
		{"are tagged", two(nil), tag, []plan.Plan{{External: "g2", AddTags: []string{"double"}, Tags: &tags}}},
		{"have the tag", two(func(e *canonical.Event) { e.Sync.Others[canonical.GHL]["g2"] = base("g2", "double") }), tag, nil},
		{"of a primary that is gone", two(func(e *canonical.Event) {
			e.Sync.Base[canonical.GHL] = canonical.Base{External: "g1", Gone: true}
		}), remove, nil},
		{"of somebody who was merged", two(func(e *canonical.Event) { e.MergedInto = "other" }), remove, nil},
		{"of a tombstone", two(func(e *canonical.Event) { e.SetDeleted(true) }), remove, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []plan.Plan
			for _, d := range plan.Duplicates(tt.state, canonical.GHL, lens, tt.policy) {
				got = append(got, d.Plan)
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// BenchmarkHotPlan plans one changed field of a contact.
func BenchmarkHotPlan(b *testing.B) {
	said := map[string]string{"first_name": "Ada", "last_name": "Imhof", "email": "ada@example.org", "phone": "+12025550143", "address.city": "Ouray", "address.state": "CO", "job_title": "Guide"}
	state := entity(canonical.KindContact, said)
	shown := map[string]string{}
	for f, v := range said {
		shown[f] = v
	}
	shown["address.city"] = "Silverton"
	lens := mapping.Association("US")
	x := plan.Expected{External: "x1", Fields: shown}
	b.ReportAllocs()
	for b.Loop() {
		if p := plan.For(state, canonical.Novi, lens, x, true, nil); p.Fields["address.city"] != "Ouray" {
			b.Fatalf("got %+v", p)
		}
	}
}
