package main

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// meter tells how far long work has come: on a terminal in one line that is
// written over, with a bar if it is known how much there is, else in a line for
// each change.
type meter struct {
	out      io.Writer
	terminal bool
	last     string
}

// newMeter writes to stderr, so that what is piped holds the result only.
func newMeter() *meter {
	info, err := os.Stderr.Stat()
	return &meter{out: os.Stderr, terminal: err == nil && info.Mode()&os.ModeCharDevice != 0}
}

// barWidth is in characters.
const barWidth = 24

// say tells that done of total is done; a total of 0 is not known.
func (m *meter) say(line string, done, total int) {
	if m.terminal && total > 0 {
		full := barWidth * min(done, total) / total
		line = fmt.Sprintf("[%s%s] %3d %%  %s", strings.Repeat("#", full), strings.Repeat(".", barWidth-full), 100*min(done, total)/total, line)
	}
	if line == m.last {
		return
	}
	m.last = line
	if m.terminal {
		_, _ = fmt.Fprint(m.out, "\r\x1b[K", line) // whoever looks on sees the next one
		return
	}
	_, _ = fmt.Fprintln(m.out, line)
}

// end leaves the last line where it is.
func (m *meter) end() {
	if m.terminal && m.last != "" {
		_, _ = fmt.Fprintln(m.out)
	}
}
