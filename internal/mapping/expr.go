package mapping

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/ext"

	"github.com/causeway-sync/causeway/schemas/canonical"
)

// Expressions are CEL: no loop without an end, no clock, no I/O. They are
// compiled and type-checked when a mapping is built, and what one evaluation
// may cost is limited. What goes wrong with a value is told without the value.

// maxCost is far more than a sensible expression takes on a long text, and
// less than anybody would notice.
const maxCost = 100_000

// env returns the variables that an expression sees.
func env(variables ...cel.EnvOption) func() (*cel.Env, error) {
	return sync.OnceValues(func() (*cel.Env, error) {
		return cel.NewEnv(append(variables, ext.Strings(), ext.NativeTypes(ext.ParseStructTag("json"), reflect.TypeFor[canonical.Contact]()))...)
	})
}

var (
	valueVar   = cel.Variable("value", cel.StringType)
	contactVar = cel.Variable("contact", cel.ObjectType("canonical.Contact"))

	readEnv      = env(valueVar)
	writeEnv     = env(valueVar, contactVar)
	conditionEnv = env(contactVar)
)

func compile(text string, in func() (*cel.Env, error), want *cel.Type) (cel.Program, error) {
	e, err := in()
	if err != nil {
		return nil, err
	}
	return Compile(e, text, want)
}

// Compile returns the program of an expression that gives want, with what one
// evaluation may cost limited. The error names the column, and quotes no value.
func Compile(e *cel.Env, text string, want *cel.Type) (cel.Program, error) {
	ast, issues := e.Compile(text)
	if issues.Err() != nil {
		first := issues.Errors()[0]
		return nil, fmt.Errorf("at %d: %s", first.Location.Column()+1, strings.ReplaceAll(first.Message, "\n", " "))
	}
	if !ast.OutputType().IsExactType(want) {
		return nil, fmt.Errorf("gives %s, and has to give %s", ast.OutputType(), want)
	}
	return e.Program(ast, cel.CostLimit(maxCost), cel.EvalOptions(cel.OptOptimize))
}

// Expr turns a text into another.
type Expr struct {
	text    string
	program cel.Program
}

func compileRead(text string) (*Expr, error)  { return newExpr(text, readEnv) }
func compileWrite(text string) (*Expr, error) { return newExpr(text, writeEnv) }

func newExpr(text string, in func() (*cel.Env, error)) (*Expr, error) {
	if text == "" {
		return nil, nil
	}
	p, err := compile(text, in, cel.StringType)
	if err != nil {
		return nil, err
	}
	return &Expr{text, p}, nil
}

// String returns the expression as it was written.
func (e *Expr) String() string {
	if e == nil {
		return ""
	}
	return e.text
}

// errExpr hides what CEL says of an error, which may quote the value.
var errExpr = errors.New("its expression can't be evaluated for the value that is there")

func (e *Expr) eval(value string, contact *canonical.Contact) (string, error) {
	if e == nil {
		return value, nil
	}
	vars := map[string]any{"value": value}
	if contact != nil {
		vars["contact"] = contact
	}
	out, _, err := e.program.Eval(vars)
	if err != nil {
		return "", errExpr
	}
	text, ok := out.Value().(string)
	if !ok {
		return "", errExpr
	}
	return text, nil
}

// Condition is a yes or no about a contact. The zero value is no.
type Condition struct {
	text    string
	program cel.Program
}

// ForAll is the condition that every contact meets.
var ForAll = Condition{text: "always"}

// NewCondition reads always, never, or a CEL expression over contact; "" is
// never.
func NewCondition(text string) (Condition, error) {
	switch text {
	case "", "never":
		return Condition{text: text}, nil
	case "always":
		return ForAll, nil
	}
	p, err := compile(text, conditionEnv, cel.BoolType)
	if err != nil {
		return Condition{}, fmt.Errorf("neither always nor never, and as a condition: %w", err)
	}
	return Condition{text, p}, nil
}

// String returns the condition as it was written.
func (c Condition) String() string {
	if c.text == "" {
		return "never"
	}
	return c.text
}

// Holds reports whether contact meets the condition. An error says nothing of
// the contact.
func (c Condition) Holds(contact canonical.Contact) (bool, error) {
	if c.program == nil {
		return c.text == ForAll.text, nil
	}
	out, _, err := c.program.Eval(map[string]any{"contact": &contact})
	if err != nil {
		return false, errors.New("create_when can't be evaluated for the contact")
	}
	yes, ok := out.Value().(bool)
	return ok && yes, nil
}
