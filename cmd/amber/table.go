package main

import "strings"

// table is columns of text for people.
type table struct {
	head []string
	rows [][]cell
}

type cell struct {
	text  string
	style style
}

// words are a cell without a style.
func words(text string) cell { return cell{text: text} }

func (t *table) add(cells ...cell) { t.rows = append(t.rows, cells) }

// printTable writes t to stdout: in colours if that is a terminal, whose last
// column is then cut to what is left of the line.
func (p *program) printTable(t table) error {
	width, colour := wrapped, p.colours(p.stdout)
	if term, ok := terminalOf(p.stdout, p.getenv); ok {
		if w, _, err := term.Size(); err == nil && w > 0 {
			width = w
		}
	}
	return p.print(t.draw(width, colour))
}

// leastLast is how much is left of the last column on however narrow a
// terminal: a wrapped line is better than one that says nothing.
const leastLast = 10

func (t table) draw(width int, colour bool) string {
	widths := make([]int, len(t.head))
	head := make([]cell, len(t.head))
	for i, h := range t.head {
		head[i] = cell{h, dim}
	}
	rows := append([][]cell{head}, t.rows...)
	for _, row := range rows {
		for i, c := range row {
			widths[i] = max(widths[i], columns.StringWidth(c.text))
		}
	}
	left := width
	for _, w := range widths[:len(widths)-1] {
		left -= w + 2
	}
	left = max(left, leastLast)
	var out strings.Builder
	for _, row := range rows {
		b := brush{left: wrapped, colour: colour}
		for i, c := range row {
			if i == len(row)-1 {
				b.add(c.style, fit(c.text, left))
				break
			}
			b.add(c.style, c.text)
			b.add(plain, strings.Repeat(" ", widths[i]-columns.StringWidth(c.text)+2))
		}
		out.WriteString(b.String() + "\n")
	}
	return out.String()
}
