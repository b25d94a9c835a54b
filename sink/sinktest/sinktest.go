// Package sinktest is the suite that every destination passes: what its
// methods promise in package apply, the table of HTTP answers, and that no
// error shows a secret or who it is about.
package sinktest

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/sink/apply"
	"github.com/causeway-sync/causeway/sink/plan"
)

// Secret is the token or key that the system accepts. Nothing in its form says
// that it is one.
const Secret = "zq7-XyZzy-of-no-known-form"

// System is a simulated system and a destination that writes to it.
type System struct {
	Name canonical.System
	// Handler answers as the system.
	Handler http.Handler
	// Connect returns the destination that reaches the system at url.
	Connect func(url string) apply.Destination
	// Lens is what Connect was given.
	Lens *mapping.Lens
	// LoseAnswers makes the system commit writes and drop the connection.
	LoseAnswers func(bool)
	// Clobber changes something at the record that no field is mapped to, as a
	// person would, and Kept reports whether it is still there.
	Clobber func(id canonical.ExternalID)
	Kept    func(id canonical.ExternalID) bool
	// Count returns how many records there are.
	Count func() int
	// Items returns how many tasks, notes and appointments there are.
	Items func() int
	// Retired reports whether a contact is what a delete makes of it, with
	// nothing else lost that Clobber changed.
	Retired func(id canonical.ExternalID) bool
}

// bundle is one system with a proxy before it that can answer in its place.
type bundle struct {
	System
	apply.Destination
	answer atomic.Pointer[func(http.ResponseWriter, *http.Request) bool]
}

func setup(t *testing.T, s System) *bundle {
	t.Helper()
	b := &bundle{System: s}
	origin := httptest.NewServer(s.Handler)
	t.Cleanup(origin.Close)
	to, err := url.Parse(origin.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) } // what the system does, we do
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f := b.answer.Load(); f != nil && (*f)(w, r) {
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	b.Destination = s.Connect(front.URL)
	return b
}

// answers has f answer from now on; it returns false for what the system
// itself is to answer.
func (b *bundle) answers(f func(http.ResponseWriter, *http.Request) bool) {
	if f == nil {
		b.answer.Store(nil)
		return
	}
	b.answer.Store(&f)
}

func contact() canonical.Event {
	return canonical.Event{Version: 1, Contact: canonical.Contact{ID: canonical.NewID("alpine-guild", canonical.KindContact, canonical.GHL, "seed"), FirstName: "Ada", LastName: "Imhof",
		Email: "ada.imhof@example.org", Phone: "+12025550143", JobTitle: "Guide", Address: canonical.Address{City: "Ouray"}, Tags: []string{"board", "vip; gold"}}}
}

// planFor is what it takes to make a record of e.
func (b *bundle) planFor(e canonical.Event) plan.Plan {
	return plan.For(e, b.Name, b.Lens, plan.Expected{}, true, nil)
}

// ref names a contact.
func ref(id canonical.ExternalID) apply.Ref { return apply.Ref{Kind: canonical.KindContact, ID: id} }

func (b *bundle) create(t *testing.T, e canonical.Event) canonical.ExternalID {
	t.Helper()
	readings, err := b.Create(t.Context(), e, "", b.planFor(e))
	if err != nil || len(readings) == 0 || readings[0].External == "" {
		t.Fatalf("create: %+v, %v", readings, err)
	}
	return readings[0].External
}

// shows returns what the record shows in canonical terms.
func (b *bundle) shows(t *testing.T, r apply.Reading) mapping.Shown {
	t.Helper()
	s, err := b.Lens.Show(observation.Observation{System: b.Name, Endpoint: r.Endpoint, Record: r.Record, Names: r.Names})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Run runs the suite. New makes a fresh system for each test.
func Run(t *testing.T, newSystem func(*testing.T) System) {
	t.Run("what is created is read", func(t *testing.T) {
		b, c := setup(t, newSystem(t)), contact()
		r, err := b.Read(t.Context(), ref(b.create(t, c)))
		if err != nil {
			t.Fatal(err)
		}
		got := b.shows(t, r)
		for f, want := range b.Lens.Project(c.Contact, b.Name, true).Fields {
			if v, covered := got.Fields[f]; covered && v != want {
				t.Errorf("%s: got %q, want %q", f, v, want)
			}
		}
		if !slices.Equal(got.Tags, c.Contact.Tags) || got.Ref != c.Contact.ID {
			t.Errorf("got tags %q, reference %q", got.Tags, got.Ref)
		}
		if r.ReadBegan.IsZero() || r.Modified.IsZero() {
			t.Errorf("a reading without its times: %+v", r)
		}
	})
	t.Run("an update writes the plan and nothing else", func(t *testing.T) {
		b, c := setup(t, newSystem(t)), contact()
		id := b.create(t, c)
		b.Clobber(id)
		now, err := b.ReadToUpdate(t.Context(), ref(id))
		if err != nil {
			t.Fatal(err)
		}
		tags := []string{"board", "new"}
		readings, err := b.Update(t.Context(), c, ref(id), plan.Plan{External: id, Fields: map[string]string{"job_title": "", "address.city": "Vail"},
			AddTags: []string{"new"}, RemoveTags: []string{"vip; gold"}, Tags: &tags}, now)
		if err != nil || len(readings) == 0 {
			t.Fatalf("update: %v", err)
		}
		r, err := b.Read(t.Context(), ref(id))
		if err != nil {
			t.Fatal(err)
		}
		got := b.shows(t, r)
		if got.Fields["job_title"] != "" || got.Fields["address.city"] != "Vail" || got.Fields["first_name"] != "Ada" || got.Fields["email"] != c.Contact.Email || !slices.Equal(got.Tags, tags) {
			t.Errorf("got %+v", got)
		}
		if !b.Kept(id) {
			t.Error("what no field is mapped to was changed")
		}
	})
	t.Run("find", func(t *testing.T) {
		b, c := setup(t, newSystem(t)), contact()
		if _, found, err := b.Find(t.Context(), c, ""); found || err != nil {
			t.Fatalf("before: %t, %v", found, err)
		}
		id := b.create(t, c)
		if r, found, err := b.Find(t.Context(), c, ""); !found || err != nil || r.External != id {
			t.Errorf("got %+v %t %v, want %s", r, found, err, id)
		}
	})
	t.Run("a second create is a duplicate that names the first", func(t *testing.T) {
		b, c := setup(t, newSystem(t)), contact()
		id := b.create(t, c)
		_, err := b.Create(t.Context(), c, "", b.planFor(c))
		var api *apierr.Error
		if !errors.As(err, &api) || api.Class != apierr.Duplicate || api.ExistingID != string(id) {
			t.Errorf("got %v", err)
		}
		if b.Count() != 1 {
			t.Errorf("%d records", b.Count())
		}
	})
	t.Run("an answer that got lost", func(t *testing.T) {
		b, c := setup(t, newSystem(t)), contact()
		b.LoseAnswers(true)
		_, err := b.Create(t.Context(), c, "", b.planFor(c))
		b.LoseAnswers(false)
		if apierr.ClassOf(err) != apierr.Ambiguous {
			t.Errorf("got %v", err)
		}
		if _, found, err := b.Find(t.Context(), c, ""); !found || err != nil {
			t.Errorf("it was made and is not found: %v", err)
		}
		if b.Count() != 1 {
			t.Errorf("%d records", b.Count())
		}
	})
	t.Run("nobody there", func(t *testing.T) {
		b, c := setup(t, newSystem(t)), contact()
		if _, err := b.Read(t.Context(), ref("nobody0000000000000")); apierr.ClassOf(err) != apierr.Gone {
			t.Errorf("read: %v", err)
		}
		now, _ := b.Read(t.Context(), ref(b.create(t, c)))
		if _, err := b.Update(t.Context(), c, ref("nobody0000000000000"), plan.Plan{External: "nobody0000000000000", Fields: map[string]string{"job_title": "x"}}, now); apierr.ClassOf(err) != apierr.Gone {
			t.Errorf("update: %v", err)
		}
	})
	t.Run("items", func(t *testing.T) { items(t, newSystem) })
	t.Run("answers", func(t *testing.T) { answers(t, newSystem) })
	t.Run("cancellation", func(t *testing.T) {
		b, c := setup(t, newSystem(t)), contact()
		ctx, cancel := context.WithCancel(t.Context())
		b.answers(func(_ http.ResponseWriter, r *http.Request) bool { cancel(); <-r.Context().Done(); return true })
		if _, err := b.Read(ctx, ref("x")); err == nil {
			t.Error("a read that was called off has no error")
		}
		if _, err := b.Create(ctx, c, "", b.planFor(c)); err == nil {
			t.Error("a create that was called off has no error")
		}
	})
}

// answers is the table of HTTP answers: what a read and a write make of each.
func answers(t *testing.T, newSystem func(*testing.T) System) {
	tests := []struct {
		name        string
		status      int
		header      string
		read, write apierr.Class
	}{
		{"too many calls", 429, "7", apierr.Wait, apierr.Wait},
		{"forbidden", 403, "", apierr.Forbidden, apierr.Forbidden},
		{"wrong credentials", 401, "", apierr.Forbidden, apierr.Forbidden},
		{"gone", 404, "", apierr.Gone, apierr.Gone},
		{"refused", 400, "", apierr.Invalid, apierr.Invalid},
		{"time-out there", 408, "", apierr.Retry, apierr.Ambiguous},
		{"failure", 500, "", apierr.Retry, apierr.Ambiguous},
		{"bad gateway", 502, "", apierr.Retry, apierr.Ambiguous},
		{"away", 503, "", apierr.Retry, apierr.Ambiguous},
		{"a page with status 200", 200, "", apierr.Retry, apierr.Ambiguous},
		{"no answer", 0, "", apierr.Retry, apierr.Ambiguous},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, c := setup(t, newSystem(t)), contact()
			id := b.create(t, c)
			now, err := b.ReadToUpdate(t.Context(), ref(id))
			if err != nil {
				t.Fatal(err)
			}
			for _, write := range []bool{false, true} {
				b.answers(func(w http.ResponseWriter, r *http.Request) bool {
					if (r.Method == http.MethodPut || r.Method == http.MethodPost && !strings.HasSuffix(r.URL.Path, "/search")) != write {
						return false
					}
					if tt.status == 0 {
						panic(http.ErrAbortHandler)
					}
					if tt.header != "" {
						w.Header().Set("Retry-After", tt.header)
					}
					w.WriteHeader(tt.status)
					// It says more than anybody ought to repeat.
					body := `{"message":"` + Secret + ` is not for ada.imhof@example.org, +12025550143","Message":"` + Secret + ` or Basic ` + Secret + ` is not for \"Ada Imhof\""}`
					if tt.status == 200 {
						body = "<html>" + Secret + "</html>"
					}
					_, _ = w.Write([]byte(body))
					return true
				})
				var err error
				want := tt.read
				if write {
					want = tt.write
					_, err = b.Update(t.Context(), c, ref(id), plan.Plan{External: id, Fields: map[string]string{"job_title": "Ranger"}}, now)
				} else {
					_, err = b.Read(t.Context(), ref(id))
				}
				var api *apierr.Error
				if !errors.As(err, &api) {
					t.Fatalf("write %t: got %v", write, err)
				}
				if api.Class != want || tt.header != "" && api.RetryAfter != 7*time.Second {
					t.Errorf("write %t: got %v after %s, want %v", write, api.Class, api.RetryAfter, want)
				}
				for _, never := range []string{Secret, "ada.imhof", "2025550143", "Ada Imhof", "Authorization"} {
					if strings.Contains(err.Error(), never) {
						t.Errorf("write %t: the error shows %q: %v", write, never, err)
					}
				}
			}
		})
	}
}
