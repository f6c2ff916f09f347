package vm_test

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
)

// generator writes a task program from a seed. A program is a tree of
// statements around the features of features_test.go, with waits wherever an
// expression may stand.
//
// What a program shows does not depend on how long a wait takes in turns: only
// branches run at the same time, each has a log and a state of its own, its
// errors stay its own, and branches are joined in their order. Nothing races
// but with what never settles.
type generator struct {
	r      *rand.Rand
	next   int          // numbers names and waits
	cost   int          // waits that the program will make, about
	weight int          // times that what is being written will run
	sync   bool         // no await may stand here
	used   map[int]bool // features that are in the program
}

const (
	mostWaits = 28
	mostDepth = 4
)

// generate returns the program of a seed, and which features it has.
func generate(seed uint64) (program string, used map[int]bool) {
	g := &generator{r: rand.New(rand.NewPCG(seed, 0xa3be)), weight: 1, used: map[int]bool{}}
	body := g.block(0)
	for len(g.used) < 5 {
		body += g.feature(0)
	}
	if g.r.IntN(12) == 0 {
		body += g.write(len(features)-1, 0)
	}
	return strings.Replace(frameOfPrograms, "BODY", body, 1), g.used
}

// block is some statements of an async function that knows L and s.
func (g *generator) block(depth int) string {
	var b strings.Builder
	for range 1 + g.r.IntN(3) {
		b.WriteString(g.statement(depth))
	}
	return b.String()
}

var statements = []string{
	"s = mix(s, EXPR);\n",
	"L.log('at _N', EXPR);\n",
	"if ((EXPR) & 1) {\nBODY} else {\nBODY}\n",
	"try {\nBODY s = mix(s, RISKY);\nBODY} catch (e) {\nL.log('caught', e.name, e.message, e.code);\nBODY} finally {\nBODY}\n",
	"switch (Math.trunc(EXPR) % 3) {\ncase 0: {\nBODY}\ncase 1: case -1: {\nBODY break; }\ndefault: {\nBODY}\n}\n",
	"s = await (async (s) => {\nBODY return mix(s, EXPR);\n})(s);\n",
	"{ const kept_N = EXPR, show_N = () => kept_N;\nBODY s = mix(s, show_N()); }\n",
	"for (const [k_N, v_N] of new Map([['a', EXPR], ['b', EXPR]])) {\nTWICE L.log(k_N, v_N); }\n",
	"for (let i_N = 0; i_N < 2; i_N++) {\nif ((SYNC + i_N) % 5 === 0) continue;\nTWICE const f_N = () => i_N; s = mix(s, f_N()); }\n",
	"out_N: for (const a_N of [1, 2]) { for (const b_N in { x: 1, y: 2 }) {\ntry {\nif (b_N === 'y' && (SYNC) & 1) break out_N;\nTWICE } finally {\nL.log(a_N + b_N, await L.wait(SITE)); } } }\n",
	"await fork(L, [\nasync (L, s) => {\nBODY return s; },\nasync (L, s) => {\nBODY return mix(s, EXPR); },\nasync (L, s) => {\nBODY throw new RangeError('of a branch ' + s); }]).then((list) => { s = mix(s, list); });\n",
}

// simple is how many of statements hold no others.
const simple = 2

func (g *generator) statement(depth int) string {
	if g.r.IntN(3) == 0 {
		return g.feature(depth)
	}
	n := len(statements)
	if depth >= mostDepth || g.cost > mostWaits {
		n = simple
	}
	return g.fill(statements[g.r.IntN(n)], depth)
}

// feature writes one of the features but the last, which fills much memory: it
// comes at the end of a program, since every later snapshot would hold it.
func (g *generator) feature(depth int) string { return g.write(g.r.IntN(len(features)-1), depth) }

func (g *generator) write(n, depth int) string {
	g.used[n] = true
	return g.fill("{ // "+features[n].name+features[n].code+"}\n", depth)
}

var holes = regexp.MustCompile(`\b(EXPR|SYNC|WAIT|RISKY|OBJECT|PROMISE|SITE|INT|BODY|TWICE)\b|_N\b`)

// fill replaces the words in capitals by generated text, and _N, which ends
// names, by one number.
func (g *generator) fill(template string, depth int) string {
	g.next++
	id := g.next
	return holes.ReplaceAllStringFunc(template, func(hole string) string {
		switch hole {
		case "_N":
			return fmt.Sprintf("_%d", id)
		case "INT":
			return fmt.Sprint(g.r.IntN(100))
		case "SITE":
			return g.site()
		case "WAIT":
			return "(await L.wait(" + g.site() + "))"
		case "RISKY":
			return "(await L.risky(" + g.site() + "))"
		case "OBJECT":
			return "(await L.object(" + g.site() + "))"
		case "PROMISE":
			return "L.start(" + g.site() + ")"
		case "EXPR":
			return g.expression(3)
		case "SYNC":
			return g.without(func() string { return g.expression(2) })
		case "TWICE":
			g.weight *= 2
			defer func() { g.weight /= 2 }()
		}
		return g.block(depth + 1)
	})
}

func (g *generator) without(write func() string) string {
	before := g.sync
	g.sync = true
	defer func() { g.sync = before }()
	return write()
}

// site numbers a wait.
func (g *generator) site() string {
	g.next++
	g.cost += g.weight
	return fmt.Sprint(g.next)
}

var expressions = []string{
	"(E + E)", "(E - E)", "(E * E)", "(E ^ E)", "(E % 97 + E)", "(E ? E : E)", "(E && E)", "(E || E)", "(E, E)", "((E) >>> 1)",
	"[E, E, E].at(E % 3)", "[...[E, E], E].length", "sum(E, ...[E, E], E)", "`${E}/${E}`.length", "({ k: E, ...{ j: E } }).k",
	"({ [`p${E}`]: E, q: E }).q", "(null ?? E)", "(undefined ?? { a: { b: E } })?.a?.b", "Math.imul(E, E)", "mix(E, E)",
	"tag`${E}-${E}`", "((a, { b = S } = {}) => a + b)(E)", "new (class { #v = S; get v() { return this.#v } })().v",
	"Number(BigInt(Math.trunc(S) % 1000 || 7) ** 5n % 1009n)", "Number(/\\d+/.exec(String(E))?.[0] ?? 1)", "[E, E].map((x) => x + S).indexOf(E)",
}

var awaited = []string{"(await L.wait(SITE))", "(await L.wait(SITE))", "(await L.object(SITE)).n", "(await (async () => E)())", "(await { then: (r) => r(S) })"}

var operand = regexp.MustCompile(`\b[ES]\b`)

// expression is of type number, mostly; S stands for one that does not wait.
func (g *generator) expression(depth int) string {
	pick := g.r.IntN(10)
	switch {
	case !g.sync && g.cost < mostWaits && pick < 3:
		return g.fill(g.operands(awaited[g.r.IntN(len(awaited))], depth), mostDepth)
	case depth <= 0 || pick < 5:
		return []string{"s", fmt.Sprint(g.r.IntN(1000)), fmt.Sprintf("%d.5", g.r.IntN(50)), "L.n"}[g.r.IntN(4)]
	}
	return g.operands(expressions[g.r.IntN(len(expressions))], depth)
}

func (g *generator) operands(text string, depth int) string {
	return operand.ReplaceAllStringFunc(text, func(o string) string {
		if o == "S" {
			return g.without(func() string { return g.expression(depth - 1) })
		}
		return g.expression(depth - 1)
	})
}
