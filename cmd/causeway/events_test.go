package main

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/streams"
)

// page is written to by one and read by another.
type page struct {
	mu sync.Mutex
	b  strings.Builder
}

func (p *page) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b.Write(b)
}

func (p *page) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b.String()
}

func TestEventsTail(t *testing.T) {
	c := bustest.Start(t)
	says := func(tenant canonical.Tenant, op canonical.Op, version uint64) {
		t.Helper()
		e := canonical.NewEvent(canonical.KindContact, "ada")
		e.Version, e.Contact.Email = version, "ada@example.org"
		e.Changes = []canonical.Change{{Field: "email", To: "ada@example.org", Origin: canonical.Novi}}
		e.Cause = canonical.Cause{Via: "fetch", System: canonical.Novi}
		data, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Publish(t.Context(), bus.Message{Subject: streams.Canonical(canonical.KindContact, tenant, "ada", op), Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	says("guild", canonical.OpCreated, 1)
	says("other", canonical.OpCreated, 1)
	says("guild", canonical.OpObserved, 2)
	tail := func(cmd eventsTailCmd) (*page, func()) {
		out := &page{}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- cmd.tail(ctx, c, out) }()
		return out, func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	ids, stop := tail(eventsTailCmd{Tenant: "guild", Since: time.Hour})
	values, stopValues := tail(eventsTailCmd{Since: time.Hour, JSON: true, ShowValues: true, Observed: true, Kind: canonical.KindContact})
	bustest.Until(t, func() bool { return strings.Count(values.String(), "\n") == 3 })
	says("guild", canonical.OpUpdated, 3)
	bustest.Until(t, func() bool {
		return strings.Count(ids.String(), "\n") >= 2 && strings.Count(values.String(), "\n") == 4
	})
	stop()
	stopValues()
	got := ids.String()
	if strings.Count(got, "\n") != 2 || !strings.Contains(got, "guild  contact ada  updated  email  (novi, fetch)") || strings.Contains(got, "example.org") {
		t.Errorf("got %s", got)
	}
	if !strings.Contains(values.String(), `"changed":["email"]`) || strings.Count(values.String(), "ada@example.org") != 8 {
		t.Errorf("got %s", values)
	}
}
