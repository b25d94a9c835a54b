package ghl

import (
	"reflect"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/schemas/observation"
)

// envelope are the keys of a webhook's body that are not its contact's (§5.1).
var envelope = map[string]bool{"type": true, "locationId": true, "versionId": true, "appId": true, "timestamp": true, "webhookId": true}

// Announces reports whether a notice is a ContactCreate. AppointmentCreate is
// none that says so: the samples of updates and deletes carry it too (§5.2).
func (r *Reader) Announces(notice observation.Observation) bool {
	body, typ := contactOf(notice.Record)
	return body != nil && typ == "ContactCreate"
}

// Adds reports whether a ContactCreate shows a value that sight doesn't. GHL
// sends the contact as it is when it sends (§5.2), so a change that came right
// after the create may be in it.
func (r *Reader) Adds(notice, sight observation.Observation) bool {
	body, _ := contactOf(notice.Record)
	var record map[string]any
	if body == nil || json.Unmarshal(sight.Record, &record) != nil {
		return true
	}
	for key, value := range body {
		if same := reflect.DeepEqual(value, record[key]) || empty(value) && empty(record[key]); !envelope[key] && !same {
			return true
		}
	}
	return false
}

// contactOf returns a webhook's body, which may be wrapped in "data" (§5.1), and
// its type.
func contactOf(raw json.RawMessage) (body map[string]any, typ string) {
	if json.Unmarshal(raw, &body) != nil {
		return nil, ""
	}
	typ, _ = body["type"].(string)
	if data, ok := body["data"].(map[string]any); ok {
		body = data
		if t, ok := body["type"].(string); ok {
			typ = t
		}
	}
	return body, typ
}

// empty reports whether a value says as much as a key that isn't there.
func empty(value any) bool {
	switch v := value.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case bool:
		return !v
	case []any:
		return len(v) == 0
	}
	return false
}
