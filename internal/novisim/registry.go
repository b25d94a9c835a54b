package novisim

import (
	"net/http"
	"net/url"
	"slices"

	"github.com/goccy/go-json"
)

// webhook is an entry of the registry at /api/webhooks (dossier Novi §5.6).
// The registry only keeps it: events go where Config.Webhook says.
type webhook struct {
	ID      string   `json:"WebhookUniqueId"`
	URL     string   `json:"Url"`
	Actions []string `json:"Actions"`
	Active  bool     `json:"Active"`
}

var actions = []string{"customer.created", "customer.updated", "customer.removed"}

// registered returns the index of the webhook that r is about, or answers 404
// and returns -1. The caller holds mu.
func (s *Server) registered(w http.ResponseWriter, r *http.Request) int {
	i := slices.IndexFunc(s.webhooks, func(h webhook) bool { return h.ID == r.PathValue("id") })
	if i < 0 {
		message(w, http.StatusNotFound, "Not found.")
	}
	return i
}

// readWebhook reads what is to be stored over h, or answers 400.
func readWebhook(w http.ResponseWriter, raw []byte, h webhook) (webhook, bool) {
	id := h.ID
	if json.Unmarshal(raw, &h) != nil {
		message(w, http.StatusBadRequest, "The request is invalid.")
		return h, false
	}
	h.ID = id
	if u, err := url.Parse(h.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		invalid(w, "Url", "The Url field is not a valid address.")
		return h, false
	}
	if len(h.Actions) == 0 || slices.ContainsFunc(h.Actions, func(a string) bool { return !slices.Contains(actions, a) }) {
		invalid(w, "Actions", "The Actions field is not a list of events.")
		return h, false
	}
	return h, true
}

func (s *Server) listWebhooks(w http.ResponseWriter, _ *http.Request, _ []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	reply(w, http.StatusOK, append([]webhook{}, s.webhooks...))
}

func (s *Server) getWebhook(w http.ResponseWriter, r *http.Request, _ []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := s.registered(w, r); i >= 0 {
		reply(w, http.StatusOK, s.webhooks[i])
	}
}

func (s *Server) createWebhook(w http.ResponseWriter, _ *http.Request, raw []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h, ok := readWebhook(w, raw, webhook{ID: s.guid(), Active: true}); ok {
		s.webhooks = append(s.webhooks, h)
		reply(w, http.StatusCreated, h)
	}
}

func (s *Server) putWebhook(w http.ResponseWriter, r *http.Request, raw []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.registered(w, r)
	if i < 0 {
		return
	}
	if h, ok := readWebhook(w, raw, webhook{ID: s.webhooks[i].ID}); ok {
		s.webhooks[i] = h
		reply(w, http.StatusOK, h)
	}
}

func (s *Server) removeWebhook(w http.ResponseWriter, r *http.Request, _ []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := s.registered(w, r); i >= 0 {
		s.webhooks = slices.Delete(s.webhooks, i, i+1)
		w.WriteHeader(http.StatusNoContent)
	}
}
