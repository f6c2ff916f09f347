/**
 * Awaits a child task a hundred times in a row and keeps all sorts of things
 * alive across every await: a Map with objects as keys, an instance with private
 * fields, a half-run generator, a closure. At the end each is compared with what
 * it must hold. Kill the host as often as you like meanwhile: the result depends
 * on the input alone, to the byte.
 *
 * Input:  { "calls": 100 }                                      optional
 * Result: { "calls": 100, "intact": true, "checks": { "map": ..., "privateFields": ..., "generator": ..., "closure": ... } }
 */
export default async function longLoop(input) {
  const calls = input?.calls ?? 100;

  const keys = Array.from({ length: calls }, (_, i) => ({ id: i + 1 }));
  const squares = new Map();
  const tally = new Tally();
  const sequence = fibonacci();
  const count = counter();
  let last = 0;

  for (const key of keys) {
    const square = await tools.tasks.execute('square', { value: key.id });
    squares.set(key, square);
    tally.add(square);
    last = sequence.next().value;
    count();
    if (key.id % 25 === 0) {
      console.log(`${key.id} of ${calls} calls done`);
    }
  }

  const sum = (calls * (calls + 1) * (2 * calls + 1)) / 6;
  const checks = {
    map: check(keys.filter((key) => squares.get(key) === key.id ** 2).length, calls),
    privateFields: check(tally.total, sum),
    generator: check(last, nthFibonacci(calls)),
    closure: check(count(), calls + 1),
  };
  const intact = Object.values(checks).every((c) => c.intact);
  return { calls, intact, checks };
}

class Tally {
  #total = 0;

  add(value) {
    this.#total += value;
  }

  get total() {
    return this.#total;
  }
}

// Remainders keep the numbers exact however long the loop is.
const modulus = 1_000_003;

function* fibonacci() {
  let [a, b] = [0, 1];
  for (;;) {
    [a, b] = [b, (a + b) % modulus];
    yield a;
  }
}

function nthFibonacci(n) {
  let [a, b] = [0, 1];
  for (let i = 0; i < n; i++) {
    [a, b] = [b, (a + b) % modulus];
  }
  return a;
}

function counter() {
  let n = 0;
  return () => ++n;
}

function check(is, must) {
  return { intact: is === must, is, must };
}
