package erase_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-json"
	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/erase"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/internal/natsembed"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/effect"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
	"github.com/causeway-sync/causeway/transform"
)

const guild = "alpine-guild"

// fast is a clock that stands still, and on which nobody waits for long.
type fast struct{}

func (fast) Now() time.Time { return time.Date(2026, 11, 2, 10, 0, 0, 0, time.UTC) }

func (fast) After(d time.Duration) <-chan time.Time { return time.After(min(d, time.Millisecond)) }

type house struct {
	*bus.Conn
	t *testing.T
	n int
}

func (h *house) see(o observation.Observation) {
	h.t.Helper()
	h.n++
	o.Tenant, o.Via = guild, observation.Fetch
	o.ReadBegan = time.Date(2026, 11, 1, 10, h.n, 0, 0, time.UTC)
	body, err := o.Encode()
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := h.Publish(h.t.Context(), bus.Message{Subject: streams.Raw(o), Data: body}); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) contact(id canonical.ExternalID, email, phone, more string) {
	h.t.Helper()
	h.see(observation.Observation{System: canonical.GHL, Kind: canonical.KindContact, ExternalID: id, Endpoint: observation.GHLContactGet,
		Record: json.RawMessage(fmt.Sprintf(`{"id":%q,"email":%q,"phone":%q,"firstName":"Ada","lastName":"Berg"%s}`, id, email, phone, more))})
}

func (h *house) settled() {
	h.t.Helper()
	bustest.Settled(h.t, h.Conn, streams.RAW, streams.Transform().Durable)
	bustest.Settled(h.t, h.Conn, streams.CANONICAL, streams.Children().Durable)
	bustest.Settled(h.t, h.Conn, streams.CANONICAL, streams.Tags().Durable)
	bustest.Settled(h.t, h.Conn, streams.RAW, streams.Transform().Durable)
}

func (h *house) put(subject string, body any) {
	h.t.Helper()
	data, err := json.Marshal(body)
	if err == nil {
		_, err = h.Publish(h.t.Context(), bus.Message{Subject: subject, Data: data})
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// everywhere is all that is stored.
func (h *house) everywhere() string {
	h.t.Helper()
	var b strings.Builder
	for _, s := range streams.Streams() {
		for _, m := range bustest.All(h.t, h.Conn, s.Name) {
			fmt.Fprintln(&b, s.Name, m.Subject, m.Header, string(m.Data))
		}
	}
	for _, k := range streams.Buckets() {
		for _, m := range bustest.All(h.t, h.Conn, "KV_"+k.Bucket) {
			fmt.Fprintln(&b, k.Bucket, m.Subject, string(m.Data))
		}
	}
	return b.String()
}

// onDisk reports whether one of the server's files has the word.
func onDisk(t *testing.T, dir, word string) bool {
	t.Helper()
	found := false
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil //nolint:nilerr // the server replaces its files
		}
		text, err := os.ReadFile(path)
		found = found || bytes.Contains(text, []byte(word))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestSomebodyIsForgotten: a person with two records, of which one was merged
// into the other, a task, tags, writes, a dead letter and a held delete, whom a
// message about somebody else names.
func TestSomebodyIsForgotten(t *testing.T) {
	dir := t.TempDir()
	server, err := natsembed.Start(natsembed.Options{StoreDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	c, err := bus.Connect(t.Context(), bus.Options{URL: server.URL()})
	if err == nil {
		_, err = streams.Ensure(t.Context(), c.JetStream())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	h := &house{Conn: c, t: t}
	bustest.Go(t, func(ctx context.Context) error {
		return transform.Run(ctx, transform.Config{Bus: h, Logger: zerolog.Nop(), Tenants: map[canonical.Tenant]transform.Policy{guild: {Lens: mapping.Association("US")}}})
	})
	h.contact("ghlAda0001", "old.ada@example.org", "+12015550101", `,"tags":["board"]`)
	h.contact("ghlBob0001", "bob@example.org", "+12015550109", "")
	h.contact("ghlAda0002", "ada@example.org", "+12015550102", "")
	h.contact("ghlAda0001", "ada@example.org", "+12015550101", `,"tags":["board","vip"]`) // the two are one
	h.see(observation.Observation{System: canonical.GHL, Kind: canonical.KindTask, ExternalID: "taskOfAda1", Parent: "ghlAda0002", Endpoint: observation.GHLTaskGet, Record: json.RawMessage(`{"title":"Call Ada"}`)})
	// Somebody else's task names her, in the past; and Bob has the phone of the family.
	h.see(observation.Observation{System: canonical.GHL, Kind: canonical.KindTask, ExternalID: "taskOfBob1", Parent: "ghlBob0001", Endpoint: observation.GHLTaskGet, Record: json.RawMessage(`{"title":"Write to ada@example.org"}`)})
	h.see(observation.Observation{System: canonical.GHL, Kind: canonical.KindTask, ExternalID: "taskOfBob1", Parent: "ghlBob0001", Endpoint: observation.GHLTaskGet, Record: json.RawMessage(`{"title":"Done"}`)})
	h.settled()
	ada := canonical.NewID(guild, canonical.KindContact, canonical.GHL, "ghlAda0001")
	bob := canonical.NewID(guild, canonical.KindContact, canonical.GHL, "ghlBob0001")
	h.put(streams.Effect(canonical.Novi, guild, canonical.KindContact, ada), effect.Effect{ID: ada, State: effect.Done, Wrote: map[string]string{"email": "ada@example.org"}, Writebacks: [][]byte{[]byte("ada@example.org")}})
	h.put(streams.Dead("sink-novi", guild, canonical.KindContact, string(ada)), map[string]string{"reason": "no"})
	h.put(streams.Dead("ingest", "", "", "0123abcd"), map[string]any{"body": map[string]string{"email": "ADA@example.org"}})
	// A rule has made a task for her, called somebody, and been stopped.
	key := "welcome-" + string(ada) + "-1"
	firing := &canonical.Firing{Rule: "welcome", Key: key, Kind: canonical.KindContact, Entity: ada, Version: 1, Sequence: 1, Chain: []string{"welcome"}}
	made := observation.Observation{System: canonical.Rule, Tenant: guild, Kind: canonical.KindTask, ExternalID: canonical.ExternalID(key + "-1"), Via: observation.FromRule,
		Contact: ada, Firing: firing, Wrote: map[string]string{"title": "Welcome Ada"}, ReadBegan: time.Date(2026, 11, 1, 11, 0, 0, 0, time.UTC)}
	h.put(streams.Raw(made), made)
	h.put(streams.FiringEffect("webhook", guild, ada, key+"-2"), effect.Effect{Kind: "rule", ID: ada, Action: key + "-2", State: effect.Done})
	h.put(streams.Dead("rules", guild, canonical.KindContact, "welcome-"+string(ada)), map[string]string{"reason": "no"})
	h.put(streams.Dead("actions", guild, "rule", key+"-2"), map[string]string{"reason": "no"})
	h.settled()
	holds, err := h.Bucket(t.Context(), streams.HOLDS)
	if err == nil {
		_, err = holds.Put(t.Context(), streams.HeldKey(guild, canonical.GHL, canonical.KindContact, ada, "ghlAda0001"), []byte(`{}`))
	}
	if err != nil {
		t.Fatal(err)
	}

	plan, err := erase.Plan(t.Context(), h, guild, ada)
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.Entities) != 4 || len(plan.Records) != 3 || plan.Messages[streams.RAW] < 4 || plan.Messages[streams.CANONICAL] < 6 || plan.Messages["KV_IDENTITY"] < 5 || plan.Messages["KV_HOLDS"] != 1 {
		t.Errorf("the plan is %+v", plan)
	}
	bustest.Until(t, func() bool { return onDisk(t, dir, "ada@example.org") }) // so that it is known how to look
	if !strings.Contains(h.everywhere(), "ghlAda0002") {
		t.Fatal("a plan has erased something")
	}

	got, err := erase.Run(t.Context(), h, fast{}, guild, ada)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Left) != 0 || len(got.Others) < 3 {
		t.Errorf("left: %v, removed besides: %v", got.Left, got.Others)
	}
	now := h.everywhere()
	for _, gone := range []string{"ada@example.org", "ADA@example", "ghlAda", "taskOfAda1", "+12015550101", "+12015550102", string(ada), "Call Ada", "Welcome Ada"} {
		if i := strings.Index(now, gone); i >= 0 {
			t.Errorf("%q is left: …%s…", gone, now[max(0, i-200):min(len(now), i+80)])
		}
	}
	bustest.Until(t, func() bool { return !onDisk(t, dir, "ada@example.org") && !onDisk(t, dir, "+12015550102") })
	for _, stays := range []string{"bob@example.org", string(bob), "taskOfBob1", "Done"} {
		if !strings.Contains(now, stays) {
			t.Errorf("%q of somebody else is gone", stays)
		}
	}

	// What comes late revives nobody, though the transform remembers her; who is
	// entered anew is somebody.
	h.contact("ghlAda0002", "ada@example.org", "+12015550102", "")
	h.see(observation.Observation{System: canonical.GHL, Kind: canonical.KindTask, ExternalID: "taskOfAda2", Parent: "ghlAda0001", Endpoint: observation.GHLTaskGet, Record: json.RawMessage(`{"title":"Late"}`)})
	h.contact("ghlAda0003", "ada@example.org", "+12015550102", "")
	h.settled()
	links := map[canonical.ExternalID]bool{}
	for _, m := range bustest.All(t, h.Conn, streams.CANONICAL) {
		if e, err := canonical.DecodeEvent(m.Data); err == nil {
			for _, x := range e.Links[canonical.GHL] {
				links[x] = true
			}
		}
	}
	if fmt.Sprint(links) != "map[ghlAda0003:true ghlBob0001:true taskOfBob1:true]" {
		t.Errorf("there are now %v", links)
	}
}

// TestTheGuard stores nothing of a record that was erased, from the moment on
// that it may know.
func TestTheGuard(t *testing.T) {
	h := &house{Conn: bustest.Start(t), t: t}
	guard := erase.NewGuard(h.Conn, fast{})
	notice := func(kind canonical.Kind, id, parent canonical.ExternalID) {
		t.Helper()
		o := observation.Observation{System: canonical.GHL, Tenant: guild, Kind: kind, ExternalID: id, Parent: parent, Via: observation.Notice, Record: []byte(`{}`)}
		body, err := o.Encode()
		if err == nil {
			_, err = guard.Publish(t.Context(), bus.Message{Subject: streams.Raw(o), Data: body})
		}
		if err == nil {
			done := make(chan error, 1)
			if err = guard.PublishAsync(t.Context(), bus.Message{Subject: streams.Raw(o), Data: body}, func(_ bus.Ack, err error) { done <- err }); err == nil {
				err = <-done
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	count := func() int { return len(bustest.All(t, h.Conn, streams.RAW)) }
	ada := canonical.NewID(guild, canonical.KindContact, canonical.GHL, "ada")
	h.put(streams.Canonical(canonical.KindContact, guild, ada, canonical.OpCreated), canonical.Event{Version: 1, Contact: canonical.Contact{ID: ada},
		Links: map[canonical.System][]canonical.ExternalID{canonical.GHL: {"ada"}}})
	if notice(canonical.KindContact, "ada", ""); count() != 2 {
		t.Fatalf("%d messages, want 2", count())
	}
	if err := h.JetStream().DeleteStream(t.Context(), "KV_"+streams.TOKENS); err != nil { // a server may lack what nobody has needed yet
		t.Fatal(err)
	}
	if _, err := erase.Run(t.Context(), h, fast{}, guild, ada); err != nil || count() != 0 {
		t.Fatalf("%d messages after the erasure, %v", count(), err)
	}
	guard = erase.NewGuard(h.Conn, fast{})
	notice(canonical.KindContact, "ada", "")
	notice(canonical.KindTask, "t1", "ada")
	if count() != 0 {
		t.Errorf("%d messages about who was erased", count())
	}
	notice(canonical.KindContact, "bob", "")
	if count() != 2 {
		t.Errorf("%d messages about somebody else, want 2", count())
	}
}
