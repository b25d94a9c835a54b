// Package asyncapi makes the AsyncAPI 3 document of what is published,
// schemas/asyncapi.yaml, out of schemas and streams: one channel for each kind
// of subject, one message for each type.
package asyncapi

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/goccy/go-json"
	"github.com/goccy/go-yaml"

	"github.com/causeway-sync/causeway/schemas"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

// Channel is where messages of some types are published.
type Channel struct {
	Name    string
	Stream  string
	Address string // a subject with {parameters}
	About   string
	Types   []string // of its messages
}

// The parameters of addresses, by the word that stands for one where a subject
// is built.
var parameters = []struct{ name, about string }{
	{"tenant", "The association's slug."},
	{"system", "ghl or novi."},
	{"kind", "contact, task, note, tag or appointment."},
	{"id", "The entity's canonical id."},
	{"external", "The record's id at its system."},
	{"op", "created, updated, deleted, merged or observed; of tags added or removed."},
	{"via", "How it was seen: notice, fetch, poll, backfill, writeback and so on."},
	{"stage", "The stage that set it aside."},
	{"action", "What was done: redrive, drop, release and so on."},
}

// hole is a stand-in that a subject takes as it stands, to be a parameter.
func hole(name string) string { return "hole-" + name }

// address makes an address of a subject that was built with holes.
func address(subject string) string {
	for _, p := range parameters {
		subject = strings.ReplaceAll(subject, hole(p.name), "{"+p.name+"}")
	}
	return subject
}

// Channels returns every channel, those for subscribers first.
func Channels() []Channel {
	var all []Channel
	tenant, system := canonical.Tenant(hole("tenant")), canonical.System(hole("system"))
	for _, kind := range []canonical.Kind{canonical.KindContact, canonical.KindTask, canonical.KindNote, canonical.KindAppointment, canonical.KindTag} {
		c := Channel{Name: string(kind), Stream: streams.CANONICAL, About: "What is true of a " + string(kind) + ", each time that it changes: the last message under an id is its whole state.",
			Address: address(streams.Canonical(kind, tenant, canonical.CanonicalID(hole("id")), canonical.Op(hole("op"))))}
		if kind == canonical.KindTag {
			c.About = "A tag that a contact got or lost."
		}
		for _, t := range schemas.Types() {
			if strings.HasPrefix(t, "causeway."+string(kind)+".") {
				c.Types = append(c.Types, t)
			}
		}
		all = append(all, c)
	}
	return append(all,
		Channel{"effect", streams.EFFECTS, address(streams.Effect(system, tenant, canonical.Kind(hole("kind")), canonical.CanonicalID(hole("id")))),
			"What we did at a system about an entity, before and after.", []string{"causeway.effect.v1"}},
		Channel{"dead_letter", streams.DEAD, address(streams.Dead(hole("stage"), tenant, canonical.Kind(hole("kind")), hole("id"))),
			"Work that needs a person.", []string{"causeway.dead_letter.v1"}},
		Channel{"observation", streams.RAW, address(streams.Raw(observation.Observation{System: system, Tenant: tenant, Kind: canonical.Kind(hole("kind")),
			ExternalID: canonical.ExternalID(hole("external")), Via: observation.Via(hole("via"))})),
			"What we saw of a record at a system, as the system sent it.", []string{"causeway.observation.v1"}},
		Channel{"gaps", streams.GAPS, address(streams.Gap(system, tenant, canonical.Kind(hole("kind")))), "What RAW has lost, and what was done about it.", []string{"causeway.gap.v1"}},
		Channel{"audit", streams.AUDIT, address(streams.Audit(tenant, hole("action"))), "What a person had done by the console.", []string{"causeway.audit.v1"}},
	)
}

type object = yaml.MapSlice

func ref(to string) object { return object{{Key: "$ref", Value: to}} }

// Document is schemas/asyncapi.yaml. Its references are relative to schemas.
func Document() ([]byte, error) {
	var channels, operations, messages, params object
	for _, c := range Channels() {
		var own, of object
		for _, t := range c.Types {
			own = append(own, yaml.MapItem{Key: t, Value: ref("#/components/messages/" + t)})
			m, err := message(c, t)
			if err != nil {
				return nil, err
			}
			messages = append(messages, yaml.MapItem{Key: t, Value: m})
		}
		for _, p := range parameters {
			if strings.Contains(c.Address, "{"+p.name+"}") {
				of = append(of, yaml.MapItem{Key: p.name, Value: ref("#/components/parameters/" + p.name)})
			}
		}
		channels = append(channels, yaml.MapItem{Key: c.Name, Value: object{
			{Key: "address", Value: c.Address}, {Key: "description", Value: c.About + " On the stream " + c.Stream + "."},
			{Key: "messages", Value: own}, {Key: "parameters", Value: of}}})
		operations = append(operations, yaml.MapItem{Key: "subscribe_" + c.Name, Value: object{
			{Key: "action", Value: "send"}, {Key: "channel", Value: ref("#/channels/" + c.Name)},
			{Key: "summary", Value: "Causeway publishes; a subscriber makes a consumer of its own on " + c.Stream + "."}}})
	}
	for _, p := range parameters {
		params = append(params, yaml.MapItem{Key: p.name, Value: object{{Key: "description", Value: p.about}}})
	}
	headers, err := attributes()
	if err != nil {
		return nil, err
	}
	doc := object{
		{Key: "asyncapi", Value: "3.0.0"},
		{Key: "info", Value: object{{Key: "title", Value: "Causeway"}, {Key: "version", Value: "1.0.0"},
			{Key: "description", Value: "What Causeway publishes on NATS JetStream. Messages of CANONICAL are CloudEvents 1.0 in binary mode; what may change inside a version is in README.md beside this file."}}},
		{Key: "defaultContentType", Value: envelope.ContentType},
		{Key: "channels", Value: channels},
		{Key: "operations", Value: operations},
		{Key: "components", Value: object{{Key: "messages", Value: messages}, {Key: "parameters", Value: params},
			{Key: "schemas", Value: object{{Key: "attributes", Value: headers}}}}},
	}
	text, err := yaml.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("encode the AsyncAPI document: %w", err)
	}
	return append([]byte("# Made of schemas and streams by go test ./internal/asyncapi -update. DO NOT EDIT.\n"), text...), nil
}

// message is the message of a type.
func message(c Channel, messageType string) (object, error) {
	file, err := schemas.Path(messageType)
	if err != nil {
		return nil, err
	}
	m := object{{Key: "name", Value: messageType}, {Key: "contentType", Value: envelope.ContentType}}
	if c.Stream == streams.CANONICAL {
		m = append(m, yaml.MapItem{Key: "headers", Value: ref("#/components/schemas/attributes")})
	}
	return append(m, yaml.MapItem{Key: "payload", Value: object{
		{Key: "schemaFormat", Value: "application/schema+json;version=draft-2020-12"}, {Key: "schema", Value: ref("./" + file)}}}), nil
}

// attributes describes the headers: each attribute with the prefix ce-.
func attributes() (object, error) {
	const messageType = "causeway.attributes.v1"
	text, err := schemas.Lookup(messageType)
	if err != nil {
		return nil, err
	}
	file, err := schemas.Path(messageType)
	if err != nil {
		return nil, err
	}
	var schema struct {
		Required   []string                   `json:"required"`
		Properties map[string]json.RawMessage `json:"properties"`
	}
	if err := json.Unmarshal(text, &schema); err != nil {
		return nil, fmt.Errorf("read %s: %w", path.Base(file), err)
	}
	var names, required []string
	for name := range schema.Properties {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range schema.Required {
		required = append(required, "ce-"+name)
	}
	var properties object
	for _, name := range names {
		properties = append(properties, yaml.MapItem{Key: "ce-" + name, Value: ref("./" + file + "#/properties/" + name)})
	}
	return object{{Key: "type", Value: "object"}, {Key: "required", Value: required}, {Key: "properties", Value: properties}}, nil
}
