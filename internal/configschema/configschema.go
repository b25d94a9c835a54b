// Package configschema makes the JSON Schemas (2020-12) of the configuration files,
// with which editors complete and check them. They are made from the types that
// the files are read into, and from those types' comments, so that they can't
// fall behind. What a schema can't say (that a CEL expression compiles, that two
// fields write to one place) is for the loader to find.
package configschema

import (
	"errors"
	"fmt"
	"go/ast"
	"go/doc/comment"
	"go/parser"
	"go/token"
	"reflect"
	"regexp"
	"strings"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/config"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/internal/rule"
	"github.com/causeway-sync/causeway/schemas/canonical"
)

// Names are the schemas that there are: of the main file, of a tenant's file,
// and of a mapping by itself.
var Names = []string{"config", "tenant", "mapping"}

// ErrUnknown is returned for a name that is not one of [Names].
var ErrUnknown = errors.New("no such schema")

// Make returns the schema of that name.
func Make(name string) ([]byte, error) {
	root, ok := map[string]reflect.Type{"config": reflect.TypeFor[config.File](), "tenant": reflect.TypeFor[config.Tenant](), "mapping": reflect.TypeFor[mapping.Spec]()}[name]
	if !ok {
		return nil, fmt.Errorf("%q: %w", name, ErrUnknown)
	}
	m := maker{defs: map[string]any{}, docs: map[string]string{}}
	for _, source := range []string{config.Source, mapping.SpecSource, rule.SpecSource} {
		if err := m.read(source); err != nil {
			return nil, err
		}
	}
	m.of(root)
	for _, def := range m.defs {
		if err, failed := def.(error); failed {
			return nil, err
		}
	}
	top, _ := m.defs[root.Name()].(object)
	delete(m.defs, root.Name())
	if tenant, ok := m.defs["Tenant"].(object); ok {
		tenant["required"] = []string{"name"}
	}
	if name == "tenant" {
		delete(top["properties"].(object), "name") // it is the file's
	}
	top["$schema"], top["title"] = "https://json-schema.org/draft/2020-12/schema", "causeway: "+name
	top["$defs"] = m.defs
	text, err := json.MarshalIndent(top, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("schema %s: %w", name, err)
	}
	return append(text, '\n'), nil
}

type object = map[string]any

type maker struct {
	defs object
	docs map[string]string // by type, and by type and field: "FieldSpec", "FieldSpec.Convert"
}

// read takes the comments of a file's structs.
func (m *maker) read(source string) error {
	file, err := parser.ParseFile(token.NewFileSet(), "", source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return fmt.Errorf("read the comments of the types: %w", err)
	}
	for _, d := range file.Decls {
		general, ok := d.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, s := range general.Specs {
			t, ok := s.(*ast.TypeSpec)
			if !ok {
				continue
			}
			m.docs[t.Name.Name] = words(general.Doc)
			fields, ok := t.Type.(*ast.StructType)
			if !ok {
				continue
			}
			for _, f := range fields.Fields.List {
				for _, name := range f.Names {
					m.docs[t.Name.Name+"."+name.Name] = words(f.Doc)
				}
			}
		}
	}
	return nil
}

// words is a comment as one line of text.
func words(g *ast.CommentGroup) string {
	var p comment.Parser
	var printer comment.Printer
	printer.TextWidth = -1
	return strings.Join(strings.Fields(string(printer.Text(p.Parse(g.Text())))), " ")
}

// enums are the values of fields that are plain texts in Go.
var enums = map[string][]string{
	"FieldSpec.GHLWrite": {"always", "create", "never"}, "FieldSpec.NoviWrite": {"always", "create", "never"}, "FieldSpec.HTML": {"ghl", "novi", "both"},
	"ContactSpec.Duplicates": {"keep", "tag", "delete"}, "IdentitySpec.OnMatch": {"merge", "flag"},
	"DeleteSpec.GHL": {"propagate", "unlink", "tag"}, "DeleteSpec.Novi": {"propagate", "unlink", "tag"},
	"Tenant.Template": mapping.Templates(), "Definition.Kind": {"contact", "task", "note", "appointment"},
}

// of returns the schema of a type; that of a struct is a reference.
func (m *maker) of(t reflect.Type) object {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return object{"type": "string", "pattern": `^-?([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`, "examples": []string{"30s", "5m", "1h30m"}}
	case reflect.TypeFor[config.Secret]():
		return object{"type": "string", "pattern": "^((env|file):.+)?$", "examples": []string{"env:NAME", "file:secrets/name"}}
	case reflect.TypeFor[config.Paths]():
		return object{"type": "object", "propertyNames": object{"enum": config.PathNames}, "additionalProperties": object{"type": "string", "pattern": "^(/.*)?$"}}
	case reflect.TypeFor[mapping.Convert]():
		return object{"enum": mapping.Converts()}
	case reflect.TypeFor[mapping.Authority]():
		return object{"enum": mapping.Authorities()}
	case reflect.TypeFor[mapping.SideSpec]():
		return object{"anyOf": []any{object{"type": "string"}, m.object(t)}}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return m.of(t.Elem())
	case reflect.Struct:
		return m.object(t)
	case reflect.Slice:
		return object{"type": "array", "items": m.of(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": m.of(t.Elem())}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return object{"type": "integer"}
	case reflect.Float64:
		return object{"type": "number"}
	case reflect.String:
		return object{"type": "string"}
	}
	m.defs[t.Name()] = fmt.Errorf("schema: there is no way to say %s", t)
	return nil
}

// object returns a reference to a struct's schema, and makes it.
func (m *maker) object(t reflect.Type) object {
	ref := object{"$ref": "#/$defs/" + t.Name()}
	if _, made := m.defs[t.Name()]; made {
		return ref
	}
	properties := object{}
	def := object{"type": "object", "additionalProperties": false, "properties": properties}
	m.defs[t.Name()] = def
	keys := map[string]string{} // by the name in Go
	for i := range t.NumField() {
		if f := t.Field(i); f.IsExported() {
			keys[f.Name], _, _ = strings.Cut(f.Tag.Get("yaml"), ",")
		}
	}
	if d := m.docs[t.Name()]; d != "" {
		def["description"] = inYAML(d, keys)
	}
	for i := range t.NumField() {
		f := t.Field(i)
		key := keys[f.Name]
		if key == "" || key == "-" {
			continue
		}
		p := m.field(t, f, key)
		if d := m.docs[t.Name()+"."+f.Name]; d != "" {
			p["description"] = inYAML(d, keys)
		}
		properties[key] = p
	}
	return ref
}

func (m *maker) field(t reflect.Type, f reflect.StructField, key string) object {
	if values := enums[t.Name()+"."+f.Name]; values != nil {
		return object{"enum": values}
	}
	if t == reflect.TypeFor[rule.WebhookSpec]() && f.Name == "Secret" {
		return m.of(reflect.TypeFor[config.Secret]())
	}
	switch f.Type {
	case reflect.TypeFor[mapping.ItemSpec]():
		kind := canonical.Kind(key)
		return object{"type": "object", "additionalProperties": false, "properties": object{"fields": m.fields(mapping.FieldsOf(kind), false)}}
	case reflect.TypeFor[map[string]*mapping.FieldSpec]():
		return m.fields(mapping.FieldsOf(canonical.KindContact), true)
	}
	return m.of(f.Type)
}

// fields is an object of bindings by canonical field.
func (m *maker) fields(names []string, custom bool) object {
	binding := object{"anyOf": []any{m.of(reflect.TypeFor[mapping.FieldSpec]()), object{"type": "null"}}}
	properties := object{}
	for _, name := range names {
		properties[name] = binding
	}
	out := object{"type": "object", "additionalProperties": false, "properties": properties,
		"description": "Fields by canonical name; null takes the template's away."}
	if custom {
		out["patternProperties"] = object{"^" + regexp.QuoteMeta(canonical.CustomPrefix) + ".+": binding}
	}
	return out
}

// inYAML replaces the fields' names in Go by their keys.
func inYAML(text string, keys map[string]string) string {
	return goName.ReplaceAllStringFunc(text, func(word string) string {
		if key := keys[word]; key != "" {
			return key
		}
		return word
	})
}

var goName = regexp.MustCompile(`\b[A-Z][A-Za-z]*\b`)
