package main

import (
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode"

	"github.com/mattn/go-runewidth"
)

// printable makes text of a task harmless to a terminal and keeps it on one
// line: control characters, the escape that starts a sequence among them, become spaces.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return ' '
		}
		return r
	}, text)
}

// printableLines is printable for texts of several lines, such as stacks.
func printableLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = printable(line)
	}
	return strings.Join(lines, "\n")
}

// quoted writes text as one word of a shell's command line.
func quoted(text string) string {
	safe := func(r rune) bool {
		return r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("_-./:,=@%+", r))
	}
	if text != "" && strings.IndexFunc(text, func(r rune) bool { return !safe(r) }) < 0 {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// columns measures text. Characters of ambiguous width take one column,
// whatever the environment says: drawings must not depend on it.
var columns = &runewidth.Condition{StrictEmojiNeutral: true}

// fit shortens text to at most width columns.
func fit(text string, width int) string {
	return columns.Truncate(text, max(width, 0), "…")
}

// ordinal is what number adds to a call's name.
var ordinal = regexp.MustCompile(` #[0-9]+$`)

// fitName is fit for the names of calls: it cuts what siblings have in common,
// not what tells them apart.
func fitName(name string, width int) string {
	suffix := ordinal.FindString(name)
	if columns.StringWidth(name) <= width || columns.StringWidth(suffix) >= width {
		return fit(name, width)
	}
	return fit(strings.TrimSuffix(name, suffix), width-columns.StringWidth(suffix)) + suffix
}

// pad fills text up with spaces to width columns.
func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(width-columns.StringWidth(text), 0))
}

// span is a duration as people read it: 35ms, 1.2s, 2m05s, 3h10m.
func span(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Truncate(100*time.Millisecond).Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
}
