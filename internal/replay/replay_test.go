package replay_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/goccy/go-json"
	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/internal/replay"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
	"github.com/causeway-sync/causeway/transform"
)

const guild = "alpine-guild"

// fast is a clock on which a second is over at once.
type fast struct {
	mu  sync.Mutex
	now time.Time
}

func (f *fast) Now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

func (f *fast) After(d time.Duration) <-chan time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
	c := make(chan time.Time, 1)
	c <- f.now
	return c
}

type house struct {
	*bus.Conn
	t *testing.T
}

// run runs a transform that finds the city where path says.
func (h house) config(path string) transform.Config {
	h.t.Helper()
	spec, err := mapping.Template("association")
	if err != nil {
		h.t.Fatal(err)
	}
	spec.Contact.Fields["address.city"].GHL.Path = path
	lens, _, err := spec.Build("US")
	if err != nil {
		h.t.Fatal(err)
	}
	return transform.Config{Bus: h, Logger: zerolog.Nop(), Tenants: map[canonical.Tenant]transform.Policy{guild: {Lens: lens}}}
}

func (h house) run(path string) (stop func()) {
	return bustest.Go(h.t, func(ctx context.Context) error { return transform.Run(ctx, h.config(path)) })
}

// rehearse runs one on a broker that keeps nothing.
func (h house) rehearse(path string, on func(done func()) *replay.Dry) *replay.Dry {
	h.t.Helper()
	ctx, stop := context.WithCancel(h.t.Context())
	defer stop()
	cfg := h.config(path)
	dry := on(stop)
	cfg.Bus = dry
	if err := transform.Run(ctx, cfg); err != nil {
		h.t.Fatal(err)
	}
	return dry
}

var start = time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)

func (h house) see(id canonical.ExternalID, minute int, record string) uint64 {
	h.t.Helper()
	at := start.Add(time.Duration(minute) * time.Minute)
	o := observation.Observation{System: canonical.GHL, Tenant: guild, Kind: canonical.KindContact, ExternalID: id, Via: observation.Fetch,
		Endpoint: observation.GHLContactGet, ReadBegan: at, Modified: at, Record: json.RawMessage(record), Absent: record == ""}
	if o.Absent {
		o.Modified, o.Endpoint = time.Time{}, ""
	}
	body, err := o.Encode()
	if err != nil {
		h.t.Fatal(err)
	}
	a, err := h.Publish(h.t.Context(), bus.Message{Subject: streams.Raw(o), Data: body})
	if err != nil {
		h.t.Fatal(err)
	}
	return a.Seq
}

func (h house) settled() {
	h.t.Helper()
	bustest.Settled(h.t, h.Conn, streams.RAW, streams.Transform().Durable)
}

func contact(id canonical.ExternalID) canonical.CanonicalID {
	return canonical.NewID(guild, canonical.KindContact, canonical.GHL, id)
}

func (h house) state(id canonical.ExternalID) canonical.Event {
	h.t.Helper()
	m, err := h.Last(h.t.Context(), streams.CANONICAL, streams.Entity(canonical.KindContact, guild, contact(id)))
	if err != nil {
		h.t.Fatal(err)
	}
	e, err := canonical.DecodeEvent(m.Data)
	if err != nil {
		h.t.Fatal(err)
	}
	return e
}

// TestAMappingThatWasWrong: the city was read from where nobody keeps it. Once that is
// put right, a replay makes of what was seen what it always said, and
// touches nothing else.
func TestAMappingThatWasWrong(t *testing.T) {
	h := house{bustest.Start(t), t}
	stop := h.run("town")
	h.see("g1", 1, `{"id":"g1","email":"ada@example.org","city":"Bern","town":"BE"}`)
	newest := h.see("g1", 2, `{"id":"g1","email":"ada@example.org","city":"Thun","town":"BE"}`)
	h.see("g2", 3, `{"id":"g2","email":"bob@example.org","city":"","town":""}`)
	h.see("g3", 4, `{"id":"g3","email":"eve@example.org","city":"Chur","town":"GR"}`)
	h.see("g3", 5, "")
	h.settled()
	stop()
	if got := h.state("g1").Contact.Address.City; got != "BE" {
		t.Fatalf("the wrong mapping gives %q", got)
	}
	before := len(bustest.All(t, h.Conn, streams.CANONICAL))
	what := replay.Choice{Stream: streams.RAW, Tenant: guild}

	planned := h.rehearse("city", func(done func()) *replay.Dry { return replay.NewPlan(h.Conn, what, done) }).Changed()
	if len(planned) != 1 {
		t.Errorf("%d entities would change, want 1", len(planned))
	}
	if planned := h.rehearse("town", func(done func()) *replay.Dry { return replay.NewPlan(h.Conn, what, done) }).Changed(); len(planned) != 0 {
		t.Errorf("with the same mapping %d entities would change", len(planned))
	}
	if n := len(bustest.All(t, h.Conn, streams.CANONICAL)); n != before {
		t.Fatalf("a plan has stored %d events", n-before)
	}

	h.run("city")
	read := func(id string) replay.Replay {
		t.Helper()
		if err := replay.New(t.Context(), h, replay.Replay{ID: id, Choice: what, Asked: start}); err != nil {
			t.Fatal(err)
		}
		got, err := replay.Run(t.Context(), h, clock.System{}, id, func(replay.Replay) {})
		if err != nil || got.State != replay.Done {
			t.Fatalf("got %+v, %v", got, err)
		}
		h.settled()
		return got
	}
	if got := read("one"); got.Told != 3 || got.Total != 3 || got.Older != 2 {
		t.Errorf("got %+v", got)
	}
	got := h.state("g1")
	if got.Contact.Address.City != "Thun" || got.Cause.Sequence != newest || !got.Cause.Replay {
		t.Errorf("got %q because of %+v", got.Contact.Address.City, got.Cause)
	}
	if n := len(bustest.All(t, h.Conn, streams.CANONICAL)); n != before+1 {
		t.Errorf("%d events came of it, want 1", n-before)
	}
	read("two")
	if n := len(bustest.All(t, h.Conn, streams.CANONICAL)); n != before+1 {
		t.Errorf("%d events came of doing it again", n-before-1)
	}
	// What is newer than what is read again stands.
	h.see("g1", 9, `{"id":"g1","email":"ada@example.org","city":"Biel","town":"BE"}`)
	h.settled()
	what.To = newest
	read("three")
	if got := h.state("g1").Contact.Address.City; got != "Biel" {
		t.Errorf("a replay of what is older gave %q", got)
	}

	t.Run("canonical", func(t *testing.T) {
		what = replay.Choice{Stream: streams.CANONICAL, Tenant: guild, Entity: contact("g1")}
		was := h.state("g1")
		if got := read("wake"); got.Told != 1 {
			t.Errorf("got %+v", got)
		}
		if now := h.state("g1"); now.Version != was.Version+1 || now.Cause.Via != string(observation.Wake) || !now.Cause.Replay || len(now.Changes) != 0 {
			t.Errorf("got version %d because of %+v", now.Version, now.Cause)
		}
	})
}

// TestARebuild: what RAW holds, read into nothing, is what CANONICAL holds;
// and if that has lost something, it is named.
func TestARebuild(t *testing.T) {
	h := house{bustest.Start(t), t}
	h.run("city")
	for i := range 30 {
		id := canonical.ExternalID(fmt.Sprintf("g%d", i%10))
		h.see(id, i, fmt.Sprintf(`{"id":%q,"email":"p%d@example.org","firstName":"P%d","city":"Bern %d"}`, id, i%8, i%8, i)) // two are one with others
	}
	h.see("g4", 40, "")
	h.settled()
	compare := func() replay.Comparison {
		t.Helper()
		dry := h.rehearse("city", func(done func()) *replay.Dry { return replay.NewRebuild(h.Conn, guild, done) })
		got, err := replay.Compare(t.Context(), h, h.Conn, dry, guild)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := compare(); !got.Equal() || got.Entities != 10 || got.Same != 10 || got.Hash == "" {
		t.Errorf("got %+v", got)
	}
	if err := h.Purge(t.Context(), streams.CANONICAL, streams.Entity(canonical.KindContact, guild, contact("g3")), 0); err != nil {
		t.Fatal(err)
	}
	e := h.state("g2")
	e.Contact.Address.City = "Olten"
	data, err := json.Marshal(e)
	if err == nil {
		_, err = h.Publish(t.Context(), bus.Message{Subject: streams.Canonical(canonical.KindContact, guild, e.ID(), canonical.OpUpdated), Data: data})
	}
	if err != nil {
		t.Fatal(err)
	}
	got := compare()
	what := map[canonical.CanonicalID]string{}
	for _, d := range got.Differences {
		what[d.ID] = fmt.Sprint(d.What, d.Fields)
	}
	if want := map[canonical.CanonicalID]string{contact("g2"): "differs[address.city]", contact("g3"): "new[]"}; got.Equal() || fmt.Sprint(what) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", what, want)
	}
}

// TestALongReplay is paused and gone on with, left and gone on with, and ended.
func TestALongReplay(t *testing.T) {
	h := house{bustest.Start(t), t}
	h.run("city")
	for i := range 60 {
		h.see(canonical.ExternalID(fmt.Sprintf("g%d", i)), i, fmt.Sprintf(`{"id":"g%d","email":"p%d@example.org"}`, i, i))
	}
	h.settled()
	before := len(bustest.All(t, h.Conn, streams.RAW))
	clk := &fast{now: start}
	if err := replay.New(t.Context(), h, replay.Replay{ID: "long", Choice: replay.Choice{Stream: streams.RAW}, Rate: 10, Asked: start}); err != nil {
		t.Fatal(err)
	}
	ask := func(s replay.State) {
		t.Helper()
		if _, err := replay.Ask(t.Context(), h, "long", s, start); err != nil {
			t.Fatal(err)
		}
	}
	got, err := replay.Run(t.Context(), h, clk, "long", func(r replay.Replay) {
		if r.State == replay.Running {
			ask(replay.Paused)
		}
	})
	if err != nil || got.State != replay.Paused || got.Told == 0 || got.Told > 30 || got.Total != 60 {
		t.Fatalf("paused: %+v, %v", got, err)
	}
	ctx, leave := context.WithCancel(t.Context())
	next, err := replay.Run(ctx, h, clk, "long", func(replay.Replay) { leave() })
	if err != nil || next.State != replay.Running || next.Told <= got.Told || next.Told == 60 {
		t.Fatalf("left: %+v, %v", next, err)
	}
	busy := false
	done, err := replay.Run(t.Context(), h, clk, "long", func(r replay.Replay) {
		if r.State == replay.Running && !busy {
			_, err := replay.Run(t.Context(), h, clk, "long", func(replay.Replay) {})
			busy = errors.Is(err, replay.ErrBusy)
		}
	})
	if err != nil || done.State != replay.Done || done.Told != 60 || !busy {
		t.Errorf("got %+v, %v; another was refused: %v", done, err, busy)
	}
	if n := len(bustest.All(t, h.Conn, streams.RAW)); n != before+60 {
		t.Errorf("%d messages were told again, want 60", n-before)
	}
	if _, err := replay.Ask(t.Context(), h, "long", replay.Cancelled, start); err == nil {
		t.Error("what is done was ended")
	}
	if err := replay.New(t.Context(), h, replay.Replay{ID: "other", Choice: replay.Choice{Stream: streams.RAW}, Asked: start.Add(1)}); err != nil {
		t.Fatal(err)
	}
	if _, err := replay.Ask(t.Context(), h, "other", replay.Cancelled, start); err != nil {
		t.Fatal(err)
	}
	if _, err := replay.Run(t.Context(), h, clk, "other", func(replay.Replay) {}); err == nil {
		t.Error("what was ended went on")
	}
	if list, err := replay.List(t.Context(), h); err != nil || len(list) != 2 || list[0].ID != "long" || list[1].State != replay.Cancelled {
		t.Errorf("got %+v, %v", list, err)
	}
}
