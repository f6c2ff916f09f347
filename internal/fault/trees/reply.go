package trees

import (
	"fmt"
	"slices"
	"strings"

	"github.com/amberhost/amber/internal/fault/ledger"
)

// reply is what a call gave, as its line says, if that is what it may give.
func (r *replay) reply(a *act, line string) (came outcome, ok bool) {
	if err := interruption(a.path, line); err != nil && !r.childSays(a, err) && r.interrupts(a) {
		return outcome{err: err}, true
	}
	switch a.Op {
	case OpSleep:
		if a.timed() {
			return r.refused(a, line, codeTimeout)
		}
		return r.only(a, line, outcome{value: newObject("slept", true, "duration", float64(a.MS))})
	case OpTimer:
		return r.only(a, line, outcome{value: "rang"})
	case OpChild:
		return r.child(a, line)
	}
	return r.ledger(a, line)
}

func (r *replay) only(a *act, line string, came outcome) (outcome, bool) {
	if want := came.line(a.path); line != want {
		r.complain(a.path, want, line)
		return came, false
	}
	return came, true
}

func (r *replay) child(a *act, line string) (outcome, bool) {
	child := r.play(a.path, a.Step, r.given[a.path], r.limited)
	switch {
	case child == nil:
		r.complain(a.path, "a run whose result was seen", "none")
	case child.stopped:
		r.stopped = true // what it must give is not known
	case child.wasInterrupted():
		return r.only(a, line, outcome{err: child.reason()})
	case !child.ended:
		r.complain(a.path, "no line: the child has not ended", line)
	default:
		return r.only(a, line, outcome{value: through(child.result), err: child.err})
	}
	return outcome{}, false
}

func (r *replay) ledger(a *act, line string) (outcome, bool) {
	late := a.timed() && strings.HasPrefix(line, "@"+a.path+" ! "+codeTimeout+": ")
	switch {
	case a.Refuse && !late:
		return r.refused(a, line, codeInvalidArgument)
	case late || a.timed() && a.Delay == never:
		return r.refused(a, line, codeTimeout) // though it was never asked, perhaps
	}
	entries := r.asked(a.path)
	if len(entries) == 0 {
		r.complain(a.path, "an entry in the ledger", "none, but: "+line)
		return outcome{}, false
	}
	var want []string
	for _, e := range entries {
		var came outcome
		switch {
		case e.Refused() && !a.timed() && len(entries) <= a.retries():
			continue // it is tried again
		case e.Answer.Err != nil:
			came.err = &failure{e.Answer.Err.Code, e.Answer.Err.Message}
		case refusedAnswer(a.Step):
			return r.refused(a, line, codeInvalidResult)
		default:
			var err error
			if came.value, err = parse(e.Answer.Value); err != nil {
				r.complain(a.path, "an answer in JSON", err.Error())
				return outcome{}, false
			}
		}
		if w := came.line(a.path); w == line {
			r.Took = append(r.Took, Taken{Path: a.path, Number: e.Number, Call: e.StackRun})
			return came, true
		} else if !slices.Contains(want, w) {
			want = append(want, w)
		}
	}
	if want == nil {
		want = []string{fmt.Sprintf("%d more tries", a.retries()+1-len(entries))}
	}
	r.complain(a.path, strings.Join(want, " or "), line)
	return outcome{}, false
}

// asked are the entries of a call that this execution made.
func (r *replay) asked(path string) (entries []ledger.Entry) {
	row := r.row(path)
	for _, e := range r.entries[path] {
		if e.StackRun == row {
			entries = append(entries, e)
		}
	}
	return entries
}

// row is the row of a call of the ledger that this execution made, if it has one.
func (r *replay) row(path string) string {
	for _, c := range r.callsOf(len(r.executions)) {
		if c.Service == ledger.Name && c.args() == path {
			return c.ID
		}
	}
	return ""
}

// refused takes whatever words the stack has for what it refuses.
func (r *replay) refused(a *act, line, code string) (outcome, bool) {
	text, ok := strings.CutPrefix(line, "@"+a.path+" ! "+code+": ")
	if !ok {
		r.complain(a.path, "the error "+code, line)
	} else if a.Op == OpLedger && !a.Refuse {
		r.Took = append(r.Took, Taken{Path: a.path, Code: code, Call: r.row(a.path)})
	}
	return outcome{err: &failure{code, text}}, ok
}
