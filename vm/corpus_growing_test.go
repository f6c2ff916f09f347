package vm_test

import (
	"strings"

	"github.com/amberhost/amber/vm"
)

// growing are programs that grow until they reach a limit of memory, stack or
// size, or do not.
var growing = []hostile{
	{name: "objects", code: `const a = []; for (;;) a.push({ a })`, err: noMemory},
	{name: "arrays", code: `const a = []; for (;;) a.push(new Array(1000).fill(0))`, err: noMemory},
	{name: "one sparse array", code: `const a = []; for (let i = 0; ; i++) a[i * 3] = i`, err: noMemory},
	{name: "closures", code: `let f = () => 0; for (;;) { const g = f; f = () => g }`, err: noMemory},
	{name: "buffers", code: `const a = []; for (;;) a.push(new ArrayBuffer(1e5))`, err: noMemory},
	{name: "one buffer", code: `return new Uint8Array(2 ** 31 - 1).length`, err: noMemory},
	{name: "a buffer that grows", code: `const b = new ArrayBuffer(1, { maxByteLength: 2 ** 31 - 1 }); for (let n = 1; ; n *= 2) b.resize(n)`, err: noMemory},
	{name: "strings", code: `const a = []; for (let i = 0; ; i++) a.push('x'.repeat(1000) + i)`, err: noMemory},
	{name: "a string that doubles", code: `let s = 'x'; for (;;) s += s + '1'`, err: noMemory},
	{name: "repeat", code: `return 'x'.repeat(2 ** 30).length`, err: ": invalid string length"},
	{name: "padEnd", code: `return 'x'.padEnd(2 ** 30, 'ab').length`, err: ": invalid string length"},
	{name: "symbols", code: `const a = []; for (;;) a.push(Symbol('x'))`, err: noMemory},
	{name: "a Map", code: `const m = new Map(); for (let i = 0; ; i++) m.set(i, {})`, err: noMemory},
	{name: "BigInt growth", code: `let a = 3n; for (;;) a *= a`, err: ": BigInt is too large to allocate"},
	{name: "BigInt shift", code: `return String((1n << 2000000000n) & 1n)`, err: ": BigInt is too large to allocate"},
	{name: "generators", code: `const a = []; for (;;) { const g = (function* () { yield a })(); g.next(); a.push(g) }`, err: noMemory},
	{name: "promises", code: `const a = []; for (;;) a.push(new Promise(() => {}))`, err: noMemory},
	{name: "promises that wait", code: `const f = async () => { await null; await f() }; await f()`, err: noMemory},
	// Where memory is full the engine drops a job without a word; what is kept besides ends the loop.
	{name: "jobs", code: `const kept = []; for (;;) kept.push(Promise.resolve().then(() => {}))`, err: noMemory},
	{name: "Promise.all of a promise bomb", code: `await Promise.all(Array.from({ length: 1e7 }, async () => { await null }))`, err: noMemory},
	{name: "an endless iterator spread", code: `return [...(function* () { for (;;) yield 1 })()]`, err: noMemory},
	{name: "timers", code: `for (;;) setTimeout(() => {}, 1e6)`, err: noMemory},
	{name: "calls", code: `for (;;) __callHostTool__('a', 'b', ['x'.repeat(20000)])`, err: noMemory},
	{name: "links", code: `let t = tools.a; for (;;) t = t.b`, err: noMemory},
	{name: "consoles", code: `for (let i = 0; ; i++) console.time('t' + i)`, err: noMemory},
	{name: "source code", code: `new Function('return [' + '{},'.repeat(1e7) + ']')`, err: noMemory},
	{name: "an error's message", code: `throw new Error('x'.repeat(2e7) + 'y'.repeat(2e7))`, err: noMemory},
	{name: "growth after a reply", code: `await tools.a.b(); const a = []; for (;;) a.push(new Array(1000).fill(1))`, err: noMemory, replies: [][]vm.Reply{{value(1, "1")}}},
	{name: "growth in the second reply", code: `const a = [], grow = async () => { await tools.a.b(); for (let i = 0; i < 10000; i++) a.push(new Array(100).fill(1)) }; await grow(); await grow(); await grow()`,
		err: noMemory, replies: [][]vm.Reply{{value(1, "1")}, {value(2, "1")}, {value(3, "1")}}},

	{name: "mutual recursion", code: `const f = () => g() + 1, g = () => f() + 1; f()`, err: tooDeep},
	{name: "recursion that catches", code: `const f = () => { try { f() } catch { f() } finally { f() } }; f()`, err: tooDeep},
	{name: "a getter of itself", code: `const o = { get x() { return o.x } }; o.x`, err: tooDeep},
	{name: "a Proxy as its own handler", code: `const h = {}, p = new Proxy({}, h); h.get = () => p.x; p.x`, err: tooDeep},
	{name: "a chain of proxies", code: `let p = {}; for (let i = 0; i < 1e5; i++) p = new Proxy(p, {}); p.x`, err: tooDeep},
	{name: "a chain of bound functions", code: `let f = () => 0; for (let i = 0; i < 1e5; i++) f = f.bind(); f()`, err: noMemory},
	{name: "toString of itself", code: `const o = { toString() { return '' + o } }; '' + o`, err: tooDeep},
	{name: "toJSON of itself", code: `const o = { toJSON() { return JSON.stringify(o) } }; JSON.stringify(o)`, err: tooDeep},
	{name: "deep parentheses", code: `(0, eval)('('.repeat(1e5))`, err: tooDeep},
	{name: "deep brackets", code: `new Function('['.repeat(1e5))`, err: tooDeep},
	{name: "deep functions", code: `new Function('()=>'.repeat(1e5) + '1')`, err: tooDeep},
	{name: "deep templates", code: "new Function('`${'.repeat(1e5))", err: tooDeep},
	{name: "deep groups of an expression", code: `new RegExp('(?:'.repeat(1e5))`, err: tooDeep},
	{name: "deep JSON", code: `JSON.parse('['.repeat(1e6))`, err: tooDeep},
	{name: "a deep array as text", code: `let a = []; for (let i = 0; i < 1e5; i++) a = [a]; return '' + a`, err: tooDeep},
	{name: "deep flat", code: `let a = []; for (let i = 0; i < 1e5; i++) a = [a]; return a.flat(Infinity)`, err: tooDeep},
	{name: "deep JSON as a reply", code: `await tools.a.b()`, err: tooDeep, replies: [][]vm.Reply{{value(1, strings.Repeat("[", 1e6))}}},
	{name: "a comparator that sorts", code: `const a = [2, 1], f = () => { a.slice().sort(f); return 0 }; a.sort(f)`, err: tooDeep},

	{name: "a large result", code: `return 'x'.repeat(2e6)`, err: "RESULT_TOO_LARGE: the task's result is 2000002 bytes, at most 1048576"},
	{name: "large arguments", code: `await tools.a.b('x'.repeat(2e6))`, err: "ARGUMENTS_TOO_LARGE: the arguments of tools.a.b are "},
	{name: "many large calls", code: `const t = tools.with({ x: 'x'.repeat(1e6) }); for (let i = 0; i < 20; i++) t.a.b(i); await null`, err: "ARGUMENTS_TOO_LARGE: what the task calls without waiting is "},
	{name: "large options", code: `await tools.with({ x: 'x'.repeat(1.5e6) }).a.b()`, err: "ARGUMENTS_TOO_LARGE: call 1 with its options is "},
	{name: "a large name", code: `await tools['x'.repeat(1.5e6)].b()`, err: "ARGUMENTS_TOO_LARGE: call 1 with its options is "},
	{name: "a large memory", code: `const a = new Float64Array(3e5).map(Math.random); await tools.a.b(); return a.length`, err: "SNAPSHOT_TOO_LARGE: what the task remembers while it waits is "},
	{name: "a long linked list let go", code: `let l = null; for (let i = 0; i < 1e5; i++) l = { l }; l = null; return 1`, want: "1"},
	{name: "a long chain of promises", code: `let p = Promise.resolve(1); for (let i = 0; i < 2e4; i++) p = p.then((x) => x); return await p`, want: "1"},
	{name: "too many arguments", code: `return Math.max.apply(null, { length: 1e9 })`, err: ": too many arguments in function call"},
	{name: "an array that is too long", code: `return new Array(2 ** 32)`, err: ": invalid array length"},
	{name: "a million log lines", code: `for (let i = 0; i < 1e6; i++) console.log(i); return 1`, want: "1"},
	{name: "a log line of 3 MB", code: `console.log('x'.repeat(3e6)); console.log(['x'.repeat(3e6)]); console.log('%s', 'x'.repeat(3e6)); return 1`, want: "1"},
	{name: "a log line of 100 MB", code: `console.log('x'.repeat(1e8))`, err: noMemory},
	{name: "an error of causes", code: `let e = new Error('x'); for (let i = 0; i < 1e4; i++) e = new Error('x', { cause: e }); console.log(e); throw e`, err: ": x"},
}
