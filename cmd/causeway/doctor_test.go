package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/config"
	"github.com/causeway-sync/causeway/internal/dead"
	"github.com/causeway-sync/causeway/internal/hold"
	"github.com/causeway-sync/causeway/internal/probe"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

const patient = `ingest: {listen: "127.0.0.1:0"}
tenants:
  - name: guild
    ghl: {location: l, token: env:CAUSEWAY_TEST_DOCTOR_GHL}
    novi: {base_url: "https://novi.example.org", key: env:CAUSEWAY_TEST_DOCTOR_NOVI, create: never}
`

func patientFile(t *testing.T, text string) *config.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "causeway.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// says looks for a symptom with that result whose detail and cure have those
// words.
func says(t *testing.T, found []symptom, check string, r probe.Result, words ...string) {
	t.Helper()
	for _, s := range found {
		text := s.Detail + " " + s.Cure
		fits := s.Check == check && s.Result == r && (r == probe.OK || s.Cure != "" || r == probe.Note)
		for _, w := range words {
			fits = fits && strings.Contains(text, w)
		}
		if fits {
			return
		}
	}
	t.Errorf("nobody says %s %s %q: %+v", check, r, words, found)
}

func TestDoctorOfTheConfiguration(t *testing.T) {
	says(t, configuration(errors.New("causeway.yaml:3: unknown field \"locaton\"")), "configuration", probe.Bad, "locaton", "causeway schema config")
	says(t, configuration(errors.New("causeway.yaml:3: tenants[0] (a).novi.create: has to be said")), "configuration", probe.Bad, "QuickBooks")
	says(t, configuration(nil), "configuration", probe.OK)
}

func TestDoctorOfSecrets(t *testing.T) {
	f := patientFile(t, patient)
	t.Setenv("CAUSEWAY_TEST_DOCTOR_GHL", "pit-0123456789")
	found := secrets(f, f.Tenants)
	says(t, found, "secrets", probe.Bad, "novi.key", "env:CAUSEWAY_TEST_DOCTOR_NOVI is empty")
	if len(found) != 1 || strings.Contains(found[0].Detail, "0123456789") {
		t.Errorf("got %+v", found)
	}
	t.Setenv("CAUSEWAY_TEST_DOCTOR_NOVI", "k")
	says(t, secrets(f, f.Tenants), "secrets", probe.OK)
}

func TestDoctorOfLimits(t *testing.T) {
	says(t, limits(patientFile(t, patient).Tenants), "call limits", probe.OK)
	f := patientFile(t, strings.Replace(patient, "location: l,", "location: l, limits: {windows: [{calls: 500, per: 10s}]},", 1))
	says(t, limits(f.Tenants), "call limits", probe.Warn, "ghl.limits allows 50 calls a second", "take limits out")
}

func TestDoctorWithoutABroker(t *testing.T) {
	says(t, []symptom{broker("nats://h:4222", errors.New("no servers available"))}, "broker", probe.Bad, "start nats-server", "nats://h:4222")
	t.Setenv("CAUSEWAY_TEST_DOCTOR_GHL", "x")
	t.Setenv("CAUSEWAY_TEST_DOCTOR_NOVI", "x")
	path := filepath.Join(t.TempDir(), "causeway.yaml")
	if err := os.WriteFile(path, []byte("nats: {url: 'nats://127.0.0.1:1'}\n"+patient), 0o600); err != nil {
		t.Fatal(err)
	}
	c := &doctorCmd{configured: configured{Config: path}, Offline: true}
	found := c.examine(t.Context())
	says(t, found, "configuration", probe.OK)
	says(t, found, "broker", probe.Bad)
}

func TestDoctorOfStreams(t *testing.T) {
	says(t, topology(nil), "streams", probe.OK)
	says(t, topology([]streams.Difference{{Object: "stream RAW"}}), "streams", probe.Bad, "stream RAW: missing", "streams apply")
	says(t, topology([]streams.Difference{{Object: "stream RAW", Field: "max_age", Have: "1h", Want: "720h"}}), "streams", probe.Warn, "max_age")
	says(t, topology([]streams.Difference{{Object: "stream RAW", Newer: true, Have: "9", Want: "4"}}), "streams", probe.Warn, "bring this program up")
}

func TestDoctorOfConsumers(t *testing.T) {
	tenants := patientFile(t, patient).Tenants
	all := func(change func(*streams.ConsumerStatus)) []streams.StreamStatus {
		var list []streams.ConsumerStatus
		for _, c := range []streams.Consumer{streams.Transform(), streams.Tags(), streams.Children(), streams.Hydrate("guild"), streams.Sink(canonical.GHL, "guild"), streams.Sink(canonical.Novi, "guild")} {
			s := streams.ConsumerStatus{Durable: c.Durable, Pulling: true}
			change(&s)
			list = append(list, s)
		}
		return []streams.StreamStatus{{Consumers: list}}
	}
	says(t, consumers(all(func(*streams.ConsumerStatus) {}), tenants), "consumers", probe.OK)
	says(t, consumers(all(func(c *streams.ConsumerStatus) { c.Pending = 5 }), tenants), "consumers", probe.OK) // somebody works
	stalled := consumers(all(func(c *streams.ConsumerStatus) {
		if c.Durable == "sink-novi-guild" {
			c.Pending, c.Pulling = 5, false
		}
	}), tenants)
	says(t, stalled, "consumers", probe.Bad, "sink-novi-guild: 5 wait and nobody asks", "start sink")
	says(t, consumers(nil, tenants), "consumers", probe.Bad, "transform has never run", "start transform")
}

func TestDoctorOfWhatWaits(t *testing.T) {
	now := time.Now()
	says(t, []symptom{deadLetters(nil)}, "dead letters", probe.OK)
	says(t, []symptom{deadLetters([]dead.Letter{{DeadLetter: envelope.DeadLetter{Class: envelope.Credentials, At: now}}})}, "dead letters", probe.Warn, "1 credentials", "causeway dead list")
	says(t, heldDeletes([]hold.Tenant{{Tenant: "guild", Held: true, Since: now, Waiting: 40}}), "held deletes", probe.Bad, "40 deletes", "causeway hold show guild")
	says(t, backfills([]reading{{tenant: "guild", system: canonical.GHL, walk: streams.Walk{Shown: 5, Total: 10, At: now.Add(-time.Hour)}}}, now), "backfill", probe.Bad, "5 of 10, stands still", "ingest's log")
	says(t, circuits([]openCircuit{{"guild", "ghl", "sink", streams.Circuit{Cause: "refused", Reason: "status 401", Since: now}}}), "circuits", probe.Bad, "status 401", "credential")
	says(t, circuits([]openCircuit{{"guild", "novi", "sink", streams.Circuit{Cause: "away", Reason: "status 503", Since: now}}}), "circuits", probe.Bad, "goes on")
}

func TestDoctorOfWebhooks(t *testing.T) {
	c := bustest.Start(t)
	f := patientFile(t, patient)
	look := func(f *config.File) []symptom {
		t.Helper()
		found, err := webhooks(t.Context(), c, f, f.Tenants)
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	says(t, look(f), "webhooks", probe.Warn, "none of ghl", "docs/connect-ghl.md")
	o := observation.Observation{System: canonical.GHL, Tenant: "guild", Kind: canonical.KindContact, ExternalID: "x", Via: observation.Notice}
	if _, err := c.Publish(context.Background(), bus.Message{Subject: streams.Raw(o), Data: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	says(t, look(f), "webhooks", probe.OK)
	says(t, look(patientFile(t, strings.Replace(patient, "127.0.0.1:0", "", 1))), "webhooks", probe.Note, "polls only")
}

func TestDoctorOfTheSystems(t *testing.T) {
	check := func(system canonical.System, name string, r probe.Result, detail string) probe.Report {
		return probe.Report{Tenant: "guild", Checks: []probe.Check{{System: system, Name: name, Result: r, Detail: detail}}}
	}
	says(t, systems(check(canonical.GHL, "location", probe.OK, "")), "systems", probe.OK)
	says(t, systems(check(canonical.GHL, "location", probe.Bad, "status 403")), "ghl: location", probe.Bad, "token of this very location")
	says(t, systems(check(canonical.GHL, "contacts", probe.Bad, "ghl: search contacts: wait: call budget")), "ghl: contacts", probe.Note, "look again later")
	says(t, systems(check(canonical.GHL, "duplicates", probe.Warn, "allows duplicated contacts")), "ghl: duplicates", probe.Warn, "switch off")
	says(t, systems(check(canonical.GHL, "clock", probe.Warn, "off by 90s")), "ghl: clock", probe.Warn, "NTP")
	says(t, systems(check(canonical.Novi, "one member", probe.Bad, "status 403")), "novi: one member", probe.Bad, "right to see whole members")
	says(t, systems(check(canonical.Novi, "field Mobile", probe.Bad, "there is none")), "novi: field Mobile", probe.Bad, "change the mapping")
	says(t, systems(check(canonical.Novi, "webhooks", probe.Warn, "none is active")), "novi: webhooks", probe.Warn, "register")
}

func TestDoctorOfABrokerAsAStageFindsIt(t *testing.T) {
	c := bustest.Start(t)
	f := patientFile(t, patient)
	found := stages(t.Context(), c, f, f.Tenants)
	says(t, found, "streams", probe.OK)
	says(t, found, "consumers", probe.Bad, "start sink")
	says(t, found, "dead letters", probe.OK)
}
