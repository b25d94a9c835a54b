// Package endpoint describes an operation of a system's API as data, so that
// the client that calls it, the catalogue that lists it and the tests that
// check both speak of the same one.
package endpoint

import (
	"net/http"
	"net/url"
	"strings"
)

// Effect says what doing an operation twice leads to.
type Effect string

// The effects.
const (
	// Read changes nothing.
	Read Effect = "read"
	// Idempotent leaves, done twice, what doing it once leaves.
	Idempotent Effect = "idempotent"
	// Repeats is done twice if it is sent twice: after an ambiguous answer look
	// before trying again.
	Repeats Effect = "repeats"
)

// Endpoint is one operation.
type Endpoint struct {
	Func   string // the client's method that calls it: "GetContact"
	Op     string // in words, as errors say it: "get contact"
	Method string // of HTTP
	Path   string // {name} stands for an id
	// Key is the name of the path in a tenant's novi.paths; empty if the path
	// is documented and no configuration.
	Key    string
	Scope  string // what the token or key has to allow; empty if nothing is known
	Effect Effect
	Paged  bool   // the answer is one page of several
	Source string // section of the system's dossier
}

// Write says that the operation changes something.
func (e Endpoint) Write() bool { return e.Effect != Read }

// At returns the path with its {name}s replaced by ids, in order and escaped.
func (e Endpoint) At(ids ...string) string { return Fill(e.Path, ids...) }

// Fill replaces the {name}s of a path by ids, in order and escaped. More ids
// than names are not used; a name without an id stays.
func Fill(path string, ids ...string) string {
	for _, id := range ids {
		from := strings.IndexByte(path, '{')
		to := strings.IndexByte(path, '}')
		if from < 0 || to < from {
			return path
		}
		// The id is escaped, so it holds no brace that the next one would find.
		path = path[:from] + url.PathEscape(id) + path[to+1:]
	}
	return path
}

// Fits reports whether a request with this method and path is one of the
// operation.
func (e Endpoint) Fits(method, path string) bool {
	if method != e.Method {
		return false
	}
	want, got := segments(e.Path), segments(path)
	if len(want) != len(got) {
		return false
	}
	for i, w := range want {
		if w != got[i] && !strings.HasPrefix(w, "{") {
			return false
		}
	}
	return true
}

func segments(path string) []string { return strings.Split(strings.Trim(path, "/"), "/") }

// Get and its siblings make an Endpoint of a table's row.
func Get(f, op, path, scope, source string) Endpoint {
	return Endpoint{Func: f, Op: op, Method: http.MethodGet, Path: path, Scope: scope, Effect: Read, Source: source}
}

// List is a Get of one page of several.
func List(f, op, path, scope, source string) Endpoint {
	e := Get(f, op, path, scope, source)
	e.Paged = true
	return e
}

// Search is a List that is asked for by POST.
func Search(f, op, path, scope, source string) Endpoint {
	e := List(f, op, path, scope, source)
	e.Method = http.MethodPost
	return e
}

// Post makes something, again each time.
func Post(f, op, path, scope, source string) Endpoint {
	return Endpoint{Func: f, Op: op, Method: http.MethodPost, Path: path, Scope: scope, Effect: Repeats, Source: source}
}

// Put sets something to a state.
func Put(f, op, path, scope, source string) Endpoint {
	return Endpoint{Func: f, Op: op, Method: http.MethodPut, Path: path, Scope: scope, Effect: Idempotent, Source: source}
}

// Delete takes something away.
func Delete(f, op, path, scope, source string) Endpoint {
	return Endpoint{Func: f, Op: op, Method: http.MethodDelete, Path: path, Scope: scope, Effect: Idempotent, Source: source}
}

// Add is a POST that puts an element into a set.
func Add(f, op, path, scope, source string) Endpoint {
	e := Put(f, op, path, scope, source)
	e.Method = http.MethodPost
	return e
}
