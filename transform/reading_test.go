package transform_test

import (
	"context"
	"reflect"
	"slices"
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

// TestRehearse: what is said of a changed reading is what becomes of it when
// the records are seen again.
func TestRehearse(t *testing.T) {
	b := bustest.Start(t)
	minute := 0
	see := func(system canonical.System, record string) {
		t.Helper()
		minute++
		o := observation.Observation{System: system, Tenant: guild, Kind: canonical.KindContact, ExternalID: canonical.ExternalID(system) + "1", Via: observation.Fetch,
			ReadBegan: time.Date(2026, 11, 1, 10, minute, 0, 0, time.UTC), Modified: time.Date(2026, 11, 1, 9, 0, 0, 0, time.UTC),
			Endpoint: map[canonical.System]string{canonical.GHL: observation.GHLContactGet, canonical.Novi: observation.NoviMemberGet}[system], Record: json.RawMessage(record)}
		data, err := o.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Publish(t.Context(), bus.Message{Subject: streams.Raw(o), Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	run := func(lens *mapping.Lens) (stop func()) {
		return bustest.Go(t, func(ctx context.Context) error {
			return transform.Run(ctx, transform.Config{Bus: b, Logger: zerolog.Nop(), Tenants: map[canonical.Tenant]transform.Policy{guild: {Lens: lens}}})
		})
	}
	state := func() canonical.Event {
		t.Helper()
		bustest.Settled(t, b, streams.RAW, streams.Transform().Durable)
		m, err := b.Last(t.Context(), streams.CANONICAL, streams.Entity(canonical.KindContact, guild, canonical.NewID(guild, canonical.KindContact, canonical.Novi, "novi1")))
		if err != nil {
			t.Fatal(err)
		}
		e, err := canonical.DecodeEvent(m.Data)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	const member = `{"CustomerType":"Person","Email":"ada@example.org","Phone":"202-456-1111","Mobile":"202-456-2222"}`
	stop := run(readingPhone(t, "Phone", ""))
	see(canonical.Novi, member)
	state()
	stop()
	for _, tt := range []struct {
		name   string
		lens   *mapping.Lens
		fields []string
		phone  string
		change bool
	}{
		{"as it was read", readingPhone(t, "Phone", ""), nil, "+12024561111", false},
		{"from another field", readingPhone(t, "Mobile", ""), []string{"phone"}, "+12024562222", true},
		{"by another expression", readingPhone(t, "Mobile", "value.replace('202', '303')"), []string{"phone"}, "+13034562222", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			was := state()
			got, err := transform.Rehearse(t.Context(), b, guild, was, transform.Policy{Lens: tt.lens}, time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC))
			if err != nil {
				t.Fatal(err)
			}
			var fields []string
			for _, r := range got.Records {
				fields = append(fields, r.Fields...)
			}
			if !slices.Equal(fields, tt.fields) || len(got.Changes) > 0 != tt.change || got.State.Contact.Phone != tt.phone {
				t.Errorf("read in another way: %v, changes %v, phone %q; want %v, %q", fields, got.Changes, got.State.Contact.Phone, tt.fields, tt.phone)
			}
			stop := run(tt.lens)
			see(canonical.Novi, member)
			if e := state(); !reflect.DeepEqual(e.Contact, got.State.Contact) || tt.change && !reflect.DeepEqual(e.Changes, got.Changes) {
				t.Errorf("the transform came to %+v by %v, want %+v by %v", e.Contact, e.Changes, got.State.Contact, got.Changes)
			}
			stop()
		})
	}
	t.Run("RAW doesn't hold it any more", func(t *testing.T) {
		was := state()
		if err := b.Purge(t.Context(), streams.RAW, ">", 0); err != nil {
			t.Fatal(err)
		}
		got, err := transform.Rehearse(t.Context(), b, guild, was, transform.Policy{Lens: readingPhone(t, "Phone", "")}, time.Now())
		if err != nil || len(got.Records) != 1 || !got.Records[0].Unknown || len(got.Changes) > 0 {
			t.Errorf("got %+v, %v", got, err)
		}
	})
}
