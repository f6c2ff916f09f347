package trees

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// replay plays one body along the lines of its run. A reply settles one await,
// and the task runs until nothing more can go on: so a line that follows from
// another comes right after it, and calls are made in the turn of the line that
// they follow from. A body that fails begins anew if there are tries left.
type replay struct {
	*checker
	run     *Run
	path    string
	body    []Step
	give    any
	retries int  // how often it begins anew at most
	limited bool // it may be interrupted
	timeout int  // of the call that made it, in milliseconds; 0: none

	executions  [][]string // calls of those that are over
	again       bool       // this one is over, and there may be another
	lines       int        // of the task, in this execution
	interrupted bool       // it was seen to be
	dead        int        // timers that do not fire therefore

	saw  []any
	next int             // step of the body
	open map[string]*act // calls without a reply, by path
	due  *act            // whose line has to come next
	came outcome         // of due

	calls   []string // in order of their numbers
	later   []string // made in this turn, and sent at its end
	forgets int      // calls that are not awaited
	given   map[string]any

	finishing bool // the line with the result has to come next
	ended     bool
	stopped   bool // after a complaint
	result    any
	err       *failure
}

// act is a step under way.
type act struct {
	*Step
	path   string
	parent *act // nil for a step of the body
	i      int  // branch of parent
	left   int  // branches that have to settle
	values []any
	errs   []*failure
	over   bool    // settled: its other branches go on, and nobody listens
	hit    bool    // it was open when the body was interrupted
	came   outcome // of the step that OpHang tidies up after
}

func (r *replay) complain(path, want, got string) {
	r.checker.complain(path, want, got)
	r.stopped = true
}

// all replays the run and compares how it ended.
func (r *replay) all() {
	var others []string // lines that are not the task's own
	if r.run.Interrupt != "" && !r.limited {
		r.complain(r.path, "a run that goes on: nobody interrupts it", r.run.Interrupt)
		return
	}
	r.advance()
	for _, line := range r.run.Lines {
		if r.again && strings.HasPrefix(line, "@") {
			r.anew()
		}
		switch own := strings.HasPrefix(line, "@"); {
		case r.stopped:
			return
		case r.run.Interrupt != "" && strings.HasPrefix(line, "setTimeout did not fire: "):
			r.dead++ // its callback is not called: whoever awaits that waits for ever
		case !own && r.notice(line):
		case !own:
			others = append(others, line)
		case len(others) > 0:
			r.complain(r.path, "no line of the task after what the host says at its end", line)
		default:
			r.line(line)
			r.lines++
		}
	}
	if r.stopped {
		return
	}
	if r.again && len(r.callsOf(len(r.executions)+1)) > 0 {
		r.anew()
	}
	r.checkEnd()
	if !r.stopped {
		r.checkOthers(others)
	}
	if !r.stopped {
		r.checkCalls()
	}
	if !r.stopped {
		r.forgotten()
	}
}

// line takes a line of the task.
func (r *replay) line(line string) {
	path, _, _ := strings.Cut(strings.TrimPrefix(line, "@"), " ")
	switch a := r.open[path]; {
	case r.finishing:
		if want := "@" + r.path + " > " + digest(stringify(r.result)); line != want {
			r.complain(r.path, want, line)
			return
		}
		r.finishing, r.ended = false, true
	case r.ended:
		r.complain(path, "no line: the body has ended", line)
	case r.due != nil:
		due, came := r.due, r.came
		if want := came.line(due.path); line != want {
			r.complain(due.path, want, line)
			return
		}
		r.due = nil
		r.settle(due, came)
	case a == nil:
		r.complain(path, "a line of one of "+strings.Join(slices.Sorted(maps.Keys(r.open)), ", "), line)
	default:
		came, ok := r.reply(a, line)
		if ok {
			delete(r.open, path)
			r.settle(a, came)
		}
	}
}

// fail ends the execution with an error.
func (r *replay) fail(err *failure) {
	r.ended, r.err = true, err
	r.again = len(r.executions) < r.retries && err.code != codeFinal && err.code != codeCancelled
}

// anew begins another execution.
func (r *replay) anew() {
	r.executions = append(r.executions, r.calls)
	r.saw, r.next, r.open, r.calls, r.given, r.forgets = nil, 0, map[string]*act{}, nil, nil, 0
	r.again, r.ended, r.err, r.lines, r.dead = false, false, nil, 0, 0
	r.advance()
}

// advance goes on with the body until it awaits something.
func (r *replay) advance() {
	defer r.endTurn()
	for ; r.next < len(r.body); r.next++ {
		step, at := &r.body[r.next], fmt.Sprintf("%s.%d", r.path, r.next)
		switch step.Op {
		case OpThrow:
			r.fail(&failure{step.Code, "thrown at " + at})
			return
		case OpForget:
			r.call(&step.Of[0], at+".0")
			r.forgets++
			r.saw = append(r.saw, nil)
		default:
			r.begin(step, at, nil, 0)
			return
		}
	}
	r.result = newObject("path", r.path, "give", r.give, "saw", r.saw)
	r.finishing = true
}

// begin sets a step going.
func (r *replay) begin(step *Step, path string, parent *act, i int) {
	a := &act{Step: step, path: path, parent: parent, i: i, left: len(step.Of)}
	a.values, a.errs = make([]any, a.left), make([]*failure, a.left)
	switch step.Op {
	case OpAll, OpSettled, OpRace, OpAny:
		for i := range step.Of {
			r.begin(&step.Of[i], fmt.Sprintf("%s.%d", path, i), a, i)
		}
	case OpSeq, OpHang:
		r.begin(&step.Of[0], path+".0", a, 0)
	default:
		r.call(step, path)
		r.open[path] = a
	}
}

// call notes a call. setTimeout sends at once, the others at the end of the turn.
func (r *replay) call(step *Step, path string) {
	switch step.Op {
	case OpTimer:
		r.calls = append(r.calls, fmt.Sprintf("timer(%d)", step.MS))
	case OpSleep:
		r.later = append(r.later, fmt.Sprintf("sleep(%d)", step.MS))
	case OpChild:
		r.called[path] = true
		r.given = put(r.given, path, r.givenTo(step))
		r.later = append(r.later, "execute("+path+")")
	case OpLedger:
		at := path
		if step.Refuse {
			at = ""
		} else {
			r.called[path] = true
		}
		r.later = append(r.later, "ledger."+step.Method+"("+at+")")
	}
}

func put(m map[string]any, key string, value any) map[string]any {
	if m == nil {
		m = map[string]any{}
	}
	m[key] = value
	return m
}

// givenTo is what a child is handed down.
func (r *replay) givenTo(step *Step) any {
	if step.Give == 0 {
		return nil
	}
	return through(r.saw[step.Give-1])
}

func (r *replay) endTurn() {
	r.calls = append(r.calls, r.later...)
	r.later = nil
}

// settle hands on what a step gave.
func (r *replay) settle(a *act, came outcome) {
	if came.err != nil && a.Catch {
		came = outcome{value: caught(came.err)}
	}
	p := a.parent
	switch {
	case p == nil && came.err != nil:
		r.fail(came.err)
	case p == nil:
		r.saw = append(r.saw, keep(came.value))
		if err := a.fails(came.value, r.path); err != nil {
			r.fail(err)
			return
		}
		r.next++
		r.advance()
	case p.over: // the race is decided
	default:
		p.left--
		p.values[a.i], p.errs[a.i] = came.value, came.err
		r.branch(p, a.i, came)
	}
}

// branch decides what a branch that settled means to the step it is a branch of.
func (r *replay) branch(p *act, i int, came outcome) {
	switch p.Op {
	case OpSettled:
		if came.err != nil {
			p.values[i] = caught(came.err)
		}
		if p.left == 0 {
			r.decide(p, outcome{value: p.values})
		}
	case OpRace:
		r.decide(p, came)
	case OpAny:
		switch {
		case came.err == nil:
			r.decide(p, came)
		case p.left == 0:
			var texts []string
			for _, e := range p.errs {
				texts = append(texts, e.String())
			}
			r.decide(p, outcome{err: &failure{codeAllFailed, digest(strings.Join(texts, "; "))}})
		}
	case OpHang:
		switch {
		case i == 0:
			p.came = came
			r.begin(&p.Of[1], p.path+".1", p, 1)
			r.endTurn()
		case came.err == nil:
			r.decide(p, p.came)
		default:
			r.decide(p, came)
		}
	default: // OpAll, OpSeq
		switch {
		case came.err != nil:
			r.decide(p, came)
		case p.left == 0:
			r.decide(p, outcome{value: p.values})
		case p.Op == OpSeq:
			r.begin(&p.Of[i+1], fmt.Sprintf("%s.%d", p.path, i+1), p, i+1)
			r.endTurn()
		}
	}
}

func (r *replay) decide(p *act, came outcome) {
	p.over = true
	r.due, r.came = p, came
}

// forgotten plays the children that no line speaks of.
func (r *replay) forgotten() {
	for _, path := range sorted(r.given) {
		if step := find(r.body, r.path, path); step != nil {
			r.play(path, step, r.given[path], r.limited)
		}
	}
}

// find returns the step of that path among steps below another, nil if there is none.
func find(steps []Step, below, path string) *Step {
	for i := range steps {
		at := fmt.Sprintf("%s.%d", below, i)
		if at == path {
			return &steps[i]
		}
		if strings.HasPrefix(path, at+".") {
			return find(append(slices.Clone(steps[i].Of), steps[i].Body...), at, path) // a step has one of them
		}
	}
	return nil
}

// args is what of a call's arguments tells which call it is.
func (c Call) args() string {
	var args []json.RawMessage
	if json.Unmarshal(c.Args, &args) != nil || len(args) == 0 {
		return ""
	}
	if c.Service == "timer" || c.Service == "sleep" {
		return string(args[0])
	}
	var at struct{ Path string }
	if json.Unmarshal(args[len(args)-1], &at) != nil {
		return "?"
	}
	return at.Path
}

// String is a call as replay.call notes it.
func (c Call) String() string {
	name := c.Service + "." + c.Method
	switch name {
	case "timer.timer", "sleep.sleep":
		name = c.Service
	case "tasks.execute":
		name = c.Method
	}
	return name + "(" + c.args() + ")"
}
