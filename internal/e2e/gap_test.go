package e2e_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/goccy/go-json"
	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/dev"
	"github.com/causeway-sync/causeway/internal/ghlsim"
	"github.com/causeway-sync/causeway/internal/natsembed"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
	"github.com/causeway-sync/causeway/transform/gap"
)

// TestRestoredRAW puts RAW back to before an edit that only a webhook has told
// of, and that the transform has not seen. Nothing polls, so without the gap
// being noticed and swept the edit would never arrive.
func TestRestoredRAW(t *testing.T) {
	t.Parallel()
	w := world(t, dev.Options{})
	store := filepath.Join(w.Dir, "nats")
	var broker *natsembed.Server
	start := func() {
		t.Helper()
		var err error
		if broker, err = natsembed.Start(natsembed.Options{StoreDir: store, Listen: w.NATSAddr}); err != nil {
			t.Fatal(err)
		}
	}
	start()
	t.Cleanup(func() { broker.Shutdown() })
	h, err := w.StartOn(t.Context(), zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.ErrorLevel), broker, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Stop(); err != nil {
			t.Error(err)
		}
	})
	g := &guild{World: w, t: t, c: connect(t, w)}
	ada := g.contact(map[string]any{"firstName": "Ada", "lastName": "Imhof", "email": "ada@example.org"})
	was := g.of(canonical.GHL, ada)
	if err := w.Quiet(t.Context(), g.c, time.Second); err != nil {
		t.Fatal(err)
	}

	raw, backup := filepath.Join(store, "jetstream", "$G", "streams", streams.RAW), filepath.Join(t.TempDir(), "RAW")
	if err := h.StopStage("transform"); err != nil {
		t.Fatal(err)
	}
	broker.Shutdown()
	if err := os.CopyFS(backup, os.DirFS(raw)); err != nil {
		t.Fatal(err)
	}
	start()
	if _, err := w.GHL.Edit(ghlsim.Edit{Kind: ghlsim.EditUpdate, LocationID: dev.Location, ContactID: string(ada), Fields: map[string]any{"lastName": "Berg"}}); err != nil {
		t.Fatal(err)
	}
	counts, err := g.c.Bucket(t.Context(), streams.COUNTS)
	if err != nil {
		t.Fatal(err)
	}
	bustest.Until(t, func() bool { // the fetch is stored, and ingest has noted that it is
		m, err := g.c.Last(t.Context(), streams.RAW, streams.RawWhere(canonical.GHL, dev.Tenant, canonical.KindContact, ada, observation.Fetch))
		return err == nil && m.Seq > was.Cause.Sequence && noted(t, counts, m.Seq)
	})
	broker.Shutdown()
	if err := os.RemoveAll(raw); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(raw, os.DirFS(backup)); err != nil {
		t.Fatal(err)
	}
	start()
	if err := h.Start(t.Context(), "transform"); err != nil {
		t.Fatal(err)
	}
	bustest.Until(t, func() bool { return w.Novi.Dump()[0].Fields["LastName"] == "Berg" })

	var all []envelope.Gap
	bustest.Until(t, func() bool {
		all, err = gap.All(t.Context(), g.c)
		return err == nil && len(all) == 1 && all[0].State == envelope.GapClosed
	})
	if all[0].System != canonical.GHL || all[0].Kind != canonical.KindContact || all[0].Missing == 0 {
		t.Errorf("the gap was %+v, want that of the GHL contacts", all[0])
	}
	g.noLetters()
}

// noted reports whether somebody knows that RAW holds seq.
func noted(t *testing.T, counts bus.KV, seq uint64) bool {
	t.Helper()
	keys, err := counts.Keys(t.Context(), streams.ReceiptKeys)
	if err != nil {
		return false
	}
	for _, key := range keys {
		value, _, err := counts.Get(t.Context(), key)
		var r streams.Receipt
		if err != nil || json.Unmarshal(value, &r) != nil {
			return false
		}
		for _, a := range r.Lanes {
			if a.Last >= seq {
				return true
			}
		}
	}
	return false
}
