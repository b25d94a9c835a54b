package history_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/history"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/effect"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

const guild = "alpine-guild"

// house is a broker on which a pipeline's messages are laid by hand.
type house struct {
	*bus.Conn
	t *testing.T
}

func (h house) put(subject, id string, body any) (uint64, time.Time) {
	h.t.Helper()
	data, ok := body.([]byte)
	if !ok {
		var err error
		if data, err = json.Marshal(body); err != nil {
			h.t.Fatal(err)
		}
	}
	a, err := h.Publish(h.t.Context(), bus.Message{Subject: subject, ID: id, Data: data})
	if err != nil {
		h.t.Fatal(err)
	}
	m, err := h.Message(h.t.Context(), a.Stream, a.Seq)
	if err != nil {
		h.t.Fatal(err)
	}
	return a.Seq, m.Time
}

func (h house) see(o observation.Observation, id string) (uint64, time.Time) {
	h.t.Helper()
	o.Tenant, o.Kind = guild, canonical.KindContact
	if o.Via.Shows() && !o.Absent {
		o.Record = []byte(`{"id":"g1"}`)
	}
	data, err := o.Encode()
	if err != nil {
		h.t.Fatal(err)
	}
	return h.put(streams.Raw(o), id, data)
}

func (h house) claim(key string, id canonical.CanonicalID) {
	h.t.Helper()
	kv, err := h.Bucket(h.t.Context(), streams.IDENTITY)
	if err == nil {
		_, err = kv.Put(h.t.Context(), key, []byte(id))
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// TestAPhoneNumber follows one from the webhook that told of it to the other
// system, and back.
func TestAPhoneNumber(t *testing.T) {
	h := house{bustest.Start(t), t}
	id := canonical.NewID(guild, canonical.KindContact, canonical.GHL, "g1")
	ref := history.Ref{Tenant: guild, Kind: canonical.KindContact, ID: id}
	event := func(op canonical.Op, version, raw uint64, via observation.Via, phone string, at time.Time, changes ...canonical.Change) {
		h.put(streams.Canonical(canonical.KindContact, guild, id, op), "", canonical.Event{
			Version: version, Contact: canonical.Contact{ID: id, Email: "ada@example.org", Phone: phone}, Changes: changes,
			Links: map[canonical.System][]canonical.ExternalID{canonical.GHL: {"g1"}, canonical.Novi: {"n1"}},
			Cause: canonical.Cause{Stream: "RAW", Sequence: raw, Via: string(via), System: canonical.GHL},
			Sync: canonical.Sync{
				Stamps: map[string]canonical.Stamp{"phone": {At: at.UnixMicro(), Seq: raw, Origin: canonical.GHL}},
				Base: map[canonical.System]canonical.Base{
					canonical.GHL:  {External: "g1", Fields: map[string]string{"phone": phone}},
					canonical.Novi: {External: "n1", Fields: map[string]string{"phone": "+12015550100"}},
				}}})
	}
	h.claim(streams.ClaimKey(guild, "email", "ada@example.org"), id)
	h.claim(streams.LinkKey(guild, canonical.KindContact, canonical.GHL, "g1"), id)

	first, began := h.see(observation.Observation{System: canonical.GHL, ExternalID: "g1", Via: observation.Backfill, Endpoint: observation.GHLContactSearch, ReadBegan: time.Now()}, "")
	event(canonical.OpCreated, 1, first, observation.Backfill, "+12015550100", began, canonical.Change{Field: "phone", To: "+12015550100", Origin: canonical.GHL, At: began})
	_, before := h.put("dead.ingest.alpine-guild.unknown.other", "", []byte(`{}`)) // of no concern
	notice, told := h.see(observation.Observation{System: canonical.GHL, ExternalID: "g1", Via: observation.Notice}, "ghl-wh-77")
	// A read that had begun before the webhook came doesn't show what it tells of.
	h.see(observation.Observation{System: canonical.GHL, ExternalID: "g1", Via: observation.Fetch, Endpoint: observation.GHLContactGet, ReadBegan: told.Add(-time.Second)}, "")
	fetch, seen := h.see(observation.Observation{System: canonical.GHL, ExternalID: "g1", Via: observation.Fetch, Endpoint: observation.GHLContactGet, ReadBegan: told.Add(time.Millisecond)}, "")
	event(canonical.OpUpdated, 2, fetch, observation.Fetch, "+12015550199", seen, canonical.Change{Field: "phone", From: "+12015550100", To: "+12015550199", Origin: canonical.GHL, At: seen})
	write := effect.Effect{System: canonical.Novi, Tenant: guild, Kind: canonical.KindContact, ID: id, State: effect.Intent, Version: 2, Attempt: 1, External: "n1",
		Wrote: map[string]string{"phone": "+12015550199"}, TagsAdded: []string{"board"}}
	h.put(streams.Effect(canonical.Novi, guild, canonical.KindContact, id), "", write)
	said, _ := h.see(observation.Observation{System: canonical.Novi, ExternalID: canonical.ExternalID(id), Entity: id, Target: "n1", Via: observation.Intent, Wrote: write.Wrote}, "")
	write.State = effect.Done
	h.put(streams.Effect(canonical.Novi, guild, canonical.KindContact, id), "", write)
	answer, shown := h.see(observation.Observation{System: canonical.Novi, ExternalID: "n1", Entity: id, Via: observation.Writeback, Endpoint: observation.NoviMemberGet, Wrote: write.Wrote}, "")
	event(canonical.OpObserved, 3, answer, observation.Writeback, "+12015550199", seen)

	for _, key := range []string{string(id), "g1", " Ada@Example.org "} {
		if got, err := history.Find(t.Context(), h, []canonical.Tenant{"another", guild}, key); err != nil || len(got) != 1 || got[0] != ref {
			t.Errorf("%q: got %v, %v", key, got, err)
		}
	}
	for _, key := range []string{"g2", "eve@example.org"} {
		if got, err := history.Find(t.Context(), h, []canonical.Tenant{guild}, key); !errors.Is(err, history.ErrUnknown) {
			t.Errorf("%q: got %v, %v", key, got, err)
		}
	}

	t.Run("show", func(t *testing.T) {
		for _, c := range []struct {
			at    time.Time
			phone string
			err   error
		}{{time.Time{}, "+12015550199", nil}, {shown, "+12015550199", nil}, {before, "+12015550100", nil}, {began.Add(-time.Hour), "", history.ErrBeyond}} {
			got, err := history.Show(t.Context(), h, ref, c.at)
			if !errors.Is(err, c.err) || got.Event.Contact.Phone != c.phone {
				t.Errorf("at %v: got %q, %v", c.at, got.Event.Contact.Phone, err)
			}
		}
		got, err := history.Show(t.Context(), h, ref, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		i := 0
		for i < len(got.Fields) && got.Fields[i].Name != "phone" {
			i++
		}
		if f := got.Fields[i]; f.Origin != canonical.GHL || f.Shown[canonical.GHL] != "+12015550199" || f.Shown[canonical.Novi] != "+12015550100" {
			t.Errorf("got %+v", f)
		}
	})

	t.Run("blame", func(t *testing.T) {
		got, err := history.BlameField(t.Context(), h, ref, "phone")
		if err != nil {
			t.Fatal(err)
		}
		if got.Value != "+12015550199" || got.From != "+12015550100" || got.Version != 2 || got.Origin != canonical.GHL || !got.At.Equal(seen) || len(got.Earlier) != 1 ||
			got.Answer == nil || got.Answer.Seq != fetch || got.Answer.Endpoint != observation.GHLContactGet || got.Notice == nil || got.Notice.Seq != notice {
			t.Errorf("got %+v", got)
		}
		if _, err := history.BlameField(t.Context(), h, ref, "company"); !errors.Is(err, history.ErrNoField) {
			t.Errorf("got %v for a field that never was", err)
		}
	})

	t.Run("trace", func(t *testing.T) {
		found, err := history.Notices(t.Context(), h, "wh-77", time.Time{})
		if err != nil || len(found) != 1 || found[0].Seq != notice {
			t.Fatalf("got %+v, %v", found, err)
		}
		got, err := history.Trace(t.Context(), h, notice)
		if err != nil {
			t.Fatal(err)
		}
		var steps []string
		for _, e := range got.Entries {
			steps = append(steps, fmt.Sprint(e.Step, e.Seq))
		}
		want := fmt.Sprint([]string{fmt.Sprint("notice", notice), fmt.Sprint("seen", fetch), "version2", "intent1", "outcome2", fmt.Sprint("writeback", answer), "version3"})
		if fmt.Sprint(steps) != want || got.End != "novi has it" || got.Ref != ref {
			t.Errorf("got %v, %q; want %v", steps, got.End, want)
		}
		if got, err := history.Trace(t.Context(), h, said+100); !errors.Is(err, history.ErrUnknown) {
			t.Errorf("got %+v, %v", got, err)
		}
	})
}

// TestWhatIsNotKept: of 80 versions of one op 64 are kept, and whoever asks for
// the others is told.
func TestWhatIsNotKept(t *testing.T) {
	h := house{bustest.Start(t), t}
	id := canonical.NewID(guild, canonical.KindContact, canonical.GHL, "g1")
	ref := history.Ref{Tenant: guild, Kind: canonical.KindContact, ID: id}
	var created time.Time
	for v := range uint64(80) {
		op := canonical.OpUpdated
		if v == 0 {
			op = canonical.OpCreated
		}
		_, at := h.put(streams.Canonical(canonical.KindContact, guild, id, op), "", canonical.Event{Version: v + 1, Contact: canonical.Contact{ID: id},
			Changes: []canonical.Change{{Field: "company", To: fmt.Sprint(v), Origin: canonical.Novi}}})
		if v == 0 {
			created = at
		}
	}
	got, err := history.Show(t.Context(), h, ref, created)
	if err != nil || got.Event.Version != 1 || got.Missing == nil || *got.Missing != (history.Range{From: 2, To: 16}) || got.Newest != 80 {
		t.Errorf("got version %d, missing %v, newest %d, %v", got.Event.Version, got.Missing, got.Newest, err)
	}
	line, err := history.Read(t.Context(), h, ref)
	if err != nil || len(line.Missing) != 1 || line.Missing[0] != (history.Range{From: 2, To: 16}) {
		t.Errorf("got %v, %v", line.Missing, err)
	}
}
