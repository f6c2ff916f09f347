package main

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/term"
)

// terminal is a writer that knows its size in columns and rows.
type terminal interface {
	io.Writer
	Size() (width, height int, err error)
}

// terminalOf returns w as a terminal that can redraw, if it is one.
func terminalOf(w io.Writer, getenv func(string) string) (terminal, bool) {
	if getenv("TERM") == "dumb" {
		return nil, false
	}
	if t, ok := w.(terminal); ok {
		return t, true
	}
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil, false
	}
	return fileTerminal{f}, true
}

// colours reports whether what is written to w may be coloured.
func (p *program) colours(w io.Writer) bool {
	_, terminal := terminalOf(w, p.getenv)
	return terminal && p.getenv("NO_COLOR") == ""
}

type fileTerminal struct{ *os.File }

func (t fileTerminal) Size() (width, height int, err error) { return term.GetSize(int(t.Fd())) }

// A tree taller than this is no longer seen at a glance.
const tallest = 40

// liveView draws the tree and draws it again in the same place; what a task
// logs is written above it and scrolls away.
type liveView struct {
	out    terminal
	colour bool
	drawn  []int // columns of the lines on the screen, below the logs
}

func (v *liveView) show(s scene) {
	p := v.paper()
	if s.lost > 0 {
		p.height--
	}
	tree := drawTree(s.root, s.now, p)
	if s.lost > 0 {
		b := brush{left: p.width, colour: p.colour}
		b.add(yellow, "! host unreachable, retrying for "+span(s.lost))
		b.add(dim, "  (the run is safe in its database)")
		tree = append(tree, b.String())
	}
	v.draw(v.logLines(s.logs), tree, p.width+1)
}

func (v *liveView) logLines(logs []logLine) []string {
	lines := make([]string, len(logs))
	for i, l := range logs {
		b := brush{left: wrapped, colour: v.colour}
		b.add(levels[l.Level], fmt.Sprintf("%5s", printable(l.Level)))
		b.add(plain, " "+l.text())
		lines[i] = b.String()
	}
	return lines
}

// wrapped is the width of a line that the terminal may wrap.
const wrapped = 1 << 30

var levels = map[string]style{"debug": dim, "info": dim, "log": dim, "warn": yellow, "error": red}

// draw replaces what is on the screen in one write, so that nothing flickers.
// A terminal that has become narrower since has wrapped what is there.
func (v *liveView) draw(logs, tree []string, width int) {
	var b strings.Builder
	rows := 0
	for _, taken := range v.drawn {
		rows += max(1, (taken+width-1)/width)
	}
	if rows > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\r", rows)
	}
	for _, line := range slices.Concat(logs, tree) {
		b.WriteString(line + "\x1b[K\n")
	}
	b.WriteString("\x1b[J")
	v.drawn = v.drawn[:0]
	for _, line := range tree {
		v.drawn = append(v.drawn, columns.StringWidth(colouring.ReplaceAllString(line, "")))
	}
	_, _ = io.WriteString(v.out, b.String())
}

// colouring is what a brush adds to a line and takes no column.
var colouring = regexp.MustCompile("\x1b\\[[0-9]*m")

// paper leaves the last column and two rows free: a line that fills its row
// wraps on some terminals, and the cursor needs a row.
func (v *liveView) paper() paper {
	width, height, err := v.out.Size()
	if err != nil || width <= 0 || height <= 0 {
		width, height = 80, 24
	}
	return paper{width: width - 1, height: min(max(height-2, 3), tallest), colour: v.colour}
}
