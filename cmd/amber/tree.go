package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// paper is what a tree is drawn on.
type paper struct {
	width, height int
	colour        bool
}

// drawTree returns the lines that show root as it is at now: at most p.height lines
// of at most p.width columns. It shows less detail until that is so.
func drawTree(root *call, now time.Time, p paper) []string {
	rows := rowsOf(root, now, details[0])
	for _, d := range details[1:] {
		if len(rows) <= p.height {
			break
		}
		rows = rowsOf(root, now, d)
	}
	rows = cut(rows, p.height)

	left := 0
	for _, r := range rows {
		left = max(left, columns.StringWidth(r.head()))
	}
	left = min(left, p.width/2)
	lines := make([]string, len(rows))
	for i, r := range rows {
		lines[i] = r.paint(left, p)
	}
	return lines
}

// detail is how much of a tree is shown.
type detail struct {
	siblings int  // calls of one caller that are shown, the others are counted
	closed   bool // calls below one that has ended are left out
}

// details are tried in this order until the tree is not too tall.
var details = []detail{{8, false}, {8, true}, {5, true}, {3, true}, {2, true}, {1, true}}

// row is one line before it is fitted and coloured.
type row struct {
	prefix string // the branches that lead to it
	glyph  string
	label  string
	phase  phase // empty for a row that stands for others
	took   string
	note   string
}

func rowsOf(root *call, now time.Time, d detail) []row {
	return appendRows(nil, root, "", "", now, d)
}

// appendRows draws c and what is below it. first leads to c itself, rest to
// the lines of its children.
func appendRows(rows []row, c *call, first, rest string, now time.Time, d detail) []row {
	rows = append(rows, rowOf(c, first, now))
	if d.closed && c.phase.over() && rest != "" {
		return rows
	}
	shown, hidden, before := fold(c.children, d.siblings)
	if len(hidden) > 0 && before {
		rows = append(rows, foldRow(hidden, rest+"├─ "))
	}
	for i, child := range shown {
		branch, stem := "├─ ", "│  "
		if i == len(shown)-1 && (before || len(hidden) == 0) {
			branch, stem = "└─ ", "   "
		}
		rows = appendRows(rows, child, rest+branch, rest+stem, now, d)
	}
	if len(hidden) > 0 && !before {
		rows = append(rows, foldRow(hidden, rest+"└─ "))
	}
	return rows
}

// fold chooses the calls worth a line: those that go on, then failures, then
// the latest. before reports that all hidden ones come before the shown. A single
// hidden call would save no line.
func fold(calls []*call, limit int) (shown, hidden []*call, before bool) {
	if len(calls) <= limit+1 {
		return calls, nil, false
	}
	order := make([]int, len(calls))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		if c := cmp.Compare(interest(calls[a]), interest(calls[b])); c != 0 {
			return c
		}
		if calls[a].phase.over() {
			return cmp.Compare(b, a)
		}
		return cmp.Compare(a, b)
	})
	chosen := order[:limit]
	for i, c := range calls {
		if slices.Contains(chosen, i) {
			shown = append(shown, c)
		} else {
			hidden = append(hidden, c)
		}
	}
	before = slices.Min(chosen) == len(hidden)
	return shown, hidden, before
}

func interest(c *call) int {
	switch c.phase {
	case running, waiting, sleeping:
		return 0
	case failed:
		return 1
	case queued:
		return 2
	}
	return 3
}

func foldRow(hidden []*call, prefix string) row {
	count := make(map[phase]int)
	for _, c := range hidden {
		count[c.phase]++
	}
	var parts []string
	for _, p := range []phase{completed, failed, cancelled, running, waiting, sleeping, queued} {
		if count[p] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", count[p], p))
		}
	}
	label := fmt.Sprintf("and %d more (%s)", len(hidden), strings.Join(parts, ", "))
	return row{prefix: prefix, glyph: "…", label: label}
}

// cut leaves out the middle of what is still too tall.
func cut(rows []row, height int) []row {
	height = max(height, 3)
	if len(rows) <= height {
		return rows
	}
	top := height / 2
	bottom := len(rows) - (height - top - 1)
	gap := row{glyph: "…", label: fmt.Sprintf("%d more lines", bottom-top)}
	return slices.Concat(rows[:top], []row{gap}, rows[bottom:])
}

func rowOf(c *call, prefix string, now time.Time) row {
	r := row{
		prefix: prefix,
		glyph:  glyphOf(c.phase, now),
		label:  printable(c.label),
		phase:  c.phase,
		took:   span(cmp.Or(c.ended, now).Sub(c.started)),
	}
	switch {
	case c.stuck != "" && !c.phase.over():
		r.note = "stuck: " + printable(c.stuck)
	case c.phase == queued:
		r.took = ""
	default:
		r.note = noteOf(c, now)
	}
	return r
}

// noteOf says what there is to say of a call besides its phase.
func noteOf(c *call, now time.Time) string {
	var notes []string
	add := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	left := func(t time.Time) string { return span(max(t.Sub(now), 0)) }
	switch {
	case c.phase.over():
	case c.ending != "":
		why := map[string]string{"cancel": "is being cancelled", "timeout": "is out of time"}[c.ending]
		add("%s, has %s to tidy up", cmp.Or(why, printable(c.ending)), left(c.deadline))
	case !c.deadline.IsZero():
		add("times out in %s", left(c.deadline))
	}
	switch {
	case c.phase == sleeping && c.tries > 0:
		add("tries again in %s after %s: %s", left(c.due), failedTries(c.tries), printable(c.lastTry))
	case c.phase == sleeping && !c.due.IsZero():
		add("wakes in %s", left(c.due))
	case c.phase == failed:
		if c.tries > 0 {
			add("%s (tried %d times)", printable(c.reason), c.tries+1)
		} else {
			add("%s", printable(c.reason))
		}
	case c.tries > 0 && c.phase != cancelled:
		add("after %s: %s", failedTries(c.tries), printable(c.lastTry))
	}
	if c.late {
		add("its answer came too late")
	}
	return strings.Join(notes, "; ")
}

func failedTries(n int) string {
	if n == 1 {
		return "a try that failed"
	}
	return fmt.Sprintf("%d tries that failed", n)
}

// spinner turns where something runs.
var spinner = []string{"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"}

func glyphOf(p phase, now time.Time) string {
	switch p {
	case running:
		return spinner[now.UnixMilli()/100%int64(len(spinner))]
	case waiting:
		return "◐"
	case sleeping:
		return "◷"
	case completed:
		return "✓"
	case failed:
		return "✗"
	case cancelled:
		return "⊘"
	}
	return "○"
}

func (r row) head() string {
	if r.phase == "" {
		return "" // not part of the table
	}
	return r.prefix + r.glyph + " " + r.label
}

// leastLabel is how many columns of a name are shown however deep it is.
const leastLabel = 12

// paint writes the row with its first column left columns wide.
func (r row) paint(left int, p paper) string {
	b := brush{left: p.width, colour: p.colour}
	b.add(dim, r.prefix)
	if r.phase == "" {
		b.add(dim, r.glyph+" "+r.label)
		return b.String()
	}
	b.add(colours[r.phase], r.glyph)
	label := " " + r.label
	room := max(left-columns.StringWidth(r.prefix+r.glyph), min(columns.StringWidth(label), leastLabel))
	b.add(plain, pad(fitName(label, room), room))
	note := ""
	if r.note != "" {
		note = "  " + r.note
	}
	b.addBefore(note, colours[r.phase], "  "+pad(string(r.phase), len(completed)))
	b.addBefore(note, dim, fmt.Sprintf("  %6s", r.took))
	b.add(dim, note)
	return b.String()
}
