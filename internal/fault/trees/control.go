package trees

import (
	"github.com/amberhost/amber/internal/fault/ledger"
	"github.com/amberhost/amber/service"
)

// What is tried again, has only so much time, or begins later.

// never is longer than anybody waits, in milliseconds.
const never = 3_600_000

func retries(n int) *int { return &n }

// control has some calls of the ledger be refused, or answered too late.
func (g *generator) control(s *Step) {
	switch n := g.IntN(100); {
	case n < 14: // it passes
		s.Flaky = 1 + g.IntN(2)
		s.With = &With{Retries: retries(s.Flaky + g.IntN(2)), Backoff: 1 + g.IntN(g.ms)}
	case n < 19: // it is given up after its tries
		s.Flaky = ledger.Always
		s.With = &With{Retries: retries(g.IntN(3)), Backoff: 1 + g.IntN(g.ms)}
	case n < 22: // it is tried as long as there is time
		s.Flaky = ledger.Always
		s.With = &With{Retries: retries(100), Backoff: 1 + g.IntN(g.ms), Timeout: 1 + g.IntN(5*g.ms)}
	case n < 25 && !g.determined: // it is answered too late, or just in time
		s.Delay = g.IntN(10 * g.ms)
		s.With = &With{Timeout: 1 + g.IntN(5*g.ms)}
	case n < 27: // it is answered too late
		s.Delay = never
		s.With = &With{Timeout: 1 + g.IntN(5*g.ms)}
	}
}

// own has some calls of the ledger carry a key of the task's own.
func (g *generator) own(s *Step) {
	if !g.odds(12) {
		return
	}
	if s.With == nil {
		s.With = &With{}
	}
	s.With.Own = true
}

// child makes a call of a task.
func (g *generator) child(depth, at int) Step {
	s := Step{Op: OpChild, Catch: g.odds(60), Give: g.IntN(at + 1)}
	switch n := g.IntN(100); {
	case n < 20:
		g.again(&s, depth)
		return s
	case n < 30 && !g.determined:
		s.With = &With{Timeout: 1 + g.IntN(20*g.ms)}
		s.Body = append(g.body(depth+1), g.hang())
		return s
	case n < 40:
		s.With = &With{Delay: 1 + g.IntN(3*g.ms)}
	case n < 47:
		s.With = &With{In: 1 + g.IntN(3*g.ms)}
	case n < 55:
		s.With = &With{Priority: g.IntN(7) - 3}
	}
	s.Body = g.body(depth + 1)
	return s
}

// again has a child fail some times, if it does not end otherwise. The last try, if
// it comes to that, is like any other child. There are no children before it: each
// has one run.
func (g *generator) again(s *Step, depth int) {
	for range g.IntN(3) {
		before := g.ledger()
		if g.odds(30) {
			before = Step{Op: OpTimer, MS: g.IntN(g.ms + 1)}
		}
		before.Catch = true
		s.Body = append(s.Body, before)
		g.left--
	}
	turn := Step{Op: OpLedger, Method: ledger.Each, Turn: true, Fails: 1 + g.IntN(2)}
	if g.odds(50) {
		turn.Method = ledger.Once
	}
	s.With = &With{Retries: retries(turn.Fails), Backoff: 1 + g.IntN(g.ms)}
	switch n := g.IntN(100); {
	case n < 20:
		s.With.Retries = retries(turn.Fails - 1)
	case n < 35:
		turn.Final = true
	}
	s.Body = append(append(s.Body, turn), g.body(depth+1)...)
	g.left--
}

// hang makes a step that ends when its body is interrupted, and tidies up.
func (g *generator) hang() Step {
	g.left--
	tidy := Step{Op: OpLedger, Method: ledger.Once, Catch: g.odds(50)}
	if g.odds(20) {
		tidy.Fail = g.code()
	}
	return Step{Op: OpHang, Catch: g.odds(30), Of: []Step{{Op: OpSleep, MS: never}, tidy}}
}

// fails is the error with which an execution ends at this step, after the ledger has
// answered which one it is, if it does.
func (s *Step) fails(answer any, path string) *failure {
	o, ok := answer.(*object)
	if !ok || s.Fails == 0 {
		return nil
	}
	turn, ok := o.values["turn"].(float64)
	switch text := "execution " + number(turn, true) + " of " + path; {
	case !ok || turn > float64(s.Fails):
		return nil
	case s.Final:
		return &failure{codeFinal, text}
	default:
		return &failure{codeAgain, text}
	}
}

// Key is the idempotency key that the ledger sees of the call at a path, if the task
// gives its own: behind the task's name.
func (t Tree) Key(path string) (key string, own bool) {
	s := find(t.Body, t.Path, path)
	if s == nil || s.With == nil || !s.With.Own {
		return "", false
	}
	return TaskName + "/" + t.ID + " " + path, true
}

// Retries is how often the call at a path may be made again at most.
func (t Tree) Retries(path string) int {
	if s := find(t.Body, t.Path, path); s != nil && (s.Op != OpLedger || s.With != nil && s.With.Retries != nil) {
		return s.retries()
	}
	return service.DefaultPolicy.Retries
}
