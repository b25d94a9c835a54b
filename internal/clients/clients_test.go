package clients_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/clients"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/config"
)

// door takes the credentials that it is told to, and notes what was shown.
type door struct {
	mu    sync.Mutex
	takes []string
	shown []string
}

func (d *door) set(takes ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.takes, d.shown = takes, nil
}

func (d *door) seen() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.shown)
}

func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	scheme, secret, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	d.shown = append(d.shown, secret)
	if !slices.Contains(d.takes, secret) {
		w.WriteHeader(http.StatusUnauthorized)
		if scheme == "Bearer" {
			_, _ = w.Write([]byte(`{"statusCode":401,"message":"Invalid Private Integration token"}`))
		} else {
			_, _ = w.Write([]byte(`{"Message":"Authorization has been denied for this request."}`))
		}
		return
	}
	_, _ = w.Write([]byte(`{"contact":{"id":"x"},"UniqueID":"x"}`))
}

// TestRotation: of two credentials the one is used that the system takes, and
// a file is read anew when it is replaced.
func TestRotation(t *testing.T) {
	for _, system := range []string{"ghl", "novi"} {
		t.Run(system, func(t *testing.T) {
			d := &door{}
			srv := httptest.NewServer(d)
			t.Cleanup(srv.Close)
			dir := t.TempDir()
			put := func(name, text string) {
				t.Helper()
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			put("old", "pit-old-0001\n")
			put("causeway.yaml", "tenants:\n  - name: a\n    ghl: {location: l, base_url: '"+srv.URL+"', token: file:old, token_next: file:new}\n"+
				"    novi: {base_url: '"+srv.URL+"', key: file:old, key_next: file:new, create: never}\n")
			file, err := config.Load(filepath.Join(dir, "causeway.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			m, err := clients.New(file, clients.Options{Clock: clock.System{}})
			if err != nil {
				t.Fatal(err)
			}
			ghl, err := m.GHL(file.Tenants[0])
			if err != nil {
				t.Fatal(err)
			}
			novi, err := m.Novi(file.Tenants[0])
			if err != nil {
				t.Fatal(err)
			}
			call := func() error {
				var err error
				if system == "ghl" {
					_, err = ghl.GetContact(t.Context(), budget.Live, "x")
				} else {
					_, err = novi.GetMember(t.Context(), budget.Live, "x")
				}
				return err
			}
			steps := []struct {
				name string
				do   func()
				want []string // what is shown, "" at the end: the call fails
			}{
				{"the first", func() { d.set("pit-old-0001") }, []string{"pit-old-0001"}},
				{"the second is not there", func() { d.set() }, []string{"pit-old-0001", ""}},
				{"the first is refused", func() { put("new", "pit-new-0002"); d.set("pit-new-0002") }, []string{"pit-old-0001", "pit-new-0002"}},
				{"and not tried again", func() { d.set("pit-new-0002") }, []string{"pit-new-0002"}},
				{"both are refused", func() { d.set() }, []string{"pit-new-0002", "pit-old-0001", ""}},
				{"a file is replaced", func() { put("old", "pit-new-0003"); d.set("pit-new-0003") }, []string{"pit-new-0003"}},
				{"a file is gone", func() {
					if err := os.Remove(filepath.Join(dir, "old")); err != nil {
						t.Fatal(err)
					}
					d.set("pit-new-0002")
				}, []string{"pit-new-0002"}},
			}
			for _, s := range steps {
				s.do()
				err := call()
				want := s.want
				if fails := want[len(want)-1] == ""; fails {
					want = want[:len(want)-1]
					if apierr.ClassOf(err) != apierr.Forbidden || strings.Contains(err.Error(), "pit-") {
						t.Errorf("%s: got %v", s.name, err)
					}
				} else if err != nil {
					t.Errorf("%s: %v", s.name, err)
				}
				if got := d.seen(); !slices.Equal(got, want) {
					t.Errorf("%s: shown %q, want %q", s.name, got, want)
				}
			}
		})
	}
}
