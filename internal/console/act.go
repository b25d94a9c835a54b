package console

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/dead"
	"github.com/causeway-sync/causeway/internal/hold"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/streams"
)

// action is something that a person may have done.
type action struct {
	name string
	// do does it and says what came of it, for people.
	do func(ctx context.Context, r *http.Request, a *envelope.Audit) (string, error)
}

// mostForm bounds what a form may hold.
const mostForm = 1 << 20

// act has an operator's action done. That it was asked for is stored before, so
// that nothing is done that nobody can find out about; and then what came of it.
func (c *Console) act(do action) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c.answer(w, r, func(w http.ResponseWriter, r *http.Request) error {
			p := who(r.Context())
			r.Body = http.MaxBytesReader(w, r.Body, mostForm)
			if err := r.ParseForm(); err != nil {
				return problem{http.StatusBadRequest, "the form can't be read"}
			}
			a := envelope.Audit{Tenant: canonical.Tenant(r.PathValue("tenant")), About: r.PostFormValue("about")}
			if !p.Operates() {
				err := errors.New("only an operator may")
				if auditErr := c.audit(r.Context(), p, do.name, a.Tenant, a.About, "", err); auditErr != nil {
					return auditErr
				}
				return problem{http.StatusForbidden, "You are a viewer. Only an operator may do that."}
			}
			if err := c.audit(r.Context(), p, do.name, a.Tenant, a.About, "", nil); err != nil {
				return err
			}
			result, err := do.do(r.Context(), r, &a)
			if auditErr := c.audit(r.Context(), p, do.name, a.Tenant, a.About, result, err); auditErr != nil {
				return auditErr
			}
			if err != nil {
				var known problem
				if errors.As(err, &known) {
					return err
				}
				c.logger.Warn().Err(err).Str("action", do.name).Msg("was not done")
				return problem{http.StatusConflict, err.Error()}
			}
			c.say(w, result)
			http.Redirect(w, r, here(r.PostFormValue("to")), http.StatusSeeOther)
			return nil
		})
	}
}

// audit stores what somebody had done. With neither result nor err it was asked
// for.
func (c *Console) audit(ctx context.Context, p Person, name string, tenant canonical.Tenant, about, result string, err error) error {
	a := envelope.Audit{At: c.clock.Now().UTC(), Who: p.Name, Role: string(p.Role), Action: name, Tenant: tenant, About: about, Result: result}
	if err != nil {
		a.Error = err.Error()
	}
	data, err := json.Marshal(a)
	if err == nil {
		_, err = c.bus.Publish(ctx, bus.Message{Subject: streams.Audit(tenant, name), Data: data})
	}
	if err != nil {
		return fmt.Errorf("audit of %s: %w", name, err)
	}
	c.hub.changed("audit")
	return nil
}

// saidCookie carries what came of an action to the page that is shown next.
const saidCookie = "causeway_said"

func (c *Console) say(w http.ResponseWriter, text string) {
	c.setCookie(w, saidCookie, base64.RawURLEncoding.EncodeToString([]byte(text)), time.Minute)
}

// said takes it.
func (c *Console) said(w http.ResponseWriter, r *http.Request) string {
	x, err := r.Cookie(saidCookie)
	if err != nil || r.Header.Get("Sec-Fetch-Dest") == "empty" { // the script asks again; people haven't read it yet
		return ""
	}
	c.setCookie(w, saidCookie, "", 0)
	text, _ := base64.RawURLEncoding.DecodeString(x.Value) // what can't be read says nothing
	return string(text)
}

// letter returns the dead letter that the form is about.
func (c *Console) letter(ctx context.Context, r *http.Request, a *envelope.Audit) (dead.Letter, error) {
	l, err := c.letterAt(ctx, r.PostFormValue("about"))
	a.Tenant = l.Tenant
	return l, err
}

func (c *Console) letterAt(ctx context.Context, subject string) (dead.Letter, error) {
	if p, err := streams.Parse(subject); err != nil || p.Stream != "dead" {
		return dead.Letter{}, problem{http.StatusBadRequest, "that is no dead letter"}
	}
	l, err := dead.Get(ctx, c.bus, subject)
	if errors.Is(err, bus.ErrNotFound) {
		return dead.Letter{}, notFound("there is no dead letter %s any more: its work has succeeded, or it was too old", subject)
	}
	return l, err
}

func (c *Console) redrive(ctx context.Context, r *http.Request, a *envelope.Audit) (string, error) {
	l, err := c.letter(ctx, r, a)
	if err != nil {
		return "", err
	}
	result, err := dead.Redrive(ctx, c.bus, l, c.clock.Now())
	if err != nil {
		return "", err
	}
	return "Tried again: " + result + ". The letter goes when that has succeeded.", nil
}

// redriveAll tries all again that a list shows.
func (c *Console) redriveAll(ctx context.Context, r *http.Request, a *envelope.Audit) (string, error) {
	f := letterFilter(r)
	f.Dropped = false
	a.Tenant, a.About = f.Tenant, "stage "+f.Stage+" class "+string(f.Class)
	list, err := dead.Find(ctx, c.bus, f)
	if err != nil {
		return "", err
	}
	n, final := 0, 0
	for _, l := range list {
		switch _, err := dead.Redrive(ctx, c.bus, l, c.clock.Now()); {
		case errors.Is(err, dead.ErrFinal):
			final++
		case err != nil:
			return "", fmt.Errorf("after %d of %d letters: %w", n, len(list), err)
		default:
			n++
		}
	}
	result := count(n, "letter") + " tried again."
	if final > 0 {
		result += " " + count(final, "letter") + " can't be tried again."
	}
	return result, nil
}

func (c *Console) drop(ctx context.Context, r *http.Request, a *envelope.Audit) (string, error) {
	l, err := c.letter(ctx, r, a)
	if err == nil {
		err = dead.Drop(ctx, c.bus, l, c.clock.Now())
	}
	if err != nil {
		return "", err
	}
	return "Dropped: nothing is to be done. It is kept among the dropped ones.", nil
}

func (c *Console) undrop(ctx context.Context, r *http.Request, a *envelope.Audit) (string, error) {
	l, err := c.letter(ctx, r, a)
	if err == nil {
		err = dead.Undrop(ctx, c.bus, l)
	}
	if err != nil {
		return "", err
	}
	return "Not dropped any more: something is to be done.", nil
}

func (c *Console) release(ctx context.Context, r *http.Request, a *envelope.Audit) (string, error) {
	forget := r.PostFormValue("forget") != ""
	n, err := hold.Release(ctx, c.bus, a.Tenant, forget, c.clock.Now())
	if err != nil {
		return "", err
	}
	if forget {
		return count(n, "delete") + " forgotten: the records stay.", nil
	}
	return count(n, "delete") + " released: each entity is looked at again, and what is still deleted goes.", nil
}
