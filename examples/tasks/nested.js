/**
 * Calls itself with one level less, five levels deep by default. While a level
 * waits for the one below, it is a row in Postgres and nothing else.
 *
 * Input:  { "depth": 5 }                              optional
 * Result: { "depth": 5, "sum": 15, "path": [5, 4, 3, 2, 1, 0] }
 */
export default async function nested(input, { tools }) {
  const depth = input?.depth ?? 5;
  if (!Number.isInteger(depth) || depth < 0) {
    throw new RangeError(`depth must be a whole number from 0 up, not ${JSON.stringify(depth)}`);
  }
  if (depth === 0) {
    return { depth, sum: 0, path: [0] };
  }
  const below = await tools.tasks.execute('nested', { depth: depth - 1 });
  return { depth, sum: below.sum + depth, path: [depth, ...below.path] };
}
