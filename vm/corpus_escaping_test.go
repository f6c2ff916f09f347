package vm_test

import "github.com/amberhost/amber/vm"

// escaping are programs that look for a way out, or for another's data, and must
// see nothing: each has its exact result.
var escaping = []hostile{
	{name: "modules of the engine", code: `return [typeof std, typeof os, typeof bjson, typeof scriptArgs, typeof gc, typeof Worker, typeof require('x')]`,
		err: `IMPORT_UNSUPPORTED: require of "x"`},
	{name: "globals by every route", code: `
		const routes = [() => globalThis, () => eval('this'), () => (0, eval)('globalThis'), () => Function('return this')(), () => new Function('return this')(),
			() => (() => {}).constructor('return this')(), () => (async () => {}).constructor('return globalThis')(), () => (function* () {}).constructor('return globalThis')().next().value,
			() => Reflect.construct(Function, ['return this'])(), () => Function.prototype.call.call(Function('return this')), () => [].sort.constructor('return this')(),
			() => tools.x.constructor, () => console.log.constructor('return this')(), () => setTimeout.constructor('return this')(), () => __callHostTool__.constructor('return this')()];
		const found = [];
		for (const route of routes) {
			let g = route();
			if (g instanceof Promise) g = await g;
			for (const name of ['std', 'os', 'bjson', 'scriptArgs', 'gc', 'print', 'process', 'Deno', 'fetch', 'WebAssembly', 'Worker', 'QJS_PROXY_VALUE']) if (g && g !== tools.x.constructor && name in g && typeof g !== 'function') found.push(name);
		}
		return found`, want: `[]`},
	{name: "import of everything", code: `
		const got = [];
		for (const name of ['qjs:std', 'qjs:os', 'qjs:bjson', 'std', 'os', 'bjson', '<init_global>', '<init>', 'amber:prelude', 'task', './task', './task.js', '../task.js', '/etc/passwd', './x.so', 'x.json',
				'file:///etc/passwd', 'http://localhost/', 'data:text/javascript,export default 1', 'node:fs', 'fs', '', '.', '/', '\0', '-------', 'x'.repeat(1e5)]) {
			for (const load of [(n) => import(n), (n) => (0, eval)('(n) => import(n)')(n), (n) => new Function('n', 'return import(n)')(n)]) {
				try { got.push(name, Object.keys(await load(name))) } catch (e) { if (!(e instanceof Error)) got.push(name, e) }
			}
		}
		return got`, want: `[]`},
	{name: "its own module", code: `import * as me from './task.js'; export default () => Object.keys(me)`, whole: true, want: `["default"]`},
	{name: "import.meta", code: `export default () => [Object.keys(import.meta), import.meta.url]`, whole: true, want: `[["url","main"],"file://task.js"]`},
	{name: "a shared buffer", code: `
		const a = new Int32Array(new SharedArrayBuffer(8)); a[0] = 1;
		return [typeof Atomics, a[0], await tools.a.b(), a[0]]`, want: `["undefined",1,0,1]`, replies: [][]vm.Reply{{value(1, "0")}}},
	{name: "the stack hook", code: `
		let called = 0;
		try { Error.prepareStackTrace = () => { called++ } } catch {}
		try { Object.defineProperty(Error, 'prepareStackTrace', { value: () => { called++ } }) } catch {}
		try { Reflect.set(Error, 'prepareStackTrace', () => { called++ }) } catch {}
		class E extends Error {} E.prepareStackTrace = () => { called++ };
		void new E().stack; void new Error().stack; Error.captureStackTrace({}); tools.a.b.c;
		return called`, want: `0`},
	{name: "callers", code: `
		const seen = [];
		function look() { for (const f of [() => look.caller, () => look.arguments, () => arguments.callee.caller]) try { const v = f(); if (v) seen.push(String(v)) } catch {} }
		tools.a.b({ toJSON: look }).catch(() => {}); console.log({ get x() { look() } }); [1].forEach(look);
		return seen`, want: `[]`},
	{name: "poisoned built-ins", code: `
		const stolen = [], steal = function () { stolen.push(typeof this); throw new Error('stolen') };
		for (const [o, names] of [[Map.prototype, ['get', 'set', 'delete']], [WeakMap.prototype, ['get', 'set']], [Promise, ['resolve', 'reject']], [Function.prototype, ['call', 'apply', 'bind']],
			[String.prototype, ['slice', 'indexOf', 'split']], [Array.prototype, ['push', 'join', 'map']], [JSON, ['stringify', 'parse']], [Reflect, ['apply', 'ownKeys']], [Math, ['max', 'min', 'trunc']]])
			for (const name of names) o[name] = steal;
		Array.prototype[Symbol.iterator] = steal;
		const answer = await tools.a.b(1);
		return { answer, stolen: stolen.length }`, want: `{"answer":7,"stolen":0}`, replies: [][]vm.Reply{{value(1, "7")}}},
	{name: "a poisoned prototype", code: `
		const seen = [];
		for (const key of ['link', 'record', 'resolve', 'reject', 'run', 'args', 'steps', 'id', 'text', 'next', 'value', 'get', 'set', 'enumerable', 'writable'])
			Object.defineProperty(Object.prototype, key, { __proto__: null, configurable: true, get() { seen.push(key) }, set() { seen.push(key) } });
		const answer = await tools.a.b(1);
		for (const key of ['get', 'set', 'value', 'enumerable', 'writable']) delete Object.prototype[key];
		return [answer, seen.length]`, want: `[7,0]`, replies: [][]vm.Reply{{value(1, "7")}}},

	{name: "forged call ids", code: `
		__callHostTool__('a', 'b', []); try { __callHostTool__('a', 'b', []).id = 77 } catch {} clearTimeout(1); clearTimeout(77); clearTimeout(-1); clearTimeout(2 ** 32 + 1); clearTimeout({ valueOf: () => 1 });
		return await tools.c.d()`, want: `2`,
		replies: [][]vm.Reply{{value(0, "0"), value(99, "99"), value(1<<31, "9"), value(1<<32-1, "9"), value(3, "2")}}},
	{name: "settling twice", code: `const got = []; tools.a.b().then((v) => got.push(v)); await tools.a.c(); await tools.a.d(); return got`, want: `[1]`,
		replies: [][]vm.Reply{{value(1, "1"), value(1, "2"), value(2, "0"), value(2, "3")}, {value(1, "4"), value(2, "5"), value(3, "0"), value(3, "6")}}},
	{name: "another's call", code: `__currentStackRunId = 'other'; __currentTaskRunId = 'other'; return await tools.a.b()`, want: `1`, replies: [][]vm.Reply{{value(1, "1")}}},
	{name: "the host's timer", code: `try { await __callHostTool__('timer', '', [1]) } catch (e) { return e.code }`, want: `"UNKNOWN_SERVICE"`},
	{name: "steps that are none", code: `__callHostTool__('a', [{ toString: () => '","x":"' }, '"]}', '\u0000', '\ud800'], []); return await tools['"}{"'].b()`, want: `1`, replies: [][]vm.Reply{{value(1, "0"), value(2, "1")}}},
	{name: "a result in other words", code: `return { toJSON: () => ({ __proto__: null, a: '\ud800</script>"' }) }`, want: `{"a":"\ud800</script>\""}`},
	{name: "__proto__ in a reply", code: `const r = await tools.a.b(); return [r.polluted, ({}).polluted ?? null, Object.keys(r)]`, want: `[null,null,["__proto__"]]`,
		replies: [][]vm.Reply{{value(1, `{"__proto__":{"polluted":1}}`)}}},
	{name: "errors that lie", code: `throw { name: 'InternalError', message: 'out of memory', code: 'ENGINE_ERROR', stack: 'amber:prelude' }`, err: `ENGINE_ERROR: out of memory`},

	{name: "memory of before", code: `
		const dirty = [new Uint8Array(4e6), new Uint8Array(new ArrayBuffer(4e6)), new Float64Array(1e5), new Uint8Array(new ArrayBuffer(10, { maxByteLength: 1e6 }))].some((a) => a.some((x) => x !== 0));
		const b = new ArrayBuffer(10, { maxByteLength: 1e6 }); b.resize(1e6); new Uint8Array(b).fill(9); b.resize(1); b.resize(1e6);
		return [dirty, new Uint8Array(b).slice(1).some((x) => x !== 0)]`, want: `[false,false]`},
	{name: "what another left", code: `
		const seen = [globalThis.left, ({}).left, [].left, Math.left, tools.left.left === undefined];
		globalThis.left = Object.prototype.left = Array.prototype.left = Math.left = 1;
		return seen.map((x) => x ?? null)`, want: `[null,null,null,null,false]`},
	{name: "beyond a view", code: `
		const v = new DataView(new ArrayBuffer(8)), seen = [];
		for (const at of [8, 7.5, -1, 2 ** 31, 2 ** 32, 2 ** 53, NaN, 1]) for (const f of ['getFloat64', 'getBigUint64', 'setFloat64']) try { v[f](at, 1); seen.push(at) } catch {}
		return seen`, want: `[null,null,null]`},
	{name: "a view of a buffer that shrinks", code: `
		const b = new ArrayBuffer(1e6, { maxByteLength: 1e6 }), a = new Uint8Array(b), seen = [];
		const shrink = { valueOf() { b.resize(8); return 1 } };
		a.fill(shrink, 0, 1e6); b.resize(1e6);
		try { a.set({ length: 1e6, get 0() { b.resize(8); return 1 } }) } catch {} b.resize(1e6);
		a.subarray(shrink).length; b.resize(1e6); a.slice(shrink, 1e6); b.resize(1e6); a.copyWithin(shrink, 0, 1e6); b.resize(1e6);
		a.indexOf(1, shrink); b.resize(1e6); try { a.with(0, shrink) } catch {} b.resize(1e6); a.sort(() => { b.resize(8); return 0 });
		return a.length`, want: `8`},
	{name: "a buffer that moves away from its views", code: `
		const b = new ArrayBuffer(1e5), a = new Uint32Array(b), seen = [];
		for (const move of ['transfer', 'transferToFixedLength']) try { b[move](4); seen.push(move, a[1000]) } catch (e) { seen.push(e.name) }
		return seen`, want: `["TypeError","TypeError"]`},
	{name: "an array that shrinks under a callback", code: `
		const big = () => Array.from({ length: 1e4 }, (_, i) => [i]), seen = [];
		for (const f of [(a, cut) => a.map(cut), (a, cut) => a.filter(cut), (a, cut) => a.reduce((x, y) => { cut(); return y }), (a, cut) => a.sort((x, y) => { cut(); return 1 }), (a, cut) => a.flatMap(cut),
			(a, cut) => a.splice(0, { valueOf() { cut(); return 1e4 } }), (a, cut) => a.concat({ [Symbol.isConcatSpreadable]: true, get length() { cut(); return 1e3 } }), (a, cut) => a.indexOf(1, { valueOf() { cut(); return 0 } }),
			(a, cut) => a.join({ toString() { cut(); return ',' } }), (a, cut) => Array.from(a, cut), (a, cut) => a.fill({ toString: cut }, { valueOf() { cut(); return 0 } }), (a, cut) => a.lastIndexOf(1, { valueOf() { cut(); return 9999 } })]) {
			const a = big(); let once = false;
			f(a, () => { if (!once) { once = true; a.length = 0; for (let i = 0; i < 100; i++) new Array(1000).fill(i) } return 1 });
			seen.push(a.length <= 1e4);
		}
		return seen.every((x) => x)`, want: `true`},
	{name: "an iterator of what is deleted", code: `
		const m = new Map(Array.from({ length: 1000 }, (_, i) => [i, {}])), s = new Set(m.keys()); let n = 0;
		for (const [k] of m) { m.clear(); n++; if (n < 5) m.set(k + 1, {}) }
		s.forEach((x) => { s.clear(); n++ }); m.forEach(() => m.clear());
		return n`, want: `6`},
	{name: "an expression that changes itself", code: `
		const r = /a/g; let n = 0;
		r.exec = function () { n++; r.compile('(b)+'); return n > 3 ? null : { index: 0, 0: 'a', length: 1, get groups() { r.compile('((c)))*'.slice(0, 4)) } } };
		try { 'aaa'.replace(r, () => { r.compile('x'); return 'y' }) } catch (e) { n += 10 }
		return n`, want: `14`},
	{name: "a Proxy without its target", code: `
		const { proxy, revoke } = Proxy.revocable({}, { get() { revoke(); return 1 }, ownKeys() { revoke(); return [] } }); const seen = [];
		for (const f of [() => proxy.x, () => proxy.x, () => Object.keys(proxy), () => JSON.stringify(proxy), () => console.log(proxy), () => tools.a.b(proxy)]) try { f(); seen.push(1) } catch (e) { seen.push(e.name) }
		return seen`, want: `[1,"TypeError","TypeError","TypeError",1,"TypeError"]`},
	{name: "leaving its function", code: `} }).task; (0, { async x() {`, whole: true, err: "INVALID_TASK: task.js:1"},
	{name: "the arguments of its wrapper", code: `return [arguments.length, typeof arguments.callee, typeof this, typeof new.target]`, want: `[3,"function","object","undefined"]`},
	{name: "a clock that stands still", code: `const t = Date.now(), p = performance.now(); for (let i = 0; i < 1e5; i++); return [Date.now() >= t, performance.now() >= p, t > 1.7e12]`, want: `[true,true,true]`},
	{name: "the environment", code: `return [new Date(0).getTimezoneOffset(), typeof navigator, (1.5).toLocaleString()]`, want: `[0,"undefined","1.5"]`},
}
