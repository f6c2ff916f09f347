// The prelude is the part of amber that runs inside the sandbox. It is
// evaluated once, when an image is booted, and gives the host the functions it
// calls (the array returned at the end); everything else goes the other way,
// through one host function.
//
// It runs beside code that may replace any global, so it takes what it needs
// now, calls methods through apply, and iterates by index. It has no template
// literals: the engine makes their text with String.prototype.concat.
(function (proxied) {
'use strict';

const { apply, defineProperty, getOwnPropertyDescriptor, setPrototypeOf } = Reflect;
const { stringify } = JSON;
const { max, min, trunc } = Math;
const { now } = Date;
const P = Promise, E = Error, TE = TypeError, U8 = Uint8Array, X = Proxy, W = WeakMap, M = Map, S = String, N = Number, R = RegExp, RE = RangeError;
const resolved = P.resolve.bind(P), enqueue = queueMicrotask;
const then = (promise, ok, bad) => apply(promiseThen, promise, [ok, bad]);
const promiseThen = P.prototype.then;
const uncurry = (f) => f.call.bind(f);
const mapGet = uncurry(M.prototype.get), mapSet = uncurry(M.prototype.set), mapDelete = uncurry(M.prototype.delete);
const weakGet = uncurry(W.prototype.get), weakSet = uncurry(W.prototype.set);
const slice = uncurry(S.prototype.slice), indexOf = uncurry(S.prototype.indexOf), split = uncurry(S.prototype.split);
const charCode = uncurry(S.prototype.charCodeAt);
const startsWith = uncurry(S.prototype.startsWith), includes = uncurry(S.prototype.includes), parse = N.parseInt;
const sourceOf = uncurry(Function.prototype.toString);
const { isArray } = Array;
const { getPrototypeOf: prototypeOf } = Reflect;
const hasInstance = Function.prototype[Symbol.hasInstance];
const isA = (C, value) => { try { return apply(hasInstance, C, [value]); } catch { return false; } };
const put = (object, key, value) => defineProperty(object, key, { __proto__: null, value, writable: true, enumerable: true, configurable: true });
const hidden = (object, key, value) => defineProperty(object, key, { __proto__: null, value, writable: true, enumerable: false, configurable: true });
const hasOwn = uncurry(Object.prototype.hasOwnProperty); // a descriptor inherits from Object.prototype
const own = (object, key) => { const d = getOwnPropertyDescriptor(object, key); return d && hasOwn(d, 'value') ? d.value : undefined; };

// bare makes a constructor of objects that inherit nothing, or what is given.
// They share a shape, which { __proto__: null } does not: that costs ten times as much.
const bare = (constructor, proto = { __proto__: null }) => { constructor.prototype = proto; return constructor; };

// unread keeps then from looking up the constructor and species of a promise
// that is the prelude's own: both may be a task's, and throw.
const unread = (promise) => { defineProperty(promise, 'constructor', noConstructor); return promise; };
const noConstructor = { __proto__: null, value: undefined, writable: true, enumerable: false, configurable: true };

// --- The host function ----------------------------------------------------
//
// The engine wraps it in a closure that goes through Function.prototype.call
// and spreads its arguments, both of which a task can replace. Take the
// function itself out of the wrapper.

let host;
{
  const { call } = Function.prototype;
  Function.prototype.call = function () { host = this; };
  proxied();
  Function.prototype.call = call;
}
const CALL = 1, CANCEL = 2, LOG = 3, DONE = 4, FAIL = 5, RANDOM = 6;
const tell = (op, a, b) => host(op, a, b, 0); // the engine insists on four arguments

// --- Randomness and time ----------------------------------------------------
//
// Every VM restored from one image would continue the same sequence, so the
// host seeds this generator (sfc32) whenever it wakes a VM: with 128 random bits,
// which it need not mix first.

let r0 = 0, r1 = 0, r2 = 0, r3 = 0, muted = false;
const random32 = () => {
  const t = (r0 + r1 + r3) | 0;
  r3 = (r3 + 1) | 0;
  r0 = r1 ^ (r1 >>> 9);
  r1 = (r2 + (r2 << 3)) | 0;
  r2 = ((r2 << 21) | (r2 >>> 11)) + t | 0;
  return t >>> 0;
};
hidden(Math, 'random', function random() {
  return ((random32() >>> 5) * 67108864 + (random32() >>> 6)) / 9007199254740992;
});
// Its limits come with it: how many calls may be in flight, and how many bytes
// the arguments of one may be.
let mostCalls = 0, mostBytes = 0;
function wake(a, b, c, d, calls, bytes) {
  r0 = a; r1 = b; r2 = c; r3 = d; mostCalls = calls; mostBytes = bytes;
  muted = false;
}

const bufferOf = (proto, key) => uncurry(getOwnPropertyDescriptor(proto, key).get);
const typed = Object.getPrototypeOf(U8.prototype);
const typedName = bufferOf(typed, Symbol.toStringTag), typedBuffer = bufferOf(typed, 'buffer');
const typedOffset = bufferOf(typed, 'byteOffset'), typedLength = bufferOf(typed, 'byteLength');
const integerArrays = { __proto__: null, Int8Array: 1, Uint8Array: 1, Uint8ClampedArray: 1, Int16Array: 1, Uint16Array: 1,
  Int32Array: 1, Uint32Array: 1, BigInt64Array: 1, BigUint64Array: 1 };
const crypto = {
  getRandomValues(array) {
    if (!integerArrays[typedName(array)]) throw new TE('crypto.getRandomValues: expected an integer typed array');
    const n = typedLength(array), bytes = new U8(typedBuffer(array), typedOffset(array), n);
    if (n > 65536) throw new RE('crypto.getRandomValues: at most 65536 bytes at once');
    const hex = tell(RANDOM, n);
    for (let i = 0; i < n; i++) bytes[i] = parse(slice(hex, 2 * i, 2 * i + 2), 16);
    return array;
  },
  randomUUID() {
    const h = tell(RANDOM, 16), variant = '89ab'[parse(h[16], 16) & 3];
    return slice(h, 0, 8) + '-' + slice(h, 8, 12) + '-4' + slice(h, 13, 16) + '-' + variant + slice(h, 17, 20) + '-' + slice(h, 20);
  },
};

// --- Errors -----------------------------------------------------------------

// The engine's hook into stacks would hand a task the functions of the prelude
// that are on one, and through them the host function.
{
  let site;
  E.prepareStackTrace = (e, sites) => { site = sites[0]; return ''; };
  void new E().stack;
  E.prepareStackTrace = undefined;
  delete prototypeOf(site).getFunction;
  defineProperty(E, 'prepareStackTrace', { __proto__: null, value: undefined, writable: false, enumerable: false, configurable: false });
  // The engine goes on with its limit of 10, whatever a task writes here.
  defineProperty(E, 'stackTraceLimit', { __proto__: null, value: 10, writable: true, enumerable: true, configurable: false });
}

// frames returns the task's own lines of a stack: the prelude's are dropped,
// and so are built-in functions that no line of the task called.
function frames(stack) {
  if (typeof stack !== 'string') return '';
  const lines = split(stack, '\n');
  let out = '', natives = '';
  for (let i = 0; i < lines.length && out.length < 65536; i++) {
    const line = lines[i];
    if (!startsWith(line, '    at ')) continue;
    if (includes(line, '(native)')) natives += line + '\n';
    else if (includes(line, '(amber:prelude:') || includes(line, ' amber:prelude:')) natives = '';
    else { out += natives + column(line) + '\n'; natives = ''; }
  }
  return out;
}

// column takes what was put before the task's first line off its columns,
// which the engine counts from 0 on that line alone.
let firstLine = '', headLength = 0;
function column(line) {
  const at = firstLine === '' ? -1 : indexOf(line, firstLine);
  if (at < 0) return line;
  const from = at + firstLine.length, n = parse(slice(line, from), 10);
  return slice(line, 0, from) + (headLength > 0 ? max(1, n - headLength + 1) : n) + (includes(line, '(') ? ')' : '');
}

// The errors that a task tells apart by their class: what came of it being
// cancelled or out of time, and what it throws so that it is not tried again.
const classes = { __proto__: null };
for (const C of [
  class CancelledError extends Error {}, class TimeoutError extends Error {}, class NonRetryableError extends Error {},
]) {
  hidden(C.prototype, 'name', C.name);
  hidden(globalThis, C.name, C);
  classes[C.name] = C.prototype;
}

// rejection makes the Error that a failed call rejects with.
function rejection(error, site) {
  const message = '' + own(error, 'message'), name = own(error, 'name') || 'Error', code = own(error, 'code'), status = own(error, 'status');
  const e = new E(message);
  if (classes[name] !== undefined) setPrototypeOf(e, classes[name]);
  else if (name !== 'Error') hidden(e, 'name', name);
  if (code !== undefined) put(e, 'code', code);
  if (status !== undefined) put(e, 'status', status);
  hidden(e, 'stack', name + ': ' + message + '\n' + frames(site));
  return e;
}

// describe turns whatever was thrown into the JSON of an error. It must not
// throw, whatever the getters of the value do.
function describe(thrown) {
  try {
    return errorText(plain(thrown));
  } catch {
    return '{"name":"Error","message":"the task threw a value that cannot be described"}';
  }
}
// errorText writes an error's JSON. It stringifies strings alone: for objects
// the engine fills arrays, which runs a task's setters on Array.prototype.
function errorText(e) {
  const field = (key) => e[key] ? ',"' + key + '":' + quote(e[key]) : '';
  return '{"message":' + quote(e.message) + field('name') + field('code') + field('stack') + (e.status ? ',"status":' + e.status : '') + '}';
}
function plain(thrown) {
  const out = { __proto__: null, name: 'Error', message: '', code: undefined, stack: '', status: 0 };
  if (thrown === null || (typeof thrown !== 'object' && typeof thrown !== 'function')) {
    out.message = typeof thrown === 'string' && thrown !== '' ? thrown : 'the task threw ' + inspect(thrown, true);
    return out;
  }
  const read = (key) => { try { const v = thrown[key]; return typeof v === 'string' ? v : undefined; } catch { return undefined; } };
  const message = read('message');
  out.name = read('name') || 'Error';
  out.code = read('code');
  out.status = statusOf(thrown);
  if (message) out.message = message;
  else out.message = isA(E, thrown) ? out.name + ' without a message' : 'the task threw ' + inspect(thrown, true);
  if (out.name === 'ReferenceError') out.message += instead(out.message);
  const lines = frames(read('stack'));
  if (lines !== '') out.stack = out.name + ': ' + out.message + '\n' + lines;
  return out;
}

// statusOf is the HTTP status that an error has of the service that gave it, or 0.
function statusOf(thrown) {
  try {
    const v = thrown.status;
    return typeof v === 'number' && trunc(v) === v && v >= 100 && v <= 599 ? v : 0;
  } catch {
    return 0;
  }
}

// absent says what a task uses in place of the globals of other runtimes.
const absent = { __proto__: null,
  fetch: 'a task reaches the outside through services (tools.<service>...)',
  process: 'a task has no environment; keep settings in tools.keystore',
  setInterval: 'loop with await tools.sleep(ms)' };
absent.Deno = absent.process;
for (const name of ['Buffer', 'URL', 'TextEncoder', 'TextDecoder', 'structuredClone', 'AbortController', 'atob', 'btoa',
  'XMLHttpRequest', 'WebSocket', 'WebAssembly', 'Intl']) {
  absent[name] = 'tasks have the ECMAScript built-ins, console, tools, crypto.randomUUID and setTimeout';
}
// instead is what to add to the message of a ReferenceError.
function instead(message) {
  const name = slice(message, 0, max(0, indexOf(message, ' is not defined')));
  return message === name + ' is not defined' && absent[name] !== undefined ? ': ' + absent[name] : '';
}

// noJSON says what about a value made stringify throw e, or '' if its toJSON
// did. advice leads to what to do about a BigInt.
function noJSON(e, advice) {
  switch (plain(e).message) {
    case bigIntMessage: return 'holds a BigInt' + advice + ' String(n) or Number(n)';
    case cycleMessage: return 'contains itself (a circular reference)';
  }
  return '';
}
// isFull says whether there was no memory for the text: a limit of its own.
function isFull(e) {
  const p = plain(e);
  return p.name === 'InternalError' && p.message === 'out of memory';
}
const messageOf = (value) => { try { return stringify(value); } catch (e) { return e.message; } };
const cycle = {};
cycle.cycle = cycle;
const bigIntMessage = messageOf(1n), cycleMessage = messageOf(cycle);

// --- The end of a task ------------------------------------------------------

let ended = false;

function finish(value) {
  if (ended) return;
  let text;
  try {
    text = stringify(value);
  } catch (e) {
    if (isFull(e)) return fail(e);
    const why = noJSON(e, '; return');
    return end(FAIL, errorText({ __proto__: null, name: 'TypeError', code: 'INVALID_RESULT', stack: '',
      message: 'the task\'s result cannot be written as JSON: ' + (why === '' ? plain(e).message : 'it ' + why) }));
  }
  end(DONE, text === undefined ? 'null' : text);
}
function fail(thrown) {
  if (!ended) end(FAIL, describe(thrown));
}
function refuse(message, code) {
  end(FAIL, errorText({ __proto__: null, name: 'Error', code: code || 'INVALID_TASK', stack: '', message }));
}
function end(op, text) {
  if (queue !== null) log('warn', 'more than ' + mostCalls + ' calls were in flight when the task ended: those behind them were never sent');
  for (let f = forgotten; f !== null; f = f.next) {
    if (!f.call.heard) log('warn', labelOf(f.call) + ' failed and nothing awaited it: ' + f.error.message);
  }
  ended = true;
  tell(op, text);
}

// --- Calls ------------------------------------------------------------------
//
// A call is sent to the host under an id and waits in pending. The host
// settles it by id, perhaps years later and in another process.

const pending = new M();
let lastID = 0;
let forgotten = null; // a list of rejected calls that nobody had listened to

const quote = (text) => stringify(text);

// argument serialises at the call, so that what a task changes later is not
// sent. It is number n of link's call, or of tools.with where that is null.
function argument(value, n, link) {
  try {
    const text = stringify(value);
    return text === undefined ? 'null' : text;
  } catch (e) {
    if (isFull(e)) throw e;
    throw new TE('argument ' + n + ' of ' + (link === null ? 'tools.with' : labelOf(link)) + ' ' + (noJSON(e, ': pass') || 'cannot be written as JSON: ' + plain(e).message));
  }
}
function argumentList(list, link) {
  let text = '[';
  for (let i = 0, n = list.length; i < n; i++) text += (i > 0 ? ',' : '') + argument(list[i], i + 1, link);
  if (bytesOf(text) <= mostBytes) return text + ']';
  const e = new RE('the arguments of ' + labelOf(link) + ' are ' + bytesOf(text) + ' bytes, at most ' + mostBytes + ': keep large data elsewhere and pass its name');
  put(e, 'code', 'ARGUMENTS_TOO_LARGE');
  throw e;
}
// bytesOf is the length of JSON text in UTF-8, or more where that cannot matter.
// JSON has no lone surrogates, and a pair is four bytes.
function bytesOf(text) {
  const n = text.length;
  if (n > mostBytes || 3 * n <= mostBytes) return n;
  let bytes = n;
  for (let i = 0; i < n; i++) {
    const c = charCode(text, i);
    if (c >= 0x80) bytes += c < 0x800 || c >= 0xd800 && c < 0xe000 ? 1 : 2;
  }
  return bytes;
}
const callStep = (property, args) => '{"type":"call","property":' + quote(property) + ',"args":' + args + '}';
const getStep = (property) => '{"type":"get","property":' + quote(property) + '}';

// The calls that wait for others to end, since mostCalls are in flight: a list.
let queue = null, queueEnd = null, inFlight = 0;

function send(record, service, steps, options) {
  const id = ++lastID;
  const text = '{"service":' + quote(service) + ',"steps":[' + steps + ']' + (options ? ',"options":' + options : '') + '}';
  mapSet(pending, id, record);
  if (inFlight < mostCalls) {
    inFlight++;
    tell(CALL, id, text);
    return id;
  }
  const item = { __proto__: null, id, text, due: now() + (record.delay || 0), next: null };
  if (queue === null) queue = item;
  else queueEnd.next = item;
  queueEnd = item;
  return id;
}
// landed notes that a call is no longer in flight, and sends those that waited.
function landed() {
  inFlight--;
  while (queue !== null && inFlight < mostCalls) {
    const { id, text, due } = queue, record = mapGet(pending, id);
    queue = queue.next;
    if (record === undefined) continue; // a timer that was cleared
    inFlight++;
    tell(CALL, id, record.run ? timerText(max(0, due - now())) : text);
  }
}
const isQueued = (id) => { for (let q = queue; q !== null; q = q.next) if (q.id === id) return true; return false; };

// settle is called by the host, once for each reply, each time with an empty
// job queue. kind is 0 for a value and 1 for an error.
function settle(id, kind, value) {
  const record = mapGet(pending, id);
  if (record === undefined) return;
  mapDelete(pending, id);
  landed();
  if (record.run) {
    if (kind === 1) log('warn', record.label + ' did not fire: ' + value.message);
    else record.run();
    return;
  }
  if (kind === 0) return record.resolve(value);
  rejectCall(record, value);
}
function rejectCall(record, error) {
  if (!record.heard) {
    forgotten = { __proto__: null, call: record, error, next: forgotten };
    then(record.promise, undefined, ignore); // it is told at the end of the task
  }
  record.reject(rejection(error, record.site));
}

// --- tools --------------------------------------------------------------------
//
// tools.a.b(1).c(2) builds a chain of links, each a proxy. A chain that has
// been called is a thenable; it becomes one Call when it is awaited, or at the
// end of the microtask turn unless another step was called on it by then.
//
// A link: { parent, property, args, options, called, superseded, promise, ... }.

const linkOf = new W(); // proxy -> link

function labelOf(link) {
  let text = '';
  for (let l = link; l !== null; l = l.parent) {
    if (l.args !== null) text = '(…)' + text;
    if (l.property !== '') text = '.' + l.property + text;
  }
  return 'tools' + text;
}

// steps writes the links below the service, a get followed by its call as one step.
function stepsOf(link) {
  let text = '';
  for (let l = link; l.parent !== null; l = l.parent) {
    const step = l.args === null ? getStep(l.property) : callStep(l.property, l.args);
    text = text === '' ? step : step + ',' + text;
  }
  const root = rootOf(link);
  if (root.args === null) return text;
  const first = callStep('', root.args); // the service itself was called
  return text === '' ? first : first + ',' + text;
}
function rootOf(link) {
  while (link.parent !== null) link = link.parent;
  return link;
}

function dispatch(link) {
  if (link.promise !== null) return link.promise;
  for (let l = link.parent; l !== null; l = l.parent) l.superseded = true;
  link.promise = unread(new P((resolve, reject) => { link.resolve = resolve; link.reject = reject; }));
  const service = rootOf(link).property;
  if (service === 'timer') rejectCall(link, noTimer);
  else send(link, service, stepsOf(link), link.options);
  return link.promise;
}
const ignore = () => {};
// noTimer answers what only setTimeout may ask for: the host's timer service
// trusts its arguments.
const noTimer = { __proto__: null, code: 'UNKNOWN_SERVICE', message: 'there is no service "timer": use tools.sleep(ms) or setTimeout(f, ms)' };

const Link = bare(function (parent, property, args, options, called, site) {
  this.parent = parent; this.property = property; this.args = args; this.options = options; this.called = called; this.site = site;
  this.superseded = this.heard = false;
  this.promise = this.resolve = this.reject = null;
});
const makeLink = (parent, property, args, options, called, site) => new Link(parent, property, args, options, called, site);

// nodeTarget is the target of all nodes: it has nothing to read, and can be given nothing.
const nodeTarget = () => {};
delete nodeTarget.name;
delete nodeTarget.length;
Object.freeze(nodeTarget);

function makeNode(link) {
  const node = new X(nodeTarget, new NodeTraps(link));
  weakSet(linkOf, node, link);
  return node;
}

const nodeTraps = {
  __proto__: null,
  get(target, key) {
    const { link } = this;
    if (typeof key === 'symbol' || key === 'toJSON') return undefined;
    if (key === 'then' || key === 'catch' || key === 'finally') return link.called ? listener(link, key) : undefined;
    if (key === 'toString') return () => labelOf(link);
    if (key === 'valueOf') return () => makeNode(link);
    return makeNode(makeLink(link, key, null, link.options, link.called, link.site));
  },
  apply(target, self, args) {
    const { link } = this;
    const list = argumentList(args, link), site = new E().stack; // frames cleans it if the call fails
    let next;
    if (link.args === null) { // the call of a property: the get and the call are one step
      next = makeLink(link.parent, link.property, list, link.options, true, site);
    } else { // the result of a call, called
      next = makeLink(link, '', list, link.options, true, site);
    }
    for (let l = next.parent; l !== null; l = l.parent) l.superseded = true;
    enqueue(() => { try { if (!next.superseded) dispatch(next); } catch (e) { fail(e); } });
    return makeNode(next);
  },
  set(target, key) { throw new TE('cannot set ' + S(key) + ' on a tools path'); },
  defineProperty() { throw new TE('cannot define a property on a tools path'); },
};
const NodeTraps = bare(function (link) { this.link = link; }, nodeTraps);

const promiseMethods = { __proto__: null, then: promiseThen, catch: P.prototype.catch, finally: P.prototype.finally };
function listener(link, name) {
  return (a, b) => {
    const promise = promiseOf(link);
    return name === 'then' ? then(promise, a, b) : apply(promiseMethods[name], promise, [a]);
  };
}

// promiseOf sends a call. A property of a call's result, tools.a.b().c, is read
// from the result: no service is asked for it.
function promiseOf(link) {
  if (link.args !== null) {
    link.heard = true;
    return dispatch(link);
  }
  return then(promiseOf(link.parent), (value) => value[link.property]);
}

// makeRoot makes the tools object itself, or what tools.with() returns.
function makeRoot(options) {
  const root = new X({}, { __proto__: rootTraps, options, root: () => root });
  return root;
}
const rootTraps = {
  __proto__: null,
  get(target, key) {
    if (typeof key === 'symbol') return undefined;
    switch (key) {
      case 'then': case 'catch': case 'finally': case 'toJSON': return undefined;
      case 'tools': return this.root();
      case 'with': return (options) => withOptions(this.options, options);
      case 'log': return toolsLog;
      case 'toString': return () => 'tools';
      case 'valueOf': return this.root;
    }
    return makeNode(makeLink(null, key, null, this.options, false, ''));
  },
  set(target, key) { throw new TE('cannot set tools.' + S(key)); },
  defineProperty() { throw new TE('cannot define a property on tools'); },
};
// withOptions adds options to those that were given before. JSON would make null,
// which leaves an option out, of a number that is none.
function withOptions(before, options) {
  if (options === null || typeof options !== 'object') throw new TE('tools.with: expected an object of options');
  const keys = ownKeys(options);
  for (let i = 0; i < keys.length; i++) {
    const value = own(options, keys[i]);
    if (typeof value === 'number' && value - value !== 0) throw new TE('tools.with: ' + S(keys[i]) + ' is ' + value);
  }
  return makeRoot(joined(before, argument(options, 1, null)));
}
// joined is two objects' JSON as one, in which the later value of a name counts.
// What is no object is left for the host to refuse.
function joined(a, b) {
  if (a === undefined || a === '{}' || b[0] !== '{') return b;
  if (b === '{}' || a[0] !== '{') return a;
  return slice(a, 0, a.length - 1) + ',' + slice(b, 1);
}
const tools = makeRoot(undefined);

// callHostTool is the original's low-level form of a call.
function callHostTool(service, path, args) {
  const names = typeof path === 'string' ? (path === '' ? [] : split(path, '.')) : isArray(path) ? path : [];
  let node = tools[S(service)];
  for (let i = 0; i < names.length; i++) node = node[S(names[i])];
  return apply(node, undefined, isArray(args) ? args : args === undefined ? [] : [args]);
}

// --- Timers -------------------------------------------------------------------

const longestTimer = 10 * 365 * 24 * 60 * 60 * 1000;

function setTimer(f, delay, ...args) {
  if (typeof f !== 'function') throw new TE('setTimeout: the first argument must be a function');
  let ms = trunc(N(delay));
  if (!(ms > 0)) ms = 0;
  if (ms > longestTimer) throw new RE('setTimeout: at most ten years (' + longestTimer + ' ms)');
  const run = () => { try { apply(f, undefined, args); } catch (e) { fail(e); } };
  return send(new Timer(run, ms), 'timer', timerStep(ms));
}
const Timer = bare(function (run, delay) { this.run = run; this.delay = delay; this.label = 'setTimeout'; });
const timerStep = (ms) => callStep('', '[' + ms + ']');
const timerText = (ms) => '{"service":"timer","steps":[' + timerStep(ms) + ']}';
function clearTimer(id) {
  const record = typeof id === 'number' ? mapGet(pending, id) : undefined;
  if (record === undefined || !record.run) return;
  mapDelete(pending, id);
  if (isQueued(id)) return;
  tell(CANCEL, id);
  landed();
}

// --- Logs ---------------------------------------------------------------------

const lineLimit = 65536;

function log(level, text) {
  if (muted) return;
  if (text.length > lineLimit) text = slice(text, 0, lineLimit) + '… (' + (text.length - lineLimit) + ' more characters)';
  muted = tell(LOG, level, stringify(text)) === 1; // the host takes no more lines in this slice
}

// format joins console arguments: strings raw, %s and its like filled in.
function format(args, from) {
  let text = '', i = from;
  const first = args[from];
  if (typeof first === 'string' && args.length > from + 1 && includes(first, '%')) {
    text = fill(first, args, from + 1, (used) => { i = used; });
  } else if (args.length > from) {
    text = inspect(first, false);
    i = from + 1;
  }
  for (; i < args.length && text.length <= lineLimit; i++) text += ' ' + inspect(args[i], false);
  return text;
}
function fill(template, args, next, used) {
  let text = '', from = 0;
  for (let at = indexOf(template, '%'); at >= 0; at = indexOf(template, '%', from)) {
    text += slice(template, from, at);
    const verb = template[at + 1];
    from = at + 2;
    if (verb === '%') text += '%';
    else if (next >= args.length || !includes('sdifjoOc', verb || '?')) text += slice(template, at, from);
    else text += verbText(verb, args[next++]);
  }
  used(next);
  return text + slice(template, from);
}
function verbText(verb, value) {
  switch (verb) {
    case 'c': return '';
    case 'd': return typeof value === 'number' || typeof value === 'bigint' || typeof value === 'string' ? '' + N(value) : 'NaN';
    case 'i': return typeof value === 'number' || typeof value === 'string' ? '' + trunc(N(value)) : 'NaN';
    case 'f': return typeof value === 'number' || typeof value === 'string' ? '' + N(value) : 'NaN';
    default: return inspect(value, false);
  }
}

// inspect writes a value for people. It runs no getter, follows no cycle and
// stops at a budget. A string is written raw, or quoted when nested is set.
function inspect(value, nested) {
  const state = { __proto__: null, left: lineLimit, seen: null };
  try {
    return show(value, nested, 0, state);
  } catch {
    return '[value that cannot be shown]';
  }
}
function show(value, nested, depth, state) {
  if (state.left <= 0) return '…';
  let text;
  switch (typeof value) {
    case 'string': text = nested ? quote(value.length > state.left ? slice(value, 0, state.left) + '…' : value) : value; break;
    case 'bigint': text = value + 'n'; break;
    case 'number': text = value === 0 && 1 / value < 0 ? '-0' : '' + value; break;
    case 'symbol': text = S(value); break;
    case 'function': text = showFunction(value); break;
    case 'object': text = value === null ? 'null' : showObject(value, depth, state); break;
    default: text = S(value);
  }
  state.left -= text.length;
  return text;
}
function showFunction(f) {
  const link = weakGet(linkOf, f);
  if (link !== undefined) return '[' + labelOf(link) + ']';
  const name = own(f, 'name');
  return startsWith(sourceOf(f), 'class') ? '[class ' + (name || '(anonymous)') + ']' : '[Function: ' + (name || '(anonymous)') + ']';
}
function showObject(object, depth, state) {
  if (object === tools) return '[tools]';
  for (let s = state.seen; s !== null; s = s.next) if (s.object === object) return '[Circular]';
  if (depth > 6) return isArray(object) ? '[Array]' : '[Object]';
  state.seen = { __proto__: null, object, next: state.seen };
  const text = showParts(object, depth + 1, state);
  state.seen = state.seen.next;
  return text;
}
const tries = (f, object) => { try { return f(object); } catch { return undefined; } };
const dateISO = uncurry(Date.prototype.toISOString), dateTime = uncurry(Date.prototype.getTime), regexpText = uncurry(RegExp.prototype.toString);
const mapSize = bufferOf(M.prototype, 'size'), setSize = bufferOf(Set.prototype, 'size');
const mapEach = uncurry(M.prototype.forEach), setEach = uncurry(Set.prototype.forEach);
const { ownKeys } = Reflect;

function showParts(o, depth, state) {
  const parts = [];
  const add = (text) => { if (parts.length <= 100) hidden(parts, parts.length, text); };
  const sub = (v) => show(v, true, depth, state);
  if (isA(E, o)) return showError(o, depth, state);
  if (tries(dateTime, o) !== undefined) return tries(dateISO, o) || 'Invalid Date';
  if (isA(R, o)) return regexpText(o);
  if (isA(P, o)) return 'Promise {}';
  let size = tries(mapSize, o);
  if (size !== undefined) {
    mapEach(o, (v, k) => { if (parts.length < 100 && state.left > 0) add(sub(k) + ' => ' + sub(v)); });
    return enclose('Map(' + size + ') {', parts, size, '}');
  }
  size = tries(setSize, o);
  if (size !== undefined) {
    setEach(o, (v) => { if (parts.length < 100 && state.left > 0) add(sub(v)); });
    return enclose('Set(' + size + ') {', parts, size, '}');
  }
  const kind = tries(typedName, o);
  if (isArray(o) || kind !== undefined) {
    const n = kind !== undefined ? o.length : own(o, 'length');
    for (let i = 0; i < min(n, 100) && state.left > 0; i++) add(property(o, i, sub));
    return enclose(kind !== undefined ? kind + '(' + n + ') [' : '[', parts, n, ']');
  }
  const keys = ownKeys(o);
  let shown = 0;
  for (let i = 0; i < keys.length && shown < 100 && state.left > 0; i++) {
    const d = getOwnPropertyDescriptor(o, keys[i]);
    if (!d || !d.enumerable) continue;
    shown++;
    add(keyText(keys[i]) + ': ' + property(o, keys[i], sub));
  }
  const name = className(o);
  return enclose(name === '' ? '{' : name + ' {', parts, keys.length > 100 ? keys.length : shown, '}');
}
function enclose(open, parts, total, close) {
  let text = open;
  for (let i = 0; i < parts.length; i++) text += (i > 0 ? ', ' : close === '}' ? ' ' : '') + parts[i];
  if (total > parts.length) text += (parts.length > 0 ? ', ' : '') + '… ' + (total - parts.length) + ' more';
  return text + (close === '}' && total > 0 ? ' }' : close);
}
function property(o, key, sub) {
  const d = getOwnPropertyDescriptor(o, key);
  if (!d) return '<empty>';
  return hasOwn(d, 'value') ? sub(d.value) : '[Getter]';
}
const keyText = (key) => typeof key === 'symbol' ? '[' + S(key) + ']' : tries(identifier, key) ? key : quote(key);
const identifierText = /^[A-Za-z_$][\w$]*$/, execute = uncurry(RegExp.prototype.exec);
const identifier = (key) => execute(identifierText, key) !== null;
function className(o) {
  const proto = prototypeOf(o);
  if (proto === null) return '[Object: null prototype]';
  const c = own(proto, 'constructor'), name = typeof c === 'function' ? own(c, 'name') : '';
  return name === 'Object' || typeof name !== 'string' ? '' : name;
}
function showError(e, depth, state) {
  const p = plain(e);
  let text = p.stack === '' ? p.name + ': ' + p.message : slice(p.stack, 0, p.stack.length - 1);
  const keys = ownKeys(e);
  for (let i = 0; i < min(keys.length, 20); i++) {
    const d = getOwnPropertyDescriptor(e, keys[i]);
    if (d && hasOwn(d, 'value') && (d.enumerable || keys[i] === 'cause')) text += ' [' + keyText(keys[i]) + ': ' + show(d.value, true, depth, state) + ']';
  }
  return text;
}

const consoleLevels = { __proto__: null, log: 'info', info: 'info', warn: 'warn', error: 'error', debug: 'debug' };
const console = {};
for (const name of Object.keys(consoleLevels)) {
  const level = consoleLevels[name];
  console[name] = { [name](...args) { if (!muted) write(level, format(args, 0)); } }[name];
}
const margin = '  '.repeat(20), counts = new M(), timers = new M();
let groups = 0;
const write = (level, text) => log(level, slice(margin, 0, 2 * groups) + text);
const labelText = (label) => label === undefined ? 'default' : inspect(label, false);
const elapsed = (key) => key + ': ' + (mapGet(timers, key) === undefined ? 'not started' : (now() - mapGet(timers, key)) + 'ms');
Object.assign(console, {
  dir(value) { write('info', inspect(value, false)); },
  table(rows) { write('info', inspect(rows, false)); },
  trace(...args) { write('debug', 'Trace' + (args.length > 0 ? ': ' : '') + format(args, 0) + '\n' + slice(frames(new E().stack), 0, -1)); },
  assert(ok, ...args) { if (!ok) write('error', 'Assertion failed' + (args.length > 0 ? ': ' : '') + format(args, 0)); },
  group(...args) { if (args.length > 0) write('info', format(args, 0)); groups++; },
  groupEnd() { groups = max(0, groups - 1); },
  count(label) {
    const key = labelText(label), n = (mapGet(counts, key) || 0) + 1;
    mapSet(counts, key, n);
    write('info', key + ': ' + n);
  },
  countReset(label) { mapDelete(counts, labelText(label)); },
  time(label) { mapSet(timers, labelText(label), now()); },
  timeLog(label, ...args) { write('info', elapsed(labelText(label)) + (args.length > 0 ? ' ' : '') + format(args, 0)); },
  timeEnd(label) { write('info', elapsed(labelText(label))); mapDelete(timers, labelText(label)); },
});
console.dirxml = console.dir;
console.groupCollapsed = console.group;
const logLevels = { __proto__: null, debug: 'debug', log: 'info', info: 'info', warn: 'warn', warning: 'warn', error: 'error' };
function toolsLog(...args) {
  if (muted) return;
  const known = typeof args[0] === 'string' && args.length > 1 ? logLevels[args[0]] : undefined;
  log(known || 'info', format(args, known ? 1 : 0));
}

// --- Loading and starting a task ------------------------------------------------

const noImports = 'a task is one file: bundle what it needs into it (esbuild --bundle --format=esm), or call other tasks with tools.tasks.execute';
function require(name) {
  const e = new E('require of ' + quote(S(name)) + ': ' + noImports);
  put(e, 'code', 'IMPORT_UNSUPPORTED');
  throw e;
}

// entryOf finds the function that a loaded task exports. namespace is its ES
// module, or undefined.
function entryOf(module, exported, namespace) {
  const last = module.exports;
  if (typeof last === 'function') return last;
  return exportedFrom(last) || exportedFrom(exported) || exportedFrom(namespace);
}
function exportedFrom(object) {
  if (object === undefined || object === null) return undefined;
  if (typeof object.default === 'function') return object.default;
  return typeof object.runTask === 'function' ? object.runTask : undefined;
}

// start runs a task. body is the task wrapped in a function, or undefined when
// it is an ES module already compiled under the name file. head is the length
// of what body has before the task's first line.
function start(body, file, head, input, taskRun, stackRun) {
  firstLine = file + ':1:';
  headLength = head;
  hidden(globalThis, '__currentTaskRunId', taskRun);
  hidden(globalThis, '__currentStackRunId', stackRun);
  const began = now();
  hidden(globalThis, 'performance', { now: () => now() - began, timeOrigin: began });
  const exported = {}, module = { exports: exported };
  let loaded;
  if (body !== undefined) {
    loaded = apply(body, exported, [module, exported, require]);
  } else {
    hidden(globalThis, 'module', module);
    hidden(globalThis, 'exports', exported);
    hidden(globalThis, 'require', require);
    loaded = import(file);
  }
  then(unread(loaded), (namespace) => {
    try {
      enter(entryOf(module, exported, body === undefined ? namespace : undefined), module.exports, body === undefined ? namespace : undefined, input);
    } catch (e) { // nothing listens to what this job throws
      fail(e);
    }
  }, fail);
}
function enter(entry, exported, namespace, input) {
  if (entry === undefined) return refuse(noEntry(exported, namespace));
  if (isA(GeneratorFunction, entry) || isA(AsyncGeneratorFunction, entry)) {
    return refuse('the entry is a generator function: write async function without *, and await in place of yield');
  }
  const result = entry(input === null ? {} : input, tools), promise = resolved(result);
  then(promise === result ? promise : unread(promise), finish, fail);
}
const GeneratorFunction = (function* () {}).constructor, AsyncGeneratorFunction = (async function* () {}).constructor;

// noEntry says what a task exports in place of its function, and what to write.
function noEntry(exported, namespace) {
  const modern = namespace === undefined ? '' : exportsText(namespace, 'export ', 'the module exports');
  const text = modern || (kindOf(exported) !== 'an object' ? 'module.exports is ' + kindOf(exported) + ', not a function' :
    exportsText(exported, 'module.exports.', 'module.exports has'));
  const start = namespace === undefined ? 'module.exports = async function' : 'export default async function';
  return (text || 'the task exports no function') + ': write ' + start + ' (input, { tools }) { ... }';
}
function exportsText(object, path, lists) {
  const keys = tries(ownKeys, object) || [];
  let names = '', n = 0;
  for (let i = 0; i < keys.length; i++) {
    const key = keys[i];
    if (key === 'default' || key === 'runTask') return path + key + ' is ' + kindOf(tries((o) => o[key], object)) + ', not a function';
    if (typeof key === 'symbol' || key === '__esModule') continue;
    if (++n <= 5) names += (n > 1 ? ', ' : '') + slice(keyText(key), 0, 80);
  }
  if (n > 5) names += ' and ' + (n - 5) + ' more';
  return n === 0 ? '' : lists + ' ' + names + ', but neither default nor runTask';
}
function kindOf(value) {
  if (value === null || typeof value !== 'object') return slice(inspect(value, true), 0, 200);
  return tries(isArray, value) ? 'an array' : 'an object';
}

// wrapped reports whether body is the whole of the text it was made from, that
// is, whether the task's code stayed within its function.
const wrapped = (body, text) => typeof body === 'function' && sourceOf(body) === text;

// --- Globals --------------------------------------------------------------------

const global = globalThis;
for (const name of ['std', 'os', 'bjson', 'gc', 'print', 'navigator', 'scriptArgs', 'setInterval', 'clearInterval',
  'QJS_PROXY_VALUE', 'performance', 'Navigator']) delete global[name];
hidden(global, 'tools', tools);
hidden(global, 'console', console);
hidden(global, 'crypto', crypto);
hidden(global, 'setTimeout', { setTimeout: setTimer }.setTimeout);
hidden(global, 'clearTimeout', { clearTimeout: clearTimer }.clearTimeout);
hidden(global, '__callHostTool__', callHostTool);
// The engine forgets to tell the views of a buffer that its bytes have moved.
for (const name of ['transfer', 'transferToFixedLength']) delete ArrayBuffer.prototype[name];
hidden(global, 'queueMicrotask', function queueMicrotask(f) {
  if (typeof f !== 'function') throw new TE('queueMicrotask: expected a function');
  enqueue(() => { try { f(); } catch (e) { fail(e); } });
});

return [wake, start, settle, describe, wrapped];
})
