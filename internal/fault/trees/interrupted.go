package trees

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// A body is interrupted when somebody cancels its run, or when its time or that of
// a body above it is over. When that is, and which of its calls are open then, is a
// matter of time: the lines say. Whatever the task makes of it, it is given the
// calls that it makes from then on, until it has ended or has had its grace.

// The errors with which calls are rejected, and bodies end, that are interrupted.
var interruptions = []failure{
	{codeCancelled, "The run was cancelled."},
	{codeTimeout, "The run took longer than it may."},
}

// callerEnded is the error of a call that nobody waits for any more.
var callerEnded = failure{codeCancelled, "The caller ended before this call did."}

// interruption is the error that a line says an await was interrupted with, if any.
func interruption(path, line string) *failure {
	for _, f := range interruptions {
		if line == (outcome{err: &f}).line(path) {
			return &f
		}
	}
	return nil
}

// interrupts notes that a call that is open was seen to be interrupted, and reports
// whether it may be: all those are that are open at the time, and a body is once.
func (r *replay) interrupts(a *act) bool {
	if r.run.Interrupt == "" {
		return false
	}
	if !r.interrupted {
		r.interrupted = true
		for _, open := range r.open {
			open.hit = true
		}
	}
	return a.hit
}

// childSays reports whether a call is of a task that ended so by itself.
func (r *replay) childSays(a *act, err *failure) bool {
	if a.Op != OpChild {
		return false
	}
	child := r.play(a.path, a.Step, r.given[a.path], r.limited)
	return child != nil && !child.stopped && child.wasInterrupted() && *child.reason() == *err
}

// wasInterrupted reports whether the run ended by an interruption, perhaps before
// this execution of its body began.
func (r *replay) wasInterrupted() bool {
	if r.reason() == nil || !r.limited {
		return false
	}
	return r.run.Interrupt != "" || r.unbegun()
}

// reason is the interruption that the run ended with, if it did.
func (r *replay) reason() *failure {
	if r.run.Status != "cancelled" && r.run.Status != "failed" {
		return nil
	}
	for _, f := range append(slices.Clone(interruptions), r.timeUp()) {
		if r.endedWith(f) {
			return &f
		}
	}
	return nil
}

// timeUp is the error with which a call of a task rejects whose own time is over.
// Its awaits see the other one.
func (r *replay) timeUp() failure {
	if r.timeout == 0 {
		return interruptions[1]
	}
	return failure{codeTimeout, fmt.Sprintf("tools.tasks.execute('%s') took longer than %d ms.", TaskName, r.timeout)}
}

func (r *replay) endedWith(f failure) bool {
	var e struct{ Code, Message string }
	return json.Unmarshal(r.run.Error, &e) == nil && failure{e.Code, e.Message} == f
}

// unbegun reports whether nothing of an execution was committed, the end of the one
// before it aside.
func (r *replay) unbegun() bool {
	return r.again || r.lines == 0 && len(r.callsOf(len(r.executions))) == 0
}

// checkInterrupted compares how an interrupted body ended with what it was
// interrupted for.
func (r *replay) checkInterrupted() {
	status, want, ended := r.run.Status, interruptions[0], "cancelled"
	if r.run.Interrupt == "timeout" {
		want, ended = interruptions[1], "failed"
	}
	switch status {
	case "completed", "failed", "cancelled":
		below := strings.Contains(r.path, ".")
		late := r.run.Interrupt == "timeout" && r.endedWith(r.timeUp())
		if (status != ended || !r.endedWith(want) && !late) && !(below && status == "cancelled" && r.endedWith(callerEnded)) {
			r.complain(r.path, ended+" "+want.String(), status+" "+string(r.run.Error))
		}
	}
}
