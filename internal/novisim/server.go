package novisim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Actors of a ledger entry.
const (
	ActorHuman  = "human"
	ActorAPI    = "api"
	ActorSystem = "system" // Novi itself, see Config.SystemActivities
)

// Kinds of a ledger entry.
const (
	KindMember   = "member"
	KindActivity = "activity"
)

// Operations of a ledger entry.
const (
	OpCreate = "create"
	OpUpdate = "update"
	OpGroup  = "group"
	OpDelete = "delete"
)

// Errors of Edit, EditItem and Merge.
var (
	ErrNotFound = errors.New("no such record")
	ErrInvalid  = errors.New("invalid edit")
)

// FieldChange is one value that changed. Fields are dotted: "Mobile",
// "BillingAddress.City", "CustomFields.GHL Tags".
type FieldChange struct {
	Field string `json:"field"`
	From  any    `json:"from"`
	To    any    `json:"to"`
}

// LedgerEntry is one committed change.
type LedgerEntry struct {
	Seq      int64         `json:"seq"`
	At       time.Time     `json:"at"`
	Actor    string        `json:"actor"`
	Op       string        `json:"op"`
	Kind     string        `json:"kind"`
	RecordID string        `json:"recordId"` // of the member or the activity
	MemberID string        `json:"memberId"` // of the member, or of the one that the activity sits on
	Changes  []FieldChange `json:"changes,omitempty"`
	// ReadAt is, of a write through the API, the Seq of the newest entry when
	// the API last showed the record: what lies between was never seen.
	ReadAt int64 `json:"readAt,omitempty"`
}

// Member is a member as the API shows it.
type Member struct {
	UniqueID string         `json:"uniqueId"`
	Fields   map[string]any `json:"fields"`
}

// Edit is what a person does in Novi.
type Edit struct {
	// MemberID is the member to change; "" makes a new one.
	MemberID string `json:"memberId"`
	// Fields to set, dotted as in FieldChange; nil clears.
	Fields map[string]any `json:"fields"`
	// KeepStamp leaves LastUpdatedDate alone.
	KeepStamp bool `json:"keepStamp"`
	// Remove takes the member away, and its activities.
	Remove bool `json:"remove"`
}

// Stats count what was asked.
type Stats struct {
	Reads          int `json:"reads"`
	Writes         int `json:"writes"`
	HTTP429        int `json:"http429"`
	NulledUnmapped int `json:"nulledUnmapped"` // PUTs that nulled a value because its key was absent
	// NulledActivities is the same for PUTs of activities.
	NulledActivities int `json:"nulledActivities"`
	// NulledSeats is the same for PUTs of committee members.
	NulledSeats    int `json:"nulledSeats"`
	WebhooksSent   int `json:"webhooksSent"`
	WebhooksFailed int `json:"webhooksFailed"`
}

// member is immutable once stored; a change stores a new one.
type member struct {
	id       string
	number   int
	values   map[string]any // writable keys, all of them
	custom   map[string]any
	picked   map[string]bool // hand-picked groups
	created  time.Time
	modified time.Time
	segment  time.Time
}

// Server is a simulated Novi site.
type Server struct {
	conf  Config
	hooks *hooks
	skew  atomic.Int64 // ns by which its clock is ahead

	mu            sync.Mutex
	rng           *rand.Rand
	members       map[string]*member
	order         []string // of members by internal id
	numbers       int      // internal ids given so far
	activities    map[string]*activity
	timeline      []string // of activities by internal id
	webhooks      []webhook
	types         []ActivityType
	seats         []*seat
	rosterAt      map[string]time.Time // when a committee's roster last changed
	membership    []membershipChange
	changes       int // of memberships, so far
	registrations []registration
	beforePut     func(memberID string)
	keys          []string
	hidden        map[string][]string // by key; replaced, not changed
	ledger        []LedgerEntry
	shown         map[string]int64 // by record, the seq when the API last showed it
	seq           int64
	stats         Stats
	faults        Faults
	hits          []time.Time
	day           int64
	today         int
}

// New returns a site without members, or an error that names what is wrong
// with c.
func New(c Config) (*Server, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{rng: rand.New(rand.NewPCG(uint64(c.Seed), 0x6e6f7669)), keys: c.Keys, hidden: c.Hidden}
	now := c.Now
	c.Now = func() time.Time { return now().Add(time.Duration(s.skew.Load())) }
	s.conf = c
	s.clear()
	s.hooks = newHooks(c.Webhook)
	return s, nil
}

// clear forgets everything but the configuration, the keys and where webhooks
// go. The caller holds mu, or is the only one to know s.
func (s *Server) clear() {
	s.members, s.order, s.numbers = map[string]*member{}, nil, 0
	s.activities, s.timeline, s.types = map[string]*activity{}, nil, s.conf.ActivityTypes
	s.webhooks, s.seats, s.rosterAt = nil, nil, map[string]time.Time{}
	s.membership, s.changes, s.registrations = nil, 0, nil
	s.ledger, s.shown, s.seq, s.stats, s.faults = nil, map[string]int64{}, 0, Stats{}, Faults{}
	s.hits, s.today = nil, 0
}

// Reset forgets every record, the ledger, the statistics, the faults, the
// limits' windows, the skew and the deliveries that wait. Keys and the URL of
// webhooks stay.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	s.skew.Store(0)
	s.hooks.reset()
}

// SetSkew puts the site's clock ahead of Config.Now, or behind it.
func (s *Server) SetSkew(d time.Duration) { s.skew.Store(int64(d)) }

// SetWebhookURL says where events go from now on; "" means nowhere.
func (s *Server) SetWebhookURL(url string) { s.hooks.setURL(url) }

// SetFaults replaces the faults.
func (s *Server) SetFaults(f Faults) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = f
}

// BeforePut is a hook for tests: f is called with the id of a member that is
// about to be replaced by a PUT, which waits for it. It may act as a person
// (Edit), or see to it that somebody reads the member. nil, as at first, calls
// nobody. No real site has this.
func (s *Server) BeforePut(f func(memberID string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.beforePut = f
}

// ShownAt returns the Seq of the newest ledger entry when the API last showed a
// record, 0 if it hasn't.
func (s *Server) ShownAt(recordID string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shown[recordID]
}

// Run delivers webhooks until ctx is done.
func (s *Server) Run(ctx context.Context) error { return s.hooks.run(ctx) }

// PendingWebhooks returns how many deliveries are neither accepted nor given
// up.
func (s *Server) PendingWebhooks() int { return s.hooks.counts().pending }

// Serve answers HTTP on l until ctx is done.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(l); err != nil && ctx.Err() == nil {
		return fmt.Errorf("novisim: %w", err)
	}
	return nil
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	h := s.hooks.counts()
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.WebhooksSent, st.WebhooksFailed = h.sent, h.failed
	return st
}

// Ledger returns every committed change, oldest first.
func (s *Server) Ledger() []LedgerEntry { return s.LedgerAfter(0) }

// LedgerAfter returns the entries with a Seq above seq.
func (s *Server) LedgerAfter(seq int64) []LedgerEntry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.ledger[min(max(seq, 0), int64(len(s.ledger))):])
}

// Member returns one member; false if there is none of that id.
func (s *Server) Member(id string) (Member, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.members[id]
	if m == nil {
		return Member{}, false
	}
	return Member{UniqueID: id, Fields: s.render(m)}, true
}

// Dump returns all members by internal id.
func (s *Server) Dump() []Member {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Member, 0, len(s.order))
	for _, id := range s.order {
		out = append(out, Member{UniqueID: id, Fields: s.render(s.members[id])})
	}
	return out
}

// The writable keys of a member (dossier Novi §5.1), with the value that a
// new one starts from. PUT sets all of them: the absent ones to null.
var writable = map[string]any{
	"Name": nil, "FirstName": nil, "MiddleName": nil, "LastName": nil, "Suffix": nil, "Title": nil, "Credentials": nil, "JobTitle": nil,
	"CustomerType": "Person", "Active": true, "Approved": true, "MemberStatus": "non_member", "MemberSubStatus": nil,
	"Email": nil, "AccountEmail": nil, "Phone": nil, "Mobile": nil, "Fax": nil, "Website": nil, "County": nil,
	"PersonalEmail": nil, "PersonalPhone": nil, "PersonalMobile": nil, "ImportID": nil,
	"ParentCustomerUniqueID": nil, "UseParentBilling": false, "UseParentShipping": false, "DuesPayerUniqueID": nil,
	"MemberType": nil, "OriginalJoinDate": nil, "MemberSince": nil, "MembershipExpires": nil, "AutoRenew": false, "AutoPay": false,
	"ProhibitInvoicing": false, "Taxable": true, "TaxExemptionReason": nil,
	"UnsubscribeFromEmails": false, "UnsubscribeFromSignupEmails": false, "HideOnWebsite": false, "HideContactInformation": false,
	"FeaturedDirectoryListing": false, "Role": nil, "MemberProfile": nil, "Notes": nil, "FacebookUrl": nil, "LinkedInUrl": nil,
	"InstagramHandle": nil, "TwitterHandle": nil, "IncompleteSignup": false,
}

var addresses = []string{"BillingAddress", "ShippingAddress", "PersonalAddress"}

var addressKeys = []string{"Address1", "Address2", "City", "ZipCode", "StateProvince", "Country"}

func emptyAddress() map[string]any {
	a := make(map[string]any, len(addressKeys))
	for _, k := range addressKeys {
		a[k] = nil
	}
	return a
}

func (s *Server) guid() string {
	a, b := s.rng.Uint64(), s.rng.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", uint32(a>>32), uint16(a>>16), a&0xfff, 0x8000|b>>50, b&0xffffffffffff)
}

func (s *Server) fresh() *member {
	m := &member{id: s.guid(), number: 101 + s.numbers, values: maps.Clone(writable), custom: map[string]any{}, picked: map[string]bool{}}
	for _, a := range addresses {
		m.values[a] = emptyAddress()
	}
	m.created = s.conf.Now()
	return m
}

func (m *member) clone() *member {
	c := *m
	c.values, c.custom, c.picked = maps.Clone(m.values), maps.Clone(m.custom), maps.Clone(m.picked)
	for _, a := range addresses {
		if addr, ok := m.values[a].(map[string]any); ok {
			c.values[a] = maps.Clone(addr)
		}
	}
	return &c
}

// flat returns the values under their dotted names.
func (m *member) flat() map[string]any {
	out := make(map[string]any, len(m.values)+24)
	for k, v := range m.values {
		if addr, ok := v.(map[string]any); ok && slices.Contains(addresses, k) {
			for _, ak := range addressKeys {
				out[k+"."+ak] = addr[ak]
			}
			continue
		}
		out[k] = v
	}
	for k, v := range m.custom {
		out["CustomFields."+k] = v
	}
	return out
}

// set sets one dotted field; false if there is no such field.
func (s *Server) set(m *member, field string, value any) bool {
	if str, ok := value.(string); ok {
		value = s.stored(field, str)
	}
	if name, ok := strings.CutPrefix(field, "CustomFields."); ok {
		if !slices.ContainsFunc(s.conf.CustomFields, func(f CustomField) bool { return f.Name == name }) {
			return false
		}
		if value == nil {
			delete(m.custom, name)
		} else {
			m.custom[name] = value
		}
		return true
	}
	top, inner, nested := strings.Cut(field, ".")
	if nested {
		addr, ok := m.values[top].(map[string]any)
		if !ok || !slices.Contains(addressKeys, inner) {
			return false
		}
		addr[inner] = value
		return true
	}
	if _, ok := writable[top]; !ok {
		return false
	}
	if value == nil {
		if _, isBool := writable[top].(bool); isBool {
			value = false
		}
	}
	m.values[top] = value
	return true
}

// stored is how a text is kept: "" as null, and a number of +1 and ten digits
// as Novi's pages show it (invented; Quirks.PlainPhones).
func (s *Server) stored(field, v string) any {
	if v == "" {
		return nil
	}
	if !s.conf.Quirks.PlainPhones && (field == "Mobile" || field == "Phone") && len(v) == 12 && strings.HasPrefix(v, "+1") {
		return fmt.Sprintf("(%s) %s-%s", v[2:5], v[5:8], v[8:])
	}
	return v
}

// difference lists what changed, by field. What before lacks and after has as
// null is no change.
func difference(before, after map[string]any) []FieldChange {
	var changes []FieldChange
	for _, f := range slices.Sorted(maps.Keys(after)) {
		if !reflect.DeepEqual(before[f], after[f]) {
			changes = append(changes, FieldChange{Field: f, From: before[f], To: after[f]})
		}
	}
	for _, f := range slices.Sorted(maps.Keys(before)) {
		if _, ok := after[f]; !ok && before[f] != nil {
			changes = append(changes, FieldChange{Field: f, From: before[f]})
		}
	}
	return changes
}

// record writes the ledger. The caller holds mu.
func (s *Server) record(e LedgerEntry) {
	s.seq++
	e.Seq, e.At = s.seq, s.conf.Now()
	if e.Actor == ActorAPI {
		e.ReadAt = s.shown[e.RecordID]
	}
	s.ledger = append(s.ledger, e)
}

// commit stores next in the place of old (nil for a new one), writes the
// ledger and sends the event. The caller holds mu.
func (s *Server) commit(actor, op string, old, next *member, stampIt bool) {
	before := map[string]any{}
	if old != nil {
		before = old.flat()
	}
	changes := difference(before, next.flat())
	quiet := actor == ActorAPI && old != nil && len(changes) == 0 && s.conf.Quirks.QuietUnchangedPut
	now := s.conf.Now()
	if (stampIt && !quiet) || old == nil {
		next.modified = now
		if old != nil && !now.After(old.modified) {
			next.modified = old.modified.Add(100 * time.Nanosecond)
		}
	}
	if old != nil && !slices.Equal(s.groups(old), s.groups(next)) || old == nil {
		next.segment = now
	}
	s.members[next.id] = next
	if old == nil {
		s.order = append(s.order, next.id)
		s.numbers++
	}
	s.record(LedgerEntry{Actor: actor, Op: op, Kind: KindMember, RecordID: next.id, MemberID: next.id, Changes: changes})
	s.logMembership(old, next)
	if old == nil && s.conf.SystemActivities {
		s.systemActivity(next.id)
	}
	if quiet || op == OpGroup {
		return
	}
	name := "customer.updated"
	switch {
	case old == nil:
		name = "customer.created"
	case old.values["Active"] == true && next.values["Active"] == false:
		name = "customer.removed"
	}
	s.hooks.send(name, next.id, s.faults, s.rng)
}

// Edit acts as a person in Novi and returns the member's id. Errors:
// ErrNotFound, ErrInvalid.
func (s *Server) Edit(e Edit) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.MemberID == "" {
		m := s.fresh()
		for f, v := range e.Fields {
			if !s.set(m, f, v) {
				return "", fmt.Errorf("%w: no field %q", ErrInvalid, f)
			}
		}
		s.commit(ActorHuman, OpCreate, nil, m, true)
		return m.id, nil
	}
	old := s.members[e.MemberID]
	if old == nil {
		return "", fmt.Errorf("%w: %s", ErrNotFound, e.MemberID)
	}
	if e.Remove {
		for _, a := range s.activitiesOf(old.id) {
			s.deleteActivity(ActorHuman, a)
		}
		s.remove(old.id)
		return old.id, nil
	}
	next := old.clone()
	for f, v := range e.Fields {
		if !s.set(next, f, v) {
			return "", fmt.Errorf("%w: no field %q", ErrInvalid, f)
		}
	}
	s.commit(ActorHuman, OpUpdate, old, next, !e.KeepStamp)
	return old.id, nil
}

// remove takes a member away. The caller holds mu.
func (s *Server) remove(id string) {
	delete(s.members, id)
	s.order = slices.DeleteFunc(s.order, func(other string) bool { return other == id })
	s.record(LedgerEntry{Actor: ActorHuman, Op: OpDelete, Kind: KindMember, RecordID: id, MemberID: id})
	s.hooks.send("customer.removed", id, s.faults, s.rng)
}

// Merge makes one member of two, as a person does in Novi: the loser goes,
// its activities move to the winner, and so do values of which the winner has
// none. Only records of one kind can be merged, and a deactivated one can't
// be the winner (dossier Novi §8). Errors: ErrNotFound, ErrInvalid.
func (s *Server) Merge(winner, loser string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	w, l := s.members[winner], s.members[loser]
	switch {
	case w == nil:
		return fmt.Errorf("merge: winner: %w: %s", ErrNotFound, winner)
	case l == nil:
		return fmt.Errorf("merge: loser: %w: %s", ErrNotFound, loser)
	case w == l:
		return fmt.Errorf("merge: %w: a member can't be merged with itself", ErrInvalid)
	case w.values["Active"] != true:
		return fmt.Errorf("merge: %w: the winner is deactivated", ErrInvalid)
	case w.values["CustomerType"] != l.values["CustomerType"]:
		return fmt.Errorf("merge: %w: a person and a company", ErrInvalid)
	}
	for _, id := range s.timeline {
		s.repoint(s.activities[id], loser, winner)
	}
	s.remove(loser)
	next := w.clone()
	have := w.flat()
	for f, v := range l.flat() {
		if have[f] == nil && v != nil {
			s.set(next, f, v)
		}
	}
	s.commit(ActorHuman, OpUpdate, w, next, true)
	return nil
}

// Pick puts a member into a hand-picked group, or takes it out. It changes
// LastSegmentUpdatedDate only, and sends no event (pessimistic, invented).
func (s *Server) Pick(memberID, group string, in bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.members[memberID] == nil {
		return fmt.Errorf("%w: %s", ErrNotFound, memberID)
	}
	s.pick(ActorHuman, memberID, group, in)
	return nil
}

// pick is Pick of a member that is there. The caller holds mu.
func (s *Server) pick(actor, memberID, group string, in bool) {
	old := s.members[memberID]
	next := old.clone()
	if in {
		next.picked[group] = true
	} else {
		delete(next.picked, group)
	}
	s.commit(actor, OpGroup, old, next, false)
}

// groups returns the ids of the groups that m is in.
func (s *Server) groups(m *member) []string {
	var out []string
	for _, g := range s.conf.Groups {
		in := m.picked[g.UniqueID]
		if c := g.Condition; c != nil {
			v := fmt.Sprint(m.flat()[c.Field])
			in = c.Op == "eq" && v == c.Value || c.Op == "contains" && strings.Contains(v, c.Value)
		}
		if in {
			out = append(out, g.UniqueID)
		}
	}
	return out
}

// stamp is a time as Novi shows it: .NET style in the tenant's zone (§3.3).
func (s *Server) stamp(t time.Time) string {
	return t.In(s.conf.Timezone).Format("2006-01-02T15:04:05.9999999-07:00")
}

// render is a member as the API shows it. The caller holds mu.
func (s *Server) render(m *member) map[string]any {
	out := make(map[string]any, len(m.values)+24)
	for k, v := range m.values {
		if addr, ok := v.(map[string]any); ok {
			v = maps.Clone(addr)
		}
		out[k] = v
	}
	custom := map[string]any{}
	for _, f := range s.conf.CustomFields {
		custom[f.Name] = map[string]any{"CustomerUniqueID": m.id, "CustomFieldUniqueID": f.UniqueID, "CustomFieldName": f.Name,
			"Value": m.custom[f.Name], "IsSumOfChildren": false}
	}
	groups := []any{}
	for _, id := range s.groups(m) {
		for _, g := range s.conf.Groups {
			if g.UniqueID == id {
				groups = append(groups, map[string]any{"GroupUniqueID": g.UniqueID, "GroupName": g.Name, "InheritingMember": false, "JoinDate": nil})
			}
		}
	}
	maps.Copy(out, map[string]any{
		"UniqueID": m.id, "InternalIdentifier": m.number, "QuickBooksID": nil, "FamilyTreeUniqueID": m.id, "ParentMemberName": nil,
		"CustomFields": custom, "Groups": groups, "Committees": []any{}, "Awards": []any{}, "Education": []any{}, "VolunteerWorks": []any{},
		"DirectoryGallery": []any{}, "ManagementAccessForCompanies": []any{}, "OpenDuesBalance": 0, "OverdueDuesBalance": 0, "Image": "",
		"IsInstructor": false, "SpecifiedSystemFields": []any{"Email", "Mobile", "BillingAddress", "Notes"}, "EffectiveMemberType": m.values["MemberType"],
		"AverageNpsScore": nil, "LastNpsScore": nil, "LastNpsScoreDate": nil, "LastNpsFeedback": nil,
		"CreatedDate": s.stamp(m.created), "LastUpdatedDate": s.stamp(m.modified), "LastSegmentUpdatedDate": s.stamp(m.segment),
	})
	if parent, ok := m.values["ParentCustomerUniqueID"].(string); ok {
		if p := s.members[parent]; p != nil {
			out["ParentMemberName"] = p.values["Name"]
		}
	}
	return out
}
