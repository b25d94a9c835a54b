package canonical

import (
	"iter"
	"maps"
	"slices"
	"strings"
)

// ReadingLen is how many letters stand for one reading.
const ReadingLen = 4

// unread stands for a reading that nobody has noted.
const unread = "...."

// TagsReading is the name under which readings speak of the tags.
const TagsReading = "tags"

// Reread returns the fields, and [TagsReading] for the tags, that the mapping
// read in another way when the record was last seen than now says: a word for
// everything that a field's reading depends on. What is in now and was noted by
// nobody, as in states from before readings were, is taken to be read alike:
// it most likely was, and what a user has cleared since would be lost
// otherwise.
func (b Base) Reread(now map[string]string) []string {
	var out []string
	for name, word := range b.readings() {
		if is := now[name]; is != "" && is != word {
			out = append(out, name)
		}
	}
	return out
}

// ReadWhole reports whether it is noted of everything how it was read.
func (b Base) ReadWhole() bool { return b.Reading != "" && !strings.Contains(b.Reading, unread) }

// readings goes through what is noted.
func (b Base) readings() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		if b.Reading == "" {
			return
		}
		names := b.readingNames()
		if len(b.Reading) != ReadingLen*len(names) {
			return
		}
		for i, name := range names {
			if word := b.Reading[i*ReadingLen : (i+1)*ReadingLen]; word != unread && !yield(name, word) {
				return
			}
		}
	}
}

// SetReadings notes how the fields that a sight covers are read now, and how
// the others were when before was seen.
func (b *Base) SetReadings(before Base, now map[string]string, covered func(name string) bool) {
	was := maps.Collect(before.readings())
	var all strings.Builder
	known := false
	for _, name := range b.readingNames() {
		word := was[name]
		if covered(name) {
			word = now[name]
		}
		if len(word) != ReadingLen {
			word = unread
		}
		known = known || word != unread
		all.WriteString(word)
	}
	if b.Reading = ""; known {
		b.Reading = all.String()
	}
}

// readingNames are what a base's Reading has a word for, in that order.
func (b Base) readingNames() []string {
	return append([]string{TagsReading}, slices.Sorted(maps.Keys(b.Fields))...)
}
