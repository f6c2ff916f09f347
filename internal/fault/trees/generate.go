package trees

import (
	"fmt"
	"math/rand/v2"

	"github.com/amberhost/amber/internal/fault/ledger"
)

// Options shape the trees of [Generate].
type Options struct {
	Calls int // at most so many calls in a tree, about; 0 means 12
	Depth int // how deep children nest; 0 means 3
	MS    int // the longest sleep, timer and delay, in milliseconds; 0 means 10
	// Determined leaves out whatever makes it a matter of time which lines there
	// are: races, any, calls that nobody awaits, errors that end an all early, and
	// bodies that are interrupted.
	Determined bool
	// Hangs gives the root a last step that does not end by itself.
	Hangs bool
}

// Generate returns the tree of a seed. Equal seeds and options give equal trees.
func Generate(seed uint64, o Options) Tree {
	g := generator{Rand: rand.New(rand.NewPCG(seed, 1)), left: o.Calls, depth: o.Depth, ms: o.MS, determined: o.Determined}
	orDefault(&g.left, 12)
	orDefault(&g.depth, 3)
	orDefault(&g.ms, 10)
	t := Tree{ID: fmt.Sprintf("seed-%d", seed), Path: "0", Body: g.body(0)}
	if o.Hangs {
		t.Body = append(t.Body, g.hang())
	}
	return t
}

func orDefault(at *int, value int) {
	if *at <= 0 {
		*at = value
	}
}

type generator struct {
	*rand.Rand
	left, depth, ms int
	determined      bool
}

func (g *generator) odds(percent int) bool { return g.IntN(100) < percent }

// body makes the steps of a body that is so deep below the root.
func (g *generator) body(depth int) []Step {
	steps := []Step{}
	for n := 1 + g.IntN(4); n > 0 && g.left > 0; n-- {
		if !g.determined && g.odds(8) {
			call := g.call(depth, len(steps))
			steps = append(steps, Step{Op: OpForget, Of: []Step{call}})
			continue
		}
		steps = append(steps, g.step(depth, len(steps), 2))
	}
	if odds := 4 + 10*min(depth, 1); g.odds(odds) {
		steps = append(steps, Step{Op: OpThrow, Code: g.code()})
	}
	return steps
}

// step makes step number at of a body; several calls at once, so many levels of
// them, or one.
func (g *generator) step(depth, at, levels int) Step {
	if levels == 0 || g.left < 2 || g.odds(60) {
		return g.call(depth, at)
	}
	ops := []string{OpAll, OpAll, OpSettled, OpRace, OpAny}
	if g.determined {
		ops = ops[:3]
	}
	s := Step{Op: ops[g.IntN(len(ops))], Catch: g.odds(60)}
	for n := 2 + g.IntN(3); n > 0 && g.left > 0; n-- {
		branch := g.step(depth, at, levels-1)
		if g.left > 0 && g.odds(25) {
			branch = Step{Op: OpSeq, Catch: g.odds(30), Of: []Step{branch, g.step(depth, at, 0)}}
		}
		branch.Catch = branch.Catch || g.determined && s.Op == OpAll
		s.Of = append(s.Of, branch)
	}
	return s
}

// call makes one call of any kind.
func (g *generator) call(depth, at int) Step {
	g.left--
	switch n := g.IntN(100); {
	case n < 2:
		return Step{Op: OpSleep, MS: never, With: &With{Timeout: 1 + g.IntN(3*g.ms)}, Catch: g.odds(60)}
	case n < 10:
		return Step{Op: OpSleep, MS: g.IntN(g.ms + 1)}
	case n < 20:
		return Step{Op: OpTimer, MS: g.IntN(g.ms + 1)}
	case n < 45 && depth < g.depth && g.left > 0:
		return g.child(depth, at)
	}
	return g.ledger()
}

// ledger makes a call of the ledger.
func (g *generator) ledger() Step {
	s := Step{Op: OpLedger, Method: ledger.Once, Catch: g.odds(60)}
	if g.odds(50) {
		s.Method = ledger.Each
	}
	switch n := g.IntN(100); {
	case n < 45:
		names := ledger.AwkwardNames()
		s.Answer = names[g.IntN(len(names))]
	case n < 62:
		s.Fail = g.code()
	case n < 66:
		s.Refuse = true
	}
	if g.odds(30) {
		s.Delay = g.IntN(g.ms + 1)
	}
	g.control(&s)
	g.own(&s)
	return s
}

func (g *generator) code() string {
	return []string{"BROKE", "OUT_OF_STOCK", "E_ŻÓŁW", "TASK_NOT_FOUND"}[g.IntN(4)]
}
