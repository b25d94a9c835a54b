package console

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
)

// Role is what a person may do here. The zero value may do nothing.
type Role string

// The roles: a viewer sees everything, an operator also acts.
const (
	Viewer   Role = "viewer"
	Operator Role = "operator"
)

// Person is who has signed in.
type Person struct {
	Name string
	Role Role
}

// Operates reports whether the person may act.
func (p Person) Operates() bool { return p.Role == Operator }

// Access says who may come in.
type Access struct {
	// Tokens are people by the SHA-256 of their token; see [LoadTokens].
	Tokens map[[sha256.Size]byte]Person
	// OIDC, if set, signs people in at an identity provider.
	OIDC *OIDC
	// Secure says that browsers reach the console by https.
	Secure bool
	// Lasts is how long a sign-in does; 0 means 12 hours.
	Lasts time.Duration
}

// tokenPrefix begins the hash in a token file.
const tokenPrefix = "sha256:"

// NewToken makes a token for somebody, and the line for it in a token file.
func NewToken(p Person) (token, line string) {
	token = rand.Text()
	sum := sha256.Sum256([]byte(token))
	return token, string(p.Role) + " " + p.Name + " " + tokenPrefix + hex.EncodeToString(sum[:])
}

// LoadTokens reads a token file: on each line a role, a name and the token's
// hash, as [NewToken] makes them. Empty lines and those that begin with # say
// nothing.
func LoadTokens(path string) (map[[sha256.Size]byte]Person, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("tokens: %w", err)
	}
	out := map[[sha256.Size]byte]Person{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Fields(line)
		if len(f) != 3 || Role(f[0]) != Viewer && Role(f[0]) != Operator {
			return nil, fmt.Errorf("%s:%d: a line is viewer or operator, a name without spaces, and sha256: with the token's hash", path, n)
		}
		hash, isHash := strings.CutPrefix(f[2], tokenPrefix)
		raw, err := hex.DecodeString(hash)
		if !isHash || err != nil || len(raw) != sha256.Size {
			return nil, fmt.Errorf("%s:%d: the third word is no sha256: with 64 hexadecimal digits", path, n)
		}
		out[[sha256.Size]byte(raw)] = Person{f[1], Role(f[0])}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: it holds no token", path)
	}
	return out, lines.Err()
}

// session is a sign-in.
type session struct {
	Person
	until time.Time
}

// sessions are kept in memory: a restart signs everybody out.
type sessions struct {
	mu sync.Mutex
	by map[string]session
}

// mostSessions bounds them; the one that ends first makes room.
const mostSessions = 1000

func (s *sessions) begin(p Person, now time.Time, lasts time.Duration) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	oldest := ""
	for id, x := range s.by {
		if x.until.Before(now) {
			delete(s.by, id)
		} else if oldest == "" || x.until.Before(s.by[oldest].until) {
			oldest = id
		}
	}
	if len(s.by) >= mostSessions {
		delete(s.by, oldest)
	}
	id := rand.Text()
	s.by[id] = session{p, now.Add(lasts)}
	return id
}

func (s *sessions) of(id string, now time.Time) (Person, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x, ok := s.by[id]
	return x.Person, ok && now.Before(x.until)
}

func (s *sessions) end(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.by, id)
}

type personKey struct{}

// who returns the person that a request is by.
func who(ctx context.Context) Person {
	p, _ := ctx.Value(personKey{}).(Person)
	return p
}

// cookie of a sign-in.
const cookie = "causeway_session"

func (c *Console) setCookie(w http.ResponseWriter, name, value string, lasts time.Duration) {
	x := &http.Cookie{Name: name, Value: value, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: int(lasts.Seconds()), Secure: c.o.Access != nil && c.o.Access.Secure}
	if value == "" {
		x.MaxAge = -1
	}
	http.SetCookie(w, x)
}

// open are the paths that need no sign-in.
func openPath(path string) bool {
	return path == "/login" || strings.HasPrefix(path, "/asset/") || strings.HasPrefix(path, "/oidc/")
}

// signedIn lets in who has signed in. Where nobody has to, because only this
// machine reaches the console, it sees to it that it is this machine's name that
// was asked for: a page of elsewhere whose name was made to point here is not.
func (c *Console) signedIn(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := Person{"local", Operator}
		if c.o.Access == nil {
			if !localName(r.Host) {
				http.Error(w, "The console is served to this machine only, as localhost.", http.StatusForbidden)
				return
			}
		} else {
			known := false
			p = Person{}
			if id, err := r.Cookie(cookie); err == nil {
				if who, ok := c.sessions.of(id.Value, c.clock.Now()); ok {
					p, known = who, true
				}
			}
			if !known && !openPath(r.URL.Path) {
				if r.Method == http.MethodGet && r.URL.Path != "/events" {
					http.Redirect(w, r, "/login?to="+url.QueryEscape(r.URL.RequestURI()), http.StatusSeeOther)
				} else {
					http.Error(w, "Sign in first.", http.StatusUnauthorized)
				}
				return
			}
		}
		h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), personKey{}, p)))
	})
}

func localName(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	ip := net.ParseIP(strings.Trim(name, "[]"))
	return name == "localhost" || ip != nil && ip.IsLoopback()
}

type loginPage struct {
	To     string
	Tokens bool
	OIDC   bool
	Wrong  string
}

// here is to, if it is a path of this console; else the overview.
func here(to string) string {
	u, err := url.Parse(to)
	if err != nil || u.Host != "" || u.Scheme != "" || !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.Contains(to, `\`) {
		return "/"
	}
	return to
}

func (c *Console) login(w http.ResponseWriter, r *http.Request) error {
	if c.o.Access == nil {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return nil
	}
	return c.write(w, r, http.StatusOK, "login", "Sign in", nil, c.loginPage(r, ""))
}

func (c *Console) loginPage(r *http.Request, wrong string) loginPage {
	return loginPage{To: here(r.FormValue("to")), Tokens: len(c.o.Access.Tokens) > 0, OIDC: c.o.Access.OIDC != nil, Wrong: wrong}
}

// enter takes a token.
func (c *Console) enter(w http.ResponseWriter, r *http.Request) error {
	if c.o.Access == nil {
		return notFound("nobody signs in here")
	}
	// What is looked up is a hash, so the time it takes tells nothing.
	p, ok := c.o.Access.Tokens[sha256.Sum256([]byte(strings.TrimSpace(r.PostFormValue("token"))))]
	if !ok {
		c.logger.Warn().Msg("sign-in refused: no such token")
		return c.write(w, r, http.StatusUnauthorized, "login", "Sign in", nil, c.loginPage(r, "That is no token of this console."))
	}
	return c.welcome(w, r, p, r.PostFormValue("to"))
}

// welcome begins a session.
func (c *Console) welcome(w http.ResponseWriter, r *http.Request, p Person, to string) error {
	if err := c.audit(r.Context(), p, "sign-in", "", "", "signed in", nil); err != nil {
		return err
	}
	c.setCookie(w, cookie, c.sessions.begin(p, c.clock.Now(), c.o.Access.Lasts), c.o.Access.Lasts)
	http.Redirect(w, r, here(to), http.StatusSeeOther)
	return nil
}

func (c *Console) leave(w http.ResponseWriter, r *http.Request) error {
	if id, err := r.Cookie(cookie); err == nil {
		c.sessions.end(id.Value)
	}
	c.setCookie(w, cookie, "", 0)
	http.Redirect(w, r, "/login", http.StatusSeeOther)
	return nil
}

// ErrOpen is returned for a console that anybody could reach and nobody has to
// sign in to.
var ErrOpen = errors.New("other machines reach this address, so people have to sign in: give a token file or an identity provider, or listen on a loopback address")
