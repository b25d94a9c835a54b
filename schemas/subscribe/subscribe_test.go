package subscribe_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goccy/go-json"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/natsembed"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/schemas/subscribe"
	"github.com/causeway-sync/causeway/streams"
)

const guild = "alpine-guild"

// put publishes a version of a contact.
func put(p bus.Publisher, id canonical.CanonicalID, op canonical.Op, version uint64, c canonical.Contact) error {
	c.ID = id
	e := canonical.Event{Version: version, Contact: c, Changes: []canonical.Change{}}
	data, err := json.Marshal(e)
	if err == nil {
		_, err = p.Publish(context.Background(), bus.Message{Subject: streams.Canonical(canonical.KindContact, guild, id, op), Data: data,
			Header: bus.Header(envelope.EventAttributes(guild, op, e, canonical.GHL, time.Unix(1_800_000_000, 0)).Header())})
	}
	return err
}

// The example's association: a server in a folder of its own, with two contacts.
var example *bus.Conn

func association() (url string) {
	dir, err := os.MkdirTemp("", "subscribe")
	if err != nil {
		log.Fatal(err)
	}
	s, err := natsembed.Start(natsembed.Options{StoreDir: dir})
	if err == nil {
		example, err = bus.Connect(context.Background(), bus.Options{URL: s.URL()})
	}
	if err == nil {
		_, err = streams.Ensure(context.Background(), example.JetStream())
	}
	cleanup = func() { example.Close(); s.Shutdown(); _ = os.RemoveAll(dir) }
	err = errors.Join(err, put(example, "ada", canonical.OpCreated, 1, canonical.Contact{Email: "ada@example.com"}),
		put(example, "bruno", canonical.OpCreated, 1, canonical.Contact{Email: "bruno@example.org"}),
		put(example, "ada", canonical.OpUpdated, 2, canonical.Contact{Email: "ada@example.org"}))
	if err != nil {
		log.Fatal(err)
	}
	return s.URL()
}

func change() error {
	return put(example, "ada", canonical.OpUpdated, 3, canonical.Contact{Email: "ada@example.org", OptOuts: canonical.OptOuts{Email: true}})
}

var cleanup = func() {}

func TestMain(m *testing.M) {
	code := m.Run()
	cleanup()
	os.Exit(code)
}

// told is what a subscriber was told.
type told struct {
	mu     sync.Mutex
	events []subscribe.Event
}

func (t *told) add(e subscribe.Event) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events = append(t.events, e)
	return nil
}

func (t *told) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []string
	for _, e := range t.events {
		what := e.Attributes.ID
		if e.Snapshot {
			what += "*"
		}
		out = append(out, what)
	}
	return strings.Join(out, " ")
}

func js(t *testing.T, url string) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// TestNoGapNoOverlap: while the snapshot is handed over, contacts change: each
// version from the state on is handed over, in order, and none twice.
func TestNoGapNoOverlap(t *testing.T) {
	c := bustest.Start(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 {
		id := canonical.CanonicalID(fmt.Sprintf("c%02d", i))
		must(put(c, id, canonical.OpCreated, 1, canonical.Contact{}))
		must(put(c, id, canonical.OpUpdated, 2, canonical.Contact{}))
		must(put(c, id, canonical.OpObserved, 3, canonical.Contact{}))
	}
	var got told
	seen := map[canonical.CanonicalID]uint64{}
	n := 0
	bustest.Go(t, func(ctx context.Context) error {
		return subscribe.Subscription{Tenant: guild}.Run(ctx, js(t, c.JetStream().Conn().ConnectedUrl()), func(e subscribe.Event) error {
			if n++; n == 5 { // two that the snapshot has yet to hand over, one that it has
				return errors.Join(put(c, "c19", canonical.OpUpdated, 4, canonical.Contact{}), put(c, "c00", canonical.OpUpdated, 4, canonical.Contact{}),
					put(c, "c18", canonical.OpObserved, 4, canonical.Contact{}), put(c, "new", canonical.OpCreated, 1, canonical.Contact{}), put(c, "c19", canonical.OpDeleted, 5, canonical.Contact{Deleted: true}),
					got.add(e))
			}
			return got.add(e)
		}, func() error { return put(c, "c01", canonical.OpUpdated, 4, canonical.Contact{}) })
	})
	bustest.Until(t, func() bool { return strings.HasSuffix(got.String(), "c01.4") })
	for _, e := range got.events {
		if was, ok := seen[e.ID()]; ok && e.Version != was+1 {
			t.Errorf("%s: version %d follows %d", e.ID(), e.Version, was)
		}
		seen[e.ID()] = e.Version
	}
	for id, want := range map[canonical.CanonicalID]uint64{"c00": 4, "c01": 4, "c02": 3, "c18": 0, "c19": 5, "new": 1} {
		if got := seen[id]; got != want && !(id == "c18" && got >= 3) {
			t.Errorf("%s ends as version %d, want %d", id, got, want)
		}
	}
	if len(seen) != 21 {
		t.Errorf("%d contacts, want 21: %s", len(seen), &got)
	}
}

// TestTheServerGoesAway and comes back: the subscriber goes on where it was. One
// that has lost its process goes on after what it has noted.
func TestTheServerGoesAway(t *testing.T) {
	dir := t.TempDir()
	s, err := natsembed.Start(natsembed.Options{StoreDir: filepath.Join(dir, "nats")})
	if err != nil {
		t.Fatal(err)
	}
	url := s.URL()
	open := func() *bus.Conn {
		t.Helper()
		c, err := bus.Connect(t.Context(), bus.Options{URL: url})
		if err == nil {
			_, err = streams.Ensure(t.Context(), c.JetStream())
		}
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := open()
	if err := put(c, "ada", canonical.OpCreated, 1, canonical.Contact{}); err != nil {
		t.Fatal(err)
	}
	var got told
	run := js(t, url)
	stop := bustest.Go(t, func(ctx context.Context) error { return subscribe.Subscription{}.Run(ctx, run, got.add, nil) })
	bustest.Until(t, func() bool { return got.String() == "ada.1*" })
	if err := put(c, "ada", canonical.OpUpdated, 2, canonical.Contact{}); err != nil {
		t.Fatal(err)
	}
	bustest.Until(t, func() bool { return got.String() == "ada.1* ada.2" })
	c.Close()
	s.Shutdown()
	if s, err = natsembed.Start(natsembed.Options{StoreDir: filepath.Join(dir, "nats"), Listen: strings.TrimPrefix(url, "nats://")}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	c = open()
	t.Cleanup(c.Close)
	if err := put(c, "ada", canonical.OpUpdated, 3, canonical.Contact{}); err != nil {
		t.Fatal(err)
	}
	bustest.Until(t, func() bool { return got.String() == "ada.1* ada.2 ada.3" })
	stop()
	at := got.events[2].Sequence
	if err := errors.Join(put(c, "ada", canonical.OpObserved, 4, canonical.Contact{}), put(c, "ada", canonical.OpUpdated, 5, canonical.Contact{})); err != nil {
		t.Fatal(err)
	}
	bustest.Go(t, func(ctx context.Context) error { return subscribe.Subscription{After: at}.Run(ctx, run, got.add, nil) })
	bustest.Until(t, func() bool { return got.String() == "ada.1* ada.2 ada.3 ada.5" })
	err = subscribe.Subscription{After: at + 100}.Run(t.Context(), run, got.add, nil)
	if !errors.Is(err, subscribe.ErrLost) {
		t.Errorf("after what is not there: %v", err)
	}
	broken := errors.New("the database is away")
	if err := (subscribe.Subscription{}).Run(t.Context(), run, func(subscribe.Event) error { return broken }, nil); !errors.Is(err, broken) {
		t.Errorf("the subscriber's error: %v", err)
	}
}
