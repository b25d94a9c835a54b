package mapping

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// ListSeparator is what the items of a [List] are kept apart by in its
// canonical text.
const ListSeparator = "; "

// JoinList is the canonical text of a list, which is a set: sorted, each item
// once. [SplitList] gives the items back. A separator within an item is
// written percent-encoded, so that every set survives.
func JoinList(items []string) string {
	items = slices.Clone(items)
	for i := range items {
		items[i] = strings.TrimSpace(items[i])
	}
	items = slices.DeleteFunc(items, func(s string) bool { return s == "" })
	slices.Sort(items)
	return joinWith(slices.Compact(items), ListSeparator)
}

// SplitList returns the items of a list's canonical text.
func SplitList(s string) []string { return splitAt(s, ListSeparator) }

var encoded = regexp.MustCompile(`%([0-9A-Fa-f]{2})`)

// at is what a text is split at: the separator without the space around it,
// if there is anything else.
func at(separator string) string {
	if s := strings.TrimSpace(separator); s != "" {
		return s
	}
	return separator
}

// checkSeparator refuses what could be taken for a part of an encoded byte.
func checkSeparator(s string) error {
	for _, r := range at(s) {
		if r > 127 || r == '%' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return fmt.Errorf("%q: letters, digits and %% don't separate", s)
		}
	}
	return nil
}

func joinWith(items []string, separator string) string {
	out := make([]string, len(items))
	for i, item := range items {
		out[i] = encoded.ReplaceAllString(item, "%25$1")
		for _, r := range at(separator) {
			out[i] = strings.ReplaceAll(out[i], string(r), fmt.Sprintf("%%%02X", r))
		}
	}
	return strings.Join(out, separator)
}

// splitAt returns the items of s that are not blank.
func splitAt(s, separator string) []string {
	sep := at(separator)
	out := []string{}
	for item := range strings.SplitSeq(s, sep) {
		item = encoded.ReplaceAllStringFunc(item, func(code string) string {
			var b byte
			if _, err := fmt.Sscanf(code, "%%%02x", &b); err == nil && (b == '%' || strings.IndexByte(sep, b) >= 0) {
				return string(b)
			}
			return code
		})
		if item = strings.TrimSpace(item); item != "" {
			out = append(out, item)
		}
	}
	return out
}
