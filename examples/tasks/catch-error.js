/**
 * Calls a task that fails, catches the error and returns it as data: a child's
 * failure is an ordinary rejection, with the child's message and name.
 *
 * Input:  { "message": "out of coffee" }                        optional
 * Result: { "caught": true, "name": "CoffeeError", "message": "out of coffee", "cleanedUp": true }
 */
module.exports = async function catchError(input, { tools }) {
  const report = { caught: false };
  try {
    await tools.tasks.execute('throw-error', { message: input?.message ?? 'out of coffee' });
  } catch (error) {
    report.caught = error instanceof Error;
    report.name = error.name;
    report.message = error.message;
  } finally {
    report.cleanedUp = true;
  }
  return report;
};
