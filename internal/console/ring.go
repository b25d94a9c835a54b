package console

import (
	"fmt"
	"strings"
)

// depth is how many samples are kept of a tenant: ten minutes of one each 2 s.
const depth = 300

// sample is what a tenant looked like at one moment.
type sample struct {
	lag    int32 // messages that wait for it
	toGHL  int32 // writes since the sample before
	toNovi int32
}

// ring keeps the last samples.
type ring struct {
	at   int
	n    int
	kept [depth]sample
}

func (r *ring) add(s sample) {
	r.kept[r.at] = s
	r.at = (r.at + 1) % depth
	r.n = min(r.n+1, depth)
}

// last returns the last n samples, the oldest first; fewer if there are not so
// many.
func (r *ring) last(n int) []sample {
	n = min(n, r.n)
	out := make([]sample, n)
	for i := range out {
		out[i] = r.kept[(r.at-n+i+depth)%depth]
	}
	return out
}

// The size of a spark line in its own units.
const (
	sparkWidth  = 120
	sparkHeight = 24
)

// spark is a line as SVG draws it.
type spark struct {
	Line string // the points of a polyline
	Area string // and of the polygon below it
	Max  int
}

// drawn makes a line of values, the newest at the right, with width for depth
// of them. Its height is that of the largest.
func drawn(values []int) spark {
	s := spark{Max: 0}
	for _, v := range values {
		s.Max = max(s.Max, v)
	}
	if len(values) == 0 {
		return s
	}
	const margin = 2.0
	var b strings.Builder
	x := func(i int) float64 { return sparkWidth - float64(len(values)-1-i)*sparkWidth/float64(depth-1) }
	for i, v := range values {
		y := sparkHeight - margin
		if s.Max > 0 {
			y -= float64(v) / float64(s.Max) * (sparkHeight - 2*margin)
		}
		fmt.Fprintf(&b, "%.1f,%.1f ", x(i), y)
	}
	s.Line = strings.TrimSpace(b.String())
	s.Area = fmt.Sprintf("%.1f,%d %s %d,%d", x(0), sparkHeight, s.Line, sparkWidth, sparkHeight)
	return s
}

// smoothed sums each run of width values, so that single writes make a line.
func smoothed(values []int, width int) []int {
	out := make([]int, len(values))
	sum := 0
	for i, v := range values {
		sum += v
		if i >= width {
			sum -= values[i-width]
		}
		out[i] = sum
	}
	return out
}
