// The task that plays a tree: package trees says what it is for, spec.go what
// the input means, check.go what must come of it.
'use strict';

const SHOWN = 120, KEPT = 4000; // check.go has the same

// spell writes a value so that what JSON loses shows.
function spell(v) {
  if (typeof v === 'number') return Object.is(v, -0) ? '-0' : String(v);
  if (v === null || typeof v !== 'object') return v === undefined ? 'undefined' : JSON.stringify(v);
  if (Array.isArray(v)) return '[' + v.map(spell).join(',') + ']';
  return '{' + Object.keys(v).map((k) => JSON.stringify(k) + ':' + spell(v[k])).join(',') + '}';
}

// digest is a text, or, if it is long, its length and two hashes of it.
function digest(text) {
  if (text.length <= SHOWN) return text;
  let a = 0x811c9dc5, b = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    a = Math.imul(a ^ c, 16777619);
    b = Math.imul(b ^ c, 0x5bd1e995);
    b ^= b >>> 15;
  }
  const hex = (n) => (n >>> 0).toString(16).padStart(8, '0');
  return text.length + ':' + hex(a) + hex(b);
}

const keep = (v) => { const text = spell(v); return text.length <= KEPT ? v : digest(text); };
const failure = (code, message) => Object.assign(new Error(message), { code });
const classes = { TIMEOUT: TimeoutError, CANCELLED: CancelledError, FINAL: NonRetryableError };
const textOf = (e) => (e.code in classes && !(e instanceof classes[e.code]) ? 'not of its class: ' : '') + e.code + ': ' + e.message;

module.exports = async ({ tree, path, body, give = null }, { tools }) => {
  const saw = [];

  // given are the tools with the options of a step.
  function given({ with: options }, at) {
    if (!options) return tools;
    const { in: ms, own, ...rest } = options;
    if (ms !== undefined) rest.scheduledFor = new Date(Date.now() + ms).toISOString();
    if (own) rest.idempotencyKey = tree + ' ' + at;
    return tools.with(rest);
  }

  // start sets a step going and returns a promise of what it gives.
  function start(step, at) {
    const branches = () => step.of.map((s, i) => observe(s, at + '.' + i));
    switch (step.op) {
      case 'ledger': {
        const ask = { tree, path: at, answer: step.answer, fail: step.fail, delay: step.delay, flaky: step.flaky, turn: step.turn };
        if (step.refuse) ask.refuse = '\0';
        return given(step, at).ledger[step.method](ask);
      }
      case 'child':
        return given(step, at).tasks.execute('fault-tree', { tree, path: at, body: step.body, give: step.give ? saw[step.give - 1] : null });
      case 'sleep': return given(step, at).sleep(step.ms || 0);
      case 'timer': return new Promise((resolve) => setTimeout(resolve, step.ms || 0, 'rang'));
      case 'all': return Promise.all(branches());
      case 'settled':
        return Promise.allSettled(branches()).then((all) => all.map((r) => r.status === 'fulfilled' ? r.value : { caught: textOf(r.reason) }));
      case 'race': return Promise.race(branches());
      case 'any':
        return Promise.any(branches()).catch((e) => { throw failure('ALL_FAILED', digest(e.errors.map(textOf).join('; '))); });
      case 'seq': return sequence(step, at);
      case 'hang': return hang(step, at);
    }
    throw failure('BAD_STEP', step.op);
  }
  async function sequence(step, at) {
    const values = [];
    for (let i = 0; i < step.of.length; i++) values.push(await observe(step.of[i], at + '.' + i));
    return values;
  }

  async function hang(step, at) {
    try {
      return await observe(step.of[0], at + '.0');
    } finally {
      await observe(step.of[1], at + '.1');
    }
  }

  // observe awaits a step and logs what came of it.
  async function observe(step, at) {
    try {
      const value = await start(step, at);
      console.log('@' + at + ' = ' + digest(spell(value)));
      return value;
    } catch (e) {
      console.log('@' + at + ' ! ' + textOf(e));
      if (!step.catch) throw e;
      return { caught: textOf(e) };
    }
  }

  for (let i = 0; i < body.length; i++) {
    const step = body[i], at = path + '.' + i;
    if (step.op === 'throw') throw failure(step.code, 'thrown at ' + at);
    if (step.op === 'forget') {
      start(step.of[0], at + '.0');
      saw.push(null);
    } else {
      const value = await observe(step, at);
      saw.push(keep(value));
      if (step.fails && value.turn <= step.fails) {
        const message = 'execution ' + value.turn + ' of ' + path;
        throw step.final ? Object.assign(new NonRetryableError(message), { code: 'FINAL' }) : failure('AGAIN', message);
      }
    }
  }
  const result = { path, give, saw };
  console.log('@' + path + ' > ' + digest(JSON.stringify(result)));
  return result;
};
