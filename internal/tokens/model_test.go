package tokens_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/tokens"
)

// The model: a few replicas that all want the tenant's access token after it
// has expired, the bucket, and an authorization server that ends the whole
// grant when a refresh token is presented a second time. Each replica is the
// real code; whenever it touches the bucket, the server or the clock, it waits
// until the explorer lets it, so that one schedule is one list of choices. The
// explorer goes through all of them: at each step, which replica goes on, and
// what happens to it there, as far as the mishaps that a run may have.

// mishap is what becomes of a step.
type mishap int

const (
	none       mishap = iota
	dieBefore         // the process dies; nothing was done
	dieAfter          // the process dies; it was done
	lostBefore        // not done, and the answer doesn't say so
	lostAfter         // done, and the answer doesn't say so
	refusedNow        // the server is away, and says that it has done nothing
)

var (
	all    = []mishap{dieBefore, dieAfter, lostBefore, lostAfter, refusedNow}
	deaths = []mishap{dieBefore, dieAfter}
)

// step is what a replica wants to do.
type step struct {
	name    string
	mishaps []mishap
	do      func() // does it, and keeps the answer for the replica
	lost    error  // what the replica is told of a lost answer
	fail    func(error)
}

type replica struct {
	name    string
	wants   chan step
	goes    chan bool // false: the process has died
	next    *step
	dead    bool
	done    bool
	token   string
	err     error
	history []string // what it was told: all that its state follows from
}

// errDead ends a replica's goroutine; nothing else sees it.
var errDead = errors.New("the process has died")

// world is one run.
type world struct {
	replicas []*replica
	now      time.Time
	rev      uint64
	value    []byte
	valueRev uint64
	server   *server
	stored   map[string]bool // the access tokens that ever were
	ring     tokens.Keyring
	opened   struct { // the record, decrypted
		grant tokens.Grant
		rev   uint64
	}

	// What was violated, and what a lock-out may be explained by.
	broken []string
	window bool // a replica died, or an answer got lost, between pending and stored
}

// server is the authorization server.
type server struct {
	good      string // the refresh token that is good
	revoked   bool
	n         int
	presented map[string]int
	access    map[string]bool
}

func (s *server) refresh(token string) (tokens.Pair, error) {
	s.presented[token]++
	if token != s.good || s.revoked {
		s.revoked = true // a second use looks like a theft
		return tokens.Pair{}, &apierr.Error{System: "ghl", Op: "refresh", Class: apierr.Invalid, Status: 400, Message: "invalid_grant"}
	}
	s.n++
	s.good = fmt.Sprintf("refresh-%d", s.n)
	access := fmt.Sprintf("access-%d", s.n)
	s.access[access] = true
	return tokens.Pair{Access: access, Refresh: s.good, Lifetime: 24 * time.Hour}, nil
}

// ask has the replica that runs wait for its turn.
func (w *world) ask(r *replica, s step) {
	r.wants <- s
	if !<-r.goes {
		panic(errDead)
	}
}

// kv is the bucket as one replica sees it.
type kv struct {
	guarded
	w *world
	r *replica
}

// guarded ends a run in which a record is written or deleted whatever its
// revision: two replicas could then both go on.
type guarded struct{}

func (guarded) Put(_ context.Context, key string, _ []byte) (uint64, error) {
	panic(key + " is put without a revision")
}

func (guarded) Delete(_ context.Context, key string, _ uint64) error {
	panic(key + " is deleted; what is gone is a record that says so")
}

var errUnknown = fmt.Errorf("the broker did not answer: %w", bus.ErrNotStored)

func (k kv) op(name string, write bool, do func() error) (err error) {
	s := step{name: name, mishaps: []mishap{none, dieBefore}, lost: errUnknown}
	if write {
		s.mishaps = append(s.mishaps, dieAfter, lostBefore, lostAfter)
	}
	s.do = func() { err = do() }
	s.fail = func(e error) { err = e }
	k.w.ask(k.r, s)
	k.r.history = append(k.r.history, fmt.Sprint(name, err, k.w.valueRev))
	return err
}

func (k kv) Get(context.Context, string) (value []byte, rev uint64, err error) {
	err = k.op("get", false, func() error {
		if k.w.value == nil {
			return bus.ErrNotFound
		}
		value, rev = k.w.value, k.w.valueRev
		return nil
	})
	return value, rev, err
}

func (k kv) put(value []byte) uint64 {
	k.w.rev++
	k.w.value, k.w.valueRev = value, k.w.rev
	k.w.stored[k.w.grant().Access] = true
	return k.w.rev
}

func (k kv) Create(_ context.Context, _ string, value []byte) (rev uint64, err error) {
	err = k.op("create", true, func() error {
		if k.w.value != nil {
			return bus.ErrExists
		}
		rev = k.put(value)
		return nil
	})
	return rev, err
}

func (k kv) Update(_ context.Context, _ string, value []byte, last uint64) (rev uint64, err error) {
	err = k.op("update", true, func() error {
		if k.w.valueRev != last {
			return bus.ErrWrongSequence
		}
		rev = k.put(value)
		return nil
	})
	return rev, err
}

func (k kv) Keys(context.Context, string) ([]string, error) { return []string{"ghl.tenant.a"}, nil }

// clk is the clock: a wait takes a minute, so that all patience ends soon.
type clk struct {
	w *world
	r *replica
}

func (c clk) Now() time.Time { return c.w.now }

func (c clk) After(time.Duration) <-chan time.Time {
	c.w.ask(c.r, step{name: "wait", mishaps: []mishap{none, dieBefore}, do: func() { c.w.now = c.w.now.Add(time.Minute) }})
	c.r.history = append(c.r.history, "waited")
	out := make(chan time.Time, 1)
	out <- c.w.now
	return out
}

// refresh presents a token: it arrives, and the answer comes back.
func (w *world) refresh(r *replica) func(context.Context, string) (tokens.Pair, error) {
	return func(_ context.Context, token string) (pair tokens.Pair, err error) {
		w.ask(r, step{name: "present", mishaps: []mishap{none, dieBefore, dieAfter, lostBefore, lostAfter, refusedNow},
			do: func() { pair, err = w.server.refresh(token) }, fail: func(e error) { pair, err = tokens.Pair{}, e },
			lost: &apierr.Error{System: "ghl", Op: "refresh", Class: apierr.Ambiguous, Message: "no answer"}})
		r.history = append(r.history, fmt.Sprint("presented", pair.Access, err))
		return pair, err
	}
}

var start = time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)

func ring(t testing.TB, digits ...string) tokens.Keyring {
	t.Helper()
	var keys []string
	for _, d := range digits {
		keys = append(keys, strings.Repeat(d, 64))
	}
	r, err := tokens.NewKeyring(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// actor is what a replica does.
type actor func(ctx context.Context, w *world, r *replica) (string, error)

// wants asks until there is a token, or only a person can help.
func wants(ctx context.Context, w *world, r *replica) (string, error) {
	s := w.source(r)
	for {
		token, err := s.Token(ctx)
		if err == nil || apierr.ClassOf(err) != apierr.Retry {
			return token, err
		}
	}
}

func rotates(ctx context.Context, w *world, r *replica) (string, error) {
	_, err := tokens.NewStore(kv{w: w, r: r}, w.ring).RotateKey(ctx)
	return "", err
}

func (w *world) source(r *replica) *tokens.Source {
	return tokens.New(tokens.Config{Store: tokens.NewStore(kv{w: w, r: r}, w.ring), Clock: clk{w, r}, Logger: zerolog.Nop(),
		Owner: tokens.Owner{Tenant: "a"}, By: r.name, Refresh: w.refresh(r)})
}

// run plays one schedule: choose says which of n ways to take.
func run(t testing.TB, actors []actor, budget int, may []mishap, choose func(n int, state func() uint64) (int, bool)) *world {
	w := &world{now: start, stored: map[string]bool{}, server: &server{good: "refresh-0", presented: map[string]int{}, access: map[string]bool{}}, ring: ring(t, "2", "1")}
	// The grant was installed a day ago, and sealed with the older key.
	setup := tokens.NewStore(&plain{w: w}, ring(t, "1"))
	if err := setup.Install(t.Context(), tokens.Owner{Tenant: "a"}, tokens.Pair{Access: "access-0", Refresh: "refresh-0", Lifetime: time.Hour}, start.Add(-24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	for i, act := range actors {
		w.start(t, fmt.Sprintf("replica-%d", i), act)
	}
	for {
		type way struct {
			r *replica
			m mishap
		}
		var ways []way
		for _, r := range w.replicas {
			if r.dead || r.done {
				continue
			}
			ways = append(ways, way{r, none})
			if budget > 0 {
				for _, m := range r.next.mishaps[1:] {
					if slices.Contains(may, m) {
						ways = append(ways, way{r, m})
					}
				}
			}
		}
		if len(ways) == 0 {
			return w
		}
		i, ok := choose(len(ways), func() uint64 { return w.state(budget) })
		if !ok {
			w.end()
			return nil // seen before
		}
		if ways[i].m != none {
			budget--
		}
		w.take(ways[i].r, ways[i].m)
	}
}

// start starts a replica and waits until it wants something.
func (w *world) start(t testing.TB, name string, act actor) *replica {
	r := &replica{name: name, wants: make(chan step), goes: make(chan bool)}
	w.replicas = append(w.replicas, r)
	go func() {
		defer close(r.wants)
		defer func() {
			if p := recover(); p != nil && p != any(errDead) {
				panic(p)
			}
		}()
		r.token, r.err = act(t.Context(), w, r)
	}()
	w.settle(r)
	return r
}

// settle waits until r wants something or has ended.
func (w *world) settle(r *replica) {
	s, more := <-r.wants
	if r.next = &s; !more {
		r.done = true
		if !r.dead && r.token != "" {
			w.use(r.token)
		}
	}
}

// use is an API call: the token has to be one that is stored.
func (w *world) use(token string) {
	if !w.stored[token] {
		w.broken = append(w.broken, "a token was used that nobody has stored: "+token)
	}
}

// holds reports whether p is r's.
func (r *replica) holds(p *tokens.Pending) bool {
	return p != nil && strings.HasPrefix(p.By, r.name+"/")
}

// take has r do its step.
func (w *world) take(r *replica, m mishap) {
	s := r.next
	pending := w.grant().Pending
	mine := r.holds(pending)
	switch m {
	case dieBefore, dieAfter:
		if m == dieAfter {
			s.do()
			if r.holds(w.grant().Pending) {
				mine = true // it died right after that was stored
			} else if s.name == "update" {
				mine = false // the pair is stored, or the pending taken back
			}
		}
		r.dead = true
		r.goes <- false
		w.window = w.window || mine
		<-r.wants
		return
	case lostBefore:
		s.fail(s.lost)
	case lostAfter:
		s.do()
		s.fail(s.lost)
	case refusedNow:
		s.fail(&apierr.Error{System: "ghl", Op: "refresh", Class: apierr.Retry, Message: "no connection"})
	default:
		s.do()
	}
	if s.name == "present" && (m == lostBefore || m == lostAfter) {
		w.window = true
	}
	r.goes <- true
	w.settle(r)
}

// end lets what still waits go.
func (w *world) end() {
	for _, r := range w.replicas {
		if !r.done && !r.dead {
			r.dead = true
			r.goes <- false
			<-r.wants
		}
	}
}

func (w *world) grant() tokens.Grant {
	if w.value == nil || w.opened.rev == w.valueRev {
		return w.opened.grant
	}
	list, err := tokens.NewStore(&plain{w: w}, w.ring).List(context.Background())
	if err != nil || len(list) != 1 || list[0].Err != nil {
		panic(fmt.Sprint("the record can't be read: ", list, err))
	}
	w.opened.grant, w.opened.rev = list[0].Grant, w.valueRev
	return list[0].Grant
}

// state is a number for all that the rest of a run follows from.
func (w *world) state(budget int) uint64 {
	h := fnv.New64a()
	g := w.grant()
	pending := ""
	if p := g.Pending; p != nil {
		who, _, _ := strings.Cut(p.By, "/") // the rest of it is random
		pending = fmt.Sprint(who, p.ID[len(p.By):], p.Since, p.Doubt)
	}
	g.Pending, g.ID = nil, ""
	_, _ = fmt.Fprint(h, budget, w.now.Unix(), w.valueRev, w.window, g, pending, w.server.good, w.server.revoked, w.server.n)
	for _, r := range w.replicas {
		if r.dead || r.done {
			_, _ = fmt.Fprint(h, "|", r.dead, r.token, apierr.ClassOf(r.err))
			continue
		}
		_, _ = fmt.Fprint(h, "|", r.next.name, strings.Join(r.history, ";"))
	}
	return h.Sum64()
}

// plain is the bucket without anybody waiting.
type plain struct {
	guarded
	w *world
}

func (p *plain) Get(context.Context, string) ([]byte, uint64, error) {
	if p.w.value == nil {
		return nil, 0, bus.ErrNotFound
	}
	return p.w.value, p.w.valueRev, nil
}
func (p *plain) Create(_ context.Context, _ string, v []byte) (uint64, error) {
	return kv{w: p.w}.put(v), nil
}
func (p *plain) Update(_ context.Context, _ string, v []byte, _ uint64) (uint64, error) {
	return kv{w: p.w}.put(v), nil
}
func (p *plain) Keys(context.Context, string) ([]string, error) { return []string{"ghl.tenant.a"}, nil }

// check says what a run has shown to be wrong.
func (w *world) check(t testing.TB) []string {
	broken := slices.Clone(w.broken)
	for token, n := range w.server.presented {
		if n > 1 {
			broken = append(broken, fmt.Sprintf("%s was presented %d times", token, n))
		}
	}
	if w.server.revoked {
		broken = append(broken, "the server has ended the grant")
	}
	for _, r := range w.replicas {
		if r.token != "" && (!w.server.access[r.token]) {
			broken = append(broken, "a replica was given "+r.token+", which is not good")
		}
		if r.err != nil && apierr.ClassOf(r.err) == apierr.Unknown && !errors.Is(r.err, bus.ErrNotStored) {
			broken = append(broken, "an error of no class: "+r.err.Error())
		}
	}
	// A day later somebody comes anew: is there a way in?
	w.now = w.now.Add(48 * time.Hour)
	late := w.start(t, "late", wants)
	for !late.done {
		w.take(late, none)
	}
	if late.token == "" && !w.window {
		broken = append(broken, "locked out without need: "+fmt.Sprint(late.err))
	}
	if late.token == "" && apierr.ClassOf(late.err) != apierr.Forbidden {
		broken = append(broken, "locked out, and no person is called: "+fmt.Sprint(late.err))
	}
	return broken
}

// explore goes through all schedules, and returns how many there were.
func explore(t *testing.T, actors []actor, mishaps int, may []mishap) (runs, lockouts int) {
	seen := map[uint64]bool{}
	defer func() { t.Logf("%d states", len(seen)) }()
	var path []int // the choices of the run under way
	var width []int
	for {
		depth := 0
		var chosen []int
		w := run(t, actors, mishaps, may, func(n int, state func() uint64) (int, bool) {
			i := 0
			if depth < len(path) {
				i = path[depth]
			} else {
				if s := state(); seen[s] {
					return 0, false
				} else {
					seen[s] = true
				}
				path, width = append(path, 0), append(width, n)
			}
			chosen = append(chosen, i)
			depth++
			return i, true
		})
		if w != nil {
			runs++
			for _, b := range w.check(t) {
				t.Fatalf("choices %v: %s", chosen, b)
			}
			if w.replicas[len(w.replicas)-1].token == "" {
				lockouts++
			}
		}
		for len(path) > 0 && path[len(path)-1] == width[len(path)-1]-1 {
			path, width = path[:len(path)-1], width[:len(width)-1]
		}
		if len(path) == 0 {
			return runs, lockouts
		}
		path[len(path)-1]++
	}
}

// TestEveryInterleaving is the promise of the package comment: whatever the
// order of the steps, whoever dies where and whichever answers get lost, no
// refresh token is presented twice, no token is used before it is stored, and
// the way in is lost only in the window that the comment names.
func TestEveryInterleaving(t *testing.T) {
	tests := []struct {
		name    string
		actors  []actor
		mishaps int
		may     []mishap
		locks   bool // there are runs that end in doubt
	}{
		{"two, and nothing goes wrong", []actor{wants, wants}, 0, nil, false},
		{"three, and nothing goes wrong", []actor{wants, wants, wants}, 0, nil, false},
		{"two, and two mishaps", []actor{wants, wants}, 2, all, true},
		{"three, and one dies", []actor{wants, wants, wants}, 1, deaths, true},
		{"one and a new key, and two mishaps", []actor{wants, rotates}, 2, all, true},
		{"two and a new key", []actor{wants, wants, rotates}, 0, nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			runs, lockouts := explore(t, tt.actors, tt.mishaps, tt.may)
			t.Logf("%d runs, %d of them in doubt", runs, lockouts)
			if runs < 2 || (lockouts > 0) != tt.locks {
				t.Errorf("%d runs, %d of them in doubt: the model does not do what it says", runs, lockouts)
			}
		})
	}
}
