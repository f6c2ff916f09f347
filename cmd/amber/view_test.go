package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestLineView(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	v := newLineView(&out)

	root := under(leaf("order", running))
	v.show(scene{root: root, now: noon})
	nap := &call{id: "nap", label: "sleep", phase: sleeping, started: noon, due: noon.Add(2 * time.Second)}
	root = under(leaf("order", waiting), leaf("reserve", completed), nap)
	v.show(scene{root: root, now: noon, logs: []logLine{
		{At: ago(500 * time.Millisecond), Level: "info", Message: "two\nlines"},
		{At: ago(400 * time.Millisecond), Level: "warn", Message: "careful", Task: "reserve", nested: true},
	}})
	v.show(scene{root: root, now: noon}) // nothing new
	v.show(scene{root: root, now: noon.Add(time.Second), lost: time.Second})
	v.show(scene{root: root, now: noon.Add(2 * time.Second), lost: 2 * time.Second})
	nap = &call{id: "nap", label: "sleep", phase: completed, started: noon, ended: noon.Add(2 * time.Second)}
	end := under(leaf("order", failed), leaf("reserve", completed), nap)
	end.ended, end.reason = noon.Add(3*time.Second), "no stock"
	v.show(scene{root: end, now: noon.Add(3 * time.Second)})

	want := `
    0.00s  order: started
    0.50s  [info] two lines
    0.50s  order > reserve: completed in 500ms
    0.60s  [warn] reserve: careful
    1.00s  order > sleep: sleeping for 2.0s
    2.00s  host unreachable, retrying (the run is safe in its database)
    3.00s  order > sleep: completed in 2.0s
    4.00s  host is back
    4.00s  order: failed after 4.0s: no stock
`
	if got := out.String(); got != strings.TrimPrefix(want, "\n") {
		t.Errorf("got\n%s\nwant%s", got, want)
	}
}

// glass is a terminal of a size; it keeps what is written to it.
type glass struct {
	bytes.Buffer
	width, height int
}

func (g *glass) Size() (width, height int, err error) { return g.width, g.height, nil }

func TestLiveViewRedrawsInPlace(t *testing.T) {
	t.Parallel()
	out := &glass{width: 80, height: 10}
	v := &liveView{out: out}
	v.show(scene{root: under(leaf("order", waiting), leaf("reserve", running)), now: noon})
	first := out.String()
	if strings.Contains(first, "\x1b[2A") || strings.Count(first, "\n") != 2 {
		t.Errorf("first drawing: %q", first)
	}
	out.Reset()
	v.show(scene{
		root: under(leaf("order", waiting), leaf("reserve", completed)), now: noon, lost: 3 * time.Second,
		logs: []logLine{{Level: "warn", Message: "careful\x1b[2J", Task: "reserve", nested: true}},
	})
	want := "\x1b[2A\r" +
		" warn reserve: careful [2J\x1b[K\n" +
		"◐ order       waiting      1.0s\x1b[K\n" +
		"└─ ✓ reserve  completed   500ms\x1b[K\n" +
		"! host unreachable, retrying for 3.0s  (the run is safe in its database)\x1b[K\n" +
		"\x1b[J"
	if got := out.String(); got != want {
		t.Errorf("second drawing:\n%q, want\n%q", got, want)
	}
}

// A window that becomes narrower wraps the lines on it: the next drawing begins
// above all their rows.
func TestLiveViewInANarrowerWindow(t *testing.T) {
	t.Parallel()
	out := &glass{width: 80, height: 10}
	v := &liveView{out: out, colour: true}
	root := under(leaf("order", waiting), leaf("a-task-with-a-long-name", running))
	v.show(scene{root: root, now: noon}) // lines of 47 columns each
	for _, test := range []struct {
		width int
		up    string
	}{{47, "\x1b[2A\r"}, {20, "\x1b[6A\r"}, {80, "\x1b[2A\r"}} {
		out.Reset()
		out.width = test.width
		v.show(scene{root: root, now: noon})
		if got := out.String(); !strings.HasPrefix(got, test.up) {
			t.Errorf("%d columns: %q, want %q first", test.width, got, test.up)
		}
	}
}

func TestTerminalOf(t *testing.T) {
	t.Parallel()
	if _, ok := terminalOf(&bytes.Buffer{}, env(nil)); ok {
		t.Error("a buffer is taken for a terminal")
	}
	if _, ok := terminalOf(&glass{}, env(nil)); !ok {
		t.Error("a terminal is not recognised")
	}
	if _, ok := terminalOf(&glass{}, env(map[string]string{"TERM": "dumb"})); ok {
		t.Error("a dumb terminal cannot redraw")
	}
}
