package main

import "strings"

// style is the middle of an SGR escape sequence; plain is none.
type style string

const (
	plain  style = ""
	dim    style = "2"
	red    style = "31"
	green  style = "32"
	yellow style = "33"
	blue   style = "34"
	cyan   style = "36"
)

var colours = map[phase]style{
	queued:    dim,
	running:   cyan,
	waiting:   blue,
	sleeping:  yellow,
	completed: green,
	failed:    red,
	cancelled: dim,
}

// brush writes one line piece by piece and stops at its end.
type brush struct {
	left   int // columns that are free
	colour bool
	text   strings.Builder
}

func (b *brush) add(s style, text string) {
	if b.left == 0 {
		return
	}
	text = fit(text, b.left)
	b.left -= columns.StringWidth(text)
	if s == plain || !b.colour || text == "" {
		b.text.WriteString(text)
		return
	}
	b.text.WriteString("\x1b[" + string(s) + "m" + text + "\x1b[0m")
}

// addWhole adds text if all of it fits; else the line ends here.
func (b *brush) addWhole(s style, text string) {
	if columns.StringWidth(text) > b.left {
		b.left = 0
	}
	b.add(s, text)
}

// leastNote is how many columns of a note are worth more than what is before
// it: the glyph says the phase too.
const leastNote = 16

// addBefore is addWhole for what may be left out to leave room for a note.
func (b *brush) addBefore(note string, s style, text string) {
	if note == "" || columns.StringWidth(text)+min(columns.StringWidth(note), leastNote) <= b.left {
		b.addWhole(s, text)
	}
}

// String returns the line without blanks at its end.
func (b *brush) String() string { return strings.TrimRight(b.text.String(), " ") }
