package vm_test

import (
	"math"
	"testing"
	"time"

	"github.com/fastschema/qjs"
)

// programs are what JavaScript's speed is measured with, each some tens of
// milliseconds. fastest has them run several times, so that the memory they grow
// into is there.
var programs = []struct{ name, code string }{
	{"calls", `function fib(n) { return n < 2 ? n : fib(n - 1) + fib(n - 2) } return fib(24)`},
	{"loop", `let s = 0; for (let i = 0; i < 1e6; i++) s = (s + i) | 0; return s`},
	{"objects", `const all = []; for (let i = 0; i < 3e4; i++) all.push({ i, s: 'x' + i }); return JSON.stringify(all).length`},
	{"json", `const text = JSON.stringify(Array.from({ length: 3000 }, (_, i) => ({ id: i, name: 'n' + i, tags: ['a', 'b'], price: i / 7 }))); let n = 0; for (let i = 0; i < 4; i++) n += JSON.parse(text).length; return n`},
	{"sort", `const all = []; for (let i = 0; i < 3e4; i++) all.push(Math.sin(i)); all.sort((a, b) => a - b); return all.length`},
	{"regexp", `let n = 0; const text = 'The quick brown fox jumps over 13 lazy dogs. '.repeat(300); for (let i = 0; i < 5; i++) n += text.match(/\b[a-z]+\b|\d+/g).length; return n`},
	{"strings", `let s = ''; for (let i = 0; i < 6e4; i++) s += i; let n = 0; for (let i = 0; i < 20; i++) n += s.indexOf('99999' + i); return n + s.split('7').join('-').length`},
	{"maps", `const m = new Map(); for (let i = 0; i < 5e4; i++) m.set('k' + i % 5000, i); let n = 0; for (const [k, v] of m) n += v; return n`},
	{"typed-arrays", `const a = new Float64Array(1e5); for (let r = 0; r < 5; r++) for (let i = 0; i < a.length; i++) a[i] = a[i] * 0.5 + i; return a[7]`},
	{"bigint", `let a = 1n; for (let i = 1n; i < 1200n; i++) a *= i; return a.toString().length`},
}

// plainEngine is the engine as it is shipped, with no limits.
func plainEngine(tb testing.TB) *qjs.Runtime {
	tb.Helper()
	r, err := qjs.New(qjs.Option{CWD: tb.TempDir(), CacheDir: cacheDir(), MemoryLimit: 64 << 20})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(r.Close)
	return r
}

// fastest runs a program here and in the engine as shipped, in turns, and
// compares the best of each.
func fastest(tb testing.TB, plain *qjs.Runtime, code string, turns int) (here, there time.Duration) {
	tb.Helper()
	here, there = time.Hour, time.Hour
	again := `let last; for (let turn = 0; turn < 4; turn++) last = (() => { ` + code + ` })(); return last`
	for range turns {
		began := time.Now()
		out := start(tb, `module.exports = () => { `+again+` }`, "")
		here = min(here, time.Since(began))
		if out.Err != nil {
			tb.Fatal(out.Err)
		}
		began = time.Now()
		v, err := plain.Eval("program.js", qjs.Code(`JSON.stringify((() => { `+again+` })())`))
		there = min(there, time.Since(began))
		if err != nil {
			tb.Fatal(err)
		}
		if v.String() != string(out.Result) {
			tb.Fatalf("%s here, %s there", out.Result, v)
		}
		v.Free()
	}
	return here, there
}

// BenchmarkSpeed compares JavaScript's speed here with that of the engine as it
// is shipped, without guards or fuel: 1 is as fast, 0.5 takes twice as long.
func BenchmarkSpeed(b *testing.B) {
	plain := plainEngine(b)
	product, worst := 1.0, math.Inf(1)
	for _, p := range programs {
		here, there := fastest(b, plain, p.code, 7)
		ratio := float64(there) / float64(here)
		product *= ratio
		worst = min(worst, ratio)
		b.ReportMetric(ratio, p.name)
	}
	b.ReportMetric(math.Pow(product, 1/float64(len(programs))), "geomean")
	b.ReportMetric(worst, "worst")
	b.ReportMetric(0, "ns/op")
}

// TestSpeed: what guards tasks costs little. The bounds are wide, for machines
// that are busy; BenchmarkSpeed has the figures.
func TestSpeed(t *testing.T) {
	plain := plainEngine(t)
	for _, p := range programs {
		if p.name != "calls" && p.name != "regexp" && p.name != "bigint" {
			continue
		}
		here, there := fastest(t, plain, p.code, 2)
		if ratio := float64(there) / float64(here); ratio < 0.3 {
			t.Errorf("%s runs at %.2f of the engine's own speed", p.name, ratio)
		}
	}
}
