// Package ingesttest is the suite that every system's reader passes: what it
// fetches, what it says of a record that is not there, and walks that miss
// nothing.
package ingesttest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/ingest/hydrate"
	"github.com/causeway-sync/causeway/ingest/poll"
	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
)

// Secret is the token or key that the system accepts. Nothing in its form says
// that it is one.
const Secret = "zq7-XyZzy-of-no-known-form"

// Reader is what a system's reader has to be.
type Reader interface {
	hydrate.Fetcher
	poll.Lister
}

// System is a simulated system and a reader of it.
type System struct {
	Name    canonical.System
	Handler http.Handler
	Connect func(url string) Reader
	// Add makes a person, Touch changes one, Remove takes one away.
	Add    func(i int) canonical.ExternalID
	Touch  func(id canonical.ExternalID)
	Remove func(id canonical.ExternalID)
	// Path is the list's, and Empty a page of it without anybody, of a total that
	// %d stands for.
	Path, Empty string
}

// Run runs the suite. newSystem makes a fresh system for each test.
func Run(t *testing.T, newSystem func(*testing.T) System) {
	setup := func(t *testing.T, override func(http.ResponseWriter, *http.Request) bool) (System, Reader) {
		t.Helper()
		s := newSystem(t)
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if override == nil || !override(w, r) {
				s.Handler.ServeHTTP(w, r)
			}
		}))
		t.Cleanup(srv.Close)
		return s, s.Connect(srv.URL)
	}
	t.Run("a record is fetched whole", func(t *testing.T) {
		s, r := setup(t, nil)
		id := s.Add(1)
		o, err := r.Fetch(t.Context(), contact(id))
		if err != nil {
			t.Fatal(err)
		}
		if o.System != s.Name || o.ExternalID != id || o.Endpoint == "" || o.ReadBegan.IsZero() || o.Modified.IsZero() || o.Absent || !json.Valid(o.Record) {
			t.Errorf("got %+v", o)
		}
		again, err := r.Fetch(t.Context(), contact(id))
		if err != nil || string(again.Record) != string(o.Record) {
			t.Errorf("the bytes differ from one fetch to the next: %v", err)
		}
	})
	t.Run("a record that is gone", func(t *testing.T) {
		s, r := setup(t, nil)
		id := s.Add(1)
		s.Remove(id)
		for _, id := range []canonical.ExternalID{id, "nobody00000000000000", "a/../b?c"} {
			if _, err := r.Fetch(t.Context(), contact(id)); apierr.ClassOf(err) != apierr.Gone {
				t.Errorf("%s: got %v", id, err)
			}
		}
	})
	t.Run("a walk misses nobody", func(t *testing.T) {
		s, r := setup(t, nil)
		want := map[canonical.ExternalID]bool{}
		for i := range 450 {
			want[s.Add(i)] = true
		}
		n := walk(t, r, time.Time{}, func(page int, o observation.Observation) { delete(want, o.ExternalID) })
		if len(want) > 0 {
			t.Errorf("%d of 450 were missed", len(want))
		}
		if n < 2 {
			t.Errorf("it took %d pages", n)
		}
	})
	t.Run("a walk under way, and people come and go", func(t *testing.T) {
		s, r := setup(t, nil)
		var ids []canonical.ExternalID
		for i := range 450 {
			ids = append(ids, s.Add(i))
		}
		want := map[canonical.ExternalID]bool{}
		for _, id := range ids[1:] {
			want[id] = true
		}
		last := -1
		walk(t, r, time.Time{}, func(page int, o observation.Observation) {
			if page != last {
				if last = page; page == 0 {
					s.Remove(ids[0]) // the offsets of all others move
					s.Add(9000)
				}
			}
			delete(want, o.ExternalID)
		})
		if len(want) > 0 {
			t.Errorf("%d were missed", len(want))
		}
	})
	t.Run("a walk under way, and the total moves", func(t *testing.T) {
		s, r := setup(t, nil)
		var ids []canonical.ExternalID
		for i := range 900 {
			ids = append(ids, s.Add(i))
		}
		want := map[canonical.ExternalID]bool{}
		for _, id := range ids[90:] {
			want[id] = true
		}
		last := -1
		walk(t, r, time.Time{}, func(page int, o observation.Observation) {
			if page != last && page < 9 {
				for _, id := range ids[page*10 : page*10+10] {
					s.Remove(id) // more often than a walk begins anew
				}
			}
			last = page
			delete(want, o.ExternalID)
		})
		if len(want) > 0 {
			t.Errorf("%d were missed", len(want))
		}
	})
	for _, times := range []int{1, 3, 1000} {
		t.Run(fmt.Sprintf("an empty page in the middle, %d times", times), func(t *testing.T) {
			lists, emptied := 0, 0
			var page System
			s, r := setup(t, func(w http.ResponseWriter, req *http.Request) bool {
				if req.URL.Path != page.Path {
					return false
				}
				if lists++; lists < 2 || emptied == times {
					return false
				}
				emptied++
				_, _ = fmt.Fprintf(w, page.Empty, 450)
				return true
			})
			page = s
			want := map[canonical.ExternalID]bool{}
			for i := range 450 {
				want[s.Add(i)] = true
			}
			walk(t, r, time.Time{}, func(_ int, o observation.Observation) { delete(want, o.ExternalID) })
			switch {
			case emptied != times && times < 1000 || emptied == 0:
				t.Errorf("%d pages were empty", emptied)
			case len(want) > 0 && times < 1000:
				t.Errorf("%d were missed", len(want))
			}
		})
	}
	t.Run("what was changed since", func(t *testing.T) {
		s, r := setup(t, nil)
		var ids []canonical.ExternalID
		for i := range 20 {
			ids = append(ids, s.Add(i))
		}
		o, err := r.Fetch(t.Context(), contact(ids[19]))
		if err != nil {
			t.Fatal(err)
		}
		s.Touch(ids[7])
		seen := map[canonical.ExternalID]bool{}
		walk(t, r, o.Modified, func(_ int, o observation.Observation) { seen[o.ExternalID] = true })
		if !seen[ids[7]] {
			t.Error("the changed one was missed")
		}
	})
	t.Run("errors are classed and show no secret", func(t *testing.T) {
		tests := []struct {
			status int
			want   apierr.Class
		}{{429, apierr.Wait}, {401, apierr.Forbidden}, {403, apierr.Forbidden}, {500, apierr.Retry}, {502, apierr.Retry}, {400, apierr.Invalid}, {0, apierr.Retry}, {200, apierr.Retry}}
		for _, tt := range tests {
			_, r := setup(t, func(w http.ResponseWriter, _ *http.Request) bool {
				if tt.status == 0 {
					panic(http.ErrAbortHandler)
				}
				w.WriteHeader(tt.status)
				if tt.status == 200 {
					_, _ = w.Write([]byte(`<html>` + Secret + ` of ada@example.org</html>`))
					return true
				}
				_, _ = w.Write([]byte(`{"message":"` + Secret + ` is not for ada@example.org","Message":"` + Secret + `","traceId":"` + Secret + `"}`))
				return true
			})
			_, err := r.Fetch(t.Context(), contact("x"))
			_, listErr := r.List(t.Context(), poll.Query{})
			for _, err := range []error{err, listErr} {
				if apierr.ClassOf(err) != tt.want {
					t.Errorf("%d: got %v, want %v", tt.status, err, tt.want)
				}
				if err != nil && (strings.Contains(err.Error(), Secret) || strings.Contains(err.Error(), "ada@")) {
					t.Errorf("%d: it shows what it must not: %v", tt.status, err)
				}
			}
		}
	})
}

func contact(id canonical.ExternalID) observation.Observation {
	return observation.Observation{Kind: canonical.KindContact, ExternalID: id}
}

// walk follows the pages to their end and returns how many there were.
func walk(t *testing.T, r Reader, since time.Time, each func(page int, o observation.Observation)) int {
	t.Helper()
	q := poll.Query{Since: since, Lane: budget.Backfill}
	for n := 0; ; n++ {
		page, err := r.List(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page.Observations {
			each(n, o)
		}
		if q.Cursor = page.Next; page.Next == nil {
			return n + 1
		}
		if n > 100 {
			t.Fatal("the walk has no end")
		}
	}
}
