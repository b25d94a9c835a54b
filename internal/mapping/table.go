package mapping

import (
	"fmt"
	"strings"
)

// Table is rows by which each system's name of a thing and ours are told from
// one another.
type Table struct {
	Rows      []Row
	ghl, novi *pairs
}

// newTable checks that no name stands twice in a column.
func newTable(rows []Row) (*Table, error) {
	t := &Table{Rows: rows}
	ghl, novi, names := map[string]string{}, map[string]string{}, map[string]bool{}
	for i, r := range rows {
		switch {
		case r.Name == "":
			return nil, fmt.Errorf("row %d: has no name", i+1)
		case names[r.Name]:
			return nil, fmt.Errorf("row %d: its name is taken", i+1)
		}
		names[r.Name] = true
		if r.GHL != "" {
			ghl[r.Name] = r.GHL
		}
		if r.Novi != "" {
			novi[r.Name] = r.Novi
		}
	}
	var err error
	if t.ghl, err = newPairs(ghl); err != nil {
		return nil, fmt.Errorf("ghl: %w", err)
	}
	if t.novi, err = newPairs(novi); err != nil {
		return nil, fmt.Errorf("novi: %w", err)
	}
	return t, nil
}

// pairs is a one-to-one table of canonical values and a system's.
//
// A value that is not in it is the same at both sides, so that nothing that
// people made up is lost, with one exception: a canonical value that the
// system would show as another one is not written.
type pairs struct {
	theirs, ours map[string]string
}

func newPairs(theirs map[string]string) (*pairs, error) {
	p := &pairs{theirs: theirs, ours: make(map[string]string, len(theirs))}
	for our, their := range theirs {
		switch _, twice := p.ours[their]; {
		case twice:
			return nil, fmt.Errorf("%q stands for two values", their)
		case our == "" || their == "" || strings.TrimSpace(our) != our || strings.TrimSpace(their) != their:
			return nil, fmt.Errorf("%q: %q is empty or has space around it", our, their)
		}
		p.ours[their] = our
	}
	return p, nil
}

func (p *pairs) read(their string) string {
	if our, ok := p.ours[their]; ok {
		return our
	}
	return their
}

// write reports false for a value that has no spelling at the system.
func (p *pairs) write(our string) (string, bool) {
	if their, ok := p.theirs[our]; ok {
		return their, true
	}
	_, taken := p.ours[our]
	return our, !taken
}
