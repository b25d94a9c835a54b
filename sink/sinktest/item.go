package sinktest

import (
	"net/http"
	"strings"
	"testing"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/sink/apply"
	"github.com/causeway-sync/causeway/sink/plan"
)

// item returns a live item of a kind with the given fields.
func item(kind canonical.Kind, fields map[string]string) canonical.Event {
	e := canonical.NewEvent(kind, canonical.NewID("alpine-guild", kind, canonical.GHL, "seed"))
	e.Version = 1
	for f, v := range fields {
		e.SetField(f, v)
	}
	return e
}

func task() canonical.Event {
	return item(canonical.KindTask, map[string]string{"title": "Renewal call", "body": "About the dues", "due": "2026-02-01T17:00:00Z"})
}

func note() canonical.Event {
	return item(canonical.KindNote, map[string]string{"title": "Call", "body": "Asked about the dues", "written": "2026-01-05T09:30:00Z"})
}

func appointment() canonical.Event {
	return item(canonical.KindAppointment, map[string]string{"title": "Coffee", "notes": "Bring the forms", "start": "2026-02-01T17:00:00Z", "end": "2026-02-01T17:30:00Z"})
}

// place makes a record of e and returns it as it is then read.
func (b *bundle) place(t *testing.T, e canonical.Event, parent canonical.ExternalID) (apply.Ref, map[string]string) {
	t.Helper()
	readings, err := b.Create(t.Context(), e, parent, b.planFor(e))
	if err != nil || len(readings) != 1 || readings[0].External == "" {
		t.Fatalf("create: %+v, %v", readings, err)
	}
	at := apply.Ref{Kind: e.Kind(), Parent: parent, ID: readings[0].External}
	return at, b.look(t, at)
}

// look returns what the item shows, and checks that it hangs on its contact.
func (b *bundle) look(t *testing.T, at apply.Ref) map[string]string {
	t.Helper()
	r, err := b.Read(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	if r.Parent != at.Parent || r.ReadBegan.IsZero() {
		t.Errorf("a reading of an item of %s: %+v", at.Parent, r)
	}
	s, err := b.Lens.Show(observation.Observation{System: b.Name, Kind: at.Kind, Endpoint: r.Endpoint, Parent: r.Parent, Record: r.Record})
	if err != nil {
		t.Fatal(err)
	}
	return s.Fields
}

// write makes the record show fields, as a plan of these would.
func (b *bundle) write(t *testing.T, e canonical.Event, at apply.Ref, fields map[string]string) error {
	t.Helper()
	for f, v := range fields {
		e.SetField(f, v)
	}
	var now apply.Reading
	if b.ReadsFirst(at.Kind) {
		var err error
		if now, err = b.ReadToUpdate(t.Context(), at); err != nil {
			return err
		}
	}
	_, err := b.Update(t.Context(), e, at, plan.Plan{External: at.ID, Fields: fields}, now)
	return err
}

// holds reports what of want the record doesn't show.
func holds(t *testing.T, got, want map[string]string) {
	t.Helper()
	for f, v := range want {
		if got[f] != v {
			t.Errorf("%s: got %q, want %q", f, got[f], v)
		}
	}
}

func items(t *testing.T, newSystem func(*testing.T) System) {
	for _, tt := range []struct {
		name   string
		e      canonical.Event
		shown  map[string]string // what is read of it
		change map[string]string
	}{
		{"task", task(), map[string]string{"title": "Renewal call", "body": "About the dues", "due": "2026-02-01T17:00:00Z", "completed": ""},
			map[string]string{"title": "Second call", "body": "", "due": "2026-03-01T08:00:00Z"}},
		{"note", note(), map[string]string{"title": "Call", "body": "Asked about the dues"}, map[string]string{"title": "", "body": ""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Run("create, update, delete", func(t *testing.T) {
				b := setup(t, newSystem(t))
				at, shown := b.place(t, tt.e, b.create(t, contact()))
				holds(t, shown, tt.shown)
				for f, v := range tt.change {
					if err := b.write(t, tt.e, at, map[string]string{f: v}); err != nil {
						t.Fatalf("update of %s: %v", f, err)
					}
				}
				shown = b.look(t, at)
				holds(t, shown, tt.change)
				if err := b.Delete(t.Context(), at); err != nil {
					t.Fatal(err)
				}
				if n := b.Items(); n != 0 {
					t.Errorf("%d items after the delete", n)
				}
				for op, err := range map[string]error{"delete": b.Delete(t.Context(), at), "update": b.write(t, tt.e, at, tt.change)} {
					if apierr.ClassOf(err) != apierr.Gone {
						t.Errorf("%s of what is gone: %v", op, err)
					}
				}
			})
			t.Run("an answer that got lost", func(t *testing.T) {
				b := setup(t, newSystem(t))
				parent := b.create(t, contact())
				other := tt.e
				other.SetField("body", "Something else")
				first, _ := b.place(t, other, parent)
				if _, found, err := b.Find(t.Context(), tt.e, parent); found || err != nil {
					t.Fatalf("before: %t, %v", found, err)
				}
				b.LoseAnswers(true)
				_, err := b.Create(t.Context(), tt.e, parent, b.planFor(tt.e))
				b.LoseAnswers(false)
				if apierr.ClassOf(err) != apierr.Ambiguous {
					t.Errorf("got %v", err)
				}
				r, found, err := b.Find(t.Context(), tt.e, parent)
				if !found || err != nil || r.External == first.ID || r.Parent != parent {
					t.Errorf("it was made and what is found is %+v %t %v", r, found, err)
				}
				if n := b.Items(); n != 2 {
					t.Errorf("%d items", n)
				}
				b.LoseAnswers(true)
				err = b.Delete(t.Context(), first)
				b.LoseAnswers(false)
				if apierr.ClassOf(err) != apierr.Ambiguous || b.Items() != 1 {
					t.Errorf("delete: %v, %d items", err, b.Items())
				}
			})
			t.Run("one that says nothing", func(t *testing.T) {
				b := setup(t, newSystem(t))
				parent := b.create(t, contact())
				e := item(tt.e.Kind(), nil)
				at, _ := b.place(t, e, parent)
				if r, found, err := b.Find(t.Context(), e, parent); !found || err != nil || r.External != at.ID {
					t.Errorf("got %+v %t %v, want %s", r, found, err, at.ID)
				}
				if err := b.write(t, e, at, map[string]string{"body": "New"}); err != nil {
					t.Fatal(err)
				}
				holds(t, b.look(t, at), map[string]string{"body": "New"})
			})
		})
	}
	t.Run("a task is completed and reopened", func(t *testing.T) {
		b, e := setup(t, newSystem(t)), task()
		at, before := b.place(t, e, b.create(t, contact()))
		var puts []string
		b.answers(func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPut {
				puts = append(puts, r.URL.Path)
			}
			return false
		})
		for _, completed := range []string{"true", ""} {
			if err := b.write(t, e, at, map[string]string{"completed": completed}); err != nil {
				t.Fatal(err)
			}
			before["completed"] = completed
			holds(t, b.look(t, at), before)
		}
		if len(puts) != 2 || b.Name == canonical.GHL && !strings.HasSuffix(puts[0], "/completed") {
			t.Errorf("the writes: %q", puts)
		}
	})
	t.Run("an appointment is written to Novi only", func(t *testing.T) {
		b, e := setup(t, newSystem(t)), appointment()
		parent := b.create(t, contact())
		if b.Name == canonical.GHL {
			at := apply.Ref{Kind: canonical.KindAppointment, Parent: parent, ID: "a1"}
			_, create := b.Create(t.Context(), e, parent, plan.Plan{Create: true})
			_, update := b.Update(t.Context(), e, at, plan.Plan{External: "a1"}, apply.Reading{})
			for op, err := range map[string]error{"create": create, "update": update, "delete": b.Delete(t.Context(), at)} {
				if apierr.ClassOf(err) != apierr.Invalid {
					t.Errorf("%s: %v", op, err)
				}
			}
			if p := b.planFor(e); !p.Empty() || b.Items() != 0 {
				t.Errorf("planned %+v, %d items", p, b.Items())
			}
			return
		}
		at, shown := b.place(t, e, parent)
		holds(t, shown, map[string]string{"title": "Coffee", "start": "2026-02-01T17:00:00Z", "summary": e.Field("summary")})
		if r, found, err := b.Find(t.Context(), e, parent); !found || err != nil || r.External != at.ID {
			t.Errorf("got %+v %t %v, want %s", r, found, err, at.ID)
		}
		if err := b.write(t, e, at, map[string]string{"start": "2026-02-02T17:00:00Z"}); err != nil {
			t.Fatal(err)
		}
		holds(t, b.look(t, at), map[string]string{"title": "Coffee", "start": "2026-02-02T17:00:00Z"})
	})
	t.Run("a contact that is deleted", func(t *testing.T) {
		b := setup(t, newSystem(t))
		id := b.create(t, contact())
		b.Clobber(id)
		if err := b.Delete(t.Context(), ref(id)); err != nil {
			t.Fatal(err)
		}
		if !b.Retired(id) {
			t.Error("it is there as before")
		}
		if err := b.Delete(t.Context(), ref("nobody0000000000000")); apierr.ClassOf(err) != apierr.Gone {
			t.Errorf("nobody there: %v", err)
		}
	})
}
