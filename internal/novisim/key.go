package novisim

import (
	"bytes"
	"maps"
	"net/http"
	"slices"

	"github.com/goccy/go-json"
)

// SetKeys replaces the keys that are accepted.
func (s *Server) SetKeys(keys ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = slices.Clone(keys)
}

// Hide makes a key one that is limited to fields: it shows members without
// those top-level keys from now on. Without fields it shows them whole.
func (s *Server) Hide(key string, fields ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hidden = maps.Clone(s.hidden)
	if s.hidden == nil {
		s.hidden = map[string][]string{}
	}
	s.hidden[key] = slices.Clone(fields)
}

// limitedWriter leaves hidden keys out of the members of an answer.
type limitedWriter struct {
	http.ResponseWriter
	hidden []string
	status int
	body   bytes.Buffer
}

func (l *limitedWriter) WriteHeader(status int)      { l.status = status }
func (l *limitedWriter) Write(p []byte) (int, error) { return l.body.Write(p) }

func (l *limitedWriter) flush() {
	raw := l.body.Bytes()
	if l.status == 0 && len(raw) == 0 {
		return // the connection is closed without an answer
	}
	var answer map[string]any
	if json.Unmarshal(raw, &answer) == nil {
		members, _ := answer["Results"].([]any)
		for _, m := range append(members, answer) {
			if member, ok := m.(map[string]any); ok {
				maps.DeleteFunc(member, func(key string, _ any) bool { return slices.Contains(l.hidden, key) })
			}
		}
		raw, _ = json.Marshal(answer) // it was JSON
	}
	if l.status != 0 {
		l.ResponseWriter.WriteHeader(l.status)
	}
	_, _ = l.ResponseWriter.Write(raw) // the client has gone
}
