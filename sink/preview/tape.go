package preview

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/sink/plan"
)

// The hosts that nothing is sent to.
const (
	ghlHost  = "ghl.invalid"
	noviHost = "novi.invalid"
)

// tape is what is noted of the calls about one entity at one system.
type tape struct {
	about      Operation
	plan       plan.Plan
	values     bool
	operations []Operation
}

// tapeKey is where a call's context has its tape.
type tapeKey struct{}

// transport notes calls and makes up the answers: every record is there and
// shows nothing, every write is taken.
type transport struct{ lens *mapping.Lens }

// RoundTrip implements [http.RoundTripper].
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		_ = r.Body.Close() // it is in memory
	}
	tape, ok := r.Context().Value(tapeKey{}).(*tape)
	if !ok {
		return nil, fmt.Errorf("a call that belongs to no entity")
	}
	answer, status := any(nil), http.StatusOK
	if r.URL.Host == ghlHost {
		answer = t.ghl(r, body)
	} else {
		answer = t.novi(r, tape.about)
	}
	tape.note(t.lens, r, body)
	encoded, err := json.Marshal(answer)
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{},
		Body: io.NopCloser(bytes.NewReader(encoded)), ContentLength: int64(len(encoded)), Request: r}, nil
}

// made is the id of a record that is made.
const made = "00000000-0000-4000-8000-000000000000"

// ghl answers as GHL would. A custom field's id is its key.
func (t transport) ghl(r *http.Request, body []byte) any {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if parts[0] == "locations" {
		var fields []map[string]string
		for _, key := range t.customKeys() {
			fields = append(fields, map[string]string{"id": key, "fieldKey": key})
		}
		return map[string]any{"customFields": fields}
	}
	kind, id := "contact", made
	switch len(parts) {
	case 2:
		id = parts[1]
	case 3, 4, 5:
		if parts[2] == "tags" {
			return json.RawMessage(body) // {"tags": [...]}
		}
		if kind = strings.TrimSuffix(parts[2], "s"); len(parts) > 3 {
			id = parts[3]
		}
	}
	return map[string]any{kind: map[string]any{"id": id, "title": "title", "dueDate": "2000-01-01T00:00:00Z"}}
}

func (t transport) customKeys() []string {
	var keys []string
	for _, b := range t.lens.Bindings {
		if key, custom := strings.CutPrefix(b.GHL.Path, mapping.CustomPath); custom {
			keys = append(keys, key)
		}
	}
	if t.lens.GHLRef != "" {
		keys = append(keys, t.lens.GHLRef)
	}
	return keys
}

// novi answers as Novi would: nobody is found by e-mail address or name, and a
// record has every key that the mapping names.
func (t transport) novi(r *http.Request, about Operation) any {
	if r.Method == http.MethodGet && r.URL.Query().Has("pageSize") {
		return map[string]any{"TotalCount": 0, "Results": []any{}}
	}
	id := string(about.Record)
	if id == "" {
		id = made
	}
	record := map[string]any{"UniqueID": id}
	if about.Kind == canonical.KindContact {
		record["CustomFields"] = map[string]any{}
		if t.lens.NoviRef != "" {
			record[t.lens.NoviRef] = nil
		}
	}
	for _, b := range t.lens.BindingsOf(about.Kind) {
		if top, _, _ := strings.Cut(b.Novi.Path, "."); top != "" && !strings.HasPrefix(b.Novi.Path, mapping.CustomPath) {
			record[top] = nil
		}
	}
	return record
}

// note adds a call to the tape.
func (t *tape) note(lens *mapping.Lens, r *http.Request, body []byte) {
	o := t.about
	o.Method, o.Path = r.Method, r.URL.EscapedPath()
	o.Read = r.Method == http.MethodGet
	if o.Read {
		t.operations = append(t.operations, o)
		return
	}
	var values map[string]any
	if o.System == canonical.GHL {
		values, o.MayFire = ghlValues(body), ghlFires(o)
	} else {
		values = t.noviValues(lens)
		if o.Kind == canonical.KindContact && o.Method == http.MethodPost {
			o.MayFire = "a member is a QuickBooks customer"
		}
	}
	if len(values) > 0 {
		o.Fields = slices.Sorted(maps.Keys(values))
	}
	if t.values {
		o.Values = values
	}
	t.operations = append(t.operations, o)
}

// ghlValues are the keys of a body, custom fields one by one.
func ghlValues(body []byte) map[string]any {
	var keys map[string]any
	if json.Unmarshal(body, &keys) != nil {
		return nil // none, or no object
	}
	delete(keys, "locationId")
	custom, _ := keys["customFields"].([]any)
	delete(keys, "customFields")
	for _, it := range custom {
		if item, ok := it.(map[string]any); ok {
			keys[fmt.Sprintf("%s%v", mapping.CustomPath, item["id"])] = item["field_value"]
		}
	}
	return keys
}

// ghlFires says which trigger of GHL's workflows a write may set off. Whether
// one listens is the location's to say.
func ghlFires(o Operation) string {
	done := map[string]string{http.MethodPost: "created", http.MethodPut: "changed"}[o.Method]
	switch {
	case strings.HasSuffix(o.Path, "/tags"):
		return "contact tag"
	case done == "":
		return "" // a delete
	}
	return string(o.Kind) + " " + done
}

// noviValues are those of the plan, since a body holds the whole record.
func (t *tape) noviValues(lens *mapping.Lens) map[string]any {
	values := map[string]any{}
	for f, v := range t.plan.Fields {
		if b, ok := lens.BindingOf(t.about.Kind, f); ok {
			values[b.Novi.Path] = v
		}
	}
	if t.plan.Tags != nil {
		values[mapping.CustomPath+lens.Tags.NoviField] = *t.plan.Tags
	}
	if t.plan.Delete && t.about.Kind == canonical.KindContact {
		values["Active"] = false // members are not deleted (dossier Novi §4)
	}
	return values
}
