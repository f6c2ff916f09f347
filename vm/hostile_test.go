package vm_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/amberhost/amber/service"
)

// TestPreludeOutOfReach: no function of the prelude comes into a task's hands,
// and with them the host function neither.
func TestPreludeOutOfReach(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ code, want string }{
		"the engine's stack hook": {`
			let called = 0, why = '';
			try { (function () { 'use strict'; Error.prepareStackTrace = () => { called++; return '' } })() } catch (e) { why = e.name }
			try { Object.defineProperty(Error, 'prepareStackTrace', { get() { called++ } }) } catch (e) { why += e.name }
			delete Error.prepareStackTrace;
			tools.a.b().catch(() => {}); void new Error('x').stack; console.trace();
			const d = Object.getOwnPropertyDescriptor(Error, 'prepareStackTrace');
			return [called, why, typeof d.set, d.writable, d.configurable]`, `[0,"TypeErrorTypeError","undefined",false,false]`},
		"the limit of stacks": {`
			const seen = [];
			for (const limit of [0, NaN, Infinity, { valueOf() { seen.push('valueOf') } }]) {
				Error.stackTraceLimit = limit;
				seen.push(new Error('x').stack.includes('task.js:'));
			}
			try { Object.defineProperty(Error, 'stackTraceLimit', { get() { seen.push('get') } }) } catch (e) { seen.push(e.name) }
			return seen`, `[true,true,true,true,"TypeError"]`},
		"callers": {`
			const seen = [];
			function look() {
				for (const f of [() => look.caller, () => look.arguments, () => arguments.callee.caller]) {
					try { const v = f(); if (v !== null && v !== undefined) seen.push(String(v)) } catch {}
				}
			}
			const looks = { toJSON: look, toString: look, valueOf: look, get message() { look(); return '' }, get default() { look() } };
			tools.a.b(looks).catch(() => {});
			try { setTimeout(() => {}, looks) } catch {}
			console.log(new Proxy(looks, { ownKeys() { look(); return [] }, getPrototypeOf() { look(); return null } }));
			return seen`, `[]`},
		"this of a trap or an accessor": {`
			const plain = new Set([Object.prototype]), seen = [];
			for (const key of ['parent', 'args', 'link', 'run', 'call', 'next', 'heard', 'label', 'options', 'resolve', 'left']) {
				Object.defineProperty(Object.prototype, key, { configurable: true,
					get() { seen.push(key) }, set() { seen.push(key) } });
			}
			tools.a.b().c.d(1).catch(() => {}); tools.with({}).x(); console.log({ a: [1] }, new Error('x')); setTimeout(() => {}, 1);
			for (const key of ['parent', 'args', 'link', 'run', 'call', 'next', 'heard', 'label', 'options', 'resolve', 'left']) delete Object.prototype[key];
			return seen`, `[]`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantResult(t, start(t, `module.exports = async function (input, { tools }) { `+c.code+` }`, ""), c.want)
		})
	}
}

// TestPoisonedPromises: a task whose promises are broken fails with its own
// error; it does not seem to wait for nothing.
func TestPoisonedPromises(t *testing.T) {
	t.Parallel()
	const broken = `Object.defineProperty(Promise.prototype, 'constructor', { get() { throw new Error('mine') } });`
	const species = `Object.defineProperty(Promise, Symbol.species, { get() { throw new Error('mine') } });`
	for _, code := range []string{
		broken + `module.exports = async () => 1`,
		species + `module.exports = async () => 1`,
		`module.exports = async () => { ` + broken + ` return 1 }`,
		`module.exports = async () => { ` + species + ` return 1 }`,
		`export default async () => { ` + broken + ` return 1 }`,
		`module.exports = async () => { ` + broken + ` tools.a.b(); await Promise.resolve() }`,
		`Object.defineProperty(module.exports, 'then', {}); module.exports = new Proxy({}, { get() { throw new Error('mine') } })`,
	} {
		if out := start(t, code, ""); out.Err == nil || out.Err.Message != "mine" {
			t.Errorf("%s\nended %v, %s, %+v", code, out.Ended, out.Result, out.Err)
		}
	}
	out := start(t, `module.exports = () => { `+broken+species+` return { then(done) { tools.a.b().then(done) } } }`, "")
	wantResult(t, resume(t, out, value(1, `7`)), `7`)
}

// TestPoisonedPrototypes: what a task does to the built-in prototypes does not
// keep its own error from being told.
func TestPoisonedPrototypes(t *testing.T) {
	t.Parallel()
	for _, poison := range []string{
		`Object.defineProperty(Array.prototype, 0, { get() { throw 1 }, set() { throw 2 } })`,
		`Object.defineProperty(Object.prototype, 0, { get() { throw 1 }, set() { throw 2 } })`,
		`Object.defineProperty(Error, Symbol.hasInstance, { value() { throw 3 } })`,
		`Object.defineProperty(Object.prototype, 'code', { get() {}, set() { throw 4 } })`,
	} {
		out := start(t, `module.exports = async () => { `+poison+`; try { await tools.a.b('x') } catch (e) { throw new Error('mine: ' + e.code) } }`, "")
		if out = resume(t, out, failure(1, service.Errorf("BAD", "no"))); out.Err == nil || out.Err.Message != "mine: BAD" || out.Err.Stack == "" {
			t.Errorf("%s: %+v", poison, out.Err)
		}
	}
	out := start(t, `Object.defineProperty(Array.prototype, 0, { set() { throw new Error('my setter') } }); module.exports = async () => { await tools.a.b({ n: 1 }) }`, "")
	if out.Err == nil || !strings.Contains(out.Err.Message, "my setter") {
		t.Errorf("%+v", out.Err)
	}
}

func TestLargeErrors(t *testing.T) {
	t.Parallel()
	out := start(t, `module.exports = async () => {
		const e = new Error('é'.repeat(1e6));
		e.name = 'N'.repeat(1e5); e.code = 'C'.repeat(1e5);
		e.stack = '    at f (task.js:1:1)\n'.repeat(1e5);
		throw e }`, "")
	e := out.Err
	if e == nil {
		t.Fatal("no error")
	}
	for what, c := range map[string]struct {
		text string
		most int
	}{"name": {e.Name, 256}, "code": {e.Code, 256}, "message": {e.Message, 8 << 10}, "stack": {e.Stack, 32 << 10}} {
		if n := len(c.text); n > c.most || n < c.most-4 || !strings.HasSuffix(c.text, "… (clipped)") || !utf8.ValidString(c.text) {
			t.Errorf("%s has %d bytes and ends %q", what, n, c.text[max(0, n-20):])
		}
	}
}

// TestLargeTexts: strings that the engine does not keep in one piece get out.
func TestLargeTexts(t *testing.T) {
	t.Parallel()
	out := start(t, `module.exports = async (input) => { let s = ''; for (let i = 0; i < 1e5; i++) s += 'é' + i; return [await tools.a.b(s, s) === s, s.length] }`, "")
	var sent string
	if err := json.Unmarshal(out.Calls[0].Args()[0], &sent); err != nil || len(sent) != 688890 {
		t.Fatalf("%d bytes, %v", len(sent), err)
	}
	wantResult(t, resume(t, out, value(1, string(out.Calls[0].Args()[1]))), `[true,588890]`)
}

func TestGeneratorEntry(t *testing.T) {
	t.Parallel()
	for _, code := range []string{`module.exports = function* () {}`, `exports.runTask = async function* () {}`, `export default function* () {}`, `export async function* runTask() {}`} {
		out := start(t, code, "")
		if out.Err == nil || out.Err.Code != service.CodeInvalidTask || !strings.HasPrefix(out.Err.Message, "the entry is a generator function: ") {
			t.Errorf("%s: result %s, error %+v", code, out.Result, out.Err)
		}
	}
}

// TestTimerService: only setTimeout asks the host for a timer.
func TestTimerService(t *testing.T) {
	t.Parallel()
	for _, call := range []string{`tools.timer(50)`, `tools.timer.x(50)`, `tools.timer(5).x()`, `tools.with({}).timer(50)`, `__callHostTool__('timer', '', [50])`, `__callHostTool__({ toString: () => 'timer' }, [], 50)`} {
		out := start(t, `module.exports = async () => { try { await `+call+` } catch (e) { return [e.code, e.message.includes('"timer"'), e.stack.includes('task.js:')] } }`, "")
		wantResult(t, out, `["UNKNOWN_SERVICE",true,true]`)
		if len(out.Calls) > 0 {
			t.Errorf("%s called %s", call, wire(out.Calls))
		}
	}
	out := start(t, `module.exports = async () => { tools.timer(1); await null; await null; return 1 }`, "")
	wantResult(t, out, `1`)
	if len(out.Logs) != 1 || !strings.Contains(out.Logs[0].Message, "tools.timer(…) failed and nothing awaited it") {
		t.Errorf("logs %+v", out.Logs)
	}
}

func TestTimerDelays(t *testing.T) {
	t.Parallel()
	for delay, want := range map[string]string{
		`NaN`: `0`, `undefined`: `0`, `null`: `0`, `-5`: `0`, `-Infinity`: `0`, `'x'`: `0`, `{}`: `0`, `-0.5`: `0`,
		`'5'`: `5`, `' 1e3 '`: `1000`, `7.9`: `7`, `true`: `1`, `{ valueOf: () => 6 }`: `6`, `315360000000`: `315360000000`,
	} {
		out := start(t, `module.exports = () => new Promise((done) => setTimeout(done, `+delay+`))`, "")
		if len(out.Calls) != 1 || string(out.Calls[0].Args()[0]) != want {
			t.Errorf("%s: %s, want %s, error %v", delay, wire(out.Calls), want, out.Err)
		}
	}
	for _, delay := range []string{`315360000001`, `Infinity`, `'1e300'`} {
		out := start(t, `module.exports = async () => { try { setTimeout(() => {}, `+delay+`) } catch (e) { return e.name } }`, "")
		wantResult(t, out, `"RangeError"`)
		if len(out.Calls) > 0 {
			t.Errorf("%s called %s", delay, wire(out.Calls))
		}
	}
}
