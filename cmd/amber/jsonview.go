package main

import (
	"encoding/json"
	"slices"
	"time"
)

// jsonView writes a line of JSON for each change, on stdout. The last line of
// a run that is watched to its end is what [program.ended] writes.
type jsonView struct {
	program *program
	told    map[string]phase
	stuck   map[string]string
	lost    bool
}

func newJSONView(p *program) *jsonView {
	return &jsonView{program: p, told: make(map[string]phase), stuck: make(map[string]string)}
}

// The kinds of lines.
const (
	eventStarted = "started" // the run has an id
	eventCall    = "call"    // a call, or the run itself, is in another phase
	eventLog     = "log"
	eventHost    = "host" // stopped answering, or is back
	eventEnded   = "ended"
)

// startEvent is the first line of a run that this program has started.
type startEvent struct {
	Event string `json:"event"`
	ID    string `json:"id"`
	Task  string `json:"task"`
}

// endEvent is the last line of a run.
type endEvent struct {
	Event  string          `json:"event"`
	ID     string          `json:"id"`
	Task   string          `json:"task"`
	Status string          `json:"status"`
	Result json.RawMessage `json:"result"`
	Error  json.RawMessage `json:"error"`
}

// callEvent is a line about a call.
type callEvent struct {
	Event string    `json:"event"`
	At    time.Time `json:"at"`
	ID    string    `json:"id"`
	Call  string    `json:"call"` // the names that lead to it: order > sleep #2
	Phase phase     `json:"phase"`
	Error string    `json:"error,omitempty"`
	Stuck string    `json:"stuck_reason,omitempty"`
}

type hostEvent struct {
	Event   string    `json:"event"`
	At      time.Time `json:"at"`
	Answers bool      `json:"answers"`
}

// logEvent is a line of a task's console.
type logEvent struct {
	Event string `json:"event,omitempty"`
	logLine
}

// timed is a line and when that was of which it tells.
type timed struct {
	at    time.Time
	value any
}

// show ignores that nobody reads: the run is watched to its end, whose line
// then fails.
func (v *jsonView) show(s scene) {
	var lines []timed
	if lost := s.lost > 0; lost != v.lost {
		v.lost = lost
		lines = append(lines, timed{s.now, hostEvent{eventHost, s.now, !lost}})
	}
	for _, l := range s.logs {
		lines = append(lines, timed{l.At, logEvent{eventLog, l}})
	}
	lines = v.news(lines, s.root, "", s.now)
	slices.SortStableFunc(lines, func(a, b timed) int { return a.at.Compare(b.at) })
	for _, l := range lines {
		_ = v.program.printLine(l.value)
	}
}

// news appends what is new about c: its beginning before its children's news,
// its end after them.
func (v *jsonView) news(lines []timed, c *call, path string, now time.Time) []timed {
	path += c.label
	before, known := v.told[c.id]
	news := !known || before != c.phase || v.stuck[c.id] != c.stuck
	v.told[c.id], v.stuck[c.id] = c.phase, c.stuck
	at := now
	switch {
	case c.phase.over() && !c.ended.IsZero():
		at = c.ended
	case !known && !c.started.IsZero():
		at = c.started
	}
	line := timed{at, callEvent{eventCall, at, c.id, path, c.phase, c.reason, c.stuck}}
	if news && !c.phase.over() {
		lines = append(lines, line)
	}
	for _, child := range c.children {
		lines = v.news(lines, child, path+" > ", now)
	}
	if news && c.phase.over() {
		lines = append(lines, line)
	}
	return lines
}
