package streams_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

func TestToken(t *testing.T) {
	tests := []struct{ in, want string }{
		{"nmFmxyz012", "nmFmxyz012"},
		{"9f1c2d3e-0000-4000-8000-000000000001", "9f1c2d3e-0000-4000-8000-000000000001"},
		{"", "x--"},
		{"a.b", "x--612e62"},
		{"*", "x--2a"},
		{">", "x--3e"},
		{"a b", "x--612062"},
		{"x--2a", "x--782d2d3261"},
		{"é", "x--c3a9"},
	}
	for _, tt := range tests {
		got := streams.Token(tt.in)
		if got != tt.want {
			t.Errorf("Token(%q) = %q, want %q", tt.in, got, tt.want)
		}
		if back, err := streams.ParseToken(got); err != nil || back != tt.in {
			t.Errorf("ParseToken(%q) = %q, %v", got, back, err)
		}
	}
	for _, bad := range []string{"", "a.b", "*", ">", "a b", "x--zz", "x--6", "x--61", "x--6E6F"} {
		if got, err := streams.ParseToken(bad); err == nil {
			t.Errorf("ParseToken(%q) = %q, want an error", bad, got)
		}
	}
}

// published reports whether a server would take s as a subject to publish on.
func published(s string) bool {
	return s != "" && !strings.ContainsAny(s, "*> \t\r\n\x00") && !strings.HasPrefix(s, ".") && !strings.HasSuffix(s, ".") && !strings.Contains(s, "..")
}

func TestSubjectsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.OneOf(rapid.String(), rapid.StringMatching(`[A-Za-z0-9_-]{1,30}`), rapid.SampledFrom([]string{"*", ">", "a.b", "x--", "x--2a", " ", "\x00"})).Draw(t, "id")
		tenant := canonical.Tenant(rapid.StringMatching(`[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?`).Draw(t, "tenant"))
		system := rapid.SampledFrom([]canonical.System{canonical.GHL, canonical.Novi, canonical.Rule}).Draw(t, "system")
		raw := streams.Raw(observation.Observation{System: system, Tenant: tenant, Kind: canonical.KindContact, ExternalID: canonical.ExternalID(id), Via: observation.Fetch})
		check := func(subject string, tokens int, want streams.Parsed) {
			if !published(subject) {
				t.Fatalf("%q can't be published", subject)
			}
			if n := strings.Count(subject, ".") + 1; n != tokens {
				t.Fatalf("%q has %d tokens, want %d", subject, n, tokens)
			}
			got, err := streams.Parse(subject)
			if err != nil || got != want {
				t.Fatalf("Parse(%q) = %+v, %v; want %+v", subject, got, err, want)
			}
		}
		check(raw, 6, streams.Parsed{Stream: "raw", System: system, Tenant: tenant, Kind: canonical.KindContact, ID: id, Via: observation.Fetch})
		check(streams.Canonical(canonical.KindContact, tenant, canonical.CanonicalID(id), canonical.OpUpdated), 5,
			streams.Parsed{Stream: "canonical", Kind: canonical.KindContact, Tenant: tenant, ID: id, Op: canonical.OpUpdated})
		check(streams.Effect(system, tenant, canonical.KindContact, canonical.CanonicalID(id)), 5,
			streams.Parsed{Stream: "effects", System: system, Tenant: tenant, Kind: canonical.KindContact, ID: id})
		check(streams.Dead("sink", tenant, canonical.KindContact, id), 5,
			streams.Parsed{Stream: "dead", Stage: "sink", Tenant: tenant, Kind: canonical.KindContact, ID: id})
		entity := streams.Entity(canonical.KindContact, tenant, canonical.CanonicalID(id))
		if want := strings.TrimSuffix(streams.Canonical(canonical.KindContact, tenant, canonical.CanonicalID(id), "x"), "x") + "*"; entity != want {
			t.Fatalf("Entity = %q, want %q", entity, want)
		}
	})
}

func TestUnknownTenantsAndKindsOfDeadLetters(t *testing.T) {
	if got, want := streams.Dead("ingest", "", "", "abc"), "dead.ingest.unknown.unknown.abc"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := streams.Dead("ingest", "a.b", "*", "abc"); !published(got) || strings.Count(got, ".") != 4 {
		t.Errorf("got %q", got)
	}
}

// FuzzParse: whatever is parsed is spelled in exactly one way, and nothing
// that a subject's parts say can reach outside of its token.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"raw.ghl.a.contact.nmFm.notice", "canonical.contact.a.x--2a.updated", "effects.novi.a.contact.b", "dead.sink.a.contact.x--", "raw.ghl.a.contact.*.notice", "", "....", "canonical.>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, subject string) {
		p, err := streams.Parse(subject)
		if err != nil {
			return
		}
		var again string
		switch p.Stream {
		case "raw":
			again = streams.Raw(observation.Observation{System: p.System, Tenant: p.Tenant, Kind: p.Kind, ExternalID: canonical.ExternalID(p.ID), Via: p.Via})
		case "canonical":
			again = streams.Canonical(p.Kind, p.Tenant, canonical.CanonicalID(p.ID), p.Op)
		case "effects":
			again = streams.Effect(p.System, p.Tenant, p.Kind, canonical.CanonicalID(p.ID))
		case "dead":
			if p.Tenant == "" || p.Kind == "" {
				return // an unknown one is spelled "unknown"
			}
			again = streams.Dead(p.Stage, p.Tenant, p.Kind, p.ID)
		}
		if again != subject {
			t.Errorf("Parse(%q) is spelled %q", subject, again)
		}
		if !published(again) {
			t.Errorf("%q was parsed and can't be published", subject)
		}
	})
}
