package console

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-json"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/causeway-sync/causeway/internal/mapping"
)

// This file changes fields of a mapping in the text of a configuration, and
// leaves every other line as it is, comments and all: nobody's file is written
// anew by a program.

// errFlow is returned, wrapped, for a part of a file that is on one line where
// lines would have to be added.
var errFlow = errors.New("it is written on one line in braces; give each key a line of its own first")

// withFields returns text with fields set below path, which ends with "fields";
// a nil field is set to null, which takes the template's away. Keys of the path
// that are not there are added. A part "tenants[NAME]" is the item of that name.
func withFields(text string, path []string, fields map[string]*mapping.FieldSpec) (string, error) {
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		var err error
		if text, err = withField(text, path, name, "null", fields[name]); err != nil {
			return "", fmt.Errorf("%s.%s: %w", strings.Join(path, "."), name, err)
		}
	}
	return text, nil
}

func withField(text string, path []string, name, value string, spec *mapping.FieldSpec) (string, error) {
	if spec != nil {
		value = flow(spec)
	}
	file, err := parser.ParseBytes([]byte(text), 0)
	if err != nil {
		return "", fmt.Errorf("it can't be read: %w", err)
	}
	lines := strings.Split(text, "\n")
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return "", errors.New("there is nothing in it")
	}
	node := file.Docs[0].Body
	depth := 0 // parts of path that are there
	for ; depth < len(path); depth++ {
		next, err := child(node, path[depth])
		if err != nil {
			return "", err
		}
		if next == nil {
			break
		}
		node = next
	}
	list, err := entries(node)
	if err != nil {
		return "", err
	}
	if len(list) == 0 {
		return "", errFlow
	}
	indent := list[0].Key.GetToken().Position.Column - 1
	if depth == len(path) {
		for _, e := range list {
			if e.Key.GetToken().Value != name {
				continue
			}
			from, to := extent(lines, e)
			replaced := keptComments(lines[from+1:to], indent)
			replaced = append(replaced, strings.Repeat(" ", indent)+key(name)+": "+value+lineComment(lines[from]))
			return strings.Join(slices.Concat(lines[:from], replaced, lines[to:]), "\n"), nil
		}
	}
	// Behind the last entry, with the parents that are not there.
	at := 0
	for _, e := range list {
		_, to := extent(lines, e)
		at = max(at, to)
	}
	var added []string
	for _, part := range path[depth:] {
		added = append(added, strings.Repeat(" ", indent)+part+":")
		indent += 2
	}
	added = append(added, strings.Repeat(" ", indent)+key(name)+": "+value)
	return strings.Join(slices.Concat(lines[:at], added, lines[at:]), "\n"), nil
}

// entries returns those of a mapping that has a line for each; an error for one
// in braces, and for what is no mapping.
func entries(node ast.Node) ([]*ast.MappingValueNode, error) {
	switch n := node.(type) {
	case *ast.MappingNode:
		if n.IsFlowStyle {
			return nil, errFlow
		}
		return n.Values, nil
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, nil
	}
	return nil, errors.New("it has no keys")
}

// child returns what is under a key, or nil.
func child(node ast.Node, part string) (ast.Node, error) {
	list, err := entries(node)
	if err != nil {
		return nil, err
	}
	name, item, isItem := strings.Cut(strings.TrimSuffix(part, "]"), "[")
	for _, e := range list {
		if e.Key.GetToken().Value != name {
			continue
		}
		if !isItem {
			return e.Value, nil
		}
		items, ok := e.Value.(*ast.SequenceNode)
		if !ok {
			return nil, errors.New("it is no list")
		}
		for _, x := range items.Values {
			keys, err := entries(x)
			if err != nil {
				return nil, err
			}
			for _, k := range keys {
				if k.Key.GetToken().Value == "name" && k.Value.GetToken().Value == item {
					return x, nil
				}
			}
		}
		return nil, fmt.Errorf("there is no %s", part)
	}
	return nil, nil
}

// extent returns the lines of an entry, from its key to before the next thing
// that is not inside; blank lines and comments behind it are not its own.
func extent(lines []string, e *ast.MappingValueNode) (from, to int) {
	p := e.Key.GetToken().Position
	from = p.Line - 1
	last := from
	for i := from + 1; i < len(lines); i++ {
		trimmed := strings.TrimSpace(lines[i])
		if trimmed == "" || strings.HasPrefix(trimmed, "#") {
			continue
		}
		deep := len(lines[i]) - len(strings.TrimLeft(lines[i], " "))
		if deep < p.Column && !strings.HasPrefix(trimmed, "}") && (deep < p.Column-1 || !strings.HasPrefix(trimmed, "- ")) {
			break
		}
		last = i
	}
	return from, last + 1
}

// keptComments are the lines of comments among lines.
func keptComments(lines []string, indent int) []string {
	var out []string
	for _, l := range lines {
		if l = strings.TrimSpace(l); strings.HasPrefix(l, "#") {
			out = append(out, strings.Repeat(" ", indent)+l)
		} else if c := lineComment(l); c != "" {
			out = append(out, strings.Repeat(" ", indent)+strings.TrimSpace(c))
		}
	}
	return out
}

// lineComment is the comment at the end of a line, with the space before it.
func lineComment(line string) string {
	quote := byte(0)
	for i := range len(line) {
		switch c := line[i]; {
		case quote != 0:
			if c == quote && (quote != '"' || line[i-1] != '\\') {
				quote = 0
			}
		case (c == '"' || c == '\'') && (i == 0 || strings.IndexByte(" {[,:", line[i-1]) >= 0):
			quote = c
		case c == '#' && i > 0 && line[i-1] == ' ':
			return line[len(strings.TrimRight(line[:i], " ")):]
		}
	}
	return ""
}

var plain = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_./-]*$`)

// words that YAML reads as something else than a text.
var words = []string{"true", "false", "yes", "no", "on", "off", "null", "y", "n"}

// scalar spells a text.
func scalar(s string) string {
	if plain.MatchString(s) && !slices.Contains(words, strings.ToLower(s)) {
		return s
	}
	quoted, err := json.MarshalWithOption(s, json.DisableHTMLEscape())
	if err != nil {
		return `""`
	}
	return string(quoted) // YAML reads JSON
}

func key(s string) string { return scalar(s) }

// flow spells a field on one line, as the template does.
func flow(f *mapping.FieldSpec) string {
	var parts []string
	say := func(name, value string) {
		if value != "" {
			parts = append(parts, name+": "+value)
		}
	}
	text := func(name, value string) {
		if value != "" {
			say(name, scalar(value))
		}
	}
	table := func(m map[string]string) string {
		if m == nil {
			return ""
		}
		var out []string
		for _, k := range slices.Sorted(maps.Keys(m)) {
			out = append(out, scalar(k)+": "+scalar(m[k]))
		}
		return "{" + strings.Join(out, ", ") + "}"
	}
	both := func(ghl, novi string) string {
		var out []string
		if ghl != "" {
			out = append(out, "ghl: "+ghl)
		}
		if novi != "" {
			out = append(out, "novi: "+novi)
		}
		if out == nil {
			return ""
		}
		return "{" + strings.Join(out, ", ") + "}"
	}
	sideOf := func(s mapping.SideSpec) string {
		if s.Read == "" && s.Write == "" {
			return scalarOrNone(s.Path)
		}
		out := []string{"path: " + scalar(s.Path)}
		if s.Read != "" {
			out = append(out, "read: "+scalar(s.Read))
		}
		if s.Write != "" {
			out = append(out, "write: "+scalar(s.Write))
		}
		return "{" + strings.Join(out, ", ") + "}"
	}
	say("ghl", sideOf(f.GHL))
	text("ghl_write", f.GHLWrite)
	say("novi", sideOf(f.Novi))
	text("novi_write", f.NoviWrite)
	text("convert", string(f.Convert))
	text("authority", string(f.Authority))
	say("enum", both(table(f.Enum.GHL), table(f.Enum.Novi)))
	text("lookup", f.Lookup)
	say("separator", both(scalarOrNone(f.Separator.GHL), scalarOrNone(f.Separator.Novi)))
	text("html", f.HTML)
	return "{" + strings.Join(parts, ", ") + "}"
}

func scalarOrNone(s string) string {
	if s == "" {
		return ""
	}
	return scalar(s)
}
