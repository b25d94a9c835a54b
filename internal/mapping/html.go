package mapping

import (
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// plainText is the canonical form of a text whose other side is HTML: lines
// without space at their ends, nothing that HTML can't hold.
func plainText(s string) string {
	s = strings.ReplaceAll(s, "\r\n", "\n")
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r':
			return '\n'
		case r < ' ' || r == 0x7f || r == nbsp:
			return ' '
		}
		return r
	}, s)
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.TrimSpace(strings.Join(lines, "\n"))
}

const nbsp = '\u00a0'

// TextToHTML spells plain text as HTML: what [HTMLToText] reads back.
func TextToHTML(s string) string {
	var b strings.Builder
	for i, line := range strings.Split(plainText(s), "\n") {
		if i > 0 {
			b.WriteString("<br>")
		}
		// A browser shows of several spaces one, and none at a line's start.
		before := ' '
		for _, r := range line {
			if r == ' ' && before == ' ' {
				b.WriteString("&nbsp;")
				continue
			}
			b.WriteString(html.EscapeString(string(r)))
			before = r
		}
	}
	return b.String()
}

// HTMLToText is what a person reads of an HTML text: lines, list items with a
// dash, links with their address.
func HTMLToText(s string) string {
	var b strings.Builder
	lineStart := true // nothing but the beginning, or a break, before
	fresh := func() { // the next text begins on a line of its own
		if !lineStart {
			b.WriteByte('\n')
			lineStart = true
		}
	}
	gap := false // white space waits for what follows
	write := func(text string) {
		if gap && !lineStart {
			b.WriteByte(' ')
		}
		gap, lineStart = false, false
		b.WriteString(text)
	}
	link, linked := "", 0
	hidden := 0
	tokens := html.NewTokenizer(strings.NewReader(s))
	for {
		switch tokens.Next() {
		case html.ErrorToken: // the end: a text never fails otherwise
			return plainText(b.String())
		case html.TextToken:
			if hidden > 0 {
				continue
			}
			text := tokens.Token().Data
			for len(text) > 0 {
				word := strings.TrimLeft(text, htmlSpace)
				gap = gap || len(word) < len(text)
				end := strings.IndexAny(word, htmlSpace)
				if end < 0 {
					end = len(word)
				}
				if end > 0 {
					write(word[:end])
				}
				text = word[end:]
			}
		case html.StartTagToken, html.SelfClosingTagToken:
			t := tokens.Token()
			switch t.DataAtom {
			case atom.Br:
				b.WriteByte('\n')
				gap, lineStart = false, true
			case atom.Li:
				fresh()
				write("- ")
			case atom.Script, atom.Style, atom.Title:
				hidden++
			case atom.A:
				link, linked = "", b.Len()
				for _, a := range t.Attr {
					if a.Key == "href" {
						link = strings.TrimSpace(a.Val)
					}
				}
			default:
				if blocks[t.DataAtom] {
					fresh()
				}
			}
		case html.EndTagToken:
			switch t := tokens.Token(); {
			case t.DataAtom == atom.Script || t.DataAtom == atom.Style || t.DataAtom == atom.Title:
				hidden = max(0, hidden-1)
			case t.DataAtom == atom.A:
				if link != "" && !strings.Contains(link, strings.TrimSpace(b.String()[min(linked, b.Len()):])) {
					write(" (" + link + ")")
				}
				link = ""
			case blocks[t.DataAtom] || t.DataAtom == atom.Li:
				fresh()
			}
		}
	}
}

// htmlSpace is what HTML takes for white space; a fixed space is none.
const htmlSpace = " \t\n\f\r"

var blocks = map[atom.Atom]bool{
	atom.P: true, atom.Div: true, atom.Ul: true, atom.Ol: true, atom.Table: true, atom.Tr: true, atom.Blockquote: true, atom.Pre: true,
	atom.H1: true, atom.H2: true, atom.H3: true, atom.H4: true, atom.H5: true, atom.H6: true, atom.Section: true, atom.Article: true, atom.Hr: true,
}
