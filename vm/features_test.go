package vm_test

// frameOfPrograms is what stands around a generated body. A wait is a number k
// that names it within its branch; input.suspend is the percentage of waits
// that are calls, the others are promises that are settled at once.
const frameOfPrograms = `module.exports = async (input, { tools }) => {
const hash = (k, salt) => Math.imul(Math.imul(k + salt, 0x9e3779b1) ^ (k >>> 3), 0x85ebca6b) >>> 8;
const mix = (s, value) => { let h = s | 0; for (const c of String(value)) h = Math.imul(h ^ c.codePointAt(0), 16777619); return h >>> 0; };
const sum = (...list) => list.reduce((a, b) => a + b, 0);
const tag = (strings, ...values) => strings.raw.join('').length + values.length;
const answers = {
  wait: (n) => Promise.resolve(n),
  object: (n, k) => Promise.resolve({ n, list: [n, k], text: 'é' + n }),
  risky: (n, k) => n % 3 ? Promise.resolve(n) : Promise.reject(Object.assign(new Error('no ' + k), { code: 'NO' })) };
// started is a call that is sent at once, and not when it is awaited.
const started = (kind, k, name) => tools.x[kind](k, name).then((v) => v);
const forms = [(kind, k, name) => tools.x[kind](k, name), started, (kind, k, name) => __callHostTool__('x', [kind], [k, name])];
class Branch {
  constructor(name) { this.name = name; this.n = 0; this.forks = 0; }
  log(...values) { console.log(this.name, ...values); }
  ask(kind, site, form) {
    const k = site * 100 + this.n++ % 100;
    this.log('asks', k);
    if (hash(k, input.seed + 1) % 100 >= input.suspend) return answers[kind](hash(k, input.seed) % 1000, k);
    return (form ?? forms[k % forms.length])(kind, k, this.name);
  }
  start(site) { return this.ask('wait', site, started); }
  wait(site) { return this.ask('wait', site); }
  object(site) { return this.ask('object', site); }
  risky(site) { return this.ask('risky', site); }
}
const run = async (L, s, body) => { try { return await body(L, s); } catch (e) { L.log('failed', e.name, e.message, e.code); return -1; } };
const fork = (L, bodies) => { const at = ++L.forks; return Promise.all(bodies.map((body, i) => run(new Branch(L.name + '.' + at + i), i, body))); };
return await run(new Branch('main'), 1, async (L, s) => {
BODY return s;
});
}`

// features are what programs are made of: statements of a block with a scope of
// its own. See generator.fill for the words in capitals.
var features = []struct {
	name string
	code string
}{
	{"closures", `
const make_N = (c) => ({ up: (by) => (c += by), get c() { return c } });
const a_N = make_N(INT), b_N = make_N(s);
a_N.up(WAIT); b_N.up(a_N.c + WAIT); a_N.up(b_N.c);
const fs_N = []; for (let i = 0; i < 3; i++) { fs_N.push(() => i += INT); if (i === 1) await L.wait(SITE); }
s = mix(s, [a_N.c, b_N.c, ...fs_N.map((f) => f())]);
`},
	{"generators", `
const log_N = [];
function* inner_N(n) { try { while (n-- > 0) log_N.push(yield n); return 'ret' } finally { log_N.push('inner') } }
function* outer_N() { try { const r = yield* inner_N(3); log_N.push(r); yield [...inner_N(2)] } catch (e) { log_N.push('caught ' + e); yield 9 } finally { log_N.push('outer') } }
const g_N = outer_N(), h_N = outer_N();
for (let r = g_N.next(), i = 0; !r.done && i < 6; i++) r = g_N.next(i === 2 ? WAIT : i);
h_N.next(); await L.wait(SITE); log_N.push(h_N.throw(WAIT).value); log_N.push(h_N.return(INT).value);
L.log(log_N); s = mix(s, log_N);
`},
	{"async iterators", `
const log_N = [];
async function* count_N(n) { try { for (let i = 0; i < n; i++) { yield i + WAIT; log_N.push('after ' + i) } } finally { log_N.push('closing', WAIT) } }
for await (const v of count_N(3)) { log_N.push(v); await L.wait(SITE) }
async function* left_N() { try { yield WAIT; yield PROMISE; yield 3 } finally { log_N.push('left') } } // break does not await return: see language.txt
for await (const v of left_N()) { log_N.push(v); if (v % 2 === INT % 2) break; await L.wait(SITE) }
const it_N = count_N(2); log_N.push((await it_N.next()).value, (await it_N.return(WAIT)).value, (await it_N.next()).done);
async function* both_N() { yield* count_N(1); yield* [PROMISE, 2]; try { yield RISKY } catch (e) { yield e.message } }
for await (const v of both_N()) log_N.push(v);
L.log(log_N); s = mix(s, log_N);
`},
	{"a queue of an async generator", `
async function* g_N() { const got = []; try { got.push(yield WAIT); got.push(yield WAIT); yield 'third' } finally { L.log('ends', ...got); await L.wait(SITE) } }
const it_N = g_N(), all_N = await Promise.all([it_N.next('a'), it_N.next('b'), it_N.next('c'), it_N.return('d'), it_N.next()]);
L.log(all_N); s = mix(s, JSON.stringify(all_N));
`},
	{"classes", `
class A_N { static made = 0; static { this.made += INT } #x = INT; #steps = []; constructor(n) { A_N.made++; this.n = n; this.kind = new.target.name }
  async #bump(by) { this.#x += by; await L.wait(SITE); this.#steps.push(this.#x); return this }
  up(by) { return this.#bump(by) } get x() { return this.#x } set x(v) { this.#x = v * 2 } get steps() { return this.#steps } static is(o) { return #x in o } async m() { return 'A' + WAIT } }
class B_N extends A_N { y = this.n + 1; async m() { const before = this.x; const r = await super.m() + (await L.wait(SITE)); super.x = before; return r + super.x } toString() { return 'B' + this.y } }
const o_N = new B_N(WAIT); await (await o_N.up(INT)).up(WAIT); o_N.x += INT;
L.log(o_N.kind, A_N.made, A_N.is(o_N), A_N.is({}), o_N.x, await o_N.m(), o_N.steps, String(o_N)); s = mix(s, o_N.steps);
`},
	{"class evaluated around waits", `
const C_N = class extends (WAIT, Object) { static a = [INT]; [await L.wait(SITE)] = 1; static [` + "`k${WAIT}`" + `]() { return this.a } #p = () => this; get me() { return this.#p() === this } };
L.log(Object.keys(new C_N()), Object.getOwnPropertyNames(C_N), new C_N().me);
`},
	{"Proxy", `
const seen_N = [], target_N = { a: 1, async m(x) { return [this === p_N, x, await L.wait(SITE)] } };
const p_N = new Proxy(target_N, new Proxy({}, { get(_, trap) { return (...args) => { seen_N.push(trap + ' ' + String(args[1] && args[1].toString ? args[1].toString() : '')); return Reflect[trap](...args) } } }));
p_N.b = WAIT; const r_N = await p_N.m(WAIT); delete p_N.a; p_N.b += WAIT; const keys_N = Object.keys({ ...p_N }); 'c' in p_N;
const lazy_N = new Proxy(function () {}, { apply: async (f, self, args) => args.length + WAIT, construct: (f, [v]) => ({ v }) });
L.log(seen_N, r_N, keys_N, await lazy_N(1, 2), new lazy_N(WAIT).v); s = mix(s, seen_N);
`},
	{"WeakRef and weak collections", `
let kept_N = { v: WAIT }, lost_N = { v: 2 }; const ref_N = new WeakRef(kept_N), gone_N = new WeakRef(lost_N), map_N = new WeakMap([[kept_N, 'in map'], [lost_N, 'lost']]), set_N = new WeakSet([kept_N]);
const final_N = new FinalizationRegistry((held) => L.log('finalized', held)); final_N.register(lost_N, 'held ' + INT); final_N.register(kept_N, 'never');
lost_N = null; await L.wait(SITE); await null;
L.log(ref_N.deref() === kept_N, ref_N.deref().v, gone_N.deref(), map_N.get(kept_N), set_N.has(kept_N)); s = mix(s, ref_N.deref().v + WAIT); globalThis.kept_N = [kept_N, final_N];
`},
	{"RegExp lastIndex", `
const re_N = /(?<k>[a-z])(\d+)?/dg, y_N = /a|b/y, text_N = 'a1b22-c' + WAIT + 'ab'; const out_N = [];
for (let m; (m = re_N.exec(text_N));) { out_N.push(m.groups.k + re_N.lastIndex + m.indices[1]); if (re_N.lastIndex === 2) await L.wait(SITE) }
const all_N = text_N.matchAll(/\d+/g); out_N.push(all_N.next().value[0]); await L.wait(SITE); for (const m of all_N) out_N.push(m.index);
y_N.lastIndex = text_N.length - 2; out_N.push(y_N.test(text_N), y_N.lastIndex); await L.wait(SITE); out_N.push(y_N.test(text_N), y_N.lastIndex, y_N.test(text_N), y_N.lastIndex);
out_N.push(text_N.replace(/(?<=[a-z])\d+/g, (d) => d * 2), text_N.split(/(\d)/u));
L.log(out_N); s = mix(s, out_N);
`},
	{"Map and Set order", `
const m_N = new Map([['a', 1], ['b', 2], ['c', 3]]), seen_N = []; let turns_N = 0;
for (const [k, v] of m_N) { seen_N.push(k + v); if (turns_N++ > 8) break; if (k === 'a') { m_N.delete('b'); m_N.set('d', WAIT) } if (k === 'c') { m_N.delete('a'); m_N.set('a', 9); await L.wait(SITE) } if (k === 'd') m_N.set('e' + WAIT % 3, 0) }
const set_N = new Set([3, 1, 2]), it_N = set_N.values(); it_N.next(); set_N.delete(1); await L.wait(SITE); set_N.add(1); set_N.add(NaN); set_N.add(-0);
seen_N.push(...it_N, m_N.size, [...m_N.keys()].join()); const e_N = m_N.entries(); e_N.next(); await L.wait(SITE); m_N.clear(); m_N.set('z', 1); seen_N.push(e_N.next().value);
L.log(seen_N); s = mix(s, seen_N);
`},
	{"BigInt", `
let n_N = BigInt(WAIT) + 2n ** 65n; n_N = n_N * (await L.wait(SITE), 3n) - BigInt(INT); n_N **= 3n; await L.wait(SITE); n_N %= 10n ** 30n + 57n; n_N ^= 1n << 70n;
let a_N = 0n, b_N = 1n; for (let i = 0; i < 150; i++) { [a_N, b_N] = [b_N, a_N + b_N]; if (i === 75) await L.wait(SITE) }
const big_N = new BigInt64Array([n_N, -n_N]); await L.wait(SITE); big_N[0] ^= big_N[1];
L.log(String(n_N), a_N.toString(36), BigInt.asIntN(64, a_N), [...big_N].map(String)); s = mix(s, n_N);
`},
	{"typed arrays", `
const buffer_N = new ArrayBuffer(16, { maxByteLength: 64 }), u8_N = new Uint8Array(buffer_N), f64_N = new Float64Array(buffer_N, 8, 1), view_N = new DataView(buffer_N, 2, 8);
u8_N.set([1, 2, WAIT, 300]); view_N.setInt32(4, WAIT * -7, true); f64_N[0] = WAIT / 7; await L.wait(SITE); view_N.setFloat32(0, 1.1); u8_N.copyWithin(4, 0, 3); buffer_N.resize(32); u8_N[31] = WAIT;
const sub_N = u8_N.subarray(1, 5), it_N = u8_N.entries(); it_N.next(); await L.wait(SITE); sub_N.fill(7, 2); sub_N.sort();
L.log([...u8_N], f64_N[0], view_N.getBigUint64(0), it_N.next().value, [...new Uint8ClampedArray([WAIT, -1, 1.5])], u8_N.length); s = mix(s, u8_N);
`},
	{"Symbol", `
const s_N = Symbol('local ' + INT), o_N = { [s_N]: WAIT, [Symbol.toPrimitive](hint) { return hint === 'number' ? this[s_N] : 'p:' + hint }, get [Symbol.toStringTag]() { return 'Tag' }, *[Symbol.iterator]() { yield* [1, this[s_N]] } };
const m_N = new Map([[s_N, 'sym'], [Symbol.for('shared'), 'reg']]); await L.wait(SITE);
L.log(m_N.get(s_N), m_N.get(Symbol.for('shared')), s_N.description, +o_N, ` + "`${o_N}`" + `, o_N + '', String(Object.prototype.toString.call(o_N)), [...o_N], Symbol.keyFor(Symbol.for('shared')), Reflect.ownKeys(o_N).length, o_N); s = mix(s, +o_N);
`},
	{"Date", `
const d_N = new Date(Date.UTC(2024, 0, 31, INT % 24, 59, 59, WAIT)); d_N.setUTCMonth(1); const at_N = +d_N; await L.wait(SITE); d_N.setUTCDate(d_N.getUTCDate() + WAIT); d_N.setUTCHours(-INT, 61);
L.log(d_N, d_N.getUTCDay(), d_N - at_N, JSON.stringify({ d_N }), new Date(NaN).getTime(), Date.parse(d_N.toISOString()) === d_N.getTime()); s = mix(s, d_N.getTime());
`},
	{"Error.stack", `
function thrower_N(n) { if (n > 0) return thrower_N(n - 1); throw new TypeError('t' + s, { cause: INT }) }
const kept_N = new RangeError('kept'); await L.wait(SITE);
const deep_N = async (n) => { if (n === 0) { await L.wait(SITE); thrower_N(2) } try { return await deep_N(n - 1) } finally { await L.wait(SITE) } };
try { await deep_N(2) } catch (e) { L.log(e.stack, e.cause, e instanceof TypeError); s = mix(s, e.stack) }
try { await Promise.any([deep_N(0).finally(() => {}), Promise.reject(kept_N)]) } catch (e) { L.log(e.name, e.errors.map((x) => x.stack)) }
class My_N extends Error { name = 'My'; constructor(m, o) { super(m, o); this.extra = INT } } const my_N = new My_N('m', { cause: kept_N }); await L.wait(SITE); L.log(my_N, my_N.stack, String(my_N));
`},
	{"finally across await", `
const log_N = [], f_N = async (how) => { for (let i = 0; i < 3; i++) { try { log_N.push('try ' + i, WAIT); if (how === i) return 'r' + i; if (i === 1) continue; RISKY; } catch (e) { log_N.push(e.message); if (how === 5) throw new Error('again') } finally { log_N.push('fin', await L.wait(SITE)); if (how === 7) break } } return 'end' };
for (const how of [INT % 3, 5, 7]) { try { log_N.push(await f_N(how)) } catch (e) { log_N.push('out ' + e.message) } }
const g_N = async () => { try { throw WAIT } finally { try { await L.wait(SITE) } finally { return 'overridden ' + WAIT } } }; log_N.push(await g_N());
const h_N = async () => { l: try { return WAIT } finally { await L.wait(SITE); break l } return 'broken out' }; log_N.push(await h_N());
L.log(log_N); s = mix(s, log_N);
`},
	{"deep recursion over waits", `
const down_N = async (n) => n === 0 ? WAIT : n + await down_N(n - 1); L.log(await down_N(300));
const tree_N = async (n) => n === 0 ? 1 : (await tree_N(n - 1)) + (n === 1 ? await L.wait(SITE) : 0); s = mix(s, await tree_N(12));
`},
	{"promise combinators", `
const never_N = new Promise(() => {});
L.log(await Promise.all([PROMISE, 1, PROMISE.then((v) => v + 1)]), await Promise.race([never_N, PROMISE, never_N]));
L.log((await Promise.allSettled([PROMISE, Promise.reject(INT)])).map((r) => r.status + (r.value ?? r.reason)), await Promise.any([Promise.reject(1), PROMISE]));
class P_N extends Promise { then(ok, bad) { P_N.n = (P_N.n ?? 0) + 1; return super.then(ok, bad) } } L.log(await P_N.resolve(WAIT).then((v) => v * 2), await new P_N((r) => r(L.wait(SITE))), P_N.n);
L.log(await Promise.resolve(L.wait(SITE)).finally(() => L.wait(SITE)).then((v) => v, () => 'bad'), await { then(ok) { L.wait(SITE).then(ok) } });
s = mix(s, await Promise.all([1, 2, 3].map(async (x) => x * INT)));
`},
	{"microtask order", `
const log_N = []; await L.wait(SITE); const add_N = (v) => () => log_N.push(v);
queueMicrotask(add_N('q1')); Promise.resolve().then(add_N('t1')).then(add_N('t2')); (async () => { log_N.push('sync'); await null; log_N.push('a1'); await { then(r) { log_N.push('then'); r() } }; log_N.push('a2') })(); queueMicrotask(() => { log_N.push('q2'); queueMicrotask(add_N('q3')) });
for (let i = 0; i < 8; i++) { await null; log_N.push(i) } L.log(log_N.join());
`},
	{"destructuring and spread", `
const { n: n_N, list: [first_N, ...rest_N] = [], text: text_N = 'none', missing: m_N = WAIT, ...others_N } = OBJECT; let a_N, b_N; [a_N = WAIT, , b_N = WAIT, ...[]] = [, 1, INT]; ({ [text_N]: a_N = WAIT } = {});
const log_N = []; const it_N = { *[Symbol.iterator]() { try { yield 1; yield 2; yield 3 } finally { log_N.push('closed') } } }; const [x_N = WAIT, y_N] = it_N; const t_N = {}; [t_N[await L.wait(SITE)], t_N.z] = it_N;
L.log(n_N, first_N, rest_N, text_N, m_N, others_N, a_N, b_N, x_N + y_N, t_N, log_N, Math.max(...rest_N, ...[WAIT], WAIT), { ...OBJECT, n: 0 }, [...text_N]); s = mix(s, n_N);
`},
	{"operands kept over a wait", `
const o_N = { v: 1, get g() { L.log('get'); return o_N }, f(...a) { return a.length + this.v } }, log_N = [], e_N = (x) => (log_N.push(x), x);
o_N.v += WAIT; o_N['v'] *= e_N(2) + WAIT; o_N.g.v = e_N(WAIT); o_N.w ??= WAIT; o_N.v &&= WAIT; o_N.g.g.v++; L.log(o_N.v, o_N.f(e_N(1), WAIT, ...[e_N(2), WAIT]), [e_N(1), WAIT, , e_N(3)].length);
L.log(e_N('a') + WAIT + e_N('b') + ` + "`${WAIT}${e_N('c')}${WAIT}`" + `, e_N(1) < WAIT === e_N(true), new (class { constructor(...a) { this.a = a } })(e_N(5), WAIT).a, (await L.object(SITE)).list?.[WAIT % 2], log_N, void WAIT, typeof WAIT, -WAIT); s = mix(s, log_N);
`},
	{"sloppy scopes", `
function sloppy_N(a, b) { const before = [...arguments]; a = 9; arguments[1] = 8; return async () => { await L.wait(SITE); a++; return [before, [...arguments], a, b, this === globalThis] } }
L.log(await sloppy_N(INT, 2, 3)());
with ({ in_N: WAIT, get slow() { return this.in_N + 1 } }) { await L.wait(SITE); in_N += slow; L.log(in_N) }
eval('var evaled_N = ' + WAIT); await L.wait(SITE); L.log(evaled_N, typeof eval('() => evaled_N'), await eval('(async () => evaled_N + ' + WAIT + ')()'), new Function('a', 'return a * 2')(WAIT)); s = mix(s, evaled_N);
`},
	{"tagged templates and labels", `
const tags_N = [], t_N = (strings, ...v) => { tags_N.push(strings); return strings.raw.join('|') + v }; const f_N = async () => t_N` + "`a${WAIT}\\n${await L.wait(SITE)}b`" + `; L.log(await f_N(), await f_N(), tags_N[0] === tags_N[1]);
a_N: for (let i = 0; ; i++) { b_N: for (const x of [1, 2, 3]) { if (x === 2 && i < 2) { await L.wait(SITE); continue a_N } if (i > 1) break a_N; L.log(i, x) } }
switch (WAIT % 2) { case (await L.wait(SITE)) % 2: L.log('same'); case 5: { let i = WAIT; L.log('fell', i); break } default: L.log('default') }
`},
	{"arrays", `
const a_N = [5, , 3, WAIT]; a_N[7] = await L.wait(SITE); const sorted_N = a_N.toSorted((x, y) => x - y), it_N = a_N.values(); it_N.next(); await L.wait(SITE); a_N.splice(1, 1, 'x', 'y');
L.log(a_N, sorted_N.length, it_N.next().value, a_N.flatMap((x) => [x, [x]]).length, a_N.findLast((x) => x > 4), a_N.with(0, WAIT).at(0), Object.keys(a_N), a_N.copyWithin(0, 3).join('-'), a_N.includes(undefined), Array.from({ length: 3 }, (_, i) => i * s % 7), a_N.toSpliced(1, 2).length);
s = mix(s, JSON.stringify(a_N));
`},
	{"objects and JSON", `
const o_N = { z: 1, 2: 2, a: WAIT, get lazy() { Object.defineProperty(this, 'lazy', { value: INT, enumerable: true }); return 'first' }, nested: { deep: [OBJECT] } }; await L.wait(SITE); delete o_N.z; o_N.z = await L.wait(SITE);
const f_N = Object.freeze({ ...o_N }); let why_N; try { 'use strict'; Reflect.set(f_N, 'a', 1) || (() => { 'use strict'; f_N.a = 1 })() } catch (e) { why_N = e.name } const kept_N = []; for (const k in Object.create(o_N, { own: { value: 1, enumerable: true } })) { kept_N.push(k); if (k === 'own') await L.wait(SITE); if (k === '2') delete o_N.a }
L.log(JSON.stringify(o_N), o_N.lazy, why_N, kept_N, JSON.stringify(JSON.parse(JSON.stringify(f_N), (k, v) => typeof v === 'number' ? v + 1 : v)), Object.entries(f_N).length, '\ud800é'.isWellFormed()); s = mix(s, JSON.stringify(f_N));
`},
	{"many live objects", `
const rows_N = Array.from({ length: 400 }, (_, i) => ({ i, name: 'row ' + i % 7, tags: new Set([i % 3]), next: null })); rows_N.forEach((r, i) => { r.next = rows_N[(i + 1) % 400] }); let text_N = ''; for (let i = 0; i < 300; i++) text_N += 'é' + i; await L.wait(SITE);
let at_N = rows_N[WAIT % 400]; for (let i = 0; i < 50; i++) at_N = at_N.next; text_N += text_N.slice(WAIT); L.log(at_N.i, at_N.name, [...at_N.tags], text_N.length, rows_N.filter((r) => r.tags.has(1)).length); rows_N.length = 0; s = mix(s, text_N.length);
`},
	{"a chain of 10,000 promises", `
let p_N = PROMISE; for (let i = 0; i < 10000; i++) p_N = p_N.then((v) => v + 1);
let q_N = PROMISE; for (let i = 0; i < 300; i++) q_N = ((q) => (async () => await q + 1)())(q_N);
let r_N = PROMISE; for (let i = 0; i < 300; i++) { const r = r_N; r_N = new Promise((done) => done(r)).finally(() => {}) }
L.log(await p_N, await q_N, await r_N, WAIT);
`},
}
