package console

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/internal/process"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/envelope"
)

//go:embed page/*.html asset/*
var files embed.FS

// pages are the templates by name, each with the frame around it.
type pages map[string]*template.Template

func parsePages() (pages, error) {
	frame, err := template.New("").Funcs(functions).ParseFS(files, "page/frame.html", "page/part.html")
	if err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	list, err := fs.Glob(files, "page/*.html")
	if err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	out := pages{}
	for _, file := range list {
		t, err := template.Must(frame.Clone()).ParseFS(files, file)
		if err != nil {
			return nil, fmt.Errorf("console: %w", err)
		}
		out[strings.TrimSuffix(path.Base(file), ".html")] = t
	}
	return out, nil
}

// functions are what the pages may call.
var functions = template.FuncMap{
	"ago": ago,
	"int": func(n uint64) int { return int(n) },
	"people": func(t canonical.Tenant, list []person) map[string]any {
		return map[string]any{"Tenant": t, "People": list}
	},
	"why": func(t canonical.Tenant, id canonical.CanonicalID, field string, o origin) map[string]any {
		return map[string]any{"Tenant": t, "ID": id, "Field": field, "Origin": o}
	},
	"stamp":   func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") },
	"iso":     func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"count":   count,
	"digits":  digits,
	"system":  systemName,
	"field":   fieldName,
	"user":    userOf,
	"link":    contactPath,
	"dur":     span,
	"since":   time.Since,
	"query":   url.QueryEscape,
	"join":    strings.Join,
	"choices": func(list ...string) []string { return list },
	"newrow":  func() bindingRow { return bindingRow{Convert: mapping.Text, Authority: mapping.Newest} },
	"bound": func(r bindingRow, p mappingPage) map[string]any {
		name := "The new field"
		if r.Field != "" {
			name = fieldName(r.Field)
		}
		return map[string]any{"Row": r, "Page": p, "Name": name}
	},
	"doing": func(key string, open bool, to string) map[string]any {
		return map[string]any{"Key": key, "Open": open, "To": to}
	},
	"short":  func(id string) string { return id[:min(len(id), 12)] },
	"class":  classText,
	"reason": reasonText,
	"states": func() []state { return []state{inSync, behind, held, failing} },
}

// classText says whose a dead letter is to put right.
func classText(c envelope.Class) string {
	switch c {
	case envelope.Data:
		return "What a record says can't be taken as it is. Put it right at the system that shows it; then it is tried again by itself."
	case envelope.Credentials:
		return "A key or a token does not allow it. Give it the scope, or another one, and try again."
	case envelope.Mapping:
		return "The mapping does not fit. Change it, and try again."
	case envelope.Defect:
		return "Nobody thought of this: it is the pipeline's to put right. Report it with what is here."
	case envelope.Outage:
		return "A system or the broker was away for too long. Try again when it is back."
	}
	return "Nobody has said."
}

// reasonText says why a value lost.
func reasonText(reason string) string {
	switch reason {
	case canonical.ReasonNewer:
		return "the other is newer"
	case canonical.ReasonAuthority:
		return "the field is the other system's"
	case canonical.ReasonSkew:
		return "too close in time for the clocks to tell"
	case canonical.ReasonLongest:
		return "the other is longer"
	case canonical.ReasonUnion:
		return "joined; nothing is lost"
	case canonical.ReasonFlip:
		return "it changed to and fro, and is held"
	case canonical.ReasonMerged:
		return "its record was merged into another"
	}
	return reason
}

// count is n of what, as people write it.
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return digits(n) + " " + what + "s"
}

// digits is n with a thin space at the thousands.
func digits(n any) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}

// ago is how long ago t was, in one unit.
func ago(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	d := max(0, time.Since(t))
	switch {
	case d < 5*time.Second:
		return "now"
	case d < time.Minute:
		return fmt.Sprintf("%d s ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	}
	return fmt.Sprintf("%d d ago", int(d.Hours()/24))
}

// span is a duration as people write it: "10 s", "1 min", "1 h 5 min".
func span(d time.Duration) string {
	d = d.Round(time.Second)
	var out []string
	for _, u := range []struct {
		of   time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "min"}, {time.Second, "s"}} {
		if n := d / u.of; n > 0 && len(out) < 2 {
			out = append(out, fmt.Sprintf("%d %s", n, u.name))
			d -= n * u.of
		}
	}
	if out == nil {
		return "0 s"
	}
	return strings.Join(out, " ")
}

func systemName(s canonical.System) string {
	switch s {
	case canonical.GHL:
		return "GHL"
	case canonical.Novi:
		return "Novi"
	}
	return string(s)
}

// fieldName is a field as people say it: "address.postal_code" is "Address,
// postal code".
func fieldName(f string) string {
	f = strings.ReplaceAll(strings.ReplaceAll(strings.TrimPrefix(f, canonical.CustomPrefix), "_", " "), ".", ", ")
	if f == "" {
		return ""
	}
	return strings.ToUpper(f[:1]) + f[1:]
}

// problem is an error with the status that it is answered with, and a text for
// whoever asked.
type problem struct {
	status int
	text   string
}

func (p problem) Error() string { return p.text }

func notFound(format string, args ...any) error {
	return problem{http.StatusNotFound, fmt.Sprintf(format, args...)}
}

// framed is what the frame shows around a page.
type framed struct {
	Title   string
	Page    string
	Topics  string // of events that ask for the page again
	Version string
	Dead    int
	Holds   int
	Person  Person
	SignIn  bool   // people sign in here
	Said    string // what came of the last action
	P       any
}

// show answers with a page.
func (c *Console) show(w http.ResponseWriter, r *http.Request, page, title string, topics []string, p any) error {
	return c.write(w, r, http.StatusOK, page, title, topics, p)
}

func (c *Console) write(w http.ResponseWriter, r *http.Request, status int, page, title string, topics []string, p any) error {
	f := framed{Title: title, Page: page, P: p, Version: process.Version()}
	f.Person, f.SignIn, f.Said = who(r.Context()), c.o.Access != nil, c.said(w, r)
	values := url.Values{}
	for _, t := range append(topics, "dead", "holds") {
		values.Add("topic", t)
	}
	if f.Person.Name != "" {
		f.Topics = values.Encode()
	}
	c.world.mu.RLock()
	f.Dead = len(c.world.letters)
	_, _, holds, _ := c.troubles(c.clock.Now())
	f.Holds = len(holds)
	c.world.mu.RUnlock()
	var b bytes.Buffer
	if err := c.pages[page].ExecuteTemplate(&b, "frame", f); err != nil {
		return fmt.Errorf("page %s: %w", page, err)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // who has gone away needs no page
	return nil
}

// Handler answers every request of the console.
func (c *Console) Handler() http.Handler {
	mux := http.NewServeMux()
	get := func(pattern string, h func(http.ResponseWriter, *http.Request) error) {
		mux.HandleFunc("GET "+pattern, func(w http.ResponseWriter, r *http.Request) { c.answer(w, r, h) })
	}
	get("/{$}", c.overview)
	get("/t/{tenant}", c.tenant)
	get("/t/{tenant}/contacts", c.contacts)
	get("/t/{tenant}/contacts/{id}", c.contact)
	post := func(pattern string, name string, do func(context.Context, *http.Request, *envelope.Audit) (string, error)) {
		mux.HandleFunc("POST "+pattern, c.act(action{name, do}))
	}
	get("/dead", c.deadLetters)
	get("/dead/{subject}", c.deadLetter)
	post("/dead/redrive", "redrive", c.redrive)
	post("/dead/redrive-all", "redrive-all", c.redriveAll)
	post("/dead/drop", "drop", c.drop)
	post("/dead/undrop", "undrop", c.undrop)
	get("/holds", c.holds)
	get("/holds/{tenant}", c.hold)
	post("/holds/{tenant}/release", "release", c.release)
	get("/conflicts", c.conflicts)
	get("/reads", c.reads)
	post("/t/{tenant}/reconcile", "reconcile", c.reconcile)
	get("/audit", c.audits)
	get("/t/{tenant}/mapping", c.mapping)
	mux.HandleFunc("POST /t/{tenant}/mapping/try", func(w http.ResponseWriter, r *http.Request) { c.answer(w, r, c.try) })
	post("/t/{tenant}/mapping", "save-mapping", c.save)
	get("/t/{tenant}/rules", c.rules)
	get("/t/{tenant}/rules/edit", c.edit)
	mux.HandleFunc("POST /t/{tenant}/rules/try", func(w http.ResponseWriter, r *http.Request) { c.answer(w, r, c.rehearsed) })
	post("/t/{tenant}/rules", "save-rule", c.saveRule)
	get("/login", c.login)
	for pattern, h := range map[string]func(http.ResponseWriter, *http.Request) error{"POST /login": c.enter, "POST /logout": c.leave} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { c.answer(w, r, h) })
	}
	get("/oidc/start", c.oidcStart)
	get("/oidc/callback", c.oidcBack)
	get("/", func(http.ResponseWriter, *http.Request) error { return notFound("there is no such page") })
	mux.HandleFunc("GET /events", c.events)
	assets, _ := fs.Sub(files, "asset") // it is embedded
	static := http.StripPrefix("/asset/", http.FileServerFS(assets))
	mux.HandleFunc("GET /asset/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-cache")
		static.ServeHTTP(w, r)
	})
	return secured(c.signedIn(mux))
}

// answer turns an error into a page.
func (c *Console) answer(w http.ResponseWriter, r *http.Request, h func(http.ResponseWriter, *http.Request) error) {
	err := h(w, r)
	if err == nil || r.Context().Err() != nil {
		return
	}
	var p problem
	if !errors.As(err, &p) {
		c.logger.Error().Err(err).Str("path", r.URL.Path).Msg("request failed")
		p = problem{http.StatusBadGateway, "The broker could not be asked. The console goes on trying; the log says why."}
	}
	if err := c.write(w, r, p.status, "problem", http.StatusText(p.status), nil, p.text); err != nil {
		http.Error(w, p.text, p.status)
	}
}

// policy lets a page load what the console itself serves, and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// secured sets the headers of every answer, and refuses what comes from another
// site.
func secured(h http.Handler) http.Handler {
	return http.NewCrossOriginProtection().Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, value := range map[string]string{
			"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": "same-origin",
			"Permissions-Policy": "camera=(), microphone=(), geolocation=()", "X-Frame-Options": "DENY",
		} {
			w.Header().Set(name, value)
		}
		h.ServeHTTP(w, r)
	}))
}

// pager is where one is in a list.
type pager struct {
	Page, Pages int // from 1
	From, To    int // of All, from 1
	All         int
	Prev, Next  string // addresses, or ""
}

func pageOf(r *http.Request) int {
	n, err := strconv.Atoi(cmp.Or(r.FormValue("page"), "1"))
	if err != nil || n < 1 {
		return 0
	}
	return min(n, 1_000_000) - 1
}

// paged returns where the request's page is, and the range of its rows.
func paged(r *http.Request, all int) (p pager, from, to int) {
	at := pageOf(r)
	p = pager{Page: at + 1, Pages: max(1, (all+rows-1)/rows), All: all}
	from = min(at*rows, all)
	to = min(from+rows, all)
	p.From, p.To = min(from+1, all), to
	link := func(n int) string {
		q := r.URL.Query()
		q.Set("page", strconv.Itoa(n))
		return "?" + q.Encode()
	}
	if at > 0 {
		p.Prev = link(at)
	}
	if to < all {
		p.Next = link(at + 2)
	}
	return p, from, to
}
