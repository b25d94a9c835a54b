package e2e_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/dev"
	"github.com/causeway-sync/causeway/internal/ghlsim"
	"github.com/causeway-sync/causeway/internal/novisim"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

// TestEditsBetweenReadAndPut: somebody saves a member in Novi while our PUT of
// it is under way. What any read has shown is given back, in fields that the
// mapping knows and in others; what nobody could have read is gone, and both
// systems agree all the same.
func TestEditsBetweenReadAndPut(t *testing.T) {
	t.Parallel()
	const people = 4
	w := world(t, dev.Options{})
	contacts, members := make([]string, people), make([]string, people)
	for i := range people {
		var err error
		if contacts[i], err = w.GHL.Edit(ghlsim.Edit{Kind: ghlsim.EditCreate, LocationID: dev.Location,
			Fields: map[string]any{"firstName": "Ada", "lastName": fmt.Sprintf("Nr %d", i), "email": fmt.Sprintf("ada.%d@example.org", i)}}); err != nil {
			t.Fatal(err)
		}
	}
	here(t, w)
	c := connect(t, w)
	number := map[string]int{}
	bustest.Until(t, func() bool {
		for _, m := range w.Novi.Dump() {
			var i int
			if _, err := fmt.Sscanf(fmt.Sprint(m.Fields["LastName"]), "Nr %d", &i); err == nil {
				number[m.UniqueID], members[i] = i, m.UniqueID
			}
		}
		return len(number) == people
	})
	if err := w.Quiet(t.Context(), c, time.Second); err != nil {
		t.Fatal(err)
	}

	seen := func(i int) bool { return i < people-1 } // of the last one nobody reads what was saved
	var once sync.Map
	w.Novi.BeforePut(func(id string) {
		i := number[id]
		if _, again := once.LoadOrStore(id, true); again {
			return
		}
		began := time.Now()
		if _, err := w.Novi.Edit(novisim.Edit{MemberID: id, Fields: map[string]any{"JobTitle": fmt.Sprintf("Guide %d", i), "Notes": "likes tea"}}); err != nil {
			t.Error(err)
		}
		for seen(i) && time.Since(began) < 20*time.Second {
			m, err := c.Last(t.Context(), streams.RAW, streams.Raw(observation.Observation{System: canonical.Novi, Tenant: dev.Tenant, Kind: canonical.KindContact,
				ExternalID: canonical.ExternalID(id), Via: observation.Fetch}))
			if err == nil && m.Time.After(began) {
				return
			}
			<-time.After(20 * time.Millisecond)
		}
	})
	for _, id := range contacts {
		if _, err := w.GHL.Edit(ghlsim.Edit{Kind: ghlsim.EditUpdate, LocationID: dev.Location, ContactID: id, Fields: map[string]any{"firstName": "Grace"}}); err != nil {
			t.Fatal(err)
		}
	}
	bustest.Until(t, func() bool {
		for _, id := range members {
			if m, _ := w.Novi.Member(id); m.Fields["FirstName"] != "Grace" {
				return false
			}
		}
		return true
	})
	if err := w.Quiet(t.Context(), c, time.Second); err != nil {
		t.Fatal(err)
	}
	for i, id := range members {
		title, notes := any(fmt.Sprintf("Guide %d", i)), any("likes tea")
		if !seen(i) {
			title, notes = nil, nil
		}
		m, _ := w.Novi.Member(id)
		if m.Fields["FirstName"] != "Grace" || m.Fields["JobTitle"] != title || m.Fields["Notes"] != notes {
			t.Errorf("member %d is %v, %v, %v; want Grace, %v, %v", i, m.Fields["FirstName"], m.Fields["JobTitle"], m.Fields["Notes"], title, notes)
		}
		for _, of := range []struct {
			system canonical.System
			id     string
		}{{canonical.GHL, contacts[i]}, {canonical.Novi, id}} {
			shown, err := w.Show(of.system, of.id)
			if err != nil {
				t.Fatal(err)
			}
			want := ""
			if seen(i) {
				want = fmt.Sprint(title)
			}
			if shown["first_name"] != "Grace" || shown["job_title"] != want {
				t.Errorf("%s of %d shows %q, %q; want Grace, %q", of.system, i, shown["first_name"], shown["job_title"], want)
			}
		}
	}
	if n := w.Novi.Stats().NulledUnmapped; n > 0 {
		t.Errorf("%d PUTs nulled what they did not name", n)
	}
}
