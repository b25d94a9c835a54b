package catalog

import (
	"fmt"
	"strings"
)

// Markdown is docs/catalogue.md.
func Markdown() string {
	var b strings.Builder
	all := All()
	fmt.Fprintf(&b, `<!-- Made of internal/catalog by go test ./internal/catalog -update. DO NOT EDIT. -->

# Catalogue

What can be heard from the two systems and what can be done at them: %d entries, of which %d triggers and %d actions. The same as data: %scauseway catalog --json%s.

**Mapped** entries are what Causeway uses without being told to; the others are there for rules and for your own programs. A **webhook** costs one fetch of the record that it is about; a **poll** asks what changed since a watermark; a **sweep** reads all of it, where a system lists no dates of change. Any trigger may come twice, late and out of order.

**Again** says what doing an action twice leads to: %sread%s changes nothing, %sidempotent%s leaves what once leaves, %srepeats%s is done twice. **Calls** are what it takes from the call budget, for each page where it says so. Sections are those of the dossiers about the two APIs, which are kept apart from this repository; what they mark as uncertain about Novi is configuration: the name in brackets is the path's under %snovi.paths%s.

There is no %sPUT /contacts/{contactId}/tags%s in GHL, though much is written about it: POST adds, DELETE removes, and %sPUT /contacts/{contactId}%s with %stags%s replaces.
`, len(all), len(Find("", Trigger)), len(Find("", Action)), "`", "`", "`", "`", "`", "`", "`", "`", "`", "`", "`", "`", "`", "`", "`", "`")
	for _, part := range []struct{ title, system, kind string }{
		{"GoHighLevel: triggers", GHL, Trigger}, {"GoHighLevel: actions", GHL, Action},
		{"Novi AMS: triggers", Novi, Trigger}, {"Novi AMS: actions", Novi, Action},
	} {
		fmt.Fprintf(&b, "\n## %s\n\n", part.title)
		if part.kind == Trigger {
			b.WriteString("| id | what | how | event or call | scope | record | mapped | known from |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n")
		} else {
			b.WriteString("| id | what | call | scope | again | calls | record | mapped | known from |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n")
		}
		for _, e := range Find(part.system, part.kind) {
			if e.Kind == Trigger {
				fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s | %s | %s |\n", e.ID, e.Title, e.How, e.What(), dash(e.Scope), dash(e.Canonical), yes(e.Mapped), e.Source)
				continue
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s | %s | %s | %s |\n", e.ID, e.Title, e.What(), dash(e.Scope), e.Effect, e.Cost(), dash(e.Canonical), yes(e.Mapped), e.Source)
		}
	}
	return b.String()
}

// What is the event that tells of a trigger, or the call.
func (e Entry) What() string {
	if e.Event != "" {
		return "`" + e.Event + "`"
	}
	path := strings.TrimSpace(e.Method + " " + e.Path)
	if e.PathKey != "" {
		return "`" + path + "` (" + e.PathKey + ")"
	}
	return "`" + path + "`"
}

// Cost is the calls that it costs, in words.
func (e Entry) Cost() string {
	if e.Paged {
		return fmt.Sprintf("%d a page", e.Calls)
	}
	return fmt.Sprint(e.Calls)
}

func dash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "–"
}
