package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/check"
)

func printCheck(out io.Writer, r check.Report, asJSON bool) error {
	if asJSON {
		if err := json.NewEncoder(out).Encode(r); err != nil {
			return fmt.Errorf("print report: %w", err)
		}
		return nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d entities", r.Entities)
	for _, stream := range slices.Sorted(maps.Keys(r.Messages)) {
		fmt.Fprintf(&b, ", %d messages of %s", r.Messages[stream], stream)
	}
	fmt.Fprintf(&b, "; %d invariants, %d violations", len(check.Invariants()), len(r.Violations)+r.Unnamed)
	if r.Open > 0 {
		fmt.Fprintf(&b, "; %d notices and writes are under way", r.Open)
	}
	b.WriteString("\n")
	for _, end := range slices.Sorted(maps.Keys(r.Ends)) {
		fmt.Fprintf(&b, "  notices %s: %d\n", end, r.Ends[end])
	}
	if r.Missing > 0 {
		fmt.Fprintf(&b, "  - %d messages inside of what RAW keeps are not there; an erasure purges some\n", r.Missing)
	}
	for _, v := range r.Violations[:min(len(r.Violations), mostPrinted)] {
		fmt.Fprintf(&b, "  ! %s\n", v)
	}
	if n := len(r.Violations) + r.Unnamed - mostPrinted; n > 0 {
		fmt.Fprintf(&b, "  ! and %d more, which --json prints\n", n)
	}
	_, err := io.WriteString(out, b.String())
	return err
}
