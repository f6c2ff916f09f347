package vm_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/amberhost/amber/vm"
)

// wire is the JSON of the calls as a service sees them.
func wire(calls []vm.Call) string {
	var b strings.Builder
	for _, c := range calls {
		text, _ := json.Marshal(c.Call)
		fmt.Fprintf(&b, "%d %s\n", c.ID, text)
	}
	return b.String()
}

func TestCallsOnTheWire(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ code, want string }{
		"a chain": {`await tools.db.from('x').select('*', { n: 1 }).limit(3)`,
			`1 {"service":"db","steps":[{"type":"call","property":"from","args":["x"]},{"type":"call","property":"select","args":["*",{"n":1}]},{"type":"call","property":"limit","args":[3]}]}`},
		"a path": {`await tools.openai.chat.completions.create({})`,
			`1 {"service":"openai","steps":[{"type":"get","property":"chat"},{"type":"get","property":"completions"},{"type":"call","property":"create","args":[{}]}]}`},
		"the service itself":       {`await tools.sleep(5)`, `1 {"service":"sleep","steps":[{"type":"call","property":"","args":[5]}]}`},
		"no arguments":             {`await tools.a.b()`, `1 {"service":"a","steps":[{"type":"call","property":"b"}]}`},
		"no JSON":                  {`await tools.a.b(undefined, () => 1, Symbol('s'), NaN, tools.x)`, `1 {"service":"a","steps":[{"type":"call","property":"b","args":[null,null,null,null,null]}]}`},
		"as it was":                {`const o = { n: 1 }; const p = tools.a.b(o); o.n = 2; await p`, `1 {"service":"a","steps":[{"type":"call","property":"b","args":[{"n":1}]}]}`},
		"options":                  {`await tools.with({ retries: 2 }).a.b(1)`, `1 {"service":"a","steps":[{"type":"call","property":"b","args":[1]}],"options":{"retries":2}}`},
		"options added":            {`await tools.with({ retries: 2, timeout: 9 }).with({}).with({ retries: 0 }).a.b(1)`, `1 {"service":"a","steps":[{"type":"call","property":"b","args":[1]}],"options":{"retries":2,"timeout":9,"retries":0}}`},
		"options that are none":    {`await tools.with({ retries: 2 }).with([]).with({ retries: 1 }).a.b(1)`, `1 {"service":"a","steps":[{"type":"call","property":"b","args":[1]}],"options":[]}`},
		"tools of tools":           {`await tools.tools.tools.a.b(1)`, `1 {"service":"a","steps":[{"type":"call","property":"b","args":[1]}]}`},
		"then":                     {`tools.a.b(1).then(() => {}); await tools.a.c(2)`, "1 {\"service\":\"a\",\"steps\":[{\"type\":\"call\",\"property\":\"b\",\"args\":[1]}]}\n2 {\"service\":\"a\",\"steps\":[{\"type\":\"call\",\"property\":\"c\",\"args\":[2]}]}"},
		"not awaited":              {`tools.a.b(1); tools.c.d(2).e(3); await tools.f.g(4)`, "1 {\"service\":\"a\",\"steps\":[{\"type\":\"call\",\"property\":\"b\",\"args\":[1]}]}\n2 {\"service\":\"c\",\"steps\":[{\"type\":\"call\",\"property\":\"d\",\"args\":[2]},{\"type\":\"call\",\"property\":\"e\",\"args\":[3]}]}\n3 {\"service\":\"f\",\"steps\":[{\"type\":\"call\",\"property\":\"g\",\"args\":[4]}]}"},
		"a property of the result": {`await tools.a.b(1).c.d`, `1 {"service":"a","steps":[{"type":"call","property":"b","args":[1]}]}`},
		"twice awaited":            {`const p = tools.a.b(1); await Promise.all([p, p])`, `1 {"service":"a","steps":[{"type":"call","property":"b","args":[1]}]}`},
		"a timer":                  {`await new Promise((r) => setTimeout(r, 1500.7))`, `1 {"service":"timer","steps":[{"type":"call","property":"","args":[1500]}]}`},
		"a poisoned world": {`Array.prototype.toJSON = () => 'bad'; Object.prototype.toJSON = undefined; Promise.prototype.then = null; JSON.stringify = null; Function.prototype.call = null; Array.prototype[Symbol.iterator] = null; String.prototype.split = null; await tools.a.b(1)`,
			`1 {"service":"a","steps":[{"type":"call","property":"b","args":[1]}]}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := start(t, `module.exports = async () => { `+c.code+` }`, "")
			if out.Err != nil {
				t.Fatal(out.Err)
			}
			if got := wire(out.Calls); got != c.want+"\n" {
				t.Errorf("got  %swant %s", got, c.want)
			}
		})
	}
}

// TestHarmlessProxies: looking at tools calls nothing.
func TestHarmlessProxies(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ code, want string }{
		{`await tools; await tools.x; await tools.x.y; return 1`, `1`},
		{`return tools`, `{}`},
		{`return tools.a.b`, `null`},
		{`return { a: tools.b, c: 1 }`, `{"c":1}`},
		{`return [JSON.stringify(tools), JSON.stringify(tools.a)]`, `["{}",null]`},
		{`return [String(tools), String(tools.a.b), '' + tools.x]`, `["tools","tools.a.b","tools.x"]`},
		{`return [typeof tools.a, tools.a.then, tools.a[Symbol.iterator], tools.toJSON, tools.catch]`, `["function",null,null,null,null]`},
		{`return tools.tools === tools`, `true`},
		{`console.log(tools, tools.a, [tools.a.b]); return 1`, `1`},
		{`try { tools.a = 1 } catch (e) { return e.name } return 'sloppy'`, `"TypeError"`},
		{`try { tools.with({ timeout: 0 / 0 }).a.b() } catch (e) { return e.message }`, `"tools.with: timeout is NaN"`},
		{`try { tools.with({ [Symbol('s')]: 1, retries: Infinity }).a.b() } catch (e) { return e.message }`, `"tools.with: retries is Infinity"`},
	} {
		out := start(t, `module.exports = async () => { `+c.code+` }`, "")
		wantResult(t, out, c.want)
		if len(out.Calls) > 0 {
			t.Errorf("%s called %s", c.code, wire(out.Calls))
		}
	}
}

func TestResultProperty(t *testing.T) {
	t.Parallel()
	out := start(t, `module.exports = async () => await tools.a.b(1).c.d`, "")
	wantResult(t, resume(t, out, value(1, `{"c":{"d":7}}`)), "7")
}

func TestTimers(t *testing.T) {
	t.Parallel()
	out := start(t, `module.exports = () => new Promise((resolve) => {
  const log = [];
  const a = setTimeout((...args) => { log.push(args); setTimeout(() => resolve(log), 5) }, 10, 'x', 2);
  const b = setTimeout(() => log.push('never'), 20);
  clearTimeout(b); clearTimeout(b); clearTimeout(99); clearTimeout(undefined);
  log.push(typeof a, a !== b);
})`, "")
	if len(out.Cancelled) > 0 || len(out.Calls) != 1 || !slices.Equal(out.Open, []uint32{1}) { // what was cleared was never a call
		t.Fatalf("%d calls, cancelled %v, open %v", len(out.Calls), out.Cancelled, out.Open)
	}
	out = resume(t, out, value(1, "null"))
	wantResult(t, resume(t, out, value(out.Open[0], "null")), `["number",true,["x",2]]`)

	out = start(t, "module.exports = () => new Promise(() => setTimeout(() => {\n  null.x\n}, 1))", "")
	out = resume(t, out, value(1, "null"))
	if out.Err == nil || !strings.Contains(out.Err.Stack, "task.js:2:3") {
		t.Errorf("a timer that throws: %+v", out.Err)
	}
}

func TestRandomness(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	const code = `module.exports = async () => { const a = [Math.random(), crypto.randomUUID()]; await tools.a.b(); return [...a, Math.random(), crypto.getRandomValues(new Uint32Array(4)).join()] }`
	for range 50 {
		out := start(t, code, "")
		for range 2 { // one snapshot resumed twice
			var got []any
			if err := json.Unmarshal(resume(t, out, value(1, "0")).Result, &got); err != nil {
				t.Fatal(err)
			}
			for _, v := range got[2:] {
				if key := fmt.Sprint(v); seen[key] {
					t.Errorf("%v came twice", v)
				} else {
					seen[key] = true
				}
			}
			seen[fmt.Sprint(got[0])], seen[fmt.Sprint(got[1])] = true, true
		}
	}
	if len(seen) != 50*6 {
		t.Errorf("%d different values of %d", len(seen), 50*6)
	}
	wantResult(t, start(t, `module.exports = () => { for (let i = 0; i < 1e4; i++) { const x = Math.random(); if (!(x >= 0 && x < 1)) return x } return /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(crypto.randomUUID()) }`, ""), "true")
}

func TestConsole(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ code, level, want string }{
		{`console.log('a', 1, true, null, undefined, -0, 1n)`, "info", `a 1 true null undefined -0 1n`},
		{`console.warn({ a: [1, 'x', { b: new Map([[1, new Set([2])]]) }] })`, "warn", `{ a: [1, "x", { b: Map(1) { 1 => Set(1) { 2 } } }] }`},
		{`const o = {}; o.self = o; console.error(o)`, "error", `{ self: [Circular] }`},
		{`console.debug('%s=%d %j%%', 'n', 4.5, { a: 1 }, 'rest')`, "debug", `n=4.5 { a: 1 }% rest`},
		{`console.log({ get x() { throw 1 }, f() {}, [Symbol('s')]: class A {} })`, "info", `{ x: [Getter], f: [Function: f], [Symbol(s)]: [class A] }`},
		{`console.log(new Proxy({}, { ownKeys() { throw 1 }, getPrototypeOf() { throw 2 } }))`, "info", `[value that cannot be shown]`},
		{`console.log(new Date(0), /x/g, new Uint8Array(2), [1, , 3], Object.create(null), new (class P { q = 1 })())`, "info", `1970-01-01T00:00:00.000Z /x/g Uint8Array(2) [0, 0] [1, <empty>, 3] [Object: null prototype] {} P { q: 1 }`},
		{`console.dir({ a: 1 }, { depth: 1 })`, "info", `{ a: 1 }`},
		{`console.table([{ a: 1 }])`, "info", `[{ a: 1 }]`},
		{`console.assert(true, 'x'); console.assert(false, '%d left', 3)`, "error", `Assertion failed: 3 left`},
		{`console.assert()`, "error", `Assertion failed`},
		{`function f() { console.trace('a', 1) } f()`, "debug", "Trace: a 1\n    at f (task.js:1:24)\n    at task (task.js:1:40)"},
		{`console.log(new ReferenceError('atob is not defined').message, typeof fetch)`, "info", `atob is not defined undefined`},
		{`console.log('a\u0000b')`, "info", "a\x00b"},
		{`console.log()`, "info", ""},
		{`tools.log('warn', 'careful', { n: 1 })`, "warn", `careful { n: 1 }`},
		{`tools.log('just this')`, "info", `just this`},
		{`console.log(Array.from({ length: 1000 }, (_, i) => i).slice(0, 101).length, 'x'.repeat(3))`, "info", `101 xxx`},
	} {
		out := start(t, c.code+`; module.exports = () => 1`, "")
		wantResult(t, out, "1")
		if len(out.Logs) != 1 || out.Logs[0].Level != c.level || out.Logs[0].Message != c.want {
			t.Errorf("%s\n got %+v\nwant %s", c.code, out.Logs, c.want)
		}
	}
	out := start(t, `console.log('é'.repeat(1e6)); console.log(new Array(1e6).fill('xxxxxxxxxxxxxxxxxxxxx')); module.exports = () => { for (let i = 0; i < 30000; i++) console.log(i) }`, "")
	wantResult(t, out, "null")
	if len(out.Logs) != 10000 || !strings.HasPrefix(out.Logs[9999].Message, "9999 lines of ") {
		t.Errorf("%d lines, the last %q", len(out.Logs), out.Logs[len(out.Logs)-1].Message)
	}
	for _, l := range out.Logs[:2] {
		if len(l.Message) > 64<<10 {
			t.Errorf("a line of %d bytes", len(l.Message))
		}
	}
	out = start(t, "module.exports = () => {\n  console.error(new Error('bad'))\n}", "")
	if got := out.Logs[0].Message; !strings.HasPrefix(got, "Error: bad\n    at <anonymous> (task.js:2:") {
		t.Errorf("error logged as %q", got)
	}
}

// TestConsoleState: groups, counts and timers hold across a wait.
func TestConsoleState(t *testing.T) {
	t.Parallel()
	out := start(t, `module.exports = async () => {
  console.group('outer'); console.count(); console.time('t'); console.groupCollapsed();
  await tools.a.b();
  console.count(); console.groupEnd(); console.groupEnd(); console.groupEnd();
  console.countReset(); console.count(); console.timeLog('t', 'so far'); console.timeEnd('t'); console.timeEnd('t');
}`, "")
	logs := out.Logs
	out = resume(t, out, value(1, "0"))
	wantResult(t, out, "null")
	var got []string
	for _, l := range append(logs, out.Logs...) {
		got = append(got, measured.ReplaceAllString(l.Message, "#ms"))
	}
	want := []string{"outer", "  default: 1", "    default: 2", "default: 1", "t: #ms so far", "t: #ms", "t: not started"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

var measured = regexp.MustCompile(`\d+ms`)

// TestClearedLater: a timer that is cleared in a later slice is a cancelled call.
func TestClearedLater(t *testing.T) {
	t.Parallel()
	out := start(t, `module.exports = async () => { const timer = setTimeout(() => {}, 20); await tools.a.b(); clearTimeout(timer); return 1 }`, "")
	if len(out.Calls) != 2 {
		t.Fatalf("%d calls", len(out.Calls))
	}
	out = resume(t, out, value(2, "null"))
	wantResult(t, out, "1")
	if !slices.Equal(out.Cancelled, []uint32{1}) {
		t.Errorf("cancelled %v", out.Cancelled)
	}
}
