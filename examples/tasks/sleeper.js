/**
 * Sleeps, and says how long it really took. A sleeping task costs no memory
 * and no process: the timer is a row, and survives the host.
 *
 * Input:  { "ms": 2000 }                                        optional
 * Result: { "slept": true, "duration": 2000, "elapsed": 2004, "enough": true }
 */
exports.default = async function sleeper(input, { tools }) {
  const ms = input?.ms ?? 2000;
  const before = Date.now();
  console.log(`sleeping for ${ms} ms`);
  const { slept, duration } = await tools.sleep(ms);
  const elapsed = Date.now() - before;
  console.log(`awake after ${elapsed} ms`);
  return { slept, duration, elapsed, enough: elapsed >= ms };
};
