package ghlsim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	_ "time/tzdata" // a location's zone must be known on any machine
)

// Server is a simulated GoHighLevel. Make one with New; use Handler or Serve
// for its HTTP side and Run for its webhooks.
type Server struct {
	conf  Config
	rng   *lockedRand
	hooks *dispatcher

	mu        sync.Mutex // guards all below, and what the locations hold
	locations map[string]*location
	tokens    map[string]Token
	oauth     oauth
	where     map[string]string // contact id -> location id
	itemAt    map[string]string // task, note or appointment id -> location id
	faults    Faults
	ledger    []LedgerEntry
	seq       int64
	stats     Stats
}

// location is what a Server knows of one sub-account.
type location struct {
	conf     Location
	zone     *time.Location
	contacts map[string]*history[snapshot]
	byEmail  map[string][]string // lower-cased -> contact ids, oldest first
	byPhone  map[string][]string
	tags     map[string]string // name -> tag id
	fields   atomic.Pointer[[]CustomField]
	firms    []business
	enrolled map[string]map[enrolment]bool // by contact id
	graves   []grave                       // deleted contacts that search may still see

	items      map[string]*history[item]
	byContact  map[family][]string // item ids, oldest first
	itemGraves []grave             // deleted items that search may still see

	window window
}

type grave struct {
	id string
	at time.Time
	of family // of an item: where it is filed
}

// New returns a Server without contacts, or an error that names what is wrong
// with c.
func New(c Config) (*Server, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{
		conf: c,
		rng:  &lockedRand{r: rand.New(rand.NewPCG(uint64(c.Seed), 0x67686c73696d))},
	}
	s.hooks = newDispatcher(c, s.rng)
	s.SetTokens(c.Tokens)
	if c.App != nil {
		s.oauth = oauth{lifetime: c.App.Lifetime, codes: map[string]*grant{}, refresh: map[string]*grant{}, installed: map[string]bool{}}
	}
	s.clear()
	return s, nil
}

// clear forgets everything but the configuration. The caller holds mu, or is
// the only one to know s.
func (s *Server) clear() {
	s.locations = make(map[string]*location, len(s.conf.Locations))
	for _, l := range s.conf.Locations {
		zone, _ := time.LoadLocation(l.Timezone) // New has tried it
		loc := &location{
			conf:      l,
			zone:      zone,
			contacts:  map[string]*history[snapshot]{},
			byEmail:   map[string][]string{},
			byPhone:   map[string][]string{},
			tags:      map[string]string{},
			items:     map[string]*history[item]{},
			byContact: map[family][]string{},
			enrolled:  map[string]map[enrolment]bool{},
		}
		loc.fields.Store(&l.CustomFields)
		s.locations[l.ID] = loc
	}
	s.where = map[string]string{}
	s.itemAt = map[string]string{}
	s.ledger, s.seq = nil, 0
	s.faults = Faults{}
	s.stats = Stats{Requests: map[string]int{}}
}

// Reset forgets all contacts and what belongs to them, the ledger, the statistics, the faults, the
// rate-limit windows and the webhooks that wait. Tokens and the webhook URL
// stay.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	s.hooks.reset()
}

// SetTokens replaces the accepted tokens. A token of an unknown location
// reaches nothing.
func (s *Server) SetTokens(tokens []Token) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens = make(map[string]Token, len(tokens))
	for _, t := range tokens {
		t.Scopes = slices.Clone(t.Scopes)
		s.tokens[t.Value] = t
	}
}

// SetWebhookURL says where events go from now on, those that wait included;
// "" means that no more are made and those that wait are given up.
func (s *Server) SetWebhookURL(url string) { s.hooks.setURL(url) }

// SetFaults replaces the faults. Probabilities outside 0 to 1 are clamped.
func (s *Server) SetFaults(f Faults) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = f.clamped()
}

// Run delivers webhooks until ctx is done, then returns nil after the attempts
// under way have ended. What waits stays queued. At most one Run at a time.
func (s *Server) Run(ctx context.Context) error { return s.hooks.run(ctx) }

// PendingWebhooks returns how many deliveries are neither accepted nor given
// up.
func (s *Server) PendingWebhooks() int { return s.hooks.counts().pending }

// Serve answers HTTP on l until ctx is done, then closes l and returns nil
// once the requests under way have been answered, or after a second.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := srv.Shutdown(grace); err != nil {
			stopped <- srv.Close()
			return
		}
		stopped <- nil
	})
	err := srv.Serve(l)
	if stop() {
		return fmt.Errorf("serve simulated GHL: %w", err)
	}
	if err := <-stopped; err != nil {
		return fmt.Errorf("stop simulated GHL: %w", err)
	}
	return nil
}

// Dump returns copies of all contacts of a location, sorted by id. An unknown
// location has none.
func (s *Server) Dump(locationID string) []Contact {
	s.mu.Lock()
	defer s.mu.Unlock()
	loc := s.locations[locationID]
	if loc == nil {
		return nil
	}
	out := make([]Contact, 0, len(loc.contacts))
	for _, c := range loc.contacts {
		snap := c.current()
		if snap == nil {
			continue
		}
		fields, _ := deepCopy(details(loc, snap)).(map[string]any)
		tags := make([]string, len(snap.tags))
		copy(tags, snap.tags)
		out = append(out, Contact{ID: snap.id, LocationID: snap.location, Fields: fields, Tags: tags})
	}
	slices.SortFunc(out, func(a, b Contact) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Contact returns a copy of one contact; false if the location has none of
// that id.
func (s *Server) Contact(locationID, id string) (Contact, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	loc := s.locations[locationID]
	if loc == nil {
		return Contact{}, false
	}
	snap := loc.current(id)
	if snap == nil {
		return Contact{}, false
	}
	fields, _ := deepCopy(details(loc, snap)).(map[string]any)
	return Contact{ID: snap.id, LocationID: snap.location, Fields: fields, Tags: slices.Clone(snap.tags)}, true
}

// Stats is what happened since New or Reset.
type Stats struct {
	// Requests counts API requests by method and route, such as
	// "PUT /contacts/{id}", refused ones included.
	Requests map[string]int `json:"requests"`
	// Reads and Writes count the requests that got past authentication and
	// limits. Writes are those that can change records; a search is a read.
	Reads  int `json:"reads"`
	Writes int `json:"writes"`
	// HTTP429 counts refusals for the rate limit, injected ones included.
	HTTP429 int `json:"http429"`
	// TokensIssued counts the access tokens of the app, RefreshReused the uses
	// of a refresh token after its first.
	TokensIssued  int `json:"tokensIssued"`
	RefreshReused int `json:"refreshReused"`
	// Contacts now, in all locations.
	Contacts int `json:"contacts"`
	// LedgerForgotten counts entries dropped because of Config.LedgerMax.
	LedgerForgotten int64 `json:"ledgerForgotten"`
	// WebhooksSent counts deliveries that got a 2xx, WebhookAttempts all
	// tries, WebhooksFailed those given up, WebhooksDropped those lost by
	// fault, WebhooksOverflow those lost to a full queue.
	WebhooksSent     int `json:"webhooksSent"`
	WebhookAttempts  int `json:"webhookAttempts"`
	WebhooksFailed   int `json:"webhooksFailed"`
	WebhooksDropped  int `json:"webhooksDropped"`
	WebhooksOverflow int `json:"webhooksOverflow"`
	// WebhooksPending is what PendingWebhooks returns.
	WebhooksPending int `json:"webhooksPending"`
}

// Stats returns a copy of the counters.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.stats
	out.Requests = maps.Clone(s.stats.Requests)
	out.Contacts = len(s.where)
	h := s.hooks.counts()
	out.WebhooksSent, out.WebhookAttempts, out.WebhooksFailed = h.sent, h.attempts, h.failed
	out.WebhooksDropped, out.WebhooksOverflow, out.WebhooksPending = h.dropped, h.overflow, h.pending
	return out
}

// Errors of Edit, EditItem and Merge, matched with errors.Is.
var (
	// ErrNotFound: there is no such location, contact or item.
	ErrNotFound = errors.New("not found")
	// ErrDuplicate: another contact has that email or phone and the location
	// allows no duplicates.
	ErrDuplicate = errors.New("duplicate contact")
	// ErrInvalid: the edit cannot be understood.
	ErrInvalid = errors.New("invalid edit")
)

// customFields are the definitions of the moment; they may be read without
// mu, as the configuration may.
func (l *location) customFields() []CustomField { return *l.fields.Load() }

// customField finds a definition by id, by fieldKey or by fieldKey less
// "contact.".
func (l *location) customField(name string) (CustomField, bool) {
	for _, f := range l.customFields() {
		if f.ID == name || f.Key != "" && (f.Key == name || f.Key == "contact."+name) {
			return f, true
		}
	}
	return CustomField{}, false
}

// current returns the live contact with that id, nil if there is none.
func (l *location) current(id string) *snapshot {
	if c := l.contacts[id]; c != nil {
		return c.current()
	}
	return nil
}

// owner returns a contact other than self that has value in the unique field.
func (l *location) owner(field, value, self string) *snapshot {
	if value == "" {
		return nil
	}
	index := l.byEmail
	if field == "phone" {
		index = l.byPhone
	}
	for _, id := range index[value] {
		if id != self {
			return l.current(id)
		}
	}
	return nil
}

// duplicate returns the contact, if any, that keeps next from being stored in
// a location without duplicates, and the field that says so. Only fields that
// differ from old are looked at; old may be nil.
func (l *location) duplicate(old, next *snapshot) (*snapshot, string) {
	if l.conf.AllowDuplicates {
		return nil, ""
	}
	for _, f := range l.conf.UniqueFields {
		v := next.str(f)
		if old != nil && old.str(f) == v {
			continue
		}
		if o := l.owner(f, v, next.id); o != nil {
			return o, f
		}
	}
	return nil, ""
}

// reindex moves a contact in the unique-field indexes.
func (l *location) reindex(old, next *snapshot) {
	for field, index := range map[string]map[string][]string{"email": l.byEmail, "phone": l.byPhone} {
		from, to, id := "", "", ""
		if old != nil {
			from, id = old.str(field), old.id
		}
		if next != nil {
			to, id = next.str(field), next.id
		}
		if from == to {
			continue
		}
		if from != "" {
			ids := slices.DeleteFunc(index[from], func(x string) bool { return x == id })
			if len(ids) == 0 {
				delete(index, from)
			} else {
				index[from] = ids
			}
		}
		if to != "" {
			index[to] = append(index[to], id)
		}
	}
}

// bury forgets deleted records that no search can see any more.
func (l *location) bury(horizon time.Time) {
	n := 0
	for n < len(l.graves) && !l.graves[n].at.After(horizon) {
		delete(l.contacts, l.graves[n].id)
		n++
	}
	if n > 0 {
		l.graves = slices.Clone(l.graves[n:])
	}
	for n = 0; n < len(l.itemGraves) && !l.itemGraves[n].at.After(horizon); n++ {
		g := l.itemGraves[n]
		l.unlink(g.of, g.id)
		delete(l.items, g.id)
	}
	if n > 0 {
		l.itemGraves = slices.Clone(l.itemGraves[n:])
	}
}

// lockedRand is a source of chance for many goroutines.
type lockedRand struct {
	mu sync.Mutex
	r  *rand.Rand
}

// chance is true with probability p.
func (l *lockedRand) chance(p float64) bool {
	if p <= 0 {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.Float64() < p
}

// between returns a duration from a to b.
func (l *lockedRand) between(a, b time.Duration) time.Duration {
	if b <= a {
		return a
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return a + time.Duration(l.r.Int64N(int64(b-a)+1))
}

// id returns 20 letters and digits, like the ids of the real system.
func (l *lockedRand) id() string {
	const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	l.mu.Lock()
	defer l.mu.Unlock()
	var b [20]byte
	for i := range b {
		b[i] = alphabet[l.r.IntN(len(alphabet))]
	}
	return string(b[:])
}

// uuid returns a version 4 UUID.
func (l *lockedRand) uuid() string {
	l.mu.Lock()
	hi, lo := l.r.Uint64(), l.r.Uint64()
	l.mu.Unlock()
	hi = hi&^0xf000 | 0x4000
	lo = lo&^(3<<62) | 2<<62
	return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", hi>>32, hi>>16&0xffff, hi&0xffff, lo>>48, lo&0xffffffffffff)
}
