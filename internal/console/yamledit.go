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
	node, depth, err := descend(text, path)
	if err != nil {
		return "", err
	}
	lines := strings.Split(text, "\n")
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
	return appended(lines, list, path[depth:], func(indent int) []string {
		return []string{strings.Repeat(" ", indent) + key(name) + ": " + value}
	}), nil
}

// appended adds lines behind the last entry of a mapping, below keys that are not
// there.
func appended(lines []string, list []*ast.MappingValueNode, keys []string, what func(indent int) []string) string {
	at, indent := 0, list[0].Key.GetToken().Position.Column-1
	for _, e := range list {
		_, to := extent(lines, e)
		at = max(at, to)
	}
	var added []string
	for _, k := range keys {
		added = append(added, strings.Repeat(" ", indent)+k+":")
		indent += 2
	}
	return strings.Join(slices.Concat(lines[:at], added, what(indent), lines[at:]), "\n")
}

// descend follows path as far as it is there: depth parts of it.
func descend(text string, path []string) (node ast.Node, depth int, err error) {
	file, err := parser.ParseBytes([]byte(text), 0)
	if err != nil {
		return nil, 0, fmt.Errorf("it can't be read: %w", err)
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return nil, 0, errors.New("there is nothing in it")
	}
	node = file.Docs[0].Body
	for ; depth < len(path); depth++ {
		next, err := child(node, path[depth])
		if err != nil {
			return nil, 0, err
		}
		if next == nil {
			break
		}
		node = next
	}
	return node, depth, nil
}

// item is a rule's place in a file: the lines from its dash on, and the columns
// of the dash and of its keys.
type item struct {
	name         string
	from, to     int
	dash, indent int
}

// items returns those of a list of mappings, each of which begins on a line of
// its own.
func items(lines []string, node ast.Node) ([]item, error) {
	list, ok := node.(*ast.SequenceNode)
	if !ok {
		return nil, errors.New("rules is no list")
	}
	if list.IsFlowStyle {
		return nil, errFlow
	}
	var out []item
	for _, v := range list.Values {
		var keys []*ast.MappingValueNode
		at := v.GetToken().Position
		switch n := v.(type) {
		case *ast.MappingNode:
			keys = n.Values
			if at = n.Values[0].Key.GetToken().Position; n.IsFlowStyle {
				at = n.Start.Position
			}
		case *ast.MappingValueNode:
			keys, at = []*ast.MappingValueNode{n}, n.Key.GetToken().Position
		}
		x := item{from: at.Line - 1, indent: at.Column - 1}
		x.dash = strings.Index(lines[x.from], "-")
		if x.dash < 0 || x.dash >= x.indent || strings.TrimSpace(lines[x.from][:x.dash]) != "" {
			return nil, errors.New("a rule has to begin behind its dash, on the same line")
		}
		for _, k := range keys {
			if k.Key.GetToken().Value == "name" {
				x.name = k.Value.GetToken().Value
			}
		}
		x.to = x.from + 1
		for i := x.to; i < len(lines); i++ {
			trimmed := strings.TrimSpace(lines[i])
			if trimmed == "" || strings.HasPrefix(trimmed, "#") {
				continue
			}
			if len(lines[i])-len(strings.TrimLeft(lines[i], " ")) <= x.dash {
				break
			}
			x.to = i + 1
		}
		out = append(out, x)
	}
	return out, nil
}

// ruleText returns the lines of a rule, with its comments, as if it stood alone.
func ruleText(text string, path []string, name string) (string, error) {
	_, x, err := ruleAt(text, path, name)
	if err != nil {
		return "", err
	}
	lines := strings.Split(text, "\n")[x.from:x.to]
	out := []string{lines[0][x.indent:]}
	for _, l := range lines[1:] {
		out = append(out, l[min(x.indent, len(l)-len(strings.TrimLeft(l, " "))):])
	}
	return strings.Join(out, "\n") + "\n", nil
}

// ruleAt returns all rules of a list, and the one of that name.
func ruleAt(text string, path []string, name string) (all []item, x item, err error) {
	node, depth, err := descend(text, path)
	if err != nil {
		return nil, x, err
	}
	if depth == len(path) {
		if all, err = items(strings.Split(text, "\n"), node); err != nil {
			return nil, x, err
		}
	}
	i := slices.IndexFunc(all, func(x item) bool { return x.name == name })
	if i < 0 {
		return all, x, fmt.Errorf("there is no rule %s", name)
	}
	return all, all[i], nil
}

// withRule returns text with a rule's lines in the place of those that it has; a
// rule of no name is added, and "" takes one away. Every other line stays.
func withRule(text string, path []string, name, rule string) (string, error) {
	lines := strings.Split(text, "\n")
	if name != "" {
		all, x, err := ruleAt(text, path, name)
		if err != nil {
			return "", err
		}
		var with []string
		if rule != "" {
			with = laid(rule, x.dash, x.indent)
		} else if len(all) == 1 {
			with = []string{strings.Repeat(" ", x.dash) + "[]"} // an empty list has to say so
			return strings.Join(slices.Concat(lines[:x.from], with, lines[x.to:]), "\n"), nil
		}
		return strings.Join(slices.Concat(lines[:x.from], with, lines[x.to:]), "\n"), nil
	}
	node, depth, err := descend(text, path)
	if err != nil {
		return "", err
	}
	if depth == len(path) {
		all, err := items(lines, node)
		if err != nil {
			return "", err
		}
		last := all[len(all)-1]
		return strings.Join(slices.Concat(lines[:last.to], laid(rule, last.dash, last.indent), lines[last.to:]), "\n"), nil
	}
	list, err := entries(node)
	if err != nil {
		return "", err
	}
	if len(list) == 0 {
		return "", errFlow
	}
	return appended(lines, list, path[depth:], func(indent int) []string { return laid(rule, indent, indent+2) }), nil
}

// laid lays a rule's lines out behind a dash. Comments that it begins with come
// before.
func laid(rule string, dash, indent int) []string {
	var out []string
	begun := false
	for _, l := range strings.Split(strings.TrimRight(rule, "\n"), "\n") {
		switch trimmed := strings.TrimSpace(l); {
		case trimmed == "" && begun:
			out = append(out, "")
		case trimmed == "":
		case begun:
			out = append(out, strings.Repeat(" ", indent)+l)
		case strings.HasPrefix(trimmed, "#"):
			out = append(out, strings.Repeat(" ", dash)+trimmed)
		default:
			begun = true
			out = append(out, strings.Repeat(" ", dash)+"-"+strings.Repeat(" ", indent-dash-1)+l)
		}
	}
	return out
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
