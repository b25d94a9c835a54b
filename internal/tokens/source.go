package tokens

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/clock"
)

const (
	// patience is how long a refresh may take before it counts as lost; a call
	// of the token endpoint has ended long before.
	patience = 90 * time.Second
	// look is how often the store is asked about another's refresh.
	look = 250 * time.Millisecond
	// believed is for how long a record is taken to be as it was read.
	believed = 5 * time.Second
	// between is the least time between two refreshes of a token that was
	// refused before its time: one that is refused anew helps nobody.
	between = time.Minute
	// stores is how often it is tried to store a new pair.
	stores = 60
)

// Config is what a Source needs.
type Config struct {
	Store  *Store
	Clock  clock.Clock
	Logger zerolog.Logger
	Owner  Owner
	// By names this process, for people.
	By string
	// Refresh presents a refresh token. The class of its error says what became
	// of the token: Invalid, it is good for nothing; Ambiguous, nobody knows;
	// any other, it was not used. It must not end before its call has.
	Refresh func(ctx context.Context, refresh string) (Pair, error)
	// Agency, if set, is who makes tokens for Location with Mint where the
	// owner has none of its own, or none that is good.
	Agency   *Source
	Location string
	Mint     func(ctx context.Context, company, location, access string) (Pair, error)
}

// Source hands out an owner's access token. It is safe for concurrent use.
type Source struct {
	cfg  Config
	turn chan struct{} // holds one while somebody works

	grant Grant // as it was last read
	read  time.Time
	// after is when a refresh that failed and did no harm is tried again while
	// there is an access token that is good.
	after time.Time
	tries int
	// presented are the attempts of this source whose token was presented, and
	// of which no end is stored. One that is stored as pending and is not among
	// them was not presented.
	presented map[string]bool
	// answer is a new pair that is not stored yet.
	answer *answer
}

// answer is what came of presenting a grant's refresh token.
type answer struct {
	attempt string
	grant   Grant // as it is stored, at rev
	rev     uint64
	pair    Pair
}

// New returns a Source.
func New(cfg Config) *Source {
	cfg.By += "/" + rand.Text()[:8] // two sources of a process are two
	return &Source{cfg: cfg, turn: make(chan struct{}, 1), presented: map[string]bool{}}
}

// Token returns an access token, refreshed ahead of its expiry. Errors are of
// class Wait where the app is not installed, Retry where the store or the token
// endpoint is away, and Forbidden where a person has to act.
func (s *Source) Token(ctx context.Context) (string, error) { return s.take(ctx, "") }

// Refused returns another access token than the one that GHL has refused: what
// is stored by now, or else a refreshed one. Errors: those of Token.
func (s *Source) Refused(ctx context.Context, access string) (string, error) {
	return s.take(ctx, access)
}

func (s *Source) take(ctx context.Context, refused string) (string, error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	now := s.cfg.Clock.Now()
	if refused == "" && s.answer == nil && s.grant.Access != "" && now.Before(s.grant.due()) && now.Sub(s.read) < believed {
		return s.grant.Access, nil
	}
	for {
		// What is begun is finished: half a refresh costs the token.
		access, err := s.step(context.WithoutCancel(ctx), refused)
		switch {
		case err == nil:
			return access, nil
		case errors.Is(err, errAgain):
		case errors.Is(err, errLater):
			if err := clock.Sleep(ctx, s.cfg.Clock, look); err != nil {
				return "", err
			}
		default:
			return "", err
		}
	}
}

var (
	errAgain = errors.New("the record has changed") // look at it again
	errLater = errors.New("another process is refreshing")
)

// step looks at the record once, and does what there is to do.
func (s *Source) step(ctx context.Context, refused string) (string, error) {
	g, rev, err := s.cfg.Store.load(ctx, s.cfg.Owner)
	if err != nil {
		return "", s.away(err)
	}
	now := s.cfg.Clock.Now()
	s.grant, s.read = g, now
	early := g.Access != "" && g.Access == refused // before its time
	usable := g.Access != "" && !early && now.Before(g.Expires)
	doubt := g.State(now) == inDoubt
	switch {
	case s.answer != nil:
		return "", s.keep(ctx)
	case g.Gone:
		return "", s.absent()
	case usable && (now.Before(g.due()) || now.Before(s.after)):
		return g.Access, nil
	case early && now.Sub(g.Asked) < between:
		return "", s.forbidden("its token is refused, and was a refresh was begun less than a minute ago")
	case g.Minted || g.Access == "":
		return s.mint(ctx, g, rev, early)
	case g.Pending != nil && g.Pending.By == s.cfg.By && !s.presented[g.Pending.ID]:
		return "", s.present(ctx, g, rev, usable)
	case usable && (g.Refused != "" || g.Pending != nil || g.Refresh == ""):
		return g.Access, nil
	case s.cfg.Agency != nil && (g.Refused != "" || doubt):
		return s.mint(ctx, g, rev, early)
	case g.Refused != "":
		return "", s.forbidden("its refresh token is refused (" + g.Refused + "); the app has to be installed again")
	case g.Refresh == "":
		return "", s.forbidden("its token is at its end, and there is no refresh token; the app has to be installed again")
	case doubt:
		return "", s.forbidden("it is in doubt whether its refresh token was used, by " + g.Pending.By + " at " + g.Pending.Since.UTC().Format(time.RFC3339) +
			"; install the app again, or see causeway tokens retry")
	case g.Pending != nil:
		return "", errLater
	}
	return "", s.begin(ctx, g, rev, usable, early)
}

// begin stores that the refresh token is about to be used. It is not, unless
// that is known to be stored.
func (s *Source) begin(ctx context.Context, g Grant, rev uint64, usable, early bool) error {
	now := s.cfg.Clock.Now()
	s.tries++
	g.Pending = &Pending{ID: s.cfg.By + "." + strconv.Itoa(s.tries), By: s.cfg.By, Since: now}
	if early {
		g.Asked = now
	}
	rev, err := s.cfg.Store.save(ctx, s.cfg.Owner, g, rev)
	switch {
	case errors.Is(err, bus.ErrWrongSequence):
		return errAgain // another was first
	case err != nil:
		return s.away(err) // a later look tells whether it was stored
	}
	return s.present(ctx, g, rev, usable)
}

// present uses the refresh token of a grant that says so.
func (s *Source) present(ctx context.Context, g Grant, rev uint64, usable bool) error {
	id := g.Pending.ID
	s.presented[id] = true
	pair, err := s.cfg.Refresh(ctx, g.Refresh)
	if err == nil {
		s.answer = &answer{attempt: id, grant: g, rev: rev, pair: pair}
		return s.keep(ctx)
	}
	log := s.cfg.Logger.Error().Stringer("owner", s.cfg.Owner).Int("generation", g.Generation).Err(err)
	var settle func(*Grant)
	class := apierr.ClassOf(err)
	switch class {
	case apierr.Invalid:
		log.Msg("a refresh token is refused: the app has to be installed again")
		settle = func(g *Grant) { g.Pending, g.Refused = nil, err.Error() }
	case apierr.Retry, apierr.Wait, apierr.Forbidden, apierr.Refresh:
		log.Msg("a token can't be refreshed now")
		delete(s.presented, id)
		settle = func(g *Grant) { g.Pending = nil }
	default:
		log.Msg("the refresh of a token had no answer: whether the refresh token was used is in doubt")
		settle = func(g *Grant) { g.Pending.Doubt = err.Error() }
	}
	if storeErr := s.cfg.Store.change(ctx, s.cfg.Owner, func(now Grant) (Grant, bool) {
		if now.Pending == nil || now.Pending.ID != id {
			return now, false
		}
		settle(&now)
		return now, true
	}); storeErr != nil {
		return s.away(errors.Join(err, storeErr)) // it stays pending, which says the same or less
	}
	if s.after = s.cfg.Clock.Now().Add(between); !s.presented[id] && class != apierr.Invalid && !usable {
		return err
	}
	return errAgain // what the record says now, goes
}

// keep stores the new pair. Nothing but this process's death keeps it from
// that.
func (s *Source) keep(ctx context.Context) error {
	a := s.answer
	done := func() error {
		s.answer = nil
		delete(s.presented, a.attempt)
		return errAgain
	}
	var err error
	for range stores {
		if _, err = s.cfg.Store.save(ctx, s.cfg.Owner, a.grant.with(a.pair, s.cfg.Clock.Now()), a.rev); err == nil {
			return done()
		}
		now, rev, loadErr := s.cfg.Store.load(ctx, s.cfg.Owner)
		switch {
		case loadErr != nil:
			if err := clock.Sleep(ctx, s.cfg.Clock, look); err != nil {
				return err
			}
		case now.ID != a.grant.ID || now.Gone || now.Generation != a.grant.Generation:
			return done() // it is stored after all, or not wanted any more
		default:
			// Not stored, or sealed anew meanwhile, or a person has called it lost.
			a.grant, a.rev = now, rev
		}
	}
	return s.away(fmt.Errorf("a new pair is not stored yet: %w", err))
}

// mint makes a token of the agency's. That can be done any number of times, so
// it takes no care that nobody else does.
func (s *Source) mint(ctx context.Context, g Grant, rev uint64, early bool) (string, error) {
	if s.cfg.Agency == nil {
		return "", s.absent()
	}
	now := s.cfg.Clock.Now()
	made, err := s.minted(ctx)
	if err != nil {
		if !early && g.Access != "" && now.Before(g.Expires) {
			s.after = now.Add(between)
			return g.Access, nil
		}
		return "", err
	}
	next := Grant{ID: g.ID, Generation: g.Generation, At: g.At, Asked: g.Asked, Minted: true, Company: s.cfg.Agency.cfg.Owner.Company, Location: s.cfg.Location}.with(made, now)
	next.Refresh = "" // good for one use, while the agency's token makes as many as we like
	if early {
		next.Asked = now
	}
	if next.At.IsZero() {
		next.At = now
	}
	if _, err := s.cfg.Store.save(ctx, s.cfg.Owner, next, rev); err != nil && !errors.Is(err, bus.ErrWrongSequence) {
		return "", s.away(err)
	}
	return "", errAgain
}

func (s *Source) minted(ctx context.Context) (Pair, error) {
	access, err := s.cfg.Agency.Token(ctx)
	if err != nil {
		return Pair{}, err
	}
	company := s.cfg.Agency.cfg.Owner.Company
	made, err := s.cfg.Mint(ctx, company, s.cfg.Location, access)
	if apierr.ClassOf(err) != apierr.Refresh {
		return made, err
	}
	if access, err = s.cfg.Agency.Refused(ctx, access); err != nil {
		return Pair{}, err
	}
	return s.cfg.Mint(ctx, company, s.cfg.Location, access)
}

// absent is the error of an owner without tokens.
func (s *Source) absent() error {
	return &apierr.Error{System: "ghl", Op: "token", Class: apierr.Wait, RetryAfter: 5 * time.Second, Err: fmt.Errorf("%s: %w", s.cfg.Owner, ErrNotInstalled)}
}

func (s *Source) away(err error) error {
	return &apierr.Error{System: "ghl", Op: "token", Class: apierr.Retry, Err: err}
}

func (s *Source) forbidden(why string) error {
	return &apierr.Error{System: "ghl", Op: "token", Class: apierr.Forbidden, Message: s.cfg.Owner.String() + ": " + why}
}

// Keep has each source refresh ahead of its expiry, also where nobody calls,
// until ctx is done.
func Keep(ctx context.Context, clk clock.Clock, sources []*Source) {
	for ctx.Err() == nil {
		for _, s := range sources {
			_, _ = s.Token(ctx) // who calls is told, and what needs a person is logged
		}
		if clock.Sleep(ctx, clk, between) != nil {
			return
		}
	}
}
