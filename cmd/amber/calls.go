package main

import (
	"cmp"
	"encoding/json"
	"strconv"
	"time"
)

// snapshot is what /tasks/tree answers: a run and every stack_run below it.
type snapshot struct {
	Run   runRow `json:"run"`
	Nodes []node `json:"nodes"`
}

type runRow struct {
	ID        string          `json:"id"`
	TaskName  string          `json:"task_name"`
	Status    string          `json:"status"`
	CreatedAt time.Time       `json:"created_at"`
	StartedAt *time.Time      `json:"started_at"`
	EndedAt   *time.Time      `json:"ended_at"`
	Input     json.RawMessage `json:"input"`
	Result    json.RawMessage `json:"result"`
	Error     json.RawMessage `json:"error"`
	Stuck     string          `json:"stuck_reason"` // why no host goes on with it
	Scheduled *time.Time      `json:"scheduled_for"`
	Deadline  *time.Time      `json:"deadline_at"`
	Cancelled *time.Time      `json:"cancel_requested_at"`

	raw json.RawMessage // as the host sent it
}

type node struct {
	ID        string          `json:"id"`
	ParentID  *string         `json:"parent_stack_run_id"`
	Service   string          `json:"service_name"`
	Method    string          `json:"method_name"`
	TaskName  string          `json:"task_name"`
	Status    string          `json:"status"`
	CreatedAt time.Time       `json:"created_at"`
	StartedAt *time.Time      `json:"started_at"`
	EndedAt   *time.Time      `json:"ended_at"`
	DueAt     *time.Time      `json:"due_at"`
	Deadline  *time.Time      `json:"deadline_at"`
	Interrupt string          `json:"interrupt"`
	Tries     int             `json:"tries"`
	TryError  json.RawMessage `json:"try_error"`
	Late      bool            `json:"late"`
	Error     json.RawMessage `json:"error"`
	Stuck     string          `json:"stuck_reason"`
}

// outcome is what /tasks/result answers.
type outcome struct {
	ID     string          `json:"id"`
	Status string          `json:"status"`
	Result json.RawMessage `json:"result"`
	Error  json.RawMessage `json:"error"`
}

// logLine is one line of a task's console.
type logLine struct {
	ID      int64     `json:"id"`
	At      time.Time `json:"at"`
	TaskRun string    `json:"task_run_id"`
	Task    string    `json:"task_name"`
	Level   string    `json:"level"`
	Message string    `json:"message"`

	nested bool // it is of a run below the one that is watched
}

// text is the line for a screen, after the name of the nested task that wrote it.
func (l logLine) text() string {
	if !l.nested {
		return printable(l.Message)
	}
	return printable(l.Task + ": " + l.Message)
}

// taskError is how a failure reaches clients.
type taskError struct {
	Message string `json:"message"`
	Name    string `json:"name"`
	Code    string `json:"code"`
	Stack   string `json:"stack"`
}

// parseError reads the error of a row; ok is false when there is none.
func parseError(raw json.RawMessage) (e taskError, ok bool) {
	if len(raw) == 0 || string(raw) == "null" {
		return e, false
	}
	if json.Unmarshal(raw, &e) != nil || e.Message == "" {
		e.Message = string(raw)
	}
	return e, true
}

// call is one line of the tree that people see.
type call struct {
	id       string
	label    string
	phase    phase
	started  time.Time
	ended    time.Time // zero while it goes on
	due      time.Time // of a sleeping call
	deadline time.Time // when its time is over; zero: never
	tries    int       // that failed and were followed by another
	lastTry  string    // why the last of them failed
	ending   string    // why it is to end: cancel or timeout
	late     bool      // an answer came when nobody waited for it any more
	reason   string    // of a failure
	stuck    string    // why no host goes on with it
	children []*call
}

// phase is a status as people need to know it.
type phase string

const (
	queued    phase = "queued"    // nobody has begun with it
	running   phase = "running"   // a host works on it
	waiting   phase = "waiting"   // saved, until a call has ended
	sleeping  phase = "sleeping"  // until due
	completed phase = "completed" // these three are ends
	failed    phase = "failed"
	cancelled phase = "cancelled"
)

func phaseOf(status string) phase {
	switch status {
	case "processing", "in_progress", "running":
		return running
	case "suspended", "suspended_waiting_child", "pending_resume", "ready_to_resume", "waiting":
		return waiting
	case "sleeping", "completed", "failed", "cancelled":
		return phase(status)
	case "complete":
		return completed
	case "error":
		return failed
	}
	return queued
}

func (p phase) over() bool { return p == completed || p == failed || p == cancelled }

// callTree joins a run and its stack_runs to a tree. The run's own body, the
// stack_run above all others, is the run itself and no line of its own.
func callTree(s snapshot) *call {
	root := &call{
		id:      s.Run.ID,
		label:   s.Run.TaskName,
		phase:   phaseOf(s.Run.Status),
		started: s.Run.CreatedAt,
		ended:   timeOf(s.Run.EndedAt),
		reason:  reasonOf(s.Run.Error),
		stuck:   s.Run.Stuck,
	}
	if root.phase == queued && s.Run.Scheduled != nil {
		root.phase, root.due = sleeping, *s.Run.Scheduled
	}
	calls := make(map[string]*call, len(s.Nodes))
	for _, n := range s.Nodes {
		calls[n.ID] = newCall(n)
	}
	for _, n := range s.Nodes {
		top := n.ParentID == nil || calls[*n.ParentID] == nil
		if top && n.Service == "tasks" && n.TaskName == s.Run.TaskName {
			body := calls[n.ID]
			root.deadline, root.tries, root.lastTry, root.ending, root.late = body.deadline, body.tries, body.lastTry, body.ending, body.late
			calls[n.ID] = root
		}
	}
	for _, n := range s.Nodes {
		if c := calls[n.ID]; c != root {
			parent := root
			if n.ParentID != nil && calls[*n.ParentID] != nil {
				parent = calls[*n.ParentID]
			}
			parent.children = append(parent.children, c)
		}
	}
	root.number()
	return root
}

func newCall(n node) *call {
	return &call{
		id:      n.ID,
		label:   labelOf(n),
		phase:   phaseOf(n.Status),
		started: cmp.Or(timeOf(n.StartedAt), n.CreatedAt),
		ended:   timeOf(n.EndedAt),
		due:     timeOf(n.DueAt),
		reason:  reasonOf(n.Error),
		stuck:   n.Stuck,

		deadline: timeOf(n.Deadline),
		tries:    n.Tries,
		lastTry:  reasonOf(n.TryError),
		ending:   n.Interrupt,
		late:     n.Late,
	}
}

// number tells siblings of one name apart, in the order they were made:
// square, square #2, square #3.
func (c *call) number() {
	seen := make(map[string]int)
	for _, child := range c.children {
		name := child.label
		seen[name]++
		if n := seen[name]; n > 1 {
			child.label += " #" + strconv.Itoa(n)
		}
		child.number()
	}
}

func labelOf(n node) string {
	switch {
	case n.TaskName != "":
		return n.TaskName
	case n.Service == "timer":
		return "setTimeout" // as its author wrote it
	case n.Method == "" || n.Method == n.Service:
		return n.Service
	}
	return n.Service + "." + n.Method
}

func reasonOf(raw json.RawMessage) string {
	e, _ := parseError(raw)
	return e.Message
}

func timeOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}
