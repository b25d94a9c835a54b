// Package doctest reads the commands that the documents show, so that tests can
// try them.
package doctest

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Command is one that a document shows.
type Command struct {
	// Where is the file and the line.
	Where string
	// Program is causeway, ingest, transform, sink or make.
	Program string
	Args    []string
	// Whole says that it stands in a block of its own, to be run as it is. Others
	// stand in a sentence, which may name a verb without what it needs.
	Whole bool
}

func (c Command) String() string { return c.Program + " " + strings.Join(c.Args, " ") }

// programs are those whose commands are read.
var programs = []string{"causeway", "ingest", "transform", "sink", "make"}

// quoted is code in a sentence.
var quoted = regexp.MustCompile("`([^`]+)`")

// choice is one of several words, of which the first is taken.
var choice = regexp.MustCompile(`\[?([^\s|\[\]\\]+)(\\?\|[^\s|\[\]]+)+\]?`)

// Commands returns what the documents below root show: every file .md but the
// change log, which tells of the past.
func Commands(root string) ([]Command, error) {
	var out []Command
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != root:
			return fs.SkipDir
		case filepath.Ext(path) != ".md" || d.Name() == "CHANGELOG.md":
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		block := "" // the language, with "```" before it
		for i, line := range strings.Split(string(text), "\n") {
			where := fmt.Sprintf("%s:%d", name, i+1)
			switch {
			case strings.HasPrefix(line, "```") && block != "":
				block = ""
			case strings.HasPrefix(line, "```"):
				block = line
			case block == "```sh":
				if c, ok := parse(line); ok {
					c.Where, c.Whole = where, true
					out = append(out, c)
				}
			case block == "":
				for _, code := range quoted.FindAllStringSubmatch(line, -1) {
					if c, ok := parse(code[1]); ok && len(c.Args) > 0 {
						c.Where = where
						out = append(out, c)
					}
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the documents: %w", err)
	}
	return out, nil
}

// parse reads a line of a shell, as far as the documents have any.
func parse(line string) (Command, bool) {
	line, _, _ = strings.Cut(line, " > ") // what it prints goes elsewhere
	line, _, _ = strings.Cut(line, "   #")
	words := strings.Fields(choice.ReplaceAllString(line, "$1"))
	if len(words) > 2 && words[0] == "go" && words[1] == "run" {
		words = words[2:]
		words[0] = strings.TrimPrefix(words[0], "./cmd/")
	}
	if len(words) == 0 {
		return Command{}, false
	}
	program := strings.TrimPrefix(words[0], "bin/")
	return Command{Program: program, Args: words[1:]}, slices.Contains(programs, program)
}
