package config

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// located adds the file, and the line that the key at err's beginning is on,
// or the nearest one around it.
func located(path string, text []byte, err error) error {
	key, _, _ := strings.Cut(err.Error(), ": ")
	if line := lineOf(text, key); line > 0 {
		return fmt.Errorf("%s:%d: %w", path, line, err)
	}
	return fmt.Errorf("%s: %w", path, err)
}

var (
	note  = regexp.MustCompile(` \([^)]*\)`)      // tenants[0] (alpine-guild).ghl
	index = regexp.MustCompile(`^(.*)\[(\d+)\]$`) // tenants[0]
)

// lineOf returns the line of a key such as tenants[0].mapping.users, or 0. A
// part of it may hold dots, as the names of fields do.
func lineOf(text []byte, key string) int {
	file, err := parser.ParseBytes(text, 0)
	if err != nil || len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return 0
	}
	node, line := file.Docs[0].Body, 0
	parts := strings.Split(note.ReplaceAllString(key, ""), ".")
	for len(parts) > 0 {
		taken := 0
		for n := len(parts); n > 0 && taken == 0; n-- {
			name, item := strings.Join(parts[:n], "."), -1
			if m := index.FindStringSubmatch(name); m != nil {
				name = m[1]
				item, _ = strconv.Atoi(m[2]) // digits, as the expression says
			}
			value := valueOf(node, name)
			if value == nil {
				continue
			}
			taken, line, node = n, value.Key.GetToken().Position.Line, value.Value
			if list, ok := node.(*ast.SequenceNode); ok && item >= 0 && item < len(list.Values) {
				node = list.Values[item]
				line = node.GetToken().Position.Line
			}
		}
		if taken == 0 {
			break
		}
		parts = parts[taken:]
	}
	return line
}

func valueOf(node ast.Node, name string) *ast.MappingValueNode {
	var values []*ast.MappingValueNode
	switch n := node.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	}
	for _, v := range values {
		if v.Key.GetToken().Value == name {
			return v
		}
	}
	return nil
}
