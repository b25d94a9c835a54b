// Package envelope maps CloudEvents attributes to message headers and back
// (binary mode: attributes in "ce-" headers, data in the body), and defines
// the dead letter. It does no I/O.
package envelope

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/schemas/canonical"
)

// SpecVersion is the version of CloudEvents that the headers follow.
const SpecVersion = "1.0"

// SchemaBase starts every dataschema.
const SchemaBase = "https://causeway-sync.github.io/schemas/"

// ContentType of every body.
const ContentType = "application/json"

// Attributes are the CloudEvents attributes of a message.
type Attributes struct {
	ID          string    // unique with Source: <canonical id>.<version>
	Source      string    // /causeway/<tenant>
	Type        string    // causeway.contact.updated.v1
	Subject     string    // the entity's canonical id
	Time        time.Time // when what the event says became true, in the source's time
	DataSchema  string
	Tenant      canonical.Tenant // extension
	Origin      canonical.System // extension: the system whose user made the change
	TraceParent string           // extension: W3C trace context
}

// Type returns the type of an event of kind with op: causeway.<kind>.<op>.v1.
func Type(kind canonical.Kind, op canonical.Op) string {
	return "causeway." + string(kind) + "." + string(op) + ".v1"
}

// EventAttributes returns the attributes of an event with op.
func EventAttributes(tenant canonical.Tenant, op canonical.Op, e canonical.Event, origin canonical.System, at time.Time) Attributes {
	return Attributes{
		ID:         string(e.ID()) + "." + strconv.FormatUint(e.Version, 10),
		Source:     "/causeway/" + string(tenant),
		Type:       Type(e.Kind(), op),
		Subject:    string(e.ID()),
		Time:       at,
		DataSchema: SchemaBase + "canonical/v1/" + string(e.Kind()) + ".json",
		Tenant:     tenant,
		Origin:     origin,
	}
}

// Header returns the attributes as message headers; empty ones are left out.
func (a Attributes) Header() map[string][]string {
	h := map[string][]string{
		"ce-specversion": {SpecVersion},
		"ce-id":          {a.ID},
		"ce-source":      {a.Source},
		"ce-type":        {a.Type},
		"content-type":   {ContentType},
	}
	set := func(key, value string) {
		if value != "" {
			h[key] = []string{value}
		}
	}
	set("ce-subject", a.Subject)
	set("ce-dataschema", a.DataSchema)
	set("ce-tenant", string(a.Tenant))
	set("ce-origin", string(a.Origin))
	set("ce-traceparent", a.TraceParent)
	if !a.Time.IsZero() {
		set("ce-time", a.Time.UTC().Format(time.RFC3339Nano))
	}
	return h
}

// Parse reads the attributes from message headers, whose names are compared
// without regard to case. An attribute that CloudEvents requires and is not
// there is an error; what is not known is ignored.
func Parse(header map[string][]string) (Attributes, error) {
	var a Attributes
	var version string
	for key, values := range header {
		if len(values) == 0 {
			continue
		}
		v := values[0]
		switch strings.ToLower(key) {
		case "ce-specversion":
			version = v
		case "ce-id":
			a.ID = v
		case "ce-source":
			a.Source = v
		case "ce-type":
			a.Type = v
		case "ce-subject":
			a.Subject = v
		case "ce-dataschema":
			a.DataSchema = v
		case "ce-tenant":
			a.Tenant = canonical.Tenant(v)
		case "ce-origin":
			a.Origin = canonical.System(v)
		case "ce-traceparent":
			a.TraceParent = v
		case "ce-time":
			t, err := time.Parse(time.RFC3339Nano, v)
			if err != nil {
				return Attributes{}, fmt.Errorf("parse cloudevents attribute time: %w", err)
			}
			a.Time = t
		}
	}
	switch {
	case version != SpecVersion:
		return Attributes{}, fmt.Errorf("parse cloudevents attributes: specversion is %q, not %q", version, SpecVersion)
	case a.ID == "", a.Source == "", a.Type == "":
		return Attributes{}, fmt.Errorf("parse cloudevents attributes: id, source or type is missing")
	}
	return a, nil
}

// Class says whose a dead letter is to put right. The zero value is unknown.
type Class string

// The classes. What is wrong is with the first three yours, with a defect ours,
// with an outage theirs.
const (
	Data        Class = "data"        // what a record says, or how many there are
	Credentials Class = "credentials" // what a key or a token allows
	Mapping     Class = "mapping"     // the configuration
	Defect      Class = "defect"      // the pipeline
	Outage      Class = "outage"      // a system or the broker was away too long
)

// DeadLetter is work set aside for a person. It is the body of a message
// under dead.<stage>.<tenant>.<kind>.<id>; its type is causeway.dead_letter.v1.
// All but Body is redacted: no secret and no personal data.
type DeadLetter struct {
	// Stage is ingest, hydrate, transform, sink-<system> or sink, or the durable
	// consumer's name.
	Stage    string           `json:"stage"`
	Tenant   canonical.Tenant `json:"tenant"`
	Kind     canonical.Kind   `json:"kind"`
	ID       string           `json:"id"` // canonical or external id, or the hash of a body that named none
	Class    Class            `json:"class,omitempty"`
	Reason   string           `json:"reason"`
	At       time.Time        `json:"at"`
	Attempts []Attempt        `json:"attempts,omitempty"`
	// Deliveries is how often it was tried, the last time included.
	Deliveries int `json:"deliveries,omitempty"`
	// Request is what was asked of a system at last, and Answer what it said.
	Request *Request `json:"request,omitempty"`
	Answer  *Answer  `json:"answer,omitempty"`
	// Stream, Sequence and Subject say where the work came from.
	Stream   string `json:"stream,omitempty"`
	Sequence uint64 `json:"sequence,omitempty"`
	Subject  string `json:"subject,omitempty"`
	// Dropped is when a person has decided that nothing is to be done. The
	// letter is kept, so that this can be undone.
	Dropped time.Time `json:"dropped,omitzero"`
	// Body is what could not be handled, if it is stored nowhere else.
	Body json.RawMessage `json:"body,omitempty"`
}

// Audit is what a person had done, or tried to have done. It is the body of a
// message under audit.<tenant>.<action>; its type is causeway.audit.v1. It holds
// ids and no personal data of those whom the data is about.
type Audit struct {
	At time.Time `json:"at"`
	// Who is the person as they signed in, or "local" where nobody does.
	Who    string           `json:"who"`
	Role   string           `json:"role"`   // viewer or operator
	Action string           `json:"action"` // redrive, drop, release, save-mapping and so on; an open set
	Tenant canonical.Tenant `json:"tenant,omitempty"`
	// About names what it was done to: a letter's subject, a system, a file.
	About  string `json:"about,omitempty"`
	Result string `json:"result,omitempty"` // what came of it
	Error  string `json:"error,omitempty"`  // why it was not done
}

// GapState says how a gap stands. The zero value is unknown.
type GapState string

// The states of a gap.
const (
	GapOpen   GapState = "open"
	GapClosed GapState = "closed"
)

// GapReason says how a gap was noticed; an open set.
type GapReason string

// The reasons.
const (
	// GapMissing: the broker has acknowledged messages that RAW doesn't hold.
	GapMissing GapReason = "missing"
	// GapWentBack: what RAW was known to hold isn't there any more; it was
	// restored, cut short or made anew.
	GapWentBack GapReason = "went_back"
)

// Gap is that RAW has lost something about a system, a tenant and a kind, and
// what was done about it. It is the body of a message under
// gaps.<system>.<tenant>.<kind>, of which the last is how it stands; its type is
// causeway.gap.v1.
type Gap struct {
	System canonical.System `json:"system"`
	Tenant canonical.Tenant `json:"tenant"`
	Kind   canonical.Kind   `json:"kind"`
	State  GapState         `json:"state"`
	Reason GapReason        `json:"reason"`
	// Missing is how many acknowledged messages are known not to be there; 0 if
	// nobody knows.
	Missing uint64 `json:"missing,omitempty"`
	// After is the sequence of RAW after which they were.
	After    uint64    `json:"after,omitempty"`
	Detected time.Time `json:"detected"` // last, if it has grown
	// Sweep is the id of the reconcile that was asked for.
	Sweep  string    `json:"sweep,omitempty"`
	Closed time.Time `json:"closed,omitzero"`
	// Trouble says why it isn't closed yet, if that needs a person.
	Trouble string `json:"trouble,omitempty"`
}

// Attempt is one try that failed.
type Attempt struct {
	At    time.Time `json:"at"`
	Error string    `json:"error"`
}

// Request is a call to a system: the names of what it carried, no values.
type Request struct {
	System    canonical.System     `json:"system"`
	Operation string               `json:"operation"` // create, update or delete
	External  canonical.ExternalID `json:"external_id,omitempty"`
	Fields    []string             `json:"fields,omitempty"`
}

// Answer is what a system said, redacted.
type Answer struct {
	Status  int    `json:"status"` // of HTTP
	Message string `json:"message,omitempty"`
	Trace   string `json:"trace,omitempty"`
}
