package transform_test

import (
	"context"
	"testing"
	"time"

	"github.com/goccy/go-json"
	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
	"github.com/causeway-sync/causeway/transform"
)

// readingPhone is the association's mapping with the phone in another field of
// Novi, and with a code in front of what is found there.
func readingPhone(t *testing.T, path, read string) *mapping.Lens {
	t.Helper()
	template, err := mapping.Template("association")
	if err != nil {
		t.Fatal(err)
	}
	lens, _, err := template.With(mapping.Spec{Contact: mapping.ContactSpec{Fields: map[string]*mapping.FieldSpec{
		"phone": {GHL: mapping.SideSpec{Path: "phone"}, Novi: mapping.SideSpec{Path: path, Read: read}, Convert: mapping.Phone},
	}}}).Build("US")
	if err != nil {
		t.Fatal(err)
	}
	return lens
}

// TestAChangedReadingIsNobodysEdit starts the transform anew with a mapping that
// takes the phone from another of Novi's fields, as a changed file does, and
// has Novi's user change the city, and of one member the phone.
func TestAChangedReadingIsNobodysEdit(t *testing.T) {
	b := bustest.Start(t)
	run := func(lens *mapping.Lens) (stop func()) {
		return bustest.Go(t, func(ctx context.Context) error {
			return transform.Run(ctx, transform.Config{Bus: b, Logger: zerolog.Nop(), Tenants: map[canonical.Tenant]transform.Policy{guild: {Lens: lens}}})
		})
	}
	minutes := 0
	see := func(system canonical.System, id canonical.ExternalID, record string) {
		t.Helper()
		minutes++
		at := time.Date(2026, 11, 1, 10, minutes, 0, 0, time.UTC)
		o := observation.Observation{System: system, Tenant: guild, Kind: canonical.KindContact, ExternalID: id, Via: observation.Fetch, ReadBegan: at, Modified: at,
			Endpoint: map[canonical.System]string{canonical.GHL: observation.GHLContactGet, canonical.Novi: observation.NoviMemberGet}[system], Record: json.RawMessage(record)}
		data, err := o.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Publish(t.Context(), bus.Message{Subject: streams.Raw(o), Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	contact := func(id canonical.ExternalID) canonical.Event {
		t.Helper()
		bustest.Settled(t, b, streams.RAW, streams.Transform().Durable)
		m, err := b.Last(t.Context(), streams.CANONICAL, streams.Entity(canonical.KindContact, guild, canonical.NewID(guild, canonical.KindContact, canonical.Novi, id)))
		if err != nil {
			t.Fatal(err)
		}
		e, err := canonical.DecodeEvent(m.Data)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	member := func(phone, mobile, city string) string {
		return `{"CustomerType":"Person","Email":"ada@example.org","Phone":"` + phone + `","Mobile":"` + mobile + `","BillingAddress":{"City":"` + city + `"}}`
	}

	stop := run(readingPhone(t, "Phone", ""))
	see(canonical.Novi, "m1", member("202-456-1111", "202-456-2222", "Bern"))
	see(canonical.GHL, "g1", `{"id":"g1","email":"ada@example.org","phone":"+12024563333","city":"Bern"}`)
	if got := contact("m1").Contact.Phone; got != "+12024563333" {
		t.Fatalf("phone is %q before the mapping changes", got)
	}
	stop()

	stop = run(readingPhone(t, "Mobile", ""))
	see(canonical.Novi, "m1", member("202-456-1111", "202-456-2222", "Thun"))
	e := contact("m1")
	if e.Contact.Phone != "+12024563333" || e.Contact.Address.City != "Thun" || e.Sync.Base[canonical.Novi].Fields["phone"] != "+12024562222" {
		t.Errorf("read anew, phone is %q, city %q, and Novi is known to show %q", e.Contact.Phone, e.Contact.Address.City, e.Sync.Base[canonical.Novi].Fields["phone"])
	}
	stop()

	run(readingPhone(t, "Mobile", "value.replace('202', '303')"))
	see(canonical.Novi, "m1", member("202-456-1111", "202-456-4444", "Thun"))
	if e := contact("m1"); e.Contact.Phone != "+13034564444" {
		t.Errorf("edited while the mapping changed, phone is %q", e.Contact.Phone)
	}
}
