package ghlsim

import (
	"cmp"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/goccy/go-json"
)

// admin registers the simulator's own API. It has no authentication and
// nothing of it exists in the real system.
func (s *Server) admin(mux *http.ServeMux) {
	mux.HandleFunc("POST /_sim/edit", func(w http.ResponseWriter, r *http.Request) {
		var e Edit
		if !readAdmin(w, r, &e) {
			return
		}
		id, err := s.Edit(e)
		edited(w, id, err)
	})
	mux.HandleFunc("POST /_sim/item", func(w http.ResponseWriter, r *http.Request) {
		var e ItemEdit
		if !readAdmin(w, r, &e) {
			return
		}
		id, err := s.EditItem(e)
		edited(w, id, err)
	})
	mux.HandleFunc("POST /_sim/merge", func(w http.ResponseWriter, r *http.Request) {
		var m struct {
			LocationID string `json:"locationId"`
			Winner     string `json:"winner"`
			Loser      string `json:"loser"`
		}
		if !readAdmin(w, r, &m) {
			return
		}
		edited(w, m.Winner, s.Merge(m.LocationID, m.Winner, m.Loser))
	})
	mux.HandleFunc("GET /_sim/items", func(w http.ResponseWriter, r *http.Request) {
		id := cmp.Or(r.URL.Query().Get("locationId"), s.conf.Locations[0].ID)
		writeJSON(w, http.StatusOK, map[string]any{"items": s.Items(id, r.URL.Query().Get("kind"))})
	})
	mux.HandleFunc("GET /_sim/dump", func(w http.ResponseWriter, r *http.Request) {
		id := r.URL.Query().Get("locationId")
		if id == "" {
			id = s.conf.Locations[0].ID
		}
		contacts := s.Dump(id)
		if contacts == nil {
			writeJSON(w, http.StatusNotFound, map[string]any{"error": "no such location"})
			return
		}
		writeJSON(w, http.StatusOK, map[string]any{"contacts": contacts})
	})
	mux.HandleFunc("GET /_sim/ledger", func(w http.ResponseWriter, r *http.Request) {
		var after int64
		if v := r.URL.Query().Get("after"); v != "" {
			var err error
			if after, err = strconv.ParseInt(v, 10, 64); err != nil {
				writeJSON(w, http.StatusBadRequest, map[string]any{"error": "after is not a number"})
				return
			}
		}
		writeJSON(w, http.StatusOK, map[string]any{"entries": s.LedgerAfter(after)})
	})
	mux.HandleFunc("GET /_sim/stats", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, s.Stats())
	})
	mux.HandleFunc("GET /_sim/faults", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		f := s.faults
		s.mu.Unlock()
		writeJSON(w, http.StatusOK, showFaults(f))
	})
	mux.HandleFunc("POST /_sim/faults", func(w http.ResponseWriter, r *http.Request) {
		var f faultsJSON
		if !readAdmin(w, r, &f) {
			return
		}
		s.SetFaults(f.faults())
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /_sim/webhook", func(w http.ResponseWriter, r *http.Request) {
		var v struct {
			URL string `json:"url"`
		}
		if !readAdmin(w, r, &v) {
			return
		}
		s.SetWebhookURL(v.URL)
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /_sim/uninstall", func(w http.ResponseWriter, r *http.Request) {
		var v struct {
			LocationID string `json:"locationId"`
		}
		if !readAdmin(w, r, &v) {
			return
		}
		if s.conf.App == nil {
			writeJSON(w, http.StatusNotFound, map[string]any{"error": "there is no app"})
			return
		}
		s.Uninstall(v.LocationID)
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /_sim/expire", func(w http.ResponseWriter, _ *http.Request) {
		s.ExpireTokens()
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /_sim/reset", func(w http.ResponseWriter, _ *http.Request) {
		s.Reset()
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("/_sim/", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusNotFound, map[string]any{"error": "no such admin call"})
	})
}

// edited answers what a human did.
func edited(w http.ResponseWriter, id string, err error) {
	if err == nil {
		writeJSON(w, http.StatusOK, map[string]any{"id": id})
		return
	}
	status := http.StatusUnprocessableEntity
	switch {
	case errors.Is(err, ErrNotFound):
		status = http.StatusNotFound
	case errors.Is(err, ErrDuplicate):
		status = http.StatusConflict
	}
	writeJSON(w, status, map[string]any{"error": err.Error(), "id": id})
}

// readAdmin reads a JSON body into v, or answers 400 and returns false.
func readAdmin(w http.ResponseWriter, r *http.Request, v any) bool {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil {
		err = json.Unmarshal(raw, v)
	}
	if err != nil {
		writeJSON(w, http.StatusBadRequest, map[string]any{"error": "body is not the expected JSON"})
		return false
	}
	return true
}

// faultsJSON is Faults on the wire: probabilities, and milliseconds.
type faultsJSON struct {
	WebhookDrop       float64 `json:"webhookDrop"`
	WebhookDuplicate  float64 `json:"webhookDuplicate"`
	WebhookDelay      float64 `json:"webhookDelay"`
	WebhookDelayMaxMS int64   `json:"webhookDelayMaxMs"`
	API429            float64 `json:"api429"`
	API5xx            float64 `json:"api5xx"`
	LatencyMS         int64   `json:"latencyMs"`
	ResetAfterCommit  float64 `json:"resetAfterCommit"`
	CreatedBut422     float64 `json:"createdBut422"`
}

func showFaults(f Faults) faultsJSON {
	return faultsJSON{
		f.WebhookDrop, f.WebhookDuplicate, f.WebhookDelay, f.WebhookDelayMax.Milliseconds(),
		f.API429, f.API5xx, f.Latency.Milliseconds(), f.ResetAfterCommit, f.CreatedBut422,
	}
}

func (f faultsJSON) faults() Faults {
	return Faults{
		WebhookDrop: f.WebhookDrop, WebhookDuplicate: f.WebhookDuplicate, WebhookDelay: f.WebhookDelay,
		WebhookDelayMax: time.Duration(f.WebhookDelayMaxMS) * time.Millisecond,
		API429:          f.API429, API5xx: f.API5xx, Latency: time.Duration(f.LatencyMS) * time.Millisecond,
		ResetAfterCommit: f.ResetAfterCommit, CreatedBut422: f.CreatedBut422,
	}
}
