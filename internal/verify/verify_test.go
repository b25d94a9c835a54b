package verify_test

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-json"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/ghlapi"
	"github.com/causeway-sync/causeway/internal/ghlsim"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/internal/noviapi"
	"github.com/causeway-sync/causeway/internal/novisim"
	"github.com/causeway-sync/causeway/internal/verify"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
	"github.com/causeway-sync/causeway/transform"
)

const (
	tenant   = "guild"
	location = "Loc1"
	group    = "7a3b0000-0000-4000-8000-000000000001"
)

var (
	lens   = mapping.Association("US")
	fields = []ghlsim.CustomField{
		{ID: "cf1", Key: "contact.job_title"}, {ID: "cf2", Key: "contact.membership_status"}, {ID: "cf3", Key: "contact.membership_type"},
		{ID: "cf4", Key: "contact.member_since"}, {ID: "cf5", Key: "contact.membership_expires"}, {ID: "cf6", Key: "contact.causeway_id"},
	}
)

// pair is two simulated systems without limits, webhooks or lag, and a broker.
type pair struct {
	t    *testing.T
	ghl  *ghlsim.Server
	novi *novisim.Server
	bus  *bus.Conn
	cfg  verify.Config
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{t: t, bus: bustest.Start(t)}
	var err error
	if p.ghl, err = ghlsim.New(ghlsim.Config{
		Locations: []ghlsim.Location{{ID: location, CustomFields: fields}}, Tokens: []ghlsim.Token{{Value: "t", LocationID: location, Scopes: ghlsim.AllScopes()}},
		Burst: 1 << 30, Daily: 1 << 30, IndexLag: -1,
	}); err != nil {
		t.Fatal(err)
	}
	if p.novi, err = novisim.New(novisim.Config{
		Keys: []string{"k"}, PerSecond: 1 << 30, PerMinute: 1 << 30, PerDay: 1 << 30,
		CustomFields: []novisim.CustomField{{UniqueID: "c1", Name: "GHL Tags"}}, Groups: []novisim.Group{{UniqueID: group, Name: "Board"}},
	}); err != nil {
		t.Fatal(err)
	}
	serve := func(h http.Handler) string {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		return s.URL
	}
	word := func(s string) func(context.Context) (string, error) {
		return func(context.Context) (string, error) { return s, nil }
	}
	p.cfg = verify.Config{Stream: p.bus, Clock: clock.System{}, Tenant: tenant, Lens: lens, CreateGHL: true, CreateNovi: true, Settle: time.Millisecond,
		GHL:  ghlapi.New(ghlapi.Config{BaseURL: serve(p.ghl.Handler()), LocationID: location, Token: word("t"), HTTP: http.DefaultClient, Clock: clock.System{}}),
		Novi: noviapi.New(noviapi.Config{BaseURL: serve(p.novi.Handler()), Key: word("k"), HTTP: http.DefaultClient, Clock: clock.System{}}),
	}
	return p
}

// editGHL and editNovi edit as a person does, and nobody is told.
func (p *pair) editGHL(e ghlsim.Edit) string {
	p.t.Helper()
	e.LocationID = location
	id, err := p.ghl.Edit(e)
	if err != nil {
		p.t.Fatal(err)
	}
	return id
}

func (p *pair) editNovi(e novisim.Edit) string {
	p.t.Helper()
	id, err := p.novi.Edit(e)
	if err != nil {
		p.t.Fatal(err)
	}
	return id
}

// person makes somebody in both systems, the same in both, and returns the
// two ids.
func (p *pair) person(i int) (ghl, novi string) {
	p.t.Helper()
	first, email, city := fmt.Sprintf("First%d", i), fmt.Sprintf("p%d@example.org", i), fmt.Sprintf("City %d", i%97)
	phone := fmt.Sprintf("+1%03d55501%02d", 201+i/100, i%100)
	tags := []string{"board"}
	if i%10 == 0 {
		tags = append(tags, "novi:board")
	}
	ghl = p.editGHL(ghlsim.Edit{Kind: ghlsim.EditCreate, Tags: tags, Fields: map[string]any{
		"firstName": first, "lastName": "Imhof", "email": email, "phone": phone, "city": city, "customFields.contact.job_title": "Guide",
		"customFields.contact.membership_status": "current", "customFields.contact.member_since": "2024-03-01",
	}})
	novi = p.editNovi(novisim.Edit{Fields: map[string]any{
		"Name": fmt.Sprintf("%s Imhof", first), "FirstName": first, "LastName": "Imhof", "Email": email, "Mobile": phone, "BillingAddress.City": city,
		"JobTitle": "Guide", "MemberStatus": "current", "MemberSince": "2024-03-01T00:00:00", "CustomFields.GHL Tags": "board",
	}})
	if i%10 == 0 {
		if err := p.novi.Pick(novi, group, true); err != nil {
			p.t.Fatal(err)
		}
	}
	return ghl, novi
}

// observe has the transform see every record there is.
func (p *pair) observe() {
	p.t.Helper()
	names := map[string]string{}
	for _, f := range fields {
		names[f.ID] = f.Key
	}
	publish := func(o observation.Observation, modified any, record map[string]any) {
		var err error
		if o.Record, err = json.Marshal(record); err != nil {
			p.t.Fatal(err)
		}
		if o.Modified, err = time.Parse(time.RFC3339Nano, fmt.Sprint(modified)); err != nil && modified != nil {
			p.t.Fatal(err)
		}
		o.Tenant, o.Kind, o.Via, o.ReadBegan = tenant, cmp.Or(o.Kind, canonical.KindContact), observation.Fetch, time.Now()
		body, err := o.Encode()
		if err != nil {
			p.t.Fatal(err)
		}
		if err := p.bus.PublishAsync(p.t.Context(), bus.Message{Subject: streams.Raw(o), Data: body}, func(_ bus.Ack, err error) {
			if err != nil {
				p.t.Error(err)
			}
		}); err != nil {
			p.t.Fatal(err)
		}
	}
	n := 0
	for _, c := range p.ghl.Dump(location) {
		c.Fields["id"], c.Fields["tags"] = c.ID, c.Tags
		publish(observation.Observation{System: canonical.GHL, ExternalID: canonical.ExternalID(c.ID), Endpoint: observation.GHLContactGet, Names: names}, c.Fields["dateUpdated"], c.Fields)
		n++
	}
	for _, m := range p.novi.Dump() {
		publish(observation.Observation{System: canonical.Novi, ExternalID: canonical.ExternalID(m.UniqueID), Endpoint: observation.NoviMemberGet}, m.Fields["LastUpdatedDate"], m.Fields)
		n++
	}
	for _, kind := range []canonical.Kind{canonical.KindTask, canonical.KindNote} {
		endpoint := map[canonical.Kind]string{canonical.KindTask: observation.GHLTaskGet, canonical.KindNote: observation.GHLNoteGet}[kind]
		for _, i := range p.ghl.Items(location, string(kind)) {
			publish(observation.Observation{System: canonical.GHL, Kind: kind, ExternalID: canonical.ExternalID(i.ID), Parent: canonical.ExternalID(i.ContactID), Endpoint: endpoint}, nil, i.Fields)
			n++
		}
		for _, a := range p.novi.Activities() {
			if a.Fields["ActivityType"] == mapping.ActivityTypes[kind] {
				publish(observation.Observation{System: canonical.Novi, Kind: kind, ExternalID: canonical.ExternalID(a.UniqueID), Parent: canonical.ExternalID(a.MemberID), Endpoint: observation.NoviActivityGet}, nil, a.Fields)
				n++
			}
		}
	}
	stop := bustest.Go(p.t, func(ctx context.Context) error {
		return transform.Run(ctx, transform.Config{Bus: p.bus, Logger: zerolog.Nop(), Tenants: map[canonical.Tenant]transform.Policy{tenant: {Lens: lens}}})
	})
	bustest.Until(p.t, func() bool {
		s, err := p.bus.JetStream().Stream(p.t.Context(), streams.RAW)
		return err == nil && s.CachedInfo().State.Msgs >= uint64(n)
	})
	bustest.Settled(p.t, p.bus, streams.RAW, streams.Transform().Durable)
	stop()
}

// linked finds the entity of a GHL contact.
func (p *pair) linked(ghl string) canonical.CanonicalID {
	return canonical.NewID(tenant, canonical.KindContact, canonical.GHL, canonical.ExternalID(ghl))
}

// state returns an entity's state.
func (p *pair) state(id canonical.CanonicalID) canonical.Event {
	p.t.Helper()
	m, err := p.bus.Last(p.t.Context(), streams.CANONICAL, streams.Entity(canonical.KindContact, tenant, id))
	if err != nil {
		p.t.Fatal(err)
	}
	e, err := canonical.DecodeEvent(m.Data)
	if err != nil {
		p.t.Fatal(err)
	}
	return e
}

// put publishes a state as it stands.
func (p *pair) put(e canonical.Event) {
	p.t.Helper()
	e.Version++
	data, err := json.Marshal(e)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.bus.Publish(p.t.Context(), bus.Message{Subject: streams.Canonical(canonical.KindContact, tenant, e.Contact.ID, canonical.OpObserved), Data: data}); err != nil {
		p.t.Fatal(err)
	}
}

// check compares and expects these findings and no others.
func (p *pair) check(t *testing.T, want ...verify.Finding) verify.Report {
	t.Helper()
	r, err := verify.Converged(t.Context(), p.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if d := gocmp.Diff(append([]verify.Finding{}, want...), r.Findings, cmpopts.IgnoreFields(verify.Finding{}, "Links")); d != "" {
		t.Errorf("findings (-want +got):\n%s", d)
	}
	if r.Good() != (len(want) == 0) {
		t.Errorf("good is %t with %d findings", r.Good(), len(r.Findings))
	}
	return r
}

// crowd makes so many people, observes them, and returns their ids.
func (p *pair) crowd(people int) (ghl, novi []string) {
	p.t.Helper()
	ghl, novi = make([]string, people), make([]string, people)
	for i := range people {
		ghl[i], novi[i] = p.person(i)
	}
	p.observe()
	return ghl, novi
}

func TestOneDifferenceAmongTenThousand(t *testing.T) {
	const people = 10_000
	p := newPair(t)
	ghl, novi := p.crowd(people)
	before := [2]int{p.ghl.Stats().Reads, p.novi.Stats().Reads}
	p.editGHL(ghlsim.Edit{Kind: ghlsim.EditUpdate, ContactID: ghl[4321], Fields: map[string]any{"city": "Nowhere"}})
	r := p.check(t, verify.Finding{Kind: verify.Differs, System: canonical.GHL, Record: canonical.ExternalID(ghl[4321]), Entity: p.linked(ghl[4321]), Fields: []verify.Field{{Name: "address.city"}}})
	if got, want := r.Findings[0].Links[canonical.Novi], []canonical.ExternalID{canonical.ExternalID(novi[4321])}; !gocmp.Equal(got, want) {
		t.Errorf("links to novi: got %v, want %v", got, want)
	}
	if text, err := json.Marshal(r); err != nil || strings.Contains(string(text), "Nowhere") {
		t.Errorf("a value that nobody asked for is in the report (%v)", err)
	}
	if r.Entities != people || r.Records[canonical.GHL] != people || r.Records[canonical.Novi] != people || len(r.NotShown) != 0 {
		t.Errorf("%d entities, records %v, not shown %v", r.Entities, r.Records, r.NotShown)
	}
	// Pages, and by id what seems to differ, twice at either system.
	if g, n := p.ghl.Stats().Reads-before[0], p.novi.Stats().Reads-before[1]; g > people/500+6 || n > people/195+6 {
		t.Errorf("%d calls to ghl and %d to novi", g, n)
	}
}

// TestItems plants differences among 300 tasks and 300 notes.
func TestItems(t *testing.T) {
	const people = 300
	p := newPair(t)
	var ghl, novi [people]string
	tasks, notes := [2][people]string{}, [2][people]string{}
	add := func(i int, kind, typ string, inGHL, inNovi map[string]any) (string, string) {
		g, err := p.ghl.EditItem(ghlsim.ItemEdit{Op: ghlsim.OpCreate, Kind: kind, LocationID: location, ContactID: ghl[i], Fields: inGHL})
		if err != nil {
			t.Fatal(err)
		}
		inNovi["ActivityType"] = typ
		n, err := p.novi.EditItem(novisim.ItemEdit{Op: novisim.OpCreate, MemberID: novi[i], Fields: inNovi})
		if err != nil {
			t.Fatal(err)
		}
		return g, n
	}
	for i := range people {
		ghl[i], novi[i] = p.person(i)
		title, body := fmt.Sprintf("Call %d", i), fmt.Sprintf("She said %d.", i)
		tasks[0][i], tasks[1][i] = add(i, "task", "Task", map[string]any{"title": title, "dueDate": "2027-03-01T09:00:00Z", "completed": false},
			map[string]any{"Subject": title, "Date": "2027-03-01T09:00:00Z", "TaskComplete": false})
		notes[0][i], notes[1][i] = add(i, "note", "Note", map[string]any{"body": body}, map[string]any{"Notes": "<p>" + body + "</p>"})
	}
	p.observe()
	finding := func(kind verify.Kind, of canonical.Kind, system canonical.System, i int, record string, names ...string) verify.Finding {
		f := verify.Finding{Kind: kind, Of: of, System: system, Record: canonical.ExternalID(record)}
		if kind != verify.Unlinked {
			f.Entity = canonical.NewID(tenant, of, canonical.GHL, canonical.ExternalID(map[canonical.Kind]string{canonical.KindTask: tasks[0][i], canonical.KindNote: notes[0][i]}[of]))
		}
		for _, name := range names {
			f.Fields = append(f.Fields, verify.Field{Name: name})
		}
		return f
	}
	edit := func(e novisim.ItemEdit) string {
		t.Helper()
		id, err := p.novi.EditItem(e)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}

	t.Run("none", func(t *testing.T) {
		before := [2]int{p.ghl.Stats().Reads, p.novi.Stats().Reads}
		r := p.check(t)
		if r.Items[canonical.GHL] != 2*people || r.Items[canonical.Novi] != 2*people {
			t.Errorf("compared %v", r.Items)
		}
		// A page of people and of custom fields; the pages of tasks; each
		// contact's notes; the activities and their types.
		if g, n := p.ghl.Stats().Reads-before[0], p.novi.Stats().Reads-before[1]; g > 2+people/90+1+people || n > people/195+1+2*people/195+2 {
			t.Errorf("%d calls to ghl and %d to novi", g, n)
		}
	})
	t.Run("a task and a note", func(t *testing.T) {
		if _, err := p.ghl.EditItem(ghlsim.ItemEdit{Op: ghlsim.OpUpdate, Kind: "task", LocationID: location, ID: tasks[0][123], Fields: map[string]any{"title": "Nothing", "completed": true}}); err != nil {
			t.Fatal(err)
		}
		edit(novisim.ItemEdit{Op: novisim.OpUpdate, ID: notes[1][45], Fields: map[string]any{"Notes": "Nothing"}})
		want := []verify.Finding{
			finding(verify.Differs, canonical.KindTask, canonical.GHL, 123, tasks[0][123], "completed", "title"),
			finding(verify.Differs, canonical.KindNote, canonical.Novi, 45, notes[1][45], "body"),
		}
		slices.SortFunc(want, func(a, b verify.Finding) int { return cmp.Compare(a.Entity, b.Entity) })
		r := p.check(t, want...)
		if text, err := json.Marshal(r); err != nil || strings.Contains(string(text), "Nothing") {
			t.Errorf("a value that nobody asked for is in the report (%v)", err)
		}
		if _, err := p.ghl.EditItem(ghlsim.ItemEdit{Op: ghlsim.OpUpdate, Kind: "task", LocationID: location, ID: tasks[0][123], Fields: map[string]any{"title": "Call 123", "completed": false}}); err != nil {
			t.Fatal(err)
		}
		edit(novisim.ItemEdit{Op: novisim.OpUpdate, ID: notes[1][45], Fields: map[string]any{"Notes": "She said 45."}})
		p.check(t)
	})
	t.Run("one of nobody, unless its kind isn't carried over", func(t *testing.T) {
		extra := edit(novisim.ItemEdit{Op: novisim.OpCreate, MemberID: novi[7], Fields: map[string]any{"ActivityType": "Note", "Notes": "x"}})
		p.check(t, finding(verify.Unlinked, canonical.KindNote, canonical.Novi, 0, extra))
		with := *p
		with.cfg.Policy = &mapping.Policy{Off: map[mapping.Flow]bool{{Kind: canonical.KindNote, System: canonical.GHL}: true}}
		with.check(t)
		edit(novisim.ItemEdit{Op: novisim.OpDelete, ID: extra})
	})
	t.Run("one that is not there", func(t *testing.T) {
		edit(novisim.ItemEdit{Op: novisim.OpDelete, ID: tasks[1][99]})
		p.check(t, finding(verify.DeadLink, canonical.KindTask, canonical.Novi, 99, tasks[1][99]))
	})
}

func TestDifferences(t *testing.T) {
	const people = 100
	p := newPair(t)
	ghl, novi := p.crowd(people)
	differs := func(system canonical.System, i int, names ...string) verify.Finding {
		f := verify.Finding{Kind: verify.Differs, System: system, Record: canonical.ExternalID(novi[i]), Entity: p.linked(ghl[i])}
		if system == canonical.GHL {
			f.Record = canonical.ExternalID(ghl[i])
		}
		for _, name := range names {
			f.Fields = append(f.Fields, verify.Field{Name: name})
		}
		return f
	}
	field := func(i int, name string, value any) ghlsim.Edit {
		return ghlsim.Edit{Kind: ghlsim.EditUpdate, ContactID: ghl[i], Fields: map[string]any{name: value}}
	}

	t.Run("none", func(t *testing.T) {
		before := [2]int{p.ghl.Stats().Reads, p.novi.Stats().Reads}
		p.check(t)
		// Pages, and nothing by id.
		if g, n := p.ghl.Stats().Reads-before[0], p.novi.Stats().Reads-before[1]; g > 3 || n > 3 {
			t.Errorf("%d calls to ghl and %d to novi", g, n)
		}
	})
	t.Run("a field in ghl", func(t *testing.T) {
		p.editGHL(field(43, "city", "Nowhere"))
		p.check(t, differs(canonical.GHL, 43, "address.city"))
		with := *p
		with.cfg.Values = true
		want := differs(canonical.GHL, 43)
		want.Fields = []verify.Field{{Name: "address.city", Want: "City 43", Shown: "Nowhere"}}
		with.check(t, want)
		p.editGHL(field(43, "city", "City 43"))
		p.check(t)
	})
	t.Run("what the search does not show", func(t *testing.T) {
		p.editGHL(field(7, "dndSettings", map[string]any{"Email": map[string]any{"status": "active"}}))
		p.check(t, differs(canonical.GHL, 7, "opt_outs.email"))
		p.editGHL(field(7, "dndSettings", map[string]any{"Email": map[string]any{"status": "inactive"}}))
	})
	t.Run("what novi is only read for", func(t *testing.T) {
		p.editNovi(novisim.Edit{MemberID: novi[8], Fields: map[string]any{"MemberStatus": "expired"}})
		p.check(t, differs(canonical.Novi, 8, "membership.status"))
		p.editNovi(novisim.Edit{MemberID: novi[8], Fields: map[string]any{"MemberStatus": "current"}})
	})
	t.Run("a group", func(t *testing.T) {
		if err := p.novi.Pick(novi[20], group, false); err != nil {
			t.Fatal(err)
		}
		p.check(t, differs(canonical.Novi, 20, "tags"))
		if err := p.novi.Pick(novi[20], group, true); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("records of nobody", func(t *testing.T) {
		member := p.editNovi(novisim.Edit{Fields: map[string]any{"Name": "New", "FirstName": "New", "LastName": "One"}})
		p.editNovi(novisim.Edit{Fields: map[string]any{"Name": "Works", "CustomerType": "Company"}})
		r := p.check(t, verify.Finding{Kind: verify.Unlinked, System: canonical.Novi, Record: canonical.ExternalID(member)})
		if got, want := r.Records[canonical.Novi], people+1; got != want {
			t.Errorf("%d records in novi, want %d", got, want)
		}
		p.editNovi(novisim.Edit{MemberID: member, Remove: true})
	})
	t.Run("a record that is not there", func(t *testing.T) {
		p.editNovi(novisim.Edit{MemberID: novi[99], Remove: true})
		p.check(t, verify.Finding{Kind: verify.DeadLink, System: canonical.Novi, Record: canonical.ExternalID(novi[99]), Entity: p.linked(ghl[99])})
	})
}

func TestLinks(t *testing.T) {
	p := newPair(t)
	var ghl, novi [4]string
	for i := range ghl {
		ghl[i], novi[i] = p.person(i)
	}
	alone := p.editGHL(ghlsim.Edit{Kind: ghlsim.EditCreate, Fields: map[string]any{"firstName": "Only", "lastName": "Here", "email": "only@example.org"}})
	p.observe()
	missing := verify.Finding{Kind: verify.Missing, System: canonical.Novi, Entity: p.linked(alone)}

	t.Run("an entity that ought to be in both", func(t *testing.T) {
		p.check(t, missing)
		p.cfg.CreateNovi = false
		p.check(t)
	})
	t.Run("one that was deleted in a system is not missed there", func(t *testing.T) {
		p.cfg.CreateNovi = true
		e := p.state(p.linked(alone))
		e.Sync.Base[canonical.Novi] = canonical.Base{External: "x", Gone: true}
		p.put(e)
		p.check(t)
	})
	t.Run("two records of one system, which another entity is linked to as well", func(t *testing.T) {
		e := p.state(p.linked(ghl[0]))
		e.Links[canonical.Novi] = append(e.Links[canonical.Novi], canonical.ExternalID(novi[1]))
		p.put(e)
		cfg := p.cfg
		cfg.One = true
		r, err := verify.Converged(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		got := map[verify.Kind]int{}
		for _, f := range r.Findings {
			got[f.Kind]++
		}
		if want := map[verify.Kind]int{verify.Doubled: 1, verify.Shared: 1}; !gocmp.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		e.Links[canonical.Novi] = e.Links[canonical.Novi][:1]
		e.Version++
		p.put(e)
		p.check(t)
	})
	t.Run("a way of showing a value is no difference", func(t *testing.T) {
		e := p.state(p.linked(ghl[2]))
		e.Contact.Website, e.Sync.Rendered = "example.org", map[canonical.System]map[string]canonical.Rendering{
			canonical.GHL:  {"website": {Shown: "https://example.org", Value: "example.org"}},
			canonical.Novi: {"website": {Shown: "www.example.org", Value: "example.org"}},
		}
		p.put(e)
		p.editGHL(ghlsim.Edit{Kind: ghlsim.EditUpdate, ContactID: ghl[2], Fields: map[string]any{"website": "https://example.org"}})
		p.editNovi(novisim.Edit{MemberID: novi[2], Fields: map[string]any{"Website": "www.example.org"}})
		p.check(t)
		p.editNovi(novisim.Edit{MemberID: novi[2], Fields: map[string]any{"Website": "elsewhere.example"}})
		p.check(t, verify.Finding{Kind: verify.Differs, System: canonical.Novi, Record: canonical.ExternalID(novi[2]), Entity: e.Contact.ID, Fields: []verify.Field{{Name: "website"}}})
		p.editNovi(novisim.Edit{MemberID: novi[2], Fields: map[string]any{"Website": "www.example.org"}})
	})
	t.Run("what is enough", func(t *testing.T) {
		for i := range ghl {
			p.editGHL(ghlsim.Edit{Kind: ghlsim.EditUpdate, ContactID: ghl[i], Fields: map[string]any{"city": "Nowhere"}})
		}
		with := p.cfg
		with.Most, with.Workers = 2, 1
		r, err := verify.Converged(t.Context(), with)
		if err != nil || len(r.Findings) != 2 || r.Unlooked != 2 {
			t.Errorf("%d findings, %d not looked at, %v", len(r.Findings), r.Unlooked, err)
		}
	})
}

// settling is a clock on which something happens while it is waited.
type settling struct {
	clock.System
	meanwhile func()
}

func (s settling) After(time.Duration) <-chan time.Time {
	s.meanwhile()
	done := make(chan time.Time, 1)
	done <- s.Now()
	return done
}

// TestInFlight: what is under way while we look is looked at once more.
func TestInFlight(t *testing.T) {
	p := newPair(t)
	ghl, _ := p.person(1)
	p.person(2)
	p.observe()
	p.editGHL(ghlsim.Edit{Kind: ghlsim.EditUpdate, ContactID: ghl, Fields: map[string]any{"city": "Nowhere"}})
	ghl3, novi3 := p.person(3)
	waits := 0
	p.cfg.Clock = settling{meanwhile: func() {
		waits++
		p.editGHL(ghlsim.Edit{Kind: ghlsim.EditUpdate, ContactID: ghl, Fields: map[string]any{"city": "City 1"}})
		e := p.state(p.linked(ghl))
		e.Contact.ID, e.Contact.FirstName, e.Contact.Email, e.Contact.Phone, e.Contact.Address.City = p.linked(ghl3), "First3", "p3@example.org", "+12015550103", "City 3"
		e.Links = map[canonical.System][]canonical.ExternalID{canonical.GHL: {canonical.ExternalID(ghl3)}, canonical.Novi: {canonical.ExternalID(novi3)}}
		e.Sync = canonical.Sync{}
		p.put(e)
	}}
	p.check(t)
	if waits != 1 {
		t.Errorf("waited %d times", waits)
	}
}
