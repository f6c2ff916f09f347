package main

import (
	"fmt"
	"io"
	"slices"
	"time"
)

// scene is what there is to see of a run at one moment.
type scene struct {
	root *call
	logs []logLine // new since the scene before
	now  time.Time
	lost time.Duration // how long the host has not answered; 0 while it does
}

// view shows a run to whoever watches it.
type view interface {
	show(scene)
}

// newView draws on stderr if that is a terminal, else writes lines; programs
// get lines of JSON on stdout.
func (p *program) newView() view {
	if p.output == outputJSON {
		return newJSONView(p)
	}
	if t, ok := terminalOf(p.stderr, p.getenv); ok {
		return &liveView{out: t, colour: p.colours(p.stderr)}
	}
	return newLineView(p.stderr)
}

func newLineView(w io.Writer) *lineView {
	return &lineView{out: w, told: make(map[string]phase), stuck: make(map[string]string)}
}

// lineView writes a line for each change: for logs and pipes. Lines bear the
// time of what they tell, counted from the run's start.
type lineView struct {
	out   io.Writer
	told  map[string]phase  // by call id, what the reader knows
	stuck map[string]string // by call id, the reason that was told
	lost  bool
}

type event struct {
	at   time.Time
	text string
}

func (v *lineView) show(s scene) {
	var events []event
	if lost := s.lost > 0; lost != v.lost {
		v.lost = lost
		text := "host is back"
		if lost {
			text = "host unreachable, retrying (the run is safe in its database)"
		}
		events = append(events, event{s.now, text})
	}
	for _, l := range s.logs {
		events = append(events, event{l.At, fmt.Sprintf("[%s] %s", printable(l.Level), l.text())})
	}
	events = v.news(events, s.root, "", s.now)
	slices.SortStableFunc(events, func(a, b event) int { return a.at.Compare(b.at) })
	for _, e := range events {
		since := time.Duration(0)
		if !s.root.started.IsZero() {
			since = max(e.at.Sub(s.root.started), 0)
		}
		fmt.Fprintf(v.out, "%8.2fs  %s\n", since.Seconds(), e.text)
	}
}

// news appends what is new about c: its beginning before its children's news,
// its end after them.
func (v *lineView) news(events []event, c *call, path string, now time.Time) []event {
	path += printable(c.label)
	before, known := v.told[c.id]
	v.told[c.id] = c.phase
	if !c.phase.over() && (!known || matters(before, c.phase)) {
		events = append(events, event{c.started, path + ": " + beginning(c)})
	}
	if c.stuck != v.stuck[c.id] && !c.phase.over() {
		v.stuck[c.id] = c.stuck
		text := ": stuck: " + printable(c.stuck)
		if c.stuck == "" {
			text = ": not stuck any more"
		}
		events = append(events, event{now, path + text})
	}
	for _, child := range c.children {
		events = v.news(events, child, path+" > ", now)
	}
	if c.phase.over() && before != c.phase {
		events = append(events, event{c.ended, path + ": " + end(c)})
	}
	return events
}

// matters leaves out that a caller waits for each of its calls and runs on
// after it: the calls' own lines say so.
func matters(before, after phase) bool {
	busy := func(p phase) bool { return p == running || p == waiting }
	return before != after && !(busy(before) && busy(after))
}

func beginning(c *call) string {
	switch {
	case c.phase == queued:
		return "queued"
	case c.phase == sleeping && c.tries > 0:
		return fmt.Sprintf("tries again after %s: %s", failedTries(c.tries), printable(c.lastTry))
	case c.phase == sleeping && !c.due.IsZero():
		return "sleeping for " + span(c.due.Sub(c.started))
	case c.phase == sleeping:
		return "sleeping"
	}
	return "started"
}

func end(c *call) string {
	took := span(c.ended.Sub(c.started))
	if c.phase == failed {
		return fmt.Sprintf("failed after %s: %s", took, printable(c.reason))
	}
	return fmt.Sprintf("%s in %s", c.phase, took)
}
