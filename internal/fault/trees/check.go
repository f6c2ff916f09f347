package trees

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/amberhost/amber/internal/fault/ledger"
)

// Seen is what is known of a tree that was played.
type Seen struct {
	Runs    []Run
	Entries []ledger.Entry // those of this tree
	// Who may have interrupted its runs besides the tree itself.
	Cancelled bool // somebody, from outside
	Timed     bool // the root run has only so much time
	// Below are the paths of bodies below the root that somebody cancelled alone.
	Below map[string]bool
}

// Run is the task run that played one body.
type Run struct {
	Path   string   // of the body
	Status string   // of the task run; the lines and calls of one that has not ended are judged as far as they go
	Lines  []string // its console lines, in order
	// Result is what it returned, if it completed: the exact text, or what jsonb made of it.
	Result json.RawMessage
	Exact  bool
	Error  json.RawMessage // what it failed with, if it failed or was cancelled: an object with code and message
	Calls  []Call          // by execution and number
	// Interrupt is why its body had to end: "cancel", "timeout", or "" if it had not.
	Interrupt string
}

// Call is a call that a body made.
type Call struct {
	ID              string // of its row, as the ledger knows it
	Execution       int    // how often its body had begun anew
	Number          int64  // within its execution, from 1
	Service, Method string
	Args            json.RawMessage
}

// Complaint is one way in which a tree was not played as it must be.
type Complaint struct {
	Path      string // of the await, body or call
	Want, Got string
}

func (c Complaint) String() string {
	return fmt.Sprintf("at %s: want %s, got %s", c.Path, c.Want, c.Got)
}

// Verdict is what [Tree.Check] finds.
type Verdict struct {
	Complaints []Complaint
	Took       []Taken
}

// Taken is what came of a call of the ledger, as the task saw it.
type Taken struct {
	Path   string
	Number int64  // of the entry whose answer it saw; 0 if it saw that of none
	Call   string // its row
	Code   string // of the error that it saw in place of an answer
}

// Check says whether a tree was played as it must be. It has one complaint per
// run at most: what comes after it is not judged.
func (t Tree) Check(seen Seen) Verdict {
	c := checker{below: seen.Below, runs: map[string]*Run{}, entries: map[string][]ledger.Entry{}, played: map[string]*replay{}, called: map[string]bool{t.Path: true}}
	for i := range seen.Runs {
		r := &seen.Runs[i]
		if c.runs[r.Path] != nil {
			c.complain(r.Path, "one run", "two")
		}
		c.runs[r.Path] = r
	}
	for _, e := range seen.Entries {
		c.entries[e.Ask.Path] = append(c.entries[e.Ask.Path], e)
	}
	if c.runs[t.Path] == nil {
		c.complain(t.Path, "a run of the root", "none")
		return c.Verdict
	}
	c.play(t.Path, &Step{Body: t.Body}, nil, seen.Cancelled || seen.Timed)
	c.uncalled()
	return c.Verdict
}

// checker is the state of one Check.
type checker struct {
	Verdict
	below   map[string]bool // bodies that somebody cancelled
	runs    map[string]*Run
	entries map[string][]ledger.Entry
	played  map[string]*replay
	called  map[string]bool // paths of the calls that were made, as far as they have a path
}

func (c *checker) complain(path, want, got string) {
	c.Complaints = append(c.Complaints, Complaint{Path: path, Want: clip(want), Got: clip(got)})
}

func clip(text string) string {
	if len(text) > 400 {
		return strings.ToValidUTF8(text[:400], "") + "…"
	}
	return text
}

// uncalled looks for what nobody called.
func (c *checker) uncalled() {
	if slices.ContainsFunc(c.list(), func(r *replay) bool { return r.stopped }) {
		return // it is not known what they call
	}
	for _, path := range sorted(c.runs) {
		if !c.called[path] {
			c.complain(path, "no run: nothing calls it", "a run")
		}
	}
	for _, path := range sorted(c.entries) {
		if !c.called[path] {
			c.complain(path, "no effect: nothing calls it", fmt.Sprintf("entry %d", c.entries[path][0].Number))
		}
	}
}

func (c *checker) list() (all []*replay) {
	for _, path := range sorted(c.played) {
		all = append(all, c.played[path])
	}
	return all
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// play replays the run that a step called, once. It returns nil if there is no such
// run. limited says that its caller may be interrupted.
func (c *checker) play(path string, called *Step, give any, limited bool) *replay {
	if r := c.played[path]; r != nil || c.runs[path] == nil {
		return r
	}
	r := &replay{checker: c, run: c.runs[path], path: path, body: called.Body, give: give, retries: called.retries(), limited: limited || called.timed() || c.below[path], timeout: called.timeout(), open: map[string]*act{}}
	c.played[path] = r
	r.all()
	return r
}

// outcome is what an await gives: a value, or an error.
type outcome struct {
	value any
	err   *failure
}

type failure struct{ code, message string }

func (f failure) String() string { return f.code + ": " + f.message }

func caught(f *failure) any { return newObject("caught", f.String()) }

// line is what play.js logs of an await.
func (o outcome) line(path string) string {
	if o.err != nil {
		return "@" + path + " ! " + o.err.String()
	}
	return "@" + path + " = " + digest(spell(o.value))
}
