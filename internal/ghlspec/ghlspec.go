// Package ghlspec checks HTTP exchanges against GHL's official OpenAPI
// documents, which lie beside this repository where they are there at all. It
// is for tests only.
package ghlspec

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
)

// Checker notes where exchanges deviate from the documents. It may be used by
// any number of goroutines.
type Checker struct {
	docs []*openapi3.T

	mu    sync.Mutex
	seen  map[string]bool // "METHOD /path" that was checked
	found map[string]string
}

// Load reads the documents in dir. Errors: fs.ErrNotExist if it is not there.
func Load(dir string) (*Checker, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	c := &Checker{seen: map[string]bool{}, found: map[string]string{}}
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".json" || e.Name() == "common-schemas.json" {
			continue
		}
		loader := openapi3.NewLoader()
		// The documents refer to ../common/common-schemas.json, which lies
		// beside them here.
		loader.ReadFromURIFunc = func(_ *openapi3.Loader, u *url.URL) ([]byte, error) {
			return os.ReadFile(filepath.Join(dir, path.Base(u.Path)))
		}
		doc, err := loader.LoadFromURI(&url.URL{Path: filepath.ToSlash(filepath.Join(dir, e.Name()))})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.Name(), err)
		}
		c.docs = append(c.docs, doc)
	}
	return c, nil
}

// Deviations returns what deviated, with an example of each.
func (c *Checker) Deviations() map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.found)
}

// Seen returns the documented operations that were checked, sorted.
func (c *Checker) Seen() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.seen))
}

// Wrap checks what h is asked and what it answers. With onlyAnswers the
// requests are wrong on purpose, and not checked.
func (c *Checker) Wrap(h http.Handler, onlyAnswers bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, "read", http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		answer := httptest.NewRecorder()
		h.ServeHTTP(answer, r) // a connection that is closed on purpose panics on
		asked := r.Clone(context.WithoutCancel(r.Context()))
		asked.Body = io.NopCloser(bytes.NewReader(body))
		c.check(asked, answer, onlyAnswers)
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes()) // the client has gone
	})
}

// route finds the operation of a request; of two that fit, the one with fewer
// parameters.
func (c *Checker) route(r *http.Request) (*routers.Route, map[string]string) {
	var best *routers.Route
	var params map[string]string
	got := strings.Split(strings.Trim(r.URL.EscapedPath(), "/"), "/")
	for _, doc := range c.docs {
		for _, template := range doc.Paths.InMatchingOrder() {
			item := doc.Paths.Value(template)
			op := item.GetOperation(r.Method)
			want := strings.Split(strings.Trim(template, "/"), "/")
			if op == nil || len(want) != len(got) {
				continue
			}
			found, fits := map[string]string{}, true
			for i, w := range want {
				if strings.HasPrefix(w, "{") {
					found[strings.Trim(w, "{}")], _ = url.PathUnescape(got[i])
				} else if w != got[i] {
					fits = false
				}
			}
			if fits && (best == nil || len(found) < len(params)) {
				best = &routers.Route{Spec: doc, Path: template, PathItem: item, Method: r.Method, Operation: op}
				params = found
			}
		}
	}
	return best, params
}

func (c *Checker) check(r *http.Request, answer *httptest.ResponseRecorder, onlyAnswers bool) {
	route, params := c.route(r)
	if route == nil {
		first, _, _ := strings.Cut(strings.Trim(r.URL.Path, "/"), "/")
		c.note(r.Method+" /"+first+": not documented", r.Method+" "+r.URL.Path)
		return
	}
	name := r.Method + " " + route.Path
	c.mu.Lock()
	c.seen[name] = true
	c.mu.Unlock()
	options := &openapi3filter.Options{MultiError: true, IncludeResponseStatus: true, AuthenticationFunc: openapi3filter.NoopAuthenticationFunc,
		RejectWhenRequestBodyNotSpecified: true, SkipSettingDefaults: true}
	asked := &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route, Options: options}
	if !onlyAnswers {
		c.noteAll(name+" request", openapi3filter.ValidateRequest(r.Context(), asked))
	}
	given := &openapi3filter.ResponseValidationInput{RequestValidationInput: asked, Status: answer.Code, Header: answer.Header(), Options: options}
	given.SetBodyBytes(answer.Body.Bytes())
	c.noteAll(fmt.Sprintf("%s answer %d", name, answer.Code), openapi3filter.ValidateResponse(r.Context(), given))
}

func (c *Checker) note(key, example string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.found[key] = example
}

var index = regexp.MustCompile(`/\d+`)

// noteAll takes an error apart: one deviation for each place and rule.
func (c *Checker) noteAll(where string, err error) {
	switch e := err.(type) {
	case nil:
	case openapi3.MultiError:
		for _, one := range e {
			c.noteAll(where, one)
		}
	case *openapi3filter.RequestError:
		if e.Parameter != nil {
			where += " parameter " + e.Parameter.Name
		}
		if e.Err == nil {
			c.note(where+": "+e.Reason, e.Reason)
		}
		c.noteAll(where, e.Err)
	case *openapi3filter.ResponseError:
		if e.Err == nil {
			c.note(where+": "+e.Reason, e.Reason)
		}
		c.noteAll(where, e.Err)
	case *openapi3.SchemaError:
		at := index.ReplaceAllString("/"+strings.Join(e.JSONPointer(), "/"), "/*")
		c.note(where+" "+at+": "+e.SchemaField, e.Reason)
	default:
		c.note(where+": "+err.Error(), err.Error())
	}
}
