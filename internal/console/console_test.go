package console_test

import (
	"bytes"
	"context"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-json"
	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/console"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/effect"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

const guild canonical.Tenant = "guild"

// site is a console in front of a broker that a test fills.
type site struct {
	t    testing.TB
	conn *bus.Conn
	url  string
}

func setup(t testing.TB, change ...func(*console.Options)) site {
	t.Helper()
	s := site{t: t, conn: bustest.Start(t)}
	s.serve(change...)
	return s
}

// serve starts a console on what the broker has.
func (s *site) serve(change ...func(*console.Options)) *console.Console {
	s.t.Helper()
	o := console.Options{Bus: bustest.Again(s.t, s.conn), Logger: zerolog.New(zerolog.NewTestWriter(s.t)).Level(zerolog.ErrorLevel), Every: 50 * time.Millisecond}
	for _, f := range change {
		f(&o)
	}
	c, err := console.New(o)
	if err != nil {
		s.t.Fatal(err)
	}
	server := httptest.NewServer(c.Handler())
	s.t.Cleanup(server.Close)
	bustest.Go(s.t, c.Watch)
	s.url = server.URL
	return c
}

func (s site) publish(subject string, v any) uint64 {
	s.t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.put(subject, data)
}

func (s site) put(subject string, data []byte) uint64 {
	s.t.Helper()
	ack, err := s.conn.Publish(context.Background(), bus.Message{Subject: subject, Data: data})
	if err != nil {
		s.t.Fatal(err)
	}
	return ack.Seq
}

// event publishes a state of a contact.
func (s site) event(op canonical.Op, e canonical.Event) {
	s.t.Helper()
	s.publish(streams.Canonical(canonical.KindContact, guild, e.ID(), op), e)
}

// get returns a page, which has to be answered with status.
func (s site) get(path string, status int) string {
	s.t.Helper()
	res, err := http.Get(s.url + path)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.body(res, status)
}

func (s site) body(res *http.Response, status int) string {
	s.t.Helper()
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	if res.StatusCode != status {
		s.t.Fatalf("%s: got %d, want %d:\n%s", res.Request.URL.Path, res.StatusCode, status, body)
	}
	return html.UnescapeString(string(body))
}

// shows waits until a page holds every text.
func (s site) shows(path string, texts ...string) string {
	s.t.Helper()
	page := ""
	bustest.Until(s.t, func() bool {
		res, err := http.Get(s.url + path)
		if err != nil {
			s.t.Fatal(err)
		}
		if res.StatusCode == http.StatusNotFound {
			_ = res.Body.Close()
			return false // it has yet to be heard of
		}
		page = s.body(res, http.StatusOK)
		for _, text := range texts {
			if !strings.Contains(page, text) {
				return false
			}
		}
		return true
	})
	return page
}

var at = time.Date(2026, 11, 2, 9, 30, 0, 0, time.UTC)

// ada is a contact of two versions: GHL's user gave the phone number.
func (s site) ada() canonical.CanonicalID {
	s.t.Helper()
	id := canonical.NewID(guild, canonical.KindContact, canonical.GHL, "GhlAda1")
	see := func(system canonical.System, external canonical.ExternalID, record string) uint64 {
		o := observation.Observation{System: system, Tenant: guild, Kind: canonical.KindContact, ExternalID: external, Via: observation.Fetch, Endpoint: observation.GHLContactGet, ReadBegan: at, Record: []byte(record)}
		data, err := o.Encode()
		if err != nil {
			s.t.Fatal(err)
		}
		ack, err := s.conn.Publish(context.Background(), bus.Message{Subject: streams.Raw(o), Data: data})
		if err != nil {
			s.t.Fatal(err)
		}
		return ack.Seq
	}
	first := see(canonical.Novi, "novi-ada-1", `{"FirstName":"Ada"}`)
	e := canonical.NewEvent(canonical.KindContact, id)
	e.Version = 1
	e.Contact.FirstName, e.Contact.LastName, e.Contact.Email = "Ada", "Keller", "ada@example.org"
	e.Contact.Tags = []string{"board"}
	e.Links = map[canonical.System][]canonical.ExternalID{canonical.Novi: {"novi-ada-1"}}
	e.Cause = canonical.Cause{Stream: streams.RAW, Sequence: first, Via: "fetch", System: canonical.Novi}
	e.Changes = []canonical.Change{{Field: "first_name", To: "Ada", Origin: canonical.Novi, At: at}}
	e.Sync.Stamps = map[string]canonical.Stamp{"first_name": {At: at.UnixMicro(), Seq: first, Origin: canonical.Novi}}
	e.Sync.Tags = map[string]canonical.TagStamp{"board": {Stamp: canonical.Stamp{At: at.UnixMicro(), Seq: first, Origin: canonical.Novi}, Present: true}}
	e.Sync.Base = map[canonical.System]canonical.Base{canonical.Novi: {External: "novi-ada-1", Fields: map[string]string{"first_name": "Ada"}, Tags: []string{"board"}, Tagged: true}}
	s.event(canonical.OpCreated, e)
	second := see(canonical.GHL, "GhlAda1", `{"id":"GhlAda1","phone":"+12025550143"}`)
	e.Version, e.Contact.Phone = 2, "+12025550143"
	e.Links[canonical.GHL] = []canonical.ExternalID{"GhlAda1"}
	e.Cause = canonical.Cause{Stream: streams.RAW, Sequence: second, Via: "fetch", System: canonical.GHL}
	e.Changes = []canonical.Change{{Field: "phone", From: "+12025550100", To: "+12025550143", Origin: canonical.GHL, At: at,
		Conflict: &canonical.Conflict{Lost: "+12025550199", Origin: canonical.Novi, Reason: canonical.ReasonNewer}}}
	e.Sync.Stamps["phone"] = canonical.Stamp{At: at.UnixMicro(), Seq: second, Origin: canonical.GHL}
	e.Sync.Base[canonical.GHL] = canonical.Base{External: "GhlAda1", At: canonical.Read{AsOf: at.UnixMicro()}, Fields: map[string]string{"first_name": "Adah", "phone": "+12025550143"}}
	s.event(canonical.OpUpdated, e)
	write := effect.Effect{System: canonical.Novi, Tenant: guild, Kind: canonical.KindContact, ID: id, State: effect.Intent, Version: 2,
		Wrote: map[string]string{"phone": "+12025550143"}, TagsAdded: []string{"board"}}
	s.publish(streams.Effect(canonical.Novi, guild, canonical.KindContact, id), write)
	write.State, write.Wrote, write.TagsAdded = effect.Done, nil, nil
	s.publish(streams.Effect(canonical.Novi, guild, canonical.KindContact, id), write)
	return id
}

func TestOverview(t *testing.T) {
	t.Parallel()
	s := setup(t)
	if got := s.get("/", http.StatusOK); !strings.Contains(got, "No tenant is known yet") {
		t.Errorf("an empty overview says nothing of it:\n%s", got)
	}
	s.ada()
	if err := s.conn.EnsureConsumer(context.Background(), streams.Sink(canonical.Novi, guild)); err != nil {
		t.Fatal(err)
	}
	s.shows("/", `href="/t/guild"`, `behind</span>`, "2 messages waiting")
	s.shows("/t/guild", "Ada Keller", "somebody in GHL", "GHL → Novi")
	if got := s.get("/?q=other", http.StatusOK); !strings.Contains(got, "No tenant is called so") {
		t.Error("a search for another tenant finds this one")
	}
	s.get("/t/nobody", http.StatusNotFound)
	s.get("/nothing", http.StatusNotFound)
}

func TestContact(t *testing.T) {
	t.Parallel()
	s := setup(t)
	id := s.ada()
	path := "/t/guild/contacts/" + string(id)
	page := s.shows(path, "Ada Keller", "GhlAda1", "novi-ada-1")
	for what, text := range map[string]string{
		"the field's value":        "+12025550143",
		"who gave the value":       path + "?field=phone#timeline\">somebody in GHL",
		"what Novi doesn't show":   "not shown",
		"where GHL differs":        `<span class="differs">Adah</span>`,
		"what was seen":            "the record was fetched",
		"what was decided":         "1 field changed, by somebody in GHL",
		"the value that lost":      "+12025550199 of Novi lost: the other is newer",
		"what was written":         "update done",
		"the tag that was written": "Tag +board",
		"that Novi shows the tag":  `<td data-label="Novi shows">yes</td>`,
		"whom the tag comes from":  `<span class="tag">board</span>`,
		"the version that brought": "by fetch, version 2",
	} {
		if !strings.Contains(page, text) {
			t.Errorf("it does not show %s: %q is missing", what, text)
		}
	}
	if strings.Contains(page, "update begun") {
		t.Error("it shows that a write has begun whose end it shows")
	}
	phone := s.get(path+"?field=phone", http.StatusOK)
	if !strings.Contains(phone, "What happened to Phone") || strings.Contains(phone, "the record was fetched") || strings.Contains(phone, "became known") || !strings.Contains(phone, "update done") {
		t.Errorf("the time line of the phone number holds something else:\n%s", phone)
	}
	s.get("/t/guild/contacts/nobody", http.StatusNotFound)
}

func TestSearch(t *testing.T) {
	t.Parallel()
	s := setup(t)
	id := s.ada()
	path := "/t/guild/contacts/" + string(id)
	gone := canonical.NewEvent(canonical.KindContact, "gone1")
	gone.Version, gone.Contact.FirstName, gone.Contact.Deleted = 1, "Zora", true
	s.event(canonical.OpDeleted, gone)
	s.shows("/t/guild/contacts?gone=1", "Zora")
	for q, found := range map[string]bool{"": true, "ada": true, "Kell": true, "ada@ex": true, "keller ad": true, string(id)[:6]: true, "eller": false, "bob": false, "zora": false} {
		if got := strings.Contains(s.get("/t/guild/contacts?q="+url.QueryEscape(q), http.StatusOK), path); got != found {
			t.Errorf("search for %q: found %t, want %t", q, got, found)
		}
	}
	// A system's own id leads to its contact.
	kv, err := s.conn.Bucket(context.Background(), streams.IDENTITY)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(context.Background(), streams.LinkKey(guild, canonical.KindContact, canonical.GHL, "GhlAda1"), []byte(id)); err != nil {
		t.Fatal(err)
	}
	res, err := http.Get(s.url + "/t/guild/contacts?q=GhlAda1")
	if err != nil {
		t.Fatal(err)
	}
	if s.body(res, http.StatusOK); res.Request.URL.Path != path {
		t.Errorf("a record's id leads to %s, want %s", res.Request.URL.Path, path)
	}
}

// TestNothingGetsIn: values are personal, and anybody's to write.
func TestNothingGetsIn(t *testing.T) {
	t.Parallel()
	s := setup(t)
	e := canonical.NewEvent(canonical.KindContact, "evil")
	e.Version, e.Contact.FirstName, e.Contact.Email = 1, `<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`
	s.event(canonical.OpCreated, e)
	for _, path := range []string{"/t/guild/contacts", "/t/guild/contacts/evil", "/t/guild/contacts?q=%3Cscript%3Ealert(1)"} {
		s.shows(path, "alert(1)")
		res, err := http.Get(s.url + path)
		if err != nil {
			t.Fatal(err)
		}
		page, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if bytes.Contains(page, []byte("<script>alert")) || bytes.Contains(page, []byte("<img src=x")) {
			t.Errorf("%s holds markup out of a record:\n%s", path, page)
		}
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	s := setup(t)
	res, err := http.Get(s.url + "/")
	if err != nil {
		t.Fatal(err)
	}
	page := s.body(res, http.StatusOK)
	policy := res.Header.Get("Content-Security-Policy")
	if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") || res.Header.Get("X-Content-Type-Options") != "nosniff" || res.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("headers: %v", res.Header)
	}
	for _, outside := range []string{"http://", "https://", "//cdn", " style=", " onclick="} {
		if strings.Contains(page, outside) {
			t.Errorf("the page holds %q", outside)
		}
	}
	for _, asset := range []string{"console.css", "console.js", "icon.svg"} {
		s.get("/asset/"+asset, http.StatusOK)
	}
}

// TestEvents hears that a contact has changed.
func TestEvents(t *testing.T) {
	t.Parallel()
	s := setup(t)
	id := s.ada()
	s.shows("/t/guild/contacts", "Ada Keller")
	s.get("/events", http.StatusBadRequest)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/events?topic=c/guild/%s", s.url, id), nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	e := canonical.NewEvent(canonical.KindContact, id)
	e.Version, e.Contact.FirstName = 3, "Adele"
	s.event(canonical.OpUpdated, e)
	heard := ""
	buffer := make([]byte, 256)
	for !strings.Contains(heard, "data: c/guild/"+string(id)) {
		n, err := res.Body.Read(buffer)
		if err != nil {
			t.Fatalf("after %q: %v", heard, err)
		}
		heard += string(buffer[:n])
	}
}
