package rule

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/ext"

	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
)

// records are the Go types of the kinds, by their names in CEL.
var records = map[canonical.Kind]reflect.Type{
	canonical.KindContact: reflect.TypeFor[canonical.Contact](), canonical.KindTask: reflect.TypeFor[canonical.Task](),
	canonical.KindNote: reflect.TypeFor[canonical.Note](), canonical.KindAppointment: reflect.TypeFor[canonical.Appointment](),
}

var envs sync.Map // by kind: an env is made once

// envOf returns the variables that the expressions of a kind's rules see.
func envOf(kind canonical.Kind) (*cel.Env, error) {
	if e, made := envs.Load(kind); made {
		return e.(*cel.Env), nil
	}
	record := cel.ObjectType(records[kind].String())
	e, err := cel.NewEnv(ext.Strings(), ext.NativeTypes(ext.ParseStructTag("json"), records[kind], reflect.TypeFor[canonical.Change]()),
		cel.Variable("before", record), cel.Variable("after", record),
		cel.Variable("changes", cel.ListType(cel.ObjectType(reflect.TypeFor[canonical.Change]().String()))), cel.Variable("changed", cel.ListType(cel.StringType)))
	if err != nil {
		return nil, err
	}
	envs.Store(kind, e)
	return e, nil
}

// record returns what CEL sees of an event.
func record(e canonical.Event) any {
	switch {
	case e.Task != nil:
		return e.Task
	case e.Note != nil:
		return e.Note
	case e.Appointment != nil:
		return e.Appointment
	}
	return &e.Contact
}

// step is what the expressions of a rule are about.
type step struct {
	before, after canonical.Event
	changes       []canonical.Change
}

func (s step) vars() map[string]any {
	changed := make([]string, 0, len(s.changes))
	for _, c := range s.changes {
		changed = append(changed, c.Field)
	}
	changes := s.changes
	if changes == nil {
		changes = []canonical.Change{}
	}
	return map[string]any{"before": record(s.before), "after": record(s.after), "changes": changes, "changed": changed}
}

// holds reports whether a condition holds; one that can't be evaluated doesn't.
func holds(p cel.Program, s step) bool {
	if p == nil {
		return true
	}
	out, _, err := p.Eval(s.vars())
	if err != nil {
		return false
	}
	yes, ok := out.Value().(bool)
	return ok && yes
}

// Text is a text with expressions in it.
type Text struct {
	parts []part
}

type part struct {
	literal string
	program cel.Program
}

func newText(env *cel.Env, s string) (Text, error) {
	var t Text
	var literal strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case strings.HasPrefix(s[i:], "{{"), strings.HasPrefix(s[i:], "}}"):
			literal.WriteByte(s[i])
			i++
		case s[i] == '}':
			return t, errors.New("a brace is closed that was not opened; }} is a brace")
		case s[i] == '{':
			end := strings.IndexByte(s[i:], '}')
			if end < 0 {
				return t, errors.New("a brace is not closed; {{ is a brace")
			}
			p, err := mapping.Compile(env, s[i+1:i+end], cel.StringType)
			if err != nil {
				return t, fmt.Errorf("within {…}: %w", err)
			}
			t.parts = append(t.parts, part{literal: literal.String()}, part{program: p})
			literal.Reset()
			i += end
		default:
			literal.WriteByte(s[i])
		}
	}
	if literal.Len() > 0 {
		t.parts = append(t.parts, part{literal: literal.String()})
	}
	return t, nil
}

// plain reports whether the text is there and has no expression.
func (t Text) plain() bool { return len(t.parts) == 1 && t.parts[0].program == nil }

// errText hides what CEL says of an error, which may quote a value.
var errText = errors.New("an expression in a text can't be evaluated for the record")

func (t Text) of(s step) (string, error) {
	var b strings.Builder
	for _, p := range t.parts {
		if p.program == nil {
			b.WriteString(p.literal)
			continue
		}
		out, _, err := p.program.Eval(s.vars())
		if err != nil {
			return "", errText
		}
		v, ok := out.Value().(string)
		if !ok {
			return "", errText
		}
		b.WriteString(v)
	}
	return strings.TrimSpace(b.String()), nil
}
