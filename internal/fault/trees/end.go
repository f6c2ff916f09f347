package trees

import (
	"fmt"
	"slices"
	"strings"

	"github.com/amberhost/amber/internal/fault/ledger"
)

func refusedAnswer(s *Step) bool { return ledger.Refused(s.Answer) }

// checkEnd compares how the run ended with how the body did.
func (r *replay) checkEnd() {
	switch status, root := r.run.Status, !strings.Contains(r.path, "."); {
	case r.run.Interrupt != "" && r.lines == 0:
		r.checkInterrupted()
	case r.run.Interrupt == "" && r.wasInterrupted(): // before it began
	case root && status == "cancelled" && r.run.Interrupt == "":
		r.complain(r.path, "a run that goes on: nobody interrupts it", status)
	case r.uncommitted():
	case r.finishing || r.due != nil:
		// Lines of one slice are committed together.
		path := r.path
		if r.due != nil {
			path = r.due.path
		}
		r.complain(path, "a line that follows from the one before", "no more lines")
	case r.run.Interrupt != "":
		r.checkInterrupted()
	case status == "completed" && (!r.ended || r.err != nil):
		r.complain(r.path, "a run that has not completed: "+r.state(), status)
	case status == "failed" && (!r.ended || r.err == nil):
		r.complain(r.path, "a run that has not failed: "+r.state(), status+", "+string(r.run.Error))
	case status == "completed":
		r.checkResult()
	case status == "failed":
		switch {
		case !r.endedWith(*r.err):
			r.complain(r.path, r.err.String(), string(r.run.Error))
		case r.again && !r.limited: // a try that cannot begin in time is none
			r.complain(r.path, "another try", status+" "+string(r.run.Error))
		}
	case r.again: // it sleeps, or slept, until the next try
	case r.ended:
		r.complain(r.path, "a run that has ended: so has its body", status)
	}
}

// uncommitted reports whether perhaps no slice of the run was committed.
func (r *replay) uncommitted() bool {
	return r.lines == 0 && r.run.Status != "completed" && r.run.Status != "failed"
}

func (r *replay) state() string {
	switch {
	case !r.ended:
		return fmt.Sprintf("its body waits for %d calls", len(r.open))
	case r.err != nil:
		return "its body failed with " + r.err.String()
	}
	return "its body returned"
}

func (r *replay) checkResult() {
	want := stringify(r.result)
	if r.run.Exact && string(r.run.Result) == want {
		return
	}
	if !r.run.Exact {
		w, _ := parse([]byte(want))
		if got, err := parse(r.run.Result); err == nil && equal(got, w) {
			return
		}
	}
	r.complain(r.path, want, string(r.run.Result))
}

// checkOthers judges what the prelude and the host say at the end of a task.
func (r *replay) checkOthers(lines []string) {
	left, open, forgotten := 0, len(r.open)-r.dead, 0
	for _, line := range lines {
		switch {
		case strings.HasPrefix(line, "The task ended "), strings.HasPrefix(line, "The task failed while "):
			left++
		case strings.Contains(line, " failed and nothing awaited it: ") && forgotten < r.forgets:
			forgotten++
		default:
			r.complain(r.path, "no such line", line)
			return
		}
	}
	switch {
	case left > 1 || left > 0 && (!r.ended || open == 0 && r.forgets == 0):
		r.complain(r.path, "one line at most about calls that were left open, none if none was", strings.Join(lines, " / "))
	case left != 1 && r.ended && !r.again && open > 0:
		r.complain(r.path, "one line about calls that were left open", fmt.Sprintf("%d of them", left))
	}
}

// checkCalls compares the numbers of the calls.
func (r *replay) checkCalls() {
	wanted := append(slices.Clone(r.executions), r.calls)
	if !r.again && r.unbegun() && (r.uncommitted() || r.run.Interrupt != "" || r.wasInterrupted()) {
		wanted = r.executions
	}
	for i, want := range wanted {
		if !r.stopped {
			r.checkExecution(r.callsOf(i), want)
		}
	}
	if more := r.callsOf(len(r.executions) + 1); len(more) > 0 && !r.stopped {
		r.complain(r.path, fmt.Sprintf("%d executions", len(r.executions)+1), "one more: "+more[0].String())
	}
}

func (r *replay) checkExecution(calls []Call, wanted []string) {
	for i, want := range wanted {
		if i >= len(calls) {
			r.complain(r.path, fmt.Sprintf("call %d, %s", i+1, want), "no more calls")
			return
		}
		if got := calls[i]; got.String() != want || got.Number != int64(i+1) {
			r.complain(r.path, fmt.Sprintf("call %d, %s", i+1, want), fmt.Sprintf("call %d, %s", got.Number, got))
			return
		}
	}
	if extra := calls[len(wanted):]; len(extra) > 0 {
		r.complain(r.path, fmt.Sprintf("%d calls", len(wanted)), fmt.Sprintf("one more: call %d, %s", extra[0].Number, extra[0]))
	}
}

// callsOf are the calls of an execution.
func (r *replay) callsOf(execution int) (calls []Call) {
	for _, c := range r.run.Calls {
		if c.Execution == execution {
			calls = append(calls, c)
		}
	}
	return calls
}
