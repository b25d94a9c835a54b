package transform_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
	"github.com/causeway-sync/causeway/transform/merge"
)

// The benchmarks of what is done for each message. How often each allocates is
// a figure that noise can't touch; `make bench-allocs` compares it with
// bench/allocations.txt.

var hotLens = mapping.Association("US")

func hotObservation(turn int) observation.Observation {
	at := time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC).Add(time.Duration(turn) * 20 * time.Minute)
	return observation.Observation{System: canonical.GHL, Tenant: "alpine-guild", Kind: canonical.KindContact, ExternalID: "nmFmQ7xZ9LpWvT2mKn5R", Via: observation.Fetch, Endpoint: observation.GHLContactGet,
		ReadBegan: at.Add(time.Minute), Modified: at, Names: map[string]string{"kQ2vWmXbT7nLzR4pYd8J": "contact.job_title", "nH6cZtGfB3qKsV9wMx2P": "contact.membership_status"},
		Record: json.RawMessage(fmt.Sprintf(`{"id":"nmFmQ7xZ9LpWvT2mKn5R","firstName":"Ada","lastName":"Imhof","email":"ada@example.org","phone":"+12025550143","companyName":"Summit Outfitters",`+
			`"address1":"1 Summit Road","city":"Ouray %d","state":"CO","postalCode":"81427","country":"US","website":"https://example.org","dateOfBirth":"1984-06-12","dnd":false,`+
			`"dndSettings":{"Email":{"status":"inactive"},"SMS":{"status":"inactive"},"Call":{"status":"inactive"}},"tags":["board","volunteer","newsletter"],"additionalEmails":[],`+
			`"customFields":[{"id":"kQ2vWmXbT7nLzR4pYd8J","value":"Guide"},{"id":"nH6cZtGfB3qKsV9wMx2P","value":"Current"}]}`, turn))}
}

func hotSeen(b *testing.B, turn int) merge.Seen {
	b.Helper()
	o := hotObservation(turn)
	shown, err := hotLens.Show(o)
	if err != nil {
		b.Fatal(err)
	}
	return merge.Seen{System: o.System, External: o.ExternalID, Via: o.Via, Shown: shown,
		At: canonical.Read{Modified: o.Modified.UnixMicro(), AsOf: o.ReadBegan.UnixMicro(), Seq: uint64(turn + 1)}}
}

// hotState is a contact that was seen once, and what came of it.
func hotState(b *testing.B) (canonical.Event, merge.Outcome) {
	b.Helper()
	id := canonical.NewID("alpine-guild", canonical.KindContact, canonical.GHL, "nmFmQ7xZ9LpWvT2mKn5R")
	return merge.Apply(canonical.NewEvent(canonical.KindContact, id), hotSeen(b, 0), merge.Policy{Lens: hotLens})
}

func BenchmarkHotDecodeObservation(b *testing.B) {
	data, err := hotObservation(0).Encode()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := observation.Decode(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHotMapping(b *testing.B) {
	o := hotObservation(0)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := hotLens.Show(o); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHotMerge(b *testing.B) {
	state, _ := hotState(b)
	again := hotSeen(b, 0)
	again.At.AsOf, again.At.Seq = again.At.AsOf+1, 9
	for _, bb := range []struct {
		name string
		seen merge.Seen
		op   canonical.Op
	}{{"Update", hotSeen(b, 1), canonical.OpUpdated}, {"Echo", again, ""}} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, out := merge.Apply(state, bb.seen, merge.Policy{Lens: hotLens}); out.Op != bb.op {
					b.Fatalf("got op %q, want %q", out.Op, bb.op)
				}
			}
		})
	}
}

func BenchmarkHotEncodeEvent(b *testing.B) {
	state, _ := hotState(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := json.Marshal(state); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHotDecodeEvent(b *testing.B) {
	state, _ := hotState(b)
	data, err := json.Marshal(state)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := canonical.DecodeEvent(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHotEnvelope(b *testing.B) {
	state, out := hotState(b)
	b.ReportAllocs()
	for b.Loop() {
		if h := envelope.EventAttributes("alpine-guild", out.Op, state, out.Origin, out.At).Header(); len(h) == 0 {
			b.Fatal("no header")
		}
	}
}

func BenchmarkHotSubject(b *testing.B) {
	state, out := hotState(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := streams.Parse(streams.Canonical(canonical.KindContact, "alpine-guild", state.ID(), out.Op)); err != nil {
			b.Fatal(err)
		}
	}
}
