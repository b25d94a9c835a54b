// Package schemas is what subscribers may rely on: a JSON Schema (2020-12) for
// the body of every message type, embedded, and the check of data against it.
// The Go types are in canonical, observation, effect and envelope beside the
// schemas' files; tests hold type, file and struct together.
//
// README.md says what may change inside a version.
package schemas

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/causeway-sync/causeway/schemas/envelope"
)

//go:embed canonical/v1/*.json observation/v1/*.json effect/v1/*.json envelope/v1/*.json
var files embed.FS

// The types' files. A type is causeway.<name>.v<n>, a file <room>/v<n>/<name>.json.
var paths = map[string]string{
	"causeway.contact.created.v1":      "canonical/v1/contact.json",
	"causeway.contact.updated.v1":      "canonical/v1/contact.json",
	"causeway.contact.deleted.v1":      "canonical/v1/contact.json",
	"causeway.contact.merged.v1":       "canonical/v1/contact.json",
	"causeway.contact.observed.v1":     "canonical/v1/contact.json",
	"causeway.task.created.v1":         "canonical/v1/task.json",
	"causeway.task.updated.v1":         "canonical/v1/task.json",
	"causeway.task.deleted.v1":         "canonical/v1/task.json",
	"causeway.task.merged.v1":          "canonical/v1/task.json",
	"causeway.task.observed.v1":        "canonical/v1/task.json",
	"causeway.note.created.v1":         "canonical/v1/note.json",
	"causeway.note.updated.v1":         "canonical/v1/note.json",
	"causeway.note.deleted.v1":         "canonical/v1/note.json",
	"causeway.note.merged.v1":          "canonical/v1/note.json",
	"causeway.note.observed.v1":        "canonical/v1/note.json",
	"causeway.appointment.created.v1":  "canonical/v1/appointment.json",
	"causeway.appointment.updated.v1":  "canonical/v1/appointment.json",
	"causeway.appointment.deleted.v1":  "canonical/v1/appointment.json",
	"causeway.appointment.merged.v1":   "canonical/v1/appointment.json",
	"causeway.appointment.observed.v1": "canonical/v1/appointment.json",
	"causeway.tag.added.v1":            "canonical/v1/tag.json",
	"causeway.tag.removed.v1":          "canonical/v1/tag.json",
	"causeway.observation.v1":          "observation/v1/observation.json",
	"causeway.effect.v1":               "effect/v1/effect.json",
	"causeway.dead_letter.v1":          "envelope/v1/dead_letter.json",
	"causeway.audit.v1":                "envelope/v1/audit.json",
	"causeway.gap.v1":                  "envelope/v1/gap.json",
	"causeway.attributes.v1":           "envelope/v1/attributes.json",
}

// ErrUnknownType is returned for a type that has no schema.
var ErrUnknownType = errors.New("no such message type")

// Types returns every message type, sorted.
func Types() []string { return slices.Sorted(maps.Keys(paths)) }

// Path returns the path of a type's schema under [envelope.SchemaBase], or
// [ErrUnknownType].
func Path(messageType string) (string, error) {
	p, ok := paths[messageType]
	if !ok {
		return "", fmt.Errorf("schema of %q: %w", messageType, ErrUnknownType)
	}
	return p, nil
}

// Lookup returns the JSON Schema of a type, or [ErrUnknownType].
func Lookup(messageType string) ([]byte, error) {
	p, err := Path(messageType)
	if err != nil {
		return nil, err
	}
	text, err := files.ReadFile(p)
	if err != nil {
		return nil, fmt.Errorf("schema of %q: %w", messageType, err)
	}
	return text, nil
}

// Validate checks a message's body against the schema of its type. The error
// says where in the data what is wrong; it may quote the data. A type without
// a schema is [ErrUnknownType].
func Validate(messageType string, data []byte) error {
	p, err := Path(messageType)
	if err != nil {
		return err
	}
	compiled, err := compile()
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("validate %s: %w", messageType, err)
	}
	if err := compiled[p].Validate(value); err != nil {
		return fmt.Errorf("validate %s: %w", messageType, err)
	}
	return nil
}

// compile reads the embedded schemas, once.
var compile = sync.OnceValues(func() (map[string]*jsonschema.Schema, error) {
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	compiled := map[string]*jsonschema.Schema{}
	for _, p := range paths {
		if compiled[p] != nil {
			continue
		}
		text, err := files.ReadFile(p)
		if err != nil {
			return nil, fmt.Errorf("schema %s: %w", p, err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			return nil, fmt.Errorf("schema %s: %w", p, err)
		}
		id := envelope.SchemaBase + p
		if err := c.AddResource(id, doc); err != nil {
			return nil, fmt.Errorf("schema %s: %w", p, err)
		}
		if compiled[p], err = c.Compile(id); err != nil {
			return nil, fmt.Errorf("schema %s: %w", p, err)
		}
	}
	return compiled, nil
})
