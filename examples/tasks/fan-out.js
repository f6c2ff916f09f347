/**
 * Runs many child tasks at once and waits for all of them: Promise.all is
 * ordinary JavaScript here, however the children are spread over hosts.
 *
 * Input:  { "count": 20 }                                      optional
 * Result: { "count": 20, "squares": [1, 4, 9, ...], "sum": 2870 }
 */
export async function runTask(input, tools) {
  const count = input?.count ?? 20;
  const values = Array.from({ length: count }, (_, i) => i + 1);
  const squares = await Promise.all(
    values.map((value) => tools.tasks.execute('square', { value })),
  );
  return { count, squares, sum: squares.reduce((a, b) => a + b, 0) };
}
